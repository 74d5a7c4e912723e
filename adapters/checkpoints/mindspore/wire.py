"""The bytes of MindSpore's ``.ckpt`` files: a protobuf message, of which nothing but the small fields is read.

::

    Checkpoint      repeated Value value = 1
    Value           string tag = 1, TensorProto tensor = 2, MapTensorProto maptensor = 3
    TensorProto     repeated int64 dims = 1, string tensor_type = 2, bytes tensor_content = 3

Source: ``mindspore/train/checkpoint.proto`` and ``serialization.py`` (2.10). A tensor of more than 512 MiB comes as
several values of one tag, one after the other, which share its dims; their contents follow each other. At the end there
may be ``crc_num`` and ten bytes: the CRC-32 of all before.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from io import BufferedReader
from itertools import chain, groupby
from pathlib import Path
from stat import S_ISREG
from typing import Final

from unirms.errors import CheckpointError, as_given

from ..protobuf import BYTES, VARINT, integer, message, message_head
from ..stretches import pieces_of

SLICE_BYTES: Final = 512 << 20
"""Bytes of a tensor in one value: MindSpore's `SLICE_SIZE`. A protobuf field ends at 2 GiB."""
TEXT: Final = "str"
"""The type of a value that is a text: its characters in UTF-32, little-endian, and dims [0]."""
CRC: Final = b"crc_num"
# Bounds that no file of MindSpore comes near, so that a hostile one fills no memory with names.
LONGEST_NAME: Final = 4096
MOST_VALUES: Final = 200_000
MOST_LETTERS: Final = 1 << 26
MOST_AXES: Final = 32
_CRC_BYTES: Final = len(CRC) + 10
_ENCRYPTED: Final = b"\xd8^:\x7f"


@dataclass(frozen=True)
class Part:
    """A stretch of a file."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.offset + self.length


@dataclass(frozen=True)
class Entry:
    """A tensor in a file, or a text, or a table (`MapParameter`).

    Attributes:
        tag: its name.
        dims: the lengths of its axes.
        type: MindSpore's name of its dtype, "str" of a text, "" of a table.
        contents: where its bytes are, slice after slice.
        values: where the values are that they come in.
    """

    tag: str
    dims: tuple[int, ...]
    type: str
    contents: tuple[Part, ...]
    values: tuple[Part, ...]

    @property
    def length(self) -> int:
        """How many bytes its content has."""
        return sum(part.length for part in self.contents)


def entries(path: Path) -> tuple[list[Entry], bool]:
    """Return what is in a file, in its order, and whether a CRC, which is right, is at its end.

    Raises:
        CheckpointError: the file cannot be read, is damaged or encrypted, or is no checkpoint of MindSpore.
    """
    try:
        if not S_ISREG(path.stat().st_mode):
            raise CheckpointError(f"{path} is no file")
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            checked = _check(file, length, path)
            reader = _Reader(file, path)
            found = list(_joined(reader.values(length - _CRC_BYTES * checked), path))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    if not found:
        raise CheckpointError(f"{path} is empty")
    return found, checked


def copied(path: Path, parts: tuple[Part, ...]) -> Iterator[bytes]:
    """Yield the bytes of parts of a file, one after the other, piece by piece.

    Raises:
        CheckpointError: the file is shorter, or cannot be read.
    """
    return chain.from_iterable(pieces_of(path, part.offset, part.length) for part in parts)


def head(tag: str, dims: tuple[int, ...], dtype: str, length: int) -> bytes:
    """Return what stands before the `length` bytes of the content of a value.

    Raises:
        CheckpointError: the tag cannot be written.
    """
    try:
        name = tag.encode()
    except UnicodeEncodeError:
        raise CheckpointError(f"the name {as_given(tag)} cannot be written: it is no text of Unicode") from None
    tensor = b"".join(integer(1, dim, always=True) for dim in dims)
    tensor += message(2, dtype.encode()) + message_head(3, length)
    value = message(1, name) + message_head(2, len(tensor) + length) + tensor
    return message_head(1, len(value) + length) + value


def _check(file: BufferedReader, length: int, path: Path) -> bool:
    """Return whether a CRC is at the end of a file; raise unless it is right."""
    if file.peek(len(_ENCRYPTED)).startswith(_ENCRYPTED):
        raise CheckpointError(
            f"{path} is encrypted; load it with mindspore.load_checkpoint(…, dec_key=…) and save it without enc_key"
        )
    if length < _CRC_BYTES:
        return False
    file.seek(length - _CRC_BYTES)
    end = file.read(_CRC_BYTES)
    if not end.startswith(CRC):
        return False
    found = 0
    for data in copied(path, (Part(0, length - _CRC_BYTES),)):
        found = zlib.crc32(data, found)
    if found != int.from_bytes(end[len(CRC) :], "big"):
        raise CheckpointError(f"{path} is damaged: its bytes have not the CRC that stands at its end")
    return True


def _joined(values: Iterable[Entry], path: Path) -> Iterator[Entry]:
    """Yield entries, values of one tag that follow each other made one."""
    seen: set[str] = set()
    for tag, group in groupby(values, key=lambda value: value.tag):
        slices = list(group)
        if tag in seen:
            raise CheckpointError(f"{path} is damaged: two of its tensors are called {as_given(tag)}")
        if len({(one.dims, one.type) for one in slices}) > 1:
            raise CheckpointError(f"{path} is damaged: the slices of {as_given(tag)} do not fit together")
        seen.add(tag)
        contents = tuple(part for one in slices for part in one.contents)
        yield replace(slices[0], contents=contents, values=tuple(part for one in slices for part in one.values))


@dataclass(frozen=True)
class _Field:
    """One field of a message.

    Attributes:
        number: which.
        value: the number that it is, or where its bytes are.
        start: where the field begins.
    """

    number: int
    value: int | Part
    start: int


class _Reader:
    """Reads the small fields of a file, and steps over the large ones."""

    def __init__(self, file: BufferedReader, path: Path) -> None:
        self.file, self.path, self.left = file, path, MOST_LETTERS

    def values(self, end: int) -> Iterator[Entry]:
        """Yield the values of the message that ends there, one by one."""
        for count, field in enumerate(self._fields(Part(0, end))):
            place = field.value
            if field.number != 1 or isinstance(place, int) or count >= MOST_VALUES:
                raise self._foreign()
            yield self._value(place, Part(field.start, place.end - field.start))

    def _value(self, place: Part, whole: Part) -> Entry:
        found: dict[int, Part] = {}
        for field in self._fields(place):
            if field.number not in {1, 2, 3} or field.number in found or isinstance(field.value, int):
                raise self._foreign()
            found[field.number] = field.value
        if set(found) not in ({1, 2}, {1, 3}):
            raise self._foreign()
        tag = self._text(found[1])
        if 3 in found:
            return Entry(tag, (), "", (), (whole,))
        dims, dtype, content = self._tensor(found[2])
        return Entry(tag, dims, dtype, (content,), (whole,))

    def _tensor(self, place: Part) -> tuple[tuple[int, ...], str, Part]:
        dims: list[int] = []
        found: dict[int, Part] = {}
        for field in self._fields(place):
            if field.number == 1 and len(dims) < MOST_AXES:
                dims += [field.value] if isinstance(field.value, int) else self._packed(field.value)
            elif field.number in {2, 3} and field.number not in found and not isinstance(field.value, int):
                found[field.number] = field.value
            else:
                raise self._foreign()
        if set(found) != {2, 3} or len(dims) > MOST_AXES or any(dim >= 1 << 63 for dim in dims):
            raise self._foreign()
        return tuple(dims), self._text(found[2]), found[3]

    def _packed(self, place: Part) -> list[int]:
        """Return the numbers of a list without keys between them: another way to write the same."""
        numbers: list[int] = []
        at = place.offset
        while at < place.end and len(numbers) < MOST_AXES:
            number, at = self._number(at, place.end)
            numbers.append(number)
        if at < place.end:
            raise self._foreign()
        return numbers

    def _fields(self, place: Part) -> Iterator[_Field]:
        """Yield the fields of the message in a part of the file."""
        at = place.offset
        while at < place.end:
            start = at
            key, at = self._number(at, place.end)
            number, at = self._number(at, place.end)
            if key & 7 == VARINT:
                yield _Field(key >> 3, number, start)
            elif key & 7 == BYTES and number <= place.end - at:
                yield _Field(key >> 3, Part(at, number), start)
                at += number
            else:
                raise self._foreign()

    def _number(self, at: int, end: int) -> tuple[int, int]:
        """Return a number of up to 64 bits, seven in each byte, and where it ends."""
        self.file.seek(at)
        number = 0
        for index, byte in enumerate(self.file.read(min(10, end - at))):
            number |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                return number, at + index + 1
        raise self._foreign()

    def _text(self, place: Part) -> str:
        self.left -= place.length
        if place.length > LONGEST_NAME or self.left < 0:
            raise self._foreign()
        self.file.seek(place.offset)
        try:
            return self.file.read(place.length).decode()
        except UnicodeDecodeError:
            raise self._foreign() from None

    def _foreign(self) -> CheckpointError:
        return CheckpointError(f"{self.path} is damaged, or no checkpoint of mindspore.save_checkpoint")
