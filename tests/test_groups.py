"""Parameter groups in the words of each class: what is written, what it means, and how groups of a class are read.

The snippets that say them are run in `tests/frameworks/test_snippets.py`.
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import unirms
from unirms import ConfigError, NativeCall, ParameterGroup, RMSPropConfig, dialects, recipes
from unirms.cli import app
from unirms.dialects import groups
from unirms.dialects.base import SMALLEST
from unirms.explanation import explain
from unirms.recipes.base import Group, Recipe
from unirms.simplest import simplest

ALL = dialects.all_dialects()
GROUPED = ("torch", "mindspore", "mindspore-experimental", "paddle", "timm", "sb3", "pfrl")
OWN = {"learning_rate": 0.05, "rho": 0.5, "epsilon": 0.25, "momentum": 0.75, "centered": True, "weight_decay": 0.125}
STEP = {"kind": "step", "initial_learning_rate": 0.1, "step_size": 30}
JOINT = {"by": "global_norm", "max_norm": 1.0}
numbers = st.floats(0, 1e6)
some_groups = st.lists(
    st.builds(
        ParameterGroup,
        match=st.sampled_from(["a*", "*b", "c"]),
        learning_rate_factor=st.none() | st.floats(0, 8),
        rho=st.none() | st.floats(0, 1),
        epsilon=st.none() | numbers,
        momentum=st.none() | numbers,
        centered=st.none() | st.booleans(),
        weight_decay=st.none() | numbers,
        clip=st.none() | st.sampled_from([(), JOINT, {"by": "norm", "max_norm": 0.5}, [JOINT, JOINT]]),
    ),
    max_size=3,
)


def config(*own, **fields):
    return RMSPropConfig(**{"learning_rate": 0.01, "momentum": 0.5, **fields}, groups=own)


def native(dialect, *own, **fields):
    return config(*own, **fields).to_native(dialect)


def axes(native):
    return [difference.axis for difference in native.differences]


def told(native):
    return [group.settings for group in native.groups]


@pytest.mark.parametrize(
    ("dialect", "settings"),
    [
        (
            "torch",
            {"lr": 0.05, "alpha": 0.5, "eps": 0.25, "weight_decay": 0.125, "momentum": 0.75, "centered": True},
        ),
        ("mindspore", {"lr": 0.05, "weight_decay": 0.125}),
        (
            "paddle",
            {
                "learning_rate": 5.0,
                "rho": 0.5,
                "epsilon": 0.25,
                "momentum": 0.75,
                "centered": True,
                "weight_decay": 0.125,
            },
        ),
        (
            "timm",
            {"lr": 0.05, "alpha": 0.5, "eps": 0.25, "weight_decay": 0.125, "momentum": 0.75, "centered": True},
        ),
    ],
)
def test_a_group_is_told_by_the_keys_of_the_class(dialect, settings):
    found = native(dialect, {"match": ["a", "b*"], **OWN}, {"match": "c"}, weight_decay_mode="l2")
    assert found.groups[0].match == ("a", "b*")
    assert told(found) == [settings, {}]
    assert ("groups" in axes(found)) is (dialect == "mindspore")


def test_a_class_without_groups_is_told_nothing_and_differs():
    for name in sorted({*ALL} - {*GROUPED}):
        found = native(name, {"match": "a", "rho": 0.5})
        assert found.groups == ()
        assert "groups" in axes(found)
    assert all(ALL[name].behaviour.groups for name in GROUPED)


def test_a_factor_is_a_rate_or_a_factor_as_the_class_wants_it():
    double = {"match": "a", "learning_rate_factor": 2}
    assert told(native("torch", double)) == [{"lr": 0.02}]
    assert told(native("paddle", double)) == [{"learning_rate": 2.0}]
    assert told(native("paddle", {"match": "a", "learning_rate": 0.01})) == [{"learning_rate": 1.0}]
    # Of a rate of 0 there is no multiple.
    lost = native("paddle", {"match": "a", "learning_rate": 0.01}, learning_rate=0)
    assert told(lost) == [{}]
    assert axes(lost) == ["groups"]
    assert told(native("torch", {"match": "a", "learning_rate": 0.01}, learning_rate=0)) == [{"lr": 0.01}]


@pytest.mark.parametrize(
    ("own", "base", "multiple"),
    [
        ({}, 0.1, 1.0),
        ({"learning_rate_factor": 0.5}, 0.0, 0.5),
        ({"learning_rate": 0.05}, 0.1, 0.5),
        ({"learning_rate": 0.1}, 0.1, 1.0),
        ({"learning_rate": 0.0}, 0.1, 0.0),
        ({"learning_rate": 0.0}, 0.0, 1.0),
        ({"learning_rate": 0.1}, 0.0, None),
    ],
)
def test_the_rate_of_a_group_is_a_multiple_of_the_others(own, base, multiple):
    assert ParameterGroup(match="a", **own).multiple_of(base) == multiple


def test_a_schedule_is_scaled_for_a_group_where_the_class_has_one_for_each():
    double, still = {"match": "a", "learning_rate_factor": 2}, {"match": "b", "learning_rate_factor": 0}
    found = native("mindspore", double, still, learning_rate=STEP)
    assert told(found) == [
        {
            "lr": NativeCall(
                "mindspore.nn.ExponentialDecayLR",
                learning_rate=0.2,
                decay_rate=0.1,
                decay_steps=30,
                is_stair=True,
            )
        },
        {"lr": 0.0},
    ]
    assert "groups" not in axes(found)
    beside = native("torch", double, still, learning_rate=STEP)
    assert told(beside) == [{"lr": 0.2}, {"lr": 0.0}]
    assert "groups" not in axes(beside)


@pytest.mark.parametrize(("end", "lost"), [(0.0, False), (0.01, True)])
def test_a_scheduler_that_ends_at_a_rate_of_its_own_drives_no_other_group(end, lost):
    wave = {
        "kind": "cosine",
        "initial_learning_rate": 0.1,
        "end_learning_rate": end,
        "decay_steps": 10,
        "periodic": True,
    }
    parts = [{"kind": "constant", "learning_rate": 0.1}, wave]
    for schedule in (wave, {"kind": "sequence", "schedules": parts, "boundaries": [5]}):
        found = native("torch", {"match": "a", "learning_rate_factor": 2}, learning_rate=schedule)
        assert found.scheduler is not None
        assert told(found) == [{} if lost else {"lr": 0.2}]
        assert ("groups" in axes(found)) is lost
        same = native("torch", {"match": "a", "learning_rate_factor": 1, "rho": 0.5}, learning_rate=schedule)
        assert "groups" not in axes(same)


def test_none_and_0_are_written_so_that_they_mean_what_they_say():
    found = native("paddle", {"match": "a", "weight_decay": 0, "clip": []}, weight_decay=0.1, clip=JOINT)
    assert told(found) == [{"weight_decay": 0.0, "grad_clip": None}]
    refused = native("mindspore-experimental", {"match": "a", "epsilon": 0, "learning_rate": 0})
    assert told(refused) == [{"lr": SMALLEST, "eps": SMALLEST}]
    assert refused.meaning.groups[0].overrides() == {"learning_rate": SMALLEST, "epsilon": SMALLEST}


def test_a_clip_that_the_class_has_no_object_for_is_lost():
    found = native("paddle", {"match": "a", "clip": [JOINT, JOINT]})
    assert told(found) == [{"grad_clip": None}]
    assert axes(found) == ["groups"]


@pytest.mark.parametrize("over", ["all", "group"])
@pytest.mark.parametrize(
    ("own", "exact"),
    [
        ([{"match": "a", "rho": 0.5}], {"group"}),
        ([{"match": "a", "rho": 0.5}, {"match": "b", "rho": 0.75}], {"group"}),
        ([{"match": "a"}], {"all"}),  # it is told nothing, and is one with the others
        ([{"match": "a", "rho": 0.5}, {"match": "b", "rho": 0.5}], set()),  # so are these two
        ([{"match": "a", "clip": JOINT}], {"all", "group"}),
        ([{"match": "a", "clip": JOINT}, {"match": "b", "clip": [{**JOINT, "over": "group"}]}], {"all", "group"}),
    ],
)
def test_a_class_that_clips_each_group_apart_means_so(own, exact, over):
    found = native("paddle", *own, clip={**JOINT, "over": over})
    assert axes(found) == ([] if over in exact else ["clip"])


@given(own=some_groups, rate=st.sampled_from([0.01, STEP]))
@pytest.mark.parametrize("dialect", ALL)
def test_what_a_class_is_told_means_what_the_verdict_says(dialect, own, rate):
    """Each group, read as one of an optimizer of the class, is that of the meaning; the rate within two roundings."""
    found = native(dialect, *own, learning_rate=rate, clip=JOINT)
    if "groups" not in axes(found):  # what it is not told holds anyway
        same = {"learning_rate": rate, "clip": found.wanted.clip}
        if rate is STEP and any(group.learning_rate is not None for group in found.meaning.groups):
            del same["learning_rate"]  # a group without parameters has one, where the others follow the schedule
        assert simplest(found.meaning.replace(**same)).groups == simplest(found.wanted).groups
    for group, meant in zip(found.groups, found.meaning.groups, strict=bool(found.groups)):
        schedules = {"lr"} if isinstance(group.settings.get("lr"), NativeCall) else set()
        plain = {key: value for key, value in group.settings.items() if key not in schedules}
        read, factor = groups.read(ALL[dialect], found.kwargs, plain)
        whole = found.meaning.replace(groups=()).for_group(meant)
        for field in meant.overrides().keys() - {"learning_rate"}:
            assert getattr(read, field) == getattr(whole, field)
        if factor is not None:
            assert factor == meant.learning_rate_factor
        elif found.scheduler is None and plain.keys() & {"lr"} and rate != STEP:
            assert read.learning_rate == pytest.approx(whole.learning_rate, rel=2**-51)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_the_kind_of_decay_is_what_the_groups_say_where_only_they_decay(decay):
    group = ParameterGroup(match="a*", weight_decay=0.25)
    native = RMSPropConfig(weight_decay=decay, weight_decay_mode="l1", groups=[group]).to_native("paddle")
    assert native.differences == ()
    assert native.meaning.weight_decay_mode == "l1"


def test_native_groups_are_in_the_json_and_below_the_table_and_explained(tmp_path):
    path = tmp_path / "c.yaml"
    config({"match": "head*", "learning_rate": 0.05, "rho": 0.5}, {"match": "x"}).save(path)
    run = CliRunner().invoke(app, ["translate", str(path), "--to", "torch", "--json"])
    assert json.loads(run.stdout)["groups"] == [
        {"match": ["head*"], "settings": {"lr": 0.05, "alpha": 0.5}},
        {"match": ["x"], "settings": {}},
    ]
    run = CliRunner().invoke(app, ["translate", str(path), "--to", "mindspore"])
    rows = [line.split() for line in run.stdout.splitlines()]
    assert ["head*", "learning_rate", "0.05,", "rho", "0.5", "lr=0.05"] in rows
    assert ["x", "–", "–"] in rows
    assert not any("ParameterGroup" in line for line in run.stdout.splitlines())
    text = explain(native("torch", {"match": "head*", "rho": 0.5}, {"match": "x"}))
    assert "  - parameters named head*: alpha=0.5\n  - parameters named x: nothing of their own" in text
    assert "Its parameter groups" not in explain(native("torch"))
    translation = unirms.translate({"lr": 0.1}, source="torch", target="keras")
    assert translation.groups == ()


def test_a_snippet_says_what_of_the_groups_it_does_not_say():
    own = {"match": "a", "rho": 0.5, "learning_rate_factor": 2}
    code = native("mindspore", own).code()
    assert "# The groups of the class cannot say what those of the config do: rho.\n" in code
    assert '# unirms.build(config, "mindspore", model) follows them.\n' in code
    code = native("keras", own).code()
    assert "# The class has no parameter groups: those of the config are not said here.\n" in code
    assert '# unirms.build(config, "keras", model) follows them.\n' in code
    assert "unirms.build follows them in the frameworks" in native("mlx", own).code()
    for dialect in ALL:
        assert "groups" not in native(dialect, {"match": "a"}).code()
        assert "unirms" not in native(dialect, {"match": "a"}).code()


def test_a_snippet_with_groups_has_no_line_more_than_needed():
    own = {"match": "a", "weight_decay": 0.1}
    assert "exempt" not in native("torch", own, no_weight_decay="b").code()
    assert "exempt" in native("torch", own, no_weight_decay="b", weight_decay=0.2).code()


def test_the_state_is_filled_in_for_what_any_group_keeps():
    seeded = {"initial_mean_square": 0.5, "momentum": 0.0}
    code = native("torch", {"match": "a", "momentum": 0.5}, {"match": "b", "centered": True}, **seeded).code()
    assert "momentum_buffer" in code
    assert "grad_avg" in code
    assert "momentum_buffer" not in native("torch", {"match": "a", "rho": 0.5}, **seeded).code()


def test_a_snippet_asks_for_the_groups_in_their_order():
    first = {"match": "head.scale"}
    code = native("torch", first, {"match": "head*", "rho": 0.5}, {"match": "tail"}).code()
    space = {}
    exec(code[code.index("def settings") : code.index("\n\n\n", code.index("def settings"))], space)
    answers = {name: space["settings"](name) for name in ("head.scale", "head.bias", "tail", "body")}
    assert answers == {"head.scale": {}, "head.bias": {"alpha": 0.5}, "tail": {}, "body": {}}


def test_the_decay_of_a_group_goes_before_the_names_without_decay():
    spared = {"weight_decay": 0.1, "weight_decay_mode": "l2", "no_weight_decay": "*bias"}
    groups_ = ({"match": "head*", "weight_decay": 0.2}, {"match": "tail*", "rho": 0.5})
    found = native("torch", *groups_, **spared)
    code = found.code()
    space = {}
    exec(code[code.index("def exempt") : code.index("\n\n\ngroups")], space)
    for name in ("head.bias", "head.weight", "tail.bias", "tail.weight", "bias", "weight"):
        decay = space["settings"](name).get("weight_decay", 0.1)
        assert decay == found.wanted.for_parameter(name).weight_decay


def test_groups_of_a_class_are_read_by_its_keys():
    read = groups.read
    assert read(ALL["paddle"], {"learning_rate": 0.1}, {"learning_rate": 0.5, "rho": 0.5}) == (
        RMSPropConfig.from_native("paddle", learning_rate=0.1, rho=0.5),
        0.5,
    )
    assert read(ALL["mindspore"], {"learning_rate": 0.5}, {"lr": 0.25}) == (
        RMSPropConfig.from_native("mindspore", learning_rate=0.25),
        None,
    )
    with pytest.raises(ConfigError, match="is not an argument"):
        read(ALL["torch"], {}, {"learning_rat": 0.5})


def test_a_recipe_with_factors_becomes_a_config_with_factors():
    recipe = Recipe(
        "test",
        "paddle.optimizer.RMSProp",
        {"learning_rate": 0.1, "weight_decay": 0.01},
        groups=(
            Group(("a", "b[0]"), {"learning_rate": 0.5, "momentum": 0.9}),
            Group(("c",), {"learning_rate": 1.0, "weight_decay": 0.0}),
            Group(("d",), {"learning_rate": 1.0}),
        ),
    )
    found = recipe.config()
    assert found.groups == (ParameterGroup(match=("a", "b[[]0]"), learning_rate_factor=0.5, momentum=0.9),)
    assert found.no_weight_decay == ("c",)
    assert told(found.to_native("paddle")) == [{"learning_rate": 0.5, "momentum": 0.9}]


def test_a_recipe_whose_groups_have_no_names_is_refused():
    for own in ({"lr": 0.2}, {"weight_decay": 0.0}):
        recipe = Recipe("test", "torch.optim.RMSprop", {"weight_decay": 0.1}, groups=(Group((), own),))
        with pytest.raises(ConfigError, match="does not say which parameters it holds"):
            recipe.config()


def test_param_groups_with_names_become_groups_and_back_again():
    wanted = RMSPropConfig.from_native("torch", weight_decay=0.1).replace(
        no_weight_decay=("norm",),
        groups=[{"match": "head[[]0]", "learning_rate": 0.5, "rho": 0.5, "weight_decay": 0.2}],
    )
    base = wanted.to_native("torch").kwargs
    stated = [
        {**base, "weight_decay": 0.0, "param_names": ["norm"]},
        {**base, "param_names": ["body"]},
        {**base, **told(wanted.to_native("torch"))[0], "param_names": ["head[0]"]},
    ]
    for data in (stated, {"optimizer": {"state": {}, "param_groups": stated}}):
        (recipe,) = recipes.read_text(json.dumps(data))
        assert recipe.config() == wanted
    for names in ("norm", "body", "head[0]"):
        assert wanted.for_parameter(names).weight_decay == {"norm": 0.0, "body": 0.1, "head[0]": 0.2}[names]


def test_the_first_group_says_what_holds_for_all_unless_it_is_spared():
    base = {"alpha": 0.9, "eps": 1e-8, "momentum": 0.5}
    data = [
        {**base, "lr": 0.1, "weight_decay": 0.0, "param_names": ["a"]},
        {**base, "lr": 0.2, "weight_decay": 0.3, "param_names": ["b"]},
    ]
    (recipe,) = recipes.read_text(json.dumps(data))
    assert recipe.config().learning_rate == 0.1
    assert recipe.config().groups == (ParameterGroup(match="b", learning_rate=0.2, weight_decay=0.3),)


def test_formats_without_groups_refuse_them_by_name():
    own = {"match": ["head*", "tail"], "rho": 0.5}
    for name, format in recipes.all_formats().items():
        if format.write is None or name == "unirms":
            continue
        dialect = next((d for d in format.dialects if d in GROUPED), None) or "torch"
        if format.dialects and dialect not in format.dialects:
            continue  # its class has none
        with pytest.raises(ConfigError, match=rf"{name} cannot say parameter groups \(groups of head\* or tail\)"):
            recipes.write(native(dialect, own), name)
    (recipe,) = recipes.read_text(recipes.write(native("torch", own, weight_decay_mode="l2"), "unirms"))
    assert recipe.config().groups == (ParameterGroup(**own),)


def test_a_group_is_refused_what_no_config_may_have():
    with pytest.raises(ConfigError, match="bias_correction=True divides by 1 - rho"):
        config({"match": "a", "rho": 1}, bias_correction=True)


def test_a_group_shows_what_it_says_alone():
    assert repr(ParameterGroup(match="a", rho=0.5)) == "ParameterGroup(match=('a',), rho=0.5)"
