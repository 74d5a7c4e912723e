"""How far a run is from the reference: in ULP along the path, and relative to the movement.

Rounding gathers along the path, so the unit is the spacing of the dtype at max(|x|, path), path being the sum of the
absolute steps so far: plain ULP of the value would punish big steps and small values. The movement (x_t - x_0) is
compared as well, because a large weight hides a wrong step from any error that is relative to the weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, Any]

PRECISION: Final = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}
"""Bits of the significand, the hidden one included."""
_SMALLEST: Final = {"float16": -24, "bfloat16": -133, "float32": -149, "float64": -1074}
"""Exponent of the smallest positive number."""
_EXPONENT: Final = 0x7FF << 52
"""The bits of a double that hold its exponent; all of them are set in an infinity and a NaN."""


def spacing(values: Array, dtype: str) -> Array:
    """Return the distance between neighbouring numbers of `dtype` at each |value|, as float64; at 1 for no number."""
    # Of the bits of a double, those of the exponent alone are the power of two below it, 0 below the normal numbers.
    bits = np.asarray(values, np.float64).view(np.int64) & _EXPONENT
    power = np.where(bits == _EXPONENT, 1.0, bits.view(np.float64))
    return np.asarray(np.maximum(power * 2.0 ** (1 - PRECISION[dtype]), 2.0 ** _SMALLEST[dtype]))


@dataclass
class Error:
    """The worst errors of a run; infinite where one side is not finite and the other differs."""

    ulp: float = 0.0
    movement: float = 0.0
    """Relative error of the movement of a tensor, as the ratio of Euclidean norms, where there is one to measure."""


MEASURABLE: Final = 1000.0
"""ULP that a tensor must have moved, in the mean, before a relative error of its movement says anything: rounding alone
leaves some dozens."""


class Ruler:
    """Follows some arrays step by step and remembers the worst error.

    Args:
        start: the arrays before the first step, by name.
        dtype: the dtype of the run that is judged.
        lost_is_lost: whether an infinity and a NaN count as the same. For accumulators: the fused kernels of TensorFlow
            and MindSpore compute v + (g*g - v) * (1 - rho), which turns a mean square that has overflowed into NaN one
            step later; neither holds a number any more, and what that does to the weights is judged there.
    """

    def __init__(self, start: Mapping[str, Array], dtype: str, *, lost_is_lost: bool = False) -> None:
        self.dtype = dtype
        self.lost_is_lost = lost_is_lost
        self.names = list(start)
        self.start = self._joined(start)
        self.before = self.start
        self.path = np.zeros_like(self.start)
        sizes = np.asarray([np.size(start[name]) for name in self.names], dtype=np.intp)
        self.firsts = (np.cumsum(sizes) - sizes)[sizes > 0]
        """Where each tensor begins that is not empty."""
        self.worst = Error()

    def observe(self, expected: Mapping[str, Array], actual: Mapping[str, Array]) -> Error:
        """Compare one more step and return the worst errors so far.

        Arrays that one side lacks, or that have another shape, are infinitely wrong.
        """
        if not self.names and not actual:
            return self.worst
        if set(actual) != set(self.names) or any(np.shape(actual[n]) != np.shape(expected[n]) for n in self.names):
            self.worst = Error(np.inf, np.inf)
            return self.worst
        right, seen = self._joined(expected), self._joined(actual)
        with np.errstate(all="ignore"):
            self.path += np.abs(right - self.before)
            self.before = right
            unit = spacing(np.maximum(np.abs(right), self.path), self.dtype)
            deviation = self._deviation(right, seen)
            movement = self._movement(right - self.start, deviation, unit)
            ulp = float(np.max(deviation / unit, initial=0.0))
        self.worst = Error(max(self.worst.ulp, ulp), max(self.worst.movement, movement))
        return self.worst

    def _deviation(self, right: Array, seen: Array) -> Array:
        """Return |right - seen|; 0 for the same NaN or infinity, infinity where only one of them is finite."""
        deviation: Array = np.abs(right - seen)
        if np.isfinite(deviation).all():  # by far the usual case
            return deviation
        finite = np.isfinite(right), np.isfinite(seen)
        same = (right == seen) | (np.isnan(right) & np.isnan(seen)) | (self.lost_is_lost & ~finite[0] & ~finite[1])
        return np.where(same, 0.0, np.where(finite[0] & finite[1], deviation, np.inf))

    def _movement(self, moved: Array, deviation: Array, unit: Array) -> float:
        """Return the worst relative error of all tensors that have moved far enough to have one."""
        if not self.firsts.size:
            return 0.0
        finite = np.isfinite(moved)
        parts = [moved, deviation, unit]
        if not finite.all():
            parts = [np.where(finite, part, 0.0) for part in parts]
        length, off, floor = (np.sqrt(np.add.reduceat(part * part, self.firsts)) for part in parts)
        measurable = length > MEASURABLE * floor
        return float(np.max(off[measurable] / length[measurable], initial=0.0))

    def _joined(self, arrays: Mapping[str, Array]) -> Array:
        flat = [np.ravel(np.asarray(arrays[name], dtype=np.float64)) for name in self.names]
        return np.concatenate(flat) if flat else np.zeros(0)


def same_bits(left: Mapping[str, Array], right: Mapping[str, Array]) -> bool:
    """Return whether two sets of arrays are equal bit for bit (any NaN equals any NaN, and -0 equals 0)."""
    return set(left) == set(right) and all(np.array_equal(left[n], right[n], equal_nan=True) for n in left)
