"""PaddlePaddle: its schedulers, by the rows of `unirms.dialects.schedules`, and a scheduler for other schedules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paddle.optimizer import lr

from unirms.config import RMSPropConfig
from unirms.dialects.calls import NativeCall
from unirms.dialects.schedules.base import ScheduleClass
from unirms.dialects.schedules.paddle import CLASSES
from unirms.errors import ConfigError, UnsupportedError
from unirms.schedules import AnySchedule, BaseSchedule, Plateau

from .plateau import PlateauLR

# A closed form in float64 and one of Paddle's classes part by rounding errors only.
ROUNDING = 1e-9


class ScheduleLR(lr.LRScheduler):
    """A scheduler whose rate is `schedule.value(last_epoch)`, for any `last_epoch` that is stepped to or loaded.

    Step it after `optimizer.step()`, as any scheduler of Paddle: `last_epoch` counts the completed updates.

    Args:
        schedule: the rate over the completed updates.
        last_epoch: completed updates less one; -1 is a fresh start.
        verbose: print each rate, as all schedulers of Paddle can.
    """

    def __init__(self, schedule: BaseSchedule, last_epoch: int = -1, verbose: bool = False) -> None:
        self.schedule = schedule
        super().__init__(schedule.initial, last_epoch, verbose)

    def get_lr(self) -> float:
        """Return the rate after `last_epoch` completed updates."""
        return self.schedule.value(self.last_epoch)

    def set_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the count of updates; the schedule is the one that this scheduler was made with."""
        super().set_state_dict(state_dict)
        self.last_lr = self.get_lr()

    set_dict = set_state_dict


def learning_rate_for(config: RMSPropConfig) -> Any:
    """Return what an optimizer of Paddle takes as its learning rate: a number, or a new scheduler."""
    rate = config.learning_rate
    return scheduler_for(rate) if isinstance(rate, AnySchedule) else rate


def scheduler_for(schedule: AnySchedule) -> Any:
    """Return a new scheduler at update 0: Paddle's own class where it says all of the schedule, otherwise ours.

    Ours, too, in the place of recursions, which gather rounding errors and do not resume at every update, and of a
    LinearWarmup over another scheduler, which warns whenever its own state is loaded.
    """
    if isinstance(schedule, Plateau):
        return PlateauLR(schedule)
    found = CLASSES.own(schedule)
    if found is None or found[0].recursive or any(isinstance(value, NativeCall) for value in found[1].values()):
        return ScheduleLR(schedule)
    row, arguments = found
    return getattr(lr, row.name)(**arguments)


def schedule_of(scheduler: Any) -> AnySchedule:
    """Return the schedule, or the plateau, that a scheduler follows.

    Raises:
        UnsupportedError: a class, or values of its arguments, that are none of our kinds.
    """
    if isinstance(scheduler, (ScheduleLR, PlateauLR)):
        return scheduler.schedule
    name = type(scheduler).__name__
    row = next((row for row in CLASSES.rows if type(scheduler) is getattr(lr, row.name)), None)
    if row is None:
        raise UnsupportedError(f"paddle: the learning rate follows a {name}, which no schedule of a config computes")
    try:
        schedule = row.schedule(NativeCall(name, **_arguments(scheduler, row)))
    except ConfigError as error:
        raise UnsupportedError(f"paddle: the {name} of the learning rate cannot be read: {error}") from None
    if isinstance(scheduler, lr.CosineAnnealingWarmRestarts):
        _check_place(scheduler, schedule)
    return schedule


def _arguments(scheduler: Any, row: ScheduleClass) -> dict[str, Any]:
    """Return what a scheduler was made with; Paddle keeps a learning rate that is a number as `base_lr`."""
    kept = {name: getattr(scheduler, name) for name in row.arguments if name != "learning_rate"}
    if "learning_rate" in row.arguments:
        rate = scheduler.learning_rate if isinstance(scheduler, lr.LinearWarmup) else scheduler.base_lr
        kept["learning_rate"] = schedule_of(rate) if isinstance(rate, lr.LRScheduler) else rate
    return kept


def _check_place(scheduler: Any, schedule: Any) -> None:
    """Raise an error for restarts whose state dictionary has left out where in a period they are."""
    peak = max(schedule.initial_learning_rate, schedule.end_learning_rate)
    if abs(scheduler.get_lr() - schedule.value(scheduler.last_epoch)) > ROUNDING * peak:
        raise UnsupportedError(
            f"paddle: this CosineAnnealingWarmRestarts is not where last_epoch={scheduler.last_epoch} should be, since "
            "set_state_dict and last_epoch= do not restore its period; step it from the start"
        )
