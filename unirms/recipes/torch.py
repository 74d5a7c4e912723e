"""PyTorch: `param_groups`, live or from a `state_dict()`, as objects or as JSON or YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from unirms.documents import Document, KeyPath, shown
from unirms.errors import ConfigError
from unirms.recipes.base import Format, Group, Recipe, given, located, mappings, surprising

NOT_SETTINGS: Final = ("params", "param_names", "initial_lr")
"""Keys of a group that hold no setting; schedulers of PyTorch keep the rate that they began with in `initial_lr`."""
MARKS: Final = {"lr", "alpha", "eps"}
"""Keys that every group of an RMSprop has, and of PyTorch's other optimizers none has together."""
DECAY: Final = "weight_decay"
TIMM_MARK: Final = "lr_in_momentum"
SCHEDULER_MARKS: Final = {"base_lrs", "last_epoch"}
"""Keys in the state of every scheduler of PyTorch."""
SCHEDULER: Final = (
    "{place} is the state of a scheduler, which does not name its class and cannot be read; state the schedule as "
    "learning_rate: {{kind: …}} in a config of unirms"
)
WHICH_CLASS: Final = (
    "param_groups do not name their class; they are read as torch.optim.RMSprop's, and those of sb3, pfrl and "
    "mindspore.experimental look the same"
)


def recognises(document: Document) -> bool:
    """Return whether there are parameter groups with the settings of an RMSprop."""
    return bool(_found(document))


def read(document: Document) -> tuple[Recipe, ...]:
    """Return a recipe for every list of parameter groups, equal groups merged.

    Raises:
        ConfigError: there is none, or groups differ and do not say which parameters they hold.
    """
    found = _found(document)
    if not found:
        raise ConfigError(
            [f"{document.name}: it has no parameter groups with {', '.join(sorted(MARKS))}, as torch.optim.RMSprop's"]
        )
    return tuple(_recipe(document, path, groups) for path, groups in found)


def _found(document: Document) -> list[tuple[KeyPath, Sequence[Mapping[str, Any]]]]:
    candidates: list[tuple[KeyPath, Any]] = [((), document.data)]
    for path, mapping in mappings(document.data):
        candidates.append(((*path, "param_groups"), mapping.get("param_groups")))
    return [(path, groups) for path, groups in candidates if groups is not None and _are_groups(groups)]


def _are_groups(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(_is_group(group) for group in value)


def _is_group(value: Any) -> bool:
    return isinstance(value, Mapping) and value.keys() >= MARKS


def _recipe(document: Document, path: KeyPath, groups: Sequence[Mapping[str, Any]]) -> Recipe:
    all_settings = [_settings(group) for group in groups]
    base = _base(all_settings)
    settings = all_settings[base]
    others = [index for index, other in enumerate(all_settings) if repr(other) != repr(settings)]
    places: dict[str, KeyPath] = {"": path, **{name: (*path, base, name) for name in settings}}
    for number, index in enumerate(others):
        places |= {f"groups[{number}].{name}": (*path, index, name) for name in all_settings[index]}
    return Recipe(
        FORMAT.name,
        "timm.optim.RMSpropTF" if TIMM_MARK in settings else "torch.optim.RMSprop",
        settings,
        groups=tuple(
            Group(_names(document, groups[index], settings, all_settings[index]), all_settings[index])
            for index in others
        ),
        place=shown(path),
        lines=located(document, places),
        surprises=surprising(document, places),
        remarks=(
            *(() if TIMM_MARK in settings else (WHICH_CLASS,)),
            *_scheduled(groups[base]),
            *_beside(document),
        ),
    )


def _base(all_settings: Sequence[Mapping[str, Any]]) -> int:
    """Return the group that says what holds where no other group says otherwise.

    It is the first, or one that differs from it in having weight decay: of what is spared, there are names.
    """
    first = all_settings[0]
    alike = [i for i, one in enumerate(all_settings) if repr({**one, DECAY: 0}) == repr({**first, DECAY: 0})]
    return next((index for index in alike if given(all_settings[index].get(DECAY))), 0)


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name not in NOT_SETTINGS}


def _names(
    document: Document, group: Mapping[str, Any], base: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[str, ...]:
    names = group.get("param_names")
    if isinstance(names, (list, tuple)) and names and all(isinstance(name, str) for name in names):
        return tuple(names)
    differing = [key for key in {**base, **settings} if repr(base.get(key)) != repr(settings.get(key))]
    raise ConfigError(
        [
            f"{document.name}: parameter groups differ in {', '.join(differing)} and do not say which parameters "
            "they hold; make the optimizer from model.named_parameters(), which adds param_names"
        ]
    )


def _scheduled(group: Mapping[str, Any]) -> tuple[str, ...]:
    began, now = group.get("initial_lr"), group["lr"]
    if began is None or repr(began) == repr(now):
        return ()
    return (f"a scheduler has moved the learning rate from {began!r} to {now!r}; it is read as {now!r}",)


def _beside(document: Document) -> tuple[str, ...]:
    """Return a remark where the file has the state of a scheduler, which does not name its class."""
    states = [path for path, mapping in mappings(document.data) if mapping.keys() >= SCHEDULER_MARKS]
    return (SCHEDULER.format(place=shown(states[0]) or "the file"),) if states else ()


FORMAT = Format("torch", "PyTorch: param_groups of a live optimizer or a state_dict", recognises, read)
