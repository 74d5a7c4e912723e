"""Real input: one small network on scikit-learn's digits, the same weights and batches in every framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict

import unirms
from unirms import reference
from unirms.config import RMSPropConfig

from .drivers import Array, Driver, Training
from .results import TrainResult

STEPS: Final = 200
BATCH: Final = 64
HIDDEN: Final = 32

CONFIGS: Final[Mapping[str, RMSPropConfig]] = {
    "torch defaults with momentum": RMSPropConfig.from_native("torch", lr=1e-3, momentum=0.9),
    "TensorFlow 1 style": RMSPropConfig.from_native("tf1", learning_rate=1e-3, momentum=0.9, epsilon=1e-3),
    "centered Keras": RMSPropConfig.from_native("keras", learning_rate=1e-3, centered=True),
}


class Digits(BaseModel):
    """The task as data, so that only the parent process needs scikit-learn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: list[list[int]]
    """1797 x 64, 0 to 16."""
    labels: list[int]
    batches: list[list[int]]
    """Indices of the images of each update."""

    def arrays(self) -> list[tuple[Array, Array]]:
        """Return (images, labels) of each update: float32 of shape (64, 64) in [0, 1], and int64 of shape (64,)."""
        images = np.asarray(self.images, dtype=np.float32) / np.float32(16)
        labels = np.asarray(self.labels, dtype=np.int64)
        return [(images[batch], labels[batch]) for batch in self.batches]


def digits() -> Digits:
    """Return the data set that scikit-learn ships, with batches drawn by a fixed seed."""
    from sklearn.datasets import load_digits

    data = load_digits()
    rng = np.random.default_rng(1)
    batches = [rng.choice(len(data.target), size=BATCH, replace=False).tolist() for _ in range(STEPS)]
    return Digits(images=data.data.astype(int).tolist(), labels=data.target.tolist(), batches=batches)


def initial_weights() -> dict[str, Array]:
    """Return w1 (64, 32), b1 (32,), w2 (32, 10), b2 (10,): normal with variance 2 / fan-in, and zeros."""
    rng = np.random.default_rng(2)
    return {
        "w1": (rng.standard_normal((64, HIDDEN)) * np.sqrt(2 / 64)).astype(np.float32),
        "b1": np.zeros(HIDDEN, np.float32),
        "w2": (rng.standard_normal((HIDDEN, 10)) * np.sqrt(2 / HIDDEN)).astype(np.float32),
        "b2": np.zeros(10, np.float32),
    }


def train(name: str, task: Digits, framework: str, driver: Driver) -> TrainResult:
    """Train one config in one framework."""
    built: list[str] = []

    def make(params: Any, **options: Any) -> Any:
        optimizer = unirms.build(CONFIGS[name], framework, params, **options)
        built.append(type(optimizer).__name__)
        return optimizer

    done = driver.train(make, initial_weights(), task.arrays())
    weights = {key: np.ravel(value).tolist() for key, value in done.weights.items()}
    return TrainResult(framework=framework, config=name, built=built[0], losses=done.losses, weights=weights)


def train_in_numpy(config: RMSPropConfig, batches: Sequence[tuple[Array, Array]], dtype: Any = np.float64) -> Training:
    """Return the same training with gradients by hand and the reference, in float64 unless told otherwise."""
    weights = {name: value.astype(dtype) for name, value in initial_weights().items()}
    state = reference.init(config, weights)
    losses = []
    for x, y in batches:
        loss, grads = loss_and_gradients(weights, x.astype(dtype), y)
        weights, state = reference.step(config, weights, grads, state)
        losses.append(loss)
    return Training(losses, weights)


def loss_and_gradients(w: Mapping[str, Array], x: Array, y: Array) -> tuple[float, dict[str, Array]]:
    """Return the mean softmax cross-entropy of the network on one batch, and its gradients."""
    before = x @ w["w1"] + w["b1"]
    hidden = np.maximum(before, 0)
    logits = hidden @ w["w2"] + w["b2"]
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rows = np.arange(len(y))
    loss = float(np.mean(log_sum[:, 0] - shifted[rows, y]))

    d_logits = np.exp(shifted - log_sum)
    d_logits[rows, y] -= 1
    d_logits = d_logits / len(y)
    d_before = (d_logits @ w["w2"].T) * (before > 0)
    return loss, {
        "w1": x.T @ d_before,
        "b1": d_before.sum(axis=0),
        "w2": hidden.T @ d_logits,
        "b2": d_logits.sum(axis=0),
    }


@dataclass(frozen=True)
class Agreement:
    """How far a training is from the float64 one of the reference."""

    loss: float
    """Largest absolute difference of the loss over all updates."""
    weights: float
    """Relative error of the movement of all weights together."""


def agreement(seen: TrainResult, right: Training) -> Agreement:
    """Return how far a framework's training is from NumPy's."""
    start = initial_weights()
    moved, off = 0.0, 0.0
    for name, expected in right.weights.items():
        actual = np.asarray(seen.weights[name]).reshape(expected.shape)
        moved += float(np.sum((expected - start[name]) ** 2))
        off += float(np.sum((actual - expected) ** 2))
    loss = max(abs(a - b) for a, b in zip(seen.losses, right.losses, strict=True))
    return Agreement(loss, float(np.sqrt(off / moved)))
