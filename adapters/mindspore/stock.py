"""MindSpore: what its own class takes, what it gets wrong, how it is grouped, and how a live one is read."""

from __future__ import annotations

import glob
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from mindspore import Parameter, nn

from unirms import dialects
from unirms.config import RMSPropConfig
from unirms.dialects.mindspore import BETA_GAMMA, MISPLACED_EPSILON
from unirms.errors import UnsupportedError
from unirms.grouping import Member, members
from unirms.names import matches
from unirms.protocol import NamedParameter
from unirms.schedules import AnySchedule, BaseSchedule, Table
from unirms.semantics import Difference, Fidelity

from .. import common
from . import plateau, schedules

DIALECT = dialects.get("mindspore")
NAMES = "_unirms_names"
"""The attribute with the names that the user gave: those of MindSpore's own Parameters may be others."""


def named_parameters(params: Any) -> list[NamedParameter]:
    """Return the given parameters with their names: the user's, or MindSpore's."""
    return common.named(
        params,
        is_parameter=lambda value: isinstance(value, Parameter),
        name_of=lambda index, value: str(value.name),
        dtype_of=lambda value: str(value.dtype).lower(),
    )


def accepted(stock_class: type, native: Mapping[str, Any]) -> dict[str, Any]:
    """Return keyword arguments under the names that the installed class has for them.

    MindSpore announces that `learning_rate`, `decay` and `epsilon` will become `lr`, `alpha` and `eps`, and that other
    arguments will go; what a class no longer takes is left out where it has its neutral value.
    """
    names = argument_names(stock_class)
    chosen = {}
    for name, value in native.items():
        argument = DIALECT.argument(name)
        known = [name, *(argument.aliases if argument else ())]
        found = next((candidate for candidate in known if candidate in names), name)
        if found in names or argument is None or value != argument.default:
            chosen[found] = value
    return chosen


def argument_names(stock_class: type) -> frozenset[str]:
    """Return the names of a constructor's arguments; the documented ones where they cannot be found out.

    `opt_init_args_register` wraps the constructor into one with ``*args, **kwargs`` that keeps it in its closure only.
    """
    outer = inspect.unwrap(vars(stock_class)["__init__"])
    inner = [cell.cell_contents for cell in getattr(outer, "__closure__", None) or ()]
    for function in (*filter(inspect.isfunction, inner), outer):
        parameters = inspect.signature(function).parameters.values()
        if "params" in {parameter.name for parameter in parameters}:
            return frozenset(parameter.name for parameter in parameters)
    return frozenset(argument.name for argument in DIALECT.arguments)


def own_rate(config: RMSPropConfig, dtype: Any) -> Any:
    """Return the learning rate of a config in MindSpore's words: a number, or a cell whose rates are of `dtype`."""
    rate = config.learning_rate
    if config.has_constant_rate or not isinstance(rate, BaseSchedule):
        return config.initial_learning_rate
    return schedules.UniRMSSchedule(rate, dtype)


def misplaced_epsilon(config: RMSPropConfig) -> list[Difference]:
    """Return the defect of the plain kernel on CPU: its blocks of 8 elements add epsilon to the root.

    nnacl's `RMSPropUnuseCenterFp32` adds epsilon after `_mm256_sqrt_ps`, and before `sqrtf` in the scalar loop over the
    rest; which elements those are depends on how threads split the tensor, and changes during a run.
    """
    defect = MISPLACED_EPSILON
    if not defect.applies(config):
        return []
    return [
        Difference(
            defect.axis,
            config.epsilon_placement,
            defect.actual,
            Fidelity.APPROXIMATE,
            defect.consequence,
            defect.remedy,
        )
    ]


def rounded_complement(config: RMSPropConfig) -> list[Difference]:
    """Return a difference where the kernels' 1 - rho, taken in float32, is another number than the config's.

    Measured for a centered float32 run of 50 steps from a mean square of 0: 8 ULP along the path for rho = 0.9 and 10
    for 0.99, which is rounding, but 92 for 0.999 and 1139 for 0.9999.
    """
    rounded = float(np.float32(config.rho))
    # 2**-19 of the mean square is 2**-20 of a step, which is 8 half-ULP of float32.
    if abs((1 - rounded) - (1 - config.rho)) <= 2.0**-19 * (1 - config.rho):
        return []
    return [
        Difference(
            "rho",
            config.rho,
            rounded,
            Fidelity.APPROXIMATE,
            "MindSpore's kernel takes 1 - rho in float32, which cancels for rho near 1",
            'use unirms.build(…, policy="exact")',
        )
    ]


def other_precision(params: Sequence[NamedParameter]) -> list[Difference]:
    """Return a difference for weights that are not float32, in which the stock kernels compute."""
    return [
        Difference(
            "dtype",
            dtype,
            "float32",
            Fidelity.APPROXIMATE,
            f"MindSpore's kernels compute in float32 and store {dtype}, and hold some hyperparameters in another dtype",
            'use unirms.build(…, policy="exact")',
        )
        for dtype in sorted({param.dtype for param in params} - {"float32"})
    ]


def grouped(config: RMSPropConfig, params: Sequence[NamedParameter]) -> list[Any]:
    """Return the parameters, grouped by rate and weight decay where they are not all alike to MindSpore anyway."""
    values = [param.value for param in params]
    each = members(config, [param.name for param in params])
    if _alike_to_mindspore(config, params, each):
        return values
    split: dict[tuple[float, float], dict[str, Any]] = {}
    for value, member in zip(values, each, strict=True):
        kind = member.rate_factor, member.config.weight_decay
        if kind not in split:
            split[kind] = {"params": [], "weight_decay": member.config.weight_decay, "lr": _group_rate(config, member)}
        split[kind]["params"].append(value)
    if all(member.rate_factor == 1 for member in each):
        for group in split.values():
            del group["lr"]  # one Parameter for all, which the user can change
    return [*split.values(), {"order_params": values}]  # gradients come in the order of the parameters


def _group_rate(config: RMSPropConfig, member: Member) -> Any:
    rate = config.learning_rate
    if config.has_constant_rate or not isinstance(rate, BaseSchedule):
        return member.config.initial_learning_rate
    # A cell for every group: beside cells MindSpore rounds the numbers of other groups to multiples of 2**-23.
    return schedules.UniRMSSchedule(rate, factor=member.rate_factor)


def _alike_to_mindspore(config: RMSPropConfig, params: Sequence[NamedParameter], each: Sequence[Member]) -> bool:
    """Return whether parameters without groups get the rates and the decays of the config."""
    if any(member.rate_factor != 1 for member in each):
        return False
    own = [0.0 if _is_beta_gamma(param.value.name) else config.weight_decay for param in params]
    return all(member.config.weight_decay == decay for member, decay in zip(each, own, strict=True))


def _is_beta_gamma(name: str) -> bool:
    return matches(name, BETA_GAMMA)


def names_of(optimizer: Any) -> Sequence[str]:
    """Return the names of the parameters, in their order: the user's if unirms built it, otherwise MindSpore's."""
    given: Sequence[str] = getattr(optimizer, NAMES, ())
    return given or [str(param.name) for param in optimizer.parameters]


def rate_of(source: Any, given: Any) -> float | AnySchedule:
    """Return the learning rate behind a Parameter or a cell; `given` is what the constructor got."""
    if not isinstance(source, Parameter):
        return schedules.read(source)
    values = source.asnumpy()
    if values.ndim:
        return Table(learning_rates=tuple(as_given(value) for value in values))
    return as_given(values[()], given)


def as_given(value: Any, given: Any = None) -> float:
    """Return a number that was rounded to float32 as it was given, or else as its shortest decimal."""
    if isinstance(given, float) and type(value)(given) == value:
        return given
    return float(str(value))


def stock_config(optimizer: nn.RMSProp) -> RMSPropConfig:
    """Return what `mindspore.nn.RMSProp` computes with its present hyperparameters, its groups by name."""
    live = {
        argument.name: getattr(optimizer, name)
        for argument in DIALECT.arguments
        if argument.fields and argument.name not in {"learning_rate", "weight_decay"}
        for name in (argument.name, *argument.aliases)
        if hasattr(optimizer, name)
    }
    names = names_of(optimizer)
    read = RMSPropConfig.from_native("mindspore", **live).replace(no_weight_decay=())
    config = common.one_config(
        [
            common.LiveGroup(read.replace(learning_rate=rate, weight_decay=decay), [name], factor)
            for name, (rate, factor), decay in zip(names, _rates(optimizer), _decays(optimizer), strict=True)
        ]
    )
    exempt = [glob.escape(name) for name in names if _is_beta_gamma(name)]
    if exempt and list(config.no_weight_decay) == exempt:  # MindSpore's own filter has a shorter name
        own = tuple(pattern for pattern in BETA_GAMMA if any(matches(name, (pattern,)) for name in names))
        return config.replace(no_weight_decay=own)
    return config


def _rates(optimizer: nn.RMSProp) -> Iterator[tuple[float | AnySchedule, float | None]]:
    """Yield the present rate of each parameter, and the factor of a schedule of unirms, which is in the rate too."""
    lowered = plateau.plateau_of(optimizer)
    if lowered is not None:
        yield from ((lowered[0].scaled(factor), factor) for factor in lowered[1])
        return
    given = _given(optimizer, "lr", optimizer.init_learning_rate)
    known: dict[int, float | AnySchedule] = {}  # read once: a list of rates may be long
    for param in optimizer.parameters:
        source = optimizer.get_lr_parameter(param)
        if id(source) not in known:
            known[id(source)] = rate_of(source, given[id(param)])
        rate, factor = known[id(source)], getattr(source, "factor", None)
        yield (rate.scaled(factor) if isinstance(rate, AnySchedule) and factor is not None else rate), factor


def _decays(optimizer: nn.RMSProp) -> list[float]:
    """Return the weight decay of each parameter, as it was given."""
    default = optimizer.init_args["weight_decay"]
    if optimizer.dynamic_weight_decay:
        raise UnsupportedError("its weight decay is a schedule, which a config cannot say")
    if not optimizer.is_group:
        return [float(default) if decayed else 0.0 for decayed in optimizer.decay_flags]
    if any(optimizer.grad_centralization_flags):
        raise UnsupportedError("its groups ask for grad_centralization, which on CPU is ignored or crashes")
    given = _given(optimizer, "weight_decay", default)
    return [float(given[id(param)]) for param in optimizer.parameters]


def _given(optimizer: nn.RMSProp, key: str, default: Any) -> dict[int, Any]:
    """Return what the constructor got for each parameter, by its id: in a group, or for all."""
    if not optimizer.is_group:
        return {id(param): default for param in optimizer.parameters}
    return {
        id(param): group.get(key, default)
        for group in optimizer.init_params["params"]
        for param in group.get("params", ())
    }
