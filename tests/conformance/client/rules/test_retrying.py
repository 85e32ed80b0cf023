"""The rules about retries, on traces written by hand: each is kept, broken and not observed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.conformance.client.rules import polling
from hobbyhorse.conformance.client.rules import retrying as rules
from hobbyhorse.contract.example_orders import order_for
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from tests.conftest import CONTRACTS, contracts_that, documented
from tests.judging import checked, messages, rules_of, teller
from tests.tracing import START, Teller

called_back = contracts_that(lambda contract: contract.callbacks is not None)
missable = contracts_that(rules._may_be_missing)
AFTER = "retry-after"


def two_steps(contract: Contract) -> bool:
    return "result" in contract.operations


def running(contract: Contract) -> str:
    return next(stage.name for stage in contract.graph if stage.kind == "running")


def done(contract: Contract) -> str:
    return "completed" if two_steps(contract) else next(s.name for s in contract.graph if s.kind == "success")


def finish(told: Teller) -> Teller:
    told.wait(3).status(done(told.contract))
    if two_steps(told.contract):
        told.wait(0.1).result("succeeded")
    return told


def started(contract: Contract) -> Teller:
    return Teller(contract).submit().wait(3).status(running(contract))


def happy(contract: Contract) -> Teller:
    return finish(started(contract)).media().end("success")


def fail(told: Teller, status: int = 503, role: str = "status", **headers: str) -> Teller:
    """Add a request that fails, with headers in its response."""
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    if role == "media":
        return told.media(status, answer_headers=pairs)
    return told.call(role, None, status=status, answer_headers=pairs)


def test_a_happy_client_breaks_nothing_and_shows_nothing(contract: Contract) -> None:
    for rule in rules_of(rules):
        found = checked(rule, happy(contract).story())
        assert found == ([] if rule.id == "RTY-04" and found is not None else None), rule.id


@pytest.mark.parametrize("role", ["status", "media"])
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("seconds", [0, 1, 120])
def test_a_honoured_retry_after_is_fine(contract: Contract, role: str, status: int, seconds: int) -> None:
    told = fail(started(contract), status, role, retry_after=str(seconds))
    assert messages(rules.honour_retry_after, told.story()) is None
    fail(told.wait(seconds + 0.1), 500, role)
    assert messages(rules.honour_retry_after, told.story()) == []


@pytest.mark.parametrize("role", ["status", "media", "submit"])
def test_an_ignored_retry_after_is_found(contract: Contract, role: str) -> None:
    def after(seconds: float) -> Teller:
        told = Teller(contract)
        told = told.wait(3).call("submit", None, status=429, job=None, answer_headers=((AFTER, "10"),))
        if role != "submit":
            told = fail(started(contract), 429, role, retry_after="10")
        told.wait(seconds)
        return told.submit() if role == "submit" else fail(told, 500, role)

    for seconds in (0.1, 9.0, 200.0):
        assert messages(rules.honour_retry_after, after(seconds).story()) != []
    for seconds in (10.0, 20.0, 70.0):
        assert messages(rules.honour_retry_after, after(seconds).story()) == []


def test_a_date_is_not_judged_that_a_package_may_have_misread(contract: Contract) -> None:
    for seconds in (0.5, 300.0):
        told = started(contract)
        fail(told, 503, retry_after=formatdate(told.now + 60, usegmt=True)).wait(seconds).status(running(contract))
        trace = AnnotatedTrace(contract, replace(told.trace(), real_dates=True))
        assert messages(rules.honour_retry_after, trace) is None
        told = started(contract)
        fail(told, 503, retry_after="60").wait(seconds).status(running(contract))
        trace = AnnotatedTrace(contract, replace(told.trace(), real_dates=True))
        assert messages(rules.honour_retry_after, trace) != []


def test_retry_after_may_be_a_date(contract: Contract) -> None:
    for seconds, kept in ((0.5, False), (58.0, False), (59.9, True), (61.0, True), (300.0, False)):
        told = started(contract)
        fail(told, 503, retry_after=formatdate(told.now + 60, usegmt=True)).wait(seconds).status(running(contract))
        assert (messages(rules.honour_retry_after, told.story()) == []) is kept, seconds


@pytest.mark.parametrize("apart", [-86_400.0, 0.0, 5_000.0])
def test_a_date_is_measured_from_the_date_of_its_response(contract: Contract, apart: float) -> None:
    for seconds, kept in ((30.0, False), (59.5, True), (61.0, True), (300.0, False)):
        told = started(contract)
        theirs = told.now + apart
        dates = {"retry_after": formatdate(theirs + 60, usegmt=True), "date": formatdate(theirs, usegmt=True)}
        fail(told, 503, **dates).wait(seconds).status(running(contract))
        assert (messages(rules.honour_retry_after, told.story()) == []) is kept, seconds


@pytest.mark.parametrize("value", ["soon", "", "-1", "1.5", "Wed, 99 Foo 2026"])
def test_an_unreadable_retry_after_requests_nothing(contract: Contract, value: str) -> None:
    told = fail(started(contract), 503, retry_after=value).wait(0.2).status(running(contract))
    assert messages(rules.honour_retry_after, told.story()) is None


def test_concurrent_range_requests_do_not_repeat_each_other(contract: Contract) -> None:
    told = finish(started(contract))
    told.media(503, answer_headers=((AFTER, "1"),), headers=(("range", "bytes=0-499"),))
    told.media(206, headers=(("range", "bytes=500-999"),)).wait(1.1)
    told.media(206, headers=(("range", "bytes=0-499"),))
    assert messages(rules.honour_retry_after, told.story()) == []
    told.media(503, answer_headers=((AFTER, "9"),), headers=(("range", "bytes=500-999"),))
    told.media(206, headers=(("range", "bytes=500-999"),))
    assert messages(rules.honour_retry_after, told.story())


def test_another_file_is_not_a_repetition(contract: Contract) -> None:
    told = finish(started(contract))
    told.media(503, answer_headers=((AFTER, "5"),), url=told.video.replace("video.mp4", "first_frame.jpg")).media()
    assert messages(rules.honour_retry_after, told.story()) is None
    told = finish(started(contract))
    told.media(503, answer_headers=((AFTER, "5"),)).media(url=f"{told.video}?Signature=2")
    assert messages(rules.honour_retry_after, told.story())
    told = finish(started(contract))
    told.media(whole=False, url=told.video.replace("video.mp4", "first_frame.jpg")).media()
    assert messages(rules.backoff, told.story()) is None


def test_a_client_with_long_pauses_is_not_late(contract: Contract) -> None:
    def told(pause: float) -> Teller:
        told = fail(Teller(contract).submit(), 503, retry_after="1").wait(90).status(running(contract))
        for _ in range(4):
            told.wait(pause).status(running(contract))
        return told

    assert messages(rules.honour_retry_after, told(90).story()) == []
    assert messages(rules.honour_retry_after, told(5).story())
    early = Teller(contract).submit().wait(90)
    fail(early, 503, retry_after="1").wait(90).status(running(contract))
    assert messages(rules.honour_retry_after, early.story()) == []


def test_an_undelivered_response_requests_nothing(contract: Contract) -> None:
    told = started(contract).status(None, status=503, whole=False, answer_headers=((AFTER, "60"),))
    assert messages(rules.honour_retry_after, told.wait(1).status(running(contract)).story()) is None


@called_back
def test_a_callback_may_come_while_a_client_waits(contract: Contract) -> None:
    assert contract.callbacks is not None
    told = fail(started(contract), 503, retry_after="60").wait(1)
    told.callback(next(iter(contract.callbacks.situations))).status(running(contract))
    assert messages(rules.honour_retry_after, told.story()) is None


@pytest.mark.parametrize("status", [400, 401, 403, 410, 422])
def test_repeated_permanent_refusals_are_found(contract: Contract, status: int) -> None:
    for role in ("status", "result")[: 2 if two_steps(contract) else 1]:
        told = fail(started(contract), status, role)
        assert messages(rules.fatal_4xx_fast, told.story()) == []
        fail(told.wait(3), status, role)
        assert messages(rules.fatal_4xx_fast, told.story()) == []
        fail(told.wait(3), status, role)
        assert messages(rules.fatal_4xx_fast, told.story()) != []


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422])
def test_repeated_permanently_refused_submissions_are_found(contract: Contract, status: int) -> None:
    told = Teller(contract)
    for _ in range(2):
        told.submit(None, status=status, job=None).wait(3)
    assert messages(rules.fatal_4xx_fast, told.story()) == []
    told.submit(None, status=status, job=None)
    assert messages(rules.fatal_4xx_fast, told.story())
    told.runs.clear()  # recorded traffic: it is unknown whether this is one order
    assert messages(rules.fatal_4xx_fast, told.story()) is None


def test_a_refusal_that_has_passed_does_not_count(contract: Contract) -> None:
    told = started(contract)
    for _ in range(4):
        fail(told.wait(3), 403).wait(3).nothing("status").wait(3).status(running(contract))
    assert messages(rules.fatal_4xx_fast, told.story()) == []
    for status in (403, 500, 403, 500):
        fail(told.wait(3), status)
    assert messages(rules.fatal_4xx_fast, told.story()) != []


@pytest.mark.parametrize("status", [402, 404, 408, 409, 425, 429, 500])
def test_transient_failures_may_be_repeated(contract: Contract, status: int) -> None:
    told = started(contract)
    for _ in range(5):
        fail(told.wait(3), status)
    assert messages(rules.fatal_4xx_fast, told.story()) is None


def test_a_refused_file_is_not_a_refused_job(contract: Contract) -> None:
    told = finish(fail(started(contract), 403))
    for _ in range(3):
        finish(told.media(403))
    assert messages(rules.fatal_4xx_fast, told.media().story()) == []


def in_a_row(contract: Contract, pauses: list[float], role: str = "status", status: int = 500) -> Teller:
    told = started(contract).wait(3)
    for pause in pauses:
        fail(told, status, role).wait(pause)
    return fail(told, status, role)


@pytest.mark.parametrize("role", ["status", "media"])
def test_retries_without_a_pause_are_found(contract: Contract, role: str) -> None:
    assert messages(rules.backoff, happy(contract).story()) is None
    for pauses in (
        [1.0],
        [0.1 - 1e-6 - 0.001],  # 0.1 s after the response, which takes 1 ms, less a rounding error
        [0.2, 0.4, 0.8],
        [3.0] * 8,
        [1, 2, 4, 8, 8, 1.0],
        [3, 2, 3, 2, 3, 2.0],
        [4, 4, 4, 3, 3, 3.0],
    ):
        assert messages(rules.backoff, in_a_row(contract, list(pauses), role).story()) == []
    for pauses in ([0.09], [0.01], [0.0, 5.0], [32, 16, 8, 4, 2, 1.0]):
        assert messages(rules.backoff, in_a_row(contract, list(pauses), role).story()) != []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_requested_waits_are_not_part_of_the_trend(contract: Contract, status: int) -> None:
    told = started(contract).wait(3)
    for seconds in (60, 60, 60, 0, 0, 0, 0):
        fail(told, status, retry_after=str(seconds)).wait(seconds)
    assert messages(rules.backoff, told.story()) == []
    told = fail(started(contract).wait(3), status, retry_after="0")
    assert messages(rules.backoff, fail(told, status).story()) == []


def test_failures_of_different_kinds_may_have_different_pauses(contract: Contract) -> None:
    told = started(contract).wait(3)
    for pause in (8, 16, 32):
        fail(told, 500).wait(pause)
    for _ in range(5):
        told.status(running(contract), answer=b"").wait(3)
    for _ in range(5):
        told.nothing("status").wait(0.5)
    assert messages(rules.backoff, told.story()) == []


def test_a_dead_connection_may_be_replaced_immediately(contract: Contract) -> None:
    told = started(contract).wait(3).nothing("status").status(running(contract))
    assert messages(rules.backoff, told.story()) == []
    told = started(contract).wait(3).nothing("status").nothing("status")
    assert messages(rules.backoff, told.wait(1).status(running(contract)).story()) == []
    told = started(contract).wait(3).nothing("status").nothing("status").status(running(contract))
    assert messages(rules.backoff, told.story()) != []


def test_a_download_may_resume_immediately(contract: Contract) -> None:
    told = finish(started(contract)).media(whole=False)
    assert messages(rules.backoff, told.media(206, headers=(("range", "bytes=500-"),)).story()) == []
    told = finish(started(contract)).media(whole=False)
    assert messages(rules.backoff, told.media().story()) != []


BLIPS: list[dict[str, Any]] = [
    {"status": 0, "whole": False, "answered": None},
    *({"status": status} for status in (408, 425, 429, 500, 502, 503, 504)),
]


@pytest.mark.parametrize("blip", BLIPS, ids=lambda blip: str(blip["status"]))
def test_giving_up_after_one_transient_failure_is_found(contract: Contract, blip: dict[str, Any]) -> None:
    def blinked() -> list[Teller]:
        return [
            started(contract).wait(3).status(None, **blip),
            finish(started(contract)).wait(1).media(**blip),
            *([finish(started(contract)).result(None, **blip)] if two_steps(contract) else []),
        ]

    assert messages(rules.one_blip_survives, happy(contract).story()) is None
    for told in blinked():
        assert messages(rules.one_blip_survives, told.end("timeout").story()) == []
        for kind in ("error", "failed"):
            assert messages(rules.one_blip_survives, told.end(kind).story()) != []
    for told in blinked():
        assert messages(rules.one_blip_survives, told.wait(1).submit().story()) != []
    for told in blinked():
        assert messages(rules.one_blip_survives, finish(told).media().end("success").story()) == []


def left(contract: Contract, situation: str | None = None) -> Teller:
    """Return a trace in which the connection is closed after the response to a poll."""
    return started(contract).wait(3).status(situation or running(contract), move="idle_close")


def test_giving_up_because_of_a_closed_connection_is_found(contract: Contract) -> None:
    for kind in ("error", "failed"):
        (found,) = messages(rules.one_blip_survives, left(contract).wait(8).end(kind).story()) or []
        assert found.startswith("the connection was closed after the response to request")
        assert found.endswith("gave up the job")
    again = left(contract).wait(8).submit().end("error")
    assert messages(rules.one_blip_survives, again.story()) != []
    went_on = finish(left(contract).wait(8)).media().end("success")
    assert messages(rules.one_blip_survives, went_on.story()) == []
    late = left(contract).wait(100).end("error")
    assert messages(rules.one_blip_survives, late.story()) == []
    # The response may be the reason.
    (success, *_) = successes(contract)
    assert messages(rules.one_blip_survives, left(contract, success).wait(8).end("error").story()) is None


def apart(contract: Contract, failures: int, good: int = 2) -> Teller:
    """Return a trace in which reads fail, each after some good ones; the last one fails."""
    told = started(contract)
    for _ in range(failures):
        for _ in range(good):
            told.wait(3).status(running(contract))
        fail(told.wait(3), 500)
    return told


def test_giving_up_because_of_failures_that_are_apart_is_found(contract: Contract) -> None:
    (found,) = messages(rules.failures_do_not_add_up, apart(contract, 4).end("error").story()) or []
    assert found.startswith("4 reads failed, each after a good one")
    went_on = finish(apart(contract, 4)).media().end("success")
    assert messages(rules.failures_do_not_add_up, went_on.story()) == []
    for kind in ("timeout", "unfinished"):
        assert messages(rules.failures_do_not_add_up, apart(contract, 4).end(kind).story()) == []


def outage(contract: Contract, failures: int) -> Teller:
    """Return a trace in which polls fail one after the other."""
    told = started(contract)
    for _ in range(failures):
        fail(told.wait(3), 500)
    return told


def test_giving_up_after_a_short_outage_is_found(contract: Contract) -> None:
    for failures in (2, 3):
        (found,) = messages(rules.short_outage_survives, outage(contract, failures).end("error").story()) or []
        assert found.startswith(f"{failures} polls failed in a row")
        went_on = finish(outage(contract, failures)).media().end("success")
        assert messages(rules.short_outage_survives, went_on.story()) == []
        assert messages(rules.short_outage_survives, outage(contract, failures).end("timeout").story()) == []


def test_an_error_with_a_2xx_may_end_the_wait_at_once_or_later(contract: Contract) -> None:
    refusals = [one for one in contract.operations["status"].situations.values() if one.status >= 400]
    assert refusals
    for one in refusals:
        told = started(contract)
        for _ in range(2):
            told.wait(3).status(one.name, status=200)
        assert messages(rules.short_outage_survives, told.end("error").story()) is None


def test_a_job_and_a_result_may_not_be_there_yet(contract: Contract) -> None:
    def not_there(told: Teller, role: str, pause: float = 3) -> Teller:
        for _ in range(2):
            told.wait(pause).call(role, None, status=404)
        return told

    new = not_there(Teller(contract).submit(), "status")
    (found,) = messages(rules.short_outage_survives, new.end("error").story()) or []
    assert found.endswith("(404)")
    assert messages(rules.short_outage_survives, not_there(started(contract), "status").end("error").story()) is None
    old = not_there(Teller(contract).submit(), "status", pause=rules.NEW)
    assert messages(rules.short_outage_survives, old.end("error").story()) is None
    if "result" in contract.operations:
        done = Teller(contract).submit().call("status", next(iter(successes(contract))))
        (found,) = messages(rules.short_outage_survives, not_there(done, "result").end("error").story()) or []
        assert found.endswith("(404)")


def successes(contract: Contract) -> list[str]:
    """Return the situations of a status that report a success."""
    found = contract.operations["status"].situations.values()
    return [one.name for one in found if {contract.graph[name].kind for name in one.stages} & {"success"}]


def test_one_failure_and_a_long_outage_are_no_short_one(contract: Contract) -> None:
    for failures in (1, 4):
        assert messages(rules.short_outage_survives, outage(contract, failures).end("error").story()) is None
    assert messages(rules.short_outage_survives, apart(contract, 3).end("error").story()) is None
    # A client may give up long after the last failure, at its deadline.
    late = outage(contract, 3).wait(100).end("error")
    assert messages(rules.short_outage_survives, late.story()) == []


def test_failures_in_a_row_may_add_up(contract: Contract) -> None:
    assert messages(rules.failures_do_not_add_up, apart(contract, 4, good=0).end("error").story()) is None
    assert messages(rules.failures_do_not_add_up, apart(contract, 1).end("error").story()) is None


def test_giving_up_after_several_failures_is_allowed(contract: Contract) -> None:
    told = fail(fail(started(contract), 500).wait(3), 500).end("error")
    assert messages(rules.one_blip_survives, told.story()) is None
    told = fail(started(contract), 500).wait(3).status(running(contract), answer=b"<html>").end("error")
    assert messages(rules.one_blip_survives, told.story()) is None


def test_a_failure_at_the_deadline_may_end_the_run(contract: Contract) -> None:
    told = started(contract).wait(contract.polling.longest_wait)
    assert messages(rules.one_blip_survives, fail(told, 500).end("error").story()) == []
    told = fail(started(contract), 503, retry_after="120").end("error")
    assert messages(rules.one_blip_survives, told.story()) == []


def test_an_error_that_is_called_a_timeout_may_come_long_before_the_deadline(contract: Contract) -> None:
    def given_up(patience: float | None, **how: Any) -> list[str] | None:
        told = fail(started(contract), 500).wait(3).end("timeout").trace()
        return messages(rules.one_blip_survives, AnnotatedTrace(contract, replace(told, patience=patience, **how)))

    assert given_up(600)
    assert given_up(None) == given_up(5) == []
    short = outage(contract, 3).wait(3).end("timeout").trace()
    assert messages(rules.short_outage_survives, AnnotatedTrace(contract, replace(short, patience=600)))


def test_a_failure_ends_a_run_only_early_in_its_wait_and_soon_after_it(contract: Contract) -> None:
    """Later, the client's own deadline may have ended it."""

    def given_up(share: float, after: float = 1.0) -> list[str] | None:
        told = fail(started(contract).wait(share * contract.polling.longest_wait), 500)
        return messages(rules.one_blip_survives, told.wait(after).end("error").story())

    assert given_up(rules.EARLY_SHARE - 0.05)
    assert given_up(rules.EARLY_SHARE + 0.05) == []
    assert given_up(0.1, 59)
    assert given_up(0.1, 61) == []


@called_back
def test_a_callback_may_end_the_run_after_a_failure(contract: Contract) -> None:
    assert contract.callbacks is not None
    told = fail(started(contract), 500).callback(list(contract.callbacks.situations)[-1]).end("failed")
    assert messages(rules.one_blip_survives, told.story()) == []


@missable
def test_giving_up_a_new_missing_job_is_found(contract: Contract) -> None:
    assert messages(rules.missing_has_grace, happy(contract).story()) is None
    told = Teller(contract).submit().wait(1).status("unknown_job")
    assert messages(rules.missing_has_grace, told.end("error").story()) != []
    assert messages(rules.missing_has_grace, told.wait(1).status("unknown_job").end("error").story()) == []
    assert messages(rules.missing_has_grace, finish(told).media().end("success").story()) == []


@missable
def test_giving_up_a_job_that_disappeared_is_allowed(contract: Contract) -> None:
    assert messages(rules.missing_has_grace, started(contract).status("unknown_job").end("error").story()) == []
    told = Teller(contract).submit().wait(60).status("unknown_job").end("error")
    assert messages(rules.missing_has_grace, told.story()) == []


@missable
def test_endless_polling_of_a_missing_job_is_found(contract: Contract) -> None:
    told = Teller(contract).submit()
    for _ in range(299):
        told.wait(3).status("unknown_job")
    assert messages(rules.missing_has_grace, told.end("timeout").story()) == []
    assert messages(rules.missing_has_grace, told.end("unfinished").story()) != []


def over_and_over(contract: Contract, seconds: float, pause: float = 30.0) -> Teller:
    told = started(contract)
    while told.now < START + seconds:
        fail(told.wait(pause), 500)
    return told


def test_retries_beyond_the_deadline_are_found(contract: Contract) -> None:
    contract = documented(contract)
    wait = contract.polling.longest_wait
    assert messages(rules.retry_bounded, over_and_over(contract, wait).end("timeout").story()) == []
    assert messages(rules.retry_bounded, over_and_over(contract, 2 * wait).end("timeout").story()) != []
    assert messages(rules.retry_bounded, finish(over_and_over(contract, 2 * wait)).end("success").story()) is None


def test_without_a_documented_wait_only_retries_without_a_bound_are_found(contract: Contract) -> None:
    wait = 3 * contract.polling.longest_wait
    assert messages(rules.retry_bounded, over_and_over(contract, wait, 60).end("timeout").story()) == []
    assert messages(rules.retry_bounded, over_and_over(contract, wait, 60).end("unfinished").story()) == []
    assert messages(rules.retry_bounded, over_and_over(contract, wait, wait / 301).end("timeout").story()) == []
    (found,) = messages(rules.retry_bounded, over_and_over(contract, wait, wait / 301).end("unfinished").story()) or []
    assert "requests (status) failed in a row" in found


def test_the_retries_of_a_download_count_from_its_first_request(contract: Contract) -> None:
    contract = documented(contract)
    wait = contract.polling.longest_wait

    def fetched(seconds: float) -> list[str] | None:
        told = finish(started(contract).wait(1.2 * wait))
        began = told.now
        while told.now < began + seconds:
            told.media(503).wait(60)
        return messages(rules.retry_bounded, told.end("timeout").story())

    assert fetched(wait) == [], "the wait for the job has passed, and that for the video has begun"
    (found,) = fetched(2 * wait) or []
    assert "requests (media) failed in a row" in found


def test_the_bound_on_retries_is_a_quarter_and_two_minutes_beyond_the_longest_wait(contract: Contract) -> None:
    contract = documented(contract)
    most = 1.25 * contract.polling.longest_wait + 120

    def failed(seconds: float) -> list[str] | None:
        told = Teller(contract).submit()
        told = fail(fail(told, 500).wait(1), 500)
        return messages(rules.retry_bounded, fail(told.wait(START + seconds - told.now), 500).end("timeout").story())

    assert failed(most - 1) == []
    assert failed(most + 1)


def test_a_retry_after_of_zero_allows_no_flood(contract: Contract) -> None:
    def flooded(times: int, pause: float) -> Teller:
        told = started(contract)
        for _ in range(times):
            fail(told.wait(pause), 429, retry_after="0")
        return told.end("timeout")

    assert messages(rules.backoff, flooded(10, 0.0).story()) == []
    assert messages(rules.backoff, flooded(40, 0.5).story()) == []
    (found,) = messages(rules.backoff, flooded(40, 0.0).story()) or []
    assert "39 attempts in a row" in found


def test_a_download_has_a_deadline_of_its_own(contract: Contract) -> None:
    told = finish(started(contract).wait(contract.polling.longest_wait * 1.2))
    for _ in range(10):
        fail(told.wait(30), 503, "media")
    assert messages(rules.retry_bounded, told.end("error").story()) == []


def test_an_unfinished_run_beyond_the_longest_wait_is_unbounded(contract: Contract) -> None:
    contract = documented(contract)
    wait = contract.polling.longest_wait
    assert messages(rules.retry_bounded, over_and_over(contract, 1.1 * wait).end("unfinished").story()) != []
    assert messages(rules.retry_bounded, over_and_over(contract, 10, 0.1).end("unfinished").story()) == []
    assert messages(rules.retry_bounded, over_and_over(contract, wait / 4, 1.0).end("unfinished").story()) == []
    assert messages(rules.retry_bounded, started(contract).end("unfinished").story()) is None


def test_a_retry_after_that_extends_the_deadline_is_found(contract: Contract) -> None:
    contract = documented(contract)
    wait = contract.polling.longest_wait
    for seconds in (5, int(3 * wait)):
        told = fail(started(contract), 503, retry_after=str(seconds)).wait(seconds).status(running(contract))
        assert (messages(rules.retry_bounded, told.end("timeout").story()) == []) is (seconds == 5)


TROUBLES = ["503", "429", "date", "500", "502", "408", "nothing", "html", "empty", "cut", "envelope", "word", "missing"]


class Careful:
    """A model of a careful client, which writes its trace under any sequence of faults."""

    def __init__(self, contract: Contract, troubles: list[str | None], jitter: Callable[[], float]) -> None:
        self.told = Teller(contract)
        self.contract = contract
        self.troubles = troubles
        self.jitter = jitter
        self.failed = 0

    @property
    def over(self) -> bool:
        return self.told.now > START + self.contract.polling.longest_wait

    def run(self) -> Teller:
        self.told.submit()
        for _ in range(4):
            if not self.ask("status", running(self.contract)):
                return self.told
        for role, situation in (("status", done(self.contract)), ("result", "succeeded")):
            if role in self.contract.operations and not self.ask(role, situation):
                return self.told
        return self.told.end("success") if self.ask("media", None) else self.told

    def ask(self, role: str, situation: str | None) -> bool:
        """Poll until a usable response; return whether there was one before the deadline."""
        self.failed = 0
        while not self.over and self.failed < 8:
            trouble = self.troubles.pop() if self.troubles else None
            self.told.wait(self.contract.polling.typical_interval * (1 + 0.1 * self.jitter()))
            if trouble is None:
                self.told.media() if role == "media" else self.told.call(role, situation)
                return True
            self.failed += 1
            self.told.wait(self.suffer(role, situation, trouble))
        self.told.end("timeout" if self.over else "error")
        return False

    def suffer(self, role: str, situation: str | None, trouble: str) -> float:
        """Add a request that fails, and return the pause of a careful client after it."""
        told, pause = self.told, 2.0**self.failed * (1 + 0.5 * self.jitter())
        if trouble in ("503", "429"):
            fail(told, int(trouble), role, retry_after="20")
            return 20.0
        if trouble == "date":
            fail(told, 503, role, retry_after=formatdate(told.now + 30, usegmt=True))
            return 30.0
        if trouble.isdigit():
            fail(told, int(trouble), role)
        elif trouble == "nothing":
            told.nothing(role)
        elif role == "media":
            told.media(whole=False)
        elif trouble == "missing":
            fail(told, 404, role)
        elif trouble == "envelope":
            told.call(role, "server_error", status=200)
        elif trouble == "word":
            answer = Teller(self.contract).call(role, situation).exchanges[0].answer
            named = answer.replace(f'"{situation}"'.encode(), b'"reticulating"')
            told.call(role, situation, answer=named)
        else:
            told.call(role, situation, **{"html": {"answer": b"<html>"}, "empty": {"answer": b""}}.get(trouble, CUT))
        return pause


# RTY-07


def asked(contract: Contract) -> Teller:
    return teller(contract)


def test_an_order_that_is_sent_again_unchanged_keeps_the_rule(contract: Contract) -> None:
    told = asked(contract).submit(None, status=503, job=None).wait(2).submit().end("success")
    assert messages(rules.repeat_the_order, told.story()) == []
    assert messages(rules.repeat_the_order, asked(contract).submit().end("success").story()) is None


@pytest.mark.parametrize(("body", "words"), [(b"", "an empty body"), (b"{}", "another body"), (b"[1", "another body")])
@pytest.mark.parametrize("how", [{"status": 429}, {"status": 503}, {"status": 0, "whole": False, "answered": None}])
def test_an_order_that_is_sent_again_without_its_body_is_found(
    body: bytes, words: str, how: dict[str, Any], contract: Contract
) -> None:
    told = asked(contract).submit(None, job=None, **how).wait(2).submit(None, job=None, status=400, body=body)
    assert messages(rules.repeat_the_order, told.end("failed").story()) == [
        f"request 2 repeats the order of request 1, but with {words}"
    ]


def test_an_order_with_another_prompt_is_not_a_repetition(contract: Contract) -> None:
    told = asked(contract).submit(None, job=None, status=429).wait(2)
    told.request = order_for(contract, contract.models[0], mark="again")
    assert messages(rules.repeat_the_order, told.submit().end("success").story())


def test_an_order_may_be_corrected_after_a_refusal_of_its_content(contract: Contract) -> None:
    told = asked(contract).submit(None, job=None, status=422).wait(2).submit(body=b"{}").end("failed")
    assert messages(rules.repeat_the_order, told.story()) is None


CUT: dict[str, Any] = {"answer": b'{"da', "whole": False}


@given(
    st.sampled_from(CONTRACTS),
    st.lists(st.sampled_from([None, None, *TROUBLES]), max_size=24),
    st.randoms(use_true_random=False),
)
def test_a_careful_client_is_never_accused(contract: Contract, troubles: list[str | None], random: Any) -> None:
    trace = Careful(contract, list(troubles), random.random).run().story()
    for rule in (*rules_of(polling), *rules_of(rules)):
        assert not checked(rule, trace), rule.id


enveloped = contracts_that(lambda contract: rules.envelope_refusal.applies(contract))


def refused_inside(contract: Contract, *codes: int) -> list[str] | None:
    """Return what RTY-08 says of polls whose bodies have other statuses than their responses."""
    told = started(contract)
    for code in codes:
        situation = next(one for one in contract.operations["status"].situations.values() if one.status == code)
        told.wait(3).status(situation.name, status=200)
    return messages(rules.envelope_refusal, told.story())


@enveloped
def test_a_refusal_in_an_envelope_may_be_repeated_a_few_times(contract: Contract) -> None:
    assert refused_inside(contract, 401) == []
    assert refused_inside(contract, *[401] * 9) == []
    assert refused_inside(contract, *[401] * 8, 200, *[401] * 8) == []
    assert refused_inside(contract, *[200] * 20) is None
    assert refused_inside(contract, *[500] * 20) is None, "it may pass"


@enveloped
def test_a_refusal_in_an_envelope_that_is_repeated_more_often_is_found(contract: Contract) -> None:
    for codes in ([401] * 10, [401, 403] * 5, [200, *[401] * 20, 200]):
        (found,) = refused_inside(contract, *codes) or []
        assert "had the refusal 401, but the request was repeated" in found
        assert found.endswith("allowed: 8")


@enveloped
def test_a_submission_that_is_refused_in_an_envelope_is_judged_too(contract: Contract) -> None:
    told = Teller(contract, {"prompt": "a"})
    for _ in range(10):
        told.submit("unauthenticated", status=200, job=None).wait(1)
    assert messages(rules.envelope_refusal, told.story()) != []


def test_only_a_contract_with_an_envelope_has_refusals_in_it(contract: Contract) -> None:
    codes = [one.template.example.get("code") for one in contract.operations["status"].situations.values()]
    assert rules.envelope_refusal.applies(contract) is all(isinstance(code, int) for code in codes)


def test_each_callback_excuses_one_more_read_after_a_refusal(contract: Contract) -> None:
    def refused(callbacks: int) -> list[str] | None:
        assert contract.callbacks is not None
        told = Teller(contract).submit().wait(60)
        for number in range(4):
            told.call("status", None, status=403)
            told.wait(1)
            for _ in range(callbacks if number == 1 else 0):
                told.callback(next(iter(contract.callbacks.situations)), 200)
            told.wait(5)
        return messages(rules.fatal_4xx_fast, told.end("failed").story())

    if contract.callbacks is not None:
        assert len(refused(0) or []) == len(refused(1) or []) == 1
        assert refused(2) == []
