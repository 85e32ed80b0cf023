"""The output of the client suite: the verdicts, then the summary of its runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hobbyhorse.cli.client_verdicts import show_result
from hobbyhorse.conformance.client.results import Coverage, Result
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.judge import BROKEN, NOT_APPLICABLE, NOT_OBSERVED, PASSED, Finding, Verdict
from hobbyhorse.conformance.rule import Breach
from hobbyhorse.traces.trace import Outcome, Run, Trace
from tests.conftest import CONTRACTS

RULES = rules()
TRACE = Trace("p", "http://x", runs=(Run(0.0, "http://x", outcome=Outcome("success", 1.0)),))
FOUND = Finding(RULES[2].id, (Breach("message"),), TRACE)
VERDICTS = (
    Verdict(RULES[0], PASSED, observed=1),
    Verdict(RULES[1], NOT_OBSERVED),
    Verdict(RULES[2], BROKEN, observed=5, times_broken=2, findings=(FOUND,)),
    Verdict(RULES[3], NOT_APPLICABLE),
    Verdict(RULES[4], NOT_APPLICABLE),
)


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")


def result(coverage: Coverage, accepted: dict[str, str], stale: tuple[str, ...] = ()) -> Result:
    return Result("p", "m", "client", 7, VERDICTS, coverage, 30, 2.0, accepted, stale)


def test_the_summary_has_runs_coverage_report_and_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    coverage = Coverage(met=8, total=12, untried=("a", "b", "c"))
    show_result(result(coverage, {RULES[2].id: "known [red]"}, (RULES[0].id,)), CONTRACTS[0], Path("folder"))
    lines = capsys.readouterr().out.splitlines()
    assert "30 runs in 2.0 s (15.0 a second), seed 7; 8 of 12 single faults reached" in lines
    assert "3 of them were not tried, because the runs were used up; --runs N allows more" in lines
    assert f"{RULES[2].id} is accepted: known [red]" in lines
    assert f"{RULES[0].id} is stale: it is in the baseline and was not found; remove it" in lines
    assert "report: folder/index.html" in lines
    assert lines[-1] == "1 stale in the baseline, 1 accepted, 1 passed, 1 not observed"


def test_an_interrupted_suite_does_not_ask_for_more_runs(capsys: pytest.CaptureFixture[str]) -> None:
    show_result(replace(result(Coverage(met=8, total=12, untried=("a",)), {}), interrupted=True), CONTRACTS[0], None)
    printed = capsys.readouterr().out
    assert "1 of them were not tried, because the suite was stopped\n" in printed
    assert "--runs" not in printed


def test_a_summary_without_baseline_and_report_counts_the_broken_rules(capsys: pytest.CaptureFixture[str]) -> None:
    show_result(result(Coverage(met=12, total=12), {}), CONTRACTS[0], None)
    printed = capsys.readouterr().out
    assert "  again: " not in printed
    assert "report:" not in printed
    assert "not tried" not in printed
    assert printed.splitlines()[-1] == "1 rule broken, 1 passed, 1 not observed"


def test_each_finding_has_the_command_that_replays_it(capsys: pytest.CaptureFixture[str]) -> None:
    found = replace(result(Coverage(met=12, total=12), {}), options=("--python", "my client.py:generate"))
    show_result(found, CONTRACTS[0], Path("folder"))
    command = (
        f"hobbyhorse conformance replay folder/findings/{RULES[2].id}.scenario.json --python 'my client.py:generate'"
    )
    assert f"  again: {command}\n" in capsys.readouterr().out
