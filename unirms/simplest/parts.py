"""What is asked of a group: whether its parameters move, stay together, and may be those of another group, too."""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from unirms.clipping import Clip, ClipByGlobalNorm
from unirms.config import ParameterGroup
from unirms.names import are_disjoint, is_literal

STILL: Final = 1.0
"""The epsilon of parameters that never move, whatever it was given as."""
says = attrgetter(*(name for name in ParameterGroup.model_fields if name != "match"))
"""Return the values of a group."""


def is_still(group: ParameterGroup) -> bool:
    """Return whether the parameters of a group that has its rate never move."""
    return group.learning_rate_factor == 0 and bool(group.epsilon)


def is_whole(group: ParameterGroup, apart: bool = False) -> bool:
    """Return whether a norm is over this very group, so that its parameters stay together and apart from others.

    Args:
        group: the group.
        apart: whether the norm that it inherits, if it does, is over each group.
    """
    return not is_still(group) and (apart if group.clip is None else any(map(is_global, group.clip)))


def has_names(group: ParameterGroup) -> bool:
    """Return whether a group is for names alone. The names of two groups differ, once all groups are reached."""
    return all(map(is_literal, group.match))


def share_nothing(one: ParameterGroup, other: ParameterGroup) -> bool:
    """Return whether it is known that no parameter matches both groups."""
    return all(are_disjoint(a, b) for a in one.match for b in other.match)


def is_global(clip: Clip) -> bool:
    """Return whether a clip is by a norm over several parameters."""
    return isinstance(clip, ClipByGlobalNorm)
