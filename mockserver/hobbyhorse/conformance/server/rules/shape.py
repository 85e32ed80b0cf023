"""Rules about the shape of answers: each is one that the contract has, to the last field; knows no server."""

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

MOST_SHAPE_BYTES = 16 * 1024 * 1024
LEAST_WAIT = 10.0
"""Seconds before the end of a trace in which a request may be left unanswered because nobody waited for it."""
GATEWAYS = frozenset({502, 504})
"""Statuses of something in front of the endpoint, which answers in its own words."""
MOST_TOLD = 10

Found = Iterator[tuple[Hashable, Breach]]


def documented_answer(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Hold each answer's status, and each good answer's body, against the situations of its operation."""
    steps = [step for step in _answers(annotated) if not transient_failure(step)]
    return one_per_kind(pair for step in steps for pair in _undocumented(annotated, step)) if steps else None


def content_type(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Look for answers that do not say that they are JSON."""
    steps = [
        step
        for step in _answers(annotated)
        if not transient_failure(step) and step.exchange.answer_headers and _ours(step)
    ]
    found = []
    for step in steps:
        said = step.exchange.answer_header("content-type") or ""
        kind = said.partition(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            operation = operation_of(annotated, step)
            places = (f"{responses_of(operation)}/{step.status}/content", responses_of(operation))
            message = f"{label(step)}: {step.status} with content type {said or 'none'!r}; it is application/json"
            found.append(((step.role, step.status, kind), Breach(message, places, said)))
    return one_per_kind(found) if steps else None


def _ours(step: Step) -> bool:
    return not 300 <= step.status < 400 and step.status != 204


def refusal_shape(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Hold the bodies of refusals against the envelope that the contract has for their status."""
    pairs = [(step, shapes) for step in _answers(annotated) if (shapes := _envelopes(annotated, step))]
    return (
        one_per_kind(pair for step, shapes in pairs for pair in _misshapen(annotated, step, shapes)) if pairs else None
    )


def bounded(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Look for answers that are too long, and for operations whose answers do not end."""
    steps = [step for step in annotated.steps if step.role in annotated.contract.operations and step.role != "run"]
    steps = [step for step in steps if step.exchange.probe or step.exchange.size > MOST_SHAPE_BYTES]
    found = []
    for step in steps:
        places = (responses_of(operation_of(annotated, step)),)
        if step.exchange.size > MOST_SHAPE_BYTES:
            message = f"{label(step)}: an answer of {step.exchange.size} bytes; at most {MOST_SHAPE_BYTES} are read"
            found.append(((step.role, "size"), Breach(message, places, step.exchange.size)))
        elif _lost(annotated, step):
            what = "an answer that did not end" if step.status else "no answer"
            found.append(((step.role, what), Breach(f"{label(step)}: {what}", places)))
    return one_per_kind(found) if steps else None


def _lost(annotated: AnnotatedTrace, step: Step) -> bool:
    """Whether a request was waited for in vain, and no later one of its kind was answered either."""
    later = annotated.after(step, annotated.of(str(step.role)))
    waited = annotated.trace.ended - step.arrived >= LEAST_WAIT
    return not step.delivered and waited and not any(other.delivered for other in later)


def _answers(annotated: AnnotatedTrace) -> list[Step]:
    return [step for step in annotated.steps if step.role in annotated.contract.operations and step.delivered]


def _undocumented(annotated: AnnotatedTrace, step: Step) -> Found:
    operation = operation_of(annotated, step)
    if 300 <= step.status < 400:
        message = f"{label(step)}: {step.status} leads elsewhere; no operation of the contract does that"
        yield (step.role, step.status), Breach(message, (responses_of(operation),), step.status)
    elif not documented(annotated.contract, operation, step.status):
        if not unspecified_refusal(operation, step):
            yield (step.role, step.status, step.exchange.expected), _other_status(annotated, operation, step)
    elif step.ok and not step.valid:
        yield from _broken_body(annotated, operation, step)


def _other_status(annotated: AnnotatedTrace, operation: Operation, step: Step) -> Breach:
    """Tell of a status that the operation does not have, and of the situation that the answer is meant to be."""
    meant = _meant(annotated.contract, operation, step)
    known = ", ".join(map(str, sorted({one.status for one in operation.situations.values()})))
    told = f"; it is to be {meant.status} ({meant.name})" if meant is not None else ""
    message = f"{label(step)}: status {step.status} is none of {known}{told}"
    if meant is None:
        return Breach(message, (f"{responses_of(operation)}/{step.status}",), step.status)
    home = home_of(annotated.contract, operation, meant.name)
    places = (*statuses(annotated.contract, operation, [meant]), responses_of(operation))
    return Breach(message, places, step.status, replaced_status(home, step.status))


def _meant(contract: Contract, operation: Operation, step: Step) -> Situation | None:
    """Return the situation that was asked for, or the one whose words an answer has."""
    expected = operation.situations.get(step.exchange.expected or "")
    if expected is not None or step.value is MISSING:
        return expected
    situations = [one for one in operation.situations.values() if (one.status < 300) == step.ok]
    for situation in situations:
        if _worded(operation, step) and not _differing(contract, operation, situation, step):
            return situation
    return situations[0] if step.ok and situations else None


def _worded(operation: Operation, step: Step) -> bool:
    return any(place.get(message_of((), step.value)) is not MISSING for _, place in constant_places(operation))


def _differing(contract: Contract, operation: Operation, situation: Situation, step: Step) -> list[tuple[str, Place]]:
    """Return the words, and where, that are not those of a situation's example."""
    example, told = message_of((), contract.schemas.at(situation.example_at)), message_of((), step.value)
    return [(name, place) for name, place in constant_places(operation) if place.get(example) != place.get(told)]


def _broken_body(annotated: AnnotatedTrace, operation: Operation, step: Step) -> Found:
    """Tell how a good answer breaks the schema of the situation that it is nearest to, or has words of none."""
    contract = annotated.contract
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
        said, wanted = place.get(message_of((), step.value)), contract.schemas.at(at)
        if wanted is MISSING or wanted is None:  # what an example does not have is not forbidden
            continue
        got = "nothing" if said is MISSING else repr(said)
        message = f"{label(step)}: nearest to {nearest.name}, which has {name} {_plain(wanted)!r}; got {got}"
        places = (at, nearest.example_at, home_of(contract, operation, nearest.name))
        yield (step.role, nearest.name, name), Breach(message, places, _plain(said))


def _against(contract: Contract, step: Step, schema: str) -> Found:
    for violation in _violations(contract, schema, step):
        breach = Breach(f"{label(step)}: {violation}", (*violation.places, schema), _seen(step, violation))
        yield (step.role, step.status, violation.places[:1]), breach


def _nearest(contract: Contract, operation: Operation, step: Step, candidates: list[Situation]) -> Situation:
    """Return the situation that an answer is nearest to: the same words, then the fewest violations."""

    def distance(situation: Situation) -> tuple[int, int]:
        differing = 0 if step.value is MISSING else len(_differing(contract, operation, situation, step))
        return differing, len(_violations(contract, situation.schema, step, situation.example_at))

    return min(candidates, key=distance)


def _violations(contract: Contract, schema: str, step: Step, example: str | None = None) -> list[Violation]:
    """Return how a body breaks a schema; what is no JSON breaks every one.

    Of a schema's alternatives, it is the one that the example keeps and the body comes nearest to.
    """
    if step.value is MISSING:
        shown = step.exchange.answer[:80].decode(errors="replace")
        return [Violation((), f"is no JSON: {shown!r}", (schema,))]
    found = contract.schemas.violations(schema, step.value, MOST_TOLD)
    ways = _alternatives(contract, schema, example) if found else []
    return min((contract.schemas.violations(way, step.value, MOST_TOLD) for way in ways), key=len, default=found)


def _alternatives(contract: Contract, schema: str, example: str | None) -> list[str]:
    """Return the addresses of a schema's alternatives: those that an example keeps, or all of them."""
    said = contract.schemas.at(schema)
    ways = (
        [f"{schema}/anyOf/{number}" for number in range(len(said.get("anyOf", ())))] if isinstance(said, dict) else []
    )
    kept = [way for way in ways if example and not contract.schemas.violations(way, contract.schemas.at(example))]
    return kept or ways


def _violated(
    contract: Contract, operation: Operation, step: Step, situation: Situation, violation: Violation
) -> Breach:
    """Tell of one violation of a situation's schema, with everything in the contract that says otherwise."""
    home = home_of(contract, operation, situation.name)
    example = situation.example_at + format_pointer(tuple(map(str, violation.location)))
    places = tuple(dict.fromkeys((*violation.places, example, situation.example_at, situation.schema, home)))
    message = f"{label(step)}: {step.status}, nearest to {situation.name}: {violation}"
    return Breach(message, places, _seen(step, violation))


def _seen(step: Step, violation: Violation) -> Any:
    """Return what stands where a body breaks its schema."""
    if step.value is MISSING:
        return step.exchange.answer[:80].decode(errors="replace")
    return _plain(
        Place("response", "body", pointer=tuple(map(str, violation.location))).get(message_of((), step.value))
    )


def _plain(value: Any) -> Any:
    return None if value is MISSING else value


def _envelopes(annotated: AnnotatedTrace, step: Step) -> list[Situation | str]:
    """Return what the contract has for the status of a refusal: situations, or a schema without one."""
    if step.status < 400 or (step.status in GATEWAYS and not _says_json(step)):
        return []
    operation = operation_of(annotated, step)
    found: list[Situation | str] = [one for one in operation.situations.values() if one.status == step.status]
    schema = schema_of(annotated.contract, operation, step.status)
    return found or ([schema] if schema is not None and not transient_failure(step) else [])


def _says_json(step: Step) -> bool:
    return step.value is not MISSING


def _misshapen(annotated: AnnotatedTrace, step: Step, shapes: list[Situation | str]) -> Found:
    """Tell how a refusal breaks the envelope that it is nearest to, unless it is one of them."""
    contract, operation = annotated.contract, operation_of(annotated, step)
    if any(not _violations(contract, one if isinstance(one, str) else one.schema, step) for one in shapes):
        return
    situations = [one for one in shapes if isinstance(one, Situation)]
    if not situations:
        yield from _against(contract, step, str(shapes[0]))
        return
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
        "Every answer has the status of a situation of its operation, and a good one its body, to the last field.",
        "Clients read what is documented: a field that went, or a word that came, is a job that is never seen to end.",
        documented_answer,
    ),
    ServerRule(
        "SHA-02",
        "content-type",
        "SHOULD",
        "S4",
        "Every answer says that it is JSON.",
        "Many HTTP libraries do not decode what does not call itself JSON.",
        content_type,
    ),
    ServerRule(
        "SHA-03",
        "refusal-shape",
        "MUST",
        "S2",
        "Every refusal keeps the documented envelope.",
        "A client that cannot read why it was refused cannot tell what to repeat from what to give up.",
        refusal_shape,
    ),
    ServerRule(
        "SHA-04",
        "bounded",
        "MUST",
        "S2",
        "Every answer ends, within 16 MB and the time that a client waits.",
        "Clients without a deadline of their own hang with it.",
        bounded,
    ),
)
