"""What the parity report runs: configs, dtypes, modes, sizes, gradients and learning rates, as data.

Pairwise covering arrays over all axes of the config and of the input: whole ones for every mode in float32 and for
every dtype in the usual mode, so that modes and dtypes meet every value too, and every fourth row for the other
combinations of the two; then edge cases; then random combinations in float32 until there are `AT_LEAST`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from unirms.config import RMSPropConfig

from .covering import pairwise
from .drivers import Array

AT_LEAST: Final = 200
STEPS: Final = 50
# Both sides of every SIMD width and of the threading thresholds; MindSpore's kernel works in blocks of 8.
SIZES: Final = (1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 100, 1000, 4096)
LARGE: Final = 100_003

LIMIT_ULP: Final[Mapping[str, float]] = {
    # A hand-written float32 loop stays under 17 of these ULP over hundreds of random configs of 30 steps; 50 steps,
    # four times as many operations with Nesterov and decay, and framework kernels with an ULP of their own: 32.
    "float32": 32.0,
    "float64": 32.0,
    # Here a step is a few ULP of the weight, so that rounding errs the same way step after step instead of at random:
    # with decay the weight is rounded twice a step, 50 steps x 2 x half an ULP, and a quarter more for the step itself.
    "float16": 64.0,
    "bfloat16": 64.0,
}


class Case(BaseModel):
    """One optimizer over several tensors for `steps` updates; everything random follows from `seed`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    config: dict[str, Any]
    mode: str
    dtype: str
    sizes: tuple[int, ...]
    gradients: str
    rates: str
    seed: int
    steps: int = STEPS

    def initial(self) -> dict[str, Array]:
        """Return the parameters before the first step: standard normal, held exactly by the dtype."""
        rng = np.random.default_rng([self.seed, 0])
        return {f"p{i}": held_by(rng.standard_normal(size), self.dtype) for i, size in enumerate(self.sizes)}

    def gradients_at(self, step: int) -> dict[str, Array]:
        """Return the gradients of update number `step`, counted from 0, times the loss scale."""
        rng = np.random.default_rng([self.seed, 1 + step])
        scale = float(self.config.get("loss_scale", 1.0))
        made = GRADIENTS[self.gradients]
        return {f"p{i}": held_by(made(rng, size, step) * scale, self.dtype) for i, size in enumerate(self.sizes)}

    def rate_at(self, step: int) -> float | None:
        """Return the learning rate to set for update number `step`, counted from 0; None leaves it to the config."""
        if self.rates == SCHEDULED:
            return None
        return float(RATES[self.rates](float(self.config["learning_rate"]), step))


def held_by(values: Array, dtype: str) -> Array:
    """Return values rounded to `dtype`; bfloat16 as float32 arrays with the lower 16 bits cleared."""
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


GRADIENTS: Final[Mapping[str, Any]] = {
    "1": _scaled(1.0),
    "1e-3": _scaled(1e-3),
    "1e-6": _scaled(1e-6),
    "mixed": _mixed,
    "zeros": _with_zeros,
    "infinities": _with_infinities,
}
RATES: Final[Mapping[str, Any]] = {
    "constant": lambda rate, step: rate,
    "halved": lambda rate, step: rate if step < STEPS // 2 else rate / 2,
    "every step": lambda rate, step: rate * 0.93**step,
    "paused": lambda rate, step: 0.0 if 20 <= step < 25 else rate,  # also a warmup from 0 seen from its end
}

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
    {"kind": "table", "learning_rates": [0.001, 0.004, 0.003, 0.002]},
)

AXES: Final[Mapping[str, Sequence[Any]]] = {
    "epsilon": (1e-2, 1e-7, 1e-8),
    "epsilon_placement": ("inside_sqrt", "outside_sqrt"),
    "rho": (0.9, 0.99, 0.5),
    "momentum": (0.0, 0.9, "nesterov"),
    "lr_in_momentum": (True, False),
    "centered": (False, "propagate", "skip", "clamp"),
    "initial_mean_square": (0.0, 1.0, 0.25),
    "bias_correction": (False, True),
    "weight_decay": (0.0, "l2", "decoupled", "l2 exempt", "decoupled exempt"),
    "loss_scale": (1.0, 1024.0, 3.0),
    "maximize": (False, True),
    "gradients": ("1", "1e-3", "1e-6", "mixed"),
    "rates": ("constant", "halved", "every step", "paused"),
}
LOW: Final = ("float16", "bfloat16")
# float16 and bfloat16 hold few numbers: hyperparameters that they hold exactly, gradients whose squares they hold, and
# a decay whose every step is more than half an ULP of the weight (below that, all of it is rounded away).
LOW_PRECISION: Final[Mapping[str, Sequence[Any]]] = {
    **AXES,
    "epsilon": (2.0**-7, 2.0**-10),
    "rho": (0.875, 0.9375, 0.5),
    "momentum": (0.0, 0.875, "nesterov"),
    "bias_correction": (False,),  # 1 - rho**t is not held by these dtypes
    "loss_scale": (1.0, 4.0),
    "gradients": ("1",),
    "rates": ("constant", "halved", "paused"),
}


def cases(modes: Mapping[str, Sequence[str]]) -> list[Case]:
    """Return the cases of a framework with these modes and dtypes; the same list every time."""
    found: list[Case] = []
    usual = next(iter(modes))
    for mode, dtypes in modes.items():
        for dtype in dtypes:
            rows = list(enumerate(pairwise(LOW_PRECISION if dtype in LOW else AXES, well_conditioned)))
            whole = dtype == "float32" or mode == usual
            for i, row in rows if whole else rows[::4]:
                # The large tensor costs as much as all others ten times over, and no axis interacts with size.
                large = i % 8 == 3 and dtype not in LOW
                found.append(_case(f"{mode}/{dtype}/pair-{i:02}", row, mode, dtype, i, large=large))
            found += [*_edges(mode, dtype)] if whole else []
            found += [*_tiny(mode, dtype)] if dtype not in LOW else []
            # Every kind once in the usual mode; elsewhere every fourth, in turn.
            every = 1 if (mode, dtype) == (usual, "float32") else 4
            found += [*_scheduled(mode, dtype, every)] if dtype not in LOW else []
    for i, row in enumerate(_random(max(0, AT_LEAST - len(found)))):
        found.append(_case(f"{usual}/float32/random-{i:03}", row, usual, "float32", 1000 + i))
    return found


def _random(count: int) -> Iterator[dict[str, Any]]:
    rng = random.Random(20)
    while count > 0:
        row = {name: rng.choice(values) for name, values in AXES.items()}
        if well_conditioned(row):
            count -= 1
            yield row


def well_conditioned(row: Mapping[str, Any]) -> bool:
    """Return whether rounding errors stay small in this combination, in any implementation.

    A centered denominator is v - a*a, and by Jensen (v - a*a) / v >= rho**t for the bare means: with rho = 0.5 two
    equal gradients in a row cancel to nothing, and with bias correction the very first gradient does (v = g*g, a = g)
    unless the mean square starts elsewhere. What is left is rounding noise, divided by.

    An L2 decay that is larger than the gradient drives each weight to 0 in full steps and lets it bounce there, where
    the sign of a rounding error decides the next step; so it is a twentieth of the gradient's scale, and mixed
    gradients have none.
    """
    if str(row.get("weight_decay")).startswith("l2") and row.get("gradients") == "mixed":
        return False
    first_cancels = row.get("bias_correction") and row.get("initial_mean_square") == 0.0
    return not row.get("centered") or (row.get("rho") != 0.5 and not first_cancels)


def _case(name: str, row: Mapping[str, Any], mode: str, dtype: str, seed: int, *, large: bool = False) -> Case:
    low = dtype in LOW
    return Case(
        id=name,
        # Decay times rate is 9e-4 of the weight: far enough above its ULP that rounding does not err the same way at
        # every step (at 3e-5, a weight with small gradients gathers half an ULP a step, in any implementation).
        config=config_of_row(row, learning_rate=2.0**-6 if low else 0.003, weight_decay=2.0**-2 if low else 0.3),
        mode=mode,
        dtype=dtype,
        sizes=(*sizes_of(seed), LARGE) if large else sizes_of(seed),
        gradients=row["gradients"],
        rates=row["rates"],
        seed=seed,
    )


def sizes_of(seed: int) -> tuple[int, ...]:
    """Return every third size, in turn: a third of the tensors, and of the time that it takes to compile them."""
    return SIZES[seed % 3 :: 3]


def config_of_row(row: Mapping[str, Any], learning_rate: float, weight_decay: float) -> dict[str, Any]:
    """Return the config fields of one row of the covering array."""
    momentum, centered, decay = row["momentum"], row["centered"], str(row["weight_decay"])
    if decay.startswith("l2"):
        weight_decay = 2.0**-4 * float(row["gradients"])
    nested = 0.875 if row["rho"] in {0.875, 0.9375} else 0.9
    fields = {
        "learning_rate": learning_rate,
        **{name: row[name] for name in ("rho", "epsilon", "epsilon_placement", "lr_in_momentum", "maximize")},
        **{name: row[name] for name in ("initial_mean_square", "bias_correction", "loss_scale")},
        "momentum": nested if momentum == "nesterov" else momentum,
        "nesterov": momentum == "nesterov",
        "centered": bool(centered),
        "negative_variance": centered or "propagate",
        "weight_decay": weight_decay if row["weight_decay"] else 0.0,
        "weight_decay_mode": "decoupled" if decay.startswith("decoupled") else "l2",
        "no_weight_decay": ("p1", "p3") if decay.endswith("exempt") else (),
    }
    return RMSPropConfig(**fields).model_dump(mode="json")


def _edges(mode: str, dtype: str) -> Iterator[Case]:
    """Yield what no covering array should mix: epsilon 0 with gradients that are 0, and an infinite gradient."""
    for gradients, epsilon in (("zeros", 0.0), ("infinities", 2.0**-7)):
        for answer in ("propagate", "skip", "clamp"):
            fields = {"learning_rate": 2.0**-6, "rho": 0.875, "epsilon": epsilon, "momentum": 0.5, "centered": True}
            config = RMSPropConfig.model_validate({**fields, "negative_variance": answer})
            yield Case(
                id=f"{mode}/{dtype}/edge-{gradients}-{answer}",
                config=config.model_dump(mode="json"),
                mode=mode,
                dtype=dtype,
                sizes=(2, 17, 33),
                gradients=gradients,
                rates="constant",
                seed=500,
            )


def _scheduled(mode: str, dtype: str, every: int) -> Iterator[Case]:
    """Yield schedules as the config's learning rate, the rate inside and outside the buffer in turn."""
    for i, schedule in list(enumerate(SCHEDULES))[len(mode) % every :: every]:
        fields = {"learning_rate": schedule, "epsilon": 1e-2, "momentum": 0.9, "weight_decay": 0.3}
        config = RMSPropConfig.model_validate({**fields, "lr_in_momentum": bool(i % 2), "centered": i % 3 == 0})
        yield Case(
            id=f"{mode}/{dtype}/schedule-{schedule['kind']}",
            config=config.model_dump(mode="json"),
            mode=mode,
            dtype=dtype,
            sizes=(1, 9, 17),
            gradients="1",
            rates=SCHEDULED,
            seed=502 + i,
        )


def _tiny(mode: str, dtype: str) -> Iterator[Case]:
    """Yield gradients of 1e-6 against an epsilon of 1e-8, from nothing: where the placement of epsilon shows most."""
    for placement in ("inside_sqrt", "outside_sqrt"):
        config = RMSPropConfig(learning_rate=0.003, epsilon=1e-8, epsilon_placement=placement, momentum=0.9)
        yield Case(
            id=f"{mode}/{dtype}/tiny-{placement}",
            config=config.model_dump(mode="json"),
            mode=mode,
            dtype=dtype,
            sizes=sizes_of(0),
            gradients="1e-6",
            rates="halved",
            seed=501,
        )
