"""Tests that load a framework: collected only in a process that was started for it (`pytest --framework torch`).

`tests/test_frameworks.py` starts one such process for each framework, because the four cannot live in one.
"""

import importlib
from pathlib import Path

import numpy as np
import pytest

from unirms.registry import FRAMEWORKS


def owner(file):
    """Return the framework that a file belongs to: test_torch.py and test_torch_*.py; None for those of all."""
    return next((name for name in FRAMEWORKS if file == f"test_{name}.py" or file.startswith(f"test_{name}_")), None)


def pytest_ignore_collect(collection_path: Path, config):
    wanted = config.getoption("--framework")
    if collection_path.suffix != ".py":
        return None
    return True if wanted is None or owner(collection_path.name) not in {None, wanted} else None


def pytest_collection_modifyitems(config, items):
    """Leave out the tests of other frameworks: those marked with `frameworks` and not this one's name."""
    wanted = config.getoption("--framework")
    foreign = [item for item in items for mark in item.iter_markers("frameworks") if wanted not in mark.args]
    if foreign:
        config.hook.pytest_deselected(items=foreign)
        items[:] = [item for item in items if item not in foreign]


@pytest.fixture(scope="session")
def framework(request):
    return request.config.getoption("--framework")


@pytest.fixture(scope="session")
def driver(framework):
    return importlib.import_module("unirms.conformance.drivers").driver(framework)


@pytest.fixture
def rng():
    return np.random.default_rng(7)
