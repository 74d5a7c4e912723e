"""The state dictionaries in a file of Paddle's: which is the optimizer's, which the model's, and what is called how.

Paddle calls accumulators by the parameter's own name, "linear_0.w_0_momentum_0", and weights by their place in the
model, "0.weight". The model's part of a checkpoint has the names of both sides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from unirms.checkpoints.naming import plain
from unirms.errors import CheckpointError, some
from unirms.state import GRADIENT_SUM

from .names import AVERAGE, CONFIG, MASTER_WEIGHTS, MICRO_STEP, NAME_TABLE, RATE, SLOTS, STEP
from .names import GRADIENT_SUM as SUM
from .tensors import Source, Tensor, tensor_in

MODEL_KEYS: Final = ("model", "state_dict", "model_state_dict", "network", "net", "params", "weights")
"""What a checkpoint calls the model's part, where it has others like it, as averaged weights."""
_DEEPEST: Final = 4

# A number of its own at the end tells accumulators of one name apart; ours have it in static graphs only.
_ENDINGS: Final = {
    **{kind: re.compile(rf"(.+)_{name}_(\d+)") for kind, name in SLOTS.items()},
    "average": re.compile(rf"(.+)_{AVERAGE}(?:_(\d+))?"),
    GRADIENT_SUM: re.compile(rf"(.+)_{SUM}(?:_(\d+))?"),
}
_COUNTS: Final = {name: re.compile(rf"(?:.+_)?{name}(?:_\d+)?") for name in (STEP, MICRO_STEP)}
_CONFIG: Final = re.compile(rf"(?:(.+)_)?{CONFIG}")


@dataclass(frozen=True)
class StateDict:
    """A dictionary in a file.

    Attributes:
        source: the file.
        keys: where in it the dictionary is; empty where it is all of it.
        part: the dictionary.
    """

    source: Source
    keys: tuple[str, ...]
    part: Mapping[Any, Any]

    @property
    def place(self) -> str:
        """What it is called in messages."""
        return plain(".".join(self.keys)) or self.source.name

    @property
    def is_optimizer(self) -> bool:
        """Whether it has what only an optimizer's has."""
        texts = [key for key in self.part if isinstance(key, str)]
        return any(_ENDINGS["mean_square"].fullmatch(key) or _CONFIG.fullmatch(key) for key in texts)


@dataclass(frozen=True)
class Model(StateDict):
    """The model's part.

    Attributes:
        own_names: key -> the parameter's own name, of those that have one.
    """

    own_names: Mapping[str, str]

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by key, a shared one once, without the learning rate of a static graph."""
        first = self.first_keys()
        found = {key: tensor_in(value) for key, value in self.part.items() if isinstance(key, str)}
        return {
            key: one
            for key, one in found.items()
            if one is not None and not RATE.fullmatch(key) and first.get(self.own_names.get(key, ""), key) == key
        }

    def first_keys(self) -> dict[str, str]:
        """Return the key of each tensor by its own name: of one that two layers share the first, as live."""
        return {self.own_names[key]: key for key in reversed(self.part) if key in self.own_names}


@dataclass(frozen=True)
class Accumulators(StateDict):
    """The optimizer's part.

    Attributes:
        found: by kind and by the parameter's own name, the key of each accumulator.
        counts: the key of each count, by its name.
        stated: the key of what the exact class says of itself; None where it is not there.
    """

    found: Mapping[str, Mapping[str, str]]
    counts: Mapping[str, str]
    stated: str | None


def parts(source: Source) -> Iterator[StateDict]:
    """Yield the dictionaries of a file that have tensors in them, or what else an optimizer says.

    Raises:
        CheckpointError: the file is no dictionary.
    """
    if not isinstance(source.data, dict):
        raise CheckpointError(
            f"{source.name} holds no state dictionary, but a {type(source.data).__name__}; save "
            "net.state_dict() and optimizer.state_dict()"
        )
    seen: set[int] = set()

    def below(data: Mapping[Any, Any], keys: tuple[str, ...]) -> Iterator[StateDict]:
        if id(data) in seen:
            return
        seen.add(id(data))
        found = StateDict(source, keys, data)
        if any(tensor_in(value) is not None for value in data.values()) or found.is_optimizer:
            yield found
        elif len(keys) < _DEEPEST:
            for key, value in data.items():
                if isinstance(value, dict) and isinstance(key, str):
                    yield from below(value, (*keys, key))

    yield from below(source.data, ())


def optimizer_in(sources: Sequence[Source]) -> Accumulators | None:
    """Return the optimizer's part of some files; None where there is none.

    Raises:
        CheckpointError: there are several, or it is none that unirms reads.
    """
    found = [one for source in sources for one in parts(source) if one.is_optimizer]
    if not found:
        return None
    if len(found) > 1:
        raise CheckpointError(f"there are several optimizers in it, {_places(found)}; save that of one by itself")
    source, keys, part = found[0].source, found[0].keys, found[0].part
    if part.get(MASTER_WEIGHTS):
        raise CheckpointError(
            f"{source.name} has master weights of mixed precision, to which its accumulators belong; "
            "unirms reads none such, for it builds no such optimizer"
        )
    texts = [key for key in part if isinstance(key, str)]
    stated = next((key for key in texts if _CONFIG.fullmatch(key)), None)
    counts = {name: key for name, ending in _COUNTS.items() for key in texts if ending.fullmatch(key)}
    return Accumulators(source, keys, part, _accumulators(source, part, _prefix(stated)), counts, stated)


def _places(found: Sequence[StateDict]) -> str:
    return some([one.place for one in found], show=str)


def _prefix(stated: str | None) -> str:
    """Return what the optimizer's own name adds to those of its parameters: "_mine" with `name="mine"`."""
    match = None if stated is None else _CONFIG.fullmatch(stated)
    return f"_{match[1]}" if match and match[1] else ""


def _accumulators(source: Source, part: Mapping[Any, Any], prefix: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {kind: {} for kind in _ENDINGS}
    for key, value in part.items():
        if not isinstance(key, str) or tensor_in(value) is None:
            continue
        for kind, ending in _ENDINGS.items():
            match = ending.fullmatch(key)
            if match:
                name = match[1].removesuffix(prefix)
                if name in found[kind]:
                    raise CheckpointError(
                        f"{source.name} has two accumulators {plain(found[kind][name])!r} and "
                        f"{plain(key)!r} of one parameter"
                    )
                found[kind][name] = key
    return found


def model_in(sources: Sequence[Source], optimizer: Accumulators | None) -> Model | None:
    """Return the model's part of some files; None where there is none.

    Raises:
        CheckpointError: there are several that may be it.
    """
    own = None if optimizer is None else id(optimizer.part)
    found = [
        Model(source, one.keys, one.part, _own_names(one.part))
        for source in sources
        for one in parts(source)
        if id(one.part) != own
    ]
    if optimizer is not None and len(found) > 1:
        known = set(optimizer.found["mean_square"])
        found = [one for one in found if known and known <= {*one.own_names.values(), *one.tensors()}] or found
    called = [one for key in MODEL_KEYS for one in found if one.keys and one.keys[-1] == key]
    if len(found) > 1 and not called:
        raise CheckpointError(f"there are several models in it, {_places(found)}; save one by itself")
    return next(iter([*called, *found]), None)


def _own_names(part: Mapping[Any, Any]) -> dict[str, str]:
    """Return the own name of the tensor at each key: beside the tensor, or in the table of a flat dictionary."""
    table = part.get(NAME_TABLE)
    found = {key: value for key, value in table.items() if _are_texts(key, value)} if isinstance(table, dict) else {}
    for key, value in part.items():
        if isinstance(key, str) and isinstance(value, tuple) and tensor_in(value) is not None and value[0]:
            found[key] = value[0]
    return {key: name for key, name in found.items() if key in part}


def _are_texts(*values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


def named(optimizer: Accumulators, model: Model | None, stated: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the user's name of each parameter by its own name, in the best order that is known; and notes on it.

    Args:
        optimizer: the accumulators.
        model: the weights, if there are any.
        stated: own name -> the user's, as the exact class says it of all of its parameters.
    """
    held = list(optimizer.found["mean_square"])
    if stated and set(held) <= set(stated):
        return dict(stated), []
    keys = {} if model is None else model.first_keys()
    if model is not None and not model.own_names:  # those of a static graph have no other names
        keys = {key: key for key in model.tensors()}
    prefixed = {name: _known_start(name, keys) for name in held}
    if held and all(prefixed.values()):
        whole = {start: name for name, start in prefixed.items()}
        return {whole[name]: key for name, key in sorted(keys.items(), key=_order(model)) if name in whole}, []
    if model is not None and held:
        told = _by_shapes(optimizer, model)
        if told is not None:
            return told, ["which weights an accumulator belongs to is told by order and shapes, since no name tells"]
    return {name: name for name in held}, [
        "the parameters have Paddle's own names, since no weights beside them say others"
    ] if held else []


def _order(model: Model | None) -> Any:
    place = {} if model is None else {key: index for index, key in enumerate(model.part)}
    return lambda item: place.get(item[1], 0)


def _known_start(name: str, known: Mapping[str, str]) -> str | None:
    """Return the parameter whose name an accumulator's begins with; an optimizer's own name may follow it."""
    while name and name not in known:
        name = name.rpartition("_")[0]
    return name or None


def _by_shapes(optimizer: Accumulators, model: Model) -> dict[str, str] | None:
    """Return the weights of the accumulators where one way alone keeps order and shapes; None otherwise."""
    slots = optimizer.found["mean_square"]
    shapes = [tensor.shape for key in slots.values() if (tensor := tensor_in(optimizer.part[key])) is not None]
    weights = [
        (key, one.shape)
        for key, one in model.tensors().items()
        if one.dtype.kind != "i" and not key.endswith(("._mean", "._variance"))
    ]
    places = _only_way(shapes, [shape for _, shape in weights])
    return None if places is None else {name: weights[at][0] for name, at in zip(slots, places, strict=True)}


def _only_way(some: Sequence[Any], every: Sequence[Any]) -> list[int] | None:
    """Return the places of a part of a sequence in it; None where there is none, or another one."""
    first, last, at = [], [], 0
    for one in some:
        while at < len(every) and every[at] != one:
            at += 1
        if at == len(every):
            return None
        first.append(at)
        at += 1
    at = len(every) - 1
    for one in reversed(some):
        while every[at] != one:
            at -= 1
        last.append(at)
        at -= 1
    return first if first == last[::-1] else None
