"""Rules about cancelling: an abandoned job is cancelled, and the result is reported. Knows no server."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hobbyhorse.conformance.client.grouping import stopped_waiting, submitted_again
from hobbyhorse.conformance.rule import MONEY, MUST, OBSERVED, OUTCOME, SHOULD, WIRE, Breach, Evidence, each_order, rule
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import GAVE_UP, READS, AnnotatedTrace, Step

# Requests to cancel with a definite response. The first one decides; more than a few show a loop.
MOST_CANCELS = 3
# Requests to cancel, transient failures included: as many as retries of a refused submission.
MOST_CANCEL_TRIES = 8
# The share of the longest wait after which giving up is likely to be the client's own deadline, even if neither its
# report nor its last responses show that. A client that stops earlier may have met an error.
OWN_DEADLINE_SHARE = 0.5
# A report that the job is cancelled, and the words that make it another report.
TYPE_NAME = re.compile(r"^[\w.]+: ")
CLAIMED = re.compile(r"\bcancell?ed\b", re.IGNORECASE)
# Words that leave open whether the job was cancelled: some anywhere in the report, others in the clause that says so or
# after it. "Not done in time, and was cancelled" claims it.
UNSURE = re.compile(r"\b(?:may|might|maybe|whether|if|unless|un\w+)\b", re.IGNORECASE)
DOUBTED = re.compile(
    r"n't|\b(?:not|never|cannot|could|fail\w*|refus\w*|tri(?:ed|es)|try\w*|attempt\w*|request\w*|still|running|should|"
    r"must|to be|timed|timeout)\b",
    re.IGNORECASE,
)
CLAUSES = re.compile(r"[,;:.()]|\band\b|\bbut\b", re.IGNORECASE)


def _cancels(contract: Contract) -> bool:
    return "cancel" in contract.operations


@rule(
    "CAN-01",
    "cancel-on-abort",
    level=SHOULD,
    severity="S1",
    harm=MONEY,
    channel=WIRE,
    applies=_cancels,
    says="A client that stops waiting for a job cancels it, if the provider supports cancellation.",
    because="The video is no longer wanted, but is still rendered and billed: juspay/neurolink#1548.",
    fix="When the wait ends at the deadline or is interrupted, send the cancel request before raising the error.",
    example="wait_or_cancel",
)
@each_order
def cancel_on_abort(trace: AnnotatedTrace) -> Evidence:
    outcome = trace.outcome
    if outcome is None or outcome.kind not in GAVE_UP or not trace.knew_job or trace.ended or trace.has_foreign_links:
        return
    accepted = [step for step in trace.submits if step.accepted]
    if not accepted or not accepted[-1].clean or not _last_shown_under_way(trace):
        return
    if not stopped_waiting(trace) and trace.waited < OWN_DEADLINE_SHARE * trace.patience:
        return
    yield OBSERVED
    if not any(step.job in (accepted[-1].job_told, None) for step in trace.of("cancel")):
        yield Breach(f"the client gave up after {trace.waited:.0f} s and left job {accepted[-1].job_told} running")


def _last_shown_under_way(trace: AnnotatedTrace) -> bool:
    """Whether the last conclusive response about the job reports that it is under way."""
    conclusive = [read for read in trace.reads if read.ok or not read.transient]
    return bool(conclusive) and conclusive[-1].under_way


@rule(
    "CAN-02",
    "cancel-race",
    level=MUST,
    severity="S2",
    harm=MONEY,
    channel=OUTCOME,
    applies=_cancels,
    says="If a cancellation arrives too late or is refused, take the video or report the job's id; do not submit "
    "again, and do not repeat the cancellation without a bound.",
    because="A refund that assumes a successful cancellation costs twice, because the provider still bills: "
    "elizaOS/eliza#11920.",
    fix="If the cancellation is refused or reports a completed job, read the result once and return the video; "
    "otherwise raise an error with the job's id.",
    example="wait_or_cancel",
)
@each_order
def cancel_race(trace: AnnotatedTrace) -> Evidence:
    cancels = trace.of("cancel")
    # A job that was cancelled as requested shows nothing about the race.
    if any(step.transient or step.kinds != {"cancelled"} for step in cancels):
        yield OBSERVED
    for again in submitted_again(trace, cancels[0]) if cancels else ():
        yield Breach(f"request {again.number} submits again after cancel request {cancels[0].number}")
    settled = [step for step in cancels if not step.transient]
    if len(settled) > MOST_CANCELS or len(cancels) > MOST_CANCEL_TRIES:
        allowed = f"{MOST_CANCELS}, or {MOST_CANCEL_TRIES} with transient failures"
        yield Breach(f"the client sent {len(cancels)} cancel requests for one job; allowed: {allowed}")
    if cancels:
        yield from _lost(trace, cancels)


@rule(
    "CAN-03",
    "cancel-is-confirmed",
    level=SHOULD,
    severity="S1",
    harm=MONEY,
    channel=OUTCOME,
    applies=_cancels,
    says="Report a job as cancelled only if the provider has confirmed that: a request to cancel may be refused.",
    because="The caller believes that the job has ended, but it is still rendered and billed: "
    "Qiskit/qiskit-ibmq-provider#499.",
    fix="Read the response to the cancellation, or the job again, before the error says that the job is cancelled.",
    example="wait_or_cancel",
)
@each_order
def cancel_is_confirmed(trace: AnnotatedTrace) -> Evidence:
    outcome, cancels = trace.outcome, trace.of("cancel")
    if outcome is None or outcome.kind not in GAVE_UP or not cancels or trace.has_foreign_links:
        return
    # Any response that may be read as a cancellation is a confirmation, and so is a job that was cancelled.
    kinds = {kind for step in trace.steps for kind in step.kinds} | {one.kind for one in trace.trace.jobs or ()}
    if "cancelled" in kinds or any(step.ok and not _still_runs(step) for step in cancels) or trace.ended:
        return
    yield OBSERVED
    # Without the name of an exception, which says nothing about the cancellation.
    report = TYPE_NAME.sub("", outcome.message)
    if _claims(report):
        last = cancels[-1]
        said = f"{last.status}, request {last.number}" if last.delivered else f"no response, request {last.number}"
        yield Breach(f"the cancellation was not confirmed ({said}), but the run ended with: {outcome.message[:200]}")


def _claims(report: str) -> bool:
    """Whether a report says without doubt that the job was cancelled."""
    clauses = CLAUSES.split(report)
    said = next((number for number, clause in enumerate(clauses) if CLAIMED.search(clause)), None)
    return said is not None and not UNSURE.search(report) and not DOUBTED.search(" ".join(clauses[said:]))


def _still_runs(step: Step) -> bool:
    """Whether a response to a request to cancel shows the job under way."""
    return bool(step.kinds) and "cancelled" not in step.kinds


def _lost(trace: AnnotatedTrace, cancels: tuple[Step, ...]) -> Iterator[Breach]:
    """Yield a breach if the client loses a job that may still exist: its report does not have the id."""
    outcome = trace.outcome
    if outcome is None or outcome.kind not in GAVE_UP or trace.exposed is not False or not trace.knew_job:
        return
    later = [step for step in trace.steps if step.number >= cancels[0].number and step.role in (*READS, "cancel")]
    won = next((step for step in later if "success" in step.kinds and step.terminal), None)
    refused = next((step for step in cancels if step.delivered and step.status >= 400), None)
    if won is not None:
        yield Breach(
            f"request {won.number} reports that the job succeeded before it was cancelled, "
            "but the error does not expose the job id"
        )
    elif refused is not None:
        yield Breach(
            f"the cancellation was refused ({refused.status}, request {refused.number}), "
            "but the error does not expose the job id"
        )
