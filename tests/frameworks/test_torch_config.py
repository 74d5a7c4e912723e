"""PyTorch: groups, clips, accumulation, averages and sparse rows, every step beside the reference."""

import itertools

import numpy as np
import pytest
import torch

import unirms
from unirms import RMSPropConfig, SparseGradient, schedules
from unirms.adapters.torch import UniRMSProp
from unirms.conformance.cases import LIMIT_ULP
from unirms.conformance.measures import Ruler

SHAPES = {"conv.weight": (5, 3, 2), "conv.bias": (5,), "table": (6, 4), "head.weight": (9, 5), "head.scale": ()}
STEPS = 12
RATE = schedules.Linear(initial_learning_rate=0.02, end_learning_rate=0.001, decay_steps=9)
RICH = {"momentum": 0.9, "nesterov": True, "centered": True, "initial_mean_square": 0.5, "bias_correction": True}
GROUPS = [
    {"match": "*.bias", "learning_rate_factor": 0.5, "rho": 0.8, "epsilon": 1e-2, "centered": True},
    {"match": "re:^head", "learning_rate": 0.003, "momentum": 0.7, "weight_decay": 0.2},
]
FACTORS = [{"match": "*.bias", "learning_rate_factor": 3}, {"match": "head.*", "learning_rate_factor": 0.25}]
NORM = {"by": "norm", "max_norm": 1.5}
GLOBAL = {"by": "global_norm", "max_norm": 2.0}
BY_GROUP = {**GLOBAL, "over": "group"}
VALUE = {"by": "value", "limit": 0.7}

# Fields of the config -> which gradients come: all of them, some parameters' only, some spoiled, or rows of the table.
CONFIGS = {
    "groups": ({"groups": GROUPS, "weight_decay": 0.1, "no_weight_decay": "conv.*", "lr_in_momentum": False}, "all"),
    "groups of a schedule": ({"learning_rate": RATE, "groups": FACTORS, "momentum": 0.9}, "all"),
    "a buffer in a group alone": ({"groups": [{"match": "table", "momentum": 0.9, "centered": True}]}, "all"),
    "no buffer in a group": ({**RICH, "groups": [{"match": "table", "momentum": 0, "centered": False}]}, "all"),
    "l1": ({"weight_decay": 0.05, "weight_decay_mode": "l1", "clip": NORM}, "all"),
    "clip by value": ({"clip": VALUE, "maximize": True}, "all"),
    "clip by norm": ({"clip": NORM}, "all"),
    "clip by global norm": ({"clip": GLOBAL, "loss_scale": 8.0, "weight_decay": 0.1, "weight_decay_mode": "l2"}, "all"),
    "clip by the norm of what is there": ({"clip": GLOBAL, **RICH}, "some"),
    "clips with eps": ({"clip": [{**NORM, "eps": 1e-2}, {**GLOBAL, "eps": 1e-6}]}, "all"),
    "clips in another order": ({"clip": [GLOBAL, NORM, VALUE]}, "all"),
    "clip by group": ({"clip": BY_GROUP, "groups": FACTORS}, "some"),
    "clips of groups": (
        {"clip": GLOBAL, "groups": [{"match": "*.bias", "clip": ()}, {"match": "head.*", "clip": [VALUE, BY_GROUP]}]},
        "all",
    ),
    "a clip of a group alone": ({"groups": [{"match": "head.*", "clip": NORM}]}, "all"),
    "accumulation": (
        {"gradient_accumulation_steps": 3, "loss_scale": 4.0, "clip": GLOBAL, "learning_rate": RATE, **RICH},
        "some",
    ),
    "skip": ({"non_finite": "skip", "learning_rate": RATE, "ema_decay": 0.9, **RICH}, "spoiled"),
    "skip what is gathered": ({"non_finite": "skip", "gradient_accumulation_steps": 2, "momentum": 0.9}, "spoiled"),
    "average": ({"ema_decay": 0.9, "momentum": 0.9}, "some"),
    "average of later updates": ({"ema_decay": 0.75, "ema_start": 3, "gradient_accumulation_steps": 2}, "all"),
    "centralized on the first axis": ({"gradient_centralization": "first_axis", "clip": GLOBAL}, "all"),
    "centralized on the last axis": ({"gradient_centralization": "last_axis", "maximize": True}, "all"),
    "rows made dense": ({"clip": GLOBAL, "momentum": 0.9, "weight_decay": 0.1}, "rows"),
    "rows made dense in the stock class": ({"epsilon_placement": "outside_sqrt", "weight_decay_mode": "l2"}, "rows"),
    "rows gathered": ({"gradient_accumulation_steps": 2, "gradient_centralization": "last_axis"}, "rows"),
    "lazy rows": ({"sparse": "lazy", "weight_decay": 0.1, "ema_decay": 0.9, "loss_scale": 4.0, **RICH}, "rows"),
    "lazy rows, clipped": ({"sparse": "lazy", "clip": [GLOBAL, NORM], "maximize": True, "momentum": 0.9}, "rows"),
    "lazy rows, skipped": ({"sparse": "lazy", "non_finite": "skip", "groups": FACTORS}, "spoiled rows"),
}


def config_of(fields):
    return RMSPropConfig(**{"learning_rate": 0.02, "epsilon": 1e-3, **fields})


def signed(rng, shape):
    """Return numbers of either sign and of size 0.5 to 2: a decay never cancels them."""
    return rng.uniform(0.5, 2.0, shape) * rng.choice([-1.0, 1.0], shape)


def gradients(kind, rng, step, dtype, scale):
    """Return the gradients of a step, those of "table" as rows that repeat, if asked for."""
    turns = np.random.default_rng(step // 6)  # those that are gathered agree on the sign: nothing cancels in their sum
    dense = {n: np.asarray(np.abs(signed(rng, s)) * signed(turns, s) * scale, dtype) for n, s in SHAPES.items()}
    if "spoiled" in kind and step in {2, 3, 7}:
        dense["conv.bias"][1], dense["head.scale"] = np.nan, np.asarray(np.inf, dtype)
    if kind == "some":
        return {name: grad for i, (name, grad) in enumerate(dense.items()) if (i + step) % 3}
    if "rows" not in kind:
        return dense
    rows = np.array([5, step % 3, 5, 1, step % 3])
    return {**dense, "table": SparseGradient(rows, np.abs(signed(rng, (5, 4)) * scale).astype(dtype))}


class Pair:
    """An optimizer and the float64 reference at work on the same gradients; `meant` is what the reference computes."""

    def __init__(self, driver, built, dtype="float32", mode="foreach", meant=None):
        rng = np.random.default_rng(1)
        start = {name: np.asarray(rng.standard_normal(shape), dtype) for name, shape in SHAPES.items()}
        self.run = driver.start(
            lambda params, **options: unirms.build(built, "torch", params, **options), start, dtype, mode
        )
        self.config, self.dtype = meant or built, dtype
        self.params = {name: value.astype(np.float64) for name, value in start.items()}
        self.state = unirms.reference.init(self.config, self.params)
        self.rulers = {"weights": Ruler(self.params, dtype)}
        self.rulers |= {slot: Ruler(arrays, dtype) for slot, arrays in self.state.slots().items()}

    def step(self, grads):
        self.run.step(grads, None)
        wide = {
            name: SparseGradient(grad.indices, grad.values.astype(np.float64))
            if isinstance(grad, SparseGradient)
            else grad.astype(np.float64)
            for name, grad in grads.items()
        }
        self.params, self.state = unirms.reference.step(self.config, self.params, wide, self.state)
        self.rulers["weights"].observe(self.params, self.run.weights())

    def compare_states(self):
        seen = self.run.state()
        assert (seen.step, seen.micro_step) == (self.state.step, self.state.micro_step)
        assert seen.gradient_sum.keys() == self.state.gradient_sum.keys()
        for name, gathered in self.state.gradient_sum.items():
            np.testing.assert_allclose(seen.gradient_sum[name], gathered, rtol=1e-6)
        for slot, arrays in self.state.slots().items():
            self.rulers[slot].observe({n: arrays[n] for n in arrays}, {n: seen.slots()[slot].get(n) for n in arrays})

    @property
    def ulp(self):
        return max(ruler.worst.ulp for ruler in self.rulers.values())


def followed(driver, built, kind, dtype="float32", mode="foreach", meant=None):
    pair, rng = Pair(driver, built, dtype, mode, meant), np.random.default_rng(2)
    for step in range(STEPS):
        pair.step(gradients(kind, rng, step, dtype, built.loss_scale))
        if step >= 3:  # all parameters have stepped by then
            pair.compare_states()
    return pair


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode", ["foreach", "single"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_step_follows_the_reference(driver, name, mode, dtype):
    fields, kind = CONFIGS[name]
    pair = followed(driver, config_of(fields), kind, dtype, mode)
    assert pair.ulp <= LIMIT_ULP[dtype]
    assert (type(pair.run.optimizer) is UniRMSProp) == (name != "rows made dense in the stock class")


# What an optimizer would follow that had one thing wrong.
WRONG = {
    "groups": {"groups": GROUPS[:1]},
    "groups of a schedule": {"groups": FACTORS[::-1][:1]},
    "l1": {"weight_decay_mode": "l2"},
    "clip by value": {"clip": {**VALUE, "limit": 0.71}},
    "clip by global norm": {"clip": NORM},
    "clip by the norm of what is there": {"clip": {**GLOBAL, "max_norm": 2.01}},
    "clips with eps": {"clip": [NORM, {**GLOBAL, "eps": 1e-6}]},
    "clips in another order": {"clip": [VALUE, NORM, GLOBAL]},
    "clip by group": {"clip": GLOBAL},
    "clips of groups": {"groups": [{"match": "head.*", "clip": [VALUE, BY_GROUP]}]},
    "accumulation": {"gradient_accumulation_steps": 2},
    "average": {"ema_decay": 0.91},
    "average of later updates": {"ema_start": 2},
    "centralized on the first axis": {"gradient_centralization": "last_axis"},
    "lazy rows": {"sparse": "dense"},
    "rows made dense": {"sparse": "lazy"},
}


@pytest.mark.parametrize("name", WRONG)
def test_another_meaning_is_caught(driver, name):
    fields, kind = CONFIGS[name]
    meant = config_of(fields)
    pair, rng = Pair(driver, meant.replace(**WRONG[name]), meant=meant), np.random.default_rng(2)
    for step in range(STEPS):
        pair.step(gradients(kind, rng, step, "float32", meant.loss_scale))
    seen = pair.run.state().slots()
    for slot, arrays in pair.state.slots().items():
        pair.rulers[slot].observe(arrays, seen[slot])
    assert pair.ulp > LIMIT_ULP["float32"]


@pytest.mark.parametrize("name", CONFIGS)
def test_both_modes_have_the_same_bits(driver, name):
    fields, kind = CONFIGS[name]
    left, right = (followed(driver, config_of(fields), kind, mode=mode).run.weights() for mode in driver.modes)
    assert all(np.array_equal(left[param], right[param]) for param in SHAPES)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_clips_and_rows_of_half_precision(driver, dtype):
    for fields, kind in itertools.product(
        ({"clip": [VALUE, GLOBAL]}, {"sparse": "lazy", "clip": NORM}), ("all", "rows")
    ):
        config = RMSPropConfig(learning_rate=2.0**-5, rho=0.875, epsilon=2.0**-7, **fields)
        pair, rng = Pair(driver, config, "float32", "foreach"), np.random.default_rng(2)
        low = driver.start(
            lambda params, config=config, **options: unirms.build(config, "torch", params, **options),
            pair.run.weights(),
            dtype,
            "foreach",
        )
        for step in range(5):
            grads = gradients(kind, rng, step, "float32", 1.0)
            pair.step(grads)
            low.step(grads, None)
        for name, weights in pair.run.weights().items():
            # A step of 0.03 of the weight, five times, each rounded by up to a part in 2**8 (bfloat16) of the weight.
            np.testing.assert_allclose(low.weights()[name].astype(np.float32), weights, atol=0.05)


def test_a_global_norm_over_two_dtypes_is_that_of_the_wider():
    config = RMSPropConfig(clip=GLOBAL, epsilon=1e-3)
    start = {"a": np.full(5, 0.5, np.float32), "b": np.full(7, -0.5, np.float64)}
    grads = {"a": np.linspace(1, 2, 5).astype(np.float32), "b": np.linspace(-2, 1, 7)}
    params = {name: torch.nn.Parameter(torch.from_numpy(value.copy())) for name, value in start.items()}
    optimizer = unirms.build(config, "torch", params, foreach=True)
    for name, param in params.items():
        param.grad = torch.from_numpy(grads[name])
    optimizer.step()
    expected, _ = unirms.reference.step(config, start, grads, unirms.reference.init(config, start))
    for name, param in params.items():
        assert param.dtype is {"a": torch.float32, "b": torch.float64}[name]
        np.testing.assert_allclose(param.detach().numpy(), expected[name], rtol=4 * np.finfo(start[name].dtype).eps)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 0.0])
@pytest.mark.parametrize("clip", [VALUE, NORM, GLOBAL, {**NORM, "eps": 1e-6}, {**GLOBAL, "eps": 1e-6}])
def test_clips_of_odd_gradients_are_those_of_the_reference(clip, value):
    config = RMSPropConfig(clip=clip, epsilon=1e-3)
    start, grads = {"w": np.ones(3, np.float32)}, {"w": np.array([value, value, 1.0], np.float32) * (value != 0)}
    param = torch.nn.Parameter(torch.from_numpy(start["w"].copy()))
    optimizer = unirms.build(config, "torch", {"w": param})
    param.grad = torch.from_numpy(grads["w"].copy())
    optimizer.step()
    expected, _ = unirms.reference.step(config, start, grads, unirms.reference.init(config, start))
    np.testing.assert_allclose(param.detach().numpy(), expected["w"], rtol=1e-6)
    np.testing.assert_array_equal(param.grad.numpy(), grads["w"])  # the user's gradients stay as they are


def test_a_limit_that_a_dtype_does_not_hold_limits_nothing():
    param = torch.nn.Parameter(torch.ones(2, dtype=torch.float16))
    optimizer = unirms.build(RMSPropConfig(clip={"by": "value", "limit": 1e6}, epsilon=1.0), "torch", {"w": param})
    param.grad = torch.full_like(param, 60.0)
    optimizer.step()
    assert (param < 1).all()
