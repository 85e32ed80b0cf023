"""Verdicts as SARIF 2.1.0, the format of code scanning services. Knows no suite.

Only a finding is a result: such services show every result as a problem, whatever its `kind` is. Rules without evidence
are named in a notification, so that a file without results does not read as a pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from hobbyhorse.conformance.judge import NOT_OBSERVED, Verdict
from hobbyhorse.conformance.rule import MUST, SEVERITIES, Rule

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
# The base of every location: a report can be moved, so its own path is not part of it.
BASE = "REPORT"
# The scores that code scanning shows as critical, high, medium and low.
SCORES = {"S1": "9.1", "S2": "7.0", "S3": "4.0", "S4": "1.0"}
# Characters of a fingerprint: enough to tell the findings of a report apart.
FINGERPRINT_CHARACTERS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class SarifFinding:
    """A finding as a result: its message, its file in the report's folder, and the reason if it is accepted.

    `name` identifies the finding in every report on the same client or server. `places` are parts of the contract.
    """

    rule: Rule
    name: str
    message: str
    file: str
    places: Sequence[str] = ()
    accepted: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SarifRun:
    """The facts about a run beside its findings.

    `name` is the tested client or server, `headline` the first line of the report. `error` says why not everything
    could be judged; `stale` are entries of the baseline that were not found any more.
    """

    name: str
    status: int
    headline: str
    error: str | None = None
    stale: Sequence[str] = ()


def sarif(run: SarifRun, verdicts: Sequence[Verdict], findings: Iterable[SarifFinding]) -> dict[str, Any]:
    """Return a SARIF log with one run: a rule for each verdict, and a result for each finding."""
    numbers = {one.rule.id: number for number, one in enumerate(verdicts)}
    driver = {
        "name": "hobbyhorse",
        "version": version("hobbyhorse"),
        "rules": [_rule(one.rule) for one in verdicts],
    }
    invocation = {
        "executionSuccessful": run.error is None,
        "exitCode": run.status,
        "toolExecutionNotifications": list(_execution_notes(run, verdicts)),
        "toolConfigurationNotifications": [
            _note("error", f"{name} is stale: the baseline accepts it, but it was not found; remove the entry")
            for name in run.stale
        ],
    }
    log = {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"hobbyhorse/{run.name}/"},
        "invocations": [invocation],
        "originalUriBaseIds": {BASE: {"description": {"text": "The folder of the report."}}},
        "columnKind": "unicodeCodePoints",
        "properties": {"headline": run.headline},
        "results": [_result(one, numbers[one.rule.id]) for one in findings],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [log]}


def _rule(rule: Rule) -> dict[str, Any]:
    # Code scanning shows the score of a rule only if it has this tag.
    tags = [*(["security"] if rule.severity == "S1" else []), rule.harm, rule.family, rule.level]
    return {
        "id": rule.id,
        "name": "".join(word.capitalize() for word in rule.name.split("-")),
        "shortDescription": {"text": rule.says},
        "fullDescription": {"text": rule.because},
        "help": {"text": rule.fix or rule.because},
        "defaultConfiguration": {"level": _level(rule)},
        "properties": {
            "tags": list(dict.fromkeys(tags)),
            "severity": f"{rule.severity}: {SEVERITIES[rule.severity]}",
            "security-severity": SCORES[rule.severity],
            "problem.severity": "error" if rule.level == MUST else "warning",
        },
    }


def _level(rule: Rule) -> str:
    return "error" if rule.level == MUST else "warning"


def _result(found: SarifFinding, number: int) -> dict[str, Any]:
    location: dict[str, Any] = {
        # Code scanning shows only results with a line; the file as a whole is the finding.
        "physicalLocation": {
            "artifactLocation": {"uri": found.file, "uriBaseId": BASE},
            "region": {"startLine": 1},
        }
    }
    if found.places:
        location["logicalLocations"] = [{"fullyQualifiedName": place} for place in found.places]
    result: dict[str, Any] = {
        "ruleId": found.rule.id,
        "ruleIndex": number,
        "level": _level(found.rule),
        "message": {"text": found.message},
        "locations": [location],
        # Of the name alone: a message has ids and times that differ in every run.
        "partialFingerprints": {"finding/v1": _digest(found.name)},
    }
    if found.accepted is not None:
        result["suppressions"] = [{"kind": "external", "justification": found.accepted}]
    return result


def _execution_notes(run: SarifRun, verdicts: Sequence[Verdict]) -> Iterator[dict[str, Any]]:
    if run.error is not None:
        yield _note("error", run.error)
    unseen = [one.rule.id for one in verdicts if one.verdict == NOT_OBSERVED]
    if unseen:
        yield _note("note", f"not observed, so neither passed nor broken: {', '.join(unseen)}")


def _note(level: str, text: str) -> dict[str, Any]:
    return {"level": level, "message": {"text": text}}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:FINGERPRINT_CHARACTERS]
