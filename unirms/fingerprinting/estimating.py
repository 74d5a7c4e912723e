"""A first guess of the config from closed forms, on the gradients of all scales that the main probe has.

With zero weights and without decay, the step u of one update (the momentum taken off) obeys ``g / u = den / lr``, so
the squares of the ratios are linear in what is looked for: ``(g / u)**2 = (d + rho**t * v0 + epsilon) / lr**2`` for an
epsilon inside the root, where d follows from the gradients and rho alone; and ``g / u = (sqrt(d) + epsilon) / lr``
outside. So rho is searched on a grid, and the rest is linear least squares, for each way to compute d.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, Final

import numpy as np

from unirms.config import RMSPropConfig
from unirms.fingerprinting.probes import Array, Observation

NEGLIGIBLE: Final = 1e-4
"""A second step that is smaller than this part of the first, after a pulse of the largest size, is no momentum."""
COARSE: Final = np.concatenate([[0.0], 1 - np.geomspace(0.98, 1e-5, 160)])


def guesses(main: Observation, *, shrink: float = 0.0, decay: float = 0.0, trusted: float = 0.0) -> list[RMSPropConfig]:
    """Return configs to start a fit from, the likeliest first; none where the steps make no sense.

    Args:
        main: the main probe.
        shrink: the share of a weight that decays at each step by itself.
        decay: an L2 decay, which adds to the gradients.
        trusted: gradients below this size are taken at the first step only, before an L2 decay can interfere.
    """
    gradients = main.probe.gradients.astype(np.float64)
    steps = main.steps.copy()
    steps[1:] += shrink * main.weights[:-1]
    sign = -np.sign(_largest_pulse(gradients, steps)[0])
    if sign == 0 or not np.isfinite(sign):
        return []
    effective = gradients.copy()
    effective[1:] += sign * decay * main.weights[:-1]
    found = []
    for momentum, nesterov in momenta(gradients, steps):
        updates = _without_momentum(-sign * steps, momentum, nesterov=nesterov)
        updates = np.where(np.abs(updates) > main.resolution, updates, np.nan)
        base = {"momentum": momentum, "nesterov": nesterov, "maximize": bool(sign < 0)}
        for error, fields in _averages(effective, updates, trusted):
            found.append((error, {**base, **fields}))
    found.sort(key=lambda pair: pair[0])
    return [RMSPropConfig(**fields) for _, fields in found]


def l2_decay(main: Observation, weighted: Observation) -> float:
    """Return the L2 decay that makes first steps without gradients as long as they are; 0 where all steps are equal.

    A decay of `weight_decay * w` alone moves a weight w as far as a gradient of that size moves a weight of 0.
    """
    gradient = main.probe.gradients[0].astype(np.float64)
    step = np.abs(main.steps[0])
    known = (gradient > 0) & np.isfinite(step) & (step > 0)
    if not known.any():
        return 0.0
    order = np.argsort(gradient[known])
    gradient, step = gradient[known][order], np.maximum.accumulate(step[known][order])
    alone = ~np.any(weighted.probe.gradients, axis=0)
    moved, weights = np.abs(weighted.steps[0, alone]), np.abs(weighted.probe.weights[alone].astype(np.float64))
    rising = (moved > weighted.resolution[0, alone] / 100) & (moved < 0.9 * step[-1]) & (moved > step[0])
    if not rising.any():
        return 0.0
    equal = np.exp(np.interp(np.log(moved[rising]), np.log(step), np.log(gradient)))
    return float(np.median(equal / weights[rising]))


def momenta(gradients: Array, steps: Array) -> Iterator[tuple[float, bool]]:
    """Yield likely (momentum, nesterov): what a pulse does in the steps after it.

    The steps are in proportion 1 : momentum : momentum**2, or with Nesterov's look-ahead
    (1 + momentum) : momentum**2 : momentum**3.
    """
    first, second, third = _largest_pulse(gradients, steps)[:3]
    if abs(second) <= NEGLIGIBLE * abs(first) or not np.isfinite(second):
        yield 0.0, False
        return
    momentum, ratio = third / second, second / first
    ahead = momentum**2 / (1 + momentum)
    if 0 < momentum <= 2:
        nesterov = abs(ratio - ahead) < abs(ratio - momentum)
        yield float(momentum), bool(nesterov)
        yield float(momentum), not nesterov
    if min(abs(ratio - ahead), abs(ratio - momentum)) > 1e-3:  # an L2 decay moves weights after a pulse, too
        yield 0.0, False


def _largest_pulse(gradients: Array, steps: Array) -> Array:
    pulses = np.flatnonzero((gradients[0] != 0) & ~np.any(gradients[1:], axis=0))
    return np.asarray(steps[:, pulses[-1]])


def _without_momentum(steps: Array, momentum: float, *, nesterov: bool) -> Array:
    """Return the updates that went into the buffer, from the steps that came out of it."""
    updates, buffer = np.zeros_like(steps), np.zeros_like(steps[0])
    for index, step in enumerate(steps):
        if nesterov:
            updates[index] = (step - momentum**2 * buffer) / (1 + momentum)
        else:
            updates[index] = step - momentum * buffer
        buffer = momentum * buffer + updates[index]
    return updates


def _averages(gradients: Array, updates: Array, trusted: float) -> Iterator[tuple[float, dict[str, Any]]]:
    """Yield (error, fields) for each way to average: centered or not, corrected or not, epsilon inside or outside."""
    with np.errstate(all="ignore"):
        ratios = gradients / updates
    used = np.isfinite(ratios) & (gradients != 0) & (ratios > 0)
    used[1:] &= np.max(np.abs(gradients), axis=0) >= trusted
    for centered, corrected, inside in product((False, True), (False, True), (True, False)):
        best = min(
            (_solved(gradients, ratios, used, rho, centered, corrected, inside) for rho in COARSE), key=lambda s: s[0]
        )
        for width in (0.05, 0.003, 2e-4, 1e-5):
            near = 1 - (1 - best[1]) * np.exp(np.linspace(-width, width, 17))
            tries = [_solved(gradients, ratios, used, max(rho, 0.0), centered, corrected, inside) for rho in near]
            best = min([best, *tries], key=lambda s: s[0])
        error, rho, (scale, first, floor) = best
        if not np.isfinite(error):
            continue
        yield (
            error,
            {
                "learning_rate": float(1 / np.sqrt(scale)) if inside else float(1 / scale),
                "rho": float(rho),
                "centered": centered,
                "bias_correction": corrected,
                "epsilon_placement": "inside_sqrt" if inside else "outside_sqrt",
                "initial_mean_square": float(first / scale),
                "epsilon": float(floor / scale),
            },
        )


def _solved(
    gradients: Array, ratios: Array, used: Array, rho: float, centered: bool, corrected: bool, inside: bool
) -> tuple[float, float, Array]:
    """Return (error, rho, coefficients): of d, of the decaying first mean square, and of 1."""
    variance, decayed = _variance(gradients, rho, centered=centered, corrected=corrected)
    usable = used & (variance > 1e-4 * gradients**2 * (1 - rho))  # less is rounding, after a centered cancellation
    if inside:
        columns, wanted = [variance, decayed, np.ones_like(variance)], ratios**2
    else:
        columns, wanted = [np.sqrt(np.maximum(variance, 0)), np.ones_like(variance)], ratios
    rows = np.stack([column[usable] / wanted[usable] for column in columns], axis=1)
    if rows.shape[0] < 16:
        return np.inf, rho, np.zeros(3)
    coefficients = _nonnegative(rows)
    error = float(np.sqrt(np.mean(np.minimum(np.abs(rows @ coefficients - 1), 1.0) ** 2)))
    if coefficients[0] <= 0:
        return np.inf, rho, np.zeros(3)
    return error, rho, coefficients if inside else np.array([coefficients[0], 0.0, coefficients[1]])


def _variance(gradients: Array, rho: float, *, centered: bool, corrected: bool) -> tuple[Array, Array]:
    """Return d of every update from a first mean square of 0, and the weight of that first mean square in it."""
    square, mean = np.zeros_like(gradients[0]), np.zeros_like(gradients[0])
    variances, decayed = [], []
    for step, gradient in enumerate(gradients, start=1):
        correction = 1 - rho**step if corrected else 1.0
        square = rho * square + (1 - rho) * gradient**2
        mean = rho * mean + (1 - rho) * gradient
        variances.append(square / correction - (mean / correction) ** 2 * centered)
        decayed.append(np.full_like(square, rho**step / correction))
    return np.stack(variances), np.stack(decayed)


def _nonnegative(rows: Array) -> Array:
    """Return coefficients >= 0 with rows @ coefficients near 1; the most negative column is dropped until none is.

    The columns span many orders of magnitude, so each is scaled to length 1 first.
    """
    lengths = np.sqrt(np.sum(rows * rows, axis=0))
    kept = lengths > 0
    while kept.any():
        scaled = rows[:, kept] / lengths[kept]
        solution = np.linalg.lstsq(scaled, np.ones(rows.shape[0]), rcond=None)[0]
        if np.all(solution >= 0):
            coefficients = np.zeros(rows.shape[1])
            coefficients[kept] = solution / lengths[kept]
            return coefficients
        kept[np.flatnonzero(kept)[np.argmin(solution)]] = False
    return np.zeros(rows.shape[1])
