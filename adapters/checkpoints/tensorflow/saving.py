"""Writing TensorFlow's checkpoints, without TensorFlow and a piece of a tensor at a time: one data file, and the index.

Source: `BundleWriter` in `tensorflow/core/util/tensor_bundle/tensor_bundle.cc`, and `tensor_bundle.proto`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Final, Protocol

import numpy as np

from unirms.checkpoints import tensors
from unirms.checkpoints.naming import plain
from unirms.checkpoints.tensors import SIZES
from unirms.errors import CheckpointError
from unirms.moving.moves import converted

from ..protobuf import fixed32, integer, message
from . import table
from .bundle import CODES, INDEX, Entry, data_file

_HEADER: Final = integer(1, 1) + message(3, integer(1, 1))
"""One data file, of little-endian numbers (0, which is not written), by a writer of the version 1."""


class Source(Protocol):
    """What a tensor of a new checkpoint comes from: a `Moving`, an `Entry` of another checkpoint, or a `Made`."""

    @property
    def dtype(self) -> str:
        """A key of `CODES`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of its axes."""

    def bytes_of_pieces(self) -> Iterator[memoryview]:
        """Yield its little-endian bytes in order."""


@dataclass(frozen=True)
class Made:
    """A tensor that is in no file.

    Attributes:
        dtype: a key of `CODES`.
        shape: the lengths of its axes.
        data: gives its little-endian bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    data: Callable[[], Iterator[memoryview]]

    def bytes_of_pieces(self) -> Iterator[memoryview]:
        """Yield its little-endian bytes in order."""
        return self.data()


def zeros(shape: tuple[int, ...], dtype: str) -> Made:
    """Return a tensor of zeros, of a dtype that states have."""
    return Made(dtype, shape, partial(tensors.zeros, math.prod(shape) * SIZES[dtype]))


def scalar(value: float, dtype: str) -> Made:
    """Return a tensor of one number: an integer, or of a dtype that states have."""
    array = converted(np.asarray(value), dtype) if dtype in SIZES else np.asarray(value, dtype)
    return Made(dtype, (), lambda: iter((tensors.raw(array, dtype),)))


def save(prefix: Path, sources: Mapping[str, Source]) -> None:
    """Write tensors by key.

    Raises:
        CheckpointError: one of them is of a kind that is not kept, or damaged where it comes from.
        StateError: a tensor has a NaN, or a value that its dtype cannot hold.
        ImportError: the package that makes the checksums is not installed.
        OSError: a file cannot be written.
    """
    with data_file(prefix, 0, 1).open("wb") as file:
        pairs = [(name.encode(), _written(name, source, file)) for name, source in sources.items()]
    with prefix.with_name(prefix.name + INDEX).open("wb") as file:
        table.write(file, sorted([(b"", _HEADER), *pairs]))


def _written(name: str, source: Source, file: IO[bytes]) -> bytes:
    """Write a tensor, and return what the index says of it."""
    from crc32c import crc32c  # reading goes without it

    if source.dtype not in CODES or (isinstance(source, Entry) and not source.whole):
        raise CheckpointError(f"{plain(name)!r} is no tensor that can be kept; save the checkpoint without it")
    offset, crc = file.tell(), 0
    for piece in source.bytes_of_pieces():
        crc = crc32c(piece, crc)
        file.write(piece)
    size, stated = file.tell() - offset, table.masked(crc)
    if isinstance(source, Entry) and source.checksum != stated:
        if source.dtype != "string":
            raise CheckpointError(f"{source.path} is damaged: {plain(name)!r} does not have its checksum")
        stated = source.checksum  # that of text is made of its lengths as integers of four bytes
    if source.dtype in SIZES and size != math.prod(source.shape) * SIZES[source.dtype]:
        raise CheckpointError(f"{plain(name)!r} has {size} bytes, and a shape {source.shape} of {source.dtype}")
    shape = b"".join(message(2, integer(1, length)) for length in source.shape)
    return b"".join(
        (
            integer(1, CODES[source.dtype]),
            message(2, shape),
            integer(4, offset),
            integer(5, size),
            fixed32(6, stated),
        )
    )
