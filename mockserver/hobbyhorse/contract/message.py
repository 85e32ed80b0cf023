"""Writing an answer: an example whose bound places are overwritten with live values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from hobbyhorse.contract.formats import Format, format_for
from hobbyhorse.contract.forms.expressions import MISSING, Pointer, replaced, resolve

Lookup = Callable[[str], Any]
"""From the name of a value to the value, or MISSING where there is none."""

CONSTANT = frozenset({"stage", "refusal_code", "outcome", "event"})
"""Values that the example itself has; reading uses them to tell situations apart."""

Raw = orjson.Fragment
"""JSON that is already written."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A bound place of an example: the value's name, how it is written, and what stands there otherwise."""

    name: str
    write: Callable[[Any], bytes]
    default: bytes


Bound = tuple[str, str | None, Pointer]
"""A value's name, the name of its format, and its place in a body."""


@dataclass(frozen=True)
class Template:
    """An example and its bound places; it is cut there when it is first written."""

    example: Any
    bound: Sequence[Bound]

    def write(self, lookup: Lookup) -> bytes:
        """Return the JSON with every live value in its place."""
        frame, slots = self._cut
        values = []
        for slot in slots:
            value = lookup(slot.name)
            values.append(slot.default if value is MISSING else slot.write(value))
        return frame % tuple(values)

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The bound places that the example has, but for those whose values are constant."""
        return self._cut[1]

    @cached_property
    def _cut(self) -> tuple[bytes, tuple[Slot, ...]]:
        return _cut(self.example, self.bound)


def _cut(example: Any, bound: Sequence[Bound]) -> tuple[bytes, tuple[Slot, ...]]:
    """Return an example as JSON with a %b at each of its slots, and these in order."""
    slots: dict[bytes, Slot] = {}
    for name, form, pointer in bound:
        here = resolve(example, pointer)
        if here is MISSING or name in CONSTANT:
            continue
        mark = f"\x00{len(slots)}\x00"
        slots[orjson.dumps(mark)] = Slot(name, _writer(format_for(form, here)), orjson.dumps(here))
        example = replaced(example, pointer, mark)
    text = orjson.dumps(example)
    found = sorted((written for written in slots if written in text), key=text.index)
    frame = text.replace(b"%", b"%%")
    for written in found:
        frame = frame.replace(written, b"%b")
    return frame, tuple(slots[written] for written in found)


def _writer(form: Format | None) -> Callable[[Any], bytes]:
    """Return the function that writes a value as JSON; null has no format."""
    if form is None:
        return orjson.dumps
    return lambda value: orjson.dumps(None if value is None else form.write(value))
