"""The update in NumPy: the meaning of a config, executable.

This is the definition, the order of its operations included. It follows the dtype of its arrays; hyperparameters are
computed in double (1 - rho too) and rounded to that dtype once. Every operation is a single rounded one (no fused
multiply-add), so an implementation with the same operations has the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unirms import preparation
from unirms.config import RMSPropConfig
from unirms.errors import UnsupportedError
from unirms.preparation import Ready
from unirms.state import Array, OptimizerState, SparseGradient


@dataclass(frozen=True)
class Hyperparameters:
    """The scalars of one step for one parameter, computed in double.

    Every engine takes its scalars from here, so that 1 - rho or lr * weight_decay is rounded at one place only.
    """

    learning_rate: float
    rho: float
    one_minus_rho: float
    epsilon: float
    momentum: float
    weight_decay: float
    shrink: float
    """learning_rate * weight_decay, for decoupled decay."""
    correction: float
    """1 - rho**t with bias correction, else 1."""

    @classmethod
    def of(cls, config: RMSPropConfig, step: int = 1) -> Hyperparameters:
        """Return the scalars of update number `step`, counted from 1; `config` holds for one parameter."""
        return cls.live(
            config.learning_rate_at(step - 1),
            config.rho,
            config.epsilon,
            config.momentum,
            config.weight_decay,
            correction=bias_correction(config.rho, step) if config.bias_correction else 1.0,
        )

    @classmethod
    def live(
        cls,
        learning_rate: float,
        rho: float,
        epsilon: float,
        momentum: float,
        weight_decay: float,
        *,
        correction: float = 1.0,
    ) -> Hyperparameters:
        """Return the scalars of one step from the values that an optimizer holds at that moment."""
        return cls(
            learning_rate=learning_rate,
            rho=rho,
            one_minus_rho=1.0 - rho,
            epsilon=epsilon,
            momentum=momentum,
            weight_decay=weight_decay,
            shrink=learning_rate * weight_decay,
            correction=correction,
        )


def bias_correction(rho: float, step: int) -> float:
    """Return 1 - rho**t, by which both means are divided after update number t (Kingma and Ba, arXiv:1412.6980)."""
    return 1.0 - rho**step


def init(config: RMSPropConfig, params: Mapping[str, Array]) -> OptimizerState:
    """Return the state before the first step: means and buffers in the shapes and dtypes of `params`.

    Raises:
        UnsupportedError: a parameter that is not an array of real floating-point numbers.
    """
    for name, param in params.items():
        if not _is_floating(param):
            kind = getattr(param, "dtype", type(param).__name__)
            raise UnsupportedError(f"parameter {name!r} is {kind}; the reference takes floating-point NumPy arrays")
    each = {name: config.for_parameter(name) for name in params}
    return OptimizerState(
        step=0,
        mean_square={name: np.full_like(param, each[name].initial_mean_square) for name, param in params.items()},
        mean_gradient={name: np.zeros_like(param) for name, param in params.items() if each[name].centered},
        momentum={name: np.zeros_like(param) for name, param in params.items() if each[name].momentum > 0},
        average={name: param.copy() for name, param in params.items() if config.ema_decay > 0},
    )


def step(
    config: RMSPropConfig,
    params: Mapping[str, Array],
    grads: Mapping[str, Array | SparseGradient],
    state: OptimizerState,
) -> tuple[dict[str, Array], OptimizerState]:
    """Return the parameters and the state after one gradient; the arguments stay as they are.

    Parameters without a gradient are left alone, as PyTorch, Keras and Paddle do. A schedule is asked for the rate
    after `state.step` updates; a number is changed between two steps with `config.replace(learning_rate=…)`. With
    gradient accumulation, all calls but each last one of `gradient_accumulation_steps` only gather.

    Raises:
        UnsupportedError: a gradient for an unknown parameter, or of another shape.
        NonFiniteGradientError: a gradient has an infinity or a NaN, and the config says `non_finite="raise"`.
    """
    _check_gradients(params, grads)
    with np.errstate(all="ignore"):  # NaN and infinity are results here, not accidents
        ready, state = preparation.gathered(config, params, grads, state)
        if ready is None or not preparation.goes_on(config, ready):
            return dict(params), state
        done = {
            name: _row_update(config.for_parameter(name), params[name], grad, name, state)
            for name, grad in preparation.prepared(config, ready).items()
        }
        new_params = {name: done[name].weight if name in done else param for name, param in params.items()}
        slots = state.slots()
        updated = {
            slot: {**slots[slot], **{n: r.slots[slot] for n, r in done.items() if slot in r.slots}} for slot in slots
        }
        updated["average"] = _averaged(config, new_params, state)
    return new_params, OptimizerState.of(state.step + 1, updated)


@dataclass(frozen=True)
class _Result:
    weight: Array
    slots: dict[str, Array]


def _averaged(config: RMSPropConfig, params: Mapping[str, Array], state: OptimizerState) -> dict[str, Array]:
    """Return the running means of the weights after an update."""
    decay = ema_decay(config, state.step + 1)
    if decay == 0:
        return {name: params[name].copy() for name in state.average}
    # Not decay * mean + (1 - decay) * weight: the factors, each rounded, do not add up to 1, and in float32 a mean with
    # decay 0.9999 settles at 0.99983 of a weight that rests.
    return {
        name: np.asarray(mean - (mean - params[name]) * mean.dtype.type(1.0 - decay))
        for name, mean in state.average.items()
    }


def ema_decay(config: RMSPropConfig, step: int) -> float:
    """Return the decay of the running mean of the weights at update number `step`, counted from 1.

    It is 0, so that the mean is the weights, up to update `ema_start` + 1: the first that is averaged has nothing
    before it, as in Keras.
    """
    return config.ema_decay if step > config.ema_start + 1 else 0.0


def _row_update(config: RMSPropConfig, weight: Array, ready: Ready, name: str, state: OptimizerState) -> _Result:
    """Return one parameter after one update: all of it, or only the rows of a lazy sparse gradient."""
    slots = {slot: arrays[name] for slot, arrays in state.slots().items() if name in arrays}
    if ready.rows is None:
        return _update(config, weight, ready.values, slots, state.step + 1)
    rows = _update(
        config, weight[ready.rows], ready.values, {n: a[ready.rows] for n, a in slots.items()}, state.step + 1
    )
    return _Result(
        _with_rows(weight, ready.rows, rows.weight),
        {slot: _with_rows(slots[slot], ready.rows, values) for slot, values in rows.slots.items()},
    )


def _with_rows(array: Array, rows: Array, values: Array) -> Array:
    changed: Array = array.copy()
    changed[rows] = values
    return changed


def _update(config: RMSPropConfig, weight: Array, grad: Array, before: Mapping[str, Array], number: int) -> _Result:
    """Return one parameter after update `number`; `config` holds for it alone, `before` has its slots."""
    scalars = Hyperparameters.of(config, number)
    rounded = weight.dtype.type
    learning_rate, rho = rounded(scalars.learning_rate), rounded(scalars.rho)
    one_minus_rho, epsilon = rounded(scalars.one_minus_rho), rounded(scalars.epsilon)
    grad = grad.astype(weight.dtype, copy=False)

    if config.weight_decay > 0 and config.weight_decay_mode == "l2":
        grad = grad + rounded(scalars.weight_decay) * weight
    if config.weight_decay > 0 and config.weight_decay_mode == "l1":
        grad = grad + rounded(scalars.weight_decay) * np.sign(weight)
    if config.weight_decay > 0 and config.weight_decay_mode == "decoupled":
        weight = weight - rounded(scalars.shrink) * weight

    slots = {"mean_square": rho * before["mean_square"] + one_minus_rho * (grad * grad)}
    variance = slots["mean_square"]
    if config.bias_correction:
        variance = variance / rounded(scalars.correction)
    if config.centered:
        slots["mean_gradient"] = mean = rho * before["mean_gradient"] + one_minus_rho * grad
        if config.bias_correction:
            mean = mean / rounded(scalars.correction)
        variance = variance - mean * mean
        if config.negative_variance == "clamp":
            variance = np.maximum(variance, rounded(0))

    inside = config.epsilon_placement == "inside_sqrt"
    denominator = np.sqrt(variance + epsilon) if inside else np.sqrt(variance) + epsilon
    update = (learning_rate * grad) / denominator if config.lr_in_momentum else grad / denominator
    step = update
    if config.momentum > 0:
        momentum = rounded(scalars.momentum)
        slots["momentum"] = momentum * before["momentum"] + update
        step = momentum * slots["momentum"] + update if config.nesterov else slots["momentum"]
    if not config.lr_in_momentum:
        step = learning_rate * step
    moved = weight - step

    if config.centered and config.negative_variance == "skip":
        usable = denominator > 0  # False for NaN too
        moved = np.where(usable, moved, weight)
        if config.momentum > 0:
            slots["momentum"] = np.where(usable, slots["momentum"], before["momentum"])
    # Of a tensor without axes, NumPy makes scalars.
    return _Result(np.asarray(moved), {slot: np.asarray(values) for slot, values in slots.items()})


def _check_gradients(params: Mapping[str, Array], grads: Mapping[str, Array | SparseGradient]) -> None:
    for name, grad in grads.items():
        if name not in params:
            raise UnsupportedError(f"there is a gradient for {name!r}, and no such parameter")
        if isinstance(grad, SparseGradient):
            preparation.check_rows(name, grad, params[name])
        elif np.shape(grad) != np.shape(params[name]):
            raise UnsupportedError(
                f"the gradient of {name!r} has shape {np.shape(grad)}, its parameter {np.shape(params[name])}"
            )


def _is_floating(param: Any) -> bool:
    # bfloat16 comes from ml_dtypes, whose dtypes have kind "V"
    return isinstance(param, np.ndarray) and (param.dtype.kind == "f" or param.dtype.name == "bfloat16")
