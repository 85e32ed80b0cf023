"""Reading a kept world: what is read when."""

from __future__ import annotations

from pathlib import Path

import pytest

from hobbyhorse.contract.values import Contract
from tests.conftest import CONTRACTS
from tests.server.kept.restarting import kept

pytestmark = pytest.mark.anyio


async def test_a_start_reads_no_job_that_has_ended(contract: Contract, tmp_path: Path) -> None:
    async with kept(tmp_path, contract) as server:
        ended = await server.mock.submit(contract)
        await server.plane.ok("POST", "/clock/advance", {"seconds": 9_000})
        running = await server.mock.submit(contract)
        await server.plane.ok("GET", "/ledger")
        await server.until_written()
        await server.restart()
        (sleeping,) = server.mock.fake.worlds._asleep.values()
        assert list(sleeping.jobs) == [running]
        assert list(server.mock.world.jobs) == [ended, running]
        assert server.mock.world is sleeping


async def test_a_sleeping_world_ends_its_jobs_and_wakes_with_right_totals(contract: Contract, tmp_path: Path) -> None:
    async with kept(tmp_path, contract) as server:
        for _ in range(3):
            await server.mock.submit(contract)
        await server.plane.ok("POST", "/clock/advance", {"seconds": 9_000})
        running = await server.mock.submit(contract)
        await server.restart()
        (sleeping,) = server.mock.fake.worlds._asleep.values()
        assert server.keeper is not None
        await sleeping.clock.advance(9_000)
        sleeping.changed()
        await server.keeper.kept(sleeping)
        await server.restart()
        totals = server.mock.world.totals()
        assert (totals.billable, totals.duplicates) == (4, 3)
        assert server.mock.world.jobs[running].stage(server.mock.world.clock.now()).kind == "success"


async def test_a_provider_that_is_not_served_any_more_is_left_out(tmp_path: Path) -> None:
    one, two = CONTRACTS[:2]
    async with kept(tmp_path, one, two) as server:
        gone, stays = await server.mock.submit(one), await server.mock.submit(two)
        await server.plane.ok("POST", "/clock/advance", {"seconds": 9_000})
        await server.plane.ok("GET", "/ledger")
        await server.until_written()
        server.contracts = [two]
        await server.restart()
        assert list(server.mock.world.jobs) == [stays]
        assert (await server.plane.ok("GET", "/jobs"))["total"] == 1
        server.contracts = [one, two]
        await server.restart()
        assert list(server.mock.world.jobs) == [gone, stays]


async def test_the_journal_is_read_when_it_is_looked_at(contract: Contract, tmp_path: Path) -> None:
    async with kept(tmp_path, contract) as server:
        await server.mock.submit(contract)
        await server.restart()
        journal = server.mock.world.journal
        assert (list(journal._entries), journal.total) == ([], 1)
        await server.mock.submit(contract)
        assert [one.role for one in journal] == ["submit", "submit"]
        numbers = [one.number for one in journal]
        assert numbers == sorted(set(numbers)), "the numbers go on"
        assert len(journal) == 2
