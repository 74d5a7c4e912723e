"""A config as code to paste into a training script, in the target's own words.

What a class needs stands in its dialect file, as `unirms.dialects.snippet.Snippet`; here it is put together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from string import Template
from textwrap import fill, indent
from typing import TYPE_CHECKING, Any, Final

from unirms import dialects
from unirms.dialects.base import Dialect
from unirms.dialects.calls import Name, NativeCall
from unirms.dialects.groups import NativeGroup
from unirms.dialects.snippet import Snippet
from unirms.schedules import Plateau
from unirms.semantics import kinds
from unirms.snippet_functions import INDENT, STANDARD_LIBRARY, WIDTH, condition, exempt, settings

if TYPE_CHECKING:
    from unirms.translation import Native

NO_GROUPS: Final = "The class has no parameter groups: those of the config are not said here."
UNSAID_GROUPS: Final = "The groups of the class cannot say what those of the config do:"
BUILD_ELSEWHERE: Final = "unirms.build follows them in the frameworks that it builds for."
FIRST_RATE: Final = "# The rate is the first of a schedule that no class of the framework says exactly."
_CONDITION: Final = re.compile(r"  # if (\w+)$")


def call(native: Native) -> str:
    """Return the call of the class alone, on one line, without parameters and imports."""
    return f"{native.target}({', '.join(f'{name}={value!r}' for name, value in native.kwargs.items())})"


def code(native: Native) -> str:
    """Return a runnable snippet that makes `optimizer` from `model`, a model of the target's framework.

    It has the imports; one call with every hyperparameter, whose numbers read back the same; the parameter groups, or a
    comment that says what of them the class cannot be told; what leaves parameters out of the weight decay where the
    config names some; a schedule of the learning rate, as `scheduler` where the user
    has to step it; and what fills in the mean square before the first step where the class starts it elsewhere. It is
    formatted as by ruff and ends in a line break.
    """
    dialect = dialects.get(native.dialect)
    snippet = dialect.snippet
    chosen = _grouped(native, dialect) if _has_settings(native) else _exempted(native, dialect)
    seeds = native.needs_seeding and bool(snippet.seeding)
    rate = _rate(native, dialect)
    body = [
        _unsaid_groups(native, dialect),
        chosen.before,
        rate.before,
        _construction(dialect, chosen.parameters or snippet.parameters, rate.kwargs),
        chosen.after,
        snippet.setup,
        rate.after,
        _seeding(native, snippet) if seeds else "",
    ]
    lines = {*snippet.imports, *(snippet.seeding_imports if seeds else ()), *rate.imports}
    imports = _imports(chosen.patterns, lines)
    script = "\n".join(part.rstrip("\n") for part in body if part)
    return ("\n\n\n" if chosen.functions else "\n\n").join([imports, *chosen.functions, script]) + "\n"


@dataclass(frozen=True)
class _Parameters:
    """How a snippet tells parameters apart: in the call, in lines before and after it, and in functions of their names.

    `patterns` are those that the functions ask for.
    """

    before: str = ""
    parameters: str = ""
    after: str = ""
    functions: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()


def _has_settings(native: Native) -> bool:
    return any(group.settings for group in native.groups)


def _grouped(native: Native, dialect: Dialect) -> _Parameters:
    """Return the groups, with what leaves parameters out of the weight decay: no filter of the class acts in groups."""
    grouping = dialect.snippet.grouping
    assert grouping is not None
    spared = native.wanted.no_weight_decay if native.meaning.weight_decay > 0 else ()
    objects, groups = _named_objects(native.groups)
    key = next(key for key, name in dialect.group_keys.items() if "weight_decay" in dialect.fields_of(name))
    own = {key: 0.0} if spared and not grouping.exemption else {}
    return _Parameters(
        f"{objects}{grouping.before}",
        grouping.parameters,
        grouping.exemption if spared else "",
        ((exempt(spared),) if spared else ()) + (settings(groups, own),),
        (*spared, *(pattern for group in groups for pattern in group.match)),
    )


def _named_objects(groups: Iterable[NativeGroup]) -> tuple[str, list[NativeGroup]]:
    """Return lines that make the objects among the settings, and the groups with these as variables.

    Parameters are of one group where they have the same object, so that it must be made once.
    """
    lines, named = "", []
    for index, group in enumerate(groups):
        found = {}
        for key, value in group.settings.items():
            variable = Name(f"{key}_{index}")
            made = isinstance(value, NativeCall)
            lines += f"{_shown(f'{variable} = ', value)}\n" if made else ""
            found[key] = variable if made else value
        named.append(NativeGroup(group.match, found))
    return lines, named


def _exempted(native: Native, dialect: Dialect) -> _Parameters:
    """Return what leaves parameters out of the weight decay, where there are no groups."""
    patterns = _patterns_to_spell_out(native, dialect)
    if patterns is None:
        return _Parameters()
    chosen = dialect.snippet.exemption if patterns else dialect.snippet.no_exemption
    functions = (exempt(patterns),) if patterns else ()
    return _Parameters(chosen.before, chosen.parameters, chosen.after, functions, patterns)


def _unsaid_groups(native: Native, dialect: Dialect) -> str:
    """Return a comment on what the groups of the config say and the snippet does not."""
    if not any(difference.axis == "groups" for difference in native.differences):
        return ""
    lost = {
        field: None
        for wanted, said in zip(native.wanted.groups, native.meaning.groups, strict=True)
        for field in type(wanted).model_fields
        if getattr(wanted, field) != getattr(said, field)
    }
    what = f"{UNSAID_GROUPS} {', '.join(lost)}." if dialect.group_keys else NO_GROUPS
    build = (
        f'unirms.build(config, "{dialect.framework}", model) follows them.' if dialect.framework else BUILD_ELSEWHERE
    )
    return "\n".join(fill(line, WIDTH, initial_indent="# ", subsequent_indent="# ") for line in (what, build))


def _patterns_to_spell_out(native: Native, dialect: Dialect) -> tuple[str, ...] | None:
    """Return the name patterns that the snippet must exempt, or None where the class does right by itself."""
    if not dialect.exempts or native.meaning.weight_decay == 0:
        return None
    wanted = native.wanted.no_weight_decay
    return None if wanted == dialect.read(native.kwargs).no_weight_decay else wanted


@dataclass(frozen=True)
class _Rate:
    """What a snippet says of the learning rate: in the call, in lines before and after it, and in import lines."""

    kwargs: Mapping[str, Any]
    before: str = ""
    after: str = ""
    imports: tuple[str, ...] = ()


def _rate(native: Native, dialect: Dialect) -> _Rate:
    name, snippet = dialect.name_of("learning_rate"), dialect.snippet
    schedule = native.scheduler or native.kwargs[name]
    if not isinstance(schedule, NativeCall):
        parted = any(difference.axis == "learning_rate" for difference in native.differences)
        return _Rate(native.kwargs, FIRST_RATE if parted and not native.wanted.has_constant_rate else "")
    driving = snippet.reporting if isinstance(native.meaning.learning_rate, Plateau) else snippet.stepping
    if not driving:
        return _Rate(native.kwargs, imports=snippet.schedule_imports)
    lines = f"{driving}\n{_shown('scheduler = ', schedule)}"
    if native.scheduler is not None:
        return _Rate(native.kwargs, after=lines, imports=snippet.schedule_imports)
    return _Rate({**native.kwargs, name: Name("scheduler")}, before=lines, imports=snippet.schedule_imports)


def _construction(dialect: Dialect, parameters: str, kwargs: Mapping[str, Any]) -> str:
    """Return the assignment of `optimizer`, its arguments in the order of the constructor."""
    snippet = dialect.snippet
    order = [argument.name for argument in dialect.arguments if argument.name in {*kwargs, snippet.keyword}]
    said = {name: parameters if name == snippet.keyword else repr(kwargs[name]) for name in order}
    arguments = [parameters] if parameters and not snippet.keyword else []
    line = f"optimizer = {snippet.name}({', '.join([*arguments, *(f'{name}={text}' for name, text in said.items())])})"
    if len(line) <= WIDTH and "\n" not in line:
        return line
    arguments += [
        f"{name}={parameters}" if name == snippet.keyword else _shown(f"{name}=", kwargs[name], depth=1)
        for name in order
    ]
    lines = "".join(f"{argument},\n" for argument in arguments)
    return f"optimizer = {snippet.name}(\n{indent(lines, INDENT)})"


def _shown(start: str, value: Any, depth: int = 0) -> str:
    """Return an expression after what it is given to; a call or a list that is too long, an item to a line."""
    line = f"{start}{value!r}"
    if len(INDENT) * depth + len(line) + bool(depth) <= WIDTH:  # inside, a comma follows
        return line
    if isinstance(value, NativeCall):
        items = [_shown("", item, depth + 1) for item in value.args]
        items += [_shown(f"{name}=", item, depth + 1) for name, item in value.kwargs.items()]
        opening, closing = f"{value.name}(", ")"
    elif isinstance(value, list):
        items, opening, closing = [_shown("", item, depth + 1) for item in value], "[", "]"
    else:
        return line
    lines = "".join(f"{item},\n" for item in items)
    return f"{start}{opening}\n{indent(lines, INDENT)}{closing}"


def _seeding(native: Native, snippet: Snippet) -> str:
    start, own = native.wanted.initial_mean_square, native.meaning.initial_mean_square
    lines = []
    for line in snippet.seeding.splitlines():
        needed = _CONDITION.search(line)
        if needed is None or any(getattr(kind, needed[1]) for kind in kinds(native.meaning)):
            lines.append(_CONDITION.sub("", line))
    reason = f"# The mean square starts at {start!r} here; by itself the class starts it at {own!r}."
    return "\n".join(["", reason, Template("\n".join(lines)).substitute(start=repr(start))])


def _imports(patterns: Iterable[str], lines: Iterable[str]) -> str:
    """Return the import lines, those of the standard library in a block of their own."""
    conditions = " ".join(condition(pattern) for pattern in patterns)
    own = [line for call, line in STANDARD_LIBRARY.items() if call in conditions]
    blocks = ["\n".join(own), "\n".join(sorted(lines, key=lambda line: (line.startswith("from"), line)))]
    return "\n\n".join(filter(None, blocks))
