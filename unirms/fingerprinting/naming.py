"""Which dialects behave as the probes have shown, and which comes closest where none does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from unirms import dialects
from unirms.config import RMSPropConfig
from unirms.dialects.base import REQUIRED, Dialect
from unirms.errors import ConfigError
from unirms.fingerprinting.expecting import explained, simulate
from unirms.fingerprinting.fitting import NUMBERS, Fit, fit, shortest
from unirms.fingerprinting.probes import Observation
from unirms.registry import FRAMEWORKS
from unirms.semantics import Difference, Fidelity
from unirms.translation import to_native

ANY_RATE = 1.0
"""A learning rate for classes without a default; it is scaled to the observed steps."""

FREE: Final = ("learning_rate", "epsilon")
"""What the first step alone can tell."""


@dataclass(frozen=True)
class Match:
    """One dialect beside what was found.

    Attributes:
        dialect: its name.
        config: what was found, with the dialect's own choices on hidden axes, and the loss scale that it would need.
        settings: its native arguments.
        differences: the axes on which its class computes something else.
        edges: those on which it does so in edge cases alone, though the optimizer has shown what it does there.
    """

    dialect: str
    config: RMSPropConfig
    settings: dict[str, Any]
    differences: tuple[Difference, ...]
    edges: tuple[Difference, ...]


def matches(
    config: RMSPropConfig, hidden: Collection[str], framework: str, agrees: Callable[[RMSPropConfig], bool]
) -> list[Match]:
    """Return every dialect beside `config`, in the order of preference; on `hidden` axes it keeps its own choices.

    A number that does not show may still be known to be small, say, so `agrees` is asked whether a dialect's own number
    explains the movements.
    """
    found = []
    for dialect in in_order(framework):
        own = {name: getattr(_defaults(dialect), name) for name in hidden}
        said = config.replace(**own)
        numbers = [name for name in own if name in NUMBERS and own[name] != getattr(config, name)]
        if numbers and not agrees(said):
            said = said.replace(**{name: getattr(config, name) for name in numbers})
        said = with_loss_scale(said, dialect)
        native = to_native(said, dialect.name)
        differences = tuple(one for one in native.differences if one.fidelity is not Fidelity.EXACT)
        edges = tuple(one for one in native.differences if one.fidelity is Fidelity.EXACT and one.axis not in hidden)
        found.append(Match(dialect.name, said, native.kwargs, differences, edges))
    return found


def with_loss_scale(config: RMSPropConfig, dialect: Dialect) -> RMSPropConfig:
    """Return an equal config whose first mean square is the one that the class has fixed, if a loss scale does that.

    Gradients divided by s, against a first mean square v0, an epsilon and an L2 decay, move as whole gradients do
    against s**2 * v0, s**2 * epsilon (or s * epsilon outside the root) and s * decay.
    """
    fixed = dialect.fixed.get("initial_mean_square", 0.0)
    if not dialect.name_of("loss_scale") or not fixed or not config.initial_mean_square:
        return config
    scale = float(np.sqrt(config.initial_mean_square / fixed))
    if scale == 1:
        return config
    inside, l2 = config.epsilon_placement == "inside_sqrt", config.weight_decay_mode == "l2"
    return config.replace(
        initial_mean_square=fixed,
        epsilon=_tidy(config.epsilon / (scale**2 if inside else scale)),
        weight_decay=_tidy(config.weight_decay / scale) if l2 else config.weight_decay,
        loss_scale=_tidy(scale),
    )


def in_order(framework: str) -> list[Dialect]:
    """Return all dialects: the framework's own class first, then others of its packages, then the rest."""
    packages = FRAMEWORKS[framework].packages if framework else ()

    def distance(dialect: Dialect) -> int:
        return 0 if framework and dialect.framework == framework else 1 if dialect.package in packages else 2

    return sorted(dialects.all_dialects().values(), key=distance)


def closest(found: Fit | None, observations: Sequence[Observation], framework: str) -> tuple[float, str, RMSPropConfig]:
    """Return (share of all movements explained, dialect, config) of the dialect that comes closest.

    A dialect that explains the first step counts for more than one that explains a larger share of all: most wrong
    implementations keep something wrong from one step to the next. Each dialect speaks for itself with what was fitted,
    and with its own defaults, their learning rate and epsilon fitted to the first step.
    """
    first = _first_step(observations[0])
    seen: dict[RMSPropConfig, tuple[float, float]] = {}
    best, result = (-1.0, -1.0), (0.0, "", RMSPropConfig())
    for dialect in in_order(framework):
        for config in _tries(dialect, found, first):
            if config not in seen:
                seen[config] = (round(explained(config, [first]), 1), explained(config, observations))
            if seen[config] > best:
                best, result = seen[config], (seen[config][1], dialect.name, config)
    return result


def _first_step(main: Observation) -> Observation:
    return Observation(replace(main.probe, gradients=main.probe.gradients[:1]), main.copies[:1])


def _tries(dialect: Dialect, found: Fit | None, first: Observation) -> Iterator[RMSPropConfig]:
    """Yield what this dialect could be with settings of its own."""
    if found is not None and found.right and (said := _said(dialect, found.config)) is not None:
        yield said
    default = _defaults(dialect)
    for changes in _changes(found):
        said = _said(dialect, default.replace(**changes))
        if said is not None:
            near = fit(
                _scaled(said, first), [first], rounds=1, fixed=[name for name in NUMBERS if name not in FREE]
            ).config
            yield near.replace(**{name: _tidy(getattr(near, name)) for name in FREE})


def _changes(found: Fit | None) -> Iterator[dict[str, Any]]:
    yield {}
    if found is not None:
        known = {"maximize": found.config.maximize, "momentum": found.config.momentum}
        yield known
        yield {**known, "rho": found.config.rho}
        yield {**known, "centered": not found.config.centered}


def _defaults(dialect: Dialect) -> RMSPropConfig:
    return dialect.read({a.name: ANY_RATE for a in dialect.arguments if a.default is REQUIRED})


def _said(dialect: Dialect, config: RMSPropConfig) -> RMSPropConfig | None:
    """Return what the dialect makes of a config, or None where it refuses it."""
    try:
        return dialect.read(dialect.write(config)).replace(no_weight_decay=())
    except ConfigError:
        return None


def _scaled(config: RMSPropConfig, main: Observation) -> RMSPropConfig:
    """Return the config with the learning rate at which its first steps are as long as those that were seen, if any."""
    expected = simulate(config, main.probe, np.float64)[0]
    with np.errstate(all="ignore"):
        ratios = np.abs(main.weights[0] / expected)
    ratios = ratios[np.isfinite(ratios) & (ratios > 0)]
    if not ratios.size:
        return config
    return config.replace(learning_rate=_tidy(config.initial_learning_rate * float(np.median(ratios))))


def _tidy(value: float) -> float:
    """Return a number without the last digits of its arithmetic: float32 holds seven."""
    return shortest(value, 2e-6 * value)
