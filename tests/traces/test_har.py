"""Recorded traffic: archives of several programs are read as traces without secrets, and written again."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hobbyhorse.contract.folder import load, path_names
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces import har, har_file
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.har import HarError, RecordedTrace, read_har
from hobbyhorse.traces.har_entry import ANSWER_BYTES
from hobbyhorse.traces.har_file import parse_har
from hobbyhorse.traces.har_writing import to_har
from hobbyhorse.traces.trace import KEY, REDACTED, Exchange, Trace, read_trace, to_json
from tests.conftest import CONTRACTS, ROOT, contracts_that

ACME = load(ROOT / "tests" / "contract_folders" / "acme")
RECORDINGS = ROOT / "tests" / "recordings"
API = "https://api.acme.example"
FILES = "https://files.example/v.mp4?sig=1"
SECRET = "sk-acme-123456"


def entry(
    method: str,
    url: str,
    answer: Any = None,
    *,
    at: float = 0.0,
    sent: Any = None,
    status: int = 200,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return an entry as browsers write it, updated with `more`."""
    request: dict[str, Any] = {
        "method": method,
        "url": url,
        "headers": [{"name": name, "value": value} for name, value in (headers or {}).items()],
    }
    if sent is not None:
        request["postData"] = {"mimeType": "application/json", "text": json.dumps(sent)}
    content = {"size": 0, "mimeType": "application/json"}
    if answer is not None:
        text = json.dumps(answer)
        content |= {"text": text, "size": len(text)}
    found = {
        "startedDateTime": f"2026-01-01T00:00:{at:06.3f}Z",
        "time": 250,
        "request": request,
        "response": {"status": status, "headers": [], "content": content},
    }
    return found | more


def archive(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"log": {"version": "1.2", "entries": list(entries)}}


AUTHORIZED = {"Authorization": f"Bearer {SECRET}"}


def entries_of_job(api: str = API) -> list[dict[str, Any]]:
    """Return the entries of a complete job with a separate result."""
    job = f"{api}/v1/jobs/job-1"
    order = {"model": "acme/move", "input": {"image": "https://example.com/a.png", "prompt": "run"}}
    video = entry("GET", FILES, at=4)
    video["response"]["content"] = {"size": 5_000_000, "mimeType": "video/mp4"}
    return [
        entry(
            "POST",
            f"{api}/v1/jobs",
            {"id": "job-1", "state": "queued", "result": f"{job}/result"},
            sent=order,
            status=201,
            headers=AUTHORIZED,
        ),
        entry("GET", job, {"id": "job-1", "state": "working"}, at=1, headers=AUTHORIZED),
        entry("GET", job, {"id": "job-1", "state": "done"}, at=2, headers=AUTHORIZED),
        entry("GET", f"{job}/result", {"id": "job-1", "video": FILES}, at=3, headers=AUTHORIZED),
        video,
    ]


def roles(trace: Trace) -> list[str | None]:
    return [one.role for one in trace.exchanges]


def trace_of(*entries: dict[str, Any], base: str | None = None) -> Trace:
    return read_har(archive(*entries), ACME, base).trace


def edited(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """Return the archive of a complete job with a change to its second entry."""
    har = archive(*entries_of_job())
    change(har["log"]["entries"][1])
    return har


def test_a_recorded_job_is_read_as_a_trace() -> None:
    trace = trace_of(*entries_of_job())
    assert roles(trace) == ["submit", "status", "status", "result", "media"]
    assert [one.job for one in trace.exchanges] == ["job-1"] * 4 + [None]
    assert (trace.provider, trace.base, trace.model) == ("acme", API, "acme/move")
    assert trace.origins == {"media": "https://files.example"}
    assert (trace.jobs, trace.runs, trace.deliveries) == (None, (), ())
    first, last = trace.exchanges[0], trace.exchanges[-1]
    assert (first.arrived, first.answered) == (1_767_225_600.0, 1_767_225_600.25)
    assert (last.answer, last.size, last.whole) == (b"", 5_000_000, True)
    assert trace.ended == last.answered
    assert read_trace(to_json(trace)) == trace


def test_a_recorded_job_can_be_annotated() -> None:
    read = AnnotatedTrace(ACME, trace_of(*entries_of_job()))
    assert read.accepted is not None
    assert read.accepted.number == 1
    assert [step.number for step in read.fetches] == [5]


def test_entries_are_ordered_by_their_start() -> None:
    assert roles(trace_of(*reversed(entries_of_job()))) == ["submit", "status", "status", "result", "media"]


@pytest.mark.parametrize(
    "api", ["http://127.0.0.1:8080/acme", "https://gateway.example/a/b", "https://API.acme.example:443"]
)
def test_the_base_url_is_found(api: str) -> None:
    trace = trace_of(*entries_of_job(api))
    assert roles(trace) == ["submit", "status", "status", "result", "media"]
    assert trace.base == api.replace("API", "api")


def test_a_documented_host_wins_over_another_with_the_same_paths() -> None:
    trace = trace_of(
        *entries_of_job("https://other.example"), *entries_of_job("https://other.example"), *entries_of_job()
    )
    assert trace.base == API
    assert roles(trace).count("submit") == 1


def test_a_given_base_url_is_used() -> None:
    trace = trace_of(*entries_of_job("https://other.example"), *entries_of_job(), base="https://other.example/")
    assert trace.base == "https://other.example"


@pytest.mark.parametrize("base", ["https://unused.example", "https://api.acme.example/v2"])
def test_a_base_url_without_recorded_requests_is_an_error(base: str) -> None:
    with pytest.raises(HarError, match=r"/log/entries: no request matches an operation of .* below https"):
        trace_of(*entries_of_job(), base=base)


@pytest.mark.parametrize("base", ["api.acme.example", "ftp://x", "https://", "https://x:99999", "https://[x"])
def test_a_base_that_is_not_a_url_is_an_error(base: str) -> None:
    with pytest.raises(HarError, match=r"--base: '.*' (is not a URL|has no host)"):
        trace_of(*entries_of_job(), base=base)


def test_requests_to_other_hosts_are_left_out_and_counted() -> None:
    hosts = ("a.example", "b.example", "a.example")
    others = [entry("GET", f"https://{host}/", {}, at=second) for second, host in enumerate(hosts)]
    found = read_har(archive(*others, *entries_of_job()), ACME)
    assert len(found.trace.exchanges) == 5
    assert found.notes == ("left out: requests to other hosts: a.example (2), b.example (1)",)


def test_a_request_that_matches_no_operation_is_kept() -> None:
    assert roles(trace_of(*entries_of_job(), entry("GET", f"{API}/v2/jobs", {}, at=9)))[-1] is None


def test_entries_other_than_http_and_preflight_requests_are_left_out() -> None:
    more = [entry("GET", "data:text/plain,x"), entry("GET", "blob:https://a/b"), entry("OPTIONS", f"{API}/v1/jobs")]
    found = read_har(archive(*more, *entries_of_job()), ACME)
    assert len(found.trace.exchanges) == 5
    assert found.notes == ("left out: preflight requests of a browser: 1",)


def test_a_key_that_went_to_another_host_is_noted() -> None:
    found = read_har(archive(*entries_of_job(), entry("GET", "https://a.example/", headers=AUTHORIZED)), ACME)
    assert "left out, but sent with the provider's key: requests to a.example" in found.notes[1]


def test_a_recording_without_keys_or_bodies_has_notes_about_them() -> None:
    stripped = entries_of_job()
    for one in stripped:
        one["request"]["headers"] = []
    del stripped[1]["response"]["content"]["text"]
    assert [note.partition(",")[0] for note in read_har(archive(*stripped), ACME).notes] == [
        "1 response body is not recorded",
        "4 requests' lists of headers are not recorded",
        "no request has a key in the recording (browsers omit it)",
    ]


def test_a_video_without_a_known_url_is_recognised_by_its_type() -> None:
    elsewhere = entry("GET", "https://cdn.example/x", at=9)
    elsewhere["response"]["headers"] = [{"name": "Content-Type", "value": "video/mp4"}]
    assert roles(trace_of(*entries_of_job(), elsewhere))[-1] == "media"


def test_a_file_with_a_known_url_is_one_whatever_its_type() -> None:
    page = entry("GET", FILES, {"error": "expired"}, at=9, status=403)
    assert trace_of(*entries_of_job(), page).exchanges[-1].role == "media"
    assert trace_of(*entries_of_job(), page).exchanges[-1].answer == b""


def test_links_in_responses_are_followed_to_other_hosts() -> None:
    moved = entries_of_job()
    link = "https://eu.acme.example/opaque/7"
    moved[0]["response"]["content"]["text"] = json.dumps({"id": "job-1", "state": "queued", "result": link})
    moved[3]["request"]["url"] = link
    trace = trace_of(*moved)
    assert (trace.exchanges[3].role, trace.exchanges[3].job) == ("result", "job-1")


def test_a_redirected_request_has_the_same_role() -> None:
    first = entry("GET", f"{API}/v1/jobs/job-1", at=5, status=307)
    first["response"]["headers"] = [{"name": "Location", "value": "https://eu.example/j"}]
    second = entry("GET", "https://eu.example/j", {"id": "job-1", "state": "done"}, at=6)
    trace = trace_of(*entries_of_job(), first, second)
    assert [(one.role, one.job) for one in trace.exchanges[-2:]] == [("status", "job-1")] * 2


def test_escaped_paths_are_decoded() -> None:
    assert trace_of(*entries_of_job(), entry("GET", f"{API}/v1/jobs/a%20b", {}, at=9)).exchanges[-1].role == "status"


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one["response"].update(status=0),
        lambda one: one["response"].update(status=-1),
        lambda one: one.pop("response"),
        lambda one: one.update(response=None),
        lambda one: one["response"].update(status=0, _error="net::ERR_CONNECTION_RESET"),
    ],
)
def test_a_request_without_a_response_has_status_0(change: Callable[[dict[str, Any]], Any]) -> None:
    one = read_har(edited(change), ACME).trace.exchanges[1]
    assert (one.status, one.answered, one.whole, one.answer, one.role) == (0, None, False, b"", "status")


@pytest.mark.parametrize(
    ("change", "whole"),
    [
        (lambda response: response.update(_error="net::ERR_INCOMPLETE_CHUNKED_ENCODING"), False),
        (lambda response: response.update(headers=[{"name": "content-length", "value": "9999"}]), False),
        (lambda response: response.update(headers=[{"name": "content-length", "value": "32"}]), True),
        (lambda response: response.update(headers=[{"name": "content-length", "value": "many"}]), True),
        (
            lambda response: response.update(
                headers=[{"name": "content-length", "value": "9999"}, {"name": "Content-Encoding", "value": "br"}]
            ),
            True,
        ),
        (lambda response: response["content"].pop("text"), True),
    ],
)
def test_an_incomplete_response_is_not_whole(change: Callable[[dict[str, Any]], Any], whole: bool) -> None:
    assert read_har(edited(lambda one: change(one["response"])), ACME).trace.exchanges[1].whole is whole


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-01T00:00:01Z", 1.0),
        ("2026-01-01T00:00:01.5Z", 1.5),
        ("2026-01-01T02:00:01.123456789+02:00", 1.123456789),
        ("2025-12-31T19:30:01.25-0430", 1.25),
        ("2026-01-01 00:00:01.123", 1.123),
    ],
)
def test_times_are_read_in_the_forms_of_several_programs(text: str, moment: float) -> None:
    one = read_har(edited(lambda one: one.update(startedDateTime=text)), ACME).trace.exchanges[1]
    assert one.arrived == pytest.approx(1_767_225_600 + moment, abs=1e-6)


@pytest.mark.parametrize(
    ("more", "took"),
    [
        ({"time": 1500}, 1.5),
        ({"time": -1, "timings": {"blocked": -1, "send": 100, "wait": 400, "receive": None}}, 0.5),
        ({"time": None}, 0.0),
        ({"time": "soon"}, 0.0),
        ({"time": 1e999}, 0.0),
        ({"time": 10**400}, 0.0),
    ],
)
def test_the_duration_comes_from_the_time_or_the_timings(more: dict[str, Any], took: float) -> None:
    one = read_har(edited(lambda one: one.update(more)), ACME).trace.exchanges[1]
    assert one.answered == pytest.approx(one.arrived + took)


def test_bodies_may_be_base64_and_forms() -> None:
    content = {"text": base64.b64encode(b'{"id": "job-1"}').decode(), "encoding": "base64"}
    trace = read_har(edited(lambda one: one["response"].update(content=content)), ACME).trace
    assert trace.exchanges[1].answer == b'{"id": "job-1"}'
    form = {"params": [{"name": "a b", "value": "1"}, {"name": "c"}]}
    trace = read_har(edited(lambda one: one["request"].update(postData=form)), ACME).trace
    assert trace.exchanges[1].body == b"a+b=1&c="


def test_only_the_beginning_of_a_response_is_kept() -> None:
    content = {"text": "x" * 100_000, "size": 100_000}
    one = read_har(edited(lambda one: one["response"].update(content=content)), ACME).trace.exchanges[1]
    assert (len(one.answer), one.size) == (ANSWER_BYTES, 100_000)


def test_header_names_are_lower_case_and_pseudo_headers_are_left_out() -> None:
    listed = [{"name": ":authority", "value": "x"}, {"name": "Accept", "value": "*/*"}, {"name": "X"}]
    one = read_har(edited(lambda one: one["request"].update(headers=listed)), ACME).trace.exchanges[1]
    assert one.headers == (("accept", "*/*"), ("x", ""))


def test_no_secret_is_in_a_trace() -> None:
    har = archive(*entries_of_job())
    entries = har["log"]["entries"]
    entries[1]["request"]["url"] += f"?key={SECRET}"
    entries[1]["request"]["headers"] += [{"name": "Cookie", "value": "session=hush"}, {"name": "X", "value": SECRET}]
    entries[1]["response"]["headers"] = [{"name": "Set-Cookie", "value": "session=hush"}]
    entries[2]["response"]["content"]["text"] = json.dumps({"echo": f"Bearer {SECRET}"})
    entries[3]["request"]["headers"] = [{"name": "X-Key", "value": "another-key"}]
    entries[3]["request"]["postData"] = {"text": "another-key"}
    entries[4]["request"]["headers"] = [{"name": "authorization", "value": "Basic aHVzaDpodXNo"}]
    trace = read_har(har, ACME).trace
    text = orjson.dumps(to_json(trace)).decode()
    for secret in (SECRET, "hush", "another-key", "aHVzaDpodXNo"):
        assert secret not in text
    assert trace.exchanges[0].header("authorization") == "Bearer [key-1]"
    assert trace.exchanges[1].url.endswith("?key=[key-1]")
    assert trace.exchanges[1].header("cookie") == REDACTED
    assert trace.exchanges[2].answer == b'{"echo": "Bearer [key-1]"}'
    assert trace.exchanges[3].header("x-key") == "[key-2]"
    assert trace.exchanges[3].body == b"[key-2]"
    assert trace.exchanges[4].header("authorization") == REDACTED


def test_a_key_sent_to_the_media_host_is_visible() -> None:
    har = archive(*entries_of_job())
    har["log"]["entries"][4]["request"]["headers"] = [{"name": "Authorization", "value": f"bearer {SECRET}"}]
    assert read_har(har, ACME).trace.exchanges[4].header("authorization") == f"bearer {KEY}"


@pytest.mark.parametrize("key", ["sk/+ =%20", 'sk"\\quoted', "sk-schlüssel"])
def test_a_key_is_replaced_in_every_encoding(key: str) -> None:
    har = archive(*entries_of_job())
    entries = har["log"]["entries"]
    for one in entries:
        one["request"]["headers"] = []
    entries[1]["request"]["headers"] = [{"name": "X-Key", "value": key}]
    entries[1]["request"]["url"] += f"?{urlencode({'k': key})}"
    entries[1]["response"]["content"]["text"] = json.dumps({"key": key})
    entries[2]["response"]["content"]["text"] = orjson.dumps({"key": key}).decode()
    trace = read_har(har, ACME).trace
    assert trace.exchanges[1].url.endswith(f"?k={KEY}")
    assert trace.exchanges[1].answer == b'{"key": "[key]"}'
    assert trace.exchanges[2].answer == b'{"key":"[key]"}'


def test_a_short_key_is_replaced_only_in_its_header() -> None:
    har = edited(lambda one: one["request"].update(headers=[{"name": "X-Key", "value": "o"}]))
    trace = read_har(har, ACME).trace
    assert trace.exchanges[1].header("x-key") == "[key-2]"
    assert trace.exchanges[1].job == "job-1"


def test_the_user_in_a_url_is_removed() -> None:
    har = edited(lambda one: one["request"].update(url="https://user:hush@api.acme.example/v1/jobs/job-1"))
    assert read_har(har, ACME).trace.exchanges[1].url == f"{API}/v1/jobs/job-1"


BROKEN: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda one: one.clear(), "/log/entries/1/request: is missing"),
    (lambda one: one.update(request=[]), "/log/entries/1/request: a list is not an object"),
    (lambda one: one["request"].pop("url"), "/log/entries/1/request/url: is missing"),
    (lambda one: one["request"].update(url=7), "/log/entries/1/request/url: 7 is not a text"),
    (
        lambda one: one["request"].update(url="http://[x/"),
        "/log/entries/1/request/url: 'http://[x/' is not a URL: Invalid IPv6 URL",
    ),
    (
        lambda one: one["request"].update(url="http:///x"),
        "/log/entries/1/request/url: 'http:///x' has no host",
    ),
    (lambda one: one["request"].update(method=""), "/log/entries/1/request/method: '' is not a text"),
    (lambda one: one["request"].update(headers={}), ""),
    (
        lambda one: one["request"].update(headers={"a": 1}),
        "/log/entries/1/request/headers: a JSON object is not a list",
    ),
    (
        lambda one: one["request"].update(headers=["a: b"]),
        "/log/entries/1/request/headers/0: 'a: b' is not an object",
    ),
    (lambda one: one.pop("startedDateTime"), "/log/entries/1/startedDateTime: is missing"),
    (
        lambda one: one.update(startedDateTime="yesterday"),
        "/log/entries/1/startedDateTime: 'yesterday' is not an ISO 8601 date and time",
    ),
    (
        lambda one: one.update(startedDateTime="2026-13-01T00:00:00Z"),
        "/log/entries/1/startedDateTime: '2026-13-01T00:00:00Z' is not an ISO 8601 date and time",
    ),
    (
        lambda one: one.update(startedDateTime="2026-01-01T00:00:00+99:00"),
        "/log/entries/1/startedDateTime: '2026-01-01T00:00:00+99:00' is not an ISO 8601 date and time",
    ),
    (lambda one: one.update(response="x"), "/log/entries/1/response: 'x' is not an object"),
    (lambda one: one["response"].update(status="200"), "/log/entries/1/response/status: '200' is not a status"),
    (
        lambda one: one["response"].update(content=[1]),
        "/log/entries/1/response/content: a list is not an object",
    ),
    (
        lambda one: one["response"].update(content={"text": 5}),
        "/log/entries/1/response/content/text: 5 is not a text",
    ),
    (
        lambda one: one["response"].update(content={"text": "%%", "encoding": "base64"}),
        "/log/entries/1/response/content/text: '%%' is not base64",
    ),
]


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_an_error_in_an_archive_has_its_place_and_reason(change: Callable[[dict[str, Any]], Any], message: str) -> None:
    har = edited(change)
    if not message:
        read_har(har, ACME)
        return
    with pytest.raises(HarError) as caught:
        read_har(har, ACME)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("har", "message"),
    [
        ([], "the file: a list is not an object"),
        ({}, "/log: is missing"),
        ({"log": {}}, "/log/entries: None is not a list"),
        ({"log": {"entries": [3]}}, "/log/entries/0: 3 is not an object"),
        (archive(), "no request matches an operation of Acme; the hosts are none"),
        (
            {"log": {"entries": [{}] * (har.MOST_HAR_ENTRIES + 1)}},
            "/log/entries: has 100,001 entries; allowed: 100,000",
        ),
    ],
)
def test_a_value_that_is_not_an_archive_is_refused(har: Any, message: str) -> None:
    with pytest.raises(HarError) as caught:
        read_har(har, ACME)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file: is empty"),
        (b" \n", "the file: is empty"),
        (b'{"log": \n x}', "line 2, column 2: is not valid JSON"),
        (b'{"a": "\xff"}', "byte 7: is not UTF-8"),
        (b"[" * 200_000, "the file: is nested too deeply"),
    ],
)
def test_a_file_that_is_not_json_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(HarError) as caught:
        parse_har(data)
    assert str(caught.value).startswith(message)


def test_a_file_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(har_file, "MOST_HAR_BYTES", 10)
    with pytest.raises(HarError, match="has more than 10 bytes"):
        parse_har(b'{"log": {}}')


def test_a_file_may_have_a_byte_order_mark_and_a_lone_surrogate() -> None:
    assert parse_har(b'\xef\xbb\xbf{"a": "\\udcff"}') == {"a": "\udcff"}
    trace = read_har(edited(lambda one: one["response"]["content"].update(text="\udcff\ud800")), ACME).trace
    assert trace.exchanges[1].answer == b"??"


def test_a_deeply_nested_body_is_read() -> None:
    text = "[" * 50_000
    one = read_har(edited(lambda one: one["response"]["content"].update(text=text)), ACME).trace.exchanges[1]
    assert one.answer == text.encode()


def test_an_archive_has_the_fields_of_its_format() -> None:
    har = to_har(trace_of(*entries_of_job()))
    assert har["log"]["version"] == "1.2"
    assert set(har["log"]) >= {"version", "creator", "entries"}
    for one in har["log"]["entries"]:
        assert set(one) >= {"startedDateTime", "time", "request", "response", "cache", "timings"}
        common = {"httpVersion", "cookies", "headers", "headersSize", "bodySize"}
        assert set(one["request"]) >= common | {"method", "url", "queryString"}
        assert set(one["response"]) >= common | {"status", "statusText", "content", "redirectURL"}
        assert set(one["timings"]) >= {"send", "wait", "receive"}
    assert json.loads(json.dumps(har)) == har


def test_no_secret_of_a_trace_is_in_an_archive() -> None:
    one = Exchange(
        arrived=0.0,
        role="status",
        method="GET",
        url=f"{API}/v1/jobs/j",
        headers=(("cookie", "hush"),),
        body=b'{"s": "whsec-1"}',
    )
    text = json.dumps(to_har(Trace("acme", API, (one,), secret="whsec-1")))
    assert "hush" not in text
    assert "whsec-1" not in text


def test_a_written_trace_is_read_back_equal() -> None:
    trace = trace_of(*entries_of_job())
    assert read_har(to_har(trace), ACME).trace == trace


def recording(file: str, key: str) -> RecordedTrace:
    """Read a recording of a provider."""
    contract = next(contract for contract in CONTRACTS if contract.key == key)
    return read_har(parse_har((RECORDINGS / file).read_bytes()), contract)


def test_a_recording_of_a_proxy_with_the_model_in_the_body_is_read() -> None:
    """The download is incomplete."""
    found = recording("proxy.har", "hiapi")
    trace = found.trace
    assert (roles(trace), found.notes) == (["submit", "status", "media"], ())
    assert (trace.base, trace.model) == ("https://api.hiapi.ai", "happyhorse-1.1/image-to-video")
    assert trace.exchanges[1].job == "tk-1"
    assert not trace.exchanges[2].whole
    assert "sk-live-777" not in str(trace)


def test_a_recording_of_a_browser_with_a_separate_result_is_read() -> None:
    """One request has no response, and one goes to another host."""
    found = recording("browser.har", "runcomfy")
    trace = found.trace
    assert roles(trace) == ["submit", "status", "status", "result", "media"]
    assert [one.status for one in trace.exchanges] == [200, 0, 200, 200, 206]
    assert trace.model == "happyhorse/happyhorse-1.0/image-to-video"
    assert {one.job for one in trace.exchanges[:4]} == {"r-1"}
    assert "www.example (1)" in found.notes[0]


WORDS = st.text(st.sampled_from("abcXYZ019-_~"), min_size=1, max_size=12)
TEXTS = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
HEADERS = st.lists(st.tuples(st.sampled_from(["accept", "x-note", "cookie", "retry-after"]), TEXTS), max_size=3)


@st.composite
def traces(draw: st.DrawFn, contract: Contract) -> Trace:
    """Draw a trace with any requests and responses that a fake may record."""
    prefix = draw(st.sampled_from(["http://127.0.0.1:8080/fake", f"https://{contract.hosts[0]}"]))
    found, moment = [], float(draw(st.integers(0, 2_000_000_000)))
    for operation in draw(st.lists(st.sampled_from(list(contract.operations.values())), min_size=1, max_size=5)):
        path = operation.path
        for name in path_names(path):
            path = path.replace("{" + name + "}", draw(WORDS))
        moment += draw(st.integers(0, 10_000_000)) / 1_000_000
        status = draw(st.sampled_from([0, 200, 201, 404, 429, 500]))
        example = st.sampled_from([contract.schemas.at(one.example_at) for one in operation.situations.values()])
        answer = draw(st.binary(max_size=20) | (JSON | example).map(orjson.dumps)) if status else b""
        found.append(
            Exchange(
                arrived=moment,
                role=operation.role,
                method=operation.method,
                url=prefix + path + draw(st.just("") | WORDS.map(lambda word: f"?q={word}")),
                headers=(("authorization", f"Bearer {KEY}"), *draw(HEADERS)),
                body=draw(st.binary(max_size=20) | JSON.map(orjson.dumps)),
                status=status,
                answer_headers=tuple(draw(HEADERS)),
                answer=answer,
                answered=moment + draw(st.integers(1, 10_000)) / 1000 if status else None,
                whole=bool(status) and draw(st.booleans()),
                size=len(answer) + draw(st.sampled_from([0, 0, 100_000])) if status else 0,
            )
        )
    return Trace(contract.key, prefix, tuple(found))


@contracts_that(lambda contract: True)
@settings(max_examples=40)
@given(st.data())
def test_writing_and_reading_keeps_a_trace(contract: Contract, data: st.DataObject) -> None:
    trace = data.draw(traces(contract))
    once = read_har(parse_har(orjson.dumps(to_har(trace))), contract, trace.base).trace
    assert read_har(to_har(once), contract, trace.base).trace == once
    assert once.base == trace.base
    for before, after in zip(trace.exchanges, once.exchanges, strict=True):
        same = ("method", "url", "body", "status", "answer", "whole", "size")
        assert [getattr(before, name) for name in same] == [getattr(after, name) for name in same]
        assert [name for name, _ in before.headers] == [name for name, _ in after.headers]
        assert after.arrived == pytest.approx(before.arrived, abs=2e-6)
        assert after.answered == (None if before.answered is None else pytest.approx(before.answered, abs=2e-6))


@given(st.data())
def test_an_archive_with_any_value_anywhere_is_read_or_refused(data: st.DataObject) -> None:
    har = deepcopy(archive(*entries_of_job()))
    at: Any = har
    while isinstance(at, (dict, list)) and at and data.draw(st.integers(0, 5)):
        around, key = at, data.draw(st.sampled_from(list(at) if isinstance(at, dict) else list(range(len(at)))))
        at = at[key]
        last = (around, key)
    if at is not har:
        last[0][last[1]] = data.draw(JSON | st.text(max_size=40) | st.floats() | st.just("http://x:y/"))
    with suppress(HarError):
        read_har(har, ACME)
