"""Verdicts: derived from the update rule, and confirmed by numbers for every pair of dialects."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unirms import (
    ClipByGlobalNorm,
    ClipByNorm,
    ClipByValue,
    ConfigError,
    Fidelity,
    ParameterGroup,
    RMSPropConfig,
    dialects,
    reference,
    schedules,
)
from unirms.registry import FRAMEWORKS
from unirms.semantics import AXES, differences, verdict
from unirms.simplest import simplest

ALL = tuple(dialects.all_dialects())
RHO = 0.5  # so that a mean square of 1 is forgotten, below 1e-76, within the silence of the third stream


def _everyday(scale, more=()):
    """Return weights and gradients of 4 decades, an element among them that never gets one; of more names, too."""
    rng = np.random.default_rng(3)
    scales = scale * 10.0 ** -np.linspace(0, 4, 50)
    weights = {"w": rng.standard_normal(50), "w.gamma": rng.standard_normal(5)}
    weights["w"][7] = 0.0  # with its gradient always 0: where epsilon = 0 shows, also under weight decay
    grads = [{"w": rng.standard_normal(50) * scales, "w.gamma": rng.standard_normal(5)} for _ in range(20)]
    weights["matrix"] = rng.standard_normal((3, 4))
    for grad in grads:
        grad["w"][7] = 0.0
        grad["matrix"] = rng.standard_normal((3, 4)) * scale
    weights |= {name: rng.standard_normal(2) for name in more}
    return weights, [grad | {name: rng.standard_normal(2) * scale for name in more} for grad in grads]


def _silence():
    """Return 260 steps without gradients, then tiny ones: where the smallest epsilon that a class takes shows."""
    rng = np.random.default_rng(4)
    weights = {"w": np.zeros(2), "w.gamma": np.zeros(1)}
    grads = [{name: np.zeros_like(value) for name, value in weights.items()} for _ in range(260)]
    return weights, grads + [{"w": rng.standard_normal(2) * 1e-38, "w.gamma": np.zeros(1)} for _ in range(10)]


# The second is for clips that the first stays under. The last two have, for every glob of the tests of groups and all
# names beside it, a parameter that nothing else matches.
MORE_NAMES = ("w.beta", "bias", "bias.gamma")
STREAMS = (_everyday(1), _everyday(100), _silence(), _everyday(1, MORE_NAMES), _everyday(100, MORE_NAMES))


@functools.lru_cache(maxsize=200_000)
def movement(config, stream=0, *, first=None, changes_rate=False):
    """Return the float64 movement, and the average's; `first` is filled in as the mean square before the first step."""
    start, grads = STREAMS[stream]
    params = start
    state = reference.init(config if first is None else config.replace(initial_mean_square=first), params)
    rate = config.learning_rate
    halved = rate / 2 if isinstance(rate, float) else rate.scaled(0.5)
    late = config.replace(learning_rate=halved) if changes_rate else config
    for step, grad in enumerate(grads):
        # Halved towards the end, where the third stream has its gradients.
        params, state = reference.step(late if step >= len(grads) - 6 else config, params, grad, state)
    none = {name: np.full_like(value, np.nan) for name, value in params.items()}
    both = (params, state.average or none)
    return np.concatenate([np.ravel(values[name] - start[name]) for values in both for name in params])


def same(left, right):
    # Float64 rounding over 270 steps, of weights near 1 and of movements; a real difference is larger than 1e-6 of the
    # movement on one of the streams.
    return np.allclose(left, right, rtol=1e-9, atol=1e-13, equal_nan=True)


def agree(wanted, actual, *, first=None, changes_rate, streams=(0, 1, 2)):
    return all(
        same(
            movement(wanted, stream, changes_rate=changes_rate),
            movement(actual, stream, first=first, changes_rate=changes_rate),
        )
        for stream in streams
    )


def truth(wanted, actual):
    """Return the verdict that numbers give: exact, else seeded, else with a constant learning rate, else none."""
    first = wanted.initial_mean_square
    if agree(wanted, actual, changes_rate=True):
        return Fidelity.EXACT
    if agree(wanted, actual, first=first, changes_rate=True):
        return Fidelity.SEEDED
    return Fidelity.CONSTANT_LR if agree(wanted, actual, first=first, changes_rate=False) else Fidelity.APPROXIMATE


# The values that an axis takes; a dialect uses those of the axes for which it has an argument.
VALUES = {
    "epsilon": (0.0, 1e-3),
    "epsilon_placement": ("inside_sqrt", "outside_sqrt"),
    "momentum": (0.0, 0.75),
    "nesterov": (False, True),
    "lr_in_momentum": (False, True),
    "centered": (False, True),
    "initial_mean_square": (0.0, 0.5),
    "bias_correction": (False, True),
    "weight_decay": (0.0, 0.125),
    "weight_decay_mode": ("l2", "l1", "decoupled"),
    "clip": ((), (ClipByValue(limit=0.25),), (ClipByNorm(max_norm=1),), (ClipByGlobalNorm(max_norm=1),)),
    "loss_scale": (1.0, 8.0),
    "maximize": (False, True),
}
# These meet every value of the axes above one at a time: all combinations of all axes would take an hour.
MORE = {
    "gradient_centralization": ("none", "first_axis"),
    "gradient_accumulation_steps": (1, 2),
    "ema_decay": (0.0, 0.75),
    "ema_start": (0, 4),
}


def sources(name):
    """Return every meaning that a dialect can state with these values: all combinations of its own axes."""
    dialect = dialects.get(name)
    axes = [field for field in VALUES if dialect.name_of(field)]
    products = itertools.product(*(VALUES[field] for field in axes))
    chosen = [dict(zip(axes, values, strict=True)) for values in products]
    more = [{field: MORE[field][1]} for field in MORE if dialect.name_of(field)]
    chosen += [{**one, field: value} for one in more for field in axes for value in VALUES[field]]
    found = set()
    for values in chosen:
        fields = {"learning_rate": 0.01, "rho": RHO, **values}
        if fields.get("nesterov") and not fields["momentum"]:
            continue  # no config says so
        # What the class refuses (as epsilon = 0 in MindSpore) or computes otherwise comes back as what it does compute.
        found.add(dialect.read(dialect.write(RMSPropConfig(**fields))))
    return sorted(found, key=repr)


@pytest.mark.parametrize("source", ALL)
@pytest.mark.parametrize("target", ALL)
def test_every_verdict_is_true_in_numbers(source, target):
    stated = sources(source)
    assert len(stated) >= 2
    for wanted in stated:
        native = wanted.to_native(target)
        found = [str(difference) for difference in native.differences]
        assert native.fidelity is truth(wanted, native.meaning), (wanted, found)
        assert native.needs_seeding == any("initial_mean_square" in sentence for sentence in found)


@pytest.mark.parametrize("target", ALL)
def test_every_verdict_under_a_schedule_is_true_in_numbers(target):
    schedule = schedules.Step(initial_learning_rate=0.01, step_size=3, gamma=0.8)
    stated = itertools.product((0.0, 1e-3), (0.0, 0.75), (schedule, schedules.Constant(learning_rate=0.01)))
    for epsilon, momentum, rate in stated:
        asked = RMSPropConfig(learning_rate=rate, rho=RHO, epsilon=epsilon, momentum=momentum)
        for wanted in {asked.replace(lr_in_momentum=False), *(asked.to_native(source).meaning for source in ALL)}:
            native = wanted.to_native(target)
            assert native.fidelity is truth(wanted, native.meaning), (wanted, native.differences)


def test_a_dialect_says_itself_exactly():
    for name in ALL:
        assert all(not wanted.to_native(name).differences for wanted in sources(name))


# What was measured between the four main classes, each said by hand: (source, target) -> verdict of a config.
def _by_epsilon(config):
    """Epsilon on the other side of the root, the rate on the other side of the buffer."""
    if config.epsilon > 0:
        return Fidelity.APPROXIMATE
    return Fidelity.CONSTANT_LR if config.momentum else Fidelity.EXACT


def _unless_decay(verdict):
    return lambda config: Fidelity.APPROXIMATE if config.weight_decay else verdict(config)


def _unless_zero(verdict):
    """MindSpore has no epsilon of 0."""
    return lambda config: Fidelity.APPROXIMATE if config.epsilon == 0 else verdict


def _always(verdict):
    return lambda config: verdict


MEASURED = {
    ("torch", "keras"): _unless_decay(_by_epsilon),
    ("torch", "mindspore"): _always(Fidelity.APPROXIMATE),
    ("torch", "paddle"): _by_epsilon,
    ("keras", "torch"): _unless_decay(_by_epsilon),
    ("keras", "mindspore"): _unless_decay(_unless_zero(Fidelity.SEEDED)),
    ("keras", "paddle"): _unless_decay(_always(Fidelity.EXACT)),
    ("mindspore", "torch"): _always(Fidelity.APPROXIMATE),
    ("mindspore", "keras"): _unless_decay(_always(Fidelity.SEEDED)),
    ("mindspore", "paddle"): _always(Fidelity.SEEDED),
    ("paddle", "torch"): _by_epsilon,
    ("paddle", "keras"): _unless_decay(_always(Fidelity.EXACT)),
    ("paddle", "mindspore"): _unless_zero(Fidelity.SEEDED),
    **{(name, name): _always(Fidelity.EXACT) for name in FRAMEWORKS},
}


def was_measured(config):
    """Return whether a config has only what was on while measuring."""
    off = ("clip", "loss_scale", "maximize", "gradient_accumulation_steps", "ema_decay")
    default = RMSPropConfig()
    return all(getattr(config, field) == getattr(default, field) for field in off) and config.weight_decay_mode != "l1"


def test_verdicts_between_the_four_frameworks_are_those_that_were_measured():
    assert set(MEASURED) == set(itertools.product(FRAMEWORKS, FRAMEWORKS))
    for (source, target), measured in MEASURED.items():
        for wanted in sources(source):
            if was_measured(wanted):
                assert wanted.to_native(target).fidelity is measured(wanted), (source, target, wanted)


def test_the_numbers_catch_a_wrong_verdict():
    wanted = RMSPropConfig.from_native("torch", momentum=0.9)
    for fields, right in [
        ({}, Fidelity.EXACT),
        ({"initial_mean_square": 1}, Fidelity.SEEDED),
        ({"lr_in_momentum": True}, Fidelity.CONSTANT_LR),
        ({"lr_in_momentum": True, "initial_mean_square": 1}, Fidelity.CONSTANT_LR),
        ({"epsilon_placement": "inside_sqrt"}, Fidelity.APPROXIMATE),
    ]:
        assert truth(wanted, wanted.replace(**fields)) is right


# Pairs of configs, not only those that a dialect can say: the rules must hold for all of them.
CONFIGS = st.fixed_dictionaries(
    {
        "rho": st.sampled_from([0.0, RHO, 1.0]),
        **{name: st.sampled_from(values) for name, values in {**VALUES, **MORE}.items()},
    }
).filter(lambda f: not (f["nesterov"] and f["momentum"] == 0) and not (f["bias_correction"] and f["rho"] == 1))


def is_tame(config):
    """Return whether the stream can show the config's differences: no infinite step or NaN that hides the rest."""
    moved = movement(config, changes_rate=True)
    return bool(np.isfinite(np.delete(moved, 7)[: len(moved) // 2 - 1]).all())


def agrees_with_numbers(left, changes):
    wanted = RMSPropConfig(learning_rate=0.01, **left)
    try:
        actual = wanted.replace(**changes)
    except ValueError:
        return True
    if not (is_tame(wanted) and is_tame(actual)):
        return True
    return verdict(differences(wanted, actual)) is truth(wanted, actual)


CHANGEABLE = {**VALUES, **MORE}
CHANGES = st.lists(
    st.sampled_from([(name, value) for name in CHANGEABLE for value in CHANGEABLE[name]]), max_size=3
).map(dict)


@settings(max_examples=300)
@given(CONFIGS, CHANGES)
def test_verdicts_hold_between_any_two_configs(left, changes):
    assert agrees_with_numbers(left, changes)


@pytest.mark.slow
@settings(max_examples=8_000)
@given(CONFIGS, CHANGES)
def test_verdicts_hold_between_very_many_configs(left, changes):
    assert agrees_with_numbers(left, changes)


JOINT = (ClipByGlobalNorm(max_norm=0.5),)
APART = (ClipByGlobalNorm(max_norm=0.5, over="group"),)
FOR_SOME = {  # of the parameters w, w.gamma and matrix
    "rho": (0.0, RHO),
    "epsilon": (0.0, 1e-3),
    "momentum": (0.0, 0.75),
    "centered": (False, True),
    "weight_decay": (0.0, 0.125),
    "learning_rate_factor": (1.0, 2.0, 0.0),
    "clip": ((), JOINT, APART),
}


FOR_ALL = {
    **{name: values for name, values in FOR_SOME.items() if name != "learning_rate_factor"},
    "nesterov": (False, True),
    "epsilon_placement": ("outside_sqrt",),
    "weight_decay_mode": VALUES["weight_decay_mode"],
    "no_weight_decay": ((), "*", ("*gamma", "w"), ("w", "*gamma"), "*gamma", "matrix"),
}
PATTERNS = ("*", "w", "w*", ("w", "matrix"), ("matrix", "w"), "matrix", "w.gamma", ("w.gamma", "w*"))


def some(values):
    return st.fixed_dictionaries({}, optional={name: st.sampled_from(found) for name, found in values.items()})


some_groups = st.lists(
    st.builds(lambda match, own: {"match": match, **own}, st.sampled_from(PATTERNS), some(FOR_SOME)), max_size=3
)


@st.composite
def pairs(draw):
    """Return two configs with groups, which repeat what holds anyway as often as not; many differ in little."""
    left = {"learning_rate": 0.01, "rho": RHO, "epsilon": 1e-3, **draw(some(FOR_ALL)), "groups": draw(some_groups)}
    right = {**left, "groups": [dict(group) for group in left["groups"]]}
    for changed in draw(st.lists(st.sampled_from([right, *right["groups"]]), max_size=2)):
        changed.update(draw(some(FOR_ALL if changed is right else FOR_SOME)))
    if draw(st.booleans()):
        right["groups"] = draw(st.permutations(right["groups"]))
    else:
        right["groups"] += draw(some_groups.filter(lambda found: len(found) < 2))
    try:
        return RMSPropConfig(**left), RMSPropConfig(**right)
    except ConfigError:
        return RMSPropConfig(), RMSPropConfig()


def is_shown(config):
    """Return whether the numbers of every parameter can show what it gets.

    With rho = 0 and epsilon = 0 all steps have one size, and centered they divide by 0, which hides the rest; so does
    0/0 times a rate of 0. Where nothing moves, nothing is shown.
    """
    each = [config.for_parameter(name) for name in STREAMS[3][0]]
    hidden = any(one.epsilon == 0 and (one.rho == 0 or one.learning_rate == 0) for one in each)
    hidden |= any(one.rho == 0 and one.centered for one in each)
    return not hidden and any(one.learning_rate for one in each)


def groups_agree_with_numbers(one, other):
    if not (is_shown(one) and is_shown(other)):
        return True
    equal = agree(one, other, changes_rate=True, streams=(3, 4))
    return one.equivalent(other) is other.equivalent(one) is equal


@settings(max_examples=100)
@given(pairs())
def test_configs_with_groups_are_equivalent_where_their_numbers_are_equal(pair):
    assert groups_agree_with_numbers(*pair)


@pytest.mark.slow
@settings(max_examples=10_000)
@given(pairs())
def test_very_many_configs_with_groups_are_equivalent_where_their_numbers_are_equal(pair):
    assert groups_agree_with_numbers(*pair)


@settings(max_examples=100)
@given(pairs(), st.sampled_from(["w*", "*gamma", "re:mma$", "?", "[bw]*", "**"]), st.booleans())
def test_the_simplest_form_of_a_config_means_the_same(pair, pattern, exempting):
    config = pair[0].replace(
        groups=[
            group.model_copy(update={"match": (*group.match, pattern) if index == 1 else group.match})
            for index, group in enumerate(pair[0].groups)
        ]
    )
    simple = simplest(config, exempting=exempting)
    assert agree(config, simple, changes_rate=False, streams=(3, 4))
    assert simplest(simple, exempting=exempting) == simple
    assert config.equivalent(simple)


STEPS = schedules.Step(initial_learning_rate=0.01, step_size=3)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({"groups": [{"match": "w", "rho": 0.9, "weight_decay": 0, "learning_rate_factor": 1, "clip": []}]}, {}),
        ({"groups": [{"match": "*", "rho": 0.5}]}, {"rho": 0.5}),
        (
            {"groups": [{"match": "w", "rho": 0.5}, {"match": "w", "rho": 0.25}]},
            {"groups": [{"match": "w", "rho": 0.5}]},
        ),
        ({"groups": [{"match": "*", "rho": 0.5}, {"match": "w", "rho": 0.25}]}, {"rho": 0.5}),
        (
            {"groups": [{"match": "w", "rho": 0.5}, {"match": "w.gamma", "rho": 0.5}]},
            {"groups": [{"match": ["w.gamma", "w"], "rho": 0.5}]},
        ),
        (
            {"learning_rate": 0.01, "groups": [{"match": "w", "learning_rate": 0.02}]},
            {"learning_rate": 0.01, "groups": [{"match": "w", "learning_rate_factor": 2}]},
        ),
        ({"learning_rate": STEPS, "groups": [{"match": "w", "learning_rate_factor": 1}]}, {"learning_rate": STEPS}),
        (
            {"groups": [{"match": "w", "learning_rate_factor": 0, "weight_decay": 0.1, "momentum": 0.5}]},
            {"groups": [{"match": "w", "learning_rate": 0}]},
        ),
        (  # the parameters of no group are the only ones that would notice
            {"epsilon": 0.1, "groups": [{"match": "w", "epsilon": 1}, {"match": "*", "epsilon": 2}]},
            {"epsilon": 0.2, "groups": [{"match": "w", "epsilon": 1}, {"match": "*", "epsilon": 2}]},
        ),
        ({"clip": APART, "groups": [{"match": "w"}]}, {"clip": JOINT, "groups": [{"match": "w", "clip": JOINT}]}),
        ({"weight_decay": 0.1, "no_weight_decay": "*"}, {}),
        (  # what never moves does not notice where its epsilon stands
            {"groups": [{"match": "w", "learning_rate": 0}, {"match": "*", "epsilon": 0}]},
            {
                "epsilon_placement": "outside_sqrt",
                "groups": [{"match": "w", "learning_rate": 0}, {"match": "*", "epsilon": 0}],
            },
        ),
        # A group for all the others is the config; what the config says itself is only what groups inherit.
        (
            {"groups": [{"match": "w", "rho": 0.5}, {"match": "*", "rho": 0.5}, {"match": "*"}]},
            {"rho": 0.5, "groups": []},
        ),
        (
            {"groups": [{"match": "w"}, {"match": "*", "rho": 0.5}]},
            {"rho": 0.5, "groups": [{"match": "w", "rho": 0.9}]},
        ),
        (
            {"clip": JOINT, "groups": [{"match": "w"}, {"match": "*", "clip": ()}]},
            {"groups": {"match": "w", "clip": APART}},
        ),
        # What a pattern before it covers is not reached, and the order of names is nothing.
        (
            {"groups": [{"match": "w*", "rho": 0.5}, {"match": ["w", "w.g*"], "rho": 0.25}]},
            {"groups": [{"match": "w*", "rho": 0.5}]},
        ),
        (
            {
                "groups": [
                    {"match": "w", "rho": 0.5},
                    {"match": "matrix", "rho": 0.25},
                    {"match": "w.gamma", "rho": 0.5},
                ]
            },
            {"groups": [{"match": ["w", "w.gamma"], "rho": 0.5}, {"match": "matrix", "rho": 0.25}]},
        ),
        # A name that is exempt is one without a decay of its own.
        (
            {
                "weight_decay": 0.1,
                "no_weight_decay": ["w", "matrix"],
                "groups": [{"match": "matrix", "weight_decay": 0.1}],
            },
            {"weight_decay": 0.1, "groups": [{"match": "w", "weight_decay": 0}]},
        ),
        (
            {"weight_decay": 0.1, "no_weight_decay": ["w", "*.gamma"]},
            {"weight_decay": 0.1, "no_weight_decay": ["*.gamma", "w", "w"]},
        ),
    ],
)
def test_what_is_said_of_single_parameters_may_be_said_otherwise(a, b):
    left, right = RMSPropConfig(**a), RMSPropConfig(**b)
    assert left != right
    assert left.equivalent(right)
    assert right.equivalent(left)
    assert agree(left, right, changes_rate=False)


@pytest.mark.parametrize(
    ("a", "b", "axes"),
    [
        ({"groups": [{"match": "*", "rho": 0.5}]}, {}, ["rho"]),
        ({"groups": [{"match": "w", "rho": 0.5}]}, {"rho": 0.5}, ["rho", "groups"]),
        # A group's own decay is for the exempt, too; and a group's own norm is no part of the others'.
        (
            {"weight_decay": 0.1, "no_weight_decay": "w", "groups": [{"match": "w", "weight_decay": 0.1}]},
            {"weight_decay": 0.1, "no_weight_decay": "w"},
            ["groups"],
        ),
        ({"clip": JOINT, "groups": [{"match": "w", "clip": JOINT}]}, {"clip": JOINT}, ["clip", "groups"]),
        (
            {"clip": JOINT, "groups": [{"match": "w", "clip": JOINT}, {"match": "matrix"}]},
            {"clip": JOINT, "groups": [{"match": "w", "clip": JOINT}, {"match": "matrix", "clip": JOINT}]},
            ["groups"],
        ),
        ({"clip": APART, "groups": [{"match": "w"}]}, {"clip": JOINT, "groups": [{"match": "w"}]}, ["clip"]),
        # The first pattern that matches wins.
        (
            {"groups": [{"match": "w", "rho": 0.5}, {"match": "w*", "rho": 0.25}]},
            {"groups": [{"match": "w*", "rho": 0.25}, {"match": "w", "rho": 0.5}]},
            ["groups"],
        ),
        # A schedule is another rate; factors of both are the same.
        (
            {"learning_rate": STEPS, "groups": [{"match": "w", "learning_rate_factor": 2}]},
            {"learning_rate": 0.02, "groups": [{"match": "w", "learning_rate_factor": 2}]},
            ["learning_rate"],
        ),
    ],
)
def test_what_is_said_of_single_parameters_counts(a, b, axes):
    left, right = RMSPropConfig(**a), RMSPropConfig(**b)
    assert [difference.axis for difference in differences(left, right)] == axes
    assert not agree(left, right, changes_rate=False)


def test_a_group_for_all_parameters_is_shown_as_the_value_that_it_sets():
    (found,) = differences(RMSPropConfig(rho=0.7, groups=[ParameterGroup(match="*", rho=0.5)]), RMSPropConfig())
    assert (found.wanted, found.actual) == (0.5, 0.9)


SIGNS = {"rho": 0, "epsilon": 0, "weight_decay": 0.125, "weight_decay_mode": "l1"}


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({"epsilon": 0, "epsilon_placement": "inside_sqrt"}, {"epsilon": 0, "epsilon_placement": "outside_sqrt"}),
        ({"lr_in_momentum": True}, {"lr_in_momentum": False}),
        ({"weight_decay_mode": "l2"}, {"weight_decay_mode": "decoupled"}),
        ({"no_weight_decay": "*"}, {}),
        ({"rho": 0, "initial_mean_square": 0}, {"rho": 0, "initial_mean_square": 1}),
        ({"rho": 0, "bias_correction": True}, {"rho": 0}),
        ({"negative_variance": "skip"}, {"negative_variance": "clamp"}),
        ({"rho": 1, "initial_mean_square": 1, "centered": True}, {"rho": 1, "initial_mean_square": 1}),
        ({"epsilon": 0, "loss_scale": 8}, {"epsilon": 0}),
        ({"ema_start": 4}, {}),
        ({"clip": ClipByGlobalNorm(max_norm=1, over="group")}, {"clip": ClipByGlobalNorm(max_norm=1)}),
        ({"clip": [ClipByValue(limit=0.25), ClipByValue(limit=0.5)]}, {"clip": ClipByValue(limit=0.25)}),
        # Where signs alone are seen, a limit above the L1 decay does not change which of the two is larger.
        ({**SIGNS, "clip": ClipByValue(limit=0.25)}, SIGNS),
        ({**SIGNS, "clip": ClipByValue(limit=0.25)}, {**SIGNS, "clip": [ClipByValue(limit=2), ClipByValue(limit=0.5)]}),
        ({**SIGNS, "weight_decay": 0, "clip": ClipByNorm(max_norm=1)}, {**SIGNS, "weight_decay": 0}),
    ],
)
def test_an_axis_counts_only_where_it_changes_numbers(a, b):
    left, right = RMSPropConfig(**a), RMSPropConfig(**b)
    assert left != right
    assert differences(left, right) == ()
    assert left.equivalent(right)
    assert same(movement(left), movement(right))


@pytest.mark.parametrize(
    ("fields", "change"),
    [
        # With epsilon = 0 the size of gradients tells only beside a decay, a clip, or a first mean square …
        ({"epsilon": 0, "weight_decay": 0.125, "weight_decay_mode": "l2"}, {"loss_scale": 8}),
        ({"epsilon": 0, "weight_decay": 0.125, "weight_decay_mode": "l1"}, {"loss_scale": 8}),
        ({"epsilon": 0, "clip": ClipByValue(limit=0.25)}, {"loss_scale": 8}),
        ({"epsilon": 0, "initial_mean_square": 1}, {"loss_scale": 8}),
        ({"epsilon": 1e-3}, {"loss_scale": 8}),
        # … and with rho = 0 as well, limits of it only beside a decay.
        ({"rho": 0, "epsilon": 0, "weight_decay": 0.125, "weight_decay_mode": "l2"}, {"clip": ClipByValue(limit=0.25)}),
        (SIGNS, {"clip": ClipByValue(limit=0.125)}),
        (SIGNS, {"clip": ClipByNorm(max_norm=1)}),
        ({**SIGNS, "clip": ClipByValue(limit=0.25)}, {"clip": ClipByValue(limit=0.0625)}),
        ({"rho": 0, "epsilon": 1e-3}, {"clip": ClipByValue(limit=0.25)}),
        ({"epsilon": 0}, {"clip": ClipByValue(limit=0.25)}),
        ({"momentum": 0.75}, {"nesterov": True}),
        ({}, {"bias_correction": True}),
        ({}, {"centered": True}),
    ],
)
def test_an_axis_counts_where_it_changes_numbers(fields, change):
    wanted = RMSPropConfig(**{"learning_rate": 0.01, "rho": RHO, **fields})
    found = differences(wanted, wanted.replace(**change))
    assert [difference.axis for difference in found] == list(change)
    assert verdict(found) is truth(wanted, wanted.replace(**change))


def test_every_field_is_an_axis():
    assert {axis.field for axis in AXES} == set(RMSPropConfig.model_fields)


def test_a_guard_alone_leaves_the_numbers_exact_and_is_named():
    found = differences(RMSPropConfig(centered=True), RMSPropConfig(centered=True, negative_variance="skip"))
    assert [difference.axis for difference in found] == ["negative_variance"]
    assert verdict(found) is Fidelity.EXACT


def test_a_guard_against_what_every_first_step_does_is_no_edge_case():
    # With bias correction v = a*a after one gradient, and rounding puts their difference on either side of 0.
    fields = {"centered": True, "bias_correction": True, "epsilon": 1e-3}
    for placement, fidelity in (("inside_sqrt", Fidelity.EXACT), ("outside_sqrt", Fidelity.APPROXIMATE)):
        wanted = RMSPropConfig(**fields, epsilon_placement=placement, negative_variance="skip")
        native = wanted.to_native("optax")
        assert [difference.axis for difference in native.differences] == ["negative_variance"]
        assert native.fidelity is fidelity
        assert truth(wanted, native.meaning) is fidelity


def test_what_a_filled_in_mean_square_brings_with_it_counts():
    # With epsilon = 0 the size of gradients is nothing from a mean square of 0, and much from one of 1.
    scaled = RMSPropConfig(epsilon=0, loss_scale=8)
    for wanted, actual, axes in (
        (scaled.replace(initial_mean_square=1), RMSPropConfig(epsilon=0), ["initial_mean_square", "loss_scale"]),
        (scaled, RMSPropConfig(epsilon=0, initial_mean_square=1), ["initial_mean_square"]),
    ):
        found = differences(wanted, actual)
        assert [difference.axis for difference in found] == axes
        assert verdict(found) is truth(wanted, actual)


def test_the_weakest_verdict_wins():
    found = differences(
        RMSPropConfig(momentum=0.9), RMSPropConfig(momentum=0.9, lr_in_momentum=False, initial_mean_square=1)
    )
    assert {difference.fidelity for difference in found} == {Fidelity.SEEDED, Fidelity.CONSTANT_LR}
    assert str(verdict(found)) == "constant-lr"


@pytest.mark.parametrize(
    ("wanted", "actual", "consequences"),
    [
        ({"momentum": 0.9, "nesterov": True}, {"momentum": 0.9}, ["no step looks ahead"]),
        ({"momentum": 0.9}, {}, ["steps do not accumulate"]),
        (
            {"momentum": 0.9, "lr_in_momentum": False},
            {"momentum": 0.9},
            ["after a change of the learning rate, steps already in the buffer keep the old rate"],
        ),
        ({"weight_decay": 0.1}, {}, ["weights are not decayed"]),
        (
            {"weight_decay": 0.1, "weight_decay_mode": "l1"},
            {"weight_decay": 0.1, "weight_decay_mode": "l2"},
            ["decay adds the weight"],
        ),
        ({"clip": JOINT}, {}, ["large gradients are not limited"]),
        ({}, {"ema_decay": 0.9}, ["there is a running mean of the weights"]),
        (
            {"gradient_centralization": "first_axis"},
            {"gradient_centralization": "last_axis"},
            ["gradients of matrices lose their mean over other axes"],
        ),
        (
            {"non_finite": "skip", "sparse": "lazy"},
            {},
            [
                "a gradient with an infinity or NaN spoils the weights and the state",
                "gradients that come as rows decay and move the other rows, too",
            ],
        ),
    ],
)
def test_a_consequence_says_what_the_class_does(wanted, actual, consequences):
    found = differences(RMSPropConfig(**wanted), RMSPropConfig(**actual))
    assert [difference.consequence for difference in found] == consequences


def test_what_the_consequences_say_of_steps_is_true():
    """The first steps from another mean square, and where the divisor is no number > 0."""
    plain = RMSPropConfig(rho=0.9)
    for first, other, word in ((0, 1, "shorter"), (1, 0.5, "longer")):
        (found,) = differences(plain.replace(initial_mean_square=first), plain.replace(initial_mean_square=other))
        assert f"first steps are {word}" in found.consequence
        ways = [movement_of(plain.replace(initial_mean_square=v), [2.0]) for v in (first, other)]
        assert (abs(ways[1]) < abs(ways[0])) == (word == "shorter")
    centered = plain.replace(centered=True, negative_variance="skip")
    (found,) = differences(centered, centered.replace(negative_variance="propagate"))
    assert found.consequence.endswith("become NaN or infinite")
    assert movement_of(centered, [np.inf]) == 0
    assert np.isnan(movement_of(centered.replace(negative_variance="propagate"), [np.inf]))


def movement_of(config, gradients):
    params = {"w": np.zeros(1)}
    state = reference.init(config, params)
    for gradient in gradients:
        params, state = reference.step(config, params, {"w": np.array([gradient])}, state)
    return float(params["w"][0])


def test_a_remedy_is_one_for_the_class_and_for_the_side():
    config = RMSPropConfig(nesterov=True, momentum=0.9, ema_decay=0.9, sparse="lazy")
    remedies = {d.axis: d.remedy for d in config.to_native("paddle").differences}
    assert remedies["nesterov"] == remedies["sparse"] == 'use unirms.build(…, policy="exact")'
    assert remedies["ema_decay"].startswith("average the weights yourself, or use unirms.build")
    remedies = {d.axis: d.remedy for d in config.to_native("timm").differences}
    assert remedies["nesterov"] == "unirms.build computes it in torch, keras, mindspore, paddle"
    assert remedies["ema_decay"] == "average the weights yourself"
    (found,) = (d for d in RMSPropConfig().to_native("tf1").differences if d.axis == "sparse")
    assert found.remedy == "turn sparse gradients into dense ones"
    for name in ALL:
        for difference in config.to_native(name).differences:
            assert ("use unirms.build" in difference.remedy) <= bool(dialects.get(name).framework)
        for warning in config.to_native(name).warnings:
            assert ("use unirms.build" in warning.fix) == bool(dialects.get(name).framework)


def test_a_difference_reads_as_a_sentence():
    (difference,) = RMSPropConfig.from_native("torch").to_native("pfrl").differences
    assert str(difference).startswith("epsilon_placement is inside_sqrt instead of outside_sqrt (where gradients")
