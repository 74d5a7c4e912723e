"""What unirms says beside the variables of an optimizer in an HDF5 file, where Keras has no place for it.

It is one attribute of their group, so that Keras, and its stock class, read the variables as ever. `UniRMSProp` writes
it as well; so this module loads nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

from pydantic import TypeAdapter

from unirms.config import RMSPropConfig
from unirms.schedules.plateau import PlateauState

ATTRIBUTE: Final = "unirms"
_LONGEST: Final = 60_000
"""HDF5 keeps attributes of up to 64 KiB beside their group."""
_STATE: TypeAdapter[PlateauState] = TypeAdapter(PlateauState)


def say(attributes: Any, config: RMSPropConfig, names: Iterable[str], plateau: PlateauState | None) -> None:
    """Put into the attributes of a group what its variables belong to; nothing if that is too long for one."""
    place = None if plateau is None else {name: repr(value) for name, value in asdict(plateau).items()}
    text = json.dumps({"config": config.model_dump(mode="json"), "names": list(names), "plateau": place})
    if len(text) <= _LONGEST:
        attributes[ATTRIBUTE] = text


def said(text: str) -> tuple[RMSPropConfig, tuple[str, ...], PlateauState | None]:
    """Return what such a text says.

    Raises:
        ValueError, TypeError, KeyError, AttributeError, RecursionError: it is no such text.
    """
    data = json.loads(text)
    plateau = None if data.get("plateau") is None else _STATE.validate_python(data["plateau"])
    return RMSPropConfig(**data["config"]), tuple(str(one) for one in data["names"]), plateau
