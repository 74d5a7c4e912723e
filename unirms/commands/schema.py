"""`unirms schema`: the JSON Schema of a config's file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def schema(
    file: Annotated[Path | None, typer.Argument(help="write it to this file instead of printing it")] = None,
) -> None:
    """Print the JSON Schema of a config's file, with which editors complete and check it.

    Examples:

        unirms schema

        unirms schema unirms.schema.json
    """
    import json

    from unirms.errors import ConfigError
    from unirms.schema import schema as config_schema

    text = json.dumps(config_schema(), indent=2) + "\n"
    if file is None:
        typer.echo(text, nl=False)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError([f"{str(file)!r} cannot be written: {reason}"]) from None
