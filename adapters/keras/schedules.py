"""Learning-rate schedules in Keras: `UniRMSSchedule`, and Keras's own, by the rows of `unirms.dialects.schedules`.

Keras calls a schedule with the number of completed updates, inside the compiled step. Its own classes compute in its
float type, normally float32; ours computes in float64 whatever that is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.optimizers import schedules as native

from unirms.config import RMSPropConfig
from unirms.dialects.schedules.keras import CLASSES
from unirms.errors import ConfigError, UnsupportedError
from unirms.schedules import AnySchedule, BaseSchedule

# The classes compute with the step in float32, which holds whole numbers up to here.
_WHOLE_IN_FLOAT32 = 2**24


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


def read(found: Any) -> AnySchedule:
    """Return the schedule of unirms that a Keras schedule (or a callable learning rate) is.

    Raises:
        UnsupportedError: it is none, or none that this class computes at every update.
    """
    if type(found) is UniRMSSchedule:
        schedule: BaseSchedule = found.schedule
        return schedule
    row = next((row for row in CLASSES.rows if type(found) is getattr(native, row.name)), None)
    named = type(found).__name__
    if row is None:
        raise UnsupportedError(f"its learning rate is a {named}, which is not exactly a schedule of unirms")
    try:
        return row.read({name: getattr(found, name) for name in row.arguments})
    except ConfigError:
        raise UnsupportedError(f"its {named} has values that no schedule of unirms has: {found.get_config()}") from None


def write(schedule: BaseSchedule, dtypes: Collection[str]) -> native.LearningRateSchedule:
    """Return a Keras schedule for weights of these dtypes.

    It is Keras's own where that computes this schedule at every update to float32, which is all that the weights can
    tell; otherwise `UniRMSSchedule`.
    """
    fine = keras.config.floatx() == "float32" and "float64" not in dtypes and _small(schedule)
    found = CLASSES.own(schedule) if fine else None
    if found is None or not found[0].precise(schedule):
        return UniRMSSchedule(schedule)
    row, arguments = found
    return getattr(native, row.name)(**arguments)


def _small(schedule: Any) -> bool:
    """Return whether float32 tells all steps of a schedule apart."""
    steps = [getattr(schedule, name, 0) for name in ("decay_steps", "warmup_steps")]
    return max(*steps, *getattr(schedule, "boundaries", ())) <= _WHOLE_IN_FLOAT32
