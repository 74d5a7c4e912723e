"""Which parameters belong together: the groups of a config, and the sets of tensors that a clip scales together.

The reference and every adapter ask here, so that a name falls into the same group everywhere.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from unirms.clipping import ClipByGlobalNorm, ClipByNorm, ClipByValue
from unirms.config import RMSPropConfig
from unirms.errors import UnsupportedError, some
from unirms.names import PRESETS, REGEX_PREFIX, matches
from unirms.schedules import AnySchedule


@dataclass(frozen=True)
class Member:
    """One parameter and what holds for it.

    Attributes:
        name: its name.
        config: what holds for it: no groups, no name patterns.
        group: the index of its group in `config.groups`, or None.
        rate_factor: its learning rate as a multiple of the config's.
    """

    name: str
    config: RMSPropConfig
    group: int | None
    rate_factor: float


def members(config: RMSPropConfig, names: Sequence[str]) -> list[Member]:
    """Return what holds for each of the named parameters, in order.

    Raises:
        UnsupportedError: a group matches none of them, or has a learning rate of its own beside one of 0.
    """
    groups = [config.group_of(name) for name in names]
    for index, group in enumerate(config.groups):
        if index not in groups:
            raise UnsupportedError(
                f"groups.{index} matches no parameter: none of {some(names)} is called {' or '.join(group.match)}"
                f"{' and in no group before it' if index else ''}; correct the pattern, or leave the group out"
            )
    return [
        Member(name, config.for_parameter(name), group, _factor(config, group))
        for name, group in zip(names, groups, strict=True)
    ]


def clip_plan(
    config: RMSPropConfig, names: Iterable[str]
) -> Iterator[tuple[ClipByValue | ClipByNorm | ClipByGlobalNorm, tuple[str, ...]]]:
    """Yield, in order, each clip with the parameters that it holds for; a global norm is that of those together.

    A group's own clips take the place of the config's: its gradients are then no part of the config's global norm.
    """
    group_of = {name: config.group_of(name) for name in names}
    own = {index for index, group in enumerate(config.groups) if group.clip is not None}
    for clips, chosen in [
        (config.clip, [name for name, group in group_of.items() if group not in own]),
        *((config.groups[index].clip or (), [n for n, g in group_of.items() if g == index]) for index in sorted(own)),
    ]:
        for clip in clips:
            apart = isinstance(clip, ClipByGlobalNorm) and clip.over == "group"
            for joint in _split(chosen, group_of) if apart else [chosen]:
                if joint:
                    yield clip, tuple(joint)


def with_rate(config: RMSPropConfig, rate: float | AnySchedule) -> RMSPropConfig:
    """Return the config with the rate, or schedule, that an optimizer has now.

    Where it is another than the config's, a group's own rate becomes the multiple of it that it was.
    """
    if rate == config.initial_learning_rate:
        return config.replace(learning_rate=rate)
    base = config.initial_learning_rate
    groups = tuple(
        group.model_copy(update={"learning_rate": None, "learning_rate_factor": group.multiple_of(base)})
        if group.learning_rate is not None
        else group
        for group in config.groups
    )
    return config.replace(learning_rate=rate, groups=groups)


def renamed(config: RMSPropConfig, pairs: Iterable[tuple[str, str]]) -> RMSPropConfig:
    """Return the config whose name patterns say of the parameters at the target what they say of those at the source.

    Args:
        config: its patterns are for the names at the source.
        pairs: source name and target name of each parameter.
    """
    pairs = list(pairs)
    exempt = config.no_weight_decay
    same = all(
        config.group_of(here) == config.group_of(there) and matches(here, exempt) == matches(there, exempt)
        for here, there in pairs
    )
    if same:
        return config
    members = [
        [there for here, there in pairs if config.group_of(here) == index] for index in range(len(config.groups))
    ]
    return config.replace(
        groups=tuple(
            group.model_copy(update={"match": tuple(_exactly(name) for name in found)})
            for group, found in zip(config.groups, members, strict=True)
            if found
        ),
        no_weight_decay=tuple(_exactly(there) for here, there in pairs if matches(here, exempt)),
    )


def narrowed(config: RMSPropConfig, names: Sequence[str], left: Iterable[str]) -> RMSPropConfig:
    """Return the config for those of the named parameters that are left: without groups that hold for others alone.

    Raises:
        UnsupportedError: a group matches none of the names.
    """
    members(config, names)
    held = {config.group_of(name) for name in left}
    kept = tuple(group for index, group in enumerate(config.groups) if index in held)
    return config if kept == config.groups else config.replace(groups=kept)


def _exactly(name: str) -> str:
    """Return the pattern that matches one name and no other."""
    special = name in PRESETS or name.startswith(REGEX_PREFIX)
    return f"[{name[0]}]{glob.escape(name[1:])}" if special else glob.escape(name)


def _split(names: Sequence[str], group_of: dict[str, int | None]) -> list[list[str]]:
    sets: dict[int | None, list[str]] = {}
    for name in names:
        sets.setdefault(group_of[name], []).append(name)
    return list(sets.values())


def _factor(config: RMSPropConfig, index: int | None) -> float:
    if index is None:
        return 1.0
    group = config.groups[index]
    factor = group.multiple_of(config.initial_learning_rate)
    if factor is None:
        raise UnsupportedError(
            f"groups.{index}.learning_rate={group.learning_rate!r} is no multiple of the config's learning_rate=0.0; "
            "give the config a learning rate > 0, and the other parameters a group with learning_rate_factor=0"
        )
    return factor
