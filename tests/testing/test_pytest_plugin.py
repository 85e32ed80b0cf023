"""The fixture: a world for each test, complaints that fail it, one server for several processes."""

from __future__ import annotations

import pytest

from hobbyhorse import MockServer
from hobbyhorse.contract.values import Contract
from tests.conftest import contracts_that
from tests.world import documented

CLIENT = """
import httpx
import pytest

BODY = {BODY!r}


def order(world, body=BODY):
    headers = {{"authorization": f"Bearer {{world.api_key}}"}}
    return httpx.post(world.url("{PROVIDER}") + "{PATH}", json=body, headers=headers, trust_env=False)


def poll(world):
    headers = {{"authorization": f"Bearer {{world.api_key}}"}}
    url = f"{{world.url('{PROVIDER}')}}{{POLL}}".replace("JOB", world.jobs[0].id)
    return httpx.get(url, headers=headers, trust_env=False)
"""

FIXTURE = """
@pytest.mark.hobbyhorse(clock="manual")
@pytest.mark.parametrize("number", range(5))
def test_each_test_has_a_world_of_its_own(hobbyhorse, number):
    assert hobbyhorse.jobs == []
    assert order(hobbyhorse).status_code == 200
    assert len(hobbyhorse.jobs) == 1
    hobbyhorse.clock.advance(60)
    poll(hobbyhorse)


@pytest.mark.hobbyhorse(clock="manual", pace="realistic")
def test_a_clock_can_be_moved(hobbyhorse):
    order(hobbyhorse)
    hobbyhorse.clock.advance(3600)
    poll(hobbyhorse)
    assert hobbyhorse.billed > 0


@pytest.mark.hobbyhorse(scenario=["submit_rate_limited", "submit_overloaded"], complain=())
@pytest.mark.hobbyhorse(limits={"concurrent_jobs": 3})
def test_a_mark_arms_and_limits(hobbyhorse):
    assert order(hobbyhorse).status_code == 429
    assert order(hobbyhorse).status_code == 200
    assert hobbyhorse.limits.concurrent_jobs == 3


def test_an_invalid_request_fails_its_test(hobbyhorse):
    order(hobbyhorse, {})


def test_an_unmatched_request_fails_its_test(hobbyhorse):
    httpx.get(hobbyhorse.url("PROVIDER") + "/no/such", headers={"authorization": f"Bearer {hobbyhorse.api_key}"})


@pytest.mark.hobbyhorse(scenario="submit_rate_limited")
def test_an_unmet_scenario_fails_its_test(hobbyhorse):
    pass


def test_an_uncollected_job_fails_its_test(hobbyhorse):
    order(hobbyhorse)


@pytest.mark.hobbyhorse(complain=False)
def test_an_invalid_request_may_be_intended(hobbyhorse):
    order(hobbyhorse, {})


@pytest.mark.hobbyhorse(complain=["unmet"])
def test_only_some_mistakes_may_matter(hobbyhorse):
    order(hobbyhorse, {})
    order(hobbyhorse)


def test_a_failed_test_is_not_failed_again(hobbyhorse):
    order(hobbyhorse, {})
    assert False, "its own reason"


@pytest.mark.hobbyhorse(colour="red")
def test_an_unknown_option_is_refused(hobbyhorse):
    pass


@pytest.mark.hobbyhorse(complain="everything")
def test_an_unknown_complaint_is_refused(hobbyhorse):
    pass
"""

SUITE = """
NAMES = NAMES_HERE


@pytest.mark.hobbyhorse(clock="manual", pace="realistic")
@pytest.mark.parametrize("number", range(50))
def test_nothing_of_another(hobbyhorse, number):
    assert (hobbyhorse.jobs, hobbyhorse.armed, hobbyhorse.journal) == ([], [], [])
    start = hobbyhorse.clock.now()
    name = NAMES[number % len(NAMES)]
    hobbyhorse.arm(name)
    refused = order(hobbyhorse)
    assert refused.status_code >= 400
    assert order(hobbyhorse).status_code == 200
    assert [armed.scenario.name for armed in hobbyhorse.armed] == [name]
    hobbyhorse.clock.advance(1000 + number)
    assert 1000 + number <= hobbyhorse.clock.now() - start < 1001 + number
    poll(hobbyhorse)
    assert [one.role for one in hobbyhorse.journal] == ["submit", "submit", "status"]
    assert len(hobbyhorse.jobs) == 1
    assert hobbyhorse.ledger.billable == 1
    assert len(hobbyhorse.wait_for(count=2, role="submit")) == 2


@pytest.mark.hobbyhorse(scenario="submit_overloaded")
def test_an_unmet_scenario_fails_its_test_here_too(hobbyhorse):
    assert hobbyhorse.unmet
"""


BOTH = """
@pytest.mark.hobbyhorse(clock="manual", limits={"concurrent_jobs": 3}, scenario="submit_rate_limited")
def test_the_same_body_reads_the_same_records(hobbyhorse):
    assert order(hobbyhorse).status_code == 429
    assert order(hobbyhorse).status_code == 200
    hobbyhorse.clock.advance(60)
    poll(hobbyhorse)
    assert hobbyhorse.limits.concurrent_jobs == 3
    assert hobbyhorse.jobs[0].stage().kind == "success"
    assert hobbyhorse.billed == hobbyhorse.jobs[0].cost == hobbyhorse.ledger.entries[0].usd
    assert [armed.scenario.name for armed in hobbyhorse.armed if not armed.unmet()] == ["submit_rate_limited"]
    assert hobbyhorse.journal[0].move == "rate_limited"
    assert isinstance(hobbyhorse.journal[-1].answer, bytes)


@pytest.mark.hobbyhorse(seed=7)
def test_a_seed_is_for_a_new_server(hobbyhorse):
    pass
"""


def source(contract: Contract, tests: str) -> str:
    operation, model, body = documented(contract)
    poll = contract.operations["status"].path
    for place in contract.operations["status"].bindings["job"].request:
        poll = poll.replace("{" + place.name + "}", "JOB")
    client = CLIENT.format(BODY=body, PROVIDER=contract.key, PATH=operation.path, POLL=poll)
    return client.replace("{POLL}", poll) + tests.replace("PROVIDER", contract.key)


ONE_PROVIDER = contracts_that(lambda contract: contract.key == "hiapi")


@ONE_PROVIDER
@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_fixture_gives_each_test_a_world_and_reports_complaints(
    workers: str, contract: Contract, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(source(contract, FIXTURE))
    result = pytester.runpytest_subprocess("-n", workers, "-p", "no:cacheprovider")
    result.assert_outcomes(passed=14, failed=1, errors=6)
    for line in (
        "*hobbyhorse saw what this test most likely did not intend:*",
        "*breaks the contract*",
        "*no operation*the nearest is*",
        "*submit_rate_limited: submit/0 rate_limited (retry_after 2) was armed and never met*",
        "*was submitted and its end never seen*",
        "*has no option 'colour'; allowed: clock, pace, speed, seed, strict, scenario, jobs, limits, complain*",
        "*there is no complaint 'everything'; allowed: unmatched, invalid, unmet, uncollected*",
        "*its own reason*",
        "*Captured hobbyhorse teardown*",
    ):
        result.stdout.fnmatch_lines([line])


@ONE_PROVIDER
def test_a_project_can_choose_its_complaints(contract: Contract, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nhobbyhorse_complain = unmet\n")
    pytester.makepyfile(source(contract, FIXTURE))
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-k", "fails_its_test")
    result.assert_outcomes(passed=4, errors=1)


@ONE_PROVIDER
def test_fifty_tests_in_two_processes_share_a_server_and_nothing_else(
    contract: Contract, pytester: pytest.Pytester
) -> None:
    names = ["submit_rate_limited", "submit_overloaded", "submit_server_error", "submit_insufficient_balance"]
    pytester.makepyfile(source(contract, SUITE.replace("NAMES_HERE", repr(names))))
    with MockServer() as server:
        url = ("--hobbyhorse-url", server.url)
        result = pytester.runpytest_subprocess("-n", "2", "-p", "no:cacheprovider", *url)
        keys = [world for world in server.asgi.worlds if world.journal.total]
    result.assert_outcomes(passed=51, errors=1)
    assert len(keys) == 50
    result.stdout.fnmatch_lines(["*submit_overloaded: submit/0 overloaded* was armed and never met*"])


@ONE_PROVIDER
@pytest.mark.parametrize("mode", ["local", "remote"])
def test_the_same_test_passes_in_both_modes(mode: str, contract: Contract, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(source(contract, BOTH))
    with MockServer() as server:
        url = ("--hobbyhorse-url", server.url) if mode == "remote" else ()
        result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *url)
    if mode == "local":
        result.assert_outcomes(passed=2)
    else:
        result.assert_outcomes(passed=1, errors=1)
        result.stdout.fnmatch_lines(["*'seed' is 7, but a running server keeps its own*documents --seed*"])
