"""Leaves a training half done in one framework, and goes on with it in another, beside one reference of 40 steps."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

import unirms
from unirms import reference
from unirms.config import RMSPropConfig
from unirms.errors import FidelityWarning, PrecisionWarning
from unirms.grouping import members
from unirms.schedules import Plateau
from unirms.state import OptimizerState

from .cases import LIMIT_ULP, Case
from .drivers import Array, Driver, Make, Run
from .measures import Ruler, same_bits
from .results import LeftResult, ResumeResult
from .resumptions import LEFT_AT, STEPS, Left, Resumption, case
from .settings import DTYPES, SETTINGS, Setting
from .spelling import NETWORK, between, spelled, spelling, written

Builder = Callable[[RMSPropConfig], Make]
"""builder(config) -> what makes the optimizer of a run."""
Held = dict[tuple[str, ...], Run]
"""At most one run, by target, mode, setting and dtype."""

BEGUN_STEPS = 4
"""Steps of another training, after which a run takes over the one that is carried to it."""

# That the momentum changes its unit is what some settings are about; it must be all that changes.
_OTHER_UNIT = "the optimizer goes on otherwise than the state's: lr_in_momentum [^;]*$"


@dataclass(frozen=True)
class Point:
    """Where the reference is after some step, in the network's own spelling."""

    weights: Mapping[str, Array]
    slots: Mapping[str, Mapping[str, Array]]


def leave(left: Left, driver: Driver, folder: Path, builder: Builder | None = None) -> LeftResult:
    """Train to the half, write down the state and the framework's own checkpoint, and train on to the end.

    Args:
        left: what is run.
        driver: how to run it.
        folder: an empty one for the files.
        builder: builds the optimizer; `unirms.build` unless a test plants another.
    """
    setting, inputs = SETTINGS[left.setting], case(left.setting, left.dtype)
    try:
        run = _started(left.framework, left.mode, setting, inputs, driver, builder)
        wanted = setting.has_files and left.dtype == DTYPES[0]
        fresh = _saved(run, folder / "fresh") if wanted else ""
        _train(run, setting, inputs, left.framework, range(LEFT_AT))
        state = folder / "state.safetensors"
        run.snapshot().save(state)
        checkpoint = _saved(run, folder / "own") if wanted else ""
        _train(run, setting, inputs, left.framework, range(LEFT_AT, STEPS))
        straight = folder / "straight.npz"
        ended: dict[str, Any] = spelled(run.weights(), spelling(left.framework).inverse())
        np.savez(straight, **ended)
    except Exception as error:  # whatever a framework raises is a finding about this setting
        return LeftResult(framework=left.framework, left=left, problem=_sentence(error))
    facts = {"state": str(state), "fresh": fresh, "checkpoint": checkpoint, "straight": str(straight)}
    return LeftResult(framework=left.framework, left=left.model_copy(update=facts))


def _saved(run: Run, folder: Path) -> str:
    folder.mkdir()
    return str(run.save(folder))


def go_on(
    resumption: Resumption, driver: Driver, builder: Builder | None = None, held: Held | None = None
) -> ResumeResult:
    """Take a training over and return how far its second half is from the reference.

    Args:
        resumption: what goes on.
        driver: how to run it.
        builder: as for `leave`.
        held: the run of the last call, and a place for this one; a run that has begun comes from there.
    """
    started = time.perf_counter()
    held = {} if held is None else held
    facts: dict[str, Any] = {"framework": resumption.target, "resumption": resumption}
    try:
        run = _run(resumption, driver, builder, held)
        facts |= _gone_on(resumption, run)
    except Exception as error:  # as in `leave`; the run is in an unknown state
        held.clear()
        facts["problem"] = _sentence(error)
    else:
        facts["problem"] = _problem(resumption, facts)
    return ResumeResult(**facts, seconds=time.perf_counter() - started)


def _run(resumption: Resumption, driver: Driver, builder: Builder | None, held: Held) -> Run:
    """Return a run of another training, whose weights and state are to be overwritten."""
    left, target = resumption.source, resumption.target
    key = (target, resumption.mode, left.setting, left.dtype)
    run = held.pop(key, None)
    if run is None or not resumption.begun:
        setting, other = SETTINGS[left.setting], case(left.setting, left.dtype).model_copy(update={"seed": 1})
        run = _started(target, resumption.mode, setting, other, driver, builder, goes_on=True)
        _train(run, setting, other, target, range(BEGUN_STEPS if resumption.begun else 0))
    held.clear()
    held[key] = run
    return run


def _gone_on(resumption: Resumption, run: Run) -> dict[str, Any]:
    left, target = resumption.source, resumption.target
    if resumption.way == "live":
        take_over(resumption, run)
    else:
        run.load(Path(resumption.path))

    setting, inputs = SETTINGS[left.setting], case(left.setting, left.dtype)
    path = _in_unit(trace(left.setting, left.dtype), setting, target)
    watch = _Watch(path, left.dtype)
    watch.look(run, path[LEFT_AT], target)
    for step in range(LEFT_AT, STEPS):
        _train(run, setting, inputs, target, range(step, step + 1))
        watch.look(run, path[step + 1], target)
    with np.load(resumption.straight) as straight:
        ended = spelled(run.weights(), spelling(target).inverse())
        same = not SETTINGS[left.setting].after and same_bits(dict(straight), ended)
    return {
        "weights_ulp": watch.weights.worst.ulp,
        "state_ulp": max(ruler.worst.ulp for ruler in watch.slots.values()),
        "same_bits": same,
    }


def take_over(resumption: Resumption, run: Run) -> None:
    """Put the state that was left into a run, by the names and layouts that lead from one framework to another.

    Nothing may be rounded, and nothing may be another optimizer, but for the unit of a buffer where that changes.
    """
    left, target = resumption.source, resumption.target
    setting, state = SETTINGS[left.setting], OptimizerState.load(resumption.path)
    before, after = setting.config(left.framework), setting.config(target, goes_on=True)
    names, layout = written(between(spelling(left.framework), spelling(target)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrecisionWarning)
        warnings.simplefilter("error", FidelityWarning)
        if before.lr_in_momentum != after.lr_in_momentum:
            warnings.filterwarnings("ignore", _OTHER_UNIT, FidelityWarning)
        if left.framework == target:  # the same names and layouts
            run.resume(state, None, None)
        else:
            run.resume(state, names, layout)


@cache
def trace(name: str, dtype: str) -> list[Point]:
    """Return where the reference is before the first step and after each, in float64 and one straight run."""
    setting, inputs = SETTINGS[name], case(name, dtype)
    config = setting.config("")
    params: dict[str, Array] = {key: value.astype(np.float64) for key, value in inputs.initial().items()}
    state = reference.init(config, params)
    found = [Point(params, state.slots())]
    plateau = config.learning_rate if isinstance(config.learning_rate, Plateau) else None
    place = plateau.begin() if plateau else None
    for step in range(STEPS):
        grads = {key: grad.astype(np.float64) for key, grad in _dense(inputs, step).items()}
        now = config if place is None else config.replace(learning_rate=place.rate)
        params, state = reference.step(now, params, grads, state)
        if plateau and place and step + 1 in setting.metrics:
            place = plateau.after(place, setting.metrics[step + 1])
        found.append(Point(params, state.slots()))
    return found


def _in_unit(path: list[Point], setting: Setting, target: str) -> list[Point]:
    """Return a trace with its momentum in the unit of the optimizer that goes on at the target.

    It is that at the rate of the half, which rests where units change.
    """
    before, after = setting.config(""), setting.config(target, goes_on=True)
    turns = int(after.lr_in_momentum) - int(before.lr_in_momentum)
    if not turns:
        return path
    rate = before.learning_rate_at(LEFT_AT)
    units = {one.name: (rate * one.rate_factor) ** turns for one in members(before, list(NETWORK))}
    return [
        Point(
            point.weights,
            {**point.slots, "momentum": {name: array * units[name] for name, array in point.slots["momentum"].items()}},
        )
        for point in path
    ]


class _Watch:
    """The rulers of the weights and of each slot, which have followed the reference to the half."""

    def __init__(self, path: list[Point], dtype: str) -> None:
        self.weights = Ruler(path[0].weights, dtype)
        self.slots = {slot: Ruler(arrays, dtype, lost_is_lost=True) for slot, arrays in path[0].slots.items()}
        for point in path[1:LEFT_AT]:
            self._observe(point, point)

    def look(self, run: Run, expected: Point, framework: str) -> None:
        """Compare what a run holds."""
        back = spelling(framework).inverse()
        slots = {slot: spelled(arrays, back) for slot, arrays in run.state().slots().items()}
        self._observe(expected, Point(spelled(run.weights(), back), slots))

    def _observe(self, expected: Point, seen: Point) -> None:
        self.weights.observe(expected.weights, seen.weights)
        for slot, ruler in self.slots.items():
            ruler.observe(expected.slots[slot], seen.slots[slot])


def _started(
    framework: str,
    mode: str,
    setting: Setting,
    inputs: Case,
    driver: Driver,
    builder: Builder | None,
    *,
    goes_on: bool = False,
) -> Run:
    config = setting.config(framework, goes_on=goes_on)
    built = partial(unirms.build, config, framework, policy=setting.policy)
    make = builder(config) if builder else built
    return driver.start(make, spelled(inputs.initial(), spelling(framework)), inputs.dtype, mode)


def _train(run: Run, setting: Setting, inputs: Case, framework: str, steps: range) -> None:
    for step in steps:
        run.step(spelled(_dense(inputs, step), spelling(framework)), None)
        if step + 1 in setting.metrics:
            run.measured(setting.metrics[step + 1])


def _dense(inputs: Case, step: int) -> dict[str, Array]:
    return {name: grad for name, grad in inputs.gradients_at(step).items() if isinstance(grad, np.ndarray)}


def _problem(resumption: Resumption, facts: Mapping[str, Any]) -> str:
    limit = LIMIT_ULP[resumption.source.dtype]
    wrong = [
        f"{what} are {facts[f'{what}_ulp']:.3g} ULP off (limit {limit:g})"
        for what in ("weights", "state")
        if not facts[f"{what}_ulp"] <= limit
    ]
    if resumption.same and not facts["same_bits"]:
        wrong.append("the weights are not bit for bit those of a run without a break")
    return "; ".join(wrong)


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
