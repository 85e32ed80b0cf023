"""The fake providers as an ASGI application: finds who serves a request, and owns what requests share.

`/PROVIDER/...` selects a provider by prefix. Any other path that is not one of the server's own selects it by `Host`,
for clients with a fixed base URL. The steps of a request to a provider are in `pipeline`. Files and the other origins
are served by `file_requests`; `/_mock` and unknown paths by the server routes.

Modules that only some requests need are imported on first use: `serve` prints its ready line that much earlier.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from hobbyhorse.clock.clock import Clock, RealClock
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET
from hobbyhorse.contract.routes import Routes
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.scenario import Catalogue, load_catalogue
from hobbyhorse.server.control.access import AccessCheck, Team
from hobbyhorse.server.file_requests import MEDIA_PATH, FileRequests
from hobbyhorse.server.files.cache import Cache, user_directory
from hobbyhorse.server.files.image_sources import FetchPolicy
from hobbyhorse.server.front.forwarded import PUBLIC, Network, TrustedProxies
from hobbyhorse.server.metrics.scrape import Metrics
from hobbyhorse.server.origins import Origins
from hobbyhorse.server.pipeline import handle
from hobbyhorse.server.request import (
    CALLBACKS_MODULE,
    OperationRequest,
    Provider,
    Services,
    caller_of,
    header,
    load,
    nothing_to_keep,
    nothing_to_write,
)
from hobbyhorse.server.socket_faults import stamp
from hobbyhorse.worlds.jobs import Job
from hobbyhorse.worlds.journal import Journal
from hobbyhorse.worlds.limits import Limits
from hobbyhorse.worlds.world import World, Worlds

if TYPE_CHECKING:
    from hobbyhorse.server.callbacks import CallbackDispatcher
    from hobbyhorse.server.control.app import ControlPlane
    from hobbyhorse.server.files.renderer import Renderer
    from hobbyhorse.server.kept.gate import WorldGate
    from hobbyhorse.server.kept.keeper import Keeper
    from hobbyhorse.server.reloading.watch import Watch
    from hobbyhorse.server.shared.routing import WorldRouter
    from hobbyhorse.server.ui.app import Page
    from hobbyhorse.traces.trace import Trace

PAGE_MODULE = "hobbyhorse.server.ui.app"
WATCH_MODULE = "hobbyhorse.server.reloading.watch"
CONTROL_MODULE, ROUTES_MODULE = "hobbyhorse.server.control.app", "hobbyhorse.server.server_routes"
SERVER_PATHS = ("/media/", "/fixtures/", "/_mock/")
# The addresses of the host name "localhost".
LOCALHOST = ("127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Options:
    """The fake's configuration; `hobbyhorse serve --help` documents each option."""

    pace: str = "fast"
    seed: int = 0
    api_keys: frozenset[str] = frozenset()
    public_url: str | None = None
    trusted_proxies: tuple[Network, ...] = ()
    authority: bytes | None = None
    """The certificate of the server's own authority, if it serves HTTPS with one."""
    connect_port: int | None = None
    """The port of the forward proxy."""
    strict: bool = False
    callback_secret: str | None = DEFAULT_SECRET
    fetch_from: frozenset[str] = frozenset()
    cache: Path | None = None
    # 1 GiB: thousands of the placeholder videos, and little beside a developer's other caches.
    cache_bytes: int = 1 << 30
    scenarios: tuple[Path, ...] = ()
    control_key: str | None = None
    admin_key: str | None = None
    teams: Mapping[str, Team] = field(default_factory=dict)
    """The teams that share the server, by their control keys."""
    allow_origins: frozenset[str] = frozenset()
    loopback: bool = True
    limits: Limits = field(default_factory=Limits)
    keep_worlds: int | None = None
    keep_jobs: int | None = None
    run: str | None = None
    """Differs in each run, so that no id is made twice; None leaves the ids to the seed."""
    make_clock: Callable[[], Clock] = RealClock
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """The origins that redirect and link faults point clients to: `foreign` and `private`."""
    media_url: str | None = None
    """The origin of the file links in responses; None for the origin of the request."""
    closed: bool = False
    """Whether to accept only keys that were given a world in this process."""
    plain_videos: bool = False
    """Whether to render one video for all orders of the same size, duration and pictures, so that most need none."""
    state: Keeper | None = None
    """Keeps the worlds beyond the process; None for a state in memory only."""
    judge: Callable[[Contract, Trace], dict[str, Any]] | None = None
    """Judges a client by its trace; returns the report as JSON."""
    observe: Callable[[Fake], ASGIApp] | None = None
    """Puts observers around the application, see `observing`."""
    watch: Callable[[Fake], Watch] | None = None
    """Watches the files of the contracts and scenarios, see `reloading`."""


class Fake:
    """An ASGI 3 application, for HTTP and lifespan, that serves every contract."""

    def __init__(self, contracts: Sequence[Contract] | None = None, options: Options | None = None) -> None:
        self.contracts = tuple(load_all() if contracts is None else contracts)
        self.options = options or Options()
        self.worlds = Worlds(
            self.options.make_clock,
            pace=self.options.pace,
            seed=self.options.seed,
            accepted=self.options.api_keys,
            limits=self.options.limits,
            closed=self.options.closed,
            keep_worlds=self.options.keep_worlds,
            keep_jobs=self.options.keep_jobs,
            run=self.options.run,
        )
        self.worlds.archive = self.options.state
        self.worlds.on_move = self._moved
        self.worlds.on_full = self.forget
        self.worlds.on_forget = self._forgotten
        self.journal = Journal()
        """The exchanges without a world: their key is missing or not accepted."""
        self._providers = {contract.key: Provider(contract, Routes(contract)) for contract in self.contracts}
        self._hosts = {host: provider for provider in self._providers.values() for host in provider.contract.hosts}
        self._dispatcher: CallbackDispatcher | None = None
        self._renderer: Renderer | None = None
        self._server_routes: ASGIApp | None = None
        self._control: ControlPlane | None = None
        self._page: Page | None = None
        self._trusted = TrustedProxies(self.options.trusted_proxies) if self.options.trusted_proxies else None
        self._other_origins: dict[tuple[str, int], str] = {}
        self._catalogue: Catalogue | None = None
        self._services = Services(
            contracts=self.contracts,
            worlds=self.worlds,
            journal=self.journal,
            catalogue=self.loaded_catalogue,
            callback_dispatcher=self.callback_dispatcher,
            renderer=self.renderer,
            policy=FetchPolicy(self.options.fetch_from),
            elsewhere=self.options.elsewhere,
            media_url=self.options.media_url,
            public_url=self.options.public_url,
            strict=self.options.strict,
            origins=Origins(self.options.allow_origins),
            kept=nothing_to_keep if self.options.state is None else self.options.state.kept,
        )
        self._files = FileRequests(self._services, self.loaded_routes)
        self._router: WorldGate | WorldRouter | None = None
        self.metrics = Metrics(
            self._services.counters,
            self.worlds,
            self._services.uploads,
            dispatcher=lambda: self._dispatcher,
            renderer=lambda: self._renderer,
        )
        self.handle: Callable[[OperationRequest], Awaitable[None]] = handle
        """Handles the requests to providers; an observer takes its place."""
        self._served = {contract.key: contract for contract in self.contracts}
        self._watch = self.options.watch(self) if self.options.watch is not None else None

    def application(self) -> ASGIApp:
        """Return the application to serve: the fake itself, or the fake within its observers."""
        return self if self.options.observe is None else self.options.observe(self)

    def callback_dispatcher(self) -> CallbackDispatcher:
        """Return the callback dispatcher, creating it on first use."""
        if self._dispatcher is None:
            from hobbyhorse.server.callbacks import CallbackDispatcher  # noqa: PLC0415 - delays readiness by 35 ms (httpx)

            state, secret, counters = self.options.state, self.options.callback_secret, self._services.counters
            self._dispatcher = CallbackDispatcher(secret, self.worlds.signer, counters)
            if state is not None:
                self._dispatcher.keep_with(state.kept, state.earlier_attempts)
        return self._dispatcher

    def renderer(self) -> Renderer:
        """Return the renderer of videos, creating it on first use."""
        if self._renderer is None:
            from hobbyhorse.server.files.renderer import Renderer  # noqa: PLC0415 - delays readiness by 58 ms (pillow, httpx)

            cache = Cache(self.options.cache or user_directory(), self.options.cache_bytes)
            services, state, plain = self._services, self.options.state, self.options.plain_videos
            pictures = state.pictures if state is not None else None
            self._renderer = Renderer(cache, services.policy, plain, services.counters, pictures=pictures)
        return self._renderer

    def _moved(self, world: World, job: Job) -> None:
        """Reschedule the callback of a job after its end has moved."""
        # Without a dispatcher no job has asked for a callback yet, and there is nothing to reschedule.
        if self._dispatcher is not None:
            self._dispatcher.reschedule(world, job)

    def _forgotten(self, world: World, jobs: Collection[Job]) -> None:
        """Forget everything that was made for jobs that their world has forgotten."""
        if self._renderer is not None:
            self._renderer.forget({job.id: job for job in jobs})

    def catalogue(self) -> Catalogue:
        """Return the scenarios by name, reading them on first use. Raises ScenarioError."""
        if self._catalogue is None:
            self._catalogue = load_catalogue(self.options.scenarios)
        return self._catalogue

    async def loaded_catalogue(self) -> Catalogue:
        """Return the scenarios by name, reading them in a thread on first use. Raises ScenarioError."""
        if self._catalogue is None:
            found = await asyncio.to_thread(load_catalogue, self.options.scenarios)
            # The same object for all: requests may have come in between.
            self._catalogue = self._catalogue or found
        return self._catalogue

    def adopt_scenarios(self, catalogue: Catalogue) -> None:
        """Replace the scenarios. Armed ones stay as they were."""
        self._catalogue = catalogue

    def adopt_contracts(self, contracts: Sequence[Contract]) -> None:
        """Replace the contracts, from the next request on. Raises ReloadError if a job would be in an unknown stage.

        Jobs keep the contract that they were submitted under for their timeline and their callbacks.
        """
        old = self._served
        # An equal one stays the same object: its validators are compiled, and ended jobs are packed with it.
        kept = tuple(
            before if (before := old.get(one.key)) is not None and before.equals(one) else one for one in contracts
        )
        for contract in kept:
            gone = old.get(contract.key, contract).graph.stages.keys() - contract.graph.stages.keys()
            if gone and any(world.jobs.numbers(contract.key) for world in self.worlds):
                message = f"{contract.key}: there are jobs, but no stage {min(gone)!r} any more; restart the server"
                raise import_module(WATCH_MODULE).ReloadError(message)
        # A provider whose folder is gone for a while still has its jobs.
        self._served = {**old, **{contract.key: contract for contract in kept}}
        self.contracts = kept
        self._providers = {contract.key: Provider(contract, Routes(contract)) for contract in kept}
        self._hosts = {host: provider for provider in self._providers.values() for host in provider.contract.hosts}
        self._services = replace(self._services, contracts=kept)
        self._files = FileRequests(self._services, self.loaded_routes)
        if self.options.state is not None:
            self.options.state.serve(kept)
        # Both know the contracts, and are created by the next request.
        self._server_routes = self._control = None
        self.end_streams()
        self._page = None

    def server_routes(self) -> ASGIApp:
        """Return the application for paths that belong to no provider, creating it on first use."""
        if self._server_routes is None:
            from hobbyhorse.server.server_routes import ServerRoutes  # noqa: PLC0415 - delays readiness by 13 ms (Starlette)

            self._server_routes = ServerRoutes(
                self._providers, self.worlds, self.renderer, self._services.origin, self.loaded_control, self.page
            ).application()
        return self._server_routes

    async def loaded_routes(self) -> ASGIApp:
        """Return the application for paths that belong to no provider; its modules are loaded in a thread."""
        await load(ROUTES_MODULE)
        return self.server_routes()

    async def page(self) -> Page:
        """Return the page for browsers, creating it on first use."""
        control = await self.loaded_control()
        # In a thread, because its templates need 50 ms of imports; each part counts callbacks.
        await load(PAGE_MODULE)
        await load(CALLBACKS_MODULE)
        if self._page is None:
            self._page = sys.modules[PAGE_MODULE].Page(control.context, self.access, self.renderer)
        return self._page

    def end_streams(self) -> None:
        """End the live views of the page, which would hold up the stop of the server."""
        if self._page is not None:
            self._page.stopping.set()

    def control(self) -> ControlPlane:
        """Return the control plane, creating it on first use."""
        if self._control is None:
            from hobbyhorse.server.control.app import ControlContext, ControlPlane  # noqa: PLC0415 - delays readiness by 29 ms

            options = self.options
            context = ControlContext(
                contracts=self.contracts,
                worlds=self.worlds,
                catalogue=self.loaded_catalogue,
                callback_dispatcher=self.callback_dispatcher,
                origin=self._services.origin,
                reset=self.reset,
                trace=self.trace,
                judge=options.judge,
                kept=self._services.kept,
                authority=options.authority,
                connect_port=options.connect_port,
                problems=self._watch.problems if self._watch is not None else list,
                forget=self.forget,
                scrape=self.metrics.scrape,
                team_of=self._team_of,
                listed=options.state.listed if options.state is not None else None,
                written=options.state.written if options.state is not None else nothing_to_write,
                refused=self.journal,
            )
            self._control = ControlPlane(context, self.access)
        return self._control

    async def loaded_control(self) -> ControlPlane:
        """Return the control plane; its modules are loaded in a thread."""
        await load(CONTROL_MODULE)
        return self.control()

    @property
    def access(self) -> AccessCheck:
        """The access check of everything below `/_mock`."""
        options = self.options
        return AccessCheck(options.control_key, options.loopback, options.public_url, options.admin_key, options.teams)

    def _team_of(self, key: str) -> Team | None:
        """Return the team of an API key, or None."""
        return next((team for team in self.options.teams.values() if key.startswith(team.prefix)), None)

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
            self._renderer.forget(world.jobs)
        self.worlds.drop(world)

    def trace(
        self,
        world: World,
        contract: Contract,
        base: str,
        unauthenticated: bool = True,
        *,
        issued: Callable[[str], bool] | None = None,
    ) -> Trace:
        """Return the trace between a provider, reached at `base`, and the client of a world.

        `unauthenticated` includes requests without an accepted key: they may come from this client. `issued` tells
        whether a key was issued for another world.
        """
        from hobbyhorse.server.world_trace import trace_of  # noqa: PLC0415 - delays readiness by 7 ms

        media = self.options.media_url
        return trace_of(
            world,
            contract,
            world.keys.get(contract.key, world.key),
            base=base,
            attempts=tuple(self._dispatcher.of_world(world)) if self._dispatcher is not None else (),
            unauthenticated=(self.journal, self.worlds.keyless) if unauthenticated else None,
            origins={**({"media": media} if media else {}), **self.options.elsewhere},
            secret=self.options.callback_secret,
            made=self._renderer.made if self._renderer is not None else None,
            issued=issued,
        )

    def add_origins(self, origins: Mapping[str, str]) -> None:
        """Serve further origins: `media` for file links; `foreign`, `port` and `private` as the targets of faults."""
        parts = {kind: urlsplit(origin) for kind, origin in origins.items()}
        self._other_origins = {
            (host, one.port or 80): kind
            for kind, one in parts.items()
            for host in (LOCALHOST if one.hostname == "localhost" else (str(one.hostname),))
        }
        elsewhere = {kind: origin for kind, origin in origins.items() if kind != "media"}
        self.options = replace(self.options, media_url=origins.get("media"), elsewhere=elsewhere)
        self._services = replace(self._services, media_url=origins.get("media"), elsewhere=elsewhere)
        self._files = FileRequests(self._services, self.loaded_routes)

    async def close(self) -> None:
        """End every wait, close every connection, remove the rendered files. The fake can be served again."""
        self.worlds.close()
        self.metrics.close()
        self.end_streams()
        # Detached before the first await: a request during the close must not use a closed part.
        dispatcher, self._dispatcher = self._dispatcher, None
        renderer, self._renderer = self._renderer, None
        if dispatcher is not None:
            await dispatcher.close()
        if renderer is not None:
            renderer.close()
        if self.options.state is not None:
            await self.options.state.close()
            self._router = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            return await self._lifespan(receive, send)
        # The socket address decides, not the Host header: a client that lies about the host is still seen there.
        if self._other_origins and (kind := self._other_origins.get(tuple(scope["server"] or ()))):
            return await self._files.serve_other_origin(kind, scope, receive, send)
        if self._trusted is not None:
            self._trusted.read(scope)
        path = scope["path"]
        # The control plane is for programs: no page of another origin may use it.
        if self._services.origins.allowed and not path.startswith("/_mock"):
            opened = await self._services.origins.open(scope, send)
            if opened is None:
                return None
            send = opened
        end = path.find("/", 1)
        prefix = path[:end] if end > 0 else path
        provider = self._providers.get(prefix[1:])
        if provider is None and not path.startswith(SERVER_PATHS):
            provider, prefix = self._named_by_host(scope), ""
        if self._router is not None and not await self._router.serves(scope, receive, send, provider):
            return None
        if provider is not None:
            return await self.handle(self._request(provider, prefix, scope, receive, send))
        if path.startswith(MEDIA_PATH):
            return await self._files.serve(scope, receive, send)
        application = await self.loaded_routes()
        return await application(scope, receive, send)

    def _named_by_host(self, scope: Scope) -> Provider | None:
        """Return the provider that the Host header names, or the host that a trusted proxy names, or None."""
        public = scope.get(PUBLIC)
        host = (public.host if public is not None else None) or header(scope["headers"], b"host") or ""
        # A contract may name its host with the port or without it.
        return self._hosts.get(host) or self._hosts.get(host.rpartition(":")[0])

    def _request(self, provider: Provider, prefix: str, scope: Scope, receive: Receive, send: Send) -> OperationRequest:
        """Return the context of a request that has just arrived at a provider."""
        services = self._services
        caller = caller_of(services, provider, scope)
        key, origin = caller.key, caller.origin
        known = self.worlds.of(key) if key else None
        world = known or self.worlds.keyless
        # Before anything waits: its number is the order in which requests arrived, over all worlds.
        entry = world.arrival()
        if world.virtual:
            stamp(scope, entry.arrived)
        return OperationRequest(
            services=services,
            contract=provider.contract,
            routes=provider.routes,
            scope=scope,
            receive=receive,
            send=send,
            headers=caller.headers,
            origin=origin,
            base=origin + prefix,
            below=scope["path"][len(prefix) :],
            key=key,
            known=known,
            world=world,
            entry=entry,
        )

    async def begin(self) -> None:
        """Go on with a kept state, unless that was done. Raises StateError."""
        if self.options.state is None or self._router is not None:
            return
        await self.options.state.connect()
        self.options.state.start(self.worlds, self._services)
        self._router = self.options.state.router(self.worlds, self._services, self.forget, self.metrics.figures)
        self.metrics.others = self.options.state.figures_of_others

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """Handle the ASGI lifespan: go on with a kept state, start a watch, close everything."""
        await receive()
        await self.begin()
        watching = asyncio.create_task(self._watch.run()) if self._watch is not None else None
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if watching is not None:
            watching.cancel()
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})
