"""How far two configs move apart on one stream of gradients.

The measure is the relative difference of the movement: the distance between where both end, relative to the longer of
their two ways from the start (Euclidean norms over the tensor, float64). It is 0 where both stay, 2 where they go the
same way in opposite directions, and infinite where one alone becomes NaN or infinite; elements that become so in both
are left out and counted. A distance that the rounding of the weights can make counts as none.

The tensor is called "weight", the name that groups and `no_weight_decay` see. Its elements start at standard normal
values, or, where no weight decay acts and the movement does not depend on them, at 0: no digit of a small movement is
lost there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np

from unirms import reference
from unirms.config import RMSPropConfig
from unirms.effects.gradients import SEED, Stream
from unirms.schedules import AnySchedule
from unirms.state import Array, OptimizerState

PARAMETER: Final = "weight"


def gaps(
    wanted: RMSPropConfig, actual: RMSPropConfig, stream: Stream, *, halves: bool = True
) -> Iterator[tuple[float, int]]:
    """Yield after every step the relative difference of the movement, and the number of lost elements."""
    begin = start(wanted, actual, stream)
    both = zip(run(wanted, stream, begin, halves=halves), run(actual, stream, begin, halves=halves), strict=True)
    for steps, ((one, _), (other, _)) in enumerate(both, start=1):
        yield gap(one, other, begin, steps)


def run(config: RMSPropConfig, stream: Stream, begin: Array, *, halves: bool) -> Iterator[tuple[Array, OptimizerState]]:
    """Yield the weights and the state after every step; with `halves`, the second half has half the learning rate."""
    params = {PARAMETER: begin}
    state = reference.init(config, params)
    later = config.replace(learning_rate=_halved(config)) if halves else config
    for index, gradient in enumerate(stream.gradients):
        now = config if index < half(stream) else later
        with np.errstate(over="ignore"):  # a long double may be too large
            grads = {PARAMETER: gradient.astype(np.float64)}
        params, state = reference.step(now, params, grads, state)
        yield params[PARAMETER], state


def _halved(config: RMSPropConfig) -> AnySchedule | float:
    rate = config.learning_rate
    return rate / 2 if isinstance(rate, float) else rate.scaled(0.5)


def half(stream: Stream) -> int:
    """Return the number of steps at the full rate: of a single step, that one."""
    return (len(stream.gradients) + 1) // 2


def start(wanted: RMSPropConfig, actual: RMSPropConfig, stream: Stream) -> Array:
    """Return the weights before the first step, shape (elements,)."""
    elements = stream.gradients.shape[1]
    if wanted.weight_decay == 0 and actual.weight_decay == 0:
        return np.zeros(elements)
    drawn: Array = np.random.RandomState(SEED + 1).standard_normal(elements)
    return drawn


def gap(one: Array, other: Array, begin: Array, steps: int) -> tuple[float, int]:
    """Return the relative difference of the movement from `begin`, and the number of elements lost in both."""
    finite, finite_too = np.isfinite(one), np.isfinite(other)
    lost = int(np.sum(~finite & ~finite_too))
    if np.any(finite != finite_too):
        return math.inf, lost
    one, other, begin = one[finite], other[finite], begin[finite]
    largest = max(np.max(np.abs(weights), initial=0.0) for weights in (one, other, begin))
    if largest == 0:
        return 0.0, lost
    one, other, begin = one / largest, other / largest, begin / largest  # so that no square overflows or vanishes
    distance = np.linalg.norm(one - other)
    # Each step rounds a weight at most twice (decay, movement), by half a unit in the last place, in both runs.
    rounding = 2 * steps * np.finfo(np.float64).eps * np.linalg.norm(np.maximum(np.abs(one), np.abs(other)))
    if distance <= rounding:
        return 0.0, lost
    return float(distance / max(np.linalg.norm(one - begin), np.linalg.norm(other - begin))), lost
