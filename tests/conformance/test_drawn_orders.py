"""Drawn submissions have the example's pictures and whatever a drawn value could not replace."""

from __future__ import annotations

from hypothesis import HealthCheck, find, settings

from hobbyhorse.conformance.drawn_orders import is_valid, orders
from hobbyhorse.contract.example_orders import order_for
from hobbyhorse.contract.folder import load_all

FEW = settings(max_examples=25, database=None, deadline=None, suppress_health_check=list(HealthCheck))


def test_a_drawn_order_may_lack_the_optional_members_of_the_example() -> None:
    for contract in load_all():
        for model in contract.models:
            least = find(orders(contract, model), lambda body: True, settings=FEW)
            assert len(str(least)) < len(str(order_for(contract, model))), model.id


def test_an_order_of_another_model_is_not_valid() -> None:
    for contract in load_all():
        model, operation = contract.models[0], contract.operations["submit"]
        body = order_for(contract, model)
        assert is_valid(contract, operation, model, body)
        assert not is_valid(contract, operation, model, {})
