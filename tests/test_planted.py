"""Every check can fail: planted wrong optimizers are caught by the cases of the parity report, the right one is not."""

import itertools

import pytest

import planted
from unirms import RMSPropConfig
from unirms.conformance import recipes
from unirms.conformance.axes import AXES, well_conditioned
from unirms.conformance.cases import AT_LEAST, cases
from unirms.conformance.covering import pairwise
from unirms.conformance.inputs import LARGE, RATES, STEPS
from unirms.conformance.judge import _followed, judge
from unirms.schedules import KINDS


def small(case):
    return case if case.names else case.model_copy(update={"sizes": (3, 7, 17, 64)})


ALL = [small(case) for case in cases(planted.NumpyDriver.modes, planted.NumpyDriver.sparse)]
PAIRS = [case for case in ALL if "/pair-" in case.id or "/tiny-" in case.id]


def result(case, defect):
    config = RMSPropConfig(**case.config)
    return judge(case, "torch", planted.NumpyDriver(defect), make=lambda params: config)


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.id)
def test_the_right_optimizer_passes(case):
    right = result(case, planted.NONE)
    assert right.passed, right.problem
    assert right.same_bits


def showing(defect, dtype):
    return [c for c in PAIRS if c.dtype == dtype and defect.visible(RMSPropConfig(**c.config), c)]


@pytest.mark.parametrize("defect", planted.DEFECTS, ids=lambda defect: defect.name)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_wrong_one_is_caught(defect, dtype):
    found = showing(defect, dtype)
    # Float64 has every other row.
    assert len(found) >= (2 if dtype == "float32" else 1), "the covering array does not reach this defect"
    assert not [case.id for case in found[:3] if result(case, defect).passed]


@pytest.mark.slow
@pytest.mark.parametrize("defect", planted.DEFECTS, ids=lambda defect: defect.name)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_wrong_one_is_caught_wherever_it_shows(defect, dtype):
    assert not [case.id for case in showing(defect, dtype) if result(case, defect).passed]


@pytest.mark.parametrize("case", [case for case in ALL if "/schedule-" in case.id], ids=lambda case: case.id)
def test_a_late_schedule_is_caught(case):
    assert result(case, planted.LATE).passed is RMSPropConfig(**case.config).has_constant_rate


def test_every_kind_of_schedule_is_run():
    kinds = {RMSPropConfig(**case.config).learning_rate.kind for case in ALL if "/schedule-" in case.id}
    assert kinds == set(KINDS)


def test_an_optimizer_that_raises_is_a_finding():
    def broken(params):
        raise ValueError("first line\nsecond line")

    found = judge(PAIRS[0], "torch", planted.NumpyDriver(), make=broken)
    assert found.problem == "ValueError: first line"


def test_the_cases_cover_every_pair_that_is_well_conditioned():
    rows = pairwise(AXES, well_conditioned)
    assert all(well_conditioned(row) for row in rows)
    assert all(row.keys() == AXES.keys() for row in rows)
    seen = {pair for row in rows for pair in itertools.combinations(row.items(), 2)}
    every = {((a, x), (b, y)) for a, b in itertools.combinations(AXES, 2) for x in AXES[a] for y in AXES[b]}
    # These cannot be, see `well_conditioned`.
    noise = {(("rho", 0.5), ("centered", answer)) for answer in ("propagate", "skip", "clamp")}
    bounce = {(("weight_decay", kind), ("gradients", "mixed")) for kind in ("l1", "l2", "l2 exempt")}
    axes = ("first_axis", "last_axis")
    bounce |= {(("gradient_centralization", axis), ("gradients", "mixed")) for axis in axes}
    by_hand = {(("groups", "rates"), ("rates", rates)) for rates in RATES}
    spoiled = {(("non_finite", "propagate"), ("gradients", "spoiled"))}
    spoiled |= {(("non_finite", "skip"), ("gradients", kind)) for kind in AXES["gradients"] if kind != "spoiled"}
    assert every - seen == noise | bounce | by_hand | spoiled


def test_there_are_enough_cases_and_their_ids_are_unique():
    found = cases({"one": ("float32",), "two": ("float32", "float16")})
    assert len(found) >= AT_LEAST == 200
    assert len({case.id for case in found}) == len(found)
    assert {case.steps for case in found} == {STEPS, 300}
    assert {case.id.rpartition("-")[2] for case in found if case.steps == 300} == set(recipes.NAMES)
    assert any(LARGE in case.sizes for case in found)


def test_the_reference_is_kept_for_the_same_case_in_the_next_mode_alone():
    one, two, other = (case for case in cases({"one": ("float32",), "two": ("float32",)})[:3])
    assert (one.mode, two.mode, one.id.partition("/")[2]) == ("one", "two", two.id.partition("/")[2])
    config = RMSPropConfig(**one.config)
    kept = _followed(one, config)
    assert _followed(two, config) is kept
    assert _followed(other, RMSPropConfig(**other.config)) is not kept
    assert _followed(one.model_copy(update={"seed": 7}), config) is not kept
    large = one.model_copy(update={"sizes": (3, LARGE)})
    assert not isinstance(_followed(large, config), list)


def test_cases_are_the_same_in_every_process():
    again = cases(planted.NumpyDriver.modes, planted.NumpyDriver.sparse)
    assert [small(case) for case in again] == ALL
    first, second = ALL[0].gradients_at(3), small(again[0]).gradients_at(3)
    assert all((first[name] == second[name]).all() for name in first)
