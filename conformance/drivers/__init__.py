"""How to run an optimizer in each framework: a module for each, with the same verbs (`Driver`).

A driver turns NumPy arrays into a framework's parameters, feeds given gradients through the framework's own machinery
in one of its modes, and reads the weights back. It knows nothing of what is right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import unirms
from unirms.moving.maps import Layout
from unirms.registry import adapter, framework
from unirms.schedules import Plateau
from unirms.state import OptimizerState, SparseGradient

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]
Gradients = Mapping[str, Array | SparseGradient]
Names = Mapping[str, str | None] | None
Layouts = Mapping[str, Layout] | None
Make = Callable[..., Any]
"""make(params, **options) -> optimizer; params is a mapping of names to the framework's parameters."""


class Run(Protocol):
    """An optimizer at work on some parameters."""

    optimizer: Any

    def step(self, grads: Gradients, learning_rate: float | None) -> None:
        """Make one update with these gradients and this learning rate; None leaves it to the config's schedule."""
        ...

    def weights(self) -> dict[str, Array]:
        """Return copies of the parameters; bfloat16 comes as float32."""
        ...

    def state(self) -> OptimizerState:
        """Return copies of the accumulators; bfloat16 comes as float32."""
        ...

    def save(self, folder: Path) -> Path:
        """Write weights, optimizer and scheduler into an empty folder, as users of the framework do.

        Returns the file, the folder, or the prefix of the files that `load` takes.
        """
        ...

    def load(self, path: Path) -> None:
        """Take over what `save` has written into a run that has not begun, by the framework's own means."""
        ...

    def snapshot(self) -> OptimizerState:
        """Return the state with its config and the weights, as `unirms.state_of(optimizer, model=…)` does."""
        ...

    def resume(self, state: OptimizerState, names: Names = None, layout: Layouts = None) -> None:
        """Go on from a state with weights, begun or not, as `unirms.restore(…, names=…, layout=…, model=…)` does."""
        ...

    def measured(self, metric: float) -> None:
        """Tell the scheduler of a plateau a metric, as users of the framework do."""
        ...


class ForeignRun(Protocol):
    """An optimizer that somebody else has made, at work on some float32 parameters."""

    def step(self, grads: Arrays) -> None:
        """Make one update with these gradients, at the optimizer's own learning rate."""
        ...

    def set_rate(self, learning_rate: float) -> None:
        """Set the learning rate as users of the framework do, or raise `UnsupportedError`."""
        ...

    def weights(self) -> dict[str, Array]:
        """Return copies of the parameters."""
        ...


@dataclass(frozen=True)
class Training:
    """What a driver's `train` returns: the loss before each update, and the weights after the last."""

    losses: list[float]
    weights: dict[str, Array]


class Driver(Protocol):
    """What the worker needs of a framework."""

    modes: Mapping[str, tuple[str, ...]]
    """Mode -> the dtypes that the framework computes in it; the first mode is the usual one."""

    sparse: tuple[str, ...]
    """The modes in which gradients may come as rows (`unirms.SparseGradient`)."""

    def start(self, make: Make, params: Arrays, dtype: str, mode: str) -> Run:
        """Return a run over parameters with these values; `make` builds the optimizer.

        Values for bfloat16 are float32 arrays that bfloat16 can hold; otherwise arrays have the dtype already.
        """
        ...

    def foreign(self, factory: Callable[[Any], Any], params: Arrays) -> ForeignRun:
        """Return a run, in the usual mode, of whatever optimizer `factory` makes of a list of parameters."""
        ...

    def construct(self, target: Callable[..., Any], params: Any, settings: Mapping[str, Any]) -> Any:
        """Return what a class of optimizers makes of parameters and settings, called as the framework's own are."""
        ...

    def train(self, make: Make, weights: Arrays, batches: Sequence[tuple[Array, Array]]) -> Training:
        """Train a two-layer network with the framework's own autograd, in float32 and the usual mode.

        ``softmax_cross_entropy(relu(x @ w1 + b1) @ w2 + b2, y)``, mean over the batch, one update for each (x, y);
        `weights` holds w1, b1, w2, b2, and y holds the classes as int64.
        """
        ...


def step_schedule(optimizer: Any) -> None:
    """Step the scheduler of an optimizer after an update, where its framework has the user do so.

    That of a plateau waits for a metric, see `Run.measured`.
    """
    scheduler = unirms.lr_scheduler(optimizer)
    if scheduler is not None and not isinstance(getattr(scheduler, "schedule", None), Plateau):
        scheduler.step()


def accumulators(optimizer: Any, name: str) -> OptimizerState:
    """Return copies of an optimizer's arrays, without its config, which `unirms.state_of` works out at every call."""
    return adapter(name).state_of(optimizer)


def driver(name: str) -> Driver:
    """Return the driver of a framework, loading the framework."""
    loaded: Driver = import_module(f"{__name__}.{framework(name).name}").DRIVER
    return loaded
