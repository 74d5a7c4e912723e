"""`unirms explain`: a config, or a translation, in plain sentences."""

from __future__ import annotations

import json as jsons
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from unirms.commands.subjects import Subject
    from unirms.config import RMSPropConfig
    from unirms.effects import Effect
    from unirms.translation import Native


def explain(
    subject: Annotated[str, typer.Argument(help="a file, or DIALECT:name=value,name=value")],
    to: Annotated[str | None, typer.Option("--to", help="explain it as this dialect's class would compute it")] = None,
    effect: Annotated[bool, typer.Option("--effect", help="measure how much the differences matter")] = False,
    gradients: Annotated[
        Path | None, typer.Option(help="measure on recorded gradients: .npy or .npz, shape (steps, …)")
    ] = None,
    grad_scale: Annotated[
        list[float] | None, typer.Option(help="measure on gradients of this size; repeat it for several")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODULE:NAME", help="list what each parameter gets of this model, or of what makes one"),
    ] = None,
    framework: Annotated[str | None, typer.Option(help="the model's; by default the one that MODULE imports")] = None,
    json: Annotated[bool, typer.Option("--json", help="print everything as JSON")] = False,
) -> None:
    """Say in plain sentences what an RMSProp computes, or what another class would make of it.

    Examples:

        unirms explain torch:lr=0.01,alpha=0.99,momentum=0.9

        unirms explain torch:lr=0.01,momentum=0.9 --to keras --effect

        unirms explain recipe.yaml --to paddle --gradients gradients.npy

        unirms explain recipe.yaml --model mypackage.models:make_model --framework torch

    With --model, a module is imported and called, in this process: name none that you do not trust.
    """
    from unirms.commands.subjects import from_word
    from unirms.errors import ConfigError
    from unirms.explanation import explain as explained
    from unirms.explanation import explain_config, formula

    stated = from_word(subject)
    if model is not None:
        _explain_model(stated.config, model, framework, json=json)
        return
    measures = effect or gradients is not None or bool(grad_scale)
    if to is None:
        if measures:
            raise ConfigError(["an effect is the difference between two; add --to DIALECT"])
        config = stated.config.model_dump(mode="json")
        alone = {"config": config, "formula": formula(stated.config), "remarks": list(stated.remarks)}
        typer.echo(jsons.dumps(alone, indent=2) if json else explain_config(stated.config) + _beside(stated))
        return
    native = stated.config.to_native(to)
    measured = _measured(native, gradients, grad_scale) if measures else None
    if json:
        typer.echo(jsons.dumps(_data(native, stated, measured), indent=2, default=repr))
        return
    typer.echo(explained(native) + _beside(stated))
    if measured is not None:
        typer.echo(f"\n{measured}")


def _explain_model(config: RMSPropConfig, model: str, framework: str | None, *, json: bool) -> None:
    from unirms import terminal
    from unirms.commands.assignments import assigned, table

    rows = assigned(config, model, framework)
    if json:
        plain = [{**row, "own": {n: _plain(v) for n, v in row["own"].items()}} for row in rows]
        typer.echo(jsons.dumps(plain, indent=2))
    else:
        terminal.show(table(config, rows), terminal.console())


def _plain(value: Any) -> Any:
    return [item.model_dump(mode="json") for item in value] if isinstance(value, tuple) else value


def _measured(native: Native, gradients: Path | None, scales: list[float] | None) -> Effect:
    from unirms.effects import effect, read_gradients

    return effect(native, None if gradients is None else read_gradients(gradients), scales=scales or None)


def _beside(subject: Subject) -> str:
    """Return what the tool of a recipe does beside its optimizer, a line each."""
    from unirms.errors import one_line

    return "".join(f"\n! the recipe: {one_line(remark)}" for remark in subject.remarks)


def _data(native: Native, subject: Subject, measured: Effect | None) -> dict[str, Any]:
    """Return the translation with its formulas and its effect, for JSON."""
    from unirms.commands.translate import as_data
    from unirms.explanation import formula

    return as_data(native, subject) | {
        "formula": {"wanted": formula(native.wanted), "target": formula(native.meaning)},
        "effect": None if measured is None else measured.as_dict(),
    }
