"""The command line. Every error of unirms is one line on standard error and an exit code, never a traceback."""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console
from rich.table import Table

import unirms
from unirms import dialects, terminal
from unirms.commands.diff import diff
from unirms.commands.explain import explain
from unirms.commands.fingerprint import fingerprint
from unirms.commands.lint import lint
from unirms.commands.migrate import migrate
from unirms.commands.schema import schema
from unirms.commands.state import state
from unirms.commands.translate import translate
from unirms.dialects.base import Dialect
from unirms.dialects.table import rows
from unirms.errors import UnirmsError, one_line

app = typer.Typer(
    name="unirms",
    help="One RMSProp, every framework: state it once, build it exactly anywhere, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

# Typer exports none of Click's errors but this one's child; since 0.25 it has a Click of its own.
_UsageError: Final[Any] = typer.BadParameter.__base__

# conformance/ is shipped as unirms.conformance but lies at the root of the project, so nothing imports it by name.
_CONFORMANCE = import_module("unirms.conformance.cli")
app.command()(translate)
app.command()(explain)
app.command()(diff)
app.command()(lint)
app.command()(fingerprint)
app.command()(migrate)
app.command()(state)
app.command()(schema)
app.command()(_CONFORMANCE.parity)
app.command()(_CONFORMANCE.doctor)


@app.command("dialects")
def show_dialects(
    name: Annotated[str | None, typer.Argument(help="show the arguments of one dialect")] = None,
) -> None:
    """List the RMSProps that unirms knows, or the names, defaults and fixed choices of one.

    Examples:

        unirms dialects

        unirms dialects mindspore
    """
    terminal.show(_overview() if name is None else _one(dialects.get(name)))


def _overview() -> Table:
    table = Table()
    for column in ("dialect", "class", "also called", "built by unirms"):
        table.add_column(column)
    for dialect in dialects.all_dialects().values():
        table.add_row(dialect.name, dialect.target, ", ".join(dialect.aliases), "yes" if dialect.framework else "")
    return table


def _one(dialect: Dialect) -> Table:
    table = Table(title=dialect.target, caption="\n".join([*dialect.remarks, dialect.docs]))
    found = rows(dialect)
    in_groups = any(row.group for row in found)
    for column in ("argument", "default", "what becomes of it", *["in a group"] * in_groups):
        table.add_column(column)
    for row in found:
        names = ", ".join((*row.names, *(f"later {name}" for name in row.announced)))
        table.add_row(names, row.default, row.becomes, *[row.group] * in_groups)
    for field, value in dialect.fixed.items():
        table.add_row("", repr(value), f"{field} (fixed)")
    return table


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="print the version and stop", is_eager=True)] = False,
) -> None:
    """Print the version when asked."""
    if show:
        terminal.console().print(f"unirms {unirms.__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; `UnirmsError`, bad usage and a full disk become one line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a square root must not end a run where the encoding has none
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(app(prog_name="unirms", standalone_mode=False))
    except UnirmsError as error:
        _fail(str(error))
    except _UsageError as error:
        message = error.format_message().removesuffix(".")
        if message:  # it is empty after the help that stands for a missing command
            _fail(f"{message}; see {error.ctx.command_path if error.ctx else 'unirms'} --help")
        sys.exit(2)
    except OSError as error:
        if error.filename:
            _fail(str(error))
        # What is left in the buffer would fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _fail(f"the output cannot be written: {error.strerror or error}")
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)


def _fail(message: str) -> NoReturn:
    line = f"unirms: {one_line(message)}"
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False).print(line)
    sys.exit(2)


if __name__ == "__main__":
    main()
