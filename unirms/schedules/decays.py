"""Schedules that stay, change at given updates, or decay by a simple formula."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from unirms.scalars import Flag, Number
from unirms.schedules.base import (
    BaseSchedule,
    Boundaries,
    Count,
    Factor,
    Length,
    Rate,
    Rates,
    bad_schedule,
    check_increasing,
    check_lengths,
    mix,
    power,
    progress,
    quotient,
)

if TYPE_CHECKING:
    from typing_extensions import Self

    from unirms.schedules.arrays import Functions


class Constant(BaseSchedule):
    """The same rate at every update."""

    RATES: ClassVar[tuple[str, ...]] = ("learning_rate",)

    kind: Literal["constant"] = "constant"
    learning_rate: Rate = Field(description="rate of every update")

    def _at(self, t: Any, xp: Functions) -> Any:
        return t * 0.0 + self.learning_rate


class Step(BaseSchedule):
    """``initial_learning_rate * gamma ** floor(t / step_size)``.

    Source: `torch.optim.lr_scheduler.StepLR`, `paddle.optimizer.lr.StepDecay`. The same numbers as `Exponential` with
    a staircase, under the names of those two.
    """

    RATES: ClassVar[tuple[str, ...]] = ("initial_learning_rate",)

    kind: Literal["step"] = "step"
    initial_learning_rate: Rate = Field(description="rate of the first `step_size` updates")
    step_size: Count = Field(description="updates from one change to the next")
    gamma: Factor = Field(default=0.1, description="factor of each change")

    @property
    def is_constant(self) -> bool:
        """Whether the factor is 1."""
        return self.gamma == 1

    def _at(self, t: Any, xp: Functions) -> Any:
        return self.initial_learning_rate * power(self.gamma, quotient(t, self.step_size, xp), xp)


class MultiStep(BaseSchedule):
    """``initial_learning_rate * gamma ** (number of milestones <= t)``: a milestone counts at t = milestone itself.

    A milestone that stands twice counts twice. Source: `torch.optim.lr_scheduler.MultiStepLR`,
    `paddle.optimizer.lr.MultiStepDecay`.
    """

    RATES: ClassVar[tuple[str, ...]] = ("initial_learning_rate",)

    kind: Literal["multi_step"] = "multi_step"
    initial_learning_rate: Rate = Field(description="rate before the first milestone")
    milestones: Boundaries = Field(description="updates `t` at which the rate is multiplied by `gamma`, in order")
    gamma: Factor = Field(default=0.1, description="factor of each change")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if list(self.milestones) != sorted(self.milestones):
            raise bad_schedule(f"milestones={list(self.milestones)} must be in order; write {sorted(self.milestones)}")
        return self

    @property
    def is_constant(self) -> bool:
        """Whether there is no milestone, or the factor is 1."""
        return self.gamma == 1 or not self.milestones

    def _at(self, t: Any, xp: Functions) -> Any:
        return self.initial_learning_rate * power(self.gamma, xp.reached(self.milestones, t), xp)


class Piecewise(BaseSchedule):
    """``learning_rates[number of boundaries <= t]``: the rate changes AT t = boundary.

    Source: `paddle.optimizer.lr.PiecewiseDecay`, `mindspore.nn.piecewise_constant_lr` (whose last milestone is the
    length of the list). `keras.optimizers.schedules.PiecewiseConstantDecay` changes one update later (`step <=
    boundary` still has the old rate): its boundary is this one minus 1.
    """

    RATES: ClassVar[tuple[str, ...]] = ("learning_rates",)

    kind: Literal["piecewise"] = "piecewise"
    boundaries: Boundaries = Field(description="updates `t` that are the first with the next rate")
    learning_rates: Rates = Field(description="the rates, one more than boundaries")

    @model_validator(mode="after")
    def _fit(self) -> Self:
        check_lengths("learning_rates", self.boundaries, self.learning_rates)
        check_increasing("boundaries", self.boundaries)
        return self

    def _at(self, t: Any, xp: Functions) -> Any:
        return xp.take(self.learning_rates, xp.reached(self.boundaries, t))


class Exponential(BaseSchedule):
    """``initial_learning_rate * decay_rate ** p`` with ``p = t / decay_steps``, rounded down for a staircase.

    A `decay_rate` above 1 grows without bound. Source: `keras.optimizers.schedules.ExponentialDecay`; with
    `decay_steps=1`, `torch.optim.lr_scheduler.ExponentialLR` and `paddle.optimizer.lr.ExponentialDecay`.
    """

    RATES: ClassVar[tuple[str, ...]] = ("initial_learning_rate",)

    kind: Literal["exponential"] = "exponential"
    initial_learning_rate: Rate = Field(description="rate of the first update")
    decay_rate: Factor = Field(description="factor of `decay_steps` updates")
    decay_steps: Length = Field(default=1.0, description="updates that the decay rate is for; a fraction is allowed")
    staircase: Flag = Field(default=False, description="change every `decay_steps` updates only")

    @property
    def is_constant(self) -> bool:
        """Whether the decay rate is 1."""
        return self.decay_rate == 1

    def _at(self, t: Any, xp: Functions) -> Any:
        done = progress(t, self.decay_steps, self.staircase, xp)
        return self.initial_learning_rate * power(self.decay_rate, done, xp)


class NaturalExponential(BaseSchedule):
    """``initial_learning_rate * exp(-decay_rate * p)`` with ``p = t / decay_steps``, rounded down for a staircase.

    Source: `tf.compat.v1.train.natural_exp_decay`; with `decay_steps=1`, `paddle.optimizer.lr.NaturalExpDecay`.
    `mindspore.nn.NaturalExpDecayLR` does not divide by its `decay_steps`, unlike its documentation: its exponent is
    ``decay_rate * t``, or ``decay_rate * decay_steps * floor(t / decay_steps)`` for a staircase.
    """

    RATES: ClassVar[tuple[str, ...]] = ("initial_learning_rate",)

    kind: Literal["natural_exponential"] = "natural_exponential"
    initial_learning_rate: Rate = Field(description="rate of the first update")
    decay_rate: Factor = Field(description="exponent of `decay_steps` updates")
    decay_steps: Length = Field(default=1.0, description="updates that the decay rate is for; a fraction is allowed")
    staircase: Flag = Field(default=False, description="change every `decay_steps` updates only")

    @property
    def is_constant(self) -> bool:
        """Whether the decay rate is 0."""
        return self.decay_rate == 0

    def _at(self, t: Any, xp: Functions) -> Any:
        return self.initial_learning_rate * xp.exp(-self.decay_rate * progress(t, self.decay_steps, self.staircase, xp))


class InverseTime(BaseSchedule):
    """``initial_learning_rate / (1 + decay_rate * p)`` with ``p = t / decay_steps``, rounded down for a staircase.

    Source: `keras.optimizers.schedules.InverseTimeDecay`, `mindspore.nn.InverseDecayLR`; with `decay_steps=1`,
    `paddle.optimizer.lr.InverseTimeDecay` and the `decay` argument of the optimizers of Keras before 2.11.
    """

    RATES: ClassVar[tuple[str, ...]] = ("initial_learning_rate",)

    kind: Literal["inverse_time"] = "inverse_time"
    initial_learning_rate: Rate = Field(description="rate of the first update")
    decay_rate: Factor = Field(description="what `decay_steps` updates add to the divisor")
    decay_steps: Length = Field(default=1.0, description="updates that the decay rate is for; a fraction is allowed")
    staircase: Flag = Field(default=False, description="change every `decay_steps` updates only")

    @property
    def is_constant(self) -> bool:
        """Whether the decay rate is 0."""
        return self.decay_rate == 0

    def _at(self, t: Any, xp: Functions) -> Any:
        return self.initial_learning_rate / (1.0 + self.decay_rate * progress(t, self.decay_steps, self.staircase, xp))


class Polynomial(BaseSchedule):
    """``end + (initial - end) * (1 - t / n) ** power`` with ``n = decay_steps``, then the end for ever.

    With `cycle` the decay starts again over a longer n instead, the next multiple of `decay_steps` that t has not
    passed: ``n = decay_steps * max(1, ceil(t / decay_steps))``.

    Source: `keras.optimizers.schedules.PolynomialDecay`, `paddle.optimizer.lr.PolynomialDecay`,
    `mindspore.nn.PolynomialDecayLR` (there `update_decay_steps`); with an end of 0,
    `torch.optim.lr_scheduler.PolynomialLR`.
    """

    RATES: ClassVar[tuple[str, ...]] = ("initial_learning_rate", "end_learning_rate")

    kind: Literal["polynomial"] = "polynomial"
    initial_learning_rate: Rate = Field(description="rate of the first update")
    end_learning_rate: Rate = Field(default=0.0, description="rate from t = decay_steps on")
    decay_steps: Length = Field(description="updates from the first rate to the end; a fraction is allowed")
    power: Annotated[Number, Field(gt=0)] = Field(default=1.0, description="exponent; 1 is a straight line")
    cycle: Flag = Field(default=False, description="start again over the next multiple of `decay_steps`")

    def _at(self, t: Any, xp: Functions) -> Any:
        steps: Any = self.decay_steps
        if self.cycle:
            passed = quotient(t, self.decay_steps, xp)
            rounds = xp.where(passed * self.decay_steps < t, passed + 1.0, passed)
            steps = self.decay_steps * xp.maximum(rounds, 1.0)
        # Of a fraction like 2.4, the rounded multiple may be less than t by a rounding error.
        left = xp.maximum(steps - t, 0.0) / steps
        return mix(self.initial_learning_rate, self.end_learning_rate, xp.power(left, self.power), xp)


class Linear(BaseSchedule):
    """``initial + (end - initial) * t / decay_steps``, then the end for ever; it may rise as well as fall.

    Source: `torch.optim.lr_scheduler.LinearLR` and `paddle.optimizer.lr.LinearLR`, whose factors times their base
    rate are the two rates here; a `Polynomial` of power 1.
    """

    RATES: ClassVar[tuple[str, ...]] = ("initial_learning_rate", "end_learning_rate")

    kind: Literal["linear"] = "linear"
    initial_learning_rate: Rate = Field(description="rate of the first update")
    end_learning_rate: Rate = Field(default=0.0, description="rate from t = decay_steps on")
    decay_steps: Length = Field(description="updates from the first rate to the end; a fraction is allowed")

    def _at(self, t: Any, xp: Functions) -> Any:
        left = xp.maximum(self.decay_steps - t, 0.0) / self.decay_steps
        return mix(self.initial_learning_rate, self.end_learning_rate, left, xp)
