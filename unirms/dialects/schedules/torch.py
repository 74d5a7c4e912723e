"""PyTorch: `torch.optim.lr_scheduler`. A scheduler stands beside the optimizer and moves the rate that it was given.

So a class says a schedule only together with the optimizer's own rate, from which it begins: `beside(rate)` has the
rows for one. All but the restarts are recursions over the rate that a group holds.

Not here: OneCycleLR, which fails past its end; LambdaLR, which says any function, but not as data.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from unirms.dialects.calls import Name, NativeCall
from unirms.dialects.schedules.base import Arguments, ScheduleClass, ScheduleClasses, Schedulers, renamed
from unirms.schedules import (
    BaseSchedule,
    Cosine,
    CosineRestarts,
    Exponential,
    Linear,
    MultiStep,
    Piecewise,
    Plateau,
    Polynomial,
    Sequence,
    Step,
)

OPTIMIZER = Name("optimizer")
_MORE: dict[str, Any] = {"fixed": {"last_epoch": -1}, "ignored": ("verbose",), "recursive": True}
PLATEAU = {
    "mode": "mode",
    "factor": "factor",
    "patience": "patience",
    "threshold": "threshold",
    "threshold_mode": "threshold_mode",
    "cooldown": "cooldown",
    "min_learning_rate": "min_lr",
}
"""Field of a plateau -> argument, in the order of ReduceLROnPlateau; Paddle has the same."""


def plateau_defaults(words: dict[str, str]) -> dict[str, Any]:
    """Return the defaults of a class for plateaus, which are ours, by argument."""
    return {word: Plateau.model_fields[name].default for name, word in words.items()}


@lru_cache(maxsize=64)
def beside(base: float) -> ScheduleClasses:
    """Return the schedulers of an optimizer whose own rate is `base`."""

    def row(name: str, kind: Any, words: dict[str, str], **more: Any) -> ScheduleClass:
        return renamed(
            name, kind, words, **{**_MORE, **more, "says": {"initial_learning_rate": base, **more.get("says", {})}}
        )

    def whole(ours: Any) -> bool:
        return bool(ours.decay_steps == int(ours.decay_steps))

    def read_linear(arguments: Arguments) -> BaseSchedule:
        return Linear(
            initial_learning_rate=base * arguments["start_factor"],
            end_learning_rate=base * arguments["end_factor"],
            decay_steps=arguments["total_iters"],
        )

    def write_linear(ours: Any) -> dict[str, Any] | None:
        # Its factors are in (0, 1] at the start and in [0, 1] at the end.
        if not (0 < ours.initial_learning_rate <= base and ours.end_learning_rate <= base and whole(ours)):
            return None
        return {
            "start_factor": ours.initial_learning_rate / base,
            "end_factor": ours.end_learning_rate / base,
            "total_iters": int(ours.decay_steps),
        }

    def read_constant(arguments: Arguments) -> BaseSchedule:
        first = base * arguments["factor"]
        return Piecewise(boundaries=(arguments["total_iters"],), learning_rates=(first, base))

    def write_piecewise(ours: Any) -> dict[str, Any] | None:
        if len(ours.boundaries) != 1 or ours.learning_rates[1] != base or ours.learning_rates[0] > base:
            return None
        return {"factor": ours.learning_rates[0] / base, "total_iters": ours.boundaries[0]}

    def read_sequence(arguments: Arguments) -> BaseSchedule:
        parts: Any = tuple(beside(base).read(part) for part in arguments["schedulers"])
        return Sequence(schedules=parts, boundaries=tuple(arguments["milestones"]))

    def write_sequence(ours: Any) -> dict[str, Any] | None:
        parts = [_part(part, base) for part in ours.schedules]
        if None in parts or 0 in ours.boundaries:
            return None
        return {"schedulers": parts, "milestones": list(ours.boundaries)}

    return ScheduleClasses(
        modules=("torch.optim.lr_scheduler", "lr_scheduler", "optim.lr_scheduler"),
        rows=(
            row("StepLR", Step, {"step_size": "step_size", "gamma": "gamma"}, defaults={"gamma": 0.1}),
            row("MultiStepLR", MultiStep, {"milestones": "milestones", "gamma": "gamma"}, defaults={"gamma": 0.1}),
            row(
                "ExponentialLR",
                Exponential,
                {"decay_rate": "gamma"},
                says={"decay_steps": 1.0, "staircase": False},
            ),
            row(
                "PolynomialLR",
                Polynomial,
                {"decay_steps": "total_iters", "power": "power"},
                when=whole,
                says={"end_learning_rate": 0.0, "cycle": False},
                defaults={"total_iters": 5, "power": 1.0},
            ),
            row(
                "CosineAnnealingLR",
                Cosine,
                {"decay_steps": "T_max", "end_learning_rate": "eta_min"},
                when=whole,
                says={"periodic": True},
                defaults={"eta_min": 0.0},
            ),
            row(
                "CosineAnnealingWarmRestarts",
                CosineRestarts,
                {"first_period": "T_0", "period_factor": "T_mult", "end_learning_rate": "eta_min"},
                when=lambda ours: ours.period_factor == int(ours.period_factor),
                says={"peak_factor": 1.0},
                defaults={"T_mult": 1, "eta_min": 0.0},
            ),
            ScheduleClass(
                "LinearLR",
                Linear,
                ("start_factor", "end_factor", "total_iters"),
                read_linear,
                write_linear,
                defaults={"start_factor": 1.0 / 3, "end_factor": 1.0, "total_iters": 5},
                **_MORE,
            ),
            ScheduleClass(
                "ConstantLR",
                Piecewise,
                ("factor", "total_iters"),
                read_constant,
                write_piecewise,
                defaults={"factor": 1.0 / 3, "total_iters": 5},
                **_MORE,
            ),
            ScheduleClass(
                "SequentialLR", Sequence, ("schedulers", "milestones"), read_sequence, write_sequence, **_MORE
            ),
            row(
                "ReduceLROnPlateau",
                Plateau,
                {**PLATEAU, "eps": "eps"},
                defaults=plateau_defaults({**PLATEAU, "eps": "eps"}),
                fixed={},
            ),
        ),
        any_function="torch.optim.lr_scheduler.LambdaLR",
        first=(OPTIMIZER,),
    )


def _part(part: BaseSchedule, base: float) -> NativeCall | None:
    """Return the scheduler of one part; parts in parts would share the count of their updates."""
    if isinstance(part, Sequence):
        return None
    if part.is_constant and part.initial == base:  # a part that stays needs a scheduler, too
        return NativeCall("torch.optim.lr_scheduler.ConstantLR", OPTIMIZER, factor=1.0, total_iters=1)
    return beside(base).write(part)


CLASSES = Schedulers(beside, absolute=("eta_min", "min_lr", "eps"))
