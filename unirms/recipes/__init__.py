"""Recipes: how other tools write an RMSProp down, a module for each format.

No reader imports or runs anything that a recipe names: a class is a word, and is looked up in the dialects.
A new format is a new file with a `FORMAT` and a line in `_FILES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from numbers import Number
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unirms import dialects, documents, semantics
from unirms.dialects.base import Dialect
from unirms.dialects.calls import NativeCall
from unirms.documents import Document
from unirms.errors import ConfigError, UnknownNameError, did_you_mean
from unirms.recipes.base import Format, Group, Recipe
from unirms.schedules import AnySchedule

if TYPE_CHECKING:
    from unirms.config import RMSPropConfig
    from unirms.translation import Native

__all__ = [
    "Format",
    "Group",
    "Recipe",
    "all_formats",
    "config_of",
    "get",
    "read_file",
    "read_object",
    "read_one",
    "read_text",
    "write",
]

# In the order in which a document is shown to them: those that name a class, then those that are known by their keys.
_FILES = ("hydra", "lightning", "keras", "torch", "huggingface", "timm", "paddleclas", "mindcv", "own")


@cache
def all_formats() -> dict[str, Format]:
    """Return every format by its name, in the order in which they are tried."""
    found = (import_module(f"unirms.recipes.{file}").FORMAT for file in _FILES)
    return {format.name: format for format in found}


def get(name: str) -> Format:
    """Return the format of that name; letter case does not matter.

    Raises:
        UnknownNameError: no such format.
    """
    wanted = str(name).lower()
    if wanted in all_formats():
        return all_formats()[wanted]
    raise UnknownNameError(f"{name!r} is not a format that unirms reads; {did_you_mean(wanted, all_formats())}")


def read_file(path: str | Path, *, format: str | None = None) -> tuple[Recipe, ...]:
    """Return the RMSProps that a file states, in the order of the file; there is at least one.

    Args:
        path: a .yaml, .yml, .json or .toml file, or any other text, whose kind is then found from its content.
        format: the name of its format; without it, the format is recognised by the content.

    Raises:
        ConfigError: the file cannot be read, or states no RMSProp that unirms can read.
        UnknownNameError: no such format.
    """
    chosen = None if format is None else get(format)
    kind = documents.KINDS.get(Path(path).suffix.lower())
    return _read(documents.read_text(path), kind, chosen, str(path))


def read_one(path: str | Path, *, format: str | None = None) -> Recipe:
    """Return the one RMSProp that a file states; see `read_file`.

    Raises:
        ConfigError: the file cannot be read, or states no RMSProp that unirms can read, or several.
        UnknownNameError: no such format.
    """
    found = read_file(path, format=format)
    if len(found) > 1:
        places = ", ".join(f"line {recipe.lines['']}" if "" in recipe.lines else recipe.target for recipe in found)
        raise ConfigError([f"{path} states {len(found)} RMSProps ({places}); name one in a file of its own"])
    return found[0]


def config_of(recipe: Recipe, path: str | Path) -> RMSPropConfig:
    """Return what a recipe of a file means; an error names the file, and the line where it is known.

    Raises:
        UnknownNameError: no class that unirms knows.
        ConfigError: settings that the class does not take, or that no config can say.
    """
    try:
        return recipe.config()
    except UnknownNameError as error:
        raise UnknownNameError(f"{_place(recipe, path, '')}: {error}") from None
    except ConfigError as error:
        raise ConfigError([f"{_place(recipe, path, problem)}: {problem}" for problem in error.problems]) from None


def _place(recipe: Recipe, path: str | Path, problem: str) -> str:
    """Return the file, and the line of the setting with which a problem begins."""
    setting = problem.removeprefix(f"{recipe.target}: ").partition("=")[0].partition(".")[0]
    return f"{path}, line {recipe.lines[setting]}" if setting in recipe.lines else str(path)


def read_text(text: str, *, format: str | None = None, name: str = "the text") -> tuple[Recipe, ...]:
    """Return the RMSProps that a text states: YAML, JSON, TOML or a command line; `name` stands for it in messages.

    Raises:
        ConfigError: the text is malformed, or states no RMSProp that unirms can read.
        UnknownNameError: no such format.
    """
    chosen = None if format is None else get(format)
    return _read(text, None, chosen, name)


def read_object(obj: Any, *, format: str | None = None, name: str = "the object") -> tuple[Recipe, ...]:
    """Return the RMSProps that parsed data states: a dict, `optimizer.param_groups`, a serialized Keras optimizer.

    Raises:
        ConfigError: it states no RMSProp that unirms can read.
        UnknownNameError: no such format.
    """
    chosen = None if format is None else get(format)
    documents.check(obj, name)
    return _by_content([Document(_plain(obj), "object", name)], chosen)


def write(config: RMSPropConfig | Native, format: str, dialect: str | None = None) -> str:
    """Return text that states a config in a format, in the words of a dialect.

    Args:
        config: a config, or what `config.to_native(dialect)` returned.
        format: the name of the format.
        dialect: the dialect to write in; a native call has it already.

    Raises:
        ConfigError: the format is not written, or cannot say it in this dialect.
        UnknownNameError: no such format or dialect.
    """
    chosen = get(format)
    if chosen.write is None:
        able = ", ".join(name for name, one in all_formats().items() if one.write)
        raise ConfigError([f"unirms reads {chosen.name} and does not write it; it writes {able}"])
    native = _native(config, dialect, chosen)
    if chosen.dialects and native.dialect not in chosen.dialects:
        able = ", ".join(chosen.dialects)
        raise ConfigError([f"{chosen.name} does not know {native.target}; write it in one of the dialects {able}"])
    unsaid = [group for group in native.meaning.groups if group.overrides() or group.learning_rate_factor is not None]
    if unsaid and not chosen.groups:
        able = ", ".join(name for name, one in all_formats().items() if one.groups)
        of = " and ".join(" or ".join(group.match) for group in unsaid)
        raise ConfigError([f"{chosen.name} cannot say parameter groups (groups of {of}); write the format {able}"])
    text = chosen.write(native)
    _check_written(text, chosen, native)
    return text


def _plain(value: Any) -> Any:
    """Return a copy with text as keys and plain values; an object that is not plain data stays as its class's name.

    A tensor or array without dimensions, as `lr` may be, is its number.
    """
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, (str, NativeCall)):
        return value
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        with suppress(TypeError, ValueError, RuntimeError):  # a tensor without data
            value = value.item()
    if isinstance(value, Number):
        return value
    return NativeCall(f"{type(value).__module__}.{type(value).__qualname__}")


def _native(config: RMSPropConfig | Native, dialect: str | None, chosen: Format) -> Native:
    from unirms.translation import Native

    if isinstance(config, Native):
        return config
    if dialect is None and len(chosen.dialects) != 1:
        raise ConfigError(["a config has no dialect of its own; say in which to write it, as dialect='torch'"])
    return config.to_native(chosen.dialects[0] if dialect is None else dialect)


def _check_written(text: str, chosen: Format, native: Native) -> None:
    """Refuse text that its reader would take for another optimizer, as where a tool exempts biases by itself."""
    (recipe,) = read_text(text, format=chosen.name)
    spoken = dialects.get(native.dialect)
    found = semantics.differences(_as_computed(native.meaning, spoken), _as_computed(recipe.config(), spoken))
    if found:
        raise ConfigError([f"{chosen.name} cannot say it: {difference}" for difference in found])


def _as_computed(config: RMSPropConfig, dialect: Dialect) -> RMSPropConfig:
    """Return a config with the numbers as the class computes them, where it rounds them to float32."""
    return config.replace(**{name: _float32(getattr(config, name)) for name in dialect.rounds})


def _float32(value: Any) -> Any:
    """Return a number as float32 has it; one that would become 0 or infinite stays, as no class can compute with it.

    A schedule stays, too: it is rounded only after it has been computed.
    """
    if isinstance(value, AnySchedule):
        return value
    with np.errstate(over="ignore", under="ignore"):
        rounded = float(np.float32(value))
    return rounded if 0 < rounded < float("inf") else value


def _read(text: str, kind: str | None, chosen: Format | None, name: str) -> tuple[Recipe, ...]:
    if kind is not None:
        return _by_content([documents.parse(text, kind, name=name)], chosen)
    found, error = [], None
    for possible in ("json", "yaml", "toml"):
        try:
            document = documents.parse(text, possible, name=name)
        except ConfigError as refused:
            error = refused if possible == "yaml" else error
        else:
            found += [document] if isinstance(document.data, (dict, list)) else []
    command = documents.parse(text, "text", name=name)
    if error is None or found or any(format.recognises(command) for format in _those(chosen)):
        return _by_content([*found, command], chosen)
    raise error


def _by_content(candidates: list[Document], chosen: Format | None) -> tuple[Recipe, ...]:
    """Return the recipes in the first document that a format recognises; a format that was named says what is wrong."""
    for document in candidates:
        for format in _those(chosen):
            if format.recognises(document):
                return format.read(document)
    if chosen is not None:
        return _read_as(chosen, candidates)
    known = ", ".join(all_formats())
    raise ConfigError([f"{candidates[0].name}: it states no RMSProp that unirms can read; it reads {known}"])


def _read_as(chosen: Format, candidates: list[Document]) -> tuple[Recipe, ...]:
    """Return the recipes in the first document that a format can read, although it would not know it for its own."""
    for document in candidates[:-1]:
        with suppress(ConfigError):
            return chosen.read(document)
    return chosen.read(candidates[-1 if chosen.commands else 0])


def _those(chosen: Format | None) -> list[Format]:
    return list(all_formats().values()) if chosen is None else [chosen]
