"""Work in worker processes is bounded in time and memory, and taken in turns by owner."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from hobbyhorse.server.worker.error import WorkerError
from hobbyhorse.server.worker.pool import MOST_IDLE, MOST_WORKERS, PROCESSES, WorkerPool
from tests.server.worker.test_child import take_memory

pytestmark = pytest.mark.anyio

PATIENCE = 30.0


def end_the_process() -> None:
    os._exit(3)


async def error_of(pool: WorkerPool, owner: str, *work: object, seconds: float = PATIENCE) -> tuple[str, str]:
    with pytest.raises(WorkerError) as caught:
        await pool.run(owner, *work, seconds=seconds)  # type: ignore[arg-type]
    return caught.value.code, str(caught.value)


async def test_work_is_done_in_another_process_which_is_used_again() -> None:
    pool = WorkerPool()
    first = await pool.run("a", os.getpid, seconds=PATIENCE)
    assert first != os.getpid()
    assert await pool.run("b", os.getpid, seconds=PATIENCE) == first
    pool.close()
    other = WorkerPool()
    assert await other.run("b", os.getpid, seconds=PATIENCE) == first, "servers share the processes"
    other.close()


async def test_work_that_takes_too_long_is_abandoned_and_the_next_is_done() -> None:
    pool = WorkerPool()
    began = time.monotonic()
    assert await error_of(pool, "a", time.sleep, 60, seconds=0.1) == ("time", "it takes more than 0.1 s")
    assert time.monotonic() - began < 30
    assert (await error_of(pool, "a", pow, 3, 1 << 40, seconds=1.0))[0] == "time"
    assert await pool.run("a", max, 1, 2, seconds=PATIENCE) == 2
    pool.close()


async def test_a_process_that_ends_or_has_too_little_memory_is_reported() -> None:
    pool = WorkerPool()
    assert await error_of(pool, "a", end_the_process) == ("ended", "its process has ended")
    assert (await error_of(pool, "a", take_memory, 1 << 40))[0] == "memory"
    assert await error_of(pool, "a", int, "x") == (
        "failed",
        "ValueError: invalid literal for int() with base 10: 'x'",
    )
    pool.close()


async def test_a_key_takes_one_worker_and_another_key_does_not_wait_for_it() -> None:
    pool = WorkerPool()
    hundred = [asyncio.ensure_future(pool.run("busy", time.sleep, 60, seconds=PATIENCE)) for _ in range(100)]
    await asyncio.sleep(0.1)
    began = time.monotonic()
    assert await pool.run("other", max, 1, 2, seconds=PATIENCE) == 2
    assert time.monotonic() - began < 10
    assert len(pool._busy) == 1
    pool.close()
    await asyncio.gather(*hundred, return_exceptions=True)


async def test_many_keys_take_a_bounded_number_of_workers() -> None:
    pool = WorkerPool()
    tasks = [
        asyncio.ensure_future(pool.run(str(one), time.sleep, 1, seconds=PATIENCE)) for one in range(3 * MOST_WORKERS)
    ]
    most = 0
    while not all(task.done() for task in tasks):
        most = max(most, len(pool._busy))
        await asyncio.sleep(0.01)
    assert most == MOST_WORKERS
    assert len(PROCESSES._idle) <= MOST_IDLE
    pool.close()


async def test_a_close_ends_the_work_at_once() -> None:
    pool = WorkerPool()
    tasks = [asyncio.ensure_future(pool.run(str(one), time.sleep, 60, seconds=60.0)) for one in range(MOST_WORKERS)]
    while len(pool._busy) < MOST_WORKERS:  # noqa: ASYNC110 - the pool has no event
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)
    began = time.monotonic()
    pool.close()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert time.monotonic() - began < 5
    assert await error_of(pool, "late", max, 1, 2) == ("ended", "the server stops")


async def test_a_system_without_processes_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    PROCESSES.end()

    def refuse(*how: object, **more: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("subprocess.Popen", refuse)
    pool = WorkerPool()
    message = "no process could be started for it: Resource temporarily unavailable"
    assert await error_of(pool, "a", max, 1, 2) == ("ended", message)
    pool.close()
