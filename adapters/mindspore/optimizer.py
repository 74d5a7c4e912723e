"""MindSpore: `UniRMSProp`, a subclass of `mindspore.nn.RMSProp` that computes every axis.

The constraint that shapes it: the update is compiled, in PyNative mode as well (`@jit`; operation by operation it is 20
to 150 times slower). What may change between two steps must be a Parameter, and everything else, the choices of the
config above all, is a constant of the graph, read from attributes that MindSpore's parser understands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mindspore
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, jit, nn, ops

from unirms import preparation
from unirms.config import RMSPropConfig
from unirms.grouping import members
from unirms.protocol import NamedParameter
from unirms.state import Array, OptimizerState

from ..checkpoints.mindspore.names import AVERAGE
from . import plateau
from .preparing import Preparation, in_each
from .rule import Rule, add, assign, cast, mul, reshape, select, sub
from .stock import DIALECT, NAMES, accepted, named_parameters, own_rate

equal, greater_equal, partial, depend = ops.Equal(), ops.GreaterEqual(), ops.Partial(), ops.Depend()


class UniRMSProp(Preparation, Rule):
    """RMSProp with every axis of an `RMSPropConfig`, in the place of `mindspore.nn.RMSProp`.

    Slots and their names are the stock class's (`moment` is there without momentum, too), so checkpoints load both ways
    (not with ``strict_load=True``: see `learning_rate`). Gradient accumulation adds the Parameters `micro_step` and
    `gradient_sum.*`, averaging of the weights adds `average.*`; they are in its checkpoints like the others.

    Args:
        params: Parameters, or (name, Parameter) pairs where the config's patterns mean other names than MindSpore's.
        config: the meaning. A number as its learning rate becomes the Parameter `learning_rate`, which is read at
            every step: change it with ``ops.assign(optimizer.learning_rate, …)``; a group's rate is a multiple of it.
            On CPU it is float64, so that rates and their products are rounded once, to the dtype of the weights;
            elsewhere it is float32, like the stock class's. A schedule becomes the cell `UniRMSSchedule`, which
            follows `global_step`, the number of completed updates.
        learning_rate: MindSpore's dynamic learning rate in place of the config's: a list of numbers, the i-th for
            update i (held in float32, as MindSpore does), or a `LearningRateSchedule`.

    Inputs:
        gradients: a tuple of Tensors in the order of `params`; those of another dtype are cast to the weight's. With
            gradient accumulation, all calls but each last one only gather.

    Raises:
        UnsupportedError: MindSpore's parameter groups, or something else that is not a Parameter; a group of the config
            that matches no parameter.
        NonFiniteGradientError: at a step, with ``non_finite="raise"``. Inside somebody else's compiled function the
            graph itself raises a `RuntimeError` instead, without the names, and MindSpore may refuse to
            run that function again. Nothing has been updated in either case.
    """

    def __init__(self, params: Any, config: RMSPropConfig, *, learning_rate: Any = None) -> None:
        given = named_parameters(params)
        each = members(config, [param.name for param in given])
        # The stock constructor refuses epsilon = 0; any positive number will do, because its kernel is never called.
        native = DIALECT.write(config)
        native["centered"] = any(member.config.centered for member in each)
        wide = self._wide = _wide()
        native["learning_rate"] = own_rate(config, wide) if learning_rate is None else learning_rate
        super().__init__([param.value for param in given], **accepted(nn.RMSProp, native))
        if learning_rate is None and not self.dynamic_lr:
            self.learning_rate = Parameter(Tensor(config.initial_learning_rate, wide), name="learning_rate")
        self.ms = self.parameters.clone(prefix="mean_square", init=config.initial_mean_square)
        self.config, self.epsilon, self.members = config, config.epsilon, each
        setattr(self, NAMES, tuple(param.name for param in given))
        if learning_rate is None:
            plateau.remember(self, config, [1.0] * len(given))
        self._choose_rule(config, each, [param.dtype for param in given], wide)
        self._choose_preparation(config, given)
        self._choose_averaging(config, given)

    def _choose_averaging(self, config: RMSPropConfig, params: Sequence[NamedParameter]) -> None:
        """Set what keeps the running means of the weights; see `unirms.reference.ema_decay`."""
        self.averages = config.ema_decay > 0
        if self.averages:
            self.average = ParameterTuple(
                Parameter(Tensor(p.value.asnumpy().copy()), name=f"{AVERAGE}.{p.value.name}", requires_grad=False)
                for p in params
            )
        self.first_averaged = Tensor(config.ema_start + 1, mindspore.int32)
        self.ema_rests = in_each(1.0 - config.ema_decay, [param.dtype for param in params])

    def __call__(self, *inputs: Any) -> Any:
        """Update all parameters, or gather; return True."""
        if self.config.non_finite == "raise":
            self._refuse_non_finite(*inputs)
        return super().__call__(*inputs)

    @jit
    def construct(self, gradients: Any) -> bool:
        """Update all parameters, or gather; return True."""
        gradients = self.map_(self._unscaled, self.indices, gradients)
        if self.gathers:
            sums = self.map_(self._gathered, self.indices, gradients)
            # A branch, not `select` on values: it compiles as fast, and a step takes a half to a tenth of the time.
            # Its condition waits for the shapes of all gradients: with an error of the compiler inside a branch, which
            # has a thread of its own, MindSpore (2.10) frees Python objects without the GIL and ends the process.
            if equal(self.micro_step, depend(self.last_micro_step, gradients)):
                self._update_if_finite(self.map_(self._mean, self.indices, sums))
                self.map_(self._drop, self.indices, sums)
                assign(self.micro_step, self.no_micro_step)
            else:
                self.map_(self._keep, self.indices, sums)
                assign(self.micro_step, add(self.micro_step, self.one_micro_step))
        else:
            self._update_if_finite(gradients)
        return True

    def _update_if_finite(self, gradients: Any) -> None:
        """Make one update, unless the config says otherwise of gradients that are not finite."""
        if self.skips_updates:
            if self._all_finite(gradients):
                self._update_all(gradients)
        elif self.raises_errors:
            if not self._all_finite(gradients):
                raise RuntimeError("a gradient has an infinity or a NaN, and non_finite is 'raise'")
            self._update_all(gradients)
        else:
            self._update_all(gradients)

    def _update_all(self, gradients: Any) -> None:
        """Make one update."""
        rate, corrections = cast(self.get_lr(), self._wide), ()
        if self.corrects_bias:
            corrections = self._corrections(cast(reshape(self.global_step, ()), self._wide))
        gradients = self._prepared(gradients)
        weights = self.map_(partial(self._update, rate, corrections), self.indices, gradients)
        if self.averages:
            begun = greater_equal(reshape(self.global_step, ()), self.first_averaged)
            self.map_(partial(self._average, begun), self.indices, weights)
        self.assignadd(self.global_step, self.global_step_increase_tensor)

    def _average(self, begun: Any, index: int, weight: Any) -> bool:
        """Update the running mean of one parameter, which is the parameter until `begun`."""
        average = self.average[index]
        mean = sub(average, mul(sub(average, weight), self.ema_rests[index]))
        assign(average, select(begun, mean, weight))
        return True

    def _refuse_non_finite(self, gradients: Any) -> None:
        """Raise `NonFiniteGradientError` where this call would make an update of gradients that are not finite."""
        with np.errstate(all="ignore"):
            arrays = {
                name: grad.asnumpy().astype(param.asnumpy().dtype, copy=False)
                for name, grad, param in zip(getattr(self, NAMES), gradients, self.parameters, strict=False)
            }
            state = OptimizerState.of(0, {"mean_square": {}}, *self.gathered_now())
            ready, _ = preparation.gathered(self.config, arrays, arrays, state)
            if ready is not None:
                preparation.goes_on(self.config, ready)

    def gathered_now(self) -> tuple[dict[str, Array], int]:
        """Return copies of the sums of the gradients since the last update, by name, and how many those are."""
        count = int(self.micro_step.asnumpy()) if self.gathers else 0
        if count == 0:
            return {}, 0
        sums = (param.asnumpy().copy() for param in self.gradient_sum)
        return dict(zip(getattr(self, NAMES), sums, strict=True)), count

    def swap_average(self) -> None:
        """Exchange the weights and their running means."""
        for param, average in zip(self.parameters, self.average, strict=True):
            weight, mean = (Tensor(one.asnumpy().copy()) for one in (param, average))
            # ops.assign, because PyNative optimizers do not see Parameter.set_data after their first step.
            ops.assign(param, mean)
            ops.assign(average, weight)


def _wide() -> Any:
    """Return the dtype for rates and their products: float64 where the device has it."""
    return mindspore.float64 if mindspore.get_context("device_target") == "CPU" else mindspore.float32
