"""Diagnosis: the catalogue, its rules and its documentation agree, and nothing else comes out of any recipe."""

import math
import re
import subprocess
import sys
import timeit
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import unirms
from unirms import ClipByNorm, ConfigError, RMSPropConfig, dialects, reference
from unirms.diagnosis import CODES, Diagnosis, diagnose, diagnose_config, warnings_of
from unirms.diagnosis.files import diagnose_file
from unirms.diagnosis.hazards import CENTERED_ROUNDING, DTYPES, of_group
from unirms.diagnosis.kinds import ANY, UNKNOWN, is_flag
from unirms.dialects.behaviour import FLAG_TYPES, NUMBER_TYPES, VALUE_KINDS
from unirms.recipes.base import Group, Recipe

ROOT = Path(__file__).parent.parent


def codes(found):
    return [diagnosis.code for diagnosis in found]


def of(target, /, *, groups=(), dtype=None, **settings):
    return diagnose(Recipe("test", target, settings, groups=tuple(Group((), g) for g in groups)), dtype=dtype)


@pytest.mark.parametrize("code", CODES)
def test_an_example_triggers_its_code_and_nothing_else(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = CODES[code].example
    defects = code.startswith("U4")
    if example.text is not None:
        Path(example.file).write_text(example.text, encoding="utf-8")
    found = diagnose_file(example.file, dtype=example.dtype, defects=defects)
    assert codes(found) == [code]
    assert found[0].severity == CODES[code].severity
    assert found[0].line is not None or code in {"U501", "U504"}
    Path(example.file).write_text(example.fixed, encoding="utf-8")
    assert codes(diagnose_file(example.file, dtype=example.dtype, defects=defects)) == []


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_documented(code):
    text = (ROOT / "docs" / "diagnosis.md").read_text(encoding="utf-8")
    entry = CODES[code]
    assert re.fullmatch(r"U[1-5][0-9]{2}", code)
    assert f"### {code}: {entry.title}" in text
    assert entry.explanation in text
    assert entry.explanation.endswith(".")
    assert entry.fix.endswith(".")


def test_a_diagnosis_prints_as_a_line():
    (found,) = of("torch.optim.RMSprop", lr=-1.0)
    assert str(found) == "U201 torch.optim.RMSprop refuses lr=-1.0; write a number >= 0"


# --- U1 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ("torch.optim.RMSProp", "torch.optim.RMSprop"),
        ("paddle.optimizer.RMSprop", "paddle.optimizer.RMSProp"),
        ("keras.optimizers.RMSProp", "keras.optimizers.RMSprop"),
        ("tf_keras.optimizers.RMSProp", "tf_keras.optimizers.RMSprop"),
        ("mindspore.nn.RMSprop", "mindspore.nn.RMSProp"),
        ("mindspore.experimental.optim.RMSProp", "mindspore.experimental.optim.RMSprop"),
        ("optax.RMSprop", "optax.rmsprop"),
    ],
)
def test_a_wrong_letter_case_is_corrected(written, right):
    found = [d for d in of(written, learning_rate=0.1) if d.code == "U101"]
    assert [d.fix for d in found] == [f"write {right}"]


@pytest.mark.parametrize("dialect", dialects.all_dialects().values(), ids=lambda dialect: dialect.name)
def test_the_class_of_a_dialect_with_its_defaults_is_in_order(dialect):
    for target in (dialect.target, *dialect.spellings):
        left_out = dialect.behaviour_of(target).without
        written = dialect.write(dialect.read({dialect.name_of("learning_rate"): 0.5}))
        found = of(target, **{name: value for name, value in written.items() if name not in left_out})
        assert codes(found) == []


def test_an_unknown_class_is_not_judged_further():
    (found,) = of("torch.optim.RMSProb", lr="x")
    assert (found.code, found.fix) == ("U102", "did you mean torch.optim.RMSprop?")


def test_a_path_that_a_package_does_not_export_is_none():
    (found,) = of("stable_baselines3.common.sb2_compat.RMSpropTFLike", lr=0.1)
    right = "stable_baselines3.common.sb2_compat.rmsprop_tf_like.RMSpropTFLike"
    assert (found.code, found.fix) == ("U102", f"did you mean {right}?")
    assert not of(right, lr=0.1)


def test_keywords_of_other_frameworks_are_translated():
    found = of("paddle.optimizer.RMSProp", learning_rate=0.1, alpha=0.9, eps=1e-3, epsilom=1, nesterov=True)
    assert [(d.code, d.setting) for d in found] == [
        ("U103", "alpha"),
        ("U103", "eps"),
        ("U104", "epsilom"),
        ("U105", "nesterov"),
    ]
    assert [d.fix for d in found[:3]] == ["write rho", "write epsilon", "did you mean epsilon?"]


def test_names_announced_for_a_later_release_are_not_taken_today():
    (found,) = of("mindspore.nn.RMSProp", lr=0.1)
    assert (found.code, found.fix) == ("U103", "write learning_rate")


def test_arguments_that_a_spelling_does_not_take():
    assert codes(of("tf_keras.optimizers.RMSprop", loss_scale_factor=2.0)) == ["U105"]
    assert codes(of("tf_keras.optimizers.RMSprop", jit_compile=True)) == []
    assert codes(of("keras.optimizers.RMSprop", loss_scale_factor=2.0)) == []


@pytest.mark.parametrize(
    ("value", "code", "fix"),
    [
        ("1e-8", "U110", "write 1.0e-8"),
        ("-1E-8", "U110", "write -1.0E-8"),
        ("1.0e-8", "U111", "drop the quotes"),
        ("small", "U111", "write eps=…, a number"),
        (True, "U113", "write eps=…, a number"),
        (None, "U116", "write eps=…, a number"),
        ([1e-8], "U116", "write eps=…, a number"),
        (1e-8j, "U116", "write eps=…, a number"),
        (10**400, "U204", "write a number >= 0"),
        (-(10**400), "U201", "write a number >= 0"),
    ],
)
def test_a_value_that_is_no_number(value, code, fix):
    (found,) = of("torch.optim.RMSprop", eps=value)
    assert (found.code, found.fix, found.setting) == (code, fix, "eps")


def test_a_long_value_is_cut_in_a_message():
    (found,) = of("torch.optim.RMSprop", eps="x" * 100)
    assert found.message == f"eps is the text '{'x' * 59}…, not a number"
    (found,) = of("torch.optim.RMSprop", eps=10**5000)
    assert found.message.startswith("torch.optim.RMSprop takes eps=a value of type int too large to show")
    with pytest.raises(ConfigError, match=f"^rho='{'x' * 199}… is not allowed"):
        RMSPropConfig(rho="x" * 300)


def test_numbers_of_numpy_are_judged_by_their_type():
    assert codes(of("torch.optim.RMSprop", lr=np.float32(0.1))) == []
    assert codes(of("paddle.optimizer.RMSProp", learning_rate=np.float32(0.1))) == ["U115"]
    assert codes(of("paddle.optimizer.RMSProp", learning_rate=np.float64(0.1))) == []
    assert codes(of("keras.optimizers.RMSprop", global_clipnorm=np.float64(1.0))) == ["U115"]


def test_integers_are_refused_where_the_class_refuses_them():
    assert codes(of("keras.optimizers.RMSprop", learning_rate=1)) == ["U112"]
    assert codes(of("keras.optimizers.RMSprop", momentum=0)) == []


def test_schedules_and_regularizers_are_not_judged():
    schedule = {"class_name": "ExponentialDecay", "config": {}}
    assert codes(of("keras.optimizers.RMSprop", learning_rate=schedule)) == []
    assert codes(of("paddle.optimizer.RMSProp", learning_rate=0.1, weight_decay={"L1Decay": 0.1})) == []
    assert codes(of("mindspore.nn.RMSProp", learning_rate=[0.1, 0.05])) == []


# --- U2 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "settings", "code", "says"),
    [
        ("keras.optimizers.RMSprop", {"momentum": -0.5}, "U202", "it computes without momentum"),
        ("keras.optimizers.RMSprop", {"momentum": math.nan}, "U204", "it computes without momentum"),
        ("keras.optimizers.RMSprop", {"clipnorm": -1.0}, "U205", "it does not clip"),
        ("keras.optimizers.RMSprop", {"clipnorm": math.inf}, "U204", "every weight turns NaN"),
        ("keras.optimizers.RMSprop", {"clipvalue": math.inf}, "U204", "it does not clip"),
        ("keras.optimizers.RMSprop", {"loss_scale_factor": 0.0}, "U205", "every weight turns NaN"),
        ("keras.optimizers.RMSprop", {"decay": 0.1}, "U208", "the learning rate stays constant"),
        ("tf_keras.optimizers.legacy.RMSprop", {"clipnorm": 0.0}, "U205", "every gradient becomes 0"),
        ("tf_keras.optimizers.legacy.RMSprop", {"momentum": 1.5}, "U201", "refuses momentum=1.5"),
        ("paddle.optimizer.RMSProp", {"learning_rate": -0.1}, "U202", "it climbs instead of descending"),
        ("timm.optim.RMSpropTF", {"eps": math.nan}, "U204", "every weight turns NaN"),
        ("optax.rmsprop", {"learning_rate": 0.1, "decay": 1.5}, "U203", "grows without end"),
        ("mlx.optimizers.RMSprop", {"learning_rate": 0.1, "eps": 0.0}, "U201", "refuses eps=0.0"),
    ],
)
def test_what_a_class_does_with_a_value(target, settings, code, says):
    (found,) = of(target, **settings)
    assert found.code == code
    assert says in found.message


@pytest.mark.parametrize(
    ("clip", "code"),
    [
        ({"ClipGradByGlobalNorm": -1.0}, "U205"),
        ({"ClipGradByGlobalNorm": 0.0}, "U205"),
        (unirms.NativeCall("paddle.nn.ClipGradByNorm", -1.0), "U201"),
        (unirms.NativeCall("paddle.nn.ClipGradByGlobalNorm", clip_norm=1.0), None),
    ],
)
def test_the_limit_inside_a_framework_object_is_judged(clip, code):
    found = of("paddle.optimizer.RMSProp", learning_rate=0.1, grad_clip=clip)
    assert codes(found) == ([code] if code else [])


@pytest.mark.parametrize(
    ("clip", "code", "says"),
    [
        ({"GradientClipByGlobalNorm": -1.0}, "U205", "changes its sign"),
        ({"GradientClipByGlobalNorm": 0.0}, "U205", "becomes 0"),
        ({"GradientClipByNorm": 0.0}, "U201", "refuses grad_clip GradientClipByNorm=0.0"),
        ({"GradientClipByValue": -1.0}, "U201", "refuses grad_clip GradientClipByValue=-1.0"),
    ],
)
def test_fluid_treats_limits_as_paddle_does(clip, code, says):
    (found,) = of("paddle.fluid.optimizer.RMSPropOptimizer", learning_rate=0.1, grad_clip=clip)
    assert (found.code, says in found.message) == (code, True)


@pytest.mark.parametrize(
    ("target", "name", "fix"),
    [
        ("paddle.optimizer.RMSProp", "grad_clip", "paddle.nn.ClipGradByGlobalNorm"),
        ("paddle.fluid.optimizer.RMSPropOptimizer", "grad_clip", "fluid.clip.GradientClipByGlobalNorm"),
        ("paddle.fluid.optimizer.RMSPropOptimizer", "regularization", "fluid.regularizer.L2DecayRegularizer"),
    ],
)
def test_a_number_where_the_class_takes_an_object(target, name, fix):
    for value, inside in ((0.5, "0.5"), (2, "2"), (-1.0, "-1.0"), ("0.5", "…"), (True, "…"), (np.float32(1), "…")):
        (found,) = of(target, learning_rate=0.1, **{name: value})
        assert (found.code, found.fix) == ("U116", f"write {name}={fix}({inside})")
    assert not of(target, learning_rate=0.1, **{name: None})


def test_the_clip_that_is_used_is_named():
    (found,) = of("tf_keras.optimizers.RMSprop", clipvalue=0.5, clipnorm=1.0)
    assert found.message.endswith("uses clipnorm only")
    assert found.fix == "drop clipvalue"
    (found,) = of("tf_keras.optimizers.RMSprop", clipvalue=0.5, global_clipnorm=1.0)
    assert found.message.endswith("uses global_clipnorm only")


def test_none_as_a_rate_is_refused_or_turns_the_steps_round():
    (found,) = of("optax.rmsprop", learning_rate=None)
    assert found.code == "U216"
    assert "it climbs" in found.message
    assert codes(of("optax.rmsprop", learning_rate=0.1, eps=None)) == ["U116"]
    assert codes(of("mlx.optimizers.RMSprop", learning_rate=None)) == ["U116"]


def test_a_class_of_another_package_is_not_judged():
    (found,) = of("bitsandbytes.optim.RMSprop", lr=-1.0)
    assert (found.code, found.severity) == ("U108", "warning")


def test_the_rule_of_a_class_is_in_the_fix():
    assert of("mindspore.nn.RMSProp", epsilon=0.0)[0].fix == "write a finite number > 0"
    assert of("tf_keras.optimizers.legacy.RMSprop", momentum=2.0)[0].fix == "write a finite number >= 0 and <= 1"


def test_values_of_groups_are_judged_as_the_class_judges_them_there():
    assert codes(of("torch.optim.RMSprop", groups=[{"lr": -1.0}])) == ["U212"]
    assert codes(of("mindspore.nn.RMSProp", groups=[{"lr": -1.0}])) == ["U201"]
    assert codes(of("mindspore.nn.RMSProp", groups=[{"decay": 0.5}])) == ["U104"]
    assert codes(of("mindspore.experimental.optim.RMSprop", groups=[{"lr": -1.0}, {"alpha": -1.0}])) == ["U201", "U212"]
    assert codes(of("torch.optim.RMSprop", groups=[{"lr": 0.1, "weight_decay": 0.1}, {}])) == []
    assert codes(of("paddle.optimizer.RMSProp", learning_rate=0.1, groups=[{"weight_decay": 1}])) == ["U112"]
    assert codes(of("paddle.optimizer.RMSProp", learning_rate=0.1, weight_decay=1)) == []
    assert codes(of("paddle.optimizer.RMSProp", learning_rate=0.1, groups=[{"learning_rate": 1}])) == []
    assert codes(of("paddle.optimizer.RMSProp", learning_rate=1)) == ["U112"]


def test_keys_of_groups_that_are_ignored():
    (found,) = of("torch.optim.RMSprop", groups=[{}, {"learning_rate": 0.1}])
    assert (found.code, found.fix, found.setting) == ("U213", "write lr", "groups[1].learning_rate")
    assert codes(of("paddle.optimizer.RMSProp", learning_rate=0.1, groups=[{"rho": 0.5, "lr": 1.0}])) == ["U213"]


def test_the_name_filter_is_silent_where_the_recipe_groups_its_parameters():
    assert codes(of("mindspore.nn.RMSProp", weight_decay=0.1)) == ["U215"]
    assert codes(of("mindspore.nn.RMSProp", weight_decay=0.0)) == []
    assert codes(of("mindspore.nn.RMSProp", weight_decay=0.1, groups=[{"weight_decay": 0.1}])) == []


def test_a_hazard_of_a_group_alone_is_reported_there():
    assert codes(of("torch.optim.RMSprop", groups=[{}, {"eps": 0.0}])) == ["U302"]
    found = of("torch.optim.RMSprop", groups=[{}, {"eps": 0.0, "alpha": 1.0, "lr": 0.1}])
    assert [(d.code, d.setting) for d in found] == [("U302", "groups[1].eps"), ("U305", "groups[1].alpha")]
    assert found[0].message == "group 1: epsilon=0: a gradient of 0 gives NaN at the first step"
    named = Recipe("test", "torch.optim.RMSprop", {}, groups=(Group(tuple("abcd"), {"momentum": 1.0}),))
    assert diagnose(named)[0].message.startswith("the group of a, b, c, … (4 names): momentum=1")


def test_a_hazard_of_all_is_not_repeated_for_their_groups():
    assert codes(of("torch.optim.RMSprop", eps=0.0, groups=[{"lr": 0.1}, {"eps": 0.0}])) == ["U302"]
    assert codes(of("torch.optim.RMSprop", eps=0.0, groups=[{"eps": 1e-8}])) == ["U302"]
    # With another rho, the mean square takes another time to vanish.
    assert codes(of("timm.optim.RMSpropTF", eps=0.0, groups=[{"alpha": 0.5}])) == ["U302", "U302"]


def test_settings_of_a_group_that_are_unknown_or_wrong_are_no_hazard():
    assert codes(of("torch.optim.RMSprop", groups=[{"eps": UNKNOWN, "alpha": 1.0}])) == ["U305"]
    assert codes(of("torch.optim.RMSprop", groups=[{"eps": UNKNOWN}], centered=True, alpha=0.0)) == ["U306"]
    assert codes(of("torch.optim.RMSprop", groups=[{ANY: UNKNOWN, "momentum": 1.0}])) == ["U304"]
    assert codes(of("torch.optim.RMSprop", groups=[{"eps": "0", "momentum": 1.0}])) == ["U111", "U304"]
    assert codes(of("torch.optim.RMSprop", groups=[{ANY: UNKNOWN, "centered": True}])) == []


def test_the_rate_of_a_group_is_nothing_to_read_a_hazard_from():
    """A factor is no rate, and a schedule of a group is none of the optimizer's."""
    settings = {"learning_rate": 0.1, "groups": [{"learning_rate": 0.5, "momentum": 1.0}]}
    assert codes(of("paddle.optimizer.RMSProp", **settings)) == ["U304"]


def test_a_hazard_that_a_group_has_no_part_in_is_not_its_own():
    config, dtype = RMSPropConfig(epsilon=0, momentum=1), DTYPES["float32"]
    assert [hazard.code for hazard, *_ in of_group(config, dtype, [], {"momentum", "weight_decay"})] == ["U304"]
    assert [hazard.code for hazard, *_ in of_group(config, dtype, [], {"rho"})] == ["U302"]


def test_a_group_of_a_config_has_its_own_hazards():
    config = RMSPropConfig(groups=[{"match": "a"}, {"match": ["b", "c*"], "epsilon": 0}])
    (found,) = diagnose_config(config)
    assert (found.code, found.setting) == ("U302", "groups[1].epsilon")
    assert found.message.startswith("parameters named b or c*: epsilon=0")
    assert codes(diagnose_config(config.replace(epsilon=0))) == ["U302"]
    assert codes(diagnose_config(config.replace(groups=[{"match": "a", "epsilon": 1e-8}]), dtype="float16")) == ["U301"]


def test_a_defect_of_the_class_that_only_a_group_meets_is_a_warning():
    config = RMSPropConfig.from_native("paddle", learning_rate=0.1, rho=0.5, epsilon=0.25, weight_decay=0.1)
    assert codes(warnings_of(config.to_native("paddle"))) == []
    grouped = config.replace(groups=[{"match": "a", "rho": 0.1}]).to_native("paddle")
    assert codes(warnings_of(grouped)) == ["U403"]


# --- U3 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "scalar"), [("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16), ("float32", np.float32)]
)
def test_epsilon_vanishes_exactly_where_the_dtype_rounds_it_to_0(dtype, scalar):
    least = 2.0 ** DTYPES[dtype].smallest
    with np.errstate(under="ignore"):
        # Neighbours that float32 can hold: bfloat16 is reached by way of it.
        for value in (least, least / 2, least / 2 * (1 + 2**-10), least / 2 * (1 - 2**-10), least / 4, 0.0):
            assert DTYPES[dtype].vanishes(float(value)) == (value > 0 and float(scalar(value)) == 0)
    assert np.finfo(np.float64).smallest_subnormal == 2.0 ** DTYPES["float64"].smallest


def test_the_default_of_pytorch_vanishes_in_float16_only():
    assert codes(of("torch.optim.RMSprop", dtype="float16")) == ["U301"]
    assert codes(of("torch.optim.RMSprop", dtype="bfloat16")) == []
    assert codes(of("torch.optim.RMSprop")) == []
    assert codes(of("torch.optim.RMSprop", eps=1e-50)) == ["U301"]


def weights_after(config, gradients, dtype=np.float32):
    params = {"w": np.ones(len(gradients[0]) if gradients else 1, dtype)}
    state = reference.init(config, params)
    for gradient in gradients:
        params, state = reference.step(config, params, {"w": np.asarray(gradient, dtype)}, state)
    return params["w"]


@pytest.mark.parametrize("first", [0.0, 1.0])
def test_an_epsilon_of_0_gives_nan_when_it_says_so(first):
    config = RMSPropConfig(epsilon=0.0, rho=0.5, initial_mean_square=first)
    (found,) = diagnose_config(config)
    assert found.code == "U302"
    steps = 1 if first == 0 else int(re.search(r"after about (\d+) steps", found.message)[1])
    assert not np.isnan(weights_after(config, [[0.0]] * (steps - 1))).any()
    assert np.isnan(weights_after(config, [[0.0]] * (steps + 1))).all()


def test_an_epsilon_of_0_is_no_hazard_where_the_class_skips():
    config = RMSPropConfig(epsilon=0.0, centered=True, negative_variance="skip")
    assert diagnose_config(config) == ()
    assert (weights_after(config, [[0.0]] * 3) == 1).all()


@pytest.mark.parametrize("rho", [0.5, 0.9, 0.97])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_epsilon_above_the_rounding_keeps_a_centered_run_finite(rho, dtype):
    """512 constant gradients between 1 and 2; the error scales with g*g, so other sizes need another epsilon only."""
    unit = DTYPES[np.dtype(dtype).name].unit
    gradients = [1 + np.random.default_rng(0).random(512)] * int(100 / (1 - rho))
    safe = 4 * CENTERED_ROUNDING * unit / (1 - rho)  # gradients up to 2
    config = RMSPropConfig(learning_rate=1e-9, rho=rho, centered=True, epsilon=safe)
    assert codes(diagnose_config(config, dtype=np.dtype(dtype).name)) == []
    assert np.isfinite(weights_after(config, gradients, dtype)).all()
    assert np.isnan(weights_after(config.replace(epsilon=safe / 100), gradients, dtype)).any()
    outside = config.replace(epsilon_placement="outside_sqrt")
    assert codes(diagnose_config(outside)) == ["U303"]
    assert np.isnan(weights_after(outside, gradients, dtype)).any()


def test_momentum_and_rho_that_run_away():
    assert codes(diagnose_config(RMSPropConfig(momentum=1.0))) == ["U304"]
    assert codes(diagnose_config(RMSPropConfig(momentum=0.999, rho=0.999))) == []
    assert codes(diagnose_config(RMSPropConfig(rho=1.0))) == ["U305"]
    assert codes(diagnose_config(RMSPropConfig(rho=0.0, centered=True))) == ["U306"]
    assert abs(weights_after(RMSPropConfig(rho=1.0, epsilon=1e-8), [[1.0]])[0]) > 9  # 0.001 / sqrt(1e-8)


def test_an_unknown_dtype_is_an_error():
    with pytest.raises(ConfigError, match="float8"):
        diagnose_config(RMSPropConfig(), dtype="float8")


def test_unknown_settings_are_not_judged():
    assert codes(of("torch.optim.RMSprop", eps=UNKNOWN, centered=UNKNOWN, dtype="float16")) == []
    assert codes(of("paddle.optimizer.RMSProp", **{ANY: UNKNOWN})) == []
    assert codes(of("torch.optim.RMSprop", **{ANY: UNKNOWN, "momentum": 1.0})) == ["U304"]
    assert codes(of("torch.optim.RMSprop", **{ANY: UNKNOWN}, dtype="float16")) == []


def test_hazards_are_not_sought_behind_an_error():
    assert codes(of("torch.optim.RMSprop", eps="x", dtype="float16")) == ["U111"]


# --- U4 -----------------------------------------------------------------------------------------------------------


def test_defects_stand_beside_the_verdict():
    plain, centered = RMSPropConfig(), RMSPropConfig(centered=True)
    assert codes(plain.to_native("mindspore").warnings) == ["U401", "U403"]
    assert codes(centered.to_native("mindspore").warnings) == ["U403"]
    assert codes(plain.to_native("keras").warnings) == ["U402", "U403"]
    assert codes(plain.to_native("torch").warnings) == []
    clipped = plain.replace(learning_rate=0.5, rho=0.5, clip=ClipByNorm(max_norm=1))
    assert codes(clipped.to_native("keras-legacy").warnings) == ["U402"]
    assert codes(clipped.replace(clip=()).to_native("keras-legacy").warnings) == []
    assert codes(warnings_of(plain.to_native("keras"), dtype="float32")) == ["U402"]
    assert all(CODES[d.code].severity == d.severity for d in plain.to_native("mindspore").warnings)


def test_only_what_loses_digits_is_said_to_be_rounded():
    config = RMSPropConfig(learning_rate=0.5, rho=0.9, epsilon=2.0**-20)
    _, found = config.to_native("paddle").warnings
    assert (found.code, found.setting) == ("U403", "rho")
    assert codes(config.replace(learning_rate=1e39, rho=0.5).to_native("keras").warnings) == ["U402", "U403"]


def test_warnings_are_cheap():
    native = RMSPropConfig().to_native("mindspore")
    assert min(timeit.repeat(lambda: native.warnings, number=100, repeat=5)) / 100 < 50e-6  # a translation has 200e-6


def test_warnings_load_no_catalogue():
    code = "import sys, unirms; unirms.RMSPropConfig().to_native('keras').warnings; " + (
        "sys.exit(any(name in sys.modules for name in ('unirms.diagnosis.catalogue', 'yaml')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- data ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", dialects.all_dialects().values(), ids=lambda dialect: dialect.name)
def test_the_data_speaks_of_arguments_that_exist(dialect):
    kinds = {*VALUE_KINDS, *NUMBER_TYPES, *FLAG_TYPES}
    for behaviour in (dialect.behaviour, *dialect.variants.values()):
        told = {*behaviour.refused, *(name for name, _ in behaviour.misread), *behaviour.acts_with, *behaviour.objects}
        told |= {name for names in (*behaviour.exclusive, behaviour.first_of, behaviour.without) for name in names}
        arguments = {argument.name for argument in dialect.arguments}
        assert {name for name in told if not name.startswith(("ClipGradBy", "GradientClipBy"))} <= arguments
        assert {kind for refused in behaviour.refused.values() for kind in refused} <= kinds
        assert not any(kind in behaviour.refused.get(name, ()) for name, kind in behaviour.misread)
        assert not set(behaviour.ignored) & arguments
        assert set(behaviour.groups.unchecked if behaviour.groups else ()) <= arguments
    for path in dialect.variants:
        assert path in (dialect.target, *dialect.spellings)


# Elsewhere 0 is a value like any other: `loss_scale=0` is refused by every config.
ABOVE_ZERO = {"mindspore": {"epsilon"}, "mindspore-experimental": {"lr", "eps"}, "mlx": {"eps"}}


@pytest.mark.parametrize("dialect", dialects.all_dialects().values(), ids=lambda dialect: dialect.name)
def test_reading_refuses_zero_and_writing_avoids_it_where_the_class_refuses_it(dialect):
    rate = dialect.name_of("learning_rate")
    for argument in dialect.arguments:
        if is_flag(argument):
            assert not dialect.behaviour.refuses(argument.name, "zero"), argument.name
        elif field := next(iter({"learning_rate", "rho", "epsilon", "momentum"} & set(argument.fields)), None):
            written = dialect.write(RMSPropConfig(**{field: 0.0}))[argument.name]
            if argument.name in ABOVE_ZERO.get(dialect.name, ()):
                with pytest.raises(ConfigError, match=f"refuses {argument.name}=0; it must be > 0"):
                    dialect.read({rate: 0.1, argument.name: 0})
                assert written == dialects.base.SMALLEST, argument.name
            else:
                config = dialect.read({rate: 0.1, argument.name: 0})
                misread = (argument.name, "zero") in dialect.behaviour.misread
                assert (getattr(config, field) == 0) != misread, argument.name
                assert not written, argument.name


# --- any recipe ---------------------------------------------------------------------------------------------------

names = st.one_of(
    st.sampled_from(sorted({a.name for d in dialects.all_dialects().values() for a in d.arguments})),
    st.sampled_from(["lr", "decay", "nesterov", "momentun", "**", "params", ""]),
    st.text(max_size=8),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from([10**5000, -(10**400), "1e-8", np.float32(0.1), np.float64("nan"), np.bool_(True), 1j, b"x"]),
    st.builds(unirms.NativeCall, st.sampled_from(["L2Decay", "ClipGradByGlobalNorm"]), st.floats()),
)
values = st.one_of(scalars, st.lists(scalars, max_size=2), st.dictionaries(st.text(max_size=3), scalars, max_size=2))
targets = st.one_of(
    st.sampled_from(
        [path for d in dialects.all_dialects().values() for path in (d.target, d.target.lower(), *d.spellings)]
    ),
    st.text(max_size=20),
)
mappings = st.dictionaries(names, values, max_size=5)
any_recipe = st.builds(
    Recipe,
    st.sampled_from(["hydra", "python"]),
    targets,
    mappings,
    groups=st.lists(st.builds(Group, st.just(()), mappings), max_size=2).map(tuple),
    lines=st.dictionaries(names, st.integers(1, 9), max_size=3),
    remarks=st.lists(st.text(max_size=9), max_size=1).map(tuple),
)


def check_any_recipe(recipe, dtype):
    for diagnosis in diagnose(recipe, dtype=dtype):
        assert isinstance(diagnosis, Diagnosis)
        assert diagnosis.severity == CODES[diagnosis.code].severity
        assert diagnosis.message
        assert diagnosis.fix


@settings(max_examples=200)
@example(Recipe("hydra", "torch.optim.RMSprop", {}, remarks=(".",)), None)
@given(any_recipe, st.sampled_from([None, *DTYPES]))
def test_any_recipe_gives_diagnoses(recipe, dtype):
    check_any_recipe(recipe, dtype)


@pytest.mark.slow
@settings(max_examples=10_000)
@given(any_recipe, st.sampled_from([None, *DTYPES]))
def test_any_recipe_gives_diagnoses_ten_thousand_times(recipe, dtype):
    check_any_recipe(recipe, dtype)
