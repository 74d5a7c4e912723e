"""What a diagnosis is: a code, one sentence, and the fix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Diagnosis:
    """One thing that is wrong with a recipe, or with a class under it.

    Attributes:
        code: "U" and three digits; `unirms.diagnosis.CODES` documents each.
        severity: "error" when the recipe does not do what it says, "warning" when it may not.
        message: one sentence: what was given, and what comes of it.
        fix: what to write or do instead.
        setting: the native argument it is about, or "".
        line: where it stands in its file, counted from 1, or None.
    """

    code: str
    severity: Severity
    message: str
    fix: str
    setting: str = ""
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.code} {self.message}; {self.fix}"
