"""Clips in other words: the fewest that do the same, and what a global norm is over."""

from __future__ import annotations

from typing import Literal

from unirms.clipping import Clip, ClipByValue
from unirms.config import RMSPropConfig
from unirms.simplest.parts import is_global


def with_fewest_clips(config: RMSPropConfig) -> RMSPropConfig:
    """Return the config with the smallest of limits by value that follow one another, its groups likewise."""
    if all(len(clips or ()) < 2 for clips in (config.clip, *(group.clip for group in config.groups))):
        return config
    groups = tuple(group.model_copy(update={"clip": _fewest(group.clip)}) for group in config.groups)
    return config.replace(clip=_fewest(config.clip), groups=groups)


def _fewest(clips: tuple[Clip, ...] | None) -> tuple[Clip, ...] | None:
    found: list[Clip] = []
    for clip in clips or ():
        last = found[-1] if found else None
        if isinstance(last, ClipByValue) and isinstance(clip, ClipByValue):
            found[-1] = min(last, clip, key=lambda one: one.limit)
        else:
            found.append(clip)
    return None if clips is None else tuple(found)


def measured_over(clips: tuple[Clip, ...], over: Literal["all", "group"]) -> tuple[Clip, ...]:
    """Return clips whose global norms are over all parameters, or over each group."""
    return tuple(clip.model_copy(update={"over": over}) if is_global(clip) else clip for clip in clips)
