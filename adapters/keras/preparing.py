"""What becomes of gradients before the update rule, in TensorFlow's operations: `unirms.preparation` in its order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from unirms.clipping import ClipByNorm, ClipByValue
from unirms.config import RMSPropConfig
from unirms.errors import NonFiniteGradientError, UnsupportedError
from unirms.grouping import clip_plan
from unirms.preparation import centralized_axes, non_finite_sentence

from .variables import dtype_of


@dataclass(frozen=True)
class Rows:
    """A gradient of which only the given rows take part in the update.

    Attributes:
        values: the gradient as a dense tensor, repeated rows added up.
        indices: the rows; one may occur several times.
    """

    values: Any
    indices: Any

    def __truediv__(self, scale: Any) -> Rows:
        """Return it unscaled: Keras divides gradients by the loss scale before it hands them over."""
        return replace(self, values=self.values / scale)


def gradient(grad: Any, variable: Any, *, lazy: bool) -> Any:
    """Return a gradient as one tensor, or as `Rows` if it came as rows and these are to be `lazy`.

    Keras squares the rows of `IndexedSlices` one by one, so that a row that occurs four times with a gradient of 1
    adds 4 to its mean square instead of 16.
    """
    if not isinstance(grad, tf.IndexedSlices):
        return grad
    values = tf.math.unsorted_segment_sum(grad.values, grad.indices, variable.shape[0])
    return Rows(values, grad.indices) if lazy else values


def values_of(grad: Any) -> Any:
    """Return the tensor of a gradient."""
    return grad.values if isinstance(grad, Rows) else grad


def prepared(config: RMSPropConfig, grads: Mapping[str, Any]) -> dict[str, Any]:
    """Return the gradients, by parameter name, with their sign for descent, centralized and clipped."""
    values = {name: values_of(grad) for name, grad in grads.items()}
    if config.maximize:
        values = {name: -grad for name, grad in values.items()}
    if config.gradient_centralization != "none":
        values = {name: _centralized(config, grad) for name, grad in values.items()}
    if config.clip or any(group.clip for group in config.groups):
        for clip, names in clip_plan(config, values):
            values |= _clipped(clip, {name: values[name] for name in names})
    return {n: replace(g, values=values[n]) if isinstance(g, Rows) else values[n] for n, g in grads.items()}


def finite(grads: Mapping[str, Any]) -> dict[str, Any]:
    """Return for each gradient whether all of it is finite."""
    return {name: tf.reduce_all(tf.math.is_finite(values_of(grad))) for name, grad in grads.items()}


def raise_unless_finite(grads: Mapping[str, Any]) -> Sequence[Any]:
    """Raise an error if a gradient has an infinity or a NaN; in a `tf.function`, return operations that do.

    Raises:
        NonFiniteGradientError: one has, eagerly. In a `tf.function` it is TensorFlow's InvalidArgumentError.
        UnsupportedError: in a function that XLA compiles, which drops assertions.
    """
    fine = finite(grads)
    if tf.executing_eagerly():
        wrong = [name for name, is_finite in fine.items() if not is_finite]
        if wrong:
            raise NonFiniteGradientError(non_finite_sentence(wrong))
        return ()
    if control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
        raise UnsupportedError(
            "keras: non_finite='raise' cannot raise in a function that XLA compiles; compile the model with "
            "jit_compile=False, or use non_finite='skip'"
        )
    return [tf.debugging.Assert(fine[name], [non_finite_sentence([name])]) for name in fine]


def refuse_replicas(config: RMSPropConfig) -> None:
    """Refuse what depends on a condition, under which `tf.distribute` updates no variables of several replicas.

    Raises:
        UnsupportedError: the config has it.
    """
    alone = {
        "sparse='lazy'": config.sparse == "lazy",
        "non_finite='skip'": config.non_finite == "skip",
        f"gradient_accumulation_steps={config.gradient_accumulation_steps}": config.gradient_accumulation_steps > 1,
    }
    for setting, used in alone.items():
        if used:
            raise UnsupportedError(f"keras: {setting} works on one replica only; leave it out, or train on one device")


def _centralized(config: RMSPropConfig, grad: Any) -> Any:
    axes = centralized_axes(config, grad.shape.rank)
    return grad - tf.reduce_mean(grad, axis=axes, keepdims=True) if axes else grad


def _clipped(clip: Any, grads: Mapping[str, Any]) -> dict[str, Any]:
    """Return the gradients after one clip that holds for them together."""
    if isinstance(clip, ClipByValue):
        return {name: tf.clip_by_value(grad, -clip.limit, clip.limit) for name, grad in grads.items()}
    if isinstance(clip, ClipByNorm):
        return {name: _scaled(grad, _norm([grad]), clip) for name, grad in grads.items()}
    norm = _norm(list(grads.values()))
    return {name: _scaled(grad, norm, clip) for name, grad in grads.items()}


def _norm(grads: Sequence[Any]) -> Any:
    """Return the joint Euclidean norm, in the widest dtype of the gradients."""
    dtype = keras.backend.result_type(*map(dtype_of, grads))
    return tf.sqrt(tf.add_n([tf.reduce_sum(tf.cast(grad * grad, dtype)) for grad in grads]))


def _scaled(grad: Any, norm: Any, clip: Any) -> Any:
    limit = tf.constant(clip.max_norm, grad.dtype)
    if clip.eps == 0:
        return tf.cast(tf.cast(grad * limit, norm.dtype) / tf.maximum(norm, tf.cast(limit, norm.dtype)), grad.dtype)
    eps = tf.cast(tf.constant(clip.eps, grad.dtype), norm.dtype)
    factor = tf.minimum(tf.cast(limit, norm.dtype) / (norm + eps), tf.ones((), norm.dtype))
    return tf.cast(tf.cast(grad, norm.dtype) * factor, grad.dtype)
