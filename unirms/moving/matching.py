"""`match`: a proposal of which parameter of one model is which of another, from their shapes, and no guess.

What shapes can tell: a parameter whose shape, up to the layouts below, no other has on either side goes to the one with
that shape. What they cannot: which of two with equal shapes is which, and whether a square matrix is transposed. Then
`match` refuses, names the parameters, and takes an answer for those alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from unirms.errors import StateError, some
from unirms.moving.maps import Axes, Layout, ParameterMap, Target
from unirms.registry import adapters_behind, framework
from unirms.state import OptimizerState

if TYPE_CHECKING:
    from unirms.protocol import Adapter

LAYOUTS: Final[Mapping[int, tuple[Axes, Axes]]] = {
    2: ((1, 0), (1, 0)),
    3: ((2, 1, 0), (2, 1, 0)),
    4: ((2, 3, 1, 0), (3, 2, 0, 1)),
    5: ((2, 3, 4, 1, 0), (4, 3, 0, 1, 2)),
}
"""Rank -> the permutations between the layouts of the frameworks, to those with the outputs last and back: (out, in)
<-> (in, out) of a linear layer, and (out, in, *window) <-> (*window, in, out) of a convolution. Sources: the shapes in
the documentation of `torch.nn.Linear` and `Conv2d`, `keras.layers.Dense` and `Conv2D`, `mindspore.nn.Dense`, and
`paddle.nn.Linear`."""

DEPTHWISE: Final[Mapping[int, tuple[Axes, Axes]]] = {3: ((2, 0, 1), (1, 2, 0)), 4: ((2, 3, 0, 1), (2, 3, 0, 1))}
"""The same for a convolution of each channel by itself: (channels, 1, *window) <-> (*window, channels, 1). With several
outputs for a channel, (channels * outputs, 1, *window) and (*window, channels, outputs) are no permutation of each
other. Sources: `torch.nn.Conv2d` with groups, `keras.layers.DepthwiseConv1D` and `DepthwiseConv2D`."""


Shape = tuple[int, ...]
Trained = tuple[Container[str] | None, Container[str] | None]
"""What is trained on each side, where it says so."""


def match(
    source: Any,
    target: Any,
    *,
    names: Mapping[str, Any] | None = None,
    layout: Mapping[str, Layout] | None = None,
    ordered: bool = False,
    frameworks: tuple[str, str] | None = None,
) -> ParameterMap:
    """Return a map from the parameters of one model to those of another, found by their shapes.

    Args:
        source: a state, a model or an optimizer of a framework that is loaded, or a mapping of names to shapes.
        target: the same of the other side.
        names: source name -> target name, for those that shapes do not tell; None leaves one out.
        layout: source name -> its permutation, for those that shapes do not tell: a square matrix.
        ordered: take those with equal shapes in the order in which they stand in both models, what is trained before
            what is not.
        frameworks: those of the two sides, where these do not tell by themselves. They say in which direction a
            convolution may be permuted; whether a matrix is transposed, or an embedding that is not, they do not.

    Raises:
        StateError: a parameter has no counterpart, or several; all of them are named.
    """
    left, right = shapes_of(source), shapes_of(target)
    if isinstance(frameworks, str):
        raise StateError([f"frameworks={frameworks!r} is one name; write that of the source and that of the target"])
    ways = _Ways.between(*(frameworks or (_framework(source), _framework(target))))
    given = ParameterMap.of(names or {})
    taken = {one.name: name for name, one in given.targets.items() if one.name is not None}
    counted = Counter(one.name for one in given.targets.values() if one.name is not None)
    problems = [f"two parameters would go to {name!r}" for name, count in counted.items() if count > 1]
    problems += [f"names has {name!r}, which the source has not" for name in given.targets if name not in left]
    problems += [f"names goes to {name!r}, which the target has not" for name in taken if name not in right]
    own = {name: Target(name, given.targets[name].axes if name in given.targets else None) for name in left}
    stated = ParameterMap.of(own, layout).targets
    pairs = {name: one.name if one.name in right else None for name, one in given.targets.items()}
    pairs |= _by_shape(
        {name: shape for name, shape in left.items() if name not in given.targets},
        {name: shape for name, shape in right.items() if name not in taken},
        ways,
        (_trained(source), _trained(target)) if ordered else None,
        problems,
    )
    targets: dict[str, Target] = {}
    for name in left:
        to = pairs.get(name)
        if to is None or stated[name].axes is not None:
            axes = stated[name].axes
        else:
            axes = _axes(name, to, left[name], right[to], ways, problems)
        targets[name] = Target(to, axes)
    if problems:
        raise StateError(problems)
    return ParameterMap(targets)


def shapes_of(model: Any) -> dict[str, Shape]:
    """Return the shapes of all parameters by name: of a state, a model, an optimizer, or of what says them already.

    Raises:
        StateError: it is none of these.
    """
    if isinstance(model, OptimizerState):
        held = model.weights or model.mean_square
        return _trained_first({name: tuple(array.shape) for name, array in held.items()}, model.mean_square)
    if isinstance(model, Mapping):
        try:
            return {str(name): _shape(one) for name, one in model.items()}
        except (TypeError, ValueError):
            raise StateError(["a mapping for match goes from names to shapes, or to what has a shape"]) from None
    for adapter in _adapters(model):
        if adapter.owns(model):
            return {one.name: one.shape for one in adapter.parameters_of(model)}
        trained = {one.name for one in adapter.named_parameters(model)}
        return _trained_first({one.name: one.shape for one in adapter.weights_of(model)}, trained)
    raise StateError(
        [
            f"{type(model).__module__}.{type(model).__qualname__} is no state, model or optimizer of a framework; give "
            "one, or a mapping of names to shapes"
        ]
    )


def _trained(model: Any) -> Container[str] | None:
    """Return the names of what is trained; None where nobody says it."""
    if isinstance(model, OptimizerState):
        return model.mean_square
    models = [adapter for adapter in _adapters(model) if not adapter.owns(model)]
    return {one.name for one in models[0].named_parameters(model)} if models else None


def _other_orders(
    pairs: Mapping[str, str], ours: Container[str] | None, theirs: Container[str] | None
) -> Iterator[str]:
    """Yield a sentence where something trained would be paired with something that is not: the orders differ there."""
    if ours is None or theirs is None:
        return
    wrong = [source for source, target in pairs.items() if (source in ours) != (target in theirs)]
    if wrong:
        yield (
            f"{some(wrong)} of the source would go to what is trained on one side only: the order does not tell "
            "which is which; say in names= where they go"
        )


def _trained_first(shapes: dict[str, Shape], trained: Container[str]) -> dict[str, Shape]:
    """Return them in one order for all frameworks: in a state dictionary, running means stand between parameters."""
    return dict(sorted(shapes.items(), key=lambda item: item[0] not in trained))


def _shape(thing: Any) -> Shape:
    lengths: Sequence[Any] = getattr(thing, "shape", thing)
    return tuple(int(length) for length in lengths)


@dataclass(frozen=True)
class _Ways:
    """The permutations that may lie between two models; `last` and `first` say where these may have their outputs."""

    last: bool = True
    first: bool = True

    @staticmethod
    def between(source: str | None, target: str | None) -> _Ways:
        """Return those between two frameworks; all where one is not known."""
        if source is None or target is None:
            return _Ways()
        before, after = (framework(name).output_last for name in (source, target))
        return _Ways(last=after and not before, first=before and not after)

    def of(self, before: Shape, after: Shape) -> list[Axes | None]:
        """Return the permutations that take a shape to another: None where it may stay as it is."""
        rank = len(before)
        if rank not in LAYOUTS or rank != len(after):
            return [None] if before == after else []
        matrix = rank == 2  # a linear layer's, or a table's: frameworks do not tell which
        (last, first), as_it_is = LAYOUTS[rank], tuple(range(rank))
        ways = [as_it_is, *[last] * (self.last or matrix), *[first] * (self.first or matrix)]
        if rank in DEPTHWISE:
            last, first = DEPTHWISE[rank]
            ways += [last] * (self.last and before[1] == 1) + [first] * (self.first and before[-1] == 1)
        fit = [axes for axes in dict.fromkeys(ways) if tuple(before[axis] for axis in axes) == after]
        different = {_moved(before, axes): axes for axes in reversed(fit)}  # of those that do the same, the first
        return [None if axes == as_it_is else axes for axes in fit if axes in different.values()]


def _moved(shape: Shape, axes: Axes) -> Axes:
    """Return the axes that say where elements go: all but those of length 1."""
    return tuple(axis for axis in axes if shape[axis] != 1)


def _by_shape(
    left: Mapping[str, Shape], right: Mapping[str, Shape], ways: _Ways, ordered: Trained | None, problems: list[str]
) -> dict[str, str]:
    """Return the pairs of parameters with the same shape up to a layout; `ordered` allows to pair them by order."""
    pairs: dict[str, str] = {}
    for ours, theirs in _alike(left, right, ways):
        if len(ours) == len(theirs) and (len(ours) == 1 or ordered):
            paired = dict(zip(ours, theirs, strict=True))
            pairs |= paired
            if len(ours) > 1 and ordered:
                problems += _other_orders(paired, *ordered)
        elif not theirs:
            problems.append(f"{ours[0]!r} of shape {left[ours[0]]} has no counterpart")
        elif len(ours) == len(theirs):
            problems.append(
                f"{some(ours)} of the source and {some(theirs)} of the target have shapes that do not tell them "
                "apart; say in names=, or in a map file, which is which; unirms.match(…, ordered=True) takes those of "
                "two models in their order"
            )
        else:
            problems.append(
                f"{some(ours)} of the source and {some(theirs)} of the target have the same shape and are not as "
                "many; say in names=, or in a map file, which is which, and map to None what is left out"
            )
    problems += [
        f"{name!r} of the target, of shape {shape}, has no counterpart"
        for name, shape in right.items()
        if not any(ways.of(before, shape) for before in set(left.values()))
    ]
    return pairs


def _alike(left: Mapping[str, Shape], right: Mapping[str, Shape], ways: _Ways) -> list[tuple[list[str], list[str]]]:
    """Return sets of parameters that could be each other's counterparts, by nothing but their shapes."""
    candidates = {
        shape: {name for name, other in right.items() if ways.of(shape, other)} for shape in set(left.values())
    }
    sets: list[tuple[list[str], set[str]]] = []
    for name, shape in left.items():
        theirs = candidates[shape]
        joined = [one for one in sets if one[1] & theirs]
        sets = [one for one in sets if one not in joined]
        sets.append(([*(n for one in joined for n in one[0]), name], theirs.union(*(one[1] for one in joined))))
    order = list(left)
    return [(sorted(ours, key=order.index), [name for name in right if name in theirs]) for ours, theirs in sets]


def _axes(name: str, target: str, before: Shape, after: Shape, ways: _Ways, problems: list[str]) -> Axes | None:
    """Return the permutation that two shapes tell."""
    possible = ways.of(before, after)
    if not possible:
        problems.append(
            f"{name!r} has the shape {before} and {target!r} has {after}; say in layout=, or as axes in a map file, "
            "how it is permuted"
        )
        return None
    if len(possible) > 1:
        shown = ", ".join("as it is" if axes is None else str(axes) for axes in possible)
        problems.append(
            f"{name!r} and {target!r} have the shape {after}, which does not tell how the axes are permuted ({shown}); "
            "say it in layout=, or as axes in a map file"
        )
    return possible[0]


def _adapters(model: Any) -> list[Adapter]:
    return [] if isinstance(model, (OptimizerState, Mapping)) else list(adapters_behind(model))


def _framework(model: Any) -> str | None:
    return next((adapter.framework for adapter in _adapters(model)), None)
