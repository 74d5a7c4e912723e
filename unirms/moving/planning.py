"""From a state and an optimizer that is to go on from it: the way of every tensor, or all reasons why there is none."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from unirms.config import RMSPropConfig
from unirms.errors import FidelityWarning, PrecisionWarning, StateError, UnsupportedError, some
from unirms.grouping import members
from unirms.moving.maps import Axes, ParameterMap
from unirms.moving.moves import Move
from unirms.schedules import Plateau
from unirms.schedules.plateau import PlateauState
from unirms.semantics import Difference, differences
from unirms.state import GRADIENT_SUM, NO_CONFIG, SLOTS, WEIGHTS, Array, OptimizerState


@dataclass(frozen=True)
class Spec:
    """What a tensor is: its shape, and the name of its dtype."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Destination:
    """An optimizer that is to go on from a state.

    Attributes:
        config: what it computes.
        parameters: what it updates, by name.
        weights: all floating-point tensors of its model, by name, where weights are to move too; None otherwise.
    """

    config: RMSPropConfig
    parameters: Mapping[str, Spec]
    weights: Mapping[str, Spec] | None = None


@dataclass(frozen=True)
class Plan:
    """How a state goes to its destination.

    Attributes:
        moves: the way of each tensor, by kind and in the order of the destination's parameters.
        differences: how the destination computes on from where the state comes from: it is another optimizer.
        learning_rate: the rate of its next update there.
        plateau: where the destination's plateau goes on; None where its rate is no plateau.
    """

    moves: Sequence[Move]
    differences: Sequence[Difference] = field(default_factory=tuple)
    learning_rate: float = 0.0
    plateau: PlateauState | None = None


def moved(state: OptimizerState, to: Destination, names: ParameterMap) -> OptimizerState:
    """Return the state in the names, layouts, units and dtypes of its destination.

    Raises:
        StateError: it does not fit: all reasons.

    Warns:
        PrecisionWarning: values were rounded.
        FidelityWarning: the destination computes something else.
    """
    way = plan(state, to, names)
    arrays: dict[str, dict[str, Array]] = {kind: {} for kind in state.tensors()}
    problems, rounded = [], []
    for move in way.moves:
        before = state.tensors()[move.kind][move.source]
        after = move.of(before)
        problems += [problem] if (problem := move.problem(before, after)) else []
        rounded += [move] if move.rounds(before, after) else []
        arrays[move.kind][move.target] = after
    if problems:
        raise StateError(problems)
    warn(way, rounded)
    weights, sums = arrays.pop(WEIGHTS), arrays.pop(GRADIENT_SUM)
    fresh = OptimizerState.of(state.step, arrays, sums, state.micro_step, way.plateau)
    return replace(fresh, learning_rate=way.learning_rate, config=to.config, weights=weights)


def warn(way: Plan, rounded: Sequence[Move], stacklevel: int = 4) -> None:
    """Say what a state loses on its way."""
    if rounded:
        which = some([f"{move.kind} of {move.target!r}" for move in rounded], show=str)
        warnings.warn(f"rounded to {rounded[0].dtype}: {which}", PrecisionWarning, stacklevel=stacklevel)
    if way.differences:
        reasons = "; ".join(str(difference) for difference in way.differences)
        warnings.warn(
            f"the optimizer goes on otherwise than the state's: {reasons}", FidelityWarning, stacklevel=stacklevel
        )


def plan(state: OptimizerState, to: Destination, names: ParameterMap) -> Plan:
    """Return the way of every tensor of a state to its destination; only shapes and dtypes are looked at.

    Raises:
        StateError: it does not fit: all reasons.
    """
    if unsound := [*([] if state.config else [NO_CONFIG]), *state.problems()]:
        raise StateError(unsound)
    problems: list[str] = []
    sources = _sources(state, to, names, problems)
    units = _Units.of(state, to, sources, problems)
    moves = list(_slot_moves(state, to, sources, units, problems))
    moves += _sum_moves(state, to, sources, problems)
    if to.weights is not None:
        moves += _weight_moves(state, to.weights, names, problems)
    if problems:
        raise StateError(problems)
    rate = units.after if units else 0.0
    return Plan(moves, _differences(state, to, sources), rate, plateau_after(to.config, state))


@dataclass(frozen=True)
class _Source:
    name: str
    axes: Axes | None

    @classmethod
    def of(cls, name: str, axes: Axes | None) -> _Source:
        """Return where a parameter comes from; axes that stay are no permutation."""
        return cls(name, None if axes is None or axes == tuple(range(len(axes))) else axes)


def _sources(state: OptimizerState, to: Destination, names: ParameterMap, problems: list[str]) -> dict[str, _Source]:
    """Return where each parameter of the destination comes from."""
    found = _by_target(state.mean_square, names, "parameters", problems)
    for name in state.mean_square:
        if name not in names.targets:
            problems.append(f"the state has {name!r}, for which there is no target; map it, or map it to null")
    problems += [f"the state has nothing for {name!r}" for name in to.parameters if name not in found]
    for name, source in found.items():
        if name in to.parameters:
            continue
        if name in (to.weights or ()):
            problems.append(
                f"{source.name!r} goes to {name!r}, which the optimizer does not update; leave what it remembers of it "
                f"out with state.without(parameters=[{source.name!r}]), or --without {source.name} in unirms migrate"
            )
        else:
            problems.append(f"{source.name!r} goes to {name!r}, which the optimizer has not")
    for name, target in names.targets.items():
        if target.name is not None and name not in state.mean_square and name not in state.weights:
            problems.append(f"the map has {name!r}, which the state has not")
    if not found and not problems:
        problems.append("the map leaves out every parameter, so that there is nothing to go on from")
    return {name: found[name] for name in to.parameters if name in found}


def _by_target(held: Mapping[str, Array], names: ParameterMap, what: str, problems: list[str]) -> dict[str, _Source]:
    """Return where what goes to each target comes from."""
    found: dict[str, _Source] = {}
    for name, target in names.targets.items():
        if target.name is None or name not in held:
            continue
        if target.name in found and (problem := f"two {what} would go to {target.name!r}") not in problems:
            problems.append(problem)
        found[target.name] = _Source.of(name, target.axes)
    return found


@dataclass(frozen=True)
class _Units:
    """The rates by which momentum buffers with and without the rate differ, by the destination's names."""

    before: Mapping[str, float]
    to: Mapping[str, float]
    after: float

    @staticmethod
    def of(
        state: OptimizerState, to: Destination, sources: Mapping[str, _Source], problems: list[str]
    ) -> _Units | None:
        assert state.config is not None
        try:
            own = {m.name: m for m in members(state.config, list(state.mean_square))}
            other = {m.name: m for m in members(to.config, list(to.parameters))}
        except UnsupportedError as error:
            problems.append(str(error))
            return None
        rate = state.learning_rate
        if rate is None:
            rate = rate_after(state.config, state)
        after = rate_after(to.config, state)
        return _Units(
            {name: rate * own[source.name].rate_factor for name, source in sources.items()},
            {name: after * other[name].rate_factor for name in sources},
            after,
        )


def rate_after(config: RMSPropConfig, state: OptimizerState) -> float:
    """Return the rate of the next update of a config that has come as far as a state."""
    plateau = plateau_after(config, state)
    return config.learning_rate_at(state.step) if plateau is None else plateau.rate


def plateau_after(config: RMSPropConfig, state: OptimizerState) -> PlateauState | None:
    """Return where the plateau of a config goes on from a state, its beginning if that has none; None without one."""
    rate = config.learning_rate
    return (state.plateau or rate.begin()) if isinstance(rate, Plateau) else None


def uses(config: RMSPropConfig) -> dict[str, bool]:
    """Return which slots a parameter has; `config` holds for it alone."""
    return {
        "mean_square": True,
        "mean_gradient": config.centered,
        "momentum": config.momentum > 0,
        "average": config.ema_decay > 0,
    }


def _slot_moves(
    state: OptimizerState,
    to: Destination,
    sources: Mapping[str, _Source],
    units: _Units | None,
    problems: list[str],
) -> Iterator[Move]:
    slots = state.slots()
    for slot in SLOTS:
        for name, source in sources.items():
            wanted = uses(to.config.for_parameter(name))[slot]
            held = slots[slot].get(source.name)
            if wanted and held is None:
                problems.append(f"the state has no {slot} of {source.name!r}, which the optimizer needs for {name!r}")
            elif held is not None and not wanted:
                problems.append(
                    f"the state has a {slot} of {source.name!r}, which the optimizer does not keep for {name!r}; "
                    f'leave it out with state.without("{slot}")'
                )
            elif held is not None:
                move = _move(slot, source, name, held, to.parameters[name], problems)
                yield _in_units(move, state, to, units, problems) if slot == "momentum" else move


def _in_units(move: Move, state: OptimizerState, to: Destination, units: _Units | None, problems: list[str]) -> Move:
    """Return the move of a momentum buffer with the change of its unit."""
    assert state.config is not None
    if units is None or state.config.lr_in_momentum == to.config.lr_in_momentum:
        return move
    rate = units.before[move.target] if state.config.lr_in_momentum else units.to[move.target]
    if not rate > 0:
        problems.append(
            f"the momentum of {move.source!r} changes its unit by the rate of the next update, which is {rate!r}; make "
            'an update at another rate first, or leave the buffer out with state.without("momentum") and start anew'
        )
        return move
    return replace(move, over=rate) if state.config.lr_in_momentum else replace(move, times=rate)


def _sum_moves(
    state: OptimizerState, to: Destination, sources: Mapping[str, _Source], problems: list[str]
) -> Iterator[Move]:
    if state.micro_step >= to.config.gradient_accumulation_steps:
        problems.append(
            f"the state has gathered {state.micro_step} gradients for an update, and the optimizer updates after "
            f'{to.config.gradient_accumulation_steps}; leave them out with state.without("gradient_sum"), or '
            "--without gradient_sum in unirms migrate"
        )
        return
    for name, source in sources.items():
        held = state.gradient_sum.get(source.name)
        if held is not None:
            yield _move(GRADIENT_SUM, source, name, held, to.parameters[name], problems)


def _weight_moves(
    state: OptimizerState, weights: Mapping[str, Spec], names: ParameterMap, problems: list[str]
) -> Iterator[Move]:
    found = _by_target(state.weights, names, "weights", problems)
    problems += [f"the state has no weights for {name!r}" for name in weights if name not in found]
    for name in state.weights:
        if name not in names.targets:
            problems.append(f"the state has the weights {name!r}, for which there is no target; map them, or to null")
    for name, source in found.items():
        if name not in weights:
            problems.append(f"the weights {source.name!r} go to {name!r}, which the model has not")
        else:
            yield _move(WEIGHTS, source, name, state.weights[source.name], weights[name], problems)


def _move(kind: str, source: _Source, name: str, held: Array, spec: Spec, problems: list[str]) -> Move:
    """Return the move of one tensor, its shape and the kind of its dtype checked."""
    shape, axes = tuple(held.shape), source.axes
    if axes is not None and len(axes) != len(shape):
        problems.append(f"{kind} of {source.name!r} has the shape {shape}, which axes {axes} do not permute")
        return Move(kind, source.name, name, spec.dtype)
    turned = shape if axes is None else tuple(shape[axis] for axis in axes)
    if turned != tuple(spec.shape):
        become = "" if axes is None else f", permuted {turned}"
        problems.append(f"{kind} of {source.name!r} has the shape {shape}{become}; {name!r} has {tuple(spec.shape)}")
    if held.dtype.kind not in "fc" or (held.dtype.kind == "c") != spec.dtype.startswith("complex"):
        problems.append(f"{kind} of {source.name!r} is {held.dtype}; {name!r} is {spec.dtype}")
    return Move(kind, source.name, name, spec.dtype, axes)


def _differences(state: OptimizerState, to: Destination, sources: Mapping[str, _Source]) -> tuple[Difference, ...]:
    """Return how the destination computes on otherwise, over all parameters; where a state starts is past."""
    assert state.config is not None
    pairs = {
        (state.config.for_parameter(source.name), to.config.for_parameter(name)) for name, source in sources.items()
    }
    found: dict[tuple[str, str], Difference] = {}
    for before, after in pairs:
        same: dict[str, Any] = {"initial_mean_square": before.initial_mean_square}
        if "none" not in {before.gradient_centralization, after.gradient_centralization}:
            same["gradient_centralization"] = before.gradient_centralization  # the axis goes with the layout
        found |= {(one.axis, str(one)): one for one in differences(before, after.replace(**same))}
    return tuple(found[key] for key in sorted(found))
