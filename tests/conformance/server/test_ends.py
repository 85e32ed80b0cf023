"""The last probe reads every job to its end, and cancels where that has no effect."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any
from unittest.mock import patch

from hobbyhorse.conformance.server.ends import CLOSE_POLLS, PROBE, closely, read_to_the_ends, unread
from hobbyhorse.conformance.server.queries import form_queries
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace, Step
from tests.conftest import contracts_that
from tests.server_mutation.mutant import Source
from tests.server_mutation.serving import Served, on_server

cancelling = contracts_that(lambda contract: "cancel" in contract.operations)


def test_every_accepted_job_is_read_until_it_ends(contract: Contract) -> None:
    adapted = Source.of(contract.key).contract
    with on_server(adapted, Served(adapted)) as (_, session):
        for number in range(2):
            session.submit_order("bound:x", session.marked(str(number)))
        assert len(unread(session)) == 2
        read_to_the_ends(session)
        assert unread(session) == []
        assert len(session.videos) == 2
        assert session.notes == []


def test_the_videos_of_equal_orders_are_not_fetched(contract: Contract) -> None:
    adapted = Source.of(contract.key).contract
    with on_server(adapted, Served(adapted)) as (_, session):
        session.submit_order("machine", session.marked("1"))
        read_to_the_ends(session)
        assert session.videos == []


def test_without_a_job_nothing_is_sent(contract: Contract) -> None:
    adapted = Source.of(contract.key).contract
    with on_server(adapted, Served(adapted)) as (_, session):
        session.endpoint.budget.limit = Decimal(0)
        read_to_the_ends(session)
        assert session.endpoint.exchanges == []


def referring(contract: Contract) -> list[int]:
    """Return the models whose pictures are references, and no first frames."""
    return [n for n, model in enumerate(contract.models) if "first_frame" not in model.parameters]


@contracts_that(lambda contract: bool(referring(contract)))
def test_the_video_of_references_is_not_compared_with_the_submitted_picture(contract: Contract) -> None:
    adapted = Source.of(contract.key).contract
    with on_server(adapted, Served(adapted, model=referring(contract)[0])) as (_, session):
        session.submit_order("bound:x", session.marked("1"))
        read_to_the_ends(session)
    assert [dict(video.facts).get("first_frame_difference") for video in session.videos] == [None]
    assert [dict(video.facts).get("asked_aspect") for video in session.videos] == [None]


@cancelling
def test_one_job_is_cancelled_in_each_stage_in_which_that_has_no_effect(contract: Contract) -> None:
    adapted = Source.of(contract.key).contract
    with on_server(adapted, Served(adapted)) as (_, session):
        for number in range(2):
            session.submit_order("bound:x", session.marked(str(number)))
        read_to_the_ends(session)
        steps = AnnotatedTrace(adapted, session.trace()).steps
    tried = [step for step in steps if step.exchange.probe == f"{PROBE}:cancel"]
    firm = [stage for stage in adapted.graph if not stage.terminal and not stage.cancellable]
    assert len(tried) == len(firm)
    assert not [step for step in tried if "cancelled" in step.kinds]


def test_a_fast_job_is_polled_often_enough_to_see_each_stage(contract: Contract) -> None:
    adapted = Source.of(contract.key).contract
    with on_server(adapted, Served(adapted)) as (_, session):
        session.finished()
        session.submit_order("bound:x", session.marked("1"))
        took = session.paid_seconds
        assert took is not None
        read_to_the_ends(session)
        polls = [one for one in session.endpoint.exchanges if one.probe == PROBE and one.role == "status"]
        seen = {
            stage for step in AnnotatedTrace(adapted, session.trace()).of("status") for stage in step.reading.stages
        }
    gaps = [then.arrived - first.arrived for first, then in pairwise(polls)]
    assert min(gaps) < min(adapted.polling.least_interval, 3 * took / CLOSE_POLLS)
    assert set(adapted.graph.path(adapted.graph.initial)) <= seen


def test_an_endpoint_that_refuses_many_polls_is_polled_as_documented(contract: Contract) -> None:
    adapted = Source.of(contract.key).contract
    with on_server(adapted, Served(adapted)) as (_, session):
        session.finished()
        job = session.submit_order("bound:x", session.marked("1")).job_told
        assert job is not None
        call = type(session.endpoint).call
        waits: list[float] = []

        def limited(endpoint: Any, role: str, **more: Any) -> Step:
            step = call(endpoint, role, **more)
            waits.append(step.arrived)
            return replace(step, exchange=replace(step.exchange, status=429)) if len(waits) == 1 else step

        with patch.object(type(session.endpoint), "call", limited):
            step = closely(session, job, PROBE)
    assert step.status == 200
    assert waits[1] - waits[0] >= adapted.polling.least_interval * 0.9


def test_the_job_that_all_rules_share_is_read_once_more(contract: Contract) -> None:
    adapted = Source.of(contract.key).contract
    with on_server(adapted, Served(adapted)) as (_, session):
        assert session.delivered == []
        job = session.finished().id
        assert session.delivered == [job]
        before = len(session.endpoint.exchanges)
        read_to_the_ends(session)
        again = [(one.role, one.job) for one in session.endpoint.exchanges[before:]]
    assert again == [(role, job) for role in ("status", "result") if role in adapted.operations]


@contracts_that(
    lambda contract: any(form_queries(one) for role, one in contract.operations.items() if role == "result")
)
def test_the_results_have_everything_that_can_be_requested(contract: Contract) -> None:
    adapted = Source.of(contract.key).contract
    with on_server(adapted, Served(adapted)) as (_, session):
        session.submit_order("bound:x", session.marked("1"))
        read_to_the_ends(session)
        last = [one for one in AnnotatedTrace(adapted, session.trace()).of("result") if one.success][-1]
    assert last.reading.values.get("cost")
