"""The reference: against arithmetic by hand, against a scalar loop, and against recorded runs of real releases."""

import math
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unirms import ClipByGlobalNorm, ClipByNorm, ClipByValue, RMSPropConfig, UnsupportedError, dialects, reference
from unirms.conformance.recordings import Recording, recordings


def one_step(config, weight=1.0, grad=2.0, dtype=np.float64):
    params = {"w": np.asarray([weight], dtype)}
    done, state = reference.step(config, params, {"w": np.asarray([grad], dtype)}, reference.init(config, params))
    return done["w"][0], state


# rho 0.75, gradient 2: the mean square becomes 0.25 * 4 = 1, the centered variance 1 - 0.5 * 0.5 = 0.75.
BASE = RMSPropConfig(learning_rate=0.5, rho=0.75, epsilon=0.25)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 1 - 0.5 * 2 / math.sqrt(1.25)),
        ({"epsilon_placement": "outside_sqrt"}, 1 - 0.5 * 2 / 1.25),
        ({"centered": True}, 1 - 0.5 * 2 / math.sqrt(0.75 + 0.25)),
        ({"initial_mean_square": 4}, 1 - 0.5 * 2 / math.sqrt(3 + 1 + 0.25)),
        ({"bias_correction": True}, 1 - 0.5 * 2 / math.sqrt(4 + 0.25)),
        ({"momentum": 0.5, "nesterov": True}, 1 - 1.5 * 0.5 * 2 / math.sqrt(1.25)),
        ({"momentum": 0.5, "nesterov": True, "lr_in_momentum": False}, 1 - 0.5 * 1.5 * 2 / math.sqrt(1.25)),
        ({"maximize": True}, 1 + 0.5 * 2 / math.sqrt(1.25)),
        ({"loss_scale": 4}, 1 - 0.5 * 0.5 / math.sqrt(0.25 * 0.25 + 0.25)),
        ({"weight_decay": 0.5, "weight_decay_mode": "l2"}, 1 - 0.5 * 2.5 / math.sqrt(0.25 * 6.25 + 0.25)),
        ({"weight_decay": 0.5, "weight_decay_mode": "decoupled"}, 0.75 - 0.5 * 2 / math.sqrt(1.25)),
        ({"weight_decay": 0.5, "no_weight_decay": "w"}, 1 - 0.5 * 2 / math.sqrt(1.25)),
        ({"groups": [{"match": "w", "learning_rate_factor": 2}]}, 1 - 1.0 * 2 / math.sqrt(1.25)),
        ({"clip": ClipByValue(limit=1)}, 1 - 0.5 * 1 / math.sqrt(0.25 + 0.25)),
        ({"clip": ClipByNorm(max_norm=1), "maximize": True}, 1 + 0.5 * 1 / math.sqrt(0.25 + 0.25)),
    ],
    ids=str,
)
def test_one_step_by_hand(changes, expected):
    assert one_step(BASE.replace(**changes))[0] == pytest.approx(expected, rel=1e-15)


def test_the_buffer_keeps_an_old_rate_only_when_it_is_inside():
    moved = {}
    for inside in (True, False):
        config = BASE.replace(momentum=0.5, rho=0, epsilon=0, lr_in_momentum=inside)
        params = {"w": np.zeros(1)}
        state = reference.init(config, params)
        for rate in (0.5, 0.125):  # g / |g| = 1, so the steps are the rates
            params, state = reference.step(config.replace(learning_rate=rate), params, {"w": np.ones(1)}, state)
        moved[inside] = -params["w"][0]
    assert moved == {True: 0.5 + (0.25 + 0.125), False: 0.5 + 0.125 * 1.5}


@pytest.mark.parametrize(("answer", "expected"), [("propagate", math.nan), ("skip", 1.0), ("clamp", math.nan)], ids=str)
def test_a_denominator_of_zero(answer, expected):
    config = RMSPropConfig(epsilon=0, centered=True, momentum=0.5, negative_variance=answer)
    weight, state = one_step(config, grad=0.0)
    assert np.array_equal(weight, expected, equal_nan=True)
    assert np.array_equal(state.momentum["w"][0], expected - 1, equal_nan=True)


def test_a_variance_rounded_below_zero():
    # In float32 the mean of constant gradients squared overtakes the mean square after some dozens of steps.
    weights = {}
    for answer in ("propagate", "skip", "clamp"):
        config = RMSPropConfig(learning_rate=1e-3, epsilon=1e-12, centered=True, negative_variance=answer)
        params = {"w": np.ones(64, np.float32)}
        grads = {"w": np.linspace(0.1, 1, 64, dtype=np.float32)}
        state = reference.init(config, params)
        for _ in range(300):
            params, state = reference.step(config, params, grads, state)
        weights[answer] = params["w"]
    assert np.isnan(weights["propagate"]).any()
    assert np.isfinite(weights["skip"]).all()
    assert np.isfinite(weights["clamp"]).all()


def test_a_nan_gradient_stays_where_it_is():
    config = RMSPropConfig()
    params = {"w": np.ones(3)}
    done, _ = reference.step(config, params, {"w": np.array([1, np.nan, 1])}, reference.init(config, params))
    assert np.isnan(done["w"]).tolist() == [False, True, False]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_it_follows_the_dtype_of_its_arrays(dtype):
    config = RMSPropConfig(
        momentum=0.5, nesterov=True, centered=True, weight_decay=0.1, bias_correction=True, epsilon=0.01
    )
    params = {"w": np.ones(3, dtype), "s": np.asarray(1, dtype)}
    state = reference.init(config, params)
    grads = {"w": np.ones(3, dtype), "s": np.asarray(1, dtype)}
    params, state = reference.step(config, params, grads, state)
    assert {params["w"].dtype, params["s"].dtype} == {np.dtype(dtype)}
    assert {values.dtype for slot in state.slots().values() for values in slot.values()} == {np.dtype(dtype)}


def test_hyperparameters_are_rounded_once_and_after_the_arithmetic():
    # 1 - float32(0.9) is 0.10000002, float32(1 - 0.9) is 0.1.
    _, state = one_step(RMSPropConfig(rho=0.9), grad=1.0, dtype=np.float32)
    assert state.mean_square["w"][0] == np.float32(1 - 0.9) != np.float32(1) - np.float32(0.9)


def test_it_is_pure():
    config = RMSPropConfig(momentum=0.9, centered=True, weight_decay=0.1, negative_variance="skip")
    params, grads = {"w": np.ones(3), "idle": np.ones(2)}, {"w": np.full(3, 0.5)}
    state = reference.init(config, params)
    kept = {slot: {name: value.copy() for name, value in arrays.items()} for slot, arrays in state.slots().items()}
    done, after = reference.step(config, params, grads, state)
    assert params["w"].tolist() == [1, 1, 1]
    assert grads["w"].tolist() == [0.5, 0.5, 0.5]
    assert all(
        np.array_equal(value, state.slots()[slot][name]) for slot, a in kept.items() for name, value in a.items()
    )
    assert (state.step, after.step) == (0, 1)
    assert done["idle"] is params["idle"]


def test_slots_exist_where_they_are_used():
    params = {"w": np.ones(2)}
    plain = reference.init(RMSPropConfig(), params).slots()
    assert {slot for slot, arrays in plain.items() if arrays} == {"mean_square"}
    full = reference.init(RMSPropConfig(momentum=0.9, centered=True), params).slots()
    assert {slot for slot, arrays in full.items() if arrays} == {"mean_square", "mean_gradient", "momentum"}
    assert reference.init(RMSPropConfig(ema_decay=0.9), params).slots()["average"]


@pytest.mark.parametrize(
    "call",
    [
        lambda c: reference.init(c, {"w": np.ones(2, int)}),
        lambda c: reference.init(c, {"w": [1.0]}),
        lambda c: reference.step(c, {"w": np.ones(2)}, {"v": np.ones(2)}, reference.init(c, {"w": np.ones(2)})),
        lambda c: reference.step(c, {"w": np.ones(2)}, {"w": np.ones(3)}, reference.init(c, {"w": np.ones(2)})),
    ],
)
def test_bad_arrays_are_refused(call):
    with pytest.raises(UnsupportedError):
        call(RMSPropConfig())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clips(dtype):
    grads = {"a": np.asarray([3, 4], dtype), "b": np.asarray([0.0, 0.0], dtype), "c": np.asarray([12.0], dtype)}
    by_value = ClipByValue(limit=3.5).apply(grads)
    by_norm = ClipByNorm(max_norm=1).apply(grads)
    together = ClipByGlobalNorm(max_norm=6.5).apply(grads)
    assert [by_value[n].tolist() for n in "abc"] == [[3, 3.5], [0, 0], [3.5]]
    assert by_norm["a"].tolist() == pytest.approx([0.6, 0.8])
    assert by_norm["b"].tolist() == [0, 0]
    assert [together[n].tolist() for n in "abc"] == [[1.5, 2], [0, 0], [6]]
    assert ClipByGlobalNorm(max_norm=100).apply(grads)["a"].tolist() == [3, 4]
    assert by_norm["a"].dtype == together["a"].dtype == dtype


def test_clips_act_in_order_and_before_decay():
    clips = [ClipByNorm(max_norm=10), ClipByValue(limit=1)]
    config = BASE.replace(clip=clips, weight_decay=0.5, weight_decay_mode="l2")
    assert one_step(config)[0] == pytest.approx(1 - 0.5 * 1.5 / math.sqrt(0.25 * 2.25 + 0.25), rel=1e-15)


@pytest.mark.parametrize("recording", list(recordings()), ids=lambda recording: recording.name)
def test_recorded_runs_are_reproduced(recording):
    error = recording.replay()
    assert recording.passed(error), error


@pytest.mark.parametrize("recording", list(recordings()), ids=lambda recording: recording.name)
def test_recorded_accumulators_are_reproduced(recording):
    replayed, recorded = recording.final_state()
    limit = 1e-12 if recording.record["dtype"] == "float64" else 2e-3
    for slot, arrays in recorded.items():
        for name, values in replayed[slot].items():
            # Paddle and MindSpore keep a buffer even without momentum; the replay has none to compare.
            assert np.linalg.norm(arrays[name] - values) <= limit * np.linalg.norm(values), (slot, name)


def test_every_class_that_no_test_installs_has_recorded_runs():
    installed = {"torch", "keras", "tf1", "mindspore", "mindspore-experimental", "paddle"}
    assert {recording.dialect for recording in recordings()} >= {*dialects.all_dialects()} - installed


# Beginning of a record's name -> what its config must not be.
WRONG = {
    "large-epsilon": lambda right: {
        "epsilon_placement": {"inside_sqrt": "outside_sqrt", "outside_sqrt": "inside_sqrt"}[right.epsilon_placement]
    },
    "schedule-momentum": lambda right: {"lr_in_momentum": not right.lr_in_momentum},
    "rate-outside-the-buffer": lambda right: {"lr_in_momentum": True},
    "low-rho": lambda right: {"initial_mean_square": 1.0 - right.initial_mean_square},
    "weight-decay": lambda right: {"weight_decay_mode": "decoupled"},
    "decoupled-weight-decay": lambda right: {"weight_decay_mode": "l2"},
    "l1-decay": lambda right: {"weight_decay_mode": "l2"},
    "nesterov-without-momentum": lambda right: {"momentum": 0.5},
    "nesterov": lambda right: {"nesterov": False},
    "bias-correction": lambda right: {"bias_correction": False},
    "clip": lambda right: {"clip": ()},
}


@dataclass(frozen=True)
class Misread(Recording):
    """A recording whose keyword arguments are taken for something else."""

    @property
    def config(self):
        right = super().config
        return right.replace(**next(wrong(right) for name, wrong in WRONG.items() if self.begins(name)))

    def begins(self, name):
        return self.record["name"].startswith(name)


@pytest.mark.parametrize(
    "recording",
    [r for r in recordings() if r.record["name"].startswith(tuple(WRONG))],
    ids=lambda recording: recording.name,
)
def test_a_wrong_meaning_does_not_reproduce_a_recording(recording):
    wrong = Misread(recording.system, recording.dialect, recording.record)
    assert not wrong.passed(wrong.replay())


numbers = st.floats(-3, 3, allow_nan=False, width=32)


@given(
    st.lists(numbers, min_size=1, max_size=8),
    numbers,
    st.builds(
        RMSPropConfig,
        rho=st.sampled_from([0.0, 0.5, 0.99]),
        epsilon=st.sampled_from([1e-8, 1e-2]),
        epsilon_placement=st.sampled_from(["inside_sqrt", "outside_sqrt"]),
        momentum=st.sampled_from([0.0, 0.9]),
        lr_in_momentum=st.booleans(),
        initial_mean_square=st.sampled_from([0.0, 1.0]),
        weight_decay=st.sampled_from([0.0, 0.1]),
    ),
)
def test_against_a_scalar_loop_in_python(grads, weight, config):
    params = {"w": np.asarray([weight])}
    state = reference.init(config, params)
    w, v, m = weight, config.initial_mean_square, 0.0
    rate, mu, decay = config.learning_rate, config.momentum, config.weight_decay
    for g in grads:
        params, state = reference.step(config, params, {"w": np.asarray([g])}, state)
        w -= rate * decay * w
        v = config.rho * v + (1 - config.rho) * g * g
        inside = config.epsilon_placement == "inside_sqrt"
        den = math.sqrt(v + config.epsilon) if inside else math.sqrt(v) + config.epsilon
        m = mu * m + (rate if config.lr_in_momentum else 1.0) * g / den
        w -= m if config.lr_in_momentum else rate * m
    assert params["w"][0] == pytest.approx(w, rel=1e-12, abs=1e-14)
