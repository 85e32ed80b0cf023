"""Response bodies: a contract's example with current values in its bound places. No HTTP, no jobs.

Status polls return the same body repeatedly, with a few changed values. So an example is serialized once, with a marker
in each bound place, and the markers become the `%b` slots of a `bytes` frame. Writing a response then takes one lookup
per slot and one `%`. Replacing values in a copy of the example and serializing the copy takes about ten times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from hobbyhorse.contract.formats import format_for, write_location
from hobbyhorse.contract.forms.expressions import MISSING, Pointer, replaced, resolve

Lookup = Callable[[str], Any]
"""Return the value of a name, or MISSING."""

CONSTANT = frozenset({"stage", "refusal_code", "outcome", "event"})
"""Bound values that are never overwritten: `reading` identifies situations by the values in their examples."""

LOCATION = "refusal_location"
"""The value whose form the example determines."""

Raw = orjson.Fragment
"""Serialized JSON, which orjson copies verbatim."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A bound place of an example: the value's name, its serializer, and the example's own JSON as the default."""

    name: str
    write: Callable[[Any], bytes]
    default: bytes


Bound = tuple[str, str | None, Pointer]
"""A value's name, the name of its format, and its place in a body."""


@dataclass(frozen=True)
class Template:
    """An example and its bound places. Its frame and slots are made on first use, since most are never written."""

    example: Any
    bound: Sequence[Bound]

    def write(self, lookup: Lookup) -> bytes:
        """Return the example as JSON, with the values from `lookup` in the bound places."""
        frame, slots = self._cut
        values = []
        for slot in slots:
            value = lookup(slot.name)
            values.append(slot.default if value is MISSING else slot.write(value))
        return frame % tuple(values)

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The bound places in the example, in their order in the JSON. Constant values have no slot."""
        return self._cut[1]

    # Not slots=True: cached_property needs an instance dict.
    @cached_property
    def _cut(self) -> tuple[bytes, tuple[Slot, ...]]:
        return _cut(self.example, self.bound)


def _cut(example: Any, bound: Sequence[Bound]) -> tuple[bytes, tuple[Slot, ...]]:
    """Return an example as a JSON template with %b for each slot, and the slots in order of appearance."""
    if example is MISSING:  # a response without content
        return b"", ()
    slots: dict[bytes, Slot] = {}
    for name, form, pointer in bound:
        here = resolve(example, pointer)
        if here is MISSING or name in CONSTANT:
            continue
        if name == LOCATION and not isinstance(here, list | str):
            continue
        # No example contains NUL, so a marker cannot be mistaken for text.
        mark = f"\x00{len(slots)}\x00"
        slots[orjson.dumps(mark)] = Slot(name, _writer(name, form, here), orjson.dumps(here))
        example = replaced(example, pointer, mark)
    text = orjson.dumps(example)
    # A binding may replace an object that contains an earlier binding's marker; that marker is then gone.
    found = sorted((written for written in slots if written in text), key=text.index)
    frame = text.replace(b"%", b"%%")
    for written in found:
        frame = frame.replace(written, b"%b")
    return frame, tuple(slots[written] for written in found)


def _writer(name: str, form_name: str | None, example: Any) -> Callable[[Any], bytes]:
    """Return the function that serializes a value in place of an example. None becomes null in every format."""
    if name == LOCATION:
        return lambda value: orjson.dumps(write_location(example, value))
    form = format_for(form_name, example)
    if form is None:
        return orjson.dumps
    return lambda value: orjson.dumps(None if value is None else form.write(value))
