"""What a file says of an optimizer, and what the user says of it, made into one state; or why they do not agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from unirms.checkpoints.checkpoint import Checkpoint
from unirms.checkpoints.tensors import SIZES, Stored
from unirms.config import RMSPropConfig
from unirms.errors import CheckpointError, StateError, as_given, some
from unirms.grouping import members
from unirms.moving.planning import uses
from unirms.schedules import AnySchedule, Plateau
from unirms.semantics import Fidelity, differences
from unirms.state import GRADIENT_SUM, MOST_STEPS, SLOTS, WEIGHTS, Array, OptimizerState

RATE_ROUNDING: Final = 1e-6
"""How far a rate in a file may be from the config's, as a fraction: Keras and MindSpore keep it as float32, which is
within 6e-8 of it, and a schedule computed in float32 may lose a few times that."""

AROUND: Final = (
    "clip",
    "loss_scale",
    "gradient_accumulation_steps",
    "gradient_centralization",
    "non_finite",
    "sparse",
    "ema_decay",
    "ema_start",
)
"""What a training loop may do around an optimizer of which the file says that it does not."""


@dataclass(frozen=True)
class Settled:
    """A state as far as a plan looks at it.

    Attributes:
        state: complete but for its values: each array has the shape and the dtype alone, and takes no memory.
        notes: a sentence for each thing that was concluded.
    """

    state: OptimizerState
    notes: tuple[str, ...]


def settled(held: Checkpoint, name: str, config: RMSPropConfig | None = None, step: int | None = None) -> Settled:
    """Return the state that a file holds, with what it does not say itself.

    Args:
        held: what the file holds.
        name: what to call it in a message.
        config: what the user says that the optimizer computes.
        step: what the user says of completed updates.

    Raises:
        CheckpointError: the file does not say what has to be known, and the user has not said it either.
        StateError: the user says something else than the file.
    """
    if not held.tensors.get("mean_square"):
        raise CheckpointError(f"{name} holds no state of an RMSProp")
    if config is None and held.config is None:
        raise CheckpointError(f"{name} does not say what optimizer it belongs to; give --config")
    notes: list[str] = []
    computed = config or held.config
    assert computed is not None
    updates = _updates(held, name, computed, step, notes)
    if not 0 <= updates <= MOST_STEPS:
        raise StateError([f"{name} after {as_given(updates)} updates: a number from 0 to {MOST_STEPS} is meant"])
    if config is not None and held.config is not None:
        stated = held.config.replace(**{field: getattr(config, field) for field in held.unsaid})
        _refuse(name, _contradictions(stated, config, held.parameters))
    if isinstance(computed.learning_rate, Plateau) and held.plateau is None and updates:
        raise CheckpointError(
            f"{name} does not say where the plateau has come to; give a --config with the rate of the next update"
        )
    rate = _rate(held, name, config, computed, updates, notes)
    arrays = _slots(held, computed, notes)
    weights, sums = arrays.pop(WEIGHTS, {}), arrays.pop(GRADIENT_SUM, {})
    state = OptimizerState(
        updates,
        **arrays,
        gradient_sum=sums,
        micro_step=held.micro_step,
        plateau=held.plateau,
        learning_rate=rate,
        config=computed,
        weights=weights,
    )
    return Settled(state, tuple(notes))


def _updates(held: Checkpoint, name: str, config: RMSPropConfig, step: int | None, notes: list[str]) -> int:
    """Return the completed updates."""
    if held.step is not None:
        if step is not None and step != held.step:
            raise StateError([f"{name} has made {held.step} updates, not {step}"])
        return held.step
    if step is not None:
        return step
    depends = [
        field
        for field, does in (
            ("learning_rate", not config.has_constant_rate),
            ("bias_correction", config.bias_correction),
            ("ema_decay", config.ema_decay > 0),
        )
        if does
    ]
    if depends:
        raise CheckpointError(
            f"{name} does not say how many updates were made, on which {' and '.join(depends)} depends; give --step"
        )
    notes.append(
        f"{name} does not say how many updates were made: taken as 0, since nothing in the config depends on it"
    )
    return 0


def _contradictions(stated: RMSPropConfig, given: RMSPropConfig, names: Sequence[str]) -> list[str]:
    """Return where a config is another than what a file states, but for rates, the past, and what a loop may do."""
    found: dict[str, str] = {}
    for one, other in zip(members(stated, names), members(given, names), strict=True):
        silent = [field for field in AROUND if getattr(one.config, field) == RMSPropConfig.model_fields[field].default]
        same = {field: getattr(other.config, field) for field in ("learning_rate", "initial_mean_square", *silent)}
        for axis in differences(one.config.replace(**same), other.config):
            if axis.fidelity > Fidelity.EXACT:
                text = f"{axis.axis} of {one.name!r} is {axis.wanted!r} there, and {axis.actual!r} in the config"
                found.setdefault(axis.axis, text)
        if not math.isclose(one.rate_factor, other.rate_factor, rel_tol=RATE_ROUNDING):
            text = f"the learning rate of {one.name!r} is {one.rate_factor:g} times the first there, and "
            found.setdefault("learning_rate", f"{text}{other.rate_factor:g} times in the config")
    return list(found.values())


def _refuse(name: str, reasons: Sequence[str]) -> None:
    if reasons:
        raise StateError([f"{name} belongs to another optimizer than --config: {'; '.join(reasons)}"])


def _rate(
    held: Checkpoint, name: str, given: RMSPropConfig | None, config: RMSPropConfig, step: int, notes: list[str]
) -> float:
    """Return the rate of the next update: the file's if it says one, else the config's."""
    if held.plateau is not None and isinstance(config.learning_rate, Plateau):
        return held.plateau.rate
    own = config.learning_rate_at(step)
    said = held.learning_rate
    if said is None and held.config is not None:
        said = held.config.learning_rate_at(step)
    if said is None or given is None or math.isclose(said, own, rel_tol=RATE_ROUNDING):
        return own if said is None else said
    if isinstance(config.learning_rate, AnySchedule) and step > 0:
        last = config.learning_rate_at(step - 1)
        if math.isclose(said, last, rel_tol=RATE_ROUNDING):
            notes.append(f"{name} has the rate of the last update, {said:g}; the next has {own:g} by the schedule")
            return own
    raise StateError(
        [f"{name} has the learning rate {said:g} for update {step + 1}, and the config has {own:g}; correct --config"]
    )


def _slots(held: Checkpoint, config: RMSPropConfig, notes: list[str]) -> dict[str, dict[str, Array]]:
    """Return the outlines of all tensors, without slots that the config does not use."""
    used = {name: uses(config.for_parameter(name)) for name in held.tensors["mean_square"]}
    found: dict[str, dict[str, Array]] = {}
    for kind, tensors in held.tensors.items():
        kept = {n: one for n, one in tensors.items() if kind not in SLOTS or used.get(n, {}).get(kind, True)}
        if len(kept) < len(tensors):
            left = [name for name in tensors if name not in kept]
            notes.append(f"the {kind} of {some(left, 1)} is left out, since the config keeps none")
        found[kind] = {name: outline(one) for name, one in kept.items()}
    return found


def outline(stored: Stored) -> Array:
    """Return an array of the shape and the dtype of a tensor that takes no memory; of bfloat16 one of float32."""
    if stored.dtype not in SIZES:
        raise CheckpointError(f"{stored.path}: a tensor has the dtype {stored.dtype}; states have {', '.join(SIZES)}")
    held = "float32" if stored.dtype == "bfloat16" else stored.dtype
    return np.broadcast_to(np.zeros((), held), stored.shape)
