"""`hobbyhorse conformance judge`: recordings judged without a server, and files that are not recordings."""

from __future__ import annotations

import json
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
from tests.conftest import Run
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
    assert "SEC-04 no-secret-in-url" in done.out
