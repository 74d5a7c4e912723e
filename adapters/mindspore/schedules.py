"""Learning-rate schedules in MindSpore: `UniRMSSchedule`, and MindSpore's own cells, which are read.

MindSpore compiles the `construct` of a cell from its source, and cannot read a formula that lies elsewhere. So the
formula runs once in Python, on a stand-in for the step that notes every operation, and the cell repeats the notes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mindspore
import numpy as np
from mindspore import Tensor, nn, ops

from unirms.dialects.schedules.mindspore import CLASSES
from unirms.errors import ConfigError, UnsupportedError
from unirms.schedules import AnySchedule, BaseSchedule

cast, reshape, reduce_sum, gather = ops.Cast(), ops.Reshape(), ops.ReduceSum(), ops.Gather()


class UniRMSSchedule(nn.learning_rate_schedule.LearningRateSchedule):
    """A schedule of `unirms.schedules` as the learning rate of any MindSpore optimizer.

    It computes in float64, for which the CPU backend has all kernels; other devices have not been tried.

    Args:
        schedule: the schedule.
        dtype: of the rate that comes out; MindSpore's own optimizers take float32.
        factor: the rate that comes out is this multiple of the schedule's.

    Inputs:
        global_step: an int32 Tensor of one element, the number of completed updates.

    Outputs:
        The rate of the next update, a scalar Tensor of `dtype`.
    """

    def __init__(self, schedule: BaseSchedule, dtype: Any = mindspore.float32, factor: float = 1.0) -> None:
        super().__init__()
        self.schedule, self.dtype, self.factor = schedule, dtype, factor
        notes = _Notes()
        rate = schedule.scaled(factor).formula(_Noted(notes, 0), notes)
        constants = len(notes.constants)
        self.constants = tuple(Tensor(np.asarray(value, np.float64)) for value in reversed(notes.constants))
        self.operations = tuple(operation for operation, _ in notes.steps)
        self.operands = tuple(tuple(place + constants for place in places) for _, places in notes.steps)
        self.rate = rate.place + constants

    def construct(self, global_step: Any) -> Any:
        """Return the rate of the update before which `global_step` updates were completed."""
        values = (*self.constants, cast(reshape(global_step, ()), mindspore.float64))
        for index in range(len(self.operations)):  # unrolled by the compiler
            operation, places = self.operations[index], self.operands[index]
            first = values[places[0]]
            # Not `operation(*…)`, which takes half as long again to compile.
            if len(places) == 1:
                value = operation(first)
            elif len(places) == 2:
                value = operation(first, values[places[1]])
            else:
                value = operation(first, values[places[1]], values[places[2]])
            values += (value,)
        return cast(values[self.rate], self.dtype)


def _noting(operation: Any) -> Any:
    """Return a method of `_Notes` that notes an operation on its arguments."""
    return lambda notes, *operands: notes.note(operation, *operands)


class _Notes:
    """The operations of one formula in their order, and its functions (`unirms.schedules.arrays.Functions`)."""

    def __init__(self) -> None:
        # Places: 0 is the step, 1, 2, … are the results of the operations, -1, -2, … the constants.
        self.constants: list[float | Sequence[float]] = []
        self.steps: list[tuple[Any, tuple[int, ...]]] = []

    def note(self, operation: Any, *operands: Any) -> _Noted:
        """Note an operation, unless it is noted already, and return the stand-in for its result."""
        step = (operation, tuple(map(self._place, operands)))
        if step not in self.steps:
            self.steps.append(step)
        return _Noted(self, self.steps.index(step) + 1)

    def _place(self, operand: Any) -> int:
        if isinstance(operand, _Noted):
            return operand.place
        if operand not in self.constants:
            self.constants.append(operand)
        return -1 - self.constants.index(operand)

    floor, sqrt, cos, exp = _noting(ops.Floor()), _noting(ops.Sqrt()), _noting(ops.Cos()), _noting(ops.Exp())
    expm1, log1p, power = _noting(ops.Expm1()), _noting(ops.Log1p()), _noting(ops.Pow())
    minimum, maximum, where = _noting(ops.Minimum()), _noting(ops.Maximum()), _noting(ops.Select())

    def reached(self, boundaries: Sequence[float], t: Any, /) -> Any:
        """Return the number of boundaries <= t."""
        return self.note(_number_not_above, boundaries, t)

    def take(self, numbers: Sequence[float], index: Any, /) -> Any:
        """Return numbers[index]."""
        return self.note(_at_index, numbers, index)


def _number_not_above(boundaries: Any, t: Any) -> Any:
    return reduce_sum(cast(boundaries <= t, mindspore.float64), ())


def _at_index(numbers: Any, index: Any) -> Any:
    return gather(numbers, cast(index, mindspore.int32), 0)


def _operator(operation: Any) -> Any:
    """Return an operator of `_Noted`, the stand-in first."""
    return lambda left, *right: left.notes.note(operation, left, *right)


def _reflected(operation: Any) -> Any:
    """Return an operator of `_Noted`, the stand-in second."""
    return lambda right, left: right.notes.note(operation, left, right)


class _Noted:
    """The stand-in for a number that is known when the cell runs."""

    def __init__(self, notes: _Notes, place: int) -> None:
        self.notes, self.place = notes, place

    __add__, __mul__, __abs__ = _operator(ops.Add()), _operator(ops.Mul()), _operator(ops.Abs())
    __sub__, __truediv__ = _operator(ops.Sub()), _operator(ops.Div())
    __radd__, __rmul__ = _reflected(ops.Add()), _reflected(ops.Mul())
    __rsub__, __rtruediv__ = _reflected(ops.Sub()), _reflected(ops.Div())
    __lt__, __le__, __gt__ = _operator(ops.Less()), _operator(ops.LessEqual()), _operator(ops.Greater())


# The only argument that a cell keeps under another name: (cell, argument) -> attribute.
_KEPT_AS = {("PolynomialDecayLR", "learning_rate"): "start_learning_rate"}


def read(cell: Any) -> AnySchedule:
    """Return the schedule of unirms that a `LearningRateSchedule` is.

    Raises:
        UnsupportedError: it is none.
    """
    named = type(cell).__name__
    if type(cell) is UniRMSSchedule:
        schedule: BaseSchedule = cell.schedule
        return schedule
    # They are read only: ours is built, which is good to float64 too.
    row = next((row for row in CLASSES.rows if type(cell) is getattr(nn, row.name)), None)
    if row is None:
        raise UnsupportedError(f"its learning rate is a {named}, which is not exactly a schedule of unirms")
    try:
        return row.read({name: getattr(cell, _KEPT_AS.get((named, name), name)) for name in row.arguments})
    except ConfigError as error:
        raise UnsupportedError(f"its {named} has values that no schedule of unirms has: {error}") from None
