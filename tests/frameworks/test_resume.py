"""A training that is left half done and goes on in the same framework: live, and through the framework's own file."""

from dataclasses import replace

import numpy as np
import pytest

from unirms.conformance import resuming
from unirms.conformance.resumptions import SETTINGS, Resumption, leavings, live

OUTSIDE, *_ = SETTINGS


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


def test_a_training_goes_on_live(framework, driver, tmp_path):
    usual = next(iter(driver.modes))
    there = left(framework, driver, tmp_path, lambda one: (one.setting, one.mode) == (OUTSIDE, usual))
    assert {one.dtype for one in there} == {"float32", "float64"}
    assert problems(driver, live(there)) == []


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
    usual = next(iter(driver.modes))
    there = left(
        framework, driver, tmp_path, lambda one: (one.setting, one.mode, one.dtype) == (OUTSIDE, usual, "float32")
    )
    assert problems(driver, through_own_file(there)) == []


class Defective:
    """A driver whose runs get another state than the one that is carried to them."""

    def __init__(self, driver, defect):
        self.driver, self.defect = driver, defect

    def start(self, make, params, dtype, mode):
        run = self.driver.start(make, params, dtype, mode)
        resume = run.resume
        run.resume = lambda state: resume(self.defect(state))
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
    usual = next(iter(driver.modes))
    there = left(
        framework, driver, tmp_path, lambda one: (one.setting, one.mode, one.dtype) == (OUTSIDE, usual, "float32")
    )
    (found,) = problems(Defective(driver, defect), live(there))
    assert "ULP off" in found


@pytest.mark.slow
def test_a_training_goes_on_in_every_setting_and_mode(framework, driver, tmp_path):
    there = left(framework, driver, tmp_path, lambda one: True)
    assert {one.setting for one in there} == set(SETTINGS)
    assert {one.mode for one in there} == set(driver.modes)
    assert problems(driver, live(there)) == []
    assert problems(driver, through_own_file([one for one in there if one.checkpoint])) == []
