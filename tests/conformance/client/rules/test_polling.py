"""The rules about polling, on traces written by hand: each is kept, broken and not observed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from hobbyhorse.conformance.client.rules import polling as rules
from hobbyhorse.contract.folder import load
from hobbyhorse.contract.forms.expressions import MISSING, replaced
from hobbyhorse.contract.values import Contract, Parameter
from tests import specimen
from tests.conftest import contracts_that, documented
from tests.judging import checked, messages, rules_of
from tests.tracing import FOREIGN, HOME, JOB, PRIVATE, START, Teller

called_back = contracts_that(lambda contract: contract.callbacks is not None)
linked = contracts_that(rules._links)
BODIES = [b"", b"<html>", b"[]", b"{", b"null"]


def two_steps(contract: Contract) -> bool:
    return "result" in contract.operations


one_step = contracts_that(lambda contract: not two_steps(contract))
stepwise = contracts_that(two_steps)


def stage(contract: Contract, *kinds: str) -> str:
    return next(one.name for one in contract.graph if one.kind in kinds)


def running(contract: Contract) -> str:
    return stage(contract, "running")


def done(contract: Contract) -> str:
    return "completed" if two_steps(contract) else stage(contract, "success")


def failure(contract: Contract) -> str:
    return stage(contract, "failure")


def ends(contract: Contract) -> list[str]:
    """Return the status situations with an end other than the first success stage."""
    first = stage(contract, "success")
    told = contract.operations["status"].situations
    return [
        name for name, one in told.items() if one.stages and first not in one.stages and contract.graph[name].terminal
    ]


def poll(told: Teller, times: int = 3, **how: Any) -> Teller:
    for _ in range(times):
        told.wait(told.contract.polling.typical_interval).status(running(told.contract), **how)
    return told


def finish(told: Teller) -> Teller:
    told.wait(3).status(done(told.contract))
    if two_steps(told.contract):
        told.wait(0.1).result("succeeded")
    return told


def happy(contract: Contract) -> Teller:
    return finish(poll(Teller(contract).submit())).media().end("success")


def other_body(told: Teller, change: dict[str, Any]) -> bytes:
    """Return the response of a running job with changed values; MISSING removes one."""
    spare = Teller(told.contract).status(running(told.contract)).story()
    value = spare.steps[0].value
    for name, new in change.items():
        for place in told.contract.operations["status"].bindings[name].response:
            value = replaced(value, place.pointer, new)
    return orjson.dumps(value)


def test_a_happy_client_breaks_nothing(contract: Contract) -> None:
    for rule in rules_of(rules):
        assert not checked(rule, happy(contract).story()), rule.id


def test_a_client_that_sends_nothing_shows_nothing(contract: Contract) -> None:
    for rule in rules_of(rules):
        if rule.id != "POL-02":
            assert checked(rule, Teller(contract).end("error").story()) is None, rule.id


def test_polls_after_a_success_are_found(contract: Contract) -> None:
    told = happy(contract)
    assert messages(rules.stop_at_terminal, told.story()) == []
    assert messages(rules.all_terminals, told.story()) is None
    told.wait(3).status(done(contract))
    assert messages(rules.stop_at_terminal, told.story()) == []
    told.wait(3).status(done(contract))
    assert messages(rules.stop_at_terminal, told.story()) != []


def test_a_job_under_way_shows_nothing_about_the_end_of_polling(contract: Contract) -> None:
    told = poll(Teller(contract).submit()).status(done(contract), whole=False).status(done(contract), answer=b"{}")
    assert messages(rules.stop_at_terminal, told.story()) is None
    assert messages(rules.all_terminals, told.story()) is None


@pytest.mark.parametrize("trouble", [{"status": 403}, {"status": 404}, {"status": 410}, {"move": "not_video"}])
def test_polls_for_a_fresh_link_are_allowed(contract: Contract, trouble: dict[str, Any]) -> None:
    told = finish(poll(Teller(contract).submit()))
    for _ in range(4):
        finish(told.media(**trouble))
    assert messages(rules.stop_at_terminal, told.media().end("success").story()) == []


@one_step
def test_polls_after_a_success_without_a_video_are_allowed(contract: Contract) -> None:
    for video in ("", PRIVATE + "/video.mp4", "file:///video.mp4"):
        told = Teller(contract).submit()
        told.video = video
        for _ in range(4):
            told.wait(3).status(done(contract))
        assert not messages(rules.stop_at_terminal, told.story())


@stepwise
def test_polls_after_a_result_without_a_usable_video_are_allowed(contract: Contract) -> None:
    for video in ("", "file:///video.mp4"):
        told = Teller(contract).submit()
        told.video = video
        for _ in range(4):
            told.wait(3).status("completed").wait(0.1).result("succeeded")
        assert messages(rules.stop_at_terminal, told.story()) == []


@stepwise
def test_polls_after_a_result_that_is_not_ready_are_allowed(contract: Contract) -> None:
    told = Teller(contract).submit()
    for situation in ("in_progress", "unknown_job", "server_error", "in_progress"):
        told.wait(3).status("completed").wait(0.1).result(situation)
    assert messages(rules.stop_at_terminal, told.story()) == []


def test_a_restarted_client_may_poll_again(contract: Contract) -> None:
    told = happy(contract).restart().status(done(contract)).restart().status(done(contract))
    assert messages(rules.stop_at_terminal, told.story()) == []


def test_polls_after_any_other_end_are_found(contract: Contract) -> None:
    for end in ends(contract):
        told = poll(Teller(contract).submit()).status(end)
        assert messages(rules.all_terminals, told.story()) == []
        assert messages(rules.stop_at_terminal, told.story()) is None
        told.wait(3).status(end).wait(3).status(end)
        assert repr(end) in (messages(rules.all_terminals, told.story()) or [""])[0]


def test_requests_after_the_end_of_a_run_are_found(contract: Contract) -> None:
    told = poll(Teller(contract).submit()).end("timeout")
    assert messages(rules.stop_after_giving_up, told.story()) == []
    told.wait(0.01).status(running(contract))
    assert messages(rules.stop_after_giving_up, told.story()) == []
    assert messages(rules.stop_after_giving_up, poll(told, 1).story()) != []


def test_an_unfinished_run_shows_nothing_about_its_end(contract: Contract) -> None:
    assert messages(rules.stop_after_giving_up, poll(Teller(contract).submit()).story()) is None
    assert messages(rules.stop_after_giving_up, poll(Teller(contract).submit().end("unfinished")).story()) is None


def test_requests_of_the_next_run_are_its_own(contract: Contract) -> None:
    told = poll(poll(Teller(contract).submit()).end("error").restart()).end("timeout")
    assert messages(rules.stop_after_giving_up, told.story()) == []


def unknown(contract: Contract, times: int, word: str = "reticulating") -> Teller:
    told = Teller(contract).submit()
    return poll(told, times, answer=other_body(told, {"stage": word}))


def test_polling_past_an_unknown_stage_is_allowed(contract: Contract) -> None:
    assert messages(rules.unknown_status, happy(contract).story()) is None
    for kind in ("timeout", "error", "failed"):
        assert messages(rules.unknown_status, unknown(contract, 3).end(kind).story()) == []
    assert messages(rules.unknown_status, finish(unknown(contract, 3)).media().end("success").story()) == []


def test_endless_polling_of_an_unknown_stage_is_found(contract: Contract) -> None:
    contract = documented(contract)
    told = unknown(contract, 3)
    body = other_body(told, {"stage": "reticulating"})
    told.wait(contract.polling.longest_wait).status(None, status=200, answer=body)
    assert messages(rules.unknown_status, told.story()) == []
    told.wait(contract.polling.longest_wait).status(None, status=200, answer=body)
    assert messages(rules.unknown_status, told.story()) != []


def test_an_error_about_an_unknown_stage_without_the_id_is_found(contract: Contract) -> None:
    told = unknown(contract, 1).end("error", id_exposed=False)
    assert messages(rules.unknown_status, told.story()) != []
    told = poll(unknown(contract, 1), 1).end("error", id_exposed=False)
    assert messages(rules.unknown_status, told.story()) == []
    assert messages(rules.unknown_status, unknown(contract, 1).end("error", id_exposed=None).story()) == []


def test_an_unknown_stage_reported_as_success_is_found(contract: Contract) -> None:
    assert messages(rules.unknown_status, unknown(contract, 1).end("success").story()) != []


def test_a_short_deadline_is_not_taken_for_a_misread_stage(contract: Contract) -> None:
    once = Teller(contract).submit().wait(3).status(running(contract))
    assert messages(rules.nonterminal_is_not_done, once.end("failed", told=False).story()) != []
    for polls, expected in ((3, True), (4, False)):
        told = poll(Teller(contract).submit(), polls).end("failed", told=False)
        assert bool(messages(rules.nonterminal_is_not_done, told.story())) is expected, polls


def test_a_job_under_way_reported_as_success_is_found(contract: Contract) -> None:
    assert messages(rules.nonterminal_is_not_done, happy(contract).story()) == []
    assert messages(rules.nonterminal_is_not_done, Teller(contract).submit().end("success").story()) != []
    assert messages(rules.nonterminal_is_not_done, poll(Teller(contract).submit()).end("success").story()) != []


@pytest.mark.parametrize("kind", ["failed", "error"])
def test_a_job_under_way_reported_as_failure_is_found(contract: Contract, kind: str) -> None:
    assert messages(rules.nonterminal_is_not_done, Teller(contract).submit().end(kind).story()) != []
    assert messages(rules.nonterminal_is_not_done, poll(Teller(contract).submit(), 1).end(kind).story()) != []
    late = poll(Teller(contract).submit()).wait(contract.polling.longest_wait)
    assert messages(rules.nonterminal_is_not_done, late.end(kind).story()) == []
    troubled = poll(poll(Teller(contract).submit(), 1).nothing("status"), 1)
    assert messages(rules.nonterminal_is_not_done, troubled.end(kind).story()) == []


@called_back
def test_a_callback_may_have_reported_the_end_of_a_job_under_way(contract: Contract) -> None:
    assert contract.callbacks is not None
    for situation, one in contract.callbacks.situations.items():
        success = any(contract.graph[name].kind == "success" for name in one.stages)
        for kind in ("failed", "error", "success")[: 3 if success else 2]:
            told = poll(Teller(contract).submit(), 1).callback(situation).end(kind)
            assert messages(rules.nonterminal_is_not_done, told.story()) == []


def test_a_timeout_despite_a_terminal_last_poll_is_found(contract: Contract) -> None:
    told = poll(Teller(contract).submit()).wait(3).status(done(contract))
    assert messages(rules.last_poll_counts, told.end("timeout").story()) != []
    assert messages(rules.last_poll_counts, told.end("success").story()) == []
    told = poll(Teller(contract).submit(), 2).wait(3).status(done(contract))
    assert messages(rules.last_poll_counts, told.end("timeout").story()) is None


def test_a_timeout_long_after_a_failure_was_reported_is_found(contract: Contract) -> None:
    role = "result" if two_steps(contract) else "status"
    for seconds, expected in ((10, False), (90, True)):
        told = poll(Teller(contract).submit()).wait(3)
        told = (
            told.status(done(contract)).wait(1).result("failed") if role == "result" else told.status(failure(contract))
        )
        found = messages(rules.last_poll_counts, told.wait(seconds).end("timeout", told=False).story())
        assert bool(found) is expected, found


def test_only_a_single_run_alone_shows_whether_the_last_poll_counts(contract: Contract) -> None:
    told = poll(Teller(contract).submit()).wait(3).status(done(contract))
    resumed = poll(Teller(contract).submit()).wait(3).status(done(contract)).end("timeout").restart()
    assert messages(rules.last_poll_counts, resumed.end("timeout").story()) is None
    told.drill = "together"
    assert messages(rules.last_poll_counts, told.end("timeout").story()) is None


def test_a_last_response_that_takes_longer_than_a_second_may_be_too_late(contract: Contract) -> None:
    def ended(seconds: float) -> list[str] | None:
        told = poll(Teller(contract).submit()).wait(3)
        told.status(done(contract), answered=told.now + seconds)
        return messages(rules.last_poll_counts, told.end("timeout").story())

    assert ended(0.9)
    assert ended(1.1) == []


def test_an_inferred_timeout_after_a_failure_is_not_judged(contract: Contract) -> None:
    failed = next(stage.name for stage in contract.graph if stage.kind == "failure")
    told = poll(Teller(contract).submit()).wait(3)
    told = told.status(done(contract)).result("failed") if two_steps(contract) else told.status(failed)
    assert messages(rules.last_poll_counts, told.end("timeout", told=False).story()) == []
    assert messages(rules.last_poll_counts, told.end("timeout", told=True).story())


def test_a_timeout_after_further_requests_is_not_judged(contract: Contract) -> None:
    told = finish(poll(Teller(contract).submit())).media(503)
    assert messages(rules.last_poll_counts, told.end("timeout").story()) == []
    told = poll(Teller(contract).submit()).status(done(contract)).status("server_error")
    assert messages(rules.last_poll_counts, told.end("timeout").story()) == []
    told = poll(Teller(contract).submit()).status(done(contract), answered=1e10)
    assert messages(rules.last_poll_counts, told.end("timeout").story()) == []
    assert messages(rules.last_poll_counts, poll(Teller(contract).submit(), 5).end("timeout").story()) is None


def test_an_interval_that_no_document_has_may_be_shortened_by_half(contract: Contract) -> None:
    def polled(pause: float) -> list[str] | None:
        told = Teller(contract).submit()
        for _ in range(5):
            told.wait(pause).status(running(contract))
        return messages(rules.cadence, told.story())

    least = contract.polling.least_interval
    assert polled(0.6 * least) == []
    assert polled(0.1 * least) != []


def test_polls_below_the_least_interval_are_found(contract: Contract) -> None:
    told = poll(Teller(contract).submit())
    assert messages(rules.cadence, told.story()) == []
    told.wait(0.1).status(running(contract))
    assert messages(rules.cadence, told.story()) == []
    told.wait(0.1).status(running(contract))
    assert messages(rules.cadence, told.story()) != []
    assert messages(rules.cadence, Teller(contract).submit().status(running(contract)).story()) is None


@contracts_that(two_steps)
def test_polls_of_a_result_below_the_least_interval_are_found(contract: Contract) -> None:
    told = Teller(contract).submit()
    for _ in range(3):
        told.wait(contract.polling.least_interval).result("in_progress")
    assert messages(rules.cadence, told.story()) == []
    for _ in range(3):
        told.wait(0.1).result("in_progress")
    assert messages(rules.cadence, told.story())


def test_polls_of_several_jobs_are_measured_separately(contract: Contract) -> None:
    told = Teller(contract).submit()
    for _ in range(4):
        for number in range(4):
            told.status(running(contract), job=f"{JOB[:-1]}{number}")
        told.wait(contract.polling.least_interval)
    assert messages(rules.cadence, told.story()) == []


@called_back
def test_a_poll_immediately_after_a_callback_is_allowed(contract: Contract) -> None:
    assert contract.callbacks is not None
    told = poll(Teller(contract).submit())
    for _ in range(4):
        told.callback(next(iter(contract.callbacks.situations))).status(running(contract))
    assert messages(rules.cadence, told.story()) == []


@linked
def test_a_request_to_another_url_than_the_given_one_is_found(contract: Contract) -> None:
    told = happy(contract)
    assert messages(rules.follow_given_urls, told.story()) == []
    for url in (told.links()["status_url"] + "?more=1", f"{HOME}/v1/status/1", FOREIGN):
        assert messages(rules.follow_given_urls, happy(contract).status(running(contract), url=url).story()) != []
    lost = Teller(contract).submit().call(None, None, url=f"{HOME}/requests/{JOB}", job=None, status=404)
    assert messages(rules.follow_given_urls, lost.story()) != []
    for url in (f"{HOME}/health", f"{FOREIGN}/requests/{JOB}"):
        told = Teller(contract).submit().call(None, None, url=url, job=None, status=404)
        assert messages(rules.follow_given_urls, told.story()) is None
    assert messages(rules.follow_given_urls, Teller(contract).status(running(contract)).story()) is None


@linked
def test_a_wrong_url_is_reported_beside_the_one_that_was_given_last(contract: Contract) -> None:
    told = Teller(contract).submit()
    ticket = told.links()["status_url"] + "?token=1"
    body = other_body(told, {"status_url": ticket})
    told.status(running(contract), answer=body).status(running(contract), url=f"{HOME}/elsewhere")
    (found,) = messages(rules.follow_given_urls, told.story()) or []
    assert found == f"request 3 goes to {HOME}/elsewhere; the provider returned {ticket}"


@linked
def test_a_wrong_way_of_building_urls_is_reported_three_times_at_most(contract: Contract) -> None:
    told = Teller(contract).submit()
    for _ in range(5):
        told.status(running(contract), url=f"{HOME}/elsewhere")
    assert len(messages(rules.follow_given_urls, told.story()) or []) == 3


@linked
def test_a_link_to_a_foreign_origin_need_not_be_followed(contract: Contract) -> None:
    def lured() -> Teller:
        told = Teller(contract)
        told.base = f"{FOREIGN}/{contract.key}"
        body = told.submit().exchanges.pop().answer
        told.base = f"{HOME}/{contract.key}"
        return told.submit(answer=body)

    told = lured().wait(3).status(running(contract))
    assert messages(rules.follow_given_urls, told.story()) is None
    wrong = lured().call(None, None, url=f"{HOME}/requests/{JOB}", job=None, status=404)
    assert messages(rules.follow_given_urls, wrong.story()) != []
    # After a good link, the client has a URL that it may follow.
    ticket = told.links()["status_url"] + "?token=1"
    body = told.exchanges[-1].answer.replace(told.links()["status_url"].encode(), ticket.encode())
    if body != told.exchanges[-1].answer:
        told = lured().status(running(contract), answer=body).status(running(contract), url=ticket)
        assert messages(rules.follow_given_urls, told.story()) == []


@linked
def test_a_documented_query_may_be_added_to_a_given_url(contract: Contract) -> None:
    operation = contract.operations["status"]
    own = (Parameter("logs", "query", False, "string", ""),)
    told = replace(contract, operations={**contract.operations, "status": replace(operation, parameters=own)})
    for query, expected in (("logs=1", True), ("other=1", False), ("logs=1&other=1", False)):
        trace = Teller(told).submit()
        trace.status(running(told), url=trace.links()["status_url"] + f"?{query}")
        assert (messages(rules.follow_given_urls, trace.story()) == []) is expected, query


@linked
def test_an_opaque_query_is_kept(contract: Contract) -> None:
    first = Teller(contract).submit().story().steps[0]
    told = Teller(contract)
    url = told.links()["status_url"]
    body = first.exchange.answer.replace(url.encode() + b'"', url.encode() + b'?token=a%2Fb"')
    assert body != first.exchange.answer
    told.submit(answer=body).status(running(contract), url=url + "?token=a/b")
    assert messages(rules.follow_given_urls, told.story()) == []
    told = Teller(contract).submit(answer=body).status(running(contract), url=url)
    assert messages(rules.follow_given_urls, told.story()) != []


@linked
def test_a_url_that_was_not_given_may_be_built(contract: Contract) -> None:
    value = Teller(contract).submit().story().steps[0].value
    for name in ("status_url", "result_url", "cancel_url"):
        for place in contract.operations["submit"].bindings[name].response:
            value = replaced(value, place.pointer, MISSING)
    told = Teller(contract).submit(answer=orjson.dumps(value))
    assert messages(rules.follow_given_urls, told.status(running(contract), url=HOME).story()) is None


def test_an_error_envelope_treated_as_success_or_polled_endlessly_is_found(contract: Contract) -> None:
    told = poll(Teller(contract).submit()).status("server_error", status=200)
    assert messages(rules.envelope_is_an_error, told.end("error").story()) == []
    assert messages(rules.body_robust, told.end("error").story()) == []
    assert messages(rules.envelope_is_an_error, told.end("success").story()) != []
    assert messages(rules.envelope_is_an_error, happy(contract).story()) is None


@pytest.mark.parametrize("pause", [1, 5, 100])
def test_polling_past_error_envelopes_is_bounded_by_the_deadline(contract: Contract, pause: float) -> None:
    contract = documented(contract)
    told = poll(Teller(contract).submit())
    while told.now - START < contract.polling.longest_wait:
        told.wait(pause).status("server_error", status=200)
    assert messages(rules.envelope_is_an_error, told.end("timeout").story()) == []
    told.wait(contract.polling.longest_wait).status("server_error", status=200)
    (found,) = messages(rules.envelope_is_an_error, told.end("timeout").story()) or []
    assert "after the wait began" in found


def test_a_distorted_response_is_not_an_error_envelope(contract: Contract) -> None:
    values: tuple[Any, ...] = (MISSING, None, "", [], {})
    for name in contract.operations["status"].bindings:
        told = Teller(contract).submit()
        for new in values:
            told.wait(3).status(None, status=200, answer=other_body(told, {name: new}))
        assert messages(rules.envelope_is_an_error, told.story()) is None


@pytest.mark.parametrize("body", BODIES)
def test_giving_up_at_the_first_unusable_body_is_found(contract: Contract, body: bytes) -> None:
    assert messages(rules.body_robust, happy(contract).story()) is None
    told = Teller(contract).submit().wait(3).status(running(contract), answer=body)
    assert messages(rules.body_robust, told.end("error").story()) != []
    assert messages(rules.body_robust, told.end("timeout").story()) == []
    assert messages(rules.body_robust, told.end("success").story()) != []
    assert messages(rules.body_robust, finish(poll(told)).media().end("success").story()) == []


def test_giving_up_after_several_unusable_bodies_is_allowed(contract: Contract) -> None:
    told = poll(Teller(contract).submit(), 2, answer=b"")
    assert messages(rules.body_robust, told.end("error").story()) == []
    told = finish(poll(Teller(contract).submit())).media(403).wait(1).status(None, status=200, answer=b"")
    assert messages(rules.body_robust, told.end("error").story()) == []


@pytest.mark.parametrize("pause", [2, 30])
def test_polling_past_unusable_bodies_beyond_the_deadline_is_found(contract: Contract, pause: float) -> None:
    contract = documented(contract)
    told = Teller(contract).submit()
    while told.now - START < contract.polling.longest_wait:
        told.wait(pause).status(None, status=200, answer=b"")
    assert messages(rules.body_robust, told.end("timeout").story()) == []
    assert messages(rules.body_robust, told.end("unfinished").story()) == []
    told.wait(contract.polling.longest_wait).status(None, status=200, answer=b"")
    assert messages(rules.body_robust, told.end("timeout").story()) != []


def test_polling_without_pauses_until_the_run_is_cut_off_is_found(contract: Contract) -> None:
    def polled(pause: float, times: int) -> Teller:
        told = Teller(contract).submit()
        for _ in range(times):
            told.wait(pause).status(None, status=200, answer=b"")
        return told.end("unfinished")

    (found,) = messages(rules.body_robust, polled(0.01, 30).story()) or []
    assert "30 times in a row" in found
    assert messages(rules.body_robust, polled(3, 30).story()) == []
    assert messages(rules.body_robust, polled(0.01, 10).story()) == []
    assert messages(rules.body_robust, polled(0.01, 30).status(running(contract)).story()) == []


def test_giving_up_at_a_body_that_breaks_off_is_found(contract: Contract) -> None:
    told = Teller(contract).submit().wait(3).status(running(contract), whole=False)
    assert messages(rules.body_robust, told.end("error").story()) != []
    assert messages(rules.body_robust, told.end("timeout").story()) == []


def test_a_pause_of_minutes_between_two_polls_is_found(contract: Contract) -> None:
    for seconds, count in ((110, 0), (150, 1)):
        told = poll(Teller(contract).submit()).wait(seconds).status(running(contract))
        assert len(messages(rules.not_too_rare, finish(told).end("success").story()) or ()) == count
    asked = poll(Teller(contract).submit()).status(running(contract), answer_headers=(("retry-after", "150"),))
    assert not messages(rules.not_too_rare, finish(asked.wait(150).status(running(contract))).end("success").story())
    failing = poll(Teller(contract).submit()).status(None, status=503).wait(150).status(running(contract))
    assert not messages(rules.not_too_rare, finish(failing).end("success").story())


def test_the_first_response_shown_again_after_a_failure_leaves_the_job_failed() -> None:
    """The specimen names the stage in the response to a submission, and a repeated key gets this response again."""
    contract, job = load(specimen.FOLDER), "job-00000000000000aa"

    def ended(*, repeated: bool) -> list[str] | None:
        told = Teller(contract).submit(job=job).status("failed" if repeated else "running", job=job)
        told = told.submit("replayed", job=job) if repeated else told
        return messages(rules.nonterminal_is_not_done, told.end("failed", told=False).story())

    assert ended(repeated=True) == []
    assert ended(repeated=False) != []
