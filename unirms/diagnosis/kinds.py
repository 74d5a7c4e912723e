"""What is odd about a value: the kinds of `unirms.dialects.behaviour`, found in any Python object."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, Final

from unirms.config import RMSPropConfig
from unirms.dialects.base import REQUIRED, Argument
from unirms.dialects.behaviour import Kind
from unirms.dialects.calls import NativeCall
from unirms.errors import as_given


class _Unknown:
    def __repr__(self) -> str:
        return "…"


UNKNOWN: Final = _Unknown()
"""Stands for a value that a source computes: it is there, and is not judged."""
ANY: Final = "**"
"""The name of settings that a source passes on without naming them, as in `RMSprop(**settings)`."""

_TYPES: Final[dict[str, Kind]] = {"float32": "numpy.float32", "float64": "numpy.float64", "bool": "numpy.bool"}


def type_of(value: Any) -> Kind | None:
    """Return the kind of a value's type; None for a plain float, and for what is no number, text, bool or None."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "text"
    if value is None:
        return "None"
    if isinstance(value, int):
        return "int"
    if type(value).__module__ == "numpy":
        return _TYPES.get(type(value).__name__.rstrip("_"))
    return None


def places_of(value: Any) -> tuple[Kind, ...]:
    """Return where a number lies: "zero", "negative", "above one", "NaN", "infinite"; empty for anything else."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return ()
    given: Any = value
    try:
        number = float(given)
    except OverflowError:
        number = math.inf if given > 0 else -math.inf
    if math.isnan(number):
        return ("NaN",)
    found: list[Kind] = []
    if number == 0:
        found.append("zero")
    if number < 0:
        found.append("negative")
    if math.isinf(number):
        found.append("infinite")
    elif number > 1:
        found.append("above one")
    return tuple(found)


def is_flag(argument: Argument) -> bool:
    """Return whether an argument is true or false."""
    return isinstance(argument.default, bool)


def is_number(argument: Argument) -> bool:
    """Return whether an argument is a number that concerns the update (or None, or a framework's object for one).

    A count is none: which counts a class takes is for the config to say.
    """
    counts = all(RMSPropConfig.model_fields[name].annotation is int for name in argument.fields)
    return not is_flag(argument) and not counts


def is_required(argument: Argument) -> bool:
    """Return whether a class has no default for an argument that concerns the update."""
    return argument.default is REQUIRED and bool(argument.fields)


def shown(value: Any) -> str:
    """Return a value as a diagnosis, which is one line of many, shows it."""
    return as_given(value, longest=60)


def number_in(call: NativeCall) -> Any:
    """Return the number that a framework's object was made with, or UNKNOWN."""
    given = [*call.args, *call.kwargs.values()]
    return given[0] if given else UNKNOWN
