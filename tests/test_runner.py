"""Whatever happens to a worker becomes a row of the report and an exit code, never a traceback of the report."""

import os
import subprocess
import sys
import textwrap
import time

import pytest

from unirms.conformance import report as reports
from unirms.conformance.results import CaseResult, Done, Failure, Hello
from unirms.conformance.runner import run
from unirms.conformance.worker import Tasks

HELLO = Hello(framework="torch", versions={"torch": "9.9"}, python="3.11", cases=1).model_dump_json()
CASE = CaseResult(framework="torch", id="a/float32/one", mode="a", dtype="float32", built="RMSprop").model_dump_json()
DONE = Done(framework="torch").model_dump_json()


@pytest.fixture
def interpreter(tmp_path):
    """Return a function that makes an "interpreter" which runs these lines instead of the worker."""

    def make(body):
        path = tmp_path / f"python{len(list(tmp_path.iterdir()))}"
        path.write_text(f"#!{sys.executable}\nimport os, signal, sys, time\n" + textwrap.dedent(body))
        path.chmod(0o755)
        return str(path)

    return make


def messages(interpreter, hang_after=20.0):
    return list(run(["torch"], Tasks(), {"torch": interpreter}, hang_after=hang_after))


def test_a_worker_that_finishes(interpreter):
    body = f"print({HELLO!r}); print({CASE!r}); print({DONE!r})"
    assert [message.kind for message in messages(interpreter(body))] == ["hello", "case", "done"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV"),
        (f"print({HELLO!r}); print({CASE!r}, flush=True); os.abort()", "was ended by SIGABRT after a/float32/one"),
        ("sys.exit('no luck')", "stopped early with exit code 1: no luck"),
        (f"print({HELLO!r})", "stopped early with exit code 0"),
        ("print('Loading…', flush=True); time.sleep(60)", "wrote something else"),
        ("raise ImportError('libfoo.so: undefined symbol')", "ImportError: libfoo.so: undefined symbol"),
    ],
)
def test_a_worker_that_dies(interpreter, body, reason):
    *_, last = messages(interpreter(body))
    assert isinstance(last, Failure)
    assert reason in last.reason


def test_a_worker_that_hangs_is_ended(interpreter, tmp_path):
    note = tmp_path / "pid"
    body = f"open({str(note)!r}, 'w').write(str(os.getpid())); print({HELLO!r}, flush=True); time.sleep(600)"
    *_, last = messages(interpreter(body), hang_after=2.0)
    assert "gave no sign for 2 s" in last.reason
    pid = int(note.read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_missing_interpreter(tmp_path):
    (last,) = messages(str(tmp_path / "nothing"))
    assert "does not start: No such file" in last.reason


def test_the_other_workers_go_on(interpreter):
    good = interpreter(f"print({HELLO.replace('torch', 'keras', 1)!r}); print({DONE.replace('torch', 'keras')!r})")
    bad = interpreter("os.kill(os.getpid(), signal.SIGSEGV)")
    seen = list(run(["torch", "keras"], Tasks(), {"torch": bad, "keras": good}, hang_after=20.0))
    assert {message.framework: message.kind for message in seen} == {"torch": "failure", "keras": "done"}


def parity(*arguments):
    command = [sys.executable, "-m", "unirms.cli", "parity", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_the_command_reports_a_dead_worker_and_exits_with_1(interpreter):
    dead = interpreter("os.kill(os.getpid(), signal.SIGSEGV)")
    done = parity("--frameworks", "torch", "--python", f"torch={dead}")
    assert done.returncode == 1
    assert "did not run" in done.stdout
    assert "FAILED torch: the process was ended by SIGSEGV" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_no_worker_outlives_the_command(interpreter, tmp_path):
    note = tmp_path / "pid"
    real = f"""
        open({str(note)!r}, "w").write(str(os.getpid()))
        os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])
    """
    arguments = ["parity", "--frameworks", "torch", "--python", f"torch={interpreter(real)}"]
    parent = subprocess.Popen([sys.executable, "-m", "unirms.cli", *arguments], stdout=subprocess.PIPE)
    assert parent.stdout.readline().startswith(b"PyTorch: started")
    parent.kill()
    parent.communicate()
    worker, alive = int(note.read_text()), True
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            alive = False
            break
        time.sleep(0.1)
    assert not alive


def test_a_case_beyond_its_limit_fails_the_report(interpreter):
    wrong = CASE.replace('"problem":""', '"problem":"weights are 99 ULP off (limit 32)"')
    done = parity(
        "--frameworks",
        "torch",
        "--python",
        f"torch={interpreter(f'print({HELLO!r}); print({wrong!r}); print({DONE!r})')}",
    )
    assert done.returncode == 1
    assert "FAILED torch a/float32/one (RMSprop): weights are 99 ULP off" in done.stdout


def test_a_worker_without_cases_fails_the_report(interpreter):
    done = parity("--frameworks", "torch", "--python", f"torch={interpreter(f'print({HELLO!r}); print({DONE!r})')}")
    assert done.returncode == 1
    assert "torch: no case ran" in done.stdout


def test_a_good_report_exits_with_0_and_writes_json(interpreter, tmp_path):
    good = interpreter(f"print({HELLO!r}); print({CASE!r}); print({DONE!r})")
    file = tmp_path / "report.json"
    file.write_text("old")
    done = parity("--frameworks", "pytorch", "--python", f"pytorch={good}", "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout
    assert '"passed": true' in file.read_text()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_infinite_errors_travel_as_data():
    case = CaseResult(framework="torch", id="x", mode="a", dtype="float32", weights_ulp=float("inf"), problem="far off")
    report = reports.Report(["torch"])
    report.add(CaseResult.model_validate_json(case.model_dump_json()))
    assert report.cases[0].weights_ulp == float("inf")
    assert '"weights_ulp": "Infinity"' in report.as_json()
