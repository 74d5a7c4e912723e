"""When two configs mean the same numbers, and how far apart they are where they do not.

The verdict follows from the update rule, not from a table of pairs of frameworks: an axis counts only where it can
change a number (epsilon = 0 makes both placements equal; without momentum there is no buffer to put the rate into).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from unirms.clipping import ClipByValue
from unirms.config import ParameterGroup, RMSPropConfig
from unirms.consequences import Consequence, decay_mode, first_steps, lost_or_added, of_actual, unusable_denominator
from unirms.names import EVERY
from unirms.registry import FRAMEWORKS
from unirms.schedules import AnySchedule, Constant
from unirms.schedules.forms import canonical
from unirms.simplest import simplest
from unirms.simplest.clips import measured_over
from unirms.simplest.parts import is_still


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


BUILD_EXACT: Final = 'use unirms.build(…, policy="exact")'
"""The remedy for every difference, in a framework that unirms has an adapter for."""
BUILD_ELSEWHERE: Final = f"unirms.build computes it in {', '.join(FRAMEWORKS)}"
"""What is left for the classes that unirms has no adapter for."""


@dataclass(frozen=True)
class Difference:
    """One axis on which an optimizer parts from the config.

    A difference whose fidelity is `exact` concerns edge cases alone: the numbers agree until a value that should be
    positive is rounded to zero or below, or is not finite, or until a gradient comes as the rows of a sparse tensor.
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
    consequence: str | Consequence
    remedy: str | Consequence = BUILD_EXACT
    fidelity: Callable[[RMSPropConfig], Fidelity] = lambda config: Fidelity.APPROXIMATE
    matters: Callable[[RMSPropConfig], bool] = lambda config: True
    either_side: bool = False

    def difference(self, wanted: Any, actual: Any, fidelity: Fidelity) -> Difference:
        """Return the difference between two values of the field."""
        consequence, remedy = (
            told if isinstance(told, str) else told(wanted, actual) for told in (self.consequence, self.remedy)
        )
        return Difference(self.field, wanted, actual, fidelity, consequence, remedy)


def _has_momentum(config: RMSPropConfig) -> bool:
    return config.momentum > 0


def _has_weight_decay(config: RMSPropConfig) -> bool:
    return config.weight_decay > 0


def _mixes_in_weights(config: RMSPropConfig) -> bool:
    """Return whether the decay is added to the gradient."""
    return config.weight_decay > 0 and config.weight_decay_mode != "decoupled"


def _sees_sizes(config: RMSPropConfig) -> bool:
    """Return whether a gradient's size matters at all: with rho = 0 and epsilon = 0 the update is g / |g|."""
    return config.rho > 0 or config.epsilon > 0 or config.centered


def _is_clipped(config: RMSPropConfig) -> bool:
    """Return whether the clips change an update, and not only the sizes of gradients whose signs alone count.

    Beside an L1 decay, whose sign counts where it is larger, they change none if every limit is larger, too.
    """
    if not config.clip or _sees_sizes(config):
        return bool(config.clip)
    above = all(isinstance(clip, ClipByValue) and clip.limit > config.weight_decay for clip in config.clip)
    return _mixes_in_weights(config) and not (config.weight_decay_mode == "l1" and above)


def _has_a_scale(config: RMSPropConfig) -> bool:
    """Return whether the size of all gradients matters: g / sqrt(v) alone is the same for g and for 8 g."""
    starts_elsewhere = config.initial_mean_square > 0 and config.rho > 0
    return config.epsilon > 0 or starts_elsewhere or _mixes_in_weights(config) or _is_clipped(config)


def _edge_only(config: RMSPropConfig) -> Fidelity:
    """Return `exact` for epsilon > 0: in exact arithmetic v >= a*a, so only rounding or a non-finite value tells.

    With bias correction v = a*a in the first step, which rounds to below 0 as often as not, and outside the root no
    epsilon is added to that.
    """
    first_step = config.bias_correction and config.epsilon_placement == "outside_sqrt"
    return Fidelity.EXACT if config.epsilon > 0 and not first_step else Fidelity.APPROXIMATE


AXES: tuple[Axis, ...] = (
    Axis("learning_rate", "steps have another length", remedy="change the rate by a scheduler of the framework"),
    Axis("rho", "the mean square forgets at another pace"),
    Axis("epsilon", "small gradients are scaled differently"),
    Axis(
        "epsilon_placement",
        "where gradients are not large against sqrt(epsilon), steps differ by a factor of up to 1/sqrt(epsilon)",
        matters=lambda config: config.epsilon > 0,
    ),
    Axis(
        "momentum",
        lost_or_added(
            0, lost="steps do not accumulate", added="steps accumulate", changed="steps accumulate at another pace"
        ),
    ),
    Axis(
        "nesterov",
        of_actual({True: "every step looks ahead", False: "no step looks ahead"}),
        matters=_has_momentum,
    ),
    Axis(
        "lr_in_momentum",
        of_actual(
            {
                True: "after a change of the learning rate, steps already in the buffer keep the old rate",
                False: "after a change of the learning rate, steps already in the buffer take the new rate",
            }
        ),
        remedy=f"keep the learning rate constant, or {BUILD_EXACT}",
        fidelity=lambda config: Fidelity.CONSTANT_LR if config.has_constant_rate else Fidelity.APPROXIMATE,
        matters=_has_momentum,
    ),
    # With rho = 1 the mean gradient stays 0, and with it the correction.
    Axis("centered", "the denominator is another quantity", matters=lambda config: config.rho < 1),
    Axis(
        "negative_variance",
        unusable_denominator,
        remedy=f"set negative_variance to what the class does, or {BUILD_EXACT}",
        fidelity=_edge_only,
        matters=lambda config: config.centered,
        either_side=True,  # with rho = 1 one side can be centered without a difference, but for its guard
    ),
    Axis(
        "initial_mean_square",
        first_steps,
        remedy="fill in the mean square before the first step, as unirms.build does",
        fidelity=lambda config: Fidelity.SEEDED,
        matters=lambda config: config.rho > 0,
    ),
    Axis("bias_correction", "the first steps have another length", matters=lambda config: config.rho > 0),
    Axis(
        "weight_decay",
        lost_or_added(
            0, lost="weights are not decayed", added="weights are decayed", changed="weights shrink at another pace"
        ),
    ),
    Axis("weight_decay_mode", decay_mode, matters=_has_weight_decay),
    Axis("no_weight_decay", "other parameters are decayed", matters=_has_weight_decay),
    Axis(
        "clip",
        lost_or_added(
            (),
            lost="large gradients are not limited",
            added="large gradients are limited",
            changed="large gradients are limited differently",
        ),
        matters=_is_clipped,
        either_side=True,  # one side has none
    ),
    Axis(
        "gradient_centralization",
        lost_or_added(
            "none",
            lost="gradients of matrices keep their mean",
            added="gradients of matrices lose their mean",
            changed="gradients of matrices lose their mean over other axes",
        ),
        remedy=f"take the mean off the gradients yourself, or {BUILD_EXACT}",
    ),
    Axis(
        "loss_scale",
        "gradients have another scale",
        remedy="divide the gradients by the loss scale yourself",
        matters=_has_a_scale,
    ),
    Axis(
        "gradient_accumulation_steps",
        "an update takes another number of gradients",
        remedy=f"take the mean of the gradients yourself, and step once, or {BUILD_EXACT}",
    ),
    Axis(
        "non_finite",
        of_actual(
            {
                "propagate": "a gradient with an infinity or NaN spoils the weights and the state",
                "skip": "a gradient with an infinity or NaN is left out",
                "raise": "a gradient with an infinity or NaN is an error",
            }
        ),
        remedy=f"look at the gradients yourself before each step, or {BUILD_EXACT}",
        fidelity=lambda config: Fidelity.EXACT,
    ),
    Axis(
        "sparse",
        of_actual(
            {
                "lazy": "gradients that come as rows let the other rows of the weights and the state rest",
                "dense": "gradients that come as rows decay and move the other rows, too",
            }
        ),
        remedy=of_actual({"lazy": f"turn sparse gradients into dense ones, or {BUILD_EXACT}", "dense": BUILD_EXACT}),
        fidelity=lambda config: Fidelity.EXACT,
    ),
    Axis("maximize", "it moves the other way", remedy="negate the loss"),
    Axis(
        "ema_decay",
        lost_or_added(
            0,
            lost="there is no running mean of the weights",
            added="there is a running mean of the weights",
            changed="the running mean of the weights is another",
        ),
        remedy=f"average the weights yourself, or {BUILD_EXACT}",
    ),
    Axis("ema_start", "the running mean of the weights begins elsewhere", matters=lambda config: config.ema_decay > 0),
    Axis("groups", "parameters are grouped differently"),
)


def differences(wanted: RMSPropConfig, actual: RMSPropConfig) -> tuple[Difference, ...]:
    """Return the axes on which `actual` computes other numbers than `wanted`; empty when they are equivalent."""
    if wanted == actual:
        return ()
    given = wanted, actual
    rates = wanted.has_constant_rate and actual.has_constant_rate
    exempting = bool(wanted.no_weight_decay or actual.no_weight_decay)
    wanted, actual = (simplest(config, exempting=exempting, rates=rates) for config in given)
    # What still differs after the remedy of another axis counts: a mean square that is filled in is the wanted one.
    remedied = actual.replace(initial_mean_square=wanted.initial_mean_square)
    fields = {
        axis.field
        for axis in AXES
        if _value(wanted, axis.field) != _value(actual, axis.field) and _matters(axis, wanted, remedied)
    }
    fields = _where_given(fields, *given)
    return tuple(
        axis.difference(
            _as_given(given[0], wanted, axis.field), _as_given(given[1], actual, axis.field), axis.fidelity(wanted)
        )
        for axis in AXES
        if axis.field in fields
    )


def _where_given(fields: set[str], wanted: RMSPropConfig, actual: RMSPropConfig) -> set[str]:
    """Return the fields with those of single parameters where their difference was given: they can be said in two."""
    alike = {name for name in ("groups", "no_weight_decay") if getattr(wanted, name) == getattr(actual, name)}
    if alike == {"no_weight_decay"} and alike <= fields:
        return fields - alike | {"groups"}
    return fields - alike or fields


def _value(config: RMSPropConfig, field: str) -> Any:
    """Return the value of a field; schedules that are the same function are one, and one that stays is its rate."""
    if field == "clip" and all(group.clip is not None for group in config.groups):  # all others are one group
        return measured_over(config.clip, "all")
    if field == "groups":
        return [
            g if g.clip is None else g.model_copy(update={"clip": measured_over(g.clip, "all")}) for g in config.groups
        ]
    if field == "no_weight_decay":
        return set(config.no_weight_decay)
    if field == "learning_rate" and isinstance(config.learning_rate, AnySchedule):
        found = canonical(config.learning_rate)
        return found.learning_rate if isinstance(found, Constant) else found
    return getattr(config, field)


def _as_given(given: RMSPropConfig, simple: RMSPropConfig, field: str) -> Any:
    """Return the value of a field as it was given, or that of the simplest config where it came from a group."""
    kept = field == "groups" or _value(given, field) == _value(simple, field)
    return getattr(given if kept else simple, field)


def _matters(axis: Axis, wanted: RMSPropConfig, actual: RMSPropConfig) -> bool:
    """Return whether an axis acts on both sides (or on either, if the axis says so), for any parameter.

    Where it acts on one side alone, the reason is another axis, which is reported itself: decay that only one side has
    is no difference of its mode.
    """
    sides = (any(axis.matters(config) for config in _heirs(side, axis.field)) for side in (wanted, actual))
    return any(sides) if axis.either_side else all(sides)


def kinds(config: RMSPropConfig) -> list[RMSPropConfig]:
    """Return what holds for the parameters of no group, and for those of each group."""
    return [config, *(config.for_group(group) for group in config.groups)]


def _heirs(config: RMSPropConfig, field: str) -> list[RMSPropConfig]:
    """Return of these kinds those that move, and have the value of a field from the config itself."""
    rest = [] if any(EVERY in group.match for group in config.groups) else [config]
    moving = (group for group in config.groups if not is_still(group))
    return [*rest, *(config.for_group(group) for group in moving if not _has_own(group, field))]


def _has_own(group: ParameterGroup, field: str) -> bool:
    # A group's own decay is for all of its parameters, also for those that the config exempts.
    return getattr(group, "weight_decay" if field == "no_weight_decay" else field, None) is not None


def verdict(found: tuple[Difference, ...]) -> Fidelity:
    """Return the weakest fidelity of all differences."""
    return max((difference.fidelity for difference in found), default=Fidelity.EXACT)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
