"""A tensor that is still in its file: where its bytes are, and how to get at them a piece at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, PrivateAttr

from unirms.errors import CheckpointError, StateError
from unirms.moving.moves import Move
from unirms.state import Array

PIECE_BYTES: Final = 1 << 22
"""Bytes of a tensor that are in memory at a time: 4 MiB, which a cache holds while they are checked."""

_BLOCK: Final = 64
"""Rows of a matrix that are transposed at a time: with 64, a block lies in the nearest cache of a processor."""

SIZES: Final = {
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
}
"""The dtypes of slots and weights, and the bytes of an element."""


class Stored(BaseModel):
    """A tensor in a file: raw little-endian elements in C order, one after the other.

    Attributes:
        path: the file.
        offset: where in it the first byte is.
        dtype: a key of `SIZES`.
        shape: the lengths of its axes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    offset: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """How many bytes it takes."""
        return self.count * SIZES[self.dtype]

    def array(self) -> Array:
        """Return the tensor, mapped from its file; of bfloat16 a float32 copy.

        Raises:
            CheckpointError: the file is shorter than the tensor, or cannot be read.
        """
        self._check()
        if self.dtype == "bfloat16":
            return np.concatenate([np.empty(0, np.float32), *self.pieces()]).reshape(self.shape)
        if self.count == 0:
            return np.empty(self.shape, self.dtype)
        return np.memmap(self.path, np.dtype(self.dtype).newbyteorder("<"), "r", self.offset, self.shape)

    def pieces(self, most: int = PIECE_BYTES) -> Iterator[Array]:
        """Yield the elements in order, as flat arrays of up to `most` bytes that are read, not mapped.

        Raises:
            CheckpointError: the file is shorter than the tensor, or cannot be read.
        """
        self._check()
        size = SIZES[self.dtype]
        step = max(most // size, 1)
        try:
            with Path(self.path).open("rb", buffering=0) as file:
                file.seek(self.offset)
                for start in range(0, self.count, step):
                    yield _wide(_read(file, min(step, self.count - start), self), self.dtype)
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be read: {error.strerror}") from None

    def held(self) -> Array:
        """Return the tensor, read as a whole; bfloat16 as its two bytes, in an unsigned integer each.

        Raises:
            CheckpointError: the file is shorter than the tensor, or cannot be read.
        """
        self._check()
        try:
            with Path(self.path).open("rb", buffering=0) as file:
                file.seek(self.offset)
                return _read(file, self.count, self).reshape(self.shape)
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be read: {error.strerror}") from None

    def _check(self) -> None:
        try:
            length = Path(self.path).stat().st_size
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be read: {error.strerror}") from None
        if self.offset < 0 or self.offset + self.bytes > length:
            raise CheckpointError(
                f"{self.path} is damaged: a tensor should end at byte {self.offset + self.bytes} of its {length}"
            )


class Moving(BaseModel):
    """A tensor on its way from one file to another.

    Attributes:
        source: where it is.
        move: what becomes of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Stored
    move: Move
    _rounded: bool = PrivateAttr(default=False)

    @property
    def rounded(self) -> bool:
        """Whether the cast alone has changed a value among the pieces that have been given so far."""
        return self._rounded

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of its axes at the target."""
        axes = self.move.axes
        return self.source.shape if axes is None else tuple(self.source.shape[axis] for axis in axes)

    @property
    def dtype(self) -> str:
        """Name of its dtype at the target; a key of `SIZES`."""
        return self.move.dtype

    @property
    def bytes(self) -> int:
        """How many bytes it takes at the target."""
        return self.source.count * SIZES[self.dtype]

    def pieces(self, most: int = PIECE_BYTES) -> Iterator[Array]:
        """Yield the elements at the target, in C order, as flat arrays; those of bfloat16 as float32.

        A tensor whose axes are permuted is in memory as a whole, once; others are not.

        Raises:
            CheckpointError: the file cannot be read.
            StateError: a value that no state has, or that the target's dtype cannot hold.
        """
        unturned = replace(self.move, axes=None)
        for before in self._before(most):
            after = unturned.of(before)
            # What is sound is told by the extremes, faster than by a look at every element; the rest by the move.
            if not _sound(before, self.move.kind) or (after is not before and not _sound(after)):
                problem = self.move.problem(before, after)
                if problem:
                    raise StateError([problem])
            if self.source.dtype != self.dtype and not self._rounded:
                self._rounded = unturned.rounds(before, after)
            yield after

    def bytes_of_pieces(self, most: int = PIECE_BYTES) -> Iterator[memoryview]:
        """Yield the same as little-endian bytes, bfloat16 as two bytes an element: what stands in most files."""
        for piece in self.pieces(most):
            yield raw(piece, self.dtype)

    def array(self) -> Array:
        """Return the whole tensor at the target, in memory; bfloat16 as float32."""
        held = "float32" if self.dtype == "bfloat16" else self.dtype
        whole, start = np.empty(self.source.count, held), 0
        for piece in self.pieces():
            whole[start : start + piece.size] = piece
            start += piece.size
        return whole.reshape(self.shape)

    def _before(self, most: int) -> Iterator[Array]:
        """Yield the elements in the order of the target, as they are in the source."""
        if self.move.axes is None or self.source.count == 0:
            yield from self.source.pieces(most)
            return
        for piece in parts(self.source.held().transpose(self.move.axes), most):
            yield _wide(piece, self.source.dtype)


def parts(array: Array, most: int) -> Iterator[Array]:
    """Yield an array in C order as flat copies of up to `most` bytes."""
    if array.nbytes <= most or array.ndim == 0:
        yield _flat(array)
    elif array[0].nbytes > most:
        for row in array:
            yield from parts(row, most)
    else:
        rows = most // max(array[0].nbytes, 1)
        for first in range(0, len(array), rows):
            yield _flat(array[first : first + rows])


def _flat(array: Array) -> Array:
    """Return a copy of an array in C order, flat; the array itself where it is that already."""
    if array.ndim < 2 or array.flags.c_contiguous or array.strides[-1] == array.itemsize:
        return array.reshape(-1)
    # Block by block, each first as it lies in memory: down a whole column every element is in another line of memory,
    # and the lines of a large matrix, a power of two apart, drive each other out of the cache.
    copy = np.empty(array.shape, array.dtype)
    for start in range(0, array.shape[-1], _BLOCK):
        block = array[..., start : start + _BLOCK]
        copy[..., start : start + _BLOCK] = block.copy(order="K")
    return copy.reshape(-1)


def _sound(array: Array, kind: str = "") -> bool:
    """Return whether no element is NaN, infinite or, of a mean square, negative: all if the extremes are so."""
    if array.size == 0 or array.dtype.kind == "c":
        return False
    least, most = array.min(), array.max()
    return bool(np.isfinite(least) and np.isfinite(most) and (kind != "mean_square" or least >= 0))


def raw(array: Array, dtype: str) -> memoryview:
    """Return the elements as little-endian bytes; float32 values as bfloat16 where that is the dtype."""
    if dtype == "bfloat16":
        array = (np.ascontiguousarray(array, np.float32).view(np.uint32) >> 16).astype("<u2")
    flat = np.ascontiguousarray(array).reshape(-1)
    little = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    return memoryview(little.view(np.uint8).data)


def _read(file: IO[bytes], count: int, stored: Stored) -> Array:
    """Return so many elements, as the file has them; `readinto` may give fewer bytes at a time."""
    held = "<u2" if stored.dtype == "bfloat16" else np.dtype(stored.dtype).newbyteorder("<")
    elements = np.empty(count, held)
    view, done = elements.view(np.uint8).data, 0
    while done < len(view):
        got = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not got:
            raise CheckpointError(f"{stored.path} is damaged: it ends in the middle of a tensor")
        done += got
    return elements


def _wide(elements: Array, dtype: str) -> Array:
    """Return elements as they are in memory: bfloat16 as float32."""
    return (elements.astype(np.uint32) << 16).view(np.float32) if dtype == "bfloat16" else elements
