"""The Keras adapter: the numbers of every axis in every mode, and life as a Keras optimizer."""

import copy
import json
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf

import schedule_examples
import unirms
from unirms import RMSPropConfig, reference, schedules
from unirms.adapters.keras import ADAPTER, UniRMSProp
from unirms.adapters.keras import schedules as keras_schedules
from unirms.adapters.keras.schedules import UniRMSSchedule
from unirms.conformance.cases import held_by
from unirms.conformance.measures import Ruler, same_bits

# Of Keras itself, whose variables have an `__array__` of NumPy 1, at each `variable.numpy()`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

# Both sides of the widths at which Eigen's kernels change from vectors to single elements.
SIZES = (1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 100, 1000)
MODES = ("eager", "function", "xla")
DTYPES = ("float32", "float64", "float16", "bfloat16")
# The project's bound for a run of float32 operations (conformance/cases.py); 12 steps stay far below.
LIMIT_ULP = 32

EVERYTHING = {
    "epsilon_placement": "outside_sqrt",
    "momentum": 0.5,
    "nesterov": True,
    "lr_in_momentum": False,
    "centered": True,
    "negative_variance": "clamp",
    "initial_mean_square": 0.25,
    "weight_decay": 0.125,
    "weight_decay_mode": "l2",
    "no_weight_decay": ("p1",),
    "loss_scale": 4.0,
    "maximize": True,
}
AXES = {
    "plain": {},
    "outside": {"epsilon_placement": "outside_sqrt"},
    "momentum": {"momentum": 0.5},
    "momentum without rate": {"momentum": 0.5, "lr_in_momentum": False},
    "nesterov": {"momentum": 0.5, "nesterov": True},
    "nesterov without rate": {"momentum": 0.5, "nesterov": True, "lr_in_momentum": False},
    "centered": {"centered": True},
    "centered skip": {"centered": True, "negative_variance": "skip", "momentum": 0.5},
    "centered clamp": {"centered": True, "negative_variance": "clamp"},
    "first mean square": {"initial_mean_square": 0.25},
    "bias correction": {"bias_correction": True, "initial_mean_square": 1.0, "centered": True},
    "l2": {"weight_decay": 0.125, "weight_decay_mode": "l2"},
    "decoupled": {"weight_decay": 0.125},
    "exempt": {"weight_decay": 0.125, "no_weight_decay": ("p0",)},
    "loss scale": {"loss_scale": 4.0},
    "maximize": {"maximize": True},
    "everything": EVERYTHING,
    "everything, decoupled, skip": EVERYTHING | {"weight_decay_mode": "decoupled", "negative_variance": "skip"},
}


def config_of_axes(**fields):
    """Hyperparameters that every dtype holds exactly, and an epsilon that is large enough to see."""
    return RMSPropConfig(**{"learning_rate": 2.0**-6, "rho": 0.875, "epsilon": 2.0**-7, **fields})


def rate_at(config, step):
    """The rate goes down at step 4 and pauses at steps 7 and 8."""
    return 0.0 if step in {7, 8} else config.learning_rate / (1 if step < 4 else 4)


class Runs:
    """One optimizer beside references in float64 and in its own dtype."""

    def __init__(self, driver, config, *, dtype="float32", mode="eager", sizes=(17, 33), steps=12, policy="exact"):
        rng = np.random.default_rng(3)
        initial = {f"p{i}": held_by(rng.standard_normal(size), dtype) for i, size in enumerate(sizes)}
        run = driver.start(lambda params: unirms.build(config, "keras", params, policy=policy), initial, dtype, mode)
        self.optimizer = run.optimizer
        own = np.float32 if dtype == "bfloat16" else np.dtype(dtype)
        right, twin = (({n: v.astype(kind) for n, v in initial.items()},) for kind in (np.float64, own))
        right, twin = ((*side, reference.init(config, *side)) for side in (right, twin))
        ruler = Ruler(right[0], dtype)
        states = {slot: Ruler(arrays, dtype) for slot, arrays in right[1].slots().items()}
        for step in range(steps):
            # Away from 0, so that float16 holds the squares as normal numbers.
            grads = {n: rng.uniform(0.5, 2, v.shape) * rng.choice((-1, 1), v.shape) for n, v in initial.items()}
            grads = {n: held_by(g, dtype) for n, g in grads.items()}
            now = config.replace(learning_rate=rate_at(config, step))
            run.step(grads, now.learning_rate)
            right = reference.step(now, right[0], {n: g.astype(np.float64) for n, g in grads.items()}, right[1])
            twin = reference.step(now, twin[0], grads, twin[1])
            ruler.observe(right[0], run.weights())
            for slot, arrays in run.state().slots().items():
                states[slot].observe(right[1].slots()[slot], arrays)
        self.ulp = max([ruler.worst.ulp, *(state.worst.ulp for state in states.values())])
        self.same_bits = same_bits(twin[0], run.weights())


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("mode", MODES)
def test_every_axis_matches_the_reference_in_every_mode(driver, mode, axes):
    runs = Runs(driver, config_of_axes(**AXES[axes]), mode=mode, sizes=(33,))
    assert runs.ulp <= LIMIT_ULP


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_eager_updates_have_the_bits_of_the_reference(driver, axes, dtype):
    runs = Runs(driver, config_of_axes(**AXES[axes]), dtype=dtype)
    assert isinstance(runs.optimizer, keras.optimizers.RMSprop)
    # The stock class multiplies by the rate and the decay one after the other, where the reference has one factor.
    assert runs.same_bits or (axes in {"decoupled", "exempt"} and type(runs.optimizer) is keras.optimizers.RMSprop)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_and_dtype_matches_the_reference_at_every_size(driver, mode, dtype):
    assert Runs(driver, config_of_axes(**EVERYTHING), dtype=dtype, mode=mode, sizes=SIZES).ulp <= LIMIT_ULP


@pytest.mark.parametrize("mode", MODES)
def test_hyperparameters_that_float32_cannot_hold_reach_float64_weights(driver, mode):
    config = RMSPropConfig(learning_rate=0.003, epsilon=0.01, momentum=0.9, weight_decay=0.01)
    assert Runs(driver, config, dtype="float64", mode=mode).ulp <= LIMIT_ULP


def test_stock_class_rounds_the_rate_to_float32_for_float64_weights(driver):
    config = RMSPropConfig(learning_rate=0.003, epsilon=0.01)
    with pytest.warns(unirms.FidelityWarning, match=r"learning_rate is 0\.0030000000\d+ instead of 0\.003"):
        runs = Runs(driver, config, dtype="float64", policy="nearest")
    assert runs.ulp > 1e5
    assert unirms.config_of(runs.optimizer).learning_rate == float(np.float32(0.003 / 4))


@pytest.mark.parametrize(("answer", "expected"), [("propagate", np.nan), ("skip", 1.0), ("clamp", np.nan)], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_a_gradient_that_is_not_a_number_gets_the_configured_answer(driver, mode, answer, expected):
    config = config_of_axes(centered=True, negative_variance=answer)
    run = driver.start(lambda p: unirms.build(config, "keras", p), {"w": np.ones(9, np.float32)}, "float32", mode)
    run.step({"w": np.full(9, np.nan, np.float32)}, 0.1)
    np.testing.assert_array_equal(run.weights()["w"], np.full(9, expected, np.float32))


# ---- which class comes back --------------------------------------------------------------------------------------


def weights(*values, name="w", dtype="float32"):
    return keras.Variable(np.array(values or (1.0, -2.0, 3.0)), dtype=dtype, name=name)


@pytest.mark.parametrize(
    ("fields", "dtype", "expected"),
    [
        ({}, "float32", "RMSprop"),
        ({"learning_rate": 0.003, "weight_decay": 0.01}, "float32", "RMSprop"),
        ({"initial_mean_square": 1.0}, "float32", "RMSprop"),
        ({"clip": {"by": "norm", "max_norm": 1.0}}, "float32", "RMSprop"),
        ({"learning_rate": 2.0**-9, "weight_decay": 2.0**-9}, "float64", "RMSprop"),
        ({"learning_rate": 0.003}, "float64", "UniRMSProp"),
        ({"learning_rate": 2.0**-9, "weight_decay": 0.01}, "float64", "UniRMSProp"),
        ({"epsilon_placement": "outside_sqrt"}, "float32", "UniRMSProp"),
        ({"weight_decay": 0.01, "weight_decay_mode": "l2"}, "float32", "UniRMSProp"),
    ],
)
def test_the_stock_class_comes_back_where_it_computes_the_config(fields, dtype, expected):
    assert type(unirms.build(RMSPropConfig(**fields), "keras", [weights(dtype=dtype)])).__name__ == expected


def test_policy_stock_names_what_the_class_cannot_do():
    config = RMSPropConfig(epsilon_placement="outside_sqrt")
    with pytest.raises(unirms.UnrepresentableError, match="epsilon_placement"):
        unirms.build(config, "keras", [weights()], policy="stock")
    with pytest.warns(unirms.FidelityWarning, match="epsilon_placement is inside_sqrt instead of outside_sqrt"):
        nearest = unirms.build(config, "keras", [weights()], policy="nearest")
    assert type(nearest) is keras.optimizers.RMSprop


@pytest.mark.parametrize(
    ("floatx", "expected"),
    [("float32", {"learning_rate", "weight_decay"}), ("float64", {"weight_decay"}), ("float16", {"learning_rate"})],
)
def test_limits_follow_keras_float_type(monkeypatch, floatx, expected):
    # Not set_floatx, which would hold for the tests after this one; what follows it is measured in the next test.
    monkeypatch.setattr(keras.config, "floatx", lambda: floatx)
    config = RMSPropConfig(learning_rate=0.003, weight_decay=0.003)
    variable = weights(dtype="float32" if floatx == "float16" else "float64")
    with pytest.raises(unirms.UnrepresentableError) as error:
        unirms.build(config, "keras", [variable], policy="stock")
    assert {difference.axis for difference in error.value.differences} == expected


def test_stock_class_under_float64_keeps_the_rate_and_rounds_the_decay():
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    try:
        variable = weights(1.0, dtype="float64")
        keras.optimizers.RMSprop(0.003, weight_decay=0.003).apply([np.zeros(1)], [variable])
    finally:
        keras.config.set_floatx(before)
    assert variable.numpy()[0] == 1 - float(np.float32(0.003)) * 0.003 != 1 - 0.003 * 0.003


def test_the_mean_square_of_float64_weights_starts_at_the_double(driver):
    config = config_of_axes(initial_mean_square=0.1, epsilon_placement="outside_sqrt")
    assert unirms.state_of(unirms.build(config, "keras", [weights(dtype="float64")])).mean_square["w"][0] == 0.1
    # Keras's own initializer would have rounded it.
    assert keras.initializers.Constant(0.1)((1,), "float64").numpy()[0] == np.float32(0.1)


def test_refusals():
    config = RMSPropConfig(epsilon_placement="outside_sqrt")
    with pytest.raises(unirms.UnsupportedError, match="dtype int32"):
        unirms.build(config, "keras", [weights(dtype="int32")])
    with pytest.raises(unirms.UnsupportedError, match="dtype complex64"):
        unirms.build(RMSPropConfig(), "keras", [tf.Variable([1 + 1j], dtype="complex64")])
    with pytest.raises(unirms.UnsupportedError, match="no variables yet"):
        unirms.build(config, "keras", keras.Sequential([keras.layers.Dense(1)]))
    with pytest.raises(unirms.UnsupportedError, match="not a parameter"):
        unirms.build(config, "keras", [np.ones(3)])
    with pytest.raises(unirms.UnsupportedError, match="give a model, parameters"):
        unirms.build(config, "keras", 3)
    with pytest.raises(TypeError, match="no clipnorm="):
        UniRMSProp(config, clipnorm=1.0)
    with pytest.raises(unirms.UnsupportedError, match="2 parameter names"):
        UniRMSProp(config, names=["a", "b"]).build([weights()])


def test_stock_class_never_moves_integers():
    variable = weights(1, 2, dtype="int32")
    keras.optimizers.RMSprop(0.5).apply([tf.constant([1, 1])], [variable])
    np.testing.assert_array_equal(variable.numpy(), [1, 2])


# ---- names -------------------------------------------------------------------------------------------------------


def network(seed=1):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        name="net",
        layers=[
            keras.Input((4,)),
            keras.layers.Dense(8, activation="tanh", name="hidden"),
            keras.layers.Dense(1, name="out"),
        ],
    )


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (network, ["net/hidden/kernel", "net/hidden/bias", "net/out/kernel", "net/out/bias"]),
        (lambda: network().layers[0], ["net/hidden/kernel", "net/hidden/bias"]),
        (lambda: {"a": weights(), "b": weights()}, ["a", "b"]),
        (lambda: iter([("a", weights()), ("b", weights())]), ["a", "b"]),
        (weights, ["w"]),
        (lambda: [tf.Variable([1.0], name="q"), weights()], ["q", "w"]),
        (lambda: [weights(), weights(), weights(name="v")], ["0", "1", "v"]),
    ],
)
def test_parameters_are_named_by_path(params, expected):
    for placement in ("inside_sqrt", "outside_sqrt"):
        optimizer = unirms.build(RMSPropConfig(epsilon_placement=placement), "keras", params())
        assert list(unirms.state_of(optimizer).mean_square) == expected


@pytest.mark.parametrize("mode", ["decoupled", "l2"])
def test_exempt_parameters_are_found_again(mode):
    config = RMSPropConfig(weight_decay=0.5, weight_decay_mode=mode, no_weight_decay=("*/bias", "gone"))
    optimizer = unirms.build(config, "keras", network())
    patterns = ("*/bias",) if mode == "l2" else ("net/hidden/bias", "net/out/bias")
    assert unirms.config_of(optimizer) == config.replace(no_weight_decay=patterns)


@pytest.mark.parametrize("mode", ["decoupled", "l2"])
def test_exclusions_made_in_keras_words_count(mode):
    kernel, bias = weights(1.0, name="kernel"), weights(1.0, name="bias")
    config = RMSPropConfig(learning_rate=0.5, weight_decay=0.5, weight_decay_mode=mode)
    optimizer = unirms.build(config, "keras", [kernel, bias])
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.apply([tf.zeros(1), tf.zeros(1)])
    assert kernel.numpy()[0] < 1 == bias.numpy()[0]
    assert unirms.config_of(optimizer).no_weight_decay == ("bias",)


def test_exclusions_of_an_optimizer_that_is_not_built_cannot_be_named():
    optimizer = keras.optimizers.RMSprop(weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    with pytest.raises(unirms.UnsupportedError, match="build it first"):
        unirms.config_of(optimizer)


# ---- back to a config --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", AXES)
def test_config_of_returns_what_was_built(axes):
    params = {"p0": weights(), "p1": weights()}
    config = RMSPropConfig(learning_rate=0.003, **AXES[axes])
    optimizer = unirms.build(config, "keras", params)
    if isinstance(optimizer, UniRMSProp):
        assert unirms.config_of(optimizer) == config
    assert not unirms.semantics.differences(config, unirms.config_of(optimizer))


def test_config_of_reads_the_present_hyperparameters():
    for config in (RMSPropConfig(momentum=0.5), RMSPropConfig(momentum=0.5, maximize=True)):
        optimizer = unirms.build(config, "keras", [weights()])
        optimizer.learning_rate = 0.25
        optimizer.rho, optimizer.epsilon, optimizer.momentum, optimizer.weight_decay = 0.5, 0.125, 0.75, 0.0625
        assert unirms.config_of(optimizer) == config.replace(
            learning_rate=0.25, rho=0.5, epsilon=0.125, momentum=0.75, weight_decay=0.0625
        )


def test_present_hyperparameters_are_computed_with():
    config, variable = config_of_axes(maximize=True, momentum=0.5, weight_decay=0.25), weights()
    optimizer = unirms.build(config, "keras", [variable])
    optimizer.rho, optimizer.epsilon, optimizer.momentum, optimizer.weight_decay = 0.5, 0.125, 0.75, 0.0625
    params, grads = {"w": variable.numpy()}, {"w": np.array([0.5, -1.0, 2.0], np.float32)}
    present = config.replace(rho=0.5, epsilon=0.125, momentum=0.75, weight_decay=0.0625)
    expected, _ = reference.step(present, params, grads, reference.init(present, params))
    optimizer.apply([tf.constant(grads["w"])])
    np.testing.assert_array_equal(variable.numpy(), expected["w"])


def test_config_of_reads_an_optimizer_of_the_users():
    optimizer = keras.optimizers.RMSprop(0.25, rho=0.5, clipnorm=1.0, loss_scale_factor=2.0)
    expected = RMSPropConfig.from_native("keras", learning_rate=0.25, rho=0.5, clipnorm=1.0, loss_scale_factor=2.0)
    assert unirms.config_of(optimizer) == expected
    state = unirms.state_of(optimizer)
    assert (state.step, state.mean_square, state.config) == (0, {}, expected)


@pytest.mark.parametrize("make", [keras.optimizers.RMSprop, lambda **a: UniRMSProp(RMSPropConfig(), **a)])
def test_config_of_refuses_what_no_config_can_say(make):
    with pytest.raises(unirms.ConfigError, match="puts the average into the weights"):
        unirms.config_of(make(use_ema=True, ema_overwrite_frequency=5))


def test_optimizers_of_others_are_not_read():
    with pytest.raises(unirms.ForeignOptimizerError):
        unirms.config_of(keras.optimizers.Adam())


def test_an_rmsprop_within_a_loss_scale_optimizer_is_named():
    wrapper = keras.optimizers.LossScaleOptimizer(keras.optimizers.RMSprop())
    with pytest.raises(unirms.ForeignOptimizerError, match=r"LossScaleOptimizer is not .*; give its \.inner_optimizer"):
        unirms.config_of(wrapper)
    assert unirms.config_of(wrapper.inner_optimizer) == unirms.config_of(keras.optimizers.RMSprop())


def test_state_has_the_slots_that_are_used_as_copies():
    variable = weights(dtype="bfloat16")
    optimizer = unirms.build(RMSPropConfig(centered=True, maximize=True), "keras", [variable])
    before = unirms.state_of(optimizer)
    optimizer.apply([tf.ones(3, tf.bfloat16)])
    after = unirms.state_of(optimizer)
    assert (before.step, after.step) == (0, 1)
    assert [set(slot) for slot in after.slots().values()] == [{"w"}, {"w"}, set(), set()]
    assert before.mean_square["w"].dtype == np.float32
    np.testing.assert_array_equal(before.mean_square["w"], 0)


# ---- life as a Keras optimizer -----------------------------------------------------------------------------------

ODD = RMSPropConfig(
    learning_rate=0.003,
    epsilon=1e-3,
    epsilon_placement="outside_sqrt",
    momentum=0.9,
    lr_in_momentum=False,
    centered=True,
    initial_mean_square=0.25,
    weight_decay=0.01,
    weight_decay_mode="l2",
    no_weight_decay=("*/bias",),
)


def data(seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((32, 4)).astype(np.float32), rng.standard_normal((32, 1)).astype(np.float32)


def fitted(model, optimizer, *, epochs=2, **options):
    model.compile(optimizer=optimizer, loss="mse", **options)
    model.fit(*data(), batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    return {v.path: v.numpy() for v in model.trainable_variables}


def by_hand(config, *, epochs=2):
    """Train the network of `fitted` with the reference and TensorFlow's gradients."""
    model, (x, y) = network(), data()
    params = {v.path: v.numpy() for v in model.trainable_variables}
    state = reference.init(config, params)
    for batch in list(range(0, 32, 8)) * epochs:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x[batch : batch + 8]) - y[batch : batch + 8]) ** 2)
        grads = tape.gradient(loss, [v.value for v in model.trainable_variables])
        grads = {v.path: g.numpy() for v, g in zip(model.trainable_variables, grads, strict=True)}
        params, state = reference.step(config, params, grads, state)
        for variable in model.trainable_variables:
            variable.assign(params[variable.path])
    return params


@pytest.mark.parametrize("options", [{"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}], ids=str)
@pytest.mark.parametrize("ready", [True, False], ids=["built", "not built"])
def test_fit_follows_the_reference(options, ready):
    model = network()
    optimizer = unirms.build(ODD, "keras", model) if ready else UniRMSProp(ODD)
    found = fitted(model, optimizer, **options)
    for path, expected in by_hand(ODD).items():
        # 8 steps of at most 0.02 each; a float32 network's gradients differ by some 1e-7 between modes.
        np.testing.assert_allclose(found[path], expected, rtol=0, atol=2e-6)


def test_an_optimizer_that_is_built_while_tracing_keeps_its_mean_square():
    variable = weights(1.0)
    optimizer = UniRMSProp(config_of_axes(initial_mean_square=1.0))
    step = tf.function(lambda grad: optimizer.apply([grad], [variable]))
    for _ in range(2):
        step(tf.zeros(1))
    assert unirms.state_of(optimizer).mean_square["w"] == [0.875**2]


def test_a_saved_model_goes_on_as_if_never_stopped(tmp_path):
    # Keras loads "net/hidden/bias" as "hidden/bias", which this pattern does not match.
    config = ODD.replace(weight_decay=0.5, no_weight_decay=("net/*/bias",))
    whole = fitted(network(), UniRMSProp(config), epochs=4)
    model = network()
    fitted(model, unirms.build(config, "keras", model))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, UniRMSProp)
    assert unirms.config_of(loaded.optimizer) == config
    loaded.fit(*data(), batch_size=8, epochs=2, shuffle=False, verbose=0)
    for expected, variable in zip(whole.values(), loaded.trainable_variables, strict=True):
        np.testing.assert_array_equal(variable.numpy(), expected)


def test_configs_are_plain_data_that_make_the_same_optimizer():
    params = {"a": weights(), "b": weights()}
    config = ODD.replace(no_weight_decay=("b",))
    optimizer = unirms.build(config, "keras", params, name="mine")
    optimizer.learning_rate, optimizer.rho = 0.1, 0.75
    plain = json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
    for twin in (
        keras.optimizers.deserialize(plain),
        UniRMSProp.from_config(optimizer.get_config()),
        keras.optimizers.get(keras.optimizers.serialize(optimizer)),
    ):
        twin.build(list(params.values()))
        assert twin.get_config() == optimizer.get_config()
        assert unirms.config_of(twin) == config.replace(learning_rate=0.1, rho=0.75)
        assert list(unirms.state_of(twin).mean_square) == ["a", "b"]


@pytest.mark.parametrize("fields", [{}, {"momentum": 0.5}, {"centered": True}, {"momentum": 0.5, "centered": True}])
def test_weights_go_from_the_stock_class_into_ours_and_back(fields):
    config = RMSPropConfig(learning_rate=0.25, **fields)
    ours_at, stock_at = weights(), weights()
    ours = UniRMSProp(config)
    stock = unirms.build(config, "keras", [stock_at], policy="stock")
    ours.build([ours_at])
    suffixes = [[v.path.rpartition("/")[2] for v in optimizer.variables] for optimizer in (ours, stock)]
    assert suffixes[0] == suffixes[1]
    for source, target in ((stock, ours), (ours, stock), (stock, ours)):
        for optimizer in (stock, ours):
            optimizer.apply([tf.constant([0.5, -1.0, 2.0])])
        target.set_weights([v.numpy() for v in source.variables])
    np.testing.assert_array_equal(ours_at.numpy(), stock_at.numpy())


def test_tensorflow_checkpoints_go_both_ways(tmp_path):
    makes = (lambda: UniRMSProp(RMSPropConfig(momentum=0.5)), lambda: keras.optimizers.RMSprop(momentum=0.5))
    for make, other in (makes, makes[::-1]):
        saved, restored = make(), other()
        for optimizer in (saved, restored):
            optimizer.build([weights()])
        saved.apply([tf.ones(3)])
        path = tf.train.Checkpoint(optimizer=saved).save(str(tmp_path / "state"))
        tf.train.Checkpoint(optimizer=restored).restore(path).assert_existing_objects_matched()
        for slot, arrays in unirms.state_of(saved).slots().items():
            assert same_bits(arrays, unirms.state_of(restored).slots()[slot])


def test_the_rate_that_was_written_last_counts():
    config, variable = RMSPropConfig(rho=0.0, epsilon=0.0, maximize=True), weights(0.0, dtype="float64")
    optimizer = UniRMSProp(config)
    optimizer.build([variable])
    step = tf.function(lambda grad: optimizer.apply([grad]))
    for write, expected in (
        (lambda: setattr(optimizer, "learning_rate", 0.1), 0.1),
        (lambda: optimizer.learning_rate.assign(0.2), float(np.float32(0.2))),
        (lambda: optimizer.set_weights([np.array(0), np.array(0.1, np.float32)]), 0.1),
        (lambda: optimizer.set_weights([np.array(0), np.array(0.3, np.float32)]), float(np.float32(0.3))),
    ):
        write()
        variable.assign([0.0])
        step(tf.ones(1, tf.float64))
        assert variable.numpy() == [expected]
        assert unirms.config_of(optimizer).learning_rate == expected


class Step(tf.Module):
    def __init__(self, optimizer):
        super().__init__()
        self.variable = tf.Variable([1.0], name="w")
        self.optimizer = optimizer
        optimizer.build([self.variable])

    @tf.function(input_signature=[tf.TensorSpec([1])])
    def update(self, grad):
        self.optimizer.apply([grad])
        return tf.identity(self.variable)


@pytest.mark.parametrize("make", [lambda: keras.optimizers.RMSprop(0.5), lambda: UniRMSProp(RMSPropConfig())])
def test_a_training_step_can_be_exported(tmp_path, make):
    step = Step(make())
    tf.saved_model.save(step, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_array_equal(loaded.update(tf.ones(1)), step.update(tf.ones(1)))


def test_schedules_drive_the_rate():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.5, 0.25])
    config = RMSPropConfig(rho=0.0, epsilon=0.0, maximize=True)  # then the step is the learning rate
    variable = weights(0.0)
    optimizer = UniRMSProp(config, learning_rate=schedule)
    optimizer.build([variable])
    assigned = unirms.build(config, "keras", [weights(0.0, name="other")])
    assigned.learning_rate = schedule
    for one in (optimizer, UniRMSProp.from_config(optimizer.get_config()), assigned):
        one.build([variable])
        parameter = one._trainable_variables[0]
        parameter.assign([0.0])
        for expected in (0.5, 0.75):
            one.apply([tf.ones(1)])
            assert parameter.numpy() == [expected]
        assert unirms.config_of(one).learning_rate == schedules.Piecewise(boundaries=[1], learning_rates=[0.5, 0.25])


def test_callbacks_change_the_rate():
    model = network()
    optimizer = unirms.build(ODD, "keras", model)
    fitted(model, optimizer)
    model.fit(*data(), verbose=0, callbacks=[keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 3)])
    assert unirms.config_of(optimizer).learning_rate == float(np.float32(0.003)) / 3


def test_loss_scale_scales_the_loss_too():
    plain, scaled = network(), network()
    expected = fitted(plain, unirms.build(ODD, "keras", plain))
    found = fitted(scaled, unirms.build(ODD.replace(loss_scale=1024.0), "keras", scaled))
    for path, value in expected.items():
        np.testing.assert_allclose(found[path], value, rtol=0, atol=2e-6)  # as in test_fit_follows_the_reference


def test_mixed_precision_wraps_it():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = network()
        fitted(model, UniRMSProp(ODD))
    finally:
        keras.config.set_dtype_policy("float32")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert unirms.config_of(model.optimizer.inner_optimizer) == ODD
    assert unirms.state_of(model.optimizer.inner_optimizer).step == 8


def test_accumulated_gradients_count_as_one_update():
    config = config_of_axes(bias_correction=True, initial_mean_square=0.25, weight_decay=0.125)
    once, twice = weights(), weights()
    plain = unirms.build(config, "keras", [once])
    gathering = UniRMSProp(config, gradient_accumulation_steps=2)
    gathering.build([twice])
    for step in range(3):
        grad = tf.constant([0.5, -1.0, 2.0]) * (step + 1)
        plain.apply([grad])
        gathering.apply([grad * 0.5])
        gathering.apply([grad * 1.5])
    np.testing.assert_array_equal(once.numpy(), twice.numpy())
    assert unirms.state_of(gathering).step == unirms.state_of(plain).step == 3


def test_moving_average_of_the_weights_goes_on():
    config, variable = config_of_axes(maximize=True), weights(0.0)
    optimizer = UniRMSProp(config, use_ema=True, ema_momentum=0.5)
    for _ in range(2):
        optimizer.apply([tf.ones(1)], [variable])
    first = reference.step(config, {"w": np.zeros(1)}, {"w": np.ones(1)}, reference.init(config, {"w": np.zeros(1)}))[
        0
    ]["w"]
    expected = (first[0] + variable.numpy()[0]) / 2
    optimizer.finalize_variable_values([variable])
    np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-6)


# ---- traps of Keras ----------------------------------------------------------------------------------------------


def repeated():
    """Rows 1, 1 and 3 of four, with gradients 1, 2 and 4: densely 0, 3, 0, 4."""
    return tf.IndexedSlices(tf.constant([[1.0], [2.0], [4.0]]), tf.constant([1, 1, 3]), tf.constant([4, 1]))


def test_repeated_rows_are_added_before_they_are_squared():
    config = RMSPropConfig(rho=0.0)
    for make, expected in (
        (lambda: keras.optimizers.RMSprop(rho=0.0), [0, 1 + 4, 0, 16]),  # Keras squares row by row
        (lambda: UniRMSProp(config), [0, 9, 0, 16]),
        (lambda: UniRMSProp(config.replace(loss_scale=2.0)), [0, 9 / 4, 0, 4]),
    ):
        optimizer = make()
        optimizer.apply([repeated()], [table()])
        np.testing.assert_array_equal(unirms.state_of(optimizer).mean_square["rows"][:, 0], expected)


def table(rows=4):
    return keras.Variable(np.zeros((rows, 1)), dtype="float32", name="rows")


def test_stock_class_fails_on_repeated_rows_when_centered():
    thrice = tf.IndexedSlices(tf.ones((3, 1)), tf.constant([2, 2, 2]), tf.constant([5, 1]))
    stock, ours = (
        keras.optimizers.RMSprop(1.0, rho=0.5, centered=True),
        UniRMSProp(RMSPropConfig(rho=0.5, centered=True)),
    )
    stock_at, ours_at = table(5), table(5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="is not in"):
        for _ in range(2):
            stock.apply([thrice], [stock_at])
    for _ in range(2):
        ours.apply([thrice], [ours_at])
    assert np.isfinite(ours_at.numpy()).all()


def test_a_model_with_an_embedding_gets_the_exact_class():
    layers = [keras.Input((3,), dtype="int32"), keras.layers.Embedding(5, 2, name="ids"), keras.layers.Flatten()]
    model = keras.Sequential(layers, name="words")
    with pytest.raises(unirms.UnrepresentableError, match="taken row by row"):
        unirms.build(RMSPropConfig(), "keras", model, policy="stock")
    optimizer = unirms.build(RMSPropConfig(rho=0.0), "keras", model)
    model.compile(optimizer=optimizer, loss=lambda y, p: keras.ops.sum(p))
    model.fit(np.array([[2, 2, 2]]), np.zeros((1, 6)), verbose=0)
    np.testing.assert_array_equal(
        unirms.state_of(optimizer).mean_square["words/ids/embeddings"][:, 0], [0, 0, 3**2, 0, 0]
    )


def test_matrices_without_rows_are_updated():
    empty = keras.Variable(np.zeros((0, 3)), dtype="float32", name="empty")
    with pytest.raises(tf.errors.InvalidArgumentError):
        keras.optimizers.RMSprop().apply([tf.zeros((0, 3))], [empty])
    optimizer = unirms.build(RMSPropConfig(), "keras", [empty])
    optimizer.apply([tf.zeros((0, 3))])
    assert unirms.state_of(optimizer).step == 1


def test_variables_without_a_gradient_stay():
    moved, still = weights(), weights(name="v")
    optimizer = unirms.build(RMSPropConfig(weight_decay=0.5, weight_decay_mode="l2"), "keras", [moved, still])
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([tf.ones(3) * 2, None])
    np.testing.assert_array_equal(still.numpy(), [1.0, -2.0, 3.0])
    assert (moved.numpy() != [1.0, -2.0, 3.0]).all()


def test_constraints_hold_after_the_update():
    variable = keras.Variable([0.5], dtype="float32", name="w")
    variable.constraint = keras.constraints.NonNeg()
    unirms.build(RMSPropConfig(learning_rate=2.0, momentum=0.5, nesterov=True), "keras", [variable]).apply([tf.ones(1)])
    assert variable.numpy() == [0.0]


def test_a_network_trains_alike_with_the_driver(driver, rng):
    w = {"w1": (4, 6), "b1": (6,), "w2": (6, 3), "b2": (3,)}
    start = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in w.items()}
    batches = [(rng.standard_normal((8, 4)).astype(np.float32), rng.integers(0, 3, 8)) for _ in range(5)]
    done = driver.train(lambda params: unirms.build(ODD, "keras", params), start, batches)
    assert len(done.losses) == 5
    assert {name: value.shape for name, value in done.weights.items()} == w


# ---- schedules ---------------------------------------------------------------------------------------------------

SCHEDULES = schedule_examples.SCHEDULES
PEAK = schedule_examples.PEAK
NATIVE = {
    "piecewise": "PiecewiseConstantDecay",
    "exponential": "ExponentialDecay",
    "inverse_time": "InverseTimeDecay",
    "polynomial of power 2": "PolynomialDecay",
    "linear": "PolynomialDecay",
    "linear up": "PolynomialDecay",
    "cosine": "CosineDecay",
    "warmup": "CosineDecay",
}
UPDATES = 60
SCHEDULED = {
    "stock": RMSPropConfig(momentum=0.8, epsilon=1e-3, weight_decay=2.0**-7),
    "exact": RMSPropConfig(momentum=0.8, nesterov=True, epsilon=1e-3, weight_decay=0.01, weight_decay_mode="l2"),
}
FAR = (0, 1, 2, 10, 41, 48, 49, 50, 98, 1000, 10**6)


def scheduled(which, schedule, params):
    """Return the stock or the exact optimizer with a schedule."""
    config = SCHEDULED[which].replace(learning_rate=schedule)
    named = ADAPTER.named_parameters(params)
    if which == "exact":
        return ADAPTER.exact(config, named, {})
    return ADAPTER.stock(config.to_native("keras"), config, named, {})


def worst_ulp(driver, which, schedule, mode, *, dtype="float32", make=scheduled, updates=UPDATES):
    # No weight is 0: XLA's rate of 0 may be 1e-17 of the peak, which is no distance at all but from a 0 that stays.
    rng, size = np.random.default_rng(3), 4
    right = {"w": np.linspace(-1, 1, size)}
    run = driver.start(lambda params: make(which, schedule, params), {"w": right["w"].astype(dtype)}, dtype, mode)
    right = {"w": right["w"].astype(dtype).astype(np.float64)}
    config, ruler = SCHEDULED[which].replace(learning_rate=schedule), Ruler(right, dtype)
    state = reference.init(config, right)
    for _ in range(updates):
        grad = (rng.standard_normal(size) * 10.0 ** rng.uniform(-2, 0.5)).astype(dtype)
        right, state = reference.step(config, right, {"w": grad.astype(np.float64)}, state)
        run.step({"w": grad}, None)
        ruler.observe(right, run.weights())
    return ruler.worst.ulp


def compiled(function, mode):
    return function if mode == "eager" else tf.function(function, autograph=False, jit_compile=mode == "xla")


def test_every_kind_of_schedule_is_tried():
    assert {schedule.kind for schedule in SCHEDULES.values()} == set(schedules.KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(
    ("which", "mode"), [("exact", "eager"), *[(which, mode) for which in SCHEDULED for mode in ("function", "xla")]]
)
def test_every_schedule_matches_the_reference_in_every_mode(driver, which, mode, name):
    # An eager update takes 5 ms; what changes later than these does so in the two other modes.
    updates = 20 if mode == "eager" else UPDATES
    assert worst_ulp(driver, which, SCHEDULES[name], mode, updates=updates) <= LIMIT_ULP


@pytest.mark.parametrize("name", sorted(SCHEDULES.keys() - {"constant"}))
def test_a_schedule_that_is_one_update_late_is_caught(driver, name):
    class Late(UniRMSSchedule):
        def __call__(self, step):
            return super().__call__(tf.maximum(tf.convert_to_tensor(step) - 1, 0))

    def make(which, schedule, params):
        optimizer = UniRMSProp(SCHEDULED[which], learning_rate=Late(schedule), names=list(params))
        optimizer.build(list(params.values()))
        return optimizer

    assert worst_ulp(driver, "exact", SCHEDULES[name], "function", make=make) > LIMIT_ULP


@pytest.mark.parametrize("name", SCHEDULES)
def test_float64_weights_get_double_rates(driver, name):
    # A rate that was rounded to float32 would be 1e8 ULP off.
    assert worst_ulp(driver, "exact", SCHEDULES[name], "xla", dtype="float64") <= LIMIT_ULP


def test_float64_weights_of_the_stock_class_get_double_rates_too(driver):
    assert worst_ulp(driver, "stock", SCHEDULES["cosine"], "function", dtype="float64") <= LIMIT_ULP


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_rate_far_out(name):
    schedule = SCHEDULES[name]
    peak = schedule.values(np.arange(1000)).max()
    step = keras.Variable(0, dtype="int64", trainable=False)
    for made, tolerance in ((UniRMSSchedule(schedule), 1e-14), (keras_schedules.write(schedule, ["float32"]), 1e-6)):
        for mode in MODES:
            rate = compiled(lambda made=made: made(step), mode)
            for t in FAR:
                step.assign(t)
                assert abs(float(rate()) - schedule.value(t)) <= tolerance * peak, (mode, t)


@pytest.mark.parametrize("mode", ["function", "xla"])
def test_steps_of_any_length_come_on_time_when_compiled(mode):
    step = tf.Variable(0, dtype=tf.int64)
    lengths = [n for n in range(1, 1000) if n * (1 / n) < 1]  # where a product with the reciprocal is too small
    for length in [1, 2, 3, *lengths[:8], lengths[-1]]:
        schedule = schedules.Step(initial_learning_rate=1.0, step_size=length, gamma=0.5)
        made = UniRMSSchedule(schedule)
        rate = compiled(lambda made=made: made(step), mode)
        for t in (length - 1, length, 19 * length - 1, 19 * length):
            step.assign(t)
            assert float(rate()) == schedule.value(t), (length, t)


def test_compiled_staircases_of_keras_come_late():
    """Why none is built: 41 * float32(1 / 41) is less than 1."""
    schedule = keras.optimizers.schedules.ExponentialDecay(1.0, 41, 0.5, staircase=True)
    step = tf.Variable(41, dtype=tf.int64)
    assert [float(compiled(lambda: schedule(step), mode)()) for mode in MODES] == [0.5, 1.0, 1.0]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("which", SCHEDULED)
def test_a_schedule_is_read_back(which, name):
    schedule = SCHEDULES[name]
    optimizer = scheduled(which, schedule, {"w": weights()})
    config = SCHEDULED[which].replace(learning_rate=schedule)
    assert unirms.config_of(optimizer) == (config if name != "constant" else config.replace(learning_rate=PEAK))
    assert unirms.lr_scheduler(optimizer) is None
    if name != "constant":
        expected = NATIVE.get(name, "UniRMSSchedule") if which == "stock" else "UniRMSSchedule"
        assert type(optimizer._learning_rate).__name__ == expected
        plain = json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
        again = keras.optimizers.deserialize(plain)
        again.build([weights()])
        assert unirms.config_of(again) == config


def test_double_weights_and_other_float_types_get_our_schedule(monkeypatch):
    cosine = SCHEDULES["cosine"]
    assert type(keras_schedules.write(cosine, ["float32", "float16"])) is keras.optimizers.schedules.CosineDecay
    assert type(keras_schedules.write(cosine, ["float32", "float64"])) is UniRMSSchedule
    monkeypatch.setattr(keras.config, "floatx", lambda: "float16")
    assert type(keras_schedules.write(cosine, ["float32"])) is UniRMSSchedule


@pytest.mark.parametrize(
    "schedule",
    [
        schedules.Linear(initial_learning_rate=PEAK, decay_steps=2**24 + 1),
        schedules.Piecewise(boundaries=list(range(101)), learning_rates=[PEAK] * 101 + [0.0]),
        schedules.Piecewise(boundaries=[], learning_rates=[PEAK]),
        schedules.Polynomial(initial_learning_rate=PEAK, decay_steps=10**6, power=0.1),
        schedules.Cosine(initial_learning_rate=0, end_learning_rate=PEAK, decay_steps=10),
        schedules.Cosine(initial_learning_rate=1e-300, end_learning_rate=PEAK, decay_steps=10),
        schedules.Cosine(initial_learning_rate=0.3, end_learning_rate=0.0019, decay_steps=10),  # no alpha gives that
        schedules.Warmup(warmup_steps=3, after=SCHEDULES["cosine periodic"]),
        schedules.Warmup(warmup_steps=3, end_learning_rate=1, after=SCHEDULES["cosine"]),
        schedules.Warmup(warmup_steps=3, after=SCHEDULES["cosine"], overlap=True),
    ],
    ids=str,
)
def test_where_keras_cannot_ours_is_built(schedule):
    made = keras_schedules.write(schedule, ["float32"])
    assert type(made) is UniRMSSchedule
    assert keras_schedules.read(made) == schedule


def test_schedules_of_the_users_are_read():
    native = keras.optimizers.schedules
    for made, expected in (
        (native.ExponentialDecay(0.1, 10, 0.5, True), {"kind": "exponential", "decay_steps": 10, "staircase": True}),
        (native.PiecewiseConstantDecay([5], [0.1, 0.2]), {"kind": "piecewise", "boundaries": (6,)}),
        (native.PolynomialDecay(0.1, 10, 0.0, 2, cycle=True), {"kind": "polynomial", "cycle": True, "power": 2.0}),
        (native.CosineDecay(0.1, 10, 0.5), {"kind": "cosine", "end_learning_rate": 0.05}),
        (native.CosineDecay(0.1, 10, warmup_steps=5), {"kind": "cosine"}),  # Keras ignores it without a target
    ):
        for optimizer in (keras.optimizers.RMSprop(made), UniRMSProp(RMSPropConfig(), learning_rate=made)):
            found = unirms.config_of(optimizer).learning_rate.model_dump()
            assert found == found | expected


class Mine(keras.optimizers.schedules.ExponentialDecay):
    pass


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (keras.optimizers.schedules.CosineDecayRestarts(0.1, 10), "a CosineDecayRestarts, which is not exactly"),
        (Mine(0.1, 10, 0.5), "a Mine, which is not exactly"),
        (lambda: 0.1, "a function, which is not exactly"),
        (keras.optimizers.schedules.PiecewiseConstantDecay([5.5], [0.1, 0.2]), "PiecewiseConstantDecay has values"),
        (keras.optimizers.schedules.ExponentialDecay(0.1, 0.5, 0.5), "ExponentialDecay has values"),
    ],
)
def test_other_schedules_are_refused_by_name(rate, message):
    for optimizer in (keras.optimizers.RMSprop(rate), UniRMSProp(RMSPropConfig(), learning_rate=rate)):
        with pytest.raises(unirms.UnsupportedError, match=message):
            unirms.config_of(optimizer)


def test_a_schedule_is_checked():
    with pytest.raises(unirms.ConfigError, match="must be one of 'constant', 'step'"):
        UniRMSSchedule({"kind": "cosin"})
    with pytest.raises(unirms.ConfigError, match=r"schedule=0\.1 is not a schedule"):
        UniRMSSchedule(0.1)


def test_any_optimizer_takes_our_schedule_and_keeps_it_through_copies():
    table = UniRMSSchedule(schedules.Table(learning_rates=np.linspace(0, 1, 10**5).tolist()))
    variable = weights(0.0)
    optimizer = keras.optimizers.SGD(table)
    optimizer.build([variable])
    optimizer.iterations.assign(50_000)
    step = tf.function(lambda: optimizer.apply([tf.ones(1)]), autograph=False)
    step()
    assert variable.numpy() == [-np.float32(table.schedule.value(50_000))]
    assert len(step.get_concrete_function().graph.as_graph_def().node) < 200
    again = pickle.loads(pickle.dumps(table))
    assert [float(t(7)) for t in (table, copy.deepcopy(table), again)] == [table.schedule.value(7)] * 3


@pytest.mark.parametrize(("which", "name"), [("stock", "linear"), ("stock", "cosine_restarts"), ("exact", "table")])
def test_a_model_saved_in_mid_schedule_goes_on_as_if_never_stopped(tmp_path, which, name):
    schedule = SCHEDULES[name]
    whole = network()
    expected = fitted(whole, scheduled(which, schedule, whole), epochs=4)
    model = network()
    fitted(model, scheduled(which, schedule, model))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert unirms.config_of(loaded.optimizer).learning_rate == schedule
    assert unirms.state_of(loaded.optimizer).step == 8
    loaded.fit(*data(), batch_size=8, epochs=2, shuffle=False, verbose=0)
    for wanted, variable in zip(expected.values(), loaded.trainable_variables, strict=True):
        np.testing.assert_array_equal(variable.numpy(), wanted)
    config = SCHEDULED[which].replace(learning_rate=schedule)
    for path, wanted in by_hand(config, epochs=4).items():
        # 16 steps; a float32 network's gradients differ by some 1e-7 between modes.
        np.testing.assert_allclose(expected[path], wanted, rtol=0, atol=5e-6)


def test_a_compiled_staircase_of_keras_is_one_update_late_and_ours_is_not():
    native = keras.optimizers.schedules.ExponentialDecay(1.0, 41, 0.5, staircase=True)
    ours = keras_schedules.UniRMSSchedule({"kind": "step", "initial_learning_rate": 1.0, "step_size": 41, "gamma": 0.5})
    step = tf.constant(41, tf.int64)
    assert float(native(step)) == 0.5
    assert float(tf.function(native)(step)) == 1.0  # what Keras says is 0.5: see the remarks of the dialect
    assert float(tf.function(ours)(step)) == float(tf.function(ours, jit_compile=True)(step)) == 0.5


def test_a_schedule_hands_doubles_to_the_stock_class():
    weights = keras.Variable(np.ones(3), dtype="float64")
    moving = RMSPropConfig(learning_rate={"kind": "cosine", "initial_learning_rate": 0.1, "decay_steps": 7})
    assert type(unirms.build(moving, "keras", [weights])) is keras.optimizers.RMSprop
    assert type(unirms.build(RMSPropConfig(learning_rate=0.1), "keras", [weights])) is UniRMSProp
