"""From a config to a framework's own words, with what is lost on the way. No framework is needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from unirms import dialects, semantics
from unirms.config import RMSPropConfig
from unirms.semantics import Difference, Fidelity


@dataclass(frozen=True)
class Native:
    """A config in the words of one dialect.

    Attributes:
        dialect: the dialect's name.
        target: the class or function to call.
        kwargs: every hyperparameter by its native name, also where it equals the default.
        meaning: the config that the target computes with these keyword arguments.
        differences: the axes on which `meaning` parts from the config that was asked for.
    """

    dialect: str
    target: str
    kwargs: dict[str, Any]
    meaning: RMSPropConfig
    differences: tuple[Difference, ...] = field(default=())

    @property
    def fidelity(self) -> Fidelity:
        """The verdict: the weakest fidelity of all differences."""
        return semantics.verdict(self.differences)

    def code(self) -> str:
        """Return the call as Python code, without the parameters."""
        return f"{self.target}({', '.join(f'{name}={value!r}' for name, value in self.kwargs.items())})"


def to_native(config: RMSPropConfig, dialect: str) -> Native:
    """Return `config` in the words of `dialect`; see `RMSPropConfig.to_native`."""
    chosen = dialects.get(dialect)
    kwargs = chosen.write(config)
    meaning = chosen.read(kwargs)
    if chosen.exempts:  # which parameters are decayed is said by grouping them, whatever the class does by itself
        meaning = meaning.replace(no_weight_decay=config.no_weight_decay)
    return Native(chosen.name, chosen.target, kwargs, meaning, semantics.differences(config, meaning))
