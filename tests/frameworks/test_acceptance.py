"""What the installed classes take and refuse is what their dialects say, for every argument and kind of value.

Every value is given to the real constructor, and one step is made where the constructor takes it.
"""

import importlib
import math
import warnings

import numpy as np
import pytest

from unirms import dialects
from unirms.diagnosis.kinds import is_flag, is_number
from unirms.dialects.behaviour import FLAG_TYPES, NUMBER_TYPES, VALUE_KINDS

NUMBERS = {
    "zero": 0.0,
    "negative": -0.5,
    "above one": 1.5,
    "NaN": math.nan,
    "infinite": math.inf,
    "int": 1,
    "bool": True,
    "text": "0.5",
    "None": None,
    "numpy.float32": np.float32(0.5),
    "numpy.float64": np.float64(0.5),
}
FLAGS = {"int": 1, "text": "no", "None": None, "numpy.bool": np.bool_(True)}
GRADIENT = (0.5, 0.0, -2.0)


class TorchLike:
    """Makes one step of a class over ones, and returns the weights."""

    def __init__(self, path):
        module, _, name = path.rpartition(".")
        self.make = getattr(importlib.import_module(module), name)

    def step(self, groups=None, **settings):
        import torch

        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = self.make([weight] if groups is None else [{"params": [weight], **groups}], **settings)
        weight.grad = torch.tensor(GRADIENT)
        optimizer.step()
        return weight.detach().numpy()


class KerasLike(TorchLike):
    def step(self, **settings):
        import keras

        weight = keras.Variable(np.ones(3, np.float32))
        optimizer = self.make(**settings)
        optimizer.apply([keras.ops.convert_to_tensor(np.array(GRADIENT, np.float32))], [weight])
        return np.asarray(keras.ops.convert_to_tensor(weight).numpy())


class TensorFlow1(TorchLike):
    def __init__(self, path):
        import tensorflow

        self.make = tensorflow.compat.v1.train.RMSPropOptimizer

    def step(self, **settings):
        import tensorflow as tf

        weight = tf.Variable(np.ones(3, np.float32))
        self.make(**settings).apply_gradients([(tf.constant(GRADIENT), weight)])
        return weight.numpy()


class MindSporeLike(TorchLike):
    def step(self, groups=None, name="weight", **settings):
        from mindspore import Parameter, Tensor

        weight = Parameter(Tensor(np.ones(3, np.float32)), name=name)
        optimizer = self.make([weight] if groups is None else [{"params": [weight], **groups}], **settings)
        optimizer((Tensor(np.array(GRADIENT, np.float32)),))
        return weight.asnumpy()


class PaddleLike(TorchLike):
    def step(self, groups=None, **settings):
        import paddle

        weight = paddle.create_parameter([3], "float32", default_initializer=paddle.nn.initializer.Constant(1.0))
        parameters = [weight] if groups is None else [{"params": [weight], **groups}]
        optimizer = self.make(parameters=parameters, **settings)
        (weight * paddle.to_tensor(GRADIENT)).sum().backward()
        optimizer.step()
        return weight.numpy()


RUNS = {
    "torch": {"torch": TorchLike},
    "keras": {"keras": KerasLike, "tf1": TensorFlow1},
    "mindspore": {"mindspore": MindSporeLike, "mindspore-experimental": MindSporeLike},
    "paddle": {"paddle": PaddleLike},
}


@pytest.fixture(scope="module")
def classes(framework, driver):  # the driver quietens the framework
    return {name: run(dialects.get(name).target) for name, run in RUNS[framework].items()}


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def refuses(run, **settings):
    try:
        run.step(**settings)
    except Exception:  # whatever a framework raises is a refusal
        return True
    return False


def required(dialect, given):
    return {} if dialect.name_of("learning_rate") in given else {dialect.name_of("learning_rate"): 0.1}


def test_every_kind_of_value_is_tried():
    assert {*NUMBERS} == {*VALUE_KINDS, *NUMBER_TYPES}
    assert {*FLAGS} == {*FLAG_TYPES}


def test_the_classes_refuse_what_their_dialects_say(classes):
    wrong = []
    for name, run in classes.items():
        dialect = dialects.get(name)
        for argument in dialect.arguments:
            if not is_number(argument) and not (is_flag(argument) and argument.fields):
                continue
            for kind, value in (FLAGS if is_flag(argument) else NUMBERS).items():
                settings = {argument.name: value}
                refused = refuses(run, **settings, **required(dialect, settings))
                takes_objects = argument.name in dialect.behaviour.objects and kind != "None"
                if refused != (takes_objects or dialect.behaviour.refuses(argument.name, kind)):
                    wrong.append(f"{name} {argument.name} {kind}: refused is {refused}")
    assert wrong == []


def test_names_that_are_announced_are_refused_today(classes):
    for name, run in classes.items():
        for argument in dialects.get(name).behaviour.announced:
            assert refuses(run, **{argument: 0.5}), (name, argument)


def test_sets_that_exclude_each_other_are_refused(classes):
    for name, run in classes.items():
        for names in dialects.get(name).behaviour.exclusive:
            assert refuses(run, **dict.fromkeys(names[:2], 1.0))


# What comes of a value that is taken without a word: with it, and with what the dialect says it is.
SAME = [
    ("keras", {"momentum": -0.5}, {}),
    ("keras", {"momentum": math.nan}, {}),
    ("keras", {"clipnorm": 0.0}, {}),
    ("keras", {"clipnorm": -1.0}, {}),
    ("keras", {"clipnorm": math.nan}, {}),
    ("keras", {"clipvalue": -1.0}, {}),
    ("keras", {"clipvalue": math.inf}, {}),
    ("keras", {"global_clipnorm": 0.0}, {}),
    ("keras", {"decay": 0.5}, {}),
    ("mindspore-experimental", {"momentum": math.nan}, {}),
    ("torch", {"centered": "no"}, {"centered": True}),
    ("torch", {"centered": None}, {"centered": False}),
    ("torch", {"momentum": True}, {"momentum": 1.0}),
    ("torch", {"groups": {"learning_rate": 0.5}}, {}),
    ("paddle", {"groups": {"lr": 5.0, "nesterov": True}}, {}),
    ("paddle", {"weight_decay": 0.5, "groups": {"weight_decay": None}}, {"weight_decay": 0.5}),
    ("paddle", {"groups": {"learning_rate": 0.5}}, {"learning_rate": 0.05}),
    ("mindspore", {"weight_decay": 0.5, "name": "bn.gamma"}, {"name": "bn.gamma"}),
    ("mindspore", {"weight_decay": 0.5, "name": "bn.beta"}, {"name": "bn.beta"}),
    ("mindspore", {"groups": {"weight_decay": 0.5}, "name": "bn.beta"}, {"weight_decay": 0.5}),
]


def test_what_the_class_makes_of_a_value(classes):
    for name, given, same in SAME:
        if name in classes:
            run, dialect = classes[name], dialects.get(name)
            expected = run.step(**required(dialect, same), **same)
            rate = {} if "learning_rate" in same else required(dialect, given)
            actual = run.step(**given, **(rate or required(dialect, given)))
            assert actual.tolist() == expected.tolist(), (name, given)


NAN = [
    ("keras", {"epsilon": -1.0}),
    ("keras", {"epsilon": math.nan}),
    ("keras", {"rho": 1.5}),
    ("keras", {"clipnorm": math.inf}),
    ("keras", {"loss_scale_factor": 0.0}),
    ("torch", {"eps": 0.0}),
    ("torch", {"alpha": 1.5}),
    ("paddle", {"epsilon": 0.0, "learning_rate": 0.1}),
    ("paddle", {"rho": 1.5, "learning_rate": 0.1}),
    ("mindspore-experimental", {"alpha": math.nan}),
]


def test_what_turns_weights_into_nan(classes):
    for name, given in NAN:
        if name in classes:
            assert np.isnan(classes[name].step(**given)).any(), (name, given)


def test_a_negative_rate_climbs_where_it_is_taken(classes):
    for name, run in classes.items():
        rate = dialects.get(name).name_of("learning_rate")
        if not dialects.get(name).behaviour.refuses(rate, "negative"):
            weights = run.step(**{rate: -0.1})
            assert weights[0] > 1 > weights[2]


def test_a_flag_of_another_type_stops_the_class_where_the_dialect_says_so(classes):
    for name, run in classes.items():
        misread = dialects.get(name).behaviour.misread
        for kind, value in FLAGS.items():
            if ("centered", kind) in misread:
                assert (run.step(centered=value) == 1).all()
            elif not dialects.get(name).behaviour.refuses("centered", kind):
                assert (run.step(centered=value, **required(dialects.get(name), {})) != 1).any()


GROUPS = {
    "torch": [{"lr": -1.0}, {"eps": -1.0}, {"alpha": -3.0}, {"momentum": -0.5}, {"weight_decay": -0.1}],
    "mindspore-experimental": [{"alpha": -1.0}, {"eps": -1.0}, {"momentum": -0.5}],
    "paddle": [{"learning_rate": -1.0}, {"rho": -1.0}, {"epsilon": -1.0}, {"momentum": -0.5}],
    "mindspore": [],
}
REFUSED_GROUPS = {
    "torch": [],
    "mindspore-experimental": [{"lr": -1.0}, {"weight_decay": -1.0}],
    "paddle": [{"weight_decay": 1}],
    "mindspore": [{"lr": -1.0}, {"weight_decay": -1.0}, {"decay": 0.5}, {"learning_rate": 0.5}],
}


def test_groups_are_read_as_the_dialect_says(classes):
    for name, run in classes.items():
        dialect = dialects.get(name)
        groups = dialect.behaviour.groups
        assert (groups is None) == (name not in GROUPS)
        if groups is None:
            continue
        assert {key for group in GROUPS[name] for key in group} == set(groups.unchecked)
        for group in GROUPS[name]:
            assert not refuses(run, groups=group, **required(dialect, {})), group
        for group in REFUSED_GROUPS[name]:
            assert refuses(run, groups=group, **required(dialect, {})), group
        assert refuses(run, groups={"nothing": 1}, **required(dialect, {})) != groups.ignores_unknown


def test_the_rate_of_a_group_is_a_rate_or_a_factor_as_the_dialect_says(classes):
    for name, run in classes.items():
        dialect = dialects.get(name)
        rate = dialect.name_of("learning_rate")
        for key, argument in dialect.group_keys.items():
            if argument == rate:
                moved = run.step(groups={key: 0.5}, **{rate: 0.25})
                means = 0.5 * 0.25 if key in dialect.behaviour.groups.factors else 0.5
                assert moved.tolist() == run.step(**{rate: means}).tolist(), name
        assert {*(dialect.behaviour.groups.factors if dialect.behaviour.groups else ())} <= dialect.group_keys.keys()


def test_integers_in_groups_are_taken_or_refused_as_the_dialect_says(classes):
    wrong = []
    for name, run in classes.items():
        dialect = dialects.get(name)
        groups = dialect.behaviour.groups
        keys = {} if groups is None else groups.names or {a.name: a.name for a in dialect.arguments if is_number(a)}
        for key, native in keys.items():
            argument = dialect.argument(native)
            if argument is None or not is_number(argument) or native in dialect.behaviour.objects:
                continue
            refused = refuses(run, groups={key: 1}, **required(dialect, {}))
            if refused != ("int" in groups.refused.get(key, ())):
                wrong.append(f"{name} {key}: refused is {refused}")
    assert wrong == []


def test_limits_of_clips_that_are_not_positive(classes):
    """The gradient's length is 2.06; Paddle's clip by global norm turns it or makes it 0, the others refuse."""
    if "paddle" not in classes:
        return
    from paddle import nn

    run = classes["paddle"]
    behaviour = dialects.get("paddle").behaviour
    usual = run.step(learning_rate=0.1, grad_clip=nn.ClipGradByGlobalNorm(1.0)) - 1
    for kind, limit, factor in (("negative", -1.0, -1.0), ("zero", 0.0, 0.0)):
        moved = run.step(learning_rate=0.1, grad_clip=nn.ClipGradByGlobalNorm(limit)) - 1
        # The same squares, so the same steps but for rounding.
        np.testing.assert_allclose(moved, factor * usual, rtol=1e-5, atol=1e-7)
        assert ("ClipGradByGlobalNorm", kind) in behaviour.misread
        assert behaviour.refuses("ClipGradByNorm", kind) == refuses(
            run, learning_rate=0.1, grad_clip=nn.ClipGradByNorm(limit)
        )
        assert behaviour.refuses("ClipGradByValue", kind)
        with pytest.raises(AssertionError):
            nn.ClipGradByValue(limit)


def test_what_looks_like_the_class_is_none(classes):
    for name in classes:
        for path in dialects.get(name).behaviour.others:
            module, _, attribute = path.rpartition(".")
            assert not isinstance(getattr(importlib.import_module(module), attribute), type)
