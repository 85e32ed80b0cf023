"""Responses as values: headers are replaced, not repeated."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from hobbyhorse.scenarios.effects import Sent

SENT = Sent(429, ((b"retry-after", b"1"), (b"x", b"y")), b"")


def test_retry_after_is_a_number_or_a_date_and_replaces_an_existing_one() -> None:
    assert SENT.retry_after(None, None, 0.0) == SENT
    assert SENT.retry_after(7, None, 0.0).headers == ((b"x", b"y"), (b"retry-after", b"7"))
    assert SENT.retry_after(0, 5, 0.0).headers == ((b"x", b"y"), (b"retry-after", b"0"))
    date = dict(SENT.retry_after(None, 90, 1_000_000.0).headers)[b"retry-after"].decode()
    assert parsedate_to_datetime(date).timestamp() == 1_000_090


def test_a_header_replaces_every_header_of_its_name_in_any_case() -> None:
    assert SENT.headed("X", "z").headers == ((b"retry-after", b"1"), (b"x", b"z"))
    assert SENT.typed("text/html").headers[-1] == (b"content-type", b"text/html")
