"""Rules about the shape of responses: status and every field are documented. Knows no server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hobbyhorse.conformance.rule import MUST, OBSERVED, SHOULD, VIDEO, Breach, rule
from hobbyhorse.conformance.server.expected import (
    LIFECYCLE,
    KindEvidence,
    binding_places,
    body_pointer,
    constant_places,
    documented,
    home_of,
    label,
    one_per_kind,
    operation_of,
    replaced_status,
    responses_of,
    schema_of,
    statuses,
    transient_failure,
    unspecified_refusal,
    was_cancelled,
)
from hobbyhorse.contract.forms.expressions import MISSING, Place, Pointer
from hobbyhorse.contract.reading import message_of
from hobbyhorse.contract.schemas import Violation
from hobbyhorse.contract.values import Contract, Operation, Situation
from hobbyhorse.traces.annotated import SUBMISSIONS, AnnotatedTrace, Step

# The longest response that the suite reads; documented ones have a few kilobytes.
MOST_SHAPE_BYTES = 16 * 1024 * 1024
# A request sent shortly before the end of a trace may be unanswered only because recording stopped.
LEAST_WAIT = 10.0
# One connection may break off by accident; a second one, and no success after it, is the server's conduct.
FEW_BROKEN_OFF = 2
# Statuses of a gateway in front of the endpoint, which responds in its own format.
GATEWAYS = frozenset({502, 504})
# The lowest status of a refusal (RFC 9110, section 15.5).
FIRST_REFUSAL = 400
# The values without which a client cannot follow a job.
ESSENTIAL = ("job", "stage")
# Violations reported for one body; a wrong body tends to violate every field.
MOST_TOLD = 10


@rule(
    "SHA-01",
    "documented-answer",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    says="Every response has a status that is documented for its operation; every field of a successful response "
    "matches the documented schema.",
    because="Clients read the documented fields: if a field is missing, or has a new value, they never see the job "
    "end.",
    fix="Send the documented status and fields, or correct the documentation: the quoted places say what clients rely "
    "on.",
)
@one_per_kind
def documented_answer(trace: AnnotatedTrace) -> KindEvidence:
    """Compare each response's status, and each successful body, with the situations of its operation."""
    for step in _responses(trace):
        if not transient_failure(step):
            yield OBSERVED
            yield from _undocumented(trace, step)


@rule(
    "SHA-02",
    "content-type",
    level=SHOULD,
    severity="S4",
    says="Every response has a JSON Content-Type.",
    because="Many HTTP libraries decode only bodies that are declared as JSON.",
    fix="Send Content-Type: application/json with every JSON response, refusals included.",
)
@one_per_kind
def content_type(trace: AnnotatedTrace) -> KindEvidence:
    """Find responses that are not declared as JSON."""
    for step in _responses(trace):
        if transient_failure(step) or not step.exchange.answer_headers or not _has_body(step):
            continue
        yield OBSERVED
        received = step.exchange.answer_header("content-type") or ""
        kind = received.partition(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            responses = responses_of(operation_of(trace, step))
            message = (
                f"{label(step)}: {step.status} has Content-Type {received or 'none'!r}; expected: application/json"
            )
            places = (f"{responses}/{step.status}/content", responses)
            yield (step.role, step.status, kind), Breach(message, places, received)


def _has_body(step: Step) -> bool:
    return not 300 <= step.status < 400 and step.status != 204 and not (step.valid and not step.exchange.answer)


@rule(
    "SHA-03",
    "refusal-shape",
    level=MUST,
    severity="S2",
    says="Every refusal has the documented error envelope.",
    because="A client that cannot read the reason of a refusal cannot decide whether to retry.",
    fix="Build every refusal, also of the framework and the gateway, with the documented envelope.",
)
@one_per_kind
def refusal_shape(trace: AnnotatedTrace) -> KindEvidence:
    """Compare the bodies of refusals with the documented envelope of their status."""
    for step in _responses(trace):
        if shapes := _envelopes(trace, step):
            yield OBSERVED
            yield from _misshapen(trace, step, shapes)


@rule(
    "SHA-04",
    "bounded",
    level=MUST,
    severity="S2",
    says="Every response completes within the client's timeout and is at most 16 MB, besides what it may repeat of the "
    "submissions.",
    because="Clients without a timeout of their own hang until the response ends.",
    fix="Bound the time and the size of each response on the server, and page long lists.",
)
@one_per_kind
def bounded(trace: AnnotatedTrace) -> KindEvidence:
    """Find responses that are too large, and operations whose responses never complete."""
    allowed = MOST_SHAPE_BYTES
    for step in trace.steps:
        size = step.exchange.size
        # A list of jobs may repeat their pictures.
        length = step.exchange.header("content-length") or ""
        allowed += int(length) if step.role in SUBMISSIONS and length.isdecimal() else 0
        if step.role not in trace.contract.operations or step.role == "run":
            continue
        # Recorded traffic has no probes; its client may have stopped reading, so only a size is evidence there.
        if not step.exchange.probe and size <= allowed:
            continue
        yield OBSERVED
        places = (responses_of(operation_of(trace, step)),)
        if size > allowed:
            message = f"{label(step)}: the response has {size} bytes; allowed: {allowed}"
            yield (step.role, "size"), Breach(message, places, size)
        elif _lost(trace, step):
            failure = "the response did not complete" if step.status else "no response"
            yield (step.role, failure), Breach(f"{label(step)}: {failure}", places)


def _lost(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether a request got no response in time, and neither did any later request of its operation."""
    # A later response shows that the operation works: the missing response was an accident.
    every = trace.of(str(step.role))
    if step.delivered or any(other.delivered for other in trace.after(step, every)):
        return False
    late = trace.trace.ended - step.arrived >= LEAST_WAIT or step.exchange.waited >= LEAST_WAIT
    return late or sum(other.exchange.broken_off for other in every) >= FEW_BROKEN_OFF


def _responses(trace: AnnotatedTrace) -> Iterator[Step]:
    yield from (step for step in trace.steps if step.role in trace.contract.operations and step.delivered)


def _undocumented(trace: AnnotatedTrace, step: Step) -> KindEvidence:
    operation = operation_of(trace, step)
    if 300 <= step.status < 400:
        message = f"{label(step)}: status {step.status} is a redirect; the contract documents none"
        yield (step.role, step.status), Breach(message, (responses_of(operation),), step.status)
    elif not documented(trace.contract, operation, step.status):
        if not unspecified_refusal(operation, step):
            yield (step.role, step.status, step.exchange.expected), _other_status(trace, operation, step)
    elif step.ok and not step.valid:
        yield from _broken_body(trace, operation, step)
    elif _refused_read(trace, step):
        message = f"{label(step)}: a documented request is refused with {step.status}"
        yield (step.role, "read"), Breach(message, (responses_of(operation),), step.status)


def _refused_read(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether a request that needs nothing but the key is refused, although another operation accepts the key."""
    probes = (step.exchange.probe or "", *(one.exchange.probe or "" for one in trace.steps if one.ok))
    reads = probes[0].startswith("read:") and step.status >= FIRST_REFUSAL
    return reads and any(not one.startswith(("auth:", "identity:")) for one in probes[1:])


def _other_status(trace: AnnotatedTrace, operation: Operation, step: Step) -> Breach:
    """Return the breach of an undocumented status, with the situation that the response should be."""
    meant = _meant(trace.contract, operation, step)
    known = ", ".join(map(str, sorted({one.status for one in operation.situations.values()})))
    expected = f"; expected: {meant.status} ({meant.name})" if meant is not None else ""
    message = f"{label(step)}: undocumented status {step.status}; documented: {known}{expected}"
    if meant is None:
        return Breach(message, (f"{responses_of(operation)}/{step.status}",), step.status)
    home = home_of(trace.contract, operation, meant.name)
    places = (*statuses(trace.contract, operation, [meant]), responses_of(operation))
    return Breach(message, places, step.status, replaced_status(trace.contract, home, step.status))


def _meant(contract: Contract, operation: Operation, step: Step) -> Situation | None:
    """Return the situation that the probe expects, or the situation whose constants the response has."""
    expected = operation.situations.get(step.exchange.expected or "")
    if expected is not None or step.value is MISSING:
        return expected
    # Without the probe's expectation, the constants identify the situation that the response belongs to.
    situations = [one for one in operation.situations.values() if (one.status < 300) == step.ok]
    for situation in situations:
        if _has_constants(operation, step) and not _differing(contract, operation, situation, step):
            return situation
    return situations[0] if step.ok and situations else None


def _has_constants(operation: Operation, step: Step) -> bool:
    return any(place.get(message_of((), step.value)) is not MISSING for _, place in constant_places(operation))


def _differing(contract: Contract, operation: Operation, situation: Situation, step: Step) -> list[tuple[str, Place]]:
    """Return the constants that differ from a situation's example, absent ones included."""
    example, received = message_of((), contract.schemas.at(situation.example_at)), message_of((), step.value)
    return [(name, place) for name, place in constant_places(operation) if place.get(example) != place.get(received)]


def _broken_body(trace: AnnotatedTrace, operation: Operation, step: Step) -> KindEvidence:
    """Yield how a successful response violates its closest situation, in the schema or else in the constants."""
    contract = trace.contract
    # OpenAPI may document a status for which lifecycle.json has no situation.
    candidates = [one for one in operation.situations.values() if one.status == step.status]
    if not candidates:
        schema = schema_of(contract, operation, step.status)
        yield from _against(contract, step, schema) if schema is not None else ()
        return
    nearest = _nearest(contract, operation, step, candidates)
    violations = _violations(contract, nearest.schema, step, nearest.example_at)
    essential = list(_without_essential(contract, operation, step, nearest))
    yield from (((step.role, pointer), breach) for pointer, breach in essential)
    told = {pointer for pointer, _ in essential}
    violations = [one for one in violations if not _tells(one, told)]
    for violation in violations:
        yield (step.role, nearest.name, violation.places[:1]), _violated(contract, operation, step, nearest, violation)
    for name, place in () if violations or essential else _differing(contract, operation, nearest, step):
        at = nearest.example_at + body_pointer(place)
        received, wanted = place.get(message_of((), step.value)), contract.schemas.at(at)
        if wanted is MISSING or wanted is None:  # an example need not have every allowed field
            continue
        if name == "outcome" and was_cancelled(trace, step):
            continue
        got = "missing" if received is MISSING else repr(received)
        message = f"{label(step)}: resembles {nearest.name}, but {name} is {got}; documented: {_plain(wanted)!r}"
        places = (at, nearest.example_at, home_of(contract, operation, nearest.name))
        yield (step.role, nearest.name, name), Breach(message, places, _plain(received))


def _without_essential(
    contract: Contract, operation: Operation, step: Step, situation: Situation
) -> Iterator[tuple[Pointer, Breach]]:
    """Yield the places where a response lacks the job's id or its stage, or has a stage that the contract lacks.

    A contract binds these values because it cannot be used without them: they are documented even if the rest of the
    response is assumed.
    """
    example, received = message_of((), contract.schemas.at(situation.example_at)), message_of((), step.value)
    if not isinstance(step.value, dict):
        return
    for name in ESSENTIAL:
        for place in operation.bindings[name].response[:1] if name in operation.bindings else ():
            wanted, got = place.get(example), place.get(received)
            if place.part != "body" or wanted is MISSING or wanted is None:
                continue
            home = f"{LIFECYCLE}/operations/{operation.role}"
            places = (*binding_places(contract, operation, name), home, f"{home}/situations")
            where = f"{label(step)}: status {step.status} (closest: {situation.name})"
            if got is MISSING or got is None:
                yield place.pointer, Breach(f"{where}: {'.'.join(place.pointer)}: is missing", places)
            elif name == "stage" and isinstance(got, str) and _is_undocumented(contract, operation, step, place):
                message = f"{where}: {'.'.join(place.pointer)}: {got!r} is not a documented stage"
                yield place.pointer, Breach(message, (f"{LIFECYCLE}/stages", *places), got)


def _is_undocumented(contract: Contract, operation: Operation, step: Step, place: Place) -> bool:
    """Whether no example of an operation has a response's stage word, and the schema does not allow it either."""
    at = tuple(place.pointer)
    known = [place.get(message_of((), contract.schemas.at(one.example_at))) for one in operation.situations.values()]
    alike = [one for one in operation.situations.values() if one.status == step.status]
    wrong = [one for each in alike for one in _violations(contract, each.schema, step, each.example_at)]
    disallowed = any(tuple(map(str, one.location)) == at for one in wrong)
    return disallowed and place.get(message_of((), step.value)) not in known


def _tells(violation: Violation, told: set[Pointer]) -> bool:
    return tuple(map(str, violation.location)) in told


def _against(contract: Contract, step: Step, schema: str) -> KindEvidence:
    for violation in _violations(contract, schema, step):
        breach = Breach(f"{label(step)}: {violation}", (*violation.places, schema), _seen(step, violation))
        yield (step.role, step.status, violation.places[:1]), breach


def _nearest(contract: Contract, operation: Operation, step: Step, candidates: list[Situation]) -> Situation:
    """Return the closest situation of a response: the most equal constants, then the fewest violations."""

    def distance(situation: Situation) -> tuple[int, int]:
        differing = 0 if step.value is MISSING else len(_differing(contract, operation, situation, step))
        return differing, len(_violations(contract, situation.schema, step, situation.example_at))

    return min(candidates, key=distance)


def _violations(contract: Contract, schema: str, step: Step, example: str | None = None) -> list[Violation]:
    """Return how a body violates a schema; a body that is not valid JSON violates every schema.

    Of a schema's alternatives, use the one that the example satisfies and that the body violates least.
    """
    if step.value is MISSING and (step.exchange.answer or contract.schemas.at(schema) is not MISSING):
        shown = step.exchange.answer[:80].decode(errors="replace")
        return [Violation((), f"is not valid JSON: {shown!r}", (schema,))]
    found = contract.schemas.violations(schema, step.value, MOST_TOLD)
    ways = _alternatives(contract, schema, example) if found else []
    return min((contract.schemas.violations(way, step.value, MOST_TOLD) for way in ways), key=len, default=found)


def _alternatives(contract: Contract, schema: str, example: str | None) -> list[str]:
    """Return the addresses of a schema's alternatives: the ones that an example satisfies, or all of them."""
    found = contract.schemas.at(schema)
    ways = (
        [f"{schema}/anyOf/{number}" for number in range(len(found.get("anyOf", ())))] if isinstance(found, dict) else []
    )
    kept = [way for way in ways if example and not contract.schemas.violations(way, contract.schemas.at(example))]
    return kept or ways


def _violated(
    contract: Contract, operation: Operation, step: Step, situation: Situation, violation: Violation
) -> Breach:
    """Return the breach for one violation, with the places of the schema that it contradicts.

    A success has a documented schema even if the contract only assumes its example. An assumed refusal has none.
    """
    around = [f"{LIFECYCLE}/operations/{operation.role}"]
    if step.status >= 400:
        around = [situation.example_at, home_of(contract, operation, situation.name)]
    places = tuple(dict.fromkeys((*violation.places, situation.schema, *around)))
    message = f"{label(step)}: status {step.status} (closest: {situation.name}): {violation}"
    return Breach(message, places, _seen(step, violation))


def _seen(step: Step, violation: Violation) -> Any:
    """Return the value at the place of a violation."""
    if step.value is MISSING:
        return step.exchange.answer[:80].decode(errors="replace")
    return _plain(
        Place("response", "body", pointer=tuple(map(str, violation.location))).get(message_of((), step.value))
    )


def _plain(value: Any) -> Any:
    return None if value is MISSING else value


def _envelopes(trace: AnnotatedTrace, step: Step) -> list[Situation | str]:
    """Return the contract's definitions for the status of a refusal: situations, or a schema without one."""
    if step.status < 400 or (step.status in GATEWAYS and not _says_json(step)):
        return []
    operation = operation_of(trace, step)
    found: list[Situation | str] = [one for one in operation.situations.values() if one.status == step.status]
    schema = schema_of(trace.contract, operation, step.status)
    return found or ([schema] if schema is not None and not transient_failure(step) else [])


def _says_json(step: Step) -> bool:
    return step.value is not MISSING


def _misshapen(trace: AnnotatedTrace, step: Step, shapes: list[Situation | str]) -> KindEvidence:
    """Yield how a refusal violates its closest envelope, unless it satisfies one of them."""
    contract, operation = trace.contract, operation_of(trace, step)
    if any(not _violations(contract, one if isinstance(one, str) else one.schema, step) for one in shapes):
        return
    situations = [one for one in shapes if isinstance(one, Situation)]
    if not situations:
        yield from _against(contract, step, str(shapes[0]))
        return
    # The message is about the refusal that the probe provoked, if the contract has it with this status.
    expected = [one for one in situations if one.name == step.exchange.expected]
    nearest = _nearest(contract, operation, step, expected or situations)
    for violation in _violations(contract, nearest.schema, step, nearest.example_at):
        yield (step.role, step.status, violation.places[:1]), _violated(contract, operation, step, nearest, violation)
