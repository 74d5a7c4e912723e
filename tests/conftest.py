"""Options of the whole suite."""

from hypothesis import settings

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
