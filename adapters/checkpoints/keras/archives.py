"""Keras's two containers: `.weights.h5`, and `.keras`, a zip archive with such a file in it.

Nothing that an archive says is imported or executed: `config.json` is read as plain data, and only the optimizer in it.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from unirms.checkpoints.naming import plain
from unirms.errors import CheckpointError, UnirmsError

from .hdf5 import Part

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.weights.h5"
_LARGE: Final = 1 << 28
_EXPANSION: Final = 100
"""Keras's own limits (`saving_lib`): a member of more than 256 MiB that is 100 times as large as what is stored of it
is a bomb."""
_LARGEST_CONFIG: Final = 1 << 22
"""4 MiB of JSON, which may become 110 MB in memory; a layer takes some 1 KiB of it, and models have hundreds."""


@dataclass(frozen=True)
class Archive:
    """A file of Keras, opened.

    Attributes:
        weights: where the HDF5 file lies.
        config: what `config.json` says; None of a file without one.
        zipped: the archive; None of a bare HDF5 file.
    """

    weights: Part
    config: dict[str, Any] | None = None
    zipped: zipfile.ZipFile | None = None

    @property
    def optimizer(self) -> Mapping[str, Any] | None:
        """The serialized optimizer with which the model was compiled, the inner one of one that scales losses."""
        return inner_optimizer(self.config)


@contextmanager
def opened(path: Path, spool: Path) -> Iterator[Archive]:
    """Give a file of either kind; a compressed member is unpacked into `spool`.

    Raises:
        CheckpointError: it is damaged or refused.
    """
    try:
        is_zip = zipfile.is_zipfile(path)
        if not is_zip:
            yield Archive(Part.whole(path))
            return
        with zipfile.ZipFile(path) as zipped:
            members = [info.filename for info in zipped.infolist()]
            for name in (CONFIG, WEIGHTS):
                if members.count(name) != 1:
                    raise CheckpointError(f"{path} has {members.count(name)} members {name!r}; a .keras file has one")
            yield Archive(_weights(zipped, path, spool), _config(zipped, path), zipped)
    except UnirmsError:
        raise
    except Exception as error:  # zipfile raises errors of every kind for a damaged archive
        raise CheckpointError(f"{path} cannot be read: {plain(str(error))}") from None


def inner_optimizer(config: Any) -> Mapping[str, Any] | None:
    """Return the serialized optimizer in a model's config, which is a place in it, not a copy."""
    compiled = config.get("compile_config") if isinstance(config, Mapping) else None
    found = compiled.get("optimizer") if isinstance(compiled, Mapping) else None
    if isinstance(found, Mapping) and isinstance(found.get("config"), Mapping):
        inner = found["config"].get("inner_optimizer")
        return inner if isinstance(inner, Mapping) else found
    return None


def frozen_layers(config: Any) -> set[str]:
    """Return the names of the layers that a model's config says are not trained."""
    found, level = set(), [config]
    while level:
        one = level.pop()
        if isinstance(one, Mapping):
            if one.get("trainable") is False and isinstance(one.get("name"), str):
                found.add(one["name"])
            level += one.values()
        elif isinstance(one, list):
            level += one
    return found


def _weights(zipped: zipfile.ZipFile, path: Path, spool: Path) -> Part:
    """Return where the member with the weights lies: in the archive if it is stored as it is."""
    info = zipped.getinfo(WEIGHTS)
    _refuse_bomb(info, path)
    if info.compress_type != zipfile.ZIP_STORED:
        with zipped.open(info) as packed, (spool / WEIGHTS).open("wb") as file:
            while piece := packed.read(1 << 20):
                file.write(piece)
        return Part.whole(spool / WEIGHTS)
    with path.open("rb") as file:
        file.seek(info.header_offset)
        head = file.read(30)
        if len(head) < 30 or head[:4] != b"PK\x03\x04" or info.flag_bits & 1:
            raise CheckpointError(f"{path} is damaged: {WEIGHTS} does not begin where the archive says")
        name, extra = struct.unpack("<2H", head[26:30])
    start = info.header_offset + 30 + name + extra
    if start + info.file_size > path.stat().st_size:
        raise CheckpointError(f"{path} is damaged: {WEIGHTS} should end after the end of the file")
    return Part(path, start, info.file_size)


def _config(zipped: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    info = zipped.getinfo(CONFIG)
    if info.file_size > _LARGEST_CONFIG:
        raise CheckpointError(f"{path}: {CONFIG} has {info.file_size} bytes, more than any model's")
    data = json.loads(zipped.read(info))
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: {CONFIG} is no mapping, as a model's is")
    return data


def _refuse_bomb(info: zipfile.ZipInfo, path: Path) -> None:
    if info.file_size > _LARGE and info.file_size > _EXPANSION * info.compress_size:
        raise CheckpointError(
            f"{path}: {info.filename} would unpack from {info.compress_size} bytes to {info.file_size}; it is refused"
        )
