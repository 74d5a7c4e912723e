"""One small network as four frameworks spell it: what its tensors are called, and in which layout they are stored.

The table is `SPELLINGS`, in the order in which each has its parameters, so that nothing fits by its place; between any
two lies the network's own spelling, whose kernels have the outputs first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from unirms.moving import ParameterMap
from unirms.moving.maps import Axes, Layout, Target, inverse

from .drivers import Array, Arrays

NETWORK: Final = {"conv": 72, "fc": 1000, "mix": 64, "bias": 8, "shift": 8, "scale": 1}
"""Name -> size: OIHW of (4, 2, 3, 3), a matrix of (8, 125), a square one of (8, 8), two vectors, a single number."""

_TURNED: Final[dict[str, Axes]] = {"conv": (2, 3, 1, 0), "fc": (1, 0), "mix": (1, 0)}
_IN_LETTERS: Final[Mapping[Axes, str]] = {(2, 3, 1, 0): "OIHW->HWIO", (3, 2, 0, 1): "HWIO->OIHW"}

SPELLINGS: Final[Mapping[str, Mapping[str, Target]]] = {
    # (out, in), and OIHW: torch.nn.Linear and Conv2d.
    "torch": {
        "conv": Target("features.0.weight"),
        "fc": Target("classifier.weight"),
        "mix": Target("mix.weight"),
        "bias": Target("classifier.bias"),
        "shift": Target("shift"),
        "scale": Target("scale"),
    },
    # (in, out), and HWIO: keras.layers.Dense and Conv2D; in the names of variables there is no slash.
    "keras": {
        "scale": Target("scale"),
        "shift": Target("bn_beta"),
        "conv": Target("conv2d_kernel", _TURNED["conv"]),
        "bias": Target("dense_bias"),
        "mix": Target("mix_kernel", _TURNED["mix"]),
        "fc": Target("dense_kernel", _TURNED["fc"]),
    },
    # As in PyTorch: mindspore.nn.Dense and Conv2d.
    "mindspore": {
        "conv": Target("backbone.conv.weight"),
        "shift": Target("head.offset"),
        "scale": Target("head.scale"),
        "fc": Target("head.dense.weight"),
        "bias": Target("head.dense.bias"),
        "mix": Target("head.mix.weight"),
    },
    # OIHW, but (in, out): paddle.nn.Conv2D and Linear.
    "paddle": {
        "mix": Target("mixing.weight", _TURNED["mix"]),
        "scale": Target("factor"),
        "bias": Target("linear.bias"),
        "fc": Target("linear.weight", _TURNED["fc"]),
        "conv": Target("conv.weight"),
        "shift": Target("offset"),
    },
}


def spelling(framework: str) -> ParameterMap:
    """Return the way from the network's own spelling to a framework's; one that has none spells as the network."""
    return ParameterMap(SPELLINGS.get(framework, {name: Target(name) for name in NETWORK}))


def between(source: ParameterMap, target: ParameterMap) -> ParameterMap:
    """Return the way from one spelling to another."""
    found = {}
    for name, here in source.targets.items():
        there = target.targets[name]
        assert here.name is not None
        found[here.name] = Target(there.name, _after(here.axes, there.axes))
    return ParameterMap(found)


def _after(before: Axes | None, there: Axes | None) -> Axes | None:
    """Return the permutation that undoes one and makes another; the identity as None."""
    undone = inverse(before) if before is not None else tuple(range(len(there or ())))
    axes = tuple(undone[axis] for axis in there) if there is not None else undone
    return None if axes == tuple(range(len(axes))) else axes


def spelled(arrays: Arrays, way: ParameterMap) -> dict[str, Array]:
    """Return arrays with the names, axes and order at the end of a way; a name that it does not have stays as it is."""
    found = {}
    for name in sorted(arrays, key=[*way.targets, *arrays].index):
        target = way.targets.get(name, Target(name))
        assert target.name is not None
        found[target.name] = arrays[name] if target.axes is None else arrays[name].transpose(target.axes).copy()
    return found


def written(way: ParameterMap) -> tuple[dict[str, str | None], dict[str, Layout]]:
    """Return names and layouts as users write them: axes of matrices as numbers, and those of kernels in letters."""
    names = {name: target.name for name, target in way.targets.items()}
    turned = {name: target.axes for name, target in way.targets.items() if target.axes is not None}
    return names, {name: _IN_LETTERS.get(axes, axes) for name, axes in turned.items()}


def patterns(fields: Mapping[str, Any], way: ParameterMap) -> dict[str, Any]:
    """Return the fields of a config, whose patterns are names of the network's, with the names of a spelling."""
    groups = [
        {**group, "match": [way.targets[name].name for name in group["match"]]} for group in fields.get("groups", ())
    ]
    exempt = [way.targets[name].name for name in fields.get("no_weight_decay", ())]
    return {**fields, "groups": groups, "no_weight_decay": exempt}
