"""TOML, by the standard library's reader; it knows no lines."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from typing import Any, Final

from unirms.documents.base import MAX_DEPTH, Document, refuse

tomllib: Any = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

# tomllib's time grows with the square of the number of parts of a dotted key, so a long one never reaches it.
_LONG_KEY: Final = re.compile(
    r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){%d}""" % MAX_DEPTH  # noqa: UP031
)


def parse(text: str, name: str) -> Document:
    """Return a TOML text as data; `name` stands for it in messages.

    Raises:
        ConfigError: the text is not TOML, or exceeds a limit.
    """
    found = _LONG_KEY.search(text)
    if found:
        refuse(name, f"a key has more than {MAX_DEPTH} parts", text.count("\n", 0, found.start()) + 1)
    try:
        return Document(tomllib.loads(text), "toml", name)
    except tomllib.TOMLDecodeError as error:
        refuse(name, f"it is not TOML: {error}")
    except ValueError as error:  # an integer of more than 4300 digits, a date that does not exist
        refuse(name, f"it is not TOML: {' '.join(str(error).split())}")
