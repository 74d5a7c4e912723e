"""From one framework's own words to another's, with what is lost on the way. No framework is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from unirms import dialects, semantics
from unirms.config import RMSPropConfig
from unirms.dialects import groups as native_groups
from unirms.dialects.base import Dialect
from unirms.dialects.calls import NativeCall
from unirms.dialects.groups import NativeGroup
from unirms.schedules import Plateau
from unirms.semantics import Difference, Fidelity

if TYPE_CHECKING:
    from unirms.diagnosis import Diagnosis
    from unirms.effects import Effect
    from unirms.state import Array


@dataclass(frozen=True)
class Native:
    """A config in the words of one dialect.

    Attributes:
        dialect: the dialect's name.
        target: the class or function to call.
        kwargs: every hyperparameter by its native name, also where it equals the default. A schedule is a call of the
            framework's own class where there is one for it, and its first rate otherwise.
        wanted: the config that was asked for.
        meaning: the config that the target computes with these keyword arguments.
        differences: the axes on which `meaning` parts from `wanted`.
        scheduler: what moves the learning rate from beside the optimizer, in the frameworks that do it so (PyTorch;
            Keras at a plateau); None where nothing does.
        groups: what single parameters are told, by the patterns of the config's groups, in order; none where the class
            has no parameter groups.
    """

    dialect: str
    target: str
    kwargs: dict[str, Any]
    wanted: RMSPropConfig
    meaning: RMSPropConfig
    differences: tuple[Difference, ...] = field(default=())
    scheduler: NativeCall | None = None
    groups: tuple[NativeGroup, ...] = ()

    @property
    def fidelity(self) -> Fidelity:
        """The verdict: the weakest fidelity of all differences."""
        return semantics.verdict(self.differences)

    @property
    def needs_seeding(self) -> bool:
        """Whether the state has to be filled in before the first step; a `constant-lr` verdict may need it, too."""
        return any(difference.fidelity is Fidelity.SEEDED for difference in self.differences)

    @property
    def obstacles(self) -> tuple[Difference, ...]:
        """The differences that remain of a live stock class: its state can be filled in, and its rate be driven."""
        driven = not self.wanted.has_constant_rate
        return tuple(
            one
            for one in self.differences
            if one.fidelity is not Fidelity.SEEDED and not (driven and one.axis == "learning_rate")
        )

    @property
    def warnings(self) -> tuple[Diagnosis, ...]:
        """What the class gets wrong on some devices or inputs: beside the verdict, which speaks of it in general."""
        from unirms.diagnosis import warnings_of

        return warnings_of(self)

    def code(self) -> str:
        """Return a runnable snippet in the target's own words, with the lines that fill in the state where needed.

        It takes a variable `model`, as the target's framework has it.
        """
        from unirms.snippets import code

        return code(self)

    def explain(self) -> str:
        """Return in plain sentences what the target computes, what was asked for, and what to do about it."""
        from unirms.explanation import explain

        return explain(self)


@dataclass(frozen=True)
class Renamed:
    """One hyperparameter on both sides of a translation.

    A name is "" where a class has none for it; the value is then what it computes all the same.
    """

    field: str
    source_name: str
    source_value: object
    target_name: str
    target_value: object


@dataclass(frozen=True)
class Translation:
    """One framework's settings in the words of another.

    Attributes:
        source: the dialect of the settings.
        settings: every native argument of the source that concerns the update, defaults included.
        native: the same in the words of the target.
    """

    source: str
    settings: Mapping[str, Any]
    native: Native

    @property
    def config(self) -> RMSPropConfig:
        """What the settings mean."""
        return self.native.wanted

    @property
    def target(self) -> str:
        """The class or function to call."""
        return self.native.target

    @property
    def kwargs(self) -> dict[str, Any]:
        """Every hyperparameter of the target by its native name."""
        return self.native.kwargs

    @property
    def scheduler(self) -> NativeCall | None:
        """What moves the learning rate from beside the target; see `Native`."""
        return self.native.scheduler

    @property
    def groups(self) -> tuple[NativeGroup, ...]:
        """What single parameters are told; see `Native`."""
        return self.native.groups

    @property
    def fidelity(self) -> Fidelity:
        """The verdict: the weakest fidelity of all differences."""
        return self.native.fidelity

    @property
    def differences(self) -> tuple[Difference, ...]:
        """The axes on which the target computes something else."""
        return self.native.differences

    @property
    def warnings(self) -> tuple[Diagnosis, ...]:
        """What the target gets wrong on some devices or inputs, beside the verdict."""
        return self.native.warnings

    def renames(self) -> tuple[Renamed, ...]:
        """Return each hyperparameter that either side has a name for, in the order of the source's arguments."""
        return renames(self.native, self.source)

    def code(self) -> str:
        """Return a runnable snippet in the target's own words; see `Native.code`."""
        return self.native.code()

    def explain(self) -> str:
        """Return in plain sentences what changes, why, and what to do about it."""
        return self.native.explain()

    def effect(self, gradients: Array | None = None, *, scales: Sequence[float] | None = None) -> Effect:
        """Return how far both meanings part on a stream of gradients; see `unirms.effects.effect`."""
        from unirms.effects import effect

        return effect(self.native, gradients, scales=scales)


def translate(settings: Mapping[str, Any], *, source: str, target: str) -> Translation:
    """Return the native `settings` of one dialect in the words of another.

    Arguments that are left out take the source's own defaults.

    Raises:
        UnknownNameError: no such dialect.
        ConfigError: an argument that the source does not take, or a value outside the config's ranges.
    """
    spoken = dialects.get(source)
    config = spoken.read(settings)
    return Translation(spoken.name, spoken.write(config), to_native(config, target))


def to_native(config: RMSPropConfig, dialect: str) -> Native:
    """Return `config` in the words of `dialect`; see `RMSPropConfig.to_native`."""
    chosen = dialects.get(dialect)
    kwargs = chosen.write(config)
    scheduler = chosen.scheduler(config)
    meaning = chosen.read(kwargs, scheduler)
    if chosen.exempts:  # which parameters are decayed is said by grouping them, whatever the class does by itself
        meaning = meaning.replace(no_weight_decay=config.no_weight_decay)
    groups = native_groups.write(chosen, config)
    if config.groups:
        said = native_groups.meaning(chosen, config, kwargs, groups)
        meaning = meaning.replace(
            groups=said,
            clip=native_groups.clip(chosen, config, meaning, groups),
            weight_decay_mode=native_groups.decay_mode(chosen, meaning, kwargs, groups),
        )
    found = tuple(_with_remedy(difference, config, chosen) for difference in semantics.differences(config, meaning))
    return Native(chosen.name, chosen.target, kwargs, config, meaning, found, scheduler, groups)


def _with_remedy(difference: Difference, config: RMSPropConfig, dialect: Dialect) -> Difference:
    """Return a difference with a remedy for this class: where unirms builds no optimizer for it, or for its rate."""
    if difference.axis != "learning_rate" or config.has_constant_rate:
        remedy = difference.remedy.removesuffix(semantics.BUILD_EXACT).removesuffix(", or ")
        return difference if dialect.framework else replace(difference, remedy=remedy or semantics.BUILD_ELSEWHERE)
    if isinstance(config.learning_rate, Plateau):
        ways = ["unirms.build, whose unirms.lr_scheduler(optimizer) takes the metric"] * bool(dialect.framework)
        return replace(difference, remedy=f"use {', or '.join([*ways, 'a smaller rate once the metric stays'])}")
    classes = dialect.schedules or dialect.schedulers
    ways = ["unirms.build, which follows every schedule"] * bool(dialect.framework)
    ways += [classes.any_function if classes else "a function of your own"]
    return replace(difference, remedy=f"use {', or '.join(ways)}")


def renames(native: Native, source: str | None = None) -> tuple[Renamed, ...]:
    """Return each hyperparameter of `native` beside its name and value in the dialect `source`, or in the config.

    Raises:
        UnknownNameError: no such dialect.
    """
    left = _named(None if source is None else dialects.get(source), native.wanted)
    right = _named(dialects.get(native.dialect), native.meaning, native.kwargs)
    rows = []
    for config_field in RMSPropConfig.model_fields:
        if config_field in left or config_field in right:
            old = left.get(config_field, ("", getattr(native.wanted, config_field)))
            new = right.get(config_field, ("", getattr(native.meaning, config_field)))
            rows.append(Renamed(config_field, *old, *new))
    return tuple(rows)


def _named(
    dialect: Dialect | None, config: RMSPropConfig, kwargs: Mapping[str, Any] | None = None
) -> dict[str, tuple[str, object]]:
    """Return the name and value of each config field in a dialect; without one, in the config itself."""
    if dialect is None:
        return {
            config_field: (config_field, getattr(config, config_field)) for config_field in type(config).model_fields
        }
    found: dict[str, tuple[str, object]] = {}
    for name, value in (dialect.write(config) if kwargs is None else kwargs).items():
        for config_field in dialect.fields_of(name):
            # Three arguments of Keras carry one field, the clip: the one that is in use stands for them.
            if found.get(config_field, ("", None))[1] is None:
                found[config_field] = (name, value)
    return found
