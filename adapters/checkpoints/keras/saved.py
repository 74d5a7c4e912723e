"""Keras 3: `model.save` (`.keras`) and `model.save_weights` (`.weights.h5`), without loading Keras.

Source of the layout: `keras.src.saving.saving_lib` (Keras 3.15). The optimizer's variables stand by number under
"optimizer/vars", and those of each layer under a name of its class, see `slots` and `naming`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from unirms.checkpoints.checkpoint import Checkpoint, Outgoing
from unirms.checkpoints.naming import plain, problem
from unirms.checkpoints.tensors import Stored
from unirms.config import RMSPropConfig
from unirms.documents import Document
from unirms.documents import check as check_data
from unirms.errors import CheckpointError, UnirmsError
from unirms.recipes import keras as recipes
from unirms.schedules import Plateau
from unirms.schedules.plateau import PlateauState
from unirms.state import GRADIENT_SUM, WEIGHTS

from . import naming, statement, writing
from .archives import Archive, frozen_layers, opened
from .hdf5 import Contents, Dataset, contents, stored
from .slots import GIVE_CONFIG, Slots, Structure, guessed, told_apart
from .statement import ATTRIBUTE

_EXCLUSIONS = (
    "the file does not say which variables exclude_from_weight_decay has left out: taken as none, unless --config has "
    "a no_weight_decay"
)
_WRAPPED = (
    "the file to keep has its optimizer in a keras.optimizers.LossScaleOptimizer: compile the model with "
    "LossScaleOptimizer(optimizer), or Keras leaves its state out with a mere warning"
)
_PLATEAU = "the file has the rate of the plateau, but not its counts, which Keras does not save"


def read(path: Path, spool: Path, config: RMSPropConfig | None = None) -> Checkpoint:
    """Return what a `.keras` or a `.weights.h5` file holds.

    Args:
        path: the file.
        spool: an empty folder for what does not lie in the file as raw bytes.
        config: what the optimizer computes, where the file does not say: the variables in it have no names.

    Raises:
        CheckpointError: the file is damaged, foreign or refused, or only a config can tell its slots apart.
    """
    with opened(path, spool) as archive:
        file = contents(archive.weights)
        named = naming.weights(file)
        frozen = frozen_layers(archive.config)
        variables = file.under(naming.optimizer_group(file))
        try:
            said = _statement(archive, file)
        except _ForeignError as error:
            said, variables = _Statement(notes=(str(error),)), []
        if not _has_slots(variables, said.structure):
            return _weights_alone(archive, spool, named, said.notes, file)
        if said.structure is None and config is not None:
            said = replace(said, structure=Structure.of(config))
        try:
            if said.structure is None:
                raise CheckpointError(f"{path} does not say what its {len(variables)} variables are; {GIVE_CONFIG}")
            slots = told_apart(variables, _with_names(said.structure, variables, file, named, frozen), str(path))
            order = naming.trained(file, named, slots.shapes, frozen)
        except CheckpointError:
            if said.config is not None:
                raise
            told = _told_by_layers(variables, file, named, frozen, str(path))
            if told is None:
                raise
            slots, order = told
        return _checkpoint(path, archive, spool, said, slots, named, order, file)


def write(path: Path, content: Outgoing, like: Path | None) -> None:
    """Write such a file: around the optimizer's variables alone, or with all else that the file `like` has.

    Raises:
        CheckpointError: this cannot be written, or `like` is no such file.
        StateError: a tensor has a NaN, or a value that its dtype cannot hold.
    """
    writing.write(path, content, like)


class _ForeignError(CheckpointError):
    """The optimizer of a file is none of unirms's concern."""


@dataclass(frozen=True)
class _Statement:
    """What a file says of its optimizer itself."""

    config: RMSPropConfig | None = None
    names: tuple[str, ...] | None = None
    structure: Structure | None = None
    plateau: PlateauState | None = None
    notes: tuple[str, ...] = ()
    unsaid: tuple[str, ...] = ()


def _statement(archive: Archive, file: Contents) -> _Statement:
    """Return what the model's config, or unirms's own attribute, says of the optimizer."""
    text = file.text(naming.optimizer_group(file), ATTRIBUTE)
    ours = _of_ours(text, str(archive.weights.path)) if text else _Statement()
    if archive.optimizer is None:
        return ours
    said = _of_optimizer(archive.optimizer, str(archive.weights.path))
    return replace(said, names=said.names or ours.names, plateau=ours.plateau)


def _of_ours(text: str, name: str) -> _Statement:
    """Return what unirms has written beside the variables."""
    try:
        config, names, plateau = statement.said(text)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{name} is damaged: the attribute {ATTRIBUTE!r}: {plain(str(error))}") from None
    return _Statement(config, names, Structure.of(config, names), plateau)


def _of_optimizer(optimizer: Mapping[str, Any], name: str) -> _Statement:
    """Return what a serialized optimizer says; its class is named, never loaded."""
    settings, of = optimizer["config"], str(optimizer.get("class_name"))
    is_ours = optimizer.get("registered_name") == recipes.EXACT and isinstance(settings.get("config"), Mapping)
    if not is_ours and "rmsprop" not in of.lower():
        raise _ForeignError(f"its optimizer is a {plain(of)}, not an RMSProp")
    stated = settings.get("names") if is_ours else None
    names = tuple(map(str, stated)) if isinstance(stated, list) else None
    structure = None if is_ours else Structure.of_settings(settings)
    try:
        check_data(dict(optimizer), name)
        if is_ours:  # what it keeps is known before its learning rate is
            structure = Structure.of(RMSPropConfig(**settings["config"]), names)
        config = _config_in(optimizer, name)
        if is_ours:
            structure = Structure.of(config, names)
    except UnirmsError as error:
        if structure is None:
            raise CheckpointError(f"{name}: its optimizer is damaged: {plain(str(error))}") from None
        if is_ours:  # of its parts, the learning rate alone is unknown: a schedule of the user's own
            structure = replace(structure, has_rate=False)
        note = f"no config says what its optimizer computes: {plain(str(error))}"
        return _Statement(None, names, structure, notes=(note,))
    if is_ours:
        return _Statement(config, names, structure)
    notes = (_EXCLUSIONS,) if config.weight_decay else ()
    return _Statement(config, names, structure, notes=notes, unsaid=("no_weight_decay",))


def _config_in(optimizer: Mapping[str, Any], name: str) -> RMSPropConfig:
    return recipes.read(Document({"optimizer": dict(optimizer)}, "json", name))[0].config()


def _with_names(
    structure: Structure, variables: list[Dataset], file: Contents, named: Mapping[str, Dataset], frozen: set[str]
) -> Structure:
    """Return the structure with names where its groups need some and the layers of the file tell them."""
    if structure.names is not None or structure.kept("momentum") is not None:
        return structure
    start = 1 + structure.has_rate
    for count in range(1, len(variables) - start + 1):
        shapes = [one.shape for one in variables[start : start + count]]
        names = naming.trained(file, named, shapes, frozen)
        if names is not None:
            return replace(structure, names=tuple(names))
    return structure


def _has_slots(variables: list[Dataset], structure: Structure | None) -> bool:
    """Return whether there is more than the count and the rate, which is all before the optimizer is built."""
    rate = 1 if structure is None or structure.has_rate else 0
    return len(variables) > 2 or (len(variables) == 2 and (rate == 0 or bool(variables[1].shape)))


def _told_by_layers(
    variables: list[Dataset], file: Contents, named: Mapping[str, Dataset], frozen: set[str], where: str
) -> tuple[Slots, list[str]] | None:
    """Return the slots and the parameters' names where the layers alone say how many parameters there are."""
    for start in (2, 1):
        slots = variables[start:]
        for of_each in (3, 2, 1):
            shapes = [one.shape for one in slots[: len(slots) // of_each]]
            names = naming.trained(file, named, shapes, frozen) if len(slots) % of_each == 0 and shapes else None
            if names is not None:
                return guessed(variables, len(names), where), names
    return None


def _weights_alone(
    archive: Archive, spool: Path, named: Mapping[str, Dataset], notes: tuple[str, ...], file: Contents
) -> Checkpoint:
    """Return what a file without the state of an RMSProp holds."""
    _refuse_names(named, archive)
    tensors = {WEIGHTS: {name: stored(one, spool) for name, one in named.items()}}
    return Checkpoint(
        format=_format(archive),
        parameters=(),
        tensors=tensors,
        notes=(*notes, "the file has no state of an optimizer; a compiled model that has been trained has one"),
        advice=() if archive.zipped is not None else _advice(file),
    )


def _checkpoint(
    path: Path,
    archive: Archive,
    spool: Path,
    said: _Statement,
    slots: Slots,
    named: Mapping[str, Dataset],
    order: list[str] | None,
    file: Contents,
) -> Checkpoint:
    parameters = list(said.names or order or map(str, range(len(slots.shapes))))
    called = naming.called(named, parameters, slots.shapes, order)
    _refuse_names((*parameters, *named), archive)
    notes = [*said.notes, *slots.notes, *([] if said.names else [_how_named(order)])]

    def place(one: Dataset) -> Stored:
        return stored(one, spool)

    steps = said.structure.accumulation if said.structure is not None else 1
    count = int(slots.iterations.array())
    if count < 0:
        raise CheckpointError(f"{path} is damaged: it has made {count} updates")
    tensors = {kind: {parameters[i]: place(one) for i, one in held.items()} for kind, held in slots.kinds.items()}
    sums = tensors.pop(GRADIENT_SUM)
    if count % steps:
        tensors[GRADIENT_SUM] = {name: one for name, one in sums.items() if _any(one)}
    tensors[WEIGHTS] = {called[name]: place(one) for name, one in named.items()}
    config, step = said.config, count // steps
    if config is not None and isinstance(config.learning_rate, Plateau) and said.plateau is None:
        notes.append(_PLATEAU)
    return Checkpoint(
        format=_format(archive),
        parameters=tuple(parameters),
        step=step,
        micro_step=count % steps,
        learning_rate=_rate(slots, config, step, path),
        plateau=said.plateau,
        config=config,
        tensors={kind: held for kind, held in tensors.items() if held},
        notes=tuple(notes),
        unsaid=said.unsaid,
        advice=() if archive.zipped is not None else _advice(file),
    )


def _advice(file: Contents) -> tuple[str, ...]:
    return (_WRAPPED,) if naming.optimizer_group(file) == naming.WRAPPED else ()


def _format(archive: Archive) -> str:
    return "keras-weights" if archive.zipped is None else "keras"


def _refuse_names(names: Iterable[str], archive: Archive) -> None:
    for name in names:
        if problem(name):
            raise CheckpointError(f"{archive.weights.path}: {problem(name)}")


def _how_named(order: list[str] | None) -> str:
    if order is None:
        return "the file does not say which weights its slots belong to; they have numbers, in the optimizer's order"
    return "the parameters' names were concluded from the order and the shapes of the layers; the model's is left out"


def _rate(slots: Slots, config: RMSPropConfig | None, step: int, path: Path) -> float | None:
    """Return the rate of the next update; the number of the config where it is the one that the variable rounds."""
    if slots.rate is None:
        return None if config is None else config.learning_rate_at(step)
    held = float(slots.rate.array())
    if not (np.isfinite(held) and held >= 0):
        raise CheckpointError(f"{path} is damaged: its learning rate is {held}")
    if config is not None and config.has_constant_rate:
        rounded = float(np.dtype(slots.rate.dtype).type(config.initial_learning_rate))
        return config.initial_learning_rate if rounded == held else held
    return float(recipes.shortest(held))


def _any(one: Stored) -> bool:
    return any(bool(np.any(piece != 0)) for piece in one.pieces())
