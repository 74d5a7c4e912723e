"""A schedule as the learning rate of a config: what the config, the reference and the verdicts make of it."""

import numpy as np
import pytest

from unirms import ConfigError, Fidelity, RMSPropConfig, reference, schedules
from unirms.semantics import differences

COSINE = schedules.Cosine(initial_learning_rate=0.1, decay_steps=10)


def walk(config, steps):
    params, rng = {"w": np.ones(3)}, np.random.default_rng(1)
    state, seen = reference.init(config, params), []
    for step in range(steps):
        now = config if isinstance(config, RMSPropConfig) else config(step)
        params, state = reference.step(now, params, {"w": rng.standard_normal(3)}, state)
        seen.append(params["w"])
    return np.array(seen)


def test_the_reference_asks_the_schedule_for_each_update():
    config = RMSPropConfig(learning_rate=COSINE, momentum=0.9, weight_decay=0.1)
    params, rng = {"w": np.ones(3)}, np.random.default_rng(1)
    state = reference.init(config, params)
    by_hand, by_hand_state = dict(params), state
    for step in range(15):
        grads = {"w": rng.standard_normal(3)}
        params, state = reference.step(config, params, grads, state)
        now = config.replace(learning_rate=COSINE.value(step))
        by_hand, by_hand_state = reference.step(now, by_hand, grads, by_hand_state)
        assert np.array_equal(params["w"], by_hand["w"])
    late = config.replace(learning_rate=schedules.Cosine(initial_learning_rate=0.1, decay_steps=11))
    assert not np.allclose(walk(late, 15)[-1], walk(config, 15)[-1])


def test_a_mapping_is_a_schedule():
    stated = {"kind": "cosine", "initial_learning_rate": 0.1, "decay_steps": 10}
    config = RMSPropConfig(learning_rate=stated)
    assert config.learning_rate == COSINE
    assert (config.initial_learning_rate, config.learning_rate_at(5), config.has_constant_rate) == (0.1, 0.05, False)
    assert RMSPropConfig.model_validate_json(config.model_dump_json()) == config
    assert hash(config) == hash(RMSPropConfig(learning_rate=COSINE))


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        ({"kind": "cosin"}, "learning_rate must be one of 'constant', 'step'"),
        ({}, "learning_rate must be a mapping with the field kind"),
        ({"kind": "cosine"}, "learning_rate.initial_learning_rate is missing"),
        ({"kind": "table", "learning_rates": [1, -2]}, "learning_rates.1 must be a finite number >= 0"),
        ({"kind": "table", "learning_rates": [1], "foo": 1}, "table has the fields kind, learning_rates"),
        (
            {"kind": "step", "initial_learning_rate": 1, "step_size": 1.5},
            "step_size must be a whole number",
        ),
        ({"kind": "piecewise", "boundaries": [3], "learning_rates": [1]}, "boundaries=[3] need 2 learning_rates"),
        ("cosine", "learning_rate must be a finite number >= 0"),
    ],
)
def test_a_wrong_schedule_is_refused_in_one_sentence(rate, message):
    with pytest.raises(ConfigError) as caught:
        RMSPropConfig(learning_rate=rate)
    assert message in str(caught.value)


def test_a_schedule_that_stays_is_its_rate():
    constant = RMSPropConfig(learning_rate=schedules.Constant(learning_rate=0.5))
    assert constant.has_constant_rate
    assert constant.equivalent(RMSPropConfig(learning_rate=0.5))
    assert not constant.equivalent(RMSPropConfig(learning_rate=0.4))


def test_a_group_has_the_schedule_times_its_factor():
    config = RMSPropConfig(learning_rate=COSINE, groups=[{"match": "head.*", "learning_rate_factor": 0.1}])
    assert config.for_parameter("head.w").learning_rate == COSINE.scaled(0.1)
    assert config.for_parameter("body.w").learning_rate == COSINE


def test_under_a_schedule_the_buffer_convention_is_no_matter_of_a_constant_rate():
    moving, still = RMSPropConfig(learning_rate=COSINE, momentum=0.9), RMSPropConfig(momentum=0.9)
    for config, fidelity in ((moving, Fidelity.APPROXIMATE), (still, Fidelity.CONSTANT_LR)):
        (difference,) = differences(config, config.replace(lr_in_momentum=False))
        assert difference.fidelity is fidelity


def test_the_formula_names_the_schedule():
    text = RMSPropConfig(learning_rate=COSINE).explain()
    assert "lr = cosine(t; initial_learning_rate=0.1, end_learning_rate=0, decay_steps=10, periodic=off)" in text
    assert "w = w − lr g / den" in text
