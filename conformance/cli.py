"""The commands `unirms parity` and `unirms doctor`."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from unirms import terminal
from unirms.commands.interpreters import interpreters as read_interpreters
from unirms.errors import ConfigError
from unirms.registry import framework

from . import HANG_AFTER

if TYPE_CHECKING:
    from .results import Message

Interpreters = Annotated[
    list[str] | None,
    typer.Option("--python", metavar="NAME=INTERPRETER", help="run a framework with another Python (repeatable)"),
]
NO_CASES = "none"
"""What stands for no cases in place of a pattern; no id of a case contains it."""

Frameworks = Annotated[str, typer.Option(help="comma-separated names; all four by default")]


def parity(
    frameworks: Frameworks = "",
    cases: Annotated[
        str, typer.Option(metavar="PATTERN", help="only cases whose id contains this; none: no cases at all")
    ] = "",
    train: Annotated[bool, typer.Option("--train", help="also train a small network on scikit-learn's digits")] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="also go on in each framework with trainings left half done in each other"),
    ] = False,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="write everything as JSON too")] = None,
    python: Interpreters = None,
    hang_after: Annotated[
        float, typer.Option(help="seconds without a sign after which a worker is ended")
    ] = HANG_AFTER,
) -> None:
    """Prove that every optimizer that unirms builds computes its config; exit 0 only if all of them do.

    Each framework runs in a process of its own, all at the same time.

    Examples:

        unirms parity

        unirms parity --frameworks torch,paddle --cases float32 --json report.json

        unirms parity --train --python mindspore=other-env/bin/python

        unirms parity --resume --cases none
    """
    from unirms.files import replace_text

    from . import report as reports
    from .carrying import carried
    from .recordings import recordings
    from .resume_report import Resumed
    from .runner import run
    from .training import digits
    from .worker import Tasks

    console = terminal.console()
    names = reports.known(_listed(frameworks))
    interpreters = read_interpreters(python or [])
    if json is not None and not json.absolute().parent.is_dir():
        raise ConfigError([f"--json {json}: there is no folder {json.absolute().parent}"])
    report = reports.Report(names, digits() if train else None, with_cases=cases != NO_CASES)
    report.recordings = [(recording, recording.replay()) for recording in recordings()]
    tasks = Tasks(cases="all" if report.with_cases else "none", pattern=cases, digits=report.digits, port=not cases)
    start = partial(run, interpreters=interpreters, hang_after=hang_after)
    if resume:
        report.resumed = Resumed(names)
    messages = carried(start, tasks, report.resumed, interpreters) if report.resumed else start(names, tasks)
    with _progress(console) as progress:
        bars = {name: progress.add_task(framework(name).title, total=None) for name in names}
        totals = Counter[str]()
        for message in messages:
            report.add(message)
            _say(console, message)
            if message.kind == "hello":
                totals[message.framework] += message.cases
                progress.update(bars[message.framework], total=totals[message.framework])
            elif message.kind in {"case", "left", "resume"}:
                progress.advance(bars[message.framework])
    report.finish()
    reports.show(report, console)
    if json is not None:
        replace_text(json, report.as_json())
    if report.problems():
        raise typer.Exit(1)


def doctor(frameworks: Frameworks = "", python: Interpreters = None) -> None:
    """Say which frameworks are here, whether each loads (in its own process), and how to get a missing one.

    Exits 1 if one that was asked for does not load.

    Examples:

        unirms doctor

        unirms doctor --frameworks paddle --python paddle=other-env/bin/python
    """
    from .report import known
    from .runner import installed

    names = known(_listed(frameworks))
    found = installed(names, read_interpreters(python or []))
    table = Table()
    for column in ("framework", "state", "versions", "to install"):
        table.add_column(column)
    missing = [name for name in names if found[name].kind == "failure"]
    for name in names:
        if name in missing:
            table.add_row(framework(name).title, "does not load", found[name].reason, framework(name).pip, style="red")
        else:
            versions = ", ".join(f"{package} {version}" for package, version in found[name].versions.items())
            table.add_row(framework(name).title, "loads", f"{versions} (Python {found[name].python})", "")
    terminal.show(table)
    if missing:
        raise typer.Exit(1)


def _say(console: Console, message: Message) -> None:
    """Print a plain line for what a progress bar would show, where there is none."""
    if console.is_terminal:
        return
    title = framework(message.framework).title
    if message.kind == "hello":
        console.print(f"{title}: started, {message.cases} cases")
    elif message.kind == "done":
        console.print(f"{title}: done")
    elif message.kind == "failure":
        console.print(f"{title}: {message.reason}", soft_wrap=True)


def _progress(console: Console) -> Progress:
    """Return a progress display: a bar for each framework in a terminal, nothing elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
