"""Runs optimizers in PyTorch, for-each and one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import unirms
from unirms.errors import UnsupportedError
from unirms.state import OptimizerState, SparseGradient

from . import Array, Arrays, Driver, Layouts, Make, Names, Training, accumulators, step_schedule

DTYPES = ("float32", "float64", "float16", "bfloat16")


class TorchRun:
    """Parameters with gradients set by hand, and `optimizer.step()`."""

    def __init__(self, make: Make, params: Arrays, dtype: str, mode: str) -> None:
        self.dtype = getattr(torch, dtype)
        self.params = {
            name: torch.nn.Parameter(torch.from_numpy(value.copy()).to(self.dtype)) for name, value in params.items()
        }
        self.optimizer = make(self.params, foreach=mode == "foreach")
        base = self.optimizer.defaults["lr"]
        self.factors = [group["lr"] / base if base else 1.0 for group in self.optimizer.param_groups]

    def step(self, grads: Mapping[str, Array | SparseGradient], learning_rate: float | None) -> None:
        """Hand over one gradient for each name, none for the other parameters, and step."""
        if learning_rate is not None:
            for group, factor in zip(self.optimizer.param_groups, self.factors, strict=True):
                group["lr"] = learning_rate * factor
        for name, param in self.params.items():
            param.grad = self._gradient(grads[name], param) if name in grads else None
        self.optimizer.step()
        if learning_rate is None:
            step_schedule(self.optimizer)

    def weights(self) -> dict[str, Array]:
        """Return copies of the parameters."""
        return {name: _array(param) for name, param in self.params.items()}

    def state(self) -> OptimizerState:
        """Return copies of the accumulators."""
        return accumulators(self.optimizer, "torch")

    def save(self, folder: Path) -> Path:
        """Write weights, optimizer and scheduler to one file, as PyTorch's tutorials do."""
        scheduler = unirms.lr_scheduler(self.optimizer)
        whole = {
            "model": {name: param.detach() for name, param in self.params.items()},
            "optimizer": self.optimizer.state_dict(),
            **({} if scheduler is None else {"scheduler": scheduler.state_dict()}),
        }
        torch.save(whole, folder / "checkpoint.pt")
        return folder / "checkpoint.pt"

    def load(self, path: Path) -> None:
        """Take over what is in such a file, by PyTorch's own means."""
        whole = torch.load(path, weights_only=True)
        with torch.no_grad():
            for name, param in self.params.items():
                param.copy_(whole["model"][name])
        self.optimizer.load_state_dict(whole["optimizer"])
        scheduler = unirms.lr_scheduler(self.optimizer)
        if scheduler is not None:
            scheduler.load_state_dict(whole["scheduler"])

    def snapshot(self) -> OptimizerState:
        """Return the state with its config and the weights: what `resume` takes."""
        return unirms.state_of(self.optimizer, model=self.params)

    def resume(self, state: OptimizerState, names: Names = None, layout: Layouts = None) -> None:
        """Go on from a state with weights."""
        unirms.restore(self.optimizer, state, names=names, layout=layout, model=self.params)

    def measured(self, metric: float) -> None:
        """Tell the scheduler of a plateau a metric."""
        unirms.lr_scheduler(self.optimizer).step(metric)

    def _gradient(self, grad: Array | SparseGradient, param: torch.Tensor) -> torch.Tensor:
        if not isinstance(grad, SparseGradient):
            return torch.from_numpy(grad.copy()).to(self.dtype)
        rows = torch.from_numpy(np.asarray(grad.indices, np.int64))[None]
        values = torch.from_numpy(grad.values.copy()).to(self.dtype)
        return torch.sparse_coo_tensor(rows, values, param.shape, check_invariants=True)


class ForeignTorchRun:
    """Any `torch.optim.Optimizer`, or what has its `step` and `param_groups`."""

    def __init__(self, factory: Callable[[Any], Any], params: Arrays) -> None:
        self.params = {name: torch.nn.Parameter(torch.from_numpy(value.copy())) for name, value in params.items()}
        self.optimizer = factory(list(self.params.values()))

    def step(self, grads: Arrays) -> None:
        """Make one update."""
        for name, param in self.params.items():
            param.grad = torch.from_numpy(grads[name].copy())
        self.optimizer.step()

    def set_rate(self, learning_rate: float) -> None:
        """Set `lr` in all groups."""
        groups = getattr(self.optimizer, "param_groups", [])
        if not groups or any("lr" not in group for group in groups):
            raise UnsupportedError("its param_groups have no lr")
        for group in groups:
            group["lr"] = learning_rate

    def weights(self) -> dict[str, Array]:
        """Return copies of the parameters."""
        return {name: _array(param) for name, param in self.params.items()}


class TorchDriver:
    """The verbs of `Driver` for PyTorch."""

    modes: Mapping[str, tuple[str, ...]] = {"foreach": DTYPES, "single": DTYPES}
    sparse: tuple[str, ...] = ("foreach", "single")

    def start(self, make: Make, params: Arrays, dtype: str, mode: str) -> TorchRun:
        """Return a run; the mode is the optimizer's `foreach`."""
        return TorchRun(make, params, dtype, mode)

    def foreign(self, factory: Callable[[Any], Any], params: Arrays) -> ForeignTorchRun:
        """Return a run of whatever optimizer `factory` makes."""
        return ForeignTorchRun(factory, params)

    def construct(self, target: Callable[..., Any], params: Any, settings: Mapping[str, Any]) -> Any:
        """Return `target(params, **settings)`."""
        return target(params, **settings)

    def train(self, make: Make, weights: Arrays, batches: Sequence[tuple[Array, Array]]) -> Training:
        """Train the network of `Driver.train`."""
        w = {name: torch.nn.Parameter(torch.from_numpy(value.copy())) for name, value in weights.items()}
        optimizer = make(w)
        losses = []
        for x, y in batches:
            hidden = torch.relu(torch.from_numpy(x) @ w["w1"] + w["b1"])
            loss = torch.nn.functional.cross_entropy(hidden @ w["w2"] + w["b2"], torch.from_numpy(y))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss))
        return Training(losses, {name: _array(param) for name, param in w.items()})


def _array(tensor: torch.Tensor) -> Any:
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy().copy()


DRIVER: Driver = TorchDriver()
