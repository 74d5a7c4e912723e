"""A state on its way from one optimizer to another: names, layouts, units, dtypes, and all that does not fit."""

import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import unirms
from unirms import RMSPropConfig, StateError, reference
from unirms.moving import Destination, Move, ParameterMap, Spec, converted, moved, plan

SHAPES = {"conv": (8, 3, 5, 5), "fc": (10, 72), "bias": (10,)}
NAMES = {"conv": "conv/kernel", "fc": "fc/kernel", "bias": "fc/bias"}
LAYOUT = {"conv": "OIHW->HWIO", "fc": (1, 0)}
TURNED = {"conv/kernel": (5, 5, 3, 8), "fc/kernel": (72, 10), "fc/bias": (10,)}
FULL = RMSPropConfig(momentum=0.9, centered=True, ema_decay=0.99, learning_rate=0.01)


def after(config, steps, dtype=np.float64, seed=0):
    """Return weights and state after some steps of the reference, and the gradients of 40."""
    random = np.random.default_rng(seed)
    params = {name: random.normal(size=shape).astype(dtype) for name, shape in SHAPES.items()}
    grads = [{n: random.normal(size=shape).astype(dtype) for n, shape in SHAPES.items()} for _ in range(40)]
    state = reference.init(config, params)
    for gradient in grads[:steps]:
        params, state = reference.step(config, params, gradient, state)
    return params, replace(state, config=config, learning_rate=config.learning_rate_at(steps)), grads


def there(config, dtype="float64", shapes=TURNED, weights=None):
    return Destination(config, {name: Spec(shape, dtype) for name, shape in shapes.items()}, weights)


def problems_of(state, to, names=NAMES, layout=LAYOUT):
    with pytest.raises(StateError) as caught:
        plan(state, to, ParameterMap.of(names, layout))
    return caught.value.problems


# --- maps ------------------------------------------------------------------------------------------------------------


def test_letters_and_axes_are_the_same_permutation():
    letters, axes = ParameterMap.of({"a": "b"}, {"a": "OIHW->HWIO"}), ParameterMap.of({"a": "b"}, {"a": (2, 3, 1, 0)})
    assert letters == axes
    assert np.zeros((8, 3, 5, 4)).transpose(axes.targets["a"].axes).shape == (5, 4, 3, 8)


def test_a_map_survives_a_file(tmp_path):
    given_map = ParameterMap.of({**NAMES, "head": None}, LAYOUT)
    given_map.save(tmp_path / "map.yaml")
    assert ParameterMap.load(tmp_path / "map.yaml") == given_map
    assert "[2, 3, 1, 0]" in (tmp_path / "map.yaml").read_text() or "- 2" in (tmp_path / "map.yaml").read_text()


def test_the_inverse_of_a_map_leads_back():
    way = ParameterMap.of(NAMES, LAYOUT)
    assert way.inverse().inverse() == way
    array = np.arange(8 * 3 * 5 * 5).reshape(8, 3, 5, 5)
    back = array.transpose(way.targets["conv"].axes).transpose(way.inverse().targets["conv/kernel"].axes)
    np.testing.assert_array_equal(array, back)


@pytest.mark.parametrize(
    ("names", "layout", "said"),
    [
        ({"a": 3}, None, "'a': 3 is no target"),
        ({"a": "x"}, {"b": (0, 1)}, "layout has 'b', which names has not"),
        ({"a": "x"}, {"a": (0, 0)}, "(0, 0) is no permutation"),
        ({"a": "x"}, {"a": "OI->HW"}, "'OI->HW' is no permutation"),
        ({"a": "x"}, {"a": (1, True)}, "(1, True) is no permutation"),
        ({"a": {"to": "x", "axis": [1, 0]}}, None, "is no target"),
    ],
)
def test_what_is_no_map_is_refused(names, layout, said):
    with pytest.raises(StateError, match=r"no target|would go|has not|no permutation") as caught:
        ParameterMap.of(names, layout)
    assert said in str(caught.value)


def test_two_parameters_do_not_go_to_one():
    params, state, _ = after(FULL, 3)
    state = replace(state, weights=params)
    to = there(FULL, weights={name: Spec(shape, "float64") for name, shape in TURNED.items()})
    said = problems_of(state, to, {**NAMES, "bias": "fc/kernel"})
    assert {"two parameters would go to 'fc/kernel'", "two weights would go to 'fc/kernel'"} <= set(said)


def test_slots_and_weights_of_other_names_go_to_one_target():
    params, state, _ = after(FULL, 3)
    numbers = {name: str(index) for index, name in enumerate(SHAPES)}
    state = replace(state.renamed(numbers), weights=params)
    to = there(FULL, weights={name: Spec(shape, "float64") for name, shape in TURNED.items()})
    names = {**NAMES, **{numbers[name]: target for name, target in NAMES.items()}}
    layout = {**LAYOUT, **{numbers[name]: axes for name, axes in LAYOUT.items()}}
    arrived = moved(state, to, ParameterMap.of(names, layout))
    np.testing.assert_array_equal(arrived.weights["fc/kernel"], params["fc"].T)
    np.testing.assert_array_equal(arrived.momentum["fc/kernel"], state.momentum[numbers["fc"]].T)


def test_a_file_that_is_no_map_is_refused(tmp_path):
    (tmp_path / "map.yaml").write_text("- a\n- b\n")
    with pytest.raises(StateError, match="source name: target name"):
        ParameterMap.load(tmp_path / "map.yaml")


# --- names, layouts, units -------------------------------------------------------------------------------------------


def test_weights_and_slots_go_the_same_way():
    params, state, _ = after(FULL, 3)
    state = replace(state, weights=params)
    to = there(FULL, weights={name: Spec(shape, "float64") for name, shape in TURNED.items()})
    arrived = moved(state, to, ParameterMap.of(NAMES, LAYOUT))
    for kind, arrays in state.tensors().items():
        for name, array in arrays.items():
            axes = {"conv": (2, 3, 1, 0), "fc": (1, 0), "bias": (0,)}[name]
            np.testing.assert_array_equal(arrived.tensors()[kind][NAMES[name]], array.transpose(axes))
    assert arrived.step == 3
    assert all(array.flags.c_contiguous for array in arrived.momentum.values())


@pytest.mark.parametrize("in_source", [True, False])
def test_a_buffer_changes_its_unit_by_the_rate_of_the_next_update(in_source):
    """20 steps with the rate in the buffer and 20 without are 40 of either, at a constant rate."""
    group = unirms.ParameterGroup(match=("*fc*", "fc*"), learning_rate_factor=0.5)
    source = FULL.replace(lr_in_momentum=in_source, groups=(group,))
    target = source.replace(lr_in_momentum=not in_source)
    expected, _, _ = after(source, 40)
    params, state, grads = after(source, 20)
    with pytest.warns(unirms.FidelityWarning, match="lr_in_momentum"):
        state = moved(state, there(target, shapes=SHAPES), ParameterMap.of(None, known=state.mean_square))
    for gradient in grads[20:]:
        params, state = reference.step(target, params, gradient, state)
    for name, weight in expected.items():
        np.testing.assert_allclose(params[name], weight, rtol=0, atol=1e-13)  # rounding of 20 steps of 0.03


def test_a_buffer_that_keeps_its_unit_keeps_its_bits():
    _, state, _ = after(FULL, 5, np.float32)
    arrived = moved(state, there(FULL, "float32"), ParameterMap.of(NAMES, LAYOUT))
    np.testing.assert_array_equal(arrived.momentum["fc/bias"], state.momentum["bias"])


def test_the_next_rate_and_not_the_last_converts():
    decay = unirms.schedules.Table(learning_rates=(0.5, 0.25, 0.125, 0.0625))
    config = FULL.replace(lr_in_momentum=False, learning_rate=decay)
    _, state, _ = after(config, 2)
    with pytest.warns(unirms.FidelityWarning):
        arrived = moved(state, there(config.replace(lr_in_momentum=True)), ParameterMap.of(NAMES, LAYOUT))
    np.testing.assert_array_equal(arrived.momentum["fc/bias"], state.momentum["bias"] * 0.125)


@pytest.mark.parametrize("in_source", [True, False])
def test_a_rate_of_zero_converts_nothing(in_source):
    _, state, _ = after(FULL.replace(lr_in_momentum=in_source, learning_rate=0.0), 2)
    to = there(state.config.replace(lr_in_momentum=not in_source))
    found = problems_of(state, to)
    assert len(found) == 3
    assert "the rate of the next update, which is 0.0" in found[0]
    with pytest.warns(unirms.FidelityWarning):
        moved(
            replace(state, learning_rate=0.0).without("momentum"),
            replace(to, config=to.config.replace(momentum=0)),
            ParameterMap.of(NAMES, LAYOUT),
        )


def test_a_plateau_converts_by_the_rate_it_has_come_to():
    plateau = unirms.schedules.Plateau(initial_learning_rate=0.5)
    config = FULL.replace(lr_in_momentum=False, learning_rate=plateau)
    _, state, _ = after(config, 2)
    state = replace(state, plateau=replace(plateau.begin(), rate=0.05), learning_rate=0.05)
    with pytest.warns(unirms.FidelityWarning):
        arrived = moved(state, there(config.replace(lr_in_momentum=True)), ParameterMap.of(NAMES, LAYOUT))
    np.testing.assert_array_equal(arrived.momentum["fc/bias"], state.momentum["bias"] * 0.05)
    assert arrived.plateau == state.plateau


def test_a_plateau_of_which_the_state_knows_nothing_begins_and_one_that_is_not_there_is_left_out():
    plateau = unirms.schedules.Plateau(initial_learning_rate=0.5)
    _, state, _ = after(FULL, 2)
    with pytest.warns(unirms.FidelityWarning):
        arrived = moved(state, there(FULL.replace(learning_rate=plateau)), ParameterMap.of(NAMES, LAYOUT))
    assert arrived.plateau == plateau.begin()
    assert arrived.learning_rate == 0.5
    lowered = replace(state, plateau=replace(plateau.begin(), rate=0.05))
    arrived = moved(lowered, there(FULL), ParameterMap.of(NAMES, LAYOUT))
    assert arrived.plateau is None
    assert arrived.learning_rate == FULL.initial_learning_rate


def test_other_hyperparameters_are_said_aloud():
    _, state, _ = after(FULL, 2)
    with pytest.warns(unirms.FidelityWarning, match=r"epsilon_placement.*rho|rho.*epsilon_placement"):
        moved(state, there(FULL.replace(rho=0.5, epsilon_placement="outside_sqrt")), ParameterMap.of(NAMES, LAYOUT))


def test_groups_that_match_other_names_are_no_difference():
    source = FULL.replace(groups=(unirms.ParameterGroup(match=("fc",), rho=0.5),))
    target = FULL.replace(groups=(unirms.ParameterGroup(match=("fc/kernel",), rho=0.5),))
    _, state, _ = after(source, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        moved(state, there(target), ParameterMap.of(NAMES, LAYOUT))
    with pytest.warns(unirms.FidelityWarning, match="rho"):
        moved(state, there(FULL), ParameterMap.of(NAMES, LAYOUT))


# --- dtypes ----------------------------------------------------------------------------------------------------------


def test_a_wider_dtype_is_silent_and_a_narrower_one_is_said():
    _, state, _ = after(FULL, 3, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        moved(state, there(FULL, "float64"), ParameterMap.of(NAMES, LAYOUT))
    with pytest.warns(unirms.PrecisionWarning, match=r"rounded to float16: mean_square of .* and \d+ more"):
        moved(state, there(FULL, "float16"), ParameterMap.of(NAMES, LAYOUT))


def test_bfloat16_comes_and_goes_as_float32():
    import ml_dtypes

    values = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    values[:4] = [0.0, -0.0, 1.00390625, 3.3e38]  # the third lies halfway between two
    expected = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(converted(values, "bfloat16"), expected)
    np.testing.assert_array_equal(converted(expected, "bfloat16"), expected)


def test_a_value_too_large_for_its_dtype_is_refused():
    _, state, _ = after(FULL, 1)
    state.mean_square["bias"][0] = 1e6
    with pytest.raises(StateError, match=r"mean_square of 'bias' has values too large for float16 \(up to 1e\+06\)"):
        moved(state, there(FULL, "float16"), ParameterMap.of(NAMES, LAYOUT))


@pytest.mark.parametrize(
    ("value", "said"), [(np.nan, "NaN or infinite"), (np.inf, "NaN or infinite"), (-1, "negative")]
)
def test_values_that_no_state_has_are_refused(value, said):
    _, state, _ = after(FULL, 1)
    state.mean_square["bias"][3] = value
    state.mean_square["fc"][3, 4] = value
    with pytest.raises(StateError) as caught:
        moved(state, there(FULL), ParameterMap.of(NAMES, LAYOUT))
    assert len(caught.value.problems) == 2
    assert said in caught.value.problems[0]


# --- what does not fit -----------------------------------------------------------------------------------------------


def test_all_that_does_not_fit_is_said_together():
    _, state, _ = after(FULL, 2)
    to = Destination(
        FULL.replace(centered=False),
        {
            "conv/kernel": Spec((5, 5, 3, 8), "float64"),
            "fc/kernel": Spec((10, 72), "float64"),
            "more": Spec((1,), "float64"),
        },
    )
    found = "\n".join(problems_of(state, to, {"conv": "conv/kernel", "fc": "fc/kernel", "lost": "x"}))
    for said in (
        "the state has 'bias', for which there is no target",
        "the state has nothing for 'more'",
        "the map has 'lost', which the state has not",
        "mean_square of 'fc' has the shape (10, 72), permuted (72, 10); 'fc/kernel' has (10, 72)",
        "the state has a mean_gradient of 'conv', which the optimizer does not keep",
    ):
        assert said in found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"momentum": 0}, 'state.without("momentum")'),
        ({"ema_decay": 0}, 'state.without("average")'),
        ({"centered": False}, 'state.without("mean_gradient")'),
    ],
)
def test_a_slot_too_many_can_be_left_out(changes, said):
    _, state, _ = after(FULL, 2)
    to = there(FULL.replace(**changes))
    found = problems_of(state, to)
    assert len(found) == 3
    assert said in found[0]
    with pytest.warns(unirms.FidelityWarning):
        moved(state.without(said.split('"')[1]), to, ParameterMap.of(NAMES, LAYOUT))


@pytest.mark.parametrize("slot", ["momentum", "centered", "ema_decay"])
def test_a_slot_too_few_is_refused(slot):
    neutral = {"momentum": 0, "centered": False, "ema_decay": 0}[slot]
    _, state, _ = after(FULL.replace(**{slot: neutral}), 2)
    assert "which the optimizer needs for 'conv/kernel'" in problems_of(state, there(FULL))[0]


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ({"fc": (1, 0)}, "mean_square of 'conv' has the shape (8, 3, 5, 5); 'conv/kernel' has (5, 5, 3, 8)"),
        ({"conv": "OIHW->OHWI", "fc": (1, 0)}, "permuted (8, 5, 5, 3); 'conv/kernel' has (5, 5, 3, 8)"),
        ({**LAYOUT, "bias": (1, 0)}, "has the shape (10,), which axes (1, 0) do not permute"),
    ],
)
def test_shapes_are_compared_after_the_permutation(layout, said):
    _, state, _ = after(FULL, 2)
    assert any(said in problem for problem in problems_of(state, there(FULL), layout=layout))


def test_complex_and_integer_slots_do_not_become_real_ones():
    _, state, _ = after(FULL, 2)
    strange = {**state.mean_square, "bias": state.mean_square["bias"].astype(complex), "fc": np.ones((10, 72), int)}
    found = problems_of(replace(state, mean_square=strange), there(FULL))
    assert len(found) == 2
    assert "complex128; 'fc/bias' is float64" in found[1]


def test_half_gathered_gradients_need_an_optimizer_that_gathers():
    gathers = FULL.replace(gradient_accumulation_steps=3)
    _, state, _ = after(gathers, 5)
    assert state.micro_step == 2
    arrived = moved(state, there(gathers), ParameterMap.of(NAMES, LAYOUT))
    np.testing.assert_array_equal(arrived.gradient_sum["fc/kernel"], state.gradient_sum["fc"].T)
    assert arrived.micro_step == 2
    assert 'state.without("gradient_sum")' in problems_of(state, there(FULL))[0]
    with pytest.warns(unirms.FidelityWarning):
        moved(state.without("gradient_sum"), there(FULL), ParameterMap.of(NAMES, LAYOUT))


def test_a_state_without_a_config_has_no_units():
    _, state, _ = after(FULL, 1)
    with pytest.raises(StateError, match=r"no config.*unirms\.config_of"):
        plan(replace(state, config=None), there(FULL), ParameterMap.of(NAMES, LAYOUT))


def test_a_parameter_that_the_optimizer_does_not_update_is_left_out_on_purpose_alone():
    params, state, _ = after(FULL, 1)
    weights = {name: Spec(shape, "float64") for name, shape in TURNED.items()}
    frozen = {name: shape for name, shape in TURNED.items() if name != "fc/bias"}
    to = there(FULL, shapes=frozen, weights=weights)
    state = replace(state, weights=params)
    (problem,) = problems_of(state, to)
    assert "goes to 'fc/bias', which the optimizer does not update" in problem
    assert "state.without(parameters=['bias'])" in problem
    arrived = moved(state.without(parameters=["bias"]), to, ParameterMap.of(NAMES, LAYOUT))
    assert arrived.mean_square.keys() == arrived.average.keys() == frozen.keys()
    assert arrived.weights.keys() == TURNED.keys()
    with pytest.raises(StateError, match="the state has no 'b'"):
        state.without(parameters=["b"])


def test_a_map_that_leaves_out_everything_is_refused():
    _, state, _ = after(FULL, 1)
    found = problems_of(state, Destination(FULL, {}), dict.fromkeys(NAMES), None)
    assert found == ("the map leaves out every parameter, so that there is nothing to go on from",)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"step": -1}, "step is -1"),
        ({"step": 2.5}, "step is 2.5"),
        ({"step": None}, "step is None"),
        ({"step": 10**400}, "step is 1000"),
        ({"micro_step": True}, "micro_step is True"),
        ({"learning_rate": float("nan")}, "learning rate is nan"),
        ({"learning_rate": "0.1"}, "learning rate is '0.1'"),
        ({"momentum": {"zzz": np.ones(3)}}, "the state has a momentum of 'zzz', and no mean_square"),
        ({"weights": {"bias": [1.0]}}, "weights of 'bias' is a list; states have NumPy arrays"),
    ],
)
def test_what_is_no_state_is_refused_before_anything_is_written(wrong, said):
    _, state, _ = after(FULL, 1)
    problems = replace(state, **wrong).problems()
    assert any(said in problem for problem in problems)
    with pytest.raises(StateError, match="|".join(map(re.escape, problems))):
        plan(replace(state, **wrong), there(FULL), ParameterMap.of(NAMES, LAYOUT))


def test_a_wider_dtype_rounds_nothing_with_another_unit_either():
    move = Move("momentum", "a", "b", "float64", times=0.1)
    narrow = np.linspace(0, 1, 7, dtype=np.float32)
    assert not move.rounds(narrow, move.of(narrow))
    assert replace(move, dtype="float16").rounds(narrow, replace(move, dtype="float16").of(narrow))


def test_without_takes_known_slots_only():
    _, state, _ = after(FULL, 1)
    with pytest.raises(StateError, match="did you mean momentum"):
        state.without("momentm")
    with pytest.raises(StateError, match="no such slot can be left out"):
        state.without("mean_square")


def test_parameters_may_be_left_out_on_purpose():
    _, state, _ = after(FULL, 1)
    to = there(FULL, shapes={name: TURNED[name] for name in ("conv/kernel", "fc/kernel")})
    arrived = moved(state, to, ParameterMap.of({**NAMES, "bias": None}, LAYOUT))
    assert list(arrived.mean_square) == ["conv/kernel", "fc/kernel"]


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
    st.sampled_from(["float16", "float32", "float64"]),
)
@settings(max_examples=60, deadline=None)
def test_there_and_back_is_the_same_array(shape, random, dtype):
    axes = random.sample(range(len(shape)), len(shape))
    array = np.random.default_rng(0).normal(size=shape).astype(dtype)
    way = ParameterMap.of({"a": "b"}, {"a": axes})
    there_and_back = array
    for one, name in ((way, "a"), (way.inverse(), "b")):
        there_and_back = Move("momentum", name, "", "float64", one.targets[name].axes).of(there_and_back)
    np.testing.assert_array_equal(there_and_back, array)


# --- match -----------------------------------------------------------------------------------------------------------


def test_match_finds_names_and_layouts_by_shapes():
    assert unirms.match(SHAPES, TURNED) == ParameterMap.of(NAMES, LAYOUT)
    assert unirms.match(TURNED, SHAPES) == ParameterMap.of(NAMES, LAYOUT).inverse()


def test_match_reads_states():
    _, state, _ = after(FULL, 1)
    assert unirms.match(state, TURNED) == ParameterMap.of(NAMES, LAYOUT)


def test_match_refuses_two_equal_shapes_and_takes_an_answer():
    left, right = {"a": (3,), "b": (3,), "c": (4,)}, {"x": (3,), "y": (3,), "z": (4,)}
    with pytest.raises(StateError, match="'a', 'b' of the source and 'x', 'y' of the target"):
        unirms.match(left, right)
    assert unirms.match(left, right, names={"a": "y"}).as_data() == {"a": "y", "b": "x", "c": "z"}
    assert unirms.match(left, right, ordered=True).as_data() == {"a": "x", "b": "y", "c": "z"}


def test_match_refuses_a_square_matrix_and_takes_an_answer():
    left, right = {"a": (4, 4)}, {"x": (4, 4)}
    for frameworks in (None, ("torch", "torch"), ("keras", "paddle")):
        with pytest.raises(StateError, match=r"'a' and 'x' have the shape \(4, 4\), which does not tell"):
            unirms.match(left, right, frameworks=frameworks)
    assert unirms.match(left, right, layout={"a": "io->oi"}).as_data() == {"a": {"to": "x", "axes": [1, 0]}}
    assert unirms.match(left, right, layout={"a": (0, 1)}).as_data() == {"a": {"to": "x", "axes": [0, 1]}}


def test_frameworks_tell_how_a_convolution_is_permuted():
    left, right = {"a": (3, 3, 8, 8)}, {"x": (8, 8, 3, 3)}
    with pytest.raises(StateError, match="say it in layout="):
        unirms.match(left, right)
    assert unirms.match(left, right, frameworks=("keras", "torch")).targets["a"].axes == (3, 2, 0, 1)
    assert unirms.match(left, right, frameworks=("torch", "keras")).targets["a"].axes == (2, 3, 1, 0)
    with pytest.raises(StateError, match="no counterpart"):
        unirms.match(left, right, frameworks=("torch", "mindspore"))
    assert unirms.match(left, left, frameworks=("torch", "paddle")).targets["a"].axes is None


@pytest.mark.parametrize(
    ("first", "last", "there", "back"),
    [
        ((32, 1, 3, 5), (3, 5, 32, 1), (2, 3, 0, 1), (2, 3, 0, 1)),  # torch's groups=32, and DepthwiseConv2D
        ((32, 1, 7), (7, 32, 1), (2, 0, 1), (1, 2, 0)),  # the same with one axis
        ((32, 1, 3, 5), (3, 5, 1, 32), (2, 3, 1, 0), (3, 2, 0, 1)),  # Conv2D of one channel, or with groups=32
        ((1, 1, 3, 5), (3, 5, 1, 1), (2, 3, 1, 0), (3, 2, 0, 1)),  # either: both permutations do the same
    ],
)
def test_match_tells_a_depthwise_convolution_by_its_shape(first, last, there, back):
    assert unirms.match({"a": first}, {"x": last}).targets["a"].axes == there
    assert unirms.match({"a": last}, {"x": first}).targets["a"].axes == back
    assert unirms.match({"a": first}, {"x": last}, frameworks=("torch", "keras")).targets["a"].axes == there
    kernel = np.random.default_rng(0).normal(size=first)
    np.testing.assert_array_equal(kernel.transpose(there).transpose(back), kernel)


def test_no_depthwise_convolution_is_seen_in_several_outputs_for_a_channel():
    with pytest.raises(StateError, match="no counterpart"):
        unirms.match({"a": (64, 1, 3, 3)}, {"x": (3, 3, 32, 2)})
    assert unirms.match({"a": (8, 2, 3, 3)}, {"x": (3, 3, 2, 8)}).targets["a"].axes == (2, 3, 1, 0)


def test_a_matrix_of_one_element_is_as_it_is_either_way():
    assert unirms.match({"a": (1, 1)}, {"x": (1, 1)}).targets["a"].axes is None


def test_match_takes_the_axes_that_names_say():
    given_map = unirms.match({"a": (8, 8, 3, 3)}, {"x": (3, 3, 8, 8)}, names={"a": {"to": "x", "axes": [3, 2, 0, 1]}})
    assert given_map.targets["a"].axes == (3, 2, 0, 1)
    square = unirms.match({"a": (8, 8)}, {"x": (8, 8)}, names={"a": {"to": "x", "axes": np.array([1, 0])}})
    assert square.targets["a"].axes == (1, 0)


def test_match_in_order_takes_what_is_trained_first():
    ones = {name: np.ones(8) for name in ("mean", "gamma", "beta", "var")}
    trained = {name: ones[name] for name in ("gamma", "beta")}
    mixed = unirms.OptimizerState(1, trained, weights=ones)
    told = unirms.match(mixed, {"g": (8,), "b": (8,), "m": (8,), "v": (8,)}, ordered=True)
    assert {name: one.name for name, one in told.targets.items()} == {
        "gamma": "g",
        "beta": "b",
        "mean": "m",
        "var": "v",
    }


def test_an_order_that_what_is_trained_breaks_is_refused():
    ones = {name: np.ones(8) for name in ("bias", "gamma", "beta", "mean")}
    all_trained = unirms.OptimizerState(1, {n: ones[n] for n in ("bias", "gamma", "beta")}, weights=ones)
    frozen = unirms.OptimizerState(1, {n: ones[n] for n in ("gamma", "beta")}, weights=ones)
    with pytest.raises(StateError, match="'beta' of the source would go to what is trained on one side only") as caught:
        unirms.match(all_trained, frozen, ordered=True)
    assert len(caught.value.problems) == 1
    told = unirms.match(all_trained, frozen, ordered=True, names={"bias": "bias"})
    assert all(name == one.name for name, one in told.targets.items())
    alone = unirms.OptimizerState(1, {"a": np.ones(3)}, weights={"a": np.ones(3), "b": np.ones(4)})
    other = unirms.OptimizerState(1, {"y": np.ones(4)}, weights={"x": np.ones(3), "y": np.ones(4)})
    assert unirms.match(alone, other, ordered=True).as_data() == {"a": "x", "b": "y"}  # shapes tell, no order


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"names": ["a"]}, r"names=\['a'\] is no mapping"),
        ({"layout": "OI->IO"}, "layout='OI->IO' is no mapping"),
        ({"frameworks": "torch"}, "frameworks='torch' is one name"),
    ],
)
def test_match_refuses_arguments_of_another_kind(keywords, said):
    with pytest.raises(StateError, match=said):
        unirms.match({"a": (2, 3)}, {"b": (2, 3)}, **keywords)


def test_match_names_all_mistakes_together():
    with pytest.raises(StateError) as caught:
        unirms.match({"a": (2, 3), "b": (5,)}, {"x": (2, 3), "y": (7,)}, names={"c": "x", "a": "z"})
    told = "; ".join(caught.value.problems)
    for part in ("names has 'c'", "names goes to 'z'", "'b' of shape (5,) has no counterpart", "'y' of the target"):
        assert part in told


def test_match_refuses_what_has_no_counterpart_on_either_side():
    with pytest.raises(StateError) as caught:
        unirms.match({"a": (3,), "b": (4, 5)}, {"x": (3,), "y": (4, 6)})
    assert caught.value.problems == (
        "'b' of shape (4, 5) has no counterpart",
        "'y' of the target, of shape (4, 6), has no counterpart",
    )
    assert unirms.match({"a": (3,), "b": (4, 5)}, {"x": (3,)}, names={"b": None}).as_data() == {"a": "x", "b": None}


def test_match_refuses_unequal_numbers():
    with pytest.raises(StateError, match="not as many"):
        unirms.match({"a": (3,), "b": (3,)}, {"x": (3,)}, ordered=True)


def test_match_checks_what_it_is_told():
    with pytest.raises(StateError, match=r"names has 'q'.*names goes to 'w'"):
        unirms.match({"a": (3,)}, {"x": (3,)}, names={"q": "w"})
    with pytest.raises(StateError, match="say in layout="):
        unirms.match({"a": (3, 4)}, {"x": (5, 6)}, names={"a": "x"})
    with pytest.raises(StateError, match="no state, model or optimizer"):
        unirms.match(3, {"x": (3,)})
