"""Keras's and TensorFlow's files: what is read from them is what was there, and what is written they go on from."""

import json
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import unirms
from unirms import RMSPropConfig
from unirms.adapters.checkpoints.keras import naming as keras_names
from unirms.adapters.checkpoints.keras import saved as keras_format
from unirms.adapters.checkpoints.tensorflow import checkpoint as tf_format
from unirms.adapters.checkpoints.tensorflow import object_graph, table, tf1
from unirms.adapters.keras import ADAPTER, UniRMSProp
from unirms.checkpoints.checkpoint import Outgoing
from unirms.checkpoints.tensors import Moving, Stored
from unirms.conformance.measures import same_bits
from unirms.errors import CheckpointError, StateError
from unirms.moving.moves import Move

pytestmark = [
    # Of Keras itself, whose variables have an `__array__` of NumPy 1, at each `variable.numpy()`.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

X, Y = np.random.default_rng(0).random((16, 6, 6, 1)), np.random.default_rng(1).random((16, 2))
DECAY = {"kind": "cosine", "initial_learning_rate": 0.01, "decay_steps": 100}
PLATEAU = {"kind": "plateau", "initial_learning_rate": 0.1, "factor": 0.5, "patience": 0}
STOCK = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "both": {"momentum": 0.9, "centered": True},
    "average": {"use_ema": True},
    "accumulation": {"gradient_accumulation_steps": 3, "momentum": 0.5},
    "schedule": {"learning_rate": keras.optimizers.schedules.ExponentialDecay(0.01, 10, 0.5), "momentum": 0.5},
}
EXACT = {
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "groups": {"momentum": 0.5, "nesterov": True, "groups": [{"match": "*bias", "momentum": 0.0, "centered": True}]},
    "rates of groups": {"learning_rate": 0.02, "groups": [{"match": "*bias", "learning_rate": 0.005}]},
    "accumulation": {"gradient_accumulation_steps": 3, "ema_decay": 0.75, "learning_rate": DECAY},
    "schedule": {"learning_rate": DECAY, "centered": True, "lr_in_momentum": False, "momentum": 0.5},
    "plateau": {"learning_rate": PLATEAU, "momentum": 0.5},
}


def network(name="net"):
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(2, 3, name="conv"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(0.5, seed=1, name="drop"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, name="hidden"),
            keras.layers.Dense(2, name="out"),
        ],
        name=name,
    )


def compiled(model, optimizer):
    model.compile(optimizer=optimizer, loss="mse")
    return model


def fit(model, epochs=1, size=4):
    return model.fit(X, Y, batch_size=size, verbose=0, shuffle=False, epochs=epochs).history["loss"]


def exactly(config, model):
    return ADAPTER.exact(config, ADAPTER.named_parameters(model), {})


def trained(kind, name):
    model = network()
    if kind == "stock":
        model = compiled(model, keras.optimizers.RMSprop(**STOCK[name]))
    else:
        model = compiled(model, exactly(RMSPropConfig(**EXACT[name]), model))
    fit(model)
    return model


ALL = [*(("stock", name) for name in STOCK), *(("exact", name) for name in EXACT)]


def saved(model, folder, form):
    """Return a file of the model, and the module that reads it."""
    if form == "tf":
        return Path(tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(str(folder / "ckpt"))), tf_format
    path = folder / ("a.keras" if form == "keras" else "a.weights.h5")
    model.save(path) if form == "keras" else model.save_weights(path)
    return path, keras_format


def spool(folder):
    made = folder / "spool"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    return made


def outgoing(held, config, **changes):
    """Return what was read as what is to be written, unchanged."""
    tensors = {
        kind: {n: Moving(source=one, move=Move(kind, n, n, one.dtype)) for n, one in found.items()}
        for kind, found in held.tensors.items()
    }
    fields = {name: getattr(held, name) for name in ("parameters", "step", "micro_step", "learning_rate", "plateau")}
    return Outgoing(**{**fields, "config": config, "tensors": tensors} | changes)


def assert_same(held, state, *, prefix=""):
    """Assert that a file has the arrays of a live state; its names are without the model's where they are concluded."""
    for kind, arrays in state.tensors().items():
        found = {f"{prefix}{name}": one.array() for name, one in held.tensors.get(kind, {}).items()}
        assert same_bits(found, arrays), kind
    assert held.step == state.step
    assert held.micro_step == state.micro_step


# ---- what is read ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_every_form_holds_the_state_of_the_live_optimizer(tmp_path, kind, name):
    model = trained(kind, name)
    state = unirms.state_of(model.optimizer, model=model)
    for form in ("keras", "weights", "tf"):
        path, module = saved(model, tmp_path, form)
        held = module.read(path, spool(tmp_path), state.config)
        prefix = "net/" if form != "tf" and kind == "stock" else ""
        assert_same(held, state, prefix=prefix)
        assert [f"{prefix}{one}" for one in held.parameters] == list(state.mean_square)
        assert not list((tmp_path / "spool").iterdir())
        if held.config is not None and kind == "exact":
            assert held.config == state.config
        assert form == "tf" or (held.config is not None) == (form == "keras" or kind == "exact")
        if name != "plateau" or form != "tf":
            assert held.learning_rate is None or held.learning_rate == pytest.approx(state.learning_rate, rel=1e-6)
        if form == "weights" and kind == "exact":
            assert held.plateau == state.plateau


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_every_dtype_is_read_and_written(tmp_path, dtype):
    def made():
        layers = [keras.Input((3,)), keras.layers.Dense(2, dtype=dtype, name="a")]
        model = keras.Sequential(layers, name="net")
        return compiled(model, unirms.build(RMSPropConfig(momentum=0.5, nesterov=True), "keras", model))

    model, other = made(), made()
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    state = unirms.state_of(model.optimizer, model=model)
    for form in ("keras", "weights", "tf"):
        path, module = saved(model, tmp_path, form)
        held = module.read(path, spool(tmp_path), state.config)
        assert held.tensors["mean_square"]["net/a/kernel"].dtype == dtype
        assert_same(held, state)
        (tmp_path / "like").mkdir(exist_ok=True)
        (tmp_path / "new").mkdir(exist_ok=True)
        like, _ = saved(other, tmp_path / "like", form)
        module.write(tmp_path / "new" / path.name, outgoing(held, state.config), like)
        assert_same(module.read(tmp_path / "new" / path.name, spool(tmp_path), state.config), state)


def test_a_weights_file_without_a_config_says_what_it_leaves_open(tmp_path):
    path, _ = saved(trained("stock", "momentum"), tmp_path, "weights")
    held = keras_format.read(path, spool(tmp_path))
    assert set(held.tensors) == {"mean_square", "momentum", "weights"}
    assert held.config is None
    assert any("was taken for momentum" in note or "were taken for momentum" in note for note in held.notes)
    assert any("concluded from the order and the shapes" in note for note in held.notes)


def test_a_model_whose_layers_leave_more_than_one_order_has_numbers(tmp_path):
    def block(kind, name):
        return keras.layers.LayerNormalization(name=name) if kind else keras.layers.BatchNormalization(name=name)

    model = keras.Sequential([keras.Input((4,)), block(0, "a"), block(1, "b")])
    compiled(model, keras.optimizers.RMSprop(momentum=0.5)).fit(np.ones((4, 4)), np.ones((4, 4)), verbose=0)
    for form in ("keras", "weights"):
        path, _ = saved(model, tmp_path, form)
        held = keras_format.read(path, spool(tmp_path), RMSPropConfig(momentum=0.5))
        assert held.parameters == ("0", "1", "2", "3")
        assert any("have numbers" in note for note in held.notes)
    with pytest.raises(CheckpointError, match="does not say what its 10 variables are; say it with a config"):
        keras_format.read(path, spool(tmp_path))


class Own(keras.Model):
    """Its file has the layers in the order of the alphabet, its optimizer in that of `__init__`."""

    def __init__(self):
        super().__init__(name="own")
        self.second, self.first = keras.layers.Dense(3, name="one"), keras.layers.Dense(3, name="two")

    def call(self, x):
        return self.second(self.first(x))


def test_a_subclassed_model_has_numbers_unless_unirms_wrote_the_names(tmp_path):
    for exact in (False, True):
        model = Own()
        model(np.ones((1, 3)))
        config = RMSPropConfig(momentum=0.5, nesterov=True)
        compiled(model, unirms.build(config, "keras", model) if exact else keras.optimizers.RMSprop(momentum=0.5))
        model.fit(np.ones((4, 3)), np.ones((4, 3)), verbose=0)
        path, _ = saved(model, tmp_path, "weights")
        held = keras_format.read(path, spool(tmp_path), RMSPropConfig(momentum=0.5))
        names = ["own/one/kernel", "own/one/bias", "own/two/kernel", "own/two/bias"]
        numbered = ["0", "1", "2", "3"]
        assert list(held.parameters) == (names if exact else numbered)
        weights = {one.name: ADAPTER.array_of(one.value) for one in ADAPTER.weights_of(model)}
        if not exact:  # one layer stands under the name of its attribute, which says nothing of its class
            ends = {"own/two/kernel": "two/0", "own/two/bias": "two/1"}
            weights = {ends.get(n, n.removeprefix("own/")): array for n, array in weights.items()}
        assert same_bits({n: one.array() for n, one in held.tensors["weights"].items()}, weights)
        wrong = RMSPropConfig(momentum=0.5, centered=True)
        if not exact:
            with pytest.raises(CheckpointError, match=r"has 8 slots|its mean square has"):
                keras_format.read(path, spool(tmp_path), wrong)


def test_layers_that_are_not_trained_are_left_out_where_the_file_says_so(tmp_path):
    model = network()
    model.layers[0].trainable = False
    compiled(model, keras.optimizers.RMSprop()).fit(X, Y, verbose=0)
    path, _ = saved(model, tmp_path, "keras")
    held = keras_format.read(path, spool(tmp_path))
    assert held.parameters == ("norm/gamma", "norm/beta", "hidden/kernel", "hidden/bias", "out/kernel", "out/bias")
    assert "conv/kernel" in held.tensors["weights"]


def test_models_in_models_and_cells_have_names(tmp_path):
    inside = keras.Sequential([keras.layers.Dense(3, name="a"), keras.layers.PReLU(name="b")], name="inside")
    inputs = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(7, 4, name="words")(inputs)
    x = keras.layers.LSTM(3, name="memory")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="out")(inside(x)))
    compiled(model, keras.optimizers.RMSprop(momentum=0.5)).fit(np.ones((4, 5), "int32"), np.ones((4, 2)), verbose=0)
    path, _ = saved(model, tmp_path, "weights")
    held = keras_format.read(path, spool(tmp_path))
    assert list(held.parameters) == [
        "words/embeddings",
        *(f"memory/lstm_cell/{name}" for name in ("kernel", "recurrent_kernel", "bias")),
        *("inside/a/kernel", "inside/a/bias", "inside/b/alpha", "out/kernel", "out/bias"),
    ]
    live = [one.name for one in ADAPTER.named_parameters(model)]
    assert live == list(held.parameters)


LAYERS = {
    **{name: ((8, 4), {"filters": 2, "kernel_size": 2}) for name in ("Conv1D", "Conv1DTranspose")},
    **{name: ((8, 8, 4), {"filters": 2, "kernel_size": 2}) for name in ("Conv2D", "Conv2DTranspose")},
    **{name: ((8, 8, 8, 4), {"filters": 2, "kernel_size": 2}) for name in ("Conv3D", "Conv3DTranspose")},
    "SeparableConv1D": ((8, 4), {"filters": 2, "kernel_size": 2}),
    "SeparableConv2D": ((8, 8, 4), {"filters": 2, "kernel_size": 2}),
    "DepthwiseConv1D": ((8, 4), {"kernel_size": 2}),
    "DepthwiseConv2D": ((8, 8, 4), {"kernel_size": 2}),
    "Dense": ((4,), {"units": 2}),
    "EinsumDense": ((4,), {"equation": "ab,bc->ac", "output_shape": 2, "bias_axes": "c"}),
    "LSTM": ((3, 4), {"units": 2}),
    "GRU": ((3, 4), {"units": 2}),
    "SimpleRNN": ((3, 4), {"units": 2}),
    "Embedding": ((4,), {"input_dim": 3, "output_dim": 2}),
    "PReLU": ((4,), {}),
    "BatchNormalization": ((4,), {}),
    "LayerNormalization": ((4,), {}),
    "GroupNormalization": ((4,), {"groups": 2}),
    "Normalization": ((4,), {}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_variables_of_keras_s_layers_are_called_as_keras_calls_them(tmp_path, name):
    shape, settings = LAYERS[name]
    model = keras.Sequential([keras.Input(shape), getattr(keras.layers, name)(**settings)], name="net")
    model.save_weights(tmp_path / "a.weights.h5")
    held = keras_format.read(tmp_path / "a.weights.h5", spool(tmp_path))
    expected = [one.name.removeprefix("net/") for one in ADAPTER.weights_of(model)]
    assert sorted(held.tensors["weights"]) == sorted(expected)


def test_every_layer_in_the_table_has_a_test():
    from keras.src.utils.naming import to_snake_case

    assert set(keras_names._VARIABLES) | set(keras_names._ALL_OR_NONE) == {to_snake_case(name) for name in LAYERS}


@pytest.mark.parametrize("form", ["keras", "weights", "tf"])
def test_a_model_without_an_rmsprop_has_its_weights_alone(tmp_path, form):
    for optimizer in ("adam", None, keras.optimizers.RMSprop()):
        model = network()
        if optimizer is not None:
            compiled(model, optimizer)
        if optimizer == "adam":
            fit(model)
        if form == "tf":
            path, module = Path(tf.train.Checkpoint(model=model).save(str(tmp_path / "ckpt"))), tf_format
        else:
            path, module = saved(model, tmp_path, form)
        if form == "weights" and optimizer == "adam":  # of which nobody says that it is none
            continue
        held = module.read(path, spool(tmp_path))
        assert held.parameters == ()
        assert list(held.tensors) == ["weights"]
        assert held.notes


def test_an_optimizer_that_no_config_says_keeps_its_slots(tmp_path):
    model = network()
    compiled(model, keras.optimizers.RMSprop(momentum=0.5, use_ema=True, ema_overwrite_frequency=2))
    fit(model)
    path, _ = saved(model, tmp_path, "keras")
    held = keras_format.read(path, spool(tmp_path))
    assert held.config is None
    assert {kind: len(found) for kind, found in held.tensors.items() if kind != "weights"} == {
        "average": 8,
        "mean_square": 8,
        "momentum": 8,
    }
    assert any("no config says what its optimizer computes" in note for note in held.notes)


def test_the_inner_optimizer_of_one_that_scales_losses_is_read_and_written(tmp_path):
    model = network()
    inner = unirms.build(RMSPropConfig(momentum=0.5, nesterov=True), "keras", model)
    compiled(model, keras.optimizers.LossScaleOptimizer(inner))
    fit(model)
    state = unirms.state_of(inner, model=model)
    for form in ("keras", "weights", "tf"):
        path, module = saved(model, tmp_path, form)
        held = module.read(path, spool(tmp_path), state.config)
        assert_same(held, state)
        (tmp_path / "new").mkdir(exist_ok=True)
        module.write(tmp_path / "new" / path.name, outgoing(held, state.config), path)
        assert_same(module.read(tmp_path / "new" / path.name, spool(tmp_path), state.config), state)
    loaded = keras.models.load_model(tmp_path / "new" / "a.keras")
    assert unirms.state_of(loaded.optimizer.inner_optimizer).step == state.step


# ---- what is written ---------------------------------------------------------------------------------------------


def adopted(config, form, path, stock):
    """Return a model that has loaded a file as users of Keras do."""
    if form == "keras":
        return keras.models.load_model(path)
    model = network()
    made = UniRMSProp(config) if not stock else unirms.build(config, "keras", model, policy="stock")
    compiled(model, made)
    model.optimizer.build(model.trainable_variables)
    if form == "weights":
        model.load_weights(path)
    else:
        tf.train.Checkpoint(model=model, optimizer=model.optimizer).restore(str(path)).assert_existing_objects_matched()
    return model


FORMS = ("keras", "weights", "tf")
# Each config in one form among the fast tests, in all three among the slow ones.
THROUGH_FILES = [
    pytest.param(form, kind, name, marks=() if index % 3 == FORMS.index(form) else pytest.mark.slow)
    for index, (kind, name) in enumerate(ALL)
    for form in FORMS
]


@pytest.mark.parametrize(("form", "kind", "name"), THROUGH_FILES)
def test_a_model_goes_on_from_a_file_as_from_a_state_that_is_restored_live(tmp_path, form, kind, name):
    model, other = trained(kind, name), trained(kind, name)
    fit(other)
    config = unirms.config_of(model.optimizer)
    state = unirms.state_of(model.optimizer, model=model)
    (tmp_path / "source").mkdir()
    (tmp_path / "new").mkdir()
    held = keras_format.read(saved(model, tmp_path / "source", "keras")[0], spool(tmp_path), config)
    like, module = saved(other, tmp_path, form)
    there = module.read(like, spool(tmp_path), config)
    content = renamed(outgoing(held, config, plateau=state.plateau, stock=kind == "stock"), there)
    module.write(tmp_path / "new" / like.name, content, like)
    loaded = adopted(config, form, tmp_path / "new" / like.name, kind == "stock")
    if state.plateau is not None and form != "keras":
        loaded.optimizer.learning_rate = state.plateau.rate
    drops(model, loaded)
    for left, right in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(left.value), np.asarray(right.value))
    for _ in range(5):
        for one in (model, loaded):
            one.optimizer.apply([tf.ones(v.shape) * 0.1 for v in one.trainable_variables], one.trainable_variables)
    for left, right in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(left.value), np.asarray(right.value))


def renamed(content, there):
    """Return the content in the names of another file, which has the same parameters in the same order."""
    names = dict(zip(content.parameters, there.parameters, strict=True))
    rest = [name for name in there.tensors["weights"] if name not in there.parameters]
    others = [name for name in content.tensors["weights"] if name not in content.parameters]
    names |= {name: next(one for one in rest if one.endswith(name) or name.endswith(one)) for name in others}
    tensors = {kind: {names[n]: one for n, one in found.items()} for kind, found in content.tensors.items()}
    return content.model_copy(update={"parameters": there.parameters, "tensors": tensors})


def drops(left, right):
    """Give both models the same seed: it is no state of the optimizer, and kept from the file that is given."""
    for one, other in zip(left.layers, right.layers, strict=True):
        if isinstance(one, keras.layers.Dropout):
            other.seed_generator.state.assign(one.seed_generator.state.value)


def test_an_archive_keeps_all_else_of_the_model(tmp_path):
    model, other = trained("exact", "nesterov"), network("another")
    other.layers[2].rate = 0.25
    compiled(other, keras.optimizers.RMSprop(clipnorm=1.0))
    fit(other)
    config = unirms.config_of(model.optimizer)
    held = keras_format.read(saved(model, tmp_path, "keras")[0], spool(tmp_path))
    other.save(tmp_path / "like.keras")
    (tmp_path / "new").mkdir()
    there = keras_format.read(tmp_path / "like.keras", spool(tmp_path))
    keras_format.write(tmp_path / "new" / "b.keras", renamed(outgoing(held, config), there), tmp_path / "like.keras")
    assert [one.name for one in (tmp_path / "new").iterdir()] == ["b.keras"]
    loaded = keras.models.load_model(tmp_path / "new" / "b.keras")
    assert (loaded.name, loaded.layers[2].rate, loaded.loss) == ("another", 0.25, "mse")
    assert type(loaded.optimizer) is UniRMSProp
    assert unirms.config_of(loaded.optimizer) == config
    with zipfile.ZipFile(tmp_path / "new" / "b.keras") as new, zipfile.ZipFile(tmp_path / "like.keras") as old:
        assert new.namelist() == old.namelist()
        assert new.read("metadata.json") == old.read("metadata.json")


@pytest.mark.parametrize("wrapped", [True, False])
def test_an_optimizer_in_another_is_said_of_a_file_to_keep(wrapped, tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    optimizer = keras.optimizers.RMSprop()
    model.compile(keras.optimizers.LossScaleOptimizer(optimizer) if wrapped else optimizer, "mse")
    model.fit(np.ones((4, 2)), np.zeros((4, 2)), verbose=0)
    model.save_weights(tmp_path / "a.weights.h5")
    tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(str(tmp_path / "usual"))
    tf.train.Checkpoint(net=model, opt=model.optimizer).write(str(tmp_path / "other"))
    read = [
        keras_format.read(tmp_path / "a.weights.h5", spool(tmp_path)),
        *(tf_format.read(tmp_path / name, tmp_path) for name in ("usual", "other")),
    ]
    assert ["LossScaleOptimizer" in "".join(held.advice) for held in read] == [wrapped] * 3
    if not wrapped:
        assert [held.advice for held in read[:2]] == [(), ()]
        assert "are called net, opt: give tf.train.Checkpoint" in read[2].advice[0]


def test_exclusions_from_the_decay_that_keras_does_not_save_are_asked_for(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    optimizer = keras.optimizers.RMSprop(weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    model.compile(optimizer, "mse")
    model.fit(np.ones((4, 2)), np.zeros((4, 2)), verbose=0)
    model.save(tmp_path / "a.keras")
    assert unirms.config_of(optimizer).no_weight_decay
    held = keras_format.read(tmp_path / "a.keras", spool(tmp_path))
    assert held.unsaid == ("no_weight_decay",)
    assert any("exclude_from_weight_decay" in note for note in held.notes)


def test_an_optimizer_alone_is_written_without_another_file(tmp_path):
    model = trained("exact", "groups")
    config, state = unirms.config_of(model.optimizer), unirms.state_of(model.optimizer)
    held = keras_format.read(saved(model, tmp_path, "weights")[0], spool(tmp_path))
    content = outgoing(held, config)
    with pytest.raises(CheckpointError, match="weights can only be written into the layers of another file"):
        keras_format.write(tmp_path / "b.weights.h5", content, None)
    without = content.model_copy(update={"tensors": {k: v for k, v in content.tensors.items() if k != "weights"}})
    keras_format.write(tmp_path / "b.weights.h5", without, None)
    again = keras_format.read(tmp_path / "b.weights.h5", spool(tmp_path))
    assert_same(again, state)
    assert again.config == config
    fresh = compiled(network(), UniRMSProp(config))
    fresh.optimizer.build(fresh.trainable_variables)
    with h5py.File(tmp_path / "b.weights.h5") as file:
        fresh.optimizer.load_own_variables({name: one[()] for name, one in file["optimizer/vars"].items()})
    assert same_bits(unirms.state_of(fresh.optimizer).momentum, state.momentum)


def test_a_model_whose_optimizer_has_no_variables_yet_takes_a_state(tmp_path):
    model = trained("exact", "nesterov")
    config = unirms.config_of(model.optimizer)
    held = keras_format.read(saved(model, tmp_path, "keras")[0], spool(tmp_path))
    like = compiled(network(), "rmsprop")
    like.save(tmp_path / "like.keras")
    (tmp_path / "new").mkdir()
    content = outgoing(held, config)
    names = {name: name.removeprefix("net/") for name in held.tensors["weights"]}
    tensors = {kind: {names[n]: one for n, one in found.items()} for kind, found in content.tensors.items()}
    right = content.model_copy(update={"parameters": tuple(names[n] for n in held.parameters), "tensors": tensors})
    keras_format.write(tmp_path / "new" / "b.keras", right, tmp_path / "like.keras")
    loaded = keras.models.load_model(tmp_path / "new" / "b.keras")
    drops(model, loaded)
    assert fit(model) == fit(loaded)
    wrong = right.model_copy(update={"parameters": right.parameters[::-1]})
    with pytest.raises(CheckpointError, match=r"call model\.optimizer\.build"):
        keras_format.write(tmp_path / "new" / "c.keras", wrong, tmp_path / "like.keras")


def test_what_does_not_fit_the_other_file_is_an_error(tmp_path):
    model = trained("exact", "nesterov")
    config = unirms.config_of(model.optimizer)
    for form in ("keras", "weights", "tf"):
        path, module = saved(model, tmp_path, form)
        held = module.read(path, spool(tmp_path), config)
        content = outgoing(held, config)
        name = "net/hidden/kernel"
        for kind in ("weights", "momentum"):
            other = Moving(source=held.tensors[kind]["net/out/kernel"], move=content.tensors[kind][name].move)
            tensors = {**content.tensors, kind: {**content.tensors[kind], name: other}}
            if form == "tf" or kind == "weights":
                with pytest.raises(CheckpointError, match=r"has the shape|have the shape"):
                    module.write(tmp_path / "new", content.model_copy(update={"tensors": tensors}), path)
        tensors = {**content.tensors, "weights": {**content.tensors["weights"], "gone": other}}
        with pytest.raises(CheckpointError, match=r"no weights (of )?'gone'"):
            module.write(tmp_path / "new", content.model_copy(update={"tensors": tensors}), path)
        missing = {k: v for k, v in content.tensors["momentum"].items() if k != name}
        with pytest.raises(CheckpointError, match="the state has no momentum of 'net/hidden/kernel'"):
            tensors = {**content.tensors, "momentum": missing}
            module.write(tmp_path / "new", content.model_copy(update={"tensors": tensors}), path)
        with pytest.raises(CheckpointError, match=r"no config|only be written"):
            module.write(tmp_path / "new", content.model_copy(update={"config": None}), path)
        nan = tmp_path / "nan"
        nan.write_bytes(np.full(6 * 16 * 3, np.nan, np.float32).tobytes())
        bad = Stored(path=str(nan), offset=0, dtype="float32", shape=content.tensors["momentum"][name].shape)
        spoiled = {**content.tensors["momentum"], name: Moving(source=bad, move=content.tensors["momentum"][name].move)}
        with pytest.raises(StateError, match="values that are NaN or infinite"):
            tensors = {**content.tensors, "momentum": spoiled}
            module.write(tmp_path / "new", content.model_copy(update={"tensors": tensors}), path)
    with pytest.raises(CheckpointError, match="can only be written with the model of another"):
        keras_format.write(tmp_path / "b.keras", content, None)
    with pytest.raises(CheckpointError, match=r"is no \.keras file"):
        keras_format.write(tmp_path / "b.keras", content, tmp_path / "a.weights.h5")
    with pytest.raises(CheckpointError, match="can only be written with the objects of another"):
        tf_format.write(tmp_path / "b", content, None)


def test_a_stock_optimizer_loads_the_weights_that_ours_has_saved(tmp_path):
    """What unirms says in the file disturbs no reader."""
    model = trained("exact", "nesterov")
    path, _ = saved(model, tmp_path, "weights")
    with h5py.File(path) as file:
        assert json.loads(file["optimizer/vars"].attrs["unirms"])["names"][0] == "net/conv/kernel"
    other = compiled(network(), keras.optimizers.RMSprop(momentum=0.9))
    other.optimizer.build(other.trainable_variables)
    other.load_weights(path)
    assert same_bits(unirms.state_of(other.optimizer).momentum, unirms.state_of(model.optimizer).momentum)


# ---- TensorFlow 1 ------------------------------------------------------------------------------------------------


def session_run(folder, *, centered, momentum, steps, restore=None, averages=False, name="RMSProp"):
    """Train in a session of TensorFlow 1; return the prefix that a Saver wrote, and all variables."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        start = np.arange(6, dtype=np.float32).reshape(2, 3)
        w = v1.get_variable("net/w", initializer=start, use_resource=averages)
        b = v1.get_variable("net/b", initializer=np.ones(3, np.float32), use_resource=True)
        count = v1.train.get_or_create_global_step()
        loss = tf.reduce_sum((tf.constant([[1.0, 2.0]]) @ w + b) ** 2)
        optimizer = v1.train.RMSPropOptimizer(0.125, momentum=momentum, centered=centered, name=name)
        train = optimizer.minimize(loss, global_step=count)
        if averages:
            with tf.control_dependencies([train]):
                train = v1.train.ExponentialMovingAverage(0.5).apply([w, b])
        session.run(v1.global_variables_initializer())
        saver = v1.train.Saver()
        if restore is not None:
            saver.restore(session, str(restore))
        for _ in range(steps):
            session.run(train)
        prefix = saver.save(session, str(folder / "model.ckpt"), global_step=count)
        return Path(prefix), {one.op.name: session.run(one) for one in v1.global_variables()}


@pytest.mark.parametrize("name", ["RMSProp", "mine"])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("centered", [False, True])
def test_a_checkpoint_of_tensorflow_1_says_by_the_number_of_its_slots_what_they_are(tmp_path, centered, momentum, name):
    prefix, values = session_run(tmp_path, centered=centered, momentum=momentum, steps=3, averages=True, name=name)
    settings = {"learning_rate": 0.125, "momentum": momentum, "centered": centered}
    config = RMSPropConfig.from_native("tf1", **settings)
    held = tf1.read(prefix, spool(tmp_path), config)
    assert set(held.parameters) == {"net/w", "net/b"}
    assert held.step == 3
    kinds = {"mean_square": ""}
    kinds |= {"mean_gradient": "_1", "momentum": "_2"} if centered else {"momentum": "_1"}
    for kind, end in kinds.items():
        if kind == "momentum" and momentum == 0:
            assert kind not in held.tensors
            continue
        expected = {one: values[f"{one}/{name}{end}"] for one in held.parameters}
        assert same_bits({n: one.array() for n, one in held.tensors[kind].items()}, expected)
    averages = {one: values[f"{one}/ExponentialMovingAverage"] for one in held.parameters}
    assert same_bits({n: one.array() for n, one in held.tensors["average"].items()}, averages)
    assert same_bits({n: one.array() for n, one in held.tensors["weights"].items()}, {n: values[n] for n in averages})
    told = tf1.read(prefix, spool(tmp_path))
    assert ("mean_gradient" in told.tensors) == centered
    with pytest.raises(CheckpointError, match=r"has 3 slots|has 2 slots"):
        tf1.read(prefix, spool(tmp_path), config.replace(centered=not centered))


@pytest.mark.parametrize("with_like", [False, True])
@pytest.mark.parametrize("centered", [False, True])
def test_a_session_of_tensorflow_1_goes_on_from_what_is_written(tmp_path, centered, with_like):
    settings = {"learning_rate": 0.125, "momentum": 0.5, "centered": centered}
    config = RMSPropConfig.from_native("tf1", **settings)
    arguments = {"centered": centered, "momentum": 0.5}
    folders = [tmp_path / name for name in ("half", "other", "whole", "rest", "new")]
    for folder in folders:
        folder.mkdir()
    half, _ = session_run(folders[0], steps=3, **arguments)
    other, _ = session_run(folders[1], steps=5, **arguments)
    _, straight = session_run(folders[2], steps=6, **arguments)
    held = tf1.read(half, spool(tmp_path), config)
    tf1.write(folders[4] / "model.ckpt-3", outgoing(held, config), other if with_like else None)
    _, resumed = session_run(folders[3], steps=3, restore=folders[4] / "model.ckpt-3", **arguments)
    assert same_bits(straight, resumed)
    again = tf1.read(folders[4] / "model.ckpt-3", spool(tmp_path), config)
    assert again.step == 3
    assert set(again.tensors) == set(held.tensors)


def test_what_tensorflow_1_has_no_place_for_is_an_error(tmp_path):
    prefix, _ = session_run(tmp_path, centered=False, momentum=0.5, steps=1)
    config = RMSPropConfig.from_native("tf1", learning_rate=0.125, momentum=0.5)
    content = outgoing(tf1.read(prefix, spool(tmp_path), config), config)
    with pytest.raises(CheckpointError, match="no place for half gathered gradients"):
        tf1.write(tmp_path / "b", content.model_copy(update={"micro_step": 1}), None)
    gone = {**content.tensors, "weights": {"gone": next(iter(content.tensors["weights"].values()))}}
    with pytest.raises(CheckpointError, match="the file to keep has no 'gone'"):
        tf1.write(tmp_path / "b", content.model_copy(update={"tensors": gone}), prefix)
    with pytest.raises(CheckpointError, match=r"read it as tf-checkpoint"):
        tf1.read(saved(trained("stock", "plain"), tmp_path / "x", "tf")[0], spool(tmp_path))


def test_a_folder_with_several_checkpoints_is_read_at_its_last(tmp_path):
    session_run(tmp_path, centered=False, momentum=0.5, steps=1)
    prefix, _ = session_run(tmp_path, centered=False, momentum=0.5, steps=2)
    assert tf1.read(tmp_path, spool(tmp_path)).step == 2
    assert tf1.read(Path(f"{prefix}.index"), spool(tmp_path)).step == 2
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "../../etc/passwd"\n')
    with pytest.raises(CheckpointError, match="has no checkpoint, or several"):
        tf1.read(tmp_path, spool(tmp_path))


# ---- files that are not what they should be ----------------------------------------------------------------------


def test_reading_loads_no_framework(tmp_path):
    model = trained("exact", "nesterov")
    paths = [saved(model, tmp_path, form)[0] for form in ("keras", "weights", "tf")]
    session, _ = session_run(tmp_path, centered=True, momentum=0.5, steps=1)
    code = f"""
import sys
from pathlib import Path
from unirms.adapters.checkpoints.keras import saved as keras
from unirms.adapters.checkpoints.tensorflow import checkpoint as tensorflow, tf1
for module, path in zip((keras, keras, tensorflow, tf1), {[str(path) for path in (*paths, session)]!r}):
    module.read(Path(path), Path({str(spool(tmp_path))!r}))
print([name for name in ("keras", "tensorflow", "crc32c", "numpy.f2py") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One small file of every form."""
    folder = tmp_path_factory.mktemp("files")
    model = trained("exact", "nesterov")
    found = {form: saved(model, folder, form) for form in ("keras", "weights", "tf")}
    (folder / "v1").mkdir()
    found["tf1"] = session_run(folder / "v1", centered=True, momentum=0.5, steps=1)[0], tf1
    return found


def refused(module, path, folder, match):
    with pytest.raises(CheckpointError, match=match) as caught:
        module.read(path, spool(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["keras", "weights"])
@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"no file of any kind" * 20])
def test_what_is_no_file_of_keras(tmp_path, form, data):
    path = tmp_path / ("a.keras" if form == "keras" else "a.weights.h5")
    path.write_bytes(data)
    refused(keras_format, path, tmp_path, "damaged|cannot be read")
    refused(keras_format, tmp_path / "nothing", tmp_path, "cannot be read")


@pytest.mark.parametrize("form", ["tf", "tf1"])
def test_what_is_no_checkpoint_of_tensorflow(tmp_path, form):
    module = tf_format if form == "tf" else tf1
    for data in (b"", b"no index" * 20):
        (tmp_path / "a.index").write_bytes(data)
        refused(module, tmp_path / "a", tmp_path, "damaged")
    refused(module, tmp_path / "b", tmp_path, "cannot be read")
    refused(module, tmp_path, tmp_path, "damaged")


def rewritten(files, folder, change):
    """Return a copy of the file of weights after a change by HDF5's own library."""
    path = folder / "changed.weights.h5"
    shutil.copy(files["weights"][0], path)
    with h5py.File(path, "a") as file:
        change(file)
    return path


def soft(file):
    file["optimizer/vars/900"] = h5py.SoftLink("/optimizer/vars/3")


def external(file):
    file["optimizer/vars/900"] = h5py.ExternalLink("/etc/passwd", "/x")


def elsewhere(file):
    file["optimizer/vars"].create_dataset("900", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def twice(file):
    file["optimizer/vars/900"] = file["optimizer/vars/3"]


def chunks(file):
    file["optimizer/vars"].create_dataset("900", (1 << 40,), "f4", chunks=(1 << 20,), compression="gzip")


def absurd(file):
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    space = h5py.h5s.create_simple((1 << 50,))
    h5py.h5d.create(file["optimizer/vars"].id, b"900", h5py.h5t.IEEE_F32LE, space, how)


def leads_out(file):
    said = json.loads(file["optimizer/vars"].attrs["unirms"])
    said["names"][0] = "../x"
    file["optimizer/vars"].attrs["unirms"] = json.dumps(said)


def names_a_path(file):
    file["layers/dense/vars"].attrs["name"] = "/etc/passwd"


def no_json(file):
    file["optimizer/vars"].attrs["unirms"] = "{" * 5000


def no_count(file):
    del file["optimizer/vars/0"]
    file["optimizer/vars/0"] = np.float32(3)


def backwards(file):
    del file["optimizer/vars/0"]
    file["optimizer/vars/0"] = np.int64(-3)


def no_rate(file):
    del file["optimizer/vars/1"]
    file["optimizer/vars/1"] = np.float32(np.nan)


def one_slot_less(file):
    del file["optimizer/vars/9"]


def another_shape(file):
    del file["optimizer/vars/10"]
    file["optimizer/vars/10"] = np.ones(5, "f4")


HOSTILE = {
    soft: "link",
    external: "link",
    elsewhere: "another file",
    twice: "second name",
    chunks: "chunks|compressed",
    absurd: "are not there",
    leads_out: "leads out of its folder",
    names_a_path: "leads out of its folder",
    no_json: "damaged: the attribute",
    no_count: "no count of updates",
    backwards: "damaged: it has made -3 updates",
    no_rate: "learning rate is nan",
    one_slot_less: "has 15 slots",
    another_shape: "its mean square has",
}


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: change.__name__)
def test_hostile_and_damaged_weights_are_refused(files, tmp_path, change):
    refused(keras_format, rewritten(files, tmp_path, change), tmp_path, HOSTILE[change])


def test_big_endian_numbers_are_turned(files, tmp_path):
    def swap(file):
        for name in ("2", "3"):
            values = file[f"optimizer/vars/{name}"][()]
            del file[f"optimizer/vars/{name}"]
            file[f"optimizer/vars/{name}"] = values.astype(">f4")

    right = keras_format.read(files["weights"][0], spool(tmp_path)).state()
    held = keras_format.read(rewritten(files, tmp_path, swap), spool(tmp_path))
    assert same_bits(held.state().mean_square, right.mean_square)
    assert [one.name for one in (tmp_path / "spool").iterdir()] == ["tensors"]


def test_a_nan_is_read(files, tmp_path):
    def spoil(file):
        file["optimizer/vars/2"][...] = np.nan

    held = keras_format.read(rewritten(files, tmp_path, spoil), spool(tmp_path))
    assert np.isnan(held.state().mean_square["net/conv/kernel"]).all()


def repacked(files, folder, members, kind=zipfile.ZIP_STORED, twice=()):
    """Return a copy of the archive with other members."""
    path = folder / "changed.keras"
    with zipfile.ZipFile(files["keras"][0]) as old, zipfile.ZipFile(path, "w", kind) as new:
        held = {name: old.read(name) for name in old.namelist()}
        for name, data in {**held, **members}.items():
            new.writestr(name, data)
        for name in twice:
            with pytest.warns(UserWarning, match="Duplicate name"):
                new.writestr(name, held[name])
    return path


def config_of(files):
    with zipfile.ZipFile(files["keras"][0]) as old:
        return json.loads(old.read("config.json"))


def test_a_compressed_archive_is_unpacked(files, tmp_path):
    right = keras_format.read(files["keras"][0], spool(tmp_path))
    held = keras_format.read(repacked(files, tmp_path, {}, zipfile.ZIP_DEFLATED), spool(tmp_path))
    assert [one.name for one in (tmp_path / "spool").iterdir()] == ["model.weights.h5"]
    assert same_bits(held.state().mean_square, right.state().mean_square)
    assert held.config == right.config


def test_a_bomb_is_refused(files, tmp_path):
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        new.writestr("config.json", "{}")
        with new.open("model.weights.h5", "w") as member:
            for _ in range(300):
                member.write(bytes(1 << 20))
    refused(keras_format, path, tmp_path, "would unpack from")
    assert not list((tmp_path / "spool").iterdir())


def test_members_that_are_not_what_they_should_be(files, tmp_path):
    for members, twice_, match in (
        ({}, ["config.json"], "has 2 members 'config.json'"),
        ({}, ["model.weights.h5"], "has 2 members 'model.weights.h5'"),
        ({"config.json": "[1]"}, (), "is no mapping"),
        ({"config.json": "{" * 100_000}, (), "cannot be read"),
        ({"config.json": "[" * 100_000}, (), "cannot be read"),
        ({"config.json": "[" + "[]," * 1_400_000 + "[]]"}, (), "more than any model's"),
        ({"model.weights.h5": b"x" * 500}, (), "damaged"),
    ):
        refused(keras_format, repacked(files, tmp_path, members, twice=twice_), tmp_path, match)
    only = tmp_path / "only.keras"
    with zipfile.ZipFile(only, "w") as new:
        new.writestr("../../evil", "x")
    refused(keras_format, only, tmp_path, "has 0 members 'config.json'")
    assert not (tmp_path.parent.parent / "evil").exists()


def test_a_config_names_classes_and_nothing_is_loaded(files, tmp_path):
    data = config_of(files)
    data["compile_config"]["optimizer"].update(module="os", class_name="system", registered_name=None)
    held = keras_format.read(repacked(files, tmp_path, {"config.json": json.dumps(data)}), spool(tmp_path))
    assert held.parameters == ()
    assert any("its optimizer is a system, not an RMSProp" in note for note in held.notes)
    data = config_of(files)
    data["compile_config"]["optimizer"]["config"]["config"]["rho"] = 7
    refused(keras_format, repacked(files, tmp_path, {"config.json": json.dumps(data)}), tmp_path, "is damaged")


def graph_with(files, folder, change):
    """Return a copy of the checkpoint with another object graph, written by TensorFlow."""
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    reader = tf.train.load_checkpoint(str(files["tf"][0]))
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    graph.ParseFromString(reader.get_tensor(object_graph.KEY))
    change(graph)
    names = list(reader.get_variable_to_shape_map())
    tensors = [
        tf.constant(graph.SerializeToString() if name == object_graph.KEY else reader.get_tensor(name))
        for name in names
    ]
    tf.raw_ops.SaveV2(
        prefix=str(folder / "changed"), tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors
    )
    return folder / "changed"


def nowhere(graph):
    graph.nodes[0].children[0].node_id = 10**6


def below_nothing(graph):
    graph.nodes[0].children[0].node_id = -1


def bad_name(graph):
    for node in graph.nodes:
        for attribute in node.attributes:
            attribute.full_name = attribute.full_name.replace("net/conv/kernel", "../../x")


def two_optimizers(graph):
    graph.nodes.append(next(n for n in graph.nodes if any(c.local_name == "_velocities" for c in n.children)))


def no_iterations(graph):
    for node in graph.nodes:
        for attribute in node.attributes:
            if attribute.full_name.endswith("iteration"):
                attribute.checkpoint_key = "gone"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (nowhere, "names an object that it has not"),
        (below_nothing, "names an object that it has not"),
        (bad_name, "leads out of its folder"),
        (two_optimizers, "has 2 optimizers"),
        (no_iterations, "has no"),
    ],
)
def test_hostile_object_graphs_are_refused(files, tmp_path, change, match):
    refused(tf_format, graph_with(files, tmp_path, change), tmp_path, match)


def test_an_index_is_held_to_the_sizes_of_its_files(files, tmp_path):
    prefix = files["tf"][0]
    for name in (f"{prefix.name}.index", f"{prefix.name}.data-00000-of-00001"):
        shutil.copy(prefix.with_name(name), tmp_path / name)
    data = tmp_path / f"{prefix.name}.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-10])
    refused(tf_format, tmp_path / prefix.name, tmp_path, "damaged")
    data.unlink()
    refused(tf_format, tmp_path / prefix.name, tmp_path, "cannot be read")
    index = tmp_path / f"{prefix.name}.index"
    changed = bytearray(index.read_bytes())
    changed[50] ^= 1
    index.write_bytes(changed)
    refused(tf_format, tmp_path / prefix.name, tmp_path, "does not have its checksum")


def crafted(folder, entries):
    """Write an index with these (key, entry) pairs and right checksums."""

    def varint(value):
        out = b""
        while value > 127:
            out, value = out + bytes([value & 127 | 128]), value >> 7
        return out + bytes([value])

    def block(pairs):
        body = b"".join(b"\0" + varint(len(k)) + varint(len(v)) + k + v for k, v in pairs) + struct.pack("<II", 0, 1)
        return body + b"\0" + struct.pack("<I", table.checksum(body + b"\0"))

    first = block([(b"", b"\x08\x01\x1a\x02\x08\x01"), *entries])
    meta, second = block([]), block([(b"z", varint(0) + varint(len(first) - 5))])
    ends = varint(len(first)) + varint(len(meta) - 5) + varint(len(first) + len(meta)) + varint(len(second) - 5)
    footer = ends.ljust(40, b"\0") + struct.pack("<Q", table.MAGIC)
    (folder / "c.index").write_bytes(first + meta + second + footer)
    (folder / "c.data-00000-of-00001").write_bytes(bytes(64))
    return folder / "c"


@pytest.mark.parametrize(
    "entry",
    [
        b"\x08\x01\x12\x0b\x12\x09\x08\xff\xff\xff\xff\xff\xff\xff\x3f\x28\x40",  # a shape of 2**62
        b"\x08\x01\x12\x04\x12\x02\x08\x04\x28\x20",  # 32 bytes for 4 numbers
        b"\x08\x01\x12\x04\x12\x02\x08\x10\x20\x08\x28\x40",  # ends after the end
        b"\x08\x01\x12\x04\x12\x02\x08\x10\x18\x07\x28\x40",  # data file 7 of 1
        b"\x08\x01\x12\x0d\x12\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x28\x40",  # a length of -1
        b"\x08\x01\x12\x7f",  # a field that goes on after its end
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",  # an integer that does not end
    ],
)
def test_absurd_entries_with_right_checksums_are_refused(tmp_path, entry):
    for module in (tf_format, tf1):
        refused(module, crafted(tmp_path, [(b"a", entry)]), tmp_path, "damaged")


def test_a_crafted_index_that_is_right_is_read(tmp_path):
    prefix = crafted(tmp_path, [(b"a", b"\x08\x01\x12\x04\x12\x02\x08\x10\x28\x40")])
    assert tf1.read(prefix, spool(tmp_path)).tensors["weights"]["a"].shape == (16,)


def mutated(data, seed):
    """Return data with bytes flipped, overwritten, cut out or put in."""
    rng, changed = np.random.default_rng(seed), bytearray(data)
    place = int(rng.integers(len(changed)))
    kind = rng.integers(4)
    if kind == 0:
        for spot in rng.integers(len(changed), size=rng.integers(1, 8)):
            changed[spot] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        changed[place : place + 8] = (b"\xff" * 8, bytes(8), b"\xff\xff\xff\x7f" + bytes(4))[rng.integers(3)]
    elif kind == 2:
        del changed[place : place + int(rng.integers(1, 200))]
    else:
        changed[place:place] = rng.bytes(int(rng.integers(1, 50)))
    return bytes(changed)


def one_mutation(files, form, folder, seed):
    path, module = files[form]
    if form in {"keras", "weights"}:
        target = folder / path.name
        target.write_bytes(mutated(path.read_bytes(), seed))
    else:
        target = folder / "m"
        which = seed % 3
        for end in (".index", ".data-00000-of-00001"):
            data = path.with_name(path.name + end).read_bytes()
            chosen = (end == ".index") == (which > 0)
            (folder / f"m{end}").write_bytes(mutated(data, seed) if chosen else data)
    try:
        module.read(target, spool(folder)).state()
    except (CheckpointError, StateError) as error:
        assert "\n" not in str(error)
        return False
    return True


@pytest.mark.parametrize(("form", "count"), [("keras", 40), ("weights", 40), ("tf", 40), ("tf1", 40)])
def test_some_mutated_files_are_read_or_refused(files, tmp_path, form, count):
    assert len({one_mutation(files, form, tmp_path, seed) for seed in range(count)}) == 2


@pytest.mark.slow
@pytest.mark.parametrize("form", ["keras", "weights", "tf", "tf1"])
def test_mutated_files_are_read_or_refused(files, tmp_path, form):
    for seed in range(1000, 1700):
        one_mutation(files, form, tmp_path, seed)


# ---- size --------------------------------------------------------------------------------------------------------

MEASURE = """
import sys, time
from pathlib import Path
import numpy as np
from unirms import RMSPropConfig
from unirms.adapters.checkpoints.keras import saved as keras
from unirms.adapters.checkpoints.tensorflow import checkpoint as tensorflow, saving as tensor_saving, tf1
from unirms.checkpoints.checkpoint import Outgoing
from unirms.checkpoints.tensors import Moving, Stored
from unirms.moving.moves import Move

form, source, like, place, count, rows = *sys.argv[1:5], *map(int, sys.argv[5:])
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) << 10
names = [f"p{i}" for i in range(count)]
tensor = rows * 1024 * 4
tensors = {}
for k, kind in enumerate(("mean_square", "momentum")):
    tensors[kind] = {}
    for i, n in enumerate(names):
        place_of = Stored(path=source, offset=(k * count + i) * tensor, dtype="float32", shape=(rows, 1024))
        tensors[kind][n] = Moving(source=place_of, move=Move(kind, n, n, "float32"))
config = RMSPropConfig(momentum=0.5)
content = Outgoing(parameters=names, step=3, learning_rate=0.001, config=config, tensors=tensors)
module = {"keras": keras, "weights": keras, "tf": tensorflow, "tf1": tf1}[form]
if form in {"tf", "tf1"}:
    tensor_saving.save(Path(place).parent / "warm", {"a": tensor_saving.zeros((3,), "float32")})
else:
    import h5py
before, start = peak(), time.perf_counter()
module.write(Path(place), content, None if like == "-" else Path(like))
print(time.perf_counter() - start, (peak() - before) / tensor)
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["weights", "tf1"])
def test_a_large_state_is_written_a_piece_at_a_time(tmp_path, form):
    count, rows = 4, 8192  # 2 x 4 tensors of 32 MiB
    source = tmp_path / "source"
    with source.open("wb") as file:
        for _ in range(2 * count):
            file.write(np.random.default_rng(1).random((rows, 1024), np.float32).tobytes())
    place = tmp_path / ("a.weights.h5" if form == "weights" else "ckpt")
    arguments = [form, str(source), "-", str(place), str(count), str(rows)]
    run = subprocess.run([sys.executable, "-c", MEASURE, *arguments], capture_output=True, text=True, check=True)
    _, memory = map(float, run.stdout.split()[-2:])
    # Pieces of 4 MiB, of tensors of 32: two as they are read, and two as they are written.
    assert memory < 0.75
