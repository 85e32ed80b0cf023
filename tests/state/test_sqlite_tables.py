"""The queries of the SQLite state that only a starting server needs."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from hobbyhorse.state import sqlite_tables as tables
from hobbyhorse.state.records import DueRecord, Head, JobRecord, KeyRecord
from hobbyhorse.state.store import Changes


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    found = sqlite3.connect(":memory:", isolation_level=None)
    found.executescript(tables.SCHEMA)
    ended: dict[str, Any] = {"end": "done", "kind": "success", "order": "ab"}
    jobs = [JobRecord(0, "a-0", "acme", **ended), JobRecord(1, "a-1", "acme"), JobRecord(2, "a-2", "acme", **ended)]
    dues = [DueRecord(1, 5.0, "attempt", "a-2"), DueRecord(2, 4.0, "attempt", "a-1")]
    keys = [KeyRecord("acme", "k", "ff", "a-0", 9.0)]
    tables.put(found, Changes(world="a", head=Head(used=5), jobs=jobs, dues=dues, keys=keys))
    tables.put(found, Changes(world="b", head=Head(used=3), jobs=[JobRecord(0, "b-0", "acme", **ended)]))
    tables.put(found, Changes(world="c", head=Head(used=4), dues=[DueRecord(1, 5.0, "attempt", "gone")]))
    tables.put(found, Changes(world="d", head=Head(used=1)))
    yield found
    found.close()


def test_a_start_finds_the_worlds_in_which_something_runs(db: sqlite3.Connection) -> None:
    assert tables.busy(db) == ["a", "c"]
    assert tables.handles(db) == ["a", "b", "c", "d"]
    assert tables.last_used(db) == 5
    assert tables.running(db) == {"acme": 1}


def test_a_start_reads_running_jobs_dues_and_the_jobs_that_they_need(db: sqlite3.Connection) -> None:
    assert [job.id for job in tables.running_jobs(db, "a")] == ["a-1"]
    assert [due.number for due in tables.dues(db, "a")] == [1, 2]
    assert tables.called(db, "a") == [(2, "a-2")]


def test_the_index_has_the_jobs_that_have_ended(db: sqlite3.Connection) -> None:
    ends = [(n, f"a-{n}", "acme", "done", "success", "ab") for n in (0, 2)]
    assert tables.ended(db, "a", 9) == ends
    assert [tables.ended(db, "a", 1), tables.ended(db, "a", 1, after=0), tables.ended(db, "a", 1, after=2)] == [
        ends[:1],
        ends[1:],
        [],
    ]
    assert tables.job_of_world(db, "a", "a-2").number == 2


def test_jobs_are_erased_in_parts(db: sqlite3.Connection) -> None:
    assert [tables.erase_jobs(db, "a", 2) for _ in range(3)] == [2, 1, 0]
    assert tables.owned(db, "acme", "b-0"), "the jobs of other worlds stay"


def test_idle_worlds_are_listed_least_recently_used_first(db: sqlite3.Connection) -> None:
    assert tables.idle_handles(db) == ["d", "b"]


def test_a_job_of_any_world_is_owned(db: sqlite3.Connection) -> None:
    assert (tables.owned(db, "acme", "b-0"), tables.owned(db, "other", "b-0")) == (True, False)


def test_no_look_up_reads_every_job_of_a_world(db: sqlite3.Connection) -> None:
    seen: list[str] = []
    db.set_trace_callback(seen.append)
    tables.find_job(db, "a", "acme", "a-2")
    tables.job_of_world(db, "a", "a-2")
    tables.owned(db, "acme", "a-2")
    tables.running_jobs(db, "a")
    tables.running(db)
    tables.busy(db)
    tables.called(db, "a")
    db.set_trace_callback(None)
    assert len(seen) == 7
    for query in seen:
        plan = " ".join(row[3] for row in db.execute(f"explain query plan {query}"))
        assert re.search("job USING (COVERING )?INDEX (job_by_id|job_running)", plan), (query, plan)


def test_each_other_look_up_uses_an_index(db: sqlite3.Connection) -> None:
    queries = (
        "select record from job where world = 'x' and number < 5 order by number desc limit 3",
        "select number from job where world = 'x' and number > 5 and end <> '' order by number limit 3",
        "select record from key where world = 'x' and provider = 'y' and key = 'z'",
        "delete from key where world = 'x' and job = 'y'",
        "select record from due where world = 'x' order by number",
    )
    for query in queries:
        plan = " ".join(row[3] for row in db.execute(f"explain query plan {query}"))
        assert "SCAN" not in plan, (query, plan)
        assert "TEMP" not in plan, (query, plan)
