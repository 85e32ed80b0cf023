"""Keeps the worlds of a server that shares its state with other processes, over Redis.

A world is served by its owner only, and there it is as in any server with a kept state. What this module adds:

* A world is fetched when this process begins to own it, and dropped from its memory when it owns it no more, or when a
  change of it was not kept. Requests that have seen such a world are refused: what they decided is not true.
* The dues of a process that is dead come due nowhere. So each process looks for such worlds, and takes them.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from hobbyhorse.contract.values import Contract
from hobbyhorse.server.kept.keeper import UNWRITABLE, Keeper, end_tasks
from hobbyhorse.server.kept.reporting import report
from hobbyhorse.server.metrics.peers import Figures, ask_all
from hobbyhorse.server.request import Services
from hobbyhorse.server.shared.forwarding import SharedProtocol
from hobbyhorse.server.shared.handing import Factory, Handing
from hobbyhorse.server.shared.routing import WorldRouter
from hobbyhorse.state.errors import NotKept, StateError, StoreFailure
from hobbyhorse.state.redis import RedisStore
from hobbyhorse.state.redis_log import RedisLog
from hobbyhorse.state.redis_owners import Owner, RedisOwners
from hobbyhorse.state.store import Heads
from hobbyhorse.worlds.journal import resume_numbers
from hobbyhorse.worlds.world import World, Worlds

# A dead process's callbacks come at most this much later than the end of its lease.
ADOPT_SECONDS = 1.0
# The number of the last change of a world that this process serves no more.
GONE = -1


class SharedKeeper(Keeper):
    """The archive of the worlds that this process owns."""

    def __init__(self, url: str, contracts: Sequence[Contract], peer: socket.socket, pictures: Path) -> None:
        """Prepare it; other processes forward requests to the bound socket `peer`."""
        store = RedisStore(url, on_lost=_give_up)
        self._log = RedisLog(store)
        super().__init__(self._log, contracts, pictures)
        self._log.on_broken = self._drop_here
        self._peer_host, self._peer_port = peer.getsockname()[:2]
        self._opening: dict[str, asyncio.Task[Owner]] = {}
        self._writing: dict[str, asyncio.Task[int]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._ahead = 0.0
        self._handing: Handing | None = None
        self.owners: RedisOwners | None = None
        self.on_gone: Callable[[World], None] = lambda world: None
        """Called with each world that this process serves no more; it must drop the world."""

    async def connect(self) -> None:
        """Reach Redis, and begin to own worlds. Raises StateError."""
        store = self._log.store
        try:
            await self._log.connect()
            await self._set_time()
            # A socket on all addresses is reached at the one by which this machine reaches Redis.
            host = store.own_host if self._peer_host in ("0.0.0.0", "::") else self._peer_host
            self.owners = await store.join(f"{host}:{self._peer_port}")
        except StoreFailure as error:
            raise StateError(f"the state cannot be used: {error}") from None
        self.owners.on_lost = self._drop_here

    def start(self, worlds: Worlds, services: Services) -> None:
        """Begin to write, to renew the lease, and to look for the worlds of dead processes."""
        super().start(worlds, services)
        assert self.owners is not None
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self.owners.keep_renewing()), loop.create_task(self._adopt())]

    async def _set_time(self) -> None:
        """Set the difference between the time of Redis and that of this machine."""
        self._ahead = await self._log.store.time() - self.wall()

    def now(self) -> float:
        """Return the time of Redis, by which the clocks of worlds go on in another process."""
        return self.wall() + self._ahead

    # ---- owned worlds

    def serves(self, handle: str) -> bool:
        """Whether this process may serve a world now."""
        owned = self.owners is not None and self.owners.has(handle) and self._log.loaded(handle)
        return owned and self._worlds is not None and self._worlds.is_ready(handle)

    async def find(self, handle: str) -> Owner:
        """Return the owner of a world, after reading it whole if that is this process. Raises StoreFailure."""
        owner = await self._fetched(handle)
        if owner.address is None:
            await self.until_ready(handle)
        return owner

    async def _fetched(self, handle: str) -> Owner:
        """Return the owner of a world, after fetching its records if that is this process."""
        task = self._opening.get(handle)
        if task is None:
            task = self._opening[handle] = asyncio.get_running_loop().create_task(self._find(handle))
            task.add_done_callback(lambda _: self._opening.pop(handle, None))
        # One fetch for all requests that wait for it; none of them may cancel it for the others.
        return await asyncio.shield(task)

    async def _find(self, handle: str) -> Owner:
        assert self.owners is not None
        if not self._log.loaded(handle):
            # Before it is owned: to drop a world is to own it no more.
            self._drop_here(handle)
        owner = await self.owners.find(handle)
        if owner.address is None and not self._log.loaded(handle):
            await self._set_time()
            head = await self._log.load(handle)
            if not self.owners.has(handle):
                # It was lost meanwhile: another process may have changed it since it was fetched.
                self._drop_here(handle)
            elif head is not None:
                self._known.add(handle)
                resume_numbers(head.used)
        return owner

    def router(
        self, worlds: Worlds, services: Services, forget: Callable[[World], None], figures: Figures
    ) -> WorldRouter:
        """Return what sends requests to the process that serves their world; `forget` drops a world from memory."""
        self.on_gone = forget
        return WorldRouter(self, worlds, services, self._peer_port, figures)

    async def figures_of_others(self) -> Sequence[dict[str, Any]]:
        """Ask the other processes for their figures. One that has died since is left out. Raises NotKept."""
        assert self.owners is not None
        try:
            addresses = await self.owners.others()
        except StoreFailure as error:
            raise NotKept from error
        return await ask_all(addresses)

    async def listed(self, before: int | None, count: int) -> Heads:
        """Return the heads of worlds of all processes. Raises NotKept if Redis cannot be reached."""
        try:
            return await super().listed(before, count)
        except StoreFailure as error:
            raise NotKept from error

    def accept(self, factory: Factory) -> None:
        """Take connections over from other processes of this machine; `factory` makes their protocols."""
        self._handing = Handing(self._log.store.name, factory)

    def hand_over(self, owner: Owner, protocol: SharedProtocol, receive: Any) -> bool:
        """Hand a connection over to the owner of its world, if that is on this machine."""
        handing = self._handing
        return handing is not None and protocol.hand_over(partial(handing.give, owner.name), receive)

    async def exists(self, handle: str) -> bool:
        """Whether a world is kept. Raises StoreFailure."""
        return await self._log.store.exists(handle)

    def _drop_here(self, handle: str) -> None:
        """Drop a world from the memory of this process; what is kept of it stays."""
        world = self._worlds.opened(handle) if self._worlds is not None else None
        if world is not None:
            if world.unkept is not None:
                world.unkept.last = GONE
            self.on_gone(world)
        self._known.discard(handle)
        self._changed.discard(handle)
        self._log.unload(handle)
        if self.owners is not None:
            self.owners.owned.discard(handle)

    def drop(self, world: World) -> None:
        """Forget a world entirely, unless only this process has no more to do with it."""
        if world.unkept is None or world.unkept.last != GONE:
            super().drop(world)

    async def kept(self, world: World) -> None:
        """Wait until everything that a response about a world may show is kept. Raises NotKept."""
        unkept = world.unkept
        if unkept is None:
            return
        number = await self._next_write(world) if unkept.last != GONE and unkept.urgent else unkept.last
        if number > self._log.kept:
            await self._log.until_kept(number)
        if unkept.last == GONE:
            raise NotKept(world.handle)

    async def _next_write(self, world: World) -> int:
        """Write what a world has noted, together with all that it notes until then; return the number of the change."""
        task = self._writing.get(world.handle)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._write_together(world))
            self._writing[world.handle] = task
        return await asyncio.shield(task)

    async def _write_together(self, world: World) -> int:
        """Write a world when its last change is kept: the more requests come, the more of them share a change."""
        unkept = world.unkept
        assert unkept is not None
        try:
            # Also without a change on its way, the other requests of this turn of the event loop come first.
            await asyncio.sleep(0)
            if unkept.last > self._log.kept:
                with suppress(NotKept):
                    await self._log.until_kept(unkept.last)
        finally:
            del self._writing[world.handle]
        if unkept.last != GONE:
            self._write(world)
        return unkept.last

    # ---- the worlds of dead processes

    async def _adopt(self) -> None:
        while True:
            await asyncio.sleep(ADOPT_SECONDS)
            with suppress(StoreFailure):
                await self._adopt_once()

    async def _adopt_once(self) -> None:
        assert self.owners is not None
        assert self._worlds is not None
        for handle in await self.owners.orphans():
            # A damaged world must not keep the others waiting.
            try:
                owner = await self._fetched(handle)
                if owner.address is None and self._worlds.opened(handle) is None and self.knows(handle):
                    self._worlds.restore(handle)
            except StateError as error:
                report(str(error))

    async def close(self) -> None:
        """Write everything, and leave the worlds to the other processes."""
        await end_tasks(self._tasks)
        if self._handing is not None:
            self._handing.close()
        await super().close()


def _give_up(reason: str) -> None:
    """End the process: the state is gone, and what is in memory is only a part of it."""
    print(f"hobbyhorse: {reason}; the server stops", file=sys.stderr, flush=True)
    os._exit(UNWRITABLE)
