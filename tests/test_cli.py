"""The command line: every error is one line and an exit code, never a traceback."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from unirms import __version__, dialects, terminal
from unirms.cli import _overview


def unirms(*arguments, columns="200", module="unirms.cli", stdout=subprocess.PIPE):
    command = [sys.executable, "-m", module, *arguments]
    environment = {"PATH": "", "COLUMNS": columns, "PYTHONIOENCODING": "utf-8"}
    streams = {"stdout": stdout, "stderr": subprocess.PIPE}
    return subprocess.run(command, **streams, text=True, check=False, timeout=120, env=environment)


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "No such command 'nope'"),
        (["translat"], "see unirms --help"),
        (["parity", "--nope"], "No such option: --nope; see unirms parity --help"),
        (["translate", "--form", "torch"], "--from"),
        (["parity", "--hang-after", "soon"], "Invalid value for '--hang-after'"),
        (["lint"], "Missing argument"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(arguments, message):
    done = unirms(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("unirms: ")
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def test_without_a_command_there_is_help():
    done = unirms()
    assert "Usage: unirms [OPTIONS] COMMAND" in done.stdout
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
@pytest.mark.parametrize("arguments", [["dialects"], ["--version"], ["schema"], ["translate", "--help"]])
def test_a_full_disk_is_one_line_and_exit_code_2(arguments):
    with Path("/dev/full").open("w") as full:
        done = unirms(*arguments, stdout=full)
    assert done.returncode == 2
    assert done.stderr == "unirms: the output cannot be written: No space left on device\n"


def test_python_runs_the_package():
    done = unirms("--version", module="unirms")
    assert done.stdout.strip() == f"unirms {__version__}"


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


def test_no_table_is_cut_in_a_narrow_terminal():
    printed = Console(file=io.StringIO(), force_terminal=True, width=50)
    terminal.show(_overview(), printed)
    assert "…" not in printed.file.getvalue()


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
