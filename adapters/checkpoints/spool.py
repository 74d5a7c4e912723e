"""A file for tensors that do not lie in their checkpoint as raw bytes in C order."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from unirms.checkpoints import sharing
from unirms.checkpoints.tensors import PIECE_BYTES, SIZES, Stored, parts, raw
from unirms.moving.moves import converted
from unirms.state import Array


class Spool:
    """One raw file in a folder, which tensors are appended to.

    Attributes:
        file: its path; the file is made with the first tensor.
        source: the file or folder that the tensors come from; None where they cannot be more than it has.
    """

    def __init__(self, folder: Path, source: Path | None = None) -> None:
        self.file = folder / "tensors"
        self.source = source
        self._most = None if source is None else sharing.most_bytes([source])
        self._end = 0
        self._constants: dict[tuple[str, tuple[int, ...], float], Stored] = {}

    def add(self, dtype: str, shape: tuple[int, ...], chunks: Iterable[bytes | memoryview]) -> Stored:
        """Return where a tensor is, once its bytes have been written.

        Raises:
            CheckpointError: the tensors are far more than the file that they come from.
        """
        stored = Stored(path=str(self.file), offset=self._end, dtype=dtype, shape=shape)
        if self.source is not None and self._most is not None and self._end + stored.bytes > self._most:
            raise sharing.refused(self.source, self._most)
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
        return self.add(dtype, array.shape, (raw(part, part.dtype.name) for part in parts(array, PIECE_BYTES)))

    def constant(self, dtype: str, shape: tuple[int, ...], value: float) -> Stored:
        """Return where a tensor is whose elements are all the same; both parts of a complex number are.

        It is written once, however often it is asked for.
        """
        wanted = (dtype, shape, value)
        if wanted not in self._constants:
            number = complex(value, value) if dtype.startswith("complex") else value
            count = math.prod(shape)
            most = min(PIECE_BYTES // SIZES[dtype], count)
            piece = raw(converted(np.full(most, number), dtype), dtype)
            left = (count - start for start in range(0, count, most or 1))
            chunks = (piece[: one * SIZES[dtype]] for one in left)
            self._constants[wanted] = self.add(dtype, shape, chunks)
        return self._constants[wanted]
