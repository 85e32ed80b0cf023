"""The two traces of a client that falls back from one provider to a second one. Knows no server.

Each trace has the requests to one provider, so that the usual rules judge them by that provider's contract. Such a rule
must not blame one provider's traffic for events at the other one. So the outcome of a run stands in one of the traces
only: in that of the provider of the returned video, else in that of the last request. In the other trace, the end of
the run is unknown, as in recorded traffic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.exchange import Exchange
from hobbyhorse.traces.trace import Run, Trace


def paired(first: Trace, second: Trace) -> Trace:
    """Return the first trace with the second one as its partner, and their exchanges numbered in one order."""
    everything = {one.number: one for trace in (first, second) for one in trace.exchanges}
    places = {number: place for place, number in enumerate(sorted(everything), 1)}
    both = {one.number for one in first.exchanges} & {one.number for one in second.exchanges}
    at_second = {number for number in both if _last_provider(first, second, number) is second}

    def own(trace: Trace, others: set[int]) -> tuple[Exchange, ...]:
        left = (one for one in trace.exchanges if one.number not in others)
        return tuple(replace(one, number=places[one.number]) for one in left)

    partner = replace(second, exchanges=own(second, both - at_second), rank=1)
    return replace(first, exchanges=own(first, at_second), partner=partner)


def _last_provider(first: Trace, second: Trace, number: int) -> Trace:
    """Return the trace to which a request without a known provider belongs: that of the last one with a provider."""
    shared = {one.number for one in first.exchanges} & {one.number for one in second.exchanges}
    found = [
        (one.number, trace)
        for trace in (first, second)
        for one in trace.exchanges
        if one.number < number and one.number not in shared
    ]
    return max(found, key=lambda one: one[0])[1] if found else first


def each_half(trace: Trace, change: Callable[[Trace], Trace]) -> Trace:
    """Apply a change to a trace, and to its partner if it has one."""
    partner = trace.partner
    changed = change(trace)
    return changed if partner is None else replace(changed, partner=change(partner))


def attributed(trace: Trace) -> Trace:
    """Return a pair of traces with the outcome of each run in one of them."""
    partner = trace.partner
    if partner is None:
        return trace
    runs: tuple[list[Run], list[Run]] = ([], [])
    for at, (one, other) in enumerate(zip(trace.runs, partner.runs, strict=True)):
        later = trace.runs[at + 1].started if at + 1 < len(trace.runs) else float("inf")
        owner = _owner(trace, partner, one, later)
        for half, run in enumerate((one, other)):
            runs[half].append(run if half == owner else replace(run, outcome=None))
    return replace(trace, runs=tuple(runs[0]), partner=replace(partner, runs=tuple(runs[1])))


def _owner(first: Trace, second: Trace, run: Run, later: float) -> int:
    """Return the place of the trace to which the outcome of a run belongs. The next run starts at `later`."""
    outcome = run.outcome
    digest = outcome.sha256 if outcome is not None else None
    # Two providers may make equal videos of an order.
    made = [any(job.sha256 == digest for job in trace.jobs or ()) for trace in (first, second)]
    if digest is not None and made.count(True) == 1:
        return made.index(True)
    last = [
        max((one.number for one in trace.exchanges if run.started <= one.arrived < later), default=0)
        for trace in (first, second)
    ]
    return int(last[1] > last[0])


def annotated(contracts: Sequence[Contract], trace: Trace) -> tuple[AnnotatedTrace, ...]:
    """Return a trace, and its partner if it has one, each read through its contract and linked to the other."""
    partner = trace.partner
    if partner is None:
        return (AnnotatedTrace(contracts[0], trace),)
    found = tuple(
        AnnotatedTrace(contract, replace(half, partner=replace(other, partner=None)))
        for contract, half, other in zip(contracts, (trace, partner), (partner, trace), strict=True)
    )
    found[0].partner, found[1].partner = found[1], found[0]
    return found
