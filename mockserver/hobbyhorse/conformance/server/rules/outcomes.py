"""Rules about responses as wholes: one outcome, with its reason or its result, for every accepted job. Knows no server.

The other rules judge one value at a time. A response whose values contradict each other breaks none of them: an error
beside a success, or a result before the end. The examples of the contract show which values belong together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hobbyhorse.conformance.rule import MONEY, MUST, OBSERVED, VIDEO, Breach, Evidence, rule
from hobbyhorse.conformance.server.expected import (
    LIFECYCLE,
    KindEvidence,
    binding_places,
    body_pointer,
    conclusive,
    example_places,
    label,
    many_times,
    one_per_kind,
    operation_of,
    patience,
    presence_places,
    responses_of,
)
from hobbyhorse.contract.forms.expressions import MISSING, Pointer, format_pointer, resolve
from hobbyhorse.contract.values import Contract, Operation
from hobbyhorse.traces.annotated import ENDS, READS, AnnotatedTrace, Step
from hobbyhorse.traces.orders import making, own, reads_of

RESULTS, REASONS = ("video_url", "first_frame_url"), ("error_code", "error_message")
# The suite gives a job up after as many failed polls; fewer may be a restart of the server.
FEW_FAILED_POLLS = 5
# A rate limit shows that the server is busy, not that the job cannot be read.
BUSY = frozenset({429, 503})
# The lowest status of a refusal (RFC 9110, section 15.5).
REFUSED = 400


def _reports(*names: str) -> Any:
    return lambda contract: any(name in one.bindings for one in contract.operations.values() for name in names)


@rule(
    "LIF-07",
    "one-outcome",
    level=MUST,
    severity="S2",
    harm=MONEY,
    applies=_reports(*RESULTS, *REASONS),
    says="A response shows one outcome: no error beside a success, and no result before the end, or beside a failure "
    "or a cancellation.",
    because="One client reads the error and submits again, another one takes the result: the video is paid twice.",
    fix="Build the response from the stage alone: the error only of a failed job, the result only of a success.",
)
@one_per_kind
def one_outcome(trace: AnnotatedTrace) -> KindEvidence:
    """Find values in a response that its examples show only in another outcome."""
    for step in trace.reads:
        # A response that may mean several outcomes contradicts none of them.
        if not step.ok or not step.kinds or step.value is MISSING:
            continue
        operation = operation_of(trace, step)
        yield OBSERVED
        if step.kinds == {"success"}:
            yield from _misplaced(trace, operation, step, REASONS, "failure")
        # LIF-05 reports the URL of a video before the end; this rule reports any other result.
        elif step.failure or (not step.kinds & ENDS and step.video is None):
            yield from _misplaced(trace, operation, step, RESULTS, "success")


def _misplaced(
    trace: AnnotatedTrace, operation: Operation, step: Step, names: tuple[str, ...], kind: str
) -> KindEvidence:
    """Yield the values of a response that the examples of a contract show only in stages of another kind."""
    for name in names:
        for pointer in exclusive_places(trace.contract, operation, name, kind):
            found = resolve(step.value, pointer)
            if not is_empty(found):
                where = f"{label(step)} reports {step.stage!r}, but has {'.'.join(pointer)}"
                places = binding_places(trace.contract, operation, name)
                yield (step.role, pointer), Breach(f"{where}: {_shown(found)}", places, found)


def exclusive_places(contract: Contract, operation: Operation, name: str, kind: str) -> Iterator[Pointer]:
    """Yield the outermost places of a value that only the examples of one kind of stage have."""
    inside: list[Any] = []
    outside: list[Any] = []
    for situation in operation.situations.values():
        kinds = {contract.graph[stage].kind for stage in situation.stages}
        if kinds:
            example = contract.schemas.at(situation.example_at)
            (inside if kinds == {kind} else outside).append(example)
    binding = operation.bindings.get(name)
    for place in binding.response if binding is not None else ():
        for length in range(1, len(place.pointer) + 1):
            at = place.pointer[:length]
            shown = any(not is_empty(resolve(example, at)) for example in inside)
            if place.part == "body" and shown and all(is_empty(resolve(example, at)) for example in outside):
                yield at
                break


def is_empty(value: Any) -> bool:
    """Whether a value says nothing: absent, null, zero, or with nothing but such values inside."""
    if isinstance(value, dict | list):
        return all(is_empty(one) for one in (value.values() if isinstance(value, dict) else value))
    return value is MISSING or not value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


@rule(
    "LIF-08",
    "reason",
    level=MUST,
    severity="S2",
    applies=_reports(*REASONS),
    says="A failed job has the documented error code and message.",
    because="Without a reason a client cannot decide whether to correct the request or to repeat it.",
    fix="Store a code and a message with every failure, with a documented default for unexpected ones.",
)
@one_per_kind
def reason(trace: AnnotatedTrace) -> KindEvidence:
    """Find failed jobs without an error that every example of their stage shows."""
    for step in trace.reads:
        if not step.ok or step.kinds != {"failure"}:
            continue
        operation = operation_of(trace, step)
        for name in REASONS:
            places = example_places(trace.contract, operation, name, step) if name in operation.bindings else ()
            if not places or any(is_empty(trace.contract.schemas.at(place)) for place in places):
                continue
            yield OBSERVED
            if is_empty(step.reading.values.get(name, MISSING)):
                where = " or ".join(body_pointer(place) for place in operation.bindings[name].response)
                message = f"{label(step)}: job {step.job} has failed, but the response has no {name} ({where})"
                documented = presence_places(trace.contract, places)
                yield (
                    (step.role, name),
                    Breach(message, (*documented, *binding_places(trace.contract, operation, name))),
                )


@rule(
    "LIF-09",
    "readable-to-the-end",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    says="An accepted job can be read until it ends, each time, and ends within the longest documented wait.",
    because="A client that cannot read its job waits until its deadline, and pays for a video that it never gets.",
    fix="Bound each job by a deadline that fails it, and keep it readable from its acceptance to its end.",
)
def readable_to_the_end(trace: AnnotatedTrace) -> Evidence:
    """Find accepted jobs that the suite could not read, and jobs that did not end in the longest wait."""
    for order in trace.submits:
        # Recorded traffic does not show why its client stopped reading. A repeated submission makes no job.
        if not order.accepted or order.exchange.probe is None or making(trace, order.job_told) is not order:
            continue
        reads = reads_of(trace, order.job_told)
        polls = [read for read in reads if read.role == "status"]
        yield from _lost(trace, order, reads)
        if any(read.terminal for read in polls):
            yield OBSERVED
            continue
        yield from _unreadable(trace, order, polls)
        yield from _endless(trace, order, polls)


def _unreadable(trace: AnnotatedTrace, order: Step, polls: list[Step]) -> Iterator[Breach]:
    """Yield the breach if the last polls of a job all failed."""
    last = polls[-FEW_FAILED_POLLS:]
    failed = [read for read in last if read.delivered and read.status >= 400 and read.status not in BUSY]
    if len(failed) == FEW_FAILED_POLLS:
        operation = trace.contract.operations["status"]
        message = (
            f"job {order.job_told} was accepted, but {len(failed)} polls in a row failed: {label(failed[-1])} gets"
        )
        yield Breach(f"{message} {failed[-1].status}", (responses_of(operation),), failed[-1].status)


def _lost(trace: AnnotatedTrace, order: Step, reads: tuple[Step, ...]) -> Iterator[Breach]:
    """Yield the first refused read of each operation, if other reads of the job's owner were granted."""
    seen = next((read for read in reads if read.ok and own(trace, read)), None)
    life, reported = trace.contract.retention.job, set[str | None]()
    for read in reads if seen is not None else ():
        kept = life is None or read.arrived < order.done + life
        refused = conclusive(read) and read.status >= REFUSED and not _expected(trace, read)
        # A read that overlaps the submission may be earlier than the job.
        if refused and kept and own(trace, read) and read.arrived >= order.done and read.role not in reported:
            reported.add(read.role)
            message = f"job {order.job_told} was accepted, and other reads show it, but {label(read)}, "
            message += f"{read.arrived - order.done:.1f} s after the acceptance, gets {read.status}"
            yield Breach(message, (responses_of(operation_of(trace, read)),), read.status)


def _expected(trace: AnnotatedTrace, read: Step) -> bool:
    """Whether a refusal is the documented response to a read, or to its query."""
    operation, expected = operation_of(trace, read), read.exchange.expected
    probed = expected is not None and (expected not in operation.situations or _refuses(operation, expected))
    # A contract may refuse a result that is not ready yet, or whose job has failed.
    return probed or any(operation.situations[name].stages for name in read.reading.situations)


def _refuses(operation: Operation, situation: str) -> bool:
    return operation.situations[situation].status >= REFUSED


def _endless(trace: AnnotatedTrace, order: Step, polls: list[Step]) -> Iterator[Breach]:
    """Yield the breach if a job was still under way after the longest wait, or long after all others had ended."""
    longest, usual = trace.contract.polling.longest_wait, _longest_success(trace)
    last = next((read for read in reversed(polls) if read.under_way), None)
    waited = 0.0 if last is None else last.arrived - order.done
    if last is None or waited < patience(trace.contract, usual):
        return
    message = f"job {order.job_told} is still {last.stage!r} after {waited:.0f} s"
    if waited >= many_times(usual):
        yield Breach(f"{message}; every job that made a video ended within {usual:.0f} s", (), last.stage)
    else:
        place = LIFECYCLE + format_pointer(("polling", "longest_wait"))
        yield Breach(f"{message}; documented: at most {longest:.0f} s", (place,), last.stage)


def _longest_success(trace: AnnotatedTrace) -> float | None:
    """Return the longest time from a submission to the poll that showed the end of its job, with a video."""
    return max(
        (
            end.done - order.arrived
            for order in trace.submits
            if order.accepted and (end := _end_with_video(trace, order.job_told)) is not None
        ),
        default=None,
    )


def _end_with_video(trace: AnnotatedTrace, job: str | None) -> Step | None:
    """Return the first read that shows the end of a job with a video; its result may tell that it has one."""
    reads = reads_of(trace, job)
    ends = (read for read in reads if read.role == "status" and read.terminal)
    return next(ends, None) if any(read.success for read in reads) else None


def _delivers(contract: Contract) -> bool:
    return any("video_url" in contract.operations[role].bindings for role in READS if role in contract.operations)


@rule(
    "LIF-10",
    "result-stays",
    level=MUST,
    severity="S1",
    harm=VIDEO,
    applies=_delivers,
    says="A response that has shown the video of a job shows it each time, whatever is requested in between, until its "
    "link expires.",
    because="A client that breaks off after its first read, or that is one of two workers, has paid for a video that "
    "it never gets.",
    fix="Store the result with the job, and remove it only when its link expires: neither a read nor a cancellation "
    "consumes it.",
)
@one_per_kind
def result_stays(trace: AnnotatedTrace) -> KindEvidence:
    """Find successes without the video that an earlier response to the same request has shown."""
    first: dict[str, Step] = {}
    for step in trace.reads:
        if not step.ok or not own(trace, step):
            continue
        # Another query may request a response without the result.
        shown = first.get(step.exchange.url)
        if step.video is not None:
            first.setdefault(step.exchange.url, step)
        if shown is None or not _is_kept(trace, shown, step):
            continue
        yield OBSERVED
        if step.video is None and "success" in step.kinds:
            message = f"{label(step)}: job {step.job} has no video any more, {step.arrived - shown.done:.1f} s after "
            yield step.role, Breach(f"{message}{label(shown)} has shown it", (), step.status)


def _is_kept(trace: AnnotatedTrace, shown: Step, later: Step) -> bool:
    """Whether the link of a video that was shown has certainly not expired yet."""
    life, told = trace.contract.retention.result_url, shown.reading.values.get("expires_at")
    ends = [shown.arrived + life] if life is not None else []
    ends += [told] if isinstance(told, int | float) else []
    return later.arrived >= shown.done and all(later.done < end for end in ends)
