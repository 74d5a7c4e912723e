"""The inference: from what an optimizer does under the probes to the axes that it follows. No framework is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from unirms.config import RMSPropConfig
from unirms.errors import ConfigError, UnsupportedError
from unirms.fingerprinting import clipping, probes
from unirms.fingerprinting.estimating import guesses, l2_decay
from unirms.fingerprinting.expecting import HALF_ULP, Expectation, expect, simulate
from unirms.fingerprinting.fitting import Fit, fit, judged, rounded
from unirms.fingerprinting.naming import Match, closest, matches
from unirms.fingerprinting.probes import LARGEST, Array, Observation, Probe, Runner
from unirms.fingerprinting.result import Finding, Fingerprint
from unirms.semantics import AXES

LONG_STEP: Final = 0.85
"""Quantile of the steps that counts as a long one. It is not the first step, and not the longest: centered and
corrected, a first step divides by epsilon alone, and that of a large gradient is 1e8 times as long as all others."""
TRIED: Final = 6
"""Guesses that are fitted; the right one is among the first two wherever one is right."""
BESIDE: Final = 2
"""Guesses of another kind of decay that are fitted beside one that is close already."""
DECAYS: Final = 10.0 ** np.arange(-8, 1.01, 0.25)
"""L2 decays from which a fit may start."""
FORGOTTEN: Final = 1e-18
"""A first mean square that has shrunk to this hides no epsilon above 1e-18 inside the root, or 1e-10 outside."""
LONGEST_REST: Final = 5000
UNSURE: Final = 0.05
"""Relative standard error from which on a number does not show."""
ESSENTIAL: Final = ("learning_rate", "rho")
RATES: Final = (1.0, 1.0, 0.5, 0.5, 2.0, 1.0, 0.25, 1.0)
"""Learning rates of the probe for the buffer, in units of the optimizer's own."""
FLIPS: Final[dict[str, tuple[Any, Any]]] = {
    "epsilon_placement": ("inside_sqrt", "outside_sqrt"),
    "centered": (False, True),
    "bias_correction": (False, True),
    "nesterov": (False, True),
    "weight_decay_mode": ("l2", "decoupled"),
}
REMOVABLE: Final = ("initial_mean_square", "epsilon", "momentum", "weight_decay")
NAMELESS: Final = {
    "no_weight_decay": "it goes by the names of parameters, and those of the probes are p0, p1, …",
    "groups": "groups are made by whoever makes the optimizer",
    "loss_scale": "it cannot be told from another epsilon, first mean square and L2 decay",
}
PAIRS: Final = 50
"""Wrong copies among which one with a right copy in the same tensor is looked for."""
SOON: Final = 2
UNEQUAL: Final = 1e-4
"""Relative difference between equal elements that is no rounding, in the first steps: rounding is some 1e-6 there."""
SPARED: Final = 400
"""Steps of constant gradients that are worth a look at negative variances."""


@dataclass
class Case:
    """What has been found out so far."""

    run: Runner
    largest: float = 10.0**LARGEST
    limit: float | None = None
    """A norm up to which gradients are not clipped; None where none are."""
    heavy: float = 0.0
    """A long third step: the unit for weights."""
    observations: list[Observation] = field(default_factory=list)
    fit: Fit | None = None
    rested: bool = False
    axes: dict[str, Finding] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def clipped(self) -> bool:
        """Whether large gradients are clipped."""
        return self.limit is not None

    @property
    def config(self) -> RMSPropConfig:
        """The config found so far."""
        assert self.fit is not None
        return self.fit.config

    def decide(self, **fields: Any) -> None:
        """Set fields of the config found so far."""
        assert self.fit is not None
        self.fit = judged(self.config.replace(**fields), self.observations, self.fit.errors)


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
    _fit(case)
    if case.fit is None or not case.fit.right:
        case.problems.append("no choice of axes and numbers explains the movements")
    for stage in (_rest, _blur, _round, _weigh, _check_copies, _check_clip, _check_rates, _check_variance, _confirm):
        if not case.problems:
            stage(case)
    return _conclude(case, framework)


def _look(case: Case) -> None:
    """Make the two main observations."""
    main = probes.fresh(case.largest, several=not case.clipped).ask(case.run)
    moved = np.abs(main.steps[2])
    moved = moved[np.isfinite(moved) & (moved > main.resolution[2])]
    # Below a clip, gradients are so small that most steps are short.
    case.heavy = float(np.quantile(moved, 1.0 if case.clipped else LONG_STEP)) if moved.size else 0.0
    if case.heavy == 0:
        raise UnsupportedError("the optimizer moves no weight, whatever the gradients; is its learning rate 0?")
    weighted = probes.weighted(main.probe, case.heavy, case.largest).ask(case.run)
    case.observations = [main, weighted]


def _fit(case: Case) -> None:
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
        found = _simplest(min(fits, key=lambda one: one.order), case.observations)
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
    shares = _shares(weighted)
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
            yield "l2", _with_l2(reading, weighted)


def _shares(weighted: Observation) -> Array:
    """Return by what share of themselves weights without gradients have shrunk, in every step."""
    alone = ~np.any(weighted.probe.gradients, axis=0)
    before = np.vstack([weighted.probe.weights[alone].astype(np.float64), weighted.weights[:-1, alone]])
    with np.errstate(all="ignore"):
        shares = -weighted.steps[:, alone] / before
    return np.asarray(shares[np.isfinite(shares)])


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


def _with_l2(guess: RMSPropConfig, seen: Observation) -> RMSPropConfig:
    """Return the guess with the L2 decay, out of a grid, that comes closest."""
    tries = [guess.replace(weight_decay=float(decay), weight_decay_mode="l2") for decay in DECAYS]
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


def _simplest(found: Fit, observations: Sequence[Observation]) -> Fit:
    """Return the fit without the numbers that explain nothing; weights that move without gradients do decay."""
    needed = {"weight_decay"} if np.any(_shares(observations[1])) else set()
    for name in REMOVABLE:
        if getattr(found.config, name) > 0 and name not in needed:
            changes: dict[str, Any] = {name: 0.0, **({"nesterov": False} if name == "momentum" else {})}
            without = fit(found.config.replace(**changes), observations, rounds=2)
            if without.as_good_as(found):
                found = without
    return found


def _random(case: Case, *, seed: int, size: int) -> Probe:
    """Return a random probe whose gradients no clip reaches."""
    if case.clipped:
        return probes.at_random(seed, case.heavy, case.largest / 10, size=min(size, 100))
    return probes.at_random(seed, case.heavy, 1e3, size=size)


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
        decays.append(_with_l2(config, later))
    floor = _floor(later, config)
    starts = []
    for one in decays:
        starts += [one, one.replace(epsilon=0.0)] if one.epsilon > 0 else [one]
        starts += [one.replace(epsilon=floor**2, epsilon_placement="inside_sqrt")]
        starts += [one.replace(epsilon=floor, epsilon_placement="outside_sqrt")]
    found = min((fit(start, case.observations) for start in starts), key=lambda one: one.order)
    case.fit = _simplest(found, case.observations)


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
    shares = np.abs(_shares(case.observations[1]))
    if case.config.weight_decay > 0 and np.any(shares):
        lost = HALF_ULP / (8 * float(np.mean(shares)))  # over dozens of weights and steps
        errors = {**case.fit.errors, "weight_decay": max(case.fit.errors["weight_decay"], lost)}
        case.fit = replace(case.fit, errors=errors)


def _round(case: Case) -> None:
    """Read the numbers as the decimals that they were."""
    assert case.fit is not None
    case.fit = rounded(case.fit, case.observations)


def _weigh(case: Case) -> None:
    """Say of each axis what shows it: how much the other choice, or 0, would leave unexplained."""
    assert case.fit is not None
    config, errors = case.config, case.fit.errors
    for name in ("learning_rate", "rho", *REMOVABLE):
        case.axes[name] = _number(name, config, errors, case)
    for name, choices in FLIPS.items():
        case.axes[name] = _choice(name, choices, case)
    way = "against" if not config.maximize else "along"
    case.axes["maximize"] = Finding(config.maximize, True, f"weights move {way} their gradients")
    for name, reason in NAMELESS.items():
        case.axes[name] = Finding(None, False, reason)
    unknown = [name for name in ESSENTIAL if not case.axes[name].shown]
    if unknown and case.fit.right:
        case.problems.append(
            "the steps do not show a running mean square: many values of "
            + " and ".join(unknown)
            + " explain them"
            + (f" (gradients above {case.limit:g} are clipped)" if case.clipped else "")
        )


def _number(name: str, config: RMSPropConfig, errors: dict[str, float], case: Case) -> Finding:
    value, error = getattr(config, name), errors.get(name, np.inf)
    if value == 0 and name != "rho":
        return _absent(name, config, case)
    if not error < UNSURE and not (name == "rho" and value < UNSURE):
        return Finding(None, False, f"fitted as {value:.3g}, and values far from it fit as well")
    size = (1 - value) if name == "rho" else value
    within = error * size if np.isfinite(error) else UNSURE
    return Finding(value, True, f"measured to within {max(within, HALF_ULP * value):.1g}")


def _absent(name: str, config: RMSPropConfig, case: Case) -> Finding:
    if name == "epsilon":
        if config.initial_mean_square > 0 and not case.rested:
            return Finding(None, False, case.notes[-1] if case.notes else "the first mean square hides it")
        smallest = "1e-18" if case.rested else "1e-30"
        return Finding(0.0, True, f"gradients down to 1e-16 are normalised; an epsilon below {smallest} would not show")
    evidence = {
        "momentum": "nothing moves in the steps after a pulse",
        "initial_mean_square": "the first steps are as long as from a mean square of 0",
        "weight_decay": "weights without gradients stay: whatever decays less than 6e-8 of itself in a step, as under "
        f"a decoupled decay of {HALF_ULP / config.initial_learning_rate:.1g}, is kept by float32",
    }
    return Finding(0.0, True, evidence[name])


def _choice(name: str, choices: tuple[Any, Any], case: Case) -> Finding:
    """Return a finding on an axis with two values, by fitting the other one."""
    config = case.config
    value = getattr(config, name)
    needs = {"nesterov": "momentum", "weight_decay_mode": "weight_decay", "epsilon_placement": "epsilon"}.get(name)
    if needs is not None and getattr(config, needs) == 0:
        return Finding(None, False, f"without {needs} both values are the same")
    other = choices[1] if value == choices[0] else choices[0]
    assert case.fit is not None
    try:
        flipped = fit(config.replace(**{name: other}), case.observations, rounds=1)
    except ConfigError:
        return Finding(None, False, "the other value is undefined with these numbers")
    if flipped.as_good_as(case.fit):
        return Finding(None, False, f"{value} and {other} explain the movements equally well")
    if flipped.wrong == 0:
        return Finding(value, True, f"with {other}, rounding would decide {flipped.silent:.0%} of the movements")
    return Finding(value, True, f"with {other}, {flipped.wrong:.0%} of the movements would stay unexplained")


def _check_copies(case: Case) -> None:
    """Hold every copy of every experiment against the config; the first that parts from it is the evidence."""
    for seen in case.observations:
        sentence = _disagreement(seen, expect(case.config, seen.probe))
        if sentence:
            case.problems.append(sentence)
            return


def _disagreement(seen: Observation, expected: Expectation) -> str:
    """Return where an optimizer first parts from what is expected, or "" where it never does."""
    numbers = seen.probe.numbers
    off = expected.off(seen.copies, numbers)
    if not np.any(off > 1):
        return ""
    step = int(np.argmax(np.any(off > 1, axis=1)))
    wrong, twin = _pair(seen.probe, off[step])
    number = int(numbers[wrong])
    start = float(np.float32(seen.probe.weights[number]))
    moved, meant = seen.copies[step, wrong] - start, expected.weights[step, number] - start
    share = f"{np.mean(off > 1):.1%} of all movements are wrong"
    about = f"probe {seen.probe.name!r}, {_story(seen.probe, number, step)}"
    if twin is not None:
        return _twins(seen, step, twin, wrong) + f"; {share}"
    return (
        f"after step {step + 1}, {seen.probe.place(wrong)} should have moved by {meant:.6g} and has moved by "
        f"{moved:.6g} ({about}); {share}"
    )


def _pair(probe: Probe, off: Array) -> tuple[int, int | None]:
    """Return the position of a wrong copy, and of a right one of the same experiment: in the same tensor, if any."""
    tensors = np.repeat(np.arange(len(probe.places)), [numbers.size for numbers in probe.places.values()])
    worst_first = [int(i) for i in np.argsort(-off) if off[i] > 1]
    elsewhere: tuple[int, int | None] = worst_first[0], None
    for wrong in worst_first[:PAIRS]:
        right = np.flatnonzero((probe.numbers == probe.numbers[wrong]) & (off <= 1))
        near = right[tensors[right] == tensors[wrong]]
        if near.size:
            return wrong, int(near[0])
        if right.size and elsewhere[1] is None:
            elsewhere = wrong, int(right[0])
    return elsewhere


def _twins(seen: Observation, step: int, one: int, other: int) -> str:
    number = int(seen.probe.numbers[one])
    start = float(np.float32(seen.probe.weights[number]))
    moved = [f"{seen.copies[step, i] - start:.6g}" for i in (one, other)]
    return (
        f"equal elements at {seen.probe.place(one)} and {seen.probe.place(other)} move differently, by {moved[0]} and "
        f"{moved[1]} in {step + 1} steps (probe {seen.probe.name!r}, {_story(seen.probe, number, step)})"
    )


def _unequal(observations: Sequence[Observation]) -> str:
    """Return where equal elements soon move differently; this needs no config."""
    for seen in observations:
        numbers = seen.probe.numbers
        start = seen.probe.weights.astype(np.float64)[numbers]
        for step, weights in enumerate(seen.copies[:SOON]):
            middle = seen.weights[step][numbers]
            with np.errstate(all="ignore"):
                apart = np.abs(weights - middle) / np.maximum(np.abs(middle - start), np.abs(weights - start))
            apart = np.nan_to_num(apart / UNEQUAL, posinf=0.0)
            if np.any(apart > 1):
                wrong, twin = _pair(seen.probe, apart)
                return _twins(seen, step, wrong if twin is None else twin, wrong)
    return ""


def _story(probe: Probe, number: int, step: int) -> str:
    gradients = probe.gradients[max(0, step - 3) : step + 1, number]
    dots = "…, " if step > 3 else ""
    return f"weight {probe.weights[number]:.4g}, gradients {dots}{', '.join(f'{g:.4g}' for g in gradients)}"


def _check_clip(case: Case) -> None:
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


def _check_rates(case: Case) -> None:
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
            "the learning rate that is set is not the one that is followed: " + _disagreement(seen, expected)
        )
        case.axes[name] = Finding(None, False, "changes of the learning rate are followed in no known way")
    elif unseen:
        case.axes[name] = Finding(None, False, unseen)
    else:
        case.decide(lr_in_momentum=value)
        case.axes[name] = Finding(
            value, True, f"with {not value}, {found[not value].wrong:.0%} of the movements would stay unexplained"
        )


def _check_variance(case: Case) -> None:
    """Drive a centered variance below 0 by rounding, and beyond infinity."""
    config, name = case.config, "negative_variance"
    if not config.centered:
        case.axes[name] = Finding(None, False, "the mean square is not centered")
        return
    if case.clipped:
        case.axes[name] = Finding(None, False, "its gradients are clipped")
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


def _confirm(case: Case) -> None:
    """Hold a fresh random run against the config, twice; the two runs must be alike."""
    probe = _random(case, seed=1, size=probes.MANY)
    first, second = probe.ask(case.run), probe.ask(case.run)
    assert case.fit is not None
    expected = expect(case.config.replace(clip=()), probe, case.fit.errors)
    sentence = _disagreement(first, expected)
    if sentence:
        case.problems.append(sentence)
        return
    again = _disagreement(second, expected)
    if again:
        case.problems.append("a second run of the same moves differently: " + again)
        return
    count = first.copies.size
    case.notes.append(f"{count} movements under random gradients are as computed, within rounding, in each of two runs")


def _conclude(case: Case, framework: str) -> Fingerprint:
    """Name the dialects, or the closest one with the evidence against it."""
    consistent = case.fit is not None and not case.problems
    config = case.config if consistent else None
    lost = Finding(None, False, "the movements contradict each other")
    axes = {axis.field: case.axes.get(axis.field, lost) for axis in AXES}
    hidden = [name for name, finding in axes.items() if not finding.shown and name not in NAMELESS]
    found = matches(config, hidden, framework) if config is not None else []
    fitting = [match for match in found if not match.differences]
    if fitting:
        first = fitting[0]
        return Fingerprint(
            True,
            first.config,
            axes,
            tuple(match.dialect for match in fitting),
            first.dialect,
            (*_scaled(first), *case.notes),
            {match.dialect: match.settings for match in fitting},
            framework,
        )
    share, name, near = closest(case.fit, case.observations, framework)
    if case.fit is None or not case.fit.right:
        case.problems += [sentence for sentence in [_unequal(case.observations)] if sentence]
    evidence = [*case.problems, f"closest is {name} with {_settings(near)}: it explains {share:.1%} of the movements"]
    evidence += [sentence for sentence in [_against(near, case.observations)] if sentence]
    differences = next((match.differences for match in found if match.dialect == name), ())
    evidence += [f"{name}: {difference}" for difference in differences]
    return Fingerprint(consistent, config, axes, (), name, tuple(evidence), {}, framework)


def _scaled(match: Match) -> list[str]:
    scale = match.config.loss_scale
    return [f"its first mean square says that {match.dialect} has a loss scale of {scale:g}"] if scale != 1 else []


def _settings(config: RMSPropConfig) -> str:
    names = ("learning_rate", "rho", "epsilon", "momentum", "weight_decay")
    return ", ".join(f"{name} {getattr(config, name):g}" for name in names if getattr(config, name))


def _against(config: RMSPropConfig, observations: Sequence[Observation]) -> str:
    for seen in observations:
        sentence = _disagreement(seen, expect(config, seen.probe))
        if sentence:
            return "against it: " + sentence
    return ""
