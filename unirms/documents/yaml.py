"""YAML: version 1.2 in its scalars, no tags, and measured on its events before anything is built.

Depth is counted there, and values with aliases and merge keys written out, so that neither can exhaust memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import yaml

from unirms.documents.base import MAX_DEPTH, MAX_DIGITS, MAX_VALUES, Document, KeyPath, refuse
from unirms.errors import ConfigError

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = _TAG + "merge"
_FLOAT_TAG: Final = _TAG + "float"

# The core schema of YAML 1.2.2, section 10.3.2.
_WORDS: Final[dict[str, Any]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_INTEGER: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)


def parse(text: str, name: str) -> Document:
    """Return a YAML text as data; `name` stands for it in messages.

    Raises:
        ConfigError: the text is not YAML, or exceeds a limit.
    """
    try:
        _measure(yaml.parse(text, Loader=_Loader), name)
        root = yaml.compose(text, Loader=_Loader)
    except ConfigError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        refuse(name, f"it is not YAML: {reason}", mark.line + 1 if mark else None)
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the last two: an escape beyond Unicode
        refuse(name, "it is not YAML: " + " ".join(str(error).split()))
    builder = _Builder(name)
    data = None if root is None else builder.build(root, ())
    return Document(data, "yaml", name, builder.lines, builder.surprises)


def _measure(events: Iterator[Any], name: str) -> None:
    """Refuse a stream of YAML events that holds too much, tags, or several documents; nothing is built."""
    sizes: dict[str, int] = {}  # of the values that have an anchor, once they are complete
    open_ones: list[tuple[int, str | None]] = [(0, None)]
    documents = 0
    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                refuse(name, "it holds several documents; unirms reads one", line)
        elif isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)):
            _check_tag(event, name, line)
            open_ones.append((1, event.anchor))
        closed = 0
        if isinstance(event, (yaml.ScalarEvent, yaml.CollectionEndEvent)):
            closed, anchor = open_ones.pop()
            if anchor is not None:
                sizes[anchor] = closed
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                refuse(name, f"*{event.anchor} has no complete &{event.anchor} before it", line)
            closed = sizes[event.anchor]
        values, anchor = open_ones[-1]
        open_ones[-1] = (values + closed, anchor)
        if values + closed > MAX_VALUES:
            refuse(name, f"it holds more than {MAX_VALUES:,} values once its aliases are written out", line)
        if len(open_ones) > MAX_DEPTH:
            refuse(name, f"it is nested deeper than {MAX_DEPTH}", line)


def _check_tag(event: Any, name: str, line: int) -> None:
    if event.tag is None:
        return
    if event.tag == _FLOAT_TAG and isinstance(event, yaml.ScalarEvent):  # what `!!float 1e-8` is written for
        if isinstance(scalar(event.value), (int, float)) and not isinstance(scalar(event.value), bool):
            return
        refuse(name, f"{event.value!r} is not a number", line)
    tag = event.tag.replace(_TAG, "!!")
    refuse(name, f"the tag {tag} is not read; write the value without it", line)


class _Builder:
    """Builds data from PyYAML's nodes, with the lines and the surprises by path."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[KeyPath, int] = {}
        self.surprises: dict[KeyPath, tuple[Any, Any]] = {}

    def build(self, node: Any, path: KeyPath) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        return self._scalar(node, path)

    def _mapping(self, node: Any, path: KeyPath) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, (line, value_node) in self._pairs(node).items():
            inner = (*path, key)
            self.lines[inner] = line
            data[key] = self.build(value_node, inner)
        return data

    def _pairs(self, node: Any) -> dict[str, tuple[int, Any]]:
        """Return the line and the value of every key; what is written here wins, then the mapping merged first."""
        pairs: dict[str, tuple[int, Any]] = {}
        merges: list[Any] = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                refuse(self.name, "a list or mapping as a key is not read; use a word", line)
            if key_node.tag == _MERGE:
                merges += self._merged(value_node)
            elif key_node.value in pairs:
                first = pairs[key_node.value][0]
                refuse(self.name, f"{key_node.value!r} is given twice (first in line {first})", line)
            else:
                pairs[key_node.value] = (line, value_node)
        for merged in merges:
            pairs = {**self._pairs(merged), **pairs}
        return pairs

    def _merged(self, node: Any) -> list[Any]:
        found = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not all(isinstance(item, yaml.MappingNode) for item in found):
            refuse(self.name, "<< takes a mapping or a list of mappings", node.start_mark.line + 1)
        return list(found)

    def _scalar(self, node: Any, path: KeyPath) -> Any:
        if node.style and node.tag != _FLOAT_TAG:  # quoted, or a block of text
            return node.value
        if len(node.value) > MAX_DIGITS:
            if _INTEGER.fullmatch(node.value):
                refuse(self.name, f"an integer has more than {MAX_DIGITS} digits", node.start_mark.line + 1)
            return node.value
        value, older = scalar(node.value), _older(node)
        if repr(value) != repr(older):
            self.surprises[path] = (value, older)
        return float(value) if node.tag == _FLOAT_TAG and isinstance(value, int) else value


def scalar(text: str) -> Any:
    """Return what a plain scalar of YAML 1.2 stands for: None, a bool, an int, a float, or the text itself."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    return float(text) if _FLOAT.fullmatch(text) else text


def _older(node: Any) -> Any:
    """Return what PyYAML's own loader, a YAML 1.1 reader, makes of a scalar."""
    construct = yaml.SafeLoader.yaml_constructors.get(node.tag)
    try:
        return node.value if construct is None else construct(_CONSTRUCTOR, node)
    except (ValueError, OverflowError, yaml.YAMLError):  # a date such as 2001-99-99, which stops PyYAML
        return node.value


_CONSTRUCTOR: Final = yaml.constructor.SafeConstructor()
