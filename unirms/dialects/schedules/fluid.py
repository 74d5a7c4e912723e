"""PaddlePaddle 1: `paddle.fluid.dygraph`, whose objects the optimizer asks once for each update.

Read off `python/paddle/fluid/dygraph/learning_rate_scheduler.py` and run in 1.8.5. StepDecay and MultiStepDecay count
epochs, which the user tells them, and NoamDecay begins at step 1; they are left out.
"""

from __future__ import annotations

from typing import Any

from unirms.dialects.schedules.base import ScheduleClass, ScheduleClasses, renamed
from unirms.schedules import Exponential, InverseTime, NaturalExponential, Piecewise, Polynomial

_MORE: dict[str, Any] = {"fixed": {"begin": 0, "step": 1}, "ignored": ("dtype",)}
_DECAY = {
    "initial_learning_rate": "learning_rate",
    "decay_steps": "decay_steps",
    "decay_rate": "decay_rate",
    "staircase": "staircase",
}


def _write_piecewise(ours: Any) -> dict[str, Any] | None:
    if not ours.boundaries:
        return None
    # It wants its first step to be said.
    return {"boundaries": list(ours.boundaries), "values": list(ours.learning_rates), "begin": 0}


CLASSES = ScheduleClasses(
    modules=("fluid.dygraph", "paddle.fluid.dygraph"),
    rows=(
        renamed("ExponentialDecay", Exponential, _DECAY, defaults={"staircase": False}, **_MORE),
        renamed("NaturalExpDecay", NaturalExponential, _DECAY, defaults={"staircase": False}, **_MORE),
        renamed("InverseTimeDecay", InverseTime, _DECAY, defaults={"staircase": False}, **_MORE),
        renamed(
            "PolynomialDecay",
            Polynomial,
            {
                "initial_learning_rate": "learning_rate",
                "decay_steps": "decay_steps",
                "end_learning_rate": "end_learning_rate",
                "power": "power",
                "cycle": "cycle",
            },
            defaults={"end_learning_rate": 0.0001, "power": 1.0, "cycle": False},
            **_MORE,
        ),
        ScheduleClass(
            "PiecewiseDecay",
            Piecewise,
            ("boundaries", "values"),
            lambda arguments: Piecewise(
                boundaries=tuple(arguments["boundaries"]), learning_rates=tuple(arguments["values"])
            ),
            _write_piecewise,
            **_MORE,
        ),
    ),
    any_function="a subclass of paddle.fluid.dygraph.learning_rate_scheduler.LearningRateDecay",
)
