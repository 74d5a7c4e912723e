"""Keras 2's first optimizers in `tf.train.Checkpoint`: `tf.keras.optimizers.RMSprop` up to TensorFlow 2.10.

Later ones call it `tf.keras.optimizers.legacy.RMSprop`. The object graph has its numbers as parts (all but epsilon) and
its slots by the variables that they belong to. Source: `keras/optimizers/legacy/rmsprop.py` and `optimizer_v2.py` of
Keras 2.15. Recorded files are in `tests/recorded`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from unirms.checkpoints.naming import plain
from unirms.config import RMSPropConfig
from unirms.errors import CheckpointError
from unirms.recipes.keras import shortest

from .bundle import Entry
from .object_graph import Graph, Node

DIALECT: Final = "keras-legacy"
_COUNT, _RATE, _DECAY, _RHO, _MOMENTUM = "iter", "learning_rate", "decay", "rho", "momentum"
_KINDS: Final[Mapping[str, str]] = {"rms": "mean_square", "momentum": "momentum", "mg": "mean_gradient"}
"""Name of a slot -> its kind."""


def optimizer(graph: Graph, path: Path) -> Node | None:
    """Return the RMSProp in an object graph; None where there is none.

    Raises:
        CheckpointError: there are several.
    """
    found = graph.having(_COUNT, _RHO, _MOMENTUM)  # Adadelta has no momentum, and SGD no rho
    if len(found) > 1:
        raise CheckpointError(f"{path} has {len(found)} optimizers; save a checkpoint with the one that goes on")
    return found[0] if found else None


def variables(graph: Graph, node: Node) -> set[str]:
    """Return the keys of the tensors of an optimizer."""
    return {part.key for part in graph.parts(node)} | {graph.nodes[slot].key for _, _, slot in node.slots}


@dataclass(frozen=True)
class Legacy:
    """Such an optimizer.

    Attributes:
        path: what the file is called in a message.
        entries: the tensors of the file by key.
        graph: its objects.
        node: the optimizer.
    """

    path: Path
    entries: Mapping[str, Entry]
    graph: Graph
    node: Node

    def slots(self, names: Mapping[str, str]) -> dict[str, dict[str, Entry]]:
        """Return the slots by kind and by the name of the parameter.

        Args:
            names: the name of each parameter, by its key.

        Raises:
            CheckpointError: a slot is none of an RMSProp, or of no parameter in the file, or of another shape.
        """
        slots: dict[str, dict[str, Entry]] = {kind: {} for kind in _KINDS.values()}
        for slot, owner, own in self.node.slots:
            key = self.graph.nodes[owner].key
            entry = self.entries.get(self.graph.nodes[own].key)
            fits = entry is not None and key in names and entry.is_tensor and entry.shape == self.entries[key].shape
            if slot not in _KINDS or entry is None or not fits:
                raise CheckpointError(f"{self.path} is damaged: {plain(slot)!r} is no slot of a parameter in it")
            slots[_KINDS[slot]][names[key]] = entry
        if any(held and held.keys() != slots["mean_square"].keys() for held in slots.values()):
            raise CheckpointError(f"{self.path} is damaged: some parameters have slots that others have not")
        return slots

    def step(self) -> int:
        """Return the number of updates.

        Raises:
            CheckpointError: the file has none.
        """
        key = self.graph.child(self.node, _COUNT).key
        count = self.entries[key].integer() if key in self.entries else -1
        if count < 0:
            raise CheckpointError(f"{self.path} is damaged: it has no count of updates")
        return count

    def rate(self, step: int) -> float | None:
        """Return the rate of the next update; None where a schedule has it, which is not in the file."""
        rate, decay = self._number(_RATE), self._number(_DECAY) or 0.0
        return None if rate is None else rate / (1 + decay * step)

    def compare(self, config: RMSPropConfig, slots: Mapping[str, Mapping[str, Entry]]) -> None:
        """Raise an error where a config does not say what the file says.

        Raises:
            CheckpointError: rho, the momentum, or whether the optimizer is centered differ; or the config has the rate
                outside of the momentum, which this class has inside.
        """
        for name in slots["mean_square"]:
            own = config.for_parameter(name)
            for field, told in (("rho", self._number(_RHO)), ("momentum", self._number(_MOMENTUM))):
                stated = getattr(own, field)
                if told is not None and np.float32(stated) != np.float32(told):
                    raise CheckpointError(f"{self.path} has the {field} {told}, and the config {stated}")
            if own.centered != bool(slots["mean_gradient"]):
                raise CheckpointError(f"{self.path} and the config do not say the same of centered")
            if own.momentum and not own.lr_in_momentum:
                raise CheckpointError(
                    f"{self.path} has the learning rate inside of its momentum, and the config has it outside; "
                    f"take the config from the dialect {DIALECT}"
                )

    def note(self) -> str:
        """Return what the file says of the config, and what it does not."""
        numbers = {name: self._number(name) for name in (_RHO, _MOMENTUM, _DECAY)}
        said = ", ".join(f"{name} {number:g}" for name, number in numbers.items() if number is not None)
        return f"the optimizer is of the dialect {DIALECT}; the file says {said}, and not its epsilon"

    def _number(self, name: str) -> float | None:
        """Return a number of the optimizer; None where it is no variable.

        Raises:
            CheckpointError: it is not finite, or negative, or no scalar.
        """
        key = self.graph.child(self.node, name).key
        if key not in self.entries:
            return None
        entry = self.entries[key]
        number = float(entry.stored().array()) if entry.is_tensor and not entry.shape else -1.0
        if not (np.isfinite(number) and number >= 0):
            raise CheckpointError(f"{self.path} is damaged: its {name} is no number that an optimizer has")
        return float(shortest(number))
