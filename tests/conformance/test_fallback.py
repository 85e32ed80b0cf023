"""Test cases of a client with two providers, and the judgement of both."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hobbyhorse.conformance.client.cases import Case, case_of
from hobbyhorse.conformance.client.planning import simpler_scenarios
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.client.scenario_space import deviations, fits
from hobbyhorse.conformance.fallback import MOST_TURNS, check_halves, second_cases, simpler, turns
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.pair import annotated
from tests.conftest import CONTRACTS
from tests.tracing import Teller

FIRST, SECOND = CONTRACTS[:2]
TURN = Case({"timeline": {"move": "fail"}})
RULES = {rule.id: rule for rule in rules()}


def test_a_client_is_led_to_its_second_provider_by_a_failed_job_or_a_certain_refusal(contract: Contract) -> None:
    failing, *refusals = turns(contract)
    assert "timeline" in failing.scenario
    assert refusals
    assert len(refusals) < MOST_TURNS
    situations = contract.operations["submit"].situations
    for case in refusals:
        (move,) = case.scenario["moves"]["submit"]
        assert 400 <= situations[move["move"]].status < 500
        assert situations[move["move"]].status not in (408, 409, 425, 429)


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500])
def test_a_refusal_for_now_leads_to_no_second_provider(contract: Contract, status: int) -> None:
    submit = contract.operations["submit"]
    name, refusal = next((name, one) for name, one in submit.situations.items() if one.status == 400)
    situations = {**submit.situations, name: replace(refusal, status=status)}
    changed = replace(contract, operations={**contract.operations, "submit": replace(submit, situations=situations)})
    moves = [move["move"] for case in turns(changed) for move in case.scenario.get("moves", {}).get("submit", ())]
    assert moves
    assert name not in moves


def test_the_faults_of_the_second_provider_come_in_a_case_in_which_the_client_turns_to_it(contract: Contract) -> None:
    found = second_cases(TURN, contract, ["submit", "status"], ["status"])
    assert found
    assert all(case.scenario == TURN.scenario and fits(dict(case.second), contract) for case in found)
    assert len({case.key for case in found}) == len(found)
    assert {role for case in found for role in case.second.get("moves", {})} == {"submit", "status"}


def test_a_case_is_made_simpler_at_either_provider() -> None:
    second = {"moves": {"status": [{"move": "truncate"}, {"move": "truncate", "times": "always"}]}}
    case = Case(TURN.scenario, second=second)
    found = list(simpler(case, [FIRST, SECOND]))
    assert all(one.size < case.size for one in found)
    assert Case({}, second=second) in found
    assert Case(TURN.scenario, second={"moves": {"status": [{"move": "truncate"}]}}) in found
    one_fault = Case(TURN.scenario, second={"moves": {"status": [{"move": "truncate"}]}})
    assert TURN in list(simpler(one_fault, [FIRST, SECOND]))
    assert list(simpler(Case(), [FIRST, SECOND])) == []


def test_a_simpler_scenario_of_the_second_provider_fits_its_contract() -> None:
    misfits = 0
    for contract, scenario in ((one, scenario) for one in CONTRACTS for scenario in deviations(one)):
        case = Case(TURN.scenario, second=scenario)
        found = [one for one in simpler(case, [contract, contract]) if one.scenario == TURN.scenario]
        assert all(one.size < case.size and (not one.second or fits(dict(one.second), contract)) for one in found)
        misfits += len(list(simpler_scenarios(dict(scenario)))) - len(found)
    assert misfits, "each simpler scenario fits"


def test_a_case_with_a_second_scenario_is_another_case() -> None:
    second = {"moves": {"status": [{"move": "truncate"}]}}
    both, order = Case(TURN.scenario, second=second), Case(TURN.scenario, order=second)
    assert len({both.key, TURN.key, order.key}) == 3
    assert both.moves == TURN.moves + 1
    assert both.size > TURN.size
    assert str(both) == f"{TURN}; at the second provider, status: truncate"
    assert both.to_json()["second"] == second
    assert "second" not in TURN.to_json()


@pytest.mark.parametrize("at", [0, 1])
def test_each_half_of_a_pair_knows_the_whole_case(at: int) -> None:
    first, second = (Teller(contract).submit().trace() for contract in (FIRST, SECOND))
    first = replace(
        first, scenario=TURN.scenario, partner=replace(second, scenario={"timeline": {"move": "stuck"}}, rank=1)
    )
    found = annotated([FIRST, SECOND], first)[at]
    assert case_of(found.trace) == Case(TURN.scenario, second={"timeline": {"move": "stuck"}})


def test_a_finding_names_its_provider_if_there_are_two() -> None:
    rule = RULES["SUB-01"]
    told = [Teller(contract).submit(None, status=500, job=None).submit(key="another") for contract in (FIRST, SECOND)]
    (single,) = check_halves(rule, annotated([FIRST], told[0].trace()))
    assert single.judgement.breaches[0].message.startswith("request 1 ")
    pair = replace(told[0].trace(), partner=replace(told[1].trace(), rank=1))
    halves = check_halves(rule, annotated([FIRST, SECOND], pair))
    for half, contract in zip(halves, (FIRST, SECOND), strict=True):
        assert half.judgement.breaches[0].message.startswith(f"{contract.key}: request 1 ")


def test_a_rule_about_two_providers_names_them_itself() -> None:
    told = Teller(FIRST).submit()
    other = Teller(SECOND).wait(5).submit()
    halves = annotated([FIRST, SECOND], replace(told.trace(), partner=replace(other.trace(), rank=1)))
    first, second = check_halves(RULES["SUB-08"], halves)
    assert not first.judgement.observed
    (breach,) = second.judgement.breaches
    assert breach.message.startswith("one click")
    (single,) = check_halves(RULES["SUB-08"], annotated([FIRST], told.trace()))
    assert not single.judgement.observed
