"""bfloat16, held by NumPy: against ml_dtypes, and for float64 against exact fractions."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from unirms.bfloat16 import bits, held_as, rounded, widened

EVERY = np.arange(1 << 16, dtype=np.uint16)
"""Both bytes of every bfloat16: zeros, subnormals, infinities and NaNs of both signs among them."""


def of(patterns):
    return np.asarray(patterns, np.uint32).view(np.float32)


def ties():
    """Return what lies halfway between each two neighbours, and one float32 beside it on either side."""
    halves = (EVERY.astype(np.uint32) << 16) + 0x8000
    return of(np.concatenate([halves - 1, halves, halves + 1]))


def same(found, expected):
    """Return whether values are the same to the sign of zero; any NaN is as good as another of its sign."""
    nan = np.isnan(expected)
    return (
        found.dtype == np.float32
        and np.array_equal(np.isnan(found), nan)
        and np.array_equal(np.signbit(found), np.signbit(expected))
        and np.array_equal(found[~nan], expected[~nan])
    )


NUMBERS = {
    "random bits": lambda: of(np.random.default_rng(1).integers(0, 1 << 32, 1 << 20, dtype=np.uint32)),
    "ties": ties,
    "what it holds": lambda: widened(EVERY),
    "subnormals": lambda: of(np.random.default_rng(2).integers(0, 1 << 23, 1 << 16, dtype=np.uint32)),
    "NaNs whose upper half is that of an infinity": lambda: of([0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF]),
    "the largest": lambda: of([0x7F7FFFFF, 0x7F7F8000, 0x7F7F7FFF, 0xFF7FFFFF]),
}


@pytest.mark.parametrize("which", NUMBERS)
def test_float32_is_rounded_to_the_nearest_ties_to_even(which):
    values = NUMBERS[which]()
    with np.errstate(invalid="ignore"):
        expected = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    before = values.copy()
    assert same(rounded(values), expected)
    assert same(rounded(rounded(values)), expected)
    assert values.tobytes() == before.tobytes()
    narrow = bits(rounded(values))
    assert narrow.dtype == np.uint16
    assert same(narrow.view(ml_dtypes.bfloat16).astype(np.float32), expected)


def test_bits_and_values_are_the_same_thing():
    assert np.array_equal(bits(widened(EVERY)), EVERY)
    with np.errstate(invalid="ignore"):
        assert same(widened(EVERY), EVERY.view(ml_dtypes.bfloat16).astype(np.float32))
    assert np.array_equal(widened(EVERY.astype(">u2")).view(np.uint32), widened(EVERY).view(np.uint32))


def test_float16_is_held_as_far_as_its_eight_bits():
    values = EVERY.view(np.float16)
    with np.errstate(invalid="ignore"):
        wide = values.astype(np.float32)
    assert same(rounded(values), rounded(wide))


def nearest(value):
    """Return what a finite float64 is in bfloat16, found among its neighbours by exact fractions."""
    near = widened(bits(rounded(np.array([value], np.float32))))[0]
    code = int(bits(np.array([abs(near)], np.float32))[0])
    around = [one for one in (code - 1, code, code + 1) if 0 <= one < 0x7F80]
    best = min(
        around, key=lambda one: (abs(Fraction(float(widened(np.uint16([one]))[0])) - abs(Fraction(value))), one & 1)
    )
    return np.copysign(widened(np.uint16([best]))[0], value)


def test_float64_is_rounded_once():
    rng = np.random.default_rng(3)
    held = widened(rng.integers(0, 0x7F00, 2000, dtype=np.uint16)).astype(np.float64)
    half = held + np.spacing(held.astype(np.float32)).astype(np.float64) * 2.0**15
    beside = [half, np.nextafter(half, np.inf), np.nextafter(half, 0.0), held, rng.normal(size=2000), [1e-60, 5e-324]]
    values = np.concatenate([*beside, *(-np.asarray(one) for one in beside)])
    expected = np.array([nearest(value) for value in values], np.float32)
    assert same(rounded(values), expected)
    twice = rounded(values.astype(np.float32))
    assert not same(twice, expected)  # what is beside a tie lies on it in float32
    edges = np.array([np.inf, -np.inf, np.nan, -np.nan, 1e39, -1e300, 0.0, -0.0])
    assert same(rounded(edges), np.array([np.inf, -np.inf, np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0], "f4"))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (0, 2), (2, 3)])
def test_shapes_and_layouts_stay(shape, dtype):
    values = np.full(shape, 1.0 + 2**-7 + 2**-9, dtype)
    for one in (values, np.asfortranarray(values), values.T, np.broadcast_to(values, (2, *shape))):
        assert rounded(one).shape == bits(rounded(one)).shape == widened(bits(rounded(one))).shape == one.shape
        assert (rounded(one) == 1.0 + 2**-7).all()
        assert np.array_equal(widened(bits(rounded(one))), rounded(one))
    ordered = np.arange(6.0, dtype=dtype).reshape(2, 3).T
    assert np.array_equal(rounded(ordered), ordered)
    assert np.array_equal(widened(bits(rounded(ordered))), ordered)


def test_what_it_is_held_as():
    assert [held_as(one) for one in ("bfloat16", "float32", "float64")] == ["float32", "float32", "float64"]


def test_planted_roundings_are_seen():
    def truncated(array):
        return (array.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)

    def half_up(array):
        return ((array.view(np.uint32) + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(np.float32)

    values = ties()[np.isfinite(ties())]
    expected = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert same(rounded(values), expected)
    for planted in (truncated, half_up):
        assert not same(planted(values), expected)
