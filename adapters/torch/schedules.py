"""PyTorch: the scheduler that follows a schedule of unirms, and where an optimizer keeps it.

Every kind of schedule gets this one class, and a plateau that of `plateau`. PyTorch's own classes are recursions
over the rate that a group holds: they gather rounding errors, resume only where rate and count are restored together,
and nothing leads from an optimizer to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from unirms.config import RMSPropConfig
from unirms.schedules import AnySchedule, BaseSchedule, Plateau
from unirms.schedules.plateau import PlateauState

from .plateau import PlateauLR
from .rates import ATTRIBUTE, Group, holds, index_of, multiple, put


class ScheduleLR(torch.optim.lr_scheduler.LRScheduler):
    """Sets the learning rate of each group to `schedule.value(last_epoch)`, times the factor of the group.

    Step it after `optimizer.step()`, as any scheduler of PyTorch: `last_epoch` counts the completed updates, so that it
    stays where it is when that step of an exact optimizer only gathered a gradient or was skipped. The rate depends on
    that count alone, so that any `last_epoch` may be loaded. The optimizer and its scheduler refer to each other;
    `unirms.lr_scheduler(optimizer)` returns the last one that was made.

    Args:
        optimizer: whose groups it drives.
        schedule: the rate over the completed updates.
        last_epoch: completed updates less one; -1 is a fresh start.
        factors: of the groups, in order; 1 for all others, and for those that are added later.
    """

    _step_count: int

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        schedule: BaseSchedule,
        last_epoch: int = -1,
        factors: Sequence[float] = (),
    ) -> None:
        self.schedule = schedule
        self.factors = list(factors)
        super().__init__(optimizer, last_epoch)
        setattr(optimizer, ATTRIBUTE, self)

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        # PyTorch copies three attributes of an optimizer only. A scheduler that comes along finds its place again.
        self.optimizer.__dict__.setdefault(ATTRIBUTE, self)
        # At its first step a scheduler looks for PyTorch's patch of optimizer.step, which a copy does not have.
        self._step_count = max(self._step_count, 2)

    def get_lr(self) -> list[float]:
        """Return the rate of the next update, once for each group."""
        rate = self.schedule.value(self.last_epoch)
        return [rate * self.multiple(index) for index in range(len(self.optimizer.param_groups))]

    def multiple(self, index: int) -> float:
        """Return the rate of the group of that number as a multiple of the schedule's."""
        return multiple(self.factors, index)

    def step(self, epoch: int | None = None) -> None:
        """Go on to the rate of the next update, unless the optimizer's last step made none."""
        initial = self._step_count == 0  # torch's constructor steps
        if initial or epoch is not None or getattr(self.optimizer, "updated", True):
            super().step(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the count of updates and the schedule, as plain data that `torch.load(weights_only=True)` reads."""
        return {**super().state_dict(), "schedule": self.schedule.model_dump(mode="json")}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the count and the schedule, and set the rate of all groups, whatever they held.

        The state of one of PyTorch's schedulers has no schedule: then the count is loaded, and the schedule stays.

        Raises:
            ConfigError: its schedule is none.
        """
        state = dict(state_dict)
        stated = state.pop("schedule", None)
        schedule = self.schedule if stated is None else RMSPropConfig(learning_rate=stated).learning_rate
        super().load_state_dict({**state, "schedule": schedule})
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            put(group, rate)

    def go_to(self, last_epoch: int) -> None:
        """Come to where so many updates are completed; groups that hold a rate from elsewhere keep it."""
        driven = [group for group in self.optimizer.param_groups if self.drives(group)]
        self.last_epoch, self._step_count = last_epoch, last_epoch + 1
        rates = self.get_lr()
        for group in driven:
            put(group, rates[index_of(self.optimizer, group)])
        self._last_lr = [float(group["lr"]) for group in self.optimizer.param_groups]

    def drives(self, group: Group) -> bool:
        """Return whether the group holds the rate of this schedule, and not one from elsewhere."""
        return holds(group, self.get_lr()[index_of(self.optimizer, group)])


def follow(optimizer: torch.optim.Optimizer, config: RMSPropConfig, factors: Sequence[float]) -> None:
    """Give the optimizer a scheduler if the config's learning rate is a schedule; `factors` are those of its groups."""
    if isinstance(config.learning_rate, BaseSchedule):
        ScheduleLR(optimizer, config.learning_rate, factors=factors)
    elif isinstance(config.learning_rate, Plateau):
        PlateauLR(optimizer, config.learning_rate, factors)


def scheduler_of(optimizer: torch.optim.Optimizer) -> ScheduleLR | PlateauLR | None:
    """Return the scheduler that the optimizer keeps; schedulers of PyTorch cannot be found from it."""
    return getattr(optimizer, ATTRIBUTE, None)


def plateau_of(optimizer: torch.optim.Optimizer) -> PlateauState | None:
    """Return where the plateau that the optimizer keeps has come to; None where it keeps none."""
    scheduler = scheduler_of(optimizer)
    return scheduler.place() if isinstance(scheduler, PlateauLR) else None


def go_to(optimizer: torch.optim.Optimizer, step: int, plateau: PlateauState | None) -> None:
    """Bring the scheduler that the optimizer keeps to a count of completed updates, or to the place of a plateau."""
    scheduler = scheduler_of(optimizer)
    if isinstance(scheduler, ScheduleLR):
        scheduler.go_to(step)
    elif isinstance(scheduler, PlateauLR) and plateau is not None:
        scheduler.go_to(plateau)


def schedule_of(optimizer: torch.optim.Optimizer, group: Group) -> AnySchedule | None:
    """Return the schedule that drives the group, or None where its rate is a number of the user's own."""
    scheduler = scheduler_of(optimizer)
    return scheduler.schedule if scheduler is not None and scheduler.drives(group) else None


def factor_of(optimizer: torch.optim.Optimizer, group: Group) -> float:
    """Return the rate of the group as a multiple of the schedule's that drives it."""
    scheduler = scheduler_of(optimizer)
    return 1.0 if scheduler is None else scheduler.multiple(index_of(optimizer, group))
