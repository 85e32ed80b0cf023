"""Turns are bounded by name, given in the order of arrival, and leave nothing behind."""

from __future__ import annotations

import asyncio

import pytest

from hobbyhorse.server.worker.turns import Turns

pytestmark = pytest.mark.anyio


async def test_names_have_turns_of_their_own_and_the_others_wait_in_order() -> None:
    turns, goes_on, begun = Turns(), asyncio.Event(), []

    async def use(name: str, number: int) -> None:
        async with turns.of(name, 2):
            begun.append((name, number))
            await goes_on.wait()

    tasks = [asyncio.ensure_future(use(name, number)) for name in "ab" for number in range(4)]
    await asyncio.sleep(0)
    assert begun == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert (turns.waiting("a"), turns.waiting("c"), len(turns)) == (4, 0, 2)
    goes_on.set()
    await asyncio.gather(*tasks)
    assert begun[4:] == [("a", 2), ("a", 3), ("b", 2), ("b", 3)]
    assert len(turns) == 0


async def test_a_wait_that_is_cancelled_gives_its_place_to_the_next_one() -> None:
    turns, goes_on, begun = Turns(), asyncio.Event(), []

    async def use(number: int) -> None:
        async with turns.of("a", 1):
            begun.append(number)
            await goes_on.wait()

    tasks = [asyncio.ensure_future(use(number)) for number in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    goes_on.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (begun, len(turns)) == ([0, 2], 0)
