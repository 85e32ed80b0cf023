"""The owners of worlds: one at a time, and another one soon after a process is dead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from hobbyhorse.state import redis_owners
from hobbyhorse.state.errors import StoreFailure
from hobbyhorse.state.records import DueRecord, Head
from hobbyhorse.state.redis import NotOwner, RedisStore
from hobbyhorse.state.redis_connection import RedisConnection, RedisError, RedisRefused, RedisUnavailable
from hobbyhorse.state.redis_owners import RedisOwners
from hobbyhorse.state.store import Changes
from tests.state.redis_server import needs_redis, shared_redis

pytestmark = [pytest.mark.anyio, needs_redis]

WORLD = "0123456789abcdef"
LEASE = 0.3


@pytest.fixture
async def stores(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[RedisStore]]:
    """Three processes, as far as Redis can tell, with a short lease that only the test renews."""
    monkeypatch.setattr(redis_owners, "LEASE_SECONDS", LEASE)
    url = shared_redis()
    found = [RedisStore(url) for _ in range(3)]
    for number, store in enumerate(found):
        await store.open()
        await store.join(f"127.0.0.1:{number}")
    yield found
    for store in found:
        await store.close()


def owners_of(store: RedisStore) -> RedisOwners:
    assert store.owners is not None
    return store.owners


async def test_of_several_processes_one_owns_a_world_and_the_others_know_it(stores: list[RedisStore]) -> None:
    found = await asyncio.gather(*(owners_of(store).find(WORLD) for store in stores for _ in range(5)))
    assert len({owner.name for owner in found}) == 1
    own = [store for store in stores if owners_of(store).has(WORLD)]
    assert len(own) == 1
    assert [owner.address is None for owner in found].count(True) == 5
    assert {owner.address for owner in found} - {None} == {f"127.0.0.1:{stores.index(own[0])}"}


async def test_the_others_are_the_living_processes(stores: list[RedisStore]) -> None:
    one, two, three = map(owners_of, stores)
    assert sorted(await one.others()) == ["127.0.0.1:1", "127.0.0.1:2"]
    await two.leave()
    assert await one.others() == ["127.0.0.1:2"]
    await three.leave()
    assert await stores[0]._redis.call("SMEMBERS", "hh:ps") == [one.name.encode()], "who leaves leaves no name"
    await three.renew()
    await asyncio.sleep(LEASE * 1.2)
    await one.renew()
    assert await one.others() == [], "the lease of the third has ended"
    await three.renew()
    assert await one.others() == ["127.0.0.1:2"]


async def test_only_the_owner_can_keep_changes(stores: list[RedisStore]) -> None:
    owner, other, _ = stores
    await owners_of(owner).find(WORLD)
    assert await owner.keep(Changes(world=WORLD, head=Head()))
    with pytest.raises(NotOwner):
        await other.keep(Changes(world=WORLD, head=Head(2)))
    assert (await other.look(WORLD)).head == Head()


async def test_the_world_of_a_dead_process_is_taken_after_its_lease(stores: list[RedisStore]) -> None:
    dead, heir, third = stores
    lost: list[str] = []
    owners_of(dead).on_lost = lost.append
    await owners_of(dead).find(WORLD)
    for store in (heir, third):
        await owners_of(store).renew()
        assert (await owners_of(store).find(WORLD)).address == "127.0.0.1:0"
    await asyncio.sleep(LEASE * 1.2)
    assert not owners_of(dead).has(WORLD), "its own lease ends first"
    await owners_of(heir).renew()
    assert (await owners_of(heir).find(WORLD)).address is None
    assert (await owners_of(third).find(WORLD)).address == "127.0.0.1:1"
    # It only slept, and learns that its world is gone.
    with pytest.raises(NotOwner):
        await dead.keep(Changes(world=WORLD, head=Head()))
    assert (await owners_of(dead).find(WORLD)).address == "127.0.0.1:1"
    assert lost == [WORLD]


async def test_a_process_that_slept_keeps_what_nobody_took(stores: list[RedisStore]) -> None:
    owner = owners_of(stores[0])
    await owner.find(WORLD)
    await asyncio.sleep(LEASE * 1.2)
    assert not owner.has(WORLD)
    await owner.renew()
    assert owner.has(WORLD)


async def test_a_process_that_leaves_is_replaced_at_once(stores: list[RedisStore]) -> None:
    leaving, heir, _ = stores
    await owners_of(leaving).find(WORLD)
    await owners_of(leaving).leave()
    assert (await owners_of(heir).find(WORLD)).address is None


async def test_worlds_with_dues_and_without_an_owner_are_found(stores: list[RedisStore]) -> None:
    dead, heir, _ = stores
    await owners_of(dead).find(WORLD)
    await dead.keep(Changes(world=WORLD, head=Head(speed=1.0), dues=[DueRecord(1, 5.0, "callback", "job-0")]))
    assert list(await owners_of(heir).orphans()) == []
    await owners_of(dead).leave()
    assert list(await owners_of(heir).orphans()) == [WORLD]


class Scripted:
    """A connection that replies what a test has planned; then the task that asks is cancelled."""

    def __init__(self, *replies: object) -> None:
        self.replies = list(replies)
        self.asked: list[str] = []

    async def _reply(self, what: str) -> Any:
        self.asked.append(what)
        if not self.replies:
            raise asyncio.CancelledError
        if isinstance(reply := self.replies.pop(0), Exception):
            raise reply
        return reply

    async def run(self, *given: object) -> Any:
        return await self._reply("run")

    async def call(self, name: str, *given: object) -> Any:
        return await self._reply(name)


def scripted(*replies: object) -> tuple[RedisOwners, Scripted]:
    connection = Scripted(*replies)
    return RedisOwners(cast(RedisConnection, connection), "me", "127.0.0.1:1"), connection


@pytest.mark.parametrize(
    "failure",
    [RedisError("READONLY You can't write"), RedisError("OOM"), RedisUnavailable("late"), RedisRefused("lost")],
    ids=lambda failure: type(failure).__name__,
)
async def test_no_failure_ends_the_renewals(failure: StoreFailure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_owners, "RENEW_SECONDS", 0)
    owners, connection = scripted(1, failure, failure, 1)
    with pytest.raises(asyncio.CancelledError):
        await owners.keep_renewing()
    assert len(connection.asked) == 5


async def test_a_failed_renewal_lets_other_tasks_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_owners, "RENEW_SECONDS", 0)
    turns = 0

    async def count() -> None:
        nonlocal turns
        for _ in range(3):
            await asyncio.sleep(0)
            turns += 1

    owners, _ = scripted(*[RedisUnavailable("the connection was closed")] * 9)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.gather(count(), owners.keep_renewing())
    assert turns == 3


async def test_a_process_that_could_not_ask_what_it_owns_asks_again() -> None:
    owners, connection = scripted(0, RedisError("LOADING"), 1, [b"another"])
    owners.owned.add(WORLD)
    lost: list[str] = []
    owners.on_lost = lost.append
    with pytest.raises(RedisError):
        await owners.renew()
    assert not owners.has(WORLD)
    # Its address is there now, but from the renewal that has failed.
    await owners.renew()
    assert lost == [WORLD]
    assert connection.asked == ["run", "HMGET"] * 2
