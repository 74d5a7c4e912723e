"""The whole parity report, as a user runs it."""

import json
import subprocess
import sys

import pytest

from unirms.conformance.cases import AT_LEAST
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
    assert report["plain_port"]["apart_with_unirms"] < 1e-6


@pytest.mark.slow
def test_a_wrong_training_would_be_seen():
    from unirms.conformance.report import TRAIN_LIMITS
    from unirms.conformance.results import TrainResult
    from unirms.conformance.training import CONFIGS, agreement, digits, train_in_numpy

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
