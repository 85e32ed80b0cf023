"""The bound fields of a response that faults change: their names, their places, and new values there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from hobbyhorse.contract.forms.expressions import MISSING, Pointer, replaced, resolve
from hobbyhorse.contract.message import CONSTANT
from hobbyhorse.contract.reading import as_json
from hobbyhorse.contract.values import Callbacks, Operation

KEY_VALUES = {"submit": "job", "status": "stage", "result": "video_url", "run": "video_url", "model": "model"}
"""The bound name that clients read each role's response for: the field that a field fault changes by default."""
JOB_URLS = ("status_url", "result_url", "cancel_url")
"""The bound names of the URLs of a job's operations."""
FILE_URLS = ("video_url", "first_frame_url")
"""The bound names of the URLs of a job's files."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a response: the bound `name`, else the fault's option `value`, else the main one of the role."""

    name: str | None = None

    def names(self, options: Mapping[str, Any], role: str) -> tuple[str, ...]:
        """Return the bound name of the field; empty if a role has no main one."""
        name = self.name or options.get("value") or KEY_VALUES.get(role)
        return (name,) if name else ()

    def holds(self, here: Any) -> bool:
        """Whether a value can be changed: any can, if it is there."""
        return here is not MISSING

    def misfit(self, fault: str, options: Mapping[str, Any], operation: Operation) -> str | None:
        """Return why no response of an operation has the field, or None."""
        names = self.names(options, operation.role)
        if not names:
            return f"{fault!r} needs the option 'value' here"
        return None if shows(operation, names[0]) else f"no response has the value {names[0]!r}"


@dataclass(frozen=True, slots=True)
class Urls:
    """URLs of a response by their bound names, at least one of which it must have."""

    bound: tuple[str, ...]

    def names(self, options: Mapping[str, Any], role: str) -> tuple[str, ...]:
        """Return the bound names."""
        return self.bound

    def holds(self, here: Any) -> bool:
        """Whether a value can be changed: it must be a URL."""
        return isinstance(here, str)

    def misfit(self, fault: str, options: Mapping[str, Any], operation: Operation) -> str | None:
        """Return why no response of an operation has one of the URLs, or None."""
        if any(shows(operation, name) for name in self.bound):
            return None
        return f"no response has a URL that {fault!r} changes, such as {self.bound[0]!r}"


Needs = Field | Urls


def places(needs: Needs, options: Mapping[str, Any], operation: Operation) -> list[Pointer]:
    """Return the pointers, in the operation's responses, to the fields that a fault changes."""
    names = needs.names(options, operation.role)
    bound = [operation.bindings[name] for name in names if name in operation.bindings]
    return [place.pointer for binding in bound for place in binding.response if place.part == "body"]


def has_field(needs: Needs, options: Mapping[str, Any], operation: Operation, body: bytes) -> bool:
    """Whether a response has a field that a fault changes."""
    value = as_json(body)
    return any(needs.holds(resolve(value, pointer)) for pointer in places(needs, options, operation))


def rewritten(body: bytes, needs: Needs, pointers: Iterable[Pointer], change: Callable[[Any], Any]) -> bytes:
    """Return a body with `change` applied to the values at some pointers; MISSING removes one."""
    value = as_json(body)
    for pointer in pointers:
        here = resolve(value, pointer)
        if needs.holds(here):
            value = with_value(value, pointer, change(here))
    return orjson.dumps(value)


def with_value(document: Any, pointer: Pointer, value: Any) -> Any:
    """Return a document with another value at a pointer, or without it if the value is MISSING."""
    holder = resolve(document, pointer[:-1])
    if value is MISSING and isinstance(holder, list):
        # The items after it move up: JSON has no list with a gap.
        index = int(pointer[-1])
        return replaced(document, pointer[:-1], [item for at, item in enumerate(holder) if at != index])
    return replaced(document, pointer, value)


def shows(operation: Operation, name: str) -> bool:
    """Whether any successful response of an operation shows a bound value."""
    # By the documented examples: a schema may allow a field that no response has.
    binding = operation.bindings.get(name)
    examples = [found.template.example for found in operation.situations.values() if found.status < 300]
    bound = [place for place in binding.response if place.part == "body"] if binding else []
    return any(resolve(example, place.pointer) is not MISSING for example in examples for place in bound)


def payload_places(callbacks: Callbacks) -> list[Pointer]:
    """Return the pointers to everything in a callback but the job's id, its stage and the event."""
    bound = [binding for name, binding in callbacks.bindings.items() if name not in CONSTANT | {"job"}]
    return [place.pointer for binding in bound for place in binding.request if place.part == "body"]
