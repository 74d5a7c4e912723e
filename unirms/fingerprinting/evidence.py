"""Sentences that say where an optimizer parts from what is expected of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from unirms.config import RMSPropConfig
from unirms.fingerprinting.expecting import Expectation, expect
from unirms.fingerprinting.probes import Array, Observation, Probe

PAIRS: Final = 50
"""Wrong copies among which one with a right copy in the same tensor is looked for."""
SOON: Final = 2
UNEQUAL: Final = 1e-4
"""Relative difference between equal elements that is no rounding, in the first steps: rounding is some 1e-6 there."""


def disagreement(seen: Observation, expected: Expectation) -> str:
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


def unequal(observations: Sequence[Observation]) -> str:
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


def against(config: RMSPropConfig, observations: Sequence[Observation]) -> str:
    """Return the first movement that speaks against a config, or "" where none does."""
    for seen in observations:
        sentence = disagreement(seen, expect(config, seen.probe))
        if sentence:
            return "against it: " + sentence
    return ""
