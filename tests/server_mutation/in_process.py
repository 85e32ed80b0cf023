"""A synchronous HTTP client of an ASGI application in the same thread.

With a server in another thread, each request waits twice for the scheduler: most of a run's time on a busy machine.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import unquote

import httpx
from starlette.types import ASGIApp

Value = TypeVar("Value")
# Real seconds from which a request waits for the end of a job. Only then does time pass while it is under way.
BLOCKING_SECONDS = 120.0
# Time passes in these steps, with a real pause before each, in which the server does what was due.
STEP_SECONDS, STEP_PAUSE = 0.5, 0.02
# Where the application seems to be served; nothing listens there.
URL = "http://127.0.0.1:1"


class OwnLoop:
    """An event loop that runs only while one of several threads waits for a result."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()

    def run(self, work: Coroutine[Any, Any, Value]) -> Value:
        """Run a coroutine, after the ones of other threads, and return its result."""
        with self._lock:
            return self._loop.run_until_complete(work)

    def close(self) -> None:
        """Cancel what still runs, and close the loop."""
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self.run(asyncio.sleep(0))
        self.run(self._loop.shutdown_asyncgens())
        self._loop.close()


class InProcess(httpx.BaseTransport):
    """Sends requests to an ASGI application. `advance` lets some seconds pass, while a request waits for a job."""

    def __init__(self, app: ASGIApp, loop: OwnLoop, advance: Callable[[float], Awaitable[None]]) -> None:
        self._app, self._loop, self._advance = app, loop, advance

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the application's response. Raises ReadTimeout, and ReadError if it responds with nothing."""
        seconds = request.extensions.get("timeout", {}).get("read")
        called = _called(self._app, request)
        work = self._passing(called, seconds) if is_blocking(request) else asyncio.wait_for(called, seconds)
        try:
            status, headers, body = self._loop.run(work)
        except asyncio.TimeoutError:
            raise httpx.ReadTimeout("no response", request=request) from None
        except Exception as error:
            raise httpx.ReadError(str(error), request=request) from None
        return httpx.Response(status, headers=headers, content=body)

    async def _passing(self, called: Coroutine[Any, Any, Value], seconds: float) -> Value:
        """Let time pass until a response has come. Raises TimeoutError after `seconds` of that time."""
        task, passed = asyncio.ensure_future(called), 0.0
        while not (await asyncio.wait({task}, timeout=STEP_PAUSE))[0]:
            if passed >= seconds:
                task.cancel()
                raise asyncio.TimeoutError
            await self._advance(STEP_SECONDS)
            passed += STEP_SECONDS
        return task.result()


def is_blocking(request: httpx.Request) -> bool:
    """Whether a request may take as long as a job."""
    return (request.extensions.get("timeout", {}).get("read") or 0.0) >= BLOCKING_SECONDS


class Passing(httpx.HTTPTransport):
    """Lets time pass, by a call from another thread, while a request on a socket waits for a job."""

    def __init__(self, sleep: Callable[[float], None]) -> None:
        super().__init__()
        self._sleep = sleep

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the server's response."""
        if not is_blocking(request):
            return super().handle_request(request)
        done = threading.Event()

        def passing() -> None:
            while not done.wait(STEP_PAUSE):
                self._sleep(STEP_SECONDS)

        thread = threading.Thread(target=passing, daemon=True)
        thread.start()
        try:
            return super().handle_request(request)
        finally:
            done.set()
            thread.join()


async def _called(app: ASGIApp, request: httpx.Request) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Call an application; return the status, the headers and the body of its response."""
    path = request.url.raw_path.partition(b"?")[0]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": unquote(path.decode()),
        "raw_path": path,
        "query_string": request.url.query,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("127.0.0.1", 2),
        "server": ("127.0.0.1", 1),
    }
    left = [{"type": "http.request", "body": request.read(), "more_body": False}]
    started: list[dict[str, Any]] = []
    pieces: list[bytes] = []

    async def receive() -> Any:
        if left:
            return left.pop()
        await asyncio.Event().wait()
        return None

    async def send(event: Any) -> None:
        if event["type"] == "http.response.start":
            started.append(event)
        elif event["type"] == "http.response.body":
            pieces.append(event.get("body", b""))

    await app(scope, receive, send)
    return started[0]["status"], list(started[0].get("headers", [])), b"".join(pieces)
