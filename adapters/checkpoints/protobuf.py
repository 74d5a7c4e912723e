"""Protocol buffers: the fields of a message, read and written. Source: https://protobuf.dev/programming-guides/encoding/."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

VARINT, _EIGHT, BYTES, _FOUR = 0, 1, 2, 5
"""How the value of a field is encoded: the lower three bits of what stands before it."""
_WIDTHS: Final = {_EIGHT: 8, _FOUR: 4}


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each field of a protocol buffer: integers, and bytes of whatever has a length.

    Raises:
        ValueError: it is none.
    """
    position = 0
    while position < len(data):
        tag, position = varint(data, position)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, position = varint(data, position)
            yield number, value
            continue
        if kind == BYTES:
            length, position = varint(data, position)
        elif kind in _WIDTHS:
            length = _WIDTHS[kind]
        else:
            raise ValueError("a field of an unknown kind")
        if position + length > len(data):
            raise ValueError("a field that is longer than its message")
        yield number, data[position : position + length]
        position += length


def first(data: bytes) -> dict[int, Any]:
    """Return the fields of a message by number, of repeated ones the last.

    Raises:
        ValueError: it is none.
    """
    return dict(fields(data))


def varint(data: bytes, position: int) -> tuple[int, int]:
    """Return an integer in groups of seven bits, and where it ends.

    Raises:
        IndexError: the data end before it does.
        ValueError: it has more than 64 bits.
    """
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("an integer of more than 64 bits")


def as_varint(number: int) -> bytes:
    """Return an integer in groups of seven bits, the lowest first."""
    data = bytearray()
    while number >= 0x80:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])


def integer(number: int, value: int, *, always: bool = False) -> bytes:
    """Return a field that is an integer; nothing for 0, which a field has that is not there, except `always`."""
    return as_varint(number << 3 | VARINT) + as_varint(value) if value or always else b""


def fixed32(number: int, value: int) -> bytes:
    """Return a field of four bytes; nothing for 0."""
    return as_varint(number << 3 | _FOUR) + struct.pack("<I", value) if value else b""


def message(number: int, data: bytes) -> bytes:
    """Return a field that is a message, or text."""
    return message_head(number, len(data)) + data


def message_head(number: int, length: int) -> bytes:
    """Return what stands before the `length` bytes of a message, text or bytes."""
    return as_varint(number << 3 | BYTES) + as_varint(length)
