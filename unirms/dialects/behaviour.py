"""What a class does beside its meaning: which values it takes or refuses, how it treats groups, its known defects.

`tests/frameworks/test_acceptance.py` holds the data of every installed class to what the class does today.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from unirms.config import RMSPropConfig

Kind = Literal[
    "zero",
    "negative",
    "above one",
    "NaN",
    "infinite",
    "int",
    "bool",
    "text",
    "None",
    "numpy.float32",
    "numpy.float64",
    "numpy.bool",
]
"""What can be odd about a value: where it lies, or which type it has."""

VALUE_KINDS: Final[tuple[Kind, ...]] = ("zero", "negative", "above one", "NaN", "infinite")
NUMBER_TYPES: Final[tuple[Kind, ...]] = ("int", "bool", "text", "None", "numpy.float32", "numpy.float64")
FLAG_TYPES: Final[tuple[Kind, ...]] = ("int", "text", "None", "numpy.bool")


@dataclass(frozen=True)
class Groups:
    """How a class reads the dictionaries of its parameter groups.

    Attributes:
        names: key of a group -> argument of the constructor; None when they are the constructor's own names.
        notes: key of a group that stands for no argument -> what becomes of it, in the words of `Argument.becomes`.
        unchecked: arguments whose values it checks in the constructor and not in a group.
        refused: key of a group -> the kinds that it refuses there and takes in the constructor.
        ignores_unknown: whether a key that it does not know is kept silently instead of refused.
        inherits_none: arguments for which None in a group means the optimizer's own value.
        factors: keys whose value is a factor of the optimizer's own rate, not a rate.
        norms_apart: whether a clip by global norm measures each group by itself.
    """

    names: Mapping[str, str] | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    unchecked: tuple[str, ...] = ()
    refused: Mapping[str, tuple[Kind, ...]] = field(default_factory=dict)
    ignores_unknown: bool = True
    inherits_none: tuple[str, ...] = ()
    factors: tuple[str, ...] = ()
    norms_apart: bool = False


@dataclass(frozen=True)
class Defect:
    """Something that a class gets wrong on one device or for one kind of input.

    Attributes:
        code: the code under which `unirms.diagnosis` documents it.
        axis: what goes wrong, as the axis of a difference.
        wanted: what should happen.
        actual: what happens.
        consequence: what comes of it, as the end of a sentence.
        remedy: what to do.
        applies: whether a config is concerned.
    """

    code: str
    axis: str
    wanted: str
    actual: str
    consequence: str
    remedy: str = 'use unirms.build(…, policy="exact")'
    applies: Callable[[RMSPropConfig], bool] = lambda config: True


@dataclass(frozen=True)
class Behaviour:
    """What a class does with what it is given, where that is not what one would think.

    Attributes:
        refused: argument -> the kinds of values that it refuses, in the constructor or at the first step. What is not
            listed it takes without a word.
        misread: (argument, kind) -> what the class does with such a value instead, as the end of a sentence.
        ignored: names that it takes and does nothing with -> what it does instead, and the fix.
        objects: arguments that take None or an object of the framework, and no number -> the class of such an object.
        exclusive: sets of arguments of which it refuses two at once.
        first_of: arguments of which it takes several at once and uses only the first.
        acts_with: argument -> the argument without which it does nothing.
        without: arguments of the dialect that this class does not take.
        more: names that it takes beside those of the dialect.
        defaults: argument -> the default of this class, where a variant has another than the dialect's class.
        announced: names that a later release will take; today's refuses them.
        groups: how it reads parameter groups; None when it has none.
        others: import paths that look like the class's and are something else.
        defects: what it gets wrong on some devices or for some inputs.
    """

    refused: Mapping[str, tuple[Kind, ...]] = field(default_factory=dict)
    misread: Mapping[tuple[str, Kind], str] = field(default_factory=dict)
    ignored: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    objects: Mapping[str, str] = field(default_factory=dict)
    exclusive: tuple[tuple[str, ...], ...] = ()
    first_of: tuple[str, ...] = ()
    acts_with: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    announced: tuple[str, ...] = ()
    groups: Groups | None = None
    others: tuple[str, ...] = ()
    defects: tuple[Defect, ...] = ()

    def refuses(self, argument: str, kind: Kind) -> bool:
        """Return whether the class refuses values of that kind for an argument."""
        return kind in self.refused.get(argument, ())


def refusing(*entries: tuple[str, tuple[Kind, ...]]) -> dict[str, tuple[Kind, ...]]:
    """Return `Behaviour.refused` from ("lr alpha eps", kinds) pairs; an argument may stand in several."""
    found: dict[str, tuple[Kind, ...]] = {}
    for names, kinds in entries:
        for name in names.split():
            found[name] = (*found.get(name, ()), *kinds)
    return found
