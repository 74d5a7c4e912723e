"""`migrate`: a state, and the weights too when asked, from the file of one framework to that of another."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from unirms.building import Policy
from unirms.checkpoints import calling, leaving, recognizing, states
from unirms.checkpoints.calling import Interpreters
from unirms.checkpoints.checkpoint import Checkpoint, Outgoing
from unirms.checkpoints.formats import Known, known
from unirms.checkpoints.inspecting import opened
from unirms.checkpoints.naming import keywords, plain, problem
from unirms.checkpoints.placing import placing
from unirms.checkpoints.settling import Settled, settled
from unirms.checkpoints.targets import Names, destination, mapped
from unirms.checkpoints.tensors import Moving
from unirms.config import RMSPropConfig
from unirms.errors import (
    LONGEST_MESSAGE,
    CheckpointError,
    ConfigError,
    StateError,
    UnirmsError,
    UnrepresentableError,
    some,
)
from unirms.grouping import narrowed, renamed
from unirms.moving import ParameterMap, Plan, plan
from unirms.moving.maps import Layout
from unirms.moving.planning import warn
from unirms.schedules.plateau import PlateauState
from unirms.state import WEIGHTS


@dataclass(frozen=True)
class Migration:
    """What has been written.

    Attributes:
        source: the file that was read, and
        source_format: its format.
        destination: the file that was written, and
        target_format: its format.
        content: what it holds: by kind and by target name where each tensor comes from and what became of it.
        notes: a sentence for each thing that was concluded or left out.
        policy: what goes on from the file, as for `unirms.build`.
    """

    source: Path
    source_format: str
    destination: Path
    target_format: str
    content: Outgoing
    notes: tuple[str, ...]
    policy: Policy = "exact"

    def code(self) -> list[str]:
        """Return the lines of Python that go on from the file, with a `model` of the target's."""
        config = self.content.config
        assert config is not None
        target = known(self.target_format)
        policy = "" if self.policy == "exact" else f', policy="{self.policy}"'
        build = (
            f'optimizer = unirms.build(unirms.RMSPropConfig({keywords(config)}), "{target.framework}", model{policy})'
        )
        place = json.dumps(str(self.destination))[1:-1]
        parts = {
            "",
            WEIGHTS if self.content.tensors.get(WEIGHTS) else "state alone",
            *["schedule"] * (not config.has_constant_rate),
            *["plateau"] * (self.content.plateau is not None),
        }
        return [
            line.format(
                build=build,
                path=place,
                stem=place.removesuffix(self.destination.suffix),
                step=self.content.step,
                plateau=_as_code(self.content.plateau),
            )
            for part, line in target.go_on
            if part in parts
        ]


def migrate(
    source: str | Path,
    destination: str | Path,
    *,
    source_format: str | None = None,
    target_format: str | None = None,
    names: Names = None,
    layout: Mapping[str, Layout] | None = None,
    config: RMSPropConfig | None = None,
    weights: bool = False,
    like: str | Path | None = None,
    policy: Policy = "exact",
    step: int | None = None,
    without: Iterable[str] = (),
    interpreters: Interpreters | None = None,
) -> Migration:
    """Write what one file holds of a training run into another, in the names, layouts and units of its target.

    Reading and writing are done by processes of their own, a tensor at a time. The file is written beside its place and
    moved there, so that an error or an interruption leaves an old one whole.

    Args:
        source: a file, a folder, or the prefix of several files.
        destination: where to write.
        source_format: its format or its framework; told by the file itself unless given.
        target_format: told by the suffix unless given.
        names: source name -> target name, or what `unirms.match` returns; None: they are the same, or are told by the
            shapes of `like`.
        layout: source name -> how its axes are permuted: as for `numpy.transpose`, or "OIHW->HWIO".
        config: what the optimizer computes, where the file does not say it.
        weights: move the weights, too.
        like: a file of the target's format, saved from the new model: names, shapes and dtypes are checked against it,
            and all else that it holds is kept. Unless given, a file that is at the destination is checked against.
        policy: what goes on from it: "exact", what ``unirms.build`` makes of the config; "stock", the stock class, if
            it computes the config; "nearest", the stock class.
        step: completed updates, where the file does not say it.
        without: slots that are left out, and parameters whose slots are: those that the target does not update.
        interpreters: framework -> its Python, where it is not this one.

    Raises:
        CheckpointError: a file is damaged, foreign or refused, or cannot be written.
        StateError: names, shapes, slots or dtypes that do not fit, all of them; a NaN; what the user says contradicts
            the file.
        UnrepresentableError: policy "stock", and the stock class computes something else.
        FrameworkMissingError: a framework does not load.

    Warns:
        PrecisionWarning: values were rounded to a narrower dtype.
        FidelityWarning: policy "nearest", and the stock class computes something else.
    """
    source, place, like = Path(source), Path(destination), None if like is None else Path(like)
    formats = recognizing.of_source(source, source_format), recognizing.of_destination(place, target_format, like)
    pattern = _template(place, formats[1], like)
    kept = pattern if like is not None or formats[1].needs_like else None
    with ExitStack() as stack:
        whole = stack.enter_context(opened(source, formats[0], config, interpreters))
        held, config = leaving.without(whole, config, without)
        found = settled(held, source.name, config, step)
        template = None
        if pattern is not None:
            template = stack.enter_context(opened(pattern, formats[1], _for_any_names(found), interpreters))
        content, way = _content(held, found, template, formats, names, layout, policy, weights=weights)
        rounded = _write(formats[1], place, content, kept, interpreters)
    warn(way, [content.tensors[kind][name].move for kind, name in rounded], stacklevel=3)
    notes = (*held.notes, *found.notes, *_kept_layouts(content, template, formats), *_lost_plateau(content, formats[1]))
    advice = template.advice if template is not None and kept is not None else ()
    return Migration(source, formats[0].name, place, formats[1].name, content, (*notes, *advice), policy)


def _template(place: Path, chosen: Known, like: Path | None) -> Path | None:
    """Return the file that says what the target is: the one that is given, or the one that will be replaced."""
    is_folder = os.path.isdir(place)  # noqa: PTH112 - that of pathlib raises for a name too long
    if not place.parent.is_dir():
        raise CheckpointError(f"{plain(str(place))} cannot be written: there is no folder {plain(str(place.parent))}")
    if is_folder and any(place.iterdir()):
        raise CheckpointError(f"{plain(str(place))} is a folder that is not empty; name one that is new, or empty it")
    if like is None and not is_folder and recognizing.exists(place):
        like = place
    if like is None and chosen.needs_like:
        raise CheckpointError(
            f"{chosen.name} files have more than a state; save one from the new model and give it as --like"
        )
    return like


def _content(
    held: Checkpoint,
    found: Settled,
    template: Checkpoint | None,
    formats: tuple[Known, Known],
    names: Names,
    layout: Mapping[str, Layout] | None,
    policy: Policy,
    *,
    weights: bool,
) -> tuple[Outgoing, Plan]:
    """Return what the target is to hold, and the plan that says so."""
    map_ = mapped(held, template, formats, names, layout, weights=weights)
    wrong = [reason for one in map_.targets.values() if one.name is not None and (reason := problem(one.name))]
    if wrong:
        raise StateError(wrong)
    assert found.state.config is not None
    pairs = _pairs(held, map_)
    here = narrowed(found.state.config, list(held.tensors["mean_square"]), [name for name, _ in pairs])
    config = renamed(_meaning(here, formats[1], policy), pairs)
    to = destination(held, template, map_, config, weights=weights)
    way = plan(found.state, to, map_)
    moving: dict[str, dict[str, Moving]] = {}
    for move in way.moves:
        moving.setdefault(move.kind, {})[move.target] = Moving(source=held.tensors[move.kind][move.source], move=move)
    if to.weights is not None:
        moving[WEIGHTS] = {name: moving[WEIGHTS][name] for name in to.weights}
    content = Outgoing(
        parameters=tuple(to.parameters),
        step=found.state.step,
        micro_step=found.state.micro_step,
        learning_rate=way.learning_rate,
        plateau=way.plateau,
        config=config,
        tensors=moving,
        stock=policy != "exact",
    )
    return content, way


def _for_any_names(found: Settled) -> RMSPropConfig:
    """Return the config for a file with other names: without what it says of single parameters."""
    assert found.state.config is not None
    return found.state.config.replace(groups=(), no_weight_decay=())


def _pairs(held: Checkpoint, map_: ParameterMap) -> list[tuple[str, str]]:
    """Return source name and target name of each parameter that moves."""
    return [
        (name, target.name)
        for name, target in map_.targets.items()
        if target.name is not None and name in held.tensors["mean_square"]
    ]


def _meaning(config: RMSPropConfig, chosen: Known, policy: Policy) -> RMSPropConfig:
    """Return what goes on from the file: the config, or what the stock class computes in its place."""
    if policy == "exact":
        return config
    if not chosen.framework:
        raise ConfigError([f'policy="{policy}" is about a stock class; files of {chosen.name} belong to none'])
    native = config.to_native(chosen.framework)
    if native.obstacles and policy == "stock":
        raise UnrepresentableError(native.target, native.obstacles)
    # A schedule for which the framework has no class is followed by unirms.build beside the stock class.
    return native.meaning.replace(learning_rate=config.learning_rate) if native.obstacles else config


def _write(
    chosen: Known, place: Path, content: Outgoing, like: Path | None, interpreters: Interpreters | None
) -> Sequence[tuple[str, str]]:
    try:
        with placing(place) as folder:
            rounded = _written(chosen, folder, place, content, like, interpreters)
        if chosen.name == states.FORMAT:
            states.remove_former(place, {place.name})
    except UnirmsError:
        raise
    except (OSError, ValueError) as error:  # the second: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{place} cannot be written: {reason}") from None
    return rounded


def _written(
    chosen: Known, folder: Path, place: Path, content: Outgoing, like: Path | None, interpreters: Interpreters | None
) -> Sequence[tuple[str, str]]:
    """Write into a folder; an error names the place that the user has given."""
    try:
        return calling.write(chosen, folder / place.name, content, like, interpreters)
    except CheckpointError as error:
        # The hidden folder is one that nobody has heard of, and is gone when the message is read.
        raise CheckpointError(str(error).replace(plain(str(folder), LONGEST_MESSAGE), str(place.parent))) from None


def _kept_layouts(content: Outgoing, template: Checkpoint | None, formats: tuple[Known, Known]) -> list[str]:
    """Return a note on tensors whose axes stay where shapes do not show that they should."""
    frameworks = {known.framework for known in formats}
    if len(frameworks) == 1 or "" in frameworks:
        return []
    first = {name: one for found in content.tensors.values() for name, one in found.items()}
    silent = [
        name
        for name, one in first.items()
        if one.move.axes is None and len(one.shape) > 1 and (template is None or len(set(one.shape)) < len(one.shape))
    ]
    if not silent:
        return []
    return [f"the axes of {some(silent, 1)} stay as they are, since the map has none; linear layers may need (1, 0)"]


def _lost_plateau(content: Outgoing, chosen: Known) -> list[str]:
    """Return a note on counts for which a file has no room."""
    if content.plateau is None or chosen.has_plateau:
        return []
    counts = ", ".join(f"{name}={value!r}" for name, value in vars(content.plateau).items())
    return [f"files of {chosen.name} have no room for the counts of the plateau, which begin anew there: {counts}"]


def _as_code(plateau: PlateauState | None) -> str:
    """Return a place as a mapping in Python, where infinities are no literals."""
    values = {} if plateau is None else vars(plateau)
    shown = (repr(value) if math.isfinite(value) else f'float("{value}")' for value in values.values())
    return "{" + ", ".join(f'"{name}": {value}' for name, value in zip(values, shown, strict=True)) + "}"
