"""A state as the state dictionaries that PyTorch saves: made anew, or put into those of another checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

import unirms
from unirms.checkpoints.checkpoint import Outgoing
from unirms.checkpoints.naming import plain
from unirms.config import RMSPropConfig
from unirms.errors import CheckpointError, UnirmsError
from unirms.state import GRADIENT_SUM, MOST_STEPS, WEIGHTS

from ...torch import ADAPTER, CONFIG, UniRMSProp, accumulators, groups, schedules
from ...torch.accumulators import COUNT, MICRO_STEP, SLOTS, SUM
from .dicts import Parts, weights_of
from .optimizers import BATCHES, MEAN, Optimizer, Source
from .saving import Fresh

Id = Callable[[int, str], Any]
_MOST_BATCHES: Final = 2**63 - 1  # they are counted in 64 bits


def made_anew(content: Outgoing, id_of: Id = lambda index, name: index) -> dict[str, Any]:
    """Return the parts "model", "optimizer" and "scheduler" of a checkpoint, those that there are.

    Args:
        content: what it is to hold.
        id_of: number and name of a parameter -> what the state dictionary calls it.

    Raises:
        CheckpointError: no optimizer of PyTorch goes on from this.
    """
    live = _Live.of(content)
    optimizer = live.optimizer.state_dict()
    names = [one.name for one in ADAPTER.parameters_of(live.optimizer)]
    ids = {index: id_of(index, name) for index, name in enumerate(names)}
    optimizer["state"] = {ids[index]: live.entry(content, name) for index, name in enumerate(names)}
    for group in optimizer["param_groups"]:
        group["params"] = [ids[index] for index in group["params"]]
    whole: dict[str, Any] = {"model": _model(content)} if content.tensors.get(WEIGHTS) else {}
    whole["optimizer"] = optimizer
    scheduler = ADAPTER.lr_scheduler(live.optimizer)
    return whole if scheduler is None else {**whole, "scheduler": scheduler.state_dict()}


def put_into(content: Outgoing, source: Source, data: Any, parts: Parts) -> None:
    """Put what is to be written into the data of another checkpoint, whose groups, keys and other contents stay.

    Raises:
        CheckpointError: it has no place for something.
    """
    if parts.optimizer is None:
        raise CheckpointError(f"{source.place} has no state of an optimizer to put this one in the place of")
    live = _Live.of(content)
    optimizer = Optimizer.of(source, parts.optimizer, weights_of(source, parts.model), [])
    if set(optimizer.names) != set(content.parameters) or optimizer.dialect != ADAPTER.framework:
        raise CheckpointError(f"{source.place} is of an optimizer with other parameters, or of another class")
    parts.optimizer["state"] = {
        one: live.entry(content, name) for one, name in zip(optimizer.ids, optimizer.names, strict=True)
    }
    parts.optimizer.pop(CONFIG, None)
    parts.optimizer.update({CONFIG: said} if (said := live.optimizer.state_dict().get(CONFIG)) else {})
    for index, group in enumerate(optimizer.groups):
        own = [name for name, of in zip(optimizer.names, optimizer.group_of, strict=True) if of == index]
        held = [{key: live.group_of[name][key] for key in groups.LIVE} for name in own]
        if any(one != held[0] for one in held):
            raise CheckpointError(f"{source.place} has parameters in one group that have several in this config")
        group.update(held[0] if held else {})
        if own and "initial_lr" in group:
            group["initial_lr"] = live.group_of[own[0]].get("initial_lr", held[0][groups.RATE])
    scheduler = ADAPTER.lr_scheduler(live.optimizer)
    if scheduler is not None:
        _place(source, data, parts.optimizer, "scheduler", parts.scheduler).update(scheduler.state_dict())
    if content.tensors.get(WEIGHTS):
        model = _place(source, data, parts.optimizer, "model", parts.model)
        fresh = {name: Fresh.of(moving) for name, moving in content.tensors[WEIGHTS].items()}
        tensors = {name: source.tensor(node) for name, node in model.items()}
        keys = {one.key: fresh[name] for name, one in tensors.items() if one is not None and name in fresh}
        model.update(fresh)  # and tied weights under their other names:
        model.update({name: keys[one.key] for name, one in tensors.items() if one is not None and one.key in keys})


@dataclass(frozen=True)
class _Live:
    """The optimizer that is to go on, over parameters of the right shapes that have no elements.

    Attributes:
        optimizer: it has the rates, and a scheduler the place, that belong to the state.
        group_of: the param_group of each parameter, by name.
    """

    optimizer: torch.optim.RMSprop
    group_of: Mapping[str, dict[str, Any]]

    @staticmethod
    def of(content: Outgoing) -> _Live:
        if content.config is None:
            raise CheckpointError("nobody has said what the optimizer is to compute; its config is missing")
        if max(content.step or 0, content.micro_step) > MOST_STEPS:
            raise CheckpointError(
                f"the state has a step or a micro_step beyond {MOST_STEPS}, more than PyTorch's class can count"
            )
        params = {
            name: torch.empty(moving.shape, dtype=getattr(torch, moving.dtype), device="meta")
            for name, moving in content.tensors["mean_square"].items()
        }
        if set(params) != set(content.parameters):
            missing = sorted(set(content.parameters) - set(params))
            raise CheckpointError(f"the state has no mean_square of {plain(', '.join(map(repr, missing[:3])))}")
        try:
            optimizer = _built(content.config, {name: params[name] for name in content.parameters}, content.stock)
        except UnirmsError as error:
            raise CheckpointError(f"PyTorch has no optimizer for this state: {error}") from None
        schedules.go_to(optimizer, content.step or 0, content.plateau)
        names = iter(one.name for one in ADAPTER.parameters_of(optimizer))
        return _Live(optimizer, {next(names): group for group in optimizer.param_groups for _ in group["params"]})

    def entry(self, content: Outgoing, name: str) -> dict[str, Any]:
        """Return what the state dictionary has for a parameter."""
        built = self.optimizer.config if isinstance(self.optimizer, UniRMSProp) else RMSPropConfig()
        keys = accumulators.keys_of(self.group_of[name], built)
        found: dict[str, Any] = {"step": Fresh.scalar(content.step or 0)}
        for slot, key in SLOTS.items():
            if key in keys:
                if name not in content.tensors.get(slot, {}):
                    raise CheckpointError(f"the state has no {slot} of {plain(name)!r}, which PyTorch's class needs")
                found[key] = Fresh.of(content.tensors[slot][name])
        if SUM in keys:
            gathered = content.tensors.get(GRADIENT_SUM, {}).get(name)
            like = content.tensors["mean_square"][name]
            found[SUM] = Fresh.zeros(like.dtype, like.shape) if gathered is None else Fresh.of(gathered)
            found |= {COUNT: content.micro_step if gathered is not None else 0, MICRO_STEP: content.micro_step}
        return found


def _built(config: RMSPropConfig, params: Mapping[str, torch.Tensor], stock: bool) -> torch.optim.RMSprop:
    if stock:
        return ADAPTER.stock(config.to_native(ADAPTER.framework), config, ADAPTER.named_parameters(params), {})
    return unirms.build(config, ADAPTER.framework, params)


def _model(content: Outgoing) -> dict[str, Any]:
    """Return the state dictionary of the model, with the counts that PyTorch's normalizations miss otherwise."""
    each = 1 if content.config is None else content.config.gradient_accumulation_steps
    batches = min(each * (content.step or 0) + content.micro_step, _MOST_BATCHES)
    found: dict[str, Any] = {}
    for name, moving in content.tensors[WEIGHTS].items():
        found[name] = Fresh.of(moving)
        if name.endswith(f".{MEAN}") or name == MEAN:
            found[name.removesuffix(MEAN) + BATCHES] = Fresh.scalar(batches, "int64")
    return found


def _place(
    source: Source, data: Any, optimizer: dict[Any, Any], key: str, part: dict[Any, Any] | None
) -> dict[Any, Any]:
    """Return a part of a checkpoint, which is made beside the optimizer's if it is not there."""
    if part is not None:
        return part
    if not isinstance(data, dict) or data is optimizer:
        raise CheckpointError(f"{source.place} is the state of an optimizer alone, with no place for that of a {key}")
    made: dict[Any, Any] = data.setdefault(key, {})
    return made
