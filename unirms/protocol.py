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
from unirms.state import Array, OptimizerState
from unirms.translation import Native


@dataclass(frozen=True)
class NamedParameter:
    """One parameter of the user's, with the name that patterns match and the name of its dtype ("float32", …)."""

    name: str
    value: Any
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of its axes."""
        return tuple(int(length) for length in self.value.shape)


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
        """Return the accumulators as NumPy copies, by parameter name: of all parameters, also before the first step.

        With the place of a plateau; without learning rate and config, which `unirms.state_of` adds.
        """
        ...

    def parameters_of(self, optimizer: Any) -> list[NamedParameter]:
        """Return what an optimizer updates, in its order, under the names of `state_of`.

        Raises:
            UnsupportedError: it does not know yet, as Keras's before they are built.
        """
        ...

    def restore(self, optimizer: Any, state: OptimizerState) -> None:
        """Write a state into an optimizer, before its first step or later, in every mode of the framework.

        The state is already in the optimizer's own names, shapes, units and slots (those that `state_of` gives), and
        complete; bfloat16 comes as float32. Counters, schedules and a plateau come to where `state.step` and
        `state.plateau` say, and what is half gathered to `state.gradient_sum` and `state.micro_step`. A learning rate
        that is a number stays the optimizer's own.
        """
        ...

    def weights_of(self, model: Any) -> list[NamedParameter]:
        """Return all floating-point tensors of a model, or of what `named_parameters` takes: trained or not.

        Their names are those of `named_parameters`, and for what is not trained (the running means of a batch
        normalization) the framework's own in the same style.
        """
        ...

    def array_of(self, value: Any) -> Array:
        """Return a copy of a tensor; bfloat16 comes as float32."""
        ...

    def assign(self, value: Any, array: Array) -> None:
        """Write an array into a tensor of a model, in its place and its dtype, so that training goes on with it."""
        ...
