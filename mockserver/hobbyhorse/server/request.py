"""One request to a provider and its response: the context of the steps in `pipeline`; knows no role and no scenario."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import parse_qs, parse_qsl

from starlette.types import Receive, Scope, Send

from hobbyhorse.clock.race import client_gone, first_of
from hobbyhorse.contract.documents.operations import JSON_TYPE
from hobbyhorse.contract.forms.expressions import MISSING, Message
from hobbyhorse.contract.message import Lookup, Raw
from hobbyhorse.contract.request import MOST_BODY_BYTES, Refusal, read_body, read_parameters
from hobbyhorse.contract.routes import Route, Routes
from hobbyhorse.contract.values import Contract, Situation, find_situation
from hobbyhorse.server.files.image_sources import FetchPolicy
from hobbyhorse.server.files.large_bodies import MOST_INLINE_BYTES
from hobbyhorse.server.front.forwarded import PUBLIC
from hobbyhorse.server.metrics.counters import Counters
from hobbyhorse.server.socket_faults import TRANSPORT
from hobbyhorse.server.worker.error import WorkerError
from hobbyhorse.server.worker.turns import Turns
from hobbyhorse.worlds.jobs import Job, JobView, MediaLinks
from hobbyhorse.worlds.journal import MOST_JOURNAL_BODY_BYTES, Entry, Journal
from hobbyhorse.worlds.pagination import PAGE_VALUES, PageError, page
from hobbyhorse.worlds.world import World, Worlds

if TYPE_CHECKING:
    from hobbyhorse.scenarios.armed import ActiveScenario
    from hobbyhorse.scenarios.scenario import Catalogue
    from hobbyhorse.server.callbacks import CallbackDispatcher
    from hobbyhorse.server.files.renderer import Renderer
    from hobbyhorse.server.origins import Origins
    from hobbyhorse.server.trouble import FaultedResponse

Item = TypeVar("Item")
# Large bodies that one key has in memory: 4 of 64 MiB are 256 MiB.
MOST_LARGE_BODIES_OF_KEY = 4
# Items of a list that are made in one turn of the event loop: to unpack and write ten of the largest jobs takes 10 ms.
ITEMS_AT_ONCE = 10
# Bytes of a list that are written in one turn of the event loop: some 50 jobs, in 5 ms.
MOST_TURN_BYTES = 64 * 1024
# Bytes of a page that its cursor can continue: 500 usual jobs have less than one.
MOST_PAGE_BYTES = 4 << 20
JSON_HEADER = (b"content-type", JSON_TYPE.encode())
CALLBACKS_MODULE, RENDERER_MODULE = "hobbyhorse.server.callbacks", "hobbyhorse.server.files.renderer"
"""Modules that import httpx, and Pillow, which takes 60 ms."""
CALLER = "hobbyhorse.server.caller"
"""The name of the ASGI extension that holds the caller of a connection's last request."""


async def nothing_to_keep(world: World) -> None:
    """Wait for nothing: the state is in memory only."""


async def nothing_to_write() -> None:
    """Wait for nothing: the state is in memory only."""


class ContractBroken(Exception):
    """A response that breaks its own contract: a bug in the contract's folder, or in the server."""


class ClientGone(Exception):
    """The client disconnected before its request was complete."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A served contract and its routes."""

    contract: Contract
    routes: Routes


@dataclass(slots=True)
class OperationResponse:
    """A response as an operation makes it: the situation, the body, and the notes for the journal."""

    situation: Situation
    body: bytes
    job: str | None = None
    notes: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


class Refused(Exception):
    """A step has refused the request; no further step decides about it."""

    def __init__(self, response: OperationResponse) -> None:
        super().__init__(response.situation.name)
        self.response = response


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The parts of the server that requests use.

    `journal` has the exchanges without a world: their key is missing or not accepted. `elsewhere` has the origins that
    faults point clients to, `media_url` the origin of the files if it differs from the server's. `public_url` is the
    server's own origin in links, None for the origin of the request. If `strict`, responses are validated. `origins`
    are of the web pages that may use the providers. `kept` waits until the changes of a world are kept.
    """

    contracts: Sequence[Contract]
    worlds: Worlds
    journal: Journal
    catalogue: Callable[[], Awaitable[Catalogue]]
    callback_dispatcher: Callable[[], CallbackDispatcher]
    renderer: Callable[[], Renderer]
    policy: FetchPolicy
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    media_url: str | None = None
    public_url: str | None = None
    strict: bool = False
    origins: Origins
    uploads: Turns = field(default_factory=Turns)
    kept: Callable[[World], Awaitable[None]] = nothing_to_keep
    counters: Counters = field(default_factory=Counters)

    def origin(self, scope: Scope, host: bytes | None = None) -> str:
        """Return the server's origin for links, as `requested_origin` does unless it has a public one."""
        return requested_origin(scope, host) if self.public_url is None else self.public_url.rstrip("/")


@dataclass(slots=True, kw_only=True)
class OperationRequest:
    """One request to a provider while it is being handled: the context of every step in `pipeline`.

    `base` is the provider's base URL on this server, `below` the requested path below it, `origin` the server's origin.
    `key` is the request's key, `known` its world if the key is accepted, `world` the same or the world of requests
    without a key. The step `route` sets `route`, `role`, and the parameters in the `path`. `scenario` is the active
    scenario, `claimed` the idempotency key that is held for this request, `made` the id of the job that it created. A
    large body has the `fingerprint` of its object, the files of its data URIs in `spooled`, and a turn in `uploads`.
    `result` is the response, from the step `decide` or from the step that refused the request. `entry` is the record of
    the exchange for the journal.
    """

    services: Services
    contract: Contract
    routes: Routes
    scope: Scope
    receive: Receive
    send: Send
    headers: Mapping[bytes, bytes]
    origin: str
    base: str
    below: str
    key: str | None
    known: World | None
    world: World
    entry: Entry
    route: Route = field(init=False)
    path: Mapping[str, str] = field(init=False)
    role: str | None = None
    body: bytes = b""
    scenario: ActiveScenario | None = None
    was_read: bool | Refusal = False
    claimed: str | None = None
    made: str | None = None
    fingerprint: bytes = b""
    spooled: Mapping[str, Path] = field(default_factory=dict)
    uploads: bool = False
    result: OperationResponse | FaultedResponse = field(init=False)

    def header(self, name: str) -> str | None:
        """Return the first header of a name, or None."""
        value = self.headers.get(name.encode("latin-1"))
        return None if value is None else value.decode("latin-1")

    @property
    def media(self) -> MediaLinks:
        """The signer of links to the media of this request's world."""
        services = self.services
        return MediaLinks(services.media_url or self.origin, self.world.handle, services.worlds.signer)

    @property
    def elsewhere(self) -> Mapping[str, str]:
        """The origins that faults point clients to."""
        return self.services.elsewhere

    def parameters(self) -> Message | Refusal:
        """Read the path, the query and the headers."""
        # The common case, a poll: its route declares no parameter, so nothing has to be parsed or validated.
        if self.route.plain:
            return Message(self.path, {}, self.header)
        query = dict(parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True))
        return read_parameters(self.contract, self.route.operation, self.path, query, self.header)

    async def json(self) -> dict[str, Any] | Refusal:
        """Read the body, a JSON object of at most 64 MiB. Raises ClientGone if the client disconnects first."""
        refused = await self.read()
        if refused is not None:
            return refused
        if len(self.body) > MOST_INLINE_BYTES:
            return await self._large_json()
        value: dict[str, Any] | Refusal = read_body(self.header("content-type"), self.body)
        return value

    async def _large_json(self) -> dict[str, Any] | Refusal:
        """Have a worker process read a large body."""
        await load(RENDERER_MODULE)
        renderer = self.services.renderer()
        try:
            found = await renderer.read_body(self.world.handle, self.header("content-type"), self.body)
        except WorkerError as error:
            if error.code in ("time", "memory"):
                message = f"the body cannot be read: {error}; this is a bound of the mock server"
                return Refusal("body_too_large", message, ("body",))
            return Refusal("overloaded")
        self.fingerprint, self.spooled = found.fingerprint, found.spooled
        value: dict[str, Any] | Refusal = found.value
        return value

    def claim(self, message: Message) -> str | Refusal | None:
        """Claim the request's idempotency key until the response is made; None if the request has no key.

        The key is claimed before the body is read: of two requests with one key, the later one must be refused even if
        its body arrives first.
        """
        place = self.contract.idempotency.key
        key = place.get(message) if place is not None and self.claimed is None else self.claimed
        if not isinstance(key, str):
            return None
        if self.claimed is None and not self.world.idempotency.begin(self.contract.key, key):
            return Refusal("key_in_flight")
        self.claimed = key
        return key

    def release(self) -> None:
        """Release the claimed idempotency key, the turn of a large body and its files, if there are any."""
        if self.uploads:
            self.uploads = False
            self.services.uploads.give(self.world.handle)
        for path in self.spooled.values():
            path.unlink(missing_ok=True)
        if self.claimed is not None:
            self.world.idempotency.end(self.contract.key, self.claimed)
            self.claimed = None

    async def read(self) -> Refusal | None:
        """Read the body on the first call; return a refusal if it is too large. Raises ClientGone."""
        if self.was_read is False:
            refused = await self._read()
            self.was_read = True if refused is None else refused
        return self.was_read if isinstance(self.was_read, Refusal) else None

    async def _read(self) -> Refusal | None:
        # A declared length is refused unread; a chunked body has none and is counted as it arrives.
        declared = self.header("content-length") or ""
        # `int` raises for superscripts and for very long numbers.
        if declared.isdecimal() and (len(declared) > 18 or int(declared) > MOST_BODY_BYTES):
            return _too_large(declared[:20])
        chunks, size = [], 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > MOST_BODY_BYTES:
                return _too_large(f"more than {MOST_BODY_BYTES}")
            chunks.append(chunk)
            # The rest is not read before there is a turn, so that the client waits and not the memory grows.
            if size > MOST_INLINE_BYTES and not self.uploads:
                await self.services.uploads.take(self.world.handle, MOST_LARGE_BODIES_OF_KEY)
                self.uploads = True
            if not message.get("more_body", False):
                break
        self.body = b"".join(chunks)
        return None

    def job(self) -> Job | Refusal:
        """Find the job that the path names, if it belongs to this key and is still retained."""
        binding = self.route.operation.bindings["job"]
        job_id = self.path[binding.request[0].name]
        job = self.world.find(self.contract, job_id)
        if job is None:
            # Some providers refuse another key's job with its own status; `foreign_job` is for them.
            return Refusal("foreign_job" if self.services.worlds.has(self.contract, job_id) else "unknown_job")
        life = self.contract.retention.job
        if life is not None and job.ends and self.world.clock.now() > job.finished + life:
            return Refusal("expired_job")
        return job

    async def until_ended(self, job: Job) -> bool:
        """Wait until a job has ended; return False if it is stuck and the client disconnects."""
        clock = self.world.clock
        while not (job.ends and clock.now() >= job.finished):
            # Only a stuck job needs its client watched: any other ends by the clock, and this wait with it.
            waits = [job.moved(), clock.sleep_until(job.finished) if job.ends else client_gone(self.receive)]
            if await first_of(*waits) == 1 and not job.ends:
                return False
        return True

    def view(self, job: Job, now: float) -> JobView:
        """Return the view of a job for the response to this request."""
        return JobView(job, now, job.stage(now), self.base, self.media)

    def value_of(self, message: Message, name: str) -> Any:
        """Return the value that the request has for a bound name, or MISSING."""
        binding = self.route.operation.bindings.get(name)
        for place in binding.request if binding else ():
            if (value := place.get(message)) is not MISSING:
                return value
        return MISSING


async def load(module: str) -> None:
    """Import a module that only some requests need, in a thread, so that no other request waits for the import."""
    found = sys.modules.get(module)
    # A module is listed before it has been executed: another request may have begun to import it.
    if found is None or getattr(found.__spec__, "_initializing", False):
        await asyncio.to_thread(import_module, module)


async def read_all(receive: Receive) -> bytes:
    """Read a whole body, and return as much of it as the journal keeps. Raises ClientGone."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body = (body + message.get("body", b""))[:MOST_JOURNAL_BODY_BYTES]
        more = message.get("more_body", False)
    return body


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """Return the first header of a lower-case name, or None."""
    for key, value in headers:
        if key == name:
            return value.decode("latin-1")
    return None


def first_headers(scope: Scope) -> dict[bytes, bytes]:
    """Return the headers of a request by name; of several with one name, the first."""
    # From the last to the first, because the later value of a key replaces the earlier one.
    return dict([*scope["headers"]][::-1])


def requested_origin(scope: Scope, host: bytes | None = None) -> str:
    """Return the origin that the client used; `host` is the value of its Host header if that is known already."""
    public = scope.get(PUBLIC)
    named = public.host if public is not None else None
    if named is None:
        named = host.decode("latin-1") if host is not None else header(scope["headers"], b"host")
    if not named:
        name, port = scope.get("server") or ("localhost", None)
        named = f"{name}:{port}" if port else str(name)
    return f"{scope['scheme']}://{named}{public.prefix if public is not None else ''}"


def api_key(security: Iterable[tuple[str, str, str]], headers: Mapping[bytes, bytes], query: bytes) -> str | None:
    """Return the key that a request carries in a place that `security` lists, or None; a blank key is None."""
    for part, name, before in security:
        if part == "header":
            text = headers.get(name.encode("latin-1"), b"").decode("latin-1")
        else:
            text = parse_qs(query.decode("latin-1")).get(name, [""])[0]
        if text and (key := _key_after(before, text)):
            return key
    return None


class Caller(NamedTuple):
    """The sender of a request, as its headers and query describe it; `origin` is the server's as the sender sees it.

    A client polls with the same headers again and again. So the caller of a connection's last request is kept with the
    connection, and used while the headers are equal: comparing them takes less time than reading them. The journal
    then holds one list of headers for all these requests, instead of a list for each.
    """

    provider: Provider
    raw: Iterable[tuple[bytes, bytes]]
    query: bytes
    headers: Mapping[bytes, bytes]
    key: str | None
    origin: str


def caller_of(services: Services, provider: Provider, scope: Scope) -> Caller:
    """Return the caller of a request to a provider."""
    kept = scope.get("extensions") or {}
    raw, query = scope["headers"], scope["query_string"]
    last: Caller | None = kept.get(CALLER)
    if last is not None and last.raw == raw and last.query == query and last.provider is provider:
        scope["headers"] = last.raw
        return last
    headers = first_headers(scope)
    key = api_key(provider.contract.security, headers, query)
    origin = services.origin(scope, headers.get(b"host"))
    caller = Caller(provider=provider, raw=raw, query=query, headers=headers, key=key, origin=origin)
    # Only our own protocol has a dictionary for each connection; another server's is none of our business.
    if TRANSPORT in kept:
        kept[CALLER] = caller
    return caller


# Each poll repeats the key of the last one; 1,024 is far above the number of keys that a test suite uses at one time.
@lru_cache(maxsize=1024)
def _key_after(before: str, text: str) -> str:
    """Return the key after the name of an authentication scheme, or an empty text."""
    # The name of a scheme is case-insensitive (RFC 9110, 11.1).
    return text[len(before) :].strip() if text[: len(before)].lower() == before else ""


def write(
    situation: Situation, lookup: Lookup, job: str | None = None, notes: tuple[str, ...] = ()
) -> OperationResponse:
    """Write a situation's response: the documented example with live values."""
    headers = _live(situation, lookup) if situation.bound_headers else ()
    return OperationResponse(situation, situation.template.write(lookup), job, notes, headers)


def type_of(situation: Situation) -> tuple[bytes, bytes]:
    """Return the Content-Type of a situation's response."""
    if situation.media_type == JSON_TYPE:
        return JSON_HEADER
    return (b"content-type", situation.media_type.encode("latin-1"))


def _live(situation: Situation, lookup: Lookup) -> tuple[tuple[str, str], ...]:
    """Return the bound headers that have a live value."""
    found = ((one, lookup(one.value)) for one in situation.bound_headers)
    return tuple((one.name, one.write(value)) for one, value in found if isinstance(value, str))


def refuse(call: OperationRequest, refusal: Refusal) -> OperationResponse:
    """Refuse a request in the provider's own shape."""
    return refusal_of(call.contract, call.route, refusal)


def refusal_of(contract: Contract, route: Route, refusal: Refusal) -> OperationResponse:
    """Refuse a request to a route in the provider's own shape. Raises ContractBroken if it has none."""
    situation = find_situation(route.operation, refusal.situation)
    if situation is None:
        raise ContractBroken(
            f"{contract.key}: {route.operation.role} has no situation {refusal.situation!r} and no substitute for it"
        )
    values: dict[str, Any] = {}
    if refusal.message is not None:
        values = {"refusal_message": refusal.message, "refusal_location": list(refusal.location)}
    note = f"{refusal.situation}: {refusal.message}" if refusal.message else refusal.situation
    return write(situation, lambda name: values.get(name, MISSING), notes=(note,))


async def write_list(
    call: OperationRequest,
    situation: Situation,
    message: Message,
    found: Sequence[Item],
    item: Callable[[Item], bytes | None],
) -> OperationResponse:
    """Write the requested page of a list. `item` writes one item, or returns None if it is gone meanwhile."""
    total, wanted = len(found), {name: call.value_of(message, name) for name in PAGE_VALUES}
    try:
        part = page(total, wanted)
    except PageError as error:
        return refuse(call, Refusal("invalid_request", str(error), ("query",)))
    # Only a list with cursors may end a page early: others compute the place of the next one.
    most = MOST_PAGE_BYTES if "next_cursor" in call.route.operation.bindings else math.inf
    shown = found[part.start : part.stop]
    items, taken = await _written(shown, item, most)
    if taken < len(shown):
        part = page(total, {**wanted, "size": taken})
    values = {**part.values, "items": Raw(b"[" + b",".join(items) + b"]")}
    return write(situation, lambda name: values.get(name, MISSING))


async def _written(shown: Sequence[Item], item: Callable[[Item], bytes | None], most: float) -> tuple[list[bytes], int]:
    """Write items, until they have `most` bytes, and let other requests run in between; return how many were taken."""
    items: list[bytes] = []
    size, pause = 0, MOST_TURN_BYTES
    for at, one in enumerate(shown, 1):
        written = item(one)
        if written is not None:
            items.append(written)
            size += len(written)
        if size >= most:
            return items, at
        if size >= pause:
            pause = size + MOST_TURN_BYTES
            await asyncio.sleep(0)
    return items, len(shown)


async def in_steps(items: Iterable[Item]) -> list[Item]:
    """Return the items of an iterable that makes one after another; between some of them, other requests go on."""
    found = []
    for item in items:
        found.append(item)
        if len(found) % ITEMS_AT_ONCE == 0:
            await asyncio.sleep(0)
    return found


def _too_large(got: str) -> Refusal:
    return Refusal("body_too_large", f"the body has {got} bytes; at most {MOST_BODY_BYTES}", ("body",))
