"""HDF5 as Keras writes it, read without the HDF5 library: where each dataset lies in its file.

The library (1.14.6) loops for ever, or takes gigabytes, on files with a few bytes changed. What Keras writes is a small
part of the format: groups as symbol tables, headers of version 1, and datasets in one piece, whose bytes lie in the
file as they are. The rest is refused: links, data in other files, and chunks, with or without compression. Source:
"HDF5 File Format Specification Version 3.0", the sections of which the functions name.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from unirms.checkpoints.naming import plain
from unirms.checkpoints.tensors import PIECE_BYTES, SIZES, Stored
from unirms.errors import CheckpointError

SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
_UNDEFINED: Final = 2**64 - 1
_DEEPEST: Final = 64
"""Groups in groups; those of Keras are as deep as its layers are nested."""
_LARGEST: Final = 1 << 24
"""16 MiB for one block of names or of attributes; names of a thousand layers take some 20 KiB."""
_IEEE: Final = {2: (5, 10), 4: (8, 23), 8: (11, 52)}
"""Bytes -> bits of the exponent and of the fraction."""
_SAVE_ANEW: Final = "save it anew with Keras"


@dataclass(frozen=True)
class Part:
    """An HDF5 file that is the whole of a file, or lies inside one.

    Attributes:
        path: the file.
        start: where in it the HDF5 file begins.
        length: how many bytes it has.
    """

    path: Path
    start: int
    length: int

    @classmethod
    def whole(cls, path: Path) -> Part:
        """Return all of a file."""
        return cls(path, 0, path.stat().st_size)


@dataclass(frozen=True)
class Dataset:
    """One dataset.

    Attributes:
        path: its name in the file, as "layers/dense/vars/0".
        dtype: a name as NumPy's, or "bfloat16"; "" of anything but numbers.
        shape: the lengths of its axes.
        file: the file on the disk.
        offset: where its bytes lie in that.
        swapped: whether its numbers are big-endian.
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset: int
    swapped: bool = False

    @property
    def is_tensor(self) -> bool:
        """Whether it has elements of floating point."""
        return self.dtype in SIZES

    def array(self) -> np.ndarray[Any, Any]:
        """Return the values of a small one that is not of bfloat16."""
        dtype = np.dtype(self.dtype).newbyteorder(">" if self.swapped else "<")
        with self.file.open("rb") as file:
            file.seek(self.offset)
            data = file.read(dtype.itemsize * math.prod(self.shape))
        return np.frombuffer(data, dtype).reshape(self.shape).astype(self.dtype)


@dataclass(frozen=True)
class Contents:
    """What is in a file.

    Attributes:
        part: the file.
        datasets: all of them by path.
        attributes: of all groups by path, those that are text.
    """

    part: Part
    datasets: Mapping[str, Dataset]
    attributes: Mapping[str, Mapping[str, str]]

    def under(self, group: str) -> list[Dataset]:
        """Return the datasets of a group whose names are numbers, in the order of the numbers."""
        found = {path: one for path, one in self.datasets.items() if path.rpartition("/")[0] == group}
        numbered = [one for path, one in found.items() if path.rpartition("/")[2].isdecimal()]
        return sorted(numbered, key=lambda one: int(one.path.rpartition("/")[2]))

    def text(self, group: str, name: str) -> str:
        """Return an attribute of a group; "" where there is none."""
        return self.attributes.get(group, {}).get(name, "")


def contents(part: Part) -> Contents:
    """Return what is in a file.

    Raises:
        CheckpointError: it is damaged or refused.
    """
    datasets: dict[str, Dataset] = {}
    attributes: dict[str, Mapping[str, str]] = {}
    try:
        with part.path.open("rb") as raw:
            file = _File(raw, part)
            for path, header in _objects(file):
                if header.symbols is not None:
                    attributes[path] = header.text
                else:
                    datasets[path] = _dataset(path, header, file)
    except OSError as error:
        raise CheckpointError(f"{part.path} cannot be read: {error.strerror}") from None
    except (ValueError, IndexError, struct.error) as error:
        raise CheckpointError(f"{part.path} is damaged, or no HDF5 file of Keras: {plain(str(error))}") from None
    return Contents(part, datasets, attributes)


def stored(one: Dataset, spool: Path) -> Stored:
    """Return where a tensor lies: in its file, or turned into little-endian numbers in `spool`."""
    here = Stored(path=str(one.file), offset=one.offset, dtype=one.dtype, shape=one.shape)
    if not one.swapped:
        return here
    with (spool / "tensors").open("ab") as file, one.file.open("rb") as raw:
        offset = file.tell()
        raw.seek(one.offset)
        width, left = SIZES[one.dtype], here.bytes
        while left and (piece := raw.read(min(left, PIECE_BYTES))):
            file.write(np.frombuffer(piece, f">u{width}").astype(f"<u{width}").tobytes())
            left -= len(piece)
    return Stored(path=str(spool / "tensors"), offset=offset, dtype=one.dtype, shape=one.shape)


class _File:
    """The bytes of an HDF5 file by their addresses in it."""

    def __init__(self, raw: Any, part: Part) -> None:
        self._raw, self.part = raw, part

    def at(self, address: int, count: int) -> bytes:
        """Return some bytes.

        Raises:
            ValueError: they are not all there, or are too many.
        """
        if address < 0 or count > _LARGEST or address + count > self.part.length:
            raise ValueError(f"{count} bytes at {address} are not there")
        self._raw.seek(self.part.start + address)
        data: bytes = self._raw.read(count)
        if len(data) != count:
            raise ValueError(f"{count} bytes at {address} are not there")
        return data

    def block(self, address: int, signature: bytes, count: int) -> bytes:
        """Return some bytes that begin with a signature."""
        data = self.at(address, count)
        if not data.startswith(signature):
            raise ValueError(f"no {signature.decode()} at {address}")
        return data

    def root(self) -> int:
        """Return the address of the first header: section II.A, a superblock of version 0 or 1."""
        data = self.at(0, 104)
        if not data.startswith(SIGNATURE):
            raise ValueError("it does not begin as an HDF5 file does")
        version, widths = data[8], (data[13], data[14])
        if version > 1 or widths != (8, 8):
            raise ValueError(f"a superblock of version {version}, which Keras does not write; {_SAVE_ANEW}")
        more = 4 * version
        base: int = struct.unpack_from("<Q", data, 24 + more)[0]
        if base:
            raise ValueError("its addresses do not begin at 0")
        address: int = struct.unpack_from("<Q", data, 64 + more)[0]
        return address


@dataclass
class _Header:
    """What the header of an object says: section IV.A.

    Attributes:
        symbols: of a group: where its table and its names are.
        shape: of a dataset,
        kind: its datatype,
        place: and where its bytes are, and how many.
        text: attributes that are text.
    """

    symbols: tuple[int, int] | None = None
    shape: tuple[int, ...] | None = None
    kind: bytes = b""
    place: tuple[int, int] | None = None
    text: dict[str, str] = field(default_factory=dict)


def _objects(file: _File) -> Iterator[tuple[str, _Header]]:
    """Yield every group and dataset with its path; outer ones first."""
    waiting, seen = [("", file.root())], set()
    while waiting:
        path, address = waiting.pop()
        if address in seen:
            raise ValueError(f"{path!r} is a second name of something else, which is refused")
        seen.add(address)
        if path.count("/") > _DEEPEST:
            raise ValueError(f"its groups are nested deeper than {_DEEPEST}")
        header = _header(file, address)
        yield path, header
        if header.symbols is not None:
            for name, inner in reversed(list(_entries(file, *header.symbols))):
                waiting.append((f"{path}/{name}" if path else name, inner))


def _header(file: _File, address: int) -> _Header:
    start = file.at(address, 16)
    if start[0] != 1:
        raise ValueError(f"an object of a version that Keras does not write; {_SAVE_ANEW}")
    found = _Header()
    blocks, seen = [(address + 16, struct.unpack_from("<I", start, 8)[0])], {address}
    while blocks:
        block = file.at(*blocks.pop())
        position = 0
        while position + 8 <= len(block):
            kind, size, flags = struct.unpack_from("<HHB", block, position)
            data = block[position + 8 : position + 8 + size]
            if len(data) != size:
                raise ValueError("a message is longer than its block")
            position += 8 + size
            if kind == 0x10:
                more = struct.unpack_from("<QQ", data)
                if more[0] in seen:
                    raise ValueError("a header that goes round")
                seen.add(more[0])
                blocks.append(more)
            elif kind and flags & 2:
                raise ValueError("a message that is somewhere else, which is refused")
            else:
                _take(file, found, kind, data)
    return found


def _take(file: _File, found: _Header, kind: int, data: bytes) -> None:
    """Take note of one message of a header."""
    if kind == 0x01:
        found.shape = _shape(data)
    elif kind == 0x03:
        found.kind = data
    elif kind == 0x08:
        found.place = _place(data)
    elif kind == 0x0C:
        name, value = _attribute(file, data)
        if value is not None:
            found.text[name] = value
    elif kind == 0x11:
        found.symbols = struct.unpack_from("<QQ", data)
    elif kind in {0x02, 0x06, 0x07, 0x0B}:
        what = {0x07: "data in another file", 0x0B: "compressed data"}.get(
            kind, "a group of a newer version, or a link"
        )
        raise ValueError(f"{what}, which Keras does not write and unirms refuses; {_SAVE_ANEW}")


def _entries(file: _File, tree: int, heap: int) -> Iterator[tuple[str, int]]:
    """Yield the names in a group and where their headers are: sections III.A to III.D."""
    head = file.block(heap, b"HEAP", 32)
    size, _, place = struct.unpack_from("<QQQ", head, 8)
    names = file.at(place, size)
    waiting, seen = [tree], set()
    while waiting:
        address = waiting.pop()
        if address in seen:
            raise ValueError("a table that goes round")
        seen.add(address)
        kind, level, count = struct.unpack_from("<BBH", file.block(address, b"TREE", 24), 4)
        if kind != 0:
            raise ValueError("a table of something else than names")
        keys = struct.unpack(f"<{2 * count + 1}Q", file.at(address + 24, 16 * count + 8))
        if level:
            waiting += reversed(keys[1::2])
            continue
        for leaf in keys[1::2]:
            held = struct.unpack_from("<H", file.block(leaf, b"SNOD", 8), 6)[0]
            for entry in struct.iter_unpack("<QQI20x", file.at(leaf + 8, 40 * held)):
                start, header, link = entry
                name = names[start : names.index(b"\0", start)].decode()
                if link == 2:
                    raise ValueError(f"{name!r} is a link to another place, which is refused")
                if not name or "/" in name or name in {".", ".."}:
                    raise ValueError(f"{name!r} is no name of a group or a dataset")
                yield name, header


def _shape(data: bytes) -> tuple[int, ...] | None:
    """Return a dataspace, None of an empty one: section IV.A.2.b."""
    version, rank = data[0], data[1]
    if version not in {1, 2} or rank > 32:
        raise ValueError("a dataspace of an unknown version")
    if version == 2 and data[3] == 2:
        return None
    return struct.unpack_from(f"<{rank}Q", data, 8 if version == 1 else 4)


def _place(data: bytes) -> tuple[int, int]:
    """Return where the bytes of a dataset are, and how many: section IV.A.2.i, layouts of version 3."""
    version, kind = data[0], data[1]
    if version != 3 or kind != 1:
        raise ValueError(f"a dataset in chunks, or of another layout that Keras does not write; {_SAVE_ANEW}")
    address, size = struct.unpack_from("<QQ", data, 2)
    return address, size


def _attribute(file: _File, data: bytes) -> tuple[str, str | None]:
    """Return the name of an attribute, and its value where that is one text: section IV.A.2.m."""
    version = data[0]
    if version not in {1, 2, 3}:
        raise ValueError("an attribute of an unknown version")
    lengths = struct.unpack_from("<3H", data, 2)
    position, parts = (9 if version == 3 else 8), []
    for length in lengths:
        parts.append(data[position : position + length])
        position += -(-length // 8) * 8 if version == 1 else length
    name, kind, space = parts
    value, shape = data[position:], _shape(space)
    text = None
    if shape == () and kind[0] & 15 == 3:
        text = value[: struct.unpack_from("<I", kind, 4)[0]]
    elif shape == () and kind[0] & 15 == 9 and kind[1] & 15 == 1:
        length, address, index = struct.unpack_from("<IQI", value)
        text = _global(file, address, index)[:length]
    return name.rstrip(b"\0").decode(), None if text is None else text.rstrip(b"\0").decode()


def _global(file: _File, address: int, index: int) -> bytes:
    """Return an object of the global heap: section III.E."""
    size: int = struct.unpack_from("<Q", file.block(address, b"GCOL", 16), 8)[0]
    heap = file.at(address, size)
    position = 16
    while position + 16 <= len(heap):
        number, length = struct.unpack_from("<H6xQ", heap, position)
        if number == 0:
            break
        if number == index:
            return heap[position + 16 : position + 16 + length]
        position += 16 + -(-length // 8) * 8
    raise ValueError("an attribute whose text is not there")


def _dataset(path: str, header: _Header, file: _File) -> Dataset:
    """Return a dataset whose bytes are all in the file."""
    if header.place is None or not header.kind:
        raise ValueError(f"{path!r} is neither a group nor a dataset")
    shape = header.shape if header.shape is not None else (0,)
    width: int = struct.unpack_from("<I", header.kind, 4)[0]
    dtype, swapped = _dtype(header, width)
    address, held = header.place
    size = width * math.prod(shape)
    if size == 0:
        return Dataset(path, dtype, shape, file.part.path, file.part.start, swapped)
    if address == _UNDEFINED or held != size or address + size > file.part.length:
        raise ValueError(f"{path!r} should have {size} bytes at {address}, which are not there")
    return Dataset(path, dtype, shape, file.part.path, file.part.start + address, swapped)


def _dtype(header: _Header, width: int) -> tuple[str, bool]:
    """Return the name of a datatype, "" of one that is none of numbers, and whether it is big-endian: IV.A.2.d."""
    kind, bits = header.kind[0] & 15, header.kind[1]
    if kind == 0 and width in {1, 2, 4, 8}:
        return f"{'int' if bits & 8 else 'uint'}{8 * width}", bool(bits & 1)
    if kind == 1 and _IEEE.get(width) == (header.kind[13], header.kind[15]):
        return f"float{8 * width}", bool(bits & 1)
    # HDF5 has no bfloat16: Keras writes two bytes and says in an attribute what they are.
    if kind == 5 and width == 2 and header.text.get("dtype") == "bfloat16":
        return "bfloat16", False
    return "", False
