"""What Hypothesis draws in several test files: configs, and data as files can hold it."""

from hypothesis import strategies as st

from unirms import ClipByGlobalNorm, ClipByNorm, ClipByValue, ConfigError, ParameterGroup, RMSPropConfig
from unirms.schedules import (
    AnySchedule,
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
    Plateau,
    Polynomial,
    Sampled,
    Sequence,
    Step,
    Table,
    Warmup,
)

finite = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False)
fractions = st.floats(min_value=0, max_value=1)
# Text that some reader of YAML takes for something else, beside any text.
tricky = st.sampled_from(
    ["1e-8", "yes", "~", "null", "", " ", "a: b", "- a", "# a", "0o17", "012", "1:30", "2001-01-01", "<<"]
)
patterns = st.one_of(tricky, st.text(max_size=8), st.sampled_from(["*.bias", "re:beta|gamma", "re:(?i)norm$", "[b]*"]))
clips = st.one_of(
    st.builds(ClipByValue, limit=positive),
    st.builds(ClipByNorm, max_norm=positive, eps=finite),
    st.builds(ClipByGlobalNorm, max_norm=positive, eps=finite, over=st.sampled_from(["all", "group"])),
)

# Schedules: rates of at most 10, no growth, so that every value is finite.
rates = st.one_of(st.just(0.0), st.floats(1e-9, 10.0))
factors = st.floats(0.0, 1.0)
counts = st.integers(1, 10**6)
lengths = st.one_of(counts, st.floats(1.0, 1e6))
flags = st.booleans()
boundaries = st.lists(st.integers(0, 10**6), max_size=4, unique=True).map(sorted)


def stairs(model):
    return st.builds(model, initial_learning_rate=rates, decay_rate=factors, decay_steps=lengths, staircase=flags)


def with_parts(part, draw_boundaries, build):
    """Return a strategy for a model of boundaries and one part more than there are boundaries."""
    return draw_boundaries.flatmap(
        lambda at: st.lists(part, min_size=len(at) + 1, max_size=len(at) + 1).map(lambda parts: build(at, parts))
    )


ends = {"initial_learning_rate": rates, "end_learning_rate": rates}
simple = st.one_of(
    st.builds(Constant, learning_rate=rates),
    st.builds(Step, initial_learning_rate=rates, step_size=counts, gamma=factors),
    st.builds(MultiStep, initial_learning_rate=rates, milestones=boundaries, gamma=factors),
    with_parts(rates, boundaries, lambda at, parts: Piecewise(boundaries=at, learning_rates=parts)),
    *[stairs(model) for model in (Exponential, NaturalExponential, InverseTime)],
    st.builds(Polynomial, **ends, decay_steps=lengths, power=st.floats(0.1, 4), cycle=flags),
    st.builds(Linear, **ends, decay_steps=lengths),
    st.builds(Cosine, **ends, decay_steps=lengths, periodic=flags),
    st.builds(CosineRestarts, **ends, first_period=counts, period_factor=st.floats(1, 4), peak_factor=factors),
    st.builds(
        OneCycle,
        max_learning_rate=rates,
        initial_learning_rate=st.none() | rates,
        end_learning_rate=st.none() | rates,
        total_steps=counts,
        pct_start=st.floats(0, 0.5),
        anneal_strategy=st.sampled_from(["cos", "linear"]),
        three_phase=flags,
    ),
    st.builds(Noam, factor=rates, d_model=counts, warmup_steps=counts, first_step=st.integers(0, 5)),
    st.builds(Table, learning_rates=st.lists(rates, min_size=1, max_size=5)),
)
schedules = st.recursive(
    simple,
    lambda inner: st.one_of(
        st.builds(
            Warmup,
            warmup_steps=st.integers(0, 1000),
            start_learning_rate=rates,
            end_learning_rate=st.none() | rates,
            after=inner,
            overlap=flags,
        ),
        st.builds(Sampled, schedule=inner, every=st.integers(1, 9), offset=st.integers(0, 9)),
        with_parts(inner, boundaries, lambda at, parts: Sequence(boundaries=at, schedules=parts)),
    ),
    max_leaves=4,
)
"""Any schedule there can be, with rates of at most 10."""
plateaus = st.builds(
    Plateau,
    initial_learning_rate=rates,
    factor=st.floats(0, 1, exclude_max=True),
    patience=st.integers(0, 5),
    threshold=st.just(0.0) | st.floats(1e-6, 2.0),
    threshold_mode=st.sampled_from(["rel", "abs"]),
    mode=st.sampled_from(["min", "max"]),
    cooldown=st.integers(0, 4),
    min_learning_rate=rates,
    eps=st.just(0.0) | st.floats(1e-9, 1e-2),
)
"""Any plateau there can be, with rates of at most 10, whose counts are short enough for a test."""


@st.composite
def _groups(draw):
    rate = draw(st.sampled_from(["learning_rate", "learning_rate_factor"]))
    overrides = {rate: finite, "rho": fractions, "epsilon": finite, "momentum": finite, "centered": st.booleans()}
    overrides |= {"weight_decay": finite, "clip": st.lists(clips, max_size=2)}
    chosen = draw(st.sets(st.sampled_from([*overrides])))
    drawn = {name: draw(overrides[name]) for name in sorted(chosen)}
    return _or_plain(ParameterGroup, match=draw(st.lists(patterns, min_size=1, max_size=3)), **drawn)


def _or_plain(kind, match, **fields):
    try:
        return kind(match=match, **fields)
    except ValueError:  # a drawn text that begins with re: and is no regular expression
        return kind(match="*", **fields)


@st.composite
def _configs(draw):
    fields = {
        "learning_rate": st.one_of(finite, schedules, plateaus),
        "rho": fractions,
        "epsilon": finite,
        "epsilon_placement": st.sampled_from(["inside_sqrt", "outside_sqrt"]),
        "momentum": finite,
        "nesterov": st.booleans(),
        "lr_in_momentum": st.booleans(),
        "centered": st.booleans(),
        "negative_variance": st.sampled_from(["propagate", "skip", "clamp"]),
        "initial_mean_square": finite,
        "bias_correction": st.booleans(),
        "weight_decay": finite,
        "weight_decay_mode": st.sampled_from(["l2", "l1", "decoupled"]),
        "no_weight_decay": st.lists(patterns, max_size=3),
        "clip": st.lists(clips, max_size=3),
        "gradient_centralization": st.sampled_from(["none", "first_axis", "last_axis"]),
        "loss_scale": positive,
        "gradient_accumulation_steps": st.integers(1, 2**53),
        "non_finite": st.sampled_from(["propagate", "skip", "raise"]),
        "sparse": st.sampled_from(["dense", "lazy"]),
        "ema_decay": fractions,
        "ema_start": st.integers(0, 2**53),
        "maximize": st.booleans(),
        "groups": st.lists(_groups(), max_size=2),
    }
    drawn = {name: draw(fields[name]) for name in sorted(draw(st.sets(st.sampled_from(sorted(fields)))))}
    drawn["nesterov"] = drawn.get("nesterov", False) and drawn.get("momentum", 0) > 0
    rhos = [drawn.get("rho", 0.9), *(group.rho for group in drawn.get("groups", ()))]
    drawn["bias_correction"] = drawn.get("bias_correction", False) and 1 not in rhos
    if drawn.get("gradient_accumulation_steps", 1) > 1 or drawn.get("gradient_centralization", "none") != "none":
        drawn.pop("sparse", None)
    if isinstance(drawn.get("learning_rate"), AnySchedule):
        drawn["groups"] = [group for group in drawn.get("groups", ()) if group.learning_rate is None]
    try:
        return RMSPropConfig(**drawn)
    except ConfigError:
        return RMSPropConfig(**{**drawn, "no_weight_decay": ()})


configs = _configs()
"""Any config there can be."""

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), tricky, st.sampled_from([10**400, -0.0])
)
data = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
"""Any data that a JSON or YAML file can hold."""
