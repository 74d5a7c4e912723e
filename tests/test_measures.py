"""The judge is judged: the ruler on differences of a known size, and on inputs that must fail."""

import math

import numpy as np
import pytest

from unirms.conformance.measures import PRECISION, Ruler, same_bits, spacing


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_spacing_is_numpy_s(dtype):
    values = np.asarray([0.0, 1e-7, 0.1, 0.5, 0.999, 1.0, 1.5, 2.0, 1000.0], dtype)
    assert spacing(values.astype(np.float64), dtype).tolist() == np.spacing(values).astype(np.float64).tolist()


def test_spacing_of_bfloat16():
    assert spacing(np.asarray([1.0, 1.99, 2.0, 3e-41]), "bfloat16").tolist() == [2**-7, 2**-7, 2**-6, 2.0**-133]


@pytest.mark.parametrize("dtype", list(PRECISION))
def test_one_ulp_is_one(dtype):
    ruler = Ruler({"w": np.ones(3)}, dtype)
    right = {"w": np.asarray([1.0, 1.0, 1.0])}
    off = spacing(np.ones(1), dtype)[0]
    assert ruler.observe(right, {"w": np.asarray([1.0, 1.0 + off, 1.0])}).ulp == 1
    assert Ruler({"w": np.ones(1)}, dtype).observe({"w": np.ones(1)}, {"w": np.asarray([1.0 - off])}).ulp == 1


def test_the_path_is_the_unit_of_what_moves_far_and_comes_back():
    ruler = Ruler({"w": np.zeros(1)}, "float32")
    for position in (4.0, 0.0):
        ruler.observe({"w": np.asarray([position])}, {"w": np.asarray([position])})
    error = ruler.observe({"w": np.zeros(1)}, {"w": np.asarray([spacing(np.asarray([8.0]), "float32")[0]])})
    assert error.ulp == 1


def test_the_worst_step_is_remembered():
    ruler = Ruler({"w": np.zeros(1)}, "float32")
    ruler.observe({"w": np.ones(1)}, {"w": np.asarray([1.5])})
    assert ruler.observe({"w": np.ones(1)}, {"w": np.ones(1)}).ulp == 2**22


def test_the_movement_shows_what_a_large_weight_hides():
    ruler = Ruler({"w": np.asarray([1e6])}, "float32")
    error = ruler.observe({"w": np.asarray([1e6 + 125.0])}, {"w": np.asarray([1e6 + 124.0])})
    assert error.ulp == 16
    assert error.movement == 1 / 125


def test_movement_is_the_worst_tensor_and_two_sided():
    start = {"a": np.zeros(2), "b": np.zeros(1)}
    right = {"a": np.ones(2), "b": np.ones(1)}
    for factor in (0.9, 1.1):
        error = Ruler(start, "float32").observe(right, {"a": np.ones(2), "b": np.full(1, factor)})
        assert error.movement == pytest.approx(0.1)


def test_movement_of_less_than_a_thousand_ulp_is_not_measured():
    ruler = Ruler({"w": np.ones(1)}, "float32")
    assert ruler.observe({"w": np.asarray([1 + 2**-15])}, {"w": np.ones(1)}).movement == 0
    assert ruler.observe({"w": np.asarray([1 + 2**-12])}, {"w": np.ones(1)}).movement == 1


def test_movement_beside_a_tensor_that_is_empty():
    start = {"a": np.zeros(0), "b": np.zeros(2), "c": np.zeros(0)}
    right = {"a": np.zeros(0), "b": np.ones(2), "c": np.zeros(0)}
    assert Ruler(start, "float32").observe(right, {**right, "b": np.full(2, 0.75)}).movement == 0.25


@pytest.mark.parametrize(
    ("expected", "actual", "right"),
    [
        (np.nan, np.nan, True),
        (np.inf, np.inf, True),
        (np.inf, -np.inf, False),
        (np.nan, 1.0, False),
        (1.0, np.nan, False),
        (1.0, np.inf, False),
        (np.inf, np.nan, False),
    ],
)
def test_what_is_not_finite(expected, actual, right):
    ruler = Ruler({"w": np.ones(2)}, "float32")
    error = ruler.observe({"w": np.asarray([expected, 1.0])}, {"w": np.asarray([actual, 1.0])})
    assert (error.ulp == 0) is right
    assert right or math.isinf(error.ulp)


@pytest.mark.parametrize(("actual", "right"), [(np.nan, True), (np.inf, True), (-np.inf, True), (1.0, False)])
def test_an_accumulator_that_is_lost_is_lost(actual, right):
    error = Ruler({"v": np.ones(1)}, "float32", lost_is_lost=True).observe(
        {"v": np.asarray([np.inf])}, {"v": np.asarray([actual])}
    )
    assert (error.ulp == 0) is right


@pytest.mark.parametrize(
    "actual", [{}, {"w": np.ones(3)}, {"v": np.ones(2)}, {"w": np.ones(2), "v": np.ones(2)}, {"w": np.ones((1, 2))}]
)
def test_missing_extra_and_misshapen_arrays_are_infinitely_wrong(actual):
    assert math.isinf(Ruler({"w": np.ones(2)}, "float32").observe({"w": np.ones(2)}, actual).ulp)


def test_no_slots_and_an_unwanted_slot():
    assert Ruler({}, "float32").observe({}, {}).ulp == 0
    assert math.isinf(Ruler({}, "float32").observe({}, {"w": np.ones(1)}).ulp)


def test_nothing_is_lost_in_empty_tensors():
    assert Ruler({"w": np.ones(0)}, "float32").observe({"w": np.ones(0)}, {"w": np.ones(0)}).ulp == 0


def test_same_bits():
    left = {"w": np.asarray([1.0, np.nan], np.float32)}
    assert same_bits(left, {"w": left["w"].copy()})
    assert not same_bits(left, {"w": np.nextafter(left["w"], np.float32(2))})
    assert not same_bits(left, {})
