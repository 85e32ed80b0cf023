"""Pages of a list, newest first: by page number, by offset, or by cursor; knows no HTTP."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hobbyhorse.contract.forms.expressions import MISSING

PAGE_VALUES = ("page", "size", "offset", "cursor")
"""The request values that choose a page."""


class PageError(ValueError):
    """A cursor that no answer has given."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list: the indices from `start` to before `stop`, and what answers say of it by name."""

    start: int
    stop: int
    values: Mapping[str, Any]


def page(total: int, asked: Mapping[str, Any]) -> Page:
    """Return the page that was asked for by `cursor`, `offset` or `page` (from 1), of `size` items or all.

    A cursor stays true while newer items come: it counts from the oldest. Raises PageError.
    """
    asked = {name: value for name, value in asked.items() if value is not MISSING}
    size = asked.get("size", total)
    start = 0
    if "cursor" in asked:
        start = max(0, total - _read(asked["cursor"]))
    elif "offset" in asked:
        start = asked["offset"]
    elif "page" in asked:
        start = (asked["page"] - 1) * size
    stop = start + size
    values = {
        **asked,
        "total": total,
        "next_cursor": _write(total - stop) if stop < total else None,
        "previous_cursor": _write(total - max(0, start - size)) if start > 0 else None,
    }
    return Page(start, stop, values)


def _write(older: int) -> str:
    """Return the cursor of the page whose newest item has so many items before it, itself counted."""
    return base64.urlsafe_b64encode(f"older:{older}".encode()).decode()


def _read(cursor: str) -> int:
    try:
        mark, _, older = base64.urlsafe_b64decode(cursor).decode().partition(":")
    except ValueError:
        mark, older = "", ""
    if mark != "older" or not (older.isascii() and older.isdigit()):
        raise PageError(f"{cursor[:80]!r} is no cursor; a cursor comes from an answer")
    return int(older)
