"""Where the command line prints: as wide as the terminal, or wide enough that a log cuts no table."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

PLAIN_WIDTH = 160


def console() -> Console:
    """Return a console on standard output; brackets in texts are text, as in `unirms[torch]`."""
    terminal = Console(markup=False, emoji=False)
    return terminal if terminal.is_terminal else Console(width=PLAIN_WIDTH, markup=False, emoji=False)


def show(table: Table, where: Console | None = None) -> None:
    """Print a table, cutting nothing off: with lines in a terminal, as plain columns elsewhere."""
    where = where or console()
    for column in table.columns:
        column.overflow = "fold"
    if not where.is_terminal:
        table.box = None
    where.print(table)
