"""The control plane follows its document, refuses every web page, and changes nothing when it refuses."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate

from hobbyhorse.contract.generate import values
from hobbyhorse.contract.values import Contract
from hobbyhorse.server.control.app import HANDLERS, MOST_BODY, OPEN_PATHS, ControlPlane
from tests.conftest import CONTRACTS, ROOT
from tests.server.control.plane import (
    ADMIN,
    BODIES,
    OPEN,
    OPERATIONS,
    PLAN,
    ROUTES,
    SCHEMAS,
    Plane,
    concrete,
    state,
)
from tests.world import KEY

pytestmark = pytest.mark.anyio

MANY = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


async def test_the_document_is_a_valid_one_and_is_served() -> None:
    validate(PLAN)
    assert await Plane().ok("GET", "/openapi.json", key=None) == PLAN


async def test_every_route_stands_in_the_document_and_the_other_way_round() -> None:
    control = Plane().mock.fake.control()
    assert isinstance(control, ControlPlane)
    routes = {(method, route.path) for route in control.router.routes for method in route.methods}  # type: ignore[attr-defined]
    assert {route for route in routes if route[0] != "HEAD"} == set(ROUTES)
    said = [operation.id for methods in OPERATIONS.values() for operation in methods.values()]
    assert sorted(said) == sorted([*HANDLERS, "getDocument"])


async def test_health_version_and_document_need_no_key() -> None:
    plane = Plane(api_keys=frozenset({"another"}))
    paths = {"/_mock/health", "/_mock/version", "/_mock/openapi.json", "/_mock/metrics", "/_mock/ca.pem"}
    assert {path for _, path in OPEN} == paths
    assert (await plane.request("GET", "/metrics", key=None)).status == 200
    for method, path in OPEN:
        if path in ("/_mock/metrics", "/_mock/ca.pem"):
            continue
        await plane.ok(method, concrete(path), key=None)
    assert await plane.ok("GET", "/health", key=None) == {"status": "ok"}
    assert (await plane.request("HEAD", "/health", key=None)).status == 200


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_page_of_another_origin_gets_403_from_every_route(method: str, path: str) -> None:
    plane = Plane()
    before = await state(plane)
    for host in ("evil.example", "localhost.evil.example:80", "10.0.0.1"):
        error = await plane.refused(403, method, concrete(path), host=host)
        assert error["code"] == "foreign_host"
    for origin in ("http://evil.example", "null", "https://localhost", "http://localhost:1"):
        error = await plane.refused(403, method, concrete(path), {}, headers={"origin": origin})
        assert error["code"] == "foreign_origin"
    assert await state(plane) == before
    if (method, path) not in ADMIN:
        assert (await plane.request(method, concrete(path), headers={"origin": "http://localhost"})).status != 403


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route not in ADMIN])
async def test_the_control_key_is_required_on_every_route_but_health_and_the_authority(method: str, path: str) -> None:
    plane = Plane(control_key="the key", loopback=False)
    right = {"x-mock-control-key": "the key"}
    health = path in OPEN_PATHS
    for headers in ({}, {"x-mock-control-key": "another"}):
        reply = await plane.request(method, concrete(path), headers=headers, host="mock.internal")
        assert (reply.status == 403) is not health
    assert (await plane.request(method, concrete(path), headers=right, host="mock.internal")).status != 403
    foreign = {**right, "origin": "http://evil.example"}
    assert (await plane.request(method, concrete(path), headers=foreign, host="mock.internal")).status == 403
    bare = Plane(loopback=False)
    reply = await bare.request(method, concrete(path))
    assert (reply.status == 403) is not health
    assert health or "--control-key" in reply.json["error"]["hint"]


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route not in (*OPEN, *ADMIN)])
async def test_a_world_is_named_by_a_key_that_is_accepted(method: str, path: str) -> None:
    plane = Plane(api_keys=frozenset({KEY}))
    worlds = plane.mock.fake.worlds
    reply = await plane.request(method, concrete(path), key=None)
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    error = await plane.refused(403, method, concrete(path), key="unknown")
    assert error["code"] == "key_refused"
    assert list(worlds) == []
    assert (await plane.request("GET", "/clock", headers={"authorization": f"bEARER  {KEY}"}, key=None)).status == 200


async def test_an_unknown_path_or_method_is_refused() -> None:
    plane = Plane(admin_key="admin")
    assert (await plane.refused(404, "GET", "/nothing"))["code"] == "unknown_path"
    assert (await plane.refused(404, "GET", "/"))["code"] == "unknown_path"
    assert (await plane.refused(404, "GET", ""))["code"] == "unknown_path"
    assert (await plane.refused(404, "GET", "/jobs/"))["code"] == "unknown_path"
    for path, methods in OPERATIONS.items():
        reply = await plane.request("OPTIONS", concrete(path), headers={"x-mock-admin-key": "admin"})
        assert reply.status == 405
        assert {*reply.headers["allow"].split(", ")} - {"HEAD"} == set(methods)


@pytest.mark.parametrize("way", [("query", "key", ""), ("header", "x-acme", "token ")])
async def test_a_key_is_found_and_redacted_wherever_a_contract_has_it(one: Contract, way: tuple[str, str, str]) -> None:
    part, name, before = way
    plane = Plane([replace(one, security=(way,))])
    query = f"?{name}={KEY}" if part == "query" else ""
    headers = {name: f"{before}{KEY}"} if part == "header" else {}
    path = concrete(one.operations["status"].path)
    await plane.mock.send("GET", f"/{one.key}{path}{query}", key=None, headers=headers)
    journal = await plane.ok("GET", f"/journal{query}", key=None, headers=headers)
    assert len(journal["exchanges"]) == 1
    assert KEY not in orjson.dumps(journal).decode()
    assert "[redacted]" in orjson.dumps(journal).decode()


async def test_an_unknown_query_parameter_is_refused_everywhere() -> None:
    plane = Plane(admin_key="admin")
    for method, path in ROUTES:
        headers = {"x-mock-admin-key": "admin"}
        error = await plane.refused(422, method, f"{concrete(path)}?colour=red", headers=headers)
        assert error["code"] == "invalid_query"


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
    """Return a body without a real wait."""
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
        reply = loop.run_until_complete(plane.request(method, asked, patient(path, body)))
        assert reply.status < 500

    never_fails()


@MANY
@given(where=st.text(st.characters(codec="utf-8"), max_size=30), method=st.sampled_from(["GET", "POST", "X", "HEAD"]))
def test_no_path_makes_the_server_fail(where: str, method: str, loop: asyncio.AbstractEventLoop) -> None:
    reply = loop.run_until_complete(Plane(CONTRACTS[:1]).mock.send(method, f"/_mock/{where}", host="localhost"))
    assert reply.status < 500


def test_the_page_lists_every_operation_with_the_summary_of_the_document() -> None:
    page = (ROOT / "docs" / "control.md").read_text()
    rows = set(re.findall(r"^\| `([A-Z]+) (/_mock/\S+)` \| (.+) \|$", page, re.MULTILINE))
    assert rows == {(method, path, PLAN["paths"][path][method.lower()]["summary"]) for method, path in ROUTES}


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
