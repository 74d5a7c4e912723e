"""A recipe beside what is known of its class: what every rule looks at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from numbers import Number
from typing import Any

from unirms.diagnosis.base import Diagnosis
from unirms.diagnosis.catalogue import found
from unirms.diagnosis.kinds import ANY
from unirms.dialects.base import Argument, Dialect
from unirms.dialects.behaviour import Behaviour, Kind
from unirms.recipes.base import Recipe


@dataclass(frozen=True)
class Subject:
    """A recipe whose class is known.

    Attributes:
        recipe: the recipe.
        dialect: what the class means.
        behaviour: what the class does with its arguments.
        target: the class as its framework spells it.
    """

    recipe: Recipe
    dialect: Dialect
    behaviour: Behaviour
    target: str

    def found(self, code: str, message: str, fix: str, setting: str = "") -> Diagnosis:
        """Return a diagnosis of a setting ("" is the class), with the line where it stands."""
        line = self.recipe.lines.get(setting, self.recipe.lines.get(""))
        return found(code, message, fix, setting=setting, line=line)

    def argument(self, name: str) -> Argument | None:
        """Return the argument that the class takes under a name; None where it takes none."""
        if name in self.behaviour.without or name in self.behaviour.announced or name in self.behaviour.ignored:
            return None
        return self.dialect.argument(name)

    @cached_property
    def given(self) -> dict[str, Any]:
        """The settings that are arguments of the class, by the name of the argument; of two the last wins."""
        known = ((self.argument(name), value) for name, value in self.recipe.settings.items())
        return {argument.name: value for argument, value in known if argument is not None}

    @property
    def is_complete(self) -> bool:
        """Whether every setting has a name of its own in the recipe."""
        return ANY not in self.recipe.settings

    def settings(self) -> Iterator[Setting]:
        """Yield every setting whose argument is known, those of the groups after those of the class."""
        for name, value in self.recipe.settings.items():
            argument = self.argument(name)
            if argument is not None:
                yield Setting(name, value, argument, name, in_group=False)
        for index in range(len(self.recipe.groups)):
            yield from self.settings_of_group(index)

    def settings_of_group(self, index: int) -> Iterator[Setting]:
        """Yield every setting of one group whose argument is known."""
        for name, value in self.recipe.groups[index].settings.items():
            argument = self.argument_of_group(name)
            if argument is not None:
                yield Setting(name, value, argument, f"groups[{index}].{name}", in_group=True)

    def refuses(self, setting: Setting, kind: Kind | None) -> bool:
        """Return whether the class refuses values of a type for a setting, in a group or elsewhere."""
        if kind is None:
            return False
        groups = self.behaviour.groups
        if not setting.in_group or groups is None:
            return self.behaviour.refuses(setting.argument.name, kind)
        checked = setting.argument.name not in groups.unchecked
        in_group = kind in groups.refused.get(setting.name, ())
        return in_group or (checked and self.behaviour.refuses(setting.argument.name, kind))

    def argument_of_group(self, name: str) -> Argument | None:
        """Return the argument that a key of a group stands for; None where the class reads no such key."""
        groups = self.behaviour.groups
        if groups is None:
            return None
        if groups.names is None:
            return self.argument(name)
        return self.dialect.argument(groups.names.get(name, "")) if name in groups.names else None


@dataclass(frozen=True)
class Setting:
    """One setting, in the class's arguments or in a group.

    Attributes:
        name: as written.
        value: as written.
        argument: the argument of the class that it stands for.
        place: under which name its line is known.
        in_group: whether it stands in a parameter group.
    """

    name: str
    value: Any
    argument: Argument
    place: str
    in_group: bool

    @property
    def field(self) -> str:
        """The config field that it carries, or ""; an epsilon's placement is not its value."""
        return self.argument.fields[0] if self.argument.fields else ""


def is_no_object(subject: Subject, setting: Setting) -> bool:
    """Return whether a setting is a number or text where the class takes an object of the framework."""
    return setting.argument.name in subject.behaviour.objects and isinstance(setting.value, (Number, str))


def named(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that have a name."""
    return {name: value for name, value in settings.items() if name != ANY}
