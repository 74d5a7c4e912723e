"""What the state dictionaries in a checkpoint of PyTorch mean: which part is whose."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from unirms.checkpoints.checkpoint import Checkpoint
from unirms.checkpoints.tensors import SIZES
from unirms.errors import CheckpointError, as_given, some
from unirms.state import WEIGHTS

from ..spool import Spool
from . import configs
from .files import Tensor
from .optimizers import BATCHES, Optimizer, Source, check_name

# Usual names of the model's part, in the order in which they are looked for.
MODEL_KEYS: Final = ("model", "model_state_dict", "state_dict", "module", "net", "network", "weights", "params")
# How deep in a checkpoint the parts are looked for: {"callbacks": {"trainer": {"optimizer": …}}}.
_DEPTH: Final = 4


@dataclass(frozen=True)
class Parts:
    """The state dictionaries in a checkpoint; what is not there is None.

    Attributes:
        keys: what each is called, of those that are not called as `torch.save` of unirms calls them.
    """

    optimizer: dict[Any, Any] | None
    model: dict[Any, Any] | None
    scheduler: dict[Any, Any] | None
    keys: tuple[str, ...] = ()


def parts_of(source: Source, data: Any) -> Parts:
    """Return the state dictionaries in what was saved, whatever their keys are.

    Raises:
        CheckpointError: there are several optimizers, or neither an optimizer nor a model.
    """
    found = list(_nested(data, _DEPTH))
    optimizers = [one for _, one in found if _is_optimizer(one)]
    if len(optimizers) > 1:
        raise CheckpointError(f"{source.place} has the states of {len(optimizers)} optimizers; save that of one alone")
    inside = set() if not optimizers else {id(one) for _, one in _nested(optimizers[0], _DEPTH)}
    others = [(key, one) for key, one in found if id(one) not in inside]
    models = [(key, one) for key, one in others if any(source.tensor(value) for value in one.values())]
    model = next((one for name in MODEL_KEYS for key, one in models if key == name), models[0][1] if models else None)
    scheduler = next((one for _, one in others if "last_epoch" in one and one is not model), None)
    if not optimizers and model is None:
        raise CheckpointError(f"{source.place} has no state of an optimizer and no weights")
    parts = {"optimizer": optimizers[0] if optimizers else None, "model": model, "scheduler": scheduler}
    keys = [key for name, part in parts.items() for key, one in found if key not in {name, ""} and one is part]
    return Parts(**parts, keys=tuple(keys))


def checkpoint(source: Source, data: Any, format_: str, spool: Spool) -> Checkpoint:
    """Return what a checkpoint holds.

    Raises:
        CheckpointError: it is damaged, or its optimizer is none that unirms knows.
    """
    parts = parts_of(source, data)
    notes: list[str] = []
    weights = weights_of(source, parts.model)
    left_out = _left_out(source, parts.model, weights)
    if left_out:
        told = some(left_out, show=str)
        notes.append(f"left out: {told}; if the new model needs them, give --like a checkpoint of it")
    if parts.optimizer is None:
        stored = {name: one.stored(spool) for name, one in weights.items()}
        notes.append("it has no state of an optimizer")
        return Checkpoint(format=format_, parameters=(), tensors={WEIGHTS: stored}, notes=tuple(notes))
    optimizer = Optimizer.of(source, parts.optimizer, weights, notes)
    step = optimizer.step()
    config, plateau = configs.config_of(optimizer, parts.scheduler, step, notes)
    tensors = optimizer.tensors(config, weights, spool, notes)
    if weights:
        tensors[WEIGHTS] = {name: one.stored(spool) for name, one in weights.items()}
    return Checkpoint(
        format=format_,
        parameters=optimizer.names,
        step=step,
        micro_step=optimizer.micro_step(),
        learning_rate=configs.rate_of(config, plateau, step),
        plateau=plateau,
        config=config,
        tensors=tensors,
        notes=tuple(notes),
        advice=_advice(parts),
    )


def _advice(parts: Parts) -> tuple[str, ...]:
    """Return how to load a checkpoint with these keys where they are not the usual ones."""
    if not parts.keys:
        return ()
    return (f"the checkpoint to keep has its parts under {some(parts.keys)}: load them from there",)


def _nested(data: Any, depth: int, key: str = "") -> Iterator[tuple[str, dict[Any, Any]]]:
    """Yield all dictionaries in the data, the outer before the inner, with their keys."""
    todo: deque[tuple[str, Any, int]] = deque([(key, data, depth)])
    seen: set[int] = set()
    while todo:
        key, node, left = todo.popleft()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, dict):
            yield key, node
        if left > 0:
            todo += ((name, value, left - 1) for name, value in _containers(key, node))


def _containers(key: str, node: Any) -> Iterator[tuple[str, Any]]:
    """Yield what is directly in a dictionary or a list and can have dictionaries in it; in a list, by its own key."""
    if isinstance(node, dict):
        named: Iterable[tuple[str, Any]] = ((str(k), value) for k, value in node.items() if isinstance(k, (str, int)))
    else:
        named = ((key, value) for value in node) if isinstance(node, (list, tuple)) else ()
    return ((name, value) for name, value in named if isinstance(value, (dict, list, tuple)))


def _is_optimizer(data: dict[Any, Any]) -> bool:
    groups = data.get("param_groups")
    if not isinstance(groups, list) or not groups or not isinstance(data.get("state", {}), dict):
        return False
    return all(isinstance(group, dict) and isinstance(group.get("params"), list) for group in groups)


def weights_of(source: Source, model: dict[Any, Any] | None) -> dict[str, Tensor]:
    """Return the floating-point and complex tensors of a model, each once: tied weights have several names."""
    found: dict[Any, tuple[str, Tensor]] = {}
    for name, node in (model or {}).items():
        tensor = source.tensor(node)
        if tensor is not None and tensor.dtype in SIZES and isinstance(name, str):
            check_name(source, name)
            found.setdefault(tensor.key, (name, tensor))
    return dict(found.values())


def _left_out(source: Source, model: dict[Any, Any] | None, weights: Mapping[str, Tensor]) -> list[str]:
    """Return the tensors of a model that are no weights of their own, with the reason; `load_state_dict` wants them.

    The counts of a batch normalization are none of them: they are made anew.
    """
    first = {one.key: name for name, one in weights.items()}
    found = []
    for name, node in (model or {}).items():
        tensor = source.tensor(node)
        if tensor is None or not isinstance(name, str) or name in weights or name.endswith(BATCHES):
            continue
        known = first.get(tensor.key) if tensor.dtype in SIZES else None
        reason = f"of dtype {tensor.dtype}" if known is None else f"the same as {as_given(known)}"
        found.append(f"{as_given(name)} ({reason})")
    return found
