"""The command `unirms translate`."""

from __future__ import annotations

import json as jsons
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from unirms import terminal
from unirms.errors import ConfigError, one_line
from unirms.schedules import AnySchedule

if TYPE_CHECKING:
    from unirms.commands.subjects import Subject
    from unirms.translation import Native


def translate(
    words: Annotated[list[str] | None, typer.Argument(metavar="FILE | NAME=VALUE...", help="what to translate")] = None,
    source: Annotated[str, typer.Option("--from", metavar="DIALECT", help="whose names NAME=VALUE are")] = "",
    target: Annotated[str, typer.Option("--to", metavar="DIALECT", help="whose names to write")] = "",
    format: Annotated[str | None, typer.Option(metavar="FORMAT", help="the format of FILE, if it is not clear")] = None,
    write: Annotated[str | None, typer.Option(metavar="FORMAT", help="print a recipe in this format alone")] = None,
    json: Annotated[bool, typer.Option("--json", help="print everything as JSON")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="exit 1 unless the translation is exact")] = False,
) -> None:
    """Write one framework's RMSProp in another's words, and say what it costs. No framework is needed.

    `unirms explain` says more about the differences, and how much they matter.

    Examples:

        unirms translate --from torch --to keras lr=0.01 alpha=0.99 momentum=0.9

        unirms translate recipe.yaml --to paddle --strict

        unirms translate --from timm --to torch lr=0.1 --write hydra
    """
    subject = _subject(words or [], source, format)
    if not target:
        raise ConfigError(["--to is missing; name the dialect to write, as in --to keras (unirms dialects lists them)"])
    native = subject.config.to_native(target)
    console = terminal.console()
    if write is not None:
        from unirms import recipes

        typer.echo(recipes.write(native, write), nl=False)
        # Beside the recipe, which is for a file.
        for line in [_sentence(native)] * (native.fidelity > 0) + list(subject.remarks):
            typer.echo(f"unirms: {one_line(line)}", err=True)
    elif json:
        typer.echo(jsons.dumps(as_data(native, subject), indent=2, default=repr))
    else:
        terminal.show(_table(native, subject), console)
        if native.wanted.groups:
            console.print()
            terminal.show(_groups(native, subject), console)
        for line in _verdict(native, subject.remarks):
            console.print(line, soft_wrap=True)
        console.print()
        console.print(native.code(), soft_wrap=True, highlight=False)
    if strict and native.fidelity > 0:
        raise typer.Exit(1)


def as_data(native: Native, subject: Subject) -> dict[str, Any]:
    """Return a translation as data for JSON; objects of a framework are written as code (`repr`)."""
    from unirms.translation import renames

    source = subject.dialect or None
    return {
        "source": source,
        "dialect": native.dialect,
        "target": native.target,
        "kwargs": native.kwargs,
        "scheduler": native.scheduler,
        "groups": [asdict(group) for group in native.groups],
        "fidelity": str(native.fidelity),
        "needs_seeding": native.needs_seeding,
        "differences": [asdict(d) | {"fidelity": str(d.fidelity)} for d in native.differences],
        "warnings": [asdict(warning) for warning in native.warnings],
        "remarks": list(subject.remarks),
        "names": [asdict(row) for row in renames(native, source)],
        "config": native.wanted.model_dump(mode="json"),
        "meaning": native.meaning.model_dump(mode="json"),
        "code": native.code(),
    }


def _subject(words: list[str], source: str, format: str | None) -> Subject:
    from unirms.commands import subjects

    if source:
        return subjects.from_settings(source, words)
    if len(words) != 1 or ("=" in words[0].partition(":")[0] and not subjects.is_file(words[0])):
        raise ConfigError(["name a file, or a dialect with settings, as in: --from torch lr=0.01 alpha=0.99"])
    return subjects.from_word(words[0], format=format)


def _table(native: Native, subject: Subject) -> Table:
    from unirms.translation import renames

    table = Table()
    for column in (subject.name, "value", native.target, "value", ""):
        table.add_column(column)
    parted = {difference.axis for difference in native.differences}
    for row in renames(native, subject.dialect or None):
        if row.field == "groups":  # they have a table of their own
            continue
        table.add_row(
            row.source_name or f"({row.field})",
            _shown(row.source_value),
            row.target_name or f"({row.field})",
            _shown(row.target_value),
            "differs" if row.field in parted else "",
        )
    return table


def _shown(value: object) -> str:
    """Return a value as a script has it, but a config's schedule, clips and name patterns in words."""
    from unirms.explanation import shown

    return shown(value) if isinstance(value, (AnySchedule, tuple)) else str(value)


def _groups(native: Native, subject: Subject) -> Table:
    """Return a row for each group: its parameters, what the config says of them, and what the class is told."""
    from unirms.explanation import in_native_words, own_settings

    table = Table()
    for column in ("parameters named", subject.name, native.target):
        table.add_column(column, overflow="fold")
    told = [in_native_words(group) for group in native.groups] or [""] * len(native.wanted.groups)
    for group, words in zip(native.wanted.groups, told, strict=True):
        table.add_row(" or ".join(group.match), own_settings(group) or "–", words or "–")
    return table


def _sentence(native: Native) -> str:
    from unirms.explanation import verdict_sentence

    return verdict_sentence(native.target, "this config", native.differences)


def _verdict(native: Native, remarks: tuple[str, ...]) -> list[str]:
    from unirms.explanation import exact_optimizer, sentence

    lines = [f"\nfidelity: {native.fidelity}", _sentence(native)]
    lines += [f"- {sentence(difference)}" for difference in native.differences]
    lines += [f"! {warning}" for warning in native.warnings]
    lines += [f"! the recipe: {one_line(remark)}" for remark in remarks]
    return lines + ([exact_optimizer(native, "Use")] if native.fidelity > 0 else [])
