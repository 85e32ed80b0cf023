"""Structural schemas of a folder's documents, and a document's violations. Checks structure, not meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from hobbyhorse.contract.schemas import LONGEST_MESSAGE, Violation
from hobbyhorse.contract.validators import validators

if TYPE_CHECKING:
    import jsonschema_rs

Shape: TypeAlias = "jsonschema_rs.Draft202012Validator"
"""A compiled schema."""

# The fields of an OpenAPI 3.1 Path Item Object that contain operations.
METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")

# JSON Schema 2020-12 allows `true` and `false` as schemas. checks/documents checks the schemas themselves.
_SCHEMA: Final = {"type": ["object", "boolean"]}


def _map(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an object with arbitrary names whose values all satisfy one schema."""
    return {"type": "object", "additionalProperties": values}


def _list(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _shared(kind: str) -> dict[str, Any]:
    """Return the schema of an inline object of a kind, or of a `$ref` to one in `components`."""
    # if/then/else instead of anyOf, so that a broken inline object is reported with its own violation.
    return {
        "type": "object",
        "if": {"required": ["$ref"]},
        "then": {"properties": {"$ref": {"type": "string", "pattern": f"^#/components/{kind}/[^/]+$"}}},
        "else": {"$ref": f"#/$defs/{kind}"},
    }


OPENAPI_SHAPE: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["openapi", "info", "paths"],
    "properties": {
        "openapi": {"type": "string"},
        "info": {"type": "object", "required": ["title", "version"]},
        "servers": _list({"type": "object", "required": ["url"], "properties": {"url": {"type": "string"}}}),
        "security": {"$ref": "#/$defs/security"},
        "paths": {**_map({"$ref": "#/$defs/path"}), "propertyNames": {"pattern": "^/"}},
        "components": {
            "type": "object",
            "properties": {
                "schemas": _map(_SCHEMA),
                "parameters": _map({"$ref": "#/$defs/parameters"}),
                "responses": _map({"$ref": "#/$defs/responses"}),
                "securitySchemes": _map(
                    {
                        "type": "object",
                        "required": ["type"],
                        "properties": {"scheme": {"type": "string"}, "name": {"type": "string"}},
                        "if": {"properties": {"type": {"const": "apiKey"}}},
                        "then": {"required": ["name", "in"]},
                    }
                ),
            },
        },
    },
    "$defs": {
        "path": {
            "type": "object",
            "properties": {
                "parameters": _list(_shared("parameters")),
                **{method: {"$ref": "#/$defs/operation"} for method in METHODS},
            },
        },
        "operation": {
            "type": "object",
            "properties": {
                "operationId": {"type": "string"},
                "security": {"$ref": "#/$defs/security"},
                "parameters": _list(_shared("parameters")),
                "requestBody": {
                    "type": "object",
                    "required": ["content"],
                    "properties": {"content": {"$ref": "#/$defs/content"}},
                },
                "responses": _map(_shared("responses")),
                "callbacks": _map(_map({"$ref": "#/$defs/path"})),
            },
        },
        "security": _list({"type": "object"}),
        "parameters": {
            "type": "object",
            "required": ["name", "in", "schema"],
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "in": {"enum": ["path", "query", "header"]},
                "required": {"type": "boolean"},
                "schema": _SCHEMA,
                "x-multi-segment": {"type": "boolean"},
            },
        },
        "responses": {
            "type": "object",
            "required": ["description"],
            "properties": {"headers": {"type": "object"}, "content": {"$ref": "#/$defs/content"}},
        },
        "content": _map(
            {
                "type": "object",
                "required": ["schema"],
                "properties": {"schema": _SCHEMA, "examples": _map({"type": "object", "required": ["value"]})},
            }
        ),
    },
}
"""The part of OpenAPI 3.1 that a contract uses. Other members are allowed and ignored."""


def compile_shape(schema: Any) -> Shape:
    """Compile a schema."""
    compiled: Shape = validators().Draft202012Validator(schema)
    return compiled


def shape_violations(shape: Shape, document: Any) -> list[Violation]:
    """Return a document's violations; those of a failed `oneOf` are those in the branch of the value's type."""
    found = []
    for error in map(_nearest, shape.iter_errors(document)):
        line = " ".join(error.message.split())
        # The message begins with the value and ends with the violated rule, so both ends are kept.
        if len(line) > LONGEST_MESSAGE:
            line = f"{line[: LONGEST_MESSAGE // 2]} … {line[-LONGEST_MESSAGE // 2 :]}"
        found.append(Violation(tuple(error.instance_path), line))
    return found


def _nearest(error: jsonschema_rs.ValidationError) -> jsonschema_rs.ValidationError:
    """Return the first error of the `oneOf` branch that accepts the value's type, or the error itself if none does."""
    # "is not valid under any of the schemas" does not help an author. Most oneOfs are "a string or an object", so the
    # author meant the branch that accepts the value's type.
    if isinstance(error.kind, validators().ValidationErrorKind.OneOfNotValid):
        for branch in error.kind.context:
            if all(list(inner.instance_path) != list(error.instance_path) or _is_of_type(inner) for inner in branch):
                return _nearest(branch[0])
    return error


def _is_of_type(error: jsonschema_rs.ValidationError) -> bool:
    return not isinstance(error.kind, validators().ValidationErrorKind.Type)
