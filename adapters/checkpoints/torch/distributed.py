"""The folders of `torch.distributed.checkpoint`: one pickle of metadata, and files of many archives of `torch.save`.

The metadata say for each tensor, by the path to it in what was saved, which parts of it lie where; other objects are
one archive each. Source: `torch/distributed/checkpoint/{metadata,filesystem}.py` of PyTorch 2.13.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import torch
from torch.distributed.checkpoint import metadata as official
from torch.distributed.checkpoint.filesystem import _StorageInfo

from unirms.checkpoints.checkpoint import Checkpoint, Outgoing
from unirms.checkpoints.naming import plain
from unirms.checkpoints.tensors import PIECE_BYTES, Stored
from unirms.errors import CheckpointError

from .. import pickles
from ..pickles import Call
from ..spool import Spool
from . import dicts, saving, writing
from . import files as torch_files
from .files import Part, Record, Tensor
from .saving import Fresh

FORMAT = "torch-dcp"
METADATA, DATA = ".metadata", "__0_0.distcp"
_VERSION: Final = "1.0.0"
# Keys on the way from what was saved to an entry; more are no state dictionary.
_DEEPEST: Final = 32

_CLASSES: Final = (
    *("Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata", "TensorProperties"),
    *("MetadataIndex", "StorageMeta", "_MEM_FORMAT_ENCODING"),
)
_PATHS: Final = tuple(f"{kind}{name}Path" for kind in ("", "Pure") for name in ("Posix", "Windows"))
KNOWN: Final[Mapping[str, Any]] = {
    **{f"torch.distributed.checkpoint.metadata.{name}": name for name in _CLASSES},
    "torch.distributed.checkpoint.filesystem._StorageInfo": "_StorageInfo",
    "torch.serialization._get_layout": "_get_layout",
    **{f"{module}.{name}": "Path" for module in ("pathlib", "pathlib._local") for name in _PATHS},
    **{name: known for name, known in torch_files.KNOWN.items() if isinstance(known, torch.dtype)},
    "torch.Size": torch.Size,
}
"""What the metadata may name: their own classes, dtypes, and the path of the folder. None of it is called."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A tensor of the folder.

    Attributes:
        dtype: its dtype.
        shape: the lengths of its axes.
        chunks: its parts: where each begins in the tensor, its own shape, and where it lies.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    chunks: tuple[tuple[tuple[int, ...], tuple[int, ...], Record], ...]


@dataclass(frozen=True)
class Folder:
    """What is in a folder.

    Attributes:
        place: what it is called in messages.
        data: what was saved, with an `Entry` in the place of each tensor.
    """

    place: str
    data: Any
    _opened: dict[Any, Tensor] = field(default_factory=dict)

    def tensor(self, node: Any) -> Tensor | None:
        """Return the tensor that a part of the data is; None where it is none.

        Raises:
            CheckpointError: its parts are not where the metadata say, or are others.
        """
        if not isinstance(node, Entry):
            return None
        if node not in self._opened:
            self._opened[node] = self._tensor(node)
        return self._opened[node]

    def _tensor(self, entry: Entry) -> Tensor:
        dtype = str(entry.dtype).removeprefix("torch.")
        found = []
        for _, shape, record in entry.chunks:
            archive = torch_files.read_archive(record, self.place)
            one = archive.tensor(archive.data)
            if one is None or one.dtype != dtype or one.shape != shape:
                raise CheckpointError(f"{self.place} is damaged: a tensor is another than its metadata say")
            found.append(one)
        if len(found) == 1 and found[0].shape == entry.shape:
            return found[0]
        starts = [start for start, _, _ in entry.chunks]
        return Tensor(dtype, entry.shape, entry, lambda spool: _joined(entry.shape, starts, found, spool))


def read(path: Path, spool: Path) -> Checkpoint:
    """Return what a folder of `torch.distributed.checkpoint` holds; see `unirms.checkpoints.formats.Format`."""
    folder = read_folder(path)
    return dicts.checkpoint(folder, folder.data, FORMAT, Spool(spool, path))


def write(path: Path, content: Outgoing, like: Path | None) -> None:
    """Write a folder as `torch.distributed.checkpoint.save` does; see `unirms.checkpoints.formats.Format`.

    The keys are "model", "optimizer" and "scheduler". Where the parameters have names, the state of the optimizer is
    under these, as `torch.distributed.checkpoint.state_dict.get_state_dict` has it; otherwise under numbers.
    """
    if like is None:
        numbered = content.parameters == tuple(str(index) for index in range(len(content.parameters)))
        data = writing.made_anew(content, (lambda index, name: index) if numbered else lambda index, name: name)
    else:
        folder = read_folder(like)
        data = folder.data
        writing.put_into(content, folder, data, dicts.parts_of(folder, data))
    try:
        path.mkdir(exist_ok=True)
        with (path / DATA).open("w+b") as file:
            metadata = _written(file, data)
        with (path / METADATA).open("wb") as file:
            pickle.dump(metadata, file)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {error.strerror}") from None


def read_folder(path: Path) -> Folder:
    """Return what is in a folder.

    Raises:
        CheckpointError: it is no such folder, is damaged, or needs more than tensors and plain data.
    """
    place = path.name
    try:
        files = {one.name: one for one in path.iterdir() if one.is_file()}
        if METADATA not in files:
            raise CheckpointError(f"{path} is no folder of torch.distributed.checkpoint: it has no file {METADATA}")
        whole = Record(files[METADATA], 0, files[METADATA].stat().st_size)
        metadata = pickles.load(torch_files.content_of(whole, place), KNOWN, place)
        return Folder(place, _data(metadata, files, place))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{place} is damaged: its metadata describe no checkpoint") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None


def _data(metadata: Any, files: Mapping[str, Path], place: str) -> Any:
    """Return what was saved."""
    stated = _fields(metadata, "Metadata")
    records = {}
    for index, info in stated["storage_data"].items():
        key = _fields(index, "MetadataIndex")
        offset = None if key.get("offset") is None else torch_files.lengths(key["offset"])
        records[key["fqn"], offset] = _record(_fields(info, "_StorageInfo"), files, place)
    paths = stated.get("planner_data")
    tree: dict[Any, Any] = {}
    for name, item in stated["state_dict_metadata"].items():
        value: Any
        if item.function == "BytesStorageMetadata":
            value = torch_files.read_archive(records[name, None], place).data
        else:
            value = _entry(name, _fields(item, "TensorStorageMetadata"), records)
        _enter(tree, paths[name] if paths else (name,), value)
    return _plain(tree)


def _fields(node: Any, kind: str) -> dict[str, Any]:
    """Return the attributes of an object of the metadata."""
    if not isinstance(node, Call) or node.function != kind or not isinstance(node.state, dict):
        raise ValueError
    return node.state


def _record(info: Mapping[str, Any], files: Mapping[str, Path], place: str) -> Record:
    name = info["relative_path"]
    if name not in files:  # names of files that lie in the folder, so that no path leads out of it
        raise CheckpointError(f"{place} is damaged: it has no file {plain(str(name), 80)!r}, which its metadata name")
    if info.get("transform_descriptors"):
        raise CheckpointError(f"{place} has been compressed or encrypted by an extension; save it without")
    offset, length = torch_files.lengths((info["offset"], info["length"]))
    if offset + length > files[name].stat().st_size:
        raise CheckpointError(f"{place} is damaged: {plain(name)} is shorter than its metadata say")
    return Record(files[name], offset, length)


def _entry(name: str, item: Mapping[str, Any], records: Mapping[Any, Record]) -> Entry:
    """Return a tensor, whose parts make all of it."""
    dtype, shape = item["properties"].state[0], torch_files.lengths(item["size"])
    if not isinstance(dtype, torch.dtype):
        raise ValueError
    chunks = []
    for chunk in item["chunks"]:
        stated = _fields(chunk, "ChunkStorageMetadata")
        start, own = torch_files.lengths(stated["offsets"]), torch_files.lengths(stated["sizes"])
        if any(at + length > most for at, length, most in zip(start, own, shape, strict=True)):
            raise ValueError
        chunks.append((start, own, records[name, start]))
    if sum(math.prod(own) for _, own, _ in chunks) != math.prod(shape) or not _are_apart(chunks):
        raise ValueError
    return Entry(dtype, shape, tuple(chunks))


def _are_apart(chunks: list[tuple[tuple[int, ...], tuple[int, ...], Record]]) -> bool:
    """Return whether no two parts have an element in common."""
    if len(chunks) < 2:
        return True
    starts = np.array([start for start, _, _ in chunks])
    ends = starts + np.array([own for _, own, _ in chunks])
    for index in range(1, len(chunks)):
        common = (starts[:index] < ends[index]) & (starts[index] < ends[:index])
        if np.any(np.all(common, axis=1)):
            return False
    return True


class _List(dict[int, Any]):
    """A list whose items come in any order."""


def _enter(tree: dict[Any, Any], path: Any, value: Any) -> None:
    """Put a value where a path leads, through dictionaries by texts and through lists by numbers."""
    if not isinstance(path, tuple) or not 0 < len(path) <= _DEEPEST:
        raise ValueError
    for step, following in pairwise(path):
        tree = tree.setdefault(step, _List() if isinstance(following, int) else {})
    tree[path[-1]] = value


def _plain(tree: Any) -> Any:
    """Return a tree with its lists as lists."""
    if isinstance(tree, _List):
        return [_plain(tree[index]) for index in range(len(tree))]
    return {key: _plain(value) for key, value in tree.items()} if type(tree) is dict else tree


def _joined(shape: tuple[int, ...], starts: list[tuple[int, ...]], found: list[Tensor], spool: Spool) -> Stored:
    """Return where a tensor lies as one, after its parts have been copied to the spool, some rows at a time."""
    stored = spool.room(found[0].dtype, shape)
    held = "<u2" if stored.dtype == "bfloat16" else stored.dtype  # only moved about
    for start, chunk in zip(starts, found, strict=True):
        lying = chunk.stored(spool)
        if lying.count == 0:
            continue
        rows = np.memmap(lying.path, held, "r", lying.offset, lying.shape)
        place = tuple(slice(at, at + length) for at, length in zip(start, lying.shape, strict=True))
        for first, block in _blocks(rows):
            region = (slice(place[0].start + first, place[0].start + first + len(block)), *place[1:])
            np.memmap(stored.path, held, "r+", stored.offset, shape)[region] = block
    return stored


def _blocks(array: Any) -> Iterator[tuple[int, Any]]:
    """Yield the rows of an array, a few at a time, and the number of the first."""
    most = max(PIECE_BYTES // max(array[0].nbytes, 1), 1)
    for first in range(0, len(array), most):
        yield first, array[first : first + most]


def _written(file: IO[bytes], data: dict[Any, Any]) -> official.Metadata:
    """Write all tensors and other objects, and return the metadata."""
    stated: dict[str, Any] = {}
    places: dict[official.MetadataIndex, _StorageInfo] = {}
    paths: dict[str, tuple[str | int, ...]] = {}
    for path, value in _flat((), data):
        name = ".".join(map(str, path))
        if name in paths:
            raise CheckpointError(f"two entries have the same path {plain(name)!r}")
        paths[name] = path
        if isinstance(value, Entry):
            for start, _, record in value.chunks:
                places[official.MetadataIndex(name, start)] = _copied(file, record)
            chunks = [(start, own) for start, own, _ in value.chunks]
            stated[name] = _stated(value.dtype, value.shape, chunks)
        elif isinstance(value, Fresh):
            start = (0,) * len(value.shape)
            places[official.MetadataIndex(name, start)] = _saved(file, value)
            stated[name] = _stated(getattr(torch, value.dtype), value.shape, [(start, value.shape)])
        else:
            places[official.MetadataIndex(name)] = _saved(file, value)
            stated[name] = official.BytesStorageMetadata()
    return official.Metadata(stated, paths, places, official.StorageMeta(), _VERSION)


def _flat(path: tuple[str | int, ...], value: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield the entries with the paths to them, as PyTorch does: through dictionaries, and lists that hold any."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat((*path, str(key)), inner)
    elif isinstance(value, list) and _is_entered(value):
        for index, inner in enumerate(value):
            yield from _flat((*path, index), inner)
    else:
        yield path, value


def _is_entered(values: list[Any]) -> bool:
    return any(isinstance(one, (dict, Entry, Fresh)) or (isinstance(one, list) and _is_entered(one)) for one in values)


def _stated(
    dtype: torch.dtype, shape: tuple[int, ...], chunks: list[tuple[Any, Any]]
) -> official.TensorStorageMetadata:
    return official.TensorStorageMetadata(
        official.TensorProperties(dtype),
        torch.Size(shape),
        [official.ChunkStorageMetadata(torch.Size(start), torch.Size(own)) for start, own in chunks],
    )


def _saved(file: IO[bytes], value: Any) -> _StorageInfo:
    """Write an object as an archive of its own."""
    start = file.seek(0, 2)
    with Part(Record(Path(), start, 0), file) as part:
        saving.write_archive(part, value, {})
    return _StorageInfo(DATA, start, file.seek(0, 2) - start)


def _copied(file: IO[bytes], record: Record) -> _StorageInfo:
    start = file.seek(0, 2)
    for chunk in torch_files.bytes_of(record):
        file.write(chunk)
    return _StorageInfo(DATA, start, record.bytes)
