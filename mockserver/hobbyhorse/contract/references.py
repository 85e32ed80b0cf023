"""The references in a folder's documents: where they stand, and those that lead nowhere or to themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hobbyhorse.expressions import MISSING, ExpressionError, Pointer, parse_pointer, resolve

_VALUES = frozenset({"example", "examples", "default", "const", "enum", "value"})
"""Members that hold values: what looks like a reference in there is none."""

_NAMED = frozenset({"properties", "schemas", "parameters", "responses", "headers", "callbacks", "content", "paths"})
"""Members whose own members have names and not keywords."""


def references(document: Any) -> Iterator[tuple[Pointer, str]]:
    """Yield every reference of a document with the place of the object that is one."""
    waiting: list[tuple[Pointer, Any, bool]] = [((), document, False)]
    while waiting:
        pointer, value, named = waiting.pop()
        if isinstance(value, list):
            waiting += [((*pointer, str(index)), item, False) for index, item in enumerate(value)]
        elif isinstance(value, dict):
            if not named and isinstance(value.get("$ref"), str):
                yield pointer, value["$ref"]
            waiting += [
                ((*pointer, name), item, not named and name in _NAMED)
                for name, item in value.items()
                if named or name not in _VALUES
            ]


def broken_references(documents: Mapping[str, Any]) -> Iterator[tuple[str, Pointer, str]]:
    """Yield file, place and fault of each reference that cannot be followed to its end."""
    for file, document in documents.items():
        for pointer, text in references(document):
            if fault := _fault(documents, file, text):
                yield file, (*pointer, "$ref"), fault


def _fault(documents: Mapping[str, Any], file: str, text: str) -> str | None:
    seen, here = set(), text
    while True:
        target, _, fragment = here.partition("#")
        file = target or file
        try:
            value = resolve(documents.get(file, MISSING), parse_pointer(fragment))
        except ExpressionError as error:
            return f"{text!r} cannot be followed: {error}"
        if value is MISSING:
            return f"{text!r} leads nowhere; a reference is a file of the folder, # and a JSON Pointer"
        if (file, fragment) in seen:
            return f"{text!r} leads back to itself"
        seen.add((file, fragment))
        if not isinstance(value, dict) or not isinstance(value.get("$ref"), str):
            return None
        here = value["$ref"]
