"""A config, or a translation, in plain sentences and in the formula that it computes.

A formula has only the lines that act: whether a field acts is asked of `unirms.semantics.AXES`, so that two configs
have the same formula exactly where they are equivalent.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from unirms import dialects
from unirms.clipping import Clip, ClipByGlobalNorm, ClipByNorm, ClipByValue
from unirms.config import ParameterGroup, RMSPropConfig
from unirms.schedules import AnySchedule, Plateau
from unirms.semantics import AXES, BUILD_ELSEWHERE, BUILD_EXACT, Difference, Fidelity, verdict

if TYPE_CHECKING:
    from unirms.dialects.groups import NativeGroup
    from unirms.translation import Native

WIDTH: Final = 100
_MATTERS: Final[dict[str, Callable[[RMSPropConfig], bool]]] = {axis.field: axis.matters for axis in AXES}


def formula(config: RMSPropConfig) -> list[str]:
    """Return the update of one tensor, a line for each assignment, in the config's own numbers.

    `g` is the gradient, `w` the weight, `v` the mean square, `a` the mean gradient, `m` or `b` the momentum buffer
    with or without the learning rate in it, `t` the number of the step from 1. Lines that change nothing are left
    out. Parameter groups follow, each with its own lines.
    """
    lines = _lines(config)
    for group in config.groups:
        lines += [f"parameters named {_names(group.match)}:"]
        lines += [f"    {line}" for line in _lines(config.for_group(group))]
    return lines


def explain(native: Native) -> str:
    """Return in plain sentences what the target computes, what was asked for, and what to do about it.

    Lines have at most 100 columns.
    """
    lines = wrapped(verdict_sentence(native.target, "this config", native.differences))
    lines += ["", "Wanted:", *_formula_lines(native.wanted)]
    if native.differences:
        lines += ["", *wrapped(f"What {native.target} computes:"), *_formula_lines(native.meaning)]
        lines += ["", "Differences:", *_items(sentence(difference) for difference in native.differences)]
    if native.groups:
        lines += ["", "Its parameter groups:", *_items(_told(group) for group in native.groups)]
    if native.warnings:
        lines += ["", "Warnings:", *_items(str(warning) for warning in native.warnings)]
    lines += ["", "What to do:", *_items(_advice(native))]
    return "\n".join(lines)


def explain_config(config: RMSPropConfig) -> str:
    """Return in plain sentences what a config computes, and which stock classes compute it; at most 100 columns."""
    found: dict[str, list[str]] = {}
    for dialect in dialects.all_dialects():
        native = config.to_native(dialect)
        seeded = native.needs_seeding and native.fidelity is Fidelity.CONSTANT_LR
        found.setdefault(f"{native.fidelity}{', seeded' if seeded else ''}", []).append(dialect)
    order = [word for fidelity in Fidelity for word in (str(fidelity), f"{fidelity}, seeded") if word in found]
    lines = ["The update of one tensor:", *_formula_lines(config), "", "What the stock classes make of it:"]
    return "\n".join([*lines, *_items(f"{word}: {', '.join(found[word])}" for word in order)])


def verdict_sentence(one: str, other: str, found: tuple[Difference, ...]) -> str:
    """Return what the differences between two come to: whether `one` computes `other`, and on what conditions."""
    fidelity = verdict(found)
    if fidelity is Fidelity.APPROXIMATE:
        return f"{one} cannot compute {other}: {fidelity}."
    seeded = any(difference.fidelity is Fidelity.SEEDED for difference in found)
    conditions = ["the mean square is filled in before the first step"] * seeded
    conditions += ["the learning rate stays constant"] * (fidelity is Fidelity.CONSTANT_LR)
    if conditions:
        return f"{one} computes {other} if {' and '.join(conditions)}: {fidelity}."
    return f"{one} computes {other}{', but for an edge case' if found else ''}: {fidelity}."


def shown(value: Any) -> str:
    """Return the value of a config's field in words."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, AnySchedule):
        return _stated_schedule(value)
    if isinstance(value, tuple):
        return ", ".join(_item(item) for item in value) or "none"
    return str(value)


def own_settings(group: ParameterGroup) -> str:
    """Return what a group of a config says, in words."""
    own = {name: getattr(group, name) for name in type(group).model_fields if name != "match"}
    return ", ".join(f"{name} {shown(value)}" for name, value in own.items() if value is not None)


def wrapped(text: str, indent: str = "", hanging: str | None = None) -> list[str]:
    """Return the lines of a text, at most 100 columns wide; `hanging` starts all lines but the first."""
    rest = indent if hanging is None else hanging
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=rest, break_on_hyphens=False)


def _lines(config: RMSPropConfig) -> list[str]:
    """Return the formula without groups, in the order of the docstring of `unirms.config`."""
    return [
        *_schedule(config),
        *_gradient(config),
        *_decay(config),
        *_means(config),
        *_denominator(config),
        *_step(config),
        *_average(config),
    ]


def _gradient(config: RMSPropConfig) -> Iterator[str]:
    if config.loss_scale != 1 and _acts(config, "loss_scale"):
        yield f"g = g / {_number(config.loss_scale)}"
    if config.gradient_accumulation_steps > 1:
        yield f"g = the mean of {config.gradient_accumulation_steps} gradients, and one update after the last"
    if config.non_finite != "propagate":
        result = "an error" if config.non_finite == "raise" else "no update"
        yield f"an infinity or NaN in any g: {result}"
    if config.sparse == "lazy":
        yield "a sparse g: only its rows of w and of the means decay and move"
    if config.maximize:
        yield "g = −g"
    if config.gradient_centralization != "none":
        kept = config.gradient_centralization.removesuffix("_axis")
        yield f"g = g − mean(g)   (for tensors of rank > 1, over all axes but the {kept})"
    for clip in config.clip if _acts(config, "clip") else ():
        yield _clip(clip)


def _clip(clip: Clip) -> str:
    if isinstance(clip, ClipByValue):
        return f"g = g limited to −{_number(clip.limit)} … {_number(clip.limit)}"
    norm = f"(norm + {_number(clip.eps)})" if clip.eps else "norm"
    return f"g = g · min(1, {_number(clip.max_norm)} / {norm})   (norm of the {_measured(clip)})"


def _measured(clip: ClipByNorm | ClipByGlobalNorm) -> str:
    if isinstance(clip, ClipByNorm):
        return "tensor"
    return "gradients of all tensors" if clip.over == "all" else "gradients of the tensors of a group"


def _decay(config: RMSPropConfig) -> Iterator[str]:
    if config.weight_decay == 0:
        return
    decay, rate = _number(config.weight_decay), _rate(config)
    exempt = f"   (not for parameters named {_names(config.no_weight_decay)})" if config.no_weight_decay else ""
    added = {"l2": "w", "l1": "sign(w)"}.get(config.weight_decay_mode)
    yield f"g = g + {decay} {added}{exempt}" if added else f"w = w − {rate} · {decay} w{exempt}"


def _means(config: RMSPropConfig) -> Iterator[str]:
    start = _number(config.initial_mean_square)
    if config.rho == 1:
        yield f"v = {start}   (it stays where it starts)"
        return
    starts = f"   (v starts at {start})" if _acts(config, "initial_mean_square") else ""
    yield f"v = {_mean(config, 'v', 'g²')}{starts}"
    if config.centered:
        yield f"a = {_mean(config, 'a', 'g')}"


def _denominator(config: RMSPropConfig) -> Iterator[str]:
    square, mean, variance = "v", "a", "v"
    if config.bias_correction and _acts(config, "bias_correction"):
        yield f"c = 1 − {_number(config.rho)}^t   (t is 1 at the first step)"
        square, mean, variance = "v / c", "(a / c)", "v / c"
    if config.centered:
        variance = f"{square} − {mean}²" if _acts(config, "centered") else square
        variance = f"max({variance}, 0)" if config.negative_variance == "clamp" else variance
    if variance != "v":
        yield f"d = {variance}"
        variance = "d"
    if config.epsilon == 0:
        yield f"den = √{variance}"
    elif config.epsilon_placement == "inside_sqrt":
        yield f"den = √({variance} + {_number(config.epsilon)})"
    else:
        yield f"den = √{variance} + {_number(config.epsilon)}"


def _step(config: RMSPropConfig) -> Iterator[str]:
    scaled = f"{_factor(_rate(config), 'g')} / den"
    buffer = ""
    if config.momentum == 0:
        yield f"w = w − {scaled}"
    else:
        buffer, rate, update = ("m", "1", scaled) if config.lr_in_momentum else ("b", _rate(config), "g / den")
        mixed = f"{_times(config.momentum, buffer)} + {update}"
        yield f"{buffer} = {mixed}"
        ahead = f"({mixed})" if config.nesterov else buffer
        yield f"w = w − {_factor(rate, ahead)}"
    if config.centered and config.negative_variance == "skip":
        kept = f"w and {buffer} stay" if buffer else "w stays"
        yield f"where den is not > 0, {kept}"


def _average(config: RMSPropConfig) -> Iterator[str]:
    if config.ema_decay > 0:
        rest = float(1 - Decimal(repr(config.ema_decay)))
        mean = f"{_times(config.ema_decay, 'average')} + {_times(rest, 'w')}"
        first = f"{config.ema_start + 1} updates" if config.ema_start else "update"
        yield f"average = {mean}   (w itself after the first {first})"


def _acts(config: RMSPropConfig, field: str) -> bool:
    return _MATTERS[field](config)


def _mean(config: RMSPropConfig, mean: str, new: str) -> str:
    """Return the running mean in decimals: 1 - 0.99 is 0.01, not 0.010000000000000009."""
    if config.rho == 0:
        return new
    rest = float(1 - Decimal(repr(config.rho)))
    return f"{_times(config.rho, mean)} + {_times(rest, new)}"


def _times(factor: float, symbol: str) -> str:
    return _factor(_number(factor), symbol)


def _factor(factor: str, symbol: str) -> str:
    return symbol if factor == "1" else f"{factor} {symbol}"


def _rate(config: RMSPropConfig) -> str:
    """Return the learning rate as a factor: a number, or `lr` where a line of its own says how it changes."""
    return _number(config.initial_learning_rate) if config.has_constant_rate else "lr"


def _stated_schedule(schedule: Any) -> str:
    """Return a schedule as a function of t, its fields by their names."""
    fields = {name: getattr(schedule, name) for name in type(schedule).model_fields if name != "kind"}
    stated = ", ".join(f"{name}={_stated(value)}" for name, value in fields.items() if value is not None)
    return f"{schedule.kind}({'metrics' if isinstance(schedule, Plateau) else 't'}; {stated})"


def _stated(value: Any) -> str:
    if isinstance(value, AnySchedule):
        return _stated_schedule(value)
    return f"[{', '.join(map(_stated, value))}]" if isinstance(value, tuple) else shown(value)


def _schedule(config: RMSPropConfig) -> Iterator[str]:
    rate = config.learning_rate
    if isinstance(rate, Plateau) and not config.has_constant_rate:
        bad = "1 metric that is" if rate.patience == 0 else f"{rate.patience + 1} metrics in a row that are"
        reduced = f"lr = max({_times(rate.factor, 'lr')}, {_number(rate.min_learning_rate)}) after {bad} no improvement"
        yield f"lr = {_stated_schedule(rate)}   (it starts at {_number(rate.initial)}; {reduced})"
    elif not config.has_constant_rate:
        stated = _stated_schedule(rate)
        yield f"lr = {stated}   (t counts the completed updates: 0 at the first step)"


def _number(value: float) -> str:
    return repr(value).removesuffix(".0")


def _names(patterns: Iterable[str]) -> str:
    return " or ".join(patterns)


def _formula_lines(config: RMSPropConfig) -> list[str]:
    return [line for text in formula(config) for line in _formula_line(text)]


def _formula_line(text: str) -> list[str]:
    indent = "    " + " " * (len(text) - len(text.lstrip()))
    return wrapped(text.lstrip(), indent, indent + "    ")


def _items(texts: Iterable[str]) -> list[str]:
    return [line for text in texts for line in wrapped(text, "  - ", "    ")]


def _item(item: Any) -> str:
    if isinstance(item, ClipByValue):
        return f"by value to {_number(item.limit)}"
    if isinstance(item, ClipByNorm | ClipByGlobalNorm):
        kind = "norm" if isinstance(item, ClipByNorm) else "global norm"
        group = " of each group" if isinstance(item, ClipByGlobalNorm) and item.over == "group" else ""
        eps = f" with eps {_number(item.eps)}" if item.eps else ""
        return f"by {kind}{group} to {_number(item.max_norm)}{eps}"
    if isinstance(item, ParameterGroup):
        return f"{_names(item.match)} ({own_settings(item) or 'nothing of its own'})"
    return str(item)


def in_native_words(group: NativeGroup) -> str:
    """Return what the class is told of a group, by the keys of its groups."""
    return ", ".join(f"{name}={value!r}" for name, value in group.settings.items())


def _told(group: NativeGroup) -> str:
    return f"parameters named {_names(group.match)}: {in_native_words(group) or 'nothing of their own'}"


def sentence(difference: Difference) -> str:
    """Return what the target does instead, what comes of it, and what helps short of another optimizer."""
    text = f"{difference.axis} is {shown(difference.actual)} instead of {shown(difference.wanted)}:"
    text += f" {difference.consequence}."
    remedy = difference.remedy.removesuffix(BUILD_ELSEWHERE).removesuffix(BUILD_EXACT).removesuffix(", or ")
    return f"{text} Remedy: {remedy}." if remedy else text


def _advice(native: Native) -> Iterator[str]:
    with_seeding = ", with the lines that fill in the mean square" if native.needs_seeding else ""
    if native.fidelity is Fidelity.APPROXIMATE:
        yield exact_optimizer(native, "Use")
        yield f"native.code() shows the nearest call{with_seeding}."
        return
    start = _number(native.wanted.initial_mean_square)
    steps = [f"fill in the mean square with {start} before the first step"] * native.needs_seeding
    steps += ["keep the learning rate constant"] * (native.fidelity is Fidelity.CONSTANT_LR)
    yield f"{native.target} is enough{': ' if steps else ''}{' and '.join(steps)}."
    yield f"native.code() shows the call{with_seeding}."
    if native.fidelity is Fidelity.CONSTANT_LR:
        yield exact_optimizer(native, "Where the rate changes, use")


def exact_optimizer(native: Native, use: str) -> str:
    """Return the sentence that names unirms's own optimizer for the target's framework, or says that there is none."""
    framework = dialects.get(native.dialect).framework
    if not framework:
        return f"unirms has no exact optimizer for {native.dialect}; {BUILD_ELSEWHERE}."
    return f'{use} unirms.build(config, "{framework}", model, policy="exact"), which computes this config.'
