"""The command line: every error is one line and an exit code, never a traceback."""

import subprocess
import sys

import pytest

from unirms import __version__, dialects


def unirms(*arguments, columns="200"):
    command = [sys.executable, "-m", "unirms.cli", *arguments]
    environment = {"PATH": "", "COLUMNS": columns, "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["parity", "--frameworks", "jaxx"],
            "unirms: 'jaxx' is not a framework that unirms builds optimizers for; they are",
        ),
        (["parity", "--frameworks", "tourch"], "did you mean torch?"),
        (["parity", "--python", "torch"], "unirms: --python torch is not allowed; write --python NAME=INTERPRETER"),
        (["parity", "--python", "nope=python"], "unirms: 'nope' is not a framework"),
        (["parity", "--json", "no/such/folder/x.json"], "unirms: --json no/such/folder/x.json: there is no folder"),
        (["doctor", "--frameworks", "nope"], "unirms: 'nope' is not a framework"),
        (["dialects", "nope"], "unirms: 'nope' is not a dialect that unirms knows"),
        (
            ["translate", "--from", "torch", "--to", "keras", "l\x1b[2J\nr=3"],
            r"unirms: l\x1b[2J\nr=3 is not an argument",
        ),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(arguments, message):
    done = unirms(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("arguments", [["nope"], ["parity", "--nope"], ["parity", "--hang-after", "soon"]])
def test_bad_usage_is_explained(arguments):
    done = unirms(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Error" in done.stderr or "error" in done.stderr


@pytest.mark.parametrize("command", ["parity", "doctor", "dialects"])
def test_help_has_examples(command):
    done = unirms(command, "--help")
    assert done.returncode == 0
    assert "Examples:" in done.stdout
    assert f"unirms {command}" in done.stdout


def test_version():
    done = unirms("--version")
    assert done.stdout.strip() == f"unirms {__version__}"


def test_dialects_lists_all_and_shows_one():
    listed = unirms("dialects").stdout
    assert all(name in listed for name in dialects.all_dialects())
    shown = unirms("dialects", "ms").stdout
    assert "mindspore.nn.RMSProp" in shown
    assert "decay" in shown
    assert "initial_mean_square (fixed)" in shown


def test_no_table_is_cut_in_a_narrow_place():
    listed = unirms("dialects", columns="40").stdout
    assert "…" not in listed


def test_doctor_names_versions_and_what_to_install(tmp_path):
    broken = tmp_path / "python"
    broken.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('No module named torch')\n")
    broken.chmod(0o755)
    done = unirms("doctor", "--frameworks", "torch", "--python", f"torch={broken}")
    assert done.returncode == 1
    assert "No module named torch" in done.stdout
    assert 'pip install "unirms[torch]"' in done.stdout
    good = unirms("doctor", "--frameworks", "torch")
    assert good.returncode == 0
    assert "torch 2" in good.stdout
