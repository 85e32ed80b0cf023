"""The contracts and scenarios of a running server, changed in their files."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from hobbyhorse.contract.folder import ContractError, load_all
from hobbyhorse.contract.values import Contract
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.reloading.sources import watch_of
from hobbyhorse.server.reloading.watch import ReloadError, Watch
from tests.conftest import ROOT
from tests.server.observing.running import BODY, KEY, TASKS, running

pytestmark = pytest.mark.anyio


class Watched:
    """A server that watches copies of a contract and a folder of scenarios."""

    def __init__(self, folder: Path) -> None:
        self.contracts, self.scenarios = folder / "contracts", folder / "scenarios"
        shutil.copytree(ROOT / "contracts" / "hiapi", self.contracts / "hiapi")
        self.scenarios.mkdir()
        self.lines: list[str] = []
        options = Options(scenarios=(self.scenarios,), watch=self._watch)
        self.fake = Fake(load_all(self.contracts), options)
        for source in self.watch.sources:
            source.begin()

    def _watch(self, fake: Fake) -> Watch:
        self.watch = watch_of(
            fake,
            contracts=self.contracts,
            read_contracts=self._read,
            report=self.lines.append,
            complain=self.lines.append,
        )
        return self.watch

    def _read(self) -> list[Contract]:
        try:
            return load_all(self.contracts)
        except ContractError as error:
            raise ReloadError(str(error)) from None

    async def change(self, name: str, before: str, after: str) -> None:
        """Change a text in a file of the contract, and let the watch see it."""
        path = self.contracts / "hiapi" / name
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))
        await self.look()

    async def look(self) -> None:
        await self.watch.look()
        await self.watch.look()


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


async def submit(client: httpx.AsyncClient) -> str:
    response = await client.post(TASKS, json=BODY)
    job: str = response.json()["data"]["taskId"]
    return job


async def health(client: httpx.AsyncClient) -> Any:
    response = await client.get("/_mock/health")
    assert response.status_code == 200
    return response.json()


async def test_a_changed_contract_serves_the_next_request_and_jobs_stay(watched: Watched) -> None:
    async with running(watched.fake) as client:
        job = await submit(client)
        before = watched.fake.contracts
        await watched.change("openapi.json", "/v1/tasks", "/v2/tasks")
        assert watched.fake.contracts != before
        poll = await client.get(f"/hiapi/v2/tasks/{job}")
        assert poll.json()["data"]["taskId"] == job
        assert (await client.get(f"{TASKS}/{job}")).status_code == 404
        assert await submit_to(client, "/hiapi/v2/tasks")
        assert (await client.get("/_mock/jobs")).json()["total"] == 2
    assert watched.lines == ["the contracts were read again"]


async def submit_to(client: httpx.AsyncClient, path: str) -> bool:
    return (await client.post(path, json=BODY)).is_success


async def test_a_broken_contract_keeps_the_old_one_and_health_says_so(watched: Watched) -> None:
    async with running(watched.fake) as client:
        assert await health(client) == {"status": "ok"}
        await watched.change("lifecycle.json", '"stages"', '"stadia"')
        assert await submit(client)
        (problem,) = (await health(client))["problems"]
        assert problem.startswith("contracts: hiapi/lifecycle.json")
        assert str(watched.contracts) not in problem
        assert len(watched.lines) == 1
        await watched.change("lifecycle.json", '"stadia"', '"stages"')
        assert await health(client) == {"status": "ok"}


async def test_a_contract_that_is_equal_stays_the_same_object(watched: Watched) -> None:
    (before,) = watched.fake.contracts
    path = watched.contracts / "hiapi" / "openapi.json"
    path.write_text(json.dumps(json.loads(path.read_text())))
    await watched.look()
    assert watched.lines == ["the contracts were read again"]
    assert watched.fake.contracts[0] is before


async def test_other_stages_are_refused_while_there_are_jobs(watched: Watched) -> None:
    (before,) = watched.fake.contracts
    (*_, last) = before.graph
    stages = {stage.name: stage for stage in before.graph if stage is not last}
    without = replace(before, graph=replace(before.graph, stages=stages))
    watched.fake.adopt_contracts([without])
    watched.fake.adopt_contracts([before])
    async with running(watched.fake) as client:
        await submit(client)
        with pytest.raises(ReloadError, match=f"hiapi: there are jobs, but no stage '{last.name}' any more; restart"):
            watched.fake.adopt_contracts([without])
        assert watched.fake.contracts == (before,)
        assert await submit(client)


async def test_other_durations_are_accepted_while_there_are_jobs(watched: Watched) -> None:
    async with running(watched.fake) as client:
        job = await submit(client)
        stages = json.loads((watched.contracts / "hiapi" / "lifecycle.json").read_text())["stages"]
        least, most = next(spec["lasts"] for spec in stages.values() if "lasts" in spec)
        await watched.change("lifecycle.json", f'"lasts": [{least}, {most}]', f'"lasts": [{least}, {most + 1}]')
        assert await health(client) == {"status": "ok"}
        assert (await client.get(f"{TASKS}/{job}")).json()["data"]["taskId"] == job


async def test_a_new_provider_is_served_and_a_removed_one_is_not(watched: Watched) -> None:
    async with running(watched.fake) as client:
        shutil.copytree(ROOT / "contracts" / "vtrix", watched.contracts / "vtrix")
        await watched.look()
        assert (await client.get("/")).json()["providers"].keys() == {"hiapi", "vtrix"}
        shutil.rmtree(watched.contracts / "hiapi")
        await watched.look()
        assert (await client.get("/")).json()["providers"].keys() == {"vtrix"}
        assert (await client.post(TASKS, json=BODY)).json()["error"]["code"] == "unknown_path"
        shutil.rmtree(watched.contracts / "vtrix")
        await watched.look()
        assert "contains no contract" in (await health(client))["problems"][0]
        assert (await client.get("/")).json()["providers"].keys() == {"vtrix"}


async def test_a_scenario_is_read_again_and_a_broken_one_keeps_the_old(watched: Watched) -> None:
    file = watched.scenarios / "mine.json"
    async with running(watched.fake) as client:
        file.write_text('{"why": "one", "moves": {"status": [{"move": "html_page"}]}}')
        await watched.look()
        assert (await client.get("/_mock/scenarios/mine")).json()["why"] == "one"
        file.write_text('{"why": "two", "moves": {"status": [{"move": "html_page", "tiems": 2}]}}')
        await watched.look()
        assert (await client.get("/_mock/scenarios/mine")).json()["why"] == "one"
        (problem,) = (await health(client))["problems"]
        assert problem.startswith("scenarios: mine.json: /moves/status/0: ")
        file.unlink()
        await watched.look()
        assert (await client.get("/_mock/scenarios/mine")).status_code == 404
        assert await health(client) == {"status": "ok"}


async def test_a_running_job_ends_as_its_old_contract_says(watched: Watched) -> None:
    async with running(watched.fake) as client:
        job = await submit(client)
        world = watched.fake.worlds.of(KEY)
        assert world is not None
        kept = world.jobs[job].contract
        await watched.change("openapi.json", "/v1/tasks", "/v2/tasks")
        assert world.jobs[job].contract is kept
        assert watched.fake.contracts[0] is not kept
