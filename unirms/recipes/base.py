"""What every reader of recipes returns: a class, by the name that the recipe gives it, and its settings as written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from unirms import dialects
from unirms.config import ParameterGroup, RMSPropConfig
from unirms.dialects import groups
from unirms.dialects.base import Dialect
from unirms.dialects.calls import NativeCall
from unirms.documents import Document, KeyPath, shown
from unirms.errors import ConfigError, as_given
from unirms.names import REGEX_PREFIX

if TYPE_CHECKING:
    from unirms.translation import Native


@dataclass(frozen=True)
class Group:
    """Settings of some parameters, by the parameters' names.

    Attributes:
        params: the names; empty where the recipe does not say them.
        settings: by the keys of the class's groups, as written.
    """

    params: tuple[str, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """One optimizer as a file states it, before anything has been checked.

    Attributes:
        format: the name of the format, as "hydra".
        target: the class as the recipe writes it, as "torch.optim.RMSprop"; letter case may be wrong.
        settings: the native arguments as written, names and types unchecked. Where the tool that reads the format
            passes defaults of its own, they are here, too.
        groups: further settings for some of the parameters, where the format has them.
        no_weight_decay: name patterns of the parameters that the tool exempts from weight decay by itself; None
            leaves it to the class.
        place: where in the file it stands, as "model.optimizer"; "" is the file itself.
        lines: the line of a setting in the file, counted from 1, where it is known; "" is the line of the class.
        surprises: settings that a YAML 1.1 reader such as PyYAML reads as something else: as here, as there.
        remarks: what the tool does with the recipe that a reader of it would not expect, a sentence each.
    """

    format: str
    target: str
    settings: Mapping[str, Any]
    groups: tuple[Group, ...] = ()
    no_weight_decay: tuple[str, ...] | None = None
    place: str = ""
    lines: Mapping[str, int] = field(default_factory=dict)
    surprises: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def dialect(self) -> Dialect:
        """The dialect of the class.

        Raises:
            UnknownNameError: no class that unirms knows.
        """
        return dialects.of_target(self.target)

    def config(self) -> RMSPropConfig:
        """Return what the recipe means.

        Raises:
            UnknownNameError: no class that unirms knows.
            ConfigError: settings that the class does not take, or that no config can say.
        """
        self._refuse_schedules()
        settings = self.dialect.with_defaults(self.target, self.settings)
        config = self.dialect.read(settings)
        if self.no_weight_decay is not None:
            config = config.replace(no_weight_decay=self.no_weight_decay if config.weight_decay else ())
        for group in self.groups:
            config = _with_group(config, group, *groups.read(self.dialect, settings, group.settings))
        return config

    def _refuse_schedules(self) -> None:
        for name, value in self.settings.items():
            if "learning_rate" not in self.dialect.fields_of(name) or not isinstance(value, (NativeCall, Mapping)):
                continue
            if isinstance(value, Mapping) or self.dialect.schedules is None:
                raise ConfigError(
                    [
                        f"{name}={as_given(value)} is a learning-rate schedule that unirms does not read from this "
                        f"format; state it as learning_rate: {{kind: …}} in a config of unirms"
                    ]
                )


@dataclass(frozen=True)
class Format:
    """One way in which recipes are written down.

    Attributes:
        name: what unirms calls it.
        title: what it is, in a few words.
        recognises: whether a document is of this format.
        read: the recipes in a document; it never imports or runs what the document names.
        write: text that says what a native call says, or None where unirms does not write the format.
        commands: whether it may be a command line.
        groups: whether it is written with parameter groups.
        dialects: the dialects that it can be written in; empty for all.
    """

    name: str
    title: str
    recognises: Callable[[Document], bool]
    read: Callable[[Document], tuple[Recipe, ...]]
    write: Callable[[Native], str] | None = None
    commands: bool = False
    groups: bool = False
    dialects: tuple[str, ...] = ()


def mappings(data: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
    """Yield every mapping inside plain data with its path, outer ones first."""
    if isinstance(data, Mapping):
        yield path, data
        for key, value in data.items():
            yield from mappings(value, (*path, key))
    elif isinstance(data, (list, tuple)):
        for index, item in enumerate(data):
            yield from mappings(item, (*path, index))


def located(document: Document, places: Mapping[str, KeyPath]) -> dict[str, int]:
    """Return the line of each place that has one, by the name given to it: what `Recipe.lines` takes."""
    return {name: document.lines[path] for name, path in places.items() if path in document.lines}


def surprising(
    document: Document, places: Mapping[str, KeyPath], *, numbers: bool = True
) -> dict[str, tuple[Any, Any]]:
    """Return what a YAML 1.1 reader sees differently in these places, by the name given to each.

    `numbers` is False for the tools that read `1e-8` as a number although PyYAML does not.
    """
    found = {name: document.surprises[path] for name, path in places.items() if path in document.surprises}
    return {name: pair for name, pair in found.items() if numbers or not isinstance(pair[0], float)}


def recipe_at(
    document: Document,
    path: KeyPath,
    format: str,
    target: str,
    settings: Mapping[str, Any],
    *,
    named: str,
    inside: KeyPath = (),
    numbers: bool = True,
) -> Recipe:
    """Return the recipe of a mapping in a document, under whose key `named` the class stands.

    `inside` is the path within the mapping to the settings; for `numbers` see `surprising`.
    """
    places: dict[str, KeyPath] = {"": (*path, named), **{name: (*path, *inside, name) for name in settings}}
    return Recipe(
        format,
        target,
        settings,
        place=shown(path),
        lines=located(document, places),
        surprises=surprising(document, places, numbers=numbers),
    )


def given(value: Any) -> bool:
    """Return whether a value of plain data says something: None, False, 0 and what is empty do not."""
    return value is not None and value not in (0, "", [], (), {})


def names_rmsprop(path: Any) -> bool:
    """Return whether an import path ends in the name of some RMSProp, spelt in any case."""
    return isinstance(path, str) and "rmsprop" in path.strip().rpartition(".")[2].lower()


def names_its_class(mapping: Mapping[str, Any]) -> bool:
    """Return whether a mapping says what it is the arguments of, as Hydra's and LightningCLI's do."""
    return "_target_" in mapping or "class_path" in mapping


def _with_group(config: RMSPropConfig, group: Group, meaning: RMSPropConfig, factor: float | None) -> RMSPropConfig:
    """Return the config with a group whose parameters follow `meaning`, at `factor` times its rate if that is given."""
    changed = {
        name: getattr(meaning, name)
        for name in RMSPropConfig.model_fields
        if name not in {"groups", "no_weight_decay"} and getattr(meaning, name) != getattr(config, name)
    }
    changed |= {} if factor in (None, 1) else {"learning_rate_factor": factor}
    patterns = tuple(exactly(name) for name in group.params)
    if not changed:
        return config
    if not patterns:
        raise ConfigError([f"a group has its own {' and '.join(changed)} and does not say which parameters it holds"])
    if changed == {"weight_decay": 0.0}:
        return config.replace(no_weight_decay=(*config.no_weight_decay, *patterns))
    beyond = [name for name in changed if name not in ParameterGroup.model_fields]
    if beyond:
        names = " and ".join(beyond)
        raise ConfigError([f"the group of {some(group.params)} has its own {names}, which must be the same for all"])
    return config.replace(groups=(*config.groups, {"match": patterns, **changed}))


def some(names: tuple[str, ...]) -> str:
    """Return the names of parameters for a message: the first three of many."""
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:3])}, … ({len(names)} names)"


def exactly(name: str) -> str:
    """Return the name pattern that matches one name and no other."""
    escaped = re.sub(r"([*?[])", r"[\1]", name)
    return f"[r]{escaped[1:]}" if escaped.startswith(REGEX_PREFIX) else escaped
