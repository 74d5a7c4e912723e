"""U2: what a class does with a value: it refuses it, or takes it without a word and computes something else."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, Final

from unirms.diagnosis.base import Diagnosis
from unirms.diagnosis.kinds import ANY, UNKNOWN, is_flag, is_number, number_in, places_of, shown, type_of
from unirms.diagnosis.subject import Setting, Subject, is_no_object, named
from unirms.dialects.behaviour import Kind
from unirms.dialects.calls import NativeCall, as_call
from unirms.errors import ConfigError

# Config field -> what comes of a value in a place where none should be; what is not here means what it says.
_CONSEQUENCES: Final[dict[str, dict[Kind, str]]] = {
    "learning_rate": {
        "negative": "it climbs instead of descending",
        "NaN": "every weight turns NaN",
        "infinite": "every weight turns infinite",
    },
    "rho": {
        "negative": "the mean square can turn negative, and the weight NaN",
        "above one": "the mean square turns negative or grows without end",
        "NaN": "every weight turns NaN",
        "infinite": "every weight turns NaN",
    },
    "epsilon": {
        "negative": "the denominator is negative or NaN wherever the mean square is small",
        "NaN": "every weight turns NaN",
        "infinite": "no weight moves",
    },
    "momentum": {
        "negative": "the buffer turns round at every step",
        "NaN": "every weight turns NaN",
        "infinite": "every weight turns NaN",
    },
    "weight_decay": {
        "negative": "weights grow instead of shrinking",
        "NaN": "every weight turns NaN",
        "infinite": "every weight turns NaN",
    },
    "loss_scale": {
        "zero": "every weight turns NaN",
        "negative": "it climbs instead of descending",
        "NaN": "every weight turns NaN",
        "infinite": "no weight moves",
    },
    "initial_mean_square": {
        "negative": "the first steps are NaN",
        "NaN": "every weight turns NaN",
        "infinite": "no weight moves",
    },
    "clip": {
        "zero": "every gradient becomes 0",
        "negative": "it clips to nothing sensible",
        "NaN": "every gradient turns NaN",
        "infinite": "it does not clip",
    },
}
_POSITIVE: Final = {"clip", "loss_scale"}
_WANTED: Final = {"rho": "a number between 0 and 1", "clip": "a positive number", "loss_scale": "a positive number"}


def numbers(subject: Subject) -> Iterator[Diagnosis]:
    """Yield numbers that the class refuses, or that it takes although they mean nothing good."""
    for setting in subject.settings():
        value = setting.value
        if value is UNKNOWN or is_flag(setting.argument) or not is_number(setting.argument):
            continue
        if is_no_object(subject, setting):  # its type is wrong, whatever its size
            continue
        name = setting.argument.name
        if type_of(value) is None and not isinstance(value, float):
            call = _call(value) if {"clip", "weight_decay"} & set(setting.argument.fields) else None
            if call is None:
                continue
            name, value = call.class_name, number_in(call)
        yield from _number(subject, setting, name, value)


def _call(value: Any) -> NativeCall | None:
    try:
        return as_call(value)
    except ConfigError:
        return None


def _number(subject: Subject, setting: Setting, name: str, value: Any) -> Iterator[Diagnosis]:
    """Yield what is wrong with one number; `name` is its argument, or the class of the object that holds it."""
    behaviour, field = subject.behaviour, setting.field
    shown_as = setting.name if name == setting.argument.name else f"{setting.name} {name}"
    given, fix = f"{shown_as}={shown(value)}", f"write {_WANTED.get(field, 'a number >= 0')}"
    for kind in places_of(value):
        unchecked = setting.in_group and name in (behaviour.groups.unchecked if behaviour.groups else ())
        consequence = behaviour.misread.get((name, kind)) or _CONSEQUENCES.get(field, {}).get(kind)
        if behaviour.refuses(name, kind):
            code = "U212" if unchecked else "U201"
            does = f"takes {given} in a group without a word" if unchecked else f"refuses {given}"
            yield subject.found(code, f"{subject.target} {does}", _allowed(subject, name, fix), setting.place)
            return
        if consequence is not None:
            message = f"{subject.target} takes {given} without a word: {consequence}"
            yield subject.found(_code(field, kind), message, fix, setting.place)
            return


def _code(field: str, kind: Kind) -> str:
    if kind in {"NaN", "infinite"}:
        return "U204"
    if field in _POSITIVE:
        return "U205"
    return {"zero": "U206", "negative": "U202"}.get(kind, "U203")


def _allowed(subject: Subject, name: str, otherwise: str) -> str:
    """Return what the class takes, from the kinds that it refuses."""
    refuses = subject.behaviour.refuses
    low = "> 0" if refuses(name, "zero") else ">= 0" if refuses(name, "negative") else ""
    bounds = [bound for bound in (low, "<= 1" if refuses(name, "above one") else "") if bound]
    finite = "finite " if refuses(name, "infinite") else ""
    return f"write a {finite}number {' and '.join(bounds)}" if bounds else otherwise


def combinations(subject: Subject) -> Iterator[Diagnosis]:
    """Yield arguments that exclude each other, hide each other, or need each other."""
    behaviour, target = subject.behaviour, subject.target
    given = [name for name, value in subject.given.items() if value is not None and value is not UNKNOWN]
    for names in behaviour.exclusive:
        both = [name for name in names if name in given]
        if len(both) > 1:
            yield subject.found("U210", f"{target} refuses {' and '.join(both)} together", "give one", both[1])
            return
    several = [name for name in behaviour.first_of if name in given]
    if len(several) > 1:
        message = f"{target} takes {' and '.join(several)} and uses {several[0]} only"
        yield subject.found("U209", message, f"drop {' and '.join(several[1:])}", several[1])
    for name, other in behaviour.acts_with.items():
        needed = subject.given.get(other)
        if subject.given.get(name) is True and not needed and subject.is_complete:
            message = f"{name}=True does nothing without {other}"
            yield subject.found("U211", message, f"give {other}, or drop {name}", name)


def groups(subject: Subject) -> Iterator[Diagnosis]:
    """Yield what parameter groups say and the class does not follow."""
    rules = subject.behaviour.groups
    if rules is None:
        return
    for index, group in enumerate(subject.recipe.groups):
        for name, value in named(group.settings).items():
            place = f"groups[{index}].{name}"
            if name not in rules.notes and subject.argument_of_group(name) is None and rules.ignores_unknown:
                message = f"{subject.target} ignores the key {name} in a parameter group"
                yield subject.found("U213", message, _right_key(subject, name), place)
            elif value is None and name in rules.inherits_none and _is_set(subject, name):
                message = f"{name}=None in a group means the optimizer's own {name}"
                yield subject.found("U214", message, f"write {name}=0.0", place)


def _is_set(subject: Subject, name: str) -> bool:
    value = subject.given.get(name)
    return value is not UNKNOWN and bool(value) and ANY not in subject.recipe.settings


def _right_key(subject: Subject, name: str) -> str:
    from unirms import dialects

    native = (subject.dialect.name_of(field) for field in dialects.fields_called(name))
    right = [one for one in dict.fromkeys(native) if one and subject.argument_of_group(one) is not None]
    if right:
        return f"write {' or '.join(right)}"
    rules = subject.behaviour.groups
    taken = (rules.names if rules else None) or [argument.name for argument in subject.dialect.arguments]
    close = difflib.get_close_matches(name, taken, n=1)
    return f"did you mean {close[0]}?" if close else "drop it"


def filters(subject: Subject) -> Iterator[Diagnosis]:
    """Yield that a class spares parameters by their names, where the recipe does not say so."""
    recipe, name = subject.recipe, subject.dialect.name_of("weight_decay")
    value = subject.given.get(name)
    if recipe.groups or recipe.no_weight_decay is not None or not isinstance(value, (int, float)):
        return
    try:
        patterns = subject.dialect.read({name: value}).no_weight_decay
    except ValueError:  # ConfigError, or an integer that is too long to be printed
        return
    if patterns:
        message = f"{subject.target} spares parameters named {' or '.join(patterns)} from {name}={shown(value)}"
        fix = "group the parameters to say which are decayed"
        yield subject.found("U215", message, fix, name)
