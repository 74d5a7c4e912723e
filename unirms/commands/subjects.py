"""What a command is about: a file, or a dialect with settings, named by one word of the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unirms import dialects
from unirms.config import RMSPropConfig
from unirms.errors import ConfigError, UnknownNameError, as_given, did_you_mean
from unirms.literals import assignments


@dataclass(frozen=True)
class Subject:
    """An RMSProp that the user named.

    Attributes:
        name: what to call it in a table: the file, or the class.
        config: what it means.
        dialect: the dialect in which it was stated, or "" for a file of unirms itself.
        settings: the native settings as stated; empty for a file of unirms itself.
        remarks: what the tool of a recipe does beside its optimizer, a sentence each.
    """

    name: str
    config: RMSPropConfig
    dialect: str
    settings: Mapping[str, Any]
    remarks: tuple[str, ...] = ()


def is_file(word: str) -> bool:
    """Return whether a word is the path of something that exists."""
    return os.path.exists(word)  # noqa: PTH110 - Path.exists raises for a word that is too long for a path


def from_settings(dialect: str, pairs: list[str]) -> Subject:
    """Return what `DIALECT` with `NAME=VALUE` pairs means.

    Raises:
        UnknownNameError: no such dialect.
        ConfigError: pairs that are none, or that the dialect does not take.
    """
    spoken = dialects.get(dialect)
    if len(pairs) == 1 and "=" not in pairs[0] and is_file(pairs[0]):
        raise ConfigError([f"{as_given(pairs[0])} is a file, which says itself whose words it has; drop {spoken.name}"])
    settings = assignments(pairs)
    return Subject(spoken.target, spoken.read(settings), spoken.name, settings)


def from_word(word: str, *, format: str | None = None) -> Subject:
    """Return what a word means: the path of a file, or `DIALECT:name=value,name=value` (or `DIALECT` alone).

    Raises:
        UnknownNameError: neither a file nor a dialect.
        ConfigError: a file that cannot be read, or settings that the dialect does not take.
    """
    if is_file(word) or format is not None:
        return from_file(Path(word), format=format)
    name, _, rest = word.partition(":")
    try:
        dialects.get(name)
    except UnknownNameError:
        right = did_you_mean(name, dialects.all_dialects(), "the dialects are")
        raise UnknownNameError(f"{as_given(word)} is neither a file nor a dialect; {right}") from None
    return from_settings(name, [pair for pair in rest.split(",") if pair.strip()])


def from_file(path: Path, *, format: str | None = None) -> Subject:
    """Return the RMSProp that a file states: a config of unirms, or a recipe of another tool.

    Raises:
        ConfigError: it cannot be read, or states no RMSProp, or several.
    """
    from unirms.files import FORMAT
    from unirms.recipes import config_of, read_one

    recipe = read_one(path, format=format)
    config = config_of(recipe, path)
    if recipe.format == FORMAT:
        return Subject(str(path), config, "", {})
    return Subject(str(path), config, recipe.dialect.name, recipe.settings, recipe.remarks)
