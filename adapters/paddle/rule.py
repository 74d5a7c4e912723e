"""PaddlePaddle: the update of one parameter, and the running mean of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import paddle

from unirms.config import RMSPropConfig
from unirms.reference import Hyperparameters

from .operations import InPlace, Operations, quotient, square_root

_C_ops: Any = paddle._C_ops


def rmsprop(
    ops: Operations,
    param: Any,
    grad: Any,
    slots: Mapping[str, Any],
    config: RMSPropConfig,
    scalars: Hyperparameters,
) -> Any:
    """Update one parameter with its prepared gradient, and return what it is then.

    The reference's operations in the reference's order, each rounded on its own; `config` holds for this parameter.
    """
    weight = param
    if config.weight_decay > 0 and config.weight_decay_mode == "l2":
        grad = ops.add_(ops.times(weight, scalars.weight_decay), grad)
    if config.weight_decay > 0 and config.weight_decay_mode == "l1":
        grad = ops.add_(ops.times_(paddle.sign(weight), scalars.weight_decay), grad)
    if config.weight_decay > 0 and config.weight_decay_mode == "decoupled":
        weight = ops.subtract_(weight, ops.times(weight, scalars.shrink))

    new = {"mean_square": _average(ops, slots["mean_square"], grad * grad, scalars)}
    if config.centered:
        new["mean_gradient"] = _average(ops, slots["mean_gradient"], grad, scalars)
    denominator = _denominator(ops, new, config, scalars)

    if config.lr_in_momentum:
        step = quotient(ops.divide_, ops.times(grad, scalars.learning_rate), denominator)
    else:
        step = quotient(paddle.divide, grad, denominator)
    usable = ops.is_positive(denominator) if config.centered and config.negative_variance == "skip" else None
    if config.momentum > 0:
        decayed = (ops.times_ if usable is None else ops.times)(slots["momentum"], scalars.momentum)
        moved = ops.add_(decayed, step)
        new["momentum"] = moved if usable is None else paddle.where(usable, moved, slots["momentum"])
        step = ops.add_(ops.times(moved, scalars.momentum), step) if config.nesterov else moved
    if not config.lr_in_momentum:
        step = ops.times(step, scalars.learning_rate)
    if usable is not None:
        step = paddle.where(usable, step, paddle.zeros_like(step))
    now = ops.write(param, ops.subtract_(weight, step))
    for slot, value in new.items():
        ops.write(slots[slot], value)
    return now


def rmsprop_of_rows(
    rows: Any,
    param: Any,
    grad: Any,
    slots: Mapping[str, Any],
    config: RMSPropConfig,
    scalars: Hyperparameters,
) -> None:
    """Update some rows of a parameter, each given once, in place; the others neither decay nor coast."""
    parts = {slot: paddle.gather(whole, rows) for slot, whole in slots.items()}
    weight = paddle.gather(param, rows)
    rmsprop(InPlace(), weight, grad, parts, config, scalars)
    for whole, part in [(param, weight), *((slots[slot], part) for slot, part in parts.items())]:
        _C_ops.scatter_(whole, rows, part, True)


def mean_of_weights(ops: Operations, mean: Any, weight: Any, decay: float) -> Any:
    """Return the running mean after an update; it may be written into `mean`."""
    return ops.subtract_(mean, ops.times_(mean - weight, 1.0 - decay))


def _average(ops: Operations, mean: Any, value: Any, scalars: Hyperparameters) -> Any:
    return ops.add_(ops.times_(mean, scalars.rho), ops.times(value, scalars.one_minus_rho))


def _denominator(ops: Operations, means: Mapping[str, Any], config: RMSPropConfig, scalars: Hyperparameters) -> Any:
    variance, mean = means["mean_square"], means.get("mean_gradient")
    if config.bias_correction:
        variance = ops.over(variance, scalars.correction)
    if mean is not None:
        mean = ops.over(mean, scalars.correction) if config.bias_correction else mean
        variance = variance - mean * mean
        if config.negative_variance == "clamp":
            # Not paddle.clip, which turns an infinity into the largest finite number.
            variance = paddle.maximum(variance, paddle.zeros_like(variance))
    if config.epsilon_placement == "inside_sqrt":
        return square_root(ops, ops.plus(variance, scalars.epsilon))
    return ops.plus(square_root(ops, variance), scalars.epsilon)
