"""Runs optimizers in MindSpore, in PyNative and in graph mode."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# Read when MindSpore is loaded: errors only, no warnings of the compiler.
os.environ.setdefault("GLOG_v", "3")

import mindspore
from mindspore import Parameter, Tensor, ops

import unirms
from unirms.errors import UnsupportedError
from unirms.state import OptimizerState, SparseGradient

from . import Array, Arrays, Driver, Layouts, Make, Names, Training, accumulators

DTYPES = ("float32", "float64", "float16")
MODES = {"pynative": mindspore.PYNATIVE_MODE, "graph": mindspore.GRAPH_MODE}


class MindSporeRun:
    """Parameters, and `optimizer(gradients)`."""

    def __init__(self, make: Make, params: Arrays, mode: str) -> None:
        self.mode = MODES[mode]
        mindspore.set_context(mode=self.mode)
        self.params = {name: Parameter(Tensor(value.copy()), name=name) for name, value in params.items()}
        self.optimizer = make(self.params)

    def step(self, grads: Mapping[str, Array | SparseGradient], learning_rate: float | None) -> None:
        """Hand over one gradient for each parameter."""
        mindspore.set_context(mode=self.mode)
        if learning_rate is not None:
            rate = self.optimizer.learning_rate
            # ops.assign, because PyNative optimizers do not see Parameter.set_data after their first step.
            ops.assign(rate, Tensor(learning_rate, rate.dtype))
        self.optimizer(tuple(_tensor(name, grads.get(name)) for name in self.params))

    def weights(self) -> dict[str, Array]:
        """Return copies of the parameters."""
        return {name: param.asnumpy().copy() for name, param in self.params.items()}

    def state(self) -> OptimizerState:
        """Return copies of the accumulators."""
        return accumulators(self.optimizer, "mindspore")

    def save(self, folder: Path) -> Path:
        """Write MindSpore's usual checkpoint, which has the weights and the optimizer's Parameters; return the file.

        What no Parameter holds, the place of a plateau, comes as text, as ``append_dict`` takes it.
        """
        scheduler = unirms.lr_scheduler(self.optimizer)
        added = {} if scheduler is None else {"plateau": json.dumps(scheduler.state_dict())}
        path = folder / "run.ckpt"
        mindspore.save_checkpoint(self.optimizer, str(path), append_dict=added)
        return path

    def load(self, path: Path) -> None:
        """Load such a checkpoint into this run, which has not begun yet, as users of MindSpore do."""
        found = mindspore.load_checkpoint(str(path))
        mindspore.load_param_into_net(self.optimizer, found)
        scheduler = unirms.lr_scheduler(self.optimizer)
        # In a file that `unirms migrate` has made it stands beside the config.
        migrated = json.loads(found["unirms"])["plateau"] if "unirms" in found else None
        if scheduler is not None and (migrated or "plateau" in found):
            scheduler.load_state_dict(migrated or json.loads(found["plateau"]))

    def snapshot(self) -> OptimizerState:
        """Return the state with its config and the weights: what `resume` takes."""
        mindspore.set_context(mode=self.mode)
        return unirms.state_of(self.optimizer, model=self.params)

    def resume(self, state: OptimizerState, names: Names = None, layout: Layouts = None) -> None:
        """Put the weights and the accumulators of a state into this run."""
        mindspore.set_context(mode=self.mode)
        unirms.restore(self.optimizer, state, names=names, layout=layout, model=self.params)

    def measured(self, metric: float) -> None:
        """Tell the scheduler of a plateau a metric."""
        mindspore.set_context(mode=self.mode)
        unirms.lr_scheduler(self.optimizer).step(metric)


def _tensor(name: str, grad: Array | SparseGradient | None) -> Tensor:
    if grad is None or isinstance(grad, SparseGradient):
        given = "none" if grad is None else "one by rows"
        raise UnsupportedError(
            f"MindSpore's optimizers take a dense gradient for every parameter, {name!r} has {given}"
        )
    return Tensor(grad)


class ForeignMindSporeRun:
    """Any optimizer that is called with a tuple of gradients, in PyNative mode."""

    def __init__(self, factory: Callable[[Any], Any], params: Arrays) -> None:
        mindspore.set_context(mode=MODES["pynative"])
        self.params = {name: Parameter(Tensor(value.copy()), name=name) for name, value in params.items()}
        self.optimizer = factory(list(self.params.values()))

    def step(self, grads: Arrays) -> None:
        """Make one update."""
        self.optimizer(tuple(Tensor(grads[name]) for name in self.params))

    def set_rate(self, learning_rate: float) -> None:
        """Assign to the optimizer's Parameters; other ways are not seen after the first step."""
        groups = getattr(self.optimizer, "param_groups", None)  # of mindspore.experimental
        own: Any = getattr(self.optimizer, "learning_rate", None)
        rates = [group["lr"] for group in groups] if groups else [own]
        if not all(isinstance(rate, Parameter) and rate.shape == () for rate in rates):
            raise UnsupportedError("its learning rate is not a single Parameter")
        for rate in rates:
            ops.assign(rate, Tensor(learning_rate, rate.dtype))

    def weights(self) -> dict[str, Array]:
        """Return copies of the parameters."""
        return {name: param.asnumpy().copy() for name, param in self.params.items()}


class MindSporeDriver:
    """The verbs of `Driver` for MindSpore."""

    modes: Mapping[str, tuple[str, ...]] = {"pynative": DTYPES, "graph": DTYPES}
    sparse: tuple[str, ...] = ()

    def start(self, make: Make, params: Arrays, dtype: str, mode: str) -> MindSporeRun:
        """Return a run; the mode is MindSpore's own, and the process stays in it."""
        return MindSporeRun(make, params, mode)

    def foreign(self, factory: Callable[[Any], Any], params: Arrays) -> ForeignMindSporeRun:
        """Return a run of whatever optimizer `factory` makes."""
        return ForeignMindSporeRun(factory, params)

    def construct(self, target: Callable[..., Any], params: Any, settings: Mapping[str, Any]) -> Any:
        """Return `target(params, **settings)`."""
        return target(params, **settings)

    def train(self, make: Make, weights: Arrays, batches: Sequence[tuple[Array, Array]]) -> Training:
        """Train the network of `Driver.train`."""
        mindspore.set_context(mode=MODES["pynative"])
        w = {name: Parameter(Tensor(value.copy()), name=name) for name, value in weights.items()}
        optimizer = make(w)

        def loss_of(x: Any, y: Any) -> Any:
            hidden = ops.relu(ops.matmul(x, w["w1"]) + w["b1"])
            return ops.cross_entropy(ops.matmul(hidden, w["w2"]) + w["b2"], y)

        loss_and_gradients = mindspore.value_and_grad(loss_of, None, optimizer.parameters)
        losses = []
        for x, y in batches:
            loss, gradients = loss_and_gradients(Tensor(x), Tensor(y.astype("int32")))
            optimizer(gradients)
            losses.append(float(loss.asnumpy()))
        return Training(losses, {name: param.asnumpy().copy() for name, param in w.items()})


DRIVER: Driver = MindSporeDriver()
