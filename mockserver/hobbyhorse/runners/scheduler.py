"""Run threads in virtual time: one runs while the others wait, and time moves when all wait. No server, no patches.

The client's threads are real threads, but `patches` routes their waits to `Scheduler.wait`. The scheduler decides which
thread runs next, and when the clock that the client shares with the server (`ServerTime`) moves.

States of a `ScheduledThread`:

    starting    registered by its parent; its system thread has not reached `run_thread` (`started` is False)
    running     has the turn: it is `Scheduler._running`, and `waiting` is False
    ready       waits for nothing but the turn: `ready()` is true
    waiting     `ready()` is false; at its `deadline`, if it has one, it runs anyway and its wait returns False
    remote      waiting, and only the other side of a socket can make it ready (`remote` is True)
    detached    was running, but sleeps in a system call outside virtual time; another thread has taken the turn
    stuck       the main thread, waiting for an event that cannot happen: its wait raises Stuck
    left        ended, and removed from the scheduler

Invariants:

1. Exactly one thread runs. There is no scheduler thread: the thread that gives up its turn chooses the next one and
   releases that thread's `gate`. While it chooses, or runs in real time on purpose (`keep_turn`), its turn is pinned.
   It may sleep there, and if another thread took the turn meanwhile, two would choose at the same time.

2. The order of turns depends on nothing real. Threads queue in the order in which they began to wait, and only the
   running thread can begin to wait. Threads that wait for each other (locks, queues) precede threads that wait for a
   socket, and sockets are polled only when the server has settled. Otherwise, the order would depend on the system's
   delivery of bytes, and two runs of one client would differ. Due deadlines are ordered by time, then by queue order.

3. Time moves only when no thread is ready and the server is settled, and only to the earliest deadline or server event.
   `_unsettled` records that the server may have work: the client sent, connected, closed or made room by reading, or
   read while bytes were in flight, or time moved to a server event. If time moved while a response was in progress, it
   would skip that response, and a correct client would time out. For the same reason, the server goes first if both are
   due at the same time.

4. No wake-up is lost, because none is signalled. A waiting thread leaves a predicate, and predicates are evaluated
   while no thread runs, so nothing changes between "ready" and the turn that follows.

5. Each run ends. When virtual time reaches the limit, or the client sends or operates too often, or computes for too
   long, `over` is set: each operation raises RunOver, which `except Exception` does not catch. A thread that swallows
   even RunOver is parked forever.

A detached thread is the exception to 1, 2 and 3. When the system wakes the thread, at some real time, it runs beside
another thread until its next wait, and queues again; time may have moved meanwhile. Without this exception, a thread
that blocks on a lock made before the run would keep the turn from the thread that holds the lock: a deadlock.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
import time
from _thread import allocate_lock
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakSet

from hobbyhorse.clock.socket_queue import unacknowledged
from hobbyhorse.runners.waiting_places import waiting_places

# The real functions: `patches` replaces the names in `time` while a client runs.
_monotonic, _sleep = time.monotonic, time.sleep

# Virtual time is an integer number of microseconds, so that 0.1 s ten times is exactly 1 s.
TICKS = 1_000_000
# Real seconds between checks by a thread without the turn of whether the running thread is detached. A check reads a
# file in /proc, so this trades the load of many waiting threads against the delay of a detached one.
LOOK_SECONDS = 0.01
# Real seconds for which a thread must sleep in the system to be detached. A thread that waits for the interpreter wakes
# every 5 ms (`sys.getswitchinterval`); ten times as long distinguishes the two on a busy machine.
ASLEEP_SECONDS = 0.05
# Real seconds between two polls for an event that the scheduler cannot wait for. A poll costs microseconds.
NAP_SECONDS = 0.001
# Maximum real seconds to wait for the acknowledgement of sent bytes. Linux acknowledges unread bytes after about 40 ms;
# a peer that has not done so after five times as long never will.
ARRIVAL_SECONDS = 0.2
# Real seconds without any event after which a client is stuck. Must exceed waits for work outside virtual time (a
# process, a TLS socket); each stuck client costs this time.
STUCK_SECONDS = 1.0
# Real seconds of a run for which virtual time stands still while a process that the client started works. Longer than
# a tool such as ffprobe takes; each run that leaves such a process running costs this time.
CHILDREN_SECONDS = 10.0
# Clock reads and selector polls that an event loop may make after RunOver, to cancel its tasks and close its sockets.
# With more, a loop with more tasks closes cleanly; with fewer, a loop that continues to poll is refused again sooner.
LENIENT_OPERATIONS = 2_000
# Empty polls without a timeout, at one moment, after which time moves. An event loop makes a few while it has callbacks
# to run; with a larger number, a client that polls for a deadline takes longer.
MOST_EMPTY_POLLS = 200
# Bytes read since the last settling after which the server may have room to send more. A smaller number causes settling
# after each small read; with a larger one, time may move while the server has more to send.
ROOM_BYTES = 4_096
# Refusals after which a thread is parked forever. Clean-up code gets a few; a loop that catches everything gets all.
MOST_REFUSALS = 50


class ServerTime(Protocol):
    """The server's clock, with a way to wait until the server has nothing left to do."""

    def now(self) -> float:
        """Return the current moment, in seconds since 1970."""

    def next_due(self) -> float | None:
        """Return the time of the server's next event, or None."""

    def settle(self, ready: Callable[[], bool] | None = None) -> bool:
        """Wait in real time until the server has nothing left to do at the current virtual time.

        Once `ready()` is true, do not wait for the delivery of sent bytes: their reader may have to make room first.
        Return whether all have been delivered.
        """

    def step(self, moment: float) -> None:
        """Move to a time, but not past the next event, and start the event if it is due."""


class RunOver(BaseException):
    """The run has ended. A BaseException, so that a client's `except Exception` does not swallow it."""


class Stuck(BaseException):
    """Every thread of the client waits for an event that cannot happen."""


@dataclass(slots=True, eq=False)
class ScheduledThread:
    """A thread in virtual time, and the condition for which it waits. `deadline` is in ticks.

    `result` is the return value of its wait. `last_seen` is the real time of its last operation; `asleep` is the real
    time since which it sleeps in the system, with its counters at that time.
    """

    name: str
    gate: Any = field(default_factory=allocate_lock)
    ready: Callable[[], bool] | None = None
    deadline: int | None = None
    remote: bool = False
    order: int = 0
    result: bool = False
    started: bool = False
    waiting: bool = True
    left: bool = False
    stuck: bool = False
    lenience: int = 0
    refusals: int = 0
    last_seen: float = 0.0
    asleep: tuple[float, str] | None = None
    ident: int = 0
    native: int = 0


class _Local(threading.local):
    scheduler: Scheduler | None = None
    thread: ScheduledThread | None = None


_local = _Local()


def current() -> Scheduler | None:
    """Return the scheduler of the current thread, or None if the thread is in real time."""
    return _local.scheduler


def _forget_scheduler() -> None:
    _local.scheduler = None


# A process that the client forks is in real time: it has neither the server's thread nor the other threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_scheduler)


@contextmanager
def real_time() -> Iterator[None]:
    """Run the current thread in real time within the context."""
    scheduler, _local.scheduler = _local.scheduler, None
    try:
        yield
    finally:
        _local.scheduler = scheduler


class Scheduler:
    """Schedules the threads of one client; see the module's docstring.

    `steps` are pairs of a time since the start and the seconds by which the wall clock is then set forward or back.
    `limit` is in virtual seconds. `most_sends` ends a client that floods, `most_operations` a client that spins.
    """

    def __init__(
        self,
        server_time: ServerTime,
        limit: float,
        most_sends: int,
        most_operations: int,
        steps: Sequence[tuple[float, float]] = (),
    ) -> None:
        self._server = server_time
        self._steps = steps
        self._start = server_time.now()
        self._until = self.ticks() + _ticks(limit)
        self._most_sends = most_sends
        self._most_operations = most_operations
        self._sends = self._operations = self._received = 0
        self._orders = itertools.count()
        self._threads: list[ScheduledThread] = []
        self._main: ScheduledThread | None = None
        self._running: ScheduledThread | None = None
        self._pinned = False
        self._paused = True
        # The mutex guards `_running` and `_pinned`, which threads without the turn also read, to take the turn from a
        # detached thread. All other state belongs to the running thread.
        self._mutex, self._departure = allocate_lock(), allocate_lock()
        self._departure.acquire()
        self._unsettled = True
        self._more_in_flight = False
        # Weak references, because nothing waits for a socket that the client has dropped.
        self._written: WeakSet[Any] = WeakSet()
        self._idle_since: float | None = None
        self._children: list[int] = []
        self._children_left = CHILDREN_SECONDS
        self._stuck: str | None = None
        self._empty_polls = (0, 0)
        self._pid = os.getpid()
        self.over = False
        self.reason = ""
        self.failure: BaseException | None = None
        self.abandoned: list[str] = []
        self.forced: list[str] = []
        self.overran = False

    def end(self, reason: str) -> None:
        """End the run: each further operation raises RunOver."""
        if not self.over:
            self.over, self.reason = True, reason

    @property
    def cut(self) -> RunOver | Stuck | None:
        """The reason why the client did not end by itself, or None."""
        if self._stuck is not None:
            return Stuck(self._stuck)
        return RunOver(self.reason) if self.over else None

    # ---- time

    def ticks(self) -> int:
        """Return the virtual time since the start, in microseconds."""
        return _ticks(self._server.now() - self._start)

    def moment(self) -> float:
        """Return the time of the client's wall clock, in seconds since 1970."""
        self.check_in(lenient=True)
        since = self.ticks() / TICKS
        return self._server.now() + sum(by for moment, by in self._steps if moment <= since)

    def elapsed(self) -> float:
        """Return the virtual time since the start, in seconds."""
        self.check_in(lenient=True)
        return self.ticks() / TICKS

    # ---- operations of the running thread

    def check_in(self, *, sent: Any = None, unsettles: bool = False, lenient: bool = False) -> None:
        """Count an operation of the running thread. Raises RunOver after too many, or if the run is over.

        `sent` is a socket that is about to send. `unsettles` means that the operation may give the server work, and
        `lenient` that an event loop needs the operation to shut down.
        """
        me = _mine()
        self._operations += 1
        me.last_seen = _monotonic()
        if sent is not None:
            self._sends += 1
            self._written.add(sent)
        if unsettles or sent is not None:
            self._unsettled = True
        if self._sends > self._most_sends:
            self.end(f"the client sent more than {self._most_sends} requests")
        elif self._operations > self._most_operations:
            self.end(f"the client read the clock or waited more than {self._most_operations} times")
        if self.over and me.lenience and lenient:
            me.lenience -= 1
        elif self.over:
            self._refuse(me)

    def received(self, size: int) -> None:
        """Record that the running thread has read `size` bytes."""
        # Sum up all reads, because a client that reads in small pieces makes room too.
        self._received += size
        if self._received >= ROOM_BYTES or self._more_in_flight:
            self._unsettled = True

    def settle_before_poll(self, ready: Callable[[], bool]) -> None:
        """Wait for bytes in flight before a poll without a timeout. Stops early once `ready()` is true.

        Without the early stop, this could wait for bytes for which the system has no room until the client reads.
        """
        self.check_in(lenient=True)
        with real_time():
            self._take_turn(_mine())
            if self._unsettled:
                self._settle(ready)
            self._pinned = False

    def polled_in_vain(self) -> None:
        """Count an empty poll without a timeout. After too many while time stands still, move time by one tick.

        A loop that polls until a deadline has passed may reach the deadline exactly, and then only time ends it.
        """
        ticks = self.ticks()
        self._empty_polls = (ticks, self._empty_polls[1] + 1 if self._empty_polls[0] == ticks else 1)
        if self._empty_polls[1] < MOST_EMPTY_POLLS:
            return
        with self.keep_turn():
            self._unsettled = True
            try:
                self._server.step(self._server.now() + 1 / TICKS)
            except Exception as failure:
                self._fail(failure)

    @contextmanager
    def keep_turn(self) -> Iterator[None]:
        """Run in real time within the context, and keep the turn even while asleep."""
        with real_time():
            self._take_turn(_mine())
            try:
                yield
            finally:
                self._pinned = False

    def wait(
        self, ready: Callable[[], bool] | None, timeout: float | None, *, remote: bool = False, sole: bool = False
    ) -> bool:
        """Wait until `ready()` is true; return False if `timeout` virtual seconds pass first.

        `remote` means that the peer of a socket makes it true. `sole` means that the thread waits only for this socket,
        not for several sources as an event loop does. Raises RunOver if the run is over, and Stuck if the wait can
        never end.
        """
        self.check_in(lenient=remote and not sole)
        me = _mine()
        if self.over:
            return ready is not None and ready()
        # No other thread could run before this one, so nothing needs ordering, and reading the buffered bytes of a
        # response costs no settling.
        if remote and sole and len(self._threads) == 1 and ready is not None and ready():
            return True
        with real_time():
            self._take_turn(me)
            me.deadline = None if timeout is None else self._deadline(timeout)
            self._enqueue(me, ready, remote)
            self._pass_turn(me)
        if self.over:
            self._refuse(me)
        if me.stuck:
            me.stuck = False
            raise Stuck(self._stuck)
        return me.result

    def _deadline(self, timeout: float) -> int:
        now = self.ticks()
        # `threading.TIMEOUT_MAX` and infinity are valid timeouts; 30 years exceed any limit.
        exact = min(timeout, 1e9) * TICKS
        whole = int(exact)
        # Round up, so that a deadline is never early, but ignore the error of a float. A positive timeout takes
        # at least one tick, because a loop of tiny sleeps must move time.
        return now + max(whole + (exact - whole > 1e-3), int(timeout > 0))

    def _refuse(self, me: ScheduledThread) -> None:
        me.refusals += 1
        if self._main is not None and self._main.left:
            self.forced.append(me.name)
        me.lenience = LENIENT_OPERATIONS
        if me.refusals > MOST_REFUSALS:
            self._park(me)
        raise RunOver(self.reason)

    def _park(self, me: ScheduledThread) -> None:
        """Make a thread that does not end wait forever."""
        with real_time():
            self.abandoned.append(me.name)
            self._leave(me)
            me.gate.acquire()

    # ---- threads

    def register(self, name: str) -> ScheduledThread:
        """Add a thread that is about to start."""
        thread = ScheduledThread(name)
        thread.gate.acquire()
        thread.ready = _always
        # The parent assigns the order here, because the system starts the thread at an arbitrary real time.
        thread.order = next(self._orders)
        self._threads.append(thread)
        return thread

    def unregister(self, thread: ScheduledThread) -> None:
        """Remove a thread that the system did not start."""
        self._threads.remove(thread)

    def run_thread(self, thread: ScheduledThread, work: Callable[[], None]) -> None:
        """Run `work` in virtual time in the current thread, beginning with its first turn."""
        _local.thread = thread
        thread.ident, thread.native = threading.get_ident(), threading.get_native_id()
        thread.started = True
        self._await_turn(thread)
        _mark_running(thread)
        try:
            if not self.over:
                _local.scheduler = self
                work()
        except RunOver:
            pass
        finally:
            if os.getpid() != self._pid:
                os._exit(0)  # a process that the client forked in this thread; the suite is not its to continue
            _local.scheduler = None
            self._leave(thread)

    def _leave(self, me: ScheduledThread) -> None:
        with self._mutex:
            if me.left:
                return
            me.left = True
            self._threads.remove(me)
            mine = self._running is me
            if mine:
                self._pinned = True
            if me is self._main:
                # The remaining threads wait until `resume` gives them a new limit.
                self._paused = True
        if mine:
            self._give_turn(self._choose() if self._threads and not self._paused else None)
        with suppress(RuntimeError):  # already released, and `await_end` has not acquired it since
            self._departure.release()

    # ---- the turn

    def _take_turn(self, me: ScheduledThread) -> None:
        """Pin the current thread's turn. A detached thread queues for a turn first."""
        with self._mutex:
            if self._running is me:
                self._pinned = True
                return
            me.deadline = None
            self._enqueue(me, _always, False)
        self._await_turn(me)
        _mark_running(me)
        self._pinned = True

    def _enqueue(self, me: ScheduledThread, ready: Callable[[], bool] | None, remote: bool) -> None:
        me.ready, me.remote, me.order, me.waiting = ready, remote, next(self._orders), True

    def _pass_turn(self, me: ScheduledThread) -> None:
        """Give the turn to the next thread, and return when `me` has the turn again."""
        while True:
            chosen = None if self._paused else self._choose()
            if chosen is me:
                self._pinned = False
                break
            self._give_turn(chosen)
            if self._await_turn(me):
                break
        _mark_running(me)

    def _give_turn(self, thread: ScheduledThread | None) -> None:
        with self._mutex:
            self._running = thread
            self._pinned = False
            if thread is not None:
                # Marked before its gate opens; otherwise, until the system wakes the thread, it would appear asleep.
                _mark_running(thread)
        if thread is not None:
            thread.gate.release()

    def _await_turn(self, me: ScheduledThread) -> bool:
        """Wait for the turn. False means that it was taken from a detached thread and no thread is chosen yet."""
        while not me.gate.acquire(timeout=LOOK_SECONDS):
            with self._mutex:
                running = self._running
                if self._paused or self._pinned or running is me or (running is not None and not _sleeps(running)):
                    continue
                self._running, self._pinned = me, True
            return False if me.ready is not _always else self._choose_or_wait(me)
        me.last_seen = _monotonic()
        return True

    def _choose_or_wait(self, me: ScheduledThread) -> bool:
        """Give the turn to the next thread, for a thread that waits only for the turn."""
        chosen = self._choose()
        if chosen is me:
            self._pinned = False
            return True
        self._give_turn(chosen)
        return self._await_turn(me)

    # ---- the choice

    def _choose(self) -> ScheduledThread | None:
        """Return the thread that runs next, moving time if none is ready. None if the run is over and none waits."""
        while True:
            self._await_starts()
            waiting = sorted([thread for thread in self._threads if thread.waiting], key=_order)
            if self.over:
                # The main thread goes first, because the run ends with it.
                return next((thread for thread in waiting if thread is self._main), waiting[0] if waiting else None)
            if (found := self._first_ready(waiting, remote=False)) is not None:
                return found
            if self._unsettled:
                self._settle()
                continue
            if (found := self._first_ready(waiting, remote=True) or self._first_due(waiting)) is not None:
                return found
            self._advance(waiting)
            # If the server had no event at the new time, no predicate can have become true, so none is evaluated again.
            if not (self._unsettled or self.over) and (found := self._first_due(waiting)) is not None:
                return found

    def _await_starts(self) -> None:
        # A thread that the system has not started yet cannot take the turn, so the choice would ignore it.
        for thread in self._threads:
            while not thread.started:
                _sleep(NAP_SECONDS / 20)

    def _first_ready(self, waiting: list[ScheduledThread], *, remote: bool) -> ScheduledThread | None:
        for thread in waiting:
            if thread.remote is remote and thread.ready is not None and _holds(thread.ready):
                thread.result = True
                self._idle_since = None
                return thread
        return None

    def _first_due(self, waiting: list[ScheduledThread]) -> ScheduledThread | None:
        """Return the first thread whose deadline has passed, or None if the server has an event at this time."""
        moment = self._server.now()
        now = _ticks(moment - self._start)
        late = [thread for thread in waiting if thread.deadline is not None and thread.deadline <= now]
        if not late or ((due := self._server.next_due()) is not None and due <= moment):
            return None
        found = min(late, key=lambda thread: (thread.deadline, thread.order))
        found.result = False
        self._idle_since = None
        return found

    def _advance(self, waiting: list[ScheduledThread]) -> None:
        """Move time to the next deadline or server event, but not past the limit."""
        if self._children and self._await_child():
            return
        due = self._server.next_due()
        moments = [self._start + thread.deadline / TICKS for thread in waiting if thread.deadline is not None]
        if due is not None:
            moments.append(due)
        if not moments:
            self._wait_idle(waiting)
        elif (moment := max(min(moments), self._server.now())) > self._start + self._until / TICKS:
            with suppress(Exception):
                self._server.step(self._start + self._until / TICKS)
            self.end("the client had not ended at the limit of its virtual time")
        else:
            self._idle_since = None
            self._unsettled = due is not None and due <= moment
            try:
                self._server.step(moment)
            except Exception as failure:
                self._fail(failure)

    def _fail(self, failure: Exception) -> None:
        self.failure = failure
        self.end(f"the server failed: {failure}")

    def _wait_idle(self, waiting: list[ScheduledThread]) -> None:
        """Wait briefly in real time for work outside virtual time. If it takes too long, the client is stuck."""
        now = _monotonic()
        main = self._main
        if self._idle_since is None:
            self._idle_since = now
        if main is None or main.left:
            is_late = now - self._idle_since > STUCK_SECONDS
            if is_late or all(thread.waiting or _sleeps(thread) for thread in self._threads):
                self.end("the client has ended, and its other threads wait for events that cannot happen")
                return
        elif now - self._idle_since > STUCK_SECONDS and main.waiting:
            self._idle_since = None
            self._make_stuck(main)
            return
        _sleep(NAP_SECONDS)
        self._unsettled = True

    def _make_stuck(self, main: ScheduledThread) -> None:
        if self._stuck is not None:  # the client has caught Stuck, and waits again
            self.end(self._stuck)
            return
        places = waiting_places(thread.ident for thread in self._threads)
        if self._children:
            self._stuck = f"the client waits for a process that it started, which has not ended: {places}"
        else:
            self._stuck = f"every thread of the client waits, and no event is left that could wake one: {places}"
        main.stuck, main.result = True, False
        main.ready, main.remote = _always, False

    def _await_child(self) -> bool:
        """Wait briefly in real time for a process that the client has started; return whether time may not move yet.

        A process works in real time. If virtual time moved meanwhile, every timeout for it would pass at once.
        """
        self._children = [pid for pid in self._children if _is_running(pid)]
        if not self._children or self._children_left <= 0:
            return False
        begun = _monotonic()
        _sleep(NAP_SECONDS)
        self._children_left -= _monotonic() - begun
        self._unsettled = True
        return True

    def _any_ready(self) -> bool:
        # Called by the server's thread, while the running thread waits for `settle` and changes nothing.
        return any(one.ready is not None and _holds(one.ready) for one in self._threads if one.waiting)

    def _settle(self, ready: Callable[[], bool] | None = None) -> None:
        """Wait until the server has nothing left to do, or a thread is ready to read from it."""
        self._unsettled, self._more_in_flight, self._received = False, False, 0
        written, self._written = self._written, WeakSet()
        # First, the request must reach the server: a server that has not received it yet is idle and seems settled.
        _await_delivery(written)
        try:
            arrived = self._server.settle(lambda: self._any_ready() or (ready is not None and _holds(ready)))
            self._more_in_flight = not arrived
        except Exception as failure:
            self._fail(failure)

    # ---- processes

    def started_process(self, pid: int) -> None:
        """Record a process that the client has started."""
        self._children.append(pid)

    # ---- from real time

    def begin(self, thread: ScheduledThread, limit: float) -> None:
        """Start the client's main thread, for at most `limit` virtual seconds."""
        self._main = thread
        self._until = self.ticks() + _ticks(limit)
        self._paused = False
        self._give_turn(thread)

    def resume(self, limit: float) -> None:
        """Let the threads that outlived the main thread run for at most `limit` virtual seconds."""
        self._until = self.ticks() + _ticks(limit)
        with self._mutex:
            self._paused = False
            if not self._threads or self._running is not None:
                return
            # If all threads are detached, one of them has the turn.
            if not any(thread.waiting for thread in self._threads):
                self._running = self._threads[0]
                return
            self._pinned = True  # otherwise, a thread could take the turn during the choice
        self._give_turn(self._choose())

    def await_end(self, ended: Callable[[], bool], patience: float, *, all_asleep: bool = False) -> bool:
        """Wait in real time until `ended()` is true. Returns False if a thread computes for more than `patience`.

        With `all_asleep`, also return False if all threads sleep in the system.
        """
        over_since: float | None = None
        while not ended():
            self._departure.acquire(timeout=LOOK_SECONDS)
            now = _monotonic()
            if all_asleep and self._threads and all(not one.waiting and _sleeps(one) for one in tuple(self._threads)):
                return False
            lost = [one for one in tuple(self._threads) if not one.waiting and now - one.last_seen > patience]
            # A pinned thread is in the scheduler, which has its own bounds.
            if self._pinned and self._running in lost:
                lost.remove(self._running)
            if not lost:
                continue
            # Before the threads are ended: where they are tells an endless loop from a call that blocks.
            places = waiting_places(one.ident for one in lost)
            how = f"the client computed, or waited outside virtual time, for more than {patience:g} s of real time"
            self.overran = True
            self.end(f"{how}: {places}")
            over_since = over_since or now
            if now - over_since > STUCK_SECONDS:
                self.abandoned += [one.name for one in lost]
                return False
            for one in lost:
                _raise_in(one)
        return True

    @property
    def unfinished(self) -> list[str]:
        """The names of the threads that have not ended."""
        return [thread.name for thread in self._threads]


def _mine() -> ScheduledThread:
    thread = _local.thread
    assert thread is not None
    return thread


def _mark_running(thread: ScheduledThread) -> None:
    thread.last_seen, thread.asleep = _monotonic(), None
    thread.waiting = False


_order = attrgetter("order")


def _always() -> bool:
    return True


def _holds(ready: Callable[[], bool]) -> bool:
    """Return `ready()`, or True if it raises, so that the waiting thread gets the error itself."""
    try:
        return ready()
    except Exception:
        return True


def _is_running(pid: int) -> bool:
    """Whether a child process has not ended. Does not reap it."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except (OSError, AttributeError):  # the client has reaped it, or the system cannot tell
        return False


def _ticks(seconds: float) -> int:
    return round(seconds * TICKS)


def _await_delivery(written: Iterable[Any]) -> None:
    """Wait briefly until sent bytes have reached their peer, which may never read them."""
    until = _monotonic() + ARRIVAL_SECONDS
    while any(unacknowledged(one.fileno) for one in written) and _monotonic() < until:
        _sleep(NAP_SECONDS / 5)


def _sleeps(thread: ScheduledThread) -> bool:
    """Whether a thread sleeps in a system call outside virtual time, and has not woken up for ASLEEP_SECONDS."""
    now, state = _monotonic(), _state(thread)
    if now - thread.last_seen < ASLEEP_SECONDS or "S (sleeping)" not in state:
        thread.asleep = None
    elif thread.asleep is None or thread.asleep[1] != state:
        thread.asleep = (now, state)
    return thread.asleep is not None and now - thread.asleep[0] > ASLEEP_SECONDS


def _state(thread: ScheduledThread) -> str:
    """Return a thread's state and context switches as the system reports them. Without /proc, a thread sleeps."""
    try:
        lines = Path(f"/proc/self/task/{thread.native}/status").read_text().splitlines()
        # The counts distinguish one long sleep from many short ones of a thread that waits for the interpreter.
        return "".join(line for line in lines if line.startswith(("State", "voluntary", "nonvoluntary")))
    except OSError:
        return "S (sleeping)"


def _raise_in(thread: ScheduledThread) -> None:
    """Make a thread that never waits raise RunOver at its next bytecode instruction."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(RunOver))
    _sleep(NAP_SECONDS * 20)  # several switch intervals of the interpreter, before the next check
