"""The references in a folder's documents: where they stand, and those that lead nowhere or to themselves."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from hobbyhorse.contract.forms.expressions import MISSING, ExpressionError, Pointer, parse_pointer, resolve

VALUES = frozenset({"example", "examples", "default", "const", "enum", "value"})
"""Members that hold values: what looks like a keyword in there is none."""

NAMED = frozenset({"properties", "schemas", "parameters", "responses", "headers", "callbacks", "content", "paths"})
"""Members whose own members have names and not keywords."""


def keyword_objects(document: Any) -> Iterator[tuple[Pointer, dict[str, Any]]]:
    """Yield every object whose members are keywords, of OpenAPI or of JSON Schema, with its place, in order."""
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
    """Yield every reference of a document with the place of the object that is one."""
    for pointer, value in keyword_objects(document):
        if isinstance(text := value.get("$ref"), str):
            yield pointer, text


def files_referred_to(documents: Mapping[str, Any]) -> set[str]:
    """Return the files that some document refers to."""
    return {_file(file, text) for file, document in documents.items() for _, text in references(document)}


def broken_references(documents: Mapping[str, Any]) -> Iterator[tuple[str, Pointer, str]]:
    """Yield file, place and fault of each reference that cannot be followed to an end."""
    for file, document in documents.items():
        for pointer, text in references(document):
            if fault := _fault(documents, file, text):
                yield file, (*pointer, "$ref"), fault


Target = tuple[str, Pointer]
"""A file and a place in it."""


def _fault(documents: Mapping[str, Any], file: str, text: str) -> str | None:
    try:
        start = _target(file, text)
    except ExpressionError as error:
        return f"{text!r} cannot be followed: {error}"
    if _at(documents, start) is MISSING:
        return f"{text!r} leads nowhere; a reference is a file of the folder, # and a JSON Pointer"
    if not isinstance(_at(documents, start), dict | bool):
        return f"{text!r} leads to a bare value; a reference is to a schema, a parameter or a response"
    waiting, seen = [start], set()
    while waiting:
        here = waiting.pop()
        for inner in _in_place(_at(documents, here)):
            try:
                target = _target(here[0], inner)
            except ExpressionError:
                continue
            if target == start:
                return f"{text!r} leads back to itself"
            if target not in seen:
                seen.add(target)
                waiting.append(target)
    return None


def _target(file: str, text: str) -> Target:
    """Return where a reference in a file leads. Raises ExpressionError."""
    return _file(file, text), parse_pointer(unquote(text.partition("#")[2]))


def _file(file: str, text: str) -> str:
    """Return the file that a reference in a file leads to: it is named relative to that."""
    name = text.partition("#")[0]
    return posixpath.join(posixpath.dirname(file), name) if name else file


def _at(documents: Mapping[str, Any], target: Target) -> Any:
    return resolve(documents.get(target[0], MISSING), target[1])


def _in_place(schema: Any) -> Iterator[str]:
    """Yield the references that say what a value must be like, not what something inside it must be like."""
    if isinstance(schema, dict):
        if isinstance(text := schema.get("$ref"), str):
            yield text
        readings = schema.get("anyOf")
        for reading in readings if isinstance(readings, list) else ():
            yield from _in_place(reading)
