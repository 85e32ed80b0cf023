"""Rules about deadlines and clocks: waiting ends, the id and the timeout are reported. Knows no server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from hobbyhorse.conformance.client.cases import AHEAD, CLOCK_KINDS
from hobbyhorse.conformance.client.grouping import allowed_wait, misleading_date, stopped_waiting, undisturbed
from hobbyhorse.conformance.rule import (
    MONEY,
    MUST,
    OBSERVED,
    OUTCOME,
    SHOULD,
    VIDEO,
    WIRE,
    Breach,
    Evidence,
    each_order,
    rule,
)
from hobbyhorse.scenarios.fault import HOLDS, PASSES, STALLS
from hobbyhorse.scenarios.options import PIECES, SECONDS
from hobbyhorse.scenarios.registry import name_used_for, names_used_for
from hobbyhorse.traces.annotated import ENDS, GAVE_UP, READS, AnnotatedTrace, Step

# How far beyond the longest wait a client may go: a factor, and seconds more. A wider margin would excuse a client
# whose deadline moves; a narrower one would accuse a client whose last request was under way at its deadline.
SLACK, GRACE = 1.25, 60.0
# The factor on both in recorded traffic, which does not show that a client was restarted and waits anew.
UNSEEN = 3
# Seconds for which a request without a response may hold a client: a quarter of an hour, the longest read timeout of a
# client that waits for a whole job in one request, and a minute until its next request.
LONGEST_REQUEST = 960.0
# A download of less than ten seconds is short: correct clients have a limit of ten. A piece in each two seconds is
# steady, and a client with less patience than this may have no time for it.
SHORT, STEADY, PATIENT_SECONDS = 10.0, 2.0, 200.0
# Seconds that the response to a submission, or a file's first byte, may take.
LONGEST_LATENCY = 10.0
UNTROUBLED = name_used_for(PASSES)
HELD, STALLED = names_used_for(HOLDS), names_used_for(STALLS)
# The share of the longest wait after which a client has shown whether it has a deadline: a little less than all of it,
# because the last poll is an interval before the deadline.
DEADLINE_SHOWN_SHARE = 0.9
# Seconds without a request that the hour by which the clock was set explains, and nothing else: no pause between polls
# is as long.
LONG_SILENCE = 1_200.0


@rule(
    "TMO-01",
    "has-deadline",
    level=MUST,
    severity="S2",
    channel=WIRE,
    timing=True,
    says="By default, stop waiting for a job that never ends: at a deadline that nothing but the caller extends.",
    because="A job that hangs at the provider hangs its client forever: fal-ai/fal-java#9, mindroom-ai/mindroom#1996, "
    "ATH-MaaS/Pixelle-Video#48.",
    fix="Compute one deadline at the start, pass it to every wait and every retry, and raise a timeout error when it "
    "has passed.",
    example="pause",
)
@each_order
def has_deadline(trace: AnnotatedTrace) -> Evidence:
    if trace.accepted is None or trace.ended or any(misleading_date(trace, step) for step in trace.steps):
        return
    longest = allowed_wait(trace, (SLACK, GRACE)) * (1 if trace.runs else UNSEEN)
    waits = list(_waits(trace))
    late = [(read, waited) for read, waited in waits if waited > longest]
    for read, waited in late[-1:]:
        yield Breach(f"request {read.number} polled after a wait of {waited:.0f} s; allowed: {longest:.0f} s")
    outcome = trace.outcome
    if outcome is not None and outcome.kind == "unfinished" and trace.waited > longest:
        yield Breach(
            f"the client was still waiting {trace.waited:.0f} s after the job was accepted; allowed: {longest:.0f} s"
        )
    stayed = max((waited for _, waited in waits), default=0.0) >= DEADLINE_SHOWN_SHARE * trace.patience
    if _gave_up(trace, stayed, longest):
        yield OBSERVED


def _waits(trace: AnnotatedTrace) -> Iterator[tuple[Step, float]]:
    """Yield the reads of accepted jobs, and how long the client had waited for the job at each, in seconds.

    A wait begins with the response to the submission, or with the run if that is later.
    """
    accepted: dict[str | None, list[float]] = {}
    for step in trace.submits:
        if step.accepted:
            accepted.setdefault(step.job_told, []).append(step.done)
    seen: dict[str | None, tuple[float, float]] = {}
    for read in trace.reads:
        before = [moment for moment in accepted.get(read.job, ()) if moment <= read.arrived]
        if not before:
            continue
        number = trace.run_of(read)
        if number is not None:
            yield read, read.arrived - max(before[-1], trace.runs[number].started)
            continue
        began, last = seen.get(read.job, (before[-1], before[-1]))
        if last < before[-1]:
            began = last = before[-1]
        # In recorded traffic a long silence is a new wait: the client was started again, or a user came back.
        if read.arrived - last > trace.patience / 2:
            began = read.arrived
        seen[read.job] = began, read.arrived
        yield read, read.arrived - began


def _gave_up(trace: AnnotatedTrace, stayed: bool, longest: float) -> bool:
    """Whether the client is known to have stopped waiting before its job had ended."""
    outcome = trace.outcome
    if outcome is None:
        accepted = trace.accepted
        return stayed and accepted is not None and trace.trace.ended - accepted.done > longest
    return outcome.kind in GAVE_UP and (stayed or stopped_waiting(trace))


@rule(
    "TMO-04",
    "request-timeout",
    level=MUST,
    severity="S2",
    channel=OUTCOME,
    says="A response that never comes, or never ends, does not hold the client: each request has a timeout.",
    because="requests waits forever by default, and so did its caller: scrapinghub/python-scrapinghub#19; a timer that "
    "was cleared when the headers had arrived left the body without a limit: workos/workos-node#1679.",
    fix="Give each request a timeout for the connection, for each read, and for the whole response.",
    example="ask",
)
def request_timeout(trace: AnnotatedTrace) -> Evidence:
    stalled = _stalled(trace)
    for step in trace.steps:
        number = trace.run_of(step)
        is_late = step.done - step.arrived > LONGEST_REQUEST or not step.delivered
        is_meant = step.exchange.move in HELD or (step.role, step.exchange.move) in stalled
        if not is_meant or not is_late or number is None:
            continue
        outcome = trace.runs[number].outcome
        later = [other.arrived for other in trace.after(step, trace.steps) if trace.run_of(other) == number]
        if outcome is None:
            continue
        held_for = min([*later, outcome.ended]) - step.arrived
        # A client that was killed meanwhile has not shown how long it would have waited.
        if later or outcome.kind != "unfinished" or held_for > LONGEST_REQUEST:
            yield OBSERVED
        if held_for > LONGEST_REQUEST:
            which = "had no response" if step.exchange.move in HELD else "had no whole response"
            held_up = f"request {step.number} ({step.role}) {which}, and held the client for {held_for:.0f} s"
            yield Breach(f"{held_up}; allowed: {LONGEST_REQUEST:.0f} s")


@rule(
    "TMO-05",
    "slow-download",
    level=SHOULD,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="A file may come slowly: neither its first byte nor a whole download within ten seconds is too late.",
    because="A timeout of some seconds for the whole download loses every long video, and every video on a slow line: "
    "python-ring-doorbell/python-ring-doorbell#171, Cyberdrop-DL/cyberdrop-dl#1189.",
    fix="Limit the time between two pieces of a file to half a minute, and the whole download to several minutes.",
    example="fetch",
)
def slow_download(trace: AnnotatedTrace) -> Evidence:
    files = [step for step in trace.of("media") if step.exchange.move in (*STALLED, UNTROUBLED)]
    slow = trace.trace.scenario.get("moves", {}).get("media", ())
    others = [step for step in trace.steps if step not in files]
    outcome, accepted = trace.outcome, trace.accepted
    # Which of several faults a file had is not known.
    steady = bool(slow) and all(map(_is_steady, slow))
    if not files or not steady or outcome is None or accepted is None or len(trace.runs) != 1:
        return
    # A client with a short deadline for the whole run may have no time left for the file.
    patience = trace.patience if trace.trace.patience is None else trace.trace.patience
    short = patience < PATIENT_SECONDS or outcome.ended - accepted.done > patience / 2
    if short or not all(undisturbed(trace, step) for step in others):
        return
    yield OBSERVED
    if outcome.kind != "success" and not any(step.delivered for step in files):
        pieces, took = slow[0].get(PIECES.name, PIECES.default), f"{slow[0][SECONDS.name]} s"
        first = f"the file's first byte came after {took}"
        took = first if slow[0]["move"] == UNTROUBLED else f"the file came in {pieces} pieces within {took}"
        yield Breach(f"request {files[-1].number}: {took}, but the client broke it off and ended without the video")


@rule(
    "TMO-06",
    "slow-acceptance",
    level=SHOULD,
    severity="S1",
    harm=MONEY,
    channel=OUTCOME,
    says="A submission may take ten seconds: the client waits for its response, or submits again where that is safe.",
    because="The job is made and billed, and its id is lost: a provider that fetches the picture first needs seconds; "
    "five were too few for the files of python-ring-doorbell/python-ring-doorbell#171.",
    fix="Give a submission a read timeout of at least half a minute; only the connection may have a short one.",
    example="ask",
)
def slow_acceptance(trace: AnnotatedTrace) -> Evidence:
    moves = trace.trace.scenario.get("moves", {}).get("submit", ())
    held_back = [move for move in moves if move["move"] == UNTROUBLED]
    # Which of several waits a submission had is not known.
    slow = held_back if all(map(_is_short, held_back)) else []
    late = [step for step in trace.submits if step.exchange.move == UNTROUBLED]
    outcome = trace.outcome
    if not slow or len(late) != 1 or outcome is None or len(trace.runs) != 1:
        return
    if not all(undisturbed(trace, step) for step in trace.steps if step is not late[0]):
        return
    yield OBSERVED
    if not late[0].delivered and trace.submits[-1] is late[0] and outcome.kind in GAVE_UP:
        waited = outcome.ended - late[0].arrived
        yield Breach(
            f"request {late[0].number} (submit) gets its response after {slow[0][SECONDS.name]} s, but the client "
            f"ended after {waited:.1f} s, without the job's id"
        )


def _is_short(move: Mapping[str, Any]) -> bool:
    """Whether a fault holds a response back for a time that a submission or a file may take."""
    return bool(move["move"] == UNTROUBLED and 0 < move.get(SECONDS.name, 0) < LONGEST_LATENCY)


def _is_steady(move: Mapping[str, Any]) -> bool:
    """Whether a fault sends each file within ten seconds, with a piece in each few seconds, or soon as a whole."""
    if move.get("times") != "always":
        return False
    if move["move"] not in STALLED:
        return _is_short(move)
    seconds, pieces = move.get(SECONDS.name, SHORT), move.get(PIECES.name, PIECES.default)
    return bool(seconds < SHORT and seconds / pieces < STEADY)


def _stalled(trace: AnnotatedTrace) -> frozenset[tuple[str, str]]:
    """Return the roles and the faults that let a body stall for longer than a request may take.

    Not the faults whose pieces come more often: a client with a timeout for each read sees that the body goes on.
    """
    moves = trace.trace.scenario.get("moves", {})
    return frozenset(
        (role, move["move"])
        for role, several in moves.items()
        for move in several
        if move["move"] in STALLED
        and move.get(SECONDS.name, 0) / move.get(PIECES.name, PIECES.default) > LONGEST_REQUEST
    )


@rule(
    "TMO-02",
    "id-in-error",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="A client that gives up a job before its end reports the job's id to its caller.",
    because="The job continues and is billed; without its id the video can never be collected: "
    "Comfy-Org/comfy-mcp#238, novitalabs/javascript-sdk#3.",
    fix="Put the job's id into the message, or into an attribute, of every error that is raised after the submission.",
    example="Failed",
)
@each_order
def id_in_error(trace: AnnotatedTrace) -> Evidence:
    outcome = trace.outcome
    if outcome is None or outcome.kind not in GAVE_UP or trace.exposed is None or not trace.knew_job:
        return
    # A client that read a terminal stage may report an error about it; after its own deadline the id is still required.
    deadline = outcome.kind == "timeout" and outcome.told
    if trace.ended and not deadline:
        return
    yield OBSERVED
    if not trace.exposed:
        yield Breach(f"the run ended as {outcome.kind!r}, but the error does not expose the job id")


@rule(
    "TMO-03",
    "timeout-not-success",
    level=MUST,
    severity="S1",
    harm=MONEY,
    channel=OUTCOME,
    says="Report the client's own timeout as a timeout: neither as a success nor as a failure of the provider.",
    because="A timeout was reported as a success, and the advice to try again paid for the video twice: "
    "tinyhumansai/openhuman#5411; the reverse happened in fal-ai/fal#1143.",
    fix="Raise an error class of its own for the client's deadline, such as a subclass of TimeoutError, and convert "
    "it neither to a result nor to a failure of the provider.",
    example="TimedOut",
)
@each_order
def timeout_not_success(trace: AnnotatedTrace) -> Evidence:
    outcome = trace.outcome
    if outcome is None or trace.accepted is None or trace.ended or outcome.kind == "unfinished":
        return
    if outcome.kind == "success":
        yield Breach("the client reports success, although no response reported a terminal stage")
    elif outcome.kind != "failed":
        # The timeout of one request, or another error, is not the client's own timeout.
        if stopped_waiting(trace) or trace.waited >= DEADLINE_SHOWN_SHARE * trace.patience:
            yield OBSERVED
    elif outcome.told and _only_under_way(trace):
        stage = trace.reads[-1].stage
        yield Breach(f"the client reports a failure of the provider, but its last response had stage {stage!r}")


def _only_under_way(trace: AnnotatedTrace) -> bool:
    """Whether every response and callback, apart from transient failures, showed the job under way."""
    about = [step for step in trace.steps if step.role in (*READS, "cancel")]
    calm = all(step.under_way or (step.transient and not step.ok) for step in about)
    quiet = all(kinds and not kinds & ENDS for _, kinds in trace.callbacks)
    return calm and quiet and bool(trace.reads) and trace.reads[-1].under_way


@rule(
    "CLK-01",
    "steady-clock",
    level=SHOULD,
    severity="S2",
    channel=OUTCOME,
    says="Measure waits and deadlines with a monotonic clock: the wall clock may be set while a job runs.",
    because="A deadline by the wall clock ends a wait at once, or an hour late, if the machine's clock is corrected: "
    "AzureAD/microsoft-authentication-library-for-js#3070.",
    fix="Compute every wait and deadline with a monotonic clock (Python: time.monotonic(), JavaScript: "
    "performance.now()), never with the time of day (time.time(), Date.now()).",
    example="pause",
)
def steady_clock(trace: AnnotatedTrace) -> Evidence:
    outcome = trace.outcome
    # Only in virtual time is the clock set: the same case in real time shows nothing.
    if not trace.trace.virtual:
        return
    if trace.trace.drill not in CLOCK_KINDS or trace.trace.scenario or outcome is None or trace.accepted is None:
        return
    yield OBSERVED
    way = "an hour ahead for a while" if trace.trace.drill == AHEAD else "back by an hour"
    set_by = f"the wall clock was set {way}"
    if outcome.kind != "success":
        yield Breach(f"{set_by}, and the run ended as {outcome.kind!r} although its job succeeded")
    silence = max((after.arrived - before.done for before, after in pairwise(trace.steps)), default=0.0)
    if silence > LONG_SILENCE:
        yield Breach(f"{set_by}, and the client then sent no request for {silence:.0f} s")
