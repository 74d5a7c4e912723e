"""PaddlePaddle: what a live optimizer, stock or exact, computes and remembers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle

from unirms.clipping import ClipByGlobalNorm
from unirms.config import RMSPropConfig
from unirms.errors import UnsupportedError
from unirms.state import Array, OptimizerState

from .. import common
from . import schedules
from .names import LIVE, SLOTS
from .operations import array
from .optimizer import UniRMSProp

_NAMES = "_unirms_names"


def remember_names(optimizer: Any, names: Sequence[str]) -> None:
    """Note on a stock optimizer the user's names of its parameters, in order."""
    setattr(optimizer, _NAMES, list(names))


def config_of(optimizer: Any) -> RMSPropConfig:
    """Return the config with the present hyperparameters; see `Adapter.config_of`."""
    if isinstance(optimizer, UniRMSProp):
        return common.with_rate(optimizer.live_config(), _rate(optimizer))
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


def state_of(optimizer: Any) -> OptimizerState:
    """Return the accumulators; see `Adapter.state_of`."""
    known = _known(optimizer)
    slots = {slot: _slot(optimizer, slot, known) for slot in SLOTS}
    if not isinstance(optimizer, UniRMSProp):
        return OptimizerState.of(0, slots)
    params = {known[param.name].name: param for param in optimizer.every_parameter()}
    if optimizer.config.ema_decay > 0:  # before the first update it is the weights
        means = {name: optimizer.average_of(param) for name, param in params.items()}
        slots["average"] = _arrays({name: params[name] if mean is None else mean for name, mean in means.items()})
    gathered = {name: optimizer.gathered_of(param) for name, param in params.items()}
    return OptimizerState.of(
        optimizer.progress.read("updates"),
        slots,
        _arrays({name: total for name, total in gathered.items() if total is not None}),
        optimizer.progress.read("micro_step"),
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
            weight = np.array(array(param))
            _put(param, np.array(array(mean)))
            _put(mean, weight)


def scale_of(param: Any) -> float:
    """Return the factor on the learning rate that a parameter carries, which the stock class obeys."""
    return float((getattr(param, "optimize_attr", None) or {}).get("learning_rate", 1.0))


def _put(variable: Any, value: Array) -> None:
    if isinstance(variable, paddle.Tensor):
        variable.set_value(value)
    else:
        paddle.static.pir_io.set_var(variable.name, value)


def _groups(optimizer: Any) -> list[Mapping[str, Any]]:
    params = optimizer._param_groups
    if params is None:
        return [{"params": paddle.static.default_main_program().global_block().all_parameters()}]
    return params if isinstance(params[0], dict) else [{"params": params}]


def _config_of(optimizer: Any, group: Mapping[str, Any], param: Any) -> RMSPropConfig:
    """Return what a stock optimizer computes for one parameter."""
    regularizer = getattr(param, "regularizer", None)
    rate, scale = _rate(optimizer), scale_of(param)
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


def _rate(optimizer: Any) -> Any:
    """Return the learning rate, or the schedule that it follows."""
    rate = optimizer._learning_rate
    if isinstance(rate, paddle.optimizer.lr.LRScheduler):
        return schedules.schedule_of(rate)
    return float(rate)


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


def _slot(optimizer: Any, slot: str, known: Mapping[str, _Known]) -> dict[str, Array]:
    """Return copies of one accumulator, of the parameters that use it."""
    accumulator = f"{optimizer._name}_{SLOTS[slot]}" if optimizer._name else SLOTS[slot]
    made = optimizer._accumulators.get(accumulator, {})
    if not optimizer._accumulators and optimizer._accumulators_holder:  # loaded, and not yet taken over at a step
        tail = re.compile(rf"(.+)_{re.escape(accumulator)}_\d+")
        matches = {key: tail.fullmatch(key) for key in optimizer._accumulators_holder}
        made = {match[1]: optimizer._accumulators_holder[key] for key, match in matches.items() if match}
    users = {name: one.name for name, one in known.items() if slot in one.slots}
    return _arrays({users[name]: variable for name, variable in made.items() if name in users})


def _arrays(variables: Mapping[str, Any]) -> dict[str, Array]:
    """Return copies of tensors, arrays or variables of a graph; those are left out that have no value yet."""
    found = {name: np.array(v) if isinstance(v, np.ndarray) else array(v) for name, v in variables.items()}
    return {name: value for name, value in found.items() if value is not None}
