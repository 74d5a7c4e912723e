"""Keras: groups, clips, L1 decay, accumulation, averages, rows and odd gradients, held to the reference."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import unirms
from unirms import RMSPropConfig, SparseGradient, reference, schedules
from unirms.adapters.keras import UniRMSProp
from unirms.adapters.keras import preparing as keras_preparing
from unirms.conformance.inputs import held_by
from unirms.conformance.measures import Ruler, spacing

# Of Keras itself, whose variables have an `__array__` of NumPy 1, at each `variable.numpy()`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

MODES = ("eager", "function", "xla")
# Each mode with one dtype, and with the other where there is time.
RUNS = [("eager", "float32"), ("function", "float64"), ("xla", "float32")]
RUNS += [
    pytest.param(*run, marks=pytest.mark.slow)
    for run in (("eager", "float64"), ("function", "float32"), ("xla", "float64"))
]
# The project's bound for a run of float32 operations (conformance/cases.py).
LIMIT_ULP = 32
STEPS = 12
SHAPES = {"net.a.kernel": (3, 5), "net.a.bias": (4,), "net.b.kernel": (2, 3, 3), "net.b.bias": ()}

BASE = {"learning_rate": 2.0**-6, "rho": 0.875, "epsilon": 2.0**-7, "momentum": 0.5}
GLOBAL = {"by": "global_norm", "max_norm": 2.0}
STAIRS = {"kind": "step", "initial_learning_rate": 0.1, "step_size": 2, "gamma": 0.5}
GROUPS = (
    {"match": "*bias", "learning_rate_factor": 0.25, "weight_decay": 0.0, "momentum": 0},
    {"match": "net.b.*", "learning_rate": 2.0**-5, "rho": 0.5, "epsilon": 2.0**-3, "centered": True, "momentum": 0.75},
)
CASES = {
    "groups": {"groups": GROUPS, "weight_decay": 0.125, "weight_decay_mode": "l2"},
    "groups of a nesterov": {"groups": GROUPS, "nesterov": True, "centered": True, "lr_in_momentum": False},
    "groups with a schedule": {"groups": GROUPS[:1], "learning_rate": STAIRS},
    "a group with momentum alone": {"groups": GROUPS[1], "momentum": 0.0},
    "groups with bias correction": {"groups": GROUPS, "bias_correction": True, "initial_mean_square": 0.25},
    "a group without decay": {"groups": {"match": "*b.*", "weight_decay": 0.5}, "no_weight_decay": "*bias"},
    "l1": {"weight_decay": 0.125, "weight_decay_mode": "l1"},
    "value": {"clip": {"by": "value", "limit": 0.75}},
    "norm": {"clip": {"by": "norm", "max_norm": 1.5}, "nesterov": True},
    "norm with eps": {"clip": {"by": "norm", "max_norm": 1.5, "eps": 0.25}},
    "global": {"clip": GLOBAL, "epsilon_placement": "outside_sqrt"},
    "global with eps": {"clip": {**GLOBAL, "eps": 0.25}, "weight_decay": 0.125, "weight_decay_mode": "l2"},
    "global by group": {"clip": {**GLOBAL, "over": "group"}, "groups": GROUPS},
    "clips in order": {"clip": [{"by": "value", "limit": 1.0}, {"by": "norm", "max_norm": 1.5}, GLOBAL]},
    "clips of groups": {"clip": GLOBAL, "groups": [{"match": "*bias", "clip": {"by": "value", "limit": 0.5}}]},
    "a group that does not clip": {"clip": GLOBAL, "groups": [{"match": "*bias", "clip": []}]},
    "first axis": {"gradient_centralization": "first_axis", "clip": GLOBAL, "maximize": True},
    "last axis": {"gradient_centralization": "last_axis"},
    "accumulation": {"gradient_accumulation_steps": 3, "clip": GLOBAL, "loss_scale": 4.0},
    "accumulation by the stock class": {"gradient_accumulation_steps": 3, "weight_decay": 0.125},
    "accumulation with a schedule": {"gradient_accumulation_steps": 2, "learning_rate": STAIRS, "nesterov": True},
    "accumulation with bias correction": {"gradient_accumulation_steps": 2, "bias_correction": True},
    "accumulation, average": {"gradient_accumulation_steps": 2, "ema_decay": 0.75},
    "average by the stock class": {"ema_decay": 0.75},
    "average": {"ema_decay": 0.9, "ema_start": 4, "nesterov": True},
    "average from the first": {"ema_decay": 0.9, "nesterov": True, "groups": GROUPS},
    "skip": {"non_finite": "skip", "ema_decay": 0.75, "bias_correction": True, "learning_rate": STAIRS},
    "skip, accumulation": {"non_finite": "skip", "gradient_accumulation_steps": 3, "learning_rate": STAIRS},
}
STOCK = {"accumulation by the stock class", "average by the stock class", "value"}


def starting(dtype="float32"):
    rng = np.random.default_rng(3)
    return {name: np.asarray(held_by(rng.standard_normal(shape), dtype)) for name, shape in SHAPES.items()}


def gradients(step, config, dtype="float32", *, spoil=()):
    rng = np.random.default_rng([5, step])
    grads = {
        name: np.asarray(rng.uniform(0.5, 2, shape) * rng.choice((-1, 1), shape)) for name, shape in SHAPES.items()
    }
    if step in spoil:
        grads["net.a.bias"][1] = np.inf if step % 2 else np.nan
    return {name: np.asarray(held_by(grad * config.loss_scale, dtype)) for name, grad in grads.items()}


class Runs:
    """One optimizer beside a reference in float64, compared after every gradient."""

    def __init__(self, driver, config, *, dtype="float32", mode="eager", make=None, start=None):
        self.config, self.dtype = config, dtype
        initial = start or starting(dtype)
        self.run = driver.start(make or (lambda params: unirms.build(config, "keras", params)), initial, dtype, mode)
        self.params = {name: value.astype(np.float64) for name, value in initial.items()}
        self.state = reference.init(config, self.params)
        self.ruler, self.sum_ulp = Ruler(initial, dtype), 0.0
        self.slots = {slot: Ruler(arrays, dtype) for slot, arrays in self.state.slots().items()}

    def step(self, grads):
        self.run.step(grads, None)
        self.params, self.state = reference.step(self.config, self.params, wide(grads), self.state)
        self.ruler.observe(self.params, self.run.weights())
        found = self.run.state()
        assert (found.step, found.micro_step) == (self.state.step, self.state.micro_step)
        for slot, arrays in found.slots().items():
            self.slots[slot].observe(self.state.slots()[slot], arrays)
        assert set(found.gradient_sum) == set(self.state.gradient_sum)
        for name, total in found.gradient_sum.items():
            right = self.state.gradient_sum[name]
            np.testing.assert_array_equal(np.isfinite(total), np.isfinite(right))
            off = np.nan_to_num(total.astype(np.float64), posinf=0) - np.nan_to_num(right, posinf=0)
            # Of two gradients of at most 2 each.
            self.sum_ulp = max(self.sum_ulp, np.max(np.abs(off)) / spacing(np.asarray(4.0), self.dtype))

    @property
    def ulp(self):
        return max(self.sum_ulp, *(ruler.worst.ulp for ruler in (self.ruler, *self.slots.values())))


def wide(grads):
    return {
        name: SparseGradient(grad.indices, grad.values.astype(np.float64))
        if isinstance(grad, SparseGradient)
        else grad.astype(np.float64)
        for name, grad in grads.items()
    }


def config_of(name):
    return RMSPropConfig(**BASE | CASES[name])


def followed(driver, config, **options):
    """Return how far an optimizer gets from the reference."""
    runs = Runs(driver, config, **options)
    for step in range(STEPS):
        runs.step(gradients(step, config, runs.dtype, spoil=(2, 5, 7) if config.non_finite == "skip" else ()))
    return runs


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("mode", "dtype"), RUNS)
def test_every_item_matches_the_reference_after_every_gradient(driver, mode, dtype, name):
    runs = followed(driver, config_of(name), mode=mode, dtype=dtype)
    assert runs.ulp <= LIMIT_ULP
    assert isinstance(runs.run.optimizer, UniRMSProp) == (name not in STOCK)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["groups", "value", "accumulation by the stock class", "average by the stock class"])
def test_low_precision_works(driver, name, dtype):
    runs = followed(driver, config_of(name), dtype=dtype, start=starting(dtype))
    assert runs.ulp <= 2 * LIMIT_ULP  # as in conformance/cases.py


def test_a_wrong_group_order_of_clips_accumulation_or_average_is_caught(driver):
    for name, wrong in (
        ("groups", {"groups": GROUPS[::-1]}),
        ("l1", {"weight_decay_mode": "l2"}),
        ("clips in order", {"clip": config_of("clips in order").clip[::-1]}),
        ("global by group", {"clip": GLOBAL}),
        ("first axis", {"gradient_centralization": "last_axis"}),
        ("accumulation", {"loss_scale": 2.0}),
        ("average", {"ema_start": 5}),
    ):
        config = config_of(name)
        planted = config.replace(**wrong)
        runs = followed(driver, config, make=lambda params, c=planted: unirms.build(c, "keras", params))
        assert runs.ulp > LIMIT_ULP, name


def test_a_bias_that_is_scaled_by_a_norm_over_its_own_group_is_caught(driver, monkeypatch):
    def apart(config, names):
        return [(clip, (name,)) for clip in config.clip for name in names]

    monkeypatch.setattr(keras_preparing, "clip_plan", apart)
    assert followed(driver, config_of("global")).ulp > LIMIT_ULP


# ---- groups ------------------------------------------------------------------------------------------------------


def variables(dtype="float32"):
    return {n: keras.Variable(v, dtype=dtype, name=n) for n, v in starting(dtype).items()}


@pytest.mark.parametrize("name", CASES)
def test_config_of_returns_what_was_built(name):
    config = config_of(name)
    assert unirms.config_of(unirms.build(config, "keras", variables())) == config


@pytest.mark.parametrize("name", CASES)
def test_plain_data_makes_the_same_optimizer(name):
    optimizer = unirms.build(config_of(name), "keras", variables())
    plain = json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
    twin = keras.optimizers.deserialize(plain)
    twin.build(list(variables().values()))
    assert twin.get_config() == optimizer.get_config()
    if isinstance(twin, UniRMSProp):
        assert unirms.config_of(twin) == config_of(name)


def test_a_group_keeps_its_multiple_of_a_rate_that_changes(driver):
    config = config_of("groups")
    runs = Runs(driver, config)
    runs.run.optimizer.learning_rate = 0.5
    found = unirms.config_of(runs.run.optimizer)
    assert (found.learning_rate, [g.learning_rate for g in found.groups]) == (0.5, [None, None])
    assert [g.learning_rate_factor for g in found.groups] == [0.25, 2.0]
    runs.config = found
    runs.step(gradients(0, config))
    assert runs.ulp <= LIMIT_ULP


def test_what_a_group_leaves_alone_follows_the_optimizer():
    config = config_of("groups")
    optimizer = unirms.build(config, "keras", variables())
    optimizer.rho, optimizer.weight_decay = 0.75, 0.25
    assert unirms.config_of(optimizer) == config.replace(rho=0.75, weight_decay=0.25)
    assert [member.config.rho for member in optimizer.live_members()] == [0.75, 0.75, 0.5, 0.75]
    assert [member.config.weight_decay for member in optimizer.live_members()] == [0.25, 0.0, 0.25, 0.0]


def test_each_parameter_has_the_slots_of_its_group():
    state = unirms.state_of(unirms.build(config_of("groups"), "keras", variables()))
    assert list(state.mean_square) == list(SHAPES)
    assert list(state.mean_gradient) == ["net.b.kernel"]
    assert list(state.momentum) == ["net.a.kernel", "net.b.kernel"]


def test_a_group_that_matches_nothing_is_an_error_also_when_built_late():
    config = RMSPropConfig(groups=[{"match": "gone", "rho": 0.5}])
    with pytest.raises(unirms.UnsupportedError, match=r"groups\.0 matches no parameter"):
        unirms.build(config, "keras", variables())
    with pytest.raises(unirms.UnsupportedError, match=r"groups\.0 matches no parameter"):
        UniRMSProp(config).build(list(variables().values()))


def test_policy_stock_refuses_groups():
    with pytest.raises(unirms.UnrepresentableError, match="parameters are grouped"):
        unirms.build(config_of("groups"), "keras", variables(), policy="stock")


def test_a_group_decays_what_the_user_excludes_is_no_config():
    params = variables()
    optimizer = unirms.build(config_of("a group without decay"), "keras", params)
    optimizer.exclude_from_weight_decay(var_list=[params["net.a.kernel"]])
    assert unirms.config_of(optimizer).no_weight_decay == ("*bias", "net.a.kernel")
    optimizer.exclude_from_weight_decay(var_list=[params["net.b.kernel"]])
    with pytest.raises(unirms.UnsupportedError, match=r"which groups\.0 sets"):
        unirms.config_of(optimizer)


def test_groups_survive_a_saved_model_whose_variables_are_renamed(tmp_path):
    config = RMSPropConfig(learning_rate=0.01, groups=[{"match": "net/*/bias", "learning_rate_factor": 0.0}])
    model = network()
    fitted(model, unirms.build(config, "keras", model))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert unirms.config_of(loaded.optimizer) == config
    before = [v.numpy() for v in loaded.trainable_variables]
    loaded.fit(*data(), verbose=0)
    moved = [(old != v.numpy()).any() for old, v in zip(before, loaded.trainable_variables, strict=True)]
    assert moved == [True, False, True, False]


# ---- clips -------------------------------------------------------------------------------------------------------


def test_a_global_norm_over_two_dtypes_is_taken_in_the_wider():
    params = {"a": keras.Variable([1.0], dtype="float32"), "b": keras.Variable([1.0, 1.0], dtype="float16")}
    config = RMSPropConfig(**BASE | {"clip": GLOBAL})
    with pytest.raises(unirms.UnrepresentableError, match="two dtypes"):
        unirms.build(config, "keras", params, policy="stock")
    grads = {"a": np.array([300.0], np.float32), "b": np.array([1.0, 400.0], np.float16)}
    before = {name: param.numpy() for name, param in params.items()}
    expected, _ = reference.step(config, before, grads, reference.init(config, before))
    unirms.build(config, "keras", params).apply([tf.constant(grad) for grad in grads.values()])
    for name, param in params.items():
        assert param.numpy().dtype == expected[name].dtype
        np.testing.assert_allclose(param.numpy(), expected[name], rtol=1e-6 if name == "a" else 1e-3)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("clip", ["value", "norm", "norm with eps", "global", "global with eps"])
@pytest.mark.parametrize("mode", MODES)
def test_infinities_and_nan_go_through_the_formulas(driver, mode, clip, bad):
    config = RMSPropConfig(**BASE, clip=CASES[clip]["clip"])
    params = {"a": np.ones(3, np.float32), "b": np.ones(2, np.float32)}
    grads = {"a": np.array([1.0, bad, 2.0], np.float32), "b": np.ones(2, np.float32)}
    run = driver.start(lambda p: unirms.build(config, "keras", p), params, "float32", mode)
    run.step(grads, None)
    expected, _ = reference.step(config, params, grads, reference.init(config, params))
    for name, weight in run.weights().items():
        np.testing.assert_allclose(weight, expected[name], rtol=1e-6)


def test_the_stock_class_makes_all_weights_nan_where_one_gradient_is_infinite():
    """Why unirms does not return it for a clip by a global norm."""
    first, second = keras.Variable([1.0]), keras.Variable([1.0])
    keras.optimizers.RMSprop(global_clipnorm=1.0).apply([tf.constant([np.inf]), tf.ones(1)], [first, second])
    assert np.isnan(second.numpy())


@pytest.mark.parametrize("clip", ["norm", "norm with eps", "global"])
def test_a_gradient_of_zero_stays_zero(clip):
    params = variables()
    unirms.build(config_of(clip), "keras", params).apply([tf.zeros_like(v.value) for v in params.values()])
    for name, value in starting().items():
        if config_of(clip).weight_decay == 0:
            np.testing.assert_array_equal(params[name].numpy(), value)


# ---- accumulation ------------------------------------------------------------------------------------------------


def test_gathering_changes_nothing_else():
    params = variables()
    optimizer = unirms.build(config_of("accumulation"), "keras", params)
    optimizer.apply([tf.ones_like(v.value) for v in params.values()])
    state = unirms.state_of(optimizer)
    assert (state.step, state.micro_step, set(state.gradient_sum)) == (0, 1, set(SHAPES))
    assert all((state.mean_square[name] == 0).all() for name in SHAPES)
    assert all((params[name].numpy() == value).all() for name, value in starting().items())


@pytest.mark.parametrize("mode", MODES)
def test_a_parameter_that_has_a_gradient_now_and_then(driver, mode):
    config = config_of("accumulation").replace(weight_decay=0.125)
    runs = Runs(driver, config, mode=mode)
    only = (["net.a.kernel"], list(SHAPES), ["net.a.bias"], ["net.b.bias"], ["net.b.bias"], ["net.a.bias"])
    for step, names in enumerate(only):
        grads = gradients(step, config)
        runs.step({name: grads[name] for name in names})
    assert runs.ulp <= LIMIT_ULP
    assert (runs.run.weights()["net.b.kernel"] != starting()["net.b.kernel"]).any()


@pytest.mark.parametrize("name", ["accumulation", "accumulation with a schedule", "accumulation by the stock class"])
@pytest.mark.parametrize("way", ["weights", "checkpoint"])
def test_a_half_gathered_sum_is_saved_and_restored(driver, tmp_path, name, way):
    config = config_of(name)
    whole = Runs(driver, config)
    for step in range(5):
        whole.step(gradients(step, config))
    again = Runs(driver, config, start={n: w.copy() for n, w in whole.run.weights().items()})
    old, new = whole.run.optimizer, again.run.optimizer
    if way == "weights":
        new.set_weights([variable.numpy() for variable in old.variables])
    else:
        path = tf.train.Checkpoint(optimizer=old).save(str(tmp_path / "state"))
        tf.train.Checkpoint(optimizer=new).restore(path).assert_existing_objects_matched()
    assert unirms.state_of(new).micro_step == whole.state.micro_step > 0
    for step in range(5, 9):
        whole.step(gradients(step, config))
        again.run.step(gradients(step, config), None)
    for n, weight in whole.run.weights().items():
        np.testing.assert_array_equal(weight, again.run.weights()[n])


def test_the_sums_of_the_stock_class_go_into_ours():
    config = config_of("accumulation by the stock class")
    stock_at, ours_at = variables(), variables()
    stock, ours = unirms.build(config, "keras", stock_at), UniRMSProp(config)
    ours.build(list(ours_at.values()))
    for step in range(4):
        stock.apply([tf.constant(grad) for grad in gradients(step, config).values()])
    ours.set_weights([variable.numpy() for variable in stock.variables])
    for ours_one, stock_one in zip(ours_at.values(), stock_at.values(), strict=True):
        ours_one.assign(stock_one.numpy())
    for step in range(4, 7):
        for optimizer in (stock, ours):
            optimizer.apply([tf.constant(grad) for grad in gradients(step, config).values()])
    for name in SHAPES:
        np.testing.assert_allclose(ours_at[name].numpy(), stock_at[name].numpy(), rtol=1e-6)


def test_schedules_of_the_stock_class_count_gradients():
    steps = schedules.Linear(initial_learning_rate=0.1, end_learning_rate=0.001, decay_steps=9)
    every = schedules.Sampled(schedule=steps, every=3, offset=2)
    config = RMSPropConfig(**BASE | {"learning_rate": every, "gradient_accumulation_steps": 3})
    optimizer = unirms.build(config, "keras", variables(), policy="stock")
    assert type(optimizer._learning_rate) is keras.optimizers.schedules.PolynomialDecay
    assert unirms.config_of(optimizer) == config
    with pytest.raises(unirms.UnrepresentableError, match="after every gradient"):
        unirms.build(config.replace(learning_rate=steps), "keras", variables(), policy="stock")


def test_a_schedule_of_gradients_is_followed(driver):
    steps = schedules.Linear(initial_learning_rate=0.1, end_learning_rate=0.001, decay_steps=9)
    config = RMSPropConfig(
        **BASE
        | {"learning_rate": schedules.Sampled(schedule=steps, every=3, offset=2), "gradient_accumulation_steps": 3}
    )
    runs = followed(driver, config, mode="function")
    assert type(runs.run.optimizer) is keras.optimizers.RMSprop
    assert runs.ulp <= LIMIT_ULP


def test_the_stock_class_averages_after_every_gradient():
    """Why unirms does not return it for an average with accumulation, and does not read it."""
    variable = keras.Variable([0.0])
    stock = keras.optimizers.RMSprop(
        1.0, rho=0.0, epsilon=0.0, use_ema=True, ema_momentum=0.5, gradient_accumulation_steps=2
    )
    averages = []
    for _ in range(4):
        stock.apply([-tf.ones(1)], [variable])
        averages.append(float(stock._model_variables_moving_average[0].numpy()[0]))
    assert averages == [0.0, 1.0, 1.0, 1.5]
    stock.apply([-tf.ones(1)], [variable])
    assert stock._model_variables_moving_average[0].numpy() == [1.75]  # and no update was made
    with pytest.raises(unirms.UnsupportedError, match="averages the weights after every gradient"):
        unirms.config_of(stock)
    with pytest.raises(unirms.UnrepresentableError, match="averages the weights after every gradient"):
        unirms.build(config_of("accumulation, average"), "keras", variables(), policy="stock")


# ---- gradients that are not finite -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["eager", "function"])
@pytest.mark.parametrize("steps", [1, 2])
def test_an_odd_gradient_raises_an_error_and_changes_nothing(driver, mode, steps):
    config = RMSPropConfig(**BASE, non_finite="raise", ema_decay=0.5, gradient_accumulation_steps=steps)
    runs = Runs(driver, config, mode=mode)
    for step in range(2 * steps - 1):
        runs.step(gradients(step, config))
    before, weights = unirms.state_of(runs.run.optimizer), runs.run.weights()
    expected = unirms.NonFiniteGradientError if mode == "eager" else tf.errors.InvalidArgumentError
    with pytest.raises(expected, match=r"net\.a\.bias\S* has an infinity or a NaN"):
        runs.run.step(gradients(9, config, spoil=(9,)), None)
    after = unirms.state_of(runs.run.optimizer)
    assert (after.step, after.micro_step) == (before.step, before.micro_step)
    for slot, arrays in {**after.slots(), "sum": after.gradient_sum}.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, {**before.slots(), "sum": before.gradient_sum}[slot][name])
    for name, weight in runs.run.weights().items():
        np.testing.assert_array_equal(weight, weights[name])
    for step in range(2 * steps - 1, 3 * steps):
        runs.step(gradients(step, config))
    assert runs.ulp <= LIMIT_ULP


def test_everything_that_is_written_waits_for_the_check():
    optimizer = unirms.build(RMSPropConfig(non_finite="raise"), "keras", variables())
    step = tf.function(optimizer.apply)
    graph = step.get_concrete_function([tf.zeros_like(v.value) for v in variables().values()]).graph
    written = [op for op in graph.get_operations() if op.type == "AssignVariableOp"]
    assert len(written) >= 2 * len(SHAPES) + 1  # weights, mean squares, and the count
    assert all(any(op.type == "Assert" for op in before(one)) for one in written)


def before(op):
    """Return the operations that a graph runs before one."""
    found, new = set(), [op]
    while new:
        one = new.pop()
        for other in (*(tensor.op for tensor in one.inputs), *one.control_inputs):
            if other not in found:
                found.add(other)
                new.append(other)
    return found


def test_xla_cannot_raise_and_says_so(driver):
    run = driver.start(
        lambda params: unirms.build(RMSPropConfig(non_finite="raise"), "keras", params), starting(), "float32", "xla"
    )
    with pytest.raises(unirms.UnsupportedError, match="jit_compile=False"):
        run.step(gradients(0, RMSPropConfig()), None)


def test_assertions_of_xla_are_silent():
    """Why that is refused."""

    @tf.function(jit_compile=True)
    def fails():
        tf.debugging.Assert(tf.constant(1.0) > 2, ["wrong"])
        return tf.constant(3.0)

    assert fails() == 3


@pytest.mark.parametrize("eagerly", [True, False])
@pytest.mark.parametrize("answer", ["skip", "raise"])
def test_beside_a_dynamic_loss_scale(eagerly, answer):
    config = RMSPropConfig(**BASE, non_finite=answer, gradient_accumulation_steps=2, ema_decay=0.5)
    params = variables()
    inner = unirms.build(config, "keras", params)
    outer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0)
    apply = outer.apply if eagerly else tf.function(outer.apply)
    outer.build(list(params.values()))
    right, state = starting(), reference.init(config, starting())
    for step in range(6):
        grads = gradients(step, config, spoil=(3,))
        apply([tf.constant(grad * np.float32(outer.dynamic_scale.numpy())) for grad in grads.values()])
        if step != 3:  # left out by the outer one, which halves its scale
            right, state = reference.step(config, right, grads, state)
    assert outer.dynamic_scale.numpy() == 4
    found = unirms.state_of(inner)
    assert (found.step, found.micro_step) == (state.step, state.micro_step) == (2, 1)
    for name, value in right.items():
        np.testing.assert_allclose(params[name].numpy(), value, rtol=1e-5)  # the scales are powers of 2


# ---- averages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["average by the stock class", "average from the first"])
def test_averages_are_exchanged_with_the_weights(name):
    config, params = config_of(name), variables()
    optimizer = unirms.build(config, "keras", params)
    for step in range(3):
        optimizer.apply([tf.constant(grad) for grad in gradients(step, config).values()])
    weights = {n: v.numpy() for n, v in params.items()}
    means = unirms.state_of(optimizer).average
    with unirms.averaged(optimizer):
        for n, variable in params.items():
            np.testing.assert_array_equal(variable.numpy(), means[n])
            assert (variable.numpy() != weights[n]).any()
    for n, variable in params.items():
        np.testing.assert_array_equal(variable.numpy(), weights[n])
        np.testing.assert_array_equal(unirms.state_of(optimizer).average[n], means[n])


@pytest.mark.parametrize("name", ["average by the stock class", "average from the first"])
def test_an_average_begins_as_the_weights(name):
    params = variables()
    optimizer = unirms.build(config_of(name), "keras", params)
    for n, average in unirms.state_of(optimizer).average.items():
        np.testing.assert_array_equal(average, starting()[n])
    params["net.a.bias"].assign([5.0] * 4)  # loaded after the optimizer was made
    with unirms.averaged(optimizer):
        assert (params["net.a.bias"].numpy() == 5).all()


def test_there_is_nothing_to_exchange_without_an_average():
    with pytest.raises(unirms.UnsupportedError, match="no running means"), unirms.averaged(keras.optimizers.RMSprop()):
        pass


def test_parameters_without_a_gradient_are_averaged_too(driver):
    config = config_of("average from the first")
    runs = Runs(driver, config)
    for step in range(4):
        grads = gradients(step, config)
        runs.step({name: grads[name] for name in list(SHAPES)[: 4 - step]})
    assert runs.ulp <= LIMIT_ULP


@pytest.mark.parametrize("name", ["average by the stock class", "average"])
def test_fit_ends_with_the_average_in_the_weights(name):
    config = config_of(name).replace(groups=())
    model = network()
    optimizer = unirms.build(config, "keras", model)
    fitted(model, optimizer)
    for variable, average in zip(model.trainable_variables, optimizer._model_variables_moving_average, strict=True):
        np.testing.assert_array_equal(variable.numpy(), average.numpy())


def test_the_stock_class_goes_into_ours_with_its_average(tmp_path):
    config = config_of("average by the stock class")
    stock, ours = unirms.build(config, "keras", variables()), UniRMSProp(config)
    ours.build(list(variables().values()))
    suffixes = [[v.path.rpartition("/")[2] for v in optimizer.variables] for optimizer in (ours, stock)]
    assert suffixes[0] == suffixes[1]
    for step in range(2):
        stock.apply([tf.constant(grad) for grad in gradients(step, config).values()])
    path = tf.train.Checkpoint(optimizer=stock).save(str(tmp_path / "state"))
    tf.train.Checkpoint(optimizer=ours).restore(path).assert_existing_objects_matched()
    for name, average in unirms.state_of(stock).average.items():
        np.testing.assert_array_equal(unirms.state_of(ours).average[name], average)


# ---- rows --------------------------------------------------------------------------------------------------------

ROWS = {
    "plain": {},
    "momentum": {"momentum": 0.5, "weight_decay": 0.125},
    "centered nesterov": {"momentum": 0.5, "nesterov": True, "centered": True, "initial_mean_square": 0.25},
    "skip": {"centered": True, "negative_variance": "skip", "momentum": 0.5, "non_finite": "skip"},
    "clips": {"clip": [{"by": "norm", "max_norm": 2.0}, GLOBAL], "maximize": True, "loss_scale": 2.0},
    "average": {"ema_decay": 0.5, "weight_decay": 0.25, "weight_decay_mode": "l1"},
    "groups": {"groups": [{"match": "table", "rho": 0.5, "momentum": 0.5, "learning_rate_factor": 2.0}]},
}
TABLE = {"table": (6, 3), "bias": (4,)}


def rows_at(step, dtype):
    rng = np.random.default_rng([9, step])
    indices = rng.integers(0, 5, size=3 + step % 2)
    indices[-1] = indices[0]  # twice, and row 5 never
    values = rng.uniform(0.5, 2, (len(indices), 3)) * rng.choice((-1, 1), (len(indices), 3))
    return {
        "table": SparseGradient(indices, values.astype(dtype)),
        "bias": rng.uniform(0.5, 2, 4).astype(dtype),
    }


def by_rows(driver, config, *, mode="eager", dtype="float32", make=None):
    rng = np.random.default_rng(3)
    start = {name: rng.standard_normal(shape).astype(dtype) for name, shape in TABLE.items()}
    runs = Runs(driver, config, dtype=dtype, mode=mode, start=start, make=make or exactly(config))
    for step in range(8):
        runs.step(rows_at(step, dtype))
    return runs


def exactly(config):
    def make(params):
        optimizer = UniRMSProp(config, names=list(params))
        optimizer.build(list(params.values()))
        return optimizer

    return make


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("sparse", ["dense", "lazy"])
@pytest.mark.parametrize(("mode", "dtype"), RUNS)
def test_rows_follow_the_reference(driver, mode, dtype, sparse, name):
    config = RMSPropConfig(**BASE | {"momentum": 0.0} | ROWS[name], sparse=sparse)
    runs = by_rows(driver, config, mode=mode, dtype=dtype)
    assert runs.ulp <= LIMIT_ULP


def test_lazy_rows_rest_and_dense_ones_do_not(driver):
    for sparse in ("dense", "lazy"):
        config = RMSPropConfig(**BASE, weight_decay=0.5, sparse=sparse)
        runs = by_rows(driver, config)
        still = runs.run.weights()["table"][5] == np.random.default_rng(3).standard_normal((6, 3)).astype("f")[5]
        assert still.all() == (sparse == "lazy")


def test_rows_of_the_other_kind_are_caught(driver):
    config = RMSPropConfig(**BASE, sparse="lazy")
    assert by_rows(driver, config, make=exactly(config.replace(sparse="dense"))).ulp > LIMIT_ULP


def test_an_accumulating_embedding_sums_its_rows(driver):
    config = RMSPropConfig(**BASE, gradient_accumulation_steps=2)
    assert by_rows(driver, config, mode="xla").ulp <= LIMIT_ULP


def test_lazy_is_built_exactly():
    assert isinstance(unirms.build(RMSPropConfig(sparse="lazy"), "keras", variables()), UniRMSProp)


# ---- models ------------------------------------------------------------------------------------------------------


def network(seed=1):
    keras.utils.set_random_seed(seed)
    layers = [
        keras.Input((4,)),
        keras.layers.Dense(5, activation="tanh", name="hidden"),
        keras.layers.Dense(1, name="out"),
    ]
    return keras.Sequential(layers, name="net")


def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((32, 4)).astype(np.float32), rng.standard_normal((32, 1)).astype(np.float32)


def fitted(model, optimizer, **options):
    model.compile(optimizer=optimizer, loss="mse", **options)
    model.fit(*data(), batch_size=8, epochs=2, shuffle=False, verbose=0)


EVERYTHING = RMSPropConfig(
    **BASE,
    clip=[{"by": "norm", "max_norm": 0.5}, {"by": "global_norm", "max_norm": 0.75, "eps": 1e-6}],
    groups=[{"match": "*/bias", "learning_rate_factor": 2.0, "weight_decay": 0.0}],
    weight_decay=0.01,
    weight_decay_mode="l1",
    gradient_centralization="last_axis",
    gradient_accumulation_steps=2,
    non_finite="skip",
    loss_scale=8.0,
)


@pytest.mark.parametrize("options", [{"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}], ids=str)
@pytest.mark.parametrize("ready", [True, False], ids=["built", "not built"])
def test_fit_follows_the_reference(options, ready):
    model, other, (x, y) = network(), network(), data()
    fitted(model, unirms.build(EVERYTHING, "keras", model) if ready else UniRMSProp(EVERYTHING), **options)
    params = {v.path: v.numpy() for v in other.trainable_variables}
    state = reference.init(EVERYTHING, params)
    for batch in list(range(0, 32, 8)) * 2:
        with tf.GradientTape() as tape:
            loss = 8 * tf.reduce_mean((other(x[batch : batch + 8]) - y[batch : batch + 8]) ** 2)
        grads = tape.gradient(loss, [v.value for v in other.trainable_variables])
        grads = {v.path: g.numpy() for v, g in zip(other.trainable_variables, grads, strict=True)}
        params, state = reference.step(EVERYTHING, params, grads, state)
        for variable in other.trainable_variables:
            variable.assign(params[variable.path])
    for variable in model.trainable_variables:
        # 4 updates of at most 0.1 each; a float32 network's gradients differ by some 1e-7 between modes.
        np.testing.assert_allclose(variable.numpy(), params[variable.path], rtol=0, atol=2e-6)


REPLICAS = """
import sys
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
sys.path.insert(0, sys.argv[1])
import test_keras_constructor as tests

tests.on_two_replicas()
"""


def on_two_replicas():
    """Compare training on two replicas with training on one, in a process that has two devices."""
    config = RMSPropConfig(**BASE, clip={"by": "global_norm", "max_norm": 0.25}, ema_decay=0.5)

    def trained(config):
        model = network()
        fitted(model, UniRMSProp(config))
        return [v.numpy() for v in model.trainable_variables]

    alone = trained(config)
    with tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]).scope():
        for expected, found in zip(alone, trained(config), strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)  # sums of gradients in another order
        with pytest.raises(unirms.UnsupportedError, match="on one replica only"):
            trained(config.replace(non_finite="skip"))


@pytest.mark.slow
def test_replicas_clip_the_norm_of_their_sum():
    command = [sys.executable, "-W", "ignore", "-c", REPLICAS, str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def test_words_of_keras_go_into_the_config():
    optimizer = UniRMSProp(RMSPropConfig(), use_ema=True, gradient_accumulation_steps=2)
    assert unirms.config_of(optimizer) == RMSPropConfig(ema_decay=0.99, gradient_accumulation_steps=2)
    with pytest.raises(TypeError, match="no clipnorm="):
        UniRMSProp(RMSPropConfig(), clipnorm=1.0)
