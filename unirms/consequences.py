"""What follows where an optimizer has another value for an axis than was wanted, told from the two values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Consequence = Callable[[Any, Any], str]
"""From the wanted and the actual value to the end of a sentence."""


def of_actual(texts: Mapping[Any, str]) -> Consequence:
    """Return a consequence that follows from the actual value alone."""
    return lambda wanted, actual: texts[actual]


def lost_or_added(nothing: Any, *, lost: str, added: str, changed: str) -> Consequence:
    """Return a consequence for something that only one side has, or both in different ways; `nothing` is neither."""

    def consequence(wanted: Any, actual: Any) -> str:
        return lost if actual == nothing else added if wanted == nothing else changed

    return consequence


def first_steps(wanted: float, actual: float) -> str:
    """Return what another first mean square does: the larger it is, the shorter are the first steps."""
    length = "shorter" if actual > wanted else "longer"
    return f"the first steps are {length}, until the first mean square is forgotten after some 1/(1 - rho) steps"


def decay_mode(wanted: str, actual: str) -> str:
    """Return what the other way to decay weights does."""
    if wanted == "decoupled":
        return "decay passes through the mean square and the momentum"
    if actual == "decoupled":
        return "decay does not pass through the mean square and the momentum"
    return f"decay adds {'the sign of the weight' if actual == 'l1' else 'the weight'}"


def unusable_denominator(wanted: str, actual: str) -> str:
    """Return what becomes of elements that cannot be divided."""
    becomes = {
        "propagate": "become NaN or infinite",
        "skip": "stay where they are",
        "clamp": "move as if their variance were 0",
    }
    return f"elements whose centered denominator is not > 0, by rounding or a non-finite gradient, {becomes[actual]}"
