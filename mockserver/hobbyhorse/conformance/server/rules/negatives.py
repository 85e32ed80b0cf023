"""Rules about bodies: an invalid one is refused and not billed, a valid one is accepted. Knows no server."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from urllib.parse import unquote

from hobbyhorse.conformance.server.expected import (
    body_of,
    conclusive,
    conclusive_probes,
    home_of,
    label,
    one_per_kind,
    operation_of,
    probes,
    refused_as,
)
from hobbyhorse.conformance.server.rule import Breach, ServerRule
from hobbyhorse.contract.forms.expressions import MISSING, Pointer, format_pointer, parse_pointer
from hobbyhorse.contract.reading import message_of
from hobbyhorse.contract.values import Model, find_situation
from hobbyhorse.traces.annotated import SUBMISSIONS, AnnotatedTrace, Step

# Statuses that refuse a body for its content.
BAD = frozenset({400, 413, 415, 422})
# The one 5xx that an endpoint may produce itself; 502 to 504 come from gateways and overload.
INTERNAL = 500
# One 500 may be an accident; two for bad bodies, and for nothing else, are the endpoint's way to refuse them.
FEW_INTERNAL_ERRORS = 2


def refused(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Find jobs that were made from invalid bodies."""
    steps = [step for step in _negatives(annotated) if step.delivered]
    found = []
    for step in steps:
        if _made(step):
            message = f"{label(step)}: {step.exchange.probe} is invalid, but gets {step.status}"
            job = f" and the job {step.job_told!r}" if step.job_told else ""
            breach = Breach(message + job, (*_forbidding(annotated, step), *_refusing(annotated, step)), step.job_told)
            found.append((step.exchange.probe, breach))
    return one_per_kind(found) if steps else None


def refused_as_documented(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Compare the refusals of invalid bodies with the documented situation."""
    steps = [
        step for step in _negatives(annotated) if step.delivered and not _made(step) and _shows_refusal(annotated, step)
    ]
    found = []
    for step in steps:
        operation = operation_of(annotated, step)
        expected = step.exchange.expected or "invalid_request"
        # The contract does not define this refusal, so any 4xx keeps it.
        if expected not in operation.situations and 400 <= step.status < 500:
            continue
        # An invalid model name may also be refused as an unknown model.
        also = ["unknown_model"] if _pointer(step) in _model_places(annotated, step) else []
        found += [
            ((step.role, breach.places, breach.seen), breach) for breach in refused_as(annotated, step, expected, also)
        ]
    return one_per_kind(found) if steps else None


def bounds_accepted(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Find valid bodies at a documented bound that are refused for their content, if any other body was accepted."""
    taken = any(step.accepted for step in annotated.submits)
    steps = [
        step
        for step in conclusive_probes(annotated, "bound:")
        if step.role in SUBMISSIONS and not _picture(annotated, step)
    ]
    refusals = [step for step in steps if _refused_for_its_body(annotated, step)]
    # An endpoint that accepts no body at all (no balance, say) shows nothing about bounds.
    if not any(step.accepted or (taken and step in refusals) for step in steps):
        return None
    found = []
    for step in refusals if taken else []:
        pointer = format_pointer(_pointer(step))
        message = f"{label(step)}: {step.exchange.probe} is valid, but is refused with {step.status}"
        places = tuple(_declared(annotated, step))
        found.append((pointer, Breach(message, places, step.status)))
    return one_per_kind(found)


def _negatives(annotated: AnnotatedTrace) -> list[Step]:
    """Return the submissions with an invalid body; another content type counts only if the contract refuses it."""
    return [
        step
        for step in probes(annotated, "negative:")
        if step.role in SUBMISSIONS
        and (
            step.exchange.probe != "negative:type"
            or "unsupported_media_type" in operation_of(annotated, step).situations
        )
    ]


def _made(step: Step) -> bool:
    return step.accepted or (step.role == "run" and step.ok)


def _shows_refusal(annotated: AnnotatedTrace, step: Step) -> bool:
    """Whether a response shows how the endpoint refuses bodies. A temporary failure does not.

    An internal error does if several bad bodies, and no other request, got one.
    """
    if step.status != INTERNAL:
        return conclusive(step)
    # If anything else failed as well, the endpoint was down rather than strict.
    failed = [other for other in annotated.steps if other.status >= INTERNAL and other.role != "media"]
    bad = [other for other in failed if (other.exchange.probe or "").startswith("negative:")]
    return len(bad) >= FEW_INTERNAL_ERRORS and len(bad) == len(failed)


def _pointer(step: Step) -> Pointer:
    """Return the place in the body that a probe is about: `negative:KEYWORD:POINTER`, `bound:POINTER:VALUE`."""
    kind, first, rest = _parts(step)
    text = rest if kind == "negative" else first
    return parse_pointer(text) if text.startswith("/") else ()


def _parts(step: Step) -> tuple[str, str, str]:
    kind, first, rest = [*(step.exchange.probe or "").split(":", 2), "", ""][:3]
    return kind, first, rest


def _inside(annotated: AnnotatedTrace, step: Step, pointer: Pointer) -> Pointer | None:
    """Return a place of the body relative to the model's parameters, or None if it is outside them."""
    around = operation_of(annotated, step).model_parameters.pointer
    return pointer[len(around) :] if pointer[: len(around)] == around else None


def _model(annotated: AnnotatedTrace, step: Step) -> Model:
    """Return the model that a request names, or the model under test."""
    body, url = step.exchange.body.decode(errors="replace"), step.exchange.url
    named = [model for model in annotated.contract.models if model.id in url or f'"{model.id}"' in body]
    return named[0] if named else annotated.contract.model(annotated.trace.model or "") or annotated.contract.models[0]


def _model_places(annotated: AnnotatedTrace, step: Step) -> set[Pointer]:
    """Return the places in the body that name the model."""
    binding = operation_of(annotated, step).bindings.get("model")
    return {place.pointer for place in binding.request if place.part == "body"} if binding is not None else set()


def _picture(annotated: AnnotatedTrace, step: Step) -> bool:
    """Whether a probe is about a picture, which may be refused for its content or because it cannot be fetched."""
    inside = _inside(annotated, step, _pointer(step))
    model = _model(annotated, step)
    pictures = [at for name in ("first_frame", "references") for at in model.parameters.get(name, ())]
    return inside is not None and any(at[: len(inside)] == inside or inside[: len(at)] == at for at in pictures)


def _forbidding(annotated: AnnotatedTrace, step: Step) -> tuple[str, ...]:
    """Return the schema places that a body violates: the probe's own, or the first violation if that is not found."""
    _, keyword, _ = _parts(step)
    around = operation_of(annotated, step).model_parameters
    parameters, pointer = around.get(message_of((), body_of(step))), _inside(annotated, step, _pointer(step))
    if parameters is MISSING:
        return ()
    found = annotated.contract.schemas.violations(_model(annotated, step).schema, parameters)
    # The value may violate more than the probe meant; its own violation leads to the right place.
    meant = [one for one in found if tuple(map(str, one.location)) == pointer and _keyword(one.places) == keyword]
    return tuple(dict.fromkeys(place for one in meant or found[:1] for place in one.places))


def _keyword(places: tuple[str, ...]) -> str:
    return places[0].rpartition("/")[2] if places else ""


def _refusing(annotated: AnnotatedTrace, step: Step) -> tuple[str, ...]:
    """Return the place in the contract of the expected refusal."""
    operation = operation_of(annotated, step)
    meant = find_situation(operation, step.exchange.expected or "invalid_request")
    return (home_of(annotated.contract, operation, meant.name),) if meant is not None else ()


def _refused_for_its_body(annotated: AnnotatedTrace, step: Step) -> bool:
    """Whether a refusal is about the body alone, not about the balance, the model's availability or a limit."""
    operation = operation_of(annotated, step)
    meant = find_situation(operation, "invalid_request")
    statuses = BAD | ({meant.status} if meant is not None else set())
    if step.accepted or step.status not in statuses:
        return False
    others = set(step.reading.situations) - {"invalid_request", "malformed_body", "unsupported_media_type"}
    return not others or (meant is not None and meant.name in step.reading.situations)


def _declared(annotated: AnnotatedTrace, step: Step) -> Iterator[str]:
    """Yield the schema places that allow the value at a bound, most specific first."""
    schemas, model = annotated.contract.schemas, _model(annotated, step)
    at, way = model.schema, list[str]()
    for name in ("", *(_inside(annotated, step, _pointer(step)) or ())):
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


RULES = (
    ServerRule(
        "NEG-01",
        "refused",
        "MUST",
        "S1",
        "A body that violates the schema makes no job.",
        "The client gets another video than it ordered, and is billed for it.",
        refused,
    ),
    ServerRule(
        "NEG-02",
        "refused-as-documented",
        "MUST",
        "S3",
        "A body that violates the contract is refused with the documented status and code.",
        "Clients decide by status and code whether to retry a request or give it up.",
        refused_as_documented,
    ),
    ServerRule(
        "NEG-03",
        "bounds-accepted",
        "MUST",
        "S2",
        "A body at a documented bound is accepted.",
        "Clients validate requests by the documents, and offer their users the documented range.",
        bounds_accepted,
    ),
)
