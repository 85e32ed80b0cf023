"""Pages hold every item once, whichever parameters select them."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.worlds.pagination import PageError, page


@given(st.integers(0, 60), st.integers(1, 20))
def test_numbered_pages_hold_every_item_once(total: int, size: int) -> None:
    seen: list[int] = []
    for number in range(1, total // size + 2):
        part = page(total, {"page": number, "size": size})
        seen += range(total)[part.start : part.stop]
    assert seen == list(range(total))


@given(st.integers(0, 60), st.integers(1, 20), st.lists(st.integers(0, 5), max_size=60))
def test_cursors_hold_every_item_once_while_newer_items_arrive(total: int, size: int, added: list[int]) -> None:
    """Items are numbered from the oldest; items that arrive between two pages are on neither."""
    first, seen, wanted = total, [], {"size": size}
    while True:
        part = page(total, wanted)
        seen += [total - 1 - index for index in range(total)[part.start : part.stop]]
        if part.values["next_cursor"] is None:
            break
        wanted = {"size": size, "cursor": part.values["next_cursor"]}
        total += added.pop() if added else 0
    assert seen == list(range(first))[::-1]


@given(st.integers(1, 60), st.integers(1, 20))
def test_the_previous_cursor_leads_back(total: int, size: int) -> None:
    first = page(total, {"size": size})
    assert first.values["previous_cursor"] is None
    if first.values["next_cursor"] is not None:
        second = page(total, {"size": size, "cursor": first.values["next_cursor"]})
        back = page(total, {"size": size, "cursor": second.values["previous_cursor"]})
        assert (back.start, back.stop) == (first.start, first.stop)


VERY_LONG = base64.urlsafe_b64encode(b"older:" + b"9" * 5_000).decode()


@pytest.mark.parametrize(
    "cursor", ["", "x", "b2xkZXI6", "b2xkZXI6LTE=", "b2xkZXI6eA==", "é", "====", "bmV3ZXI6MQ==", VERY_LONG]
)
def test_an_invalid_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(PageError, match="is not a valid cursor"):
        page(10, {"cursor": cursor})
