"""Where a state is to go: its names and layouts there, the config in those names, and what the tensors are to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unirms.checkpoints.checkpoint import Checkpoint
from unirms.checkpoints.formats import Known
from unirms.checkpoints.tensors import Stored
from unirms.config import RMSPropConfig
from unirms.errors import StateError
from unirms.moving import Destination, ParameterMap, Spec
from unirms.moving.maps import Layout, Target
from unirms.moving.matching import match
from unirms.state import WEIGHTS

Names = ParameterMap | Mapping[str, Any] | None


def mapped(
    source: Checkpoint,
    template: Checkpoint | None,
    formats: tuple[Known, Known],
    names: Names,
    layout: Mapping[str, Layout] | None,
    *,
    weights: bool,
) -> ParameterMap:
    """Return which parameter goes where.

    Without names they are the same on both sides; without a template, what has no axes keeps them. With one, what the
    user leaves open is told by the shapes, where they tell it. A `ParameterMap` leaves nothing open.

    Raises:
        StateError: it cannot be told; all parameters of which it cannot.
    """
    both = weights or template is None or not template.parameters
    given = ParameterMap.of(names, layout, known=_tensors(source, weights=both))
    if template is None or isinstance(names, ParameterMap):
        return given
    told: dict[str, Target] = {}
    for left, right in _sides(source, template, weights=both):
        told |= _told(left, right, given, formats, open_=names is None, plain=names is None and layout is None)
    return ParameterMap({**(given.targets if names is not None else {}), **told})


Shapes = dict[str, tuple[int, ...]]


def _sides(source: Checkpoint, template: Checkpoint, *, weights: bool) -> list[tuple[Shapes, Shapes]]:
    """Return what goes to what: all tensors, or slots and weights apart where the source names them differently."""
    slots, held = source.tensors["mean_square"], source.tensors.get(WEIGHTS, {})
    there = template.tensors.get(WEIGHTS, {})
    if not weights or not held or slots.keys() <= held.keys():
        return [(_shapes(_tensors(source, weights=weights)), _shapes(_tensors(template, weights=weights)))]
    return [(_shapes(slots), _shapes(template.tensors.get("mean_square") or there)), (_shapes(held), _shapes(there))]


def _told(
    left: Shapes, right: Shapes, given: ParameterMap, formats: tuple[Known, Known], *, open_: bool, plain: bool
) -> Mapping[str, Target]:
    """Return the targets of these parameters, those and those axes told by the shapes that the user leaves open."""
    if plain and left == right:
        return {name: given.targets[name] for name in left}
    stated = {} if open_ else {name: one for name, one in given.targets.items() if name in left}
    if stated.keys() == left.keys():
        right = {one.name: right[one.name] for one in stated.values() if one.name is not None and one.name in right}
    here, there = formats[0].framework, formats[1].framework
    known = bool(here and there)
    said = {name for name, one in given.targets.items() if one.axes is not None}
    if not known or here == there:  # nobody permutes what fits between files of one kind
        said |= {name for name, one in stated.items() if left[name] == right.get(one.name or "")}
    return match(
        left,
        right,
        names={name: one.name for name, one in stated.items()},
        layout={
            name: given.targets[name].axes or tuple(range(len(left[name])))
            for name in said
            if name in left and len(left[name]) > 1
        },
        frameworks=(here, there) if known else None,
    ).targets


def destination(
    source: Checkpoint, template: Checkpoint | None, names: ParameterMap, config: RMSPropConfig, *, weights: bool
) -> Destination:
    """Return what the optimizer at the target is: the tensors of the template, or those of the source in its layout.

    Raises:
        StateError: weights are to move, and the source has none.
    """
    slots, held = source.tensors["mean_square"], source.tensors.get(WEIGHTS, {})
    if weights and not held:
        raise StateError([f"the weights cannot move: the source ({source.format}) holds none"])
    there = {} if template is None else template.tensors.get(WEIGHTS, {})
    parameters = {} if template is None else template.tensors.get("mean_square", {})
    if not parameters:  # a template without a state has weights of the same shapes
        goes = {name: target.name for name, target in names.targets.items() if name in slots}
        parameters = {name: there[name] for name in goes.values() if name in there}
    return Destination(
        config,
        _specs(parameters) or _turned(slots, names),
        (_specs(there) or _turned(held, names)) if weights else None,
    )


def _tensors(held: Checkpoint, *, weights: bool) -> dict[str, Stored]:
    """Return a tensor of each parameter, and the weights of what is none."""
    return {**held.tensors.get("mean_square", {}), **(held.tensors.get(WEIGHTS, {}) if weights else {})}


def _shapes(tensors: Mapping[str, Stored]) -> Shapes:
    return {name: one.shape for name, one in tensors.items()}


def _specs(tensors: Mapping[str, Stored]) -> dict[str, Spec]:
    return {name: Spec(one.shape, one.dtype) for name, one in tensors.items()}


def _turned(tensors: Mapping[str, Stored], names: ParameterMap) -> dict[str, Spec]:
    """Return what tensors become by the map alone."""
    found = {}
    for name, one in tensors.items():
        target = names.targets.get(name)
        if target is not None and target.name is not None:
            axes = target.axes
            # Axes that are not those of the tensor are the plan's to refuse.
            fits = axes is not None and len(axes) == len(one.shape)
            shape = tuple(one.shape[axis] for axis in axes) if axes is not None and fits else one.shape
            found[target.name] = Spec(shape, one.dtype)
    return found
