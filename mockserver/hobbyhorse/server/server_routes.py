"""What the server answers on its own account: the index, media, fixtures, and what belongs to no provider."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from hobbyhorse.contract.folder import data_directory
from hobbyhorse.server.files import host as media
from hobbyhorse.worlds.signed_links import LinkError
from hobbyhorse.worlds.world import Worlds

if TYPE_CHECKING:
    from hobbyhorse.server.files.renderer import Renderer


@dataclass(frozen=True, slots=True)
class ServerRoutes:
    """The answers to our own paths, in our own shape; `providers` are the keys of those that are served."""

    providers: Collection[str]
    worlds: Worlds
    studio: Callable[[], Renderer]
    origin: Callable[[Scope], str]
    control: Callable[[], ASGIApp]

    def application(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/", self._index),
                Route("/media/{world}/{job}/{file}", self._media, methods=["GET", "HEAD"]),
                Route("/fixtures/images/{file}", self._fixture, methods=["GET", "HEAD"]),
                Route("/_mock", _Lazy(self.control)),
                Route("/_mock/{rest:path}", _Lazy(self.control)),
            ],
            exception_handlers={404: self._nothing, 405: self._nothing},
        )

    async def _index(self, request: Request) -> Response:
        """Say which providers are served, and where."""
        origin = self.origin(request.scope)
        return JSONResponse({"providers": {key: f"{origin}/{key}" for key in self.providers}})

    async def _nothing(self, request: Request, error: Exception) -> Response:
        """Refuse what belongs to no provider, in our own shape."""
        status = error.status_code if isinstance(error, HTTPException) else 404
        known = ", ".join(f"/{key}" for key in self.providers)
        problem = {
            "code": "unknown_path" if status == 404 else "wrong_method",
            "message": f"{request.method} {request.url.path[:200]} belongs to no provider",
            "hint": f"providers are served below {known}, and by Host header",
        }
        return JSONResponse({"error": problem}, status)

    async def _media(self, request: Request) -> Response:
        """Serve a job's media to whoever has its signed address, until it expires."""
        names = request.path_params
        world = self.worlds.by_handle(names["world"])
        job = world.jobs.get(names["job"]) if world else None
        try:
            self.worlds.signer.check(request.url.path, request.query_params, world.clock.now() if world else 0.0)
        except LinkError as error:
            return media.refusal(403, error.code, str(error))
        if world is None or job is None or job.stage(world.clock.now()).kind != "success":
            return media.refusal(404, "NoSuchKey", "The specified key does not exist.")
        return await media.serve(self.studio(), job, names["file"], request)

    async def _fixture(self, request: Request) -> Response:
        """Serve one of the project's own pictures, for clients that need an address to send."""
        directory = data_directory("fixtures") / "images"
        path = directory / request.path_params["file"]
        if path.parent != directory or not path.is_file():
            return await self._nothing(request, HTTPException(404))
        return FileResponse(path)


@dataclass(frozen=True, slots=True)
class _Lazy:
    """An ASGI application that is made when it is first needed."""

    make: Callable[[], ASGIApp]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.make()(scope, receive, send)
