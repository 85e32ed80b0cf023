"""The worlds that this process owns, as a log in Redis, with the interface that `SqliteStore` has for a live server.

The owner of a world is its only writer, so the world is in the memory of its process, and the store is its log. What a
world needs to be opened is fetched from Redis as a whole, into a SQLite database in memory: from there it is read as
from a folder.

The changes of a world have positions in its log. Redis takes a change only at the next position, from the owner. So if
one is lost, because Redis was away for too long, all later ones are refused: the world in memory is then *broken*, and
must be fetched again. A change that was refused or lost is not responded to.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from hobbyhorse.state import sqlite_tables as tables
from hobbyhorse.state.errors import NotKept, StoreFailure
from hobbyhorse.state.records import KEPT_LINES, Head
from hobbyhorse.state.redis import RedisStore
from hobbyhorse.state.store import Changes, Heads, Meta

# Jobs that are fetched, stored or erased at once: some 150 KB, which Redis, the parser and the copies handle in a few
# milliseconds. While the copies are written, nothing can be read from them.
JOBS_AT_ONCE = 250

Found = TypeVar("Found")


class RedisLog:
    """The log of the worlds that this process owns."""

    def __init__(self, store: RedisStore) -> None:
        self.store = store
        self.on_failure: Callable[[str], None] = lambda reason: None
        self.on_broken: Callable[[str], None] = lambda world: None
        """Called with each world whose change was not kept."""
        self.found: Meta | None = None
        self.put_last = self.kept = 0
        self._positions: dict[str, int] = {}
        self._waiters: dict[int, list[asyncio.Future[None]]] = defaultdict(list)
        self._failed: set[int] = set()
        self._copies = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._copies.executescript(tables.SCHEMA)
        self._lock = threading.Lock()
        # The worlds with copies, and those whose copies are being erased.
        self._copied: set[str] = set()
        self._erasing: dict[str, asyncio.Task[None]] = {}

    async def connect(self) -> None:
        """Reach Redis. Raises StateError."""
        await self.store.open()
        self.found = await self.store.meta()

    def write_meta(self, meta: Meta) -> None:
        """Set the facts soon."""
        self.found = meta
        self.store.write_meta(meta)

    async def load(self, world: str) -> Head | None:
        """Fetch the records of a world that this process has just begun to own; return its head, None if it is new."""
        head, position = await self.store.position(world)
        self._forget(world)
        if (erasing := self._erasing.get(world)) is not None:
            await asyncio.wait([erasing])
        if head is not None:
            self._copied.add(world)
            await self._copy(world, head)
        self._positions[world] = position
        return head

    async def _copy(self, world: str, head: Head) -> None:
        kinds = ("key", "due", "exchange", "attempt")
        pages = await asyncio.gather(*(self.store.page(world, kind, count=KEPT_LINES) for kind in kinds))
        keys, dues, exchanges, attempts = (page.records for page in pages)
        changes = Changes(
            world=world,
            head=head,
            keys=[key for key in keys if key.job],
            dues=dues,
            exchanges=exchanges,
            attempts=attempts,
            checked=False,
        )
        await asyncio.to_thread(self._fill, changes)
        before: int | None = None
        while True:
            page = await self.store.page(world, "job", before=before, count=JOBS_AT_ONCE)
            if page.records:
                await asyncio.to_thread(self._fill, Changes(world=world, jobs=page.records, checked=False))
                before = page.records[0].number
            if not page.more:
                return

    def _fill(self, changes: Changes) -> None:
        with self._lock:
            self._copies.execute("begin")
            tables.put(self._copies, changes)
            self._copies.execute("commit")

    def unload(self, world: str) -> None:
        """Forget what was fetched of a world soon; nothing of it can be put until it is loaded again."""
        self._positions.pop(world, None)
        self._forget(world)

    def _forget(self, world: str) -> None:
        """Begin to erase the copies of a world, if there are any."""
        if world in self._copied and world not in self._erasing:
            self._copied.discard(world)
            task = self._erasing[world] = asyncio.get_running_loop().create_task(self._erase(world))
            task.add_done_callback(lambda _: self._erasing.pop(world))

    async def _erase(self, world: str) -> None:
        while await asyncio.to_thread(self._erase_some, world):
            pass
        await asyncio.to_thread(self._fill, Changes(world=world, erased=frozenset({"head"}), checked=False))

    def _erase_some(self, world: str) -> int:
        with self._lock:
            return tables.erase_jobs(self._copies, world, JOBS_AT_ONCE)

    def loaded(self, world: str) -> bool:
        """Whether changes of a world can be put."""
        return world in self._positions

    def read(self, query: Callable[[sqlite3.Connection], Found]) -> Found:
        """Return what a query finds in the fetched records, from any thread."""
        with self._lock:
            return query(self._copies)

    def write_now(self) -> None:
        """Do nothing: what was put leaves in this turn of the event loop."""

    def put(self, changes: Changes, *, wake: bool = True) -> int:
        """Keep changes of a loaded world soon; return their number."""
        self.put_last += 1
        number, world = self.put_last, changes.world
        position = self._positions.get(world)
        if position is None:
            self._failed.add(number)
            return number
        if "head" in changes.erased and changes.head is None:
            # With the world goes its log.
            del self._positions[world]
        else:
            self._positions[world] = position + 1
        self.store.append(changes, position).add_done_callback(partial(self._done, number, world))
        return number

    def _done(self, number: int, world: str, reply: asyncio.Future[int]) -> None:
        """Wake what waits for a change; the replies come in the order of the changes."""
        kept = not reply.cancelled() and reply.exception() is None and reply.result() == 1
        self.kept = max(self.kept, number)
        waiters = self._waiters.pop(number, ())
        if not kept:
            if self._positions.pop(world, None) is not None:
                self.on_broken(world)
            if not waiters:
                self._failed.add(number)
        for waiter in waiters:
            if waiter.done():
                continue
            if kept:
                waiter.set_result(None)
            else:
                waiter.set_exception(NotKept(world))

    async def until_kept(self, number: int) -> None:
        """Wait until the change with a number is kept. Raises NotKept."""
        if number in self._failed:
            raise NotKept
        if number <= self.kept:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[number].append(waiter)
        await waiter

    async def worlds(self) -> Sequence[str]:
        """Return the handles of all worlds, sorted, of all processes."""
        return await self.store.worlds()

    async def heads(self, before: int | None, count: int) -> Heads:
        """Return the heads of worlds, of all processes, that were written before a moment."""
        return await self.store.heads(before, count)

    async def close(self) -> None:
        """Wait until everything that was put is kept or lost, and close the connection."""
        if self.put_last > self.kept:
            with suppress(NotKept):
                await self.until_kept(self.put_last)
        if self.store.owners is not None:
            with suppress(StoreFailure):
                await self.store.owners.leave()
        await self.store.close()
        if self._erasing:
            await asyncio.wait(self._erasing.values())
        self._copies.close()
