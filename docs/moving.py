"""Draws `docs/moving.svg`: the losses of examples/moving_a_run, in one framework and across two. Takes a minute.

pip install matplotlib
python docs/moving.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import matplotlib.pyplot as plt

from unirms.registry import FRAMEWORKS

PICTURE = Path(__file__).with_name("moving.svg")
EXAMPLE = Path(__file__).parent.parent / "examples" / "moving_a_run"
CARRIED, FRESH = "carried.weights.h5", "fresh.weights.h5"


def main() -> None:
    """Run the example, once more with a fresh state beside the carried weights, and draw the losses."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)
        straight = json.loads(run(folder, "torch", "train_in_torch.py"))
        run(folder, "keras", "go_on_in_keras.py", "fresh")
        lines = (EXAMPLE / "README.md").read_text().splitlines()
        migrate = next(line for line in lines if line.startswith("unirms migrate"))
        run(folder, "torch", "-m", "unirms.cli", *migrate.split()[1:])
        moved = json.loads(run(folder, "keras", "go_on_in_keras.py"))["second"]
        with h5py.File(folder / CARRIED, "r+") as carried, h5py.File(folder / FRESH) as fresh:
            del carried["optimizer"]
            fresh.copy("optimizer", carried)
        forgetful = json.loads(run(folder, "keras", "go_on_in_keras.py"))["second"]
    draw([*straight["first"], *straight["second"]], moved, forgetful)


def run(folder: Path, framework: str, *words: str) -> str:
    """Return what a Python process prints."""
    environment = {**os.environ, **dict(FRAMEWORKS[framework].environment)}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def draw(straight: Sequence[float], moved: Sequence[float], forgetful: Sequence[float]) -> None:
    """Draw the losses by step."""
    plt.rcParams.update(
        {"font.size": 11, "svg.hashsalt": "unirms", "axes.spines.top": False, "axes.spines.right": False}
    )
    figure, axes = plt.subplots(figsize=(8, 4.2))
    first = len(straight) - len(moved)
    later = range(first + 1, len(straight) + 1)
    axes.plot(range(1, len(straight) + 1), straight, color="#b0b7c3", linewidth=6, label="PyTorch alone")
    axes.plot(later, forgetful, color="#d1495b", linestyle="--", label="Keras, weights carried, state forgotten")
    axes.plot(later, moved, "o", color="#1d3557", markersize=4, label="Keras, weights and state carried by unirms")
    axes.axvline(first + 0.5, ymax=0.75, color="#6c757d", linewidth=1, linestyle=":")
    axes.set(xlabel="step", ylabel="loss", xlim=(0, len(straight) + 1))
    axes.legend(frameon=False, loc="upper right")
    figure.tight_layout()
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    main()
