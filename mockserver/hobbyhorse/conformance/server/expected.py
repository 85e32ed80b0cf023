"""What the contract says of one answer: what it is to be, and the places that say so. Knows no server and no rule."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import replace
from typing import Any

from hobbyhorse.conformance.server.rule import Breach
from hobbyhorse.contract.forms.expressions import MISSING, Place, format_pointer
from hobbyhorse.contract.message import CONSTANT
from hobbyhorse.contract.reading import as_json, message_of
from hobbyhorse.contract.values import Contract, Operation, Situation, find_situation
from hobbyhorse.traces.annotated import TRANSIENT, AnnotatedTrace, Step

LIFECYCLE = "lifecycle.json#"
JSON_CONTENT = "content/application~1json/schema"


def transient_failure(step: Step) -> bool:
    """Whether an answer is of the kind that anybody gives on a bad day: 408, 425, 429, 5xx."""
    return step.status in TRANSIENT or step.status >= 500


def conclusive(step: Step) -> bool:
    """Whether an answer is whole, of a day that was not bad, and the operation's own: no redirect."""
    return step.delivered and not transient_failure(step) and step.status not in range(300, 400)


def conclusive_probes(annotated: AnnotatedTrace, *beginnings: str) -> list[Step]:
    """Return the probes of some names that an operation answered, on a day that was not bad, itself."""
    return [step for step in probes(annotated, *beginnings) if conclusive(step)]


def probes(annotated: AnnotatedTrace, *beginnings: str) -> list[Step]:
    """Return the requests to an operation that were sent as probes whose name begins so."""
    return [
        step
        for step in annotated.steps
        if step.role in annotated.contract.operations and (step.exchange.probe or "").startswith(beginnings)
    ]


def operation_of(annotated: AnnotatedTrace, step: Step) -> Operation:
    """Return the operation that a step called."""
    return annotated.contract.operations[step.role or ""]


def label(step: Step) -> str:
    """Name a request: its number and its operation's role."""
    return f"request {step.number} ({step.role})"


def home_of(contract: Contract, operation: Operation, name: str) -> str:
    """Return where lifecycle.json has a situation: the operation's own, or that of the whole contract."""
    own = f"{LIFECYCLE}{format_pointer(('operations', operation.role, 'situations', name))}"
    return own if contract.schemas.at(own) is not MISSING else f"{LIFECYCLE}{format_pointer(('situations', name))}"


def responses_of(operation: Operation) -> str:
    """Return where openapi.json has the responses of an operation."""
    return f"openapi.json#{format_pointer(('paths', operation.path, operation.method.lower(), 'responses'))}"


def schema_of(contract: Contract, operation: Operation, status: int) -> str | None:
    """Return the address of the schema of an operation's answers with a status, or None."""
    for name in (str(status), "default"):
        at = f"{responses_of(operation)}/{name}"
        said = contract.schemas.at(at)
        if isinstance(said, dict):
            schema = f"{'openapi.json' + said['$ref'] if '$ref' in said else at}/{JSON_CONTENT}"
            return schema if contract.schemas.at(schema) is not MISSING else None
    return None


def documented(contract: Contract, operation: Operation, status: int) -> bool:
    """Whether an operation may answer with a status at all."""
    told = contract.schemas.at(responses_of(operation))
    declared = isinstance(told, dict) and bool({str(status), "default"} & set(told))
    return declared or any(one.status == status for one in operation.situations.values())


def unspecified_refusal(operation: Operation, step: Step) -> bool:
    """Whether a refusal is of something that the contract has no words for, so that it may be any."""
    expected = step.exchange.expected
    unsaid = expected is not None and expected not in operation.situations
    return 400 <= step.status < 500 and (unsaid or step.exchange.probe == "identity:malformed")


def constant_places(operation: Operation) -> list[tuple[str, Place]]:
    """Return the places of the words by which an operation's answers are told apart."""
    return [
        (name, place)
        for name in sorted(CONSTANT)
        if name in operation.bindings
        for place in operation.bindings[name].response
        if place.part == "body"
    ]


def differing_constants(
    contract: Contract, operation: Operation, situation: Situation, step: Step
) -> list[tuple[str, Place]]:
    """Return the words, and where, in which an answer differs from a situation's example; what is left out does not."""
    example = message_of((), contract.schemas.at(situation.example_at))
    told = message_of((), step.value)
    found = []
    for name, place in constant_places(operation):
        pair = (place.get(example), place.get(told))
        if pair[0] != pair[1] and not {type(None), type(MISSING)} & set(map(type, pair)):
            found.append((name, place))
    return found


def refused_as(annotated: AnnotatedTrace, step: Step, name: str, also: Iterable[str] = ()) -> list[Breach]:
    """Hold a refusal against the situation that it is to be, or others that it may be; nothing if it is one of them.

    What stands in for a situation that the contract does not have is held against nothing: no document says it.
    """
    contract, operation = annotated.contract, operation_of(annotated, step)
    found = [one for wanted in (name, *also) if (one := find_situation(operation, wanted)) is not None]
    alike = [one for one in found if one.status == step.status]
    if not found or any(not differing_constants(contract, operation, one, step) for one in alike):
        return []
    asked = step.exchange.probe or "it"
    right = next(
        (one for one in found if not differing_constants(contract, operation, one, step)), (*alike, found[0])[0]
    )
    if right.status != step.status:
        home = home_of(contract, operation, right.name)
        message = (
            f"{label(step)}: {asked} is refused with {step.status}; the contract has {right.status} ({right.name})"
        )
        return [Breach(message, statuses(contract, operation, found), step.status, replaced_status(home, step.status))]
    _, place = differing_constants(contract, operation, right, step)[0]
    said, wanted = place.get(message_of((), step.value)), contract.schemas.at(right.example_at + body_pointer(place))
    message = f"{label(step)}: {asked} is refused as {said!r}; the contract has {wanted!r} ({right.name})"
    places = (right.example_at + body_pointer(place), home_of(contract, operation, right.name))
    return [Breach(message, places, said)]


def statuses(contract: Contract, operation: Operation, situations: Iterable[Situation]) -> tuple[str, ...]:
    """Return the places that say which status situations have."""
    return tuple(f"{home_of(contract, operation, one.name)}/status" for one in situations)


def replaced_status(home: str, status: int) -> tuple[dict[str, Any], ...]:
    """Return the patch that gives the situation at a place another status."""
    file, _, pointer = home.partition("#")
    return ({"file": file, "op": "replace", "path": f"{pointer}/status", "value": status},)


def body_of(step: Step) -> Any:
    """Return the body of a request as JSON, MISSING where it is none."""
    return as_json(step.exchange.body)


def body_pointer(place: Place) -> str:
    """Return the pointer of a place in a body."""
    return format_pointer(place.pointer)


def bound_at(contract: Contract, operation: Operation, name: str, step: Step) -> tuple[str, ...]:
    """Return the places that say where an answer has a value and in which form, and those of what it may be."""
    own = f"{LIFECYCLE}{format_pointer(('operations', operation.role, 'bindings', name))}"
    common = f"{LIFECYCLE}{format_pointer(('bindings', name))}"
    found = [at for at in (own, common) if contract.schemas.at(at) is not MISSING]
    for situation in map(operation.situations.__getitem__, step.reading.situations):
        for place in operation.bindings[name].response:
            at = situation.example_at + body_pointer(place)
            if place.part == "body" and contract.schemas.at(at) is not MISSING:
                found.append(at)
        found.append(home_of(contract, operation, situation.name))
    return tuple(dict.fromkeys(found))


def one_per_kind(found: Iterable[tuple[Hashable, Breach]]) -> list[Breach]:
    """Return what was found, each kind once, with how often it was found."""
    kinds: dict[Hashable, list[Breach]] = {}
    for kind, breach in found:
        kinds.setdefault(kind, []).append(breach)
    return [
        replace(first, message=f"{first.message} (and {len(more)} times more)") if more else first
        for first, *more in kinds.values()
    ]
