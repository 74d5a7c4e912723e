"""Schedules in the words of the frameworks: what is written reads back, and equal functions are recognised."""

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from unirms import ConfigError, NativeCall, RMSPropConfig, dialects, schedules
from unirms.dialects.calls import Name
from unirms.dialects.schedules import keras, mindspore, paddle, torch
from unirms.schedules import (
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
    Sequence,
    Step,
    Table,
    Warmup,
)
from unirms.schedules.forms import LONG_TABLE, canonical, forms

B = 0.1
DIALECTS = tuple(dialects.all_dialects())
TS = np.array([*range(60), 99, 100, 101, 299, 300, 1000, 10**6])

rates = st.sampled_from([0.0, 0.01, 0.03, 0.1, 1 / 3]) | st.floats(0, 1)
lengths = st.integers(1, 50) | st.sampled_from([1.0, 2.4, 30.0])
factors = st.sampled_from([0.0, 0.5, 1.0, 1.5]) | st.floats(0, 2)
counts = st.integers(1, 50)


@st.composite
def pieces(draw):
    boundaries = sorted(draw(st.sets(st.integers(0, 40), max_size=4)))
    size = len(boundaries) + 1
    return Piecewise(boundaries=boundaries, learning_rates=draw(st.lists(rates, min_size=size, max_size=size)))


simple = st.one_of(
    st.builds(Constant, learning_rate=rates),
    st.builds(Step, initial_learning_rate=rates, step_size=counts, gamma=factors),
    st.builds(
        MultiStep,
        initial_learning_rate=rates,
        milestones=st.lists(st.integers(0, 40), max_size=4).map(sorted),
        gamma=factors,
    ),
    pieces(),
    st.builds(
        Exponential, initial_learning_rate=rates, decay_rate=factors, decay_steps=lengths, staircase=st.booleans()
    ),
    st.builds(
        NaturalExponential,
        initial_learning_rate=rates,
        decay_rate=factors,
        decay_steps=lengths,
        staircase=st.booleans(),
    ),
    st.builds(
        InverseTime, initial_learning_rate=rates, decay_rate=factors, decay_steps=lengths, staircase=st.booleans()
    ),
    st.builds(
        Polynomial,
        initial_learning_rate=rates,
        end_learning_rate=rates,
        decay_steps=lengths,
        power=st.sampled_from([0.5, 1.0, 2.0]),
        cycle=st.booleans(),
    ),
    st.builds(Linear, initial_learning_rate=rates, end_learning_rate=rates, decay_steps=lengths),
    st.builds(
        Cosine, initial_learning_rate=rates, end_learning_rate=rates, decay_steps=lengths, periodic=st.booleans()
    ),
    st.builds(
        CosineRestarts,
        initial_learning_rate=rates,
        end_learning_rate=rates,
        first_period=counts,
        period_factor=st.sampled_from([1.0, 1.5, 2.0]),
    ),
    st.builds(OneCycle, max_learning_rate=rates, total_steps=counts),
    st.builds(Noam, factor=rates, d_model=counts, warmup_steps=counts, first_step=st.integers(0, 1)),
    st.builds(Table, learning_rates=st.lists(rates, min_size=1, max_size=6)),
)


def inside(parts):
    warmups = st.builds(
        Warmup,
        warmup_steps=st.integers(0, 20),
        start_learning_rate=rates,
        end_learning_rate=st.none() | rates,
        after=parts,
        overlap=st.booleans(),
    )
    sequences = st.lists(parts, min_size=1, max_size=3).flatmap(
        lambda found: st.sets(st.integers(0, 40), min_size=len(found) - 1, max_size=len(found) - 1).map(
            lambda boundaries: Sequence(schedules=found, boundaries=sorted(boundaries))
        )
    )
    sampled = st.builds(Sampled, schedule=parts, every=st.integers(1, 3), offset=st.integers(0, 2))
    return warmups | sequences | sampled


anything = simple | inside(simple)

STAIRS = Exponential(initial_learning_rate=B, decay_rate=0.5, decay_steps=300, staircase=True)
LINE = Linear(initial_learning_rate=B, decay_steps=100)
STEPS = Step(initial_learning_rate=B, step_size=300, gamma=0.5)
SAME = [
    (Step(initial_learning_rate=B, step_size=300, gamma=0.5), STAIRS),
    (LINE, Polynomial(initial_learning_rate=B, decay_steps=100, power=1)),
    (
        MultiStep(initial_learning_rate=B, milestones=[0, 5, 5, 9], gamma=0.5),
        Piecewise(boundaries=[5, 9], learning_rates=[B / 2, B / 8, B / 16]),
    ),
    (Table(learning_rates=[B, B, 0.2, 0.2]), Piecewise(boundaries=[2], learning_rates=[B, 0.2])),
    (
        Piecewise(boundaries=[0, 3, 4], learning_rates=[1, B, B, 0.2]),
        Piecewise(boundaries=[4], learning_rates=[B, 0.2]),
    ),
    (Piecewise(boundaries=[0], learning_rates=[1, B]), Constant(learning_rate=B)),
    (
        Exponential(initial_learning_rate=B, decay_rate=0.9, staircase=True),
        Step(initial_learning_rate=B, step_size=1, gamma=0.9),
    ),
    (
        Warmup(warmup_steps=10, after=STAIRS),
        Sequence(
            schedules=[
                Linear(initial_learning_rate=0, end_learning_rate=B, decay_steps=10),
                Step(initial_learning_rate=B, step_size=300, gamma=0.5),
            ],
            boundaries=[10],
        ),
    ),
    (Warmup(warmup_steps=0, after=STAIRS), STEPS),
    (Sequence(schedules=[LINE, STAIRS], boundaries=[0]), STEPS),
    (
        OneCycle(max_learning_rate=0.25, total_steps=9),
        OneCycle(max_learning_rate=0.25, initial_learning_rate=0.01, total_steps=9),
    ),
    (Sampled(schedule=STEPS, every=1), STAIRS),
    (
        Warmup(warmup_steps=9, overlap=True, after=Constant(learning_rate=B)),
        Warmup(warmup_steps=9, after=Constant(learning_rate=B)),
    ),
]
OTHER = [
    (STAIRS, STAIRS.model_copy(update={"staircase": False})),
    (Step(initial_learning_rate=B, step_size=300, gamma=0.5), Step(initial_learning_rate=B, step_size=301, gamma=0.5)),
    # Equal on paper, and not in float64.
    (
        NaturalExponential(initial_learning_rate=B, decay_rate=0.3),
        Exponential(initial_learning_rate=B, decay_rate=float(np.exp(-0.3))),
    ),
    (LINE, Polynomial(initial_learning_rate=B, decay_steps=100, cycle=True)),
    (Warmup(warmup_steps=10, after=LINE), Warmup(warmup_steps=10, after=LINE, overlap=True)),
    (Table(learning_rates=[B, 0.2]), Piecewise(boundaries=[2], learning_rates=[B, 0.2])),
    (Sampled(schedule=LINE, every=2), LINE),
]


@pytest.mark.parametrize(("left", "right"), SAME)
def test_equal_schedules_of_two_kinds_are_equivalent(left, right):
    assert np.array_equal(left.values(TS), right.values(TS))
    assert RMSPropConfig(learning_rate=left).equivalent(RMSPropConfig(learning_rate=right))
    assert RMSPropConfig(learning_rate=right).equivalent(RMSPropConfig(learning_rate=left))


@pytest.mark.parametrize(("left", "right"), OTHER)
def test_other_schedules_are_not(left, right):
    assert not np.array_equal(left.values(TS), right.values(TS))
    assert not RMSPropConfig(learning_rate=left).equivalent(RMSPropConfig(learning_rate=right))


def same_rates(left, right):
    """Return whether two schedules are one; a ramp between equal ends is a constant but for the rounding of its sum."""
    # Below the smallest number that float64 has in full precision, rounding is to multiples of the smallest.
    limits = {"rtol": 2 * np.finfo(float).eps, "atol": 2 * np.finfo(float).smallest_subnormal}
    return np.allclose(left.values(TS), right.values(TS), **limits)


@given(schedule=anything)
def test_every_form_of_a_schedule_has_its_rates(schedule):
    shared = canonical(schedule)
    assert canonical(shared) == shared
    for form in (shared, *forms(schedule)):
        assert same_rates(schedule, form), form
        assert canonical(form) == shared, form


@pytest.mark.parametrize("dialect", DIALECTS)
@given(schedule=anything)
@example(
    schedule=Sampled(
        schedule=Linear(initial_learning_rate=0.01, end_learning_rate=0.01, decay_steps=17), every=1, offset=1
    )
)
def test_a_schedule_is_written_as_a_call_that_reads_back_or_as_its_first_rate(dialect, schedule):
    config = RMSPropConfig(learning_rate=schedule)
    native, chosen = config.to_native(dialect), dialects.get(dialect)
    assume(schedule.initial > 0 or not chosen.behaviour.refuses(chosen.name_of("learning_rate"), "zero"))
    held = native.kwargs[chosen.name_of("learning_rate")]
    parted = [difference for difference in native.differences if difference.axis == "learning_rate"]
    said = isinstance(held, NativeCall) or native.scheduler is not None
    assert not (said and schedule.is_constant)
    if said or canonical(schedule).is_constant:
        assert not parted
        assert chosen.read(native.kwargs, native.scheduler).learning_rate == native.meaning.learning_rate
        if said:
            assert same_rates(schedule, native.meaning.learning_rate)
    else:
        (difference,) = parted
        assert native.meaning.learning_rate == schedule.initial
        assert difference.remedy.endswith(ANY_FUNCTION)
        assert ("unirms.build" in difference.remedy) is bool(chosen.framework)


@pytest.mark.parametrize("kind", [Exponential, NaturalExponential, InverseTime])
def test_stairs_of_one_update_are_none(kind):
    stairs, slope = (
        kind(initial_learning_rate=B, decay_rate=0.5, decay_steps=1, staircase=one) for one in (True, False)
    )
    assert canonical(stairs) == canonical(slope)
    assert same_rates(stairs, slope)
    assert RMSPropConfig(learning_rate=stairs).equivalent(RMSPropConfig(learning_rate=slope))


def test_a_scheduler_begins_at_the_rate_that_it_needs():
    native = RMSPropConfig(
        learning_rate=Linear(initial_learning_rate=0.025, end_learning_rate=B, decay_steps=4)
    ).to_native("torch")
    assert native.kwargs["lr"] == B
    assert native.scheduler == NativeCall(
        "torch.optim.lr_scheduler.LinearLR", Name("optimizer"), start_factor=0.25, end_factor=1.0, total_iters=4
    )
    assert torch.CLASSES.read(B, native.scheduler).initial == 0.025


def test_a_schedule_that_grows_beyond_all_numbers_has_no_pieces():
    grows = MultiStep(initial_learning_rate=10.0, milestones=[1, 2], gamma=1e200)
    assert canonical(grows) == grows
    assert RMSPropConfig(learning_rate=grows).to_native("keras").kwargs["learning_rate"] == 10.0


def test_a_long_table_is_not_written_as_boundaries():
    def table(changes):
        return RMSPropConfig(learning_rate=Table(learning_rates=[B + i % 2 for i in range(changes + 1)]))

    assert isinstance(table(LONG_TABLE).to_native("paddle").kwargs["learning_rate"], NativeCall)
    assert table(LONG_TABLE + 1).to_native("paddle").kwargs["learning_rate"] == B


def test_where_keras_accumulates_it_is_given_what_it_counts():
    line = Linear(initial_learning_rate=B, decay_steps=100)
    accumulating = RMSPropConfig(gradient_accumulation_steps=4)
    asked = accumulating.replace(learning_rate=Sampled(schedule=line, every=4, offset=3)).to_native("keras")
    assert isinstance(asked.kwargs["learning_rate"], NativeCall)
    assert asked.differences == ()
    for other in (line, Sampled(schedule=line, every=4), Sampled(schedule=line, every=2, offset=3)):
        native = accumulating.replace(learning_rate=other).to_native("keras")
        assert native.kwargs["learning_rate"] == other.initial
        assert [difference.axis for difference in native.differences] == ["learning_rate"]


ANY_FUNCTION = ("a function of your own", "LambdaLR", "LambdaDecay", "LearningRateSchedule", "LearningRateDecay")
KERAS = "keras.optimizers.schedules."


# What the classes refuse when they are made, or have no word for.
@pytest.mark.parametrize(
    ("classes", "schedule"),
    [
        (paddle, Step(initial_learning_rate=B, step_size=10, gamma=1.5)),
        (paddle, Exponential(initial_learning_rate=B, decay_rate=1.5)),
        (paddle, Warmup(warmup_steps=5, start_learning_rate=0.2, after=Constant(learning_rate=B))),
        (
            paddle,
            Warmup(warmup_steps=5, after=CosineRestarts(initial_learning_rate=B, first_period=7, period_factor=3)),
        ),
        (paddle, CosineRestarts(initial_learning_rate=B, first_period=7, period_factor=1.5)),
        (keras, Cosine(initial_learning_rate=0, end_learning_rate=B, decay_steps=9)),
        (keras, CosineRestarts(initial_learning_rate=B, first_period=7)),
        (mindspore, Linear(initial_learning_rate=0, end_learning_rate=B, decay_steps=9)),
        (mindspore, Exponential(initial_learning_rate=B, decay_rate=0.5, decay_steps=2.5)),
        (mindspore, Cosine(initial_learning_rate=B, end_learning_rate=0.2, decay_steps=9)),
        (torch, Linear(initial_learning_rate=0, end_learning_rate=B, decay_steps=9)),
        (torch, Piecewise(boundaries=[5], learning_rates=[0.2, B])),
        (torch, Polynomial(initial_learning_rate=B, end_learning_rate=0.01, decay_steps=9, power=2)),
    ],
)
def test_what_a_class_would_refuse_is_not_written(classes, schedule):
    assert classes.CLASSES.write(schedule) is None


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (NativeCall("ExponentialDecay", 0.1, 300, 0.5, True), STAIRS),
        (NativeCall(f"tf.{KERAS}ExponentialDecay", 0.1, 300, 0.5, staircase=True, name="mine"), STAIRS),
        (NativeCall(f"{KERAS}PolynomialDecay", 0.1, 100, 0.0), LINE),
        (
            NativeCall(f"{KERAS}CosineDecay", 0.01, 100, 0.0, "mine", 0.1, 10),
            Warmup(warmup_steps=10, start_learning_rate=0.01, after=Cosine(initial_learning_rate=0.1, decay_steps=100)),
        ),
    ],
)
def test_calls_of_users_are_read(call, expected):
    assert RMSPropConfig.from_native("keras", learning_rate=call).learning_rate == expected


@pytest.mark.parametrize(
    ("classes", "call", "message"),
    [
        (keras, NativeCall("Exponential", 0.1), "is not a schedule that unirms can read; it reads ExponentialDecay"),
        (keras, NativeCall("mine.ExponentialDecay", 0.1, 9, 0.5), "mine.ExponentialDecay(0.1, 9, 0.5) is not a"),
        (keras, NativeCall("ExponentialDecay", 0.1, 9), "ExponentialDecay(0.1, 9) needs decay_rate=…"),
        (keras, NativeCall("ExponentialDecay", 0.1, 9, rate=2), "ExponentialDecay takes initial_learning_rate"),
        (keras, NativeCall("ExponentialDecay", 0.1, 9, 0.5, True, "a", 1), "ExponentialDecay takes initial"),
        (keras, NativeCall("ExponentialDecay", -0.1, 9, 0.5), "initial_learning_rate=-0.1 is not allowed"),
        (keras, NativeCall("PiecewiseConstantDecay", 3, [0.1, 0.2]), "is no schedule: 'int' object is not iterable"),
        (paddle, NativeCall("StepDecay", 0.1, 10, last_epoch=5), "unirms reads StepDecay with last_epoch=-1 only"),
        (
            paddle,
            NativeCall("LinearWarmup", NativeCall("CosineAnnealingWarmRestarts", 0.1, 7, 3), 10, 0.0, 0.1),
            "misses restarts",
        ),
    ],
)
def test_calls_that_say_no_schedule_are_refused_by_name(classes, call, message):
    with pytest.raises(ConfigError) as caught:
        classes.CLASSES.read(call)
    assert message in str(caught.value)


def test_classes_without_schedules_of_their_own_refuse_them():
    call = NativeCall(f"{KERAS}CosineDecay", 0.1, 100)
    with pytest.raises(ConfigError, match=r"lr=keras.*is a learning-rate schedule that unirms does not read for torch"):
        RMSPropConfig.from_native("torch", lr=call)
    with pytest.raises(ConfigError, match=r"mindspore\.nn\.RMSProp has no scheduler beside it"):
        dialects.get("mindspore").read({}, NativeCall("StepLR", step_size=3))
    with pytest.raises(ConfigError, match=r"StepLR\(step_size=3\) is not a schedule .* it reads ReduceLROnPlateau$"):
        dialects.get("keras").read({}, NativeCall("StepLR", step_size=3))


def test_every_kind_is_tried():
    drawn = {Sequence, Sampled, Warmup, Constant, Step, MultiStep, Piecewise, Exponential, NaturalExponential}
    drawn |= {InverseTime, Polynomial, Linear, Cosine, CosineRestarts, OneCycle, Noam, Table}
    assert {kind.model_fields["kind"].default for kind in drawn} == set(schedules.KINDS)
