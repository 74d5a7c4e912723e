"""Framework objects as data: Paddle's regularizers and clips, named without importing Paddle."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any, TypeVar

from unirms.clipping import ClipByGlobalNorm, ClipByNorm, ClipByValue
from unirms.config import RMSPropConfig
from unirms.errors import ConfigError, as_given

AnyClip = TypeVar("AnyClip", bound=ClipByValue | ClipByNorm | ClipByGlobalNorm)


class Name(str):
    """A variable of the code that a call stands in; its repr is the name alone."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class NativeCall:
    """A call of a framework's own class, as data; its repr is the code that makes the object."""

    def __init__(self, name: str, /, *args: Any, **kwargs: Any) -> None:
        self.name = name
        self.args = args
        self.kwargs = kwargs

    def __repr__(self) -> str:
        shown = [repr(arg) for arg in self.args] + [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"{self.name}({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NativeCall) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    @property
    def class_name(self) -> str:
        """The name without its module."""
        return self.name.rpartition(".")[2]


# The attributes in which Paddle's own objects keep the arguments they were made with (2.x and 3.x, fluid 1.8).
_KEPT_IN = {
    "L1Decay": ("_coeff", "_regularization_coeff"),
    "L1DecayRegularizer": ("_regularization_coeff", "_coeff"),
    "L2Decay": ("_coeff", "_regularization_coeff"),
    "L2DecayRegularizer": ("_regularization_coeff", "_coeff"),
    "ClipGradByValue": ("max", "min"),
    "ClipGradByNorm": ("clip_norm",),
    "ClipGradByGlobalNorm": ("clip_norm",),
    "GradientClipByValue": ("max", "min"),
    "GradientClipByNorm": ("clip_norm",),
    "GradientClipByGlobalNorm": ("clip_norm",),
}
_COEFFICIENT = ("coeff", "regularization_coeff")
_MODES = {"L2Decay": "l2", "L1Decay": "l1"}
_BOTH_LIMITS = {"ClipGradByValue", "GradientClipByValue"}


def as_call(value: Any) -> NativeCall:
    """Return a framework object, a `NativeCall`, or `{"ClassName": argument}` as a `NativeCall`.

    Raises:
        ConfigError: an object that unirms cannot read.
    """
    if isinstance(value, NativeCall):
        return value
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, argument),) = value.items()
        return NativeCall(str(name), argument)
    name = type(value).__name__
    kept = [getattr(value, attribute) for attribute in _KEPT_IN.get(name, ()) if hasattr(value, attribute)]
    if not kept:
        raise ConfigError([f"{as_given(value)} is not a regularizer or clip that unirms can read; it reads {_known()}"])
    return NativeCall(name, *(kept if name in _BOTH_LIMITS else kept[:1]))


def read_regularizer(value: Any) -> dict[str, Any]:
    """Return the config fields of Paddle's `weight_decay` or `regularization`: None, a number, L2 or L1 object."""
    if value is None:
        return {"weight_decay": 0.0, "weight_decay_mode": "l2"}
    if isinstance(value, (int, float)):
        return {"weight_decay": value, "weight_decay_mode": "l2"}
    call = as_call(value)
    mode = _MODES.get(call.class_name.removesuffix("Regularizer"))
    if mode is None:
        raise ConfigError([f"{call} cannot be read: unirms states L2 and L1 decay; use L2Decay or L1Decay"])
    foreign = next((name for name in call.kwargs if name not in _COEFFICIENT), None)
    if foreign is not None:
        raise ConfigError([f"{call} cannot be read: {call.class_name} has no argument {foreign}; write coeff"])
    coefficient = _argument(call, *_COEFFICIENT, default=0.0)
    return {"weight_decay": coefficient, "weight_decay_mode": mode}


def write_regularizer(config: RMSPropConfig, prefix: str) -> NativeCall | None:
    """Return the weight decay as a call, `prefix` being all of the name before L2Decay; None for none.

    Decoupled decay, which Paddle has no object for, is written as L2.
    """
    if config.weight_decay == 0:
        return None
    kind = "L1Decay" if config.weight_decay_mode == "l1" else "L2Decay"
    suffix = "Regularizer" if "fluid" in prefix else ""
    return NativeCall(f"{prefix}{kind}{suffix}", config.weight_decay)


def read_clip(value: Any) -> dict[str, Any]:
    """Return the config's `clip` for Paddle's `grad_clip`."""
    if value is None:
        return {"clip": ()}
    call = as_call(value)
    if call.class_name in _BOTH_LIMITS:
        clip = clip_to(ClipByValue, "limit", "max", _argument(call, "max"))
        lower = call.args[1] if len(call.args) > 1 else call.kwargs.get("min")
        if lower is not None and not (isinstance(lower, Real) and lower == -clip.limit):
            raise ConfigError([f"{call} cannot be read: unirms clips by value to [-limit, limit]"])
        return {"clip": (clip,)}
    if call.class_name in {"ClipGradByNorm", "GradientClipByNorm"}:
        return {"clip": (clip_to(ClipByNorm, "max_norm", "clip_norm", _argument(call, "clip_norm")),)}
    if call.class_name in {"ClipGradByGlobalNorm", "GradientClipByGlobalNorm"}:
        return {"clip": (clip_to(ClipByGlobalNorm, "max_norm", "clip_norm", _argument(call, "clip_norm")),)}
    raise ConfigError([f"{call} is not a clip that unirms can read; it reads {_known()}"])


def clip_to(kind: type[AnyClip], limit: str, native: str, value: Any) -> AnyClip:
    """Return a clip of that kind; `native` is what the class calls its limit.

    Raises:
        ConfigError: a limit that is not a finite number > 0.
    """
    try:
        return kind(**{limit: value})
    except ConfigError:
        raise ConfigError(
            [f"{native}={as_given(value)} is not allowed; {native} must be a finite number > 0"]
        ) from None


def write_clip(config: RMSPropConfig, prefix: str) -> NativeCall | None:
    """Return the config's clip as a call, `prefix` being all of its name up to ByValue, ByNorm or ByGlobalNorm.

    None stands for no clip, and for two in a row, which Paddle has no object for.
    """
    if len(config.clip) != 1:
        return None
    clip = config.clip[0]
    if isinstance(clip, ClipByValue):
        return NativeCall(f"{prefix}ByValue", clip.limit)
    kind = "ByNorm" if isinstance(clip, ClipByNorm) else "ByGlobalNorm"
    return NativeCall(f"{prefix}{kind}", clip.max_norm)


def _argument(call: NativeCall, *names: str, default: Any = None) -> Any:
    """Return the first argument of a call, given by position or under one of `names`."""
    if call.args:
        return call.args[0]
    found = next((call.kwargs[name] for name in names if name in call.kwargs), default)
    if found is None:
        raise ConfigError([f"{call} needs {names[0]}=…"])
    return found


def _known() -> str:
    return ", ".join(_KEPT_IN)
