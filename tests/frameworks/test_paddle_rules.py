"""PaddlePaddle: groups, clips, accumulation, averages and the rest of the config, every step beside the reference."""

import numpy as np
import pytest

import paddle_runs as runs
import unirms
from unirms import ParameterGroup, RMSPropConfig, SparseGradient, schedules
from unirms.clipping import ClipByGlobalNorm, ClipByNorm, ClipByValue
from unirms.conformance.cases import LIMIT_ULP
from unirms.conformance.drivers.paddle import paddle

# The driver quietens the import of Paddle.
from unirms.adapters.paddle import graph as paddle_graph  # isort: skip
from unirms.adapters.paddle import preparing as paddle_preparing  # isort: skip
from unirms.adapters.paddle import UniRMSProp  # isort: skip


# Paddle's own autograd asks for it, in every static graph.
pytestmark = pytest.mark.filterwarnings("ignore:Tensor do not have 'place' interface:UserWarning")

MODES = ("dynamic", "static")
DTYPES = ("float32", "float64")
STEPS = 18
BASE = RMSPropConfig(learning_rate=3e-3, epsilon=1e-2)
RICH = {"momentum": 0.8, "centered": True, "bias_correction": True, "initial_mean_square": 0.3}
COSINE = schedules.Cosine(initial_learning_rate=0.01, decay_steps=6)
FACTORS = (ParameterGroup(match="*.bias", learning_rate_factor=0.3), ParameterGroup(match="head.*", rho=0.8))
TOGETHER = ClipByGlobalNorm(max_norm=2.0)
CONFIGS = {
    "groups": {
        **RICH,
        "nesterov": True,
        "weight_decay": 0.1,
        "no_weight_decay": ("body.*",),
        "groups": (
            ParameterGroup(match="*.bias", learning_rate=1e-3, momentum=0.5, centered=False),
            ParameterGroup(match="re:^norm", rho=0.99, epsilon=1e-3, weight_decay=0.0),
            ParameterGroup(match="head.*", learning_rate_factor=2.5, momentum=0.0, weight_decay=0.2),
        ),
    },
    "slots in a group only": {"groups": (ParameterGroup(match="head.*", momentum=0.9, centered=True),)},
    "groups and a schedule": {"learning_rate": COSINE, "groups": FACTORS, "momentum": 0.8},
    "l1": {"weight_decay": 1e-3, "weight_decay_mode": "l1", "clip": ClipByNorm(max_norm=5.0, eps=1e-6)},
    "value": {"clip": ClipByValue(limit=0.5), "nesterov": True, "momentum": 0.5},
    "norm": {"clip": ClipByNorm(max_norm=1.0), "maximize": True},
    "norm, eps": {"clip": ClipByNorm(max_norm=1.0, eps=1e-2)},
    "global norm": {"clip": TOGETHER, "maximize": True},
    "global norm, eps": {"clip": ClipByGlobalNorm(max_norm=2.0, eps=1e-2)},
    "global norm, not reached": {"clip": ClipByGlobalNorm(max_norm=1e3, eps=1e-6)},
    "clips in order": {"clip": (ClipByValue(limit=0.7), ClipByNorm(max_norm=1.2), TOGETHER), "loss_scale": 3.0},
    "clips over groups": {"clip": ClipByGlobalNorm(max_norm=1.5, over="group"), "groups": FACTORS},
    "clips of groups": {
        "clip": (TOGETHER, ClipByValue(limit=0.8)),
        "groups": (
            ParameterGroup(match="*.bias", clip=()),
            ParameterGroup(match="head.*", clip=(ClipByGlobalNorm(max_norm=0.5), ClipByNorm(max_norm=0.2))),
        ),
    },
    "accumulation": {
        **RICH,
        "learning_rate": COSINE,
        "gradient_accumulation_steps": 3,
        "loss_scale": 4.0,
        "weight_decay": 0.1,
        "clip": TOGETHER,
    },
    "average": {"ema_decay": 0.9, "momentum": 0.8},
    "average, late and over micro-steps": {"ema_decay": 0.75, "ema_start": 3, "gradient_accumulation_steps": 2},
    "centralization, first axis": {"gradient_centralization": "first_axis", "clip": ClipByNorm(max_norm=1.0)},
    "centralization, last axis": {"gradient_centralization": "last_axis", "weight_decay": 0.1},
    "skip": {**RICH, "learning_rate": COSINE, "non_finite": "skip", "ema_decay": 0.9},
    "skip and accumulation": {"non_finite": "skip", "gradient_accumulation_steps": 2, "momentum": 0.8},
}


def spoiled(grads, number):
    """Return the gradients with an infinity or a NaN in some steps."""
    bad = {4: np.inf, 9: np.nan, 10: -np.inf}.get(number)
    if bad is None:
        return grads
    wrong = grads["body.bias"].copy()
    wrong[-1] = bad
    return {**grads, "body.bias": wrong}


def worst_of(name, mode, dtype, *, make=None):
    config = BASE.replace(**CONFIGS[name])
    beside = runs.Beside(config, mode, dtype, make=make)
    for number, given in enumerate(runs.gradients_of(dtype, STEPS)):
        grads = spoiled(given, number) if config.non_finite == "skip" else given
        if mode == "dynamic" and number % 4 == 1:  # a static graph has always all of them
            del grads["norm.scale"], grads["head.bias"]
        beside.step(grads)
    return beside


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_every_step_is_that_of_the_reference(mode, dtype, name):
    beside = worst_of(name, mode, dtype)
    assert type(beside.optimizer) is UniRMSProp
    assert beside.worst <= LIMIT_ULP[dtype]


# What a wrong optimizer would follow instead.
PLANTED = {
    "groups": {"groups": ()},
    "groups and a schedule": {"groups": FACTORS[1:]},
    "l1": {"weight_decay_mode": "l2"},
    "value": {"clip": ClipByValue(limit=0.51)},
    "norm": {"clip": ClipByGlobalNorm(max_norm=1.0)},
    "norm, eps": {"clip": ClipByNorm(max_norm=1.0)},
    "global norm": {"clip": ClipByNorm(max_norm=2.0)},
    "clips in order": {"clip": (TOGETHER, ClipByNorm(max_norm=1.2), ClipByValue(limit=0.7))},
    "clips over groups": {"clip": ClipByGlobalNorm(max_norm=1.5)},
    "clips of groups": {"groups": (ParameterGroup(match="*.bias", clip=()),)},
    "accumulation": {"loss_scale": 12.0},
    "average": {"ema_start": 1},
    "centralization, first axis": {"gradient_centralization": "last_axis"},
    "skip": {"non_finite": "propagate"},
}


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("mode", MODES)
def test_a_wrong_optimizer_is_caught(mode, name):
    wrong = BASE.replace(**CONFIGS[name]).replace(**PLANTED[name])
    beside = worst_of(name, mode, "float64", make=lambda params, **more: unirms.build(wrong, "paddle", params, **more))
    assert beside.worst > 1e6


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_stock_class_decays_by_signs(mode, dtype):
    config = BASE.replace(learning_rate=2**-8, rho=0.875, epsilon=2**-7, weight_decay=0.25, weight_decay_mode="l1")
    beside = runs.Beside(config, mode, dtype, policy="stock")
    for grads in runs.gradients_of(dtype, STEPS):
        beside.step(grads)
    assert type(beside.optimizer) is paddle.optimizer.RMSProp
    assert beside.worst <= LIMIT_ULP[dtype]
    assert unirms.config_of(beside.optimizer) == config


def test_weights_of_0_do_not_decay_by_signs():
    config = BASE.replace(weight_decay=0.25, weight_decay_mode="l1", nesterov=True, momentum=0.5)
    param = runs.parameter([0.0, -0.0, 1.0])
    runs.step(unirms.build(config, "paddle", [param]), [0.0, 0.0, 0.0])
    assert param.numpy()[:2].tolist() == [0.0, 0.0]
    assert param.numpy()[2] < 1


# Clips at their edges


EDGES = {
    "zeros": [0.0, 0.0, 0.0],
    "infinity": [1.0, np.inf, -2.0],
    "NaN": [1.0, np.nan, -2.0],
    "tiny": [1e-30, -1e-30, 0.0],
    "huge": [1e30, -1e30, 1.0],
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize(
    "clip", [ClipByValue(limit=0.5), ClipByNorm(max_norm=0.5), ClipByNorm(max_norm=0.5, eps=1e-6), TOGETHER]
)
@pytest.mark.parametrize("mode", MODES)
def test_clips_treat_special_values_as_the_reference_does(mode, clip, edge):
    config = BASE.replace(clip=clip, maximize=True)
    start = {"w": np.ones(3, "float32"), "other": np.ones(2, "float32")}
    run = unirms.conformance.drivers.paddle.DRIVER.start(
        lambda params, **more: unirms.build(config, "paddle", params, **more), start, "float32", mode
    )
    grads = {"w": np.array(EDGES[edge], "float32"), "other": np.array([3.0, -4.0], "float32")}
    run.step(grads, config.learning_rate)
    expected, state = unirms.reference.step(config, start, grads, unirms.reference.init(config, start))
    for name, right in {**expected, **{f"{n} squared": v for n, v in state.mean_square.items()}}.items():
        seen = run.weights().get(name, run.state().mean_square.get(name.removesuffix(" squared")))
        np.testing.assert_allclose(seen, right, rtol=1e-6, err_msg=name)


def test_a_norm_over_both_dtypes_is_taken_in_the_wider():
    config = BASE.replace(clip=ClipByGlobalNorm(max_norm=0.5))
    start = {"narrow": np.ones(1000, "float32"), "wide": np.ones(3)}
    params = {name: runs.parameter(value, value.dtype) for name, value in start.items()}
    optimizer = unirms.build(config, "paddle", params)
    grads = {"narrow": np.linspace(0.01, 0.1, 1000).astype("float32"), "wide": np.full(3, 1e-3)}
    runs.step(optimizer, *grads.values())
    expected, _ = unirms.reference.step(config, start, grads, unirms.reference.init(config, start))
    for name, param in params.items():
        np.testing.assert_array_max_ulp(param.numpy(), expected[name], maxulp=2)


def test_empty_parameters_are_clipped_and_centralized():
    config = BASE.replace(clip=(ClipByNorm(max_norm=1.0), TOGETHER), gradient_centralization="first_axis")
    params = {"empty": runs.parameter(np.zeros([0, 3])), "w": runs.parameter([1.0, 2.0])}
    optimizer = unirms.build(config, "paddle", params)
    runs.step(optimizer, np.zeros([0, 3]), [0.5, 0.5])
    assert np.isfinite(params["w"].numpy()).all()


# Gradients by rows


TABLES = {"table": (7, 5), "bias": (3,)}
BY_ROWS = {
    "plain": {},
    "rich": {**RICH, "weight_decay": 0.1, "nesterov": True, "loss_scale": 3.0},
    "l1 and rate outside": {"weight_decay": 0.1, "weight_decay_mode": "l1", "momentum": 0.9, "lr_in_momentum": False},
    "clipped": {"clip": (ClipByNorm(max_norm=3.0), ClipByGlobalNorm(max_norm=2.0)), "maximize": True},
    "limited": {"clip": ClipByValue(limit=0.5)},
    "averaged": {"ema_decay": 0.5, "momentum": 0.9},
    "grouped": {"groups": (ParameterGroup(match="table", learning_rate_factor=3.0, rho=0.5),)},
}
DENSE_ONLY = {
    "gathered": {"gradient_accumulation_steps": 2},
    "centralized": {"gradient_centralization": "first_axis"},
}


def by_rows(dtype, steps):
    """Return gradients of some rows of the table, with repeated ones; the signs keep them far from their mean."""
    rng, signs = np.random.default_rng(5), [1, -1, 1, -1, 1]
    for _ in range(steps):
        rows = SparseGradient(rng.integers(0, 5, 6), (rng.uniform(0.5, 2.0, (6, 5)) * signs).astype(dtype))
        yield {"table": rows, "bias": rng.uniform(0.5, 2.0, 3).astype(dtype)}


@pytest.mark.parametrize(
    ("sparse", "name"), [("dense", n) for n in (BY_ROWS | DENSE_ONLY)] + [("lazy", n) for n in BY_ROWS]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_by_rows_are_those_of_the_reference(dtype, sparse, name):
    config = BASE.replace(sparse=sparse, **(BY_ROWS | DENSE_ONLY)[name])
    beside = runs.Beside(config, "dynamic", dtype, shapes=TABLES)
    for grads in by_rows(dtype, 12):
        beside.step(grads)
    assert beside.worst <= LIMIT_ULP[dtype]


@pytest.mark.parametrize("sparse", ["dense", "lazy"])
def test_a_gradient_of_no_rows_at_all(sparse):  # which ends the process in the stock class
    config = BASE.replace(sparse=sparse, momentum=0.5, nesterov=True, clip=TOGETHER)
    beside = runs.Beside(config, "dynamic", "float32", shapes={"table": (7, 5)})
    for count in (2, 0, 3):
        beside.step({"table": SparseGradient(np.arange(count), np.ones((count, 5), "float32"))})
    assert beside.worst <= LIMIT_ULP["float32"]


@pytest.mark.parametrize("sparse", ["dense", "lazy"])
def test_rows_taken_the_other_way_are_caught(sparse):
    config = BASE.replace(sparse=sparse, momentum=0.9)
    wrong = config.replace(sparse="lazy" if sparse == "dense" else "dense")
    make = lambda params, **more: unirms.build(wrong, "paddle", params, **more)  # noqa: E731
    beside = runs.Beside(config, "dynamic", "float64", shapes=TABLES, make=make)
    for grads in by_rows("float64", 12):
        beside.step(grads)
    assert beside.worst > 1e6


@pytest.mark.parametrize("shape", [(7,), (7, 2, 3)])
@pytest.mark.parametrize("sparse", ["dense", "lazy"])
def test_rows_of_parameters_of_any_rank(sparse, shape):
    config = BASE.replace(sparse=sparse, momentum=0.5, nesterov=True)
    beside = runs.Beside(config, "dynamic", "float32", shapes={"w": shape})
    rng = np.random.default_rng(3)
    for _ in range(6):
        beside.step({"w": SparseGradient(rng.integers(0, 7, 4), rng.uniform(1, 2, (4, *shape[1:])).astype("float32"))})
    assert beside.worst <= LIMIT_ULP["float32"]


def test_an_embedding_in_a_static_graph_has_a_dense_gradient():
    config = BASE.replace(momentum=0.5, nesterov=True)
    rows, weights = np.array([1, 1, 4, 1]), np.array([[1.0], [2.0], [3.0], [0.5]], "float32")
    expected = {"table": np.ones((5, 2), "float32")}
    state = unirms.reference.init(config, expected)
    with runs.StaticGraph() as run:
        ids = paddle.static.data("ids", [4], "int64")
        ones = paddle.nn.initializer.Constant(1.0)
        table = paddle.create_parameter([5, 2], "float32", default_initializer=ones)
        loss = paddle.sum(paddle.nn.functional.embedding(ids, table, sparse=True) * paddle.to_tensor(weights))
        unirms.build(config, "paddle", {"table": table}).minimize(loss)
        run.startup()
        for _ in range(3):
            run.step(ids=rows)
            grads = {"table": SparseGradient(rows, np.repeat(weights, 2, axis=1))}
            expected, state = unirms.reference.step(config, expected, grads, state)
        np.testing.assert_allclose(run.value(table), expected["table"], rtol=1e-6)


# The framework's traps that the code goes round; when one is gone, so can be the code


def test_merging_rows_is_wrong_but_for_two_axes():
    table = runs.parameter(np.ones((5, 2, 3)))
    values = np.arange(12, dtype="float32").reshape(2, 2, 3)
    grad = unirms.conformance.drivers.paddle._gradient(SparseGradient(np.array([1, 1]), values), table)
    merged = paddle.nn.clip.merge_selected_rows(grad)._get_tensor_from_selected_rows()
    assert merged.numpy().size != 6
    found, rows = paddle_preparing._rows(grad)
    assert (found.numpy() == values.sum(axis=0)).all()
    assert rows.numpy().tolist() == [1]


def test_the_mean_of_many_elements_is_not_paddle_s():
    values = np.random.default_rng(0).normal(3.0, 1.0, 10**6).astype("float32")
    exact = values.astype("float64").mean()
    assert abs(paddle.mean(paddle.to_tensor(values)).item() / exact - 1) > 5e-7
    total = paddle.sum(paddle.to_tensor(values)) / paddle.full([], 1e6)
    assert abs(total.item() / exact - 1) < 2e-7


def test_what_no_static_graph_can_do_is_refused_by_name():
    for fields in ({"non_finite": "raise"}, {"sparse": "lazy"}):
        config = BASE.replace(**fields)
        with runs.StaticGraph():
            weight = paddle.create_parameter([2], "float32")
            with pytest.raises(unirms.UnsupportedError, match=f"{next(iter(fields))}=.* static graph"):
                unirms.build(config, "paddle", [weight])
            with pytest.raises(unirms.UnsupportedError, match="static graph"):
                UniRMSProp(config, [weight]).minimize(paddle.sum(weight))
        assert paddle_graph.refusals(config)
