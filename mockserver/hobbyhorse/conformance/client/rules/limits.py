"""Rules about limits of the account: what the provider does not take at once waits at the client."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from hobbyhorse.conformance.client.rule import Rule
from hobbyhorse.conformance.client.rules.requests import asked_for, sent_by, value_of
from hobbyhorse.traces.annotated import AnnotatedTrace, Step, canonical

TOO_MANY_REQUESTS = 429
MOST_ORDER_TRIES = 10
LEAST_ORDER_GAP = 0.5 - 0.001
"""Seconds before an order is sent again that was refused because others are under way, as exact as moments are."""


def concurrency_limit(story: AnnotatedTrace) -> list[str] | None:
    """Count how often, and how fast, an order is sent again while another job keeps its place."""
    found: list[str] = []
    seen = False
    for order in _orders(story):
        busy = [step for step in order if step.delivered and step.status == TOO_MANY_REQUESTS and _others(story, step)]
        if not busy:
            continue
        seen = True
        owners = _owners(story, order[0])
        if len(order) > MOST_ORDER_TRIES * owners:
            found.append(f"an order was sent {len(order)} times while other jobs were under way")
        if owners == 1:
            found += _hasty(order, busy)
    return found if seen else None


def _hasty(order: tuple[Step, ...], busy: list[Step]) -> Iterator[str]:
    """Yield a sentence for each repetition that comes too soon; what the provider itself asked for is not."""
    for step, again in pairwise(order):
        gap = again.arrived - step.done
        if step in busy and gap < LEAST_ORDER_GAP and step.exchange.answer_header("retry-after") is None:
            yield f"request {again.number} sends an order again {gap:.3f} s after 429"


def _orders(story: AnnotatedTrace) -> Iterator[tuple[Step, ...]]:
    """Yield the submissions with the same body and address; runs at the same time are told apart by these alone."""
    groups: dict[object, list[Step]] = {}
    for step in story.submits:
        groups.setdefault((step.exchange.url, canonical(step.exchange.body)), []).append(step)
    yield from map(tuple, groups.values())


def _owners(story: AnnotatedTrace, step: Step) -> int:
    """Return how many runs may have sent a submission: those that were asked for its prompt, or else all."""
    begun = [run for run in story.trace.runs if not run.resumed]
    sent = sent_by(story, step)
    if sent is None:
        return max(1, len(begun))
    prompt = value_of(sent, sent.parameters, "prompt")
    same = [asked for asked in asked_for(story, step, sent) if value_of(sent, asked, "prompt") == prompt]
    return len(same) or max(1, len(begun))


def _others(story: AnnotatedTrace, step: Step) -> bool:
    """Whether another job is under way when a submission is refused, for all that the client knows."""
    mine = canonical(step.exchange.body)
    for other in story.submits:
        accepted = other.accepted and other.done <= step.done and canonical(other.exchange.body) != mine
        if accepted and not any(read.terminal and read.done < step.arrived for read in _reads(story, other)):
            return True
    return False


def _reads(story: AnnotatedTrace, accepted: Step) -> Iterator[Step]:
    yield accepted
    yield from (read for read in story.reads if read.job == accepted.job_told)


RULES = (
    Rule(
        "CON-01",
        "concurrency-limit",
        "SHOULD",
        "S3",
        "wire",
        "An order that is refused (429) while others are under way waits for its turn: few repetitions, with pauses.",
        "Without a queue of its own a client holds its orders against the limit again and again, and loses those that "
        "it gives up: ArcReel/ArcReel#1822.",
        concurrency_limit,
        timing=True,
    ),
)
