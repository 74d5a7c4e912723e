"""The one definition of what unirms accepts as a number, a flag and a list, with pydantic's types for them."""

from __future__ import annotations

import math
import numbers
import sys
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError


def to_number(value: Any) -> float:
    """Return a finite Python float from an int, a float or a NumPy scalar.

    Booleans and strings are refused on purpose: `momentum=True` and `"1e-8"` are slips that frameworks accept
    silently (measured: torch, Keras and Paddle take `momentum=True` as 1.0).

    Raises:
        PydanticCustomError: for anything else, NaN, infinities, and integers too large for a double.
    """
    if type(value) is float and math.isfinite(value):
        return value
    if is_flag(value) or not isinstance(value, numbers.Complex):  # NumPy registers its scalars with these classes
        raise PydanticCustomError("not_a_number", "not a number")
    if not isinstance(value, numbers.Real):
        raise PydanticCustomError("not_a_number", "not a real number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise PydanticCustomError("not_finite", "not finite")
    return number


def is_flag(value: Any) -> bool:
    """Return whether a value is a bool or a `numpy.bool_`, of which there is none before NumPy is loaded."""
    numpy = sys.modules.get("numpy")
    return isinstance(value, bool) or (numpy is not None and isinstance(value, numpy.bool_))


def to_flag(value: Any) -> bool:
    """Return a Python bool from a bool or `numpy.bool_`; 0, 1 and "no" are refused (torch takes "no" as true)."""
    if not is_flag(value):
        raise PydanticCustomError("not_a_flag", "not true or false")
    return bool(value)


def to_tuple(value: Any) -> Any:
    """Return a tuple from None, a list or a single item, so that `clip=one` and `clip=[one, two]` both read well."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


Number = Annotated[float, BeforeValidator(to_number)]
Flag = Annotated[bool, BeforeValidator(to_flag)]
AsTuple = BeforeValidator(to_tuple)
