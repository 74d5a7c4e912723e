"""The last stages of an investigation: what was found is held against more probes."""

from __future__ import annotations

from typing import Final

import numpy as np

from unirms.errors import UnirmsError, UnsupportedError
from unirms.fingerprinting import clipping, probes
from unirms.fingerprinting.case import Case
from unirms.fingerprinting.evidence import disagreement
from unirms.fingerprinting.expecting import expect
from unirms.fingerprinting.fitting import judged
from unirms.fingerprinting.probes import LARGEST, Observation, Probe
from unirms.fingerprinting.result import Finding

RATES: Final = (1.0, 1.0, 0.5, 0.5, 2.0, 1.0, 0.25, 1.0)
"""Learning rates of the probe for the buffer, in units of the optimizer's own."""
SPARED: Final = 400
"""Steps of constant gradients that are worth a look at negative variances."""


def _random(case: Case, *, seed: int, size: int) -> Probe:
    """Return a random probe whose gradients no clip reaches."""
    if case.clipped:
        return probes.at_random(seed, case.heavy, case.largest / 10, size=min(size, 100))
    return probes.at_random(seed, case.heavy, 1e3, size=size)


def check_copies(case: Case) -> None:
    """Hold every copy of every experiment against the config; the first that parts from it is the evidence."""
    for seen in case.observations:
        sentence = disagreement(seen, expect(case.config, seen.probe))
        if sentence:
            case.problems.append(sentence)
            return


def check_clip(case: Case) -> None:
    """Find out what limits large gradients."""
    limit = case.limit
    if limit is None:
        case.axes["clip"] = Finding((), True, f"gradients up to 1e{LARGEST} are not clipped")
        return
    if case.config.rho == 0:
        case.axes["clip"] = Finding(None, False, "with rho 0, every large gradient makes the same step")
        return
    found = clipping.clip_of(case.config, case.run, limit)
    if found.wrong > 0:
        case.problems.append(
            f"gradients above {limit:g} are limited, but by no value, norm or global norm: at best, "
            f"{found.config.clip} leaves {found.wrong:.0%} of the movements unexplained"
        )
        case.axes["clip"] = Finding(None, False, "no single clip explains how large gradients are limited")
        return
    case.decide(clip=found.config.clip)
    case.axes["clip"] = Finding(found.config.clip, True, "large gradients in one tensor limit those that they should")


def check_rates(case: Case) -> None:
    """Change the learning rate between steps: which rate do steps in the buffer keep, and is it followed at all?"""
    config = case.config
    name = "lr_in_momentum"
    unseen = "without momentum both values are the same" if config.momentum == 0 else ""
    probe = case.observations[0].probe.with_rates([config.initial_learning_rate * factor for factor in RATES])
    try:
        seen = probe.ask(case.run)
    except UnsupportedError as error:
        case.axes[name] = Finding(None, False, unseen or str(error))
        return
    assert case.fit is not None
    errors = case.fit.errors
    kept = judged(config, [Observation(case.observations[0].probe, seen.copies)], errors)
    found = {value: judged(config.replace(lr_in_momentum=value), [seen], errors) for value in (True, False)}
    value = min(found, key=lambda one: found[one].order)
    if kept.wrong == 0:
        case.axes[name] = Finding(None, False, unseen or "setting the learning rate of this optimizer changes nothing")
    elif found[value].wrong > 0:
        expected = expect(config.replace(lr_in_momentum=value), probe, errors)
        case.problems.append(
            "the learning rate that is set is not the one that is followed: " + disagreement(seen, expected)
        )
        case.axes[name] = Finding(None, False, "changes of the learning rate are followed in no known way")
    elif unseen:
        case.axes[name] = Finding(None, False, unseen)
    else:
        case.decide(lr_in_momentum=value)
        case.axes[name] = Finding(
            value, True, f"with {not value}, {found[not value].wrong:.0%} of the movements would stay unexplained"
        )


def check_finite(case: Case) -> None:
    """Give one of two tensors an infinite gradient: does the other one move?"""
    name = "non_finite"
    if case.clipped:
        case.axes[name] = Finding(None, False, "its gradients are clipped, an infinite norm perhaps to 0")
        return
    gradients = np.array([[1.0, np.inf]], np.float32)
    probe = Probe("an infinite gradient", np.zeros(2), gradients, {"p0": np.array([0]), "p1": np.array([1])})
    try:
        seen = probe.ask(case.run)
    except UnirmsError as error:
        value, evidence = "raise", f"an infinite gradient is refused: {error}"
    else:
        finite, infinite = seen.copies[0]
        if finite == 0 and infinite == 0:
            value, evidence = "skip", "beside an infinite gradient, a weight with a finite one stays as it is"
        else:
            value, evidence = "propagate", "beside an infinite gradient, a weight with a finite one moves"
            if np.isfinite(infinite) and not case.config.centered:
                case.notes.append(
                    f"an infinite gradient moves its own weight by {infinite:g}: every dialect makes it NaN"
                )
    case.decide(non_finite=value)
    case.axes[name] = Finding(value, True, evidence)


def check_variance(case: Case) -> None:
    """Drive a centered variance below 0 by rounding, and beyond infinity."""
    config, name = case.config, "negative_variance"
    if not config.centered:
        case.axes[name] = Finding(None, False, "the mean square is not centered")
        return
    if case.clipped:
        case.axes[name] = Finding(None, False, "its gradients are clipped")
        return
    if config.non_finite != "propagate":
        case.axes[name] = Finding(None, False, "an infinite gradient makes no update")
        return
    enough = int(np.ceil(np.log(1e-9) / np.log(config.rho))) if config.rho > 0 else 1
    steps = min(enough, SPARED)
    constant = np.random.default_rng(6).uniform(10, 1000, 64)
    gradients = np.tile(np.concatenate([constant, np.ones(1)]), (steps, 1))
    gradients[0, -1] = np.inf  # inf - inf; a finite gradient would do where no fused operation keeps its square
    places = {"p0": np.arange(64), "p1": np.array([64])}
    seen = Probe("constant gradients", np.zeros(65), gradients.astype(np.float32), places).ask(case.run)
    lost = np.isnan(seen.copies[-1])
    if not lost[-1]:
        case.decide(negative_variance="skip")
        case.axes[name] = Finding("skip", True, "after an infinite gradient the weight stays as it is")
    elif lost[:-1].any():
        case.axes[name] = Finding("propagate", True, f"{int(lost[:-1].sum())} of 64 constant gradients end in NaN")
    else:
        why = f"after {steps} constant gradients nothing is NaN: clamped, or spared by rounding"
        case.axes[name] = Finding(None, False, why)


def confirm(case: Case) -> None:
    """Hold a fresh random run against the config, twice, and a long one; the two runs must be alike."""
    probe = _random(case, seed=1, size=probes.MANY)
    first, second = probe.ask(case.run), probe.ask(case.run)
    assert case.fit is not None
    expected = expect(case.config.replace(clip=()), probe, case.fit.errors)
    sentence = disagreement(first, expected)
    if sentence:
        case.problems.append(sentence)
        return
    again = disagreement(second, expected)
    if again:
        case.problems.append("a second run of the same moves differently: " + again)
        return
    case.axes["gradient_centralization"] = Finding("none", True, "elements of matrices move as those of vectors do")
    lasting = probes.enduring(case.largest / 10 if case.clipped else 1e3)
    seen = lasting.ask(case.run)
    sentence = disagreement(seen, expect(case.config.replace(clip=()), lasting, case.fit.errors))
    if sentence:
        case.problems.append(sentence)
        return
    count = first.copies.size
    case.notes.append(f"{count} movements under random gradients are as computed, within rounding, in each of two runs")
