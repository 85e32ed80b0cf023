"""Read responses and callbacks by a contract's bindings. No HTTP, and no assumption about the sending server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from hobbyhorse.contract.formats import FORMATS
from hobbyhorse.contract.forms.expressions import MISSING, Message, Place
from hobbyhorse.contract.message import CONSTANT
from hobbyhorse.contract.schemas import Schemas
from hobbyhorse.contract.values import Binding, Callbacks, Operation, Situation

# The number of examples whose identifying values are remembered. All contracts have fewer, and each message is
# compared with several of them.
EXAMPLES = 1_024


@dataclass(frozen=True, slots=True)
class Reading:
    """A message's values by name, and the stages and situations that the message can mean."""

    values: Mapping[str, Any]
    stages: frozenset[str]
    situations: tuple[str, ...]


def as_json(body: bytes) -> Any:
    """Return a body's JSON value, or MISSING if the body is not valid JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return MISSING


def message_of(headers: Iterable[tuple[str, str]], body: Any) -> Message:
    """Build a message from headers (with names in any case) and a parsed body."""
    named = {name.lower(): value for name, value in headers}
    return Message({}, {}, named.get, body)


def read_answer(schemas: Schemas, operation: Operation, status: int, message: Message) -> Reading:
    """Read the response to an operation. An undocumented response has no situations and no stages."""
    return _read(
        schemas,
        operation.situations,
        operation.bindings,
        lambda binding: binding.response,
        status=status,
        message=message,
    )


def read_callback(schemas: Schemas, callbacks: Callbacks, message: Message) -> Reading:
    """Read a callback. The provider sends it, so its values are in the bindings' request places."""
    return _read(
        schemas, callbacks.situations, callbacks.bindings, lambda binding: binding.request, status=None, message=message
    )


def read_items(operation: Operation, message: Message) -> list[Mapping[str, Any]]:
    """Read the items of a list, each as values by name. Return [] if the message does not contain the list."""
    if operation.items is None:
        return []
    found = operation.items.at.get(message)
    return [
        _values(operation.items.bindings.values(), lambda binding: binding.response, Message({}, {}, _none, item))
        for item in (found if isinstance(found, list) else [])
    ]


Side = Callable[[Binding], tuple[Place, ...]]
"""Return a binding's places on one side of an exchange."""


def _none(name: str) -> None:
    return None


def _read(
    schemas: Schemas,
    situations: Mapping[str, Situation],
    bindings: Mapping[str, Binding],
    side: Side,
    *,
    status: int | None,
    message: Message,
) -> Reading:
    # Several situations can share a status. Constant values (the stage's word, an error code) distinguish them. If two
    # examples have the same constant values, the message may be either, and the stages of both are returned.
    identifying = tuple(place for name in sorted(CONSTANT) if name in bindings for place in side(bindings[name]))
    # If refusals and failed jobs share an error object, its code is not constant in the response of a failed job.
    live = side(bindings["error_code"]) if "error_code" in bindings else ()
    stable = tuple(place for place in identifying if place not in live)
    candidates = [
        situation
        for situation in situations.values()
        if status in (None, situation.status)
        and _matches(schemas, situation, stable if situation.stages else identifying, message)
    ]
    stages = frozenset[str]().union(*(situation.stages for situation in candidates))
    return Reading(_values(bindings.values(), side, message), stages, tuple(situation.name for situation in candidates))


def _matches(schemas: Schemas, situation: Situation, identifying: tuple[Place, ...], message: Message) -> bool:
    """Whether a message has the same values in the identifying places as the situation's example."""
    documented = _documented(schemas, situation.example_at, identifying)
    return all(_same(value, place.get(message)) for value, place in zip(documented, identifying, strict=True))


@lru_cache(EXAMPLES)
def _documented(schemas: Schemas, example_at: str, places: tuple[Place, ...]) -> tuple[Any, ...]:
    """Return the values of an example in some places."""
    example = Message({}, {}, _none, schemas.at(example_at))
    return tuple(place.get(example) for place in places)


def _same(documented: Any, found: Any) -> bool:
    """Whether a value is the documented constant. Where an object is documented, any object is: it may have members."""
    return isinstance(found, dict) if isinstance(documented, dict) else bool(documented == found)


def _values(bindings: Iterable[Binding], side: Side, message: Message) -> dict[str, Any]:
    values = {}
    for binding in bindings:
        value = next((found for place in side(binding) if (found := place.get(message)) is not MISSING), None)
        # Contracts write null for a value that does not exist yet, so null means absent.
        if value is not None:
            values[binding.name] = _decode(binding, value)
    return values


def _decode(binding: Binding, value: Any) -> Any:
    """Decode a formatted value. A malformed value is returned unchanged, because the caller judges it."""
    if binding.format is None:
        return value
    try:
        return FORMATS[binding.format].read(value)
    except ValueError:
        return value
