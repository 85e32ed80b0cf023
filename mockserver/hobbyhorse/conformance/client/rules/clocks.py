"""Rules about the clock of the client's machine: it may be set while a job runs. Knows no server."""

from __future__ import annotations

from itertools import pairwise

from hobbyhorse.conformance.client.cases import AHEAD, CLOCK_KINDS
from hobbyhorse.conformance.rule import OBSERVED, OUTCOME, SHOULD, Breach, Evidence, rule
from hobbyhorse.traces.annotated import AnnotatedTrace

# Seconds without a request that the hour by which the clock was set explains, and nothing else: no pause between polls
# is as long.
LONG_SILENCE = 1_200.0


@rule(
    "CLK-01",
    "steady-clock",
    level=SHOULD,
    severity="S2",
    channel=OUTCOME,
    says="Measure waits and deadlines with a monotonic clock: the wall clock may be set while a job runs.",
    because="A deadline by the wall clock ends a wait at once, or an hour late, if the machine's clock is corrected: "
    "AzureAD/microsoft-authentication-library-for-js#3070.",
    fix="Replace time.time() and datetime.now() by time.monotonic() wherever a wait or a deadline is computed.",
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
