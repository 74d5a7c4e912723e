"""What a config would do under a probe, and how far rounding alone may carry an implementation away from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from unirms import reference
from unirms.config import RMSPropConfig
from unirms.fingerprinting.probes import Array, Observation, Probe
from unirms.state import OptimizerState

ROUNDING_ULP: Final = 32.0
"""Float32 spacings along the path that an implementation may be off: the limit of the parity report, whose reason
stands in `conformance/cases.py`; the probes have fewer steps."""
NOISE: Final = 8.0
"""How much larger than our own sample of the rounding error another implementation's may be: it rounds elsewhere, so
its error is another draw of the same size, and of 100,000 draws none is beyond 4.5 standard deviations."""
HALF_ULP: Final = 2.0**-24
"""Relative error of a number that was rounded to float32."""


@dataclass(frozen=True)
class Expectation:
    """What a config does, in float64, all of shape (steps, experiments).

    Attributes:
        weights: the weights after each step.
        path: the sum of the absolute steps so far.
        unit: the float32 spacing at max(|weight|, path).
        rounding: a sample of what rounding along the way does: the deviation of the same in float32.
        shift: what hyperparameters that are rounded to float32 do.
    """

    weights: Array
    path: Array
    unit: Array
    rounding: Array
    shift: Array

    @property
    def limit(self) -> Array:
        """How far an implementation may be off; infinite where rounding decides how far a weight moves."""
        noise = NOISE * (self.rounding + self.shift)
        return np.where(noise > self.path / 4, np.inf, ROUNDING_ULP * self.unit + noise)

    @property
    def silent(self) -> Array:
        """Where a deviation would say nothing."""
        return np.isinf(self.limit)

    def off(self, seen: Array, numbers: Array | None = None) -> Array:
        """Return the deviation of weights over the limit, <= 1 where they agree; NaN agrees with NaN.

        `numbers` says which experiment each column of `seen` is; by default they are all, in order.
        """
        expected, limit = self.weights, self.limit
        if numbers is not None:
            expected, limit = expected[:, numbers], limit[:, numbers]
        same = (seen == expected) | (np.isnan(seen) & np.isnan(expected))
        with np.errstate(all="ignore"):
            ratio = np.abs(seen - expected) / limit
        return np.where(same | np.isinf(limit), 0.0, np.where(np.isnan(ratio), np.inf, ratio))


def expect(config: RMSPropConfig, probe: Probe, errors: Mapping[str, float] | None = None) -> Expectation:
    """Return what `config` does under a probe.

    `errors` are relative standard errors of its numbers (of 1 - rho for rho); what four of each do counts as shift.
    """
    exact, moved = simulate(config, probe, np.float64), _shifted(config)
    start = probe.weights.astype(np.float64)
    with np.errstate(all="ignore"):
        path = np.cumsum(np.abs(np.diff(np.vstack([start, exact]), axis=0)), axis=0)
        unit = np.spacing(np.maximum(np.abs(exact), path).astype(np.float32)).astype(np.float64)
        shifted = simulate(moved, probe, np.float64)
        # One sample can be right by luck: where all digits cancel, float32 may happen to leave an exact 0.
        rounding = np.maximum.reduce(
            [
                _apart(simulate(config, probe, np.float32), exact),
                _apart(simulate(moved, probe, np.float32), shifted),
                _apart(simulate(moved, _jittered(probe), np.float32), shifted),
            ]
        )
        shift = _apart(shifted, exact)
        for name, error in (errors or {}).items():
            shift = shift + _apart(simulate(_off(config, name, 4 * error), probe, np.float64), exact) / NOISE
        if config.centered:
            rounding = np.maximum(rounding, _cancelled(config, probe, exact))
    path, unit = np.nan_to_num(path, posinf=np.inf), np.nan_to_num(unit, posinf=np.inf)
    return Expectation(exact, path, unit, _lasting(rounding), _lasting(shift))


def _jittered(probe: Probe) -> Probe:
    """Return the probe with gradients that are one rounding of float32 away: another draw of all later roundings."""
    signs = np.random.default_rng(7).choice([-2.0, 2.0], probe.gradients.shape)
    return replace(probe, gradients=(probe.gradients * (1 + signs * HALF_ULP)).astype(np.float32))


def _lasting(errors: Array) -> Array:
    """Return the largest error up to each step: a weight stays off."""
    return np.asarray(np.maximum.accumulate(errors, axis=0))


def _apart(one: Array, other: Array) -> Array:
    """Return |one - other|; 0 where both are the same infinity or no number, infinite where only one is no number."""
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    return np.where(same, 0.0, np.nan_to_num(np.abs(one - other), nan=np.inf, posinf=np.inf))


def explained(config: RMSPropConfig, observations: Sequence[Observation]) -> float:
    """Return the share of all observed weights, of every copy and step, that `config` explains."""
    agree = []
    for seen in observations:
        expected, numbers = expect(config, seen.probe), seen.probe.numbers
        agree.append((expected.off(seen.copies, numbers) <= 1) & ~expected.silent[:, numbers])
    return float(np.mean(np.concatenate([np.ravel(part) for part in agree])))


def simulate(config: RMSPropConfig, probe: Probe, dtype: Any) -> Array:
    """Return the weights of every experiment after each step, by the reference in `dtype`, as float64."""
    rows = [np.concatenate([np.ravel(weight) for weight in each.values()]) for each, _ in _run(config, probe, dtype)]
    seen = np.stack(rows).astype(np.float64)
    # Copies of an experiment move alike, so the first of each will do.
    return seen[:, np.unique(probe.numbers, return_index=True)[1]] if config.clip else seen


def _run(config: RMSPropConfig, probe: Probe, dtype: Any) -> Iterator[tuple[dict[str, Array], OptimizerState]]:
    """Yield weights and state after each step: of the experiments in a row, or of whole tensors if norms matter."""
    spread = probe.spread if config.clip else lambda values: {"w": values}
    weights = {name: value.astype(dtype) for name, value in spread(probe.weights).items()}
    weights, state = _rest(config, weights, probe.rest)
    for step, gradient in enumerate(probe.gradients):
        gradients = {name: value.astype(dtype) for name, value in spread(gradient).items()}
        weights, state = reference.step(_at(config, probe, step), weights, gradients, state)
        yield weights, state


def _cancelled(config: RMSPropConfig, probe: Probe, exact: Array) -> Array:
    """Return how far roundings of the mean square may carry a weight, where the mean gradient cancels most of it.

    The variance d = v - a * a has an error of some 2**-23 of v, however small d is: a variance below that is rounding,
    and so is whether it is below 0 and the step is no number.
    """
    errors = []
    for step, (_, state) in enumerate(_run(config.replace(clip=()), probe, np.float64), start=1):
        correction = 1 - config.rho ** (probe.rest + step) if config.bias_correction else 1.0
        square, mean = state.mean_square["w"] / correction, state.mean_gradient["w"] / correction
        inside = config.epsilon_placement == "inside_sqrt"
        under = np.maximum(square - mean * mean, 0.0) + (config.epsilon if inside else 0.0)
        blur = 4 * HALF_ULP * square
        root = np.sqrt(under) + (0.0 if inside else config.epsilon)
        errors.append(np.where(under > 4 * blur, blur / (2 * np.sqrt(under) * root), np.inf))
    steps = np.abs(np.diff(np.vstack([probe.weights.astype(np.float64), exact]), axis=0))
    updates = steps + config.momentum * np.vstack([np.zeros_like(steps[:1]), steps[:-1]])
    total, lasting = np.zeros_like(exact), np.zeros_like(exact[0])
    for step, (error, update) in enumerate(zip(errors, updates, strict=True)):
        lasting = config.momentum * lasting + np.where(np.isinf(error), np.inf, update * error)
        total[step] = (total[step - 1] if step else 0.0) + lasting
    return np.nan_to_num(total, nan=np.inf, posinf=np.inf)


def _rest(config: RMSPropConfig, weights: dict[str, Array], steps: int) -> tuple[dict[str, Array], OptimizerState]:
    """Return weights of zero and their state after some steps without gradients: only the mean square decays."""
    state = reference.init(config, weights)
    if steps:
        squares = {name: (v * config.rho**steps).astype(v.dtype) for name, v in state.mean_square.items()}
        state = OptimizerState(steps, squares, state.mean_gradient, state.momentum)
    return weights, state


def _at(config: RMSPropConfig, probe: Probe, step: int) -> RMSPropConfig:
    return config if probe.rates is None else config.replace(learning_rate=probe.rates[step])


def _off(config: RMSPropConfig, name: str, error: float) -> RMSPropConfig:
    """Return the config with one number off by a relative error; one that does not show at all is not moved."""
    if not np.isfinite(error):
        return config
    more = 1 + min(error, 1.0)
    return config.replace(**{name: 1 - (1 - config.rho) / more if name == "rho" else getattr(config, name) * more})


def _shifted(config: RMSPropConfig) -> RMSPropConfig:
    """Return the config with every number as far off as rounding to float32 may put it.

    rho is shifted by the error of 1 - rho where that is computed in float32, as the kernels of TensorFlow, MindSpore
    and Paddle do: HALF_ULP in absolute terms, which is 6e-6 of 1 - rho for rho = 0.99.
    """
    more = 1 + HALF_ULP
    return config.replace(
        learning_rate=config.initial_learning_rate * more,
        rho=max(0.0, config.rho - HALF_ULP) if config.rho < 1 else config.rho,
        epsilon=config.epsilon * more,
        momentum=config.momentum * more,
        weight_decay=config.weight_decay * more,
        initial_mean_square=config.initial_mean_square * more,
    )
