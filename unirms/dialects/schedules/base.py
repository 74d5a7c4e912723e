"""How a framework's own classes say learning-rate schedules, as data: a row for each class and kind of schedule.

The rows of a framework serve both ways: `write` gives a call of the class as a `NativeCall`, `read` gives the schedule
that such a call computes. The adapters make and read live objects by the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from unirms.dialects.calls import NativeCall
from unirms.errors import ConfigError, as_given
from unirms.schedules import AnySchedule, BaseSchedule, Plateau
from unirms.schedules.forms import canonical, forms

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class ScheduleClass:
    """One class (or function) of a framework and one kind of schedule that it computes.

    Attributes:
        name: the class, without its module.
        kind: the kind of schedule.
        arguments: the arguments that say the schedule, in the order of the constructor.
        read: all these arguments -> the schedule; it may raise pydantic's ValidationError.
        write: the schedule -> the arguments to give; None where the class refuses it, or has no word for a field.
        defaults: argument -> the class's own default.
        fixed: further arguments, which must have these values.
        ignored: further arguments, which say nothing of the rate.
        order: all arguments in the order of the constructor, where that is not these three one after the other.
        precise: whether the class, in float32, computes this schedule at every update as well as float32 can.
        recursive: it computes each rate from the one before, so that it gathers rounding errors and resumes only where
            count and rate are restored together.
    """

    name: str
    kind: type[BaseSchedule] | type[Plateau]
    arguments: tuple[str, ...]
    read: Callable[[Arguments], AnySchedule]
    write: Callable[[Any], dict[str, Any] | None]
    defaults: Arguments = field(default_factory=dict)
    fixed: Arguments = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    precise: Callable[[Any], bool] = lambda schedule: True
    recursive: bool = False

    def bound(self, call: NativeCall) -> dict[str, Any]:
        """Return the arguments of a call by name, defaults included.

        Raises:
            ConfigError: one that the class does not take, that is missing, or that no schedule can say.
        """
        order = self.order or (*self.arguments, *self.fixed, *self.ignored)
        given = dict(zip(order, call.args, strict=False)) | call.kwargs
        if len(call.args) > len(order) or not given.keys() <= {*order}:
            raise ConfigError([f"{as_given(call)} cannot be read: {self.name} takes {', '.join(self.arguments)}"])
        moved = [name for name, value in self.fixed.items() if name in given and given[name] != value]
        if moved:
            stays = f"{moved[0]}={self.fixed[moved[0]]!r}"
            raise ConfigError([f"{as_given(call)} cannot be read: unirms reads {self.name} with {stays} only"])
        values = {**self.defaults, **given}
        missing = [name for name in self.arguments if name not in values]
        if missing:
            raise ConfigError([f"{as_given(call)} needs {missing[0]}=…"])
        return {name: values[name] for name in self.arguments}

    def schedule(self, call: NativeCall) -> AnySchedule:
        """Return what a call computes.

        Raises:
            ConfigError: arguments that the class does not take, or that no schedule has.
        """
        values = self.bound(call)
        try:
            return self.read(values)
        except ConfigError as error:
            problems = str(error)
        except TypeError as error:  # text where the row computes with a number
            problems = str(error)
        raise ConfigError([f"{as_given(call)} is no schedule: {problems}"])


@dataclass(frozen=True)
class ScheduleClasses:
    """The classes of one framework.

    Attributes:
        modules: where the classes live: as calls are written, then other paths of the same classes.
        rows: the classes, one row for each kind of schedule that a class computes.
        any_function: what the framework has for a function of the user's own, as the end of "or …".
        first: what stands before the other arguments, by position.
        counts_gradients: where the optimizer accumulates gradients, it asks its schedule after each of them.
    """

    modules: tuple[str, ...]
    rows: tuple[ScheduleClass, ...]
    any_function: str
    first: tuple[Any, ...] = ()
    counts_gradients: bool = False

    def own(self, schedule: BaseSchedule) -> tuple[ScheduleClass, dict[str, Any]] | None:
        """Return the row of exactly this kind of schedule, and the arguments; None where no class says it."""
        return next(((row, given) for row, given, found in self._tried(schedule) if found == schedule), None)

    def write(self, schedule: AnySchedule) -> NativeCall | None:
        """Return the call that computes a schedule, under whatever name the framework has for it; None if it has none.

        `read` returns the schedule, or one of another kind that is the same function.
        """
        shared = canonical(schedule)
        for form in forms(schedule):
            for row, arguments, found in self._tried(form):
                if canonical(found) == shared:
                    return NativeCall(f"{self.modules[0]}.{row.name}", *self.first, **arguments)
        return None

    def read(self, call: NativeCall) -> AnySchedule:
        """Return the schedule that a call computes; its class may stand without a module.

        Raises:
            ConfigError: no class of these, or arguments that no schedule has.
        """
        module, _, name = call.name.rpartition(".")
        rows = [row for row in self.rows if row.name == name and module in ("", *self.modules)]
        if not rows:
            known = ", ".join(dict.fromkeys(row.name for row in self.rows))
            raise ConfigError([f"{as_given(call)} is not a schedule that unirms can read; it reads {known}"])
        given = call.args[len(self.first) :] if call.args[: len(self.first)] == self.first else call.args
        return rows[0].schedule(NativeCall(call.name, *given, **call.kwargs))

    def _tried(self, schedule: AnySchedule) -> Iterator[tuple[ScheduleClass, dict[str, Any], AnySchedule]]:
        """Yield each row of this kind, its arguments, and what they say: a quotient in them may have been rounded."""
        for row in self.rows:
            arguments = row.write(schedule) if type(schedule) is row.kind else None
            if arguments is not None:
                with suppress(ConfigError):
                    yield row, arguments, row.schedule(NativeCall(row.name, **arguments))


@dataclass(frozen=True)
class Schedulers:
    """The classes of a framework whose schedulers stand beside the optimizer and move the rate that it was given.

    Attributes:
        beside: the rate of an optimizer -> the classes, as they compute beside it.
        absolute: arguments that are rates themselves, the same for all parameter groups; all else that a scheduler
            does is relative to the rate from which each group begins.
    """

    beside: Callable[[float], ScheduleClasses]
    absolute: tuple[str, ...] = ()

    @property
    def any_function(self) -> str:
        """What the framework has for a function of the user's own, as the end of "or …"."""
        return self.beside(1.0).any_function

    def write(self, schedule: AnySchedule) -> tuple[float, NativeCall] | None:
        """Return the rate for the optimizer and the scheduler that moves it so; None if the framework has none."""
        for rate in sorted(set(_rates(schedule)), reverse=True):
            call = self.beside(rate).write(schedule)
            if call is not None:
                return rate, call
        return None

    def is_relative(self, call: NativeCall) -> bool:
        """Return whether a scheduler changes the rates of all groups by the same factors, wherever they begin."""
        parts = [part for value in call.kwargs.values() if isinstance(value, list) for part in value]
        calls = [part for part in parts if isinstance(part, NativeCall)]
        return not any(call.kwargs.get(name) for name in self.absolute) and all(map(self.is_relative, calls))

    def read(self, rate: float, call: NativeCall) -> AnySchedule:
        """Return the schedule of a scheduler beside an optimizer with this rate.

        Raises:
            ConfigError: no class of these, or arguments that no schedule has.
        """
        return self.beside(rate).read(call)


def _rates(schedule: Any) -> Iterator[float]:
    """Yield the rates > 0 in a schedule, from one of which a scheduler may begin."""
    for name in schedule.RATES:
        value = getattr(schedule, name)
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, BaseSchedule):
                yield from _rates(one)
            elif one:
                yield one


def whole(number: float) -> int | float:
    """Return a number of updates as an int where it is one: most classes want it so, and it reads better."""
    return int(number) if number == int(number) else number


def renamed(
    name: str,
    kind: type[BaseSchedule] | type[Plateau],
    words: Mapping[str, str],
    *,
    when: Callable[[Any], bool] = lambda schedule: True,
    says: Arguments | None = None,
    **more: Any,
) -> ScheduleClass:
    """Return the row of a class whose arguments are fields of the schedule under other names.

    Args:
        name: the class.
        kind: the kind of schedule.
        words: field -> argument, in the order of the constructor.
        when: for which schedules the class takes these values.
        says: fields that the class has fixed, with the values that it has.
        more: further attributes of the row.
    """
    fixed = dict(says or {})

    def read(arguments: Arguments) -> AnySchedule:
        return kind(**{config_field: arguments[word] for config_field, word in words.items()}, **fixed)

    def write(schedule: Any) -> dict[str, Any] | None:
        if not when(schedule) or any(getattr(schedule, config_field) != value for config_field, value in fixed.items()):
            return None
        return {
            word: as_argument(getattr(schedule, config_field), config_field) for config_field, word in words.items()
        }

    return ScheduleClass(name, kind, tuple(words.values()), read, write, **more)


def as_argument(value: Any, config_field: str) -> Any:
    """Return the value of a field as code has it: lists instead of tuples, whole numbers of updates."""
    if isinstance(value, tuple):
        return list(value)
    counts = config_field in {"decay_steps", "first_period", "period_factor"}
    return whole(value) if counts else value
