"""PyTorch: what an optimizer keeps for each parameter, under PyTorch's own keys where it has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from unirms.config import RMSPropConfig

State = dict[str, Any]
Group = Mapping[str, Any]

SLOTS = {
    "mean_square": "square_avg",
    "mean_gradient": "grad_avg",
    "momentum": "momentum_buffer",
    "average": "weight_avg",
}
"""Slot of unirms -> key of the state dictionary."""
SUM, COUNT, MICRO_STEP = "grad_sum", "grad_count", "micro_step"
"""Gradient accumulation: the sum of a parameter's gradients since the last update, how many it has, and how often the
optimizer was stepped since. The last two are Python's integers: PyTorch casts tensors of a state to the dtype of the
parameter when it loads them, and bfloat16 counts to 256 only."""

_MAKE: Mapping[str, Callable[[torch.Tensor, RMSPropConfig], Any]] = {
    "step": lambda param, config: torch.zeros((), dtype=torch.float32),
    "square_avg": lambda param, config: _filled(param, config.initial_mean_square),
    "momentum_buffer": lambda param, config: torch.zeros_like(param),
    "grad_avg": lambda param, config: torch.zeros_like(param),
    "weight_avg": lambda param, config: param.clone(),
    SUM: lambda param, config: torch.zeros_like(param),
    COUNT: lambda param, config: 0,
    MICRO_STEP: lambda param, config: 0,
}


def keys_of(group: Group, config: RMSPropConfig) -> tuple[str, ...]:
    """Return the keys that the state of each parameter of a group has, as soon as it has any.

    All of them at all times, so that a distributed checkpoint finds in a fresh optimizer what it holds.
    """
    gathers = config.gradient_accumulation_steps > 1
    return (
        *("step", "square_avg"),
        *["momentum_buffer"] * (group["momentum"] > 0),
        *["grad_avg"] * bool(group["centered"]),
        *["weight_avg"] * (config.ema_decay > 0),
        *[SUM, COUNT, MICRO_STEP] * gathers,
    )


def fresh(param: torch.Tensor, group: Group, config: RMSPropConfig) -> State:
    """Return the complete state of one parameter before its first step.

    It must be complete: torch takes any non-empty dictionary for an initialised state and fails on a missing key.
    """
    state: State = {}
    complete(state, param, keys_of(group, config), config)
    return state


def complete(state: State, param: torch.Tensor, keys: tuple[str, ...], config: RMSPropConfig) -> None:
    """Make what is missing of a state: all of it at first, a buffer when momentum is turned on later."""
    for key in keys:
        if key not in state:
            state[key] = _MAKE[key](param.detach(), config)


def real(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor, or a view of a complex one as pairs of reals."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def names_of(optimizer: torch.optim.Optimizer) -> list[tuple[str, torch.Tensor]]:
    """Return all parameters with their names, or with their number where they have none."""
    named: list[tuple[str, torch.Tensor]] = []
    for group in optimizer.param_groups:
        for index, param in enumerate(group["params"]):
            name = group["param_names"][index] if "param_names" in group else str(len(named))
            named.append((name, param))
    return named


def swap_average(optimizer: torch.optim.Optimizer) -> None:
    """Exchange the weights and their running means in place; before the first update they are the same."""
    with torch.no_grad():
        for param, state in optimizer.state.items():
            if "weight_avg" in state:
                weights = param.clone()
                param.copy_(state["weight_avg"])
                state["weight_avg"].copy_(weights)


def _filled(param: torch.Tensor, value: float) -> torch.Tensor:
    """Return a tensor like a parameter; both parts of a complex number are the value."""
    return torch.full_like(param, complex(value, value) if param.is_complex() else value)
