"""Clients that fall back to a second provider, as a user runs them: correct and broken ones, callables and commands."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest

from hobbyhorse.conformance.client.cases import Case
from hobbyhorse.runners.against_fake import CallableRunner, FakeSession, run_limit
from hobbyhorse.traces.trace import Trace
from tests.broken_clients.fallback import generate
from tests.broken_clients.mutants import FALLBACK, MUTANTS, Mutant
from tests.conftest import CONTRACTS, ROOT, Run

BROKEN = [mutant for mutant in MUTANTS if mutant.client == FALLBACK]
BY_KEY = {contract.key: contract for contract in CONTRACTS}
HIAPI, RUNCOMFY = BY_KEY["hiapi"], BY_KEY["runcomfy"]
CLIENT = ROOT / "tests" / "broken_clients" / "fallback.py"
SUITE = ("conformance", "client", "--provider", "hiapi,runcomfy")
KEEPS = ("--python", f"{CLIENT}:generate", "--parallel", "1")
BUG = "one click, two billed jobs at two providers"
# Runs in which the suite reaches the second provider's faults, and in which it finds three of the four bugs.
FEW = 40
TURN = Case({"timeline": {"move": "fail"}})


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def findings(folder: Path) -> dict[str, list[str]]:
    """Return the messages of the broken rules."""
    rules = report(folder)["rules"]
    return {one["id"]: [found["message"] for found in one["findings"]] for one in rules if one["findings"]}


def traced(case: Case, *names: str) -> Trace:
    """Return the trace of the correct client in a case."""
    first, second = (BY_KEY[name] for name in names)
    with FakeSession(first, first.models[0], second=(second, second.models[0])) as session:
        return CallableRunner(session, generate).run(case)


@pytest.mark.parametrize("providers", ["hiapi,runcomfy", "runcomfy,hiapi"])
def test_a_correct_client_breaks_no_rule_at_either_provider(providers: str, run: Run, tmp_path: Path) -> None:
    words = ("conformance", "client", "--provider", providers, *KEEPS, "--runs", str(FEW), "--report", tmp_path)
    done = run(*words)
    assert done.status == 0, done.out
    assert findings(tmp_path) == {}
    summary = report(tmp_path)["summary"]
    assert summary["provider"] == providers
    assert any("at the second provider" in name for name in summary["deviations"]["untried"])
    (rule,) = (one for one in report(tmp_path)["rules"] if one["id"] == "SUB-08")
    assert rule["verdict"] == "passed"


@pytest.mark.parametrize("mutant", BROKEN[:2] + BROKEN[3:], ids=lambda mutant: mutant.bug)
def test_a_client_that_pays_twice_is_found(mutant: Mutant, run: Run, tmp_path: Path) -> None:
    (tmp_path / "client.py").write_text(mutant.source)
    words = ("--parallel", "1", "--runs", str(FEW), "--rule", "SUB-08", "--report", tmp_path)
    done = run(*SUITE, "--python", f"{tmp_path / 'client.py'}:generate", *words)
    assert done.status == 1, done.out
    (message,) = findings(tmp_path)["SUB-08"]
    assert message.startswith(BUG)
    page = (tmp_path / "index.html").read_text()
    assert f"{HIAPI.name} and {RUNCOMFY.name}" in page
    assert all(f"Time line: {one.name}" in page for one in (HIAPI, RUNCOMFY))
    # The same client breaks the rule again when it is replayed; the correct one does not.
    finding = tmp_path / "findings" / "SUB-08.scenario.json"
    again = run("conformance", "replay", finding, "--python", f"{tmp_path / 'client.py'}:generate", "--times", "1")
    assert (again.status, BUG in again.out) == (1, True), again.out
    kept = run("conformance", "replay", finding, "--python", f"{CLIENT}:generate", "--times", "1")
    assert "still-broken" not in kept.out


def test_the_shards_of_a_search_with_two_providers_are_joined(run: Run, tmp_path: Path) -> None:
    (tmp_path / "client.py").write_text(BROKEN[0].source)
    parts = [tmp_path / "part-1", tmp_path / "part-2"]
    words = (*SUITE, "--python", f"{tmp_path / 'client.py'}:generate", "--parallel", "1", "--runs", str(2 * FEW))
    for number, folder in enumerate(parts, 1):
        done = run(*words, "--rule", "SUB-08", "--shard", f"{number}/2", "--report", folder)
        assert done.status in (0, 1), done.out + done.err
    done = run("conformance", "merge", *parts, "--report", tmp_path / "whole")
    assert done.status == 1, done.out + done.err
    assert findings(tmp_path / "whole")["SUB-08"][0].startswith(BUG)
    assert report(tmp_path / "whole")["summary"]["provider"] == "hiapi,runcomfy"
    assert f"{HIAPI.name} and {RUNCOMFY.name}" in (tmp_path / "whole" / "index.html").read_text()
    tried = [set(report(folder)["summary"]["shard"]["reached"]) for folder in parts]
    at_second = [{name for name in names if "at the second provider" in name} for names in tried]
    assert all(at_second)
    assert at_second[0].isdisjoint(at_second[1])


def test_a_command_gets_the_variables_of_both_providers(run: Run, tmp_path: Path) -> None:
    # Both are bought from at once, in the happy case already, so that a run or two of real time are enough.
    client = tmp_path / "client.py"
    client.write_text(next(one for one in BROKEN if "at once" in one.bug).source)
    for source, status in ((CLIENT, 0), (client, 1)):
        command = (sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {RUN_FILE}", source)
        words = ("--runs", "2", "--speed", "50", "--report", tmp_path / "report")
        done = run(*SUITE, *words, "--rule", "SUB-08", "--allow-not-observed", "--", *command, "hiapi", "runcomfy")
        assert done.status == status, done.out + done.err
    assert findings(tmp_path / "report")["SUB-08"][0].startswith(BUG)


RUN_FILE = "import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


def test_faults_strike_the_second_provider_after_a_failure_of_the_first() -> None:
    lost = Case(TURN.scenario, second={"moves": {"status": [{"move": "truncate"}]}})
    trace = traced(lost, "hiapi", "runcomfy")
    assert trace.partner is not None
    assert (trace.provider, trace.partner.provider) == ("hiapi", "runcomfy")
    assert {one.move for one in trace.partner.exchanges} == {None, "truncate"}
    # The client returned the second provider's video; at the first one, the end of the run is unknown.
    assert [run.outcome for run in trace.runs] == [None]
    assert [run.outcome and run.outcome.kind for run in trace.partner.runs] == ["success"]
    assert trace.partner.runs[0].request != trace.runs[0].request
    numbers = [one.number for one in (*trace.exchanges, *trace.partner.exchanges)]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


def test_the_second_provider_is_not_asked_if_the_first_one_delivers() -> None:
    trace = traced(Case(), "runcomfy", "hiapi")
    assert trace.partner is not None
    assert trace.partner.exchanges == ()
    assert [run.outcome and run.outcome.kind for run in trace.runs] == ["success"]


def test_each_provider_accepts_only_its_own_key() -> None:
    statuses = []

    def client(base_url: dict[str, str], api_key: dict[str, str], request: dict[str, Any], **more: Any) -> bytes:
        assert list(base_url) == list(more["model"]) == list(more["callback"]) == ["hiapi", "runcomfy"]
        assert more["callback"]["runcomfy"] is None
        assert more["callback"]["hiapi"].url.endswith("/callback")
        for name in ("hiapi", "runcomfy"):
            headers = {"Authorization": f"Bearer {api_key[name]}"}
            body = request["hiapi"]
            with httpx.Client(headers=headers, trust_env=False) as http:
                statuses.append(http.post(f"{base_url['hiapi']}/v1/tasks", json=body).status_code)
        raise ValueError("no video")

    second = (RUNCOMFY, RUNCOMFY.models[0])
    with FakeSession(HIAPI, HIAPI.models[0], second=second) as session:
        trace = CallableRunner(session, client).run(Case())
    assert statuses == [200, 401]
    assert trace.partner is not None
    text = repr((trace.exchanges, trace.partner.exchanges))
    assert "[key-1]" in text
    assert "[key-2]" in text
    assert "hh-test-key" not in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--provider", "hiapi,nobody"), "unknown provider 'nobody'; known: "),
        (("--provider", "hiapi,"), "unknown provider ''; known: "),
        (("--provider", "hiapi,hiapi"), "--provider is 'hiapi,hiapi'; allowed: two different providers"),
        (("--provider", "hiapi,HiAPI"), "--provider is 'hiapi,HiAPI'; allowed: two different providers"),
        (("--provider", "hiapi,runcomfy,vtrix"), "--provider has 3 names; allowed: one, or two as in A,B"),
        (
            ("--provider", "hiapi,runcomfy", "--model", "m"),
            "--model is 'm'; allowed: a model for each provider, as in M,N",
        ),
        (("--provider", "hiapi,runcomfy", "--resume-command", "true"), "--resume-command needs one provider"),
    ],
)
def test_a_mistake_in_the_providers_is_one_line_and_exit_status_2(words: Iterable[str], message: str, run: Run) -> None:
    done = run("conformance", "client", *words, *KEEPS)
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert message in line


def test_a_run_may_wait_for_one_provider_and_then_for_the_other() -> None:
    def waits(base_url: dict[str, str], api_key: dict[str, str], request: dict[str, Any]) -> bytes:
        time.sleep(run_limit(HIAPI) + run_limit(RUNCOMFY) - 60)
        raise TimeoutError("neither delivers")

    with FakeSession(HIAPI, HIAPI.models[0], second=(RUNCOMFY, RUNCOMFY.models[0])) as session:
        trace = CallableRunner(session, waits).run(Case())
    assert [run.outcome and run.outcome.kind for run in trace.runs] == ["timeout"]
