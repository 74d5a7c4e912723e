"""A config as code to paste into a training script, in the target's own words.

What a class needs stands in its dialect file, as `unirms.dialects.snippet.Snippet`; here it is put together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from string import Template
from textwrap import indent
from typing import TYPE_CHECKING, Any, Final

from unirms import dialects
from unirms.dialects.base import Dialect
from unirms.dialects.calls import Name, NativeCall
from unirms.dialects.snippet import Exemption, Snippet
from unirms.names import REGEX_PREFIX

if TYPE_CHECKING:
    from unirms.translation import Native

WIDTH: Final = 88
"""Length of a line for Black and ruff, where nothing else is set."""
INDENT: Final = "    "
FIRST_RATE: Final = "# The rate is the first of a schedule that no class of the framework says exactly."
_CONDITION: Final = re.compile(r"  # if (\w+)$")


def call(native: Native) -> str:
    """Return the call of the class alone, on one line, without parameters and imports."""
    return f"{native.target}({', '.join(f'{name}={value!r}' for name, value in native.kwargs.items())})"


def code(native: Native) -> str:
    """Return a runnable snippet that makes `optimizer` from `model`, a model of the target's framework.

    It has the imports; one call with every hyperparameter, whose numbers read back the same; what leaves parameters
    out of the weight decay where the config names some; a schedule of the learning rate, as `scheduler` where the user
    has to step it; and what fills in the mean square before the first step where the class starts it elsewhere. It is
    formatted as by ruff and ends in a line break.
    """
    dialect = dialects.get(native.dialect)
    snippet = dialect.snippet
    patterns = _patterns_to_spell_out(native, dialect)
    exemption = Exemption() if patterns is None else snippet.exemption if patterns else snippet.no_exemption
    seeds = native.needs_seeding and bool(snippet.seeding)
    rate = _rate(native, dialect)
    body = [
        exemption.before,
        rate.before,
        _construction(dialect, exemption.parameters or snippet.parameters, rate.kwargs),
        exemption.after,
        snippet.setup,
        rate.after,
        _seeding(native, snippet) if seeds else "",
    ]
    lines = {*snippet.imports, *(snippet.seeding_imports if seeds else ()), *rate.imports}
    imports = _imports(patterns or (), lines)
    script = "\n".join(part.rstrip("\n") for part in body if part)
    parts = [imports, _function(patterns), script] if patterns else [imports, script]
    return ("\n\n\n" if patterns else "\n\n").join(parts) + "\n"


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
    if not snippet.stepping:
        return _Rate(native.kwargs, imports=snippet.schedule_imports)
    lines = f"{snippet.stepping}\n{_shown('scheduler = ', schedule)}"
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
        condition = _CONDITION.search(line)
        if condition is None or getattr(native.meaning, condition[1]):
            lines.append(_CONDITION.sub("", line))
    reason = f"# The mean square starts at {start!r} here; by itself the class starts it at {own!r}."
    return "\n".join(["", reason, Template("\n".join(lines)).substitute(start=repr(start))])


def _imports(patterns: Iterable[str], lines: Iterable[str]) -> str:
    """Return the import lines, those of the standard library in a block of their own."""
    conditions = " ".join(_condition(pattern) for pattern in patterns)
    own = [line for call, line in _STANDARD_LIBRARY.items() if call in conditions]
    blocks = ["\n".join(own), "\n".join(sorted(lines, key=lambda line: (line.startswith("from"), line)))]
    return "\n\n".join(filter(None, blocks))


_STANDARD_LIBRARY: Final = {"re.search(": "import re", "fnmatchcase(": "from fnmatch import fnmatchcase"}


def _function(patterns: Iterable[str]) -> str:
    """Return the definition of `exempt(name)`; where two conditions make a long line, ruff would break it otherwise."""
    conditions = [_condition(pattern) for pattern in patterns]
    line = " or ".join(conditions)
    if len(f"    return {line}") > WIDTH and len(conditions) > 1:
        inside = line if len(f"        {line}") <= WIDTH else "\n        or ".join(conditions)
        line = f"(\n        {inside}\n    )"
    return f"def exempt(name):  # from the weight decay\n    return {line}"


def _condition(pattern: str) -> str:
    """Return whether `name` matches a pattern, as an expression: a string method where one says the same."""
    if pattern.startswith(REGEX_PREFIX):
        return f"re.search({_quoted(pattern[len(REGEX_PREFIX) :])}, name)"
    word = pattern.strip("*")
    if not word or any(special in word for special in "*?["):
        return f"fnmatchcase(name, {_quoted(pattern)})"
    simple = {
        word: f"name == {_quoted(word)}",
        f"*{word}": f"name.endswith({_quoted(word)})",
        f"{word}*": f"name.startswith({_quoted(word)})",
        f"*{word}*": f"{_quoted(word)} in name",
    }
    return simple.get(pattern, f"fnmatchcase(name, {_quoted(pattern)})")


def _quoted(text: str) -> str:
    """Return a string literal in double quotes where that needs no escape, raw where there are backslashes."""
    literal = repr(text)
    if '"' in text:
        return literal
    if "\\" in text and text.isprintable() and not text.endswith("\\"):
        return f'r"{text}"'
    return f'"{literal[1:-1]}"'
