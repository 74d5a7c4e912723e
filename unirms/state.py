"""`OptimizerState`: what an RMSProp remembers between two steps, by parameter name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class OptimizerState:
    """The accumulators of an RMSProp, by parameter name.

    Attributes:
        step: completed updates.
        mean_square: the running mean of the squared gradient, in the shape and dtype of each parameter.
        mean_gradient: the running mean of the gradient; empty unless centered.
        momentum: the momentum buffer; empty without momentum. It holds the learning rate if the config says
            `lr_in_momentum`, and none otherwise.
    """

    step: int
    mean_square: Mapping[str, Array]
    mean_gradient: Mapping[str, Array] = field(default_factory=dict)
    momentum: Mapping[str, Array] = field(default_factory=dict)

    def slots(self) -> dict[str, Mapping[str, Array]]:
        """Return the accumulators by the name of the slot."""
        return {"mean_square": self.mean_square, "mean_gradient": self.mean_gradient, "momentum": self.momentum}
