"""Holds of the event loop: which request held it, and for how long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hobbyhorse.server.observing.held_loop import HELD_SECONDS, HeldLoop, Steps
from hobbyhorse.server.observing.observed import ObservedRequest

pytestmark = pytest.mark.anyio

REQUEST = ObservedRequest("GET", "/slow", ())
Holds = list[tuple[float, float, ObservedRequest | None]]


@contextmanager
def holds() -> Iterator[tuple[HeldLoop, Holds]]:
    found: Holds = []
    with HeldLoop(lambda *hold: found.append(hold)) as held:
        yield held, found


def block(seconds: float) -> None:
    time.sleep(seconds)


async def test_a_step_that_blocks_is_reported_with_its_request() -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        block(2 * HELD_SECONDS)
        await asyncio.sleep(0)

    with holds() as (held, found):
        await Steps(work(), held, REQUEST)
    ((seconds, worked, request),) = found
    assert seconds >= 2 * HELD_SECONDS
    assert worked < seconds
    assert request is REQUEST


async def test_waits_and_short_steps_are_not_reported() -> None:
    async def work() -> None:
        for _ in range(3):
            await asyncio.sleep(HELD_SECONDS / 2)

    found: Holds = []
    # Not entered: on a loaded machine the timer itself may be late.
    await Steps(work(), HeldLoop(lambda *hold: found.append(hold)), REQUEST)
    assert found == []


async def test_work_outside_requests_is_reported_without_a_request() -> None:
    with holds() as (_, found):
        await asyncio.sleep(0.03)
        block(3 * HELD_SECONDS)
        await asyncio.sleep(0.03)
    assert found[0][2] is None
    assert found[0][0] >= 2 * HELD_SECONDS


async def test_a_hold_that_a_request_explains_is_reported_once() -> None:
    async def work() -> None:
        block(4 * HELD_SECONDS)

    with holds() as (held, found):
        await asyncio.sleep(0.03)
        await Steps(work(), held, REQUEST)
        await asyncio.sleep(0.03)
    assert [request for _, _, request in found if request is not None] == [REQUEST]
    assert [seconds for seconds, _, request in found if request is None and seconds > 2 * HELD_SECONDS] == []


async def test_values_exceptions_and_cancellations_pass_through() -> None:
    held = HeldLoop(lambda *hold: None)
    seen: list[Any] = []
    begun = asyncio.Event()

    async def work() -> None:
        seen.append(await asyncio.wait_for(asyncio.sleep(0, "value"), 1))
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    task = asyncio.create_task(_awaited(Steps(work(), held, REQUEST)))
    await asyncio.wait_for(begun.wait(), 5)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["value", "cancelled"]

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Steps(fail(), held, REQUEST)


async def test_work_that_is_given_up_is_closed() -> None:
    log: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            log.append("closed")

    waiting = _awaited(Steps(work(), HeldLoop(lambda *hold: None), REQUEST))
    waiting.send(None)
    waiting.close()
    assert log == ["closed"]


async def _awaited(steps: Steps) -> None:
    await steps
