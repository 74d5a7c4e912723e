"""A training that goes on in another framework is judged: planted defects of the way there are caught, no other."""

import importlib.util
import itertools
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unirms import StateError, reference
from unirms.conformance import report as reports
from unirms.conformance import resuming
from unirms.conformance.cases import cases
from unirms.conformance.results import Done, Hello, LeftResult, ResumeResult
from unirms.conformance.resume_report import Resumed
from unirms.conformance.resumptions import (
    LEFT_AT,
    WAYS,
    Resumption,
    case,
    leavings,
    live,
    migrations,
    through_files,
)
from unirms.conformance.settings import KINDS, SETTINGS
from unirms.conformance.spelling import NETWORK, SPELLINGS, between, spelled, spelling, written
from unirms.moving import Destination, ParameterMap, Spec, moved
from unirms.moving.maps import Target, inverse
from unirms.moving.planning import rate_after
from unirms.registry import FRAMEWORKS
from unirms.schedules import Plateau
from unirms.schedules.plateau import PlateauState
from unirms.state import OptimizerState

# pytest's importlib mode knows no siblings.
_SPEC = importlib.util.spec_from_file_location("planted", Path(__file__).with_name("planted.py"))
planted = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(planted)

OUTSIDE, INSIDE, ENTERS, LEAVES, PLATEAU, COOLING, *_ = SETTINGS
STOCK = "stock, centered and clipped"
NO_EPSILON = "stock, without an epsilon"


class Run(planted.NumpyRun):
    """The reference at work, whose state can be taken and put; a defect is made of the state on its way in."""

    defect_of = staticmethod(lambda state, run: state)
    way_of = staticmethod(lambda way: way)

    def __init__(self, config, params):
        super().__init__(config, params, planted.NONE)
        rate = config.learning_rate
        self.plateau = rate if isinstance(rate, Plateau) else None
        self.place = self.plateau.begin() if self.plateau else None

    def step(self, grads, learning_rate):
        super().step(grads, self.place.rate if self.place else learning_rate)

    def measured(self, metric):
        self.place = self.plateau.after(self.place, metric)

    def snapshot(self):
        state = replace(self.memory, config=self.config, plateau=self.place, weights=dict(self.params))
        return replace(state, learning_rate=rate_after(self.config, state))

    def resume(self, state, names, layout):
        """Do as `unirms.restore` does."""
        tensors = {name: Spec(array.shape, str(array.dtype)) for name, array in self.params.items()}
        way = self.way_of(ParameterMap.of(names, layout, known=state.mean_square))
        state = self.defect_of(moved(state, Destination(self.config, tensors, tensors), way), self)
        self.params = {name: state.weights[name].copy() for name in self.params}
        copies = {slot: {n: a.copy() for n, a in arrays.items()} for slot, arrays in state.slots().items()}
        sums = {name: array.copy() for name, array in state.gradient_sum.items()}
        self.memory = OptimizerState.of(state.step, copies, sums, state.micro_step)
        self.place = state.plateau

    def save(self, folder):
        self.snapshot().save(folder / "own.safetensors")
        return folder / "own.safetensors"

    def load(self, path):
        self.resume(OptimizerState.load(path), None, None)


class Driver:
    """Starts such runs; `make` returns the config, since there is no framework."""

    def __init__(self, defect=None, way=None):
        changed = {"defect_of": defect, "way_of": way}
        self.kind = type("Run", (Run,), {name: staticmethod(f) for name, f in changed.items() if f})

    def start(self, make, params, dtype, mode):
        return self.kind(make(params), params)


def builder(config):
    return lambda params: config


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """Return what each framework has left, if all of them were NumPy."""
    found = []
    for framework in FRAMEWORKS:
        for one in leavings(framework, {"a": ("float32", "float64")}):
            result = resuming.leave(one, Driver(), tmp_path_factory.mktemp("left"), builder)
            assert not result.problem, result.problem
            found.append(result.left)
    return found


def one(left, source, target, setting, mode="a"):
    """Return a live resumption into a new run, in float32."""
    there = next(x for x in left if (x.framework, x.setting, x.mode, x.dtype) == (source, setting, mode, "float32"))
    here = next(x for x in left if (x.framework, x.setting, x.mode, x.dtype) == (target, setting, mode, "float32"))
    return Resumption(
        source=there, target=target, mode=mode, way="live", path=there.state, straight=here.straight, begun=False
    )


def gone_on(resumption, defect=None, way=None):
    return resuming.go_on(resumption, Driver(defect, way), builder)


@pytest.mark.parametrize(("setting", "dtype"), [(name, dtype) for name in SETTINGS for dtype in SETTINGS[name].dtypes])
def test_what_is_carried_right_passes_between_all_pairs(left, setting, dtype):
    held, found, able = {}, [], SETTINGS[setting].frameworks
    for resumption in live(left):
        if (resumption.source.setting, resumption.source.dtype) == (setting, dtype):
            found.append(resuming.go_on(resumption, Driver(), builder, held))
    assert {(r.resumption.source.framework, r.framework) for r in found} == set(itertools.product(able, repeat=2))
    assert {result.problem for result in found} == {""}
    # In NumPy, no way between two layouts costs a bit, but that the sums of norms are made in another order.
    assert all(result.same_bits for result in found if result.resumption.same)


def changed(**slots):
    """Return a defect that puts something else into the place of slots: slot -> f(array, name) -> array."""

    def defect(state, run):
        changes = {s: {n: f(a, n) for n, a in getattr(state, s).items()} for s, f in slots.items()}
        return replace(state, **changes)

    return defect


def placed(**fields):
    """Return a defect of where a plateau goes on."""
    return lambda state, run: replace(state, plateau=replace(state.plateau, **fields))


def fresh(state, run):
    """Return the state of an optimizer that begins here."""
    return replace(reference.init(run.config, dict(state.weights)), weights=state.weights)


def transposed(array, name):
    """Return the square matrix as it was stored at the source."""
    return array.T if array.shape == (8, 8) else array


def reshaped(array, name):
    """Return matrices whose elements were poured into the new shape in the order of the old one."""
    return array.T.reshape(array.shape) if array.ndim == 2 else array


DEFECTS = {
    "mean gradient dropped": (OUTSIDE, changed(mean_gradient=lambda a, n: np.zeros_like(a))),
    "mean square dropped": (OUTSIDE, changed(mean_square=lambda a, n: np.zeros_like(a))),
    "momentum dropped": (OUTSIDE, changed(momentum=lambda a, n: np.zeros_like(a))),
    "average begun anew": (INSIDE, lambda state, run: replace(state, average=dict(state.weights))),
    "counter at 0": (OUTSIDE, lambda state, run: replace(state, step=0)),
    "counter at 0, in the bias correction": (INSIDE, lambda state, run: replace(state, step=0)),
    "counter one too far": (OUTSIDE, lambda state, run: replace(state, step=state.step + 1)),
    "gathered gradients dropped": (INSIDE, lambda state, run: replace(state, gradient_sum={}, micro_step=0)),
    "gathered gradients counted once": (INSIDE, lambda state, run: replace(state, micro_step=1)),
    "a slot not permuted": (OUTSIDE, changed(momentum=transposed)),
    "weights not permuted": (OUTSIDE, changed(weights=transposed)),
    "reshaped for permuted": (OUTSIDE, changed(mean_square=reshaped)),
    "only the weights moved": (OUTSIDE, fresh),
    "only the state moved": (OUTSIDE, lambda state, run: replace(state, weights=run.params)),
    "one element": (
        OUTSIDE,
        changed(weights=lambda a, n: a + np.eye(*a.shape, dtype=a.dtype) * np.float32(1e-4) if a.ndim == 2 else a),
    ),
    "nothing moved": (OUTSIDE, lambda state, run: run.snapshot()),
    "plateau begun anew": (PLATEAU, lambda state, run: replace(state, plateau=run.plateau.begin())),
    "rate of the plateau forgotten": (PLATEAU, placed(rate=0.004)),
    "best metric forgotten": (PLATEAU, placed(best=math.inf)),
    "bad metrics forgotten": (PLATEAU, placed(bad=0)),
    "cooldown forgotten": (COOLING, placed(cooldown=0)),
    "cooldown one too long": (COOLING, placed(cooldown=3)),
    "rate of the plateau before": (COOLING, placed(rate=0.004 * 0.6)),
}
STOCK_DEFECTS = {
    "mean gradient dropped": (STOCK, changed(mean_gradient=lambda a, n: np.zeros_like(a))),
    "begun as the class begins": (STOCK, fresh),
    "schedule begun anew": (STOCK, lambda state, run: replace(state, step=0)),
    "momentum in the unit of the other": (NO_EPSILON, changed(momentum=lambda a, n: a / np.float32(0.003))),
    "momentum dropped": (NO_EPSILON, changed(momentum=lambda a, n: np.zeros_like(a))),
}


@pytest.mark.parametrize("name", DEFECTS)
@pytest.mark.parametrize(("source", "target"), [("torch", "keras"), ("paddle", "mindspore")])
def test_a_defect_of_the_way_is_caught(left, name, source, target):
    setting, defect = DEFECTS[name]
    assert "ULP off" in gone_on(one(left, source, target, setting), defect).problem


@pytest.mark.parametrize("name", STOCK_DEFECTS)
@pytest.mark.parametrize(("source", "target"), [("keras", "paddle"), ("paddle", "keras"), ("torch", "keras")])
def test_a_defect_between_stock_classes_is_caught(left, name, source, target):
    setting, defect = STOCK_DEFECTS[name]
    if source in SETTINGS[setting].frameworks:
        assert "ULP off" in gone_on(one(left, source, target, setting), defect).problem


def without_axes(name):
    """Return a defect that forgets a layout."""
    return lambda way: ParameterMap({n: Target(t.name, None if n == name else t.axes) for n, t in way.targets.items()})


def backwards(way):
    """Return the way with each permutation turned round."""
    return ParameterMap({n: Target(t.name, t.axes and inverse(t.axes)) for n, t in way.targets.items()})


WAYS_ASTRAY = {
    "the layout of a square matrix forgotten": (without_axes("mix.weight"), "weights are .* ULP off"),
    "the layout of a matrix forgotten": (without_axes("classifier.weight"), "StateError: .* has the shape"),
    "the layout of a kernel forgotten": (without_axes("features.0.weight"), "StateError: .* has the shape"),
    "layouts the wrong way round": (backwards, "StateError: .* has the shape"),
    "the same names taken for granted": (lambda way: ParameterMap.of(None, known=way.targets), "StateError: "),
}


@pytest.mark.parametrize("name", WAYS_ASTRAY)
def test_a_wrong_name_or_layout_is_caught(left, name):
    way, problem = WAYS_ASTRAY[name]
    assert re.match(problem, gone_on(one(left, "torch", "keras", OUTSIDE), way=way).problem)


def test_two_parameters_of_one_shape_taken_for_each_other_are_caught(left):
    def swapped(way):
        to = way.targets
        return ParameterMap({**to, "dense_bias": to["bn_beta"], "bn_beta": to["dense_bias"]})

    resumption = one(left, "keras", "paddle", STOCK)
    assert not gone_on(resumption).problem
    assert "ULP off" in gone_on(resumption, way=swapped).problem
    # Where one of them is in a group of its own, the other would compute something else.
    assert "FidelityWarning" in gone_on(one(left, "keras", "paddle", OUTSIDE), way=swapped).problem


def test_names_and_layouts_are_given_as_users_write_them():
    names, layout = written(between(spelling("torch"), spelling("keras")))
    assert names["features.0.weight"] == "conv2d_kernel"
    assert layout == {"features.0.weight": "OIHW->HWIO", "classifier.weight": (1, 0), "mix.weight": (1, 0)}
    _, back = written(between(spelling("keras"), spelling("torch")))
    assert back == {"conv2d_kernel": "HWIO->OIHW", "dense_kernel": (1, 0), "mix_kernel": (1, 0)}
    assert written(between(spelling("torch"), spelling("mindspore")))[1] == {}


def test_at_home_a_state_goes_in_without_names_and_elsewhere_with_them(left):
    class Watched(Run):
        def resume(self, state, names, layout):
            given.append((names, layout))
            super().resume(state, names, layout)

    driver, given = Driver(), []
    driver.kind = Watched
    for target in ("torch", "keras"):
        assert not resuming.go_on(one(left, "torch", target, OUTSIDE), driver, builder).problem
    assert given == [(None, None), written(between(spelling("torch"), spelling("keras")))]


@pytest.mark.parametrize(
    ("source", "target", "setting"),
    [("torch", "keras", ENTERS), ("torch", "keras", LEAVES), ("keras", "torch", NO_EPSILON)],
)
def test_a_buffer_in_the_unit_of_the_source_is_caught(left, source, target, setting):
    held = OptimizerState.load(one(left, source, target, setting).path).momentum
    way = between(spelling(source), spelling(target))
    assert not gone_on(one(left, source, target, setting)).problem
    unconverted = lambda state, run: replace(state, momentum=spelled(held, way))  # noqa: E731
    assert "ULP off" in gone_on(one(left, source, target, setting), unconverted).problem


@pytest.mark.parametrize("setting", [ENTERS, LEAVES])
def test_a_unit_that_forgets_the_rate_of_a_group_is_caught(left, setting):
    factor = 2.0 if setting == ENTERS else 0.5
    defect = changed(momentum=lambda a, n: a / np.float32(factor) if "bias" in n else a)
    assert "ULP off" in gone_on(one(left, "mindspore", "paddle", setting), defect).problem


def test_a_bit_that_differs_is_caught_where_a_training_comes_home(left):
    home = one(left, "torch", "torch", OUTSIDE)
    assert gone_on(home).same_bits
    nudged = changed(weights=lambda a, n: np.nextafter(a, np.float32(9)) if n == "scale" else a)
    found = gone_on(home, nudged)
    assert not found.same_bits
    assert found.problem == "the weights are not bit for bit those of a run without a break"
    assert not gone_on(one(left, "torch", "mindspore", OUTSIDE), nudged).problem


def test_a_defect_in_a_run_that_has_begun_is_caught(left):
    """What a resumption forgets to overwrite is left from the training before."""
    forgets = lambda state, run: replace(state, momentum=run.memory.momentum)  # noqa: E731
    begun = one(left, "torch", "torch", OUTSIDE).model_copy(update={"begun": True})
    assert not gone_on(begun).problem
    assert "ULP off" in gone_on(begun, forgets).problem
    held = {}
    for _ in range(2):  # the second takes over the run of the first
        assert "ULP off" in resuming.go_on(begun, Driver(forgets), builder, held).problem


def test_a_state_that_does_not_arrive_is_a_finding(left):
    def refuses(state, run):
        raise StateError(["first reason", "second reason"])

    resumption = one(left, "torch", "keras", OUTSIDE)
    assert gone_on(resumption, refuses).problem == "StateError: first reason; second reason"
    lost = resumption.model_copy(update={"path": resumption.path + ".gone"})
    assert "CheckpointError" in gone_on(lost).problem


def test_a_training_that_cannot_be_left_is_a_finding(tmp_path):
    class Broken(Run):
        def save(self, folder):
            raise OSError("disk full\nand more")

    driver = Driver()
    driver.kind = Broken
    wanted = leavings("torch", {"a": ("float32",)})[0]
    assert resuming.leave(wanted, driver, tmp_path, builder).problem == "OSError: disk full"


def rewritten(resumption, path, **changes):
    """Return a resumption from a state that has been changed."""
    replace(OptimizerState.load(resumption.path), **changes).save(path)
    return resumption.model_copy(update={"path": str(path)})


def test_nothing_is_rounded_and_no_other_optimizer_goes_on_unnoticed(left, tmp_path):
    resumption = one(left, "torch", "keras", OUTSIDE)
    state = OptimizerState.load(resumption.path)
    other = rewritten(resumption, tmp_path / "other.safetensors", config=state.config.replace(nesterov=True))
    assert re.match("FidelityWarning: .*nesterov", gone_on(other).problem)
    thirds = {name: array.astype(np.float64) / 3 for name, array in state.weights.items()}
    wide = rewritten(resumption, tmp_path / "wide.safetensors", weights=thirds)
    assert re.match("PrecisionWarning: rounded to float32", gone_on(wide).problem)


@pytest.mark.parametrize(("source", "setting"), [("torch", ENTERS), ("torch", LEAVES), ("torch", NO_EPSILON)])
def test_where_a_unit_changes_nothing_else_may(left, tmp_path, source, setting):
    resumption = one(left, source, "keras", setting)
    assert not gone_on(resumption).problem
    config = OptimizerState.load(resumption.path).config
    for field, value in {"epsilon": 0.25, "nesterov": True, "rho": 0.5}.items():
        other = rewritten(resumption, tmp_path / f"{field}.safetensors", config=config.replace(**{field: value}))
        assert re.match(f"FidelityWarning: .*{field}", gone_on(other).problem)


@pytest.mark.parametrize("setting", [OUTSIDE, INSIDE, PLATEAU, COOLING, STOCK])
def test_through_a_file_it_is_judged_the_same(left, setting, tmp_path):
    resumption = one(left, "paddle", "keras", setting)
    run = Run(SETTINGS[setting].config("keras"), spelled(case(setting, "float32").initial(), spelling("keras")))
    resuming.take_over(resumption, run)
    run.snapshot().save(tmp_path / "moved.safetensors")
    through = resumption.model_copy(update={"way": "files", "path": str(tmp_path / "moved.safetensors")})
    assert not gone_on(through).problem
    state = run.snapshot()
    wrong = {"plateau": replace(state.plateau, rate=0.004)} if state.plateau else {"step": 0}
    assert "ULP off" in gone_on(rewritten(through, tmp_path / "wrong.safetensors", **wrong)).problem


def test_the_settings_have_everything_on():
    for name, setting in SETTINGS.items():
        config = setting.config(setting.frameworks[0])
        assert config.momentum > 0
        if setting.kind != "stock":
            assert config.centered
            assert config.clip
            assert config.groups
            assert setting.frameworks == tuple(FRAMEWORKS)
        if setting.kind == "exact":
            assert not config.has_constant_rate
            assert config.learning_rate_at(LEFT_AT - 1) != config.learning_rate_at(0)
        assert (setting.kind == "plateau") == isinstance(config.learning_rate, Plateau), name
    assert {setting.kind for setting in SETTINGS.values()} == set(KINDS)
    units = [
        (SETTINGS[name].config("").lr_in_momentum, SETTINGS[name].config("").epsilon_placement) for name in SETTINGS
    ]
    assert {(False, "outside_sqrt"), (True, "inside_sqrt")} <= set(units)


def test_a_plateau_is_left_where_every_count_says_something(left):
    about, cooling = (
        OptimizerState.load(one(left, "torch", "torch", name).path).plateau for name in (PLATEAU, COOLING)
    )
    assert about == PlateauState(0.002, 0.78, bad=2)
    assert cooling == PlateauState(0.004 * 0.6 * 0.6, 0.4, cooldown=2)
    for name in (PLATEAU, COOLING):
        plateau, told = SETTINGS[name].config("").learning_rate, SETTINGS[name].metrics
        rates = plateau.rates(told[step] for step in sorted(told))
        half = sum(step <= LEFT_AT for step in told)
        assert plateau.initial > rates[half - 1] > rates[-1]


def test_the_state_is_left_in_the_middle_of_a_sum(left):
    state = OptimizerState.load(one(left, "torch", "torch", INSIDE).path)
    assert state.micro_step == 2
    assert state.gradient_sum


def test_no_two_frameworks_spell_alike():
    for one_, other in itertools.combinations(FRAMEWORKS, 2):
        names = [{target.name for target in SPELLINGS[name].values()} for name in (one_, other)]
        assert len(names[0] & names[1]) <= 1
        assert len(names[0]) == len(NETWORK)
    assert SPELLINGS.keys() == FRAMEWORKS.keys()
    arrays = case(OUTSIDE, "float32").initial()
    for source, target in itertools.product(FRAMEWORKS, repeat=2):
        there = spelled(spelled(arrays, spelling(source)), between(spelling(source), spelling(target)))
        expected = spelled(arrays, spelling(target))
        assert there.keys() == expected.keys()
        assert all(np.array_equal(there[name], expected[name]) for name in there)


def test_no_two_frameworks_have_their_parameters_in_one_order():
    orders = {tuple(spelling(name).targets) for name in FRAMEWORKS}
    assert len(orders) == len(FRAMEWORKS)
    for name in FRAMEWORKS:
        params = spelled(case(OUTSIDE, "float32").initial(), spelling(name))
        assert list(params) == [target.name for target in SPELLINGS[name].values()]
        assert list(spelled({"more": np.zeros(1), **params}, spelling(name).inverse()))[-1] == "more"


def test_the_way_between_two_layouts_goes_through_the_networks_own():
    here = ParameterMap.of({"w": "here"}, {"w": "OIHW->HWIO"})
    there = ParameterMap.of({"w": "there"}, {"w": "OIHW->IHOW"})
    arrays = {"w": np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)}
    found = spelled(spelled(arrays, here), between(here, there))["there"]
    np.testing.assert_array_equal(found, arrays["w"].transpose(1, 2, 0, 3))


MODES = {"torch": ("foreach", "single"), "keras": ("eager", "function", "xla"), "mindspore": ("pynative", "graph")}
MODES["paddle"] = ("dynamic", "static")
LEFT = [
    each.model_copy(update={"state": f"{i}", "checkpoint": f"{i}", "straight": f"{i}"})
    for name, modes in MODES.items()
    for i, each in enumerate(leavings(name, dict.fromkeys(modes, ("float32", "float64", "float16"))))
]
MIGRATED = dict.fromkeys(migrations(LEFT), "")
PLANNED = [*live(LEFT), *through_files(MIGRATED)]


PAIRS = list(itertools.product(FRAMEWORKS, repeat=2))


def planned_between(source, target, way):
    return [p for p in PLANNED if (p.source.framework, p.target, p.way) == (source, target, way)]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_every_pair_goes_live_in_every_setting_and_mode(source, target):
    found = planned_between(source, target, "live")
    both = {name for name, one in SETTINGS.items() if {source, target} <= set(one.frameworks)}
    assert {p.source.setting for p in found} == both
    assert {"exact", "plateau"} <= {SETTINGS[name].kind for name in both}
    exact = [p for p in found if SETTINGS[p.source.setting].kind == "exact" and p.source.dtype == "float32"]
    assert {p.mode for p in exact} == set(MODES[target])
    assert {p.source.mode for p in exact} == set(MODES[source])
    plateaus = {p.mode for p in found if SETTINGS[p.source.setting].kind == "plateau"}
    assert len(plateaus) == 2
    assert {p.source.dtype for p in found} == {"float32", "float64"}
    if source == target:  # bit for bit
        assert {p.mode for p in found if p.same} == set(MODES[source])
        assert {p.mode for p in found if SETTINGS[p.source.setting].policy == "stock"} == set(MODES[source])


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_every_pair_goes_through_files_in_every_kind_of_setting_that_files_hold(source, target):
    found = planned_between(source, target, "files")
    able = {name for name, one in SETTINGS.items() if one.through_files(source, target)}
    assert {SETTINGS[p.source.setting].kind for p in found} == {SETTINGS[name].kind for name in able}
    assert {p.source.setting for p in found} <= able
    assert {p.source.dtype for p in found} == {"float32"}
    if source == target:
        assert len({(p.source.setting, p.mode) for p in found}) == len(found)
        assert all(p.same for p in found)


def test_through_files_each_side_meets_every_setting_and_every_mode():
    found = [p for p in PLANNED if p.way == "files"]
    exact = {name for name, one in SETTINGS.items() if one.kind == "exact" and one.read_from}
    assert exact == {OUTSIDE, INSIDE}
    for framework in FRAMEWORKS:
        into = {(p.source.setting, p.mode) for p in found if p.target == framework}
        out_of = {(p.source.setting, p.source.mode) for p in found if p.source.framework == framework}
        for of_one in (into, out_of):
            assert exact <= {setting for setting, _ in of_one}
        assert {mode for _, mode in into} == set(MODES[framework])
        if len(MODES[framework]) == 2:
            assert {pair for pair in into if pair[0] in exact} == set(itertools.product(exact, MODES[framework]))
    assert {p.source.setting for p in found} == {name for name, one in SETTINGS.items() if one.read_from}
    stock = {(p.source.framework, p.target) for p in found if SETTINGS[p.source.setting].policy == "stock"}
    assert {(name, name) for name in FRAMEWORKS} | {("keras", "paddle"), ("paddle", "keras")} == stock


def test_every_pair_meets_new_runs_and_runs_that_have_begun():
    for source, target in itertools.product(FRAMEWORKS, repeat=2):
        found = [p for p in PLANNED if (p.source.framework, p.target, p.way) == (source, target, "live")]
        assert {p.begun for p in found} == {False, True}
    assert len({p.label for p in PLANNED}) == len(PLANNED)
    assert not [p for p in PLANNED if p.begun and p.way == "files"]


def test_the_plan_of_other_modes_and_frameworks():
    some = [each for each in LEFT if each.framework in {"torch", "paddle"}]
    assert {(p.source.framework, p.target) for p in live(some)} == set(itertools.product(["torch", "paddle"], repeat=2))
    assert list(live([])) == []
    # Where one has no float64, the others still have theirs.
    single = [each for each in LEFT if each.dtype == "float32" or each.framework != "mindspore"]
    assert ("mindspore", "float64") not in {(p.target, p.source.dtype) for p in live(single)}


def result(planned, problem="", ulp=1.0):
    return ResumeResult(
        framework=planned.target, resumption=planned, weights_ulp=ulp, state_ulp=0.5, same_bits=True, problem=problem
    )


@pytest.fixture
def report():
    """Return a report in which all went well."""
    made = reports.Report(list(FRAMEWORKS), with_cases=False)
    made.resumed = Resumed(list(FRAMEWORKS), planned=PLANNED)
    for name in FRAMEWORKS:
        count = sum(each.framework == name for each in LEFT) + sum(each.target == name for each in PLANNED)
        made.add(Hello(framework=name, versions={}, python="3.11", cases=count))
    for each in LEFT:
        made.add(LeftResult(framework=each.framework, left=each))
    for planned in PLANNED:
        made.add(result(planned))
    return made


def test_a_report_in_which_all_went_on_has_no_problems(report):
    assert report.problems() == []
    data = json.loads(report.as_json())
    assert data["passed"]
    assert len(data["resume"]["pairs"]) == 16
    assert all(pair[way]["runs"] == pair[way]["passed"] > 0 for pair in data["resume"]["pairs"] for way in WAYS)
    assert len(data["resume"]["runs"]) == len(PLANNED)


def test_a_result_beyond_the_limit_fails_the_report(report):
    report.resumed.results[0] = result(PLANNED[0], "weights are 99 ULP off (limit 32)", float("inf"))
    assert report.problems() == [f"{PLANNED[0].label}: weights are 99 ULP off (limit 32)"]
    assert '"weights_ulp": "inf"' in report.as_json()


def test_a_result_that_did_not_come_fails_the_report(report):
    lost = report.resumed.results.pop()
    name, count = lost.framework, report.promised[lost.framework]
    assert report.problems() == [
        f"{name}: {count - 1} of {count} results came",
        f"{lost.resumption.label}: did not run",
    ]


def test_a_training_that_nobody_left_fails_the_report(report):
    lost = report.resumed.left.pop()
    count = report.promised[lost.framework]
    assert report.problems() == [f"{lost.framework}: {count - 1} of {count} results came"]


def test_a_pair_that_was_never_planned_fails_the_report(report):
    gone = [r for r in report.resumed.results if r.framework == "keras" and r.resumption.source.framework == "paddle"]
    report.resumed.results = [r for r in report.resumed.results if r not in gone]
    report.resumed.planned = [p for p in PLANNED if p not in [r.resumption for r in gone]]
    report.promised["keras"] -= len(gone)
    assert report.problems() == ["paddle -> keras, live: did not run", "paddle -> keras, files: did not run"]


def test_a_training_that_was_not_left_or_not_migrated_fails_the_report(report):
    report.resumed.left[0] = LeftResult(framework="torch", left=LEFT[0], problem="StateError: no")
    report.resumed.not_migrated.append("torch -> keras: CheckpointError: no")
    assert report.problems() == [f"{LEFT[0].label}: could not be left: StateError: no", report.resumed.not_migrated[0]]
    assert LEFT[0] not in report.resumed.there


def test_results_travel_as_data():
    sent = result(PLANNED[0], "far off", float("inf"))
    assert ResumeResult.model_validate_json(sent.model_dump_json()) == sent


@pytest.fixture
def parity(tmp_path):
    """Return a function that runs the command with a "framework" that prints these lines, whatever it is asked."""

    def run(lines, *arguments):
        path = tmp_path / "python"
        path.write_text(
            f"#!{sys.executable}\nimport sys\nsys.stdin.read()\n" + "".join(f"print({x!r})\n" for x in lines)
        )
        path.chmod(0o755)
        given = ["--frameworks", "torch", "--python", f"torch={path}", *arguments]
        command = [sys.executable, "-m", "unirms.cli", "parity", *given]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    return run


HELLO = Hello(framework="torch", versions={"torch": "9.9"}, python="3.11").model_dump_json()
DONE = Done(framework="torch").model_dump_json()


def test_the_command_fails_where_nothing_is_left(parity):
    done = parity([HELLO, DONE], "--resume", "--cases", "none")
    assert done.returncode == 1
    assert "FAILED torch -> torch, live: did not run" in done.stdout
    assert "FAILED torch -> torch, files: did not run" in done.stdout
    assert "no case ran" not in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_the_command_fails_where_a_file_cannot_be_migrated(parity, tmp_path):
    wanted = leavings("torch", {"a": ("float32",)})[0]
    gone = str(tmp_path / "gone.pt")
    there = wanted.model_copy(update={"state": gone, "checkpoint": gone, "fresh": gone, "straight": gone})
    message = LeftResult(framework="torch", left=there).model_dump_json()
    done = parity([HELLO, message, DONE], "--resume", "--cases", "none")
    assert done.returncode == 1
    assert "torch/a -> torch/a, float32, files, rate outside, epsilon outside: CheckpointError" in done.stdout
    assert "torch/a -> torch/a, float32, live, rate outside, epsilon outside: did not run" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_without_cases_nothing_else_is_missed(parity):
    done = parity([HELLO, DONE], "--cases", "none")
    assert done.returncode == 0, done.stdout
    assert "PASSED" in done.stdout
    assert not [case for case in cases({"none": ("float32",)}) if "none" in case.id.partition("/")[2]]


@pytest.mark.slow
def test_every_pair_goes_on_live_and_through_files(tmp_path):
    file = tmp_path / "report.json"
    command = [sys.executable, "-m", "unirms.cli", "parity", "--resume", "--cases", "none", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    found = json.loads(file.read_text(encoding="utf-8"))
    pairs = {(pair["source"], pair["target"]): pair for pair in found["resume"]["pairs"]}
    assert pairs.keys() == set(itertools.product(FRAMEWORKS, repeat=2))
    assert all(pair[way]["passed"] == pair[way]["runs"] > 0 for pair in pairs.values() for way in WAYS)
    assert found["cases"] == []
