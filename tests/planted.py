"""Optimizers that are wrong on purpose, in NumPy: what the parity check must catch.

`NumpyDriver` runs the reference in the dtype of the case, as a framework would; a defect changes the config that it
follows, or touches the weights or the state after each step.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unirms import RMSPropConfig, reference
from unirms.state import OptimizerState

Arrays = dict[str, np.ndarray]


@dataclass
class Defect:
    """What is wrong with a planted optimizer."""

    name: str
    config: Callable[[RMSPropConfig], RMSPropConfig] = lambda config: config
    weights: Callable[[Arrays, int], Arrays] = lambda weights, step: weights
    state: Callable[[OptimizerState], OptimizerState] = lambda state: state
    visible: Callable[[RMSPropConfig, Any], bool] = lambda config, case: True
    late: int = 0
    """By how many updates the schedule lags behind."""


NONE = Defect("none")


def _other(value: str, pair: tuple[str, str]) -> str:
    return pair[1] if value == pair[0] else pair[0]


def _one_element(weights: Arrays, step: int) -> Arrays:
    """One element of the 17-element tensor steps a thousandth too far."""
    changed = {name: value.copy() for name, value in weights.items()}
    for value in changed.values():
        if value.size == 17:
            value[16] += value.dtype.type(1e-4)
    return changed


def _wrong_state(state: OptimizerState) -> OptimizerState:
    """The mean square is reported a hundred-thousandth too large; the weights never see it."""
    slots = dict(state.slots())
    slots["mean_square"] = {n: v * v.dtype.type(1.00001) for n, v in state.mean_square.items()}
    return OptimizerState.of(state.step, slots, state.gradient_sum, state.micro_step)


def _moves(config: RMSPropConfig, case: Any) -> bool:
    """Return whether float32 weights near 1 see the steps at all: gradients of 1e-6 over a mean square of 1 do not."""
    return config.initial_mean_square == 0 or case.gradients in {"1", "spoiled"}


def _rate_changes(config: RMSPropConfig, case: Any) -> bool:
    return case.rates != "constant" and (case.rates != "scheduled" or not config.has_constant_rate)


def _acts(config: RMSPropConfig) -> bool:
    """Return whether the size of a gradient shows: not where the update divides it by itself."""
    return config.initial_mean_square > 0 or config.epsilon == 1e-2


def _without_momentum(state: OptimizerState) -> OptimizerState:
    return OptimizerState.of(state.step, {**state.slots(), "momentum": {}})


DEFECTS = [
    Defect(
        "epsilon on the other side of the root",
        config=lambda c: c.replace(epsilon_placement=_other(c.epsilon_placement, ("inside_sqrt", "outside_sqrt"))),
        visible=lambda c, case: (
            case.gradients in {"1e-6", "mixed"}
            and c.epsilon == 1e-8
            and c.initial_mean_square == 0
            and not (c.weight_decay > 0 and c.weight_decay_mode == "l2")
        ),
    ),
    Defect("first mean square", config=lambda c: c.replace(initial_mean_square=c.initial_mean_square + 0.5)),
    Defect(
        "learning rate on the other side of the buffer",
        config=lambda c: c.replace(lr_in_momentum=not c.lr_in_momentum),
        visible=lambda c, case: c.momentum > 0 and _rate_changes(c, case) and _moves(c, case),
    ),
    Defect(
        "plain momentum for Nesterov's",
        config=lambda c: c.replace(nesterov=False),
        visible=lambda c, case: c.nesterov and _moves(c, case),
    ),
    Defect(
        "no correction by the mean",
        config=lambda c: c.replace(centered=False),
        visible=lambda c, case: c.centered,
    ),
    Defect(
        "decay of the other kind",
        config=lambda c: c.replace(weight_decay_mode=_other(c.weight_decay_mode, ("l2", "decoupled"))),
        visible=lambda c, case: c.weight_decay > 0 and case.gradients == "1",
    ),
    Defect(
        "decay of exempt parameters",
        config=lambda c: c.replace(no_weight_decay=()),
        visible=lambda c, case: bool(c.no_weight_decay) and case.gradients == "1",
    ),
    Defect("descent for ascent", config=lambda c: c.replace(maximize=not c.maximize)),
    Defect(
        "loss scale forgotten",
        config=lambda c: c.replace(loss_scale=1),
        visible=lambda c, case: c.loss_scale != 1 and not c.clip and _moves(c, case),
    ),
    Defect(
        "bias correction forgotten",
        config=lambda c: c.replace(bias_correction=False),
        visible=lambda c, case: c.bias_correction and _moves(c, case),
    ),
    Defect(
        "clips forgotten", config=lambda c: c.replace(clip=()), visible=lambda c, case: bool(c.clip) and _moves(c, case)
    ),
    Defect(
        "more than the norm in the denominator of a clip",
        config=lambda c: c.replace(clip=[clip.model_copy(update={"eps": clip.eps + 1e-3}) for clip in c.clip]),
        visible=lambda c, case: c.clip[:1] and hasattr(c.clip[0], "eps") and case.gradients == "1" and _acts(c),
    ),
    Defect(
        "the sum of gathered gradients for their mean",
        config=lambda c: c.replace(loss_scale=c.loss_scale / c.gradient_accumulation_steps),
        visible=lambda c, case: (
            c.gradient_accumulation_steps > 1 and all(clip.by == "value" for clip in c.clip) and _moves(c, case)
        ),
    ),
    Defect(
        "an update after every gradient",
        config=lambda c: c.replace(gradient_accumulation_steps=1),
        visible=lambda c, case: c.gradient_accumulation_steps > 1,
    ),
    Defect(
        "the mean over the other axes",
        config=lambda c: c.replace(
            gradient_centralization=_other(c.gradient_centralization, ("first_axis", "last_axis"))
        ),
        visible=lambda c, case: c.gradient_centralization != "none" and _acts(c) and case.gradients in {"1", "spoiled"},
    ),
    Defect(
        "gradients that are not finite go through",
        config=lambda c: c.replace(non_finite="propagate"),
        visible=lambda c, case: case.gradients == "spoiled",
    ),
    Defect(
        "the average begins an update late",
        config=lambda c: c.replace(ema_start=c.ema_start + 1),
        visible=lambda c, case: c.ema_decay > 0 and case.gradients == "1",
    ),
    Defect(
        "groups forgotten",
        config=lambda c: c.replace(groups=()),
        visible=lambda c, case: (
            any(g.learning_rate_factor for g in c.groups) and case.gradients in {"1", "spoiled", "mixed"}
        ),
    ),
    Defect("one element of seventeen", weights=_one_element),
    Defect("state wrong, weights right", state=_wrong_state),
    Defect("a slot is missing", state=_without_momentum, visible=lambda c, case: c.momentum > 0),
]


LATE = Defect("a schedule one update late", late=1)


class NumpyRun:
    def __init__(self, config: RMSPropConfig, params: Mapping[str, np.ndarray], defect: Defect) -> None:
        self.config, self.defect = defect.config(config), defect
        self.params: Arrays = dict(params)
        self.memory = reference.init(self.config, self.params)
        self.optimizer = self

    def step(self, grads, learning_rate):
        if learning_rate is None:
            learning_rate = self.config.learning_rate_at(max(self.memory.step - self.defect.late, 0))
        config = self.config.replace(learning_rate=learning_rate)
        self.params, self.memory = reference.step(config, self.params, grads, self.memory)
        self.params = self.defect.weights(self.params, self.memory.step)

    def weights(self):
        return dict(self.params)

    def state(self):
        return self.defect.state(self.memory)


class NumpyDriver:
    """A driver for `judge`; `make` returns the config, since there is no framework."""

    modes: Mapping[str, tuple[str, ...]] = {"numpy": ("float32", "float64")}
    sparse: tuple[str, ...] = ("numpy",)

    def __init__(self, defect: Defect = NONE) -> None:
        self.defect = defect

    def start(self, make, params, dtype, mode):
        return NumpyRun(make(params), params, self.defect)
