"""PaddleClas: an `Optimizer:` section in YAML, with `name: RMSProp`, `lr` and `regularizer` as mappings of their own.

Read off `ppcls/optimizer/__init__.py` and `optimizer.py` (release 2.6): rho, epsilon and momentum default to Paddle's
own 0.95, 1e-6 and 0; there is no `centered`. `regularizer: {name: L2, coeff: c}` is `paddle.regularizer.L2Decay(c)`,
which adds `c * w` to the gradient; `clip_norm` is `paddle.nn.ClipGradByNorm`. Its schedules count epochs, whose updates
depend on the data (`learning_rate.py` multiplies by `step_each_epoch`): the recipe has the rate that they set out from,
and a remark names them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from unirms.dialects.calls import NativeCall
from unirms.documents import Document, KeyPath, shown
from unirms.errors import ConfigError
from unirms.recipes.base import Format, Recipe, given, located, surprising

SECTION: Final = "Optimizer"
PASSED: Final = ("momentum", "rho", "epsilon", "weight_decay")
"""Settings that PaddleClas's RMSProp passes on under the same name."""
NOT_SETTINGS: Final = ("name", "scope", "lr", "regularizer", "clip_norm", "multi_precision")
EXEMPTIONS: Final = ("no_weight_decay_name", "one_dim_param_no_weight_decay")
CONSTANT: Final = ("Constant", "ConstLR")
"""Its schedules that keep the rate, the second unless it warms up."""
ONE_DIMENSION: Final = (
    "one_dim_param_no_weight_decay exempts all parameters with one dimension from weight decay; "
    "add their names to no_weight_decay"
)


def recognises(document: Document) -> bool:
    """Return whether the section `Optimizer` names an RMSProp."""
    return any(True for _ in _found(document))


def read(document: Document) -> tuple[Recipe, ...]:
    """Return a recipe for every RMSProp in the section `Optimizer`.

    Raises:
        ConfigError: there is none, or a part of it is malformed.
    """
    found = tuple(_recipe(document, path, name, section) for path, name, section in _found(document))
    if not found:
        raise ConfigError([f"{document.name}: it has no section {SECTION} with name: RMSProp"])
    return found


def _found(document: Document) -> Iterator[tuple[KeyPath, str, Mapping[str, Any]]]:
    """Yield each section: `{name: RMSProp, …}`, or a list of `{RMSProp: {scope: …, …}}`."""
    section = document.data.get(SECTION) if isinstance(document.data, Mapping) else None
    if isinstance(section, Mapping) and _is_rmsprop(section.get("name")):
        yield (SECTION,), section["name"], section
    for index, item in enumerate(section if isinstance(section, (list, tuple)) else ()):
        for name, inner in item.items() if isinstance(item, Mapping) else ():
            if _is_rmsprop(name) and isinstance(inner, Mapping):
                yield (SECTION, index, name), name, inner


def _is_rmsprop(name: Any) -> bool:
    return isinstance(name, str) and name.strip().lower() == "rmsprop"


def _recipe(document: Document, path: KeyPath, name: str, section: Mapping[str, Any]) -> Recipe:
    foreign = [key for key in section if key not in (*PASSED, *NOT_SETTINGS, *EXEMPTIONS)]
    if foreign:
        known = ", ".join((*PASSED, "lr", "regularizer", "clip_norm", *EXEMPTIONS))
        place = document.at((*path, foreign[0]))
        raise ConfigError([f"{place}: {foreign[0]} is not a setting of PaddleClas's RMSProp; it takes {known}"])
    settings: dict[str, Any] = {"learning_rate": _rate(document, section)}
    settings |= {key: section[key] for key in PASSED if key in section}
    places: dict[str, KeyPath] = {key: (*path, key) for key in settings}
    places |= {"": (*path, "name") if len(path) == 1 else path, "learning_rate": (*path, "lr", "learning_rate")}
    if section.get("regularizer") is not None:
        settings["weight_decay"] = _regularizer(document, section["regularizer"])
        places["weight_decay"] = (*path, "regularizer", "coeff")
    if "clip_norm" in section:
        settings["grad_clip"] = NativeCall("paddle.nn.ClipGradByNorm", section["clip_norm"])
        places["grad_clip"] = (*path, "clip_norm")
    return Recipe(
        FORMAT.name,
        f"paddle.optimizer.{name.strip()}",
        settings,
        no_weight_decay=_exempt(document, section.get("no_weight_decay_name")),
        place=shown(path),
        lines=located(document, places),
        surprises=surprising(document, places),
        remarks=tuple(_remarks(section)),
    )


def _rate(document: Document, section: Mapping[str, Any]) -> Any:
    """Return the learning rate; of a schedule, the one that it sets out from."""
    lr = section.get("lr")
    if not isinstance(lr, Mapping):
        raise ConfigError([f"{document.name}: {SECTION}.lr={lr!r} must be a mapping, as {{learning_rate: 0.01}}"])
    values = lr.get("values")  # of a Piecewise
    if "learning_rate" not in lr and isinstance(values, (list, tuple)) and values:
        return values[0]
    if "learning_rate" not in lr:
        raise ConfigError([f"{document.name}: {SECTION}.lr needs learning_rate"])
    return lr["learning_rate"]


def _schedule(section: Mapping[str, Any]) -> NativeCall | None:
    """Return the schedule as a call, for people to read; None where the rate stays."""
    lr = dict(section["lr"])
    name = lr.pop("name", None)
    if name is None or (name in CONSTANT and not given(lr.get("warmup_epoch"))):
        return None
    return NativeCall(str(name), **{str(key): value for key, value in lr.items()})


def _regularizer(document: Document, stated: Any) -> NativeCall:
    if not isinstance(stated, Mapping) or not isinstance(stated.get("name"), str):
        raise ConfigError([f"{document.name}: {SECTION}.regularizer={stated!r} must be {{name: L2, coeff: 0.0001}}"])
    coeff = {key: value for key, value in stated.items() if key != "name"}
    return NativeCall(f"paddle.regularizer.{stated['name']}Decay", **coeff)


def _exempt(document: Document, names: Any) -> tuple[str, ...] | None:
    """Return patterns for parameters whose name contains one of the words."""
    if names is None:
        return None
    if not isinstance(names, str):
        raise ConfigError([f"{document.name}: no_weight_decay_name={names!r} must be words with spaces between them"])
    return tuple(f"re:{re.escape(word)}" for word in names.split())


def _remarks(section: Mapping[str, Any]) -> Iterator[str]:
    schedule = _schedule(section)
    if schedule is not None:
        yield f"PaddleClas changes the learning rate by its schedule {schedule}, counted in epochs"
    if given(section.get("one_dim_param_no_weight_decay")):
        yield ONE_DIMENSION
    if section.get("regularizer") is not None and "weight_decay" in section:
        yield "PaddleClas ignores weight_decay beside a regularizer"
    if section.get("scope", "all") != "all":
        yield f"it updates the parameters of {section['scope']} alone"


FORMAT = Format("paddleclas", "PaddleClas: the section Optimizer", recognises, read)
