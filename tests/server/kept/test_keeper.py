"""What a server with a kept state still knows after it was killed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from pytest_httpserver import HTTPServer

from hobbyhorse.contract.forms.expressions import replaced
from hobbyhorse.contract.lifecycle import Timeline
from hobbyhorse.contract.values import Contract
from hobbyhorse.worlds.world import World
from tests.conftest import contracts_that
from tests.server.kept.restarting import Kept, kept
from tests.server.test_callbacks import Receiver, order
from tests.world import KEY, documented, order_of

pytestmark = pytest.mark.anyio

calling = contracts_that(lambda contract: contract.callbacks is not None)
replaying = contracts_that(lambda contract: contract.idempotency.mode == "replay")


def world(server: Kept) -> World:
    return server.mock.world


async def stage(server: Kept, contract: Contract, job: str, key: str = KEY) -> Any:
    reply = await server.mock.call(contract, "status", path={"job": job}, key=key)
    assert reply.reading is not None
    return reply.status, reply.reading.values.get("job"), reply.reading.stages


# ---- jobs


async def test_a_running_job_goes_on_and_ends_at_its_planned_moment(contract: Contract, tmp_path: Path) -> None:
    async with kept(tmp_path, contract) as server:
        job = await server.mock.submit(contract)
        await server.plane.ok("POST", "/clock/advance", {"seconds": 5})
        before = await server.plane.ok("GET", f"/jobs/{job}")
        await server.restart()
        assert await server.plane.ok("GET", f"/jobs/{job}") == before
        left = before["timeline"][-1]["at"] - server.mock.world.clock.now()
        await server.plane.ok("POST", "/clock/advance", {"seconds": left - 0.001})
        assert (await server.plane.ok("GET", f"/jobs/{job}"))["class"] != "success"
        await server.plane.ok("POST", "/clock/advance", {"seconds": 0.001})
        assert (await server.plane.ok("GET", f"/jobs/{job}"))["class"] == "success"


async def test_an_ended_job_is_read_when_it_is_looked_at(contract: Contract, tmp_path: Path) -> None:
    async with kept(tmp_path, contract) as server:
        jobs = [await server.mock.submit(contract) for _ in range(3)]
        await server.plane.ok("POST", "/clock/advance", {"seconds": 9_000})
        for job in jobs:
            await stage(server, contract, job)
        await server.until_written()
        before = await server.plane.ok("GET", "/jobs")
        await server.restart()
        found = world(server).jobs
        assert found._jobs == dict.fromkeys(jobs, b"")
        assert await server.plane.ok("GET", "/jobs") == before
        assert (await stage(server, contract, jobs[1]))[1] == jobs[1]
        await server.restart()
        assert await server.plane.ok("GET", "/jobs") == before


async def test_no_id_is_made_twice_and_seeds_and_stages_stay_by_the_seed(contract: Contract, tmp_path: Path) -> None:
    async def submitted(folder: Path, restarts: set[int]) -> list[tuple[str, int, list[float]]]:
        async with kept(folder, contract) as server:
            found = []
            for number in range(4):
                job = world(server).jobs[await server.mock.submit(contract)]
                found.append((job.id, job.seed, [moment - job.created for moment, _ in job.timeline]))
                if number in restarts:
                    await server.restart()
            return found

    through, restarted = await submitted(tmp_path / "a", set()), await submitted(tmp_path / "b", {0, 1, 2})
    assert len({job for job, _, _ in restarted}) == 4
    assert [found[1:] for found in through] == [found[1:] for found in restarted]


async def test_the_ledger_and_its_totals_stay(contract: Contract, tmp_path: Path) -> None:
    async with kept(tmp_path, contract) as server:
        failure = contract.graph.ending("failure")
        for number in range(5):
            if number == 3 and failure is not None:
                await server.plane.ok("POST", "/jobs/end-next", {"stage": failure.name})
            await server.mock.submit(contract)
            if number == 2:
                await server.plane.ok("POST", "/clock/advance", {"seconds": 9_000})
        await server.plane.ok("POST", "/clock/advance", {"seconds": 9_000})
        before = await server.plane.ok("GET", "/ledger")
        await server.until_written()
        for _ in range(2):
            await server.restart()
            assert await server.plane.ok("GET", "/ledger") == before
        assert before["duplicates"] >= 3
        await server.mock.submit(contract)
        after = await server.plane.ok("GET", "/ledger")
        assert after["duplicates"] == before["duplicates"] + 1
        assert after["entries"][-1]["duplicate_of"] == before["entries"][0]["job"]


async def test_a_job_of_another_key_is_foreign_after_a_restart_too(contract: Contract, tmp_path: Path) -> None:
    async with kept(tmp_path, contract) as server:
        job = await server.mock.submit(contract)
        before = await server.mock.call_plain(contract, "status", path={"job": job}, key="another-key")
        await server.restart()
        after = await server.mock.call_plain(contract, "status", path={"job": job}, key="another-key")
        assert (after.status, after.body) == (before.status, before.body)


async def test_a_forgotten_job_is_unknown_after_a_restart(contract: Contract, tmp_path: Path) -> None:
    async with kept(tmp_path, contract, keep_jobs=2, pace="instant") as server:
        jobs = [await server.mock.submit(contract) for _ in range(4)]
        await server.plane.ok("POST", "/clock/advance", {"seconds": 1})
        jobs.append(await server.mock.submit(contract))
        totals = world(server).totals()
        await server.restart()
        assert [job in world(server).jobs for job in jobs] == [False, False, False, True, True]
        assert world(server).totals() == totals
        reply = await server.mock.call_plain(contract, "status", path={"job": jobs[0]})
        assert reply.status in (404, 403)


# ---- idempotency keys


@replaying
async def test_an_idempotency_key_is_replayed_and_its_misuse_refused(contract: Contract, tmp_path: Path) -> None:
    async with kept(tmp_path, contract) as server:
        _, model, body = documented(contract)
        assert contract.idempotency.key is not None
        headers = {contract.idempotency.key.name: "a-key-of-an-order"}

        async def submit(body: Any) -> Any:
            reply = await server.mock.call(contract, "submit", path={"model": model.id}, body=body, headers=headers)
            assert reply.reading is not None
            return reply.reading

        job = (await submit(body)).values["job"]
        await server.restart()
        again = await submit(body)
        assert again.values["job"] == job
        other = replaced(
            body, contract.operations["submit"].bindings["model"].request[0].pointer, contract.models[0].id
        )
        assert other == body
        place = model.parameters["prompt"][0]
        refused = await submit(replaced(body, place, "another prompt"))
        assert "key_mismatch" in refused.situations
        await server.plane.ok("POST", "/clock/advance", {"seconds": contract.idempotency.life + 1})
        assert (await submit(body)).values["job"] != job
        assert len(world(server).jobs) == 2


# ---- callbacks


@calling
async def test_a_callback_is_sent_after_a_restart_and_only_once(
    contract: Contract, tmp_path: Path, httpserver: HTTPServer
) -> None:
    async with kept(tmp_path, contract) as server:
        receiver = Receiver(httpserver)
        job = await order(server.mock, contract, receiver.url)
        await server.restart()
        await server.plane.ok("POST", "/clock/advance", {"seconds": 9_000})
        assert len(receiver.received) == 1
        assert job.encode() in receiver.received[0][1]
        attempts = (await server.plane.ok("GET", "/callbacks"))["attempts"]
        await server.until_written()
        await server.restart()
        await server.plane.ok("POST", "/clock/advance", {"seconds": 9_000})
        assert len(receiver.received) == 1
        assert (await server.plane.ok("GET", "/callbacks"))["attempts"] == attempts
        assert world(server).jobs[job].collected


@calling
async def test_retries_go_on_where_they_were_with_the_same_message(
    contract: Contract, tmp_path: Path, httpserver: HTTPServer
) -> None:
    assert contract.callbacks is not None
    async with kept(tmp_path, contract, pace="instant") as server:
        receiver = Receiver(httpserver, *[500] * len(contract.callbacks.retries))
        await order(server.mock, contract, receiver.url)
        await server.plane.ok("POST", "/clock/advance", {"seconds": 0})
        for delay in contract.callbacks.retries:
            await server.until_written()
            await server.restart()
            await server.plane.ok("POST", "/clock/advance", {"seconds": delay})
        numbers = [attempt["number"] for attempt in (await server.plane.ok("GET", "/callbacks"))["attempts"]]
        assert numbers == list(range(1, len(contract.callbacks.retries) + 2))
        assert len({body for _, body in receiver.received}) == 1


@calling
async def test_a_callback_whose_outcome_was_not_recorded_is_sent_again(
    contract: Contract, tmp_path: Path, httpserver: HTTPServer
) -> None:
    async with kept(tmp_path, contract, pace="instant") as server:
        receiver = Receiver(httpserver)
        job = await order(server.mock, contract, receiver.url)
        keeper = server.keeper
        assert keeper is not None
        written = world(server).unkept
        assert written is not None
        await server.mock.world.clock.advance(0)
        assert len(receiver.received) == 1
        # Its end is known, but not that it was sent.
        found = world(server).jobs[job]
        assert found.notified
        await server.kill()
        server.start()
        await server.mock.world.clock.advance(0)
        assert len(receiver.received) == 2


@calling
async def test_a_postponed_callback_is_still_sent(contract: Contract, tmp_path: Path, httpserver: HTTPServer) -> None:
    async with kept(tmp_path, contract, pace="instant") as server:
        receiver = Receiver(httpserver)
        scenario = {"moves": {"callback": [{"move": "late", "seconds": 60}]}}
        await server.plane.ok("POST", "/scenarios/arm", {"scenario": scenario})
        await order(server.mock, contract, receiver.url)
        await server.plane.ok("POST", "/clock/advance", {"seconds": 1})
        assert receiver.received == []
        await server.until_written()
        await server.restart()
        await server.plane.ok("POST", "/clock/advance", {"seconds": 60})
        assert len(receiver.received) == 1


@calling
async def test_a_callback_can_be_redelivered_after_a_restart(
    contract: Contract, tmp_path: Path, httpserver: HTTPServer
) -> None:
    async with kept(tmp_path, contract, pace="instant") as server:
        receiver = Receiver(httpserver)
        job = await order(server.mock, contract, receiver.url)
        await server.plane.ok("POST", "/clock/advance", {"seconds": 1})
        await server.until_written()
        await server.restart()
        await server.plane.ok("POST", f"/callbacks/{job}/redeliver")
        await server.plane.ok("POST", "/clock/advance", {"seconds": 1})
        assert len({body for _, body in receiver.received}) == 1
        assert len(receiver.received) == 2


# ---- scenarios, settings, clocks


async def test_jobs_that_share_a_scenario_go_on_with_the_faults_that_are_left(
    contract: Contract, tmp_path: Path
) -> None:
    async with kept(tmp_path, contract, strict=False) as server:
        moves = {
            "submit": [{"move": "latency", "seconds": 0, "times": "always"}],
            "status": [{"move": "html_page", "times": 3}],
        }
        await server.plane.ok("POST", "/scenarios/arm", {"scenario": {"moves": moves}})
        jobs = []
        for _ in range(3):
            active = world(server).scenarios.find(contract, "submit")
            assert active is not None
            jobs.append(world(server).submit(contract, order_of(contract), active).id)
            world(server).met(active)
        world(server).scenarios.disarm()
        for job in jobs:
            assert b"<html" in (await server.mock.call_plain(contract, "status", path={"job": job})).body
            await server.restart()
        for job in jobs:
            assert (await stage(server, contract, job))[1] == job
        assert len({id(world(server).jobs[job].active_scenario) for job in jobs}) == 1


async def test_an_armed_scenario_goes_on_with_the_faults_that_are_left(contract: Contract, tmp_path: Path) -> None:
    async with kept(tmp_path, contract, strict=False) as server:
        scenario = {"moves": {"status": [{"move": "html_page", "times": 2}]}}
        armed = await server.plane.ok("POST", "/scenarios/arm", {"scenario": scenario, "jobs": 2})
        job = await server.mock.submit(contract)
        html = await server.mock.call_plain(contract, "status", path={"job": job})
        assert b"<html" in html.body
        await server.restart()
        (found,) = (await server.plane.ok("GET", "/scenarios/armed"))["armed"]
        assert found == {**armed, "jobs_left": 1, "jobs_begun": 1, "met": {"status/0": 1}, "unmet": []}
        second, third = [await server.mock.call_plain(contract, "status", path={"job": job}) for _ in range(2)]
        assert (b"<html" in second.body, b"<html" in third.body) == (True, False)
        active = world(server).jobs[job].active_scenario
        assert active is not None
        assert active.armed is world(server).scenarios.armed[0]
        other = await server.mock.submit(contract)
        assert b"<html" in (await server.mock.call_plain(contract, "status", path={"job": other})).body
        (found,) = (await server.plane.ok("GET", "/scenarios/armed"))["armed"]
        assert found["jobs_left"] == 0


async def test_settings_endings_and_the_clock_stay(contract: Contract, tmp_path: Path) -> None:
    async with kept(tmp_path, contract) as server:
        failure = contract.graph.ending("failure")
        assert failure is not None
        limits = {"requests_per_second": 9.5, "concurrent_jobs": 7, "balance": 12.3, "workers": 1, "rivals": 2}
        before = await server.plane.ok("PATCH", "/settings", {"pace": "fast", "limits": limits})
        await server.plane.ok("POST", "/jobs/end-next", {"stage": failure.name, "code": "A_CODE", "message": "words"})
        await server.plane.ok("POST", "/clock/advance", {"seconds": 1_000.5})
        clock = await server.plane.ok("GET", "/clock")
        await server.restart()
        assert await server.plane.ok("GET", "/settings") == before
        assert await server.plane.ok("GET", "/clock") == clock
        job = await server.mock.submit(contract)
        assert world(server).jobs[job].error == ("A_CODE", "words")
        await server.plane.ok("POST", "/reset")
        assert (await server.plane.ok("GET", "/settings"))["pace"] == "realistic"


async def test_places_in_the_queue_stay(contract: Contract, tmp_path: Path) -> None:
    async with kept(tmp_path, contract) as server:
        await server.plane.ok("PATCH", "/settings", {"limits": {"workers": 1}})
        jobs = [await server.mock.submit(contract) for _ in range(3)]

        def seen() -> list[tuple[Timeline, int]]:
            now = world(server).clock.now()
            return [(job.timeline, job.ahead(now)) for job in world(server).jobs.values() if job.ahead is not None]

        before = seen()
        await server.restart()
        assert seen() == before
        assert len(before) == len(jobs)


async def test_a_reset_stays_reset(contract: Contract, tmp_path: Path) -> None:
    async with kept(tmp_path, contract) as server:
        before = await server.mock.submit(contract)
        await server.plane.ok("POST", "/reset")
        job = await server.mock.submit(contract)
        await server.restart()
        assert list(world(server).jobs) == [job]
        assert world(server).generation == 1
        assert job != before
        assert (await server.plane.ok("GET", "/journal"))["total"] == 1


async def test_the_journal_stays_without_the_key(contract: Contract, tmp_path: Path) -> None:
    async with kept(tmp_path, contract) as server:
        job = await server.mock.submit(contract)
        await stage(server, contract, job)
        before = await server.plane.ok("GET", "/journal")
        trace = await server.plane.ok("GET", f"/trace?provider={contract.key}")
        await server.until_written()
        await server.restart()
        after = await server.plane.ok("GET", "/journal")
        assert [(e["role"], e["job"], e["answer"], e["moment"]) for e in after["exchanges"]] == [
            (e["role"], e["job"], e["answer"], e["moment"]) for e in before["exchanges"]
        ]
        assert after["total"] == before["total"] == 2
        assert await server.plane.ok("GET", f"/trace?provider={contract.key}") == trace
        await stage(server, contract, job)
        assert (await server.plane.ok("GET", "/journal"))["total"] == 3
    assert KEY.encode() not in b"".join(path.read_bytes() for path in server.folder.iterdir() if path.is_file())


# ---- worlds


async def test_a_link_alone_opens_a_kept_world(contract: Contract, tmp_path: Path) -> None:
    async with kept(tmp_path, contract, pace="instant", cache=tmp_path / "cache") as server:
        job = await server.mock.submit(contract)
        roles = [role for role in ("status", "result") if role in contract.operations]
        replies = [await server.mock.call(contract, role, path={"job": job}) for role in roles]
        links = [reply.reading.values.get("video_url") for reply in replies if reply.reading is not None]
        link = httpx.URL(next(str(link) for link in links if link)).raw_path.decode()
        first = await server.mock.send("GET", link, key=None)
        await server.until_written()
        await server.restart()
        for file in (tmp_path / "cache").iterdir():
            file.unlink()
        second = await server.mock.send("GET", link, key=None)
        assert (first.status, second.status) == (200, 200)
        assert first.body == second.body
        assert world(server).jobs[job].id == job, "the key opens the same world"


async def test_kept_worlds_are_forgotten_least_recently_used_first(contract: Contract, tmp_path: Path) -> None:
    async with kept(tmp_path, contract, keep_worlds=3, pace="instant") as server:
        jobs = {key: await server.mock.submit(contract, key=key) for key in ("key-1", "key-2", "key-3")}
        for key, job in jobs.items():
            await stage(server, contract, job, key=key)
        await server.until_written()
        await server.restart()
        await server.mock.submit(contract, key="key-4")
        keeper = server.keeper
        assert keeper is not None
        handles = await keeper._store.worlds()
        assert len(handles) == 3
        assert (await stage(server, contract, jobs["key-3"], key="key-3"))[1] == jobs["key-3"]
        assert (
            await server.mock.call_plain(contract, "status", path={"job": jobs["key-1"]}, key="key-1")
        ).status >= 400


async def test_kept_worlds_that_cannot_go_take_no_place_from_idle_ones(contract: Contract, tmp_path: Path) -> None:
    async with kept(tmp_path, contract, keep_worlds=3) as server:
        running = [await server.mock.submit(contract, key=f"running-{number}") for number in range(5)]
        for key in ("key-1", "key-2"):
            assert server.mock.fake.worlds.of(key) is not None
        await server.until_written()
        await server.restart()
        keeper = server.keeper
        assert keeper is not None
        before = set(keeper._known)
        assert len(before) == len(running) + 2
        for key in ("key-3", "key-4"):
            assert server.mock.fake.worlds.of(key) is not None
            await server.until_written()
        assert len(before - keeper._known) == 1, "of four idle worlds, three may be kept"


async def test_a_world_without_work_sleeps_until_its_key_comes(contract: Contract, tmp_path: Path) -> None:
    async with kept(tmp_path, contract) as server:
        running, ended = await server.mock.submit(contract), await server.mock.submit(contract, key="other-key")
        world_of_ended = server.mock.fake.worlds.of("other-key")
        assert world_of_ended is not None
        world_of_ended.transition(world_of_ended.jobs[ended], contract.graph.path(contract.graph.initial)[1])
        await server.restart()
        worlds = server.mock.fake.worlds
        assert len(worlds._asleep) == 2
        assert list(worlds) == []
        assert (await stage(server, contract, running))[1] == running
        assert [one.key for one in worlds] == [KEY]


async def test_a_world_that_is_opened_after_a_reload_has_the_new_contract(contract: Contract, tmp_path: Path) -> None:
    async with kept(tmp_path, contract, pace="instant") as server:
        job = await server.mock.submit(contract)
        await stage(server, contract, job)
        await server.until_written()
        await server.restart()
        changed = replace(contract, polling=replace(contract.polling, longest_wait=599))
        server.mock.fake.adopt_contracts([changed])
        assert (await stage(server, contract, job))[1] == job
        assert world(server).jobs[job].contract is changed
        server.contracts = [changed]
        await server.restart()
        assert (await stage(server, contract, job))[1] == job


async def test_requests_that_are_decided_together_share_a_change(contract: Contract, tmp_path: Path) -> None:
    async with kept(tmp_path, contract) as server:
        await server.mock.submit(contract)
        assert server.keeper is not None
        store = server.keeper._store
        before = store.put_last
        await asyncio.gather(*(server.mock.submit(contract) for _ in range(10)))
        assert store.put_last - before < 10
        assert len(world(server).jobs) == 11
