"""Name patterns: how a config points at parameters.

A pattern is a glob over the whole name (`"*.bias"`), or, after the prefix `re:`, a regular expression that is searched
for in the name (`"re:beta|gamma"`). The name of a preset stands for its patterns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

from unirms.scalars import AsTuple

REGEX_PREFIX = "re:"
PRESETS: Final[dict[str, tuple[str, ...]]] = {
    # Words in the names of normalisation layers' parameters, which MindSpore leaves out of the weight decay
    # (`decay_filter` in mindspore/nn/optim/optimizer.py).
    "mindspore": ("*beta*", "*gamma*"),
}
"""Patterns under one name, for `no_weight_decay`."""


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return whether any pattern matches the parameter's name."""
    return any(
        re.search(pattern[len(REGEX_PREFIX) :], name) is not None
        if pattern.startswith(REGEX_PREFIX)
        else fnmatchcase(name, pattern)
        for pattern in patterns
    )


def _expanded(patterns: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the patterns with those of each preset in its place."""
    return tuple(
        one for given in patterns for one in (PRESETS.get(given, (given,)) if isinstance(given, str) else [given])
    )


def _check(pattern: Any) -> str:
    if pattern.startswith(REGEX_PREFIX):
        try:
            re.compile(pattern[len(REGEX_PREFIX) :])
        except (re.error, RecursionError, OverflowError) as error:
            raise PydanticCustomError("bad_pattern", f"not a regular expression: {error}") from None
    return str(pattern)


Pattern = Annotated[str, AfterValidator(_check)]
Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(_expanded), AsTuple]
