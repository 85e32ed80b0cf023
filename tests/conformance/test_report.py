"""The reports of both suites: verdicts as JSON and JUnit, and the baseline of accepted findings."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import xmlschema

from hobbyhorse.conformance.judge import (
    BROKEN,
    LESSON,
    NOT_APPLICABLE,
    NOT_OBSERVED,
    PASSED,
    Finding,
    Lesson,
    Verdict,
)
from hobbyhorse.conformance.report import (
    JUnitSuite,
    ReportError,
    counted,
    dump,
    junit,
    printable,
    read_baseline,
    read_object,
    verdict_json,
)
from hobbyhorse.conformance.rule import Breach, Evidence, Rule, rule
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Trace
from tests.conftest import ROOT

NASTY = '<b>&\x00 "x"'


def ruled(id: str) -> Rule:
    @rule(id, f"name-of-{id}", level="MUST", severity="S2", says="Do <it>.", because="It was not done.")
    def check(trace: AnnotatedTrace) -> Evidence:
        yield from ()

    return check


def found(id: str) -> Finding:
    return Finding(id, (Breach(NASTY), Breach("twice")), Trace("p", "http://x"))


VERDICTS = (
    Verdict(ruled("AAA-01"), BROKEN, 3, 1, (found("AAA-01"),)),
    Verdict(ruled("AAA-02"), PASSED, 3),
    Verdict(ruled("BBB-01"), NOT_OBSERVED),
    Verdict(ruled("BBB-02"), NOT_APPLICABLE),
    Verdict(ruled("BBB-03"), LESSON, lessons=(Lesson("BBB-03", ("a#/b",), "assumed", "It was 7.", 7, ()),)),
)


def suite_of(written: bytes) -> ElementTree.Element:
    suite = ElementTree.fromstring(written).find("testsuite")
    assert suite is not None
    return suite


def test_a_verdict_is_written_with_its_rule_and_with_its_reason_if_it_is_accepted() -> None:
    fields = {
        "id": "AAA-01",
        "name": "name-of-AAA-01",
        "level": "MUST",
        "severity": "S2",
        "statement": "Do <it>.",
        "harm": "other",
        "fix": "",
        "verdict": "broken",
    }
    assert verdict_json(VERDICTS[0]) == fields
    assert verdict_json(VERDICTS[0], "known") == {**fields, "accepted": "known"}


def test_verdicts_are_counted_by_name() -> None:
    assert list(counted(VERDICTS[:3]).items()) == [("broken", 1), ("not-observed", 1), ("passed", 1)]
    assert counted((VERDICTS[1], VERDICTS[1])) == {"passed": 2}


def test_junit_is_valid_by_its_schema() -> None:
    schema = xmlschema.XMLSchema(ROOT / "tests" / "schemas" / "junit.xsd")
    suite = JUnitSuite(name=NASTY, seconds=1.5, accepted=["AAA-02"], stale=["AAA-03"], error=NASTY)
    written = junit(suite, VERDICTS, lambda finding: NASTY).decode()
    schema.validate(written)
    assert not schema.is_valid(written.replace("<failure ", "<failed ").replace("</failure>", "</failed>"))


def test_junit_has_a_test_for_each_rule_and_missing_evidence_is_skipped() -> None:
    suite = suite_of(junit(JUnitSuite(name=NASTY, seconds=1.5, families={"BBB": "bees"}), VERDICTS))
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped", "time")}
    assert counts == {"tests": "5", "failures": "1", "errors": "0", "skipped": "2", "time": "1.500"}
    assert [case.get("classname") for case in suite] == ["hobbyhorse.AAA"] * 2 + ["hobbyhorse.bees"] * 3
    assert [[child.tag for child in case] for case in suite] == [
        ["failure"],
        [],
        ["skipped"],
        ["skipped"],
        ["system-out"],
    ]
    words = '<b>&\N{REPLACEMENT CHARACTER} "x"; twice'
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert (failure.get("message"), failure.get("type"), failure.text) == (words, "AAA-01", f"Do <it>.\n{words}")
    assert suite.findtext("testcase/system-out") == "lesson: It was 7."


def test_junit_names_the_test_case_of_a_finding_if_there_are_test_cases() -> None:
    suite = suite_of(junit(JUnitSuite(name="x", seconds=0), VERDICTS, lambda finding: f"case of {finding.rule}"))
    assert (suite.findtext("testcase/failure") or "").splitlines()[:2] == ["Do <it>.", "case of AAA-01"]


def test_an_accepted_rule_does_not_fail_and_a_stale_entry_does() -> None:
    suite = suite_of(junit(JUnitSuite(name="x", seconds=0, accepted=["AAA-01"], stale=["AAA-02"]), VERDICTS))
    assert (suite.get("tests"), suite.get("failures")) == ("6", "1")
    assert [case.get("name") for case in suite if case.find("failure") is not None] == ["AAA-02"]


def test_a_run_that_could_not_be_judged_is_an_error() -> None:
    suite = suite_of(junit(JUnitSuite(name="x", seconds=0, error=NASTY), ()))
    assert (suite.get("tests"), suite.get("errors")) == ("1", "1")
    error = suite.find("testcase/error")
    assert error is not None
    assert error.get("message") == printable(NASTY)


def test_a_baseline_is_read(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    path.write_text('{"SUB-01": "the gateway does it"}')
    assert read_baseline(path, ["SUB-01"]) == {"SUB-01": "the gateway does it"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"XXX-01": "why"}', "XXX-01"),
        ('{"SUB-01": ""}', "no reason"),
        ('{"SUB-01": 1}', "no reason"),
        ("[]", "is not a JSON object"),
        ("{", "cannot be read"),
        ("[" * 9_000, "cannot be read"),
    ],
)
def test_a_file_that_is_not_a_baseline_is_refused(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(ReportError, match=why):
        read_baseline(path, ["SUB-01"])


def test_a_missing_file_is_refused_with_the_reason_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="No such file"):
        read_object(tmp_path / "missing.json")


def test_json_is_written_with_question_marks_for_lone_surrogates(tmp_path: Path) -> None:
    dump(tmp_path / "x.json", {"caf\udce9": {1}}, default=list)
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"caf?": [1]}


def test_a_byte_order_mark_before_a_baseline_is_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    path.write_bytes(b'\xef\xbb\xbf{"SUB-01": "we know"}')
    assert read_object(path) == {"SUB-01": "we know"}
