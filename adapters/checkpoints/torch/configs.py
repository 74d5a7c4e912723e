"""What the optimizer in a checkpoint of PyTorch computes, as far as its groups and its scheduler say."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from unirms.checkpoints.naming import plain
from unirms.config import RMSPropConfig
from unirms.errors import CheckpointError, UnirmsError
from unirms.schedules.base import BaseSchedule
from unirms.schedules.plateau import Plateau, PlateauState

from ... import common
from ...torch import ADAPTER, UniRMSProp, schedules
from ...torch.plateau import COUNTS
from .optimizers import Optimizer


def config_of(
    optimizer: Optimizer, scheduler: dict[Any, Any] | None, step: int | None, notes: list[str]
) -> tuple[RMSPropConfig | None, PlateauState | None]:
    """Return what the optimizer computes, and where its plateau has come to."""
    if optimizer.is_of_lost_config:
        notes.append(
            "its state is of an optimizer of unirms, whose config is not in it: PyTorch's get_state_dict drops it"
        )
        return None, None
    try:
        if optimizer.dialect != "torch":
            return _config_of_stock(optimizer), None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _config_of_torch(optimizer, scheduler, step, notes)
    except (UnirmsError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, CheckpointError):
            raise
        notes.append(f"its hyperparameters are none of a config: {plain(str(error))}")
        return None, None


def _config_of_stock(optimizer: Optimizer) -> RMSPropConfig:
    live = []
    for index in range(len(optimizer.groups)):
        own = [name for name, of in zip(optimizer.names, optimizer.group_of, strict=True) if of == index]
        native = RMSPropConfig.from_native(optimizer.dialect, **optimizer.hyperparameters(index))
        live.append(common.LiveGroup(native, own))
    return common.one_config(live)


def _config_of_torch(
    optimizer: Optimizer, scheduler: dict[Any, Any] | None, step: int | None, notes: list[str]
) -> tuple[RMSPropConfig, PlateauState | None]:
    """Return what the adapter reads off an optimizer that has these groups, over tensors of no elements."""
    live = _live(optimizer)
    rates = [group["lr"] for group in live.param_groups]
    keeper = _scheduler(live, scheduler, step or 0, notes)
    for group, rate in zip(live.param_groups, rates, strict=True):
        group["lr"] = rate
    if isinstance(keeper, schedules.ScheduleLR):
        # A file may be written before the scheduler's step that belongs to the last update.
        for count in (keeper.last_epoch, step or 0, max((step or 0) - 1, 0)):
            keeper.last_epoch = count
            if all(keeper.drives(group) for group in live.param_groups):
                break
    return ADAPTER.config_of(live), schedules.plateau_of(live) if scheduler is not None else None


def _live(optimizer: Optimizer) -> torch.optim.RMSprop:
    groups: list[dict[str, Any]] = []
    for index in range(len(optimizer.groups)):
        own = [name for name, of in zip(optimizer.names, optimizer.group_of, strict=True) if of == index]
        groups.append({**optimizer.hyperparameters(index), "params": [(name, torch.empty(0)) for name in own]})
    said = optimizer.said
    rates = [group["lr"] for group in groups]  # PyTorch keeps the dictionaries, in which a schedule sets its first rate
    live = torch.optim.RMSprop(groups) if said is None else UniRMSProp(groups, said)
    for group, rate in zip(live.param_groups, rates, strict=True):
        group["lr"] = rate
    return live


def _scheduler(live: torch.optim.RMSprop, state: dict[Any, Any] | None, step: int, notes: list[str]) -> Any:
    """Return the scheduler that the optimizer had, as far as the file says: those of unirms say what they are."""
    keeper = schedules.scheduler_of(live)
    if state is None:
        return keeper
    if "schedule" not in state:
        notes.append("the state of its scheduler does not say which class that is; the rate is the one of the groups")
        return keeper
    stated = RMSPropConfig(learning_rate=state["schedule"])
    factors = state.get("factors", [])
    if keeper is None:
        schedules.follow(live, stated, factors if isinstance(factors, list) else [])
        keeper = schedules.scheduler_of(live)
    if keeper is None or isinstance(stated.learning_rate, BaseSchedule) != isinstance(keeper, schedules.ScheduleLR):
        return keeper
    counts = {name: state[name] for name in (*COUNTS, "rate") if name in state and name != "_last_lr"}
    if not all(isinstance(count, (int, float)) for count in counts.values()):
        raise ValueError("the state of its scheduler has something else where a number should be")
    keeper.load_state_dict({"_last_lr": [live.param_groups[0]["lr"]], **counts, "schedule": state["schedule"]})
    return keeper


def rate_of(config: RMSPropConfig | None, plateau: PlateauState | None, step: int | None) -> float | None:
    """Return the rate of the next update; None where the file does not say it."""
    if config is None or step is None:
        return None
    if plateau is not None and isinstance(config.learning_rate, Plateau):
        return plateau.rate
    return config.learning_rate_at(step)
