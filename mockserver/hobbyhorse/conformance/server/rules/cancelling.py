"""Rules about cancelling: it is permanent, and works in the stages that the contract declares. Knows no server."""

from __future__ import annotations

from collections.abc import Iterator

from hobbyhorse.conformance.rule import MONEY, MUST, OBSERVED, SHOULD, VIDEO, Breach, Evidence, rule
from hobbyhorse.conformance.server.expected import binding_places, was_cancelled
from hobbyhorse.contract.forms.expressions import format_pointer
from hobbyhorse.contract.reading import message_of
from hobbyhorse.contract.values import Contract, Situation
from hobbyhorse.traces.annotated import ENDS, AnnotatedTrace, Step
from hobbyhorse.traces.orders import making, own, reads_of

CANCELLED = frozenset({"cancelled"})
SITUATIONS = "lifecycle.json#/operations/cancel/situations"


def _cancellable(contract: Contract) -> bool:
    return "cancel" in contract.operations


def _has_outcome(contract: Contract) -> bool:
    cancel = contract.operations.get("cancel")
    return cancel is not None and bool(cancel.bindings["outcome"].response if "outcome" in cancel.bindings else ())


@rule(
    "CNL-01",
    "allowed-where-declared",
    level=MUST,
    severity="S2",
    applies=_cancellable,
    says="A job can be cancelled in the stages that the contract declares cancellable, and in no other.",
    because="A client that gives up a job must know whether it is billed anyway: elizaOS/eliza#11920.",
    fix="Compare the job's stage with the documented cancellable ones in the transaction that cancels it.",
)
def allowed_where_declared(trace: AnnotatedTrace) -> Evidence:
    """Compare each cancellation's effect with the stages in which the job was seen before and after it."""
    for step in _cancels(trace):
        before, after = _before(trace, step), _after(trace, step)
        if before is None or not before.reading.stages:
            continue
        # A response may mean several stages. Only if they agree on `cancellable` is the outcome known.
        could = [trace.contract.graph[name].cancellable for name in sorted(before.reading.stages)]
        if not before.terminal and not any(could):
            yield from _stopped(step, before, after)
        # A 429 or a 5xx promises nothing.
        elif all(could) and not step.transient:
            yield from _not_stopped(trace, step, before, after)


def _stopped(step: Step, before: Step, after: Step | None) -> Evidence:
    """Check that a job was not cancelled in a stage that forbids it."""
    if step.ok or after is not None:
        yield OBSERVED
    stage = sorted(before.reading.stages)[0]
    places: tuple[str, ...] = (f"lifecycle.json#/stages/{stage}/cancellable", f"lifecycle.json#/stages/{stage}/next")
    where = f"cancel request {step.number} cancelled job {step.job}, which is not cancellable in {_word(before)}"
    # A later read is stronger evidence than the cancellation's own response.
    if after is not None and after.kinds == CANCELLED:
        yield Breach(f"{where}: request {after.number} shows {_word(after)}", places, after.stage)
    elif step.kinds == CANCELLED:
        yield Breach(f"{where}: its response reports {step.stage!r}", (*_response_places(step), *places), step.stage)


def _not_stopped(trace: AnnotatedTrace, step: Step, before: Step, after: Step | None) -> Evidence:
    """Check that a job was cancelled if its stage allows it and it stayed there."""
    if after is None or not _may_be_cancelled(trace, after) or _cancelled_later(trace, step):
        if step.kinds == CANCELLED or _cancelled_later(trace, step):
            yield OBSERVED
        return
    yield OBSERVED
    stage = sorted(before.reading.stages)[0]
    place = f"lifecycle.json#/stages/{stage}/cancellable"
    stayed = f"job {step.job} stayed in {_word(after)} although it is cancellable: cancel request {step.number}"
    # A wrong key or another account may always be refused.
    if step.status >= 400 and own(trace, step):
        yield Breach(f"{stayed} was refused with {step.status}", (place,), step.status)
        return
    # The words of the response may be assumed; that a later read shows the job uncancelled is no matter of words.
    meant = step.kinds or (_meant(trace.contract, step) if _has_outcome(trace.contract) else frozenset())
    if step.ok and meant and "cancelled" not in meant:
        yield Breach(f"{stayed} reports {step.stage!r}", (place,), step.stage)


@rule(
    "CNL-02",
    "idempotent",
    level=SHOULD,
    severity="S3",
    applies=_cancellable,
    says="A cancelled job can be cancelled again, and the response reports the job as cancelled.",
    because="A client that got no response repeats its request, and must not mistake a refusal for a running job.",
    fix="Return the cancelled job, with the documented success, if the job is already cancelled.",
)
def idempotent(trace: AnnotatedTrace) -> Evidence:
    """Compare the responses to repeated cancellations of a job with the first one."""
    first = next((step for step in _cancels(trace) if step.kinds == CANCELLED), None)
    if first is None:
        return
    for again in _cancels(trace, first.job):
        # A request that overlaps the first one may still find the job running.
        if again.arrived < first.done or again is first or again.transient or not own(trace, again):
            continue
        yield OBSERVED
        if not again.ok or (again.kinds and "cancelled" not in again.kinds):
            got = again.stage if again.ok else again.status
            repeated = f"cancel request {again.number} repeats the cancellation of job {first.job}"
            message = f"{repeated}, and gets {got!r}; expected: 'cancelled'"
            yield Breach(message, (*_response_places(first), SITUATIONS), got)


@rule(
    "CNL-03",
    "cancelled-never-succeeds",
    level=MUST,
    severity="S1",
    harm=MONEY,
    applies=_cancellable,
    says="A job that was reported as cancelled never succeeds.",
    because="A client that was refunded and gets the video anyway is billed for it: elizaOS/eliza#11920.",
    fix="Make the change to `cancelled` and the change to success exclude each other: update the stage only if it is "
    "still the expected one.",
)
def cancelled_never_succeeds(trace: AnnotatedTrace) -> Evidence:
    """Find successes after a job was reported as cancelled."""
    for job in sorted({step.job for step in _cancels(trace) if step.job}):
        about = [step for step in trace.steps if step.job == job and step.role in ("cancel", "status", "result")]
        cancelled = next((step for step in about if step.ok and step.kinds == CANCELLED), None)
        if cancelled is None:
            continue
        # The response to a cancellation does not prove success: it may echo an older state.
        later = [step for step in about if step.arrived >= cancelled.done and step.ok and step.role != "cancel"]
        if later or cancelled.role != "cancel":
            yield OBSERVED
        won = next((step for step in later if step.kinds == {"success"} or step.video is not None), None)
        if won is not None:
            stage = sorted(cancelled.reading.stages)[0]
            message = (
                f"request {cancelled.number} reports job {job} as cancelled, but request {won.number} as succeeded"
            )
            yield Breach(message, (f"lifecycle.json#/stages/{stage}/next",), won.stage)


@rule(
    "CNL-04",
    "finished-unchanged",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    applies=_cancellable,
    says="Cancelling a job that has ended does not change the job.",
    because="A race between completion and cancellation must not lose a paid video: vllm-project/vllm-omni#6933.",
    fix="Change the stage only if the job has not ended, in the same transaction that reads it.",
)
def finished_unchanged(trace: AnnotatedTrace) -> Evidence:
    """Compare a job that had ended before a cancellation with its state afterwards."""
    for step in _cancels(trace):
        before, after = _before(trace, step), _after(trace, step)
        if before is None or not before.terminal or "cancelled" in before.kinds or not step.delivered:
            continue
        if step.ok or after is not None:
            yield OBSERVED
        stage = sorted(before.reading.stages)[0]
        places = (f"lifecycle.json#/stages/{stage}/next",)
        # A response may mean several stages; it contradicts the end only if none of them agrees with it.
        if after is not None and not after.kinds & before.kinds:
            was = f"job {step.job} had ended ({_word(before)}) before cancel request {step.number}"
            yield Breach(f"{was}, but then request {after.number} shows {_word(after)}", places, after.stage)
        elif step.ok and step.kinds == CANCELLED:
            reported = f"cancel request {step.number} reports job {step.job} as cancelled"
            message = f"{reported}, but the job had already ended ({_word(before)})"
            yield Breach(message, (*_response_places(step), *places), step.stage)


@rule(
    "CNL-05",
    "true-outcome",
    level=MUST,
    severity="S1",
    harm=MONEY,
    applies=_has_outcome,
    says="The outcome of a cancellation is true: a job that is reported as cancelled does not end otherwise, and a job "
    "that is reported as not cancelled is not.",
    because="A client reads the outcome alone, reports that nothing is billed, and does not fetch the paid video: "
    "elizaOS/eliza#11920.",
    fix="Take the word of the outcome from the result of the update that cancels the job, not from the request.",
)
def true_outcome(trace: AnnotatedTrace) -> Evidence:
    """Compare the outcome of each cancellation with the end of its job."""
    for step in _cancels(trace):
        meant = _meant(trace.contract, step)
        before = _before(trace, step)
        ends = [read for read in _showing(trace, step) if read.terminal and read.arrived >= step.done]
        ended = before if before is not None and before.terminal else next(iter(ends), None)
        if not meant or ended is None or not own(trace, step):
            continue
        yield OBSERVED
        told = f"cancel request {step.number} has the outcome {step.reading.values['outcome']!r}"
        # A later cancellation may have succeeded.
        alone = not any(other.arrived > step.arrived for other in _cancels(trace, step.job))
        anew = not was_cancelled(trace, step)
        if meant == CANCELLED and not ended.kinds & CANCELLED:
            when = "had already ended" if ended is before else "ends"
            message = f"{told}, but job {step.job} {when} as {_word(ended)} (request {ended.number})"
            yield Breach(message, _outcome_places(trace.contract, step), ended.stage)
        elif "cancelled" not in meant and ended.kinds == CANCELLED and ended is not before and alone and anew:
            message = f"{told}, but request {ended.number} shows job {step.job} as {_word(ended)}"
            yield Breach(message, _outcome_places(trace.contract, step), ended.stage)


def _meant(contract: Contract, step: Step) -> frozenset[str]:
    """Return the classes of the stages in whose examples the outcome of a cancellation occurs."""
    found = [one for one in _situations_of(contract, step) if one.stages]
    return frozenset(contract.graph[name].kind for one in found for name in one.stages) if step.ok else frozenset()


def _situations_of(contract: Contract, step: Step) -> list[Situation]:
    """Return the situations whose examples have the outcome of a response."""
    operation, word = contract.operations["cancel"], step.reading.values.get("outcome")
    place = operation.bindings["outcome"].response[0]
    return [
        one
        for one in operation.situations.values()
        if word is not None and place.get(message_of((), contract.schemas.at(one.example_at))) == word
    ]


def _outcome_places(contract: Contract, step: Step) -> tuple[str, ...]:
    operation = contract.operations["cancel"]
    pointer = format_pointer(operation.bindings["outcome"].response[0].pointer)
    examples = (one.example_at + pointer for one in _situations_of(contract, step))
    return (*binding_places(contract, operation, "outcome"), *examples)


@rule(
    "CNL-06",
    "others-unchanged",
    level=MUST,
    severity="S1",
    harm=MONEY,
    applies=_cancellable,
    says="A cancellation changes no other job.",
    because="A batch whose first item is cancelled loses all others: the client waits for videos that nobody makes.",
    fix="Put the job's id into the condition of the update that cancels it, beside the account and the stage.",
)
def others_unchanged(trace: AnnotatedTrace) -> Evidence:
    """Find jobs that are cancelled although only the cancellation of another job was requested."""
    for order in trace.submits:
        job = order.job_told
        if job is None or any(_cancels(trace, job)):
            continue
        others = [step for step in _cancels(trace) if step.ok and step.arrived >= order.done]
        reads = [read for read in reads_of(trace, job) if read.ok and read.kinds and own(trace, read)]
        after = [(step, read) for step in others for read in reads if read.arrived >= step.done]
        # A job that had ended before tells nothing.
        if not after or any(read.terminal and read.done <= others[0].arrived for read in reads):
            continue
        yield OBSERVED
        step, read = next(((one, two) for one, two in after if two.kinds == CANCELLED), after[0])
        if read.kinds == CANCELLED:
            message = f"request {read.number} shows job {job} as {_word(read)}, but only job {step.job} was cancelled "
            place = "lifecycle.json#/operations/cancel"
            yield Breach(f"{message}(request {step.number})", (place,), read.stage)
            return


def _cancels(trace: AnnotatedTrace, job: str | None = None) -> Iterator[Step]:
    yield from (step for step in trace.of("cancel") if step.job and job in (None, step.job))


def _before(trace: AnnotatedTrace, step: Step) -> Step | None:
    """Return the last response that showed the job's stage before a step, its acceptance included."""
    made = making(trace, step.job)
    shown = [*_showing(trace, step), *([made] if made is not None and made.kinds else [])]
    reads = [read for read in shown if read.done <= step.arrived]
    return max(reads, key=lambda read: read.arrived, default=None)


def _after(trace: AnnotatedTrace, step: Step) -> Step | None:
    """Return the first read of the job that began after a step and showed a stage."""
    reads = [read for read in _showing(trace, step) if read.arrived >= step.done]
    return min(reads, key=lambda read: read.arrived, default=None)


def _cancelled_later(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether any read after a step shows the job as cancelled: a cancellation may take effect later."""
    return any(read.kinds == CANCELLED for read in _showing(trace, step) if read.arrived >= step.done)


def _showing(trace: AnnotatedTrace, step: Step) -> Iterator[Step]:
    yield from (read for read in reads_of(trace, step.job) if read.ok and read.kinds)


def _may_be_cancelled(trace: AnnotatedTrace, step: Step) -> bool:
    return not step.kinds & ENDS and all(trace.contract.graph[name].cancellable for name in step.reading.stages)


def _response_places(step: Step) -> tuple[str, ...]:
    """Return the place in the contract that defines the response to a cancellation."""
    return tuple(f"{SITUATIONS}/{name}/stages" for name in step.reading.situations) if step.role == "cancel" else ()


def _word(step: Step) -> str:
    """Name the stages that a response may mean."""
    return " or ".join(map(repr, sorted(step.reading.stages)))
