"""One set of test bodies holds for a world of this process and for the same world over the control plane."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from hobbyhorse import MockServer
from hobbyhorse.conformance.contract_client import ContractClient
from hobbyhorse.contract.forms.expressions import replaced
from hobbyhorse.contract.lifecycle import LifecycleError
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.scenario import ScenarioError
from hobbyhorse.testing.records import ArmedScenario, CallbackAttempt, Exchange, Job, JobError, JobStage
from hobbyhorse.testing.remote import RemoteServer
from hobbyhorse.testing.world import AnyWorld
from hobbyhorse.worlds.ledger import Ledger
from hobbyhorse.worlds.limits import Limits
from tests.conftest import contracts_that
from tests.world import HTTP, documented

calling = contracts_that(lambda contract: contract.callbacks is not None)


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer(clock="manual", pace="realistic") as running:
        yield running


@pytest.fixture
def remote(server: MockServer) -> Iterator[RemoteServer]:
    """The same server, over its control plane."""
    found = RemoteServer(server.url, clock="manual", pace="realistic")
    yield found
    found.stop()


@pytest.fixture(params=["local", "remote"])
def world(request: pytest.FixtureRequest, server: MockServer, remote: RemoteServer) -> AnyWorld:
    # The annotation matters: mypy checks here that both worlds have every member of `AnyWorld`.
    if request.param == "local":
        return server.world()
    return remote.world()


def client_of(world: AnyWorld, contract: Contract) -> ContractClient:
    return ContractClient(contract, world.url(contract.key), world.api_key, HTTP)


def order(world: AnyWorld, contract: Contract, **more: Any) -> str:
    _, model, body = documented(contract)
    for name, value in more.items():
        body = replaced(body, contract.operations["submit"].bindings[name].request[0].pointer, value)
    return str(client_of(world, contract).submit(model.id, body).reading.values["job"])


def poll(world: AnyWorld, contract: Contract, job: str) -> None:
    client_of(world, contract).call("status", path={"job": job})


def test_a_job_is_submitted_polled_and_billed(world: AnyWorld, contract: Contract) -> None:
    assert (world.jobs, world.journal, world.billed) == ([], [], Decimal(0))
    started = world.clock.now()
    job_id = order(world, contract)
    (job,) = world.jobs
    _, model, _ = documented(contract)
    assert isinstance(job, Job)
    assert (job.id, job.provider, job.model, job.scenario) == (job_id, contract.key, model.id, None)
    assert (job.created, job.timeline[0]) == (started, (started, contract.graph.initial))
    assert (job.error, job.collected, job.ends, job.held) == ((None, None), False, True, False)
    assert isinstance(job.order.seconds, int)
    assert job.order.references == ()
    assert job.curl.startswith("curl ")
    assert job.stage() == JobStage(contract.graph.initial, contract.graph[contract.graph.initial].kind)
    assert job.stage(job.finished).kind == "success"
    world.clock.advance(job.finished - started)
    poll(world, contract, job_id)
    (done,) = world.jobs
    assert done.collected
    assert (done.stage().kind, done.stage().terminal) == ("success", True)
    assert isinstance(world.billed, Decimal)
    assert world.billed == done.cost > 0
    life = contract.retention.result_url
    assert done.expires == (None if life is None else done.finished + life)


def test_the_clock_stands_is_advanced_and_runs(world: AnyWorld, contract: Contract) -> None:
    before = world.clock.now()
    assert isinstance(before, float)
    assert (world.clock.speed, world.clock.now()) == (0, before)
    world.clock.advance(60)
    assert world.clock.now() == before + 60
    world.arm({"timeline": {"move": "stuck"}})
    order(world, contract)
    order(world, contract)
    world.clock.run_until_idle()
    assert [job.stage().terminal for job in world.jobs] == [False, True]
    with pytest.raises(ValueError, match="-1"):
        world.clock.advance(-1)
    world.clock.set_speed(60)
    assert world.clock.speed == 60


def test_scenarios_are_armed_met_and_disarmed(world: AnyWorld, contract: Contract) -> None:
    first = world.arm("submit_rate_limited", provider=contract.key, seed=3)
    world.arm({"timeline": {"move": "slow"}}, jobs="all")
    assert isinstance(first, ArmedScenario)
    assert (first.scenario.name, first.left, first.seed, first.begun) == ("submit_rate_limited", 1, 3, 0)
    assert first.scenario.why
    assert (first.provider, first.fits, first.source, first.met) == (
        contract.key,
        frozenset([contract.key]),
        "control",
        {},
    )
    assert first.unmet() == ["submit/0 rate_limited (retry_after 2)"]
    assert [armed.left for armed in world.armed] == [1, None]
    assert world.unmet == ["submit_rate_limited: submit/0 rate_limited (retry_after 2)", "inline: timeline slow"]
    _, model, body = documented(contract)
    assert client_of(world, contract).submit(model.id, body).status >= 400
    assert (world.armed[0].met, world.armed[0].unmet(), world.armed[0].begun) == ({"submit/0": 1}, [], 1)
    job = order(world, contract)
    assert world.jobs[0].scenario is not None
    poll(world, contract, job)
    assert world.disarm() == 2
    assert (world.armed, world.unmet) == ([], [])


def test_the_journal_shows_requests_and_responses(world: AnyWorld, contract: Contract) -> None:
    job = order(world, contract)
    world.clock.advance(1)
    poll(world, contract, job)
    submitted, polled = world.journal
    assert isinstance(submitted, Exchange)
    assert (submitted.role, submitted.situation, submitted.made) == ("submit", "accepted", job)
    assert (polled.role, polled.job, polled.made, polled.method) == ("status", job, None, "GET")
    assert polled.moment == submitted.moment + 1 == world.clock.now()
    assert job.encode() in submitted.answer
    assert submitted.body.startswith(b"{")
    assert (polled.notes, polled.move, polled.nearest) == ((), None, None)
    assert submitted.notes[0].startswith("not fetched")
    headers = dict(submitted.headers)
    assert headers["content-type"] == "application/json"
    assert world.api_key not in str(submitted)
    assert world.wait_for(role="status", method="get") == [polled]
    assert len(world.wait_for(count=1)) == 2, "all that match are returned"
    with pytest.raises(TimeoutError, match=r"0 of 1 exchanges .*another"):
        world.wait_for(role="status", job="another", timeout=0.0)
    with pytest.raises(ValueError, match=r"'colour'; allowed: provider, role"):
        world.wait_for(colour="red")


def test_the_ledger_marks_duplicates(world: AnyWorld, contract: Contract) -> None:
    jobs = [order(world, contract) for _ in range(2)]
    world.clock.advance(86_400)
    ledger = world.ledger
    assert isinstance(ledger, Ledger)
    assert (ledger.billable, ledger.duplicates) == (2, 1)
    assert [(one.job, one.duplicate_of, one.billed) for one in ledger.entries] == [
        (jobs[0], None, True),
        (jobs[1], jobs[0], True),
    ]
    assert isinstance(ledger.entries[0].usd, Decimal)
    assert ledger.usd == world.billed == 2 * world.jobs[0].cost


@calling
def test_callbacks_are_recorded_and_delivered_again(
    world: AnyWorld, contract: Contract, httpserver: HTTPServer
) -> None:
    httpserver.expect_request("/done").respond_with_data("")
    quiet = order(world, contract)
    with pytest.raises(LookupError, match="without a callback URL"):
        world.redeliver(quiet)
    job = order(world, contract, callback_url=httpserver.url_for("/done"))
    world.clock.run_until_idle()
    (attempt,) = world.callbacks
    assert isinstance(attempt, CallbackAttempt)
    assert (attempt.job, attempt.number, attempt.status, attempt.error) == (job, 1, 200, None)
    assert (attempt.kind, attempt.false, attempt.acknowledged, attempt.note) == ("genuine", False, True, "")
    assert attempt.answered == attempt.moment == world.jobs[1].finished
    assert attempt.url == httpserver.url_for("/done")
    assert attempt.body == httpserver.log[0][0].get_data()
    assert attempt.headers["content-type"] == "application/json"
    world.redeliver(job)
    world.clock.advance(1)
    assert [attempt.number for attempt in world.callbacks] == [1, 0]


def test_a_job_is_moved_to_a_legal_stage_only(world: AnyWorld, contract: Contract) -> None:
    job = order(world, contract)
    first = contract.graph[contract.graph.initial]
    with pytest.raises(LifecycleError, match=first.next[0]):
        world.transition(job, "nowhere")
    with pytest.raises(LookupError, match="this world has no job 'x'"):
        world.transition("x", first.next[0])
    failure = contract.graph.ending("failure")
    assert failure is not None
    for name in contract.graph.path(first.name, failure.name)[1:]:
        world.transition(job, name, "E1", "moved")
    assert world.jobs[0].stage() == JobStage(failure.name, "failure")
    assert world.jobs[0].error == JobError("E1", "moved")


@contracts_that(lambda contract: contract.graph.ending("failure") is not None)
def test_the_end_of_the_next_job_can_be_set(world: AnyWorld, contract: Contract) -> None:
    failure = contract.graph.ending("failure")
    assert failure is not None
    world.end_next_job(failure.name, message="no horse")
    order(world, contract)
    order(world, contract)
    world.clock.advance(86_400)
    assert [job.stage().kind for job in world.jobs] == ["failure", "success"]
    assert world.jobs[0].error == (None, "no horse")
    with pytest.raises(ValueError, match=r"no provider has a terminal stage 'nowhere'; allowed: .*" + failure.name):
        world.end_next_job("nowhere")
    for _ in range(100):
        world.end_next_job(failure.name)
    with pytest.raises(ValueError, match="100 ends wait for their jobs"):
        world.end_next_job(failure.name)


@contracts_that(lambda contract: "cancel" in contract.operations)
def test_a_cancelled_job_costs_nothing(world: AnyWorld, contract: Contract) -> None:
    job = order(world, contract)
    client_of(world, contract).call("cancel", path={"job": job})
    world.clock.advance(86_400)
    assert world.jobs[0].stage().kind == "cancelled"
    assert world.billed == 0
    assert world.ledger.billable == 0


def test_limits_are_set_read_and_enforced(world: AnyWorld, contract: Contract) -> None:
    world.limit(balance=Decimal("0.01"), workers=2)
    assert isinstance(world.limits, Limits)
    assert (world.limits.balance, world.limits.workers) == (Decimal("0.01"), 2)
    _, model, body = documented(contract)
    assert client_of(world, contract).submit(model.id, body).status >= 400
    world.limit(balance=None)
    assert world.limits == Limits(workers=2)
    order(world, contract)
    with pytest.raises(ValueError, match="balanc"):
        world.limit(balanc=1)
    assert world.pace == "realistic"
    world.pace = "instant"
    assert world.pace == "instant"
    with pytest.raises(ValueError, match="leisurely"):
        world.pace = "leisurely"


def test_a_reset_forgets_the_named_parts(world: AnyWorld, contract: Contract) -> None:
    order(world, contract)
    world.arm("status_reset_peer")
    world.reset("jobs", "journal")
    assert (world.jobs, world.journal, len(world.armed)) == ([], [], 1)
    world.reset()
    assert world.armed == []
    with pytest.raises(ValueError, match="everything"):
        world.reset("everything")


def test_mistakes_are_complained_about_with_the_next_step(world: AnyWorld, contract: Contract) -> None:
    headers = {"authorization": f"Bearer {world.api_key}"}
    HTTP.get(f"{world.url(contract.key)}/no/such/path", headers=headers)
    _, model, _ = documented(contract)
    client_of(world, contract).submit(model.id, {})
    world.arm("status_reset_peer")
    world.arm({"timeline": {"move": "stuck"}})
    job, stuck = order(world, contract), order(world, contract)
    unmatched, invalid, unmet, late, uncollected = world.complaints()
    assert "GET /no/such/path: no operation; the nearest is" in unmatched
    assert f"hobbyhorse providers {contract.key}" in unmatched
    assert "the request breaks the contract" in invalid
    assert "status_reset_peer: status/0 reset_peer" in unmet
    assert "inline: timeline stuck" in late
    assert job in uncollected
    assert stuck not in uncollected
    assert world.complaints(["unmatched"]) == [unmatched]
    assert world.complaints([]) == []
    first = world.journal[0].nearest
    assert first is not None
    assert "path" in [one.part for one in first.differences]
    assert first.role in contract.operations


def test_wrong_names_raise_the_same_errors(world: AnyWorld, contract: Contract) -> None:
    for wrong in (world.url, world.env, world.trace, lambda name: world.arm("submit_rate_limited", provider=name)):
        with pytest.raises(KeyError, match=contract.key):
            wrong("unknown")
    with pytest.raises(ScenarioError, match=r"submit_rate_limted.*the nearest are .*submit_rate_limited"):
        world.arm("submit_rate_limted")
    with pytest.raises(ScenarioError):
        world.arm({"moves": {"paint": [{"move": "latency"}]}})
    with pytest.raises(ValueError, match="0"):
        world.arm("submit_rate_limited", jobs=0)
    assert world.api_key in world.env(contract.key).values()
    assert world.trace(contract.key).exchanges == ()


@calling
def test_both_worlds_of_a_key_read_the_same_records(
    server: MockServer, remote: RemoteServer, contract: Contract, httpserver: HTTPServer
) -> None:
    httpserver.expect_request("/done").respond_with_data("", status=500)
    local = server.world()
    far = remote.world(local.api_key)
    local.arm("status_reset_peer", jobs="all")
    order(local, contract, callback_url=httpserver.url_for("/done"))
    HTTP.get(f"{local.url(contract.key)}/no/such?a=1", headers={"authorization": f"Bearer {local.api_key}"})
    client_of(local, contract).submit(documented(contract)[1].id, {})
    local.clock.run_until_idle()
    assert len(local.callbacks) > 1
    for name in ("jobs", "journal", "callbacks", "ledger", "billed", "armed", "unmet", "limits", "pace"):
        assert getattr(local, name) == getattr(far, name), name
    assert local.complaints() == far.complaints()
    assert local.jobs[0].read == far.jobs[0].read == local.clock.now()
    assert local.trace(contract.key) == far.trace(contract.key)
