"""Opening a state for the commands that look into it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hobbyhorse.cli.stored.reading import read_state
from hobbyhorse.cli.usage import UsageError
from hobbyhorse.runners.surroundings import free_port
from hobbyhorse.state.inspection import Reader, problems, summary
from hobbyhorse.state.records import Head, JobRecord
from hobbyhorse.state.redis import RedisStore
from hobbyhorse.state.sqlite import SqliteStore
from hobbyhorse.state.store import Changes, Meta
from tests.state.redis_server import needs_redis, shared_redis


async def seed(reader: Reader) -> int:
    meta = await reader.meta()
    assert meta is not None
    return meta.seed


def test_the_work_gets_the_state(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    store.write_meta(Meta(5))
    store.stop()
    assert read_state(str(tmp_path), seed) == 5


def test_a_place_without_a_state_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no state"):
        read_state(str(tmp_path), seed)


@needs_redis
def test_a_state_in_redis_is_read_and_not_changed() -> None:
    url = shared_redis()
    with pytest.raises(UsageError, match="has no state"):
        read_state(url, seed)
    asyncio.run(write(url))
    found = [read_state(url, summary) for _ in range(2)]
    assert found[0] == found[1]
    assert {name: found[0][name] for name in ("seed", "worlds", "jobs", "running")} == {
        "seed": 5,
        "worlds": 1,
        "jobs": 2,
        "running": 1,
    }
    assert read_state(url, problems) == []
    asyncio.run(command(url, "HDEL", "hh:i:w", "acme\0job-1"))
    assert read_state(url, problems) == ["world w: Redis has 2 jobs, 2 numbers and 1 ids of them"]
    # Only servers count as runs of a state.
    assert asyncio.run(command(url, "GET", "hh:runs")) == b"1"


def test_a_redis_that_cannot_be_reached_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="the state cannot be used"):
        read_state(f"redis://127.0.0.1:{free_port()}", seed)


async def write(url: str) -> None:
    """Keep a world with an ended and a running job."""
    store = RedisStore(url)
    await store.open()
    await store.set_meta(Meta(5))
    jobs = [JobRecord(0, "job-0", "acme", end="done", kind="success"), JobRecord(1, "job-1", "acme")]
    await store.keep(Changes(world="w", head=Head(begun=2, values={"jobs": [0, 2, 0, 0, "0"]}), jobs=jobs))
    await store.close()


async def command(url: str, *words: str) -> object:
    """Send a command to Redis."""
    store = RedisStore(url)
    await store._redis.open()
    found: object = await store._redis.call(*words)
    await store.close()
    return found
