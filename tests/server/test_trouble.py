"""Under any armed scenario the server keeps working, and other worlds are not affected."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hobbyhorse.conformance.client.scenario_space import deviations, scenarios
from hobbyhorse.contract.forms.expressions import MISSING, replaced, resolve
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.armed import SUBMISSIONS
from hobbyhorse.scenarios.fields import FILE_URLS, JOB_URLS
from hobbyhorse.scenarios.scenario import Scenario, ScenarioError, misfits, read_scenario
from hobbyhorse.server.socket_faults import Dropped
from hobbyhorse.server.trouble import HEADER, MARK_BEGINS, MOST_MARKS, marked_scenario
from tests.conftest import CONTRACTS, many
from tests.world import KEY, Mock, Reply, documented

NOBODY = "http://127.0.0.1:9/callback"
MOST_ADVANCES = 100
PATIENCE = 30.0
"""Seconds of real time after which a request counts as hung; none comes near."""

SCENARIOS = many(2_000, 40)
"""Scenarios generated for each provider; 2,000 at night."""


class Session:
    """A client that uses every operation and accepts any response."""

    def __init__(self, contract: Contract, scenario: Scenario | None) -> None:
        self.contract = contract
        self.mock = Mock([contract], strict=True)
        self.statuses: list[int] = []
        if scenario is not None:
            self.mock.world.scenarios.arm(scenario, [contract], jobs=None)
        self.scenario = scenario

    async def ask(self, role: str, key: str = KEY, **how: Any) -> Reply | None:
        task = asyncio.ensure_future(self.mock.call_plain(self.contract, role, key=key, **how))
        for _ in range(MOST_ADVANCES):
            await asyncio.wait({task}, timeout=0.001 if role == "run" else PATIENCE)
            if task.done():
                break
            assert role == "run", f"{role} hangs"
            await self.mock.clock.advance(100.0)  # a `run` holds its connection until the job has ended
        else:
            await asyncio.wait({task}, timeout=PATIENCE)
            assert task.done(), f"{role} hangs"
        try:
            reply = task.result()
        except (Dropped, IndexError):
            return None  # IndexError: the server sent nothing to a client that was gone
        self.statuses.append(reply.status)
        return reply

    async def run(self) -> None:  # noqa: C901
        """Submit twice, call every other operation while the clock advances, and fetch the video."""
        contract, world = self.contract, self.mock.world
        for role in ("submit", "run"):
            if role in contract.operations and (role == "submit" or self.concerns("run")):
                operation, model, body = documented(contract, role=role)
                for pointer in model.parameters.get("seed", ()):
                    body = replaced(body, pointer, 7)  # the same video each time, from the cache
                place = operation.bindings.get("callback_url")
                if place is not None and self.concerns("callback"):
                    body = replaced(body, place.request[0].pointer, NOBODY)
                for _ in range(2):
                    await self.ask(role, path={"model": model.id}, body=body)
        for _ in range(3):
            for job_id in list(world.jobs):
                for role in ("status", "result", "cancel", "operator_cancel", "redeliver"):
                    if role in contract.operations and (role != "cancel" or job_id == next(iter(world.jobs))):
                        await self.ask(role, path={"job": job_id})
            for role in ("list", "models", "categories", "health"):
                if role in contract.operations:
                    await self.ask(role)
            await self.mock.clock.advance(700.0)
        for job in world.jobs.values():
            if job.stage(self.mock.clock.now()).kind == "success" and self.concerns("media"):
                path = f"/media/{world.handle}/{job.id}/video.mp4"
                query = self.mock.fake.worlds.signer.query(path, job.expires)
                with suppress(Dropped, IndexError):
                    await self.mock.send("GET", f"{path}?{query}")
                break

    def concerns(self, role: str) -> bool:
        """Whether the scenario has faults for a role."""
        return self.scenario is not None and role in self.scenario.moves

    async def next_world_is_happy(self) -> None:
        """Check that the scenario does not affect the world of another key."""
        other = "another-key"
        job = await self.mock.submit(self.contract, key=other)
        reply = await self.mock.call(self.contract, "status", path={"job": job}, key=other)
        assert reply.reading is not None
        assert self.contract.graph.initial in reply.reading.stages
        world = self.mock.fake.worlds.of(other)
        assert world is not None
        assert [exchange.move for exchange in world.journal] == [None, None]


def statuses_of(scenario: Scenario, contract: Contract) -> set[int]:
    """Return the statuses that a scenario itself sets."""
    found = set()
    for role, moves in scenario.moves.items():
        for move in moves:
            found |= {move.options.get(name, 200) for name in ("status", "gateway_status", "passing_status")}
            if role in contract.operations and move.kind in contract.operations[role].situations:
                found.add(contract.operations[role].situations[move.kind].status)
    return found


@settings(max_examples=SCENARIOS, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_no_scenario_breaks_the_server(contract: Contract, data: st.DataObject) -> None:
    scenario = read_scenario(data.draw(scenarios(contract)))
    asked_for = statuses_of(scenario, contract)

    async def play() -> None:
        session = Session(contract, scenario)
        try:
            await session.run()
            own = {status for status in session.statuses if status >= 500} - asked_for
            assert not own - {503}, own
            if 503 in own:  # a `run` that holds its connection until the client is gone
                assert "run" in contract.operations
            await session.next_world_is_happy()
        finally:
            await session.mock.fake.close()

    asyncio.run(play())


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.key)
def test_each_single_fault_is_met_or_its_operation_never_called(contract: Contract) -> None:
    """A fault on an operation of the session is met; any other is reported as unmet."""

    async def play(said: dict[str, Any]) -> tuple[list[str], int]:
        session = Session(contract, read_scenario(said))
        try:
            await session.run()
            (armed,) = session.mock.world.scenarios.armed
            return armed.unmet(), armed.begun
        finally:
            await session.mock.fake.close()

    unmet = {}
    for said in deviations(contract):
        missed, _ = asyncio.run(play(said))
        if missed:
            unmet[str(said)] = missed
    assert all(_cannot_be_met(said) for said in unmet), [said for said in unmet if not _cannot_be_met(said)]


def _cannot_be_met(said: str) -> bool:
    """Whether a session without faults never reaches the fault: its field is shown in another stage only."""
    return "field" in said or "wrong_type" in said or "'model'" in said or "'callback'" in said


@pytest.mark.anyio
async def test_the_same_seed_gives_the_same_run_byte_for_byte(contract: Contract) -> None:
    scenario = read_scenario(
        {"moves": {"submit": [{"move": "malformed_json"}], "status": [{"move": "malformed_json"}]}}
    )
    runs = []
    for seed in (7, 7, 8):
        mock = Mock([contract])
        mock.world.scenarios.arm(scenario, [contract], seed=seed)
        operation, model, body = documented(contract)
        first = await mock.call_plain(contract, "submit", path={"model": model.id}, body=body)
        (job,) = mock.world.jobs
        second = await mock.call_plain(contract, "status", path={"job": job})
        runs.append((first.body, second.body, mock.world.jobs[job].timeline))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.anyio
async def test_a_request_can_name_its_scenario_in_a_header_or_in_its_prompt(contract: Contract) -> None:
    mock = Mock([contract])
    operation, model, body = documented(contract)
    refused = operation.situations["rate_limited"].status
    named = await mock.call(
        contract, "submit", path={"model": model.id}, body=body, headers={HEADER: "submit_rate_limited"}
    )
    assert named.status == refused
    assert (await mock.call(contract, "submit", path={"model": model.id}, body=body)).status < 300
    for place in model.parameters["prompt"]:
        marked = replaced(body, place, "a horse [[scenario:submit_rate_limited]] runs")
    assert (await mock.call(contract, "submit", path={"model": model.id}, body=marked)).status == refused
    assert [armed.source for armed in mock.world.scenarios.armed] == ["header", "prompt"]
    assert mock.world.scenarios.unmet() == []


def test_few_beginnings_of_a_mark_are_looked_at() -> None:
    mark = MARK_BEGINS + b"stuck]]"
    assert marked_scenario(b"a " + mark) == "stuck"
    assert marked_scenario((MARK_BEGINS + b"]") * (MOST_MARKS - 1) + mark) == "stuck"
    assert marked_scenario((MARK_BEGINS + b"]") * MOST_MARKS + mark) is None
    assert marked_scenario(MARK_BEGINS) is None


@pytest.mark.anyio
async def test_a_name_that_no_scenario_has_is_refused_in_the_providers_shape(contract: Contract) -> None:
    mock = Mock([contract])
    _, model, body = documented(contract)
    for role, how in (("submit", {"path": {"model": model.id}, "body": body}), ("status", {"path": {"job": "x"}})):
        reply = await mock.call(contract, role, headers={HEADER: "submit_rate_limted"}, **how)
        assert 400 <= reply.status < 500
        if role == "submit":
            assert b"submit_rate_limited" in reply.body
    assert not mock.world.jobs


@pytest.mark.anyio
async def test_for_how_many_jobs_a_scenario_is_armed(contract: Contract) -> None:
    scenario = read_scenario({"moves": {"submit": [{"move": "rate_limited", "times": 2}]}})
    for jobs, trouble in ((1, 2), (2, 4), (None, 6)):
        mock = Mock([contract])
        mock.world.scenarios.arm(scenario, [contract], jobs=jobs)
        _, model, body = documented(contract)
        replies = [await mock.call(contract, "submit", path={"model": model.id}, body=body) for _ in range(9)]
        assert [reply.status >= 400 for reply in replies].count(True) == trouble
        assert replies[2].status < 300


@pytest.mark.anyio
async def test_a_client_that_submits_again_meets_the_next_fault_and_pays_for_each_job(contract: Contract) -> None:
    mock = Mock([contract])
    said = {"moves": {"submit": [{"move": "accept_then_drop", "times": 2}, {"move": "rate_limited"}]}}
    armed = mock.world.scenarios.arm(read_scenario(said), [contract])
    _, model, body = documented(contract)
    for jobs in (1, 2):
        with pytest.raises(Dropped):
            await mock.call_plain(contract, "submit", path={"model": model.id}, body=body)
        assert len(mock.world.jobs) == jobs
    assert (await mock.call(contract, "submit", path={"model": model.id}, body=body)).status >= 400
    assert armed.unmet() == []
    await mock.submit(contract)
    plays = [job.active_scenario for job in mock.world.jobs.values()]
    assert plays[0] is plays[1] is not None
    assert plays[2] is None
    assert mock.world.ledger().duplicates == 2


@pytest.mark.anyio
async def test_a_fault_on_every_submission_starts_over_with_each_remaining_job(contract: Contract) -> None:
    said = {"moves": {"submit": [{"move": "extra_field", "times": "always"}], "status": [{"move": "overloaded"}]}}
    for jobs, refused in ((None, [True, True]), (1, [True, False])):
        mock = Mock([contract])
        mock.world.scenarios.arm(read_scenario(said), [contract], jobs=jobs)
        _, model, body = documented(contract)
        for _ in range(2):
            reply = await mock.call_plain(contract, "submit", path={"model": model.id}, body=body)
            assert b"x_unexpected" in reply.body
        replies = [await mock.call_plain(contract, "status", path={"job": job}) for job in mock.world.jobs]
        assert [reply.status >= 500 for reply in replies] == refused


@pytest.mark.anyio
async def test_a_scenario_that_fits_no_provider_cannot_be_armed(contract: Contract) -> None:
    mock = Mock([contract])
    nowhere = read_scenario({"moves": {"status": [{"move": "never_heard_of"}]}})
    with pytest.raises(ScenarioError, match="never_heard_of"):
        mock.world.scenarios.arm(nowhere, [contract])
    with pytest.raises(ScenarioError, match="no provider 'nobody'"):
        mock.world.scenarios.arm(read_scenario({}), [contract], provider="nobody")
    assert mock.world.scenarios.armed == []
    assert not mock.world.scenarios.active


@pytest.mark.anyio
async def test_armed_faults_that_were_not_met_are_reported(contract: Contract) -> None:
    mock = Mock([contract])
    said = {
        "moves": {"submit": [{"move": "overloaded"}], "status": [{"move": "empty"}, {"move": "reset_peer"}]},
        "timeline": {"move": "slow"},
    }
    armed = mock.world.scenarios.arm(read_scenario(said), [contract])
    assert armed.unmet() == ["submit/0 overloaded", "status/0 empty", "status/1 reset_peer", "timeline slow"]
    _, model, body = documented(contract)
    await mock.call(contract, "submit", path={"model": model.id}, body=body)
    job = await mock.submit(contract)
    with pytest.raises(Dropped):
        await mock.call_plain(contract, "status", path={"job": job})
    assert armed.unmet() == ["status/1 reset_peer", "timeline slow"]
    assert mock.world.scenarios.unmet() == [(armed, what) for what in armed.unmet()]
    assert mock.world.scenarios.disarm() == 1
    assert mock.world.scenarios.unmet() == []


@pytest.mark.anyio
async def test_a_submission_that_is_refused_anyway_uses_up_no_fault(contract: Contract) -> None:
    mock = Mock([contract])
    armed = mock.world.scenarios.arm(read_scenario({"moves": {"submit": [{"move": "accept_then_drop"}]}}), [contract])
    _, model, body = documented(contract)
    refused = await mock.call(contract, "submit", path={"model": model.id}, body=b"{")
    assert refused.status >= 400
    assert armed.unmet()
    with pytest.raises(Dropped):
        await mock.call_plain(contract, "submit", path={"model": model.id}, body=body)
    assert armed.unmet() == []
    assert len(mock.world.jobs) == 1


@pytest.mark.anyio
async def test_a_request_under_a_fault_that_is_not_served_still_names_its_job(contract: Contract) -> None:
    moves: list[dict[str, Any]] = [{"move": "reset_peer"}, {"move": "html_page"}, {"move": "latency", "seconds": 0}]
    session = Session(contract, read_scenario({"moves": {"status": moves}}))
    await session.mock.submit(contract)
    (job,) = session.mock.world.jobs.values()
    for _ in moves:
        await session.ask("status", path={"job": job.id})
    polls = [one for one in session.mock.world.journal if one.role == "status"]
    assert [one.move for one in polls] == [one["move"] for one in moves]
    assert {one.job for one in polls} == {job.id}


@pytest.mark.anyio
@pytest.mark.parametrize("virtual", [False, True])
async def test_a_retry_after_date_is_on_the_clock_that_the_client_reads(virtual: bool, contract: Contract) -> None:
    mock = Mock([contract], pace="fast")
    mock.world.virtual = virtual
    late = {"retry_after_date": 90}
    said = {"moves": {"submit": [{"move": "rate_limited", **late}], "media": [{"move": "unavailable", **late}]}}
    mock.world.scenarios.arm(read_scenario(said), [contract])
    begun = time.time()
    _, model, body = documented(contract)
    refused = await mock.call_plain(contract, "submit", path={"model": model.id}, body=body)
    job = mock.world.jobs[await mock.submit(contract)]
    await mock.clock.advance(10)
    path = f"/media/{mock.world.handle}/{job.id}/video.mp4"
    busy = await mock.send("GET", f"{path}?{mock.fake.worlds.signer.query(path, job.expires)}")
    for reply, at in ((refused, job.created), (busy, mock.clock.now())):
        moment = parsedate_to_datetime(reply.headers["retry-after"]).timestamp()
        earliest, latest = (at, at) if virtual else (begun, time.time())
        assert earliest + 90 - 1 <= moment <= latest + 90


@pytest.mark.anyio
async def test_link_faults_point_to_the_origins_of_the_options(contract: Contract) -> None:
    elsewhere = {"foreign": "http://127.0.0.2:81", "port": "http://127.0.0.1:83", "private": "http://127.0.0.3:82"}
    mock = Mock([contract], pace="fast", elsewhere=elsewhere)
    for role, operation in contract.operations.items():
        moved = (("foreign_links", JOB_URLS), ("port_links", JOB_URLS), ("private_links", FILE_URLS))
        for move, names in moved:
            scenario = read_scenario({"moves": {role: [{"move": move}]}})
            if role in SUBMISSIONS or misfits(scenario, contract):
                continue
            mock.world.scenarios.arm(scenario, [contract])
            job = await mock.submit(contract)
            await mock.clock.advance(10)
            reply = await mock.call_plain(contract, role, path={"job": job})
            bound = [operation.bindings[name] for name in names if name in operation.bindings]
            found = [resolve(reply.json, place.pointer) for binding in bound for place in binding.response]
            origin = elsewhere[move.partition("_")[0]]
            assert found
            assert all(url is MISSING or url.startswith(f"{origin}/") for url in found)


@pytest.mark.anyio
async def test_every_operation_can_redirect_to_the_same_path_on_another_origin(
    contract: Contract,
) -> None:
    mock = Mock([contract], elsewhere={"foreign": "http://127.0.0.2:81"})
    job = await mock.submit(contract)
    for role, operation in contract.operations.items():
        mock.world.scenarios.disarm()
        armed = mock.world.scenarios.arm(read_scenario({"moves": {role: [{"move": "redirect"}]}}), [contract])
        if "job" in operation.bindings and role not in SUBMISSIONS:
            mock.world.jobs[job].active_scenario = mock.world.scenarios.begin(armed, contract)
        path = {"job": job, "model": contract.models[0].id}
        body = documented(contract, role=role)[2] if role in SUBMISSIONS else MISSING
        known = {name: value for name, value in path.items() if name in operation.bindings}
        reply = await mock.call_plain(contract, role, path=known, body=body, query="?limit=1")
        assert (reply.status, reply.body) == (307, b"")
        assert reply.headers["location"].startswith(f"http://127.0.0.2:81/{contract.key}/")
        assert reply.headers["location"].endswith("?limit=1")
        exchange = list(mock.world.journal)[-1]
        assert (exchange.status, exchange.situation, exchange.move) == (307, None, "redirect")
    assert list(mock.world.jobs) == [job]
    assert mock.world.jobs[job].stage(mock.clock.now()).kind not in ("cancelled", "failure")
