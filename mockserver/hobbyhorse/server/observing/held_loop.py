"""Finds out which request holds the event loop for too long. Writes no log.

All requests share one event loop: while one of them computes, every other client waits. Two measurements:

* The steps of each request. A step is the time between two of its waits, in which nothing else can run. It is exact,
  and it names the request.
* A timer that is due every few milliseconds. Work outside requests, such as callbacks, delays it, and a delay that no
  step explains is work of the server itself.

Both read the time of the thread's work, too: if it is much shorter, the machine gave the server no processor.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hobbyhorse.server.observing.observed import ObservedRequest

# The project's bound: a client that polls does not notice a shorter delay.
HELD_SECONDS = 0.05
# A hold is measured up to this much too short, at a cost of some 0.1 % of a processor.
BEAT_SECONDS = 0.01

Report = Callable[[float, float, "ObservedRequest | None"], None]
"""Gets the seconds of a hold, the seconds of work in it, and its request, or None for work outside requests."""


class HeldLoop:
    """Reports each hold of the event loop that is longer than `HELD_SECONDS`, while its context lasts."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._timer: asyncio.TimerHandle | None = None
        self._explained = 0.0

    def __enter__(self) -> HeldLoop:
        self._plan(asyncio.get_running_loop())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def step(self, seconds: float, worked: float, request: ObservedRequest) -> None:
        """Judge a step of a request."""
        if seconds > HELD_SECONDS:
            self._explained += seconds
            self._report(seconds, worked, request)

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        # Not the loop's own time: uvloop reads it once a turn, so it stands while the loop is held.
        due = time.perf_counter() + BEAT_SECONDS
        self._timer = loop.call_later(BEAT_SECONDS, self._beat, loop, due, time.thread_time())

    def _beat(self, loop: asyncio.AbstractEventLoop, due: float, worked: float) -> None:
        late = time.perf_counter() - due - self._explained
        self._explained = 0.0
        if late > HELD_SECONDS:
            self._report(late, time.thread_time() - worked, None)
        self._plan(loop)


class Steps(Awaitable[None]):
    """Awaits the coroutine of a request, and measures each of its steps."""

    __slots__ = ("_held", "_request", "_work")

    def __init__(self, work: Coroutine[Any, Any, None], held: HeldLoop, request: ObservedRequest) -> None:
        self._work = work
        self._held = held
        self._request = request

    def __await__(self) -> Generator[Any, Any, None]:
        work, go_on = self._work, partial(self._work.send, None)
        while True:
            began, before = time.perf_counter(), time.thread_time()
            try:
                waits_for = go_on()
            except StopIteration:
                return
            finally:
                self._held.step(time.perf_counter() - began, time.thread_time() - before, self._request)
            try:
                go_on = partial(work.send, (yield waits_for))
            except GeneratorExit:
                work.close()
                raise
            except BaseException as error:
                go_on = partial(work.throw, error)
