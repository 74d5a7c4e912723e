"""Text becomes plain data or one sentence; no text runs code or exhausts memory."""

import datetime
import errno
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import strategies
from unirms import ConfigError, documents
from unirms.documents import parse
from unirms.documents import yaml as reader
from unirms.documents.base import MAX_BYTES, MAX_DEPTH, MAX_VALUES

KINDS = ("yaml", "json", "toml")


@pytest.fixture(params=["compiled", "python"])
def loader(request, monkeypatch):
    """Either parser of PyYAML: the compiled one is used where it is there."""
    if request.param == "compiled":
        assert reader._Loader is yaml.CSafeLoader
    else:
        monkeypatch.setattr(reader, "_Loader", yaml.SafeLoader)


def refusal(text, kind="yaml"):
    with pytest.raises(ConfigError) as caught:
        parse(text, kind, name="a.txt")
    (problem,) = caught.value.problems
    assert problem.startswith("a.txt")
    assert "\n" not in problem
    return problem


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-8", 1e-8),
        ("1E+3", 1000.0),
        (".5", 0.5),
        ("-1.", -1.0),
        ("12", 12),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("off", "off"),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ('"true"', "true"),
        ("2001-01-01", "2001-01-01"),
        (".inf", math.inf),
        ("=", "="),
        ("!!float 1e-8", 1e-8),
        ("!!float 1", 1.0),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    read = parse(f"a: {text}", "yaml").data["a"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.usefixtures("loader")
def test_what_yaml_1_1_reads_otherwise_is_remembered():
    text = "a: 1e-8\nb: [yes, 012, 1.0]\nc: {d: 2001-01-01, e: 'no', f: 2001-99-99}"
    assert parse(text, "yaml").surprises == {
        ("a",): (1e-8, "1e-8"),
        ("b", 0): ("yes", True),
        ("b", 1): (12, 10),
        ("c", "d"): ("2001-01-01", datetime.date(2001, 1, 1)),
    }


@given(strategies.scalars.filter(lambda value: not isinstance(value, str) or (value.isprintable() and value.isascii())))
def test_a_scalar_without_surprise_is_what_pyyaml_reads(value):
    text = value if isinstance(value, str) else repr(value)
    try:
        document = parse(text, "yaml")
        theirs = yaml.safe_load(text)
    except (ConfigError, yaml.YAMLError, ValueError):
        return
    if not document.surprises and not isinstance(document.data, (dict, list)):
        assert repr(document.data) == repr(theirs)


@pytest.mark.usefixtures("loader")
def test_lines_are_known_by_path():
    document = parse("# first\na: 1\nb:\n  - x\n  - c: 2\n", "yaml", name="b.yaml")
    assert document.lines == {(): 2, ("a",): 2, ("b",): 3, ("b", 0): 4, ("b", 1): 5, ("b", 1, "c"): 5}
    assert document.at(("b", 1, "c")) == "b.yaml, line 5"
    assert document.at(("nope",)) == "b.yaml"


def test_lines_of_json_are_those_of_yaml():
    text = '{"a": [1,\n {"b\\n": "x, {"}, []],\n\n "c": {}\n, "d" : "e:", "\\"{": ["\\\\",\n "\\"[,"]}'
    assert parse(text, "json").lines == parse(text, "yaml").lines
    assert parse(text, "json").data == parse(text, "yaml").data


@given(strategies.data)
def test_lines_of_any_json_are_those_of_yaml(value):
    text = json.dumps({"a": value}, indent=1, ensure_ascii=False)
    if set(text) & set("\x85\u2028\u2029"):  # ends of lines in YAML alone
        return
    try:
        as_json, as_yaml = parse(text, "json"), parse(text, "yaml")
    except ConfigError:  # NaN, or a character that YAML wants escaped
        return
    assert as_json.lines == as_yaml.lines


@pytest.mark.usefixtures("loader")
def test_merge_keys_and_aliases():
    text = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc:\n  <<: [*a, *b]\n  x: 5\nd: *a\n"
    document = parse(text, "yaml")
    assert document.data["c"] == {"x": 5, "y": 2, "z": 4}
    assert document.data["d"] == {"x": 1, "y": 2}
    assert (document.lines["c", "x"], document.lines["c", "y"], document.lines["c", "z"]) == (5, 1, 2)


@pytest.mark.usefixtures("loader")
def test_keys_are_text():
    assert parse("1: a\ntrue: b\n~: c\n'': d", "yaml").data == {"1": "a", "true": "b", "~": "c", "": "d"}


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\na: 2", "line 2: 'a' is given twice (first in line 1)"),
        ("a: [1", "it is not YAML"),
        ("a: 1\n\tb: 2", "line 2: it is not YAML"),
        ("a: !!python/object/apply:os.system [exit]", "the tag !!python/object/apply:os.system is not read"),
        ("a: !!python/name:os.system", "is not read; write the value without it"),
        ("a: !include other.yaml", "the tag !include is not read"),
        ("!!map {a: 1}", "the tag !!map is not read"),
        ("a: !!float x", "'x' is not a number"),
        ("a: !!float true", "'true' is not a number"),
        ("&a [*a]", "line 1: *a has no complete &a before it"),
        ("a: &a {b: *a}", "*a has no complete &a before it"),
        ("a: *b", "*b has no complete &b before it"),
        ("? [1, 2]\n: 3", "a list or mapping as a key is not read"),
        ("<<: 1", "<< takes a mapping or a list of mappings"),
        ("a: 1\n---\nb: 2", "line 2: it holds several documents; unirms reads one"),
        ("a: " + "1" * 500, "line 1: an integer has more than 400 digits"),
        ("a: \x07", "it is not YAML"),
        ("a\0b", "line 1: it has a null character"),
        ("\ud800", "character 0 is half of a surrogate pair"),
        ('a: "\\UFFFFFFFF"', "it is not YAML"),
    ],
)
def test_yaml_is_refused_in_one_sentence(text, reason):
    assert reason in refusal(text)


def test_half_a_surrogate_pair_is_refused_where_the_parser_lets_it_pass(monkeypatch):
    monkeypatch.setattr(reader, "_Loader", yaml.SafeLoader)
    assert "surrogate" in refusal('a: "\\ud800"')


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1,\n "a": 2}', "'a' is given twice"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": -Infinity}', "-Infinity is not JSON"),
        ('{"a": ' + "1" * 5000 + "}", "an integer has more than 400 digits"),
        ('{"a": "\\ud800"}', "half of a surrogate pair"),
        ('{"\\ud800": 1}', "half of a surrogate pair"),
        ('{"a":\n', "line 2: it is not JSON"),
        ("", "it is not JSON"),
        ("\ufeff{}", "it is not JSON"),
        ("{'a': 1}", "it is not JSON"),
        ('["a\x01"]', "it is not JSON"),
    ],
)
def test_json_is_refused_in_one_sentence(text, reason):
    assert reason in refusal(text, "json")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a = 1\na = 2", "it is not TOML"),
        ("a = ", "it is not TOML"),
        ("a = " + "1" * 5000, "it is not TOML"),
        ("a = 2001-99-99", "it is not TOML"),
        ("a" + ".a" * 100 + " = 1", "line 1: a key has more than 64 parts"),
        ("b = 1\n['a'" + " . 'a'" * 100 + "]", "line 2: a key has more than 64 parts"),
    ],
)
def test_toml_is_refused_in_one_sentence(text, reason):
    assert reason in refusal(text, "toml")


@pytest.mark.parametrize("kind", KINDS)
def test_depth_is_limited_alike(kind):
    def nested(depth):
        inside = "[" * depth + "]" * depth
        return {"yaml": f"a: {inside}", "json": f'{{"a": {inside}}}', "toml": f"a = {inside}"}[kind]

    assert parse(nested(MAX_DEPTH - 4), kind).data
    assert f"nested deeper than {MAX_DEPTH}" in refusal(nested(MAX_DEPTH + 1), kind)


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 12)
)
MERGED_BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 9)}], k{level}: 1}}\n" for level in range(1, 12)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{level}: &a{level} [*a{level - 1}]\n" for level in range(1, 200))
HOSTILE = {
    "billion laughs": (BOMB, "yaml", f"more than {MAX_VALUES:,} values once its aliases are written out"),
    "merged laughs": (MERGED_BOMB, "yaml", f"more than {MAX_VALUES:,} values"),
    "chain of aliases": (CHAIN, "yaml", "nested deeper"),
    "deep lists": ("[" * 100_000, "yaml", "nested deeper"),
    "deep mappings": ("{a: " * 100_000, "yaml", "nested deeper"),
    "deep blocks": ("- " * 100_000, "yaml", "nested deeper"),
    "deep keys": ("? " * 100_000, "yaml", "nested deeper"),
    "many values": ("- 1\n" * 100_000, "yaml", "more than 50,000 values"),
    "deep json": ("[" * 100_000, "json", "nested deeper"),
    "deep json objects": ('{"a":' * 100_000, "json", "nested deeper"),
    "many quotes": ('"' + '\\"' * 400_000, "json", "it is not JSON"),
    "deep toml": ("a = " + "[" * 100_000, "toml", "nested deeper"),
    "long toml key": ("a" + ".a" * 400_000 + " = 1", "toml", "a key has more than"),
    "too large": (" " * (MAX_BYTES + 1), "yaml", "larger than 1,048,576 bytes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_refused_within_a_second(name):
    text, kind, reason = HOSTILE[name]
    started = time.perf_counter()
    assert reason in refusal(text, kind)
    assert time.perf_counter() - started < 1


# Linux keeps the peak of a process in VmHWM, and 5 resets it to what is in use (proc(5)).
MEASURE = """
import sys
from pathlib import Path
from unirms import documents
from unirms.errors import ConfigError
text, kind, extra = sys.stdin.read().split("\\x01")
documents.parse("a: 1", "yaml")
def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024
Path("/proc/self/clear_refs").write_text("5")
before = peak()
try:
    documents.parse(text, kind)
except ConfigError:
    pass
filled = b"x" * (int(extra) * 2**20)
print(peak() - before)
"""
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a process and resets it")


def mebibytes(text, kind, extra=0):
    """Return by how much a process grows when it parses a text and, besides, fills `extra` MiB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE],
        input=f"{text}\x01{kind}\x01{extra}",
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@on_linux
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_takes_little_memory(name):
    text, kind, _ = HOSTILE[name]
    assert mebibytes(text, kind) < 50


@on_linux
def test_the_largest_text_that_is_allowed_takes_little_memory():
    text = "a: [" + "1e-8, " * (MAX_VALUES - 10) + "x]"
    assert parse(text, "yaml").surprises
    assert mebibytes(text, "yaml") < 100  # the data, lines and surprises by path, and PyYAML's nodes


@on_linux
def test_the_measure_sees_sixty_mebibytes():
    assert mebibytes("a: 1", "yaml", extra=60) >= 60


def test_what_pyyaml_makes_of_the_bomb_has_five_hundred_million_values_so_the_check_can_fail():
    def values(node):
        return 1 + (sum(map(values, node)) if isinstance(node, list) else 0)

    loaded = yaml.safe_load("\n".join(BOMB.splitlines()[:4]))  # 9 ** 4 of them, enough to see the growth
    assert values(loaded["a3"]) == (9**5 - 1) // 8


def test_a_file_that_names_code_runs_none(tmp_path):
    mark = tmp_path / "mark"
    code = f"!!python/object/apply:os.system ['touch {mark}']"
    (tmp_path / "a.yaml").write_text(f"a: {code}")
    with pytest.raises(ConfigError, match="is not read"):
        documents.read(tmp_path / "a.yaml")
    assert not mark.exists()
    yaml.load((tmp_path / "a.yaml").read_text(), Loader=yaml.UnsafeLoader)
    assert mark.exists()  # what the text would have done


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.yaml", b"a: \xff", "byte 3 is not UTF-8"),
        ("a.json", '{"a": 1}'.encode("utf-16"), "byte 0 is not UTF-8"),
        ("a.yaml", b" " * (MAX_BYTES + 1), "larger than 1,048,576 bytes"),
        ("a.txt", b"a: 1", "the suffix '.txt' names no format; use one of .yaml, .yml, .json, .toml"),
        ("a", b"a: 1", "the suffix '' names no format"),
    ],
)
def test_files_are_refused_by_name(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        documents.read(path)
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)


def test_missing_files_directories_and_impossible_names_are_refused(tmp_path):
    for path, reason in (
        (tmp_path / "no.yaml", "No such file"),
        (tmp_path, "Is a directory"),
        ("a\0.yaml", "null"),
    ):
        with pytest.raises(ConfigError, match=reason):
            documents.read_text(path)


def test_unreadable_files_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.yaml"

    def refuse(self, *args, **kwargs):  # root may read everything
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError, match=r"a\.yaml: Permission denied$"):
        documents.read(path)


def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path):
    for name, content in (("a.yaml", "a: 1"), ("a.json", '{"a": 1}'), ("a.toml", "a = 1")):
        (tmp_path / name).write_bytes(content.encode("utf-8-sig"))
        assert documents.read(tmp_path / name).data == {"a": 1}


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match="'xml' is not a kind of text"):
        parse("<a/>", "xml")


def test_data_that_holds_itself_is_refused():
    loop = []
    loop += [loop, loop]
    with pytest.raises(ConfigError, match="it holds more than"):
        documents.check(loop, "the object")


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text(max_size=60) | st.text(alphabet="{}[]:,\"'-?&*!<|>%@`#\n \t.=a1e~\\", max_size=40))
def test_any_text_is_data_or_a_config_error(kind, text):
    for compiled in (reader._Loader, yaml.SafeLoader):
        previous, reader._Loader = reader._Loader, compiled
        try:
            document = parse(text, kind)
            documents.check(document.data, "it")
        except ConfigError as error:
            assert len(error.problems) == 1
        finally:
            reader._Loader = previous


@pytest.mark.parametrize("kind", KINDS)
@given(content=st.binary(max_size=40))
def test_any_bytes_are_data_or_a_config_error(tmp_path_factory, kind, content):
    path = tmp_path_factory.getbasetemp() / f"any.{kind}"
    path.write_bytes(content)
    try:
        documents.read(path)
    except ConfigError as error:
        assert str(path) in str(error)
