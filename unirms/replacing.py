"""Writing files so that an interrupted run leaves the old one whole: beside the place first, then moved there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(place: Path) -> Iterator[Path]:
    """Give the path of a new empty file beside `place`, and move it there if the block ends without an error.

    The file keeps the permissions of the one that it replaces; of a link, the file behind it is replaced.

    Raises:
        OSError: there is no such folder, or it cannot be written to.
    """
    place = Path(os.path.realpath(place))
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.chmod(place.stat().st_mode if place.exists() else _default_mode())
        beside.replace(place)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def replacing_folder(place: Path) -> Iterator[Path]:
    """Give the path of a new empty folder beside `place`, and move it there if the block ends without an error.

    A folder that was there is moved away first and removed last: between the two renames, neither is at its place, and
    both are whole.
    """
    place = Path(os.path.realpath(place))
    beside = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
    new, old = beside / "new", beside / "old"
    new.mkdir()
    try:
        yield new
        if place.exists():
            place.replace(old)
        try:
            new.replace(place)
        except OSError:
            if old.exists():
                old.replace(place)
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _default_mode() -> int:
    """Return the permissions that a new file would have; `mkstemp` gives its files fewer."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
