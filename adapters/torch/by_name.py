"""State dictionaries are loaded by the names of the parameters where both sides have the same ones.

PyTorch loads by position (`Optimizer.load_state_dict`, 2.13), also where the names that it keeps (``param_names``) are
in another order: each parameter then has the state of another, without an error where the shapes are equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any


def in_own_order(optimizer: Any, state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dictionary with the parameters of each group in the order of the optimizer's.

    It stays as it is where names are missing, or are others: a model may have got a prefix since. Also a hook, see
    `torch.optim.Optimizer.register_load_state_dict_pre_hook`.

    Raises:
        ValueError: the parameters are the same, and are in other groups.
    """
    saved, own = state_dict["param_groups"], optimizer.param_groups
    names = [[group.get("param_names") or [] for group in side] for side in (own, saved)]
    whole = [
        len(name) == len(group["params"])
        for side, of in zip((own, saved), names, strict=True)
        for group, name in zip(side, of, strict=True)
    ]
    called = [Counter(name for group in side for name in group) for side in names]
    if not all(whole) or called[0] != called[1] or max(called[0].values(), default=1) > 1:
        return dict(state_dict)
    if [set(group) for group in names[0]] != [set(group) for group in names[1]]:
        raise ValueError("the parameters have the names of this optimizer's, and are in other groups")
    ordered = [
        {
            **group,
            "params": [dict(zip(group["param_names"], group["params"], strict=True))[name] for name in order],
            "param_names": list(order),
        }
        if order
        else group
        for group, order in zip(saved, names[0], strict=True)
    ]
    return {**state_dict, "param_groups": ordered}
