"""The option `--python NAME=INTERPRETER`: the Python of a framework, where it is not the one that runs the command."""

from __future__ import annotations

from collections.abc import Iterable


def interpreters(pairs: Iterable[str]) -> dict[str, str]:
    """Return framework -> interpreter of such pairs.

    Raises:
        ConfigError: a pair that is none.
        UnknownNameError: no such framework.
    """
    from unirms.errors import ConfigError
    from unirms.registry import FRAMEWORKS, framework

    found = {}
    for pair in pairs:
        name, equals, interpreter = pair.partition("=")
        if not equals or not interpreter:
            example = f"{next(iter(FRAMEWORKS))}=env/bin/python"
            raise ConfigError([f"--python {pair} is not allowed; write --python NAME=INTERPRETER, as in {example}"])
        found[framework(name).name] = interpreter
    return found
