"""One request to one operation, and the answer to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import parse_qs, parse_qsl

from starlette.types import Receive, Scope

from hobbyhorse.clock.race import client_gone, first_of
from hobbyhorse.contract.forms.expressions import MISSING, Message
from hobbyhorse.contract.message import Lookup, Raw
from hobbyhorse.contract.request import MOST_BODY_BYTES, Refusal, read_body, read_parameters
from hobbyhorse.contract.routes import Route
from hobbyhorse.contract.values import Contract, Situation, find_situation
from hobbyhorse.server.files.image_sources import FetchPolicy
from hobbyhorse.worlds.jobs import Job, JobView, MediaLinks
from hobbyhorse.worlds.journal import MOST_JOURNAL_BODY_BYTES
from hobbyhorse.worlds.pagination import PAGE_VALUES, PageError, page
from hobbyhorse.worlds.world import World, Worlds

if TYPE_CHECKING:
    from hobbyhorse.scenarios.armed import ActiveScenario
    from hobbyhorse.server.callbacks import CallbackDispatcher
    from hobbyhorse.server.files.renderer import Renderer

Item = TypeVar("Item")
JSON_HEADER = (b"content-type", b"application/json")


class ContractBroken(Exception):
    """An answer of ours that breaks its own contract: a fault of the contract's folder, or of ours."""


class ClientGone(Exception):
    """The client went away before its request was whole."""


@dataclass(slots=True)
class OperationResponse:
    """What is sent: a situation, its body, and what the journal keeps besides."""

    situation: Situation
    body: bytes
    job: str | None = None
    notes: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


class JournalNote(NamedTuple):
    """What the journal keeps of an answer: its situation, if it is in one, what was sent, and the move behind it."""

    situation: str | None
    job: str | None
    status: int
    body: bytes
    notes: tuple[str, ...]
    move: str | None = None


@dataclass(slots=True)
class OperationRequest:
    """One request on its way to an answer. `base` is the provider's address here, `origin` the server's.

    `elsewhere` has the origins that moves point clients to, `media_url` that of the files, if it is another. `made` is
    the job that it has made.
    """

    contract: Contract
    route: Route
    path: Mapping[str, str]
    scope: Scope
    receive: Receive
    base: str
    origin: str
    world: World
    worlds: Worlds
    courier: Callable[[], CallbackDispatcher]
    studio: Callable[[], Renderer]
    policy: FetchPolicy
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    media_url: str | None = None
    body: bytes = b""
    play: ActiveScenario | None = None
    was_read: bool | Refusal = False
    claimed: str | None = None
    made: str | None = None

    def header(self, name: str) -> str | None:
        """Return a header, or None."""
        return header(self.scope["headers"], name.encode("latin-1"))

    @property
    def media(self) -> MediaLinks:
        """The addresses of the media of this call's world."""
        return MediaLinks(self.media_url or self.origin, self.world.handle, self.worlds.signer)

    def parameters(self) -> Message | Refusal:
        """Read what stands outside the body."""
        if self.route.plain:
            return Message(self.path, {}, self.header)
        query = dict(parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True))
        return read_parameters(self.contract, self.route.operation, self.path, query, self.header)

    async def json(self) -> dict[str, Any] | Refusal:
        """Read the body, a JSON object of at most 64 MiB. Raises ClientGone if it never ends."""
        refused = await self.read()
        return refused if refused is not None else read_body(self.header("content-type"), self.body)

    def claim(self, message: Message) -> str | Refusal | None:
        """Claim the idempotency key that a request gives, until it is answered; None if it gives none."""
        place = self.contract.idempotency.key
        key = place.get(message) if place is not None and self.claimed is None else self.claimed
        if not isinstance(key, str):
            return None
        if self.claimed is None and not self.world.idempotency.begin(self.contract.key, key):
            return Refusal("key_in_flight")
        self.claimed = key
        return key

    def release(self) -> None:
        """Give up the claim to an idempotency key."""
        if self.claimed is not None:
            self.world.idempotency.end(self.contract.key, self.claimed)
            self.claimed = None

    async def read(self) -> Refusal | None:
        """Read the body, once; a refusal if it is too large. Raises ClientGone if it never ends."""
        if self.was_read is False:
            refused = await self._read()
            self.was_read = True if refused is None else refused
        return self.was_read if isinstance(self.was_read, Refusal) else None

    async def _read(self) -> Refusal | None:
        declared = self.header("content-length") or ""
        if declared.isdigit() and int(declared) > MOST_BODY_BYTES:
            return _too_large(declared)
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
            if not message.get("more_body", False):
                break
        self.body = b"".join(chunks)
        return None

    def job(self) -> Job | Refusal:
        """Find the job that the path names, if it is this key's and still kept."""
        binding = self.route.operation.bindings["job"]
        job_id = self.path[binding.request[0].name]
        job = self.world.find(self.contract, job_id)
        if job is None:
            owner = self.worlds.owner(self.contract, job_id)
            return Refusal("unknown_job" if owner is None else "foreign_job")
        life = self.contract.retention.job
        if life is not None and job.ends and self.world.clock.now() > job.finished + life:
            return Refusal("expired_job")
        return job

    async def until_ended(self, job: Job) -> bool:
        """Wait until a job has ended; False if it never does and the client is gone before."""
        clock = self.world.clock
        while not (job.ends and clock.now() >= job.finished):
            waits = [job.moved(), clock.sleep_until(job.finished) if job.ends else client_gone(self.receive)]
            if await first_of(*waits) == 1 and not job.ends:
                return False
        return True

    def view(self, job: Job, now: float) -> JobView:
        """Return a job as this call's answer shows it."""
        return JobView(job, now, job.stage(now), self.base, self.media)

    def asked(self, message: Message, name: str) -> Any:
        """Return the request's value of a bound name, or MISSING."""
        binding = self.route.operation.bindings.get(name)
        for place in binding.request if binding else ():
            if (value := place.get(message)) is not MISSING:
                return value
        return MISSING


async def read_all(receive: Receive) -> bytes:
    """Return the beginning of a body, when all of it has come. Raises ClientGone if it never ends."""
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


def api_key(security: Iterable[tuple[str, str, str]], scope: Scope) -> str | None:
    """Return the key that a request gives in one of the ways of a contract's `security`, or None; blank is none."""
    for part, name, before in security:
        if part == "header":
            text = header(scope["headers"], name.encode("latin-1")) or ""
        else:
            text = parse_qs(scope["query_string"].decode("latin-1")).get(name, [""])[0]
        if text[: len(before)].lower() == before and (key := text[len(before) :].strip()):
            return key
    return None


def write(
    situation: Situation, lookup: Lookup, job: str | None = None, notes: tuple[str, ...] = ()
) -> OperationResponse:
    """Return the answer that a situation's example makes with live values."""
    return OperationResponse(situation, situation.template.write(lookup), job, notes)


def refuse(call: OperationRequest, refusal: Refusal) -> OperationResponse:
    """Return the answer that refuses a request, in the provider's own shape."""
    return refusal_of(call.contract, call.route, refusal)


def refusal_of(contract: Contract, route: Route, refusal: Refusal) -> OperationResponse:
    """Return the refusal of a request to a route; no job is made."""
    situation = find_situation(route.operation, refusal.situation)
    if situation is None:
        raise ContractBroken(
            f"{contract.key}: {route.operation.role} has no situation for {refusal.situation!r}, nor one that stands in"
        )
    values: dict[str, Any] = {}
    if refusal.message is not None:
        values = {"refusal_message": refusal.message, "refusal_location": list(refusal.location)}
    note = f"{refusal.situation}: {refusal.message}" if refusal.message else refusal.situation
    return write(situation, lambda name: values.get(name, MISSING), notes=(note,))


def write_list(
    call: OperationRequest, situation: Situation, message: Message, found: list[Item], item: Callable[[Item], bytes]
) -> OperationResponse:
    """Return the page of a list that the request asks for."""
    try:
        part = page(len(found), {name: call.asked(message, name) for name in PAGE_VALUES})
    except PageError as error:
        return refuse(call, Refusal("invalid_request", str(error), ("query",)))
    items = b",".join(item(one) for one in found[part.start : part.stop])
    values = {**part.values, "items": Raw(b"[" + items + b"]")}
    return write(situation, lambda name: values.get(name, MISSING))


def _too_large(got: str) -> Refusal:
    return Refusal("body_too_large", f"the body has {got} bytes; at most {MOST_BODY_BYTES}", ("body",))
