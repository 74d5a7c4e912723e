"""Schedules that follow a cosine, and the one-cycle policy."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from unirms.scalars import Flag, Number
from unirms.schedules.base import BaseSchedule, Count, Factor, Length, Rate, bad_schedule, mix, power, quotient

if TYPE_CHECKING:
    from typing_extensions import Self

    from unirms.schedules.arrays import Functions


class Cosine(BaseSchedule):
    """``end + (initial - end) * (1 + cos(pi * t / decay_steps)) / 2``, then the end for ever.

    With `periodic` the cosine goes on instead: back up to the initial rate at t = 2 * decay_steps, and so on.

    Source: Loshchilov and Hutter (arXiv:1608.03983), equation 5. `keras.optimizers.schedules.CosineDecay` (whose
    `alpha` is end / initial) and `mindspore.nn.CosineDecayLR` hold; `torch.optim.lr_scheduler.CosineAnnealingLR` and
    `paddle.optimizer.lr.CosineAnnealingDecay` are periodic.
    """

    RATES: ClassVar[tuple[str, ...]] = ("initial_learning_rate", "end_learning_rate")

    kind: Literal["cosine"] = "cosine"
    initial_learning_rate: Rate = Field(description="rate of the first update")
    end_learning_rate: Rate = Field(default=0.0, description="rate at t = decay_steps")
    decay_steps: Length = Field(description="updates from the first rate to the end; a fraction is allowed")
    periodic: Flag = Field(default=False, description="follow the cosine back up instead of holding the end")

    def _at(self, t: Any, xp: Functions) -> Any:
        n = self.decay_steps
        # Of whole periods the remainder is exact; the cosine of a large angle would lose digits with every period.
        inside = t - quotient(t, 2 * n, xp) * (2 * n) if self.periodic else xp.minimum(t, n)
        return mix(self.initial_learning_rate, self.end_learning_rate, half_cosine(inside / n, xp), xp)


class CosineRestarts(BaseSchedule):
    """A cosine to the end in each period, then a restart from the peak: SGDR.

    Period i has ``n = first_period * period_factor ** i`` updates and starts at
    ``s = first_period * (period_factor ** i - 1) / (period_factor - 1)``, or ``i * first_period`` for a factor of 1::

        end + (initial - end) * peak_factor ** i * (1 + cos(pi * (t - s) / n)) / 2

    Source: Loshchilov and Hutter (arXiv:1608.03983), section 3; `keras.optimizers.schedules.CosineDecayRestarts`
    (`t_mul`, `m_mul`; its `alpha` is end / initial), and for whole factors `CosineAnnealingWarmRestarts` of torch and
    Paddle (`T_mult`), which have no peak factor.
    """

    RATES: ClassVar[tuple[str, ...]] = ("initial_learning_rate", "end_learning_rate")

    kind: Literal["cosine_restarts"] = "cosine_restarts"
    initial_learning_rate: Rate = Field(description="rate of the first update")
    end_learning_rate: Rate = Field(default=0.0, description="rate that every period falls towards")
    first_period: Count = Field(description="updates of the first period")
    period_factor: Annotated[Number, Field(ge=1)] = Field(
        default=1.0, description="length of a period over the one before"
    )
    peak_factor: Factor = Field(default=1.0, description="height above the end of a restart over the one before")

    @model_validator(mode="after")
    def _never_negative(self) -> Self:
        if self.peak_factor > 1 and self.end_learning_rate > self.initial_learning_rate:
            raise bad_schedule(
                f"peak_factor={self.peak_factor:g} with end_learning_rate={self.end_learning_rate:g} above "
                f"initial_learning_rate={self.initial_learning_rate:g} makes negative rates; use peak_factor <= 1"
            )
        return self

    def _at(self, t: Any, xp: Functions) -> Any:
        i = self._period(t, xp)
        length = self.first_period * xp.power(self.period_factor, i)
        factor = power(self.peak_factor, i, xp)  # may be larger than 1
        peak = self.initial_learning_rate * factor + self.end_learning_rate * (1.0 - factor)
        return mix(peak, self.end_learning_rate, half_cosine((t - self._start(i, xp)) / length, xp), xp)

    def _period(self, t: Any, xp: Functions) -> Any:
        """Return the number of the period that each t is in, from 0."""
        growth = self.period_factor - 1.0
        if growth == 0:
            return quotient(t, self.first_period, xp)
        # The logarithm may round to either side at a restart, so it only has to find this period or the one before:
        # which of the two it is, the start of the later one decides.
        i = xp.floor(xp.log1p(t / self.first_period * growth) / math.log1p(growth) - 0.5)
        return xp.where(self._start(i + 1.0, xp) <= t, i + 1.0, i)

    def _start(self, i: Any, xp: Functions) -> Any:
        """Return the updates before each period i."""
        if self.period_factor == 1:
            return i * self.first_period
        growth = self.period_factor - 1.0
        start = self.first_period * xp.expm1(i * math.log1p(growth)) / growth
        # A restart that rounding moves past its whole update would come one update late. The sum is good to
        # i * log(factor) rounding errors, 1e-14 of it; no other start comes so near to a whole number by chance.
        whole = xp.floor(start + 0.5)
        return xp.where(abs(start - whole) <= 1e-12 * start, whole, start)


class OneCycle(BaseSchedule):
    """Up from the initial rate to the maximum, down to the end, in `total_steps` updates, then the end for ever.

    The way up ends at t = pct_start * total_steps - 1, the way down at t = total_steps - 1. With `three_phase` the way
    down reaches the initial rate at t = 2 * pct_start * total_steps - 2 and the end at t = total_steps - 1. Each way
    is half a cosine or a straight line.

    Source: Smith and Topin (arXiv:1708.07120) for the policy; `torch.optim.lr_scheduler.OneCycleLR` for the phases and
    the defaults (its `div_factor` 25 and `final_div_factor` 1e4). `paddle.optimizer.lr.OneCycleLR` has the same
    phases (`phase_pct`). Both raise an error past the end.
    """

    RATES: ClassVar[tuple[str, ...]] = ("max_learning_rate", "initial_learning_rate", "end_learning_rate")

    kind: Literal["one_cycle"] = "one_cycle"
    max_learning_rate: Rate = Field(description="rate at the top")
    initial_learning_rate: Rate | None = Field(
        default=None, description="rate of the first update; left out, max_learning_rate / 25"
    )
    end_learning_rate: Rate | None = Field(
        default=None, description="rate from t = total_steps - 1 on; left out, the initial rate / 10000"
    )
    total_steps: Count = Field(description="updates of the whole cycle")
    pct_start: Annotated[Number, Field(ge=0, le=1)] = Field(default=0.3, description="part of the cycle that goes up")
    anneal_strategy: Literal["cos", "linear"] = Field(default="cos", description="half a cosine or a straight line")
    three_phase: Flag = Field(default=False, description="down to the initial rate first, as fast as up")

    @model_validator(mode="after")
    def _room_for_three(self) -> Self:
        if self.three_phase and self.pct_start > 0.5:
            raise bad_schedule(
                f"three_phase=True goes up and down in pct_start={self.pct_start:g} of the cycle each; use <= 0.5"
            )
        return self

    @property
    def is_constant(self) -> bool:
        """Whether the three rates are one."""
        first, _, end = self._ends()
        return first == self.max_learning_rate == end

    def _ends(self) -> tuple[float, float, float]:
        """Return the initial, the maximal and the end rate."""
        top = self.max_learning_rate
        first = top / 25.0 if self.initial_learning_rate is None else self.initial_learning_rate
        return first, top, first / 1e4 if self.end_learning_rate is None else self.end_learning_rate

    def _at(self, t: Any, xp: Functions) -> Any:
        first, top, end = self._ends()
        up, last = self.pct_start * self.total_steps - 1.0, self.total_steps - 1.0
        points = [0.0, up, 2.0 * up, last] if self.three_phase else [0.0, up, last]
        rates = [first, top, first, end] if self.three_phase else [first, top, end]
        t = xp.minimum(t, last)
        rate: Any = None
        for (start, stop), (begin, finish) in zip(pairwise(rates), pairwise(points), strict=True):
            done = (t - begin) / (finish - begin if finish > begin else 1.0)
            left = half_cosine(done, xp) if self.anneal_strategy == "cos" else 1.0 - done
            leg = mix(start, stop, left, xp)
            rate = leg if rate is None else xp.where(t > begin, leg, rate)
        return rate


def half_cosine(done: Any, xp: Functions) -> Any:
    """Return (1 + cos(pi * done)) / 2: 1 at 0, and 0 at 1."""
    return (1.0 + xp.cos(math.pi * done)) / 2.0
