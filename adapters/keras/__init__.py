"""Keras 3 on TensorFlow: `keras.optimizers.RMSprop`, and `UniRMSProp`, a subclass of it that computes every axis.

Nothing global is set here: neither Keras's float type nor its backend.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from unirms import dialects
from unirms.config import RMSPropConfig
from unirms.errors import UnsupportedError
from unirms.grouping import with_rate
from unirms.protocol import Adapter, NamedParameter
from unirms.schedules import AnySchedule
from unirms.semantics import Difference
from unirms.state import Array, OptimizerState
from unirms.translation import Native

from .. import common
from . import accumulators, plateau, schedules, stock
from .accumulators import parameter_names
from .optimizer import UniRMSProp
from .variables import array, dtype_of, is_variable, names_of, number, path_of

DTYPES = ("float32", "float64", "float16", "bfloat16")


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
        if not is_variable(params) and not isinstance(params, Mapping):
            params = _iterated(params)
        own = names_of(params) if isinstance(params, list) else []
        return common.named(
            params,
            is_parameter=is_variable,
            name_of=lambda index, value: own[index] if own else path_of(value),
            dtype_of=dtype_of,
        )

    def limits(self, native: Native, config: RMSPropConfig, params: Sequence[NamedParameter]) -> Sequence[Difference]:
        """Return what the stock class rounds, where it counts gradients, and the kernels in which it goes wrong."""
        return stock.limits(config, params)

    def refusals(self, config: RMSPropConfig, params: Sequence[NamedParameter], *, exact: bool) -> Sequence[str]:
        """Return why this cannot be built.

        Keras takes other dtypes silently: integers never move, and complex gradients are squared without conjugation.
        """
        backend = keras.config.backend()
        reasons = common.refuse_dtypes(params, DTYPES)
        if backend != "tensorflow":
            reasons.append(f"it is made for Keras's TensorFlow backend, and KERAS_BACKEND is {backend}")
        return reasons

    def stock(
        self, native: Native, config: RMSPropConfig, params: Sequence[NamedParameter], options: Mapping[str, Any]
    ) -> Any:
        """Return `keras.optimizers.RMSprop`, built, its mean square filled in where it does not start at 0."""
        return stock.build(native, config, params, options)

    def exact(self, config: RMSPropConfig, params: Sequence[NamedParameter], options: Mapping[str, Any]) -> UniRMSProp:
        """Return `UniRMSProp`, built."""
        variables = [param.value for param in params]
        names = [param.name for param in params]
        optimizer = UniRMSProp(config, names=None if names == names_of(variables) else names, **options)
        optimizer.build(variables)
        return optimizer

    def lr_scheduler(self, optimizer: Any) -> plateau.PlateauLR | None:
        """Return the callback of a plateau; None of a schedule, which Keras asks itself, at every update."""
        return plateau.scheduler_of(optimizer)

    def swap_average(self, optimizer: Any) -> None:
        """Exchange the weights and their running means, which are the same until the first update.

        Raises:
            UnsupportedError: the optimizer keeps no running means of the weights.
        """
        if not optimizer.use_ema or not optimizer.built:
            raise UnsupportedError(
                "it keeps no running means of the weights; build it from a config with ema_decay > 0"
            )
        if number(optimizer.iterations) == 0:
            return
        averages = optimizer._model_variables_moving_average
        for variable, average in zip(optimizer._trainable_variables, averages, strict=True):
            if average is not None:
                weight, mean = (tf.identity(ops.convert_to_tensor(held)) for held in (variable, average))
                variable.assign(mean)
                average.assign(weight)

    def owns(self, optimizer: Any) -> bool:
        """Return whether it is `keras.optimizers.RMSprop` or `UniRMSProp`; other subclasses may compute anything."""
        return type(optimizer) in {keras.optimizers.RMSprop, UniRMSProp}

    def config_of(self, optimizer: Any) -> RMSPropConfig:
        """Return the config with the present hyperparameters, and with the schedule where it has one.

        Raises:
            ConfigError: it puts the average into the weights every so many updates, which no config can say.
            UnsupportedError: its schedule is not exactly one of unirms; it averages the weights after every gradient of
                an update; or it exempts variables from decay, and is not built, so that nothing is known of them.
        """
        if isinstance(optimizer, UniRMSProp):
            dialects.get(self.framework).read({"ema_overwrite_frequency": optimizer.ema_overwrite_frequency})
            rate = _schedule_of(optimizer) or number(optimizer.exact_rate())
            config = with_rate(optimizer.live_config(), rate)
        else:
            config = common.with_seed(optimizer, stock.read(optimizer, _schedule_of(optimizer)))
        decays = config.weight_decay > 0 or any(group.weight_decay for group in config.groups)
        return _with_exemptions(optimizer, config) if decays else config

    def state_of(self, optimizer: Any) -> OptimizerState:
        """Return the accumulators; all are there once the optimizer is built."""
        return accumulators.state_of(optimizer)

    def parameters_of(self, optimizer: Any) -> list[NamedParameter]:
        """Return what an optimizer updates, in its order.

        Raises:
            UnsupportedError: it is not built.
        """
        return accumulators.parameters_of(optimizer)

    def restore(self, optimizer: Any, state: OptimizerState) -> None:
        """Assign to the optimizer's variables."""
        accumulators.restore(optimizer, state)

    def weights_of(self, model: Any) -> list[NamedParameter]:
        """Return the weights of a model or layer, trained or not, or the given variables of floating point."""
        given = self.named_parameters(model)
        return accumulators.weights_of(model) if isinstance(model, keras.Layer) else given

    def array_of(self, value: Any) -> Array:
        """Return a copy of a variable."""
        return array(value)

    def assign(self, value: Any, array: Array) -> None:
        """Write an array into a variable."""
        accumulators.assign(value, array)


def _schedule_of(optimizer: Any) -> AnySchedule | None:
    """Return the schedule of an optimizer, or its plateau, or None where its learning rate is a number."""
    held = optimizer._learning_rate
    if callable(held) and not isinstance(held, keras.Variable):
        return schedules.read(held)
    return plateau.plateau_of(optimizer)


def _with_exemptions(optimizer: Any, config: RMSPropConfig) -> RMSPropConfig:
    """Return the config with the variables that the user told Keras to exclude from the weight decay, by name."""
    if not optimizer.built:
        if getattr(optimizer, "_exclude_from_weight_decay_cache", None) is not None:
            raise UnsupportedError("it excludes variables from the weight decay and is not built; build it first")
        return config
    uses = keras.optimizers.RMSprop._use_weight_decay
    pairs = zip(parameter_names(optimizer), optimizer._trainable_variables, strict=True)
    exempt = [name for name, variable in pairs if not uses(optimizer, variable)]
    for name in exempt:
        group = config.group_of(name)
        if group is not None and config.groups[group].weight_decay:
            raise UnsupportedError(
                f"it excludes {name!r} from the weight decay, which groups.{group} sets for it; no config says both"
            )
    return config.replace(no_weight_decay=(*config.no_weight_decay, *map(glob.escape, exempt)))


def _iterated(params: Any) -> Any:
    """Return a list, so that iterators can be read twice; what cannot be iterated is left for the error message."""
    try:
        return list(params)
    except TypeError:
        return params


ADAPTER: Adapter = KerasAdapter()
