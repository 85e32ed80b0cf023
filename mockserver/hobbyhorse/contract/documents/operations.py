"""Find operations, responses and examples in openapi.json. Knows nothing about roles and situations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from hobbyhorse.contract.forms.expressions import MISSING, Pointer, parse_pointer, resolve
from hobbyhorse.contract.shapes import METHODS

LIFECYCLE, OPENAPI = "lifecycle.json", "openapi.json"
JSON_BODY: Pointer = ("content", "application/json")


@dataclass(frozen=True, slots=True)
class DeclaredOperation:
    """An operation of openapi.json: its place, method, path, path item and operation object (`spec`)."""

    pointer: Pointer
    method: str
    path: str
    item: Mapping[str, Any]
    spec: Mapping[str, Any]


def declared_operations(openapi: Mapping[str, Any]) -> Iterator[DeclaredOperation]:
    """Yield every operation, each followed by the operations of its callbacks."""
    yield from _operations(openapi.get("paths", {}), ("paths",))


def _operations(paths: Mapping[str, Any], pointer: Pointer) -> Iterator[DeclaredOperation]:
    for path, item in paths.items():
        for method in METHODS:
            if method in item:
                here = (*pointer, path, method)
                yield DeclaredOperation(here, method, path, item, item[method])
                for name, callback in item[method].get("callbacks", {}).items():
                    yield from _operations(callback, (*here, "callbacks", name))


def follow(openapi: Mapping[str, Any], item: Mapping[str, Any], home: Pointer) -> tuple[Mapping[str, Any], Pointer]:
    """Follow an object's `$ref` inside openapi.json; return the final object and its place."""
    if "$ref" not in item:
        return item, home
    pointer = parse_pointer(unquote(item["$ref"].partition("#")[2]))
    return resolve(openapi, pointer), pointer


def json_content(openapi: Mapping[str, Any], found: DeclaredOperation, status: int) -> Pointer | None:
    """Return the place of a response's JSON media type object, following references, or None."""
    response = found.spec.get("responses", {}).get(str(status))
    if response is None:
        return None
    response, home = follow(openapi, response, (*found.pointer, "responses", str(status)))
    return (*home, *JSON_BODY) if JSON_BODY[1] in response.get("content", {}) else None


def examples_at(openapi: Mapping[str, Any], content: Pointer) -> Mapping[str, Any]:
    """Return the named examples of a media type object."""
    found = resolve(openapi, (*content, "examples"))
    return found if isinstance(found, dict) else {}


def has_example(openapi: Mapping[str, Any], content: Pointer, name: str) -> bool:
    """Whether a media type object has an example with this name and a value."""
    return resolve(openapi, (*content, "examples", name, "value")) is not MISSING
