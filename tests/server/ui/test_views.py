"""The parts of the page equal the records of the world, page by page."""

from __future__ import annotations

from typing import Any

import pytest

from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.scenario import read_scenario
from hobbyhorse.server.control.access import Team
from hobbyhorse.server.control.handlers import ControlError, ControlRequest
from hobbyhorse.server.ui import views
from hobbyhorse.server.ui.sessions import Viewer
from hobbyhorse.server.ui.views import PAGE_SIZE, Look
from tests.world import Mock

pytestmark = pytest.mark.anyio
SCOPE: dict[str, Any] = {"scheme": "http", "headers": [(b"host", b"localhost")], "server": ("127.0.0.1", 80)}


def look(mock: Mock, **query: str) -> Look:
    request = ControlRequest(mock.fake.control().context, mock.world, SCOPE, {}, {}, {})
    return Look(request, query, Viewer())


def pages(mock: Mock, view: Any) -> list[list[Any]]:
    """Return the rows of every page of a view."""
    found, before = [], ""
    while True:
        page = view(look(mock, before=before))
        found.append(page["rows"])
        if page["older"] is None:
            return found
        before = str(page["older"])


async def test_jobs_exchanges_and_ledger_come_in_pages_newest_first(contract: Contract) -> None:
    mock = Mock([contract])
    ids = [await mock.submit(contract) for _ in range(PAGE_SIZE * 2 + 1)]
    for view, name in ((views.jobs, "id"), (views.exchanges, "job"), (views.ledger, "job")):
        found = pages(mock, view)
        assert [len(page) for page in found] == [PAGE_SIZE, PAGE_SIZE, 1]
        rows = [one[name] if isinstance(one, dict) else getattr(one, name) for page in found for one in page]
        assert rows == ids[::-1]


async def test_the_duplicates_come_first(contract: Contract) -> None:
    mock = Mock([contract])
    first = await mock.submit(contract)
    second = await mock.submit(contract)
    found = views.ledger(look(mock))
    assert [(one.job, one.duplicate_of) for one in found["duplicates"]] == [(second, first)]
    assert [row["again"] for row in views.jobs(look(mock))["rows"]] == [True, False]
    assert views.shell(look(mock), "ledger")["counts"]["ledger"] == 1


async def test_exchanges_are_filtered(contract: Contract) -> None:
    mock = Mock([contract])
    job = await mock.submit(contract)
    await mock.call_plain(contract, "status", path={"job": job})
    await mock.send("GET", f"/{contract.key}/nowhere")

    def count(**query: str) -> int:
        return len(views.exchanges(look(mock, **query))["rows"])

    assert (count(), count(role="submit"), count(role="none"), count(odd="1")) == (3, 1, 1, 1)
    assert (count(q="NOWHERE"), count(q=job), count(q="404"), count(q="nothing like it")) == (1, 2, 1, 0)


async def test_a_job_has_its_exchanges_and_not_those_of_others(contract: Contract) -> None:
    mock = Mock([contract])
    job, other = await mock.submit(contract), await mock.submit(contract)
    for name in (job, other):
        await mock.call_plain(contract, "status", path={"job": name})
    found = await views.job(look(mock), job)
    assert found["job"]["id"] == job
    assert (job in found["timeline"], other in found["timeline"]) == (True, False)
    with pytest.raises(ControlError, match="has no job"):
        await views.job(look(mock), "nothing")


async def test_an_exchange_has_both_sides_and_no_key(contract: Contract) -> None:
    mock = Mock([contract])
    job = await mock.submit(contract)
    (row,) = views.exchanges(look(mock))["rows"]
    found = views.exchange(look(mock), row["number"])
    assert job in found["exchange"]["answer"]
    assert ("content-type", "application/json") in found["exchange"]["answer_headers"]
    assert mock.world.key not in str(found)
    with pytest.raises(ControlError, match="no such exchange"):
        views.exchange(look(mock), 10**12)


async def test_armed_scenarios_say_which_faults_were_met(contract: Contract) -> None:
    mock = Mock([contract])
    moves = {"status": [{"move": "reset_peer"}, {"move": "server_error"}]}
    armed = mock.world.scenarios.arm(read_scenario({"moves": moves, "timeline": {"move": "stuck"}}), [contract])
    armed.met["status/1"] += 2
    assert [times for _, times in views.faults_of(armed)] == [0, 2, 0]
    assert "server_error" in views.faults_of(armed)[1][0]
    found = views.scenarios(look(mock, q="zzz"), [{"name": "a", "why": "b"}])
    assert (len(found["armed"]), found["catalogue"]) == (1, [])


async def test_the_catalogue_has_only_what_can_be_armed(contract: Contract) -> None:
    mock = Mock([contract])
    found = views.catalogue(look(mock).request, mock.fake.catalogue())
    assert 0 < len(found) <= len(mock.fake.catalogue())
    assert all(one["providers"] == [contract.key] for one in found)
    assert [one["name"] for one in found] == sorted(one["name"] for one in found)


async def test_worlds_are_those_that_the_viewer_may_see(contract: Contract) -> None:
    mock = Mock([contract])
    for key in ("a-1", "b-1", "a-2"):
        await mock.submit(contract, key=key)
    request = ControlRequest(mock.fake.control().context, mock.fake.worlds.keyless, SCOPE, {}, {}, {})
    assert (await views.worlds(request, Viewer(), None))["total"] == 3
    team = await views.worlds(request, Viewer(Team("team-a", "a-")), None)
    handles = [one.handle for key in ("a-1", "a-2") if (one := mock.fake.worlds.of(key)) is not None]
    assert [one["handle"] for one in team["worlds"]] == handles[::-1]
