"""Runs a client of this process in virtual time: minutes of polling take milliseconds, and each run is the same.

No library does this: those that patch time freeze or shift it for the whole process (freezegun, time-machine), or skip
the waits of one event loop (looptime); none knows when the other side of a socket has nothing left to do.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import thread as executors
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from hobbyhorse.conformance.baton import Governor, RunOver, Stuck, Timeline, current
from hobbyhorse.conformance.patches import patched

__all__ = ["Ran", "RunOver", "Stuck", "Timeline", "VirtualTime"]

Result = TypeVar("Result")

LIMIT_SECONDS = 7_200.0
MOST_SENDS = 20_000
MOST_OPERATIONS = 2_000_000
PATIENCE_SECONDS = 30.0
CLEANING = 1_000
"""So many waits of a loop that is being closed end at once."""


@dataclass(frozen=True, slots=True)
class Ran(Generic[Result]):
    """How a run ended, and when (virtual, seconds since 1970); `over` if it was ended from outside."""

    value: Result | None
    error: BaseException | None
    ended: float
    over: bool


class VirtualTime:
    """The time of one client, which goes on when all its threads and the server wait.

    A run ends after `limit` virtual seconds, when it has sent `most_requests` times on its connections, or after
    `patience` real seconds without any waiting or telling of the time: what the client does next raises RunOver.
    """

    def __init__(
        self,
        timeline: Timeline,
        limit: float = LIMIT_SECONDS,
        most_requests: int = MOST_SENDS,
        most_operations: int = MOST_OPERATIONS,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._timeline = timeline
        self._limit = limit
        self._patience = patience
        self._governor = Governor(timeline, limit, most_requests, most_operations)

    def run(self, call: Callable[[], Any]) -> Ran[Any]:
        """Call something in a thread in virtual time; a coroutine that it returns is run on an event loop there."""
        outcome: list[Any] = [None, None]

        def work() -> None:
            try:
                value = call()
                outcome[0] = _run(value) if inspect.iscoroutine(value) else value
            except BaseException as error:
                outcome[1] = error

        governor = self._governor
        with patched():
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
        with patched():
            governor.go_on(seconds)
            governor.await_end(lambda: not governor.members, self._patience)
        left = sorted({*governor.members, *governor.abandoned})
        if left:
            _forget_workers(left)
        return left


def _run(work: Any) -> Any:
    """Run a coroutine as `asyncio.run` does, and leave nothing behind when the run is over."""
    loop = asyncio.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(work)
    finally:
        governor = current()
        if governor is not None and governor.over:
            governor.spare(CLEANING)
            loop.set_exception_handler(lambda loop, context: None)
        try:
            _end(loop)
        finally:
            asyncio.set_event_loop(None)
            loop.close()
            if governor is not None:
                governor.spare(0)


def _end(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())


def _forget_workers(names: list[str]) -> None:
    """Have the interpreter not wait for the workers of executors that will never end."""
    for thread in list(executors._threads_queues):
        if thread.name in names:
            executors._threads_queues.pop(thread, None)  # type: ignore[attr-defined]
