"""The one place that lists the frameworks unirms builds optimizers for: names, modules, packages, adapters."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from unirms import dialects
from unirms.errors import ForeignOptimizerError, FrameworkMissingError, UnknownNameError, did_you_mean

if TYPE_CHECKING:
    from unirms.protocol import Adapter


@dataclass(frozen=True)
class Framework:
    """One framework.

    Attributes:
        name: the name of the framework, of its adapter and of the dialect of its stock class.
        title: its name in prose.
        modules: the modules to import; the first is the framework itself.
        packages: the distributions whose versions identify an installation.
        extra: the extra of unirms that installs it.
        environment: variables that keep its logs quiet, set in worker processes.
        output_last: whether the kernel of a convolution has its outputs on the last axis (*window, in, out), and not
            on the first (out, in, *window).
    """

    name: str
    title: str
    modules: tuple[str, ...]
    packages: tuple[str, ...]
    extra: str
    environment: tuple[tuple[str, str], ...] = ()
    output_last: bool = False

    @property
    def pip(self) -> str:
        """The command that installs it."""
        return f'pip install "unirms[{self.extra}]"'


FRAMEWORKS: dict[str, Framework] = {
    framework.name: framework
    for framework in (
        Framework("torch", "PyTorch", ("torch",), ("torch",), "torch"),
        Framework(
            "keras",
            "TensorFlow/Keras",
            ("keras", "tensorflow"),
            ("keras", "tensorflow", "tensorflow-cpu"),
            "tensorflow",
            (("KERAS_BACKEND", "tensorflow"), ("TF_CPP_MIN_LOG_LEVEL", "3"), ("TF_ENABLE_ONEDNN_OPTS", "0")),
            output_last=True,
        ),
        Framework("mindspore", "MindSpore", ("mindspore",), ("mindspore",), "mindspore", (("GLOG_v", "3"),)),
        Framework(
            "paddle",
            "PaddlePaddle",
            ("paddle",),
            ("paddlepaddle", "paddlepaddle-gpu"),
            "paddle",
            # In Paddle GLOG_v is a verbosity, not a severity: 3 printed 186,000 lines in a small script.
            (("GLOG_minloglevel", "2"),),
        ),
    )
}


def framework(name: str) -> Framework:
    """Return the framework of that name; the aliases of its dialect work too.

    Raises:
        UnknownNameError: no such framework, or a dialect that has no adapter.
    """
    wanted = str(name).lower()
    for candidate in FRAMEWORKS.values():
        if wanted == candidate.name or wanted in dialects.get(candidate.name).aliases:
            return candidate
    right = did_you_mean(wanted, FRAMEWORKS)
    raise UnknownNameError(f"{name!r} is not a framework that unirms builds optimizers for; {right}")


def adapter(name: str) -> Adapter:
    """Return the adapter of a framework, loading the framework.

    Raises:
        UnknownNameError: no such framework.
        FrameworkMissingError: it is not installed, or does not load.
    """
    wanted = framework(name)
    try:
        loaded: Adapter = import_module(f"unirms.adapters.{wanted.name}").ADAPTER
    except ImportError as error:
        raise FrameworkMissingError(
            f"{wanted.title} does not load here ({error}); install it with: {wanted.pip}"
        ) from error
    return loaded


def adapter_of(optimizer: Any) -> Adapter:
    """Return the adapter that knows this optimizer; a framework that nobody has imported is never loaded for it.

    Raises:
        ForeignOptimizerError: not an RMSProp, stock or exact, of any framework.
    """
    for name in _frameworks_behind(optimizer):
        candidate = adapter(name)
        if candidate.owns(optimizer):
            return candidate
    kind = f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"
    stock = ", ".join(dialects.get(name).target for name in FRAMEWORKS)
    inside = f"; give its .{name}" if (name := _within(optimizer)) else ""
    raise ForeignOptimizerError(
        f"{kind} is not an RMSProp that unirms can read; it reads {stock} and what it builds{inside}"
    )


def _within(wrapper: Any) -> str:
    """Return the attribute of a wrapper, as Keras's LossScaleOptimizer, that is an RMSProp; "" if none is."""
    held = getattr(wrapper, "__dict__", {})
    found = (
        name
        for name, value in held.items()
        for framework in _frameworks_behind(value)
        if not name.startswith("_") and adapter(framework).owns(value)
    )
    return next(found, "")


def adapters_behind(thing: Any) -> Iterator[Adapter]:
    """Yield the adapters of the frameworks whose classes are behind an object: a model, a parameter, a list of them."""
    if isinstance(thing, (list, tuple)) and thing:
        thing = thing[0][-1] if isinstance(thing[0], tuple) else thing[0]
    for name in _frameworks_behind(thing):
        yield adapter(name)


def _frameworks_behind(optimizer: Any) -> Iterator[str]:
    roots = {base.__module__.partition(".")[0] for base in type(optimizer).__mro__}
    for candidate in FRAMEWORKS.values():
        if roots & set(candidate.modules) and sys.modules.keys() & set(candidate.modules):
            yield candidate.name
