"""Options of the whole suite."""

import pytest
from hypothesis import settings

from framework_runs import Runs

# The first example of a process also pays for lazy imports, so no deadline; the same examples in every run.
settings.register_profile("unirms", deadline=None, derandomize=True)
settings.load_profile("unirms")


def pytest_addoption(parser):
    parser.addoption("--framework", default=None, help="run the tests that load this framework, in this process")
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        slow = [item for item in items if "slow" in item.keywords]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]
    items.sort(key=_waits_for_frameworks)  # the last: their processes are at work from the beginning


def _waits_for_frameworks(item):
    return "framework_runs" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session", autouse=True)
def _frameworks_at_work(request):
    """Start the processes of the frameworks before the first test, if some test will wait for them."""
    if any(map(_waits_for_frameworks, request.session.items)):
        request.getfixturevalue("framework_runs")


@pytest.fixture(scope="session")
def framework_runs():
    runs = Runs()
    yield runs
    runs.close()
