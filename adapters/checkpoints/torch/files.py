"""The files of `torch.save`, read and written without loading a tensor.

Since PyTorch 1.6 such a file is a ZIP archive whose entries are not compressed: a pickle, and the elements of each
storage. Before, and with `_use_new_zipfile_serialization=False`, it is a sequence of pickles, followed by the storages.
The pickle says of each tensor which storage it is in, from where, in which shape and with which strides. Source:
`torch/serialization.py` of PyTorch 2.13.
"""

from __future__ import annotations

import codecs
import io
import math
import mmap
import struct
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import torch

from unirms.checkpoints.naming import plain
from unirms.checkpoints.tensors import PIECE_BYTES, Stored
from unirms.errors import CheckpointError

from .. import pickles
from ..pickles import Call, Reference
from ..spool import Spool

# Class of a storage -> dtype of its elements. Untyped ones hold bytes, and their tensors say the dtype.
_STORAGES: Final = {
    "Float": "float32",
    "Double": "float64",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
}
DTYPE_OF_STORAGE: Final = {
    torch.UntypedStorage: "uint8",
    **{getattr(torch, f"{name}Storage"): dtype for name, dtype in _STORAGES.items()},
}
STORAGE_OF_DTYPE: Final = {dtype: storage for storage, dtype in DTYPE_OF_STORAGE.items()}
_UTILS: Final = torch._utils
_TENSORS: Final = (_UTILS._rebuild_tensor, _UTILS._rebuild_tensor_v2, _UTILS._rebuild_tensor_v3)
_PARAMETERS: Final = (_UTILS._rebuild_parameter, _UTILS._rebuild_parameter_with_state)
_DTYPES: Final = {one: str(one).removeprefix("torch.") for one in vars(torch).values() if isinstance(one, torch.dtype)}

KNOWN: Final[Mapping[str, Any]] = {
    "collections.OrderedDict": OrderedDict,
    "collections.Counter": Counter,
    "builtins.set": set,
    "__builtin__.set": set,
    "builtins.complex": complex,
    "__builtin__.complex": complex,
    "builtins.bytearray": bytearray,
    "__builtin__.bytearray": bytearray,
    "_codecs.encode": codecs.encode,
    "torch.Size": torch.Size,
    "torch.device": torch.device,
    "torch.nn.parameter.Parameter": torch.nn.Parameter,
    "torch.storage.UntypedStorage": torch.UntypedStorage,
    "torch.serialization._get_layout": torch.serialization._get_layout,
    **{f"torch._utils.{function.__name__}": function for function in (*_TENSORS, *_PARAMETERS)},
    **{f"torch.{storage.__name__}": storage for storage in DTYPE_OF_STORAGE},
    **{str(dtype): dtype for dtype in _DTYPES},
}
"""What a pickle may name: a part of what `torch.load(weights_only=True)` knows, none of which is called here."""

# What the zipfile of the standard library raises at damaged archives.
_ZIP_ERRORS: Final = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
# The first pickle of the older format: PyTorch's magic number.
_MAGIC: Final = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


@dataclass(frozen=True)
class Record:
    """Where the elements of a storage lie: a file, the first byte, and the number of bytes."""

    path: Path
    offset: int
    bytes: int


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor in a file.

    Attributes:
        dtype: the name of its dtype, also of those that no state has.
        shape: the lengths of its axes.
        key: equal for tensors that are the same elements of a file.
        stored: given a spool, where it lies in C order: in the file, or in the spool.
    """

    dtype: str
    shape: tuple[int, ...]
    key: Any
    stored: Callable[[Spool], Stored]

    def element(self) -> float:
        """Return the only element of a tensor, as a number.

        Raises:
            CheckpointError: it has several, or is none of a real number; the file is too short.
        """
        lying = self.stored(Spool(Path()))  # which a single element never needs
        if lying.count != 1 or self.dtype.startswith("complex"):
            raise CheckpointError(f"{lying.path} is damaged: it has a tensor where a number should be")
        (data,) = bytes_of(Record(Path(lying.path), lying.offset, element_bytes(self.dtype)))
        return float(torch.frombuffer(bytearray(data), dtype=getattr(torch, self.dtype)).item())


@dataclass(frozen=True)
class TorchFile:
    """What is in a file of `torch.save`.

    Attributes:
        place: what it is called in messages.
        data: what was saved, as `pickles.load` gives it.
        records: where the storages lie, by their keys.
    """

    place: str
    data: Any
    records: Mapping[str, Record]

    def tensor(self, node: Any) -> Tensor | None:
        """Return the tensor that a part of the data is; None where it is none.

        Raises:
            CheckpointError: it does not lie within its storage.
        """
        while isinstance(node, Call) and node.function in _PARAMETERS and node.arguments:
            node = node.arguments[0]
        if not isinstance(node, Call) or node.function not in _TENSORS:
            return None
        try:
            return self._tensor(node)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            raise CheckpointError(f"{self.place} is damaged: it describes a tensor that cannot be") from None

    def _tensor(self, node: Call) -> Tensor:
        reference, start, size, strides, *rest = node.arguments
        kind, storage, key, _, count, *view = reference.id
        record = self.records[_key(key)]
        dtype = _DTYPES[rest[2]] if node.function is _UTILS._rebuild_tensor_v3 else DTYPE_OF_STORAGE[storage]
        metadata = rest[-1] if len(rest) == (4 if node.function is _UTILS._rebuild_tensor_v3 else 3) else None
        if metadata:
            raise CheckpointError(f"{self.place} has a tensor that is conjugated or negated later; save a copy of it")
        shape, steps, start = lengths(size), lengths(strides), _length(start)
        if view and view[0] is not None:
            start += _length(view[0][1])  # a storage that is a part of another, in the older format
        element = element_bytes(dtype)
        held = record.bytes // element
        last = start + sum((length - 1) * step for length, step in zip(shape, steps, strict=True))
        elements = math.prod(shape)
        if kind != "storage" or _length(count) * element_bytes(DTYPE_OF_STORAGE[storage]) > record.bytes:
            raise ValueError
        if elements and (last >= held or elements > held):
            raise ValueError
        place = Record(record.path, record.offset + start * element, elements * element)
        return Tensor(
            dtype,
            shape,
            (record.path, place.offset, dtype, shape, steps),
            lambda spool: _stored(place, dtype, shape, steps, spool),
        )


def read(path: Path) -> TorchFile:
    """Return what is in a file of `torch.save`.

    Raises:
        CheckpointError: it is none, is damaged, or needs more than tensors and plain data.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
        if start == _MAGIC:
            return _read_old(path)
        return read_archive(Record(path, 0, path.stat().st_size), path.name)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None


def read_archive(whole: Record, place: str) -> TorchFile:
    """Return what is in a ZIP archive of `torch.save`, which may be a part of a file.

    Raises:
        CheckpointError: it is none, is damaged, or needs more than tensors and plain data.
    """
    try:
        with Part(whole) as part, zipfile.ZipFile(part) as archive:
            found = {entry.filename: _record(part, entry, whole, place) for entry in archive.infolist()}
    except (zipfile.BadZipFile, *_ZIP_ERRORS):
        raise CheckpointError(f"{place} is damaged, or no file of torch.save") from None
    pickles_ = [name for name in found if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles_) != 1:
        raise CheckpointError(f"{place} is no file of torch.save: the archive has no data.pkl")
    root = pickles_[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in found:
        raise CheckpointError(f"{place} is a TorchScript program; save the state dictionaries of model and optimizer")
    if f"{root}byteorder" in found and content_of(found[f"{root}byteorder"], place) != b"little":
        raise CheckpointError(f"{place} was written on a big-endian machine; load and save it on a little-endian one")
    data = pickles.load(content_of(found[pickles_[0]], place), KNOWN, place)
    records = {name.removeprefix(f"{root}data/"): one for name, one in found.items() if name.startswith(f"{root}data/")}
    return TorchFile(place, data, records)


LOCAL_HEADER: Final = struct.Struct("<4s22xHH")


def _record(part: Part, entry: zipfile.ZipInfo, whole: Record, place: str) -> Record:
    """Return where the bytes of an entry are. The check sums are left alone: `torch.save` may write others."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise CheckpointError(f"{place} is no file of torch.save: an entry of the archive is compressed or encrypted")
    part.seek(entry.header_offset)
    magic, name, extra = LOCAL_HEADER.unpack(part.read(LOCAL_HEADER.size))
    offset = entry.header_offset + LOCAL_HEADER.size + name + extra
    if magic != b"PK\x03\x04" or offset + entry.file_size > whole.bytes:
        raise CheckpointError(f"{place} is damaged: {plain(entry.filename)} is not where the archive says")
    return Record(whole.path, whole.offset + offset, entry.file_size)


def content_of(record: Record, place: str) -> bytes:
    """Return what lies there: a pickle, or less.

    Raises:
        CheckpointError: it is too long for one.
    """
    if record.bytes > pickles.MOST_BYTES:
        raise CheckpointError(f"{place} has a pickle of {record.bytes} bytes, which is not read")
    with record.path.open("rb") as file:
        file.seek(record.offset)
        return file.read(record.bytes)


def _read_old(path: Path) -> TorchFile:
    """Return what is in a file of the format before PyTorch 1.6."""
    place = path.name
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        _, version, system, data, keys = (pickles.load(view, KNOWN, place) for _ in range(5))
        if version != 1001 or not isinstance(system, dict) or not isinstance(keys, list):
            raise CheckpointError(f"{place} is damaged, or no file of torch.save")
        if not system.get("little_endian", True):
            raise CheckpointError(
                f"{place} was written on a big-endian machine; load and save it on a little-endian one"
            )
        sizes = _element_sizes(data)
        records: dict[str, Record] = {}
        for key in keys:
            head = view.read(8)
            count = int.from_bytes(head, "little", signed=True)
            length = count * sizes.get(_key(key), 1)
            if len(head) < 8 or count < 0 or view.tell() + length > len(view):
                raise CheckpointError(f"{place} is damaged: it ends in the middle of a tensor")
            records[_key(key)] = Record(path, view.tell(), length)
            view.seek(length, io.SEEK_CUR)
    return TorchFile(place, data, records)


def _element_sizes(data: Any) -> dict[str, int]:
    """Return the bytes of an element by the keys of the storages; of those that no tensor is in, nothing."""
    sizes: dict[str, int] = {}
    for reference in references(data):
        named = reference.id
        if isinstance(named, tuple) and len(named) > 2 and isinstance(named[1], type) and named[1] in DTYPE_OF_STORAGE:
            sizes[_key(named[2])] = element_bytes(DTYPE_OF_STORAGE[named[1]])
    return sizes


def references(data: Any) -> Iterator[Reference]:
    """Yield all references in the data, each once."""
    todo, seen = [data], set()
    while todo:
        node = todo.pop()
        if id(node) in seen or isinstance(node, (str, bytes, int, float)):
            continue
        seen.add(id(node))
        if isinstance(node, Reference):
            yield node
        elif isinstance(node, dict):
            todo += [*node.values(), *node, getattr(node, "state", None)]
        elif isinstance(node, (list, tuple, set, frozenset)):
            todo += node
        elif isinstance(node, Call):
            todo += [node.arguments, node.state]


def _key(value: Any) -> str:
    if not isinstance(value, (str, int)):
        raise ValueError
    return str(value)


def _length(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError
    return value


def lengths(values: Any) -> tuple[int, ...]:
    """Return the lengths of axes, or other numbers >= 0; a `ValueError` or `TypeError` where they are none."""
    if isinstance(values, Call) and values.function is torch.Size:
        (values,) = values.arguments
    return tuple(_length(value) for value in values)


def element_bytes(dtype: str) -> int:
    """Return the bytes of an element of a dtype, by its name."""
    return int(getattr(torch, dtype).itemsize)


def _stored(place: Record, dtype: str, shape: tuple[int, ...], steps: tuple[int, ...], spool: Spool) -> Stored:
    """Return where a tensor lies in C order; one that has other strides is copied to the spool."""
    if _is_contiguous(shape, steps):
        return Stored(path=str(place.path), offset=place.offset, dtype=dtype, shape=shape)
    held = np.dtype("<f2" if dtype == "bfloat16" else dtype)  # of bfloat16 only the bytes are moved
    count = 1 + sum((length - 1) * step for length, step in zip(shape, steps, strict=True))
    flat = np.memmap(place.path, held, "r", place.offset, (count,))
    view = np.lib.stride_tricks.as_strided(flat, shape, [step * held.itemsize for step in steps], writeable=False)
    return spool.array(dtype, view)


def _is_contiguous(shape: tuple[int, ...], steps: tuple[int, ...]) -> bool:
    expected = 1
    for length, step in zip(reversed(shape), reversed(steps), strict=True):
        if length != 1 and step != expected:
            return 0 in shape
        expected *= length
    return True


class Part(io.RawIOBase):
    """A part of a file, as a file of its own that begins at 0; written to, it is the rest of the file."""

    def __init__(self, record: Record, file: IO[bytes] | None = None) -> None:
        self._file = file or record.path.open("rb", buffering=0)
        self._owned = file is None
        self._record = record
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def writable(self) -> bool:
        """Return whether it was opened over a file that is being written."""
        return not self._owned

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte of the part, and return its number."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._record.bytes}[whence]
        if start + offset < 0:
            raise ValueError("a place before the beginning")
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        """Return where it stands."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Return up to so many bytes, without making room for more than there are."""
        left = max(self._record.bytes - self._at, 0)
        return super().read(left if size < 0 else min(size, left)) or b""

    def readinto(self, buffer: Any) -> int:
        """Read up to the end of the part."""
        view = memoryview(buffer).cast("B")[: max(self._record.bytes - self._at, 0)]
        self._file.seek(self._record.offset + self._at)
        count = self._file.readinto(view)  # type: ignore[attr-defined]
        self._at += count
        return int(count)

    def write(self, data: Any) -> int:
        """Write all of it."""
        self._file.seek(self._record.offset + self._at)
        count = self._file.write(data)
        self._at += count
        return count

    def close(self) -> None:
        """Close the file if it was opened here."""
        if self._owned and not self.closed:
            self._file.close()
        super().close()


def bytes_of(record: Record) -> Iterator[bytes]:
    """Yield what lies there, piece by piece."""
    with record.path.open("rb") as file:
        file.seek(record.offset)
        left = record.bytes
        while left > 0:
            chunk = file.read(min(left, PIECE_BYTES))
            if not chunk:
                raise CheckpointError(f"{record.path} is damaged: it ends in the middle of a tensor")
            left -= len(chunk)
            yield chunk
