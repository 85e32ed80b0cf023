"""The application with observers: what an observer learns of each request."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.observing.observed import MOST_PATH, Observed, ObservedRequest
from hobbyhorse.server.run import ServerThread
from tests.server.observing.running import BODY, KEY, TASKS, running

pytestmark = pytest.mark.anyio


@dataclass
class Recorder:
    """An observer that keeps every request, and the times at which it began and ended."""

    requests: list[ObservedRequest] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def setup(self, stack: ExitStack) -> Recorder:
        self.log.append("begun")
        stack.callback(self.log.append, "ended")
        return self

    def ended(self, request: ObservedRequest) -> None:
        self.requests.append(request)


async def test_an_observer_learns_the_operation_the_job_the_situation_and_the_scenario() -> None:
    recorder = Recorder()
    fake = Fake()
    async with running(Observed(fake, [recorder.setup])) as client:
        accepted = await client.post(TASKS, json=BODY)
        job = accepted.json()["data"]["taskId"]
        scenario = {"moves": {"status": [{"move": "html_page"}]}}
        (await client.post("/_mock/scenarios/arm", json={"scenario": scenario})).raise_for_status()
        armed = (await client.post(TASKS, json=BODY)).json()["data"]["taskId"]
        await client.get(f"{TASKS}/{armed}")
        await client.get("/_mock/jobs")
    submitted, _, second, poll, listed = recorder.requests
    assert dict(submitted.facts()) == {
        "provider": "hiapi",
        "operation": "submit",
        "world": next(iter(fake.worlds)).handle,
        "situation": "accepted",
        "job": job,
        "fault": None,
    }
    assert dict(second.facts())["job"] == armed
    assert dict(second.facts())["scenario"] == "inline"
    assert dict(poll.facts()).items() >= {"operation": "status", "job": armed, "fault": "html_page"}.items()
    assert dict(listed.facts()) == {}
    assert [request.status for request in recorder.requests] == [200, 201, 200, 200, 200]
    assert (submitted.method, submitted.path) == ("POST", TASKS)
    assert all(request.seconds > 0 for request in recorder.requests)


async def test_each_response_has_the_id_of_its_request() -> None:
    recorder = Recorder()
    async with running(Observed(Fake(), [recorder.setup])) as client:
        found = [await client.get(path) for path in ("/hiapi/v1/nothing", "/_mock/health", "/media/a/b/c", "/")]
    ids = [response.headers["x-mock-request-id"] for response in found]
    assert ids == [request.id for request in recorder.requests]
    assert len({*ids}) == len(ids)


async def test_without_an_observer_a_response_has_only_its_documented_headers() -> None:
    async with running(Fake().application()) as client:
        assert "x-mock-request-id" not in (await client.get(TASKS)).headers


async def test_an_observer_lives_as_long_as_the_server() -> None:
    recorder = Recorder()
    app = Observed(Fake(), [recorder.setup])
    assert recorder.log == []
    async with running(app):
        assert recorder.log == ["begun"]
    assert recorder.log == ["begun", "ended"]


async def test_an_error_is_observed_and_raised() -> None:
    class Broken(Fake):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                raise ZeroDivisionError
            await super().__call__(scope, receive, send)

    recorder = Recorder()
    async with running(Observed(Broken(), [recorder.setup])) as client:
        assert (await client.get("/")).status_code == 500
    (request,) = recorder.requests
    assert (request.error, request.status) == ("ZeroDivisionError", None)


@pytest.mark.parametrize(
    ("path", "shown"),
    [(f"{TASKS}/{KEY}", f"{TASKS}/[key]"), (f"/hiapi/{'x' * 300}", f"/hiapi/{'x' * (MOST_PATH - 7)}…")],
    ids=["key", "long"],
)
async def test_a_path_is_cut_and_has_neither_the_key_nor_the_query(path: str, shown: str) -> None:
    recorder = Recorder()
    async with running(Observed(Fake(), [recorder.setup])) as client:
        await client.get(f"{path}?token={KEY}")
    (request,) = recorder.requests
    assert request.path == shown


async def test_a_short_key_stays_in_a_path_because_it_is_in_words_too() -> None:
    recorder = Recorder()
    async with running(Observed(Fake(), [recorder.setup])) as client:
        await client.get(f"{TASKS}/x", headers={"authorization": "Bearer k"})
    (request,) = recorder.requests
    assert request.path == f"{TASKS}/x"


def test_the_options_name_the_application() -> None:
    made: list[Any] = []

    def observe(fake: Fake) -> Observed:
        made.append(fake)
        return Observed(fake, [])

    fake = Fake(options=Options(observe=observe))
    assert isinstance(fake.application(), Observed)
    assert made == [fake]
    plain = Fake()
    assert plain.application() is plain


def test_a_response_that_a_variation_writes_itself_has_its_status() -> None:
    recorder = Recorder()
    server = ServerThread(Observed(Fake(), [recorder.setup]))
    try:
        with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {KEY}"}) as client:
            for move in ({"move": "header_case", "names": "upper"}, {"move": "reset_peer"}):
                scenario = {"moves": {"submit": [move]}}
                client.post("/_mock/scenarios/arm", json={"scenario": scenario}).raise_for_status()
                with suppress(httpx.TransportError):
                    client.post(TASKS, json=BODY).raise_for_status()
    finally:
        server.stop()
    found = [request for request in recorder.requests if request.path == TASKS]
    assert [(dict(request.facts())["fault"], request.status) for request in found] == [
        ("header_case", 200),
        ("reset_peer", None),
    ]
