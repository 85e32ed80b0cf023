"""Rules about queries and lists: a list has the requested page, and a query is judged by its documented bounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

from hobbyhorse.conformance.rule import MUST, OBSERVED, SHOULD, Breach, rule
from hobbyhorse.conformance.server.expected import (
    LIFECYCLE,
    KindEvidence,
    bound_at,
    conclusive_probes,
    label,
    one_per_kind,
    operation_of,
    refused_as,
    statuses,
)
from hobbyhorse.conformance.server.queries import FIRST, GRANTED, NEXT, REFUSED, query_name
from hobbyhorse.conformance.server.rules.identity import jobs_accepted_before
from hobbyhorse.contract.forms.expressions import format_pointer
from hobbyhorse.contract.reading import message_of, read_items
from hobbyhorse.contract.values import Contract, Operation, Parameter
from hobbyhorse.traces.annotated import AnnotatedTrace, Step

# The values that select a page, and those of them that a response repeats.
PAGED = ("page", "size", "offset", "cursor")
REPEATED = ("page", "size", "offset")


def _queried(contract: Contract) -> bool:
    return any(one.part == "query" for operation in contract.operations.values() for one in operation.parameters)


def _paged(contract: Contract) -> bool:
    return any(operation.items and _names(operation) for operation in contract.operations.values())


def _names(operation: Operation) -> dict[str, str]:
    """Return the query parameters that select a page, by the value that they are bound to."""
    return {bound: name for bound in PAGED if (name := query_name(operation, bound)) is not None}


@rule(
    "LST-01",
    "page-as-requested",
    level=MUST,
    severity="S3",
    applies=_paged,
    says="A list has at most as many items as requested, and repeats the requested page and size.",
    because="A client that asks for few items gets all of them, and reads them again on each page.",
)
@one_per_kind
def page_as_requested(trace: AnnotatedTrace) -> KindEvidence:
    """Compare lists with the page that their query requests."""
    for step in conclusive_probes(trace, FIRST, NEXT, GRANTED):
        operation = operation_of(trace, step)
        asked = _asked(operation, step)
        if not step.ok or operation.items is None or not asked:
            continue
        count = len(_items(operation, step))
        if "size" in asked:
            yield OBSERVED
            if count > asked["size"]:
                message = f"{label(step)}: {count} items; requested: {asked['size']}"
                yield (step.role, "size"), Breach(message, _parameter(operation, "size"), count)
        for name in REPEATED:
            repeated = step.reading.values.get(name)
            if name in asked and repeated is not None and repeated != asked[name]:
                message = f"{label(step)}: {name} {repeated!r}; requested: {asked[name]}"
                places = (*_parameter(operation, name), *bound_at(trace.contract, operation, name, step))
                yield (step.role, name), Breach(message, places, repeated)


@rule(
    "LST-02",
    "pages-differ",
    level=MUST,
    severity="S2",
    applies=_paged,
    says="A list with more jobs than fit on a page has a next page, and that page has other jobs.",
    because="A client that looks for its job page by page reads the first page forever, or stops before it finds the "
    "job, and submits again.",
)
@one_per_kind
def pages_differ(trace: AnnotatedTrace) -> KindEvidence:
    """Compare successive pages of one item each."""
    first: Step | None = None
    for step in conclusive_probes(trace, FIRST, NEXT):
        operation = operation_of(trace, step)
        if step.ok and step.exchange.probe == FIRST:
            first = step
            yield from _without_next(trace, operation, step)
        elif step.ok and first is not None and first.role == step.role:
            yield OBSERVED
            yield from _same_again(operation, first, step)


def _without_next(trace: AnnotatedTrace, operation: Operation, step: Step) -> KindEvidence:
    """Find a page of few jobs without the cursor of the next page, although more jobs were accepted."""
    listed, made = len(_items(operation, step)), len(jobs_accepted_before(trace, step))
    if operation.role != "list" or "next_cursor" not in operation.bindings or not 0 < listed < made:
        return
    yield OBSERVED
    if "next_cursor" not in step.reading.values:
        message = f"{label(step)}: {listed} of at least {made} jobs, and no cursor of a next page"
        yield (step.role, "cursor"), Breach(message, bound_at(trace.contract, operation, "next_cursor", step))


def _same_again(operation: Operation, first: Step, then: Step) -> KindEvidence:
    """Find an item that is on two successive pages."""
    known = [_key(item) for item in _items(operation, first)]
    again = [key for item in _items(operation, then) if (key := _key(item)) in known]
    if again:
        places = tuple(place for name in _names(operation) if name != "size" for place in _parameter(operation, name))
        message = f"{label(then)}: {again[0]!r} is also on the page before, in request {first.number}"
        yield then.role, Breach(message, places, again)


@rule(
    "LST-03",
    "query-bounds-granted",
    level=MUST,
    severity="S3",
    applies=_queried,
    says="A query at a documented bound is granted.",
    because="Clients validate requests against the documentation, and offer their users the documented range.",
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
    "LST-04",
    "query-refused",
    level=SHOULD,
    severity="S4",
    applies=_queried,
    says="A query beyond a documented bound is refused, as documented.",
    because="A client with a misspelt parameter gets another page than it asked for, and takes it for the right one.",
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


def _asked(operation: Operation, step: Step) -> dict[str, int]:
    """Return the numbers that a request's query has for the values that select a page."""
    query = parse_qs(urlsplit(step.exchange.url).query)
    found = {bound: query[name][0] for bound, name in _names(operation).items() if name in query}
    return {bound: int(text) for bound, text in found.items() if text.isdecimal() and text.isascii()}


def _items(operation: Operation, step: Step) -> list[Any]:
    return list(read_items(operation, message_of((), step.value)))


def _key(item: Any) -> Any:
    """Return what identifies an item: the id of a job, or of a model."""
    return item.get("job", item.get("model"))


def _parameter(operation: Operation, bound: str) -> tuple[str, ...]:
    """Return the places that document a query parameter that is bound to a value."""
    name = query_name(operation, bound)
    found = [one.schema for one in operation.parameters if one.part == "query" and one.name == name]
    return (f"{LIFECYCLE}{format_pointer(('operations', operation.role, 'bindings', bound))}", *found)


def _schema(trace: AnnotatedTrace, step: Step) -> tuple[str, ...]:
    """Return the places of the keyword that a query is at, or beyond."""
    _, _, name, keyword = (step.exchange.probe or "").split(":", 3)
    return tuple(_places(one, keyword) for one in _named(operation_of(trace, step), name))


def _named(operation: Operation, name: str) -> Iterator[Parameter]:
    return (one for one in operation.parameters if one.part == "query" and one.name == name)


def _places(parameter: Parameter, keyword: str) -> str:
    return f"{parameter.schema}/{keyword}"
