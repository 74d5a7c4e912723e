"""MindSpore: the update rule of one tensor, for the compiler.

`Rule` is a base of `UniRMSProp`, so that the parser finds its methods and attributes on the optimizer. Choices are
plain booleans, which the compiler folds: no branch is left in the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mindspore import Tensor, nn, ops

from unirms.config import RMSPropConfig
from unirms.grouping import Member
from unirms.reference import Hyperparameters

# Primitives, not the functions of the same names: a step of 13 tensors compiles in 0.6 s instead of 0.85 (all axes).
add, sub, mul, div, pow_ = ops.Add(), ops.Sub(), ops.Mul(), ops.Div(), ops.Pow()
neg, sqrt, less, greater, select = ops.Neg(), ops.Sqrt(), ops.Less(), ops.Greater(), ops.Select()
assign, cast, reshape = ops.Assign(), ops.Cast(), ops.Reshape()


class Rule(nn.RMSProp):
    """What becomes of a tensor and its slots, once its gradient is prepared."""

    def _choose_rule(self, config: RMSPropConfig, members: Sequence[Member], dtypes: Sequence[str], wide: Any) -> None:
        """Set the attributes that the methods below read; `wide` is the dtype of rates and of their products."""
        each = [member.config for member in members]
        self.corrects_bias = config.bias_correction
        self.inside_sqrt = config.epsilon_placement == "inside_sqrt"
        self.lr_in_momentum = config.lr_in_momentum
        self.is_centered = tuple(c.centered for c in each)
        self.clamps = tuple(c.centered and c.negative_variance == "clamp" for c in each)
        self.skips = tuple(c.centered and c.negative_variance == "skip" for c in each)
        self.has_momentum = tuple(c.momentum > 0 for c in each)
        self.is_nesterov = tuple(c.nesterov for c in each)
        self.decays = tuple(c.weight_decay > 0 and c.weight_decay_mode == "l2" for c in each)
        self.decays_by_sign = tuple(c.weight_decay > 0 and c.weight_decay_mode == "l1" for c in each)
        self.decays_apart = tuple(c.weight_decay > 0 and c.weight_decay_mode == "decoupled" for c in each)
        self.scalars = tuple(_scalars(c, dtype) for c, dtype in zip(each, dtypes, strict=True))
        self.has_own_rate = tuple(member.rate_factor != 1 for member in members)
        self.rate_factors = tuple(Tensor(member.rate_factor, wide) for member in members)
        self.wide_decays = tuple(Tensor(c.weight_decay, wide) for c in each)
        rhos = list(dict.fromkeys(c.rho for c in each))
        self.wide_rhos = tuple(Tensor(rho, wide) for rho in rhos)
        self.rho_places = tuple(rhos.index(c.rho) for c in each)
        self.wide_one = Tensor(1.0, wide)

    def _corrections(self, done: Any) -> Any:
        """Return 1 - rho**t for each rho in use, t being the number of this update."""
        found: Any = ()
        for index in range(len(self.wide_rhos)):
            found += (sub(self.wide_one, pow_(self.wide_rhos[index], add(done, self.wide_one))),)
        return found

    def _update(self, rate: Any, corrections: Any, index: int, grad: Any) -> Any:
        """Update one parameter and return it: the reference's operations in its order, each rounded on its own."""
        param, squares, buffer = self.parameters[index], self.ms[index], self.moment[index]
        rho, one_minus_rho, epsilon, momentum, decay, minus_decay, zero = self.scalars[index]
        weight, dtype = param, param.dtype
        if self.has_own_rate[index]:
            rate = mul(rate, self.rate_factors[index])
        learning_rate = cast(rate, dtype)

        if self.decays[index]:
            grad = add(grad, mul(decay, weight))
        if self.decays_by_sign[index]:  # not Sign, which turns NaN into 0 on CPU
            grad = add(grad, select(greater(weight, zero), decay, select(less(weight, zero), minus_decay, weight)))
        if self.decays_apart[index]:
            shrink = cast(mul(rate, self.wide_decays[index]), dtype)
            weight = sub(weight, mul(shrink, weight))

        variance = add(mul(rho, squares), mul(one_minus_rho, mul(grad, grad)))
        assign(squares, variance)
        if self.corrects_bias:
            variance = div(variance, cast(corrections[self.rho_places[index]], dtype))
        if self.is_centered[index]:
            mean = add(mul(rho, self.mg[index]), mul(one_minus_rho, grad))
            assign(self.mg[index], mean)
            if self.corrects_bias:
                mean = div(mean, cast(corrections[self.rho_places[index]], dtype))
            variance = sub(variance, mul(mean, mean))
        if self.clamps[index]:  # not Maximum, which turns NaN into 0 on CPU
            variance = select(less(variance, zero), zero, variance)

        inside = self.inside_sqrt
        denominator = sqrt(add(variance, epsilon)) if inside else add(sqrt(variance), epsilon)
        update = div(mul(learning_rate, grad) if self.lr_in_momentum else grad, denominator)
        usable = greater(denominator, zero) if self.skips[index] else None  # False for NaN too
        step = update
        if self.has_momentum[index]:
            moved = add(mul(momentum, buffer), update)
            step = add(mul(momentum, moved), update) if self.is_nesterov[index] else moved
            assign(buffer, select(usable, moved, buffer) if self.skips[index] else moved)
        if not self.lr_in_momentum:
            step = mul(learning_rate, step)
        moved_weight = sub(weight, step)
        if self.skips[index]:
            moved_weight = select(usable, moved_weight, weight)
        assign(param, moved_weight)
        return moved_weight


def _scalars(config: RMSPropConfig, dtype: str) -> tuple[Tensor, ...]:
    """Return rho, 1 - rho, epsilon, momentum, decay, -decay and 0, rounded from double to `dtype` once."""
    scalars = Hyperparameters.of(config)
    decay = scalars.weight_decay
    values = (scalars.rho, scalars.one_minus_rho, scalars.epsilon, scalars.momentum, decay, -decay, 0.0)
    rounded = np.dtype(dtype).type
    return tuple(Tensor(rounded(value)) for value in values)
