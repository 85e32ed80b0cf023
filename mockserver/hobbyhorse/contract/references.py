"""Find the `$ref`s in a folder's documents, and those that are unresolvable or circular. Reads no files."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from hobbyhorse.contract.forms.expressions import MISSING, ExpressionError, Pointer, parse_pointer, resolve

# Members that contain plain values: a "$ref" inside an example is data, not a reference.
VALUES = frozenset({"example", "examples", "default", "const", "enum", "value"})

# Members whose own members are names, not keywords: a property may be called "$ref" or "example".
NAMED = frozenset({"properties", "schemas", "parameters", "responses", "headers", "callbacks", "content", "paths"})


def keyword_objects(document: Any) -> Iterator[tuple[Pointer, dict[str, Any]]]:
    """Yield the place and value of each object whose members are OpenAPI or JSON Schema keywords, in document order."""
    # A stack instead of recursion, because a user's document may be nested deeper than Python can recurse. Members are
    # pushed in reverse, so that they are popped in order.
    waiting: list[tuple[Pointer, Any, bool]] = [((), document, False)]
    while waiting:
        pointer, value, named = waiting.pop()
        if isinstance(value, list):
            waiting += [((*pointer, str(index)), item, False) for index, item in reversed(list(enumerate(value)))]
        elif isinstance(value, dict):
            if not named:
                yield pointer, value
            waiting += [
                ((*pointer, name), item, not named and name in NAMED)
                for name, item in reversed(value.items())
                if named or name not in VALUES
            ]


def references(document: Any) -> Iterator[tuple[Pointer, str]]:
    """Yield the place and the reference of each object with a `$ref`."""
    for pointer, value in keyword_objects(document):
        if isinstance(text := value.get("$ref"), str):
            yield pointer, text


def files_referred_to(documents: Mapping[str, Any]) -> set[str]:
    """Return the names of all files that any document refers to, existing or not."""
    return {_file(file, text) for file, document in documents.items() for _, text in references(document)}


def broken_references(documents: Mapping[str, Any]) -> Iterator[tuple[str, Pointer, str]]:
    """Yield the file, place and error message of each reference that does not lead to a schema or component."""
    for file, document in documents.items():
        for pointer, text in references(document):
            if fault := _fault(documents, file, text):
                yield file, (*pointer, "$ref"), fault


Target = tuple[str, Pointer]
"""A file and a place in that file."""


def _fault(documents: Mapping[str, Any], file: str, text: str) -> str | None:
    try:
        start = _target(file, text)
    except ExpressionError as error:
        return f"{text!r} is not a valid reference: {error}"
    if _at(documents, start) is MISSING:
        return f"{text!r} does not exist; expected a file of the folder, # and a JSON Pointer"
    if not isinstance(_at(documents, start), dict | bool):
        return f"{text!r} is a plain value; allowed: a schema, a parameter or a response"
    # A cycle through `properties` or `items` is a legal recursive schema, because it applies to an inner value each
    # time. A cycle through only `$ref` and `anyOf` applies to the same value endlessly.
    waiting, seen = [start], set()
    while waiting:
        here = waiting.pop()
        for inner in _in_place(_at(documents, here)):
            try:
                target = _target(here[0], inner)
            except ExpressionError:
                continue  # the invalid reference is reported at its own place
            if target == start:
                return f"{text!r} refers back to itself"
            if target not in seen:
                seen.add(target)
                waiting.append(target)
    return None


def _target(file: str, text: str) -> Target:
    """Return the target of a reference in a file. Raises ExpressionError."""
    return _file(file, text), parse_pointer(unquote(text.partition("#")[2]))


def _file(file: str, text: str) -> str:
    """Return the file to which a reference in `file` refers."""
    name = text.partition("#")[0]
    return posixpath.join(posixpath.dirname(file), name) if name else file


def _at(documents: Mapping[str, Any], target: Target) -> Any:
    return resolve(documents.get(target[0], MISSING), target[1])


def _in_place(schema: Any) -> Iterator[str]:
    """Yield the references of a schema that apply to the value itself, not to a member or item."""
    if isinstance(schema, dict):
        if isinstance(text := schema.get("$ref"), str):
            yield text
        branches = schema.get("anyOf")
        for branch in branches if isinstance(branches, list) else ():
            yield from _in_place(branch)
