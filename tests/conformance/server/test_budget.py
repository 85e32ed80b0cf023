"""The budget: reservations, refunds, and the bound under concurrency."""

from __future__ import annotations

import threading
from dataclasses import replace
from decimal import Decimal

import pytest

from hobbyhorse.conformance.server.budget import Budget, NotAffordable, cheapest_first, longest, worst
from hobbyhorse.contract.values import Contract

CENTS_42 = Decimal("0.42")


def test_a_reserved_price_counts_as_spent() -> None:
    budget = Budget(Decimal("0.50"))
    with budget.hold(CENTS_42):
        assert budget.left == Decimal("0.08")
    assert budget.spent == CENTS_42


def test_a_certain_refusal_refunds_the_price() -> None:
    budget = Budget(Decimal("0.50"))
    with budget.hold(CENTS_42) as held:
        held.refused = True
    assert budget.spent == 0


def test_a_request_that_breaks_off_stays_paid() -> None:
    budget = Budget(Decimal("0.50"))
    with pytest.raises(ZeroDivisionError), budget.hold(CENTS_42):
        raise ZeroDivisionError
    assert budget.spent == CENTS_42


def test_a_price_above_the_rest_is_refused() -> None:
    budget = Budget(Decimal("0.50"))
    with (
        budget.hold(CENTS_42),
        pytest.raises(NotAffordable, match=r"left in the budget: 0\.08 USD"),
        budget.hold(CENTS_42),
    ):
        pass
    assert budget.spent == CENTS_42


def test_the_exact_rest_can_be_spent() -> None:
    budget = Budget(CENTS_42)
    with budget.hold(CENTS_42):
        pass
    assert budget.left == 0


def test_without_a_budget_only_free_requests_are_allowed() -> None:
    budget = Budget(None)
    with budget.hold(Decimal(0)):
        pass
    with pytest.raises(NotAffordable), budget.hold(Decimal("0.01")):
        pass


def test_concurrent_requests_never_exceed_the_budget() -> None:
    budget, sent = Budget(Decimal("4.20")), []

    def spend() -> None:
        for _ in range(50):
            try:
                with budget.hold(CENTS_42):
                    sent.append(CENTS_42)
            except NotAffordable:
                return

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(sent) == budget.spent == Decimal("4.20")


def test_the_worst_job_is_the_longest_of_the_dearest_tier(contract: Contract) -> None:
    for model in contract.models:
        dearest = max(model.price.values())
        assert worst(contract, model) == dearest * Decimal(str(longest(contract, model)))
        assert worst(contract) >= worst(contract, model)


def test_the_models_are_sorted_by_their_highest_price(contract: Contract) -> None:
    prices = [worst(contract, model) for model in cheapest_first(contract)]
    assert prices == sorted(prices)
    price = {tier: 9 * price for tier, price in contract.models[0].price.items()}
    dear = replace(contract.models[0], id="dear", price=price)
    assert cheapest_first(replace(contract, models=(dear, *contract.models)))[-1].id == "dear"
