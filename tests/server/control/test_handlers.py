"""Each control handler acts on the world of one key, and refuses a request that cannot apply."""

from __future__ import annotations

import asyncio
import gzip
import re
import threading
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from pytest_httpserver import HTTPServer

from hobbyhorse.clock.clock import ManualClock
from hobbyhorse.contract.forms.expressions import replaced
from hobbyhorse.contract.values import Contract
from hobbyhorse.server.control.handlers import MOST_WAITS
from hobbyhorse.traces.exchange import Exchange
from hobbyhorse.worlds.jobs import Job
from hobbyhorse.worlds.journal import Entry, Journal
from hobbyhorse.worlds.ledger import Ledger
from hobbyhorse.worlds.world import MOST_ENDINGS, World
from tests.conftest import CONTRACTS
from tests.server.control.plane import (
    SCENARIO,
    Plane,
    state,
)
from tests.server.test_callbacks import Receiver, calling, order
from tests.world import KEY, documented

pytestmark = pytest.mark.anyio


async def test_jobs_are_listed_and_shown(contract: Contract) -> None:
    plane = Plane([contract])
    ids = [await plane.mock.submit(contract) for _ in range(3)]
    listed = await plane.ok("GET", "/jobs")
    assert [job["id"] for job in listed["jobs"]] == ids
    assert [job["id"] for job in (await plane.ok("GET", "/jobs?limit=2"))["jobs"]] == ids[1:]
    assert (await plane.ok("GET", f"/jobs?provider={contract.key}"))["total"] == 3
    shown = await plane.ok("GET", f"/jobs/{ids[0]}")
    assert shown == listed["jobs"][0]
    assert shown["stage"] == contract.graph.initial
    assert [step["stage"] for step in shown["timeline"]] == list(contract.graph.path(contract.graph.initial))
    assert shown["curl"].startswith("curl ")
    assert KEY not in shown["curl"]
    assert (shown["finished"], shown["collected"], shown["scenario"], shown["error"]) == (None, False, None, None)
    assert (await plane.ok("GET", "/jobs", key="another"))["jobs"] == []
    assert (await plane.refused(404, "GET", f"/jobs/{ids[0]}", key="another"))["code"] == "unknown_job"
    await plane.mock.clock.advance(86_400)
    assert (await plane.ok("GET", "/jobs?stage=success"))["total"] == 3
    done = await plane.ok("GET", f"/jobs/{ids[0]}")
    assert done["class"] == "success"
    assert done["finished"] == done["timeline"][-1]["at"]


async def pages(plane: Plane, path: str, entries: str, limit: int) -> list[list[Any]]:
    """Return the pages of a list in the order of reading, newest first."""
    page = await plane.ok("GET", f"{path}?limit={limit}")
    found = [page[entries]]
    while page["older"] is not None:
        page = await plane.ok("GET", f"{path}?limit={limit}&cursor={page['older']}")
        found.append(page[entries])
    return found


async def test_older_jobs_are_listed_page_by_page(one: Contract) -> None:
    plane = Plane([one])
    ids = [await plane.mock.submit(one) for _ in range(5)]
    read = await pages(plane, "/jobs", "jobs", 2)
    assert [[job["id"] for job in page] for page in read] == [ids[3:], ids[1:3], ids[:1]]
    first = await plane.ok("GET", "/jobs?limit=5")
    assert (first["older"], first["total"], first["now"]) == (None, 5, plane.mock.clock.now())
    # A job that is submitted between two pages moves no job to another page.
    newest = await plane.ok("GET", "/jobs?limit=2")
    await plane.mock.submit(one)
    older = await plane.ok("GET", f"/jobs?limit=2&cursor={newest['older']}")
    assert [job["id"] for job in older["jobs"]] == ids[1:3]
    assert older["total"] == 6
    ledger = await pages(plane, "/ledger", "entries", 4)
    assert [[entry["job"] for entry in page] for page in ledger][1] == ids[:2]
    assert (await plane.ok("GET", "/ledger"))["older"] is None
    for path in (f"/jobs?cursor={ids[0]}x", "/jobs?cursor=0", "/ledger?cursor=x"):
        error = await plane.refused(422, "GET", path)
        assert (error["code"], "list again without a cursor" in error["hint"]) == ("invalid_query", True)


async def test_older_jobs_of_a_filter_are_listed_page_by_page(one: Contract) -> None:
    plane = Plane([one])
    ids = [await plane.mock.submit(one) for _ in range(4)]
    first = await plane.ok("GET", f"/jobs?limit=1&stage={one.graph.initial}")
    assert [job["id"] for job in first["jobs"]] == ids[3:]
    # The job of the cursor may have left the filter meanwhile.
    await plane.ok("POST", f"/jobs/{ids[3]}/transition", {"stage": one.graph[one.graph.initial].next[0]})
    rest = await plane.ok("GET", f"/jobs?limit=3&stage={one.graph.initial}&cursor={first['older']}")
    assert [job["id"] for job in rest["jobs"]] == ids[:3]
    assert (rest["older"], rest["total"]) == (None, 3)


async def test_older_exchanges_are_listed_page_by_page(one: Contract) -> None:
    plane = Plane([one])
    for number in range(5):
        await plane.mock.call(one, "status", path={"job": f"unknown-{number}"})
        await plane.mock.submit(one)
    read = await pages(plane, "/journal", "exchanges", 4)
    assert [len(page) for page in read] == [4, 4, 2]
    assert [one["role"] for page in reversed(read) for one in page] == ["status", "submit"] * 5
    first = await plane.ok("GET", "/journal?role=status&limit=2")
    rest = await plane.ok("GET", f"/journal?role=status&limit=9&cursor={first['older']}")
    assert [one["path"][-1] for one in (*rest["exchanges"], *first["exchanges"])] == list("01234")
    assert (rest["matching"], rest["older"]) == (5, None)
    for cursor in ("x", "-1", "10", "9" * 40, "%C2%B2"):
        assert (await plane.refused(422, "GET", f"/journal?cursor={cursor}"))["code"] == "invalid_query"


async def test_a_page_of_large_exchanges_ends_early(one: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    plane = Plane([one])
    ids = [await plane.mock.submit(one) for _ in range(5)]
    sizes = [entry.size for entry in plane.mock.world.journal._entries]
    for bytes_, count in ((sum(sizes), 5), (sum(sizes) - 1, 4), (sizes[-1], 1), (1, 1)):
        monkeypatch.setattr("hobbyhorse.server.control.handlers.MOST_SHOWN_BYTES", bytes_)
        assert len((await plane.ok("GET", "/journal"))["exchanges"]) == count
    read = await pages(plane, "/journal", "exchanges", 4)
    assert [one["job"] for page in reversed(read) for one in page] == ids
    assert len(read) == 5


async def test_a_page_that_the_journal_no_longer_keeps_is_empty(one: Contract) -> None:
    plane = Plane([one])
    plane.mock.world.journal = Journal(2)
    for _ in range(3):
        await plane.mock.submit(one)
    first = await plane.ok("GET", "/journal?limit=1")
    for _ in range(2):
        await plane.mock.submit(one)
    gone = await plane.ok("GET", f"/journal?cursor={first['older']}")
    assert (gone["exchanges"], gone["older"], gone["total"]) == ([], None, 5)


async def test_the_end_of_the_next_job_is_set(one: Contract) -> None:
    plane = Plane([one])
    failure = one.graph.ending("failure")
    assert failure is not None
    said = {"stage": failure.name, "code": "E1", "message": "no horse"}
    assert await plane.ok("POST", "/jobs/end-next", said) == {"set": 1}
    assert await plane.ok("POST", "/jobs/end-next", {"stage": failure.name}) == {"set": 2}
    for _ in range(3):
        await plane.mock.submit(one)
    await plane.mock.clock.advance(86_400)
    jobs = (await plane.ok("GET", "/jobs"))["jobs"]
    assert [job["class"] for job in jobs] == ["failure", "failure", "success"]
    assert jobs[0]["error"] == {"code": "E1", "message": "no horse"}
    error = await plane.refused(422, "POST", "/jobs/end-next", {"stage": one.graph.initial})
    assert (error["code"], failure.name in error["hint"]) == ("invalid_body", True)


async def test_a_bounded_number_of_ends_waits(one: Contract) -> None:
    plane, said = Plane([one]), {"stage": one.graph.terminals()[0].name, "message": "m" * 1_000}
    for _ in range(MOST_ENDINGS):
        await plane.ok("POST", "/jobs/end-next", said)
    error = await plane.refused(409, "POST", "/jobs/end-next", said)
    assert (error["code"], error["message"]) == ("too_many_ends", "100 ends wait for their jobs, and no more may")
    assert len(plane.mock.world.endings) == MOST_ENDINGS
    await plane.ok("POST", "/reset", {"what": ["jobs"]})
    assert await plane.ok("POST", "/jobs/end-next", said) == {"set": 1}
    await plane.refused(422, "POST", "/jobs/end-next", {**said, "message": "m" * 1_001})


async def test_the_end_of_the_next_job_never_fails_a_submission() -> None:
    plane = Plane()
    for stage in {stage.name for contract in CONTRACTS for stage in contract.graph.terminals()}:
        await plane.ok("POST", "/jobs/end-next", {"stage": stage})
    for contract in CONTRACTS * 6:
        await plane.mock.submit(contract)
    assert not plane.mock.world.endings


async def test_a_job_is_moved_along_the_graph_only(contract: Contract) -> None:
    plane = Plane([contract])
    graph = contract.graph
    job = await plane.mock.submit(contract)
    before = await plane.ok("GET", f"/jobs/{job}")
    legal = graph[graph.initial].next
    for stage in (graph.initial, "nonsense", *(one.name for one in graph if one.name not in legal)):
        error = await plane.refused(409, "POST", f"/jobs/{job}/transition", {"stage": stage})
        assert error["code"] == "illegal_transition"
        assert all(repr(name) in error["hint"] for name in legal)
    assert await plane.ok("GET", f"/jobs/{job}") == before
    failure = next((name for name in legal if graph[name].kind == "failure"), None)
    while failure is None:
        step = graph.path(plane.mock.world.jobs[job].stage(plane.mock.clock.now()).name)[1]
        await plane.ok("POST", f"/jobs/{job}/transition", {"stage": step})
        failure = next((name for name in graph[step].next if graph[name].kind == "failure"), None)
    said = {"stage": failure, "code": "E1", "message": "it was told to"}
    moved = await plane.ok("POST", f"/jobs/{job}/transition", said)
    assert (moved["stage"], moved["class"]) == (failure, "failure")
    assert moved["error"] == {"code": "E1", "message": "it was told to"}
    error = await plane.refused(409, "POST", f"/jobs/{job}/transition", {"stage": graph.initial})
    assert "ended" in error["hint"]
    poll = await plane.mock.call(contract, "status", path={"job": job})
    assert poll.reading is not None
    assert failure in poll.reading.stages
    assert (await plane.ok("GET", f"/jobs/{job}"))["collected"]


async def test_the_clock_is_shown_set_and_moved(one: Contract) -> None:
    plane = Plane([one])
    job = await plane.mock.submit(one)
    start = await plane.ok("GET", "/clock")
    assert start["speed"] == 0
    moved = await plane.ok("POST", "/clock/advance", {"seconds": 86_400})
    assert moved["now"] == start["now"] + 86_400
    assert (await plane.ok("GET", f"/jobs/{job}"))["class"] == "success"
    happened: list[float] = []

    async def note() -> None:
        happened.append(plane.mock.clock.now())

    plane.mock.clock.at(moved["now"] + 5, note)
    assert (await plane.ok("GET", "/clock"))["waiting"] == 1
    idle = await plane.ok("POST", "/clock/run-until-idle")
    assert happened == [idle["now"]] == [moved["now"] + 5]
    assert idle["waiting"] == 0
    assert (await plane.ok("PUT", "/clock", {"speed": 60}))["speed"] == 60
    assert (await plane.ok("PUT", "/clock", {"speed": 0}))["speed"] == 0


@pytest.mark.parametrize(
    "content", [b'{"seconds": -1}', b'{"seconds": NaN}', b'{"seconds": 1e999}', b'{"seconds": "1"}']
)
async def test_time_never_goes_back_and_is_always_a_number(content: bytes) -> None:
    plane = Plane()
    before = await plane.ok("GET", "/clock")
    assert (await plane.request("POST", "/clock/advance", content=content)).status in (400, 422)
    assert await plane.ok("GET", "/clock") == before


async def test_time_has_an_end() -> None:
    plane = Plane(make_clock=lambda: ManualClock(2.49e11))
    before = await plane.ok("GET", "/clock")
    error = await plane.refused(409, "POST", "/clock/advance", {"seconds": 3_000_000_000})
    assert error["code"] == "end_of_time"
    assert await plane.ok("GET", "/clock") == before


async def test_the_journal_shows_requests_and_responses(contract: Contract) -> None:
    plane = Plane([contract])
    job = await plane.mock.submit(contract)
    await plane.mock.call(contract, "status", path={"job": job})
    journal = await plane.ok("GET", "/journal")
    assert [one["role"] for one in journal["exchanges"]] == ["submit", "status"]
    submitted = journal["exchanges"][0]
    assert orjson.loads(submitted["body"]) == documented(contract)[2]
    assert job in submitted["answer"]
    assert ["authorization", "[redacted]"] in submitted["headers"]
    assert KEY not in orjson.dumps(journal).decode()
    assert submitted["nearest"] is None
    filters = {
        f"provider={contract.key}": 2,
        "role=status": 1,
        "role=media": 0,
        f"status={submitted['status']}": None,
        "situation=accepted": 1,
        "method=get": None,
        f"path={submitted['path']}": None,
        f"job={job}": 2,
        "limit=1": 2,
    }
    for query, count in filters.items():
        found = await plane.ok("GET", f"/journal?{query}")
        assert count in (None, found["matching"]), query
        name, _, value = query.partition("=")
        assert name == "limit" or all(str(one[name]).lower() == value.lower() for one in found["exchanges"])
    assert len((await plane.ok("GET", "/journal?limit=1"))["exchanges"]) == 1
    assert (await plane.ok("GET", "/journal", key="another"))["exchanges"] == []


async def test_only_the_shown_exchanges_of_the_journal_are_made_readable(
    one: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane, read = Plane([one]), list[Entry]()
    for _ in range(5):
        await plane.mock.submit(one)
    made = Entry._exchange

    def counted(entry: Entry) -> Exchange:
        read.append(entry)
        return made(entry)

    monkeypatch.setattr(Entry, "_exchange", counted)
    found = await plane.ok("GET", "/journal?limit=2&role=submit")
    assert (found["matching"], len(found["exchanges"]), len(read)) == (5, 2, 2)
    await plane.refused(408, "POST", "/journal/wait", {"count": 9, "timeout": 0})
    assert len(read) == 2


async def test_a_request_that_matched_nothing_is_shown_with_the_nearest_operation(contract: Contract) -> None:
    plane = Plane([contract])
    operation = contract.operations["status"]
    wrong = re.sub(r"\{[^}]+\}", "x", operation.path)
    await plane.mock.send("GET", f"/{contract.key}/v0{wrong}")
    await plane.mock.send("PROPFIND", f"/{contract.key}{wrong}")
    await plane.mock.call(contract, "status", path={"job": "unknown"})
    first, second, known = (await plane.ok("GET", "/journal"))["exchanges"]
    assert first["nearest"]["text"].startswith(f"GET /v0{wrong}: no operation; the nearest is status GET")
    assert [one["part"] for one in first["nearest"]["differences"]] == ["path"]
    assert [one["part"] for one in second["nearest"]["differences"]] == ["method"]
    assert known["nearest"] is None


async def test_a_request_that_breaks_the_contract_is_shown_with_the_difference(contract: Contract) -> None:
    plane = Plane([contract])
    operation, model, body = documented(contract)
    path = {"model": model.id}
    await plane.mock.call(contract, operation.role, path=path, body={})
    await plane.mock.call(contract, operation.role, path=path, body=body, headers={"content-type": "text/plain"})
    empty, typed = (await plane.ok("GET", "/journal"))["exchanges"]
    assert [one["part"] for one in empty["nearest"]["differences"]] == ["field"]
    assert empty["nearest"]["role"] == operation.role
    assert [(one["part"], one["at"]) for one in typed["nearest"]["differences"]] == [("header", "content-type")]


async def test_a_wait_ends_with_the_exchange_that_it_waits_for(one: Contract) -> None:
    plane = Plane([one])
    said = {"role": "submit", "count": 2, "timeout": 60}
    await plane.mock.submit(one)
    waiting = asyncio.ensure_future(plane.ok("POST", "/journal/wait", said))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()
    await plane.mock.call(one, "status", path={"job": "unknown"})
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done(), "another exchange is not the one"
    await plane.mock.submit(one)
    found = await asyncio.wait_for(waiting, 60)
    assert [exchange["role"] for exchange in found["exchanges"]] == ["submit", "submit"]
    assert (await plane.ok("POST", "/journal/wait", {"count": 3.0, "timeout": 0}))["matching"] == 3
    assert not plane.mock.world.journal.waits


async def test_a_wait_that_times_out_reports_the_newest_exchanges(one: Contract) -> None:
    plane = Plane([one])
    error = await plane.refused(408, "POST", "/journal/wait", {"timeout": 0})
    assert error["hint"] == "the journal is empty"
    job = await plane.mock.submit(one)
    error = await plane.refused(408, "POST", "/journal/wait", {"job": job, "role": "status", "timeout": 0.01})
    assert "0 of 1" in error["message"]
    assert "role 'status'" in error["message"]
    assert one.operations["submit"].path.partition("{")[0] in error["hint"]
    assert not plane.mock.world.journal.waits


async def test_a_wait_ends_with_its_client(one: Contract) -> None:
    plane = Plane([one])
    reply = await asyncio.wait_for(plane.request("POST", "/journal/wait", {"timeout": 60}, stays=False), 30)
    assert (reply.status, plane.mock.world.journal.waits) == (408, 0)


async def test_a_bounded_number_of_requests_waits_for_one_key(one: Contract) -> None:
    plane, said = Plane([one]), {"timeout": 60}
    waiting = [asyncio.ensure_future(plane.ok("POST", "/journal/wait", said)) for _ in range(MOST_WAITS)]
    for _ in range(50):
        await asyncio.sleep(0)
    assert plane.mock.world.journal.waits == MOST_WAITS
    error = await plane.refused(409, "POST", "/journal/wait", said)
    assert (error["code"], error["message"]) == ("too_many_waits", "100 requests wait for exchanges of this key")
    assert (await plane.refused(408, "POST", "/journal/wait", {"timeout": 0}, key="another"))["code"] == "timeout"
    await plane.mock.submit(one)
    assert {found["matching"] for found in await asyncio.gather(*waiting)} == {1}


async def test_a_wait_that_the_server_ends_is_refused(one: Contract) -> None:
    plane = Plane([one])
    waiting = asyncio.ensure_future(plane.refused(503, "POST", "/journal/wait", {"timeout": 60}))
    for _ in range(20):
        await asyncio.sleep(0)
    waiting.cancel()
    assert (await waiting)["code"] == "server_stops"


@pytest.mark.parametrize(
    "query",
    ["provider=nobody", "role=nothing", "status=abc", "status=700", "status=-1", "limit=0", "limit=1001", "limit=1.5",
     "limit=%D9%A1", "limit=" + "9" * 400, "limit=", "colour=red", "method=G%20T", "role=submit&role=submit", "job="],
)  # fmt: skip
async def test_a_filter_that_cannot_match_is_refused(query: str) -> None:
    error = await Plane().refused(422, "GET", f"/journal?{query}")
    assert error["code"] in ("invalid_query", "unknown_provider")


async def test_a_stage_that_no_contract_has_is_refused() -> None:
    error = await Plane().refused(422, "GET", "/jobs?stage=nonsense")
    assert "pending" in error["hint"]
    await Plane().refused(422, "GET", "/jobs?provider=nobody")


async def test_the_catalogue_is_listed_and_shown(catalogue: tuple[Path, ...]) -> None:
    plane = Plane(scenarios=catalogue)
    listed = {one["name"]: one for one in (await plane.ok("GET", "/scenarios"))["scenarios"]}
    assert listed["lost-poll"]["providers"] == [contract.key for contract in CONTRACTS]
    assert listed["nowhere"]["providers"] == []
    whole = await plane.ok("GET", "/scenarios/lost-poll")
    assert whole["scenario"] == SCENARIO
    assert whole["why"] == listed["lost-poll"]["why"]
    error = await plane.refused(404, "GET", "/scenarios/lost-pol")
    assert error["code"] == "unknown_scenario"
    assert all(name in error["hint"] for name in ("lost-poll", "lost-polls", "lost-pool"))


async def test_a_scenario_is_armed_met_and_disarmed(contract: Contract, catalogue: tuple[Path, ...]) -> None:
    plane = Plane([contract], scenarios=catalogue)
    refused = {"moves": {"submit": [{"move": "invalid_request"}]}}
    armed = await plane.ok("POST", "/scenarios/arm", {"scenario": "lost-poll", "provider": contract.key, "seed": 7})
    assert (armed["scenario"], armed["jobs_left"], armed["seed"], armed["source"]) == ("lost-poll", 1, 7, "control")
    assert armed["unmet"] == ["status/0 reset_peer"]
    inline = await plane.ok("POST", "/scenarios/arm", {"scenario": refused, "jobs": "all"})
    assert (inline["scenario"], inline["jobs_left"]) == ("inline", "all")
    listed = (await plane.ok("GET", "/scenarios/armed"))["armed"]
    assert [one["id"] for one in listed] == [armed["id"], inline["id"]]
    assert (await plane.ok("GET", "/scenarios/armed", key="another"))["armed"] == []
    assert (await plane.ok("DELETE", f"/scenarios/armed/{inline['id']}"))["disarmed"] == 1
    assert (await plane.refused(404, "DELETE", f"/scenarios/armed/{inline['id']}"))["code"] == "unknown_armed"
    job = await plane.mock.submit(contract)
    assert (await plane.ok("GET", f"/jobs/{job}"))["scenario"] == "lost-poll"
    assert (await plane.ok("DELETE", "/scenarios/armed"))["disarmed"] == 1
    assert (await plane.ok("GET", "/scenarios/armed"))["armed"] == []
    for number in ("0", "-1", "x", "9" * 400, "%C2%B2"):
        await plane.refused(404, "DELETE", f"/scenarios/armed/{number}")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"scenario": "lost-pol"}, "unknown_scenario"),
        ({"scenario": {"moves": {"submit": [{"move": "latency", "colour": 1}]}}}, "invalid_scenario"),
        ({"scenario": {"moves": {"paint": [{"move": "latency"}]}}}, "invalid_scenario"),
        ({"scenario": {"timeline": {"move": "explode"}}}, "invalid_scenario"),
        ({"scenario": "nowhere"}, "not_applicable"),
        ({"scenario": "lost-poll", "provider": "nobody"}, "unknown_provider"),
        ({"scenario": "lost-poll", "jobs": 0}, "invalid_body"),
        ({"scenario": "lost-poll", "jobs": "some"}, "invalid_body"),
        ({"scenario": "lost-poll", "seed": -1}, "invalid_body"),
        ({"scenario": ["lost-poll"]}, "invalid_body"),
        ({}, "invalid_body"),
    ],
)
async def test_an_invalid_scenario_is_not_armed(said: Any, code: str, catalogue: tuple[Path, ...]) -> None:
    plane = Plane(scenarios=catalogue)
    error = await plane.refused(422, "POST", "/scenarios/arm", said)
    assert error["code"] == code
    assert (await plane.ok("GET", "/scenarios/armed"))["armed"] == []
    if code == "unknown_scenario":
        assert "lost-poll, " in error["hint"] + ", "


@calling
async def test_callbacks_are_listed_and_delivered_again(contract: Contract, httpserver: HTTPServer) -> None:
    plane, receiver = Plane([contract]), Receiver(httpserver, 500)
    assert (await plane.ok("GET", "/callbacks"))["attempts"] == []
    quiet = await plane.mock.submit(contract)
    job = await order(plane.mock, contract, receiver.url)
    assert (await plane.refused(409, "POST", f"/callbacks/{quiet}/redeliver"))["code"] == "no_callback"
    assert (await plane.refused(409, "POST", f"/callbacks/{job}/redeliver"))["code"] == "no_callback"
    assert (await plane.refused(404, "POST", "/callbacks/unknown/redeliver"))["code"] == "unknown_job"
    await plane.ok("POST", "/clock/run-until-idle")
    attempts = (await plane.ok("GET", "/callbacks"))["attempts"]
    assert (await plane.ok("GET", "/callbacks?limit=1"))["attempts"] == attempts[1:]
    assert [(attempt["kind"], attempt["answered"]) for attempt in attempts] == [
        ("genuine", attempt["moment"]) for attempt in attempts
    ]
    assert [(one["job"], one["number"], one["status"]) for one in attempts] == [(job, 1, 500), (job, 2, 200)]
    assert orjson.loads(attempts[1]["body"]) == orjson.loads(receiver.received[1][1])
    assert await plane.ok("POST", f"/callbacks/{job}/redeliver") == {"job": job}
    await plane.ok("POST", "/clock/run-until-idle")
    assert len((await plane.ok("GET", "/callbacks"))["attempts"]) == len(receiver.received) == 3
    assert (await plane.ok("GET", "/callbacks", key="another"))["attempts"] == []
    assert (await plane.refused(404, "POST", f"/callbacks/{job}/redeliver", key="another"))["code"] == "unknown_job"


@calling
async def test_a_job_that_is_moved_to_its_end_sends_its_callback_immediately(
    contract: Contract, httpserver: HTTPServer
) -> None:
    plane, receiver = Plane([contract]), Receiver(httpserver)
    job = await order(plane.mock, contract, receiver.url)
    graph = contract.graph
    while True:
        stage = plane.mock.world.jobs[job].stage(plane.mock.clock.now())
        if stage.terminal:
            break
        await plane.ok("POST", f"/jobs/{job}/transition", {"stage": graph.path(stage.name)[1]})
    await plane.ok("POST", "/clock/advance", {"seconds": 0})
    assert len(receiver.received) == 1
    await plane.ok("POST", "/clock/run-until-idle")
    assert len(receiver.received) == 1


async def test_a_reset_forgets_the_named_parts(one: Contract, catalogue: tuple[Path, ...]) -> None:
    plane = Plane([one], scenarios=catalogue)
    for part in ("jobs", "journal", "scenarios", "clock"):
        await plane.mock.submit(one)
        await plane.ok("POST", "/scenarios/arm", {"scenario": "lost-poll"})
        other = await state(plane, key="another")
        before = await state(plane)
        assert await plane.ok("POST", "/reset", {"what": []}) == {"reset": []}
        assert await state(plane) == before
        assert await plane.ok("POST", "/reset", {"what": [part]}) == {"reset": [part]}
        after = await state(plane)
        changed = {name for name in before if before[name] != after[name]}
        assert changed == ({part, "ledger"} if part == "jobs" else {part} if part != "clock" else set())
        assert await state(plane, key="another") == other
    assert (await plane.ok("POST", "/reset"))["reset"] == ["jobs", "journal", "scenarios", "clock"]
    empty = await state(plane)
    assert (empty["jobs"]["jobs"], empty["journal"]["exchanges"], empty["scenarios"]["armed"]) == ([], [], [])
    assert (await plane.refused(422, "POST", "/reset", {"what": ["everything"]}))["message"].startswith("/what/0: ")


@calling
async def test_a_reset_of_jobs_forgets_their_callbacks(contract: Contract, httpserver: HTTPServer) -> None:
    plane, receiver = Plane([contract]), Receiver(httpserver)
    await order(plane.mock, contract, receiver.url)
    await plane.ok("POST", "/reset")
    await plane.ok("POST", "/clock/advance", {"seconds": 86_400})
    assert receiver.received == []
    assert not plane.mock.fake.callback_dispatcher()._attempts


async def test_the_ledger_shows_the_billed_jobs_and_marks_duplicates(contract: Contract) -> None:
    plane = Plane([contract])
    first, second = [await plane.mock.submit(contract) for _ in range(2)]
    await plane.mock.clock.advance(86_400)
    ledger = await plane.ok("GET", "/ledger")
    assert (ledger["billable"], ledger["duplicates"]) == (2, 1)
    assert [(one["job"], one["duplicate_of"]) for one in ledger["entries"]] == [(first, None), (second, first)]
    assert ledger["usd"] == pytest.approx(2 * (await plane.ok("GET", f"/jobs/{first}"))["cost"])
    assert ledger["usd"] > 0


async def test_settings_are_shown_and_changed(one: Contract) -> None:
    plane = Plane([one])
    before = await plane.ok("GET", "/settings")
    assert before["pace"] == "realistic"
    assert set(before["limits"].values()) == {None, 0}
    changed = await plane.ok("PATCH", "/settings", {"pace": "instant", "limits": {"balance": 0.1, "workers": 2.0}})
    limits = {**before["limits"], "balance": 0.1, "workers": 2}
    assert changed == {"pace": "instant", "limits": limits, "label": None}
    assert (await plane.ok("PATCH", "/settings", {"label": "blue"}))["label"] == "blue"
    assert (await plane.ok("PATCH", "/settings", {"pace": "instant"}))["label"] == "blue"
    assert (await plane.ok("PATCH", "/settings", {"label": None}))["label"] is None
    assert plane.mock.world.limits.balance == Decimal("0.1")
    assert await plane.ok("GET", "/settings") == changed
    assert await plane.ok("GET", "/settings", key="another") == before
    restored = await plane.ok("PATCH", "/settings", {"limits": {"balance": None, "workers": None}})
    assert restored == {"pace": "instant", "limits": before["limits"], "label": None}
    for body in ({"pace": "slow"}, {"limits": {"workers": 1.5}}, {"limits": {"colour": 1}}, {"limits": None}):
        await plane.refused(422, "PATCH", "/settings", body)
    assert await plane.ok("GET", "/settings") == restored


@calling
async def test_a_stuck_job_that_is_moved_on_sends_its_callback_when_it_ends(
    contract: Contract, httpserver: HTTPServer
) -> None:
    plane, receiver = Plane([contract]), Receiver(httpserver)
    await plane.ok("POST", "/scenarios/arm", {"scenario": {"timeline": {"move": "stuck"}}})
    job = await order(plane.mock, contract, receiver.url)
    await plane.ok("POST", "/clock/advance", {"seconds": 86_400})
    assert receiver.received == []
    graph = contract.graph
    await plane.ok("POST", f"/jobs/{job}/transition", {"stage": graph.path(graph.initial)[1]})
    await plane.ok("POST", "/clock/advance", {"seconds": 86_400})
    assert (await plane.ok("GET", f"/jobs/{job}"))["class"] == "success"
    assert len(receiver.received) == 1


SECRET = "sk-acme-0123456789"


async def test_the_journal_shows_no_key_wherever_a_client_has_put_it(one: Contract) -> None:
    plane = Plane([one])
    where = f"/{one.key}/jobs/{SECRET}?page={SECRET}"
    packed = gzip.compress(f"the key is {SECRET}".encode())
    headers = {
        "x-auth-token": "a-hidden-token",
        "api-key": "another-one",
        "x-page": SECRET,
        "x-session-secret": "a-third",
    }
    await plane.mock.send("POST", where, body=packed, headers=headers, key=SECRET)
    operation, model, _ = documented(one)
    await plane.mock.call(one, operation.role, path={"model": model.id}, body={"prompt": SECRET}, key=SECRET)
    found = await plane.ok("GET", "/journal", key=SECRET)
    text = orjson.dumps(found).decode()
    for secret in (SECRET, "a-hidden-token", "another-one", "a-third"):
        assert secret not in text
    shown = dict(found["exchanges"][0]["headers"])
    assert (shown["x-auth-token"], shown["x-session-secret"], shown["x-page"]) == ("[redacted]", "[redacted]", "[key]")
    assert found["exchanges"][1]["body"] == '{"prompt":"[key]"}'
    assert found["exchanges"][0]["path"] == "/jobs/[key]"
    assert len(found["exchanges"]) == 2


async def test_jobs_and_callbacks_show_no_key(httpserver: HTTPServer) -> None:
    contract = next(contract for contract in CONTRACTS if contract.callbacks is not None)
    plane = Plane([contract])
    operation, model, body = documented(contract)
    prompt = (*operation.model_parameters.pointer, *model.parameters["prompt"][0])
    place = operation.bindings["callback_url"].request[0]
    body = replaced(replaced(body, prompt, f"say {SECRET}"), place.pointer, f"{Receiver(httpserver).url}?key={SECRET}")
    made = await plane.mock.call(contract, operation.role, path={"model": model.id}, body=body, key=SECRET)
    assert made.reading is not None
    job = str(made.reading.values["job"])
    await plane.mock.clock.advance(86_400)
    for path in ("/jobs", f"/jobs/{job}", "/jobs?stage=success", "/callbacks"):
        found = orjson.dumps(await plane.ok("GET", path, key=SECRET)).decode()
        assert job in found
        assert "[key]" in found
        assert SECRET not in found


async def test_a_page_of_jobs_looks_at_no_others(one: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    plane = Plane([one])
    ids = [await plane.mock.submit(one) for _ in range(20)]
    looked: list[str] = []
    usual = Job.stage

    def stage(job: Job, now: float) -> Any:
        looked.append(job.id)
        return usual(job, now)

    monkeypatch.setattr(Job, "stage", stage)
    page = await plane.ok("GET", f"/jobs?limit=3&cursor={ids[10]}")
    assert [job["id"] for job in page["jobs"]] == ids[7:10]
    assert set(looked) == set(ids[7:10])
    assert page["older"] == ids[7]
    assert (await plane.ok("GET", f"/jobs?cursor={ids[0]}"))["jobs"] == []


@pytest.mark.parametrize("path", ["/report?provider={}", "/trace?provider={}"])
async def test_what_looks_at_a_whole_world_leaves_the_event_loop_free(
    path: str, one: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = Plane([one])
    await plane.mock.submit(one)
    threads: list[str] = []
    usual = World.snapshot

    def ledger(world: World, numbers: object = None) -> Ledger:
        threads.append(threading.current_thread().name)
        return Ledger(())

    def stage(job: Job, now: float) -> Any:
        threads.append(threading.current_thread().name)
        return job.contract.graph[job.contract.graph.initial]

    monkeypatch.setattr(World, "ledger", ledger)
    monkeypatch.setattr(Job, "stage", stage)
    monkeypatch.setattr(World, "snapshot", lambda world: usual(world))
    plane.mock.fake.options = replace(plane.mock.fake.options, judge=lambda contract, trace: {})
    await plane.ok("GET", path.format(one.key))
    assert threads
    assert all(name.startswith("world") for name in threads)
