"""Hydra: a mapping with `_target_`, the class, and its keyword arguments beside it, at any depth of a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from unirms import dialects
from unirms.dialects.calls import NativeCall
from unirms.documents import Document, KeyPath, shown
from unirms.errors import ConfigError, UnirmsError
from unirms.files import to_yaml
from unirms.recipes.base import Format, Recipe, mappings, names_rmsprop, recipe_at
from unirms.translation import Native

TARGET: Final = "_target_"
ARGUMENTS: Final = "_args_"
HOW_TO_CALL: Final = (TARGET, "_partial_", "_recursive_", "_convert_")
"""Keys that are Hydra's own (https://hydra.cc/docs/advanced/instantiate_objects/overview/)."""
MISSING: Final = "???"


def recognises(document: Document) -> bool:
    """Return whether some mapping names an RMSProp as its `_target_`."""
    return any(names_rmsprop(mapping.get(TARGET)) for _, mapping in mappings(document.data))


def read(document: Document) -> tuple[Recipe, ...]:
    """Return a recipe for every mapping whose `_target_` is an RMSProp.

    Raises:
        ConfigError: there is none, it has positional arguments, or a setting is missing or an interpolation.
    """
    found = [(path, mapping) for path, mapping in mappings(document.data) if names_rmsprop(mapping.get(TARGET))]
    if not found:
        raise ConfigError([f"{document.name}: no {TARGET} names an RMSProp, as {TARGET}: torch.optim.RMSprop"])
    return tuple(_recipe(document, path, mapping) for path, mapping in found)


def write(native: Native) -> str:
    """Return a native call as Hydra's YAML; a framework's object in it becomes a nested `_target_`."""
    return to_yaml({TARGET: native.target, **{name: _written(value) for name, value in native.kwargs.items()}})


def _recipe(document: Document, path: KeyPath, mapping: Mapping[str, Any]) -> Recipe:
    target = mapping[TARGET].strip()
    if mapping.get(ARGUMENTS):
        place = document.at((*path, ARGUMENTS))
        raise ConfigError([f"{place}: {ARGUMENTS} of {target} cannot be read; give the arguments by name"])
    settings = {key: call(value) for key, value in mapping.items() if key not in {*HOW_TO_CALL, ARGUMENTS}}
    for name, value in settings.items():
        _check_resolved(document, (*path, name), target, value)
    # OmegaConf teaches PyYAML that 1e-8 is a number, and leaves the rest of YAML 1.1 as it is.
    return recipe_at(document, path, FORMAT.name, target, settings, named=TARGET, numbers=False)


def call(value: Any) -> Any:
    """Return a nested `_target_` as a `NativeCall`, and any other value as it is."""
    if not isinstance(value, Mapping) or not isinstance(value.get(TARGET), str):
        return value
    args = value.get(ARGUMENTS)
    kwargs = {key: call(inner) for key, inner in value.items() if key not in {*HOW_TO_CALL, ARGUMENTS}}
    return NativeCall(value[TARGET], *(args if isinstance(args, (list, tuple)) else ()), **kwargs)


def _check_resolved(document: Document, path: KeyPath, target: str, value: Any) -> None:
    """Refuse `???` and `${…}` in a setting that concerns the update; `params: ???` is how Hydra users write it."""
    if not isinstance(value, str) or (value != MISSING and "${" not in value):
        return
    if not _concerns_the_update(target, str(path[-1]), value):
        return
    reason = "is still to be given" if value == MISSING else "is an interpolation, which only Hydra can resolve"
    raise ConfigError(
        [f"{document.at(path)}: {shown(path)}: {value} {reason}; write the value, or the output of --cfg job --resolve"]
    )


def _concerns_the_update(target: str, name: str, value: Any) -> bool:
    try:
        argument = dialects.of_target(target).argument(name)
        return argument is None or argument.read(value) != {}
    except UnirmsError:
        return True


def _written(value: Any) -> Any:
    if not isinstance(value, NativeCall):
        return value
    inner = {name: _written(argument) for name, argument in value.kwargs.items()}
    args = {ARGUMENTS: [_written(argument) for argument in value.args]} if value.args else {}
    return {TARGET: value.name, **args, **inner}


FORMAT = Format("hydra", "Hydra: _target_ and keyword arguments", recognises, read, write)
