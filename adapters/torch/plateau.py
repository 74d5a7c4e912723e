"""PyTorch: the scheduler that lowers the rate at a plateau."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from unirms.config import RMSPropConfig
from unirms.dialects.schedules.torch import PLATEAU
from unirms.errors import ConfigError
from unirms.schedules import Plateau
from unirms.schedules.plateau import PlateauState

from .rates import ATTRIBUTE, Group, holds, index_of, multiple, put

# What PyTorch's class counts; everything else in its state says what it was made with.
COUNTS = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch", "_last_lr")


class PlateauLR(torch.optim.lr_scheduler.ReduceLROnPlateau):
    """`ReduceLROnPlateau` whose groups keep their factors, at the lowest rate and below `eps` too.

    Call ``step(metric)`` after each measurement of the metric, as with PyTorch's own. A rate that the user has set in a
    group is reduced from there. The optimizer and its scheduler refer to each other; `unirms.lr_scheduler(optimizer)`
    returns the last one that was made.

    Args:
        optimizer: whose groups it drives.
        plateau: when to reduce the rate, and by how much.
        factors: of the groups, in order; 1 for all others, and for those that are added later.

    Attributes:
        schedule: the plateau.
        rate: its rate now, of which the groups have their multiples.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, plateau: Plateau, factors: Sequence[float] = ()) -> None:
        self.schedule = plateau
        self.factors = list(factors)
        self.rate = plateau.initial
        super().__init__(optimizer, **_words(plateau), min_lr=plateau.min_learning_rate)
        setattr(optimizer, ATTRIBUTE, self)

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        # PyTorch copies three attributes of an optimizer only. A scheduler that comes along finds its place again.
        self.optimizer.__dict__.setdefault(ATTRIBUTE, self)

    def _reduce_lr(self, epoch: int) -> None:
        before, self.rate = self.rate, self.schedule.reduced(self.rate)
        for index, group in enumerate(self.optimizer.param_groups):
            own = self.multiple(index)
            if holds(group, before * own):
                put(group, self.rate * own)
            else:
                put(group, self.schedule.scaled(own).reduced(float(group["lr"])))

    def multiple(self, index: int) -> float:
        """Return the rate of the group of that number as a multiple of the plateau's."""
        return multiple(self.factors, index)

    def place(self) -> PlateauState:
        """Return where it has come to."""
        return PlateauState(self.rate, float(self.best), self.num_bad_epochs, self.cooldown_counter)

    def go_to(self, place: PlateauState) -> None:
        """Come to a place; groups that hold a rate from elsewhere keep it."""
        driven = [group for group in self.optimizer.param_groups if self.drives(group)]
        self.rate, self.best = place.rate, place.best
        self.num_bad_epochs, self.cooldown_counter = place.bad, place.cooldown
        for group in driven:
            put(group, self.rate * self.multiple(index_of(self.optimizer, group)))
        self._last_lr = [float(group["lr"]) for group in self.optimizer.param_groups]

    def drives(self, group: Group) -> bool:
        """Return whether the group holds the rate of this plateau, and not one from elsewhere."""
        return holds(group, self.rate * self.multiple(index_of(self.optimizer, group)))

    def state_dict(self) -> dict[str, Any]:
        """Return the counts and the plateau, as plain data that `torch.load(weights_only=True)` reads."""
        return {**super().state_dict(), "schedule": self.schedule.model_dump(mode="json")}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the counts and the plateau, and set the rate of all groups, whatever they held.

        The state of a `ReduceLROnPlateau` has no plateau: then the counts and the rate are loaded, and the plateau
        stays.

        Raises:
            ConfigError: its plateau is none.
        """
        stated = state_dict.get("schedule")
        plateau = self.schedule if stated is None else RMSPropConfig(learning_rate=stated).learning_rate
        if not isinstance(plateau, Plateau):
            raise ConfigError([f"the state is of another schedule ({stated}); it must be that of a plateau"])
        counts = {name: state_dict[name] for name in COUNTS if name in state_dict}
        super().load_state_dict({**_words(plateau), **counts})
        self.schedule = plateau
        self.rate = state_dict["rate"] if "rate" in state_dict else float(self._last_lr[0]) / (self.multiple(0) or 1.0)
        for index, group in enumerate(self.optimizer.param_groups):
            put(group, self.rate * self.multiple(index))


def _words(plateau: Plateau) -> dict[str, Any]:
    """Return what PyTorch keeps of a plateau in attributes of the same names; `min_lr` it keeps for each group."""
    words = {**PLATEAU, "eps": "eps"}
    return {word: getattr(plateau, name) for name, word in words.items() if word != "min_lr"}
