"""The world of a server in another process behaves like a local one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from hobbyhorse import MockServer
from hobbyhorse.conformance.contract_client import ContractClient
from hobbyhorse.contract.forms.expressions import replaced
from hobbyhorse.contract.values import Contract
from hobbyhorse.testing.local import MockWorld
from hobbyhorse.testing.remote import RemoteError, RemoteServer, RemoteWorld
from tests.conftest import contracts_that
from tests.world import HTTP, documented

LOCAL_ONLY = {"keep", "end_next_job", "limits"}


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer() as running:
        yield running


@pytest.fixture
def world(server: MockServer) -> Iterator[RemoteWorld]:
    remote = RemoteServer(server.url, clock="manual", pace="realistic")
    yield remote.world()
    remote.stop()


def order(world: RemoteWorld, contract: Contract, **more: Any) -> str:
    _, model, body = documented(contract)
    for name, value in more.items():
        body = replaced(body, contract.operations["submit"].bindings[name].request[0].pointer, value)
    client = ContractClient(contract, world.url(contract.key), world.api_key, HTTP)
    return str(client.submit(model.id, body).reading.values["job"])


def test_it_has_every_member_of_a_local_world(world: RemoteWorld) -> None:
    for name in dir(MockWorld):
        if not name.startswith("_") and name not in LOCAL_ONLY:
            assert name in {*dir(RemoteWorld), *vars(world)}, name


def test_a_job_is_ordered_moved_and_billed(world: RemoteWorld, contract: Contract) -> None:
    job = order(world, contract)
    assert [(one.id, one.provider, one.collected) for one in world.jobs] == [(job, contract.key, False)]
    assert world.billed == 0
    before = world.clock.now()
    world.clock.advance(3_600)
    assert world.clock.now() == before + 3_600
    assert world.jobs[0].__dict__["class"] == "success"
    assert world.billed == Decimal(str(world.jobs[0].cost)) == Decimal(str(world.ledger.entries[0].usd))
    assert [one.role for one in world.wait_for(role="submit")] == ["submit"]
    assert world.api_key in world.env(contract.key).values()
    with pytest.raises(KeyError, match=contract.key):
        world.env("unknown")


def test_the_clock_and_the_pace_are_its_own(server: MockServer, world: RemoteWorld) -> None:
    assert (world.clock.speed, world.pace) == (0, "realistic")
    another = RemoteServer(server.url)
    other = another.world()
    assert (other.clock.speed, other.pace) == (1, "fast")
    world.pace = "instant"
    world.clock.set_speed(60)
    assert (world.clock.speed, world.pace, other.pace) == (60, "instant", "fast")
    another.stop()
    with pytest.raises(ValueError, match="'sundial'; allowed: 'real', 'manual'"):
        RemoteServer(server.url, clock="sundial")


def test_scenarios_are_armed_met_and_disarmed(world: RemoteWorld, contract: Contract) -> None:
    world.arm("submit_rate_limited", provider=contract.key)
    world.arm({"timeline": {"move": "slow"}}, jobs=None, seed=2)
    assert [(armed.scenario, armed.jobs_left) for armed in world.armed] == [
        ("submit_rate_limited", 1),
        ("inline", "all"),
    ]
    assert len(world.unmet) == 2
    assert world.disarm() == 2
    assert world.unmet == []
    with pytest.raises(RemoteError, match=r"submit_rate_limted.*the nearest are .*submit_rate_limited"):
        world.arm("submit_rate_limted")


def test_a_job_is_moved_to_a_legal_stage_only(world: RemoteWorld, contract: Contract) -> None:
    job = order(world, contract)
    first = contract.graph[contract.graph.initial]
    with pytest.raises(RemoteError, match=first.next[0]):
        world.transition(job, "nowhere")
    world.transition(job, first.next[0])
    assert world.jobs[0].stage == first.next[0]


def test_limits_and_forgetting(world: RemoteWorld, contract: Contract) -> None:
    world.limit(balance=Decimal("0.01"))
    _, model, body = documented(contract)
    client = ContractClient(contract, world.url(contract.key), world.api_key, HTTP)
    assert client.submit(model.id, body).status >= 400
    assert len(world.journal) == 1
    world.reset("journal")
    assert world.journal == []
    with pytest.raises(RemoteError, match="everything"):
        world.reset("everything")


@contracts_that(lambda contract: contract.callbacks is not None)
def test_callbacks_are_seen_and_sent_again(world: RemoteWorld, contract: Contract, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/done").respond_with_data("")
    job = order(world, contract, callback_url=httpserver.url_for("/done"))
    world.clock.run_until_idle()
    assert [attempt.status for attempt in world.callbacks] == [200]
    world.redeliver(job)
    world.clock.advance(1)
    assert [attempt.number for attempt in world.callbacks] == [1, 0]


def test_its_complaints_name_the_next_step(world: RemoteWorld, contract: Contract) -> None:
    headers = {"authorization": f"Bearer {world.api_key}"}
    HTTP.get(f"{world.url(contract.key)}/no/such/path", headers=headers)
    _, model, _ = documented(contract)
    ContractClient(contract, world.url(contract.key), world.api_key, HTTP).submit(model.id, {})
    world.arm("status_reset_peer")
    job = order(world, contract)
    unmatched, invalid, unmet, uncollected = world.complaints()
    assert "the nearest is" in unmatched
    assert "does not match the contract" in invalid
    assert "status_reset_peer: status/0 reset_peer" in unmet
    assert "make the request, move the clock, or do not arm it" in unmet
    assert job in uncollected
    assert "move the clock if it has not ended, and poll it, or cancel it" in uncollected
    assert world.complaints([]) == []


def test_a_wait_that_fails_lists_the_exchanges(world: RemoteWorld, contract: Contract) -> None:
    order(world, contract)
    with pytest.raises(TimeoutError, match=r"0 of 1 exchanges .*submit"):
        world.wait_for(role="status", timeout=0.0)


def test_a_job_that_is_stuck_on_purpose_need_not_be_collected(world: RemoteWorld, contract: Contract) -> None:
    world.arm({"timeline": {"move": "stuck"}})
    stuck, usual = order(world, contract), order(world, contract)
    (complaint,) = world.complaints(["uncollected"])
    assert usual in complaint
    assert stuck not in complaint


def test_a_url_without_a_server_is_refused_immediately() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    with pytest.raises(
        RemoteError, match=r"no usable server at .*: Connection refused; start one with `hobbyhorse serve`"
    ):
        RemoteServer(url)
