"""The optimizers that `unirms parity --resume` carries from one framework to another, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from unirms.building import Policy
from unirms.config import RMSPropConfig
from unirms.registry import FRAMEWORKS

from .spelling import patterns, spelling

DTYPES: Final = ("float32", "float64")
"""What is carried live; through files goes the first."""

KINDS: Final = ("exact", "plateau", "stock")

ALL: Final = tuple(FRAMEWORKS)
SINGLE: Final = DTYPES[:1]


@dataclass(frozen=True)
class Setting:
    """An optimizer that is carried from one framework to another.

    Attributes:
        fields: of its config, with the network's own names as patterns.
        after: fields that are others where it goes on.
        own: framework -> fields that are others there, where that makes the same updates.
        policy: how it is built on both sides.
        frameworks: where it is built.
        read_from: the frameworks whose files say all of it, which other frameworks' files are made of.
        written_for: the frameworks whose files hold all of it, which are made of such files.
        dtypes: in which it is carried live.
        in_turn: whether a framework leaves it in one mode alone, another one for each such setting.
        metrics: completed updates -> the metric that a plateau is told then.
    """

    fields: Mapping[str, Any]
    after: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    policy: Policy = "exact"
    frameworks: tuple[str, ...] = ALL
    read_from: tuple[str, ...] = ALL
    written_for: tuple[str, ...] = ALL
    dtypes: tuple[str, ...] = SINGLE
    in_turn: bool = False
    metrics: Mapping[int, float] = field(default_factory=dict)

    def config(self, framework: str, *, goes_on: bool = False) -> RMSPropConfig:
        """Return the config for the names of a framework; `goes_on`: for the second half."""
        fields = {**self.fields, **self.own.get(framework, {}), **(self.after if goes_on else {})}
        return RMSPropConfig(**patterns(fields, spelling(framework)))

    def through_files(self, source: str, target: str) -> bool:
        """Return whether it goes through files from one framework to another.

        What goes on from a migrated file computes the config of its source, so that both have to be the same.
        """
        both = source in self.frameworks and target in self.frameworks
        same = self.own.get(source, {}) == self.own.get(target, {})
        return both and same and source in self.read_from and target in self.written_for

    @property
    def has_files(self) -> bool:
        """Whether it goes through files anywhere."""
        return bool(self.read_from)

    @property
    def kind(self) -> str:
        """Which of `KINDS` it is: a plateau, one of a stock class, or any other."""
        return "plateau" if self.metrics else self.policy


_DECAYING: Final = {"kind": "exponential", "initial_learning_rate": 0.003, "decay_rate": 0.93}
_GROUPS: Final = (
    {"match": ["bias"], "learning_rate_factor": 2.0, "clip": [{"by": "norm", "max_norm": 2.0}]},
    {"match": ["mix"], "rho": 0.95, "momentum": 0.5},
    {"match": ["scale"], "momentum": 0.0, "centered": False},  # keeps fewer slots than the others
)
_COMMON: Final = {
    "learning_rate": _DECAYING,
    "epsilon": 1e-2,
    "momentum": 0.9,
    "centered": True,
    "groups": _GROUPS,
    "clip": [{"by": "global_norm", "max_norm": 30.0}],
}
_OUTSIDE: Final = {
    **_COMMON,
    "lr_in_momentum": False,
    "epsilon_placement": "outside_sqrt",
    "weight_decay": 2.0**-6,
    "weight_decay_mode": "l2",
}
_INSIDE: Final = {
    **_COMMON,
    "lr_in_momentum": True,
    "epsilon_placement": "inside_sqrt",
    "nesterov": True,
    "initial_mean_square": 1.0,
    "bias_correction": True,
    "weight_decay": 0.3,
    "weight_decay_mode": "decoupled",
    "no_weight_decay": ("bias", "scale"),
    "ema_decay": 0.9,
}
# A rate that rests from the half on: there, a buffer with the rate inside computes what one without it does, times
# that rate, and 40 straight steps of either are those of a run that changes from one to the other.
_RESTING: Final = {
    **_COMMON,
    "learning_rate": {"kind": "piecewise", "boundaries": [8, 16], "learning_rates": [0.002, 0.004, 0.001]},
}
_EXACT: Final = {
    "rate outside, epsilon outside": Setting(_OUTSIDE, dtypes=DTYPES),
    "rate inside, epsilon inside": Setting(
        {**_INSIDE, "gradient_accumulation_steps": 3},  # two gradients are gathered when it is left
        dtypes=DTYPES,
    ),
    # Not through files: what goes on from a migrated file computes the config of its source. In one mode each: units
    # change before a state comes to a framework.
    "the rate enters the buffer": Setting(
        {**_RESTING, "lr_in_momentum": False},
        after={"lr_in_momentum": True},
        read_from=(),
        dtypes=DTYPES,
        in_turn=True,
    ),
    "the rate leaves the buffer": Setting(
        {**_RESTING, "lr_in_momentum": True},
        after={"lr_in_momentum": False},
        read_from=(),
        dtypes=DTYPES,
        in_turn=True,
    ),
}


def _told(*metrics: float) -> Mapping[int, float]:
    """Return metrics after every other update."""
    return {2 * (index + 1): metric for index, metric in enumerate(metrics)}


# Keras's and MindSpore's own checkpoints have no counts of a plateau; unirms writes them into MindSpore's.
_PLATEAU: Final[Any] = {
    "read_from": ("torch", "paddle"),
    "written_for": ("torch", "mindspore", "paddle"),
    "in_turn": True,
}
_PLATEAUS: Final = {
    # Left after one reduction, two metrics without an improvement, and a best one that the next do not improve on.
    "a plateau about to end": Setting(
        {
            **_OUTSIDE,
            "learning_rate": {
                "kind": "plateau",
                "initial_learning_rate": 0.004,
                "factor": 0.5,
                "patience": 2,
                "threshold": 0.01,
            },
        },
        metrics=_told(
            *(1.0, 0.95, 0.9, 0.95, 0.93, 0.92, 0.8, 0.78, 0.85, 0.79),
            *(0.775, 0.774, 0.76, 0.77, 0.76, 0.758, 0.7, 0.71, 0.72, 0.73),
        ),
        **_PLATEAU,
    ),
    # Left after two reductions, while the metrics do not count; the rate ends at the lowest.
    "a plateau that cools down": Setting(
        {
            **_INSIDE,
            "learning_rate": {
                "kind": "plateau",
                "initial_learning_rate": 0.004,
                "factor": 0.6,
                "patience": 0,
                "threshold": 0.05,
                "threshold_mode": "abs",
                "mode": "max",
                "cooldown": 3,
                "min_learning_rate": 0.0005,
            },
        },
        metrics=_told(
            *(0.1, 0.2, 0.3, 0.32, 0.33, 0.3, 0.3, 0.4, 0.41, 0.42),
            *(0.43, 0.44, 0.44, 0.44, 0.6, 0.6, 0.6, 0.61, 0.62, 0.63),
        ),
        **_PLATEAU,
    ),
}
_STOCK_INSIDE: Final = {
    "learning_rate": _DECAYING,
    "epsilon": 1e-2,
    "epsilon_placement": "inside_sqrt",
    "lr_in_momentum": True,
    "momentum": 0.9,
}
# MindSpore's class has no config in common with another: on CPU its plain kernel misplaces epsilon, and the centered
# one skips what the others make NaN. PyTorch's has one in common with Keras's and Paddle's where there is no epsilon.
_STOCK: Final = {
    "stock, of PyTorch": Setting(
        {
            **_STOCK_INSIDE,
            "epsilon_placement": "outside_sqrt",
            "lr_in_momentum": False,
            "centered": True,
            "initial_mean_square": 1.0,
            "weight_decay": 2.0**-6,
            "weight_decay_mode": "l2",
            "groups": ({"match": ["bias"], "learning_rate_factor": 2.0}, *_GROUPS[1:]),
        },
        policy="stock",
        frameworks=("torch",),
    ),
    "stock, of MindSpore": Setting(
        {
            **_STOCK_INSIDE,
            "centered": True,
            "negative_variance": "skip",
            "initial_mean_square": 1.0,
            "weight_decay": 2.0**-6,
            "weight_decay_mode": "l2",
            "groups": ({"match": ["bias"], "learning_rate_factor": 2.0},),
        },
        policy="stock",
        frameworks=("mindspore",),
    ),
    "stock, centered and clipped": Setting(
        {**_STOCK_INSIDE, "centered": True, "initial_mean_square": 1.0, "clip": [{"by": "norm", "max_norm": 2.0}]},
        policy="stock",
        frameworks=("keras", "paddle"),
        in_turn=True,
    ),
    "stock, rate inside": Setting(
        _STOCK_INSIDE,
        policy="stock",
        frameworks=("keras", "paddle"),
        in_turn=True,
    ),
    # Without an epsilon its place is no matter, nor with a rate that rests whether the buffer holds it.
    "stock, without an epsilon": Setting(
        {**_STOCK_INSIDE, "learning_rate": 0.003, "epsilon": 0.0},
        own={"torch": {"lr_in_momentum": False}},
        policy="stock",
        frameworks=("torch", "keras", "paddle"),
        in_turn=True,
    ),
}
SETTINGS: Final[Mapping[str, Setting]] = {**_EXACT, **_PLATEAUS, **_STOCK}
