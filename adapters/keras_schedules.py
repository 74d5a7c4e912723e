"""Learning-rate schedules in Keras: `UniRMSSchedule`, and which of Keras's own classes are one of ours.

Keras calls a schedule with the number of completed updates, inside the compiled step. Its own classes compute in its
float type, normally float32; ours computes in float64 whatever that is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.optimizers import schedules as native
from pydantic import ValidationError

from unirms.config import RMSPropConfig
from unirms.errors import ConfigError, UnsupportedError
from unirms.schedules import (
    BaseSchedule,
    Cosine,
    Exponential,
    InverseTime,
    Linear,
    Piecewise,
    Polynomial,
    Warmup,
)

# The classes compute with the step in float32, which holds whole numbers up to here.
_WHOLE_IN_FLOAT32 = 2**24
# PiecewiseConstantDecay has some operations for each of its boundaries.
_MANY = 100


@keras.saving.register_keras_serializable(package="unirms")
class UniRMSSchedule(native.LearningRateSchedule):
    """A schedule of `unirms.schedules` as a `keras.optimizers.schedules.LearningRateSchedule`, for any optimizer.

    Called with the number of completed updates, it returns the rate of the next one as a scalar tensor of float64:
    eagerly, in a `tf.function` and compiled by XLA.

    Args:
        schedule: a schedule, or its plain data.

    Raises:
        ConfigError: `schedule` is not one.
    """

    def __init__(self, schedule: BaseSchedule | Mapping[str, Any]) -> None:
        rate = RMSPropConfig.model_validate({"learning_rate": schedule}).learning_rate
        if not isinstance(rate, BaseSchedule):
            raise ConfigError([f"schedule={schedule!r} is not a schedule; give one of unirms.schedules, or a mapping"])
        self.schedule = rate
        self._functions = _TensorFlowFunctions()

    def __call__(self, step: Any) -> Any:
        """Return the rate of the update before which `step` updates were completed."""
        return self.schedule.formula(tf.cast(keras.ops.convert_to_tensor(step), tf.float64), self._functions)

    def get_config(self) -> dict[str, Any]:
        """Return plain data, from which `from_config` makes the same schedule."""
        return {"schedule": self.schedule.model_dump(mode="json")}


def _double(x: Any) -> Any:
    return tf.convert_to_tensor(x, tf.float64)


def _in_double(function: Callable[..., Any]) -> Any:
    """Return the function with its arguments made float64 tensors: TensorFlow takes a lone number for float32."""
    return staticmethod(lambda *arguments: function(*map(_double, arguments)))


class _TensorFlowFunctions:
    """The functions of `unirms.schedules.arrays.Functions`, by TensorFlow."""

    floor, minimum, maximum, power = map(_in_double, (tf.floor, tf.minimum, tf.maximum, tf.pow))
    sqrt, cos, exp, expm1, log1p = map(_in_double, (tf.sqrt, tf.cos, tf.exp, tf.math.expm1, tf.math.log1p))

    def __init__(self) -> None:
        # By identity, because a table of 1e5 numbers takes 5 ms to convert, and Keras asks at every eager step.
        self._arrays: dict[int, tuple[Sequence[float], Any]] = {}

    def where(self, condition: Any, x: Any, y: Any, /) -> Any:
        """Return x where the condition holds, and y elsewhere."""
        return tf.where(condition, _double(x), _double(y))

    def reached(self, boundaries: Sequence[float], t: Any, /) -> Any:
        """Return the number of boundaries <= t."""
        return tf.reduce_sum(tf.cast(_double(self._array(boundaries)) <= t, tf.float64))

    def take(self, numbers: Sequence[float], index: Any, /) -> Any:
        """Return numbers[index]."""
        return tf.gather(_double(self._array(numbers)), tf.cast(_double(index), tf.int64))

    def _array(self, numbers: Sequence[float]) -> Any:
        of, array = self._arrays.get(id(numbers), (None, None))
        if of is not numbers:  # a copy of this object still has the identities of the original
            array = np.asarray(numbers, np.float64)
            self._arrays[id(numbers)] = (numbers, array)
        return array


@dataclass(frozen=True)
class _Row:
    """A class of Keras's and the kind of schedule that it computes."""

    native: type
    read: Callable[[Any], BaseSchedule]
    """A native schedule -> ours."""
    kind: type[BaseSchedule]
    write: Callable[[Any], dict[str, Any] | None]
    """Ours -> native arguments; None where the class goes wrong at some update."""


def _read_polynomial(found: Any) -> BaseSchedule:
    ends = {"initial_learning_rate": found.initial_learning_rate, "end_learning_rate": found.end_learning_rate}
    if found.power == 1 and not found.cycle:
        return Linear(**ends, decay_steps=found.decay_steps)
    return Polynomial(**ends, decay_steps=found.decay_steps, power=found.power, cycle=found.cycle)


def _read_cosine(found: Any) -> BaseSchedule:
    first = found.initial_learning_rate if found.warmup_target is None else found.warmup_target
    cosine = Cosine(initial_learning_rate=first, end_learning_rate=first * found.alpha, decay_steps=found.decay_steps)
    if found.warmup_target is None:
        return cosine
    return Warmup(warmup_steps=found.warmup_steps, start_learning_rate=found.initial_learning_rate, after=cosine)


def _read_decay(kind: type[BaseSchedule]) -> Callable[[Any], BaseSchedule]:
    names = ("initial_learning_rate", "decay_rate", "decay_steps", "staircase")
    return lambda found: kind(**{name: getattr(found, name) for name in names})


def _write_decay(ours: Any) -> dict[str, Any] | None:
    # The quotient t / decay_steps becomes a product with the reciprocal in compiled steps, which for 41 and many
    # other lengths is less than 1 at t = decay_steps: a staircase comes one update late.
    return None if ours.staircase else ours.model_dump(exclude={"kind"})


def _write_exponential(ours: Any) -> dict[str, Any] | None:
    # In float32 the exponent p = t / decay_steps has a relative error of 6e-8, and the rate one of -p log(decay_rate)
    # times that. Of the first rate that is at most 6e-8 for any decay rate below 1: x e^-x < 1. The power adds the
    # rounding of the decay rate itself, p times 6e-8, which is 1e-6 of the first rate at most for rates up to 0.978.
    return _write_decay(ours) if ours.decay_rate <= 0.978 else None


def _write_polynomial(ours: Any) -> dict[str, Any] | None:
    # With a power below 1 the rounding of 1 - t / n grows without bound near the end (at t = n - 1 by n**(1 - power)),
    # and with a power above 1 by that power. Cycles have the quotient of a staircase.
    return None if ours.cycle or not 1 <= ours.power <= 8 else ours.model_dump(exclude={"kind"})


def _write_piecewise(ours: Any) -> dict[str, Any] | None:
    # Keras changes after its boundary, and unirms at it.
    if not 0 < len(ours.boundaries) <= _MANY:
        return None
    return {"boundaries": [b - 1 for b in ours.boundaries], "values": list(ours.learning_rates)}


def _write_cosine(ours: Any) -> dict[str, Any] | None:
    if ours.periodic or not 0 < ours.initial_learning_rate >= ours.end_learning_rate:
        return None
    return {
        "initial_learning_rate": ours.initial_learning_rate,
        "decay_steps": ours.decay_steps,
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


# Not here: CosineDecayRestarts, which in float32 misses some restarts (the one at t = 21 of first_decay_steps=10,
# t_mul=1.1). What a class is read as and does not compute precisely, `write` refuses.
_ROWS = (
    _Row(native.ExponentialDecay, _read_decay(Exponential), Exponential, _write_exponential),
    _Row(native.InverseTimeDecay, _read_decay(InverseTime), InverseTime, _write_decay),
    _Row(
        native.PiecewiseConstantDecay,
        lambda found: Piecewise(boundaries=tuple(b + 1 for b in found.boundaries), learning_rates=found.values),
        Piecewise,
        _write_piecewise,
    ),
    _Row(native.PolynomialDecay, _read_polynomial, Polynomial, _write_polynomial),
    _Row(native.PolynomialDecay, _read_polynomial, Linear, lambda ours: ours.model_dump(exclude={"kind"})),
    _Row(native.CosineDecay, _read_cosine, Cosine, _write_cosine),
    _Row(native.CosineDecay, _read_cosine, Warmup, _write_warmup),
)


def read(found: Any) -> BaseSchedule:
    """Return the schedule of unirms that a Keras schedule (or a callable learning rate) is.

    Raises:
        UnsupportedError: it is none, or none that this class computes at every update.
    """
    if type(found) is UniRMSSchedule:
        schedule: BaseSchedule = found.schedule
        return schedule
    row = next((row for row in _ROWS if type(found) is row.native), None)
    named = type(found).__name__
    if row is None:
        raise UnsupportedError(f"its learning rate is a {named}, which is not exactly a schedule of unirms")
    try:
        return row.read(found)
    except ValidationError:
        raise UnsupportedError(f"its {named} has values that no schedule of unirms has: {found.get_config()}") from None


def write(schedule: BaseSchedule, dtypes: Collection[str]) -> native.LearningRateSchedule:
    """Return a Keras schedule for weights of these dtypes.

    It is Keras's own where that computes this schedule at every update to float32, which is all that the weights can
    tell; otherwise `UniRMSSchedule`.
    """
    row = next((row for row in _ROWS if type(schedule) is row.kind), None)
    fine = keras.config.floatx() == "float32" and "float64" not in dtypes and _small(schedule)
    arguments = row.write(schedule) if row is not None and fine else None
    if row is None or arguments is None:
        return UniRMSSchedule(schedule)
    made = row.native(**arguments)
    return made if read(made) == schedule else UniRMSSchedule(schedule)  # say, an end that alpha rounds


def _small(schedule: Any) -> bool:
    """Return whether float32 tells all steps of a schedule apart."""
    steps = [getattr(schedule, name, 0) for name in ("decay_steps", "warmup_steps")]
    return max(*steps, *getattr(schedule, "boundaries", ())) <= _WHOLE_IN_FLOAT32
