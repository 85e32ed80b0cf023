"""Redirects: to another origin, in a circle, to a private host, and to nowhere."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hobbyhorse.scenarios.effects import Sent
from hobbyhorse.scenarios.fault import Decided
from tests.deciding import NOW, decided, under
from tests.known_faults import MEDIA_FAULTS


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


def test_a_redirect_to_the_same_host_ends_in_a_circle_that_leaves_the_first_url_out() -> None:
    response = replace(decided(b"{}", origins={"here": "http://here:1"}), target="/v1/jobs?page=2")
    seen = []
    for _ in range(4):
        sent = under("redirect_here", response)
        ((_, location),) = sent.headers
        seen.append(location.decode().removeprefix("http://here:1"))
        response = replace(response, target=seen[-1])
    assert seen == ["/v1/jobs?page=2&hop=1", "/v1/jobs?page=2&hop=2"] * 2
    assert under("redirect_here", replace(response, target="/v1/jobs")).headers[0][1] == b"http://here:1/v1/jobs?hop=1"
    assert under("redirect_here", response, redirect_status=302).status == 302


def test_a_file_is_redirected_to_a_private_host() -> None:
    (fault,) = (one for name, one in MEDIA_FAULTS.items() if name == "redirect_private")
    origins = {"private": "http://10.0.0.1/media/abc"}
    file = Decided(sent=Sent(200, (), b"video"), random=Random(0), now=NOW, origins=origins)
    assert fault.effect(file, {}) == Sent(302, ((b"location", b"http://10.0.0.1/media/abc/latest/meta-data"),), b"")
    default = fault.effect(replace(file, origins={}), {}).headers
    assert default == ((b"location", b"http://169.254.169.254/latest/meta-data"),)


def test_a_redirect_may_lack_a_location() -> None:
    assert under("redirect_nowhere", decided(b"{}")) == Sent(302, (), b"")
