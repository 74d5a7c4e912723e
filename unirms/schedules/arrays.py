"""What the formulas of schedules need of an array library, and NumPy's answer.

A formula is written once, with operators and these functions, so that it can also run inside a compiled graph of a
framework. Compilers turn the division by a constant into a product with its reciprocal (TensorFlow's Grappler and XLA
do): a quotient may be off by its last bit, which `quotient` in `unirms.schedules.base` allows for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np


class Functions(Protocol):
    """Functions of float64 arrays of an array library; plain numbers count as such arrays."""

    def floor(self, x: Any, /) -> Any:
        """Return x rounded down."""
        ...

    def minimum(self, x: Any, y: Any, /) -> Any:
        """Return the smaller of x and y."""
        ...

    def maximum(self, x: Any, y: Any, /) -> Any:
        """Return the larger of x and y."""
        ...

    def where(self, condition: Any, x: Any, y: Any, /) -> Any:
        """Return x where the condition holds, and y elsewhere."""
        ...

    def power(self, x: Any, y: Any, /) -> Any:
        """Return x ** y."""
        ...

    def sqrt(self, x: Any, /) -> Any:
        """Return the square root of x."""
        ...

    def cos(self, x: Any, /) -> Any:
        """Return the cosine of x."""
        ...

    def exp(self, x: Any, /) -> Any:
        """Return e ** x."""
        ...

    def expm1(self, x: Any, /) -> Any:
        """Return e ** x - 1."""
        ...

    def log1p(self, x: Any, /) -> Any:
        """Return the logarithm of 1 + x."""
        ...

    def reached(self, boundaries: Sequence[float], t: Any, /) -> Any:
        """Return the number of boundaries <= t, as float64; the boundaries are in order."""
        ...

    def take(self, numbers: Sequence[float], index: Any, /) -> Any:
        """Return numbers[index]; the index is a whole number in float64."""
        ...


class NumPyFunctions:
    """The functions for NumPy's vectors."""

    floor, minimum, maximum, where, power = np.floor, np.minimum, np.maximum, staticmethod(np.where), np.power
    sqrt, cos, exp, expm1, log1p = np.sqrt, np.cos, np.exp, np.expm1, np.log1p

    def reached(self, boundaries: Sequence[float], t: Any, /) -> Any:
        """Return the number of boundaries <= t."""
        return np.searchsorted(np.asarray(boundaries, np.float64), t, side="right").astype(np.float64)

    def take(self, numbers: Sequence[float], index: Any, /) -> Any:
        """Return numbers[index], looked up one by one: one rate of a long table must not cost an array of the whole."""
        return np.array([numbers[row] for row in index.astype(np.int64).tolist()], np.float64)


NUMPY: Functions = NumPyFunctions()
