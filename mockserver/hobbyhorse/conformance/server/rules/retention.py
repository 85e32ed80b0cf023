"""Rules about what is kept: links and jobs can be read for as long as was promised. Knows no server."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from hobbyhorse.conformance.server.rule import Breach, ServerRule
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace, Step
from hobbyhorse.traces.orders import making, own, reads_of

LIFE = "lifecycle.json#/retention/result_url"
JOB = "lifecycle.json#/retention/job"
REFUSED_STATUSES = frozenset({401, 403, 404, 410})
GONE_STATUSES = frozenset({404, 410})
MARGIN = 60.0
"""Seconds by which two clocks may differ where nothing tells."""
TICK = 1.5
"""Seconds by which a moment that an endpoint tells may be rounded."""
FAR = 1e12
"""Seconds since 1970 that are no moment any more."""
ROUNDED = 0.98
"""The part of a documented life that is near enough to it."""


@dataclass(frozen=True, slots=True)
class VideoFetch:
    """A request for a video, and when its link expires by our clock: not before `least`, not after `most`."""

    step: Step
    least: float
    most: float
    places: tuple[str, ...]


def readable_until_expiry(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Look for a link that was refused before it expires, and for one that expires before its time."""
    found = list(_otherwise(annotated, shorter=True))
    seen = bool(found)
    for fetch in _fetches(annotated):
        step = fetch.step
        if step.arrived > fetch.least or not step.delivered:
            continue
        if 200 <= step.status < 300:
            seen = True
        elif step.status in REFUSED_STATUSES and step.exchange.header("authorization") is None:
            seen = True
            left = (
                "it never expires" if fetch.least == math.inf else f"{fetch.least - step.arrived:.0f} s before its end"
            )
            message = f"request {step.number} for the video is refused ({step.status}), {left}"
            found.append(Breach(message, fetch.places, step.status))
    return found if seen else None


def _lives(annotated: AnnotatedTrace) -> Iterator[tuple[Step, int]]:
    """Yield the answers that tell a link's expiry and the job's end, and the whole seconds between them."""
    for step in annotated.reads:
        expires, finished = _moment(step, "expires_at"), _moment(step, "finished_at")
        if step.success and step.clean and expires is not None and finished is not None:
            yield step, round(expires - finished)


def _otherwise(annotated: AnnotatedTrace, *, shorter: bool) -> Iterator[Breach]:
    """Yield the first link whose life, as told, is shorter than what the contract says, or longer."""
    life = annotated.contract.retention.result_url
    for step, lives in _lives(annotated) if life is not None else ():
        assert life is not None
        differs = lives < ROUNDED * life - MARGIN if shorter else lives * ROUNDED - MARGIN > life
        if differs:
            patch = {"file": "lifecycle.json", "op": "replace", "path": "/retention/result_url", "value": lives}
            message = f"request {step.number} has a link that lives {lives} s after the job's end, not {life:.0f}"
            yield Breach(message, (LIFE,), lives, (patch,))
            return


def refused_after(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Look for a link that still works after it has expired, and for one that expires later than it should."""
    found = list(_otherwise(annotated, shorter=False))
    seen = bool(found)
    for fetch in _fetches(annotated):
        step = fetch.step
        if step.arrived < fetch.most or not step.delivered or step.transient:
            continue
        seen = True
        if 200 <= step.status < 300:
            late = f"{step.arrived - fetch.most:.0f} s after its link has expired"
            found.append(Breach(f"request {step.number} still gets the video, {late}", fetch.places, step.status))
    return found if seen else None


def status_readable(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Look for a job that can no longer be read although it is kept."""
    life = annotated.contract.retention.job
    found: list[Breach] = []
    seen = False
    for job in dict.fromkeys(step.job for step in annotated.reads if step.terminal):
        first = next(step for step in reads_of(annotated, job) if step.terminal)
        made = making(annotated, job)
        ended = _moment(first, "finished_at") or (first.arrived if made is None else made.done)
        for read in reads_of(annotated, job):
            if read.arrived <= first.done or not own(annotated, read) or read.transient:
                continue
            if life is not None and read.arrived > ended + life - MARGIN:
                continue
            seen = seen or read.ok
            if read.status in GONE_STATUSES and read.role == first.role:
                seen = True
                message = f"the job {job} can no longer be read: request {read.number} is answered {read.status}"
                found.append(Breach(message, (JOB,), read.status))
                break
    return found if seen else None


def _fetches(annotated: AnnotatedTrace) -> Iterator[VideoFetch]:
    """Yield the requests for videos whose links were told, with what is known of their expiry."""
    tellers: dict[str, list[Step]] = {}
    for step in annotated.steps:
        if step.success and step.video is not None:
            tellers.setdefault(step.video, []).append(step)
    for step in annotated.fetches:
        telling = [teller for teller in tellers.get(step.exchange.url, ()) if teller.done <= step.arrived]
        if telling:
            least, most, places = _expiry(annotated, telling[-1])
            behind, ahead = _clocks(annotated, telling[-1])
            yield VideoFetch(step, least - ahead, most - behind, places)


def _clocks(annotated: AnnotatedTrace, told: Step) -> tuple[float, float]:
    """Return by how many seconds the endpoint's clock may be behind ours, below 0, and ahead of it, above."""
    made, created = making(annotated, told.job), _moment(told, "created_at")
    if made is None or created is None:
        return -MARGIN, MARGIN
    return min(created - made.done, 0.0) - TICK, max(created - made.arrived, 0.0) + TICK


def _expiry(annotated: AnnotatedTrace, told: Step) -> tuple[float, float, tuple[str, ...]]:
    """Return when a link expires, at the earliest and at the latest, and where the contract says so."""
    expires = _moment(told, "expires_at")
    if expires is not None:
        return expires, expires, (f"lifecycle.json#/operations/{told.role}/bindings/expires_at",)
    life = annotated.contract.retention.result_url
    if life is None:
        return math.inf, math.inf, (LIFE,)
    finished = _moment(told, "finished_at")
    if finished is not None:
        return finished + life, finished + life, (LIFE,)
    made = making(annotated, told.job)
    first = next((read for read in reads_of(annotated, told.job) if read.terminal), told)
    return (first.arrived if made is None else made.arrived) + life, first.done + life, (LIFE,)


def _moment(step: Step, name: str) -> float | None:
    """Return a moment that an answer tells; None where it is none, or 0."""
    value = step.reading.values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value < FAR else None


def _expires(contract: Contract) -> bool:
    told = any("expires_at" in operation.bindings for operation in contract.operations.values())
    return told or contract.retention.result_url is not None


RULES = (
    ServerRule(
        "RET-01",
        "readable-until-expiry",
        "MUST",
        "S1",
        "The link to a video works until it expires, and that is not before the contract says.",
        "A video that was paid for is gone before it was saved: Comfy-Org/docs#1594 had an hour left.",
        readable_until_expiry,
    ),
    ServerRule(
        "RET-02",
        "refused-after",
        "SHOULD",
        "S3",
        "A link that has expired is refused, and it expires no later than the contract says.",
        "A link that works in tests and not in the gallery a week later is found by users: openslop/openslop#405.",
        refused_after,
        _expires,
    ),
    ServerRule(
        "RET-03",
        "status-readable",
        "MUST",
        "S2",
        "A job that has ended can be read for as long as the contract says.",
        "A client that comes back after a restart must find its job, or orders it again: ArcReel/ArcReel#628.",
        status_readable,
    ),
)
