"""What every learning-rate schedule has: the rate at any update, the same shape at another scale, whether it moves.

`t` is the number of completed updates: 0 at the first update. All rates are float64. NumPy is loaded where a rate is
computed, see `unirms.clipping`.
"""

from __future__ import annotations

import numbers
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from unirms.errors import ConfigError
from unirms.scalars import AsTuple, Number, is_flag, to_number
from unirms.stated import Stated

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Self

    from unirms.schedules.arrays import Functions

    Floats = np.ndarray[Any, np.dtype[np.float64]]

LARGEST_COUNT = 2**53  # above it float64 no longer holds every integer
LARGEST = sys.float_info.max


def to_integer(value: Any) -> int:
    """Return a Python int from an int, a NumPy integer or a whole float: YAML reads `1.0e+4` as a float.

    Raises:
        PydanticCustomError: for anything else; booleans and strings are refused as in `unirms.scalars.to_number`.
    """
    if isinstance(value, numbers.Integral) and not is_flag(value):
        return int(value)
    number = to_number(value)
    if number != int(number):
        raise PydanticCustomError("not_an_integer", "not a whole number")
    return int(number)


def to_factor(factor: Any) -> float:
    """Return the number by which rates are multiplied.

    Raises:
        ConfigError: `factor` is not a finite number >= 0.
    """
    try:
        number = to_number(factor)
    except PydanticCustomError:
        number = -1.0
    if number < 0:
        raise ConfigError([f"factor={factor!r} is not allowed; factor must be a finite number >= 0"])
    return number


Integer = Annotated[int, BeforeValidator(to_integer)]
Updates = Annotated[Integer, Field(ge=0, le=LARGEST_COUNT)]
Count = Annotated[Integer, Field(ge=1, le=LARGEST_COUNT)]
Length = Annotated[Number, Field(ge=1)]
Rate = Annotated[Number, Field(ge=0)]
Factor = Annotated[Number, Field(ge=0)]
Rates = Annotated[tuple[Rate, ...], AsTuple]
Boundaries = Annotated[tuple[Updates, ...], AsTuple]


class BaseSchedule(Stated):
    """A learning rate as a pure function of `t`, the number of completed updates (0 at the first update).

    A subclass names its rates in `RATES` (numbers, tuples of them, or schedules) and defines `_at`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    RATES: ClassVar[tuple[str, ...]]

    def _at(self, t: Any, xp: Functions) -> Any:
        """Return the rates at the updates `t` in float64, computed with operators and the functions `xp`."""
        raise NotImplementedError

    def formula(self, t: Any, xp: Functions) -> Any:
        """Return the rate at update `t`, computed by another array library: the formula inside a compiled graph.

        Args:
            t: a scalar tensor of float64, a whole number >= 0.
            xp: the library's functions. `t` and what they return must have Python's arithmetic and comparisons.
        """
        return self._at(t, xp)

    def value(self, t: int) -> float:
        """Return the rate of the update before which `t` updates were completed.

        Raises:
            ConfigError: `t` is not a whole number >= 0.
        """
        # As a vector of one: NumPy's scalars may round a power differently from its arrays.
        return float(self.values([t])[0])

    def values(self, ts: Any) -> Floats:
        """Return the rates at all of `ts`, an array of whole numbers >= 0 of any shape, in float64 of that shape.

        Raises:
            ConfigError: `ts` has something else than whole numbers >= 0.
        """
        import numpy as np

        from unirms.schedules.arrays import NUMPY

        given = np.asarray(ts)
        if given.size and (given.dtype.kind not in "iu" or (given < 0).any()):
            raise ConfigError([f"t counts completed updates, so it must be a whole number >= 0 (given {ts!r})"])
        with np.errstate(over="ignore"):  # a decay that reaches infinity divides to 0
            rates: Floats = self._at(given.astype(np.float64).ravel(), NUMPY).reshape(given.shape)
        return rates

    @property
    def initial(self) -> float:
        """The rate of the first update, `value(0)`."""
        return self.value(0)

    @property
    def is_constant(self) -> bool:
        """Whether the fields say that every update has the same rate."""
        rates = set(_numbers(getattr(self, name) for name in self.RATES))
        return len(rates) <= 1

    def scaled(self, factor: float) -> Self:
        """Return the same shape with all rates times `factor`.

        Raises:
            ConfigError: `factor` is not a finite number >= 0.
        """
        number = to_factor(factor)
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**(fields | {name: _times(fields[name], number) for name in self.RATES}))


def mix(start: Any, end: Any, left: Any, xp: Functions) -> Any:
    """Return the rates between `start` (`left` is 1) and `end` (`left` is 0), exact at both.

    The bounds are for compilers that turn x / n into a product that is not rounded before it is subtracted from 1: XLA
    made the first rate of a warmup from 0 negative, -5e-18.
    """
    left = xp.maximum(xp.minimum(left, 1.0), 0.0)
    return start * left + end * (1.0 - left)


def power(base: float, exponent: Any, xp: Functions) -> Any:
    """Return base**exponent, at most the largest double: infinity times a rate of 0 would be NaN."""
    return xp.minimum(xp.power(base, exponent), LARGEST)


def quotient(t: Any, length: float, xp: Functions) -> Any:
    """Return t / length rounded down: the largest whole q with q * length <= t, however the division rounds."""
    q = xp.floor(t / length)
    q = xp.where(q * length > t, q - 1.0, q)
    return xp.where((q + 1.0) * length <= t, q + 1.0, q)


def progress(t: Any, length: float, staircase: bool, xp: Functions) -> Any:
    """Return t / length, rounded down for a staircase."""
    return quotient(t, length, xp) if staircase else t / length


def check_increasing(name: str, boundaries: Sequence[int]) -> None:
    """Raise a validation error unless each boundary is greater than the one before."""
    if any(later <= earlier for earlier, later in pairwise(boundaries)):
        raise bad_schedule(f"{name}={list(boundaries)} must increase from each one to the next")


def check_lengths(parts: str, boundaries: Sequence[int], values: Sequence[Any]) -> None:
    """Raise a validation error unless there is one value more than boundaries."""
    if len(values) != len(boundaries) + 1:
        raise bad_schedule(
            f"boundaries={list(boundaries)} need {len(boundaries) + 1} {parts}, one more than there are boundaries "
            f"(given {len(values)})"
        )


def bad_schedule(sentence: str) -> PydanticCustomError:
    """Return the validation error for fields that do not fit together."""
    return PydanticCustomError("bad_schedule", "{sentence}", {"sentence": sentence})


def _numbers(values: Any) -> Iterator[float]:
    for value in values:
        if isinstance(value, tuple):
            yield from value
        elif value is not None:
            yield value


def _times(value: Any, factor: float) -> Any:
    if value is None:
        return None
    if isinstance(value, tuple):
        return tuple(_times(item, factor) for item in value)
    return value.scaled(factor) if isinstance(value, BaseSchedule) else value * factor
