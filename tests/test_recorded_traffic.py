"""Recorded traffic of careful clients is no finding, whatever the recording lacks; shown in full, it would be one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime, timezone
from types import FrameType
from typing import Any

import pytest

from hobbyhorse.conformance.client.grouping import RECORDED_WAIT
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.judge import BROKEN, NOT_OBSERVED, judge
from hobbyhorse.traces.har import read_har
from tests.traces.recorders import ACME, API, ORDER, archive, entry, named, poll, submission

DAY = 86_400.0
# A valid id, without which no response is clean.
JOB = "job-0123456789abcdef"
ANOTHER = {**ORDER, "input": {"image": "https://example.com/a.png", "prompt": "walk"}}


def at(one: dict[str, Any], second: float) -> dict[str, Any]:
    """Return an entry at a moment that is hours or days after the first."""
    moment = datetime.fromtimestamp(1_767_225_600 + second, timezone.utc)
    return {**one, "startedDateTime": moment.isoformat(timespec="milliseconds")}


def verdicts(*entries: dict[str, Any]) -> dict[str, str]:
    trace = read_har(archive(*entries), ACME).trace
    return {one.rule.id: one.verdict for one in judge(ACME, [trace], rules())}


def broken(*entries: dict[str, Any]) -> set[str]:
    return {name for name, verdict in verdicts(*entries).items() if verdict == BROKEN}


def ended(second: float) -> dict[str, Any]:
    """Return a poll with a valid response that reports success."""
    example = ACME.schemas.at(ACME.operations["status"].situations["done"].example_at)
    return at(entry("GET", f"{API}/v1/jobs/{JOB}", {**example, "id": JOB}), second)


def failing(start: float, job: str = "job-1", wait: str | None = None) -> list[dict[str, Any]]:
    """Return five failed polls."""
    found = [at(poll(job, status=503), start + 5 * number) for number in range(5)]
    for one in found:
        one["response"]["headers"] += named({"Retry-After": wait}) if wait else []
    return found


def test_failures_on_the_next_day_are_not_endless_retries() -> None:
    started = [submission(), poll(at=5, state="done")]
    assert broken(*started, at(submission("job-2", sent=ANOTHER), DAY), *failing(DAY + 5, "job-2")) == set()
    assert broken(*started, *failing(DAY)) == set()
    assert broken(submission(), *failing(DAY, wait="3")) == set()


def test_failures_without_a_pause_are_endless_retries() -> None:
    step = 0.4 * ACME.polling.longest_wait  # a longer silence would be another visit
    polls = [at(poll(status=503), step * number) for number in range(1, int(1.2 * RECORDED_WAIT / step))]
    assert "RTY-06" in broken(submission(), *polls)


def test_polls_after_the_end_are_a_finding_within_one_visit_only() -> None:
    done = [ended(second) for second in (5, 15, 25, 35)]
    assert "POL-01" in broken(submission(JOB), *done)
    assert broken(submission(JOB), *(ended(5 + DAY * day) for day in range(5))) == set()


def test_each_load_of_a_page_is_a_new_client() -> None:
    visits = [ended(second) for second in (5, 15, 25, 35)]
    for number, one in enumerate(visits):
        one["pageref"] = f"page_{number}"
    assert broken(submission(JOB), *visits) == set()
    first, second = submission(), submission("job-2", at=60)
    first["pageref"], second["pageref"] = "page_1", "page_2"
    assert broken(first, poll(at=5), second) == set()
    second["pageref"] = "page_1"
    assert "SUB-06" in broken(first, poll(at=5), second)


def test_polls_of_unknown_duration_may_have_been_sent_before_the_end_was_known() -> None:
    polls = [ended(second) for second in (5, 15, 25, 35)]
    for one in polls:
        one["time"] = -1
    assert broken(submission(JOB), *polls) == set()


def test_a_retry_without_the_headers_of_the_failure_may_be_what_they_requested() -> None:
    chain = [at(poll(status=503), 5 + 0.15 * number) for number in range(4)]
    assert "RTY-03" in broken(submission(), *chain)
    for one in chain:
        one["response"]["headers"] = []
    assert broken(submission(), *chain) == set()


def _no_headers(one: dict[str, Any]) -> None:
    one["request"]["headers"] = []


def _no_key(one: dict[str, Any]) -> None:
    one["request"]["headers"] = [header for header in one["request"]["headers"] if header["name"] != "Authorization"]


@pytest.mark.parametrize("change", [_no_headers, _no_key])
def test_rules_about_keys_are_not_observed_in_a_recording_without_keys(
    change: Callable[[dict[str, Any]], None],
) -> None:
    entries = [submission(), poll(at=5)]
    assert verdicts(*entries)["SEC-04"] == "passed"
    for one in entries:
        change(one)
    assert verdicts(*entries)["SEC-04"] == NOT_OBSERVED


def test_a_cookie_may_have_been_set_before_the_recording_began() -> None:
    done = entry("GET", f"{API}/v1/jobs/job-1/result", {"id": "job-1", "video": "https://cdn.example/v.mp4"}, at=9)
    video = entry("GET", "https://cdn.example/v.mp4", at=10, key=None, headers={"Cookie": "consent=yes"})
    video["response"]["content"] = {"size": 5_000, "mimeType": "video/mp4"}
    video["response"]["headers"] = named({"Content-Type": "video/mp4", "Content-Length": "5000"})
    assert "SEC-01" not in broken(submission(), poll(at=5, state="done"), done, video)
    video["request"]["headers"] += named({"Authorization": "Bearer sk-acme-123456"})
    assert "SEC-01" in broken(submission(), poll(at=5, state="done"), done, video)


def test_two_keys_may_use_the_same_idempotency_key() -> None:
    pair = [submission(headers={"Idempotency-Key": "k"}), submission("job-2", sent=ANOTHER, at=60)]
    pair[1]["request"]["headers"] += named({"Idempotency-Key": "k"})
    assert "SUB-02" in broken(*pair)
    other = submission("job-2", sent=ANOTHER, at=60, key="sk-other-999999", headers={"Idempotency-Key": "k"})
    assert broken(pair[0], other) == set()


def test_a_url_may_have_been_in_a_response_that_is_not_recorded() -> None:
    elsewhere = entry("GET", f"{API}/v1/opaque/7", {}, at=9)
    first = poll(at=5)
    assert "SCH-01" in broken(submission(), first, elsewhere)
    del first["response"]["content"]["text"]
    assert "SCH-01" not in broken(submission(), first, elsewhere)


def orders(count: int, *, refused: bool) -> list[dict[str, Any]]:
    """Return `count` equal orders that are polled four times each, with a refusal before each of them or without."""
    found = []
    for number in range(count):
        begun, job = 60.0 * number, f"job-{number:016d}"
        found += [at(submission(job, status=429), begun)] if refused else []
        found.append(at(submission(job), begun + 20))
        found += [at(poll(job), begun + 20 + 5 * turn) for turn in range(1, 5)]
    return found


def calls_to_judge(entries: list[dict[str, Any]]) -> int:
    """Return the number of calls that the rules make for a recording."""
    trace, calls = read_har(archive(*entries), ACME).trace, 0

    def count(frame: FrameType, event: str, value: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        judge(ACME, [trace], rules())
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda count: orders(count, refused=False), id="equal orders"),
        pytest.param(lambda count: orders(count, refused=True), id="refusals"),
        pytest.param(
            lambda count: orders(1, refused=False) + [at(poll(), 60 + n) for n in range(5 * count)], id="polls"
        ),
    ],
)
def test_a_recording_of_four_times_the_requests_costs_about_as_many_times(
    made: Callable[[int], list[dict[str, Any]]],
) -> None:
    few, many = (calls_to_judge(made(count)) for count in (30, 120))
    assert many < 6 * few
