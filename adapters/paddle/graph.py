"""PaddlePaddle: a step of the exact class as a part of a static graph.

Only values may be passed on there, and every operation runs every time: a run that only gathers a gradient, or whose
gradients are not finite, computes an update and writes back what was there before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import paddle

from unirms.config import RMSPropConfig
from unirms.errors import UnsupportedError
from unirms.grouping import Member
from unirms.reference import Hyperparameters

from ..checkpoints.paddle.names import AVERAGE, GRADIENT_SUM, MICRO_STEP, SLOTS, STEP
from . import preparing
from .operations import Graph
from .preparing import Ready
from .rule import mean_of_weights, rmsprop


def refusals(config: RMSPropConfig) -> list[str]:
    """Return what no static graph of Paddle can do."""
    reasons = []
    if config.non_finite == "raise":
        reasons.append(
            "non_finite='raise' is not possible in a static graph, whose operations run in no fixed order, so that an "
            "error comes after some of the updates; use 'skip'"
        )
    if config.sparse == "lazy":
        reasons.append(
            "sparse='lazy' is not possible in a static graph, where Paddle makes the gradients of embeddings dense; "
            "use 'dense'"
        )
    return reasons


def extend(optimizer: Any, due: Sequence[tuple[Any, Any]]) -> None:
    """Add the operations of a step of a `UniRMSProp` to the default main program; `due` has parameters and gradients.

    Raises:
        UnsupportedError: something that no static graph can do.
    """
    config, ops = optimizer.config, Graph()
    reasons = refusals(config)
    if reasons:
        raise UnsupportedError(f"paddle: {'; '.join(reasons)}")
    params = {param.name: param for param, _ in due}
    ready = {param.name: preparing.received(ops, config, grad, param) for param, grad in due}
    updates = _count(optimizer, STEP, "updates")
    number = updates + paddle.full([], 1, "int64")

    conditions = []
    if config.gradient_accumulation_steps > 1:
        ready, complete = _gathered(optimizer, ops, params, ready)
        conditions.append(complete)
    if config.non_finite == "skip":
        conditions += [preparing.is_finite(grad.values) for grad in ready.values()]
    ops.goes_on = reduce(paddle.logical_and, conditions) if conditions else None

    members, rates = optimizer.members(), _Rates(optimizer, number)
    now = {param.name: param for param in optimizer.every_parameter()}
    for name, grad in preparing.prepared(ops, config, ready, members).items():
        param, member = params[name], members[name]
        slots = {slot: optimizer._get_accumulator(key, param) for slot, key in SLOTS.items()}
        now[name] = rmsprop(ops, param, grad.values, slots, member.config, rates.of(member))
    if config.ema_decay > 0:
        _average(optimizer, ops, now, number)
    ops.write(updates, number)


def _gathered(
    optimizer: Any, ops: Graph, params: Mapping[str, Any], ready: Mapping[str, Ready]
) -> tuple[dict[str, Ready], Any]:
    """Return the means over the micro-steps, and whether this is the last of them; write the sums."""
    steps = optimizer.config.gradient_accumulation_steps
    micro_step = _count(optimizer, MICRO_STEP, "micro_step")
    next_one = micro_step + paddle.full([], 1, "int64")
    complete = next_one >= paddle.full([], steps, "int64")
    means = {}
    for name, grad in ready.items():
        held = _accumulator(optimizer, GRADIENT_SUM, params[name])
        total = held + grad.values
        means[name] = Ready(ops.over(total, float(steps)))
        paddle.assign(paddle.where(complete, paddle.zeros_like(total), total), output=held)
    paddle.assign(paddle.where(complete, paddle.zeros_like(next_one), next_one), output=micro_step)
    return means, complete


def _average(optimizer: Any, ops: Graph, weights: Mapping[str, Any], number: Any) -> None:
    config = optimizer.config
    begun = number > paddle.full([], config.ema_start + 1, "int64")
    for param in optimizer.every_parameter():
        mean, weight = _accumulator(optimizer, AVERAGE, param), weights[param.name]
        ops.write(mean, paddle.where(begun, mean_of_weights(ops, mean, weight, config.ema_decay), weight))


class _Rates:
    """The scalars of the parameters, with what changes between two runs of the graph as float64 values of the graph."""

    def __init__(self, optimizer: Any, number: Any) -> None:
        self._bias_correction = optimizer.config.bias_correction
        self._rate = optimizer._global_learning_rate().astype("float64")
        self._number = number.astype("float64")
        self._made: dict[tuple[int | None, float], Hyperparameters] = {}

    def of(self, member: Member) -> Hyperparameters:
        key = member.group, member.config.weight_decay
        if key not in self._made:
            self._made[key] = self._make(member)
        return self._made[key]

    def _make(self, member: Member) -> Hyperparameters:
        config = member.config
        constant = Hyperparameters.live(0.0, config.rho, config.epsilon, config.momentum, config.weight_decay)
        rate = self._rate * _double(member.rate_factor)
        changing = {"learning_rate": rate, "shrink": rate * _double(config.weight_decay)}
        if self._bias_correction:
            changing["correction"] = _double(1.0) - paddle.pow(_double(config.rho), self._number)
        return dataclasses.replace(constant, **changing)


def _double(value: float) -> Any:
    return paddle.full([], value, "float64")


def _count(optimizer: Any, name: str, what: str) -> Any:
    """Return the variable of one of the counts, and tell the optimizer's progress where it is."""
    variable = _accumulator(optimizer, name, optimizer.every_parameter()[0], dtype="int64", shape=[])
    optimizer.progress.variables[what] = variable.name
    return variable


def _accumulator(optimizer: Any, name: str, param: Any, **kwargs: Any) -> Any:
    made = optimizer._accumulators.get(optimizer.key(name), {})
    return made[param.name] if param.name in made else optimizer._add_accumulator(name, param, **kwargs)
