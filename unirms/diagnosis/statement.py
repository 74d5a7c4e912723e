"""U1: what is wrong with the statement itself: the class, the keywords, the types of the values."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Final

from unirms import dialects
from unirms.diagnosis.base import Diagnosis
from unirms.diagnosis.catalogue import found
from unirms.diagnosis.kinds import UNKNOWN, is_flag, is_number, is_required, shown, type_of
from unirms.diagnosis.subject import Setting, Subject, is_no_object, named
from unirms.dialects.base import Dialect
from unirms.dialects.calls import NativeCall
from unirms.errors import UnknownNameError, did_you_mean
from unirms.recipes.base import Recipe
from unirms.semantics import BUILD_ELSEWHERE, BUILD_EXACT

# "1e-8" and "-2E5", but not "1.0e-8": what YAML 1.1 reads as text although it looks like a number.
_NO_POINT: Final = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+")
# Fields whose values may be objects of the framework or data that stand for one: schedules, regularizers, clips.
_OBJECTS: Final = {"learning_rate", "weight_decay", "clip"}


def subject_of(recipe: Recipe) -> tuple[Subject | None, tuple[Diagnosis, ...]]:
    """Return a recipe beside what is known of its class, and what is wrong with the name of the class.

    The subject is None where no class of that name is known.
    """
    line = recipe.lines.get("")
    written = recipe.target.strip()
    try:
        dialect = dialects.of_target(written)
    except UnknownNameError:
        return None, (_unknown_class(written, line),)
    right = _spelt(dialect, written)
    subject = Subject(recipe, dialect, dialect.behaviour_of(right), right)
    if right == written:
        return subject, ()
    return subject, (found("U101", f"{written} does not exist", f"write {right}", line=line),)


def _unknown_class(path: str, line: int | None) -> Diagnosis:
    known = [p for dialect in dialects.all_dialects().values() for p in (dialect.target, *dialect.spellings)]
    there = [p for p in known if p.partition(".")[0] == path.partition(".")[0]]
    if not there:
        return found(
            "U108", f"{shown(path)} is of a package that unirms does not know", "try unirms fingerprint", line=line
        )
    nearest = difflib.get_close_matches(path, there, n=1, cutoff=0.0)[0]
    return found("U102", f"{shown(path)} is not an RMSProp that unirms knows", f"did you mean {nearest}?", line=line)


def _spelt(dialect: Dialect, path: str) -> str:
    known = (dialect.target, *dialect.spellings)
    return path if path in known else next(name for name in known if name.lower() == path.lower())


def keywords(subject: Subject) -> Iterator[Diagnosis]:
    """Yield what is wrong with the names of the settings."""
    seen: dict[str, str] = {}
    for name, value in named(subject.recipe.settings).items():
        argument = subject.argument(name)
        if argument is None:
            yield from _unknown(subject, name, value)
        elif argument.name in seen:
            message = f"{subject.target} gets {argument.name} twice, as {seen[argument.name]} and as {name}"
            yield subject.found("U107", message, f"write {argument.name} only", name)
        seen |= {} if argument is None else {argument.name: name}
    for argument in subject.dialect.arguments:
        if is_required(argument) and argument.name not in seen and subject.is_complete:
            message = f"{subject.target} needs {argument.name}, which has no default"
            yield subject.found("U106", message, f"write {argument.name}=…")


def _unknown(subject: Subject, name: str, value: object) -> Iterator[Diagnosis]:
    behaviour, dialect, target = subject.behaviour, subject.dialect, subject.target
    if name in behaviour.more or (name in behaviour.ignored and value is None):
        return
    if name in behaviour.ignored:
        instead, fix = behaviour.ignored[name]
        message = f"{target} takes {name}={shown(value)} and ignores it: {instead}"
        yield subject.found("U208", message, fix, name)
        return
    fields = [name, *dialects.fields_called(name)]
    native = dict.fromkeys(dialect.name_of(config_field) for config_field in fields)
    right = [one for one in native if one and one not in behaviour.without and one != name]
    argument = dialect.argument(name)
    if argument is not None and argument.name != name:  # announced for a later release
        right = [argument.name]
    if right:
        yield subject.found("U103", f"{target} has no argument {name}", f"write {' or '.join(right)}", name)
    elif len(fields) > 1 or name in _config_fields():
        message = f"{target} has no argument {name}, nor another one for it"
        fix = f"drop it, or {BUILD_EXACT}" if dialect.framework else f"drop it; {BUILD_ELSEWHERE}"
        yield subject.found("U105", message, fix, name)
    else:
        taken = [a.name for a in dialect.arguments if a.name not in behaviour.without]
        fix = did_you_mean(name, taken, "it takes")
        yield subject.found("U104", f"{target} has no argument {shown(name)[1:-1]}", fix, name)


def _config_fields() -> set[str]:
    from unirms.config import RMSPropConfig

    return set(RMSPropConfig.model_fields)


def group_keys(subject: Subject) -> Iterator[Diagnosis]:
    """Yield keys of groups that the class refuses; `unirms.diagnosis.values` has those that it ignores."""
    groups = subject.behaviour.groups
    if groups is None or groups.ignores_unknown:
        return
    for index, group in enumerate(subject.recipe.groups):
        for name in named(group.settings):
            if name not in (groups.names or {}):
                message = f"{subject.target} refuses the key {name} in a parameter group"
                taken = ", ".join(groups.names or {})
                yield subject.found("U104", message, f"it takes {taken}", f"groups[{index}].{name}")


def types(subject: Subject) -> Iterator[Diagnosis]:
    """Yield values of a type that the class refuses or misunderstands."""
    for setting in subject.settings():
        if setting.value is UNKNOWN or setting.place in subject.recipe.surprises:  # U109 says what the tool may read
            continue
        if is_flag(setting.argument) and setting.field:
            yield from _flag(subject, setting)
        elif is_number(setting.argument):
            yield from _no_object(subject, setting) if is_no_object(subject, setting) else _number(subject, setting)


def _flag(subject: Subject, setting: Setting) -> Iterator[Diagnosis]:
    name, value, kind = setting.name, setting.value, type_of(setting.value)
    given, fix = f"{name}={shown(value)}", f"write {name}=True or {name}=False"
    misread = subject.behaviour.misread.get((setting.argument.name, kind)) if kind else None
    refused = subject.refuses(setting, kind)
    if kind == "bool" or (kind == "numpy.bool" and not refused):
        return
    if misread is not None:
        yield subject.found("U207", f"{subject.target} takes {given} without a word: {misread}", fix, setting.place)
    elif kind == "text":
        does = "is refused" if refused else f"counts as {'True' if value else 'False'}, whatever the text says"
        yield subject.found("U114", f"{given} {does}", fix, setting.place)
    elif kind in {"int", "None"} and not refused:
        yield subject.found("U117", f"{given} counts as {bool(value)}", fix, setting.place)
    else:
        yield subject.found("U116", f"{subject.target} refuses {given}", fix, setting.place)


def _no_object(subject: Subject, setting: Setting) -> Iterator[Diagnosis]:
    name, value, example = setting.name, setting.value, subject.behaviour.objects[setting.argument.name]
    inside = shown(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else "…"
    message = f"{subject.target} refuses {name}={shown(value)}; it takes an object"
    yield subject.found("U116", message, f"write {name}={example}({inside})", setting.place)


def _number(subject: Subject, setting: Setting) -> Iterator[Diagnosis]:
    name, value, kind = setting.name, setting.value, type_of(setting.value)
    target, given = subject.target, f"{name}={shown(value)}"
    refused = subject.refuses(setting, kind)
    if kind == "text":
        yield _text(subject, setting)
    elif kind == "bool":
        does = "refuses it" if refused else f"computes with {float(value)}"
        yield subject.found(
            "U113", f"{given} is no number; {target} {does}", f"write {name}=…, a number", setting.place
        )
    elif kind == "int" and refused:
        yield subject.found("U112", f"{target} refuses the integer {given}", f"write {_floated(value)}", setting.place)
    elif kind in {"numpy.float32", "numpy.float64", "numpy.bool"} and (refused or kind == "numpy.bool"):
        yield subject.found("U115", f"{target} refuses a {kind} as {name}", f"write {name}=float(…)", setting.place)
    elif kind == "None" and refused:
        yield subject.found("U116", f"{target} refuses {given}", f"write {name}=…, a number", setting.place)
    elif kind == "None" and (setting.argument.name, kind) in subject.behaviour.misread:
        consequence = subject.behaviour.misread[setting.argument.name, kind]
        message = f"{target} takes {given} without a word: {consequence}"
        yield subject.found("U216", message, f"write {name}=…, a number", setting.place)
    elif kind is None and not _is_judged(setting):
        message = f"{given} is not a number"
        yield subject.found("U116", message, f"write {name}=…, a number", setting.place)


def _is_judged(setting: Setting) -> bool:
    """Return whether a value without a kind is a float, a number of another library, or may be an object."""
    value = setting.value
    if isinstance(value, (float, NativeCall)) or type(value).__module__ == "numpy":
        return True
    return bool(_OBJECTS & set(setting.argument.fields))


def _text(subject: Subject, setting: Setting) -> Diagnosis:
    name, text = setting.name, str(setting.value)
    if _NO_POINT.fullmatch(text.strip()):
        mantissa, e, exponent = re.split("([eE])", text.strip())
        message = f"{name} is the text {shown(text)}, as PyYAML reads it, not a number"
        return subject.found("U110", message, f"write {mantissa}.0{e}{exponent}", setting.place)
    try:
        float(text)
    except ValueError:
        message = f"{name} is the text {shown(text)}, not a number"
        return subject.found("U111", message, f"write {name}=…, a number", setting.place)
    return subject.found("U111", f"{name} is the text {shown(text)}, not a number", "drop the quotes", setting.place)


def surprises(recipe: Recipe) -> Iterator[Diagnosis]:
    """Yield plain YAML scalars that YAML 1.1 and 1.2 read differently."""
    for name, (here, there) in recipe.surprises.items():
        message = f"{name} is {shown(here)} in YAML 1.2 and {shown(there)} to PyYAML, which follows YAML 1.1"
        line = recipe.lines.get(name, recipe.lines.get(""))
        meant = there if isinstance(there, bool) else here  # no hyperparameter is the text 'yes'
        yield found("U109", message, f"write {_unambiguous(meant)}", setting=name, line=line)


def remarks(recipe: Recipe) -> Iterator[Diagnosis]:
    """Yield what the tool does with a recipe that a reader of it would not expect."""
    for remark in recipe.remarks:
        message, fix = (part.strip(" .") for part in remark.partition("; ")[::2])
        if message:
            yield found("U505", message, fix or "make sure that it is meant", line=recipe.lines.get(""))


def _unambiguous(value: object) -> str:
    from unirms.files import to_yaml

    return to_yaml({"value": value}).removeprefix("value: ").strip()


def _floated(value: int) -> str:
    try:
        return repr(float(value))
    except OverflowError:
        return "a float"
