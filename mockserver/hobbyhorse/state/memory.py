"""A store in the memory of the process: what every other store must do, in its simplest form.

A server without `--state` needs no store, because its worlds are its state. This store is the model that the tests
compare the others with, and serves programs that use the interface without a server.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from hobbyhorse.state.records import (
    KEPT_LINES,
    LEASE_SECONDS,
    AttemptRecord,
    DueRecord,
    ExchangeRecord,
    Head,
    JobRecord,
    KeyRecord,
)
from hobbyhorse.state.store import Begun, Changes, Look, Meta, Page, TakenDue, check_kind

Line = TypeVar("Line", ExchangeRecord, AttemptRecord)


@dataclass(slots=True)
class StoredWorld:
    """The records of one world: jobs and dues by number, lines by slot; and the times until which dues are taken."""

    head: Head | None = None
    begun: int = 0
    job: dict[int, JobRecord] = field(default_factory=dict)
    key: dict[tuple[str, str], KeyRecord] = field(default_factory=dict)
    due: dict[int, DueRecord] = field(default_factory=dict)
    exchange: dict[int, ExchangeRecord] = field(default_factory=dict)
    attempt: dict[int, AttemptRecord] = field(default_factory=dict)
    taken: dict[int, float] = field(default_factory=dict)
    ids: dict[tuple[str, str], int] = field(default_factory=dict)

    def find(self, provider: str | None, job: str | None) -> JobRecord | None:
        """Return a provider's job by id, or None."""
        number = self.ids.get((provider or "", job or ""))
        return None if number is None else self.job[number]

    def put(self, changes: Changes) -> None:
        """Put changes that were checked."""
        for kind in changes.erased - {"head"}:
            getattr(self, kind).clear()
        if "job" in changes.erased:
            self.ids.clear()
        self._forget(changes.forgotten)
        if changes.head is not None:
            self.head = changes.head
            self.begun = max(self.begun, changes.head.begun)
        self.job |= {one.number: one for one in changes.jobs}
        self.ids |= {(one.provider, one.id): one.number for one in changes.jobs}
        self.key |= {(one.provider, one.key): one for one in changes.keys}
        self.due |= {one.number: one for one in changes.dues}
        for exchange in changes.exchanges:
            self.note(exchange)
        for attempt in changes.attempts:
            _put_line(self.attempt, attempt)
        self._finish(changes)

    def _finish(self, changes: Changes) -> None:
        """Remove the dues that are done and the claims that are released."""
        for number in changes.done:
            self.due.pop(number, None)
        for name in changes.released:
            if name in self.key and not self.key[name].job:
                del self.key[name]
        for number in (*(one.number for one in changes.dues), *changes.done):
            self.taken.pop(number, None)

    def note(self, exchange: ExchangeRecord) -> None:
        """Put a line of the journal, in the place of the one that is `KEPT_LINES` older."""
        _put_line(self.exchange, exchange)

    def _forget(self, numbers: Iterable[int]) -> None:
        """Forget jobs, with their keys and dues."""
        gone = {job.id: job for number in numbers if (job := self.job.pop(number, None)) is not None}
        if gone:
            self.key = {name: one for name, one in self.key.items() if one.job not in gone}
            self.due = {number: one for number, one in self.due.items() if one.job not in gone}
        for job in gone.values():
            self.ids.pop((job.provider, job.id), None)


class MemoryStore:
    """A store that ends with its process. `now` returns the time, in seconds since 1970."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._meta: Meta | None = None
        self._worlds: dict[str, StoredWorld] = {}
        self._blobs: dict[str, bytes] = {}

    async def meta(self) -> Meta | None:
        """Return the facts that were set, or None for an empty store."""
        return self._meta

    async def set_meta(self, meta: Meta) -> None:
        """Set the facts."""
        self._meta = meta

    async def look(self, world: str, provider: str | None = None, job: str | None = None) -> Look:
        """Return a world's head, and a provider's job by id."""
        here = self._worlds.get(world) or StoredWorld()
        found = here.find(provider, job)
        elsewhere = found is None and job is not None and any(one.find(provider, job) for one in self._worlds.values())
        return Look(self._now(), here.head, found, elsewhere)

    async def begin(self, world: str, provider: str, key: str | None = None) -> Begun:
        """Take the next job number of a world, and claim an idempotency key."""
        here, now = self._open(world), self._now()
        number, here.begun = here.begun, here.begun + 1
        if key is None:
            return Begun(number)
        found = here.key.get((provider, key))
        if found is not None and _holds(found, here.head, now):
            return Begun(number, found)
        here.key[provider, key] = KeyRecord(provider, key, lease=now + LEASE_SECONDS)
        return Begun(number)

    async def keep(self, changes: Changes) -> bool:
        """Keep changes; return False, and keep nothing, if a version in them is not the successor of the stored one."""
        if changes.checked and not self._succeeds(changes):
            return False
        if "head" in changes.erased:
            self._worlds.pop(changes.world, None)
            if changes.head is None:
                return True
        self._open(changes.world).put(changes)
        return True

    def _succeeds(self, changes: Changes) -> bool:
        """Whether each record with a version is the successor of the stored one."""
        here = self._worlds.get(changes.world) or StoredWorld()
        kept = StoredWorld() if "head" in changes.erased else here
        jobs = {} if changes.erased & {"job", "head"} else here.job
        if changes.head is not None and changes.head.version != (kept.head.version if kept.head else 0) + 1:
            return False
        return all(one.version == (jobs[one.number].version if one.number in jobs else 0) + 1 for one in changes.jobs)

    def note(self, world: str, exchange: ExchangeRecord) -> None:
        """Keep the journal line of a request that changed nothing."""
        self._open(world).note(exchange)

    async def page(
        self, world: str, kind: str, *, provider: str | None = None, before: int | None = None, count: int = 100
    ) -> Page:
        """Return the newest records of a kind whose number is less than `before`; keys are not numbered, and all."""
        check_kind(kind)
        found: dict[Any, Any] = getattr(self._worlds.get(world) or StoredWorld(), kind)
        wanted = [one for one in found.values() if provider in (None, getattr(one, "provider", None))]
        if kind == "key":
            return Page(sorted(wanted, key=lambda one: (one.provider, one.key)))
        wanted.sort(key=lambda one: int(one.number))
        older = [one for one in wanted if before is None or one.number < before]
        return Page(older[max(0, len(older) - count) :], len(older) > count)

    async def worlds(self) -> Sequence[str]:
        """Return the handles of all worlds, sorted."""
        return sorted(self._worlds)

    async def take(self, count: int) -> Sequence[TakenDue]:
        """Take dues whose moment has come on the clock of their world, each for `LEASE_SECONDS`."""
        now = self._now()
        ready = [
            (due.moment, name, due)
            for name, here in self._worlds.items()
            for due in here.due.values()
            if here.head is not None and due.moment <= here.head.now(now) and here.taken.get(due.number, 0.0) <= now
        ]
        taken = [TakenDue(name, due) for _, name, due in sorted(ready, key=lambda one: (one[0], one[1], one[2].number))]
        for one in taken[:count]:
            self._worlds[one.world].taken[one.due.number] = now + LEASE_SECONDS
        return taken[:count]

    async def blob(self, name: str, content: bytes | None = None) -> bytes | None:
        """Keep a picture under its name if there is content; return the kept one, or None."""
        if content is not None:
            self._blobs[name] = content
        return self._blobs.get(name)

    async def close(self) -> None:
        """Let go of the store."""

    def _open(self, world: str) -> StoredWorld:
        return self._worlds.setdefault(world, StoredWorld())


def _put_line(lines: dict[int, Line], line: Line) -> None:
    """Put a line into its slot, unless a newer one has taken that over."""
    slot = line.number % KEPT_LINES
    if slot not in lines or lines[slot].number <= line.number:
        lines[slot] = line


def _holds(key: KeyRecord, head: Head | None, now: float) -> bool:
    """Whether a key is still used, or still claimed."""
    if not key.job:
        return key.lease > now
    return key.until > (head or replace(Head(), base=now)).now(now)
