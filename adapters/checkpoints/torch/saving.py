"""The ZIP archives of `torch.save`, written with tensors that come piece by piece."""

from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Final, cast

import numpy as np
import torch

from unirms.checkpoints.tensors import Moving, zeros
from unirms.errors import CheckpointError
from unirms.state import Array

from ..pickles import Call, Ordered, Reference
from .files import (
    DTYPE_OF_STORAGE,
    LOCAL_HEADER,
    STORAGE_OF_DTYPE,
    Part,
    Record,
    bytes_of,
    element_bytes,
)


@dataclass(frozen=True, eq=False)
class Fresh:
    """A tensor that is to be written.

    Attributes:
        dtype: the name of its dtype.
        shape: the lengths of its axes.
        chunks: its bytes, little-endian and in C order, piece by piece.
    """

    dtype: str
    shape: tuple[int, ...]
    chunks: Callable[[], Iterable[bytes | memoryview]]

    @property
    def count(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """How many bytes it takes."""
        return self.count * element_bytes(self.dtype)

    @staticmethod
    def of(moving: Moving) -> Fresh:
        """Return a tensor that comes from another file."""
        return Fresh(moving.dtype, moving.shape, moving.bytes_of_pieces)

    @staticmethod
    def zeros(dtype: str, shape: tuple[int, ...]) -> Fresh:
        """Return a tensor of zeros."""
        size = math.prod(shape) * element_bytes(dtype)
        return Fresh(dtype, shape, lambda: zeros(size))

    @staticmethod
    def scalar(value: float, dtype: str = "float32") -> Fresh:
        """Return a tensor of no axes."""
        one: Array = np.asarray(value, dtype)
        return Fresh(dtype, (), lambda: [one.astype(one.dtype.newbyteorder("<")).tobytes()])


@dataclass
class _Storages:
    """The storages of a file that is written, in the order in which its pickle refers to them.

    Attributes:
        files: where the storages are that a kept part of the data refers to.
    """

    files: Mapping[str, Record]
    entries: list[tuple[int, Callable[[], Iterable[bytes | memoryview]]]] = field(default_factory=list)
    _keys: dict[Any, str] = field(default_factory=dict)

    def key(self, owner: Any, size: int, chunks: Callable[[], Iterable[bytes | memoryview]]) -> str:
        """Return the key of a storage, which is given one the first time."""
        if owner not in self._keys:
            self._keys[owner] = str(len(self.entries))
            self.entries.append((size, chunks))
        return self._keys[owner]

    def reference(self, kept: Reference) -> tuple[Any, ...]:
        """Return the persistent id of a storage that is copied from another file."""
        _, storage, key, _, _, *view = kept.id
        if view and view[0] is not None:
            raise CheckpointError(
                "the file to keep has parts of storages, of the format before PyTorch 1.6; save it anew"
            )
        record = self.files[str(key)]
        here = self.key((record.path, record.offset), record.bytes, lambda: bytes_of(record))
        return ("storage", storage, here, "cpu", record.bytes // element_bytes(DTYPE_OF_STORAGE[storage]))


class _Pickler(pickle.Pickler):
    """Protocol 2, which `torch.load(weights_only=True)` reads, with references in the place of storages."""

    def __init__(self, file: IO[bytes], storages: _Storages) -> None:
        super().__init__(file, protocol=2)
        self._storages = storages

    def persistent_id(self, obj: Any) -> Any:
        """Return what stands for a storage."""
        if isinstance(obj, Reference):
            return self._storages.reference(obj)
        if isinstance(obj, _Storage):
            one = obj.tensor
            return (
                "storage",
                STORAGE_OF_DTYPE[one.dtype],
                self._storages.key(one, one.bytes, one.chunks),
                "cpu",
                one.count,
            )
        return None

    def reducer_override(self, obj: Any) -> Any:
        """Return how PyTorch pickles what stands for it here."""
        if isinstance(obj, Fresh):
            strides = tuple(math.prod(obj.shape[axis + 1 :]) for axis in range(len(obj.shape)))
            return torch._utils._rebuild_tensor_v2, (_Storage(obj), 0, obj.shape, strides, False, OrderedDict())
        if isinstance(obj, Call):
            return obj.function, obj.arguments, obj.state
        if isinstance(obj, Ordered):
            return OrderedDict, (), obj.state, None, iter(obj.items())
        return NotImplemented


@dataclass(frozen=True, eq=False)
class _Storage:
    tensor: Fresh


def write_archive(file: IO[bytes] | Part, data: Any, kept: Mapping[str, Record], root: str = "archive") -> None:
    """Write a ZIP archive as `torch.save` does, the tensors piece by piece.

    Args:
        file: where; it can be read back and sought.
        data: plain data, `Fresh` tensors, and parts of the data of another file.
        kept: where the storages of those parts lie.
        root: the folder within the archive.

    Raises:
        CheckpointError: the data are too deep.
    """
    storages, buffer = _Storages(kept), io.BytesIO()
    try:
        _Pickler(buffer, storages).dump(data)
    except RecursionError:
        raise CheckpointError("the data are nested too deep to be written") from None
    with zipfile.ZipFile(cast("IO[bytes]", file), "w", zipfile.ZIP_STORED) as archive:
        _entry(archive, f"{root}/data.pkl", buffer.tell(), [buffer.getvalue()])
        _entry(archive, f"{root}/byteorder", 6, [b"little"])
        for key, (size, chunks) in enumerate(storages.entries):
            _entry(archive, f"{root}/data/{key}", size, chunks())
        _entry(archive, f"{root}/version", 2, [b"3\n"])


# Storages begin at multiples of it, so that a mapped file has aligned tensors.
_ALIGNMENT: Final = 64
# An entry of the extra field has an identifier and a length before its content; PyTorch pads with one that it calls FB.
_EXTRA: Final = struct.Struct("<2sH")
# What the standard library adds to the header of an entry that may be larger than 4 GiB.
_ZIP64_BYTES: Final = 20


def _entry(archive: zipfile.ZipFile, name: str, size: int, chunks: Iterable[bytes | memoryview]) -> None:
    entry = zipfile.ZipInfo(name)
    large = size >= zipfile.ZIP64_LIMIT
    assert archive.fp is not None
    before = archive.fp.tell() + LOCAL_HEADER.size + len(name.encode()) + _ZIP64_BYTES * large + _EXTRA.size
    entry.extra = _EXTRA.pack(b"FB", -before % _ALIGNMENT) + b"Z" * (-before % _ALIGNMENT)
    with archive.open(entry, "w", force_zip64=large) as to:
        for chunk in chunks:
            to.write(chunk)
