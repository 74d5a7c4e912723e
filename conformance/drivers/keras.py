"""Runs optimizers in Keras: eagerly, in a `tf.function`, and compiled by XLA."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from unirms.registry import FRAMEWORKS

# Before Keras is loaded: it chooses its backend on import.
for _name, _value in FRAMEWORKS["keras"].environment:
    os.environ.setdefault(_name, _value)

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

import unirms  # noqa: E402
from unirms.errors import UnsupportedError  # noqa: E402
from unirms.state import OptimizerState, SparseGradient  # noqa: E402

from . import Array, Arrays, Driver, Layouts, Make, Names, Training, accumulators  # noqa: E402

DTYPES = ("float32", "float64", "float16", "bfloat16")


class KerasRun:
    """Variables, and `optimizer.apply` with given gradients; one trace for all steps."""

    def __init__(self, make: Make, params: Arrays, dtype: str, mode: str) -> None:
        self.dtype = dtype
        self.begin = partial(self._begin, make, params, mode)
        self.begin(())
        self.begun = False

    def _begin(self, make: Make, params: Arrays, mode: str, rows: Collection[str]) -> None:
        """Make the variables and the optimizer; the tables of `rows` are called as that of Keras's Embedding is."""
        names = {name: "embeddings" if name in rows else name.replace("/", "_") for name in params}
        self.params = {
            name: keras.Variable(tf.constant(value, dtype=self.dtype), dtype=self.dtype, name=names[name])
            for name, value in params.items()
        }
        self.optimizer = make(self.params)
        self.apply: Any = self._apply if mode == "eager" else tf.function(self._apply, jit_compile=mode == "xla")

    def step(self, grads: Mapping[str, Array | SparseGradient], learning_rate: float | None) -> None:
        """Hand over one set of gradients; parameters may be without one."""
        rows = {name for name, grad in grads.items() if isinstance(grad, SparseGradient)}
        if rows and not self.begun:
            self.begin(rows)
        self.begun = True
        if learning_rate is not None:
            self.optimizer.learning_rate = learning_rate
        self.apply({name: self._tensor(grad, self.params[name]) for name, grad in grads.items()})

    def _apply(self, grads: Mapping[str, Any]) -> None:
        self.optimizer.apply(list(grads.values()), [self.params[name] for name in grads])

    def _tensor(self, grad: Array | SparseGradient, param: Any) -> Any:
        if not isinstance(grad, SparseGradient):
            return tf.constant(grad, dtype=self.dtype)
        values, shape = tf.constant(grad.values, dtype=self.dtype), tf.constant(param.shape, tf.int64)
        return tf.IndexedSlices(values, tf.constant(grad.indices, tf.int64), shape)

    def weights(self) -> dict[str, Array]:
        """Return copies of the parameters."""
        return {name: _array(param) for name, param in self.params.items()}

    def state(self) -> OptimizerState:
        """Return copies of the accumulators."""
        return accumulators(self.optimizer, "keras")

    def save(self, folder: Path) -> Path:
        """Write a `tf.train.Checkpoint`, as loops without a model do; return its prefix."""
        return Path(self._checkpoint().save(str(folder / "checkpoint")))

    def load(self, path: Path) -> None:
        """Take over such a checkpoint."""
        self._checkpoint().restore(str(path)).assert_existing_objects_matched()

    def snapshot(self) -> OptimizerState:
        """Return the state with its config and the weights: what `resume` takes."""
        return unirms.state_of(self.optimizer, model=self.params)

    def resume(self, state: OptimizerState, names: Names = None, layout: Layouts = None) -> None:
        """Take over a state and its weights, live."""
        unirms.restore(self.optimizer, state, names=names, layout=layout, model=self.params)

    def measured(self, metric: float) -> None:
        """Tell the scheduler of a plateau a metric."""
        unirms.lr_scheduler(self.optimizer).step(metric)

    def _checkpoint(self) -> Any:
        return tf.train.Checkpoint(optimizer=self.optimizer, parameters=list(self.params.values()))


class ForeignKerasRun:
    """Any optimizer with Keras 3's `apply`, or else with TensorFlow's `apply_gradients`; eagerly."""

    def __init__(self, factory: Callable[[Any], Any], params: Arrays) -> None:
        self.params = {
            name: keras.Variable(tf.constant(value), dtype="float32", name=name) for name, value in params.items()
        }
        self.optimizer = factory(list(self.params.values()))

    def step(self, grads: Arrays) -> None:
        """Make one update."""
        variables = list(self.params.values())
        tensors = [tf.constant(grads[name]) for name in self.params]
        if hasattr(self.optimizer, "apply"):
            self.optimizer.apply(tensors, variables)
        else:
            pairs = zip(tensors, [variable.value for variable in variables], strict=True)
            self.optimizer.apply_gradients(list(pairs))

    def set_rate(self, learning_rate: float) -> None:
        """Set `optimizer.learning_rate`."""
        if not hasattr(self.optimizer, "learning_rate"):
            raise UnsupportedError("it has no learning_rate that could be set")
        try:
            self.optimizer.learning_rate = learning_rate
        except TypeError:  # a schedule
            raise UnsupportedError("its learning rate is a schedule") from None

    def weights(self) -> dict[str, Array]:
        """Return copies of the parameters."""
        return {name: _array(param) for name, param in self.params.items()}


class KerasDriver:
    """The verbs of `Driver` for Keras."""

    modes: Mapping[str, tuple[str, ...]] = {"eager": DTYPES, "function": DTYPES, "xla": DTYPES}
    sparse: tuple[str, ...] = ("eager", "function", "xla")

    def start(self, make: Make, params: Arrays, dtype: str, mode: str) -> KerasRun:
        """Return a run; "function" is a `tf.function`, "xla" one with `jit_compile`."""
        return KerasRun(make, params, dtype, mode)

    def foreign(self, factory: Callable[[Any], Any], params: Arrays) -> ForeignKerasRun:
        """Return a run of whatever optimizer `factory` makes."""
        return ForeignKerasRun(factory, params)

    def construct(self, target: Callable[..., Any], params: Any, settings: Mapping[str, Any]) -> Any:
        """Return `target(**settings)`; the first step builds it on the parameters."""
        return target(**settings)

    def train(self, make: Make, weights: Arrays, batches: Sequence[tuple[Array, Array]]) -> Training:
        """Train the network of `Driver.train`."""
        w = {name: keras.Variable(value, dtype="float32", name=name) for name, value in weights.items()}
        optimizer = make(w)
        losses = []
        for x, y in batches:
            with tf.GradientTape() as tape:
                hidden = tf.nn.relu(tf.constant(x) @ w["w1"] + w["b1"])
                logits = hidden @ w["w2"] + w["b2"]
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
            optimizer.apply(tape.gradient(loss, [param.value for param in w.values()]), list(w.values()))
            losses.append(float(loss))
        return Training(losses, {name: _array(param) for name, param in w.items()})


def _array(variable: Any) -> Any:
    value = np.asarray(variable.value.numpy())
    return value.astype(np.float32) if value.dtype.name == "bfloat16" else value


DRIVER: Driver = KerasDriver()
