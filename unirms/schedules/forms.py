"""Which schedules of different kinds are the same function: one form for all of them, and the ways to write it.

Two schedules have one canonical form only where they compute equal numbers in float64 at every update; so a natural
exponential is no exponential of exp(-decay_rate), which rounds otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import singledispatch
from itertools import groupby, pairwise
from typing import Any, Final, overload

from unirms.schedules.base import BaseSchedule
from unirms.schedules.compositions import Sampled, Sequence, Table, Warmup
from unirms.schedules.cosines import OneCycle
from unirms.schedules.decays import (
    Constant,
    Exponential,
    InverseTime,
    Linear,
    MultiStep,
    NaturalExponential,
    Piecewise,
    Polynomial,
    Step,
)
from unirms.schedules.plateau import Plateau

LONG_TABLE: Final = 100
"""Changes of rate up to which a table is worth writing as boundaries."""


@overload
def canonical(schedule: BaseSchedule) -> BaseSchedule: ...


@overload
def canonical(schedule: BaseSchedule | Plateau) -> BaseSchedule | Plateau: ...


def canonical(schedule: BaseSchedule | Plateau) -> BaseSchedule | Plateau:
    """Return the form that a schedule, or a plateau, shares with all that compute the same rates, whatever their kind.

    A schedule that stays where it is becomes a `Constant`, a step an exponential staircase, a straight line a
    polynomial of power 1, milestones and tables a `Piecewise`, and a warmup a `Sequence`.
    """
    if isinstance(schedule, Plateau):
        return Constant(learning_rate=schedule.initial) if schedule.is_constant else schedule.canonical()
    found = schedule if schedule.is_constant else _canonical(schedule)
    return Constant(learning_rate=found.initial) if found.is_constant else found


def forms(schedule: BaseSchedule | Plateau) -> Iterator[BaseSchedule | Plateau]:
    """Yield the schedule, and the same function as schedules of other kinds; all have its canonical form."""
    yield schedule
    if isinstance(schedule, Table) and len(_changes(schedule)) > LONG_TABLE:
        return
    shared = canonical(schedule)
    for form in (shared, *_other_words(shared)):
        if form != schedule:
            yield form


@singledispatch
def _canonical(schedule: Any) -> BaseSchedule:
    found: BaseSchedule = schedule
    return found


@_canonical.register
def _(schedule: Step) -> BaseSchedule:
    return _canonical(
        Exponential(
            initial_learning_rate=schedule.initial_learning_rate,
            decay_rate=schedule.gamma,
            decay_steps=schedule.step_size,
            staircase=True,
        )
    )


@_canonical.register(Exponential)
@_canonical.register(NaturalExponential)
@_canonical.register(InverseTime)
def _(schedule: Any) -> BaseSchedule:
    # Stairs of one update each are none.
    found: BaseSchedule = schedule.model_copy(update={"staircase": False}) if schedule.decay_steps == 1 else schedule
    return found


@_canonical.register
def _(schedule: Linear) -> BaseSchedule:
    return Polynomial(
        initial_learning_rate=schedule.initial_learning_rate,
        end_learning_rate=schedule.end_learning_rate,
        decay_steps=schedule.decay_steps,
    )


@_canonical.register
def _(schedule: MultiStep) -> BaseSchedule:
    boundaries = tuple(sorted(set(schedule.milestones) - {0}))
    rates = schedule.values([0, *boundaries]).tolist()
    if not all(map(math.isfinite, rates)):  # no rates of a schedule
        return schedule
    return _canonical(Piecewise(boundaries=boundaries, learning_rates=tuple(rates)))


@_canonical.register
def _(schedule: Piecewise) -> BaseSchedule:
    starts = zip((0, *schedule.boundaries), schedule.learning_rates, strict=True)
    by_start = dict(starts)  # a boundary at 0 takes the place of the first rate
    runs = [next(group) for _, group in groupby(by_start.items(), key=lambda item: item[1])]
    return Piecewise(boundaries=tuple(start for start, _ in runs[1:]), learning_rates=tuple(rate for _, rate in runs))


@_canonical.register
def _(schedule: Table) -> BaseSchedule:
    rates, starts = schedule.learning_rates, _changes(schedule)
    return Piecewise(boundaries=tuple(starts), learning_rates=tuple(rates[start] for start in (0, *starts)))


@_canonical.register
def _(schedule: Sampled) -> BaseSchedule:
    inner: Any = canonical(schedule.schedule)
    asked_once = schedule.every == 1 and schedule.offset == 0
    return inner if asked_once else schedule.model_copy(update={"schedule": inner})


@_canonical.register
def _(schedule: OneCycle) -> BaseSchedule:
    first, _, end = schedule._ends()
    return schedule.model_copy(update={"initial_learning_rate": first, "end_learning_rate": end})


@_canonical.register
def _(schedule: Warmup) -> BaseSchedule:
    after, steps, end = canonical(schedule.after), schedule.warmup_steps, schedule._end()
    if not steps:
        return after
    if schedule.overlap and not isinstance(after, Constant):
        return schedule.model_copy(update={"after": after, "end_learning_rate": end})
    ramp = Linear(initial_learning_rate=schedule.start_learning_rate, end_learning_rate=end, decay_steps=steps)
    parts: Any = (ramp, after)
    return _canonical(Sequence(schedules=parts, boundaries=(steps,)))


@_canonical.register
def _(schedule: Sequence) -> BaseSchedule:
    first = sum(boundary == 0 for boundary in schedule.boundaries)  # parts that end before they begin
    parts: Any = tuple(canonical(part) for part in schedule.schedules[first:])
    whole = Sequence(schedules=parts, boundaries=schedule.boundaries[first:])
    return whole.schedules[0] if len(whole.schedules) == 1 else whole


def _other_words(shared: BaseSchedule | Plateau) -> Iterator[BaseSchedule]:
    """Yield what else a canonical form may be called."""
    if isinstance(shared, Exponential) and shared.decay_steps == int(shared.decay_steps) and _in_steps(shared):
        yield Step(
            initial_learning_rate=shared.initial_learning_rate,
            step_size=int(shared.decay_steps),
            gamma=shared.decay_rate,
        )
    if isinstance(shared, Polynomial) and shared.power == 1 and not shared.cycle:
        yield Linear(
            initial_learning_rate=shared.initial_learning_rate,
            end_learning_rate=shared.end_learning_rate,
            decay_steps=shared.decay_steps,
        )
    if isinstance(shared, Sequence) and len(shared.schedules) == 2:
        ramp, after = shared.schedules
        if isinstance(ramp, Polynomial) and ramp.decay_steps == shared.boundaries[0] and _is_straight(ramp):
            yield Warmup(
                warmup_steps=shared.boundaries[0],
                start_learning_rate=ramp.initial_learning_rate,
                end_learning_rate=None if ramp.end_learning_rate == after.initial else ramp.end_learning_rate,
                after=after,
            )


def _in_steps(schedule: Exponential) -> bool:
    return schedule.staircase or schedule.decay_steps == 1


def _is_straight(schedule: Polynomial) -> bool:
    return schedule.power == 1 and not schedule.cycle


def _changes(table: Table) -> list[int]:
    """Return the updates whose rate is another than the one before."""
    return [t for t, (before, rate) in enumerate(pairwise(table.learning_rates), start=1) if rate != before]
