"""PyTorch: the groups of a config as param_groups, and back.

The constraint that shapes this module: `param_groups` may hold PyTorch's own keys only, because distributed checkpoints
of a stock optimizer must load into ours and back. Hyperparameters live in them, where schedulers and checkpoints find
them; what PyTorch has no word for is kept in `UniRMSProp.config`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from unirms import dialects
from unirms.config import RMSPropConfig
from unirms.errors import UnsupportedError
from unirms.grouping import Member, members
from unirms.protocol import NamedParameter

from .. import common
from . import schedules
from .accumulators import names_of

# Key of a param_group -> field of the config.
LIVE = {argument.name: argument.fields[0] for argument in dialects.get("torch").arguments if argument.write is not None}
RATE = dialects.get("torch").name_of("learning_rate")
# A product and a quotient of doubles are rounded: a rate that a scheduler has multiplied is still the same multiple.
SAME_RATE = 1e-12


def named_parameters(params: Any) -> list[NamedParameter]:
    """Return the trainable parameters of a Module, or the given ones."""
    if isinstance(params, torch.nn.Module):
        params = [(name, param) for name, param in params.named_parameters() if param.requires_grad]
    return common.named(
        params,
        is_parameter=lambda value: isinstance(value, torch.Tensor),
        name_of=lambda index, value: str(index),
        dtype_of=lambda value: str(value.dtype).removeprefix("torch."),
    )


def groups_of(config: RMSPropConfig, params: Sequence[NamedParameter]) -> list[dict[str, Any]]:
    """Return param_groups: one for the parameters in no group, the first, and one for each group of the config.

    Groups whose parameters differ in their weight decay, by `no_weight_decay`, are two. Names go along where the user
    gave any, or where there are several groups: PyTorch's numbers of parameters would then be others than the user's.

    Raises:
        UnsupportedError: a group matches no parameter.
    """
    split: dict[tuple[int, float], list[tuple[Member, NamedParameter]]] = {}
    for member, param in zip(members(config, [param.name for param in params]), params, strict=True):
        place = -1 if member.group is None else member.group
        split.setdefault((place, member.config.weight_decay), []).append((member, param))
    numbered = [param.name for param in params] == [str(index) for index in range(len(params))]
    anonymous = numbered and len(split) == 1
    return [
        {
            "params": [param.value if anonymous else (param.name, param.value) for _, param in found],
            **native(found[0][0].config),
        }
        for _, found in sorted(split.items(), key=lambda item: item[0][0])
    ]


def grouped(params: Any, config: RMSPropConfig) -> Any:
    """Return the param_groups of a config over parameters or (name, parameter) pairs; groups as they are."""
    given = [params] if isinstance(params, torch.Tensor) else list(params)
    return given if given and isinstance(given[0], dict) else groups_of(config, named_parameters(given))


def rate_factors(config: RMSPropConfig, optimizer: torch.optim.Optimizer) -> list[float]:
    """Return the rate of each param_group as a multiple of the config's; none at all without groups."""
    if not config.groups:
        return []
    factor_of = {member.name: member.rate_factor for member in _members(config, optimizer)}
    return [factor_of[names[0]] if names else 1.0 for names in _names_by_group(optimizer)]


def config_of(optimizer: torch.optim.Optimizer, config: RMSPropConfig | None) -> RMSPropConfig:
    """Return what an optimizer computes with the hyperparameters that its param_groups hold now.

    The learning rate is the schedule while the groups hold its present rate; a rate that was set by hand, or by another
    scheduler, is a number.

    Args:
        optimizer: a stock or an exact one.
        config: what it was built from; None for a stock one, which means what its keywords say.

    Raises:
        UnsupportedError: its groups differ in a way that no config can say.
    """
    if config is not None:
        unchanged = _as_built(optimizer, config)
        if unchanged is not None:
            return unchanged
    holds = {} if config is None else {member.name: member.config for member in _members(config, optimizer)}
    return common.one_config(
        [
            _live_group(optimizer, group, names, holds[names[0]] if holds and names else config)
            for group, names in zip(optimizer.param_groups, _names_by_group(optimizer), strict=True)
        ]
    )


def native(config: RMSPropConfig) -> dict[str, Any]:
    """Return the hyperparameters of a config by their keys in a param_group; of a schedule, its first rate."""
    return {name: getattr(config, field) for name, field in LIVE.items()} | {RATE: config.initial_learning_rate}


def _members(config: RMSPropConfig, optimizer: torch.optim.Optimizer) -> list[Member]:
    return members(config, [name for name, _ in names_of(optimizer)])


def _names_by_group(optimizer: torch.optim.Optimizer) -> list[list[str]]:
    names = iter(names_of(optimizer))
    return [[next(names)[0] for _ in group["params"]] for group in optimizer.param_groups]


def _as_built(optimizer: torch.optim.Optimizer, config: RMSPropConfig) -> RMSPropConfig | None:
    """Return the config with its present learning rate, where nothing else has changed; otherwise None."""
    built = _members(config, optimizer)
    groups = [group for group in optimizer.param_groups for _ in group["params"]]
    held = [_live(group) for group in groups]
    for member, live in zip(built, held, strict=True):
        if any(live[name] != getattr(member.config, field) for name, field in LIVE.items() if name != RATE):
            return None
    followed = {schedules.schedule_of(optimizer, group) for group in optimizer.param_groups}
    schedule = followed.pop()
    if followed:
        return None
    if schedule is None:
        return _with_rates(config, built, [live[RATE] for live in held])
    factors = [schedules.factor_of(optimizer, group) for group in groups]
    same = factors == [member.rate_factor for member in built]
    return config.replace(learning_rate=schedule) if same else None


def _with_rates(config: RMSPropConfig, built: Sequence[Member], rates: Sequence[float]) -> RMSPropConfig | None:
    """Return the config with the rate of which all parameters have their multiples; None where there is none."""
    if rates == [member.config.learning_rate for member in built]:
        return config
    # The best to tell it by is the parameter whose factor is nearest to 1.
    nearest, rate = min(zip(built, rates, strict=True), key=lambda pair: abs(pair[0].rate_factor - 1))
    base = rate / nearest.rate_factor if nearest.rate_factor else config.initial_learning_rate
    for member, rate in zip(built, rates, strict=True):
        if not math.isclose(rate, base * member.rate_factor, rel_tol=SAME_RATE):
            return None
    factor_of = {member.group: member.rate_factor for member in built}
    groups = [
        group if group.learning_rate is None else group.model_copy(update={"learning_rate": base * factor_of[index]})
        for index, group in enumerate(config.groups)
    ]
    return config.replace(learning_rate=base, groups=tuple(groups))


def _live(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(group[name]) for name in LIVE}


def _live_group(
    optimizer: torch.optim.Optimizer, group: Mapping[str, Any], names: Sequence[str], built: RMSPropConfig | None
) -> common.LiveGroup:
    """Return what holds in a param_group now; `built` is what held for its parameters, None in a stock optimizer."""
    live = _live(group)
    if built is None:
        config = common.with_seed(optimizer, RMSPropConfig.from_native("torch", **live))
    else:
        changed: dict[str, Any] = {field: live[name] for name, field in LIVE.items()}
        changed |= {"nesterov": False} if live["momentum"] == 0 else {}
        config = built.replace(**changed, no_weight_decay=(), groups=())
    schedule = schedules.schedule_of(optimizer, group)
    if schedule is None:
        return common.LiveGroup(config, names)
    factor = schedules.factor_of(optimizer, group)
    scaled = schedule if factor == 1 else schedule.scaled(factor)
    return common.LiveGroup(config.replace(learning_rate=scaled), names, factor)


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        if value.numel() != 1:
            raise UnsupportedError(f"a hyperparameter is a tensor of shape {tuple(value.shape)}; it must be a scalar")
        return value.item()
    return value
