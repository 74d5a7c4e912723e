"""The state dictionary of an optimizer in a checkpoint of PyTorch: names, groups, slots, counts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from unirms import dialects
from unirms.checkpoints.naming import plain, problem
from unirms.checkpoints.tensors import SIZES, Stored
from unirms.config import RMSPropConfig
from unirms.errors import CheckpointError, as_given, some
from unirms.state import GRADIENT_SUM, MOST_STEPS

from ...torch import CONFIG, accumulators
from ...torch.accumulators import COUNT, MICRO_STEP, SLOTS, SUM
from ..spool import Spool
from .files import Tensor

MEAN, BATCHES = "running_mean", "num_batches_tracked"
"""Of a batch normalization: where it is told by, and where it counts its batches."""
# What it keeps beside its parameters.
_BUFFERS: Final = (MEAN, "running_var", BATCHES)
# The classes whose files are told by the keys of their groups; the first has keys that the second has not.
_DIALECTS: Final = ("timm", "torch")


class Source(Protocol):
    """A file that has been opened."""

    @property
    def place(self) -> str:
        """What it is called in messages."""
        ...

    def tensor(self, node: Any) -> Tensor | None:
        """Return the tensor that a part of its data is."""
        ...


@dataclass(frozen=True)
class Optimizer:
    """The state dictionary of an optimizer.

    Attributes:
        source: the file.
        groups: its param_groups.
        dialect: the class that they are of.
        names: of the parameters, in the order of the groups.
        ids: what the file calls them.
        group_of: the index of the group of each.
        entries: what it keeps for each; empty for those that were never updated.
        said: the config that the exact class was built from; None for a stock one.
    """

    source: Source
    groups: list[dict[Any, Any]]
    dialect: str
    names: tuple[str, ...]
    ids: tuple[Any, ...]
    group_of: tuple[int, ...]
    entries: tuple[dict[Any, Any], ...]
    said: RMSPropConfig | None = None

    @staticmethod
    def of(source: Source, data: dict[Any, Any], weights: Mapping[str, Tensor], notes: list[str]) -> Optimizer:
        """Return the state dictionary, checked, with the names that it has or that the weights tell."""
        groups = data["param_groups"]
        dialect = next((name for name in _DIALECTS if all(_required(name) <= group.keys() for group in groups)), None)
        if dialect is None or not groups:
            keys = ", ".join(
                plain(str(key), 40) for group in groups[:1] for key in list(group)[:20] if isinstance(key, str)
            )
            raise CheckpointError(
                f"{source.place} has the state of an optimizer that is no RMSProp: its groups have {keys or 'nothing'}"
            )
        ids = tuple(one for group in groups for one in group["params"])
        if not all(isinstance(one, (int, str)) for one in ids) or len({str(one) for one in ids}) < len(ids):
            raise CheckpointError(f"{source.place} is damaged: its groups do not list parameters")
        states = {str(key): entry for key, entry in data.get("state", {}).items() if isinstance(key, (int, str))}
        entries = tuple(states.get(str(one), {}) for one in ids)
        if not all(isinstance(entry, dict) for entry in entries):
            raise CheckpointError(f"{source.place} is damaged: what it keeps for a parameter is no dictionary")
        names = _names(source, groups, ids, [_shape(source, entry) for entry in entries], weights, notes)
        group_of = tuple(index for index, group in enumerate(groups) for _ in group["params"])
        said = _said(source, data)
        return Optimizer(source, groups, dialect, names, ids, group_of, entries, said)

    @property
    def is_of_lost_config(self) -> bool:
        """Whether it is the exact class's, by what it keeps, and its config is not in the file."""
        own = (SLOTS["average"], SUM)
        return self.said is None and any(key in entry for entry in self.entries for key in own)

    def step(self) -> int | None:
        """Return how many updates were completed: the most of any parameter; None where nothing says so."""
        if not any(self.entries):
            return 0
        steps = [number(self.source, entry["step"]) for entry in self.entries if "step" in entry]
        wrong = [step for step in steps if not 0 <= step <= MOST_STEPS or step != int(step)]
        if wrong:
            raise CheckpointError(f"{self.source.place} is damaged: its count of updates is {as_given(wrong[0])}")
        return int(max(steps)) if steps else None

    def micro_step(self) -> int:
        """Return how many gradients are gathered since the last update."""
        counts = [entry[MICRO_STEP] for entry in self.entries if MICRO_STEP in entry]
        if not all(isinstance(count, int) and 0 <= count <= MOST_STEPS for count in counts):
            raise CheckpointError(f"{self.source.place} is damaged: it counts gathered gradients by no number")
        return max([0, *map(int, counts)])

    def hyperparameters(self, index: int) -> dict[str, Any]:
        """Return what a group says, by the class's own keywords; numbers in tensors as numbers."""
        known = {argument.name for argument in dialects.get(self.dialect).arguments} - {"params"}
        found = {key: value for key, value in self.groups[index].items() if key in known}
        return {key: value if _plain(value) else number(self.source, value) for key, value in found.items()}

    def tensors(
        self, config: RMSPropConfig | None, weights: Mapping[str, Tensor], spool: Spool, notes: list[str]
    ) -> dict[str, dict[str, Stored]]:
        """Return where the slots lie, and what is gathered, by kind and name; made up where an update never came."""
        found: dict[str, dict[str, Stored]] = {"mean_square": {}}
        unused: set[str] = set()
        for name, entry, index in zip(self.names, self.entries, self.group_of, strict=True):
            kept = self._kept(index)
            for slot, key in SLOTS.items():
                if key in entry and key not in kept:
                    unused.add(slot)
                elif key in entry:
                    found.setdefault(slot, {})[name] = self._slot(entry[key], slot, name).stored(spool)
            if entry.get(COUNT, 0):
                found.setdefault(GRADIENT_SUM, {})[name] = self._slot(entry.get(SUM), GRADIENT_SUM, name).stored(spool)
        notes += [f"its {slot} is left out, since its groups do not use it" for slot in sorted(unused)]
        self._begin(config, weights, found, spool, notes)
        return {
            kind: {name: of[name] for name in self.names if name in of}
            for kind, of in found.items()
            if of or kind == "mean_square"
        }

    def _kept(self, index: int) -> tuple[str, ...]:
        """Return the keys of the slots that the parameters of a group use."""
        if self.is_of_lost_config:
            return (*SLOTS.values(), SUM)
        live = self.hyperparameters(index)
        group = {"momentum": _positive(live["momentum"]), "centered": bool(live["centered"])}
        return accumulators.keys_of(group, self.said or RMSPropConfig())

    def _slot(self, node: Any, slot: str, name: str) -> Tensor:
        tensor = self.source.tensor(node)
        if tensor is None or tensor.dtype not in SIZES:
            what = "no tensor" if tensor is None else f"of dtype {tensor.dtype}"
            raise CheckpointError(f"{self.source.place}: the {slot} of {plain(name)!r} is {what}")
        return tensor

    def _begin(
        self,
        config: RMSPropConfig | None,
        weights: Mapping[str, Tensor],
        found: dict[str, dict[str, Stored]],
        spool: Spool,
        notes: list[str],
    ) -> None:
        """Add what parameters start from that have not been updated, where weights say their shapes."""
        fresh = [i for i, entry in enumerate(self.entries) if "square_avg" not in entry]
        unknown = [self.names[i] for i in fresh if self.names[i] not in weights]
        if unknown:
            notes.append(f"{some(unknown)}: never updated, and no weights tell the shape: left out")
        known = [i for i in fresh if self.names[i] in weights]
        if known:
            notes.append(f"{some([self.names[i] for i in known])}: never updated: the state is that of the start")
        start = 0.0 if config is None else config.initial_mean_square
        for i in known:
            name, kept = self.names[i], self._kept(self.group_of[i])
            like = weights[name]
            for slot, key in SLOTS.items():
                if key in kept and slot == "average":
                    found.setdefault(slot, {})[name] = like.stored(spool)
                elif key in kept:
                    value = start if slot == "mean_square" else 0.0
                    found.setdefault(slot, {})[name] = spool.constant(like.dtype, like.shape, value)


def number(source: Source, node: Any) -> float:
    """Return a number, or the only element of a tensor.

    Raises:
        CheckpointError: it is neither.
    """
    if isinstance(node, (int, float)):
        return node
    tensor = source.tensor(node)
    if tensor is None or math.prod(tensor.shape) != 1:
        raise CheckpointError(f"{source.place} is damaged: it has something else where a number should be")
    return tensor.element()


def _required(dialect: str) -> set[str]:
    """Return the keys that the groups of a class have always had; PyTorch's `maximize` is from 1.12."""
    arguments = dialects.get(dialect).arguments
    return {one.name for one in arguments if one.write is not None} - {"maximize"}


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _positive(value: Any) -> int:
    return int(isinstance(value, (int, float)) and value > 0)


def _shape(source: Source, entry: dict[Any, Any]) -> tuple[int, ...] | None:
    tensor = source.tensor(entry.get("square_avg"))
    return None if tensor is None else tensor.shape


def _said(source: Source, data: dict[Any, Any]) -> RMSPropConfig | None:
    """Return the config that an exact optimizer has put into its state dictionary."""
    if CONFIG not in data:
        return None
    try:
        return RMSPropConfig(**json.loads(data[CONFIG]))
    except (TypeError, ValueError, RecursionError):  # ConfigError is a ValueError
        raise CheckpointError(f"{source.place} is damaged: {CONFIG!r} in it is no config") from None


def check_name(source: Source, name: Any) -> None:
    """Raise a `CheckpointError` where something cannot be the name of a parameter."""
    if not isinstance(name, str):
        raise CheckpointError(f"{source.place} is damaged: a name in it is no text")
    if wrong := problem(name):
        raise CheckpointError(f"{source.place}: {wrong}")


def _names(
    source: Source,
    groups: Sequence[dict[Any, Any]],
    ids: Sequence[Any],
    shapes: Sequence[tuple[int, ...] | None],
    weights: Mapping[str, Tensor],
    notes: list[str],
) -> tuple[str, ...]:
    """Return the names of the parameters: the file's own, those that the weights tell, or numbers."""
    given = [name for group in groups for name in _stated_names(group)]
    if not all(isinstance(one, int) or one.isdecimal() for one in ids):  # of `get_optimizer_state_dict`
        given = [str(one) for one in ids]
    if len(given) != len(ids):
        given = _concluded(groups, shapes, weights, notes)
    for name in given:
        check_name(source, name)
    if len(set(given)) < len(given):
        raise CheckpointError(f"{source.place} is damaged: two parameters have the same name")
    return tuple(given)


def _stated_names(group: Mapping[Any, Any]) -> list[Any]:
    names = group.get("param_names")
    return names if isinstance(names, list) and len(names) == len(group["params"]) else []


def _concluded(
    groups: Sequence[dict[Any, Any]],
    shapes: Sequence[tuple[int, ...] | None],
    weights: Mapping[str, Tensor],
    notes: list[str],
) -> list[str]:
    """Return the names of the weights whose shapes the parameters have, in their order; numbers where it is open."""
    numbers = [str(index) for index in range(len(shapes))]
    trained = {name: one.shape for name, one in weights.items() if not name.endswith(_BUFFERS)}
    if len(groups) > 1:
        notes.append("its parameters have numbers for names: there are several groups, whose order is not the model's")
        return numbers
    alike = [own is None or own == has for own, has in zip(shapes, trained.values(), strict=False)]
    if len(trained) != len(shapes) or not all(alike):
        told = (
            "no weights are beside them"
            if not weights
            else "the weights beside them are not the same in number and shapes"
        )
        notes.append(f"its parameters have numbers for names: it has no names, and {told}")
        return numbers
    notes.append(
        "the names of its parameters are those of the weights, by order and shapes: that the optimizer has them in the "
        "order of the model, the file does not say"
    )
    return list(trained)
