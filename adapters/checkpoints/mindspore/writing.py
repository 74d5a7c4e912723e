"""Writes checkpoints that `mindspore.load_param_into_net` loads."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from unirms.checkpoints.checkpoint import Outgoing
from unirms.checkpoints.tensors import Moving, zeros
from unirms.config import RMSPropConfig
from unirms.errors import CheckpointError, as_given
from unirms.schedules import BaseSchedule
from unirms.state import GRADIENT_SUM, WEIGHTS

from .names import LAST_STEP, MICRO_STEP, PREFIXES, RATE, STEP
from .reading import LONGEST_TEXT, OWN, TYPES, File, Own
from .wire import CRC, SLICE_BYTES, TEXT, Entry, copied, entries, head


def write(path: Path, content: Outgoing, like: Path | None) -> None:
    """Write a checkpoint that `mindspore.load_param_into_net` loads into an optimizer over the same names.

    A file without weights is refused: of one, that function takes accumulators for the weights (MindSpore 2.10).

    Raises:
        CheckpointError: the file cannot be written, or would be misread.
        StateError: a tensor has a NaN, or a value that its dtype cannot hold.
    """
    old, checked = (None, False) if like is None else _opened(like)
    values = _values(content, old)
    kept = _kept(content, old, {value.tag for value in values})
    _refuse(content, values, kept)
    try:
        with path.open("wb") as file:
            out = _Summed(file, checked)
            for entry in kept:
                assert like is not None
                for data in copied(like, entry.values):
                    out.write(data)
            for value in values:
                value.write(out)
            out.end()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {error.strerror}") from None


def _opened(like: Path) -> tuple[File, bool]:
    found, checked = entries(like)
    return File.of(like, found), checked


class _Summed:
    """A file that is written, with the CRC of what was at its end if that is wanted."""

    def __init__(self, file: BinaryIO, wanted: bool) -> None:
        self.file, self.wanted, self.crc = file, wanted, 0

    def write(self, data: bytes | memoryview) -> None:
        """Write some bytes."""
        if self.wanted:
            self.crc = zlib.crc32(data, self.crc)
        self.file.write(data)

    def end(self) -> None:
        """Write the CRC."""
        if self.wanted:
            self.file.write(CRC + self.crc.to_bytes(10, "big"))


@dataclass(frozen=True)
class _Value:
    """A tensor to be written: that of a plan, bytes, or, without either, zeros."""

    tag: str
    dims: tuple[int, ...]
    type: str
    length: int
    tensor: Moving | None = None
    data: bytes | None = None

    def write(self, out: _Summed) -> None:
        """Write it, in slices as MindSpore does."""
        left, room = self.length, 0
        if left == 0:
            out.write(head(self.tag, self.dims, self.type, 0))
        for piece in self._pieces():
            start = 0
            while start < len(piece):
                if room == 0:
                    room = min(left, SLICE_BYTES)
                    out.write(head(self.tag, self.dims, self.type, room))
                part = piece[start : start + room]
                out.write(part)
                start, left, room = start + len(part), left - len(part), room - len(part)

    def _pieces(self) -> Iterator[memoryview]:
        if self.tensor is not None:
            yield from self.tensor.bytes_of_pieces()
        elif self.data is not None:
            yield memoryview(self.data)
        else:
            yield from zeros(self.length)


def _values(content: Outgoing, old: File | None) -> list[_Value]:
    """Return what is to be written, in MindSpore's order: counters, weights, slots."""
    prefix = "" if old is None else old.prefix
    values = list(_counters(content, prefix))
    places = {} if old is None else {place: entry.tag for place, entry in old.places.items()}
    values += [_moving(name, tensor) for name, tensor in content.tensors.get(WEIGHTS, {}).items()]
    for kind, mark in PREFIXES.items():
        held = content.tensors.get(kind, {})
        if held or _always(kind, content.config):
            for name, square in content.tensors.get("mean_square", {}).items():
                tag = places.get((kind, name), prefix + mark + name.removeprefix(prefix))
                zeros = _Value(tag, square.shape, _type(tag, square), square.bytes)
                values.append(_moving(tag, held[name]) if name in held else zeros)
    return values


def _always(kind: str, config: RMSPropConfig | None) -> bool:
    """Return whether MindSpore's optimizer has a slot that the state need not have."""
    if kind == GRADIENT_SUM:
        return config is not None and config.gradient_accumulation_steps > 1
    return kind == "momentum"


def _counters(content: Outgoing, prefix: str) -> Iterator[_Value]:
    config = content.config
    if content.step is not None:
        if content.step > LAST_STEP:
            raise CheckpointError(f"the state has made {content.step} updates; MindSpore counts up to {LAST_STEP}")
        yield _Value(prefix + STEP, (1,), "Int32", 4, data=np.array(content.step, "<i4").tobytes())
    if content.learning_rate is not None and not (config and _is_cell(config)):
        # UniRMSProp has a double on CPU; load_param_into_net rounds it where the optimizer has none.
        dtype = "float32" if content.stock else "float64"
        data = np.array(content.learning_rate).astype(np.dtype(dtype).newbyteorder("<")).tobytes()
        yield _Value(prefix + RATE, (), TYPES[dtype], len(data), data=data)
    if content.micro_step or _always(GRADIENT_SUM, config):
        yield _Value(prefix + MICRO_STEP, (), "Int32", 4, data=np.array(content.micro_step, "<i4").tobytes())
    if config is not None:
        text = Own(config=config, plateau=content.plateau).model_dump_json().encode("utf-32-le")
        if len(text) > LONGEST_TEXT:
            raise CheckpointError(
                f"the config takes {len(text)} bytes, more than the {LONGEST_TEXT} that are read again"
            )
        yield _Value(OWN, (0,), TEXT, len(text), data=text)


def _is_cell(config: RMSPropConfig) -> bool:
    """Return whether the learning rate is a cell in MindSpore, and no Parameter."""
    return isinstance(config.learning_rate, BaseSchedule) and not config.has_constant_rate


def _moving(tag: str, tensor: Moving) -> _Value:
    return _Value(tag, tensor.shape, _type(tag, tensor), tensor.bytes, tensor=tensor)


def _type(tag: str, tensor: Moving) -> str:
    if tensor.dtype not in TYPES:
        raise CheckpointError(f"{as_given(tag)} is {tensor.dtype}, which MindSpore's checkpoints have not")
    return TYPES[tensor.dtype]


def _kept(content: Outgoing, old: File | None, written: Iterable[str]) -> list[Entry]:
    """Return what stays of the file whose structure is kept: all but the state of these parameters."""
    if old is None:
        return []
    gone = set(written) | {OWN} | {old.counters[name].tag for name in (STEP, MICRO_STEP) if name in old.counters}
    names = set(content.parameters)
    held = [e for (kind, name), e in old.places.items() if kind == WEIGHTS or name not in names]
    everything = [*old.counters.values(), *held, *old.others]
    return [entry for entry in everything if entry.tag not in gone]


def _refuse(content: Outgoing, values: Sequence[_Value], kept: Sequence[Entry]) -> None:
    """Raise where MindSpore would misread the file."""
    tags = Counter([*(value.tag for value in values), *(entry.tag for entry in kept)])
    twice = [tag for tag, count in tags.items() if count > 1]
    if twice:
        raise CheckpointError(f"two tensors would be called {as_given(twice[0])}; give the parameters other names")
    missing = [name for name in content.parameters if name not in tags]
    if missing:
        raise CheckpointError(
            f"the file would have no weights for {as_given(missing[0])}, and mindspore.load_param_into_net would put "
            "accumulators in their place; move the weights as well, or give a checkpoint that has them"
        )
