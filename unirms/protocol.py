"""What an adapter does: the same verbs in the same order for every framework.

An adapter module lives in the folder `adapters/`, is called as its framework in the registry, and ends with
`ADAPTER: Adapter = …`, so that the type checker holds it to this protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from unirms.config import RMSPropConfig
from unirms.semantics import Difference
from unirms.state import OptimizerState
from unirms.translation import Native


@dataclass(frozen=True)
class NamedParameter:
    """One parameter of the user's, with the name that patterns match and the name of its dtype ("float32", …)."""

    name: str
    value: Any
    dtype: str


class Adapter(Protocol):
    """What `unirms.build`, `config_of` and `state_of` need of a framework."""

    framework: str
    """The framework's name in the registry, and the name of its stock class's dialect."""

    options: Mapping[str, str]
    """What `build` takes besides: option -> one sentence on what it does."""

    def named_parameters(self, params: Any) -> list[NamedParameter]:
        """Return the parameters of a model, of (name, parameter) pairs, of a mapping, or of plain parameters."""
        ...

    def limits(self, native: Native, config: RMSPropConfig, params: Sequence[NamedParameter]) -> Sequence[Difference]:
        """Return how the stock class parts from its own dialect for these parameters: precision, kernel defects."""
        ...

    def refusals(self, config: RMSPropConfig, params: Sequence[NamedParameter], *, exact: bool) -> Sequence[str]:
        """Return why the stock (or the exact) class cannot be built for these parameters; empty when it can."""
        ...

    def stock(
        self, native: Native, config: RMSPropConfig, params: Sequence[NamedParameter], options: Mapping[str, Any]
    ) -> Any:
        """Return the framework's own class, its state filled in where the config starts from other values."""
        ...

    def exact(self, config: RMSPropConfig, params: Sequence[NamedParameter], options: Mapping[str, Any]) -> Any:
        """Return unirms's subclass, which computes every axis."""
        ...

    def lr_scheduler(self, optimizer: Any) -> Any:
        """Return the object that the user steps after each update, or hands the metrics of a plateau.

        None where the framework asks by itself, and where the rate is a number.
        """
        ...

    def swap_average(self, optimizer: Any) -> None:
        """Exchange the weights and their running means, in place; twice is nothing.

        Raises:
            UnsupportedError: the optimizer keeps no running means of the weights.
        """
        ...

    def owns(self, optimizer: Any) -> bool:
        """Return whether the optimizer is a stock or exact RMSProp of this framework."""
        ...

    def config_of(self, optimizer: Any) -> RMSPropConfig:
        """Return what a stock or exact optimizer computes, with its present hyperparameters."""
        ...

    def state_of(self, optimizer: Any) -> OptimizerState:
        """Return the accumulators as NumPy copies, by parameter name."""
        ...
