"""A result as files: JSON, JUnit, findings to replay, and a baseline."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hobbyhorse.conformance.client.cases import KILLED, Case, case_of
from hobbyhorse.conformance.client.report import (
    judged,
    junit,
    read_finding,
    replay_command,
    report_json,
    sarif,
    summary,
    write_report,
)
from hobbyhorse.conformance.client.results import Coverage, Result, with_baseline
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.client.shard import Shard
from hobbyhorse.conformance.impact import grouped
from hobbyhorse.conformance.judge import BROKEN, NOT_APPLICABLE, NOT_OBSERVED, PASSED, Finding, InternalError, Verdict
from hobbyhorse.conformance.report import ReportError
from hobbyhorse.conformance.rule import Breach
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.trace import Trace, read_trace
from tests.conformance.reports.test_sarif import validated
from tests.judging import named, teller
from tests.tracing import Teller

SCENARIO = {"moves": {"submit": [{"move": "accept_then_drop"}]}}
ORDER = {"input": {"prompt": 'a "horse", 駿馬', "seed": 0}}
NASTY = '<script>alert("x")</script> & \x00\x1b ü'


def recorded(contract: Contract) -> Trace:
    trace = Teller(contract, {"n": 1}).nothing("submit").wait(1).submit().end("failed", message=NASTY).trace()
    return replace(trace, scenario=SCENARIO, drill=KILLED, point=2, order=ORDER)


def result(contract: Contract) -> Result:
    words = [BROKEN, PASSED, NOT_OBSERVED, NOT_APPLICABLE]
    verdicts = []
    for number, rule in enumerate(rules()):
        word = words[min(number, 3)]
        found = (Finding(rule.id, (Breach(NASTY), Breach("twice")), recorded(contract)),) if word == BROKEN else ()
        verdicts.append(Verdict(rule, word, 3, len(found), found))
    coverage = Coverage(1, 4, ("a: <b>", "c: d"), ("e: <f>",))
    return Result(contract.key, contract.models[0].id, NASTY, 7, tuple(verdicts), coverage, 12, 3.0)


def test_the_report_names_each_rule_with_its_verdict_and_findings(contract: Contract) -> None:
    report = json.loads(json.dumps(report_json(result(contract))))
    assert [rule["id"] for rule in report["rules"]] == [rule.id for rule in rules()]
    assert {rule["verdict"] for rule in report["rules"]} == {"passed", "broken", "not-observed", "not-applicable"}
    finding = report["rules"][0]["findings"][0]
    assert finding["scenario"] == SCENARIO
    assert finding["drill"] == KILLED
    assert finding["message"].endswith("twice")
    assert report["summary"]["runs"] == 12
    assert report["summary"]["runs_per_second"] == 4.0
    assert report["summary"]["deviations"] == {
        "met": 1,
        "total": 4,
        "unmet": ["a: <b>", "c: d"],
        "untried": ["e: <f>"],
    }
    assert report["summary"]["clean"] is False


def test_the_report_is_written_and_each_finding_can_be_replayed(contract: Contract, tmp_path: Path) -> None:
    (tmp_path / "findings").mkdir()
    (tmp_path / "findings" / "OLD-01.scenario.json").write_text("{}")
    write_report(result(contract), tmp_path)
    first = rules()[0].id
    assert sorted(path.name for path in (tmp_path / "findings").iterdir()) == [
        f"{first}.scenario.json",
        f"{first}.trace.json",
    ]
    found = read_finding(tmp_path / "findings" / f"{first}.scenario.json")
    assert (found.rule, found.provider, found.seed) == (first, contract.key, 7)
    assert found.case == Case(SCENARIO, KILLED, 2, ORDER)
    trace = read_trace(json.loads((tmp_path / "findings" / f"{first}.trace.json").read_text()))
    assert trace == recorded(contract)
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(
        json.dumps(report_json(result(contract), folder=tmp_path))
    )


def test_junit_counts_broken_rules_as_failures_and_unobserved_rules_as_skipped(contract: Contract) -> None:
    found = replace(result(contract), stale=("SUB-02",))
    suite = ElementTree.fromstring(junit(found)).find("testsuite")
    assert suite is not None
    assert suite.get("tests") == str(len(rules()) + 1)
    assert suite.get("failures") == "2"
    assert len(suite.findall("testcase/failure")) == 2
    assert len(suite.findall("testcase/skipped")) == len(rules()) - 2 == int(suite.get("skipped") or 0)


def test_an_accepted_finding_is_not_a_failure(contract: Contract) -> None:
    found = replace(result(contract), accepted={rules()[0].id: "known"})
    assert found.clean
    suite = ElementTree.fromstring(junit(found)).find("testsuite")
    assert suite is not None
    assert suite.get("failures") == "0"
    assert report_json(found)["rules"][0]["accepted"] == "known"


def test_traffic_is_judged_by_itself(contract: Contract) -> None:
    report = judged(contract, recorded(contract))
    verdicts = {rule["id"]: rule["verdict"] for rule in report["rules"]}
    assert verdicts["PER-01"] == "not-observed"
    assert report["summary"]["requests"] == 2
    assert len(verdicts) == len(rules())


def test_a_case_is_read_from_its_trace(contract: Contract) -> None:
    assert case_of(recorded(contract)) == Case(SCENARIO, KILLED, 2, ORDER)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"rule": "SUB-01"}',
        '{"rule": 1, "provider": "p", "model": "m", "scenario": []}',
        "[" * 9_000,
        '{"rule": "SUB-01", "provider": "p", "model": "m", "scenario": {}, "drill": "never"}',
        '{"rule": "SUB-01", "provider": "p", "model": "m", "scenario": {}, "order": [1]}',
    ],
)
def test_a_file_that_is_not_a_finding_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "finding.json"
    path.write_text(text)
    with pytest.raises(ReportError, match=r"finding\.json"):
        read_finding(path)


def test_a_lone_surrogate_in_a_name_is_written_as_a_question_mark(contract: Contract, tmp_path: Path) -> None:
    named = replace(result(contract), client="caf\udce9 client")
    write_report(named, tmp_path)
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["summary"]["client"] == "caf? client"
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()[0]
    assert suite.get("name", "").endswith("caf? client")


def several(contract: Contract) -> Result:
    """Return a result whose rule has three findings: plain, after other runs, and one that did not recur."""
    rule, trace = rules()[0], recorded(contract)
    plain = Finding(rule.id, (Breach("first"),), trace, "download")
    needing = Finding(rule.id, (Breach("second"),), trace, "poll", after=(Case(SCENARIO), Case({}, "twice")))
    lost = Finding(rule.id, (Breach("third"),), trace, "submit", recurs=False)
    verdicts = (Verdict(rule, BROKEN, 3, 3, (plain, needing, lost)), *result(contract).verdicts[1:])
    return replace(result(contract), verdicts=verdicts)


def test_each_finding_of_a_rule_has_its_own_files_and_says_when_it_occurs(contract: Contract, tmp_path: Path) -> None:
    found, first = several(contract), rules()[0].id
    write_report(found, tmp_path)
    names = [first, f"{first}-2", f"{first}-3"]
    assert sorted(path.name for path in (tmp_path / "findings").glob("*.scenario.json")) == sorted(
        f"{name}.scenario.json" for name in names
    )
    assert all((tmp_path / "findings" / f"{name}.trace.json").is_file() for name in names)
    in_report = json.loads((tmp_path / "report.json").read_text())["rules"][0]["findings"]
    assert [one["during"] for one in in_report] == ["download", "poll", "submit"]
    assert [len(one.get("after", [])) for one in in_report] == [0, 2, 0]
    assert [one.get("recurs", True) for one in in_report] == [True, True, False]
    replays = [read_finding(tmp_path / "findings" / f"{name}.scenario.json") for name in names]
    assert [one.after for one in replays] == [(), (Case(SCENARIO), Case({}, "twice")), ()]


def test_junit_has_one_test_for_the_rule_and_names_the_runs_before_a_finding(contract: Contract) -> None:
    suite = ElementTree.fromstring(junit(several(contract))).find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == (str(len(rules())), "1")
    texts = [failure.text or "" for failure in suite.findall("testcase/failure")]
    assert len(texts) == 3
    assert "only after 2 other runs of the same process: the client keeps state" in texts[1]
    assert "after: twice" in texts[1]
    assert "did not recur in a fresh process" in texts[2]
    assert "process" not in texts[0]


def test_the_findings_of_a_rule_are_accepted_one_by_one(contract: Contract) -> None:
    first = rules()[0].id
    names = [f"{first}/{operation}" for operation in ("download", "poll", "submit")]
    part = with_baseline(several(contract), {names[0]: "known"})
    assert (part.clean, [one.rule.id for one in part.broken]) == (False, [first])
    assert report_json(part)["rules"][0]["findings"][0]["accepted"] == "known"
    suite = ElementTree.fromstring(junit(part)).find("testsuite")
    assert suite is not None
    assert len(suite.findall("testcase/failure")) == 2
    assert with_baseline(several(contract), dict.fromkeys(names, "known")).clean
    assert with_baseline(several(contract), {first: "known"}).clean
    stale = with_baseline(several(contract), {first: "known", f"{first}/result": "gone", rules()[1].id: "gone"})
    assert (stale.stale, stale.status()) == (tuple(sorted([f"{first}/result", rules()[1].id])), 1)


def test_the_reason_of_a_rule_without_evidence_is_in_the_report_and_in_junit(contract: Contract) -> None:
    unseen = Verdict(rules()[0], NOT_OBSERVED, why="raise --runs")
    found = replace(result(contract), verdicts=(unseen,))
    assert report_json(found)["rules"][0]["why"] == "raise --runs"
    suite = ElementTree.fromstring(junit(found)).find("testsuite")
    assert suite is not None
    skipped = suite.find("testcase/skipped")
    assert skipped is not None
    assert (skipped.get("message"), skipped.text) == ("not-observed", "raise --runs")


@pytest.mark.parametrize("after", ["x", [{}], [{"scenario": {}, "drill": "never"}], 7])
def test_unreadable_runs_before_a_finding_are_refused(after: object, tmp_path: Path) -> None:
    path = tmp_path / "finding.json"
    path.write_text(json.dumps({"rule": "SUB-01", "provider": "p", "model": "m", "scenario": {}, "after": after}))
    with pytest.raises(ReportError, match=r"finding\.json"):
        read_finding(path)


def test_an_error_of_an_earlier_report_is_removed(contract: Contract, tmp_path: Path) -> None:
    failed = replace(result(contract), errors=(InternalError("judging", "KeyError: 'x'", "Traceback ..."),))
    write_report(failed, tmp_path)
    assert "Traceback" in (tmp_path / "internal-error.txt").read_text()
    write_report(result(contract), tmp_path)
    assert not (tmp_path / "internal-error.txt").exists()


def test_each_finding_is_a_result_at_its_scenario(contract: Contract, tmp_path: Path) -> None:
    found, first = several(contract), rules()[0].id
    write_report(replace(found, accepted={f"{first}/poll": "known"}), tmp_path)
    run = validated(json.loads((tmp_path / "report.sarif").read_text()))
    files = [one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in run["results"]]
    assert files == [f"findings/{name}.scenario.json" for name in (first, f"{first}-2", f"{first}-3")]
    assert all((tmp_path / file).is_file() for file in files)
    assert [len(one.get("suppressions", ())) for one in run["results"]] == [0, 1, 0]
    assert len({one["partialFingerprints"]["finding/v1"] for one in run["results"]}) == 3
    assert "only after 2 other runs" in run["results"][1]["message"]["text"]
    assert run["invocations"][0]["exitCode"] == 1
    interrupted = validated(sarif(replace(found, interrupted=True)))["invocations"][0]
    assert (interrupted["executionSuccessful"], interrupted["exitCode"]) == (False, 130)


def test_the_summary_names_the_findings_and_how_to_replay_the_first_one(contract: Contract, tmp_path: Path) -> None:
    found, first = replace(several(contract), options=("--python", "a.py:b"), notes=("a note",)), rules()[0].id
    write_report(found, tmp_path)
    page = (tmp_path / "summary.md").read_text()
    assert page.startswith("## hobbyhorse: 1 rule broken: 1 money\n")
    assert page.count(f"| {first} ") == 3
    command = f"hobbyhorse conformance replay {tmp_path}/findings/{first}.scenario.json --python a.py:b"
    assert page.endswith(f"\n```console\n{command}\n```\n")
    assert "* a note\n" in page
    assert "12 runs, seed 7" in page
    accepted = summary(replace(found, accepted={first: "known"}, stale=("SUB-02",)), tmp_path)
    assert accepted.startswith("## hobbyhorse: no finding, 1 stale in the baseline\n")
    assert f"* {first} is accepted: known\n" in accepted
    assert "replay" not in accepted
    stopped = summary(replace(found, interrupted=True, shard=Shard(2, 4)), tmp_path)
    assert stopped.startswith("## hobbyhorse: 1 rule broken: 1 money; the suite was interrupted\n")
    assert "seed 7, shard 2/4." in stopped


def test_a_finding_has_the_command_that_replays_it_and_with_the_contract_its_cost(contract: Contract) -> None:
    told = teller(contract).nothing("submit", made="one").submit(job="two").end("success")
    trace = told.made(job="one").made(job="two").trace()
    rule = named(rules(), "SUB-01")
    broken = Verdict(rule, BROKEN, 1, 1, (Finding(rule.id, (Breach("twice"),), trace),))
    found = replace(result(contract), verdicts=(broken,), options=("--", "node", "my client.mjs"))
    (written,) = report_json(found, contract, folder=Path("out"))["rules"]
    assert (written["harm"], written["fix"]) == ("money", rule.fix)
    assert written["example"]["function"] == "submit"
    (finding,) = written["findings"]
    file = "out/findings/SUB-01.scenario.json"
    assert finding["replay"] == f"hobbyhorse conformance replay {file} -- node 'my client.mjs'"
    assert (finding["cost"]["jobs"], finding["cost"]["clicks"]) == (2, 1)
    head = report_json(found, contract)["summary"]["headline"]
    assert head.startswith("2 jobs for 1 click: ")
    assert sarif(found, [contract])["runs"][0]["properties"]["headline"] == head
    page = summary(found, Path("out"), [contract])
    assert page.startswith(f"## hobbyhorse: {head}\n")
    assert "| Money, MUST: 2 jobs for 1 click: " in page
    assert page.endswith(f"\n{finding['replay']}\n```\n")
    plain = report_json(found)
    assert "headline" not in plain["summary"]
    assert "cost" not in plain["rules"][0]["findings"][0]


def test_the_summary_begins_with_the_finding_that_costs_most(contract: Contract, tmp_path: Path) -> None:
    told = Teller(contract).submit().end("failed").trace()
    ids = ("RES-08", "POL-01", "SUB-01")
    broken = [Verdict(named(rules(), id), BROKEN, 1, 1, (Finding(id, (Breach("wrong"),), told),)) for id in ids]
    page = summary(replace(result(contract), verdicts=tuple(broken)), tmp_path, [contract])
    rows = [line.split()[1] for line in page.splitlines() if line.startswith("| ") and not line.startswith("| rule")]
    assert rows[0] == "SUB-01"
    assert rows == [one.rule.id for group in grouped(broken) for one in group.verdicts]
    assert "findings/SUB-01.scenario.json" in page.splitlines()[-2]


def test_a_command_without_a_known_client_has_a_place_for_it(contract: Contract) -> None:
    assert replay_command(result(contract), "SUB-01") == (
        "hobbyhorse conformance replay findings/SUB-01.scenario.json -- COMMAND"
    )
