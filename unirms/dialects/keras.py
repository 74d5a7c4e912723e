"""Keras 3: `keras.optimizers.RMSprop`, which is also today's `tf.keras.optimizers.RMSprop`."""

from dataclasses import replace
from typing import Any

from unirms.clipping import Clip, ClipByGlobalNorm, ClipByNorm, ClipByValue
from unirms.config import RMSPropConfig
from unirms.dialects.base import Argument, Dialect, Fields, apart, carries, converts, optional_float, refuses
from unirms.dialects.behaviour import Behaviour, Defect, Kind, refusing
from unirms.dialects.calls import clip_to
from unirms.dialects.schedules.keras import CLASSES, PLATEAUS
from unirms.dialects.snippet import Exemption, Snippet
from unirms.errors import ConfigError
from unirms.schedules import BaseSchedule, Sampled


def clip_argument(name: str, kind: type[Clip], limit: str, *, ignores_zero: bool) -> Argument:
    """Return one of Keras's three clip arguments; `limit` is the field of `kind` that it carries.

    `ignores_zero` says whether values <= 0 are no clip (`if self.clipnorm and self.clipnorm > 0` in Keras 3); Keras 2's
    first optimizers make every gradient 0 with a limit of 0, which no config says.
    """

    def read(value: Any) -> Fields:
        clips = value is not None and not (ignores_zero and isinstance(value, (int, float)) and value <= 0)
        return {name: clip_to(kind, limit, name, value) if clips else None}

    def write(config: RMSPropConfig) -> float | None:
        return next((getattr(clip, limit) for clip in config.clip if isinstance(clip, kind)), None)

    return converts(name, ("clip",), None, read, write)


CLIP_NAMES = ("clipnorm", "clipvalue", "global_clipnorm")


def clip_arguments(*, ignores_zero: bool) -> tuple[Argument, ...]:
    """Return Keras's three clip arguments."""
    return (
        clip_argument("clipnorm", ClipByNorm, "max_norm", ignores_zero=ignores_zero),
        clip_argument("clipvalue", ClipByValue, "limit", ignores_zero=ignores_zero),
        clip_argument("global_clipnorm", ClipByGlobalNorm, "max_norm", ignores_zero=ignores_zero),
    )


EMA_MOMENTUM = 0.99
"""Its default, which acts with `use_ema` only."""
# 100 is the default of `tf_keras`; it acts with `use_ema` only, so that it is nothing to refuse without.
OVERWRITES = refuses(
    "ema_overwrite_frequency", None, "it puts the average into the weights every so many updates", (100,)
)


def _averages(config: RMSPropConfig) -> bool:
    return config.ema_decay > 0 and config.gradient_accumulation_steps == 1


def settle(fields: Fields) -> Fields:
    """Return the fields with what several arguments say together: clips, averaging, accumulation.

    With accumulation Keras counts the gradients, not the updates, and asks its schedule after the last of an update.
    """
    decay, uses = fields.pop("ema_momentum"), fields.pop("use_ema")
    overwrites = fields.pop(OVERWRITES.name)
    if uses and overwrites is not None:
        raise ConfigError(
            [f"{OVERWRITES.name}={overwrites!r} cannot be read beside use_ema: {OVERWRITES.note}; give None"]
        )
    rate, steps = fields["learning_rate"], fields["gradient_accumulation_steps"]
    if uses and steps != 1:
        raise ConfigError(
            [
                f"use_ema cannot be read beside gradient_accumulation_steps={steps!r}: "
                "Keras averages the weights after every gradient, and a config after every update"
            ]
        )
    if isinstance(rate, BaseSchedule) and isinstance(steps, int) and steps > 1:
        rate = Sampled.last_of(rate, steps)
    return gather_clips({**fields, "ema_decay": decay if uses else 0.0, "learning_rate": rate})


def gather_clips(fields: Fields) -> Fields:
    """Return the fields with the clip arguments as one `clip`, in the order in which Keras applies them."""
    found = [fields.pop(name) for name in ("clipvalue", "clipnorm", "global_clipnorm")]
    return {**fields, "clip": tuple(clip for clip in found if clip is not None)}


REPEATED_ROWS = Defect(
    "U402",
    "gradient of an embedding",
    "the sum of its repeated rows",
    "taken row by row",
    "the mean square of an id that occurs n times in a batch gets n squares instead of the square of the sum, and "
    "centered, the update fails or leaves NaN",
)
_NUMBERS = "learning_rate rho momentum epsilon weight_decay clipnorm clipvalue global_clipnorm loss_scale_factor"
_NO_CLIP: dict[tuple[str, Kind], str] = {  # `if self.clipnorm and self.clipnorm > 0`
    **{(name, kind): "it does not clip" for name in CLIP_NAMES for kind in ("zero", "negative", "NaN")},
    **{(name, "infinite"): "every weight turns NaN (0 * infinity)" for name in ("clipnorm", "global_clipnorm")},
    ("clipvalue", "infinite"): "it does not clip",
}
_NO_BUFFER: dict[tuple[str, Kind], str] = {  # `if self.momentum > 0`
    ("momentum", "negative"): "it computes without momentum",
    ("momentum", "NaN"): "it computes without momentum",
}
BEHAVIOUR = Behaviour(
    refused=refusing(
        (_NUMBERS, ("text",)),
        ("rho momentum epsilon", ("None",)),
        ("learning_rate", ("None", "int", "bool", "numpy.float32")),
        ("global_clipnorm", ("numpy.float64",)),
    ),
    misread={**_NO_CLIP, **_NO_BUFFER},
    ignored={"decay": ("the learning rate stays constant", "use keras.optimizers.schedules.InverseTimeDecay")},
    exclusive=(CLIP_NAMES,),
    defects=(REPEATED_ROWS,),
)
# The class of Keras 2, which was `tf.keras.optimizers.RMSprop` from TensorFlow 2.11 to 2.15.
TF_KERAS = Behaviour(
    refused=refusing((_NUMBERS, ("text",)), ("learning_rate rho momentum epsilon", ("None",))),
    misread={**_NO_CLIP, **_NO_BUFFER},
    ignored={"lr": ("the learning rate stays at learning_rate", "write learning_rate")},
    exclusive=(("clipnorm", "global_clipnorm"),),
    first_of=("clipnorm", "global_clipnorm", "clipvalue"),
    without=("loss_scale_factor", "gradient_accumulation_steps"),
    more=("jit_compile", "mesh", "is_legacy_optimizer"),
    defaults={OVERWRITES.name: 100, "name": "RMSprop"},
)

SNIPPET = Snippet(
    imports=("import keras",),
    name="keras.optimizers.RMSprop",
    exemption=Exemption(
        after="""\
optimizer.exclude_from_weight_decay(
    [v for v in model.trainable_variables if exempt(v.path)]
)
"""
    ),
    seeding="""\
optimizer.build(model.trainable_variables)
for variable in optimizer.variables:
    if variable.name.endswith("_velocity"):
        variable.assign(keras.ops.full_like(variable, $start))
""",
    reporting="# Name your metric as monitor, and call model.fit(…, callbacks=[scheduler]).",
)

DIALECT = Dialect(
    name="keras",
    target="keras.optimizers.RMSprop",
    package="keras",
    spellings=(
        "tf.keras.optimizers.RMSprop",
        "tf.optimizers.RMSprop",
        "tensorflow.keras.optimizers.RMSprop",
        "tensorflow.optimizers.RMSprop",
        "tensorflow.compat.v2.keras.optimizers.RMSprop",
        "tensorflow.compat.v2.optimizers.RMSprop",
        "tensorflow.compat.v1.keras.optimizers.RMSprop",
        "keras.src.optimizers.RMSprop",
        "keras.src.optimizers.rmsprop.RMSprop",
        "tf_keras.optimizers.RMSprop",
        "keras.optimizers.rmsprop.RMSprop",
    ),
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
        *clip_arguments(ignores_zero=True),
        converts("use_ema", ("ema_decay",), False, lambda value: {"use_ema": value}, _averages),
        converts(
            "ema_momentum",
            ("ema_decay",),
            EMA_MOMENTUM,
            lambda value: {"ema_momentum": value},
            lambda config: config.ema_decay or EMA_MOMENTUM,
        ),
        replace(OVERWRITES, read=lambda value: {**OVERWRITES.read(value), OVERWRITES.name: value}),
        converts(
            "loss_scale_factor",
            ("loss_scale",),
            None,
            lambda value: {"loss_scale": 1.0 if value is None else value},
            lambda config: None if config.loss_scale == 1 else config.loss_scale,
        ),
        converts(
            "gradient_accumulation_steps",
            ("gradient_accumulation_steps",),
            None,
            lambda value: {"gradient_accumulation_steps": 1 if value is None else value},
            lambda config: None if config.gradient_accumulation_steps == 1 else config.gradient_accumulation_steps,
        ),
        apart("name", None, "a label"),
    ),
    schedules=CLASSES,
    schedulers=PLATEAUS,
    snippet=SNIPPET,
    fixed={
        "epsilon_placement": "inside_sqrt",
        "lr_in_momentum": True,
        "initial_mean_square": 0.0,
        "negative_variance": "propagate",
        "weight_decay_mode": "decoupled",
    },
    settle=settle,
    exempts=True,
    rounds=("learning_rate", "weight_decay"),
    behaviour=BEHAVIOUR,
    variants={"tf_keras.optimizers.RMSprop": TF_KERAS},
    remarks=(
        "Gradients with repeated rows (IndexedSlices) sum the squares instead of squaring the sum.",
        "Compiled (tf.function, XLA), ExponentialDecay(staircase=True) is one update late for some decay_steps, as 41: "
        "division by a constant becomes multiplication by its rounded reciprocal. A schedule of unirms is not.",
    ),
)
