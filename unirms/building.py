"""`build`, `config_of`, `state_of`, `restore`: from a config to a live optimizer of any framework, and back."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, get_args

from unirms import registry
from unirms.config import RMSPropConfig
from unirms.errors import ConfigError, FidelityWarning, UnrepresentableError, UnsupportedError
from unirms.grouping import members, renamed
from unirms.moving.maps import Layout, ParameterMap
from unirms.moving.planning import Destination, Spec, moved, rate_after
from unirms.names import matches
from unirms.protocol import Adapter, NamedParameter
from unirms.semantics import Difference, Fidelity
from unirms.state import OptimizerState
from unirms.translation import Native

Policy = Literal["exact", "stock", "nearest"]


def build(config: RMSPropConfig, framework: str, params: Any, *, policy: Policy = "exact", **options: Any) -> Any:
    """Return an optimizer of `framework` that computes `config` for `params`.

    Args:
        config: what to compute.
        framework: "torch", "keras", "mindspore" or "paddle", or an alias such as "tensorflow".
        params: a model, (name, parameter) pairs, a mapping of names to parameters, or parameters.
        policy: "exact" returns the stock class where it computes the config (with its state filled in where that is
            enough), and otherwise unirms's subclass of it; "stock" returns the stock class or raises; "nearest"
            returns the stock class and warns.
        options: what the framework's adapter takes besides (`foreach` in torch, `name` in Keras and Paddle).

    Raises:
        UnrepresentableError: policy "stock", and the stock class computes something else.
        UnsupportedError: the framework cannot compute this config for these parameters.
        FrameworkMissingError: the framework does not load.

    Warns:
        FidelityWarning: policy "nearest", and the stock class computes something else.
    """
    if policy not in get_args(Policy):
        raise ConfigError([f"policy={policy!r} is not allowed; policy must be one of {', '.join(get_args(Policy))}"])
    adapter = registry.adapter(framework)
    named = adapter.named_parameters(params)
    config = _for_these(config, named)
    _check_request(adapter, config, named, options)
    native = config.to_native(adapter.framework)
    limits = adapter.limits(native, config, named)
    obstacles = [*native.obstacles, *(limit for limit in limits if limit.fidelity is not Fidelity.SEEDED)]
    if obstacles and policy == "exact":
        _refuse(adapter, adapter.refusals(config, named, exact=True))
        return adapter.exact(config, named, options)
    if obstacles and policy == "stock":
        raise UnrepresentableError(native.target, obstacles)
    _refuse(adapter, adapter.refusals(config, named, exact=False))
    if obstacles:
        _warn(native, obstacles)
    return adapter.stock(native, config, named, options)


def config_of(optimizer: Any) -> RMSPropConfig:
    """Return what a live optimizer, stock or exact, computes with its present hyperparameters.

    Raises:
        ForeignOptimizerError: not an RMSProp of any framework.
        UnsupportedError: its hyperparameters differ between parameters in a way that no config can say yet.
    """
    return registry.adapter_of(optimizer).config_of(optimizer)


def lr_scheduler(optimizer: Any) -> Any:
    """Return the scheduler of an optimizer that was built from a config with a schedule or a plateau.

    In PyTorch and PaddlePaddle the user steps it once after each update, as any scheduler of theirs. None stands for
    frameworks that ask the schedule by themselves (Keras, MindSpore), and for an optimizer whose rate is a number. A
    step that `torch.amp.GradScaler` leaves out is no update: step the scheduler only if the scale has not gone down.

    That of a plateau takes a metric instead, in every framework: ``step(metric)`` after each measurement. In Keras it
    is a callback, too, which looks at the metric `monitor` of ``model.fit(…, callbacks=[…])``.

    Raises:
        ForeignOptimizerError: not an RMSProp of any framework.
    """
    return registry.adapter_of(optimizer).lr_scheduler(optimizer)


@contextmanager
def averaged(optimizer: Any) -> Iterator[None]:
    """Put the running means of the weights (`ema_decay`) into the model within a `with` block, and the weights after.

    Evaluate or save the model in the block; do not step the optimizer there.

    Raises:
        ForeignOptimizerError: not an RMSProp of any framework.
        UnsupportedError: the optimizer keeps no running means of the weights.
    """
    adapter = registry.adapter_of(optimizer)
    adapter.swap_average(optimizer)
    try:
        yield
    finally:
        adapter.swap_average(optimizer)


def state_of(optimizer: Any, *, model: Any = None) -> OptimizerState:
    """Return the accumulators of a live optimizer as NumPy arrays, by parameter name, with what it takes to go on.

    The state of an optimizer that no config describes has none; `config_of` says why. With a model, parameters have the
    names that they have there; without one, those that the optimizer has: numbers, for PyTorch's own.

    Args:
        optimizer: any stock or exact RMSProp.
        model: the model, or all of its parameters, whose weights are to come along; with what is not trained, as the
            running means of a batch normalization.

    Raises:
        ForeignOptimizerError: not an RMSProp of any framework.
    """
    adapter = registry.adapter_of(optimizer)
    state = adapter.state_of(optimizer)
    weights = [] if model is None else adapter.weights_of(model)
    names = _names_in(weights, adapter.parameters_of(optimizer)) if weights else {}
    state = replace(state.renamed(names), weights={one.name: adapter.array_of(one.value) for one in weights})
    try:
        config = renamed(adapter.config_of(optimizer), names.items())
    except (UnsupportedError, ConfigError):  # its hyperparameters are none that a config says; the arrays are there
        return state
    return replace(state, config=config, learning_rate=rate_after(config, state))


def restore(
    optimizer: Any,
    state: OptimizerState,
    *,
    names: ParameterMap | Mapping[str, Any] | None = None,
    layout: Mapping[str, Layout] | None = None,
    model: Any = None,
) -> None:
    """Put a state into a live optimizer, so that it goes on where the other one was; of whichever framework that was.

    What the optimizer computes stays its own: build it with ``unirms.build(state.config, …)`` to go on with the same.
    Momentum buffers are converted where one holds the learning rate and the other does not, by the rate of the next
    update. If anything does not fit, nothing is written.

    Args:
        optimizer: any stock or exact RMSProp, new or in the middle of its training.
        state: from `unirms.state_of` or `OptimizerState.load`.
        names: name in the state -> name in the optimizer, or what `unirms.match` returns; None: they are the same. A
            name that goes to None is left out.
        layout: name in the state -> how its axes are permuted: as for `numpy.transpose`, or "OIHW->HWIO".
        model: the model, or all of its parameters, into which the weights of the state are to go, too.

    Raises:
        ForeignOptimizerError: not an RMSProp of any framework.
        StateError: names, shapes, slots or dtypes that do not fit, all of them; a NaN; a unit that a rate of 0 would
            have to convert. Nothing has been written.

    Warns:
        PrecisionWarning: values were rounded to a narrower dtype.
        FidelityWarning: the optimizer computes something else than the state's config.
    """
    adapter = registry.adapter_of(optimizer)
    tensors = None if model is None else {one.name: one for one in adapter.weights_of(model)}
    parameters = adapter.parameters_of(optimizer)
    own = _names_in(list((tensors or {}).values()), parameters)
    to = Destination(
        renamed(adapter.config_of(optimizer), own.items()),
        {own[one.name]: Spec(one.shape, one.dtype) for one in parameters},
        None if tensors is None else {name: Spec(one.shape, one.dtype) for name, one in tensors.items()},
    )
    known = [*state.mean_square, *(name for name in state.weights if name not in state.mean_square)]
    arrived = moved(state, to, ParameterMap.of(names, layout, known=known))
    adapter.restore(optimizer, arrived.renamed({name: of for of, name in own.items()}))
    for name, array in arrived.weights.items():
        if tensors is not None:
            adapter.assign(tensors[name].value, array)


def _names_in(weights: Sequence[NamedParameter], parameters: Sequence[NamedParameter]) -> dict[str, str]:
    """Return what a model calls the parameters of an optimizer, by the names that this gives them itself.

    Those may be others: numbers in PyTorch, and `linear_0.w_0` in PaddlePaddle.
    """
    called = {id(one.value): one.name for one in reversed(weights)}
    names = {one.name: called.get(id(one.value), one.name) for one in parameters}
    return names if len(set(names.values())) == len(names) else {name: name for name in names}


def _for_these(config: RMSPropConfig, params: Sequence[NamedParameter]) -> RMSPropConfig:
    """Return the config without name patterns that match none of these parameters."""
    kept = tuple(pattern for pattern in config.no_weight_decay if any(matches(p.name, (pattern,)) for p in params))
    return config if kept == config.no_weight_decay else config.replace(no_weight_decay=kept)


def _check_request(
    adapter: Adapter, config: RMSPropConfig, params: Sequence[NamedParameter], options: dict[str, Any]
) -> None:
    unknown = [name for name in options if name not in adapter.options]
    if unknown:
        allowed = ", ".join(adapter.options) or "none"
        raise ConfigError([f"{unknown[0]}= is not an option of {adapter.framework}; its options are: {allowed}"])
    if not params:
        raise UnsupportedError("there are no parameters to optimize; give a model or a list of parameters")
    twice = [name for name, count in Counter(p.name for p in params).items() if count > 1]
    if twice:
        raise UnsupportedError(f"parameter name {twice[0]!r} is given twice; names must be unique")
    if len({id(p.value) for p in params}) < len(params):
        raise UnsupportedError("a parameter is given twice under two names; it would be updated twice")
    members(config, [p.name for p in params])  # each group has some


def _refuse(adapter: Adapter, reasons: Sequence[str]) -> None:
    if reasons:
        raise UnsupportedError(f"{adapter.framework}: {'; '.join(reasons)}")


def _warn(native: Native, differences: Sequence[Difference]) -> None:
    reasons = "; ".join(str(difference) for difference in differences)
    warnings.warn(f"{native.target} is not this config: {reasons}", FidelityWarning, stacklevel=3)
