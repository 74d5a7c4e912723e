"""timm: `python train.py … --opt rmsproptf --opt-eps .001 --momentum .9`, or the same options in a YAML file.

Read off timm 1.0 (`timm/optim/_optim_factory.py` and `train.py`): the factory states alpha 0.9 and momentum 0.9,
whatever the class's defaults are; `train.py` states momentum 0.9 and a weight decay of 2e-5 unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from unirms.documents import Document, KeyPath, shown
from unirms.errors import ConfigError, as_given
from unirms.recipes.base import Format, Recipe, given, located, mappings, names_its_class, surprising
from unirms.recipes.commands import Command, commands, has_command, literal, number, ours_or_all
from unirms.recipes.timm_options import OPTIONS

TARGETS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "rmsprop": ("torch.optim.RMSprop", {"alpha": 0.9}),
    "rmsproptf": ("timm.optim.RMSpropTF", {"alpha": 0.9}),
    "rmsproptfw": ("timm.optim.RMSpropTF", {"alpha": 0.9, "decoupled_decay": True}),
    "rmsproptfc": (
        "timm.optim.RMSpropTF",
        {"alpha": 0.9, "decoupled_decay": True, "corrected_weight_decay": True},
    ),
    "crmsproptf": ("timm.optim.RMSpropTF", {"alpha": 0.9, "caution": True}),
}
"""What the factory makes of a name, and the settings that it adds."""
NUMBERS: Final = {"lr": "lr", "opt_eps": "eps", "momentum": "momentum", "weight_decay": "weight_decay"}
"""Options of `train.py` that are settings of the class."""
DEFAULTS: Final[dict[str, Any]] = {"momentum": 0.9, "weight_decay": 2e-5, "sched": "cosine"}
"""Defaults of `train.py` that matter to an RMSProp."""
LAUNCHERS: Final = (
    "-m",
    "--nproc",
    "--nnodes",
    "--node",
    "--master",
    "--rdzv",
    "--standalone",
    "--use_env",
    "--use-env",
)
"""How the options of `torchrun` and its kin begin, which stand before the script."""
EXEMPTS: Final = "filter_bias_and_bn"
"""An argument of the factory, and so possible in `--opt-kwargs`: whether some parameters get no weight decay."""
NO_WEIGHT_DECAY: Final = ("*.bias",)

NO_DECAY: Final = (
    "timm exempts biases and all parameters with one dimension from weight decay; *.bias stands for the first, and the "
    "names of the others (weights of norms) have to be added to no_weight_decay"
)


def recognises(document: Document) -> bool:
    """Return whether a command line is one of timm's, or a flat mapping is."""
    found = has_command(document, "--opt", _is_our_command)
    return found or any(_is_ours(mapping) for _, mapping in mappings(document.data))


def read(document: Document) -> tuple[Recipe, ...]:
    """Return a recipe for every command with `--opt rmsprop…`, and every mapping of timm's options.

    Raises:
        ConfigError: there is none, its values are malformed, or it states something that no config can say.
    """
    ours = ours_or_all(commands(document, "--opt"), _is_our_command)
    found = [_from_command(command) for command in ours]
    found += [_from_mapping(document, path, one) for path, one in mappings(document.data) if _has_opt(one)]
    if not found:
        raise ConfigError([f"{document.name}: it has no --opt with one of {', '.join(TARGETS)}"])
    return tuple(found)


def _is_our_command(command: Command) -> bool:
    """Return whether its `--opt` is a name of timm's own, or no option beside `--opt rmsprop` is foreign to timm."""
    if any("tf" in word.lower() for word in command.options["--opt"]):
        return True
    return all(option in OPTIONS or option.startswith(LAUNCHERS) for option in command.options)


def _has_opt(mapping: Mapping[str, Any]) -> bool:
    return isinstance(mapping.get("opt"), str) and "rmsprop" in mapping["opt"].lower()


def _is_ours(mapping: Mapping[str, Any]) -> bool:
    """Return whether a mapping is timm's: MindCV's has the key `opt`, too.

    One that names its class calls that class, as `timm.optim.create_optimizer_v2`, whose defaults are not `train.py`'s.
    """
    if not _has_opt(mapping) or names_its_class(mapping):
        return False
    return "tf" in mapping["opt"].lower() or bool(mapping.keys() & {"opt_eps", "sched"})


def _from_command(command: Command) -> Recipe:
    found: dict[str, Any] = {key: command.text("--" + key.replace("_", "-")) for key in ("opt", "sched", "clip_mode")}
    found |= {key: command.number("--" + key.replace("_", "-")) for key in (*NUMBERS, "clip_grad", "layer_decay")}
    found["opt_kwargs"] = _pairs(command)
    found["opt_betas"] = command.options.get("--opt-betas")
    stated = {key: value for key, value in found.items() if value is not None}
    lines = dict.fromkeys(("", *NUMBERS.values(), *found["opt_kwargs"]), command.line)
    elsewhere = [option for option in ("-c", "--config") if option in command.options]
    return _recipe(stated, command.name, lines=lines, remarks=tuple(_config_file(command, one) for one in elsewhere))


def _pairs(command: Command) -> dict[str, Any]:
    """Return `--opt-kwargs alpha=0.95 centered=True` as timm's `ParseKwargs` reads it."""
    found = {}
    for word in command.options.get("--opt-kwargs", ()):
        name, equals, value = word.partition("=")
        if not name or not equals or "=" in value:
            raise ConfigError([f"{command.name}: {word!r} in --opt-kwargs is not NAME=VALUE"])
        found[name] = literal(value)
    return found


def _config_file(command: Command, option: str) -> str:
    return f"options may stand in the file {' '.join(command.options[option])}, which is not opened"


def _from_mapping(document: Document, path: KeyPath, mapping: Mapping[str, Any]) -> Recipe:
    stated = {key: value for key, value in mapping.items() if value is not None}
    for key in (*NUMBERS, "clip_grad", "layer_decay"):  # argparse converts the text of a default
        if key in stated:
            stated[key] = number(stated[key], f"{document.name}: {key}")
    for key in ("opt_kwargs", "opt_args"):
        if not isinstance(stated.setdefault(key, {}), Mapping):
            raise ConfigError([f"{document.name}: {key}={as_given(stated[key])} must be a mapping"])
    places: dict[str, KeyPath] = {
        "": (*path, "opt"),
        **{native: (*path, key) for key, native in NUMBERS.items()},
        **{name: (*path, key, name) for key in ("opt_args", "opt_kwargs") for name in stated[key]},
    }
    return _recipe(
        stated,
        document.name,
        place=shown(path),
        lines=located(document, places),
        surprises=surprising(document, places, numbers=False),
    )


def _recipe(stated: Mapping[str, Any], name: str, *, remarks: tuple[str, ...] = (), **where: Any) -> Recipe:
    opt = str(stated["opt"]).lower()
    if opt not in TARGETS:
        what = "wraps another optimizer" if "_" in opt else "is not one of timm's RMSProps"
        raise ConfigError([f"{name}: opt {opt!r} {what}; unirms reads {', '.join(TARGETS)}"])
    if "layer_decay" in stated:
        raise ConfigError([f"{name}: layer decay gives every layer its own learning rate, which cannot be read"])
    if "lr" not in stated:
        raise ConfigError(
            [f"{name}: without lr, timm derives it from lr-base and the batch size; state the rate as lr"]
        )
    target, added = TARGETS[opt]
    values = {**DEFAULTS, **stated}
    kwargs = dict(values["opt_kwargs"])
    exempts = kwargs.pop(EXEMPTS, True)
    settings = {native: values[key] for key, native in NUMBERS.items() if key in values}
    twice = [key for key in kwargs if key in settings]
    if twice:
        raise ConfigError(
            [f"{name}: {twice[0]} is stated twice, by its own option and in opt-kwargs; timm refuses that"]
        )
    # Files may have opt_args, which no option sets; the factory takes them before all that has an option.
    settings = {**added, **settings, **values.get("opt_args", {}), **kwargs}
    exempts = settings.pop(EXEMPTS, exempts)
    where["lines"] = {name: line for name, line in where["lines"].items() if not name or name in settings}
    return Recipe(
        FORMAT.name,
        target,
        settings,
        no_weight_decay=NO_WEIGHT_DECAY if given(exempts) else (),
        remarks=(*remarks, *_remarks(values, exempts=given(exempts) and given(settings["weight_decay"]))),
        **where,
    )


def _remarks(values: Mapping[str, Any], *, exempts: bool) -> list[str]:
    found = []
    if exempts:
        found.append(NO_DECAY)
    if "opt_betas" in values:
        found.append("timm drops the betas: its RMSProps take none")
    if "clip_grad" in values:
        found.append(f"train.py clips gradients by {values.get('clip_mode', 'norm')} at {values['clip_grad']}")
    if values["sched"] != "none":
        found.append(f"train.py changes the learning rate by its schedule {values['sched']!r}")
    return found


FORMAT = Format("timm", "timm: options of train.py (--opt, --opt-eps)", recognises, read, commands=True)
