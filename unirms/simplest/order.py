"""Which groups are needed, and the order in which they stand by their patterns."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

from unirms.config import ParameterGroup
from unirms.names import EVERY, covers
from unirms.simplest.parts import has_names, is_whole, says, share_nothing


def needed(groups: Sequence[ParameterGroup], apart: bool = False) -> list[ParameterGroup]:
    """Return the groups, in order, without those whose parameters have the same in a later one, or in none."""
    found: list[ParameterGroup] = []
    globs: list[ParameterGroup] = []
    for group in reversed(groups):
        named = has_names(group)
        if not _is_held_by((globs if named else found)[::-1], group, apart):
            found.append(group)
            globs += [] if named else [group]
    return _in_order(found[::-1], apart)


def _is_held_by(later: Sequence[ParameterGroup], group: ParameterGroup, apart: bool) -> bool:
    nothing = not any(value is not None for value in says(group))
    if not later and EVERY in group.match:
        return nothing
    if is_whole(group, apart):
        return False
    for other in later:
        if share_nothing(group, other):
            continue
        if is_whole(other, apart) or says(other) != says(group):
            return False
        if all(any(covers(wide, one) for wide in other.match) for one in group.match):
            return True
    return nothing


def _in_order(groups: Sequence[ParameterGroup], apart: bool) -> list[ParameterGroup]:
    """Return the groups by their patterns, as far as it does not matter which of them comes first."""
    after: list[list[int]] = [[] for _ in groups]
    before = [0] * len(groups)
    names = [has_names(group) for group in groups]
    for first, second in _pairs(names):
        if not _commute(groups[first], groups[second], apart):
            after[first].append(second)
            before[second] += 1
    ready = [(group.match, index) for index, group in enumerate(groups) if not before[index]]
    heapq.heapify(ready)
    found = []
    while ready:
        _, index = heapq.heappop(ready)
        found.append(groups[index])
        for later in after[index]:
            before[later] -= 1
            if not before[later]:
                heapq.heappush(ready, (groups[later].match, later))
    return found


def _pairs(names: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Yield the indices of the groups that may have parameters in common: one of two is for more than names."""
    globs = [index for index, name in enumerate(names) if not name]
    for second, name in enumerate(names):
        yield from ((first, second) for first in (globs if name else range(second)) if first < second)


def _commute(one: ParameterGroup, other: ParameterGroup, apart: bool) -> bool:
    if EVERY in other.match:
        return False
    alike = says(one) == says(other) and not is_whole(one, apart) and not is_whole(other, apart)
    return alike or share_nothing(one, other)
