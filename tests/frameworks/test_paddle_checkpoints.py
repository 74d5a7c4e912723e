"""PaddlePaddle: files of `paddle.save`, read and written; those that are damaged or hostile are refused."""

import os
import pickle
import random
import struct
import tracemalloc

import numpy as np
import pytest

import unirms
from unirms import RMSPropConfig, schedules
from unirms.checkpoints.checkpoint import Outgoing
from unirms.checkpoints.tensors import Moving
from unirms.conformance.drivers.paddle import DRIVER, paddle
from unirms.conformance.measures import same_bits
from unirms.errors import CheckpointError, StateError
from unirms.moving.moves import Move
from unirms.moving.planning import uses

from unirms.adapters.checkpoints import pickles  # isort: skip
from unirms.adapters.checkpoints.paddle import saved as files  # isort: skip
from unirms.adapters.checkpoints.paddle import pickles as paddle_pickles  # isort: skip
from unirms.adapters.checkpoints.paddle.names import NAME_TABLE  # isort: skip

pytestmark = [
    pytest.mark.filterwarnings("ignore:Tensor do not have 'place' interface:UserWarning"),
    # What Paddle says at every step of a batch normalization.
    pytest.mark.filterwarnings("ignore:When training, we now always track:UserWarning"),
]

STOCK = paddle.optimizer.RMSProp
STEP = schedules.Step(initial_learning_rate=2**-6, step_size=3, gamma=0.5)
CONFIGS = {
    "stock": RMSPropConfig(learning_rate=0.01, momentum=0.75, centered=True, epsilon=0.01),
    "stock, scheduled": RMSPropConfig(learning_rate=STEP, momentum=0.75),
    "exact": RMSPropConfig(learning_rate=0.01, nesterov=True, momentum=0.75, bias_correction=True),
    "everything": RMSPropConfig(
        learning_rate=STEP,
        momentum=0.5,
        nesterov=True,
        ema_decay=0.9,
        gradient_accumulation_steps=3,
        groups=({"match": ["*.bias"], "momentum": 0.0}, {"match": ["3.weight"], "centered": True}),
    ),
    "stock, plateau": RMSPropConfig(
        learning_rate=schedules.Plateau(initial_learning_rate=0.01, factor=0.5, patience=1), momentum=0.5
    ),
}
IMAGES = np.random.default_rng(0).normal(size=(30, 4, 1, 3, 3)).astype("float32")


class Training:
    """A small network in training, with names as in a process of its own."""

    def __init__(self, which, config=None):
        self.config = config or CONFIGS[which]
        self.names = paddle.base.unique_name.UniqueNameGenerator()
        with paddle.utils.unique_name.guard(self.names):
            nn = paddle.nn
            self.net = nn.Sequential(nn.Conv2D(1, 2, 3), nn.BatchNorm2D(2), nn.Flatten(), nn.Linear(2, 3))
            self.optimizer = unirms.build(self.config, "paddle", self.net)
        assert (type(self.optimizer) is STOCK) == which.startswith("stock")
        self.scheduler = unirms.lr_scheduler(self.optimizer)

    def go(self, first, last):
        for number in range(first, last):
            self.net(paddle.to_tensor(IMAGES[number])).square().mean().backward()
            with paddle.utils.unique_name.guard(self.names):
                self.optimizer.step()
            self.optimizer.clear_grad()
            if isinstance(self.scheduler, paddle.optimizer.lr.ReduceOnPlateau):
                self.scheduler.step([1.0, 2.0, 3.0][number % 3])
            elif self.scheduler is not None:
                self.scheduler.step()
        return self

    def state(self):
        return unirms.state_of(self.optimizer, model=self.net)

    def save(self, folder, layout, protocol=4):
        """Write a checkpoint in one of the ways of Paddle's users; return what to read."""
        model, state = self.net.state_dict(), self.optimizer.state_dict()
        if layout == "pair":
            paddle.save(model, str(folder / "a.pdparams"), protocol=protocol)
            paddle.save(state, str(folder / "a.pdopt"), protocol=protocol)
            return folder / "a.pdopt"
        nested = {"model": model, "opt": state, "epoch": 7, "best": [0.5, {"loss": np.arange(3.0)}]}
        paddle.save(nested, str(folder / "a.pdckpt"), protocol=protocol)
        return folder / "a.pdckpt"

    def load(self, path, layout):
        """Load a checkpoint as Paddle's users do; return what else is in it."""
        if layout == "pair":
            model, state = paddle.load(str(path.with_suffix(".pdparams"))), paddle.load(str(path.with_suffix(".pdopt")))
            rest = {}
        else:
            rest = paddle.load(str(path))
            model, state = rest.pop("model"), rest.pop("opt")
        assert self.net.set_state_dict(model) == ([], [])
        self.optimizer.set_state_dict(state)
        return rest


def read(path, tmp_path):
    spool = tmp_path / f"spool{len(list(tmp_path.glob('spool*')))}"
    spool.mkdir()
    return files.read(path, spool)


def outgoing(held, config, stock=False, weights=True, dtype=None):
    """Return what is to be written of what has been read, as `migrate` makes it."""
    moving = {
        kind: {
            name: Moving(source=one, move=Move(kind, name, name, dtype or one.dtype))
            for name, one in found.items()
            if uses(config.for_parameter(name)).get(kind, True)
        }
        for kind, found in held.tensors.items()
        if weights or kind != "weights"
    }
    return Outgoing(
        parameters=held.parameters,
        step=held.step or 0,
        micro_step=held.micro_step,
        learning_rate=held.learning_rate,
        plateau=held.plateau,
        config=config,
        tensors=moving,
        stock=stock,
    )


def holds(held, state, config):
    """Return whether what has been read is a live state."""
    found = held.state().tensors()
    for kind, arrays in state.tensors().items():
        used = {n: v for n, v in found[kind].items() if uses(config.for_parameter(n)).get(kind, True)}
        if not same_bits(used, arrays) or any(used[name].dtype != arrays[name].dtype for name in used):
            return False
    return True


# What Paddle writes


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("layout", ["pair", "nested"])
@pytest.mark.parametrize("which", CONFIGS)
def test_what_paddle_saves_is_read(which, layout, protocol, tmp_path):
    run = Training(which).go(0, 8)
    state = run.state()
    path = run.save(tmp_path, layout, protocol)
    held = read(path, tmp_path)
    assert holds(held, state, run.config)
    assert held.parameters == tuple(state.mean_square)
    assert held.micro_step == state.micro_step
    assert held.plateau == state.plateau
    stock = which.startswith("stock")
    assert held.config == (None if stock else state.config)
    counted = which in {"stock, scheduled", "exact", "everything"}
    assert held.step == (state.step if counted else None)
    assert held.learning_rate == (None if which == "stock" else state.learning_rate)
    assert any("writes no hyperparameters" in note for note in held.notes) == stock
    raw = all(str(path.parent) in one.path and "spool" not in one.path for one in held.tensors["weights"].values())
    assert raw == (protocol > 2)


def test_either_file_of_a_pair_and_their_common_name_are_read_as_both(tmp_path):
    run = Training("exact").go(0, 3)
    run.save(tmp_path, "pair")
    found = [read(tmp_path / name, tmp_path) for name in ("a.pdopt", "a.pdparams", "a")]
    assert found[0] == found[1] == found[2]
    (tmp_path / "a.pdopt").unlink()
    alone = read(tmp_path / "a.pdparams", tmp_path)
    assert (alone.parameters, set(alone.tensors)) == ((), {"weights"})
    with pytest.raises(CheckpointError, match="no such file"):
        read(tmp_path / "b", tmp_path)
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        read(tmp_path / "b.pdopt", tmp_path)


@pytest.mark.parametrize("which", ["stock, scheduled", "exact"])
def test_an_optimizer_by_itself_has_the_best_names_there_are(which, tmp_path):
    run = Training(which).go(0, 3)
    run.save(tmp_path, "pair")
    (tmp_path / "a.pdparams").unlink()
    held = read(tmp_path / "a.pdopt", tmp_path)
    if which == "exact":
        assert held.parameters == tuple(run.state().mean_square)
        assert held.notes == ()
    else:
        assert held.parameters == tuple(param.name for param in run.net.parameters() if not param.stop_gradient)
        assert "Paddle's own names" in held.notes[0]


def test_weights_of_another_process_are_told_by_order_and_shapes(tmp_path):
    run = Training("stock").go(0, 3)
    run.save(tmp_path, "pair")
    names = {key: value.numpy() for key, value in run.net.state_dict().items()}
    table = {key: f"elsewhere_{index}.w_0" for index, key in enumerate(names)}
    (tmp_path / "a.pdparams").write_bytes(pickle.dumps({**names, NAME_TABLE: table}))
    held = read(tmp_path / "a.pdopt", tmp_path)
    # The bias of the convolution and both vectors of the normalization have one shape: order tells, once the running
    # means are left out.
    assert held.parameters == ("0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias")
    assert any("told by order and shapes" in note for note in held.notes)
    names["4.weight"] = names["3.bias"]
    (tmp_path / "a.pdparams").write_bytes(pickle.dumps({**names, NAME_TABLE: {**table, "4.weight": "other"}}))
    assert "linear_0.b_0" in read(tmp_path / "a.pdopt", tmp_path).parameters


def shared():
    first, second = paddle.nn.Linear(3, 3), paddle.nn.Linear(3, 3)
    second.weight = first.weight
    return paddle.nn.Sequential(first, second)


@pytest.mark.parametrize("make", [shared, lambda: paddle.nn.LSTM(3, 4)])
def test_a_tensor_at_two_places_of_a_model_has_the_name_that_it_has_live(make, tmp_path):
    config = CONFIGS["stock"]
    with paddle.utils.unique_name.guard():
        net = make()
        optimizer = unirms.build(config, "paddle", net, policy="stock")
    for param in net.parameters():
        param.grad = paddle.ones_like(param)
    optimizer.step()
    paddle.save(net.state_dict(), str(tmp_path / "a.pdparams"))
    paddle.save(optimizer.state_dict(), str(tmp_path / "a.pdopt"))
    held, state = read(tmp_path / "a.pdopt", tmp_path), unirms.state_of(optimizer, model=net)
    assert len(net.state_dict()) > len(state.weights)
    assert holds(held, state, config)
    (tmp_path / "o").mkdir()
    files.write(tmp_path / "o" / "b.pdopt", outgoing(held, config, stock=True), tmp_path / "a.pdopt")
    back = paddle.load(str(tmp_path / "o" / "b.pdparams"))
    assert all((back[key].numpy() == one.numpy()).all() for key, one in net.state_dict().items())
    assert holds(read(tmp_path / "o" / "b.pdopt", tmp_path), state, config)


def test_an_optimizer_with_a_name_of_its_own(tmp_path):
    for name, which in (("mine", "stock"), ("mine", "exact")):
        with paddle.utils.unique_name.guard():
            net = paddle.nn.Linear(2, 3)
            optimizer = unirms.build(CONFIGS[which], "paddle", net, name=name)
            for param in net.parameters():
                param.grad = paddle.ones_like(param)
            optimizer.step()
        paddle.save(net.state_dict(), str(tmp_path / "a.pdparams"))
        paddle.save(optimizer.state_dict(), str(tmp_path / "a.pdopt"))
        held = read(tmp_path / "a.pdopt", tmp_path)
        state = unirms.state_of(optimizer, model=net)
        assert holds(held, state, CONFIGS[which])
        (tmp_path / "o").mkdir(exist_ok=True)
        files.write(tmp_path / "o" / "b.pdopt", outgoing(held, CONFIGS[which]), tmp_path / "a.pdopt")
        keys = set(pickle.loads((tmp_path / "o" / "b.pdopt").read_bytes()))
        assert set(pickle.loads((tmp_path / "a.pdopt").read_bytes())) <= keys
        assert holds(read(tmp_path / "o" / "b.pdopt", tmp_path), state, CONFIGS[which])


def test_parameters_without_a_gradient_so_far_begin_as_the_config_says(tmp_path):
    run = Training("exact", CONFIGS["exact"].replace(initial_mean_square=0.5, ema_decay=0.9))
    run.net[3].bias.stop_gradient = True
    run.go(0, 2)
    held = read(run.save(tmp_path, "pair"), tmp_path)
    assert holds(held, run.state(), run.config)
    assert (held.state().mean_square["3.bias"] == 0.5).all()
    fresh = Training("exact", run.config)
    held = read(fresh.save(tmp_path, "nested"), tmp_path)
    assert holds(held, fresh.state(), run.config)
    assert held.step == 0


@pytest.mark.parametrize(("case", "steps"), [("stock", 8), ("exact", 8), ("everything", 8), ("everything", 9)])
def test_a_program_is_read_and_written(case, steps, tmp_path):
    config = CONFIGS[case].replace(groups=())
    rng = np.random.default_rng(1)
    start = {name: rng.normal(size=shape).astype("float32") for name, shape in (("a.weight", (2, 3)), ("b", (4,)))}
    grads = [{name: rng.normal(size=value.shape).astype("float32") for name, value in start.items()} for _ in range(15)]

    def made():
        return DRIVER.start(lambda p, **k: unirms.build(config, "paddle", p, **k), start, "float32", "static")

    run = made()
    for grad in grads[:steps]:
        run.step(grad, None)
    (tmp_path / "in").mkdir()
    path, state = run.save(tmp_path / "in"), run.snapshot()
    held = read(path, tmp_path)
    assert holds(held, state, config)
    assert (held.step, held.micro_step) == (None if case == "stock" else state.step, state.micro_step)
    (tmp_path / "out").mkdir()
    like = made().save(tmp_path / "out")
    files.write(tmp_path / "out" / "b.pdopt", outgoing(held, config), like)
    assert holds(read(tmp_path / "out" / "b.pdopt", tmp_path), state, config)
    other = made()
    other.load(tmp_path / "out" / "b.pdopt")
    for grad in grads[steps:]:
        run.step(grad, None)
        other.step(grad, None)
    assert same_bits(run.weights(), other.weights())


# What is written


@pytest.mark.parametrize("layout", ["pair", "nested"])
@pytest.mark.parametrize("which", CONFIGS)
def test_paddle_goes_on_from_what_is_written(which, layout, tmp_path):
    run = Training(which).go(0, 8)
    held = read(run.save(tmp_path, layout), tmp_path)
    if which == "stock, plateau":
        held = held.model_copy(update={"step": 8})
    (tmp_path / "like").mkdir()
    like = Training(which).go(0, 2).save(tmp_path / "like", layout)
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / like.name
    files.write(path, outgoing(held, run.config), like)
    other, twin = Training(which).go(0, 3), Training(which).go(0, 1)
    rest = other.load(path, layout)
    assert set(rest) == (set() if layout == "pair" else {"epoch", "best"})
    if rest:
        assert rest["epoch"] == 7
        assert rest["best"][1]["loss"].tolist() == [0.0, 1.0, 2.0]
    unirms.restore(twin.optimizer, run.state(), model=twin.net)
    for one in (run, other, twin):
        one.go(8, 16)
    tensors = [one.state().tensors() for one in (run, other, twin)]
    assert all(same_bits(tensors[0][kind], found[kind]) for found in tensors[1:] for kind in found)
    assert run.optimizer.get_lr() == other.optimizer.get_lr()


@pytest.mark.parametrize("which", ["stock", "everything"])
def test_a_model_that_has_never_trained_is_pattern_enough(which, tmp_path):
    run = Training(which).go(0, 8)
    held = read(run.save(tmp_path, "pair"), tmp_path)
    paddle.save(Training(which).net.state_dict(), str(tmp_path / "like.pdparams"))
    (tmp_path / "out").mkdir()
    files.write(tmp_path / "out" / "b.pdopt", outgoing(held, run.config), tmp_path / "like.pdparams")
    other = Training(which)
    other.load(tmp_path / "out" / "b.pdopt", "pair")
    for one in (run, other):
        one.go(8, 12)
    assert same_bits(run.state().weights, other.state().weights)
    back = read(tmp_path / "out" / "b.pdopt", tmp_path)
    assert (back.config, back.parameters) == (run.config, held.parameters)


def test_without_a_pattern_only_the_exact_class_finds_its_accumulators(tmp_path):
    held = read(Training("stock").go(0, 3).save(tmp_path, "pair"), tmp_path)
    for stock, config in ((False, CONFIGS["stock"]), (True, CONFIGS["stock"])):
        with pytest.raises(CheckpointError, match="Paddle finds the accumulators of a parameter by its own name"):
            files.write(tmp_path / "b.pdopt", outgoing(held, config, stock=stock), None)
    assert not (tmp_path / "b.pdopt").exists()
    run = Training("everything").go(0, 8)
    held = read(run.save(tmp_path, "pair"), tmp_path)
    for layout, name in (("pair", "b.pdopt"), ("nested", "b.any")):
        files.write(tmp_path / name, outgoing(held, run.config), None)
        other = Training("everything").go(0, 1)
        other.load(tmp_path / name, layout)
        other.go(8, 12)
        twin = Training("everything")
        unirms.restore(twin.optimizer, held.state(), model=twin.net)
        assert same_bits(twin.go(8, 12).state().weights, other.state().weights)


def test_a_program_of_other_names_takes_the_exact_class_by_the_users(tmp_path):
    run = Training("exact").go(0, 4)
    state = {
        key: value.numpy() if hasattr(value, "numpy") else value for key, value in run.optimizer.state_dict().items()
    }
    other = Training("exact")
    with paddle.utils.unique_name.guard("other_"):
        net = paddle.nn.Sequential(*[type(layer)(*args) for layer, args in zip(other.net, ARGUMENTS, strict=True)])
        net.set_state_dict(run.net.state_dict())
        optimizer = unirms.build(run.config, "paddle", net)
        optimizer.set_state_dict(state)
        assert all(param.name.startswith("other_") for param in net.parameters())
        found = unirms.state_of(optimizer)
    assert found.step == 4
    assert all(same_bits(found.tensors()[kind], run.state().tensors()[kind]) for kind in ("mean_square", "momentum"))


ARGUMENTS = ((1, 2, 3), (2,), (), (2, 3))


def test_a_parameter_that_the_pattern_has_not_is_refused(tmp_path):
    held = read(Training("stock").go(0, 3).save(tmp_path, "pair"), tmp_path)
    with paddle.utils.unique_name.guard():
        paddle.save(paddle.nn.Linear(2, 3).state_dict(), str(tmp_path / "like.pdparams"))
    with pytest.raises(CheckpointError, match=r"nothing tells that of '0.weight'"):
        files.write(tmp_path / "b.pdopt", outgoing(held, CONFIGS["stock"]), tmp_path / "like.pdparams")


def test_two_files_are_no_pattern_of_one(tmp_path):
    run = Training("stock").go(0, 3)
    held = read(run.save(tmp_path, "pair"), tmp_path)
    with pytest.raises(CheckpointError, match="is one file and --like two"):
        files.write(tmp_path / "b.any", outgoing(held, run.config), tmp_path / "a.pdopt")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_dtypes_are_written_as_paddle_has_them(dtype, tmp_path):
    held = read(Training("exact").go(0, 3).save(tmp_path, "pair"), tmp_path)
    files.write(tmp_path / "b.pdopt", outgoing(held, CONFIGS["exact"], dtype=dtype), None)
    loaded = paddle.load(str(tmp_path / "b.pdparams"))["3.weight"]
    assert str(loaded.dtype) == f"paddle.{dtype}"
    back = read(tmp_path / "b.pdopt", tmp_path)
    assert back.tensors["momentum"]["3.weight"].dtype == dtype
    assert (back.state().weights["3.weight"] == loaded.astype("float64").numpy()).all()


def test_a_value_that_is_none_is_read_and_not_written(tmp_path):
    run = Training("exact").go(0, 3)
    run.optimizer._accumulators["momentum"][run.net[3].bias.name].set_value(np.full(3, np.nan, "float32"))
    held = read(run.save(tmp_path, "pair"), tmp_path)
    assert np.isnan(held.state().momentum["3.bias"]).all()
    with pytest.raises(StateError, match="NaN"):
        files.write(tmp_path / "b.pdopt", outgoing(held, run.config), None)


def test_a_folder_that_is_not_there(tmp_path):
    held = read(Training("exact").go(0, 3).save(tmp_path, "pair"), tmp_path)
    with pytest.raises(CheckpointError, match="cannot be written"):
        files.write(tmp_path / "none" / "b.pdopt", outgoing(held, CONFIGS["exact"]), None)


def test_no_tensor_is_in_memory_as_a_whole(tmp_path):
    whole = np.ones((1 << 12, 1 << 12), "float32")  # 64 MiB
    kinds = ("momentum", "mean_square", "mean_grad")
    for protocol in (4, 2):
        paddle.save(
            {f"linear_0.w_0_{kind}_0": paddle.to_tensor(whole) for kind in kinds}, str(tmp_path / "a.pdopt"), protocol
        )
        tracemalloc.start()
        held = read(tmp_path / "a.pdopt", tmp_path)
        files.write(tmp_path / "b.pdopt", outgoing(held, CONFIGS["stock"]), None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1.2 * whole.nbytes
        assert (paddle.load(str(tmp_path / "b.pdopt"))["linear_0.w_0_momentum_0"].numpy() == 1).all()


# Pickles of other kinds


def optimizer_of(array, **more):
    return {"w_momentum_0": array, "w_mean_square_0": array, "w_mean_grad_0": array, **more}


PLATEAU = {"last_epoch": 1, "last_lr": 0.1, "num_bad_epochs": 1, "cooldown_counter": 0}


def found_in(data, tmp_path, protocol=4):
    (tmp_path / "a.any").write_bytes(data if isinstance(data, bytes) else pickle.dumps(data, protocol))
    return read(tmp_path / "a.any", tmp_path)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(6.0).reshape(2, 3).astype(">f4"),
        np.asfortranarray(np.arange(24.0).reshape(2, 3, 4).astype(">f8")),
        np.asfortranarray(np.arange(6, dtype="uint16").reshape(2, 3) + 16256),
        np.array(2.5),
        np.empty((0, 3)),
        np.arange(4000.0).reshape(2, 2000).T,
        np.arange(5.0, dtype="float16"),
        np.array([1 + 2j]),
    ],
)
def test_arrays_of_every_kind_are_read(array, protocol, tmp_path):
    held = found_in(optimizer_of(array), tmp_path, protocol)
    values = held.state().mean_square["w"]
    expected = (array.astype("uint32") << 16).view("float32") if array.dtype == np.uint16 else array
    assert same_bits({"w": values}, {"w": expected})
    assert held.tensors["mean_square"]["w"].dtype == ("bfloat16" if array.dtype == np.uint16 else array.dtype.name)


@pytest.mark.parametrize("protocol", [2, 3])
def test_tensors_that_are_cut_into_slices_are_made_whole(protocol, tmp_path, monkeypatch):
    array = np.arange(6000.0, dtype="float32").reshape(2, 3000)
    slices = {f"w_mean_square_0@@.{index}": part for index, part in enumerate(np.split(array.ravel(), 4))}
    cut = {"w_mean_square_0": {"OriginShape": array.shape, "slices": list(slices)}}
    data = {"w_momentum_0": array, **slices, "UnpackBigParamInfor@@": cut}
    held = found_in(data, tmp_path, protocol)
    assert same_bits(held.state().mean_square, {"w": array})
    assert (paddle.load(str(tmp_path / "a.any"), return_numpy=True)["w_mean_square_0"] == array).all()


def test_tensors_of_a_static_graph_in_a_nest_are_calls_of_eval_that_are_not_made(tmp_path):
    array = np.arange(3.0, dtype="float32")
    dense = paddle.base.core.DenseTensor()
    dense.set(array, paddle.CPUPlace())
    paddle.save({"opt": optimizer_of(dense), "epoch": 3}, str(tmp_path / "a.any"))
    assert b"eval" in (tmp_path / "a.any").read_bytes()
    assert same_bits(read(tmp_path / "a.any", tmp_path).state().mean_square, {"w": array})


def test_a_tensor_at_several_places_is_one(tmp_path):
    """It is copied once where it is not raw in the file, and written once into a file of the same structure."""
    array = np.asfortranarray(np.arange(10000.0, dtype="float32").reshape(100, 100))
    other = np.ones(10000)
    data = {"model": {f"w{index}": array for index in range(20)}, "opt": optimizer_of(array), "more": [other] * 20}
    held = found_in(data, tmp_path)
    (spool,) = tmp_path.glob("spool*/tensors")
    assert spool.stat().st_size == array.nbytes
    assert all(np.array_equal(one.array(), array) for found in held.tensors.values() for one in found.values())
    changed = {"w0": Moving(source=held.tensors["weights"]["w0"], move=Move("weights", "w0", "w0", "float32"))}
    content = outgoing(held, CONFIGS["stock"]).model_copy(update={"parameters": (), "tensors": {"weights": changed}})
    files.write(tmp_path / "b.any", content, tmp_path / "a.any")
    assert (tmp_path / "b.any").stat().st_size < 2 * array.nbytes + other.nbytes + 10000
    copied = paddle.load(str(tmp_path / "b.any"), return_numpy=True)
    assert np.array_equal(copied["model"]["w0"], array)
    assert np.array_equal(copied["model"]["w19"], array)
    assert all(np.array_equal(one, other) for one in copied["more"])


def test_a_config_with_a_long_table_is_read_again(tmp_path):
    rates = schedules.Table(learning_rates=np.random.default_rng(0).random(100_000).tolist())
    held = found_in(optimizer_of(np.ones(2)), tmp_path)
    config = RMSPropConfig(learning_rate=rates, momentum=0.5, nesterov=True)
    (tmp_path / "b").mkdir()
    files.write(tmp_path / "b" / "x.pdopt", outgoing(held, config), None)
    assert read(tmp_path / "b" / "x.pdopt", tmp_path).config == config


def test_nothing_is_written_of_nothing_and_no_file_is_found_at_a_folder(tmp_path):
    files.write(tmp_path / "a.pdopt", Outgoing(parameters=(), tensors={}), None)
    os.mkfifo(tmp_path / "pipe.pdopt")
    (tmp_path / "folder.pdparams").mkdir()
    for path in (".", "/", "", tmp_path / "pipe"):
        with pytest.raises(CheckpointError, match="there is no such file"):
            files.read(type(tmp_path)(path), tmp_path)
    for name in ("pipe.pdopt", "folder.pdparams"):
        with pytest.raises(CheckpointError, match="is no file"):
            files.read(tmp_path / name, tmp_path)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"w_unirms_gradient_sum_0": np.zeros(2, "int32")}, "is int32, which no state has"),
        ({"unirms_micro_step": np.zeros(1 << 20, "int8")}, "unirms_micro_step is no single number"),
    ],
)
def test_what_is_no_pattern(more, message, tmp_path):
    held = found_in(optimizer_of(np.ones(2)), tmp_path)
    (tmp_path / "like.any").write_bytes(pickle.dumps(optimizer_of(np.ones(2), **more), 4))
    with pytest.raises(CheckpointError, match=message):
        files.write(tmp_path / "b.any", outgoing(held, CONFIGS["stock"]), tmp_path / "like.any")


def test_numbers_of_numpy_s_are_numbers(tmp_path):
    place = {"last_epoch": np.int64(3), "last_lr": np.float64(0.5)}
    held = found_in(optimizer_of(np.ones(2), LR_Scheduler=place), tmp_path)
    assert (held.step, held.learning_rate) == (3, 0.5)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1, 2], "holds no state dictionary, but a list"),
        ({"epoch": 3}, "holds no tensors"),
        ({"g": optimizer_of(np.ones(2)), "d": optimizer_of(np.ones(2))}, "several optimizers in it, g, d"),
        ({"one": {"w": np.ones(2)}, "two": {"w": np.ones(2)}}, "several models in it, one, two"),
        (optimizer_of(np.ones(2), master_weights={"w": np.ones(2)}), "master weights of mixed precision"),
        (optimizer_of(np.ones(2), w_momentum_1=np.ones(2)), "two accumulators"),
        (optimizer_of(np.ones(2, "int32")), "has the dtype int32"),
        (optimizer_of(np.array(["a"])), "elements that are no numbers"),
        (optimizer_of(np.array([{}])), "has no bytes|no numbers"),
        (optimizer_of(np.ones(2), unirms_step=-1), "count of updates is no whole number"),
        (optimizer_of(np.ones(2), unirms_step=np.ones(2)), "count of updates is no whole number"),
        (optimizer_of(np.ones(2), LR_Scheduler={"last_epoch": "x", "last_lr": 0.1}), "last_epoch is no whole number"),
        (optimizer_of(np.ones(2), LR_Scheduler={"last_epoch": 1, "last_lr": np.nan}), "has no learning rate"),
        (optimizer_of(np.ones(2), LR_Scheduler={"last_epoch": 1, "last_lr": 10**400}), "has no learning rate"),
        (optimizer_of(np.ones(2), LR_Scheduler=PLATEAU | {"best": 10**400}), "best metric .* is no number"),
        (optimizer_of(np.ones(2), LR_Scheduler=PLATEAU | {"best": [1.0]}), "best metric .* is no number"),
        ({f"m{index}": {"w": np.ones(2)} for index in range(500)}, "m4 and 495 more; save one"),
        ({f"m{index}": optimizer_of(np.ones(2)) for index in range(500)}, "m4 and 495 more; save that of one"),
        (optimizer_of(np.ones((1,) * 33)), "a tensor has no shape"),
        (optimizer_of(np.ones(2), unirms_config=3), "no names of parameters"),
        (optimizer_of(np.ones(2), unirms_config={"config": "{", "names": {}}), "config cannot be read"),
        (optimizer_of(np.ones(2), unirms_config={"config": "[" * 10**5, "names": {}}), "config cannot be read"),
        (optimizer_of(np.ones(2), unirms_config={"config": '{"rho": 3}', "names": {}}), "config cannot be read: rho"),
        ({"../../x": np.ones(2)}, "leads out of its folder"),
        ({"/etc/passwd": np.ones(2)}, "leads out of its folder"),
        ({f"/x_{kind}_0": np.ones(2) for kind in ("momentum", "mean_square")}, "leads out of its folder"),
        ({"a\nb": np.ones(2)}, "control characters"),
    ],
)
def test_what_is_no_state_is_refused_in_one_line(data, message, tmp_path):
    with pytest.raises(CheckpointError, match=message) as error:
        found_in(data, tmp_path)
    assert "\n" not in str(error.value)


def test_of_several_models_the_one_of_the_accumulators_or_of_the_usual_key_is_read(tmp_path):
    run = Training("stock").go(0, 2)
    data = {"ema": {"x": paddle.ones([2])}, "network": run.net.state_dict(), "optimizer": run.optimizer.state_dict()}
    paddle.save(data, str(tmp_path / "a.any"))
    assert set(read(tmp_path / "a.any", tmp_path).tensors["weights"]) == set(run.net.state_dict())
    data = {"ema": run.net.state_dict(), "model": run.net.state_dict()}
    paddle.save(data, str(tmp_path / "a.any"))
    assert set(read(tmp_path / "a.any", tmp_path).tensors["weights"]) == set(run.net.state_dict())


# Hostile files


class Runs:
    """What makes a folder where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


class Evaluates(Runs):
    def __reduce__(self):
        return eval, ("data", {"data": np.ones(2), "__import__('os').mkdir('x')": 1})


class Says(Runs):
    def __reduce__(self):
        return eval, (f"__import__('os').mkdir({self.path!r})", {"data": np.ones(2)})


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("hostile", [Runs, Evaluates, Says])
def test_a_pickle_that_runs_code_is_refused_and_nothing_is_run(hostile, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "made"
    with pytest.raises(CheckpointError, match=r"mkdir|code to be run|none of plain data"):
        found_in(optimizer_of(np.ones(2), more=hostile(str(place))), tmp_path, protocol)
    assert not place.exists()
    assert not (tmp_path / "x").exists()


def test_nothing_that_a_pickle_names_is_imported(tmp_path):
    before = set(__import__("sys").modules)
    for name in (b"cantor_dust", b"antigravity"):
        with pytest.raises(CheckpointError, match=name.decode()):
            found_in(b"\x80\x04c" + name + b"\nx\n.", tmp_path)
    assert set(__import__("sys").modules) == before


def nested(levels):
    value = "x"
    for _ in range(levels):
        value = (value, value)
    return value


def listed(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


def looped():
    value = {}
    value["itself"] = value
    return value


def shared(levels):
    """Return lists in one another, of which no deeper part than 25 is new at any place."""
    found, inner = {}, "x"
    for index in range(levels // 25):
        for _ in range(25):
            inner = [inner]
        found[f"k{index}"] = inner
    return found


ARRAY = pickle.dumps(np.ones(2), 4)
EMPTY = pickle.dumps({"w": np.empty((0, 7, 9))}, 4)
LONG = b"\x8a\x08" + struct.pack("<q", 1 << 61)


class Overlapping:
    """An array whose bytes are those of all others of its kind."""

    bytes = np.ones(1000).tobytes()

    def __reduce__(self):
        from_buffer = np.ones(1).__reduce_ex__(5)[0]
        return from_buffer, (self.bytes, np.dtype("float64"), (500, 2), "F")


def test_tensors_of_the_same_bytes_are_refused_before_any_is_copied(tmp_path):
    """Thousands of large ones, each copied by itself, would fill the disk."""
    with pytest.raises(CheckpointError, match="its tensors have more bytes than it"):
        found_in({f"w{index}": Overlapping() for index in range(10)}, tmp_path)
    assert not list(tmp_path.glob("spool*/*"))
    assert found_in({"w": Overlapping()}, tmp_path).tensors["weights"]["w"].array().shape == (500, 2)
    part = np.ones(1000)
    cut = {f"w{index}": {"OriginShape": (2000,), "slices": [f"w{index}@@.0", f"w{index}@@.1"]} for index in range(10)}
    slices = {name: part for one in cut.values() for name in one["slices"]}
    with pytest.raises(CheckpointError, match="its tensors have more bytes than it"):
        found_in({**slices, "UnpackBigParamInfor@@": cut}, tmp_path)


def test_texts_that_fill_the_memory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pickles, "MOST_BYTES", 10_000)
    found_in({"w": np.ones(2), "more": [f"{index}" * 100 for index in range(9)]}, tmp_path)
    with pytest.raises(CheckpointError, match="more than 10000 letters"):
        found_in({"w": np.ones(2), "more": [f"{index % 10}" * 100 + f"{index}" for index in range(99)]}, tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        b"\x80\x04",
        b"\x80\x04}",
        b"\x80\x04.",
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b".",
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"x.",
        b"\x80\x04B\xff\xff\xff\xffx.",
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"}.",
        b"\x80\x04" + b"}" * (paddle_pickles.MOST_OPERATIONS + 10),
        b"\x80\x04" + b"(" * 10**6 + b".",
        b"\x80\x04}\x94(" + b"X\x01\x00\x00\x00ah\x00u.",  # a dict in itself
        b"\x80\x04]\x94" + b"h\x00a" * 1000 + b".",
        b"\x80\x04" + b")" + b"\x85" * 100_000 + b"}.",
        b"\x80\x04c" + b"x" * 10**6,
        b"\x80\x04\x8a\xff" + b"\x7f" * 255 + b".",
        pickle.dumps(optimizer_of(nested(60)), 4),
        pickle.dumps({"more": nested(60), **optimizer_of(np.ones(2), x=nested(60))}, 4),
        pickle.dumps(optimizer_of(np.ones(2), more=listed(100)), 4),
        pickle.dumps(looped(), 4),
        pickle.dumps({"opt": optimizer_of(np.ones(2)), "more": shared(1500)}, 4),
        EMPTY.replace(b"K\x00K\x07K\x09\x87", b"K\x00" + LONG + LONG + b"\x87"),
        b"\x80\x02ccollections\nOrderedDict\n](](" + b")" + b"\x85" * 10**6 + b"K\x01ee\x85R.",
        ARRAY.replace(b"K\x02\x85", b"J\xff\xff\xff\x7f\x85"),
        ARRAY.replace(b"K\x02\x85", b"J\xff\xff\xff\xff\x85"),
        b"\x80\x04}" + pickle.dumps(nested(100), 4)[2:-1] + b"Ns.",
        b"\x80\x04" + pickle.dumps(nested(100), 4)[2:-1] + b"\x8c\x01x\x93.",
    ],
)
def test_absurd_sizes_and_nests_are_refused_without_taking_memory_or_time(data, tmp_path):
    tracemalloc.start()
    with pytest.raises(CheckpointError) as error:
        found_in(data, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300 << 20
    assert len(str(error.value)) < 1000


@pytest.mark.slow
def test_mutated_files_are_read_or_refused(tmp_path):
    rng = random.Random(20261122)
    contents = []
    for protocol in (2, 4):
        run = Training("everything").go(0, 4)
        contents.append(run.save(tmp_path, "nested", protocol).read_bytes())
        contents.append(run.save(tmp_path, "pair", protocol).read_bytes())
    contents.append(pickle.dumps({"model": {"w": np.ones(3)}, "opt": optimizer_of(np.ones(3), unirms_step=3)}, 5))
    refused = 0
    for number in range(1000):
        content = mutated(contents[number % len(contents)], rng)
        try:
            held = found_in(content, tmp_path)
            for found in held.tensors.values():
                for one in found.values():
                    one.array()
            if held.config is not None and held.tensors.get("mean_square"):
                files.write(tmp_path / "out.any", outgoing(held, held.config), tmp_path / "a.any")
        except (CheckpointError, StateError) as error:
            refused += 1
            assert "\n" not in str(error)
        for spool in tmp_path.glob("spool*/*"):
            spool.unlink()
        for spool in tmp_path.glob("spool*"):
            spool.rmdir()
    assert 300 < refused < 1000


def mutated(content, rng):
    """Return bytes with some flipped, cut, inserted or repeated."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5])):
        if not data:
            return b""
        place, kind = rng.randrange(len(data)), rng.randrange(5)
        if kind == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[place] = rng.choice(b".()}]\x85\x86\x94\x93R\x00\xffhbctuX")
        elif kind == 2:
            del data[place : place + rng.choice([1, 2, 8, 100])]
        elif kind == 3:
            data[place:place] = bytes(rng.randrange(256) for _ in range(rng.choice([1, 4, 9])))
        else:
            data = data[: place + 1]
    return bytes(data)
