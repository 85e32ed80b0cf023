"""The admin key lists and forgets worlds without an API key in sight; a team's control key opens only its own."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson
import pytest

from hobbyhorse.contract.values import Contract
from hobbyhorse.server.control.access import Team
from hobbyhorse.worlds.world import hash_of
from tests.server.control.plane import SCENARIO, Plane
from tests.world import KEY

pytestmark = pytest.mark.anyio

ADMIN = {"x-mock-admin-key": "the admin"}
TEAMS = {"key-a": Team("team-a", "a-"), "key-b": Team("team-b", "b-")}


async def listed(plane: Plane, query: str = "") -> Any:
    return await plane.ok("GET", f"/worlds{query}", headers=ADMIN, key=None)


async def test_the_admin_key_lists_the_worlds_and_shows_no_key(one: Contract) -> None:
    plane = Plane([one], admin_key="the admin")
    await plane.mock.submit(one)
    await plane.ok("POST", "/scenarios/arm", {"scenario": SCENARIO})
    await plane.ok("PATCH", "/settings", {"label": "the blue team"})
    await plane.ok("GET", "/clock", key="another-key")
    found = await listed(plane)
    first, second = found["worlds"]
    assert found["total"] == 2
    assert first["key"] == hash_of("another-key") == hashlib.sha256(b"another-key").hexdigest()[:16]
    assert (second["jobs"], second["running"], second["exchanges"], second["label"]) == (1, 1, 1, "the blue team")
    assert len(second["armed"]) == 1
    assert second["used"] <= first["used"]
    assert KEY not in orjson.dumps(found).decode()


async def test_the_worlds_come_in_pages(one: Contract) -> None:
    plane = Plane([one], admin_key="the admin")
    for number in range(5):
        await plane.ok("GET", "/clock", key=f"key-{number}")
    seen, query = [], "?limit=2"
    while query:
        page = await listed(plane, query)
        seen += [world["key"] for world in page["worlds"]]
        query = f"?limit=2&cursor={page['older']}" if page["older"] else ""
    assert seen == [hash_of(f"key-{number}") for number in reversed(range(5))]
    error = await plane.refused(422, "GET", "/worlds?cursor=x", headers=ADMIN)
    assert error["code"] == "invalid_query"


async def test_a_world_can_be_forgotten_but_not_the_one_without_a_key(one: Contract) -> None:
    plane = Plane([one], admin_key="the admin")
    await plane.mock.submit(one)
    handle = plane.mock.world.handle
    assert await plane.ok("DELETE", f"/worlds/{handle}", headers=ADMIN) == {"forgotten": handle}
    assert (await listed(plane))["total"] == 0
    for gone in (handle, plane.mock.fake.worlds.keyless.handle, "nothing"):
        assert (await plane.refused(404, "DELETE", f"/worlds/{gone}", headers=ADMIN))["code"] == "unknown_world"


@pytest.mark.parametrize(("method", "path"), [("GET", "/worlds"), ("DELETE", "/worlds/1")])
async def test_nothing_else_than_the_admin_key_opens_these_operations(method: str, path: str) -> None:
    without = Plane(control_key="the key", loopback=False)
    for headers in ({}, {"x-mock-control-key": "the key"}):
        assert (await without.refused(403, method, path, headers=headers))["code"] == "admin_key_needed"
    plane = Plane(admin_key="the admin", control_key="the key", loopback=False)
    for headers in ({}, {"x-mock-control-key": "the key"}, {"x-mock-admin-key": "the key"}):
        assert (await plane.refused(403, method, path, headers=headers))["code"] == "admin_key_refused"
    assert (await plane.request(method, path, headers=ADMIN, host="mock.internal")).status in (200, 404)
    foreign = {**ADMIN, "origin": "http://evil.example"}
    assert (await plane.refused(403, method, path, headers=foreign))["code"] == "foreign_origin"
    # It is no control key.
    assert (await plane.refused(403, "GET", "/clock", headers=ADMIN))["code"] == "control_key_refused"


async def test_a_team_sees_and_resets_its_own_worlds_only(one: Contract) -> None:
    plane = Plane([one], teams=TEAMS, control_key="main", admin_key="the admin")
    team_a, main = {"x-mock-control-key": "key-a"}, {"x-mock-control-key": "main"}
    await plane.ok("GET", "/clock", key="a-1", headers=team_a)
    for method, path in (("GET", "/jobs"), ("POST", "/reset"), ("GET", "/clock")):
        error = await plane.refused(403, method, path, key="b-1", headers=team_a)
        assert error["code"] == "foreign_key"
        assert "'a-'" in error["hint"]
    assert [world.key for world in plane.mock.fake.worlds] == ["a-1"], "a refused request opens no world"
    await plane.ok("GET", "/clock", key="b-1", headers=main)
    await plane.ok("GET", "/clock", key="c-1", headers=main)
    teams = {world["key"]: world["team"] for world in (await listed(plane))["worlds"]}
    assert teams == {hash_of("a-1"): "team-a", hash_of("b-1"): "team-b", hash_of("c-1"): None}


async def test_the_trace_of_a_team_has_no_requests_of_unknown_clients(one: Contract) -> None:
    plane = Plane([one], teams=TEAMS, control_key="main")
    await plane.ok("GET", "/clock", key="a-1", headers={"x-mock-control-key": "key-a"})
    await plane.mock.send("GET", f"/{one.key}/somewhere", key=None)
    path = f"/trace?provider={one.key}"
    everything = await plane.ok("GET", path, key="a-1", headers={"x-mock-control-key": "main"})
    own = await plane.ok("GET", path, key="a-1", headers={"x-mock-control-key": "key-a"})
    assert (len(everything.get("exchanges", [])), len(own.get("exchanges", []))) == (1, 0)
