"""Rules about redirects: which request follows one, and how many are followed. Knows no server."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urljoin

from hobbyhorse.conformance.rule import MUST, OBSERVED, SHOULD, VIDEO, WIRE, Breach, Evidence, rule
from hobbyhorse.traces.annotated import SUBMISSIONS, AnnotatedTrace, Step, canonical
from hobbyhorse.traces.exchange import BODY

# The statuses of a redirect to a URL that the client may request (RFC 9110, section 15.4).
REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Of these, the ones after which the request stays the same (sections 15.4.8 and 15.4.9).
UNCHANGED = frozenset({307, 308})
# Redirects in a row that a client may follow: the default bound of curl, the highest of the common HTTP libraries.
MOST_REDIRECTS = 50


@rule(
    "RED-01",
    "same-request",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=WIRE,
    says="A client that follows a 307 or 308 sends the same request again: the same method, and for a submission the "
    "same body.",
    because="A redirected submission became a GET, or lost its body, so no job was made: reactphp/http#409, "
    "request/request#555, sindresorhus/got#2460. RFC 9110, sections 15.4.8 and 15.4.9.",
    fix="Follow a 307 or 308 with the same method and body, or follow no redirect of the API at all.",
    example="ask",
)
def same_request(trace: AnnotatedTrace) -> Evidence:
    for step in trace.steps:
        after = _following(trace, step) if step.status in UNCHANGED else None
        if after is None:
            continue
        yield OBSERVED
        redirect = f"request {step.number} ({step.exchange.method}) was redirected ({step.status})"
        if after.exchange.method != step.exchange.method:
            yield Breach(f"{redirect}, but request {after.number} follows it with {after.exchange.method}")
        elif step.role in SUBMISSIONS and _other_body(step, after):
            yield Breach(f"{redirect}, but request {after.number} follows it with another body")


@rule(
    "RED-02",
    "bounded-redirects",
    level=SHOULD,
    severity="S3",
    channel=WIRE,
    says="Follow a bounded number of redirects: they may lead in a circle.",
    because="A download that redirects to itself was requested without an end: NixOS/nix#2225, "
    "ReactiveX/RxNetty#87. RFC 9110, section 15.4, tells clients to detect such circles.",
    fix="Bound the redirects that a request follows, as HTTP libraries do by default.",
    example="ask",
)
def bounded_redirects(trace: AnnotatedTrace) -> Evidence:
    for first, followed in _chains(trace):
        yield OBSERVED
        if followed > MOST_REDIRECTS:
            yield Breach(
                f"the client followed {followed} redirects in a row, from request {first.number}; "
                f"allowed: {MOST_REDIRECTS}"
            )


def location(step: Step) -> str | None:
    """Return the URL to which a response redirects, or None."""
    value = step.exchange.answer_header("location")
    if not step.delivered or step.status not in REDIRECTS or not value:
        return None
    try:
        return urljoin(step.exchange.url, value)
    except ValueError:
        return None


def _other_body(step: Step, after: Step) -> bool:
    recorded = step.exchange.has(BODY) and after.exchange.has(BODY)
    return recorded and canonical(after.exchange.body) != canonical(step.exchange.body)


def _following(trace: AnnotatedTrace, step: Step) -> Step | None:
    """Return the request that follows a redirect: the first later one to its target in the same run."""
    target = location(step)
    if target is None or target == step.exchange.url:
        return None
    later = (one for one in trace.after(step, trace.steps) if one.exchange.url == target)
    return next((one for one in later if trace.run_of(one) == trace.run_of(step)), None)


def _chains(trace: AnnotatedTrace) -> Iterator[tuple[Step, int]]:
    """Yield the first request of each longest series of redirects, and how many of them the client followed."""
    first: Step | None = None
    target: str | None = None
    followed = 0
    for step in trace.steps:
        if first is not None and step.exchange.url == target:
            followed += 1
        else:
            if first is not None:
                yield first, followed
            first, followed = None, 0
        target = location(step)
        if target is not None and first is None:
            first = step
        elif target is None and first is not None:
            yield first, followed
            first, followed = None, 0
    if first is not None:
        yield first, followed
