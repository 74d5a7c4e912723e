"""TensorFlow's checkpoints of version 2, read without TensorFlow: an index, and data files of raw tensors.

Source: `tensorflow/core/util/tensor_bundle/tensor_bundle.h` and `tensor_bundle.proto`. The index is a table of
LevelDB, from the name of a tensor to where its bytes lie.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from unirms.checkpoints.naming import plain
from unirms.checkpoints.tensors import PIECE_BYTES, SIZES, Stored
from unirms.errors import CheckpointError

from ..protobuf import fields, first, varint
from . import table

INDEX: Final = ".index"
_DTYPES: Final = {1: "float32", 2: "float64", 8: "complex64", 14: "bfloat16", 18: "complex128", 19: "float16"}
_INTEGERS: Final = {
    **{3: ("int32", 4), 4: ("uint8", 1), 5: ("int16", 2), 6: ("int8", 1), 9: ("int64", 8), 10: ("bool", 1)},
    **{17: ("uint16", 2), 22: ("uint32", 4), 23: ("uint64", 8)},
}
_STRING: Final = 7
CODES: Final = {
    **{dtype: code for code, dtype in _DTYPES.items()},
    **{dtype: code for code, (dtype, _) in _INTEGERS.items()},
    "string": _STRING,
}
"""The numbers of dtypes, `DataType` in `types.proto`, of those that are kept."""
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
        checksum: the masked CRC-32C that is stated of it.
        whole: whether it lies there in one piece, and not as parts of a partitioned variable.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int
    size: int
    checksum: int
    whole: bool

    @property
    def is_tensor(self) -> bool:
        """Whether it is a tensor of floating point in one piece."""
        return self.dtype in SIZES and self.whole

    def stored(self) -> Stored:
        """Return where it lies."""
        return Stored(path=str(self.path), offset=self.offset, dtype=self.dtype, shape=self.shape)

    def bytes_of_pieces(self) -> Iterator[memoryview]:
        """Yield its bytes as they are in the file.

        Raises:
            CheckpointError: the file is shorter.
        """
        left = self.size
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.offset)
            while left:
                piece = file.read(min(left, PIECE_BYTES))
                if not piece:
                    raise CheckpointError(
                        f"{self.path} is damaged: {plain(self.name)!r} ends after the end of the file"
                    )
                left -= len(piece)
                yield memoryview(piece)

    def integer(self) -> int:
        """Return the value of an integer scalar.

        Raises:
            CheckpointError: it is none.
        """
        if self.dtype not in {"int32", "int64"} or self.shape:
            raise CheckpointError(f"{plain(self.name)!r} is {self.dtype} of {self.shape}, and no count")
        return int.from_bytes(b"".join(self.bytes_of_pieces()), "little", signed=True)

    def text(self) -> bytes:
        """Return the value of a string scalar: its length, four bytes of checksum of that, and itself.

        Raises:
            CheckpointError: it is none.
        """
        data = b"".join(self.bytes_of_pieces())
        length, start = varint(data, 0) if data else (0, 0)
        if self.dtype != "string" or self.shape or start + 4 + length != len(data):
            raise CheckpointError(f"{plain(self.name)!r} is damaged, or no text")
        # The checksum is not of the length as it stands there, but of an integer of four bytes.
        if table.checksum(struct.pack("<I", length) + data[start:]) != self.checksum:
            raise CheckpointError(f"{self.path} is damaged: {plain(self.name)!r} does not have its checksum")
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
        pairs = dict(table.read(index.read_bytes()))
        header = first(pairs.pop(b""))
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


def data_file(prefix: Path, number: int, count: int) -> Path:
    """Return the path of one of so many data files of a checkpoint."""
    return prefix.with_name(f"{prefix.name}.data-{number:05d}-of-{count:05d}")


def _entry(prefix: Path, name: str, data: bytes, shards: int, sizes: dict[int, tuple[Path, int]]) -> Entry:
    held = first(data)
    shard, offset, size, code = (held.get(number, 0) for number in (3, 4, 5, 1))
    if not 0 <= shard < shards:
        raise ValueError(f"{name!r} is in data file {shard} of {shards}")
    if shard not in sizes:
        path = data_file(prefix, shard, shards)
        sizes[shard] = path, path.stat().st_size
    path, length = sizes[shard]
    shape = _shape(held.get(2, b""))
    dtype, width = _DTYPES.get(code, ""), SIZES.get(_DTYPES.get(code, ""), 0)
    if code in _INTEGERS:
        dtype, width = _INTEGERS[code]
    whole = 7 not in held
    if offset + size > length or (width and whole and size != width * math.prod(shape)):
        raise ValueError(f"{name!r} has {size} bytes at {offset} of {length} for a shape {shape}")
    checksum = int.from_bytes(held.get(6, b""), "little")
    return Entry(name, "string" if code == _STRING else dtype, shape, path, offset, size, checksum, whole)


def _shape(data: bytes) -> tuple[int, ...]:
    """Return a TensorShapeProto."""
    lengths = []
    for number, value in fields(data):
        if number == 2:
            length = first(value).get(1, 0)
            if not isinstance(length, int) or length >= 1 << 62:  # -1, as unsigned, is an unknown length
                raise ValueError("a shape that is not known")
            lengths.append(length)
    return tuple(lengths)


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
