"""A trace has every exchange and delivery of a client: when, where, whether complete, and without secrets."""

from __future__ import annotations

import base64
import errno
import gc
import hashlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_httpserver import HTTPServer

from hobbyhorse import MockServer, MockWorld
from hobbyhorse.conformance.contract_client import ContractClient
from hobbyhorse.contract.forms.expressions import replaced
from hobbyhorse.contract.schemas import Schemas, address
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.scenario import misfits, read_scenario
from hobbyhorse.server import run as serving
from hobbyhorse.server.control.app import DOCUMENT, read_document
from hobbyhorse.testing.remote import RemoteError, RemoteServer
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.redaction import Redactor
from hobbyhorse.traces.trace import KEY, REDACTED, Exchange, Trace, read_trace, to_json
from hobbyhorse.worlds.jobs import Job
from hobbyhorse.worlds.journal import MOST_JOURNAL_BODY_BYTES
from hobbyhorse.worlds.world import World
from tests.conftest import CONTRACTS, contracts_that
from tests.raw_client import RawClient, ask
from tests.world import HTTP, documented

PATIENCE = 30.0
"""Seconds of real time after which an expected record counts as missing; none comes near."""
SHAPES = Schemas({DOCUMENT: read_document()})
TRACE = address(DOCUMENT, ("components", "schemas", "Trace"))


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer(clock="manual", pace="realistic", elsewhere=True) as running:
        yield running


@pytest.fixture
def world(server: MockServer) -> MockWorld:
    return server.world()


def client_of(world: MockWorld, contract: Contract) -> ContractClient:
    return ContractClient(contract, world.url(contract.key), world.api_key, HTTP)


def order(world: MockWorld, contract: Contract, **more: Any) -> str:
    """Submit the documented job; `more` are further members by their bound names."""
    operation, model, body = documented(contract)
    for name, value in more.items():
        places = [place.pointer for place in operation.bindings[name].request] if name in operation.bindings else ()
        for pointer in places or model.parameters[name]:
            body = replaced(body, pointer, value)
    return str(client_of(world, contract).submit(model.id, body).reading.values["job"])


def request(world: MockWorld, contract: Contract, role: str = "submit", job: str = "") -> tuple[str, str, Any, Any]:
    """Return a request of a role: method, URL, headers, body."""
    operation, body, ids = contract.operations[role], None, {"job": job}
    headers = {"Authorization": f"Bearer {world.api_key}"}
    if role == "submit":
        _, model, value = documented(contract)
        ids["model"], body = model.id, orjson.dumps(value)
        headers["Content-Type"] = "application/json"
    path = operation.path
    for name, value in ids.items():
        for place in operation.bindings[name].request if name in operation.bindings else ():
            path = path.replace("{" + place.name + "}", value) if place.part == "path" else path
    return operation.method, world.url(contract.key) + path, headers, body


def video(world: MockWorld, contract: Contract, job: str) -> str:
    """Return the URL of a job's video, once it has ended."""
    world.clock.advance(3_600)
    role = "result" if "result" in contract.operations else "status"
    return str(client_of(world, contract).call(role, path={"job": job}).reading.values["video_url"])


def run(world: MockWorld, contract: Contract, **more: Any) -> bytes:
    """Submit a job, poll it, fetch its video."""
    job = order(world, contract, **more)
    client_of(world, contract).call("status", path={"job": job})
    return ask("GET", video(world, contract, job)).body


def until(trace: Callable[[], Trace], holds: Callable[[Trace], bool]) -> Trace:
    """Return the first trace that meets a condition; the server may record an exchange after its response."""
    deadline = time.monotonic() + PATIENCE
    while not holds(found := trace()):
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    return found


def last(world: MockWorld, contract: Contract, holds: Callable[[Exchange], bool]) -> Exchange:
    """Return the last exchange, as soon as it meets a condition."""
    found = until(lambda: world.trace(contract.key), lambda trace: bool(trace.exchanges) and holds(trace.exchanges[-1]))
    return found.exchanges[-1]


def done(one: Exchange) -> bool:
    return one.answered is not None


# ---- the trace of a run


def test_the_trace_of_a_run_has_every_exchange(server: MockServer, world: MockWorld, contract: Contract) -> None:
    before = world.clock.now()
    content = run(world, contract)
    trace = until(lambda: world.trace(contract.key), lambda trace: done(trace.exchanges[-1]))
    (job,) = world.jobs
    roles = [one.role for one in trace.exchanges]
    assert roles == ["submit", "status", "result" if "result" in contract.operations else "status", "media"]
    assert (trace.provider, trace.base, trace.origins) == (contract.key, world.url(contract.key), server.origins)
    assert all(one.whole and one.answered == one.arrived for one in trace.exchanges)
    assert [one.arrived for one in trace.exchanges] == [before, before, before + 3_600, before + 3_600]
    assert trace.exchanges[0].made == trace.exchanges[0].job == job.id
    assert [one.made for one in trace.exchanges[1:]] == [None] * 3
    fetched = trace.exchanges[-1]
    assert (fetched.size, fetched.answer, fetched.job) == (len(content), b"", job.id)
    assert fetched.url.startswith(server.origins["media"] + "/media/")
    (told,) = trace.jobs or ()
    assert (told.id, told.kind, told.billable) == (job.id, "success", True)
    assert told.sha256 == hashlib.sha256(content).hexdigest()
    assert trace.model == job.model


@pytest.mark.parametrize("apart", [0, 5_000])
def test_a_date_can_be_understood_by_a_clock_that_the_client_does_not_read(contract: Contract, apart: int) -> None:
    with MockServer([contract], pace="realistic") as server:
        world = server.world()
        moves = {"status": [{"move": "server_error", "retry_after_date": 90}]}
        world.arm({"why": "a test", "moves": moves}, provider=contract.key)
        world.clock.advance(apart)
        client_of(world, contract).call("status", path={"job": order(world, contract)})
        (late,) = [one for one in world.trace(contract.key).exchanges if one.answer_header("retry-after")]
        date = late.answer_header("date")
        assert (date is not None) is (apart > 0)
        since = late.arrived if date is None else parsedate_to_datetime(date).timestamp()
        wanted = parsedate_to_datetime(late.answer_header("retry-after") or "").timestamp()
        assert abs(wanted - since - 90) <= 2


def test_its_annotated_trace_can_be_read(world: MockWorld, contract: Contract) -> None:
    run(world, contract)
    story = AnnotatedTrace(contract, until(lambda: world.trace(contract.key), lambda trace: done(trace.exchanges[-1])))
    assert story.accepted is not None
    assert story.accepted.clean
    assert story.end is not None
    assert story.end.video == story.fetches[0].exchange.url


def test_a_trace_is_the_same_when_it_is_read_back(world: MockWorld, contract: Contract) -> None:
    world.arm("submit_accept_then_drop", provider=contract.key)
    ask(*request(world, contract))
    HTTP.get(f"{world.url(contract.key)}/nowhere?a=%2F&b", headers={b"x": "å".encode("latin-1")})
    HTTP.post(f"{world.url(contract.key)}/nowhere", content=b"\xff\x00")
    run(world, contract)
    trace = world.trace(contract.key)
    said = to_json(trace)
    assert read_trace(json.loads(json.dumps(said))) == trace
    assert not list(SHAPES.violations(TRACE, said, most=1))


def test_the_full_url_is_recorded(world: MockWorld) -> None:
    contract = CONTRACTS[0]
    where = f"{world.url(contract.key)}/a%20b/c%C3%A5?x=1&y=%26"
    HTTP.get(where, headers={"authorization": f"Bearer {world.api_key}"})
    (one,) = world.trace(contract.key).exchanges
    assert (one.url, one.role, one.status) == (where, None, 404)
    headers = {"authorization": f"Bearer {world.api_key}", "host": "localhost:1"}
    HTTP.get(where, headers=headers)
    assert world.trace(contract.key).exchanges[-1].url.startswith("http://localhost:1/")


FALSE = ["forged", "stale", "unsigned", "unknown_job"]
TOLD = [
    (contract, kind)
    for contract in CONTRACTS
    for kind in FALSE
    if not misfits(read_scenario({"why": "a test", "moves": {"callback": [{"move": kind}]}}), contract)
]


@pytest.mark.parametrize(("contract", "kind"), TOLD, ids=lambda one: getattr(one, "key", one))
def test_deliveries_have_their_kind(world: MockWorld, contract: Contract, kind: str, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/callback").respond_with_data("")
    armed(world, contract, "callback", kind)
    order(world, contract, callback_url=httpserver.url_for("/callback"))
    world.clock.run_until_idle()
    trace = world.trace(contract.key)
    assert [one.kind for one in trace.deliveries] == [kind, "genuine"]
    assert all(one.acknowledged and one.answered is not None for one in trace.deliveries)
    assert read_trace(json.loads(json.dumps(to_json(trace)))) == trace
    assert not list(SHAPES.violations(TRACE, to_json(trace), most=1))
    assert trace.unmet == ()
    assert trace.scenario["moves"] == {"callback": [{"move": kind}]}


def test_armed_faults_that_were_not_met_are_reported(world: MockWorld, contract: Contract) -> None:
    assert (world.trace(contract.key).scenario, world.trace(contract.key).unmet) == ({}, ())
    world.arm("status_truncate", provider=contract.key)
    trace = world.trace(contract.key)
    assert [move["move"] for move in trace.scenario["moves"]["status"]] == ["truncate"]
    assert [what.split()[0] for what in trace.unmet] == ["status/0"]


def test_a_trace_is_of_one_provider(world: MockWorld) -> None:
    for contract in CONTRACTS:
        order(world, contract)
    for contract in CONTRACTS:
        trace = world.trace(contract.key)
        assert [one.role for one in trace.exchanges] == ["submit"]
        assert [one.id for one in trace.jobs or ()] == [job.id for job in world.jobs if job.provider == contract.key]


# ---- faults of the connection, seen from a real socket


def armed(world: MockWorld, contract: Contract, role: str, kind: str, **options: Any) -> None:
    world.arm({"why": "a test", "moves": {role: [{"move": kind, **options}]}}, provider=contract.key)


@pytest.mark.parametrize("kind", ["accept_then_drop", "empty", "reset_peer", "truncate"])
def test_a_response_that_breaks_off_is_not_whole(world: MockWorld, contract: Contract, kind: str) -> None:
    armed(world, contract, "submit", kind)
    seen = ask(*request(world, contract))
    one = world.trace(contract.key).exchanges[0]
    assert seen.end in ("eof", "reset")
    assert (one.status, one.answered, one.whole) == (seen.status or 0, None, False)
    made = [job.id for job in world.jobs]
    assert made == ([one.made] if one.made else [])
    assert bool(made) == (kind in ("accept_then_drop", "truncate"))
    assert (one.job is not None) == (kind == "truncate")
    assert one.size >= len(seen.body)
    assert one.move == kind


def test_an_html_page_as_a_response_is_whole_and_may_have_made_a_job(world: MockWorld, contract: Contract) -> None:
    armed(world, contract, "submit", "html_page", accepted=True)
    seen = ask(*request(world, contract))
    one = last(world, contract, done)
    assert (one.status, one.whole, one.size, one.job) == (seen.status, True, len(seen.body), None)
    assert one.made == world.jobs[0].id
    assert one.answer_header("content-type") == seen.headers["content-type"]


@pytest.mark.parametrize("accepted", [False, True])
def test_a_client_that_waits_in_vain_and_goes_away_got_nothing(
    world: MockWorld, contract: Contract, accepted: bool
) -> None:
    armed(world, contract, "submit", "timeout", **({"accepted": True} if accepted else {}))
    with RawClient(*request(world, contract)):
        world.wait_for(role="submit", timeout=PATIENCE)
    one = world.trace(contract.key).exchanges[0]
    assert (one.status, one.answered, one.whole) == (0, None, False)
    assert (one.made is not None) == accepted == bool(world.jobs)


def test_a_late_response_is_delivered_to_a_client_that_waits_for_it(world: MockWorld, contract: Contract) -> None:
    armed(world, contract, "submit", "latency", seconds=7)
    with RawClient(*request(world, contract)) as client:
        world.wait_for(role="submit", timeout=PATIENCE)
        waiting = world.trace(contract.key).exchanges[0]
        while not client.readable():
            world.clock.advance(0.5)
        client.read()
    one = last(world, contract, done)
    assert (waiting.answered, waiting.whole) == (None, False)
    assert one.answered is not None
    assert one.answered >= one.arrived + 7
    assert one.whole


def test_a_late_response_is_not_whole_for_a_client_that_does_not_wait(
    server: MockServer, world: MockWorld, contract: Contract
) -> None:
    armed(world, contract, "submit", "latency", seconds=7)
    with RawClient(*request(world, contract)):
        world.wait_for(role="submit", timeout=PATIENCE)
        until_waits(server, world, 1)
    until_waits(server, world, 0)
    world.clock.advance(10)
    one = world.trace(contract.key).exchanges[0]
    assert (one.answered, one.whole) == (None, False)
    assert one.made == world.jobs[0].id


def until_waits(server: MockServer, world: MockWorld, count: int) -> None:
    """Return when a number of waits are on the world's clock."""
    deadline = time.monotonic() + PATIENCE
    while server.run(lambda: world.clock.awaited.waiting) != count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_slow_body_is_whole_when_its_last_piece_is_there(world: MockWorld, contract: Contract) -> None:
    job = order(world, contract)
    armed(world, contract, "submit", "slow_body", seconds=10, pieces=5)
    with RawClient(*request(world, contract)) as client:
        client.read_body(1)
        assert not world.trace(contract.key).exchanges[-1].whole
        while client.seen.end == "open":
            world.clock.advance(1)
            if client.readable(0.01):
                client.read_body(len(client.seen.body) + 1)
    one = last(world, contract, done)
    assert one.whole
    assert one.answered is not None
    assert one.answered > one.arrived
    assert one.made not in (None, job)


def test_a_client_that_disconnects_inside_a_file_did_not_get_it_whole(world: MockWorld, contract: Contract) -> None:
    where = video(world, contract, order(world, contract))
    with RawClient("GET", where) as client:
        client.read_body(1)
        assert client.seen.end == "open"
    one = last(world, contract, lambda one: one.role == "media" and not one.whole)
    assert one.answered is None
    assert one.size == client.seen.length


def test_a_client_that_reads_a_file_to_its_end_got_it_whole(world: MockWorld, contract: Contract) -> None:
    where = video(world, contract, order(world, contract))
    seen = ask("GET", where)
    again = ask("GET", where, {"Range": "bytes=0-9"})
    head = ask("HEAD", where)
    trace = until(
        lambda: world.trace(contract.key), lambda trace: len(trace.exchanges) == 5 and done(trace.exchanges[-1])
    )
    files = trace.exchanges[2:]
    assert [(one.method, one.status, one.whole, one.size) for one in files] == [
        ("GET", 200, True, len(seen.body)),
        ("GET", 206, True, len(again.body)),
        ("HEAD", head.status, True, 0),
    ]


@pytest.mark.parametrize("kind", ["truncated", "expired", "reset_peer"])
def test_a_file_that_meets_a_fault_is_recorded_with_it(world: MockWorld, contract: Contract, kind: str) -> None:
    armed(world, contract, "media", kind)
    seen = ask("GET", video(world, contract, order(world, contract)))
    one = last(world, contract, lambda one: one.move == kind and one.whole == (kind == "expired"))
    assert (one.role, one.status) == ("media", seen.status or 0)


def test_a_response_that_is_left_unread_was_not_delivered(world: MockWorld, contract: Contract) -> None:
    with RawClient(*request(world, contract)) as client:
        while not client.readable(0.1):
            pass
    one = last(world, contract, lambda one: not one.whole)
    assert (one.answered, one.made) == (None, world.jobs[0].id)


# ---- secrets


def test_the_key_stands_nowhere_in_a_trace(server: MockServer, contract: Contract) -> None:
    world = server.world('sk-"quoted"/key+with=signs')
    key, base = world.api_key, world.url(contract.key)
    bearer = {"authorization": f"Bearer {key}"}
    for headers in (bearer, {"x-api-key": key}, {"x-api-key": "another"}, {"x-other": f"key={key}", **bearer}):
        HTTP.get(f"{base}/nowhere", headers=headers)
    HTTP.get(f"{base}/nowhere?key={quote(key, safe='')}", headers=bearer)
    basic = base64.b64encode(f"{key}:".encode()).decode()
    HTTP.get(f"{base}/nowhere", headers={"authorization": f"Basic {basic}"})
    _, model, body = documented(contract)
    (place, *_) = model.parameters["prompt"]
    client_of(world, contract).submit(model.id, replaced(body, place, f"a horse; {key}"))
    HTTP.get(f"{server.origins['foreign']}/{contract.key}/nowhere", headers=bearer)
    trace = world.trace(contract.key)
    said = json.dumps(to_json(trace), ensure_ascii=False) + json.dumps(to_json(trace))
    for form in (key, quote(key, safe=""), quote(key), json.dumps(key)[1:-1], json.dumps(json.dumps(key))[2:-2], basic):
        assert form not in said
    assert len(trace.exchanges) == 8
    assert trace.exchanges[0].header("authorization") == f"Bearer {KEY}"
    assert [one.header("x-api-key") for one in trace.exchanges[1:3]] == [KEY, REDACTED]
    assert trace.exchanges[5].header("authorization") == REDACTED


KEYS = st.text("abckey019-._~+/=", min_size=1, max_size=12).filter(lambda key: key not in f"Bearer {KEY}")


@given(key=KEYS, before=st.binary(max_size=9), after=st.binary(max_size=9))
def test_no_key_is_left_in_a_body(key: str, before: bytes, after: bytes) -> None:
    veil = Redactor(CONTRACTS[0], (key,), shortest=1)
    assert key.encode() not in veil.content(before + key.encode() + after)
    assert key not in veil.text(before.decode("latin-1") + key)
    assert key not in dict(veil.headers([("authorization", f"Bearer {key}")]))["authorization"]


@given(key=st.text("abcdef0123456789", min_size=8, max_size=40), cut=st.integers(4, 7))
def test_nor_the_beginning_of_a_key_where_a_body_was_cut(key: str, cut: int) -> None:
    content = Redactor(CONTRACTS[0], (key,), kept=MOST_JOURNAL_BODY_BYTES).content(
        b" " * (MOST_JOURNAL_BODY_BYTES - cut) + key[:cut].encode()
    )
    assert key[:cut].encode() not in content


# ---- unauthenticated requests


def test_requests_without_a_key_are_placed_between_their_neighbours(world: MockWorld, contract: Contract) -> None:
    order(world, contract)
    world.clock.advance(100)
    method, where, _, body = request(world, contract)
    refused = ask(method, where, {"Content-Type": "application/json"}, body)
    world.clock.advance(100)
    order(world, contract)
    one, two, three = world.trace(contract.key).exchanges
    assert (two.role, two.status, two.made) == ("submit", refused.status, None)
    assert one.arrived <= two.arrived <= three.arrived
    assert [step.number for step in AnnotatedTrace(contract, world.trace(contract.key)).submits] == [1, 2, 3]


def test_unauthenticated_requests_before_a_world_are_not_of_its_client(server: MockServer, contract: Contract) -> None:
    ask("GET", f"{server.url}/{contract.key}/nowhere")
    world = server.world()
    assert world.trace(contract.key).exchanges == ()
    ask("GET", f"{server.url}/{contract.key}/nowhere")
    assert len(world.trace(contract.key).exchanges) == 1
    world.reset("journal")
    assert world.trace(contract.key).exchanges == ()


def test_a_key_that_was_issued_for_another_world_has_a_number(contract: Contract) -> None:
    with MockServer([contract], clock="manual", closed=True) as server:
        world = server.world("a-key-of-this-world", seed=0)
        order(world, contract)
        method, where, headers, body = request(world, contract)
        for key in ("an-earlier-key", "an-unknown-key"):
            ask(method, where, {**headers, "Authorization": f"Bearer {key}"}, body)
        found = world.trace(contract.key, issued="an-earlier-key".__eq__)
        assert [dict(one.headers)["authorization"] for one in found.exchanges] == [
            "Bearer [key-1]",
            "Bearer [key-2]",
            "[redacted]",
        ]
        assert "[key-2]" not in str(world.trace(contract.key).exchanges)


# ---- further origins


def test_another_origin_refuses_and_records_the_client(
    server: MockServer, world: MockWorld, contract: Contract
) -> None:
    method, where, headers, body = request(world, contract)
    home, foreign = urlsplit(where), server.origins["foreign"]
    seen = ask(method, f"{foreign}{home.path}", headers, body)
    assert (seen.status, seen.json["error"]["code"]) == (404, "unknown_path")
    one = last(world, contract, done)
    assert (one.url, one.role, one.status, one.body) == (f"{foreign}{home.path}", None, 404, body)
    assert one.header("authorization") == f"Bearer {KEY}"
    assert (world.jobs, world.complaints()) == ([], [])
    media = ask(method, f"{server.origins['media']}{home.path}", headers, body)
    assert (media.status, world.jobs) == (404, [])


def test_the_foreign_origin_has_another_name_and_is_served_at_each_of_its_addresses(
    server: MockServer, world: MockWorld
) -> None:
    contract, foreign, port = CONTRACTS[0], urlsplit(server.origins["foreign"]), urlsplit(server.origins["port"])
    assert (urlsplit(server.url).hostname, foreign.hostname, port.hostname) == ("127.0.0.1", "localhost", "127.0.0.1")
    for host in ("localhost", "127.0.0.1", *(["[::1]"] if has_ipv6() else [])):
        ask("GET", f"http://{host}:{foreign.port}/x", {"Authorization": f"Bearer {world.api_key}"})
        one = last(world, contract, done)
        assert (one.url, one.situation, one.status) == (f"{server.origins['foreign']}/x", None, 404)
    ask("GET", f"{server.origins['port']}/x", {"Authorization": f"Bearer {world.api_key}"})
    assert last(world, contract, done).url == f"{server.origins['port']}/x"


def has_ipv6() -> bool:
    try:
        serving.bind("::1", 0).close()
    except OSError:
        return False
    return True


def test_a_port_that_is_taken_on_ipv6_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    real, taken = serving.bind, [OSError(errno.EADDRINUSE, "taken")]

    def bind(host: str, port: int) -> socket.socket:
        if host == "::1" and taken:
            raise taken.pop()
        return real(host, port)

    monkeypatch.setattr(serving, "bind", bind)
    found = serving.bind_elsewhere()
    ports = {one.getsockname()[1] for one in found["foreign"].sockets}
    assert (taken, len(ports)) == ([], 1)
    assert found["foreign"].url == f"http://localhost:{ports.pop()}"
    for one in found.values():
        for bound in one.sockets:
            bound.close()


def test_a_lie_about_the_host_does_not_hide_the_origin(server: MockServer, world: MockWorld) -> None:
    contract = CONTRACTS[0]
    headers = {"Host": urlsplit(server.url).netloc, "Authorization": f"Bearer {world.api_key}"}
    ask("GET", f"{server.origins['foreign']}/x", headers)
    assert last(world, contract, done).url == f"{server.origins['foreign']}/x"


def test_a_request_to_a_private_address_gets_the_canary_and_is_recorded(
    server: MockServer, world: MockWorld, contract: Contract
) -> None:
    if "private" not in server.origins:
        pytest.skip("this system has no second loopback address")
    assert not server.origins["private"].startswith("http://127.0.0.1:")
    seen = ask("GET", f"{server.origins['private']}/latest/secret")
    assert (seen.status, len(seen.body)) == (200, 15)
    one = last(world, contract, done)
    assert (one.url, one.role) == (f"{server.origins['private']}/latest/secret", None)
    path = urlsplit(video(world, contract, order(world, contract))).path
    other = server.world()
    ask("GET", server.origins["private"] + path)
    assert urlsplit(last(world, contract, done).url).path == path
    assert path not in {urlsplit(one.url).path for one in other.trace(contract.key).exchanges}


def test_an_origin_that_the_system_does_not_have_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "PRIVATE", "192.0.2.1")
    with MockServer(elsewhere=True) as server:
        assert set(server.origins) == {"media", "port", "foreign"}
        assert len({server.url, *server.origins.values()}) == 4
    for origin in server.origins.values():
        with pytest.raises(httpx.ConnectError):
            HTTP.get(origin)
    with MockServer() as server:
        assert server.origins == {}


# ---- over HTTP


def test_a_server_elsewhere_tells_the_same_trace(server: MockServer, world: MockWorld, contract: Contract) -> None:
    run(world, contract)
    ours = until(lambda: world.trace(contract.key), lambda trace: done(trace.exchanges[-1]))
    remote = RemoteServer(server.url)
    theirs = remote.world(world.api_key)
    assert theirs.trace(contract.key) == ours
    with pytest.raises(RemoteError, match="unknown provider 'nobody'"):
        theirs.trace("nobody")
    with pytest.raises(RemoteError, match="without a judge"):
        theirs.ask("GET", "/report", provider=contract.key)
    with pytest.raises(RemoteError, match="the provider is missing"):
        theirs.ask("GET", "/trace")
    remote.stop()


def test_a_judge_is_given_contract_and_trace() -> None:
    contract = CONTRACTS[0]

    def judge(contract: Contract, trace: Trace) -> dict[str, Any]:
        return {"provider": contract.key, "submissions": [one.role for one in trace.exchanges]}

    with MockServer(judge=judge) as server:
        world = server.world()
        order(world, contract)
        headers = {"authorization": f"Bearer {world.api_key}"}
        answer = HTTP.get(f"{server.url}/_mock/report", params={"provider": contract.key}, headers=headers)
        assert (answer.status_code, answer.json()) == (200, {"provider": contract.key, "submissions": ["submit"]})
    with MockServer() as server:
        answer = HTTP.get(f"{server.url}/_mock/report", params={"provider": contract.key}, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (501, "no_judge")


# ---- seeded worlds and forgotten worlds


def test_worlds_with_the_same_seed_make_the_same(server: MockServer, contract: Contract, tmp_path: Path) -> None:
    one, two, other = server.world(seed=7), server.world(seed=7), server.world(seed=8)
    videos = [run(world, contract) for world in (one, two, other)]
    assert [job.id for job in one.jobs] == [job.id for job in two.jobs] != [job.id for job in other.jobs]
    assert videos[0] == videos[1]
    assert one.trace(contract.key).jobs == two.trace(contract.key).jobs
    with pytest.raises(ValueError, match="already has a world"):
        server.world(one.api_key, seed=7)


def test_jobs_with_the_same_id_have_their_own_videos(server: MockServer, contract: Contract) -> None:
    one, two = server.world(seed=9), server.world(seed=9)
    first = run(one, contract)
    order(two, contract)
    (job,) = two._world.jobs.values()
    job.order = replace(job.order, first_frame="https://example.com/quite-another-picture.jpg")
    assert ask("GET", video(two, contract, job.id)).body != first
    assert [job.id for job in one.jobs] == [job.id]


@contracts_that(lambda contract: contract.callbacks is not None)
def test_jobs_with_the_same_id_have_their_own_callbacks(
    server: MockServer, contract: Contract, httpserver: HTTPServer
) -> None:
    worlds = server.world(seed=10), server.world(seed=10)
    for number, world in enumerate(worlds):
        httpserver.expect_request(f"/{number}").respond_with_data("")
        order(world, contract, callback_url=httpserver.url_for(f"/{number}"))
    for world in worlds:
        world.clock.run_until_idle()
        assert len(world.callbacks) == len(world.trace(contract.key).deliveries) == 1


def test_a_world_that_is_forgotten_leaves_nothing_behind(contract: Contract) -> None:
    def kept() -> tuple[int, int]:
        gc.collect()
        found = [type(one) for one in gc.get_objects() if type(one) in (World, Job)]
        return found.count(World), found.count(Job)

    with MockServer(clock="manual") as server:
        before = kept()
        for number in range(20):
            world = server.world()
            more = {"callback_url": server.url} if contract.callbacks is not None else {}
            run(world, contract, **more) if number == 0 else order(world, contract, **more)
            world.clock.advance(3_600)
            key = world.api_key
            server.forget(world)
            assert server.asgi.worlds.known(key) is None
        assert HTTP.get(server.url).status_code == 200
        del world
        worlds, jobs = kept()
        assert worlds <= before[0] + 1
        assert jobs <= before[1] + 1
        assert server.world(key).jobs == []
