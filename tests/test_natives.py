"""A dialect's meaning of native arguments against the class itself, as its source has it."""

import inspect
import itertools

import numpy as np
import pytest

from natives import STEPS, run
from unirms import ConfigError, NativeCall, dialects, reference

# What is tried for each argument, by its native name: nothing here comes from the dialects.
FLAGS = (False, True)
DECAYS = (None, NativeCall("L2Decay", 0.125), NativeCall("L1Decay", 0.125))
CLIPS = (None, *(NativeCall(f"paddle.nn.ClipGrad{kind}", 0.25) for kind in ("ByValue", "ByNorm", "ByGlobalNorm")))
VALUES = {
    **dict.fromkeys(("alpha", "rho", "decay"), (0.5,)),
    **dict.fromkeys(("eps", "epsilon"), (1e-3,)),
    **dict.fromkeys(("centered", "maximize", "decoupled_decay", "lr_in_momentum", "eps_in_sqrt"), FLAGS),
    **dict.fromkeys(("nesterov", "bias_correction"), FLAGS),
    **dict.fromkeys(("clipnorm", "clipvalue", "global_clipnorm"), (None, 0.25)),
    "momentum": (0.0, 0.75),
    "weight_decay": (0.0, 0.125),
    "initial_scale": (0.0, 0.5),
    "loss_scale": (1.0, 8.0),
    "loss_scale_factor": (None, 8.0),
    "regularization": DECAYS,
    "grad_clip": CLIPS,
}
BEFORE_THE_STEP = {
    "keras": ("clipnorm", "clipvalue", "global_clipnorm", "loss_scale_factor"),
    "keras-legacy": ("clipnorm", "clipvalue", "global_clipnorm"),
    "paddle": ("grad_clip",),
    "paddle-fluid": ("grad_clip",),
}
OTHERS = {"keras": {"use_ema", "ema_momentum", "gradient_accumulation_steps"}}
"""Arguments about what comes after the step, or before several."""


def stream():
    rng = np.random.default_rng(5)
    shapes = {"w": 12, "w.gamma": 3, "matrix": (3, 4)}
    start = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    sizes = 10.0 ** -np.linspace(0, 4, 12)
    grads = [{name: rng.standard_normal(shape) for name, shape in shapes.items()} for _ in range(8)]
    return start, [{**grad, "w": grad["w"] * sizes} for grad in grads]


def spoken(name):
    """Return every combination of arguments, and the defaults once."""
    step, _, rate = STEPS[name]
    keywords = [p.name for p in inspect.signature(step).parameters.values() if p.kind is p.KEYWORD_ONLY]
    if name in {"pfrl", "sb3", "torch", "mindspore-experimental"}:
        keywords = [keyword for keyword in keywords if keyword != "inside"]
    names = [*keywords, *BEFORE_THE_STEP.get(name, ())]
    values = {**VALUES, "weight_decay": (*VALUES["weight_decay"], *DECAYS[1:])} if name == "paddle" else VALUES
    for chosen in itertools.product(*(values[one] for one in names)):
        yield {rate: 0.01, **dict(zip(names, chosen, strict=True))}


def test_every_dialect_has_a_step():
    assert list(STEPS) == list(dialects.all_dialects())


@pytest.mark.parametrize("name", STEPS)
def test_a_dialect_writes_what_the_step_takes(name):
    arguments = next(spoken(name))
    dialect = dialects.get(name)
    assert dialect.write(dialect.read(arguments)).keys() == arguments.keys() | OTHERS.get(name, set())


@pytest.mark.parametrize("name", STEPS)
def test_a_config_means_what_the_class_computes_from_its_arguments(name):
    start, grads = stream()
    tried = 0
    for arguments in spoken(name):
        try:
            config = dialects.get(name).read(arguments)
        except ConfigError:  # two clips, which the class refuses
            continue
        spares = name == "mindspore"  # its name filter
        with np.errstate(all="ignore"):
            computed = run(name, arguments, start, grads, lambda parameter, s=spares: s and "gamma" in parameter)
        params, state = start, reference.init(config, start)
        for grad in grads:
            params, state = reference.step(config, params, grad, state)
        for parameter, values in params.items():
            same = np.allclose(computed[parameter], values, rtol=1e-9, atol=1e-12, equal_nan=True)
            assert same, (arguments, config, parameter)
        tried += 1
    assert tried >= 1
