"""Which requests belong together, and what the client knew between them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hobbyhorse.conformance.client.grouping import (
    between,
    called_back,
    consecutive,
    endless,
    gave_up,
    had_response,
    has_result_operation,
    misleading_date,
    request_groups,
    shown_success,
    stopped_waiting,
    submitted_again,
    undisturbed,
    usable,
    wait_began,
    went_on,
)
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from tests.conftest import CONTRACTS, contracts_that
from tests.tracing import MEDIA, PRIVATE, START, Teller

calling_back = contracts_that(lambda contract: contract.callbacks is not None)
replaying = contracts_that(lambda contract: contract.idempotency.mode == "replay")


def running(contract: Contract) -> str:
    return next(stage.name for stage in contract.graph if stage.kind == "running")


def succeeded(contract: Contract) -> tuple[str, str]:
    """Return the role and the situation of a response with the video."""
    role = "result" if "result" in contract.operations else "status"
    names = contract.operations[role].situations
    return role, next(stage.name for stage in contract.graph if stage.kind == "success" and stage.name in names)


def numbers(trace: AnnotatedTrace, *roles: str) -> list[list[int]]:
    return [[step.number for step in group] for group in request_groups(trace, *roles)]


def test_polls_are_grouped_by_job(contract: Contract) -> None:
    told = Teller(contract).submit(job="one").submit(job="two")
    for job in ("one", "two", "one"):
        told.status(running(contract), job=job)
    assert numbers(told.story(), "status") == [[3, 5], [4]]


def test_polls_are_grouped_by_run(contract: Contract) -> None:
    told = Teller(contract).submit().status(running(contract)).restart().status(running(contract))
    assert numbers(told.story(), "status") == [[2], [3]]


def test_a_failed_poll_belongs_to_the_job_of_its_url(contract: Contract) -> None:
    told = Teller(contract).submit().status(running(contract))
    url = told.exchanges[-1].url
    told.call("status", None, job=None, url=url, status=502).call("status", None, job=None, url=url + "/other")
    assert numbers(told.story(), "status") == [[2, 3], [4]]


def test_submissions_of_a_run_form_one_group(contract: Contract) -> None:
    told = Teller(contract).submit(job="one").submit(None, status=503, job=None)
    assert numbers(told.story(), "submit", "run") == [[1, 2]]


def test_a_file_is_the_same_under_another_signature(contract: Contract) -> None:
    told = Teller(contract).submit().media(url=f"{MEDIA}/a.mp4?signature=1").media(url=f"{MEDIA}/a.mp4?signature=2")
    told.media(url=f"{MEDIA}/b.mp4")
    assert numbers(told.story(), "media") == [[2, 3], [4]]


def test_a_response_is_known_only_once_it_is_complete(contract: Contract) -> None:
    told = Teller(contract).submit().nothing("status").status(running(contract), answered=START + 60)
    first, silent, slow = told.status(running(contract)).story().steps[:3]
    last = told.story().steps[-1]
    assert had_response(first, last)
    assert not had_response(silent, last)
    assert not had_response(slow, last)


def test_consecutive_steps_come_in_longest_stretches_with_their_followers(contract: Contract) -> None:
    told = Teller(contract).submit()
    for status in (500, 500, 200, 500):
        told.status(None, status=status)
    (group,) = request_groups(told.story(), "status")
    found = [
        ([step.number for step in stretch], after.number if after is not None else None)
        for stretch, after in consecutive(group, lambda step: step.status == 500)
    ]
    assert found == [([2, 3], 4), ([5], None)]


def test_between_includes_the_first_step_and_not_the_last(contract: Contract) -> None:
    trace = Teller(contract).submit().status(running(contract)).media().media().story()
    assert [step.number for step in between(trace, trace.steps[1], trace.steps[3])] == [2, 3]
    assert between(trace, trace.steps[1], trace.steps[1]) == ()


@calling_back
@pytest.mark.parametrize(("before", "expected"), [(0.5, True), (5.0, False)])
def test_a_callback_shortly_before_the_first_request_counts(contract: Contract, before: float, expected: bool) -> None:
    assert contract.callbacks is not None
    told = Teller(contract).submit().callback(next(iter(contract.callbacks.situations))).wait(before)
    trace = told.status(running(contract)).wait(5).status(running(contract)).story()
    assert called_back(trace, trace.polls[0], trace.polls[1]) is expected


def test_the_wait_begins_with_the_acceptance_or_with_the_last_run(contract: Contract) -> None:
    told = Teller(contract).wait(5).submit()
    assert wait_began(told.story()) == START + 5.001
    restarted = told.wait(100).restart()
    assert wait_began(restarted.story()) == restarted.now
    assert wait_began(Teller(contract).story()) is None
    assert wait_began(Teller(contract).wait(3).status(running(contract)).story()) == START + 3


def test_a_run_is_endless_if_it_alone_made_300_requests_and_was_cut_off(contract: Contract) -> None:
    def polled(*runs: int) -> Teller:
        told = Teller(contract)
        for number, requests in enumerate(runs):
            told = told.end("error").restart() if number else told
            for _ in range(requests):
                told.wait(1).status(running(contract))
        return told

    assert endless(polled(300).end("unfinished").story())
    assert not endless(polled(299).end("unfinished").story())
    assert not endless(polled(300).end("timeout").story())
    assert endless(polled(5, 300).end("unfinished").story())
    assert not endless(polled(300, 5).end("unfinished").story()), "the earlier run was not cut off"


def test_a_success_may_be_shown_by_a_broken_off_response(contract: Contract) -> None:
    assert not shown_success(Teller(contract).submit().status(running(contract)).story())
    told = Teller(contract).submit().call(*succeeded(contract), whole=False)
    assert shown_success(told.story())
    assert not shown_success(Teller(contract).submit().call(*succeeded(contract), status=500).story())


def test_a_video_is_usable_if_its_url_is_http_and_not_private(contract: Contract) -> None:
    for url, expected in ((f"{MEDIA}/v.mp4", True), (f"{PRIVATE}/v.mp4", False), ("file:///v.mp4", False)):
        told = Teller(contract)
        told.video = url
        trace = told.submit().call(*succeeded(contract)).story()
        assert usable(trace, trace.steps[-1]) is expected, url


def test_the_result_operation_is_known_from_the_contract() -> None:
    found = {contract.key: has_result_operation(Teller(contract).story()) for contract in CONTRACTS}
    assert found == {contract.key: "result" in contract.operations for contract in CONTRACTS}
    assert set(found.values()) == {True, False}


@replaying
def test_only_the_same_key_and_body_repeat_a_submission_safely(contract: Contract) -> None:
    told = Teller(contract).submit().status(running(contract)).submit().submit(key="another").submit(body=b'{"n":2}')
    trace = told.story()
    assert [step.number for step in submitted_again(trace, trace.steps[1])] == [4, 5]


ENDS = [("failed", True), ("error", True), ("timeout", False), ("success", False)]


@pytest.mark.parametrize(("kind", "expected"), ENDS)
def test_a_client_gave_up_if_its_only_run_failed(contract: Contract, kind: str, expected: bool) -> None:
    told = Teller(contract).submit().end(kind)
    assert gave_up(told.story()) is expected
    assert not gave_up(told.restart().end(kind).story())


@calling_back
def test_a_client_with_callbacks_may_have_given_up_because_of_them(contract: Contract) -> None:
    assert contract.callbacks is not None
    told = Teller(contract).submit().callback(next(iter(contract.callbacks.situations))).end("failed")
    assert not gave_up(told.story())


def test_a_response_is_undisturbed_without_a_fault(contract: Contract) -> None:
    told = Teller(contract).submit().status(running(contract)).status(running(contract), move="latency")
    told.status(running(contract), move=f"{running(contract)} (times=2)").media().media(move="truncated").media(404)
    trace = told.story()
    assert [undisturbed(trace, step) for step in trace.steps] == [True, True, False, True, True, False, False]


@pytest.mark.parametrize(
    ("kind", "told", "polls", "expected"),
    [
        ("timeout", True, 0, True),
        ("timeout", False, 1, True),
        ("timeout", False, 0, False),
        ("failed", True, 5, False),
        ("failed", False, 3, True),
        ("failed", False, 2, False),
        ("success", False, 5, False),
        ("unfinished", False, 5, False),
    ],
)
def test_the_deadline_of_a_client_shows_in_its_report_or_in_its_polls(
    contract: Contract, kind: str, told: bool, polls: int, expected: bool
) -> None:
    teller = Teller(contract).submit()
    for _ in range(polls):
        teller.wait(3).status(running(contract))
    assert stopped_waiting(teller.end(kind, told=told).story()) is expected
    # Another request than a cancellation may have been the reason.
    assert not stopped_waiting(teller.nothing("status").end("failed", told=False).story())


def test_a_reaction_shows_in_a_later_request_or_in_the_end_of_the_run(contract: Contract) -> None:
    def reacted(told: Teller) -> bool:
        story = told.story()
        return went_on(story, story.steps[0])

    assert not reacted(Teller(contract).submit())
    assert not reacted(Teller(contract).submit().end("unfinished"))
    assert reacted(Teller(contract).submit().end("failed"))
    assert reacted(Teller(contract).submit().nothing("status").end("unfinished"))


def test_a_date_misleads_only_if_a_package_may_have_read_the_real_one(contract: Contract) -> None:
    for wait, expected in (("5", False), ("Thu, 01 Jan 2026 00:00:05 GMT", True), (None, False)):
        headers = () if wait is None else (("retry-after", wait),)
        trace = Teller(contract).status(None, status=503, answer_headers=headers).trace()
        for real in (False, True):
            story = AnnotatedTrace(contract, replace(trace, virtual=True, real_dates=real))
            assert misleading_date(story, story.steps[0]) is (expected and real)


@pytest.mark.parametrize(
    ("wait", "misleads"), [("Thu Jan  1 00:00:05 2026", True), ("Thursday, 01-Jan-26 00:00:05 GMT", False)]
)
def test_a_date_without_a_zone_misleads_in_virtual_time(contract: Contract, wait: str, misleads: bool) -> None:
    trace = Teller(contract).status(None, status=503, answer_headers=(("retry-after", wait),)).trace()
    for virtual in (False, True):
        story = AnnotatedTrace(contract, replace(trace, virtual=virtual))
        assert misleading_date(story, story.steps[0]) is (misleads and virtual)
