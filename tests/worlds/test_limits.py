"""Limits, the meter of requests and the queue of jobs: by properties first, then by example."""

from __future__ import annotations

import json
from copy import copy
from decimal import Decimal
from itertools import pairwise
from math import ceil, inf, nan, nextafter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.worlds.limits import Limits, Meter, Queue, read_limits

START = 1_767_225_600.0

RATES = st.one_of(st.floats(1e-3, 1e6), st.integers(1, 1000), st.floats(5e-324, 1e308))
LOW_RATES = st.one_of(st.floats(1e-3, 20), st.integers(1, 20), st.floats(1e-300, 1e-3))
MOMENTS = st.lists(st.floats(0, 10), min_size=1, max_size=60).map(sorted)
ORIGINS = st.sampled_from([0.0, START])

VALID = st.builds(
    Limits,
    requests_per_second=st.none() | RATES,
    concurrent_jobs=st.none() | st.integers(0),
    workers=st.none() | st.integers(1),
    rivals=st.integers(0),
    balance=st.none() | st.decimals(0, 10**9, allow_nan=False, places=4),
)


# ---- limits


@given(VALID)
def test_limits_survive_their_json(limits: Limits) -> None:
    assert read_limits(json.loads(json.dumps(limits.to_json()))) == limits


def test_nothing_is_limited_by_default() -> None:
    assert read_limits({}) == Limits() == Limits(None, None, None, 0, None)
    assert Limits().to_json() == {
        "requests_per_second": None,
        "concurrent_jobs": None,
        "workers": None,
        "rivals": 0,
        "balance": None,
    }


def test_a_balance_is_the_decimal_that_the_number_shows() -> None:
    assert read_limits({"balance": 0.1}).balance == Decimal("0.1")
    assert read_limits({"balance": 12}).balance == Decimal(12)
    assert read_limits({"balance": Decimal("1.5")}).balance == Decimal("1.5")


WRONG: dict[tuple[str, str], list[Any]] = {
    ("requests_per_second", "a number greater than 0, or null"): [
        0,
        0.0,
        -1,
        nan,
        inf,
        -inf,
        True,
        "5",
        [],
        Decimal(1),
    ],
    ("concurrent_jobs", "a whole number from 0, or null"): [-1, 1.0, nan, False, "1", {}],
    ("workers", "a whole number from 1, or null"): [0, -1, 2.5, inf, True, "1"],
    ("rivals", "a whole number from 0"): [None, -1, 0.0, nan, False, "0"],
    ("balance", "a number from 0, or null"): [
        *(-1, -0.01, nan, inf, True, "10"),
        *(Decimal("NaN"), Decimal("sNaN"), Decimal("-1"), Decimal("Infinity")),
    ],
}


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [(name, value, allowed) for (name, allowed), values in WRONG.items() for value in values],
)
def test_an_impossible_limit_is_refused_with_the_allowed_values(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is ") as refusal:
        read_limits({name: value})
    assert str(refusal.value) == f"{name} is {value!r}; allowed: {allowed}"


def test_an_unknown_limit_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"^unknown limit 'burst'; allowed: requests_per_second, "):
        read_limits({"burst": 1})


@pytest.mark.parametrize("found", [None, [], "workers", 3])
def test_limits_are_an_object(found: Any) -> None:
    with pytest.raises(ValueError, match="object with any of requests_per_second"):
        read_limits(found)


def test_limits_are_also_checked_in_their_constructor() -> None:
    with pytest.raises(ValueError, match="workers is 0"):
        Limits(workers=0)


# ---- the meter


@given(LOW_RATES | RATES, MOMENTS, ORIGINS)
def test_no_window_of_a_second_has_more_than_a_burst_and_a_seconds_worth(
    rate: float, moments: list[float], origin: float
) -> None:
    meter, limits = Meter(), Limits(requests_per_second=rate)
    granted = [origin + moment for moment in moments if meter.request(limits, origin + moment) is None]
    for begin in granted:
        inside = sum(begin <= moment <= begin + 1 for moment in granted)
        assert inside <= max(1, ceil(rate)) + rate


@given(LOW_RATES, MOMENTS, ORIGINS)
def test_the_returned_wait_is_exact_and_refusals_cost_nothing(rate: float, moments: list[float], origin: float) -> None:
    meter, pestered, limits = Meter(), Meter(), Limits(requests_per_second=rate)
    refused = 0
    for moment in moments + 21 * moments[-1:]:
        now = origin + moment
        wait = meter.request(limits, now)
        assert pestered.request(limits, now) == wait
        if wait is None:
            continue
        refused += 1
        assert 0 < wait < inf
        for _ in range(3):
            assert pestered.request(limits, now) == wait
        later = copy(pestered)
        assert later.request(limits, nextafter(now + wait, -inf)) is not None
        assert later.request(limits, now + wait) is None
    assert refused


def test_a_wait_is_a_number_of_seconds_however_low_the_rate() -> None:
    meter, limits = Meter(), Limits(requests_per_second=5e-324)
    assert meter.request(limits, START) is None
    wait = meter.request(limits, START)
    assert wait is not None
    assert 1e300 < wait < inf


@given(st.floats(0.01, 50), st.floats(0, 1))
def test_a_client_that_waits_as_long_as_returned_is_served_at_the_full_rate(rate: float, late: float) -> None:
    meter, limits = Meter(), Limits(requests_per_second=rate)
    now, granted = START + late, 0
    begin = now
    while granted < 150:
        wait = meter.request(limits, now)
        if wait is None:
            granted += 1
        else:
            now += wait
    assert now - begin == pytest.approx((150 - max(1, ceil(rate))) / rate, rel=1e-6, abs=1e-4)


def test_a_meter_by_example() -> None:
    meter, limits = Meter(), Limits(requests_per_second=2)
    assert [meter.request(limits, START) for _ in range(3)] == [None, None, 0.5]
    assert meter.request(limits, START + 0.25) == 0.25
    assert meter.request(limits, START + 0.5) is None
    assert meter.request(limits, START + 0.5) == 0.5
    assert [meter.request(limits, START + 100) for _ in range(3)] == [None, None, 0.5]


@pytest.mark.parametrize(("now", "rate"), [(0.27, 0.13), (2.51, 0.05), (0.13, 0.9)])
def test_a_wait_is_exact_although_its_sum_is_rounded(now: float, rate: float) -> None:
    meter, limits = Meter(), Limits(requests_per_second=rate)
    assert meter.request(limits, now) is None
    wait = meter.request(limits, now)
    assert wait is not None
    assert meter.request(limits, now + wait) is None


def test_a_slow_rate_grants_one_and_then_keeps_its_distance() -> None:
    meter, limits = Meter(), Limits(requests_per_second=0.1)
    assert [meter.request(limits, START) for _ in range(2)] == [None, pytest.approx(10)]
    assert meter.request(limits, START + 10) is None


def test_without_a_limit_everything_passes_and_a_new_limit_begins_with_a_full_bucket() -> None:
    meter, slow = Meter(), Limits(requests_per_second=0.5)
    assert [meter.request(slow, START) for _ in range(2)] == [None, 2.0]
    assert {meter.request(Limits(), START) for _ in range(1000)} == {None}
    assert [meter.request(slow, START) for _ in range(2)] == [None, 2.0]


def test_another_rate_holds_from_the_next_request_on() -> None:
    meter = Meter()
    assert [meter.request(Limits(requests_per_second=0.01), START) for _ in range(2)] == [None, pytest.approx(100)]
    assert meter.request(Limits(requests_per_second=4), START) == 0.25


# ---- the queue


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.integers(0, 6), st.integers(0, 12)),
        st.tuples(st.just("leave"), st.integers(0, 40), st.just(0)),
        st.tuples(st.just("pass"), st.integers(1, 8), st.just(0)),
    ),
    max_size=60,
)


class History:
    """The plans of a queue and the work that follows from them: each job's start and end."""

    def __init__(self, workers: int | None) -> None:
        self.limits = Limits(workers=workers)
        self.queue = Queue()
        self.now = 0.0
        self.ready: dict[str, float] = {}
        self.rest: dict[str, float] = {}
        self.start: dict[str, float] = {}
        self.left: dict[str, float] = {}
        self.moved: set[float] = set()

    def join(self, pending: float, rest: float) -> str:
        job = f"job-{len(self.start)}"
        self.ready[job], self.rest[job] = self.now + pending, rest
        self.start[job] = self.queue.join(self.limits, job, self.now, pending, rest)
        return job

    def leave(self, job: str) -> dict[str, float]:
        self.left.setdefault(job, self.now)
        moves = self.queue.leave(self.limits, job, self.now)
        for other, moment in moves.items():
            assert other not in self.left
            assert self.now <= moment < self.start[other], "a replanned job starts earlier, and has not started yet"
        self.start.update(moves)
        self.moved.add(self.now)
        return moves

    def end(self, job: str) -> float:
        return min(self.start[job] + self.rest[job], max(self.start[job], self.left.get(job, inf)))

    @property
    def worked(self) -> list[str]:
        """The jobs that have started, or will, in order of submission."""
        return [job for job, start in self.start.items() if self.left.get(job, inf) >= start]


def run_events(workers: int | None, events: list[tuple[str, int, int]]) -> History:
    history = History(workers)
    for event, one, other in events:
        if event == "join":
            history.join(one, other)
        elif event == "pass":
            history.now += one
        elif history.start:
            history.leave(list(history.start)[one % len(history.start)])
    return history


@given(st.integers(1, 4), EVENTS)
def test_never_more_at_work_than_there_are_workers(workers: int, events: list[tuple[str, int, int]]) -> None:
    history = run_events(workers, events)
    for moment in history.start.values():
        at_work = [job for job in history.worked if history.start[job] <= moment < history.end(job)]
        assert len(at_work) <= workers


@given(st.integers(1, 4), EVENTS)
def test_jobs_start_in_order_and_none_before_it_is_ready(workers: int, events: list[tuple[str, int, int]]) -> None:
    history = run_events(workers, events)
    starts = [history.start[job] for job in history.worked]
    assert starts == sorted(starts)
    assert all(history.start[job] >= history.ready[job] for job in history.worked)


@given(st.integers(1, 4), EVENTS)
def test_a_ready_job_starts_when_its_turn_has_come_and_a_worker_is_free(
    workers: int, events: list[tuple[str, int, int]]
) -> None:
    history = run_events(workers, events)
    turn = 0.0
    for job in history.worked:
        start = history.start[job]
        if start > max(history.ready[job], turn) and start not in history.moved:
            busy = [one for one in history.worked if history.start[one] < start <= history.end(one)]
            assert len(busy) >= workers
        turn = max(turn, start)


@given(EVENTS)
def test_without_a_limit_of_workers_no_job_waits(events: list[tuple[str, int, int]]) -> None:
    history = run_events(None, events)
    assert history.start == history.ready


@given(st.integers(1, 4), EVENTS, st.integers(0, 30))
def test_planning_anew_without_a_reason_changes_nothing(
    workers: int, events: list[tuple[str, int, int]], later: int
) -> None:
    history = run_events(workers, events)
    assert history.queue.replan(history.limits, history.now) == {}
    assert history.queue.replan(history.limits, history.now + later) == {}


@given(st.integers(1, 4), EVENTS, st.integers(0, 5))
def test_a_position_is_bounded_and_without_rivals_only_falls(
    workers: int, events: list[tuple[str, int, int]], rivals: int
) -> None:
    history = run_events(workers, events)
    alone, crowded = history.limits, Limits(workers=workers, rivals=rivals)
    waiting = [job for job in history.worked if history.start[job] > history.now]
    for job in waiting:
        before = len(waiting)
        for step in range(int(2 * (history.start[job] - history.now)) + 3):
            now = history.now + step / 2
            own = history.queue.ahead(alone, job, now)
            assert own == sum(history.start[other] > now for other in waiting[: waiting.index(job)]) * (
                now < history.start[job]
            )
            assert 0 <= own <= before
            before = own
            shown = history.queue.ahead(crowded, job, now)
            assert own <= shown <= own + rivals
            if now >= history.start[job] - 1:
                assert shown == own


def test_a_queue_by_example() -> None:
    history = History(workers=2)
    jobs = [history.join(pending=1, rest=10) for _ in range(5)]
    assert [*history.start.values()] == [1, 1, 11, 11, 21]
    history.now = 4
    assert [history.queue.ahead(history.limits, job, 4) for job in jobs] == [0, 0, 0, 1, 2]
    assert history.leave(jobs[0]) == {jobs[2]: 4, jobs[4]: 14}
    assert history.leave(jobs[3]) == {jobs[4]: 11}
    assert history.leave(jobs[3]) == {}
    assert history.leave("unknown") == {}


def test_a_new_number_of_workers_applies_to_waiting_jobs() -> None:
    history = History(workers=2)
    for _ in range(4):
        history.join(pending=0, rest=10)
    assert [*history.start.values()] == [0, 0, 10, 10]
    assert history.queue.replan(Limits(workers=1), 5) == {"job-3": 20}
    assert history.queue.replan(Limits(workers=3), 5) == {"job-2": 5, "job-3": 10}
    assert history.queue.replan(Limits(), 6) == {"job-3": 6}


def test_a_position_goes_up_at_times_is_the_same_all_second_and_is_the_jobs_own() -> None:
    queue, limits = Queue(), Limits(rivals=5)
    for job in ("a", "b"):
        queue.join(limits, job, START, 60.0, 10.0)
    shown = [queue.ahead(limits, "a", START + second) for second in range(61)]
    assert set(shown) == set(range(6))
    assert any(later > earlier for earlier, later in pairwise(shown))
    assert shown[-2:] == [0, 0]
    assert [queue.ahead(limits, "a", START + second + 0.9) for second in range(58)] == shown[:58]
    assert [queue.ahead(limits, "b", START + second) for second in range(61)] != shown


def test_a_job_joins_once() -> None:
    queue = Queue()
    queue.join(Limits(workers=1), "a", 0.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="'a' is already in the queue"):
        queue.join(Limits(workers=1), "a", 0.0, 1.0, 1.0)
    queue.clear()
    assert queue.join(Limits(workers=1), "a", 0.0, 1.0, 1.0) == 1.0


def test_a_queue_forgets_jobs_that_have_ended() -> None:
    queue, limits = Queue(), Limits(workers=2)
    for number in range(5_000):
        queue.join(limits, f"job-{number}", float(number), 0.0, 1.5)
    assert len(queue._places) <= 64
