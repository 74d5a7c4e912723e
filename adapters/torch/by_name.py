"""State dictionaries are loaded by the names of the parameters where both sides have the same ones.

PyTorch loads by position (`Optimizer.load_state_dict`, 2.13), also where the names that it keeps (``param_names``) are
in another order: each parameter then has the state of another, without an error where the shapes are equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any


def in_own_order(optimizer: Any, state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dictionary with the parameters of each group in the order of the optimizer's.

    It stays as it is where names are missing, or are others: a model may have got a prefix since. Also a hook, see
    `torch.optim.Optimizer.register_load_state_dict_pre_hook`.

    Raises:
        ValueError: the parameters are the same, and are in other groups.
    """
    saved, own = state_dict["param_groups"], optimizer.param_groups
    theirs, ours = _names(saved), _names(own)
    if theirs is None or ours is None or Counter(chain(*theirs)) != Counter(chain(*ours)):
        return dict(state_dict)
    if [set(group) for group in theirs] != [set(group) for group in ours]:
        raise ValueError("the parameters have the names of this optimizer's, and are in other groups")
    return {**state_dict, "param_groups": [_ordered(*pair) for pair in zip(saved, ours, strict=True)]}


def _names(groups: Sequence[Mapping[str, Any]]) -> list[list[str]] | None:
    """Return the names of the parameters of each group; None where a parameter has none, or two have the same."""
    found = [list(group.get("param_names") or ()) for group in groups]
    complete = all(len(names) == len(group["params"]) for names, group in zip(found, groups, strict=True))
    return found if complete and len(set(chain(*found))) == sum(map(len, found)) else None


def _ordered(group: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any]:
    """Return a group with its parameters in the order of these names."""
    if not names:
        return group
    of = dict(zip(group["param_names"], group["params"], strict=True))
    return {**group, "params": [of[name] for name in names], "param_names": list(names)}
