"""Quiescence: whether a server has anything left to do at the current time of its clock. Knows nothing about jobs.

In virtual time another thread moves the clock from one due moment to the next (`TimeStepper`). It may do so only when
the server is *quiescent*: no request, callback or clock step is runnable, because each of them waits for a clock or for
its peer. A step that is too early gives a wrong result: time jumps while a response is in flight, the client's deadline
passes before the client could read the response, and the suite reports that a correct client gave up. A step that is
too late costs only real time. So when in doubt, the code below waits, within a bound.

States of an activity
    An activity is one request, one action begun by a clock step, or one of the tasks of `together`. It exists while its
    `ActivityGroup.activity()` context lasts. It is *busy* while `holds` is 0 and *held* otherwise. A hold surrounds
    each wait that only an outside event can end: a sleep on a clock (`Clock.sleep_until`), an ASGI `receive` or `send`,
    and the wait for the response to an outgoing request (`awaiting_response`). Every other `await` (a lock, a worker
    thread, a file) leaves the activity busy, because it ends without help from outside.

Invariants
    * Each hold is released: `held` releases it in a `finally`, and httpx reports each started response as complete or
      failed. A leaked hold would make a working request count as idle permanently.
    * A request counts once, wherever it waits. `busy` counts activities without holds; it does not subtract holds from
      requests. Otherwise, a request that waits in two places would hide a request that works.
    * A nested task counts separately. Tasks inherit their parent's activity through a context variable, so the hold of
      one task would also cover its busy sibling. Concurrent deliveries are therefore separate activities (`together`),
      and a task that only bounds the time of its sibling is not counted (`unheld`).
    * Actions that are due now begin in the same turn in which the request that added them ends, so that something is
      busy in every turn.

Why several turns
    asyncio does not expose its queue of ready callbacks. One callback that sees nothing busy proves little: bytes on a
    socket become a request only after the selector, the transport, the parser and a new task each had a turn, and a
    future that was set resumes its task one turn later. The server is quiescent after QUIET_TURNS consecutive turns, in
    each of which the selector has polled every connection. While something is busy, the check spins for EAGER_TURNS
    turns, since most work takes microseconds, and then polls every PAUSE_SECONDS, so as not to starve a worker thread.

Bytes in socket buffers
    The client may not yet be able to read a response that the application has sent. Bytes wait in asyncio's write
    buffer, or in the kernel's send queue (see socket_queue.py), and count as in flight until they are acknowledged. Two
    observations bound the wait. First, Linux delays the acknowledgement of unread bytes by some 40 ms, although on one
    machine they have arrived by then: after ACKNOWLEDGEMENT_POLLS polls only bytes *not sent* count. Second, bytes that
    are not sent wait for room at a client that does not read: when their number has not changed for STALLED_POLLS
    polls, or after MOST_POLLS in all, `ignore_unread` notes the number, and the connection counts again only when the
    number changes. But while an acknowledgement is due, the client may have read everything, and the rest waits only
    for it: TCP begins with ten segments, however small. So only polls without one count as stalled.

    A client that is ready to read (`ready`) ends the wait immediately, since a server sends the rest of a large body
    only while it is read. `settle` then reports that bytes are left, and its caller settles again before it moves time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Protocol
from weakref import ref

from hobbyhorse.clock.socket_queue import not_sent, unacknowledged

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]

# Turns of the loop without a busy activity until the server counts as quiescent. More than the turns from a readable
# socket to the first step of its request; each turn polls every connection, so more would only cost time.
QUIET_TURNS = 12
# Turns to spin while an activity is busy, before the check falls back to polling. Enough for most requests.
EAGER_TURNS = 100
# Real seconds between two polls: long against the cost of a poll, short against the work that is waited for.
PAUSE_SECONDS = 0.001
# Polls of bytes in flight, 0.3 s in all, until they count as unread. The bound for a client that reads very slowly.
MOST_POLLS = 300
# The same if the number of bytes has not changed for this many polls: then the peer has no room, and reads nothing.
STALLED_POLLS = 12
# Polls for which unacknowledged bytes count too. On loopback the bytes have arrived by then; a delayed
# acknowledgement would take 40 polls.
ACKNOWLEDGEMENT_POLLS = 3
# Closed connections are dropped with each 64th new one: a scan for each would be quadratic, none at all would leak.
FORGET_EVERY = 64
# From this ASGI version on, Starlette streams a file without a concurrent `receive` that waits for the disconnect. That
# hold would cover the whole request, and the sending of the file from another thread would count as waiting.
SPECIFICATION = "2.4"
# Real seconds for which a server may be busy at one moment before the wait is aborted: work that takes longer is a
# deadlock.
MOST_BUSY_SECONDS = 120.0


class Activity:
    """One unit of work; `holds` counts its waits for a clock or a peer, `group` counts it."""

    __slots__ = ("_counts", "group", "holds")

    def __init__(self, group: ActivityGroup | None = None) -> None:
        self.group = group
        self.holds = 0
        self._counts = False

    def begin(self) -> None:
        """Begin to count in the group."""
        self._counts = True
        self._add(1)

    def end(self) -> None:
        """Count no more in the group, whatever a task that has outlived the activity does."""
        if self.holds == 0:
            self._add(-1)
        self._counts = False

    def hold(self) -> None:
        """Begin a wait."""
        self.holds += 1
        if self.holds == 1:
            self._add(-1)

    def release(self) -> None:
        """End a wait."""
        self.holds -= 1
        if self.holds == 0:
            self._add(1)

    def _add(self, number: int) -> None:
        if self._counts and self.group is not None:
            self.group.busy += number


_CURRENT: ContextVar[Activity | None] = ContextVar("activity", default=None)


@contextmanager
def held() -> Iterator[None]:
    """Hold the current activity, which waits for a clock or its peer, within the context."""
    activity = _CURRENT.get()
    if activity is None:
        yield
        return
    activity.hold()
    try:
        yield
    finally:
        activity.release()


@contextmanager
def unheld() -> Iterator[None]:
    """Exclude waits in this context from quiescence detection: a sibling task is doing the work."""
    token = _CURRENT.set(None)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def awaiting_response() -> Callable[[str, Mapping[str, Any]], Awaitable[None]]:
    """Return a `trace` extension for one httpx request, which holds the activity while the response is awaited."""
    # Without an activity the holds go to a throwaway one: the trace runs in whatever context httpx calls it.
    activity = _CURRENT.get() or Activity()

    async def trace(event: str, info: Mapping[str, Any]) -> None:
        # The prefix is the protocol, `http11` or `http2`; sending and connecting are work of this process and stay
        # busy.
        _, _, step = event.partition(".")
        if step == "receive_response_headers.started":
            activity.hold()
        elif step in ("receive_response_headers.complete", "receive_response_headers.failed"):
            activity.release()

    return trace


async def together(*works: Coroutine[Any, Any, None]) -> None:
    """Run coroutines concurrently, each as a separate activity. The current activity is held meanwhile."""
    activity = _CURRENT.get()
    group = activity.group if activity is not None else None

    async def counted(work: Coroutine[Any, Any, None]) -> None:
        with group.activity() if group is not None else nullcontext():
            await work

    with held():
        await asyncio.gather(*(counted(work) for work in works))


class ActivityGroup:
    """The current activities of one kind. `busy` counts the activities that are not held."""

    def __init__(self) -> None:
        self.busy = 0

    @contextmanager
    def activity(self) -> Iterator[None]:
        """Count this context, and the tasks that it creates, as one activity."""
        activity = Activity(self)
        activity.begin()
        token = _CURRENT.set(activity)
        try:
            yield
        finally:
            _CURRENT.reset(token)
            activity.end()


class SteppableClock(Protocol):
    """A clock that another thread steps."""

    @property
    def next_due(self) -> float | None:
        """The time of the clock's next entry, or None if nothing waits."""

    @property
    def speed(self) -> float:
        """The multiple of real time at which the clock runs, or 0 if it is stopped."""

    @property
    def working(self) -> int:
        """The number of busy activities that steps have begun."""

    def now(self) -> float:
        """Return the moment."""

    def step(self, moment: float) -> None:
        """Move to a moment, but not past the next due entry, and begin that entry if it is due."""


class RequestTracker:
    """ASGI middleware that counts an application's busy requests. A request that waits for its client is held.

    `loop` is the event loop of the last call. When a request ends, actions that are due on a followed clock begin.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._requests = ActivityGroup()
        self._clocks: tuple[ref[SteppableClock], ...] = ()
        self._connections: dict[Any, int] = {}
        self.loop: asyncio.AbstractEventLoop | None = None

    @property
    def busy(self) -> int:
        """The number of requests and clock actions that wait neither for a clock nor for a peer."""
        # Asked in each turn of the loop, so without a list of the clocks.
        found = self._requests.busy
        for one in self._clocks:
            if (clock := one()) is not None:
                found += clock.working
        return found

    def in_flight(self, *, unacknowledged_too: bool = True) -> bool:
        """Whether bytes of a response have not reached their client, apart from those that `ignore_unread` noted.

        Without `unacknowledged_too`, bytes that were sent count as arrived.
        """
        self._forget_closed()
        return any(
            (size := _in_flight(connection)) and size != ignored and (unacknowledged_too or _not_sent(connection))
            for connection, ignored in self._connections.items()
        )

    @property
    def bytes_in_flight(self) -> int:
        """The number of bytes that clients have not acknowledged, as far as the OS reports it."""
        return sum(map(_in_flight, self._connections))

    @property
    def acknowledgement_due(self) -> bool:
        """Whether a client has still to acknowledge bytes that were sent, as far as the OS reports it."""
        return any(_in_flight(connection) > _not_sent(connection) for connection in self._connections)

    def ignore_unread(self) -> None:
        """Count the bytes now in flight as unread by their clients, until the number of a connection changes."""
        self._connections = {connection: _in_flight(connection) for connection in self._connections}

    def _remember(self, connection: Any) -> None:
        """Track a connection until it closes, so that its bytes in flight can be counted."""
        if connection in self._connections:
            return
        if len(self._connections) % FORGET_EVERY == 0:
            self._forget_closed()
        self._connections[connection] = 0

    def _forget_closed(self) -> None:
        for connection in list(self._connections):
            if connection.is_closing() and not connection.get_write_buffer_size():
                del self._connections[connection]

    def follow(self, clock: SteppableClock) -> None:
        """Also count the actions that a clock has begun. Keeps only a weak reference, since worlds are short-lived."""
        followed = self._followed()
        if clock not in followed:
            self._clocks = tuple(ref(one) for one in (*followed, clock))

    def _followed(self) -> list[SteppableClock]:
        return [clock for one in self._clocks if (clock := one()) is not None]

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        self.loop = asyncio.get_running_loop()
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def held_receive() -> Event:
            with held():
                return await receive()

        async def held_send(event: Event) -> None:
            with held():
                await send(event)

        # The server's transport is passed as an ASGI extension; recognised by its interface, not by the extension's
        # name.
        for extension in scope.get("extensions", {}).values():
            if hasattr(extension, "get_extra_info"):
                self._remember(extension)
        scope = {**scope, "asgi": {**scope.get("asgi", {}), "spec_version": SPECIFICATION}}
        with self._requests.activity():
            await self._app(scope, held_receive, held_send)
        # Without a turn in between: the stepper must not find the server idle before these have begun.
        for clock in self._followed():
            while clock.speed == 0 and (due := clock.next_due) is not None and due <= clock.now():
                clock.step(due)


class TimeStepper:
    """Moves the time of one world from another thread, step by step, each time after the server is quiescent.

    `trackers` are the applications that may work for this world; the world's own server is the first.
    """

    def __init__(self, clock: SteppableClock, trackers: Sequence[RequestTracker]) -> None:
        self._clock = clock
        self._trackers = tuple(trackers)
        self._trackers[0].follow(clock)

    def now(self) -> float:
        """Return the moment."""
        return self._clock.now()

    def next_due(self) -> float | None:
        """Return the time of the clock's next entry, or None if nothing waits."""
        return self._clock.next_due

    def settle(self, ready: Callable[[], bool] | None = None) -> bool:
        """Wait in real time until every server is quiescent and its bytes have arrived. Raises TimeoutError.

        `ready` reports whether the client has something to read. If it does, bytes in flight are not awaited: the
        return value tells whether none is left.
        """
        arrived = True
        for tracker in self._trackers:
            if tracker.loop is not None and not tracker.loop.is_closed():
                arrived = _Settling(tracker, tracker.loop, ready).wait() and arrived
        return arrived

    def step(self, moment: float) -> None:
        """Move the clock to a time, but not past the next due entry. Begin that entry without waiting for its end."""
        due = self._clock.next_due
        if due is None or due > moment:
            self._clock.step(moment)
            return
        loop = self._trackers[0].loop
        if loop is None:
            raise RuntimeError("the server is not running; call MockServer().start() first")
        # A bare lock instead of an Event, which is a Condition written in Python: each step needs one.
        done = threading.Lock()
        done.acquire()

        def step_on_loop() -> None:
            try:
                self._clock.step(moment)
            finally:
                done.release()

        loop.call_soon_threadsafe(step_on_loop)
        if not done.acquire(timeout=MOST_BUSY_SECONDS):
            raise TimeoutError(f"the server's event loop did not run the step within {MOST_BUSY_SECONDS:g} s")


class _Settling:
    """One wait until a loop is quiescent, implemented as callbacks on that loop (see the module's docstring)."""

    def __init__(
        self, tracker: RequestTracker, loop: asyncio.AbstractEventLoop, ready: Callable[[], bool] | None = None
    ) -> None:
        self._tracker = tracker
        self._ready = ready
        self._loop = loop
        self._quiet_turns = self._eager_turns = self._polls = self._stalled_polls = 0
        self._last_bytes: int | None = None
        self._arrived = True
        self._done = threading.Lock()

    def wait(self) -> bool:
        """Wait; return whether no byte is left in flight to a client that reads."""
        self._done.acquire()
        self._loop.call_soon_threadsafe(self._turn)
        if not self._done.acquire(timeout=MOST_BUSY_SECONDS):
            raise TimeoutError(
                f"{self._tracker.busy} requests or callbacks were still busy after {MOST_BUSY_SECONDS:g} s"
            )
        return self._arrived

    def _turn(self) -> None:
        busy = self._tracker.busy
        self._quiet_turns = 0 if busy else self._quiet_turns + 1
        self._eager_turns = self._eager_turns + 1 if busy else 0
        if self._quiet_turns > QUIET_TURNS:
            self._check_arrival()
        elif self._eager_turns < EAGER_TURNS:
            self._loop.call_soon(self._turn)
        else:
            self._loop.call_later(PAUSE_SECONDS, self._turn)

    def _check_arrival(self) -> None:
        """Settle if every byte has reached its client, or the client does not read; otherwise poll again."""
        self._polls += 1
        in_flight = self._tracker.in_flight(unacknowledged_too=self._polls <= ACKNOWLEDGEMENT_POLLS)
        if not in_flight or (self._ready is not None and self._ready()):
            self._arrived = not in_flight
            self._done.release()
        elif self._polls < MOST_POLLS and not self._stalls():
            # Through `_turn`, not here again: a client that reads may send its next request meanwhile.
            self._loop.call_later(PAUSE_SECONDS, self._turn)
        else:
            self._tracker.ignore_unread()
            self._done.release()

    def _stalls(self) -> bool:
        """Whether the bytes in flight have not changed for STALLED_POLLS polls, and no acknowledgement is due."""
        left = self._tracker.bytes_in_flight
        still = left == self._last_bytes and not self._tracker.acknowledgement_due
        self._stalled_polls = self._stalled_polls + 1 if still else 0
        self._last_bytes = left
        return self._stalled_polls >= STALLED_POLLS


def _in_flight(connection: Any) -> int:
    """Return how many bytes of a connection the peer has not acknowledged, as far as the OS reports it."""
    buffered = int(connection.get_write_buffer_size())
    return buffered + unacknowledged(lambda: connection.get_extra_info("socket").fileno())


def _not_sent(connection: Any) -> int:
    """Return how many bytes of a connection wait to be sent: the peer has no room, or has to acknowledge others."""
    buffered = int(connection.get_write_buffer_size())
    return buffered + not_sent(lambda: connection.get_extra_info("socket").fileno())
