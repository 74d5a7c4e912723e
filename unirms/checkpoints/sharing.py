"""How much the tensors of a file may be together: in most formats several can be the same elements.

Each is moved as a tensor of its own, so that a small file that names its elements a million times would fill a disk.
Tied weights and views are honest, and so are some copies of what a parameter starts from.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from unirms.checkpoints.naming import plain
from unirms.checkpoints.tensors import Stored
from unirms.errors import CheckpointError

# Bytes of tensors for a byte of their files, and what those of any file may have.
_MOST_TIMES: Final = 8
_ALWAYS: Final = 1 << 26


def most_bytes(sources: Iterable[Path]) -> int:
    """Return how many bytes the tensors of these files, and of those in these folders, may have together."""
    return _MOST_TIMES * sum(map(_size, sources)) + _ALWAYS


def refused(source: Path, most: int) -> CheckpointError:
    """Return the error for a file whose tensors have more."""
    return CheckpointError(
        f"{plain(source.name)} has tensors that share their elements, and would take more than {most} bytes as copies; "
        "save them as tensors of their own"
    )


def check(source: Path, tensors: Iterable[Stored], spool: Path) -> None:
    """Raise where tensors take too much that lie in their files; what has been copied to the spool has been checked.

    Raises:
        CheckpointError: they do.
    """
    lying = [one for one in tensors if not Path(one.path).is_relative_to(spool)]
    most = most_bytes({Path(one.path) for one in lying})
    if sum(one.bytes for one in lying) > most:
        raise refused(source, most)


def _size(source: Path) -> int:
    """Return the bytes of a file, or of the files in a folder."""
    files = source.iterdir() if source.is_dir() else [source]
    return sum(file.stat().st_size for file in files if file.is_file())
