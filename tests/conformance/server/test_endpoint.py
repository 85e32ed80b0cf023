"""Calls of an endpoint from its contract: bounded in time, bytes and money, and the key goes to no other host."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Iterator
from decimal import Decimal

import httpx
import pytest

from hobbyhorse.conformance.server.budget import Budget, NotAffordable
from hobbyhorse.conformance.server.endpoint import (
    KEPT_FILE_BYTES,
    MOST_RESPONSE_BYTES,
    Endpoint,
    OutOfTime,
    without_login,
)
from hobbyhorse.contract.values import Contract
from tests.conftest import CONTRACTS
from tests.little import Answer, Little, Said, Told, little

KEY = "a-secret-key-1234"
CONTRACT = CONTRACTS[0]
PRICE = Decimal("0.42")
PIECE = b"x" * 65536


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False) as client:
        yield client


def endpoint_at(server: Little, http: httpx.Client, **more: object) -> Endpoint:
    budget = Budget(Decimal("0.50"))
    contract: Contract = CONTRACT
    found = Endpoint(contract, server.url, KEY, budget, time.monotonic() + 20, http)
    for name, value in more.items():
        setattr(found, name, value)
    return found


def always(status: int, body: object = None, **headers: str) -> Answer:
    def answer(said: Said) -> Told:
        return Told(status, {} if body is None else body, headers)

    return answer


def test_the_path_names_the_job_and_the_key_goes_where_the_contract_says(http: httpx.Client) -> None:
    with little(always(404)) as server:
        endpoint_at(server, http).call("status", probe="identity:unknown", expected="unknown_job", path={"job": "j-1"})
        (said,) = server.said
    assert said.path == CONTRACT.operations["status"].path.partition("{")[0] + "j-1"
    assert said.key == KEY


def test_a_call_without_a_key_has_none_and_another_key_is_another_one(http: httpx.Client) -> None:
    with little(always(401)) as server:
        endpoint = endpoint_at(server, http)
        endpoint.call("status", probe="auth:none", path={"job": "j"}, key=None)
        endpoint.call("status", probe="auth:wrong", path={"job": "j"}, key="another")
        assert [said.key for said in server.said] == [None, "another"]


def test_the_trace_has_no_key_in_it(http: httpx.Client) -> None:
    with little(always(200, {"you": KEY})) as server:
        endpoint = endpoint_at(server, http)
        endpoint.call("status", probe="job", path={"job": "j"})
    assert KEY not in repr(endpoint.trace())


def test_a_login_is_sent_to_the_endpoint_only_and_not_recorded(http: httpx.Client) -> None:
    with little(always(200, {"you": "pass/word"})) as server, little(always(200)) as elsewhere:
        endpoint = endpoint_at(server, http, login=("someone", "pass/word"))
        endpoint.call("status", probe="job", path={"job": "j"})
        endpoint.fetch(f"{elsewhere.url}/video.mp4", probe="job:media")
        assert server.said[0].headers["authorization"] == f"Basic {b64encode(b'someone:pass/word').decode()}"
        assert "authorization" not in elsewhere.said[0].headers
    assert "pass/word" not in repr(endpoint.trace())
    assert "Basic" not in repr(endpoint.trace())


@pytest.mark.parametrize(
    ("url", "public", "login"),
    [
        ("https://api.example.com/v1", "https://api.example.com/v1", None),
        ("https://a:b%2Fc@api.example.com:8/v1?q=x@y", "https://api.example.com:8/v1?q=x@y", ("a", "b/c")),
        ("http://a@[::1]:8", "http://[::1]:8", ("a", "")),
    ],
)
def test_a_url_is_shown_without_its_login(url: str, public: str, login: tuple[str, str] | None) -> None:
    assert without_login(url) == (public, login)


def test_a_redirect_is_not_followed(http: httpx.Client) -> None:
    with little(always(200)) as elsewhere, little(always(307, location=f"{elsewhere.url}/x")) as server:
        endpoint = endpoint_at(server, http)
        step = endpoint.call("status", probe="job", path={"job": "j"})
        endpoint.fetch(f"{server.url}/video.mp4", probe="job:media")
    assert step.status == 307
    assert elsewhere.connections == 0


def test_a_file_is_fetched_without_the_key(http: httpx.Client) -> None:
    with little(always(200, b"video")) as server:
        assert endpoint_at(server, http).fetch(f"{server.url}/video.mp4", probe="job:media") == b"video"
        assert server.said[0].key is None


@pytest.mark.parametrize("status", [400, 401, 404, 422, 429])
def test_a_refused_submission_is_not_paid(http: httpx.Client, status: int) -> None:
    with little(always(status)) as server:
        endpoint = endpoint_at(server, http)
        endpoint.call("submit", probe="negative:json", price=PRICE, content=b"{")
    assert endpoint.budget.spent == 0


@pytest.mark.parametrize("status", [200, 202, 307, 408, 500, 503, 504])
def test_a_submission_that_may_have_been_accepted_stays_paid(http: httpx.Client, status: int) -> None:
    with little(always(status)) as server:
        endpoint = endpoint_at(server, http)
        endpoint.call("submit", probe="job", price=PRICE, body={})
    assert endpoint.budget.spent == PRICE


def test_an_unaffordable_request_is_not_sent(http: httpx.Client) -> None:
    with little(always(200)) as server:
        endpoint = endpoint_at(server, http)
        with pytest.raises(NotAffordable):
            endpoint.call("submit", probe="job", price=Decimal("0.51"), body={})
        assert server.connections == 0


def test_nothing_is_sent_after_the_time_limit(http: httpx.Client) -> None:
    with little(always(200)) as server:
        endpoint = endpoint_at(server, http, until=time.monotonic() - 1)
        with pytest.raises(OutOfTime):
            endpoint.call("status", probe="job", path={"job": "j"})
        assert server.connections == 0


def test_a_response_of_100_mb_is_abandoned_and_hardly_kept(http: httpx.Client) -> None:
    def answer(said: Said) -> Told:
        return Told(200, (PIECE for _ in range(1600)))

    with little(answer) as server:
        endpoint = endpoint_at(server, http)
        step = endpoint.call("status", probe="job", path={"job": "j"})
    assert not step.exchange.whole
    assert MOST_RESPONSE_BYTES < step.exchange.size < 2 * MOST_RESPONSE_BYTES
    assert len(step.exchange.answer) == KEPT_FILE_BYTES


def test_a_response_that_repeats_the_submissions_is_read_whole(http: httpx.Client) -> None:
    def answer(said: Said) -> Told:
        return Told(200, (PIECE for _ in range(300)))

    with little(answer) as server:
        endpoint = endpoint_at(server, http)
        assert not endpoint.call("status", probe="job", path={"job": "j"}).exchange.whole
        submitted = endpoint.call("submit", probe="job", body="x" * 4_000_000)
        assert submitted.exchange.header("content-length") == "4000002"
        step = endpoint.call("status", probe="job", path={"job": "j"})
    assert step.exchange.whole
    assert len(step.exchange.answer) == step.exchange.size > MOST_RESPONSE_BYTES


def test_a_response_that_never_ends_is_abandoned_in_time(http: httpx.Client) -> None:
    def dripping() -> Iterator[bytes]:
        while True:
            time.sleep(0.02)
            yield b" "

    with little(lambda said: Told(200, dripping())) as server:
        endpoint = endpoint_at(server, http, request_seconds=0.3)
        step = endpoint.call("status", probe="job", path={"job": "j"})
    assert step.status == 200
    assert not step.delivered


def test_a_call_may_take_longer_than_usual_and_a_file_only_while_its_bytes_arrive() -> None:
    reads: list[float] = []

    def respond(request: httpx.Request) -> httpx.Response:
        reads.append(request.extensions["timeout"]["read"])
        return httpx.Response(200, json={})

    with httpx.Client(transport=httpx.MockTransport(respond)) as http:
        endpoint = Endpoint(CONTRACT, "http://endpoint.test", KEY, Budget(Decimal(1)), time.monotonic() + 5_000, http)
        for seconds in (0.0, 600.0):
            endpoint.call("status", probe="job", path={"job": "job-1"}, seconds=seconds)
        endpoint.fetch("http://endpoint.test/video.mp4", probe="job:media")
    assert reads == [endpoint.request_seconds, 600.0, endpoint.request_seconds]


def test_without_a_server_the_status_is_0(http: httpx.Client) -> None:
    with little(always(200)) as server:
        pass
    assert endpoint_at(server, http).call("status", probe="job", path={"job": "j"}).status == 0


def test_a_link_replaces_the_path_of_an_operation(http: httpx.Client) -> None:
    with little(always(200)) as server:
        link = f"{server.url}/somewhere/else"
        step = endpoint_at(server, http).call("status", probe="link:status_url", path={"job": "j-1"}, link=link)
        (said,) = server.said
    assert said.path.endswith("/somewhere/else")
    assert (step.role, step.job) == ("status", "j-1")
