"""Keras: `{module, class_name, config, registered_name}`, as `keras.optimizers.serialize` and saved models have it.

Keras keeps the learning rate in a float32 variable, so `0.001` is serialized as `0.0010000000474974513`. The shortest
decimal that rounds to the same float32 is what the user wrote, and the same number to Keras. Other settings are
serialized as they were given; the legacy classes (`OptimizerV2`) keep rho and momentum in variables, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from unirms import dialects, files
from unirms.config import RMSPropConfig
from unirms.dialects.calls import NativeCall
from unirms.documents import Document, KeyPath, shown
from unirms.errors import ConfigError, UnknownNameError
from unirms.grouping import with_rate
from unirms.recipes.base import Format, Recipe, mappings, names_rmsprop, recipe_at
from unirms.recipes.own import OwnRecipe
from unirms.schedules import Plateau
from unirms.translation import Native

RATES: Final = ("learning_rate", "lr")
"""The second is that of files up to Keras 2.2."""
IN_VARIABLES: Final = {"keras": RATES, "keras-legacy": (*RATES, "rho", "momentum")}
"""Settings that come back from `get_config` rounded to float32, by dialect."""
HOW_IT_RUNS: Final = ("jit_compile", "is_legacy_optimizer")
"""Keys of `tf_keras` configs that say nothing of the update."""
EXACT: Final = "unirms>UniRMSProp"
"""The registered name of the optimizer that unirms builds, whose `config` holds the fields of an `RMSPropConfig`."""
OUR_SCHEDULE: Final = "unirms>UniRMSSchedule"
"""The registered name of the schedule that unirms builds, whose `schedule` is one of `unirms.schedules` as data."""


@dataclass(frozen=True)
class _ExactRecipe(OwnRecipe):
    """The class that unirms builds: its config, and beside it the learning rate that it has now, or its schedule."""

    rate: Any = None

    def config(self) -> RMSPropConfig:
        """Return the config with that learning rate; a plateau stands in the config, and its place nowhere."""
        config = super().config()
        if self.rate is None or isinstance(config.learning_rate, Plateau):
            return config
        rate = _schedule(self.rate)
        if isinstance(rate, NativeCall):
            rate = RMSPropConfig.from_native("keras", learning_rate=rate).learning_rate
        return with_rate(config, RMSPropConfig(learning_rate=rate).learning_rate)


def recognises(document: Document) -> bool:
    """Return whether some mapping is a serialized RMSProp."""
    return any(_is_optimizer(mapping) for _, mapping in mappings(document.data))


def read(document: Document) -> tuple[Recipe, ...]:
    """Return a recipe for every serialized RMSProp: the document itself, or inside a model's `compile_config`.

    Raises:
        ConfigError: there is none.
    """
    found = [(path, mapping) for path, mapping in mappings(document.data) if _is_optimizer(mapping)]
    if not found:
        raise ConfigError([f'{document.name}: it has no {{"class_name": "RMSprop", "config": {{…}}}}'])
    return tuple(_recipe(document, path, mapping) for path, mapping in found)


def write(native: Native) -> str:
    """Return a native call as JSON that `keras.optimizers.deserialize` reads."""
    module, _, class_name = native.target.rpartition(".")
    data = {
        "module": module.replace("tf_keras.", "keras."),
        "class_name": class_name,
        "config": {name: _written(value) for name, value in native.kwargs.items()},
        "registered_name": None,
    }
    return json.dumps(data, indent=2) + "\n"


def shortest(value: Any) -> Any:
    """Return the shortest decimal that rounds to the same float32 for a number that is a float32; else the value."""
    if not isinstance(value, (float, np.floating)) or not np.isfinite(value):
        return value
    with np.errstate(over="ignore", under="ignore"):
        rounded = np.float32(value)
    return float(str(rounded)) if float(rounded) == float(value) else value


def _is_optimizer(mapping: Mapping[str, Any]) -> bool:
    name = mapping.get("class_name")
    return names_rmsprop(name.rpartition(">")[2] if isinstance(name, str) else name) and isinstance(
        mapping.get("config"), Mapping
    )


def _recipe(document: Document, path: KeyPath, mapping: Mapping[str, Any]) -> Recipe:
    stated: Mapping[str, Any] = mapping["config"]
    if mapping.get("registered_name") == EXACT and isinstance(stated.get("config"), Mapping):
        fields, rate = dict(stated["config"]), stated.get("learning_rate")
        return _ExactRecipe(files.FORMAT, "unirms.RMSPropConfig", fields, place=shown(path), rate=rate)
    target = _target(mapping)
    try:
        rounded = IN_VARIABLES.get(dialects.of_target(target).name, ())
    except UnknownNameError:
        rounded = ()
    settings = {
        name: shortest(value) if name in rounded else value for name, value in stated.items() if name not in HOW_IT_RUNS
    }
    for name in settings.keys() & RATES:
        settings[name] = _schedule(settings[name])
    return recipe_at(document, path, FORMAT.name, target, settings, named="class_name", inside=("config",))


def _target(mapping: Mapping[str, Any]) -> str:
    """Return the import path of a serialized class.

    Files of Keras 2 have no module; there, `decay` among the settings tells the legacy class from today's.
    """
    stated = mapping["config"]
    module, name = mapping.get("module"), mapping["class_name"].strip()
    if isinstance(mapping.get("registered_name"), str) and ">" in mapping["registered_name"]:
        return str(mapping["registered_name"])
    legacy = stated.get("is_legacy_optimizer") is True or "decay" in stated
    if not isinstance(module, str) or not module:
        module = "keras.optimizers"
    return f"{module}.legacy.{name}" if legacy and "legacy" not in module else f"{module}.{name}"


def _schedule(value: Any) -> Any:
    """Return a serialized learning-rate schedule as a `NativeCall`, one of unirms as it is, and other values, too."""
    if not isinstance(value, Mapping) or not isinstance(value.get("class_name"), str):
        return value
    module, name, registered = value.get("module"), value["class_name"], value.get("registered_name")
    stated = value.get("config")
    config: Mapping[str, Any] = stated if isinstance(stated, Mapping) else {}
    if registered == OUR_SCHEDULE and "schedule" in config:
        return RMSPropConfig(learning_rate=config["schedule"]).learning_rate
    if isinstance(registered, str) and ">" in registered:  # a class of the user's own
        return NativeCall(registered, **config)
    return NativeCall(f"{module}.{name}" if isinstance(module, str) and module else name, **config)


def _written(value: Any) -> Any:
    """Return a schedule as `keras.optimizers.schedules.serialize` has it, and any other value as it is."""
    if not isinstance(value, NativeCall):
        return value
    module, _, name = value.name.rpartition(".")
    return {
        "module": module.replace("tf_keras.", "keras."),
        "class_name": name,
        "config": value.kwargs,
        "registered_name": None,
    }


FORMAT = Format(
    "keras",
    "Keras: a serialized optimizer, alone or in a saved model",
    recognises,
    read,
    write,
    dialects=("keras", "keras-legacy"),
)
