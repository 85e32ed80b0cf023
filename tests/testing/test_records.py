"""The names that a running server's world had before its records are readable for one release, with a warning."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from hobbyhorse import MockServer
from hobbyhorse.conformance.contract_client import ContractClient
from hobbyhorse.testing import records
from hobbyhorse.testing.records import JobStage, ScenarioName
from hobbyhorse.testing.remote import RemoteServer, RemoteWorld
from hobbyhorse.worlds.ledger import Ledger, LedgerEntry
from hobbyhorse.worlds.limits import Limits
from tests.conftest import CONTRACTS, ROOT
from tests.world import HTTP, documented

CONTRACT = CONTRACTS[0]


@pytest.fixture(scope="module")
def world() -> Iterator[RemoteWorld]:
    with MockServer(clock="manual", pace="realistic") as server:
        remote = RemoteServer(server.url, clock="manual", pace="realistic")
        found = remote.world()
        found.arm("status_reset_peer", jobs="all")
        _, model, body = documented(CONTRACT)
        client = ContractClient(CONTRACT, found.url(CONTRACT.key), found.api_key, HTTP)
        client.submit(model.id, body)
        client.submit(model.id, {})
        yield found
        remote.stop()


Old = Callable[[Any], Any]


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (lambda w: getattr(w.jobs[0], "class"), lambda w: w.jobs[0].stage().kind, r"use stage\(\)\.kind"),
        (lambda w: str(w.jobs[0].stage), lambda w: w.jobs[0].stage().name, r"use stage\(\)\.name"),
        (lambda w: w.jobs[0].order["prompt"], lambda w: w.jobs[0].order.prompt, r"use \.prompt"),
        (lambda w: w.jobs[0].timeline[0]["at"], lambda w: w.jobs[0].timeline[0].moment, "use moment"),
        (lambda w: w.jobs[0].timeline[0]["stage"], lambda w: w.jobs[0].timeline[0].stage, r"use \.stage"),
        (lambda w: w.jobs[0].error["code"], lambda w: w.jobs[0].error.code, r"use \.code"),
        (lambda w: w.journal[1].nearest["text"], lambda w: w.journal[1].nearest.text, r"use \.text"),
        (lambda w: w.armed[0].jobs_left, lambda w: "all", "use left"),
        (lambda w: w.armed[0].jobs_begun, lambda w: w.armed[0].begun, "use begun"),
        (lambda w: w.armed[0].why, lambda w: w.armed[0].scenario.why, r"use scenario\.why"),
        (lambda w: list(w.armed[0].unmet), lambda w: w.armed[0].unmet(), r"use unmet\(\)"),
        (lambda w: w.armed[0].scenario == "status_reset_peer", lambda w: True, r"use scenario\.name"),
    ],
)
def test_a_name_of_the_control_plane_is_readable(world: RemoteWorld, old: Old, new: Old, named: str) -> None:
    with pytest.warns(DeprecationWarning, match=named):
        found = old(world)
    assert found == new(world)


def test_scenarios_compare_by_name_and_reason() -> None:
    assert ScenarioName("a", "b", _live=1) == ScenarioName("a", "b")
    assert ScenarioName("a", "b") != ScenarioName("a", "c")
    assert len({ScenarioName("a", "b", _live=1), ScenarioName("a", "b")}) == 1


def test_a_job_that_is_held_has_not_ended(world: RemoteWorld) -> None:
    job = replace(world.jobs[0], held=True)
    assert job.stage(job.finished) == JobStage(job.timeline[-2].stage, "running")
    assert replace(job, held=False).stage(job.finished).terminal
    cancelled = replace(job, kinds={**job.kinds, job.timeline[-1].stage: "cancelled"})
    assert cancelled.stage(job.finished).kind == "cancelled"


RECORDS = (
    *(records.Job, records.JobStage, records.JobOrder, records.Step, records.JobError, records.Exchange),
    *(records.NearestOperation, records.CallbackAttempt, records.ArmedScenario, records.ScenarioName),
    *(Ledger, LedgerEntry, Limits),
)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_the_page_lists_every_field_of_a_record(record: type) -> None:
    page = (ROOT / "docs" / "testing.md").read_text()
    (cell,) = re.findall(rf"^\| `{record.__name__}` \| .+ \| (.+) \|$", page, re.MULTILINE)
    # `stage()` and `stage(moment)` are one method.
    listed = {name.partition("(")[0] for name in re.findall(r"`([^`]+)`", cell)}
    methods = {"index", "count", "to_json"}
    assert listed == {name for name in dir(record) if not name.startswith("_")} - methods
