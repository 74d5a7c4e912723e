"""What the optimizers of the parity report get: sizes and shapes of tensors, gradients, learning rates, schedules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from unirms.state import SparseGradient

from .drivers import Array

STEPS: Final = 50
# Both sides of every SIMD width and of the threading thresholds; MindSpore's kernel works in blocks of 8.
SIZES: Final = (1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 1000, 4096)
LARGE: Final = 100_003
SHAPES: Final[Mapping[int, tuple[int, ...]]] = {
    64: (8, 8),
    72: (4, 2, 3, 3),
    100: (4, 5, 5),
    1000: (8, 125),
    4096: (64, 64),
}
"""Sizes whose tensors are no vectors: gradients of these are centralized, and come as rows."""


def shape_of(size: int) -> tuple[int, ...]:
    """Return the shape of the tensors of a size."""
    return SHAPES.get(size, (size,))


def signs(rng: np.random.Generator, size: int) -> Array:
    """Return 1 or -1 for each element: at random in a vector, in turn along every axis of another tensor.

    A gradient less its mean must not be what rounding left of two equal numbers, see `_signed`; with signs in turn the
    mean is small.
    """
    shape = shape_of(size)
    if len(shape) == 1:
        return rng.choice([-1.0, 1.0], size)
    places = np.indices(shape).sum(axis=0)
    return np.asarray(rng.choice([-1.0, 1.0]) * np.where(places % 2, -1.0, 1.0))


def held_by(values: Array, dtype: str) -> Array:
    """Return values that `dtype` holds, near the given ones; bfloat16 as float32 arrays, cut off after 16 bits."""
    if dtype == "bfloat16":
        bits = np.asarray(values, dtype=np.float32).view(np.uint32)
        return np.asarray((bits & np.uint32(0xFFFF0000)).view(np.float32))
    return np.asarray(values, dtype=dtype)


def _signed(rng: np.random.Generator, size: int) -> Array:
    """Return numbers of either sign and of size 0.5 to 2.

    Not normal: their squares are normal numbers in float16 too, and an L2 decay in proportion never cancels them (what
    is left of a cancelled sum is the rounding errors of its terms, and the first step divides it by its own size).
    """
    values = rng.uniform(-1.5, 1.5, size)
    return np.asarray(values + np.copysign(0.5, values))


def _scaled(scale: float) -> Any:
    return lambda rng, size, step: _signed(rng, size) * scale


def _mixed(rng: np.random.Generator, size: int, step: int) -> Array:
    """Return gradients whose elements keep their own scale, from 1 down to 1e-6, over all steps."""
    return np.asarray(_signed(rng, size) * 10.0 ** -np.linspace(0.0, 6.0, size))


def _with_zeros(rng: np.random.Generator, size: int, step: int) -> Array:
    """Return gradients of which every other element is always 0."""
    return np.asarray(_signed(rng, size) * (np.arange(size) % 2))


def _with_infinities(rng: np.random.Generator, size: int, step: int) -> Array:
    """Return gradients with one infinite element at the eleventh step."""
    values = _signed(rng, size)
    if step == 10:
        values[size // 2] = np.inf
    return np.asarray(values)


def _spoiled(rng: np.random.Generator, size: int, step: int) -> Array:
    """Return gradients with a NaN or an infinity at every seventh step, in every tensor."""
    values = _signed(rng, size)
    if step % 7 == 6:
        values[size // 2] = np.nan if step % 2 else -np.inf
    return np.asarray(values)


GRADIENTS: Final[Mapping[str, Any]] = {
    "1": _scaled(1.0),
    "1e-3": _scaled(1e-3),
    "1e-6": _scaled(1e-6),
    "mixed": _mixed,
    "zeros": _with_zeros,
    "infinities": _with_infinities,
    "spoiled": _spoiled,
    "rows": _scaled(1.0),
}
SCALES: Final[Mapping[str, float]] = {"1e-3": 1e-3, "1e-6": 1e-6}
"""The size of the elements of a gradient where it is not 1."""
RATES: Final[Mapping[str, Any]] = {
    "constant": lambda rate, step: rate,
    "halved": lambda rate, step: rate if step < STEPS // 2 else rate / 2,
    "every step": lambda rate, step: rate * 0.93**step,
    "paused": lambda rate, step: 0.0 if 20 <= step < 25 else rate,  # also a warmup from 0 seen from its end
}
LEFT_ALONE: Final = "left alone"
"""In the place of RATES: nobody sets a rate, and the config's stays."""

SCHEDULED: Final = "scheduled"
"""In the place of RATES: the config's learning rate is a schedule, and nobody sets a rate."""
# One of each kind, with its changes and its end within the steps of a case. No rate is 0 after a larger one: an element
# that rests shows nothing.
SCHEDULES: Final[tuple[Mapping[str, Any], ...]] = (
    {"kind": "constant", "learning_rate": 0.003},
    {"kind": "step", "initial_learning_rate": 0.004, "step_size": 7, "gamma": 0.7},
    {"kind": "multi_step", "initial_learning_rate": 0.004, "milestones": [3, 20, 21], "gamma": 0.5},
    {"kind": "piecewise", "boundaries": [10, 30], "learning_rates": [0.001, 0.004, 0.002]},
    {"kind": "exponential", "initial_learning_rate": 0.004, "decay_rate": 0.97, "decay_steps": 2.4, "staircase": True},
    {"kind": "natural_exponential", "initial_learning_rate": 0.004, "decay_rate": 0.05},
    {"kind": "inverse_time", "initial_learning_rate": 0.004, "decay_rate": 0.3, "decay_steps": 4},
    {
        "kind": "polynomial",
        "initial_learning_rate": 0.004,
        "end_learning_rate": 0.001,
        "decay_steps": 20,
        "power": 2,
        "cycle": True,
    },
    {"kind": "linear", "initial_learning_rate": 0.004, "end_learning_rate": 0.001, "decay_steps": 40},
    {"kind": "cosine", "initial_learning_rate": 0.004, "end_learning_rate": 0.001, "decay_steps": 30},
    {"kind": "cosine_restarts", "initial_learning_rate": 0.004, "first_period": 5, "period_factor": 2},
    {"kind": "one_cycle", "max_learning_rate": 0.004, "total_steps": 45},
    {"kind": "noam", "factor": 0.1, "d_model": 64, "warmup_steps": 12},
    {
        "kind": "warmup",
        "warmup_steps": 5,
        "overlap": True,
        "after": {"kind": "exponential", "initial_learning_rate": 0.004, "decay_rate": 0.97, "decay_steps": 2.4},
    },
    {
        "kind": "sequence",
        "boundaries": [20],
        "schedules": [
            {"kind": "linear", "initial_learning_rate": 0.001, "end_learning_rate": 0.004, "decay_steps": 20},
            {"kind": "cosine", "initial_learning_rate": 0.004, "decay_steps": 40},
        ],
    },
    {
        "kind": "sampled",
        "every": 3,
        "offset": 2,
        "schedule": {"kind": "step", "initial_learning_rate": 0.004, "step_size": 20, "gamma": 0.7},
    },
    {"kind": "table", "learning_rates": [0.001, 0.004, 0.003, 0.002]},
)


def as_rows(values: Array, rng: np.random.Generator) -> SparseGradient:
    """Return a sparse gradient for a tensor of that shape: half of its rows in no order, every other time one twice.

    Kernels treat rows of which none is repeated by other code: Paddle's leaves some of them out.
    """
    rows = rng.permutation(len(values))[: max(2, len(values) // 2)]
    if rng.random() < 0.5:
        rows[-1] = rows[0]
    return SparseGradient(rows, values[rows] * np.linspace(0.5, 1.0, len(rows), dtype=values.dtype)[:, None])
