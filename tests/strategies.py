"""What Hypothesis draws in several test files: configs, and data as files can hold it."""

from hypothesis import strategies as st

from unirms import ClipByGlobalNorm, ClipByNorm, ClipByValue, ConfigError, ParameterGroup, RMSPropConfig

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
    st.builds(ClipByNorm, max_norm=positive),
    st.builds(ClipByGlobalNorm, max_norm=positive),
)


@st.composite
def _groups(draw):
    rate = draw(st.sampled_from(["learning_rate", "learning_rate_factor"]))
    overrides = {rate: finite, "rho": fractions, "epsilon": finite, "momentum": finite, "centered": st.booleans()}
    chosen = draw(st.sets(st.sampled_from([*overrides, "weight_decay"])))
    drawn = {name: draw({**overrides, "weight_decay": finite}[name]) for name in sorted(chosen)}
    return _or_plain(ParameterGroup, match=draw(st.lists(patterns, min_size=1, max_size=3)), **drawn)


def _or_plain(kind, match, **fields):
    try:
        return kind(match=match, **fields)
    except ValueError:  # a drawn text that begins with re: and is no regular expression
        return kind(match="*", **fields)


@st.composite
def _configs(draw):
    fields = {
        "learning_rate": finite,
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
        "weight_decay_mode": st.sampled_from(["l2", "decoupled"]),
        "no_weight_decay": st.lists(patterns, max_size=3),
        "clip": st.lists(clips, max_size=3),
        "loss_scale": positive,
        "maximize": st.booleans(),
        "groups": st.lists(_groups(), max_size=2),
    }
    drawn = {name: draw(fields[name]) for name in sorted(draw(st.sets(st.sampled_from(sorted(fields)))))}
    drawn["nesterov"] = drawn.get("nesterov", False) and drawn.get("momentum", 0) > 0
    drawn["bias_correction"] = drawn.get("bias_correction", False) and drawn.get("rho", 0.9) < 1
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
