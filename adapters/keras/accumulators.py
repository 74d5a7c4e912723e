"""The state of a live optimizer, stock or exact: where Keras keeps it, read and written.

Everything is written by `assign` into the variables that are there, so that functions that are already traced or
compiled go on with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from unirms.errors import UnsupportedError
from unirms.protocol import NamedParameter
from unirms.state import Array, OptimizerState

from . import plateau, stock
from .optimizer import SLOTS, UniRMSProp
from .variables import array, dtype_of, names_of, number

# Slot -> whether a parameter uses it, by its config or by the stock optimizer that it belongs to.
_USED: Mapping[str, Callable[[Any], bool]] = {
    "mean_square": lambda has: True,
    "mean_gradient": lambda has: bool(has.centered),
    "momentum": lambda has: bool(has.momentum > 0),
}


def parameters_of(optimizer: Any) -> list[NamedParameter]:
    """Return what an optimizer updates, in its order.

    Raises:
        UnsupportedError: it is not built, so that it does not know yet.
    """
    if not optimizer.built:
        raise UnsupportedError(
            f"{optimizer.name!r} is not built on any variables yet; call optimizer.build(model.trainable_variables)"
        )
    return [NamedParameter(one.name, one.parameter, dtype_of(one.parameter)) for one in _held(optimizer)]


def state_of(optimizer: Any) -> OptimizerState:
    """Return copies of the accumulators; of an optimizer that is not built, none.

    Of what is gathered for an update, that is the sums that are not 0.
    """
    step = int(number(optimizer.iterations))
    found: dict[str, dict[str, Array]] = {slot: {} for slot in SLOTS}
    if not optimizer.built:
        return OptimizerState.of(step, found)
    for one in _held(optimizer):
        for slot, variable in one.slots.items():
            found.setdefault(slot, {})[one.name] = array(variable)
        # The first update puts the weight there, whatever stands there before it.
        if step == 0 and "average" in one.slots:
            found["average"][one.name] = array(one.parameter)
    micro_step = int(number(optimizer._iterations)) % _steps(optimizer)
    sums = {one.name: array(one.gathered) for one in _held(optimizer) if micro_step and one.gathered is not None}
    not_zero = {name: total for name, total in sums.items() if np.any(total != 0)}
    return OptimizerState.of(step, found, not_zero, micro_step, plateau.state_of(optimizer))


def restore(optimizer: Any, state: OptimizerState) -> None:
    """Write a state that is already in the optimizer's own names, shapes, units and slots."""
    arrays = state.slots()
    for one in _held(optimizer):
        for slot, variable in one.slots.items():
            assign(variable, arrays[slot][one.name])
        for variable in one.unused:
            assign(variable, np.zeros(tuple(variable.shape)))
        if one.gathered is not None:
            total = state.gradient_sum.get(one.name)
            assign(one.gathered, np.zeros(tuple(one.gathered.shape)) if total is None else total)
    optimizer._iterations.assign(state.step * _steps(optimizer) + state.micro_step)
    plateau.restore(optimizer, state.plateau)


def weights_of(model: Any) -> list[NamedParameter]:
    """Return the floating-point weights of a model or layer: the trainable ones by their names, then the others.

    Without the seeds of random layers and the counts of metrics, which Keras does not call weights.
    """
    trained = model.trainable_variables
    names = names_of(trained)
    others = [one for one in model.weights if not any(one is known for known in trained)]
    known = set(names)
    for index, path in enumerate(names_of(others)):
        names.append(f"non_trainable/{index}" if path in known or path.isdigit() else path)
    found = [NamedParameter(name, one, dtype_of(one)) for name, one in zip(names, [*trained, *others], strict=True)]
    return [one for one in found if _is_float(one)]


def assign(variable: Any, values: Array) -> None:
    """Write an array into a variable of Keras or TensorFlow, in its dtype."""
    variable.assign(tf.cast(ops.convert_to_tensor(values), dtype_of(variable)))


@dataclass(frozen=True)
class _Held:
    """What an optimizer holds of one parameter.

    Attributes:
        name: the parameter's name.
        parameter: the parameter.
        slots: the variables that its updates use, by slot.
        unused: variables of slots that are there, and that the optimizer does not use any more.
        gathered: the sum of its gradients since the last update, where they are gathered.
    """

    name: str
    parameter: Any
    slots: dict[str, Any] = field(default_factory=dict)
    unused: list[Any] = field(default_factory=list)
    gathered: Any = None


def _held(optimizer: Any) -> Iterator[_Held]:
    """Yield what it holds of each parameter; a variable that its gradient overwrites has no slots, and is none."""
    parameters = optimizer._trainable_variables
    sums = optimizer._accumulated_gradients if optimizer.gradient_accumulation_steps else [None] * len(parameters)
    for index, (name, has) in enumerate(zip(parameter_names(optimizer), _holders(optimizer), strict=True)):
        if optimizer._velocities[index] is None:
            continue
        one = _Held(name, parameters[index], gathered=sums[index])
        for slot, attribute in SLOTS.items():
            variables = getattr(optimizer, attribute)
            variable = variables[index] if variables else None
            if variable is not None and _USED[slot](has):
                one.slots[slot] = variable
            elif variable is not None:
                one.unused.append(variable)
        if optimizer.use_ema:
            one.slots["average"] = optimizer._model_variables_moving_average[index]
        yield one


def parameter_names(optimizer: Any) -> list[str]:
    """Return the names of the variables that an optimizer is built on, in order."""
    return optimizer.parameter_names if isinstance(optimizer, UniRMSProp) else stock.parameter_names(optimizer)


def _holders(optimizer: Any) -> list[Any]:
    """Return for each parameter what says which slots it uses."""
    if isinstance(optimizer, UniRMSProp):
        return [member.config for member in optimizer.live_members()]
    return [optimizer] * len(optimizer._trainable_variables)


def _steps(optimizer: Any) -> int:
    """Return how many gradients an update has, which is how many Keras counts for it."""
    return optimizer.gradient_accumulation_steps or 1


def _is_float(one: NamedParameter) -> bool:
    return bool(keras.backend.is_float_dtype(one.dtype))
