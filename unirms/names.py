"""Name patterns: how a config points at parameters.

A pattern is a glob over the whole name (`"*.bias"`), or, after the prefix `re:`, a regular expression that is searched
for in the name (`"re:beta|gamma"`). The name of a preset stands for its patterns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

from unirms.errors import ConfigError, as_given
from unirms.scalars import AsTuple

EVERY: Final = "*"
"""The pattern that matches every name."""
REGEX_PREFIX = "re:"
LONGEST_SEARCH: Final = 1.0
"""Seconds for a regular expression and a name; honest ones take microseconds."""
PRESETS: Final[dict[str, tuple[str, ...]]] = {
    # Words in the names of normalisation layers' parameters, which MindSpore leaves out of the weight decay
    # (`decay_filter` in mindspore/nn/optim/optimizer.py).
    "mindspore": ("*beta*", "*gamma*"),
}
"""Patterns under one name, for `no_weight_decay`."""


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return whether any pattern matches the parameter's name.

    Raises:
        ConfigError: a regular expression takes too long, as those do that somebody has made for that.
    """
    return any(
        _found(pattern[len(REGEX_PREFIX) :], name) if pattern.startswith(REGEX_PREFIX) else fnmatchcase(name, pattern)
        for pattern in patterns
    )


def _found(expression: str, name: str) -> bool:
    import regex  # the standard library's re knows no limit of time, and configs come in files from elsewhere

    try:
        return regex.search(expression, name, timeout=LONGEST_SEARCH) is not None
    except TimeoutError:
        message = f"the regular expression {as_given(expression)} takes more than {LONGEST_SEARCH:g} s for the name"
        raise ConfigError([f"{message} {as_given(name)}; write a simpler one, or a glob"]) from None


@lru_cache(maxsize=4096)
def is_literal(pattern: str) -> bool:
    """Return whether a pattern is a name, which matches itself alone."""
    return not pattern.startswith(REGEX_PREFIX) and not set(pattern) & set("*?[")


def covers(wide: str, narrow: str) -> bool:
    """Return whether one pattern is known to match every name that another does.

    Of two regular expressions, and of globs with `?` or `[`, only that is known that each covers itself.
    """
    if wide in (narrow, EVERY):
        return True
    if is_literal(narrow):
        return matches(narrow, [wide])
    # Where the text of a glob is matched by letters and stars, whatever its wildcards stand for falls to the stars.
    texts = (wide, "?["), (narrow, "[")
    known = not any(text.startswith(REGEX_PREFIX) or set(text) & set(wild) for text, wild in texts)
    return known and fnmatchcase(narrow, wide)


def are_disjoint(one: str, other: str) -> bool:
    """Return whether it is known that no name matches both patterns: one of them is a name."""
    return (is_literal(one) and not matches(one, [other])) or (is_literal(other) and not matches(other, [one]))


def uncovered(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Return patterns without those that another of them covers; of equal ones the first."""
    if any(covers(one, EVERY) for one in patterns):
        return (EVERY,)
    different = tuple(dict.fromkeys(patterns))
    globs = [pattern for pattern in different if not is_literal(pattern)]
    kept: list[str] = []
    for index, one in enumerate(different):
        later = different[index + 1 :]
        # Two globs that cover each other are the same in other letters ("**" and "*"): the first stays.
        if not any(wide != one and covers(wide, one) and not (wide in later and covers(one, wide)) for wide in globs):
            kept.append(one)
    return tuple(kept)


def _expanded(patterns: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the patterns with those of each preset in its place."""
    return tuple(
        one for given in patterns for one in (PRESETS.get(given, (given,)) if isinstance(given, str) else [given])
    )


def _check(pattern: Any) -> str:
    if pattern.startswith(REGEX_PREFIX):
        expression = pattern[len(REGEX_PREFIX) :]
        if "{" in expression:  # counts within counts take any amount of memory
            raise PydanticCustomError("bad_pattern", "regular expressions of names have no counts in braces")
        import regex

        try:
            re.compile(expression)  # regex has a wider grammar, with recursion and more
            regex.compile(expression)
        except (re.error, regex.error, RecursionError, OverflowError) as error:
            raise PydanticCustomError("bad_pattern", f"not a regular expression: {error}") from None
    return str(pattern)


Pattern = Annotated[str, AfterValidator(_check)]
Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(_expanded), AsTuple]
