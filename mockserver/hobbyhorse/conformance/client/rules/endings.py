"""Rules about the ends of runs: a run ends, and the next one works whatever happened before. Knows no server.

An unfinished run proves nothing by itself: a patient client that polls in real time is cut off at its limit, too. It
accuses a client only if waiting longer could not have helped:

* In virtual time, the scheduler knows when every thread of a client waits, without a timeout, for an event that cannot
  happen (`Outcome.stuck`).
* A client that makes no request for longer than the longest allowed wait for a whole job cannot be polling.
* A command has only real time, which is short. It is accused if it had nothing left to wait for, because the last
  response gave it the video or the failure, and then made no request for most of its run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from hobbyhorse.conformance.client.cases import CONCURRENT_KINDS, LONG
from hobbyhorse.conformance.client.rules.retrying import requested_wait
from hobbyhorse.conformance.client.rules.variations import is_accident
from hobbyhorse.conformance.rule import MUST, OBSERVED, OUTCOME, SHOULD, Breach, Evidence, rule
from hobbyhorse.traces.annotated import GAVE_UP, AnnotatedTrace, Step
from hobbyhorse.traces.trace import PROCESS_LOST, Run

# How long a client may make no request: the bound of TMO-01 on the wait for a job, a factor and seconds more. A client
# that is silent for longer waits for nothing that a job could bring.
LONGEST_SILENCE = (1.25, 60.0)
# The share of a command's run without a request, and the factor by which that exceeds its longest pause. A client that
# backs off doubles its pauses; ten times the longest one is not a backoff.
MOST_OF_THE_RUN, UNUSUAL = 0.5, 10.0
# The message of an exception of Python: the name of its type, and a colon.
ERROR = re.compile(r"[A-Za-z_][\w.]*:")


@rule(
    "END-01",
    "a-run-ends",
    level=MUST,
    severity="S2",
    channel=OUTCOME,
    timing=True,
    says="A run ends, with the video or with an error: it neither waits for an event that cannot happen nor ends its "
    "process.",
    because="A client that hangs reports nothing, and its caller hangs with it: a failed order kept its slot of a "
    "semaphore (bmresearch/Solnet#292, jskeet/DemoCode#131), or its connection (psf/requests#3461).",
    fix="Release locks, semaphore slots and events in a finally block, give every wait for an event a timeout, and "
    "never call sys.exit or os._exit in a library.",
    example="collect",
)
def a_run_ends(trace: AnnotatedTrace) -> Evidence:
    for number, run in enumerate(trace.runs):
        outcome = run.outcome
        if outcome is None:
            continue
        if outcome.kind != "unfinished":
            yield OBSERVED
        elif outcome.message.startswith(PROCESS_LOST):
            yield OBSERVED
            yield Breach(f"{_name(trace, number)} ended with its process: {outcome.message}")
        elif outcome.stuck:
            yield OBSERVED
            yield Breach(f"{_name(trace, number)} hangs: all its threads wait for each other; {_last(trace, number)}")
        else:
            yield from _silence(trace, number, run)


def _silence(trace: AnnotatedTrace, number: int, run: Run) -> Iterator[Breach]:
    """Yield a breach if an unfinished run had stopped to do anything long before it was cut off."""
    assert run.outcome is not None
    steps = _steps(trace, number)
    last = steps[-1] if steps else None
    # A response that asks for a longer wait, or has not arrived yet, is why the client is silent.
    if last is not None and (requested_wait(last) is not None or last.exchange.answered is None):
        return
    delivered = [one.answered or one.sent for one in trace.deliveries if one.sent >= run.started]
    since = max([run.started, *(step.done for step in steps), *delivered])
    silence = run.outcome.ended - since
    factor, more = LONGEST_SILENCE
    words = f"{_name(trace, number)} was cut off after {silence:.0f} s without a request"
    if silence > factor * trace.patience + more:
        yield Breach(f"{words}; {_last(trace, number)}")
    elif last is not None and _idle(steps, run, silence) and _has_nothing_to_wait_for(trace, steps):
        yield Breach(f"{words}, although nothing was left to wait for; {_last(trace, number)}")


def _idle(steps: list[Step], run: Run, silence: float) -> bool:
    """Whether a silence at the end of a run is most of the run, and much longer than each earlier pause."""
    assert run.outcome is not None
    # The time before the first request is not a pause: a program may start slowly.
    longest = max((later.arrived - earlier.arrived for earlier, later in pairwise(steps)), default=0.0)
    return silence > max(MOST_OF_THE_RUN * (run.outcome.ended - run.started), UNUSUAL * longest)


def _has_nothing_to_wait_for(trace: AnnotatedTrace, steps: list[Step]) -> bool:
    """Whether the last response was the whole video, or reports that the job has ended without one."""
    last = steps[-1]
    if trace.trace.drill in CONCURRENT_KINDS or not last.ok or last.exchange.move is not None:
        return False
    return last.role == "media" or (last.failure and last.clean)


def _steps(trace: AnnotatedTrace, number: int) -> list[Step]:
    """Return the requests of a run; of overlapping runs, all that it may have sent."""
    if trace.trace.drill in CONCURRENT_KINDS:
        return list(trace.after(trace.runs[number].started, trace.steps))
    return [step for step in trace.steps if trace.run_of(step) == number]


def _name(trace: AnnotatedTrace, number: int) -> str:
    return "the run" if len(trace.runs) == 1 else f"run {number + 1} of {len(trace.runs)}"


def _last(trace: AnnotatedTrace, number: int) -> str:
    """Describe the last request of a run."""
    steps = _steps(trace, number)
    if not steps:
        return "it made no request"
    last = steps[-1]
    return f"its last request was {last.number} ({last.role}, {last.status or 'no response'})"


@rule(
    "END-02",
    "recovers",
    level=MUST,
    severity="S2",
    channel=OUTCOME,
    says="Each run submits its order, whatever happened in earlier runs: what a run uses, it gives back when it fails.",
    because="Each failure used up a slot or a connection, until no order reached the provider any more: "
    "bmresearch/Solnet#292, jskeet/DemoCode#131, openai/openai-python#763, aio-libs/aiohttp#2217.",
    fix="Acquire connections and semaphore slots with a context manager, so that a failed run returns them.",
    example="collect",
)
def recovers(trace: AnnotatedTrace) -> Evidence:
    # A client may refuse a second order while one is running, or an order that is too long for it.
    if trace.trace.drill in (*CONCURRENT_KINDS, LONG):
        return
    for number, run in enumerate(trace.runs):
        # A restarted client may have nothing to resume.
        if number == 0 or run.resumed or run.outcome is None:
            continue
        yield OBSERVED
        if run.outcome.kind != "success" and not _steps(trace, number):
            before = f"{number} earlier run{'s' if number > 1 else ''}"
            yield Breach(f"after {before}, the client made no request, and its run ended as {run.outcome.kind!r}")
            return


@rule(
    "END-03",
    "no-accident",
    level=SHOULD,
    severity="S3",
    channel=OUTCOME,
    says="Trouble of the provider ends a run with an error about it, not with an accident of the program, such as a "
    "variable without a value or a missing attribute.",
    because="The accident hides the reason, and the job's id: 567-labs/instructor#693, dlarrick/pykumo#18, "
    "voyage-ai/voyageai-python#33.",
    fix="Give every variable that is read after a try block a value before it, and test what a response has before "
    "it is used.",
    example="ask",
)
def no_accident(trace: AnnotatedTrace) -> Evidence:
    for number, run in enumerate(trace.runs):
        outcome = run.outcome
        if outcome is None or outcome.kind not in GAVE_UP or not ERROR.match(outcome.message):
            continue
        yield OBSERVED
        if is_accident(outcome):
            yield Breach(f"{_name(trace, number)} ended with an accident: {' '.join(outcome.message.split())[:200]}")
