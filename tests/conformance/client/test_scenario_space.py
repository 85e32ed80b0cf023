"""The space of scenarios: its faults, its honesty, and its simplest scenario."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

from hobbyhorse.conformance.client.scenario_space import (
    REFUSES_SAFELY,
    TIMES,
    deviations,
    fits,
    honest,
    roles,
    scenarios,
    values_of,
    variation_moves,
    varied_scenarios,
)
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.fault import CALLBACK, MEDIA, Option
from hobbyhorse.scenarios.faults.wire import HEADER_NAMES
from hobbyhorse.scenarios.fields import Field
from hobbyhorse.scenarios.registry import all_faults, faults_of
from tests.conftest import CONTRACTS, many
from tests.known_faults import CALLBACK_FAULTS, MEDIA_FAULTS, OPERATION_FAULTS, unjudged

SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
STRATEGIES = {contract.key: scenarios(contract) for contract in CONTRACTS}


def moves_of(said: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for role, moves in said.get("moves", {}).items():
        for move in moves:
            yield role, move


def lies(said: dict[str, Any], contract: Contract) -> bool:
    """Whether a fault makes an operation take effect although its status promises that nothing has happened."""
    for role, move in moves_of(said):
        operation = contract.operations.get(role)
        situation = operation.situations.get(move["move"]) if operation else None
        status = situation.status if situation else move.get("status", 200)
        if move.get("accepted") and status in REFUSES_SAFELY:
            return True
    return False


def test_every_fitting_fault_is_a_single_fault_with_and_without_effect(contract: Contract) -> None:
    met = [(role, move) for said in deviations(contract) for role, move in moves_of(said)]
    for role in roles(contract):
        for name, fault in faults_of(role).items():
            if (
                not isinstance(fault.needs, Field)
                and not fault.form
                and fits({"moves": {role: [{"move": name}]}}, contract)
            ):
                assert (role, {"move": name}) in met
                assert ((role, {"move": name, "accepted": True}) in met) == fault.has("accepted")


def test_every_kind_of_fault_occurs_on_some_provider() -> None:
    met = [(role, move["move"]) for one in CONTRACTS for said in deviations(one) for role, move in moves_of(said)]
    assert {name for role, name in met if role == MEDIA} == unjudged(MEDIA_FAULTS)
    assert {name for role, name in met if role == CALLBACK} == unjudged(CALLBACK_FAULTS)
    assert {name for role, name in met if role not in (MEDIA, CALLBACK)} >= unjudged(OPERATION_FAULTS)


def test_every_judged_variation_occurs_on_some_provider_and_is_no_single_fault() -> None:
    met = {(role, move["move"]) for one in CONTRACTS for role, move in variation_moves(one)}
    for place, faults in ((MEDIA, MEDIA_FAULTS), (CALLBACK, CALLBACK_FAULTS)):
        assert {name for role, name in met if role == place} >= faults.keys() - unjudged(faults)
    operations = {name for role, name in met if role not in (MEDIA, CALLBACK)}
    assert operations >= OPERATION_FAULTS.keys() - unjudged(OPERATION_FAULTS)


def test_a_varied_scenario_has_at_most_one_variation_in_each_layer(contract: Contract) -> None:
    @given(varied_scenarios(contract))
    def check(said: dict[str, Any]) -> None:
        assert fits(said, contract)
        for role, moves in said["moves"].items():
            layers = [faults_of(role)[move["move"]].layer for move in moves]
            assert len(set(layers)) == len(layers)
            assert all(move["times"] == "always" for move in moves)

    check()


def test_a_form_that_a_client_does_not_survive_is_not_drawn_again(contract: Contract) -> None:
    forms = {fault.form for fault in all_faults() if fault.form}

    @given(varied_scenarios(contract, forms - {HEADER_NAMES}))
    def check(said: dict[str, Any]) -> None:
        assert {faults_of(role)[move["move"]].form for role, move in moves_of(said)} <= {HEADER_NAMES}

    check()


def test_the_simplest_scenario_has_no_fault(contract: Contract) -> None:
    assert find(STRATEGIES[contract.key], lambda said: True) == {}


@pytest.mark.parametrize("name", ["seconds", "keep", "retry_after", "accepted", "status", "times"])
def test_a_generated_fault_can_have_any_of_its_options(name: str) -> None:
    def has(said: dict[str, Any]) -> bool:
        return any(name in move for _, move in moves_of(said))

    assert has(find(STRATEGIES[CONTRACTS[0].key], has))


def test_the_values_of_an_option_are_those_of_its_record() -> None:
    flag = values_of(Option("a", "A flag.", {"type": "boolean"}))
    count = values_of(Option("b", "A count.", {"type": "integer"}, tried=range(2, 4)))
    word = values_of(Option("c", "A word.", {"type": "string"}, tried=("x", "y")))
    for strategy, values in ((flag, [False, True]), (count, [2, 3]), (word, ["x", "y"])):
        assert strategy is not None
        assert [find(strategy, value.__eq__) for value in values] == values
    assert values_of(Option("d", "A stage.", {"type": "string"})) is None


def test_a_fault_can_apply_always() -> None:
    assert find(TIMES, lambda times: times == "always") == "always"


@settings(max_examples=many(30, 10), suppress_health_check=SLOW)
@given(data=st.data())
def test_no_scenario_lies_about_a_safe_refusal(contract: Contract, data: st.DataObject) -> None:
    assert not lies(data.draw(STRATEGIES[contract.key]), contract)


def test_no_single_fault_lies_about_a_safe_refusal(contract: Contract) -> None:
    assert not [said for said in deviations(contract) if lies(said, contract)]


def test_only_a_lie_loses_its_effect(contract: Contract) -> None:
    for role, operation in contract.operations.items():
        said = [
            {"move": name, "accepted": True, "retry_after": 1}
            for name in operation.situations
            if name not in OPERATION_FAULTS
        ]
        said += [{"move": "html_page", "accepted": True, "status": status} for status in (200, 429, 500, 503, 504)]
        said += [{"move": "timeout", "accepted": True}, {"move": "latency"}, {"move": "empty_body", "status": 503}]
        for move in said:
            lie = lies({"moves": {role: [move]}}, contract)
            kept = {name: value for name, value in move.items() if name != "accepted"} if lie else move
            assert honest(move, operation) == kept
    assert honest({"move": "html_page", "status": 503, "accepted": True}, None) == {"move": "html_page", "status": 503}
