"""Our fake behind a layer that changes one thing in its requests, responses or callbacks, and a suite run on it."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fnmatch import fnmatch
from time import monotonic
from typing import Any
from urllib.parse import quote, unquote

import httpx

from hobbyhorse.clock.clock import Clock
from hobbyhorse.conformance.server.budget import Budget
from hobbyhorse.conformance.server.endpoint import Endpoint, OutOfTime
from hobbyhorse.conformance.server.probes import each_probe
from hobbyhorse.conformance.server.receiver import Receiver
from hobbyhorse.conformance.server.results import ServerResult, concluded
from hobbyhorse.conformance.server.rules import server_rules
from hobbyhorse.conformance.server.session import EndpointUnreachable, Session, Skipped, callback_job_reader
from hobbyhorse.contract.forms.expressions import MISSING, replaced, resolve
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET
from hobbyhorse.contract.values import Contract, Model
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.run import ServerThread

KEY, OTHER = "key-of-the-first-account", "key-of-the-other-account"
# Polls and stages take a twentieth of their time; at a higher speed, a busy machine's delays would count as seconds.
SPEED = 20.0
# Longer than any suite here takes on a busy machine; only a deadlock reaches it.
PATIENCE = 120.0
# More than every probe of any contract costs together.
BUDGET = Decimal(40)
RELAY = "/relay/"
HOP = frozenset({"content-length", "transfer-encoding", "connection", "host"})


class Time:
    """One accelerated time for a server and for the suite."""

    def __init__(self, speed: float = SPEED) -> None:
        self.speed = speed
        self._began, self._origin = time.time(), time.monotonic()

    def now(self) -> float:
        return self._began + (time.monotonic() - self._origin) * self.speed

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / self.speed)

    def clock(self) -> Clock:
        return Clock(self.now(), self.speed)


@dataclass(frozen=True)
class Request:
    """A request and the role of its operation, which is `media` for a file."""

    role: str
    job: str | None
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return _json(self.body)

    def with_json(self, value: Any) -> Request:
        return replace(self, body=json.dumps(value).encode())

    def with_header(self, name: str, value: str | None) -> Request:
        kept = {one: said for one, said in self.headers.items() if one != name}
        return replace(self, headers=kept if value is None else kept | {name: value})


@dataclass(frozen=True)
class Response:
    """A response; `length` replaces its Content-Length."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    length: int | None = None

    @property
    def json(self) -> Any:
        return _json(self.body)

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def with_json(self, value: Any, status: int | None = None) -> Response:
        return replace(self, body=json.dumps(value).encode(), status=status or self.status)

    def with_header(self, name: str, value: str | None) -> Response:
        kept = tuple(pair for pair in self.headers if pair[0] != name)
        return replace(self, headers=kept if value is None else (*kept, (name, value)))


def plain(status: int, value: Any) -> Response:
    return Response(status, (("content-type", "application/json"),), json.dumps(value).encode())


@dataclass(frozen=True)
class Message:
    """A callback in transit; its header names are in lower case."""

    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return _json(self.body)


Post = Callable[[Message], Awaitable[int]]


async def _deliver(message: Message, post: Post) -> int:
    return await post(message)


@dataclass
class Bend:
    """The changes to requests, responses and callbacks. A response in place of a request is sent at once.

    `request` and `response` may be synchronous or asynchronous.
    """

    request: Callable[[Request], Any] = lambda request: request
    response: Callable[[Request, Response], Any] = lambda request, response: response
    callback: Callable[[Message, Post], Awaitable[int]] = _deliver


@dataclass
class Bent:
    """An ASGI application: the fake with a bend; `url` is its address."""

    fake: Fake
    contract: Contract
    bend: Bend
    url: str = ""
    _roles: list[tuple[str, str, re.Pattern[str]]] = field(init=False)

    def __post_init__(self) -> None:
        # A path without parameters before one whose parameter would match it, as the fake routes them.
        roles = sorted(self.contract.operations, key=lambda role: "{" in self.contract.operations[role].path)
        self._roles = [_route(self.contract, role) for role in roles]

    @property
    def relays(self) -> bool:
        """Whether callbacks pass through this application."""
        return self.bend.callback is not _deliver

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.fake(scope, receive, send)
            return
        body = await _all(receive)
        if scope["path"].startswith(RELAY):
            await _say(send, plain(await self._relayed(scope, body), {}), scope["method"])
            return
        request = await _done(self.bend.request(self._read(scope, body)))
        response = request if isinstance(request, Response) else await self._passed(scope, request)
        if isinstance(request, Request):
            response = await _done(self.bend.response(request, response))
        await _say(send, response, scope["method"])

    def _read(self, scope: Any, body: bytes) -> Request:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        path = scope["path"]
        role, job = "media", None
        for name, method, pattern in self._roles:
            if method == scope["method"] and (found := pattern.fullmatch(path)):
                role, job = name, found.groupdict().get("job")
                break
        request = Request(role, job, scope["method"], path, scope["query_string"].decode("latin-1"), headers, body)
        return self._through_relay(request)

    def _through_relay(self, request: Request) -> Request:
        """Route callbacks through this application."""
        binding = self.contract.operations["submit"].bindings.get("callback_url")
        if not self.relays or request.role != "submit" or binding is None:
            return request
        body = request.json
        for place in binding.request:
            url = resolve(body, place.pointer)
            if place.part == "body" and isinstance(url, str):
                return request.with_json(replaced(body, place.pointer, f"{self.url}{RELAY}{quote(url, safe='')}"))
        return request

    async def _relayed(self, scope: Any, body: bytes) -> int:
        target = unquote(scope["raw_path"].decode().removeprefix(RELAY))
        headers = {name.decode(): value.decode() for name, value in scope["headers"] if name.decode() not in HOP}
        async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as http:

            async def post(message: Message) -> int:
                # Some probes submit a URL at which nothing can listen.
                try:
                    return (await http.post(target, content=message.body, headers=message.headers)).status_code
                except httpx.HTTPError:
                    return 502

            return await self.bend.callback(Message(headers, body), post)

    async def _passed(self, scope: Any, request: Request) -> Response:
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers.items()]
        headers = [pair for pair in headers if pair[0] != b"content-length"]
        headers += [(b"content-length", str(len(request.body)).encode())] if request.body else []
        changed = scope | {
            "path": request.path,
            "raw_path": quote(request.path, safe="/%").encode(),
            "query_string": request.query.encode(),
            "headers": headers,
        }
        status, found, pieces = 0, [], []
        left = [{"type": "http.request", "body": request.body, "more_body": False}]

        async def receive() -> Any:
            if left:
                return left.pop()
            await asyncio.sleep(PATIENCE)
            return {"type": "http.disconnect"}

        async def send(event: Any) -> None:
            nonlocal status, found
            if event["type"] == "http.response.start":
                status, found = event["status"], event.get("headers", [])
            elif event["type"] == "http.response.body":
                pieces.append(event.get("body", b""))

        await self.fake(changed, receive, send)
        pairs = tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in found)
        response = Response(status, pairs, b"".join(pieces))
        sizes = [int(value) for name, value in pairs if name == "content-length"]
        return replace(response, length=sizes[0]) if scope["method"] == "HEAD" and sizes else response


def _route(contract: Contract, role: str) -> tuple[str, str, re.Pattern[str]]:
    operation = contract.operations[role]
    binding = operation.bindings.get("job")
    names = {place.name for place in (binding.request if binding else ()) if place.part == "path"}
    pieces = re.split(r"\{(\w+)\}", operation.path)
    path = "".join(
        re.escape(piece) if not n % 2 else "(?P<job>[^/]+)" if piece in names else ".+"
        for n, piece in enumerate(pieces)
    )
    return role, operation.method, re.compile(f"/{contract.key}{path}")


async def _all(receive: Any) -> bytes:
    pieces = []
    while True:
        event = await receive()
        pieces.append(event.get("body", b""))
        if not event.get("more_body"):
            return b"".join(pieces)


async def _say(send: Any, response: Response, method: str) -> None:
    length = len(response.body) if response.length is None else response.length
    pairs = [(name, value) for name, value in response.headers if name not in HOP]
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
    headers.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else response.body})


async def _done(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return MISSING


@contextmanager
def bent(contract: Contract, bend: Bend, options: Options) -> Iterator[str]:
    """Serve the fake with a bend, and yield its base URL."""
    app = Bent(Fake([contract], options), contract, bend)
    server = ServerThread(app)
    app.url = server.url
    try:
        yield f"{server.url}/{contract.key}"
    finally:
        server.stop()


def options(time: Time, **more: Any) -> Options:
    keys = frozenset({KEY, OTHER})
    defaults: dict[str, Any] = {"api_keys": keys, "strict": True, "pace": "fast", "make_clock": time.clock}
    return Options(**(defaults | more))


def run_suite(
    contract: Contract,
    model: Model,
    url: str,
    time: Time,
    *,
    names: Sequence[str] = ("*",),
    picture: bytes | None = None,
    patience: float | None = None,
    secret: str | None = DEFAULT_SECRET,
) -> ServerResult:
    """Run the probes with matching names on an endpoint, in accelerated time, and judge the trace.

    A request may take `patience` real seconds; without it, as long as in a real run.
    """
    began = monotonic()
    heard = ("callback:order", "pictures:limits") if contract.callbacks is not None else ("pictures:limits",)
    listens = any(fnmatch(one, name) for one in heard for name in names)
    with (
        httpx.Client(trust_env=False) as http,
        Receiver(callback_job_reader(contract), now=time.now) if listens else nullcontext() as receiver,
    ):
        endpoint = Endpoint(contract, url, KEY, Budget(BUDGET), began + PATIENCE, http, now=time.now)
        endpoint.request_seconds = patience or endpoint.request_seconds
        session = Session(
            endpoint,
            model,
            other_key=OTHER,
            picture=picture,
            receiver=receiver,
            callback_secret=secret,
            sleep=time.sleep,
            clock=time.now,
        )
        for probe in each_probe(session):
            if any(fnmatch(probe.name, name) for name in names):
                try:
                    probe.run(session)
                except Skipped as error:
                    session.note(probe.name, str(error))
                except (EndpointUnreachable, OutOfTime):
                    break
        return concluded(session, contract, server_rules(), monotonic() - began)
