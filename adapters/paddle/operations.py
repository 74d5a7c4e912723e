"""PaddlePaddle: the arithmetic of an update, in place in dynamic mode and by values in a static graph.

One update rule serves both: an operation whose name ends in _ may overwrite its first argument, which the rule does not
use again. In a static graph in-place operations give wrong numbers, so that there only `write` changes anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import paddle

from unirms import bfloat16

# What Paddle's own optimizers call; in place, in dynamic mode.
_C_ops: Any = paddle._C_ops


class InPlace:
    """Operations of the dynamic mode. Scalars are Python floats, which the kernel rounds to the tensor's dtype once."""

    add_: Callable[..., Any] = staticmethod(_C_ops.add_)
    subtract_: Callable[..., Any] = staticmethod(_C_ops.subtract_)
    divide_: Callable[..., Any] = staticmethod(_C_ops.divide_)
    sqrt_: Callable[..., Any] = staticmethod(_C_ops.sqrt_)

    def times(self, tensor: Any, scalar: float) -> Any:
        """Return the product."""
        return _C_ops.scale(tensor, scalar, 0.0, True)

    def times_(self, tensor: Any, scalar: float) -> Any:
        """Return the product, in the place of the tensor."""
        return _C_ops.scale_(tensor, scalar, 0.0, True)

    def plus(self, tensor: Any, scalar: float) -> Any:
        """Return the sum."""
        return _C_ops.scale(tensor, 1.0, scalar, True)

    def over(self, tensor: Any, scalar: float) -> Any:
        """Return the quotient."""
        return tensor / self.like(tensor, scalar)

    def is_positive(self, tensor: Any) -> Any:
        """Return where the tensor is greater than 0."""
        return tensor > 0.0

    def like(self, tensor: Any, scalar: float) -> Any:
        """Return the scalar as a tensor without axes, rounded to the dtype of the other."""
        return paddle.full([], scalar, tensor.dtype)

    def write(self, target: Any, value: Any) -> Any:
        """Put a value into a parameter or an accumulator; return what is in it now."""
        if value is not target:
            _C_ops.assign_out_(value, target)
        return target


class Graph:
    """Operations of a static graph. Scalars become tensors, because attributes of its operations are float32.

    Attributes:
        goes_on: a value without axes: where it is false in a run, `write` leaves things as they are. None is true.
    """

    add_: Callable[..., Any] = staticmethod(paddle.add)
    subtract_: Callable[..., Any] = staticmethod(paddle.subtract)
    divide_: Callable[..., Any] = staticmethod(paddle.divide)
    sqrt_: Callable[..., Any] = staticmethod(paddle.sqrt)

    def __init__(self) -> None:
        self.goes_on: Any = None
        self._tensors: dict[tuple[Any, Any], tuple[Any, Any]] = {}

    def times(self, tensor: Any, scalar: Any) -> Any:
        """Return the product."""
        return tensor * self.like(tensor, scalar)

    times_ = times

    def plus(self, tensor: Any, scalar: Any) -> Any:
        """Return the sum."""
        return tensor + self.like(tensor, scalar)

    def over(self, tensor: Any, scalar: Any) -> Any:
        """Return the quotient."""
        return tensor / self.like(tensor, scalar)

    def is_positive(self, tensor: Any) -> Any:
        """Return where the tensor is greater than 0."""
        return tensor > self.like(tensor, 0.0)

    def like(self, tensor: Any, scalar: Any) -> Any:
        """Return the scalar, a float or a float64 value of the graph, rounded to the tensor's dtype; made once."""
        constant = isinstance(scalar, float)
        # Not a value of the graph itself: == between two of them makes an operation.
        key = (scalar if constant else id(scalar), tensor.dtype)
        if key not in self._tensors:
            made = paddle.full([], *key) if constant else scalar.astype(tensor.dtype)
            self._tensors[key] = (scalar, made)  # the scalar as well, for an id is good as long as its object lives
        return self._tensors[key][1]

    def write(self, target: Any, value: Any) -> Any:
        """Put a value into a parameter or an accumulator, if the run goes on; return what is in it then."""
        if self.goes_on is not None:
            value = paddle.where(self.goes_on, value, target)
        paddle.assign(value, output=target)
        return value


Operations = InPlace | Graph


def cast(tensor: Any, dtype: Any) -> Any:
    """Return the tensor in this dtype; the tensor itself where it has it."""
    return tensor if tensor.dtype == dtype else paddle.cast(tensor, dtype)


def square_root(ops: Operations, value: Any) -> Any:
    """Return the square root, correctly rounded.

    Paddle's float32 kernel is not: on CPU, 37 to 45% of random numbers come out one ULP off, and only where the number
    is in a full vector of eight, so that the result depends on the position. The float64 kernel is right.
    """
    if value.dtype == paddle.float64:
        return paddle.sqrt(value)
    return paddle.cast(ops.sqrt_(paddle.cast(value, "float64")), value.dtype)


def quotient(divide: Callable[..., Any], value: Any, by: Any) -> Any:
    """Return the quotient of two tensors of one shape, correctly rounded; `divide` is `paddle.divide` or a `divide_`.

    Paddle's kernel for tensors of one shape is not, on some processors: on a Xeon with AVX-512, some 0.3% of random
    numbers come out one ULP off, in float32 and in float64. The kernel for tensors of different shapes is right
    everywhere, and an axis of length 1 more is another shape.
    """
    return paddle.squeeze(divide(paddle.unsqueeze(value, 0), by), 0)


def array(variable: Any) -> np.ndarray[Any, Any] | None:
    """Return a copy of a tensor, or of a graph's variable in the global scope; None before the startup program ran.

    Of bfloat16, for which NumPy has no dtype and Paddle gives the bits as uint16, it is a float32 copy.
    """
    found = variable.numpy() if isinstance(variable, paddle.Tensor) else held(variable.name)
    if found is None:
        return None
    values = np.array(found)
    return bfloat16.widened(values) if values.dtype == np.uint16 else values


def put(variable: Any, values: np.ndarray[Any, Any]) -> None:
    """Write an array into a tensor, or into a graph's variable in the global scope, in its place and its dtype.

    For one of bfloat16 it is any array of real numbers, which are rounded; for any other it is of the same dtype.
    """
    values = np.array(values, order="C")
    if variable.dtype == paddle.bfloat16:
        values = bfloat16.bits(bfloat16.rounded(values))
    if isinstance(variable, paddle.Tensor):
        variable.set_value(values)
    else:
        paddle.static.pir_io.set_var(variable.name, values)


def held(name: str) -> Any:
    """Return what the global scope holds of a graph's variable; None before the startup program ran."""
    found = paddle.static.global_scope().find_var(name)
    return None if found is None or not found.get_tensor()._is_initialized() else found.get_tensor()
