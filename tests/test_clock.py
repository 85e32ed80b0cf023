"""The clock: real time moves on its own, a manual clock only when it is told to, and then in order."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.clock import ManualClock, RealClock

pytestmark = pytest.mark.anyio


@given(st.lists(st.floats(0, 1000), max_size=20), st.lists(st.floats(0, 300), min_size=1, max_size=8))
def test_a_manual_clock_runs_what_is_due_in_order_each_at_its_moment(delays: list[float], steps: list[float]) -> None:
    async def main() -> None:
        clock = ManualClock(start=0.0)
        ran: list[tuple[float, float]] = []
        for delay in delays:

            async def action(due: float = delay) -> None:
                ran.append((due, clock.now()))

            clock.at(delay, action)
        for step in steps:
            await clock.advance(step)
        now = clock.now()
        assert now == pytest.approx(sum(steps))
        assert [due for due, _ in ran] == sorted(delay for delay in delays if delay <= now)
        assert all(due == at for due, at in ran)

    asyncio.run(main())


async def test_what_an_action_adds_runs_in_the_same_advance_if_it_is_due() -> None:
    clock = ManualClock(start=0.0)
    ran: list[float] = []

    async def action() -> None:
        ran.append(clock.now())
        if len(ran) < 5:
            clock.at(clock.now() + 2, action)

    clock.at(1.0, action)
    await clock.advance(6)
    assert ran == [1.0, 3.0, 5.0]
    await clock.run_until_idle()
    assert ran == [1.0, 3.0, 5.0, 7.0, 9.0]
    assert clock.now() == 9.0


async def test_sleepers_wake_when_their_moment_has_come() -> None:
    clock = ManualClock(start=0.0)
    sleeper = asyncio.create_task(clock.sleep_until(10))
    await clock.advance(9.5)
    assert not sleeper.done()
    await clock.advance(0.5)
    await asyncio.wait_for(sleeper, 1)


async def test_a_sleeper_that_was_cancelled_breaks_nothing() -> None:
    clock = ManualClock(start=0.0)
    sleeper = asyncio.create_task(clock.sleep_until(10))
    await clock.advance(1)
    sleeper.cancel()
    await clock.advance(100)
    assert sleeper.cancelled()


async def test_a_clock_never_goes_back() -> None:
    with pytest.raises(ValueError, match="never goes back"):
        await ManualClock().advance(-1)


@pytest.mark.parametrize("speed", [0, -1, float("nan")])
def test_a_clock_needs_a_speed(speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        RealClock(speed)


async def test_a_fast_clock_runs_ahead_of_real_time_and_runs_what_is_due() -> None:
    clock = RealClock(speed=1e6)
    ran = asyncio.Event()

    async def action() -> None:
        ran.set()

    clock.at(clock.now() + 3600, action)
    await asyncio.wait_for(ran.wait(), 10)
    before = clock.now()
    await clock.sleep_until(before + 1000)
    assert clock.now() >= before + 1000


async def test_a_closed_clock_runs_nothing_more() -> None:
    clock = RealClock()
    ran: list[int] = []

    async def action() -> None:
        ran.append(1)

    clock.at(clock.now() + 0.01, action)
    await asyncio.sleep(0)
    clock.close()
    await clock.sleep_until(clock.now() + 0.05)
    assert ran == []
