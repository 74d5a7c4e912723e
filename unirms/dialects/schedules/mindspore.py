"""MindSpore: the cells of `mindspore.nn`, which take floats > 0 and whole lengths, and compute in float32.

Not here: the lists of `mindspore.nn` (`piecewise_constant_lr` and others), which fail past their end.
"""

from __future__ import annotations

from typing import Any

from unirms.dialects.schedules.base import Arguments, ScheduleClass, ScheduleClasses, renamed
from unirms.schedules import (
    BaseSchedule,
    Constant,
    Cosine,
    Exponential,
    InverseTime,
    NaturalExponential,
    Polynomial,
    Warmup,
)

_DECAY = {
    "initial_learning_rate": "learning_rate",
    "decay_rate": "decay_rate",
    "decay_steps": "decay_steps",
    "staircase": "is_stair",
}
_STAIRS = {"is_stair": False}


def _decays(ours: Any) -> bool:
    return bool(ours.initial_learning_rate > 0 and ours.decay_rate > 0) and _is_whole(ours)


def _is_whole(ours: Any) -> bool:
    return bool(ours.decay_steps == int(ours.decay_steps))


def _read_natural(arguments: Arguments) -> BaseSchedule:
    # The cell does not divide by its decay_steps.
    stairs, rate, steps = (arguments[name] for name in ("is_stair", "decay_rate", "decay_steps"))
    rate, steps = (rate * steps, steps) if stairs else (rate, 1)
    return NaturalExponential(
        initial_learning_rate=arguments["learning_rate"], decay_rate=rate, decay_steps=steps, staircase=stairs
    )


def _write_natural(ours: Any) -> dict[str, Any] | None:
    if not _decays(ours):
        return None
    steps = int(ours.decay_steps)
    rate = ours.decay_rate / steps
    return {
        "learning_rate": ours.initial_learning_rate,
        "decay_rate": rate,
        "decay_steps": steps,
        "is_stair": ours.staircase,
    }


def _write_warmup(ours: Any) -> dict[str, Any] | None:
    if not isinstance(ours.after, Constant) or ours.start_learning_rate != 0 or not ours.warmup_steps:
        return None
    return {"learning_rate": ours.after.learning_rate, "warmup_steps": ours.warmup_steps}


CLASSES = ScheduleClasses(
    modules=("mindspore.nn", "nn", "mindspore.nn.learning_rate_schedule"),
    rows=(
        renamed("ExponentialDecayLR", Exponential, _DECAY, when=_decays, defaults=_STAIRS),
        ScheduleClass(
            "NaturalExpDecayLR",
            NaturalExponential,
            tuple(_DECAY.values()),
            _read_natural,
            _write_natural,
            defaults=_STAIRS,
        ),
        renamed("InverseDecayLR", InverseTime, _DECAY, when=_decays, defaults=_STAIRS),
        renamed(
            "CosineDecayLR",
            Cosine,
            {"end_learning_rate": "min_lr", "initial_learning_rate": "max_lr", "decay_steps": "decay_steps"},
            when=lambda ours: ours.initial_learning_rate > ours.end_learning_rate and _is_whole(ours),
            says={"periodic": False},
        ),
        renamed(
            "PolynomialDecayLR",
            Polynomial,
            {
                "initial_learning_rate": "learning_rate",
                "end_learning_rate": "end_learning_rate",
                "decay_steps": "decay_steps",
                "power": "power",
                "cycle": "update_decay_steps",
            },
            when=lambda ours: ours.initial_learning_rate > 0 and _is_whole(ours),
            defaults={"update_decay_steps": False},
        ),
        ScheduleClass(
            "WarmUpLR",
            Warmup,
            ("learning_rate", "warmup_steps"),
            lambda arguments: Warmup(
                warmup_steps=arguments["warmup_steps"], after=Constant(learning_rate=arguments["learning_rate"])
            ),
            _write_warmup,
        ),
    ),
    any_function="a subclass of mindspore.nn.learning_rate_schedule.LearningRateSchedule",
)
