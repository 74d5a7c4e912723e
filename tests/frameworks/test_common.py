"""What must hold in every framework: the same tests, run once in a process for each."""

import warnings

import numpy as np
import pytest

import unirms
from unirms import (
    ConfigError,
    FidelityWarning,
    ForeignOptimizerError,
    RMSPropConfig,
    UnrepresentableError,
    UnsupportedError,
    dialects,
)
from unirms.conformance.cases import Case
from unirms.conformance.judge import judge

EVERYTHING = RMSPropConfig(
    learning_rate=0.01,
    rho=0.8,
    epsilon=1e-3,
    epsilon_placement="outside_sqrt",
    momentum=0.9,
    nesterov=True,
    lr_in_momentum=False,
    centered=True,
    negative_variance="clamp",
    initial_mean_square=0.5,
    bias_correction=True,
    weight_decay=0.1,
    weight_decay_mode="l2",
    loss_scale=4.0,
    maximize=True,
)
# For each axis a config on which it shows, and what a wrong optimizer would follow instead.
PLANTED = {
    "epsilon placement at 1e-8": ({"epsilon": 1e-8}, {"epsilon_placement": "outside_sqrt"}),
    "first mean square": ({}, {"initial_mean_square": 1.0}),
    "rate in the buffer": ({"momentum": 0.9}, {"lr_in_momentum": False}),
    "Nesterov": ({"momentum": 0.9, "nesterov": True}, {"nesterov": False}),
    "centered": ({"centered": True}, {"centered": False}),
    "kind of decay": ({"weight_decay": 0.1}, {"weight_decay_mode": "l2"}),
    "exempt parameters": ({"weight_decay": 0.1, "no_weight_decay": ("p1",)}, {"no_weight_decay": ()}),
    "bias correction": ({"bias_correction": True}, {"bias_correction": False}),
    "loss scale": ({"loss_scale": 8.0}, {"loss_scale": 1.0}),
    "direction": ({"maximize": True}, {"maximize": False}),
}


def case(config, mode, *, gradients="1", sizes=(3, 17, 33)):
    fields = config.model_dump(mode="json")
    return Case(
        id="test", config=fields, mode=mode, dtype="float32", sizes=sizes, gradients=gradients, rates="halved", seed=7
    )


def built(driver, framework, config, *, dtype="float32", sizes=(3, 17), **options):
    """Return an optimizer, built as a user would, over tensors of these sizes."""
    params = {f"p{i}": np.ones(size, dtype) for i, size in enumerate(sizes)}
    with warnings.catch_warnings():
        warnings.simplefilter("error", FidelityWarning)
        run = driver.start(
            lambda values, **more: unirms.build(config, framework, values, **more, **options),
            params,
            dtype,
            next(iter(driver.modes)),
        )
    return run.optimizer


@pytest.mark.parametrize("name", PLANTED)
def test_a_wrong_optimizer_of_the_real_framework_is_caught(framework, driver, name):
    changes, wrong = PLANTED[name]
    config = RMSPropConfig(learning_rate=0.01, **changes)
    mode = next(iter(driver.modes))
    gradients = "1e-6" if "epsilon" in name else "1"
    right = judge(case(config, mode, gradients=gradients), framework, driver)
    assert right.passed, right.problem
    planted = judge(
        case(config, mode, gradients=gradients),
        framework,
        driver,
        make=lambda params, **options: unirms.build(config.replace(**wrong), framework, params, **options),
    )
    assert "ULP off" in planted.problem


def test_the_stock_class_comes_back_where_it_computes_the_config(framework, driver):
    # Centered, because MindSpore's plain kernel on CPU computes no config at all.
    kwargs = {dialects.get(framework).name_of("learning_rate"): 0.5, "centered": True}
    config = RMSPropConfig.from_native(framework, **kwargs)
    optimizer = built(driver, framework, config)
    assert type(optimizer).__name__ == dialects.get(framework).target.rpartition(".")[2]
    assert unirms.config_of(optimizer) == config


def test_a_seeded_stock_class_remembers_where_it_started(framework, driver):
    kwargs = {dialects.get(framework).name_of("learning_rate"): 0.5, "centered": True}
    config = RMSPropConfig.from_native(framework, **kwargs).replace(initial_mean_square=0.25)
    optimizer = built(driver, framework, config)
    assert unirms.config_of(optimizer) == config


def test_the_exact_class_is_of_the_stock_class_and_reads_back(framework, driver):
    optimizer = built(driver, framework, EVERYTHING)
    assert type(optimizer).__name__ == "UniRMSProp"
    assert dialects.get(framework).target.rpartition(".")[2] in [base.__name__ for base in type(optimizer).__mro__]
    assert unirms.config_of(optimizer) == EVERYTHING


@pytest.mark.parametrize(
    "config",
    [
        EVERYTHING,
        RMSPropConfig(epsilon=0.0, momentum=0.5, nesterov=True),
        RMSPropConfig(learning_rate=0.0, momentum=0.5, nesterov=True),
        RMSPropConfig(weight_decay=0.1, no_weight_decay=("p1",), nesterov=True, momentum=0.5),
    ],
    ids=["everything", "no epsilon", "no rate", "exempt"],
)
def test_config_of_returns_what_was_built(framework, driver, config):
    assert unirms.config_of(built(driver, framework, config)) == config


def test_another_way_to_say_the_same_is_equivalent(framework, driver):
    config = RMSPropConfig(epsilon=0.0, epsilon_placement="outside_sqrt")
    assert unirms.config_of(built(driver, framework, config)).equivalent(config)


def test_policy_stock_names_every_difference(framework, driver):
    with pytest.raises(UnrepresentableError) as caught:
        built(driver, framework, EVERYTHING, policy="stock")
    axes = {difference.axis for difference in caught.value.differences}
    assert {"nesterov", "bias_correction"} <= axes
    assert "initial_mean_square" not in axes
    assert all(axis in str(caught.value) for axis in axes)


def test_policy_nearest_warns_with_the_differences(framework, driver):
    with pytest.raises(FidelityWarning, match="bias_correction is False instead of True"):
        built(driver, framework, EVERYTHING.replace(weight_decay=0, maximize=False), policy="nearest")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"policy": "exat"}, "policy must be one of exact, stock, nearest"), ({"fuse": True}, "fuse= is not an option")],
)
def test_bad_requests(framework, driver, options, message):
    with pytest.raises(ConfigError, match=message):
        built(driver, framework, RMSPropConfig(), **options)


def test_what_a_recipe_says_besides_reads_back(framework, driver):
    config = RMSPropConfig(
        groups=[{"match": "p0", "rho": 0.5}],
        clip={"by": "norm", "max_norm": 1},
        gradient_accumulation_steps=2,
        non_finite="skip",
        ema_decay=0.5,
        gradient_centralization="first_axis",
        weight_decay=0.1,
        weight_decay_mode="l1",
    )
    assert unirms.config_of(built(driver, framework, config)) == config


def test_a_group_without_parameters_is_refused_by_name(framework, driver):
    with pytest.raises(UnsupportedError, match=r"groups\.0 matches no parameter: none of 'p0'"):
        built(driver, framework, RMSPropConfig(groups=[{"match": "q*", "rho": 0.5}]))


def test_averages_are_swapped_in_for_a_block_only(framework, driver):
    run = driver.start(
        lambda params, **options: unirms.build(RMSPropConfig(learning_rate=0.1, ema_decay=0.5), framework, params),
        {"p0": np.ones(3, np.float32)},
        "float32",
        next(iter(driver.modes)),
    )
    for _ in range(3):
        run.step({"p0": np.ones(3, np.float32)}, None)
    trained, average = run.weights()["p0"], run.state().average["p0"]
    assert np.all(trained < average)
    with unirms.averaged(run.optimizer):
        np.testing.assert_array_equal(run.weights()["p0"], average)
    np.testing.assert_array_equal(run.weights()["p0"], trained)
    plain = driver.start(
        lambda params, **options: unirms.build(RMSPropConfig(), framework, params),
        {"p0": np.ones(3, np.float32)},
        "float32",
        next(iter(driver.modes)),
    )
    with pytest.raises(UnsupportedError, match="running means of the weights"), unirms.averaged(plain.optimizer):
        pass


def test_nothing_to_optimize(framework):
    with pytest.raises(UnsupportedError, match="there are no parameters"):
        unirms.build(RMSPropConfig(), framework, [])


@pytest.mark.parametrize("params", [3, ["x"], [("w", 3)], None])
def test_what_is_not_a_parameter(framework, params):
    with pytest.raises(UnsupportedError, match=r"params"):
        unirms.build(RMSPropConfig(), framework, params)


def test_an_object_that_is_no_optimizer():
    with pytest.raises(ForeignOptimizerError, match="is not an RMSProp that unirms can read"):
        unirms.config_of(object())


def test_state_of_a_fresh_optimizer(framework, driver):
    state = unirms.state_of(built(driver, framework, EVERYTHING))
    assert state.step == 0
    assert all((value == 0.5).all() for value in state.mean_square.values())


def test_an_infinite_gradient_and_a_zero_denominator(framework, driver):
    config = RMSPropConfig(epsilon=0, centered=True, momentum=0.5, negative_variance="skip")
    for gradients in ("zeros", "infinities"):
        for mode in driver.modes:
            found = judge(case(config.replace(rho=0.875), mode, gradients=gradients), framework, driver)
            assert found.passed, (mode, gradients, found.problem)
