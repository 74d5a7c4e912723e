"""Runs one case in one framework beside the reference and judges it: every step, the state as well as the weights."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

import unirms
from unirms import dialects, reference
from unirms.config import RMSPropConfig
from unirms.state import OptimizerState, SparseGradient

from .cases import LIMIT_ULP, Case
from .drivers import Array, Driver, Make
from .measures import Ruler, same_bits
from .results import CaseResult


def judge(case: Case, framework: str, driver: Driver, make: Make | None = None) -> CaseResult:
    """Return how far the framework's optimizer is from the float64 reference.

    Args:
        case: what to run.
        framework: the framework's name in the registry.
        driver: how to run it there.
        make: builds the optimizer; `unirms.build` with the exact policy unless a test plants another.
    """
    started = time.perf_counter()
    config = RMSPropConfig(**case.config)
    chosen = make or (lambda params, **options: unirms.build(config, framework, params, **options))
    facts: dict[str, Any] = {"framework": framework, "id": case.id, "mode": case.mode, "dtype": case.dtype}
    try:
        facts |= _run(case, config, driver, chosen)
    except Exception as error:  # whatever a framework raises is a finding about this case, not the end of the report
        facts["problem"] = f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
    else:
        stock = dialects.get(framework).target.rpartition(".")[2]
        facts |= {"stock": facts["built"] == stock, "problem": _problem(case, facts)}
    return CaseResult(**facts, seconds=time.perf_counter() - started)


def _run(case: Case, config: RMSPropConfig, driver: Driver, make: Make) -> dict[str, Any]:
    initial = case.initial()
    run = driver.start(make, initial, case.dtype, case.mode)
    first = reference.init(config, {name: value.astype(np.float64) for name, value in initial.items()}).slots()
    weights = Ruler(initial, case.dtype)
    states = {slot: Ruler(arrays, case.dtype, lost_is_lost=True) for slot, arrays in first.items()}
    twin: Mapping[str, Array] | None = None
    for moment in _followed(case, config):
        run.step(moment.grads, moment.rate)
        weights.observe(moment.weights, run.weights())
        seen = run.state().slots()
        for slot, ruler in states.items():
            ruler.observe(moment.slots[slot], seen[slot])
        twin = moment.twin
    return {
        "built": type(run.optimizer).__name__,
        "weights_ulp": weights.worst.ulp,
        "state_ulp": max(ruler.worst.ulp for ruler in states.values()),
        "movement": weights.worst.movement,
        "same_bits": twin is not None and same_bits(twin, run.weights()),
    }


def _problem(case: Case, facts: Mapping[str, Any]) -> str:
    limit = LIMIT_ULP[case.dtype]
    wrong = [what for what in ("weights", "state") if not facts[f"{what}_ulp"] <= limit]
    return "; ".join(f"{what} are {facts[f'{what}_ulp']:.3g} ULP off (limit {limit:g})" for what in wrong)


@dataclass(frozen=True)
class _Moment:
    """One step of a case, and what the reference makes of it.

    Attributes:
        grads: the gradients of the step.
        rate: the learning rate to set before it; None leaves it to the config.
        weights: the parameters after it, in float64.
        slots: the accumulators after it, in float64.
        twin: the parameters of the reference in the case's own dtype; None where equal bits are no goal.
    """

    grads: Mapping[str, Array | SparseGradient]
    rate: float | None
    weights: Mapping[str, Array]
    slots: Mapping[str, Mapping[str, Array]]
    twin: Mapping[str, Array] | None


KEPT_SIZE: Final = 10_000
"""Elements up to which all steps of a case are kept: 50 of the large tensor and its slots would be some 200 MB."""
_kept: dict[str, list[_Moment]] = {}


def _followed(case: Case, config: RMSPropConfig) -> Iterable[_Moment]:
    """Return the steps of a case; the last case's are kept, for the same one in another mode comes next."""
    if sum(case.sizes) > KEPT_SIZE:
        return _moments(case, config)
    content = case.model_dump_json(exclude={"id", "mode"})
    if content not in _kept:
        moments = list(_moments(case, config))
        _kept.clear()
        _kept[content] = moments
    return _kept[content]


def _moments(case: Case, config: RMSPropConfig) -> Iterator[_Moment]:
    initial = case.initial()
    yardstick = _Reference(config, initial, np.float64)
    # NumPy has no bfloat16 of its own, and ml_dtypes rounds as the frameworks do not everywhere; float32 and float64
    # are where equal bits are a goal.
    own = {"float32": _Reference(config, initial, np.float32), "float64": yardstick}.get(case.dtype)
    for step in range(case.steps):
        grads, rate = case.gradients_at(step), case.rate_at(step)
        yardstick.step(grads, rate)
        if own is not None and own is not yardstick:
            own.step(grads, rate)
        twin = None if own is None else own.params
        yield _Moment(grads, rate, yardstick.params, yardstick.state.slots(), twin)


class _Reference:
    """The reference at work on its own copies of the parameters, in a dtype of its own."""

    def __init__(self, config: RMSPropConfig, initial: Mapping[str, Array], dtype: Any) -> None:
        self.config = config
        self.dtype = dtype
        self.params: dict[str, Array] = {name: value.astype(dtype) for name, value in initial.items()}
        self.state: OptimizerState = reference.init(config, self.params)

    def step(self, grads: Mapping[str, Array | SparseGradient], rate: float | None) -> None:
        config = self.config if rate is None else self.config.replace(learning_rate=rate)
        cast = {name: _cast(grad, self.dtype) for name, grad in grads.items()}
        self.params, self.state = reference.step(config, self.params, cast, self.state)


def _cast(grad: Array | SparseGradient, dtype: Any) -> Array | SparseGradient:
    if isinstance(grad, SparseGradient):
        return SparseGradient(grad.indices, grad.values.astype(dtype))
    return grad.astype(dtype)
