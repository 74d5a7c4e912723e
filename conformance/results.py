"""What a worker reports, as data: one line of JSON for each message."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from .resumptions import Left, Resumption


class _Message(BaseModel):
    # Infinite errors are results; JSON has no word for them but strings.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Hello(_Message):
    """The worker has loaded its framework."""

    kind: Literal["hello"] = "hello"
    framework: str
    versions: dict[str, str]
    python: str
    cases: int = 0
    """How many cases will follow."""


class CaseResult(_Message):
    """One case, judged."""

    kind: Literal["case"] = "case"
    framework: str
    id: str
    mode: str
    dtype: str
    built: str = ""
    """Name of the class that `unirms.build` returned."""
    stock: bool = False
    """Whether that is the framework's own class."""
    weights_ulp: float = 0.0
    state_ulp: float = 0.0
    movement: float = 0.0
    same_bits: bool = False
    """Whether the final weights equal those of the reference in the same dtype, bit for bit."""
    seconds: float = 0.0
    problem: str = ""
    """Why the case could not be run, or what is wrong with it; empty when it is within the limits."""

    @property
    def passed(self) -> bool:
        """Whether the case ran and is within the limits."""
        return not self.problem


class PortResult(_Message):
    """Where a plain port ends: the stock class with the hyperparameters that have the same names."""

    kind: Literal["port"] = "port"
    framework: str
    target: str
    movement: list[float]
    """Final minus initial weights, of the plain port."""
    exact_movement: list[float]
    """The same for `unirms.build` with the first framework's meaning."""


class TrainResult(_Message):
    """One training on digits."""

    kind: Literal["train"] = "train"
    framework: str
    config: str
    built: str
    losses: list[float]
    weights: dict[str, list[float]]


class LeftResult(_Message):
    """A training that has been left half done, for others to go on."""

    kind: Literal["left"] = "left"
    framework: str
    left: Left
    problem: str = ""
    """Why nothing has been left; empty where it has."""


class ResumeResult(_Message):
    """A training that has gone on, judged over its second half."""

    kind: Literal["resume"] = "resume"
    framework: str
    """Where it goes on."""
    resumption: Resumption
    weights_ulp: float = 0.0
    state_ulp: float = 0.0
    same_bits: bool = False
    """Whether the final weights equal those of the target's own straight run, bit for bit."""
    seconds: float = 0.0
    problem: str = ""
    """Why it could not go on, or what is wrong; empty when it is within the limits."""


class Failure(_Message):
    """The worker could not go on."""

    kind: Literal["failure"] = "failure"
    framework: str
    reason: str


class Done(_Message):
    """The worker has nothing more to say."""

    kind: Literal["done"] = "done"
    framework: str


Message = Annotated[
    Hello | CaseResult | PortResult | TrainResult | LeftResult | ResumeResult | Failure | Done,
    Field(discriminator="kind"),
]
MESSAGES: TypeAdapter[Message] = TypeAdapter(Message)
