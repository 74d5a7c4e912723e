"""Which format a file has: told by what the user calls it, by its first bytes, or by its suffix."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from unirms.checkpoints import indexed
from unirms.checkpoints.formats import FORMATS, Known
from unirms.checkpoints.naming import plain
from unirms.checkpoints.paths import check, is_file
from unirms.errors import CheckpointError, UnknownNameError, did_you_mean
from unirms.registry import FRAMEWORKS, framework

_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_ZIP: Final = b"PK\x03\x04"
_PICKLE: Final = b"\x80"
_LEGACY_TORCH: Final = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"
"""The number that `torch.save` pickled first before it wrote zip files (`MAGIC_NUMBER` in torch/serialization.py)."""
_INDEX: Final = ".index"
_PREFIXES: Final = {indexed.SUFFIX: "unirms", _INDEX: None, ".pdopt": "paddle", ".pdparams": "paddle"}
"""What follows the name that several files share, and their format; TensorFlow's has two, told by the index."""
_OBJECT_GRAPH: Final = b"_CHECKPOINTABLE_OBJECT_GRAPH"
"""The first key of the index that `tf.train.Checkpoint` writes; `tf.compat.v1.train.Saver` writes none such."""


def of_source(path: Path, named: str | None = None) -> Known:
    """Return the format of a file, a folder, or a prefix of several files.

    Args:
        path: what is to be read.
        named: what the user calls it: a format or a framework.

    Raises:
        CheckpointError: there is nothing, or it has none of the formats.
        UnknownNameError: no such format or framework.
    """
    told = _by_content(path)
    if named is not None:
        return _chosen(named, told, _by_suffix(path))
    if told is None:
        raise CheckpointError(
            f"{plain(str(path))} has none of the formats that unirms knows by their contents; name it with --from: "
            f"{', '.join(FORMATS)}"
        )
    return told


def of_destination(path: Path, named: str | None = None, like: Path | None = None) -> Known:
    """Return the format of a file that is to be written.

    Args:
        path: the place; its suffix tells.
        named: what the user calls it: a format or a framework.
        like: a file whose structure is kept, which tells where the suffix does not; unless given, what is at the place.

    Raises:
        CheckpointError: nothing tells, or there is no such file as `like`.
        UnknownNameError: no such format or framework.
    """
    pattern = path if like is None and exists(path) else like
    told = None if pattern is None else _by_content(pattern)
    if named is not None:
        return _chosen(named, _by_suffix(path), told)
    chosen = _by_suffix(path) or told
    if chosen is None:
        raise CheckpointError(
            f"the name {plain(path.name)} does not tell in which format it is to be written; name one with --to: "
            f"{', '.join(FORMATS)}"
        )
    return chosen


def exists(path: Path) -> bool:
    """Return whether there is a file, a folder, or files of which a path is the prefix."""
    if os.path.exists(path):  # noqa: PTH110 - that of pathlib raises for a name too long
        return True
    return any(is_file(path.with_name(path.name + suffix)) for suffix in _PREFIXES)


def _chosen(named: str, *hints: Known | None) -> Known:
    """Return the format that the user means; of a framework's several, the first hint that is one of them."""
    if named in FORMATS and named not in FRAMEWORKS:
        return FORMATS[named]
    try:
        owner = framework(named).name
    except UnknownNameError:
        right = did_you_mean(named, dict.fromkeys([*FRAMEWORKS, *FORMATS]))
        raise UnknownNameError(f"{named!r} is neither a framework nor a format of states; {right}") from None
    own = [known for known in FORMATS.values() if known.framework == owner]
    default = next(known for known in own if known.default)
    return next((known for known in hints if known in own), None) or default


def _by_suffix(path: Path) -> Known | None:
    return next((known for known in FORMATS.values() if path.suffix in known.suffixes), None)


def _by_content(path: Path) -> Known | None:
    """Return the format that a file shows by itself; None where it shows none.

    Raises:
        CheckpointError: there is nothing, or it cannot be read.
    """
    try:
        check(path)
        if path.is_dir():
            return _of_folder(path)
        if path.name.endswith(indexed.SUFFIX):
            return FORMATS["unirms"]
        if not os.path.exists(path):  # noqa: PTH110
            for suffix, format in _PREFIXES.items():
                beside = path.with_name(path.name + suffix)
                if is_file(beside):
                    return _of_tensorflow([beside]) if format is None else FORMATS[format]
        if path.suffix == _INDEX:
            return _of_tensorflow([path])
        with path.open("rb") as file:
            return _of_bytes(path, file.read(64))
    except (OSError, ValueError) as error:  # the second: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{plain(str(path))} cannot be read: {reason}") from None


def _of_folder(path: Path) -> Known | None:
    if (path / ".metadata").is_file():
        return FORMATS["torch-dcp"]
    return _of_tensorflow(sorted(path.glob(f"*{_INDEX}")))


def _of_tensorflow(indices: Sequence[Path]) -> Known | None:
    """Return which of TensorFlow's two formats has the last of these indices."""
    if not indices:
        return None
    check(indices[-1])
    with indices[-1].open("rb") as file:
        objects = _OBJECT_GRAPH in file.read(4096)
    return FORMATS["tf-checkpoint" if objects else "tf1"]


def _of_bytes(path: Path, start: bytes) -> Known | None:
    if start.startswith(_HDF5):
        return FORMATS["keras-weights"]
    if start.startswith(_ZIP):
        return FORMATS["keras" if _has_config(path) else "torch"]
    if start.startswith(_PICKLE):
        return FORMATS["torch" if _LEGACY_TORCH in start else "paddle"]
    if start[8:9] == b"{":
        return FORMATS["unirms"]
    return _by_suffix(path)


def _has_config(path: Path) -> bool:
    """Return whether a zip file is one of Keras, which has a config.json beside the weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "config.json" in archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, EOFError):
        return path.suffix in FORMATS["keras"].suffixes
