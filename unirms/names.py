"""Name patterns: how a config points at parameters.

A pattern is a glob over the whole name (`"*.bias"`), or, after the prefix `re:`, a regular expression that is searched
for in the name (`"re:beta|gamma"`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

REGEX_PREFIX = "re:"


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return whether any pattern matches the parameter's name."""
    return any(
        re.search(pattern[len(REGEX_PREFIX) :], name) is not None
        if pattern.startswith(REGEX_PREFIX)
        else fnmatchcase(name, pattern)
        for pattern in patterns
    )


def _check(pattern: Any) -> str:
    if pattern.startswith(REGEX_PREFIX):
        try:
            re.compile(pattern[len(REGEX_PREFIX) :])
        except (re.error, RecursionError, OverflowError) as error:
            raise PydanticCustomError("bad_pattern", f"not a regular expression: {error}") from None
    return str(pattern)


Pattern = Annotated[str, AfterValidator(_check)]
