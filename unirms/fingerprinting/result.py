"""`Fingerprint`: what was found out about an optimizer, axis by axis, with the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unirms.config import RMSPropConfig


@dataclass(frozen=True)
class Finding:
    """What the probes say of one axis.

    Attributes:
        value: the value that the optimizer follows; None where it does not show.
        shown: whether a probe tells this value from others.
        evidence: the number that shows it, or why nothing can.
    """

    value: Any
    shown: bool
    evidence: str

    def __str__(self) -> str:
        return str(self.value) if self.shown else "not shown"


@dataclass(frozen=True)
class Fingerprint:
    """What an optimizer does, found by giving it gradients and looking at the weights.

    Attributes:
        consistent: whether one config explains every movement of every probe, within rounding of float32.
        config: that config; axes that do not show have the choice of the first dialect that fits, or the default.
            None if there is none.
        axes: field of the config -> what the probes say of it.
        dialects: the dialects whose class computes this, with the arguments in `settings`; those of the framework that
            was probed come first. Several, where they differ only on axes that do not show.
        settings: dialect -> native arguments, for each of `dialects`.
        closest: the dialect that explains most movements; the first of `dialects` if there is one.
        evidence: sentences with numbers, the decisive ones first.
        framework: the framework that was probed, or "".
    """

    consistent: bool
    config: RMSPropConfig | None
    axes: Mapping[str, Finding]
    dialects: tuple[str, ...]
    closest: str
    evidence: tuple[str, ...]
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    framework: str = ""

    def __str__(self) -> str:
        if self.dialects:
            others = ", ".join(self.dialects[1:])
            return f"{self.dialects[0]}" + (f" (the same here: {others})" if others else "")
        if self.consistent:
            return f"consistent, but the class of no dialect; closest: {self.closest}"
        return f"no consistent dialect; closest: {self.closest}"

    def explain(self) -> str:
        """Return the result, the axes and the evidence as lines of text."""
        lines = [str(self)]
        if any(finding.shown for finding in self.axes.values()):
            lines += [f"  {name}: {finding} ({finding.evidence})" for name, finding in self.axes.items()]
        lines += [f"- {sentence}" for sentence in self.evidence]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data for JSON; framework objects among the settings become their code."""
        return {
            "framework": self.framework,
            "consistent": self.consistent,
            "dialects": list(self.dialects),
            "closest": self.closest,
            "config": None if self.config is None else self.config.model_dump(mode="json"),
            "axes": {
                name: {"value": _plain(finding.value), "shown": finding.shown, "evidence": finding.evidence}
                for name, finding in self.axes.items()
            },
            "settings": {
                dialect: {name: _plain(value) for name, value in settings.items()}
                for dialect, settings in self.settings.items()
            },
            "evidence": list(self.evidence),
        }


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)
