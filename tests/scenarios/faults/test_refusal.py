"""A situation as a fault: the documented refusal, with the Retry-After of the scenario."""

from __future__ import annotations

from email.utils import formatdate

from tests.deciding import NOW, REFUSED, decided, under


def test_a_situation_is_shown_as_documented() -> None:
    assert under("overloaded", decided(b"{}")) == REFUSED


def test_a_refusal_asks_to_wait_a_number_of_seconds_or_until_a_date() -> None:
    assert under("overloaded", decided(b"{}"), retry_after=3).headers[-1] == (b"retry-after", b"3")
    date = formatdate(NOW + 9, usegmt=True).encode()
    assert under("overloaded", decided(b"{}"), retry_after_date=9).headers[-1] == (b"retry-after", date)
