"""U3: configs whose numbers go wrong although every class computes them as it should."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final

from unirms.config import RMSPropConfig
from unirms.errors import ConfigError


@dataclass(frozen=True)
class Precision:
    """A floating-point dtype: `digits` binary digits, and 2**`smallest`, its smallest positive number."""

    name: str
    digits: int
    smallest: int

    @property
    def unit(self) -> float:
        """Half a unit in the last place of 1: the largest relative error of one rounding."""
        return 2.0**-self.digits

    def vanishes(self, value: float) -> bool:
        """Return whether a positive number is 0 in this dtype, rounded to nearest, ties to even."""
        return 0 < value <= 2.0 ** (self.smallest - 1)


DTYPES: Final = {
    "float16": Precision("float16", 11, -24),
    "bfloat16": Precision("bfloat16", 8, -133),
    "float32": Precision("float32", 24, -149),
    "float64": Precision("float64", 53, -1074),
}
CENTERED_ROUNDING: Final = 2.2
"""How far rounding takes v - a*a below 0 while a gradient g stays the same, in units of g*g * u / (1 - rho), u being
half a unit in the last place. The largest of 512 random mantissas in the NumPy reference, in 60 / (1 - rho) steps, at
rho = 0.5 … 0.995: 2.01 in float32, 2.08 in float16, 1.45 in bfloat16, 1.59 in float64 (0.999 in float32: 2.12)."""


@dataclass(frozen=True)
class Hazard:
    """One hazard.

    Attributes:
        code: its code.
        fields: the config fields on which it depends; it is reported at the first.
        look: config, dtype -> what comes of it and the fix, or None.
    """

    code: str
    fields: tuple[str, ...]
    look: Callable[[RMSPropConfig, Precision], tuple[str, str] | None]


def precision(dtype: str | None) -> Precision:
    """Return a dtype by its name; None is float32, in which most weights are.

    Raises:
        ConfigError: a dtype that no framework computes RMSProp in.
    """
    name = "float32" if dtype is None else str(dtype)
    if name not in DTYPES:
        raise ConfigError([f"{dtype!r} is not a dtype of weights; it is one of {', '.join(DTYPES)}"])
    return DTYPES[name]


Seen = tuple[Hazard, str, str]
"""A hazard, what comes of it, and the fix."""


def hazards(config: RMSPropConfig, dtype: Precision) -> Iterator[Seen]:
    """Yield every hazard of a config with what comes of it and the fix."""
    for hazard in HAZARDS:
        seen = hazard.look(config, dtype)
        if seen is not None:
            yield hazard, *seen


def of_group(
    config: RMSPropConfig, dtype: Precision, all_have: Collection[Seen], own: Collection[str]
) -> Iterator[Seen]:
    """Yield the hazards of a group that it has by fields of its `own`, and that not `all_have` in the same words."""
    told = {(hazard.code, message) for hazard, message, _ in all_have}
    for hazard, message, fix in hazards(config, dtype):
        if (hazard.code, message) not in told and not set(own).isdisjoint(hazard.fields):
            yield hazard, message, fix


def _skips(config: RMSPropConfig) -> bool:
    """Return whether elements without a usable denominator are left as they are."""
    return config.centered and config.negative_variance == "skip"


def _divides_by_zero(config: RMSPropConfig, dtype: Precision) -> str:
    """Return when a gradient of 0 meets a denominator of 0 once epsilon is 0, or "" if it never does."""
    first, rho = config.initial_mean_square, config.rho
    if _skips(config) or (rho == 1 and first > 0 and not config.bias_correction):
        return ""
    if first == 0:
        return "a gradient of 0 gives NaN at the first step"
    # first * rho**t, until it rounds to 0.
    steps = 1 if rho == 0 else math.ceil(((dtype.smallest - 1) * math.log(2) - math.log(first)) / math.log(rho))
    return f"a gradient that stays 0 gives NaN after about {max(steps, 1)} steps"


def _vanishing_epsilon(config: RMSPropConfig, dtype: Precision) -> tuple[str, str] | None:
    when = _divides_by_zero(config, dtype)
    if not dtype.vanishes(config.epsilon) or not when:
        return None
    least = 2.0**dtype.smallest
    return f"epsilon={config.epsilon:g} is 0 in {dtype.name}: {when}", f"raise epsilon to {least:.2g} or more"


def _zero_epsilon(config: RMSPropConfig, dtype: Precision) -> tuple[str, str] | None:
    when = _divides_by_zero(config, dtype)
    return (f"epsilon=0: {when}", "write a positive epsilon") if config.epsilon == 0 and when else None


def _rounded_variance(config: RMSPropConfig, dtype: Precision) -> tuple[str, str] | None:
    if not config.centered or config.negative_variance != "propagate" or not 0 < config.rho < 1:
        return None
    excess = CENTERED_ROUNDING * dtype.unit / (1 - config.rho)
    if config.epsilon_placement == "outside_sqrt":
        message = (
            f"centered with epsilon outside the root: while a gradient stays the same, rounding in {dtype.name} makes "
            "v - a*a negative, and the weight NaN"
        )
        return message, 'use unirms.build with negative_variance="clamp"'
    if config.epsilon >= excess:  # safe for gradients up to 1
        return None
    limit = math.sqrt(config.epsilon / excess)
    message = (
        f"centered with epsilon={config.epsilon:g}: while a gradient larger than {limit:.1g} stays the same, rounding "
        f"in {dtype.name} can make v - a*a + epsilon negative, and the weight NaN"
    )
    return message, f'raise epsilon to {excess:.1e} (for gradients up to 1), or use negative_variance="clamp"'


def _endless_momentum(config: RMSPropConfig, dtype: Precision) -> tuple[str, str] | None:
    if config.momentum < 1:
        return None
    does = "never forgets a step" if config.momentum == 1 else "grows by itself"
    return f"momentum={config.momentum:g}: the buffer {does}, and the weights run away", "write a momentum below 1"


def _fixed_mean_square(config: RMSPropConfig, dtype: Precision) -> tuple[str, str] | None:
    if config.rho < 1:
        return None
    first = f"the mean square stays at {config.initial_mean_square:g}"
    by = "epsilon alone" if config.initial_mean_square == 0 else "a constant"
    return f"rho=1: {first}, and every gradient is divided by {by}", "write a rho below 1"


def _no_variance(config: RMSPropConfig, dtype: Precision) -> tuple[str, str] | None:
    if not config.centered or config.rho > 0:
        return None
    return (
        "centered with rho=0: the variance is 0, and every gradient is divided by epsilon alone",
        "write a rho above 0",
    )


HAZARDS: Final = (
    Hazard("U301", ("epsilon", "rho", "centered"), _vanishing_epsilon),
    Hazard("U302", ("epsilon", "rho", "centered"), _zero_epsilon),
    Hazard("U303", ("centered", "epsilon", "rho"), _rounded_variance),
    Hazard("U304", ("momentum",), _endless_momentum),
    Hazard("U305", ("rho",), _fixed_mean_square),
    Hazard("U306", ("centered", "rho"), _no_variance),
)
