"""The clock: each due action runs once, in order, at any speed and whatever is done to the clock meanwhile.

Running clocks read the time of an event loop that never waits: sleeps are skipped.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Callable, Coroutine
from math import inf, nan, nextafter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.clock.clock import Clock, ManualClock, RealClock, real_seconds

pytestmark = pytest.mark.anyio

Timed = Callable[[float], Clock]


# Turns without any time passing after which time moves by its smallest step: a timer that is due within the rounding
# error of the loop's time would otherwise fire early forever. Far more than a test ever makes in one moment.
MOST_SPINS = 1_000


class Skipping(selectors.SelectSelector):
    """A selector that lets time jump where it would wait, and refuses to wait forever."""

    passed = 0.0
    spins = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found:
            assert timeout is not None, "nothing is left that could ever happen"
            before, self.passed = self.passed, self.passed + timeout
            self.spins = self.spins + 1 if self.passed == before else 0
            if self.spins > MOST_SPINS:
                self.passed = nextafter(self.passed, inf)
        return found


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is the skipped one, from a moment on."""

    def __init__(self, begin: float = 0.0) -> None:
        self._skipping = Skipping()
        self._skipping.passed = begin
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.passed


def skip(main: Callable[[Timed], Coroutine[Any, Any, None]]) -> None:
    """Run a test in skipped time; it gets a factory of clocks that read this time and start at 1000."""
    loop = SkippingLoop()
    try:
        loop.run_until_complete(main(lambda speed: Clock(1000.0, speed, loop.time)))
    finally:
        loop.close()


class Loops:
    """Consecutive event loops in skipped time, each of which continues where the last one stopped."""

    def __init__(self) -> None:
        self.passed = 0.0

    def time(self) -> float:
        return self.passed if self._loop is None else self._loop.time()

    _loop: SkippingLoop | None = None

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine on an event loop of its own."""
        self._loop = SkippingLoop(self.passed)
        try:
            self._loop.run_until_complete(work)
        finally:
            self.passed = self._loop.time()
            self._loop.close()
            self._loop = None


class Log:
    """The actions that ran, with their moments."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.ran: list[tuple[float, float]] = []

    def at(self, moment: float) -> None:
        """Schedule a note that this moment has come."""

        async def action() -> None:
            self.ran.append((moment, self.clock.now()))

        self.clock.at(moment, action)


MOVES = st.one_of(
    st.tuples(st.just("at"), st.floats(-5, 300)),
    st.tuples(st.just("sleep"), st.floats(-5, 300)),
    st.tuples(st.just("advance"), st.floats(0, 100)),
    st.tuples(st.just("both"), st.floats(0, 100)),
    st.tuples(st.just("speed"), st.sampled_from([0.0, 0.5, 1.0, 1e4])),
    st.tuples(st.just("pass"), st.floats(0, 60)),
)


# ---- properties


@given(st.lists(st.floats(0, 1000), max_size=20), st.lists(st.floats(0, 300), min_size=1, max_size=8))
def test_a_standing_clock_runs_due_actions_in_order_each_at_its_moment(delays: list[float], steps: list[float]) -> None:
    async def main() -> None:
        clock = ManualClock(start=0.0)
        log = Log(clock)
        for delay in delays:
            log.at(delay)
        for step in steps:
            await clock.advance(step)
        now = clock.now()
        assert now == pytest.approx(sum(steps))
        assert [due for due, _ in log.ran] == sorted(delay for delay in delays if delay <= now)
        assert all(due == at for due, at in log.ran)

    asyncio.run(main())


@given(st.lists(MOVES, max_size=30), st.sampled_from([0.0, 1.0, 20.0]))
def test_whatever_is_done_to_a_clock_time_never_goes_back_and_everything_runs_once_when_due(  # noqa: C901
    moves: list[tuple[str, float]], speed: float
) -> None:
    async def main(timed: Timed) -> None:  # noqa: C901
        clock = timed(speed)
        wanted: list[float] = []
        ran: list[float] = []
        woken: list[float] = []
        sleepers: list[asyncio.Task[None]] = []
        seen = [clock.now()]

        def note(into: list[float], moment: float) -> None:
            assert clock.now() >= moment
            seen.append(clock.now())
            into.append(moment)

        async def sleep(moment: float) -> None:
            await clock.sleep_until(moment)
            note(woken, moment)

        for what, value in moves:
            if what == "at":
                moment = clock.now() + value
                wanted.append(moment)

                async def action(moment: float = moment) -> None:
                    note(ran, moment)

                clock.at(moment, action)
            elif what == "sleep":
                sleepers.append(asyncio.create_task(sleep(clock.now() + value)))
            elif what == "advance":
                before = clock.now()
                await clock.advance(value)
                assert clock.now() >= before + value
            elif what == "both":
                before = clock.now()
                await asyncio.gather(clock.advance(value), clock.advance(3.0))
                assert clock.now() == pytest.approx(before + value + 3.0)
            elif what == "speed":
                clock.set_speed(value)
                assert clock.speed == value
            else:
                await asyncio.sleep(value)
            seen.append(clock.now())
            if clock.speed == 0:
                await clock.advance(0.0)
                assert sorted(ran) == sorted(moment for moment in wanted if moment <= clock.now())
        clock.set_speed(0.0)
        await clock.run_until_idle()
        assert clock.waiting == 0
        assert sorted(ran) == sorted(wanted)
        await asyncio.gather(*sleepers)
        assert len(woken) == len(sleepers)
        assert seen == sorted(seen)

    skip(main)


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=20), st.floats(0.1, 1e4))
def test_a_running_clock_runs_everything_in_order_without_being_moved(delays: list[float], speed: float) -> None:
    async def main(timed: Timed) -> None:
        clock = timed(speed)
        log = Log(clock)
        begun = asyncio.get_running_loop().time()
        for delay in delays:
            log.at(1000.0 + delay)
        await clock.sleep_until(1000.0 + max(delays))
        await asyncio.sleep(0.001)
        assert [due for due, _ in log.ran] == sorted(1000.0 + delay for delay in delays)
        for due, at in log.ran:
            assert due <= at <= due + 0.001 * speed + 1e-6
        taken = asyncio.get_running_loop().time() - begun - 0.001
        assert taken == pytest.approx(max(delays) / speed, abs=0.001)

    skip(main)


# ---- a clock that stands


async def test_an_action_added_by_an_action_runs_in_the_same_advance_if_it_is_due() -> None:
    clock = ManualClock(start=0.0)
    ran: list[float] = []

    async def action() -> None:
        ran.append(clock.now())
        if len(ran) < 5:
            clock.at(clock.now() + 2, action)

    clock.at(1.0, action)
    await clock.advance(6)
    assert ran == [1.0, 3.0, 5.0]
    assert clock.waiting == 1
    await clock.run_until_idle()
    assert ran == [1.0, 3.0, 5.0, 7.0, 9.0]
    assert clock.now() == 9.0


async def test_running_until_idle_goes_no_further_than_it_may() -> None:
    clock = ManualClock(start=0.0)
    log = Log(clock)
    for moment in (1.0, 5.0, 6.0):
        log.at(moment)
    await clock.run_until_idle(most=5.5)
    assert [due for due, _ in log.ran] == [1.0, 5.0]
    assert clock.now() == 5.0
    for most in (-1, nan):
        with pytest.raises(ValueError, match="numbers of seconds from 0"):
            await clock.run_until_idle(most)


async def test_sleepers_wake_when_their_moment_has_come() -> None:
    clock = ManualClock(start=0.0)
    sleeper = asyncio.create_task(clock.sleep_until(10))
    await clock.advance(9.5)
    assert not sleeper.done()
    await clock.advance(0.5)
    assert sleeper.done()


async def test_a_sleeper_that_was_cancelled_no_longer_waits() -> None:
    clock = ManualClock(start=0.0)
    sleeper = asyncio.create_task(clock.sleep_until(10))
    other = asyncio.create_task(clock.sleep_until(11))
    await clock.advance(1)
    assert clock.waiting == 2
    sleeper.cancel()
    await asyncio.wait([sleeper])
    assert sleeper.cancelled()
    assert clock.waiting == 1
    await clock.advance(10)
    assert other.done()


@pytest.mark.parametrize("speed", [0.0, 1.0])
@pytest.mark.parametrize("seconds", [-1, -1e-9, nan, inf, -inf])
async def test_a_clock_never_goes_back(speed: float, seconds: float) -> None:
    clock = Clock(5.0, speed, lambda: 0.0)
    with pytest.raises(ValueError, match=r"cannot advance a clock by .*; allowed: finite numbers from 0"):
        await clock.advance(seconds)
    assert clock.now() == 5.0


async def test_a_moment_is_a_number() -> None:
    with pytest.raises(ValueError, match="the time of an action is nan; allowed:"):
        Log(ManualClock()).at(nan)


async def test_an_exception_of_an_action_reaches_the_caller_of_advance_and_the_rest_still_runs() -> None:
    clock = ManualClock(start=0.0)
    log = Log(clock)

    async def broken() -> None:
        raise LookupError("broken")

    log.at(1.0)
    clock.at(2.0, broken)
    log.at(3.0)
    with pytest.raises(LookupError, match="broken"):
        await clock.advance(10)
    assert (clock.now(), log.ran) == (2.0, [(1.0, 1.0)])
    await clock.advance(10)
    assert (clock.now(), log.ran) == (12.0, [(1.0, 1.0), (3.0, 3.0)])


async def test_an_action_may_advance_its_own_clock() -> None:
    clock = ManualClock(start=0.0)
    log = Log(clock)

    async def hurry() -> None:
        await clock.advance(5)
        assert clock.now() >= 8.0

    clock.at(3.0, hurry)
    for moment in (7.0, 14.0, 16.0):
        log.at(moment)
    await clock.advance(10)
    assert clock.now() == 15.0
    assert log.ran == [(7.0, 7.0), (14.0, 14.0)]


async def test_an_action_may_wait_for_a_task_that_advances_the_clock() -> None:
    """A receiver of callbacks may advance the clock while it handles a callback."""
    clock = ManualClock(start=0.0)

    async def ask() -> None:
        await asyncio.create_task(clock.advance(5))

    clock.at(3.0, ask)
    await clock.advance(10)
    assert clock.now() == 15.0


async def test_an_advance_that_is_cancelled_leaves_a_clock_that_works() -> None:
    clock = ManualClock(start=0.0)
    log = Log(clock)

    async def endless() -> None:
        await asyncio.get_running_loop().create_future()

    clock.at(1.0, endless)
    log.at(2.0)
    work = asyncio.create_task(clock.advance(10))
    for _ in range(5):
        await asyncio.sleep(0)
    work.cancel()
    await asyncio.wait([work])
    assert clock.now() == 1.0
    await clock.advance(3)
    assert (clock.now(), log.ran) == (4.0, [(2.0, 2.0)])


def test_a_standing_clock_needs_no_event_loop_until_it_is_advanced() -> None:
    clock = ManualClock(start=0.0)
    log = Log(clock)
    log.at(1.0)
    asyncio.run(clock.advance(0.5))
    asyncio.run(clock.advance(0.5))
    assert log.ran == [(1.0, 1.0)]


def test_a_sleeper_is_woken_from_another_thread() -> None:
    clock = ManualClock(start=0.0)
    begun, woken = threading.Event(), threading.Event()

    async def main() -> None:
        asyncio.get_running_loop().call_soon(begun.set)
        await clock.sleep_until(10)
        woken.set()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert begun.wait(30)
    while not clock.waiting:
        pass
    asyncio.run(clock.advance(10))
    assert woken.wait(30)
    thread.join()


# ---- a clock that runs


@pytest.mark.parametrize("speed", [0, -1, nan, inf])
def test_a_real_clock_needs_a_speed(speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        RealClock(speed)


@pytest.mark.parametrize("speed", [-1, nan, inf])
def test_an_invalid_speed_changes_nothing(speed: float) -> None:
    clock = RealClock(2.0)
    with pytest.raises(ValueError, match="stops the clock"):
        clock.set_speed(speed)
    assert clock.speed == 2.0


def test_the_two_ways_to_make_a_clock_make_the_same_kind() -> None:
    assert (RealClock().speed, RealClock(60).speed, ManualClock().speed) == (1.0, 60, 0.0)
    assert isinstance(RealClock(), Clock)
    assert isinstance(ManualClock(), Clock)
    assert ManualClock().now() == 1_767_225_600.0


async def test_a_fast_clock_runs_ahead_of_real_time_and_runs_due_actions() -> None:
    clock = RealClock(speed=1e6)
    ran = asyncio.Event()

    async def action() -> None:
        ran.set()

    clock.at(clock.now() + 3600, action)
    await asyncio.wait_for(ran.wait(), 10)
    before = clock.now()
    await clock.sleep_until(before + 1000)
    assert clock.now() >= before + 1000


def test_a_running_clock_that_is_advanced_jumps_and_runs_on_from_there() -> None:
    async def main(timed: Timed) -> None:
        clock = timed(2.0)
        log = Log(clock)
        for moment in (1010.0, 1104.0):
            log.at(moment)
        await clock.advance(100)
        assert clock.now() == 1100.0
        assert log.ran == [(1010.0, 1010.0)]
        await asyncio.sleep(1.9)
        assert len(log.ran) == 1
        await asyncio.sleep(0.2)
        assert [due for due, _ in log.ran] == [1010.0, 1104.0]
        assert clock.now() == pytest.approx(1104.2)

    skip(main)


def test_a_stopped_clock_keeps_its_actions_until_it_runs_again() -> None:
    async def main(timed: Timed) -> None:
        clock = timed(1.0)
        log = Log(clock)
        log.at(1010.0)
        sleeper = asyncio.create_task(clock.sleep_until(1010.0))
        await asyncio.sleep(4)
        clock.set_speed(0)
        await asyncio.sleep(1000)
        assert clock.now() == pytest.approx(1004.0)
        assert clock.waiting == 2
        clock.set_speed(3.0)
        await asyncio.sleep(1.9)
        assert not sleeper.done()
        await asyncio.sleep(0.2)
        assert sleeper.done()
        assert len(log.ran) == 1

    skip(main)


def test_an_earlier_action_is_not_held_up_by_one_that_waits_already() -> None:
    async def main(timed: Timed) -> None:
        clock = timed(1.0)
        log = Log(clock)
        for moment in (1_001_000.0, 1002.0, 1001.0, 1003.0):
            log.at(moment)
        await asyncio.sleep(3.5)
        assert [due for due, _ in log.ran] == [1001.0, 1002.0, 1003.0]
        await asyncio.sleep(1_000_000.0)
        assert [due for due, _ in log.ran][3:] == [1_001_000.0]

    skip(main)


def test_the_event_loop_has_one_timer_for_any_number_of_actions() -> None:
    async def main(timed: Timed) -> None:
        clock = timed(1.0)
        log = Log(clock)
        for moment in range(1020, 1000, -1):
            log.at(float(moment))
        timers = [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        assert len(timers) == 1
        await asyncio.sleep(21)
        assert len(log.ran) == 20

    skip(main)


def test_actions_of_a_running_clock_do_not_wait_for_one_another_and_one_that_breaks_stops_nothing() -> None:
    async def main(timed: Timed) -> None:
        reported: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context["exception"]))
        clock = timed(1.0)
        log = Log(clock)
        let_go = asyncio.get_running_loop().create_future()

        async def slow() -> None:
            await let_go

        async def broken() -> None:
            raise LookupError("broken")

        clock.at(1001.0, slow)
        clock.at(1002.0, broken)
        log.at(1003.0)
        await asyncio.sleep(4)
        assert len(log.ran) == 1
        assert [str(error) for error in reported] == ["broken"]
        let_go.set_result(None)
        await asyncio.sleep(0)

    skip(main)


def test_the_speed_may_change_while_a_running_clock_is_advanced() -> None:
    async def main(timed: Timed) -> None:
        clock = timed(1.0)

        async def stop() -> None:
            clock.set_speed(0.0)
            await asyncio.sleep(7)

        clock.at(1005.0, stop)
        await clock.advance(10)
        await asyncio.sleep(7)
        assert clock.now() == 1010.0

        async def go() -> None:
            clock.set_speed(4.0)

        clock.at(1012.0, go)
        await clock.advance(10)
        await asyncio.sleep(2)
        assert clock.now() == pytest.approx(1028.0)

    skip(main)


def test_a_running_clock_needs_an_event_loop_for_an_action() -> None:
    clock = RealClock()
    with pytest.raises(RuntimeError, match="event loop"):
        Log(clock).at(clock.now() + 1)
    assert clock.waiting == 0


def test_a_clock_that_begins_to_run_without_an_event_loop_is_wound_by_the_next_call_in_one() -> None:
    loops = Loops()
    clock = Clock(0.0, 0.0, loops.time)
    log = Log(clock)
    log.at(5.0)
    clock.set_speed(10.0)
    loops.run(clock.sleep_until(6.0))
    assert [due for due, _ in log.ran] == [5.0]


def test_a_clock_serves_one_event_loop_after_the_other() -> None:
    """Actions that a closed loop has not run are run by the next loop, after the first call of the clock there."""
    loops = Loops()
    clock = Clock(0.0, 1.0, loops.time)
    log = Log(clock)

    async def add(moment: float) -> None:
        log.at(moment)

    loops.run(add(100.0))
    loops.run(add(200.0))
    assert log.ran == []
    loops.run(clock.sleep_until(300.0))
    assert [due for due, _ in log.ran] == [100.0, 200.0]
    assert clock.waiting == 0


def test_the_speed_may_be_set_from_another_thread() -> None:
    clock = RealClock(1e-6)
    begun = threading.Event()

    async def main() -> None:
        asyncio.get_running_loop().call_later(0, begun.set)
        await clock.sleep_until(clock.now() + 3_600)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert begun.wait(30)
    clock.set_speed(1e6)
    thread.join(30)
    assert not thread.is_alive()


# ---- a clock that is moved step by step


def test_a_step_goes_to_its_moment_but_not_past_a_due_action() -> None:
    clock = ManualClock(start=0.0)
    assert clock.next_due is None
    clock.step(5.0)
    assert clock.now() == 5.0
    clock.step(3.0)
    assert clock.now() == 5.0, "time never goes back"

    async def main() -> None:
        log = Log(clock)
        log.at(8.0)
        assert clock.next_due == 8.0
        clock.step(7.0)
        await asyncio.sleep(0)
        assert (clock.now(), log.ran) == (7.0, [])
        clock.step(100.0)
        await asyncio.sleep(0)
        assert (clock.now(), log.ran, clock.waiting) == (8.0, [(8.0, 8.0)], 0)

    asyncio.run(main())


def test_a_step_begins_the_first_that_is_due_and_waits_for_nothing() -> None:
    clock = ManualClock(start=0.0)
    ran: list[str] = []

    async def main() -> None:
        gate = asyncio.Event()

        async def slow() -> None:
            await gate.wait()
            ran.append("slow")

        async def quick() -> None:
            ran.append("quick")

        clock.at(1.0, slow)
        clock.at(1.0, quick)
        clock.step(1.0)
        await asyncio.sleep(0)
        assert (ran, clock.working, clock.next_due) == ([], 1, 1.0)
        clock.step(1.0)
        await asyncio.sleep(0)
        assert (ran, clock.working, clock.next_due) == (["quick"], 1, None)
        gate.set()
        await asyncio.sleep(0.001)
        assert (ran, clock.working) == (["quick", "slow"], 0)

    asyncio.run(main())


def test_a_sleeper_is_woken_by_a_step_at_its_moment() -> None:
    clock = ManualClock(start=0.0)

    async def main() -> None:
        sleeper = asyncio.create_task(clock.sleep_until(4.0))
        await asyncio.sleep(0)
        clock.step(9.0)
        await sleeper
        assert (clock.now(), clock.working) == (4.0, 0)

    asyncio.run(main())


def test_closing_cancels_actions_begun_by_a_step() -> None:
    clock = ManualClock(start=0.0)

    async def main() -> None:
        clock.at(1.0, asyncio.Event().wait)  # type: ignore[arg-type]
        clock.step(1.0)
        await asyncio.sleep(0)
        assert clock.working == 1
        clock.close()
        await asyncio.sleep(0.001)
        assert clock.working == 0

    asyncio.run(main())


def test_a_running_clock_cannot_be_stepped() -> None:
    with pytest.raises(ValueError, match="set the speed to 0"):
        RealClock().step(0.0)


# ---- closing


@pytest.mark.parametrize("speed", [0.0, 1.0])
def test_a_closed_clock_runs_nothing_more_and_leaves_no_sleeper_hanging(speed: float) -> None:
    async def main(timed: Timed) -> None:
        clock = timed(speed)
        log = Log(clock)
        log.at(1001.0)
        sleeper = asyncio.create_task(clock.sleep_until(1002.0))
        await asyncio.sleep(0)
        clock.close()
        assert clock.waiting == 0
        await asyncio.sleep(5)
        assert sleeper.cancelled()
        await clock.advance(10)
        assert log.ran == []

    skip(main)


def test_closing_cancels_running_actions() -> None:
    async def main(timed: Timed) -> None:
        clock = timed(1.0)
        ended: list[str] = []

        async def endless() -> None:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

        clock.at(1001.0, endless)
        await asyncio.sleep(2)
        clock.close()
        await asyncio.sleep(0.001)
        assert ended == ["cancelled"]

    skip(main)


def test_a_clock_may_be_closed_and_used_again_after_its_event_loop_has_closed() -> None:
    loops = Loops()
    clock = Clock(0.0, 1.0, loops.time)
    log = Log(clock)

    async def add() -> None:
        log.at(50.0)

    loops.run(add())
    clock.close()
    loops.run(clock.sleep_until(100.0))
    assert log.ran == []


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Two clocks of a system that stand: the seconds of the wall clock, and of the monotonic one."""
    both = [1_000_000.0, 50.0]
    monkeypatch.setattr("time.time", lambda: both[0])
    monkeypatch.setattr("hobbyhorse.clock.clock.real_seconds", lambda: both[1])
    return both


def test_a_clock_knows_that_the_machine_has_slept(wall: list[float]) -> None:
    clock = RealClock()
    wall[:] = [1_000_010.0, 60.0]
    assert clock.now() == pytest.approx(1_000_010)
    wall[0] += 8 * 3_600  # the lid was opened
    assert clock.now() == pytest.approx(1_000_010 + 8 * 3_600)
    wall[:] = [wall[0] + 5, wall[1] + 5]
    assert clock.now() == pytest.approx(1_000_015 + 8 * 3_600)


def test_a_clock_does_not_follow_what_keeps_the_wall_clock_right(wall: list[float]) -> None:
    clock = RealClock()
    wall[:] = [1_000_010.9, 60.0]
    assert clock.now() == pytest.approx(1_000_010)


def test_a_wall_clock_that_is_set_back_does_not_stop_a_clock_and_a_reset_follows_it(wall: list[float]) -> None:
    clock = RealClock()
    wall[:] = [1_000_010.0 - 7_200, 60.0]
    assert clock.now() == pytest.approx(1_000_010)
    wall[:] = [1_000_020.0 - 7_200, 70.0]
    assert clock.now() == pytest.approx(1_000_020)
    clock.follow()
    assert clock.now() == pytest.approx(1_000_020 - 7_200)
    clock.follow()
    assert clock.now() == pytest.approx(1_000_020 - 7_200), "once"
    wall[:] = [1_000_020.0, 70.0]
    assert clock.now() == pytest.approx(1_000_020), "and forwards again"


def test_a_reset_keeps_the_time_by_which_a_clock_was_advanced(wall: list[float]) -> None:
    clock = RealClock()
    asyncio.run(clock.advance(500))
    wall[:] = [1_000_010.0 - 7_200, 60.0]
    clock.follow()
    assert clock.now() == pytest.approx(1_000_510 - 7_200)
    ManualClock().follow()


def test_real_seconds_pass_in_a_test_that_has_frozen_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("time", "monotonic", "perf_counter"):
        monkeypatch.setattr(f"time.{name}", lambda: 7.0)
    began = real_seconds()
    while real_seconds() == began:
        pass
    assert real_seconds() > began
