"""The store in SQLite: what only it does. `test_store` has what every store does."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hobbyhorse.state import sqlite as module
from hobbyhorse.state import sqlite_tables as tables
from hobbyhorse.state.errors import StateError
from hobbyhorse.state.records import ExchangeRecord, Head, JobRecord
from hobbyhorse.state.sqlite import NOTE_SECONDS, SqliteReader, SqliteStore
from hobbyhorse.state.store import Changes, Meta

pytestmark = pytest.mark.anyio

WORLD = "0123456789abcdef"


async def test_the_next_store_has_everything(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.set_meta(Meta(3, {"acme": "ab"}))
    store.put(Changes(world=WORLD, head=Head(begun=2), jobs=[JobRecord(0, "job", "acme")], checked=False))
    store.note(WORLD, ExchangeRecord(1))
    await store.blob("picture", b"bytes")
    await store.close()
    store = SqliteStore(tmp_path)
    assert await store.meta() == Meta(3, {"acme": "ab"})
    assert (await store.look(WORLD, "acme", "job")).job == JobRecord(0, "job", "acme")
    assert (await store.begin(WORLD, "acme")).number == 2
    assert list((await store.page(WORLD, "exchange")).records) == [ExchangeRecord(1)]
    assert await store.blob("picture") == b"bytes"
    await store.close()


def test_what_was_kept_survives_a_kill_right_after_it(tmp_path: Path) -> None:
    code = """
import asyncio, os, sys
from pathlib import Path
from hobbyhorse.state.records import Head
from hobbyhorse.state.sqlite import SqliteStore
from hobbyhorse.state.store import Changes

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    for number in range(1, 100):
        await store.until_kept(store.put(Changes(world="w", head=Head(number), checked=False)))
        print(number, flush=True)
        if number == 50:
            store.put(Changes(world="w", head=Head(99), checked=False))
            os.kill(os.getpid(), 9)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, capture_output=True, text=True)
    assert done.returncode == -9
    assert done.stdout.split()[-1] == "50"
    store = SqliteStore(tmp_path)
    assert store.read(lambda db: db.execute("select version from world").fetchone()[0]) in (50, 99)
    store.stop()


async def test_changes_that_wait_together_are_one_transaction(tmp_path: Path) -> None:
    store, commits = SqliteStore(tmp_path), list[str]()
    await store.until_kept(store.put(Changes(world=WORLD, head=Head(), checked=False)))
    store._writing.set_trace_callback(lambda text: commits.append(text) if text == "commit" else None)
    with store._changed:  # the writer waits until all have come
        for _ in range(100):
            store._work.append((lambda db: None, None))
            store.put_last += 1
        store._changed.notify()
    await store.until_kept(store.put_last)
    assert commits == ["commit"]
    await store.close()


async def test_a_noted_line_is_written_soon_without_anything_else(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    began = time.monotonic()
    store.note(WORLD, ExchangeRecord(1))
    query = "select count(*) from exchange"
    while not store.read(lambda db: db.execute(query).fetchone()[0]):
        assert time.monotonic() - began < 20 * NOTE_SECONDS
        await asyncio.sleep(0.01)
    await store.close()


async def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.set_meta(Meta(0, {}, format=2))
    await store.close()
    with pytest.raises(StateError, match="has format 2, this program reads up to 1: use a newer one"):
        SqliteStore(tmp_path)
    with pytest.raises(StateError, match="has format 2"):
        SqliteReader(tmp_path)


async def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_text("no database at all, but a long text" * 100)
    with pytest.raises(StateError, match="is not a state: file is not a database"):
        SqliteStore(tmp_path)
    with pytest.raises(StateError, match="is not a state"):
        SqliteReader(tmp_path)
    with pytest.raises(StateError, match="has no state"):
        SqliteReader(tmp_path / "nowhere")


async def test_a_disk_that_is_full_for_a_moment_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, failures = SqliteStore(tmp_path), list[str]()
    store.on_failure = failures.append
    await store.until_kept(store.put(Changes(world=WORLD, head=Head(1), checked=False)))
    put, left = tables.put, [3]

    def full(db: sqlite3.Connection, changes: Changes) -> None:
        put(db, changes)
        if left[0]:
            left[0] -= 1
            raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(tables, "put", full)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.001)
    await store.until_kept(store.put(Changes(world=WORLD, head=Head(2), checked=False)))
    assert (await store.look(WORLD)).head == Head(2)
    assert failures == []
    await store.close()


@pytest.mark.parametrize("error", [sqlite3.OperationalError("database or disk is full"), TypeError("a mistake")])
async def test_a_store_that_cannot_be_written_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    store, failures = SqliteStore(tmp_path), list[str]()
    store.on_failure = failures.append

    def broken(db: sqlite3.Connection, changes: Changes) -> None:
        raise error

    monkeypatch.setattr(tables, "put", broken)
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    number = store.put(Changes(world=WORLD, head=Head(2), checked=False))
    store._writer.join(10)
    assert failures == [f"the state in {str(tmp_path)!r} cannot be written: {error}"]
    assert store.kept < number
    store.stop()


async def test_nothing_is_kept_in_a_folder_that_was_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "state"
    store, failures = SqliteStore(folder), list[str]()
    store.on_failure = failures.append
    await store.until_kept(store.put(Changes(world=WORLD, head=Head(1), checked=False)))
    shutil.rmtree(folder)
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    number = store.put(Changes(world=WORLD, head=Head(2), checked=False), wake=False)
    store.write_now()
    store._writer.join(10)
    assert failures == [f"the state in {str(folder)!r} cannot be written: its database was removed"]
    assert store.kept < number
    store.stop()


async def test_a_folder_that_comes_back_in_time_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, aside = tmp_path / "state", tmp_path / "aside"
    store = SqliteStore(folder)
    await store.until_kept(store.put(Changes(world=WORLD, head=Head(1), checked=False)))
    folder.rename(aside)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.001)
    number = store.put(Changes(world=WORLD, head=Head(2), checked=False), wake=False)
    store.write_now()
    assert store.kept < number
    aside.rename(folder)
    await store.until_kept(number)
    assert (await store.look(WORLD)).head == Head(2)
    await store.close()


async def test_full_synchronisation_is_an_option(tmp_path: Path) -> None:
    for full, expected in ((False, 1), (True, 2)):
        store = SqliteStore(tmp_path, full=full)
        assert store._writing.execute("pragma synchronous").fetchone() == (expected,)
        assert store._writing.execute("pragma journal_mode").fetchone() == ("wal",)
        await store.close()


async def test_a_reader_sees_one_moment_while_a_server_writes(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.set_meta(Meta(3))
    await store.keep(Changes(world=WORLD, head=Head(1), jobs=[JobRecord(0, "job", "acme")]))
    reader = SqliteReader(tmp_path)
    await store.keep(Changes(world=WORLD, head=Head(2), jobs=[JobRecord(1, "later", "acme")]))
    assert await reader.meta() == Meta(3)
    assert list(await reader.worlds()) == [WORLD]
    assert (await reader.look(WORLD)).head == Head(1)
    assert len((await reader.page(WORLD, "job")).records) == 1
    assert list(await reader.damage()) == []
    await reader.close()
    await store.close()


async def test_a_waiter_that_has_given_up_disturbs_nobody(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    waiting = asyncio.ensure_future(store.until_kept(store.put(Changes(world=WORLD, head=Head(1), checked=False))))
    await asyncio.sleep(0)
    waiting.cancel()
    assert await store.keep(Changes(world=WORLD, head=Head(2)))
    await store.close()


async def test_the_event_loop_writes_itself_while_the_writer_is_idle(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    number = store.put(Changes(world=WORLD, head=Head(1), checked=False), wake=False)
    store.write_now()
    assert store.kept == number, "without a turn of the event loop"
    assert (await store.look(WORLD)).head == Head(1)
    await store.close()


async def test_the_writer_takes_over_what_the_event_loop_may_not_wait_for(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("begin immediate")
    began = time.monotonic()
    number = store.put(Changes(world=WORLD, head=Head(1), checked=False), wake=False)
    store.write_now()
    assert time.monotonic() - began < 1, "it does not wait for the lock of another program"
    assert store.kept < number
    other.execute("rollback")
    await store.until_kept(number)
    assert (await store.look(WORLD)).head == Head(1)
    other.close()
    await store.close()


async def test_after_a_slow_commit_the_writer_commits_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOW_SECONDS", -1.0)
    store = SqliteStore(tmp_path)
    first = store.put(Changes(world=WORLD, head=Head(1), checked=False), wake=False)
    store.write_now()
    assert store.kept == first
    with store._batch:
        second = store.put(Changes(world=WORLD, head=Head(2), checked=False), wake=False)
        store.write_now()
        assert store.kept == first
    await store.until_kept(second)
    await store.close()


async def test_with_full_synchronisation_the_event_loop_never_commits(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, full=True)
    with store._batch:
        number = store.put(Changes(world=WORLD, head=Head(1), checked=False), wake=False)
        store.write_now()
        assert store.kept < number
    await store.until_kept(number)
    await store.close()
