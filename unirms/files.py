"""Configs as files: YAML, JSON and TOML, with the version of their schema as the first key.

Every field is written, also where it equals its default: the file states the optimizer completely, whatever the
defaults of a later unirms are. Numbers are written so that every reader takes them for numbers: YAML 1.1 readers such
as PyYAML read `1e-8` as text, so it stands as `1.0e-08`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import tomli_w
import yaml

from unirms import documents
from unirms.config import RMSPropConfig
from unirms.documents import Document
from unirms.documents.yaml import scalar
from unirms.errors import ConfigError
from unirms.replacing import replacing

FORMAT: Final = "unirms"
"""The name of this format, and the key of a file's schema version."""
SCHEMA_VERSION: Final = 1
"""The version that is written, and the newest that is read."""
SCHEMA_KEY: Final = "$schema"
"""Editors look for the JSON Schema of a JSON file under this key; it is allowed and means nothing here."""


def save(config: RMSPropConfig, path: str | Path) -> None:
    """Write a config to a file, as YAML, JSON or TOML by its suffix.

    The file is written beside its place and moved there, so an interrupted run leaves the old file whole.

    Raises:
        ConfigError: the suffix names no format, or the file cannot be written.
    """
    text = to_text(config, documents.kind_of(path))
    try:
        replace_text(Path(path), text)
    except (OSError, ValueError) as error:  # the second: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise ConfigError([f"{str(path)!r} cannot be written: {reason}"]) from None


def load(path: str | Path) -> RMSPropConfig:
    """Return the config in a file.

    Raises:
        ConfigError: the file cannot be read, is no config, or was made by a newer unirms.
    """
    return from_document(documents.read(path))


def to_text(config: RMSPropConfig, kind: str) -> str:
    """Return a config as "yaml", "json" or "toml" text; every field is written.

    Raises:
        ConfigError: no such kind.
    """
    if kind not in _WRITERS:
        raise ConfigError([f"{kind!r} is not a kind of file that unirms writes; they are {', '.join(_WRITERS)}"])
    data = {FORMAT: SCHEMA_VERSION, **config.model_dump(mode="json", exclude_none=True)}
    return _WRITERS[kind](data)


def from_text(text: str, kind: str) -> RMSPropConfig:
    """Return the config in a text of that kind: "yaml", "json" or "toml".

    Raises:
        ConfigError: the text is malformed, is no config, or was made by a newer unirms.
    """
    return from_document(documents.parse(text, kind))


def from_document(document: Document) -> RMSPropConfig:
    """Return the config that a document states.

    Raises:
        ConfigError: it is no config, or was made by a newer unirms.
    """
    fields = fields_of(document)
    try:
        return RMSPropConfig(**fields)
    except ConfigError as error:
        raise ConfigError([_placed(document, problem) for problem in error.problems]) from None


def fields_of(document: Document) -> dict[str, Any]:
    """Return the fields that a document states, their values unchecked.

    A document without a version is read as version 1 when every key is a field of the config, as in a file that
    somebody wrote by hand.

    Raises:
        ConfigError: it is no config, or was made by a newer unirms.
    """
    data = document.data
    if not isinstance(data, Mapping) or not data:
        raise ConfigError([f"{document.name}: a config is a mapping of fields, with {FORMAT}: {SCHEMA_VERSION} first"])
    fields = {key: value for key, value in data.items() if key not in {FORMAT, SCHEMA_KEY}}
    if FORMAT in data:
        _check_version(data[FORMAT], document.name)
        return fields
    foreign = [str(key) for key in fields if key not in RMSPropConfig.model_fields]
    if foreign:
        raise ConfigError(
            [
                f"{document.name}: it is not a config of unirms: it has no {FORMAT}: {SCHEMA_VERSION}, "
                f"and {', '.join(foreign[:5])} is not a field of one"
            ]
        )
    return fields


def to_yaml(data: Mapping[str, Any]) -> str:
    """Return plain data as YAML in ASCII, which 1.1 and 1.2 readers read alike (PyYAML loses a raw U+2028)."""
    return str(yaml.dump(dict(data), Dumper=_Dumper, sort_keys=False, width=2**16))


def replace_text(place: Path, text: str) -> None:
    """Write a text file in UTF-8, beside its place and moved there."""
    with replacing(place) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")


def _check_version(version: Any, name: str) -> None:
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ConfigError([f"{name}: {FORMAT}={version!r} is not a schema version; write {FORMAT}: {SCHEMA_VERSION}"])
    if version > SCHEMA_VERSION:
        raise ConfigError(
            [
                f"{name}: made by a newer unirms (schema {version}; this one reads up to {SCHEMA_VERSION}); "
                "upgrade with: pip install -U unirms"
            ]
        )


def _placed(document: Document, problem: str) -> str:
    field = problem.partition("=")[0].partition(".")[0]
    return f"{document.at((field,))}: {problem}"


class _Dumper(yaml.SafeDumper):
    """Writes text that either version of YAML would read as something else in quotes."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Return the node of a text."""
        style = None if isinstance(scalar(text), str) else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    def ignore_aliases(self, data: Any) -> bool:
        """Return True: the same list twice is written twice."""
        return True


_Dumper.add_representer(str, _Dumper.represent_text)

_WRITERS: Final[dict[str, Callable[[dict[str, Any]], str]]] = {
    "yaml": to_yaml,
    "json": lambda data: json.dumps(data, indent=2, ensure_ascii=False) + "\n",
    "toml": tomli_w.dumps,
}
