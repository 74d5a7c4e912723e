"""MindSpore's checkpoints: `mindspore.save_checkpoint` of an optimizer, of a network, or of both in one cell.

A file has names and tensors, and nothing of what is done with them. An optimizer's Parameters are ``global_step``,
``learning_rate`` and the slots, called as the weight with a prefix; where the optimizer is part of a cell, all of them,
the weights too, have the cell's prefix in front.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from unirms.checkpoints import naming
from unirms.checkpoints.checkpoint import Checkpoint, Config, Outgoing
from unirms.checkpoints.tensors import SIZES, Moving, Stored, zeros
from unirms.config import RMSPropConfig
from unirms.errors import CheckpointError, as_given
from unirms.moving.planning import uses
from unirms.schedules import BaseSchedule
from unirms.schedules.plateau import PlateauState
from unirms.state import GRADIENT_SUM, WEIGHTS

from ..spool import Spool
from .names import LAST_STEP, MICRO_STEP, PREFIXES, RATE, STEP
from .wire import CRC, SLICE_BYTES, TEXT, Entry, copied, entries, head

OWN: Final = "unirms"
"""The name of the text in which `write` says what no Parameter does."""
LONGEST_TEXT: Final = 1 << 26
"""Bytes of that text: a config takes some kilobytes, with a table of 100,000 rates 8 MB."""

TYPES: Final = {"float16": "Float16", "bfloat16": "BFloat16", "float32": "Float32", "float64": "Float64"}
_DTYPES: Final = {theirs: ours for ours, theirs in TYPES.items()}
_COUNTS: Final = {"Int32": 4, "Int64": 8}
_GROUP_RATE: Final = re.compile(re.escape(RATE) + r"_group_\d+")


class Own(BaseModel):
    """What `write` says besides: the config, and where a plateau has come to."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    version: Literal[1] = 1
    config: Config = None
    plateau: PlateauState | None = None


# Reading


def read(path: Path, spool: Path, config: RMSPropConfig | None = None) -> Checkpoint:
    """Return what a checkpoint holds.

    MindSpore always has a momentum buffer, and its experimental class a mean gradient: where nobody says the config,
    neither `config` nor the file, they stand here whether they are in use or not. A rate in float32 is read as its
    shortest decimal: 0.01 was meant, not 0.009999999776.

    Args:
        path: the file.
        spool: an empty folder for tensors that come in slices, as those of more than 512 MiB do.
        config: what the optimizer computes, where somebody has said it.

    Raises:
        CheckpointError: the file is damaged, encrypted or foreign.
    """
    found, _ = entries(path)
    file = _File.of(path, found)
    own, put = _own(file), Spool(spool)
    meant = config or own.config
    tensors: dict[str, dict[str, Stored]] = {kind: {} for kind in (*PREFIXES, WEIGHTS)}
    for (kind, name), entry in file.places.items():
        if meant is None or uses(meant.for_parameter(name)).get(kind, True):
            tensors[kind][name] = _stored(entry, path, put)
    step = _count(file, STEP)
    micro_step = _count(file, MICRO_STEP) or 0
    if micro_step == 0:  # the sums of an update that is done are zeros
        tensors[GRADIENT_SUM] = {}
    return Checkpoint(
        format="mindspore",
        parameters=file.parameters,
        tensors={kind: held for kind, held in tensors.items() if held},
        notes=tuple(file.notes),
        step=step,
        micro_step=micro_step,
        learning_rate=_rate(file, step or 0, put),
        plateau=own.plateau,
        config=own.config,
    )


@dataclass
class _File:
    """What the names in a file mean.

    Attributes:
        path: the file.
        parameters: what an optimizer updates, under the names of the weights.
        prefix: of the optimizer's counters, as "optimizer." in a cell that has it as an attribute.
        places: kind and name -> the tensor.
        counters: the name without a prefix -> the tensor or text.
        others: whatever is no tensor of a state.
        notes: what was concluded, and what was left out.
    """

    path: Path
    parameters: tuple[str, ...] = ()
    prefix: str = ""
    places: dict[tuple[str, str], Entry] = field(default_factory=dict)
    counters: dict[str, Entry] = field(default_factory=dict)
    others: list[Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @staticmethod
    def of(path: Path, found: Sequence[Entry]) -> _File:
        """Return the meaning of the names of these tensors."""
        tags = {entry.tag: entry for entry in found}
        owners = _owners(tags)
        prefixes = sorted({prefix for prefix, _ in owners}) or [""]
        if len(prefixes) > 1:
            listed = " and ".join(as_given(prefix) for prefix in prefixes[:3])
            raise CheckpointError(f"{path} has the states of several optimizers, called {listed}; save them apart")
        file = _File(path, tuple(prefix + rest for prefix, rest in owners), prefixes[0])
        slots = {prefix + PREFIXES[kind] + rest: (kind, prefix + rest) for kind in PREFIXES for prefix, rest in owners}
        for entry in found:
            if problem := naming.problem(entry.tag):
                raise CheckpointError(f"{path}: {problem}")
            bare = entry.tag.removeprefix(file.prefix) if entry.tag.startswith(file.prefix) else ""
            if bare in {STEP, MICRO_STEP, RATE} or entry.tag == OWN:
                file.counters[bare or entry.tag] = entry
            elif entry.type not in _DTYPES or _GROUP_RATE.fullmatch(bare):
                file.others.append(entry)
                file.notes.append(f"{as_given(entry.tag)}, {_kind(entry)}, is left out")
            else:
                _shape(entry, path)
                file.places[slots.get(entry.tag, (WEIGHTS, entry.tag))] = entry
        return file


def _owners(tags: Mapping[str, Entry]) -> list[tuple[str, str]]:
    """Return the prefix and the rest of the name of each parameter that has a mean square, in the file's order.

    A mean square is what has its weight beside it: a network may have a layer that is called as a slot is. In a file
    without any weight, it is what begins so.
    """
    mark = PREFIXES["mean_square"]
    floats = {tag: entry for tag, entry in tags.items() if entry.type in _DTYPES}
    owners = []
    for tag, entry in floats.items():
        splits = [(tag[: m.start()], tag[m.end() :]) for m in re.finditer(r"(?:(?<=\.)|^)" + re.escape(mark), tag)]
        beside = [one for one in splits if (weight := floats.get("".join(one))) and weight.dims == entry.dims]
        owners += beside[:1]
    bare = all(tag == RATE or tag.startswith(tuple(PREFIXES.values())) for tag in floats)
    return [("", tag.removeprefix(mark)) for tag in floats if tag.startswith(mark)] if bare else owners


def _kind(entry: Entry) -> str:
    if entry.type == TEXT:
        return "a text"
    return f"of type {as_given(entry.type)}" if entry.type else "a table (MapParameter)"


def _stored(entry: Entry, path: Path, spool: Spool) -> Stored:
    """Return where a tensor is; one that comes in slices is put together in the spool."""
    dtype, shape = _DTYPES[entry.type], _shape(entry, path)
    if len(entry.contents) == 1:
        return Stored(path=str(path), offset=entry.contents[0].offset, dtype=dtype, shape=shape)
    return spool.add(dtype, shape, copied(path, entry.contents))


def _shape(entry: Entry, path: Path) -> tuple[int, ...]:
    """Return the shape of a tensor, whose bytes are as many as it takes."""
    dtype = _DTYPES[entry.type]
    # Old versions of MindSpore wrote a scalar with dims [0].
    shape = () if entry.dims == (0,) and entry.length else entry.dims
    if math.prod(shape) * SIZES[dtype] != entry.length:
        raise CheckpointError(
            f"{path} is damaged: {as_given(entry.tag)} has {entry.length} bytes, and {dtype} of shape {shape} has "
            f"{math.prod(shape) * SIZES[dtype]}"
        )
    return shape


def _content(entry: Entry, path: Path) -> bytes:
    return b"".join(copied(path, entry.contents))


def _count(file: _File, name: str) -> int | None:
    entry = file.counters.get(name)
    if entry is None:
        return None
    size = _COUNTS.get(entry.type)
    if size is None or entry.length != size:
        raise CheckpointError(f"{file.path} is damaged: {name} is no single integer")
    count = int.from_bytes(_content(entry, file.path), "little", signed=True)
    if count < 0:
        raise CheckpointError(f"{file.path} is damaged: {name} is {count}")
    return count


def _rate(file: _File, step: int, spool: Spool) -> float | None:
    """Return the rate of the next update; of a list that has come to its end, the last."""
    entry = file.counters.get(RATE)
    if entry is None:
        return None
    if entry.type not in {"Float32", "Float64"} or not entry.length:
        raise CheckpointError(f"{file.path} is damaged: {RATE} is no number, and no list of numbers")
    stored = _stored(entry, file.path, spool)
    place = min(step, stored.count - 1)
    [value] = Stored(
        path=stored.path, offset=stored.offset + place * SIZES[stored.dtype], dtype=stored.dtype, shape=(1,)
    ).array()
    rate = float(str(value))
    if not (math.isfinite(rate) and rate >= 0):
        raise CheckpointError(f"{file.path} is damaged: {RATE} is {rate}")
    return rate


def _own(file: _File) -> Own:
    """Return what unirms has said in a file; nothing in one that it has not written."""
    entry = file.counters.get(OWN)
    if entry is None or entry.type != TEXT:
        return Own()
    if entry.length > LONGEST_TEXT:
        raise CheckpointError(f"{file.path} is damaged: its text {OWN!r} has {entry.length} bytes")
    try:
        found = Own.model_validate_json(_content(entry, file.path).decode("utf-32-le"))
    except (UnicodeDecodeError, ValidationError):
        raise CheckpointError(
            f"{file.path} is damaged, or of a later version of unirms: its text {OWN!r} cannot be read"
        ) from None
    place = found.plateau
    if place is not None and not (0 <= place.rate < math.inf and min(place.bad, place.cooldown) >= 0):
        raise CheckpointError(f"{file.path} is damaged: its plateau has a rate or a count that is none")
    return found


# Writing


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


def _opened(like: Path) -> tuple[_File, bool]:
    found, checked = entries(like)
    return _File.of(like, found), checked


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


def _values(content: Outgoing, old: _File | None) -> list[_Value]:
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


def _kept(content: Outgoing, old: _File | None, written: Iterable[str]) -> list[Entry]:
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
