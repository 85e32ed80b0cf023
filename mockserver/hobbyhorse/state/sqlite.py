"""A store in a folder of this machine, for one server: SQLite, written by one thread.

Everything that changes the database is done in the order in which it was asked for, in transactions of all that waits:
the more requests wait, the cheaper is each. The writer thread does it, or, if the writer is idle, the event loop itself
(`write_now`): a commit writes to the memory of the kernel, which takes less time than to wake a thread and to be woken.
Whatever may wait for the disk stays with the writer: checkpoints, `synchronous=FULL`, a database that another program
has locked, and for `SLOW_PAUSE` seconds everything after a commit that took long. So three things hold:

* A change has a number, and `kept` is the number of the last one that is in the database. A change is safe
  when `kept` has reached its number; the check is a comparison.
* A transaction survives the end of the process at any moment, because the kernel has it. With `synchronous=FULL` it
  also survives a loss of power.
* A transaction that fails (a full disk, a folder that was removed) is tried again for `PATIENCE` seconds. Then nothing
  may go on: memory is ahead of the database, and `on_failure` has to end the process. Nothing was responded that is
  lost.

Journal lines of reads are noted, not waited for: they are written with the next change, or after `NOTE_SECONDS`.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import orjson

from hobbyhorse.state import sqlite_tables as tables
from hobbyhorse.state.errors import StateError, unreadable
from hobbyhorse.state.folder import DATABASE, StateFolder, write_whole
from hobbyhorse.state.records import ExchangeRecord
from hobbyhorse.state.store import Begun, Changes, Heads, Look, Meta, Page, TakenDue, facts_of

# A kill loses at most that much of the journal's lines of reads.
NOTE_SECONDS = 0.25
# A disk that is full for a moment, such as by a log that is being rotated, must not end the server.
PATIENCE = 5.0
# Seconds between two tries of a failed transaction.
RETRY_SECONDS = 0.1
# A commit of the event loop that takes longer shows a slow disk: then the writer commits for a moment. Not for long,
# because a busy processor looks the same.
SLOW_SECONDS, SLOW_PAUSE = 0.03, 1.0
# Milliseconds for which a reader such as `state show` may hold up the writer.
BUSY_MS = 5_000

Found = TypeVar("Found")
Work = Callable[[sqlite3.Connection], Any]
Line = tuple[str, ExchangeRecord]


class SqliteStore:
    """The state in a folder. Raises StateError if the folder cannot be used.

    `now` returns the time, in seconds since 1970. If `full`, a change also survives a loss of power.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time, *, full: bool = False) -> None:
        self._now = now
        self.folder = StateFolder(path)
        self.on_failure: Callable[[str], None] = lambda reason: None
        """Called by the writer with the reason why nothing can be written any more."""
        self.put_last = self.kept = 0
        try:
            self._writing, self._reading = _connect(self.folder.database), _connect(self.folder.database)
            self._quick = None if full else _connect(self.folder.database)
            if self._quick is not None:
                # It waits for nothing: neither for a lock nor for a checkpoint.
                self._quick.execute("pragma busy_timeout = 0")
                self._quick.execute("pragma synchronous = normal")
                self._quick.execute("pragma wal_autocheckpoint = 0")
            # NORMAL syncs the log at checkpoints only, FULL at each commit.
            self._writing.execute(f"pragma synchronous = {'full' if full else 'normal'}")
            found = read_meta(self._writing)
            self._writing.executescript(tables.SCHEMA)
            self._file = os.stat(self.folder.database)
        except sqlite3.Error as error:
            self.folder.close()
            raise StateError(f"{str(path)!r} is not a state: {error}") from None
        except StateError:
            self.folder.close()
            raise
        self._found = found
        self._read_lock = threading.Lock()
        self._changed = threading.Condition()
        # Held while a batch of work is taken and done, so that no later batch overtakes it.
        self._batch = threading.Lock()
        self._quick_after = 0.0
        self._work: list[tuple[Work, asyncio.Future[Any] | None]] = []
        self._notes: list[Line] = []
        self._note_due = 0.0
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._writer = threading.Thread(target=self._write, name="state", daemon=True)
        self._writer.start()

    # For a live server: the only writer, with its worlds in memory.

    def put(self, changes: Changes, *, wake: bool = True) -> int:
        """Keep changes of the only writer soon; return their number. Without `wake`, `write_now` has to follow."""
        return self._ask(lambda db: tables.put(db, changes), None, wake=wake)

    def write_now(self) -> None:
        """Write the waiting changes on the event loop, or wake the writer if that might take long."""
        if self._quick is not None and time.monotonic() >= self._quick_after and self._batch.acquire(blocking=False):
            try:
                if self._write_quickly(self._quick):
                    return
            finally:
                self._batch.release()
        with self._changed:
            self._changed.notify()

    def _write_quickly(self, db: sqlite3.Connection) -> bool:
        """Write the waiting changes; return False if the writer has to try it again."""
        with self._changed:
            work, self._work = self._work, []
            last = self.put_last
        began = time.monotonic()
        try:
            db.execute("begin immediate")
            results = [one(db) for one, _ in work]
            self._check_place()
            db.execute("commit")
        except Exception:
            with suppress(sqlite3.Error):
                db.execute("rollback")
            # The writer tries it again, and gives up in order.
            with self._changed:
                self._work = work + self._work
            return False
        if time.monotonic() - began > SLOW_SECONDS:
            self._quick_after = time.monotonic() + SLOW_PAUSE
        self.kept = last
        self._settle(work, results)
        return True

    async def until_kept(self, number: int) -> None:
        """Wait until the change with a number, and all before it, are kept."""
        if number <= self.kept:
            return
        self._loop = asyncio.get_running_loop()
        waiter = self._loop.create_future()
        self._waiters.append((number, waiter))
        # The writer may have come past between the comparison and the entry in the list.
        if number <= self.kept:
            self._wake()
        await waiter

    def read(self, query: Callable[[sqlite3.Connection], Found]) -> Found:
        """Return what a query finds in the kept records, from any thread. Raises StateError for damage."""
        try:
            with self._read_lock:
                return query(self._reading)
        except sqlite3.Error as error:
            raise unreadable(f"the database in {str(self.folder.path)!r}", error) from None

    # The interface of a store.

    @property
    def found(self) -> Meta | None:
        """The facts that were set, or None for a new state."""
        return self._found

    async def meta(self) -> Meta | None:
        """Return the facts that were set, or None for an empty store."""
        return self._found

    async def set_meta(self, meta: Meta) -> None:
        """Set the facts."""
        self.write_meta(meta)
        await self.until_kept(self.put_last)

    def write_meta(self, meta: Meta) -> None:
        """Set the facts soon."""
        self._found = meta
        rows = [("format", meta.format), ("seed", meta.seed), ("contracts", dict(meta.contracts))]
        texts = [(name, orjson.dumps(value).decode()) for name, value in rows]
        self._ask(lambda db: db.executemany("insert or replace into meta values (?, ?)", texts), None)

    async def look(self, world: str, provider: str | None = None, job: str | None = None) -> Look:
        """Return a world's head, and a provider's job by id."""
        await self.until_kept(self.put_last)
        return self.read(lambda db: tables.look(db, self._now(), world, provider, job))

    async def begin(self, world: str, provider: str, key: str | None = None) -> Begun:
        """Take the next job number of a world, and claim an idempotency key."""
        return await self._done(lambda db: tables.begin(db, world, provider, key, self._now()))

    async def keep(self, changes: Changes) -> bool:
        """Keep changes; return False, and keep nothing, if a version in them is not the successor of the stored one."""

        def work(db: sqlite3.Connection) -> bool:
            if changes.checked and not tables.succeeds(db, changes):
                return False
            tables.put(db, changes)
            return True

        return await self._done(work)

    def note(self, world: str, exchange: ExchangeRecord) -> None:
        """Keep the journal line of a request that changed nothing, within 250 ms."""
        with self._changed:
            self._notes.append((world, exchange))
            if len(self._notes) == 1:
                self._note_due = time.monotonic() + NOTE_SECONDS
                self._changed.notify()

    async def page(
        self, world: str, kind: str, *, provider: str | None = None, before: int | None = None, count: int = 100
    ) -> Page:
        """Return the newest records of a kind whose number is less than `before`; keys are not numbered, and all."""
        await self._done(lambda db: None)
        return self.read(lambda db: tables.page(db, world, kind, provider=provider, before=before, count=count))

    async def worlds(self) -> Sequence[str]:
        """Return the handles of all worlds, sorted."""
        await self._done(lambda db: None)
        return self.read(tables.handles)

    async def heads(self, before: int | None, count: int) -> Heads:
        """Return the heads of worlds that were written before a moment."""
        await self._done(lambda db: None)
        return await asyncio.to_thread(self.read, lambda db: tables.heads(db, before, count))

    async def take(self, count: int) -> Sequence[TakenDue]:
        """Take dues whose moment has come on the clock of their world, each for `LEASE_SECONDS`."""
        return await self._done(lambda db: tables.take(db, count, self._now()))

    async def blob(self, name: str, content: bytes | None = None) -> bytes | None:
        """Keep a picture under its name if there is content; return the kept one, or None."""
        path = self.folder.pictures / name
        if content is not None:
            await asyncio.to_thread(write_whole, path, content)
            return content
        with suppress(FileNotFoundError):
            return await asyncio.to_thread(path.read_bytes)
        return None

    async def close(self) -> None:
        """Keep everything that was noted, and let go of the folder."""
        await asyncio.to_thread(self.stop)

    def stop(self) -> None:
        """Do as `close`, in a thread that may wait. Does nothing the second time."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._writer.join()
        self._reading.close()
        if self._quick is not None:
            self._quick.close()
        self.folder.close()

    # The writer.

    async def _done(self, work: Callable[[sqlite3.Connection], Found]) -> Found:
        """Let the writer do some work, and return its result when it is kept."""
        self._loop = asyncio.get_running_loop()
        future: asyncio.Future[Found] = self._loop.create_future()
        self._ask(work, future)
        return await future

    def _ask(self, work: Work, future: asyncio.Future[Any] | None, *, wake: bool = True) -> int:
        with self._changed:
            self._work.append((work, future))
            self.put_last += 1
            if wake:
                self._changed.notify()
            return self.put_last

    def _write(self) -> None:
        """Write until the store is closed and nothing is left to write."""
        while True:
            with self._changed:
                while not self._work and not self._closing and not self._is_note_due():
                    self._changed.wait(self._note_due - time.monotonic() if self._notes else None)
            with self._batch:
                with self._changed:
                    work, self._work = self._work, []
                    notes, self._notes = self._notes, []
                    last, closing = self.put_last, self._closing
                if work or notes:
                    results = self._transact(work, notes)
                    if results is None:
                        return
                    self.kept = last
                    self._report(work, results)
            if closing and not work and not notes:
                break
        self._writing.close()

    def _is_note_due(self) -> bool:
        return bool(self._notes) and time.monotonic() >= self._note_due

    def _transact(self, work: Sequence[tuple[Work, object]], notes: Sequence[Line]) -> list[Any] | None:
        """Do work in one transaction; return its results, or None if that is not possible."""
        until = time.monotonic() + PATIENCE
        db = self._writing
        while True:
            try:
                db.execute("begin immediate")
                # Before the changes: a change may have a later form of a line.
                tables.note(db, notes)
                results = [one(db) for one, _ in work]
                self._check_place()
                db.execute("commit")
            except Exception as error:
                with suppress(sqlite3.Error):
                    db.execute("rollback")
                # Any other error is a mistake of this program, which no second try mends.
                if time.monotonic() > until or not isinstance(error, sqlite3.Error):
                    self.on_failure(f"the state in {str(self.folder.path)!r} cannot be written: {error}")
                    return None
                time.sleep(RETRY_SECONDS)
            else:
                return results

    def _check_place(self) -> None:
        """Raise sqlite3.Error if the database was removed: SQLite would go on writing to a file without a name."""
        try:
            there = os.path.samestat(os.stat(self.folder.database), self._file)
        except OSError:
            there = False
        if not there:
            raise sqlite3.OperationalError("its database was removed")

    def _report(self, work: Sequence[tuple[Work, asyncio.Future[Any] | None]], results: Sequence[Any]) -> None:
        """Wake the tasks that wait for the written changes."""
        loop = self._loop
        if loop is None or not (self._waiters or any(future is not None for _, future in work)):
            return

        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(self._settle, work, results)

    def _settle(self, work: Sequence[tuple[Work, asyncio.Future[Any] | None]], results: Sequence[Any]) -> None:
        for (_, future), result in zip(work, results, strict=True):
            if future is not None and not future.done():
                future.set_result(result)
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiters = self._waiters, []
        for number, waiter in waiting:
            if number > self.kept:
                self._waiters.append((number, waiter))
            elif not waiter.done():
                waiter.set_result(None)


def _connect(database: Path, *, writable: bool = True) -> sqlite3.Connection:
    """Open the database; transactions begin and end by statements."""
    mode = "rwc" if writable else "ro"
    # The lock of `read` and the single writer keep two threads from one connection.
    db = sqlite3.connect(
        f"{database.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False
    )
    db.execute(f"pragma busy_timeout = {BUSY_MS}")
    if writable:
        db.execute("pragma journal_mode = wal")
    return db


def read_meta(db: sqlite3.Connection) -> Meta | None:
    """Return the facts of a state, or None if it is new. Raises StateError for a newer format, and for damage."""
    if not db.execute("select 1 from sqlite_master where name = 'meta'").fetchone():
        return None
    try:
        found: Mapping[str, Any] = {name: orjson.loads(value) for name, value in db.execute("select * from meta")}
    except ValueError as error:
        raise StateError(f"the state is damaged: its meta table cannot be read: {error}") from None
    return facts_of(found) if found else None


class SqliteReader:
    """The state in a folder as it is at one moment, also while a server uses it. Raises StateError."""

    def __init__(self, path: Path) -> None:
        if not (path / DATABASE).is_file():
            raise StateError(f"{str(path)!r} has no state")
        try:
            self._db = _connect(path / DATABASE, writable=False)
            # Everything is read in one transaction, which sees one moment.
            self._db.execute("begin")
            self._meta = read_meta(self._db)
        except sqlite3.Error as error:
            raise StateError(f"{str(path)!r} is not a state: {error}") from None

    async def meta(self) -> Meta | None:
        """Return the facts that were set, or None for an empty store."""
        return self._meta

    async def worlds(self) -> Sequence[str]:
        """Return the handles of all worlds, sorted."""
        return tables.handles(self._db)

    async def look(self, world: str, provider: str | None = None, job: str | None = None) -> Look:
        """Return a world's head, and a provider's job by id."""
        return tables.look(self._db, time.time(), world, provider, job)

    async def page(
        self, world: str, kind: str, *, provider: str | None = None, before: int | None = None, count: int = 100
    ) -> Page:
        """Return the newest records of a kind whose number is less than `before`; keys are not numbered, and all."""
        return tables.page(self._db, world, kind, provider=provider, before=before, count=count, read=tables.lenient)

    async def damage(self) -> Sequence[str]:
        """Return what SQLite finds wrong with the file, and the rows that disagree with their records."""
        try:
            rows = self._db.execute("pragma integrity_check").fetchall()
            if rows == [("ok",)]:
                return list(tables.contradictions(self._db))
        except sqlite3.Error as error:
            return [f"the database is damaged: {error}"]
        return [f"the database is damaged: {text}" for (text,) in rows]

    async def close(self) -> None:
        """Let go of the state."""
        self._db.close()
