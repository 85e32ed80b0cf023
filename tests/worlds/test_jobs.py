"""Jobs: stages by the clock, holds and their release, and the values that responses show."""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import replace
from decimal import Decimal
from random import Random
from urllib.parse import urlsplit

import pytest

from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.lifecycle import lay
from hobbyhorse.contract.values import Contract
from hobbyhorse.worlds.jobs import PACES, Job, JobView, MediaLinks, SubmittedRequest, pace
from hobbyhorse.worlds.signed_links import signer
from tests.conftest import CONTRACTS, contracts_that
from tests.world import order_of

START = 1_000.0


def job_of(contract: Contract, end: str | None = None, **more: object) -> Job:
    """Return a job accepted at START that stays 10 s in each stage."""
    timeline = lay(contract.graph, START, lambda stage: 10.0, end)
    return Job("job-1", contract, order_of(contract), timeline, 7, **more)  # type: ignore[arg-type]


def view(job: Job, now: float) -> JobView:
    media = MediaLinks("http://mock.test", "world", signer(0))
    return JobView(job, now, job.stage(now), "http://mock.test/acme", media)


def test_a_pace_draws_nothing_tenths_of_a_second_or_the_documented_times(contract: Contract) -> None:
    stage = contract.graph[contract.graph.initial]
    least, most = stage.lasts
    drawn = {name: [pace(name, Random(number))(stage) for number in range(20)] for name in PACES}
    assert set(drawn["instant"]) == {0.0}
    assert all(0.1 <= seconds <= 0.3 for seconds in drawn["fast"])
    assert all(least <= seconds <= most for seconds in drawn["realistic"])
    success = contract.graph.ending("success")
    assert success is not None
    assert pace("realistic", Random(0))(success) == 0.0
    with pytest.raises(ValueError, match="'pace' is 'slow'; allowed: instant, fast, realistic"):
        pace("slow", Random(0))


def test_a_held_job_stays_before_its_end_until_it_is_released(contract: Contract) -> None:
    job = job_of(contract, held=True)
    late = job.finished + 100.0
    before = job.timeline[-2][1]
    assert job.stage(late).name == before
    job.release(late)
    assert (job.held, job.finished, job.stage(late).kind) == (False, late, "success")


def test_a_job_released_with_a_message_fails_with_it(contract: Contract) -> None:
    job = job_of(contract, held=True)
    job.release(START, "no picture")
    assert job.error == (None, "no picture")
    assert contract.graph[job.timeline[-1][1]].kind == "failure"
    assert job.finished >= START


@contracts_that(lambda contract: contract.graph.ending("cancelled") is not None)
def test_a_cancelled_job_does_not_wait_for_its_release(contract: Contract) -> None:
    cancelled = contract.graph.ending("cancelled")
    assert cancelled is not None
    job = job_of(contract, cancelled.name, held=True)
    assert job.stage(job.finished) is cancelled
    timeline = job.timeline
    job.release(job.finished + 5, "no picture")
    assert (job.timeline, job.error) == (timeline, (None, None))


def test_a_shown_end_is_collected_and_a_shown_stage_is_not(contract: Contract) -> None:
    job = job_of(contract)
    job.show(job.stage(START))
    assert not job.collected
    job.show(job.stage(job.finished))
    assert job.collected


def test_a_waiter_wakes_when_the_timeline_changes() -> None:
    job = job_of(CONTRACTS[0])

    async def main() -> None:
        waiter = asyncio.ensure_future(job.moved())
        await asyncio.sleep(0)
        assert not waiter.done()
        job.move(job.timeline[:1])
        await asyncio.wait_for(waiter, 5)
        assert not job.ends

    asyncio.run(main())


def test_progress_rises_to_one_with_success_only(contract: Contract) -> None:
    job = job_of(contract)
    began = next(moment for moment, name in job.timeline if contract.graph[name].kind == "running")
    shown = [view(job, began + part * (job.finished - began)).lookup("progress") for part in (0.0, 0.5, 0.999, 1.0)]
    assert shown == [0.0, 0.5, 0.99, 1.0]
    assert view(job, began - 0.1).lookup("progress") == 0.0
    failure = contract.graph.ending("failure")
    assert failure is not None
    failed = job_of(contract, failure.name)
    assert view(failed, failed.finished + 1).lookup("progress") == 0.99
    failed.timeline = tuple((START, name) for _, name in failed.timeline)
    assert view(failed, START).lookup("progress") == 0.0, "a job without a duration"


@contracts_that(lambda contract: contract.graph[contract.graph.initial].kind == "pending")
def test_a_job_that_never_ran_has_no_progress(contract: Contract) -> None:
    job = job_of(contract)
    end = contract.graph.ending("cancelled") or contract.graph.ending("failure")
    assert end is not None
    job.timeline = ((START, contract.graph.initial), (START + 5, end.name))
    assert view(job, START + 60).lookup("started_at") is MISSING
    assert view(job, START + 60).lookup("progress") == 0.0


def test_the_values_of_an_end_are_missing_before_it(contract: Contract) -> None:
    job = job_of(contract)
    names = ("video_url", "first_frame_url", "cost", "finished_at", "elapsed")
    assert {view(job, START).lookup(name) for name in names} == {MISSING}
    ended = view(job, job.finished)
    assert ended.lookup("video_url").startswith("http://mock.test/media/world/job-1/video.mp4?")
    assert (ended.lookup("finished_at"), ended.lookup("elapsed")) == (job.finished, job.finished - START)
    assert ended.lookup("cost") == job.cost > Decimal(0)
    assert ended.lookup("job") == "job-1"


def test_links_expire_with_the_documented_retention(contract: Contract) -> None:
    job = job_of(contract)
    life = contract.retention.result_url
    assert job.expires == (None if life is None else job.finished + life)
    shown = view(job, job.finished).lookup("expires_at")
    assert shown == (MISSING if life is None else job.finished + life)
    assert ("Expires=" in view(job, job.finished).lookup("video_url")) is (life is not None)


@contracts_that(lambda contract: contract.graph[contract.graph.initial].kind == "pending")
def test_the_position_in_the_queue_falls_from_four_and_is_missing_afterwards(contract: Contract) -> None:
    job = job_of(contract)
    assert [view(job, START + seconds).lookup("queue_position") for seconds in (0, 2.6, 5.1, 9.9)] == [4, 2, 1, 0]
    assert view(job, job.finished).lookup("queue_position") is MISSING
    job.ahead = lambda now: 17
    assert view(job, START).lookup("queue_position") == 17
    assert view(job, START).lookup("started_at") is MISSING
    running = next(moment for moment, name in job.timeline if contract.graph[name].kind == "running")
    assert view(job, running).lookup("started_at") == running


def test_an_error_is_shown_as_far_as_it_is_known() -> None:
    job = job_of(CONTRACTS[0], error=(None, "no horse"))
    assert view(job, START).lookup("error_code") is MISSING
    assert view(job, START).lookup("error_message") == "no horse"


def test_a_shell_command_repeats_the_submission_without_the_key() -> None:
    job = job_of(CONTRACTS[0])
    assert "@body.json" in job.curl
    job.submission = SubmittedRequest("http://mock.test/it's", b'{"prompt": "it\'s"}')
    words = shlex.split(job.curl)
    assert words[:4] == ["curl", "-X", "POST", "http://mock.test/it's"]
    assert words[-1] == '{"prompt": "it\'s"}'
    assert "$API_KEY" in job.curl


def test_the_urls_of_a_job_encode_its_id(contract: Contract) -> None:
    job = replace(job_of(contract), id="a?b#c%41")
    shown = view(job, job.finished)
    assert urlsplit(shown.lookup("video_url")).path.endswith("/a%3Fb%23c%2541/video.mp4")
    for name in ("status_url", "result_url", "cancel_url"):
        url = shown.lookup(name)
        assert url is MISSING or "/a%3Fb%23c%2541" in url
