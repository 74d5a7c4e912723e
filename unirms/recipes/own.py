"""Files of unirms itself: an `RMSPropConfig`, field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unirms import files
from unirms.config import RMSPropConfig
from unirms.documents import Document, KeyPath
from unirms.recipes.base import Format, Recipe, located
from unirms.translation import Native


@dataclass(frozen=True)
class OwnRecipe(Recipe):
    """A config as a file states it; its settings are the config's fields."""

    def config(self) -> RMSPropConfig:
        """Return the config.

        Raises:
            ConfigError: fields that no config has, or values that it does not allow.
        """
        return RMSPropConfig(**self.settings)


def recognises(document: Document) -> bool:
    """Return whether a document has the key of the schema version, or nothing but fields of a config."""
    data = document.data
    if not isinstance(data, Mapping) or not data:
        return False
    return files.FORMAT in data or all(key in RMSPropConfig.model_fields for key in data)


def read(document: Document) -> tuple[Recipe, ...]:
    """Return the one config of a document.

    Raises:
        ConfigError: it is no config, or was made by a newer unirms.
    """
    fields = files.fields_of(document)
    lines = located(document, {"": (), **{name: (name,) for name in fields}, **_places_in_groups(fields)})
    return (OwnRecipe(files.FORMAT, "unirms.RMSPropConfig", fields, lines=lines),)


def _places_in_groups(fields: Mapping[str, Any]) -> dict[str, KeyPath]:
    """Return where each field of a group stands, by the name under which a diagnosis speaks of it."""
    groups = fields.get("groups")
    return {
        f"groups[{index}].{name}": ("groups", index, name)
        for index, group in enumerate(groups if isinstance(groups, list) else [])
        for name in (group if isinstance(group, Mapping) else ())
    }


def write(native: Native) -> str:
    """Return what a native class computes, as a config in YAML."""
    return files.to_text(native.meaning, "yaml")


FORMAT = Format(files.FORMAT, "a config of unirms, field by field", recognises, read, write, groups=True)
