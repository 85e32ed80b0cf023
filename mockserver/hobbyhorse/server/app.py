"""The fake providers as an ASGI application.

A request takes one path through this module, and each step may end it:

1. Route. `/PROVIDER/...` selects a provider by prefix. Any other path that is not one of the server's own selects it
   by `Host`, for clients with a fixed base URL. Files, `/_mock` and unknown paths go to the server routes.
2. Authenticate. The API key names the world. A route that needs a key refuses a request without an accepted one.
3. Limit. A key over its rate is refused before its body is read.
4. Scenario. The request joins the active scenario of its job, or activates an armed one.
5. Decide. The role's function in `operations` makes the response; a fault may replace it, or keep it from being
   called.
6. Respond. The response is sent as it is, or `socket_faults` sends it through the broken connection.
7. Journal. The exchange is recorded before the first byte leaves: a client that has its response and then reads the
   journal must find itself there. The handover is completed afterwards, with the last byte.

Two invariants hold at every exit. A claimed idempotency key is released, or the next request with it would be refused
forever. And a request that arrived in full is recorded once, whatever fault its response meets. A request that its
client abandons before the body is complete is not recorded.

Modules that only some requests need are imported on first use: `serve` prints its ready line that much earlier.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as Event

from hobbyhorse.clock.clock import Clock, RealClock
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET
from hobbyhorse.contract.request import Refusal
from hobbyhorse.contract.routes import Route, Routes
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.armed import SUBMISSIONS
from hobbyhorse.scenarios.effects import Sent
from hobbyhorse.scenarios.fault import MEDIA
from hobbyhorse.scenarios.scenario import Catalogue, Move, ScenarioError, load_catalogue
from hobbyhorse.server.files.cache import Cache, user_directory
from hobbyhorse.server.files.image_sources import FetchPolicy
from hobbyhorse.server.operations import ROLES
from hobbyhorse.server.request import (
    JSON_HEADER,
    ClientGone,
    ContractBroken,
    JournalNote,
    OperationRequest,
    OperationResponse,
    api_key,
    header,
    read_all,
    refusal_of,
    write,
)
from hobbyhorse.server.socket_faults import (
    ClientConnection,
    abandon,
    connection,
    hand_over,
    is_open,
    send_with_fault,
)
from hobbyhorse.server.trouble import (
    HEADER,
    FaultedResponse,
    apply_file_fault,
    capture,
    find_scenario,
    refuse_scenario,
    respond,
)
from hobbyhorse.worlds.jobs import Job
from hobbyhorse.worlds.journal import MOST_JOURNAL_BODY_BYTES, Exchange, Handover, Journal
from hobbyhorse.worlds.limits import Limits
from hobbyhorse.worlds.world import World, Worlds

if TYPE_CHECKING:
    from hobbyhorse.server.callbacks import CallbackDispatcher
    from hobbyhorse.server.files.renderer import Renderer
    from hobbyhorse.traces.trace import Trace

SERVER_PATHS = ("/media/", "/fixtures/", "/_mock/")
MEDIA_PATH = "/media/"
SCENARIO_HEADER = HEADER.encode()
CANARY = Sent(200, ((b"content-type", b"application/octet-stream"),), b"not for clients")
"""The response of the private origin; a careful client never fetches it."""
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Options:
    """The fake's configuration; `hobbyhorse serve --help` documents each option."""

    pace: str = "fast"
    seed: int = 0
    api_keys: frozenset[str] = frozenset()
    public_url: str | None = None
    strict: bool = False
    callback_secret: str | None = DEFAULT_SECRET
    fetch_from: frozenset[str] = frozenset()
    cache: Path | None = None
    # 1 GiB: thousands of the placeholder videos, and little beside a developer's other caches.
    cache_bytes: int = 1 << 30
    scenarios: tuple[Path, ...] = ()
    control_key: str | None = None
    loopback: bool = True
    limits: Limits = field(default_factory=Limits)
    make_clock: Callable[[], Clock] = RealClock
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """The origins that redirect and link faults point clients to: `foreign` and `private`."""
    media_url: str | None = None
    """The origin of the file links in responses; None for the origin of the request."""
    closed: bool = False
    """Whether to accept only keys that were given a world in this process."""
    judge: Callable[[Contract, Trace], dict[str, Any]] | None = None
    """Judges a client by its trace; returns the report as JSON."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A served contract and its routes."""

    contract: Contract
    routes: Routes


class OverLimit(Exception):
    """A key has sent more requests than it may; `wait` is the time until the next one is granted, in clock seconds."""

    def __init__(self, wait: float) -> None:
        self.wait = wait


class Fake:
    """An ASGI 3 application, for HTTP and lifespan, that serves every contract."""

    def __init__(self, contracts: Sequence[Contract] | None = None, options: Options | None = None) -> None:
        self.contracts = tuple(load_all() if contracts is None else contracts)
        self.options = options or Options()
        self.worlds = Worlds(
            self.options.make_clock,
            self.options.pace,
            self.options.seed,
            self.options.api_keys,
            self.options.limits,
            self.options.closed,
        )
        self.worlds.on_move = self._moved
        self.journal = Journal()
        """The exchanges without a world: their key is missing or not accepted."""
        self._providers = {contract.key: Provider(contract, Routes(contract)) for contract in self.contracts}
        self._hosts = {host: provider for provider in self._providers.values() for host in provider.contract.hosts}
        self._policy = FetchPolicy(self.options.fetch_from)
        self._dispatcher: CallbackDispatcher | None = None
        self._renderer: Renderer | None = None
        self._server_routes: ASGIApp | None = None
        self._control: ASGIApp | None = None
        self._other_origins: dict[tuple[str, int], str] = {}
        self._catalogue: Catalogue | None = None

    def callback_dispatcher(self) -> CallbackDispatcher:
        """Return the callback dispatcher, creating it on first use."""
        if self._dispatcher is None:
            from hobbyhorse.server.callbacks import CallbackDispatcher  # noqa: PLC0415 - delays readiness by 35 ms (httpx)

            self._dispatcher = CallbackDispatcher(self.options.callback_secret)
        return self._dispatcher

    def renderer(self) -> Renderer:
        """Return the renderer of videos, creating it on first use."""
        if self._renderer is None:
            from hobbyhorse.server.files.renderer import Renderer  # noqa: PLC0415 - delays readiness by 58 ms (pillow, httpx)

            cache = Cache(self.options.cache or user_directory(), self.options.cache_bytes)
            self._renderer = Renderer(cache, self._policy)
        return self._renderer

    def _moved(self, world: World, job: Job) -> None:
        """Reschedule the callback of a job after its end has moved."""
        # Without a dispatcher no job has asked for a callback yet, and there is nothing to reschedule.
        if self._dispatcher is not None:
            self._dispatcher.reschedule(world, job)

    def catalogue(self) -> Catalogue:
        """Return the scenarios by name, reading them on first use. Raises ScenarioError."""
        if self._catalogue is None:
            self._catalogue = load_catalogue(self.options.scenarios)
        return self._catalogue

    def server_routes(self) -> ASGIApp:
        """Return the application for paths that belong to no provider, creating it on first use."""
        if self._server_routes is None:
            from hobbyhorse.server.server_routes import ServerRoutes  # noqa: PLC0415 - delays readiness by 13 ms (Starlette)

            routes = ServerRoutes(self._providers, self.worlds, self.renderer, self._origin, self.control)
            self._server_routes = routes.application()
        return self._server_routes

    def control(self) -> ASGIApp:
        """Return the control plane, creating it on first use."""
        if self._control is None:
            from hobbyhorse.server.control.app import AccessCheck, ControlContext, ControlPlane  # noqa: PLC0415 - delays readiness by 29 ms

            options = self.options
            access = AccessCheck(options.control_key, options.loopback, options.public_url)
            context = ControlContext(
                self.contracts,
                self.worlds,
                self.catalogue,
                self.callback_dispatcher,
                self._origin,
                self.reset,
                self.trace,
                options.judge,
            )
            self._control = ControlPlane(context, access)
        return self._control

    def reset(self, world: World, parts: Collection[str]) -> None:
        """Reset parts of a world as `World.reset` does; with its jobs, their callbacks go too."""
        world.reset(parts)
        if "jobs" in parts and self._dispatcher is not None:
            self._dispatcher.forget(world)

    def forget(self, world: World) -> None:
        """Forget a world and everything that was made for it."""
        if self._dispatcher is not None:
            self._dispatcher.forget(world)
        if self._renderer is not None:
            self._renderer.forget(world.jobs.values())
        self.worlds.drop(world)

    def trace(self, world: World, contract: Contract, base: str, unauthenticated: bool = True) -> Trace:
        """Return the trace between a provider, reached at `base`, and the client of a world.

        `unauthenticated` includes requests without an accepted key: they may come from this client.
        """
        from hobbyhorse.server.world_trace import trace_of  # noqa: PLC0415 - delays readiness by 7 ms

        media = self.options.media_url
        return trace_of(
            world,
            contract,
            world.key,
            base=base,
            attempts=self._dispatcher.attempts if self._dispatcher is not None else (),
            unauthenticated=(self.journal, self.worlds.keyless) if unauthenticated else None,
            origins={**({"media": media} if media else {}), **self.options.elsewhere},
            secret=self.options.callback_secret,
            made=self._renderer.made if self._renderer is not None else None,
        )

    def add_origins(self, origins: Mapping[str, str]) -> None:
        """Serve further origins: `media` for file links, `foreign` and `private` as the targets of faults."""
        parts = {kind: urlsplit(origin) for kind, origin in origins.items()}
        self._other_origins = {(str(one.hostname), one.port or 80): kind for kind, one in parts.items()}
        elsewhere = {kind: origin for kind, origin in origins.items() if kind != "media"}
        self.options = replace(self.options, media_url=origins.get("media"), elsewhere=elsewhere)

    async def close(self) -> None:
        """End every wait, close every connection, remove the rendered files. The fake can be served again."""
        self.worlds.close()
        # Detached before the first await: a request during the close must not use a closed part.
        dispatcher, self._dispatcher = self._dispatcher, None
        renderer, self._renderer = self._renderer, None
        if dispatcher is not None:
            await dispatcher.close()
        if renderer is not None:
            renderer.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "http":
            path = scope["path"]
            # The socket address decides, not the Host header: a client that lies about the host is still seen there.
            if self._other_origins and (kind := self._other_origins.get(tuple(scope["server"] or ()))):
                return await self._serve_other_origin(kind, scope, receive, send)
            end = path.find("/", 1)
            prefix = path[:end] if end > 0 else path
            provider = self._providers.get(prefix[1:])
            if provider is not None:
                return await self._serve(provider, prefix, path[len(prefix) :], scope, receive, send)
            if not path.startswith(SERVER_PATHS):
                host = header(scope["headers"], b"host") or ""
                # A contract may name its host with the port or without it.
                provider = self._hosts.get(host) or self._hosts.get(host.rpartition(":")[0])
                if provider is not None:
                    return await self._serve(provider, "", path, scope, receive, send)
            if path.startswith(MEDIA_PATH):
                try:
                    return await self._serve_file(path, scope, receive, send)
                except asyncio.CancelledError:  # the server stops while a video is being rendered
                    return await abandon(scope)
        elif scope["type"] == "lifespan":
            return await self._lifespan(receive, send)
        return await self.server_routes()(scope, receive, send)

    async def _serve(
        self, provider: Provider, prefix: str, path: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Respond to one request to one provider, and record the exchange."""
        contract = provider.contract
        key = api_key(contract.security, scope)
        world = self.worlds.of(key) if key else None
        match = provider.routes.match(scope["method"], path)
        # Taken before anything waits: its number is the order in which requests arrived, over all worlds.
        handover = (world or self.worlds.keyless).handover()
        origin = self._origin(scope)
        body, made = b"", None
        if match is None:
            route, response = None, _unrouted(provider, scope["method"], path)
        elif world is None and match[0].operation.authenticated:
            route = match[0]
            response = refusal_of(contract, route, Refusal("key_refused" if key else "unauthenticated"))
        else:
            route, values = match
            call = OperationRequest(
                contract,
                route,
                values,
                scope,
                receive,
                origin + prefix,
                origin,
                world or self.worlds.keyless,
                self.worlds,
                self.callback_dispatcher,
                self.renderer,
                self._policy,
                self.options.elsewhere,
                self.options.media_url,
            )
            try:
                if call.world.limits.requests_per_second is not None:
                    wait = call.world.meter.request(call.world.limits, call.world.clock.now())
                    if wait is not None:
                        raise OverLimit(wait)
                # Most requests meet no scenario; they do not pay for the search.
                if (
                    call.world.scenarios.active
                    or route.operation.role in SUBMISSIONS
                    or header(scope["headers"], SCENARIO_HEADER)
                ):
                    call.scenario = await find_scenario(call, self.catalogue, self.contracts)
                result = await (respond(call) if call.scenario is not None else ROLES[route.operation.role](call))
            except OverLimit as over:
                result = refusal_of(contract, route, Refusal("rate_limited"))
                result.headers = (("Retry-After", str(math.ceil(over.wait))),)
            except ScenarioError as error:
                result = refuse_scenario(call, error)
            except ClientGone:
                return
            except asyncio.CancelledError:  # the server stops while it holds the connection
                result = refusal_of(contract, route, Refusal("overloaded"))
            finally:
                call.release()
            body, made = call.body, call.made
            if isinstance(result, FaultedResponse):
                noted, root = result.noted, origin + prefix
                self._record(call.world, contract, route, scope, path, body, noted, root, handover, made)
                client = ClientConnection(scope, receive, send, call.world.clock, handover)
                await send_with_fault(result.wire, result.sent, client)
                return
            response = result
        if self.options.strict:
            _validate(contract, response)
        situation = response.situation
        noted = JournalNote(situation.name, response.job, situation.status, response.body, response.notes)
        handover.headers, handover.size = headers_of(response), len(response.body)
        self._record(world, contract, route, scope, path, body, noted, origin + prefix, handover, made)
        # One turn of the event loop: responses that are ready together leave together, and wake their client once.
        await asyncio.sleep(0)
        transport = connection(scope)
        # Read before sending: after the last byte uvicorn may close the connection itself, with all data sent.
        was_open = is_open(transport)
        await send({"type": "http.response.start", "status": situation.status, "headers": handover.headers})
        await send({"type": "http.response.body", "body": response.body})
        if was_open:
            hand_over(transport, handover, (world or self.worlds.keyless).clock, situation.status)

    async def _serve_file(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a request for a file, and record it in the world of its job."""
        method = scope["method"]
        handle, _, rest = path[len(MEDIA_PATH) :].partition("/")
        world = self.worlds.by_handle(handle)
        job = world.jobs.get(rest.partition("/")[0]) if world is not None else None
        if world is None or job is None:
            return await self.server_routes()(scope, receive, send)

        handover, status = world.handover(), 0

        async def recording(event: Event) -> None:
            nonlocal status
            if event["type"] == "http.response.start":
                status, handover.headers = event["status"], event["headers"]
                # A response to HEAD declares the length of a body that never comes.
                handover.size = int(header(event["headers"], b"content-length") or 0) if method != "HEAD" else 0
                self._record_file(world, job, scope, status, None, handover)
            was_open = is_open(connection(scope))
            await send(event)
            if was_open and event["type"] == "http.response.body" and not event.get("more_body", False):
                hand_over(connection(scope), handover, world.clock, status)

        if job.active_scenario is None or method != "GET" or job.active_scenario.peek(MEDIA) is None:
            return await self.server_routes()(scope, receive, recording)
        sent = await capture(self.server_routes(), scope, receive)
        faulted = apply_file_fault(job.active_scenario, sent, world)
        if faulted is None:
            return await ClientConnection(scope, receive, recording, world.clock, handover).whole(sent)
        handover.size = len(faulted.sent.body)
        self._record_file(world, job, scope, faulted.status, faulted.move, handover)
        client = ClientConnection(scope, receive, send, world.clock, handover)
        return await send_with_fault(faulted.wire, faulted.sent, client)

    async def _serve_other_origin(self, kind: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a request that reached one of the other origins, and record its sender."""
        path, method = scope["path"], scope["method"]
        if kind != "private" and path.startswith(MEDIA_PATH):
            await self._serve_file(path, scope, receive, send)
            return
        contract, world = self._sender(scope)
        sender = world or self.worlds.keyless
        clock, handover = sender.clock, sender.handover()
        try:
            body = await read_all(receive)
        except ClientGone:
            return
        sent = CANARY if kind == "private" and method in ("GET", "HEAD") else _not_served(kind, method, path)
        host, port = scope["server"]
        (world or self).journal.add(
            Exchange(
                contract.key if contract is not None else None,
                None,
                None,
                None,
                method,
                path,
                scope["query_string"],
                scope["headers"],
                body,
                sent.status,
                sent.body,
                f"{scope['scheme']}://{host}:{port}",
                handover,
                (f"{kind} origin",),
            )
        )
        await ClientConnection(scope, receive, send, clock, handover).whole(sent)

    def _sender(self, scope: Scope) -> tuple[Contract | None, World | None]:
        """Return the provider of the requested path, and the world of the key that the request carries."""
        first = scope["path"].split("/")[1]
        contract = self._providers[first].contract if first in self._providers else None
        for one in self.contracts if contract is None else (contract,):
            key = api_key(one.security, scope)
            # `known`, not `of`: a request to a foreign origin must not open a world.
            if key is not None and (world := self.worlds.known(key)) is not None:
                return contract, world
        # A link to a private host carries no key; the world's handle in its path names the client instead.
        if scope["path"].startswith(MEDIA_PATH):
            return contract, self.worlds.by_handle(scope["path"].split("/")[2])
        return contract, None

    def _record_file(
        self, world: World, job: Job, scope: Scope, status: int, move: Move | None, handover: Handover
    ) -> None:
        """Add a request for a file to the journal."""
        world.journal.add(
            Exchange(
                job.contract.key,
                MEDIA,
                None,
                job.id,
                scope["method"],
                scope["path"],
                scope["query_string"],
                scope["headers"],
                b"",
                status,
                b"",
                _requested_origin(scope),
                handover,
                (f"scenario: {move}",) if move else (),
                move.kind if move else None,
            )
        )

    def _origin(self, scope: Scope) -> str:
        """Return the server's origin for links: the public URL if there is one, else the requested origin."""
        if self.options.public_url is not None:
            return self.options.public_url.rstrip("/")
        return _requested_origin(scope)

    def _record(
        self,
        world: World | None,
        contract: Contract,
        route: Route | None,
        scope: Scope,
        path: str,
        body: bytes,
        noted: JournalNote,
        root: str,
        handover: Handover,
        made: str | None,
    ) -> None:
        """Add an exchange to the journal of its world, or to the journal of requests without one."""
        (world or self).journal.add(
            Exchange(
                contract.key,
                route.operation.role if route else None,
                noted.situation,
                noted.job,
                scope["method"],
                path,
                scope["query_string"],
                scope["headers"],
                body[:MOST_JOURNAL_BODY_BYTES],
                noted.status,
                noted.body[:MOST_JOURNAL_BODY_BYTES],
                root,
                handover,
                noted.notes,
                noted.move,
                made,
            )
        )

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """Handle the ASGI lifespan: nothing to start, everything to close."""
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})


def _not_served(kind: str, method: str, path: str) -> Sent:
    """Refuse a path that another origin does not serve."""
    message = f"{method} {path[:200]} is not served by the {kind} origin"
    problem = {"code": "unknown_path", "message": message, "hint": "providers are served at the server's own origin"}
    return Sent(404, (JSON_HEADER,), orjson.dumps({"error": problem}))


def _unrouted(provider: Provider, method: str, path: str) -> OperationResponse:
    """Refuse a request that matches no operation."""
    unrouted = provider.contract.unrouted
    allowed = provider.routes.allowed(path)
    if not allowed or "wrong_method" not in unrouted:
        return write(unrouted["unknown_path"], lambda name: MISSING, notes=(f"no operation {method} {path[:200]}",))
    response = write(unrouted["wrong_method"], lambda name: MISSING, notes=(f"{path[:200]} takes {allowed}",))
    return OperationResponse(response.situation, response.body, None, response.notes, (("allow", ", ".join(allowed)),))


def _validate(contract: Contract, response: OperationResponse) -> None:
    """Validate a response against the contract. Raises ContractBroken."""
    for violation in contract.schemas.violations(response.situation.schema, orjson.loads(response.body), most=1):
        raise ContractBroken(f"{contract.key}: the response of situation {response.situation.name!r} has {violation}")


def headers_of(response: OperationResponse) -> list[tuple[bytes, bytes]]:
    """Return the headers of a response, as ASGI sends them."""
    headers = [JSON_HEADER, (b"content-length", str(len(response.body)).encode())]
    for name, value in (*_without(response.situation.headers, response.headers), *response.headers):
        headers.append((name.lower().encode("latin-1"), value.encode("latin-1")))
    return headers


def _requested_origin(scope: Scope) -> str:
    """Return the origin that the client used."""
    host = header(scope["headers"], b"host")
    if not host:
        name, port = scope.get("server") or ("localhost", None)
        host = f"{name}:{port}" if port else str(name)
    return f"{scope['scheme']}://{host}"


def _without(headers: Headers, replaced: Headers) -> Headers:
    """Return headers without the names that others replace."""
    if not replaced:
        return headers
    names = {name.lower() for name, _ in replaced}
    return tuple(header for header in headers if header[0].lower() not in names)
