"""What a file holds of a training run, and what a file is to hold: the words between readers, plans and writers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from unirms.checkpoints.tensors import Moving, Stored
from unirms.config import RMSPropConfig
from unirms.schedules.plateau import PlateauState
from unirms.state import GRADIENT_SUM, WEIGHTS, OptimizerState

Config = Annotated[
    RMSPropConfig | None,
    BeforeValidator(lambda value: RMSPropConfig(**value) if isinstance(value, Mapping) else value),
    PlainSerializer(lambda value: None if value is None else value.model_dump(mode="json")),
]


class _Content(BaseModel):
    """What both directions have.

    Attributes:
        parameters: the names of what the optimizer updates, in its order.
        step: completed updates; None where a file does not say.
        micro_step: gradients gathered since.
        learning_rate: the rate of the next update; None where a file does not say.
        plateau: where a plateau has come to.
        config: what the optimizer computes; None where a file does not say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    parameters: tuple[str, ...]
    step: int | None = None
    micro_step: int = 0
    learning_rate: float | None = None
    plateau: PlateauState | None = None
    config: Config = None


class Checkpoint(_Content):
    """What a file holds.

    Attributes:
        format: the name of its format, see `unirms.checkpoints.formats`.
        tensors: by kind (a slot, "gradient_sum" or "weights") and by name, in the order of the file.
        notes: a sentence for each thing that the reader had to conclude or leave out.
        unsaid: fields of the config of which files of this format say nothing.
        advice: a sentence for each thing to know of loading another file that has the structure of this one.
    """

    format: str
    tensors: dict[str, dict[str, Stored]]
    notes: tuple[str, ...] = ()
    unsaid: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    def state(self) -> OptimizerState:
        """Return the state, its arrays mapped from the file; a step that the file does not say is 0."""
        arrays = {kind: {n: one.array() for n, one in found.items()} for kind, found in self.tensors.items()}
        slots: dict[str, Any] = {"mean_square": {}, **arrays}
        weights, sums = slots.pop(WEIGHTS, {}), slots.pop(GRADIENT_SUM, {})
        return OptimizerState(
            self.step or 0,
            **slots,
            gradient_sum=sums,
            micro_step=self.micro_step,
            plateau=self.plateau,
            learning_rate=self.learning_rate,
            config=self.config,
            weights=weights,
        )


class Outgoing(_Content):
    """What a file is to hold: a state in the names, layouts, units and dtypes of its target.

    Attributes:
        tensors: by kind and by name, in the order of `parameters`.
        stock: whether the stock class is to go on from it; otherwise what `unirms.build` makes of the config.
    """

    tensors: dict[str, dict[str, Moving]]
    stock: bool = False
