"""Tests that load a framework: collected only in a process that was started for it (`pytest --framework torch`).

`tests/test_frameworks.py` starts one such process for each framework, because the four cannot live in one.
"""

import importlib
from pathlib import Path

import numpy as np
import pytest

from unirms.registry import FRAMEWORKS

# Files for all frameworks, and one for each.
OWN_FILES = {f"test_{name}.py": name for name in FRAMEWORKS}


def pytest_ignore_collect(collection_path: Path, config):
    wanted = config.getoption("--framework")
    if collection_path.suffix != ".py":
        return None
    if wanted is None or OWN_FILES.get(collection_path.name, wanted) != wanted:
        return True
    return None


@pytest.fixture(scope="session")
def framework(request):
    return request.config.getoption("--framework")


@pytest.fixture(scope="session")
def driver(framework):
    return importlib.import_module("unirms.conformance.drivers").driver(framework)


@pytest.fixture
def rng():
    return np.random.default_rng(7)
