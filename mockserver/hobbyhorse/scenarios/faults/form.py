"""Variations of the form of a response: the same values, expressed as another right server might."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson

from hobbyhorse.contract.reading import as_json
from hobbyhorse.scenarios.effects import Sent
from hobbyhorse.scenarios.fault import ADDS, MEMBERS, OPERATION, VARIATION, Decided, Fault, Options

# After the faults: a client that breaks here breaks only with a changed provider.
RANK = 50
EXTRA_FIELD = "x_unexpected"
Change = Callable[[dict[str, Any]], dict[str, Any]]


def _each(change: Change) -> Callable[[Decided, Options], Sent]:
    """Return the effect that changes every object of the body."""
    return lambda decided, options: replace(
        decided.sent, body=orjson.dumps(_changed(as_json(decided.sent.body), change))
    )


def _changed(value: Any, change: Change) -> Any:
    """Return a JSON value with `change` applied to every object, inner objects first."""
    if isinstance(value, list):
        return [_changed(item, change) for item in value]
    if isinstance(value, dict):
        return change({name: _changed(item, change) for name, item in value.items()})
    return value


EXTRA = Fault(
    name="extra_field",
    stands=(OPERATION,),
    says="adds an undocumented field to every object",
    effect=_each(lambda found: {**found, EXTRA_FIELD: [None]}),
    rank=RANK,
    kind=VARIATION,
    uses=frozenset({ADDS}),
    layer=MEMBERS,
)
REORDERED = Fault(
    name="reordered",
    stands=(OPERATION,),
    says="reverses the order of the fields in every object",
    effect=_each(lambda found: dict(reversed(found.items()))),
    rank=RANK,
    kind=VARIATION,
    uses=frozenset({ADDS}),
    layer=MEMBERS,
)
