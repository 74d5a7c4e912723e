"""The pickles of `paddle.save`, read without their bytes, of which only the place in the file is kept.

Paddle writes the standard pickles of NumPy arrays: protocol 4 by default, in which the bytes of an array lie in the
file as they are; protocol 3, too; and protocol 2, in which they are a text, each byte a letter of Latin-1.
"""

from __future__ import annotations

import pickletools
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO, Any, Final

from unirms.checkpoints.naming import plain
from unirms.errors import CheckpointError

from .. import pickles

MOST_OPERATIONS: Final = 2_000_000
"""Of a pickle; a tensor takes some fifty, and an operation of one byte up to 216 bytes of memory."""
LONGEST_TEXT: Final = 4096
"""Bytes of a text that are read at once; longer ones are mostly tensors in protocol 2."""


class Known(Enum):
    """What a pickle of plain data and NumPy arrays calls; nothing of it is imported.

    `paddle.save` makes a tensor in a nest a call of tuple, and one of a static graph a call of eval: both with fixed
    arguments, which are looked at.
    """

    RECONSTRUCT = "_reconstruct"
    FROM_BUFFER = "_frombuffer"
    ARRAY = "ndarray"
    DTYPE = "dtype"
    SCALAR = "scalar"
    ENCODE = "encode"
    BYTES = "bytes"
    TUPLE = "tuple"
    EVAL = "eval"


_KNOWN: Final[Mapping[str, Any]] = {
    **{f"numpy.{core}.multiarray._reconstruct": Known.RECONSTRUCT for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": Known.SCALAR for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": Known.FROM_BUFFER for core in ("core", "_core")},
    "numpy.ndarray": Known.ARRAY,
    "numpy.dtype": Known.DTYPE,
    "_codecs.encode": Known.ENCODE,
    "collections.OrderedDict": OrderedDict,
    **{f"{builtins}.bytes": Known.BYTES for builtins in ("builtins", "__builtin__")},
    **{f"{builtins}.tuple": Known.TUPLE for builtins in ("builtins", "__builtin__")},
    **{f"{builtins}.eval": Known.EVAL for builtins in ("builtins", "__builtin__")},
}

# Bytes of the length that stands before a text, or before bytes.
_TEXTS: Final = {"SHORT_BINUNICODE": 1, "BINUNICODE": 4, "BINUNICODE8": 8}
_BYTES: Final = {"SHORT_BINBYTES": 1, "BINBYTES": 4, "BINBYTES8": 8, "BYTEARRAY8": 8}
_OTHERS: Final = frozenset(
    {
        *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "MEMOIZE"),
        *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
        *("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "EMPTY_SET", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "FROZENSET"),
        *("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
        *("STACK_GLOBAL", "REDUCE", "BUILD"),
    }
)
_OPERATIONS: Final = {operation.code.encode("latin1"): operation for operation in pickletools.opcodes}


@dataclass(eq=False)
class Span:
    """Bytes of a file that have not been read.

    Attributes:
        offset: where the first of them is.
        length: how many they are.
        is_text: whether they are a text in UTF-8.
    """

    offset: int
    length: int
    is_text: bool


def load(path: Path) -> Any:
    """Return what a pickle says: plain data, a `Span` for bytes and long texts, and a `pickles.Call` of a `Known`.

    Raises:
        CheckpointError: it cannot be read, is damaged, or needs more than arrays and plain data.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return pickles.run(_operations(file, size), _KNOWN, path.name)
    except OSError as error:
        raise CheckpointError(f"{plain(str(path))} cannot be read: {error.strerror}") from None


def _operations(file: IO[bytes], size: int) -> Iterator[tuple[str, Any]]:
    """Yield the operations of a pickle.

    Raises:
        ValueError: there is one that no pickle of plain data has, or one that goes beyond the end of the file.
    """
    left = pickles.MOST_BYTES
    for _ in range(MOST_OPERATIONS):
        operation = _OPERATIONS.get(file.read(1))
        if operation is None:
            raise ValueError("it ends too early, or has an operation that does not exist")
        name = operation.name
        if name in _BYTES or name in _TEXTS:
            value = _skipped(file, size, _BYTES.get(name) or _TEXTS[name], is_text=name in _TEXTS)
            left -= len(value) if isinstance(value, str) else 0
            if left < 0:
                raise ValueError(f"its texts have more than {pickles.MOST_BYTES} letters")
            yield name, value
        elif name == "GLOBAL":
            yield name, " ".join([_line(file), _line(file)])
        elif name in _OTHERS:
            yield name, None if operation.arg is None else operation.arg.reader(file)
        else:
            raise ValueError(f"the operation {name} is none of plain data")
        if name == "STOP":
            return
    raise ValueError(f"it has more than {MOST_OPERATIONS} operations")


def _skipped(file: IO[bytes], size: int, width: int, *, is_text: bool) -> Span | str:
    head = file.read(width)
    length, start = int.from_bytes(head, "little"), file.tell()
    if len(head) < width or start + length > size:
        raise ValueError("something in it should end after the end of the file")
    if is_text and length <= LONGEST_TEXT:
        return file.read(length).decode()
    file.seek(length, 1)
    return Span(start, length, is_text)


def _line(file: IO[bytes], longest: int = 256) -> str:
    line = file.readline(longest)
    if not line.endswith(b"\n"):
        raise ValueError("a name in it has no end")
    return line[:-1].decode()
