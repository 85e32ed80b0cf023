"""Writing an answer: an example whose bound places are overwritten with live values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from hobbyhorse.contract.formats import Format, format_for
from hobbyhorse.expressions import MISSING, Pointer, replaced, resolve

Lookup = Callable[[str], Any]
"""From the name of a value to the value, or MISSING where there is none."""

CONSTANT = frozenset({"stage", "refusal_code", "outcome", "event"})
"""Values that the example itself has; reading uses them to tell situations apart."""


@dataclass(frozen=True, slots=True)
class Raw:
    """JSON that is already written."""

    json: bytes


@dataclass(frozen=True, slots=True)
class Slot:
    """A bound place of an example: the value's name, its format, and what stands there otherwise."""

    name: str
    format: Format | None
    default: bytes


@dataclass(frozen=True, slots=True)
class Template:
    """An example cut at its bound places: `pieces` has one member more than `slots`."""

    pieces: tuple[bytes, ...]
    slots: tuple[Slot, ...]

    def write(self, lookup: Lookup) -> bytes:
        """Return the JSON with every live value in its place."""
        parts = [self.pieces[0]]
        for slot, piece in zip(self.slots, self.pieces[1:], strict=True):
            value = lookup(slot.name)
            if value is MISSING:
                parts.append(slot.default)
            elif type(value) is Raw:
                parts.append(value.json)
            elif value is None or slot.format is None:
                parts.append(orjson.dumps(value))
            else:
                parts.append(orjson.dumps(slot.format.write(value)))
            parts.append(piece)
        return b"".join(parts)


Bound = tuple[str, str | None, Pointer]
"""A value's name, the name of its format, and its place in a body."""


def compile_template(example: Any, bound: Sequence[Bound]) -> Template:
    """Cut an example at those of the bound places that it has; constant values stay as they are."""
    slots: dict[bytes, Slot] = {}
    for name, form, pointer in bound:
        here = resolve(example, pointer)
        if here is MISSING or name in CONSTANT:
            continue
        mark = f"\x00{len(slots)}\x00"
        slots[orjson.dumps(mark)] = Slot(name, format_for(form, here), orjson.dumps(here))
        example = replaced(example, pointer, mark)
    return _cut(orjson.dumps(example), slots)


def _cut(text: bytes, slots: Mapping[bytes, Slot]) -> Template:
    found = sorted((text.index(mark), mark) for mark in slots if mark in text)
    pieces, ordered, end = [], [], 0
    for start, mark in found:
        pieces.append(text[end:start])
        ordered.append(slots[mark])
        end = start + len(mark)
    return Template((*pieces, text[end:]), tuple(ordered))
