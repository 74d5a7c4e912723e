"""The snippets of `Native.code` are run: with a real model, each step beside the reference.

The reference computes what the target means, with the mean square starting where the config wants it; where the verdict
is `exact` or `seeded`, that is what was asked for.
"""

from dataclasses import replace

import numpy as np
import pytest

from unirms import RMSPropConfig, dialects, reference, schedules
from unirms.config import ParameterGroup
from unirms.conformance.cases import LIMIT_ULP
from unirms.conformance.measures import Ruler
from unirms.semantics import Fidelity

STEPS = 8
FAR = 1000 * LIMIT_ULP["float32"]  # what a planted defect must exceed
DIALECTS = {
    "torch": ("torch",),
    "keras": ("keras", "tf1"),
    "mindspore": ("mindspore", "mindspore-experimental"),
    "paddle": ("paddle",),
}
# From all the dialects that fix something otherwise. Epsilons are of the size of the gradients' squares, so that where
# they stand shows.
SOURCES = {
    "torch plain": RMSPropConfig.from_native("torch", lr=0.01, eps=1e-2),
    "torch momentum": RMSPropConfig.from_native("torch", lr=0.01, alpha=0.9, eps=1e-2, momentum=0.9),
    "torch centered": RMSPropConfig.from_native("torch", lr=0.01, alpha=0.9, centered=True, momentum=0.5),
    "torch decay": RMSPropConfig.from_native("torch", lr=0.01, alpha=0.9, weight_decay=0.1),
    "torch no epsilon": RMSPropConfig.from_native("torch", lr=0.01, alpha=0.9, eps=0.0, weight_decay=0.1),
    "keras decay": RMSPropConfig.from_native("keras", learning_rate=0.01, epsilon=1e-2, weight_decay=0.5),
    "keras clip": RMSPropConfig.from_native("keras", learning_rate=0.01, momentum=0.9, clipnorm=0.5),
    "tf1 centered": RMSPropConfig.from_native("tf1", learning_rate=0.01, momentum=0.9, epsilon=1e-2, centered=True),
    "mindspore decay": RMSPropConfig.from_native("mindspore", learning_rate=0.01, momentum=0.9, weight_decay=0.1),
    "paddle decay": RMSPropConfig.from_native("paddle", learning_rate=0.01, momentum=0.9, weight_decay=0.1),
    "optax scale": RMSPropConfig.from_native("optax", learning_rate=0.01, initial_scale=0.3, momentum=0.9),
    "timm decoupled": RMSPropConfig.from_native("timm", lr=0.01, weight_decay=0.5, decoupled_decay=True),
    "sb3 decay": RMSPropConfig.from_native("sb3", lr=0.01, eps=1e-2, weight_decay=0.1, momentum=0.5),
}
MOVING = RMSPropConfig(epsilon=1e-2, momentum=0.5)
# Rates that move visibly within a few steps, of kinds that some framework has a class for.
SCHEDULES = {
    "step": schedules.Step(initial_learning_rate=0.02, step_size=3, gamma=0.5),
    "multi_step": schedules.MultiStep(initial_learning_rate=0.02, milestones=[2, 5], gamma=0.25),
    "piecewise": schedules.Piecewise(boundaries=[1, 4], learning_rates=[0.005, 0.02, 0.01]),
    "hold and jump": schedules.Piecewise(boundaries=[4], learning_rates=[0.005, 0.02]),
    "exponential": schedules.Exponential(initial_learning_rate=0.02, decay_rate=0.75),
    "exponential of 5 updates": schedules.Exponential(initial_learning_rate=0.02, decay_rate=0.25, decay_steps=5),
    "natural exponential": schedules.NaturalExponential(initial_learning_rate=0.02, decay_rate=0.25),
    "inverse time": schedules.InverseTime(initial_learning_rate=0.02, decay_rate=0.5),
    "polynomial": schedules.Polynomial(initial_learning_rate=0.02, decay_steps=10, power=2),
    "linear": schedules.Linear(initial_learning_rate=0.02, end_learning_rate=0.001, decay_steps=6),
    "cosine": schedules.Cosine(initial_learning_rate=0.02, end_learning_rate=0.001, decay_steps=6),
    "wave": schedules.Cosine(initial_learning_rate=0.02, end_learning_rate=0.001, decay_steps=3, periodic=True),
    "restarts": schedules.CosineRestarts(initial_learning_rate=0.02, first_period=2, period_factor=2),
    "noam": schedules.Noam(factor=0.1, d_model=16, warmup_steps=4, first_step=0),
    "warmup": schedules.Warmup(warmup_steps=4, after=schedules.Constant(learning_rate=0.02)),
    "warmup and stairs": schedules.Warmup(
        warmup_steps=3,
        start_learning_rate=0.005,
        after=schedules.Step(initial_learning_rate=0.02, step_size=2, gamma=0.5),
    ),
    "warmup and cosine": schedules.Warmup(
        warmup_steps=3, after=schedules.Cosine(initial_learning_rate=0.02, decay_steps=6)
    ),
    "sequence": schedules.Sequence(
        schedules=[
            schedules.Constant(learning_rate=0.02),
            schedules.Linear(initial_learning_rate=0.02, decay_steps=8),
        ],
        boundaries=[3],
    ),
}
# How many of them each target says.
SAID = {"torch": 10, "keras": 11, "tf1": 0, "mindspore": 9, "mindspore-experimental": 0, "paddle": 14}
PATTERNS = {
    "as it is": None,
    "biases spared": ("*bias",),
    "norms spared": ("re:norm|nothing", "*.b?as"),
}
# Patterns change nothing without weight decay.
CASES = [
    (source, patterns)
    for source, config in SOURCES.items()
    for patterns in PATTERNS
    if config.weight_decay > 0 or patterns == "as it is"
]


class TorchScript:
    """How a training script of PyTorch goes on after the snippet."""

    def model(self):
        import torch

        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.dense = torch.nn.Linear(3, 2)
                self.norm = torch.nn.LayerNorm(2)

        model = Model()
        self.parameters = dict(model.named_parameters())
        return model

    def step(self, optimizer, grads):
        import torch

        for name, parameter in self.parameters.items():
            parameter.grad = torch.from_numpy(grads[name].copy())
        optimizer.step()

    def weights(self):
        return {name: parameter.detach().numpy().copy() for name, parameter in self.parameters.items()}


class KerasScript:
    """How a training script of Keras goes on after the snippet."""

    def model(self):
        import keras

        layers = [keras.layers.Dense(2, name="dense"), keras.layers.LayerNormalization(name="norm")]
        model = keras.Sequential([keras.Input((3,)), *layers])
        self.parameters = {variable.path: variable for variable in model.trainable_variables}
        return model

    def step(self, optimizer, grads):
        optimizer.apply([grads[name] for name in self.parameters], list(self.parameters.values()))

    def weights(self):
        return {name: variable.value.numpy().copy() for name, variable in self.parameters.items()}


class TensorFlow1Script:
    """How a training script with TensorFlow 1's optimizers goes on after the snippet, in eager execution."""

    def model(self):
        import tensorflow as tf

        model = tf.Module()
        model.kernel = tf.Variable(np.random.default_rng(1).standard_normal((3, 2)).astype(np.float32))
        model.bias = tf.Variable([0.5, -0.5])
        self.parameters = {"kernel": model.kernel, "bias": model.bias}
        return model

    def step(self, optimizer, grads):
        import tensorflow as tf

        optimizer.apply_gradients([(tf.constant(grads[name]), value) for name, value in self.parameters.items()])

    def weights(self):
        return {name: value.numpy().copy() for name, value in self.parameters.items()}


class MindSporeScript:
    """How a training script of MindSpore goes on after the snippet.

    Tensors have fewer than 8 elements: there the plain kernel on CPU computes what is documented.
    """

    def model(self):
        from mindspore import nn

        class Model(nn.Cell):
            def __init__(self):
                super().__init__()
                self.dense = nn.Dense(3, 2)
                self.norm = nn.LayerNorm((2,))

        model = Model()
        self.parameters = {parameter.name: parameter for parameter in model.trainable_params()}
        return model

    def order(self, optimizer):
        return self.parameters

    def step(self, optimizer, grads):
        import mindspore

        optimizer(tuple(mindspore.Tensor(grads[name]) for name in self.order(optimizer)))

    def weights(self):
        return {name: parameter.asnumpy().copy() for name, parameter in self.parameters.items()}


class MindSporeExperimentalScript(MindSporeScript):
    """The same for `mindspore.experimental.optim`, whose groups change the order of the gradients."""

    def order(self, optimizer):
        return [parameter.name for parameter in optimizer.parameters]


class PaddleScript:
    """How a training script of Paddle goes on after the snippet."""

    def model(self):
        import paddle

        class Model(paddle.nn.Layer):
            def __init__(self):
                super().__init__()
                self.dense = paddle.nn.Linear(3, 2)
                self.norm = paddle.nn.LayerNorm(2)

        model = Model()
        self.parameters = dict(model.named_parameters())
        return model

    def step(self, optimizer, grads):
        import paddle

        for name, parameter in self.parameters.items():
            parameter.grad = paddle.to_tensor(grads[name])
        optimizer.step()
        optimizer.clear_grad()

    def weights(self):
        return {name: np.array(parameter.numpy()) for name, parameter in self.parameters.items()}


SCRIPTS = {
    "torch": TorchScript,
    "keras": KerasScript,
    "tf1": TensorFlow1Script,
    "mindspore": MindSporeScript,
    "mindspore-experimental": MindSporeExperimentalScript,
    "paddle": PaddleScript,
}


def gradients_for(weights):
    """Return the same gradients for every framework that has these tensors, 0.05 to 1 in size."""
    rng = np.random.default_rng(7)
    sizes = [{name: rng.uniform(0.05, 1.0, np.shape(weights[name])) for name in sorted(weights)} for _ in range(STEPS)]
    return [
        {name: (size * rng.choice([-1, 1], size.shape)).astype(np.float32) for name, size in one.items()}
        for one in sizes
    ]


def path(config, weights, gradients):
    """Return the weights after each step, by the reference in float64."""
    params = {name: value.astype(np.float64) for name, value in weights.items()}
    state = reference.init(config, params)
    found = []
    for grads in gradients:
        double = {name: grad.astype(np.float64) for name, grad in grads.items()}
        params, state = reference.step(config, params, double, state)
        found.append(params)
    return found


def wanted_of(native):
    """Return what the snippet has to compute: the target's meaning, seeded."""
    start = native.wanted.initial_mean_square if native.needs_seeding else native.meaning.initial_mean_square
    return native.meaning.replace(initial_mean_square=start)


def run(native, code, late=0):
    """Execute a snippet and a training; return the worst error of the weights along the path, in ULP.

    A scheduler that the user has to step is stepped after each update but the first `late` ones.
    """
    script = SCRIPTS[native.dialect]()
    model = script.model()
    space = {"model": model}
    exec(compile(code, "snippet", "exec"), space)
    start = script.weights()
    gradients = gradients_for(start)
    expected = path(wanted_of(native), start, gradients)
    ruler = Ruler(start, "float32")
    for number, (grads, right) in enumerate(zip(gradients, expected, strict=True)):
        script.step(space["optimizer"], grads)
        if "scheduler" in space and number >= late:
            space["scheduler"].step()
        ruler.observe(right, script.weights())
    if native.fidelity <= Fidelity.SEEDED:
        assert_same(path(native.wanted, start, gradients), expected)
    return ruler.worst.ulp


def assert_same(asked, computed):
    """Two ways to say the same differ in float64 by no more than the order of their operations: 1e-12 of a weight."""
    for left, right in zip(asked, computed, strict=True):
        for name, value in left.items():
            np.testing.assert_allclose(right[name], value, rtol=1e-12, atol=1e-12)


def native_of(source, patterns, dialect):
    """Return a source in the words of a dialect, its own patterns replaced where others are asked for."""
    config, chosen = SOURCES[source], PATTERNS[patterns]
    return (config if chosen is None else config.replace(no_weight_decay=chosen)).to_native(dialect)


@pytest.fixture
def targets(framework, driver):
    """The dialects of this process's framework, which the driver has loaded without its warnings."""
    return DIALECTS[framework]


@pytest.mark.parametrize(("source", "patterns"), CASES)
def test_a_snippet_trains_as_the_reference_does(targets, source, patterns):
    for dialect in targets:
        native = native_of(source, patterns, dialect)
        error = run(native, native.code())
        # LIMIT_ULP is for 50 steps of a float32 loop, with its reason beside it; these are 8.
        assert error <= LIMIT_ULP["float32"], (dialect, error, native.code())


@pytest.mark.parametrize("pattern", ["nothing", "*"])
def test_a_snippet_may_spare_no_parameter_or_all_of_them(targets, pattern):
    for dialect in targets:
        native = SOURCES["mindspore decay"].replace(no_weight_decay=(pattern,)).to_native(dialect)
        assert run(native, native.code()) <= LIMIT_ULP["float32"], (dialect, native.code())


def test_a_snippet_follows_the_schedule(targets):
    for dialect in targets:
        said = []
        for name, schedule in SCHEDULES.items():
            native = MOVING.replace(learning_rate=schedule).to_native(dialect)
            if not any(difference.axis == "learning_rate" for difference in native.differences):
                said.append(name)
                assert run(native, native.code()) <= LIMIT_ULP["float32"], (dialect, name, native.code())
        assert len(said) == SAID[dialect], (dialect, said)


# Paddle's LinearWarmup warns so of the state that it has given itself.
@pytest.mark.filterwarnings("ignore:There are some unused values in state_dict:UserWarning")
def test_a_snippet_fills_in_the_mean_square_beside_a_schedule(targets):
    for dialect in targets:
        if SAID[dialect]:
            moving = MOVING.replace(learning_rate=SCHEDULES["warmup and stairs"], initial_mean_square=0.3)
            for config in (moving, moving.replace(learning_rate=SCHEDULES["exponential"])):
                native = config.to_native(dialect)
                assert run(native, native.code()) <= LIMIT_ULP["float32"], (dialect, native.code())


@pytest.fixture
def having_groups(targets):
    """The dialects of this process's framework whose classes have parameter groups; Keras has none."""
    return [name for name in targets if dialects.get(name).group_keys]


def grouped(dialect, **changes):
    """Return a config in a class's own words whose groups override all that the groups of the class can say."""
    spoken = dialects.get(dialect)
    values = {"learning_rate": 0.02, "rho": 0.9, "epsilon": 1e-2, "momentum": 0.5, "weight_decay": 0.1}
    config = spoken.read({spoken.name_of(field): value for field, value in values.items()})
    fields = {field for name in spoken.group_keys.values() for field in spoken.fields_of(name)}
    groups = [
        ParameterGroup(match="*.bias", learning_rate_factor=2, rho=0.5),
        ParameterGroup(match=("dense.weight", "re:gamma"), learning_rate=0.05, rho=0.7, epsilon=0.1, centered=True),
        ParameterGroup(match="norm*", learning_rate_factor=0.5, momentum=0, weight_decay=0.3),
    ]
    said = [group.restricted_to(fields) for group in groups]
    return config.replace(groups=said, no_weight_decay=("*bias", "norm*"), **changes)


def lost(native):
    return [difference.axis for difference in native.differences if difference.axis in {"groups", "clip"}]


def test_a_snippet_with_groups_trains_as_the_reference_does(having_groups):
    for dialect in having_groups:
        config = grouped(dialect, initial_mean_square=0.3)
        native = config.to_native(dialect)
        assert not lost(native)
        assert run(native, native.code()) <= LIMIT_ULP["float32"], (dialect, native.code())
        alone = config.replace(groups=config.groups[1:2], no_weight_decay=()).to_native(dialect)
        assert run(alone, alone.code()) <= LIMIT_ULP["float32"], (dialect, alone.code())


def test_all_groups_follow_the_schedule(having_groups):
    for dialect in having_groups:
        rated = [{"match": "norm*", "learning_rate_factor": 3}, {"match": "*bias", "learning_rate_factor": 0}]
        for name in ("step", "exponential", "warmup and stairs", "wave", "linear"):
            config = grouped(dialect).replace(learning_rate=SCHEDULES[name], groups=rated)
            native = config.to_native(dialect)
            assert run(native, native.code()) <= LIMIT_ULP["float32"], (dialect, name, native.code())
            # The wave of PyTorch ends at a rate that is the same for all groups, and one class takes no rate of 0.
            unsaid = (dialect, name) == ("torch", "wave") or dialect == "mindspore-experimental"
            assert lost(native) == ["groups"] * unsaid, (dialect, name)


def test_a_group_has_clips_of_its_own_where_the_class_says_them(having_groups):
    each, joint = {"by": "norm", "max_norm": 0.4}, {"by": "global_norm", "max_norm": 0.4}
    apart = {**joint, "over": "group"}
    for dialect in having_groups:
        if dialects.get(dialect).name_of("clip") not in dialects.get(dialect).group_keys.values():
            continue
        for clip, own in ((apart, each), (apart, ()), (apart, joint), (each, joint), ((), joint), (joint, joint)):
            groups = [{"match": "norm*", "clip": own}, {"match": "*bias", "rho": 0.5}]
            groups = groups if clip != joint else [{"match": "norm*", "clip": own}, {"match": "*", "clip": own}]
            native = grouped(dialect).replace(groups=groups, clip=clip).to_native(dialect)
            assert not lost(native), (clip, own)
            assert run(native, native.code()) <= LIMIT_ULP["float32"], (clip, own, native.code())
        native = grouped(dialect, clip=joint).to_native(dialect)
        assert lost(native) == ["clip"]
        assert run(native, native.code()) <= LIMIT_ULP["float32"]


def test_telling_a_group_wrong_or_another_group_is_caught(having_groups):
    for dialect in having_groups:
        native = grouped(dialect).to_native(dialect)
        code = native.code()
        planted = [
            code.replace("own = settings(name)", "own = {}").replace("own = settings(parameter.name)", "own = {}"),
            code.replace('name.startswith("norm")', 'name.startswith("dense")'),
            code.replace('name == "dense.weight"', 'name == "dense.wait"'),
            code.replace('"weight_decay": 0.3', '"weight_decay": 0.2'),
            code.replace('and "weight_decay" not in settings(name)', ""),
            code.replace("if exempt(name) else {}", "if not exempt(name) else {}"),
        ]
        wrong = [text for text in planted if text != code]
        assert len(wrong) == 5
        for text in wrong:
            assert run(native, text) > FAR, (dialect, text)


def test_a_schedule_that_is_not_stepped_or_another_one_is_caught(targets):
    for dialect in targets:
        native = MOVING.replace(learning_rate=SCHEDULES["step"]).to_native(dialect)
        if native.code().count("step_size=3"):
            assert run(native, native.code(), late=1) > FAR
        planted = native.code().replace("_steps=3", "_steps=4").replace("step_size=3", "step_size=4")
        assert (planted != native.code()) is bool(SAID[dialect])
        assert planted == native.code() or run(native, planted) > FAR, dialect


def test_without_its_seeding_lines_a_snippet_is_caught(targets):
    for dialect in targets:
        other = 0.0 if dialects.get(dialect).fixed["initial_mean_square"] else 1.0
        for source in ("torch plain", "tf1 centered"):
            native = SOURCES[source].replace(initial_mean_square=other).to_native(dialect)
            planted = replace(native, differences=()).code()
            assert "The mean square starts" in native.code()
            assert "The mean square starts" not in planted
            assert run(native, planted) > FAR, (dialect, source)


def test_sparing_the_wrong_parameters_is_caught(targets):
    for dialect in targets:
        native = native_of("torch decay", "biases spared", dialect)
        planted = native.code().replace("    return name", "    return not name")
        assert (planted != native.code()) is dialects.get(dialect).exempts
        assert planted == native.code() or run(native, planted) > FAR, dialect


def test_leaving_a_filter_of_the_class_in_place_is_caught(targets):
    for dialect in targets:
        snippet = dialects.get(dialect).snippet
        native = native_of("torch decay", "as it is", dialect)
        planted = native.code().replace(snippet.no_exemption.parameters or snippet.parameters, snippet.parameters)
        assert (planted != native.code()) is bool(snippet.no_exemption.parameters)
        assert planted == native.code() or run(native, planted) > FAR, dialect


def test_seeding_fills_every_mean_square_and_nothing_else(framework, driver):
    import unirms

    native = RMSPropConfig(momentum=0.9, centered=True, initial_mean_square=0.3).to_native(framework)
    script = SCRIPTS[native.dialect]()
    space = {"model": script.model()}
    exec(compile(native.code(), "snippet", "exec"), space)
    grads = {name: np.zeros_like(value) for name, value in script.weights().items()}
    before = script.weights()
    script.step(space["optimizer"], grads)
    state = unirms.state_of(space["optimizer"])
    assert all(np.allclose(value, native.meaning.rho * 0.3) for value in state.mean_square.values())
    assert not any(value.any() for value in (*state.momentum.values(), *state.mean_gradient.values()))
    assert all(np.array_equal(value, before[name]) for name, value in script.weights().items())
