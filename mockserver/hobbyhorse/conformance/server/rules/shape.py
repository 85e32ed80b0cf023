"""Rules about the shape of responses: each is documented, to the last field. Knows no server."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

from hobbyhorse.conformance.server.expected import (
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
)
from hobbyhorse.conformance.server.rule import Breach, ServerRule
from hobbyhorse.contract.forms.expressions import MISSING, Place, format_pointer
from hobbyhorse.contract.reading import message_of
from hobbyhorse.contract.schemas import Violation
from hobbyhorse.contract.values import Contract, Operation, Situation
from hobbyhorse.traces.annotated import AnnotatedTrace, Step

# The longest response that the suite reads; documented ones have a few kilobytes.
MOST_SHAPE_BYTES = 16 * 1024 * 1024
# A request sent shortly before the end of a trace may be unanswered only because recording stopped.
LEAST_WAIT = 10.0
# Statuses of a gateway in front of the endpoint, which responds in its own format.
GATEWAYS = frozenset({502, 504})
# Violations reported for one body; a wrong body tends to violate every field.
MOST_TOLD = 10

Found = Iterator[tuple[Hashable, Breach]]


def documented_answer(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Compare each response's status, and each successful body, with the situations of its operation."""
    steps = [step for step in _responses(annotated) if not transient_failure(step)]
    return one_per_kind(pair for step in steps for pair in _undocumented(annotated, step)) if steps else None


def content_type(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Find responses that are not declared as JSON."""
    steps = [
        step
        for step in _responses(annotated)
        if not transient_failure(step) and step.exchange.answer_headers and _ours(step)
    ]
    found = []
    for step in steps:
        received = step.exchange.answer_header("content-type") or ""
        kind = received.partition(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            operation = operation_of(annotated, step)
            places = (f"{responses_of(operation)}/{step.status}/content", responses_of(operation))
            message = (
                f"{label(step)}: {step.status} has Content-Type {received or 'none'!r}; expected: application/json"
            )
            found.append(((step.role, step.status, kind), Breach(message, places, received)))
    return one_per_kind(found) if steps else None


def _ours(step: Step) -> bool:
    return not 300 <= step.status < 400 and step.status != 204


def refusal_shape(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Compare the bodies of refusals with the documented envelope of their status."""
    pairs = [(step, shapes) for step in _responses(annotated) if (shapes := _envelopes(annotated, step))]
    return (
        one_per_kind(pair for step, shapes in pairs for pair in _misshapen(annotated, step, shapes)) if pairs else None
    )


def bounded(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Find responses that are too long, and operations whose responses do not end."""
    steps = [step for step in annotated.steps if step.role in annotated.contract.operations and step.role != "run"]
    # Recorded traffic has no probes; its client may have stopped reading, so only a size is evidence there.
    steps = [step for step in steps if step.exchange.probe or step.exchange.size > MOST_SHAPE_BYTES]
    found = []
    for step in steps:
        places = (responses_of(operation_of(annotated, step)),)
        if step.exchange.size > MOST_SHAPE_BYTES:
            message = f"{label(step)}: the response has {step.exchange.size} bytes; allowed: {MOST_SHAPE_BYTES}"
            found.append(((step.role, "size"), Breach(message, places, step.exchange.size)))
        elif _lost(annotated, step):
            failure = "the response did not end" if step.status else "no response"
            found.append(((step.role, failure), Breach(f"{label(step)}: {failure}", places)))
    return one_per_kind(found) if steps else None


def _lost(annotated: AnnotatedTrace, step: Step) -> bool:
    """Whether a request was awaited in vain, and no later request of its operation got a response either."""
    # A later response shows that the operation does end: the missing one was an accident.
    later = annotated.after(step, annotated.of(str(step.role)))
    waited = annotated.trace.ended - step.arrived >= LEAST_WAIT
    return not step.delivered and waited and not any(other.delivered for other in later)


def _responses(annotated: AnnotatedTrace) -> list[Step]:
    return [step for step in annotated.steps if step.role in annotated.contract.operations and step.delivered]


def _undocumented(annotated: AnnotatedTrace, step: Step) -> Found:
    operation = operation_of(annotated, step)
    if 300 <= step.status < 400:
        message = f"{label(step)}: {step.status} is a redirect; no operation of the contract redirects"
        yield (step.role, step.status), Breach(message, (responses_of(operation),), step.status)
    elif not documented(annotated.contract, operation, step.status):
        if not unspecified_refusal(operation, step):
            yield (step.role, step.status, step.exchange.expected), _other_status(annotated, operation, step)
    elif step.ok and not step.valid:
        yield from _broken_body(annotated, operation, step)


def _other_status(annotated: AnnotatedTrace, operation: Operation, step: Step) -> Breach:
    """Return the breach of an undocumented status, with the situation that the response should be."""
    meant = _meant(annotated.contract, operation, step)
    known = ", ".join(map(str, sorted({one.status for one in operation.situations.values()})))
    expected = f"; expected: {meant.status} ({meant.name})" if meant is not None else ""
    message = f"{label(step)}: status {step.status} is none of {known}{expected}"
    if meant is None:
        return Breach(message, (f"{responses_of(operation)}/{step.status}",), step.status)
    home = home_of(annotated.contract, operation, meant.name)
    places = (*statuses(annotated.contract, operation, [meant]), responses_of(operation))
    return Breach(message, places, step.status, replaced_status(home, step.status))


def _meant(contract: Contract, operation: Operation, step: Step) -> Situation | None:
    """Return the situation that the probe expects, or the situation whose constants the response has."""
    expected = operation.situations.get(step.exchange.expected or "")
    if expected is not None or step.value is MISSING:
        return expected
    # Without the probe's expectation, the constants tell which situation the status should belong to.
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


def _broken_body(annotated: AnnotatedTrace, operation: Operation, step: Step) -> Found:
    """Yield how a successful response violates its nearest situation, in the schema or else in the constants."""
    contract = annotated.contract
    # OpenAPI may document a status for which lifecycle.json has no situation.
    candidates = [one for one in operation.situations.values() if one.status == step.status]
    if not candidates:
        schema = schema_of(contract, operation, step.status)
        yield from _against(contract, step, schema) if schema is not None else ()
        return
    nearest = _nearest(contract, operation, step, candidates)
    violations = _violations(contract, nearest.schema, step, nearest.example_at)
    for violation in violations:
        yield (step.role, nearest.name, violation.places[:1]), _violated(contract, operation, step, nearest, violation)
    for name, place in () if violations else _differing(contract, operation, nearest, step):
        at = nearest.example_at + body_pointer(place)
        received, wanted = place.get(message_of((), step.value)), contract.schemas.at(at)
        if wanted is MISSING or wanted is None:  # an example need not have every allowed field
            continue
        got = "nothing" if received is MISSING else repr(received)
        message = f"{label(step)}: nearest to {nearest.name}, but {name} is {got}; documented: {_plain(wanted)!r}"
        places = (at, nearest.example_at, home_of(contract, operation, nearest.name))
        yield (step.role, nearest.name, name), Breach(message, places, _plain(received))


def _against(contract: Contract, step: Step, schema: str) -> Found:
    for violation in _violations(contract, schema, step):
        breach = Breach(f"{label(step)}: {violation}", (*violation.places, schema), _seen(step, violation))
        yield (step.role, step.status, violation.places[:1]), breach


def _nearest(contract: Contract, operation: Operation, step: Step, candidates: list[Situation]) -> Situation:
    """Return the nearest situation of a response: the most equal constants, then the fewest violations."""

    def distance(situation: Situation) -> tuple[int, int]:
        differing = 0 if step.value is MISSING else len(_differing(contract, operation, situation, step))
        return differing, len(_violations(contract, situation.schema, step, situation.example_at))

    return min(candidates, key=distance)


def _violations(contract: Contract, schema: str, step: Step, example: str | None = None) -> list[Violation]:
    """Return how a body violates a schema; a body that is not valid JSON violates every schema.

    Of a schema's alternatives, use the one that the example satisfies and that the body violates least.
    """
    if step.value is MISSING:
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
    """Return the breach for one violation, with every place in the contract that contradicts it."""
    home = home_of(contract, operation, situation.name)
    example = situation.example_at + format_pointer(tuple(map(str, violation.location)))
    places = tuple(dict.fromkeys((*violation.places, example, situation.example_at, situation.schema, home)))
    message = f"{label(step)}: {step.status}, nearest to {situation.name}: {violation}"
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


def _envelopes(annotated: AnnotatedTrace, step: Step) -> list[Situation | str]:
    """Return the contract's definitions for the status of a refusal: situations, or a schema without one."""
    if step.status < 400 or (step.status in GATEWAYS and not _says_json(step)):
        return []
    operation = operation_of(annotated, step)
    found: list[Situation | str] = [one for one in operation.situations.values() if one.status == step.status]
    schema = schema_of(annotated.contract, operation, step.status)
    return found or ([schema] if schema is not None and not transient_failure(step) else [])


def _says_json(step: Step) -> bool:
    return step.value is not MISSING


def _misshapen(annotated: AnnotatedTrace, step: Step, shapes: list[Situation | str]) -> Found:
    """Yield how a refusal violates its nearest envelope, unless it satisfies one of them."""
    contract, operation = annotated.contract, operation_of(annotated, step)
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


RULES = (
    ServerRule(
        "SHA-01",
        "documented-answer",
        "MUST",
        "S2",
        "Every response has a documented status of its operation; a successful one has the documented body, to the "
        "last field.",
        "Clients read the documented fields: if one is gone, or has a new value, they never see the job end.",
        documented_answer,
    ),
    ServerRule(
        "SHA-02",
        "content-type",
        "SHOULD",
        "S4",
        "Every response is declared as JSON.",
        "Many HTTP libraries decode only bodies that are declared as JSON.",
        content_type,
    ),
    ServerRule(
        "SHA-03",
        "refusal-shape",
        "MUST",
        "S2",
        "Every refusal has the documented envelope.",
        "A client that cannot read the reason of a refusal cannot decide whether to retry.",
        refusal_shape,
    ),
    ServerRule(
        "SHA-04",
        "bounded",
        "MUST",
        "S2",
        "Every response ends, within 16 MB and the time that a client waits.",
        "Clients without a deadline of their own hang with it.",
        bounded,
    ),
)
