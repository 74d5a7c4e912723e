"""Ending a command in order, whoever ends it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_SIGNALS: Final = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Windows has no SIGHUP, which a terminal sends when it is closed."""


@contextmanager
def unwinding() -> Iterator[None]:
    """Let a signal that ends the process unwind the block, as an interrupt does, so that no file is left over."""
    heeded = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # not what nohup ignores
    before = {number: signal.signal(number, lambda number, frame: _end(heeded, number)) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(heeded: list[signal.Signals], number: int) -> None:
    """End the process with the exit code that shells know; a second signal must not end the unwinding."""
    for one in heeded:
        signal.signal(one, signal.SIG_IGN)
    sys.exit(128 + number)
