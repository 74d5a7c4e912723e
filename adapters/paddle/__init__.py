"""PaddlePaddle: `paddle.optimizer.RMSProp`, and `UniRMSProp`, a subclass of it that computes every axis.

One update rule must serve the dynamic mode and static graphs: see `operations`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import paddle

from unirms.config import RMSPropConfig
from unirms.dialects.calls import NativeCall
from unirms.protocol import Adapter, NamedParameter
from unirms.semantics import Difference
from unirms.state import Array, OptimizerState
from unirms.translation import Native

from .. import common
from ..checkpoints.paddle.names import SLOTS
from . import graph, limits, models, reading, restoring, schedules
from .optimizer import UniRMSProp

DTYPES = ("float32", "float64")


class PaddleAdapter:
    """The verbs of `unirms.protocol.Adapter` for PaddlePaddle."""

    framework = "paddle"
    options: Mapping[str, str] = {
        "name": "prefix of the accumulators' names, as in Paddle's own optimizers",
        "scheduler": "a paddle.optimizer.lr.LRScheduler in the place of the config's learning rate",
    }

    def named_parameters(self, params: Any) -> list[NamedParameter]:
        """Return the trainable parameters of a Layer or of a static Program, or the given ones."""
        return models.trained(params)

    def limits(self, native: Native, config: RMSPropConfig, params: Sequence[NamedParameter]) -> Sequence[Difference]:
        """Return what the kernel rounds or has not, and what the class would read off or write into the parameters."""
        return limits.limits(native, config, params)

    def refusals(self, config: RMSPropConfig, params: Sequence[NamedParameter], *, exact: bool) -> Sequence[str]:
        """Return why this cannot be built: dtypes and clips without CPU kernels, and what no static graph can do."""
        reasons = common.refuse_dtypes(params, DTYPES)
        if not exact:
            return [*reasons, *limits.refusals(config, params)]
        return reasons if paddle.in_dynamic_mode() else [*reasons, *graph.refusals(config)]

    def stock(
        self, native: Native, config: RMSPropConfig, params: Sequence[NamedParameter], options: Mapping[str, Any]
    ) -> paddle.optimizer.RMSProp:
        """Return `paddle.optimizer.RMSProp`, its mean square filled in where it does not start at 0."""
        kwargs = {name: _made(value) for name, value in native.kwargs.items() if name != "learning_rate"}
        kwargs["learning_rate"] = options.get("scheduler") or schedules.learning_rate_for(config)
        values = [param.value for param in params]
        optimizer = paddle.optimizer.RMSProp(**kwargs, parameters=values, name=options.get("name"))
        reading.remember_names(optimizer, [param.name for param in params])
        if config.initial_mean_square != native.meaning.initial_mean_square and paddle.in_dynamic_mode():
            _fill_mean_squares(optimizer, values, config.initial_mean_square)
            common.remember_seed(optimizer, config)
        return optimizer

    def exact(self, config: RMSPropConfig, params: Sequence[NamedParameter], options: Mapping[str, Any]) -> UniRMSProp:
        """Return `UniRMSProp`."""
        names = {param.value.name: param.name for param in params}
        return UniRMSProp(config, [param.value for param in params], names=names, **options)

    def lr_scheduler(self, optimizer: Any) -> Any:
        """Return the `paddle.optimizer.lr.LRScheduler` of the optimizer, or None where its rate is a number."""
        rate = optimizer._learning_rate
        return rate if isinstance(rate, paddle.optimizer.lr.LRScheduler) else None

    def swap_average(self, optimizer: Any) -> None:
        """Exchange the weights and their running means, in a static graph those of the global scope.

        Raises:
            UnsupportedError: the optimizer keeps none, as the stock class never does.
        """
        reading.swap_average(optimizer)

    def owns(self, optimizer: Any) -> bool:
        """Return whether it is `paddle.optimizer.RMSProp` or `UniRMSProp`; other subclasses may compute anything."""
        return type(optimizer) in {paddle.optimizer.RMSProp, UniRMSProp}

    def config_of(self, optimizer: Any) -> RMSPropConfig:
        """Return the config with the present hyperparameters.

        The learning rate is the schedule of the scheduler, or the number of `set_lr` or of the constructor.

        Raises:
            UnsupportedError: a scheduler, or options of parameter groups, that a config cannot say.
        """
        return reading.config_of(optimizer)

    def state_of(self, optimizer: Any) -> OptimizerState:
        """Return the accumulators, in a static graph those of the global scope.

        The stock class counts no steps: its `step` is where its scheduler is, and 0 without one. Of a static graph
        whose startup program did not run the running means of the weights are missing, as the weights are.
        """
        return reading.state_of(optimizer)

    def parameters_of(self, optimizer: Any) -> list[NamedParameter]:
        """Return the parameters that the optimizer was given; in a static graph without such, all trainable ones."""
        return reading.parameters_of(optimizer)

    def restore(self, optimizer: Any, state: OptimizerState) -> None:
        """Write a state into the accumulators, in a static graph into those of the global scope.

        Raises:
            UnsupportedError: the variables of a static graph are not there yet; a scheduler that cannot come to
                `state.step`.
        """
        restoring.restore(optimizer, state)

    def weights_of(self, model: Any) -> list[NamedParameter]:
        """Return the floating-point tensors of a Layer's state dictionary, of a static Program, or the given ones."""
        return models.weights_of(model)

    def array_of(self, value: Any) -> Array:
        """Return a copy of a tensor, of a static graph's from the global scope.

        Raises:
            UnsupportedError: the startup program did not run.
        """
        return models.array_of(value)

    def assign(self, value: Any, array: Array) -> None:
        """Write an array into a tensor, of a static graph's into the global scope."""
        models.assign(value, array)


def _made(value: Any) -> Any:
    """Return the object that a call in native keyword arguments stands for: a clip, a regularizer."""
    if not isinstance(value, NativeCall):
        return value
    module = paddle.regularizer if hasattr(paddle.regularizer, value.class_name) else paddle.nn
    return getattr(module, value.class_name)(*value.args, **value.kwargs)


def _fill_mean_squares(optimizer: Any, params: Sequence[Any], value: float) -> None:
    optimizer._create_accumulators(paddle.static.default_main_program().global_block(), params)
    for param in params:
        accumulator = optimizer._get_accumulator(SLOTS["mean_square"], param)
        accumulator.set_value(paddle.full_like(accumulator, value))


ADAPTER: Adapter = PaddleAdapter()
