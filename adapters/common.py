"""What the adapters share: reading the user's parameters, and what a stock class rounds."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from unirms.config import RMSPropConfig
from unirms.errors import UnsupportedError
from unirms.protocol import NamedParameter
from unirms.semantics import Difference, Fidelity


def named(
    params: Any,
    *,
    is_parameter: Callable[[Any], bool],
    name_of: Callable[[int, Any], str],
    dtype_of: Callable[[Any], str],
) -> list[NamedParameter]:
    """Return named parameters from (name, parameter) pairs, a mapping, or plain parameters.

    Raises:
        UnsupportedError: something that is neither a parameter nor such a pair.
    """
    if is_parameter(params):
        params = [params]
    entries: Iterable[Any] = params.items() if isinstance(params, Mapping) else params
    found: list[NamedParameter] = []
    for index, entry in enumerate(_iterated(entries)):
        pair = entry if isinstance(entry, tuple) and len(entry) == 2 else (None, entry)
        name, value = pair
        if not is_parameter(value):
            raise UnsupportedError(
                f"item {index} of params is a {type(value).__module__}.{type(value).__qualname__}, not a parameter of "
                "this framework; give a model, parameters, or (name, parameter) pairs"
            )
        found.append(NamedParameter(name_of(index, value) if name is None else str(name), value, dtype_of(value)))
    return found


def rounded_to_float32(
    fields: Sequence[str], config: RMSPropConfig, params: Sequence[NamedParameter]
) -> list[Difference]:
    """Return a difference for each field that a stock class passes through float32 on its way to float64 weights."""
    if all(param.dtype != "float64" for param in params):
        return []
    found = []
    for field in fields:
        if field == "learning_rate" and not config.has_constant_rate:
            continue  # a schedule of unirms hands over doubles
        wanted = config.initial_learning_rate if field == "learning_rate" else getattr(config, field)
        actual = float(np.float32(wanted))
        if actual != wanted:
            found.append(
                Difference(
                    field,
                    wanted,
                    actual,
                    Fidelity.APPROXIMATE,
                    "the class rounds it to float32 although weights are float64",
                    'use unirms.build(…, policy="exact"), or a value that float32 can hold',
                )
            )
    return found


def by_weight_decay(
    config: RMSPropConfig, params: Sequence[NamedParameter]
) -> list[tuple[float, list[NamedParameter]]]:
    """Return the parameters split by their weight decay, in order, for frameworks that decay by group."""
    split: dict[float, list[NamedParameter]] = {}
    for param in params:
        split.setdefault(config.for_parameter(param.name).weight_decay, []).append(param)
    return list(split.items())


def one_config(groups: Sequence[tuple[RMSPropConfig, Sequence[str]]]) -> RMSPropConfig:
    """Return the one config behind the groups of a live optimizer, each given with the names of its parameters.

    Groups that differ in nothing but a weight decay of 0 become `no_weight_decay`, by name.

    Raises:
        UnsupportedError: they differ otherwise, or have no names to tell them apart.
    """
    decayed = max((config for config, _ in groups), key=lambda config: config.weight_decay)
    exempt: list[str] = []
    for config, names in groups:
        if config == decayed:
            continue
        if config != decayed.replace(weight_decay=0.0) or not names:
            raise UnsupportedError("its parameter groups have different hyperparameters, which a config cannot say yet")
        exempt += [glob.escape(name) for name in names]
    return decayed.replace(no_weight_decay=(*decayed.no_weight_decay, *exempt))


_FIRST_MEAN_SQUARE = "_unirms_initial_mean_square"


def remember_seed(optimizer: Any, config: RMSPropConfig) -> None:
    """Note on a stock optimizer what its mean square was made to start at, for which it has no word of its own."""
    setattr(optimizer, _FIRST_MEAN_SQUARE, config.initial_mean_square)


def with_seed(optimizer: Any, config: RMSPropConfig) -> RMSPropConfig:
    """Return the config of a stock optimizer with the first mean square that unirms gave it, if it did."""
    return config.replace(initial_mean_square=getattr(optimizer, _FIRST_MEAN_SQUARE, config.initial_mean_square))


def refuse_dtypes(params: Sequence[NamedParameter], allowed: Sequence[str]) -> list[str]:
    """Return a reason for each dtype among the parameters that is not allowed."""
    wrong = sorted({param.dtype for param in params} - set(allowed))
    return [f"parameters of dtype {dtype} are not supported; it computes {', '.join(allowed)}" for dtype in wrong]


def refuse_clip(config: RMSPropConfig) -> list[str]:
    """Return a reason if the config clips and the stock class was not enough."""
    return ["clipping is not built into its exact optimizer yet; clip the gradients yourself"] if config.clip else []


def _iterated(entries: Iterable[Any]) -> Iterable[Any]:
    try:
        return iter(entries)
    except TypeError:
        raise UnsupportedError(
            f"params is a {type(entries).__name__}; give a model, parameters, or (name, parameter) pairs"
        ) from None
