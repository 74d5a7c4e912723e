"""`unirms lint`: what is wrong with the RMSProps in recipes and in Python source."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from unirms.diagnosis import Diagnosis

Found = list[tuple[Path, "Diagnosis"]]


class Output(str, Enum):
    """How diagnoses are printed."""

    text = "text"
    json = "json"
    github = "github"


def lint(
    files: Annotated[list[Path], typer.Argument(help="recipes of any format, Python source (.py), notebooks (.ipynb)")],
    output: Annotated[Output, typer.Option("--format", help="how to print what is found")] = Output.text,
    dtype: Annotated[
        str | None, typer.Option(help="dtype of the weights: float16, bfloat16, float32 (assumed), float64")
    ] = None,
    select: Annotated[
        str, typer.Option(help="report only codes that begin so, as U1,U302 (U4 is off by default)")
    ] = "",
    ignore: Annotated[str, typer.Option(help="do not report codes that begin so, as U117,U3")] = "",
    strict: Annotated[bool, typer.Option("--strict", help="exit 1 for warnings, too")] = False,
) -> None:
    """Find what is wrong with the RMSProps in recipes and in Python source.

    Nothing is imported and nothing is run. Exit code 1 when an error was found, 0 otherwise.

    Examples:

        unirms lint conf/optimizer.yaml train.py

        unirms lint --dtype float16 --strict conf/*.yaml

        unirms lint --format github --ignore U117 src/train.py

        unirms lint --select U4 train.py
    """
    from unirms.diagnosis.files import diagnose_file

    chosen, dropped = _prefixes(select), _prefixes(ignore)
    defects = any(prefix.startswith("U4") or prefix == "U" for prefix in chosen)
    found = [
        (path, diagnosis)
        for path in files
        for diagnosis in diagnose_file(path, dtype=dtype, defects=defects)
        if (not chosen or diagnosis.code.startswith(chosen)) and not diagnosis.code.startswith(dropped)
    ]
    for line in _PRINTERS[output](found):
        typer.echo(line)
    if found and (strict or any(diagnosis.severity == "error" for _, diagnosis in found)):
        raise typer.Exit(1)


def _prefixes(text: str) -> tuple[str, ...]:
    """Return the codes, or beginnings of codes, of a list with commas.

    Raises:
        ConfigError: one that no code begins with.
    """
    from unirms.diagnosis import CODES
    from unirms.errors import ConfigError

    prefixes = tuple(word.strip().upper() for word in text.split(",") if word.strip())
    for prefix in prefixes:
        if not any(code.startswith(prefix) for code in CODES):
            raise ConfigError([f"{prefix} is not a code or the beginning of one; the codes are in docs/diagnosis.md"])
    return prefixes


def _text(found: Found) -> list[str]:
    """Return a line for each diagnosis: FILE:LINE: CODE message; fix."""
    from unirms.errors import one_line

    return [one_line(f"{path}:{diagnosis.line or 1}: {' '.join(str(diagnosis).split())}") for path, diagnosis in found]


def _json(found: Found) -> list[str]:
    """Return a JSON list of all diagnoses."""
    import json
    from dataclasses import asdict

    return [json.dumps([{"file": str(path), **asdict(diagnosis)} for path, diagnosis in found], indent=2)]


def _github(found: Found) -> list[str]:
    """Return GitHub's workflow commands, which it shows beside the lines of a pull request."""
    return [
        f"::{diagnosis.severity} file={_property(str(path))},line={diagnosis.line or 1},title={diagnosis.code}::"
        + _data(f"{diagnosis.message}; {diagnosis.fix}")
        for path, diagnosis in found
    ]


def _data(text: str) -> str:
    """Return text escaped as the message of a workflow command (`escapeData` of @actions/core)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """Return text escaped as a property of a workflow command (`escapeProperty` of @actions/core)."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")


_PRINTERS = {Output.text: _text, Output.json: _json, Output.github: _github}
