"""Configs in files: exact round trips, numbers that every reader takes for numbers, versions, and the JSON Schema."""

import json
import os
import re
import stat
import subprocess
import sys

import pytest
import typer
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

import strategies
from unirms import ClipByNorm, ConfigError, RMSPropConfig, files
from unirms.commands.schema import schema as schema_command
from unirms.schema import schema

KINDS = ("yaml", "json", "toml")
CONFIG = RMSPropConfig(
    learning_rate=1e-4,
    epsilon=1e-8,
    momentum=0.9,
    nesterov=True,
    no_weight_decay=["*.bias", "re:beta|gamma"],
    clip=ClipByNorm(max_norm=1),
    groups=[{"match": "head.*", "learning_rate_factor": 10}],
)


@pytest.mark.parametrize("kind", KINDS)
@given(strategies.configs)
@example(RMSPropConfig(learning_rate=5e-324, epsilon=1e22, loss_scale=1.7976931348623157e308, rho=0.1 + 0.2))
@example(RMSPropConfig(no_weight_decay=["1e-8", "yes", "~", "", "\x00", "\x85", "\u2028", "\ufeff", "a\nb\r\n ", "𐀀"]))
def test_every_config_comes_back_the_same(kind, config):
    text = files.to_text(config, kind)
    again = files.from_text(text, kind)
    assert again == config
    assert repr(again) == repr(config)
    assert files.to_text(again, kind) == text


@given(strategies.configs)
def test_a_yaml_1_1_reader_sees_the_same(config):
    text = files.to_text(config, "yaml")
    assert yaml.safe_load(text) == json.loads(files.to_text(config, "json"))
    assert not files.documents.parse(text, "yaml").surprises


def test_a_plain_dump_would_not_survive_so_the_check_can_fail():
    text = yaml.safe_dump({"no_weight_decay": ["1e-8"]})
    with pytest.raises(ConfigError, match="not allowed"):
        files.from_text(text, "yaml")


def test_small_numbers_are_numbers_for_every_reader():
    text = files.to_text(CONFIG, "yaml")
    assert "epsilon: 1.0e-08\n" in text
    assert "learning_rate: 0.0001\n" in text


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_written_and_the_version_first(kind):
    text = files.to_text(CONFIG, kind)
    data = files.documents.parse(text, kind).data
    assert next(iter(data)) == files.FORMAT
    assert set(data) == {files.FORMAT, *RMSPropConfig.model_fields}
    assert data[files.FORMAT] == files.SCHEMA_VERSION


@pytest.mark.parametrize("suffix", ["yaml", "yml", "json", "toml", "YAML"])
def test_files_by_their_suffix(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    files.save(CONFIG, path)
    assert files.load(path) == CONFIG
    assert files.load(str(path)) == CONFIG
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "unirms: 2\nrho: 1",
            "made by a newer unirms (schema 2; this one reads up to 1); upgrade with: pip install -U unirms",
        ),
        ("unirms: 0", "unirms=0 is not a schema version; write unirms: 1"),
        ("unirms: '1'", "unirms='1' is not a schema version"),
        ("unirms: true", "unirms=True is not a schema version"),
        ("unirms: 1.0", "unirms=1.0 is not a schema version"),
        ("unirms: 1\nrho: 2", "line 2: rho=2 is not allowed"),
        ("unirms: 1\nlr: 2", "line 2: lr=2 is not a field; write learning_rate"),
        ("unirms: 1\nclip: {by: norm}", "line 2: clip.0.max_norm is missing"),
        ("unirms: 1\nlearning_rate: '1e-3'", "learning_rate='1e-3' is not allowed"),
        ("unirms: 1\nrho: 0.5\nrho: 0.6", "'rho' is given twice"),
        ("lr: 0.1", "it is not a config of unirms: it has no unirms: 1, and lr is not a field of one"),
        ("", "a config is a mapping of fields, with unirms: 1 first"),
        ("{}", "a config is a mapping of fields"),
        ("[1]", "a config is a mapping of fields"),
        ("a", "a config is a mapping of fields"),
    ],
)
def test_what_is_no_config_is_refused(text, reason):
    with pytest.raises(ConfigError) as caught:
        files.from_text(text, "yaml")
    assert reason in str(caught.value)


def test_a_field_called_self_is_refused_like_any_other():
    with pytest.raises(ConfigError, match="self=1 is not a field"):
        files.from_text("unirms: 1\nself: 1", "yaml")


def test_a_file_without_a_version_is_read_when_all_keys_are_fields():
    assert files.from_text("rho: 0.5\nclip: {by: norm, max_norm: 1}", "yaml").rho == 0.5


def test_json_may_name_its_schema():
    assert files.from_text('{"$schema": "unirms.schema.json", "unirms": 1, "rho": 0.5}', "json").rho == 0.5


def test_unknown_kinds_and_suffixes_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="'xml' is not a kind of file"):
        files.to_text(CONFIG, "xml")
    with pytest.raises(ConfigError, match=r"the suffix '.txt' names no format"):
        files.save(CONFIG, tmp_path / "a.txt")


def test_files_that_cannot_be_written_are_named(tmp_path):
    for path in (tmp_path / "no" / "a.yaml", "a\0.yaml"):
        with pytest.raises(ConfigError, match="cannot be written"):
            files.save(CONFIG, path)


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "a.yaml"
    files.save(CONFIG, path)
    before = path.read_text()

    def fail(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ConfigError, match="No space left on device"):
        files.save(CONFIG.replace(rho=0.1), path)
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


def test_who_reads_while_it_is_written_sees_one_whole_file(tmp_path):
    path = tmp_path / "a.yaml"
    files.save(CONFIG, path)
    with path.open() as reader:
        files.save(CONFIG.replace(rho=0.1), path)
        assert files.from_text(reader.read(), "yaml") == CONFIG


def test_a_link_stays_a_link_and_permissions_stay(tmp_path):
    path, link = tmp_path / "a.yaml", tmp_path / "link.yaml"
    files.save(CONFIG, path)
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    assert path.stat().st_mode == ordinary.stat().st_mode
    path.chmod(0o640)
    link.symlink_to(path)
    files.save(CONFIG.replace(rho=0.1), link)
    assert link.is_symlink()
    assert files.load(path).rho == 0.1
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


# --- JSON Schema ----------------------------------------------------------------------------------------------------

TYPES = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": lambda value: TYPES["number"](value) and value == int(value),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
}
LIMITS = {
    "minimum": lambda value, limit: value >= limit,
    "maximum": lambda value, limit: value <= limit,
    "exclusiveMinimum": lambda value, limit: value > limit,
    "exclusiveMaximum": lambda value, limit: value < limit,
}
NOTES = {"$schema", "$id", "$defs", "title", "description", "default"}


def same(a, b):
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def valid(value, rule, root):
    """Return whether a value obeys a schema: the keywords that ours uses, and an error for any other."""
    checks = {
        "$ref": lambda ref: valid(value, root["$defs"][ref.removeprefix("#/$defs/")], root),
        "type": lambda kind: TYPES[kind](value),
        "const": lambda one: same(value, one),
        "enum": lambda all_: any(same(value, one) for one in all_),
        "required": lambda names: not isinstance(value, dict) or set(names) <= set(value),
        "properties": lambda fields: (
            not isinstance(value, dict)
            or all(valid(value[name], fields[name], root) for name in fields if name in value)
        ),
        "additionalProperties": lambda allowed: allowed or set(value) <= set(rule["properties"]),
        "items": lambda inner: not isinstance(value, list) or all(valid(item, inner, root) for item in value),
        "minItems": lambda least: not isinstance(value, list) or len(value) >= least,
        "anyOf": lambda rules: any(valid(value, one, root) for one in rules),
        "oneOf": lambda rules: sum(valid(value, one, root) for one in rules) == 1,
        "allOf": lambda rules: all(valid(value, one, root) for one in rules),
        "not": lambda one: not valid(value, one, root),
        "if": lambda one: not valid(value, one, root) or valid(value, rule["then"], root),
        "then": lambda one: True,
        **{
            name: lambda limit, within=within: not TYPES["number"](value) or within(value, limit)
            for name, within in LIMITS.items()
        },
    }
    # A value of the wrong type is judged by `type` alone.
    order = sorted((name for name in rule if name not in NOTES), key=lambda name: name != "type")
    return all(checks[name](rule[name]) for name in order)


@given(strategies.configs)
def test_the_schema_accepts_every_file_that_is_written(config):
    rule = schema()
    assert valid(json.loads(files.to_text(config, "json")), rule, rule)


FORMS = {
    "clip": [None, [], {"by": "norm", "max_norm": 1}, [{"by": "value", "limit": 0.5}], {"max_norm": 1}, "norm"],
    "no_weight_decay": ["*.bias", ["*.bias"], [], None, 1, [1]],
    "groups": [
        {"match": "*"},
        {"match": ["a", "b"], "rho": 0.5, "learning_rate": None},
        {"match": []},
        {"match": None},
        {"rho": 1},
        {"match": "*", "learning_rate": 1, "learning_rate_factor": 2},
        {"match": "*", "learning_rate": 1, "learning_rate_factor": None},
        {"match": "*", "lr": 1},
        {"match": "*", "clip": []},
        {"match": "*", "clip": {"by": "norm", "max_norm": 1}},
        {"match": "*", "clip": [{"by": "global_norm", "max_norm": 1, "eps": 1e-6, "over": "group"}]},
        {"match": "*", "clip": {"by": "global_norm", "max_norm": 1, "over": "some"}},
    ],
    "learning_rate": [
        1,
        -1,
        {"kind": "constant", "learning_rate": 0.1},
        {"learning_rate": 0.1},
        {"kind": "constnat", "learning_rate": 0.1},
        {"kind": "step", "initial_learning_rate": 0.1, "step_size": 0},
        {"kind": "step", "initial_learning_rate": 0.1, "step_size": 3.0, "gamma": 0.5},
        {"kind": "step", "initial_learning_rate": 0.1, "step_size": 3.5},
        {"kind": "warmup", "warmup_steps": 2, "after": {"kind": "constant", "learning_rate": 1}},
        {"kind": "warmup", "warmup_steps": 2, "after": 1},
        {"kind": "table", "learning_rates": 0.1},
    ],
    "ema_start": [0, 3, 2.0, 2.5, -1, True],
    "gradient_accumulation_steps": [0, 1, 4],
    "sparse": ["lazy", "eager"],
    "rho": [0, 1, 1.5, -0.1, "0.5", True, None],
    "loss_scale": [0, 1],
    "centered": [True, 1, "yes"],
    "epsilon_placement": ["inside_sqrt", "inside"],
    "unirms": [1, 2, "1", True],
    "$schema": ["x.json"],
    "lr": [1],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field in FORMS for value in FORMS[field]])
def test_the_schema_agrees_with_the_config_on_every_form(field, value):
    rule = schema()
    data = {files.FORMAT: files.SCHEMA_VERSION, field: value}
    assert valid(data, rule, rule) is accepted(data)


SCHEDULE = {"kind": "constant", "learning_rate": 0.1}


@pytest.mark.parametrize(
    "fields",
    [
        {"learning_rate": SCHEDULE, "groups": {"match": "*", "learning_rate": 1}},
        {"learning_rate": SCHEDULE, "groups": [{"match": "*", "learning_rate": 1}]},
        {"learning_rate": SCHEDULE, "groups": [{"match": "*", "learning_rate_factor": 1}]},
        {"learning_rate": 0.1, "groups": [{"match": "*", "learning_rate": 1}]},
        {"sparse": "lazy", "gradient_accumulation_steps": 2},
        {"sparse": "lazy", "gradient_accumulation_steps": 1},
        {"sparse": "lazy", "gradient_centralization": "first_axis"},
        {"sparse": "dense", "gradient_centralization": "first_axis"},
    ],
)
def test_the_schema_knows_which_fields_go_together(fields):
    rule = schema()
    data = {files.FORMAT: files.SCHEMA_VERSION, **fields}
    assert valid(data, rule, rule) is accepted(data)


@given(
    st.dictionaries(st.sampled_from([*RMSPropConfig.model_fields, "lr"]), strategies.data, max_size=3),
    st.dictionaries(st.sampled_from(["nesterov", "bias_correction"]), st.booleans()),
    st.dictionaries(st.sampled_from(["momentum", "rho"]), st.sampled_from([0, 0.5, 1])),
)
def test_the_schema_agrees_with_the_config_on_any_data(fields, flags, numbers):
    rule = schema()
    data = {files.FORMAT: files.SCHEMA_VERSION, **fields, **flags, **numbers}
    text = json.dumps(data)
    # What a schema cannot say: which text is a regular expression, and how large a double may be.
    if not re.search(r'NaN|Infinity|"re:|[0-9]{200}|\\ud[89a-f]', text):
        assert valid(data, rule, rule) is accepted(data)


def accepted(data):
    try:
        files.from_text(json.dumps(data), "json")
    except ConfigError:
        return False
    return True


def test_the_schema_describes_every_field():
    stated = schema()
    assert next(iter(stated["properties"])) == files.FORMAT
    assert set(stated["properties"]) == {files.FORMAT, files.SCHEMA_KEY, *RMSPropConfig.model_fields}
    assert all(field["description"] for field in stated["properties"].values())
    assert all(field["description"] for field in stated["$defs"]["ParameterGroup"]["properties"].values())
    assert stated["$schema"].endswith("2020-12/schema")


def test_the_command_prints_and_writes_the_schema(tmp_path):
    app = typer.Typer()
    app.command()(schema_command)
    printed = CliRunner().invoke(app, [])
    assert printed.exit_code == 0
    assert json.loads(printed.output) == schema()
    path = tmp_path / "schema.json"
    assert CliRunner().invoke(app, [str(path)]).exit_code == 0
    assert json.loads(path.read_text()) == schema()
    failed = CliRunner().invoke(app, [str(tmp_path / "no" / "schema.json")])
    assert isinstance(failed.exception, ConfigError)


def test_files_need_no_framework():
    use = "from unirms import files, recipes, schema; recipes.all_formats(); schema.schema()"
    code = f"import sys; {use}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "keras", "tensorflow", "mindspore", "paddle"} & set(done.stdout.split())
