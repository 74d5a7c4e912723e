"""Recipes beside the frameworks themselves: what unirms writes builds the optimizer, and what they write is read."""

import importlib
import json

import numpy as np
import pytest
import yaml

import unirms
from unirms import RMSPropConfig, recipes, schedules

CONFIGS = {
    "torch": RMSPropConfig.from_native("torch", lr=1e-3, alpha=0.9, eps=1e-8, momentum=0.9, centered=True),
    # A rate that float32 has, because a live Keras optimizer knows no other.
    "keras": RMSPropConfig.from_native("keras", learning_rate=2**-8, epsilon=1e-8, momentum=0.1, clipnorm=0.5),
    "mindspore": RMSPropConfig.from_native("mindspore", learning_rate=1e-3, epsilon=1e-8, momentum=0.9),
    "paddle": RMSPropConfig.from_native(
        "paddle", learning_rate=1e-3, epsilon=1e-8, grad_clip=unirms.NativeCall("ClipGradByNorm", 2.0)
    ),
}


def instantiate(data, **more):
    """Build what Hydra would build of a mapping with `_target_`."""
    module, _, name = data["_target_"].rpartition(".")
    rest = {key: value for key, value in data.items() if key not in {"_target_", "_args_"}}
    kwargs = {key: instantiate(value) if isinstance(value, dict) else value for key, value in rest.items()}
    return getattr(importlib.import_module(module), name)(*data.get("_args_", ()), **kwargs, **more)


@pytest.fixture
def parameters(framework, driver):
    """The argument with which the class of a framework takes its parameters."""
    weight = np.ones(3, np.float32)
    if framework == "torch":
        torch = importlib.import_module("torch")
        return {"params": [torch.nn.Parameter(torch.from_numpy(weight))]}
    if framework == "mindspore":
        mindspore = importlib.import_module("mindspore")
        return {"params": [mindspore.Parameter(weight, name="w")]}
    if framework == "paddle":
        paddle = importlib.import_module("paddle")
        return {"parameters": [paddle.base.framework.EagerParamBase.from_tensor(paddle.to_tensor(weight))]}
    return {}


def test_hydra_builds_what_was_written(framework, parameters):
    config = CONFIGS[framework]
    text = recipes.write(config, "hydra", framework)
    optimizer = instantiate(yaml.safe_load(text), **parameters)  # PyYAML, as a YAML 1.1 reader
    assert unirms.config_of(optimizer) == config


@pytest.mark.frameworks("keras", "mindspore", "paddle")  # PyTorch's schedulers are no argument of its optimizer
def test_hydra_builds_schedules_that_were_written(framework, parameters):
    line = schedules.Polynomial(initial_learning_rate=0.25, decay_steps=100, power=2)
    config = CONFIGS[framework].replace(learning_rate=line)
    text = recipes.write(config, "hydra", framework)
    assert "PolynomialDecay" in text
    assert unirms.config_of(instantiate(yaml.safe_load(text), **parameters)) == config


def keras_serializes():
    keras = importlib.import_module("keras")
    for rate in (0.001, 0.003, 0.1, 1e-5, 0.25, 3.3333e-4):
        optimizer = keras.optimizers.RMSprop(rate, rho=0.85, momentum=0.7, epsilon=1e-6, weight_decay=0.0123)
        data = keras.optimizers.serialize(optimizer)
        rounded = data["config"]["learning_rate"]
        assert rounded == float(np.float32(rate))
        assert [data["config"][name] for name in ("rho", "momentum", "epsilon", "weight_decay")] == [
            0.85,
            0.7,
            1e-6,
            0.0123,
        ]
        wanted = RMSPropConfig.from_native(
            "keras", learning_rate=rate, rho=0.85, momentum=0.7, epsilon=1e-6, weight_decay=0.0123
        )
        for found in (recipes.read_object(data), recipes.read_text(json.dumps(data))):
            assert [recipe.config() for recipe in found] == [wanted]


def keras_saves_models():
    keras = importlib.import_module("keras")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.RMSprop(0.003, clipvalue=0.5), loss="mse")
    (recipe,) = recipes.read_object(keras.saving.serialize_keras_object(model))
    assert recipe.place == "compile_config.optimizer"
    assert recipe.config() == RMSPropConfig.from_native("keras", learning_rate=0.003, clipvalue=0.5)
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    (recipe,) = recipes.read_object(keras.optimizers.serialize(keras.optimizers.RMSprop(schedule)))
    assert recipe.config().learning_rate == schedules.Exponential(
        initial_learning_rate=0.1, decay_rate=0.9, decay_steps=10
    )


def keras_reads_what_is_written():
    keras = importlib.import_module("keras")
    text = recipes.write(CONFIGS["keras"], "keras", "keras")
    optimizer = keras.optimizers.deserialize(json.loads(text))
    assert type(optimizer) is keras.optimizers.RMSprop
    assert unirms.config_of(optimizer) == CONFIGS["keras"]
    moving = CONFIGS["keras"].replace(learning_rate=schedules.Cosine(initial_learning_rate=0.25, decay_steps=9))
    optimizer = keras.optimizers.deserialize(json.loads(recipes.write(moving, "keras", "keras")))
    assert unirms.config_of(optimizer) == moving
    for schedule in (moving.learning_rate, schedules.Noam(d_model=64, warmup_steps=9)):  # Keras's own, and unirms's
        wanted = moving.replace(learning_rate=schedule)
        built = unirms.build(wanted, "keras", [keras.Variable([1.0])], policy="stock")
        (recipe,) = recipes.read_object(keras.optimizers.serialize(built))
        assert recipe.config() == wanted


def keras_serializes_the_exact_optimizer():
    keras = importlib.import_module("keras")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    optimizer = unirms.build(CONFIGS["torch"], "keras", model)
    (recipe,) = recipes.read_object(keras.optimizers.serialize(optimizer))
    assert recipe.config() == unirms.config_of(optimizer) == CONFIGS["torch"]


def torch_has_param_groups():
    torch = importlib.import_module("torch")
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.RMSprop(model.named_parameters(), lr=0.1, alpha=0.9, momentum=0.5)
    wanted = RMSPropConfig.from_native("torch", lr=0.1, alpha=0.9, momentum=0.5)
    assert set(optimizer.param_groups[0]) - {"params", "param_names"} <= set(
        recipes.read_object(optimizer.param_groups)[0].settings
    )
    for data in (optimizer.param_groups, optimizer.state_dict(), {"optimizer": optimizer.state_dict()}):
        (recipe,) = recipes.read_object(data)
        assert recipe.config() == wanted
    (recipe,) = recipes.read_text(json.dumps(optimizer.state_dict()))
    assert recipe.config() == wanted


def torch_groups_and_schedulers():
    torch = importlib.import_module("torch")
    model = torch.nn.Linear(3, 2)
    groups = [
        {"params": [("weight", model.weight)], "weight_decay": 0.1},
        {"params": [("bias", model.bias)], "lr": torch.tensor(0.5)},
    ]
    optimizer = torch.optim.RMSprop(groups, lr=0.1, foreach=False)
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    (recipe,) = recipes.read_object(optimizer.param_groups)
    config = recipe.config()
    for name, rate, decay in (("weight", 0.1, 0.1), ("bias", 0.5, 0.0)):
        assert config.for_parameter(name).learning_rate == rate
        assert config.for_parameter(name).weight_decay == decay
    optimizer.param_groups[0]["lr"] = 0.01
    (recipe,) = recipes.read_object(optimizer.param_groups)
    assert any("from 0.1 to 0.01" in remark for remark in recipe.remarks)


# Only these two write recipes of their own.
CHECKS = {
    "keras": [
        keras_serializes,
        keras_saves_models,
        keras_reads_what_is_written,
        keras_serializes_the_exact_optimizer,
    ],
    "torch": [torch_has_param_groups, torch_groups_and_schedulers],
}


def test_what_the_framework_writes_is_read(framework):
    for check in CHECKS.get(framework, ()):
        check()
