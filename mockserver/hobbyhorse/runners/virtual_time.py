"""Run a client of this process in virtual time: minutes of polling take milliseconds, and runs are reproducible.

A run has three steps: install the `patches`, start a thread for the client under a `Scheduler`, and wait for that
thread in real time. `drain` then lets threads that the client left behind continue. Invariants:

* A run always ends: at its limits (virtual time, requests, operations), or if the client computes without a wait for
  longer than the patience in real time. A client's error reaches the caller only in `Ran`.
* A run has no effect on the next: patches are removed, random numbers restored, threads ended or reported.
* Two runs with equal seeds against equal servers make the same requests at the same virtual times.

No library does this. Libraries that patch time freeze or shift it for the whole process (freezegun, time-machine), or
skip the waits of one event loop (looptime). None of them knows when the peer of a socket has nothing left to do.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import thread as executors
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hobbyhorse.runners.patches import patched
from hobbyhorse.runners.scheduler import RunOver, Scheduler, ServerTime, Stuck

__all__ = ["Ran", "RunOver", "ServerTime", "Stuck", "VirtualTime"]

# Two virtual hours: much longer than the half hour of the most patient example client. Virtual time costs nothing by
# itself, but a client that never gives up polls until this limit.
LIMIT_SECONDS = 7_200.0
# Sends on connections: more than two per second for the whole limit. A client that floods reaches it in real seconds.
MOST_SENDS = 20_000
# Waits and clock reads, 100 for each send: enough for event loops, which read the clock in each iteration. A client
# that spins on its clock reaches the limit in real seconds.
MOST_OPERATIONS = 2_000_000
# Real seconds without any operation: longer than an ordinary client computes, even on a busy machine. A client that
# spins costs this time once.
PATIENCE_SECONDS = 30.0
# The same for threads that outlive the client. Shorter, because their work has no effect on the client's outcome.
DRAIN_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Ran:
    """The end of a run: the returned value or the error, and the virtual time, in seconds since 1970.

    `over` means that a limit ended the run, not the client.
    """

    value: Any
    error: BaseException | None
    ended: float
    over: bool


class VirtualTime:
    """The virtual time of one client. It advances only while all client threads and the server are blocked.

    A run ends after `limit` virtual seconds, `most_requests` sends on its connections, `most_operations` waits and
    clock reads, or `patience` real seconds without a send, wait or clock read: the client's next operation raises
    RunOver. `steps` are pairs of a time since the start and the seconds by which the client's wall clock is then set.
    Numbers that the client draws from `random` depend only on `seed`.
    """

    def __init__(
        self,
        server_time: ServerTime,
        limit: float = LIMIT_SECONDS,
        *,
        most_requests: int = MOST_SENDS,
        most_operations: int = MOST_OPERATIONS,
        patience: float = PATIENCE_SECONDS,
        seed: int = 0,
        steps: Sequence[tuple[float, float]] = (),
    ) -> None:
        self._server_time = server_time
        self._limit = limit
        self._patience = patience
        self._random = random.Random(seed).getstate()
        self._scheduler = Scheduler(server_time, limit, most_requests, most_operations, steps)

    def run(self, call: Callable[[], Any]) -> Ran:
        """Call a function in a thread in virtual time. If it returns a coroutine, run the coroutine on an event loop
        in the same thread.
        """
        outcome: list[Any] = [None, None]

        def work() -> None:
            try:
                value = call()
                outcome[0] = asyncio.run(value) if inspect.iscoroutine(value) else value
            except BaseException as error:
                outcome[1] = error

        scheduler = self._scheduler
        with patched(), self._own_random():
            thread = scheduler.register("client")
            # A daemon thread, so that the interpreter can exit even if the thread is parked.
            threading.Thread(target=scheduler.run_thread, args=(thread, work), name="client", daemon=True).start()
            scheduler.begin(thread, self._limit)
            scheduler.await_end(lambda: thread.left, self._patience)
        ended = self._server_time.now()
        value, error = outcome
        # RunOver only ends a run and is not the client's error; the server's failure, if any, is the reason.
        if isinstance(error, RunOver) or (scheduler.over and not thread.left):
            error = scheduler.failure
        return Ran(value, error, ended, scheduler.over)

    @property
    def cut(self) -> RunOver | Stuck | None:
        """The reason why the client did not end by itself, whatever it returned or raised afterwards, or None."""
        return self._scheduler.cut

    @property
    def overran(self) -> bool:
        """Whether a thread took more than `patience` real seconds, which may be the machine's fault."""
        return self._scheduler.overran

    @property
    def forced(self) -> bool:
        """Whether `drain` had to end threads that the client may need in its next run."""
        return bool(self._scheduler.forced)

    def drain(self, seconds: float) -> list[str]:
        """Run the remaining threads for `seconds` of virtual time and end them; return the names of survivors."""
        scheduler = self._scheduler
        with patched(), self._own_random():
            scheduler.resume(seconds)
            patience = min(self._patience, DRAIN_PATIENCE_SECONDS)
            scheduler.await_end(lambda: not scheduler.unfinished, patience, all_asleep=True)
        left = sorted({*scheduler.unfinished, *scheduler.abandoned})
        if left:
            _forget_workers(left)
        return left

    @contextmanager
    def _own_random(self) -> Iterator[None]:
        """Replace the process-wide state of `random` by this client's within the context."""
        before = random.getstate()
        random.setstate(self._random)
        try:
            yield
        finally:
            self._random = random.getstate()
            random.setstate(before)


def _forget_workers(names: list[str]) -> None:
    """Remove unfinished executor workers from the list of threads that the interpreter joins when it exits."""
    for thread in list(executors._threads_queues):
        if thread.name in names:
            executors._threads_queues.pop(thread, None)  # type: ignore[attr-defined]
