"""The control plane keeps its own document, steers one world, changes nothing when it refuses, and obeys no page."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate
from pytest_httpserver import HTTPServer

from hobbyhorse.clock.clock import ManualClock
from hobbyhorse.contract.generate import values
from hobbyhorse.contract.schemas import Schemas, address
from hobbyhorse.contract.values import Contract
from hobbyhorse.server.control.app import (
    DOCUMENT,
    MOST_BODY,
    ControlOperation,
    ControlPlane,
    read_document,
    read_operations,
)
from hobbyhorse.server.control.handlers import HANDLERS
from tests.conftest import CONTRACTS, ROOT
from tests.server.test_callbacks import Receiver, calling, order
from tests.world import KEY, Mock, Reply, documented

pytestmark = pytest.mark.anyio

PLAN = read_document()
SCHEMAS = Schemas({DOCUMENT: PLAN})
OPERATIONS = read_operations(PLAN)
ROUTES = [(method, path) for path, methods in OPERATIONS.items() for method in methods]
BODIES = [(method, path) for method, path in ROUTES if OPERATIONS[path][method].body]
OPEN = [(method, path) for method, path in ROUTES if OPERATIONS[path][method].open]
MANY = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
STEP = {"move": "reset_peer"}
SCENARIO = {"why": "a connection is lost", "moves": {"status": [STEP]}}


def met(method: str, path: str) -> tuple[str, ControlOperation] | None:
    """Return the path and the operation of the document that a request meets."""
    for template in OPERATIONS:
        if re.fullmatch(re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(template)), path):
            operation = OPERATIONS[template].get("GET" if method == "HEAD" else method)
            return (template, operation) if operation else None
    return None


class Plane:
    """The control plane of a fake in process; every answer is held against the document."""

    def __init__(self, contracts: list[Contract] | None = None, **options: Any) -> None:
        self.mock = Mock(contracts or CONTRACTS, **options)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = KEY,
        host: str = "localhost",
    ) -> Reply:
        """Send a request to the control plane."""
        sent = dict(headers or {})
        if body is not None and content is None:
            content = orjson.dumps(body)
        if content is not None:
            sent.setdefault("content-type", "application/json")
        where = f"/_mock{path}"
        reply = await self.mock.send(method, where, body=content or b"", headers=sent, key=key, host=host)
        hold(method, where.partition("?")[0], reply)
        return reply

    async def said(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """Send a request that is to succeed; return what is said."""
        reply = await self.ask(method, path, body, **more)
        assert reply.status < 300, reply.body
        return reply.json

    async def refused(self, status: int, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """Send a request that is to be refused; return the error."""
        reply = await self.ask(method, path, body, **more)
        assert reply.status == status, reply.body
        return reply.json["error"]


def hold(method: str, path: str, reply: Reply) -> None:
    """Hold an answer against the document."""
    assert reply.headers["content-type"] == "application/json"
    found = met(method, path)
    if found is None:
        schema = f"{DOCUMENT}#/components/schemas/Problem"
        assert reply.status in (403, 404, 405)
    else:
        at = (*found[1].at, "responses", str(reply.status))
        said, _ = SCHEMAS.deref(SCHEMAS.at(address(DOCUMENT, at)), DOCUMENT)
        assert said, f"{method} {path} answers {reply.status}, which the document does not have: {reply.body!r}"
        if reply.status < 300:
            schema = address(DOCUMENT, (*at, "content", "application/json", "schema"))
        else:
            schema = f"{DOCUMENT}#/components/schemas/Problem"
    assert not [str(violation) for violation in SCHEMAS.violations(schema, reply.json)]
    if reply.status >= 400:
        assert all(reply.json["error"].values()), reply.body


def concrete(path: str, **names: str) -> str:
    """Return a path of the document below `/_mock`, with names filled in."""
    for name, value in names.items():
        path = path.replace("{" + name + "}", value)
    return re.sub(r"\{[^}]+\}", "1", path).removeprefix("/_mock")


@pytest.fixture(params=CONTRACTS[:1], ids=lambda contract: contract.key)
def one(request: pytest.FixtureRequest) -> Contract:
    """One contract, where any will do."""
    found: Contract = request.param
    return found


@pytest.fixture
def catalogue(tmp_path: Path) -> tuple[Path, ...]:
    """A directory of scenarios of our own."""
    for name in ("lost-poll", "lost-polls", "lost-pool"):
        (tmp_path / f"{name}.json").write_bytes(orjson.dumps(SCENARIO))
    only = {
        "why": "no provider has this",
        "moves": {"callback": [{"move": "lost"}], "health": [STEP], "cancel": [STEP]},
    }
    (tmp_path / "nowhere.json").write_bytes(orjson.dumps(only))
    return (tmp_path,)


async def test_the_document_is_a_valid_one_and_is_served() -> None:
    validate(PLAN)
    assert await Plane().said("GET", "/openapi.json", key=None) == PLAN


async def test_every_route_stands_in_the_document_and_the_other_way_round() -> None:
    control = Plane().mock.fake.control()
    assert isinstance(control, ControlPlane)
    routes = {(method, route.path) for route in control.router.routes for method in route.methods}  # type: ignore[attr-defined]
    assert {route for route in routes if route[0] != "HEAD"} == set(ROUTES)
    said = [operation.id for methods in OPERATIONS.values() for operation in methods.values()]
    assert sorted(said) == sorted([*HANDLERS, "getDocument"])


async def test_health_version_and_document_need_no_key() -> None:
    plane = Plane(api_keys=frozenset({"another"}))
    assert {path for _, path in OPEN} == {"/_mock/health", "/_mock/version", "/_mock/openapi.json"}
    for method, path in OPEN:
        await plane.said(method, concrete(path), key=None)
    assert await plane.said("GET", "/health", key=None) == {"status": "ok"}
    assert (await plane.ask("HEAD", "/health", key=None)).status == 200


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_page_from_elsewhere_gets_403_from_every_route(method: str, path: str) -> None:
    plane = Plane()
    before = await state(plane)
    for host in ("evil.example", "localhost.evil.example:80", "10.0.0.1"):
        error = await plane.refused(403, method, concrete(path), host=host)
        assert error["code"] == "foreign_host"
    for origin in ("http://evil.example", "null", "https://localhost", "http://localhost:1"):
        error = await plane.refused(403, method, concrete(path), {}, headers={"origin": origin})
        assert error["code"] == "foreign_origin"
    assert await state(plane) == before
    assert (await plane.ask(method, concrete(path), headers={"origin": "http://localhost"})).status != 403


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_the_control_key_is_asked_for_on_every_route_but_health(method: str, path: str) -> None:
    plane = Plane(control_key="the key", loopback=False)
    right = {"x-mock-control-key": "the key"}
    health = path == "/_mock/health"
    for headers in ({}, {"x-mock-control-key": "another"}):
        reply = await plane.ask(method, concrete(path), headers=headers, host="mock.internal")
        assert (reply.status == 403) is not health
    assert (await plane.ask(method, concrete(path), headers=right, host="mock.internal")).status != 403
    foreign = {**right, "origin": "http://evil.example"}
    assert (await plane.ask(method, concrete(path), headers=foreign, host="mock.internal")).status == 403
    bare = Plane(loopback=False)
    reply = await bare.ask(method, concrete(path))
    assert (reply.status == 403) is not health
    assert health or "--control-key" in reply.json["error"]["hint"]


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route not in OPEN])
async def test_a_world_is_named_by_a_key_that_is_accepted(method: str, path: str) -> None:
    plane = Plane(api_keys=frozenset({KEY}))
    worlds = plane.mock.fake.worlds
    reply = await plane.ask(method, concrete(path), key=None)
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    error = await plane.refused(403, method, concrete(path), key="unknown")
    assert error["code"] == "key_refused"
    assert list(worlds) == []
    assert (await plane.ask("GET", "/clock", headers={"authorization": f"bEARER  {KEY}"}, key=None)).status == 200


async def test_what_is_no_operation_is_said_to_be_none() -> None:
    plane = Plane()
    assert (await plane.refused(404, "GET", "/nothing"))["code"] == "unknown_path"
    assert (await plane.refused(404, "GET", "/"))["code"] == "unknown_path"
    assert (await plane.refused(404, "GET", ""))["code"] == "unknown_path"
    assert (await plane.refused(404, "GET", "/jobs/"))["code"] == "unknown_path"
    for path, methods in OPERATIONS.items():
        reply = await plane.ask("OPTIONS", concrete(path))
        assert reply.status == 405
        assert {*reply.headers["allow"].split(", ")} - {"HEAD"} == set(methods)


async def test_jobs_are_listed_and_shown(contract: Contract) -> None:
    plane = Plane([contract])
    ids = [await plane.mock.submit(contract) for _ in range(3)]
    listed = await plane.said("GET", "/jobs")
    assert [job["id"] for job in listed["jobs"]] == ids
    assert [job["id"] for job in (await plane.said("GET", "/jobs?limit=2"))["jobs"]] == ids[1:]
    assert (await plane.said("GET", f"/jobs?provider={contract.key}"))["total"] == 3
    shown = await plane.said("GET", f"/jobs/{ids[0]}")
    assert shown == listed["jobs"][0]
    assert shown["stage"] == contract.graph.initial
    assert [step["stage"] for step in shown["timeline"]] == list(contract.graph.path(contract.graph.initial))
    assert shown["curl"].startswith("curl ")
    assert KEY not in shown["curl"]
    assert (shown["finished"], shown["collected"], shown["scenario"], shown["error"]) == (None, False, None, None)
    assert (await plane.said("GET", "/jobs", key="another"))["jobs"] == []
    assert (await plane.refused(404, "GET", f"/jobs/{ids[0]}", key="another"))["code"] == "unknown_job"
    await plane.mock.clock.advance(86_400)
    assert (await plane.said("GET", "/jobs?stage=success"))["total"] == 3
    done = await plane.said("GET", f"/jobs/{ids[0]}")
    assert done["class"] == "success"
    assert done["finished"] == done["timeline"][-1]["at"]


async def test_a_job_is_moved_along_the_graph_only(contract: Contract) -> None:
    plane = Plane([contract])
    graph = contract.graph
    job = await plane.mock.submit(contract)
    before = await plane.said("GET", f"/jobs/{job}")
    legal = graph[graph.initial].next
    for stage in (graph.initial, "nonsense", *(one.name for one in graph if one.name not in legal)):
        error = await plane.refused(409, "POST", f"/jobs/{job}/transition", {"stage": stage})
        assert error["code"] == "illegal_transition"
        assert all(repr(name) in error["hint"] for name in legal)
    assert await plane.said("GET", f"/jobs/{job}") == before
    failure = next((name for name in legal if graph[name].kind == "failure"), None)
    while failure is None:
        step = graph.path(plane.mock.world.jobs[job].stage(plane.mock.clock.now()).name)[1]
        await plane.said("POST", f"/jobs/{job}/transition", {"stage": step})
        failure = next((name for name in graph[step].next if graph[name].kind == "failure"), None)
    said = {"stage": failure, "code": "E1", "message": "it was told to"}
    moved = await plane.said("POST", f"/jobs/{job}/transition", said)
    assert (moved["stage"], moved["class"]) == (failure, "failure")
    assert moved["error"] == {"code": "E1", "message": "it was told to"}
    error = await plane.refused(409, "POST", f"/jobs/{job}/transition", {"stage": graph.initial})
    assert "ended" in error["hint"]
    poll = await plane.mock.call(contract, "status", path={"job": job})
    assert poll.reading is not None
    assert failure in poll.reading.stages
    assert (await plane.said("GET", f"/jobs/{job}"))["collected"]


async def test_the_clock_is_shown_set_and_moved(one: Contract) -> None:
    plane = Plane([one])
    job = await plane.mock.submit(one)
    start = await plane.said("GET", "/clock")
    assert start["speed"] == 0
    moved = await plane.said("POST", "/clock/advance", {"seconds": 86_400})
    assert moved["now"] == start["now"] + 86_400
    assert (await plane.said("GET", f"/jobs/{job}"))["class"] == "success"
    happened: list[float] = []

    async def note() -> None:
        happened.append(plane.mock.clock.now())

    plane.mock.clock.at(moved["now"] + 5, note)
    assert (await plane.said("GET", "/clock"))["waiting"] == 1
    idle = await plane.said("POST", "/clock/run-until-idle")
    assert happened == [idle["now"]] == [moved["now"] + 5]
    assert idle["waiting"] == 0
    assert (await plane.said("PUT", "/clock", {"speed": 60}))["speed"] == 60
    assert (await plane.said("PUT", "/clock", {"speed": 0}))["speed"] == 0


@pytest.mark.parametrize(
    "content", [b'{"seconds": -1}', b'{"seconds": NaN}', b'{"seconds": 1e999}', b'{"seconds": "1"}']
)
async def test_time_never_goes_back_nor_is_it_no_number(content: bytes) -> None:
    plane = Plane()
    before = await plane.said("GET", "/clock")
    assert (await plane.ask("POST", "/clock/advance", content=content)).status in (400, 422)
    assert await plane.said("GET", "/clock") == before


async def test_time_has_an_end() -> None:
    plane = Plane(make_clock=lambda: ManualClock(2.49e11))
    before = await plane.said("GET", "/clock")
    error = await plane.refused(409, "POST", "/clock/advance", {"seconds": 3_000_000_000})
    assert error["code"] == "end_of_time"
    assert await plane.said("GET", "/clock") == before


async def test_the_journal_shows_what_was_asked_and_answered(contract: Contract) -> None:
    plane = Plane([contract])
    job = await plane.mock.submit(contract)
    await plane.mock.call(contract, "status", path={"job": job})
    journal = await plane.said("GET", "/journal")
    assert [one["role"] for one in journal["exchanges"]] == ["submit", "status"]
    submitted = journal["exchanges"][0]
    assert orjson.loads(submitted["body"]) == documented(contract)[2]
    assert job in submitted["answer"]
    assert ["authorization", "[redacted]"] in submitted["headers"]
    assert KEY not in orjson.dumps(journal).decode()
    assert submitted["nearest"] is None
    filters = {
        f"provider={contract.key}": 2,
        "role=status": 1,
        "role=media": 0,
        f"status={submitted['status']}": None,
        "situation=accepted": 1,
        "method=get": None,
        f"path={submitted['path']}": None,
        f"job={job}": 2,
        "limit=1": 2,
    }
    for query, count in filters.items():
        found = await plane.said("GET", f"/journal?{query}")
        assert count in (None, found["matching"]), query
        name, _, value = query.partition("=")
        assert name == "limit" or all(str(one[name]).lower() == value.lower() for one in found["exchanges"])
    assert len((await plane.said("GET", "/journal?limit=1"))["exchanges"]) == 1
    assert (await plane.said("GET", "/journal", key="another"))["exchanges"] == []


@pytest.mark.parametrize("way", [("query", "key", ""), ("header", "x-acme", "token ")])
async def test_a_key_is_found_and_redacted_wherever_a_contract_has_it(one: Contract, way: tuple[str, str, str]) -> None:
    part, name, before = way
    plane = Plane([replace(one, security=(way,))])
    query = f"?{name}={KEY}" if part == "query" else ""
    headers = {name: f"{before}{KEY}"} if part == "header" else {}
    path = concrete(one.operations["status"].path)
    await plane.mock.send("GET", f"/{one.key}{path}{query}", key=None, headers=headers)
    journal = await plane.said("GET", f"/journal{query}", key=None, headers=headers)
    assert len(journal["exchanges"]) == 1
    assert KEY not in orjson.dumps(journal).decode()
    assert "[redacted]" in orjson.dumps(journal).decode()


async def test_a_request_that_met_nothing_says_what_it_is_nearest_to(contract: Contract) -> None:
    plane = Plane([contract])
    operation = contract.operations["status"]
    wrong = re.sub(r"\{[^}]+\}", "x", operation.path)
    await plane.mock.send("GET", f"/{contract.key}/v0{wrong}")
    await plane.mock.send("PROPFIND", f"/{contract.key}{wrong}")
    await plane.mock.call(contract, "status", path={"job": "unknown"})
    first, second, known = (await plane.said("GET", "/journal"))["exchanges"]
    assert first["nearest"]["text"].startswith(f"GET /v0{wrong}: no operation; the nearest is status GET")
    assert [one["part"] for one in first["nearest"]["differences"]] == ["path"]
    assert [one["part"] for one in second["nearest"]["differences"]] == ["method"]
    assert known["nearest"] is None


async def test_a_request_that_breaks_the_contract_says_where(contract: Contract) -> None:
    plane = Plane([contract])
    operation, model, body = documented(contract)
    path = {"model": model.id}
    await plane.mock.call(contract, operation.role, path=path, body={})
    await plane.mock.call(contract, operation.role, path=path, body=body, headers={"content-type": "text/plain"})
    empty, typed = (await plane.said("GET", "/journal"))["exchanges"]
    assert [one["part"] for one in empty["nearest"]["differences"]] == ["field"]
    assert empty["nearest"]["role"] == operation.role
    assert [(one["part"], one["at"]) for one in typed["nearest"]["differences"]] == [("header", "content-type")]


async def test_a_wait_ends_with_the_exchange_that_it_waits_for(one: Contract) -> None:
    plane = Plane([one])
    said = {"role": "submit", "count": 2, "timeout": 60}
    await plane.mock.submit(one)
    waiting = asyncio.ensure_future(plane.said("POST", "/journal/wait", said))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()
    await plane.mock.call(one, "status", path={"job": "unknown"})
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done(), "another exchange is not the one"
    await plane.mock.submit(one)
    found = await asyncio.wait_for(waiting, 60)
    assert [exchange["role"] for exchange in found["exchanges"]] == ["submit", "submit"]
    assert (await plane.said("POST", "/journal/wait", {"count": 3.0, "timeout": 0}))["matching"] == 3
    assert not plane.mock.world.journal._waiters


async def test_a_wait_in_vain_says_what_there_was(one: Contract) -> None:
    plane = Plane([one])
    error = await plane.refused(408, "POST", "/journal/wait", {"timeout": 0})
    assert "no request" in error["hint"]
    job = await plane.mock.submit(one)
    error = await plane.refused(408, "POST", "/journal/wait", {"job": job, "role": "status", "timeout": 0.01})
    assert "0 of 1" in error["message"]
    assert "role 'status'" in error["message"]
    assert one.operations["submit"].path.partition("{")[0] in error["hint"]
    assert not plane.mock.world.journal._waiters


async def test_a_wait_that_the_server_ends_is_refused(one: Contract) -> None:
    plane = Plane([one])
    waiting = asyncio.ensure_future(plane.refused(503, "POST", "/journal/wait", {"timeout": 60}))
    for _ in range(20):
        await asyncio.sleep(0)
    waiting.cancel()
    assert (await waiting)["code"] == "server_stops"


@pytest.mark.parametrize(
    "query",
    ["provider=nobody", "role=nothing", "status=abc", "status=700", "status=-1", "limit=0", "limit=1001", "limit=1.5",
     "limit=%D9%A1", "limit=" + "9" * 400, "limit=", "colour=red", "method=G%20T", "role=submit&role=submit", "job="],
)  # fmt: skip
async def test_a_filter_that_can_match_nothing_is_refused(query: str) -> None:
    error = await Plane().refused(422, "GET", f"/journal?{query}")
    assert error["code"] in ("invalid_query", "unknown_provider")


async def test_a_stage_that_no_contract_has_is_refused() -> None:
    error = await Plane().refused(422, "GET", "/jobs?stage=nonsense")
    assert "pending" in error["hint"]
    await Plane().refused(422, "GET", "/jobs?provider=nobody")


async def test_a_query_that_nothing_takes_is_refused_everywhere() -> None:
    plane = Plane()
    for method, path in ROUTES:
        error = await plane.refused(422, method, f"{concrete(path)}?colour=red")
        assert error["code"] == "invalid_query"


async def test_the_catalogue_is_listed_and_shown(catalogue: tuple[Path, ...]) -> None:
    plane = Plane(scenarios=catalogue)
    listed = {one["name"]: one for one in (await plane.said("GET", "/scenarios"))["scenarios"]}
    assert listed["lost-poll"]["providers"] == [contract.key for contract in CONTRACTS]
    assert listed["nowhere"]["providers"] == []
    whole = await plane.said("GET", "/scenarios/lost-poll")
    assert whole["scenario"] == SCENARIO
    assert whole["why"] == listed["lost-poll"]["why"]
    error = await plane.refused(404, "GET", "/scenarios/lost-pol")
    assert error["code"] == "unknown_scenario"
    assert all(name in error["hint"] for name in ("lost-poll", "lost-polls", "lost-pool"))


async def test_a_scenario_is_armed_met_and_disarmed(contract: Contract, catalogue: tuple[Path, ...]) -> None:
    plane = Plane([contract], scenarios=catalogue)
    refused = {"moves": {"submit": [{"move": "invalid_request"}]}}
    armed = await plane.said("POST", "/scenarios/arm", {"scenario": "lost-poll", "provider": contract.key, "seed": 7})
    assert (armed["scenario"], armed["jobs_left"], armed["seed"], armed["source"]) == ("lost-poll", 1, 7, "control")
    assert armed["unmet"] == ["status/0 reset_peer"]
    inline = await plane.said("POST", "/scenarios/arm", {"scenario": refused, "jobs": "all"})
    assert (inline["scenario"], inline["jobs_left"]) == ("inline", "all")
    listed = (await plane.said("GET", "/scenarios/armed"))["armed"]
    assert [one["id"] for one in listed] == [armed["id"], inline["id"]]
    assert (await plane.said("GET", "/scenarios/armed", key="another"))["armed"] == []
    assert (await plane.said("DELETE", f"/scenarios/armed/{inline['id']}"))["disarmed"] == 1
    assert (await plane.refused(404, "DELETE", f"/scenarios/armed/{inline['id']}"))["code"] == "unknown_armed"
    job = await plane.mock.submit(contract)
    assert (await plane.said("GET", f"/jobs/{job}"))["scenario"] == "lost-poll"
    assert (await plane.said("DELETE", "/scenarios/armed"))["disarmed"] == 1
    assert (await plane.said("GET", "/scenarios/armed"))["armed"] == []
    for number in ("0", "-1", "x", "9" * 400, "%C2%B2"):
        await plane.refused(404, "DELETE", f"/scenarios/armed/{number}")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"scenario": "lost-pol"}, "unknown_scenario"),
        ({"scenario": {"moves": {"submit": [{"move": "latency", "colour": 1}]}}}, "invalid_scenario"),
        ({"scenario": {"moves": {"paint": [{"move": "latency"}]}}}, "invalid_scenario"),
        ({"scenario": {"timeline": {"move": "explode"}}}, "invalid_scenario"),
        ({"scenario": "nowhere"}, "not_applicable"),
        ({"scenario": "lost-poll", "provider": "nobody"}, "unknown_provider"),
        ({"scenario": "lost-poll", "jobs": 0}, "invalid_body"),
        ({"scenario": "lost-poll", "jobs": "some"}, "invalid_body"),
        ({"scenario": "lost-poll", "seed": -1}, "invalid_body"),
        ({"scenario": ["lost-poll"]}, "invalid_body"),
        ({}, "invalid_body"),
    ],
)
async def test_a_scenario_that_cannot_be_is_not_armed(said: Any, code: str, catalogue: tuple[Path, ...]) -> None:
    plane = Plane(scenarios=catalogue)
    error = await plane.refused(422, "POST", "/scenarios/arm", said)
    assert error["code"] == code
    assert (await plane.said("GET", "/scenarios/armed"))["armed"] == []
    if code == "unknown_scenario":
        assert "lost-poll, " in error["hint"] + ", "


@calling
async def test_callbacks_are_listed_and_delivered_again(contract: Contract, httpserver: HTTPServer) -> None:
    plane, receiver = Plane([contract]), Receiver(httpserver, 500)
    assert (await plane.said("GET", "/callbacks"))["attempts"] == []
    quiet = await plane.mock.submit(contract)
    job = await order(plane.mock, contract, receiver.url)
    assert (await plane.refused(409, "POST", f"/callbacks/{quiet}/redeliver"))["code"] == "no_callback"
    assert (await plane.refused(409, "POST", f"/callbacks/{job}/redeliver"))["code"] == "no_callback"
    assert (await plane.refused(404, "POST", "/callbacks/unknown/redeliver"))["code"] == "unknown_job"
    await plane.said("POST", "/clock/run-until-idle")
    attempts = (await plane.said("GET", "/callbacks"))["attempts"]
    assert [(one["job"], one["number"], one["status"]) for one in attempts] == [(job, 1, 500), (job, 2, 200)]
    assert orjson.loads(attempts[1]["body"]) == orjson.loads(receiver.received[1][1])
    assert await plane.said("POST", f"/callbacks/{job}/redeliver") == {"job": job}
    await plane.said("POST", "/clock/run-until-idle")
    assert len((await plane.said("GET", "/callbacks"))["attempts"]) == len(receiver.received) == 3
    assert (await plane.said("GET", "/callbacks", key="another"))["attempts"] == []
    assert (await plane.refused(404, "POST", f"/callbacks/{job}/redeliver", key="another"))["code"] == "unknown_job"


@calling
async def test_a_job_that_is_moved_to_its_end_is_told_at_once(contract: Contract, httpserver: HTTPServer) -> None:
    plane, receiver = Plane([contract]), Receiver(httpserver)
    job = await order(plane.mock, contract, receiver.url)
    graph = contract.graph
    while True:
        stage = plane.mock.world.jobs[job].stage(plane.mock.clock.now())
        if stage.terminal:
            break
        await plane.said("POST", f"/jobs/{job}/transition", {"stage": graph.path(stage.name)[1]})
    await plane.said("POST", "/clock/advance", {"seconds": 0})
    assert len(receiver.received) == 1
    await plane.said("POST", "/clock/run-until-idle")
    assert len(receiver.received) == 1


async def test_a_reset_forgets_what_is_named(one: Contract, catalogue: tuple[Path, ...]) -> None:
    plane = Plane([one], scenarios=catalogue)
    for part in ("jobs", "journal", "scenarios", "clock"):
        await plane.mock.submit(one)
        await plane.said("POST", "/scenarios/arm", {"scenario": "lost-poll"})
        other = await state(plane, key="another")
        before = await state(plane)
        assert await plane.said("POST", "/reset", {"what": []}) == {"reset": []}
        assert await state(plane) == before
        assert await plane.said("POST", "/reset", {"what": [part]}) == {"reset": [part]}
        after = await state(plane)
        changed = {name for name in before if before[name] != after[name]}
        assert changed == ({part, "ledger"} if part == "jobs" else {part} if part != "clock" else set())
        assert await state(plane, key="another") == other
    assert (await plane.said("POST", "/reset"))["reset"] == ["jobs", "journal", "scenarios", "clock"]
    empty = await state(plane)
    assert (empty["jobs"]["jobs"], empty["journal"]["exchanges"], empty["scenarios"]["armed"]) == ([], [], [])
    assert (await plane.refused(422, "POST", "/reset", {"what": ["everything"]}))["message"].startswith("/what/0: ")


@calling
async def test_a_reset_of_jobs_forgets_their_callbacks(contract: Contract, httpserver: HTTPServer) -> None:
    plane, receiver = Plane([contract]), Receiver(httpserver)
    await order(plane.mock, contract, receiver.url)
    await plane.said("POST", "/reset")
    await plane.said("POST", "/clock/advance", {"seconds": 86_400})
    assert receiver.received == []
    assert not plane.mock.fake.courier()._deliveries


async def test_the_ledger_says_what_is_billed_and_marks_what_repeats(contract: Contract) -> None:
    plane = Plane([contract])
    first, second = [await plane.mock.submit(contract) for _ in range(2)]
    await plane.mock.clock.advance(86_400)
    ledger = await plane.said("GET", "/ledger")
    assert (ledger["billable"], ledger["duplicates"]) == (2, 1)
    assert [(one["job"], one["duplicate_of"]) for one in ledger["entries"]] == [(first, None), (second, first)]
    assert ledger["usd"] == pytest.approx(2 * (await plane.said("GET", f"/jobs/{first}"))["cost"])
    assert ledger["usd"] > 0


async def test_settings_are_shown_and_changed(one: Contract) -> None:
    plane = Plane([one])
    before = await plane.said("GET", "/settings")
    assert before["pace"] == "realistic"
    assert set(before["limits"].values()) == {None, 0}
    changed = await plane.said("PATCH", "/settings", {"pace": "instant", "limits": {"balance": 0.1, "workers": 2.0}})
    assert changed == {"pace": "instant", "limits": {**before["limits"], "balance": 0.1, "workers": 2}}
    assert plane.mock.world.limits.balance == Decimal("0.1")
    assert await plane.said("GET", "/settings") == changed
    assert await plane.said("GET", "/settings", key="another") == before
    restored = await plane.said("PATCH", "/settings", {"limits": {"balance": None, "workers": None}})
    assert restored == {"pace": "instant", "limits": before["limits"]}
    for body in ({"pace": "slow"}, {"limits": {"workers": 1.5}}, {"limits": {"colour": 1}}, {"limits": None}):
        await plane.refused(422, "PATCH", "/settings", body)
    assert await plane.said("GET", "/settings") == restored


async def state(plane: Plane, key: str = KEY) -> dict[str, Any]:
    """Return everything that can be seen of a world."""
    paths = {
        "jobs": "/jobs",
        "journal": "/journal",
        "scenarios": "/scenarios/armed",
        "clock": "/clock",
        "ledger": "/ledger",
        "settings": "/settings",
    }
    return {name: await plane.said("GET", path, key=key) for name, path in paths.items()}


@pytest.mark.parametrize(("method", "path"), BODIES)
async def test_a_body_that_cannot_be_read_is_refused_and_changes_nothing(one: Contract, method: str, path: str) -> None:
    plane = Plane([one])
    where = concrete(path, id=await plane.mock.submit(one), job="1")
    before = await state(plane)
    expected = {b"{": 400, b"[]": 400, b"1": 400, b'"{}"': 400, b"null": 400, b"\xff": 400, b'{"a":' * 2000: 400}
    expected |= {b'{"what": ' + b"[" * 900 + b"]" * 900 + b"}": 400, b" " * (MOST_BODY + 1): 413}
    expected |= {b'{"colour": 1}': 422}
    for content, status in expected.items():
        await plane.refused(status, method, where, content=content)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "", "application/jsonp"):
        await plane.refused(415, method, where, content=b"{}", headers={"content-type": kind})
    declared = {"content-length": str(MOST_BODY + 1), "content-type": "application/json"}
    await plane.refused(413, method, where, headers=declared)
    if OPERATIONS[path][method].body_needed:
        await plane.refused(415, method, where)
        await plane.refused(400, method, where, content=b"")
    assert await state(plane) == before


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def patient(path: str, body: Any) -> Any:
    """Return a body that makes no test wait."""
    return {**body, "timeout": 0} if path.endswith("/wait") and isinstance(body, dict) else body


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_body_and_no_query_makes_the_server_fail(
    one: Contract, method: str, path: str, loop: asyncio.AbstractEventLoop
) -> None:
    plane = Plane([one])
    job = loop.run_until_complete(plane.mock.submit(one))
    where = concrete(path, id=job, job=job)
    schema = OPERATIONS[path][method].body
    shaped = st.nothing() if schema is None else values(SCHEMAS, schema, undeclared=True, whole_floats=True)
    names = st.sampled_from(["provider", "stage", "limit", "role", "status", "method", "path", "x"])

    @MANY
    @given(ANY_JSON | shaped, st.none() | st.tuples(names, st.sampled_from(["1", "submit", "%00", "%FF", "-9", "å"])))
    def never_fails(body: Any, query: tuple[str, str] | None) -> None:
        asked = where if query is None else f"{where}?{'='.join(query)}"
        reply = loop.run_until_complete(plane.ask(method, asked, patient(path, body)))
        assert reply.status < 500

    never_fails()


@MANY
@given(where=st.text(st.characters(codec="utf-8"), max_size=30), method=st.sampled_from(["GET", "POST", "X", "HEAD"]))
def test_no_path_makes_the_server_fail(where: str, method: str, loop: asyncio.AbstractEventLoop) -> None:
    reply = loop.run_until_complete(Plane(CONTRACTS[:1]).mock.send(method, f"/_mock/{where}", host="localhost"))
    assert reply.status < 500


def test_the_page_says_of_every_operation_what_the_document_says() -> None:
    page = (ROOT / "docs" / "control.md").read_text()
    rows = set(re.findall(r"^\| `([A-Z]+) (/_mock/\S+)` \| (.+) \|$", page, re.MULTILINE))
    assert rows == {(method, path, PLAN["paths"][path][method.lower()]["summary"]) for method, path in ROUTES}


@calling
async def test_a_stuck_job_that_is_moved_on_is_told_when_it_ends(contract: Contract, httpserver: HTTPServer) -> None:
    plane, receiver = Plane([contract]), Receiver(httpserver)
    await plane.said("POST", "/scenarios/arm", {"scenario": {"timeline": {"move": "stuck"}}})
    job = await order(plane.mock, contract, receiver.url)
    await plane.said("POST", "/clock/advance", {"seconds": 86_400})
    assert receiver.received == []
    graph = contract.graph
    await plane.said("POST", f"/jobs/{job}/transition", {"stage": graph.path(graph.initial)[1]})
    await plane.said("POST", "/clock/advance", {"seconds": 86_400})
    assert (await plane.said("GET", f"/jobs/{job}"))["class"] == "success"
    assert len(receiver.received) == 1


@pytest.mark.parametrize("depth", [200, 255, 600, 1_000, 5_000])
async def test_json_however_deep_is_refused_and_changes_nothing(depth: int) -> None:
    plane = Plane()
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    headers = {"host": "127.0.0.1", "content-type": "application/json"}
    for path, body in (
        ("/_mock/scenarios/arm", b'{"scenario":{"x":' + deep + b"}}"),
        ("/_mock/scenarios/arm", b'{"scenario":{"moves":{"submit":' + deep + b"}}}"),
        ("/_mock/reset", deep),
    ):
        reply = await plane.mock.send("POST", path, body=body, headers=headers, host="127.0.0.1")
        assert 400 <= reply.status < 500
        assert set(reply.json) == {"error"}
    assert plane.mock.world.scenarios.armed == []
