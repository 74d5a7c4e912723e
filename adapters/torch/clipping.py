"""PyTorch: the clips of `unirms.clipping`, in its formulas and the dtype of the gradients.

`torch.nn.utils.clip_grad_norm_` is not used: it changes the user's gradients and adds 1e-6 to every norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, reduce
from typing import Any

import torch

from unirms.clipping import ClipByGlobalNorm, ClipByNorm, ClipByValue
from unirms.config import RMSPropConfig
from unirms.grouping import clip_plan


def clipped(config: RMSPropConfig, names: Sequence[str], grads: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the gradients of the named parameters after all clips of the config and of its groups."""
    found = list(grads)
    for clip, places in _plan(config, tuple(names)):
        for place, grad in zip(places, _applied(clip, [found[place] for place in places]), strict=True):
            found[place] = grad
    return found


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor, or all of one that is distributed over processes (a DTensor)."""
    gather: Any = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


@lru_cache(maxsize=16)  # names are matched against patterns; they are the same step after step
def _plan(
    config: RMSPropConfig, names: tuple[str, ...]
) -> list[tuple[ClipByValue | ClipByNorm | ClipByGlobalNorm, list[int]]]:
    """Return the clips in order, each with the places of the gradients that it holds for."""
    return [
        (clip, [place for place, name in enumerate(names) if name in joint])
        for clip, joint in ((clip, set(joint)) for clip, joint in clip_plan(config, names))
    ]


def _applied(
    clip: ClipByValue | ClipByNorm | ClipByGlobalNorm, grads: Sequence[torch.Tensor]
) -> Sequence[torch.Tensor]:
    if isinstance(clip, ClipByValue):
        return [torch.clamp(grad, _rounded(-clip.limit, grad), _rounded(clip.limit, grad)) for grad in grads]
    if isinstance(clip, ClipByNorm):
        return [_scaled(grad, _norm([grad]), clip.max_norm, clip.eps) for grad in grads]
    norm = _norm(grads)
    return [_scaled(grad, norm, clip.max_norm, clip.eps) for grad in grads]


def _norm(grads: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the joint Euclidean norm in the widest dtype of the gradients, on the device of the first."""
    wide = reduce(torch.promote_types, (grad.dtype for grad in grads))
    sums = [whole(torch.sum(grad * grad, dtype=wide)).to(grads[0].device) for grad in grads]
    return reduce(torch.add, sums).sqrt()


def _scaled(grad: torch.Tensor, norm: torch.Tensor, max_norm: float, eps: float) -> torch.Tensor:
    """Return the gradient scaled down, computed in the dtype of the norm and rounded to its own once."""
    limit, norm = _rounded(max_norm, grad), norm.to(grad.device)
    if eps == 0:
        return ((grad * limit).to(norm.dtype) / torch.maximum(norm, limit.to(norm.dtype))).to(grad.dtype)
    factor = (limit / (norm + _rounded(eps, grad))).clamp(max=1)
    return (grad.to(norm.dtype) * factor).to(grad.dtype)


def _rounded(value: float, like: torch.Tensor) -> torch.Tensor:
    """Return a hyperparameter in the dtype of a gradient, and on its device; infinite where it holds no such number."""
    return torch.tensor(value, dtype=like.dtype, device=like.device)
