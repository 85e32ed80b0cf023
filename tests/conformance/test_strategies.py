"""The strategies give what a right server sends and accepts, for every contract, and shrink to plain values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from hobbyhorse import strategies
from hobbyhorse.conformance.drawn_orders import TELLING_PROMPTS
from hobbyhorse.contract.checks.models import try_order
from hobbyhorse.contract.example_orders import order_for
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.forms.signatures import verify
from hobbyhorse.contract.reading import message_of, read_answer
from hobbyhorse.contract.request import Refusal, ValidRequest
from hobbyhorse.contract.values import Contract, Model
from hobbyhorse.scenarios.scenario import misfits, read_scenario
from tests.conftest import many

CONTRACTS = load_all()
WITH_CALLBACKS = [contract for contract in CONTRACTS if contract.callbacks is not None]
each_contract = pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.key)
each_model = pytest.mark.parametrize(
    ("contract", "model"),
    [(one, model) for one in CONTRACTS for model in one.models],
    ids=lambda one: one.id[:40] if isinstance(one, Model) else one.key,
)
# Few: the strategies are drawn from many times in the whole of the tests, and each contract has its own run here.
FEW = settings(max_examples=many(30, 20), database=None, deadline=None, suppress_health_check=list(HealthCheck))


def drawn(strategy: st.SearchStrategy[Any]) -> list[Any]:
    """Return some values of a strategy."""
    found: list[Any] = []

    @FEW
    @given(strategy)
    def draw(value: Any) -> None:
        found.append(value)

    draw()
    return found


@each_model
def test_an_order_is_accepted_and_varies(contract: Contract, model: Model) -> None:
    operation = contract.operations["submit"]
    found = drawn(strategies.orders(contract, model=model.id))
    for body in found:
        assert isinstance(try_order(contract, operation, model.id, body), ValidRequest)
    assert len({repr(body) for body in found}) > len(found) // 4


@each_model
def test_an_order_keeps_the_pictures_of_the_example(contract: Contract, model: Model) -> None:
    operation = contract.operations["submit"]
    documented = try_order(contract, operation, model.id, order_for(contract, model))
    assert isinstance(documented, ValidRequest)
    for body in drawn(strategies.orders(contract, model=model.id)):
        valid = try_order(contract, operation, model.id, body)
        assert isinstance(valid, ValidRequest)
        assert valid.order.first_frame == documented.order.first_frame
        assert valid.order.references == documented.order.references


@each_model
def test_an_order_may_have_a_prompt_that_breaks_templates_and_false_values(contract: Contract, model: Model) -> None:
    operation, orders = contract.operations["submit"], strategies.orders(contract, model=model.id)

    def order(body: Any) -> Any:
        valid = try_order(contract, operation, model.id, body)
        return valid.order if isinstance(valid, ValidRequest) else None

    assert find(orders, lambda body: '"' in order(body).prompt, settings=FEW_SEARCHED)
    assert find(orders, lambda body: order(body).prompt in TELLING_PROMPTS[3:], settings=FEW_SEARCHED)


# An example is enough; it need not be the simplest.
FEW_SEARCHED = settings(FEW, max_examples=500, phases=[Phase.generate])


@each_model
def test_an_invalid_order_is_refused_for_the_reason_that_it_has(contract: Contract, model: Model) -> None:
    operation = contract.operations["submit"]
    for body, reason in drawn(strategies.invalid_orders(contract, model=model.id)):
        refusal = try_order(contract, operation, model.id, body)
        assert isinstance(refusal, Refusal)
        assert reason
        assert refusal.message in (None, reason)


@each_contract
def test_a_response_means_its_situation_and_satisfies_its_schema(contract: Contract) -> None:
    for operation in contract.operations.values():
        for situation in operation.situations.values():
            for response in drawn(strategies.responses(contract, operation.role, situation=situation.name))[:10]:
                assert response.status == situation.status
                body = response.json()
                assert contract.schemas.validator(situation.schema).is_valid(body)
                reading = read_answer(contract.schemas, operation, response.status, message_of(response.headers, body))
                assert situation.name in reading.situations


@each_contract
def test_responses_vary_in_form(contract: Contract) -> None:
    found = drawn(strategies.responses(contract, "submit", situation="accepted"))
    assert len({response.body for response in found}) > len(found) // 2


@pytest.mark.parametrize("contract", WITH_CALLBACKS, ids=lambda contract: contract.key)
def test_a_callback_has_a_signature_over_its_bytes(contract: Contract) -> None:
    assert contract.callbacks is not None
    signature = contract.callbacks.signature
    assert signature is not None
    for callback in drawn(strategies.callbacks(contract, secret="whsec_dGVzdA==")):
        headers = {name.lower(): value for name, value in callback.headers.items()}
        for body, expected in ((callback.body, True), (callback.body + b" ", False)):
            assert verify(signature, "whsec_dGVzdA==", body, headers, now=callback.signed) is expected


@each_contract
def test_a_scenario_fits_its_contract_and_the_simplest_has_no_fault(contract: Contract) -> None:
    found = strategies.scenarios(contract)
    for scenario in drawn(found):
        assert not misfits(read_scenario(scenario), contract)
    assert find(found, lambda scenario: True, settings=FEW) == {}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: strategies.orders("nobody"), "provider 'nobody' is unknown; known: "),
        (lambda: strategies.orders("vtrix", model="x"), "model 'x' is unknown; known: happyhorse_1.0_i2v"),
        (lambda: strategies.scenarios("vtrix", model="x"), "model 'x' is unknown"),
        (lambda: strategies.responses("vtrix", "x"), "role 'x' is unknown; known: submit"),
        (lambda: strategies.responses("vtrix", "submit", situation="x"), "situation 'x' is unknown; known: "),
        (lambda: strategies.callbacks("vtrix"), "has no callbacks"),
    ],
)
def test_a_wrong_name_is_refused_with_the_known_ones(make: Any, message: str) -> None:
    with pytest.raises(LookupError, match=message):
        make()
