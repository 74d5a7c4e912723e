"""Runs an optimizer that somebody else makes, as a black box: gradients in, weights out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from unirms.errors import UnirmsError, UnsupportedError

from .drivers import Array, Arrays, driver

Runner = Callable[[Arrays, Sequence[Arrays], "Sequence[float] | None"], list[dict[str, Array]]]


def runner(framework: str, factory: Callable[[Any], Any]) -> Runner:
    """Return what `unirms.fingerprinting` asks for: a function that runs a fresh optimizer of `factory`.

    Raises:
        FrameworkMissingError: the framework does not load.
        UnsupportedError: from the function: the factory or a step fails, or a learning rate cannot be set.
    """
    runs = driver(framework)

    def run(initial: Arrays, gradients: Sequence[Arrays], rates: Sequence[float] | None) -> list[dict[str, Array]]:
        started = _guarded("making the optimizer", partial(runs.foreign, factory, initial))
        seen = []
        for index, gradient in enumerate(gradients):
            if rates is not None:
                _guarded("setting its learning rate", partial(started.set_rate, rates[index]))
            _guarded("its step", partial(started.step, gradient))
            seen.append(started.weights())
        return seen

    return run


def constructor(framework: str, target: Callable[..., Any], settings: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Return a factory that calls a class of optimizers as this framework's are called, with these settings."""
    runs = driver(framework)
    return lambda params: runs.construct(target, params, settings)


def _guarded(what: str, action: Callable[[], Any]) -> Any:
    """Return what an action returns; whatever else's code raises becomes one sentence."""
    try:
        return action()
    except UnirmsError:
        raise
    except (Exception, SystemExit) as error:  # a script may end its process
        lines = str(error).strip().splitlines()
        reason = next((line.strip() for line in lines if line.strip(" -")), "no message")
        raise UnsupportedError(f"{what} fails: {type(error).__name__}: {reason}") from error
