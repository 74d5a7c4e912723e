"""Writing `.keras` and `.weights.h5` files piece by piece, with everything else that another such file has.

A file without values is made first: HDF5 reserves the place of every tensor and writes nothing there. The tensors are
then written into those places, or, of an archive, on the way into it.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py  # type: ignore[import-untyped]
import numpy as np

from unirms.checkpoints.checkpoint import Outgoing
from unirms.checkpoints.tensors import PIECE_BYTES, Moving, Stored, raw
from unirms.config import RMSPropConfig
from unirms.errors import CheckpointError
from unirms.recipes import keras as recipes
from unirms.schedules import BaseSchedule, Plateau
from unirms.state import GRADIENT_SUM, WEIGHTS

from . import naming
from .archives import CONFIG, Archive, inner_optimizer, opened
from .archives import WEIGHTS as MEMBER
from .hdf5 import Contents, contents, stored
from .slots import ORDER, Structure, rate_of
from .statement import ATTRIBUTE, say


@dataclass(frozen=True)
class _Region:
    """Where a tensor is to stand in the new HDF5 file."""

    offset: int
    source: Moving | Stored

    def bytes(self) -> Iterator[memoryview]:
        """Yield the tensor piece by piece."""
        if isinstance(self.source, Moving):
            yield from self.source.bytes_of_pieces()
        else:
            yield from (raw(piece, self.source.dtype) for piece in self.source.pieces())


def write(path: Path, content: Outgoing, like: Path | None) -> None:
    """Write `path`: an archive if it ends so, and otherwise a file of weights; see `keras.write`."""
    config = content.config
    if config is None:
        raise CheckpointError("the state has no config, so that nobody knows which variables its optimizer has")
    zipped = path.suffix == ".keras"
    if zipped and like is None:
        raise CheckpointError("a .keras file can only be written with the model of another: give one with --like")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(dir=path.parent)))
        archive = None if like is None else stack.enter_context(opened(like, folder))
        if zipped and (archive is None or archive.zipped is None):
            raise CheckpointError(f"{like} is no .keras file, whose model could be kept")
        file = None if archive is None else contents(archive.weights)
        empty = folder / "empty.h5" if zipped else path
        regions = _skeleton(empty, content, config, file, folder)
        if zipped:
            assert archive is not None
            _pack(path, archive, empty, regions, content, config)
        else:
            _fill(empty, regions)


def _skeleton(
    path: Path, content: Outgoing, config: RMSPropConfig, like: Contents | None, folder: Path
) -> list[_Region]:
    """Write a file without values; return the tensors that belong into it, in the order of their places."""
    regions: list[_Region] = []
    with h5py.File(path, "w") as new:
        if like is not None:
            regions += _kept(new, content, like, folder)
        elif content.tensors.get(WEIGHTS):
            raise CheckpointError("weights can only be written into the layers of another file: give one with --like")
        group = "optimizer/vars" if like is None else naming.optimizer_group(like)
        if like is not None and len(like.under(group)) <= 2:
            _refuse_order(content, like)
        regions += _optimizer(new.require_group(group), content, config)
    return sorted(regions, key=lambda region: region.offset)


def _kept(new: Any, content: Outgoing, like: Contents, folder: Path) -> list[_Region]:
    """Make the groups and datasets of another file, but the optimizer's variables; weights come from the state."""
    regions: list[_Region] = []
    moving, named = dict(content.tensors.get(WEIGHTS, {})), naming.weights(like)
    group = naming.optimizer_group(like)
    names = _weights_by_path(content, like, named)
    for path, attributes in like.attributes.items():
        place = new.require_group(path) if path else new
        for name, value in attributes.items():
            if not (path == group and name == ATTRIBUTE):
                place.attrs[name] = value
    for path, one in like.datasets.items():
        if path.rpartition("/")[0] == group:
            continue
        source: Moving | Stored | None = moving.pop(names.get(path, ""), None)
        if source is None and not one.is_tensor:
            if not one.dtype:
                raise CheckpointError(f"{path!r} of the file to keep is no numbers, which cannot be kept")
            new.create_dataset(path, data=one.array())
            continue
        if source is not None and source.shape != one.shape:
            raise CheckpointError(f"the weights {names[path]!r} have the shape {source.shape}, and there {one.shape}")
        source = stored(one, folder) if source is None else source
        regions += _reserved(new, path, source)
    if moving:
        raise CheckpointError(f"the file to keep has no weights {next(iter(moving))!r}")
    return regions


def _refuse_order(content: Outgoing, like: Contents) -> None:
    """Raise an error unless the parameters are in the order of a model whose optimizer has no variables yet."""
    order = naming.trained(
        like, naming.weights(like), [content.tensors["mean_square"][n].shape for n in content.parameters]
    )
    if order != list(content.parameters):
        raise CheckpointError(
            "the file to keep does not say in which order its optimizer has the parameters; call "
            "model.optimizer.build(model.trainable_variables) before you save it"
        )


def _weights_by_path(content: Outgoing, like: Contents, named: Mapping[str, Any]) -> dict[str, str]:
    """Return what the state calls the weights at each path, which is what the reader calls them."""
    shapes = [one.shape for one in content.tensors["mean_square"].values()]
    order = None if set(content.parameters) <= set(named) else naming.trained(like, named, shapes)
    found = naming.called(named, content.parameters, shapes, order)
    return {one.path: found[name] for name, one in named.items()}


def _optimizer(group: Any, content: Outgoing, config: RMSPropConfig) -> list[_Region]:
    """Make the optimizer's variables in Keras's order."""
    structure = Structure.of(config, content.parameters)
    if "name" not in group.attrs:
        group.attrs["name"] = "rmsprop"
    regions: list[_Region] = []
    _scalar(group, "0", (content.step or 0) * structure.accumulation + content.micro_step, "int64")
    number = 1
    if structure.has_rate:
        _scalar(group, "1", rate_of(content, config), "float32")
        number = 2
    for kind in ORDER:
        for index in structure.kept(kind) or ():
            name = content.parameters[index]
            source = content.tensors.get(kind, {}).get(name)
            like = content.tensors["mean_square"][name]
            if source is None and kind != GRADIENT_SUM:
                raise CheckpointError(f"the state has no {kind} of {name!r}, which the optimizer keeps")
            regions += _reserved(group, str(number), like if source is None else source, empty=source is None)
            number += 1
    say(group.attrs, config, content.parameters, content.plateau)
    return regions


def _reserved(group: Any, path: str, source: Moving | Stored, *, empty: bool = False) -> list[_Region]:
    """Reserve the place of a tensor; return it, unless nothing is to be written there."""
    place, _, name = path.rpartition("/")
    offset = _place(group.require_group(place) if place else group, name, source.dtype, source.shape)
    return [] if offset is None or empty else [_Region(offset, source)]


def _place(group: Any, name: str, dtype: str, shape: tuple[int, ...]) -> int | None:
    """Make a dataset whose bytes are to be written into the closed file; return where, or None of an empty one.

    What is never written there reads as zeros.
    """
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    how.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    kind = h5py.h5t.py_create(np.dtype("V2" if dtype == "bfloat16" else dtype).newbyteorder("<"))
    made = h5py.Dataset(h5py.h5d.create(group.id, name.encode(), kind, space, how))
    if dtype == "bfloat16":
        made.attrs["dtype"] = dtype  # as Keras marks it, for HDF5 has no such type
    offset: int | None = made.id.get_offset()
    return offset


def _scalar(group: Any, name: str, value: float, dtype: str) -> None:
    group.create_dataset(name, data=np.asarray(value, dtype))


def _fill(path: Path, regions: Iterable[_Region]) -> None:
    """Write the tensors into their places."""
    with path.open("rb+") as file:
        for region in regions:
            file.seek(region.offset)
            for piece in region.bytes():
                file.write(piece)


def _pack(
    path: Path, archive: Archive, empty: Path, regions: Iterable[_Region], content: Outgoing, config: RMSPropConfig
) -> None:
    """Write an archive with the members of another, its optimizer and its weights replaced."""
    assert archive.zipped is not None
    with zipfile.ZipFile(path, "w") as new:
        for info in archive.zipped.infolist():
            fresh = zipfile.ZipInfo(info.filename, info.date_time)
            with new.open(fresh, "w", force_zip64=True) as member:
                if info.filename == CONFIG:
                    member.write(_model(archive, content, config).encode())
                elif info.filename == MEMBER:
                    for piece in _filled(empty, regions):
                        member.write(piece)
                else:
                    with archive.zipped.open(info) as kept:
                        shutil.copyfileobj(kept, member, 1 << 20)


def _filled(empty: Path, regions: Iterable[_Region]) -> Iterator[bytes | memoryview]:
    """Yield the file with its tensors in their places."""
    with empty.open("rb") as file:
        for region in regions:
            yield file.read(region.offset - file.tell())
            count = 0
            for piece in region.bytes():
                count += len(piece)
                yield piece
            file.seek(count, os.SEEK_CUR)
        while rest := file.read(PIECE_BYTES):
            yield rest


def _model(archive: Archive, content: Outgoing, config: RMSPropConfig) -> str:
    """Return the model's config with our optimizer in the place of its own."""
    optimizer = inner_optimizer(archive.config)
    if not isinstance(optimizer, dict):
        raise CheckpointError(f"{archive.weights.path} has no compiled optimizer; compile the model before you save it")
    name = optimizer.get("config", {}).get("name")
    optimizer.clear()
    optimizer.update(_serialized(content, config))
    if isinstance(name, str):
        optimizer["config"]["name"] = name
    return json.dumps(archive.config)


def _serialized(content: Outgoing, config: RMSPropConfig) -> dict[str, Any]:
    """Return the optimizer as Keras serializes it."""
    rate: Any = config.learning_rate
    if isinstance(rate, BaseSchedule) and not config.has_constant_rate:
        rate = {
            "module": "unirms.adapters.keras.schedules",
            "class_name": "UniRMSSchedule",
            "config": {"schedule": rate.model_dump(mode="json")},
            "registered_name": recipes.OUR_SCHEDULE,
        }
    else:
        rate = rate_of(content, config)
    if content.stock:
        stock: dict[str, Any] = json.loads(recipes.write(config.to_native("keras")))
        if not isinstance(stock["config"].get("learning_rate"), dict):
            stock["config"]["learning_rate"] = rate
        return stock
    # As `UniRMSProp.get_config`: groups are multiples of the rate in the config, which is no schedule there.
    is_plateau = isinstance(config.learning_rate, Plateau)
    first = config if is_plateau else config.replace(learning_rate=config.initial_learning_rate)
    return {
        "module": "unirms.adapters.keras.optimizer",
        "class_name": "UniRMSProp",
        "config": {
            "learning_rate": rate,
            "names": list(content.parameters),
            "config": first.model_dump(mode="json"),
        },
        "registered_name": recipes.EXACT,
    }
