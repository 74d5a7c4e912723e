"""The epsilon with which a class comes closest to a config whose epsilon it has elsewhere, or refuses.

Torchvision's recipes for MobileNetV3 are the known case: they replace TensorFlow 1's 0.001 inside the root by
0.0316 = sqrt(0.001) outside it, which is right for gradients that are small against it, and for no others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from unirms import dialects
from unirms.config import RMSPropConfig
from unirms.dialects.base import SMALLEST
from unirms.effects.gradients import Stream
from unirms.effects.movement import PARAMETER, gap, run, start
from unirms.errors import ConfigError
from unirms.state import OptimizerState

if TYPE_CHECKING:
    from unirms.translation import Native

COARSE: Final = 1.0
"""Decades between two candidates of the first round."""
BEYOND: Final = 3
"""Candidates beyond the expected range: other differences, as of the loss scale, can want an epsilon there."""
REFINEMENTS: Final = 18
"""Golden sections of two decades in the second round: down to 0.0004 decades, 0.1 % of the epsilon."""
LIMIT: Final = math.log10(1 / SMALLEST)
"""Decades of an epsilon above and below 1 at most: beyond float32's normal numbers it is none for many classes."""


@dataclass(frozen=True)
class Substitute:
    """The epsilon with which the target comes closest on one stream, after the remedy, and what difference remains."""

    scale: float | None
    epsilon: float
    difference: float


def substitute(native: Native, actual: RMSPropConfig, stream: Stream, *, halves: bool) -> Substitute:
    """Return the epsilon argument with which the target comes closest.

    Args:
        native: a translation into a class that has an argument for epsilon.
        actual: what the target computes for the stream's tensor, its state filled in where that is a remedy.
        stream: the gradients.
        halves: whether the learning rate is halved half-way.
    """
    dialect, wanted = dialects.get(native.dialect), native.wanted.for_parameter(PARAMETER)
    name, begin = dialect.name_of("epsilon"), start(wanted, actual, stream)
    *_, (end, state) = run(wanted, stream, begin, halves=halves)

    def remains(epsilon: float) -> float:
        try:
            computed = dialect.read({**native.kwargs, name: epsilon}).epsilon
        except ConfigError:  # the class refuses it
            return math.inf
        *_, (other, _) = run(actual.replace(epsilon=computed), stream, begin, halves=halves)
        return gap(end, other, begin, len(stream.gradients))[0]

    present = native.kwargs[name]
    *_, (_, reached) = run(actual, stream, begin, halves=halves)
    epsilon, difference = least(remains, present, *_decades(wanted, actual, state, reached))
    return Substitute(stream.scale, epsilon, difference)


def least(remains: Callable[[float], float], present: float, low: float, high: float) -> tuple[float, float]:
    """Return the epsilon with the least `remains`, and that; the present epsilon where none is better.

    Args:
        remains: what is minimised.
        present: the epsilon to beat.
        low: the range of log10(epsilon) that is searched step by step, and on from an end that is the best …
        high: … before the neighbourhood of the best is searched by golden sections.
    """
    tried = {present: remains(present)}

    def at(decade: float) -> float:
        epsilon = 10.0**decade
        if epsilon not in tried:
            tried[epsilon] = remains(epsilon)
        return tried[epsilon]

    grid = [float(decade) for decade in np.arange(low, high + COARSE, COARSE)]
    centre = min(grid, key=at)
    for end, step in ((grid[0], -COARSE), (grid[-1], COARSE)):
        if centre == end:
            while abs(centre + step) <= LIMIT and at(centre + step) < at(centre):
                centre += step
    left, right, golden = centre - COARSE, centre + COARSE, (math.sqrt(5) - 1) / 2
    for _ in range(REFINEMENTS):
        inner, outer = right - golden * (right - left), left + golden * (right - left)
        left, right = (left, outer) if at(inner) <= at(outer) else (inner, right)
    return min(tried.items(), key=lambda pair: pair[1])


def _decades(
    wanted: RMSPropConfig, actual: RMSPropConfig, state: OptimizerState, reached: OptimizerState
) -> tuple[float, float]:
    """Return the range of log10(epsilon) to search; `state` is where `wanted` ends, `reached` where `actual` does.

    It holds every epsilon that gives some element the denominator that was asked for, with the first or the last d
    under its root: sqrt(d + epsilon) - sqrt(d) outside the root, and epsilon**2 + 2 * epsilon * sqrt(d) inside it. It
    goes on to where epsilon outweighs all that the class has under its root.
    """
    square, epsilon = state.mean_square[PARAMETER], wanted.epsilon
    mean = state.mean_gradient.get(PARAMETER, np.zeros_like(square))
    outside = actual.epsilon_placement == "outside_sqrt"
    with np.errstate(all="ignore"):
        seen = np.concatenate([[wanted.initial_mean_square], square, np.maximum(square - mean * mean, 0)])
        root = np.sqrt(seen[np.isfinite(seen)])
        if epsilon == 0 or wanted.epsilon_placement == actual.epsilon_placement:
            equal = np.array([epsilon])
        elif outside:
            equal = epsilon / (np.sqrt(root * root + epsilon) + root)
        else:
            equal = epsilon * epsilon + 2 * epsilon * root
        own = reached.mean_square[PARAMETER]
        largest = np.max(own[np.isfinite(own)], initial=0.0)
        ends = np.append(equal, np.sqrt(largest) if outside else largest)
    low, high = (float(np.log10(np.clip(end, SMALLEST, 1 / SMALLEST))) for end in (equal.min(), ends.max()))
    return max(low - COARSE, -LIMIT), min(high + BEYOND * COARSE, LIMIT)
