"""How much a difference matters: both meanings run on the same gradients, and how far apart they end.

The measure is that of `unirms.effects.movement`. The learning rate is halved half-way, so that a rate inside the
momentum buffer shows; what a remedy short of another optimizer leaves of the difference stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from unirms import dialects, semantics
from unirms.config import RMSPropConfig
from unirms.effects import gradients as streams
from unirms.effects import movement
from unirms.effects.gradients import Stream, read_gradients
from unirms.effects.substitutes import Substitute, substitute
from unirms.errors import ConfigError
from unirms.explanation import wrapped
from unirms.semantics import Difference, Fidelity
from unirms.state import Array

if TYPE_CHECKING:
    from unirms.translation import Native

__all__ = ["Effect", "Row", "Substitute", "effect", "effect_between", "percent", "read_gradients"]

NOTICEABLE: Final = 0.01
"""The relative difference whose first step is reported."""
UNMEASURED: Final = ("gradient_centralization", "non_finite", "sparse", "ema_decay", "ema_start")
"""Axes that the weights of one vector under finite, dense gradients never show."""


@dataclass(frozen=True)
class Row:
    """What one stream of gradients shows.

    Attributes:
        scale: the size of the gradients, or None for recorded ones.
        difference: the relative difference of the movement after the last step, the target taken as it is.
        passes_at: the first step, counted from 1, after which the difference is over 1 %; None if none.
        remedied: the difference after the effect's `remedy`; None where there is no remedy.
        lost: how many elements become NaN or infinite in both, and are left out.
    """

    scale: float | None
    difference: float
    passes_at: int | None
    remedied: float | None = None
    lost: int = 0


@dataclass(frozen=True)
class Effect:
    """How far two meanings part.

    Attributes:
        fidelity: the verdict over their differences, which no measurement and no substitute changes.
        stream: the gradients in words.
        rows: what each stream shows.
        remedy: what was done for `remedied`: the state filled in, the learning rate kept constant, or both.
        epsilon: what the target calls its epsilon, where there are substitutes for it.
        substitutes: for each row the best other epsilon; empty unless the verdict is `approximate` and epsilon or its
            placement is among the differences.
        notes: what else has to be said about the numbers.
    """

    fidelity: Fidelity
    stream: str
    rows: tuple[Row, ...]
    remedy: str = ""
    epsilon: str = ""
    substitutes: tuple[Substitute, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def worst(self) -> Row:
        """The row with the largest difference."""
        return max(self.rows, key=lambda row: row.difference)

    def table(self) -> list[tuple[str, ...]]:
        """Return the rows as text, the first one being the heads of the columns."""
        heads = ["gradients", "difference", "over 1 %"]
        heads += [self.remedy] if self.remedy else []
        heads += [f"best {self.epsilon}", "what remains"] if self.substitutes else []
        return [tuple(heads), *(self._cells(index) for index in range(len(self.rows)))]

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for JSON, which knows no infinity: an infinite difference is None."""
        content = asdict(self) | {"fidelity": str(self.fidelity), "worst": asdict(self.worst)}
        finite: dict[str, Any] = _without_infinities(content)
        return finite

    def __str__(self) -> str:
        lines = wrapped(f"How far apart both end, relative to the longer way, on {self.stream}:")
        lines += ["", *_aligned(self.table())]
        lines += ["", *(line for note in self.notes for line in wrapped(note))] if self.notes else []
        return "\n".join(lines)

    def _cells(self, index: int) -> tuple[str, ...]:
        row = self.rows[index]
        cells = [
            "recorded" if row.scale is None else f"{row.scale:g}",
            percent(row.difference),
            "never" if row.passes_at is None else f"from step {row.passes_at}",
        ]
        cells += [] if row.remedied is None else [percent(row.remedied)]
        if self.substitutes:
            best = self.substitutes[index]
            cells += [f"{best.epsilon:.3g}", percent(best.difference)]
        return tuple(cells)


def effect(native: Native, gradients: Array | None = None, *, scales: Sequence[float] | None = None) -> Effect:
    """Return how far a translation parts from what was asked for.

    Args:
        native: the translation.
        gradients: recorded gradients of one tensor, shape (steps, …), used as they are.
        scales: other sizes of the gradients that are made where none are given; see `unirms.effects.gradients.made`.

    Raises:
        ConfigError: gradients that are no stream, a scale that is not a finite number > 0, or both given.
    """
    chosen = _streams(native.wanted, gradients, scales)
    found = _measured(native.wanted, native.meaning, chosen, native.differences)
    name = dialects.get(native.dialect).name_of("epsilon")
    concerned = _among(native.differences, "epsilon", "epsilon_placement")
    if found.fidelity is not Fidelity.APPROXIMATE or not name or not concerned:
        return found
    remedy, actual = _Remedy.of(native.differences), native.meaning.for_parameter(movement.PARAMETER)
    actual = remedy.on(native.wanted, actual)
    best = tuple(substitute(native, actual, stream, halves=not remedy.keeps_rate) for stream in chosen)
    note = f"With another {name} it stays {found.fidelity}: which is best, and what remains, depends on the gradients."
    return replace(found, epsilon=name, substitutes=best, notes=(*found.notes, note))


def effect_between(
    wanted: RMSPropConfig,
    actual: RMSPropConfig,
    gradients: Array | None = None,
    *,
    scales: Sequence[float] | None = None,
) -> Effect:
    """Return how far `actual` parts from `wanted`; the other arguments and the errors are those of `effect`."""
    return _measured(wanted, actual, _streams(wanted, gradients, scales), semantics.differences(wanted, actual))


def percent(difference: float) -> str:
    """Return a relative difference as text."""
    share = 100 * difference
    if not math.isfinite(share):
        return "infinite"
    return "0" if share == 0 else f"{share:.0e} %" if share < 0.01 else f"{share:.3g} %"


@dataclass(frozen=True)
class _Remedy:
    """What can be done short of another optimizer, read off the differences."""

    seeds: bool
    keeps_rate: bool

    @classmethod
    def of(cls, found: tuple[Difference, ...]) -> _Remedy:
        fidelities = {difference.fidelity for difference in found}
        return cls(Fidelity.SEEDED in fidelities, Fidelity.CONSTANT_LR in fidelities)

    @property
    def words(self) -> str:
        return ", ".join(["state filled in"] * self.seeds + ["constant rate"] * self.keeps_rate)

    def on(self, wanted: RMSPropConfig, actual: RMSPropConfig) -> RMSPropConfig:
        """Return what the target computes then: filling in the mean square is starting it elsewhere."""
        return actual.replace(initial_mean_square=wanted.initial_mean_square) if self.seeds else actual


def _streams(wanted: RMSPropConfig, gradients: Array | None, scales: Sequence[float] | None) -> list[Stream]:
    if gradients is None:
        return streams.made(scales, loss_scale=wanted.loss_scale)
    if scales is not None:
        raise ConfigError(["gradients and scales are both given; recorded gradients have their own scale, give one"])
    return [streams.recorded(gradients)]


def _measured(
    wanted: RMSPropConfig, actual: RMSPropConfig, chosen: list[Stream], found: tuple[Difference, ...]
) -> Effect:
    remedy = _Remedy.of(found)
    wanted, actual = (config.for_parameter(movement.PARAMETER) for config in (wanted, actual))
    rows = tuple(_row(wanted, actual, stream, remedy) for stream in chosen)
    elements = chosen[0].gradients.shape[1]
    notes = tuple(_notes(rows, found, elements))
    return Effect(semantics.verdict(found), _in_words(chosen), rows, remedy.words, notes=notes)


def _row(wanted: RMSPropConfig, actual: RMSPropConfig, stream: Stream, remedy: _Remedy) -> Row:
    gaps = list(movement.gaps(wanted, actual, stream))
    passes_at = next((step for step, (gap, _) in enumerate(gaps, start=1) if gap > NOTICEABLE), None)
    remedied = None
    if remedy.words:
        *_, (remedied, _) = movement.gaps(wanted, remedy.on(wanted, actual), stream, halves=not remedy.keeps_rate)
    difference, lost = gaps[-1]
    return Row(stream.scale, difference, passes_at, remedied, lost)


def _in_words(chosen: list[Stream]) -> str:
    stream = chosen[0]
    steps, elements = stream.gradients.shape
    rate = f", the learning rate halved after step {movement.half(stream)}" if steps > 1 else ""
    if stream.scale is None:
        return f"{steps} steps of {elements} recorded gradients{rate}"
    return f"{steps} steps of {elements} gradients of each size (a mean for each element, and noise){rate}"


def _notes(rows: tuple[Row, ...], found: tuple[Difference, ...], elements: int) -> Iterator[str]:
    if any(math.isinf(row.difference) for row in rows):
        yield "Infinite: an element becomes NaN or infinite in one of the two alone."
    lost = max(row.lost for row in rows)
    if lost == elements:
        yield "All elements become NaN or infinite in both, and a difference of 0 says nothing here."
    elif lost:
        yield f"Up to {lost} elements become NaN or infinite in both and are left out."
    if _among(found, "groups", "no_weight_decay"):
        name = movement.PARAMETER
        yield f"The gradients are those of one tensor, named {name}; parameters of other names may part further."
    unmeasured = [difference.axis for difference in found if difference.axis in UNMEASURED]
    if unmeasured:
        yield (
            f"Not measured: {', '.join(unmeasured)}. The gradients are finite and dense, those of one vector, and what "
            "is compared are its weights, not their running means."
        )


def _among(found: tuple[Difference, ...], *axes: str) -> bool:
    return any(difference.axis in axes for difference in found)


def _aligned(table: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def _without_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_infinities(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_infinities(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
