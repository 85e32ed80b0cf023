"""Rules about bodies and queries: an invalid one is refused and not billed, a valid one is accepted."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from hobbyhorse.conformance.rule import MONEY, MUST, OBSERVED, SHOULD, VIDEO, Breach, Evidence, rule
from hobbyhorse.conformance.server.bodies import CHARSET, CUT, ESCAPED, FORM, LONGEST, PLAIN, SPELLING
from hobbyhorse.conformance.server.expected import (
    FEW_INTERNAL_ERRORS,
    INTERNAL,
    KindEvidence,
    body_of,
    conclusive,
    conclusive_probes,
    label,
    one_per_kind,
    operation_of,
    probes,
    refused_as,
    responses_of,
    statuses,
)
from hobbyhorse.conformance.server.pictures.samples import BEYOND, BYTES
from hobbyhorse.conformance.server.queries import GRANTED, REFUSED
from hobbyhorse.contract.formats import location_steps
from hobbyhorse.contract.forms.expressions import MISSING, Pointer, format_pointer, parse_pointer, resolve
from hobbyhorse.contract.reading import message_of
from hobbyhorse.contract.values import Contract, Model, Operation, Parameter, find_situation
from hobbyhorse.traces.annotated import SUBMISSIONS, AnnotatedTrace, Step
from hobbyhorse.traces.orders import order_of

# Statuses that refuse a body for its content.
BAD = frozenset({400, 413, 415, 422})
PICTURES = ("first_frame", "references")
SPELLED = {
    PLAIN: "its prompt has accented and Chinese characters, and one beyond U+FFFF (RFC 8259, section 8.1)",
    CHARSET: "its media type has a charset (RFC 9110, section 8.3.1)",
    ESCAPED: "its JSON has white space, escapes and another order of the members (RFC 8259, sections 2, 4 and 7)",
}
# The probes that submit a documented body.
ORDERS = frozenset({"job", "idempotency:first", "cancel:order", "callback:order", "machine"})
# A longer value would hide the rest of the message.
MOST_SHOWN = 60


@rule(
    "NEG-01",
    "refused",
    level=MUST,
    severity="S1",
    harm=MONEY,
    says="A body that violates the schema creates no job.",
    because="The client gets a video that it did not order, and is billed for it.",
    fix="Validate the whole body against the documented schema before the job is created.",
)
@one_per_kind
def refused(trace: AnnotatedTrace) -> KindEvidence:
    """Find jobs that were made from invalid bodies."""
    for step in _negatives(trace):
        if not step.delivered:
            continue
        yield OBSERVED
        if _made(step):
            probe = f"{step.exchange.probe}{_shown_value(step)}"
            message = f"{label(step)}: invalid body ({probe}) was accepted: status {step.status}"
            job = f", job {step.job_told!r}" if step.job_told else ""
            places = _broken_places(trace, step)
            yield step.exchange.probe, Breach(message + job, places, step.job_told)


@rule(
    "NEG-02",
    "refused-as-documented",
    level=MUST,
    severity="S3",
    says="A body that violates the contract is refused with the documented status and code.",
    because="Clients decide by status and code whether to retry a request or give it up.",
    fix="Map each failed validation to the documented status and code.",
)
@one_per_kind
def refused_as_documented(trace: AnnotatedTrace) -> KindEvidence:
    """Compare the refusals of invalid bodies, and of pictures beyond a limit, with the documented situation."""
    for step in [*_negatives(trace), *_pictures_beyond(trace)]:
        if not step.delivered or _made(step) or not _shows_refusal(trace, step):
            continue
        yield OBSERVED
        expected = step.exchange.expected or "invalid_request"
        # The contract does not define this refusal, so any 4xx keeps it.
        if expected not in operation_of(trace, step).situations and 400 <= step.status < 500:
            continue
        # An invalid model name may also be refused as an unknown model.
        also = ["unknown_model"] if _pointer(step) in _model_places(trace, step) else []
        for breach in refused_as(trace, step, expected, also):
            yield (step.role, breach.places, breach.seen), breach


@rule(
    "NEG-03",
    "bounds-accepted",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    says="A documented body, and a body at a documented bound, is accepted.",
    because="Clients validate requests against the documentation, and offer their users the documented range.",
    fix="Use the documented bounds in the validation, with both ends included.",
)
@one_per_kind
def bounds_accepted(trace: AnnotatedTrace) -> KindEvidence:
    """Find valid bodies at a documented bound that are refused for their content, if any other body was accepted."""
    # An endpoint that accepts no body at all (no balance, say) shows nothing about bounds.
    if not any(step.accepted for step in trace.submits):
        yield from _accepts_nothing(trace)
        return
    yield from _documented_refused(trace)
    yield from _forms_refused(trace)
    for step in conclusive_probes(trace, "bounds:"):
        if step.accepted:
            yield OBSERVED
        elif _refused_together(trace, step):
            message = f"{label(step)}: valid body ({step.exchange.probe}) was refused with {step.status}, "
            message += "although each of its bounds is accepted alone"
            yield step.exchange.probe, Breach(message, (model_of(trace, step).schema,), step.status)
    for step in conclusive_probes(trace, "bound:"):
        if step.role not in SUBMISSIONS or _picture(trace, step):
            continue
        if step.accepted:
            yield OBSERVED
        elif refused_for_its_body(trace, step):
            message = f"{label(step)}: valid body ({step.exchange.probe}) was refused with {step.status}"
            yield format_pointer(_pointer(step)), Breach(message, tuple(_declared(trace, step)), step.status)


def _documented_refused(trace: AnnotatedTrace) -> KindEvidence:
    """Find documented submissions that are refused for their bodies, although other submissions are accepted."""
    # The callbacks' orders are left out: one of them has a picture that may be refused.
    for step in trace.submits:
        known = step.exchange.probe in ORDERS - {"callback:order"} and order_of(trace, step) is not None
        if known and refused_for_its_body(trace, step):
            message = f"{label(step)}: a documented submission is refused with {step.status}; others are accepted"
            yield "documented", Breach(message, (model_of(trace, step).schema,), step.status)


def _forms_refused(trace: AnnotatedTrace) -> KindEvidence:
    """Find submissions in an alternative form that are refused for their bodies."""
    for step in conclusive_probes(trace, FORM):
        if refused_for_its_body(trace, step):
            message = (
                f"{label(step)}: a valid body in another form ({step.exchange.probe}) is refused with {step.status}"
            )
            yield step.exchange.probe, Breach(message, ("lifecycle.json#/operations/submit/forms",), step.status)


def _refused_together(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether an order at several bounds was refused for its body, and the orders at each bound were accepted."""
    # A refused order at several bounds is followed by one order for each.
    labels = {f"bound:{one}".replace("=", ":", 1) for one in (step.exchange.probe or "")[len("bounds:") :].split(",")}
    alone = [one for one in trace.after(step, trace.submits) if one.exchange.probe in labels]
    accepted = {one.exchange.probe for one in alone if one.accepted}
    pictures = any(_picture(trace, one) for one in alone)
    return refused_for_its_body(trace, step) and accepted == labels and not pictures


def _accepts_nothing(trace: AnnotatedTrace) -> KindEvidence:
    """Yield the breach if every documented submission fails, or is refused for its body."""
    known = [step for step in trace.submits if step.exchange.probe in ORDERS and step.delivered]
    orders = [step for step in known if order_of(trace, step) is not None]
    failed = [step for step in orders if step.status == INTERNAL]
    refused = [step for step in orders if refused_for_its_body(trace, step)]
    # Of an endpoint that refuses all, some orders may be refused for their pictures, but not each of them.
    clear = [step for step in refused if not _for_its_picture(trace, step)]
    for steps, found, least, words in (
        (failed, failed, FEW_INTERNAL_ERRORS, "fails"),
        (clear, refused, 1, "is refused"),
    ):
        if len(steps) >= least and len(found) == len(orders):
            message = f"{label(steps[0])}: every documented submission {words}, with {steps[0].status}"
            places = (responses_of(operation_of(trace, steps[0])),)
            yield "orders", Breach(message, places, steps[0].status)


def _for_its_picture(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether a refusal may be about the picture, which the endpoint may have tried to fetch."""
    pictures = [at for name in PICTURES for at in model_of(trace, step).parameters.get(name, ())]
    if location := location_steps(step.reading.values.get("refusal_location")):
        return any(part in at for part in location for at in pictures)
    parameters = operation_of(trace, step).model_parameters.get(message_of((), body_of(step)))
    found = [resolve(parameters, at) for at in pictures]
    return any(isinstance(one, str) and one.startswith("http") for one in found)


def _queried(contract: Contract) -> bool:
    return any(one.part == "query" for operation in contract.operations.values() for one in operation.parameters)


@rule(
    "NEG-04",
    "query-bounds-granted",
    level=MUST,
    severity="S3",
    applies=_queried,
    says="A query at a documented bound is granted.",
    because="Clients validate requests against the documentation, and offer their users the documented range.",
    fix="Compare a query with its documented bounds inclusively: the greatest page size is a valid one.",
)
@one_per_kind
def query_bounds_granted(trace: AnnotatedTrace) -> KindEvidence:
    """Find valid queries that are refused, although the same operation grants a request without a query."""
    for step in conclusive_probes(trace, GRANTED):
        if step.ok:
            yield OBSERVED
        elif _granted_without(trace, step):
            message = f"{label(step)}: valid query ({step.exchange.probe}) was refused with {step.status}"
            yield step.exchange.probe, Breach(message, _at_keyword(trace, step), step.status)


@rule(
    "NEG-05",
    "query-refused",
    level=SHOULD,
    severity="S4",
    applies=_queried,
    says="A query beyond a documented bound is refused, as documented.",
    because="A client with a misspelt parameter gets another page than it asked for, and takes it for the right one.",
    fix="Validate the query against its schema, and refuse what the schema refuses, instead of correcting it silently.",
)
@one_per_kind
def query_refused(trace: AnnotatedTrace) -> KindEvidence:
    """Find invalid queries that are granted, or refused in another way."""
    for step in conclusive_probes(trace, REFUSED):
        operation = operation_of(trace, step)
        if "invalid_request" not in operation.situations:
            continue
        yield OBSERVED
        if step.ok:
            message = f"{label(step)}: invalid query ({step.exchange.probe}) was granted"
            places = (
                *_at_keyword(trace, step),
                *statuses(trace.contract, operation, [operation.situations["invalid_request"]]),
            )
            yield step.exchange.probe, Breach(message, places, step.status)
        else:
            for breach in refused_as(trace, step, "invalid_request"):
                yield (step.role, breach.places), breach


@rule(
    "NEG-06",
    "spellings-accepted",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    says="A body is accepted in each spelling of its JSON: with white space, escapes, any order of the members, and a "
    "charset in the media type, and with any characters in its prompt.",
    because="Each language writes JSON in its own way: Python escapes, Java and C# add a charset.",
    fix="Parse the body with a JSON library, and compare the media type without its parameters.",
)
def spellings_accepted(trace: AnnotatedTrace) -> Evidence:
    """Find spellings of a submission that are refused, although other submissions are accepted."""
    accepted = any(step.accepted for step in trace.submits)
    every = probes(trace, SPELLING)
    failures = sum(step.status == INTERNAL for step in every)
    for step in every if accepted else ():
        ways = (step.exchange.probe or "").removeprefix(SPELLING).split(",")
        failed = step.status == INTERNAL and failures >= FEW_INTERNAL_ERRORS
        if step.accepted:
            yield OBSERVED
        elif len(ways) == 1 and (failed or (conclusive(step) and refused_for_its_body(trace, step))):
            message = f"{label(step)}: a submission that is spelled in another way is refused with {step.status}: "
            yield Breach(message + SPELLED[ways[0]], (), step.status)


def _negatives(trace: AnnotatedTrace) -> list[Step]:
    """Return the submissions with an invalid body; another content type counts only if the contract refuses it."""
    return [
        step
        for step in probes(trace, "negative:")
        if step.role in SUBMISSIONS
        and (step.exchange.probe != "negative:type" or "unsupported_media_type" in operation_of(trace, step).situations)
    ]


def _pictures_beyond(trace: AnnotatedTrace) -> list[Step]:
    """Return the submissions with a picture beyond a limit, other than that of its bytes."""
    # Whatever is in front of an endpoint may refuse a large body in its own way.
    found = (step for step in probes(trace, BEYOND) if step.role in SUBMISSIONS)
    return [step for step in found if step.exchange.probe != f"{BEYOND}{BYTES}"]


def _made(step: Step) -> bool:
    return step.accepted or (step.role == "run" and step.ok)


def _shows_refusal(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether a response shows how the endpoint refuses bodies. A temporary failure does not.

    An internal error does if several bad bodies, and no other request, got one.
    """
    if step.status != INTERNAL:
        return conclusive(step)
    # If anything else failed as well, the endpoint was down rather than strict.
    failed = [other for other in trace.steps if other.status >= INTERNAL and other.role != "media"]
    bad = [other for other in failed if (other.exchange.probe or "").startswith("negative:")]
    return len(bad) >= FEW_INTERNAL_ERRORS and len(bad) == len(failed)


def _pointer(step: Step) -> Pointer:
    """Return the place in the body that a probe is about: `negative:KEYWORD:POINTER`, `bound:POINTER:VALUE`."""
    kind, first, rest = _parts(step)
    text = rest if kind == "negative" else first
    return parse_pointer(text) if text.startswith("/") else ()


def _shown_value(step: Step) -> str:
    """Return the invalid value of a probe, to be shown after its place."""
    found = resolve(body_of(step), _pointer(step)) if _pointer(step) else MISSING
    text = json.dumps(found) if found is not MISSING else ""
    return f" = {text}" if 0 < len(text) <= MOST_SHOWN else ""


def _parts(step: Step) -> tuple[str, str, str]:
    kind, first, rest = [*(step.exchange.probe or "").split(":", 2), "", ""][:3]
    # Several bodies may violate one keyword at one place: `type-2` is the second of them.
    return kind, first.partition("-")[0] if kind == "negative" else first, rest


def _inside(trace: AnnotatedTrace, step: Step, pointer: Pointer) -> Pointer | None:
    """Return a place of the body relative to the model's parameters, or None if it is outside them."""
    around = operation_of(trace, step).model_parameters.pointer
    return pointer[len(around) :] if pointer[: len(around)] == around else None


def model_of(trace: AnnotatedTrace, step: Step) -> Model:
    """Return the model that a request names, or the model under test."""
    body, url = step.exchange.body.decode(errors="replace"), step.exchange.url
    named = [model for model in trace.contract.models if model.id in url or f'"{model.id}"' in body]
    return named[0] if named else trace.contract.model(trace.trace.model or "") or trace.contract.models[0]


def _model_places(trace: AnnotatedTrace, step: Step) -> set[Pointer]:
    """Return the places in the body that name the model."""
    binding = operation_of(trace, step).bindings.get("model")
    return {place.pointer for place in binding.request if place.part == "body"} if binding is not None else set()


def _picture(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether a probe is about an image, which may be refused for its content or because it cannot be fetched."""
    inside = _inside(trace, step, _pointer(step))
    model = model_of(trace, step)
    pictures = [at for name in PICTURES for at in model.parameters.get(name, ())]
    return inside is not None and any(at[: len(inside)] == inside or inside[: len(at)] == at for at in pictures)


def _forbidding(trace: AnnotatedTrace, step: Step) -> tuple[str, ...]:
    """Return the schema places that a body violates: the probe's own, or the first violation if that is not found."""
    _, keyword, _ = _parts(step)
    around = operation_of(trace, step).model_parameters
    parameters, pointer = around.get(message_of((), body_of(step))), _inside(trace, step, _pointer(step))
    schema: str | None = model_of(trace, step).schema
    if pointer is None:
        parameters, pointer, schema = body_of(step), _pointer(step), operation_of(trace, step).body_schema
    if parameters is MISSING or schema is None:
        return ()
    found = trace.contract.schemas.violations(schema, parameters)
    # The value may violate more than the probe meant; its own violation leads to the right place.
    meant = [one for one in found if tuple(map(str, one.location)) == pointer and _keyword(one.places) == keyword]
    return tuple(dict.fromkeys(place for one in meant or found[:1] for place in one.places))


def _broken_places(trace: AnnotatedTrace, step: Step) -> tuple[str, ...]:
    """Return the places that an accepted body violates.

    A documented bound, type, word or required member is violated whatever the status of the refusal is.
    """
    # Neither the format of a body nor the model's name is a part of the schema that the body violates.
    request = responses_of(operation_of(trace, step)).removesuffix("responses") + "requestBody"
    return _forbidding(trace, step) or (request,)


def _keyword(places: tuple[str, ...]) -> str:
    return places[0].rpartition("/")[2] if places else ""


def refused_for_its_body(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether a refusal is about the body alone, not about the balance, the model's availability or a limit."""
    operation = operation_of(trace, step)
    meant = find_situation(operation, "invalid_request")
    statuses = BAD | ({meant.status} if meant is not None else set())
    if step.accepted or step.status not in statuses:
        return False
    others = set(step.reading.situations) - {"invalid_request", "malformed_body", "unsupported_media_type"}
    return not others or (meant is not None and meant.name in step.reading.situations)


def _declared(trace: AnnotatedTrace, step: Step) -> Iterator[str]:
    """Yield the schema places that allow the value at a bound, most specific first."""
    schemas, model = trace.contract.schemas, model_of(trace, step)
    if _parts(step)[2].partition(" ")[0] in (LONGEST, CUT):
        yield f"lifecycle.json#/models/{trace.contract.models.index(model)}/prompt_limit"
    at, way = model.schema, list[str]()
    inside = _inside(trace, step, _pointer(step))
    if inside is None:
        at, inside = operation_of(trace, step).body_schema or at, _pointer(step)
    for name in ("", *inside):
        here = at if not name else f"{at}/items" if name.isdigit() else at + format_pointer(("properties", name))
        way.append(here)
        at = here
        while isinstance(schema := schemas.at(at), dict) and isinstance(schema.get("$ref"), str):
            at = _target(at, schema["$ref"])
            way.append(at)
    value = _parts(step)[2].partition(" ")[0]
    schema = schemas.at(at)
    if isinstance(schema, dict):
        yield from (f"{at}/{key}" for key, bound in schema.items() if key == "enum" or str(bound) == value)
    yield from reversed(way[1:])


def _target(at: str, reference: str) -> str:
    """Return the address of a `$ref`, resolved against the file of another address."""
    home = at.partition("#")[0]
    file, _, pointer = reference.partition("#")
    return f"{posixpath.join(posixpath.dirname(home), file) if file else home}#{unquote(pointer)}"


def _granted_without(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether the operation grants a request without a query, with the same key."""
    return any(
        other.ok and not urlsplit(other.exchange.url).query and trace.key(other) == trace.key(step)
        for other in trace.of(step.role or "")
    )


def _at_keyword(trace: AnnotatedTrace, step: Step) -> tuple[str, ...]:
    """Return the places of the keyword that a query is at, or beyond."""
    _, _, name, keyword = (step.exchange.probe or "").split(":", 3)
    return tuple(f"{one.schema}/{keyword}" for one in _parameters_named(operation_of(trace, step), name))


def _parameters_named(operation: Operation, name: str) -> Iterator[Parameter]:
    return (one for one in operation.parameters if one.part == "query" and one.name == name)
