"""A process of unirms's own that serves another: how it starts, where it answers, and that it ends with the other."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TextIO

SECONDS_BETWEEN_LOOKS = 0.2


def command(interpreter: str, module: str, *arguments: str) -> list[str]:
    """Return the command that calls `main` of a module with another Python.

    Nothing is imported from the folder where the user happens to be, which may have come with a file: ``python -m``
    looks there first, and PYTHONSAFEPATH keeps only Python 3.11 and newer from it.
    """
    start = f"import sys; sys.path[:] = [place for place in sys.path if place]; from {module} import main; main()"
    return [interpreter, "-c", start, *arguments]


def serve() -> TextIO:
    """Return where to write the answer; this process ends soon after its parent is gone.

    Frameworks print on standard output whenever they like, from C as well; so the answer goes to a copy of the real
    standard output, and descriptor 1 is pointed at standard error. Call it before any framework is loaded.
    """
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answer


def stop(answer: TextIO) -> None:
    """End this process at once: MindSpore and TensorFlow can abort while they take themselves down."""
    answer.flush()
    sys.stderr.flush()
    os._exit(0)


def _end_with(parent: int) -> None:
    """End this process soon after its parent is gone, whatever a framework is doing: nobody reads on."""
    while os.getppid() == parent:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(1)
