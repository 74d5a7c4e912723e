"""Diagnosis of recipes: codes, rules, and what the classes are known to get wrong.

Names are loaded when they are first used: a translation asks for `warnings_of` alone, and needs no catalogue for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from unirms.diagnosis.base import Diagnosis

if TYPE_CHECKING:
    from unirms.config import RMSPropConfig
    from unirms.diagnosis.catalogue import CODES as CODES
    from unirms.diagnosis.subject import Subject
    from unirms.recipes.base import Recipe
    from unirms.translation import Native

__all__ = ["CODES", "Diagnosis", "diagnose", "diagnose_config", "warnings_of"]


def __getattr__(name: str) -> Any:
    if name != "CODES":
        raise AttributeError(f"module 'unirms.diagnosis' has no attribute {name!r}")
    from unirms.diagnosis.catalogue import CODES

    return CODES


def diagnose(recipe: Recipe, *, dtype: str | None = None) -> tuple[Diagnosis, ...]:
    """Return what is wrong with a recipe, or may be, in the order of the codes' groups (U1, U2, U3).

    Args:
        recipe: what a reader of `unirms.recipes` returned; its settings may be anything.
        dtype: the dtype of the weights, for the numeric hazards: "float16", "bfloat16", "float32" (the default) or
            "float64".

    Raises:
        ConfigError: no such dtype.
    """
    from unirms.diagnosis import hazards, statement, values
    from unirms.files import FORMAT

    precision = hazards.precision(dtype)
    if recipe.format == FORMAT:
        return (*statement.surprises(recipe), *_own(recipe, dtype))
    subject, wrong = statement.subject_of(recipe)
    if subject is None:
        return (*wrong, *statement.remarks(recipe))
    rules = (statement.keywords, statement.group_keys, statement.types, values.numbers, values.combinations)
    found = [*wrong, *statement.surprises(recipe)]
    for rule in (*rules, values.groups, values.filters):
        found += rule(subject)
    unsure = {diagnosis.setting for diagnosis in found if diagnosis.severity == "error"}
    return (*found, *_hazards(subject, precision, unsure), *statement.remarks(recipe))


def diagnose_config(config: RMSPropConfig, *, dtype: str | None = None) -> tuple[Diagnosis, ...]:
    """Return the numeric hazards (U3) of a config and of its groups.

    `dtype` is that of the weights, "float32" by default. The setting of a hazard is the field, or "groups[0].epsilon".

    Raises:
        ConfigError: no such dtype.
    """
    from unirms.diagnosis import hazards
    from unirms.diagnosis.catalogue import found

    precision = hazards.precision(dtype)
    seen = list(hazards.hazards(config, precision))
    diagnoses = [found(hazard.code, message, fix, setting=hazard.fields[0]) for hazard, message, fix in seen]
    for index, group in enumerate(config.groups):
        own = {field for field in type(group).model_fields if getattr(group, field) is not None}
        for hazard, message, fix in hazards.of_group(config.for_group(group), precision, seen, own):
            place = f"groups[{index}].{next(field for field in hazard.fields if field in own)}"
            whose = f"parameters named {' or '.join(group.match)}"
            diagnoses.append(found(hazard.code, f"{whose}: {message}", fix, setting=place))
    return tuple(diagnoses)


def warnings_of(native: Native, *, dtype: str | None = None) -> tuple[Diagnosis, ...]:
    """Return what the target class gets wrong on some devices or for some inputs with these arguments (U4).

    `dtype` is that of the weights; None means that it may be any.
    """
    from unirms.diagnosis import defects

    return defects.of(native, dtype)


def _hazards(subject: Subject, precision: Any, unsure: set[str]) -> Iterator[Diagnosis]:
    """Yield the hazards of what the recipe means, as far as its settings are known and right."""
    from unirms.diagnosis import hazards, reading
    from unirms.recipes.base import some

    config, unknown = reading.meaning(subject, unsure)
    seen = [] if config is None else list(hazards.hazards(config, precision))
    for hazard, message, fix in seen:
        if not unknown & set(hazard.fields):
            native = subject.dialect.name_of(hazard.fields[0])
            yield subject.found(hazard.code, message, fix, reading.setting_of(subject, native))
    for index, group in enumerate(subject.recipe.groups):
        config, unknown = reading.meaning(subject, unsure, index)
        places = reading.places_of_group(subject, index)
        for hazard, message, fix in hazards.of_group(config, precision, seen, places.keys()) if config else ():
            if not unknown & set(hazard.fields):
                place = next(places[field] for field in hazard.fields if field in places)
                whose = f"the group of {some(group.params)}" if group.params else f"group {index}"
                yield subject.found(hazard.code, f"{whose}: {message}", fix, place)


def _own(recipe: Recipe, dtype: str | None) -> tuple[Diagnosis, ...]:
    """Return what is wrong with a config of unirms: what its own reader says, or its numeric hazards."""
    from unirms.diagnosis import reading

    config, wrong = reading.own(recipe)
    if config is None:
        return wrong
    lines = recipe.lines
    return tuple(
        Diagnosis(d.code, d.severity, d.message, d.fix, d.setting, lines.get(d.setting, lines.get("")))
        for d in diagnose_config(config, dtype=dtype)
    )
