"""Assumption marks: the `x-assumed` members of a folder's documents, and the places they mark.

A mark is inside the object that it is about, so it moves with that object and needs no absolute pointer. Only this
module sees marks: the loader removes all of them before it reads anything else, because schemas are served to clients
unchanged and a mark is not part of a schema.

Values are data, not part of the contract's own structure: a member named `x-assumed` in an example's `value`, a
`default`, an `enum` or a value that a variant sets is left alone. To mark a place inside a value, mark a pointer on the
example.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hobbyhorse.contract.documents.operations import LIFECYCLE, OPENAPI
from hobbyhorse.contract.forms.expressions import (
    MISSING,
    Pointer,
    format_pointer,
    parse_pointer,
    replaced,
)
from hobbyhorse.contract.references import NAMED, VALUES

MARK = "x-assumed"


FREE = frozenset({"set", "when", "headers", "environment", "price"})
"""Members of lifecycle.json under which the names belong to the provider, so that none can be reserved for marks."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A marked place: the object that has the mark, the key and steps from that object, and the key of the reason."""

    file: str
    holder: Pointer
    key: str
    steps: Pointer
    reason: str

    @property
    def pointer(self) -> Pointer:
        """The marked place."""
        return (*self.holder, *self.steps)

    @property
    def at(self) -> Pointer:
        """The place of the mark itself."""
        return (*self.holder, MARK, *((self.key,) if self.key else ()))


def unmarked(documents: Mapping[str, Any]) -> tuple[dict[str, Any], list[Mark], list[tuple[str, Pointer]]]:
    """Return the documents without marks, the marks, and the places of malformed marks."""
    marks: list[Mark] = []
    malformed: list[tuple[str, Pointer]] = []
    clean = dict(documents)
    for file, document in documents.items():
        found = list(_marked_objects(file, document))
        for holder, value in found:
            try:
                marks += _read(file, holder, value)
            except ValueError:
                malformed.append((file, (*holder, MARK)))
            # Removing a member moves nothing else, so the places found earlier stay valid.
            clean[file] = replaced(clean[file], (*holder, MARK), MISSING)
    return clean, marks, malformed


def marked(documents: Mapping[str, Any], marks: Iterable[Mark]) -> dict[str, Any]:
    """Return the documents with marks: the inverse of `unmarked`. An object's only mark on itself is a string."""
    found: dict[tuple[str, Pointer], dict[str, str]] = {}
    for mark in marks:
        found.setdefault((mark.file, mark.holder), {})[mark.key] = mark.reason
    result = dict(documents)
    for (file, holder), keys in found.items():
        result[file] = replaced(result[file], (*holder, MARK), keys[""] if set(keys) == {""} else keys)
    return result


def mark_for(file: str, document: Any, pointer: Pointer, reason: str) -> Mark:
    """Return the mark of a place: on the object at that place, or on the nearest enclosing one that can have a mark."""
    able = set(holders(file, document))
    length = next(end for end in range(len(pointer), -1, -1) if pointer[:end] in able)
    return Mark(file, pointer[:length], key_of(pointer[length:]), pointer[length:], reason)


def _read(file: str, holder: Pointer, value: Any) -> list[Mark]:
    """Read the value of an `x-assumed` member. Raises ValueError if it is malformed."""
    if isinstance(value, str):
        return [Mark(file, holder, "", (), value)]
    if not isinstance(value, dict) or not all(isinstance(reason, str) for reason in value.values()):
        raise ValueError(value)
    return [Mark(file, holder, key, steps_of(key), reason) for key, reason in value.items()]


def steps_of(key: str) -> Pointer:
    """Return the steps of a mark's key: a member's name, or a JSON Pointer. Raises ExpressionError."""
    return (key,) if key and not key.startswith("/") else parse_pointer(key)


def key_of(steps: Pointer) -> str:
    """Return the key for the steps from the object that has the mark."""
    return steps[0] if len(steps) == 1 and steps[0] and not steps[0].startswith("/") else format_pointer(steps)


def _marked_objects(file: str, document: Any) -> Iterator[tuple[Pointer, Any]]:
    for holder, value in _objects(file, document):
        if MARK in value:
            yield holder, value[MARK]


def holders(file: str, document: Any) -> Iterator[Pointer]:
    """Yield the place of every object that can have a mark, outer objects first."""
    for pointer, _ in _objects(file, document):
        yield pointer


def _objects(file: str, document: Any) -> Iterator[tuple[Pointer, dict[str, Any]]]:
    """Yield every object that can have a mark with its place, outer objects first."""
    # Each place with its value and kind. Members of "facts" and "keywords" have fixed meanings; "names" has none.
    waiting: list[tuple[Pointer, Any, str]] = [((), document, "facts" if file == LIFECYCLE else "keywords")]
    while waiting:
        pointer, value, kind = waiting.pop()
        # A stack instead of recursion: documents may be nested as deep as the loader allows.
        if isinstance(value, list):
            waiting += [((*pointer, str(index)), item, kind) for index, item in reversed(list(enumerate(value)))]
        elif isinstance(value, dict):
            if kind != "names":
                yield pointer, value
            waiting += [
                ((*pointer, name), item, below)
                for name, item in reversed(value.items())
                if name != MARK or kind == "names"
                if (below := _kind_below(file, kind, pointer, name)) is not None
            ]


def _kind_below(file: str, kind: str, pointer: Pointer, name: str) -> str | None:
    """Return the kind of the object under a member, or None if the member is a value."""
    if kind == "names":
        return "keywords"
    if kind == "facts":
        return None if name in FREE else "facts"
    if name == "examples" and file == OPENAPI and pointer[-2:-1] == ("content",):
        return "names"  # the examples of a message, each an object with a `value`; a schema's examples are values
    return None if name in VALUES else "names" if name in NAMED else "keywords"
