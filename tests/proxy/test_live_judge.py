"""The live judge: its bounds, single reports, incomplete evidence, and no secrets in its output."""

from __future__ import annotations

import gzip
import json
import threading
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from hobbyhorse.cli.demo_run import run_job
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.rule import Evidence
from hobbyhorse.contract.example_orders import documented_jobs, order_for
from hobbyhorse.contract.values import Contract
from hobbyhorse.proxy import live_judge
from hobbyhorse.proxy.live_judge import EACH, Finding, LiveJudge, LiveJudgeThread
from hobbyhorse.proxy.proxy import KEPT_BODY_BYTES, ObservedExchange
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.run import address, bind, serving
from hobbyhorse.traces.har import read_har
from hobbyhorse.traces.har_file import parse_har
from hobbyhorse.traces.trace import Exchange
from tests.careful import Careful
from tests.conftest import CONTRACTS
from tests.proxy.test_proxy import PATIENCE, SECRET, Judged, Scripted, judged, nobody_at, order
from tests.tracing import HOME


@pytest.mark.parametrize("named", [True, False], ids=["the answers name the proxy", "the answers name the upstream"])
def test_a_client_and_a_server_that_keep_the_contract_never_have_findings(
    contract: Contract, tmp_path: Path, named: bool
) -> None:
    bound = bind("127.0.0.1", 0)
    own = address(bound)
    fake = Fake([contract], Options(pace="instant", public_url=own if named else None, strict=True))
    with serving(fake) as upstream:
        base = f"{own if named else upstream}/{contract.key}"
        with judged(contract, upstream, bound, base) as seen:
            jobs = {operation.role: (operation, model, body) for operation, model, body in documented_jobs(contract)}
            for operation, model, body in jobs.values():
                run_job(contract, operation, model, body, own, key=SECRET, out=tmp_path, show_stage=lambda line: None)
    seen.live_judge.judge()
    archive = seen.live_judge.har()
    assert seen.lines == []
    assert seen.troubles == []
    assert SECRET not in json.dumps(archive)
    trace = read_har(parse_har(json.dumps(archive).encode()), contract, seen.live_judge.base).trace
    roles = {one.role for one in trace.exchanges}
    assert roles >= ({"submit", "status", "media"} if named else {"submit", "status"})
    assert len(trace.exchanges) == seen.live_judge.total
    for most in (1, 2, 4):
        part = Judged(contract, base, most)
        for passed in seen.live_judge._kept:
            part.seen(passed)
        assert (part.lines, part.troubles) == ([], []), most


def answer(status: int, body: Any, *headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    said = "".join(f"{line}\r\n" for line in ("Content-Type: application/json", *headers))
    return f"HTTP/1.1 {status} X\r\n{said}Content-Length: {len(content)}\r\n\r\n".encode() + content


def test_a_client_that_submits_again_without_a_response_is_reported_immediately(contract: Contract) -> None:
    bound = bind("127.0.0.1", 0)
    served = Scripted([], "reset", whole=True)
    with judged(contract, served.url, bound, f"{served.url}/{contract.key}") as seen, httpx.Client() as client:
        order(contract, bound.getsockname()[1], client)
        assert not seen.lines
        order(contract, bound.getsockname()[1], client)
    served.close()
    (line,) = [line for line in seen.lines if " SUB-01 " in line]
    assert line == (
        "client SUB-01 no-ambiguous-resend (MUST): request 1 may have created a job (no response), "
        "but request 2 submits again"
    )
    assert seen.live_judge.findings >= 1
    before = list(seen.lines)
    seen.live_judge.judge()
    assert seen.lines == before


def test_a_proxy_without_an_upstream_reports_no_finding(contract: Contract) -> None:
    """The proxy's 502 is not the provider's, and a client that retries after it has bought nothing."""
    bound = bind("127.0.0.1", 0)
    with (
        nobody_at() as url,
        judged(contract, url, bound, f"{url}/{contract.key}") as seen,
        httpx.Client() as client,
    ):
        for _ in range(3):
            order(contract, bound.getsockname()[1], client)
    assert seen.lines == []
    assert [entry["response"]["status"] for entry in seen.live_judge.har()["log"]["entries"]] == [502] * 3


@pytest.mark.parametrize("coded", [False, True], ids=["plain", "gzip"])
def test_an_upstream_that_breaks_the_contract_is_reported(contract: Contract, coded: bool) -> None:
    bound = bind("127.0.0.1", 0)
    content = b'{"nothing": "of this kind"}'
    raw = answer(200, gzip.compress(content), "Content-Encoding: gzip") if coded else answer(200, content)
    served = Scripted([raw], "close", whole=True)
    with judged(contract, served.url, bound, f"{served.url}/{contract.key}") as seen, httpx.Client() as client:
        order(contract, bound.getsockname()[1], client)
    served.close()
    assert [line for line in seen.lines if line.startswith("upstream SHA-")]
    assert not [line for line in seen.lines if line.startswith("client")]


def test_a_body_in_an_unknown_coding_is_not_judged(contract: Contract) -> None:
    bound = bind("127.0.0.1", 0)
    served = Scripted([answer(200, b"\x00\x01", "Content-Encoding: zstd")], "close", whole=True)
    with judged(contract, served.url, bound, f"{served.url}/{contract.key}") as seen, httpx.Client() as client:
        order(contract, bound.getsockname()[1], client)
        order(contract, bound.getsockname()[1], client)
    served.close()
    assert seen.lines == []
    assert seen.troubles == []


def test_a_kind_of_finding_is_reported_five_times_and_counted_after_that(contract: Contract) -> None:
    told: list[Finding] = []
    judge = LiveJudge(contract, "http://x", told.append)
    for number in range(1, 9):
        for _ in range(2):
            message = f"request {number} came after {number}.5 s"
            judge._find(Finding("client", "ABC-01", "name", "MUST", message), list(range(1, 9)))
    judge._find(Finding("client", "ABC-01", "name", "MUST", "request 1 is something else"), [1])
    assert [one.message for one in told] == [
        *(f"request {number} came after {number}.5 s" for number in range(1, 5)),
        "request 5 came after 5.5 s (further ones are counted, not reported)",
        "request 1 is something else",
    ]
    assert judge.findings == 9


def test_only_the_newest_exchanges_are_kept_and_requests_keep_their_numbers(contract: Contract) -> None:
    found: list[Finding] = []
    judge = LiveJudge(contract, f"https://api.example/{contract.key}", found.append, most=3)
    operation, model, body = next(iter(documented_jobs(contract)))
    path = operation.path
    for place in operation.bindings["model"].request if "model" in operation.bindings else ():
        path = path.replace("{" + place.name + "}", model.id)
    sent = json.dumps(body).encode()
    headers = (("authorization", f"Bearer {SECRET}"), ("content-type", "application/json"))
    for number in range(1, 8):
        target = f"/{contract.key}{path}"
        judge.seen(observed(number, target, "POST", broken="upstream", headers=headers, body=sent))
    judge.judge()
    assert judge.total == 7
    entries = judge.har()["log"]["entries"]
    assert len(entries) == 3
    assert SECRET not in json.dumps(entries)
    ambiguous = [one.message for one in found if one.rule == "SUB-01"]
    assert ambiguous[0].startswith("request 5 may have created a job (no response), but request 6 submits")


def test_a_broken_rule_is_reported_once_and_the_others_judge(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(trace: object) -> Evidence:
        raise ZeroDivisionError

    broken = [replace(one, check=fails) if one.id == "POL-01" else one for one in rules()]
    monkeypatch.setattr("hobbyhorse.proxy.live_judge.rules", lambda: broken)
    bound = bind("127.0.0.1", 0)
    served = Scripted([], "reset", whole=True)
    with judged(contract, served.url, bound, f"{served.url}/{contract.key}") as seen, httpx.Client() as client:
        order(contract, bound.getsockname()[1], client)
        order(contract, bound.getsockname()[1], client)
    served.close()
    assert seen.troubles == ["POL-01 could not be judged: ZeroDivisionError"]
    assert [line for line in seen.lines if " SUB-01 " in line]


def test_no_part_of_a_careful_clients_traffic_is_a_finding(contract: Contract) -> None:
    """Judge the newest exchanges without the earlier ones, after each exchange."""
    sent = json.dumps(order_for(contract, contract.models[0])).encode()
    for seed in range(12):
        exchanges = Careful(contract, Random(seed), kills=False).run().trace().exchanges
        passed = [told for number, one in enumerate(exchanges, 1) if (told := retold(number, one, sent)) is not None]
        for most in (1, 3, len(passed) or 1):
            seen = Judged(contract, f"{HOME}/{contract.key}", most)
            for one in passed:
                seen.seen(one)
            assert [line for line in seen.lines if not line.startswith("upstream")] == [], (seed, most)
            assert seen.troubles == []


def retold(number: int, one: Exchange, sent: bytes) -> ObservedExchange | None:
    """Return an exchange as the proxy observes it; None if it goes to another origin."""
    if not one.url.startswith(HOME):
        return None
    sent = sent if one.role in ("submit", "run") else b""
    told = replace(
        one,
        number=number,
        role=None,
        url=one.url.removeprefix(HOME),
        headers=tuple((name, value) for name, value in one.headers if name != "host"),
        body=sent,
        answer_headers=one.answer_headers if one.status else (),
        size=len(one.answer),
    )
    broken = "" if one.whole and one.status else "upstream"
    return ObservedExchange(exchange=told, sent=len(sent), broken=broken)


CONTRACT = CONTRACTS[0]


def observed(
    number: int, path: str = "/elsewhere", method: str = "GET", *, broken: str = "", **more: Any
) -> ObservedExchange:
    headers = (("authorization", f"Bearer {SECRET}"),)
    about: dict[str, Any] = {"role": None, "method": method, "url": path, "headers": headers, **more}
    exchange = Exchange(number=number, arrived=1e9 + number, **about)
    return ObservedExchange(exchange=exchange, sent=len(exchange.body), broken=broken)


def test_the_oldest_exchanges_go_when_their_bodies_are_too_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_judge, "MOST_KEPT_BYTES", 100)
    judge = LiveJudge(CONTRACT, "http://x", lambda finding: None)
    for number in range(1, 6):
        judge.seen(observed(number, status=200, answer=b"x" * 40, size=40))
    assert [one.exchange.number for one in judge._kept] == [4, 5]
    assert judge.total == 5


def test_the_bytes_of_a_video_are_not_kept() -> None:
    judge = LiveJudge(CONTRACT, "http://x", lambda finding: None)
    for number, (kind, answer) in enumerate((("Video/mp4", b"x" * 40), ("application/json", b"{}")), 1):
        headers = (("content-type", kind),)
        judge.seen(observed(number, status=200, answer_headers=headers, answer=answer, size=len(answer)))
    assert [(one.exchange.answer, one.exchange.size) for one in judge._kept] == [(b"", 40), (b"{}", 2)]


def test_any_header_with_a_secret_name_is_redacted_in_the_archive() -> None:
    operation, _, _ = next(iter(documented_jobs(CONTRACT)))
    headers = (
        ("authorization", f"Bearer {SECRET}"),
        ("x-session-token", "t0k3n"),
        ("cookie", "c00k1e"),
        ("x-plain", "plain"),
    )
    path = f"/{CONTRACT.key}{operation.path}".replace("{", "").replace("}", "")
    judge = LiveJudge(CONTRACT, f"http://x/{CONTRACT.key}", lambda finding: None)
    received: dict[str, Any] = {"status": 200, "answer_headers": (("set-cookie", "s3cret"),), "answered": 1e9 + 2}
    judge.seen(observed(1, path, operation.method, headers=headers, **received))
    written = json.dumps(judge.har())
    assert "plain" in written
    assert not [secret for secret in (SECRET, "t0k3n", "c00k1e", "s3cret") if secret in written]


BODIES = {
    "no coding": ("", b"{}", b"{}"),
    "identity": ("identity", b"{}", b"{}"),
    "gzip": ("gzip", gzip.compress(b"{}"), b"{}"),
    "gzip, cut off": ("gzip", gzip.compress(b"{}")[:-4], None),
    "not gzip": ("gzip", b"plain", None),
    "gzip of a long body": ("gzip", gzip.compress(b"x" * (KEPT_BODY_BYTES + 1)), None),
    "an unknown coding": ("br", b"\x0b", None),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_is_known_if_it_is_kept_whole_and_its_coding_can_be_undone(name: str) -> None:
    coding, content, known = BODIES[name]
    headers = (("content-encoding", coding),) if coding else ()
    one = observed(1, status=200, answer_headers=headers, answer=content, size=len(content))
    assert live_judge._plain(one.exchange) == known


def test_a_body_that_is_longer_than_the_kept_part_is_not_known() -> None:
    kept = b"x" * KEPT_BODY_BYTES
    assert live_judge._plain(observed(1, status=200, answer=kept, size=len(kept)).exchange) == kept
    assert live_judge._plain(observed(1, status=200, answer=kept, size=len(kept) + 1).exchange) is None


def test_findings_are_counted_by_side_and_lessons_apart() -> None:
    reported: list[Finding] = []
    judge = LiveJudge(CONTRACT, "http://x", reported.append)
    for side, message in (("client", "a"), ("client", "b"), ("upstream", "a"), ("lesson", "a"), ("client", "a")):
        judge._find(Finding(side, "ABC-01", "name", "MUST", message), [])
    assert judge.counts == {("client", "ABC-01"): 2, ("upstream", "ABC-01"): 1, ("lesson", "ABC-01"): 1}
    assert judge.findings == 3
    assert [str(one) for one in reported][-1] == "upstream (lesson) ABC-01 name (MUST): a"


def test_a_repetition_with_another_count_is_the_same_finding() -> None:
    reported: list[Finding] = []
    judge = LiveJudge(CONTRACT, "http://x", reported.append)
    for more in ("", " (and 1 more time)", " (and 12 more times)"):
        judge._find(Finding("upstream", "ABC-01", "name", "MUST", f"request 1 is wrong{more}"), [1])
    assert [one.message for one in reported] == ["request 1 is wrong"]
    assert EACH > 1


def test_a_thread_judges_what_comes_and_once_more_at_its_end() -> None:
    judged_counts: list[int] = []
    ready = threading.Event()

    class Counting(LiveJudge):
        def judge(self) -> None:
            judged_counts.append(self.total)
            if self.total:
                ready.set()

    thread = LiveJudgeThread(Counting(CONTRACT, "http://x", lambda finding: None))
    thread.seen(observed(1))
    assert ready.wait(PATIENCE)
    thread._live_judge.seen(observed(2))
    thread.stop()
    assert judged_counts[-1] == 2


def test_a_judge_that_fails_altogether_is_reported_without_its_message() -> None:
    class Failing(LiveJudge):
        def judge(self) -> None:
            raise RuntimeError(SECRET)

    troubles: list[str] = []
    thread = LiveJudgeThread(Failing(CONTRACT, "http://x", lambda finding: None), troubles.append)
    thread.stop()
    assert set(troubles) == {"the observed exchanges could not be judged: RuntimeError"}
