"""LightningCLI: a mapping with `class_path`, the class, and `init_args`, its arguments, at any depth of a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from unirms.dialects.calls import NativeCall
from unirms.documents import Document, KeyPath
from unirms.errors import ConfigError, as_given
from unirms.files import to_yaml
from unirms.recipes.base import Format, Recipe, mappings, names_rmsprop, recipe_at
from unirms.translation import Native

TARGET: Final = "class_path"
ARGUMENTS: Final = "init_args"
MORE: Final = "dict_kwargs"
"""Arguments that jsonargparse finds no parameter for, and passes all the same."""


def recognises(document: Document) -> bool:
    """Return whether some mapping names an RMSProp as its `class_path`."""
    return any(names_rmsprop(mapping.get(TARGET)) for _, mapping in mappings(document.data))


def read(document: Document) -> tuple[Recipe, ...]:
    """Return a recipe for every mapping whose `class_path` is an RMSProp.

    Raises:
        ConfigError: there is none, or its `init_args` are no mapping.
    """
    found = [(path, mapping) for path, mapping in mappings(document.data) if names_rmsprop(mapping.get(TARGET))]
    if not found:
        raise ConfigError([f"{document.name}: no {TARGET} names an RMSProp, as {TARGET}: torch.optim.RMSprop"])
    return tuple(_recipe(document, path, mapping) for path, mapping in found)


def write(native: Native) -> str:
    """Return a native call as `class_path` and `init_args` in YAML."""
    return to_yaml({TARGET: native.target, ARGUMENTS: native.kwargs})


def _recipe(document: Document, path: KeyPath, mapping: Mapping[str, Any]) -> Recipe:
    stated: dict[str, Any] = {}
    for key in (ARGUMENTS, MORE):
        found = mapping.get(key)
        if not isinstance(found, Mapping) and found is not None:
            place = document.at((*path, key))
            raise ConfigError([f"{place}: {key}={as_given(found)} must be a mapping of argument names to values"])
        stated |= found or {}
    settings = {name: _call(value) for name, value in stated.items()}
    target = mapping[TARGET].strip()
    # jsonargparse, like OmegaConf, teaches PyYAML that 1e-8 is a number.
    return recipe_at(document, path, FORMAT.name, target, settings, named=TARGET, inside=(ARGUMENTS,), numbers=False)


def _call(value: Any) -> Any:
    """Return a nested `class_path` as a `NativeCall`, and any other value as it is."""
    if not isinstance(value, Mapping) or not isinstance(value.get(TARGET), str):
        return value
    inner = value.get(ARGUMENTS)
    kwargs = inner if isinstance(inner, Mapping) else {}
    return NativeCall(value[TARGET], **{name: _call(argument) for name, argument in kwargs.items()})


# The dialects whose classes are PyTorch optimizers, which is what Lightning can use.
FORMAT = Format(
    "lightning",
    "LightningCLI: class_path and init_args",
    recognises,
    read,
    write,
    dialects=("torch", "timm", "sb3", "pfrl"),
)
