"""What may be a name in a file, and how texts and configs are shown in one line."""

from __future__ import annotations

from typing import Final

from unirms import errors
from unirms.config import RMSPropConfig

LONGEST: Final = 300
"""Characters of a name or a path in a message."""
LONGEST_NAME: Final = 1000
"""Characters of the name of a parameter: frameworks join the names of nested modules, which takes tens of them."""


def plain(text: str, longest: int = LONGEST) -> str:
    """Return a text for a message: one line, with control characters as escapes, and not too long."""
    return errors.plain(text, longest)


def problem(name: str) -> str:
    """Return why a text cannot be the name of a parameter; "" if it can.

    No name is ever used as a path. One that would lead somewhere as a path, or that no terminal shows, comes from
    somebody who hopes otherwise.
    """
    if not name:
        return "a parameter has no name"
    if len(name) > LONGEST_NAME:
        return (
            f"{plain(name, 100)!r} is no name of a parameter: it has {len(name)} characters of {LONGEST_NAME} at most"
        )
    if not name.isprintable():
        return f"{plain(name)!r} is no name of a parameter: it has control characters"
    if name.startswith("/") or ".." in name.replace("\\", "/").split("/"):
        return f"{plain(name)!r} is no name of a parameter: it is a path that leads out of its folder"
    return ""


def keywords(config: RMSPropConfig) -> str:
    """Return the keyword arguments of `RMSPropConfig` that make a config, without those that are the defaults."""
    plain = config.model_dump(exclude_none=True)
    said = {
        name: plain[name] for name, field in type(config).model_fields.items() if getattr(config, name) != field.default
    }
    return ", ".join(f"{name}={value!r}" for name, value in said.items())
