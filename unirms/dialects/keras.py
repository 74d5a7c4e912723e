"""Keras 3: `keras.optimizers.RMSprop`, which is also today's `tf.keras.optimizers.RMSprop`."""

from typing import Any

from unirms.clipping import Clip, ClipByGlobalNorm, ClipByNorm, ClipByValue
from unirms.config import RMSPropConfig
from unirms.dialects.base import Argument, Dialect, Fields, apart, carries, converts, optional_float, refuses


def clip_argument(name: str, kind: type[Clip], limit: str) -> Argument:
    """Return one of Keras's three clip arguments; `limit` is the field of `kind` that it carries.

    Values <= 0 are no clip in Keras (`if self.clipnorm and self.clipnorm > 0`).
    """

    def read(value: Any) -> Fields:
        clips = value is not None and not (isinstance(value, (int, float)) and value <= 0)
        return {name: kind(**{limit: value}) if clips else None}

    def write(config: RMSPropConfig) -> float | None:
        return next((getattr(clip, limit) for clip in config.clip if isinstance(clip, kind)), None)

    return converts(name, ("clip",), None, read, write)


CLIPS = (
    clip_argument("clipnorm", ClipByNorm, "max_norm"),
    clip_argument("clipvalue", ClipByValue, "limit"),
    clip_argument("global_clipnorm", ClipByGlobalNorm, "max_norm"),
)


def gather_clips(fields: Fields) -> Fields:
    """Return the fields with the clip arguments as one `clip`, in the order in which Keras applies them."""
    found = [fields.pop(name) for name in ("clipvalue", "clipnorm", "global_clipnorm")]
    return {**fields, "clip": tuple(clip for clip in found if clip is not None)}


DIALECT = Dialect(
    name="keras",
    target="keras.optimizers.RMSprop",
    package="keras",
    framework="keras",
    aliases=("tf", "tensorflow", "tf.keras", "keras3"),
    docs="https://keras.io/api/optimizers/rmsprop/",
    arguments=(
        carries("learning_rate", "learning_rate", 0.001),
        carries("rho", "rho", 0.9),
        carries("momentum", "momentum", 0.0),
        carries("epsilon", "epsilon", 1e-7),
        carries("centered", "centered", False),
        optional_float("weight_decay", "weight_decay"),
        *CLIPS,
        refuses("use_ema", False, "a config has no averaging of weights"),
        apart("ema_momentum", 0.99, "acts with use_ema only"),
        apart("ema_overwrite_frequency", None, "acts with use_ema only"),
        converts(
            "loss_scale_factor",
            ("loss_scale",),
            None,
            lambda value: {"loss_scale": 1.0 if value is None else value},
            lambda config: None if config.loss_scale == 1 else config.loss_scale,
        ),
        refuses("gradient_accumulation_steps", None, "a config has no gradient accumulation"),
        apart("name", None, "a label"),
    ),
    fixed={
        "epsilon_placement": "inside_sqrt",
        "lr_in_momentum": True,
        "initial_mean_square": 0.0,
        "negative_variance": "propagate",
        "weight_decay_mode": "decoupled",
    },
    settle=gather_clips,
    exempts=True,
    rounds=("learning_rate", "weight_decay"),
    remarks=("Gradients with repeated rows (IndexedSlices) sum the squares instead of squaring the sum.",),
)
