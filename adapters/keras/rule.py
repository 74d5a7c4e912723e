"""The update rule in TensorFlow's operations: the reference's operations in the reference's order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from keras import ops

from unirms.config import RMSPropConfig
from unirms.reference import Hyperparameters

from .variables import dtype_of


def rmsprop(
    weight: Any, grad: Any, slots: Mapping[str, Any], *, config: RMSPropConfig, scalars: Hyperparameters
) -> tuple[Any, dict[str, Any]]:
    """Return one parameter and its slots after one update with a gradient that is ready for it.

    The operators are TensorFlow's own, because `keras.ops.add` fails on empty matrices. Run eagerly they have the
    reference's bits. A `tf.function` turns x / sqrt(y) into x * rsqrt(y) (two of five float32 quotients change by an
    ULP), and XLA fuses a product and a sum into one rounding (one of seven sums changes).
    """
    dtype = dtype_of(weight)

    def rounded(value: Any) -> Any:
        return ops.convert_to_tensor(value, dtype)

    learning_rate, rho, one_minus_rho = map(rounded, (scalars.learning_rate, scalars.rho, scalars.one_minus_rho))
    grad, weight = _decayed(grad, weight, config.weight_decay_mode, scalars, rounded)

    renewed = {"mean_square": rho * slots["mean_square"] + one_minus_rho * (grad * grad)}
    if "mean_gradient" in slots:
        renewed["mean_gradient"] = rho * slots["mean_gradient"] + one_minus_rho * grad
    denominator = _denominator(renewed, config, rounded(scalars.correction), rounded(scalars.epsilon))

    update = (learning_rate * grad) / denominator if config.lr_in_momentum else grad / denominator
    step = update
    if "momentum" in slots:
        momentum = rounded(scalars.momentum)
        renewed["momentum"] = momentum * slots["momentum"] + update
        step = momentum * renewed["momentum"] + update if config.nesterov else renewed["momentum"]
    if not config.lr_in_momentum:
        step = learning_rate * step
    moved = weight - step

    if "mean_gradient" in slots and config.negative_variance == "skip":
        usable = denominator > 0  # False for NaN too
        moved = ops.where(usable, moved, weight)
        if "momentum" in slots:
            renewed["momentum"] = ops.where(usable, renewed["momentum"], slots["momentum"])
    return moved, renewed


def averaged(mean: Any, weight: Any, decay: float, *, begun: Any) -> Any:
    """Return the running mean of a weight after an update, which is the weight itself until the mean has `begun`."""
    # Not decay * mean + (1 - decay) * weight: see `unirms.reference`.
    moved = mean - (mean - weight) * ops.convert_to_tensor(1.0 - decay, dtype_of(weight))
    return tf.where(begun, moved, weight)


def _decayed(grad: Any, weight: Any, mode: str, scalars: Hyperparameters, rounded: Any) -> tuple[Any, Any]:
    """Return the gradient and the weight after the weight decay."""
    if scalars.weight_decay == 0:
        return grad, weight
    if mode == "decoupled":
        return grad, weight - rounded(scalars.shrink) * weight
    pull = weight if mode == "l2" else tf.sign(weight)
    return grad + rounded(scalars.weight_decay) * pull, weight


def _denominator(means: Mapping[str, Any], config: RMSPropConfig, correction: Any, epsilon: Any) -> Any:
    variance, mean = means["mean_square"], means.get("mean_gradient")
    if config.bias_correction:
        variance = variance / correction
    if mean is not None:
        if config.bias_correction:
            mean = mean / correction
        variance = variance - mean * mean
        if config.negative_variance == "clamp":
            variance = tf.maximum(variance, tf.zeros((), variance.dtype))  # of a NaN it is NaN, as in NumPy
    return ops.sqrt(variance + epsilon) if config.epsilon_placement == "inside_sqrt" else ops.sqrt(variance) + epsilon
