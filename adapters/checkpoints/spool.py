"""A file for tensors that do not lie in their checkpoint as raw bytes in C order."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from unirms.checkpoints.tensors import PIECE_BYTES, SIZES, Stored, parts, raw
from unirms.state import Array


class Spool:
    """One raw file in a folder, which tensors are appended to.

    Attributes:
        file: its path; the file is made with the first tensor.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "tensors"
        self._end = 0

    def add(self, dtype: str, shape: tuple[int, ...], chunks: Iterable[bytes | memoryview]) -> Stored:
        """Return where a tensor is, once its bytes have been written."""
        stored = Stored(path=str(self.file), offset=self._end, dtype=dtype, shape=shape)
        with self.file.open("ab") as file:
            for chunk in chunks:
                file.write(chunk)
        self._end += stored.bytes
        return stored

    def room(self, dtype: str, shape: tuple[int, ...]) -> Stored:
        """Return a place for a tensor, which is filled later."""
        stored = self.add(dtype, shape, [])
        with self.file.open("ab") as file:
            file.truncate(self._end)
        return stored

    def array(self, dtype: str, array: Array) -> Stored:
        """Return where an array is, in C order, once it is written; bfloat16 comes as two bytes an element."""
        held = "float16" if dtype == "bfloat16" else dtype  # only moved about
        return self.add(dtype, array.shape, (raw(part, held) for part in parts(array, PIECE_BYTES)))

    def constant(self, dtype: str, shape: tuple[int, ...], value: float) -> Stored:
        """Return where a tensor is whose elements are all the same; both parts of a complex number are."""
        number = complex(value, value) if dtype.startswith("complex") else value
        one = np.full(1, number, "float32" if dtype == "bfloat16" else dtype)
        stored = Stored(path=str(self.file), offset=self._end, dtype=dtype, shape=shape)
        most = PIECE_BYTES // SIZES[dtype]
        whole, rest = divmod(stored.count, most)
        piece = raw(np.broadcast_to(one, (most if whole else rest,)), dtype)
        chunks = [*[piece] * whole, piece[: rest * SIZES[dtype]]]
        return self.add(dtype, shape, chunks)
