"""The lists of the worlds of a kept state, also of worlds that nobody has used since the start."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from hobbyhorse.server.kept.keeper import Keeper
from hobbyhorse.server.ui.views import PAGE_SIZE
from hobbyhorse.state.errors import NotKept, StateError
from hobbyhorse.state.store import Heads
from hobbyhorse.worlds.world import hash_of
from tests.conftest import CONTRACTS
from tests.server.control.plane import SCENARIO
from tests.server.kept.restarting import Kept, kept
from tests.world import Reply

pytestmark = pytest.mark.anyio

CONTRACT = CONTRACTS[0]
ROW = re.compile(r'<li id="w([0-9a-f]{16})">')
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


async def page(server: Kept, path: str = "") -> Reply:
    return await server.mock.send("GET", f"/_mock/ui{path}", key=None, host="localhost")


async def test_the_page_shows_the_worlds_that_nobody_has_used_since_the_start(tmp_path: Path) -> None:
    async with kept(tmp_path, CONTRACT) as server:
        await used(server, PAGE_SIZE + 2)
        await server.restart()
        handles = [server.mock.fake.worlds.handle(f"key-{number}") for number in reversed(range(PAGE_SIZE + 2))]
        first = (await page(server)).body.decode()
        assert f"{PAGE_SIZE + 2} keys have been used" in first
        assert ROW.findall(first) == handles[:PAGE_SIZE]
        assert list(server.mock.fake.worlds) == [], "none was opened for the list"
        (older,) = re.findall(r"before=(\d+)", first)
        assert ROW.findall((await page(server, f"?before={older}")).body.decode()) == handles[PAGE_SIZE:]
        # Each of them can be opened.
        assert (await page(server, f"/worlds/{handles[-1]}")).status == 200


async def test_the_page_says_that_the_state_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unreachable(self: Keeper, before: int | None, count: int) -> Heads:
        raise NotKept

    async def damaged(self: Keeper, before: int | None, count: int) -> Heads:
        raise StateError("the head of a world is damaged")

    for broken, text in ((unreachable, "the state cannot be reached"), (damaged, "the head of a world is damaged")):
        monkeypatch.setattr(Keeper, "listed", broken)
        async with kept(tmp_path, CONTRACT) as server:
            reply = await page(server)
            assert reply.status == 503
            assert text in reply.body.decode()
