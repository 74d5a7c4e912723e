"""MindSpore: what lowers the rate at a plateau, and where an optimizer keeps it.

MindSpore's own `ReduceLROnPlateau` drives its experimental optimizers alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mindspore import Tensor, ops

from unirms.config import RMSPropConfig
from unirms.schedules import Plateau
from unirms.schedules.plateau import PlateauState

from .. import common

_PLATEAU = "_unirms_plateau"
_KEPT = "_unirms_lr_scheduler"


class PlateauLR:
    """Lowers the learning rate of an optimizer at a plateau: call ``step(metric)`` after each measurement.

    A rate that the user has set is reduced from there; groups keep their multiples of it.

    Args:
        optimizer: `nn.RMSProp` or `UniRMSProp`, its learning rate a number.
        plateau: when to reduce the rate, and by how much.
        factors: of the parameters of the optimizer, in order; for the exact class, which multiplies by them itself, 1.

    Attributes:
        schedule: the plateau.
        state: the present rate, in double, and the counts.
    """

    def __init__(self, optimizer: Any, plateau: Plateau, factors: Sequence[float]) -> None:
        self.schedule = plateau
        sources = [optimizer.get_lr_parameter(param) for param in optimizer.parameters]
        found = {id(source): (source, factor) for source, factor in zip(sources, factors, strict=True)}
        # The rate is told by the group with the largest factor, which rounds it least.
        self._sources = sorted(found.values(), key=lambda pair: -pair[1])
        first = plateau.begin()
        self.state = PlateauState(common.rung(plateau, self._live(), self._held), first.best)

    def step(self, metric: Any) -> None:
        """Take note of a metric, a number or a tensor of one; the new rate is that of the next update."""
        value = metric.asnumpy() if isinstance(metric, Tensor) else metric
        rate = self.state.rate if self.drives() else self._live()
        before = PlateauState(rate, self.state.best, self.state.bad, self.state.cooldown)
        self.state = self.schedule.after(before, float(np.asarray(value).item()))
        if self.state.rate != rate:
            self._put()

    def drives(self) -> bool:
        """Return whether the optimizer has the rate of this plateau, in all groups, and not one from elsewhere."""
        return all(float(source.asnumpy()) == _in(source, self.state.rate * factor) for source, factor in self._sources)

    def state_dict(self) -> dict[str, Any]:
        """Return the rate and the counts as plain data, which no checkpoint of MindSpore has."""
        return dict(vars(self.state))

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the rate and the counts, and set the rate of the optimizer, whatever it had."""
        self.state = PlateauState(**state_dict)
        self._put()

    def _put(self) -> None:
        for source, factor in self._sources:
            ops.assign(source, Tensor(self.state.rate * factor, source.dtype))

    def _live(self) -> float:
        source, factor = self._sources[0]
        return float(source.asnumpy()) / factor if factor else self.schedule.initial

    def _held(self, rate: float) -> float:
        """Return a rate as it comes back from the optimizer."""
        source, factor = self._sources[0]
        return _in(source, rate * factor) / factor if factor else rate


def _in(source: Any, rate: float) -> float:
    return float(source.asnumpy().dtype.type(rate))


def remember(optimizer: Any, config: RMSPropConfig, factors: Sequence[float]) -> None:
    """Note on a stock optimizer the plateau of its config, if there is one, and the factors of its parameters."""
    if isinstance(config.learning_rate, Plateau):
        setattr(optimizer, _PLATEAU, (config.learning_rate, tuple(factors)))


def scheduler_of(optimizer: Any) -> PlateauLR | None:
    """Return what lowers the rate of an optimizer, always the same; None where its config has no plateau."""
    kept: PlateauLR | None = getattr(optimizer, _KEPT, None)
    plateau, factors = getattr(optimizer, _PLATEAU, (None, ()))
    if kept is None and plateau is not None and not optimizer.dynamic_lr:
        kept = PlateauLR(optimizer, plateau, factors)
        setattr(optimizer, _KEPT, kept)
    return kept


def plateau_of(optimizer: Any) -> tuple[Plateau, Sequence[float]] | None:
    """Return the plateau that drives an optimizer, and the factors of its parameters; None where none does."""
    found = scheduler_of(optimizer)
    driven: tuple[Plateau, Sequence[float]] | None = getattr(optimizer, _PLATEAU, None)
    return driven if found is not None and found.drives() else None
