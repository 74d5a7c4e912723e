"""Real releases: the recorded trajectories of the corpus, replayed by the reference."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import numpy as np

from unirms import dialects, reference
from unirms.config import RMSPropConfig
from unirms.state import OptimizerState

from .cases import LIMIT_ULP
from .measures import Error, Ruler

# The class that a file was recorded from -> its dialect.
DIALECT_OF: Final = {
    "torch.optim.RMSprop": "torch",
    "tf.keras.optimizers.RMSprop": "keras-legacy",
    "tf_keras.optimizers.legacy.RMSprop": "keras-legacy",
    "tf.train.RMSPropOptimizer": "tf1",
    "tf.compat.v1.train.RMSPropOptimizer": "tf1",
    "paddle.fluid.optimizer.RMSPropOptimizer": "paddle-fluid",
    "mindspore.nn.RMSProp": "mindspore",
    "timm.optim.RMSpropTF": "timm",
    "stable_baselines3.common.sb2_compat.rmsprop_tf_like.RMSpropTFLike": "sb3",
    "pfrl.optimizers.RMSpropEpsInsideSqrt": "pfrl",
    "optax.rmsprop": "optax",
    "mlx.optimizers.RMSprop": "mlx",
}

LIMIT_MOVEMENT: Final = 1e-3
"""A float32 record passes with either: with epsilon 1e-6 or 1e-10 the first steps are g / |g| of a rounded g * g."""
LIMIT_MOVEMENT_FLOAT64: Final = 1e-12
"""All systems computed in double what their rounded hyperparameters say."""


@dataclass(frozen=True)
class Recording:
    """One recorded run."""

    system: str
    dialect: str
    record: dict[str, Any]

    @property
    def name(self) -> str:
        """A name for people: system, what it exercises, dtype."""
        return f"{self.system}/{self.record['name']}/{self.record['dtype']}"

    @property
    def config(self) -> RMSPropConfig:
        """The meaning of its keyword arguments, rounded as the recorded class rounds them."""
        config = RMSPropConfig.from_native(self.dialect, **self.record["kwargs"])
        rounded = dialects.get(self.dialect).rounds
        return config.replace(**{field: float(np.float32(getattr(config, field))) for field in rounded})

    def replay(self) -> Error:
        """Return how far the float64 reference is from what was recorded, weights only, over all steps."""
        ruler = Ruler(_arrays(self.record["params"]), self.record["dtype"])
        for (params, _), recorded in zip(self._steps(), self.record["trajectory"], strict=True):
            ruler.observe(params, _arrays(recorded))
        return ruler.worst

    def final_state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return (replayed, recorded) accumulators after the last step, by slot, under unirms's names for slots."""
        *_, (_, state) = self._steps()
        recorded = {SLOTS[key]: _arrays(values) for key, values in self.record["state"].items()}
        return dict(state.slots()), recorded

    def passed(self, error: Error) -> bool:
        """Return whether the replay is within the limits of its dtype."""
        if self.record["dtype"] == "float64":
            return error.movement <= LIMIT_MOVEMENT_FLOAT64
        return error.ulp <= LIMIT_ULP["float32"] or error.movement <= LIMIT_MOVEMENT

    def _steps(self) -> Iterator[tuple[dict[str, Any], OptimizerState]]:
        """Yield the reference's parameters and state after each recorded step."""
        config, params = self.config, _arrays(self.record["params"])
        state = reference.init(config, params)
        rates = self.record["learning_rates"] or [config.initial_learning_rate] * len(self.record["grads"])
        for grads, rate in zip(self.record["grads"], rates, strict=True):
            rounded = float(np.float32(rate)) if "learning_rate" in dialects.get(self.dialect).rounds else rate
            params, state = reference.step(config.replace(learning_rate=rounded), params, _arrays(grads), state)
            yield params, state


# Slot names of the recorded systems -> slots of unirms.
SLOTS: Final = {
    "mean_square": "mean_square",
    "square_avg": "mean_square",
    "rms": "mean_square",
    "nu": "mean_square",
    "v": "mean_square",
    "mean_grad": "mean_gradient",
    "grad_avg": "mean_gradient",
    "mg": "mean_gradient",
    "mu": "mean_gradient",
    "momentum": "momentum",
    "moment": "momentum",
    "momentum_buffer": "momentum",
}


def recordings() -> Iterator[Recording]:
    """Yield every record of the corpus."""
    for path in sorted(files(f"{__package__}.corpus").iterdir(), key=lambda path: path.name):
        if path.name.endswith(".json"):
            data = json.loads(path.read_text(encoding="utf-8"))
            for record in data["records"]:
                yield Recording(data["system"], DIALECT_OF[data["class"]], record)


def _arrays(values: dict[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}
