"""Which native schedules compute a schedule of ours, to what precision, and where they leave it."""

import importlib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from unirms.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    InverseTime,
    Linear,
    MultiStep,
    NaturalExponential,
    Noam,
    OneCycle,
    Piecewise,
    Polynomial,
    Sequence,
    Step,
    Warmup,
)

B = 0.1  # the base rate of all cases
N = 4000
STEPS = np.arange(N)
# What is a function of t and no recursion over it is asked far out as well.
FAR = np.concatenate([STEPS, np.arange(10**5, 10**5 + 50), np.arange(10**6 - 25, 10**6 + 25)])

# A recursion over t rounds at each of the N updates; closed forms in float64 are far better.
DOUBLE = N * np.finfo(np.float64).eps
# A closed form in float32 rounds at each of its operations, of which there are about a dozen: step, length, their
# quotient, power or cosine, rates, products and sums. Each is good to 2**-24.
SINGLE = 16 * 2.0**-24
# A power in float32 has the rounding errors of its base and its exponent as often as the exponent says: at most 25.
SINGLE_POWER = 40 * 2.0**-24


@dataclass(frozen=True)
class Native:
    """A native schedule, made from the framework's module of schedules, and the schedule that it should compute.

    `tolerance` is of the rate itself if `relative`, otherwise of the highest rate: what subtracts leaves in a small
    rate the rounding errors of the large one.
    """

    name: str
    schedule: Any
    make: Callable[..., Any]
    tolerance: float = DOUBLE
    relative: bool = False
    ts: np.ndarray = field(default_factory=lambda: STEPS)
    rate: float = B  # the optimizer's own, in torch

    def allowed(self, expected: np.ndarray) -> np.ndarray:
        return self.tolerance * (expected if self.relative else np.full_like(expected, expected.max()))


def run_torch(native, ts):
    import torch

    optimizer = torch.optim.RMSprop([torch.nn.Parameter(torch.zeros(1))], lr=native.rate)
    scheduler = native.make(torch.optim.lr_scheduler, optimizer)
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(int(ts.max())):
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return np.array(rates)[ts]


def run_keras(native, ts):
    import keras

    schedule = native.make(keras.optimizers.schedules)
    steps = keras.ops.convert_to_tensor(ts, "int64")
    if isinstance(native.schedule, Warmup):  # its condition takes one step at a time
        return np.array([float(schedule(step)) for step in steps])
    return keras.ops.convert_to_numpy(schedule(steps)).astype(np.float64)


def run_mindspore(native, ts):
    import mindspore

    made = native.make(mindspore.nn)
    if isinstance(made, list):
        return np.array(made)[ts]
    return made(mindspore.Tensor(ts, mindspore.int32)).asnumpy().astype(np.float64)


def run_paddle(native, ts):
    import paddle

    scheduler = native.make(paddle.optimizer.lr)
    rates = [scheduler()]
    for _ in range(int(ts.max())):
        scheduler.step()
        rates.append(scheduler())
    return np.array(rates)[ts]


RUN = {"torch": run_torch, "keras": run_keras, "mindspore": run_mindspore, "paddle": run_paddle}

# Shapes that several frameworks have.
STEP = Step(initial_learning_rate=B, step_size=300, gamma=0.5)
MULTI_STEP = MultiStep(initial_learning_rate=B, milestones=[0, 300, 1000], gamma=0.3)
PIECEWISE = Piecewise(boundaries=[300, 1000], learning_rates=[B, 0.03, 0.2])
SHRINKING = Exponential(initial_learning_rate=B, decay_rate=0.995)
HALVING = Exponential(initial_learning_rate=B, decay_rate=0.5, decay_steps=300)
SLOW = Exponential(initial_learning_rate=B, decay_rate=0.6, decay_steps=40_000)
STAIRS = Exponential(initial_learning_rate=B, decay_rate=0.6, decay_steps=50_000, staircase=True)
NATURAL = NaturalExponential(initial_learning_rate=B, decay_rate=0.005)
INVERSE = InverseTime(initial_learning_rate=B, decay_rate=0.5, decay_steps=30)
INVERSE_STAIRS = InverseTime(initial_learning_rate=B, decay_rate=0.5, decay_steps=30, staircase=True)
ROOT = Polynomial(initial_learning_rate=B, end_learning_rate=0.001, decay_steps=1000, power=0.5)
CYCLE = Polynomial(initial_learning_rate=B, end_learning_rate=0.001, decay_steps=300, power=2, cycle=True)
DOWN = Linear(initial_learning_rate=B, decay_steps=1000)
UP = Linear(initial_learning_rate=B / 10, end_learning_rate=B, decay_steps=100)
COSINE = Cosine(initial_learning_rate=B, end_learning_rate=0.001, decay_steps=1000)
WAVE = Cosine(initial_learning_rate=B, end_learning_rate=0.001, decay_steps=500, periodic=True)
WAVE_TO_0 = Cosine(initial_learning_rate=B, decay_steps=500, periodic=True)
RESTARTS = CosineRestarts(initial_learning_rate=B, end_learning_rate=0.001, first_period=100)
DOUBLING = CosineRestarts(initial_learning_rate=B, first_period=4, period_factor=2)
ONE_CYCLE = OneCycle(max_learning_rate=B, total_steps=N)
THREE_PHASES = OneCycle(
    max_learning_rate=B,
    initial_learning_rate=B / 5,
    end_learning_rate=B / 50,
    total_steps=N,
    pct_start=0.4,
    anneal_strategy="linear",
    three_phase=True,
)
RISE_AND_HOLD = Warmup(warmup_steps=1000, after=Constant(learning_rate=B))


def torch_linear_then_cosine(s, o):
    return s.SequentialLR(o, [s.LinearLR(o, 0.1, 1.0, 100), s.CosineAnnealingLR(o, 500, 0.001)], [100])


def torch_four_parts(s, o):
    parts = [s.LinearLR(o, 0.1, 1.0, 100), s.StepLR(o, 300, 0.5), s.PolynomialLR(o, 1000), s.ExponentialLR(o, 0.995)]
    return s.SequentialLR(o, parts, [100, 1000, 2000])


TORCH = [
    Native(
        "ConstantLR",
        Piecewise(boundaries=[300], learning_rates=[B / 4, B]),
        lambda s, o: s.ConstantLR(o, 0.25, 300),
    ),
    Native("StepLR", STEP, lambda s, o: s.StepLR(o, 300, 0.5)),
    Native("MultiStepLR", MULTI_STEP, lambda s, o: s.MultiStepLR(o, [0, 300, 1000], 0.3)),
    Native(
        "MultiStepLR in any order, one twice",
        MultiStep(initial_learning_rate=B, milestones=[300, 1000, 1000]),
        lambda s, o: s.MultiStepLR(o, [1000, 300, 1000]),
    ),
    Native("ExponentialLR", SHRINKING, lambda s, o: s.ExponentialLR(o, 0.995), relative=True),
    Native("ExponentialLR of a root", HALVING, lambda s, o: s.ExponentialLR(o, 0.5 ** (1 / 300)), relative=True),
    Native("ExponentialLR of e", NATURAL, lambda s, o: s.ExponentialLR(o, math.exp(-0.005)), relative=True),
    Native(
        "PolynomialLR",
        Polynomial(initial_learning_rate=B, decay_steps=1000, power=2.5),
        lambda s, o: s.PolynomialLR(o, 1000, 2.5),
    ),
    Native("LinearLR down", DOWN, lambda s, o: s.LinearLR(o, 1.0, 0.0, 1000)),
    Native("LinearLR up", UP, lambda s, o: s.LinearLR(o, 0.1, 1.0, 100)),
    Native("CosineAnnealingLR", WAVE, lambda s, o: s.CosineAnnealingLR(o, 500, 0.001)),
    Native("CosineAnnealingLR to 0", WAVE_TO_0, lambda s, o: s.CosineAnnealingLR(o, 500)),
    Native("CosineAnnealingWarmRestarts", RESTARTS, lambda s, o: s.CosineAnnealingWarmRestarts(o, 100, eta_min=0.001)),
    Native("CosineAnnealingWarmRestarts doubling", DOUBLING, lambda s, o: s.CosineAnnealingWarmRestarts(o, 4, 2)),
    Native("OneCycleLR", ONE_CYCLE, lambda s, o: s.OneCycleLR(o, B, N, cycle_momentum=False)),
    Native(
        "OneCycleLR from a fraction of an update",
        OneCycle(max_learning_rate=B, total_steps=N, pct_start=0.12345),
        lambda s, o: s.OneCycleLR(o, B, N, pct_start=0.12345, cycle_momentum=False),
    ),
    Native(
        "OneCycleLR of three phases",
        THREE_PHASES,
        lambda s, o: s.OneCycleLR(
            o,
            B,
            N,
            pct_start=0.4,
            anneal_strategy="linear",
            cycle_momentum=False,
            div_factor=5.0,
            final_div_factor=10.0,
            three_phase=True,
        ),
    ),
    Native("SequentialLR", Sequence(schedules=[UP, WAVE], boundaries=[100]), torch_linear_then_cosine),
    Native(
        "SequentialLR as warmup",
        Warmup(warmup_steps=100, start_learning_rate=B / 10, after=WAVE),
        torch_linear_then_cosine,
    ),
    Native(
        "SequentialLR of four",
        Sequence(schedules=[UP, STEP, DOWN, SHRINKING], boundaries=[100, 1000, 2000]),
        torch_four_parts,
    ),
    Native(
        "LambdaLR",
        INVERSE,
        lambda s, o: s.LambdaLR(o, InverseTime(initial_learning_rate=1, decay_rate=0.5, decay_steps=30).value),
    ),
]

KERAS = [
    Native("ExponentialDecay", SLOW, lambda s: s.ExponentialDecay(B, 40_000, 0.6), SINGLE_POWER, relative=True, ts=FAR),
    Native(
        "ExponentialDecay staircase",
        STAIRS,
        lambda s: s.ExponentialDecay(B, 50_000, 0.6, staircase=True),
        SINGLE_POWER,
        relative=True,
        ts=FAR,
    ),
    Native("ExponentialDecay of e", NATURAL, lambda s: s.ExponentialDecay(B, 200, math.exp(-1)), SINGLE, ts=FAR),
    Native(
        "PiecewiseConstantDecay with boundaries less 1",
        PIECEWISE,
        lambda s: s.PiecewiseConstantDecay([299, 999], [B, 0.03, 0.2]),
        SINGLE,
        ts=FAR,
    ),
    Native("InverseTimeDecay", INVERSE, lambda s: s.InverseTimeDecay(B, 30, 0.5), SINGLE, relative=True, ts=FAR),
    Native(
        "InverseTimeDecay staircase",
        INVERSE_STAIRS,
        lambda s: s.InverseTimeDecay(B, 30, 0.5, staircase=True),
        SINGLE,
        relative=True,
        ts=FAR,
    ),
    Native("PolynomialDecay", ROOT, lambda s: s.PolynomialDecay(B, 1000, 0.001, 0.5), SINGLE, ts=FAR),
    Native("PolynomialDecay of power 1", DOWN, lambda s: s.PolynomialDecay(B, 1000, 0.0), SINGLE, ts=FAR),
    Native("PolynomialDecay cycle", CYCLE, lambda s: s.PolynomialDecay(B, 300, 0.001, 2.0, cycle=True), SINGLE, ts=FAR),
    Native("CosineDecay", COSINE, lambda s: s.CosineDecay(B, 1000, 0.01), SINGLE, ts=FAR),
    Native(
        "CosineDecay with warmup",
        Warmup(
            warmup_steps=100,
            start_learning_rate=0.02,
            after=Cosine(initial_learning_rate=B, end_learning_rate=0.001, decay_steps=300),
        ),
        lambda s: s.CosineDecay(0.02, 300, 0.01, warmup_target=B, warmup_steps=100),
        SINGLE,
        ts=np.append(np.arange(500), 10**6),
    ),
    Native(
        "CosineDecayRestarts",
        CosineRestarts(initial_learning_rate=B, end_learning_rate=0.001, first_period=1000, peak_factor=0.9),
        lambda s: s.CosineDecayRestarts(B, 1000, 1.0, 0.9, 0.01),
        SINGLE,
    ),
    Native(
        "CosineDecayRestarts doubling",
        DOUBLING,
        lambda s: s.CosineDecayRestarts(B, 4, 2.0),
        SINGLE,
        ts=np.arange(30_000),
    ),
    Native(
        "CosineDecayRestarts by 1.5",
        CosineRestarts(initial_learning_rate=B, first_period=10, period_factor=1.5),
        lambda s: s.CosineDecayRestarts(B, 10, 1.5),
        SINGLE,
    ),
]

MINDSPORE = [
    Native(
        "ExponentialDecayLR", SLOW, lambda s: s.ExponentialDecayLR(B, 0.6, 40_000), SINGLE_POWER, relative=True, ts=FAR
    ),
    Native(
        "ExponentialDecayLR staircase",
        STAIRS,
        lambda s: s.ExponentialDecayLR(B, 0.6, 50_000, is_stair=True),
        SINGLE_POWER,
        relative=True,
        ts=FAR,
    ),
    Native("NaturalExpDecayLR, whatever its steps", NATURAL, lambda s: s.NaturalExpDecayLR(B, 0.005, 300), SINGLE),
    Native(
        "NaturalExpDecayLR staircase",
        NaturalExponential(initial_learning_rate=B, decay_rate=0.3, decay_steps=300, staircase=True),
        lambda s: s.NaturalExpDecayLR(B, 0.001, 300, is_stair=True),
        SINGLE,
    ),
    Native("InverseDecayLR", INVERSE, lambda s: s.InverseDecayLR(B, 0.5, 30), SINGLE, relative=True, ts=FAR),
    Native(
        "InverseDecayLR staircase",
        INVERSE_STAIRS,
        lambda s: s.InverseDecayLR(B, 0.5, 30, is_stair=True),
        SINGLE,
        relative=True,
        ts=FAR,
    ),
    Native("PolynomialDecayLR", ROOT, lambda s: s.PolynomialDecayLR(B, 0.001, 1000, 0.5), SINGLE, ts=FAR),
    Native("PolynomialDecayLR of power 1", DOWN, lambda s: s.PolynomialDecayLR(B, 0.0, 1000, 1.0), SINGLE, ts=FAR),
    Native(
        "PolynomialDecayLR cycle",
        CYCLE,
        lambda s: s.PolynomialDecayLR(B, 0.001, 300, 2.0, update_decay_steps=True),
        SINGLE,
        ts=FAR,
    ),
    Native("CosineDecayLR", COSINE, lambda s: s.CosineDecayLR(0.001, B, 1000), SINGLE, ts=FAR),
    Native("WarmUpLR", RISE_AND_HOLD, lambda s: s.WarmUpLR(B, 1000), SINGLE, ts=FAR),
    Native("piecewise_constant_lr", PIECEWISE, lambda s: s.piecewise_constant_lr([300, 1000, N], [B, 0.03, 0.2])),
    Native("exponential_decay_lr", HALVING, lambda s: s.exponential_decay_lr(B, 0.5, N, 1, 300)),
    Native("exponential_decay_lr of epochs", STEP, lambda s: s.exponential_decay_lr(B, 0.5, N, 100, 3, is_stair=True)),
    Native(
        "exponential_decay_lr of epochs, each a step",
        Step(initial_learning_rate=B, step_size=100, gamma=0.5 ** (1 / 3)),
        lambda s: s.exponential_decay_lr(B, 0.5, N, 100, 3),
    ),
    Native("natural_exp_decay_lr", NATURAL, lambda s: s.natural_exp_decay_lr(B, 0.005, N, 1, 300)),
    Native("inverse_decay_lr", INVERSE, lambda s: s.inverse_decay_lr(B, 0.5, N, 1, 30)),
    Native("inverse_decay_lr staircase", INVERSE_STAIRS, lambda s: s.inverse_decay_lr(B, 0.5, N, 1, 30, is_stair=True)),
    Native("polynomial_decay_lr", ROOT, lambda s: s.polynomial_decay_lr(B, 0.001, N, 1, 1000, 0.5)),
    Native("polynomial_decay_lr cycle", CYCLE, lambda s: s.polynomial_decay_lr(B, 0.001, N, 1, 300, 2.0, True)),
    Native("cosine_decay_lr", COSINE, lambda s: s.cosine_decay_lr(0.001, B, N, 1, 1000)),
    Native("warmup_lr", RISE_AND_HOLD, lambda s: s.warmup_lr(B, N, 1, 1000)),
]

PADDLE = [
    Native("StepDecay", STEP, lambda s: s.StepDecay(B, 300, 0.5)),
    Native("MultiStepDecay", MULTI_STEP, lambda s: s.MultiStepDecay(B, [0, 300, 1000], 0.3)),
    Native("PiecewiseDecay", PIECEWISE, lambda s: s.PiecewiseDecay([300, 1000], [B, 0.03, 0.2])),
    Native("ExponentialDecay", SHRINKING, lambda s: s.ExponentialDecay(B, 0.995), relative=True),
    Native("ExponentialDecay of a root", HALVING, lambda s: s.ExponentialDecay(B, 0.5 ** (1 / 300)), relative=True),
    Native("NaturalExpDecay", NATURAL, lambda s: s.NaturalExpDecay(B, 0.005), relative=True),
    Native("InverseTimeDecay", INVERSE, lambda s: s.InverseTimeDecay(B, 0.5 / 30), relative=True),
    Native("PolynomialDecay", ROOT, lambda s: s.PolynomialDecay(B, 1000, 0.001, 0.5)),
    Native("PolynomialDecay cycle", CYCLE, lambda s: s.PolynomialDecay(B, 300, 0.001, 2.0, cycle=True)),
    Native("LinearLR down", DOWN, lambda s: s.LinearLR(B, 1000, 1.0, 0.0)),
    Native("LinearLR up", UP, lambda s: s.LinearLR(B, 100, 0.1)),
    Native("CosineAnnealingDecay", WAVE, lambda s: s.CosineAnnealingDecay(B, 500, 0.001)),
    Native("CosineAnnealingDecay to 0", WAVE_TO_0, lambda s: s.CosineAnnealingDecay(B, 500)),
    Native("CosineAnnealingWarmRestarts", RESTARTS, lambda s: s.CosineAnnealingWarmRestarts(B, 100, 1, 0.001)),
    Native("CosineAnnealingWarmRestarts doubling", DOUBLING, lambda s: s.CosineAnnealingWarmRestarts(B, 4, 2)),
    Native("NoamDecay", Noam(factor=2, d_model=64, warmup_steps=100, first_step=0), lambda s: s.NoamDecay(64, 100, 2)),
    Native("OneCycleLR", ONE_CYCLE, lambda s: s.OneCycleLR(B, N, end_learning_rate=B / 25 / 1e4)),
    Native(
        "OneCycleLR of three phases",
        THREE_PHASES,
        lambda s: s.OneCycleLR(B, N, 5.0, B / 50, 0.4, "linear", three_phase=True),
    ),
    Native(
        "LinearWarmup",
        Warmup(warmup_steps=100, start_learning_rate=0.01, end_learning_rate=0.2, after=Constant(learning_rate=B)),
        lambda s: s.LinearWarmup(B, 100, 0.01, 0.2),
    ),
    Native(
        "LinearWarmup of CosineAnnealingDecay",
        Warmup(warmup_steps=100, after=WAVE),
        lambda s: s.LinearWarmup(s.CosineAnnealingDecay(B, 500, 0.001), 100, 0.0, B),
    ),
    Native(
        "LinearWarmup of LinearLR",
        Warmup(warmup_steps=100, after=DOWN),
        lambda s: s.LinearWarmup(s.LinearLR(B, 1000, 1.0, 0.0), 100, 0.0, B),
    ),
    Native(
        "LinearWarmup of StepDecay",
        Warmup(warmup_steps=100, after=STEP),
        lambda s: s.LinearWarmup(s.StepDecay(B, 300, 0.5), 100, 0.0, B),
    ),
]

SAME = {"torch": TORCH, "keras": KERAS, "mindspore": MINDSPORE, "paddle": PADDLE}

# Native schedules that look like one of ours and are not: at the updates `ts` they are off by more than float32's
# precision, 1e-5 of the highest rate.
VISIBLE = 1e-5
FINE = Exponential(initial_learning_rate=B, decay_rate=0.9999)
OTHER = {
    "torch": [
        Native("CosineAnnealingLR does not hold", COSINE, lambda s, o: s.CosineAnnealingLR(o, 1000, 0.001)),
        Native(
            "OneCycleLR goes below its end",
            OneCycle(max_learning_rate=B, total_steps=20, anneal_strategy="linear"),
            lambda s, o: s.OneCycleLR(o, B, 20, anneal_strategy="linear", cycle_momentum=False),
            ts=np.array([20]),
        ),
        Native(
            "SequentialLR with a OneCycleLR",
            Sequence(schedules=[UP, ONE_CYCLE], boundaries=[100]),
            lambda s, o: s.SequentialLR(
                o, [s.LinearLR(o, 0.1, 1.0, 100), s.OneCycleLR(o, B, N, cycle_momentum=False)], [100]
            ),
            ts=np.arange(100),
        ),
    ],
    "keras": [
        Native(
            "PiecewiseConstantDecay is one update late",
            PIECEWISE,
            lambda s: s.PiecewiseConstantDecay([300, 1000], [B, 0.03, 0.2]),
            ts=np.array([300, 1000]),
        ),
        Native(
            "ExponentialDecay loses small decays",
            FINE,
            lambda s: s.ExponentialDecay(B, 1, 0.9999),
            ts=np.array([10_000]),
        ),
        Native(
            "ExponentialDecay misses a stair of 2.4",
            Exponential(initial_learning_rate=B, decay_rate=0.97, decay_steps=2.4, staircase=True),
            lambda s: s.ExponentialDecay(B, 2.4, 0.97, staircase=True),
            ts=np.array([36]),
        ),
        Native(
            "CosineDecayRestarts misses restarts",
            DOUBLING,
            lambda s: s.CosineDecayRestarts(B, 4, 2.0),
            ts=np.array([32_764, 131_068]),
        ),
        Native(
            "CosineDecayRestarts misses a restart by 1.1",
            CosineRestarts(initial_learning_rate=B, first_period=10, period_factor=1.1),
            lambda s: s.CosineDecayRestarts(B, 10, 1.1),
            ts=np.array([21]),
        ),
        Native(
            "CosineDecayRestarts drifts over equal periods",
            CosineRestarts(initial_learning_rate=B, first_period=100),
            lambda s: s.CosineDecayRestarts(B, 100, 1.0),
            ts=np.array([819_252]),
        ),
    ],
    "mindspore": [
        Native(
            "NaturalExpDecayLR is not its documentation",
            NaturalExponential(initial_learning_rate=B, decay_rate=0.005, decay_steps=300),
            lambda s: s.NaturalExpDecayLR(B, 0.005, 300),
            ts=np.array([1, 300]),
        ),
        Native(
            "ExponentialDecayLR loses small decays",
            FINE,
            lambda s: s.ExponentialDecayLR(B, 0.9999, 1),
            ts=np.array([10_000]),
        ),
    ],
    "paddle": [
        Native("CosineAnnealingDecay does not hold", COSINE, lambda s: s.CosineAnnealingDecay(B, 1000, 0.001)),
        Native(
            "LinearWarmup misses a restart",
            Warmup(warmup_steps=10, after=CosineRestarts(initial_learning_rate=B, first_period=7, period_factor=3)),
            lambda s: s.LinearWarmup(s.CosineAnnealingWarmRestarts(B, 7, 3), 10, 0.0, B),
            ts=np.array([857]),
        ),
        Native(
            "OneCycleLR rises again after its end",
            OneCycle(max_learning_rate=B, total_steps=20),
            lambda s: s.OneCycleLR(B, 20, end_learning_rate=B / 25 / 1e4),
            ts=np.array([20]),
        ),
        Native(
            "NoamDecay begins at 0",
            Noam(d_model=64, warmup_steps=100),
            lambda s: s.NoamDecay(64, 100),
            ts=np.array([0]),
        ),
    ],
}


def pytest_generate_tests(metafunc):
    """The rows of the framework of this process."""
    framework = metafunc.config.getoption("--framework")
    for argument, rows in (("same", SAME), ("other", OTHER)):
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, rows[framework], ids=[row.name for row in rows[framework]])


@pytest.fixture(scope="module")
def run(framework, driver):  # the driver has loaded the framework, whose import may warn
    return RUN[framework]


def test_a_native_schedule_computes_ours(run, same):
    found, expected = run(same, same.ts), same.schedule.values(same.ts)
    allowed = same.allowed(expected)
    worst = int(np.argmax(np.abs(found - expected) - allowed))
    assert abs(found[worst] - expected[worst]) <= allowed[worst], f"at t={same.ts[worst]}"
    # The same comparison sees a schedule that is one update late.
    late = same.schedule.values(np.maximum(same.ts - 1, 0))
    assert (np.abs(found - late) > allowed).any()


def test_a_native_schedule_that_only_looks_like_ours_is_told_apart(run, other):
    found, expected = run(other, other.ts), other.schedule.values(other.ts)
    highest = other.schedule.values(STEPS).max()
    assert np.abs(found - expected).max() > VISIBLE * highest


CLASSES = {
    "torch": "unirms.dialects.schedules.torch",
    "keras": "unirms.dialects.schedules.keras",
    "mindspore": "unirms.dialects.schedules.mindspore",
    "paddle": "unirms.dialects.schedules.paddle",
}


def classes_of(framework):
    found = importlib.import_module(CLASSES[framework]).CLASSES
    return found.beside(B) if framework == "torch" else found


def test_the_rows_have_the_arguments_and_defaults_of_the_classes(framework, driver):
    classes = classes_of(framework)
    module = importlib.import_module(classes.modules[0])
    for row in classes.rows:
        real = list(inspect.signature(getattr(module, row.name)).parameters.values())[len(classes.first) :]
        order = row.order or (*row.arguments, *row.fixed, *row.ignored)
        assert [p.name for p in real] == [name for name in order if name != "verbose" or "verbose" in map(_name, real)]
        stated = {**row.defaults, **row.fixed}
        assert {p.name: p.default for p in real if p.default is not p.empty and p.name not in row.ignored} == stated


def _name(parameter):
    return parameter.name


def test_what_is_written_for_a_schedule_computes_it(run, framework, same):
    table = importlib.import_module(CLASSES[framework]).CLASSES
    written = table.write(same.schedule)
    rate, call = written if framework == "torch" and written is not None else (B, written)
    if call is None:
        return  # test_snippets.py counts those that have one
    module = importlib.import_module(framework)

    def make(_, optimizer=None):
        return eval(repr(call), {framework: module, "optimizer": optimizer})

    coarse = SINGLE_POWER if framework in {"keras", "mindspore"} else DOUBLE
    native = replace(same, make=make, rate=rate, tolerance=coarse, relative=False)
    found, expected = run(native, native.ts), same.schedule.values(native.ts)
    assert (np.abs(found - expected) <= native.allowed(expected)).all(), repr(call)


def test_a_native_one_cycle_ends_in_an_error(run, framework):
    for row in SAME[framework]:  # Keras and MindSpore have none
        if isinstance(row.schedule, OneCycle):
            with pytest.raises(ValueError, match="Tried to step"):
                run(row, np.array([N + 1]))
