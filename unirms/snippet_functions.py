"""The functions of a parameter's name in a snippet: `exempt(name)` and `settings(name)`, formatted as by ruff."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from unirms.dialects.groups import NativeGroup
from unirms.names import REGEX_PREFIX

WIDTH: Final = 88
"""Length of a line for Black and ruff, where nothing else is set."""
INDENT: Final = "    "
STANDARD_LIBRARY: Final = {"re.search(": "import re", "fnmatchcase(": "from fnmatch import fnmatchcase"}
"""What a condition may call, with the import line."""


def exempt(patterns: Iterable[str]) -> str:
    """Return the definition of `exempt(name)`: whether a parameter has no weight decay."""
    return f"def exempt(name):  # from the weight decay\n{_matching('return ', patterns)}"


def settings(groups: Sequence[NativeGroup], exempted: Mapping[str, Any]) -> str:
    """Return the definition of `settings(name)`: what a parameter is told alone, by the keys of groups.

    Args:
        groups: in order; the first that matches says it. Objects among their settings are names of variables.
        exempted: what is told to the parameters that `exempt(name)` names, where their group does not say otherwise.
    """
    lines = ["def settings(name):  # of its own, in the place of the optimizer's"]
    if exempted:
        lines.append(f"{INDENT}own = {_dictionary(exempted)} if exempt(name) else {{}}")
    start = ["**own"] if exempted else []
    rest = "own" if exempted else "{}"
    said = [index for index, group in enumerate(groups) if group.settings]
    for group in groups[: said[-1] + 1]:  # what follows the last that says something says what the end does
        lines.append(_matching("if ", group.match, ":"))
        lines.append(_returned([*start, *_items(group.settings)]) if group.settings else f"{INDENT * 2}return {rest}")
    return "\n".join([*lines, f"{INDENT}return {rest}"])


def condition(pattern: str) -> str:
    """Return whether `name` matches a pattern, as an expression: a string method where one says the same."""
    if pattern.startswith(REGEX_PREFIX):
        return f"re.search({_quoted(pattern[len(REGEX_PREFIX) :])}, name)"
    word = pattern.strip("*")
    if not word or any(special in word for special in "*?["):
        return f"fnmatchcase(name, {_quoted(pattern)})"
    simple = {
        word: f"name == {_quoted(word)}",
        f"*{word}": f"name.endswith({_quoted(word)})",
        f"{word}*": f"name.startswith({_quoted(word)})",
        f"*{word}*": f"{_quoted(word)} in name",
    }
    return simple.get(pattern, f"fnmatchcase(name, {_quoted(pattern)})")


def _matching(start: str, patterns: Iterable[str], end: str = "") -> str:
    """Return a line of a function with its conditions; where two make it too long, ruff would break it so."""
    conditions = [condition(pattern) for pattern in patterns]
    line = " or ".join(conditions)
    if len(f"{INDENT}{start}{line}{end}") > WIDTH and len(conditions) > 1:
        inside = line if len(f"{INDENT * 2}{line}") <= WIDTH else f"\n{INDENT * 2}or ".join(conditions)
        line = f"(\n{INDENT * 2}{inside}\n{INDENT})"
    return f"{INDENT}{start}{line}{end}"


def _items(values: Mapping[str, Any]) -> list[str]:
    return [f'"{key}": {value!r}' for key, value in values.items()]


def _dictionary(values: Mapping[str, Any]) -> str:
    return f"{{{', '.join(_items(values))}}}"


def _returned(items: Sequence[str]) -> str:
    """Return the statement that returns a dictionary, inside a condition, an item to a line where it is too long."""
    line = f"{INDENT * 2}return {{{', '.join(items)}}}"
    if len(line) <= WIDTH:
        return line
    inside = "".join(f"{INDENT * 3}{item},\n" for item in items)
    return f"{INDENT * 2}return {{\n{inside}{INDENT * 2}}}"


def _quoted(text: str) -> str:
    """Return a string literal in double quotes where that needs no escape, raw where there are backslashes."""
    literal = repr(text)
    if '"' in text:
        return literal
    if "\\" in text and text.isprintable() and not text.endswith("\\"):
        return f'r"{text}"'
    return f'"{literal[1:-1]}"'
