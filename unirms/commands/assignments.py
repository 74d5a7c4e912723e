"""Which parameter of a model gets what: the part of `unirms explain` that loads a framework."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from unirms.errors import UnsupportedError

if TYPE_CHECKING:
    from rich.table import Table

    from unirms.config import RMSPropConfig


def assigned(config: RMSPropConfig, target: str, framework: str | None) -> list[dict[str, Any]]:
    """Return a row for each parameter of the model that `package.module:name` names, or makes when it is called.

    A row has the parameter's name, shape, dtype, the index of its group or None, its learning rate at the first update,
    its weight decay, and under "own" whatever else holds for it and not for the parameters of no group.

    Raises:
        UnsupportedError: no such model, or a group that matches none of its parameters.
        FrameworkMissingError: the framework does not load.
    """
    from unirms import fingerprinting, registry
    from unirms.commands.importing import first_line, imported, quieten
    from unirms.grouping import members

    if framework is not None:
        quieten(framework)
        registry.adapter(framework)
    model = imported(target, example="mypackage.models:make_model")
    if inspect.isclass(model) or inspect.isroutine(model):
        try:
            model = model()
        except Exception as error:  # whatever the user's function does
            raise UnsupportedError(f"{target}() fails: {first_line(error)}; name a model, or what makes one") from error
    name = registry.framework(framework).name if framework is not None else fingerprinting.loaded_framework()
    found = registry.adapter(name).named_parameters(model)
    return [
        {
            "parameter": member.name,
            "shape": [int(length) for length in param.value.shape],
            "dtype": param.dtype,
            "group": member.group,
            "learning_rate": member.config.initial_learning_rate,
            "weight_decay": member.config.weight_decay,
            "own": _own(config, member.config),
        }
        for member, param in zip(members(config, [param.name for param in found]), found, strict=True)
    ]


def table(config: RMSPropConfig, rows: list[dict[str, Any]]) -> Table:
    """Return the rows for people."""
    from rich.table import Table

    from unirms.explanation import shown

    drawn = Table()
    for column in ("parameter", "shape", "group", "learning rate", "weight decay", "of its own"):
        drawn.add_column(column, overflow="fold")
    for row in rows:
        group = "" if row["group"] is None else f"{row['group']}: {' or '.join(config.groups[row['group']].match)}"
        own = ", ".join(f"{field} {shown(value)}" for field, value in row["own"].items())
        shape = " x ".join(map(str, row["shape"])) or "scalar"
        drawn.add_row(row["parameter"], shape, group, f"{row['learning_rate']:g}", f"{row['weight_decay']:g}", own)
    return drawn


def _own(config: RMSPropConfig, member: RMSPropConfig) -> dict[str, Any]:
    """Return the fields of a parameter's config that are not those of the parameters in no group."""
    told = {"groups", "no_weight_decay", "learning_rate", "weight_decay"}
    fields = [field for field in type(config).model_fields if field not in told]
    return {field: getattr(member, field) for field in fields if getattr(member, field) != getattr(config, field)}
