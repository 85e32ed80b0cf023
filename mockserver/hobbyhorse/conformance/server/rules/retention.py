"""Rules about retention: links and jobs stay readable for the documented time. Knows no server."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from hobbyhorse.conformance.rule import MUST, OBSERVED, SHOULD, VIDEO, Breach, Evidence, rule
from hobbyhorse.conformance.server.expected import set_in_lifecycle
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace, Step
from hobbyhorse.traces.orders import making, own, reads_of

LIFE = "lifecycle.json#/retention/result_url"
JOB = "lifecycle.json#/retention/job"
REFUSED_STATUSES = frozenset({401, 403, 404, 410})
GONE_STATUSES = frozenset({404, 410})
# Seconds by which two clocks may differ if no response reveals the difference.
MARGIN = 60.0
# Seconds by which a reported timestamp may be off: one from rounding to whole seconds, half a second of slack.
TICK = 1.5
# Seconds since 1970 beyond which a number is in another unit (this one is the year 33658).
FAR = 1e12
# Documentation rounds ("about a day"): a lifetime two percent below the documented one is close enough.
ROUNDED = 0.98


@dataclass(frozen=True, slots=True)
class VideoFetch:
    """A request for a video, with the bounds of its link's expiry by our clock: `least` and `most`."""

    step: Step
    least: float
    most: float
    places: tuple[str, ...]


def _expires(contract: Contract) -> bool:
    reported = any("expires_at" in operation.bindings for operation in contract.operations.values())
    return reported or contract.retention.result_url is not None


@rule(
    "RET-01",
    "readable-until-expiry",
    level=MUST,
    severity="S1",
    harm=VIDEO,
    says="A link to a video works until it expires, and expires no earlier than the contract says.",
    because="A paid video is gone before it is saved: in Comfy-Org/docs#1594 a link had one hour left.",
    fix="Sign links for at least the documented lifetime, and keep the file for as long.",
)
def readable_until_expiry(trace: AnnotatedTrace) -> Evidence:
    """Find links that were refused before they expired, and links that expire too early."""
    yield from _other_life(trace, shorter=True)
    for fetch in _fetches(trace):
        step = fetch.step
        if step.arrived > fetch.least or not step.delivered:
            continue
        if 200 <= step.status < 300:
            yield OBSERVED
        # A request with a key shows nothing: some stores refuse any request that carries one.
        elif step.status in REFUSED_STATUSES and step.exchange.header("authorization") is None:
            left = (
                "although it never expires"
                if fetch.least == math.inf
                else f"{fetch.least - step.arrived:.0f} s before its expiry"
            )
            message = f"the video link was refused ({step.status}, request {step.number}) {left}"
            yield Breach(message, fetch.places, step.status)


def _lives(trace: AnnotatedTrace) -> Iterator[tuple[Step, int]]:
    """Yield each response with a link's expiry and the job's end, and the whole seconds between them."""
    for step in trace.reads:
        expires, finished = _moment(step, "expires_at"), _moment(step, "finished_at")
        if step.success and step.clean and expires is not None and finished is not None:
            yield step, round(expires - finished)


def _other_life(trace: AnnotatedTrace, *, shorter: bool) -> Iterator[Breach]:
    """Yield the first link whose reported lifetime is shorter, or longer, than the contract's."""
    life = trace.contract.retention.result_url
    for step, lives in _lives(trace) if life is not None else ():
        assert life is not None
        differs = lives < ROUNDED * life - MARGIN if shorter else lives * ROUNDED - MARGIN > life
        if differs:
            patch = set_in_lifecycle(trace.contract, "/retention/result_url", lives)
            lifetime = f"expires {lives} s after the job's end; documented: {life:.0f} s"
            message = f"request {step.number} returns a link that {lifetime}"
            yield Breach(message, (LIFE,), lives, patch)
            return


@rule(
    "RET-02",
    "refused-after",
    level=SHOULD,
    severity="S3",
    applies=_expires,
    says="An expired link is refused, and a link expires no later than the contract says.",
    because="A link that works in tests and is dead a week later is first noticed by users: openslop/openslop#405.",
    fix="Check the expiry on each download, and sign links for no longer than documented.",
)
def refused_after(trace: AnnotatedTrace) -> Evidence:
    """Find links that work after their expiry, and links that expire too late."""
    yield from _other_life(trace, shorter=False)
    for fetch in _fetches(trace):
        step = fetch.step
        # Between `least` and `most` the link may or may not work.
        if step.arrived < fetch.most or not step.delivered or step.transient:
            continue
        yield OBSERVED
        if 200 <= step.status < 300:
            late = f"{step.arrived - fetch.most:.0f} s after the link expired"
            yield Breach(f"request {step.number} still gets the video {late}", fetch.places, step.status)


@rule(
    "RET-03",
    "status-readable",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    says="A job that has ended stays readable for as long as the contract says.",
    because="A client that returns after a restart must find its job, or it submits again: ArcReel/ArcReel#628.",
    fix="Delete ended jobs only after the documented retention.",
)
def status_readable(trace: AnnotatedTrace) -> Evidence:
    """Find jobs that can no longer be read although the contract still keeps them."""
    for job in dict.fromkeys(step.job for step in trace.reads if step.terminal):
        first = next(step for step in reads_of(trace, job) if step.terminal)
        for read in _reads_while_kept(trace, job, first):
            if read.ok:
                yield OBSERVED
            # Another role may have no result to show: only the operation that showed the end must still show it.
            if read.status in GONE_STATUSES and read.role == first.role:
                message = f"job {job} can no longer be read: request {read.number} gets {read.status}"
                yield Breach(message, (JOB,), read.status)
                break


def _reads_while_kept(trace: AnnotatedTrace, job: str | None, first: Step) -> Iterator[Step]:
    """Yield the conclusive reads of a job after `first`, which showed its end, while the contract keeps the job."""
    life, made = trace.contract.retention.job, making(trace, job)
    ended = _moment(first, "finished_at") or (first.arrived if made is None else made.done)
    # Near the end of its lifetime a job may be gone already.
    latest = math.inf if life is None else ended + life - MARGIN
    for read in reads_of(trace, job):
        if first.done < read.arrived <= latest and own(trace, read) and not read.transient:
            yield read


def _fetches(trace: AnnotatedTrace) -> Iterator[VideoFetch]:
    """Yield the requests for videos whose links a response contained, with the bounds of their expiry."""
    sources: dict[str, list[Step]] = {}
    for step in trace.steps:
        if step.success and step.video is not None:
            sources.setdefault(step.video, []).append(step)
    for step in trace.fetches:
        known = [source for source in sources.get(step.exchange.url, ()) if source.done <= step.arrived]
        if known:
            least, most, places = _expiry(trace, known[-1])
            behind, ahead = _clocks(trace, known[-1])
            yield VideoFetch(step, least - ahead, most - behind, places)


def _clocks(trace: AnnotatedTrace, shown: Step) -> tuple[float, float]:
    """Return how far the endpoint's clock may be behind ours (0 or less) and ahead of it, in seconds."""
    made, created = making(trace, shown.job), _moment(shown, "created_at")
    if made is None or created is None:
        return -MARGIN, MARGIN
    # The job was created, by the endpoint's clock, while the submission was under way by ours.
    return min(created - made.done, 0.0) - TICK, max(created - made.arrived, 0.0) + TICK


def _expiry(trace: AnnotatedTrace, shown: Step) -> tuple[float, float, tuple[str, ...]]:
    """Return a link's earliest and latest expiry, and the places in the contract that define it."""
    expires = _moment(shown, "expires_at")
    if expires is not None:
        return expires, expires, (f"lifecycle.json#/operations/{shown.role}/bindings/expires_at",)
    life = trace.contract.retention.result_url
    if life is None:
        return math.inf, math.inf, (LIFE,)
    finished = _moment(shown, "finished_at")
    if finished is not None:
        return finished + life, finished + life, (LIFE,)
    made = making(trace, shown.job)
    first = next((read for read in reads_of(trace, shown.job) if read.terminal), shown)
    return (first.arrived if made is None else made.arrived) + life, first.done + life, (LIFE,)


def _moment(step: Step, name: str) -> float | None:
    """Return a timestamp of a response; None if it has none, or it is not plausible."""
    value = step.reading.values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value < FAR else None
