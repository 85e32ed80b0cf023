"""Requests for a kept world that is not read yet, and the others beside them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hobbyhorse.contract.values import Contract
from hobbyhorse.server.kept import reading
from hobbyhorse.state import sqlite_tables
from tests.server.kept.restarting import Kept, kept

pytestmark = pytest.mark.anyio

JOBS = 40


@pytest.fixture(autouse=True)
def short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read one job in a step, so that a few jobs take many steps."""
    monkeypatch.setattr(reading, "JOBS_AT_ONCE", 1)


async def turns(count: int) -> None:
    """Let the event loop take some turns."""
    for _ in range(count):
        await asyncio.sleep(0)


async def filled(server: Kept, contract: Contract) -> list[str]:
    """Restart a server with ended jobs of one key; return their ids."""
    jobs = [await server.mock.submit(contract) for _ in range(JOBS)]
    await server.plane.ok("POST", "/clock/advance", {"seconds": 90_000})
    await server.plane.ok("GET", "/ledger")
    await server.until_written()
    await server.restart()
    return jobs


async def test_other_keys_are_served_while_a_world_is_read(contract: Contract, tmp_path: Path) -> None:
    async with kept(tmp_path, contract) as server:
        jobs = await filled(server, contract)
        worlds = server.mock.fake.worlds
        await server.mock.call(contract, "status", path={"job": jobs[0]}, key="another")
        first = asyncio.create_task(server.plane.ok("GET", "/jobs"))
        await turns(3)
        assert worlds._waking
        for _ in range(3):
            reply = await server.mock.call(contract, "status", path={"job": jobs[0]}, key="another")
            assert reply.status in (403, 404)
        assert worlds._waking, "it was read in one piece"
        assert (await first)["total"] == JOBS
        assert not worlds._waking


async def test_the_requests_of_a_world_wait_until_it_is_read_and_keep_their_order(
    contract: Contract, tmp_path: Path
) -> None:
    async with kept(tmp_path, contract) as server:
        jobs = await filled(server, contract)
        polls = [asyncio.create_task(server.mock.call(contract, "status", path={"job": job})) for job in jobs]
        gone = asyncio.create_task(server.plane.ok("GET", "/jobs"))
        await turns(3)
        assert server.keeper is not None
        assert [len(waiting) for waiting in server.keeper._waiting.values()] == [JOBS + 1]
        gone.cancel()
        replies = await asyncio.gather(*polls)
        assert {reply.status for reply in replies} == {200}
        paths = [entry.path for entry in server.mock.world.journal][-JOBS:]
        assert [job in path for job, path in zip(jobs, paths, strict=True)] == [True] * JOBS
        assert server.keeper._waiting == {}


async def test_an_error_while_a_world_is_read_reaches_each_request(
    contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with kept(tmp_path, contract) as server:
        jobs = await filled(server, contract)
        with monkeypatch.context() as patched:
            patched.setattr(sqlite_tables, "ended", None)
            tasks = [server.mock.call(contract, "status", path={"job": job}) for job in jobs[:2]]
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(one) for one in found] == [TypeError, TypeError]


async def test_a_server_stops_while_a_world_is_read(contract: Contract, tmp_path: Path) -> None:
    async with kept(tmp_path, contract) as server:
        await filled(server, contract)
        first = asyncio.create_task(server.plane.ok("GET", "/jobs"))
        await turns(3)
        assert server.mock.fake.worlds._waking
        assert server.keeper is not None
        await server.keeper.close()
        assert server.keeper._reading == set()
        first.cancel()
        server.keeper = None
        server.mock.close()
