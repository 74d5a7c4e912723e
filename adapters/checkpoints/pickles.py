"""A pickle read as data: what would be called is kept as a call that nobody makes, and nothing is imported.

`pickletools` of the standard library splits a pickle into its operations; a small stack machine makes lists, dicts and
calls of them. A pickle names the classes and functions that it needs: those that the reader of a format knows stand for
themselves, and any other name is an error.
"""

from __future__ import annotations

import pickletools
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from mmap import mmap
from typing import Any, Final, cast

from unirms.checkpoints.naming import plain
from unirms.errors import CheckpointError


@dataclass(eq=False)
class Call:
    """An object that a pickle makes by a call.

    Attributes:
        function: what would be called: an entry of the reader's list.
        arguments: what it would get.
        state: what the object would be filled with afterwards.
    """

    function: Any
    arguments: tuple[Any, ...]
    state: Any = None


@dataclass(eq=False)
class Reference:
    """What a pickle says to be somewhere else, by whatever names it: a persistent id."""

    id: Any


class Ordered(dict[Any, Any]):
    """An `OrderedDict`, with the attributes that it had; the state of a PyTorch module has some."""

    state: Any = None


def load(pickle: bytes | mmap, known: Mapping[str, Any], place: str) -> Any:
    """Return what a pickle says, up to its end.

    Args:
        pickle: the bytes, or a mapped file that is read from where it stands, and left standing at the pickle's end.
        known: "module.name" -> what stands for it in the data.
        place: what the file is called in messages.

    Raises:
        CheckpointError: it is damaged, or needs a class or a function that is not known.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in texts of Python 2
        found = _Bounded(pickle)
        data = run(_operations(found), known, place)
        if not isinstance(pickle, bytes):
            pickle.seek(found.at)
        return data


def run(operations: Iterable[tuple[str, Any]], known: Mapping[str, Any], place: str) -> Any:
    """Return what the operations of a pickle say, each given by its name in `pickletools` and its argument; see `load`.

    Raises:
        CheckpointError: they are those of no pickle, or need a class or a function that is not known.
    """
    machine = _Machine(known, place)
    try:
        for name, argument in operations:
            machine.perform(name, argument)
        return machine.stack.pop()
    except (ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, TypeError, ValueError) as error:
        reason = plain(str(error) or type(error).__name__)
        raise CheckpointError(f"{place} is damaged: its pickle cannot be read ({reason})") from None


# An operation of one byte makes an object of up to 216: so many take 0.9 GB. A tensor in a file of PyTorch has some 30.
_MOST_OPERATIONS: Final = 1 << 22
MOST_BYTES: Final = 1 << 28
"""Bytes of a pickle that are read: those of a million tensors."""
_LONGEST_LINE: Final = 1 << 16


class _Bounded:
    """A pickle of which no more than so many bytes are read, whatever lengths it says of its parts.

    Attributes:
        at: where the next byte is.
    """

    def __init__(self, data: bytes | mmap) -> None:
        self._data = data
        self.at = 0 if isinstance(data, bytes) else data.tell()
        self._end = self.at + MOST_BYTES

    def read(self, count: int) -> bytes:
        """Return so many bytes, or those up to the end.

        Raises:
            ValueError: they are too many.
        """
        start, self.at = self.at, self.at + count
        if self.at > self._end:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        return self._data[start : self.at]

    def readline(self) -> bytes:
        """Return the bytes up to and with the end of a line.

        Raises:
            ValueError: there is none within a length that no name and no number has.
        """
        end = self._data.find(b"\n", self.at, self.at + _LONGEST_LINE)
        if end < 0:
            raise ValueError("a line of it has no end")
        return self.read(end + 1 - self.at)


def _operations(pickle: _Bounded) -> Iterator[tuple[str, Any]]:
    for count, (operation, argument, _) in enumerate(pickletools.genops(cast("Any", pickle))):
        if count == _MOST_OPERATIONS:
            raise ValueError(f"it has more than {_MOST_OPERATIONS} operations")
        yield operation.name, argument


# Operations that push their argument.
_VALUES: Final = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    }
)
_CONSTANTS: Final[Mapping[str, Callable[[], Any]]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
_TUPLES: Final = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS: Final = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS: Final = frozenset({"GET", "BINGET", "LONG_BINGET"})
_NOTHING: Final = frozenset({"PROTO", "FRAME", "STOP"})


class _Machine:
    """The stack of a pickle, the stacks below its marks, and its memo."""

    def __init__(self, known: Mapping[str, Any], place: str) -> None:
        self.known = known
        self.place = place
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def perform(self, name: str, argument: Any) -> None:
        """Do one operation."""
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _PUTS:
            self.memo[argument] = self.stack[-1]
        elif name in _GETS:
            self.stack.append(self.memo[argument])
        elif name in _TUPLES:
            self.stack[-_TUPLES[name] :] = [tuple(self._last(_TUPLES[name]))]
        elif name not in _NOTHING:
            method = getattr(self, f"_{name.lower()}", None)
            if method is None:
                raise ValueError(f"the operation {name} is none of plain data")
            method(argument)

    def _last(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("its stack is empty")
        return self.stack[-count:]

    def _mark(self, _: Any) -> None:
        self.below.append(self.stack)
        self.stack = []

    def _above_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._above_mark()

    def _pop_mark(self, _: Any) -> None:
        self._above_mark()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _tuple(self, _: Any) -> None:
        items = self._above_mark()
        self.stack.append(tuple(items))

    def _list(self, _: Any) -> None:
        items = self._above_mark()
        self.stack.append(items)

    def _frozenset(self, _: Any) -> None:
        items = self._above_mark()
        self.stack.append(frozenset(map(_shallow, items)))

    def _dict(self, _: Any) -> None:
        items = self._above_mark()
        self.stack.append({})
        self._enter(items)

    def _append(self, _: Any) -> None:
        item = self.stack.pop()
        self._extend([item])

    def _appends(self, _: Any) -> None:
        self._extend(self._above_mark())

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("it appends to what is no list")
        self.stack[-1].extend(items)

    def _additems(self, _: Any) -> None:
        items = self._above_mark()
        if not isinstance(self.stack[-1], set):
            raise ValueError("it adds to what is no set")
        self.stack[-1].update(map(_shallow, items))

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._enter([key, value])

    def _setitems(self, _: Any) -> None:
        self._enter(self._above_mark())

    def _enter(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict):
            raise ValueError("it sets an item of what is no dict")
        self.stack[-1].update(zip(map(_shallow, items[::2]), items[1::2], strict=True))

    def _global(self, argument: str) -> None:
        self.stack.append(self._found(argument.replace(" ", ".", 1)))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(module, str) or not isinstance(name, str):  # of a nest of tuples, the text has no end
            raise ValueError("it names something by what is no text")
        self.stack.append(self._found(f"{module}.{name}"))

    def _found(self, name: str) -> Any:
        if name not in self.known:
            raise CheckpointError(
                f"{self.place} needs {plain(name)}, and only tensors and plain data are read from a pickle; save the "
                "state dictionaries of model and optimizer, and not the objects"
            )
        return self.known[name]

    def _reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(arguments, tuple):
            raise ValueError("it calls something without arguments")
        self.stack.append(_ordered(*arguments) if function is OrderedDict else Call(function, arguments))

    _newobj = _reduce

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], (Call, Ordered)):
            raise ValueError("it fills what is no object")
        self.stack[-1].state = state

    def _binpersid(self, _: Any) -> None:
        self.stack.append(Reference(self.stack.pop()))


def _shallow(key: Any) -> Any:
    """Return a key of a dict or an item of a set, which is no nest of tuples: to hash a deep one ends the process.

    Nor is it an integer beyond 64 bits: of those any number can have the same hash, and a dict of them takes hours.
    """
    for part in key if isinstance(key, tuple) else (key,):
        if isinstance(part, (tuple, frozenset)):
            raise ValueError("a key is a nest of tuples")
        if isinstance(part, int) and part.bit_length() > 64:
            raise ValueError("a key is an integer of more than 64 bits")
    return key


def _ordered(pairs: Any = ()) -> Ordered:
    """Return the `OrderedDict` of a list of pairs, as Python 2 wrote it; Python 3 sets the items afterwards."""
    if not isinstance(pairs, (list, tuple)):
        raise ValueError("it makes an OrderedDict of what is no list")
    return Ordered((_shallow(key), value) for key, value in pairs)
