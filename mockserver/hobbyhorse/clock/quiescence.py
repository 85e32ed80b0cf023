"""What an event loop is busy with, and what of that waits for a clock or for a peer; knows no clock and no job."""

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

QUIET_TURNS = 12
"""So many turns of the event loop without anything to do, and nothing is left: each looks at every connection."""
EAGER_TURNS = 100
"""So many turns in a row are made for what is being worked at, before it is looked at again but every millisecond."""
PAUSE_SECONDS = 0.001
MOST_LOOKS = 300
"""So often, every millisecond, is looked whether what was sent has arrived, before it is thought to be left unread."""
STALLED_LOOKS = 12
"""The same if it has not become less for so many looks in a row: then there is no room for it at the other end."""
LOOKS_FOR_A_WORD = 3
"""So often is waited for what was sent to be acknowledged, too: on one machine it has arrived by then."""
LOOKED_THROUGH = 64
"""With every so many connections, those that are closed are forgotten."""
SPECIFICATION = "2.4"
"""From this version of ASGI on, applications that stream a file do not wait for the client to leave beside that."""
MOST_BUSY_SECONDS = 120.0
"""How long (real) a server may be busy with one moment."""


class Activity:
    """Something that is being done; `holds` is in how many places it waits for others, `among` where it is counted."""

    __slots__ = ("among", "holds")

    def __init__(self, among: ActivityGroup | None = None) -> None:
        self.among = among
        self.holds = 0


_CURRENT: ContextVar[Activity | None] = ContextVar("activity", default=None)


@contextmanager
def held() -> Iterator[None]:
    """Say that what is being done here waits for a clock or for its peer as long as the context lasts."""
    activity = _CURRENT.get()
    if activity is None:
        yield
        return
    activity.holds += 1
    try:
        yield
    finally:
        activity.holds -= 1


@contextmanager
def unheld() -> Iterator[None]:
    """Have what waits in this context hold nothing: somebody waits beside it who is busy."""
    token = _CURRENT.set(None)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def awaiting_response() -> Callable[[str, Mapping[str, Any]], Awaitable[None]]:
    """Return a `trace` for one request of httpx: what is being done is held while the answer is waited for."""
    activity = _CURRENT.get() or Activity()

    async def trace(event: str, info: Mapping[str, Any]) -> None:
        _, _, what = event.partition(".")
        if what == "receive_response_headers.started":
            activity.holds += 1
        elif what in ("receive_response_headers.complete", "receive_response_headers.failed"):
            activity.holds -= 1

    return trace


async def together(*works: Coroutine[Any, Any, None]) -> None:
    """Do several things at once, each of which counts by itself; what is being done here is held meanwhile."""
    activity = _CURRENT.get()
    among = activity.among if activity is not None else None

    async def by_itself(work: Coroutine[Any, Any, None]) -> None:
        with among.activity() if among is not None else nullcontext():
            await work

    with held():
        await asyncio.gather(*(by_itself(work) for work in works))


class ActivityGroup:
    """Everything of one kind that is being done."""

    def __init__(self) -> None:
        self._begun: set[Activity] = set()

    @property
    def busy(self) -> int:
        """How much of it waits for nobody."""
        return sum(not activity.holds for activity in self._begun)

    @contextmanager
    def activity(self) -> Iterator[None]:
        """Count what is done in this context, and in the tasks that it makes, as one."""
        activity = Activity(self)
        self._begun.add(activity)
        token = _CURRENT.set(activity)
        try:
            yield
        finally:
            _CURRENT.reset(token)
            self._begun.discard(activity)


class SteppableClock(Protocol):
    """A clock that is moved from outside."""

    @property
    def next_due(self) -> float | None:
        """The moment at which it has something to do next."""

    @property
    def speed(self) -> float:
        """How fast it runs; 0 if it stands."""

    @property
    def working(self) -> int:
        """How much that a step has begun is under way and waits for nobody."""

    def now(self) -> float:
        """Return the moment."""

    def step(self, moment: float) -> None:
        """Move to a moment, not past what is due next, and begin the first that is due."""


class RequestTracker:
    """An ASGI application that counts the requests in another one: those that wait for their client do not count.

    `loop` is the event loop that it was last called on. What is due at once on a clock that it follows is begun with
    the end of a request.
    """

    def __init__(self, app: Application) -> None:
        self._app = app
        self._requests = ActivityGroup()
        self._clocks: tuple[ref[SteppableClock], ...] = ()
        self._connections: dict[Any, int] = {}
        self.loop: asyncio.AbstractEventLoop | None = None

    @property
    def busy(self) -> int:
        """How much waits neither for a clock nor for somebody else."""
        return self._requests.busy + sum(clock.working for clock in self._followed())

    def on_its_way(self, *, acknowledged: bool = True) -> bool:
        """Whether anything has not reached its client, which may be because the client does not read.

        What was sent and is not `acknowledged` counts, or does not.
        """
        self._forget_closed()
        return any(
            (size := _unsent(one)) and size != before and (acknowledged or _held_back(one))
            for one, before in self._connections.items()
        )

    @property
    def unsent(self) -> int:
        """How many bytes no client has acknowledged yet, as far as the system says."""
        return sum(map(_unsent, self._connections))

    def give_up(self) -> None:
        """Think of what is on its way as of what clients do not read, until more is sent."""
        self._connections = {connection: _unsent(connection) for connection in self._connections}

    def _met(self, connection: Any) -> None:
        """Keep a connection, that what it sends may be asked for, until it is closed."""
        if connection in self._connections:
            return
        if len(self._connections) % LOOKED_THROUGH == 0:
            self._forget_closed()
        self._connections[connection] = 0

    def _forget_closed(self) -> None:
        for connection in list(self._connections):
            if connection.is_closing() and not connection.get_write_buffer_size():
                del self._connections[connection]

    def follow(self, clock: SteppableClock) -> None:
        """Count what a clock has begun, too, for as long as there is the clock."""
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

        async def hear() -> Event:
            with held():
                return await receive()

        async def say(event: Event) -> None:
            with held():
                await send(event)

        for extension in scope.get("extensions", {}).values():
            if hasattr(extension, "get_extra_info"):
                self._met(extension)
        scope = {**scope, "asgi": {**scope.get("asgi", {}), "spec_version": SPECIFICATION}}
        with self._requests.activity():
            await self._app(scope, hear, say)
        for clock in self._followed():
            while clock.speed == 0 and (due := clock.next_due) is not None and due <= clock.now():
                clock.step(due)


class TimeStepper:
    """The time of one world, moved from another thread: step by step, when nothing is left to do in the one before.

    `watches` are the applications that may be busy with it; the world's own comes first.
    """

    def __init__(self, clock: SteppableClock, watches: Sequence[RequestTracker]) -> None:
        self._clock = clock
        self._watches = tuple(watches)
        self._watches[0].follow(clock)

    def now(self) -> float:
        """Return the moment."""
        return self._clock.now()

    def next_due(self) -> float | None:
        """Return when the clock has something to do next."""
        return self._clock.next_due

    def settle(self, ready: Callable[[], bool] | None = None) -> None:
        """Wait in real time until nothing is left to do at this moment. Raises TimeoutError.

        What was sent has arrived, too, unless somebody is `ready` to read it: much is sent only as it is read.
        """
        for watch in self._watches:
            if watch.loop is not None and not watch.loop.is_closed():
                _Settling(watch, watch.loop, ready).wait()

    def step(self, moment: float) -> None:
        """Move the clock to a moment, not past what is due next, and begin the first that is due, without waiting."""
        due = self._clock.next_due
        if due is None or due > moment:
            self._clock.step(moment)
            return
        loop = self._watches[0].loop
        if loop is None:
            raise RuntimeError("the server does not run; MockServer().start() comes first")
        done = threading.Lock()
        done.acquire()

        def there() -> None:
            try:
                self._clock.step(moment)
            finally:
                done.release()

        loop.call_soon_threadsafe(there)
        if not done.acquire(timeout=MOST_BUSY_SECONDS):
            raise TimeoutError("the server's event loop does not answer")


class _Settling:
    """The wait for a loop to have nothing left to do."""

    def __init__(
        self, watch: RequestTracker, loop: asyncio.AbstractEventLoop, ready: Callable[[], bool] | None = None
    ) -> None:
        self._watch = watch
        self._ready = ready
        self._loop = loop
        self._quiet = self._eager = self._looks = self._stalled = 0
        self._left: int | None = None
        self._done = threading.Lock()

    def wait(self) -> None:
        self._done.acquire()
        self._loop.call_soon_threadsafe(self._turn)
        if not self._done.acquire(timeout=MOST_BUSY_SECONDS):
            raise TimeoutError(
                f"{self._watch.busy} requests or callbacks were still busy after {MOST_BUSY_SECONDS:g} s"
            )

    def _turn(self) -> None:
        busy = self._watch.busy
        self._quiet = 0 if busy else self._quiet + 1
        self._eager = self._eager + 1 if busy else 0
        if self._quiet > QUIET_TURNS:
            self._arrive()
        elif self._eager < EAGER_TURNS:
            self._loop.call_soon(self._turn)
        else:
            self._loop.call_later(PAUSE_SECONDS, self._turn)

    def _arrive(self) -> None:
        """Settle when everything that was sent has reached its client, or the client does not read."""
        self._looks += 1
        on_its_way = self._watch.on_its_way(acknowledged=self._looks <= LOOKS_FOR_A_WORD)
        if not on_its_way or (self._ready is not None and self._ready()):
            self._done.release()
        elif self._looks < MOST_LOOKS and not self._stalls():
            self._loop.call_later(PAUSE_SECONDS, self._turn)
        else:
            self._watch.give_up()
            self._done.release()

    def _stalls(self) -> bool:
        """Whether what is on its way has been the same for so long that its client does not read."""
        left = self._watch.unsent
        self._stalled = self._stalled + 1 if left == self._left else 0
        self._left = left
        return self._stalled >= STALLED_LOOKS


def _unsent(connection: Any) -> int:
    """Return how many bytes of a connection the other end has not acknowledged, as far as the system says."""
    buffered = int(connection.get_write_buffer_size())
    return buffered + unacknowledged(lambda: connection.get_extra_info("socket").fileno())


def _held_back(connection: Any) -> bool:
    """Whether some bytes of a connection wait for room at the other end."""
    return bool(connection.get_write_buffer_size() or not_sent(lambda: connection.get_extra_info("socket").fileno()))
