"""Diagnosis of files: recipes of any format, Python source, and notebooks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from unirms import documents, recipes
from unirms.diagnosis import diagnose, warnings_of
from unirms.diagnosis.base import Diagnosis
from unirms.diagnosis.catalogue import found
from unirms.diagnosis.hazards import precision
from unirms.errors import ConfigError, UnirmsError
from unirms.recipes.base import Recipe

_LINE = re.compile(r"line (\d+)")


def diagnose_file(
    path: str | Path, *, format: str | None = None, dtype: str | None = None, defects: bool = False
) -> tuple[Diagnosis, ...]:
    """Return what is wrong with the RMSProps of a file, sorted by line.

    Args:
        path: a recipe, Python source (.py), or a notebook (.ipynb).
        format: the format of a recipe; without it, the format is recognised by the content.
        dtype: the dtype of the weights; see `unirms.diagnosis.diagnose`.
        defects: whether to report what the classes get wrong on some devices or inputs (U4), too.

    Raises:
        ConfigError: no such dtype.
        UnknownNameError: no such format.
    """
    precision(dtype)  # also where no RMSProp is found
    try:
        text = documents.read_text(path, source=Path(path).suffix.lower() == ".py")
    except ConfigError as error:
        return _unreadable("U501", error, str(path), "name a readable file")
    return diagnose_text(text, str(path), format=format, dtype=dtype, defects=defects)


def diagnose_text(
    text: str, name: str, *, format: str | None = None, dtype: str | None = None, defects: bool = False
) -> tuple[Diagnosis, ...]:
    """Return what is wrong with the RMSProps of a text; the suffix of its name says what it is.

    See `diagnose_file`.
    """
    if Path(name).suffix.lower() in {".py", ".ipynb"}:
        return _python(text, name, dtype=dtype, defects=defects)
    return _recipes(text, name, format=format, dtype=dtype, defects=defects)


def _python(text: str, name: str, *, dtype: str | None, defects: bool) -> tuple[Diagnosis, ...]:
    from unirms.diagnosis import notebooks, sources

    reader = notebooks if Path(name).suffix.lower() == notebooks.SUFFIX else sources
    try:
        stated = reader.recipes(text, name)
    except ConfigError as error:
        return _unreadable("U502", error, name, "correct it")
    return _diagnosed(stated, dtype, defects)


def _recipes(text: str, name: str, *, format: str | None, dtype: str | None, defects: bool) -> tuple[Diagnosis, ...]:
    from unirms import files

    kind = documents.KINDS.get(Path(name).suffix.lower())
    try:
        document = documents.parse(text, kind or "text", name=name)
    except ConfigError as error:
        return _unreadable("U502", error, name, "correct it")
    data = document.data
    if isinstance(data, dict) and type(data.get(files.FORMAT)) is int and data[files.FORMAT] > files.SCHEMA_VERSION:
        message = f"it was made by a newer unirms (schema {data[files.FORMAT]}; this one reads {files.SCHEMA_VERSION})"
        return (
            found("U503", message, "upgrade with: pip install -U unirms", line=document.lines.get((files.FORMAT,))),
        )
    if format is not None:
        recipes.get(format)
    try:
        stated = recipes.read_text(text, format=format, name=name)
    except ConfigError as error:
        return _unreadable("U504", error, name, "state an RMSProp as one of the formats does")
    return _diagnosed(stated, dtype, defects)


def _diagnosed(stated: Iterable[Recipe], dtype: str | None, defects: bool) -> tuple[Diagnosis, ...]:
    seen: list[Diagnosis] = []
    for recipe in stated:
        seen += diagnose(recipe, dtype=dtype)
        seen += _defects(recipe, dtype or "float32") if defects else ()
    return tuple(sorted(seen, key=lambda diagnosis: (diagnosis.line or 0, diagnosis.code)))


def _defects(recipe: Recipe, dtype: str) -> tuple[Diagnosis, ...]:
    """Return the defects of the class with the settings of a recipe; () where they do not read."""
    try:
        config = recipe.config()
        native = config.to_native(recipe.dialect.name)
    except UnirmsError:
        return ()
    line = recipe.lines.get("")
    return tuple(
        Diagnosis(d.code, d.severity, d.message, d.fix, d.setting, line) for d in warnings_of(native, dtype=dtype)
    )


def _unreadable(code: str, error: ConfigError, name: str, fix: str) -> tuple[Diagnosis, ...]:
    """Return an error of a reader as a diagnosis, without the name of the file that stands before it anyway."""
    problem = error.problems[0]
    for prefix in (f"{name}, ", f"{name}: ", f"{name!r}: "):
        problem = problem.removeprefix(prefix)
    place = _LINE.match(problem)
    line = int(place[1]) if place else None
    problem = problem.removeprefix(place[0] if place else "").removeprefix(": ")
    message, _, better = problem.partition("; ")
    return (found(code, message, better or fix, line=line),)
