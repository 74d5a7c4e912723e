"""What the state dictionaries in a checkpoint of PyTorch mean: which part is whose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from unirms.checkpoints.checkpoint import Checkpoint
from unirms.checkpoints.tensors import SIZES
from unirms.errors import CheckpointError
from unirms.state import WEIGHTS

from ..spool import Spool
from . import configs
from .files import Tensor
from .optimizers import Optimizer, Source, check_name

# Usual names of the model's part, in the order in which they are looked for.
MODEL_KEYS: Final = ("model", "model_state_dict", "state_dict", "module", "net", "network", "weights", "params")
# How deep in a checkpoint the parts are looked for: {"callbacks": {"trainer": {"optimizer": …}}}.
_DEPTH: Final = 4


@dataclass(frozen=True)
class Parts:
    """The state dictionaries in a checkpoint; what is not there is None."""

    optimizer: dict[Any, Any] | None
    model: dict[Any, Any] | None
    scheduler: dict[Any, Any] | None


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
    return Parts(optimizers[0] if optimizers else None, model, scheduler)


def checkpoint(source: Source, data: Any, format_: str, spool: Spool) -> Checkpoint:
    """Return what a checkpoint holds.

    Raises:
        CheckpointError: it is damaged, or its optimizer is none that unirms knows.
    """
    parts = parts_of(source, data)
    notes: list[str] = []
    weights = weights_of(source, parts.model)
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
    )


def _nested(data: Any, depth: int, key: str = "") -> Iterator[tuple[str, dict[Any, Any]]]:
    """Yield all dictionaries in the data, the outer before the inner, with their keys."""
    todo: list[tuple[str, Any, int]] = [(key, data, depth)]
    seen: set[int] = set()
    while todo:
        key, node, left = todo.pop(0)
        if id(node) in seen or left < 0:
            continue
        seen.add(id(node))
        if isinstance(node, dict):
            yield key, node
            todo += [(str(name), value, left - 1) for name, value in node.items() if isinstance(name, (str, int))]
        elif isinstance(node, (list, tuple)):
            todo += [(key, value, left - 1) for value in node]


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
