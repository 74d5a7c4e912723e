"""The files of `torch.save`: the state dictionary of an optimizer, or a checkpoint that has it among others."""

from __future__ import annotations

from pathlib import Path

from unirms.checkpoints.checkpoint import Checkpoint, Outgoing
from unirms.errors import CheckpointError

from ..spool import Spool
from . import dicts, files, saving, writing

FORMAT = "torch"


def read(path: Path, spool: Path) -> Checkpoint:
    """Return what a file of `torch.save` holds; see `unirms.checkpoints.formats.Format`.

    No code of the file is run: of what `torch.load(weights_only=True)` accepts, tensors and plain data are read.
    """
    file = files.read(path)
    return dicts.checkpoint(file, file.data, FORMAT, Spool(spool, path))


def write(path: Path, content: Outgoing, like: Path | None) -> None:
    """Write a file as `torch.save` does; see `unirms.checkpoints.formats.Format`.

    The state dictionary of the optimizer alone where there is nothing else, and otherwise a dictionary with the keys
    "model", "optimizer" and "scheduler", those of PyTorch's tutorials. With `like`, its keys and its other contents.
    """
    file = None if like is None else files.read(like)
    if file is None:
        whole = writing.made_anew(content)
        data = whole if len(whole) > 1 else whole["optimizer"]
    else:
        data = file.data
        writing.put_into(content, file, data, dicts.parts_of(file, data))
    try:
        with path.open("w+b") as to:
            saving.write_archive(to, data, {} if file is None else file.records)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {error.strerror}") from None
