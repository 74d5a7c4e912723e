"""From the state dictionaries of Paddle's to what they hold of a training run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unirms.checkpoints.checkpoint import Checkpoint
from unirms.checkpoints.naming import plain, problem
from unirms.checkpoints.tensors import SIZES, Stored
from unirms.config import RMSPropConfig
from unirms.errors import CheckpointError, ConfigError, some
from unirms.moving.planning import uses
from unirms.schedules import Plateau
from unirms.schedules.plateau import PlateauState
from unirms.state import GRADIENT_SUM, SLOTS, WEIGHTS

from ..spool import Spool
from .dicts import Accumulators, Model, named
from .names import CONFIG_NAMES, CONFIG_TEXT, MICRO_STEP, SCHEDULER, STEP
from .tensors import Tensor, tensor_in

MOST_UPDATES = 1 << 53
"""A count of updates beyond it is none."""


@dataclass
class _Found:
    """What has been read so far."""

    config: RMSPropConfig | None = None
    step: int | None = None
    micro_step: int = 0
    learning_rate: float | None = None
    plateau: PlateauState | None = None
    notes: list[str] = field(default_factory=list)


def checkpoint(optimizer: Accumulators | None, model: Model | None, format_name: str, spool: Spool) -> Checkpoint:
    """Return what the parts of a checkpoint hold.

    Raises:
        CheckpointError: there is neither part, or something in them is not what it should be.
    """
    found = _Found()
    weights = {} if model is None else _weights(model, spool, found)
    tensors: dict[str, dict[str, Stored]] = {}
    names: dict[str, str] = {}
    if optimizer is not None:
        own, found.config = stated(optimizer)
        names, notes = named(optimizer, model, own)
        found.notes += notes
        _count(optimizer, found)
        _schedule(optimizer, found)
        tensors = _slots(optimizer, names, found, weights, spool)
    if weights:
        tensors[WEIGHTS] = weights
    for name in {**weights, **dict.fromkeys(names.values())}:
        if problem(name):
            raise CheckpointError(problem(name))
    held = tensors.get("mean_square", {})
    return Checkpoint(
        format=format_name,
        parameters=tuple(name for name in names.values() if name in held),
        step=found.step,
        micro_step=found.micro_step,
        learning_rate=found.learning_rate,
        plateau=found.plateau,
        config=found.config,
        tensors=tensors,
        notes=tuple(found.notes),
    )


def _weights(model: Model, spool: Spool, found: _Found) -> dict[str, Stored]:
    tensors = model.tensors()
    left = [key for key, one in tensors.items() if one.kind not in SIZES]
    if left:
        found.notes.append(f"{some(left, 1)} of the model has no numbers with a fraction, and is left out")
    return {key: model.source.stored(one, spool) for key, one in tensors.items() if one.kind in SIZES}


def stated(optimizer: Accumulators) -> tuple[dict[str, str], RMSPropConfig | None]:
    """Return the user's names by the parameters' own, and the config, where the exact class has said both."""
    if optimizer.stated is None:
        return {}, None
    said, name = optimizer.part[optimizer.stated], optimizer.source.name
    names = said.get(CONFIG_NAMES) if isinstance(said, dict) else None
    if not isinstance(names, dict) or not all(isinstance(one, str) for pair in names.items() for one in pair):
        raise CheckpointError(f"{name} is damaged: {optimizer.stated} has no names of parameters")
    try:
        data = json.loads(optimizer.source.text(said.get(CONFIG_TEXT)) or "")
        config = RMSPropConfig(**data) if isinstance(data, dict) else None
    except (ConfigError, RecursionError, TypeError, ValueError) as error:
        raise CheckpointError(f"{name}: its config cannot be read: {plain(str(error))}") from None
    if config is None or len(set(names.values())) < len(names):
        raise CheckpointError(f"{name} is damaged: {optimizer.stated} is no config, or has a name twice")
    return names, config


def _count(optimizer: Accumulators, found: _Found) -> None:
    """Read the completed updates, and the gradients gathered since."""
    if STEP in optimizer.counts:
        found.step = _whole(optimizer, optimizer.part[optimizer.counts[STEP]], "count of updates")
    if MICRO_STEP in optimizer.counts:
        found.micro_step = _whole(optimizer, optimizer.part[optimizer.counts[MICRO_STEP]], "count of gradients")


def _schedule(optimizer: Accumulators, found: _Found) -> None:
    """Read where the scheduler is; the stock class has no other count of updates."""
    place = optimizer.part.get(SCHEDULER)
    rate = None if not isinstance(place, dict) else place.get("last_lr")
    if not isinstance(place, dict):
        if found.config is not None and not isinstance(found.config.learning_rate, Plateau) and found.step is not None:
            found.learning_rate = found.config.learning_rate_at(found.step)
        return
    found.learning_rate = _rate(optimizer, rate)
    if "num_bad_epochs" in place:
        found.plateau = _plateau(optimizer, place, found)
        return
    updates = _whole(optimizer, place.get("last_epoch"), "last_epoch")
    if found.step is None:
        found.step = updates
        found.notes.append(f"the count of updates, {updates}, is that of the scheduler, stepped after each update")


def _plateau(optimizer: Accumulators, place: Mapping[Any, Any], found: _Found) -> PlateauState:
    best: int | float | None = -math.inf if _upwards(found.config) else math.inf
    if place.get("best") is not None:
        best = optimizer.source.number(place["best"])
    if best is None:
        raise CheckpointError(f"{optimizer.source.name} is damaged: the best metric of its scheduler is no number")
    bad, cooldown = (_whole(optimizer, place.get(key), key) for key in ("num_bad_epochs", "cooldown_counter"))
    return PlateauState(found.learning_rate or 0.0, float(best), bad, cooldown)


def _upwards(config: RMSPropConfig | None) -> bool:
    """Return whether higher metrics are better, in a plateau of the config."""
    return config is not None and isinstance(config.learning_rate, Plateau) and config.learning_rate.mode == "max"


def _rate(optimizer: Accumulators, value: Any) -> float:
    rate = optimizer.source.number(value)
    if rate is None or not 0 <= rate < math.inf:
        raise CheckpointError(f"{optimizer.source.name} is damaged: its scheduler has no learning rate")
    return float(rate)


def _whole(optimizer: Accumulators, value: Any, what: str) -> int:
    number = optimizer.source.number(value)
    if number is None or not 0 <= number <= MOST_UPDATES or number != int(number):
        raise CheckpointError(f"{optimizer.source.name} is damaged: its {what} is no whole number >= 0")
    return int(number)


def _slots(
    optimizer: Accumulators, names: Mapping[str, str], found: _Found, weights: Mapping[str, Stored], spool: Spool
) -> dict[str, dict[str, Stored]]:
    """Return the accumulators by the user's names, in the order of the parameters, without those that are not used."""
    kinds = [kind for kind in (*SLOTS, GRADIENT_SUM) if optimizer.found[kind] or kind == "mean_square"]
    if found.micro_step == 0 and GRADIENT_SUM in kinds:
        kinds.remove(GRADIENT_SUM)  # of a static graph, in which the variables are always there
    tensors = {kind: _of_kind(optimizer, kind, names, spool) for kind in kinds}
    lost = [own for kind in kinds for own in optimizer.found[kind] if own not in names]
    if lost:
        raise CheckpointError(
            f"{optimizer.source.name} is damaged: it has no mean square of {plain(lost[0])!r}, but others"
        )
    if found.config is None:
        if tensors["mean_square"]:
            found.notes.append(
                "Paddle keeps momentum and mean_grad whether or not they are used, and writes no hyperparameters: only "
                "a config tells which of them mean something"
            )
        return tensors
    _complete(tensors, names, found, weights, spool)
    for kind in SLOTS:
        used = {name for name in tensors.get(kind, {}) if uses(found.config.for_parameter(name))[kind]}
        tensors[kind] = {name: one for name, one in tensors.get(kind, {}).items() if name in used}
    return {kind: one for kind, one in tensors.items() if one or kind == "mean_square"}


def _of_kind(optimizer: Accumulators, kind: str, names: Mapping[str, str], spool: Spool) -> dict[str, Stored]:
    keys = optimizer.found[kind]
    held: dict[str, Tensor | None] = {name: tensor_in(optimizer.part[keys[own]]) for own, name in _pairs(keys, names)}
    return {name: optimizer.source.stored(one, spool) for name, one in held.items() if one is not None}


def _pairs(keys: Mapping[str, str], names: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(own, name) for own, name in names.items() if own in keys]


def _complete(
    tensors: dict[str, dict[str, Stored]],
    names: Mapping[str, str],
    found: _Found,
    weights: Mapping[str, Stored],
    spool: Spool,
) -> None:
    """Add what Paddle makes at a parameter's first gradient, and the mean of the weights, made at the first update."""
    assert found.config is not None
    any_of_it = {**weights, **{name: one for held in tensors.values() for name, one in held.items()}}
    shaped = {name: any_of_it[name] for name in names.values() if name in any_of_it}
    begins = {"mean_square": found.config.initial_mean_square, "mean_gradient": 0.0, "momentum": 0.0}
    for kind, value in begins.items():
        held = tensors.get(kind, {})
        tensors[kind] = {
            name: held.get(name) or spool.constant(one.dtype, one.shape, value) for name, one in shaped.items()
        }
    if not found.step:
        tensors["average"] = {name: weights[name] for name in shaped if name in weights}
