"""Find operations, responses and examples in openapi.json. Knows nothing about roles and situations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from hobbyhorse.contract.forms.expressions import MISSING, Pointer, parse_pointer, resolve
from hobbyhorse.contract.shapes import METHODS

LIFECYCLE, OPENAPI = "lifecycle.json", "openapi.json"
JSON_TYPE = "application/json"
JSON_BODY: Pointer = ("content", JSON_TYPE)


def bodiless(status: int | str) -> bool:
    """Whether a response with a status has no body (RFC 9110, 6.4.1); a client reads one as the next response."""
    return str(status) in ("204", "304") or str(status).startswith("1")


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
    response, home = _response(openapi, found, status)
    media_type = None if response is None or bodiless(status) else json_type(response.get("content", {}))
    return None if media_type is None else (*home, "content", media_type)


def empty_response(openapi: Mapping[str, Any], found: DeclaredOperation, status: int) -> Pointer | None:
    """Return where the JSON media type object of a declared response without content would be, or None."""
    response, home = _response(openapi, found, status)
    if response is None or not response.get("content"):
        return None if response is None else (*home, *JSON_BODY)
    # Lint refuses this content. A place beside it has no example, so that the fake sends no body.
    return (*home, "no content", *JSON_BODY[1:]) if bodiless(status) else None


def _response(
    openapi: Mapping[str, Any], found: DeclaredOperation, status: int
) -> tuple[Mapping[str, Any] | None, Pointer]:
    """Return the response that an operation declares for a status, or None, and its place."""
    home = (*found.pointer, "responses", str(status))
    response = found.spec.get("responses", {}).get(str(status))
    return (None, home) if response is None else follow(openapi, response, home)


def json_type(content: Mapping[str, Any]) -> str | None:
    """Return the JSON media type of a `content` object: `application/json`, else the first with the suffix `+json`."""
    bare = {name.partition(";")[0].strip().lower(): name for name in reversed(list(content))}
    suffixed = (name for name in reversed(bare) if name.endswith("+json"))
    found = JSON_TYPE if JSON_TYPE in bare else next(suffixed, None)
    return None if found is None else bare[found]


def json_body(openapi: Mapping[str, Any], holder: Pointer) -> Pointer:
    """Return the place of the JSON media type object of a response or requestBody, whether or not it exists."""
    content = resolve(openapi, (*holder, "content"))
    found = json_type(content) if isinstance(content, dict) else None
    return (*holder, "content", found or JSON_TYPE)


def examples_at(openapi: Mapping[str, Any], content: Pointer) -> Mapping[str, Any]:
    """Return the named examples of a media type object."""
    found = resolve(openapi, (*content, "examples"))
    return found if isinstance(found, dict) else {}


def has_example(openapi: Mapping[str, Any], content: Pointer, name: str) -> bool:
    """Whether a media type object has an example with this name and a value."""
    return resolve(openapi, (*content, "examples", name, "value")) is not MISSING
