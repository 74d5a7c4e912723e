"""What a dialect is: one implementation's names, defaults and fixed choices, as data.

A dialect is read by turning native keyword arguments into config fields, argument by argument, on top of the choices
that the class has made once and for all. It is written the other way round; what the result really means is then
read again, so that nothing has to be said twice.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Final

from unirms.config import RMSPropConfig
from unirms.dialects.behaviour import Behaviour
from unirms.dialects.snippet import Snippet
from unirms.errors import ConfigError, as_given


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
        positive: the class refuses 0, so the smallest positive float32 stands in for it.
        note: why the argument carries no field.
    """

    name: str
    fields: tuple[str, ...]
    default: Any
    read: Callable[[Any], Fields]
    write: Callable[[RMSPropConfig], Any] | None
    aliases: tuple[str, ...] = ()
    positive: bool = False
    note: str = ""


def carries(
    name: str, config_field: str, default: Any, *, aliases: tuple[str, ...] = (), positive: bool = False
) -> Argument:
    """Return an argument that is a config field under another name."""

    def write(config: RMSPropConfig) -> Any:
        # The class gets the first rate of a schedule, which has an object of its own in every framework.
        rate = config_field == "learning_rate"
        value = config.initial_learning_rate if rate else getattr(config, config_field)
        return SMALLEST if positive and value == 0 else value

    return Argument(name, (config_field,), default, lambda value: {config_field: value}, write, aliases, positive)


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

    return Argument(name, (), default, read, None, note=note)


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

    def read(self, kwargs: Mapping[str, Any]) -> RMSPropConfig:
        """Return the config that the class computes with these keyword arguments and its own defaults.

        Raises:
            ConfigError: a name that the class does not take, a missing required one, or a value that no config has.
        """
        given = self._by_native_name(kwargs)
        self._refuse_two_of_one_kind(given)
        fields: Fields = dict(self.fixed)
        for argument in self.arguments:
            value = given.get(argument.name, argument.default)
            if value is REQUIRED:
                raise ConfigError([f"{self.target} needs {argument.name}=…, which has no default"])
            if argument.positive and isinstance(value, Real) and value == 0:
                raise ConfigError([f"{self.target} refuses {argument.name}={as_given(value)}; it must be > 0"])
            fields |= argument.read(value)
        try:
            return RMSPropConfig(**self.settle(fields))
        except ConfigError as error:
            raise ConfigError([self._in_native_words(problem) for problem in error.problems]) from None

    def write(self, config: RMSPropConfig) -> dict[str, Any]:
        """Return every hyperparameter of the class by its native name, defaults included."""
        written = {a.name: a.write(config) for a in self.arguments if a.write is not None}
        for names in self.behaviour.exclusive:
            if sum(written[name] is not None for name in names) > 1:  # none of them: the class refuses two at once
                written |= dict.fromkeys(names)
        return written

    def _by_native_name(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        given: dict[str, Any] = {}
        problems: list[str] = []
        for name, value in kwargs.items():
            argument = self.argument(name)
            if argument is None:
                problems.append(
                    f"{name}={as_given(value)} is not an argument of {self.target}; {self._right_argument(name)}"
                )
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

    def _right_argument(self, name: str) -> str:
        from unirms.dialects import fields_called

        names = [a.name for a in self.arguments]
        wanted = [native for config_field in (name, *fields_called(name)) if (native := self.name_of(config_field))]
        if wanted:
            return "write " + " or ".join(dict.fromkeys(wanted))
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
        return f"did you mean {close[0]}?" if close else "it takes " + ", ".join(names)

    def _in_native_words(self, problem: str) -> str:
        config_field, equals, rest = problem.partition("=")
        native = self.name_of(config_field)
        if not equals or not native or native == config_field:
            return f"{self.target}: {problem}"
        return f"{self.target}: {native}={rest} ({native} is the config's {config_field})"
