"""Starts a process for each framework, all at the same time, and turns whatever happens to it into data.

A worker that is missing, crashes or hangs becomes a `Failure`; it never becomes a traceback of the report.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from pydantic import ValidationError

from unirms.processes import command
from unirms.registry import framework

from . import HANG_AFTER
from .results import MESSAGES, Done, Failure, Message
from .worker import Tasks


@dataclass
class Worker:
    """A process of one framework.

    Args:
        name: the framework.
        interpreter: the Python that has it, with unirms installed beside it.
        tasks: what to do.
    """

    name: str
    interpreter: str
    tasks: Tasks
    process: subprocess.Popen[bytes] | None = None
    threads: list[threading.Thread] = field(default_factory=list)
    errors: IO[bytes] = field(default_factory=tempfile.TemporaryFile)

    def start(self, messages: queue.Queue[Message]) -> None:
        """Start the process and a thread that puts its messages into the queue; the last is Done or a Failure."""
        # Four workers share the cores: threads that wait by spinning would take them from each other.
        environment = {**os.environ, "OMP_WAIT_POLICY": "passive", **dict(framework(self.name).environment)}
        try:
            self.process = subprocess.Popen(
                command(self.interpreter, "unirms.conformance.worker", self.name),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                env=environment,
            )
        except OSError as error:
            messages.put(Failure(framework=self.name, reason=f"{self.interpreter} does not start: {error.strerror}"))
            return
        self.threads = [
            threading.Thread(target=self._feed, daemon=True),
            threading.Thread(target=self._read, args=(messages,), daemon=True),
        ]
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        """End the process if it is still there."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()

    def close(self) -> None:
        """End the process, wait for it, and close what was open to it."""
        self.stop()
        for thread in self.threads:
            thread.join()
        if self.process is not None:
            self.process.wait()
        self.errors.close()

    def _feed(self) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        # BrokenPipeError: it died before it read its tasks; _read reports how.
        with contextlib.suppress(BrokenPipeError), self.process.stdin as tasks:
            tasks.write(self.tasks.model_dump_json().encode())

    def _read(self, messages: queue.Queue[Message]) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        last: Message | None = None
        with self.process.stdout as lines:
            for line in lines:
                try:
                    last = MESSAGES.validate_json(line)
                except ValidationError:
                    self.stop()
                    last = Failure(framework=self.name, reason=f"the worker wrote something else: {line[:80]!r}")
                messages.put(last)
        code = self.process.wait()
        if not isinstance(last, (Done, Failure)):
            after = f" after {last.id}" if last is not None and last.kind == "case" else ""
            messages.put(Failure(framework=self.name, reason=f"the process {_ending(code)}{after}{self._last_words()}"))

    def _last_words(self) -> str:
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1].strip()[:200]}" if lines else ""


def _ending(code: int) -> str:
    if code < 0:
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"
    return f"stopped early with exit code {code}"


def run(
    names: Sequence[str],
    tasks: Tasks,
    interpreters: Mapping[str, str] | None = None,
    hang_after: float = HANG_AFTER,
) -> Iterator[Message]:
    """Yield the messages of all frameworks as they come; every framework ends with `Done` or `Failure`.

    Args:
        names: the frameworks.
        tasks: what each is to do.
        interpreters: the Python of a framework, where it is not this one.
        hang_after: seconds without a message after which a worker is ended.
    """
    messages: queue.Queue[Message] = queue.Queue()
    workers = {name: Worker(name, (interpreters or {}).get(name, sys.executable), tasks) for name in names}
    waiting = dict.fromkeys(names, hang_after)
    try:
        for worker in workers.values():
            worker.start(messages)
        while waiting:
            try:
                message = messages.get(timeout=1.0)
            except queue.Empty:
                for name in [name for name, left in waiting.items() if left <= 1.0]:
                    workers[name].stop()
                    del waiting[name]
                    yield Failure(framework=name, reason=f"the process gave no sign for {hang_after:g} s and was ended")
                waiting = {name: left - 1.0 for name, left in waiting.items()}
                continue
            if message.framework not in waiting:  # a late word of a worker that was given up
                continue
            waiting[message.framework] = hang_after
            if isinstance(message, (Done, Failure)):
                del waiting[message.framework]
            yield message
    finally:
        for worker in workers.values():
            worker.close()


def installed(names: Sequence[str], interpreters: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return, for each framework, its `Hello`, or the `Failure` to load it."""
    found: dict[str, Any] = {}
    for message in run(names, Tasks(load_only=True), interpreters, hang_after=120.0):
        if message.kind in {"hello", "failure"}:
            found[message.framework] = message
    return found
