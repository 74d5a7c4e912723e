"""The JSON Schema of a config's file: what editors complete and check while somebody writes one.

It accepts what `RMSPropConfig` accepts from a file: one clip or a list of them, one name pattern or a list. What no
schema can say it leaves out: regular expressions, and the rules among the lists of a schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel

from unirms.clipping import ClipByGlobalNorm, ClipByNorm, ClipByValue
from unirms.config import ParameterGroup, RMSPropConfig
from unirms.files import FORMAT, SCHEMA_KEY, SCHEMA_VERSION
from unirms.schedules import MODELS, Plateau

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
IDENTIFIER: Final = f"urn:unirms:config:{SCHEMA_VERSION}"
_KEYWORDS: Final = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
"""pydantic leaves the limits of numbers with a validator of their own under its own names."""
_LEFT_OUT: Final = ("title", "discriminator")
"""Titles repeat the names of the fields, and the other is a keyword of OpenAPI."""
_RATES: Final = ("learning_rate", "learning_rate_factor")
_IN_GROUPS: Final = {
    "match": "name patterns of the parameters",
    "learning_rate_factor": "the learning rate is the config's times this factor",
}


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a config as YAML, JSON or TOML."""
    stated = _in_keywords(RMSPropConfig.model_json_schema())
    fields = {name: _field(field) for name, field in stated["properties"].items()}
    notes = {name: field["description"] for name, field in fields.items()}
    parts: dict[str, Any] = stated["$defs"]
    clips: list[type[BaseModel]] = [ClipByValue, ClipByNorm, ClipByGlobalNorm]
    schedules: list[type[BaseModel]] = [*MODELS, Plateau]
    tags = {**dict.fromkeys(clips, "by"), **dict.fromkeys(schedules, "kind")}
    for part, tag in tags.items():  # the tag has to be given, although it has a default
        parts[part.__name__].setdefault("required", []).insert(0, tag)
        parts[part.__name__]["properties"] = {
            name: _field(field) for name, field in parts[part.__name__]["properties"].items()
        }
    group = parts[ParameterGroup.__name__]
    group["properties"] = {
        name: {**_field(field), "description": {**notes, **_IN_GROUPS}[name]}
        for name, field in group["properties"].items()
    }
    group["not"] = {"properties": {rate: {"type": "number"} for rate in _RATES}, "required": list(_RATES)}
    return {
        "$schema": DIALECT,
        "$id": IDENTIFIER,
        "title": "A config of unirms",
        "description": "The complete meaning of an RMSProp.",
        "type": "object",
        "properties": {
            FORMAT: {"const": SCHEMA_VERSION, "description": "version of this schema"},
            SCHEMA_KEY: {"type": "string", "description": "where an editor finds this schema; it means nothing else"},
            **fields,
        },
        "required": [FORMAT],
        "additionalProperties": False,
        "allOf": [
            _needs("nesterov", True, {"momentum": {"exclusiveMinimum": 0}}, required=["momentum"]),
            _needs("bias_correction", True, {"rho": {"exclusiveMaximum": 1}}),
            _needs(
                "sparse",
                "lazy",
                {"gradient_accumulation_steps": {"maximum": 1}, "gradient_centralization": {"const": "none"}},
            ),
            _no_fixed_rates(),
        ],
        "$defs": parts,
    }


def _in_keywords(node: Any) -> Any:
    """Return pydantic's schema with JSON Schema's keywords alone."""
    if isinstance(node, list):
        return [_in_keywords(item) for item in node]
    if not isinstance(node, dict):
        return node
    names = _KEYWORDS if node.get("type") in {"number", "integer"} else {}
    return {names.get(key, key): _in_keywords(value) for key, value in node.items() if key not in _LEFT_OUT}


def _field(field: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of one field; a list may be given as its only item, and an empty one as null."""
    options = field.get("anyOf", [])
    if any(option.get("type") == "array" for option in options):
        lists = [
            {"anyOf": [option["items"], option]} if option.get("type") == "array" else option for option in options
        ]
        return {**field, "anyOf": lists}
    if field.get("type") != "array":
        return field
    notes: dict[str, Any] = {key: field[key] for key in ("description", "default") if key in field}
    items = field["items"]
    if "minItems" in field:
        return {**notes, "anyOf": [items, {"type": "array", "items": items, "minItems": field["minItems"]}]}
    return {**notes, "anyOf": [items, {"type": "array", "items": items}, {"type": "null"}]}


def _needs(field: str, value: Any, limits: dict[str, Any], required: Sequence[str] = ()) -> dict[str, Any]:
    """Return the rule that one value of a field narrows the range of others."""
    return {
        "if": {"properties": {field: {"const": value}}, "required": [field]},
        "then": {"properties": limits, "required": list(required)},
    }


def _no_fixed_rates() -> dict[str, Any]:
    """Return the rule that groups have no learning rate of their own beside a schedule."""
    own = {"type": "object", "properties": {"learning_rate": {"type": "number"}}, "required": ["learning_rate"]}
    return {
        "if": {"properties": {"learning_rate": {"type": "object"}}, "required": ["learning_rate"]},
        "then": {"properties": {"groups": {"not": own, "items": {"not": own}}}, "required": []},
    }
