"""Armed scenarios: which requests begin one, which of its faults they meet, and the timelines of its jobs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from hobbyhorse.contract.lifecycle import Graph, Stage, lay, stage_at
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios import armed as module
from hobbyhorse.scenarios.armed import ActiveScenario, ArmedScenario, ArmedScenarios, lay_troubled
from hobbyhorse.scenarios.faults.timeline import LATE_SHARE, SLOW_SHARE
from hobbyhorse.scenarios.scenario import ScenarioError, Trouble, read_scenario
from hobbyhorse.worlds.jobs import PACES, pace
from tests.conftest import CONTRACTS, contracts_that

CONTRACT = CONTRACTS[0]
LONGEST_WAIT = 600.0


def arm(found: ArmedScenarios, written: dict[str, Any], **how: Any) -> ArmedScenario:
    return found.arm(read_scenario(written), [CONTRACT], **how)


def kinds_met(active: ActiveScenario, role: str, requests: int) -> list[str | None]:
    """Return the faults that consecutive requests of a role meet."""
    return [None if (move := active.take(role)) is None else move.kind for _ in range(requests)]


# ---- variations

LOWER, CODED, FRAMED = ({"move": name, "times": "always"} for name in ("header_case", "coded", "framed"))


@pytest.mark.parametrize(
    ("moves", "together"),
    [
        ([FRAMED, CODED, LOWER], ["header_case", "coded", "framed"]),
        ([CODED, {**CODED, "coding": "deflate"}, FRAMED], ["coded"]),
        ([CODED, {"move": "overloaded"}, FRAMED], ["coded"]),
        ([{"move": "overloaded"}, CODED], ["overloaded"]),
        ([], []),
    ],
)
def test_consecutive_variations_of_different_layers_meet_the_same_request_in_the_order_of_the_layers(
    moves: list[dict[str, Any]], together: list[str]
) -> None:
    found = ArmedScenarios()
    armed = arm(found, {"moves": {"status": moves}})
    active = ActiveScenario(armed, CONTRACT)
    assert [move.kind for _, move in active.together("status")] == together


def test_each_variation_is_used_up_by_itself() -> None:
    armed = arm(ArmedScenarios(), {"moves": {"status": [{"move": "coded"}, FRAMED]}})
    active = ActiveScenario(armed, CONTRACT)
    for index, _ in active.together("status"):
        active.use("status", index)
    assert [move.kind for _, move in active.together("status")] == ["framed"]
    assert armed.unmet() == []


# ---- timelines

STAGES = Graph(
    "queued",
    {
        "queued": Stage("queued", "pending", ("running", "failed")),
        "running": Stage("running", "running", ("done", "failed")),
        "done": Stage("done", "success", ()),
        "failed": Stage("failed", "failure", ()),
    },
)
LASTS = {"queued": 5.0, "running": 15.0}


def lasting(stage: Stage) -> float:
    return LASTS.get(stage.name, 0.0)


@pytest.mark.parametrize(
    ("trouble", "moments"),
    [
        (Trouble("slow", {"seconds": 40}), [("queued", 100.0), ("running", 110.0), ("done", 140.0)]),
        (Trouble("slow"), [("queued", 100.0), ("running", 235.0), ("done", 640.0)]),
        (Trouble("late_success"), [("queued", 100.0), ("running", 325.0), ("done", 1000.0)]),
        (Trouble("late_success", {"seconds": 10}), [("queued", 100.0), ("running", 102.5), ("done", 110.0)]),
        (Trouble("slow", {"seconds": 0}), [("queued", 100.0), ("running", 100.0), ("done", 100.0)]),
        (Trouble("fail"), [("queued", 100.0), ("running", 105.0), ("failed", 120.0)]),
        (Trouble("fail", {"seconds": 2}), [("queued", 100.0), ("running", 100.5), ("failed", 102.0)]),
        (Trouble("stuck"), [("queued", 100.0)]),
        (Trouble("stuck", {"stage": "running"}), [("queued", 100.0), ("running", 105.0)]),
    ],
    ids=lambda value: str(value.to_json()) if isinstance(value, Trouble) else "",
)
def test_a_timeline_is_scaled_from_its_start_so_that_it_ends_on_time(
    trouble: Trouble, moments: list[tuple[str, float]]
) -> None:
    timeline, error = lay_troubled(STAGES, 100.0, lasting, trouble, LONGEST_WAIT)
    assert [name for _, name in timeline] == [name for name, _ in moments]
    assert [moment for moment, _ in timeline] == pytest.approx([moment for _, moment in moments])
    assert error == (None, None)


def test_a_failure_has_its_code_and_message() -> None:
    trouble = Trouble("fail", {"code": "BAD", "message": "no horse"})
    assert lay_troubled(STAGES, 0.0, lasting, trouble, LONGEST_WAIT)[1] == ("BAD", "no horse")


@pytest.mark.parametrize("kind", ["slow", "late_success"])
@pytest.mark.parametrize("name", PACES)
def test_the_moments_of_a_slow_or_late_job_ascend_and_it_ends_at_its_share_of_the_longest_wait(
    name: str, kind: str, contract: Contract
) -> None:
    longest = contract.polling.longest_wait
    share = {"slow": SLOW_SHARE, "late_success": LATE_SHARE}[kind]
    timeline, _ = lay_troubled(contract.graph, 1_000.0, pace(name, Random(3)), Trouble(kind), longest)
    moments = [moment for moment, _ in timeline]
    assert all(earlier <= later for earlier, later in pairwise(moments))
    assert moments[0] == 1_000.0
    assert moments[-1] == pytest.approx(1_000.0 + share * longest)
    assert contract.graph[timeline[-1][1]].kind == "success"


@contracts_that(lambda contract: contract.graph[contract.graph.initial].kind == "pending")
@pytest.mark.parametrize("kind", ["slow", "late_success"])
def test_a_slow_or_late_job_is_still_queued_after_a_second(kind: str, contract: Contract) -> None:
    """Its stages keep their shares: a job that takes minutes does not leave the queue within a second."""
    for seed in range(20):
        drawn = pace("realistic", Random(seed))
        timeline, _ = lay_troubled(contract.graph, 1_000.0, drawn, Trouble(kind), contract.polling.longest_wait)
        usual = lay(contract.graph, 1_000.0, pace("realistic", Random(seed)))
        assert stage_at(timeline, 1_001.0) == contract.graph.initial
        for at, (moment, _) in enumerate(timeline):
            share = (usual[at][0] - 1_000.0) / (usual[-1][0] - 1_000.0)
            assert (moment - 1_000.0) / (timeline[-1][0] - 1_000.0) == pytest.approx(share)


# ---- faults by role


def test_the_faults_of_a_role_are_met_in_order_each_as_often_as_it_says() -> None:
    moves = {"status": [{"move": "empty", "times": 2}, {"move": "reset_peer"}], "submit": [{"move": "timeout"}]}
    armed = arm(ArmedScenarios(), {"moves": moves})
    active = ActiveScenario(armed, CONTRACT)
    assert kinds_met(active, "status", 5) == ["empty", "empty", "reset_peer", None, None]
    assert armed.met == {"status/0": 2, "status/1": 1}
    assert armed.unmet() == ["submit/0 timeout"]
    assert kinds_met(active, "result", 1) == [None]


def test_a_fault_for_every_request_is_never_used_up() -> None:
    armed = arm(ArmedScenarios(), {"moves": {"status": [{"move": "empty", "times": "always"}, {"move": "timeout"}]}})
    assert kinds_met(ActiveScenario(armed, CONTRACT), "status", 4) == ["empty"] * 4


@pytest.mark.parametrize(
    ("trouble", "shown", "met"),
    [
        ({"move": "slow"}, "running", True),
        ({"move": "slow"}, "success", False),
        ({"move": "slow", "seconds": 0}, "success", True),
        ({"move": "slow", "seconds": 0}, "running", False),
        ({"move": "fail"}, "failure", True),
        ({"move": "fail"}, "running", False),
        ({"move": "stuck", "stage": "running"}, "running", True),
        ({"move": "stuck", "stage": "running"}, "success", False),
    ],
)
def test_a_timeline_is_met_by_the_stage_that_shows_it(trouble: dict[str, Any], shown: str, met: bool) -> None:
    armed = arm(ArmedScenarios(), {"timeline": trouble})
    stage = next(stage for stage in CONTRACT.graph if stage.kind == shown)
    ActiveScenario(armed, CONTRACT).record_stage(stage)
    assert armed.unmet() == ([] if met else [f"timeline {trouble['move']}"])


def test_a_stage_without_a_timeline_fault_meets_nothing() -> None:
    armed = arm(ArmedScenarios(), {})
    ActiveScenario(armed, CONTRACT).record_stage(next(iter(CONTRACT.graph)))
    assert not armed.met


# ---- requests


def test_an_active_scenario_stays_open_until_a_job_was_made_and_no_fault_for_submissions_is_left() -> None:
    found = ArmedScenarios()
    arm(found, {"moves": {"submit": [{"move": "accept_then_drop"}, {"move": "empty"}]}})
    active = found.find(CONTRACT, "submit")
    assert active is not None
    active.use("submit")
    active.bound = True
    assert found.find(CONTRACT, "submit") is active, "the second submission meets the next fault"
    active.use("submit")
    assert found.find(CONTRACT, "submit") is None, "it was armed for one job"


def test_each_job_begins_an_active_scenario_with_a_generator_of_its_own() -> None:
    found = ArmedScenarios()
    armed = arm(found, {}, jobs=2, seed=5)
    drawn = []
    for left in (1, 0):
        active = found.find(CONTRACT, "submit")
        assert active is not None
        active.bound = True
        assert armed.left == left
        drawn.append(active.random.random())
    assert drawn == [Random("5:0").random(), Random("5:1").random()]
    assert found.find(CONTRACT, "submit") is None


def test_a_request_without_a_job_begins_a_scenario_that_has_a_fault_for_it() -> None:
    found = ArmedScenarios()
    arm(found, {"moves": {"list": [{"move": "empty", "times": 2}]}})
    assert found.find(CONTRACT, "status") is None
    active = found.find(CONTRACT, "list")
    assert active is not None
    assert found.find(CONTRACT, "list") is active
    assert kinds_met(active, "list", 2) == ["empty", "empty"]
    assert found.find(CONTRACT, "list") is None


def test_a_scenario_named_by_requests_does_not_apply_to_others() -> None:
    found = ArmedScenarios()
    scenario = read_scenario({"moves": {"submit": [{"move": "empty"}]}})
    named = found.for_requests(scenario, [CONTRACT], "header")
    assert found.for_requests(scenario, [CONTRACT], "header") is named
    assert found.find(CONTRACT, "submit") is None
    active = found.find(CONTRACT, "submit", named)
    assert active is not None
    assert active.armed is named
    assert named.to_json()["jobs_left"] == "all"
    assert (named.to_json()["source"], named.to_json()["jobs_begun"]) == ("header", 1)


def test_a_scenario_begins_for_an_existing_job_while_jobs_are_left() -> None:
    found = ArmedScenarios()
    armed = arm(found, {})
    assert found.begin(armed, CONTRACT) is not None
    assert found.begin(armed, CONTRACT) is None


# ---- arming


def test_a_disarmed_scenario_applies_to_no_further_request() -> None:
    found = ArmedScenarios()
    first = arm(found, {"moves": {"submit": [{"move": "empty", "times": "always"}]}}, jobs=None)
    second = arm(found, {"timeline": {"move": "slow"}})
    assert found.find(CONTRACT, "submit") is not None
    assert (found.disarm(99), found.disarm(first.id)) == (0, 1)
    assert found.armed == [second]
    active = found.find(CONTRACT, "submit")
    assert active is not None
    assert active.armed is second
    assert found.unmet() == [(second, "timeline slow")]
    assert found.active
    found.clear()
    assert (found.armed, found.active, found.find(CONTRACT, "submit")) == ([], False, None)


def test_a_disarmed_scenario_applies_to_no_further_request_without_a_job() -> None:
    found = ArmedScenarios()
    armed = arm(found, {"moves": {"list": [{"move": "empty", "times": "always"}]}})
    kept = arm(found, {"moves": {"status": [{"move": "empty", "times": "always"}]}})
    for role in ("list", "status"):
        assert found.find(CONTRACT, role) is not None
    found.disarm(armed.id)
    assert found.find(CONTRACT, "list") is None
    active = found.find(CONTRACT, "status")
    assert active is not None
    assert active.armed is kept


def test_a_scenario_is_armed_only_for_a_known_provider_to_which_it_applies() -> None:
    found = ArmedScenarios()
    with pytest.raises(ScenarioError, match=f"there is no provider 'unknown'; allowed: {CONTRACT.key}") as unknown:
        arm(found, {}, provider="unknown")
    with pytest.raises(ScenarioError, match=r"the scenario 'inline' does not apply: .*moon") as nowhere:
        arm(found, {"moves": {"submit": [{"move": "moon"}]}})
    assert {unknown.value.code, nowhere.value.code} == {"not_applicable"}
    assert (found.armed, found.active) == ([], False)


def test_the_number_of_armed_scenarios_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ARMED", 2)
    found = ArmedScenarios()
    for _ in range(2):
        arm(found, {})
    with pytest.raises(ScenarioError, match="2 scenarios are armed already; disarm finished ones") as refused:
        arm(found, {})
    assert refused.value.code == "too_many"


def met(scenarios: ArmedScenarios, name: str, jobs: int) -> tuple[ActiveScenario, Sequence[str]]:
    """Return a new active scenario with a number of jobs, and the jobs that have to be kept after it was met."""
    active = ActiveScenario(scenarios.arm(read_scenario({"timeline": {"move": "stuck"}}), [CONTRACT]), CONTRACT)
    for number in range(jobs):
        active.add_job(f"{name}-{number}")
    return active, scenarios.meet(active)


def test_the_job_of_a_scenario_keeps_it_but_not_each_of_several() -> None:
    scenarios = ArmedScenarios()
    assert met(scenarios, "one", 1)[1] == ["one-0"]
    assert scenarios.active_ones() == []
    active, kept = met(scenarios, "two", 2)
    assert (kept, scenarios.active_ones()) == ((), [active])
    scenarios.forget_jobs()
    assert (active.jobs, scenarios.active_ones()) == ([], [])


def test_the_jobs_keep_a_scenario_that_was_met_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SHARED", 2)
    scenarios = ArmedScenarios()
    (one, _), (two, _) = met(scenarios, "one", 2), met(scenarios, "two", 3)
    assert scenarios.meet(one) == ()
    three, kept = met(scenarios, "three", 2)
    assert list(kept) == ["two-0", "two-1", "two-2"]
    assert scenarios.active_ones() == [one, three]
    assert list(scenarios.meet(two)) == ["one-0", "one-1"]


def test_a_scenario_of_very_many_jobs_stays_with_its_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SHARED", 1)
    scenarios = ArmedScenarios()
    many, _ = met(scenarios, "many", module.MOST_JOBS + 50)
    assert len(many.jobs) == module.MOST_JOBS + 1
    assert list(met(scenarios, "few", 2)[1]) == ["few-0", "few-1"]
    assert scenarios.active_ones() == [many]
