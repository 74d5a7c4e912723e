"""MindSpore: groups, clips, accumulation, averages and the rest of the config, every step beside the reference."""

import numpy as np
import pytest

import unirms
from unirms import ParameterGroup, RMSPropConfig, reference, schedules
from unirms.adapters import mindspore as adapter
from unirms.clipping import ClipByGlobalNorm, ClipByNorm, ClipByValue
from unirms.conformance.measures import Ruler, same_bits

LIMIT = 32  # ULP at max(|w|, path), as in the parity report
SHAPES = {"body.weight": (4, 3, 2), "body.bias": (9,), "norm.gamma": (5,), "head.weight": (3, 33), "head.scale": ()}
BASE = RMSPropConfig(learning_rate=3e-3, epsilon=1e-2)
RICH = {"momentum": 0.8, "centered": True, "bias_correction": True, "initial_mean_square": 0.3}
COSINE = schedules.Cosine(initial_learning_rate=0.01, decay_steps=6)
GROUPS = (
    ParameterGroup(match="*.bias", learning_rate=1e-3, momentum=0.5, centered=False),
    ParameterGroup(match=("re:^norm", "head.scale"), rho=0.99, epsilon=1e-3, weight_decay=0.0, centered=True),
    ParameterGroup(match="head.*", learning_rate_factor=2.5, momentum=0.0, weight_decay=0.2),
)
FACTORS = (ParameterGroup(match="*.bias", learning_rate_factor=0.3), ParameterGroup(match="head.*", rho=0.8))
TOGETHER = ClipByGlobalNorm(max_norm=2.0)
APART = ClipByGlobalNorm(max_norm=1.5, over="group")

CONFIGS = {
    "groups": {**RICH, "weight_decay": 0.1, "groups": GROUPS, "nesterov": True, "no_weight_decay": ("body.*",)},
    "groups without a buffer": {"groups": (ParameterGroup(match="head.*", momentum=0.9, centered=True),)},
    "groups and a schedule": {"learning_rate": COSINE, "groups": FACTORS, "momentum": 0.8},
    "l1": {"weight_decay": 0.05, "weight_decay_mode": "l1", "clip": ClipByNorm(max_norm=5.0)},
    "value": {"clip": ClipByValue(limit=0.5)},
    "norm": {"clip": ClipByNorm(max_norm=1.0)},
    "norm, eps": {"clip": ClipByNorm(max_norm=1.0, eps=1e-2)},
    "global norm": {"clip": TOGETHER, "maximize": True},
    "global norm, eps": {"clip": ClipByGlobalNorm(max_norm=2.0, eps=1e-2)},
    "global norm, not reached": {"clip": ClipByGlobalNorm(max_norm=1e3, eps=1e-6)},
    "clips in order": {"clip": (ClipByValue(limit=0.7), ClipByNorm(max_norm=1.2), TOGETHER), "loss_scale": 3.0},
    "clips over groups": {"clip": APART, "groups": FACTORS},
    "clips of groups": {
        "clip": (TOGETHER, ClipByValue(limit=0.8)),
        "groups": (
            ParameterGroup(match="*.bias", clip=()),
            ParameterGroup(match="head.*", clip=(ClipByGlobalNorm(max_norm=0.5), ClipByNorm(max_norm=0.2))),
        ),
    },
    "accumulation": {
        **RICH,
        "gradient_accumulation_steps": 3,
        "loss_scale": 4.0,
        "learning_rate": COSINE,
        "weight_decay": 0.1,
        "clip": TOGETHER,
    },
    "skip": {**RICH, "non_finite": "skip", "learning_rate": COSINE, "ema_decay": 0.9},
    "skip, accumulation": {"non_finite": "skip", "gradient_accumulation_steps": 2, "momentum": 0.8},
    "raise": {"non_finite": "raise", "momentum": 0.8},
    "average": {"ema_decay": 0.9, "momentum": 0.8},
    "average, late": {"ema_decay": 0.75, "ema_start": 3, "gradient_accumulation_steps": 2},
    # From 0, the square of a difference that is next to nothing would be all there is.
    "centralized, first axis": {"gradient_centralization": "first_axis", "clip": TOGETHER, "initial_mean_square": 0.3},
    "centralized, last axis": {"gradient_centralization": "last_axis", "momentum": 0.8, "initial_mean_square": 0.3},
}


@pytest.fixture(params=["pynative", "graph"])
def mode(request):
    return request.param


class Follower:
    """An optimizer beside the float64 reference and the reference in its own dtype; keeps the worst errors."""

    def __init__(self, driver, rng, config, dtype="float32", mode="pynative", *, meant=None):
        start = {name: np.asarray(rng.standard_normal(shape), dtype) for name, shape in SHAPES.items()}
        self.run = driver.start(lambda params: unirms.build(config, "mindspore", params), start, dtype, mode)
        self.rng, self.config, self.dtype = rng, meant or config, dtype
        self.wide = {name: value.astype(np.float64) for name, value in start.items()}
        self.twin, self.same_bits = start, True
        self.wide_state = reference.init(self.config, self.wide)
        self.twin_state = reference.init(self.config, self.twin)
        self.rulers = {"weights": Ruler(self.wide, dtype)}
        self.rulers |= {slot: Ruler(arrays, dtype) for slot, arrays in self.wide_state.slots().items()}

    def step(self, change=lambda grads: grads):
        scale = self.config.loss_scale
        grads = change({n: np.asarray(signed(self.rng, s) * scale, self.dtype) for n, s in SHAPES.items()})
        wide = {name: grad.astype(np.float64) for name, grad in grads.items()}
        self.wide, self.wide_state = reference.step(self.config, self.wide, wide, self.wide_state)
        self.twin, self.twin_state = reference.step(self.config, self.twin, grads, self.twin_state)
        self.run.step(grads, None)
        self.compare()

    def compare(self):
        state, weights = self.run.state(), self.run.weights()
        assert (state.step, state.micro_step) == (self.wide_state.step, self.wide_state.micro_step)
        self.rulers["weights"].observe(self.wide, weights)
        for slot, arrays in self.wide_state.slots().items():
            self.rulers[slot].observe(arrays, state.slots()[slot])
        assert set(state.gradient_sum) == set(self.wide_state.gradient_sum)
        for name, gathered in self.wide_state.gradient_sum.items():
            assert np.allclose(state.gradient_sum[name], gathered, rtol=1e-6, atol=1e-6, equal_nan=True)
        self.same_bits &= same_bits(self.twin, weights)
        self.same_bits &= all(same_bits(self.twin_state.slots()[n], a) for n, a in state.slots().items())

    @property
    def ulp(self):
        return max(ruler.worst.ulp for ruler in self.rulers.values())


def signed(rng, shape):
    """Return numbers of either sign and of size 0.5 to 2, which a small decay cannot cancel."""
    values = rng.uniform(-1.5, 1.5, shape)
    return values + np.copysign(0.5, values)


def spoiled(grads):
    """Return gradients with one NaN and one infinity."""
    changed = {name: np.array(grad) for name, grad in grads.items()}
    changed["body.bias"][3], changed["head.scale"][()] = np.nan, np.inf
    return changed


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_step_follows_the_reference(name, dtype, mode, driver, rng):
    config = BASE.replace(**CONFIGS[name])
    follower = Follower(driver, rng, config, dtype, mode)
    for step in range(9):
        follower.step(spoiled if config.non_finite == "skip" and step in {1, 2, 6} else lambda grads: grads)

    assert type(follower.run.optimizer) is adapter.UniRMSProp
    assert unirms.config_of(follower.run.optimizer) == config
    assert follower.ulp <= LIMIT
    # NumPy takes sums in another order, and the double rate of a group of a schedule is rounded once more or less.
    if dtype == "float32" and not config.clip and config.gradient_centralization == "none":
        assert follower.same_bits


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ({"groups": GROUPS}, {"groups": GROUPS[::-1]}),
        ({"groups": FACTORS}, {"groups": FACTORS[1:]}),
        ({"weight_decay": 0.05, "weight_decay_mode": "l2"}, {"weight_decay": 0.05, "weight_decay_mode": "l1"}),
        ({"clip": ClipByNorm(max_norm=1.0)}, {"clip": ClipByNorm(max_norm=1.0, eps=1e-4)}),
        ({"clip": (ClipByValue(limit=0.7), TOGETHER)}, {"clip": (TOGETHER, ClipByValue(limit=0.7))}),
        ({"clip": APART.model_copy(update={"over": "all"}), "groups": FACTORS}, {"clip": APART, "groups": FACTORS}),
        ({"gradient_centralization": "first_axis"}, {"gradient_centralization": "last_axis"}),
        ({"ema_decay": 0.9}, {"ema_decay": 0.9, "ema_start": 1}),
    ],
)
def test_another_meaning_is_caught(wrong, right, driver, rng):
    follower = Follower(driver, rng, BASE.replace(**wrong), meant=BASE.replace(**right))
    for _ in range(6):
        follower.step()

    assert follower.ulp > LIMIT
