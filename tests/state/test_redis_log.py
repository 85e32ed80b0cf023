"""The log of owned worlds: fetched as a whole, written in order, broken as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.state import sqlite_tables as tables
from hobbyhorse.state.errors import NotKept
from hobbyhorse.state.records import AttemptRecord, DueRecord, ExchangeRecord, Head, JobRecord, KeyRecord
from hobbyhorse.state.redis import RedisStore
from hobbyhorse.state.redis_log import RedisLog
from hobbyhorse.state.store import Changes
from tests.state.redis_server import RedisServer, needs_redis, shared_redis

pytestmark = [pytest.mark.anyio, needs_redis]

WORLD = "0123456789abcdef"


def job(number: int, **more: Any) -> JobRecord:
    return JobRecord(number, f"job-{number}", "acme", **more)


async def log_of(url: str, number: int, **more: Any) -> RedisLog:
    store = RedisStore(url, **more)
    await store.open()
    await store.join(f"127.0.0.1:{number}")
    return RedisLog(store)


@pytest.fixture
async def logs() -> AsyncIterator[list[RedisLog]]:
    url = shared_redis()
    found = [await log_of(url, number) for number in range(2)]
    yield found
    for log in found:
        await log.close()


async def own(log: RedisLog) -> Head | None:
    assert log.store.owners is not None
    assert (await log.store.owners.find(WORLD)).address is None
    return await log.load(WORLD)


async def test_a_world_is_fetched_as_it_was_put(logs: list[RedisLog]) -> None:
    one, other = logs
    assert await own(one) is None
    head = Head(base=5.0, values={"pace": "fast"})
    jobs = [job(number, end="" if number % 2 else "done", kind="success") for number in range(2_500)]
    key, due = KeyRecord("acme", "k", "ff", "job-1", 9e9), DueRecord(1, 7.0, "attempt", "job-1")
    lines, attempts = [ExchangeRecord(0, {"path": "/"})], [AttemptRecord(0, {"status": 200})]
    one.put(Changes(world=WORLD, jobs=jobs[:2_000], checked=False))
    number = one.put(
        Changes(
            world=WORLD,
            head=head,
            jobs=jobs[2_000:],
            keys=[key],
            dues=[due],
            exchanges=lines,
            attempts=attempts,
            checked=False,
        )
    )
    await one.until_kept(number)
    assert one.kept == number == 2
    assert one.store.owners is not None
    await one.store.owners.leave()
    assert await own(other) == head
    found = other.read(lambda db: tables.page(db, WORLD, "job", count=9_999)).records
    assert list(found) == jobs
    assert other.read(lambda db: tables.find_key(db, WORLD, "acme", "k")) == key
    assert other.read(lambda db: tables.page(db, WORLD, "due")).records == [due]
    assert other.read(lambda db: tables.page(db, WORLD, "exchange")).records == lines
    assert other.read(lambda db: tables.page(db, WORLD, "attempt")).records == attempts
    other.unload(WORLD)
    assert not other.loaded(WORLD)
    await asyncio.wait(other._erasing.values())
    assert other.read(lambda db: tables.find_head(db, WORLD)) is None
    assert other.read(lambda db: tables.page(db, WORLD, "job")).records == []


async def test_a_world_that_is_loaded_again_at_once_is_whole(logs: list[RedisLog]) -> None:
    log = logs[0]
    await own(log)
    jobs = [job(number) for number in range(600)]
    await log.until_kept(log.put(Changes(world=WORLD, head=Head(), jobs=jobs, checked=False)))
    await log.load(WORLD)
    for _ in range(2):
        log.unload(WORLD)
        await log.load(WORLD)
        assert list(log.read(lambda db: tables.page(db, WORLD, "job", count=999)).records) == jobs


async def test_a_process_that_is_no_more_the_owner_keeps_nothing(logs: list[RedisLog]) -> None:
    one, other = logs
    broken: list[str] = []
    one.on_broken = broken.append
    await own(one)
    await one.until_kept(one.put(Changes(world=WORLD, head=Head(), checked=False)))
    assert one.store.owners is not None
    await one.store.owners.leave()
    await own(other)
    numbers = [one.put(Changes(world=WORLD, jobs=[job(n)], checked=False)) for n in range(3)]
    for number in numbers:
        with pytest.raises(NotKept):
            await one.until_kept(number)
    assert broken == [WORLD]
    assert (await other.store.page(WORLD, "job")).records == []


async def test_after_a_lost_change_nothing_is_kept_until_the_world_is_loaded_again(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always")
    server.start()
    try:
        log = await log_of(server.url, 0, wait=1.0)
        broken: list[str] = []
        log.on_broken = broken.append
        await own(log)
        await log.until_kept(log.put(Changes(world=WORLD, head=Head(), jobs=[job(0)], checked=False)))
        server.kill()
        lost = log.put(Changes(world=WORLD, jobs=[job(1)], checked=False))
        with pytest.raises(NotKept):
            await log.until_kept(lost)
        assert broken == [WORLD]
        refused = log.put(Changes(world=WORLD, jobs=[job(2)], checked=False))
        server.start()
        with pytest.raises(NotKept):
            await log.until_kept(refused)
        await own(log)
        assert [one.number for one in log.read(lambda db: tables.page(db, WORLD, "job")).records] == [0]
        await log.until_kept(log.put(Changes(world=WORLD, jobs=[job(1)], checked=False)))
        await log.close()
    finally:
        server.kill()


async def test_a_forgotten_world_can_begin_again(logs: list[RedisLog]) -> None:
    log, _ = logs
    await own(log)
    log.put(Changes(world=WORLD, head=Head(), jobs=[job(0)], checked=False))
    await log.until_kept(log.put(Changes(world=WORLD, erased=frozenset({"head"}), checked=False)))
    assert await own(log) is None
    await log.until_kept(log.put(Changes(world=WORLD, head=Head(), checked=False)))
    assert (await log.store.page(WORLD, "job")).records == []
