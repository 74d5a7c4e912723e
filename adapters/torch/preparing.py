"""PyTorch: what becomes of gradients before the update rule, in the order of `unirms.preparation`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from unirms.errors import NonFiniteGradientError
from unirms.preparation import centralized_axes, non_finite_sentence

from .accumulators import COUNT, MICRO_STEP, SUM, Group, State, complete, keys_of, names_of, real
from .clipping import clipped, whole

if TYPE_CHECKING:
    from . import UniRMSProp


@dataclass(slots=True)
class Gradient:
    """A gradient on its way to the update: of a whole tensor, or of some of its rows, each once.

    Complex values are pairs of reals, in a last axis of their own.
    """

    group: Group
    param: torch.Tensor
    values: torch.Tensor
    rows: torch.Tensor | None = None


def prepared(optimizer: UniRMSProp) -> list[Gradient] | None:
    """Return the gradients of an update, ready for the rule; None where there is none to make.

    There is none while gradients are gathered, and where non-finite ones are skipped.

    Raises:
        NonFiniteGradientError: a gradient has an infinity or a NaN, and the config says `non_finite="raise"`; the
            optimizer is as it was.
    """
    config = optimizer.config
    grads = list(_given(optimizer))
    if config.loss_scale != 1 and grads:
        _set(grads, torch._foreach_div([grad.values for grad in grads], config.loss_scale))
    if config.gradient_accumulation_steps > 1:
        states = dict(_states(optimizer))
        micro_step = 1 + max([0, *(state[MICRO_STEP] for state in states.values())])
        if micro_step < config.gradient_accumulation_steps:
            _gather(grads, states, micro_step)
            return None
        grads = _means(optimizer, grads, states)
        goes_on = _goes_on(optimizer, grads)
        _forget(states)
    else:
        goes_on = _goes_on(optimizer, grads)
    return _shaped(optimizer, grads) if goes_on else None


def densify(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Make sparse gradients dense, repeated rows summed: a hook before the step of the stock class, which refuses them.

    Those that a closure makes within the step come too late for it.
    """
    for group in optimizer.param_groups:
        for param in group["params"]:
            if param.grad is not None and param.grad.layout is not torch.strided:
                param.grad = param.grad.to_dense()


def _given(optimizer: UniRMSProp) -> Iterator[Gradient]:
    """Yield the gradients that the parameters have, sparse ones as dense ones or as rows."""
    for group in optimizer.param_groups:
        for param in group["params"]:
            if param.grad is None:
                continue
            if param.grad.layout is torch.strided:
                yield Gradient(group, param, real(param.grad))
            elif optimizer.config.sparse == "lazy":
                rows, values = _rows(param.grad)
                yield Gradient(group, param, real(values), rows)
            else:
                yield Gradient(group, param, real(param.grad.to_dense()))


def _rows(grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows that a sparse gradient has, each once, and what stands there, repeated ones summed."""
    grad = grad.to_sparse_coo().coalesce()
    if grad.sparse_dim() == 1:
        return grad.indices()[0], grad.values()
    rows = grad.indices()[0].unique()
    return rows, grad.to_dense().index_select(0, rows)


def _set(grads: Sequence[Gradient], values: Sequence[torch.Tensor]) -> None:
    for grad, value in zip(grads, values, strict=True):
        grad.values = value


def _states(optimizer: UniRMSProp) -> Iterator[tuple[torch.Tensor, State]]:
    """Yield all parameters with their states, made where there are none: each has the count of micro-steps."""
    for group in optimizer.param_groups:
        keys = keys_of(group, optimizer.config)
        for param in group["params"]:
            complete(optimizer.state[param], param, keys, optimizer.config)
            yield param, optimizer.state[param]


def _gather(grads: Sequence[Gradient], states: dict[torch.Tensor, State], micro_step: int) -> None:
    """Add gradients to the sums."""
    for grad in grads:
        state = states[grad.param]
        real(state[SUM]).copy_(_sum(grad, state))
        state[COUNT] += 1
    for state in states.values():
        state[MICRO_STEP] = micro_step


def _sum(grad: Gradient, state: State) -> torch.Tensor:
    # The first replaces what is left from the last update, so that nobody has to fill it with zeros.
    return real(state[SUM]) + grad.values if state[COUNT] else grad.values


def _means(optimizer: UniRMSProp, grads: Sequence[Gradient], states: dict[torch.Tensor, State]) -> list[Gradient]:
    """Return the means of what is gathered and of the last gradients; the sums stay as they are."""
    last = {grad.param: grad for grad in grads}
    found = []
    for group in optimizer.param_groups:
        for param in group["params"]:
            if param in last:
                found.append(Gradient(group, param, _sum(last[param], states[param])))
            elif states[param][COUNT]:
                found.append(Gradient(group, param, real(states[param][SUM])))
    if found:
        _set(found, torch._foreach_div([grad.values for grad in found], optimizer.config.gradient_accumulation_steps))
    return found


def _forget(states: dict[torch.Tensor, State]) -> None:
    for state in states.values():
        state[COUNT] = state[MICRO_STEP] = 0


def _goes_on(optimizer: UniRMSProp, grads: Sequence[Gradient]) -> bool:
    """Return whether an update is made from these gradients, or raise; one answer waits for the device."""
    if optimizer.config.non_finite == "propagate" or not grads:
        return True
    checks = [whole(torch.isfinite(grad.values).all()) for grad in grads]
    if torch.stack([check.to(checks[0].device) for check in checks]).all():
        return True
    if optimizer.config.non_finite == "raise":
        wrong = [name for name, check in zip(_names(optimizer, grads), checks, strict=True) if not check]
        raise NonFiniteGradientError(non_finite_sentence(wrong))
    return False


def _shaped(optimizer: UniRMSProp, grads: list[Gradient]) -> list[Gradient]:
    """Return the gradients with their sign for descent, centralized and clipped."""
    config = optimizer.config
    rising = [grad for grad in grads if grad.group["maximize"]]
    if rising:
        _set(rising, torch._foreach_neg([grad.values for grad in rising]))
    if config.gradient_centralization != "none":
        for grad in grads:
            axes = centralized_axes(config, grad.param.ndim)
            if axes and grad.values.numel():
                grad.values = grad.values - grad.values.mean(axes, keepdim=True)
    if config.clip or config.groups:
        _set(grads, clipped(config, _names(optimizer, grads), [grad.values for grad in grads]))
    return grads


def _names(optimizer: UniRMSProp, grads: Sequence[Gradient]) -> list[str]:
    name_of = {param: name for name, param in names_of(optimizer)}
    return [name_of[grad.param] for grad in grads]
