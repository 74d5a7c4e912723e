"""PaddlePaddle 2 and 3: `paddle.optimizer.lr`, whose schedulers the user steps after each update.

Not here: OneCycleLR, which rises again after its end.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from unirms.dialects.calls import NativeCall
from unirms.dialects.schedules.base import Arguments, ScheduleClass, ScheduleClasses, renamed
from unirms.dialects.schedules.torch import PLATEAU, plateau_defaults
from unirms.errors import ConfigError
from unirms.schedules import (
    BaseSchedule,
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    InverseTime,
    Linear,
    MultiStep,
    NaturalExponential,
    Noam,
    Piecewise,
    Plateau,
    Polynomial,
    Sequence,
    Step,
    Warmup,
)

_BASE = {"initial_learning_rate": "learning_rate"}
_DECAY = {**_BASE, "decay_rate": "gamma"}
# `last_epoch` would begin elsewhere than at update 0; `verbose` prints.
_MORE: dict[str, Any] = {"fixed": {"last_epoch": -1}, "ignored": ("verbose",)}
_EACH_UPDATE = {"decay_steps": 1.0, "staircase": False}


def _is_whole(ours: Any) -> bool:
    return bool(ours.decay_steps == int(ours.decay_steps))


def _read_linear(arguments: Arguments) -> BaseSchedule:
    base = arguments["learning_rate"]
    return Linear(
        initial_learning_rate=base * arguments["start_factor"],
        end_learning_rate=base * arguments["end_factor"],
        decay_steps=arguments["total_steps"],
    )


def _write_linear(ours: Any) -> dict[str, Any] | None:
    # Its factors are in (0, 1] at the start and in [0, 1] at the end.
    base = max(ours.initial_learning_rate, ours.end_learning_rate)
    if ours.initial_learning_rate == 0 or not _is_whole(ours):
        return None
    return {
        "learning_rate": base,
        "total_steps": int(ours.decay_steps),
        "start_factor": ours.initial_learning_rate / base,
        "end_factor": ours.end_learning_rate / base,
    }


def _read_warmup(arguments: Arguments) -> BaseSchedule:
    inner = arguments["learning_rate"]
    after: Any = CLASSES.read(inner) if isinstance(inner, NativeCall) else inner
    if not isinstance(after, BaseSchedule):
        after = Constant(learning_rate=after)
    if isinstance(after, CosineRestarts) and after.period_factor > 1:
        raise ConfigError(
            [
                "LinearWarmup of a CosineAnnealingWarmRestarts with T_mult > 1 misses restarts, which no schedule "
                "says; state it as a schedule of kind warmup"
            ]
        )
    return Warmup(
        warmup_steps=arguments["warmup_steps"],
        start_learning_rate=arguments["start_lr"],
        end_learning_rate=None if arguments["end_lr"] == after.initial else arguments["end_lr"],
        after=after,
    )


def _write_warmup(ours: Any) -> dict[str, Any] | None:
    end = ours.after.initial if ours.end_learning_rate is None else ours.end_learning_rate
    nested = isinstance(ours.after, (Warmup, Sequence))
    if ours.overlap or nested or not ours.warmup_steps or not ours.start_learning_rate < end:
        return None
    after = ours.after.initial if ours.after.is_constant else CLASSES.write(ours.after)
    if after is None:
        return None
    return {
        "learning_rate": after,
        "warmup_steps": ours.warmup_steps,
        "start_lr": ours.start_learning_rate,
        "end_lr": end,
    }


_PLATEAU = {**PLATEAU, "eps": "epsilon"}


def _read_plateau(arguments: Arguments) -> Plateau:
    if arguments["cooldown"] != 0:
        raise ConfigError(
            [
                f"ReduceOnPlateau with cooldown={arguments['cooldown']!r} does not look at metrics in a cooldown, "
                "not even for the best, which no plateau says; leave it at 0, or state it as a plateau of unirms"
            ]
        )
    fields = {name: arguments[word] for name, word in {**_BASE, **_PLATEAU}.items()}
    return Plateau(**fields | {name: str(fields[name]).lower() for name in ("mode", "threshold_mode")})


def _write_plateau(ours: Any) -> dict[str, Any] | None:
    return None if ours.cooldown else {word: getattr(ours, name) for name, word in {**_BASE, **_PLATEAU}.items()}


CLASSES = ScheduleClasses(
    modules=("paddle.optimizer.lr",),
    rows=(
        renamed(
            "StepDecay",
            Step,
            {**_BASE, "step_size": "step_size", "gamma": "gamma"},
            when=lambda ours: ours.gamma < 1,
            defaults={"gamma": 0.1},
            **_MORE,
        ),
        renamed(
            "MultiStepDecay",
            MultiStep,
            {**_BASE, "milestones": "milestones", "gamma": "gamma"},
            when=lambda ours: ours.gamma < 1 and all(later > earlier for earlier, later in pairwise(ours.milestones)),
            defaults={"gamma": 0.1},
            **_MORE,
        ),
        renamed(
            "PiecewiseDecay",
            Piecewise,
            {"boundaries": "boundaries", "learning_rates": "values"},
            when=lambda ours: bool(ours.boundaries),
            **_MORE,
        ),
        renamed(
            "ExponentialDecay",
            Exponential,
            _DECAY,
            when=lambda ours: 0 < ours.decay_rate < 1,
            says=_EACH_UPDATE,
            **_MORE,
        ),
        renamed(
            "NaturalExpDecay",
            NaturalExponential,
            _DECAY,
            when=lambda ours: ours.decay_rate > 0,
            says=_EACH_UPDATE,
            **_MORE,
        ),
        renamed("InverseTimeDecay", InverseTime, _DECAY, says=_EACH_UPDATE, **_MORE),
        renamed(
            "PolynomialDecay",
            Polynomial,
            {
                **_BASE,
                "decay_steps": "decay_steps",
                "end_learning_rate": "end_lr",
                "power": "power",
                "cycle": "cycle",
            },
            when=_is_whole,
            defaults={"end_lr": 0.0001, "power": 1.0, "cycle": False},
            **_MORE,
        ),
        renamed(
            "NoamDecay",
            Noam,
            {"d_model": "d_model", "warmup_steps": "warmup_steps", "factor": "learning_rate"},
            says={"first_step": 0},
            defaults={"learning_rate": 1.0},
            **_MORE,
        ),
        renamed(
            "CosineAnnealingDecay",
            Cosine,
            {**_BASE, "decay_steps": "T_max", "end_learning_rate": "eta_min"},
            when=_is_whole,
            says={"periodic": True},
            defaults={"eta_min": 0},
            recursive=True,
            **_MORE,
        ),
        ScheduleClass(
            "LinearLR",
            Linear,
            ("learning_rate", "total_steps", "start_factor", "end_factor"),
            _read_linear,
            _write_linear,
            defaults={"start_factor": 1.0 / 3, "end_factor": 1.0},
            recursive=True,
            **_MORE,
        ),
        renamed(
            "CosineAnnealingWarmRestarts",
            CosineRestarts,
            {**_BASE, "first_period": "T_0", "period_factor": "T_mult", "end_learning_rate": "eta_min"},
            when=lambda ours: ours.period_factor == int(ours.period_factor),
            says={"peak_factor": 1.0},
            defaults={"T_mult": 1, "eta_min": 0},
            recursive=True,
            **_MORE,
        ),
        ScheduleClass(
            "LinearWarmup",
            Warmup,
            ("learning_rate", "warmup_steps", "start_lr", "end_lr"),
            _read_warmup,
            _write_warmup,
            **_MORE,
        ),
        ScheduleClass(
            "ReduceOnPlateau",
            Plateau,
            ("learning_rate", *_PLATEAU.values()),
            _read_plateau,
            _write_plateau,
            defaults=plateau_defaults(_PLATEAU),
            ignored=("verbose",),
        ),
    ),
    any_function="paddle.optimizer.lr.LambdaDecay",
)
