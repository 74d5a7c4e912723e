"""What a document is, and the limits that every kind of text keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from unirms.errors import ConfigError

KeyPath = tuple[str | int, ...]

MAX_BYTES: Final = 2**20
"""A recipe is a page; among models that carry one, Keras's NASNetLarge serializes to 1,033,954 bytes."""
MAX_DEPTH: Final = 64
"""Readers and pydantic walk the data by recursion; Python allows about 1000 calls, and recipes are ten deep."""
MAX_VALUES: Final = 50_000
"""Values in a YAML text with its aliases written out: 22 MiB of memory in one list, 50 at the bottom of 50 lists."""
MAX_DIGITS: Final = 400
"""No double has more than 309 digits before its point; Python itself stops at 4300 with an error of its own."""


@dataclass(frozen=True)
class Document:
    """A text as data.

    Attributes:
        data: mappings with text keys, lists, text, numbers, booleans, None (and dates, in TOML).
        kind: "yaml", "json", "toml" or "text".
        name: what to call it in a message: the file, or "the text".
        lines: the line of a key or list item by its path, counted from 1; empty for TOML.
        surprises: plain YAML scalars that a YAML 1.1 reader such as PyYAML reads as something else, by path:
            as read here, as read there.
    """

    data: Any
    kind: str
    name: str = "the text"
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    surprises: Mapping[KeyPath, tuple[Any, Any]] = field(default_factory=dict)

    def at(self, path: KeyPath = ()) -> str:
        """Return what to call a place in a message: the document's name, and the line where it is known."""
        return f"{self.name}, line {self.lines[path]}" if path and path in self.lines else self.name


def refuse(name: str, reason: str, line: int | None = None) -> NoReturn:
    """Raise a `ConfigError` of one sentence: the document, the line where it is known, the reason."""
    place = name if line is None else f"{name}, line {line}"
    raise ConfigError([f"{place}: {reason}"])
