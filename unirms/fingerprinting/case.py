"""What an investigation has found out so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from unirms.config import RMSPropConfig
from unirms.fingerprinting.fitting import Fit, judged
from unirms.fingerprinting.probes import LARGEST, Observation, Runner
from unirms.fingerprinting.result import Finding


@dataclass
class Case:
    """What has been found out so far."""

    run: Runner
    largest: float = 10.0**LARGEST
    limit: float | None = None
    """A norm up to which gradients are not clipped; None where none are."""
    heavy: float = 0.0
    """A long third step: the unit for weights."""
    observations: list[Observation] = field(default_factory=list)
    fit: Fit | None = None
    rested: bool = False
    axes: dict[str, Finding] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def clipped(self) -> bool:
        """Whether large gradients are clipped."""
        return self.limit is not None

    @property
    def config(self) -> RMSPropConfig:
        """The config found so far."""
        assert self.fit is not None
        return self.fit.config

    def decide(self, **fields: Any) -> None:
        """Set fields of the config found so far."""
        assert self.fit is not None
        self.fit = judged(self.config.replace(**fields), self.observations, self.fit.errors)

    def agrees(self, config: RMSPropConfig) -> bool:
        """Return whether a config explains the movements as the one found so far does."""
        assert self.fit is not None
        return judged(config, self.observations, self.fit.errors).contradicts_no_more(self.fit)
