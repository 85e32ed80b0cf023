"""From the records of a world to the world, in two steps: what runs at the start of the server, the rest on first use.

A start reads the worlds in which something runs: the head, the running jobs and the dues, but not the jobs that have
ended. Such a world sleeps. Its clock runs and its callbacks are sent, which needs no other job. It wakes when a request
or a link names it: then the index of its ended jobs is read, and a job itself when it is requested.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import orjson

from hobbyhorse.contract.values import Contract
from hobbyhorse.state import sqlite_tables as tables
from hobbyhorse.state.errors import unreadable
from hobbyhorse.state.records import KEPT_LINES, DueRecord, JobRecord
from hobbyhorse.state.store import WorldLog
from hobbyhorse.worlds.idempotency import IdempotencyKeys, UsedKey
from hobbyhorse.worlds.job_table import KeptEnd
from hobbyhorse.worlds.jobs import Job
from hobbyhorse.worlds.journal import Entry
from hobbyhorse.worlds.kept_jobs import JobReader, read_key
from hobbyhorse.worlds.kept_worlds import read_line, restore_world
from hobbyhorse.worlds.world import World

# Jobs that have ended, read in one step: about a millisecond, during which no other request goes on. A poll takes some
# turns of the event loop, and waits for a step in each.
JOBS_AT_ONCE = 100


def digest(contract: Contract) -> str:
    """Return a digest of everything in a contract that a job depends on, with its variants."""
    varied = (contract.graph, contract.idempotency, contract.retention, contract.polling, contract.callbacks)
    documents = orjson.dumps(contract.schemas.documents, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(documents + repr(varied).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class WorldReader:
    """Reads worlds from a store. `now` returns the store's time."""

    store: WorldLog
    contracts: Sequence[Contract]
    now: Callable[[], float]

    def restore(self, world: World) -> bool:
        """Restore what runs in a world; return False if the state has no such world. Raises StateError for damage."""
        head = self.store.read(lambda db: tables.find_head(db, world.handle))
        if head is None:
            return False
        reader = JobReader(self.contracts)
        with _part(f"world {world.handle}: the head"):
            restore_world(world, head, self.now(), reader.scenarios)
        records = self.store.read(lambda db: tables.running_jobs(db, world.handle))
        # The start was refused if a provider with running jobs is not served.
        records = [record for record in records if record.provider in reader.contracts]
        running = [_read_job(reader, world.handle, record) for record in records]
        called = self.store.read(lambda db: tables.called(db, world.handle))
        with _part(f"world {world.handle}: the head"):
            tallies, total = head.values["jobs"], head.values["journal"]
            world.jobs.restore(tallies, running, lambda job_id: self._job(reader, world.handle, job_id), called)
        for job, record in zip(running, records, strict=True):
            if record.values["queued"]:
                world.wait_in_queue(job)
        world.idempotency = IdempotencyKeys(kept=lambda provider, key: self._key(world.handle, provider, key))
        world.journal.restore(total, lambda: self._lines(world.handle, total))
        return True

    def wake(self, world: World) -> Iterator[None]:
        """Restore the rest of a world, in steps of `JOBS_AT_ONCE` jobs."""
        served = {contract.key for contract in self.contracts}
        return world.jobs.restore_ended(self._ended(world.handle, served))

    def dues(self, world: World) -> list[DueRecord]:
        """Return the dues of a world."""
        return self.store.read(lambda db: tables.dues(db, world.handle))

    def _ended(self, handle: str, served: set[str]) -> Iterator[Iterable[KeptEnd]]:
        """Yield the jobs of a world that have ended, in pages. Meanwhile none may end: the world sleeps."""
        page = self.store.read(lambda db: tables.ended(db, handle, JOBS_AT_ONCE))
        while page:
            yield [end for end in page if end[2] in served]
            last = page[-1][0]
            page = self.store.read(lambda db, last=last: tables.ended(db, handle, JOBS_AT_ONCE, after=last))  # type: ignore[misc]

    def _job(self, reader: JobReader, handle: str, job_id: str) -> Job:
        """Read a job that has ended."""
        return _read_job(reader, handle, self.store.read(lambda db: tables.job_of_world(db, handle, job_id)))

    def _key(self, handle: str, provider: str, key: str) -> UsedKey | None:
        """Read the use of an idempotency key."""
        found = self.store.read(lambda db: tables.find_key(db, handle, provider, key))
        if found is None:
            return None
        with _part(f"world {handle}: the key {key!r}"):
            return read_key(found)

    def _lines(self, handle: str, total: int) -> Iterator[Entry]:
        """Read the lines of a journal up to a total: later ones are of this process, and in memory too."""
        page = self.store.read(lambda db: tables.page(db, handle, "exchange", before=total, count=KEPT_LINES))
        with _part(f"world {handle}: the journal"):
            return iter([read_line(record) for record in page.records])


def _read_job(reader: JobReader, handle: str, record: JobRecord) -> Job:
    with _part(f"world {handle}: the job {record.id}"):
        return reader.job(record)


@contextmanager
def _part(what: str) -> Iterator[None]:
    """Raise StateError, which names a part of the state, for any error while it is read."""
    try:
        yield
    except Exception as error:
        raise unreadable(what, error) from error
