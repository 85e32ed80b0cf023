"""OpenAPI runtime expressions and JSON Pointers, which name places in an HTTP message. No contract, no server."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

Pointer = tuple[str, ...]
"""A JSON Pointer as unescaped steps; an array index is a step of digits."""


class _Missing:
    """The type of MISSING."""

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


# None cannot mean an absent value, because null is a JSON value and a contract may require it.
MISSING: Final = _Missing()
"""The value of a place that does not exist. It is unequal to every JSON value."""


class ExpressionError(ValueError):
    """An invalid runtime expression or JSON Pointer, or an array index that does not exist."""


@dataclass(frozen=True, slots=True)
class Message:
    """A request or response as runtime expressions see it. `header` is called with lower-case names."""

    path: Mapping[str, str]
    query: Mapping[str, Any]
    header: Callable[[str], str | None]
    body: Any = MISSING


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a message: its side (request or response), part (body, header, query, path), and name or pointer."""

    side: str
    part: str
    name: str = ""
    pointer: Pointer = ()

    def get(self, message: Message) -> Any:
        """Return the value at this place, or MISSING. `message` must be on this place's side."""
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
    """Parse a runtime expression. Raises ExpressionError, also for `$url`, `$method` and `$statusCode`: not places."""
    match = _EXPRESSION.fullmatch(text)
    if match is None:
        raise ExpressionError(
            f"{text!r} is not a place in a message; allowed: $request or $response, then .body#/JSON/POINTER, "
            ".header.NAME, .query.NAME or .path.NAME"
        )
    side, body, pointer, part, name = match.groups()
    if body:
        return Place(side, "body", pointer=parse_pointer(pointer or ""))
    # Header names are case-insensitive (RFC 9110, 5.1); all other names are case-sensitive.
    return Place(side, part, name.lower() if part == "header" else name)


# A contract repeats its pointers, and every start parses them; a few thousand are all pointers of all contracts.
@lru_cache(maxsize=4_096)
def parse_pointer(text: str) -> Pointer:
    """Parse a JSON Pointer (RFC 6901). Raises ExpressionError."""
    if not text:
        return ()
    if not text.startswith("/") or ("~" in text and re.search(r"~(?![01])", text)):
        raise ExpressionError(f"{text!r} is not a JSON Pointer; it must start with / and use ~ only in ~0 and ~1")
    # ~1 before ~0 (RFC 6901, 4): in the other order, "~01" would become "/" instead of "~1".
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in text[1:].split("/"))


def format_pointer(pointer: Pointer) -> str:
    """Return a JSON Pointer as text; the inverse of `parse_pointer`."""
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in pointer)


def resolve(document: Any, pointer: Pointer) -> Any:
    """Return the value at a pointer in a JSON document, or MISSING."""
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
    """Return a copy of the document with another value at the pointer. The value MISSING removes an object's member.

    Missing objects on the way are created. Raises ExpressionError for an array index that does not exist. The original
    is unchanged; the copy shares its unchanged parts.
    """
    if not pointer:
        return value
    step, rest = pointer[0], pointer[1:]
    if isinstance(document, list):
        index = _index(step)
        if index is None or index >= len(document):
            raise ExpressionError(f"{step!r} is not an index of an array of length {len(document)}")
        return [replaced(item, rest, value) if at == index else item for at, item in enumerate(document)]
    members = dict(document) if isinstance(document, dict) else {}
    if value is MISSING and not rest:
        members.pop(step, None)
    else:
        members[step] = replaced(members.get(step), rest, value)
    return members


def _index(step: str) -> int | None:
    """Return the array index that a step names, or None."""
    # RFC 6901, 4: ASCII digits without a leading zero. int() alone also accepts "+1", " 1", "1_0" and other scripts'
    # digits. 18 digits exceed the length of any array.
    if re.fullmatch("0|[1-9][0-9]{0,17}", step):
        return int(step)
    return None
