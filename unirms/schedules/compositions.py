"""Schedules made of other schedules or of plain numbers, and `Schedule`, the union of all kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from unirms.scalars import AsTuple, Flag
from unirms.schedules.base import (
    BaseSchedule,
    Boundaries,
    Count,
    Rate,
    Rates,
    Updates,
    bad_schedule,
    check_increasing,
    check_lengths,
    mix,
)
from unirms.schedules.cosines import Cosine, CosineRestarts, OneCycle
from unirms.schedules.decays import (
    Constant,
    Exponential,
    InverseTime,
    Linear,
    MultiStep,
    NaturalExponential,
    Piecewise,
    Polynomial,
    Step,
)

if TYPE_CHECKING:
    from typing_extensions import Self

    from unirms.schedules.arrays import Functions


class Noam(BaseSchedule):
    """``factor * d_model ** -0.5 * min(s ** -0.5, s * warmup_steps ** -1.5)`` with ``s = t + first_step``.

    Source: Vaswani et al. (arXiv:1706.03762), section 5.3, where the first update is step 1.
    `paddle.optimizer.lr.NoamDecay` calls it step 0, so that its first rate is 0: `first_step=0`.
    """

    RATES: ClassVar[tuple[str, ...]] = ("factor",)

    kind: Literal["noam"] = "noam"
    factor: Rate = Field(default=1.0, description="factor of all rates")
    d_model: Count = Field(description="width of the model")
    warmup_steps: Count = Field(description="step of the highest rate")
    first_step: Updates = Field(default=1, description="number of the first update")

    @property
    def is_constant(self) -> bool:
        """Whether all rates are 0."""
        return self.factor == 0

    def _at(self, t: Any, xp: Functions) -> Any:
        s = t + self.first_step
        # Step 0 has the rate 0 either way; counting it as 1 keeps its root away from 1 / 0.
        rise, fall = s * self.warmup_steps**-1.5, 1.0 / xp.sqrt(xp.maximum(s, 1.0))
        return self.factor * self.d_model**-0.5 * xp.minimum(rise, fall)


class Warmup(BaseSchedule):
    """``start + (end - start) * t / warmup_steps`` for t < warmup_steps, then the schedule `after`.

    The end of the ramp is the first rate of `after` unless it is given. `after` counts from its own start, the update
    after the warmup; with `overlap` it counts from update 0, so that the warmup hides its first updates.

    Source: Goyal et al. (arXiv:1706.02677), section 2.2; `paddle.optimizer.lr.LinearWarmup`,
    `keras.optimizers.schedules.CosineDecay` with `warmup_target`, and, before a constant, `mindspore.nn.WarmUpLR`.
    The training code of EfficientNet (github.com/tensorflow/tpu, `efficientnet/utils.py`) overlaps.
    """

    RATES: ClassVar[tuple[str, ...]] = ("start_learning_rate", "end_learning_rate", "after")

    kind: Literal["warmup"] = "warmup"
    warmup_steps: Updates = Field(description="updates of the ramp; 0 means none")
    start_learning_rate: Rate = Field(default=0.0, description="rate of the first update")
    end_learning_rate: Rate | None = Field(
        default=None, description="rate that the ramp ends at; left out, the first rate of `after`"
    )
    after: Schedule = Field(description="schedule of the updates from t = warmup_steps on")
    overlap: Flag = Field(default=False, description="`after` counts from update 0 instead of from its own start")

    @property
    def is_constant(self) -> bool:
        """Whether `after` is constant, and the ramp has its rate or no updates."""
        ends = {self.start_learning_rate, self._end()} if self.warmup_steps else set()
        return self.after.is_constant and ends <= {self.after.initial}

    def _end(self) -> float:
        return self.after.initial if self.end_learning_rate is None else self.end_learning_rate

    def _at(self, t: Any, xp: Functions) -> Any:
        steps = self.warmup_steps
        ramp = mix(self.start_learning_rate, self._end(), xp.maximum(steps - t, 0.0) / max(steps, 1), xp)
        after = self.after._at(t if self.overlap else xp.maximum(t - steps, 0.0), xp)
        return xp.where(t < steps, ramp, after)


class Sequence(BaseSchedule):
    """One schedule after the other; each counts from its own start, and the next one begins AT t = boundary.

    Source: `torch.optim.lr_scheduler.SequentialLR`.
    """

    RATES: ClassVar[tuple[str, ...]] = ("schedules",)

    kind: Literal["sequence"] = "sequence"
    schedules: Annotated[tuple[Schedule, ...], AsTuple] = Field(description="the schedules, in order")
    boundaries: Boundaries = Field(description="updates `t` that are the first of the next schedule")

    @model_validator(mode="after")
    def _fit(self) -> Self:
        check_lengths("schedules", self.boundaries, self.schedules)
        check_increasing("boundaries", self.boundaries)
        return self

    @property
    def is_constant(self) -> bool:
        """Whether all parts are constant with one rate."""
        return all(part.is_constant for part in self.schedules) and len({part.initial for part in self.schedules}) == 1

    def _at(self, t: Any, xp: Functions) -> Any:
        rate = self.schedules[0]._at(t, xp)
        for start, part in zip(self.boundaries, self.schedules[1:], strict=True):
            rate = xp.where(t < start, rate, part._at(xp.maximum(t - start, 0.0), xp))
        return rate


class Sampled(BaseSchedule):
    """``schedule.value(every * t + offset)``: a schedule that counts something else than updates.

    With gradient accumulation, Keras asks its schedules after each of the `every` gradients of an update, and the
    update takes the answer of the last: an offset of ``every - 1``.
    """

    RATES: ClassVar[tuple[str, ...]] = ("schedule",)

    kind: Literal["sampled"] = "sampled"
    schedule: Schedule = Field(description="the schedule that is asked")
    every: Count = Field(description="what it counts, for each update")
    offset: Updates = Field(default=0, description="what it has counted before the first update")

    @classmethod
    def last_of(cls, schedule: Any, gradients: int) -> Self:
        """Return a schedule that is asked after every gradient, for updates of that many gradients each."""
        return cls(schedule=schedule, every=gradients, offset=gradients - 1)

    def asked_per_gradient(self, gradients: int) -> Any:
        """Return the schedule that is asked after every gradient of that many to an update, None if this is no such.

        It undoes `last_of`.
        """
        return self.schedule if (self.every, self.offset) == (gradients, gradients - 1) else None

    @property
    def is_constant(self) -> bool:
        """Whether the schedule is."""
        return self.schedule.is_constant

    def _at(self, t: Any, xp: Functions) -> Any:
        return self.schedule._at(t * float(self.every) + float(self.offset), xp)


class Table(BaseSchedule):
    """``learning_rates[t]``, and the last one for ever.

    Source: the lists of `mindspore.nn` ("dynamic learning rate"), which raise an error past the end.
    """

    RATES: ClassVar[tuple[str, ...]] = ("learning_rates",)

    kind: Literal["table"] = "table"
    learning_rates: Rates = Field(description="rate of each update; the last one holds")

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.learning_rates:
            raise bad_schedule("learning_rates=[] has no rate; give at least one")
        return self

    def _at(self, t: Any, xp: Functions) -> Any:
        return xp.take(self.learning_rates, xp.minimum(t, len(self.learning_rates) - 1.0))


Schedule = Annotated[
    Constant
    | Step
    | MultiStep
    | Piecewise
    | Exponential
    | NaturalExponential
    | InverseTime
    | Polynomial
    | Linear
    | Cosine
    | CosineRestarts
    | OneCycle
    | Noam
    | Warmup
    | Sequence
    | Sampled
    | Table,
    Field(discriminator="kind"),
]
