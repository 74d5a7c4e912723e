"""bfloat16, of which NumPy has no dtype: the upper half of a float32, which holds its values.

In memory, values of it are float32 that it can hold; in files, and in frameworks that give it to NumPy as it is, they
are their two bytes, in an unsigned integer each.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, Any]

NAME: Final = "bfloat16"

_LOWER_HALF: Final = 16
_QUIET: Final = np.uint32(0x00400000)


def held_as(dtype: str) -> str:
    """Return the name of the NumPy dtype in which values of a dtype are in memory: float32 for bfloat16."""
    return "float32" if dtype == NAME else dtype


def rounded(array: Array) -> Array:
    """Return real numbers as float32, each the nearest that bfloat16 holds, ties to even.

    They are rounded once, those of float64, too. A NaN stays one, of its sign; what is too large becomes an infinity.
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    narrow = _to_odd(flat) if flat.dtype.itemsize > 4 else flat.astype(np.float32, copy=False)
    whole = narrow.view(np.uint32)
    nearest = whole >> _LOWER_HALF
    nearest &= 1
    nearest += 0x7FFF
    nearest += whole
    absent = np.isnan(narrow)
    if absent.any():  # the sum goes over into an infinity, or into the sign
        nearest[absent] = whole[absent] | _QUIET
    nearest &= 0xFFFF0000
    return nearest.view(np.float32).reshape(np.shape(array))


def bits(array: Array) -> Array:
    """Return the two bytes of float32 values that bfloat16 holds (see `rounded`), as uint16."""
    whole = np.asarray(array, np.float32, order="C").view(np.uint32)
    return np.asarray(whole >> _LOWER_HALF, np.uint16)


def widened(array: Array) -> Array:
    """Return the float32 values of which these uint16, in either byte order, are the two bytes."""
    return np.asarray(array.astype(np.uint32) << _LOWER_HALF, np.uint32).view(np.float32)


def _to_odd(array: Array) -> Array:
    """Return float32 values cut off, with the last bit set where anything was cut: nothing lies on a tie that did not.

    A second rounding, to 8 of the 24 bits, then gives what a single one would. Source: S. Boldo and G. Melquiond,
    "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd" (2008).
    """
    with np.errstate(over="ignore", under="ignore"):
        narrow = array.astype(np.float32)
    whole = narrow.view(np.uint32)
    whole -= np.abs(narrow) > np.abs(array)
    whole |= (narrow != array) & ~np.isnan(array)
    return narrow
