"""The server routes: the index, media, fixtures, the control plane, and a refusal for every other path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from hobbyhorse.scenarios.object_store import NOT_FOUND, WRONG_METHOD, FileRefusal
from hobbyhorse.server.files import host as media
from hobbyhorse.server.files.fixtures import fixture_image
from hobbyhorse.server.request import RENDERER_MODULE, load
from hobbyhorse.worlds.signed_links import LinkError
from hobbyhorse.worlds.world import Worlds

if TYPE_CHECKING:
    from hobbyhorse.server.files.renderer import Renderer


@dataclass(frozen=True, slots=True)
class ServerRoutes:
    """The routes that belong to no provider; `providers` are the keys of the served ones."""

    providers: Collection[str]
    worlds: Worlds
    renderer: Callable[[], Renderer]
    origin: Callable[[Scope], str]
    control: Callable[[], Awaitable[ASGIApp]]
    page: Callable[[], Awaitable[ASGIApp]]

    def application(self) -> Starlette:
        """Return the ASGI application."""
        application = Starlette(
            routes=[
                Route("/", self._index),
                Route("/media/{world}/{job}/{file}", self._media, methods=["GET", "HEAD"]),
                Route("/fixtures/images/{file}", self._fixture, methods=["GET", "HEAD"]),
                Route("/metrics", _Loaded(self.control)),
                Route("/_mock", _Loaded(self.control)),
                Route("/_mock/ui", _Loaded(self.page)),
                Route("/_mock/ui/{rest:path}", _Loaded(self.page)),
                Route("/_mock/{rest:path}", _Loaded(self.control)),
            ],
            exception_handlers={404: self._unknown_path, 405: self._unknown_path},
        )
        # A path with another slash at its end is another path, which nothing is served at.
        application.router.redirect_slashes = False
        return application

    async def _index(self, request: Request) -> Response:
        """List the served providers and their URLs."""
        origin = self.origin(request.scope)
        return JSONResponse({"providers": {key: f"{origin}/{key}" for key in self.providers}})

    async def _unknown_path(self, request: Request, error: Exception) -> Response:
        """Refuse a path that belongs to no provider, in the shape of the control plane or of the media host."""
        status = error.status_code if isinstance(error, HTTPException) else 404
        if request.url.path.startswith("/media/"):
            refused = media.refusal(NOT_FOUND if status == 404 else WRONG_METHOD)
            refused.headers.update(getattr(error, "headers", None) or {})
            return refused
        known = ", ".join(f"/{key}" for key in self.providers)
        problem = {
            "code": "unknown_path" if status == 404 else "wrong_method",
            "message": f"{request.method} {request.url.path[:200]} belongs to no provider",
            "hint": f"providers are served below {known}, and by Host header",
        }
        return JSONResponse({"error": problem}, status)

    async def _media(self, request: Request) -> Response:
        """Serve a file of a job to any client with a valid signed link; no key is needed."""
        names = request.path_params
        world = self.worlds.by_handle(names["world"])
        job = world.file_job(names["job"]) if world else None
        # The signature first: without it, a 404 would tell which jobs exist.
        try:
            self.worlds.signer.check(request.scope["path"], request.query_params, world.clock.now() if world else 0.0)
        except LinkError as error:
            return media.refusal(FileRefusal(403, error.code, str(error)))
        if world is None or job is None or job.stage(world.clock.now()).kind != "success":
            return media.refusal(NOT_FOUND)
        await load(RENDERER_MODULE)
        return await media.serve(self.renderer(), job, names["file"], request, owner=names["world"])

    async def _fixture(self, request: Request) -> Response:
        """Serve a fixture image, for clients that need an image URL to send."""
        path = fixture_image(request.path_params["file"])
        if path is None:
            return await self._unknown_path(request, HTTPException(404))
        return FileResponse(path)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """An ASGI application whose modules are loaded by its first request, in a thread."""

    find: Callable[[], Awaitable[ASGIApp]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        application = await self.find()
        await application(scope, receive, send)
