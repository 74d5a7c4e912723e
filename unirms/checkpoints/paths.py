"""What is looked at before a file is opened or written, by its path alone."""

from __future__ import annotations

import os
from errno import EILSEQ
from pathlib import Path

from unirms.replacing import refuse_special


def check(path: Path) -> None:
    """Raise for a path that no state is read from or written to; nothing need be there.

    Raises:
        OSError: there is a device, a pipe or a socket; or the path is no UTF-8, in which processes and files say it.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise OSError(EILSEQ, "its path is not UTF-8; rename it", str(path)) from None
    refuse_special(path)


def is_file(path: Path) -> bool:
    """Return whether there is a file; a name too long for the file system has none."""
    return os.path.isfile(path)  # noqa: PTH113 - that of pathlib raises
