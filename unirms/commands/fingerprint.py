"""The command `unirms fingerprint`."""

from __future__ import annotations

import json as jsons
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from unirms import terminal
from unirms.errors import UnsupportedError

if TYPE_CHECKING:
    from unirms.fingerprinting import Fingerprint


def fingerprint(
    target: Annotated[str, typer.Argument(metavar="MODULE:CLASS", help="the optimizer's class, which is imported")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=VALUE...", help="arguments of its constructor")
    ] = None,
    framework: Annotated[
        str | None, typer.Option(help="torch, keras, mindspore or paddle; by default the one that MODULE imports")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="print everything as JSON")] = False,
) -> None:
    """Find out what an optimizer computes, by giving it gradients, and which dialects compute the same.

    The class is imported and called, in this process: name none that you do not trust. Exit code 1 means that no
    dialect fits.

    Examples:

        unirms fingerprint torch.optim:RMSprop momentum=0.9 centered=true

        unirms fingerprint tensorflow.compat.v1.train:RMSPropOptimizer --framework keras learning_rate=0.01

        unirms fingerprint mypackage.optimizers:MyRMSProp --framework mindspore --json
    """
    from importlib import import_module

    from unirms import fingerprinting, registry
    from unirms.commands.importing import quieten
    from unirms.literals import assignments

    values = assignments(settings or [])
    if framework is not None:
        quieten(framework)
        registry.adapter(framework)
    with redirect_stdout(sys.stderr):  # what the optimizer prints is no part of the result, and no JSON
        made = _constructor(target)
        name = registry.framework(framework).name if framework is not None else fingerprinting.loaded_framework()
        # conformance/ is shipped as unirms.conformance but lies at the root of the project, so nothing imports it by
        # name.
        factory = import_module("unirms.conformance.probe").constructor(name, made, values)
        found = fingerprinting.fingerprint(factory, framework=name)
    if json:
        typer.echo(jsons.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    else:
        _show(found)
    if not found.dialects:
        raise typer.Exit(1)


def _constructor(target: str) -> Callable[..., Any]:
    """Return the class, or whatever makes optimizers, that `package.module:Class` names."""
    from unirms.commands.importing import imported

    found: Callable[..., Any] = imported(target, example="torch.optim:RMSprop")
    if not callable(found):
        raise UnsupportedError(f"{target} is a {type(found).__name__}, which cannot be called to make an optimizer")
    return found


def _show(found: Fingerprint) -> None:
    from unirms import dialects
    from unirms.dialects.calls import NativeCall

    console = terminal.console()
    if any(finding.shown for finding in found.axes.values()):
        table = Table()
        for column in ("axis", "value", "evidence"):
            table.add_column(column)
        for name, finding in found.axes.items():
            table.add_row(name, str(finding), finding.evidence)
        terminal.show(table, console)
        console.print()
    console.print(str(found), soft_wrap=True)
    for name, settings in found.settings.items():
        console.print(f"  {NativeCall(dialects.get(name).target, **settings)!r}", soft_wrap=True, highlight=False)
    for sentence in found.evidence:
        console.print(f"- {sentence}", soft_wrap=True)
