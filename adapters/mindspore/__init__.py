"""MindSpore: the verbs of the adapter, for `mindspore.nn.RMSProp`, its experimental cousin and `UniRMSProp`."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import mindspore
import numpy as np
from mindspore import Tensor, nn
from mindspore.experimental import optim as experimental

from unirms import dialects
from unirms.config import RMSPropConfig
from unirms.errors import UnsupportedError
from unirms.grouping import members, with_rate
from unirms.protocol import Adapter, NamedParameter
from unirms.semantics import Difference
from unirms.state import Array, OptimizerState
from unirms.translation import Native

from .. import common
from . import accumulators, plateau
from .optimizer import UniRMSProp
from .stock import (
    DIALECT,
    NAMES,
    accepted,
    argument_names,
    as_given,
    grouped,
    misplaced_epsilon,
    named_parameters,
    names_of,
    other_precision,
    own_rate,
    rate_of,
    rounded_complement,
    stock_config,
)

__all__ = ["ADAPTER", "DIALECT", "UniRMSProp", "accepted", "argument_names"]

# With NumPy 2, MindSpore's first eager operation on a Python scalar in a process raises SystemError (it was built for
# NumPy 1, which also prints a page to stderr), and every later one works: so the first one is made here.
with contextlib.suppress(SystemError), contextlib.redirect_stderr(io.StringIO()):
    Tensor(np.ones(1, np.float32)) * 2.0

# bfloat16 is missing because the CPU backend has no kernel for it in Sub, Sqrt, Greater and Maximum (2.10).
DTYPES = ("float32", "float64", "float16")


class MindSporeAdapter:
    """The verbs of `unirms.protocol.Adapter` for MindSpore."""

    framework = "mindspore"
    options: Mapping[str, str] = {}

    def named_parameters(self, params: Any) -> list[NamedParameter]:
        """Return the trainable parameters of a Cell, or the given ones; plain ones have MindSpore's names."""
        return named_parameters(params.trainable_params() if isinstance(params, nn.Cell) else params)

    def limits(self, native: Native, config: RMSPropConfig, params: Sequence[NamedParameter]) -> Sequence[Difference]:
        """Return what MindSpore's kernels on CPU do otherwise; those of other devices have not been measured."""
        if mindspore.get_context("device_target") != "CPU":
            return ()
        return [*misplaced_epsilon(config), *rounded_complement(config), *other_precision(params)]

    def refusals(self, config: RMSPropConfig, params: Sequence[NamedParameter], *, exact: bool) -> Sequence[str]:
        """Return why this cannot be built: dtypes without a kernel, empty tensors, names that are not unique."""
        plain = not exact and not config.centered
        reasons = common.refuse_dtypes(params, ("float32", "float16") if plain else DTYPES)
        reasons += [
            f"parameter {param.name!r} is empty, and MindSpore's optimizers refuse empty tensors"
            for param in params
            if 0 in param.value.shape
        ]
        reasons += [
            f"two Parameters are called {name!r}, and MindSpore names the state after them; set Parameter.name"
            for name, count in Counter(param.value.name for param in params).items()
            if count > 1
        ]
        return reasons

    def stock(
        self, native: Native, config: RMSPropConfig, params: Sequence[NamedParameter], options: Mapping[str, Any]
    ) -> nn.RMSProp:
        """Return `mindspore.nn.RMSProp`, its mean square filled in where it does not start at 1."""
        kwargs = {**native.kwargs, "learning_rate": own_rate(config, mindspore.float32)}
        optimizer = nn.RMSProp(grouped(config, params), **accepted(nn.RMSProp, kwargs))
        setattr(optimizer, NAMES, tuple(param.name for param in params))
        each = members(config, [param.name for param in params])
        plateau.remember(optimizer, config, [member.rate_factor for member in each])
        if config.initial_mean_square != native.meaning.initial_mean_square:
            for squares, param in zip(optimizer.ms, params, strict=True):
                # set_data works in both modes before the first step; after it, PyNative optimizers no longer see it.
                squares.set_data(Tensor(np.full(squares.shape, config.initial_mean_square, param.dtype)))
            common.remember_seed(optimizer, config)
        return optimizer

    def exact(self, config: RMSPropConfig, params: Sequence[NamedParameter], options: Mapping[str, Any]) -> UniRMSProp:
        """Return `UniRMSProp`."""
        return UniRMSProp([(param.name, param.value) for param in params], config)

    def lr_scheduler(self, optimizer: Any) -> plateau.PlateauLR | None:
        """Return what takes the metrics of a plateau; None of a schedule, which MindSpore asks itself."""
        return plateau.scheduler_of(optimizer)

    def swap_average(self, optimizer: Any) -> None:
        """Exchange the weights and their running means; the stock class has none."""
        if not isinstance(optimizer, UniRMSProp) or not optimizer.averages:
            raise UnsupportedError("the optimizer keeps no running means of the weights; build it with ema_decay > 0")
        optimizer.swap_average()

    def owns(self, optimizer: Any) -> bool:
        """Return whether it is one of MindSpore's two RMSProps or `UniRMSProp`; other subclasses compute anything."""
        return type(optimizer) in {nn.RMSProp, experimental.RMSprop, UniRMSProp}

    def config_of(self, optimizer: Any) -> RMSPropConfig:
        """Return the config with the present learning rate, or its schedule, and the present values of the attributes.

        Only the learning rate is live in MindSpore: what one sets on the attributes of an optimizer after its first
        step is shown here, but a compiled update does not see it. A list of rates is read as a `Table`, whose last rate
        holds where MindSpore raises an error.

        Raises:
            UnsupportedError: its schedule is not exactly one of unirms, or its groups differ in what no config says.
        """
        if isinstance(optimizer, experimental.RMSprop):
            return common.one_config([common.LiveGroup(*_config_of_group(group)) for group in optimizer.param_groups])
        if isinstance(optimizer, UniRMSProp):
            lowered = plateau.plateau_of(optimizer)
            source = optimizer.get_lr_parameter(optimizer.parameters[0])  # one for all
            rate = rate_of(source, optimizer.init_learning_rate) if lowered is None else lowered[0]
            return with_rate(optimizer.config, rate)
        return common.with_seed(optimizer, stock_config(optimizer))

    def state_of(self, optimizer: Any) -> OptimizerState:
        """Return the accumulators; those of `experimental.RMSprop` come with step 0, as it does not count."""
        return accumulators.read(optimizer)

    def parameters_of(self, optimizer: Any) -> list[NamedParameter]:
        """Return what an optimizer updates, in the order of the gradients that it takes."""
        return named_parameters(list(zip(names_of(optimizer), optimizer.parameters, strict=True)))

    def restore(self, optimizer: Any, state: OptimizerState) -> None:
        """Write a state, by `ops.assign`; see `unirms.adapters.mindspore.accumulators.write`.

        In PyNative mode the next step compiles anew. A function of the user's own (`mindspore.jit`) that calls the
        optimizer does not: where the user has called `load_param_into_net` after its first call, it stays stopped.
        """
        accumulators.write(optimizer, state)

    def weights_of(self, model: Any) -> list[NamedParameter]:
        """Return all Parameters and buffers of a Cell that are floating-point, or the given Parameters.

        Raises:
            UnsupportedError: two of them have one name.
        """
        found = model
        if isinstance(model, nn.Cell):
            found = [(str(param.name), param) for param in model.get_parameters()]
        buffers = model.named_buffers() if isinstance(model, nn.Cell) else ()
        weights = named_parameters(found)
        weights += [NamedParameter(name, value, str(value.dtype).lower()) for name, value in buffers]
        twice = [name for name, count in Counter(weight.name for weight in weights).items() if count > 1]
        if twice:
            raise UnsupportedError(f"two weights of the model are called {twice[0]!r}; set Parameter.name")
        return [weight for weight in weights if "float" in weight.dtype]

    def array_of(self, value: Any) -> Array:
        """Return a copy of a tensor; bfloat16 comes as float32."""
        return accumulators.array_of(value)

    def assign(self, value: Any, array: Array) -> None:
        """Write an array into a weight, where compiled functions see it."""
        accumulators.assign(value, array)


def _config_of_group(group: Mapping[str, Any]) -> tuple[RMSPropConfig, list[str]]:
    """Return the config of a group of `mindspore.experimental.optim.RMSprop`, whose rates are float32 Parameters."""
    native = {
        argument.name: group[argument.name]
        for argument in dialects.get("mindspore-experimental").arguments
        if argument.fields
    }
    rate = native["lr"]
    native["lr"] = as_given(rate.asnumpy()[()]) if isinstance(rate, Tensor) else rate
    return RMSPropConfig.from_native("mindspore-experimental", **native), [str(param.name) for param in group["params"]]


ADAPTER: Adapter = MindSporeAdapter()
