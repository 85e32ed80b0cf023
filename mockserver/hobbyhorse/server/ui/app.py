"""The page as an ASGI application, for paths that begin with `/_mock/ui`.

It is for people, so it differs from the control plane in one way only: a browser cannot send a control key with every
request, so it logs in once (`sessions`). The records, their redaction and the actions come from the control plane.

The page is closed to other pages: the headers forbid frames, scripts and styles that are not the page's own files, and
requests of another origin are refused before anything else. URLs and contents have handles of worlds, never keys.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, Router
from starlette.types import Message as Event
from starlette.types import Receive, Scope, Send

from hobbyhorse.contract.formats import whole_number
from hobbyhorse.scenarios.scenario import ScenarioError
from hobbyhorse.server.control.access import AccessCheck, Forbidden
from hobbyhorse.server.control.handlers import HANDLERS, ControlContext, ControlError, ControlRequest
from hobbyhorse.server.files import host as files
from hobbyhorse.server.request import RENDERER_MODULE, load
from hobbyhorse.server.ui import views
from hobbyhorse.server.ui.live import changes, shared, state_of
from hobbyhorse.server.ui.sessions import Sessions, Viewer
from hobbyhorse.server.ui.templating import ASSETS, asset, render
from hobbyhorse.server.ui.views import Look
from hobbyhorse.state.errors import NotKept, StateError
from hobbyhorse.worlds.world import World

if TYPE_CHECKING:
    from hobbyhorse.server.files.renderer import Renderer

ROOT = "/_mock/ui"
# Bytes of a form: a control key and a few numbers.
MOST_FORM = 64 * 1024
# Fields of a form.
MOST_FIELDS = 20
# Speeds and seconds that a form may have: a thousand times real time, and 30 days.
MOST_SPEED, MOST_SECONDS = 1_000.0, 30 * 86_400.0
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "media-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    # With `no-referrer`, browsers would send `Origin: null` with the page's own forms.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
Endpoint = Callable[[Request], Awaitable[Response]]


class Page:
    """The page of one server."""

    def __init__(self, context: ControlContext, access: AccessCheck, renderer: Callable[[], Renderer]) -> None:
        self._context, self._renderer = context, renderer
        self._sessions = Sessions(access)
        self._catalogue: tuple[object, list[dict[str, Any]]] = (None, [])
        # One reading for all open pages: it goes over every world.
        self._read_worlds = shared(lambda: _state_of_worlds(context))
        self.stopping = asyncio.Event()
        """Set when the server stops, which ends the live views."""
        world = f"{ROOT}/worlds/{{handle}}"
        self._router = Router(
            [
                Route(ROOT, self._seen(self._worlds)),
                Route(f"{ROOT}/", self._home),
                Route(f"{ROOT}/login", self._login, methods=["GET", "POST"]),
                Route(f"{ROOT}/logout", self._logout, methods=["POST"]),
                Route(f"{ROOT}/assets/{{name}}", self._asset),
                Route(f"{ROOT}/events", self._seen(self._worlds_events)),
                Route(f"{ROOT}/open", self._seen(self._open), methods=["POST"]),
                Route(world, self._looked(self._jobs)),
                Route(f"{world}/events", self._looked(self._events)),
                Route(f"{world}/files/{{file}}/{{id:path}}", self._looked(self._file)),
                Route(f"{world}/clock", self._looked(self._move_clock), methods=["POST"]),
                Route(f"{world}/arm", self._looked(self._arm), methods=["POST"]),
                Route(f"{world}/disarm", self._looked(self._disarm), methods=["POST"]),
                Route(f"{world}/redeliver", self._looked(self._redeliver), methods=["POST"]),
                Route(f"{world}/jobs/{{id:path}}", self._looked(self._job)),
                Route(f"{world}/exchanges/{{number}}", self._looked(self._exchange)),
                Route(f"{world}/{{section}}", self._looked(self._section)),
            ],
            redirect_slashes=False,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_guarded(event: Event) -> None:
            if event["type"] == "http.response.start":
                given = {name for name, _ in event["headers"]}
                more = [
                    (name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in given
                ]
                event = {**event, "headers": [*event["headers"], *more]}
            await send(event)

        scope = {**scope, "app": self}
        refused = self._sessions.judge(scope)
        if refused is not None:
            return await _refusal(refused)(scope, receive, send_guarded)
        try:
            await self._router(scope, receive, send_guarded)
        except HTTPException as error:
            hint = "the address is wrong, or the page was left behind by an update"
            response = _problem(error.status_code, "this page does not exist", hint)
            await response(scope, receive, send_guarded)

    def _seen(self, endpoint: Callable[[Request, Viewer], Awaitable[Response]]) -> Endpoint:
        """Return an endpoint that needs a login, if the server needs one."""

        async def checked(request: Request) -> Response:
            viewer = self._sessions.viewer(request.scope)
            if viewer is None:
                return _login_needed(request)
            try:
                return await endpoint(request, viewer)
            except ControlError as error:
                return _problem(error.status, error.message, error.hint)
            except StateError as error:
                return _problem(503, str(error), "restore the state, or forget the world")
            except NotKept:
                return _problem(503, "the state cannot be reached", "try later")

        return checked

    def _looked(self, endpoint: Callable[[Request, Look], Awaitable[Response]]) -> Endpoint:
        """Return an endpoint for a world that its viewer may see."""

        async def looked(request: Request, viewer: Viewer) -> Response:
            world = views.find_world(self._control(request), viewer, request.path_params["handle"])
            if world is None:
                message, hint = "this world does not exist", "it was forgotten, or the server has started anew"
                raise ControlError(404, "unknown_world", message, hint)
            control = self._control(request, world, viewer)
            return await endpoint(request, Look(control, dict(request.query_params), viewer))

        return self._seen(looked)

    def _control(self, request: Request, world: World | None = None, viewer: Viewer | None = None) -> ControlRequest:
        """Return the control plane's request for a world, by default for the one without a key."""
        team = viewer.team if viewer is not None else None
        chosen = world or self._context.worlds.keyless
        return ControlRequest(self._context, chosen, request.scope, request.path_params, {}, {}, team)

    async def _login(self, request: Request) -> Response:
        """Show the form, or take the control key."""
        if self._sessions.viewer(request.scope) is not None:
            return RedirectResponse(ROOT, 303)
        if request.method != "POST":
            return _html("login.html", {"refused": False})
        form = await _form(request)
        cookie = self._sessions.login(request.scope, form.get("key", "").strip())
        if cookie is None:
            return _html("login.html", {"refused": True}, 403)
        return RedirectResponse(ROOT, 303, {"set-cookie": cookie})

    async def _logout(self, request: Request) -> Response:
        return RedirectResponse(f"{ROOT}/login", 303, {"set-cookie": self._sessions.logout(request.scope)})

    async def _home(self, request: Request) -> Response:
        return RedirectResponse(ROOT, 303)

    async def _asset(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in ASSETS:
            raise HTTPException(404)
        return Response(asset(name), headers={"content-type": ASSETS[name], "cache-control": "no-cache"})

    async def _worlds(self, request: Request, viewer: Viewer) -> Response:
        """Show the worlds."""
        before = whole_number(request.query_params.get("before", ""), views.MOST_DIGITS)
        found = await views.worlds(self._control(request), viewer, before)
        return _html("worlds.html", {**found, "viewer": viewer, "now": time.time()})

    async def _worlds_events(self, request: Request, viewer: Viewer) -> Response:
        return self._stream(request, self._read_worlds)

    async def _open(self, request: Request, viewer: Viewer) -> Response:
        """Open the world of an API key."""
        key = (await _form(request)).get("key", "").strip()
        if not key:
            raise ControlError(422, "no_key", "the key is missing", "type the API key that the client uses")
        if not viewer.may_see(key):
            raise ControlError(403, "foreign_key", "the key is not one of your team", "use a key with your prefix")
        world = self._context.worlds.of(key)
        if world is None:
            raise ControlError(403, "key_refused", "the server does not accept this key", "see --api-key")
        return RedirectResponse(f"{ROOT}/worlds/{world.handle}", 303)

    async def _jobs(self, request: Request, look: Look) -> Response:
        return _world_html("jobs.html", look, "jobs", {**views.jobs(look), "detail": None})

    async def _job(self, request: Request, look: Look) -> Response:
        detail = await views.job(look, request.path_params["id"])
        return _world_html("jobs.html", look, "jobs", {**views.jobs(look), "detail": detail})

    async def _exchange(self, request: Request, look: Look) -> Response:
        # Not a number in the route: Starlette reads it before the login is checked, and raises if it is very long.
        detail = views.exchange(look, whole_number(request.path_params["number"], views.MOST_DIGITS))
        return _world_html("exchanges.html", look, "exchanges", {**views.exchanges(look), "detail": detail})

    async def _section(self, request: Request, look: Look) -> Response:
        """Show another section of a world."""
        section = request.path_params["section"]
        if section == "jobs":
            return await self._jobs(request, look)
        if section == "exchanges":
            return _world_html("exchanges.html", look, section, {**views.exchanges(look), "detail": None})
        if section == "callbacks":
            return _world_html("callbacks.html", look, section, views.callbacks(look))
        if section == "scenarios":
            return _world_html("scenarios.html", look, section, views.scenarios(look, await self._known(look.request)))
        if section == "ledger":
            return _world_html("ledger.html", look, section, views.ledger(look))
        raise HTTPException(404)

    async def _known(self, request: ControlRequest) -> list[dict[str, Any]]:
        """Return the catalogue, which is matched with the contracts again only if it is another one."""
        try:
            found = await self._context.catalogue()
        except ScenarioError as error:
            raise ControlError(422, error.code, error.message, error.hint) from None
        if self._catalogue[0] is not found:
            # In a thread, because this takes 50 ms.
            self._catalogue = found, await asyncio.to_thread(views.catalogue, request, found)
        return self._catalogue[1]

    async def _events(self, request: Request, look: Look) -> Response:
        handle, dispatcher = look.world.handle, self._context.callback_dispatcher()

        def read() -> Any:
            # A world that was forgotten has another object when its key is used again.
            world = views.find_world(look.request, look.viewer, handle)
            return None if world is None else state_of(world, dispatcher, look.query.get("job"))

        return self._stream(request, read)

    def _stream(self, request: Request, read: Callable[[], Any]) -> Response:
        # A proxy such as nginx would otherwise keep events back.
        headers = {"x-accel-buffering": "no"}
        events = changes(read, self.stopping) if request.method == "GET" else ()
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)

    async def _file(self, request: Request, look: Look) -> Response:
        """Serve a file of a job, without a trace in the journal: the page is not the client."""
        job, name = look.world.jobs.get(request.path_params["id"]), request.path_params["file"]
        if job is None or name not in files.MEDIA_TYPES or job.stage(look.world.clock.now()).kind != "success":
            raise HTTPException(404)
        await load(RENDERER_MODULE)
        return await files.serve(self._renderer(), job, name, request, owner=look.world.handle)

    async def _move_clock(self, request: Request, look: Look) -> Response:
        """Set the speed of the clock, advance it, or run it until nothing is due."""
        form = await _form(request)
        if "speed" in form:
            speed = _number("speed", form["speed"], MOST_SPEED)
            await self._act(look, "putClock", {"speed": speed})
        elif "seconds" in form:
            seconds = _number("seconds", form["seconds"], MOST_SECONDS)
            await self._act(look, "advanceClock", {"seconds": seconds})
        else:
            await self._act(look, "runUntilIdle", {})
        return _back(look, form)

    async def _arm(self, request: Request, look: Look) -> Response:
        form = await _form(request)
        jobs = form.get("jobs", "1")
        if jobs != "all" and not (jobs.isascii() and jobs.isdecimal() and 0 < len(jobs) < 5 and int(jobs)):
            raise ControlError(422, "invalid_body", f"'jobs' is {jobs[:20]!r}", "allowed: all, or 1 to 9999")
        body: dict[str, Any] = {"scenario": form.get("scenario", ""), "jobs": jobs if jobs == "all" else int(jobs)}
        await self._act(
            look, "armScenario", {**body, **({"provider": form["provider"]} if form.get("provider") else {})}
        )
        return _back(look, form)

    async def _disarm(self, request: Request, look: Look) -> Response:
        form = await _form(request)
        await self._act(look, "disarm", {}, id=form.get("id", ""))
        return _back(look, form)

    async def _redeliver(self, request: Request, look: Look) -> Response:
        form = await _form(request)
        await self._act(look, "redeliver", {}, job=form.get("job", ""))
        return _back(look, form)

    async def _act(self, look: Look, operation: str, body: Mapping[str, Any], **names: str) -> None:
        """Do an operation of the control plane in a world. Raises ControlError."""
        one = look.request
        try:
            await HANDLERS[operation](ControlRequest(one.context, one.world, one.scope, names, {}, body, one.team))
        finally:
            # As after a request to the control plane: also a refused one may have changed something.
            one.world.changed()
            await one.context.kept(one.world)


def _state_of_worlds(context: ControlContext) -> tuple[int, int]:
    """Return a record that differs when the list of worlds shows something else."""
    used = [world.used for world in context.worlds]
    return len(used), max(used, default=0)


def _number(name: str, text: str, most: float) -> float:
    """Read a number of a form. Raises ControlError."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found <= most:
        raise ControlError(422, "invalid_body", f"{name!r} is {text[:20]!r}", f"allowed: 0 to {most:g}")
    return found


async def _form(request: Request) -> dict[str, str]:
    """Read a form. Raises ControlError."""
    content = b""
    try:
        async for chunk in request.stream():
            content += chunk
            if len(content) > MOST_FORM:
                raise ControlError(413, "body_too_large", "the form is too large", f"allowed: {MOST_FORM} bytes")
    except ClientDisconnect:
        raise ControlError(400, "malformed_body", "the form is incomplete", "send it again") from None
    try:
        return dict(parse_qsl(content.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError as error:
        raise ControlError(400, "malformed_body", "the form cannot be read", str(error)) from None


def _back(look: Look, form: Mapping[str, str]) -> Response:
    """Return to the page that had the form, if that is a page of the same world."""
    wanted = form.get("back", "")
    safe = wanted.startswith(look.root) and not set(wanted) & set("\\\r\n") and "/../" not in wanted
    return RedirectResponse(quote(wanted, safe="/%?=&-._~") if safe else look.root, 303)


def _html(template: str, values: Mapping[str, Any], status: int = 200) -> Response:
    return Response(render(template, values), status, media_type="text/html")


def _world_html(template: str, look: Look, section: str, values: Mapping[str, Any]) -> Response:
    scope = look.request.scope
    # As the browser wrote it: an id in the decoded path may have a slash.
    raw, query = (scope[name].decode("latin-1") for name in ("raw_path", "query_string"))
    here = raw + (f"?{query}" if query else "")
    return _html(template, {**views.shell(look, section), **values, "viewer": look.viewer, "here": here})


def _login_needed(request: Request) -> Response:
    # A stream or a form cannot follow to a login.
    if request.method == "GET" and not request.url.path.endswith("/events"):
        return RedirectResponse(f"{ROOT}/login", 303)
    return _problem(403, "the session has ended", "log in again")


def _problem(status: int, message: str, hint: str) -> Response:
    return _html("problem.html", {"message": message, "hint": hint, "linked": True}, status)


def _refusal(refused: Forbidden) -> Response:
    """Refuse a request without a link, a script or a style."""
    return Response(f"{refused.message}; {refused.hint}\n", 403, media_type="text/plain")
