"""What an unknown optimizer really computes, found by giving it chosen gradients and looking at the weights.

`probes` has the gradients, `estimating` guesses a config from closed forms, `fitting` refines its numbers. On a
`case`, `investigation` leads through the stages: `starting` finds a first fit, `weighing` the readings beside it,
`checks` asks again what could refute them, and `evidence` says so; `naming` finds the dialects. All of it knows an
optimizer only as a `Runner`, a function from weights and gradients to weights. The conformance suite has the runners of
the frameworks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from unirms import registry
from unirms.errors import UnirmsError, UnsupportedError
from unirms.fingerprinting.investigation import investigate
from unirms.fingerprinting.probes import Runner
from unirms.fingerprinting.result import Finding, Fingerprint

__all__ = ["Finding", "Fingerprint", "Runner", "fingerprint", "investigate", "loaded_framework"]


def fingerprint(optimizer_factory: Callable[[Any], Any], *, framework: str | None = None) -> Fingerprint:
    """Return which axes an optimizer follows, and the dialects that behave so; or the closest, with the evidence.

    The optimizer is a black box: it is built again and again over small float32 parameters, gets gradients, and nothing
    but the weights is read. It takes a few seconds (in MindSpore some twenty).

    Args:
        optimizer_factory: gets the framework's parameters, a list as the stock class takes it, and returns a fresh
            optimizer over them; Keras optimizers are built on the parameters afterwards.
        framework: "torch", "keras", "mindspore" or "paddle", or an alias; by default the one that is imported already.

    Raises:
        UnsupportedError: the factory or a step fails, or no weight moves.
        UnknownNameError: no such framework.
        FrameworkMissingError: the framework does not load.
        UnirmsError: no framework is named, and none or several are imported.
    """
    if not callable(optimizer_factory):
        raise UnsupportedError(
            f"optimizer_factory is a {type(optimizer_factory).__name__}; give a function of parameters that returns one"
        )
    chosen = registry.framework(framework).name if framework is not None else loaded_framework()
    registry.adapter(chosen)  # says how to install what is missing
    # conformance/ is shipped as unirms.conformance but lies at the root of the project, so nothing imports it by name.
    runner: Runner = import_module("unirms.conformance.probe").runner(chosen, optimizer_factory)
    return investigate(runner, chosen)


def loaded_framework() -> str:
    """Return the one framework that this process has imported.

    Raises:
        UnirmsError: none, or several.
    """
    found = [one.name for one in registry.FRAMEWORKS.values() if one.modules[0] in sys.modules]
    if len(found) != 1:
        names = ", ".join(registry.FRAMEWORKS)
        what = f"{' and '.join(found)} are imported" if found else "no framework is imported"
        raise UnirmsError(f"{what}; name the optimizer's framework, one of {names}")
    return found[0]
