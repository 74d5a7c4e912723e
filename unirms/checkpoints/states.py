"""unirms's own file of a state: one safetensors file, or several with an index.

The name of a tensor is its kind, a slash, and the parameter: ``momentum/encoder/kernel``. Kinds are the slots,
"gradient_sum" and "weights". All else is JSON under one key of the metadata, "unirms". Several files have an index as
those of Hugging Face have, and each says the same in its metadata, so that no file of another state is taken for one of
these.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from unirms import files
from unirms.checkpoints import indexed, safetensors
from unirms.checkpoints.checkpoint import Checkpoint, Outgoing
from unirms.checkpoints.naming import plain, problem
from unirms.checkpoints.placing import placing
from unirms.checkpoints.safetensors import Entry
from unirms.checkpoints.tensors import PIECE_BYTES, SIZES, Stored, parts, raw
from unirms.config import RMSPropConfig
from unirms.documents import Document
from unirms.errors import CheckpointError, ConfigError, StateError, UnirmsError, as_given
from unirms.moving.moves import Move
from unirms.schedules.plateau import PlateauState
from unirms.state import GRADIENT_SUM, MOST_STEPS, NO_CONFIG, SLOTS, WEIGHTS, Array, OptimizerState

FORMAT: Final = "unirms"
"""The name of this format, and the key of the metadata."""
SCHEMA_VERSION: Final = 1
"""The version that is written, and the newest that is read."""

_LONGEST_STATEMENT: Final = 1 << 24
"""Characters of what the metadata says: 16 MiB, in which 100,000 parameters have names of 160 characters."""

_KINDS: Final = (*SLOTS, GRADIENT_SUM, WEIGHTS)

_Count = Annotated[int, Field(ge=0, le=MOST_STEPS)]


def _sound(place: PlateauState | None) -> PlateauState | None:
    """Return where a plateau has come to, if one can have come there."""
    if place is not None:
        counts = all(0 <= count <= MOST_STEPS for count in (place.bad, place.cooldown))
        if not counts or math.isnan(place.best) or not 0 <= place.rate < math.inf:
            raise ValueError("a plateau has a finite rate, a best metric, and counts that are not negative")
    return place


class _Statement(BaseModel):
    """What the metadata says.

    Attributes:
        complex: the tensors whose elements are complex: the format has real ones, so a last axis has both parts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    schema_version: int
    step: _Count
    micro_step: _Count = 0
    plateau: Annotated[PlateauState | None, AfterValidator(_sound)] = None
    learning_rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    config: dict[str, Any]
    parameters: tuple[str, ...]
    complex: tuple[str, ...] = ()


def save(state: OptimizerState, path: str | Path, *, shard_bytes: int | None = None) -> None:
    """Write a state to a safetensors file, beside its place and moved there.

    Args:
        state: it needs a config.
        path: the file; its suffix is ".safetensors" by custom.
        shard_bytes: the most bytes of tensors in a file, unless one tensor alone has more. Where they do not fit into
            one file, ``name.safetensors`` becomes ``name-00001-of-00003.safetensors`` and so on, with
            ``name.safetensors.index.json``, by which, or by the name without it, they are loaded.

    Raises:
        StateError: it has no config, a name that is none, a dtype that no state has, a number that is none, or a NaN
            or an infinity.
        ConfigError: `shard_bytes` is no positive integer.
        CheckpointError: the file cannot be written.
    """
    if shard_bytes is not None and (type(shard_bytes) is not int or shard_bytes < 1):
        given = as_given(shard_bytes)
        raise ConfigError([f"shard_bytes={given} is not allowed; write a positive number of bytes, as in 5 * 10**9"])
    _refuse_index(Path(path))
    arrays = state.tensors()
    _check(state, arrays)
    entries = [
        Entry(f"{kind}/{name}", array.dtype.name, array.shape, partial(_bytes, kind, name, array))
        for kind, found in arrays.items()
        for name, array in found.items()
    ]
    metadata = _metadata(_statement_of(state, tuple(state.mean_square), entries))
    _place(Path(path), lambda place: indexed.write(place, entries, metadata, shard_bytes))


def load(path: str | Path) -> OptimizerState:
    """Return the state in a file, or in the files of an index; the arrays are mapped, those of bfloat16 read.

    Raises:
        CheckpointError: the file cannot be read, is damaged, or is no state of unirms.
    """
    return read(Path(path), Path()).state()


def read(path: Path, spool: Path) -> Checkpoint:
    """Return what a file of unirms holds; see `unirms.checkpoints.formats.Format`."""
    stored, metadata = indexed.read(path, FORMAT)
    statement = _statement(path, metadata)
    tensors: dict[str, dict[str, Stored]] = {}
    for name, one in stored.items():
        kind, _, parameter = name.partition("/")
        if one.dtype not in SIZES:
            raise CheckpointError(f"{path}: {plain(name)!r} has the dtype {one.dtype}; states have {', '.join(SIZES)}")
        wrong = f"{plain(name)!r} has no such kind of tensor before its slash" if kind not in _KINDS else ""
        if wrong := wrong or problem(parameter):
            raise CheckpointError(f"{path} is damaged: {wrong}")
        tensors.setdefault(kind, {})[parameter] = _whole(one, path) if name in statement.complex else one
    _check_names(path, statement, tensors)
    order = {name: index for index, name in enumerate(statement.parameters)}
    return Checkpoint(
        format=FORMAT,
        parameters=statement.parameters,
        step=statement.step,
        micro_step=statement.micro_step,
        learning_rate=statement.learning_rate,
        plateau=statement.plateau,
        config=_config(path, statement.config),
        tensors={
            kind: dict(sorted(tensors[kind].items(), key=lambda item: order.get(item[0], len(order))))
            for kind in _KINDS
            if kind in tensors
        },
    )


def write(path: Path, content: Outgoing, like: Path | None) -> None:
    """Write a file of unirms; see `unirms.checkpoints.formats.Format`. Nothing of `like` is kept."""
    _refuse_index(path)
    if content.config is None or content.step is None:
        raise CheckpointError(f"{path.name}: a state of unirms needs a config and a step")
    entries = [
        Entry(f"{kind}/{name}", moving.dtype, moving.shape, moving.bytes_of_pieces)
        for kind, found in content.tensors.items()
        for name, moving in found.items()
    ]
    safetensors.write(path, entries, _metadata(_statement_of(content, content.parameters, entries)))


def _statement_of(
    content: OptimizerState | Outgoing, parameters: tuple[str, ...], entries: Sequence[Entry]
) -> _Statement:
    assert content.config is not None and content.step is not None
    try:
        return _Statement(
            schema_version=SCHEMA_VERSION,
            step=content.step,
            micro_step=content.micro_step,
            plateau=content.plateau,
            learning_rate=content.learning_rate,
            config=_config_data(content.config),
            parameters=parameters,
            complex=_complex(entries),
        )
    except ValidationError as error:
        raise StateError(
            [
                f"{'.'.join(map(str, wrong['loc']))} of the state is {as_given(wrong['input'])}: {wrong['msg']}"
                for wrong in error.errors(include_url=False)
            ]
        ) from None


def _refuse_index(path: Path) -> None:
    if path.name.endswith(indexed.SUFFIX):
        raise CheckpointError(f"{path} has the name of an index; name the file without {indexed.SUFFIX}")


def _check(state: OptimizerState, arrays: Mapping[str, Mapping[str, Array]]) -> None:
    """Raise for a state that cannot be in a file, but for its values, which are looked at while they are written."""
    problems = [*([] if state.config else [NO_CONFIG]), *state.problems()]
    for kind, found in arrays.items():
        problems += [wrong for name in found if (wrong := problem(name))]
        problems += [
            f"{kind} of {name!r} is {array.dtype}; states have {', '.join(_HELD)}"
            for name, array in found.items()
            if hasattr(array, "dtype") and array.dtype.name not in _HELD
        ]
    if problems:
        raise StateError(list(dict.fromkeys(problems)))


_HELD: Final = tuple(dtype for dtype in SIZES if dtype != "bfloat16")


def _bytes(kind: str, name: str, array: Array) -> Iterator[memoryview]:
    """Yield the elements of an array, each piece once it is known to be finite."""
    move = Move(kind, name, name, array.dtype.name)
    for piece in parts(array, PIECE_BYTES):
        wrong = move.problem(piece, piece)
        if wrong:
            raise StateError([wrong])
        yield raw(piece, move.dtype)


def _complex(entries: Sequence[Entry]) -> tuple[str, ...]:
    return tuple(entry.name for entry in entries if entry.dtype in safetensors.PARTS)


def _whole(stored: Stored, path: Path) -> Stored:
    """Return a tensor of complex elements, whose parts the file has as a last axis."""
    dtype = next((whole for whole, part in safetensors.PARTS.items() if part == stored.dtype), None)
    if dtype is None or stored.shape[-1:] != (2,):
        raise CheckpointError(f"{path} is damaged: a tensor of complex elements has no axis for their parts")
    return stored.model_copy(update={"dtype": dtype, "shape": stored.shape[:-1]})


def _config_data(config: RMSPropConfig) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(files.to_text(config, "json"))
    return data


def _config(path: Path, data: dict[str, Any]) -> RMSPropConfig:
    try:
        return files.from_document(Document(data, "json", str(path)))
    except ConfigError as error:
        raise CheckpointError(f"the config in {plain(str(error))}") from None


def _check_names(path: Path, statement: _Statement, tensors: Mapping[str, Mapping[str, Stored]]) -> None:
    """Raise unless the slots are those of the parameters."""
    names = set(statement.parameters)
    if len(names) < len(statement.parameters):
        raise CheckpointError(f"{path} is damaged: a parameter is named twice")
    for kind in (*SLOTS, GRADIENT_SUM):
        for name in tensors.get(kind, {}):
            if name not in names:
                raise CheckpointError(f"{path} is damaged: it has a {kind} of {name!r}, which is no parameter")
    for name in statement.parameters:
        if name not in tensors.get("mean_square", {}):
            raise CheckpointError(f"{path} is damaged: the mean_square of {plain(name)!r} is missing")


def _place(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` write beside a path; move there what it wrote, and remove what a former state left beside it."""
    try:
        with placing(path) as folder:
            write(folder / path.name)
            fresh = {entry.name for entry in folder.iterdir()}
        remove_former(path, fresh)
    except UnirmsError:
        raise
    except (OSError, ValueError) as error:  # the second: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{plain(str(path))} cannot be written: {reason}") from None


def remove_former(path: Path, fresh: Collection[str]) -> None:
    """Remove what a former state left under the name of a file: all but what has just been written.

    Raises:
        OSError: a file cannot be removed.
    """
    for stale in indexed.files(path):
        if stale.name not in fresh and (stale == path or _is_ours(stale)):
            stale.unlink(missing_ok=True)


def _is_ours(path: Path) -> bool:
    """Return whether a file has, or lists, a state of unirms."""
    try:
        return FORMAT in indexed.metadata(path)
    except CheckpointError:
        return False


def _metadata(statement: _Statement) -> dict[str, str]:
    text = statement.model_dump_json()
    if len(text) > _LONGEST_STATEMENT:
        raise CheckpointError(
            f"{len(text)} characters of names and config are too many; a file has {_LONGEST_STATEMENT}"
        )
    return {FORMAT: text}


def _statement(path: Path, metadata: Mapping[str, Any]) -> _Statement:
    """Return what the metadata says of a state."""
    if FORMAT not in metadata:
        raise CheckpointError(
            f"{path} is a safetensors file without a state of unirms; OptimizerState.save writes such files"
        )
    try:
        if len(metadata[FORMAT]) > _LONGEST_STATEMENT:
            raise CheckpointError(f"{path} is damaged: its metadata has more than {_LONGEST_STATEMENT} characters")
        data = json.loads(metadata[FORMAT], object_pairs_hook=safetensors.without_doubles)
        version = data.get("schema_version") if isinstance(data, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise CheckpointError(
                f"{path} was made by a newer unirms (schema {version}; this one reads up to {SCHEMA_VERSION}); "
                "upgrade with: pip install -U unirms"
            )
        if version != SCHEMA_VERSION or isinstance(version, bool):
            raise CheckpointError(f"{path} is damaged: its schema is {plain(repr(version))}, not {SCHEMA_VERSION}")
        return _Statement(**data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        raise CheckpointError(f"{path} is damaged: {plain(place)}: {plain(first['msg'])}") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {plain(str(error))}") from None
