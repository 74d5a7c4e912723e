"""`RMSPropConfig`: the complete meaning of an RMSProp. No field depends on a framework.

The update of one tensor, in order (the executable form is `unirms.reference`)::

    g = grad / loss_scale;  g = the mean of gradient_accumulation_steps such gradients, updating after the last one
    non_finite, if any g has an infinity or a NaN: go on, skip this update (it is not counted), or raise
    g = -g if maximize;  g = g - mean(g) over all axes but one, if gradient_centralization;  g = clip(g)
    weight decay:  g = g + weight_decay * w   ("l2")   or   g = g + weight_decay * sign(w)   ("l1")
                   or   w = w - lr * weight_decay * w   ("decoupled")
    v = rho * v + (1 - rho) * g * g                    v starts at initial_mean_square
    a = rho * a + (1 - rho) * g                        centered only; d = v - a * a, otherwise d = v
    den = sqrt(d + epsilon)  ("inside_sqrt")    or     sqrt(d) + epsilon  ("outside_sqrt")
    m = momentum * m + lr * g / den;  w = w - m        lr_in_momentum
    b = momentum * b + g / den;       w = w - lr * b   otherwise
    nesterov: the step is  momentum * m + lr * g / den,  or  lr * (momentum * b + g / den)
    ema_decay > 0:  average = average - (1 - ema_decay) * (average - w), and average = w up to update ema_start + 1

Sources: Tieleman and Hinton, Lecture 6.5 (2012); Graves, "Generating Sequences With Recurrent Neural Networks"
(arXiv:1308.0850) for the centered form; Dozat (2016) for Nesterov momentum inside an adaptive method; Loshchilov and
Hutter (arXiv:1711.05101) for decoupled weight decay; Yong et al. (arXiv:2004.01461) for gradient centralization.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from unirms.clipping import Clip
from unirms.errors import ConfigError
from unirms.names import Pattern, Patterns, matches
from unirms.problems import explain_problems
from unirms.scalars import AsTuple, Flag, Number, to_tuple
from unirms.schedules import AnySchedule, Plateau, Schedule
from unirms.schedules.base import Count, Updates
from unirms.stated import Stated

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

    from unirms.translation import Native

NonNegative = Annotated[Number, Field(ge=0)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
Positive = Annotated[Number, Field(gt=0)]

LearningRate = Annotated[
    Annotated[NonNegative, Tag("number")]
    | Annotated[Annotated[Schedule | Plateau, Field(discriminator="kind")], Tag("schedule")],
    Discriminator(lambda value: "schedule" if isinstance(value, (Mapping, AnySchedule)) else "number"),
]
"""A number, a schedule, or a plateau."""

EpsilonPlacement = Literal["inside_sqrt", "outside_sqrt"]
NegativeVariance = Literal["propagate", "skip", "clamp"]
WeightDecayMode = Literal["l2", "decoupled", "l1"]
OutputAxis = Literal["none", "first_axis", "last_axis"]
NonFinite = Literal["propagate", "skip", "raise"]
Sparse = Literal["dense", "lazy"]


class ParameterGroup(Stated):
    """Overrides for the parameters whose name matches `match`; the first group that matches a name wins."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    match: Annotated[tuple[Pattern, ...], AsTuple] = Field(min_length=1)
    learning_rate: NonNegative | None = None
    learning_rate_factor: NonNegative | None = None
    rho: Fraction | None = None
    epsilon: NonNegative | None = None
    momentum: NonNegative | None = None
    centered: Flag | None = None
    weight_decay: NonNegative | None = None
    clip: Annotated[
        tuple[Clip, ...] | None, BeforeValidator(lambda value: None if value is None else to_tuple(value))
    ] = None

    def restricted_to(self, fields: Collection[str]) -> ParameterGroup:
        """Return the group with those of its overrides alone that are of these fields of a config."""
        kept = {name: getattr(self, name) for name in type(self).model_fields if name in fields}
        factor = self.learning_rate_factor if "learning_rate" in fields else None
        return ParameterGroup(match=self.match, learning_rate_factor=factor, **kept)

    def __repr_args__(self) -> Any:
        """Yield what the group says for its repr: what it leaves as it is would only hide that."""
        return ((name, value) for name, value in super().__repr_args__() if value is not None)

    def overrides(self) -> dict[str, Any]:
        """Return the fields of a config that the group sets, with their values; a factor of the rate is none."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {n: v for n, v in found.items() if v is not None and n not in {"match", "learning_rate_factor"}}

    def multiple_of(self, base: float) -> float | None:
        """Return the group's learning rate as a multiple of the config's first, `base`; None of a base of 0.

        It is 1 where the group has no rate of its own, or that of the config.
        """
        if self.learning_rate is None:
            return 1.0 if self.learning_rate_factor is None else self.learning_rate_factor
        if self.learning_rate == base:
            return 1.0
        return self.learning_rate / base if base else None

    @model_validator(mode="after")
    def _one_learning_rate(self) -> Self:
        if self.learning_rate is not None and self.learning_rate_factor is not None:
            raise PydanticCustomError("two_rates", "give learning_rate or learning_rate_factor, not both")
        return self


class RMSPropConfig(BaseModel):
    """The complete meaning of an RMSProp. Two equal configs mean the same numbers, in any framework.

    Defaults are those of Keras 3. Frozen and hashable; `config.replace(rho=0.95)` returns a changed copy.

    Raises:
        ConfigError: naming what was given, what is allowed and, for a foreign or misspelt name, the right field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rate: LearningRate = Field(
        default=0.001,
        description="step size of every update: a number, a schedule over the completed updates, or a plateau",
    )
    rho: Fraction = Field(default=0.9, description="decay of the mean square (and of the mean gradient)")
    epsilon: NonNegative = Field(default=1e-7, description="term that keeps the denominator away from zero")
    epsilon_placement: EpsilonPlacement = Field(
        default="inside_sqrt", description="sqrt(d + epsilon) or sqrt(d) + epsilon"
    )
    momentum: NonNegative = Field(default=0.0, description="decay of the momentum buffer; 0 means no buffer")
    nesterov: Flag = Field(default=False, description="step along momentum * buffer + update instead of the buffer")
    lr_in_momentum: Flag = Field(
        default=True, description="the buffer accumulates lr * update (true) or update (false)"
    )
    centered: Flag = Field(
        default=False, description="divide by the variance of the gradient instead of its mean square"
    )
    negative_variance: NegativeVariance = Field(
        default="propagate",
        description="when a centered denominator is not > 0: NaN as it comes, skip the element, or clamp the variance",
    )
    initial_mean_square: NonNegative = Field(default=0.0, description="value of the mean square before the first step")
    bias_correction: Flag = Field(default=False, description="divide both means by 1 - rho**t, t counting from 1")
    weight_decay: NonNegative = Field(default=0.0, description="coefficient of the weight decay")
    weight_decay_mode: WeightDecayMode = Field(
        default="decoupled",
        description="added to the gradient (l2), taken off the weight (decoupled), or added as its sign (l1)",
    )
    no_weight_decay: Patterns = Field(
        default=(),
        description="name patterns of parameters without weight decay; the word mindspore stands for MindSpore's own",
    )
    clip: Annotated[tuple[Clip, ...], AsTuple] = Field(
        default=(), description="clips, applied in this order before decay"
    )
    gradient_centralization: OutputAxis = Field(
        default="none",
        description="which axis of a tensor of rank > 1 has the outputs: over all others the gradient's mean is "
        "taken off (first_axis in PyTorch's layout, last_axis in Keras's)",
    )
    loss_scale: Positive = Field(default=1.0, description="gradients are divided by it")
    gradient_accumulation_steps: Count = Field(
        default=1, description="gradients of which an update takes the mean; schedules count updates"
    )
    non_finite: NonFinite = Field(
        default="propagate",
        description="when a gradient has an infinity or NaN: go on, skip the update uncounted, or raise an error",
    )
    sparse: Sparse = Field(
        default="dense",
        description="gradients by rows: as if they were dense, or only the given rows decay, coast and move (lazy)",
    )
    maximize: Flag = Field(default=False, description="ascend instead of descend")
    ema_decay: Fraction = Field(
        default=0.0, description="decay of the running mean of the weights, kept beside them; 0 means none"
    )
    ema_start: Updates = Field(default=0, description="completed updates before that mean begins")
    groups: Annotated[tuple[ParameterGroup, ...], AsTuple] = Field(
        default=(), description="overrides by parameter name"
    )

    # pydantic calls a custom __init__ for nested models too, so a config inside somebody else's model
    # still reports an ordinary ValidationError there, while RMSPropConfig(...) itself raises ConfigError.
    if not TYPE_CHECKING:

        def __init__(self, /, **data: Any) -> None:
            try:
                super().__init__(**data)
            except ValidationError as error:
                raise ConfigError(explain_problems(error.errors(include_url=False))) from None

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise PydanticCustomError(
                "nesterov_alone", "nesterov=True needs momentum > 0 (given momentum=0); set momentum or drop nesterov"
            )
        if self.bias_correction and 1 in (self.rho, *(group.rho for group in self.groups)):
            raise PydanticCustomError(
                "no_correction", "bias_correction=True divides by 1 - rho**t, which is 0 for rho=1; use rho < 1"
            )
        for index, group in enumerate(self.groups):
            if group.learning_rate is not None and isinstance(self.learning_rate, AnySchedule):
                raise PydanticCustomError(
                    "fixed_rate",
                    "groups.{index}.learning_rate={rate} would replace a schedule, whose shape holds for all "
                    "parameters; write learning_rate_factor",
                    {"index": index, "rate": group.learning_rate},
                )
        if self.sparse == "lazy" and (self.gradient_accumulation_steps > 1 or self.gradient_centralization != "none"):
            other = "gradient_accumulation_steps" if self.gradient_accumulation_steps > 1 else "gradient_centralization"
            raise PydanticCustomError(
                "lazy_sum",
                "sparse='lazy' and {other}={value} do not go together, since a mean over gradients or rows has no "
                "untouched rows; use sparse='dense'",
                {"other": other, "value": repr(getattr(self, other))},
            )
        return self

    @classmethod
    def model_validate(cls, obj: Any, **kwargs: Any) -> Self:
        """Return a config from a mapping (or a config); errors are `ConfigError`, as for the constructor."""
        return cast("Self", _raising_config_errors(super().model_validate, obj, **kwargs))

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **kwargs: Any) -> Self:
        """Return a config from JSON text; errors are `ConfigError`, as for the constructor."""
        return cast("Self", _raising_config_errors(super().model_validate_json, json_data, **kwargs))

    @classmethod
    def from_native(cls, dialect: str, /, *args: Any, **kwargs: Any) -> RMSPropConfig:
        """Return the config that a native class computes when it is called with these keyword arguments.

        Arguments that are left out take the dialect's own defaults. Reading is always exact.

        Raises:
            UnknownNameError: no such dialect.
            ConfigError: an argument that the native class does not take, or a value outside the config's ranges.
        """
        from unirms.dialects import get

        if args:
            raise ConfigError(
                [f"from_native({dialect!r}, …) takes keyword arguments only (given {len(args)} positional)"]
            )
        return get(dialect).read(kwargs)

    def to_native(self, dialect: str) -> Native:
        """Return this config in the words of `dialect`, with the verdict and the differences.

        Raises:
            UnknownNameError: no such dialect.
        """
        from unirms.translation import to_native

        return to_native(self, dialect)

    def save(self, path: str | Path) -> None:
        """Write this config to a file, as YAML, JSON or TOML by its suffix; see `unirms.files.save`.

        Raises:
            ConfigError: the suffix names no format, or the file cannot be written.
        """
        from unirms.files import save

        save(self, path)

    @staticmethod
    def load(path: str | Path) -> RMSPropConfig:
        """Return the config in a file of unirms, or in a recipe of another tool that states one RMSProp.

        Raises:
            ConfigError: the file cannot be read, or states no RMSProp, or several.
        """
        from unirms.recipes import config_of, read_one

        return config_of(read_one(path), path)

    def explain(self) -> str:
        """Return in plain sentences what this config computes, and which stock classes compute it."""
        from unirms.explanation import explain_config

        return explain_config(self)

    @property
    def initial_learning_rate(self) -> float:
        """The learning rate of the first update."""
        return self.learning_rate_at(0)

    def learning_rate_at(self, t: int) -> float:
        """Return the learning rate of the update before which `t` updates were completed (0 at the first).

        That of a plateau is its first: the others depend on metrics, see `Plateau.rates`.
        """
        rate = self.learning_rate
        if isinstance(rate, Plateau):
            return rate.initial
        return rate.value(t) if isinstance(rate, AnySchedule) else rate

    @property
    def has_constant_rate(self) -> bool:
        """Whether the config itself never changes the learning rate."""
        return not isinstance(self.learning_rate, AnySchedule) or self.learning_rate.is_constant

    def equivalent(self, other: RMSPropConfig) -> bool:
        """Return whether both mean the same numbers; they may say it differently, as both placements of 0 do."""
        from unirms.semantics import differences

        return not differences(self, other)

    def replace(self, **changes: Any) -> RMSPropConfig:
        """Return a validated copy with some fields changed, or the config itself where nothing changes."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        if all(name in values and _same(value, values[name]) for name, value in changes.items()):
            return self
        return RMSPropConfig(**(values | changes))

    def for_parameter(self, name: str) -> RMSPropConfig:
        """Return the config that holds for one parameter: groups and `no_weight_decay` resolved away."""
        if not self.groups and not self.no_weight_decay:
            return self
        group = self.group_of(name)
        chosen = self.for_group(None if group is None else self.groups[group])
        exempt = {"weight_decay": 0.0} if matches(name, chosen.no_weight_decay) else {}
        return chosen.replace(no_weight_decay=(), **exempt)

    def group_of(self, name: str) -> int | None:
        """Return the index of the group that a parameter is in, the first that matches its name; None for none."""
        return next((index for index, group in enumerate(self.groups) if matches(name, group.match)), None)

    def for_group(self, group: ParameterGroup | None) -> RMSPropConfig:
        """Return the config that holds for the parameters of one group, or of none.

        A group's own weight decay holds for all of its parameters, those of `no_weight_decay` included.
        """
        changes: dict[str, Any] = {"groups": ()}
        if group is not None:
            changes |= group.overrides()
            if group.learning_rate_factor is not None:
                changes["learning_rate"] = _times(self.learning_rate, group.learning_rate_factor)
            if group.weight_decay is not None:
                changes["no_weight_decay"] = ()
        if changes.get("momentum") == 0:
            changes["nesterov"] = False
        return self.replace(**changes)


def _same(value: Any, now: Any) -> bool:
    """Return whether a value is the present one and needs no validation; True is not 1.0."""
    return type(value) is type(now) and bool(value == now)


def _raising_config_errors(validate: Any, value: Any, **kwargs: Any) -> Any:
    try:
        return validate(value, **kwargs)
    except ValidationError as error:
        raise ConfigError(explain_problems(error.errors(include_url=False))) from None


def _times(rate: Any, factor: float) -> Any:
    try:
        return rate.scaled(factor) if isinstance(rate, AnySchedule) else rate * factor
    except ConfigError:
        raise ConfigError(
            [f"learning_rate_factor={factor} times the learning rate is no finite number; make one of them smaller"]
        ) from None
