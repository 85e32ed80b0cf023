"""The application with observers: each request gets an id, and each observer gets the request when it has ended.

The server itself knows nothing of this. `Observed` stands between uvicorn and the fake, and takes the place of the
fake's handler of provider requests, where it learns the operation. Without an observer, neither exists.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from starlette.types import Message, Receive, Scope, Send

from hobbyhorse.server.observing.held_loop import HeldLoop, Steps
from hobbyhorse.server.request import OperationRequest
from hobbyhorse.traces.redaction import SHORTEST_KEY

if TYPE_CHECKING:
    from hobbyhorse.server.app import Fake
    from hobbyhorse.worlds.journal import JournalNote

ID_HEADER = b"x-mock-request-id"
# Bytes: two of a thousand million requests have the same id with a probability of 3 %.
ID_BYTES = 8
# Characters of a path in a log: longer ones are of no provider.
MOST_PATH = 200
OBSERVED = "hobbyhorse.server.observed"
"""The name under which the scope of a request has its `ObservedRequest`."""


@dataclass(slots=True)
class ObservedRequest:
    """A request and, as soon as they are known, its operation and the status of its response.

    `began` is on the wall clock, for spans; `ticks` is on the clock that measures durations. `error` is the type of the
    exception that ended the request.
    """

    method: str
    raw_path: str
    headers: Sequence[tuple[bytes, bytes]]
    id: str = field(default_factory=lambda: os.urandom(ID_BYTES).hex())
    began: float = field(default_factory=time.time)
    ticks: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    status: int | None = None
    call: OperationRequest | None = None
    error: str | None = None

    @property
    def path(self) -> str:
        """The path without the query and without the client's key, cut."""
        path = self.raw_path
        # A shorter key would match ordinary words.
        if self.call is not None and self.call.key and len(self.call.key) >= SHORTEST_KEY:
            path = path.replace(self.call.key, "[key]")
        return path if len(path) <= MOST_PATH else f"{path[:MOST_PATH]}…"

    def facts(self) -> Iterator[tuple[str, Any]]:
        """Yield the name and value of everything known about the request, but its id, method, path and status."""
        call = self.call
        if call is None:
            return
        yield "provider", call.contract.key
        yield "operation", call.role
        yield "world", call.known.handle if call.known is not None else None
        # Unset before the exchange is noted: a client that leaves early is not noted at all.
        note: JournalNote | None = getattr(call.entry, "note", None)
        if note is not None:
            yield "situation", note.situation
            yield "job", call.made or note.job or _job_in_path(call)
            yield "fault", note.move
        if call.scenario is not None:
            yield "scenario", call.scenario.scenario.name


def _job_in_path(call: OperationRequest) -> str | None:
    """Return the job that a path names if it exists: a response that a fault replaced is of no job."""
    binding = call.route.operation.bindings.get("job") if call.role is not None else None
    name = binding.request[0].name if binding is not None and binding.request else None
    return found if name is not None and (found := call.path.get(name)) in call.world.jobs else None


def _status_of(request: ObservedRequest) -> int | None:
    """Return the status of a response that a variation has written to the socket itself."""
    note = getattr(request.call.entry, "note", None) if request.call is not None else None
    return note.status or None if note is not None and request.error is None else None


class Observer(Protocol):
    """Gets each request when it has ended."""

    def ended(self, request: ObservedRequest) -> None:
        """Record a request."""


Setup = Callable[[ExitStack], Observer]
"""Creates an observer when the server starts; what it leaves on the stack ends with the server."""


class Observed:
    """The fake as an ASGI application with observers."""

    def __init__(self, fake: Fake, setups: Sequence[Setup], held: Callable[[], HeldLoop] | None = None) -> None:
        self._fake = fake
        self._setups = setups
        self._make_held = held
        self._observers: tuple[Observer, ...] = ()
        self._held: HeldLoop | None = None
        self._handle, fake.handle = fake.handle, self._note

    async def _note(self, call: OperationRequest) -> None:
        if (request := call.scope.get(OBSERVED)) is not None:
            request.call = call
        await self._handle(call)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            with self._running():
                return await self._fake(scope, receive, send)
        request = ObservedRequest(scope["method"], scope["path"], scope["headers"])
        scope[OBSERVED] = request
        name = (ID_HEADER, request.id.encode())

        async def sending(event: Message) -> None:
            if event["type"] == "http.response.start":
                request.status = event["status"]
                event = {**event, "headers": [*event["headers"], name]}
            await send(event)

        work = self._fake(scope, receive, sending)
        try:
            await (work if self._held is None else Steps(work, self._held, request))
        except BaseException as error:
            request.error = type(error).__name__
            raise
        finally:
            request.seconds = time.perf_counter() - request.ticks
            request.status = request.status or _status_of(request)
            for observer in self._observers:
                observer.ended(request)
        return None

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Create the observers in the process and on the event loop that serve, and end them with the server."""
        with ExitStack() as stack:
            self._observers = tuple(setup(stack) for setup in self._setups)
            if self._make_held is not None:
                self._held = self._make_held()
                stack.enter_context(self._held)
            yield
