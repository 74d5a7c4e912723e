"""YAML, JSON and TOML text, read into plain Python data. Nothing that a text says can run code or exhaust memory.

Every mapping has text keys.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from unirms.documents import json, toml, yaml
from unirms.documents.base import MAX_BYTES, MAX_DEPTH, Document, KeyPath, refuse
from unirms.errors import ConfigError

__all__ = ["KINDS", "Document", "KeyPath", "check", "kind_of", "parse", "read", "read_text", "shown"]

# Of the codecs that source may name, punycode takes minutes for a mebibyte.
_ALPHABETS: Final = re.compile("utf-8|iso|latin|cp|windows|mac|koi8|gb|big5|euc|shift|johab|hz|tis", re.IGNORECASE)
KINDS: Final = {".yaml": "yaml", ".yml": "yaml", ".json": "json", ".toml": "toml"}


def _parse_text(text: str, name: str) -> Document:
    return Document(text, "text", name)


_PARSERS: Final = {"yaml": yaml.parse, "json": json.parse, "toml": toml.parse, "text": _parse_text}


def parse(text: str, kind: str, *, name: str = "the text") -> Document:
    """Return a YAML, JSON or TOML text as data; `kind` "text" leaves it as it is.

    Raises:
        ConfigError: the text is malformed, too large, too deep, or holds something that is not plain data.
    """
    if kind not in _PARSERS:
        raise ConfigError([f"{kind!r} is not a kind of text that unirms reads; they are {', '.join(_PARSERS)}"])
    _check_text(text, name)
    try:
        document = _PARSERS[kind](text, name)
    except RecursionError:
        refuse(name, f"it is nested deeper than {MAX_DEPTH}")
    check(document.data, name)
    return document


def read(path: str | Path, kind: str | None = None) -> Document:
    """Return the data of a file; its kind follows from its suffix unless it is given.

    Raises:
        ConfigError: the file cannot be read or parsed, or its suffix is none of .yaml, .yml, .json and .toml.
    """
    return parse(read_text(path), kind or kind_of(path), name=str(path))


def kind_of(path: str | Path) -> str:
    """Return the kind of text in a file, by its suffix.

    Raises:
        ConfigError: a suffix that says nothing.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in KINDS:
        raise ConfigError([f"{path}: the suffix {suffix!r} names no format; use one of {', '.join(KINDS)}"])
    return KINDS[suffix]


def read_text(path: str | Path, *, source: bool = False) -> str:
    """Return the text of a file, which is UTF-8 with or without a byte order mark.

    Python source may declare another encoding in its first two lines (PEP 263).

    Raises:
        ConfigError: the file is missing, unreadable, not UTF-8, or larger than 1 MiB.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        refuse(str(path), error.strerror or str(error))
    except ValueError as error:  # a null character in the path
        refuse(repr(str(path)), str(error))
    _check_size(len(content), str(path))
    try:
        return content.decode(_declared(content) if source else "utf-8-sig")
    except UnicodeDecodeError as error:
        refuse(str(path), f"byte {error.start} is not {error.encoding.upper()}; save the file as UTF-8")


def _declared(content: bytes) -> str:
    """Return the encoding that Python source declares, or UTF-8."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    except SyntaxError:  # no such encoding
        return "utf-8-sig"
    return encoding if _ALPHABETS.match(encoding) else "utf-8-sig"


def shown(path: KeyPath) -> str:
    """Return a path as people write it, `optimizer.groups[0].lr`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def check(data: Any, name: str) -> None:
    """Refuse data that is too deep or too large to walk, or holds text that nothing can print.

    Raises:
        ConfigError: naming the data and the limit.
    """
    excess = _excess(data)
    if excess:
        refuse(name, excess)


def _check_size(size: int, name: str) -> None:
    if size > MAX_BYTES:
        refuse(name, f"it is larger than {MAX_BYTES:,} bytes; keep the optimizer's settings in a file of their own")


def _check_text(text: str, name: str) -> None:
    _check_size(len(text), name)
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        refuse(name, f"character {error.start} is half of a surrogate pair, which is no text")
    _check_size(size, name)
    if "\0" in text:
        refuse(name, "it has a null character; it is not text", text.count("\n", 0, text.index("\0")) + 1)


def _excess(data: Any) -> str:
    """Return why data is refused, or ""; level by level, so that neither depth nor loops can harm."""
    level, values = [data], 0
    for _ in range(MAX_DEPTH + 1):
        values += len(level)
        if values > MAX_BYTES:  # no text that is allowed has more; an object that holds itself does
            return f"it holds more than {MAX_BYTES:,} values"
        for item in level:
            if isinstance(item, str) and not _printable(item):
                return f"{item!r} has half of a surrogate pair, which is no text"
        level = [inner for item in level for inner in _inside(item)]
        if not level:
            return ""
    return f"it is nested deeper than {MAX_DEPTH}"


def _inside(item: Any) -> Iterator[Any]:
    if isinstance(item, Mapping):
        yield from item.keys()
        yield from item.values()
    elif isinstance(item, (list, tuple)):
        yield from item


def _printable(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
