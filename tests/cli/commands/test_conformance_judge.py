"""`hobbyhorse conformance judge`: recordings judged without a server, and files that are not recordings."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.conformance.client.cases import Case
from hobbyhorse.conformance.judge import check
from hobbyhorse.conformance.rule import Judgement, Rule
from hobbyhorse.runners.against_fake import CallableRunner, FakeSession
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Trace, to_json
from tests.broken_clients.mutants import load
from tests.cli.sample_clients import BREAKS, HIAPI, LOST_RESPONSE, PROVIDER
from tests.conftest import ROOT, Done, Run
from tests.traces.recorders import archive, poll, submission
from tests.tracing import Teller


def missing_key() -> Any:
    """Fail as a bug in a rule would."""
    raise KeyError("stage")


pytestmark = pytest.mark.usefixtures("working_directory")


@pytest.mark.parametrize(("source", "status"), [(BREAKS.working, 0), (BREAKS.source, 1)])
def test_a_trace_is_judged_without_a_server(source: str, status: int, run: Run, tmp_path: Path) -> None:
    with FakeSession(HIAPI, HIAPI.models[0]) as session:
        trace = CallableRunner(session, load("judged", source)).run(Case(LOST_RESPONSE))
    (tmp_path / "trace.json").write_text(json.dumps(to_json(trace)))
    done = run("conformance", "judge", "trace.json", *PROVIDER)
    assert done.status == status, done.out
    assert (f"\n{BREAKS.rule} " in done.out) is bool(status)
    as_json = run("conformance", "judge", "trace.json", *PROVIDER, "--json")
    assert as_json.status == status
    broken = [one["id"] for one in json.loads(as_json.out)["rules"] if one["verdict"] == "broken"]
    assert (BREAKS.rule in broken) is bool(status)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "file: No such file"),
        ("{", ""),
        ("[]", "neither a HAR file"),
        ("{}", "neither a HAR file"),
        ('{"format": "x"}', "neither a HAR file nor a trace: $"),
        ('{"log": {}}', ""),
        ('{"log": {"version": "1.2", "entries": []}}', ""),
    ],
)
def test_a_file_that_cannot_be_judged_is_one_line_and_exit_status_2(
    content: str | None, message: str, run: Run, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "file").write_text(content)
    done = run("conformance", "judge", "file", *PROVIDER)
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert "file" in line
    assert message in line


def test_a_long_schema_error_is_cut(run: Run, tmp_path: Path) -> None:
    (tmp_path / "trace.json").write_text(
        json.dumps({"format": 1, "provider": "hiapi", "base": "", "exchanges": "x" * 100_000})
    )
    done = run("conformance", "judge", "trace.json", *PROVIDER)
    assert done.status == 2
    assert "neither a HAR file nor a trace: $.exchanges: 'xxx" in done.err
    assert len(done.err) < 1_000


ACME_PROVIDER = ("--provider", "acme", "--contracts", str(ROOT / "tests" / "contract_folders"))


def judged(run: Run, tmp_path: Path, data: bytes, *more: str) -> Done:
    (tmp_path / "recording").write_bytes(data)
    return run("conformance", "judge", "recording", *ACME_PROVIDER, *more)


def as_bytes(*entries: dict[str, Any]) -> bytes:
    return json.dumps(archive(*entries)).encode()


TWICE = (submission(), poll(at=5), submission("job-2", at=60))


def test_an_order_that_a_recording_shows_twice_is_a_finding(run: Run, tmp_path: Path) -> None:
    done = judged(run, tmp_path, as_bytes(*TWICE))
    assert done.status == 1
    assert "SUB-06" in done.out


def test_parts_that_a_recording_lacks_are_no_findings_and_are_counted(run: Run, tmp_path: Path) -> None:
    entries = deepcopy(TWICE)
    for one in (entries[0], entries[2]):
        del one["request"]["postData"]
    done = judged(run, tmp_path, as_bytes(*entries))
    note = "2 request bodies are not recorded, and cannot be judged"
    assert (done.status, done.err) == (0, f"{note}\n")
    assert json.loads(judged(run, tmp_path, as_bytes(*entries), "--json").out)["notes"] == [note]


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_a_compressed_recording_is_judged(pack: Callable[[bytes], bytes], run: Run, tmp_path: Path) -> None:
    assert judged(run, tmp_path, pack(as_bytes(*TWICE))).status == 1


def test_a_zip_with_attached_bodies_is_judged(run: Run, tmp_path: Path) -> None:
    entries = deepcopy(TWICE)
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as file:
        for number in (0, 2):
            file.writestr(f"{number}.json", entries[number]["request"]["postData"].pop("text"))
            entries[number]["request"]["postData"]["_file"] = f"{number}.json"
        file.writestr("har.har", as_bytes(*entries))
    assert judged(run, tmp_path, found.getvalue()).status == 1


def test_a_recording_of_another_provider_is_refused_with_its_hosts(run: Run, tmp_path: Path) -> None:
    one = submission()
    one["request"]["url"] = "https://other.example/v9/videos"
    done = judged(run, tmp_path, as_bytes(one))
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert "no request matches an operation of Acme; the hosts are other.example" in line
    assert "give the base URL with --base, or another provider with --provider" in line


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\x00\xff" * 500, "is not"),
        (b"[1, 2]", "neither a HAR file"),
        (b"3", "neither a HAR file"),
        (b'{"log": []}', "/log: a list is not an object"),
        (b"PK\x03\x04 and more", "is not a readable ZIP archive"),
    ],
)
def test_a_bad_recording_is_one_line_and_exit_status_2(data: bytes, message: str, run: Run, tmp_path: Path) -> None:
    done = judged(run, tmp_path, data)
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert message in line


def test_a_directory_is_one_line_and_exit_status_2(run: Run, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    done = run("conformance", "judge", "folder", *ACME_PROVIDER)
    assert (done.status, done.err) == (2, "hobbyhorse: folder: Is a directory\n")


ODD: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no response": lambda one: one.pop("response"),
    "status 0": lambda one: one["response"].update(status=0),
    "status -1": lambda one: one["response"].update(status=-1),
    "negative time": lambda one: one.update(time=-5, timings={"wait": -1}),
    "unknown method": lambda one: one["request"].update(method="BREW"),
    "no headers": lambda one: one["request"].pop("headers"),
    "no content": lambda one: one["response"].pop("content"),
    "a page that is no text": lambda one: one.update(pageref=5),
    "a file that is no text": lambda one: one["response"]["content"].update(text="", _file=5),
    "gaps that are no list": lambda one: one.update(_unrecorded="all"),
    "gaps that are no texts": lambda one: one.update(_unrecorded=[{}, 5]),
}


@pytest.mark.parametrize("change", ODD.values(), ids=ODD.keys())
def test_an_odd_entry_is_judged_without_a_traceback(change: Callable[[Any], Any], run: Run, tmp_path: Path) -> None:
    odd = poll(at=9)
    change(odd)
    done = judged(run, tmp_path, as_bytes(submission(), poll(at=5), odd))
    assert done.status in (0, 1), done.err
    assert "Traceback" not in done.err


def recorded(tmp_path: Path, trace: Trace) -> str:
    (tmp_path / "trace.json").write_text(json.dumps(to_json(trace)))
    return "trace.json"


def test_each_unobserved_rule_of_a_trace_has_a_reason(run: Run, tmp_path: Path) -> None:
    file = recorded(tmp_path, Teller(HIAPI).submit().trace())
    done = run("conformance", "judge", file, *PROVIDER)
    assert "the trace has no outcome: run the client with `hobbyhorse conformance client`" in done.out
    report = json.loads(run("conformance", "judge", file, *PROVIDER, "--json").out)
    assert all(("why" in one) is (one["verdict"] == "not-observed") for one in report["rules"])


def test_a_rule_that_was_asked_for_but_not_observed_has_a_status_of_its_own(run: Run, tmp_path: Path) -> None:
    words = ("conformance", "judge", recorded(tmp_path, Teller(HIAPI).submit().trace()), *PROVIDER, "--rule", "PER-01")
    done = run(*words)
    assert (done.status, "not observed: PER-01: the trace has no restart" in done.out) == (4, True)
    assert run(*words, "--allow-not-observed").status == 0
    assert run(*words, "--rule", "SUB-99").status == 2


def test_a_recording_that_shows_nothing_is_not_clean(run: Run, tmp_path: Path) -> None:
    done = run("conformance", "judge", recorded(tmp_path, Trace("hiapi", "http://127.0.0.1:1/hiapi")), *PROVIDER)
    assert (done.status, "nothing could be judged" in done.err) == (2, True)


def test_a_rule_that_fails_is_an_internal_error_and_the_others_are_judged(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(rule: Rule, annotated: AnnotatedTrace) -> Judgement:
        return check(rule, annotated) if rule.id != "SEC-01" else missing_key()

    monkeypatch.setattr("hobbyhorse.conformance.judge.check", failing)
    done = run("conformance", "judge", recorded(tmp_path, Teller(HIAPI).submit().trace()), *PROVIDER)
    assert done.status == 3
    assert "hobbyhorse: internal error: judging SEC-01: KeyError: 'stage'; please report it" in done.err
    assert "SEC-04," in done.out.partition("\npassed: ")[2].partition("not observed: ")[0]
