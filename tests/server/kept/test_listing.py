"""The list of the worlds of a kept state, also of worlds that nobody has used since the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from hobbyhorse.worlds.world import hash_of
from tests.conftest import CONTRACTS
from tests.server.control.plane import SCENARIO
from tests.server.kept.restarting import Kept, kept

pytestmark = pytest.mark.anyio

CONTRACT = CONTRACTS[0]
ADMIN = {"x-mock-admin-key": "the admin"}


async def listed(server: Kept, query: str = "") -> Any:
    return await server.plane.ok("GET", f"/worlds{query}", headers=ADMIN, key=None)


async def used(server: Kept, count: int) -> list[str]:
    """Use some keys, one after another; return the hashes of those, the last one first."""
    for number in range(count):
        await server.mock.submit(CONTRACT, key=f"key-{number}")
        await server.until_written()
    return [hash_of(f"key-{number}") for number in reversed(range(count))]


async def test_a_restart_changes_nothing_in_the_list(tmp_path: Path) -> None:
    async with kept(tmp_path, CONTRACT, admin_key="the admin") as server:
        await server.mock.submit(CONTRACT)
        await server.plane.ok("POST", "/scenarios/arm", {"scenario": SCENARIO})
        await server.plane.ok("PATCH", "/settings", {"label": "the blue team"})
        await server.plane.ok("POST", "/clock/advance", {"seconds": 90_000})
        await server.mock.submit(CONTRACT, key="another-key")
        before = await listed(server)
        assert before["total"] == 2
        assert {
            world["label"]: (world["jobs"], world["running"], len(world["armed"])) for world in before["worlds"]
        } == {
            None: (1, 1, 0),
            "the blue team": (1, 0, 1),
        }
        await server.restart()
        assert await listed(server) == before
        assert list(server.mock.fake.worlds) == [], "none was opened for the list"
        assert b"another-key" not in orjson.dumps(before)


async def test_the_worlds_of_a_state_come_in_pages(tmp_path: Path) -> None:
    async with kept(tmp_path, CONTRACT, admin_key="the admin") as server:
        expected = await used(server, 5)
        await server.restart()
        seen, query = [], "?limit=2"
        while query:
            page = await listed(server, query)
            assert page["total"] == 5
            seen += [world["key"] for world in page["worlds"]]
            query = f"?limit=2&cursor={page['older']}" if page["older"] else ""
        assert seen == expected


async def test_a_world_that_was_not_used_since_the_start_can_be_forgotten(tmp_path: Path) -> None:
    async with kept(tmp_path, CONTRACT, admin_key="the admin") as server:
        stays, goes = await used(server, 2)
        await server.restart()
        handle = server.mock.fake.worlds.handle("key-0")
        await server.plane.ok("DELETE", f"/worlds/{handle}", headers=ADMIN)
        assert [world["key"] for world in (await listed(server))["worlds"]] == [stays]
        await server.restart()
        assert [world["key"] for world in (await listed(server))["worlds"]] == [stays] != [goes]
