"""Rules about requests: they are valid against the contract, and carry the caller's order. Knows no server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from hobbyhorse.conformance.rule import MUST, OBSERVED, OUTCOME, SHOULD, VIDEO, WIRE, Breach, Evidence, rule
from hobbyhorse.contract.formats import whole_number
from hobbyhorse.contract.forms.expressions import MISSING, Message, replaced, resolve
from hobbyhorse.contract.forms.nearest import nearest
from hobbyhorse.contract.request import Refusal, documented_form, find_model, read_body, read_order, read_parameters
from hobbyhorse.contract.values import Contract, Model, Operation
from hobbyhorse.scenarios.fault import ADDS
from hobbyhorse.scenarios.registry import names_used_for
from hobbyhorse.traces.annotated import SUBMISSIONS, AnnotatedTrace, Step
from hobbyhorse.traces.exchange import API_KEY, BODY, HEADERS
from hobbyhorse.traces.submissions import path_values

# Bytes of a request's body that every recorder keeps; a body of this length or more may be truncated.
KEPT_BYTES = 64 * 1024
# The statuses of a refusal for which a server has read the body.
REFUSED_BODY = frozenset({400, 411, 415, 422})
# The faults after which a response still means the same.
HARMLESS = names_used_for(ADDS)


@dataclass(frozen=True, slots=True)
class DocumentedSubmission:
    """A submission with its model, its alternative forms rewritten into the documented form."""

    operation: Operation
    message: Message
    model: Model
    parameters: Any


@rule(
    "SCH-01",
    "request-valid",
    level=MUST,
    severity="S2",
    channel=WIRE,
    says="Every request conforms to the documentation: its URL, its parameters, and each field of its body.",
    because="A value out of bounds was refused, and the refusal was swallowed as an empty response "
    "(anomaliaso/anomalia#68); a client's types lacked documented fields (fal-ai/fal-js#130).",
    fix="Compare the URL, the headers and the body of the named request with the provider's documentation, and send "
    "what it documents.",
    example="submit",
)
def request_valid(trace: AnnotatedTrace) -> Evidence:
    for step in trace.steps:
        if trace.origin(step) not in trace.homes or step.role == "media":
            continue
        # A submission without its body in the recording may be valid or not.
        if step.role not in SUBMISSIONS or step.exchange.has(BODY):
            yield OBSERVED
        if step.role is None:
            if trace.origin(step) == trace.home and not _given(trace, step) and not _without_id(trace, step):
                yield Breach(f"request {step.number} {_unmatched(trace, step)}")
        elif step.role in SUBMISSIONS and not _validly_requested(trace, step):
            continue  # the caller's own request is invalid: the client may pass it on
        elif (refusal := refused(trace, step)) is not None:
            yield Breach(f"request {step.number} ({step.role}) violates the contract: {refusal.message or refusal}")


def _without_id(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether a request is about a job to which the provider gave an empty id: its URL lacks nothing else."""
    path = urlsplit(step.exchange.url).path
    if not (path.endswith("/") or "//" in path):
        return False
    before = (one for one in trace.submits if one.number < step.number and one.ok)
    return any(one.reading.values.get("job") == "" for one in before)


def _unmatched(trace: AnnotatedTrace, step: Step) -> str:
    """Describe a request that matches no operation, and name the closest operation."""
    method, where = step.exchange.method, urlsplit(step.exchange.url).path
    path = where.removeprefix(urlsplit(trace.trace.base).path.rstrip("/"))
    meant = nearest(trace.contract, method, path)
    return f"({method} {where[:200]}) matches no operation of the provider; closest: {meant}"


@rule(
    "SCH-02",
    "no-silent-truncation",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=WIRE,
    says="Send the requested prompt in full, or send nothing.",
    because="A truncated prompt produces another video, and the records describe a prompt that was never sent: "
    "openstory-so/openstory#1754, ShinChven/remix-studio#15.",
    fix="Remove the code that cuts the prompt: send it in full, or raise an error if it is longer than the documented "
    "limit.",
    example="new",
)
def no_silent_truncation(trace: AnnotatedTrace) -> Evidence:
    for step, sent in _read(trace):
        # Concurrent runs have different prompts; the submission may carry any of them.
        wanted = [text for text in _requested(trace, step, sent, "prompt") if isinstance(text, str)]
        if not wanted:
            continue
        yield OBSERVED
        got = value_of(sent, sent.parameters, "prompt")
        if got not in wanted:
            yield Breach(f"request {step.number} sends {_text(got)}; requested: {_text(wanted[-1])}")


@rule(
    "SCH-03",
    "additive-tolerance",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="Do not fail because of new fields, or because fields are in another order.",
    because="A provider may add fields at any time; a client that compares responses too strictly loses existing "
    "videos, as with a Content-Type in OpenRouterTeam/python-sdk#175.",
    fix="Read the needed members by their names and ignore all others: no strict models that forbid extra members, no "
    "positions.",
    example="Answer.text",
)
def additive_tolerance(trace: AnnotatedTrace) -> Evidence:
    steps, outcome = trace.steps, trace.outcome
    harmless = [step for step in steps if step.exchange.move in HARMLESS and step.ok]
    if outcome is None or not harmless or not all(_fine(step) for step in steps) or len(trace.runs) != 1:
        return
    if any(step.failure for step in steps) or any(one.kind != "genuine" or one.note for one in trace.deliveries):
        return
    last, shown = steps[-1], [step for step in steps if step.success and step.video]
    # A run that had its video, or stopped directly at the new form, has no other reason to fail.
    whole = bool(shown) and last in trace.fetches and last.status == 200
    early = last.under_way and trace.waited < trace.patience / 2
    stopped = last in harmless and (last in shown or early or (last.role == "submit" and len(steps) == 1))
    if not whole and not stopped:
        return
    yield OBSERVED
    if outcome.kind in ("failed", "error"):
        moves = sorted({str(step.exchange.move) for step in harmless})
        yield Breach(f"the run ended as {outcome.kind!r} although the only fault was {' and '.join(moves)}")


@rule(
    "SCH-04",
    "numeric-units",
    level=SHOULD,
    severity="S3",
    channel=WIRE,
    says="Send every requested number unchanged, as a JSON number.",
    because="A duration that is omitted or changed is billed differently; fal-ai/fal-js#130 is about parameters that "
    "are not passed on.",
    fix="Send numbers as JSON numbers in the documented unit: no text, no rounding and no conversion.",
    example="new",
)
def numeric_units(trace: AnnotatedTrace) -> Evidence:
    for step, sent in _read(trace):
        requests = requested_parameters(trace, step, sent)
        ways = [list(_drifts(sent, requested)) for requested in requests if _numbers(sent, requested)]
        if ways:
            yield OBSERVED
        # Of several runs that may have sent it, one that matches acquits the client.
        if ways and all(ways):
            for drift in ways[-1]:
                yield Breach(f"request {step.number} sends {drift}")


@rule(
    "SCH-05",
    "required-headers",
    level=MUST,
    severity="S2",
    channel=WIRE,
    says="Send the headers that each operation requires: the key in the documented scheme, the Content-Type of the "
    "body, and the operation's own headers.",
    because="A download or a poll without the key is refused although the job exists: BerriAI/litellm#17016.",
    fix="Set the documented headers in one function that every request of the operation uses.",
    example="collect",
)
def required_headers(trace: AnnotatedTrace) -> Evidence:
    keys = [name for part, name, _ in trace.contract.security if part == "header"]
    recorded = frozenset(name for name in (*keys, "content-type") if _recorded(trace, name))
    for step in trace.steps:
        operation = trace.contract.operations.get(step.role or "")
        if operation is not None and trace.origin(step) in trace.homes and step.exchange.has(HEADERS):
            yield OBSERVED
            yield from _missing_headers(trace.contract, step, operation, recorded)


def _missing_headers(
    contract: Contract, step: Step, operation: Operation, recorded: frozenset[str]
) -> Iterator[Breach]:
    """Yield a breach for each header that a request lacks; `recorded` has the names that the trace would show."""
    for one in operation.parameters:
        if one.part == "header" and one.required and step.exchange.header(one.name) is None:
            yield Breach(f"request {step.number} ({step.role}) has no header {one.name}")
    keyed = any(name in recorded for part, name, _ in contract.security if part == "header")
    if operation.authenticated and keyed and step.exchange.has(API_KEY) and not _authenticated(contract, step):
        ways = " or ".join(f"{name}: {before}..." for _, name, before in contract.security)
        yield Breach(f"request {step.number} ({step.role}) has no API key; expected: {ways}")
    if operation.body_schema is not None and step.exchange.body and "content-type" in recorded:
        kind = (step.exchange.header("content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            yield Breach(f"request {step.number} ({step.role}) has Content-Type {kind!r}; expected: application/json")


def _recorded(trace: AnnotatedTrace, name: str) -> bool:
    """Whether the trace would have a header if it had been sent: recorders omit secrets, or all headers."""
    return bool(trace.runs) or any(step.exchange.header(name) is not None for step in trace.steps)


def refused(trace: AnnotatedTrace, step: Step) -> Refusal | None:
    """Return why a provider would refuse a request regardless of the job's state; None if it would not."""
    operation = trace.contract.operations[step.role or ""]
    message = _message(trace, step, operation)
    if message is None or isinstance(message, Refusal):
        return message if message is None or step.exchange.has(HEADERS) else None
    if operation.role not in SUBMISSIONS or not _whole(trace, step):
        return None
    # Some recorders omit the type of a body: that is not the client's mistake.
    known = _recorded(trace, "content-type") and step.exchange.has(HEADERS)
    kind = step.exchange.header("content-type") if known else "application/json"
    body = read_body(kind, step.exchange.body)
    if isinstance(body, Refusal):
        return body
    understood = read_order(trace.contract, operation, replace(message, body=body))
    return understood if isinstance(understood, Refusal) else None


def sent_by(trace: AnnotatedTrace, step: Step) -> DocumentedSubmission | None:
    """Return a submission in its documented form, or None if it cannot be read."""
    operation = trace.contract.operations[step.role or ""]
    message = _message(trace, step, operation)
    if message is None or isinstance(message, Refusal) or not _whole(trace, step):
        return None
    body = read_body("application/json", step.exchange.body)
    if isinstance(body, Refusal):
        return None
    return _documented(trace.contract, operation, replace(message, body=body))


def requested_parameters(trace: AnnotatedTrace, step: Step, sent: DocumentedSubmission) -> list[Any]:
    """Return the requested parameters of each run that may have sent a submission, the latest run last."""
    found = []
    for run in trace.runs:
        ended = run.outcome.ended if run.outcome is not None else None
        # A run that had not started, or had ended, did not send it.
        if run.request is None or run.started > step.arrived or (ended is not None and ended < step.arrived):
            continue
        requested = _documented(trace.contract, sent.operation, replace(sent.message, body=run.request))
        found.append(run.request if requested is None or requested.parameters is MISSING else requested.parameters)
    return found


def value_of(sent: DocumentedSubmission, parameters: Any, name: str) -> Any:
    """Return a parameter's value by its name in the contract, or MISSING."""
    places = sent.model.parameters.get(name, ())
    return resolve(parameters, places[0]) if places else MISSING


def _message(trace: AnnotatedTrace, step: Step, operation: Operation) -> Message | Refusal | None:
    """Return a request's parameters without its body; None if its URL is not the operation's."""
    values = path_values(operation, step.exchange.url, trace.bases)
    if values is None:
        return None
    query = dict(parse_qsl(urlsplit(step.exchange.url).query, keep_blank_values=True))
    return read_parameters(trace.contract, operation, values, query, step.exchange.header)


def _whole(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether the trace has the complete body. The server may have responded early, or kept only a part."""
    body, exchange = step.exchange.body, step.exchange
    if not exchange.has(BODY):
        return False
    # A declared length decides; a chunked body is complete if the response was.
    length = whole_number(exchange.header("content-length") or "")
    if length is not None:
        return length <= len(body)
    if body:
        return len(body) < KEPT_BYTES and (step.delivered or exchange.header("transfer-encoding") is None)
    # An empty body is known to be empty if the server read it, and refused it. Some recorders omit all bodies.
    return bool(trace.runs) and step.delivered and step.status in REFUSED_BODY


def _documented(contract: Contract, operation: Operation, message: Message) -> DocumentedSubmission | None:
    """Rewrite a submission's alternative forms into the documented form; None if that fails."""
    documented = documented_form(operation, message)
    if isinstance(documented, Refusal):
        return None
    message, _ = documented
    model = find_model(contract, operation, message)
    if isinstance(model, Refusal):
        return None
    return DocumentedSubmission(operation, message, model, operation.model_parameters.get(message))


def _validly_requested(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether every request that a submission may carry is valid itself, or unknown."""
    operation = trace.contract.operations[step.role or ""]
    message = _message(trace, step, operation)
    if message is None or isinstance(message, Refusal):
        message = Message({}, {}, step.exchange.header)
    runs = [run.request for run in trace.runs if run.started <= step.arrived]
    return all(requested is None or _valid(trace, operation, message, requested) for requested in runs)


def _valid(trace: AnnotatedTrace, operation: Operation, message: Message, requested: Mapping[str, Any]) -> bool:
    if not isinstance(read_order(trace.contract, operation, replace(message, body=requested)), Refusal):
        return True
    # The caller may have given the parameters alone, which the client wraps.
    wrapped = replaced({}, operation.model_parameters.pointer, dict(requested))
    return not isinstance(read_order(trace.contract, operation, replace(message, body=wrapped)), Refusal)


def _read(trace: AnnotatedTrace) -> Iterator[tuple[Step, DocumentedSubmission]]:
    for step in trace.submits:
        if trace.origin(step) in trace.homes and (sent := sent_by(trace, step)) is not None:
            yield step, sent


def _requested(trace: AnnotatedTrace, step: Step, sent: DocumentedSubmission, name: str) -> list[Any]:
    return [value_of(sent, parameters, name) for parameters in requested_parameters(trace, step, sent)]


def _numbers(sent: DocumentedSubmission, requested: Any) -> dict[str, float]:
    values = {name: value_of(sent, requested, name) for name in sent.model.parameters}
    return {name: value for name, value in values.items() if _is_number(value)}


def _drifts(sent: DocumentedSubmission, requested: Any) -> Iterator[str]:
    """Yield the differences between the submitted and the requested numbers."""
    for name, wanted in _numbers(sent, requested).items():
        got = value_of(sent, sent.parameters, name)
        if got is MISSING:
            yield f"no {name}; requested: {wanted!r}"
        elif not _is_number(got) or got != wanted:
            yield f"{name} as {got!r}; requested: {wanted!r}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        return "no prompt" if value is MISSING else f"a prompt of type {type(value).__name__}"
    return f"a prompt of {len(value)} characters that ends in {value[-20:]!r}"


def _fine(step: Step) -> bool:
    """Whether a response was ordinary, apart from new or reordered fields."""
    if step.exchange.move is not None and step.exchange.move not in HARMLESS:
        return False
    return step.ok and (step.role == "media" or step.exchange.move is not None or step.valid)


def _authenticated(contract: Contract, step: Step) -> bool:
    query = dict(parse_qsl(urlsplit(step.exchange.url).query, keep_blank_values=True))
    for part, name, before in contract.security:
        text = (step.exchange.header(name) if part == "header" else query.get(name)) or ""
        if text[: len(before)].lower() == before and text[len(before) :].strip():
            return True
    return not contract.security


def _given(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether an earlier response gave the URL of a request."""
    if trace.unread_before(step):
        return True
    address = step.exchange.url.encode()
    for other in trace.steps[: step.number - 1]:
        location = other.exchange.answer_header("location") or ""
        if other.delivered and (address in other.exchange.answer or address.decode().endswith(location or "\n")):
            return True
    return False
