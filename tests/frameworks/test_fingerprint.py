"""`unirms.fingerprint` on real optimizers: every stock class, unirms's own, and one that follows no formula."""

import importlib
import json
import sys

import pytest
import typer
from typer.testing import CliRunner

import unirms
from unirms import RMSPropConfig, UnsupportedError, dialects
from unirms.commands.fingerprint import fingerprint as command
from unirms.fingerprinting import fingerprint

SET = {"learning_rate": 0.003, "momentum": 0.9, "centered": True, "weight_decay": 0.01}
# Framework -> dialect -> (module, class); all classes that are installed, the stock class first.
CLASSES = {
    "torch": {"torch": ("torch.optim", "RMSprop")},
    "keras": {
        "keras": ("keras.optimizers", "RMSprop"),
        "tf1": ("tensorflow.compat.v1.train", "RMSPropOptimizer"),
    },
    "mindspore": {
        "mindspore": ("mindspore.nn", "RMSProp"),
        "mindspore-experimental": ("mindspore.experimental.optim", "RMSprop"),
    },
    "paddle": {"paddle": ("paddle.optimizer", "RMSProp")},
}
# MindSpore's plain kernel on CPU computes no config at all; its centered one does.
NEEDED = {"mindspore": {"centered": True}}
RATE = {"tf1": 0.01, "paddle": 0.01}


def making(driver, framework, name, **fields):
    """Return a factory of a stock class, and the config that it should have."""
    dialect = dialects.get(name)
    module, cls = CLASSES[framework][name]
    made = getattr(importlib.import_module(module), cls)
    fields = {**NEEDED.get(name, {}), **({"learning_rate": RATE[name]} if name in RATE else {}), **fields}
    settings = {dialect.name_of(field): value for field, value in fields.items() if dialect.name_of(field)}
    return (lambda params: driver.construct(made, params, settings)), dialect.read(settings).replace(no_weight_decay=())


def check(found, name, config):
    assert found.consistent, found.explain()
    assert found.dialects[0] == name, found.explain()
    for axis, finding in found.axes.items():
        if finding.shown:
            assert getattr(found.config, axis) == getattr(config, axis), (axis, found.explain())


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{}, SET], ids=["defaults", "set"])
def test_stock_classes_are_recognised(framework, driver, fields):
    for name in CLASSES[framework]:
        factory, config = making(driver, framework, name, **fields)
        check(fingerprint(factory, framework=framework), name, config)


@pytest.mark.slow
@pytest.mark.parametrize("name", dialects.all_dialects())
def test_what_unirms_builds_is_recognised_as_every_dialect(framework, name):
    dialect = dialects.get(name)
    fields = {"learning_rate": 0.003, "rho": 0.9, "epsilon": 1e-5, "momentum": 0.9, "weight_decay": 0.01}
    settings = {dialect.name_of(field): value for field, value in fields.items() if dialect.name_of(field)}
    config = dialect.read(settings).replace(no_weight_decay=())
    found = fingerprint(lambda params: unirms.build(config, framework, params), framework=framework)
    assert found.consistent, found.explain()
    assert name in found.dialects
    for axis, finding in found.axes.items():
        if finding.shown:
            assert getattr(found.config, axis) == getattr(config, axis), axis


@pytest.mark.slow
def test_what_unirms_builds_exactly_is_recognised(framework):
    config = RMSPropConfig(
        learning_rate=0.02, epsilon=1e-4, momentum=0.8, nesterov=True, lr_in_momentum=False, initial_mean_square=0.5
    )
    found = fingerprint(lambda params: unirms.build(config, framework, params), framework=framework)
    assert found.config == config, found.explain()
    assert found.dialects == ()


def test_another_algorithm_is_none_of_them(framework, driver):
    module, name, settings = {
        "torch": ("torch.optim", "Adam", {}),
        "keras": ("keras.optimizers", "Adam", {}),
        "mindspore": ("mindspore.nn", "Adam", {}),
        "paddle": ("paddle.optimizer", "Adam", {}),
    }[framework]
    made = getattr(importlib.import_module(module), name)
    found = fingerprint(lambda params: driver.construct(made, params, settings), framework=framework)
    assert not found.consistent
    assert found.dialects == ()


def test_plain_stock_classes_are_consistent_but_for_the_kernel_of_mindspore(framework, driver):
    module, name = next(iter(CLASSES[framework].values()))
    made = getattr(importlib.import_module(module), name)
    rate = {dialects.get(framework).name_of("learning_rate"): 0.01}
    found = fingerprint(lambda params: driver.construct(made, params, rate), framework=framework)
    assert found.consistent is (framework != "mindspore")
    if framework == "mindspore":
        assert found.dialects == ()
        assert "equal elements at" in found.evidence[0]
        assert "move differently" in found.evidence[0]


def test_the_framework_is_the_one_that_is_loaded(framework, driver):
    factory, _ = making(driver, framework, next(iter(CLASSES[framework])))
    assert fingerprint(factory).framework == framework


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda params: 1 / 0, "making the optimizer fails: ZeroDivisionError: division by zero"),
        (lambda params: None, "its step fails"),
        (lambda params: sys.exit(3), "making the optimizer fails: SystemExit: 3"),
    ],
)
def test_what_fails_is_one_sentence(framework, factory, message):
    with pytest.raises(UnsupportedError, match=message):
        fingerprint(factory, framework=framework)


def test_the_command_prints_the_axes_and_the_call(framework):
    name, (module, cls) = next(iter(CLASSES[framework].items()))
    dialect = dialects.get(name)
    words = [f"{dialect.name_of(field)}={value}" for field, value in {**NEEDED.get(name, {})}.items()]
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(
        app, [f"{module}:{cls}", *words, f"{dialect.name_of('learning_rate')}=0.02", "--framework", framework]
    )
    assert result.exit_code == 0, result.output
    assert f"{dialect.target}(" in result.output
    assert "0.02" in result.output
    assert "epsilon_placement" in result.output


def test_what_an_optimizer_prints_is_not_in_the_json(framework, tmp_path, monkeypatch):
    name, (module, cls) = next(iter(CLASSES[framework].items()))
    lines = [
        f"from {module} import {cls}",
        "def make(*args, **kwargs):",
        "    print('made')",
        f"    return {cls}(*args, **kwargs)",
    ]
    (tmp_path / "printing.py").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "printing", raising=False)
    dialect = dialects.get(name)
    fields = {"learning_rate": 0.02, **NEEDED.get(name, {})}
    words = [f"{dialect.name_of(field)}={value}" for field, value in fields.items()]
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, ["printing:make", *words, "--framework", framework, "--json"])
    assert json.loads(result.stdout)["dialects"][0] == name
    assert "made" in result.stderr
