"""A training that is left half done and goes on in the same framework: live, and through the framework's own file."""

from dataclasses import replace

import numpy as np
import pytest

import unirms
from unirms import UnrepresentableError
from unirms.conformance import resuming
from unirms.conformance.resumptions import Resumption, case, leavings, live
from unirms.conformance.settings import SETTINGS
from unirms.conformance.spelling import between, spelled, spelling
from unirms.moving import Destination, Spec, moved
from unirms.registry import FRAMEWORKS
from unirms.state import OptimizerState

OUTSIDE, INSIDE, *_ = SETTINGS
PLATEAU, COOLING = (name for name, setting in SETTINGS.items() if setting.kind == "plateau")
STOCK = [name for name, setting in SETTINGS.items() if setting.policy == "stock"]


def left(framework, driver, folder, chosen):
    """Return what the framework leaves of the chosen settings, modes and dtypes."""
    found = []
    for index, one in enumerate(leavings(framework, driver.modes)):
        if chosen(one):
            place = folder / str(index)
            place.mkdir()
            result = resuming.leave(one, driver, place)
            assert not result.problem, (one.label, result.problem)
            found.append(result.left)
    return found


def problems(driver, resumptions):
    held = {}
    found = [resuming.go_on(resumption, driver, held=held) for resumption in resumptions]
    assert found
    return [f"{result.resumption.label}: {result.problem}" for result in found if result.problem]


def usual(driver, *settings, dtypes=("float32",)):
    """Return what chooses settings in the usual mode; those that go in turn, in whichever mode they have."""
    mode = next(iter(driver.modes))
    return lambda one: (
        one.setting in settings and one.dtype in dtypes and (one.mode == mode or SETTINGS[one.setting].in_turn)
    )


def test_a_training_goes_on_live(framework, driver, tmp_path):
    there = left(framework, driver, tmp_path, usual(driver, OUTSIDE, dtypes=("float32", "float64")))
    assert {one.dtype for one in there} == {"float32", "float64"}
    assert problems(driver, live(there)) == []


def test_a_plateau_goes_on_live(framework, driver, tmp_path):
    there = left(framework, driver, tmp_path, usual(driver, PLATEAU, COOLING))
    assert len(there) == 2
    assert problems(driver, live(there)) == []


def test_the_stock_class_goes_on_live_and_from_its_own_checkpoint(framework, driver, tmp_path):
    there = left(framework, driver, tmp_path, usual(driver, *STOCK))
    assert {one.setting for one in there} == {name for name in STOCK if framework in SETTINGS[name].frameworks}
    assert problems(driver, live(there)) == []
    assert problems(driver, through_own_file(there)) == []


@pytest.mark.parametrize("name", STOCK)
def test_a_stock_class_is_asked_for_all_that_it_computes(framework, driver, name):
    def start():
        config = SETTINGS[name].config(framework)
        make = lambda params, **more: unirms.build(config, framework, params, policy="stock", **more)  # noqa: E731
        params = spelled(case(name, "float32").initial(), spelling(framework))
        return driver.start(make, params, "float32", next(iter(driver.modes)))

    if framework in SETTINGS[name].frameworks:
        assert not type(start().optimizer).__name__.startswith("Uni")
    else:
        with pytest.raises(UnrepresentableError):
            start()


def through_own_file(there):
    """Yield resumptions from the checkpoint that the framework itself has written."""
    for one in there:
        yield Resumption(
            source=one,
            target=one.framework,
            mode=one.mode,
            way="files",
            path=one.checkpoint,
            straight=one.straight,
        )


def test_a_training_goes_on_from_the_frameworks_own_checkpoint(framework, driver, tmp_path):
    there = left(framework, driver, tmp_path, usual(driver, OUTSIDE))
    assert problems(driver, through_own_file(there)) == []


def test_a_plateau_goes_on_from_the_frameworks_own_checkpoint(framework, driver, tmp_path):
    """Keras's has the rate alone."""
    there = left(framework, driver, tmp_path, usual(driver, PLATEAU, COOLING))
    found = problems(driver, through_own_file(there))
    if framework in SETTINGS[PLATEAU].written_for:
        assert found == []
    else:
        assert framework == "keras"
        assert all("ULP off" in problem for problem in found)


class Defective:
    """A driver whose runs get another state, or other names and layouts, than those that are carried to them."""

    def __init__(self, driver, defect=lambda state: state, way=lambda names, layout: (names, layout)):
        self.driver, self.defect, self.way = driver, defect, way

    def start(self, make, params, dtype, mode):
        run = self.driver.start(make, params, dtype, mode)
        resume = run.resume
        run.resume = lambda state, names, layout: resume(self.defect(state), *self.way(names, layout))
        return run


@pytest.mark.parametrize(
    "defect",
    [
        lambda state: replace(state, step=0),
        lambda state: replace(state, mean_gradient={n: np.zeros_like(a) for n, a in state.mean_gradient.items()}),
    ],
    ids=["counter at 0", "mean gradient dropped"],
)
def test_a_defect_of_the_way_shows_in_the_real_framework(framework, driver, tmp_path, defect):
    there = left(framework, driver, tmp_path, usual(driver, OUTSIDE))
    (found,) = problems(Defective(driver, defect), live(there))
    assert "ULP off" in found


@pytest.mark.parametrize(
    "defect",
    [
        lambda state: replace(state, plateau=None),
        lambda state: replace(state, plateau=replace(state.plateau, bad=0)),
        lambda state: replace(state, plateau=replace(state.plateau, best=state.plateau.best * 2)),
    ],
    ids=["begun anew", "bad metrics forgotten", "another best metric"],
)
def test_a_plateau_that_loses_its_place_shows_in_the_real_framework(framework, driver, tmp_path, defect):
    there = left(framework, driver, tmp_path, usual(driver, PLATEAU))
    (found,) = problems(Defective(driver, defect), live(there))
    assert "ULP off" in found


def come_from(elsewhere, home, path):
    """Return a resumption of what a framework has left itself, as if another one had left it in its own spelling."""
    config = SETTINGS[home.setting].config(elsewhere)
    state = OptimizerState.load(home.state)
    way = between(spelling(home.framework), spelling(elsewhere))
    tensors = {name: Spec(array.shape, home.dtype) for name, array in spelled(state.weights, way).items()}
    moved(state, Destination(config, tensors, tensors), way).save(path)
    there = home.model_copy(update={"framework": elsewhere, "state": str(path)})
    return Resumption(
        source=there, target=home.framework, mode=home.mode, way="live", path=str(path), straight=home.straight
    )


def test_a_state_comes_by_names_and_layouts_from_every_spelling(framework, driver, tmp_path):
    (home,) = left(framework, driver, tmp_path, usual(driver, OUTSIDE))
    others = [name for name in FRAMEWORKS if name != framework]
    assert problems(driver, [come_from(name, home, tmp_path / f"{name}.safetensors") for name in others]) == []


def without_a_square(names, layout):
    """Forget the layout of the square matrix."""
    square = next(name for name in layout if "mix" in name)
    return names, {name: axes for name, axes in layout.items() if name != square}


def without_layouts(names, layout):
    return names, None


def without_names(names, layout):
    return None, None


@pytest.mark.parametrize(
    ("way", "problem"),
    [(without_a_square, "ULP off"), (without_layouts, "StateError"), (without_names, "StateError")],
    ids=["square matrix", "all layouts", "names"],
)
def test_names_and_layouts_that_are_left_out_show_in_the_real_framework(framework, driver, tmp_path, way, problem):
    (home,) = left(framework, driver, tmp_path, usual(driver, OUTSIDE))
    elsewhere = "keras" if framework in {"torch", "mindspore"} else "torch"  # which has other layouts
    resumption = come_from(elsewhere, home, tmp_path / "there.safetensors")
    (found,) = problems(Defective(driver, way=way), [resumption])
    assert problem in found


@pytest.mark.slow
def test_a_training_goes_on_in_every_setting_and_mode(framework, driver, tmp_path):
    there = left(framework, driver, tmp_path, lambda one: True)
    assert {one.setting for one in there} == {name for name in SETTINGS if framework in SETTINGS[name].frameworks}
    assert {one.mode for one in there} == set(driver.modes)
    assert problems(driver, live(there)) == []
    held = [one for one in there if one.checkpoint and framework in SETTINGS[one.setting].written_for]
    assert problems(driver, through_own_file(held)) == []
