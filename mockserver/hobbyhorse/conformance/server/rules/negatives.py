"""Rules about bodies: what breaks the schema is refused and not billed, what keeps it is taken; knows no server."""

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

BAD = frozenset({400, 413, 415, 422})
"""Statuses by which a body is refused for what is in it."""
INTERNAL = 500
FEW_INTERNAL_ERRORS = 2
"""How many bad bodies must have been answered by an internal error for it to be how they are refused."""


def refused(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Look for jobs that were made of bodies which break the contract."""
    steps = [step for step in _negatives(annotated) if step.delivered]
    found = []
    for step in steps:
        if _made(step):
            message = f"{label(step)}: {step.exchange.probe} breaks the contract, and is answered with {step.status}"
            job = f" and the job {step.job_told!r}" if step.job_told else ""
            breach = Breach(message + job, (*_forbidding(annotated, step), *_refusing(annotated, step)), step.job_told)
            found.append((step.exchange.probe, breach))
    return one_per_kind(found) if steps else None


def refused_as_documented(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Hold the refusals of bodies that break the contract against the situation that is to be."""
    steps = [step for step in _negatives(annotated) if step.delivered and not _made(step) and _telling(annotated, step)]
    found = []
    for step in steps:
        operation = operation_of(annotated, step)
        expected = step.exchange.expected or "invalid_request"
        if expected not in operation.situations and 400 <= step.status < 500:
            continue
        also = ["unknown_model"] if _pointer(step) in _model_places(annotated, step) else []
        found += [
            ((step.role, breach.places, breach.seen), breach) for breach in refused_as(annotated, step, expected, also)
        ]
    return one_per_kind(found) if steps else None


def bounds_accepted(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Look for bodies at a documented bound that are refused for what is in them, where another body was taken."""
    taken = any(step.accepted for step in annotated.submits)
    steps = [
        step
        for step in conclusive_probes(annotated, "bound:")
        if step.role in SUBMISSIONS and not _picture(annotated, step)
    ]
    refusals = [step for step in steps if _refused_for_its_body(annotated, step)]
    if not any(step.accepted or (taken and step in refusals) for step in steps):
        return None
    found = []
    for step in refusals if taken else []:
        pointer = format_pointer(_pointer(step))
        message = f"{label(step)}: {step.exchange.probe} keeps the schema, and is refused with {step.status}"
        places = tuple(_declared(annotated, step))
        found.append((pointer, Breach(message, places, step.status)))
    return one_per_kind(found)


def _negatives(annotated: AnnotatedTrace) -> list[Step]:
    """Return the requests whose body breaks the contract; another content type does only where the contract says so."""
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


def _telling(annotated: AnnotatedTrace, step: Step) -> bool:
    """Whether an answer says how the endpoint refuses bodies: on a bad day, no answer does.

    An internal error does where several bad bodies, and nothing else, were answered so.
    """
    if step.status != INTERNAL:
        return conclusive(step)
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
    """Return a place in the body as one in the parameters of the model, or None where it is not in there."""
    around = operation_of(annotated, step).model_parameters.pointer
    return pointer[len(around) :] if pointer[: len(around)] == around else None


def _model(annotated: AnnotatedTrace, step: Step) -> Model:
    """Return the model that a request is for: the one that it names, or the one that the whole suite is about."""
    body, url = step.exchange.body.decode(errors="replace"), step.exchange.url
    named = [model for model in annotated.contract.models if model.id in url or f'"{model.id}"' in body]
    return named[0] if named else annotated.contract.model(annotated.trace.model or "") or annotated.contract.models[0]


def _model_places(annotated: AnnotatedTrace, step: Step) -> set[Pointer]:
    """Return the places in the body that name the model."""
    binding = operation_of(annotated, step).bindings.get("model")
    return {place.pointer for place in binding.request if place.part == "body"} if binding is not None else set()


def _picture(annotated: AnnotatedTrace, step: Step) -> bool:
    """Whether a probe is about a picture, which may be refused for what it shows or for not being there."""
    inside = _inside(annotated, step, _pointer(step))
    model = _model(annotated, step)
    pictures = [at for name in ("first_frame", "references") for at in model.parameters.get(name, ())]
    return inside is not None and any(at[: len(inside)] == inside or inside[: len(at)] == at for at in pictures)


def _forbidding(annotated: AnnotatedTrace, step: Step) -> tuple[str, ...]:
    """Return the places of the schema that a body breaks where its probe says so; of all that it breaks otherwise."""
    _, keyword, _ = _parts(step)
    around = operation_of(annotated, step).model_parameters
    parameters, pointer = around.get(message_of((), body_of(step))), _inside(annotated, step, _pointer(step))
    if parameters is MISSING:
        return ()
    found = annotated.contract.schemas.violations(_model(annotated, step).schema, parameters)
    meant = [one for one in found if tuple(map(str, one.location)) == pointer and _keyword(one.places) == keyword]
    return tuple(dict.fromkeys(place for one in meant or found[:1] for place in one.places))


def _keyword(places: tuple[str, ...]) -> str:
    return places[0].rpartition("/")[2] if places else ""


def _refusing(annotated: AnnotatedTrace, step: Step) -> tuple[str, ...]:
    """Return where the contract has the refusal that was asked for."""
    operation = operation_of(annotated, step)
    meant = find_situation(operation, step.exchange.expected or "invalid_request")
    return (home_of(annotated.contract, operation, meant.name),) if meant is not None else ()


def _refused_for_its_body(annotated: AnnotatedTrace, step: Step) -> bool:
    """Whether a refusal is of what is in the body, and of nothing else: the balance, the model's day, a limit."""
    operation = operation_of(annotated, step)
    meant = find_situation(operation, "invalid_request")
    statuses = BAD | ({meant.status} if meant is not None else set())
    if step.accepted or step.status not in statuses:
        return False
    others = set(step.reading.situations) - {"invalid_request", "malformed_body", "unsupported_media_type"}
    return not others or (meant is not None and meant.name in step.reading.situations)


def _declared(annotated: AnnotatedTrace, step: Step) -> Iterator[str]:
    """Yield the places of a model's schema that allow what stands at a bound, most special first."""
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
        yield from (f"{at}/{key}" for key, said in schema.items() if key == "enum" or str(said) == value)
    yield from reversed(way[1:])


def _target(at: str, reference: str) -> str:
    """Return the address that a reference in the file of another address means."""
    home = at.partition("#")[0]
    file, _, pointer = reference.partition("#")
    return f"{posixpath.join(posixpath.dirname(home), file) if file else home}#{unquote(pointer)}"


RULES = (
    ServerRule(
        "NEG-01",
        "refused",
        "MUST",
        "S1",
        "A body that breaks the schema makes no job.",
        "What is made of it is not what was asked for, and it is billed.",
        refused,
    ),
    ServerRule(
        "NEG-02",
        "refused-as-documented",
        "MUST",
        "S3",
        "A body that breaks the contract is refused with the status and the code that the contract has for it.",
        "Clients repeat what may pass and give up what cannot: they tell one from the other by status and code.",
        refused_as_documented,
    ),
    ServerRule(
        "NEG-03",
        "bounds-accepted",
        "MUST",
        "S2",
        "A body at a documented bound is accepted.",
        "Clients check what they send against the documents, and show people what is allowed.",
        bounds_accepted,
    ),
)
