"""Keeps the worlds of a server: decides when changes are written, and makes responses wait for them.

The worlds are the state, in memory; the store is their log. Each change is noted in its world (`worlds/unkept.py`).
`kept`, which every response and every callback awaits, writes the noted changes of its world as one change, and waits
until the store has it. A poll has noted nothing urgent: it compares two numbers. Changes that follow from the clock
(the end of a job) or concern only the past (a journal line, a delivery) are written within `TICK_SECONDS`.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hobbyhorse.contract.values import Contract
from hobbyhorse.server.callbacks import CallbackAttempt, CallbackDispatcher
from hobbyhorse.server.files.image_checks import FETCHING, resume_fetch
from hobbyhorse.server.kept.gate import WorldGate
from hobbyhorse.server.kept.reading import WorldReader, digest
from hobbyhorse.server.kept.reporting import report
from hobbyhorse.server.metrics.peers import Figures
from hobbyhorse.server.request import Services
from hobbyhorse.state import sqlite_tables as tables
from hobbyhorse.state.errors import NotKept, unreadable
from hobbyhorse.state.records import KEPT_LINES, AttemptRecord
from hobbyhorse.state.sqlite import NOTE_SECONDS
from hobbyhorse.state.store import Changes, Heads, Meta, WorldLog
from hobbyhorse.worlds.journal import resume_numbers
from hobbyhorse.worlds.kept_jobs import job_record, key_record
from hobbyhorse.worlds.kept_worlds import head_of, line_of
from hobbyhorse.worlds.unkept import Unkept
from hobbyhorse.worlds.world import World, Worlds, excess

if TYPE_CHECKING:
    from hobbyhorse.server.shared.routing import WorldRouter

# A kill loses at most the changes of this time that no response waited for.
TICK_SECONDS = NOTE_SECONDS
# The exit status of an unexpected error: memory is ahead of the state, so the server must not go on.
UNWRITABLE = 3


class Keeper:
    """The archive of the worlds of one server, over a store that only this server writes."""

    def __init__(self, store: WorldLog, contracts: Sequence[Contract], pictures: Path) -> None:
        """Make a keeper; the input images are in the folder `pictures`."""
        self.pictures = pictures
        self._store = store
        store.on_failure = _give_up
        self.wall: Callable[[], float] = time.time
        self._reader = WorldReader(store, contracts, self.now)
        self._changed: set[str] = set()
        self._known = set(store.read(tables.handles))
        # The kept worlds that could not be forgotten when all were looked at last.
        self._busy = 0
        # The worlds that were dropped, by the number of the change: until it is written, their records are still there.
        self._dropped: dict[str, int] = {}
        self._worlds: Worlds | None = None
        self._services: Services | None = None
        self._dispatcher: Callable[[], CallbackDispatcher] | None = None
        self._ticking: asyncio.Task[None] | None = None
        # The worlds for which responses wait.
        self._urgent: dict[str, World] = {}
        # The requests that wait until a world is read, in the order of their arrival, and the task that reads it.
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._reading: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        """Reach the store. Raises StateError."""

    def start(self, worlds: Worlds, services: Services) -> None:
        """Open the worlds in which something runs, and begin to write. Raises StateError for damage.

        Needs the server's event loop.
        """
        self._worlds, self._services = worlds, services
        resume_numbers(self._store.read(tables.last_used))
        for handle in self._store.read(tables.busy):
            worlds.restore(handle)
        self._ticking = asyncio.get_running_loop().create_task(self._tick())

    def now(self) -> float:
        """Return the store's time."""
        return self.wall()

    def router(
        self, worlds: Worlds, services: Services, forget: Callable[[World], None], figures: Figures
    ) -> WorldGate | WorldRouter:
        """Return what lets requests wait until their world can be used."""
        return WorldGate(self, worlds, services)

    async def figures_of_others(self) -> Sequence[dict[str, Any]]:
        """Return the figures of the other processes that share the state."""
        return ()

    def serve(self, contracts: Sequence[Contract]) -> None:
        """Read the worlds that are opened from now on with other contracts."""
        self._reader = replace(self._reader, contracts=contracts)
        found = self._store.found or Meta()
        digests = {contract.key: digest(contract) for contract in contracts}
        self._store.write_meta(replace(found, contracts={**found.contracts, **digests}))

    # The archive of `Worlds`.

    def open(self, world: World) -> None:
        """Fill a new world with what is kept of it, and have its changes kept."""
        world.unkept = world.jobs.unkept = Unkept(world.handle, self._changed)
        if self.knows(world.handle) and self._reader.restore(world):
            world.unkept.has_earlier_attempts = True
            self._resume(world)
        else:
            world.unkept.touch()
        self._known.add(world.handle)

    def wake(self, world: World) -> Iterator[None]:
        """Read the index of the jobs that have ended, in steps."""
        return self._reader.wake(world)

    async def until_ready(self, handle: str) -> None:
        """Wait until a world is read; other requests go on between its steps. Does nothing for one that is ready."""
        assert self._worlds is not None
        if handle not in self._waiting and self._worlds.is_ready(handle):
            return
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(handle, []).append(waiter)
        if len(self._waiting[handle]) == 1:
            task = loop.create_task(self._read(handle, self._worlds))
            self._reading.add(task)
            task.add_done_callback(self._reading.discard)
        await waiter

    async def _read(self, handle: str, worlds: Worlds) -> None:
        """Read a world, then wake what waits for it."""
        failed: Exception | None = None
        try:
            for _ in worlds.waking(handle):
                await asyncio.sleep(0)
        except Exception as error:
            failed = error
        for waiter in self._waiting.pop(handle):
            if waiter.done():
                continue
            if failed is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(failed)

    def knows(self, handle: str) -> bool:
        """Whether a world is kept."""
        return handle in self._known and self._dropped.get(handle, 0) <= self._store.kept

    def has(self, provider: str, job_id: str) -> bool:
        """Whether any kept world has a provider's job."""
        return self._store.read(lambda db: tables.owned(db, provider, job_id))

    def drop(self, world: World) -> None:
        """Forget a world entirely."""
        self._forget(world.handle)
        self._changed.discard(world.handle)
        world.unkept = world.jobs.unkept = None

    def make_room(self, most: int) -> None:
        """Forget the kept worlds that were used least recently and are not open, if there are as many as allowed."""
        if self._worlds is None or len(self._known) - self._busy < most:
            return
        idle = [handle for handle in self._store.read(tables.idle_handles) if handle in self._known]
        self._busy = len(self._known) - len(idle)
        closed = [handle for handle in idle if self._worlds.opened(handle) is None]
        for handle in closed[: excess(len(idle), most)]:
            self._forget(handle)

    def _forget(self, handle: str) -> None:
        self._known.discard(handle)
        self._dropped = {name: number for name, number in self._dropped.items() if number > self._store.kept}
        changes = Changes(world=handle, erased=frozenset({"head"}), checked=False)
        self._dropped[handle] = self._store.put(changes)

    def _resume(self, world: World) -> None:
        """Schedule the dues of a world again."""
        services, dues = self._services, self._reader.dues(world)
        assert services is not None
        for due in dues:
            if due.job not in world.jobs:
                what = "fetch of pictures" if due.kind == FETCHING else "callback"
                report(f"world {world.handle}: a {what} of the job {due.job} is dropped: the job is not kept")
            try:
                if due.kind == FETCHING:
                    resume_fetch(services, world, due)
                else:
                    services.callback_dispatcher().resume(world, due)
            except LookupError as error:
                raise unreadable(f"world {world.handle}: the due {due.number}", error) from error
        fetching = {due.job for due in dues if due.kind == FETCHING}
        for job in world.jobs.running.values():
            # Its pictures were fetched for a response to a client that is gone.
            if job.held and job.id not in fetching:
                job.release(world.clock.now())

    # The interface for responses and callbacks.

    async def kept(self, world: World) -> None:
        """Wait until everything that a response about a world may show is kept."""
        unkept = world.unkept
        if unkept is None:
            return
        if unkept.urgent:
            # After a turn of the event loop: requests that are decided in one turn share a transaction.
            self._urgent[world.handle] = world
            await asyncio.sleep(0)
            if unkept.urgent:
                # Again, for the case that another request has failed to write it.
                self._urgent[world.handle] = world
                self._write_urgent()
        if unkept.last > self._store.kept:
            await self._store.until_kept(unkept.last)

    def _write_urgent(self) -> None:
        """Write the worlds for which responses wait, in one transaction."""
        worlds, self._urgent = self._urgent, {}
        try:
            for world in worlds.values():
                self._write(world, wake=False)
        finally:
            self._store.write_now()

    def earlier_attempts(self, world: World) -> Iterable[CallbackAttempt]:
        """Return the attempts to deliver callbacks that an earlier process has made."""
        if world.unkept is None or not world.unkept.has_earlier_attempts:
            return ()
        world.unkept.has_earlier_attempts = False
        page = self._store.read(lambda db: tables.page(db, world.handle, "attempt", count=KEPT_LINES))
        return map(_read_attempt, page.records)

    async def written(self) -> None:
        """Wait until everything is written that has changed until now."""
        self._write_changed()
        with suppress(NotKept):
            await self._store.until_kept(self._store.put_last)

    async def listed(self, before: int | None, count: int) -> Heads:
        """Return the heads of worlds of this state, as they are now here. Raises NotKept if it cannot be reached."""
        await self.written()
        return await self._store.heads(before, count)

    def _write(self, world: World, *, wake: bool = True) -> None:
        """Put the noted changes of a world into the store, as one."""
        unkept, now = world.unkept, world.clock.now()
        if unkept is None:
            return
        # The ends of jobs belong to the same moment as the tallies in the head. A world that sleeps has no tallies.
        if self._worlds is not None and not self._worlds.is_asleep(world):
            world.jobs.settle(now)
        running, jobs = world.jobs.running, []
        for job in unkept.jobs.values():
            current = world.jobs.get(job.id)
            # It may have been forgotten since, by a reset, and its number be another job's.
            if current is not None and current.number == job.number:
                jobs.append(job_record(current, ended=current.number not in running, now=now))
        lines = []
        for entry in unkept.entries:
            entry.kept = True
            lines.append(line_of(entry, world.key))
        changes = Changes(
            world=world.handle,
            head=head_of(world, self.now()),
            jobs=jobs,
            keys=[key_record(*used) for used in unkept.keys],
            dues=tuple(unkept.dues.values()),
            exchanges=lines,
            attempts=[_attempt_record(number, attempt) for number, attempt in unkept.attempts],
            done=tuple(unkept.done),
            forgotten=tuple(unkept.forgotten),
            erased=frozenset(unkept.erased),
            checked=False,
        )
        unkept.clear()
        unkept.last = self._store.put(changes, wake=wake)

    def _write_changed(self) -> None:
        """Write the changes that no response has waited for."""
        changed = tuple(self._changed)
        self._changed.clear()
        for handle in changed:
            world = self._worlds.opened(handle) if self._worlds is not None else None
            if world is not None:
                self._write(world)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._write_changed()

    async def close(self) -> None:
        """Write everything, and let go of the store."""
        await end_tasks([*self._reading, *([self._ticking] if self._ticking is not None else ())])
        try:
            self._write_changed()
        finally:
            await self._store.close()


async def end_tasks(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks, and wait until they have ended. One that has failed earlier does not keep the others open."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _give_up(reason: str) -> None:
    """End the process: memory is ahead of the state, and nothing that was responded is lost."""
    print(f"hobbyhorse: {reason}; the server stops", file=sys.stderr, flush=True)
    os._exit(UNWRITABLE)


def _attempt_record(number: int, attempt: CallbackAttempt) -> AttemptRecord:
    return AttemptRecord(number, {**asdict(attempt), "body": base64.b64encode(attempt.body).decode()})


def _read_attempt(record: AttemptRecord) -> CallbackAttempt:
    return CallbackAttempt(**{**record.values, "body": base64.b64decode(record.values["body"])})
