"""The variables of Keras's RMSProp in a file: which of the numbers is what.

Keras writes them in the order in which it makes them: the count of gradients, the learning rate unless that is a
schedule, and then for each kind of slot one variable for each parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from unirms.checkpoints.checkpoint import Outgoing
from unirms.config import RMSPropConfig
from unirms.errors import CheckpointError
from unirms.grouping import members
from unirms.schedules import AnySchedule, BaseSchedule, Plateau
from unirms.state import GRADIENT_SUM

from .hdf5 import Dataset

ORDER: Final = ("average", GRADIENT_SUM, "mean_square", "momentum", "mean_gradient")
"""The kinds of slots in Keras's order."""
GIVE_CONFIG: Final = "say it with a config"


@dataclass(frozen=True)
class Structure:
    """Which variables an optimizer keeps.

    Attributes:
        has_rate: whether its learning rate is a variable, and no schedule.
        uses: by kind, whether each parameter has a variable; parameters with settings of their own may differ.
        accumulation: how many gradients an update has.
        config: what it computes, where that is known.
        names: its parameters in order, where they are known.
    """

    has_rate: bool
    uses: Mapping[str, bool]
    accumulation: int = 1
    config: RMSPropConfig | None = None
    names: tuple[str, ...] | None = None

    @classmethod
    def of(cls, config: RMSPropConfig, names: Sequence[str] | None = None) -> Structure:
        """Return what an optimizer of this config keeps."""
        schedule = isinstance(config.learning_rate, BaseSchedule) and not config.has_constant_rate
        steps = config.gradient_accumulation_steps
        uses = {
            "average": config.ema_decay > 0,
            GRADIENT_SUM: steps > 1,
            "mean_square": True,
            "momentum": config.momentum > 0,
            "mean_gradient": config.centered,
        }
        return cls(not schedule, uses, steps, config, None if names is None else tuple(names))

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any]) -> Structure:
        """Return what a stock optimizer of these settings keeps, as Keras decides it."""
        momentum, steps = settings.get("momentum"), settings.get("gradient_accumulation_steps")
        uses = {
            "average": bool(settings.get("use_ema")),
            GRADIENT_SUM: bool(steps),
            "mean_square": True,
            "momentum": isinstance(momentum, (int, float)) and momentum > 0,
            "mean_gradient": bool(settings.get("centered")),
        }
        count = steps if isinstance(steps, int) and steps > 0 else 1
        return cls(not isinstance(settings.get("learning_rate"), Mapping), uses, count)

    def kept(self, kind: str) -> list[int] | None:
        """Return the indices of the parameters that have a variable of a kind; None where names would have to tell."""
        if self.names is None:
            differ = self.config is not None and any(
                group.momentum is not None or group.centered is not None for group in self.config.groups
            )
            return None if differ and kind in {"momentum", "mean_gradient"} else []
        if self.config is None or kind not in {"momentum", "mean_gradient"}:
            return list(range(len(self.names))) if self.uses[kind] else []
        own = [member.config for member in members(self.config, list(self.names))]
        has = [one.momentum > 0 if kind == "momentum" else one.centered for one in own]
        return [index for index, needs in enumerate(has) if needs]


@dataclass(frozen=True)
class Slots:
    """The variables of an optimizer by what they are.

    Attributes:
        iterations: the count of gradients.
        rate: the learning rate, where it is a variable.
        shapes: those of the parameters, in order.
        kinds: by kind, and by the index of the parameter.
        notes: what was concluded.
    """

    iterations: Dataset
    rate: Dataset | None
    shapes: tuple[tuple[int, ...], ...]
    kinds: Mapping[str, Mapping[int, Dataset]]
    notes: tuple[str, ...] = ()


def told_apart(variables: Sequence[Dataset], structure: Structure, where: str) -> Slots:
    """Return the variables of an optimizer by what they are.

    Raises:
        CheckpointError: they are not those of such an optimizer.
    """
    rate, rest = _head(variables, structure.has_rate, where)
    indices = {kind: structure.kept(kind) for kind in ORDER}
    if structure.names is None and None in indices.values():
        raise CheckpointError(f"{where} has parameter groups, and no names that would tell their slots")
    if structure.names is None:
        used = [kind for kind in ORDER if structure.uses[kind]]
        count, left = divmod(len(rest), len(used))
        indices = {kind: list(range(count)) if kind in used else [] for kind in ORDER}
    else:
        count, left = len(structure.names), len(rest) - sum(len(found or ()) for found in indices.values())
    if left or not count:
        raise CheckpointError(
            f"{where} has {len(rest)} slots, which are not those of such an optimizer: "
            f"{', '.join(kind for kind in ORDER if indices[kind])}"
        )
    kinds: dict[str, dict[int, Dataset]] = {}
    for kind in ORDER:
        found = indices[kind] or []
        kinds[kind], rest = dict(zip(found, rest, strict=False)), rest[len(found) :]
    return _checked(Slots(variables[0], rate, (), kinds), where)


def guessed(variables: Sequence[Dataset], count: int, where: str) -> Slots:
    """Return the same without knowing the optimizer, of which `count` parameters are known.

    Raises:
        CheckpointError: they are not the slots of so many parameters, or of more kinds than can be told.
    """
    has_rate = len(variables) > 1 and variables[1].is_tensor and (len(variables) - 2) % count == 0
    _, rest = _head(variables, has_rate, where)
    known = {1: ["mean_square"], 2: ["mean_square", "momentum"], 3: ["mean_square", "momentum", "mean_gradient"]}
    of_each, left = divmod(len(rest), count)
    if left or of_each not in known:
        raise CheckpointError(f"{where} does not say what its {len(rest)} slots are; {GIVE_CONFIG}")
    slots = told_apart(variables, Structure(has_rate, {kind: kind in known[of_each] for kind in ORDER}), where)
    if of_each == 1:
        return slots
    doubt = f"the file does not say what its optimizer computes; its {of_each - 1} slots beside the mean square were "
    return Slots(
        slots.iterations,
        slots.rate,
        slots.shapes,
        slots.kinds,
        (f"{doubt}taken for {' and '.join(known[of_each][1:])}; {GIVE_CONFIG}",),
    )


def rate_of(content: Outgoing, config: RMSPropConfig) -> float:
    """Return the rate that an optimizer holds as a number when it goes on."""
    if content.plateau is not None and isinstance(config.learning_rate, Plateau):
        return content.plateau.rate
    if isinstance(config.learning_rate, AnySchedule) and content.learning_rate is not None:
        return content.learning_rate
    return config.initial_learning_rate


def _head(variables: Sequence[Dataset], has_rate: bool, where: str) -> tuple[Dataset | None, list[Dataset]]:
    """Return the learning rate and the slots, after a look at what stands before them."""
    if not variables or variables[0].dtype not in {"int32", "int64"} or variables[0].shape:
        raise CheckpointError(f"{where} has no count of updates as its first variable, as an optimizer of Keras has")
    rest = list(variables[1:])
    if not has_rate:
        return None, rest
    if not rest or rest[0].shape or not rest[0].is_tensor:
        raise CheckpointError(f"{where} has no learning rate as its second variable, where its optimizer keeps one")
    return rest[0], rest[1:]


def _checked(slots: Slots, where: str) -> Slots:
    """Return the slots with the parameters' shapes, if all of a parameter have the same."""
    shapes = tuple(one.shape for one in slots.kinds["mean_square"].values())
    for kind, found in slots.kinds.items():
        for index, one in found.items():
            if not one.is_tensor or one.shape != shapes[index]:
                raise CheckpointError(
                    f"{where}: {kind} of parameter {index} is {one.dtype or 'no numbers'} of {one.shape}, and its mean "
                    f"square has {shapes[index]}"
                )
    return Slots(slots.iterations, slots.rate, shapes, slots.kinds, slots.notes)
