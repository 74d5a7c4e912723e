"""PyTorch: `torch.optim.RMSprop`, and `UniRMSProp`, a subclass of it that computes every axis."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import torch

from unirms.config import RMSPropConfig
from unirms.errors import UnsupportedError
from unirms.protocol import Adapter, NamedParameter
from unirms.reference import Hyperparameters, bias_correction, ema_decay
from unirms.semantics import Difference
from unirms.state import Array, OptimizerState
from unirms.translation import Native

from .. import common
from . import accumulators, groups, preparing, schedules, states
from .accumulators import SLOTS, Group, real
from .by_name import in_own_order
from .plateau import PlateauLR
from .preparing import Gradient
from .rates import ATTRIBUTE
from .rule import average_weights, rmsprop, rmsprop_on_rows

CONFIG = "unirms"
"""Key in the state dictionary of an exact optimizer: what it was built from; its groups say what holds now."""
# Complex parameters are pairs of reals.
DTYPES = ("float32", "float64", "float16", "bfloat16", "complex64", "complex128")


class UniRMSProp(torch.optim.RMSprop):
    """RMSprop with every axis of an `RMSPropConfig`, in the place of `torch.optim.RMSprop`.

    `param_groups` and `state_dict` have the stock class's keys, so its schedulers, hooks and checkpoints work; the
    learning rate and the other hyperparameters are read from the groups at every step. What a config asks for beyond
    the stock class has keys of its own in the state: the running means of the weights, and gradients that are gathered.
    If the config's learning rate is a schedule, `unirms.lr_scheduler(optimizer)` returns the scheduler to step after
    each update.

    Args:
        params: parameters, or (name, parameter) pairs, which are grouped as the config says; or groups, as for any
            PyTorch optimizer.
        config: the meaning; its learning rate, rho, epsilon, momentum, centered, weight decay and maximize become the
            defaults of the groups.
        foreach: True updates all tensors of a group together, False one at a time; None chooses False on CPU. The
            numbers are the same.

    Attributes:
        config: what it was built from.
        updated: whether the last step made an update; False where it only gathered gradients, or skipped some that were
            not finite.
    """

    updated = True

    def __init__(self, params: Any, config: RMSPropConfig, *, foreach: bool | None = None) -> None:
        self.config = config
        defaults = groups.native(config)
        super().__init__(groups.grouped(params, config), **defaults, foreach=foreach)
        schedules.follow(self, config, groups.rate_factors(config, self))

    def __getstate__(self) -> dict[str, Any]:
        # The base class keeps three attributes only; without the config a copy could not step.
        scheduler = schedules.scheduler_of(self)
        own = {"config": self.config, "updated": self.updated, ATTRIBUTE: scheduler}
        return {**super().__getstate__(), **own}

    def state_dict(self) -> dict[str, Any]:
        """Return what the stock class returns, and under `CONFIG` what it was built from, as JSON.

        `torch.load(weights_only=True)` reads it, and `load_state_dict` passes over it, that of the stock class too.
        """
        return {**super().state_dict(), CONFIG: json.dumps(self.config.model_dump(mode="json"))}

    def load_state_dict(self, state_dict: Any) -> None:
        """Load by the names of the parameters where both sides have the same ones; else by position, as PyTorch does.

        Raises:
            ValueError: as PyTorch; or the parameters have the same names, and are in other groups.
        """
        super().load_state_dict(in_own_order(self, state_dict))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient; return the closure's loss, or None.

        With gradient accumulation, all calls but each last one of `gradient_accumulation_steps` only gather.

        Raises:
            NonFiniteGradientError: a gradient has an infinity or a NaN, and the config says `non_finite="raise"`;
                nothing has changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.updated = False
        grads = preparing.prepared(self)
        if grads is not None:
            self._update(grads)
            self.updated = True
        return loss

    def _update(self, grads: Sequence[Gradient]) -> None:
        """Make one update from prepared gradients."""
        number = self._update_number() if self.config.bias_correction or self.config.ema_decay > 0 else None
        for _, alike in groupby(grads, key=lambda grad: id(grad.group)):
            self._update_group(list(alike), number)
        steps = [state["step"] for state in self.state.values()]
        if steps:  # of parameters without a gradient too: the largest counts the updates
            torch._foreach_add_(steps, 1)
        if number is not None and self.config.ema_decay > 0:
            self._average(ema_decay(self.config, number))

    def _update_number(self) -> int:
        """Return the number of the update that is to be made, counted from 1."""
        return 1 + max([0, *(int(state["step"]) for state in self.state.values())])

    def _update_group(self, grads: Sequence[Gradient], number: int | None) -> None:
        group = grads[0].group
        scalars = Hyperparameters.live(
            float(group["lr"]),
            group["alpha"],
            group["eps"],
            group["momentum"],
            group["weight_decay"],
            correction=1.0 if number is None else bias_correction(group["alpha"], number),
        )
        keys = accumulators.keys_of(group, self.config)
        used = {slot: key for slot, key in SLOTS.items() if key in keys and slot != "average"}
        for batch in _batches(group, grads):
            states = [self.state[grad.param] for grad in batch]
            for state, grad in zip(states, batch, strict=True):
                accumulators.complete(state, grad.param, keys, self.config)
            slots = {slot: [real(state[key]) for state in states] for slot, key in used.items()}
            params, values = [real(grad.param) for grad in batch], [grad.values for grad in batch]
            rule = rmsprop if batch[0].rows is None else partial(rmsprop_on_rows, rows=batch[0].rows)
            rule(params, values, slots, config=self.config, scalars=scalars)

    def _average(self, decay: float) -> None:
        """Update the running means of all weights, also of those without a gradient."""
        for group in self.param_groups:
            keys = accumulators.keys_of(group, self.config)
            for param in group["params"]:
                accumulators.complete(self.state[param], param, keys, self.config)
            means = [real(self.state[param]["weight_avg"]) for param in group["params"]]
            if means:
                average_weights(means, [real(param) for param in group["params"]], decay)


def _batches(group: Group, grads: Sequence[Gradient]) -> list[list[Gradient]]:
    """Return the gradients one by one, or together by dtype and device, as for-each kernels need them; rows alone."""
    together = group["foreach"] if group["foreach"] is not None else any(not grad.param.is_cpu for grad in grads)
    if not together:
        return [[grad] for grad in grads]
    batches: dict[Any, list[Gradient]] = {}
    for grad in grads:
        alike = (grad.param.dtype, grad.param.device) if grad.rows is None else id(grad)
        batches.setdefault(alike, []).append(grad)
    return list(batches.values())


class TorchAdapter:
    """The verbs of `unirms.protocol.Adapter` for PyTorch."""

    framework = "torch"
    options: Mapping[str, str] = {"foreach": "update all tensors of a group together (True) or one at a time (False)"}

    def named_parameters(self, params: Any) -> list[NamedParameter]:
        """Return the trainable parameters of a Module, or the given ones."""
        return groups.named_parameters(params)

    def limits(self, native: Native, config: RMSPropConfig, params: Sequence[NamedParameter]) -> Sequence[Difference]:
        """Return nothing: torch computes its hyperparameters in double and has one CPU kernel for every index."""
        return ()

    def refusals(self, config: RMSPropConfig, params: Sequence[NamedParameter], *, exact: bool) -> Sequence[str]:
        """Return why this cannot be built, by either class: a dtype that is not computed."""
        return common.refuse_dtypes(params, DTYPES)

    def stock(
        self, native: Native, config: RMSPropConfig, params: Sequence[NamedParameter], options: Mapping[str, Any]
    ) -> torch.optim.RMSprop:
        """Return `torch.optim.RMSprop`, its mean square filled in where it does not start at 0.

        One hook makes sparse gradients dense before each step; the class would refuse them. Another loads state
        dictionaries by name. PyTorch copies neither hooks nor schedulers along with a stock optimizer.
        """
        kwargs = {**native.kwargs, "lr": config.initial_learning_rate}
        optimizer = torch.optim.RMSprop(groups.groups_of(config, params), **kwargs, **options)
        if config.initial_mean_square != native.meaning.initial_mean_square:
            for group in optimizer.param_groups:
                for param in group["params"]:
                    optimizer.state[param] = accumulators.fresh(param, group, config)
            common.remember_seed(optimizer, config)
        optimizer.register_step_pre_hook(preparing.densify)
        optimizer.register_load_state_dict_pre_hook(in_own_order)
        schedules.follow(optimizer, config, groups.rate_factors(config, optimizer))
        return optimizer

    def exact(self, config: RMSPropConfig, params: Sequence[NamedParameter], options: Mapping[str, Any]) -> UniRMSProp:
        """Return `UniRMSProp`."""
        return UniRMSProp(groups.groups_of(config, params), config, **options)

    def lr_scheduler(self, optimizer: Any) -> schedules.ScheduleLR | PlateauLR | None:
        """Return the scheduler that came with a schedule or a plateau; one of PyTorch's cannot be found from here."""
        return schedules.scheduler_of(optimizer)

    def swap_average(self, optimizer: Any) -> None:
        """Exchange the weights and their running means, which only the exact class keeps."""
        if not isinstance(optimizer, UniRMSProp) or optimizer.config.ema_decay == 0:
            raise UnsupportedError("this optimizer keeps no running means of the weights; give its config an ema_decay")
        accumulators.swap_average(optimizer)

    def owns(self, optimizer: Any) -> bool:
        """Return whether it is `torch.optim.RMSprop` or `UniRMSProp`; other subclasses may compute anything."""
        return type(optimizer) in {torch.optim.RMSprop, UniRMSProp}

    def config_of(self, optimizer: Any) -> RMSPropConfig:
        """Return the config with the hyperparameters that the groups hold now; see `groups.config_of`."""
        return groups.config_of(optimizer, _built_from(optimizer))

    def state_of(self, optimizer: Any) -> OptimizerState:
        """Return the accumulators of all parameters, and the place of a plateau."""
        return states.state_of(optimizer, _built_from(optimizer))

    def parameters_of(self, optimizer: Any) -> list[NamedParameter]:
        """Return all parameters in the order of their groups."""
        return states.parameters_of(optimizer)

    def restore(self, optimizer: Any, state: OptimizerState) -> None:
        """Write a state into the optimizer and the scheduler that came with it.

        One of PyTorch's schedulers cannot be found from here: its user loads its own state.
        """
        states.restore(optimizer, _built_from(optimizer), state)

    def weights_of(self, model: Any) -> list[NamedParameter]:
        """Return the floating-point and complex tensors in the state of a Module, or the given parameters."""
        return states.weights_of(model)

    def array_of(self, value: Any) -> Array:
        """Return a copy of a tensor."""
        return states.array_of(value)

    def assign(self, value: Any, array: Array) -> None:
        """Write an array into a tensor."""
        states.assign(value, array)


def _built_from(optimizer: torch.optim.Optimizer) -> RMSPropConfig | None:
    return optimizer.config if isinstance(optimizer, UniRMSProp) else None


ADAPTER: Adapter = TorchAdapter()
