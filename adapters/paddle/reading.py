"""PaddlePaddle: what a live optimizer, stock or exact, computes and remembers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle

from unirms.bfloat16 import held_as
from unirms.clipping import ClipByGlobalNorm
from unirms.config import RMSPropConfig
from unirms.errors import UnsupportedError
from unirms.grouping import with_rate
from unirms.protocol import NamedParameter
from unirms.state import Array, OptimizerState

from .. import common
from ..checkpoints.paddle.names import SLOTS
from . import schedules
from .models import array_of, dtype_of
from .operations import array, put
from .optimizer import LIVE, UniRMSProp

_NAMES = "_unirms_names"


def remember_names(optimizer: Any, names: Sequence[str]) -> None:
    """Note on a stock optimizer the user's names of its parameters, in order."""
    setattr(optimizer, _NAMES, list(names))


def config_of(optimizer: Any) -> RMSPropConfig:
    """Return the config with the present hyperparameters; see `Adapter.config_of`."""
    if isinstance(optimizer, UniRMSProp):
        return with_rate(optimizer.live_config(), schedules.rate_of(optimizer._learning_rate))
    groups, known = _groups(optimizer), _known(optimizer)
    config = common.one_config(
        [
            common.LiveGroup(_config_of(optimizer, group, param), [known[param.name].name], scale_of(param))
            for group in groups
            for param in group["params"]
        ]
    )
    names = [[known[param.name].name for param in group["params"]] for group in groups]
    return common.with_seed(optimizer, _with_joint_clips(config, names))


def parameters_of(optimizer: Any) -> list[NamedParameter]:
    """Return what an optimizer updates; see `Adapter.parameters_of`."""
    known = _known(optimizer)
    updated = {name for made in optimizer._accumulators.values() for name in made}
    return [
        NamedParameter(known[param.name].name, param, dtype_of(param))
        for param in _every_parameter(optimizer)
        # For the stock class, `Layer.parameters()` has among them running means, which no gradient ever reaches.
        if isinstance(optimizer, UniRMSProp) or not param.stop_gradient or param.name in updated
    ]


def state_of(optimizer: Any) -> OptimizerState:
    """Return the accumulators; see `Adapter.state_of`."""
    params = parameters_of(optimizer)
    slots = {slot: _slot(optimizer, slot, params) for slot in SLOTS}
    plateau = schedules.plateau_of(optimizer._learning_rate)
    if not isinstance(optimizer, UniRMSProp):
        return OptimizerState.of(schedules.updates_of(optimizer._learning_rate), slots, plateau=plateau)
    if optimizer.config.ema_decay > 0:  # before the first update it is the weights
        means = {one.name: optimizer.average_of(one.value) for one in params}
        slots["average"] = _arrays({one.name: _or(means[one.name], one.value) for one in params})
    gathered = {one.name: optimizer.gathered_of(one.value) for one in params}
    return OptimizerState.of(
        optimizer.progress.read("updates"),
        slots,
        _arrays({name: total for name, total in gathered.items() if total is not None}),
        optimizer.progress.read("micro_step"),
        plateau,
    )


def swap_average(optimizer: Any) -> None:
    """Exchange the weights and their running means; see `Adapter.swap_average`."""
    if not isinstance(optimizer, UniRMSProp) or optimizer.config.ema_decay == 0:
        raise UnsupportedError(
            "paddle: the optimizer keeps no running means of the weights; build it from a config with ema_decay > 0"
        )
    for param in optimizer.every_parameter():
        mean = optimizer.average_of(param)
        if mean is not None:  # before the first update both are the same
            weight = array_of(param)
            put(param, array_of(mean))
            put(mean, weight)


def scale_of(param: Any) -> float:
    """Return the factor on the learning rate that a parameter carries, which the stock class obeys."""
    return float((getattr(param, "optimize_attr", None) or {}).get("learning_rate", 1.0))


def _groups(optimizer: Any) -> list[Mapping[str, Any]]:
    params = optimizer._param_groups
    if params is None:
        found = paddle.static.default_main_program().global_block().all_parameters()
        return [{"params": [param for param in found if not param.stop_gradient]}]
    return params if isinstance(params[0], dict) else [{"params": params}]


def _config_of(optimizer: Any, group: Mapping[str, Any], param: Any) -> RMSPropConfig:
    """Return what a stock optimizer computes for one parameter."""
    regularizer = getattr(param, "regularizer", None)
    rate, scale = schedules.rate_of(optimizer._learning_rate), scale_of(param)
    native = {
        "learning_rate": float(optimizer.get_lr()) * scale,
        "weight_decay": regularizer if regularizer is not None else optimizer.regularization,
        "grad_clip": group.get("grad_clip", optimizer._grad_clip),
        **{field: group.get(field, getattr(optimizer, attribute)) for field, attribute in LIVE.items()},
    }
    config = RMSPropConfig.from_native("paddle", **native)
    if isinstance(rate, float):
        return config
    return config.replace(learning_rate=rate if scale == 1 else rate.scaled(scale))


def _with_joint_clips(config: RMSPropConfig, groups: Sequence[Sequence[str]]) -> RMSPropConfig:
    """Return the config with what Paddle's global norm is over: of several groups, given by names, each by itself.

    Raises:
        UnsupportedError: its groups are not those that a config can say.
    """
    if len(groups) == 1 or not any(isinstance(clip, ClipByGlobalNorm) for clip in config.clip):
        return config
    found = [{config.group_of(name) for name in group} for group in groups]
    if any(len(one) > 1 for one in found) or len(set().union(*found)) < len(groups):
        raise UnsupportedError(
            "it clips each parameter group by its own norm, which a config can say only of groups that differ in "
            "something else as well"
        )
    over = [clip.model_copy(update={"over": "group"} if clip.by == "global_norm" else {}) for clip in config.clip]
    return config.replace(clip=tuple(over))


@dataclass(frozen=True)
class _Known:
    """A parameter: the user's name of it, and which slots mean something; Paddle keeps all of them always."""

    name: str
    slots: frozenset[str]


def _known(optimizer: Any) -> dict[str, _Known]:
    """Return the parameters by Paddle's name. A copy of one has another of those; the order tells which it is."""
    if isinstance(optimizer, UniRMSProp):
        return {
            name: _Known(member.name, _slots(member.config.momentum, member.config.centered))
            for name, member in optimizer.members().items()
        }
    params = [(group, param) for group in _groups(optimizer) for param in group["params"]]
    names = getattr(optimizer, _NAMES, [param.name for _, param in params])
    return {
        param.name: _Known(
            name, _slots(group.get("momentum", optimizer._momentum), group.get("centered", optimizer._centered))
        )
        for name, (group, param) in zip(names, params, strict=True)
    }


def _slots(momentum: float, centered: bool) -> frozenset[str]:
    return frozenset({"mean_square", *["momentum"] * (momentum > 0), *["mean_gradient"] * centered})


def _every_parameter(optimizer: Any) -> list[Any]:
    if isinstance(optimizer, UniRMSProp):
        return optimizer.every_parameter()
    return [param for group in _groups(optimizer) for param in group["params"]]


def _slot(optimizer: Any, slot: str, params: Sequence[NamedParameter]) -> dict[str, Array]:
    """Return copies of one accumulator, of the parameters that use it; where Paddle has none yet, what it begins as."""
    accumulator = f"{optimizer._name}_{SLOTS[slot]}" if optimizer._name else SLOTS[slot]
    made = optimizer._accumulators.get(accumulator, {})
    loaded = _loaded(optimizer, accumulator)
    known = _known(optimizer)
    found = {}
    for param in params:
        own = param.value.name
        if slot in known[own].slots:
            value = _or(made.get(own), loaded.get(own))
            found[param.name] = _or(None if value is None else _array(value), _initial(optimizer, slot, param))
    return found


def _loaded(optimizer: Any, accumulator: str) -> dict[str, Any]:
    """Return what was loaded of an accumulator and not yet taken over at a step, by Paddle's name of the parameter."""
    tail = re.compile(rf"(.+)_{re.escape(accumulator)}_\d+")
    matches = {key: tail.fullmatch(key) for key in optimizer._accumulators_holder}
    return {match[1]: optimizer._accumulators_holder[key] for key, match in matches.items() if match}


def _initial(optimizer: Any, slot: str, param: NamedParameter) -> Array:
    """Return what an accumulator is made as; a stock class that starts elsewhere than at 0 has its made already."""
    seeded = slot == "mean_square" and isinstance(optimizer, UniRMSProp)
    return np.full(param.shape, optimizer.config.initial_mean_square if seeded else 0.0, held_as(param.dtype))


def _array(value: Any) -> Array | None:
    return np.array(value) if isinstance(value, np.ndarray) else array(value)


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def _arrays(variables: Mapping[str, Any]) -> dict[str, Array]:
    """Return copies of tensors or variables of a graph; those are left out that have no value yet."""
    found = {name: array(variable) for name, variable in variables.items()}
    return {name: value for name, value in found.items() if value is not None}
