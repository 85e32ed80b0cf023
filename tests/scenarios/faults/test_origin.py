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


def test_a_redirect_to_another_port_has_an_origin_of_its_own() -> None:
    origins = {"foreign": "http://other:2/", "port": "http://here:3"}
    sent = under("redirect_port", decided(b"{}", origins=origins))
    assert (sent.status, sent.headers) == (307, ((b"location", b"http://here:3/a/v1/jobs/x%20y?page=2&q=%C3%A4"),))
    sent = under("redirect_port", decided(b"{}"))
    assert sent.headers == ((b"location", b"http://127.0.0.1:9/a/v1/jobs/x%20y?page=2&q=%C3%A4"),)
