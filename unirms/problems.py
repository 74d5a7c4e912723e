"""What is wrong with the fields of a config, a group or a schedule: one sentence for each of pydantic's errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from unirms.clipping import ClipByNorm, ClipByValue
from unirms.errors import ConfigError, as_given, did_you_mean
from unirms.schedules import KINDS, MODELS, Plateau

_KIND: dict[str, type[BaseModel]] = {**dict(zip(KINDS, MODELS, strict=True)), "plateau": Plateau}
_TAGS = {"value", "norm", "global_norm", "number", "schedule", *_KIND}


def explain_problems(errors: Sequence[ErrorDetails]) -> list[str]:
    """Return one sentence for each of pydantic's errors: what was given, what is allowed, what to do."""
    return [_sentence(error) for error in errors]


def _sentence(error: ErrorDetails) -> str:
    # Discriminated unions put their tag into the location; only real steps help a reader.
    steps = [str(step) for step in error["loc"] if step not in _TAGS]
    place = ".".join(steps)
    nested = error.get("ctx", {}).get("error")
    if isinstance(nested, ConfigError):  # our own error, raised by a validated copy of a config
        return str(nested)
    if error["type"] == "extra_forbidden":
        return f"{place}={as_given(error['input'])} is not a field; {_right_field(steps[-1], _kind(error))}"
    if not steps:
        if "=" in error["msg"]:  # of fields that do not agree
            return error["msg"]
        return f"a config is a mapping of fields (given {as_given(error['input'])})"
    if error["type"] in {"bad_pattern", "two_rates", "bad_schedule"}:
        return f"{place}: {error['msg']}"
    if error["type"] == "missing":
        return f"{place} is missing"
    return f"{place}={as_given(error['input'])} is not allowed; {place} must be {_allowed(error)}"


def _allowed(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    kind = error["type"]
    if kind == "union_tag_not_found":
        return "a mapping with the field " + str(context.get("discriminator")).replace("'", "")
    if kind in {"literal_error", "union_tag_invalid"}:
        return "one of " + str(context.get("expected", context.get("expected_tags"))).replace(" or ", ", ")
    if kind == "not_a_flag":
        return "True or False"
    if kind in {"greater_than_equal", "greater_than", "less_than_equal", "less_than", "not_a_number", "not_finite"}:
        name = next(str(step) for step in reversed(error["loc"]) if isinstance(step, str) and step not in _TAGS)
        return f"a finite number {_range(name, _kind(error))}".rstrip()
    if kind == "not_an_integer":
        return "a whole number"
    return error["msg"][0].lower() + error["msg"][1:]


def _kind(error: ErrorDetails) -> str | None:
    """Return the kind of the schedule in which an error is, the innermost; None where it is in none."""
    return next((str(step) for step in reversed(error["loc"]) if step in _KIND), None)


def _range(name: str, kind: str | None) -> str:
    """Return the allowed range of a field of a config, or of a part of it, read off its declaration."""
    from unirms.config import ParameterGroup, RMSPropConfig  # which imports this module

    # A schedule that is made by itself says no kind in the place of its error.
    everywhere: list[type[BaseModel]] = [RMSPropConfig, ParameterGroup, ClipByValue, ClipByNorm, *_KIND.values()]
    models = everywhere if kind is None else [_KIND[kind]]
    declared = next(model.model_fields[name] for model in models if name in model.model_fields)
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    found = [*declared.metadata, *_metadata(declared.annotation)]
    bounds = ((sign, getattr(item, kind, None)) for item in found for kind, sign in signs.items())
    return " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)


def _metadata(annotation: Any) -> Iterator[Any]:
    """Yield what stands beside the first type of an annotation: the number, where it may be something else, too."""
    for part in get_args(annotation)[:1]:
        for item in getattr(part, "__metadata__", ()):
            yield from getattr(item, "metadata", (item,))
        yield from _metadata(part)


def _right_field(name: str, kind: str | None) -> str:
    """Return what to write instead of a name that no field has; `kind` is that of the schedule it stands in."""
    from unirms.config import RMSPropConfig
    from unirms.dialects import fields_called

    if kind is not None:
        return f"{kind} has the fields {', '.join(_KIND[kind].model_fields)}"
    foreign = fields_called(name)
    if foreign:
        return "write " + " or ".join(foreign)
    return did_you_mean(name, RMSPropConfig.model_fields, "the fields are")
