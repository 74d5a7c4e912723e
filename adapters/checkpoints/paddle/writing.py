"""From what a file is to hold to the state dictionaries of Paddle's, and to files with them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from unirms.checkpoints.checkpoint import Outgoing
from unirms.checkpoints.naming import plain
from unirms.checkpoints.tensors import SIZES, Moving
from unirms.errors import CheckpointError
from unirms.schedules import AnySchedule, Plateau
from unirms.semantics import Fidelity
from unirms.state import GRADIENT_SUM, WEIGHTS

from .dicts import Accumulators, Model, model_in, named, optimizer_in
from .names import (
    AVERAGE,
    CONFIG,
    CONFIG_NAMES,
    CONFIG_TEXT,
    MICRO_STEP,
    MODEL,
    NAME_TABLE,
    OPTIMIZER,
    SCHEDULER,
    SLOTS,
    STEP,
)
from .names import GRADIENT_SUM as SUM
from .pickling import Pickler, Zeros
from .reading import stated
from .tensors import LONGEST_READ, Source, Tensor, tensor_in

_OWN: Final = re.compile(r".+\.[wb]_\d+")
"""What Paddle calls a parameter by itself: linear_0.w_0."""
_TENSORS: Final = (Moving, Zeros, Tensor, np.ndarray)
_KEYS: Final = {"average": AVERAGE, GRADIENT_SUM: SUM}


def write(path: Path, content: Outgoing, like: Sequence[Source]) -> None:
    """Write one file or two; see `adapters.checkpoints.paddle.write`.

    Raises:
        CheckpointError: the parameters' own names are not known, or a file cannot be written.
        StateError: a tensor has a NaN, or a value that its dtype cannot hold.
    """
    optimizer = optimizer_in(like)
    model = model_in(like, optimizer)
    own = _own_names(content, optimizer, model)
    state, weights = _state(content, own, optimizer, _rest(like, optimizer)), _weights(content, own, model)
    for place, (data, source) in _files(path, state, weights, like, optimizer, model).items():
        try:
            with place.open("wb") as file:
                Pickler(file, source).dump(data)
        except OSError as error:
            raise CheckpointError(f"{plain(str(place))} cannot be written: {error.strerror}") from None


def _own_names(content: Outgoing, optimizer: Accumulators | None, model: Model | None) -> dict[str, str]:
    """Return the parameters' own names by the user's, by which the stock class looks for its accumulators."""
    known: dict[str, str] = {}
    if model is not None:
        known = dict(model.own_names) or {key: key for key in model.tensors()}
    if optimizer is not None:
        known |= {user: own for own, user in named(optimizer, model, stated(optimizer)[0])[0].items()}
    lost = [name for name in content.parameters if name not in known and not _OWN.fullmatch(name)]
    if lost and (known or not _needs_exact(content)):
        raise CheckpointError(
            "Paddle finds the accumulators of a parameter by its own name, such as linear_0.w_0, and nothing tells "
            f"that of {plain(lost[0])!r}; give --like a file that Paddle has saved of the same model, as "
            'paddle.save(net.state_dict(), "like.pdparams") writes it'
        )
    return {name: known.get(name, name) for name in content.parameters}


def _needs_exact(content: Outgoing) -> bool:
    """Return whether `UniRMSProp` is to go on from the file for certain: it finds accumulators by the user's names."""
    if content.stock or content.config is None:
        return False
    found = content.config.to_native("paddle").differences
    scheduled = not content.config.has_constant_rate
    return any(one.fidelity > Fidelity.SEEDED and not (scheduled and one.axis == "learning_rate") for one in found)


def _rest(like: Sequence[Source], optimizer: Accumulators | None) -> dict[Any, Any]:
    """Return what else an optimizer's part has, also of one without accumulators, which was saved before any step."""
    if optimizer is None:
        empty = [one.data for one in like if one.path.suffix == OPTIMIZER and isinstance(one.data, dict)]
        return dict(empty[0]) if empty else {}
    taken = {key for found in optimizer.found.values() for key in found.values()}
    return {key: value for key, value in optimizer.part.items() if key not in taken and key != optimizer.stated}


def _state(
    content: Outgoing, own: Mapping[str, str], optimizer: Accumulators | None, rest: dict[Any, Any]
) -> dict[Any, Any]:
    """Return the optimizer's part."""
    found: dict[Any, Any] = {}
    shaped = content.tensors.get("mean_square", {})
    for kind, accumulator in [*SLOTS.items()][::-1]:
        tensors = content.tensors.get(kind, {})
        for name, one in shaped.items():
            zeros = Zeros(one.dtype, one.shape)
            found[_key(optimizer, kind, own[name], f"{accumulator}_0")] = tensors.get(name, zeros)
    for kind, accumulator in _KEYS.items():
        for name, moving in content.tensors.get(kind, {}).items():
            found[_key(optimizer, kind, own[name], accumulator)] = moving
    if optimizer is not None and _is_static(optimizer):
        found |= _variables(optimizer, found)
    found |= {key: value for key, value in rest.items() if key != NAME_TABLE}
    found |= _counts(content, optimizer) | _place(content, rest, optimizer)
    if optimizer is None or not _is_static(optimizer):
        found |= _said(content, own, optimizer)
    return _styled(found, {}, _style(None if optimizer is None else optimizer.part))


def _key(optimizer: Accumulators | None, kind: str, own: str, otherwise: str) -> str:
    """Return the key of an accumulator: that of the other file, if it has one."""
    known = None if optimizer is None else optimizer.found[kind].get(own)
    return known or f"{own}_{otherwise}"


def _is_static(optimizer: Accumulators) -> bool:
    """Return whether the part is that of a program, in which everything is a variable that is looked for."""
    tensors = [value for value in optimizer.part.values() if tensor_in(value) is not None]
    return NAME_TABLE not in optimizer.part and not any(isinstance(value, tuple) for value in tensors)


def _variables(optimizer: Accumulators, written: Mapping[str, Any]) -> dict[str, Zeros]:
    """Return zeros for the sums of gradients that a program has although none is gathered."""
    found = {}
    for key in optimizer.found[GRADIENT_SUM].values():
        tensor = tensor_in(optimizer.part[key])
        if tensor is not None and key not in written:
            if tensor.kind not in SIZES:
                raise CheckpointError(f"{plain(key)} of {optimizer.source.name} is {tensor.kind}, which no state has")
            found[key] = Zeros(tensor.kind, tensor.shape)
    return found


def _counts(content: Outgoing, optimizer: Accumulators | None) -> dict[str, Any]:
    found = {}
    for name, value in {STEP: content.step, MICRO_STEP: content.micro_step or None}.items():
        if optimizer is not None and name in optimizer.counts:
            key = optimizer.counts[name]
            found[key] = np.full(_shape_of_count(optimizer, key), value or 0, np.int64)
        elif value is not None and (optimizer is None or not _is_static(optimizer)):
            found[_prefixed(optimizer, name)] = np.full(1, value, np.int64)
    return found


def _shape_of_count(optimizer: Accumulators, key: str) -> tuple[int, ...]:
    tensor = tensor_in(optimizer.part[key])
    if tensor is not None and tensor.count != 1:
        raise CheckpointError(f"{optimizer.source.name} is damaged: {plain(key)} is no single number")
    return () if tensor is None else tensor.shape


def _prefixed(optimizer: Accumulators | None, name: str) -> str:
    """Return the key of a count or of the config, with the optimizer's own name before it where it has one."""
    known = "" if optimizer is None or optimizer.stated is None else optimizer.stated.removesuffix(CONFIG)
    return f"{known}{name}"


def _place(content: Outgoing, rest: Mapping[Any, Any], optimizer: Accumulators | None) -> dict[str, Any]:
    """Return where the scheduler is, in the keys of its class."""
    config, before = content.config, rest.get(SCHEDULER)
    scheduled = config is not None and isinstance(config.learning_rate, AnySchedule)
    before = before if isinstance(before, dict) else {}
    if not before and (not scheduled or (optimizer is not None and _is_static(optimizer))):
        return {}
    rate = content.learning_rate
    if rate is None and config is not None:
        rate = config.learning_rate_at(content.step or 0)
    now: dict[str, Any] = {"last_epoch": content.step or 0}
    if config is not None and isinstance(config.learning_rate, Plateau):
        state = content.plateau or config.learning_rate.begin()
        best = state.best if math.isfinite(state.best) else None
        now = {"cooldown_counter": state.cooldown, "best": best, "num_bad_epochs": state.bad}
        now["last_epoch"] = before.get("last_epoch", 0)
        rate = state.rate
    elif "num_bad_epochs" in before:
        return {SCHEDULER: before}
    return {SCHEDULER: {**before, **now, **({} if rate is None else {"last_lr": float(rate)})}}


def _said(content: Outgoing, own: Mapping[str, str], optimizer: Accumulators | None) -> dict[str, Any]:
    if content.config is None:
        return {}
    text = json.dumps(content.config.model_dump(mode="json"))
    if len(text) > LONGEST_READ:
        raise CheckpointError(f"the config takes {len(text)} bytes, more than the {LONGEST_READ} that are read again")
    names = {own[name]: name for name in content.parameters}
    return {_prefixed(optimizer, CONFIG): {CONFIG_TEXT: text, CONFIG_NAMES: names}}


def _weights(content: Outgoing, own: Mapping[str, str], model: Model | None) -> dict[Any, Any]:
    """Return the model's part; empty where there is none."""
    tensors = content.tensors.get(WEIGHTS, {})
    if not tensors:
        return {} if model is None else dict(model.part)
    part: Mapping[Any, Any] = {} if model is None else model.part
    names = dict(own) if model is None else dict(model.own_names)
    first = {} if model is None else model.first_keys()
    found = {key: value for key, value in part.items() if key != NAME_TABLE}
    shared = {key: tensors[first[names[key]]] for key in found if key in names and first.get(names[key]) in tensors}
    return _styled({**found, **tensors, **shared}, names, _style(part or None))


def _style(part: Mapping[Any, Any] | None) -> str:
    """Return how a dictionary has the names of its tensors: in a "table", "beside" each of them, or "nowhere"."""
    if part is None or NAME_TABLE in part:
        return "table"
    return (
        "beside" if any(isinstance(one, tuple) and tensor_in(one) is not None for one in part.values()) else "nowhere"
    )


def _styled(found: dict[Any, Any], names: Mapping[str, str], style: str) -> dict[Any, Any]:
    """Return a dictionary with the tensors' own names, which are their keys where nothing else is known."""
    bare = {key: names.get(key, key) for key, value in found.items() if isinstance(value, _TENSORS)}
    if style == "table":
        return {**found, NAME_TABLE: bare}
    if style == "beside":
        return {key: (bare[key], value) if key in bare else value for key, value in found.items()}
    return found


def _files(
    path: Path,
    state: dict[Any, Any],
    weights: dict[Any, Any],
    like: Sequence[Source],
    optimizer: Accumulators | None,
    model: Model | None,
) -> dict[Path, tuple[Any, Source | None]]:
    """Return what is written where, and the file from which parts of it are copied."""
    if optimizer is not None and model is not None and optimizer.source is model.source:
        data = _replaced(optimizer.source.data, optimizer.keys, state)
        return {path: (_replaced(data, model.keys, weights), optimizer.source)}
    sources = [None if one is None else one.source for one in (optimizer, model)]
    if sources[0] is None:
        sources[0] = next((one for one in like if one.path.suffix == OPTIMIZER), None)
    whole = [
        _replaced(one.source.data, one.keys, part) if one is not None else part
        for one, part in ((optimizer, state), (model, weights))
    ]
    if path.suffix in (OPTIMIZER, MODEL):
        files = {path.with_suffix(OPTIMIZER): (whole[0], sources[0]), path.with_suffix(MODEL): (whole[1], sources[1])}
        return {file: found for file, found in files.items() if found[0]}
    if not weights:
        return {path: (whole[0], sources[0])}
    if all(source is not None for source in sources):
        raise CheckpointError(f"{path.name} is one file and --like two; end its name with {OPTIMIZER}")
    both = {
        "model": _beside(weights),
        "opt": _beside(state),
    }
    return {path: (both, sources[0] or sources[1])}


def _beside(part: dict[Any, Any]) -> dict[Any, Any]:
    """Return a dictionary as it is in another: with the names beside the tensors, and not in a table."""
    return _styled({k: v for k, v in part.items() if k != NAME_TABLE}, part.get(NAME_TABLE, {}), "beside")


def _replaced(data: Any, keys: tuple[str, ...], part: Any) -> Any:
    """Return nested dictionaries with another one at some place."""
    return {**data, keys[0]: _replaced(data[keys[0]], keys[1:], part)} if keys else part
