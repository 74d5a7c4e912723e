"""The tests of `tests/frameworks`, for each framework in a process of its own: the four crash when loaded together."""

import os
import re
import subprocess
import sys
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from unirms.registry import FRAMEWORKS

FOLDER = Path(__file__).parent / "frameworks"
LONGEST_FIRST = ("mindspore", "keras", "paddle", "torch")
# Seconds after which something hangs; the slowest takes some 480 beside another, and twice that on a busy machine.
LIMIT, SLOW_LIMIT = 1800, 1800


@dataclass(frozen=True)
class Done:
    """A process that has ended: its exit code, None where it was ended for its time, and what it printed."""

    code: int | None
    text: str


class Runs:
    """The fast tests of all frameworks: one process beside the tests of the core, two when somebody waits for them.

    Both cores are at work from the beginning, and the core's tests of its own speed still find one.
    """

    def __init__(self):
        self._waiting = deque(sorted(FRAMEWORKS, key=LONGEST_FIRST.index))
        self._done = {name: Future() for name in FRAMEWORKS}
        self._processes = []
        self._is_alone = True
        self._begin()

    def result(self, name):
        """Return how the tests of a framework ended, when they have."""
        if self._is_alone:
            self._is_alone = False
            self._begin()
        return self._done[name].result()

    def close(self):
        """End what is still running: nobody looks at it any more."""
        self._waiting.clear()
        for process in self._processes:
            if process.poll() is None:
                process.kill()

    def _begin(self):
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self):
        while self._waiting:
            name = self._waiting.popleft()
            try:
                self._done[name].set_result(run(name, started=self._processes.append))
            except BaseException as error:
                self._done[name].set_exception(error)


def run(name, *options, limit=LIMIT, started=lambda process: None):
    """Return how the tests of a framework ended."""
    command = [sys.executable, "-m", "pytest", str(FOLDER), "--framework", name, "-q", "-p", "no:cacheprovider"]
    process = subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **dict(FRAMEWORKS[name].environment)},
        cwd=FOLDER.parent.parent,
    )
    started(process)
    try:
        text, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        text, _ = process.communicate()
        return Done(None, f"{text}\nended after {limit} s")
    return Done(process.returncode, text)


def check(name, done, *, at_least):
    """Check that the tests of a framework passed, and that they were there."""
    assert done.code == 0, f"{name}:\n{done.text[-20000:]}"
    # A framework that is missing is a failure, not a skip.
    counts = re.search(r"(\d+) passed", done.text)
    assert counts is not None
    assert int(counts[1]) >= at_least
    assert "skipped" not in done.text.splitlines()[-1]
