"""MindSpore: what the whole config does around the numbers: errors, checkpoints, averages, native groups, training."""

import math

import mindspore
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops

import unirms
from unirms import NonFiniteGradientError, ParameterGroup, RMSPropConfig, SparseGradient, reference, schedules
from unirms.adapters import mindspore as adapter
from unirms.clipping import ClipByGlobalNorm, ClipByNorm, ClipByValue
from unirms.conformance.measures import same_bits
from unirms.errors import UnrepresentableError, UnsupportedError

BASE = RMSPropConfig(learning_rate=3e-3, epsilon=1e-2)
STOCK = RMSPropConfig.from_native("mindspore", learning_rate=3e-3, momentum=0.8, epsilon=1e-2, centered=True)
COSINE = schedules.Cosine(initial_learning_rate=0.01, decay_steps=6)
GROUPS = (
    ParameterGroup(match="p1", learning_rate=1e-3),
    ParameterGroup(match="p3", learning_rate_factor=0.5, weight_decay=0.2),
)


@pytest.fixture(params=["PYNATIVE_MODE", "GRAPH_MODE"])
def mode(request):
    mindspore.set_context(mode=getattr(mindspore, request.param))
    return request.param


@pytest.fixture
def pynative():
    mindspore.set_context(mode=mindspore.PYNATIVE_MODE)


def parameters(count=2, size=5, dtype="float32"):
    return {f"p{i}": Parameter(Tensor(np.full(size, 1.0 + i, dtype)), name=f"p{i}") for i in range(count)}


def values(params):
    return {name: param.asnumpy().copy() for name, param in params.items()}


def gradients(rng, params):
    return {name: rng.standard_normal(param.shape).astype(param.asnumpy().dtype) for name, param in params.items()}


def tensors(grads):
    return tuple(Tensor(np.asarray(grad)) for grad in grads.values())


def follow(config, rng, params, optimizer, steps):
    """Return the largest distance from the reference after some steps of both."""
    right = values(params)
    state = reference.init(config, right)
    for _ in range(steps):
        grads = gradients(rng, params)
        optimizer(tensors(grads))
        right, state = reference.step(config, right, grads, state)
    return max(np.abs(params[name].asnumpy() - right[name]).max() for name in params)


# Gradients that are not finite


@pytest.mark.parametrize("steps", [1, 2])
def test_raise_changes_nothing_and_names_the_gradient(steps, mode):
    params = parameters()
    config = BASE.replace(non_finite="raise", gradient_accumulation_steps=steps, loss_scale=4.0, ema_decay=0.9)
    optimizer = unirms.build(config, "mindspore", params)
    good = tensors({name: np.ones(5, np.float32) for name in params})
    bad = (good[0], Tensor(np.array([1, 1, np.nan, 1, 1], np.float32)))
    for _ in range(2 * steps - 1):
        optimizer(good)
    before, state = values(params), unirms.state_of(optimizer)

    with pytest.raises(NonFiniteGradientError, match="gradient of 'p1' has an infinity"):
        optimizer(bad)
    after = unirms.state_of(optimizer)
    assert same_bits(before, values(params))
    assert (after.step, after.micro_step) == (state.step, state.micro_step) == (2 - (steps > 1 or 1), steps - 1)
    assert all(same_bits(state.slots()[slot], after.slots()[slot]) for slot in state.slots())

    optimizer(good)
    assert unirms.state_of(optimizer).step == 2


def test_raise_looks_at_the_mean_in_the_dtype_of_the_weights(pynative):
    params = parameters(1, dtype="float16")
    optimizer = unirms.build(BASE.replace(non_finite="raise"), "mindspore", params)
    with pytest.raises(NonFiniteGradientError, match="'p0'"):
        optimizer((Tensor(np.full(5, 1e5, np.float32)),))  # more than float16 holds


def test_raise_within_a_compiled_function(mode):
    params = parameters()
    optimizer = unirms.build(BASE.replace(non_finite="raise"), "mindspore", params)
    before = values(params)

    @mindspore.jit
    def train(grads):
        optimizer(grads)
        return True

    with pytest.raises(RuntimeError, match="infinity or a NaN, and non_finite is 'raise'"):
        train(tensors({"p0": np.ones(5, np.float32), "p1": np.full(5, np.inf, np.float32)}))
    assert same_bits(before, values(params))
    assert unirms.state_of(optimizer).step == 0


@pytest.mark.parametrize(
    "clip",
    [
        ClipByValue(limit=0.5),
        ClipByNorm(max_norm=0.5),
        ClipByNorm(max_norm=0.5, eps=1e-6),
        ClipByGlobalNorm(max_norm=0.5),
        ClipByGlobalNorm(max_norm=0.5, eps=1e-6),
    ],
    ids=lambda clip: f"{clip.by}{getattr(clip, 'eps', '')}",
)
def test_clips_of_zeros_infinities_and_nan(clip, mode):
    config = BASE.replace(clip=clip, momentum=0.5)
    for odd in (0.0, np.inf, -np.inf, np.nan, 1e30):  # the square of the last one is infinite
        params = parameters()
        right = values(params)
        optimizer, state = unirms.build(config, "mindspore", params), reference.init(config, right)
        for number in (odd, 0.0):
            grads = {"p0": np.array([number, 0, 0, 0, 0], np.float32), "p1": np.zeros(5, np.float32)}
            optimizer(tensors(grads))
            right, state = reference.step(config, right, grads, state)
        assert same_bits(right, values(params)), odd
        assert same_bits(state.mean_square, unirms.state_of(optimizer).mean_square), odd


def test_the_sign_of_a_weight_that_is_nan_or_zero(mode):
    config = BASE.replace(weight_decay=0.3, weight_decay_mode="l1", rho=0.5)
    start = {"w": np.array([np.nan, 0.0, -0.0, 2.0, -2.0], np.float32)}
    params = {"w": Parameter(Tensor(start["w"]), name="w")}
    grads = {"w": np.ones(5, np.float32)}
    optimizer = unirms.build(config, "mindspore", params)
    optimizer(tensors(grads))

    expected, state = reference.step(config, start, grads, reference.init(config, start))
    assert same_bits(expected, values(params))
    assert same_bits(state.mean_square, unirms.state_of(optimizer).mean_square)


def test_a_global_norm_over_dtypes_is_of_the_wider(mode):
    kinds = {"a": np.float16, "b": np.float32, "c": np.float64}
    start = {name: np.linspace(1, 2, 9).astype(dtype) for name, dtype in kinds.items()}
    grads = {name: np.linspace(-200, 300, 9).astype(dtype) for name, dtype in kinds.items()}
    config = BASE.replace(clip=ClipByGlobalNorm(max_norm=0.3))
    params = {name: Parameter(Tensor(value), name=name) for name, value in start.items()}
    unirms.build(config, "mindspore", params)(tensors(grads))

    expected, _ = reference.step(config, start, grads, reference.init(config, start))
    for name, value in values(params).items():
        assert value.dtype == kinds[name]
        assert np.allclose(value, expected[name], rtol=4 * np.finfo(kinds[name]).eps, atol=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_norm_of_many_elements(dtype, mode):
    """MindSpore adds up doubles one after the other on CPU: for so many equal ones that is 1867 epsilons off."""
    gradient = np.full(100_003, 0.7, dtype)  # equal numbers, whose rounding errors do not cancel
    params = {"w": Parameter(Tensor(np.ones_like(gradient)), name="w")}
    config = BASE.replace(rho=0.0, clip=ClipByGlobalNorm(max_norm=1.0))
    optimizer = unirms.build(config, "mindspore", params)
    optimizer((Tensor(gradient),))

    wide = gradient.astype(np.float64)
    exact = wide * wide / math.fsum((wide * wide).tolist())
    error = unirms.state_of(optimizer).mean_square["w"] / exact - 1
    # Sums of 317 rows of 316: each addition rounds by half an epsilon at most, and a few operations follow.
    assert np.abs(error).max() <= (317 + 8) * np.finfo("float64").eps + 4 * np.finfo(dtype).eps


# Checkpoints, averages


def test_a_checkpoint_goes_on_in_mid_accumulation(mode, tmp_path, rng):
    config = BASE.replace(
        learning_rate=COSINE, gradient_accumulation_steps=3, ema_decay=0.9, non_finite="skip", groups=GROUPS[1:]
    )
    whole, resumed = parameters(4), parameters(4)
    first, second = (unirms.build(config, "mindspore", params) for params in (whole, resumed))
    for _ in range(7):
        first(tensors(gradients(rng, whole)))
    path = str(tmp_path / "state.ckpt")
    mindspore.save_checkpoint(first, path)
    missing, unused = mindspore.load_param_into_net(second, mindspore.load_checkpoint(path))

    assert (missing, unused) == ([], [])
    left, right = unirms.state_of(first), unirms.state_of(second)
    assert (right.step, right.micro_step) == (2, 1)
    assert same_bits(left.gradient_sum, right.gradient_sum)
    assert same_bits(left.average, right.average)
    for _ in range(5):
        grads = tensors(gradients(rng, whole))
        first(grads)
        second(grads)
    assert same_bits(values(whole), values(resumed))
    assert same_bits(unirms.state_of(first).average, unirms.state_of(second).average)


def test_averages_are_swapped_in_place_and_back(mode, rng):
    params = parameters()
    config = BASE.replace(ema_decay=0.9, momentum=0.5)
    optimizer = unirms.build(config, "mindspore", params)
    assert same_bits(unirms.state_of(optimizer).average, values(params))
    right, state = values(params), reference.init(config, values(params))
    for _ in range(4):  # PyNative optimizers do not see every way of writing after their first step
        grads = gradients(rng, params)
        optimizer(tensors(grads))
        right, state = reference.step(config, right, grads, state)
        with unirms.averaged(optimizer):
            assert same_bits(values(params), state.average)
            assert same_bits(unirms.state_of(optimizer).average, right)
        assert same_bits(values(params), right)
        assert same_bits(unirms.state_of(optimizer).average, state.average)


def test_no_average_is_refused(pynative):
    for config in (BASE, STOCK):
        optimizer = unirms.build(config, "mindspore", parameters())
        with pytest.raises(UnsupportedError, match="no running means of the weights"), unirms.averaged(optimizer):
            pass


def test_a_dynamic_loss_scale_outside_the_optimizer(mode, rng):
    """MindSpore's scaler unscales the gradients itself, and cannot look for an overflow on CPU."""
    params, plain = parameters(), parameters()
    scaler = mindspore.amp.DynamicLossScaler(scale_value=8.0, scale_factor=2, scale_window=3)
    optimizer = unirms.build(BASE.replace(non_finite="skip"), "mindspore", params)
    other = unirms.build(BASE, "mindspore", plain)
    for step in range(4):
        grads = tensors({n: g * 8 for n, g in gradients(rng, params).items()})
        if step == 2:
            grads = (grads[0], Tensor(np.full(5, np.inf, np.float32)))
        ready = scaler.unscale(grads)
        optimizer(ready)
        if step != 2:
            other(ready)
    assert same_bits(values(params), values(plain))
    assert unirms.state_of(optimizer).step == 3


# Groups


def test_a_live_rate_moves_all_groups(mode, rng):
    config = BASE.replace(groups=GROUPS)
    params = parameters(4)
    optimizer = unirms.build(config, "mindspore", params)
    follow(config, rng, params, optimizer, 1)
    assert unirms.config_of(optimizer) == config

    ops.assign(optimizer.learning_rate, Tensor(6e-3, optimizer.learning_rate.dtype))
    now = unirms.config_of(optimizer)
    assert [now.for_parameter(n).learning_rate for n in params] == pytest.approx([6e-3, 2e-3, 6e-3, 3e-3], rel=1e-15)
    fresh = parameters(4)
    assert follow(now, rng, fresh, unirms.build(now, "mindspore", fresh), 5) < 1e-6


@pytest.mark.parametrize("rate", [3e-3, COSINE], ids=["number", "schedule"])
def test_groups_that_the_stock_class_can_say_are_its_own(rate, mode, rng):
    groups = tuple(g for g in GROUPS if rate is not COSINE or g.learning_rate is None)
    config = STOCK.replace(learning_rate=rate, groups=groups, weight_decay=0.1, no_weight_decay=("p2",))
    params = parameters(4)
    optimizer = unirms.build(config, "mindspore", params, policy="stock")

    assert type(optimizer) is nn.RMSProp
    assert follow(config, rng, params, optimizer, 8) < 2e-6
    seen = unirms.config_of(optimizer)
    assert [seen.for_parameter(name) for name in params] == [config.for_parameter(name) for name in params]


def test_groups_that_it_cannot_say_are_not(pynative):
    config = STOCK.replace(groups=(ParameterGroup(match="p1", rho=0.5),))
    with pytest.raises(UnrepresentableError, match="groups"):
        unirms.build(config, "mindspore", parameters(), policy="stock")
    assert type(unirms.build(config, "mindspore", parameters())) is adapter.UniRMSProp
    with pytest.raises(UnsupportedError, match=r"groups\.0 matches no parameter"):
        unirms.build(STOCK.replace(groups=(ParameterGroup(match="q*", rho=0.5),)), "mindspore", parameters())


def test_stock_rounds_a_number_beside_a_schedule(pynative):
    """`lr + 1 - 1` in float32 (`_ConvertToCell`), so unirms gives every group a cell where one has a cell."""
    params = list(parameters().values())
    cell = nn.ExponentialDecayLR(0.1, 0.5, 30)
    optimizer = nn.RMSProp([{"params": params[:1], "lr": 1e-7}, {"params": params[1:], "lr": cell}], 0.1)
    rates = [float(rate.asnumpy()) for rate in optimizer.get_lr()]
    assert rates[0] == pytest.approx(2.0**-23, rel=1e-6)  # 19 % more than 1e-7
    with pytest.raises(UnsupportedError, match="different schedules"):
        unirms.config_of(optimizer)


def test_two_optimizers_over_the_same_parameters_do_not_meet(mode, rng):
    """Groups and slots are the optimizer's own: nothing is written into the parameters."""
    params, alone = parameters(), parameters()
    before = unirms.build(BASE, "mindspore", params)
    unirms.build(
        BASE.replace(groups=(ParameterGroup(match="p*", learning_rate_factor=9.0, rho=0.1),)), "mindspore", params
    )
    after, other = unirms.build(BASE, "mindspore", params), unirms.build(BASE, "mindspore", alone)
    twin = unirms.build(BASE, "mindspore", alone)
    for _ in range(3):
        grads = tensors(gradients(rng, params))
        before(grads), after(grads), other(grads), twin(grads)
    assert same_bits(values(params), values(alone))


# What MindSpore has no word for


def test_sparse_is_refused_with_the_reason(driver, pynative):
    # A config may say what becomes of rows, as TensorFlow 1's does: they never come.
    assert unirms.config_of(unirms.build(BASE.replace(sparse="lazy"), "mindspore", parameters())).sparse == "lazy"
    start = {"p0": np.ones((3, 2), np.float32)}
    run = driver.start(lambda params: unirms.build(BASE, "mindspore", params), start, "float32", "pynative")
    with pytest.raises(UnsupportedError, match="'p0' has one by rows"):
        run.step({"p0": SparseGradient(np.array([1]), np.ones((1, 2), np.float32))}, None)
    with pytest.raises(UnsupportedError, match="'p0' has none"):
        run.step({}, None)


def test_rows_that_lost_their_places_are_no_gradient(mode, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MindSpore writes rank_0/om/analyze_fail.ir where it fails to compile
    table = nn.EmbeddingLookup(5, 2, sparse=True)
    params = table.trainable_params()
    before = params[0].asnumpy().copy()
    gathering = BASE.replace(gradient_accumulation_steps=2)
    # Twenty times: where an error was first met inside a branch, it ended the process in five of six such runs.
    for config in (BASE, BASE.replace(non_finite="skip"), *[gathering, gathering.replace(non_finite="skip")] * 10):
        optimizer = unirms.build(config, "mindspore", params)
        with pytest.raises(ValueError, match="another shape than its parameter"):
            optimizer((Tensor(np.ones((1, 2), np.float32)),))
    assert np.array_equal(params[0].asnumpy(), before)


def test_an_embedding_with_sparse_gradients_is_why(pynative):
    table = nn.EmbeddingLookup(5, 2, sparse=True)

    def forward(ids):
        return table(ids).sum()

    _, (gradient,) = mindspore.value_and_grad(forward, None, table.trainable_params())(Tensor([3], mindspore.int32))
    assert gradient.shape == (1, 2)


def stock_step(shape):
    param = Parameter(Tensor(np.zeros(shape, np.float32)), name="w")
    gradient = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    optimizer = nn.RMSProp([{"params": [param], "grad_centralization": True}], 0.1)
    optimizer((Tensor(gradient),))
    return param.asnumpy(), gradient


def test_centralization_is_right_where_the_stock_class_ignores_it_or_crashes(mode, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MindSpore writes rank_0/om/analyze_fail.ir where it fails to compile
    moved, gradient = stock_step((2, 3))
    assert np.all(moved[gradient > 0] < 0)  # as if nobody had asked for it: no gradient has become negative
    with pytest.raises((RuntimeError, TypeError, ValueError)):
        stock_step((2, 16))[0].sum()

    for shape in ((2, 3), (2, 16), (3, 16, 2)):
        config = BASE.replace(gradient_centralization="first_axis")
        params = {"w": Parameter(Tensor(np.zeros(shape, np.float32)), name="w")}
        grads = {"w": np.arange(np.prod(shape), dtype=np.float32).reshape(shape)}
        unirms.build(config, "mindspore", params)(tensors(grads))
        start = {"w": np.zeros(shape, np.float32)}
        expected, _ = reference.step(config, start, grads, reference.init(config, start))
        assert np.allclose(params["w"].asnumpy(), expected["w"], rtol=1e-6, atol=1e-9)


# At home in MindSpore


class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.first = nn.Dense(4, 8, weight_init="ones", bias_init="zeros")
        self.second = nn.Dense(8, 1, weight_init="ones", bias_init="zeros")

    def construct(self, x):
        return self.second(ops.relu(self.first(x)))


BATCH = (np.linspace(-1, 1, 24, dtype=np.float32).reshape(6, 4), np.linspace(0, 1, 6, dtype=np.float32).reshape(6, 1))
WHOLE = BASE.replace(
    momentum=0.5,
    gradient_accumulation_steps=2,
    non_finite="skip",
    ema_decay=0.5,
    clip=ClipByGlobalNorm(max_norm=0.1),
    gradient_centralization="first_axis",
    groups=(ParameterGroup(match="*.bias", learning_rate_factor=2.0),),
)


def loss_and_gradients(net):
    loss_function = nn.MSELoss()

    def forward(x, y):  # graph mode cannot parse a lambda here
        return loss_function(net(x), y)

    return mindspore.value_and_grad(forward, None, net.trainable_params())


def train_with_a_compiled_step(net, optimizer):
    loss_of = loss_and_gradients(net)

    @mindspore.jit
    def step(x, y):
        loss, grads = loss_of(x, y)
        optimizer(grads)
        return loss

    for _ in range(5):
        step(*map(Tensor, BATCH))


def train_with_a_cell(net, optimizer):
    step = nn.TrainOneStepCell(nn.WithLossCell(net, nn.MSELoss()), optimizer)
    for _ in range(5):
        step(*map(Tensor, BATCH))


def train_with_model(net, optimizer):
    data = mindspore.dataset.NumpySlicesDataset(dict(zip("xy", BATCH, strict=True)), shuffle=False).batch(6)
    model = mindspore.train.Model(net, loss_fn=nn.MSELoss(), optimizer=optimizer)
    model.train(5, data, dataset_sink_mode=False)


@pytest.mark.parametrize("train", [train_with_a_compiled_step, train_with_a_cell, train_with_model])
def test_every_way_of_training(train, mode):
    net, expected = Net(), Net()
    optimizer = unirms.build(WHOLE, "mindspore", net)
    train(net, optimizer)

    # the same with the optimizer taken apart: gradients by MindSpore, updates by the reference
    loss_of = loss_and_gradients(expected)
    weights = {param.name: param.asnumpy().copy() for param in expected.trainable_params()}
    state = reference.init(WHOLE, weights)
    for _ in range(5):
        grads = [grad.asnumpy() for grad in loss_of(*map(Tensor, BATCH))[1]]
        weights, state = reference.step(WHOLE, weights, dict(zip(weights, grads, strict=True)), state)
        for param in expected.trainable_params():
            ops.assign(param, Tensor(weights[param.name]))
    seen = unirms.state_of(optimizer)
    assert (seen.step, seen.micro_step) == (2, 1)
    for param in net.trainable_params():
        assert np.allclose(param.asnumpy(), weights[param.name], rtol=0, atol=1e-6)
        assert np.allclose(seen.average[param.name], state.average[param.name], rtol=0, atol=1e-6)
