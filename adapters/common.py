"""What the adapters share: reading the user's parameters, and what a stock class rounds."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from unirms.config import ParameterGroup, RMSPropConfig
from unirms.errors import UnsupportedError
from unirms.protocol import NamedParameter
from unirms.schedules import AnySchedule, Plateau
from unirms.schedules.plateau import LONG_LADDER
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
        values = rates_held(config) if field == "learning_rate" else [getattr(config, field)]
        wanted = next((value for value in values if float(np.float32(value)) != value), None)
        if wanted is not None:
            actual = float(np.float32(wanted))
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


def rates_held(config: RMSPropConfig) -> list[float]:
    """Return the rates that an optimizer holds as a number at some time; a schedule of unirms hands over doubles."""
    rate = config.learning_rate
    if isinstance(rate, Plateau):
        return list(islice(rate.ladder(), LONG_LADDER))
    return [config.initial_learning_rate] if config.has_constant_rate else []


@dataclass(frozen=True)
class LiveGroup:
    """One parameter group of a live optimizer.

    Attributes:
        config: what holds for its parameters now; without groups.
        names: the names of its parameters; empty where the framework knows none.
        rate_factor: its learning rate as a multiple of the optimizer's, where a schedule or the framework keeps one.
    """

    config: RMSPropConfig
    names: Sequence[str]
    rate_factor: float | None = None


def one_config(found: Sequence[LiveGroup]) -> RMSPropConfig:
    """Return the one config behind the groups of a live optimizer.

    The first group says what holds for all; others become groups of the config, by name. Groups that differ in nothing
    but a weight decay of 0 become `no_weight_decay`.

    Raises:
        UnsupportedError: they differ and have no names to tell them apart, or differ in what no group can override.
    """
    found = _merged(_of_one_decay(found))
    base = next((one for one in found if one.rate_factor != 0), found[0])  # of a rate of 0 there are no multiples
    alike = [one for one in found if _without_decay(one) == _without_decay(base)]
    base = max(alike, key=lambda one: one.config.weight_decay)
    exempt: list[str] = []
    groups: list[ParameterGroup] = []
    for one in found:
        if one.config == base.config and one.rate_factor == base.rate_factor:
            continue
        if not one.names:
            raise UnsupportedError(
                "its parameter groups differ and have no names to tell them apart; give the optimizer named parameters"
            )
        escaped = [glob.escape(name) for name in one.names]
        if one in alike and one.config.weight_decay == 0:
            exempt += escaped
        else:
            groups.append(ParameterGroup(match=tuple(escaped), **_overrides(base, one)))
    kept = (*base.config.no_weight_decay, *exempt)
    return base.config.replace(no_weight_decay=kept, groups=tuple(groups))


def _of_one_decay(found: Sequence[LiveGroup]) -> list[LiveGroup]:
    """Return the groups, those without weight decay with the mode of one that has some: theirs says nothing."""
    mode = next((one.config.weight_decay_mode for one in found if one.config.weight_decay > 0), None)
    silent = [mode is not None and one.config.weight_decay == 0 for one in found]
    return [
        replace(one, config=one.config.replace(weight_decay_mode=mode)) if changes else one
        for one, changes in zip(found, silent, strict=True)
    ]


def _merged(found: Sequence[LiveGroup]) -> list[LiveGroup]:
    """Return the groups with equal ones made one, the names in order; one without names leaves all of it nameless."""
    merged: list[LiveGroup] = []
    for one in found:
        same = next(
            (i for i, m in enumerate(merged) if (m.config, m.rate_factor) == (one.config, one.rate_factor)), None
        )
        if same is None:
            merged.append(one)
        else:
            both = merged[same].names and one.names
            merged[same] = replace(merged[same], names=[*merged[same].names, *one.names] if both else [])
    return merged


def _without_decay(one: LiveGroup) -> tuple[RMSPropConfig, float | None]:
    return one.config.replace(weight_decay=0.0), one.rate_factor


def _overrides(base: LiveGroup, one: LiveGroup) -> dict[str, Any]:
    """Return what a group of a config has to say for its parameters to have the config of `one`."""
    changed = {
        field: getattr(one.config, field)
        for field in RMSPropConfig.model_fields
        if getattr(one.config, field) != getattr(base.config, field)
    }
    if one.rate_factor is not None and one.rate_factor != base.rate_factor:
        changed.pop("learning_rate", None)
        changed["learning_rate_factor"] = one.rate_factor / (base.rate_factor or 1.0)
    if isinstance(changed.get("learning_rate"), AnySchedule) or (
        "learning_rate" in changed and isinstance(base.config.learning_rate, AnySchedule)
    ):
        raise UnsupportedError("its parameter groups follow different schedules, which a config cannot say")
    if changed.get("momentum") == 0:
        changed.pop("nesterov", None)  # it goes with the momentum
    unsaid = [field for field in changed if field not in ParameterGroup.model_fields]
    if unsaid:
        raise UnsupportedError(f"its parameter groups differ in {', '.join(unsaid)}, which a config cannot say")
    return changed


def rung(plateau: Plateau, live: float, held: Callable[[float], float]) -> float:
    """Return the rate of a plateau that an optimizer has now, its first where it has none of them.

    `held` is how the optimizer rounds a rate: `live` is such a one.
    """
    rates = islice(plateau.ladder(), LONG_LADDER)
    return next((rate for rate in rates if live in (rate, held(rate))), plateau.initial)


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


def _iterated(entries: Iterable[Any]) -> Iterable[Any]:
    try:
        return iter(entries)
    except TypeError:
        raise UnsupportedError(
            f"params is a {type(entries).__name__}; give a model, parameters, or (name, parameter) pairs"
        ) from None
