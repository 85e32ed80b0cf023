"""Verdicts on the terminal: the worst cost first, then the findings by harm, the lessons, and the other rules."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from hobbyhorse.cli.verdicts import MOST_MESSAGES, show_baseline, show_verdicts, summed
from hobbyhorse.conformance.client.cases import Case
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.examples import example_for
from hobbyhorse.conformance.judge import BROKEN, LESSON, NOT_APPLICABLE, NOT_OBSERVED, PASSED, Finding, Lesson, Verdict
from hobbyhorse.conformance.rule import HARMS, Breach
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.trace import Outcome, Run, Trace

RULES = rules()
MESSAGES = tuple(f"message {number} [red]" for number in range(MOST_MESSAGES + 2))
TRACE = Trace("p", "http://x", runs=(Run(0.0, "http://x", outcome=Outcome("success", 1.0)),))
FOUND = Finding(RULES[2].id, tuple(map(Breach, MESSAGES)), TRACE)
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


def test_the_first_line_counts_the_broken_rules_and_the_findings_follow(capsys: pytest.CaptureFixture[str]) -> None:
    show_verdicts(VERDICTS)
    printed, broken = capsys.readouterr().out, RULES[2]
    assert printed.startswith("1 rule broken: 1 money\n\nMoney\n")
    assert f"{broken.id} {broken.name} MUST, S1; broken in 2 of 5 runs\n  {broken.says}\n" in printed
    assert f"  fix: {broken.fix}\n" in printed
    assert f"\npassed: {RULES[0].id}\n" in printed
    assert f"not observed: {RULES[1].id}\n" in printed
    assert f"not applicable: {RULES[3].id}, {RULES[4].id}\n" in printed
    assert printed.count("  client: message ") == MOST_MESSAGES
    assert "  client: message 0 [red]\n" in printed
    assert "  and 2 more\n" in printed
    assert "  server: a happy server\n" in printed
    assert printed.index("  client: message 0") < printed.index("  fix: ") < printed.index("passed: ")


def test_money_comes_before_security_and_security_before_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = [next(rule for rule in RULES if rule.harm == harm) for harm in reversed(HARMS)]
    show_verdicts([Verdict(rule, BROKEN, 1, 1, (replace(FOUND, rule=rule.id),)) for rule in kinds])
    printed = capsys.readouterr().out
    assert printed.startswith("4 rules broken: 1 money, 1 security, 1 lost or wrong video, 1 other\n")
    places = [printed.index(f"\n{title}\n") for title in HARMS.values()]
    assert places == sorted(places)


def test_with_the_contract_a_finding_has_an_example_and_with_files_its_replay(
    capsys: pytest.CaptureFixture[str], contract: Contract
) -> None:
    show_verdicts(VERDICTS, contract=contract, replay="replay {}".format)
    printed = capsys.readouterr().out
    assert f"  done right: {example_for(RULES[2], contract)}\n" in printed
    assert f"  again: replay {RULES[2].id}\n" in printed


def test_an_accepted_rule_is_marked_and_its_findings_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    show_verdicts(VERDICTS, {RULES[2].id: "known"})
    printed = capsys.readouterr().out
    assert "message" not in printed
    assert printed.startswith("passed: ")


def test_a_lesson_stands_apart_from_the_findings_with_its_place_and_reason(capsys: pytest.CaptureFixture[str]) -> None:
    lesson = Lesson(RULES[5].id, ("lifecycle.json#/x",), "It is [assumed].", "It was 7.", 7, ())
    show_verdicts([*VERDICTS, Verdict(RULES[5], LESSON, observed=1, lessons=(lesson,))], side="server")
    printed = capsys.readouterr().out
    assert f"  {RULES[5].id} It was 7.\n    lifecycle.json#/x: It is [assumed].\n" in printed
    assert printed.index("  server: message 0 ") < printed.index("\nlessons: ")
    show_verdicts(VERDICTS)
    assert "lessons" not in capsys.readouterr().out


def test_a_finding_of_a_server_has_places_and_no_test_case(capsys: pytest.CaptureFixture[str]) -> None:
    found = Finding(RULES[0].id, (Breach("It is [wrong].", ("openapi.json#/a", "b")),), Trace("p", "http://x"))
    show_verdicts([Verdict(RULES[0], BROKEN, 1, 1, (found,))], side="server")
    printed = capsys.readouterr().out
    assert f"\n  {RULES[0].says}\n  server: It is [wrong].\n    openapi.json#/a\n" in printed
    assert "and 1 more" not in printed


def test_an_accepted_finding_has_its_reason_and_a_stale_one_is_to_be_removed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_baseline(Console(highlight=False), {"SUB-01": "known [red]"}, ("SUB-02",))
    assert capsys.readouterr().out.splitlines() == [
        "SUB-01 is accepted: known [red]",
        "SUB-02 is stale: it is in the baseline and was not found; remove it",
    ]


@pytest.mark.parametrize(
    ("broken", "stale", "expected"),
    [
        (0, 0, "[green]nothing[/green]"),
        (1, 0, "[red]1 rule broken[/red]"),
        (2, 1, "[red]2 rules broken, 1 stale in the baseline[/red]"),
    ],
)
def test_broken_and_stale_are_counted(broken: int, stale: int, expected: str) -> None:
    assert summed(broken, stale, "nothing") == expected


def test_each_reason_for_missing_evidence_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    reasons = ("give --resume-command", "raise --runs", "give --resume-command", None)
    show_verdicts([Verdict(rule, NOT_OBSERVED, why=why) for rule, why in zip(RULES, reasons, strict=False)])
    lines = capsys.readouterr().out.splitlines()
    assert f"not observed: {RULES[0].id}, {RULES[2].id}: give --resume-command" in lines
    assert f"not observed: {RULES[1].id}: raise --runs" in lines
    assert f"not observed: {RULES[3].id}" in lines


def test_a_finding_says_what_the_client_was_doing_and_which_runs_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    needing = replace(FOUND, during="poll", after=(Case({}, "twice"),))
    other = replace(FOUND, during="download")
    show_verdicts([Verdict(RULES[2], BROKEN, 2, 2, (needing, other))], {other.name: "known"})
    printed = capsys.readouterr().out
    assert "server: a happy server (during poll)" in printed
    assert "only after 1 other run of the same process" in printed
    assert "after: twice" in printed
    assert "download" not in printed
