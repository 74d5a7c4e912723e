"""What clips a gradient before it reaches the update: by value, by the norm of a tensor, by the norm of all tensors.

Infinities and NaN go through the formulas: a limit by value makes an infinity the limit, a norm that is infinite makes
every finite element 0 and an infinite one NaN, and a NaN anywhere in a norm makes everything NaN that it scales.

NumPy is loaded where a gradient is clipped: a command that only translates does without it, and starts faster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field

from unirms.scalars import Number
from unirms.stated import Stated

if TYPE_CHECKING:
    import numpy as np

Arrays = dict[str, "np.ndarray[Any, Any]"]
Epsilon = Annotated[Number, Field(ge=0)]


class _Clip(Stated):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClipByValue(_Clip):
    """Each element of the gradient is limited to [-limit, limit]."""

    by: Literal["value"] = "value"
    limit: Annotated[Number, Field(gt=0)]

    def apply(self, grads: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
        """Return the clipped gradients, same names, shapes and dtypes."""
        import numpy as np

        return {name: np.clip(g, g.dtype.type(-self.limit), g.dtype.type(self.limit)) for name, g in grads.items()}


class ClipByNorm(_Clip):
    """The gradient of each tensor is scaled down to a Euclidean norm of at most `max_norm`.

    ``g * max_norm / max(norm, max_norm)``: the form of `tf.clip_by_norm`, which leaves a zero gradient zero. With
    `eps`, which is 1e-6 in `torch.nn.utils.clip_grad_norm_`, it is ``g * min(max_norm / (norm + eps), 1)``.
    """

    by: Literal["norm"] = "norm"
    max_norm: Annotated[Number, Field(gt=0)]
    eps: Epsilon = 0.0

    def apply(self, grads: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
        """Return the clipped gradients, same names, shapes and dtypes."""
        return {name: _scaled(g, _norm([g]), self.max_norm, self.eps) for name, g in grads.items()}


class ClipByGlobalNorm(_Clip):
    """Gradients are scaled down together to a joint Euclidean norm of at most `max_norm`, as in `ClipByNorm`.

    Together are all parameters that this clip holds for, or, with ``over="group"``, those of each parameter group and
    those of none.
    """

    by: Literal["global_norm"] = "global_norm"
    max_norm: Annotated[Number, Field(gt=0)]
    eps: Epsilon = 0.0
    over: Literal["all", "group"] = "all"

    def apply(self, grads: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
        """Return gradients that are clipped together, same names, shapes and dtypes."""
        norm = _norm(list(grads.values()))
        return {name: _scaled(g, norm, self.max_norm, self.eps) for name, g in grads.items()}


Clip = Annotated[ClipByValue | ClipByNorm | ClipByGlobalNorm, Field(discriminator="by")]


def _norm(grads: list[np.ndarray[Any, Any]]) -> Any:
    """Return the joint Euclidean norm in the dtype of the gradients (NumPy's pairwise sum)."""
    import numpy as np

    dtype = np.result_type(*grads) if grads else np.dtype(np.float64)
    return np.sqrt(sum((np.sum(np.square(g), dtype=dtype) for g in grads), start=dtype.type(0)))


def _scaled(grad: np.ndarray[Any, Any], norm: Any, max_norm: float, eps: float) -> np.ndarray[Any, Any]:
    import numpy as np

    rounded = grad.dtype.type
    limit = rounded(max_norm)
    if eps == 0:
        return np.asarray(grad * limit / np.maximum(norm, limit), dtype=grad.dtype)
    return np.asarray(grad * np.minimum(limit / (norm + rounded(eps)), rounded(1)), dtype=grad.dtype)
