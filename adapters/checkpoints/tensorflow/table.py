"""LevelDB's tables, in which TensorFlow keeps the index of a checkpoint: sorted keys with their values, in blocks.

A block has keys written as what they share with the one before and the rest, the places of those that are written in
full (restart points), by which readers search it, and a checksum. The index of the table has the last key of each
block, and the footer says where that index is. Source: `doc/table_format.md` of https://github.com/google/leveldb, and
`tensorflow/core/lib/io/` (`table_builder.cc`, `block_builder.cc`, `format.cc`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import IO, Final

from ..protobuf import as_varint, varint

MAGIC: Final = 0xDB4775248B80FB57
_FOOTER: Final = 48
_TRAILER: Final = struct.Struct("<BI")
"""After each block: 0 for one that is not compressed, and the checksum of it and of that byte."""
_BLOCK_BYTES: Final = 262_144
"""Where a block is full: `block_size` in `table_options.h`."""
_RESTARTS: Final = 16
"""Of so many keys one is written in full: `block_restart_interval` there; of the index, each."""


def read(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of a table.

    Raises:
        ValueError, IndexError, struct.error: it is damaged, or no table.
    """
    footer = data[-_FOOTER:]
    if len(footer) < _FOOTER or struct.unpack("<Q", footer[-8:])[0] != MAGIC:
        raise ValueError("it does not end as a table does")
    position = _handle(footer, 0)[2]
    offset, size, _ = _handle(footer, position)
    for _, place in _block(data, offset, size):
        start, length, _ = _handle(place, 0)
        yield from _block(data, start, length)


def write(file: IO[bytes], pairs: Sequence[tuple[bytes, bytes]]) -> None:
    """Write a table.

    Args:
        file: an empty one.
        pairs: keys and values; the keys in ascending order, each once.
    """
    index = []
    for block in _blocks(pairs):
        index.append((block[-1][0], _append(file, _packed(block, _RESTARTS))))
    meta = _append(file, _packed([], _RESTARTS))  # statistics, of which there are none
    ends = meta + _append(file, _packed(index, 1))
    file.write(ends.ljust(_FOOTER - 8, b"\0") + struct.pack("<Q", MAGIC))


def masked(crc: int) -> int:
    """Return a CRC as it stands in files: a CRC of data that has CRCs in it is a weak one."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def checksum(data: bytes) -> int:
    """Return the masked CRC-32C (Castagnoli) of a few bytes, so that reading takes no package for it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ crc >> 8
    return masked(crc ^ 0xFFFFFFFF)


def _table_of_crc() -> tuple[int, ...]:
    rows = []
    for byte in range(256):
        row = byte
        for _ in range(8):
            row = row >> 1 ^ (0x82F63B78 if row & 1 else 0)
        rows.append(row)
    return tuple(rows)


_CRC: Final[tuple[int, ...]] = _table_of_crc()


def _handle(data: bytes, position: int) -> tuple[int, int, int]:
    """Return offset and size of a block, and where the two end."""
    offset, position = varint(data, position)
    size, position = varint(data, position)
    return offset, size, position


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of one block."""
    if offset + size + _TRAILER.size > len(data):
        raise ValueError("a block ends after the end of the file")
    packed, stated = _TRAILER.unpack_from(data, offset + size)
    if stated != checksum(data[offset : offset + size + 1]):
        raise ValueError("a block does not have its checksum")
    if packed:
        raise ValueError("it is compressed")
    block = data[offset : offset + size]
    end = size - 4 * (struct.unpack("<I", block[-4:])[0] + 1)
    position, key = 0, b""
    while position < end:
        shared, position = varint(block, position)
        rest, position = varint(block, position)
        length, position = varint(block, position)
        if shared > len(key) or position + rest + length > end:
            raise ValueError("a key is longer than its block")
        key = key[:shared] + block[position : position + rest]
        position += rest
        yield key, block[position : position + length]
        position += length


def _blocks(pairs: Sequence[tuple[bytes, bytes]]) -> Iterator[Sequence[tuple[bytes, bytes]]]:
    """Yield as many pairs together as fill a block."""
    start = size = 0
    for end, (key, value) in enumerate(pairs, 1):
        size += len(key) + len(value)
        if size >= _BLOCK_BYTES or end == len(pairs):
            yield pairs[start:end]
            start, size = end, 0


def _packed(pairs: Sequence[tuple[bytes, bytes]], interval: int) -> bytes:
    """Return a block."""
    block, starts, before = bytearray(), [0], b""
    for count, (key, value) in enumerate(pairs):
        shared = 0
        if count % interval:
            shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, key, strict=False)))
        elif count:
            starts.append(len(block))
        block += b"".join(map(as_varint, (shared, len(key) - shared, len(value)))) + key[shared:] + value
        before = key
    return bytes(block) + struct.pack(f"<{len(starts) + 1}I", *starts, len(starts))


def _append(file: IO[bytes], block: bytes) -> bytes:
    """Write a block and its trailer; return where it is: offset and size."""
    place = as_varint(file.tell()) + as_varint(len(block))
    file.write(block + _TRAILER.pack(0, checksum(block + b"\0")))
    return place
