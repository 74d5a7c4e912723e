"""A learning rate that goes down at a plateau: its rates, its form, and what configs and dialects make of it."""

import json
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import unirms
from tests.strategies import plateaus
from unirms import ConfigError, Fidelity, NativeCall, RMSPropConfig, dialects
from unirms.dialects.schedules import keras, paddle, torch
from unirms.effects import effect
from unirms.files import from_text, to_text
from unirms.schedules import Constant, Cosine, Plateau
from unirms.schedules.forms import canonical
from unirms.schedules.plateau import LONG_LADDER
from unirms.semantics import differences

B = 0.5
# Powers of two and their sums, so that every rate and threshold below is exact.
PLAIN = {"initial_learning_rate": B, "factor": 0.5, "patience": 1, "threshold": 0.0, "eps": 0.0}
NAN, INF = math.nan, math.inf
metrics = st.lists(
    st.one_of(st.integers(-4, 4).map(float), st.floats(-10, 10), st.sampled_from([NAN, INF, -INF])), max_size=40
)


def plateau(**changes):
    return Plateau(**{**PLAIN, **changes})


@pytest.mark.parametrize(
    ("changes", "reported", "halvings"),
    [
        ({}, [4, 3, 2, 1], [0, 0, 0, 0]),
        ({}, [4, 4, 4, 4, 4, 4], [0, 0, 1, 1, 2, 2]),
        ({}, [4, 5, 3, 3, 3], [0, 0, 0, 0, 1]),
        ({"patience": 0}, [4, 4, 4], [0, 1, 2]),
        ({"mode": "max"}, [4, 4, 4, 5, 3, 3], [0, 0, 1, 1, 1, 2]),
        # A NaN is no improvement, and nothing is compared with it; neither is the worst infinity.
        ({}, [NAN, NAN, 1, NAN, 1], [0, 1, 1, 1, 2]),
        ({}, [INF, INF, -INF, -INF, -INF], [0, 1, 1, 1, 2]),
        ({"mode": "max"}, [-INF, -INF, INF], [0, 1, 1]),
        # At the threshold there is no improvement, beyond it there is.
        ({"threshold": 0.5, "threshold_mode": "abs", "patience": 0}, [4, 3.5, 3, 3], [0, 1, 1, 2]),
        ({"threshold": 0.5, "threshold_mode": "rel", "patience": 0}, [4, 2, 1, 1], [0, 1, 1, 2]),
        ({"threshold": 0.5, "threshold_mode": "abs", "patience": 0, "mode": "max"}, [3, 3.5, 4], [0, 1, 1]),
        ({"threshold": 0.5, "threshold_mode": "rel", "patience": 0, "mode": "max"}, [2, 3, 4], [0, 1, 1]),
        # Below 0 a relative threshold lies on the other side of the best, so that the same metric is better again.
        ({"threshold": 0.5, "threshold_mode": "rel", "patience": 0}, [-4, -4, -2, -1], [0, 0, 1, 2]),
        # With a relative threshold of 1 nothing is better than the infinity at the start.
        ({"threshold": 1.0, "threshold_mode": "rel", "patience": 0}, [4, -4], [1, 2]),
        # In a cooldown nothing is bad, and an improvement counts.
        ({"patience": 0, "cooldown": 2}, [4, 4, 4, 4, 4], [0, 1, 1, 1, 2]),
        ({"patience": 0, "cooldown": 2}, [4, 4, 2, 3, 3], [0, 1, 1, 1, 2]),
        ({"patience": 0, "min_learning_rate": 0.125}, [4, 4, 4, 4, 4], [0, 1, 2, 2, 2]),
        # A reduction by eps alone is left out.
        ({"patience": 0, "eps": 0.125}, [4, 4, 4, 4], [0, 1, 1, 1]),
        ({"patience": 0, "eps": 0.124}, [4, 4, 4, 4], [0, 1, 2, 2]),
        ({"patience": 0, "min_learning_rate": 1.0}, [4, 4, 4], [0, 0, 0]),
    ],
)
def test_the_rate_after_each_metric(changes, reported, halvings):
    assert plateau(**changes).rates(reported) == [B / 2**count for count in halvings]


def test_the_last_rate_may_be_the_lowest():
    assert plateau(patience=0, min_learning_rate=0.2).rates([1] * 4) == [0.5, 0.25, 0.2, 0.2]
    assert plateau(patience=0, factor=0).rates([1] * 3) == [0.5, 0.0, 0.0]


@given(plateaus, metrics, st.data())
def test_the_rates_go_on_from_any_state(drawn, reported, data):
    states = [drawn.begin()]
    for metric in reported:
        states.append(drawn.after(states[-1], metric))
    assert [state.rate for state in states[1:]] == drawn.rates(reported)
    middle = data.draw(st.integers(0, len(reported)))
    state = states[middle]
    for metric in reported[middle:]:
        state = drawn.after(state, metric)
    assert state == states[-1]


@given(plateaus, metrics)
def test_the_rates_are_those_of_the_ladder(drawn, reported):
    found = list(dict.fromkeys([drawn.initial, *drawn.rates(reported)]))
    ladder = drawn.ladder()
    assert found == [next(ladder) for _ in found]
    assert drawn.is_constant is (len(list(zip(drawn.ladder(), range(2), strict=False))) == 1)


@given(plateaus, metrics, st.sampled_from([0.0, 0.25, 1.0, 8.0]))
def test_a_scaled_plateau_reduces_at_the_same_metrics(drawn, reported, factor):
    # Powers of two, so that nothing is rounded, unless a number is below the smallest that has full precision.
    numbers = (*drawn.rates(reported), drawn.initial, drawn.min_learning_rate, drawn.eps)
    assume(all(number == 0 or number >= 4 * np.finfo(float).tiny for number in numbers))
    assert drawn.scaled(factor).rates(reported) == [rate * factor for rate in drawn.rates(reported)]


@pytest.mark.parametrize("factor", [-1, NAN, "2"])
def test_a_factor_is_a_finite_number(factor):
    with pytest.raises(ConfigError, match="factor must be a finite number >= 0"):
        plateau().scaled(factor)


@given(plateaus, metrics)
@settings(max_examples=200)
def test_plateaus_of_one_canonical_form_have_the_same_rates(drawn, reported):
    found = canonical(drawn)
    if isinstance(found, Constant):
        assert drawn.rates(reported) == [found.learning_rate] * len(reported)
        return
    assert found.rates(reported) == drawn.rates(reported)
    assert canonical(found) == found


def test_where_eps_ends_the_rates_is_found_out():
    assert canonical(plateau(eps=0.2)).min_learning_rate == 0.25
    assert canonical(plateau(eps=0.2)) == canonical(plateau(min_learning_rate=0.25))
    slow = plateau(factor=1 - 1e-6, eps=1e-12)
    assert canonical(slow) == slow.model_copy(update={"threshold_mode": "abs"})
    ladder = slow.ladder()
    assert len([next(ladder) for _ in range(LONG_LADDER + 1)]) == LONG_LADDER + 1


def test_every_field_is_described_and_every_rate_is_scaled():
    assert all(field.description for name, field in Plateau.model_fields.items() if name != "kind")
    assert {name for name in Plateau.model_fields if "learning_rate" in name} | {"eps"} == set(Plateau.RATES)


def test_it_stands_in_the_place_of_the_learning_rate():
    config = RMSPropConfig(learning_rate={"kind": "plateau", "initial_learning_rate": B})
    assert config.learning_rate == Plateau(initial_learning_rate=B)
    assert (config.initial_learning_rate, config.learning_rate_at(10**6), config.has_constant_rate) == (B, B, False)
    assert hash(config) == hash(RMSPropConfig(learning_rate=Plateau(initial_learning_rate=B)))
    grouped = config.replace(groups=[{"match": "head.*", "learning_rate_factor": 0.25}])
    assert grouped.for_parameter("head.w").learning_rate == config.learning_rate.scaled(0.25)


@pytest.mark.parametrize("kind", ["yaml", "json", "toml"])
@given(drawn=plateaus)
@settings(max_examples=30)
def test_files_keep_it(kind, drawn):
    config = RMSPropConfig(learning_rate=drawn)
    assert from_text(to_text(config, kind), kind) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "learning_rate.initial_learning_rate is missing"),
        ({**PLAIN, "factor": 1}, "learning_rate.factor must be a finite number >= 0 and < 1"),
        ({**PLAIN, "patience": 1.5}, "learning_rate.patience must be a whole number"),
        ({**PLAIN, "mode": "up"}, "learning_rate.mode must be one of 'min', 'max'"),
        ({**PLAIN, "eps": -1}, "learning_rate.eps must be a finite number >= 0"),
        ({**PLAIN, "min_lr": 0}, "plateau has the fields kind, initial_learning_rate, factor"),
    ],
)
def test_a_wrong_one_is_refused_in_one_sentence(fields, message):
    with pytest.raises(ConfigError) as caught:
        RMSPropConfig(learning_rate={"kind": "plateau", **fields})
    assert message in str(caught.value)


def test_it_is_no_part_of_a_schedule_and_no_group_has_a_rate_beside_it():
    inside = {"kind": "warmup", "warmup_steps": 5, "after": {"kind": "plateau", **PLAIN}}
    with pytest.raises(ConfigError, match=r"learning_rate\.after must be one of 'constant'"):
        RMSPropConfig(learning_rate=inside)
    with pytest.raises(ConfigError, match="write learning_rate_factor"):
        RMSPropConfig(learning_rate=plateau(), groups=[{"match": "*", "learning_rate": 0.1}])


def test_configs_are_compared_by_what_the_plateaus_do():
    config = RMSPropConfig(learning_rate=plateau(eps=0.2))
    assert config.equivalent(RMSPropConfig(learning_rate=plateau(min_learning_rate=0.25)))
    assert RMSPropConfig(learning_rate=plateau(min_learning_rate=1)).equivalent(RMSPropConfig(learning_rate=B))
    for other in (plateau(patience=2), plateau(mode="max"), Cosine(initial_learning_rate=B, decay_steps=9), B):
        (difference,) = differences(config, config.replace(learning_rate=other))
        assert (difference.axis, difference.fidelity) == ("learning_rate", Fidelity.APPROXIMATE)


def test_the_explanation_says_when_it_goes_down():
    text = " ".join(RMSPropConfig(learning_rate=plateau(patience=2)).explain().split())
    assert "lr = plateau(metrics; initial_learning_rate=0.5, factor=0.5, patience=2" in text
    assert "it starts at 0.5; lr = max(0.5 lr, 0) after 3 metrics in a row that are no improvement" in text
    assert "w = w − lr g / den" in text
    still = RMSPropConfig(learning_rate=plateau(min_learning_rate=1)).explain()
    assert "plateau" not in still


def test_torch_has_all_of_it_beside_the_optimizer():
    drawn = plateau(threshold=0.1, cooldown=3, eps=1e-3, mode="max")
    native = RMSPropConfig(learning_rate=drawn).to_native("torch")
    assert native.kwargs["lr"] == B
    assert native.scheduler.name == "torch.optim.lr_scheduler.ReduceLROnPlateau"
    assert native.meaning.learning_rate == drawn
    default = NativeCall("torch.optim.lr_scheduler.ReduceLROnPlateau", torch.OPTIMIZER)
    assert torch.CLASSES.read(B, default) == Plateau(initial_learning_rate=B)
    assert "# Call scheduler.step(metric) after each measurement of the metric.\nscheduler = torch" in native.code()


def test_one_bound_for_all_groups_of_torch_is_a_difference():
    groups = [{"match": "head.*", "learning_rate_factor": 0.25}]
    for changes, axes in (({}, set()), ({"eps": 1e-3}, {"groups"}), ({"min_learning_rate": 0.1}, {"groups"})):
        config = RMSPropConfig.from_native("torch", lr=B).replace(learning_rate=plateau(**changes), groups=groups)
        assert {difference.axis for difference in config.to_native("torch").differences} == axes


@given(plateaus)
def test_keras_has_thresholds_that_are_differences_and_counts_one_more(drawn):
    native = RMSPropConfig(learning_rate=drawn).to_native("keras")
    if canonical(drawn).__class__ is Constant:
        assert native.scheduler is None
        return
    if drawn.threshold_mode == "rel" and drawn.threshold:
        assert native.scheduler is None
        assert [difference.axis for difference in native.differences] == ["learning_rate"]
        assert "unirms.lr_scheduler" in native.differences[0].remedy
        return
    given = native.scheduler.kwargs
    assert (given["patience"], given["cooldown"]) == (drawn.patience + 1, drawn.cooldown + 1)
    assert native.differences == ()
    assert "# Name your metric as monitor, and call model.fit(…, callbacks=[scheduler])." in native.code()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"factor": 0.1, "patience": 9, "threshold": 1e-4, "threshold_mode": "abs"}),
        ({"patience": 0, "cooldown": 1, "min_delta": -0.5}, {"factor": 0.1, "patience": 0, "threshold": 0.5}),
        ({"monitor": "accuracy", "mode": "max", "cooldown": 3, "min_lr": 0.1}, {"mode": "max", "cooldown": 2}),
    ],
)
def test_a_callback_of_keras_is_read(given, expected):
    found = keras.PLATEAUS.read(B, NativeCall("keras.callbacks.ReduceLROnPlateau", **given))
    assert {name: getattr(found, name) for name in expected} == expected
    assert found.eps == 0


def test_what_keras_leaves_to_the_model_is_refused():
    call = NativeCall("keras.callbacks.ReduceLROnPlateau", "val_accuracy")
    with pytest.raises(ConfigError, match="mode='auto' of monitor='val_accuracy' depends on the model"):
        keras.PLATEAUS.read(B, call)


def test_paddle_has_it_as_its_learning_rate_but_for_cooldowns():
    native = RMSPropConfig(learning_rate=plateau()).to_native("paddle")
    assert native.kwargs["learning_rate"].name == "paddle.optimizer.lr.ReduceOnPlateau"
    assert (native.differences, native.scheduler) == ((), None)
    assert "# Call scheduler.step(metric) after each" in native.code()
    cooling = RMSPropConfig(learning_rate=plateau(cooldown=1)).to_native("paddle")
    assert cooling.kwargs["learning_rate"] == B
    assert [difference.axis for difference in cooling.differences] == ["learning_rate"]
    with pytest.raises(ConfigError, match="does not look at metrics in a cooldown"):
        paddle.CLASSES.read(NativeCall("ReduceOnPlateau", 0.1, cooldown=1))
    read = paddle.CLASSES.read(NativeCall("ReduceOnPlateau", 0.1, "MAX", 0.5, 3))
    assert read == Plateau(initial_learning_rate=0.1, mode="max", factor=0.5, patience=3)


@pytest.mark.parametrize("dialect", list(dialects.all_dialects()))
def test_every_dialect_says_it_or_says_that_it_does_not(dialect):
    for drawn in (plateau(), plateau(threshold=0.1, cooldown=2)):
        native = RMSPropConfig(learning_rate=drawn).to_native(dialect)
        parts = any(difference.axis == "learning_rate" for difference in native.differences)
        said = native.scheduler is not None or not isinstance(
            native.kwargs[dialects.get(dialect).name_of("learning_rate")], float
        )
        assert said is not parts
        assert native.explain()
        assert compile(native.code(), dialect, "exec")


def test_the_reference_and_the_effect_take_its_first_rate():
    config = RMSPropConfig(learning_rate=plateau())
    params, grads = {"w": np.ones(3)}, {"w": np.ones(3)}
    state = unirms.reference.init(config, params)
    found, _ = unirms.reference.step(config, params, grads, state)
    expected, _ = unirms.reference.step(config.replace(learning_rate=B), params, grads, state)
    assert np.array_equal(found["w"], expected["w"])
    assert effect(config.to_native("optax"), scales=[1e-3]).rows


def test_a_config_with_it_is_data():
    config = RMSPropConfig(learning_rate=plateau())
    assert json.loads(config.model_dump_json())["learning_rate"] == {
        "kind": "plateau",
        "initial_learning_rate": 0.5,
        "factor": 0.5,
        "patience": 1,
        "threshold": 0.0,
        "threshold_mode": "rel",
        "mode": "min",
        "cooldown": 0,
        "min_learning_rate": 0.0,
        "eps": 0.0,
    }
