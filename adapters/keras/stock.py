"""`keras.optimizers.RMSprop` itself: where it parts from its dialect, how it is built, and what a live one computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from unirms import dialects
from unirms.clipping import ClipByGlobalNorm
from unirms.config import RMSPropConfig
from unirms.dialects.keras import REPEATED_ROWS
from unirms.errors import UnsupportedError
from unirms.names import matches
from unirms.protocol import NamedParameter
from unirms.schedules import AnySchedule, BaseSchedule, Sampled
from unirms.semantics import BUILD_EXACT, Difference, Fidelity
from unirms.translation import Native

from .. import common
from . import plateau, schedules
from .variables import Untracked, dtype_of, names_of, number, path_of

_NAMES = "_unirms_names"
_LEARNING_RATE = "_unirms_learning_rate"
_AVERAGES_GRADIENTS = "it averages the weights after every gradient that is gathered, not after every update"


def limits(config: RMSPropConfig, params: Sequence[NamedParameter]) -> list[Difference]:
    """Return what the class rounds, where it counts gradients instead of updates, and where its kernels go wrong."""
    found = [*_rounded(config, params), *_counts_gradients(config), *_joint_norm(config, params)]
    # The name that Keras's own layer gives its table; a gradient's kind cannot be read off a variable.
    if any(path_of(param.value).rpartition("/")[2] == "embeddings" for param in params):
        found.append(_REPEATED_ROWS)
    if any(_is_empty_matrix(param.value) for param in params):
        found.append(_EMPTY_MATRIX)
    return found


def build(
    native: Native, config: RMSPropConfig, params: Sequence[NamedParameter], options: Mapping[str, Any]
) -> keras.optimizers.RMSprop:
    """Return the optimizer, built, its mean square and its average filled in where they do not start at 0."""
    kwargs = dict(native.kwargs)
    schedule = _asked(config)
    if isinstance(schedule, BaseSchedule) and not config.has_constant_rate:
        kwargs["learning_rate"] = schedules.write(schedule, [param.dtype for param in params])
    optimizer = keras.optimizers.RMSprop(**kwargs, **options)
    exempt = [param.value for param in params if matches(param.name, config.no_weight_decay)]
    if exempt and config.weight_decay > 0:
        optimizer.exclude_from_weight_decay(var_list=exempt)
    variables = [param.value for param in params]
    optimizer.build(variables)
    setattr(optimizer, _NAMES, Untracked([param.name for param in params]))
    setattr(optimizer, _LEARNING_RATE, config.initial_learning_rate)
    plateau.remember(optimizer, config)
    if config.initial_mean_square != native.meaning.initial_mean_square:
        for velocity in optimizer._velocities:
            velocity.assign(ops.full(velocity.shape, config.initial_mean_square, velocity.dtype))
        common.remember_seed(optimizer, config)
    if optimizer.use_ema:
        for variable, average in zip(variables, optimizer._model_variables_moving_average, strict=True):
            average.assign(ops.convert_to_tensor(variable))
    return optimizer


def read(optimizer: keras.optimizers.RMSprop, schedule: AnySchedule | None) -> RMSPropConfig:
    """Return what a live optimizer computes now, with its schedule if it has one.

    Raises:
        ConfigError: it puts the average into the weights every so many updates, which no config can say.
        UnsupportedError: it averages the weights after every gradient of an update.
    """
    if optimizer.use_ema and optimizer.gradient_accumulation_steps:
        raise UnsupportedError(f"{_AVERAGES_GRADIENTS}, which a config cannot say")
    dialect = dialects.get("keras")
    native = {argument.name: getattr(optimizer, argument.name) for argument in dialect.arguments}
    native |= _computed(optimizer)
    return dialect.read(native if schedule is None else native | {"learning_rate": schedule})


def parameter_names(optimizer: keras.optimizers.RMSprop) -> list[str]:
    """Return the names of the parameters that an optimizer is built on, in order."""
    given = getattr(optimizer, _NAMES, None)
    return list(given.value) if given is not None else names_of(optimizer._trainable_variables)


_REPEATED_ROWS = Difference(
    REPEATED_ROWS.axis,
    REPEATED_ROWS.wanted,
    REPEATED_ROWS.actual,
    Fidelity.APPROXIMATE,
    REPEATED_ROWS.consequence,
    REPEATED_ROWS.remedy,
)
_EMPTY_MATRIX = Difference(
    "update of a matrix without rows",
    "nothing to do",
    "an InvalidArgumentError",
    Fidelity.APPROXIMATE,
    "keras.ops.add takes the epsilon for a bias vector",
    f"{BUILD_EXACT}, or leave the variable out",
)


def _counts_gradients(config: RMSPropConfig) -> list[Difference]:
    """Return where an accumulating class does after every gradient what belongs after an update."""
    if config.gradient_accumulation_steps == 1:
        return []
    found = []
    counts = isinstance(config.learning_rate, BaseSchedule) and not config.has_constant_rate
    if counts and _asked(config) is config.learning_rate:
        found.append(
            Difference(
                "learning_rate",
                "a schedule of the updates",
                "a schedule of the gradients",
                Fidelity.APPROXIMATE,
                "the class asks its schedule after every gradient that it gathers",
                BUILD_EXACT,
            )
        )
    if config.ema_decay > 0:
        found.append(
            Difference(
                "ema_decay",
                "averaging after an update",
                "averaging after a gradient",
                Fidelity.APPROXIMATE,
                _AVERAGES_GRADIENTS,
                BUILD_EXACT,
            )
        )
    return found


def _asked(config: RMSPropConfig) -> Any:
    """Return the learning rate in the count of the class: with accumulation, its schedule is asked at each gradient."""
    rate, steps = config.learning_rate, config.gradient_accumulation_steps
    asked = rate.asked_per_gradient(steps) if isinstance(rate, Sampled) else None
    return rate if asked is None else asked


def _joint_norm(config: RMSPropConfig, params: Sequence[NamedParameter]) -> list[Difference]:
    """Return where the clip by a global norm fails, or answers an infinity otherwise."""
    if not any(isinstance(clip, ClipByGlobalNorm) for clip in config.clip):
        return []
    if len({param.dtype for param in params}) > 1:
        actual, fidelity = "an InvalidArgumentError", Fidelity.APPROXIMATE
        return [Difference("clip", "a norm over all dtypes", actual, fidelity, "it multiplies two dtypes", BUILD_EXACT)]
    if config.non_finite != "propagate":
        return []
    return [
        Difference(
            "clip of an infinite gradient",
            "NaN in its place and 0 elsewhere",
            "NaN everywhere",
            Fidelity.EXACT,
            "keras.optimizers makes the factor of all gradients NaN if their norm is not finite",
            BUILD_EXACT,
        )
    ]


def _rounded(config: RMSPropConfig, params: Sequence[NamedParameter]) -> list[Difference]:
    """Return what the stock class rounds: the learning rate to Keras's float type, the decay to float32 always."""
    held = keras.config.floatx()
    if held == "float32":
        return common.rounded_to_float32(dialects.get("keras").rounds, config, params)
    found = common.rounded_to_float32(["weight_decay"], config, params)
    pairs = ((rate, number(ops.convert_to_tensor(rate, held))) for rate in common.rates_held(config))
    wanted, actual = next((pair for pair in pairs if pair[0] != pair[1]), (0.0, 0.0))
    if actual != wanted and _tells_from(held, [param.dtype for param in params]):
        found.append(
            Difference(
                "learning_rate",
                wanted,
                actual,
                Fidelity.APPROXIMATE,
                f"the class holds it in Keras's float type, which is {held}",
                f'{BUILD_EXACT}, or keras.config.set_floatx("float32")',
            )
        )
    return found


def _tells_from(held: str, dtypes: Sequence[str]) -> bool:
    """Return whether weights of these dtypes can tell a number from its rounding to the dtype `held`."""
    return held != "float64" and any(dtype != held if held != "float32" else dtype == "float64" for dtype in dtypes)


def _computed(optimizer: Any) -> dict[str, Any]:
    """Return the learning rate and the weight decay with which a stock optimizer really computes.

    It holds the learning rate in Keras's float type; where no weight can tell, the number that `build` was given comes
    back.
    """
    learning_rate, weight_decay = number(optimizer.learning_rate), optimizer.weight_decay
    variables = optimizer._trainable_variables if optimizer.built else []
    dtypes = [dtype_of(variable) for variable in variables]
    if "float64" in dtypes:
        weight_decay = weight_decay and float(np.float32(weight_decay))
    held, given = optimizer._learning_rate, getattr(optimizer, _LEARNING_RATE, None)
    if given is not None and isinstance(held, keras.Variable) and not _tells_from(held.dtype, dtypes):
        unchanged = number(ops.convert_to_tensor(given, held.dtype)) == learning_rate
        learning_rate = given if unchanged else learning_rate
    return {"learning_rate": learning_rate, "weight_decay": weight_decay}


def _is_empty_matrix(variable: Any) -> bool:
    return len(variable.shape) > 1 and 0 in tuple(variable.shape) and variable.shape[-1] > 1
