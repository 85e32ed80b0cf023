"""The rule about limits of the account, on traces told by hand: it is kept, broken, and not seen."""

from __future__ import annotations

from hobbyhorse.conformance.client.rules import limits as rules
from hobbyhorse.contract.values import Contract
from tests.conformance.client.rules.test_requests import asked
from tests.tracing import Teller


def crowd(contract: Contract) -> Teller:
    """Return a job under way, and another run that has just begun."""
    told = Teller(contract, asked(contract, "one")).submit()
    told.drill = "crowd"
    return told.again(asked(contract, "two"))


def refused(told: Teller, **how: object) -> Teller:
    return told.submit(None, status=429, job=None, **how)


def test_an_order_alone_shows_nothing_about_others(contract: Contract) -> None:
    told = refused(Teller(contract, asked(contract)))
    assert rules.concurrency_limit(told.story()) is None
    assert rules.concurrency_limit(crowd(contract).submit().story()) is None


def test_an_order_waits_for_its_turn(contract: Contract) -> None:
    assert rules.concurrency_limit(refused(crowd(contract)).wait(1).submit().story()) == []
    assert rules.concurrency_limit(refused(crowd(contract)).submit().story()) != []


def test_an_order_that_fails_at_the_first_refusal_is_only_noted(contract: Contract) -> None:
    assert rules.concurrency_limit(refused(crowd(contract)).end("error").story()) == []


def test_an_order_is_not_sent_again_and_again(contract: Contract) -> None:
    told = crowd(contract)
    for _ in range(9):
        refused(told).wait(2)
    assert rules.concurrency_limit(told.submit().story()) == []
    told = crowd(contract)
    for _ in range(10):
        refused(told).wait(2)
    assert rules.concurrency_limit(told.submit().story()) != []


def test_what_the_provider_asks_for_is_not_too_soon(contract: Contract) -> None:
    told = refused(crowd(contract), answer_headers=(("retry-after", "0"),)).submit()
    assert rules.concurrency_limit(told.story()) == []


def test_the_same_order_of_many_runs_is_not_one_order(contract: Contract) -> None:
    told = Teller(contract, asked(contract, "first")).submit()
    for _ in range(5):
        told.again(asked(contract, "same"))
    for _ in range(12):
        refused(told)
    assert rules.concurrency_limit(told.story()) == []


def test_a_job_that_has_ended_keeps_no_place(contract: Contract) -> None:
    told = Teller(contract, asked(contract, "one")).submit()
    role = "result" if "result" in contract.operations else "status"
    names = contract.operations[role].situations.values()
    ended = next(one.name for one in names if any(contract.graph[name].terminal for name in one.stages))
    told.call(role, ended).again(asked(contract, "two"))
    assert rules.concurrency_limit(refused(told).submit().story()) is None
