"""`tf.train.Checkpoint` with an optimizer of Keras 3: read without TensorFlow, by the object graph that it holds.

The graph says what every tensor is: the optimizer has its variables in lists, `_velocities` and others, and the
parameters in `_trainable_variables`, in the same order and with their names. What Keras 2 wrote is read, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from unirms.checkpoints.checkpoint import Checkpoint, Outgoing
from unirms.checkpoints.naming import plain, problem
from unirms.config import RMSPropConfig
from unirms.errors import CheckpointError, some
from unirms.recipes.keras import shortest
from unirms.state import GRADIENT_SUM, WEIGHTS

from ..keras.slots import rate_of
from . import legacy, saving
from .bundle import Entry, entries, prefix_of
from .object_graph import KEY, Graph, Node
from .saving import Source, scalar, zeros

LISTS: Final[Mapping[str, str]] = {
    "mean_square": "_velocities",
    "momentum": "_momentums",
    "mean_gradient": "_average_gradients",
    "average": "_model_variables_moving_average",
    GRADIENT_SUM: "_accumulated_gradients",
}
"""Kind -> the list in which the optimizer keeps it."""
_COUNT, _RATE, _PARAMETERS = "_iterations", "_learning_rate", "_trainable_variables"
_SUFFIX: Final = "/.ATTRIBUTES/VARIABLE_VALUE"


def read(path: Path, spool: Path, config: RMSPropConfig | None = None) -> Checkpoint:
    """Return what a checkpoint holds.

    Args:
        path: its prefix, its index, or its folder.
        spool: not used: all tensors lie in the data files as raw bytes.
        config: what the optimizer computes, which no checkpoint says: with gradient accumulation, the count in the
            file is one of gradients.

    Raises:
        CheckpointError: the checkpoint is damaged, foreign or refused.
    """
    held = _held(path)
    if held.optimizer is None:
        old = legacy.optimizer(held.graph, path)
        return _weights_alone(held) if old is None else _of_keras_2(held, old, config)
    notes = []
    gathers = bool(held.slots[GRADIENT_SUM])
    count = held.entry(held.graph.child(held.optimizer, _COUNT)).integer()
    steps = config.gradient_accumulation_steps if config is not None and gathers else 1
    step: int | None = count // steps
    if gathers and config is None:
        step = None
        notes.append(f"the file counts {count} gradients, and not how many an update has: say it with a config")
    if count < 0:
        raise CheckpointError(f"{path} is damaged: it has made {count} updates")
    tensors = {kind: {n: one.stored() for n, one in found.items()} for kind, found in held.slots.items() if found}
    sums = tensors.pop(GRADIENT_SUM, {})
    if steps > 1 and count % steps:
        tensors[GRADIENT_SUM] = {n: one for n, one in sums.items() if any(np.any(p != 0) for p in one.pieces())}
    tensors[WEIGHTS] = {name: one.stored() for name, one in held.weights.items()}
    return Checkpoint(
        format="tf-checkpoint",
        parameters=tuple(held.slots["mean_square"]),
        step=step,
        micro_step=count % steps,
        learning_rate=_rate(held, config),
        tensors=tensors,
        notes=tuple(notes),
        advice=_advice(held.graph, held.optimizer),
    )


def _advice(graph: Graph, optimizer: Node) -> tuple[str, ...]:
    """Return how to load a checkpoint with these objects where it is not with the usual keywords."""
    root = graph.nodes[0].children
    keywords = [name for name, number in root.items() if graph.nodes[number] is optimizer]
    if "optimizer" in keywords:
        return ()
    if keywords:
        called = some([name for name in root if name != "save_counter"], show=plain)
        return (f"the objects of the checkpoint to keep are called {called}: give tf.train.Checkpoint these keywords",)
    return (
        "the checkpoint to keep has its optimizer within another object, as a keras.optimizers.LossScaleOptimizer: put "
        "yours into one, too, before you restore it",
    )


def write(path: Path, content: Outgoing, like: Path | None) -> None:
    """Write a checkpoint with all else that another one holds, its object graph included.

    Raises:
        CheckpointError: this cannot be written, or `like` is no such checkpoint, or its optimizer keeps other slots.
        StateError: a tensor has a NaN, or a value that its dtype cannot hold.
    """
    if like is None or content.config is None:
        raise CheckpointError("a checkpoint of TensorFlow can only be written with the objects of another, as --like")
    held = _held(like)
    if held.optimizer is None:
        raise CheckpointError(
            f"{like} has no optimizer of Keras 3; save tf.train.Checkpoint(model=…, optimizer=…) of the new model"
        )
    sources: dict[str, Source] = dict(held.entries)
    steps = content.config.gradient_accumulation_steps
    count = (content.step or 0) * steps + content.micro_step
    counted = held.entry(held.graph.child(held.optimizer, _COUNT))
    sources[counted.name] = scalar(count, counted.dtype)
    rate = held.graph.child(held.optimizer, _RATE).key
    if rate in held.entries:
        sources[rate] = scalar(rate_of(content, content.config), held.entries[rate].dtype)
    sources |= _moving(content, held)
    saving.save(prefix_of(path), sources)


@dataclass(frozen=True)
class _Held:
    """What a checkpoint holds.

    Attributes:
        entries: its tensors by key.
        graph: its objects.
        optimizer: the one that is an RMSProp; None where none is.
        slots: by kind and by the parameter's name.
        weights: all other tensors of floating point by name.
        path: what it is called in a message.
    """

    entries: Mapping[str, Entry]
    graph: Graph
    optimizer: Node | None
    slots: Mapping[str, Mapping[str, Entry]]
    weights: Mapping[str, Entry]
    path: Path

    def entry(self, node: Node) -> Entry:
        """Return the tensor of a variable.

        Raises:
            CheckpointError: it has none.
        """
        if node.key not in self.entries:
            raise CheckpointError(f"{self.path} is damaged: its optimizer has no {plain(node.name) or 'count'}")
        return self.entries[node.key]


def _held(path: Path) -> _Held:
    found = entries(prefix_of(path))
    if KEY not in found:
        raise CheckpointError(f"{path} has no object graph, which tf.train.Checkpoint writes; it may be of tf1")
    graph = Graph.parsed(found[KEY].text())
    # Adam has velocities, too, but no mean gradients; an RMSProp has the list even if nothing is in it.
    optimizers = graph.having(LISTS["mean_square"], LISTS["mean_gradient"], _COUNT, _PARAMETERS)
    if len(optimizers) > 1:
        raise CheckpointError(f"{path} has {len(optimizers)} optimizers; save a checkpoint with the one that goes on")
    optimizer = optimizers[0] if optimizers else None
    slots: dict[str, dict[str, Entry]] = {kind: {} for kind in LISTS}
    own: set[str] = set()
    if optimizer is not None:
        slots = _slots(found, graph, optimizer, path)
        own = {one.name for kind in slots.values() for one in kind.values()}
    for one in graph.having(_COUNT):  # of all optimizers, also of one around this, which scales losses
        own |= {node.key for node in (*graph.items(one, "_variables").values(), *graph.parts(one))}
    old = legacy.optimizer(graph, path)
    own |= set() if old is None else legacy.variables(graph, old)
    return _Held(found, graph, optimizer, slots, _weights(found, graph, own), path)


def _slots(found: Mapping[str, Entry], graph: Graph, optimizer: Node, path: Path) -> dict[str, dict[str, Entry]]:
    parameters = graph.items(optimizer, _PARAMETERS)
    count = Counter(node.name for node in parameters.values())
    names = {i: node.name if node.name and count[node.name] == 1 else str(i) for i, node in parameters.items()}
    slots: dict[str, dict[str, Entry]] = {}
    for kind, list_ in LISTS.items():
        slots[kind] = {}
        for index, node in graph.items(optimizer, list_).items():
            entry = found.get(node.key)
            if index not in names or entry is None or not entry.is_tensor:
                raise CheckpointError(f"{path} is damaged: {kind} {index} is no tensor of a parameter")
            slots[kind][names[index]] = entry
    for kind, held in slots.items():
        for name, one in held.items():
            square = slots["mean_square"].get(name)
            if problem(name) or square is None or square.shape != one.shape:
                reason = (
                    problem(name) or f"{kind} of {plain(name)!r} has another shape than its mean square, or no such"
                )
                raise CheckpointError(f"{path}: {reason}")
    return slots


def _weights(found: Mapping[str, Entry], graph: Graph, own: set[str]) -> dict[str, Entry]:
    """Return the tensors that are not the optimizer's, by the names of their variables; by key where two share one."""
    nodes = {node.key: node.name for node in graph.nodes if node.key in found and node.key not in own}
    held = {key: name for key, name in nodes.items() if found[key].is_tensor}
    count = Counter(held.values())
    weights = {}
    for key, name in held.items():
        called = name if name and count[name] == 1 else key.removesuffix(_SUFFIX)
        if problem(called):
            raise CheckpointError(problem(called))
        weights[called] = found[key]
    return weights


def _weights_alone(held: _Held) -> Checkpoint:
    return Checkpoint(
        format="tf-checkpoint",
        parameters=(),
        tensors={WEIGHTS: {name: one.stored() for name, one in held.weights.items()}},
        notes=("the file has no RMSProp",),
    )


def _of_keras_2(held: _Held, node: Node, config: RMSPropConfig | None) -> Checkpoint:
    old = legacy.Legacy(held.path, held.entries, held.graph, node)
    slots = old.slots({entry.name: name for name, entry in held.weights.items()})
    if config is not None:
        old.compare(config, slots)
    step = old.step()
    tensors = {kind: {n: one.stored() for n, one in found.items()} for kind, found in slots.items() if found}
    tensors[WEIGHTS] = {name: one.stored() for name, one in held.weights.items()}
    return Checkpoint(
        format="tf-checkpoint",
        parameters=tuple(slots["mean_square"]),
        step=step,
        learning_rate=old.rate(step),
        tensors=tensors,
        notes=(old.note(),),
    )


def _rate(held: _Held, config: RMSPropConfig | None) -> float | None:
    """Return the rate of the next update, where it is a variable; a config's number where the variable rounds that."""
    assert held.optimizer is not None
    node = held.graph.child(held.optimizer, _RATE)
    if node.key not in held.entries:
        return None
    entry = held.entries[node.key]
    if not entry.is_tensor or entry.shape:
        raise CheckpointError(f"{held.path} is damaged: its learning rate is no number")
    rate = float(entry.stored().array())
    if not (np.isfinite(rate) and rate >= 0):
        raise CheckpointError(f"{held.path} is damaged: its learning rate is {rate}")
    if config is not None and config.has_constant_rate:
        with np.errstate(all="ignore"):
            if float(np.float32(config.initial_learning_rate)) == rate:
                return config.initial_learning_rate
    return float(shortest(rate))


def _moving(content: Outgoing, held: _Held) -> dict[str, Source]:
    """Return the tensors of the state by key; what is gathered and not in the state becomes 0."""
    sources: dict[str, Source] = {}
    for kind, slots in (*held.slots.items(), (WEIGHTS, held.weights)):
        moving = content.tensors.get(kind, {})
        unknown = next((name for name in moving if name not in slots), None)
        if unknown is not None:
            raise CheckpointError(f"{held.path} has no {kind} of {unknown!r}; save it with the optimizer that goes on")
        for name, entry in slots.items():
            if name in moving and moving[name].shape != entry.shape:
                raise CheckpointError(f"{kind} of {name!r} has the shape {moving[name].shape}, there {entry.shape}")
            if name in moving:
                sources[entry.name] = moving[name]
            elif kind == GRADIENT_SUM:
                sources[entry.name] = zeros(entry.shape, entry.dtype)
            elif kind != WEIGHTS:
                raise CheckpointError(f"the state has no {kind} of {name!r}, which the optimizer in the file keeps")
    return sources
