"""A config in the fewest words: what is said of single parameters can be said in many ways that mean the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from unirms.clipping import Clip, ClipByGlobalNorm
from unirms.config import ParameterGroup, RMSPropConfig

EVERY: Final = "*"
"""The pattern that matches every name."""


def simplest(config: RMSPropConfig, *, apart: bool = False, rates: bool = True) -> RMSPropConfig:
    """Return the config that means the same and says the least of single parameters.

    A decay from which all are exempt is none. A group for all parameters is the config itself. Groups that no parameter
    reaches, a group's values that are the config's, and groups at the end that say nothing are left out.

    Args:
        config: the config.
        apart: whether groups are kept apart although they say the same, because a norm is over each.
        rates: whether the factors of groups become rates where the config has one; not beside a schedule, whose factors
            can be nothing else.
    """
    if EVERY in config.no_weight_decay:
        config = config.replace(weight_decay=0.0)
    if not config.groups:
        return config
    if rates and config.has_constant_rate:
        config = config.replace(learning_rate=config.initial_learning_rate)
    groups = _reached(config.groups)
    if EVERY in groups[0].match:
        return config.for_group(groups[0])
    if all(group.clip is not None for group in groups):  # each is measured by itself, and so are all others
        config = config.replace(clip=measured_over(config.clip, "group"))
    apart = apart or measures_groups(config)
    groups = _joined([_without_repeats(config, group, rates) for group in groups], apart)
    while groups and _says_nothing(groups[-1]) and not apart:
        groups.pop()
    return config.replace(groups=tuple(groups))


def measured_over(clips: tuple[Clip, ...], over: Literal["all", "group"]) -> tuple[Clip, ...]:
    """Return clips whose global norms are over all parameters, or over each group."""
    return tuple(clip.model_copy(update={"over": over}) if _is_global(clip) else clip for clip in clips)


def _reached(groups: tuple[ParameterGroup, ...]) -> list[ParameterGroup]:
    """Return the groups with the patterns, sorted, that groups before them have not; without those that have none."""
    found: list[ParameterGroup] = []
    taken: set[str] = set()
    for group in groups:
        left = {EVERY} if EVERY in group.match else set(group.match) - taken
        if left and EVERY not in taken:
            found.append(group.model_copy(update={"match": tuple(sorted(left))}))
        taken |= left
    return found


def _without_repeats(config: RMSPropConfig, group: ParameterGroup, rates: bool) -> ParameterGroup:
    """Return the group without the values that hold for its parameters anyway, or move nothing at a rate of 0."""
    rate = _rate(config, group, rates)
    values = {name: value for name, value in group.overrides().items() if name not in {"clip", "learning_rate"}}
    repeats = {name for name, value in values.items() if value == getattr(config, name) or 0 in rate.values()}
    if group.weight_decay and config.no_weight_decay and 0 not in rate.values():
        repeats.discard("weight_decay")  # said of the group, it holds for the exempt, too
    if group.clip is not None and _same_clip(group.clip, config.clip):
        repeats.add("clip")
    return group.model_copy(update={**dict.fromkeys(repeats), **rate})


def _rate(config: RMSPropConfig, group: ParameterGroup, rates: bool) -> dict[str, float | None]:
    """Return the group's rate where the config has one, and its factor of a schedule; none where it is the config's."""
    base, rate, factor = config.learning_rate, group.learning_rate, group.learning_rate_factor
    if rates and isinstance(base, float) and factor is not None:
        rate, factor = base * factor, None
    return {"learning_rate": None if rate == base else rate, "learning_rate_factor": None if factor == 1 else factor}


def _same_clip(own: tuple[Clip, ...], clips: tuple[Clip, ...]) -> bool:
    """Return whether clips of a group do what the config's would: a norm of its own is one over each group."""
    return measured_over(own, "group") == clips


def _joined(groups: Iterable[ParameterGroup], apart: bool) -> list[ParameterGroup]:
    """Return the groups with neighbours that say the same in one, unless each has a norm of its own."""
    found: list[ParameterGroup] = []
    for group in groups:
        alone = apart if group.clip is None else any(map(_is_global, group.clip))
        same = bool(found) and found[-1].model_copy(update={"match": group.match}) == group
        before = found.pop().match if same and not alone else ()
        found.append(group.model_copy(update={"match": tuple(sorted({*before, *group.match}))}))
    return found


def measures_groups(config: RMSPropConfig) -> bool:
    """Return whether a global norm of the config is over each group."""
    return any(isinstance(clip, ClipByGlobalNorm) and clip.over == "group" for clip in config.clip)


def _says_nothing(group: ParameterGroup) -> bool:
    return group == ParameterGroup(match=group.match)


def _is_global(clip: Clip) -> bool:
    return isinstance(clip, ClipByGlobalNorm)
