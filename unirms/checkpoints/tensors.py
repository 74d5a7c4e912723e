"""A tensor that is still in its file: where its bytes are, and how to get at them a piece at a time."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import cycle, product
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, PrivateAttr

from unirms import bfloat16
from unirms.checkpoints.paths import check
from unirms.errors import CheckpointError, StateError
from unirms.moving.moves import Move
from unirms.state import Array

PIECE_BYTES: Final = 1 << 22
"""Bytes of a tensor that are in memory at a time: 4 MiB, which a cache holds while they are checked."""

_TILE: Final = (64, 256)
"""Elements that lie together, and how often, in what is transposed at a time, so that it stays in a near cache."""

SIZES: Final = {
    "float16": 2,
    bfloat16.NAME: 2,
    "float32": 4,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
}
"""The dtypes of slots and weights, and the bytes of an element."""

_MOST_AXES: Final = 32
"""Of an array, in NumPy 1."""


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

    def model_post_init(self, _: Any) -> None:
        """Check that the shape is one of an array, as also one of no elements must be.

        Raises:
            CheckpointError: it is not.
        """
        room = math.prod(length for length in self.shape if length) * SIZES.get(self.dtype, 16)
        if len(self.shape) > _MOST_AXES or min(self.shape, default=0) < 0 or room >= 1 << 63:
            raise CheckpointError(f"{self.path} is damaged: no array has the shape {self.shape}")

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
        if self.dtype == bfloat16.NAME:
            return np.concatenate([np.empty(0, np.float32), *self.pieces()]).reshape(self.shape)
        if self.count == 0:
            return np.empty(self.shape, self.dtype)
        return np.memmap(self.path, np.dtype(self.dtype).newbyteorder("<"), "r", self.offset, self.shape)

    def pieces(self, most: int = PIECE_BYTES) -> Iterator[Array]:
        """Yield the elements in order, as flat arrays of up to `most` bytes that are read, not mapped.

        The memory of an array is used again for the next but one.

        Raises:
            CheckpointError: the file is shorter than the tensor, or cannot be read.
        """
        self._check()
        size = SIZES[self.dtype]
        step = max(most // size, 1)
        try:
            with Path(self.path).open("rb", buffering=0) as file:
                file.seek(self.offset)
                spaces = _spaces(min(step, self.count), _held(self.dtype))
                for start in range(0, self.count, step):
                    yield _wide(_filled(next(spaces)[: self.count - start], file, self.path), self.dtype)
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be read: {error.strerror}") from None

    def mapped(self) -> Array:
        """Return the tensor, mapped from its file, which is read ahead; bfloat16 as its two bytes, in an integer each.

        Raises:
            CheckpointError: the file is shorter than the tensor, or cannot be read.
        """
        self._check()
        if self.count == 0:
            return np.empty(self.shape, _held(self.dtype))
        page = self.offset % mmap.ALLOCATIONGRANULARITY
        try:
            with Path(self.path).open("rb") as file:
                memory = mmap.mmap(file.fileno(), page + self.bytes, access=mmap.ACCESS_READ, offset=self.offset - page)
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be read: {error.strerror}") from None
        if hasattr(mmap, "MADV_WILLNEED"):
            memory.madvise(mmap.MADV_WILLNEED)  # not a page at a time, in the order of the target
        return np.frombuffer(memory, _held(self.dtype), self.count, page).reshape(self.shape)

    def _check(self) -> None:
        try:
            check(Path(self.path))
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

        A tensor whose axes are permuted is in memory as a whole, once; others are not. While a piece is in use, the
        next is made; the memory of one is used again for the next but one.

        Raises:
            CheckpointError: the file cannot be read.
            StateError: a value that no state has, or that the target's dtype cannot hold.
        """
        made = self._made(most)
        return ahead(made) if self.source.bytes > most else made

    def _made(self, most: int) -> Iterator[Array]:
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
        whole, start = np.empty(self.source.count, bfloat16.held_as(self.dtype)), 0
        for piece in self.pieces():
            whole[start : start + piece.size] = piece
            start += piece.size
        return whole.reshape(self.shape)

    def _before(self, most: int) -> Iterator[Array]:
        """Yield the elements in the order of the target, as they are in the source."""
        if self.move.axes is None or self.source.count == 0:
            yield from self.source.pieces(most)
            return
        for piece in parts(self.source.mapped().transpose(self.move.axes), most):
            yield _wide(piece, self.source.dtype)


def ahead(pieces: Iterator[Array]) -> Iterator[Array]:
    """Yield the pieces, each made by a thread while the one before it is in use; NumPy and files let others run."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, pieces, None)
        while (piece := coming.result()) is not None:
            coming = thread.submit(next, pieces, None)
            yield piece


def parts(array: Array, most: int) -> Iterator[Array]:
    """Yield an array in C order as flat pieces of up to `most` bytes; the memory of one may be the next but one's."""
    spaces = _spaces(max(min(most, array.nbytes) // array.itemsize, 1), array.dtype)
    return (_flat(part, spaces) for part in _split(array, most))


def _split(array: Array, most: int) -> Iterator[Array]:
    """Yield parts of an array along its first axes, in order."""
    if array.nbytes <= most or array.ndim == 0:
        yield array
    elif array[0].nbytes > most:
        for row in array:
            yield from _split(row, most)
    else:
        rows = most // max(array[0].nbytes, 1)
        for first in range(0, len(array), rows):
            yield array[first : first + rows]


def _spaces(count: int, dtype: Any) -> Iterator[Array]:
    """Yield two arrays in turn: fresh memory for each piece would cost as much time as copying it."""
    return cycle((np.empty(count, dtype), np.empty(count, dtype)))


def _flat(array: Array, spaces: Iterator[Array]) -> Array:
    """Return an array in C order, flat: a copy in one of the spaces, or a view where it is so already."""
    if array.ndim < 2 or array.flags.c_contiguous or array.strides[-1] == array.itemsize:
        return array.reshape(-1)
    # Block by block, each first as it lies in memory: down a whole column every element is in another line of memory,
    # and the lines of a large matrix, a power of two apart, drive each other out of the cache.
    copy = next(spaces)[: array.size].reshape(array.shape)
    together = min(range(array.ndim - 1), key=array.strides.__getitem__)
    for first, start in product(range(0, array.shape[together], _TILE[0]), range(0, array.shape[-1], _TILE[1])):
        tile: Any = (*[slice(None)] * together, slice(first, first + _TILE[0]), ..., slice(start, start + _TILE[1]))
        copy[tile] = array[tile].copy(order="K")
    flat: Array = copy.reshape(-1)
    return flat


def _sound(array: Array, kind: str = "") -> bool:
    """Return whether no element is NaN, infinite or, of a mean square, negative: all if the extremes are so."""
    if array.size == 0 or array.dtype.kind == "c":
        return False
    least, most = array.min(), array.max()
    return bool(np.isfinite(least) and np.isfinite(most) and (kind != "mean_square" or least >= 0))


def raw(array: Array, dtype: str) -> memoryview:
    """Return the elements as little-endian bytes; float32 values as bfloat16 where that is the dtype."""
    if dtype == bfloat16.NAME:
        array = bfloat16.bits(array)
    flat = np.ascontiguousarray(array).reshape(-1)
    little = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    return memoryview(little.view(np.uint8).data)


def zeros(length: int) -> Iterator[memoryview]:
    """Yield so many bytes of zeros, piece by piece."""
    piece = memoryview(bytes(min(length, PIECE_BYTES)))
    for start in range(0, length, PIECE_BYTES):
        yield piece[: length - start]


def _filled(elements: Array, file: IO[bytes], path: str) -> Array:
    """Return the elements, filled as the file has them; `readinto` may give fewer bytes at a time."""
    view, done = elements.view(np.uint8).data, 0
    while done < len(view):
        got = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not got:
            raise CheckpointError(f"{path} is damaged: it ends in the middle of a tensor")
        done += got
    return elements


def _held(dtype: str) -> np.dtype[Any]:
    """Return the dtype of elements as a file has them: bfloat16 as its two bytes, in an unsigned integer."""
    held: np.dtype[Any] = np.dtype("uint16" if dtype == bfloat16.NAME else dtype).newbyteorder("<")
    return held


def _wide(elements: Array, dtype: str) -> Array:
    """Return elements as they are in memory: bfloat16 as float32."""
    return bfloat16.widened(elements) if dtype == bfloat16.NAME else elements
