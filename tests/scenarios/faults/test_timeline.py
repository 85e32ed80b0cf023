"""Faults of a job itself: the stage in which it ends or stays, and the stages that show the fault."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hobbyhorse.contract.lifecycle import Graph, Stage
from hobbyhorse.scenarios.effects import ID_TAILS
from hobbyhorse.scenarios.fault import PlannedJob
from hobbyhorse.scenarios.faults.timeline import NoStage, stretched
from tests.conftest import CONTRACTS
from tests.known_faults import TIMELINE_FAULTS

GRAPH = Graph(
    "queued",
    {
        "queued": Stage("queued", "pending", ("starting", "failed")),
        "starting": Stage("starting", "running", ("rendering", "failed")),
        "rendering": Stage("rendering", "running", ("done", "failed", "refused")),
        "done": Stage("done", "success", ()),
        "failed": Stage("failed", "failure", ()),
        "refused": Stage("refused", "failure", ()),
    },
)
JOB = PlannedJob(GRAPH, 100.0, lambda stage: 0.0 if stage.terminal else 5.0, 600.0)


def last_stage(name: str, **options: object) -> str:
    """Return the last stage of a job under a fault."""
    fault = TIMELINE_FAULTS[name]
    return str(fault.effect(JOB, fault.complete(options))[-1][1])


@pytest.mark.parametrize(
    ("name", "options", "stage"),
    [
        ("fail", {}, "failed"),
        ("fail", {"stage": "refused"}, "refused"),
        ("fail", {"stage": "failure"}, "failed"),
        ("stuck", {}, "queued"),
        ("stuck", {"stage": "running"}, "starting"),
        ("stuck", {"stage": "running", "last": True}, "rendering"),
        ("stuck", {"stage": "rendering"}, "rendering"),
        ("slow", {}, "done"),
        ("late_success", {}, "done"),
    ],
)
def test_a_job_ends_or_stays_in_the_stage_of_its_fault(name: str, options: dict[str, object], stage: str) -> None:
    assert last_stage(name, **options) == stage


@pytest.mark.parametrize(("name", "stage"), [("fail", "moon"), ("expire", None), ("cancel", None), ("stuck", "moon")])
def test_a_contract_without_the_stage_has_no_room_for_the_fault(name: str, stage: str | None) -> None:
    with pytest.raises(NoStage):
        last_stage(name, **({"stage": stage} if stage else {}))


@pytest.mark.parametrize(
    ("name", "options", "stages"),
    [
        ("fail", {}, {"done", "failed", "refused"}),
        ("stuck", {"stage": "running"}, {"starting"}),
        ("slow", {}, {"queued", "starting", "rendering"}),
        ("slow", {"seconds": 0}, {"done", "failed", "refused"}),
        ("late_success", {"seconds": 9}, {"queued", "starting", "rendering"}),
    ],
)
def test_a_response_in_certain_stages_meets_a_fault(name: str, options: dict[str, object], stages: set[str]) -> None:
    fault = TIMELINE_FAULTS[name]
    assert {stage.name for stage in GRAPH if fault.seen(fault.complete(options), stage, GRAPH)} == stages


def test_a_timeline_is_stretched_to_end_exactly_on_time() -> None:
    timeline = ((100.0, "a"), (101.0, "b"), (104.0, "c"))
    assert stretched(timeline, None) == timeline
    assert stretched(timeline, 8.0) == ((100.0, "a"), (102.0, "b"), (108.0, "c"))
    assert stretched(((100.0, "a"), (100.0, "b")), 8.0) == ((100.0, "a"), (108.0, "b"))


def test_a_job_with_an_opaque_id_ends_as_usual() -> None:
    assert last_stage("opaque_id") == last_stage("file_boxes") == last_stage("slow") == "done"


def test_an_id_is_opaque_only_if_no_document_shows_its_form() -> None:
    fault = TIMELINE_FAULTS["opaque_id"]
    for contract in CONTRACTS:
        for tail in ID_TAILS:
            why = list(fault.misfits(fault, contract, None, {"tail": tail}))
            assert bool(why) is (contract.key != "vtrix"), contract.key
    known = replace(next(one for one in CONTRACTS if one.key == "vtrix"), assumptions=())
    assert list(fault.misfits(fault, known, None, {"tail": "legal"})) == ["vtrix documents the form of a job's id"]


def test_a_slow_job_ends_just_before_the_longest_wait_and_a_given_time_counts_from_its_beginning() -> None:
    fault = TIMELINE_FAULTS["slow"]
    for options, seconds in (({}, 540.0), ({"seconds": 7}, 7.0)):
        moment, stage = fault.effect(JOB, fault.complete(options))[-1]
        assert (moment, stage) == (100.0 + seconds, "done")
