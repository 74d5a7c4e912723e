"""What an unknown optimizer is asked: weights and gradients, chosen so that every axis shows.

All elements of a tensor are independent experiments, so that one run tests every scale and pattern at once. Each
experiment is done several times, at other positions of other tensors: the copies must move alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]
Runner = Callable[[Arrays, Sequence[Arrays], "Sequence[float] | None"], "Sequence[Arrays]"]
"""run(initial weights, gradients of each step, learning rate of each step or None) -> weights after each step.

Every call works with a fresh optimizer; weights and gradients are float32, by parameter name. With rates, it raises
`UnsupportedError` where the learning rate of this optimizer cannot be set.
"""

STEPS: Final = 8
LONG: Final = 20
"""Steps of the confirmation: MindSpore's kernels change how they split tensors after 5 and after 15 launches."""
MANY_STEPS: Final = 300
RESTING: Final = 0.1
"""Share of random gradients that are 0."""
SMALLEST: Final = -16
"""Exponent of the smallest gradient: 1e-16 shows any epsilon above 1e-30, and its square is a normal float32."""
LARGEST: Final = 6
"""Exponent of the largest gradient: its square dwarfs any first mean square, and is far from overflow."""
# Both sides of the SIMD widths of 4, 8 and 16 floats, two dimensions, and equal shapes, which state must not share.
SHAPES: Final = ((1,), (1,), (3,), (7,), (8,), (9,), (12,), (4, 3), (12,), (16,), (17,), (33,), (33,), (100,))
MANY: Final = 70_001
"""Elements of the largest tensor: more than the frameworks' kernels give to one thread (32,768 in PyTorch)."""

STILL: Final = "still"
"""Name of the tensor that never gets a gradient."""


@dataclass(frozen=True)
class Probe:
    """Experiments, each one element, and the positions at which they are done.

    Attributes:
        name: what to call it in a sentence.
        weights: the weight of each experiment before the first step, shape (experiments,).
        gradients: its gradients, shape (steps, experiments).
        places: parameter name -> number of the experiment at each position, in the parameter's shape.
        rest: steps with zero gradients before the first of `gradients`.
        rates: the learning rate of each step; None leaves the optimizer its own.
    """

    name: str
    weights: Array
    gradients: Array
    places: Arrays
    rest: int = 0
    rates: tuple[float, ...] | None = None

    def ask(self, run: Runner) -> Observation:
        """Return what an optimizer does."""
        initial = self.spread(self.weights)
        zeros = {name: np.zeros_like(weight) for name, weight in initial.items()}
        gradients = [zeros] * self.rest + [self.spread(gradient) for gradient in self.gradients]
        seen = list(run(initial, gradients, self.rates))[self.rest :]
        copies = [np.concatenate([np.ravel(step[name]) for name in self.places]) for step in seen]
        return Observation(self, np.asarray(copies, dtype=np.float64))

    def spread(self, values: Array) -> dict[str, Array]:
        """Return one value for each experiment as the parameters that hold them, in float32."""
        return {name: np.asarray(values, np.float32)[numbers] for name, numbers in self.places.items()}

    @cached_property
    def numbers(self) -> Array:
        """The number of the experiment at every position of all parameters, in a row."""
        return np.concatenate([np.ravel(numbers) for numbers in self.places.values()])

    def place(self, position: int) -> str:
        """Return how to write a position of the row of all parameters, as `p3[12]`."""
        for name, numbers in self.places.items():
            if position < numbers.size:
                index = ", ".join(str(i) for i in np.unravel_index(position, numbers.shape))
                return f"{name}[{index}]"
            position -= numbers.size
        raise IndexError(position)

    def with_rates(self, rates: Sequence[float]) -> Probe:
        """Return the same probe under learning rates that are set before each step."""
        return replace(self, name="changed learning rates", rates=tuple(rates))


@dataclass(frozen=True)
class Observation:
    """What an optimizer did: the weight of every copy of every experiment after each step, shape (steps, copies)."""

    probe: Probe
    copies: Array

    def without_still(self) -> tuple[Observation, Array]:
        """Return this without the tensor that never gets a gradient, and the weights of that one after each step."""
        probe = self.probe
        places = {name: numbers for name, numbers in probe.places.items() if name != STILL}
        count = probe.weights.size - probe.places[STILL].size
        rest = replace(probe, weights=probe.weights[:count], gradients=probe.gradients[:, :count], places=places)
        size = rest.numbers.size
        return Observation(rest, self.copies[:, :size]), self.copies[:, size:]

    @cached_property
    def weights(self) -> Array:
        """The weight of each experiment after each step, the median of its copies: shape (steps, experiments)."""
        order = np.argsort(self.probe.numbers, kind="stable")
        bounds = np.flatnonzero(np.diff(self.probe.numbers[order])) + 1
        with np.errstate(invalid="ignore"):
            columns = [_middle(self.copies[:, group]) for group in np.split(order, bounds)]
        return np.stack(columns, axis=1)

    @cached_property
    def steps(self) -> Array:
        """How far each experiment moved in each step, shape (steps, experiments)."""
        start = np.asarray(self.probe.weights, np.float32).astype(np.float64)
        with np.errstate(invalid="ignore"):
            return np.diff(np.vstack([start, self.weights]), axis=0)

    @cached_property
    def resolution(self) -> Array:
        """A thousand float32 spacings of the weights around each step: a longer step is known to a thousandth."""
        before = np.vstack([np.asarray(self.probe.weights, np.float64), self.weights[:-1]])
        with np.errstate(invalid="ignore", over="ignore"):
            around = np.maximum(np.abs(before), np.abs(self.weights)).astype(np.float32)
            return np.asarray(1e3 * np.spacing(around).astype(np.float64))


def _middle(copies: Array) -> Array:
    """Return the lower median of the copies, which is one of them."""
    return np.asarray(np.sort(copies, axis=1)[:, (copies.shape[1] - 1) // 2])


def placed(experiments: int) -> dict[str, Array]:
    """Return positions for each experiment: in every tensor of eight or more elements several times."""
    rng = np.random.default_rng(1)
    shapes = (*SHAPES, (4 * experiments + 1,))  # the last one holds every experiment
    places = {}
    for index, shape in enumerate(shapes):
        size = int(np.prod(shape))
        distinct = size if size < 8 else max(size // 4, 1)
        some = rng.permutation(experiments)[:distinct]
        places[f"p{index}"] = rng.permutation(np.resize(some, size)).reshape(shape)
    return places


def once(experiments: int) -> dict[str, Array]:
    """Return one position for each experiment, in one tensor: the least joint norm of the gradients."""
    return {"p0": np.arange(experiments)}


def scales(largest: float, *, per_decade: int = 1) -> Array:
    """Return sizes of gradients, from the smallest to `largest`."""
    top = np.log10(largest)
    return np.asarray(10.0 ** np.arange(SMALLEST, top + 1e-9, 1 / per_decade))


def patterns(largest: float) -> Array:
    """Return the gradients of the main probes, shape (steps, experiments), in float32.

    Random signs and sizes; a pulse followed by zeros, which shows the momentum; constant and alternating gradients,
    which tell a centered mean square from a plain one.
    """
    rng = np.random.default_rng(2)
    fine, coarse = scales(largest, per_decade=2), scales(largest)
    random = signed(rng, (STEPS, fine.size)) * fine
    pulse = np.eye(STEPS, 1) * coarse
    constant = np.ones((STEPS, 1)) * coarse
    alternating = (-1.0) ** np.arange(STEPS)[:, None] * coarse
    return np.concatenate([pulse, random, constant, alternating], axis=1).astype(np.float32)


def signed(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return numbers of either sign and of size 0.5 to 2: no two in a row cancel to rounding errors."""
    values = rng.uniform(-1.5, 1.5, shape)
    return np.asarray(values + np.copysign(0.5, values))


def fresh(largest: float, *, several: bool = True) -> Probe:
    """Return the main probe: gradients of all scales on weights of zero, from the first step on."""
    gradients = patterns(largest)
    count = gradients.shape[1]
    return Probe("first steps", np.zeros(count), gradients, placed(count) if several else once(count))


def rested(main: Probe, rest: int, heavy: float) -> Probe:
    """Return the main probe after `rest` steps without gradients, and a tensor of weights that never get one."""
    still = heavy * np.array([1.1, -1.3, 1.7, -2.3, 4.9, -7.7])
    count = main.weights.size
    return Probe(
        f"after {rest} steps without gradients",
        np.concatenate([main.weights, still]).astype(np.float32),
        np.concatenate([main.gradients, np.zeros((STEPS, still.size), np.float32)], axis=1),
        {**main.places, STILL: np.arange(count, count + still.size)},
        rest=rest,
    )


def weighted(main: Probe, heavy: float, largest: float) -> Probe:
    """Return weights of size `heavy` under no gradients and under gradients of all scales: what shows weight decay.

    The weights are many steps away from zero, where a decay that is normalised like a gradient would let them bounce.
    """
    rng = np.random.default_rng(3)
    sizes = np.concatenate([np.zeros(8), scales(largest)])
    grid = [(factor, size) for factor in (16.0, 64.0) for size in sizes]
    weights = np.array([factor * heavy for factor, _ in grid]) * signed(rng, (len(grid),))
    gradients = signed(rng, (STEPS, len(grid))) * np.array([size for _, size in grid])
    places = placed(len(grid)) if len(main.places) > 1 else once(len(grid))
    return Probe("weights that are not zero", weights.astype(np.float32), gradients.astype(np.float32), places)


def at_random(seed: int, heavy: float, largest: float, *, size: int) -> Probe:
    """Return random weights and gradients: every position is an experiment of its own; the last tensor has `size`.

    Some gradients are 0: a class may leave out what has none.
    """
    rng = np.random.default_rng([4, seed])
    shapes = ((1,), (5, 7), (33,), (100,), (size,))
    bounds = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
    count = int(bounds[-1])
    places = {f"p{i}": np.arange(bounds[i], bounds[i + 1]).reshape(shape) for i, shape in enumerate(shapes)}
    weights = rng.standard_normal(count) * 64 * heavy * rng.integers(0, 2, count)
    gradients = _some(rng, LONG, count, largest)
    return Probe("random weights and gradients", weights.astype(np.float32), gradients, places)


def enduring(largest: float) -> Probe:
    """Return random gradients on weights of zero for many steps: a class may warm up, or reset what it keeps.

    From zero, because many roundings of a decaying weight would add up, all in one direction.
    """
    gradients = _some(np.random.default_rng(8), MANY_STEPS, 64, largest)
    return Probe(f"{MANY_STEPS} steps", np.zeros(64), gradients, once(64))


def _some(rng: np.random.Generator, steps: int, count: int, largest: float) -> Array:
    """Return gradients of all scales, of which some are 0 after the first step."""
    gradients = signed(rng, (steps, count)) * 10.0 ** rng.uniform(-9, np.log10(largest), count)
    gradients[1:] *= rng.random((steps - 1, count)) > RESTING
    return gradients.astype(np.float32)
