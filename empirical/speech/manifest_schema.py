"""The schema of a manifest's lines, and whether a line keeps to it.

The schema is the package's `manifest.schema.json` (JSON Schema 2020-12), for other programs too; `violation`
understands the part of the language that it uses, which a test holds it to.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

KEYWORDS = frozenset(
    (
        *("type", "const", "required", "properties", "additionalProperties", "minProperties", "items"),
        *("minLength", "pattern", "minimum", "exclusiveMinimum"),
    )
)
"""What `violation` checks; titles and descriptions say nothing of a value."""

_TYPES: Mapping[str, tuple[type, ...]] = MappingProxyType(
    {
        "object": (dict,),
        "array": (list,),
        "string": (str,),
        "boolean": (bool,),
        "integer": (int,),
        "number": (int, float),
        "null": (type(None),),
    }
)


@functools.cache
def manifest_schema() -> dict[str, Any]:
    """The schema of one line; not to be written to."""
    text = importlib.resources.files("empirical.speech").joinpath("manifest.schema.json").read_text(encoding="utf-8")
    return json.loads(text)


def violation(value: Any, schema: Mapping[str, Any], name: str = "the line") -> str:
    """The first rule that a value breaks, as "name must RULE; got X"; "" where it keeps to all."""
    kinds = schema.get("type", ())
    kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    if kinds and not any(_is(value, kind) for kind in kinds):
        return f"{name} must be {' or '.join(kinds)}; got {_shown(value)}"
    if "const" in schema and (value != schema["const"] or isinstance(value, bool)):
        return f"{name} must be {schema['const']}; got {_shown(value)}"
    if isinstance(value, dict):
        return _of_object(value, schema, name)
    if isinstance(value, list) and "items" in schema:
        return next(
            filter(None, (violation(item, schema["items"], f"{name}[{i}]") for i, item in enumerate(value))), ""
        )
    if isinstance(value, str):
        if len(value) < schema.get("minLength", 0):
            return f"{name} must not be empty"
        if "pattern" in schema and not re.search(schema["pattern"], value):
            return f"{name} must match {schema['pattern']}; got {_shown(value)}"
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        if value < schema.get("minimum", -math.inf):
            return f"{name} must be at least {schema['minimum']}; got {_shown(value)}"
        if value <= schema.get("exclusiveMinimum", -math.inf):
            return f"{name} must be above {schema['exclusiveMinimum']}; got {_shown(value)}"
    return ""


def _of_object(value: dict[str, Any], schema: Mapping[str, Any], name: str) -> str:
    missing = [key for key in schema.get("required", ()) if key not in value]
    if missing:
        return f"{name} must have {', '.join(missing)}"
    if len(value) < schema.get("minProperties", 0):
        return f"{name} must not be empty"
    named, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    for key, item in value.items():
        rule = named.get(key, others)
        if rule is False:
            return f"{name} must have no field {_shown(key)}"
        if isinstance(rule, Mapping) and (broken := violation(item, rule, key)):
            return broken
    return ""


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, _TYPES[kind])


def _shown(value: Any, most: int = 60) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= most else text[:most] + "…"
