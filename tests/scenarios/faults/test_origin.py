"""A redirect to another origin."""

from __future__ import annotations

from tests.deciding import decided, under


def test_a_redirect_keeps_path_and_query_byte_for_byte() -> None:
    sent = under("redirect", decided(b"{}", origins={"foreign": "http://other:2/"}))
    assert (sent.status, sent.body, sent.situation) == (307, b"", None)
    assert sent.headers == ((b"location", b"http://other:2/a/v1/jobs/x%20y?page=2&q=%C3%A4"),)


def test_a_redirect_leads_to_a_reserved_name_by_default() -> None:
    sent = under("redirect", decided(b"{}"))
    assert sent.headers == ((b"location", b"http://foreign.invalid/a/v1/jobs/x%20y?page=2&q=%C3%A4"),)
