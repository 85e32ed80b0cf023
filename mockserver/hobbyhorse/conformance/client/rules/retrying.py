"""Rules about retries: which failures are transient, when to retry, when to stop. Knows no server."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime
from itertools import pairwise

from hobbyhorse.conformance.client.cases import CONCURRENT_KINDS
from hobbyhorse.conformance.client.grouping import (
    RequestGroup,
    allowed_wait,
    callbacks_between,
    called_back,
    consecutive,
    endless,
    gave_up,
    had_response,
    misleading_date,
    request_groups,
    undisturbed,
    wait_began,
)
from hobbyhorse.conformance.rule import MUST, OBSERVED, OUTCOME, SHOULD, VIDEO, WIRE, Breach, Evidence, rule
from hobbyhorse.contract.values import Contract, Operation
from hobbyhorse.scenarios.fault import LEAVES, PASSES
from hobbyhorse.scenarios.registry import name_used_for
from hobbyhorse.traces.annotated import READS, SUBMISSIONS, TRANSIENT, AnnotatedTrace, Step
from hobbyhorse.traces.exchange import ANSWER_HEADERS, DURATION
from hobbyhorse.traces.orders import order_of

# Refusals that a repetition cannot change. 404 is absent: a new job may not be visible yet.
FATAL = frozenset({400, 401, 403, 410, 422})
FATAL_ORDER = FATAL | {402, 404, 405, 413, 415}
# The lowest HTTP status of a refusal (RFC 9110, section 15.5).
REFUSED = 400
# Repetitions of a request that is refused in the body of a response with status 200: a careful client may take the
# body for an unusable one first.
MOST_INSIDE = 8
# Seconds that a request may arrive before a Retry-After has elapsed: the tolerance of the MCP suite's SSE retry test.
EARLY = 0.05
# Seconds before the first retry of a failed request: 0.1, less the rounding of recorded times (1 ms).
LEAST_RETRY_GAP = 0.1 - 0.001
# Pauses in a row from which a trend is judged: with fewer, random jitter would look like one.
LONG_ENOUGH = 6
# Consecutive 404s after which polling a missing job is unbounded. More would hide a client that polls a job that does
# not exist; fewer would accuse a client that polls fast while the job is not visible yet.
MOST_MISSING = 60
# Seconds after a submission in which its job may not be visible yet.
SOON = 10.0
# Seconds in which it, or the result of one that has just ended, may not be visible to several reads in a row.
NEW = 60.0
# Retries are endless after this factor of the longest wait and these seconds more. The margin is a minute wider than
# that of polling, because a last retry may follow a pause that has grown.
ENDLESS_RETRIES = (1.25, 120.0)
# Seconds for which a careful client waits for one response.
LONGEST_TIMEOUT = 180.0
UNTROUBLED, LEFT = name_used_for(PASSES), name_used_for(LEAVES)
# The share of a client's patience in which one failure, or the last of several, cannot have come at its deadline.
EARLY_SHARE, MOST_SHARE = 0.5, 0.85
# Failures in a row from which retries are judged: fewer may be the end of any run.
FAILURES_IN_A_ROW = 3
# Failures in a row that make an unfinished run an endless one: fewer may be a careful client that was cut off.
MANY = 20


@dataclass(frozen=True, slots=True)
class RequestedWait:
    """The wait that a response requests, in seconds, and its tolerance."""

    seconds: float
    slack: float


def _may_be_missing(contract: Contract) -> bool:
    return any(situation.status == 404 for situation in contract.operations["status"].situations.values())


def _has_envelope(contract: Contract) -> bool:
    return any(_envelope_of(operation) is not None for operation in contract.operations.values())


def _envelope_of(operation: Operation) -> str | None:
    """Return the name of the member in which every response of an operation has its own HTTP status."""
    examples = [(one.status, one.template.example) for one in operation.situations.values()]
    if not any(status < REFUSED for status, _ in examples) or not all(isinstance(one, dict) for _, one in examples):
        return None
    names = [name for name, value in examples[0][1].items() if value == examples[0][0]]
    same = (name for name in names if all(example.get(name) == status for status, example in examples))
    return next(same, None)


def requested_wait(step: Step) -> RequestedWait | None:
    """Return the wait that a 429 or 503 requests, or None."""
    return _retry_after(step) if step.status in (429, 503) else None


def _retry_after(step: Step) -> RequestedWait | None:
    """Return the wait that a Retry-After requests, or None. With other statuses, a client may ignore it."""
    text = (step.exchange.answer_header("retry-after") or "").strip()
    if not step.delivered or not text:
        return None
    if text.isascii() and text.isdigit():
        return RequestedWait(float(text), EARLY)
    moment, dated = _moment(text), _moment(step.exchange.answer_header("date") or "")
    if moment is None:
        return None
    # The server's own Date makes the wait independent of the difference between the two clocks.
    since = dated if dated is not None else step.done
    return RequestedWait(max(moment - since, 0.0), 1.0)  # an HTTP date has whole seconds


def _moment(text: str) -> float | None:
    """Return an HTTP date as seconds since 1970, or None."""
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)).timestamp()


@rule(
    "RTY-01",
    "honour-retry-after",
    level=MUST,
    severity="S3",
    channel=WIRE,
    timing=True,
    says="After a 429 or 503 with Retry-After (in seconds or as a date, also more than a minute), send the next "
    "request of the same kind no sooner, and not much later.",
    because="A client that retries sooner is refused again, and keeps the limit closed for others: "
    "Azure/azure-sdk-for-go#15905, tryAGI/AutoSDK#294.",
    fix="Parse Retry-After as a number or as an HTTP-date, and sleep for that time before the next request of the "
    "same kind.",
    example="seconds",
)
def honour_retry_after(trace: AnnotatedTrace) -> Evidence:
    reads = (*request_groups(trace, "status"), *request_groups(trace, "result"))
    for group in (*_orders(trace), *reads, *_parts(request_groups(trace, "media"))):
        for step, again in pairwise(group):
            wait = requested_wait(step)
            if wait is None or not had_response(step, again) or called_back(trace, step, again):
                continue
            # A client may give up, or ask earlier, if it is told to wait longer than it waits for a job at all.
            if misleading_date(trace, step) or wait.seconds > trace.patience:
                continue
            yield OBSERVED
            # Measured from the response: the server counts the wait from there.
            gap = again.arrived - step.done
            if gap < wait.seconds - wait.slack:
                yield Breach(_waited(again, gap, wait, "only"))
            elif gap > 2 * wait.seconds + 60.0 and _too_late(trace, group, step, again):
                yield Breach(_waited(again, gap, wait, "as late as"))


def _too_late(trace: AnnotatedTrace, group: RequestGroup, step: Step, again: Step) -> bool:
    """Whether the pause before a request is unusual for its client, and nothing but Retry-After can explain it."""
    # The usual pause last: it takes a pass over the group.
    return _alone(trace, step, again) and again.arrived - step.done > 1.5 * _usual(trace, group, step)


def _alone(trace: AnnotatedTrace, step: Step, again: Step) -> bool:
    """Whether nothing between two requests could have told the client about its job."""
    return again.number == step.number + 1 and not _called_back_at_all(trace)


def _usual(trace: AnnotatedTrace, group: RequestGroup, step: Step) -> float:
    """Return the median of the client's other pauses in a group, the pause before it included; 0 if there is none."""
    accepted = [one.done for one in trace.submits if one.accepted and one.done <= group[0].arrived]
    first = [group[0].arrived - accepted[-1]] if accepted and group[0].role == "status" else []
    gaps = [
        again.arrived - one.done for one, again in pairwise(group) if one is not step and requested_wait(one) is None
    ]
    found = sorted(first + gaps)
    return found[len(found) // 2] if found else 0.0


def _parts(fetches: Iterable[RequestGroup]) -> Iterator[RequestGroup]:
    """Split downloads by their ranges: parts that are fetched concurrently do not repeat each other."""
    for group in fetches:
        for part in dict.fromkeys(step.exchange.header("range") for step in group):
            yield tuple(step for step in group if step.exchange.header("range") == part)


def _waited(again: Step, gap: float, wait: RequestedWait, how: str) -> str:
    return f"Retry-After requested {wait.seconds:.0f} s, but request {again.number} was sent {how} {gap:.2f} s later"


def _orders(trace: AnnotatedTrace) -> Iterable[RequestGroup]:
    """Yield the attempts to submit one order, if the orders can be separated."""
    if trace.trace.drill in CONCURRENT_KINDS:
        return
    for order in trace.orders:
        for run in sorted({trace.run_of(step) or 0 for step in order}):
            yield tuple(step for step in order if (trace.run_of(step) or 0) == run)


def _called_back_at_all(trace: AnnotatedTrace) -> bool:
    """Whether the client requested callbacks, so that a late poll loses nothing."""
    return bool(trace.deliveries) or any(map(trace.wants_callbacks, trace.submits))


@rule(
    "RTY-02",
    "fatal-4xx-fast",
    level=MUST,
    severity="S2",
    channel=WIRE,
    says="Repeat a request that is refused with 400, 401, 403, 410 or 422 at most once; the same holds for a "
    "submission that is refused with 402 or 404.",
    because="Clients polled for ten minutes with a wrong key (ArcReel/ArcReel#684), and for two minutes after a 403 "
    "(Axiomatic-AI/ax-mcp#113), while the user waited for an error that was already known (ai-ecoverse/slicc#1326).",
    fix="Repeat only transient statuses (408, 425, 429, 5xx); raise an error at once for every other 4xx.",
    example="trouble",
)
def fatal_4xx_fast(trace: AnnotatedTrace) -> Evidence:
    # Submissions are known to repeat each other only within one run.
    for order in _orders(trace) if trace.runs else ():
        yield from _repeated_submission(order)
    for role in sorted(READS):
        for group in request_groups(trace, role):
            yield from _repeated_read(trace, group)


@rule(
    "RTY-08",
    "envelope-refusal",
    level=SHOULD,
    severity="S2",
    channel=WIRE,
    applies=_has_envelope,
    says="If the body of a response with status 200 has the status of a refusal, treat it as that refusal: repeat the "
    "request a few times at most.",
    because="The envelope's code was ignored, so that a refused request was polled until the deadline: "
    "hapi-server/client-python#105.",
    fix="Take the code in the body for the status if it is another one.",
    example="trouble",
)
def envelope_refusal(trace: AnnotatedTrace) -> Evidence:
    orders = _orders(trace) if trace.runs else ()
    groups = [(order, FATAL_ORDER) for order in orders]
    groups += [(group, FATAL) for role in sorted(READS) for group in request_groups(trace, role)]
    for group, fatal in groups:
        for refused, again in consecutive(group, lambda step: _status_inside(trace, step) in fatal):  # noqa: B023
            yield OBSERVED
            first, repeated = refused[0], len(refused) - (again is None)
            if repeated > MOST_INSIDE and not called_back(trace, first, refused[-1]):
                yield Breach(
                    f"the body of request {first.number} had the refusal {_status_inside(trace, first)}, but the "
                    f"request was repeated {repeated} times; allowed: {MOST_INSIDE}"
                )


def _status_inside(trace: AnnotatedTrace, step: Step) -> int | None:
    """Return the status in the envelope of a response with status 200, if it is another one."""
    operation = trace.contract.operations.get(step.role or "")
    name = _envelope_of(operation) if operation is not None and step.ok else None
    code = step.value.get(name) if name is not None and isinstance(step.value, dict) else None
    return code if isinstance(code, int) and code >= REFUSED else None


def _repeated_submission(order: RequestGroup) -> Evidence:
    """Look for a submission after the second permanent refusal."""
    bad = [step for step in order if step.delivered and step.status in FATAL_ORDER]
    if bad:
        yield OBSERVED
    again = next((step for step in order if len(bad) > 1 and step.number > bad[1].number), None)
    if again is not None:
        yield Breach(
            f"the submission was refused ({bad[0].status}, request {bad[0].number}), but repeated more than once "
            f"(request {again.number})"
        )


def _repeated_read(trace: AnnotatedTrace, group: RequestGroup) -> Evidence:
    """Look for a read after the second permanent refusal.

    A response about the job in between shows that the first refusal was transient after all.
    """
    refused: list[Step] = []
    for step, again in itertools.zip_longest(group, group[1:]):
        if step.delivered and step.status in FATAL:
            refused.append(step)
            yield OBSERVED
        elif step.ok and (step.kinds or step.unknown_stage or step.unread):
            refused = []
        first = refused[0] if refused else step
        # Each callback excuses one more read.
        if again is not None and len(refused) > 1 + callbacks_between(trace, first, again):
            yield Breach(f"request {first.number} was refused ({first.status}), but repeated more than once")
            return


@rule(
    "RTY-03",
    "backoff",
    level=SHOULD,
    severity="S3",
    channel=WIRE,
    timing=True,
    says="Pause at least 0.1 s between a failure and the next attempt, and do not shorten the pauses; a wait that "
    "Retry-After requests does not count as a pause, but a wait of zero allows no flood.",
    because="Immediate retries turn an outage into a flood: Azure/azure-sdk-for-go#15905 sets a floor of a second.",
    fix="Sleep before each retry, starting with at least half a second and doubling the pause each time.",
    example="pause",
)
def backoff(trace: AnnotatedTrace) -> Evidence:
    for group in (*request_groups(trace, "status"), *request_groups(trace, "result"), *request_groups(trace, "media")):
        for stretch, again in consecutive(group, lambda step: step.transient):
            chain = stretch if again is None else (*stretch, again)
            # Without a response's headers or duration, a wait that it requested is unknown.
            if len(chain) > 1 and all(step.exchange.has(ANSWER_HEADERS, DURATION) for step in chain):
                yield OBSERVED
                yield from _hasty(trace, chain)
                yield from _hastening(trace, chain)
                yield from _flooding(trace, chain)


def _hasty(trace: AnnotatedTrace, chain: RequestGroup) -> Iterator[Breach]:
    """Yield a breach if the first retry was too early. An HTTP library's own retry of a dead connection is exempt."""
    first = 1 if chain[0].status == 0 and len(chain) > 2 else 0
    # HTTP libraries retry once on a stale pooled connection, without a pause.
    if chain[0].status == 0 and first == 0:
        return
    step, again = chain[first], chain[first + 1]
    gap = again.arrived - step.done
    # Resuming an interrupted download immediately transfers nothing twice.
    resumes = step.role == "media" and again.exchange.header("range") is not None
    # A request or a callback in between may explain an early retry.
    idle = again.number == step.number + 1 and not called_back(trace, step, again)
    if _retry_after(step) is None and idle and not resumes and 0 <= gap < LEAST_RETRY_GAP:
        failed = f"request {step.number} failed ({_how(step)})"
        yield Breach(f"{failed}, but request {again.number} followed after only {gap:.3f} s; minimum: 0.1 s")


def _flooding(trace: AnnotatedTrace, chain: RequestGroup) -> Iterator[Breach]:
    """Yield a breach for many failures in a row that are each followed by the next attempt without a pause.

    A `Retry-After` of zero allows the next attempt, and not a flood of them.
    """
    row = most = 0
    for step, again in pairwise(chain):
        hasty = had_response(step, again) and again.arrived - step.done < LEAST_RETRY_GAP
        row = row + 1 if hasty and not called_back(trace, step, again) else 0
        most = max(most, row)
    if most >= MANY:
        yield Breach(f"{most} attempts in a row followed a failure after less than 0.1 s")


def _hastening(trace: AnnotatedTrace, chain: RequestGroup) -> Iterator[Breach]:
    """Yield a breach if the pauses between failures with the same status shrink."""
    pairs = [(step, again) for step, again in pairwise(chain) if step.delivered and _retry_after(step) is None]
    for status in sorted({step.status for step, _ in pairs}):
        gaps = [again.arrived - step.done for step, again in pairs if step.status == status]
        # A client may use another backoff when the failure changes.
        steady = all(step.status == status for step in chain[:-1])
        if not steady or len(gaps) < LONG_ENOUGH or trace.deliveries:
            continue
        half = len(gaps) // 2
        first, last = gaps[:half], gaps[half:]
        if max(last) < min(first) and sum(last) / len(last) < 0.5 * sum(first) / len(first):
            yield Breach(
                f"from request {chain[0].number} on, {len(gaps)} attempts failed ({status}), but the pauses shrank "
                f"from {first[0]:.2f} s to {last[-1]:.2f} s"
            )


def _how(step: Step) -> str:
    if not step.delivered:
        return "no complete response"
    return f"an unusable body, {step.status}" if step.status < 400 else str(step.status)


@rule(
    "RTY-04",
    "one-blip-survives",
    level=MUST,
    severity="S1",
    harm=VIDEO,
    channel=OUTCOME,
    says="One transient failure of a read or download (no response, 408, 425, 429, 5xx), or a connection that was "
    "closed between two of them, must not lose the job or cause another submission.",
    because="The job continues and is billed: one 502 lost it in valyuAI/valyu-py#126, 429 and 408 were fatal in "
    "shrimbly/node-banana#116.",
    fix="Catch connection errors, 408, 425, 429 and 5xx around each poll and each download, and try again within the "
    "deadline.",
    example="wait",
)
def one_blip_survives(trace: AnnotatedTrace) -> Evidence:
    if trace.accepted is None or trace.trace.drill != "once" or len(trace.runs) != 1:
        return
    # With a second failure or fault, that one may be why the client gave up.
    blips = [step for step in trace.of(*READS, "media") if _passes(step) or _was_left(step)]
    if len(blips) != 1 or not all(undisturbed(trace, step) for step in trace.steps if step is not blips[0]):
        return
    yield OBSERVED
    blip = blips[0]
    failed = any(step.failure for step in trace.steps)
    again = next((step for step in trace.after(blip, trace.submits)), None)
    if again is not None and not failed:
        yield Breach(f"{_what(blip)}, but request {again.number} submits again")
    # A later request shows that the client went on.
    last = trace.of(*READS, "media")[-1]
    if last is blip and not failed and _gave_up_early(trace) and _promptly(trace, blip):
        yield Breach(f"{_what(blip)}, but the client gave up the job")


def _gave_up_early(trace: AnnotatedTrace) -> bool:
    """Whether a run ended without a video, and not at its deadline, whatever its error says."""
    if gave_up(trace):
        return True
    outcome, own = trace.outcome, trace.trace.patience
    if outcome is None or outcome.kind != "timeout" or own is None or trace.deliveries:
        return False
    # The deadline that the client has shown with a stuck job: an error that is called a timeout may come much earlier.
    return trace.waited <= EARLY_SHARE * own


def _was_left(step: Step) -> bool:
    """Whether the connection was closed after a good response to a read, which the next request meets."""
    return step.exchange.move == LEFT and step.under_way


def _what(blip: Step) -> str:
    """Describe the one failure of a trace."""
    if _was_left(blip):
        return f"the connection was closed after the response to request {blip.number}"
    return f"request {blip.number} failed once ({_how(blip)})"


def _passes(step: Step) -> bool:
    return not step.delivered or step.status in TRANSIENT or step.status >= 500


def _promptly(trace: AnnotatedTrace, blip: Step, share: float = EARLY_SHARE) -> bool:
    """Whether a run ended soon after a failure and long before its deadline, so that only the failure ended it.

    `share` is the share of the client's patience in which the failure must have come.
    """
    assert trace.outcome is not None
    assert trace.accepted is not None
    wait = requested_wait(blip)
    short = wait is None or wait.seconds <= 60.0
    early = blip.arrived - trace.accepted.done <= trace.patience * share
    # A client may wait some minutes for a response, as for a long file, before it gives up.
    held = 0.0 if blip.delivered else LONGEST_TIMEOUT
    return short and early and trace.outcome.ended - blip.arrived - held <= 60.0


@rule(
    "RTY-09",
    "failures-do-not-add-up",
    level=SHOULD,
    severity="S1",
    harm=VIDEO,
    channel=OUTCOME,
    says="Failures of reads that are apart do not add up: after a good response, the client is as patient as before.",
    because="A job of ten minutes meets more failures than one of ten seconds: a limit on all failures, or on the time "
    "since the first of them, ends the wait for a paid job that goes on: osdp-dev/libosdp#230.",
    fix="Reset the number of failures, and the time of the first one, at each good response.",
    example="wait",
)
def failures_do_not_add_up(trace: AnnotatedTrace) -> Evidence:
    if trace.accepted is None or trace.trace.drill != "once" or len(trace.runs) != 1:
        return
    reads = trace.of(*READS)
    blips = [number for number, step in enumerate(reads) if _passes(step)]
    others = [step for step in trace.steps if step.role not in READS or not _passes(step)]
    if len(blips) < 2 or any(later - earlier < 2 for earlier, later in pairwise(blips)):
        return
    # The fault that only lets a request pass is none.
    if not all(undisturbed(trace, step) or (step.clean and step.exchange.move == UNTROUBLED) for step in others):
        return
    yield OBSERVED
    blip = reads[blips[-1]]
    failed = any(step.failure for step in trace.steps)
    if reads[-1] is blip and not failed and gave_up(trace) and _promptly(trace, blip, MOST_SHARE):
        told = f"{len(blips)} reads failed, each after a good one, and the client gave up the job at the last of them"
        yield Breach(f"{told}, request {blip.number} ({_how(blip)})")


@rule(
    "RTY-10",
    "short-outage-survives",
    level=SHOULD,
    severity="S1",
    harm=VIDEO,
    channel=OUTCOME,
    says="Two or three failures of polls in a row (no response, 408, 425, 429, 5xx, an unusable body; 404 for a new "
    "job or a new result) do not end the wait for a paid job: a restart of the provider takes that long.",
    because="The job continues and is billed: Scottcjn/bottube#2213 allows five failures in a row, so that a restart "
    "in the middle of a job loses nothing; ddcat-ai/open-ai-canvas#492 allows three 404s.",
    fix="Count the failures in a row, and give up after a minute of them, or at the deadline.",
    example="wait",
)
def short_outage_survives(trace: AnnotatedTrace) -> Evidence:
    if trace.accepted is None or trace.trace.drill != "once" or len(trace.runs) != 1:
        return
    reads = trace.of(*READS)
    # An error with a 2xx may be final: to give up at the second one is as right as to go on.
    passing = [step.transient and not step.error_inside for step in reads]
    failures = [at for at, step in enumerate(reads) if passing[at] or _not_there_yet(trace, step)]
    failed_reads = {reads[at].number for at in failures}
    others = [step for step in trace.steps if step.number not in failed_reads]
    in_a_row = all(later - earlier == 1 for earlier, later in pairwise(failures))
    if not 1 < len(failures) <= FAILURES_IN_A_ROW or not in_a_row or not all(undisturbed(trace, one) for one in others):
        return
    yield OBSERVED
    last = reads[failures[-1]]
    failed = any(step.failure for step in trace.steps)
    if reads[-1] is last and not failed and _gave_up_early(trace) and _promptly(trace, last):
        told = f"{len(failures)} polls failed in a row, and the client gave up the job at the last of them"
        yield Breach(f"{told}, request {last.number} ({_how(last)})")


@rule(
    "RTY-05",
    "404-grace",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    applies=_may_be_missing,
    says="If a job is not found directly after its submission, poll again; if it stays missing, give up.",
    because="The server that reads a job may not know it yet although another server has accepted it: "
    "ddcat-ai/open-ai-canvas#492 allows three 404s; ArcReel/ArcReel#684 polled a job that did not exist.",
    fix="Tolerate a few 404 responses until the job was seen once, then treat a 404 as final.",
    example="trouble",
)
def missing_has_grace(trace: AnnotatedTrace) -> Evidence:
    missing = [step for step in trace.polls if _missing(step)]
    if not missing:
        return
    yield OBSERVED
    for group in request_groups(trace, "status"):
        for stretch, again in consecutive(group, _missing):
            # A client with a deadline, or that counts its polls, does give up.
            bounded = bool(trace.runs) and not endless(trace)
            if len(stretch) - (1 if again is None else 0) > MOST_MISSING and not bounded:
                times = f"the job was not found {len(stretch)} times in a row"
                yield Breach(f"{times}, but was requested again each time; allowed: {MOST_MISSING}")
    last = missing[-1]
    if last is trace.reads[-1] and len(missing) == 1 and gave_up(trace) and _just_ordered(trace, last):
        yield Breach(
            f"request {last.number}, directly after the submission, did not find the job, but the client did not retry"
        )


def _missing(step: Step) -> bool:
    return step.delivered and step.status == 404


def _not_there_yet(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether a read was too early: a 404 within a minute of the submission, or of the success for a result."""
    if not _missing(step) or trace.accepted is None or step.role not in READS:
        return False
    earlier = [other for other in trace.reads if other.arrived < step.arrived]
    ends = [other.arrived for other in earlier if other.role != step.role and "success" in other.kinds]
    since = trace.accepted.done if step.role == "status" else min(ends, default=step.arrived)
    seen = any(other.ok for other in earlier if other.role == step.role)
    return not seen and step.arrived - since <= NEW


def _just_ordered(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether a read is the first after a recent submission."""
    if trace.accepted is None or trace.outcome is None:
        return False
    others = [other for other in trace.steps if other is not step]
    first = all(other.role not in (*READS, "media") for other in others)
    return first and trace.outcome.ended <= trace.accepted.done + SOON


@rule(
    "RTY-06",
    "retry-bounded",
    level=MUST,
    severity="S2",
    channel=WIRE,
    says="All retries end at the overall deadline; Retry-After does not extend it.",
    because="Retries that restart their count, or waits that the server dictates, block the caller forever: "
    "ddcat-ai/open-ai-canvas#492.",
    fix="Compare every retry and every Retry-After with the time that is left until the overall deadline, and give up "
    "if it is too long.",
    example="pause",
)
def retry_bounded(trace: AnnotatedTrace) -> Evidence:
    kinds = (tuple(sorted(SUBMISSIONS)), ("status",), ("result",), ("media",))
    for group in itertools.chain.from_iterable(request_groups(trace, *roles) for roles in kinds):
        # Earlier runs were killed, which ended their retries.
        since = _deadline_from(trace, group)
        if trace.run_of(group[0]) not in (None, len(trace.runs) - 1) or since is None:
            continue
        failing = _failing(group)
        waits = [(step, again) for step, again in pairwise(group) if requested_wait(step) is not None]
        waits = [(step, again) for step, again in waits if not misleading_date(trace, step)]
        if len(failing) >= FAILURES_IN_A_ROW or waits:
            yield OBSERVED
        yield from _endless(trace, failing, since)
        yield from _carried(trace, waits, since)


@rule(
    "RTY-07",
    "repeat-the-order",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=WIRE,
    says="An order that is sent again after a transient failure is the same order: complete, and with the same prompt.",
    because="The body was a stream that the first attempt had read to its end, so that the second order was empty: "
    "Automattic/vip-cli#2897, remotion-dev/remotion#9087.",
    fix="Keep the body as bytes or as an object, not as a stream or generator, so that each attempt sends it from its "
    "beginning.",
    example="submit",
)
def repeat_the_order(trace: AnnotatedTrace) -> Evidence:
    # Submissions are known to repeat each other only within one run.
    for group in _orders(trace) if trace.runs else ():
        for step, again in pairwise(group):
            order = order_of(trace, step)
            # Another refusal may have criticised the order, and a client may correct it.
            if order is None or not (step.refused or step.ambiguous) or not step.transient:
                continue
            yield OBSERVED
            other = order_of(trace, again)
            if other is None or other.prompt != order.prompt:
                body = "an empty body" if not again.exchange.body else "another body"
                yield Breach(f"request {again.number} repeats the order of request {step.number}, but with {body}")


def _failing(group: RequestGroup) -> RequestGroup:
    """Return the failures at the end of a group."""
    good = max((number for number, step in enumerate(group) if not step.transient), default=-1)
    return group[good + 1 :]


def _deadline_from(trace: AnnotatedTrace, group: RequestGroup) -> float | None:
    """Return when the wait for a group's outcome began. A download has a deadline of its own."""
    if not trace.runs:
        # Submissions of several orders form one group: the retries of the last one began after the last success.
        return (_failing(group) or group)[0].arrived if group[0].role in SUBMISSIONS else group[0].arrived
    if group[0].role == "media" or group[0].role in SUBMISSIONS:
        return group[0].arrived
    return wait_began(trace)


def _limit(trace: AnnotatedTrace, since: float) -> float:
    return since + allowed_wait(trace, ENDLESS_RETRIES)


def _endless(trace: AnnotatedTrace, failing: RequestGroup, since: float) -> Iterator[Breach]:
    if len(failing) < FAILURES_IN_A_ROW:
        return
    last = failing[-1]
    failures = f"{len(failing)} requests ({last.role}) failed in a row"
    if last.arrived > _limit(trace, since):
        yield Breach(
            f"{failures}, but request {last.number} was sent {last.arrived - since:.0f} s after the wait began"
        )
    elif trace.outcome is not None and trace.outcome.kind == "unfinished" and len(failing) >= MANY:
        # An unfinished run was cut off. Only one that went on beyond the longest wait would not have ended.
        bounded = not trace.contract.polling_documented and not endless(trace)
        if not bounded and trace.outcome.ended > since + trace.patience:
            yield Breach(f"{failures}, but the client had not stopped when the run was cut off")


def _carried(trace: AnnotatedTrace, waits: list[tuple[Step, Step]], since: float) -> Iterator[Breach]:
    """Yield a breach for each Retry-After that moved a request beyond the deadline."""
    limit, own = _limit(trace, since), trace.trace.patience
    factor, more = ENDLESS_RETRIES
    # Where no document limits the wait, one that alone takes longer than the client waits for a stuck job is too long.
    longest = math.inf if own is None else factor * own + more
    for step, again in waits:
        late = step.arrived <= limit < again.arrived or again.arrived - step.done > longest
        if late and not called_back(trace, step, again):
            yield Breach(
                f"Retry-After took the client past its deadline: request {again.number} was sent "
                f"{again.arrived - since:.0f} s after the wait began"
            )
