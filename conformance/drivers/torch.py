"""Runs optimizers in PyTorch, for-each and one tensor at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

import unirms
from unirms.state import OptimizerState

from . import Array, Arrays, Driver, Make, Training

DTYPES = ("float32", "float64", "float16", "bfloat16")


class TorchRun:
    """Parameters with gradients set by hand, and `optimizer.step()`."""

    def __init__(self, make: Make, params: Arrays, dtype: str, mode: str) -> None:
        self.dtype = getattr(torch, dtype)
        self.params = {
            name: torch.nn.Parameter(torch.from_numpy(value.copy()).to(self.dtype)) for name, value in params.items()
        }
        self.optimizer = make(self.params, foreach=mode == "foreach")

    def step(self, grads: Arrays, learning_rate: float) -> None:
        """Make one update."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        for name, param in self.params.items():
            param.grad = torch.from_numpy(grads[name].copy()).to(self.dtype)
        self.optimizer.step()

    def weights(self) -> dict[str, Array]:
        """Return copies of the parameters."""
        return {name: _array(param) for name, param in self.params.items()}

    def state(self) -> OptimizerState:
        """Return copies of the accumulators."""
        return unirms.state_of(self.optimizer)


class TorchDriver:
    """The verbs of `Driver` for PyTorch."""

    modes: Mapping[str, tuple[str, ...]] = {"foreach": DTYPES, "single": DTYPES}

    def start(self, make: Make, params: Arrays, dtype: str, mode: str) -> TorchRun:
        """Return a run; the mode is the optimizer's `foreach`."""
        return TorchRun(make, params, dtype, mode)

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
