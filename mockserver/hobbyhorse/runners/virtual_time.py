"""Runs a client of this process in virtual time: minutes of polling take milliseconds, and each run is the same.

No library does this: those that patch time freeze or shift it for the whole process (freezegun, time-machine), or skip
the waits of one event loop (looptime); none knows when the other side of a socket has nothing left to do.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import thread as executors
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hobbyhorse.runners.patches import patched
from hobbyhorse.runners.scheduler import RunOver, Scheduler, ServerTime, Stuck

__all__ = ["Ran", "RunOver", "ServerTime", "Stuck", "VirtualTime"]

LIMIT_SECONDS = 7_200.0
MOST_SENDS = 20_000
MOST_OPERATIONS = 2_000_000
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Ran:
    """How a run ended, and when (virtual, seconds since 1970); `over` if it was ended from outside."""

    value: Any
    error: BaseException | None
    ended: float
    over: bool


class VirtualTime:
    """The time of one client, which goes on when all its threads and the server wait.

    A run ends after `limit` virtual seconds, when it has sent `most_requests` times on its connections, or after
    `patience` real seconds without any waiting or telling of the time: what the client does next raises RunOver.
    What the client draws from `random` depends on the seed alone.
    """

    def __init__(
        self,
        timeline: ServerTime,
        limit: float = LIMIT_SECONDS,
        most_requests: int = MOST_SENDS,
        most_operations: int = MOST_OPERATIONS,
        patience: float = PATIENCE_SECONDS,
        seed: int = 0,
    ) -> None:
        self._timeline = timeline
        self._limit = limit
        self._patience = patience
        self._random = random.Random(seed).getstate()
        self._governor = Scheduler(timeline, limit, most_requests, most_operations)

    def run(self, call: Callable[[], Any]) -> Ran:
        """Call something in a thread in virtual time; a coroutine that it returns is run on an event loop there."""
        outcome: list[Any] = [None, None]

        def work() -> None:
            try:
                value = call()
                outcome[0] = asyncio.run(value) if inspect.iscoroutine(value) else value
            except BaseException as error:
                outcome[1] = error

        governor = self._governor
        with patched(), self._drawing():
            member = governor.adopt("client")
            threading.Thread(target=governor.live, args=(member, work), name="client", daemon=True).start()
            governor.begin(member, self._limit)
            governor.await_end(lambda: member.left, self._patience)
        ended = self._timeline.now()
        value, error = outcome
        if isinstance(error, RunOver) or (governor.over and not member.left):
            error = governor.failure
        return Ran(value, error, ended, governor.over)

    def drain(self, seconds: float) -> list[str]:
        """Let threads that are left go on for so many virtual seconds, then end them; return who would not end."""
        governor = self._governor
        with patched(), self._drawing():
            governor.go_on(seconds)
            governor.await_end(lambda: not governor.members, self._patience)
        left = sorted({*governor.members, *governor.abandoned})
        if left:
            _forget_workers(left)
        return left

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Have the process draw this client's random numbers as long as the context lasts."""
        before = random.getstate()
        random.setstate(self._random)
        try:
            yield
        finally:
            self._random = random.getstate()
            random.setstate(before)


def _forget_workers(names: list[str]) -> None:
    """Have the interpreter not wait for the workers of executors that will never end."""
    for thread in list(executors._threads_queues):
        if thread.name in names:
            executors._threads_queues.pop(thread, None)  # type: ignore[attr-defined]
