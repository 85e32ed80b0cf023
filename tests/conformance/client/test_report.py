"""What the suite found, as files: JSON, JUnit, a page, scenarios to replay, and a baseline."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hobbyhorse.conformance.client.cases import KILLED, Case
from hobbyhorse.conformance.client.html_report import MOST_EVENTS, page, picture, write_page
from hobbyhorse.conformance.client.judge import BROKEN, NOT_APPLICABLE, NOT_OBSERVED, PASSED, Finding, Verdict
from hobbyhorse.conformance.client.report import (
    ReportError,
    drill_of,
    judged,
    junit,
    read_baseline,
    read_finding,
    report_json,
    write_report,
)
from hobbyhorse.conformance.client.results import Coverage, Result
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.trace import Trace, read_trace
from tests.tracing import Teller

SCENARIO = {"moves": {"submit": [{"move": "accept_then_drop"}]}}
NASTY = '<script>alert("x")</script> & \x00\x1b ü'


def told(contract: Contract) -> Trace:
    trace = Teller(contract, {"n": 1}).nothing("submit").wait(1).submit().end("failed", message=NASTY).trace()
    return replace(trace, scenario=SCENARIO, drill=KILLED, point=2)


def result(contract: Contract) -> Result:
    words = [BROKEN, PASSED, NOT_OBSERVED, NOT_APPLICABLE]
    verdicts = []
    for number, rule in enumerate(rules()):
        word = words[min(number, 3)]
        found = (Finding(rule.id, (NASTY, "twice"), told(contract)),) if word == BROKEN else ()
        verdicts.append(Verdict(rule, word, 3, len(found), found))
    coverage = Coverage(1, 4, ("a: <b>", "c: d"), ("e: <f>",))
    return Result(contract.key, contract.models[0].id, NASTY, 7, tuple(verdicts), coverage, 12, 3.0)


def test_the_report_names_each_rule_with_its_verdict_and_findings(contract: Contract) -> None:
    said = json.loads(json.dumps(report_json(result(contract))))
    assert [rule["id"] for rule in said["rules"]] == [rule.id for rule in rules()]
    assert {rule["verdict"] for rule in said["rules"]} == {"passed", "broken", "not-observed", "not-applicable"}
    finding = said["rules"][0]["findings"][0]
    assert finding["scenario"] == SCENARIO
    assert finding["drill"] == KILLED
    assert finding["message"].endswith("twice")
    assert said["summary"]["runs"] == 12
    assert said["summary"]["runs_per_second"] == 4.0
    assert said["summary"]["deviations"] == {
        "met": 1,
        "total": 4,
        "unmet": ["a: <b>", "c: d"],
        "untried": ["e: <f>"],
    }
    assert said["summary"]["clean"] is False


def test_the_report_is_written_and_each_finding_can_be_replayed(contract: Contract, tmp_path: Path) -> None:
    (tmp_path / "findings").mkdir()
    (tmp_path / "findings" / "OLD-01.scenario.json").write_text("{}")
    write_report(result(contract), tmp_path)
    write_page(result(contract), contract, tmp_path)
    first = rules()[0].id
    assert sorted(path.name for path in (tmp_path / "findings").iterdir()) == [
        f"{first}.scenario.json",
        f"{first}.trace.json",
    ]
    found = read_finding(tmp_path / "findings" / f"{first}.scenario.json")
    assert (found.rule, found.provider, found.seed) == (first, contract.key, 7)
    assert found.drill == Case(SCENARIO, KILLED, 2)
    trace = read_trace(json.loads((tmp_path / "findings" / f"{first}.trace.json").read_text()))
    assert trace == told(contract)
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(report_json(result(contract))))


def test_junit_counts_what_is_broken_and_what_was_not_seen(contract: Contract) -> None:
    found = replace(result(contract), stale=("SUB-02",))
    suite = ElementTree.fromstring(junit(found)).find("testsuite")
    assert suite is not None
    assert suite.get("tests") == str(len(rules()) + 1)
    assert suite.get("failures") == "2"
    assert len(suite.findall("testcase/failure")) == 2
    assert len(suite.findall("testcase/skipped")) == len(rules()) - 2 == int(suite.get("skipped") or 0)


def test_what_is_accepted_is_no_failure(contract: Contract) -> None:
    found = replace(result(contract), accepted={rules()[0].id: "known"})
    assert found.clean
    suite = ElementTree.fromstring(junit(found)).find("testsuite")
    assert suite is not None
    assert suite.get("failures") == "0"
    assert report_json(found)["rules"][0]["accepted"] == "known"


def test_the_page_needs_nothing_else_and_escapes_everything(contract: Contract) -> None:
    text = page(result(contract), contract)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "http-equiv" not in text
    for outside in ('src="', "url(", "@import", "<link"):
        assert outside not in text
    assert f'id="{rules()[0].id}"' in text
    assert "accept_then_drop" in text


def test_a_picture_of_very_much_shows_both_ends(contract: Contract) -> None:
    teller = Teller(contract).submit()
    running = next(stage.name for stage in contract.graph if not stage.terminal)
    for _ in range(MOST_EVENTS * 3):
        teller.wait(1).status(running)
    drawn = picture(contract, teller.end("timeout").trace())
    assert drawn.count("<circle") == MOST_EVENTS
    assert f"{MOST_EVENTS * 2 + 3} more" in drawn
    assert "timeout" in drawn
    ElementTree.fromstring(drawn)


def test_a_picture_of_nothing_is_one(contract: Contract) -> None:
    ElementTree.fromstring(picture(contract, Trace(contract.key, "http://x")))


def test_traffic_is_judged_by_itself(contract: Contract) -> None:
    said = judged(contract, told(contract))
    verdicts = {rule["id"]: rule["verdict"] for rule in said["rules"]}
    assert verdicts["PER-01"] == "not-observed"
    assert said["summary"]["requests"] == 2
    assert len(verdicts) == len(rules())


def test_a_drill_is_read_from_its_trace(contract: Contract) -> None:
    assert drill_of(told(contract)) == Case(SCENARIO, KILLED, 2)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "[]",
        "{}",
        '{"rule": "SUB-01"}',
        '{"rule": 1, "provider": "p", "model": "m", "scenario": []}',
        "[" * 9_000,
        '{"rule": "SUB-01", "provider": "p", "model": "m", "scenario": {}, "drill": "never"}',
    ],
)
def test_what_is_no_finding_is_told(said: str, tmp_path: Path) -> None:
    path = tmp_path / "finding.json"
    path.write_text(said)
    with pytest.raises(ReportError, match=r"finding\.json"):
        read_finding(path)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ('{"XXX-01": "why"}', "XXX-01"),
        ('{"SUB-01": ""}', "no reason"),
        ("[]", "no JSON object"),
        ("{", "cannot be read"),
    ],
)
def test_what_is_no_baseline_is_told(said: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(said)
    with pytest.raises(ReportError, match=why):
        read_baseline(path, ["SUB-01"])


def test_a_baseline_is_read(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    path.write_text('{"SUB-01": "the gateway does it"}')
    assert read_baseline(path, ["SUB-01"]) == {"SUB-01": "the gateway does it"}


def test_a_name_that_is_no_unicode_is_written_everywhere(contract: Contract, tmp_path: Path) -> None:
    named = replace(result(contract), client="caf\udce9 client")
    write_report(named, tmp_path)
    write_page(named, contract, tmp_path)
    said = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert said["summary"]["client"] == "caf? client"
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()[0]
    assert suite.get("name", "").endswith("caf? client")
    assert "caf? client" in (tmp_path / "index.html").read_text(encoding="utf-8")
