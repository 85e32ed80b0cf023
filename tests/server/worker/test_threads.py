"""A computation leaves the event loop free, and a key has one at a time."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from hobbyhorse.server.worker.threads import MOST_THREADS, WorldThreads

pytestmark = pytest.mark.anyio


async def test_a_key_computes_one_thing_at_a_time_and_another_key_does_not_wait_for_all_of_them() -> None:
    threads, now, most = WorldThreads(), 0, 0
    lock = threading.Lock()

    def work() -> str:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        return threading.current_thread().name

    busy = [asyncio.ensure_future(threads.run("busy", work)) for _ in range(20)]
    await asyncio.sleep(0)
    name = await threads.run("other", work)
    assert name.startswith("world")
    assert not busy[-1].done()
    await asyncio.gather(*busy)
    assert most <= MOST_THREADS


async def test_the_event_loop_goes_on_during_a_computation() -> None:
    threads = WorldThreads()
    computing = asyncio.ensure_future(threads.run("a", lambda: sum(number * number for number in range(3_000_000))))
    turns = 0
    while not computing.done():
        turns += 1
        await asyncio.sleep(0.001)
    assert turns > 10


async def test_an_error_of_a_computation_is_raised() -> None:
    def fail() -> None:
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        await WorldThreads().run("a", fail)
