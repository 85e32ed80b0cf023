"""What a world notes about its changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hobbyhorse.worlds.idempotency import UsedKey
from hobbyhorse.worlds.jobs import Job
from hobbyhorse.worlds.unkept import Unkept
from tests.conftest import CONTRACTS
from tests.world import order_of

CONTRACT = CONTRACTS[0]


def job(number: int) -> Job:
    return Job(f"job-{number}", CONTRACT, order_of(CONTRACT), ((0.0, CONTRACT.graph.initial),), 0, number=number)


def noted() -> tuple[Unkept, set[str]]:
    changed: set[str] = set()
    return Unkept("a-world", changed), changed


def test_the_world_is_listed_once_something_has_changed() -> None:
    changes: tuple[Callable[[Unkept], object], ...] = (
        lambda one: one.touch(),
        lambda one: one.job(job(0)),
        lambda one: one.key("acme", "k", UsedKey(b"", "job-0", 1.0)),
        lambda one: one.attempt("an attempt"),
        lambda one: one.finish(1),
        lambda one: one.forget([0]),
        lambda one: one.erase("job"),
        lambda one: one.due(1.0, "attempt", "job-0", {}),
    )
    for change in changes:
        unkept, changed = noted()
        assert changed == set()
        change(unkept)
        assert changed == {"a-world"}


def test_only_what_a_response_may_show_is_urgent() -> None:
    unkept, _ = noted()
    unkept.job(job(0), urgent=False)
    unkept.attempt("an attempt")
    unkept.finish(1)
    assert not unkept.urgent
    unkept.job(job(1))
    assert unkept.urgent
    unkept.job(job(2), urgent=False)
    assert unkept.urgent, "it stays urgent"
    unkept.clear()
    assert (unkept.urgent, unkept.jobs, unkept.attempts, unkept.done) == (False, {}, [], [])


def test_work_that_is_done_before_it_was_kept_leaves_no_trace() -> None:
    unkept, _ = noted()
    first, second = unkept.due(1.0, "attempt", "job-0", {}), unkept.due(2.0, "attempt", "job-0", {"attempt": 2})
    unkept.finish(first)
    assert (list(unkept.dues), unkept.done) == ([second], [])
    unkept.clear()
    unkept.finish(second)
    assert (unkept.dues, unkept.done) == ({}, [second])
    assert unkept.due(3.0, "attempt", "job-0", {}) == second + 1, "numbers are not used again"


def test_attempts_are_numbered() -> None:
    unkept, _ = noted()
    unkept.attempt("one")
    unkept.clear()
    unkept.attempt("two")
    assert unkept.attempts == [(1, "two")]


def test_what_is_erased_is_not_kept_any_more() -> None:
    unkept, _ = noted()
    unkept.has_earlier_attempts = True
    unkept.job(job(0))
    unkept.forget([0])
    unkept.key("acme", "k", UsedKey(b"", "job-0", 1.0))
    unkept.due(1.0, "attempt", "job-0", {})
    unkept.finish(7)
    unkept.attempt("one")
    entry: Any = object()
    unkept.entry(entry)
    unkept.erase("job", "key", "due", "attempt", "exchange")
    left = (unkept.jobs, unkept.forgotten, unkept.keys, unkept.dues, unkept.done, unkept.attempts, unkept.entries)
    assert not any(left)
    assert not unkept.has_earlier_attempts
    assert unkept.erased == {"job", "key", "due", "attempt", "exchange"}
    unkept.job(job(1))
    assert list(unkept.jobs) == ["job-1"], "later changes follow the erasure"
