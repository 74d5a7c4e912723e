"""MindSpore: what becomes of the gradients before the update rule, for the compiler.

`Preparation` is a base of `UniRMSProp`, so that the parser finds its methods and attributes on the optimizer. Most
methods take one gradient and are mapped over all with their indices: a loop that builds a tuple takes four times as
long to compile (100 tensors: 1.1 s instead of 4.4 for four loops).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Any

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from unirms.clipping import ClipByGlobalNorm, ClipByNorm, ClipByValue
from unirms.config import RMSPropConfig
from unirms.grouping import clip_plan
from unirms.preparation import centralized_axes
from unirms.protocol import NamedParameter

from ..checkpoints.mindspore.names import GRADIENT_SUM, MICRO_STEP
from .rule import add, assign, cast, div, greater, less, mul, neg, reshape, select, sqrt, sub

square, reduce_sum, reduce_mean = ops.Square(), ops.ReduceSum(), ops.ReduceMean(keep_dims=True)
is_finite, reduce_all, logical_and = ops.IsFinite(), ops.ReduceAll(), ops.LogicalAnd()
zeros_like, partial, concat = ops.ZerosLike(), ops.Partial(), ops.Concat()

OTHER_SHAPE = (
    "a gradient has another shape than its parameter; in PyNative mode, an embedding with sparse=True makes such "
    "gradients, which have lost their rows: use sparse=False"
)


class Preparation(nn.RMSProp):
    """Gradients on their way to the update rule: unscaled, gathered, checked, turned round, centralized, clipped."""

    def _choose_preparation(self, config: RMSPropConfig, params: Sequence[NamedParameter]) -> None:
        """Set the attributes that the methods below read."""
        dtypes = [param.dtype for param in params]
        self.has_loss_scale, self.loss_scales = config.loss_scale != 1, in_each(config.loss_scale, dtypes)
        self.maximize = config.maximize
        self.centralized_axes = tuple(centralized_axes(config, param.value.ndim) for param in params)
        self.turns = config.maximize or any(self.centralized_axes)
        self.skips_updates, self.raises_errors = config.non_finite == "skip", config.non_finite == "raise"
        self.gathers = config.gradient_accumulation_steps > 1
        if self.gathers:
            self.gradient_sum = self.parameters.clone(prefix=GRADIENT_SUM, init="zeros")
            self.micro_step = Parameter(Tensor(0, mindspore.int32), name=MICRO_STEP)
            self.no_micro_step, self.one_micro_step = Tensor(0, mindspore.int32), Tensor(1, mindspore.int32)
            self.last_micro_step = Tensor(config.gradient_accumulation_steps - 1, mindspore.int32)
            self.numbers_gathered = in_each(config.gradient_accumulation_steps, dtypes)
        self.indices = tuple(range(len(params)))
        self._choose_clips(config, params)

    def _choose_clips(self, config: RMSPropConfig, params: Sequence[NamedParameter]) -> None:
        """Set the plan of the clips: one tuple for each of their properties, with an entry for each clip in turn."""
        dtypes = {param.name: param.dtype for param in params}
        plan = list(clip_plan(config, dtypes))  # MindSpore has a gradient for every parameter
        clips = [clip for clip, _ in plan]
        each = list(dtypes.values())
        self.limits_values = tuple(isinstance(clip, ClipByValue) for clip in clips)
        self.limits_together = tuple(isinstance(clip, ClipByGlobalNorm) for clip in clips)
        self.is_clipped = tuple(tuple(name in chosen for name in dtypes) for _, chosen in plan)
        self.clip_limits = tuple(in_each(_limit(clip), each) for clip in clips)
        self.negative_limits = tuple(in_each(-_limit(clip), each) for clip in clips)
        self.has_clip_epsilon = tuple(_epsilon(clip) > 0 for clip in clips)
        self.clip_epsilons = tuple(in_each(_epsilon(clip), each) for clip in clips)
        # A joint norm starts from 0 in the widest dtype of its gradients.
        self.norm_zeros = tuple(Tensor(np.result_type(*(dtypes[n] for n in chosen)).type(0)) for _, chosen in plan)
        self.ones = in_each(1.0, each)
        blocks = [_blocks(param.value.size) for param in params]
        self.blocks = tuple(blocks)
        self.fillers = tuple(Tensor(np.zeros(r * c - p.value.size)) for (r, c), p in zip(blocks, params, strict=True))

    def _unscaled(self, index: int, grad: Any) -> Any:
        """Return a gradient in the dtype of its parameter, divided by the loss scale."""
        if grad.shape != self.parameters[index].shape:  # decided by the compiler; one row would do for all of them
            raise ValueError(OTHER_SHAPE)
        grad = cast(grad, self.parameters[index].dtype)
        return div(grad, self.loss_scales[index]) if self.has_loss_scale else grad

    def _gathered(self, index: int, grad: Any) -> Any:
        """Return the sum of this gradient and of those since the last update."""
        return add(self.gradient_sum[index], grad)

    def _mean(self, index: int, gathered: Any) -> Any:
        """Return the mean gradient of an update."""
        return div(gathered, self.numbers_gathered[index])

    def _keep(self, index: int, gathered: Any) -> bool:
        """Remember a sum until the next gradient comes."""
        assign(self.gradient_sum[index], gathered)
        return True

    def _drop(self, index: int, gathered: Any) -> bool:
        """Begin a sum anew."""
        assign(self.gradient_sum[index], zeros_like(gathered))
        return True

    def _all_finite(self, gradients: Any) -> Any:
        """Return whether no gradient has an infinity or a NaN."""
        found = reduce_all(is_finite(gradients[0]), ())
        for index in range(1, self.param_length):
            found = logical_and(found, reduce_all(is_finite(gradients[index]), ()))
        return found

    def _prepared(self, gradients: Any) -> Any:
        """Return the gradients with their sign for descent, centralized and clipped."""
        if self.turns:
            gradients = self.map_(self._turned, self.indices, gradients)
        for place in range(len(self.limits_values)):
            joint = self._joint_norm(place, gradients) if self.limits_together[place] else self.norm_zeros[place]
            gradients = self.map_(partial(self._clipped, place, joint), self.indices, gradients)
        return gradients

    def _turned(self, index: int, grad: Any) -> Any:
        """Return a gradient with its sign for descent, centralized."""
        if self.maximize:
            grad = neg(grad)
        if self.centralized_axes[index]:
            grad = sub(grad, reduce_mean(grad, self.centralized_axes[index]))
        return grad

    def _joint_norm(self, place: int, gradients: Any) -> Any:
        """Return the Euclidean norm of all gradients together that a clip of the plan holds for."""
        joint = self.norm_zeros[place]
        for index in range(self.param_length):
            if self.is_clipped[place][index]:
                joint = add(joint, self._sum_of_squares(index, gradients[index], joint.dtype))
        return sqrt(joint)

    def _sum_of_squares(self, index: int, grad: Any, dtype: Any) -> Any:
        """Return the sum of the squares of a gradient, in `dtype`."""
        squares = cast(square(grad), dtype)
        if dtype == mindspore.float64:
            # MindSpore adds doubles one after the other on CPU (float32 in double): 24 ULP off for 4096 squares, 59 for
            # 100,003. In blocks it is 2 and 4.
            squares = reduce_sum(reshape(concat((reshape(squares, (-1,)), self.fillers[index])), self.blocks[index]), 1)
        return reduce_sum(squares, ())

    def _clipped(self, place: int, joint: Any, index: int, grad: Any) -> Any:
        """Return a gradient after one clip of the plan; `joint` is the norm of those that are clipped together."""
        if not self.is_clipped[place][index]:
            return grad
        if self.limits_values[place]:
            # Not Minimum and Maximum, which turn NaN into numbers on CPU.
            low, high = self.negative_limits[place][index], self.clip_limits[place][index]
            return select(less(grad, low), low, select(greater(grad, high), high, grad))
        if self.limits_together[place]:
            return self._scaled(place, index, grad, joint)
        return self._scaled(place, index, grad, sqrt(self._sum_of_squares(index, grad, grad.dtype)))

    def _scaled(self, place: int, index: int, grad: Any, norm: Any) -> Any:
        """Return a gradient scaled down to a norm; one that is NaN makes all of it NaN."""
        limit, dtype, wide = self.clip_limits[place][index], grad.dtype, norm.dtype
        wide_limit = cast(limit, wide)
        if self.has_clip_epsilon[place]:
            one = cast(self.ones[index], wide)
            factor = div(wide_limit, add(norm, cast(self.clip_epsilons[place][index], wide)))
            return cast(mul(cast(grad, wide), select(greater(factor, one), one, factor)), dtype)
        bound = select(less(norm, wide_limit), wide_limit, norm)
        return cast(div(cast(mul(grad, limit), wide), bound), dtype)


def in_each(value: float, dtypes: Sequence[str]) -> tuple[Tensor, ...]:
    """Return a number as a Tensor for each parameter, rounded from double to its dtype once."""
    return tuple(Tensor(np.dtype(dtype).type(value)) for dtype in dtypes)


def _blocks(size: int) -> tuple[int, int]:
    """Return a shape of about as many rows as columns that holds more than `size` elements."""
    columns = isqrt(size)
    return size // columns + 1, columns


def _limit(clip: ClipByValue | ClipByNorm | ClipByGlobalNorm) -> float:
    return clip.limit if isinstance(clip, ClipByValue) else clip.max_norm


def _epsilon(clip: ClipByValue | ClipByNorm | ClipByGlobalNorm) -> float:
    return 0.0 if isinstance(clip, ClipByValue) else clip.eps
