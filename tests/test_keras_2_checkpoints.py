"""`tf.train.Checkpoint` of Keras 2's first RMSprop: what tf_keras 2.18 wrote is read; the reference goes on from it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from unirms import RMSPropConfig, reference
from unirms.adapters.checkpoints.protobuf import integer, message
from unirms.adapters.checkpoints.tensorflow import checkpoint, table
from unirms.adapters.checkpoints.tensorflow.bundle import entries
from unirms.adapters.checkpoints.tensorflow.object_graph import Graph
from unirms.checkpoints import recognizing
from unirms.errors import CheckpointError

# Written in a process with TF_USE_LEGACY_KERAS=1: three updates with the gradients times 1, 2 and 3, the checkpoint,
# and three more with the gradients times 4, 5 and 6.
RECORDED = Path(__file__).parent / "recorded" / "tf_keras-2.18"
TOLD = json.loads((RECORDED / "numbers.json").read_text())
CASES = TOLD["cases"]
SLOTS = {"rms": "mean_square", "momentum": "momentum", "mg": "mean_gradient"}


def config_of(name, **changes):
    return RMSPropConfig.from_native("keras-legacy", **CASES[name]["settings"] | changes)


def float32(arrays):
    return {name: np.float32(values) for name, values in arrays.items()}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("with_config", [False, True])
def test_a_file_holds_the_numbers_that_were_in_the_optimizer(tmp_path, name, with_config):
    held = checkpoint.read(RECORDED / name, tmp_path, config_of(name) if with_config else None)
    assert recognizing.of_source(RECORDED / name).name == held.format == "tf-checkpoint"
    assert held.parameters == ("a/kernel", "a/bias")
    assert held.step == 3
    assert held.learning_rate == CASES[name]["settings"]["learning_rate"]
    expected = {SLOTS[slot]: float32(arrays) for slot, arrays in CASES[name]["slots"].items()}
    expected["weights"] = float32(CASES[name]["weights"])
    assert set(held.tensors) == set(expected)
    for kind, arrays in expected.items():
        assert set(held.tensors[kind]) == set(arrays)
        for parameter, values in arrays.items():
            np.testing.assert_array_equal(held.tensors[kind][parameter].array(), values)
    rho = CASES[name]["settings"]["rho"]
    assert f"of the dialect keras-legacy; the file says rho {rho:g}" in held.notes[0]


@pytest.mark.parametrize("name", CASES)
def test_the_reference_goes_on_as_the_optimizer_did(tmp_path, name):
    state = checkpoint.read(RECORDED / name, tmp_path, config_of(name)).state()
    weights = dict(state.weights)
    for step in (4, 5, 6):
        gradients = {n: np.float32(values) * step for n, values in TOLD["gradients"].items()}
        weights, state = reference.step(config_of(name), weights, gradients, state)
    for parameter, values in float32(CASES[name]["weights_after_3_more"]).items():
        # Float32: a few roundings of numbers near 1 at each of three updates.
        np.testing.assert_allclose(weights[parameter], values, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("name", "changes", "match"),
    [
        ("plain", {"rho": 0.8}, r"has the rho 0.75, and the config 0.8"),
        ("momentum", {"momentum": 0.75}, r"has the momentum 0.5, and the config 0.75"),
        ("momentum", {"centered": True}, r"do not say the same of centered"),
        ("centered", {"centered": False}, r"do not say the same of centered"),
    ],
)
def test_a_config_that_says_something_else_is_refused(tmp_path, name, changes, match):
    with pytest.raises(CheckpointError, match=match):
        checkpoint.read(RECORDED / name, tmp_path, config_of(name, **changes))


def test_a_config_with_the_rate_outside_of_the_momentum_is_refused(tmp_path):
    outside = config_of("momentum").replace(lr_in_momentum=False)
    with pytest.raises(CheckpointError, match=r"take the config from the dialect keras-legacy"):
        checkpoint.read(RECORDED / "momentum", tmp_path, outside)


def copied(folder, name, key, value):
    """Return a copy of a checkpoint in which the tensor whose key begins so is another float32 or int64."""
    for path in RECORDED.glob(f"{name}.*"):
        shutil.copy(path, folder / path.name)
    entry = next(one for start, one in entries(folder / name).items() if start.startswith(key))
    data = bytearray(entry.path.read_bytes())
    data[entry.offset : entry.offset + entry.size] = value.tobytes()
    entry.path.write_bytes(data)
    return folder / name


def test_a_decay_lowers_the_rate_of_the_next_update(tmp_path):
    path = copied(tmp_path, "plain", "optimizer/decay", np.float32(0.5))
    assert checkpoint.read(path, tmp_path).learning_rate == 0.0625 / 2.5


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer/iter", np.int64(-1)),
        ("optimizer/learning_rate", np.float32(np.nan)),
        ("optimizer/rho", np.float32(-1)),
    ],
)
def test_numbers_that_no_optimizer_has_are_refused(tmp_path, key, value):
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.read(copied(tmp_path, "plain", key, value), tmp_path)


def test_slots_that_some_parameters_have_not_are_refused(tmp_path):
    for path in RECORDED.glob("momentum.*"):
        shutil.copy(path, tmp_path / path.name)
    index = tmp_path / "momentum.index"
    pairs = [
        pair
        for pair in table.read(index.read_bytes())
        if not pair[0].endswith(b"bias/.OPTIMIZER_SLOT/optimizer/rms/.ATTRIBUTES/VARIABLE_VALUE")
    ]
    with index.open("wb") as file:
        table.write(file, pairs)
    with pytest.raises(CheckpointError, match=r"is no slot of a parameter in it"):
        checkpoint.read(tmp_path / "momentum", tmp_path)


def an_object(slot):
    return message(1, message(3, slot))


@pytest.mark.parametrize(
    "graph",
    [
        an_object(integer(1, 7) + message(2, b"rms")),  # a variable that the graph has not
        an_object(integer(3, (1 << 64) - 1) + message(2, b"rms")),  # slot -1
        an_object(message(1, b"x") + message(2, b"rms")),  # text for a number
        an_object(integer(2, 5)),  # a number for a name
        an_object(message(2, b"\xff")),
        message(1, message(1, integer(2, 5))),  # the same of a part
        message(1, message(1, message(1, b"x"))),
    ],
)
def test_hostile_slots_are_refused(graph):
    with pytest.raises(CheckpointError, match="its object graph is damaged"):
        Graph.parsed(graph)
