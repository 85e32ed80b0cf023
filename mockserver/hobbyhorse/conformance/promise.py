"""The contract's own words at a place: the sentence of the nearest description, the value, and the assumption, if any.

A finding about a server names places such as `openapi.json#/paths/~1tasks/post`. A reader of a report has no contract
at hand, so the report quotes the contract there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hobbyhorse.contract.forms.expressions import MISSING, Pointer, format_pointer, parse_pointer
from hobbyhorse.contract.values import Contract

# Characters of a value: a status, an enum or a format fits; a whole schema does not, and helps nobody in a report.
MOST_VALUE = 160
# Objects around a place whose description still speaks of it; that of a whole document does not.
MOST_OUTER = 3


@dataclass(frozen=True, slots=True)
class Promise:
    """A place of the contract: the sentence about it, the value there as JSON, and the reason if it is assumed."""

    place: str
    sentence: str | None
    value: str | None
    assumed: str | None

    def __str__(self) -> str:
        """Return the promise in one line."""
        words = [f'"{self.sentence}"'] if self.sentence is not None else []
        words += [self.value] if self.value is not None else []
        words += [f"(assumed: {self.assumed})"] if self.assumed is not None else []
        return f"{self.place}: {' '.join(words)}" if words else self.place


def promise_at(contract: Contract, place: str) -> Promise:
    """Return the promise at a place, `file#pointer`; without a sentence or a value if the contract has none there."""
    file, _, pointer = place.partition("#")
    try:
        steps = parse_pointer(pointer)
    except ValueError:
        return Promise(place, None, None, None)
    assumed = contract.assumption(place)
    why = assumed.why if assumed is not None else None
    return Promise(place, _sentence(contract, file, steps), _value(contract, place), why)


def _sentence(contract: Contract, file: str, steps: Pointer) -> str | None:
    """Return the description of a place, else that of the nearest object around it."""
    for length in range(len(steps), max(len(steps) - MOST_OUTER, 0) - 1, -1):
        found = contract.schemas.at(f"{file}#{format_pointer(steps[:length])}")
        if isinstance(found, dict):
            for name in ("description", "summary"):
                if isinstance(found.get(name), str) and found[name]:
                    return str(found[name])
    return None


def _value(contract: Contract, place: str) -> str | None:
    found: Any = contract.schemas.at(place)
    if found is MISSING or isinstance(found, dict):
        return None
    text = json.dumps(found, ensure_ascii=False, default=str)
    return text if len(text) <= MOST_VALUE else None
