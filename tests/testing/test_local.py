"""The server as an object: on a socket or in process, with separate worlds, manual clocks and complaints."""

from __future__ import annotations

import asyncio
import ssl
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

import hobbyhorse as package
from hobbyhorse import MockServer, MockWorld
from hobbyhorse.conformance.contract_client import ContractClient
from hobbyhorse.contract.lifecycle import LifecycleError
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.scenario import ScenarioError
from hobbyhorse.worlds.world import Ending
from tests.conftest import CONTRACTS, contracts_that
from tests.raw_client import PATIENCE
from tests.world import HTTP, documented


def client_of(world: MockWorld, contract: Contract) -> ContractClient:
    return ContractClient(contract, world.url(contract.key), world.api_key, HTTP)


def order(world: MockWorld, contract: Contract) -> str:
    _, model, body = documented(contract)
    return str(client_of(world, contract).submit(model.id, body).reading.values["job"])


def test_a_job_runs_on_a_manual_clock(contract: Contract) -> None:
    with MockServer(clock="manual", pace="realistic") as server:
        world = server.world()
        job = order(world, contract)
        client = client_of(world, contract)
        graph = contract.graph
        before = client.call("status", path={"job": job}).reading.stages
        assert not any(graph[name].terminal for name in before)
        assert world.billed == 0
        world.clock.advance(3_600)
        after = client.call("status", path={"job": job}).reading.stages
        assert all(graph[name].terminal for name in after)
        assert world.billed == world.jobs[0].cost > Decimal(0)
        assert [exchange.role for exchange in world.journal] == ["submit", "status", "status"]
        assert world.complaints() == []


def test_worlds_of_one_server_share_nothing() -> None:
    with MockServer(clock="manual") as server:
        one, two = server.world(), server.world()
        order(one, CONTRACTS[0])
        one.clock.advance(100)
        assert (len(one.jobs), len(two.jobs)) == (1, 0)
        assert one.clock.now() == two.clock.now() + 100
        assert server.world(one.api_key).jobs == one.jobs


@contracts_that(lambda contract: contract.graph.ending("failure") is not None)
def test_the_next_job_can_be_made_to_fail(contract: Contract) -> None:
    failure = contract.graph.ending("failure")
    assert failure is not None
    with MockServer(pace="instant") as server:
        world = server.world()
        world.end_next_job(failure.name, message="no horse")
        job = order(world, contract)
        role = "result" if "result" in contract.operations else "status"
        reading = client_of(world, contract).call(role, path={"job": job}).reading
        assert reading.values["error_message"] == "no horse"
        assert reading.stages == {failure.name}
        assert world.billed == 0
        with pytest.raises(ValueError, match="no provider has"):
            world.end_next_job("nowhere")


def test_requests_that_break_the_contract_are_complained_about() -> None:
    contract = CONTRACTS[0]
    with MockServer() as server:
        world = server.world()
        headers = {"authorization": f"Bearer {world.api_key}"}
        HTTP.get(f"{world.url(contract.key)}/no/such/path", headers=headers)
        client_of(world, contract).submit(contract.models[0].id, {})
        unmatched, invalid = world.complaints()
        assert "the nearest is" in unmatched
        assert "/no/such/path" in unmatched
        assert f"hobbyhorse providers {contract.key}" in unmatched
        assert "breaks the contract" in invalid


def test_waiting_for_an_exchange_returns_it_or_lists_the_others() -> None:
    contract = CONTRACTS[0]
    with MockServer() as server:
        world = server.world()
        order(world, contract)
        (exchange,) = world.wait_for(role="submit")
        assert exchange.job == world.jobs[0].id
        with pytest.raises(TimeoutError, match=r"0 of 1 exchanges with .*status.*seen: POST"):
            world.wait_for(role="status", timeout=0.0)


def test_a_running_clock_can_be_advanced_and_stopped() -> None:
    with MockServer() as server:
        clock = server.world().clock
        before = clock.now()
        clock.advance(3_600)
        assert clock.now() >= before + 3_600
        clock.set_speed(0)
        assert clock.speed == 0
        assert clock.now() == clock.now()
        with pytest.raises(ValueError, match="cannot advance a clock by -1 seconds"):
            clock.advance(-1)


def test_an_unknown_clock_or_provider_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'sundial'; allowed: 'real', 'manual'"):
        MockServer(clock="sundial")
    with pytest.raises(KeyError, match=CONTRACTS[0].key):
        MockServer().world().url("unknown")


def test_the_environment_of_a_world_has_its_url_and_key(contract: Contract) -> None:
    with MockServer() as server:
        world = server.world()
        environment = world.env(contract.key)
        assert world.url(contract.key) in environment.values()
        assert world.api_key in environment.values()


def test_a_server_can_be_started_again_and_its_port_is_free_after() -> None:
    server = MockServer()
    for _ in range(2):
        with server:
            assert httpx.get(server.url, trust_env=False).status_code == 200
            url = server.url
        with pytest.raises(httpx.ConnectError):
            httpx.get(url, trust_env=False)


@pytest.mark.anyio
async def test_in_process_clients_need_no_socket(contract: Contract, tmp_path: Path) -> None:
    async with MockServer(pace="instant", cache=tmp_path) as server:
        world = server.world()
        transport = httpx.ASGITransport(server.asgi)
        operation, model, body = documented(contract)
        path = operation.path
        for place in operation.bindings["model"].request:
            path = path.replace("{" + place.name + "}", model.id)
        async with httpx.AsyncClient(transport=transport, headers={"authorization": f"Bearer {world.api_key}"}) as http:
            response = await http.post(f"{world.url(contract.key)}{path}", json=body)
        assert response.status_code == operation.situations["accepted"].status
        assert len(world.jobs) == 1


def test_the_package_has_only_its_public_names() -> None:
    assert package.MockServer is MockServer
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        package.__getattr__("Nothing")
    assert Ending("x").message is None


def test_armed_faults_are_met_and_reported(contract: Contract) -> None:
    with MockServer(clock="manual") as server:
        world = server.world()
        world.arm("submit_rate_limited", provider=contract.key)
        world.arm({"timeline": {"move": "slow"}}, jobs="all", seed=3)
        assert world.unmet == ["submit_rate_limited: submit/0 rate_limited (retry_after 2)", "inline: timeline slow"]
        _, model, body = documented(contract)
        assert client_of(world, contract).submit(model.id, body).status == (
            contract.operations["submit"].situations["rate_limited"].status
        )
        job = order(world, contract)
        assert [armed.begun for armed in world.armed] == [1, 0]
        job = order(world, contract)
        client_of(world, contract).call("status", path={"job": job})
        assert world.unmet == []
        assert world.disarm() == 2
        with pytest.raises(ScenarioError, match=r"the nearest are .*submit_rate_limited"):
            world.arm("submit_rate_limted")
        with pytest.raises(ValueError, match="a number from 1, or 'all'"):
            world.arm("submit_rate_limited", jobs=0)


def test_a_job_is_moved_to_a_legal_stage_only(contract: Contract) -> None:
    with MockServer(clock="manual", pace="realistic") as server:
        world = server.world()
        job = order(world, contract)
        first = contract.graph[contract.graph.initial]
        with pytest.raises(LifecycleError, match=str(first.next[0])):
            world.transition(job, "nowhere")
        failure = contract.graph.ending("failure")
        assert failure is not None
        for name in contract.graph.path(first.name, failure.name)[1:]:
            world.transition(job, name, message="moved")
        assert world.jobs[0].stage(world.clock.now()).name == failure.name
        with pytest.raises(KeyError, match="no job 'x'"):
            world.transition("x", failure.name)


def test_a_world_can_be_limited_and_partly_reset(contract: Contract) -> None:
    with MockServer(clock="manual") as server:
        world = server.world()
        world.limit(concurrent_jobs=1)
        order(world, contract)
        _, model, body = documented(contract)
        assert client_of(world, contract).submit(model.id, body).status >= 400
        world.reset("jobs", "journal")
        assert (world.jobs, world.journal) == ([], [])
        assert world.limits.concurrent_jobs == 1
        order(world, contract)
        world.pace = "realistic"
        assert world.pace == "realistic"
        with pytest.raises(ValueError, match="'leisurely'; allowed: instant"):
            world.pace = "leisurely"


def test_running_until_idle_ends_every_job_that_ends(contract: Contract) -> None:
    with MockServer(clock="manual", pace="realistic") as server:
        world = server.world()
        world.arm({"timeline": {"move": "stuck"}})
        stuck, ends = order(world, contract), order(world, contract)
        world.clock.run_until_idle()
        stages = {job.id: job.stage(world.clock.now()).terminal for job in world.jobs}
        assert stages == {stuck: False, ends: True}


def test_a_full_reset_restores_the_initial_world() -> None:
    with MockServer(pace="instant") as server:
        world = server.world()
        world.limit(balance=1, workers=2)
        assert (world.limits.balance, world.limits.workers) == (Decimal(1), 2)
        world.pace = "realistic"
        world.reset("jobs")
        assert world.pace == "realistic"
        world.reset()
        assert (world.pace, world.limits.balance, world.limits.workers) == ("instant", None, None)
        with pytest.raises(ValueError, match="balanc"):
            world.limit(balanc=1)


def test_each_kind_of_complaint_can_be_requested_by_name(contract: Contract) -> None:
    with MockServer(clock="manual", pace="realistic") as server:
        world = server.world()
        job = order(world, contract)
        world.arm("status_reset_peer")
        (unmet,) = world.complaints(["unmet"])
        assert "status_reset_peer: status/0 reset_peer was armed and never met" in unmet
        (uncollected,) = world.complaints(["uncollected"])
        assert job in uncollected
        assert world.complaints(["invalid", "unmatched"]) == []
        world.clock.advance(3_600)
        client_of(world, contract).call("status", path={"job": job})
        assert world.complaints(["uncollected"]) == []


def test_a_clock_in_the_same_event_loop_is_awaited(contract: Contract) -> None:
    operation, model, body = documented(contract)

    async def main() -> None:
        async with MockServer(clock="manual", pace="realistic") as server:
            world = server.world()
            transport = httpx.ASGITransport(server.asgi)
            headers = {"authorization": f"Bearer {world.api_key}"}
            async with httpx.AsyncClient(transport=transport, headers=headers) as http:
                path = operation.path.replace("{model_id}", model.id)
                (await http.post(world.url(contract.key) + path, json=body)).raise_for_status()
            with pytest.raises(RuntimeError, match=r"await world\.clock\.awaited\.advance"):
                world.clock.advance(3_600)
            with pytest.raises(RuntimeError, match="an event loop runs here"):
                world.clock.run_until_idle()
            assert world.billed == 0
            await world.clock.awaited.advance(3_600)
            assert world.billed > 0
            world.clock.set_speed(2)
            assert world.clock.speed == 2

    asyncio.run(main())


def test_a_job_that_is_stuck_on_purpose_need_not_be_collected(contract: Contract) -> None:
    with MockServer(clock="manual", pace="realistic") as server:
        world = server.world()
        world.arm({"timeline": {"move": "stuck"}})
        stuck, usual = order(world, contract), order(world, contract)
        (complaint,) = world.complaints(["uncollected"])
        assert usual in complaint
        assert stuck not in complaint


def test_a_wait_ends_in_a_test_that_has_frozen_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with MockServer() as mock:
        world = mock.world()
        for name in ("time", "monotonic", "perf_counter"):
            monkeypatch.setattr(f"time.{name}", lambda: 1_768_478_400.0)
        with pytest.raises(TimeoutError, match="0 of 1 exchanges"):
            world.wait_for(1, timeout=0.2, role="status")


# ---- clients with fixed hosts


def test_with_tls_its_variables_lead_a_client_from_a_fixed_host_to_it(contract: Contract) -> None:
    _, model, body = documented(contract)
    with MockServer(pace="instant", tls=True) as server:
        variables, world = server.variables, server.world()
        trusted = ssl.create_default_context(cafile=variables["SSL_CERT_FILE"])
        with httpx.Client(proxy=variables["HTTPS_PROXY"], verify=trusted, trust_env=False, timeout=PATIENCE) as http:
            client = ContractClient(contract, f"https://{contract.hosts[0]}", world.api_key, http)
            job = client.submit(model.id, body).reading.values["job"]
            role = "result" if "result" in contract.operations else "status"
            link = str(client.call(role, path={"job": job}).reading.values["video_url"])
            assert link.startswith(f"https://{contract.hosts[0]}/media/")
            assert http.get(link).status_code == 200
        assert world.complaints() == []
        assert world.trace(contract.key).base == f"https://{contract.hosts[0]}"
    assert not Path(variables["SSL_CERT_FILE"]).exists()


def test_with_tls_the_other_origins_are_https_too_directly_and_through_the_proxy() -> None:
    with MockServer(tls=True, elsewhere=True) as server:
        trusted = ssl.create_default_context(cafile=server.variables["SSL_CERT_FILE"])
        assert set(server.origins) >= {"media", "port", "foreign"}
        for kind, origin in server.origins.items():
            assert origin.startswith("https://")
            expected = "not for clients" if kind == "private" else f"the {kind} origin does not serve this path"
            for proxy in (None, server.variables["HTTPS_PROXY"]):
                with httpx.Client(proxy=proxy, verify=trusted, trust_env=False, timeout=PATIENCE) as http:
                    assert expected in http.get(f"{origin}/nowhere").text


def test_without_tls_there_are_no_variables() -> None:
    with MockServer() as server:
        assert server.variables == {}
