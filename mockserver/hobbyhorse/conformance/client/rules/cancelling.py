"""Rules about cancelling: a job that is given up is cancelled, and what comes of that is told. Knows no server."""

from __future__ import annotations

from hobbyhorse.conformance.client.grouping import reordered
from hobbyhorse.conformance.client.rule import Rule, each_order
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import GAVE_UP, READS, AnnotatedTrace, Step

MOST_CANCELS = 3
MOST_CANCEL_TRIES = 8
"""Requests to cancel, those that failed in a way that may pass among them."""
OWN_DEADLINE_SHARE = 0.5
"""The part of the longest wait after which giving up is likely to be the client's own deadline."""


@each_order
def cancel_on_abort(story: AnnotatedTrace) -> list[str] | None:
    """Look for a request to cancel the job that the client gave up."""
    outcome = story.outcome
    if outcome is None or outcome.kind not in GAVE_UP or not story.knew or story.ended or story.led_away:
        return None
    accepted = [step for step in story.submits if step.accepted]
    if not accepted or not accepted[-1].clean or not _last_shown_under_way(story):
        return None
    if story.lasted < OWN_DEADLINE_SHARE * story.patience:
        return None
    if any(step.job in (accepted[-1].job_told, None) for step in story.of("cancel")):
        return []
    return [f"the client gave up after {story.lasted:.0f} s and left the job {accepted[-1].job_told} running"]


def _last_shown_under_way(story: AnnotatedTrace) -> bool:
    """Whether the last answer about the job that means anything says that it is under way."""
    telling = [read for read in story.reads if read.ok or not read.transient]
    return bool(telling) and telling[-1].under_way


@each_order
def cancel_race(story: AnnotatedTrace) -> list[str] | None:
    """Hold what the client does and reports behind a request to cancel against the answers."""
    cancels = story.of("cancel")
    if not cancels:
        return None
    found = [
        f"request {again.number} orders again behind the request {cancels[0].number} to cancel"
        for again in reordered(story, cancels[0])
    ]
    settled = [step for step in cancels if not step.transient]
    if len(settled) > MOST_CANCELS or len(cancels) > MOST_CANCEL_TRIES:
        found.append(f"the job was cancelled {len(cancels)} times")
    return found + _lost(story, cancels)


def _lost(story: AnnotatedTrace, cancels: tuple[Step, ...]) -> list[str]:
    """Return what is wrong if the client, for all that it reports, drops a job that may be there still."""
    outcome = story.outcome
    if outcome is None or outcome.kind not in GAVE_UP or story.exposed is not False or not story.knew:
        return []
    later = [step for step in story.steps if step.number >= cancels[0].number and step.role in (*READS, "cancel")]
    won = next((step for step in later if "success" in step.kinds and step.terminal), None)
    if won is not None:
        return [f"request {won.number} says that the job was done before it was cancelled; its id is not told"]
    refused = next((step for step in cancels if step.delivered and step.status >= 400), None)
    if refused is not None:
        return [f"the job was not cancelled (request {refused.number}: {refused.status}), and its id is not told"]
    return []


def _cancels(contract: Contract) -> bool:
    return "cancel" in contract.operations


RULES = (
    Rule(
        "CAN-01",
        "cancel-on-abort",
        "SHOULD",
        "S1",
        "wire",
        "A client that stops waiting for a job cancels it, where the provider can cancel.",
        "Nobody is there for the video any more, and it is rendered and billed all the same: juspay/neurolink#1548.",
        cancel_on_abort,
        _cancels,
    ),
    Rule(
        "CAN-02",
        "cancel-race",
        "MUST",
        "S2",
        "outcome",
        "A request to cancel may come too late or be refused: then the video is taken or the job's id is told, nothing "
        "is ordered again, and the request is not repeated without end.",
        "A refund that takes the cancellation for granted pays twice, for the provider bills on: elizaOS/eliza#11920.",
        cancel_race,
        _cancels,
    ),
)
