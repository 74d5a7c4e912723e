"""The errors of unirms.

::

    UnirmsError
    ├── ConfigError                 a value or a name that no config accepts
    ├── UnknownNameError            a dialect or framework that unirms does not know
    ├── UnrepresentableError        a config that the stock class cannot say (policy="stock")
    ├── UnsupportedError            something that the framework, or this version of unirms, cannot do
    ├── FrameworkMissingError       the framework is not installed, or does not load
    ├── ForeignOptimizerError       an object that no adapter recognises
    ├── NonFiniteGradientError      a gradient with an infinity or a NaN, under non_finite="raise"
    ├── StateError                  a state that does not fit the optimizer, or cannot be one
    └── CheckpointError             a file that is damaged, foreign or refused, or cannot be written

    FidelityWarning                 policy="nearest" built something that is not the config; a state moved to one
    PrecisionWarning                a state was rounded on its way into another dtype
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from unirms.semantics import Difference


LONGEST: Final = 200
"""Characters of a value in a message."""
LONGEST_MESSAGE: Final = 2000
"""Characters of a message about a file: what it quotes of the file may be as long as its author liked."""


def as_given(value: Any, longest: int = LONGEST) -> str:
    """Return a value for a message: its repr, or the first `longest` characters of it."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of more digits than Python prints, a nest too deep to print
        return f"a value of type {type(value).__name__} too large to show"
    return text if len(text) <= longest else f"{text[:longest]}…"


def plain(text: str, longest: int) -> str:
    """Return a text for a message: one line, with control characters as escapes, and not too long."""
    line = one_line(text[:longest])  # cut first: escapes are only longer
    return line if len(line) <= longest and len(text) <= longest else f"{line[:longest]}…"


def one_line(text: str) -> str:
    """Return a text as one line that a terminal shows as it is: control characters as escapes."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def some(names: Sequence[str], most: int = 5, show: Callable[[str], str] = as_given) -> str:
    """Return names for a message: the first `most` of them, each as `show` gives it, and how many more there are."""
    shown = ", ".join(map(show, names[:most]))
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def did_you_mean(given: str, known: Iterable[str], otherwise: str = "they are") -> str:
    """Return what to write instead of a name: the known name that is like it, or all of them after `otherwise`."""
    names = list(known)
    close = get_close_matches(given, names, n=1)
    return f"did you mean {close[0]}?" if close else f"{otherwise} {', '.join(names)}"


class UnirmsError(Exception):
    """The root of all errors that unirms raises on purpose."""


class ConfigError(UnirmsError, ValueError):
    """A value or a name that no config accepts; `problems` has one sentence for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[str, ...]]]:
        return type(self), (self.problems,)


class UnknownNameError(UnirmsError, LookupError):
    """A dialect or framework that unirms does not know."""


class UnrepresentableError(UnirmsError):
    """The stock class cannot say the config; `differences` says where they part."""

    def __init__(self, target: str, differences: Sequence[Difference]) -> None:
        self.target = target
        self.differences = tuple(differences)
        reasons = "; ".join(str(difference) for difference in self.differences)
        super().__init__(
            f"{target} cannot compute this config: {reasons}. "
            'Use policy="exact" for an optimizer that does, or policy="nearest" to accept the differences.'
        )

    def __reduce__(self) -> tuple[type[UnrepresentableError], tuple[str, tuple[Difference, ...]]]:
        return type(self), (self.target, self.differences)


class UnsupportedError(UnirmsError):
    """Something that the framework, or this version of unirms, cannot do; the message says which and what to do."""


class FrameworkMissingError(UnirmsError, ImportError):
    """The framework is not installed, or does not load; the message has the pip command."""


class ForeignOptimizerError(UnirmsError, TypeError):
    """An object that no adapter recognises as an RMSProp of its framework."""


class NonFiniteGradientError(UnirmsError, FloatingPointError):
    """A gradient has an infinity or a NaN, and the config says `non_finite="raise"`; nothing has been updated."""


class StateError(UnirmsError, ValueError):
    """A state that does not fit an optimizer, or cannot be one; `problems` has one sentence for each reason."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))

    def __reduce__(self) -> tuple[type[StateError], tuple[tuple[str, ...]]]:
        return type(self), (self.problems,)


class CheckpointError(UnirmsError):
    """A file that is damaged, foreign or refused, or cannot be written; nothing in it has been executed.

    The message is one line that a terminal shows as it is, whatever the file and its name have in them.
    """

    def __init__(self, message: str) -> None:
        super().__init__(plain(message, LONGEST_MESSAGE))


class FidelityWarning(UserWarning):
    """An optimizer differs from the config it was built from, or restored from; the message names the differences."""


class PrecisionWarning(UserWarning):
    """A state was rounded on its way into another dtype; the message names the tensors."""
