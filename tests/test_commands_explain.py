"""`unirms explain` and `unirms diff`."""

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from unirms import ConfigError, RMSPropConfig, UnirmsError, files
from unirms.commands.diff import diff
from unirms.commands.explain import explain
from unirms.effects import effect
from unirms.explanation import explain as explained
from unirms.explanation import explain_config, formula

TORCH = "torch:lr=0.01,alpha=0.9,momentum=0.9"
CONFIG = RMSPropConfig.from_native("torch", lr=0.01, alpha=0.9, momentum=0.9)

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(explain)
app.command()(diff)


def run(*arguments):
    """Return the exit code and what was printed; UnirmsError passes through, as to `unirms.cli.main`."""
    done = CliRunner().invoke(app, arguments)
    if isinstance(done.exception, UnirmsError):
        raise done.exception
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_explain_says_what_a_config_computes():
    assert run("explain", TORCH) == (0, explain_config(CONFIG) + "\n")


def test_explain_says_what_another_class_makes_of_it():
    assert run("explain", TORCH, "--to", "keras") == (0, explained(CONFIG.to_native("keras")) + "\n")


def test_explain_reads_files(tmp_path):
    path = tmp_path / "recipe.yaml"
    files.save(CONFIG, path)
    assert run("explain", str(path), "--to", "paddle") == run("explain", TORCH, "--to", "paddle")


@pytest.mark.parametrize(
    ("options", "measured"),
    [
        (["--effect"], {}),
        (["--grad-scale", "1e-3"], {"scales": [1e-3]}),
        (["--effect", "--grad-scale", "1e-3", "--grad-scale", "10"], {"scales": [1e-3, 10]}),
    ],
)
def test_explain_measures_the_effect(options, measured):
    native = CONFIG.to_native("keras")
    expected = f"{explained(native)}\n\n{effect(native, **measured)}\n"
    assert run("explain", TORCH, "--to", "keras", *options) == (0, expected)


def test_explain_measures_on_recorded_gradients(tmp_path):
    path = tmp_path / "gradients.npz"
    stream = np.random.default_rng(0).standard_normal((12, 3, 2)).astype(np.float32)
    np.savez(path, stream)
    code, printed = run("explain", TORCH, "--to", "keras", "--gradients", str(path))
    assert code == 0
    assert "12 steps of 6 recorded gradients, the learning rate halved after step 6:" in " ".join(printed.split())
    assert printed.endswith(f"{effect(CONFIG.to_native('keras'), stream)}\n")


def test_explain_prints_json(tmp_path):
    _, printed = run("explain", TORCH, "--to", "keras", "--effect", "--json")
    content = json.loads(printed)
    native = CONFIG.to_native("keras")
    assert content["fidelity"] == "approximate"
    assert content["formula"] == {"wanted": formula(native.wanted), "target": formula(native.meaning)}
    assert content["effect"] == json.loads(json.dumps(effect(native).as_dict()))
    assert json.loads(run("explain", TORCH, "--to", "keras", "--json")[1])["effect"] is None
    alone = json.loads(run("explain", TORCH, "--json")[1])
    assert RMSPropConfig(**alone["config"]) == CONFIG
    assert alone["formula"] == formula(CONFIG)
    path = tmp_path / "zeros.npy"
    np.save(path, np.zeros((3, 2)))  # epsilon = 0 makes NaN of them, which JSON does not know
    _, printed = run(
        "explain", "optax:learning_rate=1,eps=0", "--to", "keras-legacy", "--gradients", str(path), "--json"
    )
    content = json.loads(printed, parse_constant=pytest.fail)
    assert content["effect"]["rows"][0]["difference"] is None


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nope"], "neither a file nor a dialect"),
        ([TORCH, "--to", "nope"], "is not a dialect"),
        (["torch:lr=x"], "lr='x' is not allowed"),
        ([TORCH, "--effect"], "add --to DIALECT"),
        ([TORCH, "--grad-scale", "1"], "add --to DIALECT"),
        ([TORCH, "--to", "keras", "--grad-scale", "-1"], "a finite number > 0"),
        ([TORCH, "--to", "keras", "--grad-scale", "nan"], "a finite number > 0"),
        ([TORCH, "--to", "keras", "--gradients", "none.npy"], "there is no such file"),
    ],
)
def test_explain_refuses_in_one_sentence(arguments, reason):
    with pytest.raises(UnirmsError, match=reason) as caught:
        run("explain", *arguments)
    assert "\n" not in str(caught.value)


def test_explain_takes_scales_or_gradients(tmp_path):
    path = tmp_path / "gradients.npy"
    np.save(path, np.ones(3))
    with pytest.raises(ConfigError, match="give one"):
        run("explain", TORCH, "--to", "keras", "--gradients", str(path), "--grad-scale", "1")


def rows(printed):
    """Return the cells of a plain table by the first one, columns being two spaces apart."""
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in printed.splitlines()]
    return {row[0]: row[1:] for row in cells if row}


def test_diff_shows_the_fields_that_differ_and_whether_they_matter():
    code, printed = run("diff", "torch:lr=0.001,alpha=0.9", "keras")
    assert code == 1
    table = rows(printed)
    assert table["field"] == ["torch:lr=0.001,alpha=0.9", "keras", "matters", "consequence"]
    assert table["epsilon"] == ["1e-08", "1e-07", "yes", "small gradients are scaled differently"]
    assert table["epsilon_placement"][:3] == ["outside_sqrt", "inside_sqrt", "yes"]
    assert table["lr_in_momentum"] == ["off", "on", "no", "changes no number here"]
    assert "learning_rate" not in table
    assert printed.splitlines()[-1] == "The second cannot compute the first: approximate."


def test_diff_of_equivalent_ones_exits_0():
    code, printed = run("diff", "torch:eps=0,lr=0.001,alpha=0.9", "keras:epsilon=0")
    assert code == 0
    assert {row[2] for name, row in rows(printed).items() if "_" in name} == {"no"}
    assert printed.splitlines()[-1] == "The second computes the first: exact."
    assert run("diff", "keras", "keras") == (0, "The second computes the first: exact.\n")


def test_diff_of_one_that_needs_seeding_exits_1():
    code, printed = run("diff", "timm", "paddle:learning_rate=0.01,rho=0.9,epsilon=1e-10")
    assert code == 1
    assert printed.splitlines()[-1].endswith("if the mean square is filled in before the first step: seeded.")


def test_diff_compares_files(tmp_path):
    one, other = tmp_path / "one.toml", tmp_path / "other.json"
    files.save(CONFIG, one)
    files.save(CONFIG.replace(maximize=True), other)
    assert run("diff", str(one), TORCH)[0] == 0
    code, printed = run("diff", str(one), str(other))
    assert code == 1
    assert "it moves the other way" in printed


def test_diff_prints_json():
    code, printed = run("diff", "torch:lr=0.001,alpha=0.9,eps=1e-7", "keras", "--json")
    assert code == 1
    content = json.loads(printed)
    assert (content["equivalent"], content["fidelity"]) == (False, "approximate")
    fields = {row.pop("field"): row for row in content["fields"]}
    assert list(fields) == ["epsilon_placement", "lr_in_momentum", "weight_decay_mode"]
    assert fields["lr_in_momentum"] == {
        "a": False,
        "b": True,
        "matters": False,
        "consequence": "changes no number here",
        "fidelity": "exact",
    }
    assert fields["epsilon_placement"]["fidelity"] == "approximate"


@pytest.mark.parametrize("arguments", [["nope", "keras"], ["keras", "nope"], ["keras", "torch:alpha=2"]])
def test_diff_refuses_in_one_sentence(arguments):
    with pytest.raises(UnirmsError) as caught:
        run("diff", *arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("command", ["explain", "diff"])
def test_help_has_examples(command):
    code, printed = run(command, "--help")
    assert code == 0
    assert "Examples:" in printed
    assert f"unirms {command} " in printed
