"""Plain sentences and formulas: they say what acts, all of it and nothing else."""

import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from unirms import ConfigError, Fidelity, ParameterGroup, RMSPropConfig, diagnosis, dialects, reference, semantics
from unirms.clipping import ClipByGlobalNorm, ClipByNorm, ClipByValue
from unirms.diagnosis import Diagnosis
from unirms.explanation import explain, explain_config, formula, shown, verdict_sentence

FIELDS = {
    "learning_rate": st.sampled_from([0.01, 0.25, 1.0, 1e-7]),
    "rho": st.sampled_from([0.0, 0.9, 0.99, 0.999999, 1.0, 1 / 3]),
    "epsilon": st.sampled_from([0.0, 1e-8, 1e-2]),
    "epsilon_placement": st.sampled_from(["inside_sqrt", "outside_sqrt"]),
    "momentum": st.sampled_from([0.0, 0.9, 1.0]),
    "nesterov": st.booleans(),
    "lr_in_momentum": st.booleans(),
    "centered": st.booleans(),
    "negative_variance": st.sampled_from(["propagate", "skip", "clamp"]),
    "initial_mean_square": st.sampled_from([0.0, 1.0, 0.5]),
    "bias_correction": st.booleans(),
    "weight_decay": st.sampled_from([0.0, 0.004]),
    "weight_decay_mode": st.sampled_from(["l2", "decoupled"]),
    "no_weight_decay": st.sampled_from([(), ("*.bias",)]),
    "clip": st.lists(
        st.sampled_from([ClipByValue(limit=0.5), ClipByNorm(max_norm=0.1), ClipByGlobalNorm(max_norm=2)]),
        max_size=2,
        unique=True,
    ),
    "loss_scale": st.sampled_from([1.0, 1024.0]),
    "maximize": st.booleans(),
}


@st.composite
def configs(draw, changes=FIELDS):
    values = {name: draw(values) for name, values in changes.items()}
    values["nesterov"] &= values["momentum"] > 0
    values["bias_correction"] &= values["rho"] < 1
    return RMSPropConfig(**values)


@st.composite
def pairs(draw):
    """Return a config and one that differs in a few fields, or the same one."""
    config = draw(configs())
    names = draw(st.lists(st.sampled_from(list(FIELDS)), max_size=2))
    try:
        return config, config.replace(**{name: draw(FIELDS[name]) for name in names})
    except ConfigError:  # nesterov without momentum, bias correction with rho = 1
        assume(False)


def executed(line, names):
    """Execute one line of a formula."""
    line = line.partition("   (")[0]
    if line.startswith("where den is not > 0, w"):
        names["w"] = np.where(names["den"] > 0, names["w"], names["old"]["w"])
        if " and " in line:
            buffer = line.split()[-2]
            names[buffer] = np.where(names["den"] > 0, names[buffer], names["old"][buffer])
        return
    limited = re.fullmatch(r"g = g limited to −(\S+) … (\S+)", line)
    if limited:
        names["g"] = np.clip(names["g"], -float(limited[1]), float(limited[2]))
        return
    target, right = line.split(" = ")
    right = right.replace("−", "-").replace("²", "**2").replace("^", "**").replace("·", "*")
    right = re.sub(r"√(\w+)", r"√(\1)", right).replace("√", "sqrt")
    right = re.sub(r"(\d) (?=[a-z(])", r"\1 * ", right)
    names["norm"] = np.sqrt(np.sum(names["g"] ** 2))
    functions = {"sqrt": np.sqrt, "min": np.minimum, "max": np.maximum}
    names[target] = eval(right, {**functions, **names})  # only what formula() wrote


def moved_by_formula(config, start, gradients):
    lines = formula(config)
    initial = next((re.search(r"v starts at (\S+)\)", line)[1] for line in lines if "v starts at" in line), 0)
    zeros = np.zeros_like(start)
    names = {"w": start, "v": zeros + float(initial), "a": zeros, "m": zeros, "b": zeros}
    for step, gradient in enumerate(gradients, start=1):
        names |= {"g": gradient, "t": step, "old": {"m": names["m"], "b": names["b"]}}
        for line in lines:
            executed(line, names)
            if line.startswith("v = "):
                names["old"]["w"] = names["w"]  # decayed already, and not moved yet
    return names["w"]


def moved_by_reference(config, start, gradients):
    params = {"w": start}
    state = reference.init(config, params)
    for gradient in gradients:
        params, state = reference.step(config, params, {"w": gradient}, state)
    return params["w"]


@given(configs())
def test_a_formula_executed_is_the_reference(config):
    # The variance of the first step is 0 and its rounding in both, and either sign of that is right.
    assume(not config.centered or (config.rho > 0 and not (config.bias_correction and not config.initial_mean_square)))
    random = np.random.default_rng(7)
    start, gradients = random.standard_normal(6), random.standard_normal((4, 6))
    with np.errstate(all="ignore"):
        by_formula = moved_by_formula(config, start, gradients)
    # 1 - 0.999999 is off by 3e-11 in binary, and the operations have another order.
    assert np.allclose(by_formula, moved_by_reference(config, start, gradients), rtol=1e-8, equal_nan=True)


@given(pairs())
def test_two_formulas_are_equal_exactly_where_the_configs_are_equivalent(pair):
    one, other = pair
    # AXES holds centering for nothing where rho = 1, although a guard still sees a denominator of 0 there.
    assume(not any(config.rho == 1 and config.negative_variance != "propagate" for config in pair))
    equivalent = one.equivalent(other) and other.equivalent(one)
    assert (formula(one) == formula(other)) == equivalent


@pytest.mark.parametrize(
    ("config", "lines"),
    [
        (
            RMSPropConfig.from_native("torch", momentum=0.9),
            ["v = 0.99 v + 0.01 g²   (v starts at 0)", "den = √v + 1e-08", "b = 0.9 b + g / den", "w = w − 0.01 b"],
        ),
        (
            RMSPropConfig(
                epsilon=0,
                weight_decay=0.5,
                weight_decay_mode="l1",
                clip=[
                    {"by": "norm", "max_norm": 2, "eps": 0.25},
                    {"by": "global_norm", "max_norm": 1, "over": "group"},
                ],
                gradient_centralization="last_axis",
                gradient_accumulation_steps=4,
                non_finite="skip",
                ema_decay=0.75,
                ema_start=2,
            ),
            [
                "g = the mean of 4 gradients, and one update after the last",
                "an infinity or NaN in any g: no update",
                "g = g − mean(g)   (for tensors of rank > 1, over all axes but the last)",
                "g = g · min(1, 2 / (norm + 0.25))   (norm of the tensor)",
                "g = g · min(1, 1 / norm)   (norm of the gradients of the tensors of a group)",
                "g = g + 0.5 sign(w)",
                "v = 0.9 v + 0.1 g²   (v starts at 0)",
                "den = √v",
                "w = w − 0.001 g / den",
                "average = 0.75 average + 0.25 w   (w itself after the first 3 updates)",
            ],
        ),
        (
            RMSPropConfig.from_native("tf1", learning_rate=0.01, momentum=0.9, centered=True),
            [
                "a sparse g: only its rows of w and of the means decay and move",
                "v = 0.9 v + 0.1 g²   (v starts at 1)",
                "a = 0.9 a + 0.1 g",
                "d = v − a²",
                "den = √(d + 1e-10)",
                "m = 0.9 m + 0.01 g / den",
                "w = w − m",
            ],
        ),
        (
            RMSPropConfig(
                rho=0,
                epsilon=0,
                momentum=0.9,
                nesterov=True,
                weight_decay=0.1,
                no_weight_decay=("*.bias", "norm*"),
                bias_correction=True,
                initial_mean_square=1,
                maximize=True,
                clip=[{"by": "value", "limit": 5}, {"by": "norm", "max_norm": 1}],
            ),
            [
                "g = −g",
                "w = w − 0.001 · 0.1 w   (not for parameters named *.bias or norm*)",
                "v = g²",
                "den = √v",
                "m = 0.9 m + 0.001 g / den",
                "w = w − (0.9 m + 0.001 g / den)",
            ],
        ),
        (
            RMSPropConfig(
                learning_rate=1, weight_decay=0.1, weight_decay_mode="l2", bias_correction=True, loss_scale=8,
                centered=True, negative_variance="clamp", clip={"by": "global_norm", "max_norm": 2},
            ),
            [
                "g = g / 8",
                "g = g · min(1, 2 / norm)   (norm of the gradients of all tensors)",
                "g = g + 0.1 w",
                "v = 0.9 v + 0.1 g²   (v starts at 0)",
                "a = 0.9 a + 0.1 g",
                "c = 1 − 0.9^t   (t is 1 at the first step)",
                "d = max(v / c − (a / c)², 0)",
                "den = √(d + 1e-07)",
                "w = w − g / den",
            ],
        ),
        (
            RMSPropConfig(epsilon=0, loss_scale=8),  # g / √v is the same for g and g / 8
            ["v = 0.9 v + 0.1 g²   (v starts at 0)", "den = √v", "w = w − 0.001 g / den"],
        ),
        (
            RMSPropConfig(rho=1, initial_mean_square=4, centered=True, negative_variance="skip"),
            [
                "v = 4   (it stays where it starts)",
                "den = √(v + 1e-07)",
                "w = w − 0.001 g / den",
                "where den is not > 0, w stays",
            ],
        ),
    ],
)  # fmt: skip
def test_a_formula_has_only_what_acts(config, lines):
    assert formula(config) == lines


def test_one_minus_rho_has_no_binary_noise():
    for digits in range(1, 15):
        rho = float("0." + "9" * digits)
        assert formula(RMSPropConfig(rho=rho))[0].startswith(f"v = {rho!r} v + {10.0**-digits!r} g²")


def test_groups_have_formulas_of_their_own():
    group = ParameterGroup(match=("*.bias", "head*"), learning_rate_factor=2, momentum=0.5)
    config = RMSPropConfig(weight_decay=0.1, no_weight_decay="norm*", groups=[group])
    assert formula(config)[-6:] == [
        "parameters named *.bias or head*:",
        "    w = w − 0.002 · 0.1 w   (not for parameters named norm*)",
        "    v = 0.9 v + 0.1 g²   (v starts at 0)",
        "    den = √(v + 1e-07)",
        "    m = 0.5 m + 0.002 g / den",
        "    w = w − m",
    ]
    own_decay = config.replace(groups=[ParameterGroup(match="norm*", weight_decay=0.2)])
    assert "    w = w − 0.001 · 0.2 w" in formula(own_decay)


def flat(text):
    return " ".join(text.split())


def translated(source, target, **settings):
    return RMSPropConfig.from_native(source, **settings).to_native(target)


def test_an_exact_translation_shows_one_formula_and_says_that_stock_is_enough():
    text = explain(translated("torch", "mindspore-experimental", lr=0.01))
    assert text.startswith("mindspore.experimental.optim.RMSprop computes this config: exact.\n")
    assert text.count("den = ") == 1
    assert "Differences" not in text
    assert "mindspore.experimental.optim.RMSprop is enough." in flat(text)


def test_a_seeded_translation_says_what_to_fill_in():
    text = flat(explain(translated("keras", "mindspore", momentum=0.9)))
    assert "computes this config if the mean square is filled in before the first step: seeded." in text
    assert "is enough: fill in the mean square with 0 before the first step." in text
    assert "with the lines that fill in the mean square" in text
    assert "policy=" not in text.split("What to do:")[1]


def test_a_constant_lr_translation_says_so_and_names_the_seeding():
    text = flat(explain(translated("torch", "keras", eps=0, momentum=0.9)))
    assert "if the learning rate stays constant: constant-lr." in text
    assert 'Where the rate changes, use unirms.build(config, "keras", model, policy="exact")' in text
    both = flat(explain(translated("tf1", "pfrl", learning_rate=0.1, momentum=0.9)))
    assert "if the mean square is filled in before the first step and the learning rate stays constant" in both
    assert "fill in the mean square with 1 before the first step and keep the learning rate constant." in both
    assert "unirms has no exact optimizer for pfrl; unirms.build computes it in torch, keras, mindspore, pa" in both
    assert "policy=" not in both


def test_an_approximate_translation_shows_both_formulas_and_every_difference():
    native = translated("tf1", "torch", learning_rate=0.064, epsilon=1e-3, momentum=0.9)
    text = explain(native)
    assert text.startswith("torch.optim.RMSprop cannot compute this config: approximate.")
    for line in (*formula(native.wanted), *formula(native.meaning)):
        assert f"    {line}\n" in text
    words = flat(text)
    assert "epsilon_placement is outside_sqrt instead of inside_sqrt: where gradients" in words
    assert "lr_in_momentum is off instead of on:" in words
    assert "Remedy: keep the learning rate constant." in words
    assert "initial_mean_square is 0 instead of 1:" in words
    assert 'Use unirms.build(config, "torch", model, policy="exact")' in words


def test_an_edge_case_is_named_beside_an_exact_verdict():
    config = RMSPropConfig(centered=True, negative_variance="skip")
    text = flat(explain(config.to_native("keras")))
    assert "computes this config, but for an edge case: exact." in text
    assert "negative_variance is propagate instead of skip" in text
    assert "keras.optimizers.RMSprop is enough." in text


def test_warnings_stand_beside_the_verdict(monkeypatch):
    monkeypatch.setattr(diagnosis, "warnings_of", lambda native: (Diagnosis("U999", "warning", "it drifts", "look"),))
    text = explain(translated("torch", "keras"))
    assert "Warnings:\n  - U999 it drifts; look\n" in text


@pytest.mark.parametrize("target", dialects.all_dialects())
@given(config=configs())
def test_every_translation_is_explained_within_100_columns(target, config):
    native = config.to_native(target)
    text = explain(native)
    assert all(len(line) <= 100 for line in text.splitlines())
    for difference in native.differences:
        assert f"- {difference.axis} is " in text
    has_adapter = bool(dialects.get(target).framework)
    said, advice = text.split("\nWhat to do:\n")
    assert ("policy=" in advice) == (has_adapter and native.fidelity >= Fidelity.CONSTANT_LR)
    assert ("What " in said) == bool(native.differences)


def test_long_names_are_wrapped():
    config = RMSPropConfig(weight_decay=0.1, no_weight_decay=("x" * 250, "*.bias"), groups=[{"match": "y" * 150}])
    assert all(len(line) <= 100 for line in explain(config.to_native("torch")).splitlines())
    assert all(len(line) <= 100 for line in explain_config(config).splitlines())


def test_a_config_alone_is_explained_with_the_classes_that_compute_it():
    config = RMSPropConfig.from_native("tf1", learning_rate=0.01, momentum=0.9)
    text = flat(explain_config(config))
    assert "v = 0.9 v + 0.1 g² (v starts at 1)" in text
    assert "exact: tf1, mindspore, timm" in text
    assert "seeded: keras, keras-legacy, paddle, paddle-fluid" in text
    assert "constant-lr: sb3" in text
    assert "constant-lr, seeded: pfrl" in text
    for dialect in dialects.all_dialects():
        assert re.search(rf"[ ,:]{dialect}\b", text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "on"),
        (1.0, "1"),
        (1e-8, "1e-08"),
        ("l2", "l2"),
        ((), "none"),
        (("*.bias", "*.gamma"), "*.bias, *.gamma"),
        ((ClipByValue(limit=1), ClipByGlobalNorm(max_norm=0.5)), "by value to 1, by global norm to 0.5"),
        ((ParameterGroup(match="*.bias", rho=0.5, centered=True),), "*.bias (rho 0.5, centered on)"),
        ((ParameterGroup(match="*.bias"),), "*.bias (nothing of its own)"),
    ],
)
def test_values_are_said_in_words(value, text):
    assert shown(value) == text


def test_a_verdict_is_a_sentence_between_any_two():
    found = semantics.differences(RMSPropConfig(), RMSPropConfig(initial_mean_square=1))
    sentence = "B computes A if the mean square is filled in before the first step: seeded."
    assert verdict_sentence("B", "A", found) == sentence
    assert verdict_sentence("B", "A", ()) == "B computes A: exact."
