"""Rules about cancelling: it stops a job, for good, where the contract allows that. Knows no server."""

from __future__ import annotations

from collections.abc import Iterator

from hobbyhorse.conformance.server.rule import Breach, ServerRule
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import ENDS, AnnotatedTrace, Step
from hobbyhorse.traces.orders import making, own, reads_of

CANCELLED = frozenset({"cancelled"})
SITUATIONS = "lifecycle.json#/operations/cancel/situations"


def allowed_where_declared(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Compare each cancellation's effect with the stages in which the job was seen before and after it."""
    found: list[Breach] = []
    seen = False
    for step in _cancels(annotated):
        before, after = _before(annotated, step), _after(annotated, step)
        if before is None or not before.reading.stages:
            continue
        # A response may mean several stages. Only if they agree on `cancellable` is the outcome known.
        could = [annotated.contract.graph[name].cancellable for name in sorted(before.reading.stages)]
        if not before.terminal and not any(could):
            found += _stopped(step, before, after)
            seen = seen or step.ok or after is not None
        elif step.transient:  # a 429 or a 5xx promises nothing
            continue
        elif all(could) and after is not None and _may_be_cancelled(annotated, after):
            found += _not_stopped(annotated, step, before, after)
            seen = True
        elif all(could):
            seen = seen or step.kinds == CANCELLED
    return found if seen else None


def _stopped(step: Step, before: Step, after: Step | None) -> list[Breach]:
    """Return the violations if a job was cancelled in a stage that forbids it."""
    stage = sorted(before.reading.stages)[0]
    places: tuple[str, ...] = (f"lifecycle.json#/stages/{stage}/cancellable", f"lifecycle.json#/stages/{stage}/next")
    where = f"request {step.number} cancelled the job {step.job} in {_word(before)}, where the contract forbids it"
    # A later read is stronger evidence than the cancellation's own response.
    if after is not None and after.kinds == CANCELLED:
        return [Breach(f"{where}, as request {after.number} shows", places, after.stage)]
    if step.kinds == CANCELLED:
        return [Breach(f"{where}, as its own response says", (*_response_places(step), *places), step.stage)]
    return []


def _not_stopped(annotated: AnnotatedTrace, step: Step, before: Step, after: Step) -> list[Breach]:
    """Return the violations if a job was not cancelled although its stage allows it and it stayed there."""
    stage = sorted(before.reading.stages)[0]
    place = f"lifecycle.json#/stages/{stage}/cancellable"
    stayed = (
        f"the job {step.job} was in {_word(before)}, and in {_word(after)} after request {step.number} to cancel it"
    )
    if step.status >= 400:
        # A wrong key or another account may always be refused.
        if not own(annotated, step):
            return []
        return [Breach(f"{stayed}, which was refused with {step.status}", (place, SITUATIONS), step.status)]
    if step.ok and step.kinds and "cancelled" not in step.kinds:
        return [Breach(f"{stayed}, whose response says {step.stage}", (*_response_places(step), place), step.stage)]
    return []


def idempotent(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Compare the responses to repeated cancellations of a job with the first one."""
    found: list[Breach] = []
    seen = False
    for first in _cancels(annotated):
        if first.kinds != CANCELLED:
            continue
        for again in _cancels(annotated, first.job):
            # A request that overlaps the first one may still find the job running.
            if again.arrived < first.done or again is first or again.transient or not own(annotated, again):
                continue
            seen = True
            if not again.ok or (again.kinds and "cancelled" not in again.kinds):
                got = again.stage if again.ok else again.status
                message = (
                    f"request {again.number} cancels the job {first.job} again and gets {got}; expected: cancelled"
                )
                found.append(Breach(message, (*_response_places(first), SITUATIONS), got))
        break
    return found if seen else None


def cancelled_never_succeeds(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Find successes after a job was reported as cancelled."""
    found: list[Breach] = []
    seen = False
    for job in sorted({step.job for step in _cancels(annotated) if step.job}):
        about = [step for step in annotated.steps if step.job == job and step.role in ("cancel", "status", "result")]
        cancelled = next((step for step in about if step.ok and step.kinds == CANCELLED), None)
        if cancelled is None:
            continue
        later = [step for step in about if step.arrived >= cancelled.done and step.ok and step.role != "cancel"]
        seen = seen or bool(later) or cancelled.role != "cancel"
        # The response to a cancellation does not prove success: it may echo an older state.
        won = next((step for step in later if step.kinds == {"success"} or step.video is not None), None)
        if won is not None:
            stage = sorted(cancelled.reading.stages)[0]
            message = (
                f"request {cancelled.number} reports the job {job} as cancelled, request {won.number} as succeeded"
            )
            found.append(Breach(message, (f"lifecycle.json#/stages/{stage}/next",), won.stage))
    return found if seen else None


def finished_unchanged(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Compare a job that had ended before a cancellation with its state afterwards."""
    found: list[Breach] = []
    seen = False
    for step in _cancels(annotated):
        before, after = _before(annotated, step), _after(annotated, step)
        if before is None or not before.terminal or "cancelled" in before.kinds or not step.delivered:
            continue
        stage = sorted(before.reading.stages)[0]
        places = (f"lifecycle.json#/stages/{stage}/next",)
        was = f"the job {step.job} had ended ({_word(before)}) before request {step.number} to cancel it"
        seen = seen or step.ok or after is not None
        # A response may mean several stages; it contradicts the end only if none of them agrees with it.
        if after is not None and not after.kinds & before.kinds:
            found.append(Breach(f"{was}; request {after.number} shows {_word(after)} after it", places, after.stage))
        elif step.ok and step.kinds == CANCELLED:
            found.append(
                Breach(f"{was}, whose response says {step.stage}", (*_response_places(step), *places), step.stage)
            )
    return found if seen else None


def _cancels(annotated: AnnotatedTrace, job: str | None = None) -> Iterator[Step]:
    yield from (step for step in annotated.of("cancel") if step.job and job in (None, step.job))


def _before(annotated: AnnotatedTrace, step: Step) -> Step | None:
    """Return the last response that showed the job's stage before a step, its acceptance included."""
    made = making(annotated, step.job)
    shown = [*_showing(annotated, step), *([made] if made is not None and made.kinds else [])]
    reads = [read for read in shown if read.done <= step.arrived]
    return max(reads, key=lambda read: read.arrived, default=None)


def _after(annotated: AnnotatedTrace, step: Step) -> Step | None:
    """Return the first read of the job that began after a step and showed a stage."""
    reads = [read for read in _showing(annotated, step) if read.arrived >= step.done]
    return min(reads, key=lambda read: read.arrived, default=None)


def _showing(annotated: AnnotatedTrace, step: Step) -> Iterator[Step]:
    yield from (read for read in reads_of(annotated, step.job) if read.ok and read.kinds)


def _may_be_cancelled(annotated: AnnotatedTrace, step: Step) -> bool:
    return not step.kinds & ENDS and all(annotated.contract.graph[name].cancellable for name in step.reading.stages)


def _response_places(step: Step) -> tuple[str, ...]:
    """Return the place in the contract that defines the response to a cancellation."""
    return tuple(f"{SITUATIONS}/{name}" for name in step.reading.situations) if step.role == "cancel" else ()


def _word(step: Step) -> str:
    """Name the stages that a response may mean."""
    return " or ".join(sorted(step.reading.stages))


def _cancellable(contract: Contract) -> bool:
    return "cancel" in contract.operations


RULES = (
    ServerRule(
        "CNL-01",
        "allowed-where-declared",
        "MUST",
        "S2",
        "A job can be cancelled in the stages that the contract declares for it, and in no other.",
        "A client that gives up a job must know whether it is billed anyway: elizaOS/eliza#11920.",
        allowed_where_declared,
        _cancellable,
    ),
    ServerRule(
        "CNL-02",
        "idempotent",
        "SHOULD",
        "S3",
        "A cancelled job can be cancelled again, and the response says that it is cancelled.",
        "A client that got no response repeats its request, and must not take a refusal as a sign that the job runs.",
        idempotent,
        _cancellable,
    ),
    ServerRule(
        "CNL-03",
        "cancelled-never-succeeds",
        "MUST",
        "S1",
        "A job that was reported as cancelled does not succeed.",
        "A client that was refunded and gets the video anyway is billed for it: elizaOS/eliza#11920.",
        cancelled_never_succeeds,
        _cancellable,
    ),
    ServerRule(
        "CNL-04",
        "finished-unchanged",
        "MUST",
        "S2",
        "Cancelling a job that has ended changes nothing.",
        "A race between the end and the cancellation must not lose a paid video: vllm-project/vllm-omni#6933.",
        finished_unchanged,
        _cancellable,
    ),
)
