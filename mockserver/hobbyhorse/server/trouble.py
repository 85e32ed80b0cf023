"""Playing a scenario: which play a request belongs to, and what its next move makes of the answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from hobbyhorse.contract.request import Refusal
from hobbyhorse.contract.values import Contract, find_situation
from hobbyhorse.scenarios.armed import SUBMISSIONS, ActiveScenario
from hobbyhorse.scenarios.distort import MEDIA_BODIES, Sent, distort, has_field, redirection, retry_after
from hobbyhorse.scenarios.moves import MEDIA, MOVES, SITUATION
from hobbyhorse.scenarios.scenario import Catalogue, Move, ScenarioError, find, misfits
from hobbyhorse.server.operations import ROLES
from hobbyhorse.server.request import JSON_HEADER, JournalNote, OperationRequest, OperationResponse, refusal_of
from hobbyhorse.server.socket_faults import SILENT
from hobbyhorse.worlds.jobs import Job, JobView
from hobbyhorse.worlds.world import World

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope
    from starlette.types import Message as Event

HEADER = "x-mock-scenario"
PROMPT_MARK = re.compile(rb"\[\[scenario:([^\]]{1,100})\]\]")
INSTEAD = frozenset({"timeout", "reset_peer", "empty", "html_page", "empty_body", "error_envelope", "redirect"})
"""The moves that happen instead of the operation, unless they say that it was accepted; situations are, too."""


@dataclass(frozen=True, slots=True)
class Troubled:
    """What is sent instead of an answer, the move that made it so, and what the journal keeps of both."""

    noted: JournalNote
    sent: Sent
    move: Move


def sent_of(answer: OperationResponse) -> Sent:
    """Return what is sent of an answer; a header of the answer replaces the situation's."""
    sent = Sent(answer.situation.status, (JSON_HEADER,), answer.body)
    for name, value in answer.situation.headers + answer.headers:
        sent = sent.headed(name, value)
    return sent


async def cast(
    call: OperationRequest, catalogue: Callable[[], Catalogue], contracts: Sequence[Contract]
) -> ActiveScenario | None:
    """Return the play that a request belongs to, or None. Raises ScenarioError if it names one that cannot be."""
    operation, plays = call.route.operation, call.world.scenarios
    name, source = call.header(HEADER), "header"
    if operation.role in SUBMISSIONS:
        message = call.parameters()
        if isinstance(message, Refusal) or isinstance(call.claim(message), Refusal):
            return None
        if isinstance(await call.read(), Refusal):
            return None
        if name is None and b"[[scenario:" in call.body and (marked := PROMPT_MARK.search(call.body)) is not None:
            name, source = marked[1].decode("utf-8", "replace"), "prompt"
    if name is None and not plays.active:
        return None
    only = None
    if name is not None:
        scenario = find(catalogue(), name)
        if why := misfits(scenario, call.contract):
            raise ScenarioError("not_applicable", f"the scenario {name!r} cannot be played: {why[0]}", "")
        only = plays.for_requests(scenario, contracts, source)
    job = _replayed(call) if operation.role in SUBMISSIONS else _named(call)
    if job is not None:
        if job.active_scenario is None and only is not None:
            job.active_scenario = plays.begin(only, call.contract)
        return job.active_scenario
    if "job" in operation.bindings and operation.role not in SUBMISSIONS:
        return None
    return plays.find(call.contract, operation.role, only)


def _named(call: OperationRequest) -> Job | None:
    """Return the job that the path names."""
    binding = call.route.operation.bindings.get("job")
    names = [place.name for place in binding.request if place.part == "path"] if binding else []
    return call.world.find(call.contract, call.path.get(names[0], "")) if names else None


def _replayed(call: OperationRequest) -> Job | None:
    """Return the job that a submission's idempotency key has made before."""
    if call.claimed is None:
        return None
    used = call.world.idempotency.recall(call.contract.key, call.claimed, call.world.clock.now())
    return call.world.find(call.contract, used.job) if used is not None else None


async def act(call: OperationRequest) -> OperationResponse | Troubled:
    """Answer a request as its play has it."""
    play, role = call.play, call.route.operation.role
    move = play.peek(role) if play is not None else None
    if play is None or move is None:
        return await ROLES[role](call)
    if not move.accepted and _instead(move):
        play.use(role)
        return _troubled(call, play, move, None)
    answer = await ROLES[role](call)
    if play.peek(role) is not move or not _applies(call, move, answer):
        return answer
    play.use(role)
    return _troubled(call, play, move, answer)


def _instead(move: Move) -> bool:
    return move.kind in INSTEAD or move.kind not in MOVES


def _applies(call: OperationRequest, move: Move, answer: OperationResponse) -> bool:
    """Whether a move has something to work on: a submission that was accepted, a field, a job that has moved on."""
    if call.route.operation.role in SUBMISSIONS and answer.job is None:
        return False
    if move.kind == "regress":
        job = _named(call)
        return job is not None and job.stage(call.world.clock.now()).name != call.contract.graph.initial
    family = MOVES.get(move.kind, SITUATION).family
    return family not in ("field", "address") or has_field(move, call.route.operation, answer.body)


def _elsewhere(call: OperationRequest) -> Mapping[str, str]:
    """Return where moves point a client: an address of our own says whose request comes there, for it has no key."""
    private = call.elsewhere.get("private")
    return call.elsewhere if private is None else {**call.elsewhere, "private": f"{private}/media/{call.world.handle}"}


def _troubled(call: OperationRequest, play: ActiveScenario, move: Move, answer: OperationResponse | None) -> Troubled:
    """Return what a move makes of an answer; None is an operation that did not take effect."""
    job, notes = (answer.job, answer.notes) if answer is not None else (None, ())
    if move.kind not in MOVES:
        answer = refusal_of(call.contract, call.route, Refusal(move.kind))
    elif move.kind == "error_envelope":
        answer = refusal_of(call.contract, call.route, Refusal(move.options.get("situation", "server_error")))
    elif move.kind in INSTEAD:
        answer = None
    elif move.kind == "regress" and answer is not None:
        answer = _first_again(call, answer)
    sent = Sent(200, (JSON_HEADER,), b"") if answer is None else sent_of(answer)
    sent = distort(move, sent, call.route.operation, play.random, _elsewhere(call))
    if move.kind == "redirect":
        sent = redirection(_address(call), call.elsewhere)
    if move.kind == "error_envelope":
        sent = Sent(200, sent.headers, sent.body)
    sent = retry_after(sent, move.options, call.world.clients_now())
    status, body = (0, b"") if move.kind in SILENT else (sent.status, sent.body)
    situation = answer.situation.name if answer is not None else None
    return Troubled(JournalNote(situation, job, status, body, (*notes, f"scenario: {move}"), move.kind), sent, move)


def _address(call: OperationRequest) -> str:
    """Return the path and the query of a request, as it was sent."""
    scope = call.scope
    path = scope.get("raw_path") or quote(scope["path"]).encode()
    query = scope["query_string"]
    return (path.partition(b"?")[0] + (b"?" + query if query else b"")).decode("latin-1")


def _first_again(call: OperationRequest, answer: OperationResponse) -> OperationResponse:
    """Return the answer that shows a job in its first stage."""
    job, graph = _named(call), call.contract.graph
    message = call.parameters()
    if job is None or isinstance(message, Refusal):
        return answer
    view = JobView(job, job.created, graph[graph.initial], call.base, call.media)
    situation = call.route.situation(graph.initial, message)
    return OperationResponse(situation, situation.template.write(view.lookup), job.id)


def refuse_scenario(call: OperationRequest, error: ScenarioError) -> OperationResponse:
    """Return the refusal of a request that names a scenario which cannot be, in the provider's own shape."""
    for name in ("invalid_request", "unknown_model", "unknown_job", "forbidden"):
        situation = find_situation(call.route.operation, name)
        if situation is not None and situation.status < 500:
            return refusal_of(call.contract, call.route, Refusal(situation.name, str(error), ("header", HEADER)))
    return refusal_of(call.contract, call.route, Refusal("rate_limited", str(error)))


async def capture(app: ASGIApp, scope: Scope, receive: Receive) -> Sent:
    """Return what an application sends, as a whole."""
    events: list[Event] = []

    async def keep(event: Event) -> None:
        events.append(event)

    await app(scope, receive, keep)
    headers = tuple(header for header in events[0]["headers"] if header[0] != b"content-length")
    return Sent(events[0]["status"], headers, b"".join(event.get("body", b"") for event in events[1:]))


MEDIA_REFUSALS: Mapping[str, tuple[int, str, str]] = {
    "expired": (403, "AccessDenied", "Request has expired"),
    "not_found": (404, "NoSuchKey", "The specified key does not exist."),
    "unavailable": (503, "SlowDown", "Please reduce your request rate."),
}


def file_refusal(name: str) -> Sent:
    """Return how a file is refused, in the form of an object store."""
    from hobbyhorse.server.files.host import refusal  # noqa: PLC0415 - Starlette stays off the way to readiness

    answer = refusal(*MEDIA_REFUSALS[name])
    sent = Sent(answer.status_code, (), bytes(answer.body)).typed("application/xml")
    return sent.headed("retry-after", "1") if name == "unavailable" else sent


def media_trouble(play: ActiveScenario, sent: Sent, world: World) -> tuple[Move | None, Sent]:
    """Return the move that a request for a file meets, if any, and what it makes of the file.

    A file that is refused anyway meets none.
    """
    if sent.status not in (200, 206):
        return None, sent
    move = play.take(MEDIA)
    if move is None:
        return None, sent
    if (made := MEDIA_BODIES.get(move.kind)) is not None:
        return move, made(sent, move, play.random)
    if move.kind in MEDIA_REFUSALS:
        return move, retry_after(file_refusal(move.kind), move.options, world.clients_now())
    return move, sent
