"""Files that belong together, written beside their places first and moved there when all of them are whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EEXIST
from pathlib import Path

from unirms.checkpoints.paths import check
from unirms.replacing import beside_prefix, refuse_special


@contextmanager
def placing(place: Path) -> Iterator[Path]:
    """Give a new empty folder beside `place`; what is in it when the block ends without an error is moved beside it.

    Files and folders of the same names are replaced: all of them, or none where the block or a move fails. A file is
    replaced in one step; files that belong together have a moment between two renames in which some are new. The rest
    of a process that was killed is a folder whose name begins with a dot.

    Raises:
        OSError: there is no such folder, or it cannot be written to, or a place has a device or a pipe.
    """
    parent = Path(os.path.realpath(place.parent))
    check(parent / place.name)
    beside = Path(tempfile.mkdtemp(dir=parent, prefix=beside_prefix(place)))
    new, old = beside / "new", beside / "old"
    try:
        new.mkdir()
        old.mkdir()
        yield new
        fresh = sorted(new.iterdir())
        for entry in fresh:
            _settle(entry)
        _move(fresh, parent, old)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _move(fresh: list[Path], parent: Path, old: Path) -> None:
    """Move everything to its place; put back what was there if one does not go."""
    for entry in fresh:
        refuse_special(parent / entry.name)
    moved: list[tuple[Path, Path]] = []
    try:
        for index, entry in enumerate(fresh):
            place = Path(os.path.realpath(parent / entry.name))
            kept = old / str(index)
            if place.exists() and place.is_dir() != entry.is_dir():
                raise FileExistsError(EEXIST, f"a {'folder' if place.is_dir() else 'file'} is there", str(place))
            moved.append((place, kept))
            if place.exists():
                _keep(place, kept)
                entry.chmod(kept.stat().st_mode)
            entry.replace(place)
    except BaseException:
        for place, kept in reversed(moved):
            _put_back(place, kept)
        raise


def _keep(place: Path, kept: Path) -> None:
    """Put what is at a place aside; a file stays there as well, so that its place is never empty."""
    try:
        os.link(place, kept)
    except OSError:  # a folder, or a file system without links
        place.replace(kept)


def _put_back(place: Path, kept: Path) -> None:
    if kept.is_dir() and place.is_dir():
        shutil.rmtree(place)
    if kept.exists():
        kept.replace(place)
    elif place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def _settle(entry: Path) -> None:
    """Return when a file, or all files of a folder, are on the disk."""
    for path in [entry, *(entry.rglob("*") if entry.is_dir() else ())]:
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
