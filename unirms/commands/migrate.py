"""The command `unirms migrate`."""

from __future__ import annotations

import json as jsons
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from unirms import terminal
from unirms.commands.unwinding import unwinding

if TYPE_CHECKING:
    from unirms.checkpoints.migrating import Migration
    from unirms.checkpoints.tensors import Moving


def migrate(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="the checkpoint to read")],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="the checkpoint to write")],
    source_format: Annotated[
        str | None, typer.Option("--from", help="framework or format of SRC, if the file does not tell")
    ] = None,
    target_format: Annotated[
        str | None, typer.Option("--to", help="framework or format of DST, if its suffix does not tell")
    ] = None,
    names: Annotated[
        Path | None, typer.Option(metavar="MAP", help="YAML with source name: target name, or {to: name, axes: [1, 0]}")
    ] = None,
    config: Annotated[
        str | None, typer.Option(metavar="FILE", help="what the optimizer computes, if SRC does not say it")
    ] = None,
    weights: Annotated[bool, typer.Option("--weights", help="move the weights, too")] = False,
    like: Annotated[
        Path | None, typer.Option(metavar="FILE", help="a checkpoint of the new model, to be filled in")
    ] = None,
    policy: Annotated[
        str, typer.Option(help="what goes on from DST: exact (what unirms.build makes), stock or nearest")
    ] = "exact",
    step: Annotated[int | None, typer.Option(min=0, help="completed updates, if SRC does not say it")] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="leave a slot out, or all slots of a parameter of SRC (repeatable)"),
    ] = None,
    python: Annotated[
        list[str] | None,
        typer.Option("--python", metavar="NAME=INTERPRETER", help="load a framework with another Python (repeatable)"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="print everything as JSON")] = False,
) -> None:
    """Carry a half-trained optimizer, and with --weights its model, from one framework's checkpoint to another's.

    Names, layouts, units and steps are converted; whatever does not fit is an error, and nothing is written.

    Examples:

        unirms migrate run/checkpoint.pt run/state.safetensors

        unirms migrate run/checkpoint.pt run/new.weights.h5 --names map.yaml --weights --like fresh.weights.h5

        unirms migrate run/opt.pdopt run/opt.ckpt --to mindspore --config rmsprop.yaml --step 1000
    """
    from typing import cast, get_args

    from unirms.building import Policy
    from unirms.checkpoints import migrating
    from unirms.commands.interpreters import interpreters
    from unirms.commands.subjects import from_word
    from unirms.errors import ConfigError

    if policy not in get_args(Policy):
        raise ConfigError([f"--policy {policy} is not allowed; write one of {', '.join(get_args(Policy))}"])
    with unwinding(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        done = migrating.migrate(
            source,
            destination,
            source_format=source_format,
            target_format=target_format,
            names=None if names is None else _map(names),
            config=None if config is None else from_word(config).config,
            weights=weights,
            like=like,
            policy=cast("Policy", policy),
            step=step,
            without=without or (),
            interpreters=interpreters(python or []),
        )
    said = [str(warning.message) for warning in caught]
    if json:
        typer.echo(jsons.dumps(_as_data(done, said), indent=2))
    else:
        _print(done, said)


def _map(path: Path) -> dict[str, Any]:
    """Return what a file says of names; that it is a map is checked with the names of the source."""
    from unirms.documents import read
    from unirms.errors import StateError

    data = read(path).data
    if not isinstance(data, dict):
        raise StateError([f"{path}: a map has an entry `source name: target name` for each parameter"])
    return data


def _rows(done: Migration) -> list[dict[str, Any]]:
    """Return a row for each tensor of the target's names, with the kinds that went there alike."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for kind, found in done.content.tensors.items():
        for name, moving in found.items():
            key = (name, moving.shape, moving.move.axes, moving.source.dtype, moving.dtype)
            row = rows.setdefault(
                key,
                {
                    "source": moving.move.source,
                    "target": name,
                    "kinds": [],
                    "shape": list(moving.shape),
                    "axes": None if moving.move.axes is None else list(moving.move.axes),
                    "dtype": moving.dtype,
                    "from_dtype": moving.source.dtype,
                    "units": {},
                },
            )
            row["kinds"].append(kind)
            row["units"] |= _unit(kind, moving)
    return list(rows.values())


def _unit(kind: str, moving: Moving) -> dict[str, str]:
    """Return by what a tensor was multiplied or divided."""
    move = moving.move
    text = f"× {move.times!r}" * (move.times != 1) + f"÷ {move.over!r}" * (move.over != 1)
    return {kind: text} if text else {}


def _as_data(done: Migration, said: list[str]) -> dict[str, Any]:
    content = done.content
    assert content.config is not None
    return {
        "source": {"path": str(done.source), "format": done.source_format},
        "destination": {"path": str(done.destination), "format": done.target_format},
        "step": content.step,
        "micro_step": content.micro_step,
        "learning_rate": content.learning_rate,
        "stock": content.stock,
        "config": content.config.model_dump(mode="json"),
        "tensors": _rows(done),
        "notes": list(done.notes),
        "warnings": said,
        "code": done.code(),
    }


def _print(done: Migration, said: list[str]) -> None:
    from unirms.checkpoints.naming import plain

    console = terminal.console()
    table = Table()
    for column in (done.source_format, done.target_format, "what", "shape", "axes", "dtype", "unit"):
        table.add_column(column, overflow="fold")
    for row in _rows(done):
        dtype = row["dtype"] if row["dtype"] == row["from_dtype"] else f"{row['from_dtype']} → {row['dtype']}"
        table.add_row(
            plain(row["source"]),
            plain(row["target"]),
            ", ".join(row["kinds"]),
            " × ".join(map(str, row["shape"])) or "scalar",
            "" if row["axes"] is None else str(tuple(row["axes"])),
            dtype,
            ", ".join(f"{kind} {text}" for kind, text in row["units"].items()),
        )
    terminal.show(table, console)
    step, rate = done.content.step, done.content.learning_rate
    lines = ["", f"{plain(str(done.destination))}: after {step} updates; the next has the learning rate {rate:g}."]
    lines += [f"- {plain(note)}" for note in done.notes] + [f"! {plain(warning)}" for warning in said]
    for line in [*lines, "", *done.code()]:
        console.print(line, soft_wrap=True, highlight=False)
