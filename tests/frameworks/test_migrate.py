"""`unirms migrate` with the files of real models: this framework's own, and a user's PyTorch checkpoint into them."""

import importlib
import subprocess
import sys
import textwrap
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import unirms
from unirms import OptimizerState, RMSPropConfig
from unirms.checkpoints.inspecting import inspect
from unirms.checkpoints.migrating import migrate
from unirms.schedules import Step

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),  # Keras
    pytest.mark.filterwarnings("ignore:No ccache found:UserWarning"),  # Paddle, when it is loaded
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning"),
    pytest.mark.filterwarnings("ignore:Tensor do not have 'place' interface:UserWarning"),
]

CONFIGS = {
    "plain": RMSPropConfig(learning_rate=0.01),
    "full": RMSPropConfig(
        learning_rate=Step(initial_learning_rate=0.01, step_size=4, gamma=0.5),
        momentum=0.9,
        centered=True,
        epsilon=1e-3,
        weight_decay=0.01,
        no_weight_decay=["*bias*", "*gamma*", "*beta*"],
    ),
}
"""One that the stock class of every framework computes but for its first mean square, and one that none computes."""


def torch_model():
    torch = importlib.import_module("torch")
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(2, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(36, 4)]
    return torch.nn.Sequential(*layers)


def keras_model():
    keras = importlib.import_module("keras")
    keras.utils.set_random_seed(0)
    conv, norm = keras.layers.Conv2D(4, 3, name="conv"), keras.layers.BatchNormalization(name="norm")
    inputs = keras.Input((5, 5, 2))
    hidden = keras.layers.Flatten()(norm(conv(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(4, name="dense")(hidden))
    model.compile(loss="mse")
    return model


def mindspore_model():
    mindspore = importlib.import_module("mindspore")
    mindspore.set_seed(0)
    nn = mindspore.nn
    layers = [nn.Conv2d(2, 4, 3, pad_mode="valid", has_bias=True), nn.BatchNorm2d(4), nn.Flatten(), nn.Dense(36, 4)]
    return nn.SequentialCell(*layers)


def paddle_model():
    paddle = importlib.import_module("paddle")
    paddle.seed(0)
    layers = [paddle.nn.Conv2D(2, 4, 3), paddle.nn.BatchNorm2D(4), paddle.nn.Flatten(), paddle.nn.Linear(36, 4)]
    return paddle.nn.Sequential(*layers)


MODELS = {"torch": torch_model, "keras": keras_model, "mindspore": mindspore_model, "paddle": paddle_model}


def gradients(names_and_shapes, steps, seed):
    values = np.random.default_rng(seed)
    return [{n: values.normal(size=s).astype(np.float32) for n, s in names_and_shapes.items()} for _ in range(steps)]


def as_in_a_new_process(framework):
    """Return what to do the work of one run in: Paddle numbers the names in its files by process."""
    if framework != "paddle":
        return nullcontext
    paddle = importlib.import_module("paddle")
    return partial(paddle.utils.unique_name.guard, paddle.base.unique_name.UniqueNameGenerator())


class Trained:
    """A model of this framework and its optimizer, which takes given gradients by name."""

    def __init__(self, framework, make):
        self.framework, self.inside = framework, as_in_a_new_process(framework)
        with self.inside():
            self.model, self.optimizer = make()

    def step(self, steps, seed):
        with self.inside():
            self._step(steps, seed)

    def _step(self, steps, seed):
        adapter = unirms.registry.adapter(self.framework)
        named = adapter.parameters_of(self.optimizer)
        for grads in gradients({one.name: one.shape for one in named}, steps, seed):
            STEPS[self.framework](self.optimizer, [(one.value, grads[one.name]) for one in named])
            scheduler = unirms.lr_scheduler(self.optimizer)
            if scheduler is not None:
                scheduler.step()

    def state(self):
        with self.inside():
            return unirms.state_of(self.optimizer, model=self.model)


def torch_step(optimizer, pairs):
    torch = importlib.import_module("torch")
    for param, grad in pairs:
        param.grad = torch.from_numpy(grad)
    optimizer.step()


def keras_step(optimizer, pairs):
    keras = importlib.import_module("keras")
    optimizer.apply([keras.ops.convert_to_tensor(grad) for _, grad in pairs], [param for param, _ in pairs])


def mindspore_step(optimizer, pairs):
    mindspore = importlib.import_module("mindspore")
    optimizer(tuple(mindspore.Tensor(grad) for _, grad in pairs))


def paddle_step(optimizer, pairs):
    paddle = importlib.import_module("paddle")
    for param, grad in pairs:
        param.grad = paddle.to_tensor(grad)
    optimizer.step()
    optimizer.clear_grad()


STEPS = {"torch": torch_step, "keras": keras_step, "mindspore": mindspore_step, "paddle": paddle_step}


def save_torch(trained, folder):
    torch = importlib.import_module("torch")
    whole = {"model": trained.model.state_dict(), "optimizer": trained.optimizer.state_dict()}
    scheduler = unirms.lr_scheduler(trained.optimizer)
    if scheduler is not None:
        whole["scheduler"] = scheduler.state_dict()
    torch.save(whole, folder / "run.pt")
    return folder / "run.pt"


def save_keras(trained, folder):
    trained.model.compile(trained.optimizer, "mse")
    trained.model.save_weights(folder / "run.weights.h5")
    return folder / "run.weights.h5"


def save_mindspore(trained, folder):
    mindspore = importlib.import_module("mindspore")
    held = {one.name: one for one in [*trained.model.get_parameters(), *trained.optimizer.get_parameters()]}
    mindspore.save_checkpoint([{"name": n, "data": one} for n, one in held.items()], str(folder / "run.ckpt"))
    return folder / "run.ckpt"


def save_paddle(trained, folder):
    paddle = importlib.import_module("paddle")
    paddle.save(trained.model.state_dict(), str(folder / "run.pdparams"))
    paddle.save(trained.optimizer.state_dict(), str(folder / "run.pdopt"))
    return folder / "run.pdopt"


SAVERS = {"torch": save_torch, "keras": save_keras, "mindspore": save_mindspore, "paddle": save_paddle}


def fresh(framework, config):
    def make():
        model = MODELS[framework]()
        return model, unirms.build(config, framework, model)

    return Trained(framework, make)


def new_file(framework, config, folder):
    """Return a file of a new model, as a user saves one to have it filled in."""
    new = fresh(framework, config)
    if framework == "paddle":  # whose optimizers have no state before their first step
        new.step(1, seed=9)
    return saved(new, folder, "new")


def saved(trained, folder, name):
    place = folder / name
    place.mkdir()
    with trained.inside():
        return SAVERS[trained.framework](trained, place)


def by_the_printed_lines(framework, done):
    """Return what the lines that the command prints make of a new model."""

    def make():
        known = {"unirms": unirms, framework: importlib.import_module(framework), "model": MODELS[framework]()}
        exec("\n".join(done.code()), known)
        return known["model"], known["optimizer"]

    return Trained(framework, make)


def assert_same(one, other):
    assert (one.step, one.config, one.learning_rate) == (other.step, other.config, other.learning_rate)
    for kind, arrays in one.tensors().items():
        assert set(arrays) == set(other.tensors()[kind])
        for name, array in arrays.items():
            assert array.tobytes() == other.tensors()[kind][name].tobytes(), (kind, name)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_a_file_of_this_framework_goes_to_unirms_and_back_and_the_training_goes_on_bit_for_bit(
    framework, tmp_path, config
):
    trained = fresh(framework, config)
    like = new_file(framework, config, tmp_path)
    trained.step(6, seed=1)
    old = saved(trained, tmp_path, "old")
    own = tmp_path / "s.safetensors"
    with inspect(old, config=config) as held:
        step = None if held.step is not None else 6  # Paddle's files say it by their scheduler alone
    done = migrate(old, own, weights=True, config=config, step=step)
    found, live = OptimizerState.load(own), trained.state()
    assert found.step == 6, done.notes
    assert found.learning_rate == pytest.approx(live.learning_rate, rel=1e-7)
    for kind, arrays in live.tensors().items():
        theirs = found.tensors()[kind]
        assert {n: a.tobytes() for n, a in arrays.items()} == {n: a.tobytes() for n, a in theirs.items()}, kind
    back = migrate(own, tmp_path / like.name, like=like, target_format=framework, weights=True)
    again = by_the_printed_lines(framework, back)
    trained.step(6, seed=2)
    again.step(6, seed=2)
    assert_same(trained.state(), replace(again.state(), learning_rate=trained.state().learning_rate))


def save_keras_whole(trained, folder):
    trained.model.compile(trained.optimizer, "mse")
    trained.model.save(folder / "run.keras")
    return folder / "run.keras"


def save_tf_checkpoint(trained, folder):
    tf = importlib.import_module("tensorflow")
    tf.train.Checkpoint(model=trained.model, optimizer=trained.optimizer).write(str(folder / "run"))
    return folder / "run"


@pytest.mark.parametrize(
    ("form", "save"),
    [
        pytest.param("torch-dcp", None, marks=pytest.mark.frameworks("torch")),
        pytest.param("keras", save_keras_whole, marks=pytest.mark.frameworks("keras")),
        pytest.param("tf-checkpoint", save_tf_checkpoint, marks=pytest.mark.frameworks("keras")),
    ],
)
@pytest.mark.parametrize("weights", [True, False])
def test_the_lines_for_the_other_forms_of_a_framework_go_on_too(framework, tmp_path, form, save, weights):
    trained = fresh(framework, CONFIGS["full"])
    trained.step(6, seed=1)
    truth = trained.state()
    truth.save(tmp_path / "s.safetensors")
    like = None if save is None else save(fresh(framework, CONFIGS["full"]), tmp_path)
    place = tmp_path / "new" / (like.name if like else "folder")
    place.parent.mkdir()
    done = migrate(tmp_path / "s.safetensors", place, target_format=form, like=like, weights=weights)
    known = {"unirms": unirms, "model": MODELS[framework]()}
    known |= {name: importlib.import_module(name) for name in unirms.registry.framework(framework).modules}
    known["tf"] = known.get("tensorflow")
    exec("\n".join(done.code()), known)
    found = unirms.state_of(known["optimizer"], model=known["model"])
    assert_same(truth if weights else replace(truth, weights=found.weights), replace(found, config=truth.config))


SOURCE = """
import sys
sys.path.insert(0, {tests!r})
from test_migrate import CONFIGS, fresh, save_torch
from pathlib import Path
trained = fresh("torch", CONFIGS["full"])
trained.step(6, seed=1)
folder = Path({folder!r})
save_torch(trained, folder)
trained.state().save(folder / "truth.safetensors")
"""

OI, OIHW = [1, 0], "OIHW->HWIO"
KERNELS = {
    "torch": ({}, {}),
    "keras": ({"axes": OIHW}, {"axes": OI}),
    "mindspore": ({}, {}),
    "paddle": ({}, {"axes": OI}),
}
"""How the kernels of the convolution and of the linear layer are permuted on the way from PyTorch."""
PLACES = ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "3.weight", "3.bias"]


def test_a_torch_checkpoint_becomes_one_of_this_framework_by_a_map(framework, tmp_path, request):
    script = SOURCE.format(tests=str(request.path.parent), folder=str(tmp_path))
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)
    truth = OptimizerState.load(tmp_path / "truth.safetensors")
    like = new_file(framework, CONFIGS["full"], tmp_path)
    theirs = [one.name for one in unirms.registry.adapter(framework).weights_of(MODELS[framework]())]
    conv, linear = KERNELS[framework]
    names = named(framework, theirs)
    names["0.weight"] = {"to": names["0.weight"], **conv}
    names["3.weight"] = {"to": names["3.weight"], **linear}
    done = migrate(
        tmp_path / "run.pt", tmp_path / like.name, like=like, names=names, target_format=framework, weights=True
    )
    going_on = by_the_printed_lines(framework, done).state()
    assert going_on.step == 6
    with inspect(tmp_path / like.name, format=framework, config=going_on.config) as held:
        assert held.step == 6
    axes = {"0.weight": (2, 3, 1, 0) if conv else (0, 1, 2, 3), "3.weight": (1, 0) if linear else (0, 1)}
    for kind, arrays in truth.tensors().items():
        for name, array in arrays.items():
            target = names[name] if isinstance(names[name], str) else names[name]["to"]
            expected = array.transpose(axes.get(name, range(array.ndim)))
            assert np.array_equal(going_on.tensors()[kind][target], expected), (kind, name)


def named(framework, theirs):
    """Return PyTorch's names with those of the same tensors of another framework's model."""
    ends = {"weight": ("weight", "kernel", "gamma"), "bias": ("bias", "beta")}
    ends |= {"running_mean": ("_mean", "running_mean", "moving_mean")}
    ends |= {"running_var": ("_variance", "running_var", "moving_variance")}
    found = {}
    layers = {"0": ("0.", "conv"), "1": ("1.", "norm"), "3": ("3.", "dense")}
    for place in PLACES:
        layer, _, part = place.partition(".")
        own = [n for n in theirs if n.startswith(layers[layer]) and n.endswith(ends[part]) and n not in found.values()]
        assert len(own) >= 1, (place, theirs)
        found[place] = own[0]
    return found
