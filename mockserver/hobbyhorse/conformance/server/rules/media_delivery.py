"""The rule about the delivery of the video: without it, silence about a missing file would read as a pass."""

from __future__ import annotations

from collections.abc import Iterator

from hobbyhorse.conformance.rule import MUST, OBSERVED, VIDEO, Breach, Evidence, rule
from hobbyhorse.conformance.server.expected import binding_places, label, operation_of
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace, Step

# A link that responds within this time is slow, not silent; file servers respond within a second.
LEAST_WAIT = 5.0
# Bytes a second: a file that arrives faster and is cut by the suite is long, not stuck.
SLOWEST = 10_000
# A failure of the file server may be temporary; the suite requests the file this often.
FEW_TRIES = 2


def _shows_video(contract: Contract) -> bool:
    return any("video_url" in operation.bindings for operation in contract.operations.values())


@rule(
    "MED-12",
    "delivered",
    level=MUST,
    severity="S1",
    harm=VIDEO,
    applies=_shows_video,
    says="A job that has succeeded has a link to its video, and the link delivers the complete file.",
    because="The video is paid for; a link that breaks off or never answers is noticed only by its user.",
    fix="Report the success only after the upload is complete, together with a link that serves the whole file.",
)
def delivered(trace: AnnotatedTrace) -> Evidence:
    """Find successes without a link, and links that delivered no complete file in repeated requests."""
    yield from _without_link(trace)
    links: dict[str, list[Step]] = {}
    for step in trace.fetches:
        if step.exchange.probe == "job:media":
            links.setdefault(step.exchange.url, []).append(step)
    redirected = any(300 <= step.status < 400 for steps in links.values() for step in steps)
    if any(step.status == 200 and step.delivered for steps in links.values() for step in steps):
        yield OBSERVED
    else:
        for url, tries in links.items():
            why = _undelivered(tries)
            # Of a chain of redirects only the end can deliver, or fail to.
            if why is not None and not (redirected and 300 <= tries[-1].status < 400 and len(links) > 1):
                yield Breach(f"the video's link delivers no complete file: {why}", (), url)


def _without_link(trace: AnnotatedTrace) -> Iterator[Breach]:
    """Yield each succeeded job of which no response has a link to the video, though it is documented there."""
    successes: dict[str | None, list[Step]] = {}
    for step in trace.reads:
        if step.success and "video_url" in operation_of(trace, step).bindings:
            successes.setdefault(step.job, []).append(step)
    for job, steps in successes.items():
        if not any(step.video for step in steps):
            last = steps[-1]
            places = binding_places(trace.contract, operation_of(trace, last), "video_url")
            message = f"job {job} has succeeded, but {label(last)} has no URL of its video"
            yield Breach(message, places, last.reading.values.get("video_url"))


def _undelivered(tries: list[Step]) -> str | None:
    """Return why a link delivered no complete file; None if the tries do not prove it."""
    last = tries[-1]
    if len(tries) < FEW_TRIES:
        return None
    if last.delivered:
        return f"request {last.number} gets {last.status}"
    failures = [_failure(step) for step in tries]
    return None if None in failures else f"request {last.number}: {failures[-1]}"


def _failure(step: Step) -> str | None:
    """Return how the endpoint failed to deliver a response; None if the suite itself may have cut it."""
    one = step.exchange
    after = f"after {one.size} of {one.answer_header('content-length') or 'unknown'} bytes" if one.status else None
    if one.broken_off:
        return f"the connection broke off {after or 'without a response'}"
    if one.waited < LEAST_WAIT or one.size > SLOWEST * one.waited:
        return None
    return f"the response stopped {after}" if after else f"no response within {one.waited:.0f} s"
