"""Rules about cancelling: it stops what may be stopped, once and for all, and nothing else. Knows no server."""

from __future__ import annotations

from collections.abc import Iterator

from hobbyhorse.conformance.server.rule import Breach, ServerRule
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import ENDS, AnnotatedTrace, Step
from hobbyhorse.traces.orders import making, own, reads_of

CANCELLED = frozenset({"cancelled"})
SITUATIONS = "lifecycle.json#/operations/cancel/situations"


def allowed_where_declared(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Hold what became of a request to cancel against the stages that the job was seen in before and after it."""
    found: list[Breach] = []
    seen = False
    for step in _cancels(annotated):
        before, after = _before(annotated, step), _after(annotated, step)
        if before is None or not before.reading.stages:
            continue
        could = [annotated.contract.graph[name].cancellable for name in sorted(before.reading.stages)]
        if not before.terminal and not any(could):
            found += _stopped(step, before, after)
            seen = seen or step.ok or after is not None
        elif step.transient:
            continue
        elif all(could) and after is not None and _may_be_cancelled(annotated, after):
            found += _not_stopped(annotated, step, before, after)
            seen = True
        elif all(could):
            seen = seen or step.kinds == CANCELLED
    return found if seen else None


def _stopped(step: Step, before: Step, after: Step | None) -> list[Breach]:
    """Return what is wrong if a job was cancelled that may not be."""
    stage = sorted(before.reading.stages)[0]
    places: tuple[str, ...] = (f"lifecycle.json#/stages/{stage}/cancellable", f"lifecycle.json#/stages/{stage}/next")
    said = (
        f"request {step.number} to cancel found the job {step.job} in {_word(before)}, where it cannot be cancelled, "
    )
    if after is not None and after.kinds == CANCELLED:
        return [Breach(f"{said}and request {after.number} shows it cancelled", places, after.stage)]
    if step.kinds == CANCELLED:
        return [Breach(f"{said}and was told that it is", (*_told(step), *places), step.stage)]
    return []


def _not_stopped(annotated: AnnotatedTrace, step: Step, before: Step, after: Step) -> list[Breach]:
    """Return what is wrong if a job that may be cancelled was not, although it stayed where it was."""
    stage = sorted(before.reading.stages)[0]
    place = f"lifecycle.json#/stages/{stage}/cancellable"
    around = f"in {_word(before)} before request {step.number} to cancel it and in {_word(after)} after it"
    stayed = f"the job {step.job} was {around}"
    if step.status >= 400:
        if not own(annotated, step):
            return []
        return [Breach(f"{stayed}, which was refused: {step.status}", (place, SITUATIONS), step.status)]
    if step.ok and step.kinds and "cancelled" not in step.kinds:
        return [Breach(f"{stayed}, which was answered {step.stage}", (*_told(step), place), step.stage)]
    return []


def idempotent(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Hold the answers to further requests to cancel a job that was cancelled against the first one's."""
    found: list[Breach] = []
    seen = False
    for first in _cancels(annotated):
        if first.kinds != CANCELLED:
            continue
        for again in _cancels(annotated, first.job):
            if again.arrived < first.done or again is first or again.transient or not own(annotated, again):
                continue
            seen = True
            if not again.ok or (again.kinds and "cancelled" not in again.kinds):
                told = again.stage if again.ok else again.status
                message = f"request {again.number} cancels the job {first.job} again and is answered {told}"
                found.append(Breach(message, (*_told(first), SITUATIONS), told))
        break
    return found if seen else None


def cancelled_never_succeeds(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Look for success behind the news that a job was cancelled."""
    found: list[Breach] = []
    seen = False
    for job in sorted({step.job for step in _cancels(annotated) if step.job}):
        about = [step for step in annotated.steps if step.job == job and step.role in ("cancel", "status", "result")]
        told = next((step for step in about if step.ok and step.kinds == CANCELLED), None)
        if told is None:
            continue
        later = [step for step in about if step.arrived >= told.done and step.ok and step.role != "cancel"]
        seen = seen or bool(later) or told.role != "cancel"
        won = next((step for step in later if step.kinds == {"success"} or step.video is not None), None)
        if won is not None:
            stage = sorted(told.reading.stages)[0]
            message = (
                f"request {told.number} says that the job {job} is cancelled, request {won.number} that it is done"
            )
            found.append(Breach(message, (f"lifecycle.json#/stages/{stage}/next",), won.stage))
    return found if seen else None


def finished_unchanged(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Hold a job that had ended before a request to cancel it against what it is afterwards."""
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
        if after is not None and not after.kinds & before.kinds:
            found.append(Breach(f"{was}; request {after.number} shows {_word(after)}", places, after.stage))
        elif step.ok and step.kinds == CANCELLED:
            found.append(Breach(f"{was}, which was answered {step.stage}", (*_told(step), *places), step.stage))
    return found if seen else None


def _cancels(annotated: AnnotatedTrace, job: str | None = None) -> Iterator[Step]:
    yield from (step for step in annotated.of("cancel") if step.job and job in (None, step.job))


def _before(annotated: AnnotatedTrace, step: Step) -> Step | None:
    """Return what last told a stage of the job and was over before a step, its acceptance included."""
    made = making(annotated, step.job)
    told = [*_telling(annotated, step), *([made] if made is not None and made.kinds else [])]
    reads = [read for read in told if read.done <= step.arrived]
    return max(reads, key=lambda read: read.arrived, default=None)


def _after(annotated: AnnotatedTrace, step: Step) -> Step | None:
    """Return the first read of the job that began after a step, if it told a stage."""
    reads = [read for read in _telling(annotated, step) if read.arrived >= step.done]
    return min(reads, key=lambda read: read.arrived, default=None)


def _telling(annotated: AnnotatedTrace, step: Step) -> Iterator[Step]:
    yield from (read for read in reads_of(annotated, step.job) if read.ok and read.kinds)


def _may_be_cancelled(annotated: AnnotatedTrace, step: Step) -> bool:
    return not step.kinds & ENDS and all(annotated.contract.graph[name].cancellable for name in step.reading.stages)


def _told(step: Step) -> tuple[str, ...]:
    """Return where the contract has the answer to a request to cancel."""
    return tuple(f"{SITUATIONS}/{name}" for name in step.reading.situations) if step.role == "cancel" else ()


def _word(step: Step) -> str:
    """Return the stages that an answer may mean."""
    return " or ".join(sorted(step.reading.stages))


def _cancellable(contract: Contract) -> bool:
    return "cancel" in contract.operations


RULES = (
    ServerRule(
        "CNL-01",
        "allowed-where-declared",
        "MUST",
        "S2",
        "A job can be cancelled in the stages that are declared for it, and in no other.",
        "A client that gives a job up must know whether it is billed all the same: elizaOS/eliza#11920.",
        allowed_where_declared,
        _cancellable,
    ),
    ServerRule(
        "CNL-02",
        "idempotent",
        "SHOULD",
        "S3",
        "A job that was cancelled can be cancelled again; the answer is that it is cancelled.",
        "A client that heard no answer sends its request again, and must not take a refusal for a job that runs.",
        idempotent,
        _cancellable,
    ),
    ServerRule(
        "CNL-03",
        "cancelled-never-succeeds",
        "MUST",
        "S1",
        "A job of which it was said that it is cancelled does not succeed.",
        "Who was refunded and gets the video anyway is billed for it: elizaOS/eliza#11920.",
        cancelled_never_succeeds,
        _cancellable,
    ),
    ServerRule(
        "CNL-04",
        "finished-unchanged",
        "MUST",
        "S2",
        "A request to cancel a job that has ended changes nothing.",
        "A race between the end and the request must not lose a video that was paid for: vllm-project/vllm-omni#6933.",
        finished_unchanged,
        _cancellable,
    ),
)
