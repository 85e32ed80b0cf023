"""Cases with other orders: which are planned, which are drawn, and how they shrink."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import data, sampled_from

from hobbyhorse.conformance.client.cases import Case
from hobbyhorse.conformance.client.order_cases import (
    RETRIED_ORDERS,
    cheap_orders,
    drawn_orders,
    order_cases,
    simpler_orders,
    telling_orders,
)
from hobbyhorse.conformance.client.planning import simplified
from hobbyhorse.conformance.drawn_orders import TELLING_PROMPTS, is_valid
from hobbyhorse.contract.example_orders import PROMPT_WORDS, order_for
from hobbyhorse.contract.forms.expressions import MISSING, replaced, resolve
from hobbyhorse.contract.values import Contract, Model
from tests.conftest import CONTRACTS, contracts_that

MODELS = [(contract, model) for contract in CONTRACTS for model in contract.models]
FEW = settings(
    max_examples=40, database=None, deadline=None, phases=(Phase.generate,), suppress_health_check=list(HealthCheck)
)


def place(contract: Contract, model: Model, name: str) -> tuple[str, ...]:
    """Return the place of a parameter in a submission's body; empty if the model has no such parameter."""
    places = model.parameters.get(name, ())
    return (*contract.operations["submit"].model_parameters.pointer, *places[0]) if places else ()


def valid(contract: Contract, model: Model, body: Any) -> bool:
    return is_valid(contract, contract.operations["submit"], model, body)


def test_every_planned_order_is_valid_and_differs_from_the_plain_one() -> None:
    for contract, model in MODELS:
        found = list(telling_orders(contract, model))
        assert all(valid(contract, model, body) for body in found), model.id
        assert order_for(contract, model) not in found
        assert len({json.dumps(body) for body in found}) == len(found) > RETRIED_ORDERS


def test_the_planned_orders_have_every_telling_prompt_and_every_bound() -> None:
    for contract, model in MODELS:
        found = list(telling_orders(contract, model))
        texts = [resolve(body, place(contract, model, "prompt")) for body in found]
        assert all(any(prompt in text for text in texts) for prompt in TELLING_PROMPTS[1:]), model.id
        bounds: dict[str, set[Any]] = {"seed": {0, 2147483647}, "watermark": {False, True}, "duration": {3, 15}}
        for name, values in bounds.items():
            at = place(contract, model, name)
            assert not at or values <= {resolve(body, at) for body in found if resolve(body, at) is not MISSING}


def test_one_planned_order_has_only_the_members_that_are_needed() -> None:
    for contract, model in MODELS:
        least = [one for one in telling_orders(contract, model) if not resolve(one, place(contract, model, "duration"))]
        assert len(least) == 1
        assert resolve(least[0], place(contract, model, "prompt")) is not MISSING
        assert resolve(least[0], place(contract, model, "resolution")) is MISSING


def test_the_longest_prompts_that_the_provider_reads_whole_are_among_the_planned_orders() -> None:
    for contract, model in MODELS:
        texts = [resolve(one, place(contract, model, "prompt")) for one in telling_orders(contract, model)]
        limit = model.prompt_limit
        characters, weight = (limit.characters, limit.chinese_weight) if limit else (2_000, 1)
        assert characters - 1 <= max(len(text) for text in texts if text.isascii()) <= characters, model.id
        chinese = max((text for text in texts if not text.isascii()), key=len)
        assert len(chinese) == characters // weight, model.id
        assert len(chinese.encode()) > characters, model.id


@contracts_that(lambda contract: "metadata" in contract.operations["submit"].bindings)
def test_notes_of_the_caller_are_nested_and_repeated(contract: Contract) -> None:
    (noted,) = [body for body in telling_orders(contract, contract.models[0]) if "metadata" in body]
    assert noted["metadata"]["nested"]["off"] is False
    assert noted["metadata"]["tags"][0] == noted["metadata"]["tags"][1]


def test_each_order_runs_with_a_happy_server_and_some_with_a_failed_first_attempt(contract: Contract) -> None:
    model = contract.models[0]
    cases, found = order_cases(contract, model), list(telling_orders(contract, model))
    assert [case.order for case in cases if not case.scenario] == found
    failing = [case for case in cases if case.scenario]
    assert [case.order for case in failing[:RETRIED_ORDERS]] == found[:RETRIED_ORDERS]
    replays = contract.idempotency.mode == "replay"
    assert len(failing) == RETRIED_ORDERS * (2 if replays else 1)
    assert all(case.moves == 1 for case in failing)


def test_a_model_without_an_example_has_no_planned_and_no_drawn_orders(contract: Contract) -> None:
    unknown = replace(contract.models[0], id="unknown")
    assert order_cases(contract, unknown) == []
    assert drawn_orders(contract, unknown, 100, 0) == []


@FEW
@given(data())
def test_drawn_orders_are_valid_cheap_and_have_a_prompt_but_no_callback(found: Any) -> None:
    contract, model = found.draw(sampled_from(MODELS))
    body = found.draw(cheap_orders(contract, model))
    assert valid(contract, model, body)
    assert resolve(body, place(contract, model, "prompt")).strip()
    assert resolve(body, place(contract, model, "duration")) in (3, 4, MISSING)
    assert "callback" not in body
    assert "callback_url" not in body


def test_equal_seeds_draw_equal_orders_and_a_longer_search_draws_more(contract: Contract) -> None:
    model = contract.models[0]
    few = drawn_orders(contract, model, 80, 3)
    assert few == drawn_orders(contract, model, 80, 3) != drawn_orders(contract, model, 80, 4)
    assert 0 < len(few) <= 11 < len(drawn_orders(contract, model, 200, 3))


def test_the_shortest_search_draws_an_order_as_well(contract: Contract) -> None:
    assert len(drawn_orders(contract, contract.models[0], 1, 0)) == 1


def test_the_plain_order_is_the_simplest_and_every_neighbour_is_valid(contract: Contract) -> None:
    model = contract.models[0]
    for order in telling_orders(contract, model):
        first, *others = simpler_orders(contract, order)
        assert first is None
        assert others
        assert all(body is not None and valid(contract, model, body) for body in others)


def test_an_order_shrinks_to_the_member_that_matters(contract: Contract) -> None:
    """Any sequence of successes ends, because each neighbour is smaller."""
    model = contract.models[0]
    at = place(contract, model, "prompt")
    case = Case(order=replaced(order_for(contract, model), at, "\n".join(TELLING_PROMPTS)))

    def breaks(one: Case) -> bool:
        return one.order is not None and "駿" in resolve(one.order, at)

    while found := next((one for one in simplified(case, contract) if breaks(one)), None):
        assert found.size < case.size
        case = found
    assert case.order is not None
    assert resolve(case.order, at) == "駿"
    assert resolve(case.order, place(contract, model, "duration")) is MISSING


def test_an_order_of_no_model_becomes_the_plain_one(contract: Contract) -> None:
    assert list(simpler_orders(contract, {"n": 1})) == [None]


def test_a_plain_prompt_is_tried_in_place_of_a_telling_one(contract: Contract) -> None:
    model = contract.models[0]
    at = place(contract, model, "prompt")
    order = replaced(order_for(contract, model), at, TELLING_PROMPTS[3] * 9)
    assert PROMPT_WORDS in [resolve(body, at) for body in simpler_orders(contract, order) if body is not None]
