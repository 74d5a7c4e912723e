"""What is wrong with the fields of a config, a group or a schedule: one sentence for each of pydantic's errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from unirms.clipping import ClipByGlobalNorm, ClipByNorm, ClipByValue
from unirms.errors import ConfigError, as_given, did_you_mean
from unirms.schedules import KINDS, MODELS, Plateau

_CLIPS: dict[str, type[BaseModel]] = {"value": ClipByValue, "norm": ClipByNorm, "global_norm": ClipByGlobalNorm}
_KIND: dict[str, type[BaseModel]] = {**dict(zip(KINDS, MODELS, strict=True)), "plateau": Plateau, **_CLIPS}
_TAGS = {"number", "schedule", *_KIND}


def explain_problems(errors: Sequence[ErrorDetails], part: type[BaseModel] | None = None) -> list[str]:
    """Return one sentence for each of pydantic's errors: what was given, what is allowed, what to do.

    Args:
        errors: the errors, of a config.
        part: the clip, schedule or group that they are of, if it was made by itself.
    """
    made = next((kind for kind, model in _KIND.items() if model is part), None)
    return [_sentence(error, made) for error in errors]


def _sentence(error: ErrorDetails, made: str | None) -> str:
    steps, kind = _place(error, made)
    place = ".".join(steps)
    nested = error.get("ctx", {}).get("error")
    if isinstance(nested, ConfigError):  # our own error, raised by a validated copy of a config
        return str(nested)
    if error["type"] == "extra_forbidden":
        return f"{place}={as_given(error['input'])} is not a field; {_right_field(steps[-1], kind)}"
    if not steps:
        if "=" in error["msg"]:  # of fields that do not agree
            return error["msg"]
        return f"a config is a mapping of fields (given {as_given(error['input'])})"
    if error["type"] in {"bad_pattern", "two_rates", "bad_schedule"}:
        return f"{place}: {error['msg']}"
    if error["type"] == "missing":
        return f"{place} is missing"
    return f"{place}={as_given(error['input'])} is not allowed; {place} must be {_allowed(error, steps, kind)}"


def _place(error: ErrorDetails, kind: str | None) -> tuple[list[str], str | None]:
    """Return the steps to where an error is, and the kind of the innermost schedule or clip there, None in none.

    Discriminated unions put their tags between a field and what is in its value; only real steps help a reader. A field
    that there is not may have the name of a tag.
    """
    *way, last = error["loc"] or ("",)
    steps: list[str] = []
    in_value = False
    for step in way if error["type"] == "extra_forbidden" else error["loc"]:
        if in_value and step in _TAGS:
            kind = str(step) if step in _KIND else kind
            in_value = step not in _KIND  # after its kind comes a field of the part
        else:
            steps.append(str(step))
            in_value = True
    return [*steps, str(last)] if error["type"] == "extra_forbidden" else steps, kind


def _allowed(error: ErrorDetails, steps: Sequence[str], kind: str | None) -> str:
    context = error.get("ctx", {})
    wrong = error["type"]
    if wrong == "union_tag_not_found":
        return "a mapping with the field " + str(context.get("discriminator")).replace("'", "")
    if wrong in {"literal_error", "union_tag_invalid"}:
        return "one of " + str(context.get("expected", context.get("expected_tags"))).replace(" or ", ", ")
    if wrong == "not_a_flag":
        return "True or False"
    if wrong in {"greater_than_equal", "greater_than", "less_than_equal", "less_than", "not_a_number", "not_finite"}:
        name = next(step for step in reversed(steps) if not step.isdigit())  # that of a list, for what is in it
        return f"a finite number {_range(name, kind)}".rstrip()
    if wrong == "not_an_integer":
        return "a whole number"
    if wrong in {"model_type", "model_attributes_type"}:
        return "a mapping of fields"
    if wrong == "too_short":
        return f"a list of at least {context['min_length']}"
    return error["msg"][0].lower() + error["msg"][1:]


def _range(name: str, kind: str | None) -> str:
    """Return the allowed range of a field of a config, or of a part of it, read off its declaration."""
    from unirms.config import ParameterGroup, RMSPropConfig  # which imports this module

    models: list[type[BaseModel]] = [RMSPropConfig, ParameterGroup] if kind is None else [_KIND[kind]]
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
    """Return what to write instead of a name that no field has; `kind` is that of the part it stands in."""
    from unirms.config import RMSPropConfig
    from unirms.dialects import fields_called

    if kind is not None:
        return f"{f'a clip by {kind}' if kind in _CLIPS else kind} has the fields {', '.join(_KIND[kind].model_fields)}"
    foreign = fields_called(name)
    if foreign:
        return "write " + " or ".join(foreign)
    return did_you_mean(name, RMSPropConfig.model_fields, "the fields are")
