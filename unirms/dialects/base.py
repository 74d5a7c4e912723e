"""What a dialect is: one implementation's names, defaults and fixed choices, as data.

A dialect is read by turning native keyword arguments into config fields, argument by argument, on top of the choices
that the class has made once and for all. It is written the other way round; what the result really means is then
read again, so that nothing has to be said twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Final

from unirms.config import RMSPropConfig
from unirms.dialects.behaviour import Behaviour
from unirms.dialects.calls import NativeCall
from unirms.dialects.schedules.base import ScheduleClasses, Schedulers
from unirms.dialects.snippet import Snippet
from unirms.errors import ConfigError, as_given, did_you_mean
from unirms.schedules import AnySchedule, Plateau, Sampled


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED: Final = _Required()
SMALLEST: Final = 1.1754944e-38
"""float32's smallest normal number, for the classes that refuse 0: they compute in float32."""
Fields = dict[str, Any]


@dataclass(frozen=True)
class Argument:
    """One argument of a native constructor.

    Attributes:
        name: the native name.
        fields: the config fields that it carries; empty when it does not concern the update.
        default: the class's own default, or REQUIRED.
        read: native value -> config fields.
        write: config -> native value; None when the argument is never written.
        aliases: other names that the real class accepts for it (or is announced to accept).
        note: why the argument carries no field.
        refused: whether every value but the neutral ones is refused, for what `note` says.
    """

    name: str
    fields: tuple[str, ...]
    default: Any
    read: Callable[[Any], Fields]
    write: Callable[[RMSPropConfig], Any] | None
    aliases: tuple[str, ...] = ()
    note: str = ""
    refused: bool = False

    @property
    def becomes(self) -> str:
        """What becomes of it: "mapped to" fields, "not about the update:" or "refused:" and the reason."""
        if self.fields:
            return f"mapped to {', '.join(self.fields)}"
        return f"{'refused' if self.refused else 'not about the update'}: {self.note}"


def carries(name: str, config_field: str, default: Any, *, aliases: tuple[str, ...] = ()) -> Argument:
    """Return an argument that is a config field under another name."""

    def write(config: RMSPropConfig) -> Any:
        # A schedule has an object of its own in every framework, which `Dialect.write` puts here where there is one.
        rate = config_field == "learning_rate"
        return config.initial_learning_rate if rate else getattr(config, config_field)

    return Argument(name, (config_field,), default, lambda value: {config_field: value}, write, aliases)


def converts(
    name: str,
    fields: tuple[str, ...],
    default: Any,
    read: Callable[[Any], Fields],
    write: Callable[[RMSPropConfig], Any],
) -> Argument:
    """Return an argument whose values have another form than the config's."""
    return Argument(name, fields, default, read, write)


def apart(name: str, default: Any, note: str) -> Argument:
    """Return an argument that does not concern the update: any value is accepted and none is written."""
    return Argument(name, (), default, lambda value: {}, None, note=note)


def refuses(name: str, default: Any, note: str, neutral: tuple[Any, ...] = ()) -> Argument:
    """Return an argument that changes the update in a way no config can say: only neutral values are accepted."""
    accepted = (default, *neutral)

    def read(value: Any) -> Fields:
        if not any(value is one or (type(value) is type(one) and value == one) for one in accepted):
            raise ConfigError([f"{name}={as_given(value)} cannot be read: {note}; leave it at {default!r}"])
        return {}

    return Argument(name, (), default, read, None, note=note, refused=True)


def optional_float(name: str, config_field: str, default: Any = None) -> Argument:
    """Return an argument for which None and 0 both mean "none"."""
    return converts(
        name,
        (config_field,),
        default,
        lambda value: {config_field: 0.0 if value is None else value},
        lambda config: getattr(config, config_field) or None,
    )


@dataclass(frozen=True)
class Dialect:
    """One implementation's names, defaults and fixed choices.

    Attributes:
        name: what unirms calls it.
        target: the class or function that it stands for, as one writes it.
        package: the distribution to install for it.
        framework: the adapter that builds it, or "" where there is none.
        docs: its documentation page.
        arguments: all arguments of the constructor, in its order.
        fixed: config fields that the class has decided once and for all.
        snippet: how a script makes the optimizer.
        settle: last word on the fields, for choices that depend on other arguments.
        schedules: the schedules that the class takes in the place of its learning rate.
        schedulers: the schedulers that move the learning rate from outside.
        aliases: other names under which a user may ask for it.
        exempts: whether single parameters can be left out of the weight decay (groups or a filter).
        rounds: config fields that the class passes through float32 even where the weights are float64.
        spellings: other import paths of the same class.
        behaviour: what it takes, refuses and gets wrong.
        variants: spellings whose class means the same and behaves otherwise.
        remarks: what a user should know and no field can say.
    """

    name: str
    target: str
    package: str
    docs: str
    arguments: tuple[Argument, ...]
    fixed: Mapping[str, Any]
    snippet: Snippet
    framework: str = ""
    settle: Callable[[Fields], Fields] = field(default=lambda fields: fields)
    schedules: ScheduleClasses | None = None
    schedulers: Schedulers | None = None
    aliases: tuple[str, ...] = ()
    exempts: bool = False
    rounds: tuple[str, ...] = ()
    spellings: tuple[str, ...] = ()
    behaviour: Behaviour = field(default_factory=Behaviour)
    variants: Mapping[str, Behaviour] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def behaviour_of(self, path: str) -> Behaviour:
        """Return what the class at an import path does; letter case does not matter."""
        wanted = path.strip().lower()
        return next((found for known, found in self.variants.items() if known.lower() == wanted), self.behaviour)

    def with_defaults(self, path: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings for the class at an import path with the defaults that it alone has."""
        own = self.behaviour_of(path).defaults
        said = {argument.name for name in settings if (argument := self.argument(name)) is not None}
        return {**{name: value for name, value in own.items() if name not in said}, **settings}

    @property
    def group_keys(self) -> dict[str, str]:
        """The keys of its parameter groups that say config fields, each with the argument that it stands for."""
        groups = self.behaviour.groups
        if groups is None:
            return {}
        names = {a.name: a.name for a in self.arguments} if groups.names is None else groups.names
        return {key: name for key, name in names.items() if self.fields_of(name)}

    def argument(self, name: str) -> Argument | None:
        """Return the argument of that name or alias, or None."""
        return next((a for a in self.arguments if name == a.name or name in a.aliases), None)

    def fields_of(self, name: str) -> tuple[str, ...]:
        """Return the config fields that an argument carries; empty where there is no such argument."""
        argument = self.argument(name)
        return argument.fields if argument else ()

    def name_of(self, config_field: str) -> str:
        """Return the native name of a config field, or "" if the class has none."""
        return next((a.name for a in self.arguments if config_field in a.fields), "")

    def read(self, kwargs: Mapping[str, Any], scheduler: NativeCall | None = None) -> RMSPropConfig:
        """Return the config that the class computes with these keyword arguments and its own defaults.

        Args:
            kwargs: the arguments; a learning rate may be a call of the framework's own schedule.
            scheduler: what moves the learning rate from outside, in the frameworks that have such schedulers.

        Raises:
            ConfigError: a name that the class does not take, a missing required one, or a value that no config has.
        """
        given = self._by_native_name(kwargs)
        self._refuse_two_of_one_kind(given)
        fields: Fields = dict(self.fixed)
        for argument in self.arguments:
            value = given.get(argument.name, argument.default)
            if value is REQUIRED and argument.fields:  # the parameters are no part of a config
                raise ConfigError([f"{self.target} needs {argument.name}=…, which has no default"])
            if isinstance(value, Real) and value == 0 and self.behaviour.refuses(argument.name, "zero"):
                raise ConfigError([f"{self.target} refuses {argument.name}={as_given(value)}; it must be > 0"])
            if isinstance(value, NativeCall) and "learning_rate" in argument.fields:
                value = self._schedule(argument.name, value)
            fields |= argument.read(value)
        if scheduler is not None:
            fields["learning_rate"] = self._driven(fields["learning_rate"], scheduler)
        try:
            return RMSPropConfig(**self.settle(fields))
        except ConfigError as error:
            raise ConfigError([self._in_native_words(problem) for problem in error.problems]) from None

    def write(self, config: RMSPropConfig) -> dict[str, Any]:
        """Return every hyperparameter of the class by its native name, defaults included.

        Where the class refuses 0, the smallest normal float32 stands in for it.
        """
        written = {a.name: a.write(config) for a in self.arguments if a.write is not None}
        written |= self._scheduled(config)[0]
        for name, value in written.items():
            if value == 0 and self.behaviour.refuses(name, "zero"):
                written[name] = SMALLEST
        for names in self.behaviour.exclusive:
            if sum(written[name] is not None for name in names) > 1:  # none of them: the class refuses two at once
                written |= dict.fromkeys(names)
        return written

    def scheduler(self, config: RMSPropConfig) -> NativeCall | None:
        """Return the scheduler that moves the written learning rate as the config says; None where none is needed.

        It is None as well where the framework has none for the config's schedule.
        """
        return self._scheduled(config)[1]

    def _scheduled(self, config: RMSPropConfig) -> tuple[Fields, NativeCall | None]:
        """Return the learning rate by its native name where it is not the first of the config, and the scheduler."""
        schedule = config.learning_rate
        if not isinstance(schedule, AnySchedule) or schedule.is_constant:
            return {}, None
        name = self.name_of("learning_rate")
        if self.schedules is not None and not (isinstance(schedule, Plateau) and self.schedulers is not None):
            asked = self._as_asked(schedule, config.gradient_accumulation_steps)
            call = None if asked is None else self.schedules.write(asked)
            return ({} if call is None else {name: call}), None
        driven = self.schedulers.write(schedule) if self.schedulers is not None else None
        return ({}, None) if driven is None else ({name: driven[0]}, driven[1])

    def _as_asked(self, schedule: AnySchedule, steps: int) -> AnySchedule | None:
        """Return the schedule that the class has to be given, where it counts gradients instead of updates."""
        counts = self.schedules is not None and self.schedules.counts_gradients
        if steps == 1 or not counts or not self.name_of("gradient_accumulation_steps"):
            return schedule
        return schedule.asked_per_gradient(steps) if isinstance(schedule, Sampled) else None

    def _schedule(self, name: str, call: NativeCall) -> AnySchedule:
        if self.schedules is None:
            raise ConfigError(
                [
                    f"{name}={as_given(call)} is a learning-rate schedule that unirms does not read for {self.target}; "
                    "state it as learning_rate: {kind: …} in a config of unirms"
                ]
            )
        return self.schedules.read(call)

    def _driven(self, rate: Any, scheduler: NativeCall) -> AnySchedule:
        if self.schedulers is None:
            raise ConfigError([f"{self.target} has no scheduler beside it (given {as_given(scheduler)})"])
        return self.schedulers.read(RMSPropConfig(learning_rate=rate).initial_learning_rate, scheduler)

    def _by_native_name(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        given: dict[str, Any] = {}
        problems: list[str] = []
        for name, value in kwargs.items():
            argument = self.argument(name)
            if argument is None:
                problems.append(self._not_taken(name, value))
            elif getattr(value, "shape", ()) != ():
                problems.append(f"{name}= is an array; {self.target} takes one value for all parameters")
            elif argument.name in given:
                problems.append(f"{self.target} got {argument.name} twice (once as {name})")
            else:
                given[argument.name] = value
        if problems:
            raise ConfigError(problems)
        return given

    def _refuse_two_of_one_kind(self, given: Mapping[str, Any]) -> None:
        for names in self.behaviour.exclusive:
            both = [name for name in names if given.get(name) is not None]
            if len(both) > 1:
                raise ConfigError([f"{self.target} takes {' or '.join(names)}, not {' and '.join(both)} at once"])

    def _not_taken(self, name: str, value: Any) -> str:
        if name in self.behaviour.ignored:
            instead, fix = self.behaviour.ignored[name]
            return f"{self.target} takes {name}={as_given(value)} and ignores it: {instead}; {fix}"
        return f"{name}={as_given(value)} is not an argument of {self.target}; {self._right_argument(name)}"

    def _right_argument(self, name: str) -> str:
        from unirms.dialects import fields_called

        names = [a.name for a in self.arguments]
        wanted = [native for config_field in (name, *fields_called(name)) if (native := self.name_of(config_field))]
        if wanted:
            return "write " + " or ".join(dict.fromkeys(wanted))
        return did_you_mean(name, names, "it takes")

    def _in_native_words(self, problem: str) -> str:
        config_field, equals, rest = problem.partition("=")
        native = self.name_of(config_field)
        if not equals or not native or native == config_field:
            return f"{self.target}: {problem}"
        return f"{self.target}: {native}={rest} ({native} is the config's {config_field})"
