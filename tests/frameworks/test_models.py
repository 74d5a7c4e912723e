"""`unirms explain --model`: what each parameter of a real model gets, in every framework."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import unirms
from unirms import build, config_of
from unirms.cli import app
from unirms.files import load
from unirms.moving.matching import shapes_of

MODELS = {
    "torch": "import torch\ndef make():\n    nn = torch.nn\n"
    "    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))\n",
    "keras": "import keras\ndef make():\n    layers = keras.layers\n    return keras.Sequential(\n"
    "        [keras.Input((3,)), layers.Dense(4), layers.BatchNormalization(), layers.Dense(1, name='head')])\n",
    "mindspore": "from mindspore import nn\ndef make():\n"
    "    return nn.SequentialCell(nn.Dense(3, 4), nn.BatchNorm1d(4), nn.Dense(4, 1))\n",
    "paddle": "import paddle\ndef make():\n    nn = paddle.nn\n"
    "    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1D(4), nn.Linear(4, 1))\n",
}
HEAD = {"torch": "2.*", "keras": "*/head/*", "mindspore": "2.*", "paddle": "2.*"}
RECIPE = """\
unirms: 1
learning_rate: 0.5
weight_decay: 0.25
no_weight_decay: ["re:(bias|gamma|beta)$"]
groups: {match: "HEAD", learning_rate_factor: 0.5, rho: 0.75}
"""


@pytest.fixture
def place(framework, driver, tmp_path, monkeypatch):  # the driver quietens the framework
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "some_models.py").write_text(MODELS[framework])
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("HEAD", HEAD[framework]))
    yield tmp_path
    sys.modules.pop("some_models", None)


def explain(*more):
    wide = {"COLUMNS": "200"}  # names are folded to fit
    return CliRunner(env=wide).invoke(app, ["explain", "recipe.yaml", "--model", *more])


def test_every_parameter_is_listed_with_what_it_gets(place, framework):
    rows = json.loads(explain("some_models:make", "--json").stdout)
    assert len(rows) == 6
    head = [row for row in rows if row["group"] == 0]
    assert sorted(tuple(row["shape"]) for row in head) in ([(1,), (1, 4)], [(1,), (4, 1)])
    assert {row["learning_rate"] for row in head} == {0.25}
    assert all(row["own"] == {"rho": 0.75} for row in head)
    rest = [row for row in rows if row["group"] is None]
    assert {row["learning_rate"] for row in rest} == {0.5}
    assert all(row["own"] == {} for row in rest)
    decayed = {len(row["shape"]): row["weight_decay"] for row in rows}
    assert decayed[2] == 0.25
    table = explain("some_models:make", "--framework", framework)
    assert table.exit_code == 0
    # Without what stands before: a second model of Keras has other numbers in its names.
    assert all(row["parameter"].rpartition("/")[2] in table.stdout for row in rows)


def test_the_optimizer_of_the_model_reads_back_as_its_recipe(place, framework):
    config = load("recipe.yaml")
    import some_models

    optimizer = build(config, framework, some_models.make())
    assert config_of(optimizer).equivalent(config)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("some_models", "is not MODULE:NAME"),
        ("some_models:makes", "some_models has no makes"),
        ("no_such_module:make", "no_such_module cannot be imported: ModuleNotFoundError"),
        ("os:getcwd", "is a builtins.str, not a parameter of this framework"),
        ("os:link", "os:link() fails: TypeError"),
    ],
)
def test_a_name_that_is_no_model_is_refused_in_one_line(place, framework, target, reason):
    result = explain(target, "--framework", framework)
    assert reason in str(result.exception)
    assert "\n" not in str(result.exception)


def test_a_group_without_parameters_is_refused(place, framework):
    (place / "recipe.yaml").write_text(RECIPE.replace("HEAD", "nowhere.*"))
    result = explain("some_models:make")
    assert "groups.0 matches no parameter" in str(result.exception)


def test_what_is_trained_stands_before_what_is_not_in_every_framework(place):
    """So that `unirms.match(…, ordered=True)` finds the batch normalization of each in that of another."""
    import some_models

    shapes = list(shapes_of(some_models.make()).items())
    assert [len(shape) for _, shape in shapes] == [2, 1, 1, 1, 2, 1, 1, 1]
    assert ["mean" in shapes[-2][0], "var" in shapes[-1][0]] == [True, True]


def test_a_parameter_that_one_side_alone_trains_breaks_the_order(place):
    import some_models

    model = some_models.make()
    ones = {name: np.ones(shape, np.float32) for name, shape in shapes_of(model).items()}
    trained = list(ones)[:6]
    state = unirms.OptimizerState(1, {name: ones[name] for name in trained}, weights=ones)
    told = unirms.match(state, model, ordered=True).targets
    assert {name: one.name for name, one in told.items()} == {name: name for name in ones}
    # The first bias now stands behind gamma and beta, of the same shape, in the state, and before them in the model.
    with pytest.raises(unirms.StateError, match="trained on one side only"):
        unirms.match(state.without(parameters=trained[1:2]), model, ordered=True)


OPTIMIZERS = {
    "torch": "import torch\ndef optimize(model):\n    return torch.optim.RMSprop(model.parameters(), momentum=0.9)\n",
    "keras": "import keras\ndef optimize(model):\n    optimizer = keras.optimizers.RMSprop(momentum=0.9)\n"
    "    optimizer.build(model.trainable_variables)\n    return optimizer\n",
    "mindspore": "from mindspore import nn\ndef optimize(model):\n"
    "    return nn.RMSProp(model.trainable_params(), momentum=0.9)\n",
    "paddle": "import paddle\ndef optimize(model):\n"
    "    return paddle.optimizer.RMSProp(0.01, momentum=0.9, parameters=model.parameters())\n",
}


def test_with_a_model_the_state_of_the_usual_optimizer_has_the_names_of_its_weights(place, framework):
    """PyTorch's own optimizer has numbers for names, and Paddle's has other names, and running means among them."""
    (place / "some_models.py").write_text(MODELS[framework] + OPTIMIZERS[framework])
    import some_models

    models = [some_models.make() for _ in range(2)]
    state, other = (unirms.state_of(some_models.optimize(model), model=model) for model in models)
    trained = [name for name in state.weights if "mean" not in name and "var" not in name]
    assert set(state.mean_square) == set(trained)
    assert len(trained) == 6
    assert state.momentum.keys() == state.mean_square.keys()
    changed = {
        kind: {name: one + 0.5 for name, one in getattr(state, kind).items()} for kind in ("mean_square", "momentum")
    }
    moved = replace(state, **changed)
    optimizer = some_models.optimize(models[1])
    there = list(other.weights)  # Keras's second model has another name
    unirms.restore(optimizer, moved, model=models[1], names=dict(zip(state.weights, there, strict=True)))
    arrived = unirms.state_of(optimizer, model=models[1])
    for here, name in zip(state.weights, there, strict=True):
        assert np.array_equal(arrived.weights[name], state.weights[here])
        if here in trained:
            assert np.array_equal(arrived.mean_square[name], moved.mean_square[here])
            assert np.array_equal(arrived.momentum[name], moved.momentum[here])
