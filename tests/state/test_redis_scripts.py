"""The scripts of the Redis store leave nothing behind. What they do is tested through the store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hobbyhorse.state.records import AttemptRecord, DueRecord, ExchangeRecord, Head, JobRecord, KeyRecord
from hobbyhorse.state.redis import RedisStore
from hobbyhorse.state.store import Changes
from tests.state.redis_server import needs_redis, shared_redis

pytestmark = [pytest.mark.anyio, needs_redis]

WORLD = "0123456789abcdef"


@pytest.fixture
async def store() -> AsyncIterator[RedisStore]:
    found = RedisStore(shared_redis())
    await found.open()
    yield found
    await found.close()


async def test_a_world_that_was_erased_leaves_no_key(store: RedisStore) -> None:
    await store.keep(Changes(world="other", head=Head(), jobs=[JobRecord(0, "job-0", "acme")]))
    before = set(await store._redis.call("KEYS", "*"))
    jobs = [JobRecord(number, f"job-{number}", "acme") for number in range(3)]
    dues = [DueRecord(number, float(number), "callback", "job-0") for number in range(3)]
    await store.begin(WORLD, "acme", "claimed")
    await store.keep(
        Changes(
            world=WORLD,
            head=Head(base=9.0),
            jobs=jobs,
            keys=[KeyRecord("acme", "k", job="job-0", until=9e9)],
            dues=dues,
            exchanges=[ExchangeRecord(1)],
            attempts=[AttemptRecord(1)],
        )
    )
    assert len(await store.take(2)) == 2
    assert len(set(await store._redis.call("KEYS", "*")) - before) > 8
    await store.keep(Changes(world=WORLD, erased=frozenset({"head"})))
    left = {key for key in await store._redis.call("KEYS", "*") if not key.startswith(b"hh:kept:")}
    assert left <= before, "some keys of the world are left"
    for key in (b"hh:owned:acme", b"hh:open:acme"):
        assert key in left, "the job of the other world with the same id is still there"
