"""How the tables of the report look."""

from __future__ import annotations

import math

from rich import box
from rich.table import Table


def narrow(title: str) -> Table:
    """Return a table without walls, which fits into 80 columns."""
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)


def finite(value: float) -> float | str:
    """Return a number for JSON, which has no word for an infinity but a string."""
    return value if math.isfinite(value) else str(value)
