"""`unirms lint`: Python source and recipes, the three outputs, exit codes; nothing but diagnoses comes out."""

import ast
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from unirms import ConfigError, NativeCall, UnirmsError, dialects
from unirms.commands.lint import lint
from unirms.diagnosis import CODES, Diagnosis
from unirms.diagnosis.files import diagnose_file, diagnose_text
from unirms.diagnosis.kinds import ANY, UNKNOWN
from unirms.diagnosis.sources import recipes

app = typer.Typer()
app.command()(lint)
GOOD = "import torch\n\ntorch.optim.RMSprop(params, lr=0.1)\n"
BAD = "import torch\n\ntorch.optim.RMSprop(\n    params,\n    lr='0.1',\n    momentun=0.9,\n)\n"
DOUBTFUL = "import torch\n\ntorch.optim.RMSprop(params, momentum=1.0)\n"


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def codes(text, name="train.py", **options):
    return [diagnosis.code for diagnosis in diagnose_text(text, name, **options)]


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text, name="train.py"):
        Path(name).write_text(text, encoding="utf-8")
        return name

    return write


# --- the command --------------------------------------------------------------------------------------------------


def test_nothing_is_said_of_what_is_right(file):
    done = run(file(GOOD))
    assert (done.exit_code, done.stdout) == (0, "")


def test_every_diagnosis_is_a_line(file):
    done = run(file(BAD), file(DOUBTFUL, "more.py"))
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "train.py:5: U111 lr is the text '0.1', not a number; drop the quotes",
        "train.py:6: U104 torch.optim.RMSprop has no argument momentun; did you mean momentum?",
        "more.py:3: U304 momentum=1: the buffer never forgets a step, and the weights run away; "
        "write a momentum below 1",
    ]


def test_warnings_alone_are_no_failure_unless_strict(file):
    assert run(file(DOUBTFUL)).exit_code == 0
    assert run("--strict", file(DOUBTFUL)).exit_code == 1
    assert run("--strict", file(GOOD)).exit_code == 0


def test_json_has_every_field(file):
    done = run("--format", "json", file(BAD))
    first, second = json.loads(done.stdout)
    assert first == {
        "file": "train.py",
        "code": "U111",
        "severity": "error",
        "message": "lr is the text '0.1', not a number",
        "fix": "drop the quotes",
        "setting": "lr",
        "line": 5,
    }
    assert second["code"] == "U104"
    assert json.loads(run("--format", "json", file(GOOD)).stdout) == []


def test_github_shows_it_beside_the_line(file):
    name = file("torch.optim.RMSProp(params, lr='50%')\n", "a,b:c.py")
    done = run("--format", "github", name)
    assert done.stdout.splitlines() == [
        "::error file=a%2Cb%3Ac.py,line=1,title=U101::torch.optim.RMSProp does not exist; write torch.optim.RMSprop",
        "::error file=a%2Cb%3Ac.py,line=1,title=U111::lr is the text '50%25', not a number; write lr=…, a number",
    ]
    assert run("--format", "github", file(DOUBTFUL)).stdout.startswith("::warning file=train.py,line=3,title=U304::")


def test_newlines_cannot_leave_a_github_command():
    from unirms.commands.lint import _github

    found = Diagnosis("U504", "error", "a\r\n::error::b", "c%")
    assert _github([(Path("x"), found)]) == ["::error file=x,line=1,title=U504::a%0D%0A::error::b; c%25"]


def test_codes_are_selected_and_ignored_by_their_beginnings(file):
    name = file(BAD + "torch.optim.RMSprop(params, momentum=1.0)\n")

    def seen(*options):
        return [line.split()[1] for line in run(*options, name).stdout.splitlines()]

    assert seen() == ["U111", "U104", "U304"]
    assert seen("--select", "U3") == ["U304"]
    assert seen("--select", "u104,U3") == ["U104", "U304"]
    assert seen("--ignore", "U1") == ["U304"]
    assert seen("--select", "U1", "--ignore", "U104") == ["U111"]
    assert run("--select", "U3", name).exit_code == 0


def test_defects_of_classes_are_shown_when_they_are_selected(file):
    name = file("keras.optimizers.RMSprop()\n")
    assert run(name).stdout == ""
    assert "U402" in run("--select", "U4", name).stdout
    assert "U403" in run("--select", "U", "--dtype", "float64", name).stdout


def test_the_dtype_decides_which_epsilon_vanishes(file):
    name = file(GOOD)
    assert run(name).stdout == ""
    assert "U301" in run("--dtype", "float16", name).stdout


@pytest.mark.parametrize("wrong", [["--dtype", "float8"], ["--select", "E501"], ["--ignore", "X"]])
def test_wrong_options_are_errors_of_unirms(file, wrong):
    assert isinstance(run(*wrong, file(GOOD)).exception, UnirmsError)


def test_usage_errors_have_exit_code_2(file):
    assert run().exit_code == 2
    assert run("--format", "xml", file(GOOD)).exit_code == 2


# --- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "code", "line"),
    [
        ("a.py", b"def f(:\n", "U502", 1),
        ("a.py", b"x = 1\nx = = 2\n", "U502", 2),
        ("a.py", b"x = '\0'\n", "U502", None),
        ("a.py", b"\xff", "U501", None),
        ("a.py", b"#" * (2**20 + 1), "U501", None),
        ("a.yaml", b"a: [1\n", "U502", None),
        ("a.json", b'{"a": }\n', "U502", 1),
        ("a.toml", b"a = \n", "U502", None),
        ("a.yaml", b"", "U504", None),
        ("a.txt", b"hello\n", "U504", None),
        ("a.yaml", b"unirms: 2\n", "U503", 1),
        ("a.yaml", b"unirms: 1\nrho: 2\n", "U201", 2),
        ("a.yaml", b"unirms: 1\nalpha: 0.9\n", "U104", 2),
        ("a.yaml", b"unirms: 1\nmomentum: 1.0\n", "U304", 2),
        ("a.yaml", b"unirms: 1\ngroups:\n- match: a\n  momentum: 1.0\n", "U304", 4),
        (
            "a.yaml",
            b"- {lr_in_momentum: true, lr: 1, alpha: 0.9, eps: 1.0}\n"
            b"- {lr_in_momentum: true, lr: 1, alpha: 0.9, param_names: [a],\n   eps: 0.0}\n",
            "U302",
            3,
        ),
        ("a.yaml", b"_target_: torch.optim.RMSProp\n", "U101", 1),
        ("a.json", b'{"_target_": "torch.optim.RMSprop",\n "lr": -1}', "U201", 2),
    ],
)
def test_a_file_gives_its_diagnosis_with_the_line(file, name, content, code, line):
    from unirms.diagnosis.files import diagnose_file

    Path(name).write_bytes(content)
    (found,) = diagnose_file(name)
    assert found.code == code
    assert line is None or found.line == line
    assert name not in found.message


def test_missing_files_and_folders_are_diagnoses(tmp_path):
    done = run(tmp_path, tmp_path / "no.py")
    assert [line.split(": ")[1][:4] for line in done.stdout.splitlines()] == ["U501", "U501"]


def test_a_name_with_control_characters_is_one_line_of_text(tmp_path):
    done = run(tmp_path / "a\x1b[2J\nb.yaml")
    assert r"a\x1b[2J\nb.yaml:1: U501" in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_a_yaml_scalar_that_the_tool_reads_otherwise_is_said_once():
    text = "_target_: torch.optim.RMSprop\ncentered: yes\n"
    assert codes(text, "a.yaml") == ["U109"]


# --- Python source ------------------------------------------------------------------------------------------------


def targets(source):
    return [recipe.target for recipe in recipes(source)]


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.optim.RMSprop(p)",
        "import torch.optim\ntorch.optim.RMSprop(p)",
        "import torch.optim as O\nO.RMSprop(p)",
        "import torch as t\nt.optim.RMSprop(p)",
        "from torch import optim\noptim.RMSprop(p)",
        "from torch import optim as o\no.RMSprop(p)",
        "from torch.optim import RMSprop\nRMSprop(p)",
        "from torch.optim import RMSprop as R\nR(p)",
        "from torch.optim import *\nRMSprop(p)",
        "def f():\n    from torch.optim import RMSprop\n    return [RMSprop(p) for p in q]",
        "import functools, torch\nfunctools.partial(torch.optim.RMSprop, lr=1)",
        "from functools import partial\nfrom torch.optim import RMSprop\npartial(RMSprop, lr=1)",
        "torch.optim.RMSprop(p)",
    ],
)
def test_names_are_followed_through_imports(source):
    assert targets(source) == ["torch.optim.RMSprop"]


@pytest.mark.parametrize(
    "source",
    [
        "from mine import RMSprop\nRMSprop(p)",
        "from .optim import RMSprop\nRMSprop(p)",
        "RMSprop(p)",
        "class RMSprop: ...\nRMSprop(p)",
        "torch = mine()\ntorch.optim.RMSprop(p)",
        "def f(torch):\n    torch.optim.RMSprop(p)",
        "import torch\ntorch.optim.Adam(p)",
        "import torch\ntorch.optim.Rprop(p)",
        "import torch\ntorch.optim._functional.rmsprop(p)",
        "import tensorflow as tf\ntf.raw_ops.ResourceApplyRMSProp(var=v)",
        "import mindspore.ops as P\nP.ApplyRMSProp()",
        "import torch\nmake().optim.RMSprop(p)",
        "from torch.optim.rmsprop import rmsprop\nrmsprop(p)",
        "import torch\ntorch.optim.RMSprop",
        "import torch\n'torch.optim.RMSprop(p)'",
    ],
)
def test_other_names_are_left_alone(source):
    assert targets(source) == []


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("import paddle\npaddle.optimizer.RMSprop(0.1)", "paddle.optimizer.RMSprop"),
        ("import torch\ntorch.optim.RMSProb(p)", "torch.optim.RMSProb"),
        ("import tensorflow as tf\ntf.keras.optimizers.RMSProp()", "tensorflow.keras.optimizers.RMSProp"),
        ("from keras.optimizers import RMSPropOptimizer\nRMSPropOptimizer()", "keras.optimizers.RMSPropOptimizer"),
        ("import torch\ntorch.optim.RMSpropTF(p)", "torch.optim.RMSpropTF"),
    ],
)
def test_other_cases_and_near_misses_are_found(source, target):
    assert targets(source) == [target]
    assert codes(source)[0] in {"U101", "U102"}


@pytest.mark.parametrize(
    "path", ["optimizers", "keras.optimizers", "compat.v2.optimizers", "compat.v2.keras.optimizers"]
)
def test_all_names_that_tensorflow_has_for_the_class_of_keras_are_known(path):
    assert codes(f"import tensorflow as tf\ntf.{path}.RMSprop(0.1)") == []
    assert codes(f"from tensorflow.{path} import RMSprop\nRMSprop(lr=0.1)") == ["U103"]


def test_what_a_literal_passes_on_is_named():
    assert codes('torch.optim.RMSprop(p, **{"lr": -1.0, "rho": 0.9})') == ["U103", "U201"]
    assert codes("torch.optim.RMSprop(p, **dict(lr=-1.0, **{'eps': -1.0}))") == ["U201", "U201"]
    assert codes('paddle.optimizer.RMSProp(**{"rho": 0.9, **settings})') == []
    assert codes("paddle.optimizer.RMSProp(**dict(settings, rho=0.9))") == []
    assert codes('paddle.optimizer.RMSProp(**{name: 0.1, "rho": 0.9})') == []


def test_a_misspelt_key_of_a_group_has_a_suggestion():
    (found,) = diagnose_text('torch.optim.RMSprop([{"params": p, "momentun": 0.9}])', "train.py")
    assert (found.code, found.fix) == ("U213", "did you mean momentum?")


@pytest.mark.parametrize("encoding", ["latin-1", "gb2312", "shift_jis", "cp1252"])
def test_source_may_declare_its_encoding(tmp_path, encoding):
    path = tmp_path / "train.py"
    word = "中" if encoding in {"gb2312", "shift_jis"} else "é"
    path.write_text(f"# coding: {encoding}\n# {word}\ntorch.optim.RMSprop(p, lr=-1)\n", encoding=encoding)
    assert [(found.code, found.line) for found in diagnose_file(path)] == [("U201", 3)]


def test_source_in_no_encoding_that_it_declares_cannot_be_read(tmp_path):
    path = tmp_path / "train.py"
    for cookie in ("nope", "punycode", "utf-8"):
        path.write_bytes(b"# coding: %s\n# caf\xe9\n" % cookie.encode())
        assert [found.code for found in diagnose_file(path)] == ["U501"]


def notebook(*cells):
    described = [{"cell_type": kind, "metadata": {}, "source": source} for kind, source in cells]
    return json.dumps({"cells": described, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=1)


def test_a_notebook_is_read_cell_by_cell():
    text = notebook(
        ("markdown", ["torch.optim.RMSprop(p, lr=-1)"]),
        (
            "code",
            [
                "%matplotlib inline\n",
                "!pip install torch\n",
                "import torch.optim as o\n",
                "if True:\n",
                "    %time f()",
            ],
        ),
        ("code", "%%bash\no.RMSprop(p, lr=-1)"),
        ("code", ["files = !ls\n", "o.RMSprop(p, lr=-1)"]),
        ("code", ["o.RMSprop(\n", "    p,\n", "    lr=-1,\n", ")"]),
        ("code", "optimizer = o.RMSprop(p,\n  rho=0.9)"),
    )
    found = diagnose_text(text, "train.ipynb")
    assert [diagnosis.code for diagnosis in found] == ["U201", "U103"]
    lines = [text.splitlines()[diagnosis.line - 1] for diagnosis in found]
    assert "lr=-1" in lines[0]
    assert "rho=0.9" in lines[1]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cells": 3}', "{", '{"worksheets": []}'])
def test_what_is_no_notebook_is_said(text):
    assert codes(text, "train.ipynb") == ["U502"]


@pytest.mark.parametrize("cell", [{}, 3, {"cell_type": "code"}, {"cell_type": "code", "source": [3, None, []]}])
def test_odd_cells_are_no_errors(cell):
    assert codes(json.dumps({"cells": [cell]}), "train.ipynb") == []


def test_a_flag_that_yaml_reads_in_two_ways_is_to_be_written_as_a_flag():
    (found,) = diagnose_text("_target_: torch.optim.RMSprop\ncentered: yes\n", "recipe.yaml")
    assert (found.code, found.fix) == ("U109", "write true")


def test_a_dtype_is_checked_where_no_rmsprop_is(tmp_path):
    path = tmp_path / "train.py"
    path.write_text("")
    with pytest.raises(ConfigError, match="float8"):
        diagnose_file(path, dtype="float8")


def test_literals_become_settings_and_the_rest_is_unknown():
    (recipe,) = recipes(
        "import numpy as np, torch\n"
        "torch.optim.RMSprop(\n    p,\n    0.1,\n    alpha=-1,\n    eps=args.eps,\n"
        "    momentum=float('nan'),\n    weight_decay=np.float32(0.5),\n    centered=not True,\n"
        "    foreach=[1, 'a'],\n)\n"
    )
    assert repr(recipe.settings.pop("momentum")) == "nan"
    assert recipe.settings == {
        "lr": 0.1,
        "alpha": -1,
        "eps": UNKNOWN,
        "weight_decay": 0.5,
        "centered": UNKNOWN,
        "foreach": [1, "a"],
    }
    assert type(recipe.settings["weight_decay"]).__name__ == "float32"
    assert recipe.lines == {
        "": 2,
        "lr": 4,
        "alpha": 5,
        "eps": 6,
        "momentum": 7,
        "weight_decay": 8,
        "centered": 9,
        "foreach": 10,
    }


def test_what_is_passed_on_is_unknown():
    for source in ("torch.optim.RMSprop(p, **settings)", "torch.optim.RMSprop(*given)"):
        assert recipes(source)[0].settings == {ANY: UNKNOWN}
    assert codes("paddle.optimizer.RMSProp(**settings)") == []
    assert codes("paddle.optimizer.RMSProp(rho=0.9, **settings)") == []
    assert codes("import functools, paddle\nfunctools.partial(paddle.optimizer.RMSProp, rho=0.9)") == []


def test_groups_are_read_from_literal_lists():
    (recipe,) = recipes(
        "paddle.optimizer.RMSProp(\n  0.1,\n  parameters=[{'params': a, 'lr': 0.1}, {'params': b, **c}],\n)"
    )
    assert [group.settings for group in recipe.groups] == [{"lr": 0.1}, {ANY: UNKNOWN}]
    assert codes("torch.optim.RMSprop([\n  {'params': a},\n  {'params': b, 'eps': -1.0},\n])") == ["U212"]
    (found,) = diagnose_text("torch.optim.RMSprop([\n  {'params': a},\n  {'params': b, 'eps': -1.0},\n])", "a.py")
    assert found.line == 3


def test_clips_and_regularizers_are_read():
    (recipe,) = recipes(
        "import paddle\nfrom paddle import nn\n"
        "clip = paddle.regularizer.L2Decay(x)\n"
        "paddle.optimizer.RMSProp(0.1, grad_clip=nn.ClipGradByGlobalNorm(-1.0), weight_decay=clip)"
    )
    assert recipe.settings["grad_clip"] == NativeCall("paddle.nn.ClipGradByGlobalNorm", -1.0)
    assert recipe.settings["weight_decay"] is UNKNOWN


DEEP = {
    "parentheses": "(" * 100_000,
    "minus": "-" * 100_000 + "1",
    "attributes": "a" + ".b" * 200_000,
    "sum": "1+" * 200_000 + "1",
    "calls": "a" + "()" * 200_000,
    "lambdas": "lambda:" * 100_000 + "1",
    "keyword": "torch.optim.RMSprop(p, lr=" + "-" * 50 + "1)",
    "list": "torch.optim.RMSprop(p, lr=" + "[" * 90 + "]" * 90 + ")",
    "sum in a keyword": "torch.optim.RMSprop(p, lr=[" + "1+" * 900 + "1j])",
}


@pytest.mark.parametrize("package", ["a", "torch.a{}"])
def test_many_stars_and_many_names_are_read_within_seconds(package):
    stars = "".join(f"from {package.format(index)} import *\n" for index in range(10_000))
    source = stars + "".join(f"b{index}()\n" for index in range(20_000)) + "from torch.optim import *\nRMSProp(p)\n"
    started = time.perf_counter()
    assert codes(source) == ["U101" if package == "a" else "U102"]
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize("name", DEEP)
def test_deeply_nested_source_gives_diagnoses(name):
    assert all(code in CODES for code in codes(DEEP[name]))


def test_source_of_no_python_is_an_error():
    with pytest.raises(ConfigError, match="line 1"):
        recipes("(")
    with pytest.raises(ConfigError, match="nested too deeply"):
        recipes(DEEP["minus"])


def test_warnings_of_the_parser_are_not_passed_on():
    assert targets("x = '\\d'\n1 is 1\ntorch.optim.RMSprop(p)") == ["torch.optim.RMSprop"]


def test_linting_python_loads_no_framework(tmp_path):
    (tmp_path / "a.py").write_text(GOOD, encoding="utf-8")
    code = (
        "import sys; from unirms.diagnosis.files import diagnose_file; diagnose_file(sys.argv[1]); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'keras', 'tensorflow', 'mindspore', 'paddle')))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.py")], check=False).returncode == 0


# --- any text -----------------------------------------------------------------------------------------------------

paths = sorted({path for d in dialects.all_dialects().values() for path in (d.target, *d.spellings)})
pieces = st.sampled_from(
    [
        *paths,
        *("RMSprop", "torch", "functools.partial", "float", "import torch as t\n", "from torch.optim import *\n"),
        *(
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            ",",
            "=",
            "**",
            "*",
            "-",
            ".",
            ":",
            "\n",
            " ",
            "lambda",
            "'",
            '"',
            "\0",
            "\ud800",
        ),
        *("lr=", "params", "alpha=", "'lr':", "'params':", "1e-8", "1", "True", "None", "1j", "0x" + "f" * 5000, "b''"),
        *("_target_: torch.optim.RMSprop\n", "lr: ", "unirms: ", "--opt rmsprop ", "optimizer: rmsprop\n"),
    ]
)
any_text = st.one_of(st.lists(pieces, max_size=20).map("".join), st.text(max_size=60))
literals = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just(...)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=4), inner, max_size=2)),
    max_leaves=4,
)
keywords = st.dictionaries(
    st.sampled_from(["lr", "learning_rate", "eps", "centered", "params", "x"]), literals, max_size=4
)


@st.composite
def calls(draw):
    given = [repr(value) for value in draw(st.lists(literals, max_size=3))]
    given += [f"{name}={value!r}" for name, value in draw(keywords).items()]
    return f"{draw(st.sampled_from(paths))}({', '.join(given)})"


def check_any_text(text, name, dtype):
    for diagnosis in diagnose_text(text, name, dtype=dtype, defects=True):
        assert diagnosis.severity == CODES[diagnosis.code].severity
        assert diagnosis.message
        assert diagnosis.fix


texts = st.one_of(any_text, calls(), st.lists(calls(), max_size=2).map("\n".join))
files = st.sampled_from(["a.py", "a.yaml", "a.json", "a.toml", "a.txt"])
dtypes = st.sampled_from([None, "float16", "bfloat16", "float64"])


@settings(max_examples=200)
@given(texts, files, dtypes)
def test_any_text_gives_diagnoses(text, name, dtype):
    check_any_text(text, name, dtype)


@pytest.mark.slow
@settings(max_examples=10_000)
@given(texts, files, dtypes)
def test_any_text_gives_diagnoses_ten_thousand_times(text, name, dtype):
    check_any_text(text, name, dtype)


@settings(max_examples=200)
@given(calls())
def test_any_call_that_is_python_becomes_a_recipe(source):
    assert isinstance(ast.parse(source).body[0].value, ast.Call)
    assert len(recipes(source)) == 1
