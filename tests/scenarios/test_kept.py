"""Armed and active scenarios as JSON, and back."""

from __future__ import annotations

from typing import Any

import orjson

from hobbyhorse.scenarios.armed import ActiveScenario, ArmedScenarios
from hobbyhorse.scenarios.kept import ScenarioReader, write_active, write_scenarios
from hobbyhorse.scenarios.scenario import read_scenario
from tests.conftest import CONTRACTS

CONTRACT = CONTRACTS[0]
SCENARIO = {"moves": {"submit": [{"move": "html_page", "times": 2}], "list": [{"move": "html_page"}]}}


def through(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))


def again(scenarios: ArmedScenarios) -> ArmedScenarios:
    found = ArmedScenarios()
    ScenarioReader([CONTRACT]).scenarios(through(write_scenarios(scenarios)), found)
    return found


def test_nothing_armed_writes_nothing() -> None:
    assert write_scenarios(ArmedScenarios()) == {}
    found = again(ArmedScenarios())
    assert (found.armed, found.active) == ([], False)


def test_armed_scenarios_are_read_as_they_were() -> None:
    before = ArmedScenarios()
    before.arm(read_scenario(SCENARIO, "a-name"), [CONTRACT], jobs=3, seed=4)
    before.arm(read_scenario({"timeline": {"move": "stuck"}}), [CONTRACT], jobs=None, source="prompt")
    before.disarm(before.arm(read_scenario(SCENARIO), [CONTRACT]).id)
    found = again(before)
    assert [one.to_json() for one in found.armed] == [one.to_json() for one in before.armed]
    assert found.active
    assert found.arm(read_scenario(SCENARIO), [CONTRACT]).id == 4, "ids are not used again"


def test_an_open_scenario_takes_the_next_submission_with_the_faults_that_are_left() -> None:
    before = ArmedScenarios()
    armed = before.arm(read_scenario(SCENARIO), [CONTRACT])
    active = before.find(CONTRACT, "submit")
    assert active is not None
    active.use("submit")
    found = again(before)
    next_one = found.find(CONTRACT, "submit")
    assert next_one is not None
    assert next_one.used == {"submit": [1]}
    assert next_one.armed is found.armed[0]
    assert (next_one.armed.left, next_one.armed.begun) == (armed.left, armed.begun) == (0, 1)


def test_a_scenario_that_was_disarmed_meanwhile_stays_with_its_job() -> None:
    before = ArmedScenarios()
    armed = before.arm(read_scenario(SCENARIO), [CONTRACT], seed=9)
    active = ActiveScenario(armed, CONTRACT)
    active.links["/path"] = "query"
    active.random.gauss(0, 1)
    before.disarm()
    found = ScenarioReader([CONTRACT]).active(through(write_active(active)))
    assert found is not None
    assert (found.links, found.armed.to_json()) == (active.links, armed.to_json())
    assert [found.random.gauss(0, 1) for _ in range(3)] == [active.random.gauss(0, 1) for _ in range(3)]


def test_a_provider_that_is_not_served_any_more_has_no_active_scenario() -> None:
    armed = ArmedScenarios().arm(read_scenario(SCENARIO), [CONTRACT])
    written = through(write_active(ActiveScenario(armed, CONTRACT)))
    assert ScenarioReader([]).active(written) is None
    assert ScenarioReader([CONTRACT]).active(None) is None


def test_a_request_that_names_a_scenario_finds_the_one_that_was_armed_for_it() -> None:
    scenario, before = read_scenario(SCENARIO, "named"), ArmedScenarios()
    before.for_requests(scenario, [CONTRACT], "prompt")
    found = again(before)
    found.for_requests(scenario, [CONTRACT], "prompt")
    assert len(found.armed) == 1


def shared(scenarios: ArmedScenarios, count: int) -> ActiveScenario:
    """Return an active scenario with a number of jobs, met after each of them."""
    scenarios.arm(read_scenario({"moves": {"submit": [{"move": "html_page", "times": "always"}]}}), [CONTRACT])
    active = scenarios.find(CONTRACT, "submit")
    assert active is not None
    for number in range(count):
        active.use("submit")
        active.add_job(f"job-{number}")
        scenarios.meet(active)
    return active


def test_a_scenario_of_several_jobs_is_read_as_it_was_met_last() -> None:
    before = ArmedScenarios()
    active = shared(before, 2)
    # As its jobs have kept it.
    copy = through(write_active(active))
    before.disarm()
    active.use("submit")
    before.meet(active)
    reader, found = ScenarioReader([CONTRACT]), ArmedScenarios()
    reader.scenarios(through(write_scenarios(before)), found)
    of_job = reader.active(copy)
    assert of_job is not None
    assert of_job.used == {"submit": [3]}
    assert found.active_ones() == [of_job]
    assert found.find(CONTRACT, "submit") is None, "it was disarmed"
    assert write_scenarios(found) == write_scenarios(before)


def test_however_many_jobs_share_a_scenario_it_is_written_as_long() -> None:
    sizes = {len(orjson.dumps(write_active(shared(ArmedScenarios(), count)))) // 100 for count in (200, 900)}
    assert len(sizes) == 1
