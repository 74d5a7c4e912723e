"""The files of `paddle.save`: .pdopt and .pdparams of one name, or one file with both state dictionaries."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from unirms.checkpoints.checkpoint import Checkpoint, Outgoing
from unirms.checkpoints.naming import plain
from unirms.errors import CheckpointError

from ..spool import Spool
from . import dicts, reading, tensors, writing
from .names import MODEL, OPTIMIZER

FORMAT: Final = "paddle"


def read(path: Path, spool: Path) -> Checkpoint:
    """Return what a file of `paddle.save` holds; see `unirms.checkpoints.formats.Format`.

    Beside a .pdopt the .pdparams of the same name is looked at, and the other way round. No code of a file is run, and
    PaddlePaddle need not be installed.
    """
    sources = [tensors.load(file) for file in files_of(path)]
    optimizer = dicts.optimizer_in(sources)
    model = dicts.model_in(sources, optimizer)
    if optimizer is None and model is None:
        raise CheckpointError(
            f"{plain(path.name)} holds no tensors; an optimizer of Paddle's has none before its first step"
        )
    return reading.checkpoint(optimizer, model, FORMAT, Spool(spool))


def write(path: Path, content: Outgoing, like: Path | None) -> None:
    """Write files that `paddle.load` reads; see `unirms.checkpoints.formats.Format`.

    A .pdopt and, where there are weights, a .pdparams of the same name; under any other suffix one file with the keys
    "model" and "opt". With `like`, its keys, its parameters' own names and its other contents.
    """
    sources = [] if like is None else [tensors.load(file) for file in files_of(like)]
    writing.write(path, content, sources)


def files_of(path: Path) -> list[Path]:
    """Return the file, and that of the other state dictionary if it is there; of a prefix those that are there.

    Raises:
        CheckpointError: there is none.
    """
    if path.suffix in (OPTIMIZER, MODEL):
        if path.exists() and not path.is_file():  # but a pipe, whose reader would wait
            raise CheckpointError(f"{plain(str(path))} is no file")
        pair = [path.with_suffix(OPTIMIZER), path.with_suffix(MODEL)]
        return [file for file in pair if file == path or file.is_file()]
    if path.is_file():
        return [path]
    found = [file for suffix in (OPTIMIZER, MODEL) if (file := path.parent / (path.name + suffix)).is_file()]
    if not found:
        raise CheckpointError(f"{plain(str(path))} cannot be read: there is no such file")
    return found
