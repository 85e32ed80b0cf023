"""One entry of an archive: the parts that recorders leave out are named, in each recorder's form."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from typing import Any

import pytest

from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.judge import BROKEN, NOT_OBSERVED, PASSED, judge
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.exchange import ANSWER, ANSWER_HEADERS, API_KEY, BODY, DURATION, HEADERS, Exchange
from hobbyhorse.traces.har import read_har
from tests.traces.recorders import (
    ACME,
    API,
    ORDER,
    REQUEST_BODIES,
    RESPONSE_BODIES,
    Change,
    archive,
    entry,
    named,
    poll,
    submission,
    without_length,
)


def exchange(one: dict[str, Any]) -> Exchange:
    return read_har(archive(one), ACME).trace.exchanges[0]


def verdicts(*entries: dict[str, Any]) -> dict[str, str]:
    return {one.rule.id: one.verdict for one in judge(ACME, [read_har(archive(*entries), ACME).trace], rules())}


def broken(*entries: dict[str, Any]) -> list[str]:
    return [name for name, verdict in verdicts(*entries).items() if verdict == BROKEN]


def test_a_complete_entry_lacks_nothing() -> None:
    assert exchange(submission()).unrecorded == ()
    assert exchange(poll()).unrecorded == ()


each_request_body = pytest.mark.parametrize("change", REQUEST_BODIES.values(), ids=REQUEST_BODIES.keys())
each_response_body = pytest.mark.parametrize("change", RESPONSE_BODIES.values(), ids=RESPONSE_BODIES.keys())


@each_request_body
def test_a_request_body_that_is_not_recorded_is_named_and_counted(change: Change) -> None:
    one = submission()
    change(one)
    found = read_har(archive(one, poll(at=1)), ACME)
    assert [step.unrecorded for step in found.trace.exchanges] == [(BODY,), ()]
    assert found.notes == ("1 request body is not recorded, and cannot be judged",)


@each_response_body
def test_a_response_body_that_is_not_recorded_is_named_and_counted(change: Change) -> None:
    one = poll(at=1)
    change(one)
    found = read_har(archive(submission(), one), ACME)
    assert [step.has(ANSWER) for step in found.trace.exchanges] == [True, False]
    assert found.notes == ("1 response body is not recorded, and cannot be judged",)


def test_the_same_order_twice_is_a_finding_if_all_of_it_is_recorded() -> None:
    """The counterpart of the tests below: without it, they would pass for a judge that sees nothing."""
    found = broken(submission(), poll(at=5), submission("job-2", at=60))
    assert {"SUB-02", "SUB-06"} <= set(found)


@each_request_body
def test_two_submissions_without_their_bodies_are_not_one_order(change: Change) -> None:
    pair = [submission(), submission("job-2", at=60)]
    for one in pair:
        change(one)
    found = verdicts(pair[0], poll(at=5), pair[1])
    assert BROKEN not in found.values()
    assert {found[name] for name in ("SUB-01", "SUB-02", "SUB-05", "SUB-06")} == {NOT_OBSERVED}


@each_request_body
def test_a_submission_without_its_body_is_not_a_valid_request(change: Change) -> None:
    one = submission()
    change(one)
    assert verdicts(submission())["SCH-01"] == PASSED
    assert verdicts(one)["SCH-01"] == NOT_OBSERVED


@each_response_body
def test_a_submission_with_an_unread_response_has_no_unknown_outcome(change: Change) -> None:
    first = submission()
    change(first)
    assert broken(first, submission("job-2", at=60)) == []


@each_response_body
def test_an_unread_poll_may_have_been_the_end(change: Change) -> None:
    """After a success, or a failure, the user may order the same video again."""
    last = poll(at=9)
    change(last)
    assert broken(submission(), poll(at=5), last, submission("job-2", at=60)) == []


@each_response_body
def test_unread_responses_are_not_failures_that_a_client_polls_past(change: Change) -> None:
    polls = [poll(at=second) for second in range(1, 59)]
    for one in polls:
        change(one)
    assert not {"POL-10", "POL-09", "RTY-03", "RTY-06", "TMO-01"} & set(broken(submission(), *polls))


def test_an_ambiguous_submission_with_an_unread_error_is_still_a_finding() -> None:
    first = entry(status=500, sent=ORDER)
    del first["response"]["content"]["text"]
    assert "SUB-01" in broken(first, submission("job-2", at=60))


def test_a_client_that_may_be_called_back_may_know_that_its_job_has_ended() -> None:
    order = {**ORDER, "callback_url": "https://client.example/hook"}
    asked = [submission(sent=order), submission("job-2", sent=order, at=600)]
    assert "SUB-06" in broken(submission(), submission("job-2", at=600))
    assert not {"SUB-02", "SUB-06"} & set(broken(*asked))
    annotated = AnnotatedTrace(ACME, read_har(archive(*asked), ACME).trace)
    assert [len(order) for order in annotated.orders] == [1]


def test_headers_that_are_not_recorded_are_not_missing_headers() -> None:
    one = submission()
    one["request"]["headers"] = []
    found = exchange(one)
    assert HEADERS in found.unrecorded
    # The second request shows that the recorder keeps keys.
    assert broken(one, poll(at=1)) == []
    one["request"]["headers"] = named({"Host": "api.acme.example"})
    assert "SCH-05" in broken(one, poll(at=1))


def test_response_headers_that_are_not_recorded_are_named() -> None:
    one = poll()
    one["response"]["headers"] = []
    assert exchange(one).unrecorded == (ANSWER_HEADERS,)


@pytest.mark.parametrize("key", [None, "[redacted]", "***", "REDACTED", "xxxxxxxx", "…"])
def test_two_submissions_with_unknown_keys_are_not_one_order(key: str | None) -> None:
    pair = [submission(key=key), submission("job-2", key=key, at=60)]
    trace = read_har(archive(*pair), ACME).trace
    assert all(not one.has(API_KEY) for one in trace.exchanges)
    assert broken(*pair) == []


def test_two_keys_with_the_same_body_are_two_orders() -> None:
    found = broken(submission(key="sk-one-111111"), poll(key="sk-one-111111", at=5), submission("job-2", at=60))
    assert found == []


@pytest.mark.parametrize("time", [None, -1, "soon"])
def test_a_duration_that_is_not_recorded_is_named(time: Any) -> None:
    one = poll()
    one["time"] = time
    assert exchange(one).unrecorded == (DURATION,)
    one["timings"] = {"wait": 5}
    assert exchange(one).unrecorded == ()


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_response_that_has_no_body_lacks_none(status: int) -> None:
    one = poll(status=status)
    one["response"]["content"] = {"size": 0}
    without_length(one["response"])
    assert exchange(one).has(ANSWER)


def test_a_body_that_is_empty_on_the_wire_is_recorded() -> None:
    one = entry("GET", f"{API}/v1/jobs/job-1")
    assert one["response"]["content"]["text"] == ""
    assert exchange(one).has(ANSWER)


def test_a_revalidated_response_is_the_response_that_the_page_had() -> None:
    one = poll(status=304, state="done")
    found = exchange(one)
    assert (found.status, json.loads(found.answer)["state"]) == (200, "done")


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_a_body_that_is_recorded_compressed_is_read(pack: Any) -> None:
    plain = json.dumps({"id": "job-1", "state": "done"}).encode()
    one = poll()
    one["response"]["content"] = {"text": base64.b64encode(pack(plain)).decode(), "encoding": "base64", "size": 9}
    coding = "gzip" if pack is gzip.compress else "deflate"
    one["response"]["headers"] = named({"Content-Encoding": coding})
    found = exchange(one)
    assert (found.answer, found.unrecorded) == (plain, ())


def test_a_compressed_body_that_breaks_off_is_not_recorded() -> None:
    packed = gzip.compress(b'{"id": "job-1"}')[:-9]
    one = poll()
    one["response"]["content"] = {"text": base64.b64encode(packed).decode(), "encoding": "base64", "size": 9}
    assert exchange(one).unrecorded == (ANSWER,)


def test_an_archive_of_this_program_names_its_own_gaps() -> None:
    one = submission()
    del one["request"]["postData"]
    one["_unrecorded"] = [ANSWER, "unknown"]
    assert exchange(one).unrecorded == (ANSWER,)


def test_an_unread_response_is_neither_unusable_nor_ambiguous_nor_refused() -> None:
    first, second = submission(), poll(at=5)
    for one in (first, second):
        del one["response"]["content"]["text"]
    sent, read = AnnotatedTrace(ACME, read_har(archive(first, second), ACME).trace).steps
    assert (sent.ambiguous, sent.refused, sent.bad_body, sent.ending) == (False, False, False, True)
    assert (read.transient, read.bad_body, read.ending, read.under_way) == (False, False, True, False)
