"""What shows each axis: how much the other choice, or 0, would leave unexplained."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from unirms.config import RMSPropConfig
from unirms.errors import ConfigError
from unirms.fingerprinting.case import Case
from unirms.fingerprinting.expecting import HALF_ULP
from unirms.fingerprinting.fitting import fit
from unirms.fingerprinting.result import Finding
from unirms.fingerprinting.starting import REMOVABLE

UNSURE: Final = 0.05
"""Relative standard error from which on a number does not show."""
ESSENTIAL: Final = ("learning_rate", "rho")
CHOICES: Final[dict[str, tuple[Any, ...]]] = {
    "epsilon_placement": ("inside_sqrt", "outside_sqrt"),
    "centered": (False, True),
    "bias_correction": (False, True),
    "nesterov": (False, True),
    "weight_decay_mode": ("l2", "decoupled", "l1"),
}
NAMELESS: Final = {
    "no_weight_decay": "it goes by the names of parameters, and those of the probes are p0, p1, …",
    "groups": "groups are made by whoever makes the optimizer",
    "loss_scale": "it cannot be told from another epsilon, first mean square and L2 decay",
}
UNASKED: Final = {
    "sparse": "every gradient of the probes is dense",
    "ema_decay": "averages of the weights stand beside them and do not move them",
    "ema_start": "averages of the weights stand beside them and do not move them",
}
"""Axes that no probe asks about; on these a dialect keeps its own choice."""


def weigh(case: Case) -> None:
    """Say of each axis what shows it: how much the other choice, or 0, would leave unexplained."""
    assert case.fit is not None
    config, errors = case.config, case.fit.errors
    for name in ("learning_rate", "rho", *REMOVABLE):
        case.axes[name] = _number(name, config, errors, case)
    for name, choices in CHOICES.items():
        case.axes[name] = _choice(name, choices, case)
    way = "against" if not config.maximize else "along"
    case.axes["maximize"] = Finding(config.maximize, True, f"weights move {way} their gradients")
    case.axes["gradient_accumulation_steps"] = Finding(1, True, "every gradient moves the weights at once")
    for name, reason in {**NAMELESS, **UNASKED}.items():
        case.axes[name] = Finding(None, False, reason)
    unknown = [name for name in ESSENTIAL if not case.axes[name].shown]
    if unknown and case.fit.right:
        case.problems.append(
            "the steps do not show a running mean square: many values of "
            + " and ".join(unknown)
            + " explain them"
            + (f" (all gradients above {case.limit:g} make equal steps)" if case.clipped else "")
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


def _choice(name: str, choices: tuple[Any, ...], case: Case) -> Finding:
    """Return a finding on an axis with few values, by fitting the others."""
    config = case.config
    value = getattr(config, name)
    needs = {"nesterov": "momentum", "weight_decay_mode": "weight_decay", "epsilon_placement": "epsilon"}.get(name)
    if needs is not None and getattr(config, needs) == 0:
        return Finding(None, False, f"without {needs} all values are the same")
    assert case.fit is not None
    try:
        others = [
            fit(config.replace(**{name: other}), case.observations, rounds=1) for other in choices if other != value
        ]
    except ConfigError:
        return Finding(None, False, "the other value is undefined with these numbers")
    nearest = min(others, key=lambda one: one.order)
    other = getattr(nearest.config, name)
    if nearest.as_good_as(case.fit):
        return Finding(None, False, f"{value} and {other} explain the movements equally well")
    if nearest.wrong == 0:
        return Finding(value, True, f"with {other}, rounding would decide {nearest.silent:.0%} of the movements")
    return Finding(value, True, f"with {other}, {nearest.wrong:.0%} of the movements would stay unexplained")
