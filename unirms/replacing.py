"""Writing files so that an interrupted run leaves the old one whole: beside the place first, then moved there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EINVAL
from pathlib import Path


def refuse_special(place: Path) -> None:
    """Raise for a place with something that is neither a file nor a folder.

    A device would be replaced by a file, and a pipe that nobody writes to would be waited for without end.

    Raises:
        OSError: it is a device, a pipe or a socket.
    """
    if os.path.exists(place) and not (os.path.isfile(place) or os.path.isdir(place)):  # noqa: PTH110, PTH112, PTH113
        raise OSError(EINVAL, "it is neither a file nor a folder", str(place))


def beside_prefix(place: Path) -> str:
    """Return how the name of what is made beside a place begins; the whole name could leave no room for more."""
    return f".{place.name[:20]}."


@contextmanager
def replacing(place: Path) -> Iterator[Path]:
    """Give the path of a new empty file beside `place`, and move it there if the block ends without an error.

    The file keeps the permissions of the one that it replaces; of a link, the file behind it is replaced.

    Raises:
        OSError: there is no such folder, or it cannot be written to, or the place has a device or a pipe.
    """
    place = Path(os.path.realpath(place))
    refuse_special(place)
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=beside_prefix(place))
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
    beside = Path(tempfile.mkdtemp(dir=place.parent, prefix=beside_prefix(place)))
    new, old = beside / "new", beside / "old"
    try:
        new.mkdir()
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
