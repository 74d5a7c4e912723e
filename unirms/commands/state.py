"""The command `unirms state`."""

from __future__ import annotations

import json as jsons
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from unirms import terminal
from unirms.commands.unwinding import unwinding

if TYPE_CHECKING:
    from unirms.checkpoints.checkpoint import Checkpoint


def state(
    file: Annotated[Path, typer.Argument(help="a checkpoint: a file, a folder, or the prefix of several files")],
    source: Annotated[str | None, typer.Option("--from", help="its framework or format, if it is not clear")] = None,
    config: Annotated[
        str | None, typer.Option(metavar="FILE", help="what the optimizer computes, for formats that need it")
    ] = None,
    python: Annotated[
        list[str] | None,
        typer.Option("--python", metavar="NAME=INTERPRETER", help="read a framework's files with another Python"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="print everything as JSON")] = False,
) -> None:
    """Show what a checkpoint holds of an RMSProp: step, rate, config, and each tensor with its norm, range and NaNs.

    Nothing in the file is executed.

    Examples:

        unirms state run/optimizer.pt

        unirms state run/model.weights.h5 --config rmsprop.yaml

        unirms state --from tf1 run/model.ckpt-1000 --json
    """
    from unirms.checkpoints.inspecting import inspect
    from unirms.commands.interpreters import interpreters
    from unirms.commands.subjects import from_word

    given = None if config is None else from_word(config).config
    with unwinding(), inspect(file, format=source, config=given, interpreters=interpreters(python or [])) as held:
        rows = _rows(held)
        if json:
            typer.echo(jsons.dumps(_as_data(held, rows), indent=2))
            return
        _print(held, rows)


def _rows(held: Checkpoint) -> list[dict[str, Any]]:
    from unirms.checkpoints.inspecting import statistics

    return [
        {"kind": kind, "name": name, "shape": list(stored.shape), "dtype": stored.dtype, **asdict(statistics(stored))}
        for kind, found in held.tensors.items()
        for name, stored in found.items()
    ]


def _as_data(held: Checkpoint, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a checkpoint as data for JSON, which has no infinities and no NaN: they are texts."""
    plateau = None if held.plateau is None else {n: _finite(v) for n, v in asdict(held.plateau).items()}
    return {
        "format": held.format,
        "step": held.step,
        "micro_step": held.micro_step,
        "learning_rate": _finite(held.learning_rate),
        "plateau": plateau,
        "config": None if held.config is None else held.config.model_dump(mode="json"),
        "parameters": list(held.parameters),
        "tensors": [{**row, "norm": _finite(row["norm"])} for row in rows],
        "notes": list(held.notes),
    }


def _finite(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)


def _print(held: Checkpoint, rows: list[dict[str, Any]]) -> None:
    from unirms.checkpoints.naming import keywords, plain

    console = terminal.console()
    gathered = f", {held.micro_step} gradients gathered since" if held.micro_step else ""
    steps = "not said" if held.step is None else f"{held.step}{gathered}"
    rate = "not said" if held.learning_rate is None else f"{held.learning_rate:g}"
    said = [("format", held.format), ("completed updates", steps), ("rate of the next", rate)]
    if held.plateau is not None:
        place = held.plateau
        said.append(
            ("plateau", f"rate {place.rate:g}, best {place.best:g}, bad {place.bad}, cooldown {place.cooldown}")
        )
    config = "not said" if held.config is None else keywords(held.config) or "all defaults"
    for title, text in [*said, ("config", config)]:
        console.print(f"{title:<18} {text}", soft_wrap=True, highlight=False)
    table = Table()
    for column in ("tensor", "parameter", "shape", "dtype"):
        table.add_column(column, overflow="fold")
    for column in ("norm", "min", "max", "NaN", "inf"):
        table.add_column(column, justify="right")
    for row in rows:
        shape = " × ".join(map(str, row["shape"])) or "scalar"
        numbers = ["–" if row[key] is None else f"{row[key]:.6g}" for key in ("norm", "least", "most")]
        table.add_row(
            row["kind"], plain(row["name"]), shape, row["dtype"], *numbers, str(row["nan"]), str(row["infinite"])
        )
    console.print()
    terminal.show(table, console)
    for note in held.notes:
        console.print(f"- {plain(note)}", soft_wrap=True, highlight=False)
