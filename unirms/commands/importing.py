"""What `package.module:name` on the command line names: imported in this process, with every failure in one line."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

from unirms.errors import UnsupportedError


def imported(target: str, *, example: str) -> Any:
    """Return what `package.module:name` names; the current folder is searched too, as by `python -m`.

    Raises:
        UnsupportedError: it is no such name, or the module cannot be imported, or has nothing of that name.
    """
    path, colon, name = target.partition(":")
    if not (path and colon and name):
        raise UnsupportedError(f"{target!r} is not MODULE:NAME; write for example {example}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = import_module(path)
    except (Exception, SystemExit) as error:  # whatever the module does while it is imported: a script may end there
        raise UnsupportedError(f"{path} cannot be imported: {first_line(error)}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise UnsupportedError(f"{path} has no {name}; is it spelt right, letter case included?")
        found = getattr(found, part)
    return found


def first_line(error: BaseException) -> str:
    """Return the kind of an error and the first line of its message."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), 'no message')}"


def quieten(framework: str) -> None:
    """Set the variables that keep a framework's logs quiet; they are read when it is loaded.

    Raises:
        UnknownNameError: no such framework.
    """
    from unirms import registry

    for name, value in registry.framework(framework).environment:
        os.environ.setdefault(name, value)
