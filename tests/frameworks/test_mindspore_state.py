"""MindSpore: a state taken off an optimizer and put into another one, which goes on as if nothing had happened."""

import dataclasses

import mindspore
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops
from mindspore.experimental import optim as experimental

import unirms
from unirms import ParameterGroup, RMSPropConfig, StateError, schedules
from unirms.adapters import mindspore as adapter
from unirms.adapters.mindspore import accumulators
from unirms.conformance.drivers.mindspore import MODES as CONTEXTS
from unirms.conformance.measures import same_bits
from unirms.errors import UnsupportedError

MODES = ("pynative", "graph")
SHAPES = {"body.weight": (3, 5), "body.bias": (6,), "head.scale": ()}
BASE = RMSPropConfig(learning_rate=3e-3, epsilon=1e-2)
COSINE = schedules.Cosine(initial_learning_rate=0.01, decay_steps=50)
PLATEAU = schedules.Plateau(initial_learning_rate=0.02, patience=1, factor=0.5)
STOCK = RMSPropConfig.from_native("mindspore", learning_rate=3e-3, momentum=0.8, epsilon=1e-2, centered=True)
RICH = {
    "momentum": 0.8,
    "lr_in_momentum": False,
    "negative_variance": "clamp",
    "ema_decay": 0.9,
    "ema_start": 2,
    "bias_correction": True,
    "non_finite": "skip",
    "gradient_accumulation_steps": 3,
    "learning_rate": COSINE,
    "groups": (
        ParameterGroup(match="*.bias", momentum=0.0, centered=True),
        ParameterGroup(match="head.*", learning_rate_factor=0.5, momentum=0.3, rho=0.5),
    ),
}
CONFIGS = {
    "exact, rich": BASE.replace(**RICH),
    "exact, plateau": BASE.replace(momentum=0.9, nesterov=True, centered=True, learning_rate=PLATEAU),
    "exact, plain": BASE.replace(epsilon=1e-3),
    "stock, number": STOCK,
    "stock, schedule": STOCK.replace(learning_rate=COSINE, initial_mean_square=0.5),
    "stock, plateau and groups": STOCK.replace(
        learning_rate=PLATEAU, groups=(ParameterGroup(match="*.bias", learning_rate_factor=0.25, weight_decay=0.1),)
    ),
}


@pytest.fixture(params=MODES)
def mode(request):
    mindspore.set_context(mode=CONTEXTS[request.param])
    return request.param


@pytest.fixture
def pynative():
    mindspore.set_context(mode=CONTEXTS["pynative"])


def batch(step, dtype="float32"):
    rng = np.random.default_rng(step)
    return {name: np.asarray(rng.standard_normal(shape), dtype) for name, shape in SHAPES.items()}


def started(driver, config, mode="pynative", dtype="float32", seed=99, make=None):
    build = make or (lambda params: unirms.build(config, "mindspore", params))
    return driver.start(build, batch(seed, dtype), dtype, mode)


def walk(run, steps, dtype="float32"):
    """Make some steps, with a metric after each where there is a plateau."""
    for step in steps:
        run.step(batch(step, dtype), None)
        scheduler = unirms.lr_scheduler(run.optimizer)
        if scheduler is not None:
            scheduler.step(1.0 if step % 7 else 0.5)


def taken(run):
    """Return the state with its weights, copied as a user may: through plain data, not contiguous, read only."""
    state = unirms.state_of(run.optimizer, model=run.params)
    copies = {}
    for kind, arrays in state.tensors().items():
        copies[kind] = {name: np.array(array, order="F") for name, array in arrays.items()}
        for array in copies[kind].values():
            array.flags.writeable = False
    return dataclasses.replace(state, **copies)


def assert_same(first, second):
    left, right = taken(first), taken(second)
    for kind, arrays in left.tensors().items():
        assert same_bits(arrays, right.tensors()[kind]), kind
    assert (left.step, left.micro_step, left.plateau) == (right.step, right.micro_step, right.plateau)
    assert left.learning_rate == right.learning_rate


def half_way(driver, config, mode, dtype="float32", make=None):
    """Return a run of 40 steps, and the state after 20 of them."""
    whole = started(driver, config, mode, dtype, make=make)
    walk(whole, range(20), dtype)
    state = taken(whole)
    walk(whole, range(20, 40), dtype)
    return whole, state


# What goes on is what was there


@pytest.mark.parametrize("name", CONFIGS)
def test_twenty_steps_and_twenty_more_are_forty(name, mode, driver):
    whole, state = half_way(driver, CONFIGS[name], mode)
    assert type(whole.optimizer) is (nn.RMSProp if name.startswith("stock") else adapter.UniRMSProp)

    fresh = started(driver, CONFIGS[name], mode, seed=98)
    fresh.resume(state)
    walk(fresh, range(20, 40))
    assert_same(whole, fresh)

    other = started(driver, CONFIGS[name], mode, seed=97)
    walk(other, range(60, 64))  # compiled, and in the middle of an accumulation
    other.resume(state)
    walk(other, range(20, 40))
    assert_same(whole, other)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_other_dtypes(dtype, driver):
    whole, state = half_way(driver, CONFIGS["exact, rich"], "pynative", dtype)
    assert {array.dtype for array in state.mean_square.values()} == {np.dtype(dtype)}
    other = started(driver, CONFIGS["exact, rich"], "pynative", dtype, seed=97)
    walk(other, range(60, 62), dtype)
    other.resume(state)
    walk(other, range(20, 40), dtype)
    assert_same(whole, other)


@pytest.mark.parametrize("rate", [[0.01 / (1 + i) for i in range(40)], nn.CosineDecayLR(0.001, 0.01, 40)], ids=type)
@pytest.mark.parametrize("exact", [False, True], ids=["stock", "exact"])
def test_schedules_of_mindspore_go_on_at_their_update(rate, exact, driver):
    def make(params):
        if exact:
            return adapter.UniRMSProp(params, BASE, learning_rate=rate)
        return nn.RMSProp(list(params.values()), rate, momentum=0.8, centered=True)

    whole, state = half_way(driver, None, "pynative", make=make)
    assert state.learning_rate == pytest.approx(unirms.config_of(whole.optimizer).learning_rate_at(20))
    other = started(driver, None, "pynative", seed=97, make=make)
    walk(other, range(60, 62))
    other.resume(state)
    walk(other, range(20, 40))
    assert_same(whole, other)


@pytest.mark.parametrize("level", ["O0", "O1"])
def test_the_levels_of_the_compiler(level, driver):
    mindspore.set_context(mode=CONTEXTS["graph"], jit_config={"jit_level": level})
    try:
        whole, state = half_way(driver, STOCK, "graph")
        other = started(driver, STOCK, "graph", seed=97)
        walk(other, range(60, 62))
        other.resume(state)
        walk(other, range(20, 40))
        assert_same(whole, other)
    finally:
        mindspore.set_context(jit_config={"jit_level": "O0"})


def experimental_of(params):
    split = [{"params": [p]} for p in params.values()]
    split[1] |= {"momentum": 0.0, "lr": 0.01}
    return experimental.RMSprop(split, lr=0.003, momentum=0.8, centered=True, eps=1e-3)


def test_the_experimental_class_goes_on_but_does_not_count(mode, driver):
    whole, state = half_way(driver, None, mode, make=experimental_of)
    assert (state.step, sorted(state.momentum)) == (0, ["body.weight", "head.scale"])
    other = started(driver, None, mode, seed=97, make=experimental_of)
    walk(other, range(60, 62))
    other.resume(dataclasses.replace(state, step=20))
    walk(other, range(20, 40))
    assert_same(whole, other)


# What is written, and what is not


def test_a_state_is_complete_before_the_first_step(mode, driver):
    for config, start in ((STOCK, 1.0), (CONFIGS["stock, schedule"], 0.5), (BASE.replace(**RICH), 0.0)):
        run = started(driver, config, mode)
        state = taken(run)
        assert all((array == start).all() for array in state.mean_square.values())
        assert [list(state.mean_square), list(state.weights)] == [list(SHAPES)] * 2
        assert (state.step, state.learning_rate) == (0, config.initial_learning_rate)
        shown = [(p.name, p.shape, p.dtype) for p in adapter.ADAPTER.parameters_of(run.optimizer)]
        assert shown == [(name, shape, "float32") for name, shape in SHAPES.items()]


def test_a_plateau_is_in_the_state_while_it_drives_the_rate(pynative, driver):
    run = started(driver, CONFIGS["exact, plateau"])
    walk(run, range(10))
    assert taken(run).plateau == unirms.lr_scheduler(run.optimizer).state
    assert taken(run).learning_rate == taken(run).plateau.rate < 0.02

    ops.assign(run.optimizer.learning_rate, Tensor(0.7, run.optimizer.learning_rate.dtype))
    assert (taken(run).plateau, taken(run).learning_rate) == (None, 0.7)


def test_a_plateau_of_which_the_state_says_nothing_begins_anew(pynative, driver):
    run = started(driver, CONFIGS["exact, plateau"])
    walk(run, range(10))
    with pytest.warns(unirms.FidelityWarning, match="learning_rate"):
        unirms.restore(run.optimizer, taken(started(driver, run.optimizer.config.replace(learning_rate=0.5))))
    assert unirms.lr_scheduler(run.optimizer).state == PLATEAU.begin()


def test_a_rate_that_is_a_number_stays(pynative, driver):
    run = started(driver, STOCK)
    state = taken(run)
    walk(run, range(2))
    ops.assign(run.optimizer.learning_rate, Tensor(0.25, mindspore.float32))
    with pytest.warns(unirms.FidelityWarning, match="learning_rate"):
        run.resume(state)
    assert unirms.config_of(run.optimizer).learning_rate == 0.25


def test_the_buffer_that_is_there_without_momentum_is_no_part_of_a_state(pynative, driver):
    run = started(driver, STOCK.replace(momentum=0.0))
    walk(run, range(2))
    assert np.any(run.optimizer.moment[0].asnumpy())
    state = taken(run)
    assert state.momentum == {}
    run.resume(state)
    assert not any(np.any(moment.asnumpy()) for moment in run.optimizer.moment)


def test_more_updates_than_mindspore_counts_are_refused(pynative, driver):
    run = started(driver, BASE.replace(momentum=0.5))
    walk(run, range(2))
    before = taken(run)
    with pytest.raises(StateError, match="counts no more than 2147483647"):
        run.resume(dataclasses.replace(before, step=2**31))
    assert_same(run, run)
    assert same_bits(taken(run).mean_square, before.mean_square)


# Compiled training goes on with what was written


class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Dense(4, 8), nn.BatchNorm1d(8)
        self.second = nn.Dense(8, 1)
        self.register_buffer("shift", Tensor(np.zeros(1, np.float32)))

    def construct(self, x):
        return self.second(ops.relu(self.norm(self.first(x)))) + self.shift


BATCH = (np.linspace(-1, 1, 24, dtype=np.float32).reshape(6, 4), np.linspace(0, 1, 6, dtype=np.float32).reshape(6, 1))


class Training:
    """A network with batch normalization under `TrainOneStepCell`."""

    def __init__(self, config):
        self.params, self.optimizer = Net(), None
        self.optimizer = unirms.build(config, "mindspore", self.params)
        self.step = nn.TrainOneStepCell(nn.WithLossCell(self.params, nn.MSELoss()), self.optimizer).set_train()

    def walk(self, steps):
        return [float(self.step(*map(Tensor, BATCH)).asnumpy()) for _ in range(steps)]


@pytest.mark.parametrize("config", [STOCK, BASE.replace(momentum=0.5, centered=True)], ids=["stock", "exact"])
def test_a_compiled_training_step_goes_on_with_the_state(config, mode):
    whole, other = Training(config), Training(config)
    whole.walk(5)
    state = taken(whole)
    assert set(state.weights) - set(state.mean_square) == {"norm.moving_mean", "norm.moving_variance", "shift"}
    other.walk(3)
    unirms.restore(other.optimizer, state, model=other.params)
    assert whole.walk(5) == other.walk(5)
    assert_same(whole, other)


def in_a_function_of_the_users(driver):
    """Return two runs of four steps in a compiled function; the second takes the state of the first after three."""
    runs = [started(driver, STOCK, seed=seed) for seed in (99, 97)]

    def compiled(optimizer):
        @mindspore.jit
        def step(*grads):
            return optimizer(grads)

        return step

    steps = [compiled(run.optimizer) for run in runs]
    for _ in range(3):
        steps[0](*map(Tensor, batch(0).values()))
    steps[1](*map(Tensor, batch(1).values()))
    runs[1].resume(taken(runs[0]))
    for step in steps:
        step(*map(Tensor, batch(2).values()))
    return runs


def test_a_function_of_the_users_that_is_compiled_in_pynative_mode(pynative, driver):
    assert_same(*in_a_function_of_the_users(driver))


def test_writing_by_set_data_would_be_caught(pynative, driver, monkeypatch):
    monkeypatch.setattr(accumulators, "assign", lambda value, array: value.set_data(Tensor(array, value.dtype)))
    with pytest.raises(AssertionError):
        assert_same(*in_a_function_of_the_users(driver))


def test_an_update_that_is_not_compiled_anew_would_be_caught(pynative, driver, monkeypatch, tmp_path):
    monkeypatch.setattr(accumulators, "compile_anew", lambda optimizer: None)
    with pytest.raises(AssertionError):
        test_restore_after_mindspores_own_loading(STOCK, "in the middle", "pynative", driver, tmp_path)


@pytest.mark.parametrize("when", ["before the first step", "in the middle"])
@pytest.mark.parametrize("config", [STOCK, BASE.replace(momentum=0.5)], ids=["stock", "exact"])
def test_restore_after_mindspores_own_loading(config, when, mode, driver, tmp_path):
    whole = started(driver, config, mode)
    walk(whole, range(5))
    path = whole.save(tmp_path)
    walk(whole, range(5, 10))
    state = taken(whole)
    walk(whole, range(10, 15))

    other = started(driver, config, mode, seed=97)
    if when == "in the middle":
        walk(other, range(60, 62))
    other.load(path)  # in PyNative mode, in the middle, this stops the training: MindSpore's defect
    other.resume(state)
    walk(other, range(10, 15))
    assert_same(whole, other)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_drivers_own_checkpoint_goes_on(name, driver, tmp_path):
    whole = started(driver, CONFIGS[name])
    walk(whole, range(20))
    path = whole.save(tmp_path)
    walk(whole, range(20, 25))
    other = started(driver, CONFIGS[name], seed=97)
    other.load(path)
    walk(other, range(20, 25))
    assert_same(whole, other)


# Planted defects, which the tests above have to catch


def forgets_a_slot(optimizer, state):
    accumulators.write(optimizer, dataclasses.replace(state, mean_gradient=taken_of(optimizer).mean_gradient))


def forgets_the_counter(optimizer, state):
    accumulators.write(optimizer, dataclasses.replace(state, step=taken_of(optimizer).step))


def forgets_what_is_gathered(optimizer, state):
    accumulators.write(optimizer, dataclasses.replace(state, gradient_sum={}))


def taken_of(optimizer):
    return accumulators.read(optimizer)


@pytest.mark.parametrize("defect", [forgets_a_slot, forgets_the_counter, forgets_what_is_gathered])
def test_a_defect_is_caught(defect, monkeypatch, driver):
    whole, state = half_way(driver, CONFIGS["exact, rich"], "pynative")
    other = started(driver, CONFIGS["exact, rich"], seed=97)
    walk(other, range(60, 61))
    monkeypatch.setattr(type(adapter.ADAPTER), "restore", lambda self, optimizer, state: defect(optimizer, state))
    other.resume(state)
    walk(other, range(20, 40))
    with pytest.raises(AssertionError):
        assert_same(whole, other)


# Weights


def test_the_weights_of_a_cell_are_all_that_is_floating_point(pynative):
    net = Net()
    net.count = Parameter(Tensor(0, mindspore.int32), name="count")
    found = adapter.ADAPTER.weights_of(net)
    assert [one.name for one in found] == [
        *(f"first.{name}" for name in ("weight", "bias")),
        *(f"norm.{name}" for name in ("moving_mean", "moving_variance", "gamma", "beta")),
        *(f"second.{name}" for name in ("weight", "bias")),
        "shift",
    ]
    pairs = [("mine", net.first.weight)]
    assert [(one.name, one.shape) for one in adapter.ADAPTER.weights_of(pairs)] == [("mine", (8, 4))]


def test_two_weights_of_one_name_are_refused(pynative):
    twice = [Parameter(Tensor(np.ones(2, np.float32)), name="w") for _ in range(2)]
    with pytest.raises(UnsupportedError, match="two weights of the model are called 'w'"):
        adapter.ADAPTER.weights_of(twice)


def test_a_tensor_is_copied_out_and_assigned_in_its_own_dtype(pynative):
    narrow = Tensor(np.array([1.5, 2.25], np.float32)).astype(mindspore.bfloat16)
    assert adapter.ADAPTER.array_of(narrow).tolist() == [1.5, 2.25]
    adapter.ADAPTER.assign(narrow, np.array([3.5, 0.25], np.float32))
    assert adapter.ADAPTER.array_of(narrow).tolist() == [3.5, 0.25]
    param = Parameter(Tensor(np.ones(2, np.float16)), name="w")
    adapter.ADAPTER.assign(param, np.array([0.5, 2.0], np.float64))
    assert (param.asnumpy().tolist(), param.asnumpy().dtype) == ([0.5, 2.0], np.float16)
