"""PyTorch: the update rule, and the running mean of the weights, over lists of real tensors.

The reference's operations in the reference's order, each rounded on its own. No `addcmul`, `addcdiv`, `lerp` or
`add(alpha=…)`: their fused roundings differ from the reference's by an ULP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from unirms.config import RMSPropConfig
from unirms.reference import Hyperparameters


def rmsprop(
    params: list[torch.Tensor],
    grads: Sequence[torch.Tensor],
    slots: Mapping[str, list[torch.Tensor]],
    *,
    config: RMSPropConfig,
    scalars: Hyperparameters,
) -> None:
    """Update tensors and their slots in place; the gradients are prepared, and stay as they are."""
    grads = _decayed(params, list(grads), config, scalars)
    squares, means, buffers = slots["mean_square"], slots.get("mean_gradient"), slots.get("momentum")
    _average(squares, torch._foreach_mul(grads, grads), scalars)
    if means is not None:
        _average(means, torch._foreach_mul(grads, scalars.one_minus_rho), scalars, weighted=True)
    denominators = _denominators(squares, means, config, scalars)

    usable = [denominator > 0 for denominator in denominators] if means and config.negative_variance == "skip" else None
    numerators = torch._foreach_mul(grads, scalars.learning_rate) if config.lr_in_momentum else grads
    steps = list(torch._foreach_div(numerators, denominators))
    if buffers is not None:
        moved = torch._foreach_mul(buffers, scalars.momentum)
        torch._foreach_add_(moved, steps)
        steps = (
            list(torch._foreach_add(torch._foreach_mul(moved, scalars.momentum), steps)) if config.nesterov else moved
        )
        for i, buffer in enumerate(buffers):
            buffer.copy_(moved[i] if usable is None else torch.where(usable[i], moved[i], buffer))
    if not config.lr_in_momentum:
        steps = list(torch._foreach_mul(steps, scalars.learning_rate))
    if usable is not None:
        steps = [torch.where(kept, step, 0.0) for kept, step in zip(usable, steps, strict=True)]
    torch._foreach_sub_(params, steps)


def rmsprop_on_rows(
    params: list[torch.Tensor],
    grads: Sequence[torch.Tensor],
    slots: Mapping[str, list[torch.Tensor]],
    *,
    rows: torch.Tensor,
    config: RMSPropConfig,
    scalars: Hyperparameters,
) -> None:
    """Update the rows that the gradients are of, each once, as `rmsprop` does; the other rows stay as they are."""
    whole = {**slots, "weights": params}
    taken = {slot: [tensor.index_select(0, rows) for tensor in tensors] for slot, tensors in whole.items()}
    rmsprop(taken["weights"], grads, taken, config=config, scalars=scalars)
    for slot, tensors in whole.items():
        for tensor, values in zip(tensors, taken[slot], strict=True):
            tensor.index_copy_(0, rows, values)


def average_weights(means: list[torch.Tensor], params: list[torch.Tensor], decay: float) -> None:
    """Move the running means of the weights towards the weights, in place; with a decay of 0, onto them."""
    if decay == 0:
        for mean, param in zip(means, params, strict=True):
            mean.copy_(param)
    else:
        torch._foreach_sub_(means, torch._foreach_mul(torch._foreach_sub(means, params), 1.0 - decay))


def _decayed(
    params: list[torch.Tensor], grads: list[torch.Tensor], config: RMSPropConfig, scalars: Hyperparameters
) -> list[torch.Tensor]:
    """Return the gradients with the weight decay that goes through them; decoupled decay is taken off the weights."""
    if scalars.weight_decay == 0:
        return grads
    if config.weight_decay_mode == "decoupled":
        torch._foreach_sub_(params, torch._foreach_mul(params, scalars.shrink))
        return grads
    along = torch._foreach_sign(params) if config.weight_decay_mode == "l1" else params
    return list(torch._foreach_add(grads, torch._foreach_mul(along, scalars.weight_decay)))


def _average(
    means: list[torch.Tensor], new: Sequence[torch.Tensor], scalars: Hyperparameters, *, weighted: bool = False
) -> None:
    torch._foreach_mul_(means, scalars.rho)
    torch._foreach_add_(means, list(new) if weighted else torch._foreach_mul(list(new), scalars.one_minus_rho))


def _denominators(
    squares: list[torch.Tensor],
    means: list[torch.Tensor] | None,
    config: RMSPropConfig,
    scalars: Hyperparameters,
) -> Sequence[torch.Tensor]:
    variances: Sequence[torch.Tensor] = squares
    if config.bias_correction:
        variances = torch._foreach_div(squares, scalars.correction)
    if means is not None:
        corrected = torch._foreach_div(means, scalars.correction) if config.bias_correction else means
        variances = torch._foreach_sub(variances, torch._foreach_mul(corrected, corrected))
        if config.negative_variance == "clamp":
            variances = [variance.clamp(min=0) for variance in variances]
    if config.epsilon_placement == "inside_sqrt":
        return list(torch._foreach_sqrt(torch._foreach_add(variances, scalars.epsilon)))
    return list(torch._foreach_add(torch._foreach_sqrt(variances), scalars.epsilon))
