"""Whether an optimizer clips its gradients, and how.

Clipping is invisible in a normalised step, so two runs over one element are compared: one sees the largest gradient at
every step, the other a smaller one at every second step. They move alike as long as both gradients are clipped to the
same limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Final

import numpy as np

from unirms.clipping import Clip, ClipByGlobalNorm, ClipByNorm, ClipByValue
from unirms.config import RMSPropConfig
from unirms.fingerprinting.fitting import Fit, judged, shortest
from unirms.fingerprinting.probes import LARGEST, SMALLEST, Array, Probe, Runner

LOWEST: Final = -3
"""Exponent of the smallest limit that is found: clips below 1e-3 are not in use."""
KINDS: Final[tuple[Callable[[float], Clip], ...]] = (
    lambda limit: ClipByValue(limit=limit),
    lambda limit: ClipByNorm(max_norm=limit),
    lambda limit: ClipByGlobalNorm(max_norm=limit),
)
TENSORS: Final = (3, 2, 1, 33)
MARGIN: Final = 4.0
"""The joint norm of the main probes is under four times their largest gradient: few of them are of that size."""
ALIKE: Final = 1e-4
"""Part of the longest step by which steps may part whose gradients are clipped to one limit: g * (limit / |g|) rounds,
so that it is not the same for each g. Gradients of half the limit part them by some tenths."""
CALM: Final = 15.0
"""The joint norm of a storm's 39 small gradients, up to 2 each, is under 15."""


def smallest_limit(run: Runner) -> float | None:
    """Return a power of ten, and gradients of a norm up to it are not clipped; None if none up to 1e6 are."""
    largest = 10.0**LARGEST
    tried = [10.0**exponent for exponent in range(LARGEST - 1, LOWEST - 1, -1)]
    # A first gradient of next to nothing, because centered and corrected a first step divides by epsilon alone; and
    # signs in turn, because under equal gradients a centered variance cancels to rounding errors.
    first = 10.0**SMALLEST
    always = _alone([first, *([largest, -largest] * len(tried))]).ask(run).steps[:, 0]
    seldom = _alone([first, *(g for smaller in tried for g in (largest, -smaller))]).ask(run).steps[:, 0]
    for index, smaller in enumerate(tried):
        step = 2 * index + 2
        if not np.isfinite(always[step]) or not always[step]:  # its state has overflowed: it takes no more steps
            return None
        if np.abs(always[step] - seldom[step]) > ALIKE * np.max(np.abs(always[: step + 1])):
            return None if index == 0 else smaller
    return tried[-1]


def _alone(gradients: list[float]) -> Probe:
    """Return a probe of one element."""
    return Probe("one element", np.zeros(1), np.array(gradients, np.float32)[:, None], {"p0": np.zeros(1, int)})


def storm(limit: float) -> Probe:
    """Return tensors that see large gradients in turn, so that clips by value, norm and global norm differ.

    `limit` is the size up to which nothing is clipped.
    """
    rng = np.random.default_rng(5)
    count = sum(TENSORS)
    bounds = np.cumsum([0, *TENSORS])
    gradients = rng.uniform(0.5, 2.0, (13 + len(TENSORS), count)) * limit / CALM
    for step in range(3, 12):
        tensor = step % len(TENSORS)
        gradients[step, bounds[tensor] : bounds[tensor] + 1] *= 10.0 ** rng.uniform(2, 5)
    # A second limit may lie above the first: whole tensors, and at last all of them, are large.
    for step, (start, end) in enumerate([*pairwise(bounds), (0, count)], start=12):
        gradients[step, start:end] *= 1e4
    places = {f"p{i}": np.arange(bounds[i], bounds[i + 1]) for i in range(len(TENSORS))}
    return Probe("large gradients among small ones", np.zeros(count), gradients.astype(np.float32), places)


def clip_of(config: RMSPropConfig, run: Runner, limit: float) -> Fit:
    """Return the config with the clip that explains a storm best; `fit.wrong` says how well."""
    observation = storm(limit).ask(run)

    def badness(kind: Callable[[float], Clip], size: float) -> float:
        return judged(config.replace(clip=(kind(size),)), [observation]).size

    fits = []
    for kind in KINDS:
        value = _lowest(partial(badness, kind), limit)
        exact, decimal = (
            judged(config.replace(clip=(kind(size),)), [observation]) for size in (value, shortest(value, 1e-5 * value))
        )
        fits.append(decimal if decimal.wrong <= exact.wrong else exact)
    return min(fits, key=lambda found: found.order)


def _lowest(badness: Callable[[float], float], limit: float) -> float:
    """Return the size at which `badness` is least: on a grid of one decade, then finer and finer."""
    centre, width = limit * np.sqrt(10.0), np.log(10.0) / 2 * 1.2
    for _ in range(9):
        tries = list(_around(float(centre), width))
        centre = min(tries, key=badness)
        width /= 5
    return float(centre)


def _around(centre: float, width: float) -> Iterator[float]:
    grid: Array = centre * np.exp(np.linspace(-width, width, 17))
    yield from (float(size) for size in grid)
