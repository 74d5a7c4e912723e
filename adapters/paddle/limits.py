"""PaddlePaddle: where `paddle.optimizer.RMSProp` parts from its own dialect, and what it cannot do at all."""

from __future__ import annotations

from collections.abc import Sequence

import paddle

from unirms import dialects
from unirms.config import RMSPropConfig
from unirms.dialects.paddle import LOST_ROWS
from unirms.protocol import NamedParameter
from unirms.semantics import BUILD_EXACT, Difference, Fidelity
from unirms.translation import Native

from .. import common
from .reading import scale_of


def limits(native: Native, config: RMSPropConfig, params: Sequence[NamedParameter]) -> list[Difference]:
    """Return what the kernel rounds or has not, and what the class would read off or write into the parameters."""
    rounded = [*dialects.get("paddle").rounds]
    if not paddle.in_dynamic_mode():
        rounded.append("weight_decay")
    return [
        *common.rounded_to_float32(rounded, config, params),
        *_dtype_limits(params),
        *_group_limits(config, params),
        *_clip_limits(config, params),
        *_carried_limits(config, params),
        *_row_limits(config, params),
        *_seed_limits(native, config),
    ]


def refusals(config: RMSPropConfig, params: Sequence[NamedParameter]) -> list[str]:
    """Return why the stock class fails for these parameters."""
    mixed = ["the stock class steps parameters of one dtype only"] if len({param.dtype for param in params}) > 1 else []
    return [*mixed, *_missing_clips(config, params)]


def _dtype_limits(params: Sequence[NamedParameter]) -> list[Difference]:
    dtypes = sorted({param.dtype for param in params})
    if len(dtypes) == 1:
        return []
    return [
        Difference(
            "learning_rate",
            " and ".join(dtypes),
            f"{params[0].dtype} for all",
            Fidelity.APPROXIMATE,
            "it has one dtype for all parameters, and the kernel fails on the others",
            f"{BUILD_EXACT}, or one optimizer for each dtype",
        )
    ]


def _group_limits(config: RMSPropConfig, params: Sequence[NamedParameter]) -> list[Difference]:
    """Name what only parameter groups could say: Paddle writes their options into the parameters."""
    plain = config.replace(groups=())
    exempt = any(plain.for_parameter(param.name).weight_decay != config.weight_decay for param in params)
    return [
        Difference(
            axis,
            getattr(config, axis),
            (),
            Fidelity.APPROXIMATE,
            "Paddle's parameter groups are written into the parameters, where other optimizers obey them too",
            BUILD_EXACT,
        )
        for axis, used in (("groups", bool(config.groups)), ("no_weight_decay", exempt))
        if used
    ]


def _clip_limits(config: RMSPropConfig, params: Sequence[NamedParameter]) -> list[Difference]:
    reasons = _missing_clips(config, params)
    # Only tables, of two axes, have gradients by rows.
    if any(clip.by == "value" for clip in config.clip) and any(len(param.value.shape) == 2 for param in params):
        reasons.append("ClipGradByValue ends the process where an embedding with sparse=True has a gradient")
    return [Difference("clip", config.clip, (), Fidelity.APPROXIMATE, reason, BUILD_EXACT) for reason in reasons[:1]]


def _missing_clips(config: RMSPropConfig, params: Sequence[NamedParameter]) -> list[str]:
    kinds = {clip.by for clip in config.clip}
    reasons = []
    if "norm" in kinds and any(param.dtype == "float64" for param in params):
        reasons.append("ClipGradByNorm has no kernel for float64 parameters")
    if "value" in kinds and not paddle.in_dynamic_mode():
        reasons.append("ClipGradByValue does not work in a static graph")
    return reasons


def _carried_limits(config: RMSPropConfig, params: Sequence[NamedParameter]) -> list[Difference]:
    """Name what parameters carry for the stock class to obey, from a `ParamAttr` or another optimizer's groups."""
    found: dict[str, Difference] = {}
    for param in params:
        scale = scale_of(param.value)
        regularizer = getattr(param.value, "regularizer", None)
        for axis, actual, differs in (
            ("learning_rate", f"{scale} times as long for {param.name!r}", scale != 1.0),
            ("weight_decay", f"{regularizer} for {param.name!r}", regularizer is not None),
            ("clip", f"none for {param.name!r}", bool(config.clip) and not getattr(param.value, "need_clip", True)),
        ):
            if differs:
                found.setdefault(
                    axis,
                    Difference(
                        axis,
                        getattr(config, axis),
                        actual,
                        Fidelity.APPROXIMATE,
                        "the parameter carries it, from its ParamAttr or from another optimizer with parameter groups",
                        "take it off the parameter (optimize_attr, regularizer, need_clip)",
                    ),
                )
    return list(found.values())


def _row_limits(config: RMSPropConfig, params: Sequence[NamedParameter]) -> list[Difference]:
    """Name the rows that the kernel loses; a tensor does not say whether its gradient comes by rows, its name may."""
    tables = any(len(param.value.shape) == 2 and param.value.name.startswith("embedding") for param in params)
    if not (tables and paddle.in_dynamic_mode() and LOST_ROWS.applies(config)):
        return []
    told = LOST_ROWS.axis, LOST_ROWS.wanted, LOST_ROWS.actual
    return [Difference(*told, Fidelity.APPROXIMATE, LOST_ROWS.consequence, LOST_ROWS.remedy)]


def _seed_limits(native: Native, config: RMSPropConfig) -> list[Difference]:
    actual = native.meaning.initial_mean_square
    if paddle.in_dynamic_mode() or config.initial_mean_square == actual:
        return []
    return [
        Difference(
            "initial_mean_square",
            config.initial_mean_square,
            actual,
            Fidelity.APPROXIMATE,
            "in a static graph the accumulators exist once minimize and the startup program have run, not before",
            BUILD_EXACT,
        )
    ]
