"""A learning rate that goes down when a metric stops improving: state, and no function of the updates.

Source: `torch.optim.lr_scheduler.ReduceLROnPlateau` (PyTorch 2.13), of which this has the fields, the defaults and the
order of operations, in float64. A metric is what the user measures at an interval of their own, as the loss on held-out
data after each epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal

from pydantic import ConfigDict, Field

from unirms.scalars import Number
from unirms.schedules.base import Factor, Rate, Updates, to_factor
from unirms.stated import Stated

if TYPE_CHECKING:
    from typing_extensions import Self

LONG_LADDER: Final = 10_000
"""Rates up to which it is worth finding out where they end: 0.999 comes from 0.1 down to 1e-5 by 9206."""


@dataclass(frozen=True)
class PlateauState:
    """Where a plateau has come to.

    Attributes:
        rate: the learning rate now.
        best: the best metric so far; infinite, and worse than any, before the first.
        bad: metrics without an improvement since the last one, or since the last reduction or cooldown.
        cooldown: metrics that are still to come before they count again.
    """

    rate: float
    best: float
    bad: int = 0
    cooldown: int = 0


class Plateau(Stated):
    """A rate that is multiplied by `factor` after more than `patience` metrics without an improvement.

    A NaN is no improvement, and neither is an infinity of the bad sign, also as the first metric. In mode "rel" a
    metric improves on `best` where it is below best * (1 - threshold), or above best * (1 + threshold); for negative
    metrics such a threshold lies on the other side of `best`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    RATES: ClassVar[tuple[str, ...]] = ("initial_learning_rate", "min_learning_rate", "eps")

    kind: Literal["plateau"] = "plateau"
    initial_learning_rate: Rate = Field(description="rate before the first reduction")
    factor: Annotated[Number, Field(ge=0, lt=1)] = Field(
        default=0.1, description="what a reduction multiplies the rate by"
    )
    patience: Updates = Field(default=10, description="metrics without an improvement that bring no reduction yet")
    threshold: Factor = Field(default=1e-4, description="by how much a metric must be better than the best so far")
    threshold_mode: Literal["rel", "abs"] = Field(
        default="rel", description="whether that is a fraction of the best metric, or a difference"
    )
    mode: Literal["min", "max"] = Field(default="min", description="whether lower or higher metrics are better")
    cooldown: Updates = Field(default=0, description="metrics after a reduction that do not count as bad")
    min_learning_rate: Rate = Field(default=0.0, description="no reduction goes below it")
    eps: Factor = Field(default=1e-8, description="reductions by no more than this are left out")

    def rates(self, metrics: Iterable[float]) -> list[float]:
        """Return the rate after each of the metrics, in order."""
        states = accumulate(metrics, self.after, initial=self.begin())
        return [state.rate for state in islice(states, 1, None)]

    def ladder(self) -> Iterator[float]:
        """Yield the rates that it goes through, whatever the metrics are: the first, and that after each reduction."""
        rate, lower = math.inf, self.initial
        while lower != rate:
            rate, lower = lower, self.reduced(lower)
            yield rate

    def begin(self) -> PlateauState:
        """Return the state before the first metric."""
        return PlateauState(self.initial_learning_rate, math.inf if self.mode == "min" else -math.inf)

    def after(self, state: PlateauState, metric: float) -> PlateauState:
        """Return the state after one more metric."""
        improved = self.improves(metric, state.best)
        best = metric if improved else state.best
        bad = 0 if improved or state.cooldown > 0 else state.bad + 1
        if bad > self.patience:
            return PlateauState(self.reduced(state.rate), best, 0, self.cooldown)
        return PlateauState(state.rate, best, bad, max(state.cooldown - 1, 0))

    def improves(self, metric: float, best: float) -> bool:
        """Return whether a metric is better than the best so far by more than the threshold."""
        if self.mode == "min":
            return metric < (best * (1.0 - self.threshold) if self.threshold_mode == "rel" else best - self.threshold)
        return metric > (best * (self.threshold + 1.0) if self.threshold_mode == "rel" else best + self.threshold)

    def reduced(self, rate: float) -> float:
        """Return a rate after one reduction; the rate itself where that is too small to be made."""
        lower = max(rate * self.factor, self.min_learning_rate)
        return lower if rate - lower > self.eps else rate

    @property
    def initial(self) -> float:
        """The rate before the first reduction."""
        return self.initial_learning_rate

    @property
    def is_constant(self) -> bool:
        """Whether no reduction is ever made, whatever the metrics are."""
        return self.reduced(self.initial) == self.initial

    def scaled(self, factor: float) -> Self:
        """Return the same plateau with all rates times `factor`, so that it reduces at the same metrics.

        `min_learning_rate` and `eps` are rates, too. PyTorch has one `eps`, and one `min_lr` unless told otherwise, for
        all parameter groups, which lets the groups come apart at the end.

        Raises:
            ConfigError: `factor` is not a finite number >= 0.
        """
        number = to_factor(factor)
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**(fields | {name: fields[name] * number for name in self.RATES}))

    def canonical(self) -> Plateau:
        """Return the form that it shares with all that compute the same rates from the same metrics.

        Where `eps` ends its rates, the last is taken for the lowest instead, which comes to the same; unless there are
        more than `LONG_LADDER`.
        """
        *_, last = rates = list(islice(self.ladder(), LONG_LADDER + 1))
        mode = self.threshold_mode if self.threshold else "abs"
        if len(rates) > LONG_LADDER:
            return self.model_copy(update={"threshold_mode": mode})
        return self.model_copy(update={"eps": 0.0, "min_learning_rate": last, "threshold_mode": mode})
