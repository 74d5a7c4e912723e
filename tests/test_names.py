"""Name patterns, and what is known of two of them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unirms.names import are_disjoint, covers, is_literal, matches, uncovered

# Few letters, so that patterns and names meet; every kind of wildcard, and a regular expression.
globs = st.text("ab.*?[]!", min_size=1, max_size=5)
patterns = st.one_of(globs, st.text("ab.", min_size=1, max_size=3), st.sampled_from(["*", "re:a", "re:^a.*b$"]))
NAMES = ["".join(letters) for size in range(5) for letters in itertools.product("ab.*?[]", repeat=size)]


@given(patterns, patterns)
def test_what_is_known_of_two_patterns_holds_for_every_name(one, other):
    if covers(one, other):
        assert all(matches(name, [one]) for name in NAMES if matches(name, [other]))
    if are_disjoint(one, other):
        assert not any(matches(name, [one]) and matches(name, [other]) for name in NAMES)
    if is_literal(one):
        assert [name for name in NAMES if matches(name, [one])] in ([one], [])
        assert matches(one, [one])


@given(st.lists(patterns, max_size=5).map(tuple))
def test_a_pattern_that_another_covers_is_not_needed(given_ones):
    left = uncovered(given_ones)
    assert all(matches(name, left) == matches(name, given_ones) for name in NAMES[::7])
    assert uncovered(left) == left


@pytest.mark.parametrize(
    ("wide", "narrow", "known"),
    [
        ("*", "re:a", True),
        ("w*", "w.gamma", True),
        ("w*", "w.?*", True),
        ("*.bias", "*.layer.bias", True),
        ("w?", "w*", False),
        ("*a*", "x[ab]", False),
        ("w", "w*", False),
        ("re:a", "re:ab", False),
        ("re:a", "ab", True),
    ],
)
def test_a_pattern_covers_another_where_that_is_known(wide, narrow, known):
    assert covers(wide, narrow) is known


def test_of_patterns_that_cover_each_other_the_first_is_left():
    assert uncovered(("a*", "a**", "b")) == ("a*", "b")
    assert uncovered(("a", "**")) == ("*",)
    assert uncovered(("a*", "b", "a*", "ab")) == ("a*", "b")
