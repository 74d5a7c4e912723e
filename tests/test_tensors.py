"""A tensor on its way from one file to another: the pieces, whatever its axes and however small they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unirms.checkpoints.tensors import Moving, Stored, ahead, parts
from unirms.moving import Move


def moving(path, array, axes, dtype="float32"):
    array.tofile(path)
    stored = Stored(path=str(path), offset=0, dtype=array.dtype.name, shape=array.shape)
    return Moving(source=stored, move=Move("weights", "a", "b", dtype, axes))


@settings(max_examples=100, deadline=None)
@given(
    lengths=st.lists(st.sampled_from([1, 2, 3, 7, 65, 300]), min_size=1, max_size=3).filter(
        lambda lengths: np.prod(lengths) < 20_000
    ),
    order=st.randoms(use_true_random=False),
    most=st.sampled_from([64, 1000, 1 << 14, 1 << 22]),
)
def test_pieces_are_the_tensor_at_the_target(tmp_path_factory, lengths, order, most):
    array = np.arange(np.prod(lengths), dtype=np.float32).reshape(lengths)
    axes = tuple(order.sample(range(array.ndim), array.ndim))
    one = moving(tmp_path_factory.getbasetemp() / "tensor", array, axes)
    # Of a piece, the memory is used again for the next but one.
    whole = np.concatenate([piece.copy() for piece in one.pieces(most)])
    np.testing.assert_array_equal(whole.reshape(one.shape), array.transpose(axes))
    np.testing.assert_array_equal(one.array(), array.transpose(axes))


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((3, 4000, 2), (2, 0, 1)), ((900, 700), (1, 0)), ((70, 30, 3, 3), (2, 3, 1, 0)), ((3, 3, 30, 70), (3, 2, 0, 1))],
)
def test_tensors_of_several_tiles_are_turned(tmp_path, shape, axes):
    array = np.random.default_rng(0).random(shape, np.float32)
    for most in (1 << 12, 1 << 16, 1 << 22):
        one = moving(tmp_path / "tensor", array, axes)
        whole = b"".join(bytes(piece) for piece in one.bytes_of_pieces(most))
        assert whole == array.transpose(axes).tobytes()


def test_an_error_while_a_piece_is_made_ahead_is_raised_where_it_would_be_used():
    def made():
        yield np.ones(1)
        raise ValueError("the second")

    pieces = ahead(made())
    assert next(pieces) == 1
    with pytest.raises(ValueError, match="the second"):
        next(pieces)


def test_parts_of_an_array_that_lies_in_order_are_no_copies():
    array = np.arange(4096, dtype=np.float32).reshape(64, 64)
    assert all(np.shares_memory(part, array) for part in parts(array, 1024))
