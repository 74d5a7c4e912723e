"""MindCV: a flat mapping in YAML, with `opt: rmsprop`, `lr`, `eps`, `momentum`, `weight_decay`, `loss_scale`.

Read off MindCV 0.5 (`config.py`, `train.py`, `mindcv/optim/optim_factory.py`): the factory passes momentum 0.9 and
epsilon 1e-10 unless the file says otherwise, never passes MindSpore's `decay`, which stays 0.9, and puts the parameters
into groups, which turns MindSpore's own exemption of beta and gamma off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from unirms.documents import Document, KeyPath
from unirms.errors import ConfigError
from unirms.recipes.base import Format, Recipe, given, located, names_its_class, surprising
from unirms.recipes.commands import number

TARGET: Final = "mindspore.nn.RMSProp"
NATIVE: Final = {
    "lr": "learning_rate",
    "momentum": "momentum",
    "eps": "epsilon",
    "weight_decay": "weight_decay",
    "loss_scale": "loss_scale",
}
"""Keys that become arguments of the class."""
DEFAULTS: Final[dict[str, Any]] = {
    "lr": 0.001,
    "momentum": 0.9,
    "eps": 1e-10,
    "weight_decay": 1e-6,
    "loss_scale": 1.0,
    "weight_decay_filter": "disable",
    "scheduler": "cosine_decay",
}
"""Defaults of `config.py`."""
MARKS: Final = {
    "amp_cast_list",
    "amp_level",
    "ckpt_save_dir",
    "dataset_sink_mode",
    "drop_overflow_update",
    "epoch_size",
    "filter_bias_and_bn",
    "loss_scale",
    "loss_scale_type",
    "use_nesterov",
    "val_while_train",
    "weight_decay_filter",
}
"""Keys of MindCV's files that others with `opt: rmsprop` do not have; each of its own files has most of them."""
EXEMPT: Final[dict[str, tuple[str, ...] | None]] = {
    "disable": (),
    "auto": None,
    "norm_and_bias": ("*beta*", "*gamma*", "*bias*"),
}
"""Name patterns without weight decay for each `weight_decay_filter`; None leaves it to MindSpore."""


def recognises(document: Document) -> bool:
    """Return whether it is a flat mapping with an RMSProp as `opt`, and keys that are MindCV's alone."""
    return _has_opt(document.data) and bool(document.data.keys() & MARKS) and not names_its_class(document.data)


def read(document: Document) -> tuple[Recipe, ...]:
    """Return the one recipe of a file.

    Raises:
        ConfigError: there is none, or it states something that no config can say.
    """
    if not _has_opt(document.data):
        raise ConfigError([f"{document.name}: it is not a mapping with opt: rmsprop"])
    values = {**DEFAULTS, **document.data}
    if values.get("layer_decay") is not None:
        raise ConfigError(
            [f"{document.name}: layer_decay gives every layer its own learning rate, which cannot be read"]
        )
    which = values["weight_decay_filter"]
    if not isinstance(which, str) or which not in EXEMPT:
        place = document.at(("weight_decay_filter",))
        raise ConfigError([f"{place}: weight_decay_filter={which!r} must be one of {', '.join(EXEMPT)}"])
    # argparse converts the text of a default, so text that is a number is one.
    settings = {native: number(values[key], f"{document.name}: {key}") for key, native in NATIVE.items()}
    scaled_elsewhere = _loss_scaled_elsewhere(values)
    if scaled_elsewhere:
        settings["loss_scale"] = 1.0
    places: dict[str, KeyPath] = {"": ("opt",), **{native: (key,) for key, native in NATIVE.items()}}
    recipe = Recipe(
        FORMAT.name,
        TARGET,
        settings,
        no_weight_decay=EXEMPT[which],
        lines=located(document, places),
        surprises=surprising(document, places, numbers=False),
        remarks=tuple(_remarks(values, scaled_elsewhere=scaled_elsewhere)),
    )
    return (recipe,)


def _has_opt(data: Any) -> bool:
    return isinstance(data, Mapping) and isinstance(data.get("opt"), str) and data["opt"].strip().lower() == "rmsprop"


def _loss_scaled_elsewhere(values: Mapping[str, Any]) -> bool:
    """Return whether MindCV divides the gradients before they reach the optimizer, which then gets a scale of 1."""
    return (
        values.get("loss_scale_type", "fixed") != "fixed"
        or any(given(values.get(key)) for key in ("drop_overflow_update", "ema", "clip_grad", "amp_cast_list"))
        or values.get("gradient_accumulation_steps", 1) not in (1, None)
    )


def _remarks(values: Mapping[str, Any], *, scaled_elsewhere: bool) -> Iterator[str]:
    if given(values.get("use_nesterov")):
        yield "use_nesterov has no effect: MindCV does not pass it to RMSProp"
    if scaled_elsewhere:
        yield "MindCV takes the loss scale off before the optimizer, which gets loss_scale=1.0"
    if given(values.get("clip_grad")):
        yield f"MindCV clips gradients to a global norm of {values.get('clip_value', 15.0)}"
    if values.get("filter_bias_and_bn") is not None:
        yield "filter_bias_and_bn is a key of older releases; today it is weight_decay_filter: norm_and_bias"
    if values["scheduler"] != "constant":
        yield f"MindCV changes the learning rate by its schedule {values['scheduler']!r}"


FORMAT = Format("mindcv", "MindCV: a flat mapping with opt: rmsprop", recognises, read)
