"""What `unirms parity --resume` runs, as data: a training that is left in one framework and goes on in another."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from .cases import Case
from .inputs import SCHEDULED
from .settings import DTYPES, KINDS, SETTINGS
from .spelling import NETWORK

LEFT_AT: Final = 20
STEPS: Final = 40

Way = Literal["live", "files"]
WAYS: Final[tuple[Way, ...]] = ("live", "files")


class Left(BaseModel):
    """What a framework has left behind at step `LEFT_AT`.

    Attributes:
        framework: which.
        setting: a key of `SETTINGS`.
        mode: the driver's.
        dtype: of the weights.
        state: the file of the state with the weights.
        checkpoint: what the framework has written itself; "" where it was not asked to.
        fresh: the same before the first step.
        straight: a file of the weights after `STEPS` steps without a break, in the network's own spelling.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    framework: str
    setting: str
    mode: str
    dtype: str
    state: str = ""
    checkpoint: str = ""
    fresh: str = ""
    straight: str = ""

    @property
    def label(self) -> str:
        """What it is called in messages."""
        return f"{self.framework}/{self.mode}/{self.dtype}, {self.setting}"


class Resumption(BaseModel):
    """A training that goes on somewhere.

    Attributes:
        source: where it was left.
        target: the framework where it goes on.
        mode: the mode there.
        way: how it gets there.
        path: the file of the state, or the target's own checkpoint.
        straight: the file of the target's own straight run in this mode.
        begun: whether the run that takes it over has made other steps before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Left
    target: str
    mode: str
    way: Way
    path: str
    straight: str
    begun: bool = False

    @property
    def label(self) -> str:
        """What it is called in messages."""
        of = self.source
        return f"{of.framework}/{of.mode} -> {self.target}/{self.mode}, {of.dtype}, {self.way}, {of.setting}"

    @property
    def same(self) -> bool:
        """Whether it comes back to where it was, so that no bit may differ."""
        at_home = (self.source.framework, self.source.mode) == (self.target, self.mode)
        return at_home and not SETTINGS[self.source.setting].after


@cache
def case(setting: str, dtype: str) -> Case:
    """Return the initial weights and the gradients of a setting, in the network's own spelling."""
    return Case(
        id=setting,
        config=SETTINGS[setting].config("").model_dump(mode="json"),
        mode="",
        dtype=dtype,
        sizes=tuple(NETWORK.values()),
        names=tuple(NETWORK),
        gradients="1",
        rates=SCHEDULED,
        seed=900 + list(SETTINGS).index(setting),
        steps=STEPS,
    )


def leavings(framework: str, modes: Mapping[str, Sequence[str]]) -> list[Left]:
    """Return what a framework with these modes and dtypes is to leave.

    All settings in float32 in every mode, but those that go in turn, and in float64 in one mode, in turn.
    """
    found = []
    for dtype in DTYPES:
        turns: Counter[str] = Counter()
        for name, setting in SETTINGS.items():
            if framework not in setting.frameworks or dtype not in setting.dtypes:
                continue
            able = [mode for mode, dtypes in modes.items() if dtype in dtypes]
            in_turn = setting.in_turn or dtype != DTYPES[0]
            chosen = [able[turns[setting.kind] % len(able)]] if able and in_turn else able
            found += [Left(framework=framework, setting=name, mode=mode, dtype=dtype) for mode in chosen]
            turns[setting.kind] += 1
    return found


@dataclass(frozen=True)
class Migration:
    """A checkpoint that is to become another framework's own.

    Attributes:
        source: what it is.
        fresh: what has left the file of the new model that is filled in.
    """

    source: Left
    fresh: Left

    @property
    def label(self) -> str:
        """What it is called in messages."""
        of, to = self.source, self.fresh
        return f"{of.framework}/{of.mode} -> {to.framework}/{to.mode}, {of.dtype}, files, {of.setting}"


def migrations(left: Sequence[Left]) -> list[Migration]:
    """Return migrations between every ordered pair, of each kind of setting that goes through files between the two.

    One for each pair and kind, and two exact ones where a framework's own file comes back to it, to the mode that wrote
    it. Settings and the modes of both sides come in turn, so that each side meets all of them; a framework may write
    other files in another mode, as Paddle does.
    """
    names = _frameworks(left)
    found = []
    for (here, target), (there, source) in itertools.product(enumerate(names), repeat=2):
        apart = (there - here) % len(names)
        for kind in KINDS:
            able = [name for name, one in SETTINGS.items() if one.kind == kind and one.through_files(source, target)]
            for turn in (apart,) if apart else (0, 1) if kind == "exact" else (here,):
                setting = able[turn % len(able)] if able else ""
                theirs, ours = _of(left, source, setting, DTYPES[0]), _of(left, target, setting, DTYPES[0])
                if theirs and ours:
                    of = theirs[turn % len(theirs)]
                    found.append(Migration(of, ours[(turn - 1) % len(ours)] if apart else of))
    return list(dict.fromkeys(found))


def live(left: Sequence[Left]) -> Iterator[Resumption]:
    """Yield, for every ordered pair, setting and dtype, resumptions in every mode in which both have left one.

    Those in one mode come one after the other: a new run takes over the first, and the same run, which has compiled
    what it compiles, each of the others. Which source is the first changes from setting to setting.
    """
    names = _frameworks(left)
    for target in names:
        for turn, setting in enumerate(SETTINGS):
            sources = [*names[turn % len(names) :], *names[: turn % len(names)]]
            for dtype in DTYPES:
                ours = _of(left, target, setting, dtype)
                theirs = {source: _of(left, source, setting, dtype) for source in sources}
                pairs = [pair for found in theirs.values() for pair in _pairs(found, ours, turn)]
                for here in ours:
                    for number, there in enumerate(there for there, one in pairs if one is here):
                        yield Resumption(
                            source=there,
                            target=target,
                            mode=here.mode,
                            way="live",
                            path=there.state,
                            straight=here.straight,
                            begun=number > 0,
                        )


def _pairs(theirs: Sequence[Left], ours: Sequence[Left], turn: int) -> list[tuple[Left, Left]]:
    """Return every mode of both sides in some pair; with itself, a framework has the same modes on the first turn."""
    if not theirs or not ours:
        return []
    return [(theirs[(i + turn) % len(theirs)], ours[i % len(ours)]) for i in range(max(len(theirs), len(ours)))]


def through_files(migrated: Mapping[Migration, str]) -> Iterator[Resumption]:
    """Yield a resumption for every migrated checkpoint."""
    for migration, path in migrated.items():
        of, here = migration.source, migration.fresh
        yield Resumption(
            source=of, target=here.framework, mode=here.mode, way="files", path=path, straight=here.straight
        )


def _frameworks(left: Sequence[Left]) -> list[str]:
    return list(dict.fromkeys(one.framework for one in left))


def _of(left: Sequence[Left], framework: str, setting: str, dtype: str) -> list[Left]:
    return [one for one in left if (one.framework, one.setting, one.dtype) == (framework, setting, dtype)]
