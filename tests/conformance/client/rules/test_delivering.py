"""The rules about the hand-over, on traces written by hand: each is kept, broken and not observed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hobbyhorse.conformance.client.reasons import beginning_of, reasons_of
from hobbyhorse.conformance.client.rules import delivering as rules
from hobbyhorse.contract.values import Contract
from tests.conformance.client.rules.test_results import bought, called_back, carrier, ready
from tests.conformance.client.rules.test_submitting import failed
from tests.conformance.client.test_reasons import explained_callback
from tests.judging import messages
from tests.tracing import FOREIGN, JOB, Teller

OTHER = "tk-hiapi-01KQ7CV7BEG9D9ZJXW8TD15JVZ"


# RES-09


def test_a_complete_video_that_is_returned_is_delivered(contract: Contract) -> None:
    told = ready(contract).media().end("success", sha256="right", size=1000)
    assert messages(rules.deliver_the_video, told.story()) == []


@pytest.mark.parametrize("kind", ["failed", "error", "timeout"])
def test_a_complete_video_that_is_lost_is_found(kind: str, contract: Contract) -> None:
    told = ready(contract).media().end(kind, message="OSError: File name too long")
    (found,) = messages(rules.deliver_the_video, told.story()) or []
    number = len(told.exchanges)
    assert found == (
        f"request {number} returned the complete video, but the run ended as {kind!r}: OSError: File name too long"
    )


def test_an_empty_file_is_not_a_delivery(contract: Contract) -> None:
    told = ready(contract).media().end("success", size=0, message="returned None")
    assert messages(rules.deliver_the_video, told.story()) == [
        f"request {len(told.exchanges)} returned the complete video, "
        "but the client delivers an empty one: returned None"
    ]


def test_a_client_that_did_not_get_the_video_is_not_judged(contract: Contract) -> None:
    failing: list[dict[str, Any]] = [{"status": 503}, {"whole": False}, {"size": 0}, {"move": "not_video"}]
    for how in failing:
        told = ready(contract).media(**how).end("failed")
        assert messages(rules.deliver_the_video, told.story()) is None
    elsewhere = ready(contract).media(url=f"{FOREIGN}/cover.jpg").end("failed")
    assert messages(rules.deliver_the_video, elsewhere.story()) is None
    assert messages(rules.deliver_the_video, ready(contract).end("failed").story()) is None
    assert messages(rules.deliver_the_video, ready(contract).media().story()) is None
    assert messages(rules.deliver_the_video, ready(contract).media().end("unfinished").story()) is None


def test_any_other_reason_to_fail_excuses_a_client(contract: Contract) -> None:
    told = ready(contract).media().media(503, url=f"{FOREIGN}/cover.jpg").end("failed")
    assert messages(rules.deliver_the_video, told.story()) is None
    told = ready(contract).media().call(carrier(contract), failed(contract)).end("failed")
    assert messages(rules.deliver_the_video, told.story()) is None
    told = ready(contract, move="extra_field").media().end("failed")
    assert messages(rules.deliver_the_video, told.story()) is None
    told = ready(contract).wait(contract.polling.longest_wait).media().end("timeout")
    assert messages(rules.deliver_the_video, told.story()) is None


# RES-10


def refused(contract: Contract, **how: Any) -> Teller:
    """Return a trace of a job that has failed."""
    return bought(contract).call(carrier(contract), failed(contract), **how)


def reasons(told: Teller) -> tuple[str, ...]:
    return reasons_of(told.story().steps[-1])


def test_each_way_to_expose_the_reason_is_enough(contract: Contract) -> None:
    told = refused(contract)
    given = reasons(told)
    assert given
    for reason in (*given, *beginning_of(told.story().steps[-1])):
        assert messages(rules.give_the_reason, told.end("failed", reasons=(reason,)).story()) == []
    told.end("failed", reasons=(), message=f"Failed: job {JOB}: {given[-1].upper()}!")
    assert messages(rules.give_the_reason, told.story()) == []


def test_a_reason_that_does_not_reach_the_caller_is_found(contract: Contract) -> None:
    told = refused(contract)
    given = " or ".join(map(repr, reasons(told)))
    told.end("failed", reasons=(), message=f"Failed: job {JOB}: something went wrong")
    assert messages(rules.give_the_reason, told.story()) == [
        f"request {len(told.exchanges)} gave the reason {given}, but the run ended as 'failed' without it"
    ]


def test_a_reason_is_not_expected_from_a_client_that_was_given_none(contract: Contract) -> None:
    lost: dict[str, Any] = {"reasons": (), "message": "it failed"}
    assert messages(rules.give_the_reason, bought(contract).end("timeout", **lost).story()) is None
    assert messages(rules.give_the_reason, bought(contract).end("failed", **lost).story()) is None
    assert messages(rules.give_the_reason, refused(contract, whole=False).end("failed", **lost).story()) is None
    assert messages(rules.give_the_reason, refused(contract, move="null_field").end("failed", **lost).story()) is None
    assert messages(rules.give_the_reason, refused(contract).end("failed", message="it failed").story()) is None


@called_back
def test_a_reason_in_an_acknowledged_callback_counts(contract: Contract) -> None:
    for status in (200, 500):
        told = explained_callback(bought(contract), status).end("failed", reasons=(), message="it failed")
        assert bool(messages(rules.give_the_reason, told.story())) == (status == 200)


@called_back
def test_a_reason_in_a_callback_does_not_count_after_a_status_that_says_something_else(contract: Contract) -> None:
    told = explained_callback(bought(contract), 200)
    told.call(carrier(contract), failed(contract), move="empty_field").end("failed", reasons=(), message="no status")
    assert messages(rules.give_the_reason, told.story()) is None
    # A response without any job is one, too.
    told.exchanges[-1] = replace(told.exchanges[-1], job=None, answer=b"{}")
    assert messages(rules.give_the_reason, told.story()) is None


def test_the_refusal_of_an_order_is_a_reason_and_its_status_is_enough(contract: Contract) -> None:
    name, one = next(
        (name, one)
        for name, one in contract.operations["submit"].situations.items()
        if one.status in (400, 401, 402, 422)
    )
    told = Teller(contract).submit(name, job=None)
    assert reasons(told)
    assert messages(rules.give_the_reason, told.end("failed", reasons=(), message="no luck").story())
    assert messages(rules.give_the_reason, told.end("failed", reasons=reasons(told)).story()) == []
    told.end("failed", reasons=(), message=f"HTTP {one.status}")
    assert messages(rules.give_the_reason, told.story()) is None


# RES-11


def pair(contract: Contract, first: str, second: str, **how: Any) -> Teller:
    """Return a trace of two orders, each of which returns a video with a digest."""
    told = Teller(contract, {"n": 1}).submit().end("success", sha256=first, **how)
    told.wait(1).again({"n": 2}).submit(job=OTHER, key="key-2").end("success", sha256=second, **how)
    return told.made(sha256="one").made(job=OTHER, sha256="two")


def test_two_runs_that_return_their_own_videos_keep_the_rule(contract: Contract) -> None:
    assert messages(rules.own_video, pair(contract, "one", "two").story()) == []


def test_a_video_of_another_order_is_found(contract: Contract) -> None:
    assert messages(rules.own_video, pair(contract, "two", "two").story()) == [
        f"run 1 of 2 ordered job {JOB}, but returned the video of job {OTHER}"
    ]
    assert messages(rules.own_video, pair(contract, "two", "one").story()) == [
        f"run 1 of 2 ordered job {JOB}, but returned the video of job {OTHER}",
        f"run 2 of 2 ordered job {OTHER}, but returned the video of job {JOB}",
    ]


def test_overlapping_runs_are_told_apart_by_their_orders(contract: Contract) -> None:
    told = Teller(contract, {"n": 1})
    told.again({"n": 2}).submit(job=OTHER, body=b'{"wrapped": {"n": 2}}').submit(body=b'{"wrapped": {"n": 1}}')
    told.end("success", sha256="one").made(sha256="one").made(job=OTHER, sha256="two")
    assert messages(rules.own_video, told.story()) == [
        f"run 2 of 2 ordered job {OTHER}, but returned the video of job {JOB}"
    ]


def test_a_video_that_was_not_ordered_at_all_is_found(contract: Contract) -> None:
    told = Teller(contract, {"n": 1}).submit().end("success", sha256="one").wait(1)
    told.again({"n": 2}).end("success", sha256="one").made(sha256="one")
    assert messages(rules.own_video, told.story()) == [f"run 2 of 2 made no job, but returned the video of job {JOB}"]


def test_the_same_order_may_have_the_same_video(contract: Contract) -> None:
    told = Teller(contract, {"n": 1}).submit().end("success", sha256="one").wait(1)
    told.again({"n": 1}).end("success", sha256="one").made(sha256="one")
    assert messages(rules.own_video, told.story()) is None


def test_videos_that_cannot_be_identified_are_not_judged(contract: Contract) -> None:
    equal = pair(contract, "one", "one")
    equal.jobs = []
    equal.made(sha256="one").made(job=OTHER, sha256="one")
    assert messages(rules.own_video, equal.story()) == []
    assert messages(rules.own_video, pair(contract, "cut", "cut").story()) is None
    assert messages(rules.own_video, Teller(contract).submit().end("success").story()) is None


def test_a_url_of_another_order_is_found(contract: Contract) -> None:
    told = ready(contract)
    told.runs[0] = type(told.runs[0])(told.runs[0].started, told.base, {"n": 1})
    url = told.story().steps[-1].video
    told.end("success", by_reference=True, message=url).wait(1)
    told.again({"n": 2}).submit(job=OTHER, key="key-2").end("success", by_reference=True, message=url)
    assert messages(rules.own_video, told.story()) == [
        f"run 2 of 2 ordered job {OTHER}, but returned the video of job {JOB}"
    ]


def saved(contract: Contract, *replaced: bool | None) -> list[str] | None:
    """Return what RES-13 says of runs whose files were replaced by other runs or not; None without a file."""
    told = Teller(contract, {"prompt": "run 1"})
    for number, one in enumerate(replaced):
        told = told.wait(1).again({"prompt": f"run {number}"}) if number else told
        told.submit().end("success", saved=f"/tmp/{number}.mp4" if one is not None else "", replaced=one)
    return messages(rules.keep_earlier_videos, told.story())


def test_a_file_that_is_still_there_keeps_the_rule(contract: Contract) -> None:
    assert saved(contract, False, False) == []
    assert saved(contract, None, False) == []


def test_a_file_that_another_run_replaced_is_found(contract: Contract) -> None:
    (found,) = saved(contract, True, False) or []
    assert found.startswith("run 1 of 2 returned /tmp/0.mp4, but another run has overwritten")


def test_one_run_or_no_file_shows_nothing_about_other_runs(contract: Contract) -> None:
    assert saved(contract, False) is None
    assert saved(contract, None, None) is None
