"""What a plain port does: the same hyperparameters, by name, through each framework's stock class."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

import unirms
from unirms import dialects
from unirms.config import RMSPropConfig
from unirms.registry import FRAMEWORKS

from .drivers import Array, Driver
from .inputs import GRADIENTS, held_by
from .results import PortResult

# What a person copies from one recipe to the next. The values are those of well-known image recipes.
HYPERPARAMETERS: Final[dict[str, Any]] = {"learning_rate": 0.01, "rho": 0.9, "epsilon": 1e-3, "momentum": 0.9}
STEPS: Final = 50
HALVED_AT: Final = 25
SIZE: Final = 1000
GRADIENT_SCALE: Final = 0.01
MEANT: Final = next(iter(FRAMEWORKS))
"""The dialect whose meaning the exact optimizers are built with."""


def port(framework: str, driver: Driver) -> PortResult:
    """Return the movement of the stock class, and of `unirms.build` with the meaning of the first framework."""
    plain = _from_names(framework)
    meant = _from_names(MEANT)
    return PortResult(
        framework=framework,
        target=dialects.get(framework).target,
        movement=_movement(plain, framework, driver, policy="nearest").tolist(),
        exact_movement=_movement(meant, framework, driver, policy="exact").tolist(),
    )


def _from_names(framework: str) -> RMSPropConfig:
    """Return what the stock class makes of the hyperparameters, under its own names for them."""
    dialect = dialects.get(framework)
    return dialect.read({dialect.name_of(field): value for field, value in HYPERPARAMETERS.items()})


def _movement(config: RMSPropConfig, framework: str, driver: Driver, *, policy: unirms.building.Policy) -> Array:
    rng = np.random.default_rng(2012)
    initial = {"w": held_by(rng.standard_normal(SIZE), "float32")}
    run = driver.start(
        lambda params, **options: unirms.build(config, framework, params, policy=policy, **options),
        initial,
        "float32",
        next(iter(driver.modes)),
    )
    for step in range(STEPS):
        grad = held_by(GRADIENTS["1"](rng, SIZE, step) * GRADIENT_SCALE, "float32")
        rate = config.initial_learning_rate / (1 if step < HALVED_AT else 2)
        run.step({"w": grad}, rate)
    return run.weights()["w"].astype(np.float64) - initial["w"].astype(np.float64)
