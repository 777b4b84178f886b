"""JSON schema of sweep definitions, for editors: completion and checks while typing."""

from __future__ import annotations

from typing import Any

from sweeps.definition import Sweep

_BOUNDS = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}

_INCLUDE = {
    "description": "Files to start from, relative to this one; what is written here wins.",
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
}

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def sweep_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a sweep file, short forms such as `objective: causal` included."""
    schema = _named(Sweep.model_json_schema(mode="validation"))
    schema.pop("title", None)
    schema["properties"]["include"] = _INCLUDE
    return {"$schema": DIALECT, "title": "scaling sweep definition", **schema}


def _named(node: Any) -> Any:
    """The schema with bounds by their JSON Schema names: pydantic leaves its own on numbers that take 1e6 as whole."""
    if isinstance(node, list):
        return [_named(item) for item in node]
    if not isinstance(node, dict):
        return node
    is_number = node.get("type") in ("integer", "number")
    return {_BOUNDS.get(key, key) if is_number else key: _named(value) for key, value in node.items()}
