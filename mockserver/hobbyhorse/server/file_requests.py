"""Requests for files, and requests that reach another origin than the server's own: as `pipeline`, a line of steps.

A file belongs to a job, and its request to the job's world: find the job, apply a fault of the job's scenario, note the
exchange, respond. The media host (`files.host`) makes the response, and its own steps stream it; a fault needs the
response as a whole, so only then it is captured. As in `pipeline`, the exchange is noted before the first byte leaves.

The other origins exist to see clients that should not call them. They find the sender, note the exchange, and refuse.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as Event

from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.effects import Sent
from hobbyhorse.scenarios.fault import HEADS, MEDIA, UNRANGED
from hobbyhorse.scenarios.object_store import XML_TYPE, FileRefusal
from hobbyhorse.scenarios.scenario import Move
from hobbyhorse.server.kept.refusing import refuse_world
from hobbyhorse.server.kept.reporting import report
from hobbyhorse.server.metrics.counters import Counters
from hobbyhorse.server.request import (
    JSON_HEADER,
    ClientGone,
    Services,
    api_key,
    first_headers,
    header,
    read_all,
    requested_origin,
)
from hobbyhorse.server.socket_faults import (
    ClientConnection,
    abandon,
    connection,
    hand_over,
    is_open,
    send_with_fault,
    stamp,
)
from hobbyhorse.server.trouble import apply_file_fault, capture, uses_of_next
from hobbyhorse.state.errors import StateError
from hobbyhorse.worlds.jobs import Job
from hobbyhorse.worlds.journal import Entry, JournalNote
from hobbyhorse.worlds.world import World

MEDIA_PATH = "/media/"
CANARY = Sent(200, ((b"content-type", b"application/octet-stream"),), b"not for clients")
"""The response of the private origin; a careful client never fetches it."""
CHANGED = FileRefusal(403, "SignatureDoesNotMatch", "The link was not requested as it was given.")
NOT_AS_GIVEN = Sent(CHANGED.status, (), CHANGED.xml()).typed(XML_TYPE)
UNRESERVED = re.compile("[A-Za-z0-9._~-]")


@dataclass(slots=True, kw_only=True)
class FileRequest:
    """One request for a file of a job while it is being handled."""

    scope: Scope
    receive: Receive
    send: Send
    world: World
    job: Job
    entry: Entry
    status: int = 0
    """The status of the response when it is noted; 0 before that, and if none is sent."""
    move: str | None = None
    counters: Counters
    began: float = field(default_factory=perf_counter)
    counted: bool = False

    def client(self, send: Send) -> ClientConnection:
        """Return the client's side of the exchange, with a way to send."""
        return ClientConnection(self.scope, self.receive, send, self.world.clock, self.entry)

    def note(self, status: int, move: Move | None) -> None:
        """Add the exchange to the journal, without the bytes of the file."""
        self.status, self.move = status, move.kind if move else None
        note = JournalNote(
            job=self.job.id,
            status=status,
            notes=(f"scenario: {move}",) if move else (),
            move=self.move,
        )
        entry = self.entry.noted(
            note,
            self.scope,
            provider=self.job.contract.key,
            role=MEDIA,
            root=requested_origin(self.scope),
            path=self.scope["path"],
        )
        entry.connections = self.world.count(connection(self.scope))
        # A refused file needs neither a key nor a signature.
        keyed = move is not None or not 400 <= status < 500
        if _note(self.world, entry, keyed) and self.job.active_scenario is not None:
            self.world.met(self.job.active_scenario)

    def count(self) -> None:
        """Count the request, under its status, and the fault that its response met; later calls do nothing."""
        if not self.counted:
            self.counted, provider = True, self.job.contract.key
            status = str(self.status) if self.status else None
            self.counters.request(provider, MEDIA, status, perf_counter() - self.began)
            if self.move is not None:
                self.counters.faults[provider, self.move] += 1

    async def send_noted(self, event: Event) -> None:
        """Send an event of a response without a fault: note the exchange before the first, deliver with the last."""
        if event["type"] == "http.response.start":
            # A response to HEAD declares the length of a body that never comes.
            length = header(event["headers"], b"content-length") if self.scope["method"] != "HEAD" else None
            self.entry.begin(event["headers"], int(length or 0))
            self.note(event["status"], None)
        was_open = is_open(connection(self.scope))
        await self.send(event)
        if event["type"] == "http.response.body" and not event.get("more_body", False):
            # Here, because the file is closed in a thread: a client may see the figures before that.
            self.count()
            if was_open:
                hand_over(connection(self.scope), self.entry, self.world.clock, self.status)


@dataclass(frozen=True, slots=True)
class FileRequests:
    """Serves files and other origins; `routes` makes the responses with files."""

    services: Services
    routes: Callable[[], Awaitable[ASGIApp]]

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a request for a file, and record it in the world of its job."""
        try:
            found = self._job(scope)
        except StateError as error:  # the record of the job is damaged
            report(str(error))
            return await refuse_world(scope, send, None)
        if found is None:
            routes = await self.routes()
            return await routes(scope, receive, send)
        world, job = found
        entry, counters = world.arrival(), self.services.counters
        call = FileRequest(
            scope=scope, receive=receive, send=send, world=world, job=job, entry=entry, counters=counters
        )
        if world.virtual:
            stamp(scope, call.entry.arrived)
        try:
            await self._respond(call)
            if call.entry.kept and world.unkept is not None:
                world.unkept.entry(call.entry)
        except asyncio.CancelledError:  # the server stops while a video is being rendered
            await abandon(scope)
        finally:
            call.count()

    def _job(self, scope: Scope) -> tuple[World, Job] | None:
        """Return the job that the path names, and its world."""
        handle, _, rest = scope["path"][len(MEDIA_PATH) :].partition("/")
        world = self.services.worlds.by_handle(handle)
        job = world.file_job(rest.partition("/")[0]) if world is not None else None
        return (world, job) if world is not None and job is not None else None

    async def _respond(self, call: FileRequest) -> None:
        """Respond with the file, or through the fault that its job's scenario has for it."""
        scenario, routes = call.job.active_scenario, await self.routes()
        method = call.scope["method"]
        uses = uses_of_next(scenario) if scenario is not None else frozenset()
        if scenario is not None and not _as_given(call.scope, scenario.links):
            call.note(NOT_AS_GIVEN.status, None)
            return await call.client(call.send).whole(NOT_AS_GIVEN)
        # A fault concerns GET. HEAD gets the usual response, unless a fault is for HEAD.
        if scenario is None or scenario.peek(MEDIA) is None or method not in ("GET", "HEAD"):
            return await routes(call.scope, call.receive, call.send_noted)
        if method == "HEAD" and HEADS not in uses:
            return await routes(call.scope, call.receive, call.send_noted)
        scope = _without_range(call.scope) if UNRANGED in uses else call.scope
        captured = await capture(routes, scope, call.receive)
        faulted = apply_file_fault(scenario, captured, call.world, call.scope, self.services.elsewhere)
        if faulted is None:
            return await call.client(call.send_noted).whole(captured)
        call.entry.begin((), len(faulted.sent.body))
        call.note(faulted.status, faulted.move)
        return await send_with_fault(faulted.wire, faulted.sent, call.client(call.send))

    async def serve_other_origin(self, kind: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a request that reached one of the other origins, and record its sender."""
        path, method = scope["path"], scope["method"]
        if kind != "private" and path.startswith(MEDIA_PATH):
            return await self.serve(scope, receive, send)
        contract, world, keyed = self._sender(scope)
        sender = world or self.services.worlds.keyless
        entry = sender.arrival()
        if sender.virtual:
            stamp(scope, entry.arrived)
        try:
            body = await read_all(receive)
        except ClientGone:
            return None
        sent = CANARY if kind == "private" and method in ("GET", "HEAD") else _not_served(kind)
        # The name in its URL, not the address: a name such as localhost has two addresses.
        root = {"media": self.services.media_url, **self.services.elsewhere}[kind]
        entry.noted(
            JournalNote(status=sent.status, body=sent.body, notes=(f"{kind} origin",)),
            scope,
            provider=contract.key if contract is not None else None,
            role=None,
            root=root or "",
            path=path,
            body=body,
        )
        if world is None:
            self.services.journal.add(entry)
        else:
            _note(world, entry, keyed)
        return await ClientConnection(scope, receive, send, sender.clock, entry).whole(sent)

    def _sender(self, scope: Scope) -> tuple[Contract | None, World | None, bool]:
        """Return the provider of the requested path, the sender's world, and whether the request carries its key."""
        first, worlds, headers = scope["path"].split("/")[1], self.services.worlds, first_headers(scope)
        contract = next((one for one in self.services.contracts if one.key == first), None)
        for one in self.services.contracts if contract is None else (contract,):
            key = api_key(one.security, headers, scope["query_string"])
            # `known`, not `of`: a request to a foreign origin must not open a world.
            if key is not None and (world := worlds.known(key)) is not None:
                return contract, world, True
        # A link to a private host carries no key; the world's handle in its path names the client instead.
        if scope["path"].startswith(MEDIA_PATH):
            return contract, worlds.by_handle(scope["path"].split("/")[2]), False
        return contract, None, False


def _note(world: World, entry: Entry, keyed: bool) -> bool:
    """Add an exchange to the journal of a world; return whether it has room for one without a key."""
    if keyed:
        world.journal.add(entry)
    elif not world.journal.add_keyless(entry):
        return False
    if world.unkept is not None:
        world.unkept.entry(entry)
    return True


def _as_given(scope: Scope, links: Mapping[str, str]) -> bool:
    """Whether a link that a variation has changed comes back byte for byte, or in an equivalent spelling."""
    given = links.get(scope["path"])
    # Some clients normalize the spelling of escapes, which RFC 3986 allows (section 6.2.2).
    return given is None or normalized(given) == normalized(scope["query_string"].decode("latin-1"))


def normalized(query: str) -> str:
    """Return a query with its escapes in capitals, and without those of unreserved characters."""

    def spelt(found: re.Match[str]) -> str:
        character = chr(int(found[1], 16))
        return character if UNRESERVED.fullmatch(character) else found[0].upper()

    return re.sub("%([0-9A-Fa-f]{2})", spelt, query)


def _without_range(scope: Scope) -> Scope:
    """Return a request for a whole file."""
    headers = [one for one in scope["headers"] if one[0] not in (b"range", b"if-range")]
    return {**scope, "headers": headers}


def _not_served(kind: str) -> Sent:
    """Refuse a path that another origin does not serve."""
    # Without the path: it has the job's id, and an error with this body would look as if the client reported the id.
    message = f"the {kind} origin does not serve this path"
    problem = {"code": "unknown_path", "message": message, "hint": "providers are served at the server's own origin"}
    return Sent(404, (JSON_HEADER,), orjson.dumps({"error": problem}))
