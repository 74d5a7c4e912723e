"""The inference: from what an optimizer does under the probes to the axes that it follows. No framework is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from unirms.config import RMSPropConfig
from unirms.errors import UnsupportedError
from unirms.fingerprinting import clipping, probes
from unirms.fingerprinting.case import Case
from unirms.fingerprinting.checks import (
    check_clip,
    check_copies,
    check_finite,
    check_rates,
    check_variance,
    confirm,
)
from unirms.fingerprinting.evidence import against, unequal
from unirms.fingerprinting.expecting import HALF_ULP
from unirms.fingerprinting.fitting import fit, rounded
from unirms.fingerprinting.naming import Match, closest, matches
from unirms.fingerprinting.probes import Observation, Runner
from unirms.fingerprinting.result import Finding, Fingerprint
from unirms.fingerprinting.starting import fit_likeliest, shrinkage, simplest, with_decay
from unirms.fingerprinting.weighing import NAMELESS, weigh
from unirms.semantics import AXES

LONG_STEP: Final = 0.85
"""Quantile of the steps that counts as a long one. It is not the first step, and not the longest: centered and
corrected, a first step divides by epsilon alone, and that of a large gradient is 1e8 times as long as all others."""
FORGOTTEN: Final = 1e-18
"""A first mean square that has shrunk to this hides no epsilon above 1e-18 inside the root, or 1e-10 outside."""
LONGEST_REST: Final = 5000


def investigate(run: Runner, framework: str = "") -> Fingerprint:
    """Return what the optimizer behind `run` does.

    Args:
        run: feeds gradients to a fresh optimizer, see `Runner`.
        framework: its framework, whose dialects are named first; "" for none.

    Raises:
        UnsupportedError: no weight moves at all.
    """
    case = Case(run)
    case.limit = clipping.smallest_limit(run)
    if case.limit is not None:
        case.largest = case.limit / clipping.MARGIN
    _look(case)
    fit_likeliest(case)
    if case.fit is None or not case.fit.right:
        case.problems.append("no choice of axes and numbers explains the movements")
    checks = (check_copies, check_clip, check_rates, check_finite, check_variance, confirm)
    for stage in (_rest, _blur, _round, weigh, *checks):
        if not case.problems:
            stage(case)
    return _conclude(case, framework)


def _look(case: Case) -> None:
    """Make the two main observations."""
    main = probes.fresh(case.largest, several=not case.clipped).ask(case.run)
    if not np.any(main.copies):
        _refuse_still(case, main)
    moved = np.abs(main.steps[2])
    clear = moved[np.isfinite(moved) & (moved > main.resolution[2])]
    if clear.size:
        # Below a clip, gradients are so small that most steps are short.
        case.heavy = float(np.quantile(clear, 1.0 if case.clipped else LONG_STEP))
    elif np.any(main.steps) and not np.any(moved):
        raise UnsupportedError("the optimizer does not move the weights at every gradient; does it gather several?")
    else:  # it moves some parameters alone, or as their weights let it
        case.heavy = float(np.max(np.abs(main.copies[np.isfinite(main.copies)]), initial=0.0))
    weighted = probes.weighted(main.probe, case.heavy, case.largest).ask(case.run)
    case.observations = [main, weighted]


def _refuse_still(case: Case, main: Observation) -> None:
    """Raise what an optimizer is told that leaves weights of zero where they are."""
    seen = probes.weighted(main.probe, 1.0, case.largest).ask(case.run)
    if np.any(seen.copies != seen.probe.weights[seen.probe.numbers]):
        raise UnsupportedError("the optimizer moves other weights, but none that is 0, as every dialect does")
    raise UnsupportedError("the optimizer moves no weight, whatever the gradients; is its learning rate 0?")


def _rest(case: Case) -> None:
    """Let a first mean square decay until it hides the epsilon no longer, and look again."""
    config, first = case.config, case.config.initial_mean_square
    if first == 0 or not 0 < config.rho < 1:
        return
    steps = int(np.ceil(np.log(FORGOTTEN / first) / np.log(config.rho)))
    if steps > LONGEST_REST:
        case.notes.append(
            f"the first mean square of {first:g} needs {steps} steps to decay (rho {config.rho:g}); "
            "an epsilon that is small against it stays hidden"
        )
        return
    probe = probes.rested(case.observations[0].probe, steps, 16 * case.heavy)
    later, still = probe.ask(case.run).without_still()
    case.observations.append(later)
    case.rested = True
    decays = [config]
    if np.any(still != probe.weights[-still.shape[1] :]):
        # Only where the mean square is small does a small L2 decay differ from none, or from a decoupled one.
        decays.append(with_decay(config, later))
    floor = _floor(later, config)
    starts = []
    for one in decays:
        starts += [one, one.replace(epsilon=0.0)] if one.epsilon > 0 else [one]
        starts += [one.replace(epsilon=floor**2, epsilon_placement="inside_sqrt")]
        starts += [one.replace(epsilon=floor, epsilon_placement="outside_sqrt")]
    found = min((fit(start, case.observations) for start in starts), key=lambda one: one.order)
    case.fit = simplest(found, case.observations)


def _floor(later: Observation, config: RMSPropConfig) -> float:
    """Return the denominator under the smallest gradients."""
    gradients = later.probe.gradients[0].astype(np.float64)
    ahead = 1 + config.momentum if config.nesterov else 1.0
    with np.errstate(all="ignore"):
        denominators = np.abs(config.initial_learning_rate * ahead * gradients / later.steps[0])
    usable = np.isfinite(denominators) & (gradients != 0) & (np.abs(gradients) < 1e-14)
    return float(np.median(denominators[usable])) if usable.any() else 0.0


def _blur(case: Case) -> None:
    """Widen the error of a weight decay that is near what float32 resolves: there, rounding loses a part of it."""
    assert case.fit is not None
    shares = np.abs(shrinkage(case.observations[1]))
    if case.config.weight_decay > 0 and np.any(shares):
        lost = HALF_ULP / (8 * float(np.mean(shares)))  # over dozens of weights and steps
        errors = {**case.fit.errors, "weight_decay": max(case.fit.errors["weight_decay"], lost)}
        case.fit = replace(case.fit, errors=errors)


def _round(case: Case) -> None:
    """Read the numbers as the decimals that they were."""
    assert case.fit is not None
    case.fit = rounded(case.fit, case.observations)


def _conclude(case: Case, framework: str) -> Fingerprint:
    """Name the dialects, or the closest one with the evidence against it."""
    consistent = case.fit is not None and not case.problems
    config = case.config if consistent else None
    lost = Finding(None, False, "the movements contradict each other")
    axes = {axis.field: case.axes.get(axis.field, lost) for axis in AXES}
    hidden = [name for name, finding in axes.items() if not finding.shown and name not in NAMELESS]
    found = [] if config is None else matches(config, hidden, framework, case.agrees)
    fitting = sorted((match for match in found if not match.differences), key=lambda match: len(match.edges))
    if fitting:
        first = fitting[0]
        return Fingerprint(
            True,
            first.config,
            axes,
            tuple(match.dialect for match in fitting),
            first.dialect,
            (*_scaled(first), *_apart(fitting), *case.notes),
            {match.dialect: match.settings for match in fitting},
            framework,
        )
    share, name, near = closest(case.fit, case.observations, framework)
    if case.fit is None or not case.fit.right:
        case.problems += [sentence for sentence in [unequal(case.observations)] if sentence]
    evidence = [*case.problems, f"closest is {name} with {_settings(near)}: it explains {share:.1%} of the movements"]
    evidence += [sentence for sentence in [against(near, case.observations)] if sentence]
    differences = next((match.differences for match in found if match.dialect == name), ())
    evidence += [f"{name}: {difference}" for difference in differences]
    return Fingerprint(consistent, config, axes, (), name, tuple(evidence), {}, framework)


def _apart(fitting: Sequence[Match]) -> list[str]:
    """Return where dialects that fit do something else in an edge case, those that do the same there together."""
    names: dict[str, list[str]] = {}
    for match in fitting:
        for edge in match.edges:
            names.setdefault(str(edge), []).append(match.dialect)
    return [f"but in {', '.join(dialects)}, {sentence}" for sentence, dialects in names.items()]


def _scaled(match: Match) -> list[str]:
    scale = match.config.loss_scale
    return [f"its first mean square says that {match.dialect} has a loss scale of {scale:g}"] if scale != 1 else []


def _settings(config: RMSPropConfig) -> str:
    names = ("learning_rate", "rho", "epsilon", "momentum", "weight_decay")
    return ", ".join(f"{name} {getattr(config, name):g}" for name in names if getattr(config, name))
