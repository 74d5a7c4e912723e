"""PyTorch: the learning rate in a param_group, and where an optimizer keeps the scheduler that unirms gave it."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import torch

# Attribute of an optimizer, which its state dictionary leaves out.
ATTRIBUTE = "_unirms_lr_scheduler"
Group = Mapping[str, Any]


def put(group: MutableMapping[str, Any], rate: float) -> None:
    """Set the rate of a group, in the tensor that holds it where it is one."""
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def holds(group: Group, rate: float) -> bool:
    """Return whether a group has this rate, as far as it can hold it."""
    live = group["lr"]
    if isinstance(live, torch.Tensor):
        return bool(torch.equal(live, torch.full_like(live, rate)))
    return bool(live == rate)


def index_of(optimizer: torch.optim.Optimizer, group: Group) -> int:
    """Return the number of a group."""
    return next(index for index, one in enumerate(optimizer.param_groups) if one is group)


def multiple(factors: Sequence[float], index: int) -> float:
    """Return the factor of the group of that number: 1 for those that were added later."""
    return factors[index] if index < len(factors) else 1.0
