"""`OptimizerState`: what an RMSProp remembers between two steps, by parameter name."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from unirms.errors import StateError, as_given, did_you_mean, some

if TYPE_CHECKING:
    from pathlib import Path

    from unirms.config import RMSPropConfig
    from unirms.schedules.plateau import PlateauState

Array = np.ndarray[Any, Any]

SLOTS: Final = ("mean_square", "mean_gradient", "momentum", "average")
"""What an update leaves behind for each parameter, in the order of files and tables."""
GRADIENT_SUM: Final = "gradient_sum"
WEIGHTS: Final = "weights"
MOST_STEPS: Final = 2**53
"""Updates that a state may count: a double holds every whole number up to here."""
NO_CONFIG: Final = (
    "the state has no config, so that nobody knows its units; unirms.config_of(optimizer) says why, and "
    "dataclasses.replace(state, config=…) gives it one"
)


@dataclass(frozen=True)
class SparseGradient:
    """A gradient that is zero but for some rows, as that of an embedding table.

    Attributes:
        indices: the rows, shape (n,), integers >= 0; a row may occur several times, and its values add up.
        values: what stands there, shape (n, …): as the parameter, but for the first axis.
    """

    indices: Array
    values: Array


@dataclass(frozen=True)
class OptimizerState:
    """The accumulators of an RMSProp, by parameter name, and what it takes to go on from them.

    `unirms.state_of` takes one off a live optimizer, `unirms.restore` puts it into another, of any framework. The
    units are those of `config`: nothing in here has been converted.

    Attributes:
        step: completed updates.
        mean_square: the running mean of the squared gradient, in the shape and dtype of each parameter.
        mean_gradient: the running mean of the gradient; empty unless centered.
        momentum: the momentum buffer; empty without momentum. It holds the learning rate if the config says
            `lr_in_momentum`, and none otherwise.
        average: the running mean of the weights; empty without `ema_decay`.
        gradient_sum: with gradient accumulation, the sum of the gradients since the last update; empty at an update.
        micro_step: how many gradients that sum has.
        plateau: where a plateau has come to; None where the learning rate is no plateau.
        learning_rate: the rate of the next update, of parameters without a group; None where nobody has said it.
        config: what the optimizer computes; None in the states of `unirms.reference`, which get theirs at each step.
        weights: the parameters themselves, and what else a model holds; empty unless asked for.
    """

    step: int
    mean_square: Mapping[str, Array]
    mean_gradient: Mapping[str, Array] = field(default_factory=dict)
    momentum: Mapping[str, Array] = field(default_factory=dict)
    average: Mapping[str, Array] = field(default_factory=dict)
    gradient_sum: Mapping[str, Array] = field(default_factory=dict)
    micro_step: int = 0
    plateau: PlateauState | None = None
    learning_rate: float | None = None
    config: RMSPropConfig | None = None
    weights: Mapping[str, Array] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        step: int,
        slots: Mapping[str, Mapping[str, Array]],
        gradient_sum: Mapping[str, Array] | None = None,
        micro_step: int = 0,
        plateau: PlateauState | None = None,
    ) -> OptimizerState:
        """Return the state with these accumulators, by the name of the slot, and what is gathered since."""
        return cls(
            step,
            slots["mean_square"],
            slots.get("mean_gradient", {}),
            slots.get("momentum", {}),
            slots.get("average", {}),
            gradient_sum or {},
            micro_step,
            plateau,
        )

    def slots(self) -> dict[str, Mapping[str, Array]]:
        """Return the accumulators that an update leaves behind, by the name of the slot."""
        return {slot: getattr(self, slot) for slot in SLOTS}

    def tensors(self) -> dict[str, Mapping[str, Array]]:
        """Return all arrays: the slots, what is gathered, and the weights, each by parameter name."""
        return {**self.slots(), GRADIENT_SUM: self.gradient_sum, WEIGHTS: self.weights}

    def problems(self) -> list[str]:
        """Return what is wrong with it, but for the values of its arrays: a sentence each."""
        counts = {"step": self.step, "micro_step": self.micro_step}
        problems = [
            f"the state's {name} is {as_given(count)}; it is a whole number from 0 to {MOST_STEPS}"
            for name, count in counts.items()
            if not _is_count(count)
        ]
        rate = self.learning_rate
        if rate is not None and not (_is_number(rate) and 0 <= rate < float("inf")):
            problems.append(f"the state's learning rate is {as_given(rate)}; it is a finite number from 0 up")
        for kind, held in self.tensors().items():
            problems += [
                f"{kind} of {name!r} is a {type(array).__name__}; states have NumPy arrays"
                for name, array in held.items()
                if not isinstance(array, (np.ndarray, np.generic))
            ]
            strays = [] if kind == WEIGHTS else [name for name in held if name not in self.mean_square]
            problems += [f"the state has a {kind} of {name!r}, and no mean_square" for name in strays]
        return problems

    def renamed(self, names: Mapping[str, str]) -> OptimizerState:
        """Return the state with other names of parameters; the weights, which have the model's, keep theirs."""
        changes: dict[str, Any] = {
            kind: {names.get(name, name): array for name, array in held.items()}
            for kind, held in self.tensors().items()
            if kind != WEIGHTS
        }
        return replace(self, **changes)

    def without(self, *kinds: str, parameters: Iterable[str] = ()) -> OptimizerState:
        """Return the state without slots that the optimizer to come does not keep, or without its weights.

        Args:
            kinds: slots, or "weights".
            parameters: names of parameters of which all slots are left out, and groups of the config that have no
                others; their weights stay.

        Raises:
            StateError: there is no such slot, or it is the mean square, which every RMSProp keeps; or no such
                parameter.
            UnsupportedError: a group of the config matches no parameter of the state.
        """
        allowed = [kind for kind in (*SLOTS, GRADIENT_SUM, WEIGHTS) if kind != "mean_square"]
        for kind in kinds:
            if kind not in allowed:
                raise StateError([f"without({kind!r}): no such slot can be left out; {did_you_mean(kind, allowed)}"])
        out = set(parameters)
        unknown = sorted(out - self.mean_square.keys())
        if unknown:
            raise StateError([f"without(parameters=…): the state has no {some(unknown)}"])
        changes: dict[str, Any] = remaining(self.tensors(), kinds, out)
        if out and self.config is not None:
            from unirms.grouping import narrowed

            left = [name for name in self.mean_square if name not in out]
            changes["config"] = narrowed(self.config, list(self.mean_square), left)
        if GRADIENT_SUM in kinds:
            changes["micro_step"] = 0
        return replace(self, **changes)

    def save(self, path: str | Path, *, shard_bytes: int | None = None) -> None:
        """Write the state to a safetensors file, or to several with an index; see `unirms.checkpoints.states.save`.

        Raises:
            StateError: it has no config, or a tensor has a NaN or an infinity.
            CheckpointError: the file cannot be written.
        """
        from unirms.checkpoints.states import save

        save(self, path, shard_bytes=shard_bytes)

    @staticmethod
    def load(path: str | Path) -> OptimizerState:
        """Return the state in a file that `save` has written; its arrays are mapped, and read when they are used.

        Raises:
            CheckpointError: the file cannot be read, is damaged, or is no state of unirms.
        """
        from unirms.checkpoints.states import load

        return load(path)


def remaining(
    tensors: Mapping[str, Mapping[str, Any]], kinds: Container[str], parameters: Container[str]
) -> dict[str, dict[str, Any]]:
    """Return tensors, by kind and by name, without these kinds, and of these parameters nothing but the weights."""
    return {
        kind: {} if kind in kinds else {n: one for n, one in held.items() if kind == WEIGHTS or n not in parameters}
        for kind, held in tensors.items()
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and 0 <= int(value) <= MOST_STEPS
