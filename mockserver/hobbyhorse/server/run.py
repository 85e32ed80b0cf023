"""The fake behind a real socket: in the foreground for the command line, in a thread for everybody else."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import uvicorn
from starlette.types import ASGIApp

from hobbyhorse.server.app import Fake
from hobbyhorse.server.transport import OpenProtocol

STOP_SECONDS = 5.0
PRIVATE = "127.0.0.2"
IDLE_SECONDS = 3_600
"""How long a server in a thread keeps a connection that idles: what a test sees does not hang on how long it takes."""
STOP_GRACE_SECONDS = 0.03
"""How long a server in a thread lets answers end that are under way when it is stopped."""


class _Server(uvicorn.Server):
    """A uvicorn server that says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections, then say so."""
        await super().startup(sockets)
        if self.started:
            self._ready()


def bind(host: str, port: int) -> socket.socket:
    """Return a bound socket; port 0 picks a free one. Raises OSError if the address is in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
    except OSError:
        found.close()
        raise
    return found


def address(bound: socket.socket) -> str:
    """Return the URL of a bound socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if bound.family == socket.AF_INET6 else f"http://{host}:{port}"


def bind_elsewhere() -> dict[str, socket.socket]:
    """Return sockets for the files and for where no client may go: `media`, `foreign`, and `private` where that goes.

    The last one is at another address of this machine, which not every system has.
    """
    found = {kind: bind("127.0.0.1", 0) for kind in ("media", "foreign")}
    with suppress(OSError):
        found["private"] = bind(PRIVATE, 0)
    return found


def serve(fake: Fake, bound: socket.socket, banner: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; print one JSON line on stdout when ready, the banner after it."""
    url = address(bound)

    def ready() -> None:
        print(json.dumps({"url": url, "pid": os.getpid()}), flush=True)
        banner(url)

    # uvicorn raises the signal anew when it has stopped; by then there is nothing left to do
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, lambda number, frame: None)
    _Server(_config(fake), ready).run(sockets=[bound])
    sys.stdout.flush()


class _QuickServer(_Server):
    """The same for tests, which stop it often: it does not wait for its next tick, nor for connections that idle."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config, ready)
        self._leave = asyncio.Event()

    def leave(self) -> None:
        """Stop; to be called on the server's own event loop."""
        self.should_exit = True
        self._leave.set()

    async def main_loop(self) -> None:
        """Tick until told to leave."""
        counter = 0
        while not await self.on_tick(counter):
            counter = (counter + 1) % 864_000
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._leave.wait(), 0.1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close every connection, end what is under way, and let the application end."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        under_way = set(self.server_state.tasks)
        if under_way:
            _, under_way = await asyncio.wait(under_way, timeout=STOP_GRACE_SECONDS)
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.wait(under_way, timeout=STOP_GRACE_SECONDS)
        await self.lifespan.shutdown()


class ServerThread:
    """A server in a thread of its own: started when it is made, at `url`, on the event loop `loop`.

    It accepts on `more` sockets, too, which are bound already.
    """

    def __init__(
        self, fake: ASGIApp, host: str = "127.0.0.1", port: int = 0, more: Sequence[socket.socket] = ()
    ) -> None:
        self._bound = bind(host, port)
        self._sockets = [self._bound, *more]
        self._begun = threading.Event()
        self._server = _QuickServer(_config(fake, keep_alive=IDLE_SECONDS), self._ready)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.url = address(self._bound)
        run = {"sockets": self._sockets}
        self._thread = threading.Thread(target=self._server.run, kwargs=run, name="hobbyhorse", daemon=True)
        self._thread.start()
        while not self._begun.wait(0.05):
            if not self._thread.is_alive():
                self._close()
                raise RuntimeError("the server stopped before it was ready; its log says why")

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that the server runs on."""
        assert self._loop is not None
        return self._loop

    def _ready(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._begun.set()

    def stop(self) -> None:
        """Stop accepting, end what is under way, and wait for the thread."""
        if self._thread.is_alive():
            with suppress(RuntimeError):  # its loop has ended meanwhile
                self.loop.call_soon_threadsafe(self._server.leave)
        self._thread.join(STOP_SECONDS)
        self._close()

    def _close(self) -> None:
        for one in self._sockets:
            one.close()


@contextmanager
def serving(fake: Fake, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve from a thread for as long as the context lasts; gives the server's URL."""
    server = ServerThread(fake, host, port)
    try:
        yield server.url
    finally:
        server.stop()


def _config(fake: ASGIApp, keep_alive: int = 5) -> uvicorn.Config:
    return uvicorn.Config(
        fake,
        http=OpenProtocol,
        log_level="warning",
        access_log=False,
        lifespan="on",
        server_header=False,
        proxy_headers=True,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=keep_alive,
    )
