"""Parameter groups in the words of one class: written with a config, and read beside the class's own settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unirms.clipping import ClipByGlobalNorm
from unirms.config import ParameterGroup, RMSPropConfig
from unirms.dialects.base import Dialect
from unirms.dialects.calls import NativeCall


@dataclass(frozen=True)
class NativeGroup:
    """A group of a config in the words of one class.

    Attributes:
        match: the name patterns of its parameters; the first group that matches a name has it.
        settings: what the class has to be told for these parameters alone, by the keys of its groups. It is empty
            where they follow the optimizer's own arguments: because they shall, or because no key says otherwise.
    """

    match: tuple[str, ...]
    settings: dict[str, Any]


def write(dialect: Dialect, config: RMSPropConfig) -> tuple[NativeGroup, ...]:
    """Return the groups of a config, in order; none where the class has no parameter groups."""
    if dialect.behaviour.groups is None:
        return ()
    return tuple(NativeGroup(group.match, _settings(dialect, config, group)) for group in config.groups)


def meaning(
    dialect: Dialect, config: RMSPropConfig, kwargs: Mapping[str, Any], written: Sequence[NativeGroup]
) -> tuple[ParameterGroup, ...]:
    """Return what the groups of a config mean once they are `written`, beside `kwargs` as the class's arguments."""
    if not written:  # the class has none
        return tuple(ParameterGroup(match=group.match) for group in config.groups)
    return tuple(
        _meaning(dialect, wanted, kwargs, group.settings) for wanted, group in zip(config.groups, written, strict=True)
    )


def decay_mode(
    dialect: Dialect, meaning: RMSPropConfig, kwargs: Mapping[str, Any], written: Sequence[NativeGroup]
) -> Any:
    """Return the mode of the weight decay: where groups alone have one, what their objects say."""
    if meaning.weight_decay == 0:
        for group in written:
            found = read(dialect, kwargs, _without_rate(dialect, group.settings))[0]
            if found.weight_decay > 0:
                return found.weight_decay_mode
    return meaning.weight_decay_mode


def clip(dialect: Dialect, config: RMSPropConfig, meaning: RMSPropConfig, written: Sequence[NativeGroup]) -> Any:
    """Return the clips of the `meaning`, with what the class's global norms are over beside these groups.

    A class that measures each of its groups by itself has one for all parameters with equal settings. Where these are
    neither all parameters nor one group of the config, no config says so, and what was not asked for stands for it.
    """
    rules = dialect.behaviour.groups
    if rules is None or not rules.norms_apart:
        return meaning.clip
    kinds = [repr(group.settings) for group in written if not _says(dialect, group.settings, "clip")]
    kinds.append(repr({}))  # the parameters of no group
    if len(set(kinds)) == len(kinds):
        over = "group"
    elif len(set(kinds)) == 1:
        over = "all"
    else:
        asked = {clip.over for clip in config.clip if isinstance(clip, ClipByGlobalNorm)}
        over = "all" if asked == {"group"} else "group"
    return tuple(
        one.model_copy(update={"over": over}) if isinstance(one, ClipByGlobalNorm) else one for one in meaning.clip
    )


def read(dialect: Dialect, settings: Mapping[str, Any], group: Mapping[str, Any]) -> tuple[RMSPropConfig, float | None]:
    """Return what holds for the parameters of a group of the class, and their factor of the optimizer's rate.

    Args:
        dialect: the class.
        settings: its arguments.
        group: the settings of the group, by the keys of groups or by the names of arguments.

    Returns:
        A config without groups, and a factor where the class's groups state one instead of a rate; None otherwise. The
        learning rate of the config is then the optimizer's.

    Raises:
        ConfigError: settings that the class does not take, or that no config can say.
    """
    factors = dialect.behaviour.groups.factors if dialect.behaviour.groups else ()
    keys = dialect.group_keys
    own = {keys.get(key, key): value for key, value in group.items() if key not in factors}
    factor = next((value for key, value in group.items() if key in factors), None)
    return dialect.read({**settings, **own}), factor


def _settings(dialect: Dialect, config: RMSPropConfig, group: ParameterGroup) -> dict[str, Any]:
    rules = dialect.behaviour.groups
    assert rules is not None
    told = {*group.overrides(), *(["learning_rate"] if group.learning_rate_factor is not None else [])}
    kwargs = dialect.write(config.for_group(group))
    found: dict[str, Any] = {}
    for key, name in dialect.group_keys.items():
        fields = dialect.fields_of(name)
        if "learning_rate" in told.intersection(fields):
            rate = _rate(dialect, config, group, kwargs[name], factor=key in rules.factors)
            found |= {} if rate is None else {key: rate}
        elif told.intersection(fields):
            inherits = kwargs[name] is None and key in rules.inherits_none
            found[key] = 0.0 if inherits else kwargs[name]
    return found


def _rate(dialect: Dialect, config: RMSPropConfig, group: ParameterGroup, written: Any, *, factor: bool) -> Any:
    """Return the rate of a group as the class wants it, or None where the class cannot be told.

    `written` is what the class is given as the learning rate of an optimizer for these parameters alone.
    """
    multiple = group.multiple_of(config.initial_learning_rate)
    if factor:
        return multiple
    for_all = dialect.write(config)[_rate_name(dialect)]
    scheduler = dialect.scheduler(config)
    if scheduler is not None and multiple != 1 and dialect.schedulers and not dialect.schedulers.is_relative(scheduler):
        return None
    if isinstance(for_all, NativeCall) and not isinstance(written, NativeCall) and multiple != 0:
        return None
    return None if isinstance(written, NativeCall) and not isinstance(for_all, NativeCall) else written


def _meaning(
    dialect: Dialect, wanted: ParameterGroup, kwargs: Mapping[str, Any], settings: Mapping[str, Any]
) -> ParameterGroup:
    said = {field for key in settings for field in dialect.fields_of(dialect.group_keys[key])}
    kept = wanted.restricted_to(said)
    others = _without_rate(dialect, settings)
    found = read(dialect, kwargs, others)[0]
    values = {field: getattr(found, field) for field in kept.overrides() if field != "learning_rate"}
    if 0 in (kept.learning_rate, kept.learning_rate_factor) and dialect.behaviour.refuses(_rate_name(dialect), "zero"):
        stands_in = next(value for key, value in settings.items() if key not in others)
        values |= {"learning_rate": stands_in, "learning_rate_factor": None}
    return kept.model_copy(update=values)


def _without_rate(dialect: Dialect, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if not _says(dialect, {key: value}, "learning_rate")}


def _rate_name(dialect: Dialect) -> str:
    return dialect.name_of("learning_rate")


def _says(dialect: Dialect, settings: Mapping[str, Any], field: str) -> bool:
    return any(field in dialect.fields_of(dialect.group_keys[key]) for key in settings)
