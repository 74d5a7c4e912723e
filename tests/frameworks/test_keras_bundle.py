"""TensorFlow's checkpoints as unirms writes them: TensorFlow itself reads them, and would have written the same."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from unirms.adapters.checkpoints.tensorflow import object_graph, saving, table, tf1
from unirms.adapters.checkpoints.tensorflow.bundle import entries
from unirms.checkpoints import worker
from unirms.checkpoints.checkpoint import Outgoing
from unirms.checkpoints.formats import known
from unirms.checkpoints.tensors import PIECE_BYTES, Moving, Stored
from unirms.errors import CheckpointError
from unirms.moving.moves import Move

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

DTYPES = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
SHAPES = [(), (1,), (0,), (3, 0, 2), (2, 3), (300, 1, 5)]
DATA = ".data-00000-of-00001"


def bundle_of_tensorflow(prefix, tensors):
    """Write tensors with TensorFlow, in the order of their keys; return the prefix."""
    names = sorted(tensors)
    values = [tf.convert_to_tensor(tensors[name]) for name in names]
    tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names), tensors=values)
    return prefix


def values(prefix):
    reader = tf.train.load_checkpoint(str(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def moving(folder, array, axes=None):
    """Return an array that lies in a file, on its way, with its axes permuted."""
    path = folder / f"raw-{len(list(folder.iterdir()))}"
    path.write_bytes(array.tobytes())
    dtype = str(array.dtype)
    stored = Stored(path=str(path), offset=0, dtype=dtype, shape=array.shape)
    return Moving(source=stored, move=Move("momentum", "w", "w", dtype, axes))


def index(prefix):
    return list(table.read(Path(f"{prefix}.index").read_bytes()))


def assert_same_bundle(one, other):
    assert Path(f"{one}{DATA}").read_bytes() == Path(f"{other}{DATA}").read_bytes()
    assert index(one) == index(other)


def flipped(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


def test_every_dtype_and_shape_is_written_as_tensorflow_writes_it(tmp_path, rng):
    arrays = {
        f"{dtype}/{shape}": tf.cast(rng.standard_normal(shape), dtype).numpy() for dtype in DTYPES for shape in SHAPES
    }
    theirs = bundle_of_tensorflow(tmp_path / "theirs", arrays)
    saving.save(tmp_path / "ours", {name: moving(tmp_path, arrays[name]) for name in sorted(arrays)})
    assert_same_bundle(tmp_path / "ours", theirs)
    read = values(tmp_path / "ours")
    assert set(read) == set(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        assert read[name].tobytes() == array.tobytes()
        assert read[name].shape == array.shape


def test_what_another_checkpoint_has_is_kept_as_it_is(tmp_path):
    kept = {
        "count": np.int64(-5),
        "flags": np.array([True, False]),
        "seeds": np.arange(7, dtype=np.uint32),
        "small": np.array([-3, 4], np.int8),
        "graph": "a text, ü " * 100,
        "texts": np.array([["", "a"], ["b" * 1000, "\0"]], dtype=object),
        "none": np.array([], dtype=object),
        "w": np.float32([1, 2]),
    }
    kept["none"] = tf.constant([], tf.string)
    theirs = bundle_of_tensorflow(tmp_path / "theirs", kept)
    saving.save(tmp_path / "ours", entries(theirs))
    assert_same_bundle(tmp_path / "ours", theirs)
    assert values(tmp_path / "ours")["texts"].tolist() == [[b"", b"a"], [b"b" * 1000, b"\0"]]


@pytest.mark.parametrize("dtype", [*DTYPES, "int64"])
def test_numbers_and_zeros_are_written_in_every_dtype(tmp_path, dtype):
    sources = {"a": saving.scalar(3, dtype)}
    if dtype in DTYPES:
        sources["zeros"] = saving.zeros((PIECE_BYTES // 8 + 1, 2), dtype)
    saving.save(tmp_path / "ours", sources)
    read = values(tmp_path / "ours")
    assert read["a"] == 3
    assert read["a"].shape == ()
    assert read["a"].dtype == tf.as_dtype(dtype).as_numpy_dtype
    assert dtype not in DTYPES or (read["zeros"].shape == (PIECE_BYTES // 8 + 1, 2) and not read["zeros"].any())


def test_thousands_of_keys_fill_several_blocks(tmp_path):
    names = [f"model/{'deeply/' * (n % 9)}nested/layer_{n}/kernel/RMSProp_{n % 3}/é" for n in range(9000)]
    arrays = {name: np.float32(n) for n, name in enumerate(names)}
    theirs = bundle_of_tensorflow(tmp_path / "theirs", arrays)
    saving.save(tmp_path / "ours", {name: saving.scalar(float(arrays[name]), "float32") for name in sorted(arrays)})
    assert_same_bundle(tmp_path / "ours", theirs)
    ours, size = Path(f"{tmp_path / 'ours'}.index"), Path(f"{theirs}.index").stat().st_size
    assert size > 300_000  # of which a block takes 262,144
    assert abs(ours.stat().st_size - size) < 0.01 * size  # prefixes are shared as often
    assert values(tmp_path / "ours") == arrays
    sought = tf.train.load_checkpoint(str(tmp_path / "ours"))
    assert not any(sought.has_tensor(name + "x") or sought.has_tensor(name[:-1]) for name in names[:100])


def test_one_key_may_be_larger_than_a_block(tmp_path):
    names = ["a", "b" * 300_000, "b" * 300_000 + "c", "d"]
    saving.save(tmp_path / "ours", {name: saving.scalar(n, "float32") for n, name in enumerate(names)})
    assert values(tmp_path / "ours") == {name: n for n, name in enumerate(names)}


@pytest.mark.parametrize("axes", [None, (1, 0), (2, 1, 0)])
def test_a_tensor_of_many_pieces_arrives(tmp_path, rng, axes):
    shape = (3, PIECE_BYTES // 4, 2) if axes is None or len(axes) == 3 else (1500, 1601)
    array = rng.standard_normal(shape).astype(np.float32)
    saving.save(tmp_path / "ours", {"w": moving(tmp_path, array, axes), "x": saving.scalar(1, "int64")})
    read = values(tmp_path / "ours")
    np.testing.assert_array_equal(read["w"], array if axes is None else array.transpose(axes))
    assert read["x"] == 1


@pytest.mark.parametrize("large", [False, True])
def test_tensorflow_finds_a_bit_that_is_flipped(tmp_path, rng, large):
    array = rng.standard_normal(PIECE_BYTES if large else 3).astype(np.float32)
    saving.save(tmp_path / "ours", {"w": moving(tmp_path, array)})
    flipped(tmp_path / f"ours{DATA}", array.nbytes - 1)
    with pytest.raises(tf.errors.OpError, match=r"[Cc]hecksum"):
        values(tmp_path / "ours")


def test_tensorflow_finds_a_bit_that_is_flipped_in_the_index(tmp_path):
    saving.save(tmp_path / "ours", {f"w{n}": saving.zeros((2,), "float32") for n in range(50)})
    whole = (tmp_path / "ours.index").read_bytes()
    for place in (3, 200, len(whole) - 60):
        (tmp_path / "ours.index").write_bytes(whole)
        flipped(tmp_path / "ours.index", place)
        with pytest.raises((tf.errors.OpError, RuntimeError, ValueError), match=r"checksum|corrupt|mismatch"):
            values(tmp_path / "ours")


def test_a_checkpoint_of_objects_is_consumed_to_the_last(tmp_path):
    def trained(steps):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="a")], name="net")
        model.compile(keras.optimizers.RMSprop(momentum=0.5, centered=True), "mse")
        model.fit(np.ones((4, 3)), np.ones((4, 2)), epochs=steps, verbose=0)
        return model

    model, other = trained(3), trained(1)
    theirs = tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(str(tmp_path / "theirs"))
    saving.save(tmp_path / "ours", entries(Path(theirs)))
    status = tf.train.Checkpoint(model=other, optimizer=other.optimizer).restore(str(tmp_path / "ours"))
    status.assert_consumed()
    tf.train.Checkpoint(model=other).restore(str(tmp_path / "ours")).expect_partial()
    for left, right in zip(model.optimizer.variables, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(left.numpy(), right.numpy())


@pytest.mark.parametrize("name", ["w", "text", "texts"])
def test_what_is_damaged_in_the_checkpoint_to_keep_is_found(tmp_path, name):
    tensors = {"w": np.ones(PIECE_BYTES, np.float32), "text": "something", "texts": np.array(["a", "b"], object)}
    theirs = bundle_of_tensorflow(tmp_path / "theirs", tensors)
    found = entries(theirs)
    flipped(tmp_path / f"theirs{DATA}", found[name].offset + found[name].size - 1)
    if name == "w":
        with pytest.raises(CheckpointError, match="is damaged: 'w' does not have its checksum"):
            saving.save(tmp_path / "ours", found)
    elif name == "text":
        with pytest.raises(CheckpointError, match="is damaged: 'text' does not have its checksum"):
            found[name].text()
    else:  # nobody reads it, and so the reader of the new checkpoint finds it
        saving.save(tmp_path / "ours", found)
        with pytest.raises(tf.errors.OpError, match=r"[Cc]hecksum"):
            values(tmp_path / "ours")


def test_what_is_no_tensor_in_the_checkpoint_to_keep_is_refused(tmp_path):
    quantized = bundle_of_tensorflow(tmp_path / "a", {"q": tf.bitcast(np.int8([1, 2]), tf.qint8)})
    with pytest.raises(CheckpointError, match="'q' is no tensor that can be kept"):
        saving.save(tmp_path / "ours", entries(quantized))
    whole = entries(bundle_of_tensorflow(tmp_path / "b", {"w": np.ones(2)}))["w"]
    parts = {"w": replace(whole, whole=False)}
    with pytest.raises(CheckpointError, match="'w' is no tensor that can be kept"):
        saving.save(tmp_path / "ours", parts)


def test_a_tensor_that_gives_too_few_bytes_is_an_error(tmp_path):
    short = saving.Made("float32", (4,), lambda: iter((memoryview(bytes(12)),)))
    with pytest.raises(CheckpointError, match="'w' has 12 bytes"):
        saving.save(tmp_path / "ours", {"w": short})


def state(folder):
    one = moving(folder, np.float32([1, 2]))
    return Outgoing(parameters=("w",), step=3, tensors={"mean_square": {"w": one}, "weights": {"w": one}})


def test_writing_loads_no_framework(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="a")], name="net")
    model.compile(keras.optimizers.RMSprop(), "mse")
    model.optimizer.build(model.trainable_variables)
    like = tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(str(tmp_path / "like"))
    (tmp_path / "new").mkdir()
    code = f"""
import sys
from pathlib import Path
from unirms import RMSPropConfig
from unirms.adapters.checkpoints.tensorflow import checkpoint, tf1
from unirms.checkpoints.checkpoint import Outgoing
from unirms.checkpoints.tensors import Moving
from unirms.moving.moves import Move
like = Path({like!r})
held = checkpoint.read(like, Path({str(tmp_path / "new")!r}))
tensors = {{
    kind: {{n: Moving(source=one, move=Move(kind, n, n, one.dtype)) for n, one in found.items()}}
    for kind, found in held.tensors.items()
}}
content = Outgoing(parameters=held.parameters, step=3, config=RMSPropConfig(), tensors=tensors)
checkpoint.write(like.parent / "new" / "ckpt", content, like)
tf1.write(like.parent / "new" / "model", content, None)
print([name for name in ("keras", "tensorflow", "ml_dtypes") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
    assert object_graph.KEY in values(tmp_path / "new" / "ckpt")
    assert "net/a/kernel/RMSProp_1" in values(tmp_path / "new" / "model")


def test_without_the_package_of_the_checksums_a_writer_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "crc32c", None)
    request = worker.Request(path=tmp_path / "new", content=state(tmp_path))
    problem = worker.answer("write", known("tf1"), request).problem
    assert problem.kind == "FrameworkMissingError"
    assert 'pip install "unirms[tensorflow]"' in problem.problems[0]
    monkeypatch.undo()
    assert worker.answer("write", known("tf1"), request).problem is None
    monkeypatch.setitem(sys.modules, "crc32c", None)
    assert tf1.read(tmp_path / "new", tmp_path).step == 3
