"""Keras: the callback that lowers the rate at a plateau, and where an optimizer keeps it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from unirms.config import RMSPropConfig
from unirms.dialects.schedules.keras import MONITOR
from unirms.schedules import Plateau
from unirms.schedules.plateau import PlateauState

from .. import common
from .variables import Untracked, number

_PLATEAU = "_unirms_plateau"
_CALLBACK = "_unirms_lr_scheduler"
COUNTS = ("rate", "best", "wait", "cooldown_counter")


class PlateauLR(keras.callbacks.ReduceLROnPlateau):
    """`ReduceLROnPlateau` for a plateau of unirms: with relative thresholds and `eps`, and in double.

    Pass it to ``model.fit(…, callbacks=[…])``, where it looks at the metric `monitor` after each epoch, or call
    ``step(metric)`` in a loop of your own. Unlike Keras's own it goes on where it was when `fit` is called again. A
    rate that the user has set is reduced from there.

    Its attributes are in Keras's words: Keras counts the first metric of those without an improvement, and the last of
    a cooldown, so that `patience` and `cooldown` are one more than the plateau's.

    Args:
        optimizer: whose rate it lowers, whichever the model is compiled with.
        plateau: when to reduce the rate, and by how much.
        monitor: the metric; you may set this attribute, too.

    Attributes:
        schedule: the plateau.
        rate: its rate now, a double, where a stock optimizer holds a float32.
    """

    best: float
    wait: int
    cooldown_counter: int

    def __init__(self, optimizer: Any, plateau: Plateau, monitor: str | None = None) -> None:
        super().__init__(
            monitor=MONITOR[plateau.mode] if monitor is None else monitor,
            factor=plateau.factor,
            patience=plateau.patience + 1,
            mode=plateau.mode,
            min_delta=plateau.threshold,
            cooldown=plateau.cooldown + 1,
            min_lr=plateau.min_learning_rate,
        )
        self.schedule = plateau
        self.optimizer = optimizer
        self.best = plateau.begin().best
        self.rate = common.rung(plateau, self._live(), self._held)

    def on_train_begin(self, logs: Any = None) -> None:
        """Do nothing: a plateau is a state, which goes on."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the metric of an epoch, and put the rate into the logs, as Keras does."""
        logs = {} if logs is None else logs
        logs["learning_rate"] = number(self.optimizer.learning_rate)
        metric = logs.get(self.monitor)
        if metric is None:
            known = ", ".join(logs)
            warnings.warn(f"the plateau's metric {self.monitor!r} is not there; there are {known}", stacklevel=2)
        else:
            self.step(metric)

    def step(self, metric: Any) -> None:
        """Take note of a metric; the new rate is that of the next update."""
        rate = self.rate if self.drives() else self._live()
        state = self.schedule.after(PlateauState(rate, self.best, self.wait, self.cooldown_counter), float(metric))
        self.best, self.wait, self.cooldown_counter = state.best, state.bad, state.cooldown
        self.rate = state.rate
        if state.rate != rate:
            self.optimizer.learning_rate = state.rate

    def drives(self) -> bool:
        """Return whether the optimizer holds the rate of this plateau, and not one from elsewhere."""
        live = self._live()
        return live == self.rate or live == self._held(self.rate)

    def state_dict(self) -> dict[str, Any]:
        """Return the counts as plain data; Keras saves no callbacks."""
        return {name: getattr(self, name) for name in COUNTS}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the counts, and set the rate of the optimizer, whatever it held."""
        for name in COUNTS:
            setattr(self, name, state_dict[name])
        self.optimizer.learning_rate = self.rate

    def _live(self) -> float:
        exact = getattr(self.optimizer, "exact_rate", None)
        return number(self.optimizer.learning_rate if exact is None else exact())

    def _held(self, rate: float) -> float:
        """Return a rate as the optimizer's variable holds it."""
        held = self.optimizer._learning_rate
        return number(ops.convert_to_tensor(rate, held.dtype)) if isinstance(held, keras.Variable) else rate


def remember(optimizer: Any, config: RMSPropConfig) -> None:
    """Note on a stock optimizer the plateau of its config, if there is one."""
    if isinstance(config.learning_rate, Plateau):
        setattr(optimizer, _PLATEAU, config.learning_rate)


def scheduler_of(optimizer: Any) -> PlateauLR | None:
    """Return the callback of an optimizer, always the same; None where its config has no plateau."""
    kept = getattr(optimizer, _CALLBACK, None)
    plateau = _plateau(optimizer)
    if kept is None and plateau is not None:
        kept = Untracked(PlateauLR(optimizer, plateau))
        setattr(optimizer, _CALLBACK, kept)
    return None if kept is None else kept.value


def plateau_of(optimizer: Any) -> Plateau | None:
    """Return the plateau that drives an optimizer; None where its rate is a number from elsewhere."""
    callback = scheduler_of(optimizer)
    return callback.schedule if callback is not None and callback.drives() else None


def state_of(optimizer: Any) -> PlateauState | None:
    """Return where the plateau that drives an optimizer has come to; None where none does."""
    callback = scheduler_of(optimizer)
    if callback is None or not callback.drives():
        return None
    return PlateauState(callback.rate, callback.best, callback.wait, callback.cooldown_counter)


def restore(optimizer: Any, state: PlateauState | None) -> None:
    """Take the plateau that drives an optimizer to a state, its rate included; do nothing where none does."""
    callback = scheduler_of(optimizer)
    if callback is not None and state is not None and callback.drives():
        counts = (state.rate, state.best, state.bad, state.cooldown)
        callback.load_state_dict(dict(zip(COUNTS, counts, strict=True)))


def _plateau(optimizer: Any) -> Plateau | None:
    config = getattr(optimizer, "config", None)
    rate = config.learning_rate if isinstance(config, RMSPropConfig) else getattr(optimizer, _PLATEAU, None)
    return rate if isinstance(rate, Plateau) else None
