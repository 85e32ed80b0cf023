"""The first of several waits: its index, its exception, the end of the others; and a client that disconnects."""

from __future__ import annotations

import asyncio

import pytest

from hobbyhorse.clock.race import client_gone, first_of

pytestmark = pytest.mark.anyio


async def never(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("never")


async def immediate() -> None: ...


async def fails() -> None:
    raise OSError("it broke")


async def test_it_returns_the_index_of_the_first_and_cancels_the_others() -> None:
    ended: list[str] = []
    assert await first_of(never(ended), immediate()) == 1
    assert await first_of(immediate(), never(ended)) == 0
    assert ended == ["never", "never"]


async def test_an_exception_of_the_first_is_raised() -> None:
    ended: list[str] = []
    with pytest.raises(OSError, match="it broke"):
        await first_of(never(ended), fails())
    assert ended == ["never"]


async def test_a_wait_that_is_cancelled_from_elsewhere_counts_as_ended() -> None:
    ended: list[str] = []

    async def cancelled() -> None:
        raise asyncio.CancelledError

    assert await first_of(cancelled(), never(ended)) == 0


async def test_a_cancelled_race_cancels_its_waits() -> None:
    ended: list[str] = []
    task = asyncio.ensure_future(first_of(never(ended), never(ended)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert ended == ["never", "never"]


async def test_a_client_is_gone_with_its_disconnect_and_not_with_its_body() -> None:
    events = [{"type": "http.request", "more_body": True}, {"type": "http.request"}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, object]:
        return events.pop(0)  # type: ignore[return-value]

    await client_gone(receive)
    assert events == []
