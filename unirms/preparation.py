"""What becomes of a gradient before the update rule: the part of the reference that looks at all tensors together.

In order: unscaled, gathered over micro-steps, checked, turned round, centralized, clipped. Weight decay comes after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from unirms.config import RMSPropConfig
from unirms.errors import NonFiniteGradientError, UnsupportedError
from unirms.grouping import clip_plan
from unirms.state import Array, OptimizerState, SparseGradient


@dataclass(frozen=True)
class Ready:
    """A gradient on its way to the update: of a whole tensor, or of some of its rows, each once."""

    values: Array
    rows: Array | None = None


def gathered(
    config: RMSPropConfig,
    params: Mapping[str, Array],
    grads: Mapping[str, Array | SparseGradient],
    state: OptimizerState,
) -> tuple[dict[str, Ready] | None, OptimizerState]:
    """Return the gradients of an update, or None while it still gathers, and the state with what is gathered."""
    ready = {name: _unscaled(config, _ready(config, grad, params[name])) for name, grad in grads.items()}
    if config.gradient_accumulation_steps == 1:
        return ready, state
    sums = {name: array.copy() for name, array in state.gradient_sum.items()}
    for name, grad in ready.items():
        sums[name] = sums[name] + grad.values if name in sums else grad.values
    if state.micro_step + 1 < config.gradient_accumulation_steps:
        return None, replace(state, gradient_sum=sums, micro_step=state.micro_step + 1)
    means = {name: Ready(array / array.dtype.type(config.gradient_accumulation_steps)) for name, array in sums.items()}
    return means, replace(state, gradient_sum={}, micro_step=0)


def goes_on(config: RMSPropConfig, ready: Mapping[str, Ready]) -> bool:
    """Return whether an update is made from these gradients.

    Raises:
        NonFiniteGradientError: one has an infinity or a NaN, and the config says `non_finite="raise"`.
    """
    if config.non_finite == "propagate":
        return True
    wrong = [name for name, grad in ready.items() if not np.all(np.isfinite(grad.values))]
    if wrong and config.non_finite == "raise":
        raise NonFiniteGradientError(non_finite_sentence(wrong))
    return not wrong


def non_finite_sentence(names: list[str]) -> str:
    """Return the message about gradients that are not finite, for every framework the same."""
    return f"the gradient of {', '.join(map(repr, names))} has an infinity or a NaN, and non_finite is 'raise'"


def prepared(config: RMSPropConfig, ready: Mapping[str, Ready]) -> dict[str, Ready]:
    """Return the gradients with their sign for descent, centralized and clipped."""
    values = {name: -grad.values if config.maximize else grad.values for name, grad in ready.items()}
    values = {name: centralized(config, grad) for name, grad in values.items()}
    for clip, names in clip_plan(config, values):
        values |= clip.apply({name: values[name] for name in names})
    return {name: Ready(grad, ready[name].rows) for name, grad in values.items()}


def centralized(config: RMSPropConfig, grad: Array) -> Array:
    """Return the gradient less its mean over all axes but that of the outputs; of rank 1 and 0 as it is."""
    axes = centralized_axes(config, grad.ndim)
    return grad - np.mean(grad, axis=axes, keepdims=True, dtype=grad.dtype) if axes and grad.size else grad


def centralized_axes(config: RMSPropConfig, rank: int) -> tuple[int, ...]:
    """Return the axes over which gradients of this rank are centralized; empty where they are not."""
    if config.gradient_centralization == "none" or rank < 2:
        return ()
    return tuple(range(1, rank) if config.gradient_centralization == "first_axis" else range(rank - 1))


def check_rows(name: str, grad: SparseGradient, param: Array) -> None:
    """Check that rows fit a parameter.

    Raises:
        UnsupportedError: they do not.
    """
    indices, values = np.asarray(grad.indices), np.asarray(grad.values)
    fits = indices.ndim == 1 and indices.dtype.kind in "iu" and values.shape == (len(indices), *param.shape[1:])
    if not fits or param.ndim == 0 or np.any((indices < 0) | (indices >= len(param))):
        raise UnsupportedError(
            f"the sparse gradient of {name!r} has indices of shape {indices.shape} and values of shape {values.shape}; "
            f"a parameter of shape {param.shape} takes indices below {len(param) if param.ndim else 0} of shape (n,) "
            f"and values of shape {('n', *param.shape[1:])}"
        )


def _ready(config: RMSPropConfig, grad: Array | SparseGradient, param: Array) -> Ready:
    """Return a gradient; rows that occur several times are summed, in order, and made dense unless they are lazy."""
    if not isinstance(grad, SparseGradient):
        return Ready(np.asarray(grad))
    values = np.asarray(grad.values)
    if config.sparse == "dense":
        whole = np.zeros(param.shape, values.dtype)
        np.add.at(whole, np.asarray(grad.indices), values)
        return Ready(whole)
    rows, places = np.unique(np.asarray(grad.indices), return_inverse=True)
    sums = np.zeros((len(rows), *values.shape[1:]), values.dtype)
    np.add.at(sums, places, values)
    return Ready(sums, rows)


def _unscaled(config: RMSPropConfig, grad: Ready) -> Ready:
    if config.loss_scale == 1:
        return grad
    return replace(grad, values=grad.values / grad.values.dtype.type(config.loss_scale))
