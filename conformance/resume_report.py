"""The part of the report on trainings that were left in one framework and went on in another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table
from rich.text import Text

from .cases import LIMIT_ULP
from .results import LeftResult, ResumeResult
from .resumptions import LEFT_AT, STEPS, WAYS, Left, Resumption
from .settings import DTYPES, SETTINGS
from .tables import finite, narrow


@dataclass
class Resumed:
    """What came of them.

    Attributes:
        frameworks: what was asked for.
        left: what each has left.
        planned: what was to go on.
        results: what went on.
        not_migrated: a sentence for each checkpoint that did not become another framework's.
    """

    frameworks: Sequence[str]
    left: list[LeftResult] = field(default_factory=list)
    planned: list[Resumption] = field(default_factory=list)
    results: list[ResumeResult] = field(default_factory=list)
    not_migrated: list[str] = field(default_factory=list)

    @property
    def there(self) -> list[Left]:
        """What can go on."""
        return [result.left for result in self.left if not result.problem]

    def pairs(self) -> list[tuple[str, str]]:
        """Return all ordered pairs, each framework with itself too."""
        return list(itertools.product(self.frameworks, self.frameworks))

    def of(self, source: str, target: str, way: str) -> list[ResumeResult]:
        """Return what went from one framework to another."""
        found = [result for result in self.results if result.framework == target]
        return [one for one in found if (one.resumption.source.framework, one.resumption.way) == (source, way)]

    def problems(self) -> list[str]:
        """Return one sentence for everything that keeps this part from being a success."""
        found = [f"{one.left.label}: could not be left: {one.problem}" for one in self.left if one.problem]
        found += self.not_migrated
        found += [f"{result.resumption.label}: {result.problem}" for result in self.results if result.problem]
        done = {result.resumption.label for result in self.results}
        found += [f"{one.label}: did not run" for one in self.planned if one.label not in done]
        found += [
            f"{source} -> {target}, {way}: did not run"
            for source, target in self.pairs()
            for way in WAYS
            if not self.of(source, target, way)
        ]
        return found

    def as_data(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "pairs": [
                {"source": source, "target": target, **{way: _summary(self.of(source, target, way)) for way in WAYS}}
                for source, target in self.pairs()
            ],
            "runs": [_run(result) for result in self.results],
        }


def resume_table(resumed: Resumed) -> Table:
    """Return a row for each source and way, and a column for each target: passed, and the worst errors."""
    table = narrow(
        f"Left after {LEFT_AT} steps, gone on for {STEPS - LEFT_AT} elsewhere: passed, and the worst error of "
        f"weights/state against {STEPS} steps without a break, in ULP at max(|x|, path); limit {_limits()}"
    )
    table.add_column("from")
    table.add_column("way")
    for target in resumed.frameworks:
        table.add_column(f"to {target}", justify="right", no_wrap=True)
    for source in resumed.frameworks:
        for way in WAYS:
            cells = [_cell(resumed.of(source, target, way)) for target in resumed.frameworks]
            table.add_row(source if way == WAYS[0] else "", way, *cells)
    return table


def resume_line(resumed: Resumed) -> str:
    """Return one sentence on how many went on as they should."""
    comparable = [result for result in resumed.results if not SETTINGS[result.resumption.source.setting].after]
    home = [result for result in comparable if result.resumption.same]
    return (
        f"Trainings gone on elsewhere: {sum(not result.problem for result in resumed.results)} of "
        f"{len(resumed.results)} within the limit, in {len(resumed.pairs())} pairs; bit for bit as the target's own "
        f"straight run: {sum(result.same_bits for result in home)} of {len(home)} of those that came back to where "
        f"they were left, {sum(result.same_bits for result in comparable)} of {len(comparable)} of all"
    )


def _cell(results: Sequence[ResumeResult]) -> Text:
    if not results:
        return Text("did not run", style="red")
    summary = _summary(results)
    passed = summary["passed"] == summary["runs"]
    ulp = f"{_shown(summary['weights_ulp'])}/{_shown(summary['state_ulp'])}"
    return Text(f"{summary['passed']}/{summary['runs']} {ulp}", style="" if passed else "red")


def _summary(results: Sequence[ResumeResult]) -> dict[str, Any]:
    return {
        "runs": len(results),
        "passed": sum(not result.problem for result in results),
        "weights_ulp": finite(max((result.weights_ulp for result in results), default=0.0)),
        "state_ulp": finite(max((result.state_ulp for result in results), default=0.0)),
    }


def _run(result: ResumeResult) -> dict[str, Any]:
    of = result.resumption
    return {
        "source": of.source.framework,
        "source_mode": of.source.mode,
        "target": of.target,
        "mode": of.mode,
        "dtype": of.source.dtype,
        "way": of.way,
        "setting": of.source.setting,
        "begun": of.begun,
        "weights_ulp": finite(result.weights_ulp),
        "state_ulp": finite(result.state_ulp),
        "same_bits": result.same_bits,
        "passed": not result.problem,
        "problem": result.problem,
    }


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.1f}"


def _limits() -> str:
    return " and ".join(dict.fromkeys(f"{LIMIT_ULP[dtype]:g}" for dtype in DTYPES))
