"""PaddlePaddle: how far an optimizer has come, and a scheduler that counts its updates instead of its own steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unirms.config import RMSPropConfig
from unirms.schedules import BaseSchedule

from .operations import held
from .schedules import ScheduleLR, learning_rate_for


@dataclass
class Progress:
    """The counts of an optimizer.

    Attributes:
        updates: completed updates.
        micro_step: gradients gathered since the last.
        variables: in a static graph, the names of the variables that hold both instead.
    """

    updates: int = 0
    micro_step: int = 0
    variables: dict[str, str] = field(default_factory=dict)

    def read(self, count: str) -> int:
        """Return "updates" or "micro_step" at present; in a static graph from the global scope."""
        if count not in self.variables:
            return int(getattr(self, count)) if not self.variables else 0
        found = held(self.variables[count])
        return 0 if found is None else int(np.array(found))


class UpdateLR(ScheduleLR):
    """A `ScheduleLR` that stays where it is until the optimizer has made another update.

    So it may be stepped after every `optimizer.step()`, also where that only gathered a gradient or was skipped.
    `step(epoch)` with a number goes there all the same, and goes on from there.
    """

    def __init__(self, schedule: BaseSchedule, progress: Progress, last_epoch: int = -1, verbose: bool = False) -> None:
        self.progress = progress
        self.ahead = 0
        super().__init__(schedule, last_epoch, verbose)

    def step(self, epoch: int | None = None) -> None:
        """Go on by one if there was an update since, or to `epoch`."""
        if epoch is None and self.last_epoch >= self.progress.read("updates") + self.ahead:
            return
        super().step(epoch)
        if epoch is not None:
            self.align()

    def set_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the count of updates, whether or not the optimizer's is loaded too."""
        super().set_state_dict(state_dict)
        if not self.progress.variables:  # those of a static graph are loaded by Paddle, before or after this
            self.align()

    set_dict = set_state_dict

    def align(self) -> None:
        """Take the present place for that of the optimizer's present count of updates."""
        self.ahead = self.last_epoch - self.progress.read("updates")


def learning_rate_of(config: RMSPropConfig, progress: Progress) -> Any:
    """Return what the exact class takes as its learning rate: a number, or a new scheduler."""
    rate = config.learning_rate
    waits = config.gradient_accumulation_steps > 1 or config.non_finite == "skip"
    return UpdateLR(rate, progress) if waits and isinstance(rate, BaseSchedule) else learning_rate_for(config)
