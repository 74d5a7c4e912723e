"""PaddlePaddle: a state written into a live optimizer, stock or exact, in dynamic mode or in a static graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import paddle

from unirms.bfloat16 import held_as
from unirms.errors import UnsupportedError
from unirms.protocol import NamedParameter
from unirms.state import Array, OptimizerState

from ..checkpoints.paddle.names import AVERAGE, GRADIENT_SUM, SLOTS
from . import schedules
from .operations import held, put
from .optimizer import UniRMSProp
from .progress import UpdateLR
from .reading import parameters_of


def restore(optimizer: Any, state: OptimizerState) -> None:
    """Write a state into an optimizer; see `Adapter.restore`."""
    params = parameters_of(optimizer)
    dynamic = all(isinstance(param.value, paddle.Tensor) for param in params)
    if not dynamic:
        _check_started(optimizer, params)
    schedules.check_place(optimizer._learning_rate, state.step)
    if dynamic:
        _make_accumulators(optimizer, params)
    for slot, accumulator in SLOTS.items():
        _put_all(optimizer, accumulator, params, state.slots()[slot])
    if isinstance(optimizer, UniRMSProp):
        write = _restore_own if dynamic else _restore_own_variables
        write(optimizer, params, state)
    schedules.place(optimizer._learning_rate, state.step, state.plateau)
    if isinstance(optimizer._learning_rate, UpdateLR):
        optimizer._learning_rate.align()


def _check_started(optimizer: Any, params: Sequence[NamedParameter]) -> None:
    """Raise an error where the variables of a static graph are not there to be written."""
    made = [variable for of_one in optimizer._accumulators.values() for variable in of_one.values()]
    missing = [one.name for one in (*made, *(param.value for param in params)) if held(one.name) is None]
    if not made or missing:
        raise UnsupportedError(
            "paddle: in a static graph there is nothing to write a state to before minimize and the startup program; "
            "restore it after both, in the scope in which the program runs"
        )


def _make_accumulators(optimizer: Any, params: Sequence[NamedParameter]) -> None:
    """Make all accumulators, and forget those of a state dictionary that wait for the next step."""
    optimizer._accumulators_holder = {}
    block = paddle.static.default_main_program().global_block()
    optimizer._create_accumulators(block, [param.value for param in params])


def _put_all(optimizer: Any, accumulator: str, params: Sequence[NamedParameter], values: Mapping[str, Array]) -> None:
    """Write an accumulator of each parameter, zeros where there is no value; Paddle keeps it of all parameters.

    A parameter that the loss of a static graph does not depend on has none.
    """
    name = f"{optimizer._name}_{accumulator}" if optimizer._name else accumulator
    made = optimizer._accumulators.get(name, {})
    for param in params:
        if param.value.name in made:
            zeros = np.zeros(param.shape, held_as(param.dtype))
            put(made[param.value.name], values.get(param.name, zeros))


def _restore_own(optimizer: UniRMSProp, params: Sequence[NamedParameter], state: OptimizerState) -> None:
    """Write what the stock class has not, in dynamic mode."""
    optimizer.progress.updates, optimizer.progress.micro_step = state.step, state.micro_step
    # Before the first update the mean of the weights is the weights, whatever they will be.
    means = state.average if state.step else {}
    optimizer._averages = _tensors(params, means)
    optimizer._gathered = _tensors(params, state.gradient_sum)


def _tensors(params: Sequence[NamedParameter], values: Mapping[str, Array]) -> dict[str, Any]:
    return {one.value.name: paddle.to_tensor(np.array(values[one.name])) for one in params if one.name in values}


def _restore_own_variables(optimizer: UniRMSProp, params: Sequence[NamedParameter], state: OptimizerState) -> None:
    """Write what the stock class has not, in a static graph."""
    _put_all(optimizer, AVERAGE, params, state.average)
    _put_all(optimizer, GRADIENT_SUM, params, state.gradient_sum)
    counts = {"updates": state.step, "micro_step": state.micro_step}
    for count, name in optimizer.progress.variables.items():
        paddle.static.pir_io.set_var(name, np.array(counts[count], np.int64))
