"""Learning-rate schedules as data: each kind is a frozen model and one pure function of the completed updates.

`Schedule` is the union of all kinds, told apart by the field `kind`. `schedule.value(t)` is the rate of the update
before which t updates were completed (0 at the first), in float64, for any t >= 0: closed forms, right far past the
end. `schedule.values(ts)` is the same for an array. `Plateau` stands beside them, as its rate depends on metrics.
Models go to JSON and YAML and back as any pydantic model does.
"""

from __future__ import annotations

from unirms.schedules.base import BaseSchedule
from unirms.schedules.compositions import Noam, Sampled, Schedule, Sequence, Table, Warmup
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
from unirms.schedules.plateau import Plateau

MODELS: tuple[type[BaseSchedule], ...] = (
    Constant,
    Step,
    MultiStep,
    Piecewise,
    Exponential,
    NaturalExponential,
    InverseTime,
    Polynomial,
    Linear,
    Cosine,
    CosineRestarts,
    OneCycle,
    Noam,
    Warmup,
    Sequence,
    Sampled,
    Table,
)
"""The kinds of schedules."""
KINDS: tuple[str, ...] = tuple(model.model_fields["kind"].default for model in MODELS)
"""The values of their field `kind`."""
AnySchedule = BaseSchedule | Plateau
"""What may stand in the place of a learning rate that is a number."""

__all__ = [
    "KINDS",
    "MODELS",
    "AnySchedule",
    "BaseSchedule",
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Exponential",
    "InverseTime",
    "Linear",
    "MultiStep",
    "NaturalExponential",
    "Noam",
    "OneCycle",
    "Piecewise",
    "Plateau",
    "Polynomial",
    "Sampled",
    "Schedule",
    "Sequence",
    "Step",
    "Table",
    "Warmup",
]
