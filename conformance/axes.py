"""The axes of the parity matrix and what makes a config of a row: every choice that a config has, pairwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from unirms.config import RMSPropConfig

from .inputs import LEFT_ALONE, SCALES, SCHEDULED

AXES: Final[Mapping[str, Sequence[Any]]] = {
    "epsilon": (1e-2, 1e-7, 1e-8),
    "epsilon_placement": ("inside_sqrt", "outside_sqrt"),
    "rho": (0.9, 0.99, 0.5),
    "momentum": (0.0, 0.9, "nesterov"),
    "lr_in_momentum": (True, False),
    "centered": (False, "propagate", "skip", "clamp"),
    "initial_mean_square": (0.0, 1.0, 0.25),
    "bias_correction": (False, True),
    "weight_decay": (0.0, "l2", "decoupled", "l1", "l2 exempt", "decoupled exempt"),
    "clip": ("none", "value", "norm", "global", "global eps", "two"),
    "gradient_centralization": ("none", "first_axis", "last_axis"),
    "loss_scale": (1.0, 1024.0, 3.0),
    "gradient_accumulation_steps": (1, 3),
    "non_finite": ("propagate", "skip"),
    "maximize": (False, True),
    "ema": (0.0, "from the start", "later"),
    "groups": ("none", "rates", "fields", "clips"),
    "gradients": ("1", "1e-3", "1e-6", "mixed", "spoiled"),
    "rates": ("constant", "halved", "every step", "paused", SCHEDULED, LEFT_ALONE),
}
LOW: Final = ("float16", "bfloat16")
# float16 and bfloat16 hold few numbers: hyperparameters that they hold exactly, gradients whose squares they hold, and
# a decay whose every step is more than half an ULP of the weight (below that, all of it is rounded away). No L1 decay:
# where a weight passes 0, its rounding error decides on the sign.
LOW_PRECISION: Final[Mapping[str, Sequence[Any]]] = {
    **AXES,
    "epsilon": (2.0**-7, 2.0**-10),
    "rho": (0.875, 0.9375, 0.5),
    "momentum": (0.0, 0.875, "nesterov"),
    "bias_correction": (False,),  # 1 - rho**t is not held by these dtypes
    "weight_decay": (0.0, "l2", "decoupled", "l2 exempt", "decoupled exempt"),
    "clip": ("none", "value"),  # a norm has more digits than they have
    "gradient_centralization": ("none",),  # so has a mean
    "loss_scale": (1.0, 4.0),
    "gradient_accumulation_steps": (1, 2),
    "ema": (0.0, "from the start"),
    "groups": ("none", "fields"),
    "gradients": ("1", "spoiled"),
    "rates": ("constant", "halved", "paused", LEFT_ALONE),
}
NORMS: Final = ("norm", "global", "global eps", "two")


def well_conditioned(row: Mapping[str, Any]) -> bool:
    """Return whether a row makes sense, and rounding errors stay small in it, in any implementation.

    A centered denominator is v - a*a, and by Jensen (v - a*a) / v >= rho**t for the bare means: with rho = 0.5 two
    equal gradients in a row cancel to nothing, and with bias correction the very first gradient does (v = g*g, a = g)
    unless the mean square starts elsewhere. What is left is rounding noise, divided by.

    An L2 decay that is larger than the gradient drives each weight to 0 in full steps and lets it bounce there, where
    the sign of a rounding error decides the next step; so it is a sixtieth of the gradient's scale, and mixed
    gradients have none. L1 decay likewise. Nor are mixed gradients centralized: some element is the mean, nearly.

    Gradients are spoiled where updates are skipped, and nowhere else. A learning rate that is set by hand is one for
    all parameters, so that groups with rates of their own are left alone or have a schedule.
    """
    added = str(row.get("weight_decay")).startswith(("l1", "l2"))
    mixed = row.get("gradients") == "mixed"
    if mixed and (added or row.get("gradient_centralization", "none") != "none"):
        return False
    if "gradients" in row and "non_finite" in row and (row["gradients"] == "spoiled") != (row["non_finite"] == "skip"):
        return False
    if row.get("groups") == "rates" and row.get("rates", LEFT_ALONE) not in {LEFT_ALONE, SCHEDULED}:
        return False
    first_cancels = row.get("bias_correction") and row.get("initial_mean_square") == 0.0
    return not row.get("centered") or (row.get("rho") != 0.5 and not first_cancels)


def has_small_tensors(row: Mapping[str, Any]) -> bool:
    """Return whether a row is for tensors of a few elements.

    A norm that is limited leaves each element of a large tensor less than the decay that is added to it, see
    `well_conditioned`; and of 100,000 weights one passes 0 so closely that its rounding error decides on its L1 decay.
    """
    decay = str(row["weight_decay"])
    return decay.startswith("l1") or (decay.startswith("l2") and row["clip"] in NORMS)


def config_of_row(row: Mapping[str, Any], learning_rate: float, weight_decay: float) -> dict[str, Any]:
    """Return the config fields of one row of the covering array."""
    momentum, centered, decay = row["momentum"], row["centered"], str(row["weight_decay"])
    low = row["rho"] in {0.875, 0.9375}
    nested = 0.875 if low else 0.9
    if decay.startswith(("l1", "l2")):
        weight_decay = 2.0**-6 * SCALES.get(row["gradients"], 1.0)
    fields = {
        "learning_rate": _schedule(learning_rate) if row["rates"] == SCHEDULED else learning_rate,
        **{name: row[name] for name in ("rho", "epsilon", "epsilon_placement", "lr_in_momentum", "maximize")},
        **{name: row[name] for name in ("initial_mean_square", "bias_correction", "loss_scale", "non_finite")},
        **{name: row[name] for name in ("gradient_centralization", "gradient_accumulation_steps")},
        "momentum": nested if momentum == "nesterov" else momentum,
        "nesterov": momentum == "nesterov",
        "centered": bool(centered),
        "negative_variance": centered or "propagate",
        "weight_decay": weight_decay if row["weight_decay"] else 0.0,
        "weight_decay_mode": decay.split(maxsplit=1)[0] if row["weight_decay"] else "l2",
        "no_weight_decay": ("p1", "p3") if decay.endswith("exempt") else (),
        "clip": clips(row["clip"], row["gradients"]),
        "ema_decay": nested if row["ema"] else 0.0,
        "ema_start": 5 if row["ema"] == "later" else 0,
        "groups": list(groups(row, learning_rate)),
    }
    return RMSPropConfig(**fields).model_dump(mode="json")


def _schedule(learning_rate: float) -> dict[str, Any]:
    return {"kind": "exponential", "initial_learning_rate": learning_rate, "decay_rate": 0.93}


def clips(kind: str, gradients: str) -> list[dict[str, Any]]:
    """Return clips that act on gradients of that kind, at almost every step."""
    scale = 0.25 if gradients == "mixed" else SCALES.get(gradients, 1.0)
    made: dict[str, list[dict[str, Any]]] = {
        "none": [],
        "value": [{"by": "value", "limit": 0.01 if gradients == "mixed" else scale}],
        "norm": [{"by": "norm", "max_norm": 2 * scale}],
        "global": [{"by": "global_norm", "max_norm": 3 * scale}],
        "global eps": [{"by": "global_norm", "max_norm": 3 * scale, "eps": 1e-2 * scale, "over": "group"}],
    }
    made["two"] = [*made["value"], {"by": "norm", "max_norm": 2 * scale, "eps": 1e-3 * scale}]
    return made[kind]


def groups(row: Mapping[str, Any], learning_rate: float) -> list[dict[str, Any]]:
    """Return parameter groups: by rates, by other fields, or by clips."""
    scale = SCALES.get(row["gradients"], 1.0)
    if row["groups"] == "rates":
        own = {"learning_rate_factor": 2.0} if row["rates"] == SCHEDULED else {"learning_rate": 2.0 * learning_rate}
        return [{"match": ["p1"], "learning_rate_factor": 0.5}, {"match": ["re:[2]$"], **own}]
    if row["groups"] == "fields":
        low = row["rho"] in {0.875, 0.9375}
        other = {"rho": 0.9375 if low else 0.95, "epsilon": 2.0**-8 if low else 1e-3, "momentum": 0.5}
        return [{"match": ["p0", "p0?"], **other}, {"match": ["p2"], "momentum": 0, "centered": False}]
    if row["groups"] == "clips":
        return [
            {"match": ["p1"], "clip": [{"by": "global_norm", "max_norm": 2 * scale}], "weight_decay": 0.0},
            {"match": ["p[23]"], "clip": []},
        ]
    return []
