"""PyTorch: `torch.optim.RMSprop`, and `UniRMSProp`, a subclass of it that computes every axis.

The constraint that shapes this module: `param_groups` may hold PyTorch's own keys only, because distributed checkpoints
of a stock optimizer must load into ours and back. What PyTorch has no word for is kept in `UniRMSProp.config`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from unirms import dialects
from unirms.config import RMSPropConfig
from unirms.errors import UnsupportedError
from unirms.protocol import Adapter, NamedParameter
from unirms.reference import Hyperparameters, bias_correction
from unirms.semantics import Difference
from unirms.state import OptimizerState
from unirms.translation import Native

from . import common, torch_schedules

DTYPES = ("float32", "float64", "float16", "bfloat16")
# Slot of unirms -> key of torch's state dictionary.
SLOTS = {"mean_square": "square_avg", "mean_gradient": "grad_avg", "momentum": "momentum_buffer"}
# Hyperparameters that live in the param_groups, where schedulers and checkpoints find them.
LIVE = {argument.name: argument.fields[0] for argument in dialects.get("torch").arguments if argument.write is not None}


class UniRMSProp(torch.optim.RMSprop):
    """RMSprop with every axis of an `RMSPropConfig`, in the place of `torch.optim.RMSprop`.

    `param_groups` and `state_dict` have the stock class's keys, so its schedulers, hooks and checkpoints work; the
    learning rate and the other hyperparameters are read from the groups at every step. If the config's learning rate is
    a schedule, `unirms.lr_scheduler(optimizer)` returns the scheduler to step after each update.

    Args:
        params: parameters, (name, parameter) pairs, or groups, as for any PyTorch optimizer.
        config: the meaning; its learning rate, rho, epsilon, momentum, centered, weight decay and maximize become the
            defaults of the groups.
        foreach: True updates all tensors of a group together, False one at a time; None chooses False on CPU. The
            numbers are the same.
    """

    def __init__(self, params: Any, config: RMSPropConfig, *, foreach: bool | None = None) -> None:
        self.config = config
        native = {name: getattr(config, field) for name, field in LIVE.items()}
        super().__init__(params, **{**native, "lr": config.initial_learning_rate}, foreach=foreach)
        torch_schedules.follow(self, config)

    def __getstate__(self) -> dict[str, Any]:
        # The base class keeps three attributes only; without the config a copy could not step.
        scheduler = torch_schedules.scheduler_of(self)
        return {**super().__getstate__(), "config": self.config, torch_schedules.ATTRIBUTE: scheduler}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient; return the closure's loss, or None."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        corrected = self.config.bias_correction
        updates = 1 + max((int(state["step"]) for state in self.state.values() if state and corrected), default=0)
        for group in self.param_groups:
            ready = [param for param in group["params"] if param.grad is not None]
            together = group["foreach"] if group["foreach"] is not None else any(not p.is_cpu for p in ready)
            for batch in _batches(ready, together=together):
                self._update(group, batch, updates)
        return loss

    def _update(self, group: Mapping[str, Any], params: list[torch.Tensor], updates: int) -> None:
        """Update one batch of parameters of one dtype and device; `updates` counts this update too."""
        states = [self._state_for(group, param) for param in params]
        for state in states:
            state["step"] += 1
        scalars = Hyperparameters.live(
            float(group["lr"]),
            group["alpha"],
            group["eps"],
            group["momentum"],
            group["weight_decay"],
            correction=bias_correction(group["alpha"], updates) if self.config.bias_correction else 1.0,
        )
        rmsprop(
            params,
            [_dense(param.grad) for param in params],
            {slot: [state[key] for state in states] for slot, key in SLOTS.items() if key in states[0]},
            config=self.config,
            scalars=scalars,
            maximize=bool(group["maximize"]),
        )

    def _state_for(self, group: Mapping[str, Any], param: torch.Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self.state[param]
        if not state:
            state.update(fresh_state(param, group, self.config.initial_mean_square))
        return state


def fresh_state(param: torch.Tensor, group: Mapping[str, Any], mean_square: float) -> dict[str, Any]:
    """Return the complete state of one parameter before its first step, as torch's own `_init_group` makes it.

    It must be complete: torch takes any non-empty dictionary for an initialised state and fails on a missing key.
    """
    state = {"step": torch.zeros((), dtype=torch.float32), "square_avg": torch.full_like(param, mean_square)}
    if group["momentum"] > 0:
        state["momentum_buffer"] = torch.zeros_like(param)
    if group["centered"]:
        state["grad_avg"] = torch.zeros_like(param)
    return {key: value.detach() for key, value in state.items()}


def rmsprop(
    params: list[torch.Tensor],
    grads: list[torch.Tensor],
    slots: Mapping[str, list[torch.Tensor]],
    *,
    config: RMSPropConfig,
    scalars: Hyperparameters,
    maximize: bool,
) -> None:
    """Update tensors in place: the reference's operations in the reference's order, each rounded on its own.

    No `addcmul`, `addcdiv`, `lerp` or `add(alpha=…)`: their fused roundings differ from the reference's by an ULP.
    """
    if config.loss_scale != 1:
        grads = list(torch._foreach_div(grads, config.loss_scale))
    if maximize:
        grads = list(torch._foreach_neg(grads))
    if scalars.weight_decay != 0 and config.weight_decay_mode == "l2":
        grads = list(torch._foreach_add(grads, torch._foreach_mul(params, scalars.weight_decay)))
    if scalars.weight_decay != 0 and config.weight_decay_mode == "decoupled":
        torch._foreach_sub_(params, torch._foreach_mul(params, scalars.shrink))

    squares, means, buffers = slots["mean_square"], slots.get("mean_gradient"), slots.get("momentum")
    _average(squares, torch._foreach_mul(grads, grads), scalars)
    if means is not None:
        _average(means, torch._foreach_mul(grads, scalars.one_minus_rho), scalars, weighted=True)
    denominators = _denominators(squares, means, config, scalars)

    usable = [denominator > 0 for denominator in denominators] if means and config.negative_variance == "skip" else None
    numerators = torch._foreach_mul(grads, scalars.learning_rate) if config.lr_in_momentum else grads
    steps = list(torch._foreach_div(numerators, denominators))
    if buffers is not None:
        moved = torch._foreach_mul(buffers, scalars.momentum)
        torch._foreach_add_(moved, steps)
        steps = (
            list(torch._foreach_add(torch._foreach_mul(moved, scalars.momentum), steps)) if config.nesterov else moved
        )
        for i, buffer in enumerate(buffers):
            buffer.copy_(moved[i] if usable is None else torch.where(usable[i], moved[i], buffer))
    if not config.lr_in_momentum:
        steps = list(torch._foreach_mul(steps, scalars.learning_rate))
    if usable is not None:
        steps = [torch.where(kept, step, 0.0) for kept, step in zip(usable, steps, strict=True)]
    torch._foreach_sub_(params, steps)


def _average(
    means: list[torch.Tensor], new: Sequence[torch.Tensor], scalars: Hyperparameters, *, weighted: bool = False
) -> None:
    torch._foreach_mul_(means, scalars.rho)
    torch._foreach_add_(means, list(new) if weighted else torch._foreach_mul(list(new), scalars.one_minus_rho))


def _denominators(
    squares: list[torch.Tensor],
    means: list[torch.Tensor] | None,
    config: RMSPropConfig,
    scalars: Hyperparameters,
) -> Sequence[torch.Tensor]:
    variances: Sequence[torch.Tensor] = squares
    if config.bias_correction:
        variances = torch._foreach_div(squares, scalars.correction)
    if means is not None:
        corrected = torch._foreach_div(means, scalars.correction) if config.bias_correction else means
        variances = torch._foreach_sub(variances, torch._foreach_mul(corrected, corrected))
        if config.negative_variance == "clamp":
            variances = [variance.clamp(min=0) for variance in variances]
    if config.epsilon_placement == "inside_sqrt":
        return list(torch._foreach_sqrt(torch._foreach_add(variances, scalars.epsilon)))
    return list(torch._foreach_add(torch._foreach_sqrt(variances), scalars.epsilon))


def _batches(params: list[torch.Tensor], *, together: bool) -> list[list[torch.Tensor]]:
    """Return the parameters one by one, or together by dtype and device, as the for-each kernels need them."""
    if not together:
        return [[param] for param in params]
    batches: dict[Any, list[torch.Tensor]] = {}
    for param in params:
        batches.setdefault((param.dtype, param.device), []).append(param)
    return list(batches.values())


def _dense(grad: torch.Tensor) -> torch.Tensor:
    if grad.is_sparse:
        raise RuntimeError("RMSprop does not support sparse gradients; call .to_dense() on the gradient")
    return grad


class TorchAdapter:
    """The verbs of `unirms.protocol.Adapter` for PyTorch."""

    framework = "torch"
    options: Mapping[str, str] = {"foreach": "update all tensors of a group together (True) or one at a time (False)"}

    def named_parameters(self, params: Any) -> list[NamedParameter]:
        """Return the trainable parameters of a Module, or the given ones."""
        if isinstance(params, torch.nn.Module):
            params = [(name, param) for name, param in params.named_parameters() if param.requires_grad]
        return common.named(
            params,
            is_parameter=lambda value: isinstance(value, torch.Tensor),
            name_of=lambda index, value: str(index),
            dtype_of=lambda value: str(value.dtype).removeprefix("torch."),
        )

    def limits(self, native: Native, config: RMSPropConfig, params: Sequence[NamedParameter]) -> Sequence[Difference]:
        """Return nothing: torch computes its hyperparameters in double and has one CPU kernel for every index."""
        return ()

    def refusals(self, config: RMSPropConfig, params: Sequence[NamedParameter], *, exact: bool) -> Sequence[str]:
        """Return why this cannot be built; the stock class takes complex parameters too."""
        if not exact:
            return common.refuse_dtypes(params, (*DTYPES, "complex64", "complex128"))
        return [*common.refuse_dtypes(params, DTYPES), *common.refuse_pending(config)]

    def stock(
        self, native: Native, config: RMSPropConfig, params: Sequence[NamedParameter], options: Mapping[str, Any]
    ) -> torch.optim.RMSprop:
        """Return `torch.optim.RMSprop`, its mean square filled in where it does not start at 0."""
        optimizer = torch.optim.RMSprop(_groups(config, params), **native.kwargs, **options)
        if config.initial_mean_square != native.meaning.initial_mean_square:
            for group in optimizer.param_groups:
                for param in group["params"]:
                    optimizer.state[param] = fresh_state(param, group, config.initial_mean_square)
            common.remember_seed(optimizer, config)
        torch_schedules.follow(optimizer, config)
        return optimizer

    def exact(self, config: RMSPropConfig, params: Sequence[NamedParameter], options: Mapping[str, Any]) -> UniRMSProp:
        """Return `UniRMSProp`."""
        return UniRMSProp(_groups(config, params), config, **options)

    def lr_scheduler(self, optimizer: Any) -> torch_schedules.ScheduleLR | None:
        """Return the scheduler that came with a schedule; one of PyTorch's cannot be found from its optimizer."""
        return torch_schedules.scheduler_of(optimizer)

    def swap_average(self, optimizer: Any) -> None:
        """Exchange the weights and their running means."""
        raise UnsupportedError(f"{self.framework}: running means of the weights are not built yet")

    def owns(self, optimizer: Any) -> bool:
        """Return whether it is `torch.optim.RMSprop` or `UniRMSProp`; other subclasses may compute anything."""
        return type(optimizer) in {torch.optim.RMSprop, UniRMSProp}

    def config_of(self, optimizer: Any) -> RMSPropConfig:
        """Return the config with the hyperparameters that the groups hold now.

        The learning rate is the schedule while the groups hold its present rate; a rate that was set by hand, or by
        another scheduler, is a number.
        """
        return common.one_config([self._config_of_group(optimizer, group) for group in optimizer.param_groups])

    def _config_of_group(self, optimizer: Any, group: Mapping[str, Any]) -> common.LiveGroup:
        live = {name: _plain(group[name]) for name in LIVE}
        names = [str(name) for name in group.get("param_names", [])]
        if isinstance(optimizer, UniRMSProp):
            changed = {field: live[name] for name, field in LIVE.items()}
            config = optimizer.config.replace(**changed, no_weight_decay=())
        else:
            config = common.with_seed(optimizer, RMSPropConfig.from_native("torch", **live))
        schedule = torch_schedules.schedule_of(optimizer, group)
        return common.LiveGroup(config if schedule is None else config.replace(learning_rate=schedule), names)

    def state_of(self, optimizer: Any) -> OptimizerState:
        """Return the accumulators; parameters that have not stepped yet are left out."""
        slots: dict[str, dict[str, np.ndarray[Any, Any]]] = {slot: {} for slot in SLOTS}
        steps = [0]
        for name, param in _names(optimizer):
            state = optimizer.state.get(param, {})
            steps.append(int(state.get("step", 0)))
            for slot, key in SLOTS.items():
                if key in state:
                    slots[slot][name] = _array(state[key])
        return OptimizerState.of(max(steps), slots)


def _groups(config: RMSPropConfig, params: Sequence[NamedParameter]) -> list[dict[str, Any]]:
    """Return one group, or one for each weight decay; names go along where the user gave any."""
    anonymous = [param.name for param in params] == [str(index) for index in range(len(params))]
    return [
        {
            "params": [param.value if anonymous else (param.name, param.value) for param in members],
            "weight_decay": weight_decay,
        }
        for weight_decay, members in common.by_weight_decay(config, params)
    ]


def _names(optimizer: torch.optim.Optimizer) -> list[tuple[str, torch.Tensor]]:
    named: list[tuple[str, torch.Tensor]] = []
    for group in optimizer.param_groups:
        for index, param in enumerate(group["params"]):
            name = group["param_names"][index] if "param_names" in group else str(len(named))
            named.append((name, param))
    return named


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        if value.numel() != 1:
            raise UnsupportedError(f"a hyperparameter is a tensor of shape {tuple(value.shape)}; it must be a scalar")
        return value.item()
    return value


def _array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """Return a copy; bfloat16, which NumPy has not, comes as float32, which holds it exactly."""
    tensor = tensor.detach().cpu()
    copy: np.ndarray[Any, Any] = (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy().copy()
    return copy


ADAPTER: Adapter = TorchAdapter()
