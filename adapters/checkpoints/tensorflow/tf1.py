"""`tf.compat.v1.train.Saver` with TensorFlow 1's RMSProp: read without TensorFlow, by the names of the tensors.

The class names its slots after the variable and itself, in the order in which it makes them: `w/RMSProp` is the mean
square, and `w/RMSProp_1` the momentum, or, of a centered optimizer, the mean gradient, which has the momentum as
`w/RMSProp_2`. It keeps a momentum always, so that the number of slots tells which it is. Source:
`tensorflow/python/training/rmsprop.py` and `slot_creator.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from unirms.checkpoints.checkpoint import Checkpoint, Outgoing
from unirms.checkpoints.naming import plain, problem
from unirms.config import RMSPropConfig
from unirms.errors import CheckpointError
from unirms.state import GRADIENT_SUM, WEIGHTS

from . import saving
from .bundle import Entry, entries, prefix_of
from .object_graph import KEY
from .saving import Source, scalar, zeros

COUNT: Final = "global_step"
"""The name that `tf.compat.v1.train.get_or_create_global_step` gives the count of updates."""
OPTIMIZER: Final = "RMSProp"
AVERAGE: Final = "ExponentialMovingAverage"
_KINDS: Final[Mapping[int, tuple[str, ...]]] = {
    2: ("mean_square", "momentum"),
    3: ("mean_square", "mean_gradient", "momentum"),
}
"""Number of slots -> what they are, in order."""


def read(path: Path, spool: Path, config: RMSPropConfig | None = None) -> Checkpoint:
    """Return what a checkpoint holds.

    Args:
        path: its prefix, its index, or its folder.
        spool: not used: all tensors lie in the data files as raw bytes.
        config: what the optimizer computes, which no checkpoint says.

    Raises:
        CheckpointError: the checkpoint is damaged, foreign or refused, or its slots are not those of the config.
    """
    found = entries(prefix_of(path))
    if KEY in found:
        raise CheckpointError(f"{path} is of tf.train.Checkpoint; read it as tf-checkpoint")
    called, slots = _slots(found, path)
    notes = []
    if called:
        told = "centered" if any(len(own) == 3 for own in slots.values()) else "not centered"
        notes.append(f"the slots are called {called}; by their number the optimizer is {told}")
    tensors: dict[str, dict[str, Entry]] = {kind: {} for kind in ("mean_square", "mean_gradient", "momentum")}
    for name, own in slots.items():
        for kind, entry in zip(_KINDS[len(own)], own, strict=True):
            tensors[kind][name] = entry
    if config is not None:
        _compare(config, slots, path)
        if config.momentum == 0 and not any(group.momentum for group in config.groups):
            tensors["momentum"] = {}
            notes.append("the optimizer keeps a momentum that it does not use, which was left out")
    taken = {entry.name for own in slots.values() for entry in own}
    rest = {name: one for name, one in found.items() if name not in taken and one.is_tensor}
    tensors["average"] = {name: rest.pop(f"{name}/{AVERAGE}") for name in slots if f"{name}/{AVERAGE}" in rest}
    tensors[WEIGHTS] = rest
    for name in (*slots, *rest):
        if problem(name):
            raise CheckpointError(f"{path}: {problem(name)}")
    step = found[COUNT].integer() if COUNT in found else None
    if step is not None and step < 0:
        raise CheckpointError(f"{path} is damaged: it has made {step} updates")
    return Checkpoint(
        format="tf1",
        parameters=tuple(slots),
        step=step,
        tensors={kind: {n: one.stored() for n, one in held.items()} for kind, held in tensors.items() if held},
        notes=tuple(notes),
    )


def write(path: Path, content: Outgoing, like: Path | None) -> None:
    """Write a checkpoint, with all else that another one holds, if one is given.

    Raises:
        CheckpointError: this cannot be written, or `like` is no such checkpoint.
        StateError: a tensor has a NaN, or a value that its dtype cannot hold.
    """
    if content.micro_step or content.tensors.get(GRADIENT_SUM):
        raise CheckpointError(
            "TensorFlow 1's optimizer has no place for half gathered gradients; make the update first"
        )
    held = {} if like is None else entries(prefix_of(like))
    called = _slots(held, like)[0] if like is not None else ""
    sources: dict[str, Source] = dict(held)
    for name, one in content.tensors.get(WEIGHTS, {}).items():
        _refuse_other(held, name, one.shape)
        sources[name] = one
    centered = bool(content.tensors.get("mean_gradient"))
    for name in content.parameters:
        square = content.tensors["mean_square"][name]
        for number, kind in enumerate(_KINDS[3 if centered else 2]):
            key = f"{name}/{called or OPTIMIZER}" + (f"_{number}" if number else "")
            _refuse_other(held, key, square.shape)
            sources[key] = content.tensors.get(kind, {}).get(name) or zeros(square.shape, square.dtype)
        if name in content.tensors.get("average", {}):
            sources[f"{name}/{AVERAGE}"] = content.tensors["average"][name]
    sources[COUNT] = scalar(content.step or 0, "int64")
    saving.save(prefix_of(path), sources)


def _slots(found: Mapping[str, Entry], path: Path | None) -> tuple[str, dict[str, list[Entry]]]:
    """Return what the slots are called, and those of each parameter in order.

    Raises:
        CheckpointError: parameters have slots of several optimizers, or a number of them that RMSProp has not.
    """
    slots: dict[str, list[Entry]] = {}
    names = set()
    for key, one in found.items():
        variable, _, called = key.rpartition("/")
        owner = found.get(variable)
        follows = found.get(f"{key}_1")
        if owner is None or follows is None or re.search(r"_\d+$", called) or owner.shape != one.shape:
            continue
        own = [one, *(found[f"{key}_{number}"] for number in (1, 2, 3) if f"{key}_{number}" in found)]
        if not all(entry.is_tensor and entry.shape == owner.shape for entry in own):
            continue
        if len(own) not in _KINDS:
            raise CheckpointError(
                f"{path}: {plain(variable)!r} has {len(own)} slots {plain(called)!r}; RMSProp has 2 or 3"
            )
        names.add(called)
        slots[variable] = own
    if len(names) > 1:
        raise CheckpointError(f"{path} has slots of several optimizers: {', '.join(map(plain, sorted(names)))}")
    return next(iter(names), ""), slots


def _compare(config: RMSPropConfig, slots: Mapping[str, list[Entry]], path: Path) -> None:
    """Raise an error where the number of slots is not that of the config."""
    for name, own in slots.items():
        centered = config.for_parameter(name).centered
        if centered != (len(own) == 3):
            raise CheckpointError(
                f"{path}: {plain(name)!r} has {len(own)} slots, and a config that is "
                f"{'centered' if centered else 'not centered'} has {3 if centered else 2}"
            )


def _refuse_other(held: Mapping[str, Entry], key: str, shape: tuple[int, ...]) -> None:
    if held and key not in held:
        raise CheckpointError(f"the file to keep has no {key!r}; save it with the optimizer that goes on")
    if held and held[key].shape != shape:
        raise CheckpointError(f"{key!r} has the shape {shape}, and in the file to keep {held[key].shape}")
