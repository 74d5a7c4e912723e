"""The numbers of a config, fitted to what was observed, and read as the decimals that a person would have written."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from unirms.config import RMSPropConfig
from unirms.fingerprinting.expecting import HALF_ULP, expect, simulate
from unirms.fingerprinting.probes import Array, Observation

NUMBERS: Final = ("rho", "momentum", "initial_mean_square", "learning_rate", "epsilon", "weight_decay")
"""In the order in which they are settled: what depends on others most comes last."""
ROUNDS: Final = 3
STEPS: Final = 8
SLOPE: Final = 1e-6
"""Step of the logarithms for a derivative: in float64 its error is 1e-6 of the derivative, and rounding's 1e-10."""

MUTE: Final = 0.6
"""Share of movements that rounding decides from which on nothing is left to judge a config by; centered and corrected
for its bias, an RMSProp has a first step that is rounding for all large gradients, which is up to half of them."""
SPARE: Final = 0.02
CLOSE: Final = 8.0
"""Roundings that kernels may be off in the mean: those of the frameworks are off by 0.3 to 2."""
SLACK: Final = 0.3
"""Roundings by which two fits may differ by chance."""
COLLINEAR: Final = 3e-9
"""Singular value of the scaled slopes below which two numbers have the same effect: the slopes are 1e-10 off."""


@dataclass(frozen=True)
class Fit:
    """A config fitted to observations.

    Attributes:
        config: the config.
        errors: field -> relative standard error (of 1 - rho for rho); infinite where the number has no effect.
        wrong: the share of observed weights, of the medians of all copies, that contradict it.
        silent: the share of which it says nothing, because rounding decides.
        size: the root of the mean square of all deviations, each in units of its own rounding and at most 1e3.
    """

    config: RMSPropConfig
    errors: dict[str, float]
    wrong: float
    silent: float
    size: float

    @property
    def right(self) -> bool:
        """Whether nothing contradicts it, and enough could have."""
        return self.wrong == 0 and self.silent < MUTE

    @property
    def order(self) -> tuple[float, float, float, float]:
        """What to sort by: the best fit comes first."""
        return self.silent >= MUTE, round(self.wrong, 2), round(self.silent, 1), self.size

    @property
    def close(self) -> bool:
        """Whether it is right, and so close that no other fit needs to be tried."""
        return self.right and self.size < CLOSE

    def contradicts_no_more(self, other: Fit) -> bool:
        """Return whether it explains no less than another, within the limits of rounding."""
        return self.wrong <= other.wrong and self.silent <= other.silent + SPARE

    def as_good_as(self, other: Fit) -> bool:
        """Return whether it is no farther from the observations than another, either."""
        return self.contradicts_no_more(other) and self.size <= 1.5 * other.size + SLACK


def fit(
    config: RMSPropConfig, observations: Sequence[Observation], *, rounds: int = ROUNDS, fixed: Collection[str] = ()
) -> Fit:
    """Return the config with its positive numbers refined by least squares (Gauss and Newton, with halved steps).

    What is 0 in `config` stays 0, what is `fixed` stays as it is, and so do all choices.
    """
    names = [name for name in NUMBERS if (getattr(config, name) > 0 or name == "rho") and name not in fixed]
    if not names:
        return judged(config, observations)
    values, errors = _logarithms(config, names), dict.fromkeys(names, np.inf)
    for _ in range(rounds):
        weights = [_precision(_config(config, names, values), seen) for seen in observations]
        values, covariance = _least_squares(config, names, values, observations, weights)
        errors = dict(zip(names, np.sqrt(np.maximum(np.diag(covariance), 0.0)), strict=True))
    found = _config(config, names, values)
    return Fit(found, {name: float(error) for name, error in errors.items()}, *_quality(found, observations))


def judged(config: RMSPropConfig, observations: Sequence[Observation], errors: dict[str, float] | None = None) -> Fit:
    """Return a config as it is, with how well it explains the observations, given the errors of its numbers."""
    return Fit(config, errors or {}, *_quality(config, observations, errors))


def _quality(
    config: RMSPropConfig, observations: Sequence[Observation], errors: dict[str, float] | None = None
) -> tuple[float, float, float]:
    offs, silents, sizes = [], [], []
    for seen in observations:
        expected = expect(config, seen.probe, errors)
        offs.append(np.ravel(expected.off(seen.weights)))
        silents.append(np.ravel(expected.silent))
        with np.errstate(all="ignore"):
            apart = np.abs(seen.weights - expected.weights) / (expected.unit + expected.rounding)
        sizes.append(np.ravel(np.where(expected.silent, 0.0, np.nan_to_num(apart, nan=0.0, posinf=1e3))))
    size = float(np.sqrt(np.mean(np.minimum(np.concatenate(sizes), 1e3) ** 2)))
    return float(np.mean(np.concatenate(offs) > 1)), float(np.mean(np.concatenate(silents))), size


def _least_squares(
    config: RMSPropConfig, names: list[str], values: Array, observations: Sequence[Observation], weights: list[Array]
) -> tuple[Array, Array]:
    """Return refined logarithms and their covariance."""

    def residuals(at: Array) -> Array:
        trial = _config(config, names, at)
        with np.errstate(invalid="ignore"):
            parts = [
                (seen.weights - simulate(trial, seen.probe, np.float64)) * weight
                for seen, weight in zip(observations, weights, strict=True)
            ]
        joined = np.nan_to_num(np.concatenate([np.ravel(part) for part in parts]), nan=0.0)
        return np.asarray(np.clip(joined, -1e9, 1e9))

    now = residuals(values)
    covariance = np.full((len(names), len(names)), np.inf)
    # Residuals beyond some medians count less and less (Cauchy): where nearly all digits cancel, our sample of the
    # rounding error may be small by luck, and such an element must not lead the fit astray.
    width = max(8.0, 4 * float(np.median(np.abs(now[now != 0])))) if np.any(now) else 8.0
    for _ in range(STEPS):
        slopes = np.stack([(residuals(values + SLOPE * unit) - now) / SLOPE for unit in np.eye(len(names))], axis=1)
        trust = 1 / np.sqrt(1 + (now / width) ** 2)
        change = np.clip(np.linalg.lstsq(slopes * trust[:, None], -now * trust, rcond=1e-12)[0], -2.0, 2.0)
        covariance = _covariance(slopes * trust[:, None], now * trust)
        for _ in range(6):
            then = residuals(values + change)
            if _cost(then, width) < _cost(now, width):
                break
            change = change / 2
        else:
            break
        values, now = values + change, then
        if np.max(np.abs(change)) < HALF_ULP / 16:
            break
    return values, covariance


def _cost(residuals: Array, width: float) -> float:
    return float(np.sum(np.log1p((residuals / width) ** 2)))


def _covariance(slopes: Array, residuals: Array) -> Array:
    """Return the covariance of the logarithms; infinite for those that no combination of observations tells apart."""
    variance = max(1.0, residuals @ residuals / max(1, residuals.size - slopes.shape[1]))
    sizes = np.sqrt(np.sum(slopes * slopes, axis=0))
    shown = sizes > 1e-3  # a thousandth of a float32 spacing for a factor of e
    covariance = np.diag(np.full(sizes.size, np.inf))
    if shown.any():
        _, singular, directions = np.linalg.svd(slopes[:, shown] / sizes[shown], full_matrices=False)
        told = singular > COLLINEAR
        parts = directions[told] / singular[told, None]
        known = parts.T @ parts * variance / np.outer(sizes[shown], sizes[shown])
        blurred = np.any(np.abs(directions[~told]) > 1e-3, axis=0)
        known[np.diag_indices_from(known)] += np.where(blurred, np.inf, 0.0)
        covariance[np.ix_(shown, shown)] = known
    return covariance


def _precision(config: RMSPropConfig, seen: Observation) -> Array:
    """Return one over the rounding error of each observed weight; 0 where rounding is all there is."""
    expected = expect(config, seen.probe)
    with np.errstate(all="ignore"):
        precision = 1 / (expected.unit + expected.rounding)
        usable = ~expected.silent & np.isfinite(seen.weights) & np.isfinite(expected.weights) & np.isfinite(precision)
    return np.where(usable, precision, 0.0)


def _logarithms(config: RMSPropConfig, names: Sequence[str]) -> Array:
    """Return the numbers as logarithms; rho as that of 1 - rho."""
    return np.array([np.log(1 - config.rho if name == "rho" else getattr(config, name)) for name in names])


def _config(config: RMSPropConfig, names: Sequence[str], values: Array) -> RMSPropConfig:
    numbers = dict(zip(names, (float(value) for value in np.exp(np.clip(values, -80, 40))), strict=True))
    if "rho" in numbers:
        numbers["rho"] = min(max(1 - numbers["rho"], 0.0), 1 - 1e-6)
    return config.replace(**numbers)


def rounded(found: Fit, observations: Sequence[Observation]) -> Fit:
    """Return the fit with each number as the shortest decimal that the observations allow, if they still agree.

    A number that shows is only known to a few roundings of float32, so 0.0009999999 is 0.001. The numbers depend on
    each other, so after each one that is settled the others are fitted again.
    """
    best = found
    settled: list[str] = []
    for name in [name for name in NUMBERS if name in found.errors]:
        again = fit(best.config, observations, rounds=1, fixed=settled)
        if again.order < best.order:
            best = again
        value = getattr(best.config, name)
        decimal = shortest(value, _tolerance(name, best.config, found.errors[name]))
        if name == "rho" and decimal >= 1:
            continue
        trial = fit(best.config.replace(**{name: decimal}), observations, rounds=1, fixed=[*settled, name])
        if trial.contradicts_no_more(found):
            best = trial
            settled.append(name)
    return Fit(best.config, found.errors, best.wrong, best.silent, best.size)


def _tolerance(name: str, config: RMSPropConfig, error: float) -> float:
    """Return how far a number may be from what it was meant to be: four standard errors, and some roundings."""
    if not np.isfinite(error):
        return 0.0
    value = getattr(config, name)
    size = 1 - value if name == "rho" else value
    tolerance = max(4 * error * size, 8 * HALF_ULP * value)
    if name == "weight_decay" and config.weight_decay_mode == "decoupled":
        tolerance += HALF_ULP / config.initial_learning_rate  # weights may be multiplied by 1 - lr * decay, rounded
    return float(tolerance)


def shortest(value: float, tolerance: float) -> float:
    """Return the decimal with the fewest digits that is no farther from `value` than `tolerance`."""
    for digits in range(1, 10):
        candidate = float(f"{value:.{digits - 1}e}")
        if abs(candidate - value) <= tolerance:
            return candidate
    return value
