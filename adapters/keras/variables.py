"""What the modules of the Keras adapter know of variables: their names, their numbers, and how to hide them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops


class Untracked:
    """A box, because Keras and TensorFlow make state of every variable, list or tuple on an optimizer."""

    def __init__(self, value: Any) -> None:
        self.value = value


def names_of(variables: Sequence[Any]) -> list[str]:
    """Return the path of each variable, or its index where several have the same path."""
    paths = [path_of(variable) for variable in variables]
    count = Counter(paths)
    return [path if count[path] == 1 else str(index) for index, path in enumerate(paths)]


def path_of(variable: Any) -> str:
    """Return the path of a Keras variable or the name of TensorFlow's, without its ":0"; "" of anything else."""
    return str(getattr(variable, "path", getattr(variable, "name", ""))).partition(":")[0]


def is_variable(value: Any) -> bool:
    """Return whether it is a variable of Keras or of TensorFlow."""
    return isinstance(value, (keras.Variable, tf.Variable))


def dtype_of(value: Any) -> str:
    """Return the name of the dtype of a variable or tensor."""
    return str(keras.backend.standardize_dtype(value.dtype))


def number(value: Any) -> float:
    """Return a scalar variable or tensor as a number."""
    return float(ops.convert_to_tensor(value).numpy())


def array(variable: Any) -> np.ndarray[Any, Any]:
    """Return a copy; bfloat16, which NumPy has not, comes as float32, which holds it exactly."""
    # Not `keras.ops.convert_to_numpy`, for which NumPy 2 warns of the `__array__` of Keras's variables.
    copy: np.ndarray[Any, Any] = np.asarray(ops.convert_to_tensor(variable).numpy())
    return copy.astype(np.float32) if copy.dtype.name == "bfloat16" else copy
