"""The reports of the shards of a search as one result."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.conformance.client.cases import Case, case_of
from hobbyhorse.conformance.client.diagnosis import Fit
from hobbyhorse.conformance.client.report import read_finding, write_report
from hobbyhorse.conformance.client.results import Coverage, Result
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.client.shard import Shard
from hobbyhorse.conformance.judge import BROKEN, NOT_APPLICABLE, NOT_OBSERVED, PASSED, Finding, InternalError, Verdict
from hobbyhorse.conformance.report import ReportError
from hobbyhorse.conformance.reports.merging import Merged, merged, read_shard_report, write_fits
from hobbyhorse.conformance.rule import Breach
from tests.conftest import CONTRACTS
from tests.tracing import Teller

CONTRACT = CONTRACTS[0]
RULES = rules()[:4]
SIMPLE, COMPLEX = {"timeline": {"move": "stuck"}}, {"timeline": {"move": "stuck", "stage": "running"}}


def found(during: str, scenario: dict[str, Any], message: str = "broken", **fields: Any) -> Finding:
    trace = replace(Teller(CONTRACT, {"n": 1}).submit().end("failed").trace(), scenario=scenario, patience=7.0)
    return Finding(RULES[0].id, (Breach(message), Breach("twice")), trace, during, **fields)


def verdict(number: int, word: str, *findings: Finding, **fields: Any) -> Verdict:
    observed = 5 if word in (PASSED, BROKEN) else 0
    return Verdict(RULES[number], word, observed, len(findings), findings, **fields)


def shard(number: int, *verdicts: Verdict, of: int = 2, **changes: Any) -> Result:
    coverage = changes.pop("coverage", Coverage(0, 0))
    result = Result(CONTRACT.key, CONTRACT.models[0].id, "a client", 7, verdicts, coverage, 10, 2.0)
    result = replace(result, shard=Shard(number, of), options=("--python", "a.py:b"))
    return replace(result, **changes)


def joined(tmp_path: Path, *results: Result) -> Merged:
    folders = []
    for number, one in enumerate(results):
        folders.append(tmp_path / f"part-{number}")
        write_report(one, folders[-1])
    return merged([read_shard_report(folder) for folder in folders])


def test_a_rule_is_not_observed_only_if_no_shard_observed_it(tmp_path: Path) -> None:
    unseen = {"why": "raise --runs"}
    first = shard(
        1,
        verdict(0, PASSED),
        verdict(1, NOT_OBSERVED, **unseen),
        verdict(2, NOT_OBSERVED, **unseen),
        verdict(3, NOT_APPLICABLE),
    )
    second = shard(
        2,
        verdict(0, BROKEN, found("poll", SIMPLE)),
        verdict(1, PASSED),
        verdict(2, NOT_OBSERVED),
        verdict(3, NOT_APPLICABLE),
    )
    result = joined(tmp_path, second, first).result
    assert [one.verdict for one in result.verdicts] == [BROKEN, PASSED, NOT_OBSERVED, NOT_APPLICABLE]
    assert [one.observed for one in result.verdicts] == [10, 5, 0, 0]
    assert [one.why for one in result.verdicts] == [None, None, "raise --runs", None]
    assert (result.runs, result.seconds, result.seed, result.shard) == (20, 4.0, 7, None)
    assert (result.exit_status, result.options) == (1, ("--python", "a.py:b"))


def test_the_simplest_of_equal_findings_is_kept_with_its_trace(tmp_path: Path) -> None:
    lost = found("submit", SIMPLE, recurs=False)
    first = shard(
        1, verdict(0, BROKEN, found("poll", COMPLEX), found("download", SIMPLE, after=(Case(COMPLEX),)), lost)
    )
    second = shard(
        2, verdict(0, BROKEN, found("poll", SIMPLE, "simpler"), found("submit", COMPLEX), found("callback", COMPLEX))
    )
    (one,) = joined(tmp_path, first, second).result.verdicts
    assert [finding.name.partition("/")[2] for finding in one.findings] == ["download", "poll", "callback"]
    download, poll, _ = one.findings
    assert poll.messages == ("simpler", "twice")
    assert case_of(poll.trace) == Case(SIMPLE)
    assert download.after == (Case(COMPLEX),)
    assert poll.trace == found("poll", SIMPLE).trace
    assert one.times_broken == 6


def test_each_finding_is_written_with_the_fit_of_its_shard(tmp_path: Path) -> None:
    first = shard(1, verdict(0, BROKEN, found("poll", SIMPLE)), fit=Fit(0.25))
    second = shard(2, verdict(0, BROKEN, found("submit", COMPLEX)), fit=Fit(0.5))
    union = joined(tmp_path, first, second)
    write_report(union.result, tmp_path / "out")
    write_fits(union, tmp_path / "out")
    folder = tmp_path / "out" / "findings"
    replays = [read_finding(folder / f"{name}.scenario.json") for name in (RULES[0].id, f"{RULES[0].id}-2")]
    assert [(one.fit.share, one.patience, one.seed) for one in replays] == [(0.25, 7.0, 7), (0.5, 7.0, 7)]
    assert not (folder / f"{RULES[0].id}-3.scenario.json").exists()


def test_a_fault_is_met_if_one_shard_met_it_and_untried_if_none_tried_it(tmp_path: Path) -> None:
    parts = [
        shard(1, verdict(0, PASSED), coverage=Coverage(1, 3, ("b", "c"), (), ("a",))),
        shard(2, verdict(0, PASSED), coverage=Coverage(1, 4, (), ("a", "c", "d"), ("b",))),
    ]
    assert joined(tmp_path, *parts).result.coverage == Coverage(2, 4, ("c",), ("d",), ("a", "b"))


def test_an_interruption_an_error_and_a_required_rule_of_a_shard_are_those_of_the_whole(tmp_path: Path) -> None:
    error = InternalError("judging", "KeyError: 'x'", "Traceback ...")
    first = shard(1, verdict(0, NOT_OBSERVED), required=frozenset({RULES[0].id}), notes=("a", "b"))
    second = shard(2, verdict(0, NOT_OBSERVED), required=frozenset({RULES[0].id}), notes=("b",))
    assert first.exit_status == 0, "another shard may observe the rule"
    whole = joined(tmp_path, first, second).result
    assert (whole.exit_status, whole.notes) == (4, ("a", "b"))
    failed = joined(tmp_path, first, replace(second, errors=(error,))).result
    assert (failed.exit_status, [one.traceback for one in failed.errors]) == (
        3,
        ["judging: KeyError: 'x'\nTraceback ..."],
    )
    assert joined(tmp_path, first, replace(second, interrupted=True)).result.exit_status == 130
    assert joined(tmp_path, first, replace(second, unfit="no video")).result.unfit == "no video"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"shard": Shard(1, 2)}, r"are both shard 1/2"),
        ({"shard": Shard(2, 3)}, r"is shard 2/3, .* is shard 1/2"),
        ({"shard": None}, r"is not the report of a shard"),
        ({"seed": 8}, r"the seed is 8, that of .* is 7"),
        ({"client": "another"}, r"the client is 'another', that of .* is 'a client'"),
        ({"verdicts": ()}, r"has other rules than"),
    ],
)
def test_reports_that_do_not_belong_together_are_refused(changes: dict[str, Any], why: str, tmp_path: Path) -> None:
    first = shard(1, verdict(0, PASSED))
    with pytest.raises(ReportError, match=why):
        joined(tmp_path, first, replace(shard(2, verdict(0, PASSED)), **changes))


def test_a_missing_shard_is_refused(tmp_path: Path) -> None:
    parts = [shard(number, verdict(0, PASSED), of=3) for number in (1, 3)]
    with pytest.raises(ReportError, match="the report of shard 2/3 is missing"):
        joined(tmp_path, *parts)


def _without_trace(folder: Path) -> None:
    (folder / "findings" / f"{RULES[0].id}.trace.json").unlink()


def _with_another_trace(folder: Path) -> None:
    (folder / "findings" / f"{RULES[0].id}.trace.json").write_text("{}")


def _changed(**fields: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        report = json.loads((folder / "report.json").read_text())
        (folder / "report.json").write_text(json.dumps(report | fields))

    return change


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (_without_trace, "trace.json cannot be read: No such file"),
        (_with_another_trace, "is not a trace: 'format' is None"),
        (_changed(format=2), "'format' is 2; allowed: 1"),
        (_changed(summary={"shard": {}}), "'deviations' is missing"),
        (_changed(rules=[{"id": "XXX-01"}]), "unknown rule 'XXX-01'"),
        (_changed(rules=[7]), "is not the report of a client"),
        (
            _changed(rules=[{"id": RULES[0].id, "verdict": "fine", "findings": []}]),
            "is 'fine'; allowed: broken, passed",
        ),
    ],
)
def test_a_damaged_report_is_refused(damage: Callable[[Path], None], why: str, tmp_path: Path) -> None:
    write_report(shard(1, verdict(0, BROKEN, found("poll", SIMPLE))), tmp_path)
    damage(tmp_path)
    with pytest.raises(ReportError, match=why):
        read_shard_report(tmp_path)
