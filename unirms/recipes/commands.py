"""Command lines as data: the options of each command in a text. Nothing is run, and no variable is expanded."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from unirms.documents import Document
from unirms.errors import ConfigError
from unirms.literals import scalar

_OPTION: Final = re.compile(r"--?[A-Za-z]")
_QUOTED_OR_COMMENT: Final = re.compile(r"""('[^']*'?|"[^"\\]*(?:\\.[^"\\]*)*"?)|(?<!\S)#.*""")
# `2>&1`, `> train.log` and the like, which are no words of the command; a quoted name of a file stays quoted text.
_QUOTED_OR_REDIRECTION: Final = re.compile(
    r"""('[^']*'?|"[^"\\]*(?:\\.[^"\\]*)*"?)|(?<!\S)(?:\d{1,9}|&)?(?:>>|>&|>\||>|<)[ \t]{0,99}[^\s;&|()<>'"]+"""
)
_CONSTANTS: Final = {"True": True, "False": False, "None": None}
LONGEST: Final = 100_000
"""Characters of a command; shlex takes the square of a word's length, and Linux takes no word above 131,072."""
_BETWEEN_COMMANDS: Final = frozenset(";&|()")


@dataclass(frozen=True)
class Command:
    """The options of one command.

    Attributes:
        name: what to call it in a message: its file and line.
        line: the line where it begins, counted from 1.
        options: the words after each option, the last one where it is given twice; `--a=b` is `--a b`.
    """

    name: str
    line: int
    options: Mapping[str, Sequence[str]]

    def text(self, option: str) -> str | None:
        """Return the one word after an option, or None where the option is not given.

        Raises:
            ConfigError: no word, or several.
        """
        words = self.options.get(option)
        if words is not None and len(words) != 1:
            raise ConfigError([f"{self.name}: {option} takes one value (given {' '.join(words) or 'none'})"])
        return None if words is None else words[0]

    def number(self, option: str) -> float | None:
        """Return the number after an option, or None where the option is not given.

        Raises:
            ConfigError: it is no number.
        """
        word = self.text(option)
        return None if word is None else number(word, f"{self.name}: {option}")


def number(value: Any, name: str) -> Any:
    """Return text as the number that `argparse` makes of it with `type=float`, and any other value as it is.

    Raises:
        ConfigError: text that is no number; `name` is what to call it.
    """
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        raise ConfigError([f"{name}={value!r} is not a number"]) from None


def literal(word: str) -> Any:
    """Return a word as `ast.literal_eval` reads a flag, None or a number, and any other word as it is.

    `true` stays text there, which PyTorch then takes for True.
    """
    if word in _CONSTANTS:
        return _CONSTANTS[word]
    value = scalar(word)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else word


def commands(document: Document, option: str) -> tuple[Command, ...]:
    """Return the commands of a text that have an option with "rmsprop" in its value.

    Raises:
        ConfigError: quotes that are not closed, or a command that is too long.
    """
    found = (command for line, text in _lines(document) for command in _split(text, line, document.name))
    return tuple(one for one in found if any("rmsprop" in word.lower() for word in one.options.get(option, ())))


def has_command(document: Document, option: str, is_ours: Callable[[Command], bool]) -> bool:
    """Return whether a text has a command with this option and an RMSProp as its value that `is_ours` accepts."""
    wanted = rf"(?<!\S){re.escape(option)}(?:=|\s{{1,99}})['\"]?\w{{0,99}}rmsprop"
    if document.kind != "text" or re.search(wanted, document.data, re.IGNORECASE) is None:
        return False
    try:
        return any(is_ours(command) for command in commands(document, option))
    except ConfigError:  # which reading will raise again
        return True


def ours_or_all(found: Sequence[Command], is_ours: Callable[[Command], bool]) -> Sequence[Command]:
    """Return the commands that `is_ours` accepts; all of them where it accepts none, as the format was named then."""
    return [command for command in found if is_ours(command)] or found


def _lines(document: Document) -> Iterator[tuple[int, str]]:
    """Yield each line that mentions an RMSProp, with its number, its continuation lines joined to it.

    A line that begins with an option continues the one before, as in a list of arguments without a shell.
    """
    if document.kind != "text":
        return
    start = 1
    parts: list[str] = []  # joined once at the end, or a line of 500,000 parts would be copied as often
    continues = written = False  # whether the last part ended in a backslash; whether any part says something
    for position, line in enumerate(document.data.splitlines(), 1):
        text = _QUOTED_OR_COMMENT.sub(lambda found: found[1] or "", line)
        text = _QUOTED_OR_REDIRECTION.sub(lambda found: found[1] or "", text).rstrip()
        if not continues and not (written and _OPTION.match(text.lstrip())):
            yield from _mentioning(start, parts)
            start, parts, written = position, [], False
        continues = text.endswith("\\")
        parts.append(text[:-1] if continues else text)
        written = written or bool(parts[-1].strip())
    yield from _mentioning(start, parts)


def _mentioning(line: int, parts: Sequence[str]) -> Iterator[tuple[int, str]]:
    text = " ".join(parts)
    if "rmsprop" in text.lower():
        yield line, text


def _split(text: str, line: int, document: str) -> Iterator[Command]:
    name = f"{document}, line {line}"
    if len(text) > LONGEST:
        raise ConfigError([f"{name}: a command has more than {LONGEST:,} characters; keep it in a file of its own"])
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError as error:
        raise ConfigError([f"{name}: it is not a command line: {str(error).lower()}"]) from None
    options: dict[str, list[str]] = {}
    last = ""
    for word in words:
        if word and _BETWEEN_COMMANDS.issuperset(word):
            yield Command(name, line, options)
            options, last = {}, ""
        elif _OPTION.match(word):
            last, equals, value = word.partition("=")
            options[last] = [value] if equals else []
        elif last:
            options[last].append(word)
    yield Command(name, line, options)
