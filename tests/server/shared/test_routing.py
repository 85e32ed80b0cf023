"""Two processes on one port: each responds to each request of each key, as one would."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hobbyhorse.conformance.contract_client import ContractClient
from hobbyhorse.contract.values import Contract
from hobbyhorse.worlds.world import hash_of
from tests.conftest import CONTRACTS
from tests.server.kept import crash
from tests.state.redis_server import RedisServer, needs_redis
from tests.world import documented

pytestmark = needs_redis

PATIENCE = 30.0
ADMIN = ("--admin-key", "the admin")
# Mixed requests before a scrape.
REQUESTS = 1_000
# So many connections that each process gets some: all of one process have the probability 2 ** -15.
CONNECTIONS = 16


@pytest.fixture(scope="module")
def server(redis: RedisServer) -> Iterator[crash.Served]:
    with crash.serving("--state", redis.url, "--processes", "2", "--pace", "instant", *ADMIN) as found:
        yield found


@pytest.fixture
def clients() -> Iterator[list[httpx.Client]]:
    found = [httpx.Client(trust_env=False, timeout=PATIENCE) for _ in range(CONNECTIONS)]
    yield found
    for client in found:
        client.close()


def caller(contract: Contract, server: crash.Served, key: str, client: httpx.Client) -> ContractClient:
    return ContractClient(contract, f"{server.url}/{contract.key}", key, client)


def submit(client: ContractClient) -> str:
    _, model, body = documented(client.contract)
    reply = client.submit(model.id, body)
    assert "accepted" in reply.reading.situations, reply.content
    return str(reply.reading.values["job"])


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.key)
def test_each_connection_sees_the_jobs_of_all_others(
    contract: Contract, server: crash.Served, clients: list[httpx.Client]
) -> None:
    keys = [f"routing-{contract.key}-{number}" for number in range(3)]
    jobs = {key: [submit(caller(contract, server, key, client)) for client in clients] for key in keys}
    assert len({job for found in jobs.values() for job in found}) == 3 * CONNECTIONS
    for key, found in jobs.items():
        for client in clients:
            headers = {"authorization": f"Bearer {key}"}
            listed = client.get(f"{server.url}/_mock/jobs", headers=headers).json()
            assert [job["id"] for job in listed["jobs"]] == found
        shown = caller(contract, server, key, clients[0]).call("status", path={"job": found[-1]})
        assert all(contract.graph[name].terminal for name in shown.reading.stages)
        other = caller(contract, server, "another-key", clients[0]).call("status", path={"job": found[-1]})
        assert other.status >= 400


def test_a_link_is_served_through_each_connection(server: crash.Served, clients: list[httpx.Client]) -> None:
    contract = CONTRACTS[0]
    first = caller(contract, server, "links", clients[0])
    job = submit(first)
    shown = first.call("status", path={"job": job})
    if "video_url" not in shown.reading.values:
        shown = first.call("result", path={"job": job})
    link = str(shown.reading.values["video_url"])
    videos = {client.get(link).content for client in clients}
    assert len(videos) == 1
    assert b"ftyp" in videos.pop()[:12]
    assert {client.get(link.replace("/media/", "/media/0123456789abcdef/x/")).status_code for client in clients} <= {
        403,
        404,
    }


def test_a_fault_on_the_connection_reaches_the_client_through_each_connection(
    server: crash.Served, clients: list[httpx.Client]
) -> None:
    contract = CONTRACTS[0]
    job = submit(caller(contract, server, "faults", clients[0]))
    headers = {"authorization": "Bearer faults"}
    scenario = {"moves": {"status": [{"move": "reset_peer", "times": CONNECTIONS}]}}
    arming = f"{server.url}/_mock/scenarios/arm"
    armed = clients[0].post(arming, json={"scenario": scenario, "jobs": "all"}, headers=headers)
    assert armed.status_code < 300, armed.text
    job = submit(caller(contract, server, "faults", clients[0]))
    resets = 0
    for client in clients:
        try:
            caller(contract, server, "faults", client).call("status", path={"job": job})
        except httpx.ReadError:
            resets += 1
    assert resets == CONNECTIONS


def test_a_scrape_of_each_process_agrees_with_the_ledgers_of_all(
    server: crash.Served, clients: list[httpx.Client]
) -> None:
    before = scraped(server, clients[0])
    drawn, contract, keys = random.Random(5), CONTRACTS[0], [f"metrics-{number}" for number in range(6)]
    jobs: dict[str, list[str]] = {key: [] for key in keys}
    for _ in range(REQUESTS):
        key, client = drawn.choice(keys), drawn.choice(clients)
        if not jobs[key] or drawn.random() < 0.3:
            jobs[key].append(submit(caller(contract, server, key, client)))
        else:
            caller(contract, server, key, client).call("status", path={"job": drawn.choice([*jobs[key], "unknown"])})
    for client in clients:
        after = scraped(server, client)
        assert after["hobbyhorse_processes"] == 2
        assert after["hobbyhorse_requests_total"] - before["hobbyhorse_requests_total"] == REQUESTS
        assert after["hobbyhorse_worlds"] - before["hobbyhorse_worlds"] == len(keys)
        ledgers = [ledger(server, client, key) for key in keys]
        assert after["hobbyhorse_jobs"] - before["hobbyhorse_jobs"] == sum(map(len, ledgers))
        assert [{str(entry["job"]) for entry in one} for one in ledgers] == [set(jobs[key]) for key in keys]


def scraped(server: crash.Served, client: httpx.Client) -> Counter[str]:
    """Scrape a process; return the sum of each figure over its labels."""
    text = client.get(f"{server.url}/metrics").text
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] += int(sample.value)
    return found


def ledger(server: crash.Served, client: httpx.Client, key: str) -> list[dict[str, Any]]:
    """Return the entries of a key's ledger."""
    shown = client.get(f"{server.url}/_mock/ledger", headers={"authorization": f"Bearer {key}"})
    entries: list[dict[str, Any]] = shown.json()["entries"]
    return entries


def test_without_redis_a_request_waits_and_gets_the_providers_overloaded(
    server: crash.Served, redis: RedisServer, clients: list[httpx.Client]
) -> None:
    contract = next(one for one in CONTRACTS if "overloaded" in one.operations["status"].situations)
    here = caller(contract, server, "away", clients[0])
    job = submit(here)
    redis.send(signal.SIGSTOP)
    try:
        time.sleep(4.5)
        began = time.monotonic()
        refused = here.call("status", path={"job": job})
        assert "overloaded" in refused.reading.situations
        assert 3 < time.monotonic() - began < 8
    finally:
        redis.send(signal.SIGCONT)
    until = time.monotonic() + PATIENCE
    while not here.call("status", path={"job": job}).reading.stages:
        assert time.monotonic() < until


def test_a_redis_that_came_back_empty_ends_the_server_with_status_3(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path / "redis")
    redis.start()
    try:
        with crash.serving("--state", redis.url, "--processes", "2", "--pace", "instant") as server:
            assert "what was acknowledged may be lost if it is killed" in server.said()
            redis.kill()
            redis.start()
            assert server.process.wait(PATIENCE) == 3
            lines = [line for line in server.said().splitlines() if "has lost the state" in line]
            assert lines
            assert lines[0].startswith(f"hobbyhorse: Redis at {redis.url} has lost the state")
    finally:
        redis.kill()


def test_each_process_lists_the_worlds_of_all_and_forgets_any(
    server: crash.Served, clients: list[httpx.Client]
) -> None:
    url, headers = f"{server.url}/_mock/worlds", {"x-mock-admin-key": "the admin"}

    def listed(client: httpx.Client) -> dict[str, Any]:
        found = client.get(f"{url}?limit=1000", headers=headers).raise_for_status().json()
        worlds = {world["key"]: world for world in found["worlds"]}
        assert found["total"] == len(worlds)
        return worlds

    contract, keys = CONTRACTS[0], [f"listed-{number}" for number in range(6)]
    for client, key in zip(clients, keys, strict=False):
        submit(caller(contract, server, key, client))
    # A process writes what no response has waited for, such as the end of a job, within a quarter of a second.
    until = time.monotonic() + PATIENCE
    while any(listed(client)[hash_of(key)]["jobs"] != 1 for client in clients for key in keys):
        assert time.monotonic() < until
    for client, key in zip(reversed(clients), keys, strict=False):
        handle = listed(client)[hash_of(key)]["handle"]
        assert client.delete(f"{url}/{handle}", headers=headers).json() == {"forgotten": handle}
        assert [hash_of(key) in listed(other) for other in clients] == [False] * CONNECTIONS
    assert clients[0].delete(f"{url}/{'0' * 16}", headers=headers).status_code == 404
