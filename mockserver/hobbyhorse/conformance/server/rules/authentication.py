"""Rules about keys: whoever has none, or a wrong one, is refused and gets nothing; knows no server."""

from __future__ import annotations

from collections.abc import Hashable

from hobbyhorse.conformance.server.expected import (
    conclusive_probes,
    documented,
    home_of,
    label,
    one_per_kind,
    operation_of,
    probes,
    refused_as,
    responses_of,
)
from hobbyhorse.conformance.server.rule import Breach, ServerRule
from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.reading import message_of, read_items
from hobbyhorse.contract.values import Contract, find_situation
from hobbyhorse.traces.annotated import SUBMISSIONS, AnnotatedTrace, Step


def key_required(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Look for requests without a key that are answered, or refused otherwise than documented."""
    return _refused(annotated, "auth:none", "unauthenticated", "without a key", ())


def wrong_key_refused(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Look for requests with a wrong key that are answered, or refused otherwise than documented."""
    return _refused(
        annotated, "auth:wrong", "key_refused", "with a key that is nobody's", ("unauthenticated", "forbidden")
    )


def _refused(
    annotated: AnnotatedTrace, probe: str, situation: str, how: str, also: tuple[str, ...]
) -> list[Breach] | None:
    """Hold the answers to probes against a situation; a status that the operation has not at all is another rule's."""
    found: list[tuple[Hashable, Breach]] = []
    steps = [step for step in conclusive_probes(annotated, probe) if operation_of(annotated, step).authenticated]
    for step in steps:
        operation = operation_of(annotated, step)
        refusals = refused_as(annotated, step, situation, () if situation in operation.situations else also)
        if refusals and step.ok:
            found.append(((step.role, "ok"), _answered(annotated, step, situation, how)))
        elif documented(annotated.contract, operation, step.status):
            found += [((step.role, breach.places), breach) for breach in refusals]
    return one_per_kind(found) if steps else None


def _answered(annotated: AnnotatedTrace, step: Step, situation: str, how: str) -> Breach:
    operation = operation_of(annotated, step)
    meant = find_situation(operation, situation)
    home = (home_of(annotated.contract, operation, meant.name),) if meant is not None else ()
    own = responses_of(operation).removesuffix("responses") + "security"
    security = own if annotated.contract.schemas.at(own) is not MISSING else "openapi.json#/security"
    return Breach(f"{label(step)}: {how}, and answered with {step.status}", (security, own, *home), step.status)


def refused_creates_nothing(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Look for jobs that were made for whoever had no right key: an answer has an id, or a later one knows it."""
    steps = [step for step in probes(annotated, "auth:") if step.role in SUBMISSIONS and step.delivered]
    found = []
    for step in steps:
        job = step.reading.values.get("job")
        made = step.ok or (isinstance(job, str) and _known(annotated, step, job))
        if made and (job or step.video):
            message = f"{label(step)}: {step.exchange.probe}, and there is a job {job!r}"
            found.append((step.exchange.probe, Breach(message, (), job)))
    return one_per_kind(found) if steps else None


def _known(annotated: AnnotatedTrace, refused: Step, job: str) -> bool:
    """Whether a later answer is about a job that only the answer to a refused order has told of."""
    for step in annotated.after(refused, annotated.of("status", "result", "list")):
        if step.ok and (step.job_told == job or step.exchange.job == job):
            return True
        items = read_items(operation_of(annotated, step), message_of((), step.value)) if step.role == "list" else []
        if any(item.get("job") == job for item in items):
            return True
    return False


def _keyed(contract: Contract) -> bool:
    return any(operation.authenticated for operation in contract.operations.values())


RULES = (
    ServerRule(
        "AUT-01",
        "key-required",
        "MUST",
        "S1",
        "Every operation that needs a key refuses whoever has none, as documented.",
        "What answers without a key is paid for by whoever has one.",
        key_required,
        _keyed,
    ),
    ServerRule(
        "AUT-02",
        "wrong-key-refused",
        "MUST",
        "S1",
        "Every operation that needs a key refuses one that is nobody's, as documented.",
        "A key that was revoked and still works cannot be revoked.",
        wrong_key_refused,
        _keyed,
    ),
    ServerRule(
        "AUT-03",
        "refused-creates-nothing",
        "MUST",
        "S1",
        "An order without a right key makes no job.",
        "A job that was refused and is made all the same is billed to nobody, or to somebody else.",
        refused_creates_nothing,
        _keyed,
    ),
)
