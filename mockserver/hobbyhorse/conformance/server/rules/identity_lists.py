"""The rule about the pages of a list. Knows no server."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from hobbyhorse.conformance.rule import MUST, OBSERVED, Breach, rule
from hobbyhorse.conformance.server.expected import (
    KindEvidence,
    binding_places,
    conclusive_probes,
    label,
    one_per_kind,
    operation_of,
)
from hobbyhorse.contract.reading import message_of, read_items
from hobbyhorse.contract.values import Contract, Operation
from hobbyhorse.traces.annotated import AnnotatedTrace, Step

PAGES = "identity:pages"
# The values that request a part of a list, and with it another part than before.
PARTS = ("page", "offset", "cursor")
# The first page, another one, and the first page again.
FEW_REQUESTS = 3


def _pages(contract: Contract) -> bool:
    listing = contract.operations.get("list")
    return listing is not None and listing.items is not None and "size" in listing.bindings


@rule(
    "IDN-06",
    "pages",
    level=MUST,
    severity="S2",
    applies=_pages,
    says="A page of a list has at most as many items as requested, and no item of another page.",
    because="A client that walks through the pages misses jobs, or never comes to the end.",
    fix="Apply the requested size and offset in the query of the list, under an order that new jobs do not change.",
)
@one_per_kind
def pages(trace: AnnotatedTrace) -> KindEvidence:
    """Compare the suite's own requests for pages with the items in the responses."""
    steps = [step for step in conclusive_probes(trace, PAGES) if step.ok and step.role == "list"]
    for step in steps:
        operation = operation_of(trace, step)
        size, items = requested(operation, step, "size"), jobs_of(operation, step)
        if size is not None and size.isdecimal():
            yield OBSERVED
            if len(items) > int(size):
                message = f"{label(step)}: {len(items)} items; requested: {size}"
                yield "size", Breach(message, binding_places(trace.contract, operation, "size"), len(items))
    yield from _shared(trace, steps)


def _shared(trace: AnnotatedTrace, steps: list[Step]) -> KindEvidence:
    """Compare different pages, if the first one is the same before and after."""
    if len(steps) < FEW_REQUESTS:
        return
    first, *others, again = steps
    operation = operation_of(trace, first)
    before = jobs_of(operation, first)
    # Another client of the account may have submitted a job, which moves every item.
    if before != jobs_of(operation, again):
        return
    for other in others:
        yield OBSERVED
        common = set(before) & set(jobs_of(operation, other))
        if common:
            message = f"{label(other)}: another page than {label(first)} has the same job {min(common)!r}"
            places = tuple(at for name in PARTS for at in binding_places(trace.contract, operation, name))
            yield "shared", Breach(message, places, min(common))


def requested(operation: Operation, step: Step, name: str) -> str | None:
    """Return a bound value of the query of a request."""
    query = dict(parse_qsl(urlsplit(step.exchange.url).query))
    binding = operation.bindings.get(name)
    places = binding.request if binding is not None else ()
    return next((query[place.name] for place in places if place.part == "query" and place.name in query), None)


def jobs_of(operation: Operation, step: Step) -> list[str]:
    """Return the ids of the jobs in a list."""
    items = read_items(operation, message_of((), step.value))
    return [str(item["job"]) for item in items if item.get("job")]
