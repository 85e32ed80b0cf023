"""The search for what breaks a client, with a client that is made up: what it does follows from the drill alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

import pytest

from hobbyhorse.conformance.client.cases import HAPPY, KILLED, LONG, ONCE, Case
from hobbyhorse.conformance.client.planning import VITAL, believable, killings, last_polls, pairs, singles, used_roles
from hobbyhorse.conformance.client.search import SHRINKING, CannotRun, Plan, Progress, Search
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.trace import Trace
from tests.conftest import CONTRACTS
from tests.tracing import Teller

ROLES = ("submit", "status", "media")
BEYOND = 80
"""Runs behind the single deviations."""


def moves_of(drill: Case, role: str) -> list[str]:
    return [move["move"] for move in drill.scenario.get("moves", {}).get(role, [])]


def ending(contract: Contract) -> tuple[str, str]:
    """Return the role and the situation in which a client learns of its video."""
    role = "result" if "result" in contract.operations else "status"
    names = contract.operations[role].situations
    return role, next(stage.name for stage in contract.graph if stage.kind == "success" and stage.name in names)


class MadeUp:
    """Orders again after a dropped answer if it is careless; shows its key to the files' host after two troubles."""

    def __init__(self, contract: Contract, careless: bool = True, flaky: bool = False) -> None:
        self.contract, self.careless, self.flaky = contract, careless, flaky
        self.played: list[Case] = []

    def __call__(self, drills: Sequence[Case]) -> Iterator[Trace]:
        for drill in drills:
            yield self.play(drill)

    def play(self, drill: Case) -> Trace:
        self.played.append(drill)
        told = Teller(self.contract, {"n": 1})
        if {"accept_then_drop", "reset_peer"} & set(moves_of(drill, "submit")):
            told.submit(None, status=0, whole=False, answered=None)
            if self.careless:
                told.wait(1).submit(key="another")
        else:
            told.submit()
        gap = 0.01 if self.flaky and len(self.played) % 2 else 5.0
        running = next(stage.name for stage in self.contract.graph if not stage.terminal)
        for _ in range(3):
            told.wait(gap).status(running)
        if self.careless and drill.moves >= 2:
            told.media(headers=(("authorization", "Bearer [key]"),))
        role, situation = ending(self.contract)
        told.wait(5).call(role, situation).media().end("success", size=1000)
        unmet = ("status: html_page",) if moves_of(drill, "status") == ["html_page"] else ()
        return replace(
            told.trace(), scenario=drill.scenario, drill=drill.kind, point=drill.point, unmet=unmet, jobs=None
        )


def search(contract: Contract, play: MadeUp, runs: int = 200, **plan: object) -> Search:
    found = Search(contract, play, Plan(runs, **plan))  # type: ignore[arg-type]
    found.run("a client", contract.models[0].id)
    return found


@pytest.fixture(scope="module", params=CONTRACTS, ids=lambda contract: contract.key)
def found(request: pytest.FixtureRequest) -> Search:
    most = len(singles(request.param, (*ROLES, "result"))) + BEYOND
    return search(request.param, MadeUp(request.param), most)


def test_every_rule_that_breaks_is_found_with_its_simplest_drill(found: Search) -> None:
    smallest = {tally.rule.id: tally.smallest for tally in found.tallies if tally.smallest}
    assert smallest["SUB-01"][0].moves == 1
    assert moves_of(smallest["SUB-01"][0], "submit")[0] in ("accept_then_drop", "reset_peer")
    assert "SEC-01" in smallest
    assert smallest["SEC-01"][0].moves == 2


def test_a_client_that_breaks_no_rule_is_accused_of_none_and_no_run_is_left_over(contract: Contract) -> None:
    careful = search(contract, MadeUp(contract, careless=False), 400)
    assert careful.broken == ()
    assert careful.runs == 400


def test_the_runs_are_bounded_and_no_drill_is_played_twice(found: Search) -> None:
    assert isinstance(found.play, MadeUp)
    keys = [drill.key for drill in found.play.played]
    assert len(keys) == found.runs <= found.plan.runs + 2 * SHRINKING
    assert len(set(keys)) == len(keys)


def test_the_same_seed_finds_the_same(contract: Contract) -> None:
    one, other = MadeUp(contract), MadeUp(contract)
    first, second = search(contract, one, seed=7), search(contract, other, seed=7)
    assert [drill.key for drill in one.played] == [drill.key for drill in other.played]
    assert first.broken == second.broken


def test_what_was_not_met_does_not_count_as_covered(contract: Contract) -> None:
    coverage = Search(contract, MadeUp(contract), Plan(400)).run("a client", "m").coverage
    assert coverage.met < coverage.total
    assert "status: html_page" in coverage.unmet
    assert not coverage.untried
    few = Search(contract, MadeUp(contract), Plan(20)).run("a client", "m").coverage
    assert few.met < 20
    assert few.met + len(few.unmet) + len(few.untried) == few.total == coverage.total
    assert set(few.untried).isdisjoint(few.unmet)


def test_a_finding_about_time_that_does_not_come_about_again_is_none(contract: Contract) -> None:
    assert "POL-07" not in search(contract, MadeUp(contract, careless=False, flaky=True), runs=60).broken


def test_progress_is_told(contract: Contract) -> None:
    told: list[Progress] = []
    Search(contract, MadeUp(contract), Plan(50), told.append).run("a client", "m")
    assert [one.runs for one in told] == list(range(51))
    assert told[-1].broken


def test_only_the_rules_that_are_asked_for_are_judged(contract: Contract) -> None:
    assert {tally.rule.id for tally in search(contract, MadeUp(contract), 40, rules=("SUB-01",)).tallies} == {"SUB-01"}


def test_a_client_that_gets_no_video_from_a_happy_server_cannot_be_tested(contract: Contract) -> None:
    class Failing(MadeUp):
        def play(self, drill: Case) -> Trace:
            return Teller(self.contract).submit().end("failed", message="KeyError: 'id'").trace()

    with pytest.raises(CannotRun, match=r"everything right.*KeyError"):
        search(contract, Failing(contract))


def test_a_client_that_does_not_fetch_its_video_is_told_where_that_is(contract: Contract) -> None:
    class Wary(MadeUp):
        def play(self, drill: Case) -> Trace:
            return Teller(self.contract).submit().wait(5).call(*ending(self.contract)).end("failed").trace()

    with pytest.raises(CannotRun, match="its video, which is on the host of its base URL, and did not fetch it"):
        search(contract, Wary(contract))


def test_a_client_that_orders_nothing_cannot_be_tested(contract: Contract) -> None:
    class Idle(MadeUp):
        def play(self, drill: Case) -> Trace:
            return Teller(self.contract).end("success").trace()

    with pytest.raises(CannotRun, match="ordered nothing; it asked for nothing; it ended with success"):
        search(contract, Idle(contract))


def test_single_deviations_are_unique_believable_and_on_the_roles_that_are_used(contract: Contract) -> None:
    ones = singles(contract, ROLES)
    assert len({drill.key for drill in ones}) == len(ones) > 100
    for drill in ones:
        assert drill.moves == 1
        assert set(drill.scenario.get("moves", {})) <= set(ROLES)
        assert believable(drill.scenario, contract) == drill.scenario


def test_what_only_reads_is_not_asked_whether_it_has_read(contract: Contract) -> None:
    moves = [move for drill in singles(contract, ROLES) for move in drill.scenario.get("moves", {}).get("status", [])]
    assert moves
    assert not any("accepted" in move for move in moves)


def test_a_role_that_is_used_for_a_stuck_job_alone_is_met_with_one() -> None:
    contract = next(one for one in CONTRACTS if "cancel" in one.operations)
    drills = [drill for drill in singles(contract, [*ROLES, "cancel"], ["cancel"]) if moves_of(drill, "cancel")]
    assert len(drills) > 20
    assert all(drill.scenario["timeline"] == {"move": "stuck"} for drill in drills)


def test_what_a_client_cannot_do_without_goes_wrong_before_what_it_need_not_read(contract: Contract) -> None:
    ones = [drill for drill in singles(contract, ROLES) if "always" in str(drill)]
    about = [str(move.get("value")) for drill in ones for move in drill.scenario["moves"].get("status", [])]
    assert about.index("stage") < min(about.index(name) for name in about if name not in VITAL | {"None"})


def test_pairs_have_two_moves(contract: Contract) -> None:
    drawn = pairs(contract, ROLES, Random(1))
    assert {next(drawn).moves for _ in range(50)} == {2}


def test_a_move_that_says_what_has_not_happened_is_left_out(contract: Contract) -> None:
    lie = {"moves": {"submit": [{"move": "accepted"}, {"move": "empty"}]}}
    assert believable(lie, contract) == {"moves": {"submit": [{"move": "empty"}]}}
    assert believable({"moves": {"submit": [{"move": "accepted"}]}}, contract) == {}


def test_a_client_is_killed_at_each_of_its_requests(contract: Contract) -> None:
    running = next(stage.name for stage in contract.graph if not stage.terminal)
    story = Teller(contract).submit().status(running).status(running).media().story()
    drills = killings(story)
    assert [drill.point for drill in drills] == [1, 1, 2, 3, 4]
    assert {drill.kind for drill in drills} == {KILLED}
    assert drills[1].scenario["moves"]["submit"] == [{"move": "timeout", "accepted": True}]
    assert drills[3].scenario["moves"]["status"][0] == {"move": "latency", "seconds": 0, "times": 1}


def test_the_last_polls_of_a_stuck_job_say_when_a_late_one_ends(contract: Contract) -> None:
    running = next(stage.name for stage in contract.graph if not stage.terminal)
    told = Teller(contract).submit()
    for _ in range(4):
        told.wait(10).status(running)
    moments = [drill.scenario["timeline"]["seconds"] for drill in last_polls(contract, told.end("timeout").story())]
    assert 30 < moments[0] < moments[1] < 40.1


def test_the_roles_that_a_client_uses_are_seen(contract: Contract) -> None:
    running = next(stage.name for stage in contract.graph if not stage.terminal)
    assert used_roles([Teller(contract).submit().status(running).media().story()]) == ["submit", "status", "media"]


def test_a_drill_says_what_it_is() -> None:
    moves = {"submit": [{"move": "timeout", "accepted": True}], "media": [{"move": "truncated", "times": 2}]}
    assert str(Case({"moves": moves, "timeline": {"move": "stuck"}}, LONG)) == (
        "long; submit: timeout (accepted=True); media: truncated (times=2); timeline: stuck"
    )
    assert str(HAPPY) == "a happy server"
    assert Case({}, ONCE).size < Case({}, LONG).size < Case({"timeline": {"move": "stuck"}}).size
