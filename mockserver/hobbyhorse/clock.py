"""The time that everything reads which waits: real, faster than real, or moved by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

Action = Callable[[], Awaitable[None]]


class Clock(Protocol):
    """A source of moments (seconds since 1970, UTC) and of waiting."""

    def now(self) -> float:
        """Return the moment."""

    async def sleep_until(self, moment: float) -> None:
        """Return when the moment has come; at once if it has."""

    def at(self, moment: float, action: Action) -> None:
        """Have an action run when the moment comes; needs a running event loop."""

    def close(self) -> None:
        """Forget every action that has not begun."""


class RealClock:
    """Real time, or `speed` times as fast, from the moment of its making."""

    def __init__(self, speed: float = 1.0) -> None:
        if not speed > 0:
            raise ValueError(f"a clock's speed is {speed!r}; it must be greater than 0")
        self._speed = speed
        self._began = time.time()
        self._origin = time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()

    def now(self) -> float:
        """Return the moment, never earlier than the one before."""
        return self._began + (time.monotonic() - self._origin) * self._speed

    async def sleep_until(self, moment: float) -> None:
        """Sleep in real time until the moment has come."""
        while (left := moment - self.now()) > 0:  # noqa: ASYNC110 - a timer may wake a little early
            await asyncio.sleep(left / self._speed)

    def at(self, moment: float, action: Action) -> None:
        """Run an action in a task of its own when the moment comes."""
        task = asyncio.get_running_loop().create_task(self._wait(moment, action))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wait(self, moment: float, action: Action) -> None:
        await self.sleep_until(moment)
        await action()

    def close(self) -> None:
        """Cancel what waits."""
        for task in tuple(self._tasks):
            task.cancel()


class ManualClock:
    """Time that stands until it is advanced; then everything due happens in order, each at its own moment."""

    def __init__(self, start: float = 1_767_225_600.0) -> None:
        self._now = start
        self._due: list[tuple[float, int, Action]] = []
        self._order = itertools.count()

    def now(self) -> float:
        """Return the moment at which the clock stands."""
        return self._now

    async def sleep_until(self, moment: float) -> None:
        """Wait until somebody advances the clock to the moment."""
        if moment <= self._now:
            return
        come = asyncio.get_running_loop().create_future()

        async def wake() -> None:
            if not come.done():
                come.set_result(None)

        self.at(moment, wake)
        await come

    def at(self, moment: float, action: Action) -> None:
        """Keep an action for the advance that reaches the moment."""
        heapq.heappush(self._due, (moment, next(self._order), action))

    async def advance(self, seconds: float) -> None:
        """Move forward, running what falls due on the way to its end; what that adds is run too if due."""
        if not seconds >= 0:
            raise ValueError(f"a clock is advanced by {seconds!r} seconds; it never goes back")
        goal = self._now + seconds
        while True:
            await asyncio.sleep(0)
            if not self._due or self._due[0][0] > goal:
                break
            moment, _, action = heapq.heappop(self._due)
            self._now = max(self._now, moment)
            await action()
        self._now = goal
        await asyncio.sleep(0)

    async def run_until_idle(self, most: float = 30 * 86_400.0) -> None:
        """Advance until nothing waits, by at most so many seconds."""
        goal = self._now + most
        while self._due and self._due[0][0] <= goal:
            await self.advance(max(0.0, self._due[0][0] - self._now))

    def close(self) -> None:
        """Forget every action."""
        self._due.clear()
