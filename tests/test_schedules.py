"""What every schedule computes, against loops written out by hand; what it accepts, refuses and writes down."""

import itertools
import json
import math

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

import strategies
from unirms import ConfigError
from unirms.schedules import (
    BaseSchedule,
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    InverseTime,
    Linear,
    MultiStep,
    NaturalExponential,
    Noam,
    OneCycle,
    Piecewise,
    Polynomial,
    Sampled,
    Schedule,
    Sequence,
    Step,
    Table,
    Warmup,
)

SCHEDULE = TypeAdapter(Schedule)
B = 0.1  # the base rate of all cases


# The same schedules again as loops over t: products, sums and counters, no closed forms.


def multiplied(rate, factor_at):
    """Yield a rate that is multiplied by `factor_at(t)` before update t."""
    for t in itertools.count():
        rate *= factor_at(t)
        yield rate


def changing(rates_from):
    """Yield the rate that was set last; `rates_from` maps updates to rates."""
    rate = None
    for t in itertools.count():
        rate = rates_from.get(t, rate)
        yield rate


def counted(rate_of):
    """Yield `rate_of(t)`."""
    return map(rate_of, itertools.count())


def held(rates):
    """Yield the rates, then the last one for ever."""
    for rate in rates:
        yield rate
    while True:
        yield rate


def half_wave(high, low, n):
    """Return the n + 1 rates of half a cosine, both ends included."""
    return [low + (high - low) * 0.5 * (1 + math.cos(math.pi * i / n)) for i in range(n + 1)]


def waves(high, low, n):
    """Yield half a cosine down, the same up, and so on."""
    down = half_wave(high, low, n)
    while True:
        yield from down[:-1]
        yield from down[:0:-1]


def restarts(high, low, n, longer, higher):
    """Yield a half cosine from each restart, but not its last rate: the next restart stands in its place."""
    while True:
        yield from half_wave(high, low, n)[:-1]
        n, high = n * longer, low + (high - low) * higher


def fractional_restarts(high, low, first, longer, higher):
    """Yield restarts whose periods are no whole numbers: the first update at or after each start begins it."""
    start, n = 0.0, first
    for t in itertools.count():
        while t >= start + n - 1e-6:  # far above rounding, far below the least distance of a start to an update here
            start, n, high = start + n, n * longer, low + (high - low) * higher
        yield low + (high - low) * 0.5 * (1 + math.cos(math.pi * (t - start) / n))


def rounds(high, low, n, exponent):
    """Yield a polynomial whose end moves on by n whenever it is passed."""
    end = n
    for t in itertools.count():
        if t > end:
            end += n
        yield (high - low) * (1 - t / end) ** exponent + low


def chained(*parts):
    """Yield the given number of rates of each part; None means for ever."""
    return itertools.chain.from_iterable(itertools.islice(part, count) for part, count in parts)


def phases(*legs, wave):
    """Yield legs (from, to, first t, last t), then the end for ever; a leg ends with the update at its last t."""
    for t in itertools.count():
        start, end, first, last = next((leg for leg in legs if t <= leg[3]), legs[-1])
        done = min((t - first) / (last - first), 1.0)
        yield start + (end - start) * ((1 - math.cos(math.pi * done)) / 2 if wave else done)


CASES = {
    "constant": (Constant(learning_rate=B), counted(lambda t: B)),
    "step": (
        Step(initial_learning_rate=B, step_size=7, gamma=0.5),
        multiplied(B, lambda t: 0.5 if t % 7 == 0 and t else 1),
    ),
    "multi_step": (
        MultiStep(initial_learning_rate=B, milestones=[3, 10, 10, 40]),
        multiplied(B, lambda t: {3: 0.1, 10: 0.01, 40: 0.1}.get(t, 1)),
    ),
    "multi_step at once": (MultiStep(initial_learning_rate=B, milestones=[0], gamma=0.5), counted(lambda t: B / 2)),
    "piecewise": (
        Piecewise(boundaries=[3, 10], learning_rates=[0.1, 0.3, 0.0]),
        changing({0: 0.1, 3: 0.3, 10: 0.0}),
    ),
    "exponential": (
        Exponential(initial_learning_rate=B, decay_rate=0.97, decay_steps=1),
        multiplied(B, lambda t: 0.97 if t else 1),
    ),
    "exponential over 40 updates": (
        Exponential(initial_learning_rate=B, decay_rate=0.5, decay_steps=40),
        multiplied(B, lambda t: 0.5 ** (1 / 40) if t else 1),
    ),
    "exponential staircase": (
        Exponential(initial_learning_rate=B, decay_rate=0.97, decay_steps=40, staircase=True),
        multiplied(B, lambda t: 0.97 if t and t % 40 == 0 else 1),
    ),
    "exponential staircase of 2.4 updates": (  # a change at ceil(2.4 * k): 3, 5, 8, 10, 12, and so every 12
        Exponential(initial_learning_rate=B, decay_rate=0.99, decay_steps=2.4, staircase=True),
        multiplied(B, lambda t: 0.99 if t and t % 12 in {0, 3, 5, 8, 10} else 1),
    ),
    "natural_exponential": (
        NaturalExponential(initial_learning_rate=B, decay_rate=0.3, decay_steps=10),
        multiplied(B, lambda t: math.e**-0.03 if t else 1),
    ),
    "natural_exponential staircase": (
        NaturalExponential(initial_learning_rate=B, decay_rate=0.3, decay_steps=10, staircase=True),
        multiplied(B, lambda t: math.e**-0.3 if t and t % 10 == 0 else 1),
    ),
    "inverse_time": (
        InverseTime(initial_learning_rate=B, decay_rate=0.5, decay_steps=4),
        counted(lambda t: B / (1 + 0.125 * t)),
    ),
    "inverse_time staircase": (
        InverseTime(initial_learning_rate=B, decay_rate=0.5, decay_steps=4, staircase=True),
        counted(lambda t: B / (1 + 0.5 * (t // 4))),
    ),
    "polynomial": (
        Polynomial(initial_learning_rate=B, end_learning_rate=0.01, decay_steps=50, power=2),
        held([0.01 + 0.09 * (1 - i / 50) ** 2 for i in range(51)]),
    ),
    "polynomial cycle": (
        Polynomial(initial_learning_rate=B, end_learning_rate=0.01, decay_steps=50, power=0.5, cycle=True),
        rounds(B, 0.01, 50, 0.5),
    ),
    "linear": (
        Linear(initial_learning_rate=B, end_learning_rate=0.01, decay_steps=9),
        held([B - 0.01 * i for i in range(10)]),
    ),
    "linear up": (
        Linear(initial_learning_rate=0, end_learning_rate=B, decay_steps=10),
        held([0.01 * i for i in range(11)]),
    ),
    "cosine": (
        Cosine(initial_learning_rate=B, end_learning_rate=0.01, decay_steps=50),
        held(half_wave(B, 0.01, 50)),
    ),
    "cosine periodic": (
        Cosine(initial_learning_rate=B, end_learning_rate=0.01, decay_steps=50, periodic=True),
        waves(B, 0.01, 50),
    ),
    "cosine_restarts": (
        CosineRestarts(initial_learning_rate=B, end_learning_rate=0.01, first_period=10),
        restarts(B, 0.01, 10, 1, 1),
    ),
    "cosine_restarts longer and lower": (
        CosineRestarts(
            initial_learning_rate=B, end_learning_rate=0.01, first_period=7, period_factor=3, peak_factor=0.5
        ),
        restarts(B, 0.01, 7, 3, 0.5),
    ),
    "cosine_restarts by 1.5": (
        CosineRestarts(initial_learning_rate=B, first_period=10, period_factor=1.5, peak_factor=0.9),
        fractional_restarts(B, 0.0, 10, 1.5, 0.9),
    ),
    "cosine_restarts by 1.1": (
        CosineRestarts(initial_learning_rate=B, first_period=10, period_factor=1.1),
        fractional_restarts(B, 0.0, 10, 1.1, 1),
    ),
    "one_cycle": (
        OneCycle(max_learning_rate=B, total_steps=100),
        phases((B / 25, B, 0, 29), (B, B / 25e4, 29, 99), wave=True),
    ),
    "one_cycle of given rates, linear": (
        OneCycle(
            max_learning_rate=B,
            initial_learning_rate=0.02,
            end_learning_rate=0,
            total_steps=90,
            pct_start=0.25,
            anneal_strategy="linear",
        ),
        phases((0.02, B, 0, 21.5), (B, 0.0, 21.5, 89), wave=False),
    ),
    "one_cycle of three phases": (
        OneCycle(max_learning_rate=B, total_steps=100, pct_start=0.4, three_phase=True),
        phases((B / 25, B, 0, 39), (B, B / 25, 39, 78), (B / 25, B / 25e4, 78, 99), wave=True),
    ),
    "noam": (
        Noam(factor=2, d_model=64, warmup_steps=20),
        counted(lambda t: 2 / 8 * min(1 / math.sqrt(t + 1), (t + 1) / 20**1.5)),
    ),
    "noam from step 0": (
        Noam(d_model=64, warmup_steps=20, first_step=0),
        counted(lambda t: min(1 / math.sqrt(t), t / 20**1.5) / 8 if t else 0.0),
    ),
    "noam without a rise": (
        Noam(d_model=16, warmup_steps=1),
        counted(lambda t: 0.25 / math.sqrt(t + 1)),
    ),
    "warmup": (
        Warmup(warmup_steps=20, start_learning_rate=0.02, after=Cosine(initial_learning_rate=B, decay_steps=50)),
        chained((counted(lambda t: 0.02 + 0.004 * t), 20), (held(half_wave(B, 0, 50)), None)),
    ),
    "warmup to another rate": (
        Warmup(warmup_steps=10, end_learning_rate=0.5, after=Constant(learning_rate=B)),
        chained((counted(lambda t: 0.05 * t), 10), (counted(lambda t: B), None)),
    ),
    "warmup that overlaps": (
        Warmup(
            warmup_steps=50,
            after=Exponential(initial_learning_rate=B, decay_rate=0.97, decay_steps=24, staircase=True),
            overlap=True,
        ),
        counted(lambda t: B * t / 50 if t < 50 else B * 0.97 ** (t // 24)),
    ),
    "warmup of nothing": (
        Warmup(warmup_steps=0, after=Linear(initial_learning_rate=B, decay_steps=10)),
        held([B * (10 - i) / 10 for i in range(11)]),
    ),
    "sequence": (
        Sequence(
            schedules=[
                Linear(initial_learning_rate=0, end_learning_rate=B, decay_steps=8),
                Step(initial_learning_rate=B, step_size=5, gamma=0.5),
                Table(learning_rates=[0.3, 0.2, 0.1]),
            ],
            boundaries=[10, 30],
        ),
        chained(
            (held([B * i / 8 for i in range(9)]), 10),
            (multiplied(B, lambda t: 0.5 if t and t % 5 == 0 else 1), 20),
            (held([0.3, 0.2, 0.1]), None),
        ),
    ),
    "table": (Table(learning_rates=[0.3, 0.1, 0.2]), held([0.3, 0.1, 0.2])),
    "sampled": (
        Sampled(schedule=Step(initial_learning_rate=B, step_size=10, gamma=0.5), every=4, offset=3),
        counted(lambda t: B * 0.5 ** ((4 * t + 3) // 10)),
    ),
}
KINDS = {schedule.kind for schedule, _ in CASES.values()}
N = 1000
LOOPS = {name: list(itertools.islice(loop, N)) for name, (_, loop) in CASES.items()}
# A product of 1000 factors has 1000 rounding errors of half an ULP; every other loop has a few.
ROUNDING = N * np.finfo(np.float64).eps


@pytest.mark.parametrize("name", CASES)
def test_a_schedule_is_what_the_loop_counts_out(name):
    schedule, _ = CASES[name]
    scalar = [schedule.value(t) for t in range(N)]
    np.testing.assert_allclose(scalar, LOOPS[name], rtol=ROUNDING, atol=ROUNDING * B)
    assert schedule.initial == scalar[0]


def test_a_schedule_of_gradients_is_told_from_other_samples():
    step = Step(initial_learning_rate=B, step_size=10, gamma=0.5)
    assert Sampled.last_of(step, 4) == CASES["sampled"][0]
    assert Sampled.last_of(step, 4).asked_per_gradient(4) == step
    for other in (Sampled.last_of(step, 3), Sampled(schedule=step, every=4, offset=2), Sampled(schedule=step, every=4)):
        assert other.asked_per_gradient(4) is None


@pytest.mark.parametrize("name", CASES)
def test_arrays_and_single_updates_give_the_same_rates(name):
    schedule, _ = CASES[name]
    ts = np.concatenate([np.arange(N), [10**4, 10**6, 10**6 + 1, 2**40]])
    np.testing.assert_array_max_ulp(schedule.values(ts), np.array([schedule.value(int(t)) for t in ts]), maxulp=1)


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"constant", "multi_step at once"}))  # these have no change
def test_a_change_one_update_late_or_early_is_caught(name):
    schedule, _ = CASES[name]
    rates = np.array(LOOPS[name])
    for wrong in (schedule.values(np.maximum(np.arange(N) - 1, 0)), schedule.values(np.arange(N) + 1)):
        assert not np.allclose(wrong, rates, rtol=ROUNDING, atol=ROUNDING * B)


def test_there_is_a_case_of_every_kind():
    assert set(SCHEDULE.json_schema()["discriminator"]["mapping"]) == KINDS


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Step(initial_learning_rate=1, step_size=1000, gamma=0.99), 0.99**1000),
        (MultiStep(initial_learning_rate=1, milestones=[999_999, 1_000_000], gamma=0.5), 0.25),
        (Exponential(initial_learning_rate=1, decay_rate=0.5, decay_steps=10**5), 2.0**-10),
        (Exponential(initial_learning_rate=1, decay_rate=0.9), 0.0),
        (NaturalExponential(initial_learning_rate=1, decay_rate=1e-6), math.exp(-1)),
        (InverseTime(initial_learning_rate=1, decay_rate=1e-6), 0.5),
        (Polynomial(initial_learning_rate=1, end_learning_rate=0.25, decay_steps=3), 0.25),
        (Polynomial(initial_learning_rate=1, decay_steps=3, cycle=True), 2 / 1_000_002),
        (Cosine(initial_learning_rate=1, end_learning_rate=0.25, decay_steps=3), 0.25),
        (Cosine(initial_learning_rate=1, decay_steps=3, periodic=True), 0.25),  # 10**6 is 4 of a period of 6
        (CosineRestarts(initial_learning_rate=1, first_period=4), 1.0),
        (CosineRestarts(initial_learning_rate=1, first_period=999_999, period_factor=3), 1.0),
        (OneCycle(max_learning_rate=1, total_steps=10), 4e-6),
        (Noam(d_model=4, warmup_steps=10, first_step=0), 0.5e-3),
        (Table(learning_rates=[0.5, 0.25]), 0.25),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_after_a_million_updates_nothing_has_drifted(schedule, expected):
    # 1e-12: one power or cosine is good to a few ULP, whatever t is; only 2/3 of a period is no exact binary number.
    assert schedule.value(10**6) == pytest.approx(expected, rel=1e-12, abs=1e-300)


def test_restarts_fall_on_their_own_update_far_out():
    doubling = CosineRestarts(initial_learning_rate=1, end_learning_rate=0, first_period=4, period_factor=2)
    starts = np.array([4 * (2**i - 1) for i in range(1, 40)])  # 32764 and 131068 are those that Keras misses
    assert {32764, 131068} <= set(starts.tolist())
    np.testing.assert_array_equal(doubling.values(starts), 1.0)
    assert (doubling.values(starts - 1) < 0.2).all()
    tripling = CosineRestarts(initial_learning_rate=1, first_period=7, period_factor=3, peak_factor=0.5)
    starts = np.array([7 * (3**i - 1) // 2 for i in range(1, 25)])
    np.testing.assert_array_equal(tripling.values(starts), 0.5 ** np.arange(1, 25))


@pytest.mark.parametrize("name", CASES)
def test_the_ends_are_the_numbers_that_were_written(name):
    schedule, _ = CASES[name]
    for field in ("initial_learning_rate", "start_learning_rate"):
        rate = getattr(schedule, field, None)
        if rate is not None and name not in {"multi_step at once", "warmup of nothing"}:
            assert schedule.initial == rate
    held = getattr(schedule, "end_learning_rate", None)
    if held is not None and not {"periodic", "first_period", "after"} & type(schedule).model_fields.keys():
        expected = schedule.value(50) if getattr(schedule, "cycle", False) else schedule.value(10**6)
        assert expected == held


# Any schedule at all: rates of at most 10, no growth, so that every value is finite.

schedules = strategies.schedules
updates = st.lists(st.integers(0, 2 * 10**6), min_size=1, max_size=20)


@given(schedules, updates)
def test_rates_are_finite_and_never_negative(schedule, ts):
    found = schedule.values(ts)
    assert found.shape == (len(ts),)
    assert np.isfinite(found).all()
    assert (found >= 0).all()


@given(schedules, updates)
def test_arrays_and_single_updates_agree_for_any_schedule(schedule, ts):
    np.testing.assert_array_max_ulp(schedule.values(ts), np.array([schedule.value(t) for t in ts]), maxulp=1)


@given(schedules)
def test_json_and_yaml_give_the_same_schedule_back(schedule):
    assert SCHEDULE.validate_json(SCHEDULE.dump_json(schedule)) == schedule
    text = yaml.safe_dump(schedule.model_dump(mode="json"))
    again = SCHEDULE.validate_python(yaml.safe_load(text))
    assert again == schedule
    assert hash(again) == hash(schedule)


@given(schedules, updates, st.floats(0, 100))
def test_a_scaled_schedule_has_the_same_shape(schedule, ts, factor):
    scaled = schedule.scaled(factor)
    assert type(scaled) is type(schedule)
    # Each rate is rounded once more before the formula instead of after it; a difference of rates can cancel, so the
    # error is of the size of the largest rate, at most 10. Below the smallest normal number there are fewer digits.
    atol = 1e-14 * 10 * factor + np.finfo(np.float64).tiny
    np.testing.assert_allclose(scaled.values(ts), factor * schedule.values(ts), rtol=1e-14, atol=atol)


@given(schedules, updates)
def test_a_schedule_that_says_constant_has_one_rate(schedule, ts):
    if schedule.is_constant:
        np.testing.assert_allclose(schedule.values(ts), schedule.initial, rtol=1e-15)


@pytest.mark.parametrize(
    "schedule",
    [
        Constant(learning_rate=B),
        Step(initial_learning_rate=B, step_size=3, gamma=1),
        MultiStep(initial_learning_rate=B, milestones=[]),
        Piecewise(boundaries=[3], learning_rates=[B, B]),
        Exponential(initial_learning_rate=B, decay_rate=1),
        NaturalExponential(initial_learning_rate=B, decay_rate=0),
        InverseTime(initial_learning_rate=B, decay_rate=0),
        Linear(initial_learning_rate=B, end_learning_rate=B, decay_steps=3),
        CosineRestarts(initial_learning_rate=B, end_learning_rate=B, first_period=3),
        OneCycle(max_learning_rate=B, initial_learning_rate=B, end_learning_rate=B, total_steps=9),
        Warmup(warmup_steps=0, after=Constant(learning_rate=B)),
        Warmup(warmup_steps=9, start_learning_rate=B, after=Constant(learning_rate=B)),
        Sequence(boundaries=[2], schedules=[Constant(learning_rate=B), Table(learning_rates=[B, B])]),
        Table(learning_rates=B),
    ],
    ids=lambda schedule: schedule.kind,
)
def test_a_schedule_without_change_is_constant(schedule):
    assert schedule.is_constant
    np.testing.assert_allclose(schedule.values(range(20)), B, rtol=1e-15)


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"multi_step at once"}))  # moves where nobody sees it
def test_a_schedule_that_moves_is_not_constant(name):
    schedule, _ = CASES[name]
    assert schedule.is_constant == (len(set(LOOPS[name])) == 1)


def test_growth_stops_at_the_largest_double():
    growing = Exponential(initial_learning_rate=0.5, decay_rate=2)
    assert growing.value(3) == 4.0
    assert growing.value(10**6) == 0.5 * np.finfo(np.float64).max
    assert growing.scaled(0).value(10**6) == 0.0


def test_values_keep_the_shape_of_the_updates():
    schedule = Linear(initial_learning_rate=1, decay_steps=4)
    np.testing.assert_array_equal(schedule.values([[0, 1], [2, 9]]), [[1, 0.75], [0.5, 0]])
    assert schedule.values(np.uint8(1)) == 0.75
    assert schedule.values([]).shape == (0,)


@pytest.mark.parametrize("t", [-1, 0.5, "1", None, True, math.nan, 10**30])
def test_an_update_is_a_whole_number_from_0(t):
    with pytest.raises(ConfigError, match="t counts completed updates"):
        Constant(learning_rate=1).value(t)


@pytest.mark.parametrize("factor", [-1, math.inf, math.nan, "2", None, True])
def test_a_factor_is_a_finite_number_from_0(factor):
    with pytest.raises(ConfigError, match=r"factor must be a finite number >= 0"):
        Constant(learning_rate=1).scaled(factor)


STEP = {"kind": "step", "initial_learning_rate": 1}
ONE = {"kind": "constant", "learning_rate": 1}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"kind": "multi_step", "initial_learning_rate": 1, "milestones": [9, 3]},
            "milestones=[9, 3] must be in order",
        ),
        ({"kind": "piecewise", "boundaries": [3, 3], "learning_rates": [1, 2, 3]}, "boundaries=[3, 3] must increase"),
        ({"kind": "piecewise", "boundaries": [3], "learning_rates": [1]}, "boundaries=[3] need 2 learning_rates"),
        ({"kind": "sequence", "boundaries": [], "schedules": []}, "boundaries=[] need 1 schedules"),
        ({"kind": "sequence", "boundaries": [5, 4], "schedules": [ONE] * 3}, "boundaries=[5, 4] must increase"),
        ({"kind": "table", "learning_rates": []}, "learning_rates=[] has no rate"),
        (
            {"kind": "one_cycle", "max_learning_rate": 1, "total_steps": 9, "pct_start": 0.6, "three_phase": True},
            "three_phase=True goes up and down in pct_start=0.6",
        ),
        (
            {
                "kind": "cosine_restarts",
                "initial_learning_rate": 1,
                "end_learning_rate": 2,
                "first_period": 5,
                "peak_factor": 2,
            },
            "peak_factor=2 with end_learning_rate=2 above initial_learning_rate=1 makes negative rates",
        ),
    ],
    ids=lambda value: value.split("=")[0] if isinstance(value, str) else value["kind"],
)
def test_fields_that_do_not_fit_together_are_one_sentence(fields, sentence):
    with pytest.raises(ValidationError) as caught:
        SCHEDULE.validate_python(fields)
    (error,) = caught.value.errors()
    assert error["type"] == "bad_schedule"
    assert sentence in error["msg"]


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        (STEP | {"step_size": 0}, ("step", "step_size")),
        (STEP | {"step_size": 2.5}, ("step", "step_size")),
        (STEP | {"step_size": True}, ("step", "step_size")),
        (STEP | {"step_size": "3"}, ("step", "step_size")),
        (STEP | {"step_size": 10**400}, ("step", "step_size")),
        (STEP | {"step_size": 3, "gamma": -1}, ("step", "gamma")),
        (STEP | {"step_size": 3, "rate": 1}, ("step", "rate")),
        (STEP | {"step_size": 3, "initial_learning_rate": -1}, ("step", "initial_learning_rate")),
        ({"kind": "linear", "initial_learning_rate": 1, "decay_steps": 0.5}, ("linear", "decay_steps")),
        ({"kind": "table", "learning_rates": [1, math.inf]}, ("table", "learning_rates", 1)),
        ({"kind": "warmup", "warmup_steps": 3, "after": {"kind": "none"}}, ("warmup", "after")),
        ({"kind": "none"}, ()),
        ({"learning_rate": 1}, ()),
        (0.1, ()),
    ],
    ids=str,
)
def test_wrong_fields_are_refused_by_name(fields, place):
    with pytest.raises(ValidationError) as caught:
        SCHEDULE.validate_python(fields)
    assert [error["loc"] for error in caught.value.errors()] == [place]


def test_counts_may_be_written_as_whole_floats():
    text = "{kind: step, initial_learning_rate: 0.1, step_size: 1.0e+4}"
    schedule = SCHEDULE.validate_python(yaml.safe_load(text))
    assert schedule.step_size == 10_000
    assert type(schedule.step_size) is int
    assert Step(initial_learning_rate=1, step_size=np.int64(3)).step_size == 3


def test_a_schedule_is_plain_data():
    schedule = Warmup(warmup_steps=5, after=Cosine(initial_learning_rate=0.1, decay_steps=10))
    assert json.loads(schedule.model_dump_json()) == {
        "kind": "warmup",
        "warmup_steps": 5,
        "start_learning_rate": 0.0,
        "end_learning_rate": None,
        "after": {
            "kind": "cosine",
            "initial_learning_rate": 0.1,
            "end_learning_rate": 0.0,
            "decay_steps": 10.0,
            "periodic": False,
        },
        "overlap": False,
    }
    with pytest.raises(ValidationError, match="frozen"):
        schedule.warmup_steps = 6


@pytest.mark.parametrize("model", BaseSchedule.__subclasses__(), ids=lambda model: model.__name__)
def test_every_field_is_described_and_every_rate_is_scaled(model):
    assert all(field.description for name, field in model.model_fields.items() if name != "kind")
    named = {
        name
        for name in model.model_fields
        if "learning_rate" in name or name in {"factor", "after", "schedule", "schedules"}
    }
    assert named == set(model.RATES)
