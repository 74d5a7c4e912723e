"""PaddlePaddle: the scheduler that lowers the rate at a plateau."""

from __future__ import annotations

from typing import Any

import numpy as np
from paddle.optimizer import lr

from unirms.dialects.schedules.torch import PLATEAU
from unirms.schedules import Plateau
from unirms.schedules.plateau import PlateauState


class PlateauLR(lr.ReduceOnPlateau):
    """`ReduceOnPlateau` that looks at the metrics of a cooldown too, and recovers from a first metric that is NaN.

    Call ``step(metric)`` after each measurement of the metric, as with Paddle's own; its state dictionary has the same
    keys. The first metric is compared with an infinity, and all are compared in float64.

    Args:
        schedule: the plateau.
    """

    last_epoch: int
    last_lr: float
    best: Any
    num_bad_epochs: int
    cooldown_counter: int

    def __init__(self, schedule: Plateau) -> None:
        self.schedule = schedule
        words = {word: getattr(schedule, name) for name, word in PLATEAU.items()}
        super().__init__(schedule.initial, **words, epsilon=schedule.eps)

    def step(self, metrics: Any, epoch: int | None = None) -> None:
        """Take note of a metric: a number, or an array or a tensor of one. The new rate is that of the next update."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        best = self.schedule.begin().best if self.best is None else float(self.best)
        state = PlateauState(self.last_lr, best, self.num_bad_epochs, self.cooldown_counter)
        state = self.schedule.after(state, float(np.asarray(metrics).item()))
        self.best, self.num_bad_epochs, self.cooldown_counter = state.best, state.bad, state.cooldown
        self.last_lr = state.rate
