"""The MindSpore adapter: `UniRMSProp` against the reference in both modes, and the stock class with its defects."""

import os
import subprocess
import sys

import mindspore
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops
from mindspore.experimental import optim as experimental
from mindspore.nn.optim.optimizer import opt_init_args_register

import schedule_examples
import unirms
from unirms import RMSPropConfig, reference, schedules
from unirms.adapters import mindspore as adapter
from unirms.adapters.mindspore import schedules as mindspore_schedules
from unirms.conformance.measures import Ruler, same_bits
from unirms.errors import FidelityWarning, ForeignOptimizerError, UnrepresentableError, UnsupportedError
from unirms.protocol import NamedParameter

MODES = ("pynative", "graph")
SIZES = (1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 100, 1000)
BASE = RMSPropConfig(learning_rate=3e-3, epsilon=1e-2)
STOCK = RMSPropConfig.from_native("mindspore", learning_rate=3e-3, momentum=0.8, epsilon=1e-2, centered=True)
LIMIT = 32  # ULP at max(|w|, path)

AXES = {
    "plain": {},
    "outside": {"epsilon_placement": "outside_sqrt"},
    "no epsilon": {"epsilon": 0.0},
    "rho": {"rho": 0.999},
    "momentum": {"momentum": 0.8},
    "nesterov": {"momentum": 0.8, "nesterov": True},
    "lr outside": {"momentum": 0.8, "lr_in_momentum": False},
    "nesterov, lr outside": {"momentum": 0.8, "nesterov": True, "lr_in_momentum": False},
    "centered": {"centered": True},
    "clamp": {"centered": True, "negative_variance": "clamp"},
    "skip": {"centered": True, "negative_variance": "skip", "epsilon_placement": "outside_sqrt"},
    "seeded": {"initial_mean_square": 0.3},
    "bias correction": {"bias_correction": True},
    "decoupled decay": {"weight_decay": 0.05},
    "l2 decay": {"weight_decay": 0.05, "weight_decay_mode": "l2"},
    "no decay": {"weight_decay": 0.05, "no_weight_decay": ("p1*",)},
    "loss scale": {"loss_scale": 3.0},
    "maximize": {"maximize": True},
}
TOGETHER = {
    "all, decoupled": {
        **AXES["nesterov, lr outside"],
        **AXES["skip"],
        **AXES["seeded"],
        **AXES["bias correction"],
        **AXES["no decay"],
        **AXES["loss scale"],
        **AXES["maximize"],
    },
    "all, l2": {
        **AXES["nesterov"],
        **AXES["clamp"],
        **AXES["seeded"],
        **AXES["bias correction"],
        **AXES["l2 decay"],
        **AXES["loss scale"],
        **AXES["maximize"],
    },
}


@pytest.fixture(params=MODES)
def mode(request):
    mindspore.set_context(mode=getattr(mindspore, f"{request.param.upper()}_MODE"))
    return request.param


@pytest.fixture
def pynative():
    mindspore.set_context(mode=mindspore.PYNATIVE_MODE)


def parameters(*sizes, dtype="float32", value=1.0):
    return {f"p{i}": Parameter(Tensor(np.full(n, value, dtype)), name=f"p{i}") for i, n in enumerate(sizes)}


def tensors(*arrays):
    return tuple(Tensor(np.asarray(array, np.float32)) for array in arrays)


class Outcome:
    """The worst errors of a run against the float64 reference, and whether its bits are those of its own dtype's."""

    def __init__(self, driver, rng, config, dtype="float32", mode="pynative", *, policy="exact", sizes=SIZES, steps=25):
        start = {f"p{i}": rng.standard_normal(n).astype(dtype) for i, n in enumerate(sizes)}
        self.run = driver.start(
            lambda params: unirms.build(config, "mindspore", params, policy=policy), start, dtype, mode
        )
        wide = {name: value.astype(np.float64) for name, value in start.items()}
        wide_state, same, same_state = reference.init(config, wide), start, reference.init(config, start)
        ruler, self.same_bits = Ruler(wide, dtype), True
        for step in range(steps):
            now = config.replace(learning_rate=config.learning_rate * (1 + 0.5 * np.sin(step)))
            grads = {
                name: (rng.standard_normal(v.shape) * config.loss_scale).astype(dtype) for name, v in start.items()
            }
            wide, wide_state = reference.step(
                now, wide, {n: g.astype(np.float64) for n, g in grads.items()}, wide_state
            )
            same, same_state = reference.step(now, same, grads, same_state)
            self.run.step(grads, now.learning_rate)
            ruler.observe(wide, self.run.weights())
            state = self.run.state()
            assert state.step == step + 1
            self.same_bits &= same_bits(same, self.run.weights())
            self.same_bits &= all(same_bits(same_state.slots()[slot], state.slots()[slot]) for slot in state.slots())
        self.ulp = ruler.worst.ulp
        self.built = type(self.run.optimizer)


# What the exact optimizer computes


@pytest.mark.parametrize("axis", [*AXES, *TOGETHER])
def test_every_axis(axis, mode, driver, rng):
    outcome = Outcome(driver, rng, BASE.replace(**{**AXES, **TOGETHER}[axis]), mode=mode)

    assert outcome.built is adapter.UniRMSProp
    assert outcome.ulp <= LIMIT
    assert outcome.same_bits


@pytest.mark.parametrize("dtype", ["float64", "float16"])
@pytest.mark.parametrize("axes", TOGETHER)
def test_every_dtype(axes, dtype, mode, driver, rng):
    outcome = Outcome(driver, rng, BASE.replace(**TOGETHER[axes]), dtype, mode)

    assert outcome.ulp <= LIMIT
    assert outcome.same_bits


def test_dtypes_side_by_side_in_any_shape(mode, rng):
    shapes = {"a": ((), "float64"), "b": ((2, 3), "float32"), "c": ((2, 1, 5), "float16")}
    start = {name: rng.standard_normal(shape).astype(dtype) for name, (shape, dtype) in shapes.items()}
    grads = {name: rng.standard_normal(shape).astype(dtype) for name, (shape, dtype) in shapes.items()}
    params = {name: Parameter(Tensor(value), name=name) for name, value in start.items()}
    config = BASE.replace(**TOGETHER["all, decoupled"])

    unirms.build(config, "mindspore", params)(tuple(Tensor(grads[name]) for name in shapes))

    expected, _ = reference.step(config, start, grads, reference.init(config, start))
    assert same_bits(expected, {name: param.asnumpy() for name, param in params.items()})


@pytest.mark.parametrize("negative_variance", ["propagate", "skip", "clamp"])
def test_values_that_are_not_finite(negative_variance, mode, rng):
    config = BASE.replace(momentum=0.5, centered=True, negative_variance=negative_variance)
    start = {"p0": np.ones(6, np.float32)}
    params = parameters(6)
    optimizer, state = adapter.UniRMSProp(params, config), reference.init(config, start)
    # 1e30 squares to infinity; 0 leaves a variance of 0
    for gradient in ([1, np.nan, np.inf, 1e30, 0, -1], [1, 1, 1, 1, 0, 1]):
        grads = {"p0": np.array(gradient, np.float32)}
        optimizer(tensors(grads["p0"]))
        start, state = reference.step(config, start, grads, state)

        assert same_bits(start, {"p0": params["p0"].asnumpy()})
        assert same_bits(state.mean_square, unirms.state_of(optimizer).mean_square)
        assert same_bits(state.momentum, unirms.state_of(optimizer).momentum)


def test_gradients_of_another_dtype_are_cast(mode):
    params = parameters(3)
    unirms.build(BASE, "mindspore", params)((Tensor(np.ones(3, np.float16)),))
    other = parameters(3)
    unirms.build(BASE, "mindspore", other)((Tensor(np.ones(3, np.float32)),))

    assert np.array_equal(params["p0"].asnumpy(), other["p0"].asnumpy())


# Which class comes back


@pytest.mark.parametrize(
    ("config", "built"),
    [
        (STOCK, nn.RMSProp),
        (STOCK.replace(initial_mean_square=0.25), nn.RMSProp),
        (STOCK.replace(weight_decay=0.1, no_weight_decay=("*beta*",)), nn.RMSProp),
        (STOCK.replace(centered=False), adapter.UniRMSProp),
        (STOCK.replace(negative_variance="propagate"), adapter.UniRMSProp),
        (STOCK.replace(rho=0.999), adapter.UniRMSProp),
        (RMSPropConfig.from_native("torch"), adapter.UniRMSProp),
        (RMSPropConfig(), adapter.UniRMSProp),
    ],
)
def test_the_stock_class_where_it_is_exact(config, built, pynative):
    assert type(unirms.build(config, "mindspore", parameters(3))) is built


def test_stock_policy_names_the_differences(pynative):
    with pytest.raises(UnrepresentableError, match="inside or outside by element index"):
        unirms.build(STOCK.replace(centered=False), "mindspore", parameters(3), policy="stock")
    with pytest.raises(UnrepresentableError, match="dtype is float32 instead of float64"):
        unirms.build(STOCK, "mindspore", parameters(3, dtype="float64"), policy="stock")


def test_nearest_policy_warns(pynative):
    with pytest.warns(FidelityWarning, match="inside or outside by element index"):
        optimizer = unirms.build(STOCK.replace(centered=False), "mindspore", parameters(3), policy="nearest")
    assert type(optimizer) is nn.RMSProp


def test_stock_is_exact_where_it_is_built(mode, driver, rng):
    for config in (STOCK, STOCK.replace(rho=0.99, initial_mean_square=0.0, weight_decay=0.05, weight_decay_mode="l2")):
        outcome = Outcome(driver, rng, config, mode=mode)

        assert outcome.built is nn.RMSProp
        assert outcome.ulp <= LIMIT


# What is read back


@pytest.mark.parametrize("config", [BASE, *(BASE.replace(**axes) for axes in TOGETHER.values())])
def test_config_of_exact(config, pynative):
    optimizer = unirms.build(config, "mindspore", parameters(2, 3))
    assert unirms.config_of(optimizer) == config.replace(
        no_weight_decay=("p1*",) if config.no_weight_decay else config.no_weight_decay
    )

    ops.assign(optimizer.learning_rate, Tensor(0.7, optimizer.learning_rate.dtype))
    assert unirms.config_of(optimizer).learning_rate == 0.7


@pytest.mark.parametrize(
    "config",
    [
        STOCK,
        STOCK.replace(initial_mean_square=0.0),
        STOCK.replace(loss_scale=3.0, weight_decay=0.1),
        STOCK.replace(learning_rate=0.1234567891234, weight_decay=0.1, no_weight_decay=("p1",)),
    ],
)
def test_config_of_stock(config, pynative):
    assert unirms.config_of(unirms.build(config, "mindspore", parameters(2, 3), policy="stock")) == config


def test_config_of_a_foreign_stock_optimizer(pynative):
    beta, other = Parameter(Tensor(np.ones(2, np.float32)), name="bn.beta"), parameters(3)["p0"]
    optimizer = nn.RMSProp([beta, other], 0.01, decay=0.95, epsilon=1e-3, weight_decay=0.1)
    config = unirms.config_of(optimizer)

    assert config == RMSPropConfig.from_native(
        "mindspore", learning_rate=0.01, decay=0.95, epsilon=1e-3, weight_decay=0.1
    ).replace(no_weight_decay=("*beta*",))

    grouped = nn.RMSProp([{"params": [beta]}, {"params": [other], "weight_decay": 0.0}], 0.01, weight_decay=0.1)
    assert unirms.config_of(grouped).no_weight_decay == ("p0",)

    rates = nn.RMSProp([{"params": [beta], "lr": 0.3}, {"params": [other]}], 0.01)
    read = unirms.config_of(rates)
    assert [read.for_parameter(name).learning_rate for name in ("bn.beta", "p0")] == [0.3, 0.01]
    assert set(unirms.state_of(rates).mean_square) == {"bn.beta", "p0"}


def test_the_experimental_class_is_read_in_its_own_dialect(mode):
    params = parameters(2, 3)
    optimizer = experimental.RMSprop(list(params.values()), lr=0.3, eps=1e-3, momentum=0.5, weight_decay=0.1)
    optimizer(tensors([1, 2], [1, 2, 3]))

    assert unirms.config_of(optimizer) == RMSPropConfig.from_native(
        "mindspore-experimental", lr=0.3, eps=1e-3, momentum=0.5, weight_decay=0.1
    )
    state = unirms.state_of(optimizer)
    assert (set(state.mean_square), set(state.mean_gradient), set(state.momentum)) == (
        {"p0", "p1"},
        set(),
        {"p0", "p1"},
    )
    assert np.allclose(state.mean_square["p0"], 0.01 * np.array([1.1, 2.1]) ** 2)


def test_other_optimizers_are_not_claimed(pynative):
    class Mine(nn.RMSProp):
        pass

    for foreign in (nn.Momentum([parameters(2)["p0"]], 0.1, 0.9), Mine([parameters(2)["p0"]])):
        with pytest.raises(ForeignOptimizerError):
            unirms.config_of(foreign)


def test_state_before_the_first_step_has_the_users_names(pynative):
    params = {"layer.weight": Parameter(Tensor(np.ones(2, np.float32)), name="w")}
    for config, centered in ((STOCK.replace(initial_mean_square=0.25), True), (BASE, False)):
        optimizer = unirms.build(config, "mindspore", params)
        state = unirms.state_of(optimizer)

        assert optimizer.ms[0].name == "mean_square.w"
        assert state.step == 0
        assert state.mean_square["layer.weight"].tolist() == [config.initial_mean_square] * 2
        assert list(state.mean_gradient) == (["layer.weight"] if centered else [])
        assert list(state.momentum) == (["layer.weight"] if config.momentum else [])


def test_the_state_is_a_copy(pynative):
    optimizer = unirms.build(BASE, "mindspore", parameters(2))
    unirms.state_of(optimizer).mean_square["p0"][:] = 9

    assert unirms.state_of(optimizer).mean_square["p0"].tolist() == [0, 0]


@pytest.mark.parametrize("kind", ["cell", "list", "pairs", "mapping", "one"])
def test_named_parameters(kind, pynative):
    net = nn.Dense(2, 3)
    net.bias.requires_grad = False
    given = {
        "cell": net,
        "list": [net.weight],
        "pairs": [("w", net.weight)],
        "mapping": {"w": net.weight},
        "one": net.weight,
    }[kind]

    (param,) = adapter.ADAPTER.named_parameters(given)
    assert param == NamedParameter("w" if kind in {"pairs", "mapping"} else "weight", net.weight, "float32")


# Which parameters decay


@pytest.mark.parametrize("exempt", [(), ("*beta*",), ("b", "p0")])
@pytest.mark.parametrize("config", [STOCK, BASE.replace(weight_decay_mode="l2")])
def test_no_weight_decay_means_the_users_names_and_keeps_the_order(exempt, config, mode, rng):
    names = {"first": "p0", "bn.beta": "bn.beta", "b": "gamma"}  # the user's, MindSpore's
    config = config.replace(weight_decay=0.5, no_weight_decay=exempt)
    start = {name: rng.standard_normal(5).astype(np.float32) for name in names}
    grads = {name: rng.standard_normal(5).astype(np.float32) for name in names}
    params = {name: Parameter(Tensor(start[name]), name=own) for name, own in names.items()}

    optimizer = unirms.build(config, "mindspore", params)
    optimizer(tensors(*grads.values()))

    expected, _ = reference.step(config, start, grads, reference.init(config, start))
    for name in names:
        assert np.allclose(params[name].asnumpy(), expected[name], rtol=0, atol=1e-6)
    seen = unirms.config_of(optimizer)
    assert [seen.for_parameter(n).weight_decay for n in names] == [config.for_parameter(n).weight_decay for n in names]


# Refusals


@pytest.mark.parametrize(
    ("config", "params", "reason"),
    [
        (BASE, {"p0": np.ones(2, np.int32)}, "dtype int32"),
        (BASE, {"p0": np.ones((0, 2), np.float32)}, "'p0' is empty"),
        (STOCK, {"p0": np.ones((0, 2), np.float32)}, "'p0' is empty"),
    ],
)
def test_refusals(config, params, reason, pynative):
    given = {name: Parameter(Tensor(value), name=name) for name, value in params.items()}
    with pytest.raises(UnsupportedError, match=reason):
        unirms.build(config, "mindspore", given)


def test_names_must_be_unique_for_mindspore(pynative):
    same = [Parameter(Tensor(np.ones(2, np.float32)), name="w") for _ in range(2)]
    with pytest.raises(ValueError, match="already exists"):
        nn.RMSProp(same)
    with pytest.raises(UnsupportedError, match=r"two Parameters are called 'w'.*set Parameter\.name"):
        unirms.build(BASE, "mindspore", {"a": same[0], "b": same[1]})


def test_bfloat16_is_refused_because_kernels_are_missing(pynative):
    halves = Tensor(np.ones(2, np.float32)).astype(mindspore.bfloat16)
    for operation in (lambda: ops.Sub()(halves, halves), lambda: ops.Sqrt()(halves).asnumpy()):
        with pytest.raises(TypeError, match="Unsupported data type"):
            operation()
    param = NamedParameter("w", parameters(2)["p0"], "bfloat16")
    assert "bfloat16" in adapter.ADAPTER.refusals(BASE, [param], exact=True)[0]


def test_float64_needs_the_exact_class_or_centering(pynative, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MindSpore writes rank_0/om/analyze_fail.ir where it fails to compile
    params = parameters(3, dtype="float64")
    with pytest.raises(TypeError, match="Float64"):
        nn.RMSProp(list(params.values()))((Tensor(np.ones(3)),))
    with pytest.raises(UnsupportedError, match="dtype float64"):
        unirms.build(STOCK.replace(centered=False), "mindspore", params, policy="nearest")


def test_parameter_groups_of_mindspore_are_refused(pynative):
    with pytest.raises(UnsupportedError, match=r"item 0 of params is a builtins\.dict"):
        unirms.build(BASE, "mindspore", [{"params": list(parameters(2).values()), "lr": 0.1}])


# The stock class's defects


def first_step(size, **kwargs):
    """Return the first step of the stock class for gradients of 1, the learning rate being 1."""
    param = parameters(size, value=0.0)["p0"]
    nn.RMSProp([param], 1.0, epsilon=0.5, **kwargs)(tensors(np.ones(size)))
    return -param.asnumpy()


def test_stock_places_epsilon_by_index(mode):
    inside, outside = 1 / np.sqrt(1.5), 1 / 1.5  # the mean square starts at 1 and stays there

    assert np.allclose(first_step(7), inside)
    assert np.allclose(first_step(8), outside)
    assert np.allclose(first_step(12), [outside] * 8 + [inside] * 4)
    assert np.allclose(first_step(12, centered=True), 1 / np.sqrt(1.5 - 0.1**2))


def test_stock_takes_one_minus_rho_in_float32(mode, driver, rng):
    config = STOCK.replace(rho=0.9999, epsilon=1e-4, initial_mean_square=0.0)
    with pytest.warns(FidelityWarning, match="rho is 0.9998"):
        stock = Outcome(driver, rng, config, mode=mode, policy="nearest", steps=50)
    exact = Outcome(driver, rng, config, mode=mode, steps=50)

    assert stock.built is nn.RMSProp
    assert stock.ulp > 500
    assert exact.built is adapter.UniRMSProp
    assert exact.ulp <= LIMIT


def test_stock_computes_centered_float64_in_float32(mode, driver, rng):
    with pytest.warns(FidelityWarning, match="dtype is float32"):
        stock = Outcome(driver, rng, STOCK, "float64", mode, policy="nearest", steps=5)

    assert stock.ulp > 1e6


def test_stock_centered_forgets_an_overflow(mode):
    """g = 1e30 squares to infinity; one update later the kernel's mean square is NaN (v + (g*g - v) * (1 - rho)).

    The element is skipped for ever either way, so the weights agree; only what one reads of the state differs.
    """
    config, start = STOCK, {"p0": np.ones(2, np.float32)}
    params, exact = parameters(2), parameters(2)
    optimizers = (unirms.build(config, "mindspore", params), adapter.UniRMSProp(exact, config))
    state = reference.init(config, start)
    for gradient in (1, 1e30, 1, 1):
        for optimizer in optimizers:
            optimizer(tensors([1, gradient]))
        grads = {"p0": np.array([1, gradient], np.float32)}
        start, state = reference.step(config, start, grads, state)

    assert state.mean_square["p0"][1] == np.inf
    assert same_bits(start, {"p0": exact["p0"].asnumpy()})
    assert np.isnan(unirms.state_of(optimizers[0]).mean_square["p0"][1])
    assert np.allclose(params["p0"].asnumpy(), start["p0"], rtol=1e-6, atol=0)


def test_in_pynative_only_assign_is_seen_after_the_first_step(pynative):
    for build in (lambda p: nn.RMSProp(p, 1.0), lambda p: adapter.UniRMSProp(p, BASE.replace(learning_rate=1.0))):
        params = list(parameters(2).values())
        optimizer = build(params)
        optimizer(tensors([1, 1]))
        before = params[0].asnumpy().copy()
        rate = optimizer.learning_rate
        ops.assign(rate, Tensor(0.0, rate.dtype))
        optimizer(tensors([1, 1]))
        assert np.array_equal(params[0].asnumpy(), before)
        rate.set_data(Tensor(1.0, rate.dtype))  # detaches the Parameter: MindSpore's defect
        optimizer(tensors([1, 1]))
        assert np.array_equal(params[0].asnumpy(), before)


@pytest.mark.parametrize(
    ("first", "expected"),
    [("unirms.adapters.mindspore", ""), ("mindspore", "SystemError" if np.__version__ >= "2" else "")],
)
def test_the_first_eager_operation_with_a_python_scalar(first, expected):
    code = (
        f"import {first}, mindspore\n"
        "try:\n    mindspore.Tensor([1.0]) * 2.0\n"
        "except SystemError:\n    print('SystemError')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "GLOG_v": "3"}
    )
    assert done.stdout.strip() == expected
    assert expected or "compiled using NumPy 1" not in done.stderr


# Arguments under the names that the installed class has


class Renamed:
    @opt_init_args_register
    def __init__(self, params, lr=0.01, alpha=0.99, momentum=0.0, eps=1e-8, centered=False, weight_decay=0.0):
        self.seen = (lr, alpha, momentum, eps, centered, weight_decay)


class Opaque:
    def __init__(self, *args, **kwargs):
        pass


def test_arguments_of_the_installed_class():
    native = STOCK.to_native("mindspore").kwargs

    assert adapter.accepted(nn.RMSProp, native) == native
    assert adapter.accepted(Opaque, native) == native
    assert Renamed([], **adapter.accepted(Renamed, native)).seen == (3e-3, 0.9, 0.8, 1e-2, True, 0.0)


def test_an_argument_that_is_gone_is_not_dropped_in_silence():
    with pytest.raises(TypeError, match="loss_scale"):
        Renamed([], **adapter.accepted(Renamed, STOCK.replace(loss_scale=8.0).to_native("mindspore").kwargs))


# At home in MindSpore


class Halved(nn.learning_rate_schedule.LearningRateSchedule):
    """0.1, 0.05, 0.025, …"""

    def construct(self, global_step):
        return 0.1 * ops.pow(Tensor(0.5, mindspore.float32), ops.cast(global_step, mindspore.float32))


@pytest.mark.parametrize("schedule", [[0.1, 0.05, 0.025], Halved()], ids=["list", "cell"])
def test_dynamic_learning_rates(schedule, mode):
    start = {"p0": np.ones(9, np.float32)}
    params, config = parameters(9), BASE.replace(**TOGETHER["all, decoupled"])
    optimizer = adapter.UniRMSProp(list(params.values()), config, learning_rate=schedule)
    state = reference.init(config, start)
    for rate in (0.1, 0.05, 0.025):
        optimizer(tensors(np.arange(9)))
        grads = {"p0": np.arange(9, dtype=np.float32)}
        start, state = reference.step(config.replace(learning_rate=rate), start, grads, state)
    assert np.allclose(params["p0"].asnumpy(), start["p0"], rtol=0, atol=1e-6)


class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.first = nn.Dense(4, 8, weight_init="ones", bias_init="zeros")
        self.second = nn.Dense(8, 1, weight_init="ones", bias_init="zeros")

    def construct(self, x):
        return self.second(ops.relu(self.first(x)))


BATCH = (np.linspace(-1, 1, 24, dtype=np.float32).reshape(6, 4), np.linspace(0, 1, 6, dtype=np.float32).reshape(6, 1))
CITIZEN = BASE.replace(momentum=0.5, centered=True, weight_decay=0.01)


def loss_and_gradients(net):
    loss_function = nn.MSELoss()

    def forward(x, y):  # graph mode cannot parse a lambda here
        return loss_function(net(x), y)

    return mindspore.value_and_grad(forward, None, net.trainable_params())


def train_with_value_and_grad(net, optimizer):
    loss_of = loss_and_gradients(net)
    for _ in range(3):
        optimizer(loss_of(*map(Tensor, BATCH))[1])


def train_with_a_compiled_step(net, optimizer):
    loss_of = loss_and_gradients(net)

    @mindspore.jit
    def step(x, y):
        loss, grads = loss_of(x, y)
        optimizer(grads)
        return loss

    for _ in range(3):
        step(*map(Tensor, BATCH))


def train_with_a_cell(net, optimizer):
    step = nn.TrainOneStepCell(nn.WithLossCell(net, nn.MSELoss()), optimizer)
    for _ in range(3):
        step(*map(Tensor, BATCH))


def train_with_model(net, optimizer):
    data = mindspore.dataset.NumpySlicesDataset(dict(zip("xy", BATCH, strict=True)), shuffle=False).batch(6)
    model = mindspore.train.Model(net, loss_fn=nn.MSELoss(), optimizer=optimizer)
    model.train(3, data, dataset_sink_mode=False)


@pytest.mark.parametrize(
    "train", [train_with_value_and_grad, train_with_a_compiled_step, train_with_a_cell, train_with_model]
)
def test_every_way_of_training(train, mode):
    net, expected = Net(), Net()
    optimizer = unirms.build(CITIZEN, "mindspore", net)
    assert type(optimizer) is adapter.UniRMSProp
    train(net, optimizer)

    # the same with the optimizer taken apart: gradients by MindSpore, updates by the reference
    loss_of = loss_and_gradients(expected)
    weights = {param.name: param.asnumpy().copy() for param in expected.trainable_params()}
    state = reference.init(CITIZEN, weights)
    for _ in range(3):
        grads = [grad.asnumpy() for grad in loss_of(*map(Tensor, BATCH))[1]]
        weights, state = reference.step(CITIZEN, weights, dict(zip(weights, grads, strict=True)), state)
        for param in expected.trainable_params():
            ops.assign(param, Tensor(weights[param.name]))
    for param in net.trainable_params():
        assert np.allclose(param.asnumpy(), weights[param.name], rtol=0, atol=1e-6)
    assert unirms.state_of(optimizer).step == 3


def test_checkpoints_load_both_ways(mode, tmp_path, rng):
    """Three steps with one class, two more with the other, are five with the first."""
    grads = [tensors(rng.standard_normal(9)) for _ in range(5)]
    config = STOCK.replace(weight_decay=0.01)

    def stock(params):
        return adapter.ADAPTER.stock(
            config.to_native("mindspore"), config, adapter.ADAPTER.named_parameters(params), {}
        )

    def exact(params):
        return adapter.UniRMSProp(params, config)

    results = []
    for first, second in ((stock, stock), (stock, exact), (exact, stock), (exact, exact)):
        before, after = list(parameters(9).values()), list(parameters(9).values())
        optimizer = first(before)
        for grad in grads[:3]:
            optimizer(grad)
        path = str(tmp_path / f"{len(results)}.ckpt")
        mindspore.save_checkpoint(optimizer, path)
        resumed = second(after)
        missing, _ = mindspore.load_param_into_net(resumed, mindspore.load_checkpoint(path))
        assert missing == []
        assert unirms.state_of(resumed).step == 3
        for grad in grads[3:]:
            resumed(grad)
        results.append(after[0].asnumpy())
    for result in results[1:]:
        assert np.allclose(result, results[0], rtol=0, atol=1e-6)


def test_callbacks_that_set_the_learning_rate(mode):
    net = Net()
    optimizer = unirms.build(CITIZEN, "mindspore", net)
    data = mindspore.dataset.NumpySlicesDataset(dict(zip("xy", BATCH, strict=True)), shuffle=False).batch(6)
    model = mindspore.train.Model(net, loss_fn=nn.MSELoss(), optimizer=optimizer)
    halve = mindspore.train.LearningRateScheduler(lambda rate, step: rate / 2)
    model.train(2, data, callbacks=[halve], dataset_sink_mode=False)

    assert unirms.config_of(optimizer).learning_rate == pytest.approx(CITIZEN.learning_rate / 4, rel=1e-6)


def test_the_driver_trains(driver, rng):
    weights = {
        "w1": rng.standard_normal((4, 8)).astype(np.float32),
        "b1": np.zeros(8, np.float32),
        "w2": rng.standard_normal((8, 3)).astype(np.float32),
        "b2": np.zeros(3, np.float32),
    }
    x = rng.standard_normal((30, 4)).astype(np.float32)
    batches = [(x, np.argmax(x[:, :3], axis=1).astype(np.int64))] * 30
    done = driver.train(
        lambda params: unirms.build(BASE.replace(learning_rate=0.02), "mindspore", params), weights, batches
    )

    assert done.losses[-1] < 0.5 * done.losses[0]
    assert {name: value.shape for name, value in done.weights.items()} == {n: w.shape for n, w in weights.items()}


# Schedules

PEAK = schedule_examples.PEAK
# Each is compiled several times: one of each kind, and three whose formulas have branches of their own.
BRANCHING = ("exponential staircase", "polynomial cycle", "cosine periodic")
SCHEDULES = {name: schedule_examples.SCHEDULES[name] for name in (*schedules.KINDS, *BRANCHING)}
SCHEDULED = {"stock": STOCK, "exact": BASE}
# The rate is computed alike in both modes, because MindSpore's RMSProp compiles its update in PyNative mode as well.
EVERYWHERE = ["step", "warmup", "table"]
RUNS = [
    *[("exact", "graph", name) for name in SCHEDULES],
    *[("stock", "pynative", name) for name in SCHEDULES],
    *[("exact", "pynative", name) for name in EVERYWHERE],
    *[("stock", "graph", name) for name in EVERYWHERE],
]


def scheduled(which, schedule, params):
    config, named = SCHEDULED[which].replace(learning_rate=schedule), adapter.ADAPTER.named_parameters(params)
    if which == "exact":
        return adapter.ADAPTER.exact(config, named, {})
    return adapter.ADAPTER.stock(config.to_native("mindspore"), config, named, {})


def worst_ulp(rng, which, schedule, *, dtype="float32", updates=100, optimizer_of=scheduled, meant=None):
    """Return the worst error against the reference; fewer than 8 elements, as the plain stock kernel needs."""
    right = {"p0": rng.standard_normal(5).astype(dtype)}
    params = {"p0": Parameter(Tensor(right["p0"]), name="p0")}
    optimizer = optimizer_of(which, schedule, params)
    right = {"p0": right["p0"].astype(np.float64)}
    config, ruler = SCHEDULED[which].replace(learning_rate=meant or schedule), Ruler(right, dtype)
    state = reference.init(config, right)
    for _ in range(updates):
        grad = rng.standard_normal(5).astype(dtype)
        right, state = reference.step(config, right, {"p0": grad.astype(np.float64)}, state)
        optimizer((Tensor(grad),))
        ruler.observe(right, {"p0": params["p0"].asnumpy()})
    return ruler.worst.ulp


def test_every_kind_of_schedule_is_tried():
    assert {schedule.kind for schedule in SCHEDULES.values()} == set(schedules.KINDS)


@pytest.mark.slow
@pytest.mark.parametrize(("which", "mode_", "name"), RUNS)
def test_every_schedule_matches_the_reference(which, mode_, name, rng):
    mindspore.set_context(mode=getattr(mindspore, f"{mode_.upper()}_MODE"))
    assert worst_ulp(rng, which, SCHEDULES[name]) <= LIMIT


def test_float64_weights_get_double_rates(pynative, rng):
    # A rate that was rounded to float32 would be 1e8 ULP off.
    assert worst_ulp(rng, "exact", SCHEDULES["noam"], dtype="float64") <= LIMIT


def test_a_schedule_that_is_one_update_late_is_caught(pynative, rng):
    for name in ("step", "table"):
        late = schedules.Sequence(boundaries=[1], schedules=[SCHEDULES["constant"], SCHEDULES[name]])
        assert worst_ulp(rng, "exact", late, meant=SCHEDULES[name]) > LIMIT


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_rate_far_out(name, pynative):
    schedule = SCHEDULES[name]
    cells = {
        dtype: mindspore_schedules.UniRMSSchedule(schedule, dtype) for dtype in (mindspore.float64, mindspore.float32)
    }
    peak = schedule.values(np.arange(1000)).max()
    for t in (0, 1, 2, 10, 48, 49, 98, 1000, 10**6):
        for dtype, tolerance in ((mindspore.float64, 1e-14), (mindspore.float32, 2.0**-24)):
            rate = cells[dtype](Tensor([t], mindspore.int32))
            assert (rate.dtype, rate.shape) == (dtype, ())
            assert abs(float(rate.asnumpy()) - schedule.value(t)) <= tolerance * peak, t


def test_a_long_table_is_one_operation(pynative):
    table = schedules.Table(learning_rates=np.linspace(0, 1, 10**5).tolist())
    cell = mindspore_schedules.UniRMSSchedule(table)
    assert len(cell.operations) == 2
    assert [float(cell(Tensor([t], mindspore.int32)).asnumpy()) for t in (50_000, 10**6)] == [
        float(np.float32(table.value(50_000))),
        1.0,
    ]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("which", SCHEDULED)
def test_a_schedule_is_read_back(which, name, pynative):
    optimizer = scheduled(which, SCHEDULES[name], parameters(2, 3))
    rate = PEAK if name == "constant" else SCHEDULES[name]
    assert unirms.config_of(optimizer) == SCHEDULED[which].replace(learning_rate=rate)
    assert unirms.lr_scheduler(optimizer) is None


def test_a_schedule_and_parameters_without_decay(pynative):
    config = STOCK.replace(learning_rate=SCHEDULES["cosine"], weight_decay=0.1, no_weight_decay=("p1",))
    named = adapter.ADAPTER.named_parameters(parameters(2, 3))
    assert unirms.config_of(adapter.ADAPTER.stock(config.to_native("mindspore"), config, named, {})) == config


CELLS = [
    (nn.ExponentialDecayLR(0.1, 0.5, 30), 1e-6),
    (nn.ExponentialDecayLR(0.1, 0.5, 30, is_stair=True), 1e-6),
    (nn.NaturalExpDecayLR(0.1, 0.05, 30), 1e-6),
    (nn.NaturalExpDecayLR(0.1, 0.05, 30, is_stair=True), 1e-6),
    (nn.InverseDecayLR(0.1, 0.5, 30), 1e-6),
    (nn.InverseDecayLR(0.1, 0.5, 30, is_stair=True), 1e-6),
    (nn.CosineDecayLR(0.01, 0.1, 40), 1e-6),
    (nn.PolynomialDecayLR(0.1, 0.01, 40, 2.0), 1e-6),
    (nn.PolynomialDecayLR(0.1, 0.01, 40, 0.5, update_decay_steps=True), 1e-6),
    (nn.WarmUpLR(0.1, 40), 1e-6),
]


@pytest.mark.parametrize(("cell", "tolerance"), CELLS, ids=lambda value: type(value).__name__)
def test_cells_of_mindspore_are_read_as_what_they_compute(cell, tolerance, pynative):
    params = list(parameters(2).values())
    for optimizer in (nn.RMSProp(params, cell), adapter.UniRMSProp(params, BASE, learning_rate=cell)):
        found = unirms.config_of(optimizer).learning_rate
        for t in (0, 1, 29, 30, 31, 40, 41, 85, 1000):
            expected = float(cell(Tensor([t], mindspore.int32)).asnumpy().reshape(()))
            assert found.value(t) == pytest.approx(expected, abs=tolerance * 0.1)


def test_other_schedules_are_refused_by_name(pynative):
    params = list(parameters(2).values())
    for optimizer in (nn.RMSProp(params, Halved()), adapter.UniRMSProp(params, BASE, learning_rate=Halved())):
        with pytest.raises(UnsupportedError, match="a Halved, which is not exactly a schedule of unirms"):
            unirms.config_of(optimizer)
    cell = nn.ExponentialDecayLR(0.1, 0.5, 30)
    cell.decay_steps = 0.5
    with pytest.raises(UnsupportedError, match=r"ExponentialDecayLR has values that no .*: decay_steps=0\.5 is not "):
        unirms.config_of(nn.RMSProp(params, cell))


def test_a_list_is_read_as_a_table(pynative):
    params = list(parameters(2).values())
    for optimizer in (nn.RMSProp(params, [0.1, 0.03]), adapter.UniRMSProp(params, BASE, learning_rate=[0.1, 0.03])):
        assert unirms.config_of(optimizer).learning_rate == schedules.Table(learning_rates=[0.1, 0.03])
    mixed = nn.RMSProp([{"params": params, "lr": [0.1, 0.03]}], 0.5)
    assert unirms.config_of(mixed).learning_rate == schedules.Table(learning_rates=[0.1, 0.03])


@pytest.mark.parametrize("which", SCHEDULED)
def test_a_checkpoint_goes_on_in_mid_schedule(which, mode, tmp_path, rng):
    schedule, grads = SCHEDULES["linear"], [tensors(rng.standard_normal(5)) for _ in range(30)]
    whole = parameters(5)
    first = scheduled(which, schedule, whole)
    for grad in grads[:15]:
        first(grad)
    path = str(tmp_path / "state.ckpt")
    mindspore.save_checkpoint(first, path)
    resumed = parameters(5, value=whole["p0"].asnumpy().copy())
    second = scheduled(which, schedule, resumed)
    missing, _ = mindspore.load_param_into_net(second, mindspore.load_checkpoint(path))
    assert missing == []
    assert unirms.state_of(second).step == 15
    for grad in grads[15:]:
        first(grad)
        second(grad)
    assert np.array_equal(resumed["p0"].asnumpy(), whole["p0"].asnumpy())
    assert unirms.config_of(second).learning_rate == schedule


def test_any_optimizer_takes_our_schedule(mode):
    params = parameters(2)
    optimizer = nn.SGD(list(params.values()), mindspore_schedules.UniRMSSchedule(SCHEDULES["table"]))
    for _ in range(3):
        optimizer(tensors([1, 1]))
    assert params["p0"].asnumpy() == pytest.approx(1 - (0.01 + 0.03 + PEAK), abs=1e-6)
