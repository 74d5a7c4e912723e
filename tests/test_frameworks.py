"""Runs `tests/frameworks` once for each framework, in a process of its own; see `framework_runs`."""

import pytest

from framework_runs import SLOW_LIMIT, Done, check, run
from unirms import dialects
from unirms.registry import FRAMEWORKS


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_framework(framework_runs, name):
    check(name, framework_runs.result(name), at_least=40)


@pytest.mark.parametrize(
    ("code", "text"),
    [(1, "50 passed"), (None, "50 passed"), (0, "39 passed"), (0, "50 passed, 1 skipped"), (0, "no tests ran")],
)
def test_the_check_sees_what_went_wrong(code, text):
    check("any", Done(0, "50 passed"), at_least=40)
    with pytest.raises(AssertionError):
        check("any", Done(code, text), at_least=40)


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_slow_tests_of_a_framework(name):
    check(name, run(name, "--slow", "-m", "slow", limit=SLOW_LIMIT), at_least=len(dialects.all_dialects()))
