"""U4: what a class gets wrong on one device or for one kind of input, read off its dialect."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from unirms import dialects
from unirms.diagnosis.base import Diagnosis
from unirms.schedules import AnySchedule
from unirms.semantics import kinds

if TYPE_CHECKING:
    from unirms.translation import Native

ROUNDING: Final = "U403"


def of(native: Native, dtype: str | None = None) -> tuple[Diagnosis, ...]:
    """Return the defects that concern a native call; `dtype` is that of the weights, None any.

    It is asked for beside every translation, so it loads nothing but the dialect.
    """
    dialect = dialects.get(native.dialect)
    found = [
        Diagnosis(
            defect.code,
            "warning",
            f"{native.target}: {defect.consequence}",
            defect.remedy,
            dialect.name_of(defect.axis),
        )
        for defect in dialect.behaviour.defects
        if defect.applies(native.meaning)
    ]
    if dtype not in {None, "float64"}:
        return tuple(found)
    rounded = [
        field for field in dialect.rounds if any(_loses_digits(getattr(kind, field)) for kind in kinds(native.meaning))
    ]
    names = [dialect.name_of(field) for field in rounded]
    if names:
        message = f"{native.target} passes {', '.join(names)} through float32 even where the weights are float64"
        build = 'use unirms.build(…, policy="exact"), or ' if dialect.framework else "use "
        fix = f"{build}values that float32 can hold"
        found.append(Diagnosis(ROUNDING, "warning", message, fix, names[0]))
    return tuple(found)


def _loses_digits(value: float | AnySchedule) -> bool:
    """Return whether a number, or the rates of a schedule, are others in float32."""
    if isinstance(value, AnySchedule):
        return True
    try:
        return bool(struct.unpack("f", struct.pack("f", value))[0] != value)
    except OverflowError:
        return True
