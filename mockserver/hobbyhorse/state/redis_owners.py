"""Which process serves which world, agreed through Redis. Knows no world and no request.

At any time at most one process serves a world, its owner. Three facts make that so:

* A process has an address in Redis that expires after `LEASE_SECONDS` unless the process renews it. A world may be
  taken from an owner only when the owner's address has expired.
* A process counts its own lease from before it has sent the renewal, so for itself the lease ends first. Without a
  lease it serves no world.
* Every change that a process keeps is refused if Redis has another owner of its world: whatever a process believes
  that has slept for a minute, it changes nothing.

A process that has found its address expired does not know what it still owns. `renew` asks, and forgets the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from hobbyhorse.state.errors import StoreFailure
from hobbyhorse.state.redis_connection import RedisConnection, RedisUnavailable
from hobbyhorse.state.redis_scripts import BEAT, ORPHANS, OTHERS, OWN

# A dead process is known as dead after this time: short, because its clients wait for it; and several renewals long.
LEASE_SECONDS = 4.0
# Three renewals may fail or be late before the lease ends.
RENEW_SECONDS = 1.0
# A process that cannot renew its lease for so long refuses requests: their clients give up after 10 to 30 s.
WAIT_SECONDS = 5.0
# Worlds without an owner that are looked for at a time.
MOST_ORPHANS = 100


class Owner(NamedTuple):
    """The process that owns a world; `address` is None if it is this one."""

    name: str
    address: str | None


class RedisOwners:
    """The worlds that this process owns, and a way to the owners of the others."""

    def __init__(self, redis: RedisConnection, name: str, address: str) -> None:
        self.name, self._redis, self._address = name, redis, address
        self.owned: set[str] = set()
        self.on_lost: Callable[[str], None] = lambda world: None
        """Called with each world that another process has taken."""
        self._until = 0.0

    def has(self, world: str) -> bool:
        """Whether this process may serve a world now."""
        return world in self.owned and asyncio.get_running_loop().time() < self._until

    async def find(self, world: str) -> Owner:
        """Return the owner of a world; it becomes this process if there is none. Raises StoreFailure."""
        until = asyncio.get_running_loop().time() + WAIT_SECONDS
        while True:
            found = await self._redis.run(OWN, (), (world, self.name))
            if found:
                name, address = (part.decode() for part in found)
                if name != self.name:
                    self.lose(world)
                    return Owner(name, address)
                if await self._leased(until):
                    self.owned.add(world)
                    return Owner(name, None)
            await self.renew()
            if asyncio.get_running_loop().time() > until:
                raise RedisUnavailable("this process cannot renew its lease")

    async def _leased(self, until: float) -> bool:
        loop = asyncio.get_running_loop()
        while self._until <= loop.time() < until:
            await self.renew()
        return loop.time() < self._until

    async def renew(self) -> None:
        """Renew the lease of this process. Raises StoreFailure."""
        loop = asyncio.get_running_loop()
        sent = loop.time()
        there = await self._redis.run(BEAT, (), (self.name, self._address, int(LEASE_SECONDS * 1000)))
        # The address of an earlier renewal may be there, whose reply was lost. So the own lease counts too.
        if self.owned and not (there and loop.time() < self._until):
            worlds = sorted(self.owned)
            owners = await self._redis.call("HMGET", "hh:owner", *worlds)
            for world, owner in zip(worlds, owners, strict=True):
                if owner is None or owner.decode() != self.name:
                    self.lose(world)
        self._until = max(self._until, sent + LEASE_SECONDS)

    def lose(self, world: str) -> None:
        """Give up a world that another process has taken."""
        if world in self.owned:
            self.owned.discard(world)
            self.on_lost(world)

    async def keep_renewing(self) -> None:
        """Renew the lease until cancelled."""
        while True:
            # Redis may refuse the renewal for a while: it is full, or a replica that is not the primary yet.
            with suppress(StoreFailure):
                await self.renew()
            await asyncio.sleep(RENEW_SECONDS)

    async def orphans(self) -> Sequence[str]:
        """Return worlds whose next due has come, and whose owner is dead. Raises StoreFailure."""
        return [world.decode() for world in await self._redis.run(ORPHANS, (), ("", MOST_ORPHANS))]

    async def others(self) -> Sequence[str]:
        """Return the addresses of the other living processes. Raises StoreFailure."""
        return [address.decode() for address in await self._redis.run(OTHERS, (), (self.name,))]

    async def leave(self) -> None:
        """Give up all worlds at once, so that others need not wait for the end of the lease."""
        self._until = 0.0
        self.owned.clear()
        await self._redis.call("DEL", f"hh:p:{self.name}")
        await self._redis.call("SREM", "hh:ps", self.name)
