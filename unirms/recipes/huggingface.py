"""Hugging Face Trainer: `--optim rmsprop --optim_args "alpha=0.9,eps=1e-8"`, or the same keys in a file.

What reaches `torch.optim.RMSprop` was read off `transformers` (`trainer_optimizer.py` and `Trainer.create_optimizer`):
the learning rate, `optim_args` as Python literals, and two parameter groups, with `weight_decay` and with 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from unirms.documents import Document, KeyPath, shown
from unirms.errors import ConfigError
from unirms.recipes.base import Format, Recipe, given, located, mappings, surprising
from unirms.recipes.commands import Command, commands, has_command, literal, ours_or_all
from unirms.translation import Native

TARGETS: Final = {
    "rmsprop": "torch.optim.RMSprop",
    "rmsprop_bnb": "bitsandbytes.optim.RMSprop",
    "rmsprop_bnb_8bit": "bitsandbytes.optim.RMSprop",
    "rmsprop_bnb_32bit": "bitsandbytes.optim.RMSprop",
}
DEFAULTS: Final[dict[str, Any]] = {
    "learning_rate": 5e-5,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "lr_scheduler_type": "linear",
}
"""Defaults of `TrainingArguments`."""
KEYS: Final = ("optim", "optim_args", *DEFAULTS)
MARKS: Final = {
    *("learning_rate", "optim_args", "max_grad_norm", "lr_scheduler_type", "output_dir", "do_train"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "max_steps"),
    *("warmup_steps", "warmup_ratio", "logging_steps", "save_steps", "save_strategy", "eval_strategy"),
}
"""Names of `TrainingArguments`, at least one of which stands beside the `optim` of a Trainer."""
FOREIGN: Final = "lr"
"""What most others call the learning rate; to a Trainer it is no argument, and no unambiguous beginning of one."""
NO_WEIGHT_DECAY: Final = (r"re:(?i)bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)",)
"""`Trainer.get_decay_parameter_names`, whose patterns are searched for in the lower-case name."""

IGNORES_ARGS: Final = (
    "transformers without pull request 44203 (merged in February 2026) ignores optim_args for rmsprop and passes the "
    "learning rate alone"
)
DECAY_IS_ELSEWHERE: Final = (
    "weight_decay in optim_args has no effect, because the Trainer states weight_decay in its parameter groups; "
    "write --weight_decay"
)
NO_DECAY: Final = (
    "the Trainer exempts biases and norms from weight decay by name, and LayerNorm modules whatever their name: "
    "add theirs to no_weight_decay"
)


def recognises(document: Document) -> bool:
    """Return whether a command line, or some mapping, has an RMSProp as the `optim` of a Trainer."""
    found = has_command(document, "--optim", _is_our_command)
    return found or any(_is_ours(mapping) for _, mapping in mappings(document.data))


def read(document: Document) -> tuple[Recipe, ...]:
    """Return a recipe for every command with `--optim rmsprop`, every mapping with `optim`, or bare `optim_args`.

    Raises:
        ConfigError: there is none, or its values are malformed.
    """
    ours = ours_or_all(commands(document, "--optim"), _is_our_command)
    found = [_from_command(command) for command in ours]
    stated = [(path, one) for path, one in mappings(document.data) if _has_optim(one)]
    found += [
        _from_mapping(document, path, one)
        for path, one in [(path, one) for path, one in stated if _is_ours(one)] or stated
    ]
    if not found and document.kind == "text" and "=" in document.data and "--" not in document.data:
        found = [
            _recipe({"optim": "rmsprop", "optim_args": document.data.strip()}, document.name, {"": 1, "optim_args": 1})
        ]
    if not found:
        raise ConfigError([f"{document.name}: it has no --optim rmsprop, nor a key optim with that value"])
    return tuple(found)


def write(native: Native) -> str:
    """Return a native call as the options of a training script."""
    args = ",".join(f"{name}={value!r}" for name, value in native.kwargs.items() if name not in {"lr", "weight_decay"})
    rate, decay = native.kwargs["lr"], native.kwargs["weight_decay"]
    return f'--optim rmsprop --learning_rate {rate!r} --weight_decay {decay!r} --optim_args "{args}"\n'


def _has_optim(mapping: Mapping[str, Any]) -> bool:
    optim = mapping.get("optim")
    return isinstance(optim, str) and "rmsprop" in optim.lower()


def _is_ours(mapping: Mapping[str, Any]) -> bool:
    return _has_optim(mapping) and _is_a_trainers([mapping["optim"]], mapping)


def _is_our_command(command: Command) -> bool:
    return _is_a_trainers(command.options["--optim"], [_key(option) for option in command.options])


def _is_a_trainers(optim: Iterable[str], keys: Iterable[str]) -> bool:
    """Return whether its `optim` is a name of transformers' own, or what stands beside is a Trainer's."""
    names = set(keys)
    return any("_bnb" in name.lower() for name in optim) or (bool(names & MARKS) and FOREIGN not in names)


def _key(option: str) -> str:
    """Return the name of an option; transformers takes `--learning-rate`, too."""
    return option.lstrip("-").replace("-", "_")


def _from_command(command: Command) -> Recipe:
    named = {_key(option): option for option in command.options}
    known = {key: named[key] for key in KEYS if key in named}
    arguments: dict[str, Any] = {key: command.text(option) for key, option in known.items()}
    for key in ("learning_rate", "weight_decay", "max_grad_norm"):
        if key in arguments:
            arguments[key] = command.number(known[key])
    return _recipe(arguments, command.name, dict.fromkeys(("", "lr", "weight_decay", "optim_args"), command.line))


def _from_mapping(document: Document, path: KeyPath, mapping: Mapping[str, Any]) -> Recipe:
    arguments = {key: mapping[key] for key in KEYS if mapping.get(key) is not None}
    places: dict[str, KeyPath] = {
        "": (*path, "optim"),
        "lr": (*path, "learning_rate"),
        "weight_decay": (*path, "weight_decay"),
        "optim_args": (*path, "optim_args"),
    }
    return _recipe(
        arguments, document.name, located(document, places), place=shown(path), surprises=surprising(document, places)
    )


def _recipe(arguments: Mapping[str, Any], name: str, lines: dict[str, int], **where: Any) -> Recipe:
    values = {**DEFAULTS, **arguments}
    optim = str(values["optim"])
    if optim not in TARGETS:
        raise ConfigError([f"{name}: optim={optim!r} is not one of transformers' RMSProps; they are {_known()}"])
    extra = _optim_args(values.get("optim_args"), name)
    settings = {**extra, "lr": extra.get("lr", values["learning_rate"]), "weight_decay": values["weight_decay"]}
    return Recipe(
        FORMAT.name,
        TARGETS[optim],
        settings,
        no_weight_decay=NO_WEIGHT_DECAY,
        lines={**{setting: lines["optim_args"] for setting in extra if "optim_args" in lines}, **lines},
        remarks=tuple(_remarks(values, optim, extra)),
        **where,
    )


def _remarks(values: Mapping[str, Any], optim: str, extra: Mapping[str, Any]) -> Iterator[str]:
    if extra and optim == "rmsprop":
        yield IGNORES_ARGS
    if "weight_decay" in extra:
        yield DECAY_IS_ELSEWHERE
    if given(values["weight_decay"]):
        yield NO_DECAY
    if given(values["max_grad_norm"]):
        yield f"the Trainer clips gradients to a global norm of {values['max_grad_norm']} (max_grad_norm)"
    if values["lr_scheduler_type"] != "constant":
        yield f"the Trainer changes the learning rate by its schedule {values['lr_scheduler_type']!r}"


def _optim_args(stated: Any, name: str) -> dict[str, Any]:
    """Return `optim_args` as the Trainer reads it: spaces dropped, pairs between commas, Python literals."""
    if stated is None or stated == "":
        return {}
    if not isinstance(stated, str):
        raise ConfigError([f'{name}: optim_args={stated!r} is not text such as "alpha=0.9,eps=1e-8"'])
    found: dict[str, Any] = {}
    for pair in stated.replace(" ", "").split(","):
        key, equals, value = pair.partition("=")
        if not key or not equals or "=" in value:
            raise ConfigError([f'{name}: {pair!r} in optim_args is not NAME=VALUE, as "alpha=0.9,eps=1e-8"'])
        found[key] = literal(value)
    return found


def _known() -> str:
    return ", ".join(TARGETS)


FORMAT = Format(
    "huggingface",
    "Hugging Face Trainer: --optim, --optim_args",
    recognises,
    read,
    write,
    commands=True,
    dialects=("torch",),
)
