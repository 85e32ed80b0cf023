"""A scrape over a socket agrees with the journals and ledgers, in whatever order the requests came."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hobbyhorse.conformance.contract_client import ContractClient
from hobbyhorse.contract.example_orders import documented_jobs
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.metrics.counters import NONE
from hobbyhorse.server.run import serving
from tests.conftest import CONTRACTS
from tests.world import HTTP, Mock

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]
REQUESTS = 1_000
KEYS = ("team-1-secret", "team-2-secret", "team-3-secret")


def figures(url: str, **headers: str) -> Figures:
    """Scrape a server, and return its figures by name and labels."""
    response = HTTP.get(f"{url}/metrics", headers=headers)
    assert response.status_code == 200, response.text
    assert not [key for key in KEYS if key in response.text]
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def by_labels(found: Figures, name: str, *labels: str) -> Counter[tuple[str, ...]]:
    """Return the figures of one name, by the values of some labels."""
    counted: Counter[tuple[str, ...]] = Counter()
    for (one, given), value in found.items():
        if one == name:
            counted[tuple(dict(given)[label] for label in labels)] += int(value)
    return counted


def use(fake: Fake, url: str, drawn: random.Random) -> None:
    """Send mixed requests: submissions, polls, cancellations, lists, wrong paths and keys, faults, and files."""
    clients = [
        ContractClient(contract, f"{url}/{contract.key}", key, HTTP) for contract in CONTRACTS for key in (*KEYS, "x")
    ]
    jobs: dict[ContractClient, list[str]] = {}
    for key in KEYS:
        armed = {"scenario": {"moves": {"status": [{"move": "server_error", "times": 5}]}}, "jobs": "all"}
        headers = {"authorization": f"Bearer {key}"}
        assert HTTP.post(f"{url}/_mock/scenarios/arm", json=armed, headers=headers).status_code == 201
    for _ in range(REQUESTS):
        client = drawn.choice(clients)
        kind = drawn.choice(["submit", "status", "status", "result", "cancel", "list", "nowhere"])
        mine = jobs.setdefault(client, [])
        if kind == "nowhere":
            HTTP.get(f"{url}/{client.contract.key}/{drawn.choice(['a', 'b/c'])}")
        elif kind == "submit":
            operation, model, body = next(iter(documented_jobs(client.contract)))
            done = client.call(operation.role, path={"model": model.id}, body=body)
            mine += [str(done.reading.values["job"])] if "job" in done.reading.values else []
        elif kind in client.contract.operations:
            path = {"job": drawn.choice([*mine, "unknown"])} if kind != "list" else {}
            client.call(kind, path=path)


def test_a_scrape_after_mixed_requests_agrees_with_journals_and_ledgers() -> None:
    fake = Fake(CONTRACTS, Options(pace="fast", api_keys=frozenset(KEYS)))
    with serving(fake) as url:
        use(fake, url, random.Random(7))
        world = fake.worlds.of(KEYS[0])
        assert world is not None
        for name in KEYS:
            headers = {"authorization": f"Bearer {name}"}
            HTTP.post(f"{url}/_mock/clock/advance", json={"seconds": 60}, headers=headers)
        found = figures(url)
        worlds = [*fake.worlds, fake.worlds.keyless]
        journals = [fake.journal, *(one.journal for one in worlds)]
        exchanges = [one for journal in journals for one in journal]
        seen = Counter((one.provider, one.role or NONE, one.situation or NONE) for one in exchanges)
        assert sum(journal.total for journal in journals) == sum(map(len, journals)) > REQUESTS / 2
        assert by_labels(found, "hobbyhorse_requests_total", "provider", "operation", "situation") == seen
        assert len(seen) > 30
        faults = Counter((one.provider, one.move) for one in exchanges if one.move)
        assert by_labels(found, "hobbyhorse_faults_total", "provider", "fault") == faults
        assert sum(faults.values()) > 20
        durations = by_labels(found, "hobbyhorse_request_duration_seconds_count", "provider", "operation")
        operations: Counter[tuple[str, ...]] = Counter()
        for (provider, role, _), count in seen.items():
            operations[str(provider), role] += count
        assert durations == operations
        stages = Counter((entry.provider, entry.stage) for one in worlds for entry in one.ledger().entries)
        assert +by_labels(found, "hobbyhorse_jobs", "provider", "stage") == stages
        assert found["hobbyhorse_worlds", frozenset()] == len(KEYS)
        assert found["hobbyhorse_armed_scenarios", frozenset()] == len(KEYS)
        assert found["hobbyhorse_journal_bytes", frozenset()] == sum(journal.kept_bytes for journal in journals[1:])


def test_callbacks_files_and_renderings_are_counted() -> None:
    contract = next(one for one in CONTRACTS if one.callbacks is not None)
    fake = Fake([contract], Options(pace="instant"))
    with serving(fake) as url:
        client = ContractClient(contract, f"{url}/{contract.key}", KEYS[0], HTTP)
        operation, model, body = next(iter(documented_jobs(contract)))
        done = client.call(operation.role, path={"model": model.id}, body=body)
        job = str(done.reading.values["job"])
        video = client.call("status", path={"job": job}).reading.values["video_url"]
        assert HTTP.get(str(video)).status_code == 200
        assert HTTP.get(str(video), headers={"range": "bytes=0-9"}).status_code == 206
        found = figures(url)
        files = by_labels(found, "hobbyhorse_requests_total", "operation", "situation")
        assert (files["media", "200"], files["media", "206"]) == (1, 1)
        # The cache of an earlier run may have had the file.
        assert sum(by_labels(found, "hobbyhorse_render_duration_seconds_count", "file", "outcome").values()) <= 1


@pytest.mark.anyio
async def test_a_scrape_sums_over_the_processes() -> None:
    contract = CONTRACTS[0]
    one, other = Mock([contract]), Mock([contract])
    for number, mock in ((1, one), (2, other)):
        for _ in range(number):
            await mock.submit(contract)

    async def others() -> list[dict[str, Any]]:
        return [json.loads(json.dumps(await other.fake.metrics.figures()))]

    one.fake.metrics.others = others
    text = (await one.send("GET", "/metrics", host="localhost")).body.decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    totals: Counter[str] = Counter()
    for sample in samples:
        totals[sample.name] += int(sample.value)
    names = ("hobbyhorse_requests_total", "hobbyhorse_jobs", "hobbyhorse_worlds")
    assert [totals[name] for name in names] == [3, 3, 2]
    # The figures of this process alone are not changed by a scrape.
    assert [one.count for one in one.fake.metrics.counters.requests.values()] == [1]
    for mock in (one, other):
        await mock.fake.close()


@pytest.mark.anyio
async def test_a_host_of_a_provider_has_metrics_of_its_own_or_none() -> None:
    mock = Mock(CONTRACTS, strict=False)
    assert (await mock.send("GET", "/metrics", host="localhost")).status == 200
    reply = await mock.send("GET", "/metrics", host=CONTRACTS[0].hosts[0])
    assert (reply.status, b"hobbyhorse" in reply.body) == (404, False)


@pytest.mark.anyio
async def test_other_machines_need_the_control_key() -> None:
    open_to_all = Mock(CONTRACTS[:1], loopback=False)
    assert (await open_to_all.send("GET", "/metrics", host="10.0.0.1")).status == 403
    mock = Mock(CONTRACTS[:1], loopback=False, control_key="main", admin_key="admin")
    for path in ("/metrics", "/_mock/metrics"):
        for key, status in ((None, 403), ("other", 403), ("main", 200), ("admin", 200)):
            assert (await mock.send("GET", path, host="mock.internal", key=key)).status == status
    refused = (await mock.send("GET", "/metrics", host="mock.internal", key="other")).json["error"]
    assert "control key or admin key" in refused["hint"]
    foreign = await mock.send("GET", "/metrics", key="main", headers={"origin": "http://evil.example"})
    assert foreign.status == 403
    here = Mock(CONTRACTS[:1], control_key="main")
    assert (await here.send("GET", "/metrics", host="localhost", key=None)).status == 200
    assert (await here.send("GET", "/metrics", host="evil.example", key=None)).status == 403
    await here.fake.close()
