"""Streams of gradients on which two optimizers are compared: made here, or recorded by the user.

A recorded stream is an array of shape (steps, …): the gradient of one tensor at every step, as the optimizer got it.
"""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy
from pydantic_core import PydanticCustomError

from unirms.errors import ConfigError
from unirms.scalars import to_number
from unirms.state import Array

SCALES: Final = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
STEPS: Final = 100
ELEMENTS: Final = 32
SEED: Final = 2012
LARGEST: Final = 2**30
"""Bytes of the largest recorded stream that is read: 1 GiB, ten million float64 numbers a dozen times over."""

_NAME = "gradients"
_WANTED = "gradients are an array of floating-point numbers of shape (steps, …)"


@dataclass(frozen=True)
class Stream:
    """The gradients of one tensor.

    Attributes:
        scale: the size of the gradients, or None for recorded ones.
        gradients: shape (steps, elements), floating-point.
    """

    scale: float | None
    gradients: Array


def made(scales: Sequence[float] | None = None, *, loss_scale: float = 1.0) -> list[Stream]:
    """Return a stream of `STEPS` steps and `ELEMENTS` elements for each scale (default: `SCALES`).

    An element has a mean of its own and noise around it, both normal and of the size `scale`; all are multiplied by
    `loss_scale`, by which the optimizer divides them. The numbers are the same in every version of NumPy.

    Raises:
        ConfigError: no scale, or one that is not a finite number > 0.
    """
    chosen = SCALES if scales is None else tuple(_scale(scale) for scale in scales)
    if not chosen:
        raise ConfigError(["scales=() is not allowed; give at least one scale, or none for 1e-6 to 1"])
    # RandomState: NumPy promises (NEP 19) that its numbers never change, which those of default_rng may.
    random = np.random.RandomState(SEED)
    mean, noise = random.standard_normal(ELEMENTS), random.standard_normal((STEPS, ELEMENTS))
    with np.errstate(over="ignore"):
        return [Stream(scale, scale * loss_scale * (mean + noise)) for scale in chosen]


def _scale(value: Any) -> float:
    try:
        scale = to_number(value)
    except PydanticCustomError:
        scale = math.nan
    if scale > 0:
        return scale
    raise ConfigError([f"a scale of {value!r} is not allowed; the scale of gradients must be a finite number > 0"])


def recorded(gradients: Array, place: str = "gradients") -> Stream:
    """Return the stream of recorded gradients of shape (steps, …).

    Raises:
        ConfigError: not an array of real floating-point numbers with at least one step and one element.
    """
    if not isinstance(gradients, np.ndarray):
        raise ConfigError([f"{place}: {type(gradients).__name__} is not an array; {_WANTED}"])
    _check_kind(gradients.dtype, place)
    if gradients.ndim == 0 or gradients.size == 0:
        raise ConfigError([f"{place}: the shape is {gradients.shape}; {_WANTED}, at least one step of one element"])
    return Stream(None, gradients.reshape(len(gradients), -1))


def read_gradients(path: Path) -> Array:
    """Return the recorded gradients of an `.npy` file, or of an `.npz` file.

    An `.npz` file has one array, or calls the one that is meant "gradients". Nothing in the file is executed
    (`allow_pickle=False`), and nothing is read before its header agrees with the size of the file.

    Raises:
        ConfigError: no such file, another kind of file, or an array that is no stream of gradients.
    """
    try:
        with path.open("rb") as file, _array_file(file, path) as (opened, size), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's word on headers of Python 2, which it reads well
            _check_header(opened, size, path)
            opened.seek(0)
            gradients: Array = npy.read_array(opened, allow_pickle=False)
    except ConfigError:
        raise
    except FileNotFoundError:
        raise ConfigError([f"{path}: there is no such file; give an .npy or .npz file of gradients"]) from None
    except Exception as error:  # a damaged or hostile file makes NumPy and zipfile raise a dozen kinds
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError([f"{path} cannot be read as .npy or .npz ({reason}); write it with numpy.save"]) from None
    recorded(gradients, str(path))
    return gradients


@contextmanager
def _array_file(file: IO[bytes], path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """Yield the file with the bytes of an `.npy`, and how many they are."""
    start = file.read(len(npy.MAGIC_PREFIX))
    size = file.seek(0, 2)
    file.seek(0)
    if start == npy.MAGIC_PREFIX:
        yield file, size
        return
    if not start.startswith(b"PK"):
        raise ConfigError([f"{path} is neither an .npy nor an .npz file; write it with numpy.save or numpy.savez"])
    with zipfile.ZipFile(file) as archive:
        arrays = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        name = _NAME if _NAME in arrays else next(iter(arrays), "")
        if not name or (name != _NAME and len(arrays) > 1):
            found = ", ".join(list(arrays)[:5]) or "none"
            raise ConfigError([f"{path} has {len(arrays)} arrays ({found}); keep one, or name the one meant {_NAME!r}"])
        with archive.open(arrays[name]) as member:
            yield member, arrays[name].file_size


def _check_header(file: IO[bytes], size: int, path: Path) -> None:
    """Refuse a file whose header promises other numbers, or more of them, than it can hold."""
    version = npy.read_magic(file)
    # Version 3 exists for the field names of structured arrays, which are no gradients.
    readers: dict[Any, Any] = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ConfigError([f"{path} has version {version} of the .npy format; save an array of floating-point numbers"])
    shape, _, dtype = readers[version](file)
    _check_kind(dtype, str(path))
    if any(length < 0 for length in shape):
        raise ConfigError([f"{path}: the shape {shape} is impossible; write the file with numpy.save"])
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > LARGEST:
        raise ConfigError([f"{path} claims {claimed} bytes of gradients; at most {LARGEST} are read: keep fewer steps"])
    if claimed > size - file.tell():
        raise ConfigError([f"{path} claims {claimed} bytes of gradients and has {size - file.tell()}; write it again"])


def _check_kind(dtype: np.dtype[Any], place: str) -> None:
    if dtype.kind != "f":
        raise ConfigError([f"{place}: the numbers are {dtype}; {_WANTED}, saved as float16, float32 or float64"])
