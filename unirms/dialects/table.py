"""What becomes of every name that a class takes: mapped to config fields, not about the update, or refused.

`tests/frameworks/test_arguments.py` holds these rows to the signatures of the installed classes,
`tests/test_arguments.py` to the recorded signatures of the others.
"""

from __future__ import annotations

from typing import NamedTuple

from unirms.dialects.base import REQUIRED, Argument, Dialect


class Row(NamedTuple):
    """A name that a class takes, in words.

    Attributes:
        names: the name in the constructor, then others that it takes for the same; empty for a key of groups alone.
        announced: names that a later release will take instead.
        default: the class's own default, as Python writes it, or "required"; "" where it is not an argument.
        becomes: "mapped to" config fields, or "not about the update:" or "refused:" and the reason.
        group: the key of a parameter group that says it; "" where none does.
    """

    names: tuple[str, ...]
    announced: tuple[str, ...]
    default: str
    becomes: str
    group: str


def rows(dialect: Dialect) -> tuple[Row, ...]:
    """Return a row for every argument, every name that the class takes and ignores, and every other key of a group."""
    behaviour = dialect.behaviour
    ignored = (
        Row((name,), (), "", f"refused: the class ignores it, {instead}; {fix}", "")
        for name, (instead, fix) in behaviour.ignored.items()
    )
    notes = behaviour.groups.notes if behaviour.groups else {}
    keys = (Row((), (), "", becomes, key) for key, becomes in notes.items())
    return (*(_row(dialect, argument) for argument in dialect.arguments), *ignored, *keys)


def _row(dialect: Dialect, argument: Argument) -> Row:
    announced = tuple(name for name in argument.aliases if name in dialect.behaviour.announced)
    taken = tuple(name for name in argument.aliases if name not in announced)
    key = _group_key(dialect, argument)
    return Row((argument.name, *taken), announced, repr(argument.default), argument.becomes, key)


def _group_key(dialect: Dialect, argument: Argument) -> str:
    groups = dialect.behaviour.groups
    if groups is None or (argument.default is REQUIRED and not argument.fields):  # the parameters themselves
        return ""
    if groups.names is None:
        return argument.name
    return next((key for key, name in groups.names.items() if name == argument.name), "")
