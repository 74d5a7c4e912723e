"""Runs `tests/frameworks` once for each framework, in a process of its own: the four crash when loaded together."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from unirms import dialects
from unirms.registry import FRAMEWORKS

FOLDER = Path(__file__).parent / "frameworks"
LIMIT = 900  # seconds; the slowest takes some 330 on one core of its own
SLOW_LIMIT = 1200


def run(name, *options, limit=LIMIT):
    command = [sys.executable, "-m", "pytest", str(FOLDER), "--framework", name, "-q", "-p", "no:cacheprovider"]
    environment = {**os.environ, **dict(FRAMEWORKS[name].environment)}
    return subprocess.run(
        [*command, *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=limit,
        env=environment,
        cwd=FOLDER.parent.parent,
    )


def check(name, done, *, at_least):
    assert done.returncode == 0, f"{name}:\n{done.stdout[-20000:]}\n{done.stderr[-3000:]}"
    # A framework that is missing is a failure, not a skip.
    counts = re.search(r"(\d+) passed", done.stdout)
    assert counts is not None
    assert int(counts[1]) >= at_least
    assert "skipped" not in done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def runs():
    # Two at a time, the longest first.
    with ThreadPoolExecutor(2) as pool:
        names = sorted(FRAMEWORKS, key=["mindspore", "keras", "paddle", "torch"].index)
        return {name: pool.submit(run, name) for name in names}


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_framework(runs, name):
    check(name, runs[name].result(), at_least=40)


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_slow_tests_of_a_framework(name):
    check(name, run(name, "--slow", "-m", "slow", limit=SLOW_LIMIT), at_least=len(dialects.all_dialects()))
