"""What the names and tensors in a checkpoint of MindSpore mean."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from unirms.checkpoints import naming
from unirms.checkpoints.checkpoint import Config
from unirms.checkpoints.tensors import SIZES, Stored
from unirms.errors import CheckpointError, as_given
from unirms.schedules.plateau import PlateauState
from unirms.state import WEIGHTS

from ..spool import Spool
from .names import MICRO_STEP, PREFIXES, RATE, STEP
from .wire import TEXT, Entry, copied

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


@dataclass
class File:
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
    def of(path: Path, found: Sequence[Entry]) -> File:
        """Return the meaning of the names of these tensors."""
        tags = {entry.tag: entry for entry in found}
        owners = _owners(tags)
        prefixes = sorted({prefix for prefix, _ in owners}) or [""]
        if len(prefixes) > 1:
            listed = " and ".join(as_given(prefix) for prefix in prefixes[:3])
            raise CheckpointError(f"{path} has the states of several optimizers, called {listed}; save them apart")
        file = File(path, tuple(prefix + rest for prefix, rest in owners), prefixes[0])
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

    def count(self, name: str) -> int | None:
        """Return one of the counters; None where the file has it not."""
        entry = self.counters.get(name)
        if entry is None:
            return None
        size = _COUNTS.get(entry.type)
        if size is None or entry.length != size:
            raise CheckpointError(f"{self.path} is damaged: {name} is no single integer")
        count = int.from_bytes(_content(entry, self.path), "little", signed=True)
        if count < 0:
            raise CheckpointError(f"{self.path} is damaged: {name} is {count}")
        return count

    def rate(self, step: int, spool: Spool) -> float | None:
        """Return the rate of the next update; of a list that has come to its end, the last."""
        entry = self.counters.get(RATE)
        if entry is None:
            return None
        if entry.type not in {"Float32", "Float64"} or not entry.length:
            raise CheckpointError(f"{self.path} is damaged: {RATE} is no number, and no list of numbers")
        table = stored(entry, self.path, spool)
        place = min(step, table.count - 1)
        [value] = Stored(
            path=table.path, offset=table.offset + place * SIZES[table.dtype], dtype=table.dtype, shape=(1,)
        ).array()
        rate = float(str(value))
        if not (math.isfinite(rate) and rate >= 0):
            raise CheckpointError(f"{self.path} is damaged: {RATE} is {rate}")
        return rate

    def own(self) -> Own:
        """Return what unirms has said in a file; nothing in one that it has not written."""
        entry = self.counters.get(OWN)
        if entry is None or entry.type != TEXT:
            return Own()
        if entry.length > LONGEST_TEXT:
            raise CheckpointError(f"{self.path} is damaged: its text {OWN!r} has {entry.length} bytes")
        try:
            found = Own.model_validate_json(_content(entry, self.path).decode("utf-32-le"))
        except (UnicodeDecodeError, ValidationError):
            raise CheckpointError(
                f"{self.path} is damaged, or of a later version of unirms: its text {OWN!r} cannot be read"
            ) from None
        place = found.plateau
        if place is not None and not (0 <= place.rate < math.inf and min(place.bad, place.cooldown) >= 0):
            raise CheckpointError(f"{self.path} is damaged: its plateau has a rate or a count that is none")
        return found


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


def stored(entry: Entry, path: Path, spool: Spool) -> Stored:
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
