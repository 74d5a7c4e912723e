"""What happens to gradients before the update rule, by hand: gathered, checked, centralized, clipped, by rows."""

import numpy as np
import pytest

from unirms import (
    ClipByGlobalNorm,
    ClipByNorm,
    NonFiniteGradientError,
    RMSPropConfig,
    SparseGradient,
    UnsupportedError,
    reference,
)
from unirms.grouping import clip_plan, members

PLAIN = RMSPropConfig(learning_rate=0.1, rho=0.0, epsilon=1.0)  # w = w - 0.1 * g / sqrt(g * g + 1)


def step_of(grad):
    return 0.1 * grad / np.sqrt(grad * grad + 1)


def after(config, grads, params):
    state = reference.init(config, params)
    for grad in grads:
        params, state = reference.step(config, params, grad, state)
    return params, state


def test_gathered_gradients_make_one_update_of_their_mean():
    config = PLAIN.replace(gradient_accumulation_steps=3, ema_decay=0.5)
    params = {"w": np.array([1.0, -2.0])}
    grads = [{"w": np.array([3.0, 0.0])}, {"w": np.array([0.0, 6.0])}, {"w": np.array([3.0, 0.0])}]
    half, state = after(config, grads[:2], params)
    np.testing.assert_array_equal(half["w"], params["w"])
    assert (state.step, state.micro_step) == (0, 2)
    np.testing.assert_array_equal(state.gradient_sum["w"], [3.0, 6.0])
    done, state = after(config, grads, params)
    np.testing.assert_allclose(done["w"], params["w"] - step_of(np.array([2.0, 2.0])), rtol=1e-15)
    assert (state.step, state.micro_step, state.gradient_sum) == (1, 0, {})


def test_a_parameter_that_missed_some_gradients_still_has_the_mean_of_all_steps():
    config = PLAIN.replace(gradient_accumulation_steps=2)
    params = {"w": np.zeros(1), "idle": np.ones(1)}
    done, _ = after(config, [{"w": np.full(1, 4.0)}, {}], params)
    np.testing.assert_allclose(done["w"], -step_of(np.full(1, 2.0)), rtol=1e-15)
    assert done["idle"] == 1.0


def test_a_schedule_counts_updates_not_gradients():
    halving = {"kind": "step", "initial_learning_rate": 0.4, "step_size": 1, "gamma": 0.5}
    config = PLAIN.replace(learning_rate=halving, gradient_accumulation_steps=2)
    params, _ = after(config, [{"w": np.ones(1)}] * 4, {"w": np.zeros(1)})
    np.testing.assert_allclose(params["w"], -(0.4 + 0.2) / np.sqrt(2), rtol=1e-15)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_skipped_update_changes_nothing_and_is_not_counted(bad):
    config = RMSPropConfig(momentum=0.9, centered=True, ema_decay=0.9, non_finite="skip")
    params = {"w": np.ones(2), "other": np.ones(1)}
    good = {"w": np.array([1.0, 2.0]), "other": np.ones(1)}
    params, state = after(config, [good], params)
    spoiled, same = reference.step(config, params, {**good, "w": np.array([1.0, bad])}, state)
    assert all(np.array_equal(spoiled[name], params[name]) for name in params)
    assert same == state
    with pytest.raises(NonFiniteGradientError, match="the gradient of 'w' has an infinity or a NaN"):
        reference.step(config.replace(non_finite="raise"), params, {**good, "w": np.array([1.0, bad])}, state)


def test_a_skipped_update_drops_what_was_gathered():
    config = PLAIN.replace(gradient_accumulation_steps=2, non_finite="skip")
    params, state = after(config, [{"w": np.full(1, np.inf)}, {"w": np.ones(1)}], {"w": np.zeros(1)})
    assert params["w"] == 0
    assert (state.step, state.micro_step, state.gradient_sum) == (0, 0, {})


def test_the_mean_goes_over_all_axes_but_that_of_the_outputs():
    grad = np.arange(24.0).reshape(2, 3, 4) ** 2
    params = {"w": np.zeros((2, 3, 4)), "bias": np.zeros(3)}
    for kept, axes in (("first_axis", (1, 2)), ("last_axis", (0, 1))):
        done, _ = after(PLAIN.replace(gradient_centralization=kept), [{"w": grad, "bias": np.ones(3)}], params)
        np.testing.assert_allclose(done["w"], -step_of(grad - grad.mean(axis=axes, keepdims=True)), rtol=1e-14)
        np.testing.assert_allclose(done["bias"], -step_of(np.ones(3)), rtol=1e-15)  # of rank 1: as it is


def test_a_norm_of_zero_leaves_zero_and_eps_is_torchs():
    zero = {"w": np.zeros(3)}
    assert not np.any(ClipByNorm(max_norm=1).apply(zero)["w"])
    assert not np.any(ClipByGlobalNorm(max_norm=1, eps=1e-6).apply(zero)["w"])
    grad = {"a": np.array([3.0]), "b": np.array([4.0])}
    clipped = ClipByGlobalNorm(max_norm=1, eps=0.25).apply(grad)  # torch.nn.utils.clip_grad_norm_ has eps = 1e-6
    np.testing.assert_allclose(clipped["a"], 3 / 5.25, rtol=1e-15)
    kept = ClipByGlobalNorm(max_norm=5.25, eps=0.25).apply(grad)
    np.testing.assert_array_equal(kept["b"], 4.0)


def test_infinities_and_nan_in_a_clip_are_defined():
    grad = {"w": np.array([np.inf, 1.0]), "v": np.array([2.0])}
    with np.errstate(all="ignore"):
        by_norm = ClipByNorm(max_norm=1).apply(grad)
        together = ClipByGlobalNorm(max_norm=1).apply({**grad, "w": np.array([np.nan, 1.0])})
    np.testing.assert_array_equal(by_norm["w"], [np.nan, 0.0])
    np.testing.assert_array_equal(by_norm["v"], [1.0])
    assert all(np.isnan(value).all() for value in together.values())


def test_a_groups_own_clips_take_it_out_of_the_norm_of_the_others():
    config = RMSPropConfig(
        clip=[{"by": "value", "limit": 9}, {"by": "global_norm", "max_norm": 1}],
        groups=[{"match": "a*", "clip": {"by": "global_norm", "max_norm": 2}}, {"match": "b*", "clip": []}],
    )
    plan = list(clip_plan(config, ["a1", "a2", "b1", "c1", "c2"]))
    assert [(clip.by, names) for clip, names in plan] == [
        ("value", ("c1", "c2")),
        ("global_norm", ("c1", "c2")),
        ("global_norm", ("a1", "a2")),
    ]


def test_a_norm_over_each_group_is_that_of_its_parameters_and_of_those_in_none():
    clip = {"by": "global_norm", "max_norm": 1, "over": "group"}
    groups = [{"match": "a*", "rho": 0.5}, {"match": "b*", "rho": 0.6}]
    plan = list(clip_plan(RMSPropConfig(clip=clip, groups=groups), ["c1", "a1", "b1", "a2"]))
    assert [names for _, names in plan] == [("c1",), ("a1", "a2"), ("b1",)]


def test_every_parameter_is_in_one_group_and_every_group_has_some():
    config = RMSPropConfig(
        learning_rate=0.1,
        groups=[{"match": ["*.bias"], "learning_rate": 0.2}, {"match": "head.*", "learning_rate_factor": 3}],
    )
    found = members(config, ["body.w", "body.bias", "head.w", "head.bias"])
    assert [member.group for member in found] == [None, 0, 1, 0]  # the first that matches wins
    assert [member.rate_factor for member in found] == [1, 2, 3, 2]
    assert [member.config.initial_learning_rate for member in found] == pytest.approx([0.1, 0.2, 0.3, 0.2])
    with pytest.raises(UnsupportedError, match=r"groups\.1 matches no parameter: none of 'body.w' is called head"):
        members(config.replace(groups=[{"match": "*"}, {"match": "head.*"}]), ["body.w"])
    with pytest.raises(UnsupportedError, match=r"no multiple of the config's learning_rate=0\.0"):
        members(config.replace(learning_rate=0.0), ["bias", "a.bias", "head.w"])


@pytest.mark.parametrize("sparse", ["dense", "lazy"])
def test_repeated_rows_are_summed_before_they_are_squared(sparse):
    config = PLAIN.replace(sparse=sparse)
    grad = SparseGradient(np.array([2, 0, 2]), np.array([[1.0], [5.0], [3.0]]))
    params, state = after(config, [{"w": grad}], {"w": np.zeros((4, 1))})
    np.testing.assert_allclose(params["w"][:, 0], -step_of(np.array([5.0, 0.0, 4.0, 0.0])), rtol=1e-15)
    np.testing.assert_array_equal(state.mean_square["w"][:, 0], [25, 0, 16, 0])


def test_lazy_rows_rest_and_dense_rows_decay_and_coast():
    fields = {"rho": 0.5, "momentum": 0.5, "weight_decay": 0.1, "epsilon": 1.0}
    first = {"w": np.ones((2, 1))}
    second = {"w": SparseGradient(np.array([0]), np.ones((1, 1)))}
    start = {"w": np.ones((2, 1))}
    lazy, lazy_state = after(RMSPropConfig(**fields, sparse="lazy"), [first, second], start)
    dense, dense_state = after(RMSPropConfig(**fields), [first, second], start)
    once, once_state = after(RMSPropConfig(**fields), [first], start)
    assert lazy["w"][0] == dense["w"][0]
    assert lazy["w"][1] == once["w"][1] > dense["w"][1]
    assert lazy_state.mean_square["w"][1] == once_state.mean_square["w"][1]
    assert dense_state.mean_square["w"][1] == 0.5 * once_state.mean_square["w"][1]
    assert dense_state.momentum["w"][1] == 0.5 * once_state.momentum["w"][1]


@pytest.mark.parametrize(
    "grad",
    [
        SparseGradient(np.array([4]), np.ones((1, 2))),
        SparseGradient(np.array([-1]), np.ones((1, 2))),
        SparseGradient(np.array([0.0]), np.ones((1, 2))),
        SparseGradient(np.array([[0]]), np.ones((1, 2))),
        SparseGradient(np.array([0]), np.ones((2, 2))),
        SparseGradient(np.array([0]), np.ones((1, 3))),
    ],
)
def test_rows_that_do_not_fit_are_refused(grad):
    with pytest.raises(UnsupportedError, match=r"a parameter of shape \(4, 2\) takes indices below 4"):
        after(PLAIN, [{"w": grad}], {"w": np.zeros((4, 2))})


def test_the_average_is_the_weights_until_it_starts():
    config = RMSPropConfig(learning_rate=0.1, ema_decay=0.75, ema_start=2)
    params, state, expected = {"w": np.ones(2)}, None, None
    state = reference.init(config, params)
    np.testing.assert_array_equal(state.average["w"], params["w"])
    for update in range(1, 7):
        params, state = reference.step(config, params, {"w": np.full(2, 1.0)}, state)
        expected = params["w"] if update <= 3 else 0.75 * expected + 0.25 * params["w"]
        np.testing.assert_allclose(state.average["w"], expected, rtol=1e-15)


def test_l1_decay_adds_the_sign_of_the_weight_after_the_clip():
    config = PLAIN.replace(weight_decay=0.5, weight_decay_mode="l1", clip={"by": "value", "limit": 1})
    params = {"w": np.array([2.0, -2.0, 0.0])}
    done, _ = after(config, [{"w": np.full(3, 9.0)}], params)
    np.testing.assert_allclose(done["w"], params["w"] - step_of(np.array([1.5, 0.5, 1.0])), rtol=1e-15)


def test_a_tensor_without_axes_stays_an_array():
    config = RMSPropConfig(momentum=0.9, centered=True, ema_decay=0.5, gradient_accumulation_steps=2)
    params, state = after(config, [{"w": np.array(1.0)}] * 8, {"w": np.array(2.0)})
    assert isinstance(params["w"], np.ndarray)
    assert all(isinstance(arrays["w"], np.ndarray) for arrays in state.slots().values())
    assert reference.init(config, params).slots()["average"]["w"].shape == ()
