"""Writing TensorFlow's checkpoints piece by piece: one data file after another, and one index over all of them.

TensorFlow writes the tensors, since its readers want a checksum of every one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from unirms.checkpoints.tensors import PIECE_BYTES, SIZES, Moving, Stored
from unirms.registry import FRAMEWORKS

_ALIGNMENT: Final = 64
"""TensorFlow takes an array that begins at such an address as it is, and copies others."""
Source = Moving | Stored | Callable[[], Any]
"""A tensor from a file, or what gives a small one."""


def save(prefix: Path, sources: Mapping[str, Source]) -> None:
    """Write tensors by key; one of them at a time is in memory, and small ones together.

    Raises:
        StateError: a tensor has a NaN, or a value that its dtype cannot hold.
    """
    tensorflow = _tensorflow()
    batches = list(_batches(sources))
    # One space for all: new memory for each tensor would cost as much time as writing it.
    space = _aligned(max((sum(map(_space, map(sources.get, names))) for names in batches), default=0))
    with TemporaryDirectory(dir=prefix.parent) as folder:
        parts = []
        for number, names in enumerate(batches):
            part, start, tensors = f"{folder}/part-{number}", 0, []
            for name in names:
                room = _space(sources[name])
                tensors.append(_tensor(sources[name], space[start : start + room], tensorflow))
                start += room
            tensorflow.raw_ops.SaveV2(
                prefix=part, tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors
            )
            parts.append(part)
            del tensors
        tensorflow.raw_ops.MergeV2Checkpoints(
            checkpoint_prefixes=parts, destination_prefix=str(prefix), delete_old_dirs=False
        )


def _space(source: Source | None) -> int:
    """Return how much memory a tensor takes, up to the next aligned address."""
    size = source.bytes if isinstance(source, (Moving, Stored)) else 0
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def zeros(shape: tuple[int, ...], dtype: str) -> Any:
    """Return an array of zeros."""
    return np.zeros(shape, _tensorflow().bfloat16.as_numpy_dtype if dtype == "bfloat16" else dtype)


def _batches(sources: Mapping[str, Source]) -> Iterator[list[str]]:
    """Yield the keys in order, as many together as are small."""
    batch: list[str] = []
    held = 0
    for name, source in sources.items():
        size = source.bytes if isinstance(source, (Moving, Stored)) else 0
        if batch and held + size > PIECE_BYTES:
            yield batch
            batch, held = [], 0
        batch.append(name)
        held += size
    if batch:
        yield batch


def _tensor(source: Source, space: Any, tensorflow: Any) -> Any:
    """Return a tensor; one from a file lies in `space`, where `tensorflow.constant` would make two copies more."""
    if not isinstance(source, (Moving, Stored)):
        return tensorflow.constant(source())
    whole, position = space[: source.bytes], 0
    pieces = source.bytes_of_pieces() if isinstance(source, Moving) else _bytes(source)
    for piece in pieces:
        whole[position : position + len(piece)] = piece
        position += len(piece)
    narrow = source.dtype == "bfloat16"  # DLPack has no such type in NumPy
    array = whole.view("uint16" if narrow else source.dtype).reshape(source.shape)
    tensor = (
        tensorflow.experimental.dlpack.from_dlpack(array.__dlpack__()) if array.size else tensorflow.constant(array)
    )
    return tensorflow.bitcast(tensor, tensorflow.bfloat16) if narrow else tensor


def _bytes(source: Stored) -> Iterator[Any]:
    with Path(source.path).open("rb", buffering=0) as file:
        file.seek(source.offset)
        left = source.count * SIZES[source.dtype]
        while left and (piece := file.read(min(left, PIECE_BYTES))):
            left -= len(piece)
            yield np.frombuffer(piece, np.uint8)


def _aligned(size: int) -> Any:
    space = np.empty(size + _ALIGNMENT, np.uint8)
    start = -space.ctypes.data % _ALIGNMENT
    return space[start : start + size]


def _tensorflow() -> Any:
    for name, value in FRAMEWORKS["keras"].environment:
        os.environ.setdefault(name, value)
    import tensorflow

    return tensorflow
