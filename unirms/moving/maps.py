"""`ParameterMap`: which parameter of one model is which of another, and how its axes are permuted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unirms.errors import StateError, as_given

Axes = tuple[int, ...]
Layout = str | Sequence[int]


@dataclass(frozen=True)
class Target:
    """Where a parameter goes.

    Attributes:
        name: its name there; None leaves it out on purpose.
        axes: as for `numpy.transpose`: axis i there is axis `axes[i]` here; None leaves them as they are, or leaves it
            to the shapes to tell, where they are looked at.
    """

    name: str | None
    axes: Axes | None = None


@dataclass(frozen=True)
class ParameterMap:
    """The names, and the permutations, of parameters on their way from one model to another.

    Weights and all slots of a parameter go the same way; where a file has them under different names, two entries may
    have one target. Made by `ParameterMap.of`, `ParameterMap.load` or `unirms.match`.
    """

    targets: Mapping[str, Target]

    @classmethod
    def of(
        cls,
        names: ParameterMap | Mapping[str, Any] | None,
        layout: Mapping[str, Layout] | None = None,
        *,
        known: Iterable[str] = (),
    ) -> ParameterMap:
        """Return the map that a user's names and layouts say.

        Args:
            names: source name -> target name, or None to leave it out, or a mapping with `to` and `axes`; a
                whole map; or nothing: the names are the same on both sides.
            layout: source name -> permutation: axes as for `numpy.transpose`, or letters as in "OIHW->HWIO".
            known: the source's names, for those of which `names` is silent because it is None.

        Raises:
            StateError: what is given is no map: all reasons.
        """
        problems: list[str] = []
        for what, mapping in (("names", names), ("layout", layout)):
            if not isinstance(mapping, (ParameterMap, Mapping, type(None))):
                raise StateError([f"{what}={as_given(mapping)} is no mapping; write {{source name: …}}"])
        if isinstance(names, ParameterMap):
            targets = dict(names.targets)
        else:
            entries = {name: name for name in known} if names is None else names
            targets = {str(name): _target(str(name), entry, problems) for name, entry in entries.items()}
        for name, given in (layout or {}).items():
            if name not in targets:
                problems.append(f"layout has {name!r}, which names has not")
                continue
            targets[name] = Target(targets[name].name, _axes(name, given, problems))
        if problems:
            raise StateError(problems)
        return cls(targets)

    @staticmethod
    def load(path: str | Path) -> ParameterMap:
        """Return the map in a YAML, JSON or TOML file of the form that `ParameterMap.save` writes.

        Raises:
            ConfigError: the file cannot be read.
            StateError: it is no map.
        """
        from unirms.documents import read

        data = read(path).data
        if not isinstance(data, Mapping):
            raise StateError([f"{path}: a map has an entry `source name: target name` for each parameter"])
        return ParameterMap.of(data)

    def save(self, path: str | Path) -> None:
        """Write the map to a YAML file: `source: target`, or `source: {to: target, axes: [1, 0]}`."""
        from unirms.files import replace_text, to_yaml

        replace_text(Path(path), to_yaml(self.as_data()))

    def as_data(self) -> dict[str, Any]:
        """Return the map as plain data, as it stands in a file."""
        return {
            name: target.name if target.axes is None else {"to": target.name, "axes": list(target.axes)}
            for name, target in self.targets.items()
        }

    def inverse(self) -> ParameterMap:
        """Return the way back, without what is left out."""
        return ParameterMap(
            {
                target.name: Target(name, None if target.axes is None else inverse(target.axes))
                for name, target in self.targets.items()
                if target.name is not None
            }
        )


def inverse(axes: Axes) -> Axes:
    """Return the permutation that undoes one."""
    return tuple(axes.index(axis) for axis in range(len(axes)))


def _target(name: str, entry: Any, problems: list[str]) -> Target:
    if entry is None or isinstance(entry, str):
        return Target(entry)
    if isinstance(entry, Target):
        return entry
    if isinstance(entry, Mapping) and set(entry) <= {"to", "axes"} and isinstance(entry.get("to"), str):
        given = entry.get("axes")
        return Target(entry["to"], None if given is None else _axes(name, given, problems))
    problems.append(
        f"{name!r}: {as_given(entry)} is no target; write a name, null to leave the parameter out, or to: and axes:"
    )
    return Target(None)


def _axes(name: str, given: Any, problems: list[str]) -> Axes | None:
    """Return a permutation from axes or from letters."""
    axes: tuple[Any, ...] = ()
    if isinstance(given, str):
        before, arrow, after = given.replace(" ", "").partition("->")
        if arrow and sorted(before) == sorted(after) and len(set(before)) == len(before):
            axes = tuple(before.index(letter) for letter in after)
    elif isinstance(given, (Sequence, np.ndarray)):
        axes = tuple(int(axis) if isinstance(axis, np.integer) else axis for axis in given)
    plain = all(isinstance(axis, int) and not isinstance(axis, bool) for axis in axes)
    if not axes or not plain or sorted(axes) != list(range(len(axes))):
        problems.append(
            f"layout of {name!r}: {as_given(given)} is no permutation; write axes as (1, 0), or letters as OIHW->HWIO"
        )
        return None
    return axes
