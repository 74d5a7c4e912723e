"""The thirteen dialects, a file each, and how to find one by name.

A new dialect is a new file with a `DIALECT` and a line in `_FILES`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

from unirms.dialects.base import Dialect
from unirms.errors import UnknownNameError, did_you_mean

_FILES = (
    "torch",
    "keras",
    "keras_legacy",
    "tf1",
    "mindspore",
    "mindspore_experimental",
    "paddle",
    "paddle_fluid",
    "timm",
    "sb3",
    "pfrl",
    "optax",
    "mlx",
)
# Symbols that papers and documentations use for several fields.
_SYMBOLS = {
    "beta": ("momentum", "rho"),
    "mu": ("momentum",),
    "gamma": ("rho", "learning_rate"),
    "eta": ("learning_rate",),
}


@cache
def all_dialects() -> dict[str, Dialect]:
    """Return every dialect by its name, in the order of the documentation."""
    found = (import_module(f"unirms.dialects.{file}").DIALECT for file in _FILES)
    return {dialect.name: dialect for dialect in found}


def get(name: str) -> Dialect:
    """Return the dialect of that name or alias; letter case does not matter.

    Raises:
        UnknownNameError: no such dialect.
    """
    wanted = str(name).lower()
    for dialect in all_dialects().values():
        if wanted == dialect.name or wanted in dialect.aliases:
            return dialect
    raise UnknownNameError(f"{name!r} is not a dialect that unirms knows; {did_you_mean(wanted, all_dialects())}")


def of_target(path: str) -> Dialect:
    """Return the dialect of a class by its import path; letter case does not matter here.

    Raises:
        UnknownNameError: no RMSProp that unirms knows.
    """
    wanted = str(path).strip().lower()
    for dialect in all_dialects().values():
        if any(wanted == known.lower() for known in (dialect.target, *dialect.spellings)):
            return dialect
    paths = [dialect.target for dialect in all_dialects().values()]
    raise UnknownNameError(f"{path!r} is not an RMSProp that unirms knows; {did_you_mean(str(path), paths)}")


def fields_called(name: str) -> list[str]:
    """Return the config fields that any dialect (or a paper's symbol) calls by this name."""
    arguments = (dialect.argument(name) for dialect in all_dialects().values())
    found = [config_field for argument in arguments if argument is not None for config_field in argument.fields]
    return list(dict.fromkeys([*found, *_SYMBOLS.get(name, ())]))
