"""The comparison of two reports: new, gone and changed findings, and lost evidence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.conformance.report import ReportError
from hobbyhorse.conformance.reports.comparison import Comparison, compared, read_report

Fields = dict[str, Any]


def finding(during: str = "poll", message: str = "it polled 3 times", **fields: Any) -> Fields:
    return {
        "during": during,
        "message": message,
        "scenario": {},
        "drill": "once",
        "in_words": "a happy server",
    } | fields


def ruled(id: str, verdict: str, *findings: Fields, **fields: Any) -> Fields:
    return {"id": id, "verdict": verdict, "findings": list(findings)} | fields


def report(*rules: Fields, **summary: Any) -> Fields:
    return {"format": 1, "rules": list(rules), "summary": {"provider": "acme"} | summary}


def difference(tmp_path: Path, old: Fields, new: Fields) -> Comparison:
    for name, fields in (("old", old), ("new", new)):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "report.json").write_text(json.dumps(fields))
    return compared(read_report(tmp_path / "old"), read_report(tmp_path / "new" / "report.json"))


def names(found: Comparison) -> tuple[list[str], list[str], list[str], dict[str, str]]:
    return (
        [one.name for one in found.new],
        [one.name for one in found.gone],
        [one.name for _, one in found.changed],
        dict(found.lost),
    )


def test_findings_are_new_gone_or_the_same(tmp_path: Path) -> None:
    old = report(ruled("A-01", "broken", finding()), ruled("A-02", "passed"), ruled("A-03", "broken", finding()))
    new = report(
        ruled("A-01", "broken", finding()), ruled("A-02", "broken", finding("submit")), ruled("A-03", "passed")
    )
    found = difference(tmp_path, old, new)
    assert names(found) == (["A-02/submit"], ["A-03/poll"], [], {})
    assert found.has_news
    assert not difference(tmp_path, old, old).has_news


def test_runs_of_a_client_without_a_verdict_leave_its_report_readable(tmp_path: Path) -> None:
    for unjudged in ({}, {"io_uring": 3}):
        new = report(ruled("A-01", "broken", finding()), unjudged=unjudged)
        assert names(difference(tmp_path, report(ruled("A-01", "passed")), new))[0] == ["A-01/poll"]


def test_another_operation_of_a_broken_rule_is_a_finding_of_its_own(tmp_path: Path) -> None:
    old, new = (report(ruled("A-01", "broken", finding(during))) for during in ("poll", "download"))
    assert names(difference(tmp_path, old, new)) == (["A-01/download"], ["A-01/poll"], [], {})


@pytest.mark.parametrize(
    ("fields", "is_change"),
    [
        ({"message": "it polled 17 times"}, False),
        ({"message": "it never polled"}, True),
        ({"scenario": {"timeline": {"move": "stuck"}}}, True),
        ({"drill": "twice"}, True),
        ({"accepted": "known"}, True),
    ],
)
def test_a_finding_changes_with_its_case_and_its_words_but_not_with_its_numbers(
    fields: Fields, is_change: bool, tmp_path: Path
) -> None:
    old, new = report(ruled("A-01", "broken", finding())), report(ruled("A-01", "broken", finding(**fields)))
    found = difference(tmp_path, old, new)
    assert names(found) == ([], [], ["A-01/poll"] if is_change else [], {})
    assert not found.has_news


@pytest.mark.parametrize("missing", [[ruled("A-01", "not-observed"), ruled("A-02", "not-observed")], []])
def test_a_rule_that_is_not_observed_any_more_lost_its_evidence_and_its_findings_are_not_gone(
    missing: list[Fields], tmp_path: Path
) -> None:
    old = report(ruled("A-01", "passed"), ruled("A-02", "broken", finding()), ruled("A-03", "not-observed"))
    found = difference(tmp_path, old, report(*missing, ruled("A-03", "passed")))
    assert names(found) == ([], [], [], {"A-01": "passed", "A-02": "broken"})


def test_a_new_finding_that_the_baseline_accepts_is_no_news(tmp_path: Path) -> None:
    old = report(ruled("A-01", "passed"))
    for new in (
        ruled("A-01", "broken", finding(), accepted="known"),
        ruled("A-01", "broken", finding(accepted="known")),
    ):
        found = difference(tmp_path, old, report(new))
        assert names(found)[0] == ["A-01/poll"]
        assert (found.has_news, found.new[0].accepted) == (False, "known")


def test_the_breaches_of_a_server_are_one_finding_of_their_rule(tmp_path: Path) -> None:
    where = {"base_url": "http://x"}
    first, second = {"message": "a is 1", "places": ["x#/a"]}, {"message": "b is 2", "places": ["x#/b"]}
    old = report(ruled("SHA-01", "broken", first, second), **where)
    assert names(difference(tmp_path, old, report(ruled("SHA-01", "broken", second, first), **where))) == (
        [],
        [],
        [],
        {},
    )
    assert names(difference(tmp_path, old, report(ruled("SHA-01", "broken", first), **where)))[2] == ["SHA-01"]


def test_a_report_says_why_it_is_not_whole(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(report(interrupted=True, errors=["boom"], unfit="no video")))
    assert read_report(tmp_path).unfinished == "it was interrupted; internal error: boom; no video"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "cannot be read"),
        ("[]", "is not a JSON object"),
        ("{}", "'format' is None; allowed: 1"),
        ('{"format": 1}', "'summary' is missing"),
        ('{"format": 1, "summary": {}, "rules": []}', "'provider' is missing"),
        ('{"format": 1, "summary": {"provider": "acme"}, "rules": [7]}', "is not a report"),
        ('{"format": 1, "summary": {"provider": "acme", "unjudged": "no server"}, "rules": []}', "judged: no server"),
    ],
)
def test_a_file_that_is_not_a_report_is_refused(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ReportError, match=why):
        read_report(tmp_path)


def test_reports_about_different_things_are_not_compared(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="the provider of OLD is 'acme', of NEW 'other'"):
        difference(tmp_path, report(), report(provider="other"))
    with pytest.raises(ReportError, match="the suite of OLD is 'client', of NEW 'server'"):
        difference(tmp_path, report(), report(base_url="http://x"))
