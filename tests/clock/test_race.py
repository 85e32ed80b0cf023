"""The first of several waits: which it was, what it raises, and that the others are ended."""

from __future__ import annotations

import asyncio

import pytest

from hobbyhorse.clock.race import first_of

pytestmark = pytest.mark.anyio


async def never(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("never")


async def at_once() -> None: ...


async def fails() -> None:
    raise OSError("it broke")


async def test_it_returns_the_index_of_the_first_and_cancels_the_others() -> None:
    ended: list[str] = []
    assert await first_of(never(ended), at_once()) == 1
    assert await first_of(at_once(), never(ended)) == 0
    assert ended == ["never", "never"]


async def test_what_the_first_raises_is_raised() -> None:
    ended: list[str] = []
    with pytest.raises(OSError, match="it broke"):
        await first_of(never(ended), fails())
    assert ended == ["never"]


async def test_one_that_somebody_else_has_cancelled_has_just_ended() -> None:
    ended: list[str] = []

    async def cancelled() -> None:
        raise asyncio.CancelledError

    assert await first_of(cancelled(), never(ended)) == 0


async def test_who_waits_can_be_cancelled_and_takes_the_others_along() -> None:
    ended: list[str] = []
    task = asyncio.ensure_future(first_of(never(ended), never(ended)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert ended == ["never", "never"]
