"""PaddlePaddle: its schedulers and our schedules, by one table for both directions, and a scheduler for the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from paddle.optimizer import lr
from pydantic import ValidationError

from unirms.config import RMSPropConfig, explain_problems
from unirms.errors import UnsupportedError
from unirms.schedules import (
    BaseSchedule,
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    InverseTime,
    Linear,
    MultiStep,
    NaturalExponential,
    Noam,
    Piecewise,
    Polynomial,
    Step,
    Warmup,
)

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


@dataclass(frozen=True)
class Native:
    """A class of Paddle's, the kind of schedule that it computes, and how to go from one to the other.

    `make` is None where the class is a recursion, which gathers rounding errors and does not resume at every update.
    """

    scheduler: type[Any]
    kind: type[BaseSchedule]
    read: Callable[[Any], BaseSchedule]
    make: Callable[[Any], Any] | None = None


def renamed(
    scheduler: type[Any], kind: type[BaseSchedule], words: Mapping[str, str], *, recursive: bool = False, **fixed: Any
) -> Native:
    """Return the row of a class whose arguments are fields: `words` maps fields to them, `fixed` are other fields.

    Paddle keeps an argument as an attribute of its name, `learning_rate` as `base_lr`.
    """

    def read(native: Any) -> BaseSchedule:
        attributes = {field: "base_lr" if word == "learning_rate" else word for field, word in words.items()}
        return kind(**{field: getattr(native, name) for field, name in attributes.items()}, **fixed)

    def make(schedule: Any) -> Any:
        values = {field: getattr(schedule, field) for field in words}
        if "decay_steps" in values:  # an integer in Paddle
            values["decay_steps"] = int(values["decay_steps"])
        return scheduler(**{words[field]: value for field, value in values.items()})

    return Native(scheduler, kind, read, None if recursive else make)


def _read_linear(native: Any) -> BaseSchedule:
    start, end = (native.base_lr * factor for factor in (native.start_factor, native.end_factor))
    return Linear(initial_learning_rate=start, end_learning_rate=end, decay_steps=native.total_steps)


def _read_restarts(native: Any) -> BaseSchedule:
    schedule = CosineRestarts(
        initial_learning_rate=native.base_lr,
        end_learning_rate=native.eta_min,
        first_period=native.T_0,
        period_factor=native.T_mult,
    )
    # Its state dictionary leaves out where in a period it is.
    peak = max(schedule.initial_learning_rate, schedule.end_learning_rate)
    if abs(native.get_lr() - schedule.value(native.last_epoch)) > ROUNDING * peak:
        raise UnsupportedError(
            f"paddle: this CosineAnnealingWarmRestarts is not where last_epoch={native.last_epoch} should be, since "
            "set_state_dict and last_epoch= do not restore its period; step it from the start"
        )
    return schedule


def _read_warmup(native: Any) -> BaseSchedule:
    inner = native.learning_rate
    if isinstance(inner, lr.CosineAnnealingWarmRestarts) and inner.T_mult > 1:
        raise UnsupportedError(
            "paddle: LinearWarmup of a CosineAnnealingWarmRestarts with T_mult > 1 misses restarts, which no schedule "
            "says; state it as a schedule of kind warmup"
        )
    after: Any = schedule_of(inner) if isinstance(inner, lr.LRScheduler) else Constant(learning_rate=inner)
    return Warmup(
        warmup_steps=native.warmup_steps,
        start_learning_rate=native.start_lr,
        end_learning_rate=None if native.end_lr == after.initial else native.end_lr,
        after=after,
    )


def _make_warmup(schedule: Any) -> Any:
    # Before a constant only: over a scheduler it warns whenever its own state is loaded. A warmup before anything else
    # does not read back as the same.
    first, end = schedule.after.initial, schedule.end_learning_rate
    return lr.LinearWarmup(first, schedule.warmup_steps, schedule.start_learning_rate, first if end is None else end)


BASE = {"initial_learning_rate": "learning_rate"}
DECAY = {**BASE, "decay_rate": "gamma"}
NATIVES = (
    renamed(lr.StepDecay, Step, {**BASE, "step_size": "step_size", "gamma": "gamma"}),
    renamed(lr.MultiStepDecay, MultiStep, {**BASE, "milestones": "milestones", "gamma": "gamma"}),
    renamed(lr.PiecewiseDecay, Piecewise, {"boundaries": "boundaries", "learning_rates": "values"}),
    renamed(lr.ExponentialDecay, Exponential, DECAY),
    renamed(lr.NaturalExpDecay, NaturalExponential, DECAY),
    renamed(lr.InverseTimeDecay, InverseTime, DECAY),
    renamed(
        lr.PolynomialDecay,
        Polynomial,
        {**BASE, "decay_steps": "decay_steps", "end_learning_rate": "end_lr", "power": "power", "cycle": "cycle"},
    ),
    renamed(
        lr.NoamDecay,
        Noam,
        {"factor": "learning_rate", "d_model": "d_model", "warmup_steps": "warmup_steps"},
        first_step=0,
    ),
    renamed(
        lr.CosineAnnealingDecay,
        Cosine,
        {**BASE, "end_learning_rate": "eta_min", "decay_steps": "T_max"},
        recursive=True,
        periodic=True,
    ),
    Native(lr.LinearLR, Linear, _read_linear),
    Native(lr.CosineAnnealingWarmRestarts, CosineRestarts, _read_restarts),
    Native(lr.LinearWarmup, Warmup, _read_warmup, _make_warmup),
    Native(ScheduleLR, BaseSchedule, lambda native: native.schedule, ScheduleLR),
)
"""All classes that compute one of our kinds at every update. `OneCycleLR` is none: it rises again after its end."""


def learning_rate_for(config: RMSPropConfig) -> Any:
    """Return what an optimizer of Paddle takes as its learning rate: a number, or a new scheduler."""
    rate = config.learning_rate
    return scheduler_for(rate) if isinstance(rate, BaseSchedule) else rate


def scheduler_for(schedule: BaseSchedule) -> Any:
    """Return a new scheduler at update 0: Paddle's own class where it says all of the schedule, otherwise ours."""
    for native in NATIVES:
        if native.make is not None and isinstance(schedule, native.kind):
            try:
                scheduler = native.make(schedule)
            except (AssertionError, TypeError, ValueError):  # a value that Paddle refuses, such as gamma=1
                continue
            if native.read(scheduler) == schedule:
                return scheduler
    raise AssertionError("the last row takes all schedules")


def schedule_of(scheduler: Any) -> BaseSchedule:
    """Return the schedule that a scheduler follows.

    Raises:
        UnsupportedError: a class, or values of its arguments, that are none of our kinds.
    """
    name = type(scheduler).__name__
    native = next((native for native in NATIVES if type(scheduler) is native.scheduler), None)
    if native is None:
        raise UnsupportedError(f"paddle: the learning rate follows a {name}, which no schedule of a config computes")
    try:
        return native.read(scheduler)
    except ValidationError as error:
        problems = "; ".join(explain_problems(error.errors(include_url=False)))
        raise UnsupportedError(f"paddle: the {name} of the learning rate is no schedule: {problems}") from None
