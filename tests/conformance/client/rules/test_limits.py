"""The rules about limits, on traces written by hand: each is kept, broken and not observed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from hobbyhorse.conformance.client.rules import limits as rules
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.trace import Outcome
from tests.conformance.client.rules.test_requests import asked, success
from tests.judging import messages
from tests.tracing import Teller


def crowd(contract: Contract) -> Teller:
    """Return a trace with a job under way and another run that has just started."""
    told = Teller(contract, asked(contract, "one")).submit()
    told.drill = "crowd"
    return told.again(asked(contract, "two"))


def refused(told: Teller, **how: object) -> Teller:
    return told.submit(None, status=429, job=None, **how)


def test_a_single_order_shows_nothing_about_the_limit(contract: Contract) -> None:
    told = refused(Teller(contract, asked(contract)))
    assert messages(rules.concurrency_limit, told.story()) is None
    assert messages(rules.concurrency_limit, crowd(contract).submit().story()) is None


def test_a_submission_may_wait_for_its_turn(contract: Contract) -> None:
    assert messages(rules.concurrency_limit, refused(crowd(contract)).wait(1).submit().story()) == []
    assert messages(rules.concurrency_limit, refused(crowd(contract)).submit().story()) != []


@pytest.mark.parametrize("kind", ["failed", "error", "timeout"])
def test_an_order_that_is_given_up_at_the_first_refusal_is_found(contract: Contract, kind: str) -> None:
    (found,) = messages(rules.concurrency_limit, refused(crowd(contract)).end(kind).story()) or []
    assert "request 2" in found
    assert "without a retry" in found
    for wait, expected in (("30", 1), ("600", 0), ("Thu, 01 Jan 2026 00:00:30 GMT", 1)):
        told = refused(crowd(contract), answer_headers=(("retry-after", wait),)).end(kind)
        assert len(messages(rules.concurrency_limit, told.story()) or []) == expected, wait


def test_a_refusal_may_be_reported_after_a_retry(contract: Contract) -> None:
    told = refused(refused(crowd(contract)).wait(2)).end("failed")
    assert messages(rules.concurrency_limit, told.story()) == []


def test_an_order_without_an_end_or_a_known_run_is_not_given_up(contract: Contract) -> None:
    assert messages(rules.concurrency_limit, refused(crowd(contract)).story()) is None
    assert messages(rules.concurrency_limit, refused(crowd(contract)).end("unfinished").story()) is None
    told = refused(crowd(contract), body=b'{"unknown": 1}', key=None).end("failed")
    assert messages(rules.concurrency_limit, told.story()) is None


def test_a_submission_of_no_known_run_may_be_the_retry(contract: Contract) -> None:
    told = refused(crowd(contract)).wait(2).submit(None, status=400, job=None, body=b"", key=None).end("failed")
    assert messages(rules.concurrency_limit, told.story()) is None


def test_a_retry_with_another_body_belongs_to_its_order(contract: Contract) -> None:
    told = crowd(contract)
    for number in range(2):
        refused(told, body=orjson.dumps(asked(contract, "two") | {"attempt": number})).wait(2)
    assert messages(rules.concurrency_limit, told.end("failed").story()) == []


def test_fast_or_endless_retries_over_the_limit_are_found(contract: Contract) -> None:
    told = crowd(contract)
    for _ in range(9):
        refused(told).wait(2)
    assert messages(rules.concurrency_limit, told.submit().story()) == []
    told = crowd(contract)
    for _ in range(10):
        refused(told).wait(2)
    assert messages(rules.concurrency_limit, told.submit().story()) != []


def test_a_pause_that_the_provider_requested_is_not_too_short(contract: Contract) -> None:
    told = refused(crowd(contract), answer_headers=(("retry-after", "0"),)).submit()
    assert messages(rules.concurrency_limit, told.story()) == []


def test_equal_bodies_of_several_runs_are_several_orders(contract: Contract) -> None:
    told = Teller(contract, asked(contract, "first")).submit()
    for _ in range(5):
        told.again(asked(contract, "same"))
    for _ in range(12):
        refused(told)
    assert messages(rules.concurrency_limit, told.story()) == []


def test_an_ended_job_does_not_occupy_the_limit(contract: Contract) -> None:
    told = Teller(contract, asked(contract, "one")).submit()
    role = "result" if "result" in contract.operations else "status"
    names = contract.operations[role].situations.values()
    ended = next(one.name for one in names if any(contract.graph[name].terminal for name in one.stages))
    told.call(role, ended).again(asked(contract, "two"))
    assert messages(rules.concurrency_limit, refused(told).submit().story()) is None


def connected(contract: Contract, *connections: int, silence: float = 0.0, how: str = "timeout") -> Teller:
    """Return a trace of polls that fail, each with a number of open connections, and then of silence."""
    told = Teller(contract).submit(connections=1)
    for number in connections:
        told.wait(5).status(None, status=503, connections=number)
    return told.wait(silence).end(how)


def test_a_client_that_gives_its_connections_back_keeps_the_rule(contract: Contract) -> None:
    assert messages(rules.connections_given_back, connected(contract, *[1, 2] * 20, silence=2_000).story()) == []
    assert messages(rules.connections_given_back, connected(contract, *range(1, 13)).story()) == []


def test_connections_that_pile_up_are_found(contract: Contract) -> None:
    (found,) = messages(rules.connections_given_back, connected(contract, *range(1, 15)).story()) or []
    assert found == "request 15 was sent while 13 connections of the client were open and unused"


def test_a_pool_without_a_connection_left_is_found(contract: Contract) -> None:
    (found,) = messages(rules.connections_given_back, connected(contract, 1, 2, 3, silence=1_500).story()) or []
    assert "after request 4 the client sent nothing for 1500 s" in found


@pytest.mark.parametrize(
    ("connections", "silence", "how"),
    [((1, 2, 2), 1_500, "timeout"), ((1, 2, 3), 200, "timeout"), ((1, 2, 3), 1_500, "success")],
)
def test_another_silence_does_not_show_an_empty_pool(
    contract: Contract, connections: tuple[int, ...], silence: float, how: str
) -> None:
    assert (
        messages(rules.connections_given_back, connected(contract, *connections, silence=silence, how=how).story())
        == []
    )


def test_a_silence_that_the_provider_asked_for_does_not_show_an_empty_pool(contract: Contract) -> None:
    told = connected(contract, 1, 2)
    told.wait(5).status(None, status=503, connections=3, answer_headers=(("retry-after", "1400"),))
    assert messages(rules.connections_given_back, told.wait(1_500).end("timeout").story()) == []


def test_few_requests_several_runs_and_recordings_show_nothing_about_connections(contract: Contract) -> None:
    assert messages(rules.connections_given_back, connected(contract, 1, 2).story()) is None
    told = connected(contract, *range(1, 15))
    told.drill = "together"
    assert messages(rules.connections_given_back, told.story()) is None
    assert messages(rules.connections_given_back, connected(contract, 0, 0, 0, 0).story()) is None


# CON-03


def at_once(contract: Contract, *fetches: int, first: str = "success", **how: Any) -> Teller:
    """Return a trace of orders at the same time, each with its number of downloads; `first` ends the first one."""
    told = Teller(contract, asked(contract, "order 0"))
    told.drill = "together"
    for number in range(len(fetches)):
        if number:
            told.again(asked(contract, f"order {number}"))
        told.submit(job=f"job-{number}", key=f"key-{number}")
    role, situation = success(contract)
    for number, count in enumerate(fetches):
        told.wait(5).call(role, situation, job=f"job-{number}")
        for _ in range(count):
            told.media(job=f"job-{number}", **how)
    for number, run in enumerate(told.runs):
        outcome = Outcome("success" if number else first, told.now, told=True)
        told.runs[number] = replace(run, outcome=outcome)
    return told


def test_orders_at_once_each_get_their_video(contract: Contract) -> None:
    assert messages(rules.orders_at_once, at_once(contract, 1, 1, 1).story()) == []
    assert messages(rules.orders_at_once, at_once(contract, 2, 2).story()) == []
    assert messages(rules.orders_at_once, at_once(contract, 1, 1, move="slow_body").story()) == []


@pytest.mark.parametrize("kind", ["failed", "error", "timeout"])
def test_an_order_that_fails_beside_others_is_found(contract: Contract, kind: str) -> None:
    (found,) = messages(rules.orders_at_once, at_once(contract, 1, 1, first=kind).story()) or []
    assert found.startswith("job job-0 had succeeded")
    assert f"its run ended as {kind!r}" in found


def test_a_file_that_is_fetched_again_beside_others_is_found(contract: Contract) -> None:
    (found,) = messages(rules.orders_at_once, at_once(contract, 1, 3).story()) or []
    assert found.startswith("the whole file of job job-1 was fetched 3 times")
    assert messages(rules.orders_at_once, at_once(contract, 1, 3, status=206).story()) == []


def test_a_fault_or_a_single_order_shows_nothing_about_orders_at_once(contract: Contract) -> None:
    assert messages(rules.orders_at_once, at_once(contract, 1, 3, move="html_page").story()) is None
    alone = at_once(contract, 1, 3, first="failed")
    alone.drill = "twice"
    assert messages(rules.orders_at_once, alone.story()) is None
    assert messages(rules.orders_at_once, at_once(contract, 1, 1, first="unfinished").story()) == []
