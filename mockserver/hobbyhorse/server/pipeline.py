"""The path of a request to a provider, as one straight line of steps. Knows no socket and no file.

`handle` has the steps in their order. Each is a function of one context, the `OperationRequest`. A step that refuses
the request raises `Refused`, and no later step decides about it; the last steps run for every response.

The order of the last steps is fixed by what a client may do with its response:

* The exchange is noted before its response is sent, and kept together with the change that it made. A client that has
  its response, and then reads the journal, must find itself there.
* Nothing leaves before it is kept. A client that was told of a job must find it, even if the server dies right after
  the response.
* The delivery is recorded after the last byte, in the holder that the journal's entry refers to.

Two invariants hold at every exit. A claimed idempotency key is released, or the next request with it would be refused
forever. And a request that arrived in full is recorded once, whatever fault its response meets. A request that its
client abandons before the body is complete is not recorded.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Generator
from dataclasses import replace
from time import perf_counter
from types import coroutine

from hobbyhorse.contract.documents.operations import bodiless
from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.reading import as_json
from hobbyhorse.contract.request import Refusal
from hobbyhorse.contract.values import find_situation
from hobbyhorse.scenarios.armed import SUBMISSIONS
from hobbyhorse.scenarios.scenario import ScenarioError
from hobbyhorse.server.kept.reporting import report
from hobbyhorse.server.operations import ROLES
from hobbyhorse.server.request import (
    ClientGone,
    ContractBroken,
    OperationRequest,
    OperationResponse,
    Refused,
    refuse,
    type_of,
    write,
)
from hobbyhorse.server.socket_faults import ClientConnection, connection, hand_over, is_open, send_with_fault
from hobbyhorse.server.trouble import HEADER, FaultedResponse, find_scenario, refuse_scenario
from hobbyhorse.server.trouble import respond as respond_under_scenario
from hobbyhorse.state.errors import NotKept, StateError
from hobbyhorse.worlds.journal import JournalNote

SCENARIO_HEADER = HEADER.encode()


async def handle(call: OperationRequest) -> None:
    """Take a request through every step."""
    began = perf_counter()
    try:
        route(call)
        admit(call)
        authenticate(call)
        limit(call)
        if may_meet_scenario(call):
            await apply_scenario(call)
        call.result = await decide(call)
    except Refused as refused:
        call.result = refused.response
    except ClientGone:
        return
    except asyncio.CancelledError:  # the server stops while it holds the connection
        call.result = refuse(call, Refusal("overloaded"))
    except StateError as error:  # a record that the request needs is damaged
        report(str(error))
        call.result = refuse(call, Refusal("overloaded"))
    finally:
        call.release()
    validate(call)
    note(call)
    await keep(call)
    try:
        await respond(call)
    finally:
        count(call, perf_counter() - began)
        if call.entry.kept and call.world.unkept is not None:
            # It was kept with the change, before its delivery was known.
            call.world.unkept.entry(call.entry)


def route(call: OperationRequest) -> None:
    """Find the operation by method and path."""
    match = call.routes.match(call.scope["method"], call.below)
    if match is None:
        raise Refused(_unrouted(call))
    call.route, call.path = match
    call.role = call.route.operation.role


def admit(call: OperationRequest) -> None:
    """Refuse a request that a browser sends for a web page elsewhere."""
    origin = call.headers.get(b"origin")
    # The common case: programs send none.
    if origin is None or call.services.origins.admits(text := origin.decode("latin-1"), call.origin):
        return
    # An operation that needs no key has no such refusal, and nothing that a page could misuse.
    if find_situation(call.route.operation, "forbidden") is not None:
        message = f"a web page of the origin {text[:200]!r} may not use this server; --allow-origin allows it to"
        raise Refused(refuse(call, Refusal("forbidden", message)))


def authenticate(call: OperationRequest) -> None:
    """Refuse a request without an accepted key to an operation that needs one."""
    if not call.route.operation.authenticated:
        return
    if call.known is None:
        raise Refused(refuse(call, Refusal("key_refused" if call.key else "unauthenticated")))
    if call.known.keys and call.key != call.known.keys.get(call.contract.key):
        raise Refused(refuse(call, Refusal("key_refused")))


def limit(call: OperationRequest) -> None:
    """Refuse a request of a key that is over its rate, before its body is read."""
    world = call.world
    if world.limits.requests_per_second is not None:
        wait = world.meter.request(world.limits, world.clock.now())
        if wait is not None:
            refusal = refuse(call, Refusal("rate_limited"))
            raise Refused(replace(refusal, headers=(("Retry-After", str(math.ceil(wait))),)))


def may_meet_scenario(call: OperationRequest) -> bool:
    """Whether a scenario has to be searched for; most requests meet none, and do not pay for the search."""
    return bool(call.world.scenarios.active or call.role in SUBMISSIONS or call.headers.get(SCENARIO_HEADER))


async def apply_scenario(call: OperationRequest) -> None:
    """Join the active scenario of the request's job, or activate an armed one."""
    try:
        call.scenario = await find_scenario(call, call.services.catalogue, call.services.contracts)
    except ScenarioError as error:
        raise Refused(refuse_scenario(call, error)) from None


def decide(call: OperationRequest) -> Awaitable[OperationResponse | FaultedResponse]:
    """Let the operation change the world and make the response; a fault may replace either."""
    return ROLES[call.route.operation.role](call) if call.scenario is None else respond_under_scenario(call)


def validate(call: OperationRequest) -> None:
    """Validate the response against the contract if the server is strict. Raises ContractBroken."""
    # A fault breaks the contract on purpose.
    if call.services.strict and not isinstance(call.result, FaultedResponse):
        situation, schemas = call.result.situation, call.contract.schemas
        for violation in schemas.violations(situation.schema, as_json(call.result.body), most=1):
            raise ContractBroken(f"{call.contract.key}: the response of situation {situation.name!r} has {violation}")


async def keep(call: OperationRequest) -> None:
    """Wait until everything that the response may show is kept. Does nothing if the state is in memory only."""
    if call.world.unkept is None:
        return
    if call.scenario is not None:
        call.world.met(call.scenario)
    try:
        await call.services.kept(call.world)
    except NotKept:
        # The world is not as the response says, and its journal went with it. An unknown path says nothing of a world.
        if call.role is not None:
            call.result = refuse(call, Refusal("overloaded"))
            call.entry.begin(headers_of(call.result), len(call.result.body))


def note(call: OperationRequest) -> None:
    """Add the exchange to the journal of its world, or to the journal of requests without one."""
    result = call.result
    if isinstance(result, FaultedResponse):
        noted = result.noted
    else:
        situation = result.situation
        noted = JournalNote(situation.name, result.job, situation.status, result.body, result.notes)
        call.entry.begin(headers_of(result), len(result.body))
    entry = call.entry.noted(
        noted,
        call.scope,
        provider=call.contract.key,
        role=call.role,
        root=call.base,
        path=call.below,
        body=call.body,
        made=call.made,
    )
    entry.connections = call.world.count(connection(call.scope))
    # The request lives on until its response is sent, and perhaps until the garbage collector finds it.
    call.body = b""
    (call.known or call.services).journal.add(entry)
    if call.world.unkept is not None:
        call.world.unkept.entry(entry)


async def respond(call: OperationRequest) -> None:
    """Send the response as it is, or through the broken connection of its fault."""
    scope, send, entry, result = call.scope, call.send, call.entry, call.result
    if isinstance(result, FaultedResponse):
        client = ClientConnection(scope, call.receive, send, call.world.clock, entry)
        await send_with_fault(result.wire, result.sent, client)
        return
    # One turn of the event loop: responses that are ready together leave together, and wake their client once.
    await _turn()
    status, transport = result.situation.status, connection(scope)
    # Read before sending: after the last byte uvicorn may close the connection itself, with all data sent.
    was_open = is_open(transport)
    await send({"type": "http.response.start", "status": status, "headers": entry.delivery.headers})
    await send({"type": "http.response.body", "body": result.body})
    if was_open:
        hand_over(transport, entry, call.world.clock, status)


def count(call: OperationRequest, seconds: float) -> None:
    """Count the request and the fault that its response met."""
    counters, provider, noted = call.services.counters, call.contract.key, call.entry.note
    counters.request(provider, call.role, noted.situation, seconds)
    if noted.move is not None:
        counters.faults[provider, noted.move] += 1


@coroutine
def _turn() -> Generator[None, None, None]:
    """Let the event loop take one turn, as `asyncio.sleep(0)` does in four calls more."""
    yield


def _unrouted(call: OperationRequest) -> OperationResponse:
    """Refuse a request that matches no operation."""
    unrouted, method, path = call.contract.unrouted, call.scope["method"], call.below[:200]
    allowed = call.routes.allowed(call.below)
    if not allowed or "wrong_method" not in unrouted:
        return write(unrouted["unknown_path"], lambda name: MISSING, notes=(f"no operation {method} {path}",))
    response = write(unrouted["wrong_method"], lambda name: MISSING, notes=(f"{path} takes {allowed}",))
    return replace(response, headers=(("allow", ", ".join(allowed)),))


def headers_of(response: OperationResponse) -> list[tuple[bytes, bytes]]:
    """Return the headers of a response, as ASGI sends them; its own replace the situation's."""
    headers = [type_of(response.situation), (b"content-length", b"%d" % len(response.body))]
    if not response.body:
        headers = [] if bodiless(response.situation.status) else headers[1:]
    given = response.situation.headers
    # The common case, a poll, has neither.
    if given or response.headers:
        replaced = {name.lower() for name, _ in response.headers}
        given = tuple(header for header in given if header[0].lower() not in replaced)
        for name, value in (*given, *response.headers):
            headers.append((name.lower().encode("latin-1"), value.encode("latin-1")))
    return headers
