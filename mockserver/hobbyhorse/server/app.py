"""The fake providers as an ASGI application: under a path prefix, and for clients whose host is fixed, by Host."""

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
from hobbyhorse.scenarios.distort import Sent
from hobbyhorse.scenarios.moves import MEDIA
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
from hobbyhorse.server.socket_faults import SILENT, ClientConnection, connection, hand_over, is_there, let_go, perform
from hobbyhorse.server.trouble import HEADER, Troubled, act, capture, cast, media_trouble, refuse_scenario
from hobbyhorse.worlds.jobs import Job
from hobbyhorse.worlds.journal import MOST_JOURNAL_BODY_BYTES, Exchange, Handover, Journal
from hobbyhorse.worlds.limits import Limits
from hobbyhorse.worlds.world import World, Worlds

if TYPE_CHECKING:
    from hobbyhorse.server.callbacks import CallbackDispatcher
    from hobbyhorse.server.files.renderer import Renderer
    from hobbyhorse.traces.trace import Trace

OWN_PATHS = ("/media/", "/fixtures/", "/_mock/")
MEDIA_PATH = "/media/"
NAMED = HEADER.encode()
CANARY = Sent(200, ((b"content-type", b"application/octet-stream"),), b"not for clients")
"""What stands at an address that no client may ask for."""
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Options:
    """How the fake behaves; `hobbyhorse serve --help` says what each means."""

    pace: str = "fast"
    seed: int = 0
    api_keys: frozenset[str] = frozenset()
    public_url: str | None = None
    strict: bool = False
    callback_secret: str | None = DEFAULT_SECRET
    fetch_from: frozenset[str] = frozenset()
    cache: Path | None = None
    cache_bytes: int = 1 << 30
    scenarios: tuple[Path, ...] = ()
    control_key: str | None = None
    loopback: bool = True
    limits: Limits = field(default_factory=Limits)
    make_clock: Callable[[], Clock] = RealClock
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """The origins that moves point clients to: `foreign` and `private`."""
    media_url: str | None = None
    """The origin of the files in answers, where that is another than the providers'."""
    closed: bool = False
    """Whether only keys are accepted that were given a world in this process."""
    judge: Callable[[Contract, Trace], dict[str, Any]] | None = None
    """Says what a trace shows of the client, as JSON."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A contract that is being served, and its routes."""

    contract: Contract
    routes: Routes


class OverLimit(Exception):
    """More requests than the key may send; `wait` is how many seconds of the clock until the next one is granted."""

    def __init__(self, wait: float) -> None:
        self.wait = wait


class Fake:
    """Serves every contract; an ASGI 3 application for HTTP and lifespan."""

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
        """The exchanges that belong to no world: no key, or one that is not accepted."""
        self._providers = {contract.key: Provider(contract, Routes(contract)) for contract in self.contracts}
        self._hosts = {host: provider for provider in self._providers.values() for host in provider.contract.hosts}
        self._policy = FetchPolicy(self.options.fetch_from)
        self._courier: CallbackDispatcher | None = None
        self._studio: Renderer | None = None
        self._own: ASGIApp | None = None
        self._control: ASGIApp | None = None
        self._elsewhere: dict[tuple[str, int], str] = {}
        self._catalogue: Catalogue | None = None

    def courier(self) -> CallbackDispatcher:
        """Return who delivers callbacks; made when first needed."""
        if self._courier is None:
            from hobbyhorse.server.callbacks import CallbackDispatcher  # noqa: PLC0415 - httpx stays off the way to readiness

            self._courier = CallbackDispatcher(self.options.callback_secret)
        return self._courier

    def studio(self) -> Renderer:
        """Return who makes videos; made when first needed."""
        if self._studio is None:
            from hobbyhorse.server.files.renderer import Renderer  # noqa: PLC0415 - pillow stays off the way to readiness

            cache = Cache(self.options.cache or user_directory(), self.options.cache_bytes)
            self._studio = Renderer(cache, self._policy)
        return self._studio

    def _moved(self, world: World, job: Job) -> None:
        """Have the end of a job told when it comes now."""
        if self._courier is not None:
            self._courier.told_of(world, job)

    def catalogue(self) -> Catalogue:
        """Return the scenarios by name; read when first needed. Raises ScenarioError."""
        if self._catalogue is None:
            self._catalogue = load_catalogue(self.options.scenarios)
        return self._catalogue

    def own(self) -> ASGIApp:
        """Return who answers for what belongs to no provider; made when first needed."""
        if self._own is None:
            from hobbyhorse.server.server_routes import ServerRoutes  # noqa: PLC0415 - Starlette stays off the way to readiness

            self._own = ServerRoutes(
                self._providers, self.worlds, self.studio, self._origin, self.control
            ).application()
        return self._own

    def control(self) -> ASGIApp:
        """Return the control plane; made when first needed."""
        if self._control is None:
            from hobbyhorse.server.control.app import AccessCheck, ControlContext, ControlPlane  # noqa: PLC0415 - off the way to readiness

            options = self.options
            guard = AccessCheck(options.control_key, options.loopback, options.public_url)
            desk = ControlContext(
                self.contracts,
                self.worlds,
                self.catalogue,
                self.courier,
                self._origin,
                self.reset,
                self.trace,
                options.judge,
            )
            self._control = ControlPlane(desk, guard)
        return self._control

    def reset(self, world: World, what: Collection[str]) -> None:
        """Forget of a world what is named, as `World.reset` does, and the callbacks of jobs that are forgotten."""
        world.reset(what)
        if "jobs" in what and self._courier is not None:
            self._courier.forget(world)

    def forget(self, world: World) -> None:
        """Forget a world altogether."""
        if self._courier is not None:
            self._courier.forget(world)
        if self._studio is not None:
            self._studio.forget(world.jobs.values())
        self.worlds.drop(world)

    def trace(self, world: World, contract: Contract, base: str, strangers: bool = True) -> Trace:
        """Return what passed between a provider and the client of a world; `base` is the provider's address.

        With `strangers` there are also the requests of nobody, without a key that is known, which may be its.
        """
        from hobbyhorse.server.world_trace import trace_of  # noqa: PLC0415 - traces stay off the way to readiness

        media = self.options.media_url
        return trace_of(
            world,
            contract,
            world.key,
            base=base,
            attempts=self._courier.attempts if self._courier is not None else (),
            strangers=(self.journal, self.worlds.keyless) if strangers else None,
            origins={**({"media": media} if media else {}), **self.options.elsewhere},
            secret=self.options.callback_secret,
            made=self._studio.made if self._studio is not None else None,
        )

    def lives_at(self, origins: Mapping[str, str]) -> None:
        """Serve further addresses: `media` for the files in answers, `foreign` and `private` for where moves point."""
        parts = {kind: urlsplit(origin) for kind, origin in origins.items()}
        self._elsewhere = {(str(one.hostname), one.port or 80): kind for kind, one in parts.items()}
        elsewhere = {kind: origin for kind, origin in origins.items() if kind != "media"}
        self.options = replace(self.options, media_url=origins.get("media"), elsewhere=elsewhere)

    async def close(self) -> None:
        """Stop what waits, close every connection, remove what was made; the fake can be served again."""
        self.worlds.close()
        courier, self._courier = self._courier, None
        studio, self._studio = self._studio, None
        if courier is not None:
            await courier.close()
        if studio is not None:
            studio.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "http":
            path = scope["path"]
            if self._elsewhere and (kind := self._elsewhere.get(tuple(scope["server"] or ()))):
                return await self._serve_elsewhere(kind, scope, receive, send)
            end = path.find("/", 1)
            prefix = path[:end] if end > 0 else path
            provider = self._providers.get(prefix[1:])
            if provider is not None:
                return await self._serve(provider, prefix, path[len(prefix) :], scope, receive, send)
            if not path.startswith(OWN_PATHS):
                host = header(scope["headers"], b"host") or ""
                provider = self._hosts.get(host) or self._hosts.get(host.rpartition(":")[0])
                if provider is not None:
                    return await self._serve(provider, "", path, scope, receive, send)
            if path.startswith(MEDIA_PATH):
                try:
                    return await self._serve_file(path, scope, receive, send)
                except asyncio.CancelledError:  # the server stops while a video is being made
                    return await let_go(scope)
        elif scope["type"] == "lifespan":
            return await self._live(receive, send)
        return await self.own()(scope, receive, send)

    async def _serve(
        self, provider: Provider, prefix: str, path: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer one request to one provider, and note the exchange."""
        contract = provider.contract
        key = api_key(contract.security, scope)
        world = self.worlds.of(key) if key else None
        match = provider.routes.match(scope["method"], path)
        handover = (world or self.worlds.keyless).handover()
        origin = self._origin(scope)
        body, made = b"", None
        if match is None:
            route, answer = None, _unrouted(provider, scope["method"], path)
        elif world is None and match[0].operation.authenticated:
            route = match[0]
            answer = refusal_of(contract, route, Refusal("key_refused" if key else "unauthenticated"))
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
                self.courier,
                self.studio,
                self._policy,
                self.options.elsewhere,
                self.options.media_url,
            )
            try:
                if call.world.limits.requests_per_second is not None:
                    wait = call.world.meter.request(call.world.limits, call.world.clock.now())
                    if wait is not None:
                        raise OverLimit(wait)
                if (
                    call.world.scenarios.active
                    or route.operation.role in SUBMISSIONS
                    or header(scope["headers"], NAMED)
                ):
                    call.play = await cast(call, self.catalogue, self.contracts)
                done = await (act(call) if call.play is not None else ROLES[route.operation.role](call))
            except OverLimit as over:
                done = refusal_of(contract, route, Refusal("rate_limited"))
                done.headers = (("Retry-After", str(math.ceil(over.wait))),)
            except ScenarioError as error:
                done = refuse_scenario(call, error)
            except ClientGone:
                return
            except asyncio.CancelledError:  # the server stops while it holds the connection
                done = refusal_of(contract, route, Refusal("overloaded"))
            finally:
                call.release()
            body, made = call.body, call.made
            if isinstance(done, Troubled):
                self._keep(call.world, contract, route, scope, path, body, done.noted, origin + prefix, handover, made)
                await perform(done.move, done.sent, ClientConnection(scope, receive, send, call.world.clock, handover))
                return
            answer = done
        if self.options.strict:
            _check(contract, answer)
        situation = answer.situation
        noted = JournalNote(situation.name, answer.job, situation.status, answer.body, answer.notes)
        handover.headers, handover.size = headers_of(answer), len(answer.body)
        self._keep(world, contract, route, scope, path, body, noted, origin + prefix, handover, made)
        await asyncio.sleep(0)  # what is ready together leaves together: a client is woken once, not for each answer
        transport = connection(scope)
        there = is_there(transport)
        await send({"type": "http.response.start", "status": situation.status, "headers": handover.headers})
        await send({"type": "http.response.body", "body": answer.body})
        if there:
            hand_over(transport, handover, (world or self.worlds.keyless).clock, situation.status)

    async def _serve_file(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for a file, and note it in the world of its job."""
        method = scope["method"]
        handle, _, rest = path[len(MEDIA_PATH) :].partition("/")
        world = self.worlds.by_handle(handle)
        job = world.jobs.get(rest.partition("/")[0]) if world is not None else None
        if world is None or job is None:
            return await self.own()(scope, receive, send)

        handover, status = world.handover(), 0

        async def noting(event: Event) -> None:
            nonlocal status
            if event["type"] == "http.response.start":
                status, handover.headers = event["status"], event["headers"]
                handover.size = int(header(event["headers"], b"content-length") or 0) if method != "HEAD" else 0
                self._keep_file(world, job, scope, status, None, handover)
            there = is_there(connection(scope))
            await send(event)
            if there and event["type"] == "http.response.body" and not event.get("more_body", False):
                hand_over(connection(scope), handover, world.clock, status)

        if job.active_scenario is None or method != "GET" or job.active_scenario.peek(MEDIA) is None:
            return await self.own()(scope, receive, noting)
        move, sent = media_trouble(job.active_scenario, await capture(self.own(), scope, receive), world)
        line = ClientConnection(scope, receive, send, world.clock, handover)
        if move is None:
            return await ClientConnection(scope, receive, noting, world.clock, handover).whole(sent)
        handover.size = len(sent.body)
        self._keep_file(world, job, scope, 0 if move.kind in SILENT else sent.status, move, handover)
        return await perform(move, sent, line)

    async def _serve_elsewhere(self, kind: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that came to another address than the server's own, and note who sent what there."""
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
        sent = CANARY if kind == "private" and method in ("GET", "HEAD") else _nowhere(kind, method, path)
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
        """Return the provider whose path a request asks for, and the world of the key that it carries."""
        first = scope["path"].split("/")[1]
        contract = self._providers[first].contract if first in self._providers else None
        for one in self.contracts if contract is None else (contract,):
            key = api_key(one.security, scope)
            if key is not None and (world := self.worlds.known(key)) is not None:
                return contract, world
        if scope["path"].startswith(MEDIA_PATH):
            return contract, self.worlds.by_handle(scope["path"].split("/")[2])
        return contract, None

    def _keep_file(
        self, world: World, job: Job, scope: Scope, status: int, move: Move | None, handover: Handover
    ) -> None:
        """Write a request for a file into the journal."""
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
                _address(scope),
                handover,
                (f"scenario: {move}",) if move else (),
                move.kind if move else None,
            )
        )

    def _origin(self, scope: Scope) -> str:
        """Return the address that the client used, or the one that it was told to."""
        if self.options.public_url is not None:
            return self.options.public_url.rstrip("/")
        return _address(scope)

    def _keep(
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
        """Write an exchange into the journal of its world."""
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

    async def _live(self, receive: Receive, send: Send) -> None:
        """Live as long as the server does."""
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})


def _nowhere(kind: str, method: str, path: str) -> Sent:
    """Refuse what is not to be found at another address than the server's own."""
    message = f"{method} {path[:200]} is nothing that the {kind} origin serves"
    problem = {"code": "unknown_path", "message": message, "hint": "providers are served at the server's own address"}
    return Sent(404, (JSON_HEADER,), orjson.dumps({"error": problem}))


def _unrouted(provider: Provider, method: str, path: str) -> OperationResponse:
    """Refuse a request that meets no operation."""
    unrouted = provider.contract.unrouted
    allowed = provider.routes.allowed(path)
    if not allowed or "wrong_method" not in unrouted:
        return write(unrouted["unknown_path"], lambda name: MISSING, notes=(f"no operation {method} {path[:200]}",))
    answer = write(unrouted["wrong_method"], lambda name: MISSING, notes=(f"{path[:200]} takes {allowed}",))
    return OperationResponse(answer.situation, answer.body, None, answer.notes, (("allow", ", ".join(allowed)),))


def _check(contract: Contract, answer: OperationResponse) -> None:
    """Hold an answer of ours against the contract."""
    for violation in contract.schemas.violations(answer.situation.schema, orjson.loads(answer.body), most=1):
        raise ContractBroken(f"{contract.key}: situation {answer.situation.name!r} answers with {violation}")


def headers_of(answer: OperationResponse) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer."""
    headers = [JSON_HEADER, (b"content-length", str(len(answer.body)).encode())]
    for name, value in (*_others(answer.situation.headers, answer.headers), *answer.headers):
        headers.append((name.lower().encode("latin-1"), value.encode("latin-1")))
    return headers


def _address(scope: Scope) -> str:
    """Return the origin that a client used."""
    host = header(scope["headers"], b"host")
    if not host:
        name, port = scope.get("server") or ("localhost", None)
        host = f"{name}:{port}" if port else str(name)
    return f"{scope['scheme']}://{host}"


def _others(headers: Headers, instead: Headers) -> Headers:
    """Return headers without those that others stand for."""
    if not instead:
        return headers
    names = {name.lower() for name, _ in instead}
    return tuple(header for header in headers if header[0].lower() not in names)
