"""Entries that stand for one request, or for none: each recorder's marks, and requests that only look alike."""

from __future__ import annotations

from typing import Any

import pytest

from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.judge import BROKEN, judge
from hobbyhorse.traces.har import RecordedTrace, read_har
from tests.traces.recorders import ACME, API, archive, entry, named, poll, submission

CHROME, PLAYWRIGHT = "WebInspector", "Playwright"


def recorded(*entries: dict[str, Any], creator: str = CHROME, **more: Any) -> RecordedTrace:
    return read_har(archive(*entries, creator=creator, **more), ACME)


def count(*entries: dict[str, Any], creator: str = CHROME, **more: Any) -> int:
    return len(recorded(*entries, creator=creator, **more).trace.exchanges)


def marked(one: dict[str, Any], where: str, name: str, value: Any) -> dict[str, Any]:
    (one["response"] if where == "response" else one)[name] = value
    return one


MARKS = [
    ("response", "_fetchedViaServiceWorker", True),
    ("entry", "_fetchedViaServiceWorker", True),
    ("response", "_fromServiceWorker", True),
    ("entry", "_serviceWorker", {"url": "https://app.example/sw.js"}),
    ("entry", "_fetchType", "Service Worker"),
]


@pytest.mark.parametrize("mark", MARKS, ids=str)
@pytest.mark.parametrize("order", [1, -1])
def test_a_request_that_a_service_worker_passes_on_is_counted_once(mark: tuple[str, str, Any], order: int) -> None:
    pair = [marked(submission(), *mark), submission(at=0.004)]
    found = recorded(*pair[::order], poll(at=5))
    assert len(found.trace.exchanges) == 2
    assert "counted once: requests that a service worker passed on: 1" in found.notes
    verdicts = judge(ACME, [found.trace], rules())
    assert not [one.rule.id for one in verdicts if one.verdict == BROKEN]


def test_the_network_request_is_kept_with_the_parts_that_only_the_page_has() -> None:
    outer, inner = marked(submission(), *MARKS[0]), submission(at=0.004)
    del inner["request"]["postData"]
    inner["request"]["headers"] = []
    inner["response"]["content"] = {"size": 38}
    inner["response"]["headers"] = []
    (one,) = recorded(outer, inner).trace.exchanges
    assert one.unrecorded == ()
    assert one.arrived == pytest.approx(1_767_225_600.004)
    assert one.job == "job-1"


@pytest.mark.parametrize("creator", [CHROME, PLAYWRIGHT, "Firefox", "WebKit Web Inspector", "BrowserStack"])
def test_a_nested_equal_request_of_a_browser_is_counted_once_without_a_mark(creator: str) -> None:
    inner = submission(at=0.010)
    inner["time"] = 80
    assert count(submission(), inner, creator=creator) == 1


def test_a_recording_that_names_its_browser_is_one_of_a_browser() -> None:
    inner = submission(at=0.010)
    inner["time"] = 80
    assert count(submission(), inner, creator="a plugin", browser={"name": "chromium"}) == 1


def test_an_equal_request_through_a_proxy_is_a_second_request() -> None:
    inner = submission(at=0.010)
    inner["time"] = 80
    assert count(submission(), inner, creator="mitmproxy") == 2


DIFFERENT: dict[str, dict[str, Any]] = {
    "another job": submission("job-2", at=0.004),
    "another body": submission(at=0.004, sent={"model": "acme/move", "input": {"prompt": "walk"}}),
    "another key": submission(at=0.004, key="sk-other-99999"),
    "another idempotency key": submission(at=0.004, headers={"Idempotency-Key": "b"}),
    "another status": submission(at=0.004, status=500),
    "after the response": submission(at=0.2),
}


@pytest.mark.parametrize("other", DIFFERENT.values(), ids=DIFFERENT.keys())
def test_a_request_that_differs_is_another_request(other: dict[str, Any]) -> None:
    one = submission(headers={"Idempotency-Key": "a"})
    assert count(marked(one, *MARKS[0]), other) == 2


def test_parts_of_a_download_are_different_requests() -> None:
    parts = [entry("GET", f"{API}/v1/jobs/job-1", {}, headers={"Range": f"bytes={n}-"}) for n in (0, 9)]
    for number, one in enumerate(parts):
        one["startedDateTime"] = f"2026-01-01T00:00:00.00{number}Z"
    assert count(marked(parts[0], *MARKS[0]), parts[1]) == 2


def test_two_requests_that_are_passed_on_remain_two() -> None:
    first = [marked(submission(), *MARKS[0]), submission(at=0.004)]
    second = [marked(submission("job-2", at=60), *MARKS[0]), submission("job-2", at=60.004)]
    assert count(*first, *second) == 2


def test_a_request_that_is_marked_but_listed_once_is_kept() -> None:
    assert count(marked(submission(), *MARKS[0]), poll(at=5)) == 2


@pytest.mark.parametrize("source", ["cache-storage", "http-cache", "fallback-code"])
def test_a_response_that_a_service_worker_made_itself_is_left_out(source: str) -> None:
    one = marked(poll(at=5), *MARKS[0])
    one["response"]["_serviceWorkerResponseSource"] = source
    found = recorded(submission(), one)
    assert len(found.trace.exchanges) == 1
    assert "left out: requests that the browser answered itself or did not send: 1" in found.notes


@pytest.mark.parametrize(
    "mark",
    [("_fromCache", "disk"), ("_fromCache", "memory"), ("_fetchType", "Disk Cache"), ("_fetchType", "Memory Cache")],
)
def test_a_response_from_the_cache_of_a_browser_is_left_out(mark: tuple[str, str]) -> None:
    one = poll(at=5)
    one[mark[0]] = mark[1]
    assert count(submission(), one) == 1


def test_a_redirect_of_the_browser_itself_and_a_blocked_request_are_left_out() -> None:
    upgraded = entry("GET", "http://api.acme.example/v1/jobs/job-1", at=5, status=307)
    upgraded["response"]["headers"] = named({"Location": f"{API}/v1/jobs/job-1", "Non-Authoritative-Reason": "HSTS"})
    blocked = submission(at=6)
    blocked["response"] = {"status": 0, "headers": [], "content": {}, "_error": "net::ERR_BLOCKED_BY_CLIENT"}
    found = recorded(submission(), upgraded, blocked)
    assert len(found.trace.exchanges) == 1
    assert found.notes == ("left out: requests that the browser answered itself or did not send: 2",)


def test_a_request_that_failed_on_the_network_is_kept() -> None:
    failed = submission(at=6)
    failed["response"] = {"status": 0, "headers": [], "content": {}, "_error": "net::ERR_CONNECTION_RESET"}
    assert count(submission(), failed) == 2


def test_an_entry_that_is_listed_twice_is_counted_once() -> None:
    redirect = entry("GET", f"{API}/v1/jobs/job-1", at=5, status=302)
    redirect["response"]["headers"] = named({"Location": f"{API}/v1/jobs/job-2"})
    found = recorded(submission(), poll(at=1), redirect, poll(at=1), redirect, submission(), creator="Charles Proxy")
    assert len(found.trace.exchanges) == 3
    assert found.notes == ("counted once: entries that the recording repeats: 3",)


def test_entries_that_differ_in_anything_are_not_repetitions() -> None:
    later = poll(at=1)
    later["time"] = 101
    assert count(submission(), poll(at=1), poll(at=1, state="done"), later, creator="Charles Proxy") == 4


def test_an_archive_of_this_program_lists_each_request_once() -> None:
    assert count(marked(submission(), *MARKS[0]), submission(), submission(), creator="hobbyhorse") == 3


def test_preflight_requests_are_no_requests_of_the_client() -> None:
    preflight = entry("OPTIONS", f"{API}/v1/jobs", key=None, status=204)
    assert count(preflight, submission(at=0.1)) == 1


def test_entries_of_several_pages_and_time_zones_are_read_in_order() -> None:
    first, second, third = submission(), poll(at=5), poll(at=9, state="done")
    second["startedDateTime"] = "2026-01-01T02:00:05.000+02:00"
    third["startedDateTime"] = "2025-12-31T19:00:09.000-05:00"
    first["pageref"], second["pageref"], third["pageref"] = "page_1", "page_2", "page_1"
    trace = recorded(third, second, first).trace
    assert [one.role for one in trace.exchanges] == ["submit", "status", "status"]
    assert [one.arrived - trace.exchanges[0].arrived for one in trace.exchanges] == [0, 5, 9]


def test_entries_that_began_at_the_same_time_keep_their_order() -> None:
    trace = recorded(submission(), poll(), poll("job-9"), creator="Insomnia").trace
    assert [one.job for one in trace.exchanges] == ["job-1", "job-1", "job-9"]


@pytest.mark.parametrize("log", [{"creator": None}, {"creator": 5}, {"creator": {"name": None}}, {"browser": 3}])
def test_an_odd_creator_is_no_browser(log: dict[str, Any]) -> None:
    har = archive(submission())
    har["log"] |= log
    assert len(read_har(har, ACME).trace.exchanges) == 1
