"""A config in the fewest words: what is said of single parameters can be said in many ways that mean the same.

The groups of a config are taken apart into one for each pattern, each says all that holds for its parameters, and what
can be left out again is left out. Two configs whose simplest forms are equal mean the same for every model. The
converse does not hold for all patterns: of two globs nobody knows whether a name matches both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from unirms.clipping import ClipByGlobalNorm
from unirms.config import ParameterGroup, RMSPropConfig
from unirms.names import EVERY, covers, is_literal, uncovered
from unirms.simplest.clips import measured_over, with_fewest_clips
from unirms.simplest.decay import exempted, inherited_decays, with_decay
from unirms.simplest.order import needed
from unirms.simplest.parts import STILL, is_still, is_whole, says, share_nothing

VALUES: Final = ("rho", "epsilon", "momentum", "centered")
"""What a group inherits from its config whatever its parameters are called."""


def simplest(config: RMSPropConfig, *, exempting: bool = False, rates: bool = True) -> RMSPropConfig:
    """Return the config that means the same and says the least of single parameters.

    A decay from which all are exempt is none; of limits by value in a row the smallest counts. A group for all other
    parameters is the config itself. Groups that no parameter reaches, and values that hold anyway, are left out; groups
    stand by name where their order is nothing.

    Args:
        config: the config.
        exempting: whether names without a decay of their own are written as exempt from the config's.
        rates: whether the factors of groups become rates where the config has one; not beside a schedule, whose factors
            can be nothing else.
    """
    config = with_fewest_clips(config)
    config = config.replace(no_weight_decay=uncovered(config.no_weight_decay))
    if EVERY in config.no_weight_decay:
        config = config.replace(weight_decay=0.0)
    if rates and config.groups and config.has_constant_rate:
        config = config.replace(learning_rate=config.initial_learning_rate)
    for _ in range(len(config.groups)):
        given, config = config, _simpler(config, exempting, rates) if config.groups else config
        if config == given or not _is_joint(config):
            break  # only where a group was left out, and a norm is left to one, is there more to do
    return config


def _simpler(config: RMSPropConfig, exempting: bool, rates: bool) -> RMSPropConfig:
    config, rated = _measured(config, [_rated(config, group, rates) for group in _reached(config.groups)])
    groups = [part for group in rated for part in _parts(_spelt_out(config, group))]
    groups = needed(with_decay(config, groups))
    config = _handed_over(config, groups) if EVERY in groups[-1].match else config
    config = exempted(config, groups) if exempting else config
    groups = needed(_without_repeats(config, groups), measures_groups(config))
    if len(groups) == 1 and EVERY in groups[0].match:
        return config.for_group(groups[0])
    return config.replace(groups=tuple(groups))


def measures_groups(config: RMSPropConfig) -> bool:
    """Return whether a global norm of the config is over each group."""
    return any(isinstance(clip, ClipByGlobalNorm) and clip.over == "group" for clip in config.clip)


def _reached(groups: tuple[ParameterGroup, ...]) -> list[ParameterGroup]:
    """Return the groups with the patterns, sorted, that no pattern before them covers; without those that have none."""
    found: list[ParameterGroup] = []
    names: set[str] = set()  # apart from the globs: a name covers itself alone, and there may be thousands
    globs: list[str] = []
    for group in groups:
        new = (one for one in uncovered(group.match) if one not in names)
        left = sorted(one for one in new if not any(covers(wide, one) for wide in globs))
        if left:
            found.append(group.model_copy(update={"match": tuple(left)}))
        names.update(filter(is_literal, left))
        globs += (one for one in left if not is_literal(one))
    return found


def _rated(config: RMSPropConfig, group: ParameterGroup, rates: bool) -> ParameterGroup:
    """Return the group with its rate where the config has one; with its factor of a schedule, which is no factor of 1.

    Of parameters that never move, nothing but that counts, and their part in the norm of others. With epsilon = 0 they
    do move, to NaN, by 0 * 0/0.
    """
    base, rate, factor = config.learning_rate, group.learning_rate, group.learning_rate_factor
    if 0 in (rate, factor) and (config.epsilon if group.epsilon is None else group.epsilon):
        clip = None if group.clip is None else ()
        return ParameterGroup(match=group.match, learning_rate_factor=0.0, epsilon=STILL, clip=clip)
    if rates and isinstance(base, float):
        rate, factor = base * (1 if factor is None else factor) if rate is None else rate, None
    return group.model_copy(update={"learning_rate": rate, "learning_rate_factor": None if factor == 1 else factor})


def _measured(
    config: RMSPropConfig, groups: Sequence[ParameterGroup]
) -> tuple[RMSPropConfig, Sequence[ParameterGroup]]:
    """Return the config with a norm over each group where that is the same: one group is all that it is over."""
    rest = EVERY not in groups[-1].match
    groups = groups if rest or not _is_joint(config) else _with_one_heir(groups)
    heirs = [group for group in groups if group.clip is None]
    if not rest and all(map(is_still, heirs)):
        return config.replace(clip=()), groups
    alone = len(heirs) + rest == 1
    return config.replace(clip=measured_over(config.clip, "group")) if alone else config, groups


def _with_one_heir(groups: Sequence[ParameterGroup]) -> Sequence[ParameterGroup]:
    """Return the groups with those that inherit their clips in one, if they say the same and no other is in between."""
    heirs = [index for index, group in enumerate(groups) if group.clip is None]
    if len({says(groups[index]) for index in heirs}) != 1:
        return groups
    first, *more = heirs
    between = ((groups[j], groups[i]) for i in more for j in range(first, i) if j not in heirs)
    if not all(share_nothing(one, other) for one, other in between):
        return groups
    match = sorted({pattern for index in heirs for pattern in groups[index].match})
    joined = groups[first].model_copy(update={"match": uncovered(tuple(match))})
    return [joined if i == first else group for i, group in enumerate(groups) if i not in more]


def _is_joint(config: RMSPropConfig) -> bool:
    """Return whether a global norm of the config is over the parameters of several groups."""
    return any(isinstance(clip, ClipByGlobalNorm) and clip.over == "all" for clip in config.clip)


def _spelt_out(config: RMSPropConfig, group: ParameterGroup) -> ParameterGroup:
    """Return the group with all that it inherits, but for what only the config can say: its decay, and a joint norm."""
    own = group.clip
    if own is None and not _is_joint(config):
        own = () if is_still(group) else measured_over(config.clip, "all")
    if is_still(group):
        return group.model_copy(update={"clip": own})
    inherited = {name: getattr(config, name) for name in VALUES if getattr(group, name) is None}
    return group.model_copy(update={**inherited, "clip": None if own is None else measured_over(own, "all")})


def _parts(group: ParameterGroup) -> list[ParameterGroup]:
    """Return the group for each of its patterns."""
    if is_whole(group):
        return [group]
    return [group.model_copy(update={"match": (pattern,)}) for pattern in group.match]


def _handed_over(config: RMSPropConfig, groups: Sequence[ParameterGroup]) -> RMSPropConfig:
    """Return the config with the values of the last group, which is for all parameters that no other group has.

    Nobody but groups has the config's own values then. If the last one never moves, they are those of the first that
    does; what a group cannot spell out stays with the config.
    """
    donors = [group for group in (groups[-1], *groups) if not is_still(group)]
    if not donors:
        return config
    values: dict[str, Any] = {name: getattr(donors[0], name) for name in VALUES}
    if config.nesterov:
        values["momentum"] = next((group.momentum for group in donors if group.momentum), 0.0)
        values["nesterov"] = values["momentum"] > 0
    if all(group.learning_rate is not None for group in donors):
        values["learning_rate"] = donors[0].learning_rate
    if all(group.weight_decay is not None for group in donors):
        values |= {"weight_decay": donors[0].weight_decay, "no_weight_decay": ()}
    if all(group.clip is not None for group in groups):
        values["clip"] = measured_over(donors[0].clip or (), "group")
    return config.replace(**values)


def _without_repeats(config: RMSPropConfig, groups: Sequence[ParameterGroup]) -> list[ParameterGroup]:
    """Return the groups without the values that hold for their parameters anyway."""
    decays = zip(groups, inherited_decays(config, groups), strict=True)
    return [group.model_copy(update=_repeats(config, group, decay)) for group, decay in decays]


def _repeats(config: RMSPropConfig, group: ParameterGroup, decay: float | None) -> dict[str, None]:
    """Return the values of a group, as nothing, that hold for its parameters anyway."""
    if is_still(group):
        return {} if _is_joint(config) else {"clip": None}
    repeats = [name for name in (*VALUES, "learning_rate") if getattr(group, name) == getattr(config, name)]
    if group.weight_decay == decay:
        repeats.append("weight_decay")
    if group.clip is not None and measured_over(group.clip, "group") == config.clip:
        repeats.append("clip")
    return dict.fromkeys(repeats)
