"""OpenAPI runtime expressions: names for places in an HTTP message; knows no contract and no server."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Pointer = tuple[str, ...]


class _Missing:
    """The type of MISSING."""

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = _Missing()
"""What a place holds that is not there; never equal to any JSON value."""


class ExpressionError(ValueError):
    """A text that is no runtime expression, or no JSON Pointer."""


@dataclass(frozen=True, slots=True)
class Message:
    """One side of an exchange, as runtime expressions see it; header names in lower case."""

    path: Mapping[str, str]
    query: Mapping[str, Any]
    header: Callable[[str], str | None]
    body: Any = MISSING


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a message: the side, the part, and the name or pointer inside that part."""

    side: str
    part: str
    name: str = ""
    pointer: Pointer = ()

    def get(self, message: Message) -> Any:
        """Return the value at this place of its side's message, or MISSING."""
        if self.part == "body":
            return resolve(message.body, self.pointer)
        if self.part == "header":
            text = message.header(self.name)
            return MISSING if text is None else text
        part = message.path if self.part == "path" else message.query
        return part.get(self.name, MISSING)

    def __str__(self) -> str:
        if self.part == "body":
            return f"${self.side}.body#{format_pointer(self.pointer)}"
        return f"${self.side}.{self.part}.{self.name}"


_EXPRESSION = re.compile(r"\$(request|response)\.(?:(body)(?:#(.*))?|(header|query|path)\.(.+))", re.DOTALL)


def parse(text: str) -> Place:
    """Read a runtime expression; `$url`, `$method` and `$statusCode` are not places and are refused."""
    match = _EXPRESSION.fullmatch(text)
    if match is None:
        raise ExpressionError(
            f"{text!r} is no place; allowed are $request or $response, then .body#/JSON/POINTER, "
            ".header.NAME, .query.NAME or .path.NAME"
        )
    side, body, pointer, part, name = match.groups()
    if body:
        return Place(side, "body", pointer=parse_pointer(pointer or ""))
    return Place(side, part, name.lower() if part == "header" else name)


def parse_pointer(text: str) -> Pointer:
    """Read a JSON Pointer (RFC 6901) into its unescaped steps."""
    if not text:
        return ()
    if not text.startswith("/") or re.search(r"~(?![01])", text):
        raise ExpressionError(f"{text!r} is no JSON Pointer; it starts with / and has ~ only as ~0 or ~1")
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in text[1:].split("/"))


def format_pointer(pointer: Pointer) -> str:
    """Write a JSON Pointer; the inverse of `parse_pointer`."""
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in pointer)


def resolve(document: Any, pointer: Pointer) -> Any:
    """Return what stands at the pointer in a JSON document, or MISSING."""
    for step in pointer:
        if isinstance(document, dict):
            if step not in document:
                return MISSING
            document = document[step]
        elif isinstance(document, list):
            index = _index(step)
            if index is None or index >= len(document):
                return MISSING
            document = document[index]
        else:
            return MISSING
    return document


def replaced(document: Any, pointer: Pointer, value: Any) -> Any:
    """Return the document with the value at the pointer; MISSING removes the place; nothing is shared anew.

    Objects on the way are made where they are missing; a list takes existing indices only.
    """
    if not pointer:
        return value
    step, rest = pointer[0], pointer[1:]
    if isinstance(document, list):
        index = _index(step)
        if index is None or index >= len(document):
            raise ExpressionError(f"{step!r} is no index of a list of {len(document)}")
        return [replaced(item, rest, value) if at == index else item for at, item in enumerate(document)]
    members = dict(document) if isinstance(document, dict) else {}
    if value is MISSING and not rest:
        members.pop(step, None)
    else:
        members[step] = replaced(members.get(step), rest, value)
    return members


def _index(step: str) -> int | None:
    """Return the list index that a step names: plain ASCII digits with no leading zero."""
    if re.fullmatch("0|[1-9][0-9]{0,17}", step):
        return int(step)
    return None
