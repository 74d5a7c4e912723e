"""Pickles read as data: what a hostile one could do to the process that reads it."""

import io
import mmap
import pickle
from collections import OrderedDict

import pytest

from unirms.adapters.checkpoints import pickles
from unirms.errors import CheckpointError

KNOWN = {"collections.OrderedDict": OrderedDict}


def mapped(data, tmp_path):
    path = tmp_path / "pickle"
    path.write_bytes(data)
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def refused(data, message):
    with pytest.raises(CheckpointError, match=message) as error:
        pickles.load(data, KNOWN, "it")
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_and_ordered_dictionaries_are_read(protocol):
    data = {"a": [1, 2.5, None, True], "b": OrderedDict(x=1, y=(2, b"3")), 4: {"c"}, (1, "k"): 2**63, -(2**63): 0}
    if protocol < 4:
        data.update({4: "a set is a call", "b": OrderedDict(x=1, y=2)})  # and bytes are one, too
    assert pickles.load(pickle.dumps(data, protocol), KNOWN, "it") == data


def test_an_ordered_dictionary_of_python_2_is_read():
    found = pickles.load(b"\x80\x02ccollections\nOrderedDict\n](](U\x01aK\x01e](U\x01bK\x02ee\x85R.", KNOWN, "it")
    assert found == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (b"](](" + b")" + b"\x85" * 1_000_000 + b"K\x01ee\x85", "a key is a nest of tuples"),
        (b"](](]K\x01ee\x85", "unhashable"),
        (b"](](K\x01ee\x85", "cannot be read"),
        (b"]]\x86", "cannot be read"),
        (b"}\x85", "of what is no list"),
        (b"ccollections\nOrderedDict\n\x85", "of what is no list"),
    ],
)
def test_an_ordered_dictionary_of_anything_else_is_refused(argument, message):
    """To hash a deep nest of tuples would end the process."""
    refused(b"\x80\x02ccollections\nOrderedDict\n" + argument + b"R.", message)


@pytest.mark.parametrize("key", ["K\x01%s\x86", "%s"])
def test_integers_of_one_hash_are_no_keys(key):
    """A dictionary of a million of them takes hours: their hashes are all the same."""
    number = pickle.LONG1 + b"\x0a" + pickle.encode_long(5 * (2**61 - 1) << 9).ljust(10, b"\0")
    before, _, after = key.encode("latin1").partition(b"%s")
    refused(b"\x80\x02}" + before + number + after + b"Ns.", "integer of more than 64 bits")
    refused(b"\x80\x04\x8f(" + before + number + after + b"\x90.", "integer of more than 64 bits")


def test_a_pickle_is_read_to_its_end_and_no_further(tmp_path):
    view = mapped(b"start" + pickle.dumps([1], 2) + pickle.dumps({"a": 2}, 0) + b"end", tmp_path)
    view.seek(5)
    assert pickles.load(view, KNOWN, "it") == [1]
    assert pickles.load(view, KNOWN, "it") == {"a": 2}
    assert view.read() == b"end"
    view.close()


@pytest.mark.parametrize("kind", ["bytes", "mapped"])
def test_no_more_bytes_are_read_than_a_pickle_can_need(kind, monkeypatch, tmp_path):
    def given(data):
        return data if kind == "bytes" else mapped(data, tmp_path)

    monkeypatch.setattr(pickles, "MOST_BYTES", 1000)
    text = pickle.dumps(["a" * 500], 2)
    assert pickles.load(given(text), KNOWN, "it") == ["a" * 500]
    refused(given(pickle.dumps(["a" * 1000], 2)), "more than 1000 bytes")
    refused(given(pickle.dumps(["a" * 600, "b" * 600], 2)), "more than 1000 bytes")
    refused(given(b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little") + b"."), "more than 1000 bytes")
    monkeypatch.setattr(pickles, "MOST_BYTES", 1 << 20)
    refused(given(b"c" + b"x" * (1 << 17) + b"\n."), "a line of it has no end")
    refused(given(b"c" + b"x" * 10), "a line of it has no end")


def test_what_ends_too_early_is_refused():
    whole = pickle.dumps({"a": [1, 2.5, "text"], "b": OrderedDict(x=1)}, 2)
    for length in range(len(whole)):
        refused(whole[:length], "cannot be read")
    assert pickles.load(whole + b"more", KNOWN, "it") == pickle.load(io.BytesIO(whole))
