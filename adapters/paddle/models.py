"""PaddlePaddle: the tensors of a model, trained or not."""

from __future__ import annotations

from typing import Any

import paddle

from unirms.checkpoints.tensors import SIZES
from unirms.errors import UnsupportedError
from unirms.protocol import NamedParameter
from unirms.state import Array

from .. import common
from ..checkpoints.paddle.names import RATE
from .operations import array, put


def trained(params: Any) -> list[NamedParameter]:
    """Return the trainable parameters of a Layer or of a static Program, or the given ones."""
    if isinstance(params, paddle.nn.Layer):
        params = [(name, param) for name, param in params.named_parameters() if not param.stop_gradient]
    if isinstance(params, paddle.static.Program):
        params = [param for param in params.global_block().all_parameters() if not param.stop_gradient]
    return _named(params)


def weights_of(model: Any) -> list[NamedParameter]:
    """Return all floating-point tensors of a model; see `Adapter.weights_of`.

    Of a Layer those of its state dictionary, a tensor that is shared by two layers under its first name; of a static
    Program all of its parameters, among which are the running means of its normalizations; without its learning rate.
    """
    if isinstance(model, paddle.nn.Layer):
        model = model.state_dict()
    if isinstance(model, paddle.static.Program):
        model = [one for one in model.global_block().all_parameters() if not RATE.fullmatch(one.name)]
    first = {id(one.value): one for one in reversed(_named(model)) if one.dtype in SIZES}
    return list(reversed(first.values()))


def array_of(value: Any) -> Array:
    """Return a copy of a tensor; see `Adapter.array_of`."""
    found = array(value)
    if found is None:
        raise UnsupportedError(f"paddle: {value.name!r} has no value yet; run the startup program first")
    return found


def assign(value: Any, values: Array) -> None:
    """Write an array into a tensor of a model; see `Adapter.assign`."""
    put(value, values)


def dtype_of(value: Any) -> str:
    """Return the name of the dtype of a tensor or of a variable, as "float32"."""
    return str(value.dtype).removeprefix("paddle.")


def _named(params: Any) -> list[NamedParameter]:
    return common.named(
        params,
        is_parameter=lambda value: isinstance(value, (paddle.Tensor, paddle.pir.Value)),
        name_of=lambda index, value: str(value.name),
        dtype_of=dtype_of,
    )
