"""JSON, with the line of every key: no NaN, no key twice, no depth that recursion could not walk."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from unirms.documents.base import MAX_DEPTH, MAX_DIGITS, MAX_VALUES, Document, KeyPath, refuse

_STRUCTURE: Final = re.compile(r'[{}\[\],"]')
_QUOTE_OR_ESCAPE: Final = re.compile(r'["\\]')
_COLON: Final = re.compile(r"\s*:")
_NEXT: Final = re.compile(r"\s*(.)", re.DOTALL)


def parse(text: str, name: str) -> Document:
    """Return a JSON text as data; `name` stands for it in messages.

    Raises:
        ConfigError: the text is not JSON, or exceeds a limit.
    """
    depth = 0
    for character, start, _ in _json_tokens(text):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(character, 0)
        if depth > MAX_DEPTH - 2:  # as deep as YAML may be
            refuse(name, f"it is nested deeper than {MAX_DEPTH}", text.count("\n", 0, start) + 1)

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        data = dict(pairs)
        if len(data) < len(pairs):
            keys = [key for key, _ in pairs]
            refuse(name, f"{next(key for key in data if keys.count(key) > 1)!r} is given twice")
        return data

    def constant(word: str) -> NoReturn:
        refuse(name, f"{word} is not JSON; settings are finite numbers")

    def integer(digits: str) -> int:
        if len(digits) > MAX_DIGITS:
            refuse(name, f"an integer has more than {MAX_DIGITS} digits")
        return int(digits)

    try:
        data = json.loads(text, object_pairs_hook=mapping, parse_constant=constant, parse_int=integer)
    except json.JSONDecodeError as error:
        refuse(name, f"it is not JSON: {error.msg}, column {error.colno}", error.lineno)
    return Document(data, "json", name, _json_lines(text))


def _json_tokens(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield each bracket, comma and string of a JSON text (a string as its quote) with its start and its end."""
    position = 0
    while found := _STRUCTURE.search(text, position):
        position = found.end()
        while found.group() == '"' and (inner := _QUOTE_OR_ESCAPE.search(text, position)):
            position = inner.end()
            if inner.group() == '"':
                break
            position += 1  # what is escaped
        yield found.group(), found.start(), position


def _json_lines(text: str) -> dict[KeyPath, int]:
    """Return the line of every key and list item of a text that is known to be JSON, up to `MAX_VALUES` of them."""
    lines: dict[KeyPath, int] = {}
    path: list[str | int] = []
    line, counted = 1, 0

    def note(position: int) -> None:
        nonlocal line, counted
        line, counted = line + text.count("\n", counted, position), position
        lines[tuple(path)] = line

    def note_next(position: int) -> None:
        following = _NEXT.match(text, position)
        if following and following.group(1) != "]":  # an empty list has no item
            note(following.start(1))

    note_next(0)
    for character, start, end in _json_tokens(text):
        if len(lines) >= MAX_VALUES:
            break
        if character in "]}":
            path.pop()
        elif character == "{":
            path.append("")
        elif character == '"' and _COLON.match(text, end):
            path[-1] = json.loads(text[start:end])
            note(start)
        elif character == "[":
            path.append(0)
            note_next(end)
        elif character == "," and isinstance(index := path[-1], int):
            path[-1] = index + 1
            note_next(end)
    return lines
