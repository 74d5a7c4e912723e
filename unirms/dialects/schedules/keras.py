"""Keras 3 and `tf_keras`: `keras.optimizers.schedules`. The classes compute in Keras's float type, normally float32.

Not here: CosineDecayRestarts, which in float32 misses some restarts (the one at t = 21 of first_decay_steps=10,
t_mul=1.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from unirms.dialects.schedules.base import Arguments, ScheduleClass, ScheduleClasses, Schedulers, as_argument, renamed
from unirms.errors import ConfigError, as_given
from unirms.schedules import (
    BaseSchedule,
    Cosine,
    Exponential,
    InverseTime,
    Linear,
    Piecewise,
    Plateau,
    Polynomial,
    Warmup,
)

MANY: Final = 100
"""Boundaries up to which PiecewiseConstantDecay is used: it has some operations for each."""

_NAME = ("name",)
_ENDS = {"initial_learning_rate": "initial_learning_rate", "decay_steps": "decay_steps"}
_DECAY = {**_ENDS, "decay_rate": "decay_rate", "staircase": "staircase"}


def _exponential_is_precise(ours: Any) -> bool:
    # In float32 the exponent p = t / decay_steps has a relative error of 6e-8, and the rate one of -p log(decay_rate)
    # times that. Of the first rate that is at most 6e-8 for any decay rate below 1: x e^-x < 1. The power adds the
    # rounding of the decay rate itself, p times 6e-8, which is 1e-6 of the first rate at most for rates up to 0.978.
    return _has_no_stairs(ours) and bool(ours.decay_rate <= 0.978)


def _has_no_stairs(ours: Any) -> bool:
    # The quotient t / decay_steps becomes a product with the reciprocal in compiled steps, which for 41 and many
    # other lengths is less than 1 at t = decay_steps: a staircase comes one update late.
    return not ours.staircase


def _polynomial_is_precise(ours: Any) -> bool:
    # With a power below 1 the rounding of 1 - t / n grows without bound near the end (at t = n - 1 by n**(1 - power)),
    # and with a power above 1 by that power. Cycles have the quotient of a staircase.
    return not ours.cycle and bool(1 <= ours.power <= 8)


def _cosine_is_precise(ours: Any) -> bool:
    return bool(ours.initial_learning_rate >= ours.end_learning_rate)


def _read_polynomial(arguments: Arguments) -> BaseSchedule:
    ends = {"initial_learning_rate": arguments["initial_learning_rate"]}
    ends |= {"end_learning_rate": arguments["end_learning_rate"], "decay_steps": arguments["decay_steps"]}
    if arguments["power"] == 1 and not arguments["cycle"]:
        return Linear(**ends)
    return Polynomial(**ends, power=arguments["power"], cycle=arguments["cycle"])


def _polynomial(kind: type[BaseSchedule], precise: Callable[[Any], bool]) -> ScheduleClass:
    order = ("initial_learning_rate", "decay_steps", "end_learning_rate", "power", "cycle")

    def write(ours: Any) -> dict[str, Any]:
        return {name: as_argument(getattr(ours, name), name) for name in order if hasattr(ours, name)}

    defaults = {"end_learning_rate": 0.0001, "power": 1.0, "cycle": False}
    return ScheduleClass(
        "PolynomialDecay", kind, order, _read_polynomial, write, defaults=defaults, ignored=_NAME, precise=precise
    )


def _read_piecewise(arguments: Arguments) -> BaseSchedule:
    boundaries = tuple(boundary + 1 for boundary in arguments["boundaries"])
    return Piecewise(boundaries=boundaries, learning_rates=tuple(arguments["values"]))


def _write_piecewise(ours: Any) -> dict[str, Any] | None:
    # Keras changes after its boundary, and unirms at it.
    if not ours.boundaries:
        return None
    return {"boundaries": [b - 1 for b in ours.boundaries], "values": list(ours.learning_rates)}


def _read_cosine(arguments: Arguments) -> BaseSchedule:
    start, target = arguments["initial_learning_rate"], arguments["warmup_target"]
    first = start if target is None else target
    cosine = Cosine(
        initial_learning_rate=first, end_learning_rate=first * arguments["alpha"], decay_steps=arguments["decay_steps"]
    )
    if target is None:  # Keras ignores warmup_steps then
        return cosine
    return Warmup(warmup_steps=arguments["warmup_steps"], start_learning_rate=start, after=cosine)


def _write_cosine(ours: Any) -> dict[str, Any] | None:
    if ours.periodic or ours.initial_learning_rate == 0:
        return None
    return {
        "initial_learning_rate": ours.initial_learning_rate,
        "decay_steps": as_argument(ours.decay_steps, "decay_steps"),
        "alpha": ours.end_learning_rate / ours.initial_learning_rate,
    }


def _write_warmup(ours: Any) -> dict[str, Any] | None:
    after = _write_cosine(ours.after) if isinstance(ours.after, Cosine) else None
    if after is None or not ours.warmup_steps:
        return None
    return after | {
        "initial_learning_rate": ours.start_learning_rate,
        "warmup_target": ours.after.initial_learning_rate,
        "warmup_steps": ours.warmup_steps,
    }


_COSINE = ScheduleClass(
    "CosineDecay",
    Cosine,
    ("initial_learning_rate", "decay_steps", "alpha", "warmup_target", "warmup_steps"),
    _read_cosine,
    _write_cosine,
    defaults={"alpha": 0.0, "warmup_target": None, "warmup_steps": 0},
    precise=_cosine_is_precise,
    ignored=_NAME,
    order=("initial_learning_rate", "decay_steps", "alpha", "name", "warmup_target", "warmup_steps"),
)
_STAIRS = {"staircase": False}

CLASSES = ScheduleClasses(
    modules=(
        "keras.optimizers.schedules",
        "keras.src.optimizers.schedules.learning_rate_schedule",
        "tf.keras.optimizers.schedules",
        "tensorflow.keras.optimizers.schedules",
        "tf_keras.optimizers.schedules",
    ),
    rows=(
        renamed(
            "ExponentialDecay", Exponential, _DECAY, defaults=_STAIRS, ignored=_NAME, precise=_exponential_is_precise
        ),
        renamed("InverseTimeDecay", InverseTime, _DECAY, defaults=_STAIRS, ignored=_NAME, precise=_has_no_stairs),
        ScheduleClass(
            "PiecewiseConstantDecay",
            Piecewise,
            ("boundaries", "values"),
            _read_piecewise,
            _write_piecewise,
            precise=lambda ours: len(ours.boundaries) <= MANY,
            ignored=_NAME,
        ),
        _polynomial(Polynomial, _polynomial_is_precise),
        _polynomial(Linear, lambda ours: True),
        _COSINE,
        replace(
            _COSINE,
            kind=Warmup,
            write=_write_warmup,
            precise=lambda ours: _cosine_is_precise(ours.after),
        ),
    ),
    counts_gradients=True,
    any_function="a subclass of keras.optimizers.schedules.LearningRateSchedule",
)
LEGACY = replace(
    CLASSES,
    modules=("tf_keras.optimizers.schedules", *CLASSES.modules[:4]),
    any_function="a subclass of tf_keras.optimizers.schedules.LearningRateSchedule",
)


MONITOR: Final = {"min": "val_loss", "max": "val_accuracy"}
"""What is likely to be meant, by the mode: a config does not name its metric."""


def plateaus(*modules: str) -> Schedulers:
    """Return the callback ReduceLROnPlateau, which lives in `modules`, beside an optimizer.

    It counts the first metric of those without an improvement, and the last of a cooldown, where unirms does not: its
    patience and its cooldown are one more than ours. It has no threshold relative to the best metric.
    """
    order = ("monitor", "factor", "patience", "verbose", "mode", "min_delta", "cooldown", "min_lr")
    defaults = {"monitor": "val_loss", "factor": 0.1, "patience": 10, "mode": "auto", "min_delta": 1e-4}

    def beside(base: float) -> ScheduleClasses:
        def read(arguments: Arguments) -> Plateau:
            return Plateau(
                initial_learning_rate=base,
                factor=arguments["factor"],
                patience=max(arguments["patience"], 1) - 1,
                threshold=abs(arguments["min_delta"]),
                threshold_mode="abs",
                mode=_mode(arguments),
                cooldown=max(arguments["cooldown"], 1) - 1,
                min_learning_rate=arguments["min_lr"],
                eps=0.0,
            )

        def write(ours: Any) -> dict[str, Any] | None:
            if ours.initial != base or ours.threshold_mode == "rel" or ours.eps:
                return None
            return {
                "monitor": MONITOR[ours.mode],
                "factor": ours.factor,
                "patience": ours.patience + 1,
                "mode": ours.mode,
                "min_delta": ours.threshold,
                "cooldown": ours.cooldown + 1,
                "min_lr": ours.min_learning_rate,
            }

        row = ScheduleClass(
            "ReduceLROnPlateau",
            Plateau,
            tuple(name for name in order if name != "verbose"),
            read,
            write,
            defaults={**defaults, "cooldown": 0, "min_lr": 0.0},
            ignored=("verbose",),
            order=order,
        )
        return ScheduleClasses(modules=modules, rows=(row,), any_function="a callback of your own")

    return Schedulers(beside)


def _mode(arguments: Arguments) -> Any:
    """Return whether lower or higher metrics are better; "auto" goes by the metric, of which only the loss is known."""
    if arguments["mode"] == "auto":
        if str(arguments["monitor"]).removeprefix("val_") == "loss":
            return "min"
        raise ConfigError(
            [f"mode='auto' of monitor={as_given(arguments['monitor'])} depends on the model; give mode='min' or 'max'"]
        )
    return arguments["mode"]


PLATEAUS = plateaus("keras.callbacks", "tf.keras.callbacks", "tensorflow.keras.callbacks", "tf_keras.callbacks")
LEGACY_PLATEAUS = plateaus("tf_keras.callbacks", "keras.callbacks", "tf.keras.callbacks", "tensorflow.keras.callbacks")
