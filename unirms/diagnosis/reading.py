"""What a recipe means, as far as it can be told: settings that are unknown or wrong are left out."""

from __future__ import annotations

from unirms.config import RMSPropConfig
from unirms.diagnosis.base import Diagnosis
from unirms.diagnosis.catalogue import found
from unirms.diagnosis.kinds import ANY, UNKNOWN, is_required
from unirms.diagnosis.subject import Subject
from unirms.errors import ConfigError
from unirms.recipes.base import Recipe

# Stands for a required learning rate that is not known; no hazard depends on it.
_ANY_RATE = 0.001


def meaning(subject: Subject, unsure: set[str], group: int | None = None) -> tuple[RMSPropConfig | None, set[str]]:
    """Return the config of a recipe without its unsure settings, and the fields that are therefore not known.

    Given the index of a group, both are those of its parameters; a factor is taken for the learning rate, on which no
    hazard depends. The config is None where the class computes something that no config can say.
    """
    dialect, known = subject.dialect, {}
    unknown = set() if subject.is_complete else set(RMSPropConfig.model_fields)
    for name, value in subject.recipe.settings.items():
        argument = subject.argument(name)
        if argument is None:
            continue
        if value is UNKNOWN or name in unsure:
            unknown |= set(argument.fields)
        else:
            known[argument.name] = value
            unknown -= set() if subject.is_complete else set(argument.fields)
    if group is not None:
        if ANY in subject.recipe.groups[group].settings:
            unknown = set(RMSPropConfig.model_fields)
        for setting in subject.settings_of_group(group):
            fields = set(setting.argument.fields)
            if setting.value is UNKNOWN or setting.place in unsure:
                unknown |= fields
            else:
                known[setting.argument.name] = setting.value
                unknown -= fields
    required = {a.name: _ANY_RATE for a in dialect.arguments if is_required(a)}
    try:
        return dialect.read(dialect.with_defaults(subject.target, {**required, **known})), unknown
    except ValueError:  # ConfigError, or an integer that is too long to be printed
        return None, unknown


def places_of_group(subject: Subject, group: int) -> dict[str, str]:
    """Return the fields that a group sets, each with the place of the setting."""
    return {field: setting.place for setting in subject.settings_of_group(group) for field in setting.argument.fields}


def setting_of(subject: Subject, native: str) -> str:
    """Return under which name the recipe has an argument, or "" where it leaves it out."""
    for name in subject.recipe.settings:
        argument = subject.argument(name)
        if argument is not None and argument.name == native:
            return name
    return ""


def own(recipe: Recipe) -> tuple[RMSPropConfig | None, tuple[Diagnosis, ...]]:
    """Return the config of a file of unirms itself, or what is wrong with it."""
    try:
        config = recipe.config()
        for group in config.groups:
            config.for_group(group)  # its factor may take the rate beyond all numbers
        return config, ()
    except ConfigError as error:
        return None, tuple(_refused(recipe, problem) for problem in error.problems)


def _refused(recipe: Recipe, problem: str) -> Diagnosis:
    message, _, fix = problem.partition("; ")
    field = problem.partition("=")[0].partition(".")[0]
    code = "U201" if field in RMSPropConfig.model_fields or field not in recipe.settings else "U104"
    line = recipe.lines.get(field, recipe.lines.get(""))
    return found(code, message, fix or "see the fields in unirms schema", setting=field, line=line)
