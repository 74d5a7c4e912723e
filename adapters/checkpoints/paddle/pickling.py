"""A pickle of plain data and NumPy arrays, written piece by piece: what `paddle.load` reads, in protocol 4.

The operations are those of the standard library's `pickle`, which would need each array in memory. What another file
says at several places is written once, and fetched from the memo.
"""

from __future__ import annotations

import math
import pickle
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Any, Final

import numpy as np

from unirms.checkpoints.tensors import SIZES, Moving, raw, zeros
from unirms.errors import CheckpointError

from .pickles import MOST_OPERATIONS, Span
from .tensors import Source, Tensor

_NUMPY: Final = {
    "float16": "f2",
    "bfloat16": "u2",
    "float32": "f4",
    "float64": "f8",
    "complex64": "c8",
    "complex128": "c16",
}


@dataclass(frozen=True)
class Zeros:
    """A tensor of zeros."""

    dtype: str
    shape: tuple[int, ...]


class Pickler:
    """Writes plain data, arrays, `Zeros`, `Moving` tensors, and what another file says.

    Args:
        file: where to.
        source: the file to which the `Tensor` and the `Span` in the data belong.
    """

    def __init__(self, file: IO[bytes], source: Source | None) -> None:
        self._file = file
        self._source = source
        self._left = MOST_OPERATIONS
        self._memo: dict[int, int] = {}

    def dump(self, data: Any) -> None:
        """Write a whole pickle.

        Raises:
            CheckpointError: something in the data is none, or a file cannot be read.
            StateError: a tensor has a NaN, or a value that its dtype cannot hold.
        """
        self._file.write(pickle.PROTO + b"\x04")
        self._write(data)
        self._file.write(pickle.STOP)

    def _write(self, value: Any) -> None:
        self._left -= 1
        if self._left < 0:
            raise CheckpointError("the file has more in it than can be copied")
        if isinstance(value, dict):
            self._file.write(pickle.EMPTY_DICT + pickle.MARK)
            for key, item in value.items():
                self._write(key)
                self._write(item)
            self._file.write(pickle.SETITEMS)
        elif isinstance(value, (list, tuple, set)):
            before, after = _BRACKETS[type(value)]
            self._file.write(before)
            for item in value:
                self._write(item)
            self._file.write(after)
        elif isinstance(value, (np.ndarray, Zeros, Moving)):
            self._array(value)
        elif isinstance(value, (Tensor, Span)):
            self._copied(value)
        else:
            self._file.write(_plain(value))

    def _copied(self, value: Tensor | Span) -> None:
        """Write what lies in the source, or fetch it where it has been written; the source keeps it, and so its id."""
        assert self._source is not None
        if id(value) in self._memo:
            self._file.write(pickle.LONG_BINGET + struct.pack("<I", self._memo[id(value)]))
            return
        if isinstance(value, Tensor):
            self._array(value)
        else:
            head = pickle.BINUNICODE8 if value.is_text else pickle.BINBYTES8
            self._bytes(head, value.length, self._source.pieces(value))
        place = self._memo[id(value)] = len(self._memo)
        self._file.write(pickle.LONG_BINPUT + struct.pack("<I", place))

    def _array(self, value: Any) -> None:
        """Write what `ndarray.__reduce__` says: a call that makes an empty array, and then its state."""
        code, shape, length, chunks = self._parts(value)
        by_columns = isinstance(value, Tensor) and value.by_columns
        dtype = (
            _called("numpy", "dtype", code, False, True) + _plain((3, "<", None, None, None, -1, -1, 0)) + pickle.BUILD
        )
        empty = _global("numpy.core.multiarray", "_reconstruct") + _global("numpy", "ndarray")
        empty += _plain((0,)) + pickle.SHORT_BINBYTES + b"\x01b" + pickle.TUPLE3 + pickle.REDUCE
        self._file.write(empty + pickle.MARK + _plain(1) + _plain(shape) + dtype + _plain(by_columns))
        self._bytes(pickle.BINBYTES8, length, chunks)
        self._file.write(pickle.TUPLE + pickle.BUILD)

    def _parts(self, value: Any) -> tuple[str, tuple[int, ...], int, Iterable[Any]]:
        """Return the code of the dtype, the shape, and how many and which bytes, little-endian."""
        if isinstance(value, Moving):
            return _NUMPY[value.dtype], value.shape, value.bytes, value.bytes_of_pieces()
        if isinstance(value, Zeros):
            length = math.prod(value.shape) * SIZES[value.dtype]
            return _NUMPY[value.dtype], value.shape, length, zeros(length)
        if isinstance(value, np.ndarray):
            return value.dtype.str[1:], value.shape, value.nbytes, [raw(value, value.dtype.name)]
        assert self._source is not None
        dtype = value.dtype
        chunks = (raw(np.frombuffer(chunk, dtype), dtype.name) for chunk in self._source.chunks(value))
        return dtype.str[1:], value.shape, value.bytes, chunks

    def _bytes(self, operation: bytes, length: int, chunks: Iterable[Any]) -> None:
        self._file.write(operation + struct.pack("<Q", length))
        for chunk in chunks:
            self._file.write(chunk)


_BRACKETS: Final = {
    list: (pickle.EMPTY_LIST + pickle.MARK, pickle.APPENDS),
    tuple: (pickle.MARK, pickle.TUPLE),
    set: (pickle.EMPTY_SET + pickle.MARK, pickle.ADDITEMS),
}


def _plain(value: Any) -> bytes:
    """Return the operations that make a text, a number, a tuple of them, or None."""
    if value is None or isinstance(value, bool):
        return {None: pickle.NONE, True: pickle.NEWTRUE, False: pickle.NEWFALSE}[value]
    if isinstance(value, int):
        digits = pickle.encode_long(value)
        return pickle.LONG1 + bytes([len(digits)]) + digits
    if isinstance(value, float):
        return pickle.BINFLOAT + struct.pack(">d", value)
    if isinstance(value, str):
        text = value.encode()
        return pickle.BINUNICODE + struct.pack("<I", len(text)) + text
    if isinstance(value, tuple):
        return pickle.MARK + b"".join(map(_plain, value)) + pickle.TUPLE
    raise CheckpointError(f"a {type(value).__name__} cannot be written")


def _global(module: str, name: str) -> bytes:
    return _plain(module) + _plain(name) + pickle.STACK_GLOBAL


def _called(module: str, name: str, *arguments: Any) -> bytes:
    return _global(module, name) + _plain(arguments) + pickle.REDUCE
