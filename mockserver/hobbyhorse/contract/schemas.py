"""The schemas of one folder, compiled when first asked for; knows no HTTP."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, unquote

import jsonschema_rs
import orjson

from hobbyhorse.contract.forms.expressions import MISSING, Pointer, format_pointer, parse_pointer, resolve

BASE = "contract:///"
LONGEST_MESSAGE = 300


@dataclass(frozen=True, slots=True)
class Violation:
    """Where a value breaks its schema, and how, in one line.

    `places` are the addresses of the keyword that it breaks: where it stands, the references that led there, and the
    keywords of the alternatives that were tried.
    """

    location: tuple[str | int, ...]
    message: str
    places: tuple[str, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.location)) or 'value'}: {self.message}"


class Schemas:
    """The schema documents of a folder by file name, addressed as `file.json#/pointer`."""

    def __init__(self, documents: Mapping[str, Any]) -> None:
        self._documents = documents
        self._validators: dict[str, jsonschema_rs.Draft202012Validator] = {}
        self._registry: jsonschema_rs.Registry | None = None

    def document(self, file: str) -> Any:
        """Return a whole document; KeyError if the folder has none of that name."""
        return self._documents[file]

    def at(self, address: str) -> Any:
        """Return what stands at an address, or MISSING."""
        file, _, pointer = address.partition("#")
        return resolve(self._documents.get(file, MISSING), parse_pointer(pointer))

    def deref(self, schema: Any, file: str) -> tuple[Any, str]:
        """Follow `$ref` from a schema in a file to what it means, and the file where that stands."""
        while isinstance(schema, dict) and isinstance(schema.get("$ref"), str):
            target, _, pointer = schema["$ref"].partition("#")
            file = posixpath.join(posixpath.dirname(file), target) if target else file
            schema = resolve(self._documents.get(file, MISSING), parse_pointer(unquote(pointer)))
        return schema, file

    def validator(self, address: str) -> jsonschema_rs.Draft202012Validator:
        """Return the validator of the schema at an address."""
        if (validator := self._validators.get(address)) is None:
            if self._registry is None:
                resources = [(BASE + file, document) for file, document in self._documents.items()]
                self._registry = jsonschema_rs.Registry(resources, draft=jsonschema_rs.Draft202012)
            file, _, pointer = address.partition("#")
            reference = f"{BASE}{file}#{quote(pointer, safe='/~')}"
            validator = jsonschema_rs.Draft202012Validator({"$ref": reference}, registry=self._registry)
            self._validators[address] = validator
        return validator

    def violations(self, address: str, value: Any, most: int = 10) -> list[Violation]:
        """Return how a value breaks the schema at an address; nothing if it does not."""
        validator = self.validator(address)
        found: list[Violation] = []
        try:
            if validator.is_valid(value):
                return []
            for error in validator.iter_errors(value):
                found.append(replace(_violation(error), places=self._places(address, error)))
                if len(found) == most:
                    break
        except ValueError:  # deeper than the validator reads
            return [Violation((), "is nested too deeply")]
        return found

    def _places(self, start: str, error: jsonschema_rs.ValidationError) -> tuple[str, ...]:
        """Return the addresses of what an error says is broken under the schema at an address."""
        kind: Any = error.kind
        tried = [branch[0] for branch in kind.context if branch] if kind.name == "anyOf" else []
        steps = [self._way(start, inner.evaluation_path) for inner in (error, *tried)]
        return tuple(dict.fromkeys((*steps[0], *(way[0] for way in steps[1:]))))

    def _way(self, start: str, steps: Iterable[str | int]) -> tuple[str, ...]:
        """Return where the steps of an evaluation lead, and before that the references that they follow, last first."""
        file, _, text = start.partition("#")
        pointer, way = parse_pointer(text), list[str]()
        for step in list(steps)[1:]:  # the first is the reference to the start
            schema = resolve(self._documents.get(file, MISSING), pointer)
            if step == "$ref" and isinstance(schema, dict) and isinstance(schema.get("$ref"), str):
                way.append(address(file, pointer))
                target, _, text = schema["$ref"].partition("#")
                file = posixpath.join(posixpath.dirname(file), target) if target else file
                pointer = parse_pointer(unquote(text))
            else:
                pointer = (*pointer, str(step))
        return (address(file, pointer), *reversed(way))


def address(file: str, pointer: Pointer) -> str:
    """Return the address of a place in a folder's file."""
    return f"{file}#{format_pointer(pointer)}"


def _violation(error: jsonschema_rs.ValidationError) -> Violation:
    """Return an error with a missing member as its place, and with every allowed value named."""
    location = tuple(error.instance_path)
    if error.kind.name == "required":
        return Violation((*location, str(error.kind.value)), "is missing")
    if error.kind.name == "enum":
        allowed = ", ".join(map(_json, error.kind.value))
        return Violation(location, _shorten(f"{_json(error.instance)} is not one of {allowed}"))
    kind: Any = error.kind
    if kind.name == "propertyNames":
        return Violation(location, _violation(kind.error).message)
    if kind.name == "anyOf":
        ways = [_violation(branch[0]).message for branch in kind.context if branch]
        return Violation(location, _shorten(" and ".join(ways) or error.message))
    return Violation(location, _shorten(error.message))


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _shorten(message: str) -> str:
    """Keep a message to one line that fits a log, its end included: that is where the allowed values are."""
    line = " ".join(message.split())
    if len(line) <= LONGEST_MESSAGE:
        return line
    half = LONGEST_MESSAGE // 2
    return f"{line[:half]} … {line[-half:]}"
