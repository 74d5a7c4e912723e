"""What becomes of every argument of the thirteen classes: mapped, not about the update, or refused, with a reason.

The installed classes are held to their tables in `tests/frameworks/test_arguments.py`, the others here, to recorded
signatures.
"""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import arguments
from unirms import ConfigError, NativeCall, RMSPropConfig, dialects
from unirms.diagnosis import diagnose
from unirms.dialects.base import carries
from unirms.dialects.table import rows
from unirms.dialects.torch import GROUP_NOTES
from unirms.recipes.base import Group, Recipe

ALL = dialects.all_dialects()
INSTALLED = {name for names in arguments.INSTALLED.values() for name in names}
RECORDED = sorted({*ALL} - INSTALLED)
VARIANTS = [(name, path) for name, dialect in ALL.items() for path in dialect.variants]
FIELDS = set(RMSPropConfig.model_fields)


def test_every_dialect_is_installed_or_recorded():
    assert {*ALL} >= INSTALLED
    assert {ALL[name].target for name in RECORDED} <= {*arguments.RECORDED}
    for name in RECORDED:
        record = arguments.RECORDED[ALL[name].target]
        assert record["version"] in record["from"]


@pytest.mark.parametrize("name", RECORDED)
def test_every_recorded_argument_is_in_the_table_with_its_default(name):
    assert arguments.slips(ALL[name], *arguments.recorded(ALL[name].target)) == []


@pytest.mark.parametrize("name", RECORDED)
def test_every_recorded_key_of_a_parameter_group_is_in_the_table(name):
    asked = arguments.RECORDED[ALL[name].target].get("group_keys", ())
    listed = {row.group for row in rows(ALL[name]) if row.group}
    # Their base class, torch.optim.Optimizer, asks for the rest.
    assert listed == ({*asked, *GROUP_NOTES} - {"params"} if asked else set())


@pytest.mark.parametrize(("name", "path"), VARIANTS)
def test_a_variant_takes_what_its_behaviour_says(name, path):
    assert arguments.slips(ALL[name], *arguments.recorded(path), ALL[name].variants[path]) == []


@pytest.mark.parametrize("name", ALL)
def test_every_row_says_what_becomes_of_a_name_and_why(name):
    named = [one for row in rows(ALL[name]) for one in (*row.names, *row.announced)]
    assert len(named) == len(set(named))
    assert not ALL[name].behaviour.more  # what the class takes is an argument; more is for variants
    for row in rows(ALL[name]):
        assert re.fullmatch(r"mapped to [a-z_]+(, [a-z_]+)*|(not about the update|refused): \S.*", row.becomes)
        if row.becomes.startswith("mapped to "):
            assert {*row.becomes.removeprefix("mapped to ").split(", ")} <= FIELDS
        assert row.names or row.group


GROUPED = [name for name, dialect in ALL.items() if dialect.behaviour.groups is not None]


@pytest.mark.parametrize("name", GROUPED)
def test_every_key_of_a_parameter_group_has_a_row(name):
    groups = ALL[name].behaviour.groups
    listed = [row.group for row in rows(ALL[name]) if row.group]
    assert len(listed) == len(set(listed))
    assert {*(groups.names or {})} <= {*listed}
    assert all(native in ("", key) or ALL[name].argument(native) for key, native in (groups.names or {}).items())
    assert {key for key, native in (groups.names or {}).items() if not native} <= {*groups.notes}


# --- the rows are true --------------------------------------------------------------------------------------------

SAMPLES = (0.25, 3, True, False, NativeCall("L2Decay", 0.25), NativeCall("ClipGradByNorm", 0.25))


def companions(dialect, flag):
    """Return arguments beside which others act: momentum, and all flags on or off (some refuse what is beside them)."""
    flags = {a.name: flag for a in dialect.arguments if a.fields and isinstance(a.default, bool)}
    momentum = dialect.name_of("momentum")
    return {dialect.name_of("learning_rate"): 0.5, **flags, **({momentum: 0.5} if momentum else {})}


def changed(dialect, argument, value):
    """Return the config fields that a value changes, or None where it is refused, beside flags that are on or off."""
    found = None
    for flag in (True, False):
        try:
            before = dialect.read(companions(dialect, flag))
            after = dialect.read({**companions(dialect, flag), argument.name: value})
        except ConfigError:
            continue
        found = (found or set()) | {name for name in FIELDS if getattr(before, name) != getattr(after, name)}
    return found


EVERY = [pytest.param(dialect, a, id=f"{name}-{a.name}") for name, dialect in ALL.items() for a in dialect.arguments]


@pytest.mark.parametrize(("dialect", "argument"), EVERY)
def test_the_rows_are_true(dialect, argument):
    effects = [changed(dialect, argument, value) for value in SAMPLES]
    if argument.fields:
        assert {*argument.fields} & set().union(*filter(None, effects))
    elif argument.refused:
        assert None in effects
        assert {frozenset(effect) for effect in effects if effect is not None} <= {frozenset()}
    else:
        assert effects == [set()] * len(SAMPLES)


@pytest.mark.parametrize("name", ALL)
def test_what_a_class_ignores_is_refused_with_the_reason(name):
    for ignored, (instead, fix) in ALL[name].behaviour.ignored.items():
        with pytest.raises(ConfigError, match=re.escape(f"ignores it: {instead}; {fix}")):
            ALL[name].read({ALL[name].name_of("learning_rate"): 0.5, ignored: 0.5})


@pytest.mark.parametrize(("key", "codes"), [("param_names", set()), ("surprise", {"U213"})])
def test_a_listed_key_of_a_group_is_no_ignored_one(key, codes):
    recipe = Recipe("python", "torch.optim.RMSprop", {"lr": 0.1}, groups=(Group((), {"lr": 0.2, key: ["w"]}),))
    assert {diagnosis.code for diagnosis in diagnose(recipe) if diagnosis.setting.endswith(key)} == codes


# --- planted ------------------------------------------------------------------------------------------------------


def slips_after(name, change):
    own, passed_on = arguments.recorded(ALL[name].target)
    change(own)
    return arguments.slips(ALL[name], own, passed_on)


@pytest.mark.parametrize("name", RECORDED)
def test_a_changed_signature_is_caught(name):
    assert slips_after(name, lambda own: own.update(surprise=None)) == ["surprise is in no row"]
    rate, epsilon = (ALL[name].name_of(field) for field in ("learning_rate", "epsilon"))
    assert slips_after(name, lambda own: own.update({epsilon: 0.5}))
    assert slips_after(name, lambda own: own.update({rate: own.pop(rate)}))
    assert f"the class does not take {epsilon}" in slips_after(name, lambda own: own.pop(epsilon))


def test_a_name_that_kwargs_lets_through_is_caught():
    own, passed_on = arguments.recorded(ALL["keras-legacy"].target)
    assert arguments.slips(ALL["keras-legacy"], own, {**passed_on, "surprise": 1}) == ["surprise is in no row"]
    passed_on.pop("lr")
    assert arguments.slips(ALL["keras-legacy"], own, passed_on) == ["the class does not take lr"]


def test_an_argument_that_only_the_dialect_has_is_caught():
    mlx = ALL["mlx"]
    more = replace(mlx, arguments=(*mlx.arguments, carries("momentum", "momentum", 0.0)))
    assert arguments.slips(more, *arguments.recorded(mlx.target)) == ["the class does not take momentum"]


def test_keys_are_found_in_every_form_in_which_code_asks_for_them():
    source = """
        a = group["one"] + group.get("two", 2) + group.pop("three", None) + unrelated["no"] + group[index]
        if "four" in group and "five" not in group.keys() and "no" in unrelated:
            group["six"] = group.setdefault("seven", make())
    """
    found = arguments.keys(source, {"group"})
    assert {*found} == {"one", "two", "three", "four", "five", "six", "seven"}
    assert (found["two"], found["three"]) == (2, None)
    assert found["seven"] is found["one"] is arguments.UNKNOWN


# --- shown --------------------------------------------------------------------------------------------------------

ROOT = Path(__file__).parent.parent


def test_the_documentation_has_every_row():
    page = (ROOT / "docs" / "arguments.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE))
    assert [*sections] == [*ALL]
    for name, dialect in ALL.items():
        lines = [line for line in sections[name].splitlines() if line.startswith("| ")]
        assert len(lines) == 2 + len(rows(dialect))
        for row in rows(dialect):
            assert any(all(f"`{one}`" in line for one in row.names) and row.becomes in line for line in lines)


@pytest.mark.parametrize("name", ["keras", "mindspore", "timm"])
def test_the_command_line_shows_every_row(name):
    environment = {"PATH": "", "COLUMNS": "400", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "unirms.cli", "dialects", name]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment).stdout
    for row in rows(ALL[name]):
        assert any(all(word in line for word in (*row.names, row.default, row.becomes)) for line in shown.splitlines())


def test_the_records_are_sorted_json():
    text = Path(__file__).with_name("signatures.json").read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=2) + "\n"
