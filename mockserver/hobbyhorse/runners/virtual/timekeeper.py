"""Move the time of one world and of the programs that run in it. Knows no contract.

One thread reads the messages of all tracers, and decides when time moves. In each turn:

1. Every program is idle: its tracer has reported that all of its threads sleep.
2. The server settles. Meanwhile, it may have sent something that wakes a program.
3. Every tracer is asked again. If a program has run since its first report, the turn begins again.
4. Otherwise nothing can happen at this time: neither the server nor a program has anything to do. Time moves to the
   earliest event. If the server and a program are due at the same time, the server goes first.
5. Before the server's event, every program gets the new time, and its tracer is asked again: what the server sends
   wakes a program, which must not read the time of an earlier event.

Invariants:

* Time does not move while a program is started (`expect`), so that programs that belong together begin together.
* One wait of one program ends in a turn, so that the order of requests depends on nothing real.
* A program that computes is not idle, and time stands. If one of its threads computes for longer than ALLOWANCE,
  without a pause, then time passes as it computes: the thread may wait for the clock itself. That is as fast as in real
  time, so that no deadline passes that would not pass there.
* Each run ends: at the limit of virtual time, at the number of requests, if nothing is left that could wake a program
  (`stuck`), and in any case at the real time that its caller allows.
"""

from __future__ import annotations

import math
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from hobbyhorse.runners.command import CommandError
from hobbyhorse.runners.scheduler import ServerTime
from hobbyhorse.runners.virtual.compiled import Unavailable
from hobbyhorse.runners.virtual.traced_process import TracedProcess

SECOND = 1_000_000_000  # in nanoseconds, the unit of the tracer
# The programs' machine was started some days before their first moment: programs subtract from the monotonic clock.
UPTIME_SECONDS = 225_600
# Nanoseconds for which a thread may compute before time passes with it: longer than any start of a runtime.
ALLOWANCE = SECOND
# Real seconds without any event after which a program is stuck. Longer than work outside the program takes.
STUCK_SECONDS = 1.0
# Real seconds between two looks at a program that seems stuck, or waits for a peer that is not the server.
LOOK_SECONDS = 0.02
# Real seconds between two counts of the requests of a program that is never idle: it may send thousands in each.
COUNT_SECONDS = 0.2
# Real seconds in all for which time stands while a program waits for an address that is not of this machine. A name
# server answers within them; an address that never answers costs them once.
OUTSIDE_SECONDS = 2.0


class Timekeeper:
    """The virtual time of one world, and of its programs. A context manager.

    A run ends after `limit` virtual seconds, or once `requests()` exceeds `most_requests`. Processes that outlive their
    program run on for `watched` virtual seconds. `steps` are pairs of a time
    since the start and the seconds by which the wall clock of the programs is then set.
    """

    def __init__(
        self,
        server_time: ServerTime,
        tracer: Path,
        limit: float,
        *,
        requests: Callable[[], int] = lambda: 0,
        most_requests: int = 0,
        watched: float = 0.0,
        steps: Sequence[tuple[float, float]] = (),
    ) -> None:
        self._time, self._tracer = server_time, tracer
        self._requests, self._most_requests, self._watched = requests, most_requests, watched
        self._start = server_time.now()
        self._now = math.ceil(self._start * SECOND)
        self._boot = self._now - UPTIME_SECONDS * SECOND
        self._until = self._start + limit
        self._steps = [(self._now + round(at * SECOND), round(by * SECOND)) for at, by in steps]
        self._step = 0
        self.crept = 0.0
        """Virtual seconds that have passed because a program computed."""
        self.unsupported: list[str] = []
        self.denied: list[str] = []
        self.failure: Exception | None = None
        self._processes: list[TracedProcess] = []
        self._expected = 0
        self._starting = threading.Lock()
        self._settled: dict[TracedProcess, int] | None = None
        self._told: float | None = None
        """The time of the server's next event, once every program has it."""
        self._idle_since: float | None = None
        self._outside_left = OUTSIDE_SECONDS
        self._condition: Callable[[], bool] | None = None
        self._reached = threading.Event()
        self._closed = False
        self._selector = selectors.DefaultSelector()
        self._waker, self._wakes = socket.socketpair()
        self._wakes.setblocking(False)
        self._selector.register(self._wakes, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._keep, name="timekeeper", daemon=True)
        self._thread.start()

    def __enter__(self) -> Timekeeper:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def now(self) -> float:
        """Return the moment."""
        return self._time.now()

    # ---- for the threads that start programs

    def expect(self, count: int) -> None:
        """Do not move time until this many programs have been started, or could not be started."""
        with self._starting:
            self._expected += count

    def launch(self, argv: Sequence[str], variables: Mapping[str, str]) -> TracedProcess:
        """Start a program. Raises OSError, ValueError or CommandError."""
        with self._starting:
            # Under the lock, so that time does not move between the program's start and its first turn.
            try:
                found = TracedProcess(
                    self._tracer,
                    argv,
                    variables,
                    now=self._now,
                    boot=self._boot,
                    clock=self._time.now,
                    watched=self._watched,
                )
            except Unavailable as error:
                raise CommandError(f"{argv[0]!r} cannot be started in virtual time: {error}") from None
            finally:
                self._expected = max(self._expected - 1, 0)
            self._processes.append(found)
            self._settled = None
        self._selector.register(found.socket, selectors.EVENT_READ, found)
        self._wake()
        return found

    def watch(self, pid: int) -> None:
        """Wait in real time until the processes that outlived a program have ended, or were ended."""
        while any(one.pid == pid for one in tuple(self._processes)) and not self._closed:
            time.sleep(LOOK_SECONDS / 10)

    def settle(self) -> None:
        """Wait in real time until the server has nothing left to do at this time."""
        self._time.settle()

    def pass_time(self, seconds: float) -> None:
        """Let time pass while no program runs."""
        goal = self.now() + seconds
        while (due := self._time.next_due()) is not None and due <= goal:
            self._time.step(due)
            self._time.settle()
        self._time.step(goal)
        self._now = max(self._now, math.ceil(self.now() * SECOND))

    def stop_when(self, condition: Callable[[], bool]) -> None:
        """Let time stand from the moment at which a condition holds. It is checked before each move."""
        self._reached.clear()
        self._condition = condition
        self._wake()

    def reached(self, seconds: float) -> bool:
        """Wait in real time until the condition of `stop_when` holds; return whether it does."""
        return self._reached.wait(seconds)

    def go_on(self) -> None:
        """Let time move again."""
        self._condition = None
        self._reached.clear()
        self._wake()

    def close(self) -> None:
        """End the thread. Programs that are still there are killed."""
        self._closed = True
        self._wake()
        self._thread.join()
        for one in list(self._processes):
            self._note(one)  # the thread may have read of calls and of the program's end, and not have come to a turn
            one.kill()
            one.socket.close()
        self._selector.close()
        self._waker.close()
        self._wakes.close()

    def _wake(self) -> None:
        with suppress(OSError):
            self._waker.send(b".")

    # ---- the thread

    def _keep(self) -> None:
        pause: float | None = None
        try:
            while not self._closed:
                self._read(pause)
                with self._starting:
                    pause = self._turns()
        except Exception as error:  # the server has failed: no run can be judged
            self.failure = error
            self._cut(f"the server failed: {error}")
        self._reached.set()

    def _read(self, pause: float | None) -> None:
        for key, _ in self._selector.select(pause):
            if key.data is None:
                with suppress(BlockingIOError):
                    self._wakes.recv(4096)
            elif not key.data.read():
                self._selector.unregister(key.fileobj)
                key.data.socket.close()
                self._forget(key.data)

    def _forget(self, process: TracedProcess) -> None:
        self._note(process)
        if process in self._processes:
            self._processes.remove(process)
        self._settled = None

    def _note(self, process: TracedProcess) -> None:
        for all_names, names in ((self.unsupported, process.unsupported), (self.denied, process.denied)):
            all_names += [name for name in names if name not in all_names]

    def _turns(self) -> float | None:
        """Move time as long as every program is idle. Returns the real seconds until the next look, or None."""
        while not self._closed:
            for one in self._processes:
                self._note(one)
            if self._most_requests and self._requests() > self._most_requests:
                self._cut(f"the client has sent more than {self._most_requests:,} requests")
                return None
            if self._expected or not self._processes or self._reached.is_set():
                return None
            if any(one.idle is None for one in self._processes):
                self._creep()
                return COUNT_SECONDS
            if (pause := self._turn()) != 0:
                return pause
        return None

    def _serials(self) -> dict[TracedProcess, int]:
        return {one: one.idle.serial for one in self._processes if one.idle is not None}

    def _turn(self) -> float | None:
        """Settle, or move time. Returns 0 for another turn at once, or the real seconds until it; None for a report."""
        serials = self._serials()
        if self._settled != serials:
            self._time.settle()
            self._settled = serials
            self._ask()
            return None
        if self._condition is not None and self._condition():
            self._reached.set()
            return None
        return self._advance()

    def _ask(self) -> None:
        for one in self._processes:
            one.ask()

    def _advance(self) -> float | None:
        """Move time to the next event."""
        settled, self._settled = self._settled, None
        first = min(self._processes, key=lambda one: _due(one))
        due = _due(first)
        server = self._time.next_due()
        leaving = [one for one in self._processes if one.until is not None]
        last = min((one.until for one in leaving if one.until is not None), default=math.inf)
        moment = min(due / SECOND, math.inf if server is None else server, last, self._next_step())
        if moment > self._until:
            if due == _NEVER and server is None:
                return self._wait_idle()
            self._to(self._until)
            self._cut("the client had not ended at the limit of its virtual time")
            return None
        self._idle_since = None
        if moment == last:
            self._to(last)
            for one in leaving:
                if one.until == last:
                    one.kill()
                    one.idle = None
            return None
        if due / SECOND <= moment and (server is None or server > moment):
            if (pause := self._await_outside()) is not None:
                return pause
            self._to(moment, at=due)
            first.idle = None
            self._tell(first)
            return None
        if self._told != moment:
            self._told, self._settled = moment, settled
            self._move(math.ceil(moment * SECOND))
            self._tell(None)
            self._ask()
            return None
        self._to(moment)
        return 0

    def _to(self, moment: float, at: int = 0) -> None:
        """Move the server's time, and note the programs' time."""
        self._told = None
        if moment > self._time.now() or ((due := self._time.next_due()) is not None and due <= moment):
            self._time.step(moment)
        self._move(max(at, math.ceil(self._time.now() * SECOND)))

    def _move(self, now: int) -> None:
        """Note the programs' time in nanoseconds."""
        self._now = max(self._now, now)
        while self._steps and self._steps[0][0] <= self._now:
            self._step += self._steps.pop(0)[1]

    def _next_step(self) -> float:
        return self._steps[0][0] / SECOND if self._steps else math.inf

    def _tell(self, woken: TracedProcess | None) -> None:
        """Set the time of every program, and end the first wait of one."""
        for one in self._processes:
            one.send(f"{'to' if one is woken else 'set'} {self._now} {self._step}")

    def _await_outside(self) -> float | None:
        """Wait in real time for a peer outside this machine, within a bound."""
        if self._outside_left <= 0 or not any(one.outside for one in self._processes):
            return None
        self._outside_left -= LOOK_SECONDS
        return LOOK_SECONDS

    def _wait_idle(self) -> float | None:
        """Wait in real time for work outside virtual time. If it takes too long, the programs are stuck."""
        now = time.monotonic()
        self._idle_since = self._idle_since or now
        if now - self._idle_since < STUCK_SECONDS:
            return LOOK_SECONDS
        for one in self._processes:
            one.stuck = one.exit_status() is None and not one.outside
        self._cut("every thread of the client waits, and no event is left that could wake one")
        return None

    def _creep(self) -> None:
        """Let time pass with a thread that computes for long."""
        for one in self._processes:
            computed = max(one.computed - ALLOWANCE, 0)
            if one.idle is not None or computed <= one.crept:
                continue
            passed, one.crept = computed - one.crept, computed
            self.crept += passed / SECOND
            self._settled = None
            self._creep_to(self._time.now() + passed / SECOND)

    def _creep_to(self, moment: float) -> None:
        self._time.settle()
        while (due := self._time.next_due()) is not None and due <= moment:
            self._to(due)
            self._time.settle()
        self._to(moment)
        if moment > self._until:
            self._cut("the client had not ended at the limit of its virtual time")
        for one in self._processes:
            one.idle = None
            one.send(f"to {self._now} {self._step}")

    def _cut(self, reason: str) -> None:
        """End every program."""
        for one in self._processes:
            if one.exit_status() is None:
                one.cut = one.cut or reason
            one.kill()
            one.idle = None


# Nanoseconds after every moment, for a program without a deadline.
_NEVER = 1 << 62


def _due(process: TracedProcess) -> int:
    return process.idle.due if process.idle is not None and process.idle.due is not None else _NEVER
