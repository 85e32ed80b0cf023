"""Rules about queries: granted at a documented bound, and refused beyond it. Knows no server."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from hobbyhorse.conformance.rule import MUST, OBSERVED, SHOULD, Breach, rule
from hobbyhorse.conformance.server.expected import (
    KindEvidence,
    conclusive_probes,
    label,
    one_per_kind,
    operation_of,
    refused_as,
    statuses,
)
from hobbyhorse.conformance.server.queries import GRANTED, REFUSED
from hobbyhorse.contract.values import Contract, Operation, Parameter
from hobbyhorse.traces.annotated import AnnotatedTrace, Step


def _queried(contract: Contract) -> bool:
    return any(one.part == "query" for operation in contract.operations.values() for one in operation.parameters)


@rule(
    "QRY-01",
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
            yield step.exchange.probe, Breach(message, _schema(trace, step), step.status)


@rule(
    "QRY-02",
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
                *_schema(trace, step),
                *statuses(trace.contract, operation, [operation.situations["invalid_request"]]),
            )
            yield step.exchange.probe, Breach(message, places, step.status)
        else:
            for breach in refused_as(trace, step, "invalid_request"):
                yield (step.role, breach.places), breach


def _granted_without(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether the operation grants a request without a query, with the same key."""
    return any(
        other.ok and not urlsplit(other.exchange.url).query and trace.key(other) == trace.key(step)
        for other in trace.of(step.role or "")
    )


def _schema(trace: AnnotatedTrace, step: Step) -> tuple[str, ...]:
    """Return the places of the keyword that a query is at, or beyond."""
    _, _, name, keyword = (step.exchange.probe or "").split(":", 3)
    return tuple(_places(one, keyword) for one in _named(operation_of(trace, step), name))


def _named(operation: Operation, name: str) -> Iterator[Parameter]:
    return (one for one in operation.parameters if one.part == "query" and one.name == name)


def _places(parameter: Parameter, keyword: str) -> str:
    return f"{parameter.schema}/{keyword}"
