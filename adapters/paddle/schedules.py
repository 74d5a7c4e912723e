"""PaddlePaddle: its schedulers, by the rows of `unirms.dialects.schedules`, and a scheduler for other schedules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from paddle.optimizer import lr

from unirms.config import RMSPropConfig
from unirms.dialects.calls import NativeCall
from unirms.dialects.schedules.base import ScheduleClass
from unirms.dialects.schedules.paddle import CLASSES
from unirms.errors import ConfigError, UnsupportedError
from unirms.schedules import AnySchedule, BaseSchedule, Plateau
from unirms.schedules.plateau import PlateauState

from .plateau import PlateauLR

# A closed form in float64 and one of Paddle's classes part by rounding errors only.
ROUNDING = 1e-9
# Rates that a scheduler goes through one after the other to come to its place: a few seconds of them.
LONGEST_REPLAY: Final = 10_000_000


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


def rate_of(rate: Any) -> Any:
    """Return the learning rate of an optimizer, or the schedule that it follows.

    Raises:
        UnsupportedError: a scheduler that no schedule of a config says.
    """
    return schedule_of(rate) if isinstance(rate, lr.LRScheduler) else float(rate)


def schedule_of(scheduler: Any) -> AnySchedule:
    """Return the schedule, or the plateau, that a scheduler follows.

    Raises:
        UnsupportedError: a class, or values of its arguments, that are none of our kinds.
    """
    if isinstance(scheduler, (ScheduleLR, PlateauLR)):
        return scheduler.schedule
    name, row = type(scheduler).__name__, _row_of(scheduler)
    try:
        schedule = row.schedule(NativeCall(name, **_arguments(scheduler, row)))
    except ConfigError as error:
        raise UnsupportedError(f"paddle: the {name} of the learning rate cannot be read: {error}") from None
    if isinstance(scheduler, lr.CosineAnnealingWarmRestarts):
        _check_place(scheduler, schedule)
    return schedule


def updates_of(rate: Any) -> int:
    """Return how many updates a scheduler has seen; 0 for a number, and for a plateau, which counts metrics."""
    counts = isinstance(rate, lr.LRScheduler) and not isinstance(rate, lr.ReduceOnPlateau)
    return max(int(rate.last_epoch), 0) if counts else 0


def plateau_of(rate: Any) -> PlateauState | None:
    """Return where a plateau has come to, Paddle's own or ours; None where the rate follows none."""
    if not isinstance(rate, lr.ReduceOnPlateau):
        return None
    worst = math.inf if rate.mode == "min" else -math.inf
    best = worst if rate.best is None else float(np.asarray(rate.best).item())
    return PlateauState(float(rate.last_lr), best, int(rate.num_bad_epochs), int(rate.cooldown_counter))


def check_place(rate: Any, updates: int) -> None:
    """Raise an error where a scheduler cannot be brought to a number of updates.

    Raises:
        UnsupportedError: its class is not known, or computes each rate from the one before, over more updates than
            anybody waits for.
    """
    if not isinstance(rate, lr.LRScheduler) or isinstance(rate, (ScheduleLR, PlateauLR)):
        return
    if _is_recursive(rate) and updates > LONGEST_REPLAY:
        raise UnsupportedError(
            f"paddle: a {type(rate).__name__} computes each rate from the one before, and {updates} of them are too "
            "many to go through; give the optimizer a schedule of unirms"
        )


def place(rate: Any, updates: int, plateau: PlateauState | None) -> None:
    """Bring a scheduler to where it is after so many updates, and a plateau to where a state has come to.

    A scheduler that computes each rate from the one before goes through them all, so that it has their bits, too.
    """
    if isinstance(rate, lr.ReduceOnPlateau):
        _place_plateau(rate, plateau or PlateauState(rate.base_lr, math.inf))
    elif isinstance(rate, ScheduleLR):
        rate.last_epoch = updates
        rate.last_lr = rate.get_lr()
    elif isinstance(rate, lr.LRScheduler):
        fresh = _fresh(rate)
        if _is_recursive(rate):
            for _ in range(updates):
                fresh.step()
        elif updates:
            fresh.last_epoch = updates - 1
            fresh.step()
        _take_over(rate, fresh)


def _place_plateau(scheduler: Any, state: PlateauState) -> None:
    scheduler.last_lr = state.rate
    # Paddle's own never improves on an infinity, of which a fraction is NaN.
    scheduler.best = state.best if math.isfinite(state.best) else None
    scheduler.num_bad_epochs, scheduler.cooldown_counter = state.bad, state.cooldown


def _is_recursive(scheduler: Any) -> bool:
    inner = getattr(scheduler, "learning_rate", None)
    return _row_of(scheduler).recursive or (isinstance(inner, lr.LRScheduler) and _is_recursive(inner))


def _fresh(scheduler: Any) -> Any:
    """Return a scheduler like this one, at update 0."""
    kept = _kept(scheduler, _row_of(scheduler))
    return type(scheduler)(**{k: _fresh(v) if isinstance(v, lr.LRScheduler) else v for k, v in kept.items()})


def _take_over(scheduler: Any, other: Any) -> None:
    """Put a scheduler where another of its kind is."""
    for name in ("last_epoch", "last_lr", "T_cur", "T_i"):
        if name in vars(other):
            setattr(scheduler, name, getattr(other, name))
    inner = getattr(scheduler, "learning_rate", None)
    if isinstance(inner, lr.LRScheduler):
        _take_over(inner, other.learning_rate)


def _row_of(scheduler: Any) -> ScheduleClass:
    """Return the row of a scheduler's class.

    Raises:
        UnsupportedError: there is none.
    """
    row = next((row for row in CLASSES.rows if type(scheduler) is getattr(lr, row.name)), None)
    if row is None:
        raise UnsupportedError(
            f"paddle: the learning rate follows a {type(scheduler).__name__}, which no schedule of a config computes"
        )
    return row


def _kept(scheduler: Any, row: ScheduleClass) -> dict[str, Any]:
    """Return what a scheduler was made with; Paddle keeps a learning rate that is a number as `base_lr`."""
    kept = {name: getattr(scheduler, name) for name in row.arguments if name != "learning_rate"}
    if "learning_rate" in row.arguments:
        kept["learning_rate"] = scheduler.learning_rate if isinstance(scheduler, lr.LinearWarmup) else scheduler.base_lr
    return kept


def _arguments(scheduler: Any, row: ScheduleClass) -> dict[str, Any]:
    """Return what a scheduler was made with, schedules in the place of schedulers."""
    kept = _kept(scheduler, row)
    return {name: schedule_of(value) if isinstance(value, lr.LRScheduler) else value for name, value in kept.items()}


def _check_place(scheduler: Any, schedule: Any) -> None:
    """Raise an error for restarts whose state dictionary has left out where in a period they are."""
    peak = max(schedule.initial_learning_rate, schedule.end_learning_rate)
    if abs(scheduler.get_lr() - schedule.value(scheduler.last_epoch)) > ROUNDING * peak:
        raise UnsupportedError(
            f"paddle: this CosineAnnealingWarmRestarts is not where last_epoch={scheduler.last_epoch} should be, since "
            "set_state_dict and last_epoch= do not restore its period; step it from the start"
        )
