"""Leaves a training half done in one framework, and goes on with it in another, beside one reference of 40 steps."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import unirms
from unirms import reference
from unirms.config import RMSPropConfig
from unirms.errors import FidelityWarning, PrecisionWarning
from unirms.grouping import members
from unirms.moving import Destination, Spec, moved
from unirms.state import OptimizerState

from .cases import LIMIT_ULP, Case
from .drivers import Array, Driver, Make, Run
from .measures import Ruler, same_bits
from .results import LeftResult, ResumeResult
from .resumptions import DTYPES, LEFT_AT, SETTINGS, STEPS, Left, Resumption, case
from .spelling import NETWORK, between, spelled, spelling

Builder = Callable[[RMSPropConfig], Make]
"""builder(config) -> what makes the optimizer of a run."""
Held = dict[tuple[str, ...], Run]
"""At most one run, by target, mode, setting and dtype."""

BEGUN_STEPS = 4
"""Steps of another training, after which a run takes over the one that is carried to it."""


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
    config = SETTINGS[left.setting].config(left.framework)
    try:
        run = _started(left.framework, left.mode, config, case(left.setting, left.dtype), driver, builder)
        wanted = SETTINGS[left.setting].files and left.dtype == DTYPES[0]
        fresh = _saved(run, folder / "fresh") if wanted else ""
        _train(run, left, left.framework, range(LEFT_AT))
        state = folder / "state.safetensors"
        run.snapshot().save(state)
        checkpoint = _saved(run, folder / "own") if wanted else ""
        _train(run, left, left.framework, range(LEFT_AT, STEPS))
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
        config = SETTINGS[left.setting].config(target, goes_on=True)
        other = case(left.setting, left.dtype).model_copy(update={"seed": 1})
        run = _started(target, resumption.mode, config, other, driver, builder)
        for step in range(BEGUN_STEPS if resumption.begun else 0):
            run.step(spelled(_dense(other, step), spelling(target)), None)
    held.clear()
    held[key] = run
    return run


def _gone_on(resumption: Resumption, run: Run) -> dict[str, Any]:
    left, target = resumption.source, resumption.target
    if resumption.way == "live":
        run.resume(carried(OptimizerState.load(resumption.path), left, target, run))
    else:
        run.load(Path(resumption.path))

    path = trace(left.setting, left.dtype)
    watch = _Watch(path, left.dtype)
    watch.look(run, path[LEFT_AT], target)
    for step in range(LEFT_AT, STEPS):
        _train(run, left, target, range(step, step + 1))
        watch.look(run, path[step + 1], target)
    with np.load(resumption.straight) as straight:
        ended = spelled(run.weights(), spelling(target).inverse())
        same = not SETTINGS[left.setting].after and same_bits(dict(straight), ended)
    return {
        "weights_ulp": watch.weights.worst.ulp,
        "state_ulp": max(ruler.worst.ulp for ruler in watch.slots.values()),
        "same_bits": same,
    }


def carried(state: OptimizerState, left: Left, target: str, run: Run) -> OptimizerState:
    """Return a state in the names, layouts and units of a run of another framework.

    Where both compute the same, nothing may be rounded, and nothing may be another optimizer.
    """
    there = {name: Spec(value.shape, left.dtype) for name, value in run.weights().items()}
    way = between(spelling(left.framework), spelling(target))
    config = SETTINGS[left.setting].config(target, goes_on=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrecisionWarning)
        warnings.simplefilter("ignore" if SETTINGS[left.setting].after else "error", FidelityWarning)
        return moved(state, Destination(config, there, there), way)


@cache
def trace(setting: str, dtype: str) -> list[Point]:
    """Return where the reference is before the first step and after each, in float64 and one straight run.

    Its momentum is in the unit of the optimizer that goes on, at the rate of the half, which rests where units change.
    """
    config, inputs = SETTINGS[setting].config(""), case(setting, dtype)
    params: dict[str, Array] = {name: value.astype(np.float64) for name, value in inputs.initial().items()}
    state = reference.init(config, params)
    found = [Point(params, state.slots())]  # all buffers are zero
    for step in range(STEPS):
        grads = {name: grad.astype(np.float64) for name, grad in _dense(inputs, step).items()}
        params, state = reference.step(config, params, grads, state)
        slots = state.slots()
        found.append(Point(params, {**slots, "momentum": _in_unit(slots["momentum"], setting)}))
    return found


def _in_unit(momentum: Mapping[str, Array], setting: str) -> dict[str, Array]:
    """Return buffers of the first half's config in the unit of the second half's."""
    before, after = SETTINGS[setting].config(""), SETTINGS[setting].config("", goes_on=True)
    factors = {one.name: one.rate_factor for one in members(before, list(NETWORK))}
    turns = int(after.lr_in_momentum) - int(before.lr_in_momentum)
    rate = before.learning_rate_at(LEFT_AT)
    return {name: array * (rate * factors[name]) ** turns for name, array in momentum.items()}


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
    framework: str, mode: str, config: RMSPropConfig, inputs: Case, driver: Driver, builder: Builder | None
) -> Run:
    make = builder(config) if builder else lambda params, **more: unirms.build(config, framework, params, **more)
    return driver.start(make, spelled(inputs.initial(), spelling(framework)), inputs.dtype, mode)


def _train(run: Run, left: Left, framework: str, steps: range) -> None:
    for step in steps:
        run.step(spelled(_dense(case(left.setting, left.dtype), step), spelling(framework)), None)


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
