"""From which configs a fit starts, and the simplest of the fits: the first stage of an investigation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from unirms.config import RMSPropConfig
from unirms.fingerprinting.case import Case
from unirms.fingerprinting.estimating import guesses, l2_decay
from unirms.fingerprinting.expecting import simulate
from unirms.fingerprinting.fitting import Fit, fit
from unirms.fingerprinting.probes import Array, Observation

TRIED: Final = 6
"""Guesses that are fitted; the right one is among the first two wherever one is right."""
BESIDE: Final = 2
"""Guesses of another kind of decay that are fitted beside one that is close already."""
DECAYS: Final = 10.0 ** np.arange(-8, 1.01, 0.25)
"""L2 and L1 decays from which a fit may start."""
REMOVABLE: Final = ("initial_mean_square", "epsilon", "momentum", "weight_decay")


def fit_likeliest(case: Case) -> None:
    """Fit the likeliest guesses under each kind of weight decay, and keep the best in its simplest form."""
    fits: list[Fit] = []
    done: set[str] = set()
    tried: Counter[str] = Counter()
    for kind, start in _starts(case):
        if kind not in done and (not done or tried[kind] < BESIDE):
            fits.append(fit(start, case.observations))
            tried[kind] += 1
            done |= {kind} if fits[-1].close else set()
    fits = _also_mixed(sorted(fits, key=lambda one: one.order), case)
    if fits:
        found = simplest(min(fits, key=lambda one: one.order), case.observations)
        case.fit = _with_hidden_epsilon(found, case.observations) if found.right else found


def _with_hidden_epsilon(found: Fit, observations: Sequence[Observation]) -> Fit:
    """Return the fit with an epsilon beside its first mean square: it may be there, and then the others are off."""
    first = found.config.initial_mean_square
    if first == 0 or found.config.epsilon > 0:
        return found
    starts = [
        found.config.replace(epsilon=part * first, epsilon_placement="inside_sqrt") for part in (1e-2, 1e-3, 1e-4)
    ]
    hidden = min((fit(start, observations) for start in starts), key=lambda one: one.order)
    return hidden if hidden.contradicts_no_more(found) else found


def _starts(case: Case) -> Iterator[tuple[str, RMSPropConfig]]:
    """Yield (kind of decay, config) from which to start a fit, the likeliest of each kind first."""
    main, weighted = case.observations
    shares = shrinkage(weighted)
    if not np.any(shares):
        yield from (("none", guess) for guess in guesses(main)[:TRIED])
        return
    shrink = float(np.mean(shares))
    if 0 < shrink < 1:
        for guess in guesses(main, shrink=shrink)[:TRIED]:
            decay = shrink / guess.initial_learning_rate
            yield "decoupled", guess.replace(weight_decay=decay, weight_decay_mode="decoupled")
    decay = l2_decay(main, weighted)
    if decay > 0:
        for guess in guesses(main, decay=decay)[:TRIED]:
            yield "l2", guess.replace(weight_decay=decay, weight_decay_mode="l2")
    # Otherwise, small gradients are taken at the first step only, before a decay interferes; and then a first mean
    # square looks like an epsilon.
    for guess in guesses(main, trusted=min(1e4 * case.heavy, case.largest / 10))[:TRIED]:
        for reading in _readings(guess):
            yield "l2", with_decay(reading, weighted)
    if _moves_alike(weighted):
        for guess in guesses(main, trusted=case.largest / 100)[:TRIED]:
            for reading in _readings(guess):
                yield "l1", with_decay(reading, weighted, "l1")


def shrinkage(weighted: Observation) -> Array:
    """Return by what share of themselves weights without gradients have shrunk, in every step."""
    alone = ~np.any(weighted.probe.gradients, axis=0)
    before = np.vstack([weighted.probe.weights[alone].astype(np.float64), weighted.weights[:-1, alone]])
    with np.errstate(all="ignore"):
        shares = -weighted.steps[:, alone] / before
    return np.asarray(shares[np.isfinite(shares)])


def _moves_alike(weighted: Observation) -> bool:
    """Return whether all weights without gradients move equally far at first, as under an L1 decay."""
    alone = ~np.any(weighted.probe.gradients, axis=0)
    moved = np.abs(weighted.steps[0, alone])
    return bool(np.ptp(moved) < 1e-3 * np.max(moved))


def _readings(guess: RMSPropConfig) -> list[RMSPropConfig]:
    """Return the guess with its floor as an epsilon, as a first mean square, and as both."""
    first = guess.rho * guess.initial_mean_square
    inside = guess.epsilon_placement == "inside_sqrt"
    floor = guess.epsilon + (first if inside else float(np.sqrt(first)))
    squared = floor if inside else floor**2
    return [
        guess.replace(epsilon=floor, initial_mean_square=0.0),
        guess.replace(epsilon=0.0, initial_mean_square=squared / max(guess.rho, 0.1)),
        guess.replace(epsilon=0.01 * floor, initial_mean_square=squared / max(guess.rho, 0.1)),
    ]


def with_decay(guess: RMSPropConfig, seen: Observation, mode: str = "l2") -> RMSPropConfig:
    """Return the guess with the decay of a kind, out of a grid, that comes closest."""
    tries = [guess.replace(weight_decay=float(decay), weight_decay_mode=mode) for decay in DECAYS]
    return min(tries, key=lambda config: _distance(config, seen))


def _distance(config: RMSPropConfig, seen: Observation) -> float:
    """Return the mean distance between movements, each relative to the larger one."""
    expected = simulate(config, seen.probe, np.float64)
    start = seen.probe.weights
    with np.errstate(all="ignore"):
        apart = np.abs(seen.weights - expected) / np.maximum(np.abs(seen.weights - start), np.abs(expected - start))
    return float(np.mean(np.minimum(np.nan_to_num(apart, nan=0.0, posinf=1.0), 1.0)))


def _also_mixed(fits: list[Fit], case: Case) -> list[Fit]:
    """Return the fits, and where none is right, those with a first mean square and an epsilon outside the root.

    That combination is the one that the linear guesses leave out.
    """
    if not fits or fits[0].close:
        return fits
    more = []
    for one in fits[:2]:
        floor = one.config.initial_mean_square
        if floor > 0:
            start = one.config.replace(epsilon=0.1 * float(np.sqrt(floor)), epsilon_placement="outside_sqrt")
            more.append(fit(start, case.observations))
    return fits + more


def simplest(found: Fit, observations: Sequence[Observation]) -> Fit:
    """Return the fit without the numbers that explain nothing; weights that move without gradients do decay."""
    needed = {"weight_decay"} if np.any(shrinkage(observations[1])) else set()
    for name in REMOVABLE:
        if getattr(found.config, name) > 0 and name not in needed:
            changes: dict[str, Any] = {name: 0.0, **({"nesterov": False} if name == "momentum" else {})}
            without = fit(found.config.replace(**changes), observations, rounds=2)
            if without.as_good_as(found):
                found = without
    return found
