"""PaddlePaddle: `state_of` and `restore`, of the stock and the exact class, in dynamic mode and in static graphs."""

import dataclasses
import warnings

import numpy as np
import pytest

import paddle_runs as runs
import unirms
from unirms import RMSPropConfig, schedules
from unirms.clipping import ClipByGlobalNorm
from unirms.conformance.drivers.paddle import DRIVER, paddle
from unirms.conformance.measures import same_bits
from unirms.errors import PrecisionWarning, StateError, UnsupportedError

from unirms.adapters.paddle import ADAPTER, UniRMSProp, restoring  # isort: skip  (the driver quietens the import)

StaticGraph, parameter, step = runs.StaticGraph, runs.parameter, runs.step

# Paddle's own autograd asks for it, in every static graph.
pytestmark = pytest.mark.filterwarnings("ignore:Tensor do not have 'place' interface:UserWarning")

lr = paddle.optimizer.lr
STOCK = paddle.optimizer.RMSProp
MODES = ("dynamic", "static")
START = {"body.weight": (3, 4), "body.bias": (5,), "head.weight": (4, 2), "scale": ()}
# Powers of two, so that the stock class computes it for float64 weights too.
BASE = RMSPropConfig(learning_rate=2**-7, rho=0.875, epsilon=2**-10, momentum=0.75)
STEP = schedules.Step(initial_learning_rate=2**-6, step_size=3, gamma=0.5)
COSINE = schedules.Cosine(initial_learning_rate=0.01, decay_steps=30)
PLATEAU = schedules.Plateau(initial_learning_rate=0.01, factor=0.5, patience=1, cooldown=1)
GROUPS = (
    {"match": ["*.bias"], "momentum": 0.0, "learning_rate_factor": 0.5},
    {"match": ["head.*"], "centered": True, "rho": 0.5},
)
CASES = {
    "stock": BASE,
    "stock, plain": BASE.replace(momentum=0.0),
    "stock, centered with decay": BASE.replace(centered=True, weight_decay=0.125, weight_decay_mode="l2"),
    "stock, scheduled": BASE.replace(learning_rate=STEP),
    "stock, our schedule": BASE.replace(learning_rate=COSINE),
    "nesterov, bias correction": BASE.replace(nesterov=True, bias_correction=True, initial_mean_square=0.5),
    "rate outside, scheduled": BASE.replace(lr_in_momentum=False, learning_rate=COSINE, centered=True),
    "skip": BASE.replace(centered=True, negative_variance="skip", initial_mean_square=1.0, nesterov=True),
    "groups": BASE.replace(groups=GROUPS, learning_rate=STEP),
    "average": BASE.replace(ema_decay=0.9),
    "average that begins late": BASE.replace(ema_decay=0.9, ema_start=22),
    "half gathered": BASE.replace(gradient_accumulation_steps=3, learning_rate=STEP, ema_decay=0.5),
    "skipped updates": BASE.replace(non_finite="skip", learning_rate=STEP, bias_correction=True),
    "everything": BASE.replace(
        groups=GROUPS,
        learning_rate=COSINE,
        nesterov=True,
        bias_correction=True,
        centered=True,
        epsilon=0.01,
        initial_mean_square=1.0,
        ema_decay=0.75,
        weight_decay=0.1,
        clip=(ClipByGlobalNorm(max_norm=0.7),),
        gradient_accumulation_steps=3,
        non_finite="skip",
    ),
    "stock, plateau": BASE.replace(learning_rate=PLATEAU),
    "plateau": BASE.replace(learning_rate=PLATEAU, lr_in_momentum=False),
}


def start(case, mode, dtype="float32", seed=1, make=None):
    """Return a run of a case over new weights."""
    rng = np.random.default_rng(seed)
    weights = {name: np.asarray(rng.normal(size=shape), dtype) for name, shape in START.items()}
    policy = "stock" if case.startswith("stock") else "exact"
    make = make or (lambda params, **options: unirms.build(CASES[case], "paddle", params, policy=policy, **options))
    run = DRIVER.start(make, weights, dtype, mode)
    assert type(run.optimizer) is (STOCK if policy == "stock" else UniRMSProp) or make is exact
    return run


def exact(params, **options):
    """Return the exact class of what the stock class would do as well."""
    return ADAPTER.exact(CASES["stock, scheduled"], ADAPTER.named_parameters(params), options)


def go(run, case, first, last, dtype="float32", seed=2):
    """Make the steps of a run from one number to another; step 13 has a NaN where such are skipped."""
    rng = np.random.default_rng(seed)
    for number in range(last):
        grads = {name: np.asarray(rng.normal(size=shape), dtype) for name, shape in START.items()}
        if number >= first:
            if number == 13 and CASES[case].non_finite == "skip":
                grads["scale"] = np.asarray(np.nan, dtype)
            run.step(grads, None)
            scheduler = unirms.lr_scheduler(run.optimizer)
            if isinstance(scheduler, lr.ReduceOnPlateau):
                scheduler.step([1.0, 0.5, 2.0, 0.75][number % 4])


def whole(run):
    """Return a state with the weights, through copies of all arrays."""
    state = run.snapshot()
    copies = {kind: {n: np.array(v) for n, v in found.items()} for kind, found in state.tensors().items()}
    return dataclasses.replace(state, **copies)


def alike(one, other):
    """Return whether two runs have the same bits: weights and state."""
    states = one.snapshot(), other.snapshot()
    tensors = [state.tensors() for state in states]
    places = [(state.step, state.micro_step, state.plateau, state.learning_rate) for state in states]
    return places[0] == places[1] and all(same_bits(tensors[0][kind], tensors[1][kind]) for kind in tensors[0])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_a_restored_run_goes_on_bit_for_bit(case, mode):
    straight, other = start(case, mode), start(case, mode, seed=3)
    go(straight, case, 0, 20)
    state = whole(straight)
    other.resume(state)
    assert alike(straight, other)
    go(straight, case, 20, 40)
    go(other, case, 20, 40)
    assert alike(straight, other)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_a_state_overwrites_that_of_another_training(case, mode):
    straight, other = start(case, mode, "float64"), start(case, mode, "float64", seed=3)
    go(straight, case, 0, 20, "float64")
    go(other, case, 0, 31, "float64", seed=4)
    other.resume(whole(straight))
    go(straight, case, 20, 40, "float64")
    go(other, case, 20, 40, "float64")
    assert alike(straight, other)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_a_state_before_the_first_step_is_whole_and_begins_anew(case, mode):
    straight, other = start(case, mode), start(case, mode, seed=3)
    state = whole(straight)
    assert state.step == 0
    assert set(state.mean_square) == set(START)
    expected = unirms.reference.init(CASES[case], straight.weights())
    assert all(same_bits(expected.slots()[slot], found) for slot, found in state.slots().items())
    assert state.micro_step == 0
    go(other, case, 0, 7, seed=4)
    other.resume(state)
    go(straight, case, 0, 10)
    go(other, case, 0, 10)
    assert alike(straight, other)


@pytest.mark.parametrize("mode", MODES)
def test_from_the_stock_to_the_exact_class_and_back(mode):
    straight, last = (start("stock, scheduled", mode, seed=seed) for seed in (1, 3))
    other = start("stock, scheduled", mode, make=exact)
    assert type(other.optimizer) is UniRMSProp
    go(straight, "stock, scheduled", 0, 20)
    other.resume(whole(straight))
    assert other.state().step == 20
    go(straight, "stock, scheduled", 20, 25)
    go(other, "stock, scheduled", 20, 25)
    last.resume(whole(other))
    assert last.state().step == 25
    # The kernel has other roundings.
    for name, values in straight.weights().items():
        np.testing.assert_allclose(last.weights()[name], values, rtol=1e-6)


DEFECTS = {
    "a slot": ("everything", lambda patch: patch.setattr(restoring, "SLOTS", {"mean_square": "mean_square"})),
    "the count": ("nesterov, bias correction", lambda patch: _skip(patch, restoring, "_restore_own")),
    "the scheduler": ("stock, scheduled", lambda patch: _skip(patch, restoring.schedules, "place")),
    "the sums": ("half gathered", lambda patch: patch.setattr(restoring, "_tensors", lambda *_: {})),
}


def _skip(patch, module, name):
    patch.setattr(module, name, lambda *_: None)


@pytest.mark.parametrize("forgotten", DEFECTS)
def test_a_restore_that_forgets_something_is_caught(forgotten, monkeypatch):
    case, plant = DEFECTS[forgotten]
    straight, other = start(case, "dynamic"), start(case, "dynamic", seed=3)
    go(straight, case, 0, 20)
    plant(monkeypatch)
    other.resume(whole(straight))
    go(straight, case, 20, 24)
    go(other, case, 20, 24)
    assert not same_bits(straight.weights(), other.weights())


# Schedulers of the user

SCHEDULERS = {
    "StepDecay": lambda: lr.StepDecay(0.1, 7, 0.5),
    "NoamDecay": lambda: lr.NoamDecay(16, 10, 0.1),
    "PolynomialDecay": lambda: lr.PolynomialDecay(0.1, 20, cycle=True),
    "PiecewiseDecay": lambda: lr.PiecewiseDecay([3, 9], [0.1, 0.05, 0.02]),
    "CosineAnnealingDecay": lambda: lr.CosineAnnealingDecay(0.1, 7, 0.001),
    "LinearLR": lambda: lr.LinearLR(0.5, 25, 0.25, 1.0),
    "CosineAnnealingWarmRestarts": lambda: lr.CosineAnnealingWarmRestarts(0.1, 5, 2, 0.001),
    "LinearWarmup": lambda: lr.LinearWarmup(0.1, 10, 0.0, 0.1),
    "LinearWarmup of StepDecay": lambda: lr.LinearWarmup(lr.StepDecay(0.1, 7, 0.5), 10, 0.0, 0.1),
    "LinearWarmup of LinearLR": lambda: lr.LinearWarmup(lr.LinearLR(0.1, 25, 1.0, 0.25), 10, 0.0, 0.1),
    "LinearWarmup of CosineAnnealingDecay": lambda: lr.LinearWarmup(lr.CosineAnnealingDecay(0.1, 7), 10, 0.0, 0.1),
}


def places(scheduler):
    return {name: value for name, value in vars(scheduler).items() if name in {"last_epoch", "last_lr", "T_cur", "T_i"}}


@pytest.mark.parametrize("updates", [0, 1, 5, 9, 10, 11, 26, 200])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_comes_to_its_place(name, updates):
    straight, other = SCHEDULERS[name](), SCHEDULERS[name]()
    for _ in range(updates):
        straight.step()
    for _ in range(31):
        other.step()
    optimizer = STOCK(other, parameters=[parameter([1.0])])
    state = unirms.state_of(STOCK(straight, parameters=[parameter([1.0])]))
    assert state.step == updates
    names = dict(zip(state.mean_square, unirms.state_of(optimizer).mean_square, strict=True))
    unirms.restore(optimizer, state, names=names)
    schedule = unirms.config_of(optimizer).learning_rate
    for t in range(updates, updates + 40):
        assert places(other) == places(straight)
        assert other() == pytest.approx(schedule.value(t), rel=1e-9, abs=1e-12)
        straight.step()
        other.step()


def test_a_place_too_far_for_a_recursive_scheduler_is_refused_and_nothing_is_written():
    optimizer = STOCK(lr.LinearLR(0.5, 25), parameters=[parameter([1.0])])
    (name,) = unirms.state_of(optimizer).mean_square
    state = dataclasses.replace(unirms.state_of(optimizer), step=10**9, mean_square={name: np.ones(1, "float32")})
    with pytest.raises(UnsupportedError, match="LinearLR computes each rate from the one before"):
        unirms.restore(optimizer, state)
    assert unirms.state_of(optimizer).mean_square[name] == 0.0
    closed = STOCK(lr.StepDecay(0.5, 10**8), parameters=[parameter([1.0])])
    unirms.restore(closed, dataclasses.replace(state, config=unirms.config_of(closed)), names={name: known(closed)})
    assert closed.get_lr() == pytest.approx(0.5 * 0.1**10)


def known(optimizer):
    """Return the name of the only parameter of an optimizer."""
    (name,) = unirms.state_of(optimizer).mean_square
    return name


def test_a_scheduler_of_no_known_class_is_refused_before_anything_is_written():
    optimizer = STOCK(lr.LambdaDecay(0.1, lambda t: 0.9**t), parameters=[parameter([1.0])])
    state = dataclasses.replace(unirms.state_of(optimizer), step=3, mean_square={"w": np.ones(1, "float32")})
    for call in (lambda: unirms.restore(optimizer, state), lambda: ADAPTER.restore(optimizer, state)):
        with pytest.raises(UnsupportedError, match="LambdaDecay"):
            call()
    assert unirms.state_of(optimizer).mean_square[known(optimizer)] == 0.0
    assert unirms.state_of(optimizer).config is None


@pytest.mark.parametrize("ours", [False, True])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_plateau_is_read_and_restored(ours, mode):
    def made():
        if ours:
            plateau = schedules.Plateau(initial_learning_rate=0.5, mode=mode, patience=1, factor=0.5, cooldown=2)
            optimizer = unirms.build(BASE.replace(learning_rate=plateau), "paddle", {"w": parameter([1.0])})
        else:
            own = lr.ReduceOnPlateau(0.5, mode, 0.5, 1)
            optimizer = unirms.build(BASE, "paddle", {"w": parameter([1.0])}, policy="stock", scheduler=own)
        return optimizer, unirms.lr_scheduler(optimizer)

    (straight, first), (other, second) = made(), made()
    worst = np.inf if mode == "min" else -np.inf
    assert unirms.state_of(straight).plateau == unirms.schedules.plateau.PlateauState(0.5, worst)
    for metric in (1.0, 3.0, 3.0, 3.0, 3.0, 3.0, 0.5):
        second.step(-metric)
    for metric in ([], [1.0, 1.0, 1.0, 1.0, 1.0]):
        for one in metric:
            first.step(paddle.to_tensor(one))
        state = unirms.state_of(straight)
        assert state.learning_rate == state.plateau.rate == straight.get_lr()
        unirms.restore(other, state)
        assert unirms.state_of(other).plateau == state.plateau
        assert other.get_lr() == straight.get_lr()
    for metric in (1.0, 2.0, 0.1, 0.1, 0.1, 0.1, 0.1):
        first.step(metric)
        second.step(metric)
        assert other.get_lr() == straight.get_lr()


# Ways of Paddle


@pytest.mark.parametrize("make", [lambda p, **k: STOCK(0.01, momentum=0.5, parameters=p, **k), UniRMSProp])
def test_a_state_goes_onto_an_optimizer_into_which_a_state_dictionary_was_loaded(make):
    with paddle.utils.unique_name.guard():
        first = _built(make, [1.0, 2.0])
        step(first, [0.5, 1.0])
        loaded = first.state_dict()
        step(first, [0.5, 1.0])
        state = unirms.state_of(first)
    with paddle.utils.unique_name.guard():
        second = _built(make, [1.0, 2.0])
        second.set_state_dict(loaded)
        waiting = unirms.state_of(second)
        assert waiting.momentum[known(second)].tolist() == loaded[f"{known(second)}_momentum_0"].numpy().tolist()
        unirms.restore(second, state)
        second._parameter_list[0].set_value(first._parameter_list[0].numpy())
        step(second, [0.25, 0.25])
    with paddle.utils.unique_name.guard():
        step(first, [0.25, 0.25])
    assert (first._parameter_list[0].numpy() == second._parameter_list[0].numpy()).all()


def test_a_state_goes_where_a_loaded_state_dictionary_has_less():
    with paddle.utils.unique_name.guard():
        first = STOCK(0.01, parameters=[parameter([1.0]), parameter([2.0])])
        first._parameter_list[1].grad = paddle.ones([1])
        first.step()
    with paddle.utils.unique_name.guard():
        second = STOCK(0.01, parameters=[parameter([1.0]), parameter([2.0])])
        second.set_state_dict(first.state_dict())
        state = unirms.state_of(first)
        assert same_bits(unirms.state_of(second).mean_square, state.mean_square)
        unirms.restore(second, state)
        step(second, [1.0], [1.0])
    assert all((value > 0).all() for value in unirms.state_of(second).mean_square.values())


def _built(make, values):
    config = RMSPropConfig(learning_rate=0.01, momentum=0.5, nesterov=True)
    return make(config, [parameter(values)]) if make is UniRMSProp else make([parameter(values)])


def test_parameters_without_a_gradient_so_far_are_in_the_state():
    used, unused = parameter([1.0]), parameter([1.0, 2.0])
    for make in (lambda p: STOCK(0.1, momentum=0.5, parameters=p), lambda p: UniRMSProp(CASES["skip"], p)):
        optimizer = make([used, unused])
        used.grad = paddle.ones([1])
        optimizer.step()
        state = unirms.state_of(optimizer)
        expected = unirms.config_of(optimizer).initial_mean_square
        assert state.mean_square[unused.name].tolist() == [expected, expected]
        assert set(state.momentum) == {used.name, unused.name}
        assert [one.shape for one in ADAPTER.parameters_of(optimizer)] == [(1,), (2,)]


def test_the_stock_class_counts_no_steps_but_by_its_scheduler():
    for rate, steps in ((0.1, 0), (lr.StepDecay(0.1, 3), 2), (lr.ReduceOnPlateau(0.1), 0)):
        optimizer = STOCK(rate, parameters=[parameter([1.0])])
        for _ in range(2):
            step(optimizer, [1.0])
            if isinstance(rate, lr.LRScheduler):
                rate.step(*([1.0] if isinstance(rate, lr.ReduceOnPlateau) else []))
        assert unirms.state_of(optimizer).step == steps


def test_the_exact_class_takes_its_count_from_the_scheduler_of_a_stock_state():
    with paddle.utils.unique_name.guard():
        stock = STOCK(lr.StepDecay(0.1, 3), parameters=[parameter([1.0])])
        for _ in range(4):
            step(stock, [1.0])
            stock._learning_rate.step()
    with paddle.utils.unique_name.guard():
        exact = unirms.build(
            BASE.replace(learning_rate=STEP, momentum=0.0, sparse="lazy"), "paddle", [parameter([1.0])]
        )
        assert type(exact) is UniRMSProp
        exact.set_state_dict(stock.state_dict())
    assert unirms.state_of(exact).step == 4
    assert unirms.state_of(exact).learning_rate == STEP.value(4)


@pytest.mark.parametrize("name", [None, "mine"])
def test_a_prefix_of_the_accumulators_does_not_matter(name):
    optimizer = STOCK(0.1, momentum=0.5, parameters=[parameter([1.0])], name=name)
    state = unirms.state_of(optimizer)
    state = dataclasses.replace(state, momentum={known(optimizer): np.full(1, 0.5, "float32")})
    unirms.restore(optimizer, state)
    assert optimizer._accumulators["momentum" if name is None else "mine_momentum"][known(optimizer)].item() == 0.5
    assert unirms.state_of(optimizer).momentum[known(optimizer)] == 0.5


def test_momentum_that_the_config_does_not_use_is_no_part_of_the_state_and_zero_afterwards():
    optimizer = STOCK(0.1, parameters=[parameter([1.0])])
    step(optimizer, [1.0])
    state = unirms.state_of(optimizer)
    assert not state.momentum
    held = optimizer._accumulators["momentum"][known(optimizer)]
    assert held.item() != 0  # the last update
    unirms.restore(optimizer, state)
    assert held.item() == 0


def test_a_static_graph_without_variables_is_refused():
    with StaticGraph() as run:
        weight = paddle.create_parameter([2], "float32")
        optimizer = unirms.build(CASES["average"], "paddle", {"w": weight})
        state = unirms.state_of(optimizer)
        assert (state.mean_square["w"].tolist(), dict(state.average)) == ([0.0, 0.0], {})
        state = dataclasses.replace(state, average={"w": np.ones(2, "float32")})
        with pytest.raises(UnsupportedError, match="before minimize and the startup program"):
            unirms.restore(optimizer, state)
        optimizer.minimize(paddle.sum(weight))
        with pytest.raises(UnsupportedError, match="before minimize and the startup program"):
            unirms.restore(optimizer, state)
        with pytest.raises(UnsupportedError, match="run the startup program first"):
            unirms.state_of(optimizer, model={"w": weight})
        run.startup()
        unirms.restore(optimizer, state)
        with pytest.raises(StateError, match="nothing for 'w'"):
            unirms.restore(optimizer, dataclasses.replace(state, mean_square={}, momentum={}, average={}))


# Models


def network():
    return paddle.nn.Sequential(paddle.nn.Conv2D(1, 2, 3), paddle.nn.BatchNorm2D(2), paddle.nn.Flatten(), Twice())


class Twice(paddle.nn.Layer):
    """A layer with a parameter under two names, a count, and a buffer that no state dictionary has."""

    def __init__(self):
        super().__init__()
        self.one = paddle.nn.Linear(2, 2)
        self.two = self.one
        if paddle.in_dynamic_mode():
            self.register_buffer("count", paddle.zeros([1], "int64"))
            self.register_buffer("scratch", paddle.zeros([1]), persistable=False)

    def forward(self, x):
        return self.two(self.one(x))


# What Paddle says at every graph of a batch normalization.
BATCH_NORM = "ignore:When training, we now always track:UserWarning"
EXPECTED = ["0.weight", "0.bias", "1.weight", "1.bias", "1._mean", "1._variance", "3.one.weight", "3.one.bias"]


@pytest.mark.filterwarnings(BATCH_NORM)
@pytest.mark.parametrize("policy", ["stock", "exact"])
def test_a_model_with_batch_normalization_moves_whole(policy):
    config = CASES["stock" if policy == "stock" else "nesterov, bias correction"]
    rng = np.random.default_rng(5)
    images = rng.normal(size=(20, 4, 1, 3, 3)).astype("float32")
    ends = []

    def train(net, optimizer, first, last):
        for batch in images[first:last]:
            net(paddle.to_tensor(batch)).square().mean().backward()
            optimizer.step()
            optimizer.clear_grad()

    first, second = network(), network()
    optimizers = [unirms.build(config, "paddle", net, policy=policy) for net in (first, second)]
    assert [one.name for one in ADAPTER.weights_of(first)] == EXPECTED
    captured = paddle.jit.to_static(second, full_graph=True)
    train(first, optimizers[0], 0, 10)
    train(captured, optimizers[1], 0, 3)  # captured before the state comes
    state = unirms.state_of(optimizers[0], model=first)
    assert list(state.weights) == EXPECTED
    assert set(state.mean_square) == set(EXPECTED) - {"1._mean", "1._variance"}
    unirms.restore(optimizers[1], state, model=second)
    assert unirms.state_of(optimizers[1]).step == (10 if policy == "exact" else 0)
    train(first, optimizers[0], 10, 20)
    train(captured, optimizers[1], 10, 20)
    for net in (first, second):
        net.eval()
        ends.append({one.name: ADAPTER.array_of(one.value) for one in ADAPTER.weights_of(net)})
    # A captured program may fuse operations.
    for name in EXPECTED:
        np.testing.assert_allclose(ends[0][name], ends[1][name], rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings(BATCH_NORM)
def test_the_weights_of_a_static_program():
    with StaticGraph() as run:
        net = network()
        net(paddle.static.data("x", [1, 1, 3, 3], "float32"))
        run.startup()
        by_layer = {one.name: ADAPTER.array_of(one.value) for one in ADAPTER.weights_of(net)}
        by_program = {one.name: ADAPTER.array_of(one.value) for one in ADAPTER.weights_of(run.main)}
        assert list(by_layer) == EXPECTED
        names = {param.name: name for name, param in net.state_dict().items() if not name.startswith("3.two")}
        assert {names[name] for name in by_program} == set(EXPECTED)
        assert same_bits(by_layer, {names[name]: value for name, value in by_program.items()})
        (mean,) = (one.value for one in ADAPTER.weights_of(net) if one.name == "1._mean")
        ADAPTER.assign(mean, np.array([2.0, 3.0], "float32"))
        assert run.value(mean).tolist() == [2.0, 3.0]


def test_the_rate_of_a_static_program_is_none_of_its_weights():
    with StaticGraph() as run:
        net = paddle.nn.Linear(3, 2)
        loss = net(paddle.static.data("x", [1, 3], "float32")).sum()
        paddle.optimizer.RMSProp(paddle.optimizer.lr.StepDecay(0.1, 3)).minimize(loss)
        held = [one.name for one in run.main.global_block().all_parameters()]
        weights = [one.name for one in ADAPTER.weights_of(run.main)]
    assert sorted(set(held) - set(weights)) == [name for name in held if name.startswith("learning_rate_")] != []


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 2)])
def test_tensors_of_every_dtype_are_read_and_written_in_their_place(dtype, shape):
    tensor = paddle.create_parameter(shape, dtype, default_initializer=paddle.nn.initializer.Constant(1.5))
    wide = "float32" if dtype == "bfloat16" else dtype
    found = ADAPTER.array_of(tensor)
    assert (found.dtype, found.shape) == (wide, shape)
    assert (found == 1.5).all()
    ADAPTER.assign(tensor, np.full(shape, -2.25, wide))
    assert (str(tensor.dtype), tuple(tensor.shape)) == (f"paddle.{dtype}", shape)
    assert (ADAPTER.array_of(tensor) == -2.25).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_written_into_bfloat16_is_rounded_to_the_nearest(dtype):
    tensor = paddle.create_parameter((4,), "bfloat16", default_initializer=paddle.nn.initializer.Constant(1.5))
    ADAPTER.assign(tensor, np.array([1 + 2**-8 + 2**-12, 1 + 3 * 2**-8, 1 + 2**-8, -0.3], dtype))
    assert ADAPTER.array_of(tensor).tolist() == [1 + 2**-7, 1 + 2**-6, 1.0, -0.30078125]


def test_a_state_that_is_rounded_says_so():
    source, target = ({"w": parameter([0.1], dtype)} for dtype in ("float64", "float32"))
    first, second = (unirms.build(CASES["skip"], "paddle", params) for params in (source, target))
    step(first, [0.3])
    with pytest.warns(PrecisionWarning, match="float32"):
        unirms.restore(second, unirms.state_of(first, model=source), model=target)
    assert target["w"].numpy() == source["w"].numpy().astype("float32")


def test_a_state_that_does_not_fit_changes_nothing():
    optimizer = unirms.build(CASES["everything"], "paddle", {name: parameter(np.ones(s)) for name, s in START.items()})
    state = unirms.state_of(optimizer)
    wrong = {**state.mean_square, "scale": np.full((), np.nan, "float32")}
    with pytest.raises(StateError, match="NaN"), warnings.catch_warnings():
        warnings.simplefilter("error")
        unirms.restore(optimizer, dataclasses.replace(state, mean_square=wrong, step=5))
    assert unirms.state_of(optimizer).step == 0
    assert not optimizer._accumulators


# Saved by the framework itself


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", ["stock, scheduled", "everything"])
def test_a_run_goes_on_from_its_own_checkpoint(case, mode, tmp_path):
    straight, other = start(case, mode), start(case, mode, seed=3)
    go(straight, case, 0, 20)
    other.load(straight.save(tmp_path))
    assert alike(straight, other)
    go(straight, case, 20, 30)
    go(other, case, 20, 30)
    assert alike(straight, other)
