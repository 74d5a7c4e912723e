"""examples/moving_a_run: 20 steps in PyTorch, one command, 20 steps in Keras, as if nothing had happened."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from unirms.registry import FRAMEWORKS

EXAMPLE = Path(__file__).parent.parent / "examples" / "moving_a_run"
# Measured: 4.2e-7, a few float32 roundings of a loss of 1. The networks sum in other orders, which training multiplies;
# PyTorch on an AVX-512 processor and PyTorch held to AVX2 part by 2.8e-7.
SAME_LOSS = 5e-6


def run(folder, framework, *command):
    environment = {**os.environ, **dict(FRAMEWORKS[framework].environment)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def script(folder, framework, *words):
    return run(folder, framework, sys.executable, *words)


def further_apart(first, second):
    return max(abs(np.array(first) / np.array(second) - 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a copy of the example in which everything was done as its README says."""
    place = tmp_path_factory.mktemp("example")
    shutil.copytree(EXAMPLE, place, dirs_exist_ok=True)
    (place / "torch.json").write_text(script(place, "torch", "train_in_torch.py"))
    script(place, "keras", "go_on_in_keras.py", "fresh")
    migrate = next(
        line for line in (EXAMPLE / "README.md").read_text().splitlines() if line.startswith("unirms migrate")
    )
    script(place, "torch", "-m", "unirms.cli", *migrate.split()[1:])
    (place / "keras.json").write_text(script(place, "keras", "go_on_in_keras.py"))
    return place


def test_keras_goes_on_where_pytorch_stopped(folder):
    there, here = (json.loads((folder / f"{name}.json").read_text()) for name in ("torch", "keras"))
    assert here["step"] == 20
    assert len(here["second"]) == len(there["second"]) == 20
    assert further_apart(here["second"], there["second"]) < SAME_LOSS


def test_weights_alone_would_not_do(folder, tmp_path):
    """The check above can fail: with a fresh state beside the carried weights, the losses are others."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    with h5py.File(tmp_path / "carried.weights.h5", "r+") as carried, h5py.File(tmp_path / "fresh.weights.h5") as fresh:
        del carried["optimizer"]
        fresh.copy("optimizer", carried)
    forgetful = json.loads(script(tmp_path, "keras", "go_on_in_keras.py"))
    there = json.loads((folder / "torch.json").read_text())
    assert further_apart(forgetful["second"], there["second"]) > 100 * SAME_LOSS
