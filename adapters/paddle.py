"""PaddlePaddle: `paddle.optimizer.RMSProp`, and `UniRMSProp`, a subclass of it that computes every axis.

The constraints that shape this module: one update rule must serve the dynamic mode, where tensors are changed in place,
and static graphs, where only values may be passed on (in-place operations there give wrong numbers); and Paddle keeps
options of parameter groups on the parameters themselves, where every other optimizer obeys them, so that the exact
class has no groups and does not look there.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import paddle

from unirms import dialects
from unirms.clipping import ClipByGlobalNorm
from unirms.config import RMSPropConfig
from unirms.errors import UnsupportedError
from unirms.protocol import Adapter, NamedParameter
from unirms.reference import Hyperparameters, bias_correction
from unirms.schedules import BaseSchedule
from unirms.semantics import Difference, Fidelity
from unirms.state import OptimizerState
from unirms.translation import Native

from . import common, paddle_schedules

# What Paddle's own optimizers call; in place, in dynamic mode.
_C_ops: Any = paddle._C_ops

DTYPES = ("float32", "float64")
# Slot of unirms -> name of Paddle's accumulator; the tensor is called <parameter>_<accumulator>_<number>.
SLOTS = {"mean_square": "mean_square", "mean_gradient": "mean_grad", "momentum": "momentum"}
# Field of the config -> attribute of the stock class that is read at every step.
LIVE = {"rho": "_rho", "epsilon": "_epsilon", "momentum": "_momentum", "centered": "_centered"}
# Completed updates: a key of the exact class's state dictionary, and its variable in a static graph.
STEP = "unirms_step"


class UniRMSProp(paddle.optimizer.RMSProp):
    """RMSProp with every axis of an `RMSPropConfig`, in the place of `paddle.optimizer.RMSProp`.

    Works in dynamic mode and in static graphs. Accumulators have the stock class's names, so its checkpoints load; the
    state dictionary has the completed updates besides, under "unirms_step". Learning rate, schedulers and `set_lr` work
    as in the stock class.

    A learning rate, regularizer or `need_clip` that a parameter carries, from a `ParamAttr` or from another optimizer
    with parameter groups, is not looked at: the config says all.

    Args:
        config: the meaning; rho, epsilon, momentum and centered become the stock class's attributes of that name.
        parameters: the parameters; None stands for all of the program, in a static graph only.
        names: the names that the config's patterns match, by Paddle's name of the parameter, where they differ.
        scheduler: a `paddle.optimizer.lr.LRScheduler` in the place of the config's learning rate; without it, a
            schedule of the config gets one.
        name: prefix of the accumulators' names, as in the stock class.

    Raises:
        UnsupportedError: parameter groups, or a config with clips or groups.
    """

    def __init__(
        self,
        config: RMSPropConfig,
        parameters: Iterable[Any] | None = None,
        *,
        names: Mapping[str, str] | None = None,
        scheduler: Any = None,
        name: str | None = None,
    ) -> None:
        parameters = None if parameters is None else list(parameters)
        if any(isinstance(parameter, dict) for parameter in parameters or ()) or config.groups:
            raise UnsupportedError("paddle: UniRMSProp has no parameter groups; make one optimizer for each")
        if config.clip:
            raise UnsupportedError(f"paddle: {common.refuse_pending(config)[0]}")
        super().__init__(
            scheduler or paddle_schedules.learning_rate_for(config),
            **{field: getattr(config, field) for field in LIVE},
            parameters=parameters,
            name=name,
        )
        self.config = config
        self._names = dict(names or {})
        self._weight_decay: dict[str, float] = {}
        self._steps: Any = 0
        self._ops: _InPlace | _Graph | None = None
        self._scalars_by_decay: dict[float, Hyperparameters] = {}
        # The type of the learning rate's variable in a static graph, which must hold it for every parameter.
        if any(_dtype(parameter) == "float64" for parameter in parameters or ()):
            self._dtype = paddle.float64

    def state_dict(self) -> dict[str, Any]:
        """Return the accumulators, the completed updates, and the scheduler's state if there is one."""
        return {**super().state_dict(), self._step_key: paddle.to_tensor([self._steps], dtype="int64")}

    def set_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a state dictionary of this or of the stock class; before the first step too.

        Raises:
            UnsupportedError: it has no count of updates (the stock class keeps none), and bias correction needs one.
        """
        state = dict(state_dict)
        steps = state.pop(self._step_key, None)
        if state and steps is None and self.config.bias_correction:
            raise UnsupportedError(
                f"paddle: the state has no {self._step_key!r}, the number of updates so far, which bias_correction "
                "needs; add it as an array of one integer"
            )
        super().set_state_dict(state)
        if steps is not None:
            self._steps = int(np.asarray(steps).reshape(()))

    load_state_dict = set_state_dict

    @property
    def _step_key(self) -> str:
        return f"{self._name}_{STEP}" if self._name else STEP

    def append_regularization_ops(self, parameters_and_grads: Any, regularization: Any = None) -> Any:
        """Return the gradients as they are: weight decay is in the update rule."""
        return parameters_and_grads

    def _create_accumulators(self, block: Any, parameters: Sequence[Any]) -> None:
        # Called once before the updates of a step (which an overflow of scaled gradients may cancel), or of a graph.
        self._ops = None
        super()._create_accumulators(block, parameters)
        if parameters and not paddle.in_dynamic_mode() and not self._accumulators[self._step_key]:
            self._add_accumulator(STEP, parameters[0], dtype="int64", shape=[])

    def _add_accumulator(self, name: str, param: Any, **kwargs: Any) -> Any:
        if name == SLOTS["mean_square"]:
            kwargs["fill_value"] = self.config.initial_mean_square
        return super()._add_accumulator(name, param, **kwargs)

    def _append_optimize_op(self, block: Any, param_and_grad: tuple[Any, Any]) -> None:
        param, grad = param_and_grad
        ops = self._ops or self._begin()
        decay = self._decay_of(param.name)
        if decay not in self._scalars_by_decay:
            self._scalars_by_decay[decay] = self._scalars_for(decay)
        rmsprop(
            ops,
            param,
            _dense(grad, param),
            {slot: self._get_accumulator(key, param) for slot, key in SLOTS.items()},
            config=self.config,
            scalars=self._scalars_by_decay[decay],
            momentum=self._momentum > 0,
            centered=self._centered,
        )

    def _begin(self) -> _InPlace | _Graph:
        """Begin the updates of a step, or of a graph: count it."""
        self._scalars_by_decay.clear()
        if paddle.in_dynamic_mode():
            self._steps += 1
        else:
            ((_, variable),) = self._accumulators[self._step_key].items()
            self._steps = variable + paddle.full([], 1, "int64")
            paddle.assign(self._steps, output=variable)
        self._ops = _InPlace() if paddle.in_dynamic_mode() else _Graph()
        return self._ops

    def _decay_of(self, parameter: str) -> float:
        if parameter not in self._weight_decay:
            config = self.config.for_parameter(self._names.get(parameter, parameter))
            self._weight_decay[parameter] = config.weight_decay
        return self._weight_decay[parameter]

    def _scalars_for(self, weight_decay: float) -> Hyperparameters:
        if not paddle.in_dynamic_mode():
            return self._graph_scalars(weight_decay)
        correction = bias_correction(self._rho, self._steps) if self.config.bias_correction else 1.0
        return Hyperparameters.live(
            self.get_lr(), self._rho, self._epsilon, self._momentum, weight_decay, correction=correction
        )

    def _graph_scalars(self, weight_decay: float) -> Hyperparameters:
        """Return the scalars with what changes between two runs of the graph as float64 values of the graph."""
        constant = Hyperparameters.live(0.0, self._rho, self._epsilon, self._momentum, weight_decay)
        rate: Any = self._global_learning_rate().astype("float64")
        changing = {"learning_rate": rate, "shrink": rate * paddle.full([], weight_decay, "float64")}
        if self.config.bias_correction:
            rho, one = paddle.full([], self._rho, "float64"), paddle.full([], 1.0, "float64")
            changing["correction"] = one - paddle.pow(rho, self._steps.astype("float64"))
        return dataclasses.replace(constant, **changing)


def rmsprop(
    ops: _InPlace | _Graph,
    param: Any,
    grad: Any,
    slots: Mapping[str, Any],
    *,
    config: RMSPropConfig,
    scalars: Hyperparameters,
    momentum: bool,
    centered: bool,
) -> None:
    """Update one parameter: the reference's operations in the reference's order, each rounded on its own.

    An operation whose name ends in _ may overwrite its first argument, which the rule does not use again.
    """
    if config.loss_scale != 1:
        grad = ops.over(grad, config.loss_scale)
    if config.maximize:
        grad = -grad
    weight = param
    if scalars.weight_decay != 0 and config.weight_decay_mode == "l2":
        grad = ops.add_(ops.times(weight, scalars.weight_decay), grad)
    if scalars.weight_decay != 0 and config.weight_decay_mode == "decoupled":
        weight = ops.subtract_(weight, ops.times(weight, scalars.shrink))

    new = {"mean_square": _average(ops, slots["mean_square"], grad * grad, scalars)}
    if centered:
        new["mean_gradient"] = _average(ops, slots["mean_gradient"], grad, scalars)
    denominator = _denominator(ops, new, config, scalars)

    step = ops.times(grad, scalars.learning_rate) if config.lr_in_momentum else grad
    step = ops.divide_(step, denominator) if config.lr_in_momentum else step / denominator
    usable = ops.is_positive(denominator) if centered and config.negative_variance == "skip" else None
    if momentum:
        decayed = (ops.times_ if usable is None else ops.times)(slots["momentum"], scalars.momentum)
        moved = ops.add_(decayed, step)
        new["momentum"] = moved if usable is None else paddle.where(usable, moved, slots["momentum"])
        step = ops.add_(ops.times(moved, scalars.momentum), step) if config.nesterov else moved
    if not config.lr_in_momentum:
        step = ops.times(step, scalars.learning_rate)
    if usable is not None:
        step = paddle.where(usable, step, paddle.zeros_like(step))
    ops.write(param, ops.subtract_(weight, step))
    for slot, value in new.items():
        ops.write(slots[slot], value)


def _average(ops: Any, mean: Any, value: Any, scalars: Hyperparameters) -> Any:
    return ops.add_(ops.times_(mean, scalars.rho), ops.times(value, scalars.one_minus_rho))


def _denominator(ops: Any, means: Mapping[str, Any], config: RMSPropConfig, scalars: Hyperparameters) -> Any:
    variance, mean = means["mean_square"], means.get("mean_gradient")
    if config.bias_correction:
        variance = ops.over(variance, scalars.correction)
    if mean is not None:
        mean = ops.over(mean, scalars.correction) if config.bias_correction else mean
        variance = variance - mean * mean
        if config.negative_variance == "clamp":
            # Not paddle.clip, which turns an infinity into the largest finite number.
            variance = paddle.maximum(variance, paddle.zeros_like(variance))
    if config.epsilon_placement == "inside_sqrt":
        return _sqrt(ops, ops.plus(variance, scalars.epsilon))
    return ops.plus(_sqrt(ops, variance), scalars.epsilon)


def _sqrt(ops: Any, value: Any) -> Any:
    """Return the square root, correctly rounded.

    Paddle's float32 kernel is not: on CPU, 37% of random numbers come out one ULP off, and only where the number is in
    a full vector of eight, so that the result depends on the position. The float64 kernel is right.
    """
    if value.dtype == paddle.float64:
        return paddle.sqrt(value)
    return paddle.cast(ops.sqrt_(paddle.cast(value, "float64")), value.dtype)


class _InPlace:
    """Operations of the dynamic mode. Scalars are Python floats, which the kernel rounds to the tensor's dtype once."""

    add_: Callable[..., Any] = staticmethod(_C_ops.add_)
    subtract_: Callable[..., Any] = staticmethod(_C_ops.subtract_)
    divide_: Callable[..., Any] = staticmethod(_C_ops.divide_)
    sqrt_: Callable[..., Any] = staticmethod(_C_ops.sqrt_)

    def times(self, tensor: Any, scalar: float) -> Any:
        return _C_ops.scale(tensor, scalar, 0.0, True)

    def times_(self, tensor: Any, scalar: float) -> Any:
        return _C_ops.scale_(tensor, scalar, 0.0, True)

    def plus(self, tensor: Any, scalar: float) -> Any:
        return _C_ops.scale(tensor, 1.0, scalar, True)

    def over(self, tensor: Any, scalar: float) -> Any:
        return tensor / paddle.full([], scalar, tensor.dtype)

    def is_positive(self, tensor: Any) -> Any:
        return tensor > 0.0

    def write(self, target: Any, value: Any) -> None:
        if value is not target:
            _C_ops.assign_out_(value, target)


class _Graph:
    """Operations of a static graph. Scalars become tensors, because attributes of its operations are float32."""

    add_: Callable[..., Any] = staticmethod(paddle.add)
    subtract_: Callable[..., Any] = staticmethod(paddle.subtract)
    divide_: Callable[..., Any] = staticmethod(paddle.divide)
    sqrt_: Callable[..., Any] = staticmethod(paddle.sqrt)

    def __init__(self) -> None:
        self._tensors: dict[tuple[Any, Any], Any] = {}

    def times(self, tensor: Any, scalar: Any) -> Any:
        return tensor * self._like(tensor, scalar)

    times_ = times

    def plus(self, tensor: Any, scalar: Any) -> Any:
        return tensor + self._like(tensor, scalar)

    def over(self, tensor: Any, scalar: Any) -> Any:
        return tensor / self._like(tensor, scalar)

    def is_positive(self, tensor: Any) -> Any:
        return tensor > self._like(tensor, 0.0)

    def write(self, target: Any, value: Any) -> None:
        paddle.assign(value, output=target)

    def _like(self, tensor: Any, scalar: Any) -> Any:
        """Return the scalar, a float or a float64 value of the graph, rounded to the tensor's dtype; made once."""
        constant = isinstance(scalar, float)
        # Not a value of the graph itself: == between two of them makes an operation.
        key = (scalar if constant else id(scalar), tensor.dtype)
        if key not in self._tensors:
            self._tensors[key] = paddle.full([], *key) if constant else scalar.astype(tensor.dtype)
        return self._tensors[key]


def _dense(grad: Any, param: Any) -> Any:
    """Return the gradient in the parameter's dtype; rows of an embedding's are summed, repeated ones included."""
    if grad.is_selected_rows() if paddle.in_dynamic_mode() else grad.is_selected_row_type():
        grad = _C_ops.add_n([paddle.zeros(param.shape, grad.dtype), grad])
    return grad if grad.dtype == param.dtype else grad.astype(param.dtype)


class PaddleAdapter:
    """The verbs of `unirms.protocol.Adapter` for PaddlePaddle."""

    framework = "paddle"
    options: Mapping[str, str] = {
        "name": "prefix of the accumulators' names, as in Paddle's own optimizers",
        "scheduler": "a paddle.optimizer.lr.LRScheduler in the place of the config's learning rate",
    }

    def named_parameters(self, params: Any) -> list[NamedParameter]:
        """Return the trainable parameters of a Layer or of a static Program, or the given ones."""
        if isinstance(params, paddle.nn.Layer):
            params = [(name, param) for name, param in params.named_parameters() if not param.stop_gradient]
        if isinstance(params, paddle.static.Program):
            params = [param for param in params.global_block().all_parameters() if not param.stop_gradient]
        return common.named(
            params,
            is_parameter=lambda value: isinstance(value, (paddle.Tensor, paddle.pir.Value)),
            name_of=lambda index, value: str(value.name),
            dtype_of=_dtype,
        )

    def limits(self, native: Native, config: RMSPropConfig, params: Sequence[NamedParameter]) -> Sequence[Difference]:
        """Return what the kernel rounds or has not, and what the class would read off or write into the parameters."""
        rounded = [*dialects.get(self.framework).rounds]
        if not paddle.in_dynamic_mode():
            rounded.append("weight_decay")
        return [
            *common.rounded_to_float32(rounded, config, params),
            *_dtype_limits(params),
            *_exemption_limits(config, params),
            *_carried_limits(config, params),
            *_seed_limits(native, config),
        ]

    def refusals(self, config: RMSPropConfig, params: Sequence[NamedParameter], *, exact: bool) -> Sequence[str]:
        """Return why this cannot be built: dtypes and clips that Paddle has no CPU kernels for."""
        reasons = common.refuse_dtypes(params, DTYPES)
        if exact:
            return [*reasons, *common.refuse_pending(config)]
        if len({param.dtype for param in params}) > 1:
            reasons.append("the stock class steps parameters of one dtype only")
        return [*reasons, *_clip_refusals(config, params)]

    def stock(
        self, native: Native, config: RMSPropConfig, params: Sequence[NamedParameter], options: Mapping[str, Any]
    ) -> paddle.optimizer.RMSProp:
        """Return `paddle.optimizer.RMSProp`, its mean square filled in where it does not start at 0."""
        kwargs = dict(native.kwargs)
        if kwargs.get("grad_clip") is not None:
            call = kwargs["grad_clip"]
            kwargs["grad_clip"] = getattr(paddle.nn, call.class_name)(*call.args, **call.kwargs)
        kwargs["learning_rate"] = options.get("scheduler") or paddle_schedules.learning_rate_for(config)
        values = [param.value for param in params]
        optimizer = paddle.optimizer.RMSProp(**kwargs, parameters=values, name=options.get("name"))
        optimizer._names = _renamed(params)
        if config.initial_mean_square != native.meaning.initial_mean_square and paddle.in_dynamic_mode():
            _fill_mean_squares(optimizer, values, config.initial_mean_square)
            common.remember_seed(optimizer, config)
        return optimizer

    def exact(self, config: RMSPropConfig, params: Sequence[NamedParameter], options: Mapping[str, Any]) -> UniRMSProp:
        """Return `UniRMSProp`."""
        return UniRMSProp(config, [param.value for param in params], names=_renamed(params), **options)

    def lr_scheduler(self, optimizer: Any) -> Any:
        """Return the `paddle.optimizer.lr.LRScheduler` of the optimizer, or None where its rate is a number."""
        rate = optimizer._learning_rate
        return rate if isinstance(rate, paddle.optimizer.lr.LRScheduler) else None

    def swap_average(self, optimizer: Any) -> None:
        """Exchange the weights and their running means."""
        raise UnsupportedError(f"{self.framework}: running means of the weights are not built yet")

    def owns(self, optimizer: Any) -> bool:
        """Return whether it is `paddle.optimizer.RMSProp` or `UniRMSProp`; other subclasses may compute anything."""
        return type(optimizer) in {paddle.optimizer.RMSProp, UniRMSProp}

    def config_of(self, optimizer: Any) -> RMSPropConfig:
        """Return the config with the present hyperparameters.

        The learning rate is the schedule of the scheduler, or the number of `set_lr` or of the constructor.

        Raises:
            UnsupportedError: a scheduler, or options of parameter groups, that a config cannot say.
        """
        if isinstance(optimizer, UniRMSProp):
            live = {field: getattr(optimizer, attribute) for field, attribute in LIVE.items()}
            return optimizer.config.replace(learning_rate=_rate(optimizer), **live)
        groups = _groups(optimizer)
        config = common.one_config(
            [common.LiveGroup(*_config_of(optimizer, group, param)) for group in groups for param in group["params"]]
        )
        if len(groups) > 1 and any(isinstance(clip, ClipByGlobalNorm) for clip in config.clip):
            raise UnsupportedError("it clips each parameter group by its own norm, which a config cannot say")
        return common.with_seed(optimizer, config)

    def state_of(self, optimizer: Any) -> OptimizerState:
        """Return the accumulators, in a static graph those of the global scope; before the first step there are none.

        The stock class counts no steps: its `step` is 0.
        """
        prefix = f"{optimizer._name}_" if optimizer._name else ""
        slots = {slot: _arrays(optimizer, prefix + SLOTS[slot]) if slot in _used(optimizer) else {} for slot in SLOTS}
        step = _steps_of(optimizer) if isinstance(optimizer, UniRMSProp) else 0
        return OptimizerState.of(step, slots)


def _dtype_limits(params: Sequence[NamedParameter]) -> list[Difference]:
    dtypes = sorted({param.dtype for param in params})
    if len(dtypes) == 1:
        return []
    return [
        Difference(
            "learning_rate",
            " and ".join(dtypes),
            f"{params[0].dtype} for all",
            Fidelity.APPROXIMATE,
            "it has one dtype for all parameters, and the kernel fails on the others",
            'use unirms.build(…, policy="exact"), or one optimizer for each dtype',
        )
    ]


def _exemption_limits(config: RMSPropConfig, params: Sequence[NamedParameter]) -> list[Difference]:
    """Name the groups that an exemption would need: Paddle writes their options into the parameters."""
    if all(config.for_parameter(param.name).weight_decay == config.weight_decay for param in params):
        return []
    return [
        Difference(
            "no_weight_decay",
            config.no_weight_decay,
            (),
            Fidelity.APPROXIMATE,
            "Paddle's parameter groups are written into the parameters, where other optimizers obey them too",
            'use unirms.build(…, policy="exact")',
        )
    ]


def _carried_limits(config: RMSPropConfig, params: Sequence[NamedParameter]) -> list[Difference]:
    """Name what parameters carry for the stock class to obey, from a `ParamAttr` or another optimizer's groups."""
    found: dict[str, Difference] = {}
    for param in params:
        scale = _scale(param.value)
        regularizer = getattr(param.value, "regularizer", None)
        for axis, actual, differs in (
            ("learning_rate", f"{scale} times as long for {param.name!r}", scale != 1.0),
            ("weight_decay", f"{regularizer} for {param.name!r}", regularizer is not None),
            ("clip", f"none for {param.name!r}", bool(config.clip) and not getattr(param.value, "need_clip", True)),
        ):
            if differs:
                found.setdefault(
                    axis,
                    Difference(
                        axis,
                        getattr(config, axis),
                        actual,
                        Fidelity.APPROXIMATE,
                        "the parameter carries it, from its ParamAttr or from another optimizer with parameter groups",
                        "take it off the parameter (optimize_attr, regularizer, need_clip)",
                    ),
                )
    return list(found.values())


def _seed_limits(native: Native, config: RMSPropConfig) -> list[Difference]:
    actual = native.meaning.initial_mean_square
    if paddle.in_dynamic_mode() or config.initial_mean_square == actual:
        return []
    return [
        Difference(
            "initial_mean_square",
            config.initial_mean_square,
            actual,
            Fidelity.APPROXIMATE,
            "in a static graph the accumulators exist once minimize and the startup program have run, not before",
            'use unirms.build(…, policy="exact")',
        )
    ]


def _clip_refusals(config: RMSPropConfig, params: Sequence[NamedParameter]) -> list[str]:
    kinds = {clip.by for clip in config.clip}
    reasons = []
    if "norm" in kinds and any(param.dtype == "float64" for param in params):
        reasons.append("ClipGradByNorm has no kernel for float64 parameters")
    if "value" in kinds and not paddle.in_dynamic_mode():
        reasons.append("ClipGradByValue does not work in a static graph")
    return reasons


def _fill_mean_squares(optimizer: Any, params: Sequence[Any], value: float) -> None:
    optimizer._create_accumulators(paddle.static.default_main_program().global_block(), params)
    for param in params:
        accumulator = optimizer._get_accumulator(SLOTS["mean_square"], param)
        accumulator.set_value(paddle.full_like(accumulator, value))


def _renamed(params: Sequence[NamedParameter]) -> dict[str, str]:
    return {param.value.name: param.name for param in params if param.value.name != param.name}


def _groups(optimizer: Any) -> list[Mapping[str, Any]]:
    params = optimizer._param_groups
    if params is None:
        return [{"params": paddle.static.default_main_program().global_block().all_parameters()}]
    return params if isinstance(params[0], dict) else [{"params": params}]


def _config_of(optimizer: Any, group: Mapping[str, Any], param: Any) -> tuple[RMSPropConfig, list[str]]:
    """Return what a stock optimizer computes for one parameter, and the parameter's name."""
    regularizer = getattr(param, "regularizer", None)
    rate, scale = _rate(optimizer), _scale(param)
    native = {
        "learning_rate": float(optimizer.get_lr()) * scale,
        "weight_decay": regularizer if regularizer is not None else optimizer.regularization,
        "grad_clip": group.get("grad_clip", optimizer._grad_clip),
        **{field: group.get(field, getattr(optimizer, attribute)) for field, attribute in LIVE.items()},
    }
    name = getattr(optimizer, "_names", {}).get(param.name, param.name)
    config = RMSPropConfig.from_native("paddle", **native)
    if isinstance(rate, BaseSchedule):
        config = config.replace(learning_rate=rate if scale == 1 else rate.scaled(scale))
    return config, [name]


def _rate(optimizer: Any) -> float | BaseSchedule:
    rate = optimizer._learning_rate
    if isinstance(rate, paddle.optimizer.lr.LRScheduler):
        return paddle_schedules.schedule_of(rate)
    return float(rate)


def _scale(param: Any) -> float:
    """Return the factor on the learning rate that a parameter carries."""
    return float((getattr(param, "optimize_attr", None) or {}).get("learning_rate", 1.0))


def _used(optimizer: Any) -> set[str]:
    """Return the slots whose contents mean something; Paddle keeps all three always."""
    kept = {"mean_square"}
    for group in _groups(optimizer):
        kept |= {"momentum"} if group.get("momentum", optimizer._momentum) > 0 else set()
        kept |= {"mean_gradient"} if group.get("centered", optimizer._centered) else set()
    return kept


def _arrays(optimizer: Any, accumulator: str) -> dict[str, np.ndarray[Any, Any]]:
    """Return the copies of one accumulator by parameter name."""
    names = getattr(optimizer, "_names", {})
    held = optimizer._accumulators_holder
    found = {name: _array(variable) for name, variable in optimizer._accumulators.get(accumulator, {}).items()}
    if not optimizer._accumulators and held:  # loaded, and not yet taken over at a first step
        tail = re.compile(rf"(.+)_{re.escape(accumulator)}_\d+")
        matches = {key: tail.fullmatch(key) for key in held}
        found = {match[1]: np.array(held[key]) for key, match in matches.items() if match}
    return {names.get(name, name): array for name, array in found.items() if array is not None}


def _steps_of(optimizer: UniRMSProp) -> int:
    variables = list(optimizer._accumulators.get(optimizer._step_key, {}).values())
    if not variables:
        return int(optimizer._steps)
    count = _array(variables[0])
    return 0 if count is None else int(count)


def _array(variable: Any) -> np.ndarray[Any, Any] | None:
    """Return a copy of a tensor, or of a graph's variable in the global scope; None before the startup program ran."""
    if isinstance(variable, paddle.Tensor):
        return np.array(variable.numpy())
    found = paddle.static.global_scope().find_var(variable.name)
    return None if found is None or not found.get_tensor()._is_initialized() else np.array(found.get_tensor())


def _dtype(value: Any) -> str:
    return str(value.dtype).removeprefix("paddle.")


ADAPTER: Adapter = PaddleAdapter()
