"""What a recipe means, as far as it can be told: settings that are unknown or wrong are left out."""

from __future__ import annotations

from unirms.config import RMSPropConfig
from unirms.diagnosis.base import Diagnosis
from unirms.diagnosis.catalogue import found
from unirms.diagnosis.kinds import UNKNOWN, is_required
from unirms.diagnosis.subject import Subject
from unirms.errors import ConfigError
from unirms.recipes.base import Recipe

# Stands for a required learning rate that is not known; no hazard depends on it.
_ANY_RATE = 0.001


def meaning(subject: Subject, unsure: set[str]) -> tuple[RMSPropConfig | None, set[str]]:
    """Return the config of a recipe without its unsure settings, and the fields that are therefore not known.

    The config is None where the class computes something that no config can say.
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
    required = {a.name: _ANY_RATE for a in dialect.arguments if is_required(a)}
    try:
        return dialect.read({**required, **known}), unknown
    except ValueError:  # ConfigError, or an integer that is too long to be printed
        return None, unknown


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
        return recipe.config(), ()
    except ConfigError as error:
        return None, tuple(_refused(recipe, problem) for problem in error.problems)


def _refused(recipe: Recipe, problem: str) -> Diagnosis:
    message, _, fix = problem.partition("; ")
    field = problem.partition("=")[0].partition(".")[0]
    code = "U201" if field in RMSPropConfig.model_fields or field not in recipe.settings else "U104"
    line = recipe.lines.get(field, recipe.lines.get(""))
    return found(code, message, fix or "see the fields in unirms schema", setting=field, line=line)
