"""What becomes of one tensor on its way: another name, permuted axes, another unit, another dtype."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unirms import bfloat16
from unirms.moving.maps import Axes
from unirms.state import Array


@dataclass(frozen=True)
class Move:
    """The way of one tensor.

    Attributes:
        kind: the slot, or "gradient_sum" or "weights".
        source: the parameter's name where it comes from.
        target: the parameter's name where it goes.
        dtype: name of the dtype there; "bfloat16" too, which comes as float32 that bfloat16 can hold.
        axes: the permutation, as for `numpy.transpose`; None leaves the axes as they are.
        times: all values are multiplied by it,
        over: and divided by it, in float64, rounded once.
    """

    kind: str
    source: str
    target: str
    dtype: str
    axes: Axes | None = None
    times: float = 1.0
    over: float = 1.0

    def of(self, array: Array) -> Array:
        """Return the array as it is at the target, C-contiguous."""
        turned = array if self.axes is None else array.transpose(self.axes)
        whole = np.ascontiguousarray(converted(turned, self.dtype, self.times, self.over))
        shaped: Array = whole.reshape(turned.shape)  # NumPy makes one axis of none
        return shaped

    def problem(self, before: Array, after: Array) -> str:
        """Return what is wrong with the values of (a part of) the tensor; "" where nothing is."""
        place = f"{self.kind} of {self.source!r}"
        finite = np.isfinite(before)
        if not np.all(finite):
            return f"{place} has {int(np.size(before) - np.count_nonzero(finite))} values that are NaN or infinite"
        if self.kind == "mean_square" and before.dtype.kind != "c" and np.any(before < 0):
            return f"{place} has negative values, which no mean of squares has"
        if not np.all(np.isfinite(after)):
            return f"{place} has values too large for {self.dtype} (up to {float(np.max(np.abs(before))):.3g})"
        return ""

    def rounds(self, before: Array, after: Array) -> bool:
        """Return whether the cast alone changes a value; a change of units rounds in any dtype."""
        if self.times != 1 or self.over != 1:
            return not np.array_equal(before, converted(before, self.dtype))
        turned = before if self.axes is None else before.transpose(self.axes)
        return not np.array_equal(turned, after)


def converted(array: Array, dtype: str, times: float = 1.0, over: float = 1.0) -> Array:
    """Return an array times and over a number, in another dtype; rounded once, from float64."""
    with np.errstate(all="ignore"):
        if times != 1 or over != 1:
            wide = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
            array = wide * times / over
        return bfloat16.rounded(array) if dtype == bfloat16.NAME else array.astype(dtype, copy=False)
