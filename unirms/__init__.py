"""One RMSProp, every framework.

State an optimizer once as an `RMSPropConfig`; `build` it as a real optimizer of PyTorch, TensorFlow/Keras, MindSpore or
PaddlePaddle; read a live one back with `config_of`. Importing unirms imports no framework.

The names below are loaded when they are first used (PEP 562): building pydantic's models takes longer than importing
NumPy and pydantic together, and a program that only asks for the version should not pay for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unirms import reference as reference
    from unirms import schedules as schedules
    from unirms.building import averaged as averaged
    from unirms.building import build as build
    from unirms.building import config_of as config_of
    from unirms.building import lr_scheduler as lr_scheduler
    from unirms.building import restore as restore
    from unirms.building import state_of as state_of
    from unirms.clipping import ClipByGlobalNorm as ClipByGlobalNorm
    from unirms.clipping import ClipByNorm as ClipByNorm
    from unirms.clipping import ClipByValue as ClipByValue
    from unirms.config import ParameterGroup as ParameterGroup
    from unirms.config import RMSPropConfig as RMSPropConfig
    from unirms.dialects.calls import NativeCall as NativeCall
    from unirms.errors import CheckpointError as CheckpointError
    from unirms.errors import ConfigError as ConfigError
    from unirms.errors import FidelityWarning as FidelityWarning
    from unirms.errors import ForeignOptimizerError as ForeignOptimizerError
    from unirms.errors import FrameworkMissingError as FrameworkMissingError
    from unirms.errors import NonFiniteGradientError as NonFiniteGradientError
    from unirms.errors import PrecisionWarning as PrecisionWarning
    from unirms.errors import StateError as StateError
    from unirms.errors import UnirmsError as UnirmsError
    from unirms.errors import UnknownNameError as UnknownNameError
    from unirms.errors import UnrepresentableError as UnrepresentableError
    from unirms.errors import UnsupportedError as UnsupportedError
    from unirms.fingerprinting import Fingerprint as Fingerprint
    from unirms.fingerprinting import fingerprint as fingerprint
    from unirms.moving.maps import ParameterMap as ParameterMap
    from unirms.moving.matching import match as match
    from unirms.semantics import Difference as Difference
    from unirms.semantics import Fidelity as Fidelity
    from unirms.state import OptimizerState as OptimizerState
    from unirms.state import SparseGradient as SparseGradient
    from unirms.translation import Native as Native
    from unirms.translation import Translation as Translation
    from unirms.translation import translate as translate

__version__ = "0.1.0"

_HOME = {
    "building": ("averaged", "build", "config_of", "lr_scheduler", "restore", "state_of"),
    "clipping": ("ClipByGlobalNorm", "ClipByNorm", "ClipByValue"),
    "config": ("ParameterGroup", "RMSPropConfig"),
    "dialects.calls": ("NativeCall",),
    "errors": (
        "CheckpointError",
        "ConfigError",
        "FidelityWarning",
        "ForeignOptimizerError",
        "FrameworkMissingError",
        "NonFiniteGradientError",
        "PrecisionWarning",
        "StateError",
        "UnirmsError",
        "UnknownNameError",
        "UnrepresentableError",
        "UnsupportedError",
    ),
    "fingerprinting": ("Fingerprint", "fingerprint"),
    "moving.maps": ("ParameterMap",),
    "moving.matching": ("match",),
    "semantics": ("Difference", "Fidelity"),
    "state": ("OptimizerState", "SparseGradient"),
    "translation": ("Native", "Translation", "translate"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

_MODULES = ("reference", "schedules")

__all__ = sorted([*_MODULE_OF, *_MODULES])  # noqa: PLE0605 - a test holds it to the imports above


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"unirms.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'unirms' has no attribute {name!r}")
    value = getattr(import_module(f"unirms.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
