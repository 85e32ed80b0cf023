"""Rules about requests: what is sent is what the documents allow, and what was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from hobbyhorse.conformance.client.rule import Rule
from hobbyhorse.contract.folder import path_names
from hobbyhorse.contract.forms.expressions import MISSING, ExpressionError, Message, replaced, resolve
from hobbyhorse.contract.forms.nearest import nearest
from hobbyhorse.contract.request import Refusal, find_model, read_body, read_order, read_parameters
from hobbyhorse.contract.values import Contract, Model, Operation
from hobbyhorse.traces.annotated import SUBMISSIONS, AnnotatedTrace, Step

KEPT_BYTES = 64 * 1024
"""How much of a request's body a trace is sure to have."""
HARMLESS = frozenset({"extra_field", "reordered"})


@dataclass(frozen=True, slots=True)
class DocumentedSubmission:
    """A submission in the documented form, and its model; `message` is as it came, without its alternative forms."""

    operation: Operation
    message: Message
    model: Model
    parameters: Any


def request_valid(story: AnnotatedTrace) -> list[str] | None:
    """Hold every request to the provider against the documents, as the provider would read it."""
    found: list[str] = []
    seen = False
    for step in story.steps:
        if story.origin(step) not in story.homes or step.role == "media":
            continue
        seen = True
        if step.role is None:
            if story.origin(step) == story.home and not _told(story, step):
                found.append(f"request {step.number}, {_nowhere(story, step)}")
        elif step.role in SUBMISSIONS and not _asked_well(story, step):
            continue
        elif (refusal := refused(story, step)) is not None:
            found.append(f"request {step.number} ({step.role}) breaks the contract: {refusal.message or refusal}")
    return found if seen else None


def _nowhere(story: AnnotatedTrace, step: Step) -> str:
    """Say what a request that no operation takes comes nearest to."""
    method, where = step.exchange.method, urlsplit(step.exchange.url).path
    path = where.removeprefix(urlsplit(story.trace.base).path.rstrip("/"))
    meant = nearest(story.contract, method, path)
    return f"{method} {where[:200]}, is no operation of the provider; the nearest is {meant}"


def no_silent_truncation(story: AnnotatedTrace) -> list[str] | None:
    """Hold the prompts that were sent against those that were asked for."""
    found: list[str] = []
    seen = False
    for step, sent in _read(story):
        wanted = [text for text in _asked(story, step, sent, "prompt") if isinstance(text, str)]
        if not wanted:
            continue
        seen = True
        got = value_of(sent, sent.parameters, "prompt")
        if got not in wanted:
            found.append(f"request {step.number} sends {_text(got)}; asked was {_text(wanted[-1])}")
    return found if seen else None


def additive_tolerance(story: AnnotatedTrace) -> list[str] | None:
    """Look for a run that fails although nothing but the form of an answer was new."""
    steps, outcome = story.steps, story.outcome
    harmless = [step for step in steps if step.exchange.move in HARMLESS and step.ok]
    if outcome is None or not harmless or not all(_fine(step) for step in steps) or len(story.trace.runs) != 1:
        return None
    if any(step.failure for step in steps) or any(one.kind != "genuine" or one.note for one in story.trace.deliveries):
        return None
    last, shown = steps[-1], [step for step in steps if step.success and step.video]
    whole = bool(shown) and last in story.fetches and last.status == 200
    early = last.under_way and story.lasted < story.patience / 2
    stopped = last in harmless and (last in shown or early or (last.role == "submit" and len(steps) == 1))
    if not whole and not stopped:
        return None
    if outcome.kind in ("failed", "error"):
        moves = sorted({str(step.exchange.move) for step in harmless})
        return [f"the run ends as {outcome.kind!r} although all went well but for {' and '.join(moves)}"]
    return []


def numbers_are_kept(story: AnnotatedTrace) -> list[str] | None:
    """Hold the numbers that were sent against those that were asked for."""
    found: list[str] = []
    seen = False
    for step, sent in _read(story):
        ways = [list(_drifts(sent, asked)) for asked in asked_for(story, step, sent) if _numbers(sent, asked)]
        seen = seen or bool(ways)
        if ways and all(ways):
            found += [f"request {step.number} sends {drift}" for drift in ways[-1]]
    return found if seen else None


def required_headers(story: AnnotatedTrace) -> list[str] | None:
    """Look for the headers that each operation needs: its own, the key's, and what the body is."""
    found: list[str] = []
    seen = False
    keyed = any(_recorded(story, name) for part, name, _ in story.contract.security if part == "header")
    typed = _recorded(story, "content-type")
    for step in story.steps:
        operation = story.contract.operations.get(step.role or "")
        if operation is None or story.origin(step) not in story.homes:
            continue
        seen = True
        missing = [one.name for one in operation.parameters if one.part == "header" and one.required]
        found += [f"request {step.number} has no {name}" for name in missing if step.exchange.header(name) is None]
        if operation.authenticated and keyed and not _authenticated(story.contract, step):
            ways = " or ".join(f"{name}: {before}..." for _, name, before in story.contract.security)
            found.append(f"request {step.number} ({step.role}) gives no key; it is given as {ways}")
        if operation.body_schema is not None and step.exchange.body and typed:
            kind = (step.exchange.header("content-type") or "").partition(";")[0].strip().lower()
            if kind != "application/json" and not kind.endswith("+json"):
                found.append(f"request {step.number} has a body of type {kind!r}; it is application/json")
    return found if seen else None


def _recorded(story: AnnotatedTrace, name: str) -> bool:
    """Whether a header would be in the trace if it had been sent: recorders leave out what is secret, or everything."""
    return bool(story.trace.runs) or any(step.exchange.header(name) is not None for step in story.steps)


def refused(story: AnnotatedTrace, step: Step) -> Refusal | None:
    """Return why a provider refuses a request for what it is, whatever the job; None where it does not."""
    operation = story.contract.operations[step.role or ""]
    message = _message(story, step, operation)
    if message is None or isinstance(message, Refusal):
        return message
    if operation.role not in SUBMISSIONS or not _whole(step):
        return None
    kind = step.exchange.header("content-type") if _recorded(story, "content-type") else "application/json"
    body = read_body(kind, step.exchange.body)
    if isinstance(body, Refusal):
        return body
    understood = read_order(story.contract, operation, replace(message, body=body))
    return understood if isinstance(understood, Refusal) else None


def sent_by(story: AnnotatedTrace, step: Step) -> DocumentedSubmission | None:
    """Read a submission as far as it can be read; None where it cannot."""
    operation = story.contract.operations[step.role or ""]
    message = _message(story, step, operation)
    if message is None or isinstance(message, Refusal) or not _whole(step):
        return None
    body = read_body("application/json", step.exchange.body)
    if isinstance(body, Refusal):
        return None
    return _documented(story.contract, operation, replace(message, body=body))


def asked_for(story: AnnotatedTrace, step: Step, sent: DocumentedSubmission) -> list[Any]:
    """Return the parameters that the runs were asked for which a submission may be of, the last begun run last."""
    found = []
    for run in story.trace.runs:
        ended = run.outcome.ended if run.outcome is not None else None
        if run.request is None or run.started > step.arrived or (ended is not None and ended < step.arrived):
            continue
        asked = _documented(story.contract, sent.operation, replace(sent.message, body=run.request))
        found.append(run.request if asked is None or asked.parameters is MISSING else asked.parameters)
    return found


def value_of(sent: DocumentedSubmission, parameters: Any, name: str) -> Any:
    """Return a parameter by its name in the contract, or MISSING."""
    places = sent.model.parameters.get(name, ())
    return resolve(parameters, places[0]) if places else MISSING


def _message(story: AnnotatedTrace, step: Step, operation: Operation) -> Message | Refusal | None:
    """Return what stands outside the body; None for an address that is none of the operation's own."""
    parts = urlsplit(step.exchange.url)
    path = unquote(parts.path)
    bases = {urlsplit(base).path.rstrip("/") for base in (story.trace.base, *(run.base for run in story.trace.runs))}
    for base in sorted(bases, key=len, reverse=True):
        matched = operation.pattern.fullmatch(path.removeprefix(base)) if path.startswith(base) else None
        if matched is not None:
            values = dict(zip(path_names(operation.path), matched.groups(), strict=True))
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            return read_parameters(story.contract, operation, values, query, step.exchange.header)
    return None


def _whole(step: Step) -> bool:
    """Whether the trace has the whole body: the server may have answered before it was read, or kept a part."""
    body, exchange = step.exchange.body, step.exchange
    length = exchange.header("content-length")
    if length is not None and length.isdecimal():
        return int(length) <= len(body)
    if exchange.header("transfer-encoding") is not None and not step.delivered:
        return False
    return bool(body) and len(body) < KEPT_BYTES


def _documented(contract: Contract, operation: Operation, message: Message) -> DocumentedSubmission | None:
    """Return a submission whose alternative forms are rewritten as the documents say."""
    for form in operation.forms:
        if form.when.get(message) is not MISSING:
            try:
                body = message.body
                for to, source in form.set:
                    body = replaced(body, to, source.get(message))
            except ExpressionError:
                return None
            message = replace(message, body=body)
    model = find_model(contract, operation, message)
    if isinstance(model, Refusal):
        return None
    return DocumentedSubmission(operation, message, model, operation.model_parameters.get(message))


def _asked_well(story: AnnotatedTrace, step: Step) -> bool:
    """Whether the requests that a submission may be of keep the contract themselves, or are not known."""
    operation = story.contract.operations[step.role or ""]
    message = _message(story, step, operation)
    if message is None or isinstance(message, Refusal):
        message = Message({}, {}, step.exchange.header)
    runs = [run.request for run in story.trace.runs if run.started <= step.arrived]
    return all(asked is None or _valid(story, operation, message, asked) for asked in runs)


def _valid(story: AnnotatedTrace, operation: Operation, message: Message, asked: Mapping[str, Any]) -> bool:
    if not isinstance(read_order(story.contract, operation, replace(message, body=asked)), Refusal):
        return True
    wrapped = replaced({}, operation.model_parameters.pointer, dict(asked))
    return not isinstance(read_order(story.contract, operation, replace(message, body=wrapped)), Refusal)


def _read(story: AnnotatedTrace) -> Iterator[tuple[Step, DocumentedSubmission]]:
    for step in story.submits:
        if story.origin(step) in story.homes and (sent := sent_by(story, step)) is not None:
            yield step, sent


def _asked(story: AnnotatedTrace, step: Step, sent: DocumentedSubmission, name: str) -> list[Any]:
    return [value_of(sent, asked, name) for asked in asked_for(story, step, sent)]


def _numbers(sent: DocumentedSubmission, asked: Any) -> dict[str, float]:
    values = {name: value_of(sent, asked, name) for name in sent.model.parameters}
    return {name: value for name, value in values.items() if _is_number(value)}


def _drifts(sent: DocumentedSubmission, asked: Any) -> Iterator[str]:
    """Yield how the numbers that were sent differ from those that were asked for."""
    for name, wanted in _numbers(sent, asked).items():
        got = value_of(sent, sent.parameters, name)
        if got is MISSING:
            yield f"no {name}; asked was {wanted!r}"
        elif not _is_number(got) or got != wanted:
            yield f"{name} as {got!r}; asked was {wanted!r}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        return "no prompt" if value is MISSING else f"a prompt of type {type(value).__name__}"
    return f"a prompt of {len(value)} characters that ends in {value[-20:]!r}"


def _fine(step: Step) -> bool:
    """Whether an answer was ordinary, but for fields that are new or in another order."""
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


def _told(story: AnnotatedTrace, step: Step) -> bool:
    """Whether an answer before gave the address of a request."""
    address = step.exchange.url.encode()
    for other in story.steps[: step.number - 1]:
        location = other.exchange.answer_header("location") or ""
        if other.delivered and (address in other.exchange.answer or address.decode().endswith(location or "\n")):
            return True
    return False


RULES = (
    Rule(
        "SCH-01",
        "request-valid",
        "MUST",
        "S2",
        "wire",
        "Every request is one that the documents allow: its address, its parameters, and each field of its body.",
        "A value out of bounds is refused, and the refusal is swallowed as an empty answer (anomaliaso/anomalia#68); "
        "fields are missing from a client's types (fal-ai/fal-js#130).",
        request_valid,
    ),
    Rule(
        "SCH-02",
        "no-silent-truncation",
        "MUST",
        "S2",
        "wire",
        "The prompt that is sent is the prompt that was asked for, to its last character; else nothing is sent.",
        "A prompt that is cut makes another video, and the records describe what was never sent: "
        "openstory-so/openstory#1754, ShinChven/remix-studio#15.",
        no_silent_truncation,
    ),
    Rule(
        "SCH-03",
        "additive-tolerance",
        "MUST",
        "S2",
        "outcome",
        "Fields that are new, and fields in another order, are no reason to fail.",
        "A provider adds fields at any time; a client that compares answers too exactly loses videos that exist, as "
        "with a Content-Type in OpenRouterTeam/python-sdk#175.",
        additive_tolerance,
    ),
    Rule(
        "SCH-04",
        "numeric-units",
        "SHOULD",
        "S3",
        "wire",
        "A number that was asked for is sent as that number: not as a text, not rounded, not left out.",
        "A duration that is left out or rewritten is billed as another one; what is not passed on is told in "
        "fal-ai/fal-js#130.",
        numbers_are_kept,
    ),
    Rule(
        "SCH-05",
        "required-headers",
        "MUST",
        "S2",
        "wire",
        "Every operation gets the headers that it needs: the key in the documented scheme, the type of the body, its "
        "own.",
        "A download or a poll without the key is refused although the job is there: BerriAI/litellm#17016.",
        required_headers,
    ),
)
