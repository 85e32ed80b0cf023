"""What is in a state, and what is wrong with it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from hobbyhorse.state import inspection
from hobbyhorse.state.errors import StateError
from hobbyhorse.state.inspection import lines, problems, summary
from hobbyhorse.state.memory import MemoryStore
from hobbyhorse.state.records import AttemptRecord, DueRecord, ExchangeRecord, Head, JobRecord, KeyRecord
from hobbyhorse.state.redis import RedisStore, open_to_read
from hobbyhorse.state.sqlite import SqliteReader, SqliteStore
from hobbyhorse.state.store import Changes, Meta
from tests.state.redis_server import needs_redis, shared_redis

pytestmark = pytest.mark.anyio


class Readable(MemoryStore):
    async def damage(self) -> Sequence[str]:
        return []


@pytest.fixture
async def state() -> Readable:
    store = Readable()
    await store.set_meta(Meta(3, {"acme": "ab"}))
    jobs = [JobRecord(number, f"job-{number}", "acme", end="done", kind="success") for number in range(5)]
    head = Head(begun=6, values={"jobs": [0, 6, 0, 0, "0"]})
    keys = [KeyRecord("acme", "k", "ff", "job-0", 9.0), KeyRecord("acme", "claimed", lease=9.0)]
    dues = [DueRecord(1, 5.0, "attempt", "job-5")]
    running = JobRecord(5, "job-5", "acme")
    await store.keep(Changes(world="a", head=head, jobs=[*jobs, running], keys=keys, dues=dues))
    await store.keep(Changes(world="b", head=Head(), exchanges=[ExchangeRecord(1)]))
    return store


async def test_the_summary_counts_every_kind(state: Readable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "PAGE", 2)
    assert await summary(state) == {
        "format": 1,
        "seed": 3,
        "contracts": {"acme": "ab"},
        "worlds": 2,
        "jobs": 6,
        "running": 1,
        "keys": 2,
        "dues": 1,
        "exchanges": 1,
        "attempts": 0,
    }
    assert (await summary(Readable()))["format"] is None


async def test_the_export_has_one_line_for_each_record(state: Readable) -> None:
    found = [orjson.loads(line) async for line in lines(state)]
    assert found[0] == {"kind": "meta", "record": {"seed": 3, "contracts": {"acme": "ab"}, "format": 1}}
    assert [(one["kind"], one["world"]) for one in found[1:]] == [
        ("head", "a"),
        *[("job", "a")] * 6,
        *[("key", "a")] * 2,
        ("due", "a"),
        ("head", "b"),
        ("exchange", "b"),
    ]


async def test_a_sound_state_has_no_problems(state: Readable) -> None:
    assert await problems(state) == []


async def test_each_contradiction_is_a_problem(state: Readable, tmp_path: Path) -> None:
    stray = [JobRecord(9, "job-9", "acme"), JobRecord(6, "job-6", "acme", end="done")]
    due, key = DueRecord(2, 5.0, "attempt", "gone"), KeyRecord("acme", "other", "ff", "gone", 9.0)
    await state.keep(Changes(world="a", jobs=stray, dues=[due], keys=[key], checked=False))
    await state.keep(Changes(world="c", jobs=[JobRecord(0, "job-0", "acme")], checked=False))
    assert sorted(await problems(state)) == [
        "the job 'job-0' is in two worlds, a and c",
        "world a: a due belongs to the job 'gone', which is not kept",
        "world a: a key belongs to the job 'gone', which is not kept",
        "world a: the job 'job-6' has half an end",
        "world a: the job 'job-6' has the number 6, which was never given",
        "world a: the job 'job-9' has the number 9, which was never given",
        "world c has no head",
    ]


GARBAGE = b"{"


def rows_of(folder: Path) -> None:
    """Write a state with one record of each kind."""
    store = SqliteStore(folder)
    store.put(
        Changes(
            world="a",
            head=Head(begun=1, values={"jobs": [0, 1, 0, 0, "0"], "running": 1, "kept": 1}),
            jobs=[JobRecord(0, "job-0", "acme")],
            keys=[KeyRecord("acme", "k", "ff", "job-0", 9.0)],
            dues=[DueRecord(1, 5.0, "attempt", "job-0")],
            exchanges=[ExchangeRecord(0)],
            attempts=[AttemptRecord(0)],
            checked=False,
        )
    )
    store.stop()


@pytest.mark.parametrize(
    ("table", "column", "title"),
    [
        ("world", "record", "the head"),
        ("job", "record", "the job 0"),
        ("key", "record", "the key 'k'"),
        ("due", "record", "the due 1"),
        ("exchange", "lines", "the exchange 0"),
        ("attempt", "record", "the attempt 0"),
    ],
)
async def test_every_record_that_cannot_be_read_is_a_problem(
    tmp_path: Path, table: str, column: str, title: str
) -> None:
    rows_of(tmp_path)
    db = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    db.execute(f"update {table} set {column} = ?", (GARBAGE,))
    db.close()
    reader = SqliteReader(tmp_path)
    found = await problems(reader)
    assert found[0].startswith(f"world a: {title} cannot be read: unexpected end of data")
    # Whatever belongs to an unreadable job does not know it any more.
    assert len(found) == (3 if table == "job" else 1)
    with pytest.raises(StateError, match=f"world a: {title} cannot be read.*`hobbyhorse state check` lists all damage"):
        _ = [line async for line in lines(reader)]
    await reader.close()


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("update due set job = 'nope'", ["world a: the due 1 has the job 'nope' in its row, 'job-0' in its record"]),
        ("update job set end = 'done'", ["world a: the job job-0 has the end 'done' in its row, '' in its record"]),
        ("update attempt set number = 9", ["world a: the attempt 9 has the number 9 in its row, 0 in its record"]),
        (
            "delete from job",
            [
                "world a: 1 running jobs were kept, but there are 0",
                "world a: 1 jobs were kept, but there are 0",
                "world a: a due belongs to the job 'job-0', which is not kept",
                "world a: a key belongs to the job 'job-0', which is not kept",
            ],
        ),
    ],
)
async def test_rows_that_were_changed_or_deleted_are_problems(
    tmp_path: Path, statement: str, expected: list[str]
) -> None:
    rows_of(tmp_path)
    db = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    db.execute(statement)
    db.close()
    reader = SqliteReader(tmp_path)
    assert await problems(reader) == expected
    await reader.close()


@needs_redis
async def test_damage_in_redis_is_listed_too() -> None:
    store = RedisStore(shared_redis())
    await store.open()
    due, key = DueRecord(1, 5.0, "attempt", "job-0"), KeyRecord("acme", "k", "ff", "job-0", 9.0)
    head, job, attempt = Head(begun=1), JobRecord(0, "job-0", "acme"), AttemptRecord(0)
    await store.keep(Changes(world="a", head=head, jobs=[job], keys=[key], dues=[due], attempts=[attempt]))
    call = store._redis.call
    await call("HSET", "hh:j:a", 0, GARBAGE)
    await call("HSET", "hh:k:a", "acme\0k", GARBAGE)
    await call("HSET", "hh:d:a", 1, GARBAGE)
    await call("HSET", "hh:a:a", 0, GARBAGE)
    await call("HSET", "hh:w:a", "head", GARBAGE)
    await call("RPUSH", "hh:e:a", b"1 " + GARBAGE)
    reader = await open_to_read(shared_url(store))
    found = await problems(reader)
    titles = [one.partition(" cannot be read")[0].removeprefix("world a: ") for one in found]
    assert titles == ["the head", "the job 0", "the attempt 0", "the due 1", "the exchange 0", "the key 'k'"]
    await call("SET", "hh:meta", b'{"format": "x"}')
    with pytest.raises(StateError, match="its format is 'x', not a number"):
        await reader.meta()
    await call("SET", "hh:meta", b"[]")
    with pytest.raises(StateError, match="its hh:meta cannot be read"):
        await store.meta()
    await reader.close()
    await store.close()


def shared_url(store: RedisStore) -> str:
    return f"redis://{store.address.host}:{store.address.port}/{store.address.database}"
