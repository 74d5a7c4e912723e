"""Reading and writing in a process of its own, in which the framework of a format is loaded and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from unirms.checkpoints.checkpoint import Checkpoint, Outgoing
from unirms.checkpoints.formats import Known
from unirms.checkpoints.naming import plain
from unirms.checkpoints.worker import Answer, Request, answer
from unirms.config import RMSPropConfig
from unirms.errors import CheckpointError
from unirms.processes import command

_LAST_BYTES: Final = 10_000
"""Bytes of standard error that are kept: the last line is among them."""

Interpreters = Mapping[str, str]
"""The Python of a framework, with unirms installed beside it, where it is not this one."""


def read(
    chosen: Known,
    path: Path,
    spool: Path,
    config: RMSPropConfig | None = None,
    interpreters: Interpreters | None = None,
) -> Checkpoint:
    """Return what a file holds; see `unirms.checkpoints.formats.Format`.

    Raises:
        CheckpointError: it is damaged, foreign or refused, or its reader crashed.
        FrameworkMissingError: the reader needs a framework that does not load.
    """
    found = _call("read", chosen, Request(path=path, spool=spool, config=config), interpreters).checkpoint
    assert found is not None
    return found


def write(
    chosen: Known, path: Path, content: Outgoing, like: Path | None, interpreters: Interpreters | None = None
) -> tuple[tuple[str, str], ...]:
    """Write a file; return kind and name of each tensor in which a cast has changed a value.

    Raises:
        CheckpointError: it cannot be written, or its writer crashed.
        StateError: a tensor has a NaN, or a value that its dtype cannot hold.
        FrameworkMissingError: the writer needs a framework that does not load.
    """
    return _call("write", chosen, Request(path=path, content=content, like=like), interpreters).rounded


def _call(verb: str, chosen: Known, request: Request, interpreters: Interpreters | None) -> Answer:
    # unirms's own format needs no framework, and so no process.
    got = _apart(verb, chosen, request, interpreters) if chosen.framework else answer(verb, chosen, request)
    if got.problem is not None:
        raise got.problem.error() from None
    return got


def _apart(verb: str, chosen: Known, request: Request, interpreters: Interpreters | None) -> Answer:
    """Return the answer of another process; whatever else happens to it is a `CheckpointError`."""
    interpreter = (interpreters or {}).get(chosen.framework, sys.executable)
    task = f"the process that {verb}s {request.path.name}"
    errors = _LastWords()
    try:
        process = subprocess.Popen(
            command(interpreter, "unirms.checkpoints.worker", verb, chosen.name),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors.end,
            # For what a framework may start in its turn.
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )
    except OSError as error:
        raise CheckpointError(f"{interpreter} does not start: {error.strerror}") from None
    finally:
        os.close(errors.end)
    try:
        out, _ = process.communicate(request.model_dump_json().encode())
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        raise CheckpointError(f"{task} {_ending(process.returncode)}{errors.last_line()}")
    try:
        return Answer.model_validate_json(out)
    except ValidationError:
        raise CheckpointError(f"{task} gave no answer but {plain(repr(out[:80]))}") from None


def _ending(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


class _LastWords:
    """What a process writes on standard error at last: through a pipe, since no folder may have room for a file.

    Attributes:
        end: the descriptor to write to, which the caller closes.
    """

    def __init__(self) -> None:
        begin, self.end = os.pipe()
        self._kept = b""
        self._thread = threading.Thread(target=self._read, args=(begin,), daemon=True)
        self._thread.start()

    def _read(self, begin: int) -> None:
        with os.fdopen(begin, "rb", buffering=0) as pipe:
            while piece := pipe.read(_LAST_BYTES):
                self._kept = (self._kept + piece)[-_LAST_BYTES:]

    def last_line(self) -> str:
        """Return the last line after a colon, once the process has ended; "" where there is none."""
        self._thread.join(1.0)  # a process that outlives its parent may hold the pipe open
        lines = self._kept.decode(errors="replace").strip().splitlines()
        return f": {plain(lines[-1].strip())}" if lines else ""
