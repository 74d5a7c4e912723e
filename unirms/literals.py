"""Values as people type them on a command line: `lr=0.01`, `centered=true`, `weight_decay=None`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from unirms.errors import ConfigError

_WORDS: Final[dict[str, Any]] = {"true": True, "false": False, "none": None, "null": None}
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,30}")
_NUMBER: Final = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?inf|nan")


def scalar(text: str) -> Any:
    """Return what a word stands for: a bool, None, an int, a float, or the word itself. Nothing is evaluated."""
    word = text.strip()
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    if _INTEGER.fullmatch(word):
        return int(word)
    if _NUMBER.fullmatch(word.lower()):
        return float(word)
    return word


def assignments(pairs: Iterable[str]) -> dict[str, Any]:
    """Return `{"lr": 0.01, …}` for `["lr=0.01", …]`.

    Raises:
        ConfigError: a word that is not NAME=VALUE, or a name given twice.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise ConfigError([f"{pair!r} is not NAME=VALUE; write for example lr=0.01"])
        if name.strip() in found:
            raise ConfigError([f"{name.strip()} is given twice; give it once"])
        found[name.strip()] = scalar(value)
    return found
