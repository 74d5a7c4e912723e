"""What a migration leaves behind on purpose: slots, or all slots of parameters that the target does not update."""

from __future__ import annotations

from collections.abc import Iterable

from unirms.checkpoints.checkpoint import Checkpoint
from unirms.config import RMSPropConfig
from unirms.errors import StateError, as_given, some
from unirms.grouping import narrowed
from unirms.state import GRADIENT_SUM, SLOTS, remaining


def without(
    held: Checkpoint, config: RMSPropConfig | None, names: Iterable[str]
) -> tuple[Checkpoint, RMSPropConfig | None]:
    """Return what is left of a file, and of what the user says that the optimizer computes.

    Args:
        held: the file.
        config: what the user says; groups of which no parameter is left are left out.
        names: slots, and parameters whose slots stay behind; their weights do not.

    Raises:
        StateError: a name is neither, or both; or nothing is left to go on from.
        UnsupportedError: a group of a config matches no parameter.
    """
    chosen = dict.fromkeys([names] if isinstance(names, str) else names)
    if not chosen:
        return held, config
    parameters = held.tensors.get("mean_square", {})
    kinds = [kind for kind in (*SLOTS, GRADIENT_SUM) if kind != "mean_square" and held.tensors.get(kind)]
    problems = [problem for name in chosen if (problem := _problem(name, kinds, list(parameters)))]
    left = [name for name in parameters if name not in chosen]
    if not left:
        problems.append("--without leaves out every parameter, so that there is nothing to go on from")
    if problems:
        raise StateError(problems)
    own, given = (None if one is None else narrowed(one, list(parameters), left) for one in (held.config, config))
    changes = {
        "tensors": remaining(held.tensors, chosen, chosen),
        "parameters": tuple(name for name in held.parameters if name not in chosen),
        "micro_step": 0 if GRADIENT_SUM in chosen else held.micro_step,
        "notes": (*held.notes, f"left out as --without says: {some(list(chosen))}"),
        "config": own,
    }
    return held.model_copy(update=changes), given


def _problem(name: str, kinds: list[str], parameters: list[str]) -> str:
    if name in kinds and name in parameters:
        return f"--without {as_given(name)}: it is a slot and a parameter; the parameter needs another name"
    if name in kinds or name in parameters:
        return ""
    return (
        f"--without {as_given(name)}: the file has no such slot that can be left out, and no such parameter; it has "
        f"{some([*kinds, *parameters])}"
    )
