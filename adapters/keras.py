"""Keras 3 on TensorFlow: `keras.optimizers.RMSprop`, and `UniRMSProp`, a subclass of it that computes every axis.

The constraint that shapes this module: `UniRMSProp.variables` are the stock class's, in its order, so that weights of a
stock optimizer load into ours and back; and everything else must survive `get_config`, because a saved model keeps
nothing but that. Nothing global is set here: neither Keras's float type nor its backend.
"""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from unirms import dialects
from unirms.config import RMSPropConfig
from unirms.dialects.keras import REPEATED_ROWS
from unirms.errors import UnsupportedError
from unirms.names import matches
from unirms.protocol import Adapter, NamedParameter
from unirms.reference import Hyperparameters, bias_correction
from unirms.schedules import BaseSchedule
from unirms.semantics import Difference, Fidelity
from unirms.state import OptimizerState
from unirms.translation import Native

from . import common, keras_schedules

DTYPES = ("float32", "float64", "float16", "bfloat16")
# Slot of unirms -> attribute in which the stock class keeps its variables.
SLOTS = {"mean_square": "_velocities", "mean_gradient": "_average_gradients", "momentum": "_momentums"}
# What the base class does around the update and no config can say; `config_of` refuses to read optimizers with it.
AROUND = ("use_ema", "ema_momentum", "ema_overwrite_frequency", "gradient_accumulation_steps")
_NAMES = "_unirms_names"
_LEARNING_RATE = "_unirms_learning_rate"


@keras.saving.register_keras_serializable(package="unirms")
class UniRMSProp(keras.optimizers.RMSprop):
    """RMSprop with every axis of an `RMSPropConfig`, in the place of `keras.optimizers.RMSprop`.

    It has the stock class's variables, so callbacks, `set_weights` and checkpoints work, and models compiled with it
    are saved and loaded without `custom_objects` once this module is imported. The learning rate is read at every
    step; the other hyperparameters too when running eagerly, while a traced `tf.function` keeps those it was traced
    with, as with the stock class.

    Args:
        config: the meaning, as a config or as its plain data. A schedule in it becomes a `UniRMSSchedule`.
        learning_rate: a schedule, a callable or a number in place of the config's learning rate.
        names: the parameters' names in the order of `build`, for `no_weight_decay`; None takes the variables' paths.
        name: the optimizer's name.
        around: Keras's moving average of the weights and its gradient accumulation (`use_ema`, `ema_momentum`,
            `ema_overwrite_frequency`, `gradient_accumulation_steps`).

    Raises:
        ConfigError: `config` is not one.
        UnsupportedError: it clips or has groups, or the names are not those of the parameters it is built on.
    """

    _learning_rate: Any

    def __init__(
        self,
        config: RMSPropConfig | Mapping[str, Any],
        *,
        learning_rate: Any = None,
        names: Sequence[str] | None = None,
        name: str | None = None,
        **around: Any,
    ) -> None:
        config = RMSPropConfig.model_validate(config)
        if config.clip or config.groups:
            raise UnsupportedError("UniRMSProp has no clipping and no groups; clip the gradients yourself")
        _check_around(around)
        rate = _own_rate(config) if learning_rate is None else learning_rate
        super().__init__(
            learning_rate=rate,
            rho=config.rho,
            momentum=config.momentum,
            epsilon=config.epsilon,
            centered=config.centered,
            weight_decay=config.weight_decay or None,
            # The base class scales the loss by it in `fit`, and divides the gradients as the reference does.
            loss_scale_factor=None if config.loss_scale == 1 else config.loss_scale,
            name=name,
            **around,
        )
        self.config = config
        self._given_names = None if names is None else _Untracked(tuple(names))
        # TensorFlow's checkpoints hold the learning rate in Keras's float type, so a double goes beside it.
        first = 0.0 if callable(rate) else rate
        double = keras.Variable(
            first, dtype="float64", trainable=False, aggregation="only_first_replica", name="exact_learning_rate"
        )
        self._exact_rate = _Untracked(double)

    @keras.optimizers.RMSprop.learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        """Change the learning rate: a number, a schedule or a callable."""
        keras.optimizers.RMSprop.learning_rate.fset(self, learning_rate)
        if isinstance(self._learning_rate, keras.Variable):
            self._exact_rate.value.assign(learning_rate)

    def _trackable_children(self, save_type: str = "checkpoint", **kwargs: Any) -> dict[str, Any]:
        """Return what TensorFlow saves: the double as well in an exported function, which needs all that it reads."""
        children: dict[str, Any] = super()._trackable_children(save_type, **kwargs)
        exact = {"exact_learning_rate": self._exact_rate.value.value} if save_type == "savedmodel" else {}
        return children | exact

    def exact_rate(self, learning_rate: Any) -> Any:
        """Return the double behind the learning rate that Keras holds, as a float64 tensor.

        It is the number that was given, and not its rounding to Keras's float type; unless somebody has written into
        that variable itself (a checkpoint, `set_weights`, `learning_rate.assign`), which then counts, as a schedule
        does.
        """
        held = ops.cast(learning_rate, "float64")
        if not isinstance(self._learning_rate, keras.Variable):
            return held
        exact = ops.convert_to_tensor(self._exact_rate.value)
        rounded = ops.cast(ops.cast(exact, self._learning_rate.dtype), "float64")
        return ops.where(rounded == held, exact, held)

    def build(self, var_list: Sequence[Any]) -> None:
        """Make the slots, as the stock class does, and name the parameters."""
        if self.built:
            return
        names = _names_of(var_list) if self._given_names is None else self._given_names.value
        if len(names) != len(var_list):
            raise UnsupportedError(f"it has {len(names)} parameter names, and is built on {len(var_list)} parameters")
        self._names = _Untracked(names)
        super().build(list(var_list))

    def add_variable_from_reference(
        self, reference_variable: Any, name: str | None = None, initializer: Any = "zeros"
    ) -> Any:
        """Return a slot for a parameter; the mean square starts where the config says."""
        if name == "velocity":
            # Not `assign` after `build`: in a traced function that would start the mean square again at every call.
            # Nor `initializers.Constant`, which rounds the value to float32 for float64 variables.
            initial = self.config.initial_mean_square
            return super().add_variable_from_reference(
                reference_variable, name, initializer=lambda shape, dtype: ops.full(shape, initial, dtype)
            )
        return super().add_variable_from_reference(reference_variable, name, initializer=initializer)

    @property
    def parameter_names(self) -> list[str]:
        """The names of the parameters that it is built on, in order."""
        return list(self._names.value)

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Update the variables; rows that occur several times in a sparse gradient are added up first."""
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        if len(grads) == len(variables):
            grads = [_dense(grad, variable) for grad, variable in zip(grads, variables, strict=True)]
        super().apply(grads, trainable_variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable and its slots."""
        index = self._get_variable_index(variable)
        slots = {"mean_square": self._velocities[index]}
        if self.centered:
            slots["mean_gradient"] = self._average_gradients[index]
        if self.momentum > 0:
            slots["momentum"] = self._momentums[index]
        step = ops.cast(self.iterations, "float64") + 1.0
        weight_decay = self.weight_decay if self._use_weight_decay(variable) else None
        scalars = Hyperparameters.live(
            self.exact_rate(learning_rate),
            self.rho,
            self.epsilon,
            self.momentum,
            weight_decay or 0.0,
            correction=bias_correction(self.rho, step) if self.config.bias_correction else 1.0,
        )
        weight = ops.convert_to_tensor(variable)
        moved, renewed = rmsprop(
            weight,
            ops.cast(gradient, weight.dtype),
            {slot: ops.convert_to_tensor(value) for slot, value in slots.items()},
            config=self.config,
            scalars=scalars,
        )
        for slot, value in renewed.items():
            self.assign(slots[slot], value)
        self.assign(variable, moved)

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Do nothing: `update_step` decays, in either mode."""

    def _use_weight_decay(self, variable: Any) -> bool:
        if not super()._use_weight_decay(variable):
            return False
        return not matches(self._names.value[self._get_variable_index(variable)], self.config.no_weight_decay)

    def live_config(self) -> RMSPropConfig:
        """Return the config with the hyperparameters that the optimizer holds now, but the first learning rate."""
        return self.config.replace(
            rho=self.rho,
            epsilon=self.epsilon,
            momentum=self.momentum,
            nesterov=self.config.nesterov and self.momentum > 0,
            centered=self.centered,
            weight_decay=self.weight_decay or 0.0,
            loss_scale=self.loss_scale_factor or 1.0,
        )

    def get_config(self) -> dict[str, Any]:
        """Return plain data, from which `from_config` makes the same optimizer without its state."""
        base = super().get_config()
        # Keras renames the variables of a model that it loads ("net/out/bias" comes back as "out/bias"), so names go
        # along wherever a pattern may need them.
        needed = self._given_names is not None or (self.built and self.config.no_weight_decay)
        number = isinstance(self._learning_rate, keras.Variable)
        return {
            **{key: base[key] for key in ("name", *AROUND)},
            "learning_rate": _number(self.exact_rate(self.learning_rate)) if number else base["learning_rate"],
            "names": self.parameter_names if needed else None,
            # Its learning rate stands above; a schedule need not be there twice.
            "config": self.live_config()
            .replace(learning_rate=self.config.initial_learning_rate)
            .model_dump(mode="json"),
        }


def rmsprop(
    weight: Any, grad: Any, slots: Mapping[str, Any], *, config: RMSPropConfig, scalars: Hyperparameters
) -> tuple[Any, dict[str, Any]]:
    """Return one parameter and its slots after one update: the reference's operations in the reference's order.

    The operators are TensorFlow's own, because `keras.ops.add` fails on empty matrices. Run eagerly they have the
    reference's bits. A `tf.function` turns x / sqrt(y) into x * rsqrt(y) (two of five float32 quotients change by an
    ULP), and XLA fuses a product and a sum into one rounding (one of seven sums changes).
    """
    dtype = keras.backend.standardize_dtype(weight.dtype)

    def rounded(value: Any) -> Any:
        return ops.convert_to_tensor(value, dtype)

    learning_rate, rho, one_minus_rho = map(rounded, (scalars.learning_rate, scalars.rho, scalars.one_minus_rho))
    if config.maximize:
        grad = -grad
    if scalars.weight_decay != 0 and config.weight_decay_mode == "l2":
        grad = grad + rounded(scalars.weight_decay) * weight
    if scalars.weight_decay != 0 and config.weight_decay_mode == "decoupled":
        weight = weight - rounded(scalars.shrink) * weight

    renewed = {"mean_square": rho * slots["mean_square"] + one_minus_rho * (grad * grad)}
    if "mean_gradient" in slots:
        renewed["mean_gradient"] = rho * slots["mean_gradient"] + one_minus_rho * grad
    denominator = _denominator(renewed, config, rounded(scalars.correction), rounded(scalars.epsilon))

    update = (learning_rate * grad) / denominator if config.lr_in_momentum else grad / denominator
    step = update
    if "momentum" in slots:
        momentum = rounded(scalars.momentum)
        renewed["momentum"] = momentum * slots["momentum"] + update
        step = momentum * renewed["momentum"] + update if config.nesterov else renewed["momentum"]
    if not config.lr_in_momentum:
        step = learning_rate * step
    moved = weight - step

    if "mean_gradient" in slots and config.negative_variance == "skip":
        usable = denominator > 0  # False for NaN too
        moved = ops.where(usable, moved, weight)
        if "momentum" in slots:
            renewed["momentum"] = ops.where(usable, renewed["momentum"], slots["momentum"])
    return moved, renewed


def _denominator(means: Mapping[str, Any], config: RMSPropConfig, correction: Any, epsilon: Any) -> Any:
    variance, mean = means["mean_square"], means.get("mean_gradient")
    if config.bias_correction:
        variance = variance / correction
    if mean is not None:
        if config.bias_correction:
            mean = mean / correction
        variance = variance - mean * mean
        if config.negative_variance == "clamp":
            variance = tf.maximum(variance, tf.zeros((), variance.dtype))  # of a NaN it is NaN, as in NumPy
    return ops.sqrt(variance + epsilon) if config.epsilon_placement == "inside_sqrt" else ops.sqrt(variance) + epsilon


def _dense(grad: Any, variable: Any) -> Any:
    """Return a gradient as one tensor.

    Keras squares the rows of `IndexedSlices` one by one, so that a row that occurs four times with a gradient of 1
    adds 4 to its mean square instead of 16.
    """
    if not isinstance(grad, tf.IndexedSlices):
        return grad
    return tf.math.unsorted_segment_sum(grad.values, grad.indices, variable.shape[0])


class _Untracked:
    """A box, because Keras and TensorFlow make state of every variable, list or tuple on an optimizer."""

    def __init__(self, value: Any) -> None:
        self.value = value


class KerasAdapter:
    """The verbs of `unirms.protocol.Adapter` for Keras."""

    framework = "keras"
    options: Mapping[str, str] = {"name": "the optimizer's name, which is the first part of its variables' paths"}

    def named_parameters(self, params: Any) -> list[NamedParameter]:
        """Return the trainable variables of a model or layer, by path, or the given variables."""
        if isinstance(params, keras.Layer):
            if not params.built:
                raise UnsupportedError(f"{params.name!r} has no variables yet; call it on a batch, or give it an Input")
            params = params.trainable_variables
        if not _is_variable(params) and not isinstance(params, Mapping):
            params = _iterated(params)
        own = _names_of(params) if isinstance(params, list) else []
        return common.named(
            params,
            is_parameter=_is_variable,
            name_of=lambda index, value: own[index] if own else _path(value),
            dtype_of=lambda value: str(keras.backend.standardize_dtype(value.dtype)),
        )

    def limits(self, native: Native, config: RMSPropConfig, params: Sequence[NamedParameter]) -> Sequence[Difference]:
        """Return what the stock class rounds, and the two kernels in which it goes wrong."""
        found = _rounded(config, params)
        # The name that Keras's own layer gives its table; a gradient's kind cannot be read off a variable.
        if any(_path(param.value).rpartition("/")[2] == "embeddings" for param in params):
            found.append(_REPEATED_ROWS)
        if any(_is_empty_matrix(param.value) for param in params):
            found.append(_EMPTY_MATRIX)
        return found

    def refusals(self, config: RMSPropConfig, params: Sequence[NamedParameter], *, exact: bool) -> Sequence[str]:
        """Return why this cannot be built.

        Keras takes other dtypes silently: integers never move, and complex gradients are squared without conjugation.
        """
        backend = keras.config.backend()
        reasons = common.refuse_dtypes(params, DTYPES)
        if backend != "tensorflow":
            reasons.append(f"it is made for Keras's TensorFlow backend, and KERAS_BACKEND is {backend}")
        return [*reasons, *common.refuse_pending(config)] if exact else reasons

    def stock(
        self, native: Native, config: RMSPropConfig, params: Sequence[NamedParameter], options: Mapping[str, Any]
    ) -> Any:
        """Return `keras.optimizers.RMSprop`, built, its mean square filled in where it does not start at 0."""
        kwargs = dict(native.kwargs)
        if isinstance(config.learning_rate, BaseSchedule) and not config.has_constant_rate:
            kwargs["learning_rate"] = keras_schedules.write(config.learning_rate, [param.dtype for param in params])
        optimizer = keras.optimizers.RMSprop(**kwargs, **options)
        exempt = [param.value for param in params if matches(param.name, config.no_weight_decay)]
        if exempt and config.weight_decay > 0:
            optimizer.exclude_from_weight_decay(var_list=exempt)
        variables = [param.value for param in params]
        optimizer.build(variables)
        setattr(optimizer, _NAMES, _Untracked([param.name for param in params]))
        setattr(optimizer, _LEARNING_RATE, config.initial_learning_rate)
        if config.initial_mean_square != native.meaning.initial_mean_square:
            for velocity in optimizer._velocities:
                velocity.assign(ops.full(velocity.shape, config.initial_mean_square, velocity.dtype))
            common.remember_seed(optimizer, config)
        return optimizer

    def exact(self, config: RMSPropConfig, params: Sequence[NamedParameter], options: Mapping[str, Any]) -> UniRMSProp:
        """Return `UniRMSProp`, built."""
        variables = [param.value for param in params]
        names = [param.name for param in params]
        optimizer = UniRMSProp(config, names=None if names == _names_of(variables) else names, **options)
        optimizer.build(variables)
        return optimizer

    def lr_scheduler(self, optimizer: Any) -> None:
        """Return None: Keras asks the schedule itself, at every update."""

    def swap_average(self, optimizer: Any) -> None:
        """Exchange the weights and their running means."""
        raise UnsupportedError(f"{self.framework}: running means of the weights are not built yet")

    def owns(self, optimizer: Any) -> bool:
        """Return whether it is `keras.optimizers.RMSprop` or `UniRMSProp`; other subclasses may compute anything."""
        return type(optimizer) in {keras.optimizers.RMSprop, UniRMSProp}

    def config_of(self, optimizer: Any) -> RMSPropConfig:
        """Return the config with the present hyperparameters, and with the schedule where it has one.

        Raises:
            ConfigError: it averages the weights or accumulates gradients, which no config can say.
            UnsupportedError: its schedule is not exactly one of unirms; or it exempts variables from decay, and is not
                built, so that nothing is known of them.
        """
        dialect = dialects.get(self.framework)
        if isinstance(optimizer, UniRMSProp):
            dialect.read({name: getattr(optimizer, name) for name in AROUND})
            config = optimizer.live_config().replace(
                learning_rate=_schedule_of(optimizer) or _number(optimizer.exact_rate(optimizer.learning_rate))
            )
        else:
            native = {argument.name: getattr(optimizer, argument.name) for argument in dialect.arguments}
            config = common.with_seed(optimizer, dialect.read(native | _computed(optimizer)))
            config = config.replace(learning_rate=_schedule_of(optimizer) or config.learning_rate)
        return _with_exemptions(optimizer, config) if config.weight_decay > 0 else config

    def state_of(self, optimizer: Any) -> OptimizerState:
        """Return the accumulators; all are there once the optimizer is built."""
        used = {"mean_square": True, "mean_gradient": optimizer.centered, "momentum": optimizer.momentum > 0}
        slots: dict[str, dict[str, np.ndarray[Any, Any]]] = {slot: {} for slot in SLOTS}
        if optimizer.built:
            names = _parameter_names(optimizer)
            for slot, attribute in SLOTS.items():
                variables = getattr(optimizer, attribute) if used[slot] else []
                # A variable that its gradient overwrites has no slots: None.
                slots[slot] = {n: _array(v) for n, v in zip(names, variables, strict=False) if v is not None}
        return OptimizerState.of(int(_number(optimizer.iterations)), slots)


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
    'use unirms.build(…, policy="exact"), or leave the variable out',
)


def _rounded(config: RMSPropConfig, params: Sequence[NamedParameter]) -> list[Difference]:
    """Return what the stock class rounds: the learning rate to Keras's float type, the decay to float32 always."""
    held = keras.config.floatx()
    if held == "float32":
        return common.rounded_to_float32(dialects.get("keras").rounds, config, params)
    found = common.rounded_to_float32(["weight_decay"], config, params)
    wanted = config.initial_learning_rate
    actual = _number(ops.convert_to_tensor(wanted, held))
    if config.has_constant_rate and actual != wanted and _tells_from(held, [param.dtype for param in params]):
        found.append(
            Difference(
                "learning_rate",
                wanted,
                actual,
                Fidelity.APPROXIMATE,
                f"the class holds it in Keras's float type, which is {held}",
                'use unirms.build(…, policy="exact"), or keras.config.set_floatx("float32")',
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
    learning_rate, weight_decay = _number(optimizer.learning_rate), optimizer.weight_decay
    variables = optimizer._trainable_variables if optimizer.built else []
    dtypes = [keras.backend.standardize_dtype(variable.dtype) for variable in variables]
    if "float64" in dtypes:
        weight_decay = weight_decay and float(np.float32(weight_decay))
    held, given = optimizer._learning_rate, getattr(optimizer, _LEARNING_RATE, None)
    if given is not None and isinstance(held, keras.Variable) and not _tells_from(held.dtype, dtypes):
        unchanged = _number(ops.convert_to_tensor(given, held.dtype)) == learning_rate
        learning_rate = given if unchanged else learning_rate
    return {"learning_rate": learning_rate, "weight_decay": weight_decay}


def _own_rate(config: RMSPropConfig) -> Any:
    """Return the learning rate of a config in Keras's words: a number, or a schedule in double."""
    rate = config.learning_rate
    if config.has_constant_rate or not isinstance(rate, BaseSchedule):
        return config.initial_learning_rate
    return keras_schedules.UniRMSSchedule(rate)


def _schedule_of(optimizer: Any) -> BaseSchedule | None:
    """Return the schedule of an optimizer, or None where its learning rate is a number."""
    held = optimizer._learning_rate
    return keras_schedules.read(held) if callable(held) and not isinstance(held, keras.Variable) else None


def _with_exemptions(optimizer: Any, config: RMSPropConfig) -> RMSPropConfig:
    """Return the config with the variables that the user told Keras to exclude from the weight decay, by name."""
    if not optimizer.built:
        if getattr(optimizer, "_exclude_from_weight_decay_cache", None) is not None:
            raise UnsupportedError("it excludes variables from the weight decay and is not built; build it first")
        return config
    uses = keras.optimizers.RMSprop._use_weight_decay
    pairs = zip(_parameter_names(optimizer), optimizer._trainable_variables, strict=True)
    exempt = [name for name, variable in pairs if not uses(optimizer, variable)]
    return config.replace(no_weight_decay=(*config.no_weight_decay, *map(glob.escape, exempt)))


def _check_around(around: Mapping[str, Any]) -> None:
    unknown = [name for name in around if name not in AROUND]
    if unknown:
        raise TypeError(f"UniRMSProp takes no {unknown[0]}=; besides a config it takes {', '.join(AROUND)}")


def _parameter_names(optimizer: Any) -> list[str]:
    if isinstance(optimizer, UniRMSProp):
        return optimizer.parameter_names
    given = getattr(optimizer, _NAMES, None)
    return list(given.value) if given is not None else _names_of(optimizer._trainable_variables)


def _names_of(variables: Sequence[Any]) -> list[str]:
    """Return the path of each variable, or its index where several have the same path."""
    paths = [_path(variable) for variable in variables]
    count = Counter(paths)
    return [path if count[path] == 1 else str(index) for index, path in enumerate(paths)]


def _path(variable: Any) -> str:
    """Return the path of a Keras variable or the name of TensorFlow's, without its ":0"; "" of anything else."""
    return str(getattr(variable, "path", getattr(variable, "name", ""))).partition(":")[0]


def _iterated(params: Any) -> Any:
    """Return a list, so that iterators can be read twice; what cannot be iterated is left for the error message."""
    try:
        return list(params)
    except TypeError:
        return params


def _is_variable(value: Any) -> bool:
    return isinstance(value, (keras.Variable, tf.Variable))


def _is_empty_matrix(variable: Any) -> bool:
    return len(variable.shape) > 1 and 0 in tuple(variable.shape) and variable.shape[-1] > 1


def _number(value: Any) -> float:
    return float(ops.convert_to_tensor(value).numpy())


def _array(variable: Any) -> np.ndarray[Any, Any]:
    """Return a copy; bfloat16, which NumPy has not, comes as float32, which holds it exactly."""
    # Not `keras.ops.convert_to_numpy`, for which NumPy 2 warns of the `__array__` of Keras's variables.
    copy: np.ndarray[Any, Any] = np.asarray(ops.convert_to_tensor(variable).numpy())
    return copy.astype(np.float32) if copy.dtype.name == "bfloat16" else copy


ADAPTER: Adapter = KerasAdapter()
