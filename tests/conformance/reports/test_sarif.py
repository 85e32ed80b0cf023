"""Verdicts as SARIF: valid by the format's schema, with a place and a severity for each finding."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema

from hobbyhorse.conformance.judge import BROKEN, NOT_OBSERVED, PASSED, Verdict
from hobbyhorse.conformance.reports.sarif import SarifFinding, SarifRun, sarif
from hobbyhorse.conformance.rule import MONEY, OTHER, Evidence, Rule, rule
from hobbyhorse.traces.annotated import AnnotatedTrace
from tests.conftest import ROOT

SCHEMA = json.loads((ROOT / "tests" / "schemas" / "sarif-2.1.0.json").read_text())


def ruled(id: str, level: str = "MUST", severity: str = "S1", *, harm: str = OTHER, fix: str = "") -> Rule:
    says, because = f"Do {id}.", "It was not done."

    @rule(id, f"name-of-{id}", level=level, severity=severity, says=says, because=because, harm=harm, fix=fix)
    def check(trace: AnnotatedTrace) -> Evidence:
        yield from ()

    return check


GRAVE, LIGHT = ruled("AAA-01", harm=MONEY, fix="Do it once."), ruled("AAA-02", "SHOULD", "S4")
SEEN, UNSEEN = ruled("AAA-03"), ruled("BBB-01")
VERDICTS = (Verdict(GRAVE, BROKEN), Verdict(LIGHT, BROKEN), Verdict(SEEN, PASSED), Verdict(UNSEEN, NOT_OBSERVED))
FINDINGS = (
    SarifFinding(rule=LIGHT, name="AAA-02", message="light", file="trace.json", places=["openapi.json#/a"]),
    SarifFinding(
        rule=GRAVE, name="AAA-01/poll", message="grave", file="findings/AAA-01.scenario.json", accepted="known"
    ),
)
RUN = SarifRun(name="acme/a client", status=1, headline="2 rules broken")


def validated(log: dict[str, Any]) -> dict[str, Any]:
    """Return the only run of a log, which must be valid."""
    jsonschema.Draft4Validator(SCHEMA).validate(json.loads(json.dumps(log)))
    (run,) = log["runs"]
    assert isinstance(run, dict)
    return run


def test_the_schema_refuses_a_log_that_is_wrong() -> None:
    log = sarif(RUN, VERDICTS, FINDINGS)
    log["runs"][0]["results"][0]["level"] = "severe"
    assert not jsonschema.Draft4Validator(SCHEMA).is_valid(log)


def test_each_rule_has_its_sentence_level_and_severity() -> None:
    run = validated(sarif(RUN, VERDICTS, FINDINGS))
    assert (run["tool"]["driver"]["name"], run["automationDetails"]["id"]) == (
        "hobbyhorse",
        "hobbyhorse/acme/a client/",
    )
    found = run["tool"]["driver"]["rules"]
    assert [one["id"] for one in found] == ["AAA-01", "AAA-02", "AAA-03", "BBB-01"]
    assert [one["defaultConfiguration"]["level"] for one in found] == ["error", "warning", "error", "error"]
    assert [one["properties"]["problem.severity"] for one in found] == ["error", "warning", "error", "error"]
    assert [one["properties"]["security-severity"] for one in found] == ["9.1", "1.0", "9.1", "9.1"]
    assert found[0]["shortDescription"]["text"] == "Do AAA-01."
    assert found[0]["properties"]["severity"] == "S1: money or security"


def test_the_fix_is_the_help_and_the_harm_a_tag() -> None:
    run = validated(sarif(RUN, VERDICTS, FINDINGS))
    grave, light = run["tool"]["driver"]["rules"][:2]
    assert [one["help"]["text"] for one in (grave, light)] == ["Do it once.", "It was not done."]
    assert grave["properties"]["tags"] == ["security", "money", "AAA", "MUST"]
    assert light["properties"]["tags"] == ["other", "AAA", "SHOULD"]
    assert run["properties"] == {"headline": "2 rules broken"}


def test_a_result_is_at_its_file_relative_to_the_report() -> None:
    light, grave = validated(sarif(RUN, VERDICTS, FINDINGS))["results"]
    assert (light["ruleId"], light["ruleIndex"], light["level"]) == ("AAA-02", 1, "warning")
    assert (grave["ruleId"], grave["ruleIndex"], grave["level"]) == ("AAA-01", 0, "error")
    place = grave["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place == {"uri": "findings/AAA-01.scenario.json", "uriBaseId": "REPORT"}
    assert light["locations"][0]["logicalLocations"] == [{"fullyQualifiedName": "openapi.json#/a"}]
    assert grave["suppressions"] == [{"kind": "external", "justification": "known"}]
    assert "suppressions" not in light
    assert grave["partialFingerprints"] != light["partialFingerprints"]


def test_a_fingerprint_does_not_depend_on_the_message() -> None:
    first, second = (
        sarif(RUN, VERDICTS, [SarifFinding(rule=GRAVE, name="AAA-01", message=text, file="x")])
        for text in ("1 s", "2 s")
    )
    prints = [log["runs"][0]["results"][0]["partialFingerprints"] for log in (first, second)]
    assert prints[0] == prints[1]


def test_missing_evidence_stale_entries_and_an_interruption_are_notifications() -> None:
    run = replace(RUN, status=130, error="the suite was interrupted", stale=["AAA-03"])
    (invocation,) = validated(sarif(run, VERDICTS, ()))["invocations"]
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (False, 130)
    assert [one["message"]["text"] for one in invocation["toolExecutionNotifications"]] == [
        "the suite was interrupted",
        "not observed, so neither passed nor broken: BBB-01",
    ]
    (stale,) = invocation["toolConfigurationNotifications"]
    assert stale["message"]["text"].startswith("AAA-03 is stale")


def test_a_run_without_findings_and_gaps_has_no_notification() -> None:
    run = validated(sarif(SarifRun(name="acme/x", status=0, headline="no finding"), [Verdict(SEEN, PASSED)], ()))
    assert run["results"] == []
    assert run["invocations"][0]["toolExecutionNotifications"] == []
