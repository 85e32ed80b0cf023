"""Pairs of traces: one order of requests, outcomes at one provider each, and both read through their contracts."""

from __future__ import annotations

from dataclasses import replace

from hobbyhorse.traces.exchange import Exchange
from hobbyhorse.traces.pair import annotated, attributed, each_half, paired
from hobbyhorse.traces.trace import Outcome, Run, Trace, TracedJob, read_trace, to_json
from tests.conftest import CONTRACTS

FIRST, SECOND = CONTRACTS[:2]


def exchange(number: int, arrived: float = 0.0) -> Exchange:
    return Exchange(arrived=arrived, role=None, method="GET", url=f"http://x/{number}", number=number)


def trace(*numbers: int, provider: str = FIRST.key) -> Trace:
    return Trace(provider, "http://x", tuple(exchange(number, float(number)) for number in numbers))


def places(found: Trace) -> list[tuple[str, int]]:
    return [(one.url[-1], one.number) for one in found.exchanges]


def with_runs(found: Trace, *runs: Run, jobs: tuple[TracedJob, ...] = ()) -> Trace:
    return replace(found, runs=runs, jobs=jobs)


def ends(found: Trace) -> list[tuple[bool, bool]]:
    """Return for each run whether each of the two traces has its outcome."""
    assert found.partner is not None
    pairs = zip(found.runs, found.partner.runs, strict=True)
    return [(one.outcome is not None, other.outcome is not None) for one, other in pairs]


def test_the_exchanges_of_both_are_numbered_in_one_order() -> None:
    found = paired(trace(3, 8), trace(5, 9))
    assert places(found) == [("3", 1), ("8", 3)]
    assert found.partner is not None
    assert places(found.partner) == [("5", 2), ("9", 4)]
    assert (found.rank, found.partner.rank) == (0, 1)


def test_a_request_without_a_provider_belongs_to_the_last_provider() -> None:
    # 4, 6 and 7 stand in both traces, because they were sent to neither provider.
    found = paired(trace(3, 4, 6, 7), trace(4, 5, 6, 7))
    assert found.partner is not None
    assert places(found) == [("3", 1), ("4", 2)]
    assert places(found.partner) == [("5", 3), ("6", 4), ("7", 5)]
    first = paired(trace(1, 2), trace(1))
    assert (places(first), first.partner and first.partner.exchanges) == ([("1", 1), ("2", 2)], ())


def test_a_change_applies_to_both_traces_and_to_a_single_one() -> None:
    changed = each_half(paired(trace(1), trace(2)), lambda one: replace(one, virtual=True))
    assert changed.virtual
    assert changed.partner is not None
    assert changed.partner.virtual
    single = each_half(trace(1), lambda one: replace(one, virtual=True))
    assert (single.virtual, single.partner) == (True, None)


def test_an_outcome_belongs_to_the_provider_of_the_last_request() -> None:
    failed = Run(0.0, "http://x", outcome=Outcome("failed", 9.0))
    for first, second, expected in (
        ((1,), (2,), (False, True)),
        ((2,), (1,), (True, False)),
        ((1,), (), (True, False)),
    ):
        made = paired(with_runs(trace(*first), failed), with_runs(trace(*second), failed))
        assert ends(attributed(made)) == [expected]


def test_an_outcome_belongs_to_the_provider_whose_video_was_returned() -> None:
    success = Run(0.0, "http://x", outcome=Outcome("success", 9.0, sha256="a"))
    own, other = TracedJob("1", 0.0, "success", True, "a"), TracedJob("2", 0.0, "success", True, "b")
    late = trace(2)
    found = attributed(paired(with_runs(trace(1), success, jobs=(own,)), with_runs(late, success, jobs=(other,))))
    assert ends(found) == [(True, False)]
    # A job without a video has no digest, and neither has an outcome without one.
    failed = Run(0.0, "http://x", outcome=Outcome("failed", 9.0))
    without = TracedJob("3", 0.0, "failure", False)
    assert ends(attributed(paired(with_runs(trace(1), failed, jobs=(without,)), with_runs(late, failed)))) == [
        (False, True)
    ]
    # Equal videos of both say nothing.
    equal = attributed(paired(with_runs(trace(1), success, jobs=(own,)), with_runs(late, success, jobs=(own,))))
    assert ends(equal) == [(False, True)]


def test_each_run_has_the_requests_until_the_next_one() -> None:
    runs = tuple(Run(start, "http://x", outcome=Outcome("failed", start + 1)) for start in (0.0, 5.0))
    made = paired(with_runs(trace(1, 7), *runs), with_runs(trace(2), *runs))
    assert ends(attributed(made)) == [(False, True), (True, False)]


def test_a_single_trace_keeps_its_outcomes() -> None:
    single = with_runs(trace(1), Run(0.0, "http://x", outcome=Outcome("failed", 1.0)))
    assert attributed(single) == single


def test_both_are_read_through_their_contracts_and_linked() -> None:
    made = paired(trace(1), trace(2, provider=SECOND.key))
    one, other = annotated([FIRST, SECOND], made)
    assert (one.contract, other.contract) == (FIRST, SECOND)
    assert one.partner is other
    assert other.partner is one
    assert (one.trace.rank, other.trace.rank) == (0, 1)
    assert other.trace.partner is not None
    assert other.trace.partner.provider == FIRST.key
    (single,) = annotated([FIRST], trace(1))
    assert single.partner is None


def test_a_pair_is_read_back_from_its_json() -> None:
    made = each_half(paired(trace(1), trace(2, provider=SECOND.key)), lambda one: replace(one, ended=3.0))
    found = read_trace(to_json(made))
    assert found.partner is not None
    assert (found.provider, found.partner.provider, found.partner.rank) == (FIRST.key, SECOND.key, 1)
    assert to_json(found) == to_json(made)
