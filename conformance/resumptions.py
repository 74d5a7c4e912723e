"""What `unirms parity --resume` runs, as data: a training that is left in one framework and goes on in another."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from unirms.config import RMSPropConfig

from .cases import Case
from .inputs import SCHEDULED
from .spelling import NETWORK, patterns, spelling

LEFT_AT: Final = 20
STEPS: Final = 40
DTYPES: Final = ("float32", "float64")
"""What is carried live; through files goes the first."""

Way = Literal["live", "files"]
WAYS: Final[tuple[Way, ...]] = ("live", "files")


@dataclass(frozen=True)
class Setting:
    """An optimizer that is carried from one framework to another.

    Attributes:
        fields: of its config, with the network's own names as patterns.
        after: fields that are others where it goes on.
        files: whether it is carried through files too.
    """

    fields: Mapping[str, Any]
    after: Mapping[str, Any] = field(default_factory=dict)
    files: bool = True

    def config(self, framework: str, *, goes_on: bool = False) -> RMSPropConfig:
        """Return the config for the names of a framework; `goes_on`: for the second half."""
        fields = {**self.fields, **(self.after if goes_on else {})}
        return RMSPropConfig(**patterns(fields, spelling(framework)))


_GROUPS: Final = (
    {"match": ["bias"], "learning_rate_factor": 2.0, "clip": [{"by": "norm", "max_norm": 2.0}]},
    {"match": ["mix"], "rho": 0.95, "momentum": 0.5},
    {"match": ["scale"], "momentum": 0.0, "centered": False},  # keeps fewer slots than the others
)
_COMMON: Final = {
    "learning_rate": {"kind": "exponential", "initial_learning_rate": 0.003, "decay_rate": 0.93},
    "epsilon": 1e-2,
    "momentum": 0.9,
    "centered": True,
    "groups": _GROUPS,
    "clip": [{"by": "global_norm", "max_norm": 30.0}],
}
# A rate that rests from the half on: there, a buffer with the rate inside computes what one without it does, times
# that rate, and 40 straight steps of either are those of a run that changes from one to the other.
_RESTING: Final = {
    **_COMMON,
    "learning_rate": {"kind": "piecewise", "boundaries": [8, 16], "learning_rates": [0.002, 0.004, 0.001]},
}
SETTINGS: Final[Mapping[str, Setting]] = {
    "rate outside, epsilon outside": Setting(
        {**_COMMON, "lr_in_momentum": False, "epsilon_placement": "outside_sqrt", "weight_decay": 2.0**-6}
    ),
    "rate inside, epsilon inside": Setting(
        {
            **_COMMON,
            "lr_in_momentum": True,
            "epsilon_placement": "inside_sqrt",
            "nesterov": True,
            "initial_mean_square": 1.0,
            "bias_correction": True,
            "weight_decay": 0.3,
            "weight_decay_mode": "decoupled",
            "no_weight_decay": ("bias", "scale"),
            "ema_decay": 0.9,
            "gradient_accumulation_steps": 3,  # two gradients are gathered when it is left
        }
    ),
    # Not through files: what goes on from a migrated file computes the config of its source.
    "the rate enters the buffer": Setting(
        {**_RESTING, "lr_in_momentum": False}, after={"lr_in_momentum": True}, files=False
    ),
    "the rate leaves the buffer": Setting(
        {**_RESTING, "lr_in_momentum": True}, after={"lr_in_momentum": False}, files=False
    ),
}


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

    All settings in float32 in every mode, and in float64 in one mode, in turn.
    """
    return [
        Left(framework=framework, setting=setting, mode=mode, dtype=dtype)
        for turn, setting in enumerate(SETTINGS)
        for dtype in DTYPES
        for mode in _chosen([mode for mode, dtypes in modes.items() if dtype in dtypes], dtype, turn)
    ]


def _chosen(modes: Sequence[str], dtype: str, turn: int) -> Sequence[str]:
    return modes if dtype == DTYPES[0] or not modes else [modes[turn % len(modes)]]


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
    """Return migrations between every ordered pair: one for each mode of the target, in which it then goes on.

    A framework may write other files in another mode, as Paddle does. Settings and the source's modes come in turn; a
    framework's own file comes back to the mode that wrote it.
    """
    names = _frameworks(left)
    settings = [name for name, setting in SETTINGS.items() if setting.files]
    found = []
    for (here, target), (there, source) in itertools.product(enumerate(names), repeat=2):
        for number in range(len({one.mode for one in left if one.framework == target})):
            turn = number + here - there
            setting = settings[turn % len(settings)]
            theirs, ours = _of(left, source, setting, DTYPES[0]), _of(left, target, setting, DTYPES[0])
            if theirs and ours:
                found.append(Migration(theirs[turn % len(theirs)], ours[number % len(ours)]))
    return found


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
