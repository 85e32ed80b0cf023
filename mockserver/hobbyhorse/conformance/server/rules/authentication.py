"""Rules about API keys: a request without a valid key is refused and has no effect. Knows no server."""

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
    """Find requests without a key that are served, or refused in an undocumented way."""
    return _refused(annotated, "auth:none", "unauthenticated", "without a key", ())


def wrong_key_refused(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Find requests with an unknown key that are served, or refused in an undocumented way."""
    return _refused(annotated, "auth:wrong", "key_refused", "with an unknown key", ("unauthenticated", "forbidden"))


def _refused(
    annotated: AnnotatedTrace, probe: str, situation: str, how: str, also: tuple[str, ...]
) -> list[Breach] | None:
    """Compare the responses to probes with a situation; undocumented statuses are left to SHA-01."""
    found: list[tuple[Hashable, Breach]] = []
    steps = [step for step in conclusive_probes(annotated, probe) if operation_of(annotated, step).authenticated]
    for step in steps:
        operation = operation_of(annotated, step)
        # Not every provider tells an unknown key from a missing one: then the other situations are allowed, too.
        refusals = refused_as(annotated, step, situation, () if situation in operation.situations else also)
        if refusals and step.ok:
            found.append(((step.role, "ok"), _served(annotated, step, situation, how)))
        # SHA-01 reports an undocumented status; one fault should break one rule.
        elif documented(annotated.contract, operation, step.status):
            found += [((step.role, breach.places), breach) for breach in refusals]
    return one_per_kind(found) if steps else None


def _served(annotated: AnnotatedTrace, step: Step, situation: str, how: str) -> Breach:
    operation = operation_of(annotated, step)
    meant = find_situation(operation, situation)
    home = (home_of(annotated.contract, operation, meant.name),) if meant is not None else ()
    own = responses_of(operation).removesuffix("responses") + "security"
    security = own if annotated.contract.schemas.at(own) is not MISSING else "openapi.json#/security"
    return Breach(
        f"{label(step)}: a request {how} gets {step.status}; documented: a refusal", (security, own, *home), step.status
    )


def refused_creates_nothing(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Find jobs made without a valid key: the response carries an id, or a later response knows it."""
    # Temporary failures count here, too: a 500 may have made the job before it failed.
    steps = [step for step in probes(annotated, "auth:") if step.role in SUBMISSIONS and step.delivered]
    found = []
    for step in steps:
        # A refusal may carry an id of its own, such as a request id: only a job that is known later was made.
        job = step.reading.values.get("job")
        made = step.ok or (isinstance(job, str) and _known(annotated, step, job))
        if made and (job or step.video):
            message = f"{label(step)}: {step.exchange.probe} created the job {job!r}"
            found.append((step.exchange.probe, Breach(message, (), job)))
    return one_per_kind(found) if steps else None


def _known(annotated: AnnotatedTrace, refused: Step, job: str) -> bool:
    """Whether a later response is about a job id that only the refusal contained."""
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
        "Every operation that needs a key refuses a request without one, as documented.",
        "An operation that works without a key is paid for by the accounts that have one.",
        key_required,
        _keyed,
    ),
    ServerRule(
        "AUT-02",
        "wrong-key-refused",
        "MUST",
        "S1",
        "Every operation that needs a key refuses an unknown one, as documented.",
        "A server that accepts any key also accepts a revoked one.",
        wrong_key_refused,
        _keyed,
    ),
    ServerRule(
        "AUT-03",
        "refused-creates-nothing",
        "MUST",
        "S1",
        "A submission without a valid key makes no job.",
        "A job that is made despite the refusal is billed to no account, or to the wrong one.",
        refused_creates_nothing,
        _keyed,
    ),
)
