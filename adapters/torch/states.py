"""PyTorch: the state of an optimizer as arrays, and back into it, and the tensors of a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from unirms.config import RMSPropConfig
from unirms.protocol import NamedParameter
from unirms.state import Array, OptimizerState

from . import accumulators, groups, schedules
from .accumulators import COUNT, MICRO_STEP, SLOTS, SUM, Group, State
from .clipping import whole

_STOCK = RMSPropConfig.from_native("torch")


def parameters_of(optimizer: torch.optim.Optimizer) -> list[NamedParameter]:
    """Return all parameters in the order of their groups, by name, or by number where they have no names."""
    return [_named(name, param) for name, param in accumulators.names_of(optimizer)]


def state_of(optimizer: torch.optim.Optimizer, config: RMSPropConfig | None) -> OptimizerState:
    """Return the accumulators of all parameters; those that have none yet have what they would start with.

    Args:
        optimizer: a stock or an exact one.
        config: what it was built from; None for a stock one.
    """
    slots: dict[str, dict[str, Array]] = {slot: {} for slot in SLOTS}
    sums: dict[str, Array] = {}
    steps, micro_steps = [0], [0]
    for name, param, group in _members(optimizer):
        keys = accumulators.keys_of(group, config or _STOCK)
        state = dict(optimizer.state.get(param, {}))
        accumulators.complete(state, param, keys, config or _STOCK)
        steps.append(int(state["step"]))
        micro_steps.append(state.get(MICRO_STEP, 0))
        for slot, key in SLOTS.items():
            if key in keys:
                slots[slot][name] = array_of(state[key])
        if state.get(COUNT, 0) > 0:
            sums[name] = array_of(state[SUM])
    return OptimizerState.of(max(steps), slots, sums, max(micro_steps), schedules.plateau_of(optimizer))


@torch.no_grad()
def restore(optimizer: torch.optim.Optimizer, config: RMSPropConfig | None, state: OptimizerState) -> None:
    """Write a state into an optimizer: into the tensors that are there, which compiled steps know by their address.

    Args:
        optimizer: a stock or an exact one.
        config: what it was built from; None for a stock one.
        state: in its names, shapes, units and slots.
    """
    slots = state.slots()
    for name, param, group in _members(optimizer):
        keys = accumulators.keys_of(group, config or _STOCK)
        held = optimizer.state[param]
        for key in [key for key in SLOTS.values() if key in held and key not in keys]:
            del held[key]  # of before a hyperparameter was changed
        accumulators.complete(held, param, keys, config or _STOCK)
        _put(held, "step", np.asarray(state.step, np.float64), held["step"])
        for slot, key in SLOTS.items():
            if key in keys:
                _put(held, key, slots[slot][name], param)
        if SUM in keys:
            # The sums are divided by the number of micro-steps; of the count it only matters whether it is 0.
            held[MICRO_STEP] = state.micro_step
            held[COUNT] = state.micro_step if name in state.gradient_sum else 0
            if name in state.gradient_sum:
                _put(held, SUM, state.gradient_sum[name], param)
    schedules.go_to(optimizer, state.step, state.plateau)


def weights_of(model: Any) -> list[NamedParameter]:
    """Return the floating-point and complex tensors in the state of a Module, each once, or the given parameters."""
    if not isinstance(model, torch.nn.Module):
        return groups.named_parameters(model)
    found: dict[int, NamedParameter] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if isinstance(value, torch.Tensor) and (value.is_floating_point() or value.is_complex()):
            found.setdefault(id(value), _named(name, value))  # tied weights have several names
    return list(found.values())


def array_of(tensor: torch.Tensor) -> Array:
    """Return a copy; bfloat16, which NumPy has not, comes as float32, which holds it exactly."""
    tensor = whole(tensor.detach()).cpu().resolve_conj().resolve_neg()
    copy: Array = (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy().copy()
    return copy


@torch.no_grad()
def assign(tensor: torch.Tensor, array: Array) -> None:
    """Write an array into a tensor, in its place and dtype."""
    # A copy: torch warns of arrays that cannot be written to, as those are that are mapped from a file.
    tensor.copy_(_like(torch.tensor(np.asarray(array)).reshape(tensor.shape), tensor))


def _members(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, torch.Tensor, Group]]:
    """Yield all parameters with their names and groups."""
    of_each = [group for group in optimizer.param_groups for _ in group["params"]]
    for (name, param), group in zip(accumulators.names_of(optimizer), of_each, strict=True):
        yield name, param, group


def _put(state: State, key: str, array: Array, param: torch.Tensor) -> None:
    """Write an array into an entry of a state, which is replaced where it has another shape, dtype or device.

    Or where elements share their memory, as `expand` makes them, into which PyTorch does not write.
    """
    held = state[key]
    fits = isinstance(held, torch.Tensor) and held.shape == param.shape and held.device == param.device
    if not fits or held.dtype != param.dtype or _is_expanded(held):
        state[key] = torch.zeros_like(param)
    assign(state[key], array)


def _is_expanded(tensor: torch.Tensor) -> bool:
    strided = tensor.layout is torch.strided
    return strided and any(n > 1 and step == 0 for n, step in zip(tensor.shape, tensor.stride(), strict=True))


def _like(values: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Return values spread over processes as a tensor is, where it is a DTensor."""
    if not hasattr(tensor, "device_mesh"):
        return values
    from torch.distributed.tensor import distribute_tensor

    spread: torch.Tensor = distribute_tensor(values.to(tensor.dtype), tensor.device_mesh, tensor.placements)
    return spread


def _named(name: str, value: torch.Tensor) -> NamedParameter:
    return NamedParameter(name, value, str(value.dtype).removeprefix("torch."))
