"""Reading an answer: the bindings find the job's values in anybody's bytes; knows no server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from hobbyhorse.contract.formats import FORMATS
from hobbyhorse.contract.forms.expressions import MISSING, Message, Place
from hobbyhorse.contract.message import CONSTANT
from hobbyhorse.contract.schemas import Schemas
from hobbyhorse.contract.values import Binding, Callbacks, Operation, Situation


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer says: its values by name, the stages that it may mean, the situations it may be."""

    values: Mapping[str, Any]
    stages: frozenset[str]
    situations: tuple[str, ...]


def as_json(body: bytes) -> Any:
    """Return a body as JSON; MISSING where it is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return MISSING


def message_of(headers: Iterable[tuple[str, str]], body: Any) -> Message:
    """Return a message with headers (any case) and a JSON body."""
    named = {name.lower(): value for name, value in headers}
    return Message({}, {}, named.get, body)


def read_answer(schemas: Schemas, operation: Operation, status: int, message: Message) -> Reading:
    """Read the answer to an operation; an undocumented one has no situation and no stage."""
    return _read(schemas, operation.situations, operation.bindings, lambda binding: binding.response, status, message)


def read_callback(schemas: Schemas, callbacks: Callbacks, message: Message) -> Reading:
    """Read a callback's message; its places are those of a request that the provider makes."""
    return _read(schemas, callbacks.situations, callbacks.bindings, lambda binding: binding.request, None, message)


def read_items(operation: Operation, message: Message) -> list[Mapping[str, Any]]:
    """Read the items of a list, each as values by name; nothing where the list is not there."""
    if operation.items is None:
        return []
    found = operation.items.at.get(message)
    return [
        _values(operation.items.bindings.values(), lambda binding: binding.response, Message({}, {}, _none, item))
        for item in (found if isinstance(found, list) else [])
    ]


Side = Callable[[Binding], tuple[Place, ...]]


def _none(name: str) -> None:
    return None


def _read(
    schemas: Schemas,
    situations: Mapping[str, Situation],
    bindings: Mapping[str, Binding],
    side: Side,
    status: int | None,
    message: Message,
) -> Reading:
    telling = [place for name in sorted(CONSTANT) if name in bindings for place in side(bindings[name])]
    # Where refusals and failed jobs share an error object, its code is a live value in the response of a failed job.
    live = side(bindings["error_code"]) if "error_code" in bindings else ()
    stable = [place for place in telling if place not in live]
    candidates = [
        situation
        for situation in situations.values()
        if status in (None, situation.status)
        and _tells(schemas, situation, stable if situation.stages else telling, message)
    ]
    stages = frozenset[str]().union(*(situation.stages for situation in candidates))
    return Reading(_values(bindings.values(), side, message), stages, tuple(situation.name for situation in candidates))


def _tells(schemas: Schemas, situation: Situation, telling: Iterable[Place], message: Message) -> bool:
    """Whether a message has the words that the situation's example has."""
    example = Message({}, {}, _none, schemas.at(situation.example_at))
    return all(place.get(example) == place.get(message) for place in telling)


def _values(bindings: Iterable[Binding], side: Side, message: Message) -> dict[str, Any]:
    values = {}
    for binding in bindings:
        value = next((found for place in side(binding) if (found := place.get(message)) is not MISSING), None)
        if value is not None:
            values[binding.name] = _decode(binding, value)
    return values


def _decode(binding: Binding, value: Any) -> Any:
    """Read a formatted value; what breaks the format is returned as it stands, for the reader to judge."""
    if binding.format is None:
        return value
    try:
        return FORMATS[binding.format].read(value)
    except ValueError:
        return value
