"""Rules about limits: submissions over the limit wait, and connections are given back. Knows no server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from hobbyhorse.conformance.client.cases import ONCE, TOGETHER
from hobbyhorse.conformance.client.grouping import misleading_date
from hobbyhorse.conformance.client.rules.requests import requested_parameters, sent_by, value_of
from hobbyhorse.conformance.client.rules.retrying import requested_wait
from hobbyhorse.conformance.rule import OBSERVED, OUTCOME, SHOULD, VIDEO, WIRE, Breach, Evidence, rule
from hobbyhorse.scenarios.fault import DRIPS
from hobbyhorse.scenarios.registry import name_used_for
from hobbyhorse.traces.annotated import GAVE_UP, AnnotatedTrace, Step
from hobbyhorse.traces.exchange import ANSWER_HEADERS, BODY
from hobbyhorse.traces.orders import reads_of

SLOW = name_used_for(DRIPS)
OK = 200  # the whole file; a part of it has 206
TOO_MANY_REQUESTS = 429  # RFC 6585, section 4
# Attempts to submit one order. More would excuse a client that polls the limit; fewer would accuse a client that waits
# for a long job with growing pauses.
MOST_ORDER_TRIES = 10
# Attempts to submit one order before its refusal may be reported. The caller accepts an error after a retry, because
# nobody knows how long the other jobs take, and the caller can submit again. A client that reports the first refusal
# has not tried to use a slot that the next moment may free: of three orders, the caller loses two.
LEAST_ORDER_TRIES = 2
# Seconds between attempts, on average, from which their number does not matter: the client waits for a long job.
SLOW_TRIES = 10.0
# Seconds before a refused submission is retried while other jobs are running: 0.5, less the rounding of recorded
# times (1 ms). Longer than after other failures, because a place becomes free only when a job ends.
LEAST_ORDER_GAP = 0.5 - 0.001
# A longer wait, in seconds, may exceed the client's own deadline: then it may report the refusal immediately.
LONGEST_ORDER_WAIT = 60.0
# The lowest status of a failure (RFC 9110, section 15.5).
FAILURE = 400
# Requests from which a client shows whether it gives connections back: with fewer, it may not have needed one again.
LEAST_REQUESTS = 4
# Open connections of a client that does one thing at a time: several for each of the hosts that it calls.
MOST_CONNECTIONS = 12
# Failures in a row, each with a connection more, that are no accident.
PILED_UP = 3
# Seconds without a request that no pause between polls explains, and the multiple of the longest pause before.
LONG_SILENCE, UNUSUAL = 300.0, 5.0


@rule(
    "CON-01",
    "concurrency-limit",
    level=SHOULD,
    severity="S3",
    channel=WIRE,
    timing=True,
    says="If a submission is refused (429) while other jobs are running, the client waits for a free slot: few "
    "retries, with pauses, but at least one before it gives up the submission.",
    because="Without a queue of its own, a client hits the limit repeatedly, and loses the submissions that it gives "
    "up: ArcReel/ArcReel#1822.",
    fix="Limit the concurrent submissions with a semaphore, and after a 429 wait for the Retry-After, or for a "
    "growing pause, before the next attempt.",
    example="submit",
)
def concurrency_limit(trace: AnnotatedTrace) -> Evidence:
    orders = _orders(trace)
    accepted = tuple(step for step in trace.submits if step.accepted and step.exchange.has(BODY))
    for order in orders:
        busy = [step for step in order if step.delivered and step.status == TOO_MANY_REQUESTS]
        own = {step.number for step in order}
        busy = [step for step in busy if _is_running(trace, (one for one in accepted if one.number not in own), step)]
        if not busy:
            continue
        # A single refusal shows neither a retry nor, without the end of its run, that there is none.
        if len(order) >= LEAST_ORDER_TRIES:
            yield OBSERVED
        owners = _owners(trace, order[0])
        most = MOST_ORDER_TRIES * owners
        if len(order) > most and _fast(order, owners):
            yield Breach(f"one order was submitted {len(order)} times while other jobs were running; allowed: {most}")
        if owners == 1:
            yield from _hasty(order, busy)
            yield from _given_up(trace, order)


@rule(
    "CON-02",
    "connections-given-back",
    level=SHOULD,
    severity="S2",
    channel=OUTCOME,
    says="Read or close each response, also one with an error: a connection with an open response cannot be used "
    "again.",
    because="Each response with an error kept its connection, until the pool had none left and no request was sent any "
    "more: mistralai/client-python#532, openai/openai-python#763, cloudant/java-cloudant#277.",
    fix="Read each response in a `with` block, so that it is closed whatever its status is.",
    example="ask",
)
def connections_given_back(trace: AnnotatedTrace) -> Evidence:
    steps = [step for step in trace.steps if step.exchange.connections]
    if trace.trace.drill != ONCE or len(trace.runs) != 1 or len(steps) < LEAST_REQUESTS:
        return
    yield OBSERVED
    most = max(steps, key=lambda step: step.exchange.connections)
    if most.exchange.connections > MOST_CONNECTIONS:
        held = most.exchange.connections - 1
        yield Breach(f"request {most.number} was sent while {held} connections of the client were open and unused")
    else:
        yield from _exhausted(trace, steps)


@rule(
    "CON-03",
    "orders-at-once",
    level=SHOULD,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="Orders at the same time do not disturb each other: if a job has succeeded and no response was wrong, its run "
    "ends with its video after one download, also if the downloads overlap.",
    because="All downloads were written to one temporary file, and each of two replaced the other's: "
    "LaborBerlin/varvis-download#121.",
    fix="Keep what belongs to one order in variables of its own, and download into a file of its own (mkstemp).",
    example="ask",
)
def orders_at_once(trace: AnnotatedTrace) -> Evidence:
    if trace.trace.drill != TOGETHER or any(step.exchange.move not in (None, SLOW) for step in trace.steps):
        return
    fetched = dict[str, int]()
    for number, run in enumerate(trace.runs):
        own = [step for step in trace.submits if step.accepted and trace.owner_of(step) == number]
        job, outcome = own[0].job_told if len(own) == 1 else None, run.outcome
        if job is None or outcome is None or not any(read.success for read in (own[0], *reads_of(trace, job))):
            continue
        yield OBSERVED
        fetched[job] = sum(step.job == job and step.status == OK and step.ok for step in trace.fetches)
        if outcome.kind in GAVE_UP:
            yield Breach(
                f"job {job} had succeeded and no response was wrong, but its run ended as {outcome.kind!r} while other "
                "orders were under way"
            )
    for job, count in fetched.items():
        # A client may fetch each file twice.
        if count > max(1, min(fetched.values())):
            yield Breach(
                f"the whole file of job {job} was fetched {count} times, as if it had not arrived, while other orders "
                "were under way"
            )


def _exhausted(trace: AnnotatedTrace, steps: list[Step]) -> Iterator[Breach]:
    """Yield a breach if each failure kept a connection, and the client then sent nothing for the rest of its run."""
    outcome, last = trace.outcome, steps[-1]
    failed = [step for step in steps[-PILED_UP:] if step.delivered and step.status >= FAILURE]
    open_then = [step.exchange.connections for step in failed]
    piled_up = len(failed) == PILED_UP and open_then == list(range(open_then[0], open_then[0] + PILED_UP))
    if outcome is None or outcome.kind == "success" or not piled_up or last is not trace.steps[-1]:
        return
    if trace.deliveries or any(map(trace.wants_callbacks, trace.submits)):
        return
    wait = requested_wait(last)
    longest = max(after.arrived - before.done for before, after in pairwise(steps))
    silence = outcome.ended - last.done - (wait.seconds if wait is not None else 0.0)
    if silence > max(LONG_SILENCE, UNUSUAL * longest):
        yield Breach(
            f"each of the last {PILED_UP} responses with an error kept its connection, and after request "
            f"{last.number} the client sent nothing for {silence:.0f} s"
        )


def _fast(order: tuple[Step, ...], owners: int) -> bool:
    """Whether the attempts of each owner follow each other faster than those of a client that waits for a long job."""
    own = [step for step in order if step.exchange.answer_header("retry-after") is None]
    return len(own) > 1 and own[-1].arrived - own[0].arrived < SLOW_TRIES * (len(own) / owners - 1)


def _given_up(trace: AnnotatedTrace, order: tuple[Step, ...]) -> Iterator[Breach]:
    """Yield a breach if a run reports the first refusal of its order, and never submits it again."""
    first, number = order[0], trace.owner_of(order[0])
    outcome = trace.runs[number].outcome if number is not None else None
    if outcome is None or outcome.kind not in GAVE_UP or len(order) >= LEAST_ORDER_TRIES:
        return
    # A later submission that belongs to no run may be the retry.
    if any(trace.owner_of(step) is None for step in trace.after(first, trace.submits)):
        return
    wait = requested_wait(first)
    if not misleading_date(trace, first) and (wait is None or wait.seconds <= LONGEST_ORDER_WAIT):
        yield Breach(
            f"request {first.number} was refused (429) while other jobs were running, and the client gave up the order "
            "without a retry"
        )


def _hasty(order: tuple[Step, ...], busy: list[Step]) -> Iterator[Breach]:
    """Yield a breach for each retry that is too early, unless the provider requested the wait."""
    for step, again in pairwise(order):
        gap = again.arrived - step.done
        if not step.exchange.has(ANSWER_HEADERS):
            continue
        if step in busy and gap < LEAST_ORDER_GAP and step.exchange.answer_header("retry-after") is None:
            yield Breach(f"request {again.number} retries a submission only {gap:.3f} s after a 429; minimum: 0.5 s")


def _orders(trace: AnnotatedTrace) -> list[tuple[Step, ...]]:
    """Return the attempts to submit each order: of one run, or else those with the same URL and body.

    Concurrent runs differ in nothing but their requests.
    """
    groups: dict[object, list[Step]] = {}
    for step in trace.submits:
        owner = trace.owner_of(step)
        same = trace.identity(step) if owner is None else owner
        if same is not None:
            groups.setdefault(same, []).append(step)
    return [tuple(group) for group in groups.values()]


def _owners(trace: AnnotatedTrace, step: Step) -> int:
    """Return how many runs may have sent a submission: the runs with its prompt, or else all runs."""
    wait_began = [run for run in trace.runs if not run.resumed]
    sent = sent_by(trace, step)
    if sent is None:
        return max(1, len(wait_began))
    prompt = value_of(sent, sent.parameters, "prompt")
    same = [one for one in requested_parameters(trace, step, sent) if value_of(sent, one, "prompt") == prompt]
    return len(same) or max(1, len(wait_began))


def _is_running(trace: AnnotatedTrace, accepted: Iterable[Step], refused: Step) -> bool:
    """Whether one of some accepted jobs is running when a submission is refused, as far as responses show."""
    for one in accepted:
        shown = (one, *reads_of(trace, one.job_told)) if one.done <= refused.done else ()
        if shown and not any((read.terminal or read.unread) and read.done < refused.arrived for read in shown):
            return True
    return False
