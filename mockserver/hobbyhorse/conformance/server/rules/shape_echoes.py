"""Rules about values that depend on the request: echoes, the status in a body, and members that were requested."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from hobbyhorse.conformance.rule import MUST, OBSERVED, SHOULD, Breach, rule
from hobbyhorse.conformance.server.expected import (
    KindEvidence,
    binding_places,
    body_of,
    label,
    member_schema,
    one_per_kind,
    operation_of,
    responses_of,
    schema_of,
)
from hobbyhorse.contract.forms.expressions import MISSING, Message, Place, Pointer, format_pointer, resolve
from hobbyhorse.contract.reading import as_json, message_of, read_callback
from hobbyhorse.contract.values import Binding, Contract, Operation, Situation
from hobbyhorse.traces.annotated import AnnotatedTrace, Step
from hobbyhorse.traces.orders import making, order_of, own
from hobbyhorse.traces.submissions import path_values

# The values of a submission that later responses about its job repeat.
REPEATED = ("model", "callback_url", "client_ref", "metadata", "input")
# The values of a request that its own response repeats.
ANSWERED = ("page", "size", "offset", "model", *REPEATED[1:])
# The lowest status of a refusal (RFC 9110, section 15.5).
REFUSED = 400
CALLBACKS = "lifecycle.json#/callbacks"
# Refusals with equal statuses do not show whether a number in their bodies is the status.
FEW_STATUSES = 2
# The words of a member that a response has only if the submission had it.
ONLY_IF_SENT = re.compile(r"\bonly (if|when) the (request|submission) (had|has|named|names|sent)\b", re.IGNORECASE)


def _on_request(contract: Contract) -> bool:
    situations = [one for operation in contract.operations.values() for one in operation.situations.values()]
    return any(one.when for one in situations) or any(_texts(contract))


def _texts(contract: Contract) -> Iterator[str]:
    """Yield the schemas of members that depend on the submission."""
    for role in ("status", "result"):
        operation = contract.operations.get(role)
        if operation is not None:
            for status in {one.status for one in operation.situations.values() if one.stages}:
                yield from (schema for _, schema in _sent_members(contract, operation, status))


@rule(
    "SHA-05",
    "echo",
    level=MUST,
    severity="S2",
    says="A value that the contract has in a request and in a response is the same in both: the model, the page and "
    "its size, metadata, the input, the seed.",
    because="A client finds its own record by the metadata, and the next page by the number of this one.",
    fix="Copy the values of the request into the record of the job, and return them from there unchanged.",
)
@one_per_kind
def echo(trace: AnnotatedTrace) -> KindEvidence:
    """Compare the values of a request with its response, and of a submission with reads and callbacks."""
    for step in trace.steps:
        if step.role not in trace.contract.operations or not step.ok or step.value is MISSING:
            continue
        operation = operation_of(trace, step)
        # A server that takes a page beyond a bound, and no document says that it must not, may lead back to the bound.
        if step.exchange.expected != "invalid_request":
            yield from _compared(trace.contract, operation, step, _sent(trace, step, ANSWERED))
        made = making(trace, step.job)
        # Another account's view of a job is no echo of a submission.
        if made is not None and made is not step and step.role in ("status", "result") and own(trace, step):
            sent = _sent(trace, made, REPEATED)
            yield from _compared(trace.contract, operation, step, sent)
        yield from _seeds(trace, step, made)
    yield from _called_back(trace)


def _seeds(trace: AnnotatedTrace, step: Step, made: Step | None) -> KindEvidence:
    """Compare each member of a response that is named like the ordered seed with it."""
    order = order_of(trace, made) if made is not None and own(trace, step) else None
    for pointer in order.model.parameters.get("seed", ()) if order is not None else ():
        assert made is not None
        sent = resolve(operation_of(trace, made).model_parameters.get(message_of((), body_of(made))), pointer)
        if not isinstance(sent, int) or isinstance(sent, bool):
            continue
        for place, received in _named(step.value, pointer[-1]):
            yield OBSERVED
            if isinstance(received, int | float) and received != sent:
                message = f"{label(step)}: {format_pointer(place)} is {received}; ordered: {sent}"
                yield (step.role, place), Breach(message, (), received)


def _named(value: Any, name: str, at: Pointer = ()) -> Iterator[tuple[Pointer, Any]]:
    """Yield the members of a JSON value that have a name, with their places."""
    if isinstance(value, dict):
        for key, one in value.items():
            if key == name:
                yield (*at, key), one
            yield from _named(one, name, (*at, key))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _named(one, name, (*at, str(number)))


def _sent(trace: AnnotatedTrace, step: Step, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the bound values of a request."""
    operation = operation_of(trace, step)
    query = dict(parse_qsl(urlsplit(step.exchange.url).query))
    path = path_values(operation, step.exchange.url, trace.bases) or {}
    message = Message(path, query, step.exchange.header, body_of(step))
    found = {}
    for name in names:
        binding = operation.bindings.get(name)
        places = binding.request if binding is not None else ()
        value = next((one for place in places if (one := place.get(message)) is not MISSING), MISSING)
        if value is not MISSING and value is not None:
            found[name] = value
    return found


def _compared(contract: Contract, operation: Operation, step: Step, sent: Mapping[str, Any]) -> KindEvidence:
    """Compare the sent values with the values in a response."""
    for name, value in sent.items():
        binding = operation.bindings.get(name)
        received = _received(binding, step) if binding is not None else MISSING
        if received is MISSING:
            continue
        yield OBSERVED
        if not alike(contract, name, value, received):
            message = f"{label(step)}: {name} is {received!r}; sent: {value!r}"
            # Both sides must be documented: the place in the request, and the place in the response.
            submit = contract.operations["submit"]
            places = (*binding_places(contract, operation, name), *binding_places(contract, submit, name))
            yield (step.role, name), Breach(message, tuple(dict.fromkeys(places)), received)


def _received(binding: Binding, step: Step) -> Any:
    """Return the value of a response; MISSING if it has no place for the value, or lacks an object around it."""
    message = message_of(step.exchange.answer_headers, step.value)
    places = [place for place in binding.response if place.part == "body"]
    found = next((one for place in places if (one := place.get(message)) is not MISSING), MISSING)
    has_room = any(isinstance(resolve(step.value, place.pointer[:-1]), dict) for place in places)
    return None if found is MISSING and has_room else found


def alike(contract: Contract, name: str, sent: Any, received: Any) -> bool:
    """Whether a response repeats a value: a number in a query is a text, and a response may add to an object."""
    if name == "model":
        known = contract.model(str(sent))
        # A response may add the route, and may use an alias.
        named = str(received).partition("@")[0]
        return known is None or named in (known.id, *known.aliases)
    if isinstance(sent, dict) and isinstance(received, dict):
        pairs = ((received.get(member, MISSING), value) for member, value in sent.items())
        return all(_same(one, value) for one, value in pairs)
    return _same(received, sent)


def _same(received: Any, sent: Any) -> bool:
    if isinstance(sent, str) and isinstance(received, int) and not isinstance(received, bool):
        return sent == str(received)
    # A provider may copy an input file, and then shows the copy's URL.
    if isinstance(sent, str) and isinstance(received, str) and sent.startswith(("http://", "https://", "data:")):
        return bool(received)
    return bool(received == sent) and isinstance(received, bool) == isinstance(sent, bool)


def _called_back(trace: AnnotatedTrace) -> KindEvidence:
    """Compare the values of submissions with the callbacks of their jobs."""
    callbacks = trace.contract.callbacks
    if callbacks is None:
        return
    for delivery, values in _callback_values(trace):
        made = making(trace, delivery)
        sent = _sent(trace, made, REPEATED) if made is not None else {}
        for name in sent:
            if name not in callbacks.bindings or name == "callback_url":
                continue
            yield OBSERVED
            received = values.get(name, MISSING)
            if not alike(trace.contract, name, sent[name], received):
                message = f"a callback for job {delivery} has {name} {received!r}; sent: {sent[name]!r}"
                yield ("callback", name), Breach(message, (f"{CALLBACKS}/bindings/{name}",), str(received))


def _callback_values(trace: AnnotatedTrace) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the job and the values of each genuine callback."""
    callbacks = trace.contract.callbacks
    for one in trace.trace.deliveries if callbacks is not None else ():
        assert callbacks is not None
        if one.kind == "genuine" and one.job is not None and (body := as_json(one.body)) is not MISSING:
            yield one.job, read_callback(trace.contract.schemas, callbacks, message_of(one.headers, body)).values


@rule(
    "SHA-06",
    "status-repeated",
    level=MUST,
    severity="S3",
    says="A refusal whose body repeats the HTTP status, by the examples, has the same number in both.",
    because="A client behind a library that hides the status reads the number in the body, and takes a refusal for a "
    "success.",
    fix="Write the number in the body from the status of the response, in the function that sends both.",
)
@one_per_kind
def status_repeated(trace: AnnotatedTrace) -> KindEvidence:
    """Compare the number in the body of each refusal with its status."""
    for step in trace.steps:
        if step.role not in trace.contract.operations or not step.delivered or step.status < REFUSED:
            continue
        operation = operation_of(trace, step)
        for pointer in _status_places(trace.contract, operation):
            told = resolve(step.value, pointer)
            if isinstance(told, bool) or not isinstance(told, int):
                continue
            yield OBSERVED
            if told != step.status:
                alike = [one for one in operation.situations.values() if one.status == step.status]
                places = tuple(one.example_at + format_pointer(pointer) for one in alike)
                message = f"{label(step)}: the status is {step.status}, but {'.'.join(pointer)} is {told}"
                yield (step.role, step.status), Breach(message, places or (responses_of(operation),), told)


def _status_places(contract: Contract, operation: Operation) -> list[Pointer]:
    """Return the members of refusals that are equal to the status in each example."""
    refusals = [one for one in operation.situations.values() if one.status >= REFUSED]
    if len({one.status for one in refusals}) < FEW_STATUSES:
        return []
    examples = [(one.status, contract.schemas.at(one.example_at)) for one in refusals]
    names = {name for _, example in examples if isinstance(example, dict) for name in example}
    return [(name,) for name in sorted(names) if all(resolve(one, (name,)) == status for status, one in examples)]


@rule(
    "SHA-07",
    "on-request",
    level=SHOULD,
    severity="S4",
    applies=_on_request,
    says="A member that has to be requested is in the response if it was requested, and in no other response.",
    because="A client takes a route that it did not choose for its own choice, and a list is ten times as large as it "
    "has to be.",
    fix="Add the member in the branch that reads the parameter, and nowhere else.",
)
@one_per_kind
def on_request(trace: AnnotatedTrace) -> KindEvidence:
    """Find members that were not requested, and requested ones that are missing."""
    for step in trace.steps:
        if step.role not in trace.contract.operations or not step.ok or step.value is MISSING:
            continue
        operation = operation_of(trace, step)
        for situation in operation.situations.values():
            if situation.when and situation.status == step.status:
                yield from _as_requested(trace, operation, situation, step)
        if step.role in ("status", "result") and own(trace, step):
            yield from _as_sent(trace, operation, step)


def _as_requested(trace: AnnotatedTrace, operation: Operation, situation: Situation, step: Step) -> KindEvidence:
    """Compare the members that only one situation's example has with the request for it."""
    contract, wanted = trace.contract, _is_requested(situation, step)
    for pointer in _further_members(contract, operation, situation) if wanted is not None else ():
        at = situation.example_at + format_pointer(pointer)
        found = [one for one in _each(step.value, pointer) if one is not MISSING and one is not None]
        bound = [
            name for name, one in operation.bindings.items() if any(_is_at(place, pointer) for place in one.response)
        ]
        places = (at, *(place for name in bound for place in binding_places(contract, operation, name)))
        yield OBSERVED
        if found and not wanted:
            yield (
                (step.role, pointer),
                Breach(f"{label(step)}: {'.'.join(pointer)} was not requested", places, found[0]),
            )
        elif wanted and not found and situation.name in step.reading.situations and _each(step.value, pointer):
            yield (
                (step.role, pointer),
                Breach(f"{label(step)}: {'.'.join(pointer)} was requested, but is missing", places),
            )


def _is_at(place: Place, pointer: Pointer) -> bool:
    return place.part == "body" and place.pointer == pointer


def _is_requested(situation: Situation, step: Step) -> bool | None:
    """Whether a request has the values that select a situation; None if it has other values in these places."""
    query = dict(parse_qsl(urlsplit(step.exchange.url).query))
    found = [(query.get(place.name), _written(value)) for place, value in situation.when if place.part == "query"]
    if len(found) < len(situation.when) or any(one not in (None, wanted) for one, wanted in found):
        return None
    return all(one is not None for one, _ in found)


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _further_members(contract: Contract, operation: Operation, situation: Situation) -> list[Pointer]:
    """Return the outermost members that an example has, and no example without a condition."""
    plain = [one for one in operation.situations.values() if not one.when and one.status == situation.status]
    examples = [contract.schemas.at(one.example_at) for one in plain]
    example = contract.schemas.at(situation.example_at)
    return list(_only_in(example, examples, ())) if examples else []


def _only_in(example: Any, others: list[Any], at: Pointer) -> Iterator[Pointer]:
    inner = resolve(example, at)
    names = list(inner) if isinstance(inner, dict) else ["0"] if isinstance(inner, list) and inner else []
    for name in names:
        here = (*at, name)
        if all(resolve(one, here) is MISSING for one in others):
            # An item that other examples lack is a longer list, not another form of the response.
            yield from () if name == "0" else (here,)
        else:
            yield from _only_in(example, others, here)


def _each(value: Any, pointer: Pointer) -> list[Any]:
    """Return the values at a place; "0" stands for every item of a list."""
    if not pointer:
        return [value]
    name, *rest = pointer
    if name == "0":
        return [found for one in value for found in _each(one, tuple(rest))] if isinstance(value, list) else []
    if not isinstance(value, dict):
        return []
    return _each(value[name], tuple(rest)) if name in value else [MISSING]


def _as_sent(trace: AnnotatedTrace, operation: Operation, step: Step) -> KindEvidence:
    """Compare the members that a response has only if its submission had them, by the words of the schema."""
    made = making(trace, step.job)
    body = body_of(made) if made is not None else MISSING
    if not isinstance(body, dict):
        return
    for pointer, schema in _sent_members(trace.contract, operation, step.status):
        sent, received = body.get(pointer[-1]), resolve(step.value, pointer)
        received = None if received is MISSING else received
        yield OBSERVED
        if received != sent:
            places = (schema, f"{schema}/description")
            message = f"{label(step)}: {'.'.join(pointer)} is {received!r}; sent: {sent!r}"
            yield (step.role, pointer), Breach(message, places, received)


def _sent_members(contract: Contract, operation: Operation, status: int) -> Iterator[tuple[Pointer, str]]:
    """Yield the members of a job that are documented as repeated from its submission, each with its schema."""
    schema = schema_of(contract, operation, status)
    for place in operation.bindings["job"].response if schema is not None and "job" in operation.bindings else ():
        around = member_schema(contract, schema or "", place.pointer[:-1])
        members = contract.schemas.at(f"{around}/properties") if around is not None else None
        for name, one in members.items() if isinstance(members, dict) else ():
            if isinstance(one, dict) and ONLY_IF_SENT.search(str(one.get("description", ""))):
                yield (*place.pointer[:-1], name), f"{around}{format_pointer(('properties', name))}"
