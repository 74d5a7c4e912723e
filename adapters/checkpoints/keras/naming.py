"""What the weights in a Keras file are called, and which of them its optimizer updates.

A file has the layers' names, and numbers for their variables. `layers/conv2d/vars/0` is named after the layer and the
variable, "conv1/kernel", as Keras's paths are but for the name of the model, which comes and goes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from .hdf5 import Contents, Dataset

_KERNEL, _NORM = ("kernel", "bias"), ("gamma", "beta")
_RECURRENT = ("kernel", "recurrent_kernel", "bias")
_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("dense", "einsum_dense", "conv1d", "conv2d", "conv3d"), _KERNEL),
    **dict.fromkeys(("conv1d_transpose", "conv2d_transpose", "conv3d_transpose"), _KERNEL),
    **dict.fromkeys(("depthwise_conv1d", "depthwise_conv2d"), _KERNEL),
    **dict.fromkeys(("separable_conv1d", "separable_conv2d"), ("depthwise_kernel", "pointwise_kernel", "bias")),
    **dict.fromkeys(("lstm", "gru", "simple_rnn"), _RECURRENT),
    "embedding": ("embeddings",),
    "p_re_lu": ("alpha",),
}
"""The variables of Keras's layers in their order, of which the last may be missing; by the name in the file."""
_ALL_OR_NONE: Final[Mapping[str, tuple[str, ...]]] = {
    "batch_normalization": (*_NORM, "moving_mean", "moving_variance"),
    "layer_normalization": _NORM,
    "group_normalization": _NORM,
    "normalization": ("mean", "variance", "count"),
}
"""Of these, any may be missing, so that fewer variables have no names."""
_NOT_TRAINED: Final = frozenset({"moving_mean", "moving_variance", "mean", "variance"})
_MOST_ORDERS: Final = 10_000
"""States that the search for the order of layers keeps: networks of a few kinds of layers need some hundred."""


WRAPPED: Final = "optimizer/inner_optimizer/vars"
"""The group of the variables of an optimizer in a LossScaleOptimizer."""


def optimizer_group(file: Contents) -> str:
    """Return the group of the optimizer's variables; that of the inner one, of an optimizer that scales losses."""
    return WRAPPED if WRAPPED in file.attributes else "optimizer/vars"


def weights(file: Contents) -> dict[str, Dataset]:
    """Return all floating-point tensors but the optimizer's by name, those of a layer in their order."""
    tensors = (one for one in file.datasets.values() if one.is_tensor and not one.path.startswith("optimizer/"))
    found = sorted(tensors, key=lambda one: _place(one.path))
    names = [_name(file, one.path) for one in found]
    count = Counter(names)
    return {name if count[name] == 1 else one.path: one for name, one in zip(names, found, strict=True)}


def trained(
    file: Contents, named: Mapping[str, Dataset], shapes: Sequence[tuple[int, ...]], frozen: Collection[str] = ()
) -> list[str] | None:
    """Return the names of the weights that an optimizer with slots of these shapes updates, in its order.

    The file has the layers by their classes; layers of one class stand in the model's order, and how those of several
    classes follow each other is concluded from the shapes. None where they leave more than one order, or where layers
    have parts that are no chain of layers.

    Args:
        file: the file.
        named: its weights by name.
        shapes: those of the slots.
        frozen: names of layers that are not trained.
    """
    root = _Unit()
    for name, one in named.items():
        layer = file.text(one.path.rpartition("/")[0], "name")
        if name.rpartition("/")[2] not in _NOT_TRAINED and not ({layer, *name.split("/")} & set(frozen)):
            _insert(root, one.path.split("/")[:-2], (name, one.shape))
    return _order(root, tuple(shapes))


def called(
    named: Mapping[str, Dataset],
    parameters: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    order: Sequence[str] | None,
) -> dict[str, str]:
    """Return what the weights of a file are called where its parameters have names of their own.

    Those names are matched with the weights by the order, where it is known, and otherwise by the layers' names. What
    all of them have before that, the name of the model, is put before the names of the others.
    """
    own = dict(zip(parameters, order, strict=True)) if order else _by_layers(named, parameters, shapes)
    before = {_layer(name).removesuffix(_layer(weight)) for name, weight in own.items()}
    prefix = before.pop() if len(before) == 1 else ""
    known = {weight: name for name, weight in own.items()}
    found = {weight: known.get(weight, f"{prefix}{weight}") for weight in named}
    return found if len(set(found.values())) == len(found) else {weight: known.get(weight, weight) for weight in named}


def _by_layers(
    named: Mapping[str, Dataset], parameters: Sequence[str], shapes: Sequence[tuple[int, ...]]
) -> dict[str, str]:
    """Return which weights parameters are by the names of their layers; nothing where that is not clear.

    Keras writes the variables of a layer that are trained before the others, so that those come first.
    """
    layers: dict[str, list[str]] = {}
    for weight in named:
        layers.setdefault(_layer(weight), []).append(weight)
    found: dict[str, str] = {}
    taken: Counter[str] = Counter()
    for name, shape in zip(parameters, shapes, strict=True):
        ends = [layer for layer in layers if layer and f"/{_layer(name)}".endswith(f"/{layer}")]
        layer = max(ends, key=len, default="")
        number = taken[layer]
        if not layer or number >= len(layers[layer]) or named[layers[layer][number]].shape != shape:
            return {}
        found[name] = layers[layer][number]
        taken[layer] += 1
    return found


def _layer(name: str) -> str:
    return name.rpartition("/")[0]


def _name(file: Contents, path: str) -> str:
    """Return the names of the layers around a variable, without the model's, and the variable's."""
    *groups, _, number = path.split("/")
    prefixes = ["/".join(groups[: count + 1]) for count in range(len(groups))]
    layers = [name for prefix in prefixes if (name := file.text(f"{prefix}/vars", "name"))]
    of = _class(groups)
    count = len(file.under(path.rpartition("/")[0]))
    known = _VARIABLES.get(of, ())
    if count == len(_ALL_OR_NONE.get(of, ())):
        known = _ALL_OR_NONE[of]
    variable = known[int(number)] if number.isdecimal() and int(number) < len(known) >= count else number
    return "/".join([*layers, variable])


def _place(path: str) -> tuple[str, int]:
    group, _, number = path.rpartition("/")
    return group, int(number) if number.isdecimal() else 0


def _class(groups: Sequence[str]) -> str:
    """Return the class of a layer, as the file writes it; a cell belongs to the layer around it."""
    if len(groups) > 1 and groups[-1] == "cell":
        groups = groups[:-1]
    return re.sub(r"_\d+$", "", groups[-1]) if groups else ""


@dataclass
class _Unit:
    """A layer or a model: its own variables, and what it contains."""

    own: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    parts: dict[str, _Unit] = field(default_factory=dict)


def _insert(unit: _Unit, groups: Sequence[str], variable: tuple[str, tuple[int, ...]]) -> None:
    for group in groups:
        unit = unit.parts.setdefault(group, _Unit())
    unit.own.append(variable)


def _order(root: _Unit, shapes: tuple[tuple[int, ...], ...]) -> list[str] | None:
    """Return the only order of all variables that has these shapes, or None."""
    found = _match(root, shapes)
    return found[1] if found is not None and found[0] == 1 and len(found[1]) == len(shapes) else None


def _match(unit: _Unit, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, list[str]] | None:
    """Return in how many orders (2 stands for more) a unit's variables have the first of these shapes, and one."""
    if (unit.own and unit.parts) or (len(unit.parts) > 1 and "layers" in unit.parts):
        return None
    if unit.own:
        fits = tuple(shape for _, shape in unit.own) == shapes[: len(unit.own)]
        return (1, [name for name, _ in unit.own]) if fits else None
    if list(unit.parts) == ["layers"]:
        return _merged(unit.parts["layers"], shapes)
    return _match(next(iter(unit.parts.values())), shapes) if len(unit.parts) == 1 else None


def _merged(container: _Unit, shapes: tuple[tuple[int, ...], ...]) -> tuple[int, list[str]] | None:
    """Return the same for layers of several classes, those of one class in the order of their numbers."""
    queues: dict[str, list[_Unit]] = {}
    for name in sorted(container.parts, key=_number):
        queues.setdefault(_class([name]), []).append(container.parts[name])
    lists = list(queues.values())
    states: dict[tuple[int, ...], tuple[int, list[str]]] = {(0,) * len(lists): (1, [])}
    for _ in range(sum(map(len, lists))):
        after: dict[tuple[int, ...], tuple[int, list[str]]] = {}
        for taken, (ways, names) in states.items():
            for index, units in enumerate(lists):
                if taken[index] == len(units):
                    continue
                found = _match(units[taken[index]], shapes[len(names) :])
                if found is None:
                    continue
                key = (*taken[:index], taken[index] + 1, *taken[index + 1 :])
                known = after.get(key, (0, []))[0]
                after[key] = (min(ways * found[0] + known, 2), [*names, *found[1]])
        states = after
        if len(states) > _MOST_ORDERS:
            return None
    return next(iter(states.values()), None)


def _number(name: str) -> int:
    """Return the number at the end of a layer's name in the file; the first of its class has none."""
    number = re.search(r"_(\d+)$", name)
    return int(number.group(1)) if number else 0
