"""The rule about echoes: a value that a contract binds in a request and in a response is the same in both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from hobbyhorse.conformance.rule import MUST, OBSERVED, Breach, rule
from hobbyhorse.conformance.server.expected import (
    KindEvidence,
    binding_places,
    body_of,
    label,
    one_per_kind,
    operation_of,
)
from hobbyhorse.contract.forms.expressions import MISSING, Message, resolve
from hobbyhorse.contract.reading import as_json, message_of, read_callback
from hobbyhorse.contract.values import Binding, Contract, Operation
from hobbyhorse.traces.annotated import AnnotatedTrace, Step
from hobbyhorse.traces.orders import making, own
from hobbyhorse.traces.submissions import path_values

# The values of a submission that later responses about its job repeat.
REPEATED = ("model", "callback_url", "client_ref", "metadata", "input")
# The values of a request that its own response repeats.
ANSWERED = ("page", "size", "offset", "model", *REPEATED[1:])
CALLBACKS = "lifecycle.json#/callbacks"


@rule(
    "SHA-05",
    "echo",
    level=MUST,
    severity="S2",
    says="A value that the contract has in a request and in a response is the same in both: the model, the page and "
    "its size, metadata, the input.",
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
        yield from _compared(trace.contract, operation, step, _sent(trace, step, ANSWERED))
        made = making(trace, step.job)
        # Another account's view of a job is no echo of a submission.
        if made is not None and made is not step and step.role in ("status", "result") and own(trace, step):
            sent = _sent(trace, made, REPEATED)
            yield from _compared(trace.contract, operation, step, sent)
    yield from _called_back(trace)


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
