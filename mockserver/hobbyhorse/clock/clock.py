"""The time that everything reads which waits: real, faster than real, or moved by hand; knows no job and no HTTP."""

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

MOST_SLEEP = 86_400.0
"""The longest that an event loop is asked to wait for at once, in real seconds."""


class Clock:
    """A source of moments (seconds since 1970, UTC) and of waiting, at any speed.

    At speed 0 it stands until it is advanced; then everything due happens in order, each at its own moment, one
    after the other. At any other speed it runs so many times as fast as real time, and what falls due is run by the
    event loop, in tasks of their own. The speed may change while things wait.
    An action must not sleep on its own clock, for an advance waits for it; it adds another action instead.
    """

    def __init__(self, start: float, speed: float = 0.0, tick: Callable[[], float] = time.monotonic) -> None:
        """Make a clock that shows `start`; `tick` tells how real time goes on, in seconds."""
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
        """How many times as fast as real time it runs; 0 if it stands."""
        return self._speed

    @property
    def waiting(self) -> int:
        """How many actions and sleepers wait for their moment."""
        return len(self._due)

    @property
    def next_due(self) -> float | None:
        """The moment at which the next action or sleeper is due; None if nothing waits."""
        return self._due[0][0] if self._due else None

    @property
    def working(self) -> int:
        """How many actions that a `step` has begun are under way and wait for nobody."""
        return self._work.busy

    @property
    def _runs(self) -> bool:
        return self._speed > 0 and not self._advances

    def now(self) -> float:
        """Return the moment, never earlier than the one before."""
        if self._speed > 0 and not self._advances:
            return self._base + (self._tick() - self._origin) * self._speed
        return self._base

    def set_speed(self, speed: float) -> None:
        """Run on from this moment at another speed, or stand (0); everything that waits goes on waiting.

        A clock that begins to run where no event loop does runs its actions from the next `at`, `sleep_until`,
        `set_speed` or `advance` on that is called in one.
        """
        _checked(speed)
        self._base = self.now()
        self._origin = self._tick()
        self._speed = speed
        self._arm()

    async def sleep_until(self, moment: float) -> None:
        """Return when the moment has come, at once if it has; raise CancelledError if the clock is closed meanwhile."""
        if moment <= self.now():
            return
        come = asyncio.get_running_loop().create_future()

        def set_off() -> None:
            if not come.done():
                come.set_result(None)

        async def wake() -> None:
            _call_on(come.get_loop(), set_off)

        entry = self._add(moment, wake)
        self._sleepers.add(come)
        try:
            with held():
                await come
        finally:
            self._sleepers.discard(come)
            if entry in self._due:
                self._due.remove(entry)
                heapq.heapify(self._due)

    def at(self, moment: float, action: Action) -> None:
        """Have an action run once when the moment comes; needs an event loop unless the clock stands."""
        self._add(moment, action)

    def _add(self, moment: float, action: Action) -> Due:
        if math.isnan(moment):
            raise ValueError(f"an action is due at {moment!r}; that is no moment")
        if self._runs and (self._loop is None or self._loop.is_closed()):
            asyncio.get_running_loop()
        entry = (moment, next(self._order), action)
        heapq.heappush(self._due, entry)
        if self._runs and (self._due[0] is entry or self._loop is not _running_loop()):
            self._arm()
        return entry

    async def advance(self, seconds: float) -> None:
        """Move forward, running what falls due on the way to its end; what that adds is run too if due.

        A clock that runs stands meanwhile, and runs on from the moment that it has been moved to. Advances that
        overlap add up; one that an action makes has reached its end when the action goes on. What an action
        raises is raised here, and the clock stays at the moment of the action.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"a clock is advanced by {seconds!r} seconds; it is a number from 0: time never goes back")
        with self._stepping():
            self._goal = goal = max(self._goal, self._base) + seconds
            await self._step(goal)

    def step(self, moment: float) -> None:
        """Move a clock that stands to a moment, not past what is due next, and begin the first that is due.

        That is a task of the event loop that runs here; nothing waits for it. Where nothing is due, none is needed.
        """
        if self._speed > 0:
            raise ValueError(f"a clock that runs ({self._speed!r}) cannot be moved step by step; set its speed to 0")
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
        """Advance until nothing waits, by at most so many seconds."""
        if not most >= 0:
            raise ValueError(f"a clock is advanced by at most {most!r} seconds; it is a number from 0")
        with self._stepping():
            last = self._base + most
            await self._step(self._base)
            while self._due and self._due[0][0] <= last:
                self._goal = goal = max(self._goal, self._due[0][0])
                await self._step(goal)

    @contextmanager
    def _stepping(self) -> Iterator[None]:
        """Have time stand but for steps; after the last of those who step, it goes on at its speed."""
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
            await asyncio.sleep(0)
            if not self._due or self._due[0][0] > goal:
                break
            moment, _, action = heapq.heappop(self._due)
            self._base = max(self._base, moment)
            await action()
        self._base = max(self._base, goal)
        await asyncio.sleep(0)

    def _arm(self) -> None:
        """Have an event loop call when the first action falls due: the one that does so already, if it still runs."""
        here, home = _running_loop(), self._loop
        if home is not None and home is not here and (home.is_running() or here is None) and not home.is_closed():
            home.call_soon_threadsafe(self._arm)
            return
        self._disarm()
        if here is not None and self._runs and self._due:
            left = (self._due[0][0] - self.now()) / self._speed
            self._loop, self._timer = here, here.call_later(min(max(left, 0.0), MOST_SLEEP), self._fire)

    def _disarm(self) -> None:
        loop, timer, self._loop, self._timer = self._loop, self._timer, None, None
        if loop is not None and timer is not None:
            _call_on(loop, timer.cancel)

    def _fire(self) -> None:
        """Begin what is due; a timer that comes too early or too late does no harm."""
        if self._runs:
            now = self.now()
            while self._due and self._due[0][0] <= now:
                self._begin(_run(heapq.heappop(self._due)[2]))
        self._arm()

    def close(self) -> None:
        """Forget every action, and cancel those that run and everybody who sleeps."""
        self._disarm()
        self._due.clear()
        work: tuple[asyncio.Future[None], ...] = (*self._tasks, *self._sleepers)
        for one in work:
            _call_on(one.get_loop(), one.cancel)


class RealClock(Clock):
    """Real time, or `speed` times as fast, from the moment of its making."""

    def __init__(self, speed: float = 1.0) -> None:
        if not speed > 0:
            raise ValueError(f"a clock's speed is {speed!r}; it must be greater than 0")
        super().__init__(time.time(), speed)


class ManualClock(Clock):
    """Time that stands until it is advanced."""

    def __init__(self, start: float = 1_767_225_600.0) -> None:
        super().__init__(start)


def _checked(speed: float) -> float:
    if not 0 <= speed < math.inf:
        raise ValueError(f"a clock's speed is {speed!r}; it is a number from 0, where 0 makes the clock stand")
    return speed


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _call_on(loop: asyncio.AbstractEventLoop, call: Callable[[], Any]) -> None:
    """Call something that belongs to an event loop: now if it runs here, else when it next runs, if ever."""
    if loop is _running_loop():
        call()
    elif not loop.is_closed():
        loop.call_soon_threadsafe(call)


async def _run(action: Action) -> None:
    await action()
