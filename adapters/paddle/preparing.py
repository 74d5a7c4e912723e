"""PaddlePaddle: what becomes of gradients before the update rule, in dynamic mode and in static graphs.

The operations of `unirms.preparation`, in their order: repeated rows summed, unscaled, turned round, centralized,
clipped. What is gathered over micro-steps is the optimizer's affair.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import paddle

from unirms.clipping import ClipByGlobalNorm, ClipByNorm, ClipByValue
from unirms.config import RMSPropConfig
from unirms.grouping import Member, clip_plan
from unirms.preparation import centralized_axes

from .operations import Operations, cast, square_root

_C_ops: Any = paddle._C_ops


class Ready(NamedTuple):
    """A gradient on its way to the update: of a whole tensor, or of some of its rows, each once."""

    values: Any
    rows: Any = None


def received(ops: Operations, config: RMSPropConfig, grad: Any, param: Any) -> Ready:
    """Return a gradient in the parameter's dtype, unscaled; repeated rows of an embedding's are summed.

    In a static graph `paddle.nn.Embedding(sparse=True)` has a dense gradient, so that there are rows in dynamic mode
    only.
    """
    rows = None
    if paddle.in_dynamic_mode() and grad.is_selected_rows():
        grad, rows = (_dense(grad, param), None) if config.sparse == "dense" else _rows(grad)
    values = cast(grad, param.dtype)
    return Ready(values if config.loss_scale == 1 else ops.over(values, config.loss_scale), rows)


def prepared(
    ops: Operations, config: RMSPropConfig, ready: Mapping[str, Ready], members: Mapping[str, Member]
) -> dict[str, Ready]:
    """Return the gradients with their sign for descent, centralized and clipped; all are by Paddle's names."""
    if not (config.maximize or config.gradient_centralization != "none" or config.clip or config.groups):
        return dict(ready)
    values = {name: -grad.values if config.maximize else grad.values for name, grad in ready.items()}
    if config.gradient_centralization != "none":
        values = {name: _centralized(ops, config, grad) for name, grad in values.items()}
    known_as = {members[name].name: name for name in values}
    for clip, joint in clip_plan(config, known_as):
        values |= _clipped(ops, clip, {known_as[name]: values[known_as[name]] for name in joint})
    return {name: Ready(grad, ready[name].rows) for name, grad in values.items()}


def is_finite(values: Any) -> Any:
    """Return a tensor without axes, or a value of the graph: whether all of it is finite."""
    return paddle.all(paddle.isfinite(values))


def _dense(grad: Any, param: Any) -> Any:
    return _C_ops.add_n([paddle.zeros(param.shape, grad.dtype), grad])


def _rows(grad: Any) -> tuple[Any, Any]:
    """Return the values and the rows, each once; merge_selected_rows of Paddle's is wrong but for two axes."""
    rows, places = np.unique(np.asarray(grad.rows(), np.int64), return_inverse=True)
    values = grad._get_tensor_from_selected_rows()
    sums = paddle.zeros([len(rows), *values.shape[1:]], values.dtype)
    if len(rows):
        sums = paddle.index_add(sums, paddle.to_tensor(places), 0, values)
    return sums, paddle.to_tensor(rows)


def _centralized(ops: Operations, config: RMSPropConfig, grad: Any) -> Any:
    axes = list(centralized_axes(config, len(grad.shape)))
    count = math.prod(grad.shape[axis] for axis in axes)
    # Not paddle.mean, which is off by up to 1e-6 of the mean where there are a million elements.
    return grad - ops.over(paddle.sum(grad, axis=axes, keepdim=True), float(count)) if axes and count else grad


def _clipped(
    ops: Operations, clip: ClipByValue | ClipByNorm | ClipByGlobalNorm, grads: Mapping[str, Any]
) -> dict[str, Any]:
    if isinstance(clip, ClipByValue):
        return {
            name: paddle.minimum(paddle.maximum(grad, ops.like(grad, -clip.limit)), ops.like(grad, clip.limit))
            for name, grad in grads.items()
        }
    joint = _norm(ops, list(grads.values())) if isinstance(clip, ClipByGlobalNorm) else None
    return {
        name: _scaled(ops, grad, _norm(ops, [grad]) if joint is None else joint, clip) for name, grad in grads.items()
    }


def _norm(ops: Operations, grads: list[Any]) -> Any:
    """Return the joint Euclidean norm, without axes, in the widest dtype of the gradients."""
    wide = any(grad.dtype == paddle.float64 for grad in grads)
    squares = [paddle.sum(cast(grad * grad, paddle.float64 if wide else grad.dtype)) for grad in grads]
    total = squares[0]
    for square in squares[1:]:
        total = total + square
    return square_root(ops, total)


def _scaled(ops: Operations, grad: Any, norm: Any, clip: ClipByNorm | ClipByGlobalNorm) -> Any:
    limit, wide = ops.like(grad, clip.max_norm), norm.dtype
    if clip.eps == 0:
        found = cast(grad * limit, wide) / paddle.maximum(norm, cast(limit, wide))
    else:
        above = norm + cast(ops.like(grad, clip.eps), wide)
        found = cast(grad, wide) * paddle.minimum(cast(limit, wide) / above, ops.like(norm, 1.0))
    return cast(found, grad.dtype)
