"""Threads that live in virtual time: one runs, the others wait, and when all do, time moves; knows no server, no patch.

A thread goes on until it waits for something; then it hands the baton to the next one that can go on, in an order that
depends on nothing real. When none can, the server is let finish, and the clock goes to the next moment at which
anything happens.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
import time
from _thread import allocate_lock
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakSet

from hobbyhorse.clock.socket_queue import unacknowledged

_monotonic, _sleep = time.monotonic, time.sleep  # the real ones, whatever stands there later

TICKS = 1_000_000
"""Virtual time is counted in microseconds, so that sums of waits are exact."""
LOOK_SECONDS = 0.01
"""How often (real) a thread that waits for the baton looks whether the one that has it is stuck."""
ASLEEP_SECONDS = 0.05
"""A thread that sleeps so long outside of virtual time (a lock, a process) does not keep the baton."""
NAP_SECONDS = 0.001
ARRIVAL_SECONDS = 0.2
STUCK_SECONDS = 1.0
"""How long (real) nothing can happen before a client is stuck; it may wait for what is not in virtual time."""
SPARED = 2_000
"""After a refusal an event loop may look at its files and its watch so often, to end its tasks."""
MUCH = 4_096
"""Who has read so many bytes has made room for more, which the other side may have waited for."""
MOST_REFUSALS = 50
"""A thread that goes on after so many refusals is left standing for ever."""


class ServerTime(Protocol):
    """The time of the other side: see the module's docstring."""

    def now(self) -> float:
        """Return the moment."""

    def next_due(self) -> float | None:
        """Return when the other side has something to do next."""

    def settle(self, ready: Callable[[], bool] | None = None) -> None:
        """Wait in real time until the other side has nothing left to do at this moment.

        What it has sent may still be on its way where somebody is `ready` to read it.
        """

    def step(self, moment: float) -> None:
        """Move to a moment, not past what is due next, and begin what is due."""


class RunOver(BaseException):
    """The run has ended; no `except Exception` of a client is meant to catch this."""


class Stuck(BaseException):
    """Every thread of the client waits for something that can never happen."""


@dataclass(slots=True, eq=False)
class ScheduledThread:
    """A thread in virtual time, and what it waits for: `ready` says so, at `deadline` (ticks) it goes on anyway.

    `outer` is whether what makes it ready comes from the other side.
    """

    name: str
    gate: Any = field(default_factory=allocate_lock)
    ready: Callable[[], bool] | None = None
    deadline: int | None = None
    outer: bool = False
    order: int = 0
    answer: bool = False
    arrived: bool = False
    waiting: bool = True
    left: bool = False
    stuck: bool = False
    spared: int = 0
    refusals: int = 0
    seen: float = 0.0
    asleep: tuple[float, str] | None = None
    ident: int = 0
    native: int = 0


class _Here(threading.local):
    governor: Scheduler | None = None
    member: ScheduledThread | None = None


_here = _Here()


def current() -> Scheduler | None:
    """Return what governs this thread, or None where time is real."""
    return _here.governor


@contextmanager
def outside() -> Iterator[None]:
    """Have this thread live in real time as long as the context lasts."""
    governor, _here.governor = _here.governor, None
    try:
        yield
    finally:
        _here.governor = governor


class Scheduler:
    """Governs the threads of one client. `most_sends` and `most_operations` bound one that floods or spins."""

    def __init__(self, timeline: ServerTime, limit: float, most_sends: int, most_operations: int) -> None:
        self._timeline = timeline
        self._start = timeline.now()
        self._until = self.ticks() + _ticks(limit)
        self._most_sends = most_sends
        self._most_operations = most_operations
        self._sends = self._operations = self._received = 0
        self._orders = itertools.count()
        self._members: list[ScheduledThread] = []
        self._main: ScheduledThread | None = None
        self._running: ScheduledThread | None = None
        self._inside = False
        self._paused = True
        self._mutex, self._news = allocate_lock(), allocate_lock()
        self._news.acquire()
        self._touched = True
        self._sent: WeakSet[Any] = WeakSet()
        self._idle: float | None = None
        self.over = False
        self.failure: BaseException | None = None
        self.abandoned: list[str] = []

    # ---- time

    def ticks(self) -> int:
        """Return the virtual time since the start, in microseconds."""
        return _ticks(self._timeline.now() - self._start)

    def moment(self) -> float:
        """Return the moment, in seconds since 1970."""
        self.touch(gentle=True)
        return self._timeline.now()

    def elapsed(self) -> float:
        """Return the virtual time since the start, in seconds."""
        self.touch(gentle=True)
        return self.ticks() / TICKS

    # ---- what threads do

    def touch(self, *, sent: Any = None, spoke: bool = False, gentle: bool = False) -> None:
        """Count an operation of this thread. Raises RunOver when there were too many, or the run is over."""
        me = _mine()
        self._operations += 1
        me.seen = _monotonic()
        if sent is not None:
            self._sends += 1
            self._sent.add(sent)
        if spoke or sent is not None:
            self._touched = True
        if self._sends > self._most_sends or self._operations > self._most_operations:
            self.over = True
        if self.over and me.spared and gentle:
            me.spared -= 1
        elif self.over:
            self._refuse(me)

    def received(self, size: int) -> None:
        """Note that this thread has read so many bytes, which makes room for more to come."""
        self._received += size
        if self._received >= MUCH:
            self._touched = True

    def look(self, ready: Callable[[], bool]) -> None:
        """Have everything arrive that is under way, before a thread looks at a connection without waiting.

        Nothing more is awaited than makes it `ready`: what it does not read yet may be more than there is room for.
        """
        self.touch(gentle=True)
        with outside():
            self._enter(_mine())
            if self._touched:
                self._settle(ready)
            self._inside = False

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Live in real time as long as the context lasts, and keep the baton even asleep."""
        with outside():
            self._enter(_mine())
            try:
                yield
            finally:
                self._inside = False

    def wait(
        self, ready: Callable[[], bool] | None, timeout: float | None, *, outer: bool = False, alone: bool = False
    ) -> bool:
        """Wait until something is ready, or the time is over: then the answer is False.

        `outer` is whether the other side makes it ready, `alone` whether it is all that this thread waits for.
        Raises RunOver when the run is over, and Stuck when this can never end.
        """
        self.touch(gentle=outer and not alone)
        me = _mine()
        if self.over:
            return ready is not None and ready()
        if outer and alone and len(self._members) == 1 and ready is not None and ready():
            return True
        with outside():
            self._enter(me)
            me.deadline = None if timeout is None else self._deadline(timeout)
            self._queue(me, ready, outer)
            self._hand_over(me)
        if self.over:
            self._refuse(me)
        if me.stuck:
            me.stuck = False
            raise Stuck("every thread of the client waits, and nothing is left that could happen")
        return me.answer

    def _deadline(self, timeout: float) -> int:
        now = self.ticks()
        exact = min(timeout, 1e9) * TICKS
        whole = int(exact)
        return now + max(whole + (exact - whole > 1e-3), int(timeout > 0))

    def _refuse(self, me: ScheduledThread) -> None:
        me.refusals += 1
        me.spared = SPARED
        if me.refusals > MOST_REFUSALS:
            self._abandon(me)
        raise RunOver("the run is over")

    def _abandon(self, me: ScheduledThread) -> None:
        """Let a thread that will not end stand for ever."""
        with outside():
            self.abandoned.append(me.name)
            self._leave(me)
            me.gate.acquire()

    # ---- members

    def adopt(self, name: str) -> ScheduledThread:
        """Take in a thread that is about to start."""
        member = ScheduledThread(name)
        member.gate.acquire()
        member.ready = _always
        member.order = next(self._orders)
        self._members.append(member)
        return member

    def disown(self, member: ScheduledThread) -> None:
        """Forget a thread that could not be started."""
        self._members.remove(member)

    def live(self, member: ScheduledThread, work: Callable[[], None]) -> None:
        """Do the work of a thread in virtual time, from when it is its turn."""
        _here.member = member
        member.ident, member.native = threading.get_ident(), threading.get_native_id()
        member.arrived = True
        self._await(member)
        _wake(member)
        try:
            if not self.over:
                _here.governor = self
                work()
        except RunOver:
            pass
        finally:
            _here.governor = None
            self._leave(member)

    def _leave(self, me: ScheduledThread) -> None:
        with self._mutex:
            if me.left:
                return
            me.left = True
            self._members.remove(me)
            mine = self._running is me
            if mine:
                self._inside = True
            if me is self._main:
                self._paused = True
        if mine:
            self._give(self._choose() if self._members and not self._paused else None)
        with suppress(RuntimeError):  # nobody has heard the news before
            self._news.release()

    # ---- the baton

    def _enter(self, me: ScheduledThread) -> None:
        """Go on only with the baton: one who was thought to be asleep queues for it."""
        with self._mutex:
            if self._running is me:
                self._inside = True
                return
            me.deadline = None
            self._queue(me, _always, False)
        self._await(me)
        _wake(me)
        self._inside = True

    def _queue(self, me: ScheduledThread, ready: Callable[[], bool] | None, outer: bool) -> None:
        me.ready, me.outer, me.order, me.waiting = ready, outer, next(self._orders), True

    def _hand_over(self, me: ScheduledThread) -> None:
        while True:
            chosen = None if self._paused else self._choose()
            if chosen is me:
                self._inside = False
                break
            self._give(chosen)
            if self._await(me):
                break
        _wake(me)

    def _give(self, member: ScheduledThread | None) -> None:
        with self._mutex:
            self._running = member
            self._inside = False
            if member is not None:
                _wake(member)
        if member is not None:
            member.gate.release()

    def _await(self, me: ScheduledThread) -> bool:
        """Wait for the baton; False if it was taken from one who sleeps, and is still to be given."""
        while not me.gate.acquire(timeout=LOOK_SECONDS):
            with self._mutex:
                runner = self._running
                if self._paused or runner is None or self._inside or runner is me or not _sleeps(runner):
                    continue
                self._running, self._inside = me, True
            return False if me.ready is not _always else self._pass_on(me)
        me.seen = _monotonic()
        return True

    def _pass_on(self, me: ScheduledThread) -> bool:
        """Choose who goes on, for one who waits for nothing but the baton."""
        chosen = self._choose()
        if chosen is me:
            self._inside = False
            return True
        self._give(chosen)
        return self._await(me)

    # ---- who goes on

    def _choose(self) -> ScheduledThread:
        """Return who can go on, moving time if nobody can."""
        while True:
            self._arrivals()
            waiting = sorted([member for member in self._members if member.waiting], key=_order)
            if self.over and waiting:
                return next((member for member in waiting if member is self._main), waiting[0])
            if (found := self._ready(waiting, outer=False)) is not None:
                return found
            if self._touched:
                self._settle()
                continue
            if (found := self._ready(waiting, outer=True) or self._due(waiting)) is not None:
                return found
            self._move(waiting)
            if not (self._touched or self.over) and (found := self._due(waiting)) is not None:
                return found  # the other side did nothing, so nothing else can be ready that was not before

    def _arrivals(self) -> None:
        for member in self._members:
            while not member.arrived:
                _sleep(NAP_SECONDS / 20)

    def _ready(self, waiting: list[ScheduledThread], *, outer: bool) -> ScheduledThread | None:
        for member in waiting:
            if member.outer is outer and member.ready is not None and _holds(member.ready):
                member.answer = True
                self._idle = None
                return member
        return None

    def _due(self, waiting: list[ScheduledThread]) -> ScheduledThread | None:
        moment = self._timeline.now()
        now = _ticks(moment - self._start)
        late = [member for member in waiting if member.deadline is not None and member.deadline <= now]
        if not late or ((due := self._timeline.next_due()) is not None and due <= moment):
            return None
        found = min(late, key=lambda member: (member.deadline, member.order))
        found.answer = False
        self._idle = None
        return found

    def _move(self, waiting: list[ScheduledThread]) -> None:
        """Move time to the next moment at which anything happens, but not past the limit."""
        due = self._timeline.next_due()
        moments = [self._start + member.deadline / TICKS for member in waiting if member.deadline is not None]
        if due is not None:
            moments.append(due)
        if not moments:
            self._nothing(waiting)
        elif (moment := max(min(moments), self._timeline.now())) > self._start + self._until / TICKS:
            with suppress(Exception):
                self._timeline.step(self._start + self._until / TICKS)
            self.over = True
        else:
            self._idle = None
            self._touched = due is not None and due <= moment
            try:
                self._timeline.step(moment)
            except Exception as failure:
                self.failure, self.over = failure, True

    def _nothing(self, waiting: list[ScheduledThread]) -> None:
        """Wait a little in real time for what is outside of virtual time; in the end the client is stuck."""
        now = _monotonic()
        main = self._main
        if self._idle is None:
            self._idle = now
        if main is None or main.left:
            if len(waiting) == len(self._members):
                self.over = True
                return
        elif now - self._idle > STUCK_SECONDS and main.waiting:
            self._idle = None
            main.stuck, main.answer = True, False
            main.ready, main.outer = _always, False
            return
        _sleep(NAP_SECONDS)
        self._touched = True

    def _somebody(self) -> bool:
        """Whether somebody has something to read; asked while nobody has the baton."""
        return any(one.ready is not None and _holds(one.ready) for one in self._members if one.waiting)

    def _settle(self, ready: Callable[[], bool] | None = None) -> None:
        """Have the other side do all that it has to; what it sends may wait for those who are ready to read."""
        self._touched, self._received = False, 0
        sent, self._sent = self._sent, WeakSet()
        _await_arrival(sent)
        try:
            self._timeline.settle(lambda: self._somebody() or (ready is not None and _holds(ready)))
        except Exception as failure:
            self.failure, self.over = failure, True

    # ---- from outside

    def begin(self, member: ScheduledThread, limit: float) -> None:
        """Give the baton to a thread that is the client's main one, for so many virtual seconds."""
        self._main = member
        self._until = self.ticks() + _ticks(limit)
        self._paused = False
        self._give(member)

    def go_on(self, limit: float) -> None:
        """Have the threads that are left go on for so many virtual seconds."""
        self._until = self.ticks() + _ticks(limit)
        self._paused = False
        if self._members and self._running is None:
            self._give(self._choose())

    def await_end(self, ended: Callable[[], bool], patience: float) -> bool:
        """Wait in real time until something has ended; False if a thread runs on without any operation."""
        hard: float | None = None
        while not ended():
            self._news.acquire(timeout=LOOK_SECONDS)
            now = _monotonic()
            lost = [one for one in tuple(self._members) if not one.waiting and now - one.seen > patience]
            if self._inside and self._running in lost:
                lost.remove(self._running)
            if not lost:
                continue
            self.over = True
            hard = hard or now
            if now - hard > STUCK_SECONDS:
                self.abandoned += [one.name for one in lost]
                return False
            for one in lost:
                _raise_in(one)
        return True

    @property
    def members(self) -> list[str]:
        """The names of the threads that have not ended."""
        return [member.name for member in self._members]


def _mine() -> ScheduledThread:
    member = _here.member
    assert member is not None
    return member


def _wake(member: ScheduledThread) -> None:
    """Note that a thread runs; by then it was last seen just now."""
    member.seen, member.asleep = _monotonic(), None
    member.waiting = False


_order = attrgetter("order")


def _always() -> bool:
    return True


def _holds(ready: Callable[[], bool]) -> bool:
    """Whether something is ready; a question that fails is for the one who asked it to see."""
    try:
        return ready()
    except Exception:
        return True


def _ticks(seconds: float) -> int:
    return round(seconds * TICKS)


def _await_arrival(sent: Iterable[Any]) -> None:
    """Wait until what was sent has reached the other end, which may not read: then not for long."""
    until = _monotonic() + ARRIVAL_SECONDS
    while any(unacknowledged(one.fileno) for one in sent) and _monotonic() < until:
        _sleep(NAP_SECONDS / 5)


def _sleeps(member: ScheduledThread) -> bool:
    """Whether a thread sleeps outside of virtual time, and has for a while without waking once.

    One that waits for the interpreter wakes every few milliseconds.
    """
    now, state = _monotonic(), _state(member)
    if now - member.seen < ASLEEP_SECONDS or "S (sleeping)" not in state:
        member.asleep = None
    elif member.asleep is None or member.asleep[1] != state:
        member.asleep = (now, state)
    return member.asleep is not None and now - member.asleep[0] > ASLEEP_SECONDS


def _state(member: ScheduledThread) -> str:
    """Return what the system says a thread does, and how often it has woken; that it sleeps where it does not say."""
    try:
        lines = Path(f"/proc/self/task/{member.native}/status").read_text().splitlines()
        return "".join(line for line in lines if line.startswith(("State", "voluntary", "nonvoluntary")))
    except OSError:
        return "S (sleeping)"


def _raise_in(member: ScheduledThread) -> None:
    """Have a thread that never waits raise RunOver at its next instruction."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(member.ident), ctypes.py_object(RunOver))
    _sleep(NAP_SECONDS * 20)
