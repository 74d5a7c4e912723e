"""Pairwise covering arrays: few rows in which every two values of every two axes meet.

A greedy construction of our own (the one of AETG, Cohen et al., 1997, without its random restarts), because the
maintained library for it, allpairspy 2.5, leaves allowed pairs uncovered when it is given a condition.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = dict[str, Any]
Pair = tuple[tuple[str, Any], tuple[str, Any]]


def pairwise(axes: Mapping[str, Sequence[Any]], allowed: Callable[[Row], bool]) -> list[Row]:
    """Return rows that cover every pair of values that some allowed row has; the same rows every time.

    Args:
        axes: values of each axis; values must be hashable, and equal values of one axis are one value.
        allowed: whether a row may be; it is asked about incomplete rows too and must not refuse what can be completed.
    """
    order = {name: i for i, name in enumerate(axes)}
    missing: dict[Pair, None] = {
        ((a, x), (b, y)): None for a, b in itertools.combinations(axes, 2) for x in axes[a] for y in axes[b]
    }
    rows: list[Row] = []
    while missing:
        seed = next(iter(missing))
        row = _completed(dict(seed), axes, allowed, missing) if allowed(dict(seed)) else None
        if row is None:  # no allowed row has this pair
            del missing[seed]
            continue
        rows.append({name: row[name] for name in order})
        for pair in itertools.combinations(rows[-1].items(), 2):
            missing.pop(pair, None)
    return rows


def _completed(
    row: Row, axes: Mapping[str, Sequence[Any]], allowed: Callable[[Row], bool], missing: Mapping[Pair, None]
) -> Row | None:
    """Return the row with the remaining axes filled in, each by the value that covers most, or None if none fits."""
    open_axes = [name for name in axes if name not in row]
    if not open_axes:
        return row
    name = open_axes[0]
    fitting = [value for value in axes[name] if allowed({**row, name: value})]
    for value in sorted(fitting, key=lambda value: -_gain(row, name, value, axes, missing)):
        done = _completed({**row, name: value}, axes, allowed, missing)
        if done is not None:
            return done
    return None


def _gain(row: Row, name: str, value: Any, axes: Mapping[str, Sequence[Any]], missing: Mapping[Pair, None]) -> int:
    """Return how many missing pairs the value would cover with what the row has already."""
    order = list(axes)
    pairs = (
        ((other, row[other]), (name, value))
        if order.index(other) < order.index(name)
        else ((name, value), (other, row[other]))
        for other in row
    )
    return sum(pair in missing for pair in pairs)
