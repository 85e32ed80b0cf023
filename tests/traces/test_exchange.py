"""The record of one exchange: it never changes, its fields are named, and its parts are found by name."""

from __future__ import annotations

import dataclasses

import pytest

from hobbyhorse.traces.exchange import Exchange


def test_an_exchange_is_frozen_and_built_by_name() -> None:
    one = Exchange(arrived=5.0, role="status", method="GET", url="http://x/a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.status = 200  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional"):
        Exchange(5.0, "status", "GET", "http://x/a")  # type: ignore[call-arg]
    assert one.moment == 5.0


def test_a_header_is_found_by_name_in_any_case() -> None:
    one = Exchange(
        arrived=5.0,
        role=None,
        method="GET",
        url="http://x/",
        headers=(("accept", "a"), ("accept", "b")),
        answer_headers=(("date", "today"),),
    )
    assert (one.header("Accept"), one.header("host")) == ("a", None)
    assert (one.answer_header("DATE"), one.answer_header("accept")) == ("today", None)


@pytest.mark.parametrize(
    ("url", "path", "query"),
    [
        ("http://x/acme/v1/jobs", "/v1/jobs", ""),
        ("http://x/acme/a%20b%3Fc/%C3%A4?q=%41&?", "/a b?c/ä", "q=%41&?"),
        ("http://x/acme", "", ""),
    ],
)
def test_the_path_is_decoded_below_the_root_and_the_query_is_as_sent(url: str, path: str, query: str) -> None:
    one = Exchange(arrived=5.0, role=None, method="GET", url=url, root="http://x/acme")
    assert (one.path, one.query) == (path, query)
