"""`OptimizerState`: what an RMSProp remembers between two steps, by parameter name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class SparseGradient:
    """A gradient that is zero but for some rows, as that of an embedding table.

    Attributes:
        indices: the rows, shape (n,), integers >= 0; a row may occur several times, and its values add up.
        values: what stands there, shape (n, …): as the parameter, but for the first axis.
    """

    indices: Array
    values: Array


@dataclass(frozen=True)
class OptimizerState:
    """The accumulators of an RMSProp, by parameter name.

    Attributes:
        step: completed updates.
        mean_square: the running mean of the squared gradient, in the shape and dtype of each parameter.
        mean_gradient: the running mean of the gradient; empty unless centered.
        momentum: the momentum buffer; empty without momentum. It holds the learning rate if the config says
            `lr_in_momentum`, and none otherwise.
        average: the running mean of the weights; empty without `ema_decay`.
        gradient_sum: with gradient accumulation, the sum of the gradients since the last update; empty at an update.
        micro_step: how many gradients that sum has.
    """

    step: int
    mean_square: Mapping[str, Array]
    mean_gradient: Mapping[str, Array] = field(default_factory=dict)
    momentum: Mapping[str, Array] = field(default_factory=dict)
    average: Mapping[str, Array] = field(default_factory=dict)
    gradient_sum: Mapping[str, Array] = field(default_factory=dict)
    micro_step: int = 0

    @classmethod
    def of(
        cls,
        step: int,
        slots: Mapping[str, Mapping[str, Array]],
        gradient_sum: Mapping[str, Array] | None = None,
        micro_step: int = 0,
    ) -> OptimizerState:
        """Return the state with these accumulators, by the name of the slot, and what is gathered since."""
        return cls(
            step,
            slots["mean_square"],
            slots.get("mean_gradient", {}),
            slots.get("momentum", {}),
            slots.get("average", {}),
            gradient_sum or {},
            micro_step,
        )

    def slots(self) -> dict[str, Mapping[str, Array]]:
        """Return the accumulators that an update leaves behind, by the name of the slot."""
        return {
            "mean_square": self.mean_square,
            "mean_gradient": self.mean_gradient,
            "momentum": self.momentum,
            "average": self.average,
        }
