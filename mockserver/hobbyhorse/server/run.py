"""The fake on a real socket: in the foreground for the command line, in a thread for tests.

uvicorn is subclassed for two reasons. It has no callback for "accepts connections", and the process that starts a
server must not guess: `_Server` reports it. And its shutdown is made for production, where a tenth of a second is
nothing: it sleeps 0.1 s between ticks and 0.1 s again before it closes, and waits a second for open requests. A test
suite starts and stops hundreds of servers, and a client under test holds connections open on purpose. `_QuickServer`
stops on an event and gives open requests `STOP_GRACE_SECONDS`.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import gc
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import uvicorn
from starlette.types import ASGIApp

from hobbyhorse.contract.validators import validators
from hobbyhorse.server.app import Fake
from hobbyhorse.server.files.scratch import sweep
from hobbyhorse.server.transport import IDLE_SECONDS, OpenProtocol

if TYPE_CHECKING:  # made only for a server with TLS
    from hobbyhorse.server.front.gate import Front
    from hobbyhorse.server.front.protocols import FrontProtocol

# Beyond any orderly stop, which takes a tenth of a second; then the daemon thread is left to the end of the process.
STOP_SECONDS = 5.0
# Of these, left for the end itself.
STOP_MARGIN_SECONDS = 1.5
# Loopback, but another host than the server's: to a client, it looks like a host on an internal network.
PRIVATE = "127.0.0.2"
# An hour: longer than any test. Otherwise a slow test would meet closed connections that a fast one does not.
IDLE_SECONDS_IN_TESTS = 3_600
# Enough for a response that is being written; a request that waits for a clock never ends by itself.
STOP_GRACE_SECONDS = 0.03
# Longer than a front waits for the end of TLS on its idle connections.
TLS_GRACE_SECONDS = 0.1


class _Server(uvicorn.Server):
    """A uvicorn server that calls back when it accepts connections; those of a `front` too."""

    def __init__(
        self,
        config: uvicorn.Config,
        ready: Callable[[], None],
        front: Front | None = None,
        end_streams: Callable[[], None] = lambda: None,
        kinds: Mapping[type[FrontProtocol], type[FrontProtocol]] | None = None,
    ) -> None:
        super().__init__(config)
        self._kinds = kinds or {}
        self._ready = ready
        self._front = front
        # Responses that would last as long as their clients hold up the stop.
        self._end_streams = end_streams

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections, then call back."""
        await super().startup(sockets)
        if self.started:
            if self._front is not None:
                self.servers.append(self._front.open(self._protocol))  # type: ignore[arg-type]
            self._drop_unread()
            self._ready()

    def _drop_unread(self) -> None:
        """Drop the connections whose clients read nothing, now and once in each idle time from now on."""
        for connection in tuple(self.server_state.connections):
            cast(OpenProtocol, connection).drop_unread()
        asyncio.get_running_loop().call_later(self.config.timeout_keep_alive, self._drop_unread)

    def _protocol(self, kind: type[FrontProtocol], **options: Any) -> FrontProtocol:
        """Make a protocol for a connection of the gate, as uvicorn does for the others."""
        kind = self._kinds.get(kind, kind)
        return kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state, **options)


def bind(host: str, port: int, shared: bool = False) -> socket.socket:
    """Bind a socket; port 0 picks a free port. Raises OSError if the address is in use.

    `shared` sockets of one user may have the same port: Linux distributes the connections over the listening ones.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A server that restarts on its port must not wait for the old connections to leave TIME_WAIT.
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        found.bind((host, port))
    except OSError:
        found.close()
        raise
    return found


def address(bound: socket.socket, scheme: str = "http") -> str:
    """Return the URL of a bound socket."""
    host, port = bound.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if bound.family == socket.AF_INET6 else f"{scheme}://{host}:{port}"


@dataclass(frozen=True, slots=True)
class OtherOrigin:
    """The URL of another origin, and the bound sockets at which it is served."""

    url: str
    sockets: tuple[socket.socket, ...]


def bind_elsewhere() -> dict[str, OtherOrigin]:
    """Bind sockets for the other origins: `media`, `port`, `foreign` and, if the system has the address, `private`.

    `media` and `port` are other ports of the server's host. `foreign` is another host name, because a client may keep
    its key for another port of the same host, as Go's net/http does.
    """
    found = {kind: _origin(bind("127.0.0.1", 0)) for kind in ("media", "port")}
    named = _bind_localhost()
    found["foreign"] = OtherOrigin(f"http://localhost:{named[0].getsockname()[1]}", named)
    # Linux has all of 127.0.0.0/8; macOS has 127.0.0.1 only.
    with suppress(OSError):
        found["private"] = _origin(bind(PRIVATE, 0))
    return found


def _origin(bound: socket.socket) -> OtherOrigin:
    return OtherOrigin(address(bound), (bound,))


def _bind_localhost() -> tuple[socket.socket, ...]:
    """Bind one port on both addresses of `localhost`; on IPv4 alone if the system has no IPv6."""
    while True:
        found = bind("127.0.0.1", 0)
        try:
            return found, bind("::1", found.getsockname()[1])
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return (found,)
            # Another program has the port on IPv6: clients may prefer that address, so the port is of no use.
            found.close()


def announce(url: str, pids: Sequence[int] = (), more: Mapping[str, Any] | None = None) -> None:
    """Print the line on stdout that tells other programs that the server is ready, and the processes that serve.

    `more` are members for the line.
    """
    line = {"url": url, "pid": os.getpid(), "ui": f"{url}/_mock/ui", **({"pids": [*pids]} if pids else {})}
    print(json.dumps({**line, **(more or {})}), flush=True)


Protocol = TypeVar("Protocol", bound=OpenProtocol)


@dataclass(frozen=True, slots=True)
class Shared(Generic[Protocol]):
    """What a server needs that shares its worlds with others: the socket at which they reach it, and its protocol.

    `accept` is called before the server is ready, with a function that makes the protocol of a connection that another
    process has accepted.
    """

    socket: socket.socket
    protocol: type[Protocol]
    accept: Callable[[Callable[[], Protocol]], None]
    kinds: Mapping[type[FrontProtocol], type[FrontProtocol]] = field(default_factory=dict)
    """What stands in for the protocols of a front."""


def serve(
    fake: Fake,
    bound: socket.socket,
    ready_at: Callable[[str], None],
    front: Front | None = None,
    shared: Shared[Protocol] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. When ready, call `ready_at` with the URL, on the event loop. Raises StateError."""
    url = address(bound)

    def ready() -> None:
        # The contracts and modules never become garbage: no collection has to walk through them.
        gc.freeze()
        if shared is not None:
            make = shared.protocol
            shared.accept(lambda: make(server.config, server.server_state, server.lifespan.state))
        ready_at(url)
        # Off the event loop, and before the first submission needs them.
        threading.Thread(target=_prepare, daemon=True).start()

    # uvicorn raises the signal again after its shutdown; the default handler would turn that into a failed exit.
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, lambda number, frame: None)
    protocol = OpenProtocol if shared is None else shared.protocol
    kinds = None if shared is None else shared.kinds
    server = _ServeServer(_config(fake.application(), protocol=protocol), ready, front, fake.end_streams, kinds)
    server.begin = fake.begin
    server.run(sockets=[bound] if shared is None else [bound, shared.socket])
    sys.stdout.flush()


def _prepare() -> None:
    """Do the work of a start that no client waits for: the validators, and the directories that killed servers left."""
    validators()
    sweep()


class _ServeServer(_Server):
    """A server that ends with its process, whatever runs."""

    begin: Callable[[], Awaitable[None]]
    """Goes on with a kept state. Raises StateError."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin before the application does: uvicorn would print a traceback of the application's error."""
        await self.begin()
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop in order, and after `STOP_SECONDS` in any case."""
        self._end_streams()
        # A thread that encodes a video cannot be stopped, and Python waits for it.
        last = threading.Timer(STOP_SECONDS - STOP_MARGIN_SECONDS, _end)
        last.daemon = True
        last.start()
        await super().shutdown(sockets)


def _end() -> None:
    """End the process without waiting for its threads."""
    # What is registered there removes temporary directories.
    with suppress(Exception):
        atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(0)


class _QuickServer(_Server):
    """A server for tests: its stop waits neither for the next tick nor for idle connections."""

    def __init__(
        self,
        config: uvicorn.Config,
        ready: Callable[[], None],
        front: Front | None = None,
        end_streams: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config, ready, front, end_streams)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Stop the server. Call it on the server's event loop."""
        self.should_exit = True
        self._stopping.set()

    async def main_loop(self) -> None:
        """Tick until the server stops."""
        # As in uvicorn: ten ticks a second, counted up to a day; but the stop ends the pause.
        counter = 0
        while not await self.on_tick(counter):
            counter = (counter + 1) % 864_000
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), 0.1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close idle connections, give open requests a moment, cancel the rest, then end the lifespan."""
        self._end_streams()
        # The sockets stay open: their owner is ServerThread, which closes them when the thread has ended.
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        open_requests = set(self.server_state.tasks)
        if open_requests:
            _, open_requests = await asyncio.wait(open_requests, timeout=STOP_GRACE_SECONDS)
        for task in open_requests:
            task.cancel()
        # A cancelled request still sends its refusal or aborts its connection.
        if open_requests:
            await asyncio.wait(open_requests, timeout=STOP_GRACE_SECONDS)
        if self._front is not None and self.server_state.connections:
            await asyncio.sleep(TLS_GRACE_SECONDS)
        await self.lifespan.shutdown()


class ServerThread:
    """A server in its own thread, started by the constructor; it also accepts on `more` bound sockets, and a front."""

    def __init__(
        self,
        fake: ASGIApp,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        more: Sequence[socket.socket] = (),
        front: Front | None = None,
    ) -> None:
        self._bound = bind(host, port)
        self._sockets = [self._bound, *more]
        self._front = front
        self._started = threading.Event()
        end_streams = fake.end_streams if isinstance(fake, Fake) else lambda: None
        config = _config(fake, keep_alive=IDLE_SECONDS_IN_TESTS)
        self._server = _QuickServer(config, self._ready, front, end_streams)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.url = address(self._bound)
        run = {"sockets": self._sockets}
        self._thread = threading.Thread(target=self._server.run, kwargs=run, name="hobbyhorse", daemon=True)
        self._thread.start()
        # In steps, because a thread that dies during startup sets nothing.
        while not self._started.wait(0.05):
            if not self._thread.is_alive():
                self._close()
                raise RuntimeError("the server stopped before it was ready; see its log")

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that the server runs on."""
        assert self._loop is not None
        return self._loop

    def _ready(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._started.set()

    def stop(self) -> None:
        """Stop the server, and wait for its thread."""
        if self._thread.is_alive():
            with suppress(RuntimeError):  # the loop has closed in the meantime
                self.loop.call_soon_threadsafe(self._server.stop)
        self._thread.join(STOP_SECONDS)
        self._close()

    def _close(self) -> None:
        for one in (*self._sockets, *(self._front.sockets if self._front is not None else ())):
            one.close()


@contextmanager
def serving(fake: Fake, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve from a thread while the context lasts; yields the server's URL."""
    server = ServerThread(fake, host, port)
    try:
        yield server.url
    finally:
        server.stop()


def _config(
    fake: ASGIApp, keep_alive: int = IDLE_SECONDS, protocol: type[OpenProtocol] = OpenProtocol
) -> uvicorn.Config:
    # Without `proxy_headers`, because `front.forwarded` reads them. Without `server_header`, a response has only the
    # headers that its contract documents. 1 s is the shortest graceful stop that uvicorn takes, which does not know
    # NO_COLOR. Without WebSockets also if a library for them is installed: no provider has any.
    return uvicorn.Config(
        fake,
        http=protocol,
        ws="none",
        log_level="warning",
        use_colors=False if os.environ.get("NO_COLOR") else None,
        access_log=False,
        lifespan="on",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=keep_alive,
    )
