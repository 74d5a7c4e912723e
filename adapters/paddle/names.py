"""PaddlePaddle: what the accumulators and the entries of a state dictionary are called."""

from __future__ import annotations

from typing import Final

from ..checkpoints.paddle.names import (
    AVERAGE,
    CONFIG,
    CONFIG_NAMES,
    CONFIG_TEXT,
    GRADIENT_SUM,
    MICRO_STEP,
    SCHEDULER,
    SLOTS,
    STEP,
)

# Field of the config -> attribute of the stock class that is read at every step.
LIVE: Final = {"rho": "_rho", "epsilon": "_epsilon", "momentum": "_momentum", "centered": "_centered"}

__all__ = [
    "AVERAGE",
    "CONFIG",
    "CONFIG_NAMES",
    "CONFIG_TEXT",
    "GRADIENT_SUM",
    "LIVE",
    "MICRO_STEP",
    "SCHEDULER",
    "SLOTS",
    "STEP",
]
