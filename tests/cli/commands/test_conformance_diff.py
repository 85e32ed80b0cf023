"""`hobbyhorse conformance diff`: new, gone and changed findings, lost evidence, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.reports.test_comparison import finding, report, ruled
from tests.conftest import Done, Run

OLD = report(ruled("A-01", "broken", finding()), ruled("A-02", "passed"), ruled("A-03", "broken", finding("submit")))


def diff(run: Run, folder: Path, new: dict[str, Any], old: dict[str, Any] = OLD) -> Done:
    for name, fields in (("old", old), ("new", new)):
        (folder / f"{name}.json").write_text(json.dumps(fields))
    return run("conformance", "diff", folder / "old.json", folder / "new.json")


def test_every_difference_is_named_and_a_new_finding_is_status_1(run: Run, tmp_path: Path) -> None:
    changed = finding(message="it [never] polls", in_words="twice")
    new = report(ruled("A-01", "broken", changed, finding("download")), ruled("A-03", "passed"), interrupted=True)
    done = diff(run, tmp_path, new)
    assert (done.status, done.err) == (1, "")
    assert done.out.splitlines() == [
        "new A-01/download (a happy server)",
        "  it polled 3 times",
        "gone A-03/submit (a happy server)",
        "changed A-01/poll (twice)",
        "  it [never] polls",
        "  before: a happy server; it polled 3 times",
        "lost evidence A-02: passed in OLD, not observed in NEW",
        "NEW has only a part of the verdicts: it was interrupted",
        "1 new, 1 gone, 1 changed, 1 without evidence now",
    ]


def test_equal_reports_are_status_0(run: Run, tmp_path: Path) -> None:
    done = diff(run, tmp_path, OLD)
    assert (done.status, done.out) == (0, "0 new, 0 gone, 0 changed, 0 without evidence now\n")


def test_a_new_finding_that_is_accepted_is_named_with_status_0(run: Run, tmp_path: Path) -> None:
    accepted = ruled("A-02", "broken", finding(), accepted="known")
    done = diff(run, tmp_path, report(OLD["rules"][0], accepted, OLD["rules"][2]))
    assert done.status == 0
    assert "new A-02/poll (a happy server) (accepted: known)\n" in done.out


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ({"format": 2}, "new.json is not a report: 'format' is 2; allowed: 1"),
        (report(provider="other"), "the provider of OLD is 'acme', of NEW 'other'"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(new: dict[str, Any], message: str, run: Run, tmp_path: Path) -> None:
    done = diff(run, tmp_path, new)
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert message in line


def test_a_folder_without_a_report_is_one_line_and_status_2(run: Run, tmp_path: Path) -> None:
    done = run("conformance", "diff", tmp_path, tmp_path)
    assert (done.status, len(done.err.splitlines())) == (2, 1)
    assert "report.json cannot be read: No such file" in done.err
