"""Faults in responses: which active scenario a request meets, and how its next fault changes the response.

A scenario is a list of faults by role. Each job runs through its own copy, an `ActiveScenario`; a request without a
job meets the scenario that is armed for its key. A fault either replaces the operation (the server did nothing) or
applies to the response of an operation that took effect. A fault that has nothing to change, because the
submission was refused or the field is absent, is not used up: it waits for the next response.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from hobbyhorse.contract.forms.expressions import resolve
from hobbyhorse.contract.reading import as_json
from hobbyhorse.contract.request import Refusal
from hobbyhorse.contract.values import Contract, find_situation
from hobbyhorse.scenarios.armed import SUBMISSIONS, ActiveScenario
from hobbyhorse.scenarios.effects import SILENT, Framed, Sent, WireEffect
from hobbyhorse.scenarios.fault import LINKS, MEDIA, Decided, DecidedOperation, Fault
from hobbyhorse.scenarios.fields import FILE_URLS, Urls, places
from hobbyhorse.scenarios.registry import faults_at, operation_fault
from hobbyhorse.scenarios.scenario import Catalogue, Move, ScenarioError, find, misfits
from hobbyhorse.server.operations import ROLES
from hobbyhorse.server.request import (
    JSON_HEADER,
    OperationRequest,
    OperationResponse,
    header,
    refusal_of,
    requested_origin,
    type_of,
    write,
)
from hobbyhorse.worlds.jobs import Job, JobView
from hobbyhorse.worlds.journal import JournalNote
from hobbyhorse.worlds.world import World

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope
    from starlette.types import Message as Event

HEADER = "x-mock-scenario"
# At most 100 characters of a name: the pattern runs over whole prompts, and must not match a stray `[[`.
PROMPT_MARK = re.compile(rb"\[\[scenario:([^\]]{1,100})\]\]")
MARK_BEGINS = b"[[scenario:"
# Beginnings of a mark that are looked at: a prompt has one, and a body of megabytes may have millions.
MOST_MARKS = 100
# A weight of zero: the client does not accept the coding (RFC 9110, section 12.4.2).
NO_WEIGHT = re.compile(r"q\s*=\s*0(\.0*)?")
BLANK = Sent(200, (JSON_HEADER,), b"")
"""The response of an operation that a fault replaced."""
NOWHERE: Mapping[str, str] = {}
"""The other origins of a server that has none."""


@dataclass(frozen=True, slots=True)
class FaultedResponse:
    """A response after a fault: the bytes to send, the effect on the connection, and the journal's record."""

    noted: JournalNote
    sent: Sent
    wire: WireEffect | None


@dataclass(frozen=True, slots=True)
class FaultedFile:
    """A response with a file after a fault: the bytes to send, the effect on the connection, and the fault."""

    sent: Sent
    wire: WireEffect | None
    move: Move

    @property
    def status(self) -> int:
        """The status for the journal: 0 if nothing is sent."""
        return 0 if isinstance(self.wire, SILENT) else self.sent.status


def sent_of(response: OperationResponse) -> Sent:
    """Return a response as it is sent; its own headers replace the situation's."""
    typed = (type_of(response.situation),) if response.body else ()
    sent = Sent(response.situation.status, typed, response.body, response.situation.name)
    for name, value in response.situation.headers + response.headers:
        sent = sent.headed(name, value)
    return sent


async def find_scenario(  # noqa: C901
    call: OperationRequest, catalogue: Callable[[], Awaitable[Catalogue]], contracts: Sequence[Contract]
) -> ActiveScenario | None:
    """Return the active scenario of a request, or None.

    Raises ScenarioError if the request names a scenario that is unknown or cannot apply.
    """
    operation, armed = call.route.operation, call.world.scenarios
    name, source = call.header(HEADER), "header"
    if operation.role in SUBMISSIONS:
        message = call.parameters()
        # A submission that is refused anyway meets no scenario: the fault would be used up without being seen.
        if isinstance(message, Refusal) or isinstance(call.claim(message), Refusal):
            return None
        if isinstance(await call.read(), Refusal):
            return None
        if name is None and (marked := marked_scenario(call.body)) is not None:
            name, source = marked, "prompt"
    if name is None and not armed.active:
        return None
    only = None
    if name is not None:
        scenario = find(await catalogue(), name)
        if why := misfits(scenario, call.contract):
            raise ScenarioError("not_applicable", f"the scenario {name!r} cannot be played: {why[0]}", "")
        only = armed.for_requests(scenario, contracts, source)
    # A replayed submission continues the scenario of its job; a new one would make the retry another job's.
    job = _replayed(call) if operation.role in SUBMISSIONS else _job_in_path(call)
    if job is not None:
        if job.active_scenario is None and only is not None:
            job.active_scenario = armed.begin(only, call.contract)
        return job.active_scenario
    if "job" in operation.bindings and operation.role not in SUBMISSIONS:
        return None
    return armed.find(call.contract, operation.role, only)


def marked_scenario(body: bytes) -> str | None:
    """Return the name of the scenario that a prompt in the body names, or None."""
    at = -1
    for _ in range(MOST_MARKS):
        # The common case, a body without a mark, ends here.
        at = body.find(MARK_BEGINS, at + 1)
        if at < 0:
            return None
        if (found := PROMPT_MARK.match(body, at)) is not None:
            return found[1].decode("utf-8", "replace")
    return None


def _job_in_path(call: OperationRequest) -> Job | None:
    """Return the job that the path names, or None."""
    binding = call.route.operation.bindings.get("job")
    names = [place.name for place in binding.request if place.part == "path"] if binding else []
    return call.world.find(call.contract, call.path.get(names[0], "")) if names else None


def _replayed(call: OperationRequest) -> Job | None:
    """Return the job that an earlier submission with the same idempotency key created, or None."""
    if call.claimed is None:
        return None
    used = call.world.idempotency.recall(call.contract.key, call.claimed, call.world.clock.now())
    return call.world.find(call.contract, used.job) if used is not None else None


async def respond(call: OperationRequest) -> OperationResponse | FaultedResponse:
    """Respond to a request under its active scenario."""
    scenario, role = call.scenario, call.route.operation.role
    moves = scenario.together(role) if scenario is not None else ()
    if scenario is None or not moves:
        return await ROLES[role](call)
    fault = operation_fault(moves[0][1].kind)
    if fault.layer:
        return _varied(call, scenario, await ROLES[role](call), moves)
    move = moves[0][1]
    if fault.replaces and not move.accepted:
        scenario.use(role)
        return _faulted(call, scenario, move, None)
    response = await ROLES[role](call)
    # Another request may have met the fault while this one waited; it must not be used up twice.
    if scenario.peek(role) is not move or not _applies(call, scenario, move, response):
        return response
    scenario.use(role)
    return _faulted(call, scenario, move, response)


def _varied(
    call: OperationRequest,
    scenario: ActiveScenario,
    response: OperationResponse,
    moves: Sequence[tuple[int, Move]],
) -> OperationResponse | FaultedResponse:
    """Apply variations to a response, each to the result of those before it."""
    if (call.route.operation.role in SUBMISSIONS and response.job is None) or not response.body:
        return response
    decided, met, wire = _decided(call, scenario, moves[0][1], response), list[Move](), Framed()
    for index, move in moves:
        fault = operation_fault(move.kind)
        options = fault.complete(move.options)
        if fault.applies(fault, decided, options):
            scenario.use(call.route.operation.role, index)
            met.append(move)
            sent, wire = _over(fault.effect(decided, options), decided.sent, wire)
            decided = replace(decided, sent=sent)
            if fault.layer == LINKS:
                scenario.links |= _file_links(call, sent)
    if not met:
        return response
    noted = JournalNote(
        situation=decided.sent.situation,
        job=response.job,
        status=decided.sent.status,
        body=decided.sent.body,
        notes=(*response.notes, *(f"scenario: {move}" for move in met)),
        move=met[0].kind,
    )
    return FaultedResponse(noted, decided.sent, wire if wire != Framed() else None)


def _file_links(call: OperationRequest, sent: Sent) -> dict[str, str]:
    """Return the query of each link to a file in a response, by the path of the link."""
    value = as_json(sent.body)
    found = (resolve(value, pointer) for pointer in places(Urls(FILE_URLS), {}, call.route.operation))
    links = [urlsplit(url) for url in found if isinstance(url, str)]
    return {link.path: link.query for link in links}


def _over(effect: Sent | Framed, sent: Sent, wire: Framed) -> tuple[Sent, Framed]:
    """Return the response and its form after one more variation."""
    return (effect, wire) if isinstance(effect, Sent) else (sent, effect.over(wire))


def _applies(call: OperationRequest, scenario: ActiveScenario, move: Move, response: OperationResponse) -> bool:
    """Whether a fault has something to change: an accepted submission, and what the fault itself needs."""
    if call.route.operation.role in SUBMISSIONS and response.job is None:
        return False
    fault = operation_fault(move.kind)
    return fault.applies(fault, _decided(call, scenario, move, response), fault.complete(move.options))


def _decided(
    call: OperationRequest, scenario: ActiveScenario, move: Move, response: OperationResponse | None
) -> DecidedOperation:
    """Return everything that a fault may use; None is the response of an operation that was replaced."""
    return DecidedOperation(
        sent=BLANK if response is None else sent_of(response),
        random=scenario.random,
        now=call.world.clients_now(),
        method=call.scope["method"],
        offered=offered_codings(call.header("accept-encoding")),
        valid=lambda value: _is_valid(call, response, value),
        origins=_link_origins(call.elsewhere, call.world, call.scope),
        target=_target(call.scope),
        known_tags=call.header("if-none-match") or "",
        name=move.kind,
        operation=call.route.operation,
        refuse=lambda situation: sent_of(refusal_of(call.contract, call.route, Refusal(situation))),
        earlier=lambda: _first_stage(call, response),
    )


def _is_valid(call: OperationRequest, response: OperationResponse | None, value: Any) -> bool:
    """Whether the contract allows a JSON value in place of a response's body."""
    if response is None:
        return True
    return not list(call.contract.schemas.violations(response.situation.schema, value, most=1))


def offered_codings(accepted: str | None) -> frozenset[str]:
    """Return the content codings that an Accept-Encoding names with a weight above zero; no wildcard."""
    found = [part.split(";") for part in (accepted or "").lower().split(",")]
    return frozenset(
        coding.strip() for coding, *more in found if not any(NO_WEIGHT.fullmatch(one.strip()) for one in more)
    )


def _link_origins(elsewhere: Mapping[str, str], world: World, scope: Scope) -> Mapping[str, str]:
    """Return the origins that faults point clients to."""
    found = {**elsewhere, "here": requested_origin(scope)}
    # A client fetches a file without its key; the world's handle in the path identifies it.
    return found | ({"private": f"{elsewhere['private']}/media/{world.handle}"} if "private" in elsewhere else {})


def _faulted(
    call: OperationRequest, scenario: ActiveScenario, move: Move, response: OperationResponse | None
) -> FaultedResponse:
    """Apply a fault to a response; None is the response of an operation that was replaced."""
    # A request that was not served still names its job.
    named = _job_in_path(call) if response is None else None
    job = response.job if response is not None else named.id if named is not None else None
    notes = response.notes if response is not None else ()
    fault = operation_fault(move.kind)
    # A fault that replaces the response sends nothing of the usual one, even if the operation took effect.
    decided = _decided(call, scenario, move, None if fault.replaces else response)
    sent, wire = _effect(fault, decided, move)
    status, body = (0, b"") if isinstance(wire, SILENT) else (sent.status, sent.body)
    noted = JournalNote(
        situation=sent.situation,
        job=job,
        status=status,
        body=body,
        notes=(*notes, f"scenario: {move}"),
        move=move.kind,
    )
    return FaultedResponse(noted, sent, wire)


def _effect(fault: Fault, decided: Decided, move: Move) -> tuple[Sent, WireEffect | None]:
    """Return the response under a fault, and the effect on its connection."""
    effect: Sent | WireEffect = fault.effect(decided, fault.complete(move.options))
    return (effect, None) if isinstance(effect, Sent) else (decided.sent, effect)


def _target(scope: Scope) -> str:
    """Return the path and the query of a request, byte for byte as they were sent."""
    path = scope.get("raw_path") or quote(scope["path"]).encode()
    query = scope["query_string"]
    # Some servers put the query into `raw_path`, others do not.
    return (path.partition(b"?")[0] + (b"?" + query if query else b"")).decode("latin-1")


def _first_stage(call: OperationRequest, response: OperationResponse | None) -> Sent | None:
    """Return the response that shows the job in its first stage; None without a job, or while it is there."""
    job, graph = _job_in_path(call), call.contract.graph
    if job is None or response is None or job.stage(call.world.clock.now()).name == graph.initial:
        return None
    message = call.parameters()
    if isinstance(message, Refusal):
        return sent_of(response)
    view = JobView(job, job.created, graph[graph.initial], call.base, call.media)
    situation = call.route.situation(graph.initial, message)
    return sent_of(write(situation, view.lookup, job.id))


def refuse_scenario(call: OperationRequest, error: ScenarioError) -> OperationResponse:
    """Refuse a request that names a scenario which cannot apply, in the provider's own shape."""
    # Not every operation documents an invalid request; the nearest documented 4xx carries the message instead.
    for name in ("invalid_request", "unknown_model", "unknown_job", "forbidden"):
        situation = find_situation(call.route.operation, name)
        if situation is not None and situation.status < 500:
            return refusal_of(call.contract, call.route, Refusal(situation.name, str(error), ("header", HEADER)))
    return refusal_of(call.contract, call.route, Refusal("rate_limited", str(error)))


async def capture(app: ASGIApp, scope: Scope, receive: Receive) -> Sent:
    """Call an application, and return its complete response."""
    events: list[Event] = []

    async def keep(event: Event) -> None:
        events.append(event)

    await app(scope, receive, keep)
    headers = tuple(header for header in events[0]["headers"] if header[0] != b"content-length")
    return Sent(events[0]["status"], headers, b"".join(event.get("body", b"") for event in events[1:]))


def uses_of_next(scenario: ActiveScenario) -> frozenset[str]:
    """Return the uses of the faults that the next request for a file meets."""
    found = (faults_at(MEDIA)[move.kind].uses for _, move in scenario.together(MEDIA))
    return frozenset().union(*found)


def apply_file_fault(
    scenario: ActiveScenario, sent: Sent, world: World, scope: Scope, elsewhere: Mapping[str, str] = NOWHERE
) -> FaultedFile | None:
    """Return the response with a file after the fault that it meets, or None if it meets none."""
    # A refused file meets no fault: without a video to distort, the fault would be used up unseen.
    if sent.status not in (200, 206):
        return None
    decided = Decided(
        sent=sent,
        random=scenario.random,
        now=world.clients_now(),
        method=scope["method"],
        offered=offered_codings(header(scope["headers"], b"accept-encoding")),
        origins=_link_origins(elsewhere, world, scope),
        target=_target(scope),
    )
    moves = scenario.together(MEDIA)
    if not moves or not faults_at(MEDIA)[moves[0][1].kind].layer:
        move = scenario.take(MEDIA) if decided.method == "GET" else None
        return FaultedFile(*_effect(faults_at(MEDIA)[move.kind], decided, move), move) if move is not None else None
    met, wire = list[Move](), Framed()
    for index, move in moves:
        fault = faults_at(MEDIA)[move.kind]
        options = fault.complete(move.options)
        if fault.applies(fault, decided, options):
            scenario.use(MEDIA, index)
            met.append(move)
            sent, wire = _over(fault.effect(decided, options), decided.sent, wire)
            decided = replace(decided, sent=sent)
    return FaultedFile(decided.sent, wire if wire != Framed() else None, met[0]) if met else None
