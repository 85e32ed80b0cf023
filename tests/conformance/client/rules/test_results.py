"""The rules about results, on traces written by hand: each is kept, broken and not observed."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from hobbyhorse.conformance.client.rules import results as rules
from hobbyhorse.contract.values import Contract
from tests.conformance.client.rules.test_deadlines import done, running
from tests.conformance.client.rules.test_submitting import failed
from tests.conftest import CONTRACTS, contracts_that
from tests.judging import messages
from tests.tracing import START, VIDEO, Teller


def carrier(contract: Contract) -> str:
    """Return the role that responds with the video URL."""
    return "result" if "result" in contract.operations else "status"


two_steps = contracts_that(lambda contract: "result" in contract.operations)
called_back = contracts_that(lambda contract: contract.callbacks is not None)
dated = contracts_that(lambda contract: "expires_at" in contract.operations[carrier(contract)].bindings)
kept = contracts_that(
    lambda contract: (
        contract.retention.result_url is not None
        and "expires_at" not in contract.operations[carrier(contract)].bindings
    )
)
for_ever = contracts_that(lambda contract: contract.retention.result_url is None)
LONG = 10_000_000.0


def success(contract: Contract) -> str:
    """Return the situation with the video URL."""
    found = contract.operations[carrier(contract)].situations
    return next(
        name
        for name, one in found.items()
        if one.stages and all(contract.graph[stage].kind == "success" for stage in one.stages)
    )


def without(contract: Contract, name: str, value: Any = None) -> bytes:
    """Return the response with the video URL, with another value for a bound name."""
    exchange = Teller(contract).call(carrier(contract), success(contract)).exchanges[0]
    body = orjson.loads(exchange.answer)
    for place in contract.operations[carrier(contract)].bindings[name].response:
        holder = body
        try:
            for key in place.pointer[:-1]:
                holder = holder[int(key) if isinstance(holder, list) else key]
            last = place.pointer[-1]
            holder[int(last) if isinstance(holder, list) else last] = value
        except (KeyError, IndexError, TypeError):
            continue
    return orjson.dumps(body)


def bought(contract: Contract) -> Teller:
    """Return a trace of a job that is accepted and under way."""
    return Teller(contract).submit().wait(3).status(running(contract)).wait(3)


def ready(contract: Contract, **how: Any) -> Teller:
    """Return a trace of a job that has succeeded, up to the response with its video URL."""
    told = bought(contract)
    if carrier(contract) == "result":
        told.status(done(contract))
    return told.call(carrier(contract), success(contract), **how)


# RES-01


def test_a_failure_reported_as_success_is_found(contract: Contract) -> None:
    told = bought(contract).call(carrier(contract), failed(contract))
    assert messages(rules.failure_is_failure, told.end("failed").story()) == []
    assert messages(rules.failure_is_failure, told.end("error").story()) == []
    assert messages(rules.failure_is_failure, told.end("success").story()) != []
    assert messages(rules.failure_is_failure, told.end("success", size=0).story()) != []
    assert messages(rules.failure_is_failure, told.end("unfinished").story()) is None


@called_back
def test_a_failure_reported_by_a_callback_counts(contract: Contract) -> None:
    assert contract.callbacks is not None
    situation = next(
        name
        for name, one in contract.callbacks.situations.items()
        if one.stages and all(contract.graph[stage].kind in ("failure", "cancelled") for stage in one.stages)
    )
    told = bought(contract).callback(situation)
    assert messages(rules.failure_is_failure, told.end("failed").story()) == []
    assert messages(rules.failure_is_failure, told.end("success").story()) != []
    told = bought(contract).callback(situation, status=400).end("success")
    assert messages(rules.failure_is_failure, told.story()) is None


def test_a_failure_beside_a_reported_success_is_not_judged(contract: Contract) -> None:
    told = ready(contract).call(carrier(contract), failed(contract)).media().end("success")
    assert messages(rules.failure_is_failure, told.story()) is None
    assert messages(rules.failure_is_failure, ready(contract).media().end("success").story()) is None


def test_a_failure_that_the_client_did_not_see_is_not_judged(contract: Contract) -> None:
    told = bought(contract).call(carrier(contract), failed(contract), whole=False).end("success")
    assert messages(rules.failure_is_failure, told.story()) is None


# RES-02


@pytest.mark.parametrize("value", [None, "", 7, []])
def test_a_success_without_a_video_reported_as_success_is_found(contract: Contract, value: Any) -> None:
    told = ready(contract, answer=without(contract, "video_url", value))
    assert messages(rules.success_without_media, told.end("failed").story()) == []
    assert messages(rules.success_without_media, told.end("success").story()) != []
    assert messages(rules.success_without_media, told.end("error", id_exposed=False).story()) != []


def test_endless_reads_of_a_success_without_a_video_are_found(contract: Contract) -> None:
    told = ready(contract, answer=without(contract, "video_url"))
    for number in range(301):
        if number in (4, 5, 6, 300):
            assert bool(messages(rules.few_empty_reads, told.end("timeout").story())) == (number > 5)
            # A client that counts its reads, or has a deadline, comes to an end.
            assert messages(rules.success_without_media, told.end("timeout").story()) == []
        told.wait(3).call(carrier(contract), success(contract), answer=without(contract, "video_url"))
    assert messages(rules.success_without_media, told.end("unfinished").story()) != []


def test_failed_reads_of_a_success_without_a_video_do_not_count(contract: Contract) -> None:
    told = ready(contract, answer=without(contract, "video_url"))
    for _ in range(9):
        told.wait(3).call(carrier(contract), None, status=503)
    assert messages(rules.success_without_media, told.end("failed").story()) == []


def test_a_success_that_gets_its_video_later_is_not_judged(contract: Contract) -> None:
    told = ready(contract, answer=without(contract, "video_url")).call(carrier(contract), success(contract))
    assert messages(rules.success_without_media, told.media().end("success").story()) is None
    assert messages(rules.success_without_media, ready(contract).media().end("success").story()) is None


@two_steps
def test_a_video_url_in_any_documented_place_counts(contract: Contract) -> None:
    one, other = contract.operations["result"].bindings["video_url"].response
    told = Teller(contract).result(success(contract))
    body = orjson.loads(told.exchanges[0].answer)
    body[one.pointer[0]] = {one.pointer[1]: None, other.pointer[1]: [told.video]}
    told = ready(contract, answer=orjson.dumps(body)).media().end("success")
    assert messages(rules.success_without_media, told.story()) is None


# RES-03


@two_steps
@pytest.mark.parametrize("status", [400, 403, 410, 422])
def test_a_refused_result_reported_as_success_is_found(contract: Contract, status: int) -> None:
    told = bought(contract).status(done(contract)).result(None, status=status)
    assert messages(rules.two_step_result, told.end("failed").story()) == []
    assert messages(rules.two_step_result, told.end("success").story()) != []
    for _ in range(3):
        assert messages(rules.two_step_result, told.end("failed").story()) == []
        told.result(None, status=503).result(None, status=status)
    assert messages(rules.two_step_result, told.end("failed").story()) != []


@two_steps
@pytest.mark.parametrize("status", [404, 425])
def test_giving_up_a_result_that_is_not_ready_is_found(contract: Contract, status: int) -> None:
    told = bought(contract).status(done(contract)).result(None, status=status)
    assert messages(rules.two_step_result, told.end("failed").story()) != []
    assert messages(rules.two_step_result, told.end("timeout").story()) == []
    told.wait(3).result(None, status=status)
    assert messages(rules.two_step_result, told.end("failed").story()) == []


@two_steps
def test_a_delivered_result_shows_nothing_about_refusals(contract: Contract) -> None:
    assert messages(rules.two_step_result, ready(contract).media().end("success").story()) is None
    assert messages(rules.two_step_result, bought(contract).result(None, status=404).end("error").story()) is None


@two_steps
def test_a_client_at_its_deadline_may_give_up_a_result(contract: Contract) -> None:
    told = bought(contract).wait(contract.polling.longest_wait).status(done(contract)).result(None, status=404)
    assert messages(rules.two_step_result, told.end("error").story()) == []


# RES-04


def test_a_video_fetched_before_its_link_expires_is_fine(contract: Contract) -> None:
    assert messages(rules.fetch_before_expiry, ready(contract).media().end("success").story()) == []


def test_a_success_without_a_download_is_found(contract: Contract) -> None:
    assert messages(rules.fetch_before_expiry, ready(contract).end("success").story()) != []
    assert messages(rules.fetch_before_expiry, ready(contract).media(403).end("success").story()) != []
    assert messages(rules.fetch_before_expiry, ready(contract).end("timeout").story()) is None


def test_a_success_without_a_url_leaves_nothing_to_fetch(contract: Contract) -> None:
    told = ready(contract, answer=without(contract, "video_url")).end("success").story()
    assert messages(rules.success_without_media, told) != []
    assert messages(rules.fetch_before_expiry, told) is None


def test_a_fetch_of_the_given_url_counts_whatever_its_role(contract: Contract) -> None:
    told = ready(contract)
    address = next(step.video for step in reversed(told.story().steps) if step.video)
    told.call(None, None, method="GET", url=address, status=200)
    assert messages(rules.fetch_before_expiry, told.end("success").story()) == []


@kept
def test_a_fetch_of_an_expired_link_is_found(contract: Contract) -> None:
    told = ready(contract)
    finished = told.story().steps[-1].reading.values["finished_at"]
    told.wait(max(0, finished - START) + LONG).media().end("success")
    assert messages(rules.fetch_before_expiry, told.story()) != []


@dated
def test_the_expiry_in_the_response_decides(contract: Contract) -> None:
    answer = without(contract, "expires_at", int(START) + 1000)
    assert (
        messages(rules.fetch_before_expiry, ready(contract, answer=answer).wait(900).media().end("success").story())
        == []
    )
    assert (
        messages(rules.fetch_before_expiry, ready(contract, answer=answer).wait(1100).media().end("success").story())
        != []
    )


@dated
def test_a_renewed_link_or_one_given_expired_is_not_judged(contract: Contract) -> None:
    old, new = (without(contract, "expires_at", int(START) + seconds) for seconds in (1000, 3000))
    told = ready(contract, answer=old).wait(2000).call(carrier(contract), success(contract), answer=new)
    assert messages(rules.fetch_before_expiry, told.media().end("success").story()) == []
    told = bought(contract).wait(2000).call(carrier(contract), success(contract), answer=old)
    assert messages(rules.fetch_before_expiry, told.media().end("success").story()) == []


@for_ever
def test_a_permanent_link_may_be_fetched_at_any_time(contract: Contract) -> None:
    assert messages(rules.fetch_before_expiry, ready(contract).wait(LONG * 10).media().end("success").story()) == []
    assert messages(rules.fetch_before_expiry, ready(contract).end("success", by_reference=True).story()) == []


@kept
def test_a_returned_link_is_not_judged(contract: Contract) -> None:
    assert messages(rules.fetch_before_expiry, ready(contract).end("success", by_reference=True).story()) is None


# RES-05


@pytest.mark.parametrize("status", [403, 410])
def test_giving_up_at_a_refused_link_is_found(contract: Contract, status: int) -> None:
    told = ready(contract).media(status)
    assert messages(rules.expired_url_refresh, told.end("failed").story()) != []
    assert messages(rules.expired_url_refresh, told.end("timeout").story()) == []
    told.call(carrier(contract), success(contract))
    assert messages(rules.expired_url_refresh, told.end("failed").story()) == []
    assert messages(rules.expired_url_refresh, told.media().end("success").story()) == []


def test_giving_up_a_file_that_is_not_there_yet_is_found(contract: Contract) -> None:
    assert messages(rules.late_file, ready(contract).media(404).wait(1).end("failed").story()) != []
    assert messages(rules.late_file, ready(contract).media(404).wait(5).media().end("success").story()) == []
    read = ready(contract).media(404).wait(5).call(carrier(contract), success(contract))
    assert messages(rules.late_file, read.end("failed").story()) == []
    assert messages(rules.late_file, ready(contract).media(404).wait(1).media(404).end("failed").story()) is None
    assert messages(rules.late_file, ready(contract).media(500).wait(1).end("failed").story()) is None


def test_a_submission_after_a_refused_link_is_found(contract: Contract) -> None:
    told = ready(contract).media(403).submit(job="job-2", key="key-2")
    assert messages(rules.expired_url_refresh, told.story()) != []


def test_endless_fetches_of_a_refused_link_are_found(contract: Contract) -> None:
    told = ready(contract)
    for number in range(11):
        told.media(403)
        assert bool(messages(rules.expired_url_refresh, told.end("unfinished").story())) == (number > 8)


def test_a_refused_link_that_another_read_gives_again_may_be_fetched_again(contract: Contract) -> None:
    told = ready(contract)
    for _ in range(20):
        told.media(403).call(carrier(contract), success(contract))
    assert messages(rules.expired_url_refresh, told.end("failed").story()) == []


def test_granted_links_show_nothing_about_refusals(contract: Contract) -> None:
    assert messages(rules.expired_url_refresh, ready(contract).media(503).media().end("success").story()) is None
    assert messages(rules.expired_url_refresh, ready(contract).media(403, whole=False).end("failed").story()) is None


# RES-06

SPOILT: list[dict[str, Any]] = [
    {"whole": False},
    {"answered": None},
    {"size": 0},
    {"answer_headers": (("content-type", "text/html; charset=utf-8"),)},
    {"answer_headers": (("content-type", "application/json"),)},
    {"move": "not_video"},
    {"move": "truncated"},
]


@pytest.mark.parametrize("how", SPOILT)
def test_a_file_that_is_not_a_video_reported_as_success_is_found(contract: Contract, how: dict[str, Any]) -> None:
    told = ready(contract).media(**how)
    assert messages(rules.verify_bytes, told.end("failed").story()) == []
    assert messages(rules.verify_bytes, told.end("failed", kept=True).story()) != []
    assert messages(rules.verify_bytes, told.end("success").story()) != []
    assert messages(rules.verify_bytes, told.end("unfinished").story()) is None


@pytest.mark.parametrize("how", SPOILT)
def test_fetching_the_video_again_after_a_wrong_file_is_fine(contract: Contract, how: dict[str, Any]) -> None:
    told = ready(contract).media(**how).wait(1).media().made(sha256="right")
    assert messages(rules.verify_bytes, told.end("success").story()) == []
    assert messages(rules.verify_bytes, told.end("success", sha256="right").story()) == []
    assert messages(rules.verify_bytes, told.end("success", sha256="wrong").story()) != []
    told = ready(contract).media(whole=False).media(206, headers=(("range", "bytes=500-"),)).end("success")
    assert messages(rules.verify_bytes, told.story()) == []


def test_the_part_of_a_file_that_a_killed_client_left_is_not_the_video(contract: Contract) -> None:
    def killed() -> Teller:
        return ready(contract).media(whole=False, answered=None).end("unfinished").wait(1).restart()

    assert messages(rules.verify_bytes, killed().made(sha256="whole").end("success", sha256="part").story()) != []
    assert messages(rules.verify_bytes, killed().end("success").story()) != []
    assert messages(rules.verify_bytes, killed().media().made(sha256="a").end("success", sha256="a").story()) == []
    # The resumed client has not written the file that it could not complete.
    assert messages(rules.verify_bytes, killed().end("failed", kept=True).story()) == []


def test_a_good_file_and_a_refusal_show_nothing_about_wrong_files(contract: Contract) -> None:
    assert messages(rules.verify_bytes, ready(contract).media().end("success").story()) is None
    page = (("content-type", "text/html"),)
    assert (
        messages(rules.verify_bytes, ready(contract).media(503, answer_headers=page).media().end("success").story())
        is None
    )
    told = ready(contract).media(whole=False).end("success", by_reference=True)
    assert messages(rules.verify_bytes, told.story()) is None


# RES-07

ODD = ["application/octet-stream", "binary/octet-stream", "Application/Octet-Stream", "video/mp4; codecs=avc1"]


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("move", [None, "wrong_type"])
def test_rejecting_a_video_of_another_type_is_found(contract: Contract, kind: str, move: str | None) -> None:
    told = ready(contract).media(answer_headers=(("content-type", kind),), move=move)
    assert messages(rules.tolerate_content_type, told.end("success").story()) == []
    assert messages(rules.tolerate_content_type, told.end("timeout").story()) == []
    assert messages(rules.tolerate_content_type, told.end("failed").story()) != []
    for _ in range(2):
        assert messages(rules.tolerate_content_type, told.end("success").story()) == []
        told.media(answer_headers=(("content-type", kind),), move=move)
    assert messages(rules.tolerate_content_type, told.end("success").story()) != []


def test_other_types_and_incomplete_videos_are_not_judged(contract: Contract) -> None:
    octets = (("content-type", ODD[0]),)
    for how in ({"answer_headers": VIDEO}, {"answer_headers": octets, "move": "not_video"}):
        assert messages(rules.tolerate_content_type, ready(contract).media(**how).end("failed").story()) is None
    told = ready(contract).media(answer_headers=octets).call(carrier(contract), failed(contract)).end("failed")
    assert messages(rules.tolerate_content_type, told.story()) == []


# RES-08


def test_a_second_download_is_found(contract: Contract) -> None:
    assert messages(rules.no_double_download, ready(contract).media().end("success").story()) == []
    assert messages(rules.no_double_download, ready(contract).media().wait(1).media().end("success").story()) != []


def test_a_failed_download_may_be_repeated_or_resumed(contract: Contract) -> None:
    told = ready(contract).media(whole=False).media(503).media(move="truncated").media().end("success")
    assert messages(rules.no_double_download, told.story()) == []
    told = ready(contract).media().media(206, headers=(("range", "bytes=0-"),)).end("success")
    assert messages(rules.no_double_download, told.story()) == []
    assert messages(rules.no_double_download, ready(contract).media(whole=False).end("failed").story()) is None


def test_a_client_that_was_killed_may_download_again(contract: Contract) -> None:
    told = ready(contract).media().restart().wait(1).media().end("success")
    assert messages(rules.no_double_download, told.story()) == []


def test_two_orders_are_two_downloads() -> None:
    contract = CONTRACTS[0]
    told = Teller(contract, {"a": 1}).submit().status(done(contract)).media().end("success").wait(1).again({"a": 2})
    other = "tk-hiapi-01KQ7CV7BEG9D9ZJXW8TD15JVZ"
    told.submit(job=other, key="key-2").status(done(contract), job=other)
    assert messages(rules.no_double_download, told.media(job=other).end("success").story()) == []
    assert messages(rules.no_double_download, told.media(job=None).end("success").story()) is None
