"""MindSpore: `mindspore.nn.RMSProp`, and `UniRMSProp`, a subclass of it that computes every axis.

The constraint that shapes this module: the update is compiled, in PyNative mode as well (`@jit`; operation by operation
it is 20 to 150 times slower). What may change between two steps must be a Parameter, and everything else, the
choices of the config above all, is a constant of the graph, read from attributes that MindSpore's parser understands.
"""

from __future__ import annotations

import contextlib
import glob
import inspect
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, jit, nn, ops
from mindspore.experimental import optim as experimental

from unirms import dialects
from unirms.config import RMSPropConfig
from unirms.dialects.mindspore import BETA_GAMMA, MISPLACED_EPSILON
from unirms.errors import UnsupportedError
from unirms.names import matches
from unirms.protocol import Adapter, NamedParameter
from unirms.reference import Hyperparameters
from unirms.schedules import BaseSchedule, Table
from unirms.semantics import Difference, Fidelity
from unirms.state import OptimizerState
from unirms.translation import Native

from . import common, mindspore_schedules

# With NumPy 2, MindSpore's first eager operation on a Python scalar in a process raises SystemError (it was built for
# NumPy 1, which also prints a page to stderr), and every later one works: so the first one is made here.
with contextlib.suppress(SystemError), contextlib.redirect_stderr(io.StringIO()):
    Tensor(np.ones(1, np.float32)) * 2.0

DIALECT = dialects.get("mindspore")
# bfloat16 is missing because the CPU backend has no kernel for it in Sub, Sqrt, Greater and Maximum (2.10).
DTYPES = ("float32", "float64", "float16")
# Slot of unirms -> attribute of the optimizer, a ParameterTuple, in nn.RMSProp.
SLOTS = {"mean_square": "ms", "mean_gradient": "mg", "momentum": "moment"}
EXPERIMENTAL_SLOTS = {"mean_square": "mean_square", "mean_gradient": "mean_grad", "momentum": "moment"}
# The names that the user gave, kept on the optimizer, as those of MindSpore's own Parameters may be others.
_NAMES = "_unirms_names"


# Primitives, not the functions of the same names: a step of 13 tensors compiles in 0.6 s instead of 0.85 (all axes).
add, sub, mul, div, pow_ = ops.Add(), ops.Sub(), ops.Mul(), ops.Div(), ops.Pow()
neg, sqrt, less, greater, select = ops.Neg(), ops.Sqrt(), ops.Less(), ops.Greater(), ops.Select()
assign, cast, reshape = ops.Assign(), ops.Cast(), ops.Reshape()


class UniRMSProp(nn.RMSProp):
    """RMSProp with every axis of an `RMSPropConfig`, in the place of `mindspore.nn.RMSProp`.

    Slots and their names are the stock class's (`moment` is there without momentum, too), so checkpoints load both ways
    (not with ``strict_load=True``: see `learning_rate`).

    Args:
        params: Parameters, or (name, Parameter) pairs where the config's patterns mean other names than MindSpore's.
        config: the meaning. A number as its learning rate becomes the Parameter `learning_rate`, which is read at
            every step: change it with ``ops.assign(optimizer.learning_rate, …)``. On CPU it is float64, so that rates
            and their products are rounded once, to the dtype of the weights; elsewhere it is float32, like the stock
            class's. A schedule becomes the cell `UniRMSSchedule`, which follows `global_step`.
        learning_rate: MindSpore's dynamic learning rate in place of the config's: a list of numbers, the i-th for
            update i (held in float32, as MindSpore does), or a `LearningRateSchedule`.

    Inputs:
        gradients: a tuple of Tensors in the order of `params`; those of another dtype are cast to the weight's.

    Raises:
        UnsupportedError: MindSpore's parameter groups, or something else that is not a Parameter.
    """

    def __init__(self, params: Any, config: RMSPropConfig, *, learning_rate: Any = None) -> None:
        named = _named(params)
        each = [config.for_parameter(param.name) for param in named]
        # The stock constructor refuses epsilon = 0; any positive number will do, because its kernel is never called.
        native = DIALECT.write(config)
        wide = self._wide = _wide()
        native["learning_rate"] = _own_rate(config, wide) if learning_rate is None else learning_rate
        super().__init__([param.value for param in named], **accepted(nn.RMSProp, native))
        if learning_rate is None and not self.dynamic_lr:
            self.learning_rate = Parameter(Tensor(config.initial_learning_rate, wide), name="learning_rate")
        self.ms = self.parameters.clone(prefix="mean_square", init=config.initial_mean_square)
        self.config, self.epsilon = config, config.epsilon
        setattr(self, _NAMES, tuple(param.name for param in named))
        self._choose(config)
        self.decays_gradient = tuple(c.weight_decay > 0 and c.weight_decay_mode == "l2" for c in each)
        self.decays_weight = tuple(c.weight_decay > 0 and c.weight_decay_mode == "decoupled" for c in each)
        self.scalars = tuple(_scalars(c, param.dtype) for c, param in zip(each, named, strict=True))
        self.wide_decays = tuple(Tensor(c.weight_decay, wide) for c in each)
        self.wide_rho, self.wide_one = Tensor(config.rho, wide), Tensor(1.0, wide)

    def _choose(self, config: RMSPropConfig) -> None:
        """Set the choices as plain booleans, which the compiler folds: no branch is left in the graph."""
        self.has_loss_scale = config.loss_scale != 1
        self.maximize = config.maximize
        self.corrects_bias = config.bias_correction
        self.clamps = config.centered and config.negative_variance == "clamp"
        self.skips = config.centered and config.negative_variance == "skip"
        self.inside_sqrt = config.epsilon_placement == "inside_sqrt"
        self.lr_in_momentum = config.lr_in_momentum
        self.has_momentum = config.momentum > 0
        self.nesterov = config.nesterov

    @jit
    def construct(self, gradients: Any) -> bool:
        """Update all parameters; return True."""
        rate = cast(self.get_lr(), self._wide)
        correction = rate
        if self.corrects_bias:
            done = add(cast(reshape(self.global_step, ()), self._wide), self.wide_one)
            correction = sub(self.wide_one, pow_(self.wide_rho, done))
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        for index in range(self.param_length):  # unrolled by the compiler
            self._update(index, gradients[index], rate, correction)
        return True

    def _update(self, index: int, grad: Any, rate: Any, correction: Any) -> None:
        """Update one parameter: the reference's operations in the reference's order, each rounded on its own."""
        param, squares, buffer = self.parameters[index], self.ms[index], self.moment[index]
        rho, one_minus_rho, epsilon, momentum, weight_decay, loss_scale, zero = self.scalars[index]
        weight, dtype = param, param.dtype
        learning_rate, grad = cast(rate, dtype), cast(grad, dtype)

        if self.has_loss_scale:
            grad = div(grad, loss_scale)
        if self.maximize:
            grad = neg(grad)
        if self.decays_gradient[index]:
            grad = add(grad, mul(weight_decay, weight))
        if self.decays_weight[index]:
            shrink = cast(mul(rate, self.wide_decays[index]), dtype)
            weight = sub(weight, mul(shrink, weight))

        variance = add(mul(rho, squares), mul(one_minus_rho, mul(grad, grad)))
        assign(squares, variance)
        if self.corrects_bias:
            variance = div(variance, cast(correction, dtype))
        if self.centered:
            mean = add(mul(rho, self.mg[index]), mul(one_minus_rho, grad))
            assign(self.mg[index], mean)
            if self.corrects_bias:
                mean = div(mean, cast(correction, dtype))
            variance = sub(variance, mul(mean, mean))
        if self.clamps:  # not Maximum, which turns NaN into 0 on CPU
            variance = select(less(variance, zero), zero, variance)

        inside = self.inside_sqrt
        denominator = sqrt(add(variance, epsilon)) if inside else add(sqrt(variance), epsilon)
        update = div(mul(learning_rate, grad) if self.lr_in_momentum else grad, denominator)
        usable = greater(denominator, zero) if self.skips else None  # False for NaN too
        step = update
        if self.has_momentum:
            moved = add(mul(momentum, buffer), update)
            step = add(mul(momentum, moved), update) if self.nesterov else moved
            assign(buffer, select(usable, moved, buffer) if self.skips else moved)
        if not self.lr_in_momentum:
            step = mul(learning_rate, step)
        moved_weight = sub(weight, step)
        assign(param, select(usable, moved_weight, weight) if self.skips else moved_weight)


def _wide() -> Any:
    """Return the dtype for rates and their products: float64 where the device has it."""
    return mindspore.float64 if mindspore.get_context("device_target") == "CPU" else mindspore.float32


def _own_rate(config: RMSPropConfig, dtype: Any) -> Any:
    """Return the learning rate of a config in MindSpore's words: a number, or a cell whose rates are of `dtype`."""
    rate = config.learning_rate
    if config.has_constant_rate or not isinstance(rate, BaseSchedule):
        return config.initial_learning_rate
    return mindspore_schedules.UniRMSSchedule(rate, dtype)


def _scalars(config: RMSPropConfig, dtype: str) -> tuple[Tensor, ...]:
    """Return rho, 1 - rho, epsilon, momentum, weight decay, loss scale and 0, rounded from double to `dtype` once."""
    scalars = Hyperparameters.of(config)
    values = (scalars.rho, scalars.one_minus_rho, scalars.epsilon, scalars.momentum, scalars.weight_decay)
    rounded = np.dtype(dtype).type
    return tuple(Tensor(rounded(value)) for value in (*values, config.loss_scale, 0.0))


def accepted(stock_class: type, native: Mapping[str, Any]) -> dict[str, Any]:
    """Return keyword arguments under the names that the installed class has for them.

    MindSpore announces that `learning_rate`, `decay` and `epsilon` will become `lr`, `alpha` and `eps`, and that other
    arguments will go; what a class no longer takes is left out where it has its neutral value.
    """
    names = argument_names(stock_class)
    chosen = {}
    for name, value in native.items():
        argument = DIALECT.argument(name)
        known = [name, *(argument.aliases if argument else ())]
        found = next((candidate for candidate in known if candidate in names), name)
        if found in names or argument is None or value != argument.default:
            chosen[found] = value
    return chosen


def argument_names(stock_class: type) -> frozenset[str]:
    """Return the names of a constructor's arguments; the documented ones where they cannot be found out.

    `opt_init_args_register` wraps the constructor into one with ``*args, **kwargs`` that keeps it in its closure only.
    """
    outer = inspect.unwrap(vars(stock_class)["__init__"])
    inner = [cell.cell_contents for cell in getattr(outer, "__closure__", None) or ()]
    for function in (*filter(inspect.isfunction, inner), outer):
        parameters = inspect.signature(function).parameters.values()
        if "params" in {parameter.name for parameter in parameters}:
            return frozenset(parameter.name for parameter in parameters)
    return frozenset(argument.name for argument in DIALECT.arguments)


class MindSporeAdapter:
    """The verbs of `unirms.protocol.Adapter` for MindSpore."""

    framework = "mindspore"
    options: Mapping[str, str] = {}

    def named_parameters(self, params: Any) -> list[NamedParameter]:
        """Return the trainable parameters of a Cell, or the given ones; plain ones have MindSpore's names."""
        return _named(params.trainable_params() if isinstance(params, nn.Cell) else params)

    def limits(self, native: Native, config: RMSPropConfig, params: Sequence[NamedParameter]) -> Sequence[Difference]:
        """Return what MindSpore's kernels on CPU do otherwise; those of other devices have not been measured."""
        if mindspore.get_context("device_target") != "CPU":
            return ()
        return [*_misplaced_epsilon(config), *_rounded_complement(config), *_other_precision(params)]

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
        return [*reasons, *common.refuse_pending(config)] if exact else reasons

    def stock(
        self, native: Native, config: RMSPropConfig, params: Sequence[NamedParameter], options: Mapping[str, Any]
    ) -> nn.RMSProp:
        """Return `mindspore.nn.RMSProp`, its mean square filled in where it does not start at 1."""
        kwargs = {**native.kwargs, "learning_rate": _own_rate(config, mindspore.float32)}
        optimizer = nn.RMSProp(_groups(config, params), **accepted(nn.RMSProp, kwargs))
        setattr(optimizer, _NAMES, tuple(param.name for param in params))
        if config.initial_mean_square != native.meaning.initial_mean_square:
            for squares, param in zip(optimizer.ms, params, strict=True):
                # set_data works in both modes before the first step; after it, PyNative optimizers no longer see it.
                squares.set_data(Tensor(np.full(squares.shape, config.initial_mean_square, param.dtype)))
            common.remember_seed(optimizer, config)
        return optimizer

    def exact(self, config: RMSPropConfig, params: Sequence[NamedParameter], options: Mapping[str, Any]) -> UniRMSProp:
        """Return `UniRMSProp`."""
        return UniRMSProp([(param.name, param.value) for param in params], config)

    def lr_scheduler(self, optimizer: Any) -> None:
        """Return None: MindSpore asks the schedule itself, at every update."""

    def swap_average(self, optimizer: Any) -> None:
        """Exchange the weights and their running means."""
        raise UnsupportedError(f"{self.framework}: running means of the weights are not built yet")

    def owns(self, optimizer: Any) -> bool:
        """Return whether it is one of MindSpore's two RMSProps or `UniRMSProp`; other subclasses compute anything."""
        return type(optimizer) in {nn.RMSProp, experimental.RMSprop, UniRMSProp}

    def config_of(self, optimizer: Any) -> RMSPropConfig:
        """Return the config with the present learning rate, or its schedule, and the present values of the attributes.

        Only the learning rate is live in MindSpore: what one sets on the attributes of an optimizer after its first
        step is shown here, but a compiled update does not see it. A list of rates is read as a `Table`, whose last rate
        holds where MindSpore raises an error.

        Raises:
            UnsupportedError: its schedule is not exactly one of unirms, or its groups differ.
        """
        if isinstance(optimizer, experimental.RMSprop):
            return common.one_config([common.LiveGroup(*_config_of_group(group)) for group in optimizer.param_groups])
        sources = [optimizer.get_lr_parameter(param) for param in optimizer.parameters]
        rates = {
            id(source): _rate(source, optimizer.init_learning_rate) for source in {id(s): s for s in sources}.values()
        }
        if isinstance(optimizer, UniRMSProp):
            return optimizer.config.replace(learning_rate=rates[id(sources[0])])
        return common.with_seed(optimizer, _stock_config(optimizer, [rates[id(source)] for source in sources]))

    def state_of(self, optimizer: Any) -> OptimizerState:
        """Return the accumulators; those of `experimental.RMSprop` come with step 0, as it does not count."""
        if isinstance(optimizer, experimental.RMSprop):
            groups = [group for group in optimizer.param_groups for _ in group["params"]]
            uses = [(group["centered"], group["momentum"] > 0) for group in groups]
            return OptimizerState.of(0, _slots(optimizer, EXPERIMENTAL_SLOTS, uses))
        uses = [(optimizer.centered, optimizer.momentum > 0)] * len(optimizer.parameters)
        done = int(optimizer.global_step.asnumpy()[0])
        return OptimizerState.of(done, _slots(optimizer, SLOTS, uses))


def _named(params: Any) -> list[NamedParameter]:
    return common.named(
        params,
        is_parameter=lambda value: isinstance(value, Parameter),
        name_of=lambda index, value: str(value.name),
        dtype_of=lambda value: str(value.dtype).lower(),
    )


def _misplaced_epsilon(config: RMSPropConfig) -> list[Difference]:
    """Return the defect of the plain kernel on CPU: its blocks of 8 elements add epsilon to the root.

    nnacl's `RMSPropUnuseCenterFp32` adds epsilon after `_mm256_sqrt_ps`, and before `sqrtf` in the scalar loop over the
    rest; which elements those are depends on how threads split the tensor, and changes during a run.
    """
    defect = MISPLACED_EPSILON
    if not defect.applies(config):
        return []
    return [
        Difference(
            defect.axis,
            config.epsilon_placement,
            defect.actual,
            Fidelity.APPROXIMATE,
            defect.consequence,
            defect.remedy,
        )
    ]


def _rounded_complement(config: RMSPropConfig) -> list[Difference]:
    """Return a difference where the kernels' 1 - rho, taken in float32, is another number than the config's.

    Measured for a centered float32 run of 50 steps from a mean square of 0: 8 ULP along the path for rho = 0.9 and 10
    for 0.99, which is rounding, but 92 for 0.999 and 1139 for 0.9999.
    """
    rounded = float(np.float32(config.rho))
    # 2**-19 of the mean square is 2**-20 of a step, which is 8 half-ULP of float32.
    if abs((1 - rounded) - (1 - config.rho)) <= 2.0**-19 * (1 - config.rho):
        return []
    return [
        Difference(
            "rho",
            config.rho,
            rounded,
            Fidelity.APPROXIMATE,
            "MindSpore's kernel takes 1 - rho in float32, which cancels for rho near 1",
            'use unirms.build(…, policy="exact")',
        )
    ]


def _other_precision(params: Sequence[NamedParameter]) -> list[Difference]:
    """Return a difference for weights that are not float32, in which the stock kernels compute."""
    return [
        Difference(
            "dtype",
            dtype,
            "float32",
            Fidelity.APPROXIMATE,
            f"MindSpore's kernels compute in float32 and store {dtype}, and hold some hyperparameters in another dtype",
            'use unirms.build(…, policy="exact")',
        )
        for dtype in sorted({param.dtype for param in params} - {"float32"})
    ]


def _groups(config: RMSPropConfig, params: Sequence[NamedParameter]) -> list[Any]:
    """Return the parameters, grouped by weight decay where MindSpore's own name filter would not do the same."""
    values = [param.value for param in params]
    by_decay = common.by_weight_decay(config, params)
    own_filter = all(
        config.for_parameter(param.name).weight_decay
        == (0.0 if _is_beta_gamma(param.value.name) else config.weight_decay)
        for param in params
    )
    if config.weight_decay == 0 or own_filter:
        return values
    groups: list[Any] = [{"params": [p.value for p in members], "weight_decay": decay} for decay, members in by_decay]
    return [*groups, {"order_params": values}]  # gradients come in the order of the parameters, not of the groups


def _is_beta_gamma(name: str) -> bool:
    return matches(name, BETA_GAMMA)


def _names(optimizer: Any) -> Sequence[str]:
    """Return the names of the parameters, in their order: the user's if unirms built it, otherwise MindSpore's."""
    given: Sequence[str] = getattr(optimizer, _NAMES, ())
    return given or [str(param.name) for param in optimizer.parameters]


def _slots(
    optimizer: Any, own: Mapping[str, str], uses: Sequence[tuple[bool, bool]]
) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """Return copies of the slots in use; `uses` says for each parameter whether it has a mean and a buffer."""
    needed = {
        "mean_square": [True] * len(uses),
        "mean_gradient": [centered for centered, _ in uses],
        "momentum": [momentum for _, momentum in uses],
    }
    return {
        slot: {
            name: param.asnumpy().copy()
            for name, param, used in zip(_names(optimizer), getattr(optimizer, own[slot]), wanted, strict=True)
            if used
        }
        for slot, wanted in needed.items()
        if any(wanted)  # nn.RMSProp has no `mg` unless it is centered
    }


def _rate(source: Any, given: Any) -> float | BaseSchedule:
    """Return the learning rate behind a Parameter or a cell; `given` is what the constructor got."""
    if not isinstance(source, Parameter):
        return mindspore_schedules.read(source)
    values = source.asnumpy()
    if values.ndim:
        return Table(learning_rates=tuple(_as_given(value) for value in values))
    return _as_given(values[()], given)


def _as_given(value: Any, given: Any = None) -> float:
    """Return a number that was rounded to float32 as it was given, or else as its shortest decimal."""
    if isinstance(given, float) and type(value)(given) == value:
        return given
    return float(str(value))


def _stock_config(optimizer: nn.RMSProp, rates: Sequence[float | BaseSchedule]) -> RMSPropConfig:
    live = {
        argument.name: getattr(optimizer, name)
        for argument in DIALECT.arguments
        if argument.fields and argument.name not in {"learning_rate", "weight_decay"}
        for name in (argument.name, *argument.aliases)
        if hasattr(optimizer, name)
    }
    names = _names(optimizer)
    config = common.one_config(
        [
            common.LiveGroup(
                RMSPropConfig.from_native("mindspore", **live, weight_decay=decay).replace(
                    learning_rate=rate, no_weight_decay=()
                ),
                [name],
            )
            for name, rate, decay in zip(names, rates, _decays(optimizer), strict=True)
        ]
    )
    exempt = [glob.escape(name) for name in names if _is_beta_gamma(name)]
    if exempt and list(config.no_weight_decay) == exempt:  # MindSpore's own filter has a shorter name
        own = tuple(pattern for pattern in BETA_GAMMA if any(matches(name, (pattern,)) for name in names))
        return config.replace(no_weight_decay=own)
    return config


def _decays(optimizer: nn.RMSProp) -> list[float]:
    """Return the weight decay of each parameter, as it was given."""
    default = optimizer.init_args["weight_decay"]
    if optimizer.dynamic_weight_decay:
        raise UnsupportedError("its weight decay is a schedule, which a config cannot say")
    if not optimizer.is_group:
        return [float(default) if decayed else 0.0 for decayed in optimizer.decay_flags]
    if any(optimizer.grad_centralization_flags):
        raise UnsupportedError("it centralizes gradients, which a config cannot say")
    given = {
        id(param): group.get("weight_decay", default)
        for group in optimizer.init_params["params"]
        for param in group.get("params", ())
    }
    return [float(given[id(param)]) for param in optimizer.parameters]


def _config_of_group(group: Mapping[str, Any]) -> tuple[RMSPropConfig, list[str]]:
    """Return the config of a group of `mindspore.experimental.optim.RMSprop`, whose rates are float32 Parameters."""
    native = {
        argument.name: group[argument.name]
        for argument in dialects.get("mindspore-experimental").arguments
        if argument.fields
    }
    rate = native["lr"]
    native["lr"] = _as_given(rate.asnumpy()[()]) if isinstance(rate, Tensor) else rate
    return RMSPropConfig.from_native("mindspore-experimental", **native), [str(param.name) for param in group["params"]]


ADAPTER: Adapter = MindSporeAdapter()
