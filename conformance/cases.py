"""What the parity report runs, as data: a case is an optimizer over some tensors, with gradients and rates.

Pairwise covering arrays over all axes of the config and of the input: whole ones for every mode in float32, every
other row for the other dtypes in the usual mode, and every fourth for them elsewhere, so that modes and dtypes meet
every value; then edge cases, schedules, sparse gradients and recipes; then random combinations in float32 until there
are `AT_LEAST`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from unirms.config import RMSPropConfig
from unirms.state import SparseGradient

from . import recipes
from .axes import AXES, LOW, LOW_PRECISION, config_of_row, has_small_tensors, well_conditioned
from .covering import pairwise
from .drivers import Array
from .inputs import (
    GRADIENTS,
    LARGE,
    LEFT_ALONE,
    RATES,
    SCHEDULED,
    SCHEDULES,
    SHAPES,
    SIZES,
    STEPS,
    as_rows,
    held_by,
    shape_of,
    signs,
)

AT_LEAST: Final = 200
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
    names: tuple[str, ...] = ()
    """What the tensors are called; p0, p1, … where nothing is said."""

    @property
    def tensors(self) -> list[tuple[str, int]]:
        """The name and the size of each tensor."""
        names = self.names or tuple(f"p{i}" for i in range(len(self.sizes)))
        return list(zip(names, self.sizes, strict=True))

    def initial(self) -> dict[str, Array]:
        """Return the parameters before the first step: standard normal, held exactly by the dtype."""
        rng = np.random.default_rng([self.seed, 0])
        return {
            name: held_by(rng.standard_normal(size), self.dtype).reshape(shape_of(size)) for name, size in self.tensors
        }

    def gradients_at(self, step: int) -> dict[str, Array | SparseGradient]:
        """Return the gradients of step number `step`, counted from 0, times the loss scale; of matrices by rows."""
        rng = np.random.default_rng([self.seed, 1 + step])
        scale = float(self.config.get("loss_scale", 1.0))
        # Gradients that are gathered have the same signs: a sum that cancels leaves nothing but rounding errors.
        turns = np.random.default_rng([self.seed, 1_000_000 + step // int(self.config["gradient_accumulation_steps"])])
        dense = {}
        for name, size in self.tensors:
            sizes = np.abs(GRADIENTS[self.gradients](rng, size, step)).reshape(shape_of(size))
            dense[name] = held_by(sizes * signs(turns, size) * scale, self.dtype)
        if self.gradients != "rows":
            return {**dense}
        return {name: as_rows(grad, rng) if grad.ndim == 2 else grad for name, grad in dense.items()}

    def rate_at(self, step: int) -> float | None:
        """Return the learning rate to set for step number `step`, counted from 0; None leaves it to the config."""
        if self.rates in {SCHEDULED, LEFT_ALONE}:
            return None
        return float(RATES[self.rates](float(self.config["learning_rate"]), step))


def cases(modes: Mapping[str, Sequence[str]], sparse: Sequence[str] = ()) -> list[Case]:
    """Return the cases of a framework with these modes and dtypes; the same list every time.

    Args:
        modes: mode -> the dtypes that it computes; the first mode is the usual one.
        sparse: the modes in which gradients may come as rows.
    """
    found: list[Case] = []
    usual = next(iter(modes))
    for mode, dtypes in modes.items():
        for dtype in dtypes:
            rows = list(enumerate(pairwise(LOW_PRECISION if dtype in LOW else AXES, well_conditioned)))
            whole = dtype == "float32" or mode == usual
            for i, row in rows[:: 1 if dtype == "float32" else 2 if whole else 4]:
                # The large tensor costs as much as all others ten times over, and no axis interacts with size.
                large = i % 8 == 3 and dtype not in LOW and not has_small_tensors(row)
                found.append(_case(f"{mode}/{dtype}/pair-{i:02}", row, mode, dtype, i, large=large))
            found += [*_edges(mode, dtype)] if whole else []
            found += [*_tiny(mode, dtype)] if dtype not in LOW else []
            # Every kind once in the usual mode; elsewhere every fourth, in turn.
            every = 1 if (mode, dtype) == (usual, "float32") else 4
            found += [*_scheduled(mode, dtype, every)] if dtype not in LOW else []
            found += [*_recipes(mode, dtype)] if dtype == "float32" else []
            found += [*_by_rows(mode, dtype)] if mode in sparse and dtype not in LOW else []
    for i, row in enumerate(_random(max(0, AT_LEAST - len(found)))):
        found.append(_case(f"{usual}/float32/random-{i:03}", row, usual, "float32", 1000 + i))
    # The same case in all modes one after the other: the judge keeps what the reference makes of it.
    order = list(dict.fromkeys(case.id.partition("/")[2] for case in found))
    return sorted(found, key=lambda case: order.index(case.id.partition("/")[2]))


def _random(count: int) -> Iterator[dict[str, Any]]:
    rng = random.Random(20)
    while count > 0:
        row = {name: rng.choice(values) for name, values in AXES.items()}
        if well_conditioned(row):
            count -= 1
            yield row


def _case(name: str, row: Mapping[str, Any], mode: str, dtype: str, seed: int, *, large: bool = False) -> Case:
    low = dtype in LOW
    return Case(
        id=name,
        # Decay times rate is 9e-4 of the weight: far enough above its ULP that rounding does not err the same way at
        # every step (at 3e-5, a weight with small gradients gathers half an ULP a step, in any implementation).
        config=config_of_row(row, learning_rate=2.0**-6 if low else 0.003, weight_decay=2.0**-2 if low else 0.3),
        mode=mode,
        dtype=dtype,
        sizes=(1, 3, 7, 9) if has_small_tensors(row) else (*sizes_of(seed), LARGE) if large else sizes_of(seed),
        gradients=row["gradients"],
        rates=row["rates"],
        seed=seed,
    )


def sizes_of(seed: int) -> tuple[int, ...]:
    """Return every fourth size, in turn: a quarter of the tensors, and of the time that it takes to compile them."""
    return SIZES[seed % 4 :: 4]


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


# The names and sizes of a small convolutional network in Keras's style.
NETWORK: Final = {
    "stem/conv/kernel": 1000,
    "stem/bn/gamma": 8,
    "stem/bn/beta": 8,
    "block/conv/kernel": 64,
    "head/dense/kernel": 100,
    "head/dense/bias": 7,
}


def _recipes(mode: str, dtype: str) -> Iterator[Case]:
    """Yield optimizers that people have trained with, for 300 updates."""
    for name in recipes.NAMES:
        yield Case(
            id=f"{mode}/{dtype}/recipe-{name}",
            config=recipes.recipe(name).model_dump(mode="json"),
            mode=mode,
            dtype=dtype,
            sizes=tuple(NETWORK.values()),
            names=tuple(NETWORK),
            gradients="1",
            rates=SCHEDULED,
            seed=700,
            steps=300,
        )


# What a lazy row may be mixed up with: means, buffers, decay of the touched rows, norms over them.
BY_ROWS: Final[tuple[Mapping[str, Any], ...]] = (
    {},
    {"momentum": 0.9, "lr_in_momentum": False, "epsilon_placement": "outside_sqrt", "initial_mean_square": 1.0},
    {"momentum": 0.9, "nesterov": True, "centered": True, "weight_decay": 0.3, "rho": 0.99},
    {"clip": [{"by": "global_norm", "max_norm": 3.0}], "ema_decay": 0.9, "maximize": True, "loss_scale": 3.0},
    {"centered": True, "negative_variance": "skip", "momentum": 0.5, "groups": [{"match": "p2", "rho": 0.95}]},
)


def _by_rows(mode: str, dtype: str) -> Iterator[Case]:
    """Yield sparse gradients with repeated rows, as dense ones and lazily, beside dense gradients of vectors."""
    for sparse in ("dense", "lazy"):
        for i, fields in enumerate(BY_ROWS):
            config = RMSPropConfig.model_validate({"learning_rate": 0.003, "epsilon": 1e-2, "sparse": sparse, **fields})
            yield Case(
                id=f"{mode}/{dtype}/rows-{sparse}-{i}",
                config=config.model_dump(mode="json"),
                mode=mode,
                dtype=dtype,
                sizes=(7, *(size for size, shape in SHAPES.items() if len(shape) == 2 and size < 4096)),
                gradients="rows",
                rates="every step",
                seed=600 + i,
            )
