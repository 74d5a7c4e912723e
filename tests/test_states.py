"""unirms's own file of a state: what goes in comes out, what is damaged or foreign is refused in one line."""

import json
import math
import os
import random
import stat
import struct
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import unirms
from unirms import RMSPropConfig, StateError, reference
from unirms.checkpoints import safetensors, states
from unirms.checkpoints.checkpoint import Outgoing
from unirms.checkpoints.tensors import Moving, Stored
from unirms.errors import CheckpointError, ConfigError
from unirms.moving import Move
from unirms.schedules import Plateau, Step
from unirms.schedules.plateau import PlateauState
from unirms.state import OptimizerState

FULL = RMSPropConfig(
    learning_rate=Step(initial_learning_rate=0.01, step_size=3),
    momentum=0.9,
    centered=True,
    ema_decay=0.99,
    gradient_accumulation_steps=2,
    groups=[{"match": "*bias", "learning_rate_factor": 0.1}],
)
SHAPES = {"encoder/kernel": (4, 3), "encoder/bias": (4,), "scale": (), "empty": (0, 3)}


def a_state(dtype="float32", config=FULL, seed=0):
    values = np.random.default_rng(seed)

    def arrays():
        return {name: (values.random(shape) + 0.5).astype(dtype) for name, shape in SHAPES.items()}

    return OptimizerState(
        7,
        arrays(),
        arrays(),
        arrays(),
        arrays(),
        gradient_sum=arrays(),
        micro_step=1,
        learning_rate=0.0001,
        config=config,
        weights={**arrays(), "norm/running_mean": np.ones(4, dtype)},
    )


def assert_same(one, other):
    for kind, arrays in one.tensors().items():
        assert list(arrays) == list(other.tensors()[kind])
        for name, array in arrays.items():
            assert array.dtype == other.tensors()[kind][name].dtype
            assert array.shape == other.tensors()[kind][name].shape
            assert array.tobytes() == other.tensors()[kind][name].tobytes(), (kind, name)
    for field in ("step", "micro_step", "plateau", "learning_rate", "config"):
        assert getattr(one, field) == getattr(other, field)


def refused(path):
    with pytest.raises(CheckpointError) as caught:
        OptimizerState.load(path)
    message = str(caught.value)
    assert message.isprintable(), "one line"
    assert len(message) < 1000
    return message


def saved(tmp_path, **changes):
    path = tmp_path / "state.safetensors"
    replace(a_state(), **changes).save(path)
    return path


def mangled(path, change):
    """Change the header of a file, as data, and write it with the same elements."""
    whole = path.read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])
    return path


def restated(path, change):
    """Change what the metadata says."""

    def inside(header):
        said = json.loads(header["__metadata__"]["unirms"])
        change(said)
        header["__metadata__"]["unirms"] = json.dumps(said)

    return mangled(path, inside)


# --- what goes in comes out ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
def test_a_state_survives_its_file_bit_for_bit(tmp_path, dtype):
    state = a_state(dtype)
    state.save(tmp_path / "state.safetensors")
    assert_same(state, OptimizerState.load(tmp_path / "state.safetensors"))


def test_a_training_goes_on_from_a_file_as_if_nothing_had_happened(tmp_path):
    config = RMSPropConfig(momentum=0.9, centered=True)
    gradients = [{"w": np.random.default_rng(i).normal(size=5)} for i in range(8)]
    weights, state = {"w": np.ones(5)}, None
    state = reference.init(config, weights)
    for index, gradient in enumerate(gradients):
        if index == 4:
            replace(state, config=config, weights=weights).save(tmp_path / "s.safetensors")
            loaded = OptimizerState.load(tmp_path / "s.safetensors")
        weights, state = reference.step(config, weights, gradient, state)
    again, second = dict(loaded.weights), loaded
    for gradient in gradients[4:]:
        again, second = reference.step(config, again, gradient, second)
    assert again["w"].tobytes() == weights["w"].tobytes()


def test_arrays_are_mapped_from_the_file_and_aligned(tmp_path):
    mixed = replace(a_state(), weights={"half": np.ones(3, np.float16), "wide": np.ones(3)})
    mixed.save(tmp_path / "s.safetensors")
    loaded = OptimizerState.load(tmp_path / "s.safetensors")
    for arrays in loaded.tensors().values():
        for name, array in arrays.items():
            assert name == "empty" or isinstance(array, np.memmap)
            assert array.flags.aligned
    with pytest.raises(ValueError, match="read-only"):
        loaded.mean_square["scale"][...] = 1


def test_a_plateau_keeps_its_place_also_before_its_first_metric(tmp_path):
    config = RMSPropConfig(learning_rate=Plateau(initial_learning_rate=0.1, mode="max"))
    for place in (PlateauState(0.05, -math.inf), PlateauState(0.1, 0.7, 2, 1)):
        path = saved(tmp_path, plateau=place, config=config)
        assert OptimizerState.load(path).plateau == place


def test_views_and_foreign_byte_orders_are_written_as_they_read(tmp_path):
    odd = np.arange(12.0).reshape(3, 4).T[::2]
    path = saved(tmp_path, weights={"view": odd, "big": np.arange(5.0).astype(">f8")})
    loaded = OptimizerState.load(path)
    assert np.array_equal(loaded.weights["view"], odd)
    assert np.array_equal(loaded.weights["big"], np.arange(5.0))


def test_the_library_itself_reads_what_is_written(tmp_path):
    state = a_state()
    state.save(tmp_path / "s.safetensors")
    tensors = load_file(tmp_path / "s.safetensors")
    assert np.array_equal(tensors["momentum/encoder/kernel"], state.momentum["encoder/kernel"])
    assert len(tensors) == sum(len(arrays) for arrays in state.tensors().values())


def test_tensors_larger_than_a_piece_are_written_whole(tmp_path):
    large = np.random.default_rng(0).random((5000, 1000))
    path = saved(tmp_path, weights={"turned": large.T, "large": large})
    loaded = OptimizerState.load(path)
    assert np.array_equal(loaded.weights["turned"], large.T)
    assert np.array_equal(loaded.weights["large"], large)


def test_a_file_replaces_the_one_that_it_was_loaded_from(tmp_path):
    path = saved(tmp_path)
    loaded = OptimizerState.load(path)
    replace(loaded, step=8).save(path)
    assert_same(OptimizerState.load(path), replace(a_state(), step=8))
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.safetensors"]


# --- several files ---------------------------------------------------------------------------------------------------


def test_shards_are_called_and_indexed_as_those_of_hugging_face(tmp_path):
    state = a_state()
    state.save(tmp_path / "s.safetensors", shard_bytes=150)
    names = sorted(entry.name for entry in tmp_path.iterdir())
    count = len(names) - 1
    assert names == [
        *(f"s-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)),
        "s.safetensors.index.json",
    ]
    index = json.loads((tmp_path / "s.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(
        a.nbytes for arrays in state.tensors().values() for a in arrays.values()
    )
    assert set(index["weight_map"].values()) == set(names) - {"s.safetensors.index.json"}
    for path in ("s.safetensors", "s.safetensors.index.json"):
        assert_same(state, OptimizerState.load(tmp_path / path))


def test_no_shard_is_larger_than_asked_for_unless_one_tensor_is(tmp_path):
    a_state().save(tmp_path / "s.safetensors", shard_bytes=30)
    for shard in tmp_path.glob("s-*.safetensors"):
        sizes = [array.nbytes for array in load_file(shard).values()]
        assert sum(sizes) <= 30 or len(sizes) == 1


def test_saving_again_leaves_no_file_of_the_former_state(tmp_path):
    path = tmp_path / "s.safetensors"
    a_state().save(path, shard_bytes=30)
    a_state(seed=1).save(path, shard_bytes=300)
    assert_same(a_state(seed=1), OptimizerState.load(path))
    a_state(seed=2).save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.safetensors"]
    a_state(seed=3).save(path, shard_bytes=300)
    assert not path.exists()
    assert_same(a_state(seed=3), OptimizerState.load(path))


def test_saving_leaves_foreign_files_beside_it_alone(tmp_path):
    foreign = tmp_path / "s-00001-of-00002.safetensors"
    save_file({"a": np.ones(2)}, foreign)
    (tmp_path / "s-00002-of-00002.safetensors").write_bytes(b"something else")
    a_state().save(tmp_path / "s.safetensors")
    assert len(list(tmp_path.iterdir())) == 3


def sharded(tmp_path, change):
    a_state().save(tmp_path / "s.safetensors", shard_bytes=150)
    index = tmp_path / "s.safetensors.index.json"
    content = json.loads(index.read_text())
    change(content)
    index.write_text(json.dumps(content))
    return index


@pytest.mark.parametrize("file", ["../x.safetensors", "/etc/passwd", "a/b", "..", "", "C:\\x", "a\0b", None, ["x"], 7])
def test_an_index_leads_to_files_beside_it_alone(tmp_path, file):
    index = sharded(tmp_path, lambda content: content["weight_map"].update({"mean_square/scale": file}))
    assert "is not the name of a file beside it" in refused(index)


def test_an_index_that_says_otherwise_than_its_files_is_refused(tmp_path):
    index = sharded(tmp_path, lambda content: content["weight_map"].pop("mean_square/scale"))
    assert "where it says otherwise" in refused(index)
    index = sharded(
        tmp_path, lambda content: content["weight_map"].update({"weights/x": "s-00001-of-00008.safetensors"})
    )
    assert refused(index)
    index = sharded(tmp_path, lambda content: content.pop("weight_map"))
    assert "an index has metadata and a weight_map" in refused(index)


def test_a_file_of_another_state_is_not_taken_for_a_shard(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, step in ((one, 7), (other, 8)):
        folder.mkdir()
        replace(a_state(), step=step).save(folder / "s.safetensors", shard_bytes=150)
    shard = sorted(one.glob("s-*"))[0].name
    (one / shard).write_bytes((other / shard).read_bytes())
    assert "belongs to another state" in refused(one / "s.safetensors")


def test_a_missing_shard_is_named(tmp_path):
    a_state().save(tmp_path / "s.safetensors", shard_bytes=150)
    shard = sorted(tmp_path.glob("s-*"))[1]
    shard.unlink()
    assert shard.name in refused(tmp_path / "s.safetensors")


# --- what cannot be saved --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["mean_square", "momentum", "average", "gradient_sum", "weights"])
def test_a_state_that_is_not_finite_is_not_saved_and_the_old_file_stays(tmp_path, kind, value):
    path = saved(tmp_path)
    before = path.read_bytes()
    state = a_state()
    broken = {**state.tensors()[kind], "scale": np.array(value, np.float32)}
    with pytest.raises(StateError, match=rf"{kind} of 'scale' has 1 values that are NaN or infinite"):
        replace(state, **{kind: broken}).save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.safetensors"]


def test_a_state_without_config_is_not_saved(tmp_path):
    with pytest.raises(StateError, match="no config"):
        replace(a_state(), config=None).save(tmp_path / "s.safetensors")
    assert not list(tmp_path.iterdir())


def test_all_that_cannot_be_in_a_file_is_named_at_once(tmp_path):
    state = replace(
        a_state(),
        weights={"n": np.arange(3), "../x": np.ones(2), "a\nb": np.ones(2), "": np.ones(2), "/root": np.ones(1)},
        momentum={"stray": np.ones(2)},
    )
    with pytest.raises(StateError) as caught:
        state.save(tmp_path / "s.safetensors")
    assert len(caught.value.problems) == 6
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_named_in_one_line(tmp_path):
    for path in (tmp_path / "no" / "s.safetensors", tmp_path, "a\0b"):
        with pytest.raises(CheckpointError, match="cannot be written") as caught:
            a_state().save(path)
        assert str(caught.value).isprintable()


# --- what is refused -------------------------------------------------------------------------------------------------


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path):
    path = saved(tmp_path)
    whole = path.read_bytes()
    for length in (0, 5, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "damaged" in refused(path)
    path.write_bytes(whole + b"\0")
    assert "damaged" in refused(path)


def test_a_safetensors_file_of_somebody_else_is_called_so(tmp_path):
    save_file({"weight": np.ones(3)}, tmp_path / "s.safetensors", {"format": "np"})
    assert "without a state of unirms" in refused(tmp_path / "s.safetensors")
    save_file({"weight": np.ones(3, np.int64)}, tmp_path / "s.safetensors")
    assert "without a state of unirms" in refused(tmp_path / "s.safetensors")


def test_a_newer_schema_is_refused_with_what_to_do(tmp_path):
    path = restated(saved(tmp_path), lambda said: said.update(schema_version=2, new_field=1))
    assert "newer unirms (schema 2" in refused(path)
    assert "pip install -U unirms" in refused(path)
    path = restated(saved(tmp_path), lambda said: said["config"].update(unirms=99))
    assert "newer unirms" in refused(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": 0},
        {"schema_version": True},
        {"schema_version": None},
        {"step": -1},
        {"step": "many"},
        {"learning_rate": math.nan},
        {"learning_rate": -1.0},
        {"step": 2**53 + 1},
        {"step": 10**400},
        {"micro_step": -1},
        {"micro_step": 10**400},
        {"plateau": {"rate": 1}},
        {"plateau": {"rate": 0.1, "best": "NaN"}},
        {"plateau": {"rate": "NaN", "best": 1}},
        {"plateau": {"rate": "Infinity", "best": 1}},
        {"plateau": {"rate": -0.1, "best": 1}},
        {"plateau": {"rate": 0.1, "best": 1, "bad": -1}},
        {"plateau": {"rate": 0.1, "best": 1, "cooldown": -1}},
        {"plateau": {"rate": 0.1, "best": 1, "bad": 10**400}},
        {"config": {"unirms": 1, "rho": 7}},
        {"config": {}},
        {"config": None},
        {"parameters": ["scale", "scale"]},
        {"parameters": []},
        {"parameters": [*SHAPES, "more"]},
        {"complex": ["mean_square/scale"]},
        {"surprise": 1},
    ],
)
def test_metadata_that_says_nonsense_is_refused(tmp_path, changes):
    assert refused(restated(saved(tmp_path), lambda said: said.update(changes)))


def test_a_header_of_two_gibibytes_is_refused_at_once(tmp_path):
    path = tmp_path / "s.safetensors"
    path.write_bytes(struct.pack("<Q", 2**31) + b'{"a":')
    assert "damaged" in refused(path)
    with path.open("r+b") as file:  # the file is as long as it says, without taking place
        file.truncate(2**31 + 8)
    assert "header too large" in refused(path)


def test_overlapping_and_absurd_tensors_are_refused(tmp_path):
    def overlap(header):
        header["mean_square/scale"] = header["momentum/scale"]

    def absurd(header):
        header["mean_square/scale"]["shape"] = [2**40, 2**40]

    def gap(header):
        del header["weights/scale"]

    for change in (overlap, absurd, gap):
        assert "damaged" in refused(mangled(saved(tmp_path), change))


@pytest.mark.parametrize("name", ["../x", "a/../b", "/etc/passwd", "a\nb", "a\0b", "a\x1b[31mb", "..", "a\\..\\b", ""])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
    def rename(header):
        header[f"weights/{name}"] = header.pop("weights/scale")

    assert "no name" in refused(mangled(saved(tmp_path), rename))


def test_an_unknown_kind_and_a_slot_of_no_parameter_are_refused(tmp_path):
    def kind(header):
        header["velocity/scale"] = header.pop("momentum/scale")

    def stray(header):
        header["momentum/stray"] = header.pop("momentum/scale")

    assert "no such kind" in refused(mangled(saved(tmp_path), kind))
    assert "which is no parameter" in refused(mangled(saved(tmp_path), stray))


def test_a_name_that_stands_twice_is_refused(tmp_path):
    path = saved(tmp_path)
    whole = path.read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    text = whole[8 : 8 + length].rstrip().replace(b'"weights/scale"', b'"momentum/scale"')
    path.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])
    assert "damaged" in refused(path)


def test_a_dtype_that_no_state_has_is_refused(tmp_path):
    def integers(header):
        header["weights/scale"]["dtype"] = "I32"

    assert "has the dtype I32" in refused(mangled(saved(tmp_path), integers))


def test_what_is_no_file_is_refused(tmp_path):
    assert "cannot be read" in refused(tmp_path / "no.safetensors")
    assert "cannot be read" in refused(tmp_path)
    (tmp_path / "s.safetensors.index.json").write_text("[1]")
    assert "an index has" in refused(tmp_path / "s.safetensors")
    (tmp_path / "s.safetensors.index.json").write_text('{"metadata": {}, "metadata": {}}')
    assert "twice" in refused(tmp_path / "s.safetensors")
    (tmp_path / "s.safetensors.index.json").write_text("[" * 100_000)
    assert "damaged" in refused(tmp_path / "s.safetensors")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "s.safetensors")
    assert "neither a file nor a folder" in refused(tmp_path / "s.safetensors")
    os.mkfifo(tmp_path / "t.safetensors.index.json")
    assert "neither a file nor a folder" in refused(tmp_path / "t.safetensors.index.json")
    folder = tmp_path / "sharded"
    folder.mkdir()
    index = sharded(folder, lambda content: None)
    shard = sorted(folder.glob("s-*.safetensors"))[1]
    shard.unlink()
    os.mkfifo(shard)
    assert "neither a file nor a folder" in refused(index)
    stored = Stored(path=str(shard), offset=0, dtype="float32", shape=(0,))
    with pytest.raises(CheckpointError, match="neither a file nor a folder"):
        list(stored.pieces())


def test_no_pipe_is_replaced(tmp_path):
    pipe, link = tmp_path / "s.safetensors", tmp_path / "link.safetensors"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        with pytest.raises(CheckpointError, match="cannot be written: it is neither a file nor a folder"):
            a_state().save(path)
    index = tmp_path / "t.safetensors.index.json"
    os.mkfifo(index)
    with pytest.raises(CheckpointError, match="cannot be written: it is neither a file nor a folder"):
        a_state().save(tmp_path / "t.safetensors", shard_bytes=150)
    for path in (pipe, index):
        assert stat.S_ISFIFO(path.stat().st_mode)
    assert len(list(tmp_path.iterdir())) == 3, "nothing has been written"
    with pytest.raises(ConfigError, match="neither a file nor a folder"):
        os.mkfifo(tmp_path / "config.yaml")
        FULL.save(tmp_path / "config.yaml")


def test_whatever_a_file_and_its_path_say_the_message_is_one_short_line(tmp_path):
    def all_in(name):
        return lambda content: content["weight_map"].update(dict.fromkeys(content["weight_map"], name))

    assert "\\x1b[31mred\\nx" in refused(sharded(tmp_path, all_in("\x1b[31mred\nx")))
    assert "cannot be read" in refuse_in_a_line(sharded(tmp_path, all_in("x" * 1000)))
    assert refuse_in_a_line(sharded(tmp_path, all_in("x" * 200_000)))
    assert refuse_in_a_line(tmp_path / "a\nb\x1b[0m.safetensors")
    assert str(CheckpointError("a\tb\n" + "ü" * 3000)) == "a\\tb\\n" + "ü" * 1994 + "…"


def refuse_in_a_line(path):
    with pytest.raises(CheckpointError) as caught:
        OptimizerState.load(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 2001
    return str(caught.value)


def test_a_name_of_thousands_of_letters_is_refused(tmp_path):
    def rename(header):
        header[f"weights/{'x' * 1001}"] = header.pop("weights/scale")

    assert "it has 1001 characters" in refused(mangled(saved(tmp_path), rename))
    replace(a_state(), weights={"x" * 1000: np.ones(2)}).save(tmp_path / "s.safetensors")
    assert OptimizerState.load(tmp_path / "s.safetensors").weights
    with pytest.raises(StateError, match="it has 1001 characters"):
        replace(a_state(), weights={"x" * 1001: np.ones(2)}).save(tmp_path / "t.safetensors")


def test_a_path_that_is_not_utf_8_is_refused_in_one_line(tmp_path):
    path = tmp_path / "s\udcff.safetensors"
    with pytest.raises(CheckpointError, match="cannot be written: its path is not UTF-8"):
        a_state().save(path)
    path.write_bytes(saved(tmp_path).read_bytes())
    assert "its path is not UTF-8" in refused(path)


def test_names_as_long_as_the_file_system_allows_are_written_and_read(tmp_path):
    for letters in (230, 243):
        path = tmp_path / f"{'s' * letters}.safetensors"
        with pytest.raises(CheckpointError, match="No such file"):
            OptimizerState.load(path)
        a_state().save(path)
        assert_same(a_state(), OptimizerState.load(path))
    with pytest.raises(CheckpointError, match="cannot be written"):
        a_state().save(tmp_path / f"{'s' * 300}.safetensors")


def test_metadata_and_headers_that_would_fill_the_memory_are_refused(tmp_path):
    lists = "[" + "[]," * 1_500_000 + "[]]"
    path = mangled(saved(tmp_path), lambda header: header["__metadata__"].update(more=lists))
    assert "brackets and commas are more than any model needs" in refused(path)
    path = mangled(saved(tmp_path), lambda header: header["__metadata__"].update(unirms="x" * (1 << 24) + "x"))
    assert "its metadata has more than 16777216 characters" in refused(path)
    (tmp_path / "i.safetensors.index.json").write_text(lists)
    assert "brackets and commas are more than any model needs" in refused(tmp_path / "i.safetensors")


def test_more_tensors_than_a_file_is_read_with_are_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors, "MOST_MARKS", 200)
    with pytest.raises(CheckpointError, match="too many for a file; save it in shards"):
        a_state().save(tmp_path / "s.safetensors")
    assert not list(tmp_path.iterdir())
    a_state().save(tmp_path / "s.safetensors", shard_bytes=30)
    assert_same(a_state(), OptimizerState.load(tmp_path / "s.safetensors"))


def test_names_that_no_file_would_take_back_are_not_written(tmp_path):
    names = [f"{'n' * 990}/{index:05d}" for index in range(17_000)]
    state = OptimizerState(0, {name: np.zeros(1, np.float16) for name in names}, config=RMSPropConfig())
    with pytest.raises(CheckpointError, match="names and config are too many"):
        state.save(tmp_path / "s.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes",
    [
        {"step": -1},
        {"step": 2.5},
        {"step": 10**400},
        {"micro_step": -1},
        {"learning_rate": math.nan},
        {"learning_rate": math.inf},
        {"plateau": PlateauState(math.nan, 1.0)},
        {"plateau": PlateauState(0.1, math.nan)},
        {"plateau": PlateauState(0.1, 1.0, -1)},
        {"plateau": PlateauState(0.1, 1.0, 0, 2**54)},
    ],
)
def test_numbers_that_no_state_has_are_not_saved(tmp_path, changes):
    with pytest.raises(StateError) as caught:
        replace(a_state(), **changes).save(tmp_path / "s.safetensors")
    assert len(caught.value.problems) == 1
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    assert not list(tmp_path.iterdir())


def test_counts_of_numpy_are_counts(tmp_path):
    path = saved(tmp_path, step=np.int64(9), micro_step=np.uint32(1), learning_rate=np.float32(0.5))
    assert (OptimizerState.load(path).step, OptimizerState.load(path).learning_rate) == (9, 0.5)


@pytest.mark.parametrize("most", [-1, 0, "1GB", 1e9, True])
def test_a_limit_of_shards_is_a_positive_number_of_bytes(tmp_path, most):
    with pytest.raises(ConfigError, match=r"shard_bytes=.* is not allowed"):
        a_state().save(tmp_path / "s.safetensors", shard_bytes=most)
    assert not list(tmp_path.iterdir())


def test_a_state_is_not_saved_under_the_name_of_an_index(tmp_path):
    index = sharded(tmp_path, lambda content: None)
    with pytest.raises(CheckpointError, match="has the name of an index"):
        a_state(seed=1).save(index)
    assert_same(a_state(), OptimizerState.load(index))


# --- read and write, as formats have them ----------------------------------------------------------------------------


def moving(stored, dtype, **change):
    return Moving(source=stored, move=Move("mean_square", "a", "b", dtype, **change))


def test_a_tensor_is_permuted_and_rounded_on_its_way_to_bfloat16(tmp_path):
    values = np.random.default_rng(0).random((3, 5)).astype(np.float32)
    values.tofile(tmp_path / "raw")
    stored = Stored(path=str(tmp_path / "raw"), offset=0, dtype="float32", shape=(3, 5))
    content = Outgoing(
        parameters=("b",),
        step=3,
        config=RMSPropConfig(),
        tensors={"mean_square": {"b": moving(stored, "bfloat16", axes=(1, 0))}},
    )
    states.write(tmp_path / "s.safetensors", content, None)
    found = states.read(tmp_path / "s.safetensors", tmp_path)
    assert found.tensors["mean_square"]["b"].dtype == "bfloat16"
    expected = values.T.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert np.array_equal(found.state().mean_square["b"], expected)
    assert (found.step, found.format, found.parameters) == (3, "unirms", ("b",))


def test_a_file_of_unirms_needs_a_config_and_a_step(tmp_path):
    for content in (Outgoing(parameters=(), tensors={}, step=1), Outgoing(parameters=(), tensors={}, config=FULL)):
        with pytest.raises(CheckpointError, match="needs a config and a step"):
            states.write(tmp_path / "s.safetensors", content, None)


# --- mutations -------------------------------------------------------------------------------------------------------


def mutants(whole, count, seed):
    """Yield damaged copies: bytes changed, cut out, doubled; most of them in the first part, where the header is."""
    draw = random.Random(seed)
    head = min(len(whole), 8 + struct.unpack("<Q", whole[:8])[0]) if whole[:1] != b"{" else len(whole)
    for _ in range(count):
        data = bytearray(whole)
        for _ in range(draw.choice([1, 1, 1, 2, 5])):
            at = draw.randrange(head if draw.random() < 0.6 else len(whole))
            length = draw.choice([1, 1, 2, 8, 40])
            kind = draw.randrange(4)
            if kind == 0:
                data[at : at + 1] = bytes([draw.randrange(256)])
            elif kind == 1:
                data[at : at + length] = b""
            elif kind == 2:
                data[at:at] = data[at : at + length]
            else:
                data[at : at + 1] = draw.choice([b"9", b"0", b"-", b'"', b"}", b"[", b"e", b"/", b"\\", b"\xff"])
        yield bytes(data)


def read_or_refused(path):
    """Return whether a file is read; if so, all of its arrays can be looked at."""
    try:
        state = OptimizerState.load(path)
        for arrays in state.tensors().values():
            for array in arrays.values():
                assert np.sum(array == 0) >= 0
    except (CheckpointError, StateError) as error:
        assert str(error).isprintable(), "one line"
        return False
    return True


def check_mutants(target, load, count, seed):
    whole = target.read_bytes()
    outcomes = []
    for data in mutants(whole, count, seed):
        target.write_bytes(data)
        outcomes.append(read_or_refused(load))
    target.write_bytes(whole)
    assert read_or_refused(load)
    assert 0 < sum(outcomes) < count * 0.5, "most are refused; those that change an element alone are read"


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_mutated_files_are_read_or_refused_in_one_line(tmp_path, count):
    path = saved(tmp_path)
    check_mutants(path, path, count, seed=5)


@pytest.mark.parametrize("count", [20, pytest.param(500, marks=pytest.mark.slow)])
def test_mutated_indices_are_read_or_refused_in_one_line(tmp_path, count):
    path: Path = tmp_path / "s.safetensors"
    a_state().save(path, shard_bytes=150)
    check_mutants(tmp_path / "s.safetensors.index.json", path, count, seed=6)


def test_unirms_exports_what_a_user_needs():
    assert unirms.OptimizerState.load is OptimizerState.load
