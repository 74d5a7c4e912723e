"""Verdicts: derived from the update rule, and confirmed by numbers."""

import itertools

import numpy as np
import pytest

from unirms import Fidelity, RMSPropConfig, dialects, reference
from unirms.semantics import AXES, differences, verdict

FOUR = ("torch", "keras", "mindspore", "paddle")


def movement(config, *, seeded_with=None, changes_rate=False):
    """Return the float64 movement on a stream that shows every axis: small and large gradients, epsilon visible."""
    rng = np.random.default_rng(3)
    params = {"w.gamma": rng.standard_normal(5), "w": rng.standard_normal(50)}
    params["w"][7] = 0.0  # with its gradient always 0: where epsilon = 0 shows, also under weight decay
    state = reference.init(config if seeded_with is None else seeded_with, params)
    start, scales = params["w"], 10.0 ** -np.linspace(0, 4, 50)
    for step in range(20):
        rate = config.learning_rate * (0.5 if changes_rate and step >= 10 else 1)
        grads = {"w": rng.standard_normal(50) * scales, "w.gamma": rng.standard_normal(5)}
        grads["w"][7] = 0.0
        params, state = reference.step(config.replace(learning_rate=rate), params, grads, state)
    return np.concatenate([params["w"] - start, params["w.gamma"]])


def same(left, right):
    return np.allclose(left, right, rtol=1e-9, atol=1e-13, equal_nan=True)


SOURCES = [
    {"momentum": momentum, "centered": centered, "weight_decay": decay, "epsilon": epsilon}
    for momentum, centered, decay, epsilon in itertools.product((0.0, 0.75), (False, True), (0.0, 0.125), (0.0, 1e-3))
]


CASES = [
    (source, target, fields)
    for source, target, fields in itertools.product(FOUR, FOUR, SOURCES)
    if source != "mindspore" or fields["epsilon"] > 0  # the class refuses 0
]


@pytest.mark.parametrize(("source", "target", "fields"), CASES, ids=str)
def test_every_verdict_is_true_in_numbers(source, target, fields):
    dialect = dialects.get(source)
    wanted = dialect.read({dialect.name_of(name): value for name, value in {"learning_rate": 0.01, **fields}.items()})
    native = wanted.to_native(target)
    actual = native.meaning
    plain = same(movement(wanted, changes_rate=True), movement(actual, changes_rate=True))
    seeded = same(movement(wanted, changes_rate=True), movement(actual, seeded_with=wanted, changes_rate=True))
    constant = same(movement(wanted), movement(actual, seeded_with=wanted))
    truth = (
        Fidelity.EXACT
        if plain
        else Fidelity.SEEDED
        if seeded
        else Fidelity.CONSTANT_LR
        if constant
        else Fidelity.APPROXIMATE
    )
    assert native.fidelity is truth, [str(difference) for difference in native.differences]


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
    ],
)
def test_an_axis_counts_only_where_it_changes_numbers(a, b):
    left, right = RMSPropConfig(**a), RMSPropConfig(**b)
    assert left != right
    assert differences(left, right) == ()
    assert left.equivalent(right)
    assert same(movement(left), movement(right))


def test_every_field_is_an_axis():
    assert {axis.field for axis in AXES} == set(RMSPropConfig.model_fields)


def test_a_guard_alone_leaves_the_numbers_exact_and_is_named():
    found = differences(RMSPropConfig(centered=True), RMSPropConfig(centered=True, negative_variance="skip"))
    assert [difference.axis for difference in found] == ["negative_variance"]
    assert verdict(found) is Fidelity.EXACT


def test_the_weakest_verdict_wins():
    found = differences(
        RMSPropConfig(momentum=0.9), RMSPropConfig(momentum=0.9, lr_in_momentum=False, initial_mean_square=1)
    )
    assert {difference.fidelity for difference in found} == {Fidelity.SEEDED, Fidelity.CONSTANT_LR}
    assert str(verdict(found)) == "constant-lr"


def test_a_difference_reads_as_a_sentence():
    (difference,) = RMSPropConfig.from_native("torch").to_native("pfrl").differences
    assert str(difference).startswith("epsilon_placement is inside_sqrt instead of outside_sqrt (where gradients")
