"""The whole parity report, as a user runs it."""

import json
import subprocess
import sys

import pytest

from unirms.conformance.cases import AT_LEAST
from unirms.conformance.report import PORT_LIMIT, TRAIN_LIMITS, Report
from unirms.conformance.results import CaseResult, Failure, Hello, PortResult, TrainResult
from unirms.conformance.training import CONFIGS, Digits, agreement, digits, train_in_numpy
from unirms.registry import FRAMEWORKS


@pytest.mark.slow
def test_the_report_passes_in_all_four_frameworks(tmp_path):
    file = tmp_path / "report.json"
    command = [sys.executable, "-m", "unirms.cli", "parity", "--train", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    report = json.loads(file.read_text(encoding="utf-8"))
    assert report["passed"]
    for name in FRAMEWORKS:
        cases = [case for case in report["cases"] if case["framework"] == name]
        assert len(cases) >= AT_LEAST
        assert all(case["weights_ulp"] <= 32 for case in cases if case["dtype"] in {"float32", "float64"})
    # Why the project exists: plain ports end elsewhere, unirms's optimizers do not.
    apart = {frozenset(pair["frameworks"]): pair["relative"] for pair in report["plain_port"]["apart"]}
    assert apart[frozenset({"torch", "keras"})] > 0.1
    assert report["plain_port"]["apart_with_unirms"] <= PORT_LIMIT


def test_optimizers_of_unirms_that_end_apart_fail_the_report():
    report = Report(["torch", "paddle"], with_cases=False)
    for name, end in (("torch", 0.5), ("paddle", 0.5 + 1e-6)):
        report.add(Hello(framework=name, versions={}, python="3.11", cases=0))
        report.add(PortResult(framework=name, target="", movement=[0.1], exact_movement=[end]))
    assert [problem[:25] for problem in report.problems()] == ["unirms's optimizers end 2"]


def test_results_and_trainings_that_did_not_come_fail_the_report():
    report = Report(["torch", "paddle"], Digits(images=[], labels=[], batches=[]), with_cases=False)
    report.add(Hello(framework="torch", versions={}, python="3.11", cases=2))
    report.add(Failure(framework="paddle", reason="gone"))
    report.add(CaseResult(framework="torch", id="a", mode="foreach", dtype="float32"))
    for config in [*CONFIGS][1:]:
        report.add(TrainResult(framework="torch", config=config, built="", losses=[], weights={}))
    assert report.problems() == [
        "paddle: gone",
        "torch: 1 of 2 results came",
        f"torch training, {next(iter(CONFIGS))}: did not run",
    ]


@pytest.mark.slow
def test_a_wrong_training_would_be_seen():
    batches = digits().arrays()
    right = train_in_numpy(CONFIGS["centered Keras"], batches)
    wrong = train_in_numpy(CONFIGS["centered Keras"].replace(epsilon_placement="outside_sqrt"), batches)
    found = agreement(
        TrainResult(
            framework="torch",
            config="centered Keras",
            built="",
            losses=wrong.losses,
            weights={name: value.ravel().tolist() for name, value in wrong.weights.items()},
        ),
        right,
    )
    assert found.weights > 10 * TRAIN_LIMITS.weights
