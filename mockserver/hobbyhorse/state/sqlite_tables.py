"""The tables of a SQLite state, and the statements that change and read them, each a part of a transaction.

A row has the members of a record that statements compare, and the whole record as JSON. Two kinds are different,
because only the newest `KEPT_LINES` of a world are kept. An attempt has a slot that a later one takes over. Lines of a
journal are many and small, so all that are written together are one row. The rows are merged when they are read, later
ones over earlier ones, and old rows are deleted after some hundred lines.

Where a statement names an index, SQLite would choose the primary key, and read every job of the world.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from hobbyhorse.state.errors import SEE, StateError, unreadable
from hobbyhorse.state.records import (
    KEPT_LINES,
    KINDS,
    LEASE_SECONDS,
    Damaged,
    DueRecord,
    ExchangeRecord,
    Head,
    JobRecord,
    KeyRecord,
    encode,
    read_record,
)
from hobbyhorse.state.store import Begun, Changes, Heads, Look, Page, TakenDue, check_kind

SCHEMA = """
create table if not exists meta (name text primary key, value text not null) without rowid;
create table if not exists world (
  handle text primary key, begun integer not null, version integer not null,
  base real not null, at real not null, speed real not null, used integer not null, record blob
) without rowid;
create table if not exists job (
  world text not null, number integer not null, id text not null, provider text not null, version integer not null,
  end text not null, kind text not null, hash text not null, record blob not null, primary key (world, number)
) without rowid;
create index if not exists job_by_id on job (id, provider, world);
create index if not exists job_running on job (world, number) where end = '';
create table if not exists key (
  world text not null, provider text not null, key text not null, job text not null, record blob not null,
  primary key (world, provider, key)
) without rowid;
create index if not exists key_by_job on key (world, job);
create table if not exists due (
  world text not null, number integer not null, moment real not null, job text not null, taken real not null default 0,
  record blob not null, primary key (world, number)
) without rowid;
create table if not exists exchange (
  id integer primary key, world text not null, last integer not null, lines blob not null
);
create index if not exists exchange_by_world on exchange (world, last);
create table if not exists attempt (
  world text not null, slot integer not null, number integer not null, record blob not null, unique (world, slot)
);
"""

Reading = Callable[[str, str, bytes, int | str], Any]
"""Reads the record of a world, of a kind, from JSON; the last argument is its number or name."""

# The members of records that rows repeat; a row's `begun` may be higher.
REPEATED: Mapping[str, tuple[str, ...]] = {
    "job": ("number", "id", "provider", "version", "end", "kind"),
    "key": ("provider", "key", "job"),
    "due": ("number", "moment", "job"),
    "attempt": ("number",),
}

PUT_WORLD = """
insert into world values (?, ?, ?, ?, ?, ?, ?, ?) on conflict (handle) do update set
begun = max(begun, excluded.begun), version = excluded.version, base = excluded.base, at = excluded.at,
speed = excluded.speed, used = excluded.used, record = excluded.record
"""
PUT_JOB = """
insert into job values (?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (world, number) do update set id = excluded.id,
provider = excluded.provider, version = excluded.version, end = excluded.end, kind = excluded.kind,
hash = excluded.hash, record = excluded.record
"""
PUT_KEY = "insert or replace into key values (?, ?, ?, ?, ?)"
PUT_DUE = "insert or replace into due values (?, ?, ?, ?, 0, ?)"
PUT_ATTEMPT = """
insert into attempt values (?, ?, ?, ?) on conflict (world, slot) do update
set number = excluded.number, record = excluded.record where excluded.number >= number
"""
# Lines after which old rows of a journal are deleted: seldom, because it is a statement more.
PRUNED_AFTER = 256


def succeeds(db: sqlite3.Connection, changes: Changes) -> bool:
    """Whether each record with a version is the successor of the stored one."""
    world, head = changes.world, changes.head
    if head is not None:
        found = None if "head" in changes.erased else _value(db, "select version from world where handle = ?", world)
        if head.version != (found or 0) + 1:
            return False
    erased = bool(changes.erased & {"head", "job"})
    query = "select version from job where world = ? and number = ?"
    return all(
        one.version == ((None if erased else _value(db, query, world, one.number)) or 0) + 1 for one in changes.jobs
    )


def _value(db: sqlite3.Connection, query: str, *given: object) -> Any:
    row = db.execute(query, given).fetchone()
    return None if row is None else row[0]


def put(db: sqlite3.Connection, changes: Changes) -> None:
    """Put changes that were checked."""
    world = changes.world
    if changes.erased:
        _erase(db, changes)
    if "head" in changes.erased and changes.head is None:
        # The world is forgotten, with whatever else the change has.
        return
    if changes.forgotten:
        _forget(db, world, changes.forgotten)
    if (head := changes.head) is not None:
        row = (world, head.begun, head.version, head.base, head.at, head.speed, head.used, encode(head))
        db.execute(PUT_WORLD, row)
    else:
        _open(db, world)
    if changes.jobs:
        db.executemany(PUT_JOB, [_job_row(world, one) for one in changes.jobs])
    _put_jobs_work(db, changes)
    if changes.exchanges:
        put_exchanges(db, [(world, one) for one in changes.exchanges])
    if changes.attempts:
        slots = [(world, one.number % KEPT_LINES, one.number, encode(one)) for one in changes.attempts]
        db.executemany(PUT_ATTEMPT, slots)


def _put_jobs_work(db: sqlite3.Connection, changes: Changes) -> None:
    """Put the idempotency keys and the dues of changes."""
    world = changes.world
    if changes.keys:
        keys = [(world, one.provider, one.key, one.job, encode(one)) for one in changes.keys]
        db.executemany(PUT_KEY, keys)
    if changes.dues:
        dues = [(world, one.number, one.moment, one.job, encode(one)) for one in changes.dues]
        db.executemany(PUT_DUE, dues)
    if changes.done:
        db.executemany("delete from due where world = ? and number = ?", [(world, number) for number in changes.done])
    if changes.released:
        names = [(world, *name) for name in changes.released]
        db.executemany("delete from key where world = ? and provider = ? and key = ? and job = ''", names)


def put_exchanges(db: sqlite3.Connection, lines: Iterable[tuple[str, ExchangeRecord]]) -> None:
    """Put lines of journals, each with its world."""
    by_world: dict[str, list[ExchangeRecord]] = {}
    for world, one in lines:
        by_world.setdefault(world, []).append(one)
    for world, found in by_world.items():
        last = max(one.number for one in found)
        db.execute("insert into exchange (world, last, lines) values (?, ?, ?)", (world, last, orjson.dumps(found)))
        if last // PRUNED_AFTER != (last - len(found)) // PRUNED_AFTER:
            db.execute("delete from exchange where world = ? and last <= ?", (world, last - KEPT_LINES))


def note(db: sqlite3.Connection, lines: Sequence[tuple[str, ExchangeRecord]]) -> None:
    """Put lines of journals that come without a change of their worlds."""
    for world in {world for world, _ in lines}:
        _open(db, world)
    put_exchanges(db, lines)


def strict(world: str, kind: str, text: bytes, name: int | str) -> Any:
    """Return a record, or the lines of a row. Raises StateError if it is damaged."""
    title = f"world {world}: the {kind} {name!r}"
    if kind != "exchange":
        return read_record(KINDS[kind], text, title)
    try:
        return {line["number"]: ExchangeRecord(line["number"], line["values"]) for line in orjson.loads(text)}
    except (ValueError, TypeError, LookupError) as error:
        raise unreadable(title, error) from None


def lenient(world: str, kind: str, text: bytes, name: int | str) -> Any:
    """Return a record, or the lines of a row, or what stands for it if it is damaged."""
    try:
        return strict(world, kind, text, name)
    except StateError as error:
        return Damaged(name if isinstance(name, int) else 0, str(error).removesuffix(SEE))


def contradictions(db: sqlite3.Connection) -> Iterator[str]:
    """Yield where a row and its record, if that can be read, tell different things."""
    for kind, names in REPEATED.items():
        for world, record, *row in db.execute(f"select world, record, {', '.join(names)} from {kind}"):
            try:
                found = read_record(KINDS[kind], record, "")
            except StateError:
                continue
            for name, value in zip(names, row, strict=True):
                if (other := getattr(found, name)) != value:
                    title = f"the {kind} {found.id if kind == 'job' else row[0]}"
                    yield f"world {world}: {title} has the {name} {value!r} in its row, {other!r} in its record"


def _lines(db: sqlite3.Connection, world: str, read: Reading) -> list[ExchangeRecord]:
    """Return the newest lines of a journal, in the order of their numbers."""
    rows = db.execute("select lines, last from exchange where world = ? order by id", (world,))
    return merged([read(world, "exchange", *row) for row in rows])


def merged(rows: Iterable[dict[int, ExchangeRecord] | Damaged]) -> list[Any]:
    """Return the newest lines of a journal, in the order of their numbers, after the rows that cannot be read."""
    found: dict[int, ExchangeRecord] = {}
    damaged = []
    for row in rows:
        if isinstance(row, Damaged):
            # Older than every line, so that it is in the last page.
            damaged.append(replace(row, number=-1))
        else:
            found |= row
    least = max(found, default=0) - KEPT_LINES
    return [*damaged, *(line for number, line in sorted(found.items()) if number > least)]


def _job_row(world: str, job: JobRecord) -> tuple[object, ...]:
    text = encode(job)
    return (world, job.number, job.id, job.provider, job.version, job.end, job.kind, job.order, text)


def _open(db: sqlite3.Connection, world: str) -> None:
    """Add a world without a head if it is new."""
    db.execute("insert or ignore into world values (?, 0, 0, 0, 0, 0, 0, null)", (world,))


def _erase(db: sqlite3.Connection, changes: Changes) -> None:
    for kind in KINDS if "head" in changes.erased else changes.erased:
        check_kind(kind)
        db.execute(f"delete from {kind} where world = ?", (changes.world,))
    if "head" in changes.erased:
        db.execute("delete from world where handle = ?", (changes.world,))


def _forget(db: sqlite3.Connection, world: str, numbers: Sequence[int]) -> None:
    """Forget jobs, with their keys and dues."""
    rows = [(world, number) for number in numbers]
    same = "world = ?1 and job = (select id from job where world = ?1 and number = ?2)"
    db.executemany(f"delete from key where {same}", rows)
    db.executemany(f"delete from due where {same}", rows)
    db.executemany("delete from job where world = ? and number = ?", rows)


def begin(db: sqlite3.Connection, world: str, provider: str, key: str | None, now: float) -> Begun:
    """Take the next job number of a world, and claim an idempotency key."""
    _open(db, world)
    number: int = _value(db, "select begun from world where handle = ?", world)
    db.execute("update world set begun = begun + 1 where handle = ?", (world,))
    if key is None:
        return Begun(number)
    found = find_key(db, world, provider, key)
    if found is not None:
        head = find_head(db, world) or Head(base=now)
        if found.lease > now if not found.job else found.until > head.now(now):
            return Begun(number, found)
    claim = KeyRecord(provider, key, lease=now + LEASE_SECONDS)
    db.execute(PUT_KEY, (world, provider, key, "", encode(claim)))
    return Begun(number)


def take(db: sqlite3.Connection, count: int, now: float) -> list[TakenDue]:
    """Take dues whose moment has come on the clock of their world."""
    rows = db.execute(
        "select due.world, due.number, due.record from due join world on handle = due.world and world.version > 0 "
        "where moment <= base + max(0, ? - at) * speed and taken <= ? order by moment, due.world, due.number limit ?",
        (now, now, count),
    ).fetchall()
    leases = [(now + LEASE_SECONDS, world, number) for world, number, _ in rows]
    db.executemany("update due set taken = ? where world = ? and number = ?", leases)
    return [TakenDue(world, strict(world, "due", record, number)) for world, number, record in rows]


def look(db: sqlite3.Connection, now: float, world: str, provider: str | None, job: str | None) -> Look:
    """Return a world's head, and a provider's job by id."""
    head = find_head(db, world)
    if provider is None or job is None:
        return Look(now, head)
    found = find_job(db, world, provider, job)
    return Look(now, head, found, found is None and owned(db, provider, job))


def find_head(db: sqlite3.Connection, world: str) -> Head | None:
    """Return the head of a world, or None."""
    record = _value(db, "select record from world where handle = ?", world)
    return None if record is None else read_record(Head, record, f"world {world}: the head")


def find_job(db: sqlite3.Connection, world: str, provider: str, job: str) -> JobRecord | None:
    """Return a provider's job by id, or None."""
    query = "select record from job indexed by job_by_id where id = ? and provider = ? and world = ?"
    record = _value(db, query, job, provider, world)
    return None if record is None else read_record(JobRecord, record, f"world {world}: the job {job}")


def owned(db: sqlite3.Connection, provider: str, job: str) -> bool:
    """Whether any world has a provider's job."""
    return _value(db, "select 1 from job where id = ? and provider = ? limit 1", job, provider) is not None


def find_key(db: sqlite3.Connection, world: str, provider: str, key: str) -> KeyRecord | None:
    """Return an idempotency key, or None."""
    record = _value(db, "select record from key where world = ? and provider = ? and key = ?", world, provider, key)
    return None if record is None else read_record(KeyRecord, record, f"world {world}: the key {key!r}")


def page(
    db: sqlite3.Connection,
    world: str,
    kind: str,
    *,
    provider: str | None = None,
    before: int | None = None,
    count: int = 100,
    read: Reading = strict,
) -> Page:
    """Return the newest records of a kind whose number is less than `before`; keys are not numbered, and all."""
    check_kind(kind)
    where, given = "world = ?", list[object]([world])
    if provider is not None:
        where, given = f"{where} and provider = ?", [*given, provider]
    if kind == "key":
        rows = db.execute(f"select record, key from key where {where} order by provider, key", given).fetchall()
        return Page([read(world, kind, record, key) for record, key in rows])
    if kind == "exchange":
        lines = [line for line in _lines(db, world, read) if before is None or line.number < before]
        return Page(lines[max(0, len(lines) - count) :], len(lines) > count)
    if before is not None:
        where, given = f"{where} and number < ?", [*given, before]
    rows = db.execute(
        f"select record, number from {kind} where {where} order by number desc limit ?", (*given, count + 1)
    ).fetchall()
    return Page([read(world, kind, *row) for row in reversed(rows[:count])], len(rows) > count)


def handles(db: sqlite3.Connection) -> list[str]:
    """Return the handles of all worlds, sorted."""
    return [handle for (handle,) in db.execute("select handle from world order by handle")]


def heads(db: sqlite3.Connection, before: int | None, count: int) -> Heads:
    """Return the number of worlds, and the heads of some of them, the last written first.

    `before` is in microseconds, as `Head.written`.
    """
    written = "cast(at * 1000000 as integer)"
    where = "record is not null" if before is None else f"record is not null and {written} < {before}"
    rows = db.execute(f"select handle, record from world where {where} order by at desc limit ?", (count,))
    total = _value(db, "select count(*) from world where record is not null")
    return total, [(handle, read_record(Head, record, f"world {handle}: the head")) for handle, record in rows]


def idle_handles(db: sqlite3.Connection) -> list[str]:
    """Return the handles of worlds in which nothing runs, least recently used first."""
    idle = (
        "not exists (select 1 from due where world = handle) and handle not in (select world from job where end = '')"
    )
    return [handle for (handle,) in db.execute(f"select handle from world where {idle} order by used")]


def busy(db: sqlite3.Connection) -> list[str]:
    """Return the handles of the worlds in which something runs."""
    rows = db.execute("select world from due union select world from job where end = '' order by world")
    return [handle for (handle,) in rows]


def last_used(db: sqlite3.Connection) -> int:
    """Return the number of the last request of any world."""
    return _value(db, "select max(used) from world") or 0


def running_jobs(db: sqlite3.Connection, world: str) -> list[JobRecord]:
    """Return the running jobs of a world, in the order of their numbers."""
    rows = db.execute(
        "select record, number from job indexed by job_running where world = ? and end = '' order by number", (world,)
    )
    return [strict(world, "job", *row) for row in rows]


def called(db: sqlite3.Connection, world: str) -> list[tuple[int, str]]:
    """Return number and id of the jobs of a world that have ended, and for which something is due."""
    query = (
        "select number, id from job indexed by job_by_id "
        "where id in (select job from due where world = ?1) and world = ?1 and end <> '' order by number"
    )
    return db.execute(query, (world,)).fetchall()


def ended(
    db: sqlite3.Connection, world: str, count: int, *, after: int = -1
) -> list[tuple[int, str, str, str, str, str]]:
    """Return number, id, provider, stage, class and order of the first jobs of a world that have ended, by number.

    `after` is the number of the last one that was returned before.
    """
    query = (
        "select number, id, provider, end, kind, hash from job "
        "where world = ? and number > ? and end <> '' order by number limit ?"
    )
    return db.execute(query, (world, after, count)).fetchall()


def job_of_world(db: sqlite3.Connection, world: str, job: str) -> JobRecord:
    """Return a job of a world by id; it must be there."""
    query = "select record from job indexed by job_by_id where id = ? and world = ?"
    return read_record(JobRecord, _value(db, query, job, world), f"world {world}: the job {job}")


def erase_jobs(db: sqlite3.Connection, world: str, count: int) -> int:
    """Erase some of the jobs of a world; return how many."""
    first = "select number from job where world = ?1 order by number limit ?2"
    return db.execute(f"delete from job where world = ?1 and number in ({first})", (world, count)).rowcount


def dues(db: sqlite3.Connection, world: str) -> list[DueRecord]:
    """Return the dues of a world, in the order in which they were added."""
    rows = db.execute("select record, number from due where world = ? order by number", (world,))
    return [strict(world, "due", *row) for row in rows]


def running(db: sqlite3.Connection) -> dict[str, int]:
    """Return the number of running jobs of each provider."""
    return dict(db.execute("select provider, count(*) from job where end = '' group by provider").fetchall())
