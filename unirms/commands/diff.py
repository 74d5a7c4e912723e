"""`unirms diff`: where two RMSProps part, and whether it matters."""

from __future__ import annotations

import json as jsons
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unirms import terminal

if TYPE_CHECKING:
    from rich.table import Table

    from unirms.config import RMSPropConfig
    from unirms.semantics import Difference

NO_MATTER = "changes no number here"


def diff(
    one: Annotated[str, typer.Argument(metavar="A", help="a file, or DIALECT:name=value,name=value")],
    other: Annotated[str, typer.Argument(metavar="B", help="another one")],
    json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Show the fields on which two RMSProps differ, and whether each changes numbers.

    The exit code is 0 when both are equivalent, 1 when they are not, and 2 after an error.

    Examples:

        unirms diff torch:lr=0.01,alpha=0.9 keras:learning_rate=0.01

        unirms diff old.yaml new.yaml --json
    """
    from unirms.commands.subjects import from_word
    from unirms.errors import one_line
    from unirms.explanation import verdict_sentence
    from unirms.semantics import differences

    subjects = from_word(one), from_word(other)
    wanted, actual = subjects[0].config, subjects[1].config
    found = {difference.axis: difference for difference in differences(wanted, actual)}
    if json:
        remarks = {name: list(subject.remarks) for name, subject in zip("ab", subjects, strict=True)}
        typer.echo(jsons.dumps(_data(wanted, actual, found) | {"remarks": remarks}, indent=2))
    else:
        if wanted != actual:
            terminal.show(_table(one, other, wanted, actual, found))
        typer.echo(verdict_sentence("The second", "the first", tuple(found.values())))
        for subject in subjects:
            for remark in subject.remarks:
                typer.echo(one_line(f"! {subject.name}: {remark}"))
    raise typer.Exit(1 if found else 0)


def _fields(wanted: RMSPropConfig, actual: RMSPropConfig) -> list[str]:
    """Return the fields that differ, whether or not they matter."""
    return [name for name in type(wanted).model_fields if getattr(wanted, name) != getattr(actual, name)]


def _data(wanted: RMSPropConfig, actual: RMSPropConfig, found: dict[str, Difference]) -> dict[str, Any]:
    from unirms.semantics import verdict

    one, other = wanted.model_dump(mode="json"), actual.model_dump(mode="json")
    fields = [
        {
            "field": name,
            "a": one[name],
            "b": other[name],
            "matters": name in found,
            "consequence": found[name].consequence if name in found else NO_MATTER,
            "fidelity": str(found[name].fidelity) if name in found else "exact",
        }
        for name in _fields(wanted, actual)
    ]
    return {"equivalent": not found, "fidelity": str(verdict(tuple(found.values()))), "fields": fields}


def _table(one: str, other: str, wanted: RMSPropConfig, actual: RMSPropConfig, found: dict[str, Difference]) -> Table:
    from rich.table import Table

    from unirms.explanation import shown

    table = Table()
    for heading in ("field", one, other, "matters", "consequence"):
        table.add_column(heading, overflow="fold")
    for name in _fields(wanted, actual):
        values = shown(getattr(wanted, name)), shown(getattr(actual, name))
        matters = ("yes", found[name].consequence) if name in found else ("no", NO_MATTER)
        table.add_row(name, *values, *matters)
    return table
