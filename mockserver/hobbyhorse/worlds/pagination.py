"""Pages of a list, newest first: by page number, offset or cursor. No HTTP."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hobbyhorse.contract.formats import whole_number
from hobbyhorse.contract.forms.expressions import MISSING

PAGE_VALUES = ("page", "size", "offset", "cursor")
"""The request values that select a page."""


class PageError(ValueError):
    """A cursor that no response contained."""


@dataclass(frozen=True, slots=True)
class Page:
    """A slice of a list, from `start` to `stop` (exclusive), and its values for a response, by name."""

    start: int
    stop: int
    values: Mapping[str, Any]


def page(total: int, wanted: Mapping[str, Any]) -> Page:
    """Return the page selected by `cursor`, `offset` or `page` (from 1), of `size` items or all.

    A cursor counts from the oldest item, so it stays valid while newer items arrive. Raises PageError.
    """
    wanted = {name: value for name, value in wanted.items() if value is not MISSING}
    size = wanted.get("size", total)
    start = 0
    if "cursor" in wanted:
        start = max(0, total - _read(wanted["cursor"]))
    elif "offset" in wanted:
        start = wanted["offset"]
    elif "page" in wanted:
        start = (wanted["page"] - 1) * size
    stop = start + size
    values = {
        **wanted,
        "total": total,
        "next_cursor": _write(total - stop) if stop < total else None,
        "previous_cursor": _write(total - max(0, start - size)) if start > 0 else None,
    }
    return Page(start, stop, values)


def _write(older: int) -> str:
    """Return the cursor of the page whose newest item is the `older`-th item, counted from the oldest."""
    # Opaque on purpose, because a client must return a cursor and not compute one.
    return base64.urlsafe_b64encode(f"older:{older}".encode()).decode()


def _read(cursor: str) -> int:
    try:
        mark, _, older = base64.urlsafe_b64decode(cursor).decode().partition(":")
    except ValueError:
        mark, older = "", ""
    number = whole_number(older)
    if mark != "older" or number is None:
        raise PageError(f"{cursor[:80]!r} is not a valid cursor; use the next_cursor or previous_cursor of a response")
    return number
