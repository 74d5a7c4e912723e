"""Options of the whole suite."""


def pytest_addoption(parser):
    parser.addoption("--framework", default=None, help="run the tests that load this framework, in this process")
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")
