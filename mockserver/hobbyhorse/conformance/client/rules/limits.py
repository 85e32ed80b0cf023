"""Rules about limits of the account: submissions over the limit wait at the client. Knows no server."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from hobbyhorse.conformance.client.rules.requests import requested_parameters, sent_by, value_of
from hobbyhorse.conformance.rule import OBSERVED, SHOULD, WIRE, Breach, Evidence, rule
from hobbyhorse.traces.annotated import AnnotatedTrace, Step, canonical
from hobbyhorse.traces.exchange import ANSWER_HEADERS, BODY

TOO_MANY_REQUESTS = 429  # RFC 6585, section 4
# Attempts to submit one order. More would excuse a client that polls the limit; fewer would accuse a client that waits
# for a long job with growing pauses.
MOST_ORDER_TRIES = 10
# Seconds before a refused submission is retried while other jobs are running: 0.5, less the rounding of recorded
# times (1 ms). Longer than after other failures, because a place becomes free only when a job ends.
LEAST_ORDER_GAP = 0.5 - 0.001


@rule(
    "CON-01",
    "concurrency-limit",
    level=SHOULD,
    severity="S3",
    channel=WIRE,
    timing=True,
    says="If a submission is refused (429) while other jobs are running, the client waits for a free slot: few "
    "retries, with pauses.",
    because="Without a queue of its own, a client hits the limit repeatedly, and loses the submissions that it gives "
    "up: ArcReel/ArcReel#1822.",
)
def concurrency_limit(trace: AnnotatedTrace) -> Evidence:
    for order in _orders(trace):
        busy = [step for step in order if step.delivered and step.status == TOO_MANY_REQUESTS and _others(trace, step)]
        if not busy:
            continue
        yield OBSERVED
        owners = _owners(trace, order[0])
        if len(order) > MOST_ORDER_TRIES * owners:
            most = MOST_ORDER_TRIES * owners
            yield Breach(f"one order was submitted {len(order)} times while other jobs were running; allowed: {most}")
        if owners == 1:
            yield from _hasty(order, busy)


def _hasty(order: tuple[Step, ...], busy: list[Step]) -> Iterator[Breach]:
    """Yield a breach for each retry that is too early, unless the provider requested the wait."""
    for step, again in pairwise(order):
        gap = again.arrived - step.done
        if not step.exchange.has(ANSWER_HEADERS):
            continue
        if step in busy and gap < LEAST_ORDER_GAP and step.exchange.answer_header("retry-after") is None:
            yield Breach(f"request {again.number} retries a submission only {gap:.3f} s after a 429; minimum: 0.5 s")


def _orders(trace: AnnotatedTrace) -> Iterator[tuple[Step, ...]]:
    """Yield the submissions with the same URL and body: concurrent runs differ in nothing else."""
    groups: dict[object, list[Step]] = {}
    for step in trace.submits:
        if (same := trace.identity(step)) is not None:
            groups.setdefault(same, []).append(step)
    yield from map(tuple, groups.values())


def _owners(trace: AnnotatedTrace, step: Step) -> int:
    """Return how many runs may have sent a submission: the runs with its prompt, or else all runs."""
    wait_began = [run for run in trace.runs if not run.resumed]
    sent = sent_by(trace, step)
    if sent is None:
        return max(1, len(wait_began))
    prompt = value_of(sent, sent.parameters, "prompt")
    same = [one for one in requested_parameters(trace, step, sent) if value_of(sent, one, "prompt") == prompt]
    return len(same) or max(1, len(wait_began))


def _others(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether the client knows of another running job when a submission is refused."""
    mine = canonical(step.exchange.body)
    for other in trace.submits:
        accepted = other.accepted and other.done <= step.done and canonical(other.exchange.body) != mine
        known = accepted and other.exchange.has(BODY)
        if known and not any(
            (read.terminal or read.unread) and read.done < step.arrived for read in _reads(trace, other)
        ):
            return True
    return False


def _reads(trace: AnnotatedTrace, accepted: Step) -> Iterator[Step]:
    yield accepted
    yield from (read for read in trace.reads if read.job == accepted.job_told)
