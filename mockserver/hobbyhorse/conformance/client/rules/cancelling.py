"""Rules about cancelling: an abandoned job is cancelled, and the result of that is reported. Knows no server."""

from __future__ import annotations

from hobbyhorse.conformance.client.grouping import submitted_again
from hobbyhorse.conformance.client.rule import Rule, each_order
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import GAVE_UP, READS, AnnotatedTrace, Step

# Requests to cancel with a definite response. The first one decides; more than a few show a loop.
MOST_CANCELS = 3
# Requests to cancel, transient failures included: as many as retries of a refused submission.
MOST_CANCEL_TRIES = 8
# The share of the longest wait after which giving up is likely to be the client's own deadline. A client that stops
# earlier has met an error, and need not believe that its job is still running.
OWN_DEADLINE_SHARE = 0.5


@each_order
def cancel_on_abort(trace: AnnotatedTrace) -> list[str] | None:
    """Look for a request to cancel an abandoned job."""
    outcome = trace.outcome
    if outcome is None or outcome.kind not in GAVE_UP or not trace.knew_job or trace.ended or trace.has_foreign_links:
        return None
    accepted = [step for step in trace.submits if step.accepted]
    if not accepted or not accepted[-1].clean or not _last_shown_under_way(trace):
        return None
    if trace.waited < OWN_DEADLINE_SHARE * trace.patience:
        return None
    if any(step.job in (accepted[-1].job_told, None) for step in trace.of("cancel")):
        return []
    return [f"the client gave up after {trace.waited:.0f} s and left the job {accepted[-1].job_told} running"]


def _last_shown_under_way(trace: AnnotatedTrace) -> bool:
    """Whether the last conclusive response about the job reports that it is under way."""
    conclusive = [read for read in trace.reads if read.ok or not read.transient]
    return bool(conclusive) and conclusive[-1].under_way


@each_order
def cancel_race(trace: AnnotatedTrace) -> list[str] | None:
    """Check the requests and the report that follow a request to cancel."""
    cancels = trace.of("cancel")
    if not cancels:
        return None
    found = [
        f"request {again.number} submits again after request {cancels[0].number} to cancel"
        for again in submitted_again(trace, cancels[0])
    ]
    settled = [step for step in cancels if not step.transient]
    if len(settled) > MOST_CANCELS or len(cancels) > MOST_CANCEL_TRIES:
        found.append(f"the client sent {len(cancels)} requests to cancel the job")
    return found + _lost(trace, cancels)


def _lost(trace: AnnotatedTrace, cancels: tuple[Step, ...]) -> list[str]:
    """Return a finding if the client loses a job that may still exist: its report does not have the id."""
    outcome = trace.outcome
    if outcome is None or outcome.kind not in GAVE_UP or trace.exposed is not False or not trace.knew_job:
        return []
    later = [step for step in trace.steps if step.number >= cancels[0].number and step.role in (*READS, "cancel")]
    won = next((step for step in later if "success" in step.kinds and step.terminal), None)
    if won is not None:
        return [
            f"request {won.number} reports that the job was done before it was cancelled; "
            "the error does not expose the job id"
        ]
    refused = next((step for step in cancels if step.delivered and step.status >= 400), None)
    if refused is not None:
        return [
            f"the job was not cancelled (request {refused.number}: {refused.status}), "
            "and the error does not expose the job id"
        ]
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
        "A client that stops waiting for a job cancels it, if the provider supports that.",
        "The video is no longer wanted, and yet it is rendered and billed: juspay/neurolink#1548.",
        cancel_on_abort,
        _cancels,
    ),
    Rule(
        "CAN-02",
        "cancel-race",
        "MUST",
        "S2",
        "outcome",
        "If a request to cancel comes too late or is refused, take the video or report the job's id; do not submit "
        "again, and do not repeat the request without a bound.",
        "A refund that assumes a successful cancellation costs twice, because the provider still bills: "
        "elizaOS/eliza#11920.",
        cancel_race,
        _cancels,
    ),
)
