"""When two configs mean the same numbers, and how far apart they are where they do not.

The verdict follows from the update rule, not from a table of pairs of frameworks: an axis counts only where it can
change a number (epsilon = 0 makes both placements equal; without momentum there is no buffer to put the rate into).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from unirms.config import RMSPropConfig


class Fidelity(IntEnum):
    """How faithfully an optimizer computes a config; the larger, the weaker."""

    EXACT = 0
    """The same numbers."""
    SEEDED = 1
    """The same numbers once the state is filled in before the first step."""
    CONSTANT_LR = 2
    """The same numbers while the learning rate stays constant."""
    APPROXIMATE = 3
    """Other numbers."""

    def __str__(self) -> str:
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True)
class Difference:
    """One axis on which an optimizer parts from the config.

    A difference whose fidelity is `exact` concerns edge cases alone: the numbers agree until a value that should be
    positive is rounded to zero or below, or is not finite.
    """

    axis: str
    wanted: object
    actual: object
    fidelity: Fidelity
    consequence: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.axis} is {_shown(self.actual)} instead of {_shown(self.wanted)} ({self.consequence})"


@dataclass(frozen=True)
class Axis:
    """A field of the config, when it changes numbers, and what follows when it differs."""

    field: str
    consequence: str
    remedy: str = 'use unirms.build(…, policy="exact")'
    fidelity: Callable[[RMSPropConfig], Fidelity] = lambda config: Fidelity.APPROXIMATE
    matters: Callable[[RMSPropConfig], bool] = lambda config: True


def _has_momentum(config: RMSPropConfig) -> bool:
    return config.momentum > 0


def _has_weight_decay(config: RMSPropConfig) -> bool:
    return config.weight_decay > 0


def _edge_only(config: RMSPropConfig) -> Fidelity:
    """Return `exact` for epsilon > 0: in exact arithmetic v >= a*a, so only rounding or a non-finite value tells."""
    return Fidelity.EXACT if config.epsilon > 0 else Fidelity.APPROXIMATE


AXES: tuple[Axis, ...] = (
    Axis("learning_rate", "every step has another length"),
    Axis("rho", "the mean square forgets at another pace"),
    Axis("epsilon", "small gradients are scaled differently"),
    Axis(
        "epsilon_placement",
        "where gradients are not large against epsilon, steps differ by up to 1/sqrt(epsilon)",
        matters=lambda config: config.epsilon > 0,
    ),
    Axis("momentum", "steps accumulate differently"),
    Axis("nesterov", "every step looks ahead, or does not", matters=_has_momentum),
    Axis(
        "lr_in_momentum",
        "after a change of the learning rate, steps already in the buffer keep the old rate, or do not",
        remedy='keep the learning rate constant, or use unirms.build(…, policy="exact")',
        fidelity=lambda config: Fidelity.CONSTANT_LR,
        matters=_has_momentum,
    ),
    # With rho = 1 the mean gradient stays 0, and with it the correction.
    Axis("centered", "the denominator is another quantity", matters=lambda config: config.rho < 1),
    Axis(
        "negative_variance",
        "when rounding or a non-finite gradient leaves a centered denominator that is not > 0",
        remedy='set negative_variance to what the class does, or use unirms.build(…, policy="exact")',
        fidelity=_edge_only,
        matters=lambda config: config.centered,
    ),
    Axis(
        "initial_mean_square",
        "the first steps are longer or shorter, by up to sqrt(1 / (1 - rho))",
        remedy="fill in the mean square before the first step, as unirms.build does",
        fidelity=lambda config: Fidelity.SEEDED,
        matters=lambda config: config.rho > 0,
    ),
    Axis("bias_correction", "the first steps have another length", matters=lambda config: config.rho > 0),
    Axis("weight_decay", "weights shrink at another pace"),
    Axis(
        "weight_decay_mode",
        "decay passes through the mean square and the momentum, or does not",
        matters=_has_weight_decay,
    ),
    Axis("no_weight_decay", "other parameters are decayed", matters=_has_weight_decay),
    Axis("clip", "large gradients are limited differently"),
    Axis("loss_scale", "gradients have another scale", remedy="divide the gradients by the loss scale yourself"),
    Axis("maximize", "it moves the other way", remedy="negate the loss"),
    Axis("groups", "parameters are grouped differently"),
)


def differences(wanted: RMSPropConfig, actual: RMSPropConfig) -> tuple[Difference, ...]:
    """Return the axes on which `actual` computes other numbers than `wanted`; empty when they are equivalent."""
    return tuple(
        Difference(
            axis.field,
            getattr(wanted, axis.field),
            getattr(actual, axis.field),
            axis.fidelity(wanted),
            axis.consequence,
            axis.remedy,
        )
        for axis in AXES
        if getattr(wanted, axis.field) != getattr(actual, axis.field) and axis.matters(wanted)
    )


def verdict(found: tuple[Difference, ...]) -> Fidelity:
    """Return the weakest fidelity of all differences."""
    return max((difference.fidelity for difference in found), default=Fidelity.EXACT)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
