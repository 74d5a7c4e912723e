"""TensorFlow's checkpoints of version 2, read without TensorFlow: an index, and data files of raw tensors.

Source: `tensorflow/core/util/tensor_bundle/tensor_bundle.h` and `tensor_bundle.proto`. The index is a table of LevelDB
(`doc/table_format.md` there), from the name of a tensor to where its bytes lie; each of its blocks has a checksum.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from unirms.checkpoints.naming import plain
from unirms.checkpoints.tensors import SIZES, Stored
from unirms.errors import CheckpointError

INDEX: Final = ".index"
_DTYPES: Final = {1: "float32", 2: "float64", 8: "complex64", 14: "bfloat16", 18: "complex128", 19: "float16"}
_INTEGERS: Final = {
    **{3: ("int32", 4), 4: ("uint8", 1), 5: ("int16", 2), 6: ("int8", 1), 9: ("int64", 8), 10: ("bool", 1)},
    **{17: ("uint16", 2), 22: ("uint32", 4), 23: ("uint64", 8)},
}
_STRING: Final = 7
_MAGIC: Final = 0xDB4775248B80FB57
_FOOTER: Final = 48
_LARGEST_INDEX: Final = 1 << 28
"""256 MiB; an entry takes some hundred bytes."""


@dataclass(frozen=True)
class Entry:
    """One tensor.

    Attributes:
        name: its key.
        dtype: the name of its dtype; integers, "bool" and "string" too, and "" of others.
        shape: the lengths of its axes.
        path: the data file.
        offset: where in it the tensor is,
        size: and how many bytes it has.
        whole: whether it lies there in one piece, and not as parts of a partitioned variable.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int
    size: int
    whole: bool

    @property
    def is_tensor(self) -> bool:
        """Whether it is a tensor of floating point in one piece."""
        return self.dtype in SIZES and self.whole

    def stored(self) -> Stored:
        """Return where it lies."""
        return Stored(path=str(self.path), offset=self.offset, dtype=self.dtype, shape=self.shape)

    def content(self) -> bytes:
        """Return its bytes.

        Raises:
            CheckpointError: its file is shorter.
        """
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) != self.size:
            raise CheckpointError(f"{self.path} is damaged: {plain(self.name)!r} ends after the end of the file")
        return data

    def array(self) -> np.ndarray[Any, Any]:
        """Return it where it is of whole numbers or of booleans, as counts and seeds.

        Raises:
            CheckpointError: it is of something else.
        """
        if self.dtype in {"", "string"} or not self.whole:
            raise CheckpointError(f"{plain(self.name)!r} is no tensor that can be kept; save the checkpoint without it")
        return np.frombuffer(self.content(), np.dtype(self.dtype).newbyteorder("<")).reshape(self.shape)

    def integer(self) -> int:
        """Return the value of an integer scalar.

        Raises:
            CheckpointError: it is none.
        """
        if self.dtype not in {"int32", "int64"} or self.shape:
            raise CheckpointError(f"{plain(self.name)!r} is {self.dtype} of {self.shape}, and no count")
        return int.from_bytes(self.content(), "little", signed=True)

    def text(self) -> bytes:
        """Return the value of a string scalar: its length, four bytes of checksum, and itself.

        Raises:
            CheckpointError: it is none.
        """
        data = self.content()
        length, start = _varint(data, 0)
        if self.dtype != "string" or self.shape or start + 4 + length != len(data):
            raise CheckpointError(f"{plain(self.name)!r} is damaged, or no text")
        return data[start + 4 :]


def prefix_of(path: Path) -> Path:
    """Return the prefix of a checkpoint that is given as such, as its index, or as the folder that it is in.

    Raises:
        CheckpointError: there is no such checkpoint, or the folder has several and does not say which is the last.
    """
    if path.name.endswith(INDEX):
        return path.with_name(path.name[: -len(INDEX)])
    if not path.is_dir():
        return path
    found = sorted(one.name[: -len(INDEX)] for one in path.glob(f"*{INDEX}"))
    if len(found) > 1:
        latest = _latest(path / "checkpoint")
        found = [name for name in found if name == latest]
    if len(found) != 1:
        raise CheckpointError(f"{path} has no checkpoint, or several; name one by its prefix, as {path}/ckpt-1")
    return path / found[0]


def entries(prefix: Path) -> dict[str, Entry]:
    """Return all tensors of a checkpoint by key, their places checked against the sizes of the files.

    Raises:
        CheckpointError: it is damaged or refused.
    """
    index = prefix.with_name(prefix.name + INDEX)
    try:
        if index.stat().st_size > _LARGEST_INDEX:
            raise CheckpointError(f"{index} has {index.stat().st_size} bytes, more than any index")
        pairs = dict(_table(index.read_bytes()))
        header = _first(pairs.pop(b""))
        shards, big_endian = header.get(1, 0), header.get(2, 0)
        if big_endian or not isinstance(shards, int):
            raise CheckpointError(f"{index} is of a big-endian machine, whose numbers are not read")
        sizes: dict[int, tuple[Path, int]] = {}
        found = {}
        for key, value in pairs.items():
            one = _entry(prefix, key.decode(), value, shards, sizes)
            found[one.name] = one
        return found
    except OSError as error:
        raise CheckpointError(f"{error.filename} cannot be read: {error.strerror}") from None
    except (KeyError, ValueError, IndexError, TypeError, struct.error) as error:
        raise CheckpointError(f"{index} is damaged, or no index of TensorFlow: {plain(str(error))}") from None


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each field of a protocol buffer: integers, and bytes of whatever has a length.

    Raises:
        ValueError: it is none.
    """
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, position = _varint(data, position)
            yield number, value
            continue
        if kind == 2:
            length, position = _varint(data, position)
        elif kind in {1, 5}:
            length = 8 if kind == 1 else 4
        else:
            raise ValueError("a field of an unknown kind")
        if position + length > len(data):
            raise ValueError("a field that is longer than its message")
        yield number, data[position : position + length]
        position += length


def _entry(prefix: Path, name: str, data: bytes, shards: int, sizes: dict[int, tuple[Path, int]]) -> Entry:
    held = _first(data)
    shard, offset, size, code = (held.get(number, 0) for number in (3, 4, 5, 1))
    if not 0 <= shard < shards:
        raise ValueError(f"{name!r} is in data file {shard} of {shards}")
    if shard not in sizes:
        path = prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}")
        sizes[shard] = path, path.stat().st_size
    path, length = sizes[shard]
    shape = _shape(held.get(2, b""))
    dtype, width = _DTYPES.get(code, ""), SIZES.get(_DTYPES.get(code, ""), 0)
    if code in _INTEGERS:
        dtype, width = _INTEGERS[code]
    whole = 7 not in held
    if offset + size > length or (width and whole and size != width * math.prod(shape)):
        raise ValueError(f"{name!r} has {size} bytes at {offset} of {length} for a shape {shape}")
    return Entry(name, "string" if code == _STRING else dtype, shape, path, offset, size, whole)


def _shape(data: bytes) -> tuple[int, ...]:
    """Return a TensorShapeProto."""
    lengths = []
    for number, value in fields(data):
        if number == 2:
            length = _first(value).get(1, 0)
            if not isinstance(length, int) or length >= 1 << 62:  # -1, as unsigned, is an unknown length
                raise ValueError("a shape that is not known")
            lengths.append(length)
    return tuple(lengths)


def _first(data: bytes) -> dict[int, Any]:
    """Return the fields of a message by number, of repeated ones the last."""
    return dict(fields(data))


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of a LevelDB table."""
    footer = data[-_FOOTER:]
    if len(footer) < _FOOTER or struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
        raise ValueError("it does not end as a table does")
    position = _handle(footer, 0)[2]
    offset, size, _ = _handle(footer, position)
    for _, place in _block(data, offset, size):
        start, length, _ = _handle(place, 0)
        yield from _block(data, start, length)


def _handle(data: bytes, position: int) -> tuple[int, int, int]:
    offset, position = _varint(data, position)
    size, position = _varint(data, position)
    return offset, size, position


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of one block, each key written as what it shares with the one before and its rest."""
    if offset + size + 5 > len(data):
        raise ValueError("a block ends after the end of the file")
    packed, stated = struct.unpack("<BI", data[offset + size : offset + size + 5])
    if stated != _masked(_crc(data[offset : offset + size + 1])):
        raise ValueError("a block does not have its checksum")
    if packed:
        raise ValueError("it is compressed")
    block = data[offset : offset + size]
    end = size - 4 * (struct.unpack("<I", block[-4:])[0] + 1)
    position, key = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        rest, position = _varint(block, position)
        length, position = _varint(block, position)
        if shared > len(key) or position + rest + length > end:
            raise ValueError("a key is longer than its block")
        key = key[:shared] + block[position : position + rest]
        position += rest
        yield key, block[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Return an integer in groups of seven bits, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("an integer of more than 64 bits")


def _table_of_crc() -> tuple[int, ...]:
    rows = []
    for byte in range(256):
        row = byte
        for _ in range(8):
            row = row >> 1 ^ (0x82F63B78 if row & 1 else 0)
        rows.append(row)
    return tuple(rows)


_CRC: Final[tuple[int, ...]] = _table_of_crc()


def _crc(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of some bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _masked(crc: int) -> int:
    """Return a checksum as LevelDB keeps it."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _latest(state: Path) -> str:
    """Return the last name of the newest checkpoint that TensorFlow's own list of them has; it is not followed."""
    try:
        found = re.search(rb'^model_checkpoint_path: "(.*)"$', state.read_bytes()[:100_000], re.MULTILINE)
    except OSError:
        return ""
    return "" if found is None else found.group(1).decode(errors="replace").rpartition("/")[2]


def by_prefix(found: Mapping[str, Entry], suffix: str) -> dict[str, Entry]:
    """Return the entries whose key ends so, by what stands before."""
    return {name[: -len(suffix)]: one for name, one in found.items() if name.endswith(suffix)}
