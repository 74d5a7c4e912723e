"""What a config accepts, what it refuses, and what the refusal says."""

import json
import math
import pickle
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from unirms import ClipByNorm, ClipByValue, ConfigError, ParameterGroup, RMSPropConfig, files, schedules
from unirms.diagnosis.files import diagnose_text
from unirms.errors import as_given

RANGES = {
    "learning_rate": (0.0, None),
    "rho": (0.0, 1.0),
    "epsilon": (0.0, None),
    "momentum": (0.0, None),
    "initial_mean_square": (0.0, None),
    "weight_decay": (0.0, None),
}


def test_the_defaults_are_those_of_keras():
    assert RMSPropConfig() == RMSPropConfig.from_native("keras")


@pytest.mark.parametrize("field", RANGES)
def test_the_ends_of_a_range_are_inside(field):
    low, high = RANGES[field]
    assert getattr(RMSPropConfig(**{field: low}), field) == low
    assert getattr(RMSPropConfig(**{field: 1e30 if high is None else high}), field) == (1e30 if high is None else high)


@pytest.mark.parametrize("field", RANGES)
@pytest.mark.parametrize(
    "value", [-1e-9, math.nan, math.inf, -math.inf, "1e-3", True, None, [0.1], 10**400, 10**5000, 1j], ids=as_given
)
def test_values_outside_are_refused_by_name(field, value):
    with pytest.raises(ConfigError) as caught:
        RMSPropConfig(**{field: value})
    assert f"{field}={as_given(value)} is not allowed" in str(caught.value)
    assert len(str(caught.value)) < 500
    assert ">= 0" in str(caught.value)


def test_rho_ends_at_one():
    with pytest.raises(ConfigError, match=r"rho=1.5 is not allowed; rho must be a finite number >= 0 and <= 1"):
        RMSPropConfig(rho=1.5)


def test_a_loss_scale_of_zero_is_refused():
    with pytest.raises(ConfigError, match=r"loss_scale must be a finite number > 0"):
        RMSPropConfig(loss_scale=0)


@pytest.mark.parametrize("value", [1, np.float32(0.5), np.float64(0.5), np.int64(1), np.float16(0.5)])
def test_numbers_of_every_kind_become_floats(value):
    config = RMSPropConfig(learning_rate=value, rho=value)
    assert type(config.learning_rate) is float
    assert config.rho == float(value)


@pytest.mark.parametrize("field", ["nesterov", "lr_in_momentum", "centered", "bias_correction", "maximize"])
@pytest.mark.parametrize("value", [0, 1, "no", None, 1.0])
def test_flags_are_booleans(field, value):
    with pytest.raises(ConfigError, match=f"{field} must be True or False"):
        RMSPropConfig(**{field: value})


@pytest.mark.parametrize(
    ("foreign", "right"),
    [
        ("lr", "write learning_rate"),
        ("alpha", "write rho"),
        ("decay", "write rho"),
        ("eps", "write epsilon"),
        ("beta", "write momentum or rho"),
        ("initial_scale", "write initial_mean_square"),
        ("clipnorm", "write clip"),
        ("leraning_rate", "did you mean learning_rate?"),
        ("zzz", "the fields are learning_rate, rho"),
    ],
)
def test_a_foreign_name_is_answered_with_the_right_one(foreign, right):
    with pytest.raises(ConfigError) as caught:
        RMSPropConfig(**{foreign: 0.1})
    assert f"{foreign}=0.1 is not a field; {right}" in str(caught.value)


def test_all_problems_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        RMSPropConfig(rho=2, epsilon=-1, lr=1)
    assert len(caught.value.problems) == 3


STEP = {"kind": "step", "initial_learning_rate": 0.1, "step_size": 2}
PARTS = {  # where a field is, and the config with such a field there
    "": lambda field: RMSPropConfig(**field),
    "groups.0.": lambda field: RMSPropConfig(groups=[{"match": "a", **field}]),
    "clip.0.": lambda field: RMSPropConfig(clip=[{"by": "value", "limit": 1, **field}]),
    "learning_rate.": lambda field: RMSPropConfig(learning_rate={**STEP, **field}),
    "learning_rate.schedule.": lambda field: RMSPropConfig(
        learning_rate={"kind": "sampled", "every": 2, "schedule": {**STEP, **field}}
    ),
}


@pytest.mark.parametrize("place", PARTS)
@pytest.mark.parametrize("name", ["schedule", "value", "norm", "number", *schedules.KINDS, "plateau"])
def test_fields_with_the_names_of_kinds_are_refused_in_their_place(name, place):
    """Pydantic puts the kinds of schedules and clips into the place of an error, where they are no fields."""
    with pytest.raises(ConfigError) as caught:
        PARTS[place]({name: 3})
    (problem,) = caught.value.problems
    assert problem.startswith(f"{place}{name}=3 is not a field; ")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: ClipByValue(limit=0), "limit=0 is not allowed; limit must be a finite number > 0"),
        (
            lambda: ClipByNorm(max_norm=1, by_=2),
            "by_=2 is not a field; a clip by norm has the fields by, max_norm, eps",
        ),
        (lambda: ParameterGroup(match=[]), "match=() is not allowed; match must be a list of at least 1"),
        (lambda: ParameterGroup(match="a", rh=1), "rh=1 is not a field; did you mean rho?"),
        (
            lambda: schedules.Step(initial_learning_rate=-1, step_size=2),
            "initial_learning_rate=-1 is not allowed; initial_learning_rate must be a finite number >= 0",
        ),
        (lambda: schedules.Plateau(initial_learning_rate=1, factor=1), "factor must be a finite number >= 0 and < 1"),
        (lambda: schedules.Sampled(every=2, schedule="x"), "schedule must be a mapping of fields"),
        (
            lambda: schedules.Warmup(warmup_steps=2, after={**STEP, "gamma": -1}),
            "after.gamma=-1 is not allowed; after.gamma must be a finite number >= 0",
        ),
        (lambda: schedules.Piecewise(boundaries=[3, 2], learning_rates=[1, 2, 3]), "boundaries=[3, 2] must increase"),
    ],
)
def test_parts_that_are_made_by_themselves_refuse_in_one_sentence(make, problem):
    with pytest.raises(ConfigError) as caught:
        make()
    assert problem in str(caught.value)
    assert "pydantic" not in str(caught.value)
    assert len(caught.value.problems) == 1


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(ConfigError, match="nesterov=True needs momentum > 0"):
        RMSPropConfig(nesterov=True)


def test_bias_correction_of_a_constant_mean_is_refused():
    with pytest.raises(ConfigError, match="use rho < 1"):
        RMSPropConfig(bias_correction=True, rho=1)


@pytest.mark.parametrize("field", ["epsilon_placement", "negative_variance", "weight_decay_mode"])
def test_choices_name_what_there_is(field):
    with pytest.raises(ConfigError, match=f"{field}='x' is not allowed; {field} must be one of '"):
        RMSPropConfig(**{field: "x"})


def test_a_config_is_frozen_hashable_and_picklable():
    config = RMSPropConfig(rho=0.5, clip=ClipByNorm(max_norm=1))
    assert pickle.loads(pickle.dumps(config)) == config
    assert len({config, RMSPropConfig(rho=0.5, clip=ClipByNorm(max_norm=1))}) == 1
    with pytest.raises(ValidationError, match="frozen"):
        config.rho = 0.1


def test_errors_survive_pickling_between_processes():
    error = pickle.loads(pickle.dumps(ConfigError(["a", "b"])))
    assert error.problems == ("a", "b")


def test_replace_validates():
    assert RMSPropConfig().replace(rho=0.5).rho == 0.5
    with pytest.raises(ConfigError, match="rho=2"):
        RMSPropConfig().replace(rho=2)


def test_json_there_and_back():
    config = RMSPropConfig(
        momentum=0.9, clip=[ClipByValue(limit=1), {"by": "norm", "max_norm": 2}], no_weight_decay="*.bias"
    )
    assert RMSPropConfig.model_validate_json(config.model_dump_json()) == config
    assert RMSPropConfig.model_validate(json.loads(config.model_dump_json())) == config


@pytest.mark.parametrize(
    "text", ['{"rho": 2}', "[]", "{", '{"clip": [{"by": "norm"}]}', '{"clip": [{"by": "sum"}]}', "1"]
)
def test_bad_json_is_a_config_error(text):
    with pytest.raises(ConfigError):
        RMSPropConfig.model_validate_json(text)


def test_inside_another_model_it_reports_as_pydantic_does():
    class Recipe(BaseModel):
        optimizer: RMSPropConfig

    with pytest.raises(ValidationError, match="rho=2 is not allowed"):
        Recipe(optimizer={"rho": 2})
    assert Recipe(optimizer={"rho": 0.5}).optimizer.rho == 0.5


def test_a_parameter_gets_its_own_config():
    config = RMSPropConfig(
        momentum=0.9,
        nesterov=True,
        weight_decay=0.1,
        no_weight_decay=("*.bias", "re:beta|gamma"),
        groups=[ParameterGroup(match="head.*", learning_rate_factor=10, momentum=0), {"match": "*", "rho": 0.5}],
    )
    head = config.for_parameter("head.bias")
    assert (head.learning_rate, head.momentum, head.nesterov, head.weight_decay, head.rho) == (0.01, 0, False, 0, 0.9)
    assert config.for_parameter("norm.gamma").weight_decay == 0
    assert config.for_parameter("body.weight") == config.replace(groups=(), no_weight_decay=(), rho=0.5)


def test_a_group_has_one_learning_rate():
    with pytest.raises(ConfigError, match="not both"):
        RMSPropConfig(groups=[{"match": "*", "learning_rate": 1, "learning_rate_factor": 2}])


@pytest.mark.parametrize(
    "rate",
    [
        1e308,
        schedules.Cosine(initial_learning_rate=1e308, decay_steps=10),
        schedules.Warmup(warmup_steps=3, after=schedules.Cosine(initial_learning_rate=1e308, decay_steps=10)),
        schedules.Plateau(initial_learning_rate=1e308),
    ],
)
def test_a_factor_that_makes_the_rate_infinite_is_refused(rate):
    config = RMSPropConfig(learning_rate=rate, groups=[{"match": "a", "learning_rate_factor": 2}])
    with pytest.raises(ConfigError, match="finite number"):
        config.for_parameter("a")
    codes = [found.code for found in diagnose_text(files.to_text(config, "json"), "a.json")]
    assert codes == ["U201"]


def test_a_bad_pattern_is_refused():
    with pytest.raises(ConfigError, match="not a regular expression"):
        RMSPropConfig(no_weight_decay="re:(")
    with pytest.raises(ConfigError, match="no counts in braces"):
        RMSPropConfig(no_weight_decay="re:((a{1000}){1000}){1000}")


def test_a_regular_expression_that_takes_for_ever_is_refused_in_time():
    config = RMSPropConfig(no_weight_decay="re:(a|aa)+$")
    begun = time.monotonic()
    with pytest.raises(ConfigError, match=r"'\(a\|aa\)\+\$' takes more than 1 s for the name 'aaa"):
        config.for_parameter("a" * 80 + "b")
    assert time.monotonic() - begun < 20


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*RMSPropConfig.model_fields, "lr", "by"]), junk, max_size=4))
def test_any_mapping_gives_a_config_or_a_config_error(fields):
    try:
        config = RMSPropConfig(**fields)
    except ConfigError as error:
        assert error.problems
        assert all(error.problems)
    else:
        assert RMSPropConfig.model_validate_json(config.model_dump_json()) == config


def test_a_copy_with_no_change_is_the_config_and_every_change_is_checked():
    config = RMSPropConfig(momentum=1.0)
    assert config.replace(momentum=1.0) is config
    assert config.replace(momentum=0.5) == RMSPropConfig(momentum=0.5)
    for changes in ({"momentum": True}, {"no_field": None}, {"rho": 2.0}):
        with pytest.raises(ConfigError):
            config.replace(**changes)
