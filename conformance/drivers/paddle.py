"""Runs optimizers in PaddlePaddle, in dynamic mode and in a static graph."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

with warnings.catch_warnings():
    # Paddle looks for a compiler cache that nothing here needs.
    warnings.filterwarnings("ignore", "No ccache found", UserWarning)
    import paddle

import unirms
from unirms.errors import UnsupportedError
from unirms.state import OptimizerState, SparseGradient

from . import Array, Arrays, Driver, Layouts, Make, Names, Run, Training, accumulators, step_schedule

# On CPU, add, divide, sqrt and rmsprop have no kernels for float16 and bfloat16.
DTYPES = ("float32", "float64")
# Of Paddle's state dictionaries: the parameter's own name by the key of each, and where the scheduler is.
NAME_TABLE = "StructuredToParameterName@@"
SCHEDULER = "LR_Scheduler"


class DynamicRun:
    """Parameters with gradients set by hand, and `optimizer.step()`.

    Parameters and accumulators have names as in a process of their own, by which Paddle finds them in a checkpoint.
    """

    def __init__(self, make: Make, params: Arrays) -> None:
        self._begin = partial(self._make, make, params)
        self._begin(())
        self._begun = False

    def _make(self, make: Make, params: Arrays, rows: Collection[str]) -> None:
        """Make the parameters and the optimizer; the tables of `rows` are called as those of Paddle's Embedding are."""
        self._names = paddle.base.unique_name.UniqueNameGenerator()
        with paddle.utils.unique_name.guard(self._names):
            self.params = {name: _parameter(value, is_table=name in rows) for name, value in params.items()}
            self.optimizer = make(self.params)

    def step(self, grads: Mapping[str, Array | SparseGradient], learning_rate: float | None) -> None:
        """Hand over one gradient for each name, none for the other parameters, and step."""
        rows = {name for name, grad in grads.items() if isinstance(grad, SparseGradient)}
        if rows and not self._begun:
            self._begin(rows)
        self._begun = True
        if learning_rate is not None:
            self.optimizer.set_lr(learning_rate)
        for name, param in self.params.items():
            param.grad = _gradient(grads[name], param) if name in grads else None
        with paddle.utils.unique_name.guard(self._names):
            self.optimizer.step()
        self.optimizer.clear_grad(set_to_zero=False)
        if learning_rate is None:
            step_schedule(self.optimizer)

    def weights(self) -> dict[str, Array]:
        """Return copies of the parameters."""
        return {name: np.array(param.numpy()) for name, param in self.params.items()}

    def state(self) -> OptimizerState:
        """Return copies of the accumulators."""
        return accumulators(self.optimizer, "paddle")

    def save(self, folder: Path) -> Path:
        """Write `checkpoint.pdparams` and `checkpoint.pdopt`; return the second, beside which the other is found."""
        weights, optimizer = folder / "checkpoint.pdparams", folder / "checkpoint.pdopt"
        paddle.save(self.params, str(weights))
        state = self.optimizer.state_dict()
        if not state:  # of a stock class without a scheduler, before its first step; Paddle writes no file then
            return weights
        paddle.save(state, str(optimizer))
        return optimizer

    def load(self, path: Path) -> None:
        """Load what `save` has written into this run, as a process does that has made the same parameters."""
        for name, value in paddle.load(str(path.with_suffix(".pdparams"))).items():
            self.params[name].set_value(value)
        self.optimizer.set_state_dict(paddle.load(str(path)))

    def snapshot(self) -> OptimizerState:
        """Return the state with its config and the weights: what `resume` takes."""
        with paddle.utils.unique_name.guard(self._names):
            return unirms.state_of(self.optimizer, model=self.params)

    def resume(self, state: OptimizerState, names: Names = None, layout: Layouts = None) -> None:
        """Go on from a state with weights."""
        with paddle.utils.unique_name.guard(self._names):
            unirms.restore(self.optimizer, state, names=names, layout=layout, model=self.params)

    def measured(self, metric: float) -> None:
        """Tell the scheduler of a plateau a metric."""
        unirms.lr_scheduler(self.optimizer).step(metric)


class ForeignDynamicRun:
    """Any `paddle.optimizer.Optimizer`, or what has its `step` and `clear_grad`."""

    def __init__(self, factory: Callable[[Any], Any], params: Arrays) -> None:
        self.params = {name: _parameter(value) for name, value in params.items()}
        self.optimizer = factory(list(self.params.values()))

    def step(self, grads: Arrays) -> None:
        """Make one update."""
        for name, param in self.params.items():
            param.grad = paddle.to_tensor(grads[name])
        self.optimizer.step()
        self.optimizer.clear_grad()

    def set_rate(self, learning_rate: float) -> None:
        """Call `set_lr`."""
        if not hasattr(self.optimizer, "set_lr"):
            raise UnsupportedError("it has no set_lr")
        try:
            self.optimizer.set_lr(learning_rate)
        except RuntimeError:  # a scheduler
            raise UnsupportedError("its learning rate is a schedule") from None

    def weights(self) -> dict[str, Array]:
        """Return copies of the parameters."""
        return {name: np.array(param.numpy()) for name, param in self.params.items()}


class StaticRun:
    """A program of its own, in a scope of its own, whose loss is the sum of parameter times fed gradient."""

    def __init__(self, make: Make, params: Arrays) -> None:
        self.program, self.startup = paddle.static.Program(), paddle.static.Program()
        self.scope, self.executor = paddle.static.Scope(), paddle.static.Executor(paddle.CPUPlace())
        with self._inside(), paddle.utils.unique_name.guard():
            self.params = {
                name: _variable(f"parameter_{index}", value) for index, (name, value) in enumerate(params.items())
            }
            # d(sum(p * g))/dp is 1.0 * g, so the optimizer sees the bits that are fed.
            fed = {name: _feed(index, value) for index, (name, value) in enumerate(params.items())}
            self.feeds = {name: value.name for name, value in fed.items()}
            loss = paddle.add_n([paddle.sum(param * fed[name]) for name, param in self.params.items()])
            self.optimizer = make(self.params)
            with warnings.catch_warnings():
                # Paddle's own autograd asks for it, in every static graph.
                warnings.filterwarnings("ignore", "Tensor do not have 'place' interface", UserWarning)
                self.optimizer.minimize(loss)
            self.rate = self.optimizer._global_learning_rate(self.program)
            self.executor.run(self.startup)
            for name, value in params.items():
                self._set(self.params[name], value)

    def step(self, grads: Mapping[str, Array | SparseGradient], learning_rate: float | None) -> None:
        """Hand over one dense gradient for every parameter, and run the program."""
        dense = {name: grad for name, grad in grads.items() if not isinstance(grad, SparseGradient)}
        if set(dense) != set(self.feeds):
            raise UnsupportedError("a static graph of Paddle's takes a dense gradient for every parameter")
        with self._inside():
            if learning_rate is not None:
                self._set(self.rate, np.asarray(learning_rate, str(self.rate.dtype).removeprefix("paddle.")))
            self.executor.run(self.program, feed={self.feeds[name]: grad for name, grad in dense.items()})
            if learning_rate is None:
                step_schedule(self.optimizer)

    def weights(self) -> dict[str, Array]:
        """Return copies of the parameters."""
        return {name: np.array(self._tensor(param)) for name, param in self.params.items()}

    def state(self) -> OptimizerState:
        """Return copies of the accumulators."""
        with self._inside():
            return accumulators(self.optimizer, "paddle")

    def save(self, folder: Path) -> Path:
        """Write the program's variables, and where the scheduler is, to files like those of `DynamicRun.save`."""
        table = {name: param.name for name, param in self.params.items()}
        with self._inside():
            paddle.save({**self._saved("param"), NAME_TABLE: table}, str(folder / "checkpoint.pdparams"))
            scheduler = unirms.lr_scheduler(self.optimizer)
            place = {} if scheduler is None else {SCHEDULER: scheduler.state_dict()}
            paddle.save({**self._saved("opt"), **place}, str(folder / "checkpoint.pdopt"))
        return folder / "checkpoint.pdopt"

    def load(self, path: Path) -> None:
        """Load what `save` has written into this run."""
        with self._inside():
            found = paddle.load(str(path), return_numpy=True)
            place = found.pop(SCHEDULER, None)
            if place is not None:
                unirms.lr_scheduler(self.optimizer).set_state_dict(place)
            values = paddle.load(str(path.with_suffix(".pdparams")), return_numpy=True)
            names = {name: param.name for name, param in self.params.items()}
            found |= {names.get(key, key): value for key, value in values.items()}
            paddle.static.set_program_state(self.program, found)

    def snapshot(self) -> OptimizerState:
        """Return the state with its config and the weights: what `resume` takes."""
        with self._inside():
            return unirms.state_of(self.optimizer, model=self.params)

    def resume(self, state: OptimizerState, names: Names = None, layout: Layouts = None) -> None:
        """Go on from a state with weights."""
        with self._inside():
            unirms.restore(self.optimizer, state, names=names, layout=layout, model=self.params)

    def measured(self, metric: float) -> None:
        """Tell the scheduler of a plateau a metric."""
        with self._inside():
            unirms.lr_scheduler(self.optimizer).step(metric)

    def _saved(self, mode: str) -> dict[str, Any]:
        names = {param.name: name for name, param in self.params.items()}
        return {names.get(key, key): value for key, value in self.program.state_dict(mode, self.scope).items()}

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        was_dynamic = paddle.in_dynamic_mode()
        paddle.enable_static()
        try:
            with paddle.static.program_guard(self.program, self.startup), paddle.static.scope_guard(self.scope):
                yield
        finally:
            if was_dynamic:
                paddle.disable_static()

    def _set(self, variable: Any, value: Array) -> None:
        self._tensor(variable).set(np.ascontiguousarray(value).reshape(np.shape(value)), paddle.CPUPlace())

    def _tensor(self, variable: Any) -> Any:
        return self.scope.find_var(variable.name).get_tensor()


class PaddleDriver:
    """The verbs of `Driver` for PaddlePaddle."""

    modes: Mapping[str, tuple[str, ...]] = {"dynamic": DTYPES, "static": DTYPES}
    sparse: tuple[str, ...] = ("dynamic",)

    def start(self, make: Make, params: Arrays, dtype: str, mode: str) -> Run:
        """Return a run; the arrays have the dtype already."""
        return StaticRun(make, params) if mode == "static" else DynamicRun(make, params)

    def foreign(self, factory: Callable[[Any], Any], params: Arrays) -> ForeignDynamicRun:
        """Return a run of whatever optimizer `factory` makes."""
        return ForeignDynamicRun(factory, params)

    def construct(self, target: Callable[..., Any], params: Any, settings: Mapping[str, Any]) -> Any:
        """Return `target(parameters=params, **settings)`."""
        return target(parameters=params, **settings)

    def train(self, make: Make, weights: Arrays, batches: Sequence[tuple[Array, Array]]) -> Training:
        """Train the network of `Driver.train`."""
        w = {name: _parameter(value) for name, value in weights.items()}
        optimizer = make(w)
        losses = []
        for x, y in batches:
            hidden = paddle.nn.functional.relu(paddle.to_tensor(x) @ w["w1"] + w["b1"])
            loss = paddle.nn.functional.cross_entropy(hidden @ w["w2"] + w["b2"], paddle.to_tensor(y))
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            losses.append(float(loss.item()))
        return Training(losses, {name: np.array(param.numpy()) for name, param in w.items()})


def _parameter(value: Array, *, is_table: bool = False) -> Any:
    name = f"{paddle.utils.unique_name.generate('embedding')}.w_0" if is_table else None
    param = paddle.create_parameter(list(value.shape), str(value.dtype), name=name)
    param.set_value(value)
    return param


def _gradient(grad: Array | SparseGradient, param: Any) -> Any:
    """Return a gradient as Paddle has it: a tensor, or the rows that `Embedding(sparse=True)` makes."""
    if not isinstance(grad, SparseGradient):
        return paddle.to_tensor(grad)
    kinds = paddle.base.core.VarDesc.VarType
    dtype = kinds.FP64 if grad.values.dtype == np.float64 else kinds.FP32
    made = paddle.base.core.eager.Tensor(dtype, list(param.shape), "", kinds.SELECTED_ROWS, False)
    rows = made.value().get_selected_rows()
    rows.set_height(param.shape[0])
    rows.set_rows([int(index) for index in grad.indices])
    rows.sync_index()
    rows.get_tensor().set(np.ascontiguousarray(grad.values), paddle.CPUPlace())
    return made


def _variable(name: str, value: Array) -> Any:
    zeros = paddle.nn.initializer.Constant(0.0)
    return paddle.create_parameter(list(value.shape), str(value.dtype), name=name, default_initializer=zeros)


def _feed(index: int, value: Array) -> Any:
    return paddle.static.data(f"grad_{index}", list(value.shape), str(value.dtype))


DRIVER: Driver = PaddleDriver()
