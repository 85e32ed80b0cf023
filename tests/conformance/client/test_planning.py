"""The cases for a contract and a client: which there are, in which order, and how they are simplified."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from hobbyhorse.conformance.client.cases import CROWD, HAPPY, KILLED, ONCE, RECOVERY, Case
from hobbyhorse.conformance.client.planning import (
    GOOD_BETWEEN,
    HALF_SENT,
    LURES,
    MOST_POINTS,
    REASON,
    VITAL,
    believable,
    failures_apart,
    killings,
    last_polls,
    pairs,
    recoveries,
    repeated_roles,
    simplified,
    singles,
    used_roles,
    varied,
)
from hobbyhorse.conformance.client.scenario_space import fits
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.fault import CALLBACK
from tests.conftest import CONTRACTS
from tests.tracing import Teller

ROLES = ("submit", "status", "media")
CONTRACT = CONTRACTS[0]


def moves_of(case: Case, role: str) -> list[str]:
    return [move["move"] for move in case.scenario.get("moves", {}).get(role, [])]


def running(contract: Contract) -> str:
    return next(stage.name for stage in contract.graph if not stage.terminal)


def test_single_faults_are_unique_and_believable_and_concern_only_used_roles(contract: Contract) -> None:
    ones = singles(contract, ROLES)
    assert len({case.key for case in ones}) == len(ones) > 100
    for case in ones:
        assert case.moves == 1 or {"move": "accept_then_drop"} in case.scenario["moves"]["submit"]
        assert set(case.scenario.get("moves", {})) <= set(ROLES)
        assert believable(case.scenario, contract) == case.scenario


def test_faults_of_reads_have_no_variant_with_an_effect(contract: Contract) -> None:
    moves = [move for case in singles(contract, ROLES) for move in case.scenario.get("moves", {}).get("status", [])]
    assert moves
    assert not any("accepted" in move for move in moves)


def test_faults_of_a_role_that_needs_a_stuck_job_come_with_a_stuck_job() -> None:
    contract = next(one for one in CONTRACTS if "cancel" in one.operations)
    cases = [case for case in singles(contract, [*ROLES, "cancel"], ["cancel"]) if moves_of(case, "cancel")]
    assert len(cases) > 20
    assert all(case.scenario["timeline"] == {"move": "stuck"} for case in cases)


def test_faults_of_vital_fields_come_before_faults_of_other_fields(contract: Contract) -> None:
    ones = [case for case in singles(contract, ROLES) if "always" in str(case)]
    about = [str(move.get("value")) for case in ones for move in case.scenario["moves"].get("status", [])]
    assert about.index("stage") < min(about.index(name) for name in about if name not in VITAL | {"None"})


def test_pairs_have_two_faults(contract: Contract) -> None:
    drawn = pairs(contract, ROLES, Random(1))
    assert {2} <= {next(drawn).moves for _ in range(50)} <= {2, 3}, "a lost response and what follows are one fault"


def test_a_fault_that_reports_an_effect_without_having_it_is_left_out(contract: Contract) -> None:
    lie = {"moves": {"submit": [{"move": "accepted"}, {"move": "empty"}]}}
    assert believable(lie, contract) == {"moves": {"submit": [{"move": "empty"}]}}
    assert believable({"moves": {"submit": [{"move": "accepted"}]}}, contract) == {}


def test_a_client_is_killed_at_each_of_its_requests(contract: Contract) -> None:
    running = next(stage.name for stage in contract.graph if not stage.terminal)
    trace = Teller(contract).submit().status(running).status(running).media().story()
    cases = killings(trace)
    assert [case.point for case in cases] == [1, 1, 2, 3, 4, 4]
    assert {case.kind for case in cases} == {KILLED}
    assert cases[1].scenario["moves"]["submit"] == [{"move": "timeout", "accepted": True}]
    assert cases[3].scenario["moves"]["status"][0] == {"move": "latency", "seconds": 0, "times": 1}


def test_a_client_is_killed_in_the_middle_of_its_first_download(contract: Contract) -> None:
    told = Teller(contract).submit()
    for _ in range(MOST_POINTS):
        told.status(running(contract))
    told.media(method="HEAD").media().media()
    case = killings(told.story())[-1]
    assert case == Case({"moves": {"media": [dict(HALF_SENT)]}}, KILLED, MOST_POINTS + 3)


def test_a_callback_in_parts_has_a_character_to_cut(contract: Contract) -> None:
    found = [case for case in varied(contract, (CALLBACK,)) if "in_parts" in case.key]
    assert len(found) == (contract.callbacks is not None)
    assert all(case.scenario["timeline"]["message"] == REASON for case in found)


def test_the_last_polls_of_a_stuck_job_determine_when_a_late_job_ends(contract: Contract) -> None:
    running = next(stage.name for stage in contract.graph if not stage.terminal)
    told = Teller(contract).submit()
    for _ in range(4):
        told.wait(10).status(running)
    moments = [case.scenario["timeline"]["seconds"] for case in last_polls(contract, told.end("timeout").story())]
    assert 30 < moments[0] < moments[1] < 40.1


def test_polls_fail_apart_while_a_long_job_goes_on(contract: Contract) -> None:
    running = next(stage.name for stage in contract.graph if not stage.terminal)
    told = Teller(contract).submit()
    for _ in range(20):
        told.wait(10).status(running)
    (case,) = failures_apart(contract, told.end("timeout").story())
    moves = case.scenario["moves"]["status"]
    assert [move.get("times", 1) for move in moves] == [GOOD_BETWEEN, 1] * 5
    assert moves[0]["move"] != moves[1]["move"]
    assert 150 < case.scenario["timeline"]["seconds"] < 170


def test_failures_apart_end_before_the_last_poll_of_a_client_that_slows_down(contract: Contract) -> None:
    running = next(stage.name for stage in contract.graph if not stage.terminal)
    told = Teller(contract).submit()
    for pause in (*[10] * 19, 100):
        told.wait(pause).status(running)
    (case,) = failures_apart(contract, told.end("timeout").story())
    assert case.scenario["timeline"]["seconds"] == pytest.approx(0.8 * 290, abs=1)


def test_a_client_that_polls_seldom_has_no_failures_apart(contract: Contract) -> None:
    told = Teller(contract).submit().wait(300).status(running(contract)).end("timeout")
    assert failures_apart(contract, told.story()) == []


def test_the_roles_that_a_client_uses_are_found(contract: Contract) -> None:
    running = next(stage.name for stage in contract.graph if not stage.terminal)
    assert used_roles([Teller(contract).submit().status(running).media().story()]) == ["submit", "status", "media"]


def test_each_single_fault_occurs_once_before_it_occurs_always(contract: Contract) -> None:
    found = [case.scenario["moves"]["status"][0] for case in singles(contract, ROLES) if moves_of(case, "status")]
    once = next(at for at, move in enumerate(found) if move == {"move": "timeout"})
    always = next(at for at, move in enumerate(found) if move == {"move": "timeout", "times": "always"})
    assert once < always


def test_faults_that_lead_a_client_to_another_host_come_first_on_a_read(contract: Contract) -> None:
    cases = singles(contract, ["submit", "status"])
    found = [moves_of(case, "status")[0] for case in cases if moves_of(case, "status")]
    lures = set(found) & LURES
    assert {"redirect", "redirect_port"} <= lures
    assert set(found[: len(lures)]) == lures


def test_grave_faults_also_come_after_the_client_has_seen_its_job(contract: Contract) -> None:
    once = singles(contract, ["submit", "status"])
    found = singles(contract, ["submit", "status"], (), ["status"])
    later = [case.scenario["moves"]["status"] for case in found if case not in once]
    assert [case for case in once if case not in found] == []
    assert all(first == {"move": "latency", "seconds": 0} for first, _ in later)
    refusals = {name for name, one in contract.operations["status"].situations.items() if one.status >= 400}
    grave = {"timeout", "reset_peer", "malformed_json", "html_page", "empty_body", "error_envelope"}
    assert {move["move"] for _, move in later} == grave | refusals
    assert all(fits(dict(case.scenario), contract) for case in found)


def test_a_response_is_lost_on_the_connection_of_a_refusal(contract: Contract) -> None:
    cases = singles(contract, ["submit"])
    found, *later = [moves for case in cases if len(moves := case.scenario.get("moves", {}).get("submit", [])) == 2]
    assert found[1] == {"move": "accept_then_drop"}
    in_progress = "key_in_flight" in contract.operations["submit"].situations
    assert later == [[{"move": "accept_then_drop"}, {"move": "key_in_flight"}]] * in_progress
    assert contract.operations["submit"].situations[found[0]["move"]].status in (429, 503)
    assert all("submit" not in case.scenario.get("moves", {}) for case in singles(contract, ["status"]))


def test_a_callback_comes_before_the_response_to_a_submission() -> None:
    contract = next(one for one in CONTRACTS if one.callbacks is not None)
    ended, late = {"move": "slow", "seconds": 0}, [{"move": "latency", "seconds": 5}]
    early = {"timeline": ended, "moves": {"submit": late}}
    assert early in [case.scenario for case in singles(contract, ["submit", "callback"])]
    assert early not in [case.scenario for case in singles(contract, ["submit"])]


def test_timelines_come_first(contract: Contract) -> None:
    about_time = ["timeline" in case.scenario for case in singles(contract, ROLES)]
    assert about_time == sorted(about_time, reverse=True)
    assert any(about_time)


def test_a_client_is_not_killed_at_every_one_of_many_polls(contract: Contract) -> None:
    told = Teller(contract).submit()
    for _ in range(MOST_POINTS * 2):
        told.status(running(contract))
    assert max(case.point for case in killings(told.story())) == MOST_POINTS


def test_a_client_that_polls_too_little_has_no_last_polls(contract: Contract) -> None:
    told = Teller(contract).submit().wait(10).status(running(contract)).wait(10).status(running(contract))
    assert last_polls(contract, told.end("timeout").story()) == []


def test_only_reads_that_are_repeated_count_as_repeated(contract: Contract) -> None:
    told = Teller(contract).submit().submit().status(running(contract)).media().media()
    assert repeated_roles(told.story()) == []
    assert repeated_roles(told.status(running(contract)).story()) == ["status"]


def test_callbacks_are_a_used_role_only_if_one_was_delivered() -> None:
    contract = next(one for one in CONTRACTS if one.callbacks is not None)
    assert contract.callbacks is not None
    told = Teller(contract).submit()
    assert used_roles([told.story()]) == ["submit"]
    assert used_roles([told.callback(next(iter(contract.callbacks.situations))).story()]) == ["submit", CALLBACK]


LARGE: dict[str, Any] = {
    "moves": {"status": [{"move": "timeout", "seconds": 5}, {"move": "html_page"}], "media": [{"move": "zero_bytes"}]},
    "timeline": {"move": "stuck"},
}


def test_simplified_cases_are_smaller_and_remove_the_largest_part_first() -> None:
    large = Case(LARGE)
    found = [case.scenario for case in simplified(large, CONTRACT)]
    assert all(case.size < large.size for case in simplified(large, CONTRACT))
    assert found == [
        {"moves": {"status": LARGE["moves"]["status"]}, "timeline": {"move": "stuck"}},
        {"moves": {"media": [{"move": "zero_bytes"}]}, "timeline": {"move": "stuck"}},
        {"moves": LARGE["moves"]},
        {**LARGE, "moves": {**LARGE["moves"], "status": [{"move": "html_page"}]}},
        {**LARGE, "moves": {**LARGE["moves"], "status": [{"move": "timeout", "seconds": 5}]}},
        {**LARGE, "moves": {**LARGE["moves"], "status": [{"move": "timeout"}, {"move": "html_page"}]}},
        {**LARGE, "moves": {"status": LARGE["moves"]["status"]}},
    ]


def test_a_client_recovers_from_a_failed_job_and_from_each_role_that_refuses_or_breaks_off(contract: Contract) -> None:
    found = recoveries(singles(contract, ROLES))
    assert {case.kind for case in found} == {RECOVERY}
    assert ["timeline" in case.scenario for case in found] == [True] + [False] * (len(found) - 1)
    assert sorted(role for case in found for role in case.scenario.get("moves", ())) == [
        "media",
        *["status"] * 2,
        *["submit"] * 2,
    ]
    for case in found[1:]:
        ((_, (move,)),) = case.scenario["moves"].items()
        assert move["times"] == "always"


def test_one_failure_of_the_job_has_a_message_that_no_client_makes_up(contract: Contract) -> None:
    timelines = [case.scenario["timeline"] for case in singles(contract, ROLES) if "timeline" in case.scenario]
    (explained,) = [timeline for timeline in timelines if timeline.get("message") == REASON]
    assert {name: value for name, value in explained.items() if name != "message"} in timelines
    assert explained["move"] == "fail"


def test_a_case_of_another_kind_is_first_simplified_to_one_run() -> None:
    assert next(simplified(Case(LARGE, CROWD), CONTRACT)) == Case(LARGE, ONCE)
    assert next(simplified(Case({}, CROWD), CONTRACT)) == HAPPY


def test_a_killed_client_stays_killed_at_the_same_request() -> None:
    found = list(simplified(Case({"moves": {"status": [{"move": "timeout", "seconds": 5}]}}, KILLED, 3), CONTRACT))
    assert found
    assert {(case.kind, case.point) for case in found} == {(KILLED, 3)}


@pytest.mark.parametrize("case", [HAPPY, Case({}, KILLED, 1)])
def test_the_simplest_case_has_no_simplification(case: Case) -> None:
    assert list(simplified(case, CONTRACT)) == []
