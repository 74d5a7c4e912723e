"""What a file of `paddle.save` says: plain data and tensors, which stay in the file until their bytes are asked for."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from unirms import bfloat16
from unirms.checkpoints.naming import plain
from unirms.checkpoints.tensors import SIZES, Stored, raw
from unirms.errors import CheckpointError

from ..pickles import Call
from ..spool import Spool
from ..stretches import pieces_of
from . import pickles
from .names import SLICES
from .pickles import Known, Span

DEEPEST: Final = 32
"""Dictionaries, lists and tuples in one another."""
LONGEST_READ: Final = 1 << 24
"""Bytes of a text that is no tensor: a config takes some kilobytes, with a table of 100,000 rates 2 MB."""
_DTYPE: Final = re.compile(r"[biufc](1|2|4|8|16)")
_CONSTANTS: Final = (bool, int, float, str, type(None), Span)


@dataclass(eq=False)
class Tensor:
    """An array in a file.

    Attributes:
        dtype: of its elements, in the byte order of the file.
        shape: the lengths of its axes.
        data: its bytes one after the other: each a part of the file, or a text of which each letter is a byte.
        by_columns: whether the elements along its first axis are side by side, and not those along its last.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    data: tuple[Span | str, ...]
    by_columns: bool = False

    @property
    def count(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """How many bytes they take."""
        return self.count * self.dtype.itemsize

    @property
    def kind(self) -> str:
        """The name of its dtype; Paddle writes bfloat16, of which NumPy has none, as uint16."""
        return bfloat16.NAME if self.dtype.name == "uint16" else self.dtype.name

    @property
    def turned(self) -> bool:
        """Whether its elements are in another order than that of C."""
        return self.by_columns and sum(length != 1 for length in self.shape) > 1


@dataclass(frozen=True)
class Source:
    """A file and what it says.

    Attributes:
        path: the file.
        data: dictionaries, lists, tuples, sets, texts and numbers; `Tensor` for arrays, and `Span` for bytes.
    """

    path: Path
    data: Any
    _copies: dict[Tensor, Stored] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """What the file is called in messages."""
        return plain(self.path.name)

    def text(self, value: Any) -> str | None:
        """Return a text, also a long one, which has not been read yet; None where the value is none."""
        if not isinstance(value, Span):
            return value if isinstance(value, str) else None
        if not value.is_text or value.length > LONGEST_READ:
            return None
        return "".join(self._letters(value))

    def number(self, value: Any) -> int | float | None:
        """Return a number, also that of an array of one element; None where the value is none, or beyond 64 bits."""
        tensor = tensor_in(value)
        if isinstance(value, int):
            return None if isinstance(value, bool) or value.bit_length() > 64 else value
        if tensor is None:
            return value if isinstance(value, float) else None
        if tensor.count != 1 or tensor.dtype.kind not in "fiu":
            return None
        found: int | float = np.frombuffer(b"".join(self.chunks(tensor)), tensor.dtype)[0].item()
        return found

    def stored(self, tensor: Tensor, spool: Spool) -> Stored:
        """Return where a tensor lies: in the file itself, or in the spool where it is not raw there.

        Raises:
            CheckpointError: it has a dtype that no state has, or its bytes are not those of its elements.
        """
        if tensor.kind not in SIZES:
            raise CheckpointError(f"{self.name}: a tensor has the dtype {tensor.kind}, which no state has")
        if len(tensor.data) == 1 and not tensor.turned and tensor.dtype == tensor.dtype.newbyteorder("<"):
            (data,) = tensor.data
            if isinstance(data, Span) and not data.is_text:
                return Stored(path=str(self.path), offset=data.offset, dtype=tensor.kind, shape=tensor.shape)
        if tensor not in self._copies:
            self._copies[tensor] = self._copied(tensor, spool)
        return self._copies[tensor]

    def _copied(self, tensor: Tensor, spool: Spool) -> Stored:
        little = (raw(np.frombuffer(chunk, tensor.dtype), tensor.dtype.name) for chunk in self.chunks(tensor))
        if not tensor.turned:
            return spool.add(tensor.kind, tensor.shape, little)
        folder = spool.file.parent / "columns"
        folder.mkdir(exist_ok=True)
        columns = Spool(folder)
        columns.file.unlink(missing_ok=True)
        return spool.array(tensor.kind, columns.add(tensor.kind, tensor.shape[::-1], little).mapped().T)

    def chunks(self, tensor: Tensor) -> Iterator[bytes]:
        """Yield the bytes of a tensor in the order of the file, whole elements at a time.

        Raises:
            CheckpointError: they are more or fewer than its elements take.
        """
        rest, total, size = b"", 0, tensor.dtype.itemsize
        for chunk in (chunk for data in tensor.data for chunk in self._bytes(data)):
            total += len(chunk)
            if total > tensor.bytes:
                break
            joined = rest + chunk if rest else chunk
            whole = len(joined) // size * size
            rest = joined[whole:]
            yield joined[:whole] if rest else joined
        if total != tensor.bytes:
            raise CheckpointError(f"{self.name} is damaged: a tensor has more or fewer bytes than its elements")

    def _bytes(self, data: Span | str) -> Iterator[bytes]:
        if isinstance(data, Span) and not data.is_text:
            yield from self.pieces(data)
            return
        for letters in [data] if isinstance(data, str) else self._letters(data):
            try:
                yield letters.encode("latin1")
            except UnicodeEncodeError:
                raise CheckpointError(f"{self.name} is damaged: letters of a tensor stand for no byte") from None

    def _letters(self, data: Span) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            for piece in self.pieces(data):
                yield decoder.decode(piece)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            raise CheckpointError(f"{self.name} is damaged: a text of it is none") from None

    def pieces(self, data: Span) -> Iterator[bytes]:
        """Yield a part of the file."""
        return pieces_of(self.path, data.offset, data.length)


def load(path: Path) -> Source:
    """Return what a file says; no tensor is read.

    Raises:
        CheckpointError: it cannot be read, is damaged, or needs more than arrays and plain data.
    """
    data = pickles.load(path)
    try:
        return Source(path, _Reading(plain(path.name), path.stat().st_size).made(data, DEEPEST))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"{plain(path.name)} is damaged: {plain(str(error))}") from None


def tensor_in(value: Any) -> Tensor | None:
    """Return the tensor that a value is, alone or with its name before it; None where it is none."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        value = value[1]
    return value if isinstance(value, Tensor) else None


class _Reading:
    """The objects of a pickle made into data, each of them once: a pickle can say the same one at many places."""

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self._left = 2 * size  # each tensor once, and once more where slices of it are joined
        self._made: dict[int, tuple[Any, int]] = {}  # id of what stands for the data -> the data, and levels below it
        self._kept: list[Any] = []  # an id is good as long as its object lives
        self._least = DEEPEST  # depth that the deepest part of what is being made has left

    def made(self, value: Any, depth: int) -> Any:
        """Return the data that a value stands for.

        Raises:
            ValueError: it is none, or one within itself.
        """
        if isinstance(value, _CONSTANTS):
            return value
        if id(value) not in self._made:
            self._check(depth)
            around, self._least = self._least, depth
            self._kept.append(value)
            made = self._of(value, depth - 1)
            self._made[id(value)] = made, depth - self._least
            self._least = min(around, self._least)
        data, levels = self._made[id(value)]
        self._check(depth - levels)
        return data

    def _check(self, depth: int) -> None:
        """Raise where nothing may be so deep."""
        if depth <= 0:
            raise ValueError(f"more than {DEEPEST} dictionaries, lists and tuples are in one another")
        self._least = min(self._least, depth)

    def _of(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            found = {key: self.made(item, depth) for key, item in value.items() if isinstance(key, (str, int))}
            return self._joined(found) if SLICES in found else found
        if isinstance(value, (list, tuple)):
            return type(value)(self.made(item, depth) for item in value)
        if isinstance(value, (set, frozenset)):
            return {item for item in value if isinstance(item, (str, int, float))}
        if isinstance(value, Call):
            return self._result(value, depth)
        raise ValueError(f"a {type(value).__name__} is no data")

    def _result(self, call: Call, depth: int) -> Any:
        """Return what a call would return."""
        if call.function is Known.RECONSTRUCT:
            _, shape, dtype, by_columns, data = call.state
            return self._tensor(shape, dtype, data, bool(by_columns))
        if call.function is Known.FROM_BUFFER:
            data, dtype, shape, order = call.arguments
            return self._tensor(shape, dtype, data, order == "F")
        if call.function is Known.SCALAR:
            dtype, data = call.arguments
            return self._tensor((), dtype, data, by_columns=False)
        if call.function is Known.TUPLE:
            ((name, tensor),) = call.arguments
            return name, self.made(tensor, depth)
        if call.function is Known.EVAL:
            expression, values = call.arguments
            if expression != "data" or list(values) != ["data"]:
                raise CheckpointError(f"{self.name} wants code to be run, which unirms does for no file")
            return self.made(values["data"], depth)
        raise ValueError(f"a call of {call.function} is no data")

    def _tensor(self, shape: Any, dtype: Any, data: Any, by_columns: bool) -> Tensor:
        if isinstance(data, Call) and data.function is Known.ENCODE and data.arguments[1] == "latin1":
            data = data.arguments[0]
        elif isinstance(data, Call) and data.function is Known.BYTES and data.arguments == ():
            data = ""
        if not isinstance(data, (Span, str)):
            raise ValueError("a tensor has no bytes")
        return self._checked(Tensor(_dtype(dtype), _shape(shape), (data,), by_columns))

    def _joined(self, found: dict[Any, Any]) -> dict[Any, Any]:
        """Return a dictionary with the tensors that are cut in it made whole."""
        for key, cut in found.pop(SLICES).items():
            parts = [found.pop(name) for name in cut["slices"]]
            dtype, data = parts[0].dtype, tuple(span for part in parts for span in part.data)
            if any(part.dtype != dtype for part in parts):
                raise ValueError("the parts of a tensor have several dtypes")
            found[key] = self._checked(Tensor(dtype, _shape(cut["OriginShape"]), data))
        return found

    def _checked(self, tensor: Tensor) -> Tensor:
        """Return a tensor whose bytes can be those of its elements, and belong to no other."""
        lengths = [len(data) if isinstance(data, str) else data.length for data in tensor.data]
        texts = any(isinstance(data, Span) and data.is_text for data in tensor.data)  # a byte takes one letter or two
        if not sum(lengths) / (2 if texts else 1) <= tensor.bytes <= sum(lengths):
            raise ValueError(f"a tensor of the shape {tensor.shape} has {sum(lengths)} bytes")
        self._left -= tensor.bytes
        if self._left < 0:  # each of those with the same bytes may be copied by itself
            raise ValueError("its tensors have more bytes than it")
        return tensor


def _shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, (tuple, list)) or len(shape) > 32:
        raise ValueError("a tensor has no shape")
    if not all(type(length) is int and 0 <= length < 1 << 62 for length in shape):
        raise ValueError("an axis of a tensor has no length")
    return tuple(shape)


def _dtype(call: Any) -> np.dtype[Any]:
    if not isinstance(call, Call) or call.function is not Known.DTYPE:
        raise ValueError("a tensor has no dtype")
    code, order = call.arguments[0], call.state[1] if call.state else "|"
    if not isinstance(code, str) or not _DTYPE.fullmatch(code) or order not in ("<", ">", "=", "|"):
        raise ValueError("an array has elements that are no numbers")
    return np.dtype(code if order == "|" else order + code)
