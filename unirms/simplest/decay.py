"""The decay of the parameters of a group: its own, or the config's, unless their names are exempt."""

from __future__ import annotations

from collections.abc import Sequence

from unirms.config import ParameterGroup, RMSPropConfig
from unirms.names import EVERY, is_literal, matches
from unirms.simplest.parts import is_still


def with_decay(config: RMSPropConfig, groups: Sequence[ParameterGroup]) -> list[ParameterGroup]:
    """Return the groups with the decay that they inherit, unless that depends on names which are not known."""
    decays = zip(groups, inherited_decays(config, groups), strict=True)
    return [
        group if is_still(group) or group.weight_decay is not None else group.model_copy(update={"weight_decay": decay})
        for group, decay in decays
    ]


def inherited_decays(config: RMSPropConfig, groups: Sequence[ParameterGroup]) -> list[float | None]:
    """Return the decay of all parameters of each group without one of its own; None where only their names would tell.

    A name that is exempt is so in the first group that matches it.
    """
    if config.weight_decay == 0 or not config.no_weight_decay:
        return [config.weight_decay] * len(groups)
    owners = {name: _owner(name, groups) for name in config.no_weight_decay if is_literal(name)}
    return [
        _decay(config, group.match, [one for one in config.no_weight_decay if owners.get(one, index) == index])
        for index, group in enumerate(groups)
    ]


def _decay(config: RMSPropConfig, patterns: Sequence[str], exempt: Sequence[str]) -> float | None:
    """Return the decay of the parameters of some patterns, beside those that are exempt."""
    if not exempt:
        return config.weight_decay
    if not all(map(is_literal, patterns)):
        return None
    found = {0.0 if matches(name, exempt) else config.weight_decay for name in patterns}
    return found.pop() if len(found) == 1 else None


def _owner(name: str, groups: Sequence[ParameterGroup]) -> int | None:
    return next((index for index, group in enumerate(groups) if matches(name, group.match)), None)


def exempted(config: RMSPropConfig, groups: Sequence[ParameterGroup]) -> RMSPropConfig:
    """Return the config that exempts the names of groups without a decay, and none that has a decay of its own."""
    if config.weight_decay == 0:
        return config.replace(no_weight_decay=())
    if EVERY in groups[-1].match and all(map(is_still, groups)):
        return config

    def is_settled(pattern: str) -> bool:
        owner = _owner(pattern, groups) if is_literal(pattern) else None
        return owner is not None and (is_still(groups[owner]) or groups[owner].weight_decay is not None)

    kept = [pattern for pattern in config.no_weight_decay if not is_settled(pattern)]
    free = [name for group in groups if group.weight_decay == 0 for name in group.match if is_literal(name)]
    return config.replace(no_weight_decay=(*kept, *(name for name in free if not matches(name, kept))))
