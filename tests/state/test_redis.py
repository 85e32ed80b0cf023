"""The Redis store: what it adds to the other stores. `test_store` has what every store must do."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from hobbyhorse.state.errors import StateError
from hobbyhorse.state.records import KEPT_LINES, DueRecord, ExchangeRecord, Head, JobRecord, KeyRecord
from hobbyhorse.state.redis import RedisStore
from hobbyhorse.state.redis_connection import RedisRefused
from hobbyhorse.state.store import Changes
from tests.state.redis_server import RedisServer, needs_redis, shared_redis

pytestmark = [pytest.mark.anyio, needs_redis]

WORLD = "0123456789abcdef"


def job(number: int, version: int = 1, **more: Any) -> JobRecord:
    return JobRecord(number, f"job-{number}", "acme", version, **more)


@pytest.fixture
async def pair() -> AsyncIterator[tuple[RedisStore, RedisStore]]:
    """Two processes on one state, as far as Redis can tell."""
    url = shared_redis()
    stores = RedisStore(url), RedisStore(url)
    for store in stores:
        await store.open()
    yield stores
    for store in stores:
        await store.close()


async def test_a_change_of_one_process_is_seen_by_the_other_in_spite_of_its_copies(
    pair: tuple[RedisStore, RedisStore],
) -> None:
    one, other = pair
    await one.keep(Changes(world=WORLD, head=Head(), jobs=[job(0)]))
    for version in range(2, 5):
        assert (await other.look(WORLD, "acme", "job-0")).job == job(0, version - 1)
        assert (await other.look(WORLD, "acme", "job-0")).job == job(0, version - 1)
        assert await one.keep(Changes(world=WORLD, head=Head(version), jobs=[job(0, version)]))
        assert not await other.keep(Changes(world=WORLD, jobs=[job(0, version)])), "it decided from an old copy"
    await one.keep(Changes(world=WORLD, erased=frozenset({"head"})))
    gone = await other.look(WORLD, "acme", "job-0")
    assert (gone.head, gone.job, gone.elsewhere) == (None, None, False)


async def test_a_known_job_costs_one_trip_of_two_small_commands(
    pair: tuple[RedisStore, RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = pair
    await store.keep(Changes(world=WORLD, head=Head(), jobs=[job(0, values={"prompt": "a horse" * 99})]))
    first = await store.look(WORLD, "acme", "job-0")
    calls: list[Any] = []
    call = store._redis.call

    def counted(*command: Any) -> Any:
        calls.append(command[0])
        return call(*command)

    monkeypatch.setattr(store._redis, "call", counted)
    monkeypatch.setattr(store._redis, "run", lambda *_: pytest.fail("nothing has changed"))
    second = await store.look(WORLD, "acme", "job-0")
    assert calls == ["TIME", "HMGET"]
    assert second.job is first.job
    assert second.now > first.now


async def test_a_change_whose_reply_was_lost_is_kept_once(
    pair: tuple[RedisStore, RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = pair
    monkeypatch.setattr(store, "_ids", iter(["a", "a", "b"]))
    change = Changes(world=WORLD, head=Head(), jobs=[job(0)])
    assert await store.keep(change)
    assert await other.keep(Changes(world=WORLD, head=Head(2)))
    assert await store.keep(change), "the same change, sent again"
    look = await other.look(WORLD, "acme", "job-0")
    assert (look.head, look.job) == (Head(2), job(0))
    assert not await store.keep(change), "an equal change of another request"


async def test_a_claim_whose_reply_was_lost_is_no_other_claim(
    pair: tuple[RedisStore, RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = pair
    monkeypatch.setattr(store, "_ids", iter(["a", "a"]))
    assert (await store.begin(WORLD, "acme", "k")).key is None
    assert (await store.begin(WORLD, "acme", "k")).key is None
    assert (await other.begin(WORLD, "acme", "k")).key is not None


async def test_many_writers_lose_nothing(pair: tuple[RedisStore, RedisStore]) -> None:
    async def write(store: RedisStore, count: int) -> None:
        for _ in range(count):
            while True:
                head = (await store.look(WORLD)).head or Head(0, values={"n": 0})
                values = {"n": head.values["n"] + 1}
                number = (await store.begin(WORLD, "acme")).number
                changes = Changes(world=WORLD, head=Head(head.version + 1, values=values), jobs=[job(number)])
                if await store.keep(changes):
                    break

    await asyncio.gather(*(write(store, 20) for store in pair for _ in range(4)))
    head = (await pair[0].look(WORLD)).head
    assert head is not None
    assert (head.version, head.values) == (160, {"n": 160})
    assert len((await pair[0].page(WORLD, "job", count=1000)).records) == 160


async def test_a_due_is_taken_by_one_process(pair: tuple[RedisStore, RedisStore]) -> None:
    now = (await pair[0].look(WORLD)).now
    dues = [DueRecord(number, 50.0 + number / 1e4, "callback", "job-0") for number in range(200)]
    await pair[0].keep(Changes(world=WORLD, head=Head(base=50.0, at=now, speed=1.0), dues=dues))
    await asyncio.sleep(0.03)
    taken = await asyncio.gather(*(store.take(7) for _ in range(40) for store in pair))
    numbers = [one.due.number for some in taken for one in some]
    assert sorted(numbers) == list(range(200))


async def test_the_journal_has_a_bound(pair: tuple[RedisStore, RedisStore]) -> None:
    store, _ = pair
    for number in range(KEPT_LINES + 200):
        store.note(WORLD, ExchangeRecord(number))
    page = await store.page(WORLD, "exchange", count=10 * KEPT_LINES)
    assert len(page.records) == KEPT_LINES
    assert page.records[-1].number == KEPT_LINES + 199


async def test_running_jobs_are_counted(pair: tuple[RedisStore, RedisStore]) -> None:
    store, _ = pair
    await store.keep(Changes(world=WORLD, jobs=[job(0), job(1), job(2, end="done", kind="success")]))
    assert await store.running(["acme", "other"]) == {"acme": 2, "other": 0}
    await store.keep(Changes(world=WORLD, jobs=[job(0, 2, end="done", kind="success")]))
    assert await store.running(["acme"]) == {"acme": 1}
    await store.keep(Changes(world=WORLD, erased=frozenset({"job"})))
    assert await store.running(["acme"]) == {"acme": 0}


async def test_each_run_has_a_number(pair: tuple[RedisStore, RedisStore]) -> None:
    third = RedisStore(f"redis://{pair[0].address.host}:{pair[0].address.port}")
    assert await third.open() == 3
    await third.close()


async def test_a_state_that_is_gone_is_reported_and_not_replaced(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    server.start()
    lost: list[str] = []
    try:
        store = RedisStore(server.url, on_lost=lost.append)
        await store.open()
        assert await store.risk() == "Redis does not write each change to its disk (appendonly yes, appendfsync always)"
        await store.keep(Changes(world=WORLD, jobs=[job(0)]))
        server.kill()
        server.start()
        with pytest.raises(RedisRefused, match="has lost the state"):
            await store.look(WORLD)
        assert len(lost) == 1
        await store.close()
    finally:
        server.kill()


async def test_what_was_kept_survives_a_killed_redis(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always")
    server.start()
    kept: list[int] = []
    try:
        store = RedisStore(server.url)
        await store.open()
        assert await store.risk() is None

        async def write(first: int) -> None:
            for number in range(first, first + 100):
                key = KeyRecord("acme", f"k{number}", job=f"job-{number}", until=9e9)
                assert await store.keep(Changes(world=WORLD, jobs=[job(number)], keys=[key]))
                kept.append(number)

        writing = asyncio.gather(*(write(1000 * writer) for writer in range(8)))
        for _ in range(3):
            await asyncio.sleep(0.05)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
        await writing
        found = (await store.page(WORLD, "job", count=10_000)).records
        assert len(kept) == len(set(kept)) == 800
        assert [one.number for one in found] == sorted(kept)
        await store.close()
    finally:
        server.kill()


async def test_a_redis_that_is_away_is_one_line(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    store = RedisStore(server.url, wait=0.2)
    with pytest.raises(StateError, match=f"the state cannot be used: Redis at redis://127.0.0.1:{server.port}/0"):
        await store.open()
    with pytest.raises(StateError, match="allowed: redis://"):
        RedisStore("redis:///1")


async def test_a_newer_format_is_refused(pair: tuple[RedisStore, RedisStore]) -> None:
    store, _ = pair
    await store._redis.call("SET", "hh:meta", orjson.dumps({"seed": 0, "contracts": {}, "format": 99}))
    with pytest.raises(StateError, match="format 99"):
        await store.meta()


async def test_a_silent_redis_does_not_stop_the_others(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    server.start()
    try:
        store = RedisStore(server.url)
        await store.open()
        await store.keep(Changes(world=WORLD, jobs=[job(0)]))
        server.send(signal.SIGSTOP)
        waiting = asyncio.ensure_future(store.keep(Changes(world=WORLD, jobs=[job(1)])))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        server.send(signal.SIGCONT)
        assert await waiting
        await store.close()
    finally:
        server.kill()
