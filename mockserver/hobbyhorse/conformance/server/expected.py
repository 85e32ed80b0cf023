"""The response that the contract expects, and the places that define it. Knows no server and no rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any
from urllib.parse import unquote

from hobbyhorse.conformance.rule import Breach, Check, Evidence, Observed
from hobbyhorse.contract.documents.operations import json_body
from hobbyhorse.contract.forms.expressions import MISSING, Place, Pointer, format_pointer, parse_pointer, resolve
from hobbyhorse.contract.message import CONSTANT
from hobbyhorse.contract.reading import as_json, message_of
from hobbyhorse.contract.schemas import address
from hobbyhorse.contract.values import Contract, Operation, Situation, find_situation
from hobbyhorse.traces.annotated import TRANSIENT, AnnotatedTrace, Step

LIFECYCLE = "lifecycle.json#"
# The one 5xx that an endpoint may produce itself; 502 to 504 come from gateways and overload.
INTERNAL = 500
# One 500 may be an accident; two for bad requests, and for nothing else, are the endpoint's way to refuse them.
FEW_INTERNAL_ERRORS = 2
# A provider under load makes jobs wait in line; a job that hangs takes longer than that.
LEAST_PATIENCE, TIMES_AS_LONG = 90.0, 40.0


def patience(contract: Contract, longest: float | None) -> float:
    """Return the seconds after which a job that has not ended never will.

    `longest` is the longest time of the jobs that have ended with a video: a job that takes many times as long hangs,
    even if the longest documented wait is not over.
    """
    return min(contract.polling.longest_wait, many_times(longest))


def many_times(longest: float | None) -> float:
    """Return the seconds that no job takes if others have taken at most `longest`."""
    return math.inf if longest is None else max(LEAST_PATIENCE, TIMES_AS_LONG * longest)


def was_cancelled(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether an earlier response has shown that a step's job is cancelled.

    No document says which outcome a further cancellation of it has: the job is cancelled, and can be so no more.
    """
    earlier = (one for one in trace.steps if one.job == step.job and one.done <= step.arrived)
    return any(one.ok and one.kinds == {"cancelled"} for one in earlier)


def transient_failure(step: Step) -> bool:
    """Whether a response is a temporary failure that any server may return: 408, 425, 429 or 5xx."""
    return step.status in TRANSIENT or step.status >= 500


def conclusive(step: Step) -> bool:
    """Whether a response shows the operation's own behaviour: complete, not a temporary failure, not a redirect."""
    return step.delivered and not transient_failure(step) and step.status not in range(300, 400)


def conclusive_probes(trace: AnnotatedTrace, *beginnings: str) -> list[Step]:
    """Return the probes whose names start with one of `beginnings` and whose responses are conclusive."""
    return [step for step in probes(trace, *beginnings) if conclusive(step)]


def probes(trace: AnnotatedTrace, *beginnings: str) -> list[Step]:
    """Return the operation calls whose probe name starts with one of `beginnings`."""
    return [
        step
        for step in trace.steps
        if step.role in trace.contract.operations and (step.exchange.probe or "").startswith(beginnings)
    ]


def operation_of(trace: AnnotatedTrace, step: Step) -> Operation:
    """Return the operation that a step called."""
    return trace.contract.operations[step.role or ""]


def label(step: Step) -> str:
    """Name a request by its number and its operation's role."""
    return f"request {step.number} ({step.role})"


def home_of(contract: Contract, operation: Operation, name: str) -> str:
    """Return where lifecycle.json defines a situation: in the operation, or for the whole contract."""
    # An operation may override a situation of the whole contract.
    own = f"{LIFECYCLE}{format_pointer(('operations', operation.role, 'situations', name))}"
    return own if contract.schemas.at(own) is not MISSING else f"{LIFECYCLE}{format_pointer(('situations', name))}"


def responses_of(operation: Operation) -> str:
    """Return where openapi.json lists the responses of an operation."""
    return f"openapi.json#{format_pointer(('paths', operation.path, operation.method.lower(), 'responses'))}"


def schema_of(contract: Contract, operation: Operation, status: int) -> str | None:
    """Return the address of the schema for an operation's responses with a status, or None."""
    for name in (str(status), "default"):
        at = f"{responses_of(operation)}/{name}"
        response = contract.schemas.at(at)
        if isinstance(response, dict):
            home = "openapi.json" + response["$ref"] if "$ref" in response else at
            file, _, pointer = home.partition("#")
            content = json_body(contract.schemas.document(file), parse_pointer(unquote(pointer)))
            schema = address(file, (*content, "schema"))
            return schema if contract.schemas.at(schema) is not MISSING else None
    return None


def member_schema(contract: Contract, schema: str, pointer: Pointer) -> str | None:
    """Return the address of the schema of a place in a value, or None if the schema does not describe the place."""
    at = _resolved(contract, schema)
    for name in pointer:
        at = _resolved(contract, f"{at}/items" if name.isdecimal() else at + format_pointer(("properties", name)))
        if contract.schemas.at(at) is MISSING:
            return None
    return at


def _resolved(contract: Contract, at: str) -> str:
    """Follow the references of a schema within its file."""
    while isinstance(schema := contract.schemas.at(at), dict) and str(schema.get("$ref", "")).startswith("#"):
        at = at.partition("#")[0] + unquote(schema["$ref"])
    return at


def documented(contract: Contract, operation: Operation, status: int) -> bool:
    """Whether the contract allows an operation to respond with a status."""
    responses = contract.schemas.at(responses_of(operation))
    # `default` documents every status that is not listed.
    declared = isinstance(responses, dict) and bool({str(status), "default"} & set(responses))
    return declared or any(one.status == status for one in operation.situations.values())


def unspecified_refusal(operation: Operation, step: Step) -> bool:
    """Whether a response is a refusal in a case that the contract does not define, so that any 4xx is allowed."""
    expected = step.exchange.expected
    # The probe's situation is not in the contract, or the id could never be one: no document defines the refusal.
    undefined = expected is not None and expected not in operation.situations
    return 400 <= step.status < 500 and (undefined or step.exchange.probe == "identity:malformed")


def constant_places(operation: Operation) -> list[tuple[str, Place]]:
    """Return the places of the constants, such as error codes, that distinguish an operation's responses."""
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
    """Return the constants in which a response differs from a situation's example; absent values do not differ."""
    example = message_of((), contract.schemas.at(situation.example_at))
    received = message_of((), step.value)
    found = []
    for name, place in constant_places(operation):
        pair = (place.get(example), place.get(received))
        # An error code that is left out, or null, contradicts nothing; only another code does.
        if pair[0] != pair[1] and not {type(None), type(MISSING)} & set(map(type, pair)):
            found.append((name, place))
    return found


def refused_as(trace: AnnotatedTrace, step: Step, name: str, also: Iterable[str] = ()) -> list[Breach]:
    """Check a refusal against the expected situation and its alternatives; empty if it matches one of them.

    If the contract defines none of these situations, there is nothing to check: no document describes the refusal.
    """
    contract, operation = trace.contract, operation_of(trace, step)
    found = [one for wanted in (name, *also) if (one := find_situation(operation, wanted)) is not None]
    alike = [one for one in found if one.status == step.status]
    if not found or any(not differing_constants(contract, operation, one, step) for one in alike):
        return []
    probe = step.exchange.probe or "the request"
    # The message names the closest situation: the same error code first, then the same status.
    right = next(
        (one for one in found if not differing_constants(contract, operation, one, step)), (*alike, found[0])[0]
    )
    breaches = []
    if right.status != step.status:
        home = home_of(contract, operation, right.name)
        message = f"{label(step)}: {probe} is refused with {step.status}; documented: {right.status} ({right.name})"
        patch = replaced_status(contract, home, step.status)
        breaches.append(Breach(message, statuses(contract, operation, found), step.status, patch))
    # The code may be documented although the status is assumed, and the other way round: each is judged alone.
    for _, place in differing_constants(contract, operation, right, step)[:1]:
        received = place.get(message_of((), step.value))
        at = right.example_at + body_pointer(place)
        wanted = contract.schemas.at(at)
        message = f"{label(step)}: {probe} is refused as {received!r}; documented: {wanted!r} ({right.name})"
        breaches.append(Breach(message, (at, home_of(contract, operation, right.name)), received))
    return breaches


def statuses(contract: Contract, operation: Operation, situations: Iterable[Situation]) -> tuple[str, ...]:
    """Return the places that define the statuses of situations."""
    return tuple(f"{home_of(contract, operation, one.name)}/status" for one in situations)


def replaced_status(contract: Contract, home: str, status: int) -> tuple[dict[str, Any], ...]:
    """Return the JSON patch that gives the situation at a place another status."""
    return set_in_lifecycle(contract, f"{home.partition('#')[2]}/status", status)


def set_in_lifecycle(contract: Contract, pointer: str, value: Any) -> tuple[dict[str, Any], ...]:
    """Return the JSON patch that sets a place of lifecycle.json, and adds the objects around it that the file omits."""
    steps, file = parse_pointer(pointer), LIFECYCLE.removesuffix("#")
    if resolve(contract.written, steps) is not MISSING:
        return ({"file": file, "op": "replace", "path": pointer, "value": value},)
    # RFC 6902 adds a member only to an object that exists: the first missing one is added with all inside it.
    depth = next(depth for depth in range(1, len(steps) + 1) if resolve(contract.written, steps[:depth]) is MISSING)
    for name in reversed(steps[depth:]):
        value = {name: value}
    return ({"file": file, "op": "add", "path": format_pointer(steps[:depth]), "value": value},)


def merged_patch(operations: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return operations that can be applied one after the other: operations that add one place become one operation."""
    found: dict[tuple[Any, Any], dict[str, Any]] = {}
    for operation in operations:
        place = (operation.get("file"), operation.get("path"))
        known = found.get(place)
        # Two rules may learn the same fact, or two facts inside an object that the file leaves out.
        value = operation.get("value") if known is None else _merged(known.get("value"), operation.get("value"))
        found[place] = {**operation, "value": value}
    return list(found.values())


def _merged(one: Any, other: Any) -> Any:
    if not isinstance(one, dict) or not isinstance(other, dict):
        return other
    return {**one, **{name: _merged(one.get(name), value) for name, value in other.items()}}


def body_of(step: Step) -> Any:
    """Return a request's body as JSON, or MISSING if it is not valid JSON."""
    return as_json(step.exchange.body)


def body_pointer(place: Place) -> str:
    """Return the JSON Pointer of a place in a body."""
    return format_pointer(place.pointer)


def binding_places(contract: Contract, operation: Operation, name: str) -> tuple[str, ...]:
    """Return the places that define a value's location in an operation's messages."""
    own = f"{LIFECYCLE}{format_pointer(('operations', operation.role, 'bindings', name))}"
    common = f"{LIFECYCLE}{format_pointer(('bindings', name))}"
    return tuple(at for at in (own, common) if contract.schemas.at(at) is not MISSING)


def bound_at(contract: Contract, operation: Operation, name: str, step: Step) -> tuple[str, ...]:
    """Return the places that define a value's location in a response, its format, and its possible values."""
    # Every place that could be wrong is named: an assumption at any of them makes the breach a lesson.
    names = step.reading.situations
    homes = [home_of(contract, operation, situation) for situation in names]
    found = [*binding_places(contract, operation, name), *example_places(contract, operation, name, step), *homes]
    return tuple(dict.fromkeys(found))


def example_places(contract: Contract, operation: Operation, name: str, step: Step) -> tuple[str, ...]:
    """Return the places of a value in the examples of the situations that a response may be."""
    found = []
    for situation in map(operation.situations.__getitem__, step.reading.situations):
        for place in operation.bindings[name].response:
            at = situation.example_at + body_pointer(place)
            if place.part == "body" and contract.schemas.at(at) is not MISSING:
                found.append(at)
    return tuple(dict.fromkeys(found))


def presence_places(contract: Contract, places: Iterable[str]) -> tuple[str, ...]:
    """Return what documents that a value is present: for each of its places in examples, the object around it.

    An assumption about a value alone leaves its presence documented. If the whole object is assumed, another example
    of the same message may show the value all the same.
    """
    return tuple(dict.fromkeys(_documented_around(contract, place) for place in places))


def _documented_around(contract: Contract, place: str) -> str:
    """Return the object around a value, in the first example with the value that no assumption covers."""
    around, examples = place.rpartition("/")[0], "/examples/"
    home, _, rest = place.partition(examples)
    _, _, inside = rest.partition("/")
    others = contract.schemas.at(home + examples.removesuffix("/"))
    for name in others if isinstance(others, dict) else ():
        other = f"{home}{examples}{format_pointer((name,))[1:]}/{inside}"
        if contract.schemas.at(other) not in (MISSING, None, "") and not contract.assumption(other.rpartition("/")[0]):
            return around if not contract.assumption(around) else other.rpartition("/")[0]
    return around


KindEvidence = Iterator[Observed | tuple[Hashable, Breach]]
"""Evidence of a check that names the kind of each breach: the parts in which repetitions are alike."""
KindCheck = Callable[[AnnotatedTrace], KindEvidence]


def one_per_kind(check: KindCheck) -> Check:
    """Report the first breach of each kind, and count the others in its message; placed under `@rule`."""

    @wraps(check)
    def counted(trace: AnnotatedTrace) -> Evidence:
        kinds: dict[Hashable, list[Breach]] = {}
        # A server that breaks a rule does so in most responses; a report of all of them would hide the other kinds.
        for one in check(trace):
            if isinstance(one, Observed):
                yield one
            else:
                kinds.setdefault(one[0], []).append(one[1])
        for first, *more in kinds.values():
            times = f" (and {len(more)} more {'time' if len(more) == 1 else 'times'})" if more else ""
            yield replace(first, message=first.message + times)

    return counted


def first_of_kind(check: KindCheck) -> Check:
    """Report the first breach of each kind and drop the others; placed under `@rule`."""

    @wraps(check)
    def filtered(trace: AnnotatedTrace) -> Evidence:
        reported: set[Hashable] = set()
        # Every poll repeats the same fact, so a count would only say how often the job was polled.
        for one in check(trace):
            if isinstance(one, Observed):
                yield one
            elif one[0] not in reported:
                reported.add(one[0])
                yield one[1]

    return filtered
