"""The clock of every wait of the server: real time, a multiple of it, or moved by hand. No jobs, no HTTP.

A *moment* is a point in time: a float, in seconds since 1970, UTC. Each waiting action (of `at`) and sleeper (of
`sleep_until`) is one entry of a heap, ordered by moment and then by a counter, so that entries with the same moment run
in the order in which they were added.

The clock is in one of two modes, and everything else follows from the mode:

* It *runs* (speed > 0, no advance in progress). The moment is `base + (tick() - origin) * speed`. One timer on one
  event loop is armed for the head of the heap; `_fire` starts each due entry as a separate task, so that a slow action
  does not delay the next one.
* It is *stopped* (speed 0, or an advance is in progress). The moment is `base`. Entries run only inside `advance` and
  `run_until_idle`, sequentially, each awaited, at its own moment. In virtual time, another thread moves the clock (see
  quiescence.py), and `step` begins the first due entry as a task without waiting for it.

Invariants:

* The moment never decreases. `set_speed` and the end of an advance rebase (`base`, `origin`) before they change the
  mode; every step takes the maximum of the old and the new base.
* An entry leaves the heap exactly once: when it is started, when its sleeper is cancelled, or in `close`.
* Overlapping advances share one `goal`. Each adds its seconds to the furthest goal so far, so two concurrent advances
  of 10 s move the clock by 20 s. An action that advances its own clock nests in the advance that runs it. Only the last
  advance to finish lets a running clock run on (`_advances` counts them).
* At most one timer is armed, on one loop. A clock may be used from several threads or from successive loops: `_arm`
  runs on the loop that already has the timer, if that loop is still alive, and otherwise moves to the current loop.
  Without this, a speed change from another thread would leave a timer that fires at the old speed.

A manual clock is a clock with speed 0. A real clock starts now, usually with speed 1. The speed may change at any time,
so the two do not behave differently in any other way.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from hobbyhorse.clock.quiescence import ActivityGroup, held

Action = Callable[[], Awaitable[None]]
Due = tuple[float, int, Action]

# The longest timer, in real seconds. A longer wait is split, because `_fire` arms the timer again: so what falls due
# while the machine sleeps is at most a minute late.
MOST_SLEEP = 60.0
# Seconds by which the wall clock must differ to have been set, or the machine to have slept: the daemons that keep a
# clock right move it by milliseconds.
LEAST_STEP = 1.0


def real_seconds() -> float:
    """Return the seconds of the system's monotonic clock, also in a test that has frozen `time.monotonic`."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


class Clock:
    """Tells the time (seconds since 1970, UTC) and runs waits, at any speed.

    `speed` is a multiple of real time. A clock with speed 0 is stopped until it is advanced. The speed may change while
    actions and sleepers wait. An action must not sleep on its own clock, because an advance awaits the action; it can
    add another action instead.
    """

    def __init__(self, start: float, speed: float = 0.0, tick: Callable[[], float] = time.monotonic) -> None:
        """Make a clock that shows `start`. `tick` returns real time in seconds, from any origin."""
        self._tick = tick
        self._base = start
        self._origin = tick()
        self._speed = _checked(speed)
        self._due: list[Due] = []
        self._order = itertools.count()
        self._advances = 0
        self._goal = start
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._sleepers: set[asyncio.Future[None]] = set()
        self._work = ActivityGroup()

    @property
    def speed(self) -> float:
        """The multiple of real time at which the clock runs, or 0 if it is stopped."""
        return self._speed

    @property
    def waiting(self) -> int:
        """The number of waiting actions and sleepers."""
        return len(self._due)

    @property
    def idle(self) -> bool:
        """Whether no action or sleeper waits, and no action runs."""
        return not self._due and not self._tasks and not self._sleepers

    @property
    def next_due(self) -> float | None:
        """The time of the next action or sleeper, or None if nothing waits."""
        return self._due[0][0] if self._due else None

    @property
    def working(self) -> int:
        """The number of actions begun by `step` that are busy, in the sense of quiescence.py."""
        return self._work.busy

    @property
    def _runs(self) -> bool:
        return self._speed > 0 and not self._advances

    def now(self) -> float:
        """Return the current time, which never decreases."""
        if self._speed > 0 and not self._advances:
            return self._base + (self._tick() - self._origin) * self._speed
        return self._base

    def set_speed(self, speed: float) -> None:
        """Continue from now at another speed, or stop (0). Actions and sleepers keep their times.

        If no event loop is running in this thread, a clock that starts to run stays unarmed until the next `at`,
        `sleep_until`, `set_speed` or `advance` inside an event loop.
        """
        _checked(speed)
        self._base = self.now()
        self._origin = self._tick()
        self._speed = speed
        self._arm()

    async def sleep_until(self, moment: float) -> None:
        """Wait until a time; return immediately if it has passed. Raises CancelledError if the clock is closed."""
        if moment <= self.now():
            return
        woken = asyncio.get_running_loop().create_future()

        def set_woken() -> None:
            # The sleeper may have been cancelled between this call's scheduling and the loop's next turn.
            if not woken.done():
                woken.set_result(None)

        async def wake() -> None:
            # The clock may be advanced from another thread, but a future may be set only on its own loop.
            _call_on(woken.get_loop(), set_woken)

        entry = self._add(moment, wake)
        self._sleepers.add(woken)
        try:
            with held():
                await woken
        finally:
            self._sleepers.discard(woken)
            # A cancelled sleeper must not determine `next_due`, or virtual time would step to its moment needlessly.
            if entry in self._due:
                self._due.remove(entry)
                heapq.heapify(self._due)

    def at(self, moment: float, action: Action) -> None:
        """Schedule an action to run once, at a given time. Needs a running event loop unless the clock is stopped."""
        self._add(moment, action)

    def _add(self, moment: float, action: Action) -> Due:
        if math.isnan(moment):
            raise ValueError(f"the time of an action is {moment!r}; allowed: a number of seconds since 1970")
        if self._runs and (self._loop is None or self._loop.is_closed()):
            # Raises RuntimeError before the entry is added: without a loop, the entry would silently never run.
            asyncio.get_running_loop()
        entry = (moment, next(self._order), action)
        heapq.heappush(self._due, entry)
        if self._runs and (self._due[0] is entry or self._loop is not _running_loop()):
            self._arm()
        return entry

    async def advance(self, seconds: float) -> None:
        """Move forward, awaiting each action that becomes due, including actions that other actions add.

        A running clock is stopped meanwhile and continues from the new time. Overlapping advances add up. A nested
        advance (made by an action) has reached its goal when it returns. An action's exception propagates, and the
        clock stays at the time of that action.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"cannot advance a clock by {seconds!r} seconds; allowed: finite numbers from 0")
        with self._stepping():
            self._goal = goal = max(self._goal, self._base) + seconds
            await self._step(goal)

    def step(self, moment: float) -> None:
        """Move a stopped clock to a time, but not past the next due entry, and begin that entry if it is due.

        The entry becomes a task of the running event loop and is not awaited. If nothing is due, no loop is needed.
        """
        if self._speed > 0:
            raise ValueError(f"the clock runs at speed {self._speed!r}; set the speed to 0 before you step it")
        due = self.next_due
        self._base = max(self._base, moment if due is None else min(moment, due))
        if due is not None and due <= self._base:
            self._begin(self._worked(heapq.heappop(self._due)[2]))

    async def _worked(self, action: Action) -> None:
        with self._work.activity():
            await action()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run_until_idle(self, most: float = 30 * 86_400.0) -> None:
        """Advance until no action or sleeper waits, by at most `most` seconds."""
        if not most >= 0:
            raise ValueError(f"'most' is {most!r}; allowed: numbers of seconds from 0")
        with self._stepping():
            last = self._base + most
            await self._step(self._base)
            while self._due and self._due[0][0] <= last:
                self._goal = goal = max(self._goal, self._due[0][0])
                await self._step(goal)

    @contextmanager
    def _stepping(self) -> Iterator[None]:
        """Stop the clock during an advance. It continues when the last overlapping advance ends."""
        if not self._advances:
            self._goal = self._base = self.now()
        self._advances += 1
        try:
            yield
        finally:
            self._advances -= 1
            if not self._advances:
                self._origin = self._tick()
                self._arm()

    async def _step(self, goal: float) -> None:
        while True:
            # Give the loop a turn between two actions, because tasks that an action woke may add earlier entries.
            await asyncio.sleep(0)
            if not self._due or self._due[0][0] > goal:
                break
            moment, _, action = heapq.heappop(self._due)
            # An entry may be overdue, and a nested advance may already have moved the clock further.
            self._base = max(self._base, moment)
            await action()
        self._base = max(self._base, goal)
        await asyncio.sleep(0)

    def _arm(self) -> None:
        """Arm the timer for the first entry, on the loop that already has the timer if that loop is still alive."""
        current, armed = _running_loop(), self._loop
        alive = armed is not None and not armed.is_closed() and (armed.is_running() or current is None)
        if armed is not None and alive and armed is not current:
            armed.call_soon_threadsafe(self._arm)
            return
        self._disarm()
        if current is not None and self._runs and self._due:
            left = (self._due[0][0] - self.now()) / self._speed
            self._loop, self._timer = current, current.call_later(min(max(left, 0.0), MOST_SLEEP), self._fire)

    def _disarm(self) -> None:
        loop, timer, self._loop, self._timer = self._loop, self._timer, None, None
        if loop is not None and timer is not None:
            _call_on(loop, timer.cancel)

    def _fire(self) -> None:
        """Start every due entry and arm the timer again. A timer may fire early or late without harm."""
        if self._runs:
            now = self.now()
            while self._due and self._due[0][0] <= now:
                self._begin(_run(heapq.heappop(self._due)[2]))
        self._arm()

    def resume(self, moment: float, speed: float) -> None:
        """Go on from a time at a speed, as a clock of an earlier process; only while nothing waits."""
        self._speed = _checked(speed)
        self._base = self._goal = moment
        self._origin = self._tick()

    def follow(self) -> None:
        """Follow the wall clock, if this clock depends on one."""

    def close(self) -> None:
        """Drop all waiting actions, and cancel running actions and sleepers."""
        self._disarm()
        self._due.clear()
        waiting: tuple[asyncio.Future[None], ...] = (*self._tasks, *self._sleepers)
        for future in waiting:
            _call_on(future.get_loop(), future.cancel)


class WallTick:
    """Real time that also passes while the machine sleeps, and never goes back.

    The monotonic clock of a system stands during a sleep, and does not notice that the wall clock was set. So the
    difference between the two clocks is watched. If it grows, that time has passed. If it shrinks, the wall clock was
    set back: time goes on from where it was, until `follow` gives up the lead.
    """

    def __init__(self) -> None:
        self._lead = time.time() - real_seconds()

    def __call__(self) -> float:
        """Return the time in seconds, from any origin."""
        real = real_seconds()
        lead = time.time() - real
        if lead - self._lead > LEAST_STEP:
            self._lead = lead
        return real + self._lead

    def follow(self) -> float:
        """Return by how many seconds the wall clock was set back, and go on from there."""
        lead = time.time() - real_seconds()
        back = self._lead - lead
        if back <= LEAST_STEP:
            return 0.0
        self._lead = lead
        return back


class RealClock(Clock):
    """Real time, or a multiple of it, from the time of construction. Follows the wall clock forwards."""

    def __init__(self, speed: float = 1.0) -> None:
        if not speed > 0:
            raise ValueError(f"the speed of a real clock is {speed!r}; allowed: greater than 0")
        self._wall = WallTick()
        super().__init__(time.time(), speed, self._wall)

    def follow(self) -> None:
        """Follow the wall clock backwards too, if it was set back; only with a clock on which nothing waits."""
        if back := self._wall.follow():
            self._base, self._origin = self._base - back, self._origin - back


class ManualClock(Clock):
    """A clock that is stopped until it is advanced."""

    # 2026-01-01T00:00:00Z: fixed, so that ids and links that contain the time are the same in each run.
    def __init__(self, start: float = 1_767_225_600.0) -> None:
        super().__init__(start)


def _checked(speed: float) -> float:
    if not 0 <= speed < math.inf:
        raise ValueError(f"the speed of a clock is {speed!r}; allowed: finite numbers from 0 (0 stops the clock)")
    return speed


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _call_on(loop: asyncio.AbstractEventLoop, call: Callable[[], Any]) -> None:
    """Call a function on an event loop: now if the loop is the running one, else in its next turn; never if closed."""
    if loop is _running_loop():
        call()
    elif not loop.is_closed():
        loop.call_soon_threadsafe(call)


async def _run(action: Action) -> None:
    await action()
