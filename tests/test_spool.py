"""The file for tensors that are not raw in their checkpoint, and stretches of files."""

import numpy as np
import pytest

from unirms.adapters.checkpoints.spool import Spool
from unirms.adapters.checkpoints.stretches import pieces_of
from unirms.bfloat16 import bits, rounded
from unirms.checkpoints.tensors import PIECE_BYTES, SIZES, Stored
from unirms.errors import CheckpointError


@pytest.mark.parametrize("dtype", SIZES)
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (3, PIECE_BYTES // 16)])
def test_a_constant_is_written_once(dtype, shape, tmp_path):
    spool = Spool(tmp_path)
    stored = spool.constant(dtype, shape, 0.3)
    value = complex(0.3, 0.3) if dtype.startswith("complex") else 0.3
    expected = rounded(np.array(0.3)) if dtype == "bfloat16" else np.array(value, dtype)
    found = stored.array()
    assert found.shape == shape
    assert (found == expected).all()
    size = spool.file.stat().st_size
    assert size == stored.bytes
    assert spool.constant(dtype, shape, 0.3) == stored
    assert spool.file.stat().st_size == size
    other = spool.constant(dtype, shape, 0.5)
    assert other.offset == size
    assert (other.array() == (complex(0.5, 0.5) if dtype.startswith("complex") else 0.5)).all()


def test_an_array_is_written_in_c_order_bfloat16_as_two_bytes(tmp_path):
    spool = Spool(tmp_path)
    values = np.arange(6.0, dtype="float32").reshape(2, 3).T
    assert np.array_equal(spool.array("float32", values).array(), values)
    assert np.array_equal(spool.array("bfloat16", bits(values)).array(), values)
    assert np.array_equal(spool.array("float64", values.astype(">f8")).array(), values)


def test_a_stretch_of_a_file_comes_in_pieces(tmp_path):
    path = tmp_path / "file"
    data = np.random.default_rng(0).bytes(2 * PIECE_BYTES + 100)
    path.write_bytes(data)
    pieces = list(pieces_of(path, 10, 2 * PIECE_BYTES + 50))
    assert b"".join(pieces) == data[10 : 2 * PIECE_BYTES + 60]
    assert max(map(len, pieces)) == PIECE_BYTES
    assert list(pieces_of(path, 10, 0)) == []
    with pytest.raises(CheckpointError, match="ends in the middle"):
        list(pieces_of(path, 10, len(data)))
    with pytest.raises(CheckpointError, match="No such file"):
        list(pieces_of(tmp_path / "none", 0, 1))


@pytest.mark.parametrize("shape", [(0, 1 << 62, 1 << 62), (1 << 60, 0, 8), (1,) * 33, (-1,), (0, -1), (1 << 61,)])
def test_a_shape_of_no_array_is_refused_also_without_elements(shape):
    with pytest.raises(CheckpointError, match="no array has the shape"):
        Stored(path="x", offset=0, dtype="float32", shape=shape)


def test_a_shape_without_elements_is_one(tmp_path):
    (tmp_path / "x").write_bytes(b"")
    stored = Stored(path=str(tmp_path / "x"), offset=0, dtype="float32", shape=(0, 1 << 40))
    assert stored.array().shape == stored.mapped().shape == (0, 1 << 40)
    assert list(stored.pieces()) == []
